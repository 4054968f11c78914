package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// These tests look at what a Redis loses, evicts, or is slow with, and at what that means to people who are signed in, and to those who
// signed out.

// active are clients of each replica for people who signed in at the first, and use all of them.
func (r *replicas) active(t *testing.T, people int) (visitors []*visitor, clients []*browser.Browser) {
	t.Helper()
	for range people {
		v := r.apps[0].visitor(t)
		v.signIn("/", provider.Alice)
		visitors = append(visitors, v)
		for _, a := range r.apps {
			c := a.old(t, v)
			if got := fetchStatus(c, a.URL); got != "200" {
				t.Fatalf("after the sign-in: %s", got)
			}
			clients = append(clients, c)
		}
	}
	return visitors, clients
}

// TestReplicaLogoutWithoutIndex: Redis evicted the indexes by which a pushed logout finds sessions. All people who are active are out on
// all replicas within three seconds, whoever comes later is, and the log says what Redis does.
func TestReplicaLogoutWithoutIndex(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"allkeys-lru", "volatile-ttl"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			store := newRedis(t, "--maxmemory", "50mb", "--maxmemory-policy", policy)
			r := serveReplicas(t, 3, site{with: both(both(storing(store), listening), with{"logLevel": "warn"})})
			_, clients := r.active(t, 10)
			idle := r.apps[0].visitor(t)
			idle.signIn("/", provider.Alice)
			store.do(t, append(append([]string{"DEL"}, r.keysOf(t, store, "sub:")...), r.keysOf(t, store, "sid:")...)...)
			if resp := r.apps[1].push(t, r.apps[1].logoutToken(t, map[string]any{"sub": "user-alice"})); resp.StatusCode != http.StatusOK {
				t.Errorf("the push was answered %s", resp.Status)
			}
			goneWithin(t, r, clients)
			time.Sleep(4 * time.Second)
			if got := fetchStatus(r.apps[2].old(t, idle), r.apps[2].URL); got != "401" {
				t.Errorf("who was idle meanwhile gets %s", got)
			}
			if left := r.keysOf(t, store, "session:"); len(left) > 0 {
				t.Errorf("%d sessions are left in Redis", len(left))
			}
			again := r.apps[0].visitor(t)
			again.signIn("/", provider.Alice)
			for _, a := range r.apps {
				if got := fetchStatus(a.old(t, again), a.URL); got != "200" {
					t.Errorf("who signs in again gets %s", got)
				}
			}
			if log := r.apps[0].log(); !strings.Contains(log, `maxmemory-policy is "`+policy+`"`) || !strings.Contains(log, "set noeviction") {
				t.Errorf("the log does not name the policy:\n%s", log)
			}
		})
	}
}

// keysOf are the keys of a site that several replicas serve.
func (r *replicas) keysOf(t *testing.T, store *redis, kind string) []string {
	t.Helper()
	return store.keys(t, r.apps[0], kind)
}

// TestReplicaSnapshot: Redis starts from a snapshot of a time before the sign-outs. They hold all the same, on all replicas and on one that
// starts afterwards, and what was written since the snapshot is there again.
func TestReplicaSnapshot(t *testing.T) {
	t.Parallel()
	store := newRedis(t)
	r := serveReplicas(t, 2, site{with: both(both(storing(store), listening), with{"logoutUrl": "/logout", "logLevel": "warn"})})
	visitors, clients := r.active(t, 3)
	store.do(t, "SAVE")
	visitors[0].post("/logout", nil)
	visitors[1].post("/logout", nil)
	fresh := r.apps[0].visitor(t)
	fresh.signIn("/", provider.Alice)
	time.Sleep(2500 * time.Millisecond) // the other replica has looked
	for _, c := range clients[4:] {
		fetchStatus(c, r.apps[1].URL)
	}
	store.Kill()
	store.run(t)
	var first []string
	for i, c := range clients {
		first = append(first, fetchStatus(c, r.apps[i%2].URL))
	}
	time.Sleep(2500 * time.Millisecond)
	var then []string
	for i, c := range clients {
		then = append(then, fetchStatus(c, r.apps[i%2].URL))
	}
	t.Logf("after the restart: %v, then %v", first, then)
	if want := "[401 401 401 401 200 200]"; fmt.Sprint(then) != want || fmt.Sprint(first) != want {
		t.Errorf("got %v, then %v, expected %s", first, then, want)
	}
	if got := fetchStatus(r.apps[1].old(t, fresh), r.apps[1].URL); got != "200" {
		t.Errorf("who signed in after the snapshot gets %s", got)
	}
	if log := r.apps[0].log() + r.apps[1].log(); !strings.Contains(log, "were not in Redis and were written again") || !strings.Contains(log, "appendonly is off") {
		t.Errorf("the log does not tell of the loss:\n%s", log)
	}
}

// TestReplicaSlowRedis: each reply of Redis comes late. No request takes longer than about twice timeoutSeconds for all that it asks of it.
func TestReplicaSlowRedis(t *testing.T) {
	t.Parallel()
	store := newRedis(t)
	p := newProxy(t, store.addr())
	s := refreshing(2)
	s.with = both(both(both(s.with, storing(store)), listening), with{"session.store.redis.endpoints": p.addr, "session.store.cacheSeconds": 0,
		"session.expiry": 100, "logoutUrl": "/logout", "logLevel": "warn"})
	app := start(t).serve(t, s)
	var people []*visitor
	for range 4 {
		v := app.visitor(t)
		v.signIn("/", provider.Alice)
		people = append(people, v)
	}
	time.Sleep(2500 * time.Millisecond) // all are due for a refresh
	for _, delay := range []time.Duration{1400 * time.Millisecond, 2800 * time.Millisecond} {
		p.set(network{delay: delay})
		var all sync.WaitGroup
		var slowest atomic.Int64
		for i, v := range people {
			client := app.old(t, v)
			all.Go(func() {
				began := time.Now()
				path := []string{"/", "/", "/logout", "/gone"}[i]
				got := "a push"
				if path == "/gone" {
					app.push(t, app.logoutToken(t, map[string]any{"sub": "user-bob"}))
				} else {
					got = fetchStatus(client, app.URL+path)
				}
				took := time.Since(began)
				t.Logf("replies %s late, %s: %s after %s", delay, path, got, took.Round(10*time.Millisecond))
				slowest.Store(max(slowest.Load(), int64(took)))
			})
		}
		all.Wait()
		if took := time.Duration(slowest.Load()); took > 8500*time.Millisecond { // timeoutSeconds is three, and the machine busy
			t.Errorf("replies %s late: a request took %s", delay, took)
		}
		p.set(network{})
		time.Sleep(300 * time.Millisecond)
	}
}

// TestReplicaRefused: a provider that refuses the refresh token is asked once by all replicas, and the session is gone, in Redis and at
// the browser.
func TestReplicaRefused(t *testing.T) {
	t.Parallel()
	own := ownProvider(t)
	store := newRedis(t)
	s := refreshing(2)
	s.provider = own
	s.with = both(both(s.with, storing(store)), with{"logLevel": "warn"})
	r := serveReplicas(t, 3, s)
	visitors, clients := r.active(t, 3)
	var calls atomic.Int64
	own.Instead("token", func(rw http.ResponseWriter, req *http.Request) {
		calls.Add(1)
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(rw, `{"error":"invalid_grant"}`)
	})
	time.Sleep(2500 * time.Millisecond)
	for range 4 {
		for i, c := range clients {
			if got := fetchStatus(c, r.apps[i%3].URL); got != "401" {
				t.Errorf("a refused session gets %s", got)
			}
		}
		time.Sleep(1100 * time.Millisecond)
	}
	if calls.Load() != 3 {
		t.Errorf("the provider was asked %d times for 3 sessions", calls.Load())
	}
	if left := r.keysOf(t, store, "session:"); len(left) != 0 {
		t.Errorf("Redis has %d sessions", len(left))
	}
	own.Instead("token", own.Pass)
	alice := visitors[0]
	alice.open("/")
	if got := alice.outcome(alice.look("/")); got != "application" {
		t.Errorf("who signs in again gets %s", got)
	}
}

// TestRedisFullLogout: a Redis that is full takes no sign-ins, but lets go of sessions: a push that ended some is answered 200.
func TestRedisFullLogout(t *testing.T) {
	t.Parallel()
	store := newRedis(t)
	r := serveReplicas(t, 2, site{with: both(both(storing(store), listening), with{"logoutUrl": "/logout"})})
	visitors, clients := r.active(t, 3)
	bob := r.apps[0].visitor(t)
	bob.signIn("/", provider.Bob)
	store.do(t, "CONFIG", "SET", "maxmemory", "1")
	bob.post("/logout", nil)
	if got := fetchStatus(r.apps[0].old(t, bob), r.apps[0].URL); got != "401" {
		t.Errorf("after a sign-out: %s", got)
	}
	if resp := r.apps[1].push(t, r.apps[1].logoutToken(t, map[string]any{"sub": "user-alice"})); resp.StatusCode != http.StatusOK {
		t.Errorf("the push was answered %s", resp.Status)
	}
	goneWithin(t, r, clients)
	store.do(t, "CONFIG", "SET", "maxmemory", "0")
	visitors[0].open("/")
	if got := visitors[0].outcome(visitors[0].look("/")); got != "application" {
		t.Errorf("who signs in again gets %s", got)
	}
}

// TestReplicaWrittenLater: Redis goes away after the provider has rotated a refresh token, for as long as a failover takes. The result is
// written as soon as it is back, by somebody else's request, and no other replica spends the token again.
func TestReplicaWrittenLater(t *testing.T) {
	t.Parallel()
	own := ownProvider(t)
	store := newRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	s := refreshing(3)
	s.provider = own
	s.with = both(both(s.with, storing(store)), with{"session.store.cacheSeconds": 0, "logLevel": "warn"})
	r := serveReplicas(t, 2, s)
	alice, other := r.apps[0].visitor(t), r.apps[0].visitor(t)
	alice.signIn("/", provider.Alice)
	time.Sleep(1500 * time.Millisecond)
	other.signIn("/", provider.Bob) // is not due as soon
	var calls atomic.Int64
	own.Instead("token", func(rw http.ResponseWriter, req *http.Request) {
		if calls.Add(1) == 1 {
			store.Kill()
		}
		own.Pass(rw, req)
	})
	time.Sleep(1300 * time.Millisecond)
	if got := fetchStatus(r.apps[0].old(t, alice), r.apps[0].URL); got != "200" && got != "503" {
		t.Errorf("whoever refreshes meets %s", got)
	}
	time.Sleep(12 * time.Second)
	store.run(t)
	fetchStatus(r.apps[0].old(t, other), r.apps[0].URL)
	before := calls.Load()
	got := fetchStatus(r.apps[1].old(t, alice), r.apps[1].URL)
	t.Logf("afterwards %s, %d calls, %d tokens used twice", got, calls.Load(), own.Reused())
	if got != "200" || own.Reused() > 0 || before < 1 {
		t.Errorf("afterwards the other replica answers %s, %d tokens were used twice", got, own.Reused())
	}
}

// slowOnce is a provider of its own that answers refreshes a while after it has rotated the token, until it is told otherwise.
func slowOnce(t *testing.T, delay time.Duration) (own *provider.Provider, healthy *atomic.Bool) {
	own = ownProvider(t)
	healthy = &atomic.Bool{}
	own.Instead("token", func(rw http.ResponseWriter, req *http.Request) {
		if healthy.Load() || req.FormValue("grant_type") != "refresh_token" {
			own.Pass(rw, req)
			return
		}
		kept := &keptAnswer{header: http.Header{}}
		own.Pass(kept, req)
		time.Sleep(delay)
		for name, values := range kept.header {
			rw.Header()[name] = values
		}
		rw.WriteHeader(max(kept.status, 200))
		rw.Write(kept.body)
	})
	return own, healthy
}

// keptAnswer is an answer that is sent later.
type keptAnswer struct {
	header http.Header
	status int
	body   []byte
}

func (k *keptAnswer) Header() http.Header { return k.header }
func (k *keptAnswer) WriteHeader(s int)   { k.status = s }
func (k *keptAnswer) Write(b []byte) (int, error) {
	k.body = append(k.body, b...)
	return len(b), nil
}

// TestReplicaSlowProvider: for twelve seconds the provider is slower than timeoutSeconds, and takes a second use of a refresh token for
// theft. Nobody is signed out, and no request takes long.
func TestReplicaSlowProvider(t *testing.T) {
	t.Parallel()
	for name, where := range map[string]with{"in Redis": storing(newRedis(t)), "in cookies": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own, healthy := slowOnce(t, 6*time.Second)
			s := refreshing(4)
			s.provider = own
			s.with = both(both(s.with, where), with{"clientConfig.timeoutSeconds": 2, "logLevel": "warn"})
			replicas := 2
			if name == "in cookies" {
				replicas = 1 // nothing tells a second one what the first one has spent
			}
			r := serveReplicas(t, replicas, s)
			got := tally{answers: map[string]int{}}
			var all sync.WaitGroup
			began := time.Now()
			for i, v := range people(t, r.apps[0], 12) {
				all.Go(func() {
					for n := i; time.Since(began) < 22*time.Second; n++ {
						healthy.Store(time.Since(began) > 12*time.Second)
						start := time.Now()
						page, err := v.Fetch(http.MethodGet, r.apps[n%len(r.apps)].URL+"/", "", nil)
						answer := "no answer"
						if err == nil {
							answer = fmt.Sprint(page.Status)
						}
						got.add(answer, time.Since(start))
						time.Sleep(300 * time.Millisecond)
					}
				})
			}
			all.Wait()
			t.Logf("%v, the slowest after %s, %d tokens used twice", got.answers, got.slowest.Round(10*time.Millisecond), own.Reused())
			if len(got.answers) != 1 || got.answers["200"] == 0 || own.Reused() > 0 {
				t.Errorf("%v, %d tokens used twice", got.answers, own.Reused())
			}
			if got.slowest > 4*time.Second { // timeoutSeconds is two
				t.Errorf("a request took %s", got.slowest)
			}
		})
	}
}

// TestReplicaExchangeOption has the cases of exchangeTimeoutSeconds.
func TestReplicaExchangeOption(t *testing.T) {
	t.Parallel()
	own, _ := slowOnce(t, 4*time.Second)
	s := refreshing(3)
	s.provider = own
	s.with = both(s.with, with{"clientConfig.timeoutSeconds": 1})
	try(t, "exchangeTimeoutSeconds", s, func(v *visitor) string {
		old := v.received(v.signIn("/", provider.Alice)).Header.Get("X-Token")
		time.Sleep(3100 * time.Millisecond)
		v.fetch(http.MethodGet, "/")
		time.Sleep(4500 * time.Millisecond)
		answer := v.fetch(http.MethodGet, "/")
		if answer.Status != http.StatusOK {
			return answer.String()
		}
		return yes(v.received(answer).Header.Get("X-Token") != old)
	}, row{drop, "yes"}, row{1, "no"})
}

// TestReplicaSecretChange: a new secret is rolled out while people work, one Traefik after the other: in one step, by Traefiks that start with
// it, and in two, by options that change. Nobody is signed out.
func TestReplicaSecretChange(t *testing.T) {
	t.Parallel()
	const older, newer = "the older secret, long enough for it", "the newer secret, long enough for it"
	secrets := func(base with, now string, previous ...string) site {
		return site{with: both(base, with{"session.secret": now, "session.previousSecrets": previous, "logLevel": "warn"})}
	}
	for name, where := range map[string]with{"in Redis": storing(newRedis(t)), "in cookies": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old := secrets(where, older)
			delete(old.with, "session.previousSecrets")
			r := serveReplicas(t, 2, old)
			var people []*visitor
			for range 10 {
				v := r.apps[0].visitor(t)
				v.signIn("/", provider.Alice)
				people = append(people, v)
			}
			everybody := func(when string) {
				t.Helper()
				for round := range 3 {
					for i, v := range people {
						page, err := v.Fetch(http.MethodGet, r.apps[(i+round)%len(r.apps)].URL+"/", "", nil)
						if err != nil || page.Status != http.StatusOK {
							t.Errorf("%s: %v, %v", when, page, err)
						}
					}
				}
			}
			everybody("at first")
			for i, a := range r.apps { // the first step: all learn the new secret
				if err := a.set(secrets(where, older, newer)); err != nil {
					t.Fatal(err)
				}
				everybody(fmt.Sprint("the first step, Traefik ", i))
			}
			for i, a := range r.apps {
				if err := a.set(secrets(where, newer, older)); err != nil {
					t.Fatal(err)
				}
				everybody(fmt.Sprint("the second step, Traefik ", i))
			}
			newest := "the newest secret, long enough for it"
			fresh := serveReplicas(t, 1, secrets(where, newest, newer)).apps[0] // one step: it starts with it
			first := r.apps[0]
			fresh.URL = strings.Replace(fresh.URL, fresh.host, first.host, 1)
			fresh.name, fresh.host = first.name, first.host
			if err := fresh.set(secrets(where, newest, newer)); err != nil {
				t.Fatal(err)
			}
			r.apps = append(r.apps, fresh)
			v := r.apps[0].visitor(t)
			v.signIn("/", provider.Alice)
			people = append(people, v)
			everybody("a Traefik that started with a new secret")
		})
	}
}
