package oidc

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestCallbackIsRefused(t *testing.T) {
	// What arrives at the callback of a browser with one pending login. None of it may reach the token endpoint.
	type bend func(b *browser, s *testSite, back *url.URL)
	with := func(name, value string) bend {
		return func(_ *browser, _ *testSite, back *url.URL) { replaceQuery(back, name, value) }
	}
	adding := func(query string) bend {
		return func(_ *browser, _ *testSite, back *url.URL) { back.RawQuery += query }
	}
	for _, c := range []struct {
		name  string
		bend  bend
		wants []string // in the log
	}{
		{"another browser", func(b *browser, s *testSite, back *url.URL) { b.forgetCookies() }, []string{"no pending login"}},
		{"another state", with("state", strings.Repeat("A", 43)), []string{"no pending login"}},
		{"no state", with("state", ""), []string{"callback"}},
		{"no code", with("code", ""), []string{"code"}},
		{"two states", adding("&state=x"), []string{"state", "more than once"}},
		{"two codes", adding("&code=x"), []string{"code", "more than once"}},
		{"two issuers", adding("&iss=a&iss=b"), []string{"iss", "more than once"}},
		{"an escape that is none", adding("&x=%zz"), []string{"cannot be read"}},
		{"another provider's answer", with("iss", "https://evil.example.com"), []string{"iss", "evil.example.com"}},
		{"an issuer in another spelling", func(b *browser, s *testSite, back *url.URL) {
			replaceQuery(back, "iss", strings.ToUpper(s.options["issuer"].(string)))
		}, []string{"iss"}},
		{"an issuer that is empty", adding("&iss="), []string{"iss", `got ""`}},
		{"state cookie with one character changed", func(b *browser, s *testSite, back *url.URL) {
			name := b.cookieNames(s.stateCookie())[0]
			b.setCookie(name, flipped(b.cookie(name).Value))
		}, []string{"no pending login"}},
		{"state cookie under another attempt's name", func(b *browser, s *testSite, back *url.URL) {
			name := b.cookieNames(s.stateCookie())[0]
			value := b.cookie(name).Value
			b.forgetCookies()
			b.setCookie(name[:len(name)-4]+"0000", value)
		}, []string{"no pending login"}},
		{"state cookie of another middleware", func(b *browser, s *testSite, back *url.URL) {
			other := start(s.t, s.options)
			c := newBrowser(s.t, other)
			theirs := c.begin("/")
			b.forgetCookies()
			for _, name := range c.cookieNames(other.stateCookie()) {
				b.setCookie(strings.Replace(name, other.stateCookie(), s.stateCookie(), 1), c.cookie(name).Value)
			}
			replaceQuery(back, "state", theirs.Query().Get("state"))
		}, []string{"no pending login"}},
		{"another host", func(b *browser, s *testSite, back *url.URL) {
			b.routes["https://other.example.com"] = s
			for _, name := range b.cookieNames(s.stateCookie()) {
				value := b.cookie(name).Value
				b.mu.Lock()
				b.cookies[name] = &kept{Cookie: &http.Cookie{Name: name, Value: value, Path: "/"}, host: "other.example.com"}
				b.mu.Unlock()
			}
			back.Host = "other.example.com"
		}, []string{"other.example.com"}},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newFakeProvider(t)
			s := start(t, p.options())
			b := newBrowser(t, s)
			back := b.answered(b.begin("/page"))
			c.bend(b, s, back)
			r := b.look(back.String())
			if r.status < 400 || r.status >= 500 && r.status != http.StatusBadGateway {
				t.Errorf("expected a refusal, got %s", r.trail)
			}
			if p.count("token") != 0 {
				t.Error("the code was sent to the token endpoint")
			}
			if b.cookie(s.sessionCookie()) != nil {
				t.Error("there is a session")
			}
			s.expectLog(c.wants...)
		})
	}
}

func replaceQuery(address *url.URL, name, value string) {
	query := address.Query()
	query.Set(name, value)
	if value == "" {
		query.Del(name)
	}
	address.RawQuery = query.Encode()
}

// flipped changes one character in the middle of a text.
func flipped(text string) string {
	at := len(text) / 2
	other := "A"
	if text[at] == 'A' {
		other = "B"
	}
	return text[:at] + other + text[at+1:]
}

func TestCallbackStateWorksOnce(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, p.options())
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page"))
	thief := b.copyOf() // with the state cookie
	b.open(back.String()).upstream()
	if names := b.cookieNames(s.stateCookie() + "."); len(names) > 0 {
		t.Errorf("the state cookie must be gone, got %q", names)
	}
	stranger := newBrowser(t, s)
	stranger.look(back.String()).expect(http.StatusBadRequest)
	time.Sleep(repeatWindow)
	thief.look(back.String()).expect(http.StatusBadRequest)
	if p.count("token") != 1 || thief.cookie(s.sessionCookie()) != nil || stranger.cookie(s.sessionCookie()) != nil {
		t.Errorf("a used state was accepted again: %d token requests", p.count("token"))
	}
	s.expectLog("state was used before")
}

func TestCallbackStateExpires(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"stateCookie": map[string]any{"maxAge": 1}}))
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page"))
	keeper := b.copyOf() // keeps cookies longer than it was told
	for _, k := range keeper.cookies {
		k.expires = time.Time{}
	}
	time.Sleep(2100 * time.Millisecond)
	keeper.look(back.String()).expect(http.StatusBadRequest)
	s.expectLog("stateCookie.maxAge")
	if p.count("token") != 0 {
		t.Error("the code was sent to the token endpoint")
	}
}

// A callback that is sent twice, because the first was cut off or at the same time, gets the session that its code was good for.
func TestCallbackTwice(t *testing.T) {
	for _, kept := range []string{"in cookies", "in Redis"} {
		kept := kept
		t.Run(kept, func(t *testing.T) {
			p := newFakeProvider(t)
			options := map[string]any{"logoutUrl": "/logout"}
			redis := ""
			if kept == "in Redis" {
				redis = startRedis(t).address
				options["session"] = map[string]any{"store": map[string]any{"redis": map[string]any{"endpoints": redis}}}
			}
			s := start(t, p.options(options))
			b := newBrowser(t, s)
			back := b.answered(b.begin("/page"))
			var again []*browser
			for i := 0; i < 8; i++ {
				again = append(again, b.copyOf()) // what the first answer set has not arrived
			}
			inParallel(len(again), func(i int) {
				if seen := again[i].open(back.String()).upstream(); seen.URI != "/page" {
					t.Errorf("ended at %q", seen.URI)
				}
			})
			if seen := b.open(back.String()).upstream(); seen.URI != "/page" || p.count("token") != 1 {
				t.Errorf("ended at %q, with %d token requests", seen.URI, p.count("token"))
			}
			half := newBrowser(t, s) // the cookie of the session arrived, that of the sign-in did not go
			back2 := half.answered(half.begin("/page"))
			other := half.copyOf()
			other.open(back2.String()).upstream()
			half.setCookie(s.sessionCookie(), other.cookie(s.sessionCookie()).Value)
			half.open(back2.String()).upstream()
			if redis != "" {
				config := &RedisConfig{Endpoints: []string{redis}}
				lives := askRedis(t, config, "EVAL",
					`local n = 0 for _, k in ipairs(redis.call("KEYS", "*session:*")) do if redis.call("TTL", k) > 60 then n = n + 1 end end return n`, "0")
				if lives != "2" {
					t.Errorf("expected two sessions that go on, got %s", lives)
				}
			}
			late := again[0].copyOf()
			late.forgetCookies()
			late.look(back.String()).expect(http.StatusBadRequest) // not without the cookie of the pending login
			b.open("/logout")
			again[1].fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized) // it is one session
		})
	}
}

// What went wrong goes wrong for the second callback as well, and costs nothing more.
func TestCallbackTwiceInVain(t *testing.T) {
	p := newFakeProvider(t)
	p.answer("token", answerText(400, "application/json", `{"error":"invalid_grant"}`))
	s := start(t, p.options())
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page"))
	c := b.copyOf()
	b.look(back.String()).expect(http.StatusBadRequest)
	c.look(back.String()).expect(http.StatusBadRequest)
	if p.count("token") != 1 {
		t.Errorf("expected one token request, got %d", p.count("token"))
	}
}

func TestCallbackBookmarked(t *testing.T) {
	p := newFakeProvider(t)
	b := newBrowser(t, start(t, p.options()))
	if seen := b.open("/oidc/callback").upstream(); seen.URI != "/" {
		t.Errorf("expected the front page after a sign-in, got %q", seen.URI)
	}
	if seen := b.open("/oidc/callback").upstream(); seen.URI != "/" {
		t.Errorf("expected the front page, got %q", seen.URI)
	}
}

func TestCallbackIssuer(t *testing.T) {
	p := newFakeProvider(t)
	p.edit("discovery", func(d map[string]any) { d["authorization_response_iss_parameter_supported"] = true })
	s := start(t, p.options())
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page"))
	b.look(back.String()).expect(http.StatusBadGateway)
	s.expectLog("iss")
	back = b.answered(b.begin("/page"))
	replaceQuery(back, "iss", p.issuer)
	b.open(back.String()).upstream()
	// An error of another provider, or of one that does not say who it is, ends there as well: it is not believed.
	p.refuse("access_denied", "")
	for issuer, status := range map[string]int{"": http.StatusBadGateway, "https://evil.example.com": http.StatusBadGateway,
		p.issuer: http.StatusForbidden} {
		fresh := newBrowser(t, s)
		back = fresh.answered(fresh.begin("/page"))
		replaceQuery(back, "iss", issuer)
		fresh.look(back.String()).expect(status)
	}
	if p.count("token") != 1 {
		t.Errorf("expected one exchange, got %d", p.count("token"))
	}
}

func TestCallbackProviderRefuses(t *testing.T) {
	for _, c := range []struct {
		code   string
		status int
	}{
		{"access_denied", http.StatusForbidden}, {"login_required", http.StatusForbidden}, {"interaction_required", http.StatusForbidden},
		{"consent_required", http.StatusForbidden}, {"account_selection_required", http.StatusForbidden},
		{"invalid_scope", http.StatusInternalServerError}, {"unauthorized_client", http.StatusInternalServerError},
		{"invalid_request", http.StatusInternalServerError}, {"something_of_theirs", http.StatusBadGateway},
		{"temporarily_unavailable", http.StatusServiceUnavailable}, {"server_error", http.StatusServiceUnavailable},
	} {
		c := c
		t.Run(c.code, func(t *testing.T) {
			p := newFakeProvider(t)
			p.refuse(c.code, "because <b>we</b> say so")
			s := start(t, p.options())
			b := newBrowser(t, s)
			r := b.open("/page").expect(c.status, "/page")
			if strings.Contains(r.body, "<b>we</b>") || len(r.trail) != 3 {
				t.Errorf("expected one page without the provider's markup, got %s\n%s", r.trail, r.body)
			}
			s.expectLog(c.code, "because")
			if names := b.cookieNames(s.stateCookie()); len(names) > 0 {
				t.Errorf("the attempt has ended, got %q", names)
			}
			p.answer("authorize", nil)
			b.signIn("/page")
		})
	}
}

func TestCallbackTokenEndpointTroubles(t *testing.T) {
	t.Parallel()
	thief := newFakeProvider(t) // where a redirect would take the code and the secret
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		status int
		wants  []string
	}{
		{"HTML", answerHTML(), 503, []string{"token endpoint"}},
		{"500", answerText(500, "text/plain", "oops"), 503, []string{"token endpoint", "500"}},
		{"401", answerJSON(401, map[string]any{"error": "invalid_client", "error_description": "bad credentials"}), 500,
			[]string{"configuration", "invalid_client", "bad credentials", "clientSecret"}},
		{"invalid_grant", answerJSON(400, map[string]any{"error": "invalid_grant", "error_description": "code expired"}), 400,
			[]string{"invalid_grant", "code expired"}},
		{"401 without a word", answerText(401, "text/plain", ""), 502, []string{"401", "clientSecret"}},
		{"invalid_grant in a 200", answerJSON(200, map[string]any{"error": "invalid_grant"}), 400, []string{"invalid_grant"}},
		{"invalid_client in a 200", answerJSON(200, map[string]any{"error": "invalid_client"}), 500,
			[]string{"configuration", "invalid_client", "clientSecret"}},
		{"invalid_request", answerJSON(400, map[string]any{"error": "invalid_request",
			"error_description": "Invalid or expired code parameter."}), 400, []string{"expired code"}},
		{"access_denied", answerJSON(403, map[string]any{"error": "access_denied"}), 403, []string{"access_denied"}},
		{"invalid_target", answerJSON(400, map[string]any{"error": "invalid_target"}), 502, []string{"invalid_target"}},
		{"not now", answerJSON(400, map[string]any{"error": "temporarily_unavailable"}), 503, []string{"temporarily_unavailable"}},
		{"10 MB", answerText(200, "application/json", `{"access_token":"`+strings.Repeat("x", 10<<20)+`"}`), 503, []string{"larger than"}},
		{"endless", answerEndless(), 503, []string{"larger than"}},
		{"nothing", answerNothing(), 503, []string{"in time"}},
		{"broken connection", answerBroken(), 503, []string{"token endpoint"}},
		{"redirect", answerRedirect(thief.URL + "/token"), 503, []string{"token endpoint", "307"}},
		{"no access token", answerJSON(200, map[string]any{"token_type": "Bearer", "id_token": "x"}), 503, []string{"access_token"}},
		{"no ID token", answerJSON(200, map[string]any{"token_type": "Bearer", "access_token": "x"}), 502, []string{"id_token"}},
		{"type we do not know", answerJSON(200, map[string]any{"token_type": "mac", "access_token": "x", "id_token": "x"}), 503,
			[]string{"token_type", "mac"}},
		{"array", answerText(200, "application/json", `[1]`), 503, []string{"token endpoint"}},
		{"two access tokens", answerText(200, "application/json", `{"access_token":"a","access_token":"b","token_type":"Bearer"}`), 503,
			[]string{"token endpoint"}},
		{"ID token that is none", answerJSON(200, map[string]any{"token_type": "Bearer", "access_token": "x", "id_token": "a.b"}), 502,
			[]string{"id token"}},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newFakeProvider(t)
			p.answer("token", c.answer)
			s := start(t, p.options(map[string]any{"clientConfig": map[string]any{"timeoutSeconds": 1}}))
			b := newBrowser(t, s)
			begin := time.Now()
			r := b.open("/page").expect(c.status, "/page")
			if time.Since(begin) > 15*time.Second {
				t.Errorf("took %s", time.Since(begin))
			}
			if b.cookie(s.sessionCookie()) != nil {
				t.Error("there is a session")
			}
			if p.count("token") != 1 {
				t.Errorf("a code is sent once, got %d", p.count("token"))
			}
			if strings.Contains(s.logs()+r.body, p.clientSecret) {
				t.Error("the client secret was written")
			}
			s.expectLog(c.wants...)
		})
	}
	if thief.count("token") != 0 {
		t.Error("a POST followed a redirect")
	}
}

func TestCallbackFormPost(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"responseMode": "form_post"}))
	b := newBrowser(t, s)
	b.signIn("/page")
	if p.lastCall("authorize").form.Get("response_mode") != "form_post" {
		t.Error("form_post was not asked for")
	}
	p.answer("authorize", answerText(200, "text/html",
		`<form method="post" action="`+app+`/oidc/callback"><input type="hidden" name="state" value="x"></form>`))
	fresh := newBrowser(t, s)
	fresh.open("/page").expect(http.StatusBadRequest)
	p.refuse("login_required", "ask nobody")
	fresh.open("/page").expect(http.StatusForbidden, "/page")
	s.expectLog("login_required", "ask nobody")
	if names := fresh.cookieNames(s.stateCookie() + "."); len(names) != 1 || p.count("token") != 1 {
		t.Errorf("expected the first attempt of two to be left, got %q, %d token requests", names, p.count("token"))
	}
}

func TestCallbackMethods(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options())
	b := newBrowser(t, s)
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch} {
		r := b.fetch(method, "/oidc/callback", "")
		if r.isUpstream() || r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") == "" {
			t.Errorf("%s: %d %q", method, r.status, r.header)
		}
	}
}

func TestCallbackIsNotRetriedByItself(t *testing.T) {
	// A page that signs in again by itself would lead around in circles while the provider is in trouble.
	p := newFakeProvider(t)
	s := start(t, p.options())
	p.answer("token", answerText(500, "text/plain", ""))
	r := newBrowser(t, s).open("/page").expect(http.StatusServiceUnavailable, "Sign in again")
	if r.header.Get("Refresh") != "" || r.header.Get("Retry-After") == "" {
		t.Errorf("expected Retry-After and no Refresh, got %q", r.header)
	}
}

func TestCallbackAnswersTellNobody(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options())
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page"))
	for _, r := range []*reply{b.look(back.String()), newBrowser(t, s).look(back.String())} {
		if r.header.Get("Referrer-Policy") != "no-referrer" || r.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%d: got %q", r.status, r.header)
		}
	}
}
