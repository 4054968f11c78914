package oidc

import (
	"net/http"
	"strings"
	"testing"
)

// FuzzSessionCookie gives the readers of our cookies foreign headers and values: none may panic, loop, or take more than they are allowed.
func FuzzSessionCookie(f *testing.F) {
	s := newSealer([]string{"0123456789abcdef"}, "https://id.example.com", "app", "session")
	packed, err := packSession(&session{sessionRecord: sessionRecord{ID: "x", Start: 1}, idToken: "a.b.c", accessToken: "opaque"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("login-session="+seal(s, "login-session", packed), packed)
	f.Add("login-session=3~abc; login-session.1=def; login-session.2=ghi", []byte{0})
	f.Add("__Host-login-session.7=x;login-state.0123456789ab=y; a=b", packed[:len(packed)/2])
	f.Add(`login-session="9~";; =; login-session=`, []byte(nil))
	pl := &pendingLogins{site: &site{}, cookie: cookie{baseName: "login-state"}}
	f.Fuzz(func(t *testing.T, line string, content []byte) {
		req := &http.Request{Header: http.Header{"Cookie": {line}}}
		values := chunkedValues(req, "login-session")
		if len(values) > maxCandidates {
			t.Errorf("%d values are looked at", len(values))
		}
		for _, value := range values {
			if plain, _, err := open(s, "login-session", value); err == nil && string(plain) != string(packed) {
				t.Errorf("opened what was never sealed: %q", plain)
			}
		}
		if opened, err := unpackSession(content); err == nil && len(rawTokens(opened.parts)) != 3 {
			t.Error("unpacked half a session")
		}
		begun := pendingCookies(pl, req)
		if len(begun) > maxPendingLogins {
			t.Errorf("%d pending logins are counted", len(begun))
		}
		for _, c := range begun {
			if !strings.HasPrefix(c.Name, "login-state.") || strings.ContainsAny(c.Name, "=;") {
				t.Errorf("name %q", c.Name)
			}
		}
		if pending := readPending(content); pending != nil && len(pending.State) != 43 {
			t.Errorf("state %q", pending.State)
		}
		own := ownCookiePattern(&cookie{baseName: "login-session"}, &cookie{baseName: "login-state"})
		stripCookies(own, req)
		rest := req.Header.Get("Cookie")
		if len(strings.ReplaceAll(rest, " ", "")) > len(line) {
			t.Errorf("%q became %q", line, rest)
		}
		for _, part := range strings.Split(rest, ";") {
			if part != "" && own.MatchString(part) {
				t.Errorf("%q of ours was left in %q", part, rest)
			}
		}
	})
}
