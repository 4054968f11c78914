package oidc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// keepingRedis is a server that keeps what it is told, but for the indexes of sessions.
func keepingRedis(kept map[string]string, mu *sync.Mutex) func(args []string) string {
	return func(args []string) string {
		mu.Lock()
		defer mu.Unlock()
		switch args[0] {
		case "SET":
			if _, isThere := kept[args[1]]; isThere == (args[len(args)-1] == "NX") && strings.HasSuffix(args[len(args)-1], "X") {
				return "$-1\r\n"
			}
			kept[args[1]] = args[2]
			return "+OK\r\n"
		case "GET":
			value, isThere := kept[args[1]]
			if !isThere {
				return "$-1\r\n"
			}
			return bulk(value)
		case "GETRANGE": // from the beginning
			value := kept[args[1]]
			if last, _ := strconv.Atoi(args[3]); len(value) > last {
				value = value[:last+1]
			}
			return bulk(value)
		case "INFO":
			return bulk("# Memory\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n")
		case "EVAL":
			value, isThere := kept[args[3]]
			switch args[1] {
			case logoutsScript:
				return array(fmt.Sprintf(":%d\r\n", time.Now().UnixMilli()), ":0\r\n", array())
			case indexScript:
				return array()
			case leaseScript: // everybody gets it
				if !isThere {
					return "$-1\r\n"
				}
				return array(":1\r\n", bulk(value))
			case replayScript:
				if args[6] == "" {
					delete(kept, args[3])
				}
			}
		}
		return ":1\r\n"
	}
}

// heardOf is what the server heard of sessions, without the news that are asked for now and then.
func heardOf(redis *fakeRedis) string {
	var of []string
	for _, command := range strings.Split(redis.heard(), "; ") {
		if !strings.HasPrefix(command, "EVAL "+logoutsScript) && command != "INFO" {
			of = append(of, command)
		}
	}
	return strings.Join(of, "; ")
}

// TestReplicaLooksAgain: with cacheSeconds 0 every request needs the store. As long as the session's entry is there the request goes on,
// and it is read once; what happens to the entry is seen at once.
func TestReplicaLooksAgain(t *testing.T) {
	p := newFakeProvider(t)
	var mu sync.Mutex
	kept := map[string]string{}
	redis := newFakeRedis(t, keepingRedis(kept, &mu))
	options := map[string]any{"logoutUrl": "/logout", "clientConfig": map[string]any{"timeoutSeconds": 1},
		"forwardHeaders": map[string]any{"X-User": "sub"}, "session": map[string]any{
			"store": map[string]any{"cacheSeconds": 0, "redis": map[string]any{"endpoints": redis.address}}}}
	s, b := signedIn(t, p, options)
	session := s.sessionCookie() + "=" + b.cookie(s.sessionCookie()).Value // without the cookie of the first moments
	lines := []string{session, "a=1; " + session, "a=2; " + session, "a=3; " + session + "; b=4"}
	for round := 0; round < 4; round++ {
		for _, line := range lines {
			heardOf(redis)
			seen := withHeaders(s, "Cookie: "+line).upstream()
			if seen.Headers.Get("X-User") != "ada" || strings.Contains(seen.Headers.Get("Cookie"), "session") {
				t.Errorf("round %d: the upstream got %v", round, seen.Headers)
			}
			if heard := heardOf(redis); strings.Count(heard, "GET") != 1 || strings.Contains(heard, ";") {
				t.Errorf("round %d: the store heard %q", round, heard)
			}
		}
	}
	for i := 0; i < 6; i++ { // other cookies change each time
		heardOf(redis)
		withHeaders(s, fmt.Sprint("Cookie: b=", i, "; ", session)).upstream()
		if heard := heardOf(redis); i > 1 && (!strings.HasPrefix(heard, "GETRANGE ") || strings.Contains(heard, ";")) {
			t.Errorf("new cookies, %d: the store heard %q", i, heard)
		}
	}
	other := "session:{other}"
	entry := func(change func(key string)) {
		mu.Lock()
		defer mu.Unlock()
		for key := range kept {
			if strings.HasPrefix(key, "session:") && key != other {
				change(key)
			}
		}
	}
	expect := func(what string, status int) {
		t.Helper()
		for _, line := range lines {
			if r := withHeaders(s, "Cookie: "+line); r.status != status || (status == http.StatusServiceUnavailable) != (r.header.Get("Retry-After") != "") {
				t.Errorf("%s: got %d, expected %d", what, r.status, status)
			}
		}
	}
	redis.say(func(args []string) string { return "-LOADING s3cr3t\r\n" })
	expect("Redis is loading", http.StatusServiceUnavailable)
	redis.say(func(args []string) string { return silence })
	begin := time.Now()
	heardOf(redis)
	withHeaders(s, "Cookie: "+session).expect(http.StatusServiceUnavailable)
	if took, heard := time.Since(begin), heardOf(redis); took < time.Second || strings.Contains(heard, ";") {
		t.Errorf("a Redis that hangs was waited for %s, and heard %q", took, heard)
	}
	redis.say(keepingRedis(kept, &mu))
	expect("Redis is back", http.StatusOK)
	entry(func(key string) { kept[other] = kept[key]; kept[key] = "B" + kept[key][1:] })
	expect("a value of another version", http.StatusUnauthorized)
	entry(func(key string) { kept[key] = kept[other] })
	expect("the right value again", http.StatusOK)
	entry(func(key string) { delete(kept, key) })
	expect("ended by another replica", http.StatusUnauthorized)
	entry(func(key string) { kept[key] = kept[other] })
	b.signIn("/")
	session = b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	lines = []string{session, "a=1; " + session}
	expect("a new session", http.StatusOK)
	b.open("/logout")
	expect("logged out here", http.StatusUnauthorized)
}

// A session that a new sign-in replaced ends soon, also when it is used meanwhile and due for a refresh, or to be written anew.
func TestReplicaEndsWhatWasReplaced(t *testing.T) {
	t.Parallel()
	for name, session := range map[string]map[string]any{"refresh": {}, "renewal": {"refresh": false, "expiry": 20}} {
		p := newFakeProvider(t)
		var mu sync.Mutex
		lives := map[string]string{}
		keep := keepingRedis(map[string]string{}, &mu)
		redis := newFakeRedis(t, func(args []string) string {
			mu.Lock()
			if args[0] == "SET" && strings.HasPrefix(args[1], "session:") {
				lives[args[1]] = args[4]
			}
			mu.Unlock()
			return keep(args)
		})
		session["store"] = map[string]any{"cacheSeconds": 0, "redis": map[string]any{"endpoints": redis.address}}
		p.expiresIn = 2
		s, b := signedIn(t, p, map[string]any{"session": session})
		p.expiresIn = 300
		thief := b.copyOf()
		time.Sleep(2200 * time.Millisecond)
		b.open("/oidc/callback?switch=/").upstream()
		mu.Lock()
		replaced := fmt.Sprint(lives)
		mu.Unlock()
		thief.fetch(http.MethodGet, "/", "").upstream()
		mu.Lock()
		if after := fmt.Sprint(lives); len(lives) != 2 || after != replaced {
			t.Errorf("%s: sessions lived on for %s ms, and then for %s", name, replaced, after)
		}
		mu.Unlock()
		if thief.cookie(s.sessionCookie()).Value == b.cookie(s.sessionCookie()).Value || p.count("token") != 2 {
			t.Errorf("%s: the old session was refreshed", name)
		}
	}
}

// What a pass says and until when it is good come from the same copy of the session, also when another replica writes one while this
// one is about to renew it.
func TestReplicaJudgesTheCopyItKeeps(t *testing.T) {
	inThisProcess(t)
	t.Parallel()
	p := newFakeProvider(t)
	var mu sync.Mutex
	kept := map[string]string{}
	keep := keepingRedis(kept, &mu)
	redis := newFakeRedis(t, keep)
	s, b := signedIn(t, p, headersFor("X-Role", "role"), map[string]any{"session": map[string]any{"expiry": 20, "refresh": false,
		"store": map[string]any{"cacheSeconds": 0, "redis": map[string]any{"endpoints": redis.address}}}})
	m := testMiddlewareOf(s)
	ticket, _, err := open(m.sessions.sealer, s.sessionCookie(), b.cookie(s.sessionCookie()).Value)
	if err != nil {
		t.Fatal(err)
	}
	known, err := fetchStored(context.Background(), m.sessions, ticket)
	if err != nil {
		t.Fatal(err)
	}
	other := *known // as another replica got it from a refresh
	other.idToken = signed(p.key, nil, mergeClaims(known.claims, map[string]any{"role": "guest"}))
	packed, err := packSession(&other)
	if err != nil {
		t.Fatal(err)
	}
	wrote := false
	redis.say(func(args []string) string {
		if args[0] == "EVAL" && args[1] == leaseScript && !wrote {
			wrote = true
			mu.Lock()
			kept["session:{"+ticketID(ticket)+"}"] = seal(ticketSealer(m.sessions, ticket), ticketID(ticket), packed)
			mu.Unlock()
		}
		return keep(args)
	})
	time.Sleep(2100 * time.Millisecond) // a tenth of the expiry: it is renewed
	for i := 0; i < 3; i++ {
		if role := b.fetch(http.MethodGet, "/", "").upstream().Headers.Get("X-Role"); role != "guest" || !wrote {
			t.Errorf("request %d: the upstream was told %q", i, role)
		}
	}
}

// TestReplicaLogoutRefused: a logout that the provider pushes is done when the sessions are gone. That other replicas could not be told
// besides is forgiven; that Redis did not delete is not.
func TestReplicaLogoutRefused(t *testing.T) {
	inThisProcess(t)
	t.Parallel()
	p := newFakeProvider(t)
	var mu sync.Mutex
	refused := ""
	keep := keepingRedis(map[string]string{}, &mu)
	redis := newFakeRedis(t, func(args []string) string {
		mu.Lock()
		isRefused := args[0] == "EVAL" && args[1] == refused
		mu.Unlock()
		switch {
		case isRefused:
			return "-READONLY You can't write against a read only replica.\r\n"
		case args[0] == "ZRANGE":
			return array("$1\r\nx\r\n")
		}
		return keep(args)
	})
	s, _ := signedIn(t, p, map[string]any{"backchannelLogoutUrl": "/gone", "session": map[string]any{
		"store": map[string]any{"redis": map[string]any{"endpoints": redis.address}}}})
	m := testMiddlewareOf(s)
	for script, want := range map[string]bool{"": true, logoutsScript: true, replayScript: false} {
		mu.Lock()
		refused = script
		mu.Unlock()
		if err := logoutByProvider(context.Background(), m.sessions, m.sessions.state.revoked, "", "ada"); (err == nil) != want ||
			err != nil && !errors.Is(err, errUnavailable) {
			t.Errorf("Redis refuses %.40q: %v", script, err)
		}
	}
}

// TestReplicaClocks: sign-ins and sign-outs are dated by the store's clock. A replica whose own is fast throws nobody out who signs in
// again, at another one, after a logout by sub; and clocks that differ are warned about.
func TestReplicaClocks(t *testing.T) {
	inThisProcess(t)
	t.Parallel()
	p := newFakeProvider(t)
	var mu sync.Mutex
	keep := keepingRedis(map[string]string{}, &mu)
	const fast = 40 * time.Second // that this Traefik is ahead of Redis, and of the other replicas
	since, from := "", map[string]bool{"0": true}
	redis := newFakeRedis(t, func(args []string) string {
		if args[0] == "EVAL" && args[1] == logoutsScript {
			mu.Lock()
			defer mu.Unlock()
			at := time.Now().Add(-fast).UnixMilli()
			if since = args[4]; !from[since] {
				t.Errorf("logouts are read since %s, expected one of %v", since, from)
			}
			from[fmt.Sprint(at-1000)] = true // the last second is read again
			return array(fmt.Sprintf(":%d\r\n", at), ":0\r\n", array())
		}
		return keep(args)
	})
	s, b := signedIn(t, p, map[string]any{"backchannelLogoutUrl": "/gone", "session": map[string]any{
		"store": map[string]any{"cacheSeconds": 0, "redis": map[string]any{"endpoints": redis.address}}}})
	b.open("/oidc/callback?switch=/").upstream() // again: with the first one nothing is known of Redis
	m := testMiddlewareOf(s)
	if err := logoutByProvider(context.Background(), m.sessions, m.sessions.state.revoked, "", "ada"); err != nil {
		t.Fatal(err)
	}
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	other := time.Now().Add(-fast + 50*time.Millisecond).UnixMilli() // a sign-in there, a moment later
	if isRevoked(m.sessions.state, "new", "new", "ada", other) {
		t.Error("who signed in after the logout is thrown out")
	}
	if !isRevoked(m.sessions.state, "old", "old", "ada", other-200) {
		t.Error("who signed in before the logout is not")
	}
	b.forgetCookies() // or it looked as if the browser kept none
	b.signIn("/").upstream()
	mu.Lock()
	defer mu.Unlock()
	if since == "0" {
		t.Error("all logouts are read each time")
	}
	if said := s.logs(); strings.Count(said, "the clock of Redis is -40s ahead") != 1 {
		t.Errorf("the log says %s", said)
	}
}

// TestReplicaReplacedSessionKeepsItsCookieBack: a slow answer of an old session must not overwrite the cookie of a new sign-in, in cookies as in Redis.
func TestReplicaReplacedSessionKeepsItsCookieBack(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.expiresIn = 1
	s, b := signedIn(t, p)
	p.expiresIn = 300
	old := b.copyOf()
	time.Sleep(1100 * time.Millisecond)
	asked, isBack := make(chan bool), make(chan bool)
	p.answer("token", func(rw http.ResponseWriter, req *http.Request) {
		p.answer("token", nil)
		close(asked)
		<-isBack
		p.usual("token", rw, req)
	})
	late := make(chan *reply)
	go func() { late <- old.fetch(http.MethodGet, "/", "") }()
	<-asked
	b.open("/oidc/callback?switch=/")
	close(isBack)
	answer := <-late
	answer.upstream()
	for _, line := range answer.header["Set-Cookie"] {
		if strings.HasPrefix(line, s.sessionCookie()+"=") {
			t.Errorf("the late answer sets %s", line)
		}
	}
}

// TestReplicaClockOfTheProvider: a provider whose clock differs is named once.
func TestReplicaClockOfTheProvider(t *testing.T) {
	t.Parallel()
	for skew, want := range map[time.Duration]int{-40 * time.Second: 1, 30 * time.Second: 1, time.Second: 0} {
		p := newFakeProvider(t)
		p.clockSkew = skew
		s, b := signedIn(t, p)
		b.open("/oidc/callback?switch=/")
		if said := s.logs(); strings.Count(said, "the clock of "+p.issuer) != want {
			t.Errorf("%s ahead: the log says %s", skew, said)
		}
	}
}

// TestReplicaHearsEveryMark: a sign-out that is news counts whatever was heard before it, also one that is told late or by a slow clock.
func TestReplicaHearsEveryMark(t *testing.T) {
	sm := &sessionManager{state: newClientState(), store: &store{}, sealer: newSealer([]string{"a secret"}, "", "", "")}
	mark := func(text string) string { return seal(sm.sealer, "mark", []byte(text)) }
	cacheSet(sm.state.revoked, "id:known", int64(2000), 0)
	news := []string{mark("2000 id:known"), mark("1990 id:late"), "another's", mark("2000 id:same"), mark("1000 id:known")}
	for _, sealed := range news {
		applyLogout(sm, sealed)
	}
	for name, at := range map[string]int64{"id:known": 2000, "id:late": 1990, "id:same": 2000} {
		if got := cacheGet(sm.state.revoked, name); got != at {
			t.Errorf("%s: heard %v", name, got)
		}
	}
}

// TestReplicaTakesWhatAnotherRefreshed: a session that another replica has refreshed is taken as it is now, and its lease given back; tokens
// that could not be written before are written, and the refresh token is not spent again.
func TestReplicaTakesWhatAnotherRefreshed(t *testing.T) {
	inThisProcess(t)
	t.Parallel()
	p := newFakeProvider(t)
	var mu sync.Mutex
	kept := map[string]string{}
	redis := newFakeRedis(t, keepingRedis(kept, &mu))
	s, b := signedIn(t, p, map[string]any{"session": map[string]any{"name": "taken",
		"store": map[string]any{"redis": map[string]any{"endpoints": redis.address}}}})
	m := testMiddlewareOf(s)
	ctx := context.Background()
	old, _, err := openSession(ctx, m.sessions, "taken", b.cookie("taken").Value)
	if err != nil {
		t.Fatal(err)
	}
	newer := *old
	newer.RefreshAt++
	if err := writeStored(ctx, m.sessions, &newer); err != nil {
		t.Fatal(err)
	}
	calls := p.count("token")
	heardOf(redis)
	got, err := redeemWithLease(ctx, m.sessions, old, nil, "key", time.Second)
	if err != nil || got.RefreshAt != newer.RefreshAt {
		t.Errorf("got %v, %v", got, err)
	}
	if count := strings.Count(heardOf(redis), leaseScript); count != 2 {
		t.Errorf("%d dealings with the lease, expected that it is taken and given back", count)
	}
	newest := newer
	newest.RefreshAt++
	if got, err = redeemWithLease(ctx, m.sessions, &newer, &newest, "key", time.Second); err != nil || got != &newest {
		t.Errorf("got %v, %v", got, err)
	}
	if known, _, err := openSession(ctx, m.sessions, "taken", b.cookie("taken").Value); err != nil || known.RefreshAt != newest.RefreshAt {
		t.Errorf("it was not written: %v", err)
	}
	if p.count("token") != calls {
		t.Error("the refresh token was spent")
	}
	mu.Lock()
	delete(kept, "session:{"+ticketID(newest.ticket)+"}")
	mu.Unlock()
	if err := writeStored(ctx, m.sessions, &newest); !errors.Is(err, errNoCredentials) {
		t.Errorf("a session that was logged out meanwhile is written: %v", err)
	}
}

// TestReplicaGoesOn: a copy is good for another while, under the line by which it was found as well, unless something else is there by now.
func TestReplicaGoesOn(t *testing.T) {
	inThisProcess(t)
	now := time.Now()
	made := func(credential, validator string) *principal {
		return &principal{cacheKey: sha256.Sum256([]byte(t.Name() + credential)), validator: validator, revalidatableUntil: now.Add(time.Hour)}
	}
	p, other, gone, changed := made("p", "v"), made("other", "v"), made("gone", "v"), made("changed", "v")
	principalsLock.Lock()
	for _, known := range []*principal{made("p", "v"), other, made("changed", "w")} {
		insertPrincipal(known)
	}
	settledPrincipals[p.cacheKey] = p
	principalsLock.Unlock()
	t.Cleanup(func() {
		principalsLock.Lock()
		for _, known := range []*principal{p, other, changed} {
			removePrincipal(known.cacheKey)
		}
		principalsLock.Unlock()
	})
	line := func(text string) *http.Request { return &http.Request{Header: http.Header{"Cookie": {text}}} }
	for _, lifetime := range []time.Duration{0, time.Minute, 2 * time.Hour} {
		pc := &principalCache{localCopyLifetime: lifetime, cookiePrefix: "; x=", byHeaderLine: map[string]*principal{"known": p, "taken": other, "gone": gone, "changed": changed}}
		for text, who := range map[string]*principal{"known": p, "taken": p, "new": p, "gone": gone, "changed": changed} {
			if got := extendPrincipal(pc, who, line(text)); got != (who == p) {
				t.Errorf("%s, %s: goes on: %v", lifetime, text, got)
			}
		}
		until := pc.byHeaderLine["known"].validUntil
		if lifetime == 0 && !until.IsZero() || lifetime > 0 && (until.Before(now.Add(lifetime)) && until.Before(p.revalidatableUntil) || until.After(p.revalidatableUntil)) {
			t.Errorf("%s: good until %s", lifetime, until)
		}
		known := recentPrincipals.byKey[p.cacheKey]
		if lifetime > 0 && (known.validUntil.Before(until) || settledPrincipals[p.cacheKey] != known) {
			t.Errorf("%s: others with that session do not go on", lifetime)
		}
		if pc.byHeaderLine["taken"] != other || pc.byHeaderLine["gone"] != gone || pc.byHeaderLine["changed"] != changed || pc.byHeaderLine["new"] != nil {
			t.Error("it goes on in the place of another")
		}
	}
}

// TestReplicaLogoutOfWhatCannotBeRead: with a store, a ticket of another secret is no sign-out; what a good ticket names is deleted, also
// when it cannot be read.
func TestReplicaLogoutOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	var mu sync.Mutex
	kept := map[string]string{}
	redis := newFakeRedis(t, keepingRedis(kept, &mu))
	s, b := signedIn(t, p, map[string]any{"logoutUrl": "/logout", "session": map[string]any{"name": "unread",
		"store": map[string]any{"redis": map[string]any{"endpoints": redis.address}}}})
	entries := func(change string) (count int) {
		mu.Lock()
		defer mu.Unlock()
		for key := range kept {
			if strings.Contains(key, "session:") {
				count++
				if change != "" {
					kept[key] = change
				}
			}
		}
		return count
	}
	foreign := newSealer([]string{"another secret, long enough for it"}, p.issuer, p.clientID, "ticket")
	c := newBrowser(t, s)
	c.setCookie("unread", seal(foreign, "unread", randomBytes(ticketIDSize+ticketKeySize)))
	c.fetch(http.MethodPost, "/logout", "").expect(http.StatusServiceUnavailable)
	if entries(strings.Repeat("A", 200)) != 1 {
		t.Fatal("there is no session to end")
	}
	b.fetch(http.MethodPost, "/logout", "")
	if entries("") != 0 || b.cookie("unread") != nil {
		t.Error("what the sign-out could not read is still there")
	}
}

// refusingRedis is a keepingRedis that refuses the command and the beginning of its first argument that were named last, nothing with "".
func refusingRedis(t *testing.T) (redis *fakeRedis, refuse func(command, first string), answer func(command, first, reply string)) {
	t.Helper()
	var mu sync.Mutex
	keep := keepingRedis(map[string]string{}, &mu)
	redis = newFakeRedis(t, keep)
	answer = func(command, first, reply string) {
		redis.say(func(args []string) string {
			if args[0] == command && strings.HasPrefix(args[1], first) {
				return reply
			}
			return keep(args)
		})
	}
	refuse = func(command, first string) { answer(command, first, "-ERR refused\r\n") }
	return redis, refuse, answer
}

// TestReplicaLogoutsThatRedisRefuses: nobody is told that it is done when it is not.
func TestReplicaLogoutsThatRedisRefuses(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	redis, refuse, answer := refusingRedis(t)
	s := start(t, p.options(map[string]any{"logoutUrl": "/logout", "backchannelLogoutUrl": "/gone", "frontchannelLogoutUrl": "/frame",
		"logLevel": "debug",
		"session":  map[string]any{"name": "refused", "store": map[string]any{"redis": map[string]any{"endpoints": redis.address}}}}))
	signOut := func(b *browser) *reply { return b.fetch(http.MethodPost, "/logout", "") }
	pushed := func(b *browser) *reply {
		return sendTo(s, "/gone", "application/x-www-form-urlencoded", logoutForm(p.logoutToken(map[string]any{"sub": "ada"})))
	}
	framed := func(b *browser) *reply {
		return b.look("/frame?iss=" + url.QueryEscape(p.issuer) + "&sid=" + sidOf(p))
	}
	for _, row := range []struct {
		name, command, first, reply string
		do                          func(b *browser) *reply
		status                      int
		words                       string
	}{
		{"read at a sign-out", "GET", "session:", "", signOut, 503, ""},
		{"deleted at a sign-out", "EVAL", replayScript, "", signOut, 503, ""},
		{"unreadable, and deleted", "GET", "session:", bulk("A"), signOut, 303, ""},
		{"the jti of a pushed sign-out", "SET", "seen:", "", pushed, 200, ""},
		{"searched for a pushed sign-out", "ZRANGE", "sub:", "", pushed, 400, ""},
		{"searched for the provider's page", "ZRANGE", "sid:", "", framed, 503, ""},
		{"nothing, and there is none", "ZRANGE", "sid:", array(), framed, 200, "No session of this name"},
		{"nothing, and there is one", "ZRANGE", "sid:", array(bulk("x")), framed, 200, "Signed out"},
	} {
		refuse("", "-")
		b := newBrowser(t, s)
		b.signIn("/")
		if row.reply == "" {
			refuse(row.command, row.first)
		} else {
			answer(row.command, row.first, row.reply)
		}
		r := row.do(b)
		if row.first == "seen:" {
			time.Sleep(briefWait) // the clocks are compared as exactly as this, and the next sign-in must be later than the sign-out
		}
		if r.status != row.status || !strings.Contains(r.body, row.words) {
			t.Errorf("refused: %s: expected %d %s\n%s", row.name, row.status, row.words, r.story())
		}
		if row.status == 503 && b.cookie("refused") == nil {
			t.Errorf("refused: %s: the cookie is gone, so nobody can try again", row.name)
		}
	}
	s.expectLog("back-channel logout: its jti could not be kept")
	refuse("", "-")
	b := newBrowser(t, s)
	b.signIn("/")
	redis.say(func(args []string) string {
		if args[0] == "GET" {
			return bulk("A")
		}
		return "-ERR refused\r\n"
	})
	signOut(b).expect(http.StatusServiceUnavailable) // what cannot be read cannot be deleted either
}

// TestReplicaLease: who does not get a session's lease writes nothing, and who got it in vain gives it back.
func TestReplicaLease(t *testing.T) {
	inThisProcess(t)
	t.Parallel()
	p := newFakeProvider(t)
	redis, refuse, answer := refusingRedis(t)
	s, b := signedIn(t, p, map[string]any{"session": map[string]any{"name": "leased",
		"store": map[string]any{"redis": map[string]any{"endpoints": redis.address}}}})
	sm := testMiddlewareOf(s).sessions
	ctx, now := context.Background(), time.Now()
	old, _, err := openSession(ctx, sm, "leased", b.cookie("leased").Value)
	if err != nil {
		t.Fatal(err)
	}
	value, _ := storeGet(ctx, sm.store, ticketID(old.ticket))
	keep := func() (*session, error) {
		return saveSession(sm, httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, app+"/", nil), old, true, now)
	}
	expect := func(what, script string, count int) {
		t.Helper()
		heard := heardOf(redis)
		if n := strings.Count(heard, script); n != count || script == leaseScript && strings.Contains(heard, "SET session:") {
			t.Errorf("%s: Redis heard %q", what, heard)
		}
	}
	newer := *old

	refuse("EVAL", leaseScript)
	if held, _, err := acquireLease(ctx, sm, old, "mine"); held || !errors.Is(err, errUnavailable) {
		t.Errorf("a lease that Redis refuses: %v, %v", held, err)
	}
	if got, err := keep(); got != old || err != nil {
		t.Errorf("a renewal that Redis refuses: %v, %v", got, err)
	}
	s.expectLog("session "+old.ID+": renewal: ", `answered "ERR"`)
	if got, err := redeemWithLease(ctx, sm, old, &newer, "key", time.Second); got != &newer || !errors.Is(err, errUnavailable) {
		t.Errorf("a refresh that Redis refuses: %v, %v", got, err)
	}

	answer("EVAL", leaseScript, array(":0\r\n", bulk(value)))
	heardOf(redis)
	if got, err := renewStored(ctx, sm, old, now); err != nil || got.ID != old.ID {
		t.Errorf("another has the lease: %v, %v", got, err)
	}
	expect("another has the lease", leaseScript, 1)
	if _, err := redeemWithLease(ctx, sm, old, nil, "key", 5*leasePause); !errors.Is(err, errInProgress) {
		t.Errorf("another refreshes: %v", err)
	}
	if n := strings.Count(heardOf(redis), leaseScript); n > 6 {
		t.Errorf("it was asked for %d times", n)
	}

	refuse("", "-")
	heardOf(redis)
	newer.Renewed--
	if got, err := renewStored(ctx, sm, &newer, now); err != nil || got.Renewed != old.Renewed {
		t.Errorf("another has renewed it: %v, %v", got, err)
	}
	expect("another has renewed it", leaseScript, 2)
	p.answer("token", answerJSON(http.StatusBadRequest, map[string]any{"error": "invalid_grant"}))
	if got, err := redeemWithLease(ctx, sm, old, nil, "key", time.Second); got != nil || !errors.Is(err, errRefused) {
		t.Errorf("the provider refuses: %v, %v", got, err)
	}
	expect("the provider refuses", leaseScript, 2)

	answer("EVAL", leaseScript, "$-1\r\n")
	if got, err := keep(); got != nil || !errors.Is(err, errNoCredentials) {
		t.Errorf("it has ended: %v, %v", got, err)
	}
	refuse("EVAL", replayScript)
	deleteEnded(sm, httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, app+"/", nil), old)
	s.expectLog("session "+old.ID+" could not be deleted: ", `answered "ERR"`)
	for _, isReplaced := range []bool{false, true} { // the browser of a replaced session has the next one's cookie, under the same name
		rw, req := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, app+"/", nil)
		req.AddCookie(b.cookie("leased"))
		if isReplaced {
			cacheSet(sm.state.revoked, "replaced:"+old.ID, true, 0)
		}
		deleteEnded(sm, rw, req, old)
		if isCleared := rw.Header()["Set-Cookie"] != nil; isCleared == isReplaced {
			t.Errorf("replaced %v: the cookie is removed: %v", isReplaced, isCleared)
		}
	}
	refuse("GET", "session:")
	req := httptest.NewRequest(http.MethodGet, app+"/", nil)
	req.AddCookie(b.cookie("leased"))
	req.Header.Set("X-Forwarded-Proto", "https")
	endReplaced(sm, req, &newer)
	s.expectLog("the session before this sign-in could not be ended: ", `: GET: answered "ERR"`)
	refuse("SET", "session:")
	endReplaced(sm, req, &session{})
	s.expectLog("the session before this sign-in could not be ended: ", `: SET: answered "ERR"`)

	// Whatever is learned from the provider first is learned without the lease.
	heardOf(redis)
	away := newFakeProvider(t)
	away.answer("discovery", answerText(http.StatusServiceUnavailable, "text/plain", ""))
	other := start(t, away.options(map[string]any{"session": map[string]any{"name": "leased",
		"store": map[string]any{"redis": map[string]any{"endpoints": redis.address}}}}))
	if _, err := redeemWithLease(ctx, testMiddlewareOf(other).sessions, old, nil, "key", time.Second); !errors.Is(err, errUnavailable) {
		t.Errorf("the provider is away: %v", err)
	}
	expect("the provider is away", leaseScript, 0)
}

// TestReplicaLeaseOutlastsItsWork: a lease must not end while its holder may still be at it, the slowest answers included.
func TestReplicaLeaseOutlastsItsWork(t *testing.T) {
	for _, row := range []struct {
		timeout, exchange time.Duration
		retries           int
		want              time.Duration
	}{
		{10 * time.Second, 30 * time.Second, 0, 72 * time.Second},
		{1 * time.Second, 5 * time.Second, 0, 11 * time.Second},
		{10 * time.Second, 30 * time.Second, 2, 72*time.Second + 4*(retryLimit+2*retryPause)},
	} {
		c := &client{http: &http.Client{Timeout: row.timeout}, exchangeTimeout: row.exchange, retries: row.retries}
		if got := leaseDuration(c); got != row.want {
			t.Errorf("%d retries: got %s, expected %s", row.retries, got, row.want)
		}
	}
}

// TestReplicaWarnsOfLostSessions: when many sessions are not in Redis the operator is told, once in a while.
func TestReplicaWarnsOfLostSessions(t *testing.T) {
	inThisProcess(t)
	s := start(t, newFakeProvider(t).options())
	for i := 0; i < 20; i++ {
		if _, err := openStored(testMiddlewareOf(s).sessions, randomBytes(ticketIDSize+ticketKeySize), ""); !errors.Is(err, errNoCredentials) {
			t.Fatal(err)
		}
	}
	if n := strings.Count(s.logs(), "sessions were not in Redis"); n != 1 {
		t.Errorf("%d lines: %s", n, s.logs())
	}
}

// TestReplicaKeepsWhatItCannotWrite: tokens of a refresh count with all their bytes, and are there to be written, whatever fails afterwards.
func TestReplicaKeepsWhatItCannotWrite(t *testing.T) {
	inThisProcess(t)
	t.Parallel()
	p := newFakeProvider(t)
	var mu sync.Mutex
	kept := map[string]string{}
	keep := keepingRedis(kept, &mu)
	redis := newFakeRedis(t, keep)
	s, b := signedIn(t, p, map[string]any{"session": map[string]any{"name": "kept",
		"store": map[string]any{"redis": map[string]any{"endpoints": redis.address}}}})
	sm := testMiddlewareOf(s).sessions
	ctx := context.Background()
	old, _, err := openSession(ctx, sm, "kept", b.cookie("kept").Value)
	if err != nil {
		t.Fatal(err)
	}
	name := "session:{" + ticketID(old.ticket) + "}"
	mu.Lock()
	before := kept[name]
	mu.Unlock()
	fresh, err := refreshSession(ctx, sm, old)
	if err != nil || fresh.RefreshAt == 0 || fresh == old {
		t.Fatalf("got %v, %v", fresh, err)
	}
	counted := sm.state.refreshed.used
	if counted < sessionCost(fresh) {
		t.Errorf("%d bytes are counted, the session has %d", counted, sessionCost(fresh))
	}
	mu.Lock()
	kept[name] = before // as if Redis had lost it
	mu.Unlock()
	for _, reply := range []string{"-ERR refused\r\n", array(":0\r\n", bulk(before))} { // Redis fails, another replica has the lease
		reply := reply
		redis.say(func(args []string) string {
			if args[0] == "EVAL" && args[1] == leaseScript {
				return reply
			}
			return keep(args)
		})
		if _, err := refreshSession(ctx, sm, old); !errors.Is(err, errUnavailable) {
			t.Errorf("%q: got %v", reply, err)
		}
		if sm.state.refreshed.used != counted {
			t.Errorf("%q: %d bytes are counted, there were %d", reply, sm.state.refreshed.used, counted)
		}
	}
	redis.say(keep)
	calls := p.count("token")
	if again, err := refreshSession(ctx, sm, old); err != nil || again != fresh || p.count("token") != calls {
		t.Errorf("got %v, %v, %d calls", again, err, p.count("token")-calls)
	}
	if stored, _, err := openSession(ctx, sm, "kept", b.cookie("kept").Value); err != nil || stored.refreshToken != fresh.refreshToken {
		t.Errorf("it was not written: %v", err)
	}
}

// TestReplicaSignOutOfNobody: whoever signs out without a session has nothing to tell the other replicas.
func TestReplicaSignOutOfNobody(t *testing.T) {
	inThisProcess(t)
	redis, refuse, _ := refusingRedis(t)
	refuse("EVAL", logoutsScript)
	s := start(t, newFakeProvider(t).options(map[string]any{"session": map[string]any{
		"store": map[string]any{"redis": map[string]any{"endpoints": redis.address}}}}))
	for who, err := range map[string]error{
		"nobody":   publishLogouts(context.Background(), testMiddlewareOf(s).sessions, nil),
		"somebody": publishLogouts(context.Background(), testMiddlewareOf(s).sessions, []string{"id:x"}),
	} {
		if (err == nil) != (who == "nobody") {
			t.Errorf("%s: Redis was asked: %v", who, err)
		}
	}
}
