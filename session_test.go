package oidc

import (
	"context"
	"net/http"
	"testing"
	"time"
)

func TestSessionSliding(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s, b := signedIn(t, p, sessionOptions("expiry", 6))
	still := b.copyOf() // keeps what it has, and looks only once more
	for i := 0; i < 5; i++ {
		time.Sleep(1500 * time.Millisecond)
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	for _, k := range still.cookies {
		k.expires = time.Time{}
	}
	still.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	if p.count("token") != 1 {
		t.Errorf("nothing had to be asked, got %d token requests", p.count("token"))
	}
	s.expectLog("expired")
}

func TestSessionEnds(t *testing.T) {
	for _, c := range []struct {
		name    string
		options map[string]any
	}{
		{"at its expiry, without sliding", sessionOptions("expiry", 2, "sliding", false)},
		{"at its longest life, however active", sessionOptions("maxLifetime", 2)},
		{"when idle", sessionOptions("idleTimeout", 1, "expiry", 1000)},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newFakeProvider(t)
			_, b := signedIn(t, p, c.options)
			keep := func() {
				b.mu.Lock()
				defer b.mu.Unlock()
				for _, k := range b.cookies {
					k.expires = time.Time{}
				}
			}
			keep()
			if c.name != "when idle" {
				for i := 0; i < 3; i++ {
					b.fetch(http.MethodGet, "/", "").upstream()
					keep()
					time.Sleep(200 * time.Millisecond)
				}
			}
			time.Sleep(2200 * time.Millisecond)
			b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
		})
	}
}

func TestSessionSecretIsReplaced(t *testing.T) {
	p := newFakeProvider(t)
	name := sessionOptions("name", "kept", "secret", "the-first-secret-of-32-bytes-or-so")
	s, b := signedIn(t, p, name)
	second := start(t, p.options(sessionOptions("name", "kept", "secret", "the-second-secret-of-32-bytes-or-so", "previousSecrets",
		[]string{"the-first-secret-of-32-bytes-or-so"})))
	b.routes[app] = second
	before := b.cookie("kept").Value
	b.fetch(http.MethodGet, "/", "").upstream()
	after := b.cookie("kept").Value
	if before == after {
		t.Error("the cookie was not sealed anew")
	}
	if second.server != nil { // the memory can be seen in this process alone
		old := findPrincipal(testMiddlewareOf(second).cache, "kept="+before)
		if left := time.Until(old.validUntil); left <= 0 || left > replacedCookieGrace {
			t.Errorf("the replaced cookie is good for %s without another look", left)
		}
	}
	third := start(t, p.options(sessionOptions("name", "kept", "secret", "the-second-secret-of-32-bytes-or-so")))
	b.routes[app] = third
	b.fetch(http.MethodGet, "/", "").upstream()
	b.setCookie("kept", before)
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	third.expectLog("secret")
	_ = s
}

// TestSessionSecretRollout: a Traefik that starts with a new secret, beside one that still has only the old one, seals what both can open,
// until it meets a cookie of the new secret. A sign-out at the one that cannot read the cookie does not say that it is done.
func TestSessionSecretRollout(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	const older, newer = "the-rolled-out-secret-number-one-1", "the-rolled-out-secret-number-two-2"
	out := map[string]any{"logoutUrl": "/logout"}
	names := map[string]any{"stateCookie": map[string]any{"name": "rolled-state"}}
	ahead, b := signedIn(t, p, out, names, sessionOptions("name", "rolled", "secret", newer, "previousSecrets", []string{older}))
	behind := start(t, p.options(out, names, sessionOptions("name", "rolled", "secret", older)))
	before := b.cookie("rolled").Value
	for i := 0; i < 4; i++ {
		b.routes[app] = []*testSite{behind, ahead}[i%2]
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	if b.cookie("rolled").Value != before {
		t.Error("the cookie was sealed anew")
	}
	if ahead.server == nil {
		return // the memory can be emptied in this process alone
	}
	m := testMiddlewareOf(ahead)
	if _, current, err := open(m.sessions.sealer, "rolled", before); !current || err != nil {
		t.Errorf("current %v, %v", current, err)
	}
	_, _, _ = open(m.sessions.sealer, "rolled", seal(newSealer([]string{newer}, p.issuer, p.clientID, "session"), "rolled", []byte("x"))) // another replica is done with it
	known, _, err := openSession(context.Background(), m.sessions, "rolled", before)
	if err != nil {
		t.Fatal(err)
	}
	removeByName(m.sessions.state, "id", known.ID) // so that it is looked at
	b.fetch(http.MethodGet, "/", "").upstream()
	if b.cookie("rolled").Value == before {
		t.Error("the cookie was not sealed anew")
	}
	b.routes[app] = behind
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	b.fetch(http.MethodPost, "/logout", "").expect(http.StatusServiceUnavailable)
	behind.expectLog("sign-out: the session's cookie is sealed with another secret")
	b.routes[app] = ahead
	b.fetch(http.MethodGet, "/", "").upstream()
}

func TestSessionSharedByTwoRules(t *testing.T) {
	p := newFakeProvider(t)
	lenient := start(t, p.options(sessionOptions("name", "shared"), headersFor("X-Who", "sub")))
	strict := start(t, p.options(sessionOptions("name", "shared"), headersFor("X-Who", "email"), map[string]any{"claims": "Equals(`sub`, `grace`)"}))
	only := start(t, p.options(sessionOptions("name", "shared"), map[string]any{"disableLogin": true}))
	b := newBrowser(t, lenient)
	b.routes[app+"/strict"] = strict
	b.routes[app+"/only"] = only
	b.open("/only").expect(http.StatusUnauthorized)
	b.signIn("/")
	for i := 0; i < 2; i++ {
		if who := b.open("/").upstream().Headers.Get("X-Who"); who != "ada" {
			t.Errorf("got %q", who)
		}
		b.open("/strict").expect(http.StatusForbidden)
		b.open("/only").upstream()
	}
	if p.count("authorize") != 1 {
		t.Errorf("expected one sign-in, got %d", p.count("authorize"))
	}
}

// The level of a sign-in counts for whoever asks for one, also when another middleware made the session, or when a refresh lowers it.
func TestSessionLevel(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.edit("id_token", func(claims map[string]any) {
		if acr := p.lastCall("authorize").form.Get("acr_values"); acr != "" {
			claims["acr"] = acr
		}
	})
	low := start(t, p.options(sessionOptions("name", "shared")))
	high := start(t, p.options(sessionOptions("name", "shared"), map[string]any{"acrValues": "gold"}))
	b := newBrowser(t, low)
	b.routes[app+"/high"] = high
	b.signIn("/")
	for i := 0; i < 2; i++ {
		b.fetch(http.MethodGet, "/high", "").expect(http.StatusUnauthorized)
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	high.expectLog("session", `acr: expected "gold", got null`)
	p.expiresIn = 2
	b.routes[app+"/oidc/callback"] = high
	b.signIn("/high") // a step up, for both
	b.fetch(http.MethodGet, "/", "").upstream()
	if p.count("authorize") != 2 {
		t.Errorf("expected two sign-ins, got %d", p.count("authorize"))
	}
	p.edit("refreshed_id_token", func(claims map[string]any) { claims["acr"] = "bronze" })
	time.Sleep(2200 * time.Millisecond)
	b.fetch(http.MethodGet, "/high", "").expect(http.StatusUnauthorized)
	high.expectLog("session", `acr: expected "gold", got "bronze"`)
	b.fetch(http.MethodGet, "/", "").upstream()
	b.fetch(http.MethodGet, "/high", "").expect(http.StatusUnauthorized)
}

// A sign-in is held to what was asked of the provider, whichever of the middlewares that share a session takes the answer.
func TestSessionLevelIsThatOfWhoAsked(t *testing.T) {
	p := newFakeProvider(t)
	low := start(t, p.options(sessionOptions("name", "shared"), map[string]any{"stateCookie": map[string]any{"name": "shared-state"}}))
	high := start(t, p.options(sessionOptions("name", "shared"),
		map[string]any{"stateCookie": map[string]any{"name": "shared-state"}, "acrValues": "gold", "maxAge": 60}))
	b := newBrowser(t, low)
	b.routes[app+"/high"] = high
	b.open("/high").expect(http.StatusBadGateway) // the provider did not do what it was asked: no circle
	low.expectLog(`acr: expected "gold", got null`)
	p.edit("id_token", func(claims map[string]any) { claims["acr"] = "gold"; claims["auth_time"] = time.Now().Unix() - 3600 })
	b.open("/high").expect(http.StatusBadGateway)
	low.expectLog("auth_time")
	p.edit("id_token", func(map[string]any) {})
	b.routes[app+"/oidc/callback"] = high
	b.signIn("/") // nothing was asked
}

// How long ago somebody may have proved who they are is asked by each middleware for itself, also of a session that another one made.
func TestSessionAgeOfTheProof(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	var ago int64 = 3600
	p.edit("id_token", func(claims map[string]any) { claims["auth_time"] = time.Now().Unix() - ago })
	p.edit("refreshed_id_token", func(claims map[string]any) { delete(claims, "auth_time") })
	lax := start(t, p.options(sessionOptions("name", "shared")))
	strict := start(t, p.options(sessionOptions("name", "shared"), map[string]any{"maxAge": 60}))
	b := newBrowser(t, lax)
	b.routes[app+"/strict"] = strict
	b.signIn("/")
	for i := 0; i < 2; i++ {
		b.fetch(http.MethodGet, "/strict", "").expect(http.StatusUnauthorized)
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	strict.expectLog("session", "auth_time: expected at most 60 s before the sign-in")
	ago = 0
	p.expiresIn = 2
	b.routes[app+"/oidc/callback"] = strict
	b.signIn("/strict") // for both, also after a refresh that tells no time
	b.fetch(http.MethodGet, "/", "").upstream()
	time.Sleep(2200 * time.Millisecond)
	b.fetch(http.MethodGet, "/strict", "").upstream()
	if p.count("authorize") != 2 {
		t.Errorf("expected two sign-ins, got %d", p.count("authorize"))
	}
	none := start(t, p.options(sessionOptions("name", "shared"), map[string]any{"maxAge": 0}))
	b.routes[app+"/none"] = none
	b.fetch(http.MethodGet, "/none", "").upstream() // signed in with the password just now
	p.edit("id_token", func(map[string]any) {})     // a provider that does not tell
	b.routes[app+"/oidc/callback"] = lax
	b.open("/oidc/callback?switch=/")
	b.fetch(http.MethodGet, "/strict", "").expect(http.StatusUnauthorized)
	strict.expectLog("session", "auth_time: expected at most 60 s before the sign-in, got null")
}

func TestSessionSurvivesReloads(t *testing.T) {
	p := newFakeProvider(t)
	s, b := signedIn(t, p)
	for i := 0; i < 20; i++ {
		s.reload()
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	newBrowser(t, s).signIn("/")
	if p.count("discovery") != 1 || p.count("jwks") != 1 {
		t.Errorf("what was learnt was lost: %d discoveries, %d key sets", p.count("discovery"), p.count("jwks"))
	}
}

func TestSessionOfANewSignInReplacesTheOld(t *testing.T) {
	p := newFakeProvider(t)
	s, b := signedIn(t, p, headersFor("X-User", "sub"))
	p.user["sub"] = "grace"
	b.open("/oidc/callback?switch=/")
	if who := b.open("/").upstream().Headers.Get("X-User"); who != "grace" {
		t.Errorf("got %q", who)
	}
	if names := b.cookieNames(s.sessionCookie()); len(names) != 1 {
		t.Errorf("got %q", names)
	}
}

// An answer that sets our cookie is for this browser alone, whatever the upstream says about it.
func TestSessionRenewalIsPrivate(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	_, b := signedIn(t, p, sessionOptions("expiry", 40))
	if r := b.open("/"); r.header.Get("Cache-Control") != "" || r.header["Set-Cookie"] != nil {
		t.Errorf("nothing is to be said here, got %q", r.header)
	}
	time.Sleep(5 * time.Second) // a tenth of its time, and a slow machine's second
	if r := b.open("/"); r.header.Get("Cache-Control") != "private" || r.header["Set-Cookie"] == nil {
		t.Errorf("expected a renewed cookie that no cache keeps, got %q", r.header)
	}
}

func TestSessionBehindAnEndedOne(t *testing.T) {
	// A cookie with a longer path comes first. When its session was ended, the good one behind it counts.
	p := newFakeProvider(t)
	s, b := signedIn(t, p, logoutOptions)
	ended := b.cookie(s.sessionCookie()).Value
	b.open("/logout")
	b.signIn("/")
	good := b.cookie(s.sessionCookie()).Value
	for i := 0; i < 2; i++ {
		withHeaders(s, "Cookie: "+s.sessionCookie()+"="+ended+"; "+s.sessionCookie()+"="+good).upstream()
	}
	if res := b.raw("/", "Cookie: "+s.sessionCookie()+"="+ended); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("an ended session alone: %s", res.Status)
	}
	res := b.raw("/logout", "Cookie: "+s.sessionCookie()+"="+ended+"; "+s.sessionCookie()+"="+good)
	hint, _ := parseToken(mustParse(res.Header.Get("Location")).Query().Get("id_token_hint"))
	if hint == nil || hint.claims["sid"] != sidOf(p) {
		t.Errorf("the provider was not told of the session that was good: %s", res.Header.Get("Location"))
	}
	if withHeaders(s, "Cookie: "+s.sessionCookie()+"="+good).isUpstream() {
		t.Error("a sign-out ended the ended session alone")
	}
}

// TestSessionRefreshTime: a refresh is asked for shortly before what the provider said ends, or soon where it said nothing that helps.
func TestSessionRefreshTime(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for _, row := range []struct {
		expiresIn int64
		claims    string
		at, end   int64
	}{
		{100, `{"exp":1700000200}`, 90, 100},
		{1000, `{}`, 940, 1000},
		{0, `{"exp":1700000200}`, 180, 200},
		{0, `{"exp":1699999000}`, defaultTokenLifetime - defaultTokenLifetime/10, defaultTokenLifetime},
		{0, `{"exp":1700000000}`, defaultTokenLifetime - defaultTokenLifetime/10, defaultTokenLifetime},
		{0, `{}`, defaultTokenLifetime - defaultTokenLifetime/10, defaultTokenLifetime},
	} {
		at, end := refreshTime(&tokenResponse{expiresIn: row.expiresIn}, claimsOf(t, row.claims), now)
		if at-now.Unix() != row.at || end-now.Unix() != row.end {
			t.Errorf("%d %s: in %d s, and it ends in %d s; expected %d, %d", row.expiresIn, row.claims, at-now.Unix(), end-now.Unix(), row.at, row.end)
		}
	}
}

// TestSessionCost: every part of a session counts.
func TestSessionCost(t *testing.T) {
	base := sessionCost(&session{})
	for name, s := range map[string]*session{
		"ID token": {idToken: "12345"}, "access token": {accessToken: "12345"}, "refresh token": {refreshToken: "12345"}, "record": {sessionRecord: sessionRecord{ID: "12345"}},
	} {
		if cost := sessionCost(s); cost < base+5 {
			t.Errorf("%s: %d bytes instead of %d", name, cost, base)
		}
	}
}
