package oidc

// The Redis client: RESP2 over TCP or TLS, for one server, several tried in turn, Sentinel and Cluster.
// What is kept there, and under which keys, is the business of store.go.
//
// House rules of this room:
//   - Work is done when a request needs it, and by that request: dialling, asking Sentinel, reading the slot map.
//   - No select: in the interpreter all goroutines at one select statement share its channels, and get each other's.
//     Who has to wait looks again every redisPoll.
//   - Nothing blocks longer than the client's timeout: redisDo starts the clock once, and everything below it gets what is
//     left of it: the wait for a place in the pool, the dial, the handshake, each read and write, the pause before a retry.
//   - A connection that failed in any way is closed. What is left unread on it would be the next caller's answer.
//   - An error names the server, the command and what to do. It never holds an argument, nor the server's own words, which
//     quote arguments. All of them wrap errUnavailable: the caller answers 503, neither "signed in" nor "signed out".

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	redisTimeout  = 5 * time.Second
	redisPoolSize = 32
	redisMaxReply = 8 << 20               // bytes of one reply
	redisItemCost = 64                    // what each value in it counts beside its bytes
	redisMaxDepth = 6                     // CLUSTER SLOTS, the deepest reply we ask for, has four levels
	redisAttempts = 6                     // of one command, redirections included
	redisPause    = 25 * time.Millisecond // before the third attempt; then 75, 175 and 375: enough for most moments
	redisPoll     = 2 * time.Millisecond  // between two looks at what another request has or does
	redisMaxIdle  = time.Minute           // firewalls and balancers forget quiet connections after some minutes, without a word
	redisRecheck  = time.Second           // how old the answer to "who is the master?" may be
	redisSlots    = 16384                 // Redis Cluster Specification, "Key distribution model"
)

// redisClient is one Redis installation. Its parts are found as they are needed. There is nothing to close: the sockets of
// a client that nobody has any more are closed when it is collected.
type redisClient struct {
	config   *RedisConfig
	tls      *tls.Config   // nil: plain TCP
	timeout  time.Duration // of a whole command
	poolSize int           // connections to each server, a hard limit
	fixed    bool          // one server and no discovery: nothing to look up, nowhere else to go

	mu        sync.Mutex
	nodes     map[string]*redisNode // by address; never forgotten, so that each server has one pool, whatever happens to it
	endpoints []string              // of the options, as addresses
	known     []string              // masters of the cluster, which know the others
	slots     []*redisNode          // the server of each slot; without cluster there is one slot, the master's
	moved     bool                  // a redirection showed that slots is out of date
	looking   bool                  // a request looks the servers up; nobody else touches start
	start     int                   // which candidate to ask first
	found     time.Time             // of the last lookup
	findErr   error                 // its result
}

// redisNode is one server and our connections to it.
type redisNode struct {
	address  string
	sentinel bool
	busy     int          // connections in use or being dialled; guarded by redisClient.mu
	idle     []*redisConn // the freshest last; the same
}

type redisConn struct {
	raw    net.Conn
	reader *bufio.Reader
	used   time.Time
}

// What may come of an attempt beside a reply. Everything else is an error from before the command was sent.
var (
	errRedisAnswer = errors.New("answered")               // the server answered with an error: its text follows
	errRedisLost   = errors.New("no answer")              // the server may have run the command, but the answer did not come
	errRedisReply  = errors.New("a reply we cannot read") // not RESP2, too long or too deep
)

// redisRepeatable are the commands that are sent a second time when the answer was lost: running them twice leaves what
// running them once leaves. The scripts of this plugin are written for it, and SET NX carries a token.
var redisRepeatable = map[string]bool{"GET": true, "SET": true, "DEL": true, "EVAL": true, "ZRANGE": true, "PING": true}

// redisHints say what to do about an error, by words of it; the first match counts.
var redisHints = []struct{ words, todo string }{
	{"OOM ", "Redis is full: raise its maxmemory, or let it evict with maxmemory-policy volatile-ttl"},
	{"READONLY", "this is a replica: name the master in endpoints, or use sentinel"},
	{"LOADING", "Redis has just started and is loading its data: wait"},
	{"WRONGTYPE", "something else is stored under our keys: choose another keyPrefix or database"},
	{"NOAUTH", "Redis wants a password: set username and password"},
	{"WRONGPASS", "Redis does not accept username and password"},
	{"ERR invalid password", "Redis does not accept password"},
	{"ERR AUTH", "Redis has no password: remove password, or set one there"},
	{"for 'auth'", "Redis before version 6 has no users: remove username"},
	{"NOPERM", "the user needs GET, SET, DEL, EVAL, TIME, ROLE, CLUSTER SLOTS, PEXPIREAT, sorted sets, and the keys of keyPrefix"},
	{"CLUSTERDOWN", "the cluster does not serve all slots at the moment: see CLUSTER INFO"},
	{"MOVED ", "this is a Redis Cluster: set cluster"},
	{"cluster support disabled", "this is no Redis Cluster: remove cluster"},
	{"DB index", "Redis has no such database: lower database, or raise databases there"},
	{"max number of clients", "raise maxclients of Redis"},
	{"MISCONF", "Redis cannot save its data: see its log and its disk"},
	{"unknown command", "Redis 5 or later is needed; with sentinel, endpoints are the Sentinels"},
	{"connection refused", "is Redis running there, and are endpoints right?"},
	{"timeout", "is Redis paused, overloaded, or behind a firewall?"},
	{"deadline exceeded", "is Redis paused, overloaded, or behind a firewall?"},
	{"x509", "see tls.ca, and the names in the certificate of Redis"},
	{"tls:", "does Redis speak TLS there, and does it want a client certificate?"},
	{"EOF", "Redis hung up: was it restarted, or does it want TLS, or a client certificate?"},
	{"reset", "Redis hung up: was it restarted, or does it want TLS, or a client certificate?"},
	{"cannot read", "is this Redis, and is tls set as it is there?"},
}

// newRedis makes a client of the options; its error has all problems, each beginning with the option. It needs no network,
// so that New does not: servers are looked up by the first command.
func newRedis(rc *RedisConfig) (*redisClient, error) {
	c := &redisClient{config: rc, timeout: redisTimeout, poolSize: redisPoolSize, nodes: map[string]*redisNode{}}
	c.fixed = len(rc.Endpoints) == 1 && rc.Sentinel == nil && rc.Cluster == nil
	c.slots = make([]*redisNode, redisSlots)
	var problems []string
	if rc.TLS != nil {
		config, err := newTLSConfig(rc.TLS)
		if err != nil {
			problems = append(problems, err.Error())
		}
		c.tls = config
	}
	if len(rc.Endpoints) == 0 {
		problems = append(problems, `endpoints: must name a server, got none; try "redis:6379"`)
	}
	for i, endpoint := range rc.Endpoints {
		address, err := redisAddress(c, endpoint)
		if err != nil {
			problems = append(problems, fmt.Sprintf("endpoints[%d]: %s", i, err.Error()))
		}
		c.endpoints = append(c.endpoints, address)
	}
	if rc.Sentinel != nil && rc.Sentinel.MasterSet == "" {
		problems = append(problems, `sentinel.masterSet: is required; it is the name after "sentinel monitor" in sentinel.conf`)
	}
	if rc.Sentinel != nil && rc.Cluster != nil {
		problems = append(problems, "cluster, sentinel: exclude each other; a cluster fails over by itself")
	}
	if rc.Database < 0 || (rc.Database != 0 && rc.Cluster != nil) {
		problems = append(problems, fmt.Sprintf("database: must not be negative, and 0 in a cluster, got %d", rc.Database))
	}
	if len(problems) > 0 {
		return nil, errors.New(strings.Join(problems, "; "))
	}
	return c, nil
}

// redisAddress reads `host:port`, `redis://host:port` or `rediss://host:port`. As people put passwords into such URLs, no
// error repeats more of one than its scheme.
func redisAddress(c *redisClient, endpoint string) (string, error) {
	if !strings.Contains(endpoint, "://") {
		endpoint = "any://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", errors.New(`must be "host:port", "redis://host:port" or "rediss://host:port"; user, password and database are options of their own`)
	}
	if u.Scheme == "rediss" && c.tls == nil {
		c.tls = &tls.Config{MinVersion: tls.VersionTLS12}
	} else if u.Scheme == "redis" && c.tls != nil {
		return "", errors.New("redis:// is without TLS, but tls or another endpoint asks for it; write rediss://")
	} else if u.Scheme != "any" && u.Scheme != "redis" && u.Scheme != "rediss" {
		return "", fmt.Errorf("the scheme must be redis or rediss (with TLS), got %q", u.Scheme)
	}
	port := u.Port()
	if port == "" {
		port = "6379"
		if c.config.Sentinel != nil {
			port = "26379"
		}
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}

// redisDo sends one command and returns its reply: nil, string, int64 or []interface{} of these. key says which server of
// a cluster is asked; "" stands for any. A ctx that is cancelled ends waiting, but not a reply that is under way.
//
// What a cluster answers to say "elsewhere" or "in a moment" is followed, a command whose answer was lost is sent once more
// on a new connection, and a server that is gone is looked for elsewhere: all of it within the one timeout.
func redisDo(ctx context.Context, c *redisClient, key string, args ...string) (interface{}, error) {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	request, prelude, lost := redisRequest(args), "", false
	node, err := redisRoute(limited, c, key)
	for attempt := 1; ; attempt++ {
		if err == nil {
			value, tryErr := redisTry(limited, c, node, prelude, request)
			if tryErr == nil {
				return value, nil
			}
			err = tryErr
		}
		again := redisHelps(c, err)
		if errors.Is(err, errRedisLost) {
			again, lost = !lost && redisRepeatable[args[0]], true
		}
		if !again || attempt == redisAttempts || !redisWait(limited, redisPause*time.Duration(1<<(attempt-1)-1)) {
			return nil, redisFault(node, args[0], err)
		}
		node, prelude, err = redisNext(limited, c, key, node, err)
	}
}

// redisHelps says whether another server or a moment's wait may help against err. The codes are those by which the server
// says that it did not run the command, so that it may be sent again, whatever it is.
func redisHelps(c *redisClient, err error) bool {
	switch redisCode(err) {
	case "", "READONLY", "MASTERDOWN":
		return !c.fixed
	case "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN":
		return c.config.Cluster != nil
	}
	return false
}

// redisNext says where a command goes after err, and what must be said there first.
func redisNext(ctx context.Context, c *redisClient, key string, node *redisNode, err error) (*redisNode, string, error) {
	code, text := redisCode(err), err.Error()
	if code == "MOVED" || code == "ASK" { // "MOVED slot host:port"; Redis Cluster Specification, "Redirection and resharding"
		next := redisServer(c, redisPeer(text[strings.LastIndexByte(text, ' ')+1:], node.address), false)
		if code == "ASK" { // for this command only
			return next, redisRequest([]string{"ASKING"}), nil
		}
		slot := redisSlot(c, key)
		c.mu.Lock()
		c.slots[slot], c.moved = next, true
		c.mu.Unlock()
		return next, "", nil
	}
	if !errors.Is(err, errRedisLost) && code != "TRYAGAIN" && code != "CLUSTERDOWN" {
		if lookupErr := redisLookup(ctx, c, true); lookupErr != nil {
			return node, "", lookupErr
		}
	}
	next, routeErr := redisRoute(ctx, c, key)
	return next, "", routeErr
}

// redisWait pauses and returns true, or false at once if there is no time for it.
func redisWait(ctx context.Context, pause time.Duration) bool {
	deadline, _ := ctx.Deadline()
	if ctx.Err() != nil || time.Until(deadline) <= pause {
		return false
	}
	time.Sleep(pause)
	return true
}

// redisRoute is the server that has key. What is known is used at once, and looked up again by one request at a time when
// it may be old: after a failover the former master may still answer, and would take writes that are lost.
func redisRoute(ctx context.Context, c *redisClient, key string) (*redisNode, error) {
	slot := redisSlot(c, key)
	c.mu.Lock()
	node := c.slots[slot]
	stale := (c.config.Sentinel != nil || c.moved) && time.Since(c.found) > redisRecheck
	c.mu.Unlock()
	if node != nil && !stale {
		return node, nil
	}
	err := redisLookup(ctx, c, node == nil)
	c.mu.Lock()
	next := c.slots[slot]
	c.mu.Unlock()
	if next != nil {
		return next, nil // after a lookup that failed, what we knew is good until its server says otherwise
	}
	if err == nil {
		err = fmt.Errorf("%w: redis: no server has this part of the cluster; see CLUSTER INFO", errUnavailable)
	}
	return nil, err
}

// redisLookup finds out where the keys are, from the first candidate that knows. One request does it; the others wait for
// its result, or go on with what they have if they do not need it.
func redisLookup(ctx context.Context, c *redisClient, needed bool) error {
	began := time.Now()
	c.mu.Lock()
	for c.looking {
		c.mu.Unlock()
		if !needed {
			return nil
		}
		if !redisWait(ctx, redisPoll) {
			return fmt.Errorf("%w: redis: time ran out while another request looked for the server", errUnavailable)
		}
		c.mu.Lock()
	}
	done, err := c.found.After(began), c.findErr
	c.looking = !done
	candidates := append(append([]string{}, c.endpoints...), c.known...)
	c.mu.Unlock()
	if done {
		return err
	}
	for i := range candidates {
		at := (c.start + i) % len(candidates)
		if err = redisAsk(ctx, c, candidates[at], len(candidates)-i, needed); err == nil {
			c.start = at
			break
		}
	}
	c.mu.Lock()
	c.looking = false
	if err == nil || ctx.Err() == nil { // our lack of time is not the others'
		c.found = time.Now()
		c.findErr = err
	}
	c.mu.Unlock()
	return err
}

// redisAsk asks one candidate, and adopts what it says. Those left share the time, and the command itself has one share.
// verify is for when there is doubt about the server we know: its role is then looked at anew, on a new connection.
func redisAsk(ctx context.Context, c *redisClient, address string, left int, verify bool) error {
	deadline, _ := ctx.Deadline()
	limited, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left+1))
	defer cancel()
	node := redisServer(c, address, c.config.Sentinel != nil)
	if c.config.Cluster != nil {
		value, err := redisTry(limited, c, node, "", redisRequest([]string{"CLUSTER", "SLOTS"}))
		if err == nil {
			err = readRedisSlots(c, node, value)
		}
		return redisFault(node, "CLUSTER SLOTS", err)
	}
	if c.config.Sentinel != nil {
		value, err := redisTry(limited, c, node, "", redisRequest([]string{"SENTINEL", "get-master-addr-by-name", c.config.Sentinel.MasterSet}))
		host := texts(value)
		if err == nil && len(host) != 2 {
			err = errors.New("knows no master of the name in sentinel.masterSet")
		}
		if err != nil {
			return redisFault(node, "SENTINEL", err)
		}
		node = redisServer(c, net.JoinHostPort(host[0], host[1]), false)
	}
	c.mu.Lock()
	same := c.slots[0] == node
	if verify {
		closeIdle(node)
	}
	c.mu.Unlock()
	if !same || verify {
		conn, err := redisTake(limited, c, node) // a new connection makes sure of the role
		if err != nil {
			return err
		}
		redisGive(c, node, conn)
	}
	redisAdopt(c, []*redisNode{node}, map[string]bool{node.address: true})
	return nil
}

// readRedisSlots adopts a reply to CLUSTER SLOTS: ranges of [first, last, [host, port, id, …] of the master, replicas…].
func readRedisSlots(c *redisClient, from *redisNode, value interface{}) error {
	ranges, _ := value.([]interface{})
	slots := make([]*redisNode, redisSlots)
	masters := map[string]bool{}
	for _, item := range ranges {
		fields, _ := item.([]interface{})
		if len(fields) < 3 {
			return errRedisReply
		}
		first, isFirst := fields[0].(int64)
		last, isLast := fields[1].(int64)
		server, _ := fields[2].([]interface{})
		if !isFirst || !isLast || first < 0 || last >= redisSlots || len(server) < 2 {
			return errRedisReply
		}
		port, _ := server[1].(int64)
		node := redisServer(c, redisPeer(text(server[0])+":"+strconv.FormatInt(port, 10), from.address), false)
		masters[node.address] = true
		for ; first <= last; first++ {
			slots[first] = node
		}
	}
	redisAdopt(c, slots, masters)
	return nil
}

// redisAdopt makes the result of a lookup the one to go by, and closes what is idle at servers that are no part of it.
func redisAdopt(c *redisClient, slots []*redisNode, masters map[string]bool) {
	c.mu.Lock()
	c.slots = slots
	c.moved = false
	c.known = nil
	for address, node := range c.nodes {
		if masters[address] && c.config.Cluster != nil {
			c.known = append(c.known, address) // those there now know best who will be there later
		} else if !masters[address] && !node.sentinel {
			closeIdle(node)
		}
	}
	c.mu.Unlock()
}

// redisServer is the server at address, made known if it is new.
func redisServer(c *redisClient, address string, sentinel bool) *redisNode {
	c.mu.Lock()
	node := c.nodes[address]
	if node == nil {
		node = &redisNode{address: address, sentinel: sentinel}
		c.nodes[address] = node
	}
	c.mu.Unlock()
	return node
}

// redisPeer is the address of a server that another one named. Without a host it is the host of the one that was asked; an
// IPv6 address comes without brackets.
func redisPeer(peer, from string) string {
	colon := strings.LastIndexByte(peer, ':')
	if colon < 0 {
		return peer
	}
	host := strings.Trim(peer[:colon], "[]")
	if host == "" {
		host, _, _ = net.SplitHostPort(from)
	}
	return net.JoinHostPort(host, peer[colon+1:])
}

// redisTry is one attempt at one server: what must be said first, if anything, then the request.
func redisTry(ctx context.Context, c *redisClient, node *redisNode, prelude, request string) (interface{}, error) {
	conn, err := redisTake(ctx, c, node)
	if err != nil {
		return nil, err
	}
	if prelude != "" {
		_, err = redisExchange(conn, prelude)
	}
	var value interface{}
	if err == nil {
		value, err = redisExchange(conn, request)
	}
	if err == nil || errors.Is(err, errRedisAnswer) {
		redisGive(c, node, conn)
		return value, err
	}
	conn.raw.Close()
	c.mu.Lock()
	closeIdle(node) // if the server was restarted, what happened to this connection happened to all
	node.busy--
	c.mu.Unlock()
	return nil, fmt.Errorf("%w: %s", errRedisLost, err.Error())
}

// redisTake is a connection for one attempt, an idle one or a new one, with ctx's deadline.
func redisTake(ctx context.Context, c *redisClient, node *redisNode) (*redisConn, error) {
	c.mu.Lock()
	for node.busy >= c.poolSize {
		c.mu.Unlock()
		if !redisWait(ctx, redisPoll) {
			return nil, redisFault(node, "connect", fmt.Errorf("all %d connections were busy until the timeout", c.poolSize))
		}
		c.mu.Lock()
	}
	node.busy++
	var conn *redisConn
	if last := len(node.idle) - 1; last >= 0 && time.Since(node.idle[last].used) < redisMaxIdle {
		conn = node.idle[last]
		node.idle = node.idle[:last]
	} else {
		closeIdle(node) // the freshest is too old, so all are
	}
	c.mu.Unlock()
	if conn == nil {
		fresh, err := redisDial(ctx, c, node)
		if err != nil {
			c.mu.Lock()
			node.busy--
			c.mu.Unlock()
			return nil, err
		}
		conn = fresh
	}
	deadline, _ := ctx.Deadline()
	conn.raw.SetDeadline(deadline)
	return conn, nil
}

// redisGive puts back a connection that has answered all it was asked.
func redisGive(c *redisClient, node *redisNode, conn *redisConn) {
	conn.used = time.Now()
	c.mu.Lock()
	node.idle = append(node.idle, conn)
	node.busy--
	c.mu.Unlock()
}

// closeIdle closes a server's idle connections. The caller holds redisClient.mu.
func closeIdle(node *redisNode) {
	for _, conn := range node.idle {
		conn.raw.Close()
	}
	node.idle = nil
}

// redisDial connects, says who we are, and makes sure the server is what it is taken for.
func redisDial(ctx context.Context, c *redisClient, node *redisNode) (*redisConn, error) {
	limit := c.timeout
	if !c.fixed {
		limit /= 3 // a server that swallows packets leaves time for asking another
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var raw net.Conn
	var err error
	if c.tls == nil {
		raw, err = (&net.Dialer{}).DialContext(limited, "tcp", node.address)
	} else { // the certificate must be for the host of address
		raw, err = (&tls.Dialer{Config: c.tls}).DialContext(limited, "tcp", node.address)
	}
	if err != nil {
		return nil, redisFault(node, "connect", err)
	}
	deadline, _ := limited.Deadline()
	raw.SetDeadline(deadline)
	conn := &redisConn{raw: raw, reader: bufio.NewReader(raw)}
	for _, command := range redisGreeting(c, node) {
		value, err := redisExchange(conn, redisRequest(command))
		role, _ := value.([]interface{})
		if err == nil && command[0] == "ROLE" && (len(role) == 0 || text(role[0]) != "master") {
			err = errors.New("READONLY")
		}
		if err != nil {
			raw.Close()
			return nil, redisFault(node, command[0], err)
		}
	}
	return conn, nil
}

// redisGreeting are the first commands on a connection to node. ROLE is how it is told a master from a replica, and from a
// former master that was restarted (Redis documentation, "Guidelines for Redis clients with support for Redis Sentinel").
func redisGreeting(c *redisClient, node *redisNode) [][]string {
	var commands [][]string
	username, password := c.config.Username, c.config.Password
	if node.sentinel {
		username, password = c.config.Sentinel.Username, c.config.Sentinel.Password
	}
	if username != "" {
		commands = append(commands, []string{"AUTH", username, password})
	} else if password != "" {
		commands = append(commands, []string{"AUTH", password})
	}
	if c.config.Database != 0 && !node.sentinel {
		commands = append(commands, []string{"SELECT", strconv.Itoa(c.config.Database)})
	}
	if !c.fixed && c.config.Cluster == nil && !node.sentinel { // nodes of a cluster see to it themselves
		commands = append(commands, []string{"ROLE"})
	}
	return commands
}

// redisRequest writes a command as an array of bulk strings, so that arguments may hold anything.
func redisRequest(args []string) string {
	request := "*" + strconv.Itoa(len(args)) + "\r\n"
	for _, arg := range args {
		request += "$" + strconv.Itoa(len(arg)) + "\r\n" + arg + "\r\n"
	}
	return request
}

// redisExchange sends a request and reads its reply. After an error that is not errRedisAnswer the connection is of no use.
func redisExchange(conn *redisConn, request string) (interface{}, error) {
	if _, err := conn.raw.Write([]byte(request)); err != nil {
		return nil, err
	}
	budget := redisMaxReply
	value, err := readRedisReply(conn.reader, &budget, 1)
	if conn.reader.Buffered() > 0 { // nobody asked for what comes now
		return nil, errRedisReply
	}
	return value, err
}

// readRedisReply reads one RESP2 value: nil, string, int64 or []interface{}. An error that the server answered is
// errRedisAnswer. budget is what the reply may still cost: no server makes us hold more than that, or count for long, by
// what it says or by what it sends. (Redis serialization protocol specification)
func readRedisReply(r *bufio.Reader, budget *int, depth int) (interface{}, error) {
	line, err := r.ReadSlice('\n') // at most the reader's 4 KB
	if err != nil {
		return nil, err
	}
	*budget -= redisItemCost
	if len(line) < 4 || line[len(line)-2] != '\r' || *budget < 0 || depth > redisMaxDepth {
		return nil, errRedisReply
	}
	kind, rest := line[0], string(line[1:len(line)-2])
	if kind == '+' {
		return rest, nil
	}
	if kind == '-' && depth == 1 { // inside an array it would be an answer to something we never send
		return nil, fmt.Errorf("%w %s", errRedisAnswer, rest)
	}
	number, err := strconv.Atoi(rest)
	if err == nil && kind == ':' {
		return int64(number), nil
	}
	if err != nil || (kind != '$' && kind != '*') || number < -1 || number > *budget {
		return nil, errRedisReply
	}
	if number == -1 {
		return nil, nil
	}
	list := []interface{}{}
	for kind == '*' && len(list) < number {
		value, err := readRedisReply(r, budget, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	if kind == '*' {
		return list, nil
	}
	*budget -= number
	body := make([]byte, number+2)
	if _, err = io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if body[number] != '\r' || body[number+1] != '\n' {
		return nil, errRedisReply
	}
	return string(body[:number]), nil
}

// redisCode is the first word of an error the server answered, such as MOVED; "" for every other error.
func redisCode(err error) string {
	if !errors.Is(err, errRedisAnswer) {
		return ""
	}
	return strings.Split(err.Error()+"  ", " ")[1]
}

// redisFault is err as the caller gets it: with the server, the command and what to do.
func redisFault(node *redisNode, command string, err error) error {
	if err == nil || errors.Is(err, errUnavailable) {
		return err
	}
	what, todo := err.Error(), ""
	for _, hint := range redisHints {
		if strings.Contains(what, hint.words) {
			todo = "; " + hint.todo
			break
		}
	}
	if code := redisCode(err); code != "" {
		what = fmt.Sprintf("answered %.20q", code) // only the code: the rest may quote arguments
	}
	return fmt.Errorf("%w: redis %s: %s: %s%s", errUnavailable, node.address, command, what, todo)
}

// redisSlot is the slot of a key: the CRC-16/XMODEM of it, or of what is in its first braces (Redis Cluster Specification,
// "Hash tags"). Without cluster it is 0.
func redisSlot(c *redisClient, key string) int {
	if c.config.Cluster == nil {
		return 0
	}
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if length := strings.IndexByte(key[open+1:], '}'); length > 0 {
			key = key[open+1 : open+1+length]
		}
	}
	crc := uint16(0)
	for i := 0; i < len(key); i++ { // a byte at once: the polynomial, x^16 + x^12 + x^5 + 1, has few terms
		x := crc>>8 ^ uint16(key[i])
		x ^= x >> 4
		crc = crc<<8 ^ x<<12 ^ x<<5 ^ x
	}
	return int(crc) % redisSlots
}
