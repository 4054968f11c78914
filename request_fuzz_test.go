package oidc

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"
)

// FuzzRequestHost: what counts as a host makes an address that leads there and nowhere else; what does not is answered with 400, and
// nothing of it is repeated.
func FuzzRequestHost(f *testing.F) {
	for _, host := range append(badHosts, "app.example.com", "APP.example.com.:8443", "[::1]:443", "127.0.0.1", "a_b-c",
		"xn--bcher-kva.example", "0", ".", "-", "[::ffff:192.0.2.1]", "app.example.com:00000") {
		f.Add(host, "/page?a=b")
	}
	h, err := New(context.Background(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		&RawConfig{Options: map[string]any{"issuer": "https://id.example.com", "clientId": "app",
			"clientSecret": "qv7H2m9XzR4tK8pW1sLdY6uN3bCfGjEa", "logLevel": "error", "loginUrl": "/login",
			"endpoints": map[string]any{"authorization": "https://id.example.com/a", "token": "https://id.example.com/t",
				"jwks": "https://id.example.com/j"}, "unauthenticated": "login"}}, "fuzzed@file")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host, target string) {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		if u, err := url.ParseRequestURI(target); err == nil {
			req.URL = u
		}
		req.Host = host
		rw := httptest.NewRecorder()
		h.ServeHTTP(rw, req)
		location := rw.Header().Get("Location")
		if !isHostName(host) {
			if rw.Code != http.StatusBadRequest || location != "" || rw.Header()["Set-Cookie"] != nil {
				t.Fatalf("%q: %d %q", host, rw.Code, rw.Header())
			}
			return
		}
		u, err := url.Parse("https://" + host + "/x")
		if err != nil || u.Host != host || u.User != nil || u.Path != "/x" || u.RawQuery+u.Fragment != "" ||
			strings.Trim(host, "0123456789abcdefABCDEFghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ._-:[]") != "" || len(host) > 260 {
			t.Fatalf("%q is taken for a host: %v, %v", host, u, err)
		}
		to, err := url.Parse(location)
		if rw.Code == http.StatusFound && to.Host == "id.example.com" {
			back, backErr := url.Parse(to.Query().Get("redirect_uri"))
			if err != nil || backErr != nil || back.Host != host || back.Path != "/oidc/callback" {
				t.Fatalf("%q: redirect_uri %v", host, back)
			}
		}
	})
}

// FuzzRequestWayBack: wherever somebody was, and whatever is said to have been taken off the path, the way back is on this origin.
func FuzzRequestWayBack(f *testing.F) {
	for _, address := range []string{"/a?b", "//evil.example.net", "/\\evil.example.net", "https://app.example.com/a",
		"https://evil.example.net", "https://app.example.com@evil.example.net", "javascript:alert(1)", "\t//x", "https:x", "http://[::1]/",
		"https://other.example.com/a", "https://example.com.evil.net/", "https://other.example.com:1/a?b#c", "/%zz", "/a\x00b", "/é",
		"https://x.example.com\\@evil.example.net/"} {
		f.Add(address, "/app")
		f.Add("/page", address)
	}
	f.Fuzz(func(t *testing.T, address, taken string) {
		st := &site{config: &Config{}}
		req := httptest.NewRequest(http.MethodGet, "https://app.example.com/x", nil)
		req.Header["X-Forwarded-Prefix"] = []string{taken}
		origin := mustParse("https://app.example.com/oidc/callback")
		for _, back := range []string{returnURL(st, req, address), requestedPage(req), externalPath(req, "/oidc/callback"), defaultPage(st, req)} {
			to, err := origin.Parse(back)
			if err != nil && back == localPath(address) && strings.Contains(back, "%") {
				continue // a path that was asked for with a broken escape; it has one slash in front all the same
			}
			if err != nil || to.Host != "app.example.com" || to.Scheme != "https" || back[0] != '/' || strings.HasPrefix(back, "//") ||
				strings.ContainsAny(back, "\\\t\r\n\x00") {
				t.Fatalf("%q behind %q: %q leads to %v, %v", address, taken, back, to, err)
			}
		}
		if before := forwardedPrefix(req); before != "" && (path.Clean(before) != before || len(before) > maxPrefix) {
			t.Fatalf("%q is the prefix %q", taken, before)
		}
		st.stateDomain = "example.com"
		back := returnURL(st, req, address)
		if to, err := origin.Parse(back); back[0] != '/' &&
			(err != nil || to.User != nil || !strings.HasPrefix(to.Scheme, "http") ||
				to.Hostname() != "example.com" && !strings.HasSuffix(strings.ToLower(to.Hostname()), ".example.com")) {
			t.Fatalf("%q: with hosts that share the callback it leads to %q", address, back)
		}
	})
}

// FuzzRequestUpgrade: whatever is asked for, the upstream is asked for one allowed protocol or for none, and Connection goes with it.
func FuzzRequestUpgrade(f *testing.F) {
	for _, upgrade := range []string{"websocket", "WebSocket", "h2c", "websocket, h2c", "websocket\nh2c", "SPDY/3.1", "tcp ", "", "TLS/1.0",
		"HTTP/2.0", "websoc\u212aet", "\twebsocket"} {
		f.Add(upgrade, "Upgrade, HTTP2-Settings", "HTTP2-Settings")
		f.Add(upgrade, "upgrade,close,upgrade", "http2_settings")
	}
	f.Fuzz(func(t *testing.T, upgrade, connection, settings string) {
		hn := &headerNames{upgrades: allowedUpgrades([]string{"SPDY/3.1", "tcp"}), managed: map[string]bool{"http2-settings": true}}
		req := &http.Request{Header: http.Header{"Upgrade": strings.Split(upgrade, "\n"), "Connection": {connection},
			http.CanonicalHeaderKey(settings): {"AAMAAABkAARAAAAAAAIAAAAA"}}}
		stripHeaders(hn, req, nil)
		got := req.Header["Upgrade"]
		if got != nil && (len(got) != 1 || !contains([]string{"websocket", "SPDY/3.1", "tcp"}, got[0]) ||
			http.CanonicalHeaderKey(settings) != "Upgrade" && !strings.EqualFold(strings.Trim(upgrade, " \t\n\v\f\r\u0085\u00a0"), got[0])) {
			t.Fatalf("%q became %q", upgrade, got)
		}
		for name, values := range req.Header {
			if foldName(name) == "http2-settings" {
				t.Fatalf("%q went on", name)
			}
			for _, mention := range strings.Split(strings.Join(values, ","), ",") {
				if mention = strings.TrimSpace(mention); name == "Connection" &&
					(foldName(mention) == "http2-settings" || strings.EqualFold(mention, "Upgrade") && got == nil) {
					t.Fatalf("%q: Connection still says %q", connection, values)
				}
			}
		}
	})
}
