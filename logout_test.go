package oidc

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

var logoutOptions = map[string]any{"logoutUrl": "/logout", "postLogoutRedirectUrl": "/bye", "bypass": "Path(`/bye`)"}

func TestLogout(t *testing.T) {
	for _, how := range []string{"a link of the same site", "a form of the same site", "typed"} {
		how := how
		t.Run(how, func(t *testing.T) {
			p := newFakeProvider(t)
			issued := ""
			p.edit("token", func(d map[string]any) { issued = d["id_token"].(string) })
			s, b := signedIn(t, p, logoutOptions)
			copied := b.copyOf()
			var r *reply
			switch how {
			case "a link of the same site":
				r = b.follow(app+"/page", "/logout")
			case "a form of the same site":
				r = b.post(app+"/page", "/logout", url.Values{})
			default:
				r = b.open("/logout")
			}
			if seen := r.upstream(); !strings.HasPrefix(seen.URI, "/bye") {
				t.Errorf("expected to land at /bye, got %q", seen.URI)
			}
			sent := p.lastCall("end_session").form
			if sent.Get("id_token_hint") != issued || sent.Get("client_id") != "app" || sent.Get("post_logout_redirect_uri") != app+"/bye" ||
				sent.Has("state") { // nobody would check it
				t.Errorf("the provider was told %q", sent)
			}
			if p.count("revocation") != 1 || p.lastCall("revocation").form.Get("token") == "" {
				t.Errorf("the refresh token was not given back")
			}
			if names := b.cookieNames(""); len(names) > 0 {
				t.Errorf("cookies stayed: %q", names)
			}
			b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
			copied.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
			s.expectLog("signed out", "ada")
			b.signIn("/") // and may come again
		})
	}
}

func TestLogoutFromAnotherSite(t *testing.T) {
	p := newFakeProvider(t)
	_, b := signedIn(t, p, logoutOptions)
	for _, try := range []struct {
		name string
		send func() *reply
	}{
		{"a link", func() *reply { return b.follow("https://evil.example.org/", app+"/logout") }},
		{"a form", func() *reply { return b.post("https://evil.example.org/", app+"/logout", url.Values{}) }},
		{"a picture", func() *reply {
			req := b.request(http.MethodGet, "/logout", "")
			req.Header.Set("Sec-Fetch-Mode", "no-cors")
			req.Header.Set("Sec-Fetch-Site", "cross-site")
			return b.send(req, "cross-site", &reply{t: t})
		}},
		{"a form, by an old browser", func() *reply {
			req := b.request(http.MethodPost, "/logout", "")
			req.Header.Set("Origin", "https://evil.example.org")
			return b.send(req, "none", &reply{t: t})
		}},
		{"a link, by an old browser", func() *reply {
			req := b.request(http.MethodGet, "/logout", "")
			req.Header.Set("Referer", "https://evil.example.org/page")
			return b.send(req, "none", &reply{t: t})
		}},
	} {
		r := try.send()
		if len(r.cookies) > 0 || p.count("end_session") > 0 || p.count("revocation") > 0 {
			t.Errorf("%s signed the user out: %s", try.name, r.story())
		}
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	page := b.follow("https://evil.example.org/", app+"/logout").expect(http.StatusOK, "Sign out", `method="post"`)
	if !strings.Contains(page.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") && page.header.Get("X-Frame-Options") == "" {
		t.Errorf("the question can be framed: %q", page.header)
	}
	b.post(app+"/logout", "/logout", url.Values{})
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
}

func TestLogoutWithoutTheProvider(t *testing.T) {
	t.Parallel()
	revocation := func(answer http.HandlerFunc) func(p *fakeProvider) {
		return func(p *fakeProvider) { p.answer("revocation", answer) }
	}
	for _, c := range []struct {
		name string
		told string // to the operator, of the refresh token
		bend func(p *fakeProvider)
	}{
		{"it is there", "", func(*fakeProvider) {}},
		{"it has no end_session_endpoint", "", func(p *fakeProvider) {
			p.edit("discovery", func(d map[string]any) { delete(d, "end_session_endpoint"); delete(d, "revocation_endpoint") })
		}},
		{"its revocation endpoint is broken", "500 Internal Server Error; the refresh token stays good there",
			revocation(answerText(500, "text/plain", ""))},
		{"its revocation endpoint refuses", "400 Bad Request; the refresh token stays good there", revocation(answerText(400, "text/plain", ""))},
		{"its revocation endpoint says nothing", "", revocation(answerNothing())},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newFakeProvider(t)
			c.bend(p)
			s, b := signedIn(t, p, logoutOptions, map[string]any{"clientConfig": map[string]any{"timeoutSeconds": 5}})
			if seen := b.open("/logout").upstream(); !strings.HasPrefix(seen.URI, "/bye") {
				t.Errorf("landed at %q", seen.URI)
			}
			b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
			if c.told != "" {
				s.expectLog(c.told)
				if n := p.count("revocation"); n != 1 {
					t.Errorf("%d requests, while the browser waits", n)
				}
			} else if logs := s.logs(); strings.Contains(logs, "stays good there") {
				t.Errorf("got %s", logs)
			}
		})
	}
	t.Run("nothing says where to land", func(t *testing.T) {
		p := newFakeProvider(t)
		p.edit("discovery", func(d map[string]any) { delete(d, "end_session_endpoint") })
		_, b := signedIn(t, p, map[string]any{"logoutUrl": "/logout"})
		b.open("/logout").expect(http.StatusOK, "signed out", `href="/"`)
	})
	t.Run("a restarted Traefik cannot reach it", func(t *testing.T) {
		p := newFakeProvider(t)
		_, b := signedIn(t, p, logoutOptions, sessionOptions("name", "kept"))
		cookie := b.cookie("kept").Value
		other := start(t, p.options(logoutOptions, sessionOptions("name", "kept"),
			map[string]any{"clientConfig": map[string]any{"timeoutSeconds": 1, "maxRetries": 0}}))
		p.away(true)
		b.routes[app] = other
		b.setCookie("kept", cookie)
		r := b.open("/logout")
		if b.cookie("kept") != nil || r.status >= 500 {
			t.Errorf("the session stayed: %s", r.story())
		}
	})
}

func TestLogoutOfNobody(t *testing.T) {
	p := newFakeProvider(t)
	b := newBrowser(t, start(t, p.options(logoutOptions)))
	r := b.open("/logout")
	if r.status >= 400 {
		t.Errorf("signing out twice is no mistake: %s", r.story())
	}
}

func TestLogoutLanding(t *testing.T) {
	// The provider may come back without state, or with one we do not know.
	p := newFakeProvider(t)
	_, b := signedIn(t, p, map[string]any{"logoutUrl": "/logout", "postLogoutRedirectUrl": app + "/bye", "bypass": "Path(`/bye`)"})
	b.open("/logout")
	for _, path := range []string{"/bye", "/bye?state=unknown", "/bye?state="} {
		b.open(path).upstream()
	}
}

func TestLogoutOfLargeSession(t *testing.T) {
	p := newFakeProvider(t)
	p.user["filler"] = incompressible(9000)
	s, b := signedIn(t, p, logoutOptions)
	if len(b.cookieNames(s.sessionCookie())) < 3 {
		t.Fatal("expected chunks")
	}
	b.open("/logout")
	if names := b.cookieNames(s.sessionCookie()); len(names) > 0 {
		t.Errorf("chunks stayed: %q", names)
	}
}

func TestLogoutCookiesOfADomain(t *testing.T) {
	p := newFakeProvider(t)
	_, b := signedIn(t, p, logoutOptions, sessionOptions("domain", "example.com"), map[string]any{"csrf": map[string]any{}})
	b.open("/logout")
	if names := b.cookieNames(""); len(names) > 0 {
		t.Errorf("cookies stayed: %q", names)
	}
}

// sendLogoutToken posts to the back channel, as a provider's server does: no cookies, no browser's headers.
func sendLogoutToken(s *testSite, body string) *reply {
	s.t.Helper()
	return sendTo(s, "/backchannel", "application/x-www-form-urlencoded;charset=UTF-8", body)
}

func sendTo(s *testSite, path, kind, body string) *reply {
	s.t.Helper()
	b := newBrowser(s.t, s)
	req := b.request(http.MethodPost, path, body)
	req.Header.Set("Content-Type", kind)
	return b.send(req, "none", &reply{t: s.t})
}

func logoutForm(token string) string { return "logout_token=" + url.QueryEscape(token) }

// sidOf is the provider's name of the latest session.
func sidOf(p *fakeProvider) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	sid := ""
	number := -1
	for _, grant := range p.grants {
		var n int
		if _, err := fmt.Sscanf(grant.sid, "sid-%d", &n); err == nil && n > number {
			sid, number = grant.sid, n
		}
	}
	return sid
}

func TestLogoutByTheProvider(t *testing.T) {
	p := newFakeProvider(t)
	s, b := signedIn(t, p, map[string]any{"backchannelLogoutUrl": "/backchannel", "logoutUrl": "/logout"})
	first := sidOf(p)
	other := newBrowser(t, s)
	other.signIn("/")
	copied := b.copyOf()

	r := sendLogoutToken(s, logoutForm(p.logoutToken(map[string]any{"sid": first, "sub": "ada", "other": "claim"}))+"&other=parameter") // 2.4, 2.5: ignored
	r.expect(http.StatusOK)
	if r.header.Get("Cache-Control") != "no-store" || len(r.cookies) > 0 {
		t.Errorf("got %q", r.header)
	}
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	copied.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	other.fetch(http.MethodGet, "/", "").upstream()
	if b.copyOf().open("/logout"); p.lastCall("end_session").form.Get("id_token_hint") == "" {
		t.Error("who signs out here as well is not told to the provider")
	}

	sendLogoutToken(s, logoutForm(p.logoutToken(map[string]any{"sub": "ada"}))).expect(http.StatusOK)
	other.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	time.Sleep(5 * time.Millisecond)
	b.signIn("/") // the next session is another
	s.reload()
	copied.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	sendLogoutToken(s, logoutForm(p.logoutToken(map[string]any{"sid": "never heard of"}))).expect(http.StatusOK)
	b.fetch(http.MethodGet, "/", "").upstream()
}

// Who was signed out stays so when a reload changes how the provider is called, and in a middleware that calls it in another way.
func TestLogoutIsKnownToEveryConnection(t *testing.T) {
	p := newFakeProvider(t)
	shared := sessionOptions("name", "shared", "secret", "a-secret-of-32-bytes-or-so-at-all")
	_, b := signedIn(t, p, shared, logoutOptions)
	other := start(t, p.options(shared, map[string]any{"clientConfig": map[string]any{"timeoutSeconds": 4}}))
	b.routes[app+"/other"] = other
	b.open("/other").upstream()
	copied := b.copyOf()
	b.open("/logout")
	for _, path := range []string{"/", "/other"} {
		copied.fetch(http.MethodGet, path, "").expect(http.StatusUnauthorized)
	}
	changed := start(t, p.options(shared, map[string]any{"endpoints": map[string]any{"userinfo": p.issuer + "/userinfo"}}))
	copied.routes[app+"/changed"] = changed
	copied.fetch(http.MethodGet, "/changed", "").expect(http.StatusUnauthorized)
}

// A session that was begun by a replica whose clock is ahead, or before this clock was set back, is signed out as any other.
func TestLogoutOfASessionFromTheFuture(t *testing.T) {
	p := newFakeProvider(t)
	s, b := signedIn(t, p, map[string]any{"logoutUrl": "/logout"})
	if s.server == nil {
		t.Skip("a session can be changed in this process alone")
	}
	m := testMiddlewareOf(s)
	opened, _, err := openSession(context.Background(), m.sessions, s.sessionCookie(), b.cookie(s.sessionCookie()).Value)
	if err != nil {
		t.Fatal(err)
	}
	opened.Start = time.Now().Add(time.Minute).UnixMilli()
	packed, _ := packSession(opened)
	b.setCookie(s.sessionCookie(), seal(m.sessions.sealer, s.sessionCookie(), packed))
	line := b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	withHeaders(s, "Cookie: "+line).upstream()
	b.open("/logout")
	if withHeaders(s, "Cookie: "+line).isUpstream() {
		t.Error("a copy of its cookie is still good")
	}
}

// The provider may end a session before we have heard that it began.
func TestLogoutByTheProviderDuringTheSignIn(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"backchannelLogoutUrl": "/backchannel"}))
	b := newBrowser(t, s)
	back := b.answered(b.begin("/"))
	p.answer("token", func(rw http.ResponseWriter, req *http.Request) {
		sendLogoutToken(s, logoutForm(p.logoutToken(map[string]any{"sid": sidOf(p)}))).expect(http.StatusOK)
		time.Sleep(5 * time.Millisecond)
		p.usual("token", rw, req)
	})
	b.look(back.String())
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	p.answer("token", nil)
	b.signIn("/")
}

func TestLogoutTokenIsRefused(t *testing.T) {
	p := newFakeProvider(t)
	s, b := signedIn(t, p, map[string]any{"backchannelLogoutUrl": "/backchannel"})
	sid := sidOf(p)
	claims := func(pairs ...any) string {
		made := map[string]any{"sid": sid, "sub": "ada"}
		for i := 0; i < len(pairs); i += 2 {
			made[pairs[i].(string)] = pairs[i+1]
		}
		return logoutForm(p.logoutToken(made))
	}
	now := time.Now().Unix()
	event := "http://schemas.openid.net/event/backchannel-logout"
	stranger := &providerKey{kid: "one", alg: "RS256", private: newPrivateKey("RS256")}
	headed := func(name, value string) string {
		p.edit("header", func(h map[string]any) { h[name] = value })
		defer p.edit("header", nil)
		return claims()
	}
	ours := p.key
	signedBy := func(key *providerKey) string {
		p.key = key
		defer func() { p.key = ours }()
		return claims()
	}
	elliptic := &providerKey{kid: "two", alg: "ES256", private: commonKey("ES256")}
	p.keys = append(p.keys, elliptic) // published as well, but not what our tokens are signed with
	for name, body := range map[string]string{
		"none": "", "an empty one": "logout_token=", "two": claims() + "&" + claims(), "no JWT": "logout_token=abc",
		"another parameter": "other=1", "a stranger's": signedBy(stranger), "alg none": headed("alg", "none"),
		"no signature": signedBy(&providerKey{alg: "none"}), "another algorithm of the provider": signedBy(elliptic),
		"an ID token by its type": headed("typ", "at+jwt"),
		"another issuer":          claims("iss", "https://evil.example.com"), "another client": claims("aud", "other"),
		"another client beside ours": claims("aud", []string{"app", "other"}),
		"no time":                    claims("iat", nil), "of tomorrow": claims("iat", now+86400), "ended": claims("exp", now-3600), "no end": claims("exp", nil),
		"no name": claims("jti", nil), "no event": claims("events", nil), "another event": claims("events", map[string]any{"x": map[string]any{}}),
		"event is a text": claims("events", event), "event's value is a text": claims("events", map[string]any{event: "yes"}),
		"a nonce": claims("nonce", "x"), "a nonce that is null": logoutForm(p.sign(map[string]any{"iss": p.issuer, "aud": "app", "iat": now,
			"exp": now + 60,
			"jti": "n1", "sid": sid, "nonce": nil, "events": map[string]any{event: map[string]any{}}})),
		"neither user nor session": claims("sub", nil, "sid", nil), "a broken escape": "logout_token=%zz",
		"too large": "logout_token=" + strings.Repeat("a", 100000),
	} {
		r := sendLogoutToken(s, body)
		if r.status != http.StatusBadRequest || r.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: expected 400 and no-store, got %d %q", name, r.status, r.header)
		}
		if b.fetch(http.MethodGet, "/", "").status != http.StatusOK {
			t.Fatalf("%s: ended the session", name)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		if r := b.fetch(method, "/backchannel?"+claims(), ""); r.status != http.StatusMethodNotAllowed && r.status != http.StatusBadRequest {
			t.Errorf("%s: got %d", method, r.status)
		}
	}
	sendTo(s, "/backchannel?"+claims(), "application/x-www-form-urlencoded", "").expect(http.StatusBadRequest)
	sendTo(s, "/backchannel", "text/plain", claims()).expect(http.StatusBadRequest) // what a form of any site can send
	b.fetch(http.MethodGet, "/", "").upstream()
	// A good one works once.
	good := claims("sid", "somebody else's", "sub", nil)
	sendLogoutToken(s, good).expect(http.StatusOK)
	sendLogoutToken(s, good).expect(http.StatusBadRequest)
	s.expectLog("jti")
	s.expectLog("expected exactly one logout_token")
	required := start(t, p.options(map[string]any{"backchannelLogoutUrl": "/backchannel", "backchannelLogoutSessionsRequired": true}))
	sendLogoutToken(required, logoutForm(p.logoutToken(map[string]any{"sub": "ada"}))).expect(http.StatusBadRequest)
	required.expectLog("sid")
}

// TestLogoutJunkIsLoggedNowAndThen: anybody can post to the back channel, and must not fill the operator's log.
func TestLogoutJunkIsLoggedNowAndThen(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"backchannelLogoutUrl": "/backchannel", "logLevel": "warn"}))
	for i := 0; i < 5; i++ {
		sendLogoutToken(s, "logout_token=abc").expect(http.StatusBadRequest)
	}
	if said := strings.Count(s.logs(), "back-channel logout: "); said != 1 {
		t.Errorf("expected one warning, got %d", said)
	}
}

// A logout token that names a session and a user ends the session if it is that user's (Back-Channel Logout 2.5): both must fit.
func TestLogoutOfOneUsersSessionAsAnothers(t *testing.T) {
	p := newFakeProvider(t)
	s, b := signedIn(t, p, map[string]any{"backchannelLogoutUrl": "/backchannel"})
	sid := sidOf(p)
	for _, claims := range []map[string]any{{"sid": sid, "sub": "eve"}, {"sid": "other", "sub": "ada"}, {"sid": sid + "\x00ada"},
		{"sub": sid}, {"sid": "ada"}} {
		sendLogoutToken(s, logoutForm(p.logoutToken(claims))).expect(http.StatusOK)
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	s.reload()
	b.fetch(http.MethodGet, "/", "").upstream()
	sendLogoutToken(s, logoutForm(p.logoutToken(map[string]any{"sid": sid, "sub": "ada"}))).expect(http.StatusOK)
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
}

func TestLogoutByTheProvidersPage(t *testing.T) {
	for _, trusted := range []string{"", "https://other.example.com"} {
		p := newFakeProvider(t)
		s, b := signedIn(t, p, map[string]any{"frontchannelLogoutUrl": "/frontchannel", "trustedIssuer": trusted})
		sid := sidOf(p)
		frame := newBrowser(t, s) // a third-party frame without cookies
		issuer := url.QueryEscape(p.issuer)
		refused := []string{"", "iss=" + issuer, "iss=https://evil.example.com&sid=" + sid, "iss=&sid=" + sid, "iss=" + issuer + "&sid=",
			"iss=" + issuer + "&sid=" + sid + "&sid=x"}
		if trusted != "" { // whose session of that name?
			refused = append(refused, "sid="+sid)
		}
		for _, query := range refused {
			if r := frame.look("/frontchannel?" + query).expect(http.StatusBadRequest); strings.Contains(r.body, "igned out") {
				t.Errorf("%s: nobody is, but it says %s", query, r.body)
			}
			b.fetch(http.MethodGet, "/", "").upstream()
		}
		s.expectLog("front-channel logout: sid must be given, once", "nobody was signed out")
		// A session whose name is not the provider's: Entra ID has the claim sid only when it is asked for.
		for _, stranger := range []string{"ada", "another"} { // the first is her sub
			if r := frame.look("/frontchannel?iss=" + issuer + "&sid=" + stranger).expect(http.StatusOK); strings.Contains(r.body, "igned out") {
				t.Errorf("nobody is signed out, but it says %s", r.body)
			}
		}
		b.fetch(http.MethodGet, "/", "").upstream()
		s.expectLog(`front-channel logout: no session is known with sid`)
		query := "sid=" + sid
		if trusted != "" {
			query += "&iss=" + issuer
		}
		r := frame.look("/frontchannel?"+query).expect(http.StatusOK, "Signed out")
		if strings.Contains(r.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") || r.header.Get("X-Frame-Options") != "" ||
			r.header.Get("Cache-Control") != "no-store" {
			t.Errorf("got %q", r.header)
		}
		b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	}
}

// otherLogouts leaves marks on a list, as logouts of others would.
func otherLogouts(list *boundedCache, count int) {
	for i := 0; i < count; i++ {
		cacheSet(list, fmt.Sprint("sid:other", time.Now().UnixNano(), i), time.Now().UnixMilli(), 0)
	}
}

func TestLogoutListTellsWhenItForgets(t *testing.T) {
	p := newFakeProvider(t)
	s, b := signedIn(t, p, map[string]any{"backchannelLogoutUrl": "/backchannel", "frontchannelLogoutUrl": "/frontchannel"})
	if s.server == nil {
		t.Skip("the memory can be filled in this process alone")
	}
	c := testMiddlewareOf(s)
	c.sessions.state.revoked.capacity = 100 * (cacheEntryCost + len("sid:other") + 25)
	c.sessions.state.frontchannelLogouts.capacity = c.sessions.state.revoked.capacity
	told := func() int {
		return strings.Count(s.logs(), " logouts in session.expiry (86400 s)")
	}
	sendLogoutToken(s, logoutForm(p.logoutToken(map[string]any{"sid": sidOf(p)}))).expect(http.StatusOK)
	line := b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	again := func() int { return b.raw("/", "Cookie: "+line, "Accept: */*").StatusCode }
	otherLogouts(c.sessions.state.revoked, 150) // all of them are remembered still
	sendLogoutToken(s, logoutForm(p.logoutToken(map[string]any{"sid": "x"}))).expect(http.StatusOK)
	if told() != 0 {
		t.Errorf("nothing is forgotten yet:\n%s", s.logs())
	}
	otherLogouts(c.sessions.state.revoked, 100)
	if again() != http.StatusOK {
		t.Fatal("this test means a logout that is forgotten")
	}
	for i := 0; i < 3; i++ {
		sendLogoutToken(s, logoutForm(p.logoutToken(map[string]any{"sid": fmt.Sprint("y", i)}))).expect(http.StatusOK)
	}
	if told() != 1 {
		t.Errorf("expected the operator to be told, once:\n%s", s.logs())
	}
	// A list whose forgotten entries had no session left says nothing.
	otherLogouts(c.sessions.state.frontchannelLogouts, 250)
	c.sessions.state.frontchannelLogouts.evictedUpTo = time.Now().Add(-25 * time.Hour)
	frame := "/frontchannel?iss=" + url.QueryEscape(p.issuer) + "&sid="
	newBrowser(t, s).look(frame + "z").expect(http.StatusOK)
	if told() != 1 {
		t.Errorf("what is forgotten was over:\n%s", s.logs())
	}
	otherLogouts(c.sessions.state.frontchannelLogouts, 100)
	newBrowser(t, s).look(frame + "z").expect(http.StatusOK)
	if told() != 2 {
		t.Errorf("expected the operator to be told of front-channel logouts, too:\n%s", s.logs())
	}
}

func TestLogoutByTheProvidersPageOfAStranger(t *testing.T) {
	// Anybody may load that page, with any sid. One that no session here has must not make us look through all of them, nor hold up
	// the requests of those who are signed in: it takes no lock of theirs.
	p := newFakeProvider(t)
	s, b := signedIn(t, p, map[string]any{"frontchannelLogoutUrl": "/frontchannel"})
	if s.server == nil {
		t.Skip("the lock can be held in this process alone")
	}
	sid := sidOf(p)
	done := make(chan bool)
	principalsLock.RLock()
	go func() {
		for i := 0; i < 50; i++ {
			newBrowser(t, s).look(fmt.Sprintf("/frontchannel?iss=%s&sid=stranger%d", url.QueryEscape(p.issuer), i))
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("it waits for the memory of those who are signed in")
	}
	principalsLock.RUnlock()
	b.fetch(http.MethodGet, "/", "").upstream()

	newBrowser(t, s).look("/frontchannel?iss=" + url.QueryEscape(p.issuer) + "&sid=" + sid).expect(http.StatusOK)
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
}

func TestLogoutWarnsOfCookieSessions(t *testing.T) {
	p := newFakeProvider(t)
	endless := "renewed forever"
	for _, c := range []struct {
		options map[string]any
		isTold  bool
	}{{nil, true}, {sessionOptions("maxLifetime", 604800), false}, {sessionOptions("sliding", false), false}} {
		s := start(t, p.options(map[string]any{"backchannelLogoutUrl": "/backchannel"}, c.options))
		s.expectLog("backchannelLogoutUrl: sessions are in cookies, so only this Traefik learns of a logout, until it restarts", "session.store.redis")
		if told := strings.Contains(s.logs(), endless); told != c.isTold {
			t.Errorf("%v: expected %t:\n%s", c.options, c.isTold, s.logs())
		}
	}
}

// Anybody who may write a middleware can name our issuer and our client, beside a secret and a provider of his own. What that provider
// says, and what happens at his addresses, is nothing to our sessions.
func TestLogoutByAStrangersMiddleware(t *testing.T) {
	p, evil := newFakeProvider(t), newFakeProvider(t)
	evil.rotateKeys("evil")
	addresses := map[string]any{"backchannelLogoutUrl": "/backchannel", "frontchannelLogoutUrl": "/frontchannel"}
	s, b := signedIn(t, p, addresses)
	stranger := start(t, p.options(addresses, map[string]any{"clientSecret": "another secret, of the stranger",
		"endpoints": map[string]any{"jwks": evil.issuer + "/jwks"}}))
	for _, claims := range []map[string]any{{"iss": p.issuer, "sub": "ada"}, {"iss": p.issuer, "sid": sidOf(p)}} {
		sendLogoutToken(stranger, logoutForm(evil.logoutToken(claims))).expect(http.StatusOK) // it is his own to end
		sendLogoutToken(s, logoutForm(evil.logoutToken(claims))).expect(http.StatusBadRequest)
	}
	newBrowser(t, stranger).look("/frontchannel?iss=" + url.QueryEscape(p.issuer) + "&sid=" + sidOf(p)).expect(http.StatusOK)
	b.fetch(http.MethodGet, "/", "").upstream()
	sendLogoutToken(s, logoutForm(p.logoutToken(map[string]any{"sub": "ada"}))).expect(http.StatusOK)
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
}

// Who signed out stays out when the secret is replaced, whichever of the two sealed the cookie.
func TestLogoutSurvivesANewSecret(t *testing.T) {
	p := newFakeProvider(t)
	old, fresh := "a secret of 2025, and a long one", "a secret of 2026, and a long one"
	before := start(t, p.options(map[string]any{"logoutUrl": "/logout"}, sessionOptions("name", "shared", "secret", old)))
	after := start(t, p.options(map[string]any{"logoutUrl": "/logout"},
		sessionOptions("name", "shared", "secret", fresh, "previousSecrets", []string{old})))
	later := start(t, p.options(map[string]any{"logoutUrl": "/logout"}, sessionOptions("name", "shared", "secret", fresh)))
	for _, route := range []struct{ in, out, again *testSite }{{before, before, after}, {before, after, before}, {after, after, later},
		{after, later, after}} {
		b := newBrowser(t, route.in)
		b.signIn("/")
		copied := b.copyOf()
		b.routes[app+"/logout"] = route.out
		copied.routes[app+"/"] = route.again
		b.open("/logout")
		copied.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
		route.again.expectLog("was logged out")
	}
}

// An ID token with many groups does not fit into an address: it is posted, by a page that does so by itself.
func TestLogoutWithALargeToken(t *testing.T) {
	p := newFakeProvider(t)
	var groups []any
	for i := 0; i < 100; i++ {
		groups = append(groups, incompressible(30))
	}
	p.user["groups"] = groups
	p.user["login_hint"] = "O.abc"
	issued := ""
	p.edit("token", func(d map[string]any) { issued = d["id_token"].(string) })
	_, b := signedIn(t, p, logoutOptions)
	c := b.copyOf()
	page := b.look("/logout").expect(http.StatusOK, "You are signed out here", `<button>Continue</button>`, pageScript)
	policy := page.header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "script-src "+pageScriptHash+";") || strings.Contains(policy, "unsafe") ||
		!strings.Contains(policy, "form-action 'self' https: http:") {
		t.Errorf("got the policy %q", policy)
	}
	if got := page.header.Get("Referrer-Policy"); got != "origin" {
		t.Errorf("the provider must be told the origin and no address, got %q", got)
	}
	if names := b.cookieNames(""); len(names) > 0 || p.count("end_session") != 0 {
		t.Errorf("expected to be signed out here, got %q", names)
	}
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	if seen := c.open("/logout").upstream(); !strings.HasPrefix(seen.URI, "/bye") { // whoever has a copy, at its end
		t.Errorf("expected to land at /bye, got %q", seen.URI)
	}
	_, b = signedIn(t, p, logoutOptions)
	if seen := b.open("/logout").upstream(); !strings.HasPrefix(seen.URI, "/bye") {
		t.Errorf("expected to land at /bye, got %q", seen.URI)
	}
	if sent := p.lastCall("end_session"); sent.method != http.MethodPost || sent.form.Get("id_token_hint") != issued ||
		sent.form.Get("post_logout_redirect_uri") != app+"/bye" {
		t.Errorf("the provider was told %s %q", sent.method, sent.form)
	}
	// A script gets no page to press a button on.
	_, b = signedIn(t, p, logoutOptions)
	sent := b.fetch(http.MethodGet, "/logout", "").location().Query()
	if sent.Get("id_token_hint") != "" || sent.Get("logout_hint") != "O.abc" || sent.Get("client_id") != "app" ||
		sent.Get("post_logout_redirect_uri") != app+"/bye" {
		t.Errorf("a script is sent away with %q", sent)
	}
}

// TestLogoutOfWhatCannotBeRead: a sign-out that did not find its session does not say that it is done: another replica, or a copy of the
// cookie, may still be let in. What is no cookie of ours stands in nobody's way.
func TestLogoutOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	const secret = "the-secret-of-what-cannot-be-read-1"
	s, b := signedIn(t, p, map[string]any{"logoutUrl": "/logout"}, sessionOptions("name", "unread", "secret", secret))
	p.user["filler"] = incompressible(9000)
	large := newBrowser(t, s)
	large.signIn("/")
	parts := large.cookieNames("unread")
	if len(parts) < 3 {
		t.Fatalf("expected a few chunks, got %q", parts)
	}
	small := b.cookie("unread").Value
	own := newSealer([]string{secret}, p.issuer, p.clientID, "session")
	foreign := newSealer([]string{"another secret, long enough for it"}, p.issuer, p.clientID, "session")
	var whole []string
	for _, part := range parts {
		whole = append(whole, part+"="+large.cookie(part).Value)
	}
	for what, row := range map[string]struct {
		cookies []string
		status  int
	}{
		"none":                    {nil, http.StatusOK},
		"another's":               {[]string{"unread=x"}, http.StatusOK},
		"another secret":          {[]string{"unread=" + seal(foreign, "unread", []byte("x"))}, http.StatusServiceUnavailable},
		"of another version":      {[]string{"unread=" + seal(own, "unread", []byte("x"))}, http.StatusServiceUnavailable},
		"cut":                     {[]string{"unread=" + small[:len(small)-3]}, http.StatusServiceUnavailable},
		"cut to no base64":        {[]string{"unread=" + small[:101]}, http.StatusServiceUnavailable},
		"the second part missing": {append([]string{whole[0]}, whole[2:]...), http.StatusServiceUnavailable},
		"the last part missing":   {whole[:len(whole)-1], http.StatusServiceUnavailable},
		"the others missing":      {whole[:1], http.StatusServiceUnavailable},
		"the first part missing":  {whole[1:], http.StatusServiceUnavailable},
		"another's behind one of another secret": {[]string{"unread=" + seal(foreign, "unread", []byte("x")) + "; unread=x"},
			http.StatusServiceUnavailable},
		"one beside another's":     {[]string{"unread=x; unread=" + small}, http.StatusOK},
		"the whole, in some parts": {whole, http.StatusOK},
	} {
		c := newBrowser(t, s)
		c.header.Set("Cookie", strings.Join(row.cookies, "; "))
		r := c.fetch(http.MethodPost, "/logout", "")
		if r.status >= 300 && r.status < 400 {
			r.status = http.StatusOK // to the provider
		}
		if r.status != row.status {
			t.Errorf("%s: expected %d, got %d", what, row.status, r.status)
		}
		if row.status != http.StatusOK && len(r.header["Set-Cookie"]) > 0 {
			t.Errorf("%s: the cookie is changed, so that another replica cannot do better: %q", what, r.header["Set-Cookie"])
		}
	}
	s.expectLog("or a part of it is missing; have all replicas the same session.secret")
}

func TestLogoutDuringARefresh(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.expiresIn = 2
	s, b := signedIn(t, p, map[string]any{"backchannelLogoutUrl": "/backchannel"})
	p.expiresIn = 300
	sid := sidOf(p)
	time.Sleep(2200 * time.Millisecond)
	waiting, goOn := make(chan bool), make(chan bool)
	p.answer("token", func(rw http.ResponseWriter, req *http.Request) {
		close(waiting)
		<-goOn
		p.usual("token", rw, req)
	})
	line := "Cookie: " + b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	answered := make(chan *http.Response)
	go func() { answered <- b.raw("/", line) }()
	<-waiting
	sendLogoutToken(s, logoutForm(p.logoutToken(map[string]any{"sid": sid}))).expect(http.StatusOK)
	close(goOn)
	res := <-answered
	if res.StatusCode != http.StatusUnauthorized || len(res.Header["Set-Cookie"]) > 0 {
		t.Errorf("the session goes on: %s %q", res.Status, res.Header["Set-Cookie"])
	}
	if res := b.raw("/", line); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("its cookie is good: %s", res.Status)
	}
}

func TestLogoutTokenMayBeSentAgainAfterAFailure(t *testing.T) {
	// Redis is away, the logout fails with 400; when the provider tries again, its token is not "used".
	p := newFakeProvider(t)
	away := newFakeRedis(t, answering(map[string]string{"": hangUp}))
	s := start(t, p.options(map[string]any{"backchannelLogoutUrl": "/backchannel", "session": map[string]any{
		"store": map[string]any{"redis": map[string]any{"endpoints": []string{away.address}}}}}))
	form := logoutForm(p.logoutToken(map[string]any{"sid": "one"}))
	r := sendLogoutToken(s, form).expect(http.StatusBadRequest)
	if r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %q", r.header)
	}
	away.say(func(args []string) string {
		switch args[0] {
		case "SET":
			return "+OK\r\n"
		case "ZRANGE":
			return array()
		case "HELLO", "AUTH", "SELECT", "CLIENT", "PING":
			return "+OK\r\n"
		}
		return "$-1\r\n"
	})
	eventually(t, "the logout succeeds", func() bool { return sendLogoutToken(s, form).status == http.StatusOK })
}

func TestLogoutByTheProvidersPageIsBounded(t *testing.T) {
	// Anybody may load that page: what it leaves in memory is small, and pushes no other logout out.
	p := newFakeProvider(t)
	s, b := signedIn(t, p, map[string]any{"frontchannelLogoutUrl": "/frontchannel", "logoutUrl": "/logout"})
	frame := newBrowser(t, s)
	frame.look("/frontchannel?iss=" + url.QueryEscape(p.issuer) + "&sid=" + strings.Repeat("s", maxName+1)).expect(http.StatusBadRequest)
	frame.look("/frontchannel?iss=" + url.QueryEscape(p.issuer) + "&sid=" + strings.Repeat("s", maxName)).expect(http.StatusOK)
	copied := b.copyOf()
	b.open("/logout")
	if s.server != nil { // the memory can be filled in this process alone
		c := testMiddlewareOf(s)
		for i := 0; i < 3*c.sessions.state.frontchannelLogouts.capacity/cacheEntryCost; i++ {
			cacheSet(c.sessions.state.frontchannelLogouts, fmt.Sprint("sid:", i), time.Now().UnixMilli(), 0)
		}
	}
	copied.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
}

// TestLogoutByTheProvidersPageNamesNoUser: who knows a user's name, and loads that page with it as if it were a session's, makes nobody go the
// long way.
func TestLogoutByTheProvidersPageNamesNoUser(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	s, b := signedIn(t, p, map[string]any{"frontchannelLogoutUrl": "/frontchannel"})
	line := s.sessionCookie() + "=" + b.cookie(s.sessionCookie()).Value
	h, m := s.handler.Load().(*testHandler).handler, testMiddlewareOf(s)
	visit(h, app+"/", line)
	newBrowser(t, s).look("/frontchannel?iss="+url.QueryEscape(p.issuer)+"&sid=ada").expect(http.StatusOK, "No session of this name")
	m.sessions.sealer = newSealer([]string{"another secret"}, "", "", "") // nobody is let in but who is remembered
	if rw := visit(h, app+"/", line); rw.Code != http.StatusOK {
		t.Errorf("ada is not remembered any more: %d", rw.Code)
	}
}
