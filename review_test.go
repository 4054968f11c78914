package oidc

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// What an attacker, or bad luck, tries at the seams between the rooms: memories that outlive a decision, cookies of neighbours, loops
// over foreign text.

// withHeaders sends a page's fetch with just these headers, over a connection that stays: only such requests are remembered by the line.
func withHeaders(s *testSite, header ...string) *reply {
	s.t.Helper()
	b := newBrowser(s.t, s)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		b.header.Set(name, value)
	}
	return b.fetch(http.MethodGet, "/", "")
}

func TestSessionIsBoundToItsCookieInMemoryToo(t *testing.T) {
	// A session of http stands under another name than one of https, and the one is not the other, also when it is remembered.
	p := newProvider(t)
	s := start(t, p.options())
	b := newBrowser(t, s)
	b.plainHTTP = true
	b.signIn("/")
	plain := strings.TrimPrefix(s.sessionCookie(), "__Host-")
	value := b.cookie(plain).Value
	b.setCookie("other", "1") // so that all memories have it
	for i := 0; i < 3; i++ {
		b.open("/").upstream()
	}
	for _, line := range []string{s.sessionCookie() + "=" + value, "other=2; " + s.sessionCookie() + "=" + value} {
		if withHeaders(s, "Cookie: "+line).isUpstream() {
			t.Errorf("a session of http was taken for one of https")
		}
	}
}

func TestSessionAmongEndedOnes(t *testing.T) {
	// A cookie with a longer path comes first. When its session was ended, the good one behind it counts.
	p := newProvider(t)
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

func TestSessionCookieThatLooksLikeAToken(t *testing.T) {
	// A neighbour's host can plant a cookie without a name. It must not stand for the token of whoever planted it.
	p := newProvider(t)
	p.jwtAccessTokens = true
	s := start(t, p.options(map[string]any{"jwt": map[string]any{"audience": "api"}}))
	token := "Bearer " + p.accessToken(&providerGrant{kind: "access", form: url.Values{}, subject: "mallory"})
	for i := 0; i < 3; i++ {
		withHeaders(s, "Authorization: "+token).upstream()
	}
	if withHeaders(s, "Cookie: "+token).isUpstream() {
		t.Error("a cookie was taken for a token")
	}
}

func TestSessionManyCookiesOfOurNames(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"bypass": "Path(`/public`)"}))
	b := newBrowser(t, s)
	name := s.sessionCookie()
	line := strings.Repeat(name+"x=1; ", 8000) + strings.Repeat(name+"=1; ", 8000) + "z=1"
	begin := time.Now()
	seen := rawUpstream(b, "/public", "Cookie: "+line)
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
	if strings.Contains(seen.Headers.Get("Cookie"), name+"=") {
		t.Error("the upstream was shown cookies of ours")
	}
	seen = rawUpstream(b, "/public", "Cookie: ;; "+name+"=1; a=1; "+name+".1=1; __Secure-"+strings.TrimPrefix(name, "__Host-")+"=1;b=2; "+name+"=2")
	if got := seen.Headers.Get("Cookie"); got != "a=1; b=2" {
		t.Errorf("expected those of others alone, got %q", got)
	}
}

func TestSessionCookiesWithoutBlanks(t *testing.T) {
	p := newProvider(t)
	s, b := signedIn(t, p)
	mine := s.sessionCookie() + "=" + b.cookie(s.sessionCookie()).Value
	for i := 0; i < 6; i++ { // other cookies change each time
		for line, want := range map[string]string{"a=%d; " + mine + ";b=2": "a=%d; b=2", "a=%d;" + mine + "; b=2": "a=%d; b=2", "a=%d; " + mine + ";": "a=%d", mine + ";b=%d": "b=%d"} {
			if got := withHeaders(s, "Cookie: "+fmt.Sprintf(line, i)).upstream().Headers.Get("Cookie"); strings.ReplaceAll(got, ";b", "; b") != fmt.Sprintf(want, i) {
				t.Errorf("%q: got %q", strings.ReplaceAll(line, mine, "session"), got)
			}
		}
		for _, line := range []string{"a=%d; x" + mine + "; b=2", "a=%d; b=2 " + mine + "; c=3", "x" + mine + "; b=%d"} {
			if got := withHeaders(s, "Cookie: "+fmt.Sprintf(line, i)).status; got != http.StatusUnauthorized {
				t.Errorf("%q: got %d for a cookie of another name", strings.ReplaceAll(line, mine, "session"), got)
			}
		}
	}
}

func TestSessionForgedHeadersOfWhoWasSeen(t *testing.T) {
	// Once a cookie line is remembered, and with it the names of other headers, a name that folds into one of ours is still not passed over.
	p := newProvider(t)
	s := start(t, p.options(headersFor("X-User", "sub", "X-Role", "no_such_claim"), map[string]any{"bypass": "Path(`/public`)"}))
	b := newBrowser(t, s)
	b.signIn("/")
	mine := s.sessionCookie() + "=" + b.cookie(s.sessionCookie()).Value
	for i := 0; i < 8; i++ { // the whole line is known, then the cookie among others that change
		for _, line := range []string{"Cookie: " + mine, fmt.Sprint("Cookie: a=", i, "; ", mine)} {
			withHeaders(s, line, "X-Other: 1").upstream()
			for _, name := range []string{"X-User", "X_User", "X.User", "X~User", "X-Role", "X_Role", "X-Other_"} {
				seen := withHeaders(s, line, "X-Other: 1", name+": eve").upstream()
				forged := 0
				for got, values := range seen.Headers {
					if strings.Contains(strings.Join(values, ","), "eve") && foldName(got) != "x-other-" {
						forged++
					}
				}
				if forged > 0 || seen.Headers.Get("X-User") != "ada" || seen.Headers.Get("X-Other") != "1" || strings.Contains(seen.Headers.Get("Cookie"), "session") {
					t.Errorf("request %d with %s: got %q", i, name, seen.Headers)
				}
			}
			if seen := withHeaders(s, line, "Connection: X-User, X_Role, keep-alive").upstream(); strings.Contains(strings.ToLower(seen.Headers.Get("Connection")), "x") {
				t.Errorf("request %d: Connection still names our headers: %q", i, seen.Headers)
			}
		}
	}
}

func TestSessionLongCookieLinesAreNotKept(t *testing.T) {
	inThisProcess(t)
	g := &gate{login: true, lines: map[string]*pass{}, warmHeader: "Cookie", mark: "; s=", ownStem: "s", before: "Cookie: ", ledger: newLedger(), key: randomText(), alone: map[string]*pass{}, hosts: map[string]map[string]*pass{}}
	keep := func(credential, session string) *pass {
		p, err := letIn(context.Background(), g, credential, &pass{session: session}, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	noteOf := func(p *pass, line ...string) *pass {
		note(g, p, "", line, nil, map[string]bool{"Cookie": true})
		return recent.byKey[p.key]
	}
	p := keep("s=1", "one")
	p = noteOf(p, strings.Repeat("a", 100000))
	p = noteOf(p, "s=1", "s=1")
	if len(g.lines) != 0 {
		t.Errorf("expected none of them, got %d", len(g.lines))
	}
	m := &Middleware{gate: g, header: "Cookie", hosts: g.hosts, next: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	for i := 0; i < 10; i++ { // other cookies change each time
		line := fmt.Sprint("s=1; a=", i)
		for repeated := 0; repeated < 3; repeated++ {
			m.ServeHTTP(httptest.NewRecorder(), &http.Request{URL: mustParse(app), Header: http.Header{"Cookie": {line}}})
		}
		if isKept := g.lines[line] != nil; isKept != (i < linesOfSession) || isKept && g.lines[line].first.values[0] != fmt.Sprint("a=", i) {
			t.Errorf("line %d: %v", i, g.lines[line])
		}
	}
	for _, other := range []*pass{keep("Authorization: Bearer t", ""), keep("t=1", "two")} {
		if noteOf(other, "a=1"); g.lines["a=1"] != nil {
			t.Error("a cookie line was kept for who was let in by another credential")
		}
	}
	dropNamed(g.ledger, "nobody")
	dropNamed(newLedger(), "one")
	if len(g.lines) != linesOfSession {
		t.Errorf("the logout of somebody else took a line: %d", len(g.lines))
	}
	dropNamed(g.ledger, "one") // logged out after it was looked up
	if noteOf(p, "s=1; b=1"); len(g.lines) != 0 || recent.byKey[p.key] != nil {
		t.Errorf("of a pass that is gone %d lines were kept", len(g.lines))
	}
}

func TestSessionMemoryForgets(t *testing.T) {
	// Whoever looks an entry up while it is forgotten must not bring it back.
	for i := 0; i < 3000; i++ {
		m := newMemory(1)
		remember(m, "gone", true, 0)
		remember(m, "new", true, 0) // pushes the other into the old half
		done := make(chan bool)
		go func() {
			recall(m, "gone")
			close(done)
		}()
		forget(m, "gone")
		<-done
		if recall(m, "gone") != nil {
			t.Fatalf("attempt %d: it is back", i)
		}
	}
}

func TestSessionLoggedOutWhileItIsRefreshed(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
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

func TestSessionUserOfTheRequestLine(t *testing.T) {
	// `GET http://eve@host/` names a user to Traefik's access log: with usernameClaim that is ours to say.
	p := newProvider(t)
	b := newBrowser(t, start(t, p.options(map[string]any{"usernameClaim": "no_such_claim", "unauthenticated": "forward", "bypass": "Path(`/x`)"})))
	b.open("/oidc/callback?switch=/") // signs in
	line := "Cookie: " + b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	_, c := signedIn(t, p, map[string]any{"usernameClaim": "no_such_claim"})
	other := "Cookie: " + c.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	for i := 0; i < 3; i++ {
		for _, seen := range []*received{rawUpstream(b, "http://eve@app.example.com/"), rawUpstream(b, "http://eve@app.example.com/", line),
			rawUpstream(c, "http://eve@app.example.com/", other), rawUpstream(c, "http://eve@app.example.com/", other+"; a=1")} {
			if seen.User != "" {
				t.Errorf("nobody is called %q", seen.User)
			}
		}
	}
}

func TestSessionLogHasOneLinePerRequest(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"logLevel": "debug"}))
	b := newBrowser(t, s)
	for _, end := range []string{"%0a", "%0d", "%c2%85", "%e2%80%a8", "%e2%80%a9", "%1b[2K", "%e2%80%ae"} { // also what readers of logs take for the end of a line
		b.raw("/a"+end+s.name+":%20forged", "Sec-Fetch-Mode: navigate")
	}
	f := start(t, p.options(map[string]any{"logLevel": "debug", "unauthenticated": "forward"}))
	newBrowser(t, f).raw("/a%0a" + f.name + ":%20forged")
	for _, site := range []*testSite{s, f} {
		for _, line := range strings.Split(site.logs(), "\n") {
			if strings.HasPrefix(line, site.name+": forged") || strings.ContainsAny(line, "\r\u0085\u2028\u2029\x1b\u202e") {
				t.Errorf("a visitor wrote a line: %q", line)
			}
		}
	}
}

func TestSessionDomainIsToldToTheOperator(t *testing.T) {
	p := newProvider(t)
	start(t, p.options(sessionOptions("domain", "example.com"))).expectLog("session.domain", "example.com")
}

func TestLoginRedirectsWithoutTheBody(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"unauthenticated": "login"}))
	b := newBrowser(t, s)
	for method, status := range map[string]int{http.MethodGet: 302, http.MethodHead: 302, http.MethodPost: 303, http.MethodPut: 303, http.MethodPatch: 303, http.MethodDelete: 303} {
		if r := b.fetch(method, "/", "a=1"); r.status != status {
			t.Errorf("%s: expected %d, got %d", method, status, r.status)
		}
	}
}

func TestLoginIsNotRetriedByItself(t *testing.T) {
	// A page that signs in again by itself would lead around in circles while the provider is in trouble.
	p := newProvider(t)
	s := start(t, p.options())
	p.answer("token", answerText(500, "text/plain", ""))
	r := newBrowser(t, s).open("/page").expect(http.StatusServiceUnavailable, "Sign in again")
	if r.header.Get("Refresh") != "" || r.header.Get("Retry-After") == "" {
		t.Errorf("expected Retry-After and no Refresh, got %q", r.header)
	}
}

func TestLoginCallbackAnswersTellNobody(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options())
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page"))
	for _, r := range []*reply{b.look(back.String()), newBrowser(t, s).look(back.String())} {
		if r.header.Get("Referrer-Policy") != "no-referrer" || r.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%d: got %q", r.status, r.header)
		}
	}
}

func TestLoginSwitchOnAnotherHost(t *testing.T) {
	// The callback is on another host: the page cannot lead there with a path.
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"redirectUrl": "login.example.com/back", "claims": "Equals(`sub`, `grace`)", "session": map[string]any{"domain": "example.com"},
		"stateCookie": map[string]any{"domain": "example.com"}}))
	b := newBrowser(t, s)
	b.routes["https://login.example.com"] = s
	if page := b.open("/page").expect(http.StatusForbidden); strings.Contains(page.body, `href="/back`) {
		t.Errorf("the link leads nowhere: %s", page.body)
	}
}

func TestLoginReturnAddressIsOurs(t *testing.T) {
	for given, want := range map[string]string{
		"/": "/", "": "/", "/a?b=c": "/a?b=c", "//evil/": "/evil/", "/\\evil": "/evil", "\\\\evil": "/evil", "/\t/evil": "/evil", "/\r\n/evil": "/evil", "\x00//evil": "/evil",
		"https://evil/": "/https://evil/", "@evil": "/@evil", "/a?b=\\\n": "/a?b=/",
	} {
		if got := localPath(given); got != want {
			t.Errorf("%q: expected %q, got %q", given, want, got)
		}
	}
}

func TestLogoutTokenMayBeSentAgainAfterAFailure(t *testing.T) {
	// Redis is away, the logout fails with 400; when the provider tries again, its token is not "used".
	p := newProvider(t)
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
	p := newProvider(t)
	s, b := signedIn(t, p, map[string]any{"frontchannelLogoutUrl": "/frontchannel", "logoutUrl": "/logout"})
	frame := newBrowser(t, s)
	frame.look("/frontchannel?iss=" + url.QueryEscape(p.issuer) + "&sid=" + strings.Repeat("s", 300)).expect(http.StatusBadRequest)
	copied := b.copyOf()
	b.open("/logout")
	if s.server != nil { // the memory can be filled in this process alone
		c := testGateOf(s)
		for i := 0; i < 3*c.framed.room/entryCost; i++ {
			remember(c.framed, fmt.Sprint("sid:", i), time.Now().UnixMilli(), 0)
		}
	}
	copied.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
}

// testGateOf is the gate of a site in this process. An interpreted one cannot be looked into: there a test ends here.
func testGateOf(s *testSite) *gate {
	if s.server == nil {
		s.t.Skip("the rest looks into this process")
	}
	m, _ := s.handler.Load().(*testHandler).handler.(*Middleware)
	return m.gate
}

func TestProviderAssertionNamesTheIssuerOrTheEndpoint(t *testing.T) {
	signer, err := parsePrivateKeyPEM(pemOf(t, commonKey("ES256")), "ES256")
	if err != nil {
		t.Fatal(err)
	}
	c := &client{id: "app", signer: signer, signerAlg: "ES256", issuer: "https://id.example.com", rules: &tokenRules{}}
	c.overrides.Token = "https://id.example.com/token"
	for _, want := range []string{"https://id.example.com", "https://id.example.com/token"} {
		raw, err := clientAssertion(c)
		if err != nil {
			t.Fatal(err)
		}
		made, err := parseToken(raw)
		if err != nil || made.claims["aud"] != want {
			t.Errorf("expected aud %q, got %v %v", want, made.claims["aud"], err)
		}
		c.issuer = "" // a client of a token endpoint alone
	}
}

func TestProviderIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	broken := httptest.NewServer(answerText(500, "text/plain", ""))
	t.Cleanup(broken.Close)
	c := &client{http: broken.Client(), retries: 5}
	begin := time.Now()
	if _, err := get(context.Background(), c, "discovery", broken.URL, nil); err == nil || time.Since(begin) > 4*time.Second {
		t.Errorf("five repetitions took %s: %v", time.Since(begin), err)
	}
}

// Other cookies that change with each request are passed on from memory, and none of ours among them: a sign-in under way in another
// tab, a second session of the same name, a chunk.
func TestSessionOwnCookiesAmongChangingOnes(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options(nil))
	b := newBrowser(t, s)
	b.signIn("/")
	for i := 0; i < 12; i++ { // more than the lines that are remembered of a session
		b.setCookie("theirs", fmt.Sprint(i))
		b.open("/")
	}
	state := strings.TrimSuffix(s.sessionCookie(), "session") + "state"
	for i, own := range []string{state + "." + strings.Repeat("0", 12), s.sessionCookie() + ".1"} {
		c := b.copyOf()
		c.setCookie("theirs", fmt.Sprint("ours-", i))
		c.setCookie(own, "not-for-the-upstream")
		sent := strings.Join(c.open("/").upstream().Headers["Cookie"], "; ")
		if sent != fmt.Sprint("theirs=ours-", i) {
			t.Errorf("beside %s the upstream gets %q", own, sent)
		}
	}
}

// One client may send as many made-up names as are learnt: then all are learnt anew, or everybody's others would go the long way for ever.
func TestSessionMadeUpNamesAreForgotten(t *testing.T) {
	p := newProvider(t)
	s, b := signedIn(t, p)
	line := "Cookie: " + b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	for j := 0; j < 6; j++ {
		lines := []string{line}
		for i := 0; i < 95; i++ {
			lines = append(lines, fmt.Sprintf("X-Made-Up-%d-%d: 1", j, i))
		}
		withHeaders(s, lines...).upstream()
	}
	for i := 0; i < 10; i++ {
		withHeaders(s, line, "Sec-Ch-Ua-Arch: x", "X-Csrf-Token: y", "X-Trace: 1", "X-A: 1", "X-B: 1", "X-C: 1").upstream()
	}
	if s.server == nil {
		return // what is known can be looked at in this process alone
	}
	if g := testGateOf(s); !g.harmless["Sec-Ch-Ua-Arch"] {
		t.Errorf("%d names are known, Sec-Ch-Ua-Arch is not among them", len(g.harmless))
	}
}

// One token can be spelt in many ways, with blanks before it, and is remembered in one only.
func TestJWTSpellingsAreNotKept(t *testing.T) {
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret}))
	good := sharedToken(nil)
	for i := 1; i <= 200; i++ {
		bearer(t, s, strings.Repeat(" ", 15000+i)+good).accepted("ada")
	}
	if s.server == nil {
		return
	}
	if g := testGateOf(s); len(g.lines) > linesOfSession {
		t.Errorf("%d lines", len(g.lines))
	}
}

func TestSessionFirstHTTPSRequestsAtOnce(t *testing.T) {
	// What the session's cookie begins with changes with the first request over https, while others are read. For the race detector.
	for round := 0; round < 50; round++ {
		g := &gate{login: true, sessionCookie: cookie{base: "app-session", isOwn: true, path: "/"}}
		buildWarmPath(g)
		m := &Middleware{gate: g, header: "Cookie", hosts: g.hosts}
		inParallel(4, func(i int) {
			if i == 2 {
				noteHTTPS(g)
			}
			if p := amongOthers(m, &http.Request{Host: "app", Header: http.Header{"Cookie": {"a=1; __Host-app-session=x"}}}); p != stranger {
				t.Error("found a pass")
			}
			if i == 3 && goOn(g, &pass{key: "none"}, "__Host-app-session=x", time.Now()) {
				t.Error("went on with no pass")
			}
		})
	}
}
