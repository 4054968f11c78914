package oidc

import (
	"context"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// This room keeps sessions in the store, for more than one Traefik. The browser's cookie holds a ticket: the name of the session's
// entry and the key to it. The entry is sealed with that key, which the store never sees: whoever reads Redis reads nothing.

const (
	ticketName = 16 // bytes
	ticketKey  = 32
	leasePause = 50 * time.Millisecond
	lastWords  = 30 * time.Second // that a replaced session goes on, for what its browser has under way
)

func ticketID(ticket []byte) string {
	return base64.RawURLEncoding.EncodeToString(ticket[:ticketName])
}

// ticketSealer seals one session's entry.
func ticketSealer(g *gate, ticket []byte) *sealer {
	return &sealer{context: g.sessionSealer.context, aeads: []cipher.AEAD{newAEAD(ticket[ticketName:])}}
}

// fetchSession reads the session of a ticket.
func fetchSession(ctx context.Context, g *gate, ticket []byte) (*session, error) {
	if len(ticket) != ticketName+ticketKey {
		return nil, fmt.Errorf("%w: session cookie: not a ticket", errNoCredentials)
	}
	id := ticketID(ticket)
	sealed, err := storeGet(ctx, g.store, id)
	if err != nil {
		return nil, err
	}
	if sealed == "" {
		return nil, fmt.Errorf("%w: the session is not in the store: it has ended or was logged out", errNoCredentials)
	}
	var s *session
	packed, _, err := open(ticketSealer(g, ticket), id, sealed)
	if err == nil {
		s, err = unpackSession(packed)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: stored session: %s", errNoCredentials, err)
	}
	s.ticket = ticket
	s.answer = storeAnswer(sealed)
	return s, nil
}

// lookAgain is ServeHTTP, with a store, for a session that was seen before, whose local copy is no longer fresh: while its entry begins as
// it did, there is nothing to open and to judge again, and the copy is good for another while. Every other request goes through serve.
func lookAgain(m *Middleware, rw http.ResponseWriter, req *http.Request) {
	line := req.Header[m.header]
	if len(line) != 1 || req.Trailer != nil || m.ownPaths[req.URL.Path] {
		serve(m, rw, req)
		return
	}
	warm.RLock()
	p := m.hosts[req.Host][line[0]]
	warm.RUnlock()
	if p == nil {
		p = amongOthers(m, req)
	}
	now := time.Now()
	if !now.Before(p.end) || req.Header.WriteSubset(closed, p.harmless) != nil {
		serve(m, rw, req)
		return
	}
	c := m.gate.store.redis
	answer, err := redisSend(c, &redisCall{name: "GETRANGE", request: p.question, answer: p.answer, slot: p.slot, now: now, deadline: now.Add(c.timeout)})
	if err != nil {
		refuse(m.gate, rw, req, http.StatusServiceUnavailable, err)
		return
	}
	if answer != p.answer || !goOn(m.gate, p, line[0], now) {
		serve(m, rw, req)
		return
	}
	for set := p.first; set != nil; set = set.next {
		req.Header[set.name] = set.values
	}
	req.URL.User = p.user
	m.next.ServeHTTP(rw, req)
}

// goOn makes the copy that p was found by good for another while. There is none when somebody logged out while we looked.
func goOn(g *gate, p *pass, line string, now time.Time) bool {
	again := *p
	again.until = sooner(p.end, now.Add(g.localCopy))
	warm.Lock()
	isThere := g.lines[line] == p
	if isThere {
		g.lines[line] = &again
	}
	warm.Unlock()
	return isThere || goOnAmongOthers(g, &again)
}

// goOnAmongOthers is goOn for the copy of a session's cookie, of which again was made for a line.
func goOnAmongOthers(g *gate, again *pass) bool {
	warm.Lock()
	defer warm.Unlock()
	value := again.credential[len(g.mark):]
	known := g.alone[value]
	if known == nil || known.answer != again.answer {
		return false
	}
	again.first = known.first
	g.alone[value] = again
	return true
}

// storeSession writes a session to the store; without a ticket it is new and gets one. One that is there no more was logged out
// while we worked on it, and stays so.
func storeSession(ctx context.Context, g *gate, s *session) error {
	life := time.Until(time.Unix(sessionEnd(g, s), 0))
	var flags []string
	if s.ticket == nil {
		s.ticket = randomBytes(ticketName + ticketKey)
	} else {
		flags = []string{"XX"}
	}
	packed, err := packSession(s)
	if err != nil {
		return err
	}
	id := ticketID(s.ticket)
	sealed := seal(ticketSealer(g, s.ticket), id, packed)
	s.answer = storeAnswer(sealed)
	there, err := storeSet(ctx, g.store, id, sealed, life, text(s.claims["sid"]), text(s.claims["sub"]), flags...)
	if err == nil && !there {
		err = fmt.Errorf("%w: session %s was logged out", errNoCredentials, s.ID)
	}
	return err
}

// endReplaced lets the session end that a browser brought to a new sign-in. Its cookie is replaced, so only a thief has it still.
func endReplaced(g *gate, req *http.Request, by *session) {
	if g.store == nil {
		return
	}
	sessions, err := openSessions(g, req)
	for _, old := range sessions {
		if old.ID == by.ID {
			continue // the callback came twice
		}
		old.End = time.Now().Add(lastWords).Unix()
		err = firstError(err, storeSession(req.Context(), g, old))
	}
	if err != nil {
		logf(g.log, levelInfo, "the session before this sign-in could not be ended: %s", err)
	}
}

// keepStored is what admit does for a session in the store: a refresh has written it already, a renewal is written here, and the
// browser gets its ticket anew, for its life has changed. It returns the session as it is kept now.
func keepStored(g *gate, rw http.ResponseWriter, req *http.Request, s, fresh *session, current, isDue bool, now time.Time) (*session, error) {
	kept := fresh
	if isDue {
		renewed, err := renewStored(req.Context(), g, fresh, now)
		if errors.Is(err, errUnavailable) { // nobody is thrown out for that: there is time until the session ends
			logf(g.log, outageLevel(g), "session %s: renewal: %s", s.ID, err)
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
	return kept, setSessionCookie(g, rw, req, kept, kept.ticket, now)
}

// A session that is there is only written by whoever has its lease and has read it since: two replicas at once would undo each
// other's work, and bring a spent refresh token back.

// lockSession tries for a session's lease. known is the session as it is in the store now, with the lease or without.
func lockSession(ctx context.Context, g *gate, s *session, mine string) (held bool, known *session, err error) {
	life := 2*g.client.http.Timeout + 2*time.Second // a grant, and what its verification may need, each with its time limit
	if held, err = storeLease(ctx, g.store, ticketID(s.ticket), mine, life); err != nil {
		return false, nil, err
	}
	known, err = fetchSession(ctx, g, s.ticket)
	if held && err != nil {
		unlockSession(ctx, g, s, mine)
	}
	return held, known, err
}

func unlockSession(ctx context.Context, g *gate, s *session, mine string) {
	_ = storeRelease(ctx, g.store, ticketID(s.ticket), mine) // or it ends by itself
}

// renewStored notes that a session was used now, unless another request has done so or is about to.
func renewStored(ctx context.Context, g *gate, s *session, now time.Time) (*session, error) {
	mine := randomText()
	held, known, err := lockSession(ctx, g, s, mine)
	if err != nil || !held {
		return known, err
	}
	defer unlockSession(ctx, g, s, mine)
	if known.Renewed != s.Renewed {
		return known, nil
	}
	renewed := *known // sessions are shared among requests: never changed
	renewed.Renewed = now.Unix()
	return &renewed, storeSession(ctx, g, &renewed)
}

// redeemOnce is redeem for one replica of all: who has the lease refreshes, the others wait for what comes of it, though not
// longer than for the provider itself. If the holder dies, the lease ends and the next one takes over. fresh is what came of it
// before, when the store could not be written. A session may come back beside an error: again only the store failed.
func redeemOnce(ctx context.Context, g *gate, s, fresh *session, key string) (*session, error) {
	if g.store == nil {
		return redeem(ctx, g, s)
	}
	if _, err := discover(ctx, g.client); err != nil {
		return nil, err // before the lease: it may take time
	}
	mine := replica + key
	for deadline := time.Now().Add(g.client.http.Timeout); time.Now().Before(deadline); {
		held, known, err := lockSession(ctx, g, s, mine)
		if err != nil {
			return fresh, err
		}
		if known.RefreshAt == s.RefreshAt && held {
			return redeemHeld(ctx, g, known, fresh, mine)
		}
		if held {
			unlockSession(ctx, g, s, mine)
		}
		if known.RefreshAt != s.RefreshAt {
			return known, nil // another replica has refreshed it
		}
		time.Sleep(leasePause)
	}
	return nil, fmt.Errorf("%w: another replica is refreshing session %s", errUnavailable, s.ID)
}

// redeemHeld refreshes with the lease in hand. If the result cannot be written the lease is kept, so that no other replica spends
// the refresh token again while this one tries to.
func redeemHeld(ctx context.Context, g *gate, s, fresh *session, mine string) (*session, error) {
	var err error
	if fresh == nil {
		fresh, err = redeem(ctx, g, s)
	}
	if err == nil {
		err = storeSession(ctx, g, fresh)
	}
	if fresh == nil || !errors.Is(err, errUnavailable) {
		unlockSession(ctx, g, s, mine)
	}
	return fresh, err
}

// forgetStored ends the sessions that a pushed logout names, for all replicas.
func forgetStored(ctx context.Context, s *store, sid, sub string) error {
	ids, err := storeFind(ctx, s, sid, sub)
	for _, id := range ids {
		if err == nil {
			err = storeDelete(ctx, s, id)
		}
	}
	return err
}

// wasUsed says whether a logout token was taken before, by any replica.
func wasUsed(ctx context.Context, g *gate, jti string) (bool, error) {
	if g.store == nil {
		return recall(g.logoutIDs, jti) != nil, nil
	}
	reply, err := storeDo(ctx, g.store, hashedKey(g.store.scopes[0], "seen", "jti "+jti), "GET")
	return reply != nil, err
}

// noteUsed keeps a logout token's jti for as long as the token is good. It comes last: a logout that the store failed half-way
// must be possible to repeat.
func noteUsed(ctx context.Context, g *gate, t *token) error {
	jti := text(t.claims["jti"])
	if g.store == nil {
		remember(g.logoutIDs, jti, true)
		return nil
	}
	end, err := numericDate(t.claims, "exp")
	if err == nil {
		life := time.Until(time.Unix(end, 0)) + time.Duration(g.client.rules.skew)*time.Second
		_, err = storeDo(ctx, g.store, hashedKey(g.store.scopes[0], "seen", "jti "+jti), "SET", "1", "PX", milliseconds(life))
	}
	return err
}
