package oidc

import (
	"context"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Sessions in Redis, for more than one Traefik. The browser's cookie holds a ticket: the name of the session's
// entry and the key to it. The entry is sealed with that key, which the store never sees: whoever reads Redis reads nothing.

const (
	ticketName   = 16 // bytes
	ticketKey    = 32
	leasePause   = 50 * time.Millisecond
	briefWait    = time.Second     // that a request waits for tokens which somebody else refreshes, while those it has are good
	maxClockSkew = 5 * time.Minute // between clocks, that is reckoned with

	clockWarningSkew     = 5 * time.Second  // that is warned about
	endedSessionsReport  = 10               // of which nothing is said, when they end in one minute
	replacedSessionGrace = 30 * time.Second // that a replaced session goes on, for what its browser has under way
)

func ticketID(ticket []byte) string {
	return base64.RawURLEncoding.EncodeToString(ticket[:ticketName])
}

// ticketSealer seals one session's entry.
func ticketSealer(sm *sessionManager, ticket []byte) *sealer {
	return &sealer{context: sm.sealer.context, aeads: []cipher.AEAD{newAEAD(ticket[ticketName:])}}
}

// fetchStored reads the session of a ticket.
func fetchStored(ctx context.Context, sm *sessionManager, ticket []byte) (*session, error) {
	if len(ticket) != ticketName+ticketKey {
		return nil, fmt.Errorf("%w: session cookie: not a ticket", errNoCredentials)
	}
	sealed, err := storeGet(ctx, sm.store, ticketID(ticket))
	if err != nil {
		return nil, err
	}
	return openStored(sm, ticket, sealed)
}

// openStored is the session of a ticket whose entry has this value.
func openStored(sm *sessionManager, ticket []byte, sealed string) (*session, error) {
	id := ticketID(ticket)
	if sealed == "" {
		countEndedSession(sm, "were not in Redis; was it emptied, does it evict, or did it restart without its data?", id)
		return nil, fmt.Errorf("%w: the session is not in the store: it has ended or was logged out", errNoCredentials)
	}
	var s *session
	var err error
	packed, _, err := open(ticketSealer(sm, ticket), id, sealed)
	if err == nil {
		s, err = unpackSession(packed)
	}
	if err == nil {
		err = unpackTokens(s)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: stored session: %s", errNoCredentials, err)
	}
	s.ticket = ticket
	s.validator = storeValidator(sealed)
	return s, nil
}

// revalidate is ServeHTTP, with a store, for a session that was seen before, whose local copy is no longer fresh: while its entry begins as
// it did, there is nothing to open or to judge again, and the copy is good for another while. Every other request goes through serve.
func revalidate(h *handler, rw http.ResponseWriter, req *http.Request) {
	line := req.Header[h.credentialHeader]
	if len(line) != 1 || req.Trailer != nil || h.endpointPaths[req.URL.Path] {
		serve(h, rw, req)
		return
	}
	principalsLock.RLock()
	p := h.hosts[req.Host][line[0]]
	principalsLock.RUnlock()
	if p == nil {
		p = findBySessionCookie(h, req)
	}
	now := time.Now()
	if !now.Before(p.revalidatableUntil) || req.Header.WriteSubset(failingWriter, p.safeHeaders) != nil {
		serve(h, rw, req)
		return
	}
	c := h.middleware.store.redis
	answer, err := redisSend(c, &redisCall{name: "GETRANGE", request: p.validation, expectedReply: p.validator, slot: p.redisSlot, now: now, deadline: now.Add(c.timeout)})
	if answer != p.validator || !extendPrincipal(h.middleware.cache, p, line[0], now) { // answer is nil beside an error
		serveUnvalidated(h, rw, req, now, err)
		return
	}
	for set := p.headers; set != nil; set = set.next {
		req.Header[set.name] = set.values
	}
	req.URL.User = p.user
	h.next.ServeHTTP(rw, req)
}

// serveUnvalidated is serve for a request that has spent time with the store, or has waited for it in vain.
func serveUnvalidated(h *handler, rw http.ResponseWriter, req *http.Request, began time.Time, failed error) {
	if failed != nil {
		refuse(h.middleware, rw, req, http.StatusServiceUnavailable, failed)
		return
	}
	serve(h, rw, req.WithContext(withRedisBudget(req.Context(), h.middleware.store.redis, time.Since(began))))
}

// withStoreBudget is a request that may need the store.
func withStoreBudget(sm *sessionManager, req *http.Request) *http.Request {
	return req.WithContext(withRedisBudget(req.Context(), sm.store.redis, 0))
}

// extendPrincipal makes the copy that p was found by good for another while. There is none when somebody logged out while we looked.
func extendPrincipal(pc *principalCache, p *principal, line string, now time.Time) bool {
	again := *p
	again.validUntil = earlier(p.revalidatableUntil, now.Add(pc.localCopyLifetime))
	principalsLock.Lock()
	isThere := pc.byHeaderLine[line] == p
	if isThere {
		pc.byHeaderLine[line] = &again
	}
	principalsLock.Unlock()
	return isThere || extendCached(pc, &again, line)
}

// extendCached is extendPrincipal for the principal itself, and for its copy that is found by the session's cookie alone.
func extendCached(pc *principalCache, again *principal, line string) bool {
	principalsLock.Lock()
	defer principalsLock.Unlock()
	known := recentPrincipals.byKey[again.cacheKey]
	if known == nil || known.validator != again.validator {
		return false
	}
	longer := *known
	longer.validUntil = again.validUntil
	recentPrincipals.byKey[again.cacheKey] = &longer
	_, rest, _ := strings.Cut("; "+line, pc.cookiePrefix)
	value, _, _ := strings.Cut(rest, "; ")
	if alone := pc.bySessionCookie[value]; alone != nil && alone.cacheKey == again.cacheKey {
		pc.bySessionCookie[value] = &longer
	}
	return true
}

// writeStored writes a session to the store; without a ticket it is new and gets one. One that is there no more was logged out
// while we worked on it, and stays so.
func writeStored(ctx context.Context, sm *sessionManager, s *session) error {
	life := remainingLifetime(sm, s)
	before := ""
	if s.ticket == nil {
		s.ticket = randomBytes(ticketName + ticketKey)
	} else {
		before = redisBody(s.validator)
	}
	packed, err := packSession(s)
	if err != nil {
		return err
	}
	id := ticketID(s.ticket)
	sealed := seal(ticketSealer(sm, s.ticket), id, packed)
	s.validator = storeValidator(sealed)
	there, err := storeSet(ctx, sm.store, id, sealed, before, life, stringOf(s.claims["sid"]), stringOf(s.claims["sub"]))
	if err == nil && !there {
		err = fmt.Errorf("%w: session %s was logged out", errNoCredentials, s.ID)
	}
	return err
}

// endReplaced lets the session end that a browser brought to a new sign-in. Its cookie is replaced, so only a thief has it still, or a
// request under way, whose answer must not put the old one back.
func endReplaced(sm *sessionManager, req *http.Request, by *session) {
	sessions, err := openSessions(sm, req)
	for _, old := range sessions {
		if old.ID == by.ID {
			continue // the callback came twice
		}
		cacheSet(sm.state.revoked, "replaced:"+old.ID, true, 0)
		if sm.store == nil {
			continue
		}
		old.End = time.Now().Add(replacedSessionGrace).Unix()
		err = firstError(err, writeStored(req.Context(), sm, old))
	}
	if err != nil {
		logf(sm.log, levelInfo, "the session before this sign-in could not be ended: %s", err)
	}
}

// saveStored is what authorizeSession does for a session in the store: a refresh has written it already, a renewal is written here, and the
// browser gets its ticket anew, for its life has changed. It returns the session as it is kept now.
func saveStored(sm *sessionManager, rw http.ResponseWriter, req *http.Request, s, fresh *session, current, isDue bool, now time.Time) (*session, error) {
	kept := fresh
	if isDue {
		renewed, err := renewStored(req.Context(), sm, fresh, now)
		if errors.Is(err, errUnavailable) { // nobody is thrown out for that: there is time until the session ends
			logf(sm.log, levelWarn, "session %s: renewal: %s", s.ID, err)
			return fresh, nil
		}
		if err != nil {
			return nil, err
		}
		kept = renewed
	}
	if kept == s && current {
		return s, nil
	}
	return kept, setSessionCookie(sm, rw, req, kept, kept.ticket, now)
}

// A session that is there is only written by whoever has its lease and has read it since: two replicas at once would undo each
// other's work, and bring a spent refresh token back.

// acquireLease tries for a session's lease. known is the session as it is in the store now, with the lease or without.
func acquireLease(ctx context.Context, sm *sessionManager, s *session, mine string) (held bool, known *session, err error) {
	held, sealed, err := storeLease(ctx, sm.store, ticketID(s.ticket), mine, leaseDuration(sm.client), remainingLifetime(sm, s))
	if err != nil {
		return false, nil, err
	}
	known, err = openStored(sm, s.ticket, sealed)
	return held, known, err
}

// leaseDuration is what a refresh may take at the most: the grant; keys and UserInfo, each with its repetitions; and what is asked of the store.
func leaseDuration(c *client) time.Duration {
	question := c.http.Timeout + time.Duration(c.retries)*(retryLimit+retryPause*time.Duration(c.retries))
	return c.exchangeTimeout + 2*question + 2*c.http.Timeout + 2*time.Second
}

func remainingLifetime(sm *sessionManager, s *session) time.Duration {
	return time.Until(time.Unix(sessionEnd(sm, s), 0))
}

func releaseLease(ctx context.Context, sm *sessionManager, s *session, mine string) {
	_, _, _ = storeLease(ctx, sm.store, ticketID(s.ticket), mine, 0, remainingLifetime(sm, s)) // or it ends by itself
}

// renewStored notes that a session was used now, unless another request has done so or is about to.
func renewStored(ctx context.Context, sm *sessionManager, s *session, now time.Time) (*session, error) {
	mine := randomText()
	held, known, err := acquireLease(ctx, sm, s, mine)
	if err != nil || !held {
		return known, err
	}
	if known.Renewed != s.Renewed {
		releaseLease(ctx, sm, s, mine)
		return known, nil
	}
	renewed := *known // sessions are shared among requests: never changed
	renewed.Renewed = now.Unix()
	return &renewed, writeStored(ctx, sm, &renewed) // which ends the lease
}

// redeemWithLease is redeem for one replica of all: who has the lease refreshes, the others wait for what comes of it, though not
// longer than patience: they have tokens to go on with. If the holder dies, the lease ends and the next one takes over. fresh is what came of it
// before, when the store could not be written. A session may come back beside an error: again only the store failed.
func redeemWithLease(ctx context.Context, sm *sessionManager, s, fresh *session, key string, patience time.Duration) (*session, error) {
	if sm.store == nil {
		return redeemRefreshToken(ctx, sm, s)
	}
	if _, err := discover(ctx, sm.client); err != nil {
		return nil, err // before the lease: it may take time
	}
	mine := replicaID + key
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		held, known, err := acquireLease(ctx, sm, s, mine)
		if err != nil {
			return fresh, err
		}
		if known.RefreshAt == s.RefreshAt && held {
			return redeemHoldingLease(ctx, sm, known, fresh, mine)
		}
		if held {
			releaseLease(ctx, sm, s, mine)
		}
		if known.RefreshAt != s.RefreshAt {
			return known, nil // another replica has refreshed it
		}
		time.Sleep(leasePause)
	}
	return nil, fmt.Errorf("%w: another replica is refreshing session %s", errInProgress, s.ID)
}

// redeemHoldingLease refreshes with the lease in hand. If the result cannot be written the lease is kept, so that no other replica spends
// the refresh token again while this one tries to.
func redeemHoldingLease(ctx context.Context, sm *sessionManager, s, fresh *session, mine string) (*session, error) {
	var err error
	if fresh == nil {
		fresh, err = redeemRefreshToken(ctx, sm, s)
	}
	if err == nil {
		err = writeStored(ctx, sm, fresh)
	}
	if fresh == nil && !errors.Is(err, errInProgress) { // not while the provider may answer
		releaseLease(ctx, sm, s, mine) // else what was written ended it
	}
	return fresh, err
}

// endedSessions are sessions that met the same in one minute.
type endedSessions struct {
	since      time.Time
	sessions   map[string]bool
	nextReport int // the number that is worth a line
}

// countEndedSession counts sessions that end without their users' doing. One means nothing; many are the operator's concern.
func countEndedSession(sm *sessionManager, what, id string) {
	principalsLock.Lock()
	ended := sm.ended[what]
	if ended == nil || time.Since(ended.since) > time.Minute {
		ended = &endedSessions{since: time.Now(), sessions: map[string]bool{}, nextReport: endedSessionsReport}
		sm.ended[what] = ended
	}
	if len(ended.sessions) < maxCountedSessions {
		ended.sessions[id] = true
	}
	count := len(ended.sessions)
	isDue := count == ended.nextReport
	if isDue {
		ended.nextReport *= 10
	}
	principalsLock.Unlock()
	if isDue {
		logf(sm.log, levelWarn, "in the last minute %d sessions %s", count, what)
	}
}

// deleteStored takes a session away that was logged out, or whose refresh the provider refused: no other replica shall try it again.
func deleteStored(sm *sessionManager, rw http.ResponseWriter, req *http.Request, s *session) {
	if sm.store == nil {
		return // the browser may have a newer cookie by now, of another replica
	}
	if err := storeDelete(req.Context(), sm.store, ticketID(s.ticket)); err != nil {
		logf(sm.log, levelInfo, "session %s could not be deleted: %s", s.ID, err)
	}
	isOver := cacheGet(sm.state.revoked, "id:"+s.ID) != nil || cacheGet(sm.state.revoked, "replaced:"+s.ID) != nil
	if !isOver { // else the browser has no cookie of it any more, or that of another session
		clearCookies(sm, rw, req)
	}
}

// deleteStoredOf ends the sessions that a pushed logout names, for all replicas, and says how many those were.
func deleteStoredOf(ctx context.Context, s *store, sid, sub string) (int, error) {
	ids, err := storeFind(ctx, s, sid, sub)
	for _, id := range ids {
		if err == nil {
			err = storeDelete(ctx, s, id)
		}
	}
	return len(ids), err
}
