package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// The kinds of store. Valkey is not among them: neither Debian 12 nor the Go proxy has its server.
const (
	cookies  = "cookies"
	single   = "single"
	overTLS  = "tls"
	sentinel = "sentinel"
	cluster  = "cluster"
)

// Stores are all kinds of store, in the order in which they are tried.
var Stores = []string{cookies, single, overTLS, sentinel, cluster}

// node is a redis-server, or a Sentinel. All others reach it through its link only, and it reaches them from an address of its own.
type node struct {
	*parts.Process
	name string
	host string // it dials from here
	port int    // its own, which only this process uses
	dir  string
	args []string // beside the port, the same after a restart
	tls  bool

	link *link
	bus  *link // of a cluster
}

// store is where sessions are kept.
type store struct {
	kind      string
	nodes     []*node
	sentinels []*node
	private   []*link                          // of each Traefik to a single server
	session   func(traefik int) map[string]any // the block session.store of the options; nil: cookies
}

const masterSet = "main"

// newStore starts what a kind of store needs.
func newStore(kind, dir string, ca *parts.CA, traefiks int) (*store, error) {
	s := &store{kind: kind}
	var err error
	switch kind {
	case cookies:
		return s, nil
	case single, overTLS:
		err = s.startSingle(dir, ca, traefiks)
	case sentinel:
		err = s.startSentinel(dir)
	case cluster:
		err = s.startCluster(dir)
	default:
		err = fmt.Errorf("no store is called %q; there are %s", kind, strings.Join(Stores, ", "))
	}
	if err != nil {
		s.stop()
	}
	return s, err
}

func (s *store) stop() {
	for _, n := range slices.Concat(s.sentinels, s.nodes) {
		if n.Process != nil {
			n.signal(syscall.SIGCONT)
			n.Kill()
		}
		for _, l := range []*link{n.link, n.bus} {
			if l != nil {
				l.close()
			}
		}
	}
	for _, l := range s.private {
		l.close()
	}
}

// stablePort finds a port that stays free while its server is down: none that connections and other programs get by themselves.
func stablePort() (int, error) {
	for range 100 {
		port := 15000 + rand.IntN(17000)
		listener, err := net.Listen("tcp", net.JoinHostPort(ownHost, strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("no free port between 15000 and 32000")
}

// newNode prepares a server that is not started yet.
func (s *store) newNode(dir, name string) (*node, error) {
	port, err := stablePort()
	if err != nil {
		return nil, err
	}
	n := &node{name: name, host: fmt.Sprintf("127.0.1.%d", 1+len(s.nodes)+len(s.sentinels)), port: port, dir: filepath.Join(dir, name)}
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return nil, err
	}
	n.link, err = newLink(n.address())
	return n, err
}

func (n *node) address() string { return net.JoinHostPort(ownHost, strconv.Itoa(n.port)) }

// run starts the server, again if it was killed, and waits until it answers.
func (n *node) run() error {
	binary, err := parts.Find("redis-server")
	if err != nil {
		return err
	}
	args := n.args
	if !strings.HasSuffix(strings.Join(args, " "), "--sentinel") {
		port := "--port"
		if n.tls {
			port = "--tls-port"
			args = append([]string{"--port", "0"}, args...)
		}
		args = append([]string{port, strconv.Itoa(n.port), "--bind", ownHost, "--dir", n.dir, "--save", "", "--appendonly", "yes", "--repl-diskless-sync-delay", "0"}, args...)
	}
	n.Process, err = parts.StartProcess(parts.Command{Name: n.name, Path: binary, Args: args, LogFile: filepath.Join(n.dir, "redis.log")})
	if err != nil {
		return err
	}
	return n.WaitFor("it answered", 20*time.Second, func() bool {
		_, err := n.do("PING")
		return err == nil || strings.Contains(err.Error(), "NOAUTH")
	})
}

func (n *node) signal(s syscall.Signal) { _ = syscall.Kill(n.PID, s) }

// silent drops what the client library says about servers that are down: they are meant to be.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(silent{}) }

// client talks to the server itself, past its link.
func (n *node) client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: n.address(), TLSConfig: n.tlsConfig(), MaxRetries: -1, PoolSize: 1, ReadTimeout: 5 * time.Second, DisableIdentity: true, Protocol: 2})
}

// do sends one command.
func (n *node) do(command ...any) (any, error) {
	c := n.client()
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return c.Do(ctx, command...).Result()
}

// info reads one value of INFO.
func (n *node) info(section, name string) string {
	text, _ := n.do("INFO", section)
	for line := range strings.Lines(fmt.Sprint(text)) {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), name+":"); found {
			return value
		}
	}
	return ""
}

func (n *node) isMaster() bool { return n.info("replication", "role") == "master" }

// all runs a command on some nodes.
func all(nodes []*node, command ...any) error {
	var failed error
	for _, n := range nodes {
		if _, err := n.do(command...); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %v: %w", n.name, command, err))
		}
	}
	return failed
}

func (s *store) startSingle(dir string, ca *parts.CA, traefiks int) error {
	n, err := s.newNode(dir, "redis")
	if err != nil {
		return err
	}
	s.nodes = []*node{n}
	n.args = []string{"--appendfsync", "always"}
	block := map[string]any{}
	if s.kind == overTLS {
		n.tls = true
		if err := n.certify(ca); err != nil {
			return err
		}
		n.args = append(n.args, "--tls-cert-file", n.dir+"/cert.pem", "--tls-key-file", n.dir+"/key.pem", "--tls-auth-clients", "no")
		block["tls"] = map[string]any{"ca": ca.PEM}
	}
	for range traefiks {
		own, err := newLink(n.address())
		if err != nil {
			return err
		}
		s.private = append(s.private, own)
	}
	s.session = func(traefik int) map[string]any {
		own := map[string]any{"endpoints": []string{s.private[traefik].addr}}
		for name, value := range block {
			own[name] = value
		}
		return map[string]any{"redis": own}
	}
	return n.run()
}

// startSentinel starts a master with two replicas, and three Sentinels that watch them through their links.
func (s *store) startSentinel(dir string) error {
	for i := range 3 {
		n, err := s.newNode(dir, fmt.Sprintf("redis-%d", i))
		if err != nil {
			return err
		}
		s.nodes = append(s.nodes, n)
		n.args = []string{"--bind-source-addr", n.host, "--replica-announce-ip", ownHost, "--replica-announce-port", strconv.Itoa(n.link.port())}
		if i > 0 {
			n.args = append(n.args, "--replicaof", fmt.Sprintf("%s %d", ownHost, s.nodes[0].link.port()))
		}
		if err := n.run(); err != nil {
			return err
		}
	}
	var endpoints []string
	for i := range 3 {
		n, err := s.newNode(dir, fmt.Sprintf("sentinel-%d", i))
		if err != nil {
			return err
		}
		s.sentinels = append(s.sentinels, n)
		endpoints = append(endpoints, n.link.addr)
		conf := filepath.Join(n.dir, "sentinel.conf")
		text := fmt.Sprintf("port %d\nbind %s\nbind-source-addr %s\ndir %s\nsentinel announce-ip %s\nsentinel announce-port %d\nsentinel monitor %s %s %d 2\n"+
			"sentinel down-after-milliseconds %[7]s 2000\nsentinel failover-timeout %[7]s 6000\n",
			n.port, ownHost, n.host, n.dir, ownHost, n.link.port(), masterSet, ownHost, s.nodes[0].link.port())
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return err
		}
		n.args = []string{conf, "--sentinel"}
		if err := n.run(); err != nil {
			return err
		}
	}
	s.session = func(int) map[string]any {
		return map[string]any{"redis": map[string]any{"endpoints": endpoints, "sentinel": map[string]any{"masterSet": masterSet}}}
	}
	return s.settled(60 * time.Second)
}

// startCluster starts three masters, each with a replica. They know each other by their links.
func (s *store) startCluster(dir string) error {
	var endpoints []string
	for i := range 6 {
		n, err := s.newNode(dir, fmt.Sprintf("redis-%d", i))
		if err != nil {
			return err
		}
		s.nodes = append(s.nodes, n)
		endpoints = append(endpoints, n.link.addr)
		bus, err := stablePort()
		if err != nil {
			return err
		}
		if n.bus, err = newLink(net.JoinHostPort(ownHost, strconv.Itoa(bus))); err != nil {
			return err
		}
		n.args = []string{"--bind-source-addr", n.host, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", strconv.Itoa(bus),
			"--cluster-announce-ip", ownHost, "--cluster-announce-port", strconv.Itoa(n.link.port()), "--cluster-announce-bus-port", strconv.Itoa(n.bus.port()),
			"--cluster-replica-validity-factor", "0"}
		if err := n.run(); err != nil {
			return err
		}
	}
	s.session = func(int) map[string]any {
		return map[string]any{"redis": map[string]any{"endpoints": endpoints, "cluster": map[string]any{}}}
	}
	if err := s.formCluster(); err != nil {
		return err
	}
	return s.settled(60 * time.Second)
}

const slots = 16384

func (s *store) formCluster() error {
	for i, n := range s.nodes {
		if _, err := n.do("CLUSTER", "SET-CONFIG-EPOCH", i+1); err != nil {
			return err
		}
		if i < 3 {
			if _, err := n.do("CLUSTER", "ADDSLOTSRANGE", i*slots/3, (i+1)*slots/3-1); err != nil {
				return err
			}
		}
		if _, err := s.nodes[0].do("CLUSTER", "MEET", ownHost, n.link.port(), n.bus.port()); err != nil {
			return err
		}
	}
	for i, n := range s.nodes[3:] {
		master, err := s.nodes[i].do("CLUSTER", "MYID")
		if err != nil {
			return err
		}
		err = n.WaitFor("it knew its master", 30*time.Second, func() bool {
			_, err := n.do("CLUSTER", "REPLICATE", master)
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settled waits until the store is whole: every server up, one master with its replicas in step for each part of the keys.
func (s *store) settled(limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		why := s.unsettled()
		if why == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not settle within %s: %s", s.kind, limit, why)
		}
	}
}

// unsettled says what is amiss, "" for nothing.
func (s *store) unsettled() string {
	masters := 0
	for _, n := range s.nodes {
		switch {
		case n.isMaster():
			masters++
		case n.info("replication", "master_link_status") != "up":
			return n.name + " has no link to its master"
		}
		if s.kind == cluster {
			if info, _ := n.do("CLUSTER", "INFO"); !strings.Contains(fmt.Sprint(info), "cluster_state:ok") || !strings.Contains(fmt.Sprint(info), "cluster_known_nodes:6") {
				return n.name + " does not see the whole cluster"
			}
		}
	}
	if want := map[string]int{single: 1, overTLS: 1, sentinel: 1, cluster: 3}[s.kind]; masters != want {
		return fmt.Sprintf("%d masters instead of %d", masters, want)
	}
	if s.kind != sentinel {
		return ""
	}
	master := s.master()
	for _, n := range s.sentinels {
		at, err := n.do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterSet)
		quorum, _ := n.do("SENTINEL", "CKQUORUM", masterSet)
		if want := fmt.Sprint([]any{ownHost, strconv.Itoa(master.link.port())}); err != nil || fmt.Sprint(at) != want || !strings.Contains(fmt.Sprint(quorum), "3 usable") {
			return fmt.Sprintf("%s takes %v for the master (%v), %v", n.name, at, err, quorum)
		}
	}
	if connected := master.info("replication", "connected_slaves"); connected != "2" {
		return "the master has " + connected + " replicas"
	}
	return ""
}

// master is the first that takes itself for one.
func (s *store) master() *node {
	for _, n := range s.nodes {
		if n.isMaster() {
			return n
		}
	}
	return s.nodes[0]
}

// links are all that Traefik uses.
func (s *store) links() []*link {
	found := slices.Clone(s.private)
	if found == nil {
		for _, n := range slices.Concat(s.nodes, s.sentinels) {
			found = append(found, n.link)
		}
	}
	return found
}

func (s *store) weather(w weather) {
	for _, l := range s.links() {
		l.set(w)
	}
}

// isolate takes a server away from all its peers, in both directions. Traefik reaches it as before.
func (s *store) isolate(n *node, apart bool) {
	for _, other := range slices.Concat(s.nodes, s.sentinels) {
		for _, l := range []*link{other.link, other.bus} {
			switch {
			case l == nil:
			case other == n:
				l.part(anyPeer, apart)
			default:
				l.part(n.host, apart)
			}
		}
	}
}
