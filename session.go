package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The life of a session: made at sign-in, kept at the browser (or in Redis, with a ticket at the browser), judged once and remembered as a
// principal, refreshed before its access token ends, renewed while the user is active, ended.

// session is one sign-in.
type session struct {
	sessionRecord
	idToken, accessToken, refreshToken string
	parts                              [][]byte       // of the tokens, until unpackTokens
	claims                             map[string]any // of the ID token, read once when the session was opened
	ticket                             []byte         // with a store: the session's id and key there
	validator                          string         // with a store: the reply to storeValidation
}

// sessionRecord is what a session keeps beside its tokens. Times are Unix seconds but for Start.
type sessionRecord struct {
	ID        string         `json:"i"`           // names the session in logs, CSRF tokens and the logout list
	Start     int64          `json:"s"`           // the sign-in, in milliseconds: a logout of the same second must tell before from after
	Renewed   int64          `json:"r"`           // when this copy was sealed because the user was active
	RefreshAt int64          `json:"a,omitempty"` // when to refresh, 0: never
	TokenEnd  int64          `json:"t,omitempty"` // when the tokens end
	End       int64          `json:"e,omitempty"` // when it ends because another one took its place, 0: none did
	Carried   map[string]any `json:"c,omitempty"` // claims of the first ID token that a refreshed one left out
	Userinfo  map[string]any `json:"u,omitempty"`
	Decision  *decision      `json:"d,omitempty"`
}

// decision is what a middleware says of a session that is opened again, so that its tokens need not be read: that costs the interpreter as
// much as all the rest of a request. It is sealed with them, and holds for exactly the options it was made by.
type decision struct {
	By       string     `json:"b"` // a hash of the options
	Until    int64      `json:"u"` // when the session must be refreshed, renewed or ended, in Unix seconds
	Username string     `json:"n,omitempty"`
	SID      string     `json:"p,omitempty"`
	Subject  string     `json:"s,omitempty"`
	Names    []string   `json:"h,omitempty"` // of the headers
	Values   [][]string `json:"v,omitempty"`
}

// sessionManager is all that the sessions of one configuration need.
type sessionManager struct {
	config *Config
	log    *logger
	site   *site
	client *client
	state  *clientState
	store  *store // nil: sessions are in cookies
	cookie cookie
	sealer *sealer
	sealed *policy                   // what a decision holds: the rule, the user's name, headers of claims
	opened *policy                   // headers of the tokens themselves, which are long, and in the session already
	hash   string                    // of all options and this plugin's version: see decision
	csrf   *csrf                     // nil: off
	ended  map[string]*endedSessions // by why; principalsLock guards it
}

// newSessionManager makes what sessions need. Without a secret of its own a session is sealed with the client's, so that configurations of
// Traefik Hub start as they are and all replicas have the same key.
func newSessionManager(ctx context.Context, l *logger, c *Config, st *site, by *policy, middlewareName string, p *problems) *sessionManager {
	secrets := sealingSecrets(c)
	// Middlewares that know a secret find by its name what they share: issuer and client anybody can write down, beside another provider.
	var secretNames []string
	for _, secret := range secrets {
		secretNames = append(secretNames, hashText(string(deriveKey(secret, c.Issuer+"\x00"+c.ClientID+"\x00shared"))))
	}
	purpose := "session"
	if c.Session.Store.Redis != nil {
		purpose = "ticket"
	}
	sm := &sessionManager{config: c, log: l, site: st, hash: optionsKey(userAgent, c)[:12], state: findClientState(ctx, secretNames), csrf: newCSRF(c, middlewareName, secrets), ended: map[string]*endedSessions{},
		cookie: newCookie(c.Session.Name, "%s-session", middlewareName, &c.Session.CookieConfig, c.Session.Partitioned),
		sealer: newSealer(secrets, c.Issuer, c.ClientID, purpose), client: findClient(ctx, l, c, nil, "clientConfig", p)}
	sm.sealed, sm.opened = splitPolicy(by)
	sm.sealer.newKeyFrom = &sm.state.newKeyFrom
	sm.store = findStore(ctx, sm, secretNames, p)
	sm.state.revoked.mu.Lock()
	if sm.store == nil && c.Session.Expiry > sm.state.maxExpiry {
		sm.state.maxExpiry = c.Session.Expiry
	}
	sm.state.revoked.mu.Unlock()
	return sm
}

// sealingSecrets are what sessions are sealed with: the first one seals, all of them open.
func sealingSecrets(c *Config) []string {
	secret := c.Session.Secret
	if secret == "" {
		secret = c.ClientSecret
	}
	return append([]string{secret}, c.Session.PreviousSecrets...)
}

const (
	renewFraction          = 10                   // a session is sealed anew when this part of the time it may be idle has passed: not each time, for a cookie each
	replacedCookieGrace    = 5 * time.Second      // how long a replaced cookie is good for without another look
	defaultTokenLifetime   = 300                  // seconds, of tokens that do not tell their end
	refusedRefreshLifetime = 365 * 24 * time.Hour // a refresh token that was refused is not asked for again
	maxRecheckInterval     = time.Hour            // a principal is looked at again at least this often
	maxDecisionSize        = 512                  // bytes of header values sealed with a session: longer ones are mostly its tokens
)

// carriedClaims are what a refreshed ID token may leave out without the user having lost it: who they are and how they signed in,
// and the session's name at the provider. What a rule is likely to judge (groups, roles) is never carried: it may have been taken away.
var carriedClaims = strings.Fields("sid auth_time acr amr nonce name given_name family_name middle_name nickname preferred_username picture " +
	"email email_verified locale zoneinfo")

// newSession makes the session of a sign-in that just succeeded.
func newSession(t *tokenResponse, claims, userinfo map[string]any, now time.Time) *session {
	record := sessionRecord{ID: randomText()[:22], Start: now.UnixMilli(), Renewed: now.Unix(), Userinfo: userinfo}
	record.RefreshAt, record.TokenEnd = refreshTime(t, claims, now)
	return &session{sessionRecord: record, idToken: t.idToken, accessToken: t.accessToken, refreshToken: t.refreshToken, claims: claims}
}

// refreshTime is shortly before the access token ends, or the ID token when the provider does not say when that is.
func refreshTime(t *tokenResponse, claims map[string]any, now time.Time) (at, end int64) {
	lifetime := t.expiresIn
	if lifetime == 0 {
		end, err := numericDate(claims, "exp")
		if lifetime = end - now.Unix(); err != nil || lifetime <= 0 {
			lifetime = defaultTokenLifetime // a refresh that brought neither: ask again before long
		}
	}
	lead := lifetime / 10
	if lead > 60 {
		lead = 60
	}
	return now.Unix() + lifetime - lead, now.Unix() + lifetime
}

// authenticateSession finds the session a request brings and lets it in, refreshing and renewing it where it is time.
// What cannot be read, has ended or was logged out is errNoCredentials with its reason: the browser simply signs in again.
func authenticateSession(m *middleware, rw http.ResponseWriter, req *http.Request) (*principal, error) {
	https := isHTTPS(m.site, req)
	name := cookieName(&m.sessions.cookie, https)
	if https {
		useHTTPSCookie(m.cache, name)
	}
	reason := errNoCredentials
	for _, value := range chunkedValues(req, name) {
		credential := name + "=" + value // a session is good under its own cookie's name only
		if p := findPrincipal(m.cache, credential); p != nil && time.Until(p.validUntil) > 0 {
			return p, nil
		}
		var p *principal
		s, current, err := openSession(req.Context(), m.sessions, name, value)
		if err == nil && current && s.Decision != nil && s.Decision.By == m.sessions.hash {
			p, err = acceptDecision(req.Context(), m, s, credential)
		}
		if err == nil && p == nil {
			p, err = authorizeSession(m, rw, req, s, credential, current)
		}
		if errors.Is(err, errSessionEnded) {
			deleteStored(m.sessions, rw, req, s)
		}
		if !errors.Is(err, errNoCredentials) {
			return p, err
		}
		reason = err // there may be a good one behind it
	}
	return nil, reason
}

// acceptDecision lets in whom these options let in when the session was sealed. It returns nothing when there is more to do.
func acceptDecision(ctx context.Context, m *middleware, s *session, credential string) (*principal, error) {
	d, now := s.Decision, time.Now()
	until := time.Unix(d.Until, 0)
	if !now.Before(until) || isRevoked(m.sessions.state, s.ID, d.SID, d.Subject, s.Start) {
		return nil, nil
	}
	p := &principal{sessionID: s.ID, sid: d.SID, sub: d.Subject, names: d.Names, values: d.Values}
	if d.Username != "" {
		p.user = url.User(d.Username)
	}
	if m.sessions.opened.headers != nil {
		addTokenHeaders(m.sessions.opened, p, s)
	}
	p, err := rememberPrincipal(ctx, m.clientCredentials, m.cache, credential, p, earlier(until, now.Add(maxRecheckInterval)))
	if err == nil && isRevoked(m.sessions.state, s.ID, d.SID, d.Subject, s.Start) { // logged out before there was a principal to drop
		removeByName(m.sessions.state, s.ID)
		return nil, nil
	}
	return p, err
}

// splitPolicy takes the headers that are made of tokens alone out of a policy.
func splitPolicy(by *policy) (rest, tokens *policy) {
	rest = &policy{rule: by.rule, username: by.username}
	tokens = &policy{}
	for _, h := range by.headers {
		isOfTokens := h.format != nil && len(h.format.keys) > 0
		for i := 0; isOfTokens && i < len(h.format.keys); i++ {
			isOfTokens = h.format.keys[i][0] == "raw"
		}
		if isOfTokens {
			tokens.headers = append(tokens.headers, h)
		} else {
			rest.headers = append(rest.headers, h)
		}
	}
	return rest, tokens
}

// addTokenHeaders makes the headers that a decision leaves out.
func addTokenHeaders(by *policy, p *principal, s *session) {
	raw := rawTokens(s.parts)
	made, _ := evaluatePolicy(by, identity{"raw": map[string]any{"id_token": raw[0], "access_token": raw[1]}}) // without a rule nobody is refused
	p.names = append(p.names, made.names...)
	p.values = append(p.values, made.values...)
}

// decide makes what is sealed with a session; nil when the rule says no, or when the headers are long.
func decide(sm *sessionManager, s *session, now time.Time) *decision {
	p, err := evaluateSession(sm.sealed, s)
	if err != nil || s.End > 0 || checkSession(sm, s, now) != nil {
		return nil
	}
	made := &decision{By: sm.hash, Until: partEnd(sm, s, renewFraction), SID: p.sid, Subject: p.sub, Names: p.names, Values: p.values}
	if canRefresh(sm, s) && s.RefreshAt < made.Until {
		made.Until = s.RefreshAt
	}
	if p.user != nil {
		made.Username = p.user.Username()
	}
	size := len(made.Username)
	for _, lines := range p.values {
		size += len(strings.Join(lines, ""))
	}
	if size > maxDecisionSize {
		return nil
	}
	return made
}

// authorizeSession takes an opened session through everything that may end or change it, and judges it.
func authorizeSession(m *middleware, rw http.ResponseWriter, req *http.Request, s *session, credential string, current bool) (*principal, error) {
	now := time.Now()
	if err := unpackTokens(s); err != nil {
		return nil, fmt.Errorf("%w: session cookie: %w", errNoCredentials, err)
	}
	if err := checkSession(m.sessions, s, now); err != nil {
		return nil, err
	}
	fresh, err := refreshIfDue(req.Context(), m.sessions, s, now)
	if err == nil && fresh != s {
		err = checkSession(m.sessions, fresh, now) // logged out while it was refreshed
	}
	if err != nil {
		return nil, err
	}
	isDue := s.End == 0 && now.Unix() >= partEnd(m.sessions, fresh, renewFraction) // one that was replaced must not take its cookie's place back
	kept := fresh
	until := recheckTime(m.sessions, fresh, now)
	if m.store != nil {
		kept, err = saveStored(m.sessions, rw, req, s, fresh, current, isDue, now)
	} else if fresh != s || !current || isDue {
		err = saveSession(m.sessions, rw, req, fresh, now)
		// This cookie is replaced. Requests that carry it still go on for a moment without another look at it.
		until = earlier(now.Add(replacedCookieGrace), time.Unix(sessionEnd(m.sessions, s), 0))
	}
	var p *principal
	if err == nil { // when the rule says no the session stays, for pages with another rule
		p, err = evaluateSession(m.policy, kept) // the copy that the principal is good for: another replica may have written it meanwhile
	}
	if err != nil {
		return p, err
	}
	if m.store != nil {
		p.validation, p.redisSlot = storeValidation(m.store, ticketID(kept.ticket))
		p.validator = kept.validator
		p.revalidatableUntil = recheckTime(m.sessions, kept, now)
		until = earlier(p.revalidatableUntil, now.Add(m.cache.localCopyLifetime))
	}
	if p, err = rememberPrincipal(req.Context(), m.clientCredentials, m.cache, credential, p, until); err != nil {
		return nil, err
	}
	if err = checkSession(m.sessions, kept, now); err != nil { // logged out before there was a principal to remove
		removeByName(m.sessions.state, kept.ID)
		return nil, err
	}
	return p, nil
}

// rememberPrincipal finishes and caches the principal of a credential that the rule allows.
func rememberPrincipal(ctx context.Context, cc *clientCredentials, pc *principalCache, credential string, p *principal, until time.Time) (*principal, error) {
	if cc != nil && cc.hasOwnClient {
		renewAt, err := addUpstreamToken(ctx, cc, p, "", "", "")
		if err != nil {
			return nil, err
		}
		until = earlier(until, renewAt)
		p.revalidatableUntil = earlier(p.revalidatableUntil, renewAt)
	}
	p.size = principalCost + len(p.validation) + len(p.sessionID) + len(p.sid) + len(p.sub)
	for i := len(p.names) - 1; i >= 0; i-- {
		p.headers = &upstreamHeader{p.names[i], p.values[i], p.headers}
		p.size += upstreamHeaderCost
		for _, line := range p.values[i] {
			p.size += len(line) + 16 // of its place
		}
	}
	p.names = nil
	p.values = nil
	p.validUntil = until
	cachePrincipal(pc, p, credential)
	return p, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// checkSession says why a session has ended, or nil.
func checkSession(sm *sessionManager, s *session, now time.Time) error {
	if now.Unix() >= sessionEnd(sm, s) {
		return fmt.Errorf("%w: session %s has expired", errNoCredentials, s.ID)
	}
	if isRevoked(sm.state, s.ID, stringOf(s.claims["sid"]), stringOf(s.claims["sub"]), s.Start) {
		return fmt.Errorf("%w: session %s was logged out", errSessionEnded, s.ID)
	}
	// Another middleware may have made it without asking for a level or an age, or the level may be lower since a refresh.
	if err := firstError(checkACR(sm.config.ACRValues, s.claims), checkAuthTime(sm.client.rules, sm.config.MaxAge, s.claims, s.Start/1000)); err != nil {
		return fmt.Errorf("%w: session %s: %s", errNoCredentials, s.ID, err)
	}
	return nil
}

// sessionEnd is when a session ends by this middleware's options, in Unix seconds.
func sessionEnd(sm *sessionManager, s *session) int64 { return partEnd(sm, s, 1) }

// partEnd is when a part of the time has passed that a session may be idle, or its whole life.
func partEnd(sm *sessionManager, s *session, share int) int64 {
	options := &sm.config.Session
	idle := options.IdleTimeout
	life := options.MaxLifetime
	if options.Sliding && (idle == 0 || options.Expiry < idle) {
		idle = options.Expiry
	}
	if !options.Sliding && (life == 0 || options.Expiry < life) {
		life = options.Expiry
	}
	end := s.Start/1000 + int64(life)
	if used := s.Renewed + int64(idle/share); life == 0 || idle > 0 && used < end {
		end = used
	}
	if s.End > 0 && s.End < end {
		end = s.End
	}
	return end
}

// recheckTime is when a session must be looked at again: before it ends, is renewed or is refreshed.
func recheckTime(sm *sessionManager, s *session, now time.Time) time.Time {
	end := partEnd(sm, s, renewFraction)
	if end <= now.Unix() { // it could not be renewed just now
		end = sessionEnd(sm, s)
	}
	until := earlier(time.Unix(end, 0), now.Add(maxRecheckInterval))
	if canRefresh(sm, s) {
		again := time.Unix(s.RefreshAt, 0)
		if again.Before(now) { // the provider is away: the next attempt is the back-off's business
			again = now.Add(time.Second)
		}
		until = earlier(until, again)
	}
	return until
}

// canRefresh says whether a session has tokens to refresh.
func canRefresh(sm *sessionManager, s *session) bool {
	return s.RefreshAt > 0 && s.refreshToken != "" && sm.config.Session.Refresh && s.End == 0
}

// refreshIfDue refreshes the session's tokens when it is time. A provider that is away does not end a session; one that refuses the
// refresh token does.
func refreshIfDue(ctx context.Context, sm *sessionManager, s *session, now time.Time) (*session, error) {
	if !canRefresh(sm, s) || now.Unix() < s.RefreshAt {
		return s, nil
	}
	fresh, err := refreshSession(ctx, sm, s)
	if errors.Is(err, errUnavailable) {
		return s, nil
	}
	if err != nil {
		err = fmt.Errorf("%w: session %s could not be refreshed", errSessionEnded, s.ID)
	}
	return fresh, err
}

// refreshResult is what became of a refresh token, for who still brings it: a session, or failures.
type refreshResult struct {
	fresh  *session
	failed backoff
	call   *delayedCall // the exchange under way
}

// refreshSession spends the session's refresh token, once however many requests and middlewares ask. Requests that still carry the
// old cookie get the session it became, also when the client that paid for it went away.
func refreshSession(ctx context.Context, sm *sessionManager, s *session) (*session, error) {
	key := hashText(fmt.Sprint(s.RefreshAt, " ", s.refreshToken)) // a refresh token that is not rotated is spent again and again
	patience := sm.client.http.Timeout
	if time.Now().Unix() < s.TokenEnd {
		patience = briefWait
	}
	waiting, stop := context.WithTimeout(ctx, patience)
	defer stop()
	value, err := doOnce(waiting, &sm.state.refreshesInFlight, key, func(ctx context.Context) (any, error) {
		known, _ := cacheGet(sm.state.refreshed, key).(*refreshResult)
		if known == nil {
			known = &refreshResult{call: &delayedCall{}}
			cacheSet(sm.state.refreshed, key, known, 0) // only this call looks into it
		}
		if known.fresh != nil && sm.store == nil {
			return known.fresh, nil
		}
		if known.fresh == nil && time.Now().Before(known.failed.until) {
			return nil, known.failed.err
		}
		if known.call.conn == nil {
			known.call.wait = patience
		}
		//lint:ignore SA1029 the interpreter takes all types of ours for one
		fresh, err := redeemWithLease(context.WithValue(ctx, delayedCallKey, known.call), sm, s, known.fresh, key, patience)
		if fresh != nil {
			known.fresh = fresh // also when the store could not be written: the refresh token is spent
			cacheSet(sm.state.refreshed, key, known, sessionCost(fresh))
		} else if known.call.conn == nil {
			backOff(&known.failed, err, time.Now())
			if !errors.Is(err, errUnavailable) {
				known.failed.until = time.Now().Add(refusedRefreshLifetime) // or an outage would bring back who was refused
			}
		}
		if err != nil {
			level := levelInfo
			if errors.Is(err, errUnavailable) && !errors.Is(err, errInProgress) {
				level = levelWarn
			}
			if errors.Is(err, errRefused) || errors.Is(err, errNotAllowed) {
				countEndedSession(sm, "were ended by the provider, which refused their refresh; is it new, or has it lost them?", s.ID)
			}
			logf(sm.log, level, "session %s: refresh: %s", s.ID, err)
		}
		return fresh, err
	})
	fresh, _ := value.(*session)
	return fresh, err
}

// sessionCost is about how many bytes a session takes in memory.
func sessionCost(s *session) int {
	record, _ := json.Marshal(&s.sessionRecord) // as when it is packed
	return parsedJSONFactor*(len(s.idToken)+len(record)) + len(s.accessToken) + len(s.refreshToken)
}

// redeemRefreshToken exchanges the refresh token and verifies what comes back as strictly as at sign-in (OIDC Core 12.2).
func redeemRefreshToken(ctx context.Context, sm *sessionManager, s *session) (*session, error) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.refreshToken}, "resource": sm.config.Resource}
	t, err := requestTokens(ctx, sm.client, form)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	renewed := *s
	fresh := &renewed
	fresh.accessToken = t.accessToken
	if t.refreshToken != "" { // RFC 6749 6: none returned, the old one stays good
		fresh.refreshToken = t.refreshToken
	}
	if t.idToken != "" {
		if err := replaceIDToken(ctx, sm.client, fresh, t, now); err != nil {
			return nil, err
		}
	}
	fresh.Renewed = now.Unix()
	fresh.RefreshAt, fresh.TokenEnd = refreshTime(t, fresh.claims, now)
	if s.Userinfo != nil {
		info, err := fetchUserinfo(ctx, sm.client, fresh.accessToken, stringOf(s.claims["sub"]))
		if err != nil && !errors.Is(err, errUnavailable) {
			return nil, err
		}
		if err == nil {
			fresh.Userinfo = info
		}
	}
	return fresh, nil
}

// replaceIDToken puts a refreshed ID token in the place of the session's. When the keys cannot be had right now the old ID token stays:
// the refresh token is spent already, and the answer came from the provider itself.
func replaceIDToken(ctx context.Context, c *client, fresh *session, t *tokenResponse, now time.Time) error {
	verified, err := verifyIDToken(ctx, c, t.idToken)
	if errors.Is(err, errUnavailable) {
		return nil
	}
	if err == nil {
		err = checkRefreshedIDToken(c.rules, verified, fresh.claims, fresh.accessToken, now)
	}
	if err != nil {
		return fmt.Errorf("refreshed id token: %w", err)
	}
	carried := map[string]any{}
	for _, name := range carriedClaims {
		if _, named := verified.claims[name]; !named && fresh.claims[name] != nil {
			carried[name] = fresh.claims[name]
		}
	}
	fresh.Carried = carried
	fresh.idToken = t.idToken
	fresh.claims = mergeClaims(carried, verified.claims)
	return nil
}

// mergeClaims is the claims of over on top of those of under.
func mergeClaims(under, over map[string]any) map[string]any {
	both := make(map[string]any, len(under)+len(over))
	for name, value := range under {
		both[name] = value
	}
	for name, value := range over {
		both[name] = value
	}
	return both
}

// evaluateSession applies the rule to a session and finishes the headers for it.
func evaluateSession(by *policy, s *session) (*principal, error) {
	claims := mergeClaims(s.Userinfo, s.claims)
	id := identity{"": claims, "id_token": claims, "userinfo": s.Userinfo, "raw": map[string]any{"id_token": s.idToken, "access_token": s.accessToken}}
	if t, err := parseToken(s.accessToken); err == nil {
		id["access_token"] = t.claims // it came from the token endpoint itself, so its claims are the provider's word
	}
	p, err := evaluatePolicy(by, id)
	if err != nil {
		return p, fmt.Errorf("%w (sub %q)", err, forLog(stringOf(s.claims["sub"])))
	}
	p.sessionID = s.ID
	p.sid = stringOf(s.claims["sid"])
	p.sub = stringOf(s.claims["sub"])
	return p, nil
}

// endSessions forgets the sessions of a browser here: its cookies, their principals, and any copies of them that may still be around.
func endSessions(sm *sessionManager, rw http.ResponseWriter, req *http.Request, sessions []*session) error {
	for _, s := range sessions {
		if sm.store == nil {
			break
		}
		if err := storeDelete(req.Context(), sm.store, ticketID(s.ticket)); err != nil {
			return err // or the session would live on without its owner's knowledge
		}
	}
	clearCookies(sm, rw, req)
	var marks []string
	for _, s := range sessions {
		revoke(sm, sm.state.revoked, "id:"+s.ID, sharedClock(sm.state))
		marks = append(marks, "id:"+s.ID)
	}
	if sm.store != nil && marks != nil {
		_ = publishLogouts(req.Context(), sm, marks...) // in case Redis loses the deletion; the session is gone
	}
	return nil
}
