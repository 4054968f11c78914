package oidc

import (
	"context"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"net/http"
	"time"
)

// Sessions in Redis, for several replicas of Traefik. The browser's cookie holds a ticket: the ID of the session's entry, and the key to it.
// The entry is sealed with that key, which Redis never sees, so nobody can read a session there.

const (
	ticketIDSize     = 16 // bytes
	ticketKeySize    = 32
	leasePause       = 50 * time.Millisecond
	briefWait        = time.Second     // how long a request waits for another one's refresh while its own tokens are still valid
	maxClockSkew     = 5 * time.Minute // how far clocks may differ
	clockWarningSkew = 5 * time.Second // how far they may differ without a warning
)

func ticketID(ticket []byte) string {
	return base64.RawURLEncoding.EncodeToString(ticket[:ticketIDSize])
}

// ticketSealer seals one session's entry.
func ticketSealer(sm *sessionManager, ticket []byte) *sealer {
	return &sealer{context: sm.sealer.context, aeads: []cipher.AEAD{newAEAD(ticket[ticketIDSize:])}}
}

// fetchStored reads the session of a ticket from the store.
func fetchStored(ctx context.Context, sm *sessionManager, ticket []byte) (*session, error) {
	if len(ticket) != ticketIDSize+ticketKeySize {
		return nil, errorf("%w: session cookie: not a ticket", errNoCredentials)
	}
	sealed, err := storeGet(ctx, sm.store, ticketID(ticket))
	if err != nil {
		return nil, err
	}
	return openStored(sm, ticket, sealed)
}

// openStored opens the value of a ticket's entry.
func openStored(sm *sessionManager, ticket []byte, sealed string) (*session, error) {
	id := ticketID(ticket)
	if sealed == "" {
		countEndedSession(sm, "were not in Redis; was it emptied, does it evict, or did it restart without its data?", id)
		return nil, errorf("%w: the session is not in the store: it has ended or was logged out", errNoCredentials)
	}
	var s *session
	packed, _, err := open(ticketSealer(sm, ticket), id, sealed)
	if err == nil {
		s, err = unpackSession(packed)
	}
	if err == nil {
		err = unpackTokens(s)
	}
	if err != nil {
		return nil, errorf("%w: stored session: %s", errNoCredentials, err)
	}
	s.ticket = ticket
	s.validator = storeValidator(sealed)
	return s, nil
}

// serveExpired serves a request whose principal is no longer valid, and returns true. A session in the store may be good for longer than its
// local copy: if its entry still begins as it did, it is unchanged, and need not be opened or authorized again. Then serveExpired returns
// false, and ServeHTTP lets the request in.
func serveExpired(h *handler, rw http.ResponseWriter, req *http.Request, p *principal) bool {
	if timeUntil(p.revalidatableUntil) <= 0 {
		serve(h, rw, req)
		return true
	}
	now := timeSince(redisEpoch)
	err := redisSend(h.middleware.store.redis, p.validation, now)
	if err == nil && extendPrincipal(h.cache, p, req) {
		return false
	}
	serveUnvalidated(h, rw, req, now, err)
	return true
}

// allowRevalidation gives a principal what serveExpired needs, and returns until when it is used without being revalidated.
func allowRevalidation(m *middleware, p *principal, s *session, until, now time.Time) time.Time {
	p.validation = storeValidation(m.store, ticketID(s.ticket), s.validator)
	p.validator = s.validator
	p.size = 160 + len(p.validation.request) // bytes of the call
	p.revalidatableUntil = until
	return earlier(until, now.Add(m.cache.localCopyLifetime))
}

// serveUnvalidated is serve for a request that has already spent time on the store. If the store failed, the answer is 503.
func serveUnvalidated(h *handler, rw http.ResponseWriter, req *http.Request, began time.Duration, failed error) {
	if errors.Is(failed, errUnavailable) {
		refuse(h.middleware, rw, req, http.StatusServiceUnavailable, failed)
		return
	}
	serve(h, rw, withRedisBudget(req, h.middleware.store.redis, timeSince(redisEpoch)-began))
}

// extendPrincipal makes the cached copy p fresh for another while, if copies are used without asking at all. It returns false if the copy is
// gone, because the user has logged out meanwhile.
func extendPrincipal(pc *principalCache, p *principal, req *http.Request) bool {
	if pc.localCopyLifetime > 0 {
		return extendCopy(pc, p, req)
	}
	lockForReading()
	known := recentPrincipals.byKey[p.cacheKey]
	unlockForReading()
	return known != nil && known.validator == p.validator
}

// extendCopy extends p itself and, if p was found by the line of req, what is cached by that line.
func extendCopy(pc *principalCache, p *principal, req *http.Request) bool {
	until := earlier(timeNow().Add(pc.localCopyLifetime), p.revalidatableUntil)
	line := req.Header["Cookie"][0]
	principalsLock.Lock()
	defer principalsLock.Unlock()
	known := recentPrincipals.byKey[p.cacheKey]
	if known == nil || known.validator != p.validator {
		return false
	}
	longer := *known
	longer.validUntil = until
	recentPrincipals.byKey[p.cacheKey] = &longer
	if settledPrincipals[p.cacheKey] != nil {
		settledPrincipals[p.cacheKey] = &longer
	}
	if pc.byHeaderLine[line] == p {
		again := *p
		again.validUntil = until
		pc.byHeaderLine[line] = &again
	}
	return true
}

// writeStored writes a session to the store, and deletes one that has ended. A session without a ticket is new and gets one. A session that
// is no longer there was logged out meanwhile, and stays logged out.
func writeStored(ctx context.Context, sm *sessionManager, s *session) error {
	if s.ticket == nil {
		s.ticket = randomBytes(ticketIDSize + ticketKeySize)
	}
	id := ticketID(s.ticket)
	life := remainingLifetime(sm, s)
	if life <= 0 {
		return storeDelete(ctx, sm.store, id)
	}
	packed, err := packSession(s)
	if err != nil {
		return err
	}
	sealed := seal(ticketSealer(sm, s.ticket), id, packed)
	before := redisBody(s.validator) // "" for a new session
	s.validator = storeValidator(sealed)
	there, err := storeSet(ctx, sm.store, id, sealed, before, life, stringOf(s.claims["sid"]), stringOf(s.claims["sub"]))
	if err == nil && !there {
		err = errorf("%w: session %s was logged out", errNoCredentials, s.ID)
	}
	return err
}

// saveStored renews a session in the store if that is due, and gives the browser its ticket again, because the cookie's lifetime has changed.
// It returns the session as it is now in the store.
func saveStored(sm *sessionManager, rw http.ResponseWriter, req *http.Request, s *session, isDue bool, now time.Time) (*session, error) {
	kept := s
	var err error
	if isDue {
		kept, err = renewStored(req.Context(), sm, s, now)
	}
	if errors.Is(err, errUnavailable) { // no reason to end the session: later requests will try again
		logf(sm.log, levelWarn, "session %s: renewal: %s", s.ID, err)
		return s, nil
	}
	if err == nil {
		err = setSessionCookie(sm, rw, req, kept, s.ticket, now)
	}
	return kept, err
}

// An existing session may be written only by a replica that holds its lease and has read the session since. Two replicas writing at once
// would undo each other's changes, and bring back a refresh token that has been used up.

// acquireLease tries to get a session's lease. known is the session as it is in the store now, whether held or not.
func acquireLease(ctx context.Context, sm *sessionManager, s *session, mine string) (held bool, known *session, err error) {
	held, sealed, err := storeLease(ctx, sm.store, ticketID(s.ticket), mine, leaseDuration(sm.client), remainingLifetime(sm, s))
	if err != nil {
		return false, nil, err
	}
	known, err = openStored(sm, s.ticket, sealed)
	return held, known, err
}

// leaseDuration is the longest that a refresh may take: the token request, the requests for keys and UserInfo with their retries, and the
// commands to the store.
func leaseDuration(c *client) time.Duration {
	fetch := c.http.Timeout + time.Duration(c.retries)*(retryLimit+retryPause*time.Duration(c.retries))
	return c.exchangeTimeout + 2*fetch + 2*c.http.Timeout + 2*time.Second
}

func remainingLifetime(sm *sessionManager, s *session) time.Duration {
	return time.Until(time.Unix(sessionEnd(sm, s), 0))
}

func releaseLease(ctx context.Context, sm *sessionManager, s *session, mine string) {
	_, _, _ = storeLease(ctx, sm.store, ticketID(s.ticket), mine, 0, remainingLifetime(sm, s)) // if this fails, the lease expires
}

// renewStored marks a session as used now, unless another request has done so or is about to.
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
	renewed := *known // a copy: sessions are shared between requests and never changed
	renewed.Renewed = now.Unix()
	return &renewed, writeStored(ctx, sm, &renewed) // this ends the lease
}

// redeemWithLease is refreshTokens for several replicas. The replica that holds the lease refreshes; the others wait for the result, but no
// longer than patience, since they have tokens to go on with. If the holder dies, the lease expires and the next one takes over.
func redeemWithLease(ctx context.Context, sm *sessionManager, s, fresh *session, key string, patience time.Duration) (*session, error) {
	if _, err := discover(ctx, sm.client); err != nil {
		return nil, err // discovery may take time, so it comes before the lease
	}
	mine := replicaID + key
	for deadline := timeNow().Add(patience); time.Now().Before(deadline); {
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
	return nil, errorf("%w: another replica is refreshing session %s", errInProgress, s.ID)
}

// redeemHoldingLease refreshes while it holds the lease. If the result cannot be written, the lease is kept, so that no other replica sends
// the refresh token again while this one keeps trying to write.
func redeemHoldingLease(ctx context.Context, sm *sessionManager, s, fresh *session, mine string) (*session, error) {
	var err error
	if fresh == nil {
		fresh, err = redeemRefreshToken(ctx, sm, s)
	}
	if err == nil {
		err = writeStored(ctx, sm, fresh)
	}
	if fresh == nil && !errors.Is(err, errInProgress) { // not while the provider may still answer
		releaseLease(ctx, sm, s, mine) // a session that was written has ended it already
	}
	return fresh, err
}
