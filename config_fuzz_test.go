package oidc

import (
	"encoding/json"
	"strings"
	"testing"
)

// Whatever the options are, reading them ends, and says what is wrong in one line.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{`{}`, `{"issuer": "https://id", "clientId": "a", "clientSecret": "b"}`,
		`{"session": {"store": {"redis": {"endpoints": "a:1", "tls": ""}}}}`,
		`{"jwt": true, "csrf": "0", "scopes": [1, null, {}], "authParams": "a=b,c", "errorPages": {"401": ["x"]}}`,
		`{"maxAge": 1e300, "pkce": "no", "x\ny": "${HOME}"}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var raw map[string]any
		if json.Unmarshal([]byte(text), &raw) != nil || strings.Contains(text, "${file:") {
			return
		}
		_, p := read(raw)
		if err := p.err(); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("more than one line: %q", err)
		}
	})
}

// An address that is accepted names a path of ours or of an http(s) host, and means the same when it is written out.
func FuzzLocation(f *testing.F) {
	for _, text := range []string{"/x", "app.example.com/x", "https://app.example.com:8443/x?y#z", "//x", "/..", "x", "[::1]/x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		where, err := parseLocation(text)
		if err != nil {
			return
		}
		if !strings.HasPrefix(where.path, "/") || strings.HasPrefix(where.path, "//") || where.scheme != "" && where.host == "" {
			t.Errorf("%q: got %q", text, where)
		}
		full := where.host + where.path
		if where.scheme != "" {
			full = where.scheme + "://" + full
		}
		if again, err := parseLocation(full); err != nil || again != where {
			t.Errorf("%q: got %q, and of that %q, %v", text, where, again, err)
		}
	})
}
