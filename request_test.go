package oidc

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// asked sends a request to a site's middleware itself: servers refuse some of what HTTP/3 lets through.
func asked(t *testing.T, s *testSite, target string, change func(req *http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	h, err := New(ctx, http.HandlerFunc(testUpstream), &RawConfig{Options: s.options}, s.name)
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodGet, target, nil)
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("X-Forwarded-Proto", "https")
	change(req)
	rw := httptest.NewRecorder()
	h.ServeHTTP(rw, req)
	return rw
}

// badHosts are what HTTP/3 takes for an :authority, and no host.
var badHosts = []string{"app.example.com:x@evil.example.net", "app.example.com@evil.example.net", "app.example.com:x", "app.example.com:", "app.example.com:123456",
	"app.example.com/evil", "app.example.com?evil", "app.example.com#evil", `app.example.com\evil`, "app.example.com\r\nX: y", "app.example.com evil", "app example.com",
	"app.example.com:443:443", "[::1", "::1", "[::1]x", "[evil.example.net]", "[]", "é.example.com", "app.example.com\x00", "%61pp.example.com", "app.example.com,evil",
	"app.example.com;", "<b>", "a'b", "", ":443", "@", strings.Repeat("a", 254), "app.example.com:" + strings.Repeat("0", 6), "\u212a.example.com"}

func TestRequestHost(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"bypass": "PathPrefix(`/public/`)", "logoutUrl": "/logout", "loginUrl": "/login", "unauthenticated": "login"}))
	for _, host := range []string{"app.example.com", "APP.example.com", "app.example.com.", "app.example.com:8443", "app_1.example-2.com", "localhost", "127.0.0.1:80", "[::1]", "[2001:db8::1]:8080"} {
		if rw := asked(t, s, "/", func(req *http.Request) { req.Host = host }); rw.Code != http.StatusFound {
			t.Errorf("%q: expected a redirect, got %d", host, rw.Code)
		}
	}
	for _, host := range badHosts {
		for _, path := range []string{"/", "/public/x", "/oidc/callback", "/oidc/callback?code=a&state=b", "/login", "/logout"} {
			rw := asked(t, s, path, func(req *http.Request) { req.Host = host })
			if isOpen := host == "" && path == "/public/x"; isOpen && rw.Code != http.StatusOK {
				t.Errorf("a health check by HTTP/1.0 without a Host: expected 200, got %d", rw.Code)
			} else if !isOpen && (rw.Code != http.StatusBadRequest || len(rw.Header()["Set-Cookie"])+len(rw.Header()["Location"]) > 0 || host != "" && len(host) > 2 && strings.Contains(rw.Body.String(), host)) {
				t.Errorf("%q %s: expected 400, got %d %q %s", host, path, rw.Code, rw.Header(), rw.Body)
			}
		}
	}
	if log := strings.Join(captured.of(s.name), "\n"); strings.Contains(log, "evil") || !strings.Contains(log, "host: the request's Host") {
		t.Errorf("the log:\n%s", log)
	}
}

// Where a sign-in ends is on the origin the browser is at, whatever its beginning said of that.
func TestRequestReturnsHere(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options())
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page?a=1"))
	b.open(back.String()).upstream()
	if target := b.look(back.String()).header.Get("Location"); target != "/page?a=1" { // the state was used
		t.Errorf("a used state leads to %q", target)
	}
	_, g := knownBy(t, s, nil, "warn")
	req := httptest.NewRequest(http.MethodGet, app+"/oidc/callback", nil)
	for address, want := range map[string]string{
		"/a?b=c": "/a?b=c", "//evil.example.net/x": "/evil.example.net/x", "https://app.example.com/a?b": "/a?b", "https://APP.example.com:443/a": "/a",
		"https://evil.example.net/a": "/", "https://app.example.com@evil.example.net/a": "/", "https://app.example.com:x@evil.example.net/": "/", "javascript:alert(1)": "/",
		"https:evil.example.net": "/", "": "/", "https://other.example.com/a": "/", "/%zz": "/%zz", "\t//evil.example.net": "/",
	} {
		if got := wayBack(g, req, address); got != want {
			t.Errorf("%q: expected %q, got %q", address, want, got)
		}
	}
	g.stateCookie.domain = "example.com" // of a callback for several hosts
	for address, want := range map[string]string{
		"https://other.example.com/a?b": "https://other.example.com/a?b", "https://other.example.com:8443/": "https://other.example.com:8443/", "https://example.com/": "https://example.com/",
		"https://evil.example.net/a": "/", "https://notexample.com/": "/", "https://x@evil.example.net:1/": "/", "javascript://other.example.com/%0aalert(1)": "/", "https://app.example.com/a": "/a",
		"https://u:p@other.example.com/a": "https://other.example.com/a",
	} {
		if got := wayBack(g, req, address); got != want {
			t.Errorf("with a domain, %q: expected %q, got %q", address, want, got)
		}
	}
}

func TestRequestScheme(t *testing.T) {
	p := newProvider(t)
	for _, row := range []struct {
		name    string
		options map[string]any
		host    string
		https   bool
	}{
		{"nobody says it", nil, "app.example.com", false},
		{"session.secure", sessionOptions("secure", true), "app.example.com", true},
		{"session.secure, of any host", sessionOptions("secure", true), "other.example.com", true},
		{"session.secure false", sessionOptions("secure", false), "app.example.com", false},
		{"an https callback of this host", map[string]any{"redirectUrl": "https://app.example.com/oidc/callback"}, "app.example.com", true},
		{"an https callback of this host, with its port", map[string]any{"redirectUrl": "https://app.example.com:443/oidc/callback"}, "APP.example.com", true},
		{"an https callback of another host", map[string]any{"redirectUrl": "https://login.example.com/oidc/callback"}, "app.example.com", false},
		{"an http callback", map[string]any{"redirectUrl": "http://app.example.com/oidc/callback"}, "app.example.com", false},
		{"a callback without scheme", map[string]any{"redirectUrl": "app.example.com/oidc/callback"}, "app.example.com", false},
	} {
		s := start(t, p.options(row.options))
		rw := asked(t, s, "/page", func(req *http.Request) {
			req.Host = row.host
			req.Header.Set("X-Forwarded-Proto", "http")
		})
		location, _ := url.Parse(rw.Header().Get("Location"))
		cookies := rw.Header()["Set-Cookie"]
		if location == nil || len(cookies) != 1 {
			t.Errorf("%s: %d %q", row.name, rw.Code, rw.Header())
			continue
		}
		callback := location.Query().Get("redirect_uri")
		if own := row.options["redirectUrl"]; own == nil && strings.HasPrefix(callback, "https://") != row.https {
			t.Errorf("%s: redirect_uri %q", row.name, callback)
		}
		if strings.HasPrefix(cookies[0], "__Host-") != row.https || strings.Contains(cookies[0], "; Secure") != row.https {
			t.Errorf("%s: cookie %q", row.name, cookies[0])
		}
	}
}

// A prefix that was taken off on the way is put back into whatever browsers are told; it never leads off this origin.
func TestRequestPrefix(t *testing.T) {
	p := newProvider(t)
	for _, row := range []struct {
		sent []string
		want string
	}{
		{nil, ""}, {[]string{"/app"}, "/app"}, {[]string{"/app/"}, "/app"}, {[]string{"/outer", "/inner"}, "/outer/inner"}, {[]string{"/outer, /inner"}, "/outer/inner"},
		{[]string{"app"}, "/app"}, {[]string{"/"}, ""}, {[]string{""}, ""}, {[]string{"//evil.example.net"}, "/evil.example.net"}, {[]string{`/\evil.example.net`}, "/%5Cevil.example.net"},
		{[]string{"https://evil.example.net"}, "/https:/evil.example.net"}, {[]string{"/a/../.."}, ""}, {[]string{"/a?b#c"}, "/a%3Fb%23c"}, {[]string{"/ä"}, "/%C3%A4"},
		{[]string{"/" + strings.Repeat("a", maxPrefix)}, ""}, {[]string{"/a\r\nX: y"}, "/a%0D%0AX:%20y"}, {[]string{"@evil.example.net"}, "/@evil.example.net"},
		{[]string{strings.Repeat("/a,", 400)}, ""},
	} {
		req := httptest.NewRequest(http.MethodGet, "/x", nil)
		if row.sent != nil {
			req.Header["X-Forwarded-Prefix"] = row.sent
		}
		if got := prefix(req); got != row.want {
			t.Errorf("%.40q: expected %q, got %q", row.sent, row.want, got)
		}
	}
	for _, redirectURL := range []string{"/oidc/callback", "/app/oidc/callback", "https://app.example.com/app/oidc/callback"} {
		s := start(t, p.options(map[string]any{"redirectUrl": redirectURL}))
		b := newBrowser(t, s)
		b.header.Set("X-Forwarded-Prefix", "/app") // the browser asks for /app/page; what comes to us is /page
		authorization := b.begin("/page?a=1")
		if got := authorization.Query().Get("redirect_uri"); got != app+"/app/oidc/callback" {
			t.Errorf("%s: redirect_uri %q", redirectURL, got)
		}
		back := b.answered(authorization)
		back.Path = strings.TrimPrefix(back.Path, "/app")
		if target := b.look(back.String()).header.Get("Location"); target != "/app/page?a=1" {
			t.Errorf("%s: the sign-in ends at %q", redirectURL, target)
		}
		for i := 0; i < 3; i++ { // who is remembered gets there as well
			b.look("/page").upstream()
			if r := b.look("/oidc/callback"); r.status != http.StatusFound || r.header.Get("Location") != "/app/" {
				t.Errorf("%s: a bookmark of the callback: %s", redirectURL, r.story())
			}
		}
	}
}

// X-Forwarded-Host names the host a browser came to where a proxy in front gives us another one. It is only compared with the options.
func TestRequestForwardedHost(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"redirectUrl": app + "/oidc/callback"}))
	b := newBrowser(t, s)
	b.header.Set("X-Forwarded-Proto", "http")
	told := func(req *http.Request) {
		req.Host, req.Header["X-Forwarded-Host"] = "inner:8080", []string{"app.example.com, proxy"}
	}
	rw := asked(t, s, "/page", told)
	location, err := url.Parse(rw.Header().Get("Location"))
	if err != nil || rw.Code != http.StatusFound || !strings.HasPrefix(rw.Header().Get("Set-Cookie"), "__Host-") {
		t.Fatalf("%d %q", rw.Code, rw.Header())
	}
	back := b.answered(location)
	cookie, _, _ := strings.Cut(rw.Header().Get("Set-Cookie"), ";")
	rw = asked(t, s, back.RequestURI(), func(req *http.Request) { told(req); req.Header.Set("Cookie", cookie) })
	if rw.Code != http.StatusFound || rw.Header().Get("Location") != "/page" {
		t.Errorf("the callback: %d %q", rw.Code, rw.Header())
	}
	s = start(t, p.options())
	rw = asked(t, s, "/page", func(req *http.Request) {
		req.Host, req.Header["X-Forwarded-Host"] = "app.example.com", []string{"evil.example.net"}
	})
	if text, _ := json.Marshal(rw.Header()); strings.Contains(string(text), "evil") {
		t.Errorf("X-Forwarded-Host went into %s", text)
	}
}
