package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// What is kept in Redis, and under which keys. All keys begin with keyPrefix. Every command and script uses one key, or two in one slot, so
// all of it works in a cluster. Every key expires, so nothing has to be cleaned up.
//
//	session:{<id>}  a sealed session; the key to it is in the browser's cookie, not here. The lease of the replica that works on the session
//	                follows in the same value, so that neither can be evicted, or lost in a failover, without the other
//	gone:{<id>}     the session was deleted a moment ago: a replay of writes that a failover may have lost must not bring it back
//	out:{<hash>}    sorted set of sealed sign-outs by the time they were written, from which replicas learn of each other's
//	sid:{<hash>}    sorted set of session IDs by the end of the session, for a logout that the provider sends (Back-Channel Logout 2.5)
//	sub:{<hash>}    the same by user
//	seen:{<hash>}   what may be used only once, such as the jti of a logout token
//
// No key holds a name, a subject or the provider's session ID, only a hash of it with a name derived from the secret that seals the
// sessions. Whoever reads the keys learns how many there are, and nothing else.

// store holds the sessions of one client at one provider.
type store struct {
	redis          *redisClient
	prefix         string
	scopes         []string // names derived from the secrets, the current one first: the same sub or sid under another secret is somebody else
	log            *logger
	logoutLifetime time.Duration // how long sign-outs are kept: the longest session.expiry

	mu             sync.Mutex
	syncLogouts    logoutSync // of one of the session managers that share this store; a function, because the interpreter cannot handle circular types
	syncedUntil    int64      // the last sign-outs that were read, in milliseconds of Redis's clock
	pendingChanges []*change  // still to be replayed
	recentChanges  []*change  // the last changes to sessions, oldest first
	changeBytes    int        // size of recentChanges
	recentLogouts  []string   // the last sign-outs, sealed
	warnedSettings string     // the last warning about the settings of Redis
}

// logoutSync is syncLogouts, bound to one sessionManager.
type logoutSync func(ctx context.Context, logouts []string) (added int64, err error)

// change is a change to a session, whether it succeeded or not. A failover loses what had not reached the new master, and a restart what was
// not on disk. Such changes are replayed as soon as Redis is back.
type change struct {
	id, value, before string // no value: deleted. before is the beginning of the value that it replaced, "" for a new session
	end               time.Time
	indexes           []string
	doneAt            time.Time
}

const (
	replayWindow     = 10 * time.Second
	replayBytes      = 4 << 20
	maxRecentLogouts = 1000
	maxIndexed       = 1000 // sessions of one user; beyond that, those closest to their end are ended
)

// newStore makes the store that the options describe. It needs no network. Every error names the option within the block.
func newStore(rc *RedisConfig, keyPrefix string, scopes []string, timeoutSeconds int) (*store, error) {
	c, err := newRedis(rc, time.Duration(timeoutSeconds)*time.Second)
	if err != nil {
		return nil, err
	}
	return &store{redis: c, prefix: keyPrefix, scopes: scopes}, nil
}

// storeGet returns a session's value, "" if it has ended or never existed. An error means that Redis itself failed.
func storeGet(ctx context.Context, s *store, id string) (string, error) {
	reply, err := storeDo(ctx, s, "session:{"+id+"}", "GET")
	value, _, _ := cut(stringOf(reply), "|") // the lease follows
	return value, err
}

// validatorLength is how many bytes identify a value: they contain the random nonce of its seal (seal.go).
const validatorLength = 32 // what is asked for ends with byte 31, here and in replayScript

// storeValidation is the command that reads the beginning of a session's value, and expects it to be as it was.
func storeValidation(s *store, id, validator string) *redisCall {
	key := s.prefix + "session:{" + id + "}"
	return &redisCall{name: "GETRANGE", request: redisRequest([]string{"GETRANGE", key, "0", "31"}), expectedReply: validator, slot: redisSlot(s.redis, key), timeout: s.redis.timeout}
}

// storeValidator is the reply to storeValidation for a value.
func storeValidator(sealed string) string { return redisBulk(sealed[:validatorLength]) }

// storeSet keeps a session for ttl, and indexes it by sid and sub unless they are empty. before is the beginning of the value that it
// replaces. With it, storeSet returns false if the session no longer exists: a refresh must not sign in again a user who was logged out
// meanwhile. The indexes are written first, because a session that is not in them cannot be logged out, while an index entry without a
// session is harmless.
func storeSet(ctx context.Context, s *store, id, sealed, before string, ttl time.Duration, sid, sub string) (bool, error) {
	w := &change{id: id, value: sealed, before: before, end: timeNow().Add(ttl)}
	for _, index := range [][2]string{{"sid", sid}, {"sub", sub}} {
		if index[1] != "" {
			w.indexes = append(w.indexes, hashedKey(s.scopes[0], index[0], index[1]))
		}
	}
	args := []string{sealed, "PX", milliseconds(ttl)}
	if before != "" {
		args = append(args, "XX")
	}
	err := storeIndex(ctx, s, w)
	var reply any
	if err == nil {
		reply, err = storeDo(ctx, s, "session:{"+id+"}", "SET", args...)
	}
	if reply != nil || before != "" && errors.Is(err, errUnavailable) { // refreshed tokens must not be lost
		recordChange(s, w, err == nil)
	}
	return reply != nil, err
}

// storeIndex indexes a session. A user may have maxIndexed sessions. Further ones push out those closest to their end, which are deleted: a
// session that is in no index could not be logged out.
func storeIndex(ctx context.Context, s *store, w *change) error {
	for _, index := range w.indexes {
		reply, err := storeEval(ctx, s, index, indexScript, w.id, milliseconds(time.Until(w.end)), strconv.Itoa(maxIndexed))
		for _, id := range stringsOf(reply) {
			err = firstError(err, storeDelete(ctx, s, id))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// storeDelete ends a session. Its index entries stay until it would have ended anyway.
func storeDelete(ctx context.Context, s *store, id string) error {
	w := &change{id: id}
	_, err := replayChange(ctx, s, w)
	recordChange(s, w, err == nil)
	return err
}

// replayChange deletes a session, or writes it if its entry is still the one that the change replaces: later changes, sign-outs among them,
// win. It reports whether anything changed, and is idempotent.
func replayChange(ctx context.Context, s *store, w *change) (bool, error) {
	key := s.prefix + "session:{" + w.id + "}"
	gone := s.prefix + "gone:{" + w.id + "}"
	reply, err := redisDo(ctx, s.redis, key, "EVAL", replayScript, "2", key, gone, w.before, w.value, milliseconds(time.Until(w.end)))
	return reply == int64(1), err
}

const replayScript = `if ARGV[2] == '' then
local was = redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], '1', 'PX', 60000)
return was
end
if redis.call('GET', KEYS[2]) or redis.call('GETRANGE', KEYS[1], 0, 31) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`

// recordChange records a change that was made, or is to be made once Redis is back. While Redis accepts nothing, no change is dropped for its
// age.
func recordChange(s *store, w *change, isDone bool) {
	w.doneAt = timeNow()
	s.mu.Lock()
	s.recentChanges = append(s.recentChanges, w)
	s.changeBytes += changeCost + len(w.value)
	for len(s.recentChanges) > 0 && (s.changeBytes > replayBytes || isDone && w.doneAt.Sub(s.recentChanges[0].doneAt) > replayWindow) {
		s.changeBytes -= changeCost + len(s.recentChanges[0].value)
		s.recentChanges = s.recentChanges[1:]
	}
	s.mu.Unlock()
	if !isDone {
		redisNoteLostWrites(s.redis)
	}
}

const changeCost = 512 // bytes of an entry, without its value

// replayChanges reads the sign-outs of other replicas. If Redis may have lost the writes of the last seconds, or could not accept them, it
// first writes them again, and warns about settings by which Redis loses more.
func replayChanges(s *store, isLost bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.redis.timeout/4)
	defer cancel()
	s.mu.Lock()
	if isLost && len(s.pendingChanges) == 0 {
		s.pendingChanges = s.recentChanges
	}
	left, logouts, exchange := s.pendingChanges, s.recentLogouts, s.syncLogouts
	s.mu.Unlock()
	if !isLost {
		_, err := exchange(ctx, nil)
		return err
	}
	isGone := map[string]bool{}
	for _, w := range left {
		isGone[w.id] = isGone[w.id] || w.value == ""
	}
	lost := 0
	for ; len(left) > 0; left = left[1:] {
		w := left[0]
		wasLost := false
		err := storeIndex(ctx, s, w)
		if err == nil && (w.value == "" || !isGone[w.id]) {
			wasLost, err = replayChange(ctx, s, w)
		}
		if err != nil {
			break
		}
		if wasLost {
			lost++
		}
	}
	s.mu.Lock()
	s.pendingChanges = left // the next call goes on here
	s.mu.Unlock()
	added, err := exchange(ctx, logouts)
	if lost > 0 || added > 0 {
		logf(s.log, levelWarn, "session.store.redis: %d changes of sessions and %d sign-outs were not in Redis and were written again: a failover, a restart or an outage lost them", lost, added)
	}
	checkRedisSettings(ctx, s)
	if err == nil && len(left) > 0 {
		err = errUnavailable // some changes are left
	}
	return err
}

// checkRedisSettings warns about settings of Redis by which sessions or sign-outs get lost. The user may lack the permission to ask.
func checkRedisSettings(ctx context.Context, s *store) {
	reply, err := redisDo(ctx, s.redis, s.prefix, "INFO")
	if err != nil {
		return
	}
	_, rest, _ := cut(stringOf(reply), "\nmaxmemory_policy:")
	policy, _, _ := cut(rest, "\r\n")
	judgment := ""
	if policy != "" && policy != "noeviction" {
		judgment = fmt.Sprintf("; maxmemory-policy is %q: when it is full it throws out sessions, and the index by which a logout finds them; set noeviction", forLog(policy))
	}
	if containsText(stringOf(reply), "\naof_enabled:0") {
		judgment += "; appendonly is off: a restart forgets the last sign-ins, or brings back who had signed out; set appendonly yes"
	}
	s.mu.Lock()
	isNew := judgment != s.warnedSettings
	s.warnedSettings = judgment
	s.mu.Unlock()
	if isNew && judgment != "" {
		logf(s.log, levelWarn, "session.store.redis: Redis can lose sessions%s", judgment)
	}
}

// storeLogouts adds the sign-outs that are not there yet, and returns how many it added, with all that were written since a time. Times are
// in milliseconds of Redis's clock.
func storeLogouts(ctx context.Context, s *store, since int64, logouts []string) (now, added int64, found []string, err error) {
	now, added = 0, 0
	found = nil // alone: the interpreter cannot assign nil among others
	s.mu.Lock()
	life := s.logoutLifetime
	s.mu.Unlock()
	args := append([]string{strconv.FormatInt(since, 10), milliseconds(life), strconv.Itoa(maxRecentLogouts)}, logouts...)
	reply, err := storeEval(ctx, s, hashedKey("", "out", ""), logoutsScript, args...)
	if parts, _ := reply.([]any); len(parts) == 3 {
		now, _ = parts[0].(int64)
		added, _ = parts[1].(int64)
		found = stringsOf(parts[2])
	}
	return now, added, found, err
}

// recordLogouts keeps sign-outs, in case Redis loses them.
func recordLogouts(s *store, logouts []string) {
	s.mu.Lock()
	s.recentLogouts = append(s.recentLogouts, logouts...)
	if more := len(s.recentLogouts) - maxRecentLogouts; more > 0 {
		s.recentLogouts = s.recentLogouts[more:]
	}
	s.mu.Unlock()
}

const logoutsScript = `local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local added = 0
for i = 4, #ARGV do added = added + redis.call('ZADD', KEYS[1], 'NX', now, ARGV[i]) end
if added > 0 then
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[3])
redis.call('PEXPIREAT', KEYS[1], now + ARGV[2])
end
return {now, added, redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf')}`

// storeFind returns the IDs of the sessions that a logout token names: those of sid if it is given (and of sub, if both are), otherwise all
// of sub (Back-Channel Logout 2.5). Some of them may have ended already.
func storeFind(ctx context.Context, s *store, sid, sub string) ([]string, error) {
	kind, name := "sid", sid
	if sid == "" {
		kind, name = "sub", sub
	}
	var found []string
	for _, scope := range s.scopes { // a session that was sealed with a previous secret is indexed under that one
		reply, err := storeDo(ctx, s, hashedKey(scope, kind, name), "ZRANGE", "0", "-1")
		if err != nil {
			return nil, err
		}
		found = append(found, stringsOf(reply)...)
	}
	if sid == "" || sub == "" || len(found) == 0 {
		return found, nil
	}
	both := []string{}
	all, err := storeFind(ctx, s, "", sub)
	for _, id := range found {
		if contains(all, id) {
			both = append(both, id)
		}
	}
	return both, err
}

// indexScript adds ARGV[1], which ends in ARGV[2] milliseconds, removes what has ended, and removes and returns the members beyond ARGV[3].
// The set lives twice as long as its last member, so that a Redis that evicts what expires first evicts the sessions before their index. It
// is one script, because a shorter session written at the same time must not shorten the life of the set. The time is Redis's own, as the
// clocks of replicas differ. ZADD comes first, because a full Redis refuses only a script's first write.
const indexScript = `local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local over = redis.call('ZRANGE', KEYS[1], 0, -1 - ARGV[3])
if #over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[3]) end
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
redis.call('PEXPIREAT', KEYS[1], now + 2 * (last - now))
return over`

// storeLease lets only one of all replicas work on a session. The first to ask holds the lease, and so does a repeated request with the same
// token (the reply to the first may have been lost). The lease ends when the session is written, when it is released with a ttl of 0, or
// when ttl has passed. ttl is longer than the work may take, so it only matters if the holder dies. storeLease also returns the session's
// value, "" if it has ended.
func storeLease(ctx context.Context, s *store, id, token string, ttl, life time.Duration) (held bool, value string, err error) {
	reply, err := storeEval(ctx, s, "session:{"+id+"}", leaseScript, token, strconv.FormatInt(ttl.Milliseconds(), 10), milliseconds(life))
	answer, _ := reply.([]any)
	if len(answer) != 2 {
		return false, "", err
	}
	return answer[0] == int64(1), stringOf(answer[1]), err
}

// leaseScript keeps the entry's expiry, or sets it to ARGV[3] milliseconds if the Redis user may not read it.
const leaseScript = `local entry = redis.call('GET', KEYS[1])
if not entry then return entry end
local value, holder, till = entry:match('^([^|]*)|?([^|]*)|?(%d*)$')
if not value then return {0, entry} end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if holder ~= ARGV[1] and (ARGV[2] == '0' or now < (tonumber(till) or 0)) then return {0, value} end
local left = redis.pcall('PTTL', KEYS[1])
if type(left) ~= 'number' or left < 1 then left = ARGV[3] end
entry = value
if ARGV[2] ~= '0' then entry = value .. '|' .. ARGV[1] .. '|' .. string.format('%.0f', now + ARGV[2]) end
redis.call('SET', KEYS[1], entry, 'PX', left)
return {1, value}`

// storeDo sends a command whose first argument is the key.
func storeDo(ctx context.Context, s *store, key, command string, rest ...string) (any, error) {
	key = s.prefix + key
	return redisDo(ctx, s.redis, key, append([]string{command, key}, rest...)...)
}

// storeEval runs a script on one key. It may be run twice (see redisRepeatable).
func storeEval(ctx context.Context, s *store, key, script string, args ...string) (any, error) {
	key = s.prefix + key
	return redisDo(ctx, s.redis, key, append([]string{"EVAL", script, "1", key}, args...)...)
}

// hashedKey is the key for a name from outside. The parts need no length prefix: only the last one, the name, can be chosen freely.
func hashedKey(scope, kind, name string) string {
	sum := sha256.Sum256([]byte(scope + "\n" + kind + "\n" + name))
	return kind + ":{" + base64.RawURLEncoding.EncodeToString(sum[:]) + "}"
}

// milliseconds is a lifetime as Redis expects it. Redis refuses 0.
func milliseconds(ttl time.Duration) string {
	if ttl < time.Millisecond {
		ttl = time.Millisecond
	}
	return strconv.FormatInt(ttl.Milliseconds(), 10)
}
