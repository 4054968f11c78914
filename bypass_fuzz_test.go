package oidc

import (
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
)

// FuzzBypassRule: no text makes the parser panic, and an accepted rule can be judged; together with its opposite it never lets
// a request pass that one of them was unsure of.
func FuzzBypassRule(f *testing.F) {
	for _, seed := range []string{
		"", "PathPrefix(`/public`) || Path(`/health`) && Method(`GET`)", "!Host(`*.example.com`)", "HostRegexp(`^a`)", "PathRegexp(`x$`)",
		"Header(`a`, `b`) || HeaderRegexp(`a`, `b`)", "Query(`a`) || Query(`a`, `b`) || QueryRegexp(`a`, `b`)", "ClientIP(`10.0.0.0/8`)",
		"ClientIP(`::1`)", "Path(`", "Host(`*`)", "!(!(", "\xff(`a`)",
	} {
		f.Add(seed, "/public/x?a=b")
	}
	f.Fuzz(func(t *testing.T, text, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		req := &http.Request{Method: "GET", URL: u, RequestURI: target, Host: u.Host, RemoteAddr: "10.0.0.1:1", Header: http.Header{"A": {"b"}}}
		b, err := parseBypass(text)
		if err == nil && text != "" {
			opposite, err := parseBypass("!(" + text + ")")
			if err == nil && bypasses(b, req) && bypasses(opposite, req) {
				t.Fatalf("%q and its opposite let %q pass", text, target)
			}
		}
	})
}

// FuzzBypassPath: a path that may pass reaches the upstream byte for byte as the rule saw it, and means what it says.
func FuzzBypassPath(f *testing.F) {
	for _, seed := range []string{"/", "/a/b", "/a%20b", "/a%2Fb", "/a/../b", "//a", "/a;b", "/%C3%A9", "/a(b)", "http://h/a", "/a?b#c", "/\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		if !isPlainPath(&http.Request{URL: u, RequestURI: target}) {
			return
		}
		sent, err := url.ParseRequestURI(target) // what Traefik's proxy does
		if err != nil || sent.Path != u.Path || sent.EscapedPath() != u.EscapedPath() {
			t.Fatalf("%q: the upstream gets %v", target, sent)
		}
		decoded, err := url.PathUnescape(u.EscapedPath())
		if err != nil || decoded != u.Path {
			t.Fatalf("%q: decodes to %q, the rule saw %q", target, decoded, u.Path)
		}
		again, err := url.PathUnescape(decoded)
		if err != nil || again != decoded {
			t.Fatalf("%q: changes when it is decoded twice", target)
		}
		if cleaned := path.Clean(decoded); cleaned != strings.TrimSuffix(decoded, "/") && decoded != "/" {
			t.Fatalf("%q: cleans to %q", target, cleaned)
		}
		if strings.ContainsAny(decoded, "\\;\x00\r\n\t") {
			t.Fatalf("%q: has characters that servers read differently", target)
		}
	})
}
