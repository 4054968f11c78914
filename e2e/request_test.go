package e2e

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// h2cBackend is an application that takes every upgrade to HTTP/2, by whatever name, and tells whom it believes a request to be from.
// Traefik takes h2c off itself from 3.7.13 on, but no other name. Go's own h2c handler wants HTTP2-Settings named in Connection, and so
// is out of reach of Traefik's clients.
func h2cBackend(t *testing.T) string {
	handler := http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		fmt.Fprintf(rw, "%s %s as %q", req.Proto, req.URL.Path, req.Header.Get("X-User"))
	})
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		settings, _ := base64.RawURLEncoding.DecodeString(req.Header.Get("HTTP2-Settings"))
		if asked := req.Header.Get("Upgrade"); !strings.EqualFold(asked, "h2c") && asked != "HTTP/2.0" {
			handler(rw, req)
			return
		}
		conn, buffered, err := switched(rw, req)
		if err != nil {
			return
		}
		defer conn.Close()
		(&http2.Server{}).ServeConn(&buffering{conn, buffered.Reader}, &http2.ServeConnOpts{Handler: handler, UpgradeRequest: req, Settings: settings})
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// switched is the connection of a request whose upgrade was agreed to.
func switched(rw http.ResponseWriter, req *http.Request) (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(rw).Hijack()
	if err == nil {
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", req.Header.Get("Upgrade"))
	}
	return conn, buffered, err
}

// buffering is a connection of which some was read already.
type buffering struct {
	net.Conn
	reader io.Reader
}

func (b *buffering) Read(p []byte) (int, error) { return b.reader.Read(p) }

// speak sends one request, as it is written, to where an app is served, and returns the connection and the answer.
func speak(t *testing.T, app *app, lines ...string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(app.lab.traefik.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "%s\r\n\r\n", strings.Join(lines, "\r\n"))
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn, reader, resp
}

// tunnelled asks through a connection that has become HTTP/2 for /admin as admin, and returns what comes back.
func tunnelled(conn net.Conn, reader io.Reader) string {
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, reader)
	_ = framer.WriteSettings()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/admin"}, {":authority", "x"}, {"x-user", "admin"}} {
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	var seen bytes.Buffer
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return seen.String()
		}
		if data, isData := frame.(*http2.DataFrame); isData {
			seen.Write(data.Data())
			if data.StreamID == 3 && data.StreamEnded() {
				return seen.String()
			}
		}
	}
}

// TestRequestTunnel: nobody gets a connection of their own to the application, in which they could say who they are.
func TestRequestTunnel(t *testing.T) {
	t.Parallel()
	noTunnel(t, start(t), h2cBackend(t), "HTTP/2.0")
}

// noTunnel is TestRequestTunnel for a Traefik that lets an upgrade to protocol through, which the application takes.
func noTunnel(t *testing.T, l *lab, backend, protocol string) {
	t.Helper()
	options := with{"bypass": "Path(`/public`)", "forwardHeaders": with{"X-User": "name"}}
	guarded := l.serve(t, site{with: options, backend: backend})
	alice := guarded.visitor(t)
	alice.must(alice.SignIn(guarded.URL+"/", provider.Alice.Name, provider.Alice.Password))
	at, _ := url.Parse(guarded.URL)
	cookie := "Cookie: x=y"
	for _, c := range alice.Client().Jar.Cookies(at) {
		cookie += "; " + c.Name + "=" + c.Value
	}
	forwarding := l.serve(t, site{with: with{"unauthenticated": "forward", "forwardHeaders": with{"X-User": "name"}}, backend: backend})
	bare := l.serve(t, site{plain: true, backend: backend})
	for _, method := range []string{"GET", "OPTIONS"} {
		for _, row := range []struct {
			name, path, cookie string
			app                *app
		}{
			{"open to all", "/public", "X: y", guarded}, {"signed in", "/", cookie, guarded}, {"remembered", "/", cookie, guarded}, {"nobody", "/", "X: y", forwarding}, {"no middleware", "/", "X: y", bare},
		} {
			for _, headers := range []string{"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c", "Connection: upgrade,http2-settings\r\nUpgrade: H2C", "Connection: HTTP2-Settings\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c",
				"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nUpgrade: websocket", "Connection: Upgrade\r\nUpgrade: h2c", "Connection: Upgrade\r\nUpgrade: HTTP/2.0"} {
				conn, reader, resp := speak(t, row.app, method+" "+row.path+" HTTP/1.1", "Host: "+strings.TrimPrefix(row.app.URL, "http://"), row.cookie, headers, "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
				said := ""
				if resp.StatusCode == http.StatusSwitchingProtocols {
					said = tunnelled(conn, reader)
				} else {
					body, _ := io.ReadAll(resp.Body)
					said = string(body)
				}
				conn.Close()
				isTunnel := strings.Contains(said, `/admin as "admin"`)
				if row.app == bare && headers == "Connection: Upgrade\r\nUpgrade: "+protocol && !isTunnel {
					t.Errorf("the application takes no upgrade, so this shows nothing: %d %q", resp.StatusCode, said)
				}
				if strings.HasSuffix(said, "404 page not found\n") {
					continue // old Traefiks become HTTP/2 themselves, and route what follows
				}
				if row.app != bare && (isTunnel || resp.StatusCode != http.StatusOK || !strings.Contains(said, "HTTP/1.1 "+row.path)) {
					t.Errorf("%s: %s with %q: %d %q", row.name, method, headers, resp.StatusCode, said)
				}
			}
		}
	}
}

// TestRequestUpgradeOptions has the case of what a connection may change to besides websockets.
func TestRequestUpgradeOptions(t *testing.T) {
	t.Parallel()
	// An application that changes to whatever is asked for, and repeats what follows.
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Upgrade") == "" {
			fmt.Fprint(rw, "as it is")
			return
		}
		conn, buffered, err := switched(rw, req)
		if err != nil {
			return
		}
		defer conn.Close()
		line, _ := buffered.ReadString('\n')
		fmt.Fprint(conn, line)
	}))
	t.Cleanup(server.Close)
	becomes := func(protocol string) func(v *visitor) string {
		return func(v *visitor) string {
			conn, reader, resp := speak(t, v.app, "GET /public HTTP/1.1", "Host: "+strings.TrimPrefix(v.app.URL, "http://"), "Connection: Upgrade", "Upgrade: "+protocol)
			if resp.StatusCode != http.StatusSwitchingProtocols {
				return resp.Status
			}
			fmt.Fprint(conn, "hello\n")
			echo, _ := reader.ReadString('\n')
			return resp.Header.Get("Upgrade") + " " + strings.TrimSpace(echo)
		}
	}
	open := site{with: with{"bypass": "Path(`/public`)"}, backend: server.URL}
	try(t, "upgrades", open, becomes("spdy/3.1"), row{drop, "200 OK"}, row{"SPDY/3.1", "SPDY/3.1 hello"}, row{[]string{"tcp", "SPDY/3.1"}, "SPDY/3.1 hello"}, row{"tcp", "200 OK"})
	try(t, "upgrades", open, becomes("tcp"), row{drop, "200 OK"}, row{"SPDY/3.1, tcp", "tcp hello"})
	v := start(t).serve(t, open).visitor(t)
	for _, protocol := range []string{"websocket", "WebSocket"} {
		if got := becomes(protocol)(v); got != "websocket hello" {
			t.Errorf("%s: %s", protocol, got)
		}
	}
}

// TestRequestHeaderOptions has the case of headers that no application gets.
func TestRequestHeaderOptions(t *testing.T) {
	t.Parallel()
	told := func(v *visitor) string {
		var values []string
		for name, sent := range v.received(v.open("/public")).Header {
			if strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name)) == "x-http-method-override" {
				values = append(values, sent...)
			}
		}
		return strings.Join(values, " ")
	}
	override := func(v *visitor) string {
		v.Header = http.Header{"X-HTTP-Method-Override": {"DELETE"}, "X_http_method_override": {"DELETE"}, "X.Http.Method.Override": {"DELETE"}}
		return told(v)
	}
	signedIn := func(v *visitor) string {
		v.signIn("/", provider.Alice)
		return override(v) + told(v)
	}
	names := []string{"X-Original-URL", "X-HTTP-Method-Override"}
	try(t, "removeHeaders", site{with: with{"bypass": "Path(`/public`)"}}, override, row{drop, "DELETE DELETE DELETE"}, row{names, ""}, row{"x-http-method-override", ""})
	try(t, "removeHeaders", site{with: with{"unauthenticated": "forward"}}, override, row{drop, "DELETE DELETE DELETE"}, row{names, ""})
	try(t, "removeHeaders", site{}, signedIn, row{drop, "DELETE DELETE DELETEDELETE DELETE DELETE"}, row{names, ""})
}

// TestRequestClientIPOptions has the cases of whose address a rule is about, behind a proxy that Traefik trusts and one that it does not.
func TestRequestClientIPOptions(t *testing.T) {
	t.Parallel()
	l := start(t)
	behind := func(trusted string) *lab {
		traefik, err := l.newTraefik("traefik-behind-"+trusted[:3], parts.TraefikOptions{Static: map[string]any{"entryPoints": map[string]any{"web": map[string]any{
			"forwardedHeaders": map[string]any{"trustedIPs": []string{trusted}}}}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(traefik.Stop)
		return &lab{root: l.root, dir: l.dir, ca: l.ca, traefik: traefik, provider: l.provider, upstream: l.upstream}
	}
	covers(t, "ipStrategy.depth", "ipStrategy.excludedIPs")
	trusting, strict := behind("127.0.0.1/32"), behind("192.0.2.1/32")
	for _, row := range []struct {
		name, strategy string
		value          any
		lab            *lab
		sent           []string
		want           string
	}{
		{"no strategy", "", nil, trusting, []string{"10.1.2.3"}, "sign-in"},
		{"what the proxy saw", "depth", 1, trusting, []string{"10.1.2.3"}, "application"},
		{"as text", "depth", "1", trusting, []string{"10.1.2.3"}, "application"},
		{"a client that made one up", "depth", 1, trusting, []string{"10.1.2.3, 192.0.2.7"}, "sign-in"},
		{"and a proxy that adds a line", "depth", 1, trusting, []string{"10.1.2.3", "192.0.2.7"}, "sign-in"},
		{"two proxies", "depth", 2, trusting, []string{"10.1.2.3, 192.0.2.7"}, "application"},
		{"too few", "depth", 2, trusting, []string{"10.1.2.3"}, "sign-in"},
		{"nobody trusted", "depth", 1, strict, []string{"10.1.2.3"}, "sign-in"},
		{"proxies passed over", "excludedIPs", []string{"192.0.2.0/24"}, trusting, []string{"10.1.2.3, 192.0.2.7"}, "application"},
		{"proxies passed over, nobody trusted", "excludedIPs", "192.0.2.0/24", strict, []string{"10.1.2.3, 192.0.2.7"}, "sign-in"},
		{"another client", "excludedIPs", "192.0.2.0/24", trusting, []string{"10.1.2.3, 198.51.100.1, 192.0.2.7"}, "sign-in"},
	} {
		options := with{"bypass": "ClientIP(`10.0.0.0/8`)"}
		if row.strategy != "" {
			options["ipStrategy."+row.strategy] = row.value
		}
		v := row.lab.serve(t, site{with: options}).visitor(t)
		v.Header = http.Header{"X-Forwarded-For": row.sent}
		if got := v.outcome(v.look("/")); got != row.want {
			t.Errorf("%s: expected %s, got %s", row.name, row.want, got)
		}
	}
}
