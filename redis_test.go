package oidc

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// These tests play the server: each byte it could send is tried, and what it saw is looked at. redis_real_test.go does the rest
// with the real one.

// fakeRedis is a server that answers what a test says.
type fakeRedis struct {
	listener net.Listener
	address  string

	mu     sync.Mutex
	answer func(args []string) string // the bytes of a reply; see hangUp and silence
	seen   []string                   // the commands, words joined by blanks
	open   int
	most   int // connections at the same time
	total  int
}

const (
	hangUp  = "hang up" // ends an answer: the connection is closed after what is before
	silence = "silence" // nothing is answered, the connection stays
)

func newFakeRedis(t *testing.T, answer func(args []string) string) *fakeRedis {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	f := &fakeRedis{listener: listener, address: listener.Addr().String(), answer: answer}
	go serveFake(f)
	return f
}

func serveFake(f *fakeRedis) {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.open++
		f.total++
		if f.open > f.most {
			f.most = f.open
		}
		f.mu.Unlock()
		go serveFakeConn(f, conn)
	}
}

func serveFakeConn(f *fakeRedis, conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		args, err := readFakeCommand(r)
		if err != nil {
			break
		}
		f.mu.Lock()
		f.seen = append(f.seen, strings.Join(args, " "))
		answer := f.answer
		f.mu.Unlock()
		reply := answer(args)
		if reply == silence {
			continue
		}
		io.WriteString(conn, strings.TrimSuffix(reply, hangUp))
		if strings.HasSuffix(reply, hangUp) {
			break
		}
	}
	conn.Close()
	f.mu.Lock()
	f.open--
	f.mu.Unlock()
}

func readFakeCommand(r *bufio.Reader) ([]string, error) {
	count, err := readFakeNumber(r, "*")
	if err != nil {
		return nil, err
	}
	args := make([]string, count)
	for i := range args {
		length, err := readFakeNumber(r, "$")
		if err != nil {
			return nil, err
		}
		data := make([]byte, length+2)
		if _, err := io.ReadFull(r, data); err != nil {
			return nil, err
		}
		args[i] = string(data[:length])
	}
	return args, nil
}

func readFakeNumber(r *bufio.Reader, kind string) (int, error) {
	line, err := r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, kind) {
		return 0, fmt.Errorf("not a request: %q", line)
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}

// answering gives the commands with these first words these replies; "" stands for every other command.
func answering(replies map[string]string) func(args []string) string {
	return func(args []string) string {
		reply, ok := replies[args[0]]
		if !ok {
			reply = replies[""]
		}
		return reply
	}
}

func (f *fakeRedis) say(answer func(args []string) string) {
	f.mu.Lock()
	f.answer = answer
	f.mu.Unlock()
}

// heard is what the server was told, commands separated by semicolons, and forgets it.
func (f *fakeRedis) heard() string {
	f.mu.Lock()
	heard := strings.Join(f.seen, "; ")
	f.seen = nil
	f.mu.Unlock()
	return heard
}

func (f *fakeRedis) counts() (most, total int) {
	f.mu.Lock()
	most, total = f.most, f.total
	f.mu.Unlock()
	return most, total
}

func bulk(text string) string { return "$" + strconv.Itoa(len(text)) + "\r\n" + text + "\r\n" }

func array(items ...string) string {
	return "*" + strconv.Itoa(len(items)) + "\r\n" + strings.Join(items, "")
}

// slotReply is CLUSTER SLOTS with these addresses sharing the slots evenly.
func slotReply(addresses ...string) string {
	var ranges []string
	share := redisSlots / len(addresses)
	for i, address := range addresses {
		host, port, _ := net.SplitHostPort(address)
		last := (i+1)*share - 1
		if i == len(addresses)-1 {
			last = redisSlots - 1
		}
		server := array(bulk(host), ":"+port+"\r\n", bulk("id"), array())
		ranges = append(ranges, array(fmt.Sprintf(":%d\r\n", i*share), fmt.Sprintf(":%d\r\n", last), server))
	}
	return array(ranges...)
}

const (
	roleMaster  = "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
	roleReplica = "*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:1\r\n$9\r\nconnected\r\n:0\r\n"
)

// redisAt is a client with a short timeout.
func redisAt(t *testing.T, rc *RedisConfig, timeout time.Duration) *redisClient {
	t.Helper()
	c, err := newRedis(rc, timeout)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantWords fails unless err is for want of Redis, and says these words.
func wantWords(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, expected one with %q", words)
		return
	}
	if !errors.Is(err, errUnavailable) {
		t.Errorf("error %q is not errUnavailable", err.Error())
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error has several lines: %q", err.Error())
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err.Error(), word)
		}
	}
}

func wantReply(t *testing.T, c *redisClient, want any, args ...string) {
	t.Helper()
	got, err := redisDo(context.Background(), c, "k", args...)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, %v; expected %v", args[0], got, err, want)
	}
}

func TestRedisReply(t *testing.T) {
	rows := []struct {
		name, bytes string
		want        any
		wantErr     string
	}{
		{name: "simple text", bytes: "+OK\r\n", want: "OK"},
		{name: "number", bytes: ":12\r\n", want: int64(12)},
		{name: "negative number", bytes: ":-12\r\n", want: int64(-12)},
		{name: "bulk text", bytes: "$5\r\nhello\r\n", want: "hello"},
		{name: "empty bulk text", bytes: "$0\r\n\r\n", want: ""},
		{name: "bulk text with line ends, as a value may have", bytes: "$4\r\n\r\n\r\n\r\n", want: "\r\n\r\n"},
		{name: "no value", bytes: "$-1\r\n", want: nil},
		{name: "no array", bytes: "*-1\r\n", want: nil},
		{name: "empty array", bytes: "*0\r\n", want: []any{}},
		{name: "arrays in an array", bytes: "*3\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n*0\r\n", want: []any{int64(1), []any{"a", nil}, []any{}}},
		{name: "error of the server", bytes: "-WRONGTYPE no\r\n", wantErr: "answered WRONGTYPE no"},
		{name: "error inside an array", bytes: "*1\r\n-ERR no\r\n", wantErr: "cannot read"},
		{name: "error without text", bytes: "-\r\n", wantErr: "cannot read"},
		{name: "HTTP server", bytes: "HTTP/1.1 400 Bad Request\r\n\r\n", wantErr: "cannot read"},
		{name: "TLS alert", bytes: "\x15\x03\x01\x00\x02\x02\n\r\n", wantErr: "cannot read"},
		{name: "type of RESP3", bytes: "%1\r\n+a\r\n+b\r\n", wantErr: "cannot read"},
		{name: "line without CR", bytes: "+OK!\n", wantErr: "cannot read"},
		{name: "line end alone", bytes: "\r\n", wantErr: "cannot read"},
		{name: "number that is none", bytes: ":1a\r\n", wantErr: "cannot read"},
		{name: "number out of range", bytes: ":99999999999999999999\r\n", wantErr: "cannot read"},
		{name: "length that is none", bytes: "$\r\r\n", wantErr: "cannot read"},
		{name: "negative length", bytes: "$-2\r\n", wantErr: "cannot read"},
		{name: "negative count", bytes: "*-2\r\n", wantErr: "cannot read"},
		{name: "length that no memory has", bytes: "$9999999999999\r\n", wantErr: "cannot read"},
		{name: "length that no number has", bytes: "$99999999999999999999999\r\n", wantErr: "cannot read"},
		{name: "endless length", bytes: "$" + strings.Repeat("9", 5000), wantErr: "buffer full"},
		{name: "endless text", bytes: "+" + strings.Repeat("a", 5000), wantErr: "buffer full"},
		{name: "count that no memory has", bytes: "*9999999999\r\n", wantErr: "cannot read"},
		{name: "more small values than we hold", bytes: "*8000000\r\n" + strings.Repeat(":1\r\n", redisMaxReply/redisItemCost+1), wantErr: "cannot read"},
		{name: "more text than we hold", bytes: "*9\r\n" + strings.Repeat(bulk(strings.Repeat("a", 1<<20)), 9), wantErr: "cannot read"},
		{name: "bulk text longer than said", bytes: "$2\r\nabc\r\n", wantErr: "cannot read"},
		{name: "bulk text with half a line end", bytes: "$2\r\nab\rc", wantErr: "cannot read"},
		{name: "arrays deeper than any reply", bytes: strings.Repeat("*1\r\n", 1000) + ":1\r\n", wantErr: "cannot read"},
		{name: "nothing", bytes: "", wantErr: "EOF"},
		{name: "end inside a bulk text", bytes: "$5\r\nhel", wantErr: "unexpected EOF"},
		{name: "end inside an array", bytes: "*2\r\n:1\r\n", wantErr: "EOF"},
	}
	for _, row := range rows {
		row := row
		t.Run(row.name, func(t *testing.T) {
			budget := redisMaxReply
			got, err := readRedisReply(bufio.NewReader(strings.NewReader(row.bytes)), &budget, 1)
			if row.wantErr == "" && (err != nil || fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", row.want)) {
				t.Errorf("got %#v, %v; expected %#v", got, err, row.want)
			}
			if row.wantErr != "" && (err == nil || !strings.Contains(err.Error(), row.wantErr)) {
				t.Errorf("got %#v, %v; expected an error with %q", got, err, row.wantErr)
			}
		})
	}
}

// TestRedisReplyCut ends a reply after each of its bytes: that is never a shorter reply.
func TestRedisReplyCut(t *testing.T) {
	whole := slotReply("10.0.0.1:6379", "10.0.0.2:6379")
	budget := redisMaxReply
	if _, err := readRedisReply(bufio.NewReader(strings.NewReader(whole)), &budget, 1); err != nil {
		t.Fatal(err)
	}
	for i := range []byte(whole) {
		budget := redisMaxReply
		if got, err := readRedisReply(bufio.NewReader(strings.NewReader(whole[:i])), &budget, 1); err == nil {
			t.Errorf("after %d bytes: got %v", i, got)
		}
	}
}

func TestRedisRequest(t *testing.T) {
	args := []string{"SET", "key with blank", "value\r\nwith $1\r\nlines", "", "\x00ü"}
	got, err := readFakeCommand(bufio.NewReader(bytes.NewReader(redisRequest(args))))
	if err != nil || strings.Join(got, "|") != strings.Join(args, "|") {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestRedisReplyInPieces sends every byte in a packet of its own.
func TestRedisReplyInPieces(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	value := strings.Repeat("piece\r\n", 20)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		readFakeCommand(bufio.NewReader(conn))
		for _, b := range []byte(bulk(value)) {
			conn.Write([]byte{b})
			time.Sleep(100 * time.Microsecond)
		}
	}()
	c := redisAt(t, &RedisConfig{Endpoints: []string{listener.Addr().String()}}, 5*time.Second)
	wantReply(t, c, value, "GET", "k")
}

// TestRedisCutConnection has a proxy's worst: the connection ends after each byte of a reply, once or always.
func TestRedisCutConnection(t *testing.T) {
	whole := bulk("the value")
	var mu sync.Mutex
	cut, left := 0, 0
	f := newFakeRedis(t, func(args []string) string {
		mu.Lock()
		defer mu.Unlock()
		if left == 0 {
			return whole
		}
		left--
		return whole[:cut] + hangUp
	})
	c := redisAt(t, &RedisConfig{Endpoints: []string{f.address}}, 5*time.Second)
	for i := range []byte(whole) {
		mu.Lock()
		cut, left = i, 1
		mu.Unlock()
		wantReply(t, c, "the value", "GET", "k")
		mu.Lock()
		cut, left = i, 2
		mu.Unlock()
		_, err := redisDo(context.Background(), c, "k", "GET", "k")
		wantWords(t, err, "GET", "EOF", "hung up")
		mu.Lock()
		cut, left = i, 1
		mu.Unlock()
		_, err = redisDo(context.Background(), c, "k", "INCR", "k")
		wantWords(t, err, "INCR", "EOF")
		mu.Lock()
		if left != 0 {
			t.Errorf("the command was not sent")
		}
		mu.Unlock()
		wantReply(t, c, "the value", "GET", "k")
	}
	f.heard()
	mu.Lock()
	cut, left = 3, 1
	mu.Unlock()
	redisDo(context.Background(), c, "k", "INCR", "k")
	if got := f.heard(); got != "INCR k" {
		t.Errorf("a command that may not run twice: the server heard %q", got)
	}
}

// TestRedisLeftover has more behind a reply than was asked for. It must not become the answer to the next command.
func TestRedisLeftover(t *testing.T) {
	f := newFakeRedis(t, func(args []string) string { return bulk(args[1]) })
	c := redisAt(t, &RedisConfig{Endpoints: []string{f.address}}, 2*time.Second)
	wantReply(t, c, "a", "GET", "a")
	f.say(func(args []string) string { return bulk(args[1]) + bulk("of another user") })
	_, err := redisDo(context.Background(), c, "b", "GET", "b")
	wantWords(t, err, "cannot read", "is this Redis")
	f.say(func(args []string) string { return bulk(args[1]) })
	wantReply(t, c, "c", "GET", "c")
}

func TestRedisPool(t *testing.T) {
	f := newFakeRedis(t, func(args []string) string { time.Sleep(2 * time.Millisecond); return bulk(args[1]) })
	c := redisAt(t, &RedisConfig{Endpoints: []string{f.address}}, 10*time.Second)
	c.poolSize = 3
	var wg sync.WaitGroup
	for i := 0; i < 40; i++ {
		wg.Add(1)
		go func(name string) {
			defer wg.Done()
			wantReply(t, c, name, "GET", name)
		}("key" + strconv.Itoa(i))
	}
	wg.Wait()
	if most, total := f.counts(); most > 3 || total > 3 {
		t.Errorf("%d connections at once, %d in all; expected 3 at most", most, total)
	}
}

// TestRedisPoolBusy has a server that never answers: nobody waits longer than the timeout, for an answer or for a place.
func TestRedisPoolBusy(t *testing.T) {
	f := newFakeRedis(t, func(args []string) string { return silence })
	c := redisAt(t, &RedisConfig{Endpoints: []string{f.address}}, 3*time.Second)
	c.poolSize = 2
	c.slots[0] = redisNodeAt(c, f.address, false)
	var wg sync.WaitGroup
	for i := 0; i < 10; i++ {
		wg.Add(1)
		go func(late bool) {
			defer wg.Done()
			timeout, words := 3*time.Second, "GET: no answer"
			if late { // the places are taken
				time.Sleep(50 * time.Millisecond)
				timeout, words = 100*time.Millisecond, "all 2 connections were busy until the timeout"
			}
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			start := time.Now()
			_, err := redisDo(ctx, c, "k", "GET", "k")
			wantWords(t, err, words, "is Redis paused, overloaded")
			if took := time.Since(start); took > timeout+2*time.Second {
				t.Errorf("took %s of %s", took, timeout)
			}
		}(i >= 2)
	}
	wg.Wait()
	if most, _ := f.counts(); most > 2 {
		t.Errorf("%d connections at once, expected 2 at most", most)
	}
	f.say(func(args []string) string { return bulk("x") })
	wantReply(t, c, "x", "GET", "k")
}

func TestRedisContext(t *testing.T) {
	f := newFakeRedis(t, func(args []string) string { return silence })
	c := redisAt(t, &RedisConfig{Endpoints: []string{f.address}}, 10*time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := redisDo(ctx, c, "k", "GET", "k")
	wantWords(t, err, "timeout")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s, though the request had 100 ms", took)
	}
}

// TestRedisIdle drops connections that were not used for long: a firewall may have forgotten them.
func TestRedisIdle(t *testing.T) {
	f := newFakeRedis(t, func(args []string) string { return bulk("x") })
	c := redisAt(t, &RedisConfig{Endpoints: []string{f.address}}, 5*time.Second)
	wantReply(t, c, "x", "GET", "k")
	wantReply(t, c, "x", "GET", "k")
	if _, total := f.counts(); total != 1 {
		t.Errorf("%d connections, expected 1", total)
	}
	lockRedis()
	c.slots[0].idle.used -= 2 * redisMaxIdle
	unlockRedis()
	wantReply(t, c, "x", "GET", "k")
	if _, total := f.counts(); total != 2 {
		t.Errorf("%d connections, expected 2", total)
	}
}

func TestRedisRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	c := redisAt(t, &RedisConfig{Endpoints: []string{address}}, time.Second)
	_, err = redisDo(context.Background(), c, "k", "GET", "k")
	wantWords(t, err, address, "connection refused", "is Redis running there, and are endpoints right?")

	listener, err = net.Listen("tcp", address)
	if err != nil {
		t.Skip("the port was taken by somebody else")
	}
	defer listener.Close()
	f := &fakeRedis{listener: listener, address: address, answer: func(args []string) string { return bulk("back") }}
	go serveFake(f)
	wantReply(t, c, "back", "GET", "k")
}

// TestRedisAnswers has what a server may refuse with: the words that help, and never an argument.
func TestRedisAnswers(t *testing.T) {
	rows := []struct{ answer, words string }{
		{"-OOM command not allowed when used memory > 'maxmemory'.", "raise its maxmemory"},
		{"-READONLY You can't write against a read only replica.", "name the master in endpoints"},
		{"-LOADING Redis is loading the dataset in memory", "wait"},
		{"-WRONGTYPE Operation against a key holding the wrong kind of value", "choose another keyPrefix"},
		{"-NOAUTH Authentication required.", "set username and password"},
		{"-NOPERM this user has no permissions to run the 'get' command", "the user needs GET"},
		{"-ERR The user executing the script can't run this command or subcommand script: e4b7, on @user_script:1.",
			"the commands of the scripts, too: TIME"},
		{"-CLUSTERDOWN Hash slot not served", "CLUSTER INFO"},
		{"-MOVED 1 10.0.0.1:6379", "set cluster"},
		{"-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", "its disk"},
		{"-ERR unknown command `GET`, with args beginning with: `session:{s3cr3t}`, ", "Redis 5 or later"},
		{"-ERR max number of clients reached", "maxclients"},
		{"-ERR s3cr3t", `answered "ERR"`},
		{"-" + strings.Repeat("s3cr3t", 100), `answered "s3cr3ts3cr3ts3cr3ts3"`}, // a code that is none is clipped
		{"-\x1b[31m\a", `answered "\x1b[31m\a"`},
	}
	for _, row := range rows {
		f := newFakeRedis(t, answering(map[string]string{"": row.answer + "\r\n"}))
		c := redisAt(t, &RedisConfig{Endpoints: []string{f.address}}, time.Second)
		_, err := redisDo(context.Background(), c, "k", "GET", "session:{s3cr3t}")
		wantWords(t, err, "redis "+f.address+": GET: answered ", row.words)
		if strings.Contains(err.Error(), "session:") || strings.Contains(err.Error(), " s3cr3t") {
			t.Errorf("says too much: %q", err.Error())
		}
		if got := f.heard(); strings.Contains(got, ";") {
			t.Errorf("%s: a single server was asked again: %q", row.answer, got)
		}
	}
}

// TestRedisOptions: what is refused at the start, by readConfig or by the store, and which address an endpoint is.
func TestRedisOptions(t *testing.T) {
	sentinel := map[string]any{"masterSet": "main"}
	none := map[string]any{}
	rows := []struct {
		name    string
		options map[string]any
		wantErr string
	}{
		{"no endpoints", map[string]any{}, `endpoints: required; write host and port, such as "redis:6379"`},
		{"empty endpoint", map[string]any{"endpoints": []any{""}}, `endpoints: required`},
		{"unknown scheme", map[string]any{"endpoints": "http://host:1"},
			`endpoints: must be host and port, alone or after redis:// or rediss://, got "http://host:1"`},
		{"a scheme alone", map[string]any{"endpoints": "redis://"}, "endpoints: must be host and port"},
		{"password in the URL", map[string]any{"endpoints": "redis://user:s3cr3t@host:6379"}, "endpoints: must be host and port"},
		{"password in a URL that cannot be read", map[string]any{"endpoints": "redis://user:s3cr3t%@host:6379"}, "endpoints: must be host and port"},
		{"database in the URL", map[string]any{"endpoints": "redis://host:6379/1"}, "endpoints: must be host and port"},
		{"port that is none", map[string]any{"endpoints": "host:port"}, "endpoints: must be host and port"},
		{"redis:// with tls", map[string]any{"endpoints": "redis://host:1", "tls": none},
			"endpoints: redis:// is without TLS, but tls or another endpoint asks for it; write rediss://"},
		{"one endpoint with TLS, one without", map[string]any{"endpoints": "redis://b:1,rediss://a:1"}, "endpoints: redis:// is without TLS"},
		{"sentinel without masterSet", map[string]any{"endpoints": "a:1", "sentinel": none}, "sentinel.masterSet: required"},
		{"sentinel and cluster", map[string]any{"endpoints": "a:1", "sentinel": sentinel, "cluster": none}, "cluster: must not be combined with sentinel"},
		{"database in a cluster", map[string]any{"endpoints": "a:1", "cluster": none, "database": 1}, "database: must be 0 in a cluster, got 1"},
		{"negative database", map[string]any{"endpoints": "a:1", "database": -1}, "database: must be"},
		{"CA that is none", map[string]any{"endpoints": "a:1", "tls": map[string]any{"ca": "s3cr3t"}}, "tls.ca"},
		{"two problems at once", map[string]any{"database": -1}, "; session.store.redis.endpoints: required"},
	}
	for _, row := range rows {
		_, err := findMiddleware(context.Background(), map[string]any{"issuer": "https://id.example.com", "clientId": "app",
			"clientSecret": "a-secret-of-the-tests",
			"session":      map[string]any{"store": map[string]any{"redis": row.options}}}, "login@file")
		if err == nil || !strings.Contains(err.Error(), "session.store.redis.") && !strings.Contains(err.Error(), "session.store.redis: ") ||
			!strings.Contains(err.Error(), row.wantErr) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: got %v, expected %q", row.name, err, row.wantErr)
		}
	}
	good := map[string]string{"host:1": "host:1", "redis://host:1": "host:1", "[::1]:7": "[::1]:7", "rediss://h:6379": "h:6379",
		"10.0.0.1:6379": "10.0.0.1:6379"}
	for endpoint, address := range good {
		c, err := newRedis(&RedisConfig{Endpoints: []string{endpoint}}, time.Second)
		if err != nil || c.endpoints[0] != address || (c.tls != nil) != strings.HasPrefix(endpoint, "rediss") {
			t.Errorf("%s: got %v", endpoint, err)
		}
	}
}

// TestRedisGreeting looks at how a connection begins.
func TestRedisGreeting(t *testing.T) {
	f := newFakeRedis(t, answering(map[string]string{"AUTH": "+OK\r\n", "SELECT": "+OK\r\n", "": "$-1\r\n"}))
	rows := []struct {
		config RedisConfig
		want   string
	}{
		{RedisConfig{}, "GET k"},
		{RedisConfig{Password: "pw"}, "AUTH pw; GET k"},
		{RedisConfig{Username: "me", Password: "pw", Database: 3}, "AUTH me pw; SELECT 3; GET k"},
	}
	for _, row := range rows {
		config := row.config
		config.Endpoints = []string{f.address}
		c := redisAt(t, &config, time.Second)
		wantReply(t, c, nil, "GET", "k")
		if got := f.heard(); got != row.want {
			t.Errorf("heard %q, expected %q", got, row.want)
		}
	}
	for answer, words := range map[string]string{
		"-WRONGPASS invalid username-password pair or user is disabled.\r\n": "does not accept username and password",
		"-ERR invalid password\r\n": "does not accept password",
		"-ERR AUTH <password> called without any password configured for the default user.\r\n": "has no password",
		"-ERR wrong number of arguments for 'auth' command\r\n":                                 "before version 6",
	} {
		f.say(answering(map[string]string{"AUTH": answer, "": "$-1\r\n"}))
		c := redisAt(t, &RedisConfig{Endpoints: []string{f.address}, Username: "me", Password: "s3cr3t"}, time.Second)
		_, err := redisDo(context.Background(), c, "k", "GET", "k")
		wantWords(t, err, "AUTH: answered", words)
		if strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("tells the password: %q", err.Error())
		}
	}
	f.say(answering(map[string]string{"SELECT": "-ERR DB index is out of range\r\n"}))
	c := redisAt(t, &RedisConfig{Endpoints: []string{f.address}, Database: 99}, time.Second)
	_, err := redisDo(context.Background(), c, "k", "GET", "k")
	wantWords(t, err, "SELECT", "lower database")
}

// TestRedisSeveral takes the first of several servers that answers as a master, and another when that one fails.
func TestRedisSeveral(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	replica := newFakeRedis(t, answering(map[string]string{"ROLE": roleReplica, "": bulk("stale")}))
	first := newFakeRedis(t, answering(map[string]string{"ROLE": roleMaster, "": bulk("one")}))
	second := newFakeRedis(t, answering(map[string]string{"ROLE": roleMaster, "": bulk("two")}))
	c := redisAt(t, &RedisConfig{Endpoints: []string{gone.Addr().String(), replica.address, first.address, second.address}}, 1500*time.Millisecond)
	wantReply(t, c, "one", "GET", "k")
	if got := replica.heard(); got != "ROLE" {
		t.Errorf("the replica heard %q", got)
	}
	// It becomes a replica: on the open connection it refuses, on a new one it says so.
	first.say(answering(map[string]string{"ROLE": roleReplica, "": "-READONLY You can't write against a read only replica.\r\n"}))
	wantReply(t, c, "two", "SET", "k", "v")
	// And then the other way round, and this one hangs.
	first.say(answering(map[string]string{"ROLE": roleMaster, "": bulk("one again")}))
	second.say(func(args []string) string { return silence })
	if _, err := redisDo(context.Background(), c, "k", "GET", "k"); err == nil {
		t.Error("a server that hangs has answered")
	}
	wantReply(t, c, "one again", "GET", "k") // dialling the silent one has a third of the time
}

func TestRedisSentinel(t *testing.T) {
	old := newFakeRedis(t, answering(map[string]string{"AUTH": "+OK\r\n", "ROLE": roleMaster, "": bulk("old")}))
	promoted := newFakeRedis(t, answering(map[string]string{"AUTH": "+OK\r\n", "ROLE": roleReplica, "": bulk("new")}))
	master := func(f *fakeRedis) func(args []string) string {
		host, port, _ := net.SplitHostPort(f.address)
		return answering(map[string]string{"AUTH": "+OK\r\n", "SENTINEL": array(bulk(host), bulk(port))})
	}
	deaf := newFakeRedis(t, func(args []string) string { return hangUp })
	watch := newFakeRedis(t, master(old))
	c := redisAt(t, &RedisConfig{
		Endpoints: []string{deaf.address, watch.address}, Username: "me", Password: "pw", Database: 0,
		Sentinel: &SentinelConfig{MasterSet: "main", Username: "guard", Password: "spw"},
	}, 3*time.Second)
	wantReply(t, c, "old", "SET", "k", "1")
	if got := watch.heard(); got != "AUTH guard spw; SENTINEL get-master-addr-by-name main" {
		t.Errorf("the Sentinel heard %q", got)
	}
	if got := old.heard(); got != "AUTH me pw; ROLE; SET k 1" {
		t.Errorf("the master heard %q", got)
	}

	// Sentinel names a new master that is not one yet: what we had stays.
	watch.say(master(promoted))
	lockRedis()
	c.recheck = timeSince(redisEpoch)
	c.directUntil = c.recheck
	unlockRedis()
	wantReply(t, c, "old", "GET", "k")

	// The failover is done, and the old master does not know it: within redisRecheck nothing goes there any more.
	promoted.say(answering(map[string]string{"AUTH": "+OK\r\n", "ROLE": roleMaster, "": bulk("new")}))
	lockRedis()
	c.recheck = timeSince(redisEpoch)
	c.directUntil = c.recheck
	unlockRedis()
	old.heard()
	wantReply(t, c, "new", "SET", "k", "2")
	wantReply(t, c, "new", "SET", "k", "3")
	if got := old.heard(); got != "" {
		t.Errorf("the old master heard %q", got)
	}

	// The other way round, noticed by a refused write, or by a dead connection; then by nobody, as all Sentinels are away.
	promoted.say(answering(map[string]string{"AUTH": "+OK\r\n", "ROLE": roleReplica, "": "-READONLY no\r\n"}))
	watch.say(master(old))
	wantReply(t, c, "old", "SET", "k", "4")
	watch.say(func(args []string) string { return hangUp })
	lockRedis()
	c.recheck = timeSince(redisEpoch)
	c.directUntil = c.recheck
	unlockRedis()
	wantReply(t, c, "old", "SET", "k", "5")

	watch.say(answering(map[string]string{"AUTH": "+OK\r\n", "SENTINEL": "*-1\r\n"}))
	c = redisAt(t, &RedisConfig{Endpoints: []string{watch.address}, Sentinel: &SentinelConfig{MasterSet: "mian"}}, time.Second)
	_, err := redisDo(context.Background(), c, "k", "GET", "k")
	wantWords(t, err, "knows no master of the name in sentinel.masterSet")
	watch.say(answering(map[string]string{"SENTINEL": "-ERR unknown command 'SENTINEL', with args beginning with: \r\n"}))
	_, err = redisDo(context.Background(), c, "k", "GET", "k")
	wantWords(t, err, "SENTINEL", "endpoints are the Sentinels")
}

func TestRedisCluster(t *testing.T) {
	one := newFakeRedis(t, nil)
	two := newFakeRedis(t, nil)
	slots := slotReply(one.address, two.address)
	one.say(answering(map[string]string{"CLUSTER": slots, "": bulk("one")}))
	two.say(answering(map[string]string{"CLUSTER": slots, "": bulk("two")}))
	client := func() *redisClient {
		return redisAt(t, &RedisConfig{Endpoints: []string{one.address}, Cluster: &ClusterConfig{}}, 3*time.Second)
	}
	get := func(c *redisClient, key, want string) {
		t.Helper()
		got, err := redisDo(context.Background(), c, key, "GET", key)
		if err != nil || got != want {
			t.Errorf("%s: got %v, %v; expected %s", key, got, err, want)
		}
	}
	c := client()
	get(c, "foo", "two") // slot 12182
	get(c, "bar", "one") // slot 5061
	get(c, "any{foo}", "two")
	if got := one.heard() + " | " + two.heard(); got != "CLUSTER SLOTS; GET bar | GET foo; GET any{foo}" {
		t.Errorf("heard %q", got)
	}

	// A slot has moved: once told, we know.
	two.say(answering(map[string]string{"CLUSTER": slots, "": "-MOVED 12182 " + one.address + "\r\n"}))
	get(c, "foo", "one")
	get(c, "foo", "one")
	if got := one.heard() + " | " + two.heard(); got != "GET foo; GET foo | GET foo" {
		t.Errorf("heard %q", got)
	}

	// A slot is moving: the key is asked for over there, and the next one here again.
	c = client()
	two.say(answering(map[string]string{"": "-ASK 12182 " + one.address + "\r\n"}))
	one.say(answering(map[string]string{"CLUSTER": slots, "ASKING": "+OK\r\n", "": bulk("one")}))
	get(c, "foo", "one")
	get(c, "foo", "one")
	if got := one.heard() + " | " + two.heard(); got != "CLUSTER SLOTS; ASKING; GET foo; ASKING; GET foo | GET foo; GET foo" {
		t.Errorf("heard %q", got)
	}

	// The cluster is busy with itself for a moment.
	for _, answer := range []string{"-TRYAGAIN Multiple keys request during rehashing of slot\r\n", "-CLUSTERDOWN The cluster is down\r\n"} {
		answer := answer
		var mu sync.Mutex
		left := 3
		two.say(func(args []string) string {
			mu.Lock()
			defer mu.Unlock()
			if left--; left >= 0 {
				return answer
			}
			return bulk("two")
		})
		get(c, "foo", "two")
	}
	two.say(answering(map[string]string{"": "-CLUSTERDOWN The cluster is down\r\n"}))
	start := time.Now()
	_, err := redisDo(context.Background(), c, "foo", "GET", "foo")
	wantWords(t, err, "GET", "does not serve all slots")
	if took := time.Since(start); took < 500*time.Millisecond || took > 5*time.Second {
		t.Errorf("waited %s for the cluster", took)
	}

	// Two servers that send us to each other.
	two.say(answering(map[string]string{"": "-MOVED 12182 " + one.address + "\r\n"}))
	one.say(answering(map[string]string{"CLUSTER": slots, "": "-MOVED 12182 " + two.address + "\r\n"}))
	one.heard()
	two.heard()
	_, err = redisDo(context.Background(), c, "foo", "GET", "foo")
	wantWords(t, err, `answered "MOVED"`)
	if told := strings.Count(one.heard()+two.heard(), "GET"); told != redisAttempts {
		t.Errorf("%d attempts", told)
	}
}

// TestRedisClusterChange loses the only configured node, and goes on with those it named.
func TestRedisClusterChange(t *testing.T) {
	one := newFakeRedis(t, nil)
	two := newFakeRedis(t, nil)
	_, port, _ := net.SplitHostPort(one.address)
	// A server that does not know its own name leaves it out: it is where it was asked.
	both := slotReply(one.address, two.address)
	nameless := strings.Replace(both, bulk("127.0.0.1")+":"+port, "$-1\r\n:"+port, 1)
	if nameless == both {
		t.Fatal("the test does not test")
	}
	one.say(answering(map[string]string{"CLUSTER": nameless, "": bulk("one")}))
	two.say(answering(map[string]string{"CLUSTER": slotReply(two.address), "": bulk("two")}))
	c := redisAt(t, &RedisConfig{Endpoints: []string{one.address}, Cluster: &ClusterConfig{}}, 3*time.Second)
	if got, err := redisDo(context.Background(), c, "bar", "GET", "bar"); err != nil || got != "one" {
		t.Fatalf("got %v, %v", got, err)
	}
	one.say(func(args []string) string { return hangUp })
	one.listener.Close()
	if got, err := redisDo(context.Background(), c, "bar", "GET", "bar"); err != nil || got != "two" {
		t.Errorf("got %v, %v", got, err)
	}
	two.say(answering(map[string]string{"": "-MOVED 5061 :" + strings.Split(two.address, ":")[1] + "\r\n", "CLUSTER": slotReply(two.address)}))
	_, err := redisDo(context.Background(), c, "bar", "GET", "bar")
	wantWords(t, err, "redis "+two.address+": GET: answered \"MOVED\"") // it, not an address without a host

	isEmpty := map[string]bool{"no array": true, "no ranges": true}
	for name, reply := range map[string]string{
		"no array": ":1\r\n", "ranges that are none": "*1\r\n:1\r\n", "range without a server": "*1\r\n*2\r\n:0\r\n:1\r\n",
		"server that is none": "*1\r\n*3\r\n:0\r\n:1\r\n:2\r\n", "slot that is none": "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\na\r\n:1\r\n",
		"negative slot":     "*1\r\n*3\r\n:-1\r\n:1\r\n*2\r\n$1\r\na\r\n:1\r\n",
		"texts for numbers": "*1\r\n*3\r\n$1\r\n0\r\n$1\r\n1\r\n*2\r\n$1\r\na\r\n:1\r\n",
		"no ranges":         "*0\r\n",
		"slots twice":       "*2\r\n" + strings.Repeat("*3\r\n:0\r\n:16383\r\n*2\r\n"+bulk("127.0.0.1")+":"+strings.Split(two.address, ":")[1]+"\r\n", 2),
	} {
		two.say(answering(map[string]string{"CLUSTER": reply}))
		c := redisAt(t, &RedisConfig{Endpoints: []string{two.address}, Cluster: &ClusterConfig{}}, 2*time.Second)
		if got, err := redisDo(context.Background(), c, "bar", "GET", "bar"); err == nil {
			t.Errorf("%s: got %v", name, got)
		} else {
			wantWords(t, err, map[bool]string{true: "no server has this part of the cluster", false: "a reply we cannot read"}[isEmpty[name]])
		}
	}
}

// inCluster is a client of a cluster, whose keys have slots.
var inCluster = &redisClient{config: &RedisConfig{Cluster: &ClusterConfig{}}}

// TestRedisSlot has the examples of the Redis Cluster Specification, and of CRC-16/XMODEM.
func TestRedisSlot(t *testing.T) {
	for key, want := range map[string]int{"123456789": 0x31C3, "foo": 12182, "bar": 5061, "foo{bar}{zap}": 5061, "": 0,
		"{foo}": 12182, "a{foo": redisSlot(inCluster, "a{foo"), "x{bar}y": 5061} {
		if got := redisSlot(inCluster, key); got != want {
			t.Errorf("%q: got %d, expected %d", key, got, want)
		}
	}
	if redisSlot(inCluster, "foo{}{bar}") == 5061 || redisSlot(inCluster, "foo{{bar}}zap") != redisSlot(inCluster, "{bar") {
		t.Error("empty and nested braces")
	}
}

func TestRedisPeer(t *testing.T) {
	for peer, want := range map[string]string{"10.0.0.1:6379": "10.0.0.1:6379", ":6379": "asked:6379",
		"2001:db8::1:6379": "[2001:db8::1]:6379", "[2001:db8::1]:6379": "[2001:db8::1]:6379", "host.example:1": "host.example:1", "junk": "junk"} {
		if got := redisPeerAddress(peer, "asked:1"); got != want {
			t.Errorf("%s: got %s, expected %s", peer, got, want)
		}
	}
}

// TestRedisStoreKeys looks at what a store tells the server: no name of a person, one key to a command, an expiry everywhere.
func TestRedisStoreKeys(t *testing.T) {
	f := newFakeRedis(t, answering(map[string]string{"EVAL": ":1\r\n", "ZRANGE": array(bulk("id1")), "GET": "$-1\r\n", "": "+OK\r\n"}))
	s, err := newStore(&RedisConfig{Endpoints: []string{f.address}}, "app:", []string{"my secret"}, 5)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	storeSet(ctx, s, "id1", "sealed", "", time.Minute, "provider-session", "alice@example.com")
	storeSet(ctx, s, "id1", "sealed", "before", 0, "", "alice@example.com")
	storeLease(ctx, s, "id1", "token", time.Second, time.Hour)
	storeLease(ctx, s, "id1", "token", 0, time.Hour)
	storeDelete(ctx, s, "id1")
	storeLogouts(ctx, s, 7, []string{"mark"})
	keepInMind(ctx, s, "jti-of-a-token", time.Hour)
	storeFind(ctx, s, "", "alice@example.com")
	heard := f.heard()
	for _, name := range []string{"alice", "provider-session", "jti-of", "id.example", "my-app"} {
		if strings.Contains(heard, name) {
			t.Errorf("the server heard %q: %s", name, heard)
		}
	}
	for _, want := range []string{"SET app:session:{id1} sealed PX 60000;", "SET app:session:{id1} sealed PX 1 XX",
		" 1 app:session:{id1} token 1000 3600000", " 1 app:session:{id1} token 0 3600000",
		" 2 app:session:{id1} app:gone:{id1}", " 1 app:out:{", "SET app:seen:{", " PX 3600000", "ZRANGE app:sub:{"} {
		if !strings.Contains(heard, want) {
			t.Errorf("the server did not hear %q: %s", want, heard)
		}
	}
	if hashedKey(s.scopes[0], "sub", "alice@example.com") == hashedKey("another secret", "sub", "alice@example.com") ||
		hashedKey(s.scopes[0], "sub", "x") == hashedKey(s.scopes[0], "sid", "x") {
		t.Error("keys of different names are the same")
	}
}

// testCA signs certificates for servers and clients.
type testCA struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

func newTestCA(t *testing.T) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &testCA{key: key, certificate: &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}}
	der, err := x509.CreateCertificate(rand.Reader, ca.certificate, ca.certificate, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return ca
}

// issue is a certificate for an address, and its key, as PEM.
func (ca *testCA) issue(t *testing.T, address string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(address)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, &private.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func TestRedisTLS(t *testing.T) {
	ca := newTestCA(t)
	certificate, key := ca.issue(t, "127.0.0.1")
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM([]byte(ca.pem))
	serve := func(config *tls.Config) string {
		listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
		go serveFake(&fakeRedis{listener: listener, answer: answering(map[string]string{"": bulk("sealed")})})
		return listener.Addr().String()
	}
	open := serve(&tls.Config{Certificates: []tls.Certificate{pair}})
	guarded := serve(&tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert})
	wrongCertificate, wrongKey := ca.issue(t, "10.9.8.7")
	wrongPair, err := tls.X509KeyPair([]byte(wrongCertificate), []byte(wrongKey))
	if err != nil {
		t.Fatal(err)
	}
	misnamed := serve(&tls.Config{Certificates: []tls.Certificate{wrongPair}})
	plain := newFakeRedis(t, answering(map[string]string{"": bulk("plain")}))

	rows := []struct {
		name, endpoint string
		tls            *TLSConfig
		wantErr        string
	}{
		{"own CA", open, &TLSConfig{CA: ca.pem}, ""},
		{"own CA and a URL", "rediss://" + open, &TLSConfig{CA: ca.pem}, ""},
		{"client certificate", guarded, &TLSConfig{CA: ca.pem, Cert: certificate, Key: key}, ""},
		{"no check", misnamed, &TLSConfig{InsecureSkipVerify: true}, ""},
		{"unknown CA", "rediss://" + open, nil, "see tls.ca"},
		{"certificate for another host", misnamed, &TLSConfig{CA: ca.pem}, "see tls.ca, and the names in the certificate"},
		{"client certificate missing", guarded, &TLSConfig{CA: ca.pem}, "does it want a client certificate?"},
		{"server without TLS", plain.address, &TLSConfig{CA: ca.pem}, "redis " + plain.address},
		{"client without TLS", open, nil, "redis " + open},
	}
	for _, row := range rows {
		c := redisAt(t, &RedisConfig{Endpoints: []string{row.endpoint}, TLS: row.tls}, 10*time.Second) // reading the certificates of the system takes its time
		got, err := redisDo(context.Background(), c, "k", "GET", "k")
		if row.wantErr == "" && (err != nil || got != "sealed") {
			t.Errorf("%s: got %v, %v", row.name, got, err)
		}
		if row.wantErr != "" {
			wantWords(t, err, row.wantErr)
		}
	}
}

// Ranges that run backwards must not make room for more slots than there are: to count them takes the interpreter a minute.
func TestRedisSlotsThatNeverEnd(t *testing.T) {
	c := redisAt(t, &RedisConfig{Endpoints: []string{"127.0.0.1:1"}, Cluster: &ClusterConfig{}}, time.Second)
	server := []any{"127.0.0.1", int64(1), "id"}
	from := redisNodeAt(c, "127.0.0.1:1", false)
	all := []any{int64(0), int64(redisSlots - 1), server}
	if _, err := readRedisSlots(c, from, []any{all}); err != nil {
		t.Error(err)
	}
	_, err := readRedisSlots(c, from, []any{all, []any{int64(redisSlots + 1), int64(0), server}, all})
	wantWords(t, err, "CLUSTER SLOTS", "cannot read")
}

// TestRedisSlotsNameTheirServer: the server of a range is where its answer says, on another host too, and no sentinel.
func TestRedisSlotsNameTheirServer(t *testing.T) {
	c := redisAt(t, &RedisConfig{Endpoints: []string{"127.0.0.1:1"}, Cluster: &ClusterConfig{}}, time.Second)
	from := redisNodeAt(c, "127.0.0.1:1", false)
	slots, err := readRedisSlots(c, from, []any{[]any{int64(5), int64(6), []any{"127.0.0.2", int64(7000), "id"}}})
	if err != nil || slots[4] != nil || slots[5] != slots[6] || slots[7] != nil || slots[5].address != "127.0.0.2:7000" || slots[5].isSentinel {
		t.Errorf("got %v, %v", slots[4:8], err)
	}
}

// TestRedisMaintainsNowAndThen: however often commands fail, what was lost is looked for once in redisMaintainInterval, and again when that failed.
func TestRedisMaintainsNowAndThen(t *testing.T) {
	c := redisAt(t, &RedisConfig{Endpoints: []string{"127.0.0.1:1"}}, time.Second)
	var asked []bool
	var failure error
	c.maintain = func(isLost bool) error {
		asked = append(asked, isLost)
		return failure
	}
	for i := 0; i < 3; i++ {
		redisNoteLostWrites(c)
		redisMaintain(c)
	}
	failure = errUnavailable
	c.replayedAt -= 2 * redisMaintainInterval
	redisMaintain(c)
	isNoted := c.mayHaveLostWrites
	failure = nil
	c.replayedAt -= 2 * redisMaintainInterval
	redisMaintain(c)
	c.maintainAt = timeSince(redisEpoch) - time.Second
	redisMaintain(c)
	if got := fmt.Sprint(asked); got != "[true true true false]" || !isNoted || c.mayHaveLostWrites {
		t.Errorf("asked %s, noted %v, %v", got, isNoted, c.mayHaveLostWrites)
	}
}

// TestRedisBudget: one request waits no longer for Redis than twice the timeout, however many commands it needs.
func TestRedisBudget(t *testing.T) {
	f := newFakeRedis(t, func(args []string) string { return silence })
	c := redisAt(t, &RedisConfig{Endpoints: []string{f.address}}, 5*time.Second)
	ctx := withRedisBudget(httptest.NewRequest(http.MethodGet, "/", nil), c, 2*c.timeout-200*time.Millisecond).Context()
	began := time.Now()
	_, err := redisDo(ctx, c, "k", "GET", "k")
	wantWords(t, err, "timeout")
	_, err = redisDo(ctx, c, "k", "GET", "k")
	wantWords(t, err, "the time that one request may spend with Redis is over")
	if took := time.Since(began); took > 4500*time.Millisecond {
		t.Errorf("took %s", took)
	}
}

// TestRedisCanRetry: what is tried again, and after which of it the servers are looked up anew.
func TestRedisCanRetry(t *testing.T) {
	answered := func(code string) error { return fmt.Errorf("%w %s of the server", errRedisAnswer, code) }
	for _, row := range []struct {
		err                          error
		name                         string
		isCluster, isFixed, wasLost  bool
		want, areServersLookedUpAnew bool
	}{
		{err: answered("READONLY"), want: true, areServersLookedUpAnew: true},
		{err: answered("MASTERDOWN"), want: true, areServersLookedUpAnew: true},
		{err: answered("NOREPLICAS"), want: true, areServersLookedUpAnew: true},
		{err: errors.New("refused"), want: true, areServersLookedUpAnew: true},
		{err: answered("OOM")},
		{err: answered("MOVED")},
		{err: answered("MOVED"), isCluster: true, want: true},
		{err: answered("TRYAGAIN"), isCluster: true, want: true},
		{err: answered("READONLY"), isFixed: true},
		{err: errRedisLost, name: "GET", want: true, areServersLookedUpAnew: true},
		{err: errRedisLost, name: "GET", isFixed: true, want: true},
		{err: errRedisLost, name: "GET", wasLost: true, areServersLookedUpAnew: true},
		{err: errRedisLost, name: "INCR", areServersLookedUpAnew: true},
	} {
		c := &redisClient{config: &RedisConfig{}, isFixed: row.isFixed, recheck: time.Hour}
		if row.isCluster {
			c.config.Cluster = &ClusterConfig{}
		}
		if got := redisCanRetry(c, &redisCall{name: row.name, wasLost: row.wasLost}, row.err); got != row.want || (c.recheck == 0) != row.areServersLookedUpAnew {
			t.Errorf("%v of %s, cluster %v, fixed %v: again %v, looked up anew %v", row.err, row.name, row.isCluster, row.isFixed, got, (c.recheck == 0))
		}
	}
}

// TestRedisClusterMovedToANewServer: a slot may move to a server that has joined since; it is greeted as every other.
func TestRedisClusterMovedToANewServer(t *testing.T) {
	joined := newFakeRedis(t, answering(map[string]string{"AUTH": "+OK\r\n", "": bulk("joined")}))
	one := newFakeRedis(t, nil)
	one.say(answering(map[string]string{"AUTH": "+OK\r\n", "CLUSTER": slotReply(one.address, one.address), "": "-MOVED 12182 " + joined.address + "\r\n"}))
	c := redisAt(t, &RedisConfig{Endpoints: []string{one.address}, Cluster: &ClusterConfig{}, Password: "secret"}, 5*time.Second)
	wantReply(t, c, "joined", "GET", "foo")
	if got := joined.heard(); got != "AUTH secret; GET foo" {
		t.Errorf("heard %q", got)
	}
}

// TestRedisClosesWhatIsIdle: of a server that was lost no connection stays open.
func TestRedisClosesWhatIsIdle(t *testing.T) {
	first, firstEnd := net.Pipe()
	second, secondEnd := net.Pipe()
	node := &redisNode{idle: &redisConn{raw: first, next: &redisConn{raw: second}}}
	redisCloseIdle(node)
	for _, end := range []net.Conn{firstEnd, secondEnd} {
		end.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := end.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || node.idle != nil {
			t.Errorf("it is open: %v, and one is still idle: %v", err, node.idle != nil)
		}
	}
}

// TestRedisClusterForgetsNodes: nodes that the cluster no longer names are forgotten, with their connections, unless they are at work.
func TestRedisClusterForgetsNodes(t *testing.T) {
	inThisProcess(t)
	r := newFakeRedis(t, answering(map[string]string{"CLUSTER": "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:1\r\n"}))
	c, err := newRedis(&RedisConfig{Endpoints: []string{r.address}, Cluster: &ClusterConfig{}}, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var idle net.Conn
	for i := 0; i < 300; i++ {
		node := redisNodeAt(c, fmt.Sprint("10.0.0.", i, ":6379"), false)
		node.namedAt = time.Now().Add(-time.Hour)
		near, far := net.Pipe()
		node.idle = &redisConn{raw: near}
		node.open = 1
		idle = far
		if i == 7 { // it is at work as well
			node.open = 2
		}
	}
	if err := redisLookup(c); err != nil {
		t.Fatal(err)
	}
	if c.nodes["10.0.0.7:6379"] == nil || c.nodes[r.address] == nil || c.slots[5] == nil || c.nodes[c.slots[5].address] != c.slots[5] || len(c.nodes) != 3 {
		t.Errorf("%d nodes are known", len(c.nodes))
	}
	idle.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection to one of them is open: %v", err)
	}
}
