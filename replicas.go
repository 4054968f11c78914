package oidc

import (
	"context"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// This room keeps sessions in the store, for more than one Traefik. The browser's cookie holds a ticket: the name of the session's
// entry and the key to it. The entry is sealed with that key, which the store never sees: whoever reads Redis reads nothing.

const (
	ticketName = 16 // bytes
	ticketKey  = 32
	leasePause = 50 * time.Millisecond
	moment     = time.Second     // that a request waits for tokens which somebody else refreshes, while those it has are good
	maxSkew    = 5 * time.Minute // between clocks, that is reckoned with

	clockDifference = 5 * time.Second  // that is warned about
	fewSessions     = 10               // of which nothing is said, when they end in one minute
	lastWords       = 30 * time.Second // that a replaced session goes on, for what its browser has under way
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
	sealed, err := storeGet(ctx, g.store, ticketID(ticket))
	if err != nil {
		return nil, err
	}
	return readEntry(g, ticket, sealed)
}

// readEntry is the session of a ticket whose entry has this value.
func readEntry(g *gate, ticket []byte, sealed string) (*session, error) {
	id := ticketID(ticket)
	if sealed == "" {
		noteMany(g, "were not in Redis; was it emptied, does it evict, or did it restart without its data?", id)
		return nil, fmt.Errorf("%w: the session is not in the store: it has ended or was logged out", errNoCredentials)
	}
	var s *session
	var err error
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
	if answer != p.answer || !goOn(m.gate, p, line[0], now) { // answer is nil beside an error
		lookFurther(m, rw, req, now, err)
		return
	}
	for set := p.first; set != nil; set = set.next {
		req.Header[set.name] = set.values
	}
	req.URL.User = p.user
	m.next.ServeHTTP(rw, req)
}

// lookFurther is serve for a request that has spent time with the store, or has waited for it in vain.
func lookFurther(m *Middleware, rw http.ResponseWriter, req *http.Request, began time.Time, failed error) {
	if failed != nil {
		refuse(m.gate, rw, req, http.StatusServiceUnavailable, failed)
		return
	}
	serve(m, rw, req.WithContext(withDealings(req.Context(), m.gate.store.redis, time.Since(began))))
}

// withStore is a request that may need the store.
func withStore(g *gate, req *http.Request) *http.Request {
	return req.WithContext(withDealings(req.Context(), g.store.redis, 0))
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
	return isThere || goOnAmongOthers(g, &again, line)
}

// goOnAmongOthers is goOn for the pass itself, and for its copy that is found by the session's cookie alone.
func goOnAmongOthers(g *gate, again *pass, line string) bool {
	warm.Lock()
	defer warm.Unlock()
	known := recent.byKey[again.key]
	if known == nil || known.answer != again.answer {
		return false
	}
	longer := *known
	longer.until = again.until
	recent.byKey[again.key] = &longer
	_, rest, _ := strings.Cut("; "+line, g.mark)
	value, _, _ := strings.Cut(rest, "; ")
	if alone := g.alone[value]; alone != nil && alone.key == again.key {
		g.alone[value] = &longer
	}
	return true
}

// storeSession writes a session to the store; without a ticket it is new and gets one. One that is there no more was logged out
// while we worked on it, and stays so.
func storeSession(ctx context.Context, g *gate, s *session) error {
	life := lifeLeft(g, s)
	before := ""
	if s.ticket == nil {
		s.ticket = randomBytes(ticketName + ticketKey)
	} else {
		before = redisBody(s.answer)
	}
	packed, err := packSession(s)
	if err != nil {
		return err
	}
	id := ticketID(s.ticket)
	sealed := seal(ticketSealer(g, s.ticket), id, packed)
	s.answer = storeAnswer(sealed)
	there, err := storeSet(ctx, g.store, id, sealed, before, life, text(s.claims["sid"]), text(s.claims["sub"]))
	if err == nil && !there {
		err = fmt.Errorf("%w: session %s was logged out", errNoCredentials, s.ID)
	}
	return err
}

// endReplaced lets the session end that a browser brought to a new sign-in. Its cookie is replaced, so only a thief has it still, or a
// request under way, whose answer must not put the old one back.
func endReplaced(g *gate, req *http.Request, by *session) {
	sessions, err := openSessions(g, req)
	for _, old := range sessions {
		if old.ID == by.ID {
			continue // the callback came twice
		}
		remember(g.revoked, "replaced:"+old.ID, true, 0)
		if g.store == nil {
			continue
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
			logf(g.log, levelWarn, "session %s: renewal: %s", s.ID, err)
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
	held, sealed, err := storeLease(ctx, g.store, ticketID(s.ticket), mine, leaseLife(g.client), lifeLeft(g, s))
	if err != nil {
		return false, nil, err
	}
	known, err = readEntry(g, s.ticket, sealed)
	return held, known, err
}

// leaseLife is what a refresh may take at the most: the grant; keys and UserInfo, each with its repetitions; and what is asked of the store.
func leaseLife(c *client) time.Duration {
	question := c.http.Timeout + time.Duration(c.retries)*(quickFailure+retryPause*time.Duration(c.retries))
	return c.exchangeTimeout + 2*question + 2*c.http.Timeout + 2*time.Second
}

func lifeLeft(g *gate, s *session) time.Duration { return time.Until(time.Unix(sessionEnd(g, s), 0)) }

func unlockSession(ctx context.Context, g *gate, s *session, mine string) {
	_, _, _ = storeLease(ctx, g.store, ticketID(s.ticket), mine, 0, lifeLeft(g, s)) // or it ends by itself
}

// renewStored notes that a session was used now, unless another request has done so or is about to.
func renewStored(ctx context.Context, g *gate, s *session, now time.Time) (*session, error) {
	mine := randomText()
	held, known, err := lockSession(ctx, g, s, mine)
	if err != nil || !held {
		return known, err
	}
	if known.Renewed != s.Renewed {
		unlockSession(ctx, g, s, mine)
		return known, nil
	}
	renewed := *known // sessions are shared among requests: never changed
	renewed.Renewed = now.Unix()
	return &renewed, storeSession(ctx, g, &renewed) // which ends the lease
}

// redeemOnce is redeem for one replica of all: who has the lease refreshes, the others wait for what comes of it, though not
// longer than patience: they have tokens to go on with. If the holder dies, the lease ends and the next one takes over. fresh is what came of it
// before, when the store could not be written. A session may come back beside an error: again only the store failed.
func redeemOnce(ctx context.Context, g *gate, s, fresh *session, key string, patience time.Duration) (*session, error) {
	if g.store == nil {
		return redeem(ctx, g, s)
	}
	if _, err := discover(ctx, g.client); err != nil {
		return nil, err // before the lease: it may take time
	}
	mine := replica + key
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
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
	return nil, fmt.Errorf("%w: another replica is refreshing session %s", errElsewhere, s.ID)
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
	if fresh == nil && !errors.Is(err, errElsewhere) { // not while the provider may answer
		unlockSession(ctx, g, s, mine) // else what was written ended it
	}
	return fresh, err
}

// many are sessions that met the same in one minute.
type many struct {
	since    time.Time
	sessions map[string]bool
	next     int // the number that is worth a line
}

// noteMany counts sessions that end without their users' doing. One means nothing; many are the operator's concern.
func noteMany(g *gate, what, id string) {
	warm.Lock()
	m := g.many[what]
	if m == nil || time.Since(m.since) > time.Minute {
		m = &many{since: time.Now(), sessions: map[string]bool{}, next: fewSessions}
		g.many[what] = m
	}
	if len(m.sessions) < manySessions {
		m.sessions[id] = true
	}
	count := len(m.sessions)
	isDue := count == m.next
	if isDue {
		m.next *= 10
	}
	warm.Unlock()
	if isDue {
		logf(g.log, levelWarn, "in the last minute %d sessions %s", count, what)
	}
}

// endStored takes a session away that was logged out, or whose refresh the provider refused: no other replica shall try it again.
func endStored(g *gate, rw http.ResponseWriter, req *http.Request, s *session) {
	if g.store == nil {
		return // the browser may have a newer cookie by now, of another replica
	}
	if err := storeDelete(req.Context(), g.store, ticketID(s.ticket)); err != nil {
		logf(g.log, levelInfo, "session %s could not be deleted: %s", s.ID, err)
	}
	isOver := recall(g.revoked, "id:"+s.ID) != nil || recall(g.revoked, "replaced:"+s.ID) != nil
	if !isOver { // else the browser has no cookie of it any more, or that of another session
		clearCookies(g, rw, req)
	}
}

// spreadNews tells the other replicas which sessions were ended. They are gone from the store as a rule. But where an index was evicted
// they were not found, and a failover or a restart may bring them back. Marks are sealed: Redis learns no names.
func spreadNews(ctx context.Context, g *gate, marks ...string) error {
	var told []string
	for _, mark := range marks {
		told = append(told, seal(g.sessionSealer, "mark", []byte(fmt.Sprint(storeClock(g.ledger), " ", mark))))
	}
	_, err := exchangeNews(ctx, g, told)
	if err == nil {
		keepMarks(g.store, told)
	}
	return err
}

// exchangeNews tells what is not known yet, says how much that was, and hears what the other replicas tell.
func exchangeNews(ctx context.Context, g *gate, told []string) (added int64, err error) {
	s := g.store
	s.mu.Lock()
	since := s.since
	s.mu.Unlock()
	began := time.Now()
	at, added, news, err := storeNews(ctx, s, since, told)
	if err != nil {
		return 0, err
	}
	compareClocks(g, "Redis", time.UnixMilli(at), began)
	hearAll(g, news)
	s.mu.Lock()
	s.since = at - 1000 // once more: what another request is about to tell has this time, too
	s.mu.Unlock()
	return added, nil
}

// hearAll takes the marks of other replicas.
func hearAll(g *gate, news []string) {
	for _, sealed := range news {
		hearMark(g, sealed)
	}
}

// hearMark takes a mark of a sign-out, unless it is another middleware's, or known.
func hearMark(g *gate, sealed string) {
	plain, _, err := open(g.sessionSealer, "mark", sealed)
	when, mark, _ := strings.Cut(string(plain), " ")
	at, bad := strconv.ParseInt(when, 10, 64)
	known, _ := recall(g.revoked, mark).(int64) // in a loop the interpreter would keep that of another mark
	if err == nil && bad == nil && at > known {
		keepMarks(g.store, []string{sealed})
		revoke(g, g.revoked, mark, at)
	}
}

// compareClocks notes how far the store's clock is from ours, and warns about clocks that differ. Replicas date sign-ins and sign-outs by
// the store's: else one whose clock is fast would throw out who signs in again after a sign-out.
func compareClocks(g *gate, whose string, theirs, began time.Time) {
	now := time.Now()
	skew := theirs.Sub(began.Add(now.Sub(began) / 2))
	if now.Sub(began) > moment || theirs.Unix() == 0 {
		return // there is no telling when they looked at it, or whether
	}
	if skew.Abs() < maxSkew {
		atomic.StoreInt64(&g.ledger.skew, skew.Milliseconds())
	}
	if skew.Abs() > clockDifference && rememberIf(g.revoked, false, "clock:"+whose, true, 0) {
		logf(g.log, levelWarn, "the clock of %s is %s ahead of this Traefik's (behind it, if negative); set both by NTP", whose, skew.Round(time.Second))
	}
}

// storeClock is the time in milliseconds by the clock that all replicas share.
func storeClock(c *ledger) int64 { return time.Now().UnixMilli() + skewOf(c) }

func skewOf(c *ledger) int64 { return atomic.LoadInt64(&c.skew) }

// forgetStored ends the sessions that a pushed logout names, for all replicas, and says how many those were.
func forgetStored(ctx context.Context, s *store, sid, sub string) (int, error) {
	ids, err := storeFind(ctx, s, sid, sub)
	for _, id := range ids {
		if err == nil {
			err = storeDelete(ctx, s, id)
		}
	}
	return len(ids), err
}

// clearCookies takes the session's cookies from the browser.
func clearCookies(g *gate, rw http.ResponseWriter, req *http.Request) {
	https := isHTTPS(g, req)
	setChunked(rw, req, &g.sessionCookie, cookieName(&g.sessionCookie, https), "", https, -1)
	if g.csrf != nil {
		setCookie(rw, &g.csrf.cookie, cookieName(&g.csrf.cookie, https), "", https, -1)
	}
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
		remember(g.logoutIDs, jti, true, 0)
		return nil
	}
	end, err := numericDate(t.claims, "exp")
	if err == nil {
		life := time.Until(time.Unix(end, 0)) + time.Duration(g.client.rules.skew)*time.Second
		_, err = storeDo(ctx, g.store, hashedKey(g.store.scopes[0], "seen", "jti "+jti), "SET", "1", "PX", milliseconds(life))
	}
	return err
}
