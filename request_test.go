package oidc

import (
	"bufio"
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
var badHosts = []string{"app.example.com:x@evil.example.net", "app.example.com@evil.example.net", "app.example.com:x", "app.example.com:",
	"app.example.com:123456",
	"app.example.com/evil", "app.example.com?evil", "app.example.com#evil", `app.example.com\evil`, "app.example.com\r\nX: y",
	"app.example.com evil", "app example.com",
	"app.example.com:443:443", "[::1", "::1", "[::1]x", "[evil.example.net]", "[]", "é.example.com", "app.example.com\x00",
	"%61pp.example.com", "app.example.com,evil",
	"app.example.com;", "<b>", "a'b", "", ":443", "@", strings.Repeat("a", 254), "app.example.com:" + strings.Repeat("0", 6), "\u212a.example.com"}

func TestRequestHost(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"bypass": "PathPrefix(`/public/`)", "logoutUrl": "/logout", "loginUrl": "/login",
		"unauthenticated": "login"}))
	for _, host := range []string{"app.example.com", "APP.example.com", "app.example.com.", "app.example.com:8443", "app_1.example-2.com",
		"localhost", "127.0.0.1:80", "[::1]", "[2001:db8::1]:8080"} {
		if rw := asked(t, s, "/", func(req *http.Request) { req.Host = host }); rw.Code != http.StatusFound {
			t.Errorf("%q: expected a redirect, got %d", host, rw.Code)
		}
	}
	for _, host := range badHosts {
		for _, path := range []string{"/", "/public/x", "/oidc/callback", "/oidc/callback?code=a&state=b", "/login", "/logout"} {
			rw := asked(t, s, path, func(req *http.Request) { req.Host = host })
			if isOpen := host == "" && path == "/public/x"; isOpen && rw.Code != http.StatusOK {
				t.Errorf("a health check by HTTP/1.0 without a Host: expected 200, got %d", rw.Code)
			} else if !isOpen && (rw.Code != http.StatusBadRequest || len(rw.Header()["Set-Cookie"])+len(rw.Header()["Location"]) > 0 ||
				host != "" && len(host) > 2 && strings.Contains(rw.Body.String(), host)) {
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
	p := newFakeProvider(t)
	s := start(t, p.options())
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page?a=1"))
	b.open(back.String()).upstream()
	if target := b.look(back.String()).header.Get("Location"); target != "/page?a=1" { // the state was used
		t.Errorf("a used state leads to %q", target)
	}
	_, m := knownBy(t, s, nil, "warn")
	req := httptest.NewRequest(http.MethodGet, app+"/oidc/callback", nil)
	for address, want := range map[string]string{
		"/a?b=c": "/a?b=c", "//evil.example.net/x": "/evil.example.net/x", "https://app.example.com/a?b": "/a?b", "https://APP.example.com:443/a": "/a",
		"https://evil.example.net/a": "/", "https://app.example.com@evil.example.net/a": "/", "https://app.example.com:x@evil.example.net/": "/",
		"javascript:alert(1)":    "/",
		"https:evil.example.net": "/", "": "/", "https://other.example.com/a": "/", "/%zz": "/%zz", "\t//evil.example.net": "/",
	} {
		if got := returnURL(m.site, req, address); got != want {
			t.Errorf("%q: expected %q, got %q", address, want, got)
		}
	}
	m.site.stateDomain = "example.com" // of a callback for several hosts
	for address, want := range map[string]string{
		"https://other.example.com/a?b": "https://other.example.com/a?b", "https://other.example.com:8443/": "https://other.example.com:8443/",
		"https://example.com/":       "https://example.com/",
		"https://evil.example.net/a": "/", "https://notexample.com/": "/", "https://x@evil.example.net:1/": "/",
		"javascript://other.example.com/%0aalert(1)": "/", "https://app.example.com/a": "/a",
		"https://u:p@other.example.com/a": "https://other.example.com/a",
	} {
		if got := returnURL(m.site, req, address); got != want {
			t.Errorf("with a domain, %q: expected %q, got %q", address, want, got)
		}
	}
}

func TestRequestScheme(t *testing.T) {
	p := newFakeProvider(t)
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
		{"an https callback of this host, with its port", map[string]any{"redirectUrl": "https://app.example.com:443/oidc/callback"},
			"APP.example.com", true},
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
	p := newFakeProvider(t)
	for _, row := range []struct {
		sent []string
		want string
	}{
		{nil, ""}, {[]string{"/app"}, "/app"}, {[]string{"/app/"}, "/app"}, {[]string{"/outer", "/inner"}, "/outer/inner"},
		{[]string{"/outer, /inner"}, "/outer/inner"},
		{[]string{"app"}, "/app"}, {[]string{"/"}, ""}, {[]string{""}, ""}, {[]string{"//evil.example.net"}, "/evil.example.net"},
		{[]string{`/\evil.example.net`}, "/%5Cevil.example.net"},
		{[]string{"https://evil.example.net"}, "/https:/evil.example.net"}, {[]string{"/a/../.."}, ""}, {[]string{"/a?b#c"}, "/a%3Fb%23c"},
		{[]string{"/ä"}, "/%C3%A4"},
		{[]string{"/" + strings.Repeat("a", maxPrefix)}, ""}, {[]string{"/a\r\nX: y"}, "/a%0D%0AX:%20y"},
		{[]string{"@evil.example.net"}, "/@evil.example.net"},
		{[]string{strings.Repeat("/a,", 400)}, ""},
	} {
		req := httptest.NewRequest(http.MethodGet, "/x", nil)
		if row.sent != nil {
			req.Header["X-Forwarded-Prefix"] = row.sent
		}
		if got := forwardedPrefix(req); got != row.want {
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
	p := newFakeProvider(t)
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
	s = start(t, p.options(map[string]any{"redirectUrl": app + "/oidc/callback", "loginUrl": "/login"}))
	for target, want := range map[string]int{app + "/x": http.StatusFound, app + ":443/x": http.StatusFound,
		"http://app.example.com/x": http.StatusBadRequest, "https://evil.example.net/x": http.StatusBadRequest,
		"//app.example.com/x": http.StatusBadRequest, "https://u@app.example.com/x": http.StatusBadRequest} {
		if rw := asked(t, s, "/login?target_link_uri="+url.QueryEscape(target), told); rw.Code != want {
			t.Errorf("a sign-in that shall end at %s: expected %d, got %d %s", target, want, rw.Code, rw.Body)
		}
	}
	s = start(t, p.options())
	rw = asked(t, s, "/page", func(req *http.Request) {
		req.Host, req.Header["X-Forwarded-Host"] = "app.example.com", []string{"evil.example.net"}
	})
	if text, _ := json.Marshal(rw.Header()); strings.Contains(string(text), "evil") {
		t.Errorf("X-Forwarded-Host went into %s", text)
	}
}

// What a request may change its connection to. Behind h2c or TLS further requests follow, with headers that nobody looked at.
func TestRequestUpgrade(t *testing.T) {
	p := newFakeProvider(t)
	s, b := signedIn(t, p, map[string]any{"bypass": "PathPrefix(`/public/`)", "upgrades": "SPDY/3.1,tcp"})
	session := b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	anonymous := start(t, p.options(map[string]any{"unauthenticated": "forward", "upgrades": "SPDY/3.1,tcp"}))
	for _, row := range []struct {
		upgrade          []string
		connection, want string
		wantConnection   string
	}{
		{[]string{"websocket"}, "Upgrade", "websocket", "Upgrade"},
		{[]string{"WebSocket"}, "keep-alive, upgrade", "websocket", "keep-alive, upgrade"}, {[]string{" websocket\t"}, "Upgrade", "websocket", "Upgrade"},
		{[]string{"SPDY/3.1"}, "Upgrade", "SPDY/3.1", "Upgrade"}, {[]string{"spdy/3.1"}, "Upgrade", "SPDY/3.1", "Upgrade"},
		{[]string{"TCP"}, "Upgrade", "tcp", "Upgrade"},
		{[]string{"h2c"}, "Upgrade, HTTP2-Settings", "", ""}, {[]string{"H2C"}, "close, Upgrade, http2_settings", "", "close"},
		{[]string{"h2c,"}, "Upgrade", "", ""},
		{[]string{"websocket, h2c"}, "Upgrade", "", ""}, {[]string{"h2c, websocket"}, "Upgrade", "", ""},
		{[]string{"websocket", "h2c"}, "Upgrade", "", ""}, {[]string{"h2c", "websocket"}, "Upgrade", "", ""},
		{[]string{"websocket", "websocket"}, "Upgrade", "", ""}, {[]string{""}, "Upgrade", "", ""}, {[]string{"HTTP/2.0"}, "Upgrade", "", ""},
		{[]string{"TLS/1.0"}, "Upgrade", "", ""},
		{[]string{"SPDY/3"}, "Upgrade", "", ""}, {[]string{"websocket/13"}, "Upgrade", "", ""}, {[]string{"websoc\u212aet"}, "Upgrade", "", ""},
		{nil, "Upgrade, X-Other", "", "X-Other"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodOptions, http.MethodPost} {
			for i, site := range []*testSite{s, s, s, anonymous} { // signed in, remembered, open to all, as nobody
				path := []string{"/page", "/page", "/public/x", "/page"}[i]
				rw := asked(t, site, path, func(req *http.Request) {
					req.Method = method
					req.Header["Upgrade"] = row.upgrade
					if row.upgrade == nil {
						delete(req.Header, "Upgrade")
					}
					req.Header.Set("Connection", row.connection)
					req.Header["Http2-Settings"], req.Header["Http2_settings"], req.Header["Http2.settings"] = []string{"AAMAAABkAARAAAAAAAIAAAAA"},
						[]string{"x"}, []string{"x"}
					req.Header.Set("Sec-Websocket-Key", "x")
					if i < 2 {
						req.Header.Set("Cookie", session)
					}
				})
				seen := &received{}
				_ = json.Unmarshal(rw.Body.Bytes(), seen)
				if got := strings.Join(seen.Headers["Upgrade"], "|"); rw.Code != http.StatusOK || got != row.want || seen.Headers.Get("Sec-Websocket-Key") == "" {
					t.Errorf("%s %s %q: expected %q, got %d %q", method, path, row.upgrade, row.want, rw.Code, got)
				}
				if got := strings.Join(seen.Headers["Connection"], "|"); got != row.wantConnection {
					t.Errorf("%s %s %q: Connection %q: expected %q, got %q", method, path, row.upgrade, row.connection, row.wantConnection, got)
				}
				for name := range seen.Headers {
					if foldName(name) == "http2-settings" {
						t.Errorf("%s %s: %s went on", method, path, name)
					}
				}
			}
		}
	}
	for _, harmless := range []string{"Upgrade", "Http2-Settings", "Connection", "Trailer"} {
		for _, site := range []*testSite{s, anonymous} {
			if _, m := knownBy(t, site, nil, "info"); m.cache.safeHeaders[harmless] || m.cache.initialSafeHeaders[harmless] {
				t.Errorf("%s counts as harmless", harmless)
			}
		}
	}
}

func TestRequestUpgradeOption(t *testing.T) {
	for value, want := range map[string]string{
		"websocket": "", "SPDY/3.1,tcp": "", "h2c": "upgrades", "H2C": "upgrades", "HTTP/2.0": "upgrades", "h2": "upgrades",
		"TLS/1.2": "upgrades", "tls": "upgrades", "a b": "upgrades", "a/b/c": "upgrades",
		"tcp,h2c": "upgrades", "h3": "upgrades", "HTTP": "upgrades", "h2c/1": "upgrades",
	} {
		_, err := build(t, newFakeProvider(t).options(map[string]any{"upgrades": value}))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v", value, err)
		}
	}
}

// Headers by which an upstream is told another path or method than the one that was judged.
func TestRequestRemoveHeaders(t *testing.T) {
	p := newFakeProvider(t)
	s, b := signedIn(t, p, map[string]any{"bypass": "PathPrefix(`/public/`)", "removeHeaders": "X-Original-URL,x-http-method-override"})
	session := b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	anonymous := start(t, p.options(map[string]any{"unauthenticated": "forward", "removeHeaders": "X-Original-URL,x-http-method-override"}))
	for i, site := range []*testSite{s, s, s, anonymous} {
		rw := asked(t, site, []string{"/page", "/page", "/public/x", "/page"}[i], func(req *http.Request) {
			for _, name := range []string{"X-Original-Url", "X_original_url", "X.original.url", "X-Http-Method-Override", "X_http-Method_override"} {
				req.Header[name] = []string{"/admin"}
			}
			req.Header.Set("Connection", "X-Original-URL, close")
			req.Trailer = http.Header{"X-Original-Url": nil}
			req.Header.Set("X-Other", "stays")
			if i < 2 {
				req.Header.Set("Cookie", session)
			}
		})
		seen := &received{}
		_ = json.Unmarshal(rw.Body.Bytes(), seen)
		if text, _ := json.Marshal(seen); strings.Contains(strings.ToLower(string(text)), "original") ||
			strings.Contains(strings.ToLower(string(text)), "override") || seen.Headers.Get("X-Other") != "stays" {
			t.Errorf("%d: got %d %s", i, rw.Code, text)
		}
	}
}

// Whose address ClientIP is about.
func TestRequestClientIP(t *testing.T) {
	p := newFakeProvider(t)
	forwarded := func(lines ...string) []string { return lines }
	for _, row := range []struct {
		strategy map[string]any
		peer     string
		lines    []string
		open     bool
	}{
		{nil, "192.0.2.1:5", forwarded("10.0.0.1"), false}, {nil, "10.0.0.1:5", nil, true}, {nil, "[fe80::1%eth0]:5", nil, false},
		{map[string]any{"depth": 1}, "192.0.2.1:5", forwarded("10.0.0.1"), true}, {map[string]any{"depth": 1}, "10.0.0.1:5", nil, false},
		{map[string]any{"depth": 1}, "10.0.0.1:5", forwarded("192.0.2.7"), false},
		{map[string]any{"depth": 1}, "192.0.2.1:5", forwarded("10.0.0.1, 192.0.2.7"), false},
		{map[string]any{"depth": 1}, "192.0.2.1:5", forwarded("192.0.2.7, 10.0.0.1"), true},
		{map[string]any{"depth": 1}, "192.0.2.1:5", forwarded("10.0.0.1", "192.0.2.7"), false}, // a line of the client's, and one of a proxy that adds lines
		{map[string]any{"depth": 2}, "192.0.2.1:5", forwarded("10.0.0.1, 192.0.2.7"), true},
		{map[string]any{"depth": 2}, "192.0.2.1:5", forwarded("10.0.0.1"), false},
		{map[string]any{"depth": 1}, "192.0.2.1:5", forwarded("10.0.0.1:1234"), true},
		{map[string]any{"depth": 1}, "192.0.2.1:5", forwarded("x"), false}, {map[string]any{"depth": 1}, "192.0.2.1:5", forwarded("10.0.0.1,"), false},
		{map[string]any{"excludedIPs": "192.0.2.0/24,203.0.113.9"}, "192.0.2.1:5", forwarded("10.0.0.1, 192.0.2.7, 203.0.113.9"), true},
		{map[string]any{"excludedIPs": "192.0.2.0/24"}, "192.0.2.1:5", forwarded("10.0.0.1, 198.51.100.1, 192.0.2.7"), false},
		{map[string]any{"excludedIPs": "192.0.2.0/24"}, "192.0.2.1:5", forwarded("192.0.2.7"), false},
		{map[string]any{"excludedIPs": "192.0.2.0/24"}, "192.0.2.1:5", forwarded("10.0.0.1, unknown, 192.0.2.7"), false},
		{map[string]any{"excludedIPs": "2001:db8::/32"}, "192.0.2.1:5", forwarded("10.0.0.1, 2001:db8::1, [2001:db8::2]:443"), true},
		{map[string]any{"depth": 200}, "192.0.2.1:5", forwarded(strings.Repeat("10.0.0.1,", 300)), false},
	} {
		for rule, opens := range map[string]bool{"ClientIP(`10.0.0.0/8`)": row.open, "PathPrefix(`/`) && ClientIP(`10.0.0.1`)": row.open} {
			s := start(t, p.options(map[string]any{"bypass": rule, "ipStrategy": row.strategy}))
			rw := asked(t, s, "/page", func(req *http.Request) {
				req.RemoteAddr = row.peer
				if row.lines != nil {
					req.Header["X-Forwarded-For"] = row.lines
				}
			})
			if (rw.Code == http.StatusOK) != opens {
				t.Errorf("%v, peer %s, %q, %s: expected %v, got %d", row.strategy, row.peer, row.lines, rule, opens, rw.Code)
			}
		}
	}
	s := start(t, p.options(map[string]any{"bypass": "!ClientIP(`192.0.2.0/24`)", "ipStrategy": map[string]any{"depth": 1}}))
	if rw := asked(t, s, "/page", func(*http.Request) {}); rw.Code != http.StatusFound {
		t.Errorf("who is not known passes behind a !: %d", rw.Code)
	}
	for text, want := range map[string]string{`{"depth": 1, "excludedIPs": "10.0.0.1"}`: "ipStrategy.depth: must not be combined with excludedIPs", `{"excludedIPs": "x"}`: "ipStrategy.excludedIPs", `{"depth": -1}`: "ipStrategy.depth: must be at least 0"} {
		strategy := map[string]any{}
		_ = json.Unmarshal([]byte(text), &strategy)
		refused(t, p.options(map[string]any{"bypass": "ClientIP(`10.0.0.0/8`)", "ipStrategy": strategy}), want)
	}
}

func TestRequestPathsOfOthers(t *testing.T) {
	// The endpoints are exact paths: what only looks like them belongs to the upstream.
	p := newFakeProvider(t)
	_, b := signedIn(t, p, map[string]any{"logoutUrl": "/logout", "redirectUrl": "/oidc/callback"})
	for _, path := range []string{"/logout/", "/Logout", "/logout/x", "/oidc/callback/", "/oidc", "/x/oidc/callback", "/logout;a=1"} {
		r := b.open(path)
		if !r.isUpstream() {
			t.Errorf("%s: %s", path, r.story())
		}
	}
	other := newFakeProvider(t)
	_, c := signedIn(t, other, map[string]any{"logoutUrl": "login.example.com/logout"})
	if r := c.open("/logout"); !r.isUpstream() {
		t.Errorf("the endpoint of another host: %s", r.story())
	}
}

func TestRequestSchemeBehindProxies(t *testing.T) {
	// What a chain of trusted proxies makes of X-Forwarded-Proto still says how the browser came.
	p := newFakeProvider(t)
	s := start(t, p.options())
	for proto, want := range map[string]string{"https": "https", "HTTPS": "https", "https,http": "https", "https, http": "https", "wss": "https",
		"http": "http", "http, https": "http", "httpsx": "http", "x": "http"} {
		b := newBrowser(t, s)
		b.header.Set("X-Forwarded-Proto", proto)
		if got := b.look("/page").location().Query().Get("redirect_uri"); got != want+"://app.example.com/oidc/callback" {
			t.Errorf("%s: redirect_uri: got %q", proto, got)
		}
	}
}

func TestRequestStreams(t *testing.T) {
	// The first event of a stream arrives while the stream goes on: nothing stands between the upstream and the client.
	p := newFakeProvider(t)
	s, b := signedIn(t, p)
	req := b.request(http.MethodGet, "/stream", "")
	req.Header.Set("Cookie", b.cookieLine(req.URL, "none", http.MethodGet))
	req.Header.Set("X-Forwarded-Proto", "https")
	req.URL.Scheme, req.URL.Host, req.Host = "http", mustParse(s.url).Host, "app.example.com"
	res, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); line != "data: 0\n" {
		t.Errorf("got %q, %v", line, err)
	}
}

func TestRequestLocalPath(t *testing.T) {
	for given, want := range map[string]string{
		"/": "/", "": "/", "/a?b=c": "/a?b=c", "//evil/": "/evil/", "/\\evil": "/evil", "\\\\evil": "/evil", "/\t/evil": "/evil",
		"/\r\n/evil": "/evil", "\x00//evil": "/evil",
		"https://evil/": "/https://evil/", "@evil": "/@evil", "/a?b=\\\n": "/a?b=/",
	} {
		if got := localPath(given); got != want {
			t.Errorf("%q: expected %q, got %q", given, want, got)
		}
	}
}

// TestRequestHostWithItsPort: the ports that browsers leave out are left out of both, also behind an address in brackets.
func TestRequestHostWithItsPort(t *testing.T) {
	for _, row := range []struct {
		configured, came string
		want             bool
	}{
		{"app.example.com:443", "app.example.com", true}, {"app.example.com", "app.example.com:443", true},
		{"[::1]:443", "[::1]", true}, {"[::1]", "[::1]:80", true}, {"app.example.com:8443", "app.example.com:8444", false},
		{"app.example.com", "app.example.com:8443", false}, {"[::1]", "[::2]", false},
	} {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Host = row.came
		if got := isRequestHost(row.configured, req); got != row.want {
			t.Errorf("%s, configured %s: %v", row.came, row.configured, got)
		}
	}
}
