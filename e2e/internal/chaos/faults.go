package chaos

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// A promise is what holds whatever happens, unless a fault says that it does not, and why.
type promise string

const (
	identity promise = "nobody is taken for another"
	statuses promise = "only 200 and 503"
	stay     promise = "nobody is out without cause"
	gone     promise = "a sign-out holds"
	pushed   promise = "a pushed logout holds"
	once     promise = "no refresh token is spent twice"
	prompt   promise = "no request beyond its limit"
	quiet    promise = "the log stays readable"
	recovery promise = "everybody works again"
)

// fault is something that is done while people work.
type fault struct {
	name   string
	does   string // in a few words
	stores []string
	short  string // the store with which the short form has it
	do     func(x *scene) error
	limits map[promise]string // what does not hold, and why
	late   bool               // what was lost shows later, when the plugin asks the provider again
}

// scene is what a fault is done to.
type scene struct {
	*crowd
	long time.Duration
}

// last lets the fault last.
func (x *scene) last(atLeast time.Duration) { time.Sleep(max(x.long, atLeast)) }

var (
	everyStore = Stores
	inRedis    = []string{single, overTLS, sentinel, cluster}
	twoStores  = []string{cookies, single}
)

// faults are all that are tried.
var faults = slices.Concat(calm, ofProvider, ofTraefik, ofNetwork, ofRedis, ofTLS, ofSentinel, ofCluster)

var calm = []fault{
	{name: "no fault", does: "people work", stores: everyStore, do: func(x *scene) error { x.last(0); return nil }},
}

// The provider

const (
	rotatedAndLost = "the provider has rotated, and its answer is lost: nobody can know the new token"
	ourMistake     = "500 at a sign-in: our own credentials are wrong, and the page says so"
)

var ofProvider = []fault{
	{name: "provider away", does: "it answers 503", stores: everyStore, do: func(x *scene) error {
		x.provider.Away(true)
		x.last(0)
		x.provider.Away(false)
		return nil
	}},
	{name: "provider unreachable", late: true, does: "connections are refused", stores: twoStores, short: cookies, do: func(x *scene) error {
		x.calls.set(weather{refuse: true})
		x.last(0)
		x.calls.set(weather{})
		return nil
	}, limits: map[promise]string{stay: rotatedAndLost, once: rotatedAndLost}},
	{name: "provider silent", late: true, does: "connections open, answers never come", stores: twoStores, do: func(x *scene) error {
		x.calls.set(weather{swallow: true})
		x.last(3 * timeout)
		x.calls.set(weather{})
		return nil
	}, limits: map[promise]string{stay: rotatedAndLost, once: rotatedAndLost}},
	{name: "provider slow", late: true, does: "each answer takes 1.5 s", stores: twoStores, do: func(x *scene) error {
		x.calls.set(weather{delay: timeout / 2})
		x.last(0)
		x.calls.set(weather{})
		return nil
	}},
	{name: "provider slower than timeoutSeconds", late: true, does: "it rotates at once and answers 5 s later", stores: everyStore, do: func(x *scene) error {
		x.tokens(func(rw http.ResponseWriter, req *http.Request) {
			x.pass(rw, req, func() { time.Sleep(timeout + 2*time.Second) })
		})
		x.last(12 * time.Second)
		x.tokens(nil)
		return nil
	}},
	{name: "answers of the provider lost", late: true, does: "it rotates, then the connection is reset", stores: twoStores, do: func(x *scene) error {
		x.tokens(func(rw http.ResponseWriter, req *http.Request) {
			x.pass(discarded{http.Header{}}, req, nil)
			hangUp(rw, "")
		})
		x.last(0)
		x.tokens(nil)
		return nil
	}, limits: map[promise]string{stay: rotatedAndLost, once: rotatedAndLost}},
	{name: "token endpoint hangs up", does: "before it does anything", stores: twoStores, do: func(x *scene) error {
		x.tokens(func(rw http.ResponseWriter, _ *http.Request) { hangUp(rw, "") })
		x.last(0)
		x.tokens(nil)
		return nil
	}},
	{name: "half answers", does: "the token endpoint does nothing and answers half a JSON", stores: twoStores, do: func(x *scene) error {
		x.tokens(func(rw http.ResponseWriter, _ *http.Request) {
			hangUp(rw, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"access_token\":\"")
		})
		x.last(0)
		x.tokens(nil)
		return nil
	}},
	{name: "client refused", does: "the token endpoint answers 401 invalid_client", stores: twoStores, do: answering(401, `{"error":"invalid_client"}`),
		limits: map[promise]string{statuses: ourMistake}},
	{name: "rate limited", does: "the token endpoint answers 429", stores: twoStores, do: answering(429, `{"error":"slow_down"}`)},
	{name: "provider broken", does: "the token endpoint answers 500", stores: twoStores, do: answering(500, `oops`)},
	{name: "locked out", does: "the provider refuses the refresh of every second person", stores: everyStore, short: single, do: func(x *scene) error {
		refused := x.provider.Refused()
		chosen := x.people[:len(x.people)/2]
		x.lockOut(chosen)
		x.last(tokenLife + 4*time.Second)
		x.note(func(t *Tally) { t.DeadSent = x.provider.Refused() - refused - len(chosen) })
		return nil
	}},
	{name: "new keys", does: "the provider signs with a new key and forgets the old one", stores: twoStores, do: func(x *scene) error {
		for range 3 {
			if err := x.provider.RotateKey("ES256", true); err != nil {
				return err
			}
			x.last(0)
		}
		return nil
	}},
}

// tokens puts a handler in the place of the token endpoint.
func (x *scene) tokens(h http.HandlerFunc) { x.provider.Instead("token", h) }

// pass asks the provider, whatever becomes of the caller, and gives the answer after a while.
func (x *scene) pass(rw http.ResponseWriter, req *http.Request, before func()) {
	answer := httptest.NewRecorder()
	x.provider.Pass(answer, req.WithContext(context.WithoutCancel(req.Context())))
	if before != nil {
		before()
	}
	for name, values := range answer.Header() {
		rw.Header()[name] = values
	}
	rw.WriteHeader(answer.Code)
	_, _ = rw.Write(answer.Body.Bytes())
}

func answering(status int, body string) func(x *scene) error {
	return func(x *scene) error {
		x.tokens(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			rw.WriteHeader(status)
			_, _ = rw.Write([]byte(body))
		})
		x.last(0)
		x.tokens(nil)
		return nil
	}
}

// hangUp ends a connection after these bytes.
func hangUp(rw http.ResponseWriter, bytes string) {
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return
	}
	_, _ = conn.Write([]byte(bytes))
	conn.Close()
}

// discarded is an answer that never arrives.
type discarded struct{ header http.Header }

func (d discarded) Header() http.Header         { return d.header }
func (d discarded) Write(b []byte) (int, error) { return len(b), nil }
func (d discarded) WriteHeader(int)             {}

// Traefik

const (
	diedRefreshing = "who was being refreshed at that moment: the new tokens died with the Traefik"
	oneStep        = "the first Traefik seals what the others cannot open; change it in two steps"
	diedKnowing    = "with sessions in cookies the list of who is out dies with its Traefik"
)

var ofTraefik = []fault{
	{name: "a Traefik dies", late: true, does: "kill -9; it comes back", stores: everyStore, do: func(x *scene) error {
		x.traefiks[0].kill()
		x.last(0)
		return x.restart(x.traefiks[0])
	}, limits: map[promise]string{stay: diedRefreshing, once: diedRefreshing, gone: diedKnowing, pushed: diedKnowing}},
	{name: "a Traefik stands still", does: "SIGSTOP for 4 s, three times", stores: twoStores, do: func(x *scene) error {
		for range 3 {
			x.traefiks[1].pause(4 * time.Second)
			time.Sleep(time.Second)
		}
		return nil
	}},
	{name: "reloads", does: "the options of every Traefik change ten times", stores: twoStores, do: func(x *scene) error {
		for i := range 10 {
			for _, g := range x.traefiks {
				if err := x.route(g, map[string]any{"secret": firstSecret, "expiry": 86400 - i}); err != nil {
					return err
				}
			}
		}
		x.last(0)
		return nil
	}, limits: map[promise]string{quiet: "each reload repeats the warnings of the start"}},
	{name: "new secret, one step", does: "secret and previousSecrets change on one Traefik after the other", stores: twoStores, do: func(x *scene) error {
		return x.roll(map[string]any{"secret": secondSecret, "previousSecrets": []string{firstSecret}})
	}, limits: map[promise]string{stay: oneStep, statuses: atOnce}},
	{name: "new secret, two steps", does: "first everybody can open the new, then everybody seals with it", stores: twoStores, do: func(x *scene) error {
		if err := x.roll(map[string]any{"secret": firstSecret, "previousSecrets": []string{secondSecret}}); err != nil {
			return err
		}
		return x.roll(map[string]any{"secret": secondSecret, "previousSecrets": []string{firstSecret}})
	}},
}

// roll changes the options of the session on one Traefik after the other, as a rolling deploy does.
func (x *scene) roll(session map[string]any) error {
	for _, g := range x.traefiks {
		if err := x.route(g, session); err != nil {
			return err
		}
		x.last(0)
	}
	return nil
}

// The network between Traefik and Redis

var ofNetwork = []fault{
	{name: "replies 300 ms late", does: "every reply of Redis", stores: inRedis, do: weatherOf(weather{delay: 300 * time.Millisecond}, 0)},
	{name: "replies 2.5 s late", does: "every reply of Redis: each command is in time, a request's are not", stores: inRedis, do: weatherOf(weather{delay: timeout - 500*time.Millisecond}, 10*time.Second)},
	{name: "replies cut", does: "connections end in the middle of a reply", stores: inRedis, short: single, do: weatherOf(weather{cut: 3000}, 0)},
	{name: "Redis silent", does: "commands arrive, replies do not", stores: inRedis, do: weatherOf(weather{swallow: true}, 3*timeout)},
	{name: "Redis unreachable", does: "connections are refused for 15 s", stores: inRedis, do: weatherOf(weather{refuse: true}, 15*time.Second)},
	{name: "one Traefik without Redis", does: "connections of one of three are refused", stores: []string{single, overTLS}, do: func(x *scene) error {
		x.store.private[0].set(weather{refuse: true})
		x.last(0)
		x.store.private[0].set(weather{})
		return nil
	}},
}

func weatherOf(w weather, atLeast time.Duration) func(x *scene) error {
	return func(x *scene) error {
		x.store.weather(w)
		x.last(atLeast)
		x.store.weather(weather{})
		return nil
	}
}

// Redis

const (
	snapshot     = "what is in no snapshot is lost; use an append-only file"
	evicted      = "Redis may throw away what it keeps; use noeviction"
	emptied      = "Redis is empty"
	atOnce       = "400 for whoever comes back without a session right after a sign-in: the page against loops"
	lateReplicas = "replicas lag behind their master: the last writes before it dies are lost"
	twoMasters   = "both sides take writes; the old master's are lost when it comes back"
)

var ofRedis = []fault{
	{name: "Redis restarts", does: "kill -9, and up again; appendfsync always", stores: []string{single, overTLS}, short: single, do: func(x *scene) error {
		for range 2 {
			x.store.nodes[0].Kill()
			if err := x.store.nodes[0].run(); err != nil {
				return err
			}
			x.last(0)
		}
		return nil
	}},
	{name: "Redis down for 15 s", does: "kill -9; appendfsync always", stores: []string{single, overTLS}, do: func(x *scene) error {
		x.store.nodes[0].Kill()
		x.last(15 * time.Second)
		return x.store.nodes[0].run()
	}},
	{name: "Redis restarts from a snapshot", does: "of some seconds ago", stores: []string{single}, do: func(x *scene) error {
		n := x.store.nodes[0]
		if _, err := n.do("SAVE"); err != nil {
			return err
		}
		x.last(0)
		n.Kill()
		before := n.args
		n.args = append(slices.Clone(before), "--appendonly", "no")
		err := n.run()
		if err == nil {
			_, err = n.do("CONFIG", "SET", "appendonly", "yes")
		}
		n.args = before
		x.last(0)
		return err
	}, limits: limitOfAll(snapshot)},
	{name: "Redis empty", does: "FLUSHALL", stores: inRedis, do: func(x *scene) error {
		for _, n := range x.store.nodes {
			if n.isMaster() {
				if _, err := n.do("FLUSHALL"); err != nil {
					return err
				}
			}
		}
		x.last(0)
		return nil
	}, limits: map[promise]string{stay: emptied, statuses: atOnce}},
	{name: "Redis full", does: "maxmemory 1, noeviction", stores: inRedis, short: single, do: setting("maxmemory", "1", "0", 0)},
	{name: "Redis evicts, allkeys-lru", does: "other keys need the room", stores: []string{single}, do: evicting("allkeys-lru"),
		limits: map[promise]string{gone: evicted, pushed: evicted, stay: evicted, once: evicted, statuses: atOnce}},
	{name: "Redis evicts, volatile-ttl", does: "other keys need the room", stores: []string{single}, do: evicting("volatile-ttl"),
		limits: map[promise]string{gone: evicted, pushed: evicted, stay: evicted, once: evicted, statuses: atOnce}},
	{name: "Redis stands still", does: "SIGSTOP for 2 s, three times", stores: []string{single, overTLS}, do: func(x *scene) error {
		for range 3 {
			x.store.nodes[0].signal(syscall.SIGSTOP)
			time.Sleep(2 * time.Second)
			x.store.nodes[0].signal(syscall.SIGCONT)
			time.Sleep(time.Second)
		}
		return nil
	}},
	{name: "connections killed", does: "CLIENT KILL, every 100 ms", stores: inRedis, do: func(x *scene) error {
		for end := time.Now().Add(x.long); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			_ = all(x.store.nodes, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		}
		return nil
	}},
	{name: "read-only", does: "the server becomes a replica of nobody", stores: []string{single}, do: func(x *scene) error {
		n := x.store.nodes[0]
		if _, err := n.do("REPLICAOF", ownHost, "1"); err != nil {
			return err
		}
		x.last(0)
		_, err := n.do("REPLICAOF", "NO", "ONE")
		return err
	}},
	{name: "a password", does: "that Traefik does not have", stores: []string{single}, do: func(x *scene) error {
		n := x.store.nodes[0]
		for _, command := range [][]any{{"CONFIG", "SET", "requirepass", "new"}, {"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"}} {
			if _, err := n.do(command...); err != nil && command[0] == "CONFIG" {
				return err
			}
		}
		x.last(0)
		n.Kill() // the password is in no file
		return n.run()
	}},
}

// setting changes a setting of every server for a while.
func setting(name, ill, well string, atLeast time.Duration) func(x *scene) error {
	return func(x *scene) error {
		if err := all(x.store.nodes, "CONFIG", "SET", name, ill); err != nil {
			return err
		}
		x.last(atLeast)
		return all(x.store.nodes, "CONFIG", "SET", name, well)
	}
}

// evicting gives Redis less memory than it needs, and a policy by which it throws away. Filler takes what other users of it would.
func evicting(policy string) func(x *scene) error {
	return func(x *scene) error {
		n := x.store.nodes[0]
		used, err := strconv.Atoi(n.info("memory", "used_memory"))
		if err != nil {
			return err
		}
		if err := all(x.store.nodes, "CONFIG", "SET", "maxmemory-policy", policy); err != nil {
			return err
		}
		if err := all(x.store.nodes, "CONFIG", "SET", "maxmemory", strconv.Itoa(used+200<<10)); err != nil {
			return err
		}
		c := n.client()
		defer c.Close()
		for end, i := time.Now().Add(max(x.long, 8*time.Second)), 0; time.Now().Before(end); i++ {
			c.Set(context.Background(), fmt.Sprintf("of somebody else %d", i), make([]byte, 3000), time.Hour)
			time.Sleep(10 * time.Millisecond)
		}
		_ = all(x.store.nodes, "CONFIG", "SET", "maxmemory", "0")
		return all(x.store.nodes, "CONFIG", "SET", "maxmemory-policy", "noeviction")
	}
}

var ofTLS = []fault{
	{name: "another certificate", does: "the server comes back with one of an unknown authority", stores: []string{overTLS}, do: func(x *scene) error {
		n := x.store.nodes[0]
		stranger, err := parts.NewCA("stranger")
		if err != nil {
			return err
		}
		for _, ca := range []*parts.CA{stranger, x.ca} {
			n.Kill()
			if err := n.certify(ca); err != nil {
				return err
			}
			if err := n.run(); err != nil {
				return err
			}
			x.last(0)
		}
		return nil
	}},
}

// Sentinel

var ofSentinel = []fault{
	{name: "master killed", does: "kill -9; Sentinel finds another; it comes back", stores: []string{sentinel}, do: killed, limits: limitOfAll(lateReplicas)},
	{name: "planned failover", does: "SENTINEL FAILOVER", stores: []string{sentinel}, short: sentinel, do: func(x *scene) error {
		old := x.store.master()
		if _, err := x.store.sentinels[0].do("SENTINEL", "FAILOVER", masterSet); err != nil {
			return err
		}
		if err := x.store.newMaster(old); err != nil {
			return err
		}
		x.last(0)
		return nil
	}, limits: map[promise]string{stay: lateReplicas, once: lateReplicas}},
	{name: "master stands still", does: "SIGSTOP for 10 s; Sentinel finds another meanwhile", stores: []string{sentinel}, do: standsStill, limits: limitOfAll(lateReplicas)},
	{name: "split network", does: "Traefik reaches the old master, Sentinels and replicas do not", stores: []string{sentinel}, do: isApart,
		limits: limitOfAll(twoMasters)},
	{name: "split network, min-replicas-to-write 1", does: "the same; the old master stops taking writes after min-replicas-max-lag 3", stores: []string{sentinel},
		do:     splitting(map[string]string{"min-replicas-to-write": "1", "min-replicas-max-lag": "3"}),
		limits: limitOfAll(twoMasters)},
	{name: "a Sentinel dies", does: "kill -9 of one of three", stores: []string{sentinel}, do: func(x *scene) error {
		x.store.sentinels[0].Kill()
		x.last(0)
		return x.store.sentinels[0].run()
	}},
	{name: "no Sentinels", does: "all three die; the master stays", stores: []string{sentinel}, do: func(x *scene) error {
		for _, n := range x.store.sentinels {
			n.Kill()
		}
		x.last(0)
		return runAll(x.store.sentinels)
	}},
}

// limitOfAll is a limit of every promise about sessions.
func limitOfAll(limit string) map[promise]string {
	return map[promise]string{stay: limit, gone: limit, pushed: limit, once: limit}
}

// killed is a master that dies, and comes back when another has its place.
func killed(x *scene) error {
	old := x.store.master()
	old.Kill()
	if err := x.store.failedOver(old); err != nil {
		return err
	}
	x.last(0)
	return old.run()
}

func standsStill(x *scene) error {
	return withoutMaster(x, func(old *node) { old.signal(syscall.SIGSTOP) }, func(old *node) { old.signal(syscall.SIGCONT) })
}

func isApart(x *scene) error {
	return withoutMaster(x, func(old *node) { x.store.isolate(old, true) }, func(old *node) { x.store.isolate(old, false) })
}

// withoutMaster takes the master away until another has its place, and a while longer.
func withoutMaster(x *scene, take, giveBack func(old *node)) error {
	old := x.store.master()
	take(old)
	err := x.store.failedOver(old)
	x.last(3 * time.Second)
	giveBack(old)
	x.last(0)
	return err
}

func runAll(nodes []*node) error {
	for _, n := range nodes {
		if err := n.run(); err != nil {
			return err
		}
	}
	return nil
}

// failedOver waits until another master has the place of the old one.
func (s *store) failedOver(old *node) error {
	if len(s.sentinels) > 0 {
		return s.newMaster(old)
	}
	return s.taken(old)
}

// newMaster waits until Sentinel names another master than the old one.
func (s *store) newMaster(old *node) error {
	want := strconv.Itoa(old.link.port())
	return s.sentinels[1].WaitFor("a new master", 60*time.Second, func() bool {
		at, err := s.sentinels[1].do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterSet)
		found, ok := at.([]any)
		return err == nil && ok && len(found) == 2 && found[1] != want
	})
}

// splitting is isApart with settings of all servers.
func splitting(settings map[string]string) func(x *scene) error {
	return func(x *scene) error {
		for name, value := range settings {
			if err := all(x.store.nodes, "CONFIG", "SET", name, value); err != nil {
				return err
			}
		}
		err := isApart(x)
		for name := range settings {
			_ = all(x.store.nodes, "CONFIG", "SET", name, map[string]string{"min-replicas-to-write": "0", "min-replicas-max-lag": "10"}[name])
		}
		return err
	}
}

// Cluster

var ofCluster = []fault{
	{name: "master killed", does: "kill -9; its replica takes over; it comes back", stores: []string{cluster}, do: killed, limits: limitOfAll(lateReplicas)},
	{name: "planned failover", does: "CLUSTER FAILOVER on a replica", stores: []string{cluster}, do: func(x *scene) error {
		for _, n := range x.store.nodes {
			if !n.isMaster() {
				if _, err := n.do("CLUSTER", "FAILOVER"); err != nil {
					return err
				}
				break
			}
		}
		x.last(0)
		return nil
	}},
	{name: "slots move", does: "1,000 slots go to another master and back", stores: []string{cluster}, short: cluster, do: func(x *scene) error {
		var masters []*node
		for _, n := range x.store.nodes {
			if n.isMaster() {
				masters = append(masters, n)
			}
		}
		for _, pair := range [][2]*node{{masters[0], masters[1]}, {masters[1], masters[0]}} {
			if err := reshard(pair[0], pair[1]); err != nil {
				return err
			}
		}
		return nil
	}},
	{name: "split network", does: "Traefik reaches a master, the rest of the cluster does not", stores: []string{cluster}, do: isApart, limits: limitOfAll(twoMasters)},
	{name: "master stands still", does: "SIGSTOP for 10 s; its replica takes over meanwhile", stores: []string{cluster}, do: standsStill, limits: limitOfAll(lateReplicas)},
	{name: "two masters killed", does: "no quorum: the cluster is down until they come back", stores: []string{cluster}, do: func(x *scene) error {
		var dead []*node
		for _, n := range x.store.nodes {
			if len(dead) < 2 && n.isMaster() {
				n.Kill()
				dead = append(dead, n)
			}
		}
		x.last(5 * time.Second)
		return runAll(dead)
	}, limits: limitOfAll(lateReplicas)},
}

// reshard moves slots with everything in them. All servers have to know of the move before.
func reshard(from, to *node) error {
	source, err := from.do("CLUSTER", "MYID")
	if err != nil {
		return err
	}
	target, err := to.do("CLUSTER", "MYID")
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		said, err := exec.Command("redis-cli", "--cluster", "reshard", from.address(), "--cluster-from", fmt.Sprint(source), "--cluster-to", fmt.Sprint(target),
			"--cluster-slots", "1000", "--cluster-yes", "--cluster-pipeline", "100").CombinedOutput()
		if err == nil || time.Now().After(deadline) || !strings.Contains(string(said), "don't agree") {
			if err != nil {
				err = fmt.Errorf("redis-cli --cluster reshard: %w\n%.2000s", err, said)
			}
			return err
		}
	}
}

// taken waits until another server has the slots of one that is away.
func (s *store) taken(old *node) error {
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		masters := 0
		for _, n := range s.nodes {
			if n != old && n.isMaster() {
				masters++
			}
		}
		if masters == 3 {
			return nil
		}
	}
	return fmt.Errorf("no replica took the place of %s", old.name)
}
