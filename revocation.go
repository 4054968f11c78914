package oidc

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

// Revoked sessions: the lists of sign-outs in this process, and how replicas exchange theirs.

// isRevoked reports whether this process knows of a logout of a session at start (in milliseconds) or later. It is called before and after a
// principal is cached: a logout in between either finds the principal to remove it, or is found by the second call.
func isRevoked(c *clientState, id, sid, sub string, start int64) bool {
	keys := []string{"sid:" + sid, "id:" + id, "both:" + sid + "\x00" + sub, "sub:" + sub}
	return (cacheHasAny(c.revoked, keys) || cacheHasAny(c.frontchannelLogouts, keys[:1])) && isListed(c, keys, start)
}

// isListed is isRevoked for the few sessions of which a key is in a list.
func isListed(c *clientState, keys []string, start int64) bool {
	listed := []any{cacheGet(c.frontchannelLogouts, keys[0])}
	for _, key := range keys {
		listed = append(listed, cacheGet(c.revoked, key))
	}
	for _, entry := range listed {
		if at, isTime := entry.(int64); isTime && start <= at {
			return true
		}
	}
	return listed[2] != nil // the session itself was ended; no need to compare clocks, which may be another replica's
}

// revoke adds a key to a list of logouts, and removes the principals of the sessions that it names. The entry is needed for session.expiry
// seconds: a session that was logged out is not renewed, so its cookies are not valid for longer.
func revoke(sm *sessionManager, list *boundedCache, key string, at int64) {
	now := timeNow()
	cacheSet(list, key, at, 0)
	kind, name, _ := cut(key, ":")
	if kind == "both" { // principals are indexed by sid alone; isRevoked also compares the sub
		kind = "sid"
	}
	name, _, _ = cut(name, "\x00")
	removeByName(sm.state, kind, name)
	sm.state.revoked.mu.RLock()
	expiry := time.Duration(sm.state.maxExpiry) * time.Second
	sm.state.revoked.mu.RUnlock()
	list.mu.Lock()
	defer list.mu.Unlock()
	if now.Sub(list.evictedUpTo) < expiry {
		logf(sm.log, levelWarn, "logout list: full: more than %d logouts in session.expiry (%.0f s), the oldest are forgotten; use session.store.redis", len(list.old), expiry.Seconds())
		list.evictedUpTo = time.Time{} // warned once
	}
}

// publishLogouts tells the other replicas which sessions were ended. Usually they are gone from the store already. But if an index was
// evicted, they were not found, and a failover or a restart may bring them back. The entries are sealed, so Redis learns no names.
func publishLogouts(ctx context.Context, sm *sessionManager, keys []string) error {
	if sm.store == nil || keys == nil {
		return nil
	}
	var sealed []string
	for _, key := range keys {
		sealed = append(sealed, seal(sm.sealer, "mark", []byte(fmt.Sprint(sharedClock(sm.state), " ", key))))
	}
	_, err := syncLogouts(ctx, sm, sealed)
	if err == nil {
		recordLogouts(sm.store, sealed)
	}
	return err
}

// syncLogouts writes logouts that are not in the store yet, returns how many it added, and reads those of the other replicas.
func syncLogouts(ctx context.Context, sm *sessionManager, logouts []string) (added int64, err error) {
	s := sm.store
	s.mu.Lock()
	since := s.syncedUntil
	s.mu.Unlock()
	began := timeNow()
	at, added, found, err := storeLogouts(ctx, s, since, logouts)
	if err != nil {
		return 0, err
	}
	checkClock(sm, "Redis", time.UnixMilli(at), began)
	for _, sealed := range found {
		applyLogout(sm, sealed)
	}
	s.mu.Lock()
	s.syncedUntil = at - 1000 // read the last second again: another write may get the same time
	s.mu.Unlock()
	return added, nil
}

// applyLogout applies a sealed logout of another replica, unless it belongs to another middleware or is known.
func applyLogout(sm *sessionManager, sealed string) {
	plain, _, err := open(sm.sealer, "mark", sealed)
	when, key, _ := cut(string(plain), " ")
	at, invalid := strconv.ParseInt(when, 10, 64)
	known, _ := cacheGet(sm.state.revoked, key).(int64) // not in the caller's loop: there the interpreter would keep the value of another key
	if err == nil && invalid == nil && at > known {
		recordLogouts(sm.store, []string{sealed})
		revoke(sm, sm.state.revoked, key, at)
	}
}

// sharedClock is the time by the clock that all replicas share, in milliseconds.
func sharedClock(c *clientState) int64 { return timeNow().UnixMilli() + clockSkewOf(c) }

func clockSkewOf(c *clientState) int64 { return atomic.LoadInt64(&c.clockSkew) }

// checkClock records how much the store's clock differs from ours, and warns if it is much. Replicas date sign-ins and sign-outs by the store's
// clock. Otherwise a replica whose clock is fast would end the session of a user who signs in again after a sign-out.
func checkClock(sm *sessionManager, owner string, theirs, began time.Time) {
	now := timeNow()
	skew := theirs.Sub(began.Add(now.Sub(began) / 2))
	if now.Sub(began) > briefWait || theirs.Unix() == 0 {
		return // the round trip took too long to compare the clocks, or there was no time
	}
	if skew.Abs() < maxClockSkew {
		atomic.StoreInt64(&sm.state.clockSkew, skew.Milliseconds())
	}
	if skew.Abs() > clockWarningSkew && cacheAdd(sm.state.revoked, "clock:"+owner, "") {
		logf(sm.log, levelWarn, "the clock of %s is %s ahead of this Traefik's (behind it, if negative); set both by NTP", owner, skew.Round(time.Second))
	}
}

// logoutTokenUse reports whether any replica has accepted the logout token with this jti before. With a lifetime, it records that this one has.
func logoutTokenUse(ctx context.Context, sm *sessionManager, jti string, lifetime time.Duration) (bool, error) {
	if sm.store == nil {
		return !cacheAdd(sm.state.usedLogoutTokens, jti, ""), nil // at once: without a store, the logout cannot fail
	}
	command := "SET"
	args := []string{"1", "PX", milliseconds(lifetime)}
	if lifetime == 0 {
		command = "GET"
		args = nil
	}
	reply, err := storeDo(ctx, sm.store, hashedKey(sm.store.scopes[0], "seen", "jti "+jti), command, args...)
	return reply != nil, err
}

// hasSessionOf reports whether we have a session with that sid.
func hasSessionOf(ctx context.Context, sm *sessionManager, sid string) (bool, error) {
	if sm.store == nil {
		principalsLock.RLock()
		defer principalsLock.RUnlock()
		return hasSID(recentPrincipals, sm.state, sid) || hasSID(formerPrincipals, sm.state, sid), nil
	}
	found, err := storeFind(ctx, sm.store, sid, "")
	return len(found) > 0, err
}

// hasSID reports whether a half of the cache has a session with that sid. The caller holds principalsLock.
func hasSID(half *principalHalf, of *clientState, sid string) bool {
	for _, key := range half.byName["sid"][sid] {
		if p := half.byKey[key]; p != nil && p.clientState == of {
			return true
		}
	}
	return false
}

// logoutByProvider ends the session sid (only if it belongs to sub, if that is given), or, without sid, all sessions of sub, and records it
// in a list.
func logoutByProvider(ctx context.Context, sm *sessionManager, list *boundedCache, sid, sub string) error {
	key := "sid:" + sid
	if sid == "" {
		key = "sub:" + sub
	} else if sub != "" {
		key = "both:" + sid + "\x00" + sub
	}
	revoke(sm, list, key, sharedClock(sm.state))
	logf(sm.log, levelInfo, "logout by the provider: sid %q sub %q", forLog(sid), forLog(sub))
	if sm.store == nil {
		return nil
	}
	found, err := deleteStoredOf(ctx, sm.store, sid, sub)
	if err != nil || list != sm.state.revoked {
		return err // the provider may try again
	}
	err = publishLogouts(ctx, sm, []string{key}) // last, as the deletions may have made room in a full Redis
	if err != nil && found > 0 {
		logf(sm.log, levelWarn, "logout by the provider: %d sessions were ended, but other replicas were not told: %s", found, err)
		err = nil
	}
	return err
}

// deleteStoredOf ends the sessions that a logout token names, for all replicas, and returns how many there were.
func deleteStoredOf(ctx context.Context, s *store, sid, sub string) (int, error) {
	ids, err := storeFind(ctx, s, sid, sub)
	for _, id := range ids {
		if err == nil {
			err = storeDelete(ctx, s, id)
		}
	}
	return len(ids), err
}
