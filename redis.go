package oidc

// The Redis client: RESP2 over TCP or TLS, for one server, several tried in turn, Sentinel and Cluster.
// What is kept there, and under which keys, is up to store.go.
//
// House rules of this file:
//   - Work is done when a request needs it, and by that request: dialling, asking Sentinel, reading the slot map.
//   - No select: in the interpreter, all goroutines at one select statement share its channels, and receive each other's values.
//     A request that has to wait polls, every redisPoll.
//   - Nothing blocks longer than the client's timeout. redisDo starts the clock once, and everything below it gets what is left: the
//     wait for a place in the pool, the dial, the handshake, each read and write, the pause before a retry. Only a lookup has its own
//     timeout, half as long, since other requests wait for it as well.
//   - A connection that failed in any way is closed. What is left unread on it would be read as the next caller's reply.
//   - An error names the server, the command and what to do. It never contains an argument, nor the server's own text, which quotes
//     arguments. All errors wrap errUnavailable: the caller answers 503, neither "signed in" nor "signed out".

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	redisPoolSize         = 32
	redisBuffer           = 8 << 10               // bytes that are read at once
	redisMaxReply         = 8 << 20               // bytes of one reply
	redisItemCost         = 64                    // what each value in it counts, beside its bytes
	redisMaxDepth         = 6                     // CLUSTER SLOTS, the deepest reply we ask for, has four levels
	redisAttempts         = 6                     // for one command, including redirections
	redisPause            = 25 * time.Millisecond // before the third attempt; then 75, 175 and 375: enough for most short interruptions
	redisPoll             = 2 * time.Millisecond  // while waiting for another request
	redisMaxIdle          = time.Minute           // firewalls and load balancers silently drop idle connections after some minutes
	redisRecheck          = time.Second           // how old the answer to "who is the master?" may be
	redisMaintainInterval = 2 * time.Second       // between two calls of maintain
	redisSlots            = 16384                 // Redis Cluster Specification, "Key distribution model"

	// Idempotent commands, which are sent again if the reply was lost. The scripts of this plugin are idempotent, and SET NX carries a
	// token.
	redisRepeatable = " GET GETRANGE SET DEL EVAL ZRANGE "
)

// What each request calls: a package variable spares it a selector or two, each an allocation in the interpreter.
var (
	redisLock              sync.Mutex // guards what changes in all clients; held only to look and to note
	lockRedis, unlockRedis = redisLock.Lock, redisLock.Unlock

	redisEpoch        = time.Now().Add(-time.Hour) // times below are durations since then: comparing numbers needs no call
	timeSince, timeAt = time.Since, redisEpoch.Add
)

// redisClient is one Redis installation. Its servers are looked up as they are needed. There is nothing to close: the sockets of an
// unreachable client are closed by the garbage collector.
type redisClient struct {
	config       *RedisConfig
	tls          *tls.Config             // nil: plain TCP
	endpoints    []string                // the option endpoints, as addresses
	timeout      time.Duration           // for a whole command: clientConfig.timeoutSeconds
	poolSize     int                     // connections to each server, a hard limit
	isFixed      bool                    // one server and no discovery: nothing to look up, nowhere else to go
	lookups      inFlight                // one at a time
	maintain     func(isLost bool) error // called now and then, and at once if writes may be lost; may be nil
	lastAnswered string                  // who answered the last lookup; only lookups use it

	// redisLock guards the rest.
	nodes   map[string]*redisNode // by address; each server has only one pool, whatever happens to it
	slots   []*redisNode          // the server of each slot; without cluster there is one slot, the master's
	recheck time.Duration         // when they must be looked up again; zero: at once, after a failure

	directUntil       time.Duration // until then, redisSend needs no checks first
	mayHaveLostWrites bool          // a connection was lost, or there is a new master: the last writes may be lost as well
	replayedAt        time.Duration // when they were last replayed
	maintainAt        time.Duration // when maintain is due in any case
}

// redisNode is one server and our connections to it.
type redisNode struct {
	address    string
	isSentinel bool
	namedAt    time.Time  // when somebody last named it; guarded by redisLock
	open       int        // connections, idle ones and those being dialled included; guarded by redisLock
	idle       *redisConn // list of idle connections, the freshest first; guarded by redisLock
}

type redisConn struct {
	raw    net.Conn
	buffer []byte
	used   time.Duration // when a command last began or ended on it
	next   *redisConn    // in the list of idle ones
}

// redisCall is a command, and what became of it. It does not name the client: a principal has a call, and the interpreter takes the two
// linked lists of one type, connections and headers, for the same.
type redisCall struct {
	name          string
	request       []byte // encoded
	expectedReply string // encoded; if it is set, any other reply is errRedisAnswer, and the call is never changed
	reply         any    // if it is not
	slot          int
	timeout       time.Duration

	// For redisRetry, which has its own copy.
	deadline time.Time
	isAsking bool // ASKING must be sent first: we were redirected for this command only
	wasLost  bool
}

// How an attempt can fail once the command has been sent. All other errors are from before.
var (
	errRedisAnswer = errors.New("answered")               // the server answered with an error: its text follows
	errRedisLost   = errors.New("no answer")              // the server may have run the command, but the answer did not come
	errRedisReply  = errors.New("a reply we cannot read") // not RESP2, too long or too deep
)

// redisHints say what to do about an error that contains these words; the first match counts.
const redisHints = `OOM |Redis is full: raise its maxmemory, and leave maxmemory-policy at noeviction: any other throws out sessions
NOREPLICAS|the master has lost its replicas and takes no writes (min-replicas-to-write): see its log, or wait for the failover
READONLY|this is a replica: name the master in endpoints, or use sentinel
LOADING|Redis has just started and is loading its data: wait
WRONGTYPE|something else is stored under our keys: choose another keyPrefix or database
NOAUTH|Redis wants a password: set username and password
WRONGPASS|Redis does not accept username and password
ERR invalid password|Redis does not accept password
ERR AUTH|Redis has no password: remove password, or set one there
for 'auth'|Redis before version 6 has no users: remove username
NOPERM|the user needs GET, GETRANGE, SET, DEL, EVAL, TIME, ROLE, CLUSTER SLOTS, PTTL, PEXPIREAT, sorted sets, and the keys of keyPrefix
user executing the script|the user needs the commands of the scripts, too: TIME, GET, SET, DEL, PTTL, PEXPIREAT, sorted sets, and the keys of keyPrefix
CLUSTERDOWN|the cluster does not serve all slots at the moment: see CLUSTER INFO
MOVED |this is a Redis Cluster: set cluster
cluster support disabled|this is no Redis Cluster: remove cluster
DB index|Redis has no such database: lower database, or raise databases there
max number of clients|raise maxclients of Redis
MISCONF|Redis cannot save its data: see its log and its disk
unknown command|Redis 5 or later is needed; with sentinel, endpoints are the Sentinels
connection refused|is Redis running there, and are endpoints right?
timeout|is Redis paused, overloaded, or behind a firewall?
x509|see tls.ca, and the names in the certificate of Redis
tls:|does Redis speak TLS there, and does it want a client certificate?
EOF|Redis hung up: was it restarted, or does it want TLS, or a client certificate?
reset|Redis hung up: was it restarted, or does it want TLS, or a client certificate?
cannot read|is this Redis, and is tls set as it is there?`

// newRedis makes a client from the options, which readConfig has checked. It needs no network, because New must not: the first command looks
// up the servers.
func newRedis(rc *RedisConfig, timeout time.Duration) (*redisClient, error) {
	c := &redisClient{config: rc, timeout: timeout, poolSize: redisPoolSize, nodes: map[string]*redisNode{}, slots: make([]*redisNode, 1)}
	endpoints := strings.Join(rc.Endpoints, " ")
	options := rc.TLS
	if options == nil && containsText(endpoints, "rediss://") {
		options = &TLSConfig{}
	}
	if options != nil {
		var err error
		if c.tls, err = newTLSConfig(options); err == nil && containsText(endpoints, "redis://") {
			err = errors.New("endpoints: redis:// is without TLS, but tls or another endpoint asks for it; write rediss://")
		}
		if err != nil {
			return nil, err
		}
	}
	c.endpoints = strings.Fields(strings.NewReplacer("redis://", "", "rediss://", "").Replace(endpoints))
	if len(c.endpoints) == 0 {
		return c, nil // reported by rules.go
	}
	c.lastAnswered = c.endpoints[0]
	if rc.Cluster != nil {
		c.slots = make([]*redisNode, redisSlots)
	} else if len(c.endpoints) == 1 && rc.Sentinel == nil {
		c.isFixed = true
		c.recheck = 1<<63 - 1 // in 292 years
		c.slots[0] = redisNodeAt(c, c.lastAnswered, false)
	}
	return c, nil
}

// redisDo sends one command and returns its reply: nil, string, int64 or []any of these. key decides which server of a cluster gets it; ""
// stands for any. A deadline of ctx is respected, a cancellation is not: a client that goes away does not interrupt a command.
//
// Nearly always the server is known and has an idle connection. The interpreter charges for every call and variable, so redisSend handles
// only that case; redisRetry does the rest.
func redisDo(ctx context.Context, c *redisClient, key string, args ...string) (any, error) {
	now := timeSince(redisEpoch)
	left := c.timeout
	budget, _ := ctx.Value(redisBudgetKey).(*time.Duration)
	if budget == nil {
		budget = &left
	}
	call := &redisCall{name: args[0], request: redisRequest(args), slot: redisSlot(c, key), timeout: shorter(c.timeout, *budget)}
	if end, ok := ctx.Deadline(); ok {
		call.timeout = shorter(call.timeout, timeUntil(end))
	}
	if call.timeout <= 0 {
		return nil, errorf("%w: redis: %s: the time that one request may spend with Redis is over, twice clientConfig.timeoutSeconds; is it overloaded, or far away?", errUnavailable, call.name)
	}
	err := redisSend(c, call, now)
	*budget -= timeSince(redisEpoch) - now
	return call.reply, err
}

func shorter(a, b time.Duration) time.Duration {
	if b < a {
		return b
	}
	return a
}

// redisBudgetKey is the key of the time that a request may still spend on Redis, in all its commands together.
const redisBudgetKey = "github.com/traefik-oidc/oidc: the dealings of a request with Redis" // a string: the interpreter cannot tell our own types apart as keys

// withRedisBudget gives a request its budget for Redis, less what it has spent already. Work that several requests wait for keeps the budget
// of the request that started it.
func withRedisBudget(req *http.Request, c *redisClient, spent time.Duration) *http.Request {
	ctx := req.Context()
	if ctx.Value(redisBudgetKey) != nil {
		return req
	}
	budget := 2*c.timeout - spent
	//lint:ignore SA1029 the interpreter cannot tell our own types apart as keys
	return req.WithContext(context.WithValue(ctx, redisBudgetKey, &budget))
}

// redisSend is redisDo for a command that is already encoded. It handles the usual case in one function: the server is known and has an
// idle connection, and the expected reply comes.
func redisSend(c *redisClient, call *redisCall, now time.Duration) (err error) {
	lockRedis()
	node := c.slots[call.slot]
	if now >= c.directUntil || node == nil || node.idle == nil || now-node.idle.used > redisMaxIdle {
		unlockRedis()
		return redisSendSlow(c, call, now, node, nil, 0, nil)
	}
	conn := node.idle
	conn.used = now
	node.idle = conn.next
	unlockRedis()
	conn.raw.SetDeadline(timeAt(now + call.timeout))
	n, err := conn.raw.Write(call.request)
	if err == nil {
		n, err = conn.raw.Read(conn.buffer)
	}
	if err != nil || string(conn.buffer[:n]) != call.expectedReply {
		return redisSendSlow(c, call, now, node, conn, n, err)
	}
	lockRedis() // redisRelease
	conn.next = node.idle
	node.idle = conn
	unlockRedis()
	return nil
}

// redisSendSlow completes a command. conn is nil, or a connection to node on which n bytes of a reply have come, unless it failed.
func redisSendSlow(c *redisClient, call *redisCall, now time.Duration, node *redisNode, conn *redisConn, n int, err error) error {
	var value any
	if conn != nil {
		if err == nil {
			value, err = readRedisRest(conn, n)
		}
		err = redisRelease(c, node, conn, err)
	}
	if conn == nil || err != nil {
		own := *call
		own.deadline = timeAt(now + call.timeout)
		value, err = redisRetry(c, &own, node, err)
	}
	if call.expectedReply == "" {
		call.reply = value
	} else if err == nil && value != redisBody(call.expectedReply) {
		err = errRedisAnswer
	}
	return err
}

// redisRetry completes a command, after a first attempt that failed, or without one. It follows a cluster's redirections, waits if the
// cluster says so, sends a command again on a new connection if its reply was lost, and looks for another server if one is gone. All of that
// happens within the one timeout.
func redisRetry(c *redisClient, call *redisCall, node *redisNode, err error) (any, error) {
	if err == nil {
		node, err = redisRoute(c, call)
	}
	for attempt := 1; ; attempt++ {
		if err == nil {
			value, failed := redisTry(c, call, node)
			if failed == nil {
				redisMaintain(c)
				return value, nil
			}
			err = failed
		}
		if !redisCanRetry(c, call, err) || attempt == redisAttempts || !redisSleep(call, redisPause*time.Duration(1<<(attempt-1)-1)) {
			return nil, redisFailure(node, call.name, err)
		}
		code := redisCode(err)
		call.isAsking = code == "ASK"
		if code != "MOVED" && !call.isAsking {
			node, err = redisRoute(c, call)
			continue
		}
		words := strings.Fields(err.Error()) // "MOVED slot host:port"; Redis Cluster Specification, "Redirection and resharding"
		node = redisNodeAt(c, redisPeerAddress(words[len(words)-1], node.address), false)
		err = nil
		if !call.isAsking {
			lockRedis()
			c.slots[call.slot] = node
			unlockRedis()
		}
	}
}

// redisNoteLostWrites notes that Redis may have lost or refused writes.
func redisNoteLostWrites(c *redisClient) {
	lockRedis()
	c.mayHaveLostWrites = true
	c.directUntil = 0
	unlockRedis()
}

// redisMaintain calls maintain in the first request that reaches Redis after writes may have been lost, and in one request now and then.
func redisMaintain(c *redisClient) {
	now := timeSince(redisEpoch)
	lockRedis()
	isLost := c.mayHaveLostWrites && now-c.replayedAt > redisMaintainInterval
	isDue := c.maintain != nil && (isLost || now > c.maintainAt)
	if isDue {
		c.maintainAt = now + redisMaintainInterval
		if isLost {
			c.replayedAt = now
			c.mayHaveLostWrites = false
		}
	}
	c.directUntil = shorter(c.recheck, now+redisMaintainInterval)
	unlockRedis()
	if isDue && c.maintain(isLost) != nil && isLost {
		redisNoteLostWrites(c)
	}
}

// redisCanRetry reports whether another server or a short wait may help against err, and notes if servers must be looked up again. The
// codes below mean that the server did not run the command, so any command may be sent again.
func redisCanRetry(c *redisClient, call *redisCall, err error) bool {
	code := redisCode(err)
	if c.config.Cluster != nil && containsText(" MOVED ASK TRYAGAIN CLUSTERDOWN ", " "+code+" ") {
		return true
	}
	isGone := !c.isFixed && (code == "" || code == "READONLY" || code == "MASTERDOWN" || code == "NOREPLICAS")
	if isGone {
		lockRedis()
		c.recheck = 0
		c.directUntil = 0
		unlockRedis()
	}
	if !errors.Is(err, errRedisLost) {
		return isGone
	}
	isFirst := !call.wasLost
	call.wasLost = true
	return isFirst && containsText(redisRepeatable, " "+call.name+" ")
}

// redisSleep pauses and returns true. If the deadline leaves no time for it, it returns false at once.
func redisSleep(call *redisCall, pause time.Duration) bool {
	if timeUntil(call.deadline) <= pause {
		return false
	}
	time.Sleep(pause)
	return true
}

// redisRoute is the server for a call. If what we know may be out of date, one request looks it up. The others go on with what is known, or
// wait for the result if nothing is known or it has failed. Only the nodes of a cluster say so when they are the wrong ones. Elsewhere the
// master is looked up every redisRecheck: after a failover the former master may still answer, and accept writes that will be lost.
func redisRoute(c *redisClient, call *redisCall) (*redisNode, error) {
	now := timeSince(redisEpoch)
	lockRedis()
	node := c.slots[call.slot]
	if node != nil && now < c.recheck {
		unlockRedis()
		return node, nil
	}
	c.recheck = now + redisRecheck
	if c.config.Cluster != nil {
		c.recheck = now + time.Hour
	}
	unlockRedis()
	_, err := doOnce(context.Background(), &c.lookups, "", func(_ context.Context) (any, error) { return nil, redisLookup(c) })
	lockRedis()
	node = c.slots[call.slot]
	unlockRedis()
	if node != nil {
		return node, nil // if the lookup failed, we go on with the server we know until it refuses
	}
	if err == nil {
		err = errorf("%w: redis: no server has this part of the cluster; see CLUSTER INFO", errUnavailable)
	}
	return nil, err
}

// redisLookup finds out where the keys are, from the first candidate that knows: the one that answered last, then the configured endpoints,
// then other nodes of a cluster. The remaining candidates share the remaining time, which is half of the timeout: the other half is left for
// the command itself.
func redisLookup(c *redisClient) error {
	end := timeNow().Add(c.timeout / 2)
	candidates := append([]string{c.lastAnswered}, c.endpoints...)
	lockRedis()
	for address := range c.nodes {
		if c.config.Cluster != nil {
			candidates = append(candidates, address)
		}
	}
	unlockRedis()
	var err error
	for i, address := range candidates {
		slots, failed := redisDiscover(c, address, timeNow().Add(timeUntil(end)/time.Duration(len(candidates)-i)))
		if failed == nil {
			c.lastAnswered = address
			lockRedis()
			c.mayHaveLostWrites = c.mayHaveLostWrites || c.slots[0] != nil && c.slots[0] != slots[0]
			c.slots = slots
			redisForgetNodes(c)
			unlockRedis()
			return nil
		}
		err = failed
	}
	return err
}

// redisForgetNodes removes the nodes that a cluster no longer names. In Kubernetes, each restart brings new addresses, and every candidate takes
// a part of the time for a lookup. The caller holds redisLock.
func redisForgetNodes(c *redisClient) {
	for address, node := range c.nodes {
		if c.config.Cluster != nil && time.Since(node.namedAt) > redisMaxIdle {
			redisCloseIdle(node)
			if node.open == 0 {
				delete(c.nodes, address)
			}
		}
	}
}

// redisDiscover asks one candidate for the server of each slot. ROLE tells a master from a replica, and from a former master that was
// restarted (Redis documentation, "Guidelines for Redis clients with support for Redis Sentinel"). Nodes of a cluster check that themselves.
func redisDiscover(c *redisClient, address string, deadline time.Time) ([]*redisNode, error) {
	node := redisNodeAt(c, address, c.config.Sentinel != nil)
	if node.isSentinel {
		value, err := redisQuery(c, node, deadline, "SENTINEL", "get-master-addr-by-name", c.config.Sentinel.MasterSet)
		if err != nil {
			return nil, err
		}
		host := stringsOf(value)
		if len(host) != 2 {
			return nil, redisFailure(node, "SENTINEL", errors.New("knows no master of the name in sentinel.masterSet"))
		}
		node = redisNodeAt(c, net.JoinHostPort(host[0], host[1]), false)
	}
	question := []string{"ROLE"}
	if c.config.Cluster != nil {
		question = []string{"CLUSTER", "SLOTS"}
	}
	value, err := redisQuery(c, node, deadline, question...)
	if err != nil {
		return nil, err
	}
	answer, _ := value.([]any)
	if c.config.Cluster != nil {
		return readRedisSlots(c, node, answer)
	}
	if len(answer) == 0 || stringOf(answer[0]) != "master" {
		return nil, redisFailure(node, "ROLE", errors.New("READONLY"))
	}
	return []*redisNode{node}, nil
}

func redisQuery(c *redisClient, node *redisNode, deadline time.Time, words ...string) (any, error) {
	value, err := redisTry(c, &redisCall{request: redisRequest(words), deadline: deadline}, node)
	return value, redisFailure(node, words[0], err)
}

// readRedisSlots reads a reply to CLUSTER SLOTS: ranges of [first, last, [host, port, id, …] of the master, replicas…].
func readRedisSlots(c *redisClient, from *redisNode, ranges []any) ([]*redisNode, error) {
	slots := make([]*redisNode, redisSlots)
	total := int64(0)
	for _, item := range ranges {
		fields, isList := item.([]any)
		if !isList || len(fields) < 3 {
			return nil, redisFailure(from, "CLUSTER SLOTS", errRedisReply)
		}
		first, isFirst := fields[0].(int64)
		last, isLast := fields[1].(int64)
		server, isServer := fields[2].([]any)
		total += last - first + 1
		if !isFirst || !isLast || first < 0 || last < first || last >= redisSlots || total > redisSlots || !isServer || len(server) < 2 {
			return nil, redisFailure(from, "CLUSTER SLOTS", errRedisReply)
		}
		node := redisNodeAt(c, redisPeerAddress(stringOf(server[0])+":"+fmt.Sprint(server[1]), from.address), false)
		for ; first <= last; first++ {
			slots[first] = node
		}
	}
	return slots, nil
}

// redisNodeAt returns the server at address, and adds it if it is new.
func redisNodeAt(c *redisClient, address string, sentinel bool) *redisNode {
	lockRedis()
	node := c.nodes[address]
	if node == nil {
		node = &redisNode{address: address, isSentinel: sentinel}
		c.nodes[address] = node
	}
	node.namedAt = time.Now()
	unlockRedis()
	return node
}

// redisPeerAddress is the address of a server as another one named it. If the host is missing, it is that of the server we asked. An IPv6
// address comes without brackets.
func redisPeerAddress(peer, from string) string {
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

// redisTry makes one attempt at one server.
func redisTry(c *redisClient, call *redisCall, node *redisNode) (any, error) {
	conn, err := redisAcquire(c, call, node)
	if err != nil {
		return nil, err
	}
	if call.isAsking {
		_, err = redisExchange(conn, redisRequest([]string{"ASKING"}), call.deadline)
	}
	var value any
	if err == nil {
		value, err = redisExchange(conn, call.request, call.deadline)
	}
	return value, redisRelease(c, node, conn, err)
}

// redisAcquire returns a connection for one attempt, idle or new.
func redisAcquire(c *redisClient, call *redisCall, node *redisNode) (*redisConn, error) {
	lockRedis()
	if node.idle != nil && timeSince(redisEpoch)-node.idle.used > redisMaxIdle {
		redisCloseIdle(node) // the freshest is too old, so all are
	}
	for node.idle == nil && node.open >= c.poolSize {
		unlockRedis()
		if !redisSleep(call, redisPoll) {
			return nil, redisFailure(node, "connect", errorf("all %d connections were busy until the timeout", c.poolSize))
		}
		lockRedis()
	}
	conn := node.idle
	if conn != nil {
		node.idle = conn.next
		unlockRedis()
		return conn, nil
	}
	node.open++
	unlockRedis()
	conn, err := redisDial(c, call, node)
	if err != nil {
		lockRedis()
		node.open--
		unlockRedis()
	}
	return conn, err
}

// redisRelease returns a connection to the pool. If it failed, redisRelease closes it and makes the error errRedisLost.
func redisRelease(c *redisClient, node *redisNode, conn *redisConn, err error) error {
	lockRedis()
	conn.used = timeSince(redisEpoch)
	conn.next = node.idle
	node.idle = conn
	if err != nil && !errors.Is(err, errRedisAnswer) {
		redisCloseIdle(node) // if the server was restarted, all its connections are lost, and maybe the last writes
		c.mayHaveLostWrites = true
		c.directUntil = 0
		err = errorf("%w: %s", errRedisLost, err.Error())
	}
	unlockRedis()
	return err
}

// redisCloseIdle closes a server's idle connections. The caller holds redisLock.
func redisCloseIdle(node *redisNode) {
	for ; node.idle != nil; node.idle = node.idle.next {
		node.idle.raw.Close()
		node.open--
	}
}

// redisDial connects and authenticates. The dial takes at most a third of the timeout, so that a server that swallows packets leaves time
// for another one.
func redisDial(c *redisClient, call *redisCall, node *redisNode) (*redisConn, error) {
	dialer := &net.Dialer{Deadline: call.deadline, Timeout: c.timeout / 3}
	var raw net.Conn
	var err error
	if c.tls == nil {
		raw, err = dialer.Dial("tcp", node.address)
	} else { // the certificate must be for the host of address
		raw, err = (&tls.Dialer{NetDialer: dialer, Config: c.tls}).Dial("tcp", node.address)
	}
	if err != nil {
		return nil, redisFailure(node, "connect", err)
	}
	conn := &redisConn{raw: raw, buffer: make([]byte, redisBuffer)}
	for _, command := range redisHandshake(c, node) {
		if _, err := redisExchange(conn, redisRequest(command), call.deadline); err != nil {
			raw.Close()
			return nil, redisFailure(node, command[0], err)
		}
	}
	return conn, nil
}

// redisHandshake returns the first commands for a connection to node.
func redisHandshake(c *redisClient, node *redisNode) [][]string {
	var commands [][]string
	username, password, database := c.config.Username, c.config.Password, c.config.Database
	if node.isSentinel {
		username, password, database = c.config.Sentinel.Username, c.config.Sentinel.Password, 0
	}
	if username != "" {
		commands = [][]string{{"AUTH", username, password}}
	} else if password != "" {
		commands = [][]string{{"AUTH", password}}
	}
	if database != 0 {
		commands = append(commands, []string{"SELECT", strconv.Itoa(database)})
	}
	return commands
}

// redisRequest encodes a command as an array of bulk strings, so arguments may hold anything.
func redisRequest(args []string) []byte {
	request := "*" + strconv.Itoa(len(args)) + "\r\n"
	for _, arg := range args {
		request += redisBulk(arg)
	}
	return []byte(request)
}

// redisBulk encodes a text as a bulk string.
func redisBulk(text string) string { return "$" + strconv.Itoa(len(text)) + "\r\n" + text + "\r\n" }

// redisBody returns the text of a bulk string.
func redisBody(bulk string) string {
	_, body, _ := cut(bulk, "\r\n")
	return strings.TrimSuffix(body, "\r\n")
}

// redisExchange sends a command and reads its reply. After any error but errRedisAnswer the connection must be closed.
func redisExchange(conn *redisConn, request []byte, deadline time.Time) (any, error) {
	conn.raw.SetDeadline(deadline)
	n, err := conn.raw.Write(request)
	if err == nil {
		n, err = conn.raw.Read(conn.buffer)
	}
	if err != nil {
		return nil, err
	}
	return readRedisRest(conn, n)
}

// readRedisRest reads the rest of a reply whose first n bytes are in the buffer.
func readRedisRest(conn *redisConn, n int) (any, error) {
	come := string(conn.buffer[:n])
	head, body, _ := cut(come, "\r\n")
	if size := len(body) - 2; size >= 0 && body[size:] == "\r\n" && head == "$"+strconv.Itoa(size) {
		return body[:size], nil // the usual case: a string that arrived in one piece
	}
	r := bufio.NewReaderSize(io.MultiReader(strings.NewReader(come), conn.raw), redisBuffer)
	budget := redisMaxReply
	value, err := readRedisReply(r, &budget, 1)
	if r.Buffered() > 0 { // more than we asked for
		return nil, errRedisReply
	}
	return value, err
}

// readRedisReply reads one RESP2 value (Redis serialization protocol specification): nil, string, int64 or []any. An error from the server
// is errRedisAnswer. budget is what the reply may still cost: neither the lengths that a server announces nor what it sends can make us
// allocate more, or loop for long.
func readRedisReply(r *bufio.Reader, budget *int, depth int) (any, error) {
	line, err := r.ReadSlice('\n') // at most the reader's 4 KB
	if err != nil {
		return nil, err
	}
	*budget -= redisItemCost
	end := len(line) - 2
	if end < 2 || line[end] != '\r' || *budget < 0 || depth > redisMaxDepth {
		return nil, errRedisReply
	}
	kind, rest := line[0], string(line[1:end])
	if kind == '+' {
		return rest, nil
	}
	if kind == '-' && depth == 1 { // no command that we send is answered with an error inside an array
		return nil, errorf("%w %s", errRedisAnswer, rest)
	}
	number, err := strconv.Atoi(rest)
	if err == nil && kind == ':' {
		return int64(number), nil
	}
	if err != nil || kind != '$' && kind != '*' || number < -1 || number > *budget {
		return nil, errRedisReply
	}
	if number < 0 {
		return nil, nil
	}
	list := []any{}
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
	if string(body[number:]) != "\r\n" {
		return nil, errRedisReply
	}
	return string(body[:number]), nil
}

// redisCode is the first word of an error from the server, such as MOVED, and "" for every other error.
func redisCode(err error) string {
	if !errors.Is(err, errRedisAnswer) {
		return ""
	}
	return strings.Split(err.Error()+"  ", " ")[1]
}

// redisFailure turns err into what the caller gets: an error with the server, the command and what to do.
func redisFailure(node *redisNode, command string, err error) error {
	if err == nil || errors.Is(err, errUnavailable) {
		return err
	}
	what, todo := err.Error(), ""
	for _, hint := range strings.Split(redisHints, "\n") {
		words, advice, _ := cut(hint, "|")
		if containsText(what, words) {
			todo = "; " + advice
			break
		}
	}
	if code := redisCode(err); code != "" {
		what = fmt.Sprintf("answered %.20q", code) // only the code: the rest may quote arguments
	}
	return errorf("%w: redis %s: %s: %s%s", errUnavailable, node.address, command, what, todo)
}

// redisSlot is the slot of a key in a cluster: the CRC-16/XMODEM of the key, or of what is in its first braces (Redis Cluster Specification,
// "Hash tags").
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
	for i := 0; i < len(key); i++ { // a whole byte at a time, as the polynomial, x^16 + x^12 + x^5 + 1, has few terms
		x := crc>>8 ^ uint16(key[i])
		x ^= x >> 4
		crc = crc<<8 ^ x<<12 ^ x<<5 ^ x
	}
	return int(crc) % redisSlots
}
