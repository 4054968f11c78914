package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// load is a constant stream of requests of people who are signed in.
type load struct {
	mu      sync.Mutex
	answers map[string]int
	slowest time.Duration
	last    string // the answer to the last request
	stop    chan struct{}
	ended   sync.WaitGroup
}

// newLoad signs some people in, and lets them make requests until the test ends. Their replicas keep no copies, so that each request
// asks Redis.
func newLoad(t *testing.T, a *app) *load {
	t.Helper()
	l := &load{answers: map[string]int{}, stop: make(chan struct{})}
	var clients []*browser.Browser
	for range 12 {
		v := a.visitor(t)
		v.signIn("/", provider.Alice)
		clients = append(clients, a.old(t, v))
	}
	for i := range 4 {
		l.ended.Go(func() { l.run(a.URL, clients[3*i:3*i+3]) })
	}
	t.Cleanup(l.end)
	return l
}

// tally counts the answers of many clients.
type tally struct {
	mu      sync.Mutex
	answers map[string]int
	slowest time.Duration
}

func (y *tally) add(answer string, took time.Duration) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.answers[answer]++
	y.slowest = max(y.slowest, took)
}

// people are so many visitors, each with a session of her own.
func people(t *testing.T, a *app, count int) []*visitor {
	t.Helper()
	var made []*visitor
	for range count {
		v := a.visitor(t)
		v.signIn("/", provider.Alice)
		made = append(made, v)
	}
	return made
}

func (l *load) run(address string, clients []*browser.Browser) {
	for i := 0; ; i++ {
		select {
		case <-l.stop:
			return
		case <-time.After(8 * time.Millisecond):
		}
		began := time.Now()
		answer := fetchStatus(clients[i%len(clients)], address)
		l.mu.Lock()
		l.answers[answer]++
		l.last = answer
		l.slowest = max(l.slowest, time.Since(began))
		l.mu.Unlock()
	}
}

func (l *load) end() {
	l.mu.Lock()
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.mu.Unlock()
	l.ended.Wait()
}

// since returns what was answered since it was called last.
func (l *load) since() (map[string]int, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	answers, slowest := l.answers, l.slowest
	l.answers, l.slowest = map[string]int{}, 0
	return answers, slowest
}

// through goes through a fault: nothing but 200 and 503 (and what else is named) may be answered while it lasts, and only 200 when it
// is over. end mends it.
func (l *load) through(t *testing.T, fault string, begin, end func(), also ...string) {
	t.Helper()
	l.since()
	begin()
	end()
	deadline := time.Now().Add(20 * time.Second)
	for calm := 0; calm < 10 && time.Now().Before(deadline); calm++ { // half a second with nothing but 200
		time.Sleep(50 * time.Millisecond)
		l.mu.Lock()
		if l.last != "200" {
			calm = -1
		}
		l.mu.Unlock()
	}
	time.Sleep(100 * time.Millisecond) // what was under way
	during, slowest := l.since()
	time.Sleep(time.Second)
	after, _ := l.since()
	t.Logf("%s: %v, the slowest after %s; afterwards %v", fault, during, slowest.Round(time.Millisecond), after)
	for answer := range during {
		if answer != "200" && answer != "503" && !strings.Contains(strings.Join(also, " "), answer) {
			t.Errorf("%s: %d times %s", fault, during[answer], answer)
		}
	}
	if len(after) != 1 || after["200"] == 0 {
		t.Errorf("after %s: %v", fault, after)
	}
	if slowest > 4*time.Second { // clientConfig.timeoutSeconds is three, and the machine busy
		t.Errorf("%s: a request took %s", fault, slowest)
	}
}

// TestRedisFaults: what may happen to a single server while people work.
func TestRedisFaults(t *testing.T) {
	r := newRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	one := start(t).serve(t, site{with: both(storing(r), with{"session.store.cacheSeconds": 0, "logLevel": "warn"})})
	l := newLoad(t, one)
	nothing := func() {}
	l.through(t, "kill -9 and restart", func() { r.Kill(); time.Sleep(700 * time.Millisecond) }, func() { r.run(t) })
	l.through(t, "a restart at once", func() { r.Kill(); r.run(t) }, nothing)
	l.through(t, "CLIENT PAUSE for a second", func() { r.do(t, "CLIENT", "PAUSE", "1000") }, func() { time.Sleep(time.Second) })
	l.through(t, "CLIENT PAUSE for seven seconds", func() { r.do(t, "CLIENT", "PAUSE", "7000") }, func() { time.Sleep(7 * time.Second) })
	l.through(t, "every connection killed, ten times", func() {
		for range 10 {
			r.do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			time.Sleep(50 * time.Millisecond)
		}
	}, nothing)
	l.through(t, "the password changed", func() {
		r.do(t, "CONFIG", "SET", "requirepass", "new")
		r.auth = []string{"--no-auth-warning", "-a", "new"}
		r.do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		time.Sleep(500 * time.Millisecond)
	}, func() {
		r.do(t, "CONFIG", "SET", "requirepass", "")
		r.auth = nil
	})
	l.through(t, "300 requests at once, and a pause", func() {
		alice := one.visitor(t)
		alice.signIn("/", provider.Alice)
		r.do(t, "CLIENT", "PAUSE", "500")
		t.Log((&replicas{apps: []*app{one}}).storm(t, alice, 300))
	}, nothing)
	open := strings.Count(r.do(t, "--raw", "CLIENT", "LIST", "TYPE", "normal"), "id=") - 1 // without redis-cli
	t.Logf("%d connections", open)
	if open > 32 {
		t.Errorf("%d connections, more than the pool's 32", open)
	}
	l.since()
	r.do(t, "FLUSHALL")
	time.Sleep(300 * time.Millisecond)
	l.since()
	time.Sleep(time.Second)
	after, _ := l.since()
	t.Logf("after FLUSHALL: %v", after)
	if len(after) != 1 || after["401"] == 0 {
		t.Errorf("after FLUSHALL: %v", after)
	}
	l.end()
	if alice := one.visitor(t); alice.outcome(alice.signIn("/", provider.Alice)) != "application" {
		t.Error("no sign-in after FLUSHALL")
	}
}

// TestRedisNetworkFaults: a network that cuts connections at any byte of a reply, delays and swallows them.
func TestRedisNetworkFaults(t *testing.T) {
	r := newRedis(t)
	p := newProxy(t, r.addr())
	app := start(t).serve(t, site{with: both(storing(r), with{"session.store.redis.endpoints": p.addr, "session.store.cacheSeconds": 0, "logLevel": "warn"})})
	l := newLoad(t, app)
	heal := func() { p.set(network{}) }
	l.through(t, "connections cut within 400 bytes", func() { p.set(network{cut: 400}); time.Sleep(2 * time.Second) }, heal)
	l.through(t, "connections cut within 8 KB", func() { p.set(network{cut: 8000}); time.Sleep(2 * time.Second) }, heal)
	l.through(t, "replies 100 ms late", func() { p.set(network{delay: 100 * time.Millisecond}); time.Sleep(2 * time.Second) }, heal)
	l.through(t, "connections refused", func() { p.set(network{refuse: true}); time.Sleep(time.Second) }, heal)
	l.through(t, "replies swallowed for six seconds", func() { p.set(network{swallow: true}); time.Sleep(6 * time.Second) }, heal)
}

// network says how a proxy treats connections.
type network struct {
	cut             int // after at most so many bytes of replies, the last of them mid-reply
	delay           time.Duration
	refuse, swallow bool
}

// proxy is a bad network in front of a server.
type proxy struct {
	addr   string
	target string
	mu     sync.Mutex
	now    network
	open   map[net.Conn]bool
}

func newProxy(t *testing.T, target string) *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: listener.Addr().String(), target: target, open: map[net.Conn]bool{}}
	t.Cleanup(func() { listener.Close(); p.set(network{refuse: true}) })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p
}

// set changes the network, for new connections; those that are open are cut.
func (p *proxy) set(n network) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = n
	for conn := range p.open {
		conn.Close()
	}
	p.open = map[net.Conn]bool{}
}

func (p *proxy) serve(conn net.Conn) {
	defer conn.Close()
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	how := p.now
	p.open[conn] = true
	p.mu.Unlock()
	if how.refuse {
		return
	}
	go func() { io.Copy(server, conn); server.Close() }()
	left := how.cut
	if left > 0 {
		left = rand.IntN(left)
	}
	buffer := make([]byte, 4096)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if how.swallow {
			continue
		}
		time.Sleep(how.delay)
		if how.cut > 0 {
			n = min(n, left)
			left -= n
		}
		if _, err := conn.Write(buffer[:n]); err != nil || how.cut > 0 && left == 0 {
			return
		}
	}
}

// TestRedisSentinel: the master is found by its name, and its death is survived.
func TestRedisSentinel(t *testing.T) {
	need(t, "redis-sentinel")
	user := []string{"--masterauth", "of redis", "--requirepass", "of redis"}
	auth := []string{"--no-auth-warning", "-a", "of redis"}
	nodes := make([]*redis, 3)
	for i := range nodes {
		args := user
		if i > 0 {
			args = append([]string{"--replicaof", "127.0.0.1 " + fmt.Sprint(nodes[0].port)}, user...)
		}
		nodes[i] = newRedis(t, args...)
		nodes[i].auth = auth
	}
	var endpoints []string
	var sentinels []*redis
	for range 3 {
		s := newSentinel(t, nodes[0].port)
		sentinels = append(sentinels, s)
		endpoints = append(endpoints, s.addr())
	}
	ready := func() bool {
		return strings.Contains(sentinels[0].try("SENTINEL", "CKQUORUM", "main"), "3 usable") && strings.Contains(sentinels[0].try("SENTINEL", "MASTER", "main"), "num-slaves\n2")
	}
	if err := sentinels[0].WaitFor("the Sentinels knew each other", 20*time.Second, ready); err != nil {
		t.Fatal(err)
	}
	base := with{
		"session.store.redis.endpoints": endpoints, "session.store.keyPrefix": "{site}:", "session.store.redis.password": "of redis",
		"session.store.redis.sentinel.masterSet": "main", "session.store.redis.sentinel.username": "watcher", "session.store.redis.sentinel.password": "of sentinel",
	}
	t.Run("options", func(t *testing.T) {
		without := func(option string) site { s := site{with: both(base, nil)}; delete(s.with, option); return s }
		try(t, "session.store.redis.sentinel.masterSet", without("session.store.redis.sentinel.masterSet"), stored, row{"main", "ticket"}, row{"other", unavailable})
		try(t, "session.store.redis.sentinel.username", without("session.store.redis.sentinel.username"), stored, row{"watcher", "ticket"}, row{drop, unavailable})
		try(t, "session.store.redis.sentinel.password", without("session.store.redis.sentinel.password"), stored, row{"of sentinel", "ticket"}, row{"of redis", unavailable})

		tokens := func(option string) site {
			return start(t).storingTokens(without("session.store.redis.sentinel." + option).with)
		}
		try(t, "oAuthClientCredentials.store.redis.sentinel.masterSet", tokens("masterSet"), tokenKept(nodes[0]), row{"main", "kept"}, row{"other", "not kept"})
		try(t, "oAuthClientCredentials.store.redis.sentinel.username", tokens("username"), tokenKept(nodes[0]), row{"watcher", "kept"}, row{drop, "not kept"})
		try(t, "oAuthClientCredentials.store.redis.sentinel.password", tokens("password"), tokenKept(nodes[0]), row{"of sentinel", "kept"}, row{"of redis", "not kept"})
	})
	app := start(t).serve(t, site{with: both(base, with{"session.store.cacheSeconds": 0, "logLevel": "warn"})})
	l := newLoad(t, app)
	synced := func() bool { return nodes[0].try("--raw", "WAIT", "2", "1000") == "2" }
	if err := nodes[0].WaitFor("both replicas had all", 20*time.Second, synced); err != nil {
		t.Fatal(err)
	}
	var master string
	l.through(t, "failover after kill -9 of the master", func() {
		nodes[0].Kill()
		err := sentinels[0].WaitFor("a new master", 30*time.Second, func() bool {
			master = strings.Join(strings.Fields(sentinels[0].try("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")), ":")
			return master != nodes[0].addr() && master != ""
		})
		if err != nil {
			t.Fatal(err)
		}
	}, func() {})
	l.through(t, "the old master comes back", func() { nodes[0].run(t); time.Sleep(2 * time.Second) }, func() {})
	if fresh := app.visitor(t); fresh.outcome(fresh.signIn("/", provider.Bob)) != "application" {
		t.Error("no sign-in after the failover")
	}
	l.through(t, "a Sentinel dies", func() { sentinels[0].Kill(); time.Sleep(2 * time.Second) }, func() {})
}

// newSentinel watches the master at port under the name main.
func newSentinel(t *testing.T, port int) *redis {
	own, err := parts.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := &redis{port: own, dir: t.TempDir(), auth: []string{"--no-auth-warning", "--user", "watcher", "--pass", "of sentinel"}}
	conf := filepath.Join(s.dir, "sentinel.conf")
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nuser default off\nuser watcher on >%q allchannels allkeys +@all\nsentinel sentinel-user watcher\nsentinel sentinel-pass %q\n"+
		"sentinel monitor main 127.0.0.1 %d 2\nsentinel auth-pass main %q\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n", own, s.dir, "of sentinel", "of sentinel", port, "of redis")
	text = strings.ReplaceAll(text, `>"of sentinel"`, `">of sentinel"`)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = []string{conf}
	s.run(t)
	t.Cleanup(func() { s.Stop() })
	return s
}

// TestRedisCluster: six nodes, one of which dies, and slots that move while people work.
func TestRedisCluster(t *testing.T) {
	var nodes []*redis
	var addresses []string
	for range 6 {
		n := newRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--cluster-port", freePort(t), "--appendonly", "yes",
			"--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0")
		nodes = append(nodes, n)
		addresses = append(addresses, n.addr())
	}
	cluster := func(args ...string) string {
		out, err := exec.Command("redis-cli", append([]string{"--cluster"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("redis-cli --cluster %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	cluster(append(append([]string{"create"}, addresses...), "--cluster-replicas", "1", "--cluster-yes")...)
	settled := func() bool {
		for _, n := range nodes {
			select {
			case <-n.Ended():
				continue
			default:
			}
			// A replica that has not yet copied its master cannot take its place.
			if !strings.Contains(n.try("CLUSTER", "INFO"), "cluster_state:ok") || strings.Contains(n.try("INFO", "replication"), "master_link_status:down") {
				return false
			}
		}
		return true
	}
	if err := nodes[0].WaitFor("the cluster was formed", 30*time.Second, settled); err != nil {
		t.Fatal(err)
	}
	var replica *redis // which has no slots of its own
	for _, n := range nodes {
		if strings.HasPrefix(n.do(t, "--raw", "ROLE"), "slave") {
			replica = n
		}
	}
	base := with{"session.store.redis.endpoints": addresses, "session.store.keyPrefix": "{site}:"}
	t.Run("options", func(t *testing.T) {
		try(t, "session.store.redis.cluster", site{with: both(base, with{"session.store.redis.endpoints": replica.addr()})}, stored,
			row{drop, unavailable}, row{"true", "ticket"}, row{map[string]any{}, "ticket"})
		try(t, "oAuthClientCredentials.store.redis.cluster", start(t).storingTokens(both(base, with{"session.store.redis.endpoints": replica.addr()})), tokenKept(nodes...),
			row{drop, "not kept"}, row{map[string]any{}, "kept"})
	})
	app := start(t).serve(t, site{with: both(base, with{"session.store.redis.cluster": "true", "session.store.cacheSeconds": 0, "logLevel": "warn", "backchannelLogoutUrl": "/gone"})})
	l := newLoad(t, app)
	l.through(t, "resharding", func() {
		from, to := strings.TrimSpace(nodes[0].do(t, "--raw", "CLUSTER", "MYID")), strings.TrimSpace(nodes[1].do(t, "--raw", "CLUSTER", "MYID"))
		cluster("reshard", addresses[0], "--cluster-from", from, "--cluster-to", to, "--cluster-slots", "2000", "--cluster-yes", "--cluster-pipeline", "100")
	}, func() {})
	if resp := app.push(t, app.logoutToken(t, map[string]any{"sub": "user-bob"})); resp.StatusCode != http.StatusOK {
		t.Errorf("a logout of somebody who is not here: %s", resp.Status)
	}
	l.through(t, "kill -9 of a master", func() {
		nodes[1].Kill()
		took := func() bool { return strings.Contains(nodes[0].try("CLUSTER", "NODES"), "master,fail ") && settled() }
		if err := nodes[0].WaitFor("its replica took over", 30*time.Second, took); err != nil {
			t.Fatal(err)
		}
	}, func() {})
	if fresh := app.visitor(t); fresh.outcome(fresh.signIn("/", provider.Bob)) != "application" {
		t.Error("no sign-in after the failover")
	}
	if resp := app.push(t, app.logoutToken(t, map[string]any{"sub": "user-alice"})); resp.StatusCode != http.StatusOK {
		t.Errorf("a logout: %s", resp.Status)
	}
	l.since()
	time.Sleep(300 * time.Millisecond)
	if after, _ := l.since(); after["200"] > 4 {
		t.Errorf("after the logout of all: %v", after)
	}
}

func freePort(t *testing.T) string {
	port, err := parts.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(port)
}
