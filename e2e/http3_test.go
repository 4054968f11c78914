package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
	"github.com/traefik-oidc/oidc/e2e/internal/upstream"
)

// askHTTP3 sends a GET by HTTP/3 with whatever :authority is given, which no library for it does.
func askHTTP3(t *testing.T, traefik *parts.Traefik, sni, authority, path string, header http.Header) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := quic.DialAddr(ctx, strings.TrimPrefix(traefik.SecureURL, "https://"), &tls.Config{ServerName: sni, InsecureSkipVerify: true, NextProtos: []string{"h3"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseWithError(0x100, "") }() // H3_NO_ERROR
	control, err := conn.OpenUniStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = control.Write([]byte{0, 4, 0}) // a control stream, with empty SETTINGS (RFC 9114 6.2.1, 7.2.4)
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	encoder := qpack.NewEncoder(&block)
	field := func(name, value string) { _ = encoder.WriteField(qpack.HeaderField{Name: name, Value: value}) }
	field(":method", http.MethodGet)
	field(":scheme", "https")
	field(":authority", authority)
	field(":path", path)
	for name, values := range header {
		for _, value := range values {
			field(strings.ToLower(name), value)
		}
	}
	frame := quicvarint.Append([]byte{1}, uint64(block.Len())) // HEADERS
	_, _ = stream.Write(append(frame, block.Bytes()...))
	_ = stream.Close()
	return readHTTP3(t, stream)
}

// readHTTP3 reads an answer: frames of a type and a length.
func readHTTP3(t *testing.T, stream io.Reader) *http.Response {
	t.Helper()
	resp := &http.Response{Header: http.Header{}}
	var body bytes.Buffer
	reader := quicvarint.NewReader(stream)
	for {
		kind, err := quicvarint.Read(reader)
		if err != nil {
			break
		}
		size, _ := quicvarint.Read(reader)
		payload := make([]byte, size)
		if _, err := io.ReadFull(reader, payload); err != nil {
			t.Fatal(err)
		}
		if kind == 0 {
			body.Write(payload)
		} else if kind == 1 {
			for next := qpack.NewDecoder().Decode(payload); ; {
				f, err := next()
				if err != nil {
					break
				}
				if f.Name == ":status" {
					_, _ = fmt.Sscan(f.Value, &resp.StatusCode)
				} else {
					resp.Header.Add(f.Name, f.Value)
				}
			}
		}
	}
	resp.Body = io.NopCloser(&body)
	return resp
}

// TestHTTP3Host: over HTTP/3 Traefik looks at no :authority (from 3.7.13 on, for "@" alone), and matches Host with what stands before its first colon. Nothing is made of
// one that is no host, and nobody is led to where it says.
func TestHTTP3Host(t *testing.T) {
	t.Parallel()
	l := start(t)
	t.Run("3.x", func(t *testing.T) { noOtherHost(t, l, "", "anything.example.com:x") })
	if parts.WantsOldest() {
		oldest, err := parts.OldestTraefikPath(t.Context(), l.root, os.Stderr)
		if err != nil {
			t.Fatal(err)
		}
		t.Run("3.0.x", func(t *testing.T) { noOtherHost(t, l, oldest, "anything.example.com:x@evil.example.net") })
	}
}

// noOtherHost is TestHTTP3Host in a Traefik that lets a request to authority through.
func noOtherHost(t *testing.T, l *lab, path, authority string) {
	t.Helper()
	traefik, err := l.newTraefik(fmt.Sprint("traefik-http3-", names.Add(1)), parts.TraefikOptions{Path: path, Static: map[string]any{"entryPoints": map[string]any{"websecure": map[string]any{"http3": map[string]any{}}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer traefik.Stop()
	own := &lab{root: l.root, dir: l.dir, ca: l.ca, traefik: traefik, provider: l.provider, upstream: l.upstream}
	options := with{"bypass": "PathPrefix(`/public/`)", "session.name": "http3-session", "stateCookie.name": "http3-state"}
	guarded := own.serve(t, site{with: options})
	port := guarded.Secure[strings.LastIndex(guarded.Secure, ":"):]
	wild := own.serve(t, site{with: options, rule: "HostRegexp(`^wild.*`)"})
	all := own.serve(t, site{with: options, rule: "PathPrefix(`/all`)"})
	own.serve(t, site{plain: true, rule: "PathPrefix(`/bare`)"})

	alice := guarded.secureVisitor(t)
	callback := ""
	for _, step := range alice.signIn("/page", provider.Alice).Trail {
		if _, query, found := strings.Cut(step, "/oidc/callback?"); found {
			callback = "/oidc/callback?" + query
		}
	}
	var cookies []string
	for _, c := range alice.Cookies(guarded.Secure) {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	signedIn := http.Header{"Cookie": {strings.Join(cookies, "; ")}, "Sec-Fetch-Mode": {"navigate"}}
	nobody := http.Header{"Sec-Fetch-Mode": {"navigate"}}

	for range 3 { // the last ones are remembered
		if resp := askHTTP3(t, traefik, guarded.host, guarded.host+port, "/page", signedIn); resp.Header.Get(upstream.NumberHeader) == "" {
			t.Fatalf("over HTTP/3 nobody is signed in: %d %v", resp.StatusCode, resp.Header)
		}
	}
	if resp := askHTTP3(t, traefik, guarded.host, guarded.host+port, callback, signedIn); resp.StatusCode != http.StatusFound || resp.Header.Get("Location") != "/page" {
		t.Errorf("a used state leads to %d %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if resp := askHTTP3(t, traefik, guarded.host, authority, "/bare", nobody); resp.Header.Get(upstream.NumberHeader) == "" {
		t.Errorf("Traefik lets no such request pass any more, so this shows nothing: %d", resp.StatusCode)
	}
	seen := 0
	for _, authority := range []string{":x@evil.example.net", port + "@evil.example.net", ":x", ":", ":123456", ":443:443", "@evil.example.net", "/evil.example.net", "?evil.example.net", "\\evil.example.net", " evil.example.net", ",evil.example.net", ":" + strings.Repeat("0", 20000)} {
		for _, row := range []struct {
			app  *app
			host string
			path string
		}{
			{guarded, guarded.host, "/page"}, {guarded, guarded.host, callback}, {guarded, guarded.host, "/public/x"}, {guarded, guarded.host, "/oidc/callback?code=a&state=b"},
			{wild, "wild.example.com", "/"}, {all, "anything.example.com", "/all/page"},
		} {
			for name, header := range map[string]http.Header{"signed in": signedIn, "nobody": nobody} {
				resp := askHTTP3(t, traefik, guarded.host, row.host+authority, row.path, header)
				body, _ := io.ReadAll(resp.Body)
				if notRouted := resp.StatusCode == http.StatusNotFound && string(body) == "404 page not found\n"; notRouted && row.app == guarded || resp.StatusCode == 0 {
					continue // Traefik's router says no already, or its QUIC library does
				}
				seen++
				if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge || len(resp.Header["Set-Cookie"])+len(resp.Header["Location"]) > 0 || strings.Contains(string(body), "evil") {
					t.Errorf("%s at %s%.40s %s: %d %v", name, row.host, authority, row.path, resp.StatusCode, resp.Header)
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d requests came to the plugin", seen)
	}
	for _, a := range []*app{guarded, wild, all} {
		for line := range strings.Lines(a.log()) {
			if strings.Contains(line, "plugin") && strings.Contains(line, "evil") {
				t.Errorf("it went into the log: %s", line)
			}
		}
	}
}
