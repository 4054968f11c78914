package oidc

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// What the memories really hold, beside what they count. A part of a text keeps the whole text in memory, so nothing that a client sent may
// be kept as a part of something longer.

// readByServer is a request as Go's server reads it.
func readByServer(t *testing.T, text string) *http.Request {
	t.Helper()
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// TestMemoryOfJOSEHeaders: of a forged token only its short header is kept, not the long rest that it came in.
func TestMemoryOfJOSEHeaders(t *testing.T) {
	inThisProcess(t)
	rest := strings.Repeat("x", maxTokenSize-100)
	before := heapNow()
	for i := 0; i < 1000; i++ {
		_, _ = parseToken(encodeSegment(map[string]any{"alg": "RS256", "kid": fmt.Sprint(i)}) + "." + rest + ".")
	}
	if held := heapNow() - before; held > 1<<20 {
		t.Errorf("%d bytes are held of a thousand forged tokens", held)
	}
}

// TestMemoryOfHosts: of a request in absolute form (RFC 9112 3.2.2) only its host is kept, not the address that it is a part of.
func TestMemoryOfHosts(t *testing.T) {
	inThisProcess(t)
	pc := &principalCache{hosts: map[string]map[string]*principal{}, byHeaderLine: map[string]*principal{}}
	before := heapNow()
	for i := 0; i < maxHosts; i++ {
		req := readByServer(t, fmt.Sprintf("GET http://host-%d.example.com/%s HTTP/1.1\r\nHost: x\r\n\r\n", i, strings.Repeat("x", 30000)))
		cacheHost(pc, req.Host)
	}
	if held := heapNow() - before; len(pc.hosts) != maxHosts || held > 1<<20 {
		t.Errorf("%d hosts hold %d bytes", len(pc.hosts), held)
	}
}

// TestMemoryOfTokensInQueries: a token that the upstream gets from memory does not keep the long query that it came in.
func TestMemoryOfTokensInQueries(t *testing.T) {
	inThisProcess(t)
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenSource": map[string]any{"query": "token"},
		"forwardHeaders": map[string]any{"X-Token": "{access_token}"}}))
	h := s.handler.Load().(*testHandler).handler
	const count = 100
	var tokens []string
	for i := 0; i < count; i++ {
		tokens = append(tokens, sharedToken(map[string]any{"sub": fmt.Sprint("user-", i)}))
	}
	before := heapNow()
	for i, token := range tokens {
		rw := httptest.NewRecorder()
		h.ServeHTTP(rw, readByServer(t, fmt.Sprintf("GET /?token=%s&x=%s HTTP/1.1\r\nHost: app.example.com\r\nX-Forwarded-Proto: https\r\n\r\n", token, strings.Repeat("x", 40000))))
		if rw.Code != http.StatusOK {
			t.Fatalf("request %d: got %d %s", i, rw.Code, rw.Body)
		}
	}
	if held := heapNow() - before; held > 2<<20 {
		t.Errorf("%d bytes are held of %d tokens of %d bytes", held, count, len(tokens[0]))
	}
}

// memoryOf is how many bytes the heap holds after work, and how many the cache of principals counts.
func memoryOf(t *testing.T, work func()) (held, counted int) {
	t.Helper()
	principalsLock.Lock()
	whole := principalsCapacity
	principalsCapacity = 1 << 30
	rotateHalves()
	rotateHalves()
	principalsLock.Unlock()
	before := heapNow()
	work()
	held = heapNow() - before
	principalsLock.Lock()
	counted = recentPrincipals.bytes + lineBytes
	principalsCapacity = whole
	rotateHalves()
	rotateHalves()
	principalsLock.Unlock()
	return held, counted
}

// sessionCacheOf is the part of a middleware with sign-in, and without anything else.
func sessionCacheOf() *principalCache {
	pc := &principalCache{salt: randomText(), hasLogin: true, headers: &headerNames{}, state: newClientState(), header: "Cookie",
		byHeaderLine: map[string]*principal{}, hosts: map[string]map[string]*principal{}, safeHeaders: map[string]bool{"Cookie": true}}
	expectCookie(pc, "; s=")
	return pc
}

// TestMemoryOfPrincipals: whatever principals are made of, the cache counts it, to a third.
func TestMemoryOfPrincipals(t *testing.T) {
	inThisProcess(t)
	const count = 1000
	long := func(i, size int) string { return fmt.Sprint(i, strings.Repeat("x", size)) }
	lines := func(n, size int) (made []string) {
		for i := 0; i < n; i++ {
			made = append(made, long(i, size))
		}
		return made
	}
	inRedis := &middleware{cache: &principalCache{}, store: &store{prefix: strings.Repeat("k", 60), redis: &redisClient{config: &RedisConfig{}}}}
	for name, made := range map[string]func(i int) *principal{
		"usual": func(i int) *principal {
			return &principal{names: []string{"X-User", "X-Email"}, values: [][]string{{long(i, 20)}, {long(i, 30)}}}
		},
		"a long user name": func(i int) *principal { return &principal{user: url.User(long(i, 10000))} },
		"a long header": func(i int) *principal {
			return &principal{names: []string{"X-Groups"}, values: [][]string{{long(i, 10000)}}}
		},
		"a hundred headers": func(i int) *principal {
			p := &principal{}
			for j := 0; j < 100; j++ {
				p.names = append(p.names, fmt.Sprint("X-Header-", j))
				p.values = append(p.values, []string{long(i, 10)})
			}
			return p
		},
		"a thousand lines": func(int) *principal {
			return &principal{names: []string{"X-Group"}, values: [][]string{lines(1000, 20)}}
		},
		"in Redis": func(i int) *principal {
			p := &principal{}
			s := &session{ticket: []byte(long(i, ticketIDSize+ticketKeySize)), validator: redisBulk(long(i, 32))}
			allowRevalidation(inRedis, p, s, time.Now().Add(time.Hour), time.Now())
			return p
		},
	} {
		pc := sessionCacheOf()
		held, counted := memoryOf(t, func() {
			for i := 0; i < count; i++ {
				p := made(i)
				p.sessionID, p.sid, p.sub = fmt.Sprintf("%022d", i), fmt.Sprintf("4b1d2c66-54f4-4d5a-9a6b-%012d", i), fmt.Sprintf("user-%d-of-the-company", i)
				for again := 0; again < 3; again++ { // as when it is refreshed: the one before makes room
					fresh := *p
					fresh.names = append([]string{}, p.names...)
					fresh.values = nil
					for _, values := range p.values {
						var copied []string
						for _, value := range values {
							copied = append(copied, strings.Clone(value))
						}
						fresh.values = append(fresh.values, copied)
					}
					if _, err := rememberPrincipal(context.Background(), nil, pc, fmt.Sprint("s=", i), &fresh, time.Now().Add(time.Hour)); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
		t.Logf("%s: %d bytes are held, %d are counted", name, held/count, counted/count)
		if held > counted*4/3 {
			t.Errorf("%s: %d bytes are held of each, %d are counted", name, held/count, counted/count)
		}
	}
}

// TestMemoryOfLines: the other cookies of a line, which the upstream gets, are there twice, and count twice.
func TestMemoryOfLines(t *testing.T) {
	inThisProcess(t)
	const count = 1000
	pc := sessionCacheOf()
	held, counted := memoryOf(t, func() {
		for i := 0; i < count; i++ {
			credential := fmt.Sprintf("s=%d", i)
			p, err := rememberPrincipal(context.Background(), nil, pc, credential, &principal{sessionID: fmt.Sprint(i)}, time.Now().Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			others := fmt.Sprint("other=", i, strings.Repeat("x", 12000))
			req := &http.Request{Host: "app", Header: http.Header{pc.header: {strings.Clone(others)}}}
			cacheAdmitted(pc, p, req, []string{credential + "; " + others}, pc.safeHeaders)
		}
	})
	if len(pc.byHeaderLine) > 0 || held > counted*4/3 {
		t.Errorf("%d bytes are held of each, %d are counted; %d lines are left", held/count, counted/count, len(pc.byHeaderLine))
	}
}

// TestMemoryOfPatterns: options that change with every reload leave nothing compiled behind.
func TestMemoryOfPatterns(t *testing.T) {
	inThisProcess(t)
	compiled := func() (n int) {
		for _, known := range []*sync.Map{&compiledPatterns, &blocks} {
			known.Range(func(any, any) bool {
				n++
				return true
			})
		}
		return n
	}
	before := 0
	for i := 0; i < 20; i++ {
		if i == 10 {
			before = compiled()
		}
		name := fmt.Sprint("cookie", i)
		s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenSource": map[string]any{"cookie": name},
			"claims": fmt.Sprintf("Equals(`sub`, `ada`) || Matches(`sub`, `a%d`)", i), "forwardHeaders": map[string]any{fmt.Sprint("X-User-", i): "sub"}}))
		withHeaders(s, "Cookie: "+name+"="+sharedToken(nil)).upstream()
	}
	if after := compiled(); after != before {
		t.Errorf("%d patterns and blocks are known for ever, %d before ten other options", after, before)
	}
}

// TestMemoryOfHeaderNames: each set of names that was ever learnt may be held by somebody who came while it was the latest. That counts, too.
func TestMemoryOfHeaderNames(t *testing.T) {
	inThisProcess(t)
	pc := sessionCacheOf()
	pc.initialSafeHeaders = pc.safeHeaders
	held, counted := memoryOf(t, func() {
		for i := 0; i < 2*maxSafeHeaders; i++ {
			if i == 0 || i == maxSafeHeaders+100 {
				pc.relearnedAt = time.Now().Add(-time.Duration(i) * relearnInterval) // then ten minutes have passed
			}
			p, err := rememberPrincipal(context.Background(), nil, pc, fmt.Sprint("s=", i), &principal{sessionID: fmt.Sprint(i)}, time.Now().Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			header := http.Header{fmt.Sprintf("X-Made-Up-%d-%s", i, strings.Repeat("x", 40)): {"1"}}
			header["X-"+strings.Repeat("y", maxSafeHeaderLength-1)] = []string{"1"} // is never learnt
			cacheAdmitted(pc, p, &http.Request{Host: "app"}, nil, addSafeHeaders(pc, header))
			if len(pc.safeHeaders) > maxSafeHeaders || len(addSafeHeaders(pc, header)) > maxSafeHeaders+1 {
				t.Fatalf("%d names are learnt", len(pc.safeHeaders))
			}
		}
	})
	if held > counted*4/3 {
		t.Errorf("%d bytes are held, %d are counted", held, counted)
	}
	for name := range pc.safeHeaders {
		if len(name) > maxSafeHeaderLength {
			t.Errorf("%q is learnt", name)
		}
	}
	p, err := rememberPrincipal(context.Background(), nil, pc, "s=1", &principal{sessionID: "1", safeHeaders: map[string]bool{"X-Old": true}}, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	principalsLock.Lock()
	rotateHalves()
	principalsLock.Unlock()
	if again := findPrincipal(pc, "s=1"); again == nil || again.sessionID != p.sessionID || again.safeHeaders["X-Old"] || len(again.safeHeaders) != len(pc.safeHeaders) {
		t.Errorf("whoever moves into the recent half keeps the old set: %v", again)
	}
}

// TestMemoryOfLogLines: of lines that are counted, a hundred kinds are kept, and of their sessions the names alone.
func TestMemoryOfLogLines(t *testing.T) {
	inThisProcess(t)
	l := newLogger("memory@file", "error")
	before := heapNow()
	for i := 0; i < maxCountedSessions+10; i++ {
		summarize(l, "session %s: refresh: %s", fmt.Sprintf("session %022d: refresh: %s", i, strings.Repeat("x", 400)))
	}
	held, counted := heapNow()-before, len(l.lines["session %s: refresh: %s"].sessions)
	if held > 2<<20 || counted != maxCountedSessions {
		t.Errorf("%d bytes are held of %d sessions", held, counted)
	}
	for i := 0; i < 3*maxLineKinds; i++ {
		summarize(l, fmt.Sprint("a line of its own ", i), "a line")
		if len(l.lines) > maxLineKinds {
			t.Fatalf("%d kinds of lines are kept", len(l.lines))
		}
	}
}

// TestMemoryOfSignOuts: the index keeps nothing of who has signed out, however many come and go while the cache has room.
func TestMemoryOfSignOuts(t *testing.T) {
	inThisProcess(t)
	setCapacity(t, 1<<20)
	pc := sessionCacheOf()
	for i := 0; i < 20000; i++ {
		name := fmt.Sprint("session-", i)
		p := &principal{sessionID: name, sid: "sid-" + name, sub: "sub-" + name}
		if _, err := rememberPrincipal(context.Background(), nil, pc, name, p, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		removeByName(pc.state, "id", name)
	}
	for _, kind := range []string{"id", "sid", "sub"} {
		if names := len(recentPrincipals.byName[kind]) + len(formerPrincipals.byName[kind]); names > 0 {
			t.Errorf("%d names of sessions that are gone are held by %s", names, kind)
		}
	}
}

// setCapacity has a smaller cache for one test.
func setCapacity(t *testing.T, capacity int) {
	t.Helper()
	principalsLock.Lock()
	whole := principalsCapacity
	principalsCapacity = capacity
	rotateHalves()
	rotateHalves()
	principalsLock.Unlock()
	t.Cleanup(func() {
		principalsLock.Lock()
		principalsCapacity = whole
		principalsLock.Unlock()
	})
}

// TestMemoryOfSignOutsOfOneUser: a sign-out of one session leaves the others of the user in the index.
func TestMemoryOfSignOutsOfOneUser(t *testing.T) {
	inThisProcess(t)
	setCapacity(t, 1<<20)
	pc := sessionCacheOf()
	for _, name := range []string{"a", "b", "c"} {
		p := &principal{sessionID: name, sid: "sid-" + name, sub: "one"}
		if _, err := rememberPrincipal(context.Background(), nil, pc, name, p, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	removeByName(pc.state, "id", "b")
	if n := len(recentPrincipals.byName["sub"]["one"]); n != 2 || findPrincipal(pc, "a") == nil || findPrincipal(pc, "b") != nil || findPrincipal(pc, "c") == nil {
		t.Error("after b:", n)
	}
	removeByName(pc.state, "sub", "one")
	if findPrincipal(pc, "a") != nil || findPrincipal(pc, "c") != nil || len(recentPrincipals.byName["sid"]["sid-a"]) != 0 {
		t.Error("after sub")
	}
}
