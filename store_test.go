package oidc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// These tests look at what Redis loses, evicts or does not take, with the real one, and at what the store makes of it.

// settlingStore is a realStore as a middleware has it.
func settlingStore(t *testing.T, config *RedisConfig, timeout time.Duration) *store {
	t.Helper()
	s := realStore(t, config, timeout)
	_, port, _ := net.SplitHostPort(config.Endpoints[0])
	s.log = newLogger("login0-"+port+"@file", "warn")
	s.logoutLifetime = time.Hour
	sm := &sessionManager{log: s.log, store: s, state: newClientState(), sealer: newSealer([]string{"secret"}, "issuer", "client", "ticket")}
	s.syncLogouts = func(ctx context.Context, told []string) (int64, error) { return syncLogouts(ctx, sm, told) }
	s.redis.maintain = func(isLost bool) error { return replayChanges(s, isLost) }
	return s
}

func wantSession(t *testing.T, s *store, id, want string) {
	t.Helper()
	got, _, err := getSession(context.Background(), s, id)
	if got != want || err != nil {
		t.Errorf("session %s: got %q, %v; expected %q", id, got, err, want)
	}
}

// sealedAs is a value that differs from others in its beginning, as sealed ones do.
func sealedAs(name string) string {
	return (name + strings.Repeat("-", validatorLength))[:validatorLength] + "rest"
}

// TestStoreSnapshot: Redis starts again from a snapshot. What was written and deleted since is there again, and gone again, with the first
// command that reaches it, whatever that is.
func TestStoreSnapshot(t *testing.T) {
	server := startRedis(t)
	s := settlingStore(t, redisConfigAt(server.address), 2*time.Second)
	ctx := context.Background()
	put := func(id, value, before string) {
		t.Helper()
		if there, err := storeSet(ctx, s, id, sealedAs(value), before, time.Hour, "", "ada"); !there || err != nil {
			t.Fatal(id, there, err)
		}
	}
	put("out", "out", "")
	put("refreshed", "old", "")
	put("elsewhere", "elsewhere", "")
	s.recentChanges = nil // long ago
	tellRedis(t, redisConfigAt(server.address), "SAVE")
	put("refreshed", "new", sealedAs("old")[:validatorLength])
	put("refreshed", "newer", sealedAs("new")[:validatorLength])
	put("fresh", "fresh", "")
	put("short", "short", "")
	put("elsewhere", "ours", sealedAs("elsewhere")[:validatorLength])
	for _, id := range []string{"out", "short"} {
		if err := storeDelete(ctx, s, id); err != nil {
			t.Fatal(err)
		}
	}
	if _, added, _, err := storeLogouts(ctx, s, 0, []string{"mark"}); added != 1 || err != nil {
		t.Fatal(added, err)
	}
	recordLogouts(s, []string{"mark"})
	server.kill()
	server.start(t)
	tellRedis(t, redisConfigAt(server.address), "SET", "app:session:{elsewhere}", sealedAs("another replica's")) // before we come
	wantSession(t, s, "nobody", "")
	wantSession(t, s, "out", "")
	wantSession(t, s, "short", "")
	wantSession(t, s, "refreshed", sealedAs("newer"))
	wantSession(t, s, "fresh", sealedAs("fresh"))
	wantSession(t, s, "elsewhere", sealedAs("another replica's"))
	if ids, err := storeFind(ctx, s, "", "ada"); err != nil || !strings.Contains(strings.Join(ids, " "), "fresh") {
		t.Errorf("the index has %v, %v", ids, err)
	}
	if _, added, news, err := storeLogouts(ctx, s, 0, []string{"mark"}); added != 0 || len(news) != 1 || err != nil {
		t.Errorf("the news: %d added, %v, %v", added, news, err)
	}
	eventually(t, "the loss is told", func() bool {
		return interpreted() || strings.Contains(strings.Join(captured.of(s.log.name), "\n"), "4 changes of sessions and 1 sign-outs were not in Redis")
	})
}

// TestStoreGone: what is written again, after a lost connection, never brings back who was logged out by another replica meanwhile.
func TestStoreGone(t *testing.T) {
	server := startRedis(t)
	ours := settlingStore(t, redisConfigAt(server.address), 2*time.Second)
	theirs := settlingStore(t, redisConfigAt(server.address), 2*time.Second)
	ctx := context.Background()
	if err := putSession(ctx, ours, "one", sealedAs("one"), time.Hour, "", ""); err != nil {
		t.Fatal(err)
	}
	if err := storeDelete(ctx, theirs, "one"); err != nil {
		t.Fatal(err)
	}
	tellRedis(t, redisConfigAt(server.address), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	wantSession(t, ours, "one", "")
	wantSession(t, ours, "one", "")
	if ours.redis.mayHaveLostWrites || ours.redis.replayedAt == 0 {
		t.Error("nobody saw to what may have been lost")
	}
	if said := captured.of(ours.log.name); strings.Contains(strings.Join(said, "\n"), "written again") {
		t.Errorf("nothing was lost, and the log says %q", said)
	}
}

// TestStoreUnwritten: the tokens of a refresh that could not be written are written as soon as Redis is back, with whatever command
// comes first, unless the session was ended meanwhile.
func TestStoreUnwritten(t *testing.T) {
	server := startRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	s := settlingStore(t, redisConfigAt(server.address), time.Second)
	ctx := context.Background()
	for _, id := range []string{"one", "ended"} {
		if err := putSession(ctx, s, id, sealedAs("old "+id), time.Hour, "", "ada"); err != nil {
			t.Fatal(err)
		}
		if held, _, err := storeLease(ctx, s, id, "token", time.Minute, time.Hour); !held {
			t.Fatal(err)
		}
	}
	s.recentChanges = nil
	server.kill()
	for _, id := range []string{"one", "ended"} {
		_, err := storeSet(ctx, s, id, sealedAs("new "+id), sealedAs("old " + id)[:validatorLength], time.Hour, "", "ada")
		wantWords(t, err, "connection refused")
	}
	server.start(t)
	tellRedis(t, redisConfigAt(server.address), "DEL", "app:session:{ended}")
	wantSession(t, s, "nobody", "")
	wantSession(t, s, "one", sealedAs("new one"))
	wantSession(t, s, "ended", "")
	if held, _, err := storeLease(ctx, s, "one", "another", time.Minute, time.Hour); !held {
		t.Errorf("what was written did not end the lease: %v", err)
	}
}

// TestStoreRecent: what is remembered has an end in time and in bytes.
func TestStoreRecent(t *testing.T) {
	s := &store{redis: &redisClient{}}
	big := strings.Repeat("x", 100<<10)
	for i := 0; i < 50; i++ {
		recordChange(s, &change{id: fmt.Sprint(i), value: big}, true)
	}
	if len(s.recentChanges) == 0 || len(s.recentChanges) > 41 || s.changeBytes > replayBytes || s.recentChanges[len(s.recentChanges)-1].id != "49" {
		t.Errorf("%d remembered, %d bytes", len(s.recentChanges), s.changeBytes)
	}
	for _, w := range s.recentChanges {
		w.doneAt = time.Now().Add(-time.Minute)
	}
	recordChange(s, &change{id: "not written"}, false)
	if len(s.recentChanges) < 5 {
		t.Error("what was written before Redis went away is forgotten")
	}
	recordChange(s, &change{id: "written"}, true)
	if len(s.recentChanges) != 2 || s.changeBytes != 2*changeCost {
		t.Errorf("after a minute: %d remembered, %d bytes", len(s.recentChanges), s.changeBytes)
	}
}

// TestStoreSentinelSwitch: during a planned failover the old master still takes writes, which the new one never gets. None of them, and no
// sign-out, is lost.
func TestStoreSentinelSwitch(t *testing.T) {
	passwords := []string{"--requirepass", "pw", "--masterauth", "pw"}
	one := startRedis(t, passwords...)
	_, port, _ := net.SplitHostPort(one.address)
	two := startRedis(t, append(passwords, "--replicaof", "127.0.0.1 "+port)...)
	config := &RedisConfig{Password: "pw", Sentinel: &SentinelConfig{MasterSet: "main", Password: "guard"}}
	for _, p := range startSentinels(t, one) {
		config.Endpoints = append(config.Endpoints, p.address)
	}
	guard := &RedisConfig{Endpoints: config.Endpoints[:1], Password: "guard"}
	direct := func(p *redisProcess) *RedisConfig {
		return &RedisConfig{Endpoints: []string{p.address}, Password: "pw"}
	}
	waitUntil(t, "Sentinels know each other and the replica", func() bool {
		return strings.Contains(askRedis(t, guard, "INFO", "sentinel"), "slaves=1,sentinels=3") &&
			strings.Contains(askRedis(t, direct(two), "INFO", "replication"), "master_link_status:up")
	})
	s := settlingStore(t, config, time.Second)
	ctx := context.Background()
	var in, out, all []string
	for i := 0; i < 3000; i++ {
		all = append(all, fmt.Sprint("before", i))
		if err := putSession(ctx, s, all[i], sealedAs(all[i]), time.Hour, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(500 * time.Millisecond) // the replica has them
	waitUntil(t, "a failover by command", func() bool {
		reply, err := redisDo(ctx, redisAt(t, guard, time.Second), "", "SENTINEL", "FAILOVER", "main")
		return err == nil && reply == "OK"
	})
	end := time.Now().Add(20 * time.Second)
	for i := 0; i < 3000 && time.Now().Before(end); i++ {
		id := fmt.Sprint("new", i)
		if putSession(ctx, s, id, sealedAs(id), time.Hour, "", "") == nil {
			in = append(in, id)
		}
		if storeDelete(ctx, s, all[i]) == nil {
			out = append(out, all[i])
		}
		time.Sleep(time.Millisecond)
		if i%100 == 0 && strings.HasPrefix(askRedis(t, direct(two), "ROLE"), "[master") && time.Until(end) > 4*time.Second {
			end = time.Now().Add(3 * time.Second)
		}
	}
	waitUntil(t, "Sentinel names the new master", func() bool { // on a busy machine that takes long, or is given up
		if strings.HasPrefix(askRedis(t, direct(two), "ROLE"), "[slave") {
			_, _ = redisDo(ctx, redisAt(t, guard, time.Second), "", "SENTINEL", "FAILOVER", "main")
		}
		_, port, _ := net.SplitHostPort(two.address)
		return strings.Contains(askRedis(t, guard, "SENTINEL", "get-master-addr-by-name", "main"), port)
	})
	time.Sleep(2 * redisRecheck)
	waitUntil(t, "all is written again", func() bool { // a part of it at a time
		_, _, _ = getSession(ctx, s, "anybody")
		time.Sleep(redisRecheck / 2)
		s.mu.Lock()
		left := len(s.pendingChanges)
		s.mu.Unlock()
		lockRedis()
		defer unlockRedis()
		return left == 0 && !s.redis.mayHaveLostWrites
	})
	fresh := realStore(t, direct(two), time.Second)
	undone, lost := 0, 0
	for _, id := range out {
		if value, _, _ := getSession(ctx, fresh, id); value != "" {
			undone++
		}
	}
	for _, id := range in {
		if value, _, _ := getSession(ctx, fresh, id); value == "" {
			lost++
		}
	}
	t.Logf("%d sign-ins, %d sign-outs; %s", len(in), len(out), strings.Join(captured.of(s.log.name), "\n"))
	if undone+lost > 0 {
		t.Errorf("of %d sign-outs %d are undone, of %d sign-ins %d are lost", len(out), undone, len(in), lost)
	}
}

// TestStoreIndexIsBounded: however often a user signs in, a pushed logout finds all sessions there are: of more than maxIndexed those end
// that would end first.
func TestStoreIndexIsBounded(t *testing.T) {
	server := startRedis(t)
	s := realStore(t, redisConfigAt(server.address), 5*time.Second)
	ctx := context.Background()
	for i := 0; i < maxIndexed+25; i++ {
		if err := putSession(ctx, s, fmt.Sprint("s", i), "x", time.Hour+time.Duration(i)*time.Second, "", "ada"); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := storeFind(ctx, s, "", "ada")
	if len(ids) != maxIndexed || err != nil {
		t.Errorf("the index has %d sessions, %v", len(ids), err)
	}
	keys, err := redisDo(ctx, s.redis, "", "KEYS", "app:session:*")
	if len(stringsOf(keys)) != maxIndexed || err != nil {
		t.Errorf("there are %d sessions", len(stringsOf(keys)))
	}
	wantSession(t, s, "s0", "")
	if n, err := deleteStoredOf(ctx, s, "", "ada"); n != maxIndexed || err != nil {
		t.Errorf("a pushed logout ended %d sessions, %v", n, err)
	}
	if keys, _ := redisDo(ctx, s.redis, "", "KEYS", "app:session:*"); len(stringsOf(keys)) != 0 {
		t.Errorf("after a pushed logout there are %d sessions", len(stringsOf(keys)))
	}
}

// TestStoreEviction: a Redis that evicts what ends first evicts sessions, their leases with them, and never the index of a session that is
// there.
func TestStoreEviction(t *testing.T) {
	server := startRedis(t, "--maxmemory", "4mb", "--maxmemory-policy", "volatile-ttl", "--maxmemory-samples", "20")
	s := settlingStore(t, redisConfigAt(server.address), 5*time.Second)
	s.redis.mayHaveLostWrites = true
	ctx := context.Background()
	for i := 0; i < 4000; i++ {
		id := fmt.Sprint("s", i)
		if err := putSession(ctx, s, id, sealedAs(id)+strings.Repeat("x", 1000), time.Hour, "", "user "+id); err != nil {
			t.Fatal(err)
		}
		if held, value, err := storeLease(ctx, s, id, "mine", time.Second, time.Hour); !held || err != nil || value == "" {
			t.Fatal(held, err)
		}
	}
	left, found := 0, 0
	for i := 0; i < 4000; i++ {
		id := fmt.Sprint("s", i)
		value, _, _ := getSession(ctx, s, id)
		if value == "" {
			continue
		}
		left++
		if ids, _ := storeFind(ctx, s, "", "user "+id); len(ids) == 1 {
			found++
		}
	}
	t.Logf("%d sessions are left of 4000, %d are found by their index", left, found)
	if left == 0 || left == 4000 || found != left {
		t.Errorf("%d sessions are left of 4000, %d are found by their index", left, found)
	}
	if said := strings.Join(captured.of(s.log.name), "\n"); !interpreted() &&
		(!strings.Contains(said, `maxmemory-policy is "volatile-ttl"`) || !strings.Contains(said, "appendonly is off") ||
			strings.Count(said, "can lose sessions") != 1) {
		t.Errorf("the log says %s", said)
	}
}

// TestStoreIndexTellsWhatItCouldNotEnd: a sign-in beyond maxIndexed, for which an older session could not be ended, fails: else that one could be found no more.
func TestStoreIndexTellsWhatItCouldNotEnd(t *testing.T) {
	f := newFakeRedis(t, func(args []string) string {
		if args[0] == "EVAL" && args[1] == indexScript {
			return array(bulk("older"))
		}
		return "-ERR refused\r\n"
	})
	s := &store{redis: redisAt(t, redisConfigAt(f.address), time.Second), scopes: []string{"scope"}}
	err := storeIndex(context.Background(), s, &change{id: "new", indexes: []string{"sub:{x}"}, end: time.Now().Add(time.Hour)})
	wantWords(t, err, `answered "ERR"`)
}

// TestStoreKeepsTheLastMarks: of more sign-outs than are kept the oldest are forgotten.
func TestStoreKeepsTheLastMarks(t *testing.T) {
	s := &store{}
	for i := 0; i < maxRecentLogouts+5; i++ {
		recordLogouts(s, []string{fmt.Sprint(i)})
	}
	if len(s.recentLogouts) != maxRecentLogouts || s.recentLogouts[0] != "5" || s.recentLogouts[maxRecentLogouts-1] != fmt.Sprint(maxRecentLogouts+4) {
		t.Errorf("%d sign-outs, from %s to %s", len(s.recentLogouts), s.recentLogouts[0], s.recentLogouts[len(s.recentLogouts)-1])
	}
}

// TestStoreIsNotSettled while something is left to be written again.
func TestStoreIsNotSettled(t *testing.T) {
	f := newFakeRedis(t, func(args []string) string { return "-ERR refused\r\n" })
	s := &store{redis: redisAt(t, redisConfigAt(f.address), time.Second),
		recentChanges: []*change{{id: "one", value: "x", end: time.Now().Add(time.Hour)}}}
	s.syncLogouts = func(ctx context.Context, told []string) (int64, error) { return 0, nil }
	if err := replayChanges(s, true); !errors.Is(err, errUnavailable) || len(s.pendingChanges) != 1 {
		t.Errorf("%v, %d are left", err, len(s.pendingChanges))
	}
	f.say(func(args []string) string { return ":0\r\n" })
	if err := replayChanges(s, true); err != nil || len(s.pendingChanges) != 0 {
		t.Errorf("Redis is back: %v, %d are left", err, len(s.pendingChanges))
	}
}

// TestStoreWarnsOfSettings: what Redis says of itself is warned about once, when it loses something.
func TestStoreWarnsOfSettings(t *testing.T) {
	inThisProcess(t)
	info := ""
	f := newFakeRedis(t, func(args []string) string { return bulk("# Server\r\n" + info) })
	s := &store{redis: redisAt(t, redisConfigAt(f.address), time.Second), log: newLogger("login0-"+f.address[len("127.0.0.1:"):]+"@file", "info")}
	for _, row := range []struct{ info, want string }{
		{"", ""},
		{"maxmemory_policy:noeviction\r\naof_enabled:1\r\n", ""},
		{"maxmemory_policy:allkeys-lru\r\naof_enabled:1\r\n", `maxmemory-policy is "allkeys-lru"`},
		{"maxmemory_policy:allkeys-lru\r\naof_enabled:1\r\n", ""},
		{"maxmemory_policy:noeviction\r\naof_enabled:0\r\n", "lose sessions; appendonly is off"},
	} {
		info = row.info
		before := len(captured.of(s.log.name))
		checkRedisSettings(context.Background(), s)
		said := strings.Join(captured.of(s.log.name)[before:], "")
		if (said == "") != (row.want == "") || !strings.Contains(said, row.want) {
			t.Errorf("%q: got %q", row.info, said)
		}
	}
}
