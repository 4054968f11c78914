package oidc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// These tests run the real redis-server, redis-sentinel and redis-cli, and break them. Each has its own, on free ports, and kills
// them by process id at its end. Processes are started with os.StartProcess because the interpreter has no os/exec.

// redisProcess is a server of ours. It can be killed and started again at the same address.
type redisProcess struct {
	address string
	dir     string
	binary  string
	args    []string
	process *os.Process // nil: not running
}

// redisBinary is the path of a program of Redis. Without it the test is skipped, and with STRICT=1 it fails.
func redisBinary(t *testing.T, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("real servers take a minute; left out with -short")
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path
		}
	}
	message := name + " is not installed, so this was not tested; apt-get install redis-server redis-sentinel"
	if os.Getenv("STRICT") == "1" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// freePort is a port that a cluster can use, too: its nodes talk to each other 10000 above it.
func freePort(t *testing.T) string {
	t.Helper()
	for i := 0; i < 100; i++ {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := listener.Addr().(*net.TCPAddr).Port
		listener.Close()
		if port > 55535 {
			port -= 20000
		}
		first, firstErr := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		second, secondErr := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port+10000))
		if firstErr == nil {
			first.Close()
		}
		if secondErr == nil {
			second.Close()
		}
		if firstErr == nil && secondErr == nil {
			return strconv.Itoa(port)
		}
	}
	t.Fatal("no free port")
	return ""
}

// startRedis starts a server without persistence, unless args say otherwise, and waits until it answers.
func startRedis(t *testing.T, args ...string) *redisProcess {
	t.Helper()
	binary := redisBinary(t, "redis-server")
	port := freePort(t)
	p := &redisProcess{address: "127.0.0.1:" + port, dir: t.TempDir(), binary: binary}
	p.args = append([]string{binary, "--port", port, "--bind", "127.0.0.1", "--save", "", "--repl-diskless-sync-delay", "0", "--dir", p.dir}, args...)
	t.Cleanup(func() {
		p.kill()
		if text, _ := os.ReadFile(filepath.Join(p.dir, "log")); t.Failed() {
			t.Logf("%s, its last words:\n%s", p.address, lastOf(text, 2000))
		}
	})
	p.start(t)
	return p
}

func lastOf(text []byte, size int) []byte {
	if len(text) > size {
		return text[len(text)-size:]
	}
	return text
}

func (p *redisProcess) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	process, err := os.StartProcess(p.binary, p.args, &os.ProcAttr{Dir: p.dir, Files: []*os.File{nil, log, log}})
	if err != nil {
		t.Fatal(err)
	}
	p.process = process
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", p.address)
		if err != nil {
			continue
		}
		conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(conn, "PING\r\n")
		answer := make([]byte, len("-LOADING"))
		n, _ := conn.Read(answer) // one that wants TLS or a password answers something else
		conn.Close()
		if string(answer[:n]) != "-LOADING" {
			return
		}
	}
	text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	t.Fatalf("%s does not answer:\n%s", p.address, text)
}

// kill ends the server as kill -9 does.
func (p *redisProcess) kill() {
	if p.process != nil {
		p.process.Kill()
		p.process.Wait()
		p.process = nil
	}
}

// runRedisCLI runs redis-cli to its end and returns what it wrote.
func runRedisCLI(t *testing.T, args ...string) string {
	t.Helper()
	binary := redisBinary(t, "redis-cli")
	name := filepath.Join(t.TempDir(), "output")
	output, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	process, err := os.StartProcess(binary, append([]string{binary}, args...), &os.ProcAttr{Files: []*os.File{nil, output, output}})
	if err != nil {
		t.Fatal(err)
	}
	state, err := process.Wait()
	text, _ := os.ReadFile(name)
	if err != nil || !state.Success() {
		t.Fatalf("redis-cli %s: %s", strings.Join(args, " "), text)
	}
	return string(text)
}

// tellRedis is an operator's command to one server.
func tellRedis(t *testing.T, config *RedisConfig, args ...string) any {
	t.Helper()
	reply, err := redisDo(context.Background(), redisAt(t, config, 5*time.Second), "", args...)
	if err != nil {
		t.Fatalf("%s: %s", strings.Join(args, " "), err.Error())
	}
	return reply
}

// askRedis is the answer to an operator's question as text, "" while there is none.
func askRedis(t *testing.T, config *RedisConfig, args ...string) string {
	t.Helper()
	reply, err := redisDo(context.Background(), redisAt(t, config, time.Second), "", args...)
	if err != nil {
		return ""
	}
	return fmt.Sprint(reply)
}

func redisConfigAt(address string) *RedisConfig { return &RedisConfig{Endpoints: []string{address}} }

// waitUntil waits for what must come true. It takes a second or three; sixty are for a machine that is busy with other things.
func waitUntil(t *testing.T, what string, isTrue func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if isTrue() {
			return
		}
	}
	t.Fatalf("waited in vain: %s", what)
}

func realStore(t *testing.T, config *RedisConfig, timeout time.Duration) *store {
	t.Helper()
	s, err := newStore(config, "app:", []string{"my secret"}, 5)
	if err != nil {
		t.Fatal(err)
	}
	s.redis.timeout = timeout
	return s
}

// getSession says also whether there is one.
func getSession(ctx context.Context, s *store, id string) (value string, found bool, err error) {
	value, err = storeGet(ctx, s, id)
	return value, value != "", err
}

// wasNoted and keepInMind are what logoutTokenUse does with the ID of a logout token.
func wasNoted(ctx context.Context, s *store, name string) (bool, error) {
	reply, err := storeDo(ctx, s, hashedKey(s.scopes[0], "seen", name), "GET")
	return reply != nil, err
}

func keepInMind(ctx context.Context, s *store, name string, ttl time.Duration) error {
	_, err := storeDo(ctx, s, hashedKey(s.scopes[0], "seen", name), "SET", "1", "PX", milliseconds(ttl))
	return err
}

// putSession writes a new session, replaceSession one that is there.
func putSession(ctx context.Context, s *store, id, value string, ttl time.Duration, sid, sub string) error {
	_, err := storeSet(ctx, s, id, value, "", ttl, sid, sub)
	return err
}

func replaceSession(ctx context.Context, s *store, id, value string, ttl time.Duration, sid, sub string) (bool, error) {
	there, err := storeSet(ctx, s, id, value, "what was there", ttl, sid, sub)
	return there, err
}

// redisLoad is a constant load of sessions that are read and written, while a test breaks what they are kept in.
type redisLoad struct {
	wg sync.WaitGroup

	mu          sync.Mutex
	stop        bool   // no channel: select is not safe in the interpreter
	ok          int    // what a user sees as 200
	unavailable int    // 503
	last        string // why the last one was unavailable
	wrong       []string
	row         map[string]int // good answers without another between, by user
	slowest     time.Duration
}

// startLoad keeps eight users busy with a session each.
func startLoad(t *testing.T, s *store) *redisLoad {
	t.Helper()
	l := &redisLoad{row: map[string]int{}}
	for i := 0; i < 8; i++ {
		id := "user" + strconv.Itoa(i)
		if err := putSession(context.Background(), s, id, "session of "+id, time.Hour, "", id); err != nil {
			t.Fatal(err)
		}
		l.wg.Add(1)
		go keepBusy(l, s, id)
	}
	t.Cleanup(func() { l.end() })
	return l
}

func keepBusy(l *redisLoad, s *store, id string) {
	defer l.wg.Done()
	for i := 0; ; i++ {
		time.Sleep(2 * time.Millisecond)
		l.mu.Lock()
		stop := l.stop
		l.mu.Unlock()
		if stop {
			return
		}
		start := time.Now()
		var found bool
		var err error
		value := "session of " + id
		if i%4 == 3 {
			found, err = replaceSession(context.Background(), s, id, value, time.Hour, "", id)
		} else {
			value, found, err = getSession(context.Background(), s, id)
		}
		took := time.Since(start)
		l.mu.Lock()
		if took > l.slowest {
			l.slowest = took
		}
		if err == nil && found && value == "session of "+id {
			l.ok++
			l.row[id]++
		} else if errors.Is(err, errUnavailable) {
			l.unavailable++
			l.row[id] = 0
			l.last = err.Error()
		} else {
			l.wrong = append(l.wrong, fmt.Sprintf("%s: %q, %v, %v", id, value, found, err))
		}
		l.mu.Unlock()
	}
}

func (l *redisLoad) end() {
	l.mu.Lock()
	l.stop = true
	l.mu.Unlock()
	l.wg.Wait()
}

func (l *redisLoad) counts() (ok, unavailable int) {
	l.mu.Lock()
	ok, unavailable = l.ok, l.unavailable
	l.mu.Unlock()
	return ok, unavailable
}

// recovers waits until only good answers come: twenty in a row for each user.
func (l *redisLoad) recovers(t *testing.T, after string) {
	t.Helper()
	l.mu.Lock()
	for id := range l.row {
		l.row[id] = 0
	}
	l.mu.Unlock()
	for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
		good := 0
		l.mu.Lock()
		for _, row := range l.row {
			if row >= 20 {
				good++
			}
		}
		l.mu.Unlock()
		if good == 8 {
			t.Logf("%s: only good answers again after %s", after, time.Since(start).Round(10*time.Millisecond))
			return
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Fatalf("%s: no end of bad answers: good ones in a row %v, the last error %s", after, l.row, l.last)
}

// check ends the load. Nothing but 200 and 503 may have come, within the timeout, and both of them if wantFaults.
func (l *redisLoad) check(t *testing.T, timeout time.Duration, wantFaults bool) {
	t.Helper()
	l.end()
	t.Logf("%d good, %d unavailable, %d wrong, slowest %s", l.ok, l.unavailable, len(l.wrong), l.slowest.Round(time.Millisecond))
	if len(l.wrong) > 0 {
		t.Errorf("%d answers are neither good nor unavailable, the first is %s", len(l.wrong), l.wrong[0])
	}
	if l.ok == 0 || (l.unavailable > 0) != wantFaults {
		t.Errorf("%d good, %d unavailable", l.ok, l.unavailable)
	}
	// a session is written in two commands, the second of which starts a clock of its own
	if l.slowest > 2*timeout+500*time.Millisecond {
		t.Errorf("somebody waited %s, with a timeout of %s", l.slowest, timeout)
	}
}

func TestRedisServerStore(t *testing.T) {
	server := startRedis(t)
	s := realStore(t, &RedisConfig{Endpoints: []string{server.address}, Database: 5}, 2*time.Second)
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	find := func(sid, sub, want string) {
		t.Helper()
		ids, err := storeFind(ctx, s, sid, sub)
		if err != nil || strings.Join(ids, " ") != want {
			t.Errorf("sid %q, sub %q: got %q, %v; expected %q", sid, sub, ids, err, want)
		}
	}
	value := "\x00sealed\r\n" + strings.Repeat("x", 100_000)
	must(putSession(ctx, s, "one", value, time.Hour, "sid-1", "alice"))
	must(putSession(ctx, s, "two", "2", 3*time.Second, "sid-2", "alice")) // its index lives as long again, which is the time for what follows
	must(putSession(ctx, s, "three", "3", time.Minute, "", ""))
	if got, found, err := getSession(ctx, s, "one"); !found || got != value {
		t.Errorf("got %d bytes, %v, %v", len(got), found, err)
	}
	if got, found, err := getSession(ctx, s, "none"); found || err != nil || len(got) != 0 {
		t.Errorf("a session that never was: got %q, %v, %v", got, found, err)
	}
	find("sid-1", "alice", "one")
	find("sid-2", "", "two")
	find("", "alice", "two one") // by their ends
	find("", "bob", "")
	find("sid-9", "alice", "")
	find("sid-1", "bob", "") // one user's session is not ended as another's

	// Who names the secret beside a new one finds them as well, who has another secret finds none.
	for scopes, want := range map[string]string{"new secret,my secret": "two one", "another secret": ""} {
		same := &store{redis: s.redis, prefix: s.prefix, scopes: strings.Split(scopes, ",")}
		if ids, err := storeFind(ctx, same, "", "alice"); err != nil || strings.Join(ids, " ") != want {
			t.Errorf("with %s: found %q, %v", scopes, ids, err)
		}
	}

	// An index lives twice as long as its longest session, though a shorter one was written later: it is not the first to be evicted.
	key := "app:" + hashedKey(s.scopes[0], "sub", "alice")
	if left, err := redisDo(ctx, s.redis, key, "PTTL", key); err != nil || left.(int64) < 7_190_000 || left.(int64) > 7_200_000 {
		t.Errorf("the index of alice lives %v ms more, %v", left, err)
	}
	time.Sleep(3050 * time.Millisecond)
	if _, found, err := getSession(ctx, s, "two"); found || err != nil {
		t.Errorf("a session that has ended: %v, %v", found, err)
	}
	if ok, err := replaceSession(ctx, s, "two", "2", time.Hour, "", ""); ok || err != nil {
		t.Errorf("a session that has ended was replaced: %v, %v", ok, err)
	}
	if ok, err := replaceSession(ctx, s, "one", "1", time.Hour, "sid-1", "alice"); !ok || err != nil {
		t.Errorf("replacing: %v, %v", ok, err)
	}
	find("", "alice", "one") // what has ended is dropped at the next writing
	find("sid-2", "", "two") // an index outlives its session
	must(storeDelete(ctx, s, "one"))
	must(storeDelete(ctx, s, "one"))
	if ok, err := replaceSession(ctx, s, "one", "1", time.Hour, "", ""); ok || err != nil {
		t.Errorf("who was logged out is signed in again: %v, %v", ok, err)
	}

	must(putSession(ctx, s, "leased", "value", time.Minute, "", ""))
	lease := func(token string, ttl time.Duration, want bool) {
		t.Helper()
		if got, value, err := storeLease(ctx, s, "leased", token, ttl, time.Minute); got != want || value != "value" || err != nil {
			t.Errorf("lease of %s: %v, %q, %v", token, got, value, err)
		}
		if value, found, err := getSession(ctx, s, "leased"); !found || value != "value" {
			t.Errorf("beside the lease of %s: %q, %v", token, value, err)
		}
	}
	const short = 300 * time.Millisecond
	lease("a", short, true)
	lease("b", short, false)
	lease("a", short, true) // a repeated command
	lease("b", 0, false)
	lease("b", short, false)
	lease("a", 0, true)
	lease("b", short, true)
	time.Sleep(350 * time.Millisecond)
	lease("a", short, true) // b died
	if ok, err := replaceSession(ctx, s, "leased", "value", time.Minute, "", ""); !ok || err != nil {
		t.Errorf("writing with the lease in hand: %v, %v", ok, err)
	}
	lease("b", short, true) // what was written ended it
	if held, value, err := storeLease(ctx, s, "none", "a", short, time.Minute); held || value != "" || err != nil {
		t.Errorf("the lease of no session: %v, %q, %v", held, value, err)
	}

	for i, want := range []bool{false, true, true} {
		if seen, err := wasNoted(ctx, s, "issuer jti"); seen != want || err != nil {
			t.Errorf("seen, time %d: %v, %v", i+1, seen, err)
		}
		must(keepInMind(ctx, s, "issuer jti", time.Minute))
	}

	// Each key ends some day, and is in the database of the options.
	keys, err := redisDo(ctx, s.redis, "", "KEYS", "*")
	must(err)
	if len(stringsOf(keys)) < 5 {
		t.Errorf("keys: %v", keys)
	}
	for _, key := range stringsOf(keys) {
		left, err := redisDo(ctx, s.redis, key, "PTTL", key)
		if n, _ := left.(int64); err != nil || n <= 0 || !strings.HasPrefix(key, "app:") {
			t.Errorf("%s lives %v ms more, %v", key, left, err)
		}
	}

	// Another program's value under our key.
	tellKey := "app:session:{odd}"
	_, err = redisDo(ctx, s.redis, tellKey, "LPUSH", tellKey, "x")
	must(err)
	_, _, err = getSession(ctx, s, "odd")
	wantWords(t, err, "WRONGTYPE", "choose another keyPrefix")
}

// TestRedisServerRestart kills the server under load, as the machine's end would, and starts it again.
func TestRedisServerRestart(t *testing.T) {
	server := startRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	s := realStore(t, redisConfigAt(server.address), time.Second)
	l := startLoad(t, s)
	time.Sleep(200 * time.Millisecond)
	server.kill()
	time.Sleep(300 * time.Millisecond)
	server.start(t)
	l.recovers(t, "kill -9 and restart")
	l.check(t, time.Second, true)
}

// TestRedisServerPause stops the answers for longer than the timeout.
func TestRedisServerPause(t *testing.T) {
	server := startRedis(t)
	s := realStore(t, redisConfigAt(server.address), 300*time.Millisecond)
	l := startLoad(t, s)
	time.Sleep(100 * time.Millisecond)
	tellRedis(t, redisConfigAt(server.address), "CLIENT", "PAUSE", "1000", "ALL")
	time.Sleep(200 * time.Millisecond)
	l.recovers(t, "CLIENT PAUSE")
	l.check(t, 300*time.Millisecond, true)
}

// TestRedisServerFlush empties Redis: everybody signs in again, nothing worse.
func TestRedisServerFlush(t *testing.T) {
	server := startRedis(t)
	s := realStore(t, redisConfigAt(server.address), time.Second)
	ctx := context.Background()
	if err := putSession(ctx, s, "one", "1", time.Hour, "sid", "sub"); err != nil {
		t.Fatal(err)
	}
	tellRedis(t, redisConfigAt(server.address), "FLUSHALL")
	if _, found, err := getSession(ctx, s, "one"); found || err != nil {
		t.Errorf("got %v, %v", found, err)
	}
	if ids, err := storeFind(ctx, s, "sid", "sub"); len(ids) > 0 || err != nil {
		t.Errorf("got %v, %v", ids, err)
	}
}

// TestRedisServerPool counts our connections at the server while many want one.
func TestRedisServerPool(t *testing.T) {
	server := startRedis(t)
	s := realStore(t, redisConfigAt(server.address), 10*time.Second)
	s.redis.poolSize = 5
	operator := redisAt(t, redisConfigAt(server.address), time.Second)
	var wg sync.WaitGroup
	for i := 0; i < 100; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; n < 20; n++ {
				if _, _, err := getSession(context.Background(), s, "none"); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	for i := 0; i < 10; i++ {
		clients, err := redisDo(context.Background(), operator, "", "CLIENT", "LIST")
		if count := strings.Count(fmt.Sprint(clients), "\n"); err != nil || count > 6 {
			t.Errorf("%d connections with the operator's, %v; expected 6 at most", count, err)
		}
	}
	wg.Wait()
}

func TestRedisServerFull(t *testing.T) {
	server := startRedis(t, "--maxmemory-policy", "noeviction")
	s := realStore(t, redisConfigAt(server.address), time.Second)
	l := startLoad(t, s)
	l.recovers(t, "the start")
	tellRedis(t, redisConfigAt(server.address), "CONFIG", "SET", "maxmemory", "100kb")
	err := putSession(context.Background(), s, "one", "1", time.Hour, "", "")
	wantWords(t, err, "SET: answered \"OOM\"", "raise its maxmemory")
	err = putSession(context.Background(), s, "one", "1", time.Hour, "", "sub")
	wantWords(t, err, "EVAL: answered \"OOM\"", "raise its maxmemory")
	if _, found, err := getSession(context.Background(), s, "user0"); !found {
		t.Errorf("a full Redis still reads: %v", err)
	}
	time.Sleep(100 * time.Millisecond)
	tellRedis(t, redisConfigAt(server.address), "CONFIG", "SET", "maxmemory", "0")
	l.recovers(t, "OOM")
	l.check(t, time.Second, true)
}

// TestRedisServerPassword changes the password at run time. The user has exactly the rights that the hint for NOPERM names.
func TestRedisServerPassword(t *testing.T) {
	server := startRedis(t)
	operator := redisConfigAt(server.address)
	rights := []string{"ACL", "SETUSER", "app", "on", ">first", "~app:*", "+get", "+getrange", "+set", "+del", "+eval", "+time", "+role",
		"+zadd", "+zrange", "+zrevrange", "+zremrangebyscore", "+zremrangebyrank", "+zrangebyscore", "+pexpireat"} // not even PTTL
	tellRedis(t, operator, rights...)
	config := &RedisConfig{Endpoints: []string{server.address}, Username: "app", Password: "first"}
	s := realStore(t, config, time.Second)
	ctx := context.Background()
	l := startLoad(t, s)
	held, _, err := storeLease(ctx, s, "user0", "token", time.Second, time.Hour)
	if !held {
		t.Errorf("a lease: %v", err)
	}
	_, _, _, bad := storeLogouts(ctx, s, 0, []string{"mark"})
	if err := firstError(storeDelete(ctx, s, "none"), bad); err != nil {
		t.Error(err)
	}
	if _, err := storeFind(ctx, s, "", "sub"); err != nil {
		t.Error(err)
	}
	l.recovers(t, "the start")
	tellRedis(t, operator, "ACL", "SETUSER", "app", "resetpass", ">second")
	tellRedis(t, operator, "CLIENT", "KILL", "USER", "app")
	waitUntil(t, "the old password is refused", func() bool { _, bad := l.counts(); return bad > 10 })
	_, _, err = getSession(ctx, s, "user0")
	wantWords(t, err, "AUTH: answered \"WRONGPASS\"", "does not accept username and password")
	tellRedis(t, operator, "ACL", "SETUSER", "app", "resetpass", ">first")
	l.recovers(t, "a password that changed")
	l.check(t, time.Second, true)

	tellRedis(t, operator, "ACL", "SETUSER", "app", "-eval")
	err = storeDelete(ctx, s, "none")
	wantWords(t, err, "EVAL: answered \"NOPERM\"", "the user needs GET")
	tellRedis(t, operator, "CONFIG", "SET", "requirepass", "pw")
	_, err = redisDo(ctx, redisAt(t, redisConfigAt(server.address), time.Second), "", "GET", "app:x")
	wantWords(t, err, "GET: answered \"NOAUTH\"", "set username and password")
}

func TestRedisServerReplica(t *testing.T) {
	master := startRedis(t)
	_, port, _ := net.SplitHostPort(master.address)
	replica := startRedis(t, "--replicaof", "127.0.0.1 "+port)
	s := realStore(t, redisConfigAt(replica.address), time.Second)
	err := putSession(context.Background(), s, "one", "1", time.Hour, "", "")
	wantWords(t, err, "SET: answered \"READONLY\"", "name the master in endpoints, or use sentinel")
	s = realStore(t, &RedisConfig{Endpoints: []string{replica.address, master.address}}, time.Second)
	if err := putSession(context.Background(), s, "one", "1", time.Hour, "", ""); err != nil {
		t.Error(err)
	}
	// They change places, by an operator's hand.
	tellRedis(t, redisConfigAt(replica.address), "REPLICAOF", "NO", "ONE")
	_, port, _ = net.SplitHostPort(replica.address)
	tellRedis(t, redisConfigAt(master.address), "REPLICAOF", "127.0.0.1", port)
	if err := putSession(context.Background(), s, "two", "2", time.Hour, "", ""); err != nil {
		t.Error(err)
	}
}

func TestRedisServerTLS(t *testing.T) {
	ca := newTestCA(t)
	certificate, key := ca.issue(t, "127.0.0.1")
	dir := t.TempDir()
	for name, text := range map[string]string{"ca": ca.pem, "cert": certificate, "key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := freePort(t)
	startRedis(t, "--tls-port", port, "--tls-cert-file", filepath.Join(dir, "cert"), "--tls-key-file", filepath.Join(dir, "key"),
		"--tls-ca-cert-file", filepath.Join(dir, "ca"), "--tls-auth-clients", "yes")
	s := realStore(t, &RedisConfig{Endpoints: []string{"rediss://127.0.0.1:" + port},
		TLS: &TLSConfig{CA: ca.pem, Cert: certificate, Key: key}}, 5*time.Second)
	l := startLoad(t, s)
	l.recovers(t, "the start")
	l.check(t, 5*time.Second, false)
	_, _, err := getSession(context.Background(), realStore(t,
		&RedisConfig{Endpoints: []string{"127.0.0.1:" + port}, TLS: &TLSConfig{CA: ca.pem}}, 5*time.Second), "x")
	wantWords(t, err, "a client certificate?")
}

// cuttingProxy hands on what client and server say, and ends the next connection to say anything after so many bytes.
type cuttingProxy struct {
	address string
	target  string

	mu      sync.Mutex
	request int // bytes of requests until the cut, -1: none
	reply   int
}

func newCuttingProxy(t *testing.T, target string) *cuttingProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	p := &cuttingProxy{address: listener.Addr().String(), target: target, request: -1, reply: -1}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			go pipe(p, server, client, &p.request)
			go pipe(p, client, server, &p.reply)
		}
	}()
	return p
}

// pipe copies until an end, or until left is used up. It closes both sides then.
func pipe(p *cuttingProxy, to, from net.Conn, left *int) {
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		cut := *left >= 0 && n > *left
		if cut {
			n = *left
			*left = -1
		} else if *left >= 0 {
			*left -= n
		}
		p.mu.Unlock()
		to.Write(buffer[:n])
		if err != nil || cut {
			break
		}
	}
	to.Close()
	from.Close()
}

func (p *cuttingProxy) cutAfter(request, reply int) {
	p.mu.Lock()
	p.request = request
	p.reply = reply
	p.mu.Unlock()
}

// TestRedisServerProxy cuts the connection at each byte of a request and of a reply. Nobody notices, as each command is sent
// once more; and what was written is what is read.
func TestRedisServerProxy(t *testing.T) {
	server := startRedis(t)
	proxy := newCuttingProxy(t, server.address)
	s := realStore(t, redisConfigAt(proxy.address), 2*time.Second)
	ctx := context.Background()
	for i := 0; i < 80; i++ {
		want := "value " + strconv.Itoa(i)
		proxy.cutAfter(i, -1)
		if err := putSession(ctx, s, "one", want, time.Hour, "", "sub"); err != nil {
			t.Errorf("written, request cut after %d bytes: %s", i, err.Error())
		}
		proxy.cutAfter(-1, i%5)
		if ok, err := replaceSession(ctx, s, "one", want, time.Hour, "", ""); !ok {
			t.Errorf("replaced, reply cut after %d bytes: %v", i%5, err)
		}
		proxy.cutAfter(-1, i%16)
		if got, found, err := getSession(ctx, s, "one"); !found || got != want {
			t.Errorf("read, reply cut after %d bytes: got %q, %v, %v", i%16, got, found, err)
		}
		proxy.cutAfter(-1, i%20)
		if ids, err := storeFind(ctx, s, "", "sub"); len(ids) != 1 || err != nil {
			t.Errorf("found, reply cut after %d bytes: got %v, %v", i%20, ids, err)
		}
		token := "token" + strconv.Itoa(i)
		proxy.cutAfter(-1, i%5)
		if ok, _, err := storeLease(ctx, s, "one", token, time.Hour, time.Hour); !ok {
			t.Errorf("lease, reply cut after %d bytes: %v", i%5, err)
		}
		proxy.cutAfter(-1, i%4)
		if _, _, err := storeLease(ctx, s, "one", token, 0, time.Hour); err != nil { // released by the first attempt, if that arrived
			t.Errorf("release, reply cut after %d bytes: %v", i%4, err)
		}
		proxy.cutAfter(-1, i%5)
		if err := keepInMind(ctx, s, token, time.Hour); err != nil {
			t.Errorf("noted, reply cut after %d bytes: %v", i%5, err)
		}
		proxy.cutAfter(-1, i%5)
		if seen, err := wasNoted(ctx, s, token); !seen || err != nil {
			t.Errorf("seen, reply cut after %d bytes: %v, %v", i%5, seen, err)
		}
	}
	proxy.cutAfter(-1, -1)
}

// startSentinels starts three of them around a master, with passwords everywhere.
func startSentinels(t *testing.T, master *redisProcess) []*redisProcess {
	t.Helper()
	var sentinels []*redisProcess
	for i := 0; i < 3; i++ {
		sentinels = append(sentinels, startSentinel(t, master))
	}
	return sentinels
}

// startSentinel is a function of its own because in the interpreter all turns of a loop share what a closure captures.
func startSentinel(t *testing.T, master *redisProcess) *redisProcess {
	t.Helper()
	binary := redisBinary(t, "redis-sentinel")
	_, masterPort, _ := net.SplitHostPort(master.address)
	port := freePort(t)
	p := &redisProcess{address: "127.0.0.1:" + port, dir: t.TempDir(), binary: binary}
	conf := filepath.Join(p.dir, "sentinel.conf")
	lines := []string{"port " + port, "bind 127.0.0.1", "dir " + p.dir, "requirepass guard", "sentinel sentinel-pass guard",
		"sentinel monitor main 127.0.0.1 " + masterPort + " 2", "sentinel auth-pass main pw", "sentinel down-after-milliseconds main 1500",
		"sentinel failover-timeout main 2000", ""}
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	p.args = []string{binary, conf}
	t.Cleanup(func() { p.kill() })
	p.start(t)
	return p
}

// TestRedisSentinelFailover kills the master, lets it come back as it was, and fails over once more by command.
func TestRedisSentinelFailover(t *testing.T) {
	passwords := []string{"--requirepass", "pw", "--masterauth", "pw"}
	one := startRedis(t, passwords...)
	_, port, _ := net.SplitHostPort(one.address)
	two := startRedis(t, append(passwords, "--replicaof", "127.0.0.1 "+port)...)
	sentinels := startSentinels(t, one)
	config := &RedisConfig{Password: "pw", Sentinel: &SentinelConfig{MasterSet: "main", Password: "guard"}}
	for _, p := range sentinels {
		config.Endpoints = append(config.Endpoints, p.address)
	}
	direct := func(p *redisProcess) *RedisConfig {
		return &RedisConfig{Endpoints: []string{p.address}, Password: "pw"}
	}
	guard := &RedisConfig{Endpoints: []string{sentinels[0].address}, Password: "guard"}
	waitUntil(t, "Sentinels know each other and the replica", func() bool {
		info := askRedis(t, guard, "INFO", "sentinel")
		return strings.Contains(info, "slaves=1,sentinels=3") && strings.Contains(askRedis(t, direct(two), "INFO", "replication"), "master_link_status:up")
	})

	s := realStore(t, config, time.Second)
	l := startLoad(t, s)
	l.recovers(t, "the start")
	one.kill()
	sentinels[0].kill() // the first to be asked, too
	l.recovers(t, "kill -9 of the master and one Sentinel")

	// The old master is back and believes it is one still: Sentinel tells it after some ten seconds. It must not be used.
	one.start(t)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		stats := askRedis(t, direct(one), "INFO", "commandstats")
		role := askRedis(t, direct(one), "ROLE")
		if strings.HasPrefix(role, "[master") && !strings.Contains(stats, "cmdstat_slaveof") &&
			(strings.Contains(stats, "cmdstat_set:") || strings.Contains(stats, "cmdstat_get:")) {
			t.Fatalf("the old master was used: %s", stats)
		}
	}
	_, port, _ = net.SplitHostPort(two.address)
	tellRedis(t, direct(one), "REPLICAOF", "127.0.0.1", port)
	waitUntil(t, "it has the data", func() bool {
		return strings.Contains(askRedis(t, direct(one), "INFO", "replication"), "master_link_status:up")
	})
	l.recovers(t, "the old master's return")

	sentinels[0].start(t)
	guard.Endpoints = []string{sentinels[1].address}
	waitUntil(t, "a failover by command", func() bool {
		reply, err := redisDo(context.Background(), redisAt(t, guard, time.Second), "", "SENTINEL", "FAILOVER", "main")
		return err == nil && reply == "OK"
	})
	waitUntil(t, "the masters have changed places", func() bool {
		return strings.HasPrefix(askRedis(t, direct(one), "ROLE"), "[master")
	})
	l.recovers(t, "SENTINEL FAILOVER")
	l.check(t, time.Second, true)

	// All Sentinels are gone. Who knows the master goes on.
	for _, p := range sentinels {
		p.kill()
	}
	time.Sleep(redisRecheck)
	if _, found, err := getSession(context.Background(), s, "user0"); !found {
		t.Errorf("without Sentinels: %v", err)
	}
	_, _, err := getSession(context.Background(), realStore(t, config, time.Second), "user0")
	wantWords(t, err, "connection refused", "are endpoints right?")
}

// TestRedisClusterFaults has six nodes: it loses a master and moves slots, under load.
func TestRedisClusterFaults(t *testing.T) {
	var nodes []*redisProcess
	create := []string{"--cluster", "create"}
	for i := 0; i < 6; i++ {
		p := startRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0",
			"--cluster-replica-validity-factor", "0")
		nodes = append(nodes, p)
		create = append(create, p.address)
	}
	runRedisCLI(t, append(create, "--cluster-replicas", "1", "--cluster-yes")...)
	for i, p := range nodes {
		i, p := i, p
		waitUntil(t, "all nodes agree, and replicas have the data", func() bool {
			info := askRedis(t, redisConfigAt(p.address), "CLUSTER", "INFO") + askRedis(t, redisConfigAt(p.address), "INFO", "replication")
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:6") &&
				strings.Contains(info, "master_link_status:up") == (i > 2)
		})
	}
	// What is no cluster for us is one for them.
	_, err := redisDo(context.Background(), redisAt(t, redisConfigAt(nodes[0].address), time.Second), "", "GET", "foo")
	wantWords(t, err, "MOVED", "this is a Redis Cluster: set cluster")
	single := startRedis(t)
	_, err = redisDo(context.Background(), redisAt(t, &RedisConfig{Endpoints: []string{single.address}, Cluster: &ClusterConfig{}},
		time.Second), "", "GET", "foo")
	wantWords(t, err, "CLUSTER", "this is no Redis Cluster: remove cluster")

	config := &RedisConfig{Endpoints: []string{nodes[0].address, nodes[1].address}, Cluster: &ClusterConfig{}}
	s := realStore(t, config, time.Second)
	ctx := context.Background()
	for i := 0; i < 300; i++ {
		id := "id" + strconv.Itoa(i*7919)
		if i < 50 {
			key := s.prefix + "session:{" + id + "}"
			if slot := tellRedis(t, redisConfigAt(nodes[0].address), "CLUSTER", "KEYSLOT", key); slot != int64(redisSlot(inCluster, key)) {
				t.Errorf("%s is in slot %v, not %d", key, slot, redisSlot(inCluster, key))
			}
		}
		if err := putSession(ctx, s, id, "value of "+id, time.Hour, "sid"+id, "alice"); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := storeFind(ctx, s, "", "alice"); len(ids) != 300 || err != nil {
		t.Errorf("found %d, %v", len(ids), err)
	}

	l := startLoad(t, s)
	l.recovers(t, "the start")

	// Both configured nodes go, one after the other: the others are known by then.
	for _, node := range nodes[:2] {
		waitUntil(t, "the next one can be replaced", func() bool { // on a slow machine more of them may have changed their roles
			info := askRedis(t, redisConfigAt(node.address), "INFO", "replication")
			return strings.Contains(info, "role:slave") || strings.Contains(info, "state=online")
		})
		node.kill()
		l.recovers(t, "kill -9 of a master")
		node.start(t)
		waitUntil(t, "it is a replica with its data", func() bool {
			return strings.Contains(askRedis(t, redisConfigAt(node.address), "INFO", "replication"), "master_link_status:up")
		})
		waitForClusterAgreement(t, nodes)
	}

	// Slots move last: a node that is killed just afterwards may take the last one of them with it for good, in Redis 7.0.
	var masters []string
	for _, p := range nodes {
		if strings.HasPrefix(askRedis(t, redisConfigAt(p.address), "ROLE"), "[master") {
			masters = append(masters, askRedis(t, redisConfigAt(p.address), "CLUSTER", "MYID"))
		}
	}
	_, before := l.counts()
	runRedisCLI(t, "--cluster", "reshard", nodes[0].address, "--cluster-from", masters[0], "--cluster-to", masters[1], "--cluster-slots", "1500", "--cluster-yes")
	l.recovers(t, "resharding")
	if _, bad := l.counts(); bad > before {
		t.Errorf("resharding cost %d answers", bad-before)
	}
	l.check(t, time.Second, true)
	for i := 0; i < 300; i++ {
		id := "id" + strconv.Itoa(i*7919)
		if got, found, err := getSession(ctx, s, id); !found || got != "value of "+id {
			t.Fatalf("%s: got %q, %v, %v", id, got, found, err)
		}
	}
	if idle := idleConnections(s.redis); idle > 6*redisPoolSize {
		t.Errorf("%d connections", idle)
	}
}

// waitForClusterAgreement waits until all nodes are well and name the same master for each slot.
func waitForClusterAgreement(t *testing.T, nodes []*redisProcess) {
	t.Helper()
	slots := make([]string, len(nodes))
	defer func() {
		if t.Failed() {
			t.Logf("slots by node: %s\n%s", strings.Join(slots, "\n"), askRedis(t, redisConfigAt(nodes[0].address), "CLUSTER", "NODES"))
		}
	}()
	waitUntil(t, "all nodes agree", func() bool {
		for i, p := range nodes {
			slots[i] = clusterMasters(t, p)
			if slots[i] != slots[0] || !strings.Contains(askRedis(t, redisConfigAt(p.address), "CLUSTER", "INFO"), "cluster_state:ok") {
				return false
			}
		}
		return slots[0] != ""
	})
}

// clusterMasters lists the ranges of slots with their masters as one node sees them.
func clusterMasters(t *testing.T, p *redisProcess) string {
	t.Helper()
	reply, _ := redisDo(context.Background(), redisAt(t, redisConfigAt(p.address), time.Second), "", "CLUSTER", "SLOTS") // it may be loading
	ranges, _ := reply.([]any)
	var lines []string
	for _, one := range ranges {
		fields, _ := one.([]any)
		master, _ := fields[2].([]any)
		lines = append(lines, fmt.Sprint(fields[0], "-", fields[1], " ", master[1]))
	}
	sort.Strings(lines)
	return strings.Join(lines, ", ")
}

func idleConnections(c *redisClient) int {
	idle := 0
	lockRedis()
	for _, node := range c.nodes {
		for conn := node.idle; conn != nil; conn = conn.next {
			idle++
		}
	}
	unlockRedis()
	return idle
}
