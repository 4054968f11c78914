package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// replicas are several Traefiks that serve one app, as behind a load balancer. Cookies do not tell ports apart, so a browser
// that signed in at one of them is signed in at all.
type replicas struct {
	apps   []*app
	served site
}

// serveReplicas starts n Traefiks of their own with one site, until the test ends.
func serveReplicas(t *testing.T, n int, s site) *replicas {
	t.Helper()
	l := start(t)
	r := &replicas{served: s}
	for i := range n {
		traefik, err := l.newTraefik(fmt.Sprintf("replica-%d", names.Add(1)), parts.TraefikOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(traefik.Stop)
		own := &lab{root: l.root, dir: l.dir, ca: l.ca, traefik: traefik, provider: l.provider, upstream: l.upstream}
		a := own.newApp(t, s)
		if i > 0 {
			first := r.apps[0]
			a.URL = strings.Replace(a.URL, a.host, first.host, 1)
			a.name, a.host = first.name, first.host
		}
		r.apps = append(r.apps, a)
	}
	for _, a := range r.apps {
		s.callbacks = append(s.callbacks, a.URL+"/oidc/callback")
		s.landings = append(s.landings, a.URL+"/")
	}
	r.apps[0].register(s)
	for _, a := range r.apps {
		if err := a.set(s); err != nil {
			t.Fatal(err, a.log())
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			anyFailed.Store(true)
			for i, a := range r.apps {
				t.Logf("What Traefik %d wrote:\n%.6000s", i, a.log())
			}
		}
	})
	return r
}

// old is a client that sends the cookies a browser has now, for ever, as the requests do that are under way.
func (a *app) old(t *testing.T, v *visitor) *browser.Browser {
	late := a.visitor(t)
	late.Header = http.Header{"Cookie": {cookieHeader(v.Cookies(v.url("/")))}}
	late.Jar = nil
	late.Client().Jar = nil
	return late.Browser
}

// storm sends requests over all replicas at once, and counts the answers.
func (r *replicas) storm(t *testing.T, v *visitor, requests int) map[string]int {
	t.Helper()
	answers := make([]string, requests)
	var all sync.WaitGroup
	for i := range answers {
		a := r.apps[i%len(r.apps)]
		client := a.old(t, v)
		all.Go(func() { answers[i] = fetchStatus(client, a.URL+"/") })
	}
	all.Wait()
	return count(answers)
}

func fetchStatus(client *browser.Browser, address string) string {
	page, err := client.Fetch(http.MethodGet, address, "", nil)
	if err != nil {
		return "no answer"
	}
	return fmt.Sprint(page.Status)
}

func count(answers []string) map[string]int {
	counted := map[string]int{}
	for _, answer := range answers {
		counted[answer]++
	}
	return counted
}

// TestReplicaSession: who signed in at one replica is signed in at all, and who signs out at one is signed out of all at once.
func TestReplicaSession(t *testing.T) {
	t.Parallel()
	s := site{with: both(storing(newRedis(t)), with{"logoutUrl": "/logout"})}
	r := serveReplicas(t, 2, s)
	alice := r.apps[0].visitor(t)
	alice.signIn("/", provider.Alice)
	copied := r.apps[1].old(t, alice)
	if got := fetchStatus(copied, r.apps[1].URL); got != "200" {
		t.Fatalf("the other replica answers %s", got)
	}
	alice.post("/logout", nil)
	began := time.Now()
	for fetchStatus(copied, r.apps[1].URL) == "200" {
		time.Sleep(50 * time.Millisecond)
		if time.Since(began) > 3*time.Second {
			t.Fatal("signed out for three seconds, and still let in by the other replica")
		}
	}
	t.Logf("the other replica noticed the sign-out after %s", time.Since(began).Round(10*time.Millisecond))
}

// TestReplicaRefreshedOnce: 300 requests over three replicas, on one session that has to be refreshed, make one call, and
// all succeed. The provider takes a second use of a refresh token for theft and would end the session.
func TestReplicaRefreshedOnce(t *testing.T) {
	t.Parallel()
	s := refreshing(2)
	s.with = both(s.with, storing(newRedis(t)))
	r := serveReplicas(t, 3, s)
	own := r.apps[0].provider
	for round := 1; round <= 3; round++ {
		alice := r.apps[0].visitor(t)
		alice.signIn("/", provider.Alice)
		for _, a := range r.apps {
			if got := fetchStatus(a.old(t, alice), a.URL); got != "200" {
				t.Fatalf("before the refresh: %s", got)
			}
		}
		before := own.Grants("refresh_token", r.apps[0].name)
		time.Sleep(2500 * time.Millisecond)
		began := time.Now()
		answers := r.storm(t, alice, 300)
		refreshes := own.Grants("refresh_token", r.apps[0].name) - before
		t.Logf("round %d: %v in %s, %d refreshes", round, answers, time.Since(began).Round(10*time.Millisecond), refreshes)
		if answers["200"] != 300 {
			t.Errorf("of 300 requests: %v", answers)
		}
		// The tokens last two seconds, and are refreshed before they end: a storm that takes longer has to refresh again.
		if refreshes != 1 && time.Since(began) < time.Second {
			t.Errorf("%d refreshes", refreshes)
		}
	}
	if own.Reused() > 0 {
		t.Errorf("%d refresh tokens were used twice", own.Reused())
	}
}

// TestReplicaKilled: the replica that refreshes is killed half-way. If the provider has not rotated the token yet, another
// replica takes over and nobody notices; if it has, the session ends with a sign-in. Nothing but that may happen.
//
// A machine that stands still for longer than the lease lasts, or than the plugin waits for the provider, makes other things happen.
// Then all is tried again with more patience.
func TestReplicaKilled(t *testing.T) {
	t.Parallel()
	for name, rotated := range map[string]bool{"before the rotation": false, "after the rotation": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, timeout := range []int{2, 4, 8, 16} {
				k := killHalfWay(t, rotated, time.Duration(timeout)*time.Second)
				wrong := k.judge(t)
				if wrong == nil {
					return
				}
				if k.stall == "" || timeout == 16 || t.Failed() {
					t.Fatal(wrong)
				}
				t.Logf("tried again with a timeout of %d s, for the machine stood still: %s. Else: %v", 2*timeout, k.stall, wrong)
				for _, a := range k.apps {
					a.lab.traefik.Stop()
				}
			}
		})
	}
}

// killed are the replicas that are left, and what is to be judged.
type killed struct {
	*replicas
	alice    *visitor
	own      *provider.Provider
	rotated  bool
	timeout  time.Duration // for the provider
	leaseEnd time.Time     // not before this
	calls    atomic.Int64  // of the token endpoint
	takeover chan time.Time
	stall    string // what took longer than it does on a machine that runs
}

// killHalfWay kills the first replica when the provider has its first refresh.
func killHalfWay(t *testing.T, rotated bool, timeout time.Duration) *killed {
	t.Helper()
	own := ownProvider(t)
	store := newRedis(t)
	s := refreshing(2)
	s.provider = own
	s.with = both(both(s.with, storing(store)), with{"clientConfig.timeoutSeconds": int(timeout.Seconds()), "exchangeTimeoutSeconds": int(timeout.Seconds())})
	k := &killed{replicas: serveReplicas(t, 3, s), own: own, rotated: rotated, timeout: timeout, takeover: make(chan time.Time, 1)}
	k.alice = k.apps[0].visitor(t)
	k.alice.signIn("/", provider.Alice)
	time.Sleep(2500 * time.Millisecond)

	asked := make(chan struct{})
	own.Instead("token", func(rw http.ResponseWriter, req *http.Request) {
		call := k.calls.Add(1)
		if call == 2 {
			k.takeover <- time.Now()
		}
		if call > 1 {
			own.Pass(rw, req)
			return
		}
		if rotated {
			own.Pass(discarded{http.Header{}}, req)
		}
		close(asked)
		<-req.Context().Done()
	})
	began := time.Now()
	go fetchStatus(k.apps[0].old(t, k.alice), k.apps[0].URL)
	<-asked
	k.apps[0].lab.traefik.Kill()
	left := time.Duration(0)
	k.leaseEnd = time.Now()
	for _, name := range store.keys(t, k.apps[0], "session:") { // the lease is the end of the entry
		entry := strings.Split(store.do(t, "--raw", "GET", name), "|")
		milliseconds, _ := strconv.ParseInt(entry[len(entry)-1], 10, 64)
		k.leaseEnd = time.UnixMilli(milliseconds)
		left = time.Until(k.leaseEnd)
	}
	if life := time.Since(began) + left; life < k.leaseLife()-rounding {
		t.Errorf("the lease ended after %s at the latest, expected %s", life, k.leaseLife())
	}
	k.apps = k.apps[1:]
	return k
}

// leaseLife is what a grant may take, keys and UserInfo with their three repetitions, and the store.
func (k *killed) leaseLife() time.Duration {
	question := k.timeout + 3*1600*time.Millisecond
	return k.timeout + 2*question + 2*k.timeout + 2*time.Second
}

// rounding is how far off Redis's milliseconds may be.
const rounding = 5 * time.Millisecond

// judge says what went wrong while the dead replica has the lease, after that, and in the end.
func (k *killed) judge(t *testing.T) error {
	t.Helper()
	began := time.Now()
	note := func(what string) {
		if took := time.Since(began); took > k.timeout {
			k.stall = fmt.Sprintf("%s took %s, the plugin waits for %s", what, took, k.timeout)
		}
	}
	answers := k.storm(t, k.alice, 200)
	note("the first 200 requests")
	t.Logf("while the dead replica has the lease: %v", answers)
	if over := time.Since(k.leaseEnd); over > 0 {
		k.stall = fmt.Sprintf("the lease ended %s before the answers were there", over)
	}
	if answers["200"] != 200 {
		return fmt.Errorf("200 requests after a replica died: %v", answers)
	}

	time.Sleep(k.leaseLife())
	began = time.Now()
	answers = k.storm(t, k.alice, 200)
	note("the next 200 requests")
	t.Logf("afterwards: %v, %d calls, %d reused", answers, k.calls.Load(), k.own.Reused())
	if !k.rotated && (answers["200"] != 200 || k.own.Reused() != 0 || k.calls.Load() < 2) {
		return fmt.Errorf("the next replica did not take over: %v, %d calls of the token endpoint", answers, k.calls.Load())
	}
	if k.rotated && (answers["401"] != 200 || k.calls.Load() < 2) {
		return fmt.Errorf("a session whose tokens are lost got %v", answers)
	}
	if early := k.leaseEnd.Sub(<-k.takeover); early > rounding {
		t.Errorf("the next replica took over %s before the lease ended", early)
	}
	began = time.Now()
	k.alice.open(k.apps[0].URL)
	got := k.alice.outcome(k.alice.look(k.apps[0].URL))
	note("a sign-in")
	if got != "application" {
		return fmt.Errorf("after all, whoever is signed in at the provider gets %s", got)
	}
	return nil
}

// discarded is an answer that never arrives.
type discarded struct{ header http.Header }

func (d discarded) Header() http.Header         { return d.header }
func (d discarded) Write(b []byte) (int, error) { return len(b), nil }
func (d discarded) WriteHeader(int)             {}

// TestReplicaBusy: renewals and refreshes of the same sessions, on three replicas at once, never undo each other: no spent
// refresh token comes back, and a session that is used outlives its expiry.
func TestReplicaBusy(t *testing.T) {
	t.Parallel()
	own := ownProvider(t)
	s := refreshing(2)
	s.provider = own
	s.with = both(both(s.with, storing(newRedis(t))), with{"session.store.cacheSeconds": 0, "session.expiry": 5, "logLevel": "warn"})
	r := serveReplicas(t, 3, s)
	name := r.apps[0].name
	users := people(t, r.apps[0], 4)
	got := tally{answers: map[string]int{}}
	var all sync.WaitGroup
	end := time.Now().Add(9 * time.Second)
	for i, a := range r.apps {
		for _, v := range users {
			client := a.old(t, v)
			all.Go(func() {
				for n := i; time.Now().Before(end); n++ {
					start := time.Now()
					got.add(fetchStatus(client, a.URL), time.Since(start))
					time.Sleep(15 * time.Millisecond)
				}
			})
		}
	}
	all.Wait()
	refreshes := own.Grants("refresh_token", name)
	t.Logf("%v, %d refreshes of 4 sessions, %d tokens used twice", got.answers, refreshes, own.Reused())
	if len(got.answers) != 1 || got.answers["200"] < 100 || own.Reused() > 0 || refreshes > 4*8 {
		t.Errorf("answers %v, %d refreshes, %d tokens used twice", got.answers, refreshes, own.Reused())
	}
}

// TestReplicaUnwritten: Redis is full at the very moment when refreshed tokens are to be written. The replica that has them keeps
// the lease and tries again; no other spends the refresh token a second time.
func TestReplicaUnwritten(t *testing.T) {
	t.Parallel()
	own := ownProvider(t)
	store := newRedis(t)
	s := refreshing(3)
	s.provider = own
	s.with = both(both(s.with, storing(store)), with{"session.store.cacheSeconds": 0, "logLevel": "warn"})
	r := serveReplicas(t, 2, s)
	alice := r.apps[0].visitor(t)
	alice.signIn("/", provider.Alice)
	var calls atomic.Int64
	own.Instead("token", func(rw http.ResponseWriter, req *http.Request) {
		if calls.Add(1) == 1 {
			store.do(t, "CONFIG", "SET", "maxmemory", "1")
		}
		own.Pass(rw, req)
	})
	time.Sleep(3200 * time.Millisecond)
	answers := r.storm(t, alice, 40)
	t.Logf("while Redis is full: %v, %d calls", answers, calls.Load())
	if answers["200"] != 40 || calls.Load() != 1 {
		t.Errorf("while Redis is full: %v, %d calls of the token endpoint", answers, calls.Load())
	}
	store.do(t, "CONFIG", "SET", "maxmemory", "0")
	answers = r.storm(t, alice, 40)
	t.Logf("afterwards: %v, %d calls, %d tokens used twice", answers, calls.Load(), own.Reused())
	if answers["200"] != 40 || own.Reused() != 0 {
		t.Errorf("afterwards: %v, %d tokens used twice", answers, own.Reused())
	}
	if !strings.Contains(r.apps[0].log()+r.apps[1].log(), "Redis is full: raise its maxmemory") {
		t.Error("no log line says that Redis is full")
	}
}
