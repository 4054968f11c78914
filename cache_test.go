package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"
)

// heapNow is what the heap holds after a collection.
func heapNow() int {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}

// sessionsOf are the cookie lines of so many sessions of a middleware, as a provider with tokens of usual size makes them.
func sessionsOf(t *testing.T, p *fakeProvider, m *middleware, count int) []string {
	t.Helper()
	name := cookieName(&m.sessions.cookie, true)
	now := time.Now()
	var lines []string
	for i := 0; i < count; i++ {
		claims := map[string]any{"iss": p.issuer, "aud": "app", "sub": fmt.Sprintf("user-%d-of-the-company", i),
			"sid":   fmt.Sprintf("4b1d2c66-54f4-4d5a-9a6b-%012d", i),
			"email": fmt.Sprintf("user.%d@example.com", i), "exp": now.Unix() + 3600, "groups": []string{"staff", "engineering", "on-call"}}
		token := encodeSegment(map[string]any{"alg": "RS256",
			"kid": "one"}) + "." + encodeSegment(claims) + "." + base64url.EncodeToString(randomBytes(256))
		s := newSession(&tokenResponse{idToken: token, accessToken: token, refreshToken: randomText(), expiresIn: 3600}, claims, nil, now)
		content, err := packSession(s)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, name+"="+seal(m.sessions.sealer, name, content))
	}
	return lines
}

func visit(h http.Handler, target, cookie string, header ...string) *httptest.ResponseRecorder {
	rw := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodGet, target, nil)
	req.Header["X-Forwarded-Proto"] = []string{"https"}
	if cookie != "" {
		req.Header["Cookie"] = []string{cookie}
	}
	for i := 1; i < len(header); i += 2 {
		req.Header[header[i-1]] = []string{header[i]}
	}
	h.ServeHTTP(rw, req)
	return rw
}

// TestCacheOfManySessions: twenty thousand people who come in turn are all remembered, in so many bytes each; of more than there is room
// for, those are forgotten who were not seen for the longest time.
func TestCacheOfManySessions(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	s := start(t, p.options(headersFor("X-User", "sub", "X-Email", "email"), map[string]any{"logLevel": "error"}))
	m := testMiddlewareOf(s)
	next := http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {})
	h := &handler{middleware: m, next: next, cache: m.cache, credentialHeader: m.cache.header, hasLogin: m.cache.hasLogin, hosts: m.cache.hosts, endpointPaths: m.cache.endpointPaths}
	visit(h, app+"/", "")
	const count = 20000
	lines := sessionsOf(t, p, m, count)
	sealer := m.sessions.sealer
	rotateHalves()
	rotateHalves()
	before := heapNow()
	for _, line := range lines {
		if rw := visit(h, app+"/", line); rw.Code != http.StatusOK {
			t.Fatalf("got %d", rw.Code)
		}
	}
	first := heapNow() - before
	m.sessions.sealer = newSealer([]string{"another secret"}, "", "", "") // nobody is let in but who is remembered
	unknown := func(from, to int) (n int) {
		for _, line := range lines[from:to] {
			if visit(h, app+"/", line).Code != http.StatusOK {
				n++
			}
		}
		return n
	}
	if n := unknown(0, count); n > 0 {
		t.Errorf("%d of %d were forgotten", n, count)
	}
	t.Logf("%d sessions: %d bytes each without their lines, %d by our own account; %d lines of %d bytes: %d", count, (first-lineBytes)/count,
		recentPrincipals.bytes/len(recentPrincipals.byKey), len(m.cache.byHeaderLine), len(lines[0]), lineBytes)
	if held := heapNow() - before; held > principalsCapacity+principalsCapacity/8 {
		t.Errorf("%d bytes are held, %d are allowed", held, principalsCapacity)
	}
	// With less room: who is in use stays, and what is new pushes out who is not.
	principalsLock.Lock()
	whole := principalsCapacity
	principalsCapacity = 1 << 20
	principalsLock.Unlock()
	defer func() {
		principalsLock.Lock()
		principalsCapacity = whole
		principalsLock.Unlock()
	}()
	m.sessions.sealer = sealer
	rotateHalves()
	rotateHalves()
	lines = lines[:4000]
	for i, line := range lines {
		visit(h, app+"/", line)
		visit(h, app+"/", lines[i%100]) // a hundred who are there all the time
	}
	held := heapNow() - before
	m.sessions.sealer = newSealer([]string{"another secret"}, "", "", "")
	if n := unknown(0, 100); n > 0 {
		t.Errorf("%d of the hundred who are there all the time were forgotten", n)
	}
	if n := unknown(3900, 4000); n > 0 {
		t.Errorf("%d of the last hundred were forgotten", n)
	}
	if n := unknown(1000, 2000); n != 1000 {
		t.Errorf("%d of those who were there long ago are remembered", 1000-n)
	}
	if held > principalsCapacity+1<<20 {
		t.Errorf("%d bytes are held, %d are allowed", held, principalsCapacity)
	}
}

// TestCacheOfStrangers: whatever a stranger sends, as long as it may be and as often, what is kept of it has a bound. The table in
// docs/security.md has them all.
func TestCacheOfStrangers(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	quiet := map[string]any{"logLevel": "error"}
	login := start(t, p.options(map[string]any{"frontchannelLogoutUrl": "/frontchannel", "backchannelLogoutUrl": "/backchannel",
		"unauthenticated": "login"}, quiet))
	callers := callersOptions(p)
	callers["logLevel"] = "error"
	basic := start(t, callers)
	opaque := start(t, mergeClaims(introspectionOptions(p, nil), quiet))
	jwt := start(t, mergeClaims(jwtOptions(map[string]any{"signingSecret": tokenSecret}), quiet))
	handlerOf := func(s *testSite) http.Handler { return s.handler.Load().(*testHandler).handler }
	long := strings.Repeat("x", 2000)
	issuer := url.QueryEscape(p.issuer)
	for _, attack := range []struct {
		name  string
		count int
		most  int // bytes
		send  func(i int)
	}{
		{"sign-ins that were refused, with long addresses to return to", 3000, 6 << 20, func(i int) {
			begun := visit(handlerOf(login), fmt.Sprint(app, "/", long, i, "?", long), "")
			to, _ := url.Parse(begun.Header().Get("Location"))
			cookie := strings.Join(begun.Result().Header["Set-Cookie"], "; ")
			back := visit(handlerOf(login), app+"/oidc/callback?error=access_denied&iss="+issuer+"&state="+url.QueryEscape(to.Query().Get("state")), cookie)
			if back.Code != http.StatusForbidden {
				t.Fatalf("got %d %s", back.Code, back.Body)
			}
		}},
		{"front-channel logouts", 20000, 6 << 20, func(i int) {
			visit(handlerOf(login), fmt.Sprintf("%s/frontchannel?iss=%s&sid=%0255d", app, issuer, i), "")
		}},
		{"logout tokens, states and codes that are none", 2000, 2 << 20, func(i int) {
			visit(handlerOf(login), fmt.Sprint(app, "/oidc/callback?code=", long, "&state=", i, long), "x="+long)
		}},
		{"hosts, paths and header names", 3000, 2 << 20, func(i int) {
			visit(handlerOf(login), fmt.Sprint("https://h", i, ".example.com/", i, long), "", fmt.Sprint("X-Made-Up-", i), long)
		}},
		{"credentials", 3000, 4 << 20, func(i int) {
			visit(handlerOf(basic), app+"/", "", "Authorization",
				"Basic "+base64url.EncodeToString([]byte(fmt.Sprint("id", i, ":", strings.Repeat("s", 20001)))))
		}},
		{"opaque tokens", 3000, 6 << 20, func(i int) {
			visit(handlerOf(opaque), app+"/", "", "Authorization", fmt.Sprint("Bearer ", i, strings.Repeat("t", 20000)))
		}},
		{"forged JWTs", 5000, 2 << 20, func(i int) {
			visit(handlerOf(jwt), app+"/", "", "Authorization", "Bearer "+jwtOf(fmt.Sprintf(`{"alg":"HS256","kid":"%d%s"}`, i, long[:400]), `{"sub":"eve"}`))
		}},
	} {
		attack.send(-1)
		before := heapNow()
		for i := 0; i < attack.count; i++ {
			attack.send(i)
		}
		held := heapNow() - before
		t.Logf("%s: %d requests, %d KB", attack.name, attack.count, held>>10)
		if held > attack.most {
			t.Errorf("%s: %d bytes are held, at most %d", attack.name, held, attack.most)
		}
	}
}

// TestCacheCountsAllLines: a header of many lines takes as many bytes as they have.
func TestCacheCountsAllLines(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	var groups []any
	for i := 0; i < 1000; i++ {
		groups = append(groups, fmt.Sprint("a group with some name ", i))
	}
	p.user = mergeClaims(p.user, map[string]any{"groups": groups})
	s, b := signedIn(t, p, headersFor("X-Group", "{groups|lines}"))
	b.fetch(http.MethodGet, "/", "").upstream()
	size := 0
	principalsLock.RLock()
	for _, known := range recentPrincipals.byKey {
		if known.headers != nil && len(known.headers.values) == len(groups) {
			size = known.size
		}
	}
	principalsLock.RUnlock()
	if size < len(groups)*(len(groups[0].(string))+16) { // RAM for a text: itself, its place and length
		t.Errorf("%s: 1,000 lines count as %d bytes", s.name, size)
	}
}

// TestCacheKeepsWhatIsRead: an entry that is read now and then stays, however many others come; one that is not is forgotten.
func TestCacheKeepsWhatIsRead(t *testing.T) {
	m := newBoundedCache(4 * (cacheEntryCost + 10))
	cacheSet(m, "read", "kept", 0)
	cacheSet(m, "left", "kept", 0)
	for i := 0; i < 30; i++ {
		cacheSet(m, fmt.Sprint(i), true, 0)
		if got := cacheGet(m, "read"); got != "kept" {
			t.Fatalf("after %d others it is %v", i+1, got)
		}
	}
	if got := cacheGet(m, "left"); got != nil {
		t.Errorf("what nobody read is still there: %v", got)
	}
}

// TestCacheHasAny: what is in either half counts.
func TestCacheHasAny(t *testing.T) {
	m := newBoundedCache(1)
	cacheSet(m, "old", true, 0)
	cacheSet(m, "new", true, 0) // pushes the other into the old half
	for keys, want := range map[string]bool{"old": true, "new": true, "none old": true, "none": false, "": false} {
		if got := cacheHasAny(m, strings.Fields(keys)); got != want {
			t.Errorf("%q: %v", keys, got)
		}
	}
}

func TestCacheReplaces(t *testing.T) {
	// Whoever found an entry in the old half, and moves it after it was replaced, must not bring the old one back.
	m := newBoundedCache(2 * (cacheEntryCost + len("other")))
	for _, key := range []string{"key", "other", "third"} { // the third one pushes them into the old half
		cacheSet(m, key, "old", 0)
	}
	if m.old["key"].value == nil {
		t.Fatal("it is not in the old half")
	}
	cacheSet(m, "key", "new", 0)
	if moved, found := cachePromote(m, "key"), cacheGet(m, "key"); moved != "new" || found != "new" {
		t.Fatalf("it is %v, then %v", moved, found)
	}
}

// TestCacheCountsItsBytes: what is set, replaced, read again and rotated is counted as it is.
func TestCacheCountsItsBytes(t *testing.T) {
	m := newBoundedCache(20 * cacheEntryCost)
	for i := 0; i < 200; i++ {
		key := strings.Repeat("k", i%13+1)
		cacheSet(m, key, true, i%7*50)
		cacheGet(m, strings.Repeat("k", i%5+1))
		want := 0
		for key, one := range m.young {
			want += cacheEntryCost + len(key) + one.size
		}
		if m.used != want || m.used > m.capacity {
			t.Fatalf("after %d entries %d bytes are counted, there are %d of %d", i+1, m.used, want, m.capacity)
		}
	}
}

// TestCacheOfWorkThatPanics: the others who wait for it get an error, and the next one works anew.
func TestCacheOfWorkThatPanics(t *testing.T) {
	inThisProcess(t)
	var f inFlight
	ctx := context.Background()
	begun, release, waited := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		defer func() { recover() }()
		_, _ = doOnce(ctx, &f, "key", func(context.Context) (any, error) {
			close(begun)
			<-release
			panic("at the work")
		})
	}()
	<-begun
	go func() {
		_, err := doOnce(ctx, &f, "key", func(context.Context) (any, error) { return "its own", nil })
		waited <- err
	}()
	time.Sleep(20 * time.Millisecond) // else it works itself, which is no error
	close(release)
	if err := <-waited; err != nil && !strings.Contains(err.Error(), "panic") {
		t.Errorf("got %v", err)
	}
	eventually(t, "somebody else works", func() bool {
		value, err := doOnce(ctx, &f, "key", func(context.Context) (any, error) { return "new", nil })
		return value == "new" && err == nil
	})
}

// TestCacheRefetch is the life of one entry: what is asked for anew, what is kept when that fails, and what the others get meanwhile.
func TestCacheRefetch(t *testing.T) {
	m := newBoundedCache(1 << 20)
	ctx := context.Background()
	failure := errors.New("it fails")
	asked := 0
	var ask func(made *fetched) error
	again := func(version int) (*fetched, error) {
		known, err := refetch(ctx, m, "key", version, func(_ context.Context, made *fetched) error {
			asked++
			return ask(made)
		})
		return known, err
	}
	expect := func(what string, known *fetched, err error, value any, version, calls int, want error) {
		t.Helper()
		if known.value != value || known.version != version || asked != calls || !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v, version %d, after %d calls: %v", what, known.value, known.version, asked, err)
		}
		if kept, _ := cached(m, "key"); kept.value != value || kept.version != version {
			t.Errorf("%s: %v is kept, version %d", what, kept.value, kept.version)
		}
	}
	if known, isOld := cached(m, "key"); known.value != nil || !isOld {
		t.Errorf("of nothing %v is there", known.value)
	}
	ask = func(*fetched) error { return failure }
	known, err := again(0)
	expect("a failure that is not cached", known, err, nil, 0, 1, failure)
	if m.used != 0 {
		t.Errorf("%d bytes are kept of it", m.used)
	}
	ask = func(made *fetched) error {
		made.value = "one" // each on its own: in the interpreter, one assignment of several leaves an any as it was
		made.size = 1000
		made.until = time.Now().Add(time.Hour)
		return nil
	}
	known, err = again(0)
	expect("a value", known, err, "one", 1, 2, nil)
	held := m.used
	if held < 1000+maxErrorSize {
		t.Errorf("it counts as %d bytes", held)
	}
	known, err = again(0)
	expect("who asks for something newer than nothing", known, err, "one", 1, 2, nil)
	ask = func(*fetched) error { return failure }
	known, err = again(1)
	expect("a failure that is not cached, beside a value", known, err, "one", 1, 3, failure)
	ask = func(made *fetched) error {
		made.backoff = backoff{failures: 3, until: time.Now().Add(time.Hour), err: failure}
		return nil
	}
	known, err = again(1)
	expect("a failure that is cached", known, err, "one", 1, 4, failure)
	known, err = again(1)
	expect("during the pause", known, err, "one", 1, 4, failure)
	if m.used != held {
		t.Errorf("with a failure it counts as %d bytes, without as %d", m.used, held)
	}
	for left, most := range map[time.Duration]time.Duration{time.Minute: 30 * time.Second, time.Hour: time.Minute} {
		cacheSet(m, "key", &fetched{value: "one", version: 1, end: time.Now().Add(left), backoff: backoff{failures: 3, err: failure}}, 0)
		ask = func(made *fetched) error {
			meanwhile, isOld := cached(m, "key")
			if until := time.Until(meanwhile.until); isOld || until > most || until < most/2 {
				t.Errorf("while it is fetched anew, the old one is used for %s, %v", until, isOld)
			}
			made.value = "two"
			return nil
		}
		asked = 0
		known, err = again(1)
		expect("a new value", known, err, "two", 2, 1, nil)
		if known.backoff.failures != 0 || known.backoff.err != nil {
			t.Errorf("the failures before it count: %v", known.backoff)
		}
	}
}

// TestCacheRefetchTakesLong: whoever cannot wait for another's fetch gets what is there.
func TestCacheRefetchTakesLong(t *testing.T) {
	inThisProcess(t)
	m := newBoundedCache(1 << 20)
	cacheSet(m, "key", &fetched{value: "old"}, 0)
	begun, release, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = refetch(context.Background(), m, "key", 0, func(_ context.Context, made *fetched) error {
			close(begun)
			<-release
			made.value = "new"
			return nil
		})
	}()
	<-begun
	brief, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer stop()
	known, err := refetch(brief, m, "key", 0, func(context.Context, *fetched) error { return errors.New("asked twice") })
	if known.value != "old" || !errors.Is(err, errInProgress) {
		t.Errorf("got %v, %v", known.value, err)
	}
	close(release)
	<-ended
	if known, _ := cached(m, "key"); known.value != "new" {
		t.Errorf("%v is kept", known.value)
	}
}

// TestCacheCountsValues: what a provider makes long counts as much in the caches that keep it, or it would fill the memory.
func TestCacheCountsValues(t *testing.T) {
	inThisProcess(t)
	t.Parallel()
	p := newFakeProvider(t)
	p.expiresIn = 1
	long := incompressible(3000)
	p.user["filler"] = long // in the ID token
	p.edit("introspection", func(answer map[string]any) { answer["filler"], answer["aud"] = long, app })
	s, b := signedIn(t, p, map[string]any{"oAuthIntrospection": map[string]any{"resource": app}})
	withHeaders(s, "Authorization: Bearer "+p.opaque("ada")).upstream()
	eventually(t, "the tokens are refreshed", func() bool {
		b.open("/").upstream()
		return p.count("token") > 1
	})
	m := testMiddlewareOf(s)
	p.edit("token", func(answer map[string]any) { answer["access_token"] = long })
	upstream := start(t, clientCredentialsOptions(p, nil))
	newBrowser(t, upstream).open("/").upstream()
	for what, cache := range map[string]*boundedCache{"a sign-in": m.logins.completed, "a refresh": m.sessions.state.refreshed,
		"introspection": m.tokens.introspection.client.responses, "client credentials": testMiddlewareOf(upstream).clientCredentials.client.responses} {
		cache.mu.RLock()
		if cache.used < parsedJSONFactor*len(long) {
			t.Errorf("%s: %d bytes are counted", what, cache.used)
		}
		cache.mu.RUnlock()
	}
}
