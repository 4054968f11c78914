package oidc

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

// Who is remembered skips nearly all that serve does, and must be answered as if it had been done. So requests are made at random, and
// each is sent to two middlewares with the same options: one that remembers those before it, and one that was made to forget them.
// All come by https: who is remembered is not asked again whether the cookie of https came by http.

const (
	requestsKnown = 1500 // of each row
	seedKnown     = 1    // another one makes other requests; a failure says which it was
)

// knownRow is one configuration, with whom its requests come from.
type knownRow struct {
	name    string
	options map[string]any
	cookies []string                       // lines of the Cookie header; %d is another number each time
	tokens  []string                       // values of the header that brings tokens
	header  string                         // which that is
	hosts   []string                       // that requests come to beside app.example.com
	before  func(i int, known *middleware) // what happens before a request
}

// sessionLines are Cookie lines that bring the session, or seem to, or have other cookies of ours in them that are no business of the
// upstream. SESSION stands for what the browser sends, NAME for the session's cookie's name, BARE for that without prefix, STATE for that of
// a sign-in under way.
var sessionLines = []string{"SESSION", "SESSION", "SESSION; a=1", "a=1; SESSION", "SESSION; c=%d", "d=%d; SESSION", "d=%d; SESSION; e=%d",
	"a=1;SESSION", "SESSION;", "SESSION;a=1", " SESSION", "SESSION ", "; SESSION", "SESSION; ", "; ; SESSION; ; a=1", "a=1;b=2; SESSION",
	"SESSION; SESSION",
	"xSESSION", "c=%d; xSESSION", "x SESSION; c=%d", "x=\"; SESSION\"", "=SESSION", "NAME=\"; SESSION", "NAME=x; SESSION", "SESSION; NAME=x",
	"NAME.1=x; SESSION", "SESSION; NAME.1=%d",
	"STATE.0123456789ab=x; SESSION", "SESSION; STATE.0123456789ab=%d", "STATE=x; SESSION; c=%d", "__Secure-STATE=x; SESSION",
	"BARE=x; SESSION; c=%d", "NAMEx=1; SESSION", "stat; ses=1; SESSION", "a=1", "", "NAME=x"}

// changingLines are those of a browser with another cookie in each request.
var changingLines = []string{"SESSION; c=%d", "c=%d; SESSION", "c=%d; SESSION; d=%d", "c=%d; SESSION; ", "xSESSION; c=%d",
	"c=%d; xSESSION", "c=%d;SESSION", "NAME=x; SESSION; c=%d",
	"SESSION; STATE.0123456789ab=%d", "NAME.1=%d; SESSION", "BARE=%d; SESSION", "SESSION", "; SESSION", "SESSION; "}

func TestPrincipalCacheOfSessions(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	p.jwtAccessTokens = true
	var mu sync.Mutex
	kept := map[string]string{}
	redis := newFakeRedis(t, keepingRedis(kept, &mu))
	token := signed(p.key, nil, map[string]any{"iss": p.issuer, "aud": "api", "sub": "eve"})
	for _, row := range []knownRow{
		{name: "headers of claims that are there or not, an address of ours on another host", cookies: sessionLines,
			hosts: []string{"login.example.com", "app.example.com:x@evil.example.net"},
			options: mergeClaims(headersFor("X-User", "sub", "X-Role", "none", "X-Real-Ip", "none"),
				map[string]any{"usernameClaim": "sub", "loginUrl": "login.example.com/login"})},
		{name: "other cookies change with each request", cookies: changingLines, hosts: []string{"app.example.com:x@evil.example.net"},
			options: mergeClaims(headersFor("X-User", "sub", "X-Role", "none"), map[string]any{"usernameClaim": "none"})},
		{name: "a part is open, and forms repeat a token", cookies: sessionLines,
			options: mergeClaims(headersFor("X-User", "sub"),
				map[string]any{"bypass": "PathPrefix(`/public`) || Header(`X-Key`, `v`)", "csrf": true})},
		{name: "strangers go on as well, cookies have other names", cookies: sessionLines,
			options: mergeClaims(headersFor("Authorization", "Bearer {access_token}"), map[string]any{"unauthenticated": "forward",
				"session": map[string]any{"name": "sess"}, "stateCookie": map[string]any{"name": "stat"}})},
		{name: "a token in another header counts more", cookies: sessionLines, header: "X-Token", tokens: []string{"", "", "", "", token, "bad"},
			options: mergeClaims(headersFor("X-User", "sub"), map[string]any{"jwt": map[string]any{"audience": "api",
				"tokenSource": map[string]any{"header": "X-Token"}, "forwardHeaders": map[string]any{"X-User": "sub"}}})},
		{name: "in Redis", hosts: []string{"app.example.com:x@evil.example.net"},
			cookies: append(append([]string{}, sessionLines...), changingLines...), before: troubleRedis(redis, kept, &mu),
			options: mergeClaims(headersFor("X-User", "sub", "X-Role", "none"),
				map[string]any{"usernameClaim": "none", "session": map[string]any{
					"store": map[string]any{"cacheSeconds": 0, "redis": map[string]any{"endpoints": redis.address}}}})},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			s := start(t, p.options(row.options))
			b := newBrowser(t, s)
			b.open("/oidc/callback?switch=/").upstream() // signs in, also where strangers go on
			_, m := knownBy(t, s, nil, "error")
			c := b.cookie(cookieName(&m.sessions.cookie, true)) // alone: beside any other of ours nobody is known
			line := c.Name + "=" + c.Value
			names := strings.NewReplacer("SESSION", line, "NAME", cookieName(&m.sessions.cookie, true), "STATE", cookieName(&m.logins.cookie, true),
				"BARE", m.sessions.cookie.baseName)
			row.cookies = append([]string{}, row.cookies...)
			for i, text := range row.cookies {
				row.cookies[i] = names.Replace(text)
			}
			compareKnown(t, s, &row)
		})
	}
}

// troubleRedis lets happen to the session what may happen to it between two requests, or while one looks at it.
func troubleRedis(redis *fakeRedis, kept map[string]string, mu *sync.Mutex) func(i int, known *middleware) {
	entry, value, id := "", "", ""
	keeping := keepingRedis(kept, mu)
	change := func(value string) {
		mu.Lock()
		delete(kept, entry)
		if value != "" {
			kept[entry] = value
		}
		mu.Unlock()
	}
	return func(i int, known *middleware) {
		if i == 0 {
			mu.Lock()
			for key := range kept {
				entry, value = key, kept[key]
			}
			mu.Unlock()
		}
		for _, p := range known.cache.byHeaderLine {
			id = p.sessionID
		}
		switch i % 60 {
		case 20: // ended by another replica
			change("")
		case 26: // written by another version
			change("B" + value[1:])
		case 32: // as it was, in a server that has just started
			change(value)
			redis.say(func(args []string) string { return "-LOADING\r\n" })
		case 38: // signed out here, while a request looks
			redis.say(func(args []string) string {
				if args[0] == "GETRANGE" {
					revoke(known.sessions, known.sessions.state.revoked, "id:"+id, sharedClock(known.sessions.state))
				}
				return keeping(args)
			})
		case 41: // signed in again
			redis.say(keeping)
			list := known.sessions.state.revoked
			list.mu.Lock()
			delete(list.young, "id:"+id)
			delete(list.old, "id:"+id)
			list.mu.Unlock()
		}
	}
}

func TestPrincipalCacheOfTokens(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	p.jwtAccessTokens = true
	good, other, ended := sharedToken(map[string]any{"name": "Ada"}), sharedToken(map[string]any{"sub": "eve"}),
		sharedToken(map[string]any{"exp": 1})
	bearers := []string{"Bearer " + good, "Bearer " + good, "Bearer " + good, "Bearer " + other, "bearer " + good, "Bearer   " + good,
		"Bearer\t" + good, " Bearer " + good, "Bearer " + good + " ",
		"Bearer " + ended, "Bearer " + good + ", Bearer " + ended, "Bearer x", good, "Basic YTpi", ""}
	bare := []string{good, good, good, other, good + " ", ended, "Bearer " + good, "x", ""}
	jwt := func(more map[string]any) map[string]any {
		return jwtOptions(mergeClaims(more, map[string]any{"signingSecret": tokenSecret}))
	}
	callers := []string{strings.TrimPrefix(password(p.clientID, p.clientSecret), "Authorization: "),
		strings.TrimPrefix(password("other", "x"), "Authorization: "), "Basic x", "Bearer " + good, ""}
	for _, row := range []knownRow{
		{name: "the upstream gets no token", options: jwt(nil), header: "Authorization", tokens: bearers},
		{name: "the upstream gets the token", options: jwt(map[string]any{"forwardAuthorization": true, "usernameClaim": "name"}),
			header: "Authorization", tokens: bearers},
		{name: "the upstream gets another Authorization", options: jwt(headersFor("Authorization", "name", "X-User", "sub")),
			header: "Authorization", tokens: bearers},
		{name: "a header without scheme", options: jwt(map[string]any{"forwardAuthorization": true,
			"tokenSource": map[string]any{"header": "X-Token"}}),
			header: "X-Token", tokens: bare},
		{name: "a token may be elsewhere", options: jwt(map[string]any{"tokenSource": map[string]any{"header": "X-Token", "cookie": "c"}}),
			header: "X-Token", tokens: bare, cookies: []string{"a=1", "a=1; c=%d", "c=" + good, "c=" + other}},
		{name: "strangers go on as well, a part is open",
			options: mergeClaims(jwt(nil), map[string]any{"bypass": "PathPrefix(`/public`) || Header(`X-Key`, `v`)", "unauthenticated": "forward"}),
			header:  "Authorization", tokens: bearers},
		{name: "everybody gets the gateway's token", options: clientCredentialsOptions(p, headersFor("X-User", "none", "X-Role", "client_id")),
			header: "Authorization", tokens: bearers},
		{name: "callers have clients of their own", options: callersOptions(p), header: "Authorization", tokens: callers},
		{name: "the upstream gets the gateway's token", options: mergeClaims(jwt(nil), clientCredentialsOptions(p, nil)),
			header: "Authorization", tokens: bearers},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			if row.cookies == nil {
				row.cookies = []string{"a=1", "a=1; c=%d", ""}
			}
			compareKnown(t, start(t, row.options), &row)
		})
	}
}

// TestPrincipalCacheOfTwoSessions: a line with two sessions stands for the second one when the first is over, and is forgotten with that.
func TestPrincipalCacheOfTwoSessions(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	s, first := signedIn(t, p)
	second := newBrowser(t, s)
	second.signIn("/")
	isServed := false
	h, m := knownBy(t, s, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { isServed = true }), "error")
	name := cookieName(&m.sessions.cookie, true)
	lines := []string{name + "=" + first.cookie(name).Value, name + "=" + second.cookie(name).Value}
	ask := func(line string) (*http.Request, bool) {
		isServed = false
		req := httptest.NewRequest(http.MethodGet, app+"/", nil)
		req.Header = http.Header{"Cookie": {line}, "X-Forwarded-Proto": {"https"}}
		h.ServeHTTP(httptest.NewRecorder(), req.Clone(req.Context()))
		return req, isServed
	}
	both := strings.Join(lines, "; ")
	for i := 0; i < 3; i++ {
		ask(both)
	}
	end := func(i int, by func(s *session)) {
		req, _ := ask(lines[i])
		sessions, err := openSessions(m.sessions, req)
		if err != nil || len(sessions) != 1 {
			t.Fatal(sessions, err)
		}
		by(sessions[0])
	}
	end(0, func(s *session) { // by itself: nobody forgets a principal whose time is over
		cacheSet(m.sessions.state.revoked, "id:"+s.ID, int64(1), 0)
		for _, p := range cachedBy(m) {
			if p.sessionID == s.ID {
				p.validUntil = time.Now()
			}
		}
	})
	for i := 0; i < 3; i++ {
		if _, is := ask(both); !is {
			t.Error("the second session is not looked at")
		}
	}
	end(1, func(s *session) { revoke(m.sessions, m.sessions.state.revoked, "id:"+s.ID, time.Now().UnixMilli()) })
	if _, is := ask(both); is {
		t.Error("the line of a session that was logged out is still good")
	}
}

// TestPrincipalCacheByHeader: who brings the same token again is found by the header that it came in; where a token may be in several places, or
// in one that is hidden from the upstream, by none.
func TestPrincipalCacheByHeader(t *testing.T) {
	inThisProcess(t)
	good := sharedToken(nil)
	source := func(more ...string) map[string]any {
		made := map[string]any{}
		for i := 0; i < len(more); i += 2 {
			made[more[i]] = more[i+1]
		}
		return map[string]any{"tokenSource": made, "signingSecret": tokenSecret}
	}
	for _, row := range []struct {
		want, line string
		options    map[string]any
	}{
		{"Authorization", "Authorization: Bearer ", source("header", "Authorization", "headerAuthScheme", "Bearer")},
		{"X-Token", "X-Token: ", source("header", "X-Token")},
		{"", "X-Token: ", source("header", "X-Token", "cookie", "c")},
		{"", "X-Token: ", source("header", "X-Token", "headers", "X-Other-Token")},
	} {
		s := start(t, jwtOptions(row.options))
		m := testMiddlewareOf(s)
		line, want := row.line+good, row.want
		for i := 0; i < 4; i++ {
			withHeaders(s, line).upstream()
		}
		principalsLock.RLock()
		count := len(m.cache.byHeaderLine)
		principalsLock.RUnlock()
		if m.cache.header != want || (count > 0) != (want != "") {
			t.Errorf("%q: found by %q, %d lines are known", want, m.cache.header, count)
		}
	}
}

// compareKnown sends a row's requests. In the end the keys are others, and the time of all that is remembered is over.
func compareKnown(t *testing.T, s *testSite, row *knownRow) {
	var seen *http.Request
	upstream := http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		seen = req
		rw.WriteHeader(http.StatusNonAuthoritativeInfo)
	})
	remembering, known := knownBy(t, s, upstream, "warn")
	forgetting, unknown := knownBy(t, s, upstream, "error") // with other options: a middleware of its own
	deciding, decided := knownBy(t, s, upstream, "info")    // forgets as well, but for what was sealed with the session
	if decided.sessions != nil {
		decided.sessions.hash = builtMiddleware(s.handler.Load().(*testHandler).handler).sessions.hash
	}
	random := rand.New(rand.NewSource(seedKnown))
	served, remembered := 0, 0
	for i := 0; i < requestsKnown && !t.Failed(); i++ {
		if row.before != nil {
			row.before(i, known)
		}
		if i == requestsKnown-requestsKnown/10 {
			remembered = len(known.cache.byHeaderLine)
			endAll(known)
			endAll(unknown)
			endAll(decided)
		}
		req := row.request(random)
		got := answerTo(remembering, req, &seen)
		forgetAll(unknown)
		want := answerTo(forgetting, req, &seen)
		if !reflect.DeepEqual(got, want) {
			story := fmt.Sprintf("seed %d, request %d: %s %s%s user %v trailer %q, %q\n  known:   %s\n  unknown: %s", seedKnown, i, req.Method,
				req.Host, req.URL.Path, req.URL.User, req.Trailer, req.Header, got, want)
			t.Error(longText.ReplaceAllString(story, "…$1")) // their last letters tell sessions and tokens apart
		}
		forgetAll(decided)
		if row.before == nil { // or something else happens meanwhile
			if got := answerTo(deciding, req, &seen); !reflect.DeepEqual(got, want) {
				t.Errorf("seed %d, request %d: %s %s%s\n  by its decision: %s\n  judged anew: %s", seedKnown, i, req.Method, req.Host, req.URL.Path, got, want)
			}
		}
		if got.status == http.StatusNonAuthoritativeInfo {
			served++
		}
	}
	if !t.Failed() && ((remembered == 0) != (known.cache.header == "") || served < requestsKnown/10) {
		t.Errorf("seed %d is a bad one: %d requests reached the upstream, %d lines were remembered", seedKnown, served, remembered)
	}
}

// knownBy is a middleware with the options of a site, but for the log, and what New built for it.
func knownBy(t *testing.T, s *testSite, next http.Handler, logLevel string) (http.Handler, *middleware) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	h, err := New(ctx, next, &RawConfig{Options: mergeClaims(s.options, map[string]any{"logLevel": logLevel})}, s.name)
	if err != nil {
		t.Fatal(err)
	}
	return h, builtMiddleware(h)
}

func builtMiddleware(h http.Handler) *middleware {
	if checked, isChecked := h.(*checkedHandler); isChecked {
		h = checked.inner
	}
	return h.(*handler).middleware
}

// forgetAll takes from a middleware whatever it remembers. No header is known as safe then.
func forgetAll(m *middleware) {
	salt := randomText() // by which all its principals were found
	m.cache.keyPrefix = salt + strings.TrimPrefix(m.cache.keyPrefix, m.cache.salt)
	m.cache.salt = salt
	m.cache.safeHeaders = map[string]bool{}
	for line := range m.cache.byHeaderLine {
		delete(m.cache.byHeaderLine, line)
	}
}

// cachedBy lists whom this middleware caches by a header line, and whom all of them cache.
func cachedBy(m *middleware) (all []*principal) {
	for _, p := range m.cache.byHeaderLine {
		all = append(all, p)
	}
	for _, known := range []map[[sha256.Size]byte]*principal{recentPrincipals.byKey, formerPrincipals.byKey, settledPrincipals} {
		for _, p := range known {
			all = append(all, p)
		}
	}
	return all
}

// endAll lets the time of all that a middleware remembers be over, and gives it other keys: nobody who comes again is let in.
func endAll(m *middleware) {
	for _, p := range cachedBy(m) {
		p.validUntil = time.Now()
		p.revalidatableUntil = p.validUntil
	}
	if m.sessions != nil {
		m.sessions.sealer = newSealer([]string{"another secret"}, "", "", "")
	}
	if m.tokens.jwt != nil {
		m.tokens.jwt.keys = newFixedKeySet(&key{kind: "oct", public: []byte("another secret")})
	}
}

// Names that the upstream may be told, that fold into those, that hide some, and others; and what a client may put there.
var (
	oddHeaders = []string{"X-User", "X_user", "X.user", "X-Role", "X_role", "X-Real-Ip", "X_real_ip", "Authorization", "X-Authorization",
		"X-Token", "X_token", "Connection", "Trailer", "Te",
		"Upgrade", "X-Key", "Hub-Csrf-Token", "Cookie2", "Host", "User-Agent", "X-Other", "X-Other2", "X-Long" + strings.Repeat("g", maxSafeHeaderLength)}
	oddValues = []string{"eve", "X-User", "close, X_User", "v", "Bearer x", "websocket", ""}
)

// request makes a request at random. Only what a server lets through comes up: names are canonical, values begin and end with no tab.
func (row *knownRow) request(random *rand.Rand) *http.Request {
	oneOf := func(texts ...string) string {
		return strings.ReplaceAll(texts[random.Intn(len(texts))], "%d", fmt.Sprint(random.Int31()))
	}
	isOneIn := func(n int) bool { return random.Intn(n) == 0 }
	header := http.Header{"X-Forwarded-Proto": {"https"}, "X-Forwarded-Server": {"traefik"}, "Accept": {"*/*"}}
	for n := random.Intn(3); n > 0; n-- {
		header[oneOf(oddHeaders...)] = []string{oneOf(append(oddValues, row.tokens...)...)}
	}
	put := func(name string, values []string) {
		if value := oneOf(values...); value != "" {
			header[name] = []string{value}
		}
		if isOneIn(20) {
			header[name] = append(header[name], "z=1")
		}
	}
	put("Cookie", row.cookies)
	if row.header != "" && !isOneIn(10) { // or one of the odd values is what comes as the token
		put(row.header, row.tokens)
	}
	at := &url.URL{Path: oneOf("/", "/x", "/public/y", "/public/../x", "/oidc/callback", "/login")}
	req := &http.Request{Method: oneOf("GET", "GET", "POST", "OPTIONS", "HEAD"), URL: at, RequestURI: at.Path,
		Host:   oneOf(append(row.hosts, "app.example.com")...),
		Header: header, RemoteAddr: "192.0.2.1:5", Body: http.NoBody}
	if isOneIn(10) {
		at.User = url.User("eve") // as `GET http://eve@host/` does
	}
	if isOneIn(10) {
		req.Trailer = http.Header{"X-User": nil, "X_user": nil, "X-Other": nil}
	}
	return req
}

var longText = regexp.MustCompile(`[\w.-]{60,}([\w-]{5})`)

// knownAnswer is what became of a request.
type knownAnswer struct {
	status          int
	answered        []string    // names of the answer's headers
	header, trailer http.Header // that the upstream got
	user            string
}

func (a *knownAnswer) String() string {
	return fmt.Sprintf("answered %d %q; the upstream got user %q, trailer %q, %q", a.status, a.answered, a.user, a.trailer, a.header)
}

// answerTo sends a copy of a request; the upstream puts into seen what it gets.
func answerTo(h http.Handler, req *http.Request, seen **http.Request) *knownAnswer {
	rw := httptest.NewRecorder()
	*seen = nil
	h.ServeHTTP(rw, req.Clone(context.Background()))
	made := &knownAnswer{status: rw.Code}
	for name := range rw.Header() {
		made.answered = append(made.answered, name)
	}
	sort.Strings(made.answered)
	got := *seen
	if got == nil {
		return made
	}
	if strings.Contains(strings.Join(req.Header["Cookie"], ""), `"`) {
		made.answered = nil // the quote of another cookie makes the CSRF token unreadable: who is remembered gets no new one for that
	}
	made.header, made.trailer, made.user = got.Header, got.Trailer, got.URL.User.Username()
	for name, values := range got.Header {
		if len(values) == 0 { // nothing is sent of it
			delete(got.Header, name)
		}
	}
	if line := got.Header["Cookie"]; line != nil { // who is known gets the blanks and the semicolons as they came
		var cookies []string
		for _, part := range strings.Split(strings.Join(line, "|"), ";") {
			if part = strings.TrimSpace(part); part != "" {
				cookies = append(cookies, part)
			}
		}
		got.Header["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	return made
}

func TestPrincipalCacheOpensNothingElse(t *testing.T) {
	// What was remembered for one request must not open another that only looks like it.
	p := newFakeProvider(t)
	s, b := signedIn(t, p, map[string]any{"logoutUrl": "/logout", "bypass": "Path(`/public`)"}, headersFor("X-User", "sub"))
	line := s.sessionCookie() + "=" + b.cookie(s.sessionCookie()).Value
	for i := 0; i < 3; i++ {
		rawUpstream(b, "/", "Cookie: "+line)
	}
	if seen := rawUpstream(b, "/public", "Cookie: "+line, "X-User: eve"); seen.Headers.Get("X-User") != "" || seen.Headers.Get("Cookie") != "" {
		t.Errorf("an open route got %q", seen.Headers)
	}
	for _, wrong := range []string{strings.ToUpper(line), line[:len(line)-1], line + "A",
		strings.Replace(line, s.sessionCookie(), "x"+s.sessionCookie(), 1), strings.Replace(line, "__Host-", "__host-", 1)} {
		if res := b.raw("/", "Cookie: "+wrong); res.StatusCode == http.StatusOK {
			t.Errorf("let in with %q", wrong[:60])
		}
	}
	rawUpstream(b, "/", "Cookie: a=1", "Cookie: "+line)
	two := start(t, p.options(headersFor("X-User", "sub")))
	if res := newBrowser(t, two).raw("/", "Cookie: "+line); res.StatusCode == http.StatusOK {
		t.Error("another middleware let it in")
	}
	b.open("/logout")
	for i := 0; i < 3; i++ {
		if res := b.raw("/", "Cookie: "+line); res.StatusCode == http.StatusOK {
			t.Error("let in after the logout")
		}
		if res := b.raw("/", "Cookie: "+line+"; a=1"); res.StatusCode == http.StatusOK {
			t.Error("let in after the logout, with another cookie")
		}
	}
}

func TestPrincipalCacheTellsHTTPFromHTTPS(t *testing.T) {
	// A session of http stands under another name than one of https, and the one is not the other, also when it is remembered.
	p := newFakeProvider(t)
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

func TestPrincipalCacheTellsCookiesFromTokens(t *testing.T) {
	// A neighbour's host can plant a cookie without a name. It must not stand for the token of whoever planted it.
	p := newFakeProvider(t)
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

func TestPrincipalCacheForgedHeaders(t *testing.T) {
	// Once a cookie line is remembered, and with it the names of other headers, a name that folds into one of ours is still not passed over.
	p := newFakeProvider(t)
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
				if forged > 0 || seen.Headers.Get("X-User") != "ada" || seen.Headers.Get("X-Other") != "1" ||
					strings.Contains(seen.Headers.Get("Cookie"), "session") {
					t.Errorf("request %d with %s: got %q", i, name, seen.Headers)
				}
			}
			if seen := withHeaders(s, line,
				"Connection: X-User, X_Role, keep-alive").upstream(); strings.Contains(strings.ToLower(seen.Headers.Get("Connection")), "x") {
				t.Errorf("request %d: Connection still names our headers: %q", i, seen.Headers)
			}
		}
	}
}

func TestPrincipalCacheKeepsFewLines(t *testing.T) {
	inThisProcess(t)
	state := newClientState()
	pc := &principalCache{salt: randomText(), hasLogin: true, headers: &headerNames{}, state: state, header: "Cookie",
		cookieNameStem: "s", byHeaderLine: map[string]*principal{}, hosts: map[string]map[string]*principal{}}
	expectCookie(pc, "; s=")
	m := &middleware{cache: pc, sessions: &sessionManager{state: state}}
	keep := func(credential, session string) *principal {
		p, err := rememberPrincipal(context.Background(), nil, pc, credential, &principal{sessionID: session}, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	noteOf := func(p *principal, line ...string) *principal {
		cacheAdmitted(m.cache, p, &http.Request{}, line, map[string]bool{"Cookie": true})
		return recentPrincipals.byKey[p.cacheKey]
	}
	p := keep("s=1", "one")
	p = noteOf(p, strings.Repeat("a", 100000))
	p = noteOf(p, "s=1", "s=1")
	if len(m.cache.byHeaderLine) != 0 {
		t.Errorf("expected none of them, got %d", len(m.cache.byHeaderLine))
	}
	h := &handler{middleware: m, cache: m.cache, credentialHeader: "Cookie", hasLogin: true, hosts: m.cache.hosts, next: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	for i := 0; i < 10; i++ { // other cookies change each time
		line := fmt.Sprint("s=1; a=", i)
		for repeated := 0; repeated < 3; repeated++ {
			h.ServeHTTP(httptest.NewRecorder(), &http.Request{URL: mustParse(app), Header: http.Header{"Cookie": {line}}})
		}
		if isKept := m.cache.byHeaderLine[line] != nil; isKept != (i < maxLinesPerPrincipal) ||
			isKept && m.cache.byHeaderLine[line].headers.values[0] != fmt.Sprint("a=", i) {
			t.Errorf("line %d: %v", i, m.cache.byHeaderLine[line])
		}
	}
	for _, other := range []*principal{keep("Authorization: Bearer t", ""), keep("t=1", "two")} {
		if noteOf(other, "a=1"); m.cache.byHeaderLine["a=1"] != nil {
			t.Error("a cookie line was kept for who was let in by another credential")
		}
	}
	removeByName(m.sessions.state, "id", "nobody")
	removeByName(newClientState(), "id", "one")
	if len(m.cache.byHeaderLine) != maxLinesPerPrincipal {
		t.Errorf("the logout of somebody else took a line: %d", len(m.cache.byHeaderLine))
	}
	removeByName(m.sessions.state, "id", "one") // logged out after it was looked up
	if noteOf(p, "s=1; b=1"); len(m.cache.byHeaderLine) != 0 || recentPrincipals.byKey[p.cacheKey] != nil {
		t.Errorf("of a pass that is gone %d lines were kept", len(m.cache.byHeaderLine))
	}
}

// Other cookies that change with each request are passed on from memory, and none of ours among them: a sign-in under way in another
// tab, a second session of the same name, a chunk.
func TestPrincipalCacheHidesOwnCookies(t *testing.T) {
	p := newFakeProvider(t)
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
func TestPrincipalCacheForgetsMadeUpHeaders(t *testing.T) {
	p := newFakeProvider(t)
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
	if m := testMiddlewareOf(s); !m.cache.safeHeaders["Sec-Ch-Ua-Arch"] {
		t.Errorf("%d names are known, Sec-Ch-Ua-Arch is not among them", len(m.cache.safeHeaders))
	} else if time.Since(m.cache.relearnedAt) > relearnInterval {
		t.Error("the names may be dropped again at once")
	}
}

// One token can be spelt in many ways, with blanks before it, and is remembered in one only.
func TestPrincipalCacheKeepsOneSpellingOfAToken(t *testing.T) {
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret}))
	good := sharedToken(nil)
	for i := 1; i <= 200; i++ {
		bearer(t, s, strings.Repeat(" ", 15000+i)+good).accepted("ada")
	}
	if s.server == nil {
		return
	}
	if m := testMiddlewareOf(s); len(m.cache.byHeaderLine) > maxLinesPerPrincipal {
		t.Errorf("%d lines", len(m.cache.byHeaderLine))
	}
}

func TestPrincipalCacheFirstHTTPSRequestsAtOnce(t *testing.T) {
	// What the session's cookie begins with changes with the first request over https, while others are read. For the race detector.
	for round := 0; round < 50; round++ {
		session := cookie{baseName: "app-session", isDefaultName: true, path: "/"}
		m := &middleware{config: &Config{}, site: &site{}, tokens: &bearerTokens{}, headers: &headerNames{},
			sessions: &sessionManager{cookie: session}, logins: &pendingLogins{}}
		pc := newPrincipalCache(m)
		inParallel(4, func(i int) {
			if i == 2 {
				useHTTPSCookie(pc, cookieName(&session, true))
			}
			if p := findBySessionCookie(&handler{cache: pc},
				&http.Request{Host: "app", Header: http.Header{"Cookie": {"a=1; __Host-app-session=x"}}}); p != expiredPrincipal {
				t.Error("found a pass")
			}
			if i == 3 && extendCopy(pc, &principal{}, &http.Request{Header: http.Header{"Cookie": {"__Host-app-session=x"}}}) {
				t.Error("went on with no pass")
			}
		})
	}
}

// TestPrincipalCacheHostsAreBounded: of more hosts than are remembered the last one is there.
func TestPrincipalCacheHostsAreBounded(t *testing.T) {
	pc := &principalCache{hosts: map[string]map[string]*principal{}, byHeaderLine: map[string]*principal{}}
	for i := 0; i < maxHosts+3; i++ {
		cacheHost(pc, fmt.Sprint("host-", i))
		if pc.hosts[fmt.Sprint("host-", i)] == nil {
			t.Fatalf("the %dth is not remembered", i)
		}
	}
	if len(pc.hosts) != maxHosts {
		t.Errorf("%d hosts", len(pc.hosts))
	}
}

// TestPrincipalCacheEndpoints: an endpoint of ours is known behind each StripPrefix, and the front page never is one.
func TestPrincipalCacheEndpoints(t *testing.T) {
	m := &middleware{site: &site{endpoints: map[string]*endpoint{"/a/b/c": nil, "/x/": nil}}, headers: &headerNames{},
		tokens: &bearerTokens{}, config: &Config{}}
	pc := newPrincipalCache(m)
	for path, want := range map[string]bool{"/a/b/c": true, "/b/c": true, "/c": true, "/x/": true, "/": false, "/a": false, "c": false} {
		if pc.endpointPaths[path] != want {
			t.Errorf("%s: expected %v", path, want)
		}
	}
	if !pc.safeHeaders["Accept"] || pc.safeHeaders["X-User"] {
		t.Errorf("safe from the start: %v", pc.safeHeaders)
	}
}

// TestPrincipalCacheReplaces: the lines of the one before are forgotten with it.
func TestPrincipalCacheReplaces(t *testing.T) {
	inThisProcess(t)
	lines := map[string]*principal{}
	old, other := &principal{cacheKey: sha256.Sum256([]byte("of one place"))}, &principal{cacheKey: sha256.Sum256([]byte("of another place"))}
	principalsLock.Lock()
	defer principalsLock.Unlock()
	insertPrincipal(old)
	insertPrincipal(other)
	cacheLine(lines, "old", nil, old)
	cacheLine(lines, "other", nil, other)
	insertPrincipal(&principal{cacheKey: old.cacheKey})
	if lines["old"] != nil || lines["other"] != other || linesByKey[old.cacheKey] != nil {
		t.Errorf("got %v", lines)
	}
	removePrincipal(old.cacheKey)
	removePrincipal(other.cacheKey)
}

// TestPrincipalCacheOfOneTooLarge: whoever is as large as a good part of the cache is let in, and evicts nobody.
func TestPrincipalCacheOfOneTooLarge(t *testing.T) {
	inThisProcess(t)
	setCapacity(t, 1<<20)
	pc := sessionCacheOf()
	remember := func(credential string, size int) {
		p := &principal{sessionID: credential, names: []string{"X-Groups"}, values: [][]string{{strings.Repeat("x", size)}}}
		if got, err := rememberPrincipal(context.Background(), nil, pc, credential, p, time.Now().Add(time.Hour)); err != nil || got.headers == nil {
			t.Fatal(got, err)
		}
	}
	for i := 0; i < 100; i++ {
		remember(fmt.Sprint("s=", i), 100)
	}
	for i := 0; i < 20; i++ {
		remember(fmt.Sprint("s=large", i), 300<<10)
		remember("s=larger", i*50<<10)
	}
	for i := 0; i < 100; i++ {
		if findPrincipal(pc, fmt.Sprint("s=", i)) == nil {
			t.Fatalf("the %dth of a hundred small ones is forgotten", i)
		}
	}
	if findPrincipal(pc, "s=larger") != nil {
		t.Error("what it was before it grew is still there")
	}
	principalsLock.RLock()
	bytes := recentPrincipals.bytes
	principalsLock.RUnlock()
	for i := 0; i < 100; i++ {
		removeByName(pc.state, "id", fmt.Sprint("s=", i))
	}
	if bytes < 100*principalCost || recentPrincipals.bytes != 0 {
		t.Errorf("%d bytes of a hundred, %d when they are gone", bytes, recentPrincipals.bytes)
	}
}

// TestPrincipalCacheOverHTTP: a session of http is found by its cookie, too, where the other cookies change all the time.
func TestPrincipalCacheOverHTTP(t *testing.T) {
	inThisProcess(t)
	s := start(t, newFakeProvider(t).options())
	b := newBrowser(t, s)
	b.plainHTTP = true
	b.signIn("/")
	mine := b.cookie(strings.TrimPrefix(s.sessionCookie(), "__Host-"))
	for i := 0; i < 4*maxLinesPerPrincipal; i++ {
		req := httptest.NewRequest(http.MethodGet, "http://app.example.com/", nil)
		req.Header.Set("Cookie", fmt.Sprint("other=", i/2, "; ", mine.Name, "=", mine.Value))
		rw := httptest.NewRecorder()
		s.handler.Load().(*testHandler).handler.ServeHTTP(rw, req)
		if rw.Code != http.StatusOK {
			t.Fatalf("request %d: got %d", i, rw.Code)
		}
	}
	principalsLock.RLock()
	defer principalsLock.RUnlock()
	if settledPrincipals[hash([]byte(testMiddlewareOf(s).cache.keyPrefix+mine.Value))] == nil {
		t.Error("it is not settled")
	}
}

// TestPrincipalCacheOfALongToken: the line of a token that is too long is not kept. The token is found by its hash at once, at hosts that are known.
func TestPrincipalCacheOfALongToken(t *testing.T) {
	inThisProcess(t)
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret}))
	line := "Bearer " + sharedToken(map[string]any{"filler": strings.Repeat("x", maxLineLength)})
	h := s.handler.Load().(*testHandler).handler.(*handler)
	for i := 0; i < 3; i++ {
		if rw := visit(h, app+"/", "", "Authorization", line); rw.Code != http.StatusOK {
			t.Fatal(rw.Code)
		}
	}
	principalsLock.Lock()
	delete(recentPrincipals.byKey, hash([]byte(h.cache.keyPrefix+line))) // so nothing else can find it
	principalsLock.Unlock()
	for host, isFound := range map[string]bool{"app.example.com": true, "new.example.com": false} {
		req := &http.Request{Host: host, Header: http.Header{"Authorization": {line}}}
		if got := findByToken(h, req) != expiredPrincipal; got != isFound {
			t.Errorf("%s: found: %v", host, got)
		}
	}
}

// TestPrincipalCacheForgetsNames: of whom a name was taken away nothing is left under it; of others it stays.
func TestPrincipalCacheForgetsNames(t *testing.T) {
	inThisProcess(t)
	ours, theirs := newClientState(), newClientState()
	principalsLock.Lock()
	insertPrincipal(&principal{cacheKey: sha256.Sum256([]byte("ours")), clientState: ours, sessionID: "of two"})
	insertPrincipal(&principal{cacheKey: sha256.Sum256([]byte("theirs")), clientState: theirs, sessionID: "of two"})
	principalsLock.Unlock()
	for left, state := range []*clientState{theirs, ours} {
		removeByName(state, "id", "of two")
		principalsLock.Lock()
		if got := len(recentPrincipals.byName["id"]["of two"]); got != 1-left {
			t.Errorf("%d are left", got)
		}
		principalsLock.Unlock()
	}
}

// TestPrincipalCacheOfMorePeopleThanLines: there is room for few lines. Everybody else is settled, and is found by the cookie alone: with
// any other cookies, until the logout, until somebody new finds the lines to be old.
func TestPrincipalCacheOfMorePeopleThanLines(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	s := start(t, p.options(headersFor("X-User", "sub")))
	m := testMiddlewareOf(s)
	got := http.Header{}
	h := &handler{middleware: m, cache: m.cache, credentialHeader: "Cookie", hasLogin: true, hosts: m.cache.hosts, endpointPaths: m.cache.endpointPaths,
		next: http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) { got = req.Header })}
	principalsLock.Lock()
	whole := principalsCapacity
	rotateHalves()
	rotateHalves()
	principalsCapacity = 400 << 10
	principalsLock.Unlock()
	defer func() {
		principalsLock.Lock()
		principalsCapacity = whole
		principalsLock.Unlock()
	}()
	const count, fit = 60, 12 // lines of 8 KB in a quarter of 400 KB
	lines := sessionsOf(t, p, m, count+2)
	padding := strings.Repeat("x", 8000)
	everybody := func(others string) (served int) {
		for i, line := range lines[:count] {
			isServed := visit(h, app+"/", line+"; "+others).Code == http.StatusOK
			if isServed && (got["X-User"][0] != fmt.Sprintf("user-%d-of-the-company", i) || got["Cookie"][0] != others) {
				t.Errorf("session %d: the upstream got %q", i, got)
			}
			if isServed {
				served++
			}
		}
		return served
	}
	state := func() (lines, settled int) {
		principalsLock.RLock()
		defer principalsLock.RUnlock()
		return len(m.cache.byHeaderLine), len(settledPrincipals)
	}
	everybody("a=" + padding)
	everybody("a=" + padding)
	sealer := m.sessions.sealer
	m.sessions.sealer = newSealer([]string{"another secret"}, "", "", "") // nobody is let in but who is remembered
	for i := 0; i < 3; i++ {
		if n := everybody("b=" + padding + fmt.Sprint(i)); n != count {
			t.Errorf("with other cookies %d of %d are found", n, count)
		}
	}
	if kept, settled := state(); kept == 0 || kept > fit || settled != count {
		t.Errorf("%d lines are kept, %d are settled", kept, settled)
	}
	if lineBytes > principalsCapacity/4 {
		t.Errorf("%d bytes of lines", lineBytes)
	}
	removed := recentPrincipals.byKey[hash([]byte(m.cache.salt+lines[0]))]
	removeByName(m.sessions.state, "id", removed.sessionID)
	if n := everybody("c=" + padding); n != count-1 {
		t.Errorf("after a logout %d of %d are found", n, count)
	}
	m.sessions.sealer = sealer
	linesSince = time.Now()
	visit(h, app+"/", lines[count]+"; a="+padding) // in the place of who was logged out
	full, _ := state()
	visit(h, app+"/", lines[count+1]+"; a="+padding)
	if kept, settled := state(); kept != full || settled < count/2 {
		t.Errorf("%d lines, then %d and %d settled", full, kept, settled)
	}
	linesSince = time.Now().Add(-2 * lineLifetime)
	visit(h, app+"/", lines[count+1]+"; a="+padding)
	if kept, settled := state(); kept != 1 || settled != 0 {
		t.Errorf("%d old lines are left, and %d settled", kept, settled)
	}
}

// TestPrincipalCacheLogoutAtEachLock: a sign-out comes just before each lock that a request takes, whatever is known of the session by then.
// The session is over afterwards, with any line.
func TestPrincipalCacheLogoutAtEachLock(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	s := start(t, p.options(headersFor("X-User", "sub"), map[string]any{"logLevel": "error"}))
	m := testMiddlewareOf(s)
	h := s.handler.Load().(*testHandler).handler
	reading, writing := lockForReading, lockForWriting
	defer func() { lockForReading, lockForWriting = reading, writing }()
	locks := 0
	var before func()
	hooked := func(lock func()) func() {
		return func() {
			locks++
			if before != nil {
				before()
			}
			lock()
		}
	}
	lockForReading, lockForWriting = hooked(reading), hooked(writing)
	visit(h, app+"/", "")
	const states, most = 5, 40
	lines := sessionsOf(t, p, m, states*most)
	for state := 0; state < states; state++ {
		taken := 0
		for n := 1; n <= most && (n == 1 || n <= taken+1); n++ {
			line := lines[state*most+n-1]
			known, _, err := openSession(context.Background(), m.sessions, cookieName(&m.sessions.cookie, true), strings.SplitN(line, "=", 2)[1])
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < state; i++ { // it is new, or known by a line, by its cookie, or settled
				visit(h, app+"/", fmt.Sprint(line, "; a=", i*3))
			}
			if state == states-1 { // or in the half that was not used for long
				principalsLock.Lock()
				rotateHalves()
				principalsLock.Unlock()
			}
			locks = 0
			before = func() {
				if locks == n {
					before = nil
					revoke(m.sessions, m.sessions.state.revoked, "id:"+known.ID, time.Now().UnixMilli()+1000)
				}
			}
			visit(h, app+"/", line+"; b=1")
			taken = locks
			if before != nil {
				before = nil
				if n <= taken {
					t.Fatalf("state %d: no sign-out before lock %d of %d", state, n, taken)
				}
				break // all of them were tried
			}
			for _, others := range []string{"", "; b=1", "; a=0", "; c=1"} {
				if rw := visit(h, app+"/", line+others); rw.Code == http.StatusOK {
					t.Errorf("state %d: let in with %q after a sign-out before lock %d", state, others, n)
				}
			}
		}
	}
}

// TestPrincipalCacheIsNotForStrangers: whatever is sent by who is not signed in, nobody is remembered, and who is signed in stays so.
func TestPrincipalCacheIsNotForStrangers(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	s, b := signedIn(t, p, map[string]any{"logLevel": "error", "logoutUrl": "/logout", "frontchannelLogoutUrl": "/frontchannel", "backchannelLogoutUrl": "/backchannel"})
	m, h := testMiddlewareOf(s), s.handler.Load().(*testHandler).handler
	name := s.sessionCookie()
	line := name + "=" + b.cookie(name).Value
	for i := 0; i < 3; i++ {
		visit(h, app+"/", line)
	}
	state := func() string {
		principalsLock.RLock()
		defer principalsLock.RUnlock()
		return fmt.Sprint(len(recentPrincipals.byKey), len(formerPrincipals.byKey), recentPrincipals.bytes, len(linesByKey), lineBytes, len(settledPrincipals), len(m.cache.hosts),
			len(m.cache.safeHeaders), len(m.cache.byHeaderLine), m.sessions.state.revoked.used, m.sessions.state.refreshed.used)
	}
	before := state()
	for i := 0; i < 500; i++ {
		made := fmt.Sprint(i, strings.Repeat("x", 500))
		visit(h, app+"/"+made, name+"=A"+made, "X-Made-Up-"+fmt.Sprint(i), made)
		visit(h, "https://h"+fmt.Sprint(i)+".example.com/", line[:len(line)-1]+"!"+fmt.Sprint(i))
		visit(h, app+"/", name+"=2~"+made+"; "+name+".1="+made)
		visit(h, app+"/logout", name+"="+made)
		visit(h, app+"/frontchannel?sid="+fmt.Sprint(i)+"&iss="+url.QueryEscape(p.issuer), "")
		visit(h, app+"/oidc/callback?code=x&state="+made, "")
		rw := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodPost, app+"/backchannel", strings.NewReader("logout_token="+made))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		h.ServeHTTP(rw, req)
	}
	if after := state(); after != before {
		t.Errorf("strangers have changed what is remembered: %s before, %s after", before, after)
	}
	m.sessions.sealer = newSealer([]string{"another secret"}, "", "", "") // nobody is let in but who is remembered
	if rw := visit(h, app+"/", line); rw.Code != http.StatusOK {
		t.Errorf("who was signed in is forgotten: %d", rw.Code)
	}
}

// TestPrincipalCacheAtOnce: requests of many people, while halves rotate, names are learnt, people sign out, and configurations come and go.
// Everybody is let in as themselves. For the race detector.
func TestPrincipalCacheAtOnce(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	s := start(t, p.options(headersFor("X-User", "sub"), map[string]any{"logLevel": "error"}))
	m := testMiddlewareOf(s)
	h := &handler{middleware: m, cache: m.cache, credentialHeader: "Cookie", hasLogin: true, hosts: m.cache.hosts, endpointPaths: m.cache.endpointPaths,
		next: http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) { rw.Header()["X-Is"] = req.Header["X-User"] })}
	const count, rounds = 20, 60
	lines := sessionsOf(t, p, m, count+1)
	visit(h, app+"/", "")
	capacity := principalsCapacity
	inParallel(6, func(worker int) {
		for i := 0; i < rounds; i++ {
			who := (i*7 + worker) % count
			rw := visit(h, app+"/", fmt.Sprint(lines[who], "; a=", i), fmt.Sprint("X-Name-", i), "1")
			if got := rw.Header()["X-Is"]; rw.Code != http.StatusOK || len(got) != 1 || got[0] != fmt.Sprintf("user-%d-of-the-company", who) {
				t.Errorf("%d is %d, %v", who, rw.Code, got)
			}
			switch (i + worker) % 10 {
			case 0:
				principalsLock.Lock()
				linesSince = time.Time{}
				principalsLock.Unlock()
				resizePrincipals(capacity)
			case 3:
				removeByName(m.sessions.state, "sub", fmt.Sprintf("user-%d-of-the-company", who))
			case 6:
				ctx, end := context.WithCancel(context.Background())
				if _, err := findMiddleware(ctx, p.options(map[string]any{"logLevel": "error", "usernameClaim": fmt.Sprint("w", worker, "-", i)}), "other@file"); err != nil {
					t.Error(err)
				}
				end()
			}
		}
	})
	revoke(m.sessions, m.sessions.state.revoked, "sub:user-3-of-the-company", time.Now().UnixMilli()+1000)
	inParallel(4, func(int) {
		if rw := visit(h, app+"/", lines[3]+"; a=1"); rw.Code == http.StatusOK {
			t.Error("let in after a sign-out")
		}
	})
}
