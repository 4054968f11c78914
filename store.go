package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"time"
)

// What is kept in Redis, and under which keys. Each begins with keyPrefix, each command and script has one key, so that all of
// it works in a cluster, and each key has an expiry, so that nothing has to be cleaned up.
//
//	session:{<id>}  the value of a session, as it was sealed; the key to it is in the browser's cookie, not here
//	lease:{<id>}    the token of whoever refreshes that session
//	sid:{<hash>}    sorted set of session ids by the end of the session, for a logout the provider pushes (Back-Channel Logout 2.5)
//	sub:{<hash>}    the same by user
//	seen:{<hash>}   what may be used once, such as the jti of a logout token
//
// Names, subjects and the provider's session ids are in no key, only hashes of them with a name of the secret that seals the sessions:
// whoever reads the keys learns how many there are, and nothing else.

// store is the sessions of one client at one provider.
type store struct {
	redis  *redisClient
	prefix string
	scopes []string // names of the secrets, the current one's first: what others call by the same sub or sid is somebody else
}

// newStore makes the store of the options; every error names the option below the block. It needs no network.
func newStore(rc *RedisConfig, keyPrefix string, scopes []string, timeoutSeconds int) (*store, error) {
	c, err := newRedis(rc, time.Duration(timeoutSeconds)*time.Second)
	if err != nil {
		return nil, err
	}
	return &store{redis: c, prefix: keyPrefix, scopes: scopes}, nil
}

// storeGet returns a session's value, "" when it has ended or never was. An error means that Redis itself failed.
func storeGet(ctx context.Context, s *store, id string) (string, error) {
	key := s.prefix + "session:{" + id + "}"
	reply, err := redisDo(ctx, s.redis, key, "GET", key)
	return text(reply), err
}

// sealHead is how much of a value tells it from every other: the nonce of its seal is in there (seal.go).
const sealHead = 32

// storeQuestion is the command that reads the beginning of a session's value, as it is sent, and the slot of its key.
func storeQuestion(s *store, id string) (request string, slot int) {
	key := s.prefix + "session:{" + id + "}"
	return redisRequest([]string{"GETRANGE", key, "0", strconv.Itoa(sealHead - 1)}), redisSlot(s.redis, key)
}

// storeAnswer is the reply to that question for a value.
func storeAnswer(sealed string) string { return redisBulk(sealed[:sealHead]) }

// storeSet keeps a session for ttl, to be found by sid and sub where they are not empty. With the flag XX it replaces one that is there,
// and returns false when it is there no more: who was logged out while another request refreshed the session must not be signed in again
// by its result. The indexes are written first: a session that cannot be found cannot be logged out, an index entry without its session
// does no harm.
func storeSet(ctx context.Context, s *store, id, sealed string, ttl time.Duration, sid, sub string, flags ...string) (bool, error) {
	for _, index := range [][2]string{{"sid", sid}, {"sub", sub}} {
		if index[1] == "" {
			continue
		}
		if err := storeEval(ctx, s, hashedKey(s.scopes[0], index[0], index[1]), indexScript, id, milliseconds(ttl)); err != nil {
			return false, err
		}
	}
	reply, err := storeDo(ctx, s, "session:{"+id+"}", "SET", append([]string{sealed, "PX", milliseconds(ttl)}, flags...)...)
	return reply != nil, err
}

// storeDelete ends a session. Its entries in the indexes stay until it would have ended anyway.
func storeDelete(ctx context.Context, s *store, id string) error {
	_, err := storeDo(ctx, s, "session:{"+id+"}", "DEL")
	return err
}

// storeFind returns the ids of the sessions that a pushed logout means: those of sid if it is given, which must be of
// sub where both are, else all of sub (Back-Channel Logout 2.5). Some of them may have ended already.
func storeFind(ctx context.Context, s *store, sid, sub string) ([]string, error) {
	kind, name := "sid", sid
	if sid == "" {
		kind, name = "sub", sub
	}
	var found []string
	for _, scope := range s.scopes { // a session that was sealed with a previous secret is found under it
		reply, err := storeDo(ctx, s, hashedKey(scope, kind, name), "ZRANGE", "0", "-1")
		if err != nil {
			return nil, err
		}
		found = append(found, texts(reply)...)
	}
	if sid == "" || sub == "" || len(found) == 0 {
		return found, nil
	}
	both := []string{}
	all, err := storeFind(ctx, s, "", sub)
	for _, id := range found {
		if has(all, id) {
			both = append(both, id)
		}
	}
	return both, err
}

// indexScript adds ARGV[1], which ends in ARGV[2] milliseconds, drops what has ended, and lets the set end with its last
// member. It is one step, because a shorter session written at the same time must not shorten the life of the set. The
// time is Redis's own: the clocks of replicas differ. ZADD comes first, because a full Redis refuses only a script's first write.
const indexScript = `local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIREAT', KEYS[1], redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2])
return 1`

// storeLease lets one of all replicas work on a session: true for the first to come, and for whoever has its token (the answer to a
// first attempt may have been lost), until it is released or ttl has passed. ttl is longer than the work may take, so that only the
// death of its holder ends it.
func storeLease(ctx context.Context, s *store, id, token string, ttl time.Duration) (bool, error) {
	reply, err := storeDo(ctx, s, "lease:{"+id+"}", "SET", token, "PX", milliseconds(ttl), "NX")
	if reply != nil || err != nil {
		return err == nil, err
	}
	reply, err = storeDo(ctx, s, "lease:{"+id+"}", "GET")
	return text(reply) == token, err
}

// storeRelease gives the lease back, if it is still ours: in one step, for the next holder may take it at any time.
func storeRelease(ctx context.Context, s *store, id, token string) error {
	return storeEval(ctx, s, "lease:{"+id+"}", `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`, token)
}

// storeDo sends a command whose first argument is the key.
func storeDo(ctx context.Context, s *store, key, command string, rest ...string) (any, error) {
	key = s.prefix + key
	return redisDo(ctx, s.redis, key, append([]string{command, key}, rest...)...)
}

// storeEval runs a script on one key. It may be run twice (see redisRepeatable).
func storeEval(ctx context.Context, s *store, key, script string, args ...string) error {
	key = s.prefix + key
	_, err := redisDo(ctx, s.redis, key, append([]string{"EVAL", script, "1", key}, args...)...)
	return err
}

// hashedKey is a key for a foreign name. Lengths need no marking: only the name, which comes last, is free of choice.
func hashedKey(scope, kind, name string) string {
	sum := sha256.Sum256([]byte(scope + "\n" + kind + "\n" + name))
	return kind + ":{" + base64.RawURLEncoding.EncodeToString(sum[:]) + "}"
}

// milliseconds is a lifetime as Redis wants it; it refuses 0.
func milliseconds(ttl time.Duration) string {
	if ttl < time.Millisecond {
		ttl = time.Millisecond
	}
	return strconv.FormatInt(ttl.Milliseconds(), 10)
}
