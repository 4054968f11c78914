package oidc

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestHeadersForTheUpstream(t *testing.T) {
	p := newFakeProvider(t)
	p.jwtAccessTokens = true
	p.user["nested"] = map[string]any{"a.b": "deep", "list": []any{"one", "two,three"}}
	_, b := signedIn(t, p, headersFor("X-User", "sub", "X-Groups", "groups", "X-Nested", `nested.a\.b`, "X-List", "nested.list", "X-Missing", "none",
		"X-Format", "{name} <{email}>", "Authorization", "Bearer {access_token}", "X-Scope", "access_token.scope"),
		map[string]any{"usernameClaim": "email"})
	for i, r := range []*reply{b.open("/first"), b.open("/second")} { // judged anew, and remembered
		seen := r.upstream()
		for name, want := range map[string]string{
			"X-User": "ada", "X-Groups": "admins,staff", "X-Nested": "deep", "X-List": "one,two%2Cthree",
			"X-Format": "Ada Lovelace <ada@example.com>", "X-Scope": "openid profile email",
		} {
			if got := strings.Join(seen.Headers[name], "|"); got != want {
				t.Errorf("request %d: %s: expected %q, got %q", i, name, want, got)
			}
		}
		if _, there := seen.Headers["X-Missing"]; there {
			t.Errorf("request %d: a missing claim gives no header, got %q", i, seen.Headers)
		}
		if !strings.HasPrefix(seen.Headers.Get("Authorization"), "Bearer ey") || seen.User != "ada@example.com" {
			t.Errorf("request %d: got user %q, %q", i, seen.User, seen.Headers)
		}
	}
}

func TestHeadersForgedOnesAreRemoved(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(headersFor("X-User", "sub", "X-Role", "no_such_claim", "Remote_User", "sub"),
		map[string]any{"bypass": "PathPrefix(`/public`)"}))
	b := newBrowser(t, s)
	b.signIn("/")
	line := "Cookie: " + b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	names := []string{"X-User", "x-user", "X_User", "x_user", "X.User", "X~User", "X-Role", "X_Role", "x-role", "X'Role", "X|Role",
		"Remote-User", "remote_user", "REMOTE.USER"}
	for _, odd := range "!#$%&*+^`" {
		names = append(names, "X"+string(odd)+"Role")
	}
	for _, path := range []string{"/page", "/page", "/public/page"} {
		for _, name := range names {
			seen := rawUpstream(b, path, line, name+": eve", name+": mallory")
			for got, values := range seen.Headers {
				if strings.Contains(strings.Join(values, ","), "eve") || strings.Contains(strings.Join(values, ","), "mallory") {
					t.Errorf("%s: %s arrived as %s", path, name, got)
				}
			}
			if user := strings.Join(seen.Headers["X-User"], "|"); user != "ada" && path == "/page" || user != "" && path != "/page" {
				t.Errorf("%s with %s: X-User is %q", path, name, user)
			}
		}
		if seen := rawUpstream(b, path, line, "X-Users: 1", "X-Use: 2",
			"XUser: 3"); len(seen.Headers["X-Users"])+len(seen.Headers["X-Use"])+len(seen.Headers["Xuser"]) != 3 {
			t.Errorf("%s: headers of others are gone: %q", path, seen.Headers)
		}
		if seen := rawUpstream(b, path, line,
			"Connection: X-User, X_Role, keep-alive"); strings.Contains(strings.ToLower(strings.Join(seen.Headers["Connection"], ",")), "x-user") {
			t.Errorf("%s: Connection still names our header: %q", path, seen.Headers)
		}
	}
	for _, mode := range []string{"forward"} {
		anonymous := newBrowser(t, start(t, p.options(headersFor("X-User", "sub"), map[string]any{"unauthenticated": mode})))
		if seen := rawUpstream(anonymous, "/", "X-User: eve", "x_user: eve"); len(seen.Headers["X-User"])+len(seen.Headers["X_user"]) > 0 {
			t.Errorf("nobody is %q", seen.Headers)
		}
	}
}

func TestHeadersForgedTrailersAreRemoved(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(headersFor("X-User", "sub")))
	b := newBrowser(t, s)
	b.signIn("/")
	line := b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	rawUpstream(b, "/", "Cookie: "+line) // so that it was seen before
	// A request that closes its connection goes the long way; one that does not is known at once, but for its trailers.
	for _, more := range []string{"Connection: close\r\n", ""} {
		conn, err := net.Dial("tcp", mustParse(s.url).Host)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: app.example.com\r\nX-Forwarded-Proto: https\r\n%sCookie: %s\r\nTransfer-Encoding: chunked\r\nTrailer: X-User, X_user, X-Other\r\n\r\n", more, line)
		fmt.Fprint(conn, "2\r\nhi\r\n0\r\nX-User: eve\r\nX_user: eve\r\nX-Other: 1\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		seen := &received{}
		err = json.NewDecoder(res.Body).Decode(seen)
		conn.Close()
		if err != nil {
			t.Fatal(res.Status, err)
		}
		for name := range seen.Trailers {
			if foldName(name) == "x-user" {
				t.Errorf("%q: the trailer arrived: %q", more, seen.Trailers)
			}
		}
		if seen.Body != "hi" || seen.Headers.Get("X-User") != "ada" {
			t.Errorf("%q: got %q by %q", more, seen.Body, seen.Headers.Get("X-User"))
		}
	}
}

func TestHeadersUserOfTheRequestLine(t *testing.T) {
	// `GET http://eve@host/` names a user to Traefik's access log: with usernameClaim that is ours to say.
	p := newFakeProvider(t)
	b := newBrowser(t, start(t, p.options(map[string]any{"usernameClaim": "no_such_claim", "unauthenticated": "forward", "bypass": "Path(`/x`)"})))
	b.open("/oidc/callback?switch=/") // signs in
	line := "Cookie: " + b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	_, c := signedIn(t, p, map[string]any{"usernameClaim": "no_such_claim"})
	other := "Cookie: " + c.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	for i := 0; i < 3; i++ {
		for _, seen := range []*received{rawUpstream(b, "http://eve@app.example.com/"), rawUpstream(b, "http://eve@app.example.com/", line),
			rawUpstream(c, "http://eve@app.example.com/", other), rawUpstream(c, "http://eve@app.example.com/", other+"; a=1")} {
			if seen.User != "" {
				t.Errorf("nobody is called %q", seen.User)
			}
		}
	}
}

// What a visitor sends costs little, however much of it there is: every name would be looked at.
func TestHeadersInThousands(t *testing.T) {
	p := newFakeProvider(t)
	s, b := signedIn(t, p, headersFor("X-User", "sub"), map[string]any{"bypass": "Path(`/public`)", "backchannelLogoutUrl": "/back"})
	line := "Cookie: " + b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	var many []string
	for i := 0; i < 20000; i++ {
		many = append(many, fmt.Sprintf("X%x: 1", i))
	}
	for _, path := range []string{"/", "/public", "/back", "/oidc/callback"} {
		begin := time.Now()
		res := b.raw(path, append([]string{line}, many...)...)
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge || res.Header.Get("X-Upstream") != "" {
			t.Errorf("%s: got %s after %s", path, res.Status, time.Since(begin))
		}
	}
	s.expectLog("headers: more names than a request has")
	rawUpstream(b, "/", append([]string{line}, many[:400]...)...)
	trailers := strings.Join(many, ",")
	if res := b.raw("/public", "Transfer-Encoding: chunked",
		"Trailer: "+strings.ReplaceAll(trailers, ": 1", "")); res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("trailers: got %s", res.Status)
	}
	for _, list := range []string{"Connection", "Trailer"} {
		begin := time.Now()
		seen := rawUpstream(b, "/public", list+": keep-alive, "+strings.Repeat("x-user,", 50)+"x-other"+strings.Repeat(",a", 300000)+",x-user, x_user")
		if sent := strings.Join(seen.Headers[list], ","); strings.Contains(sent, "user") || !strings.Contains(sent, "x-other") ||
			len(sent) > 300 || time.Since(begin) > 5*time.Second {
			t.Errorf("%s: got %.100q of %d bytes after %s", list, sent, len(sent), time.Since(begin))
		}
	}
}
