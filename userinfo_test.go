package oidc

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestUserinfo(t *testing.T) {
	options := map[string]any{"userinfo": true, "forwardHeaders": map[string]string{"X-Locale": "locale", "X-Info": "userinfo.email", "X-Mail": "email"}}
	t.Run("merged under the ID token", func(t *testing.T) {
		p := newFakeProvider(t)
		p.edit("userinfo", func(info map[string]any) { info["email"] = "info@example.com" })
		seen := newBrowser(t, start(t, p.options(options))).signIn("/").upstream()
		if seen.Headers.Get("X-Locale") != "en" || seen.Headers.Get("X-Mail") != "ada@example.com" || seen.Headers.Get("X-Info") != "info@example.com" {
			t.Errorf("got %q", seen.Headers)
		}
		if p.count("userinfo") != 1 {
			t.Errorf("expected one call at sign-in, got %d", p.count("userinfo"))
		}
		for endpoint, method := range map[string]string{"discovery": "GET", "jwks": "GET", "token": "POST", "userinfo": "GET"} {
			call := p.lastCall(endpoint)
			if call.method != method || !strings.HasPrefix(call.header.Get("Accept"), "application/json") ||
				!strings.HasPrefix(call.header.Get("User-Agent"), "traefik-oidc/") || endpoint != "token" && len(call.form) > 0 {
				t.Errorf("%s: got %s %q %q", endpoint, call.method, call.form, call.header)
			}
		}
	})
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		edit   func(map[string]any)
		status int
	}{
		{"of somebody else", nil, func(info map[string]any) { info["sub"] = "eve" }, 502},
		{"without subject", nil, func(info map[string]any) { delete(info, "sub") }, 502},
		{"refused", answerText(401, "text/plain", ""), nil, 500},
		{"not allowed", answerText(403, "text/plain", ""), nil, 500},
		{"by another method", answerText(405, "text/html", ""), nil, 500},
		{"as a malformed request", answerJSON(400, map[string]any{"error": "invalid_request"}), nil, 500},
		{"203, from a proxy in between", answerJSON(203, map[string]any{"sub": "eve"}), nil, 502},
		{"too often", answerText(429, "text/plain", ""), nil, 503},
		{"HTML", answerHTML(), nil, 503},
		{"a signed answer that is none", answerText(200, "application/jwt", "e30.e30.AA"), nil, 502},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newFakeProvider(t)
			p.answer("userinfo", c.answer)
			p.edit("userinfo", c.edit)
			s := start(t, p.options(options))
			b := newBrowser(t, s)
			b.open("/").expect(c.status)
			if b.cookie(s.sessionCookie()) != nil {
				t.Error("there is a session")
			}
			s.expectLog("userinfo")
		})
	}
}

// UserInfo may be a signed JWT (OIDC Core 5.3.2), which is believed as much as an ID token.
func TestUserinfoSigned(t *testing.T) {
	t.Parallel()
	now := time.Now().Unix()
	stranger := &providerKey{kid: "one", alg: "RS256", private: newPrivateKey("RS256")}
	for _, c := range []struct {
		name   string
		change map[string]any
		key    *providerKey
		status int
		log    string
	}{
		{"good", nil, nil, 200, ""},
		{"without issuer and audience", map[string]any{"iss": nil, "aud": nil}, nil, 200, ""},
		{"for us among others", map[string]any{"aud": []string{"app", "project"}}, nil, 200, ""},
		{"of somebody else", map[string]any{"sub": "eve"}, nil, 502, "userinfo: sub"},
		{"without subject", map[string]any{"sub": nil}, nil, 502, "userinfo: sub"},
		{"of another issuer", map[string]any{"iss": "https://evil.example.com"}, nil, 502, "userinfo: issuer: expected"},
		{"for another client", map[string]any{"aud": "other"}, nil, 502, "userinfo: audience: expected"},
		{"ended", map[string]any{"exp": now - 3600}, nil, 502, "userinfo: exp: expired"},
		{"a logout token", map[string]any{"events": map[string]any{}}, nil, 502, "userinfo: events"},
		{"signed by a stranger", nil, stranger, 502, "userinfo: signature"},
		{"not signed", nil, &providerKey{alg: "none"}, 502, "userinfo: alg"},
	} {
		p := newFakeProvider(t)
		claims := map[string]any{"iss": p.issuer, "aud": "app", "sub": "ada", "locale": "fr"}
		for name, value := range c.change {
			if claims[name] = value; value == nil {
				delete(claims, name)
			}
		}
		p.answer("userinfo", func(rw http.ResponseWriter, req *http.Request) {
			ours := p.key
			if c.key != nil {
				p.key = c.key
			}
			answerText(200, "application/jwt", p.sign(claims)+"\n")(rw, req)
			p.key = ours
		})
		s := start(t, p.options(map[string]any{"userinfo": true, "forwardHeaders": map[string]string{"X-Locale": "userinfo.locale"}}))
		r := newBrowser(t, s).open("/")
		if r.status != c.status || c.status == 200 && r.upstream().Headers.Get("X-Locale") != "fr" {
			t.Errorf("%s: expected %d, got %s", c.name, c.status, r.story())
		}
		if c.log != "" {
			s.expectLog(c.log)
		}
	}
}
