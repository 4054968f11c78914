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

// The life of a session. It begins at sign-in, is authorized once and cached as a principal, is refreshed before its access token expires and
// renewed while the user is active, and ends. Where it is kept meanwhile is the subject of session_storage.go.

// session is one sign-in.
type session struct {
	sessionRecord
	idToken, accessToken, refreshToken string
	parts                              [][]byte       // of the tokens, until unpackTokens reads them
	claims                             map[string]any // of the ID token, parsed once when the session is opened
	ticket                             []byte         // in Redis: the ID of the session's entry, and the key to it; nil in cookies
	validator                          string         // in Redis: the reply to storeValidation
}

// sessionRecord is what a session keeps beside its tokens. Times are Unix seconds, except Start.
type sessionRecord struct {
	ID        string         `json:"i"`           // names the session in logs, CSRF tokens and the logout list
	Start     int64          `json:"s"`           // the sign-in, in milliseconds, so that a logout in the same second can tell before from after
	Renewed   int64          `json:"r"`           // when this copy was sealed because the user was active
	RefreshAt int64          `json:"a,omitempty"` // when to refresh, 0: never
	TokenEnd  int64          `json:"t,omitempty"` // when the tokens end
	End       int64          `json:"e,omitempty"` // when it ends early, because it was replaced or signed out; 0: it was not
	Carried   map[string]any `json:"c,omitempty"` // claims of the first ID token that a refreshed one left out
	Userinfo  map[string]any `json:"u,omitempty"`
	Decision  *decision      `json:"d,omitempty"`
}

// sessionManager is everything that the sessions of one configuration need.
type sessionManager struct {
	config         *Config
	log            *logger
	site           *site
	client         *client
	state          *clientState
	store          *store // nil: sessions are in cookies
	cookie         cookie
	sealer         *sealer
	decisionPolicy *policy                   // the part of the policy whose result a decision holds: rule, user name, headers made from claims
	tokenPolicy    *policy                   // the other part: headers made from the tokens themselves, which are long, and in the session anyway
	hash           string                    // of all options and the plugin's version: see decision
	csrf           *csrf                     // nil: off
	ended          map[string]*endedSessions // by reason; principalsLock guards it
}

// newSessionManager makes what sessions need. Without session.secret, sessions are sealed with the client secret, so that configurations of
// Traefik Hub work as they are, and all replicas have the same key.
func newSessionManager(l *logger, c *Config, st *site, by *policy, middlewareName string, p *problems) *sessionManager {
	secrets := sealingSecrets(c)
	// Shared state is registered under a name derived from the secret. Issuer and client ID would not do: anybody could configure them with
	// another provider.
	var secretNames []string
	for _, secret := range secrets {
		secretNames = append(secretNames, hashText(string(deriveKey(secret, c.Issuer+"\x00"+c.ClientID+"\x00shared"))))
	}
	purpose := "session"
	if c.Session.Store.Redis != nil {
		purpose = "ticket"
	}
	sm := &sessionManager{config: c, log: l, site: st, hash: optionsKey(userAgent, c)[:12], state: findClientState(secretNames, p), csrf: newCSRF(c, middlewareName, secrets), ended: map[string]*endedSessions{},
		cookie: newCookie(c.Session.Name, "%s-session", middlewareName, &c.Session.CookieConfig, c.Session.Partitioned),
		sealer: newSealer(secrets, c.Issuer, c.ClientID, purpose), client: findClient(l, c, nil, "clientConfig", p)}
	sm.decisionPolicy, sm.tokenPolicy = splitPolicy(by)
	sm.sealer.newKeyFrom = &sm.state.newKeyFrom
	sm.store = findStore(sm, secretNames, p)
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
	renewFraction          = 10                   // a session is renewed after a tenth of its idle time, not with every request: each renewal sets a cookie
	replacedCookieGrace    = 5 * time.Second      // how long a replaced cookie stays valid without being checked again
	defaultTokenLifetime   = 300                  // seconds, for tokens that do not say when they expire
	refusedRefreshLifetime = 365 * 24 * time.Hour // how long it is remembered that a refresh token was refused
	replacedSessionGrace   = 30 * time.Second     // how long a replaced session lives on, for requests that its browser has already sent
	endedSessionsReport    = 10                   // how many sessions must end in one minute to be worth a warning
	maxRecheckInterval     = time.Hour            // how long a principal may be used without being checked again
)

// carriedClaims are claims that a refreshed ID token may omit although they still hold: who the user is, how they signed in, and the
// provider's session ID. Claims that decide about access (groups, roles) are never carried over: the user may have lost them.
var carriedClaims = strings.Fields("sid auth_time acr amr nonce name given_name family_name middle_name nickname preferred_username picture " +
	"email email_verified locale zoneinfo")

// newSession makes the session of a completed sign-in.
func newSession(t *tokenResponse, claims, userinfo map[string]any, now time.Time) *session {
	s := &session{idToken: t.idToken, accessToken: t.accessToken, refreshToken: t.refreshToken, claims: claims}
	s.sessionRecord = sessionRecord{ID: randomText()[:22], Start: now.UnixMilli(), Renewed: now.Unix(), Userinfo: userinfo}
	s.RefreshAt, s.TokenEnd = refreshTime(t, claims, now)
	return s
}

// refreshTime is shortly before the access token expires. If the provider does not say when that is, the ID token's exp counts.
func refreshTime(t *tokenResponse, claims map[string]any, now time.Time) (at, end int64) {
	lifetime := t.expiresIn
	if lifetime == 0 {
		end, err := numericDate(claims, "exp")
		if lifetime = end - now.Unix(); err != nil || lifetime <= 0 {
			lifetime = defaultTokenLifetime // a refresh that returned neither: try again before long
		}
	}
	lead := lifetime / 10
	if lead > 60 {
		lead = 60
	}
	return now.Unix() + lifetime - lead, now.Unix() + lifetime
}

// authenticateSession finds the session of a request and authorizes it, and refreshes and renews it if it is due. A session that cannot be
// read, has ended or was logged out gives errNoCredentials with the reason: the browser simply signs in again.
func authenticateSession(m *middleware, rw http.ResponseWriter, req *http.Request) (*principal, error) {
	https := isHTTPS(m.site, req)
	name := cookieName(&m.sessions.cookie, https)
	if https {
		useHTTPSCookie(m.cache, name)
	}
	reason := errNoCredentials
	for _, value := range chunkedValues(req, name) {
		credential := name + "=" + value // a session is valid only under its own cookie's name
		if p := findPrincipal(m.cache, credential); p != nil {
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
			deleteEnded(m.sessions, rw, req, s)
		}
		if !errors.Is(err, errNoCredentials) {
			return p, err
		}
		reason = err // a valid one may follow
	}
	return nil, reason
}

// authorizeSession checks an opened session, refreshes and renews it if it is due, applies the rule, and caches the principal.
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
		err = checkSession(m.sessions, fresh, now) // it may have been logged out meanwhile
	}
	if err != nil {
		return nil, err
	}
	isDue := s.End == 0 && now.Unix() >= partEnd(m.sessions, fresh, renewFraction) // a replaced session must not take its cookie's place back
	kept := fresh
	if fresh != s || !current || isDue {
		kept, err = saveSession(m.sessions, rw, req, fresh, isDue, now)
	}
	var p *principal
	if err == nil { // if the rule refuses the session, it lives on for pages with another rule
		p, err = evaluateSession(m.policy, kept) // as it is kept now: another replica may have written it meanwhile
	}
	if err != nil {
		return p, err
	}
	until := recheckTime(m.sessions, kept, now)
	if kept.ticket != nil {
		until = allowRevalidation(m, p, kept, until, now)
	}
	if p, err = rememberPrincipal(req.Context(), m.clientCredentials, m.cache, credential, p, until); err != nil {
		return nil, err
	}
	if err = checkSession(m.sessions, kept, now); err != nil { // it was logged out before there was a principal to remove
		removeByName(m.sessions.state, "id", kept.ID)
		return nil, err
	}
	return p, nil
}

// rememberPrincipal completes the principal of a credential that the rule allows, and caches it.
func rememberPrincipal(ctx context.Context, cc *clientCredentials, pc *principalCache, credential string, p *principal, until time.Time) (*principal, error) {
	p.validUntil = until
	if cc != nil && cc.hasOwnClient {
		if err := addOwnToken(ctx, cc, p); err != nil {
			return nil, err
		}
	}
	p.size += principalCost + len(p.sessionID+p.sid+p.sub)
	if p.user != nil {
		p.size += len(p.user.Username())
	}
	for i := len(p.names) - 1; i >= 0; i-- {
		values := p.values[i]
		p.headers = &upstreamHeader{p.names[i], values, p.headers}
		p.size += upstreamHeaderCost
		for _, line := range values {
			p.size += len(line) + stringCost
		}
	}
	p.names = nil
	p.values = nil
	cachePrincipal(pc, p, credential)
	return p, nil
}

// addOwnToken adds the token of the middleware's own client, which the principal must not outlive.
func addOwnToken(ctx context.Context, cc *clientCredentials, p *principal) error {
	renewAt, err := addUpstreamToken(ctx, cc, p, "", "", "")
	p.validUntil = earlier(p.validUntil, renewAt)
	p.revalidatableUntil = earlier(p.revalidatableUntil, renewAt)
	return err
}

// checkSession returns why a session has ended, or nil.
func checkSession(sm *sessionManager, s *session, now time.Time) error {
	if now.Unix() >= sessionEnd(sm, s) {
		return fmt.Errorf("%w: session %s has expired", errNoCredentials, s.ID)
	}
	if isRevoked(sm.state, s.ID, stringOf(s.claims["sid"]), stringOf(s.claims["sub"]), s.Start) {
		return fmt.Errorf("%w: session %s was logged out", errSessionEnded, s.ID)
	}
	// Another middleware may have made the session without requesting acrValues or maxAge, or a refresh may have lowered its level.
	if err := firstError(checkACR(sm.config.ACRValues, s.claims), checkAuthTime(sm.client.rules, sm.config.MaxAge, s.claims, s.Start/1000)); err != nil {
		return fmt.Errorf("%w: session %s: %s", errNoCredentials, s.ID, err)
	}
	return nil
}

// sessionEnd is when a session ends according to this middleware's options, in Unix seconds.
func sessionEnd(sm *sessionManager, s *session) int64 { return partEnd(sm, s, 1) }

// partEnd is the end of the session's life, or, if it is earlier, the time when a part (1/share) of its idle time has passed.
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

// recheckTime is when a session must be checked again, because it is to be renewed or refreshed, or ends.
func recheckTime(sm *sessionManager, s *session, now time.Time) time.Time {
	end := partEnd(sm, s, renewFraction)
	if end <= now.Unix() { // it was due, but could not be renewed
		end = sessionEnd(sm, s)
	}
	until := earlier(time.Unix(end, 0), now.Add(maxRecheckInterval))
	if canRefresh(sm, s) {
		again := time.Unix(s.RefreshAt, 0)
		if again.Before(now) { // the provider is unavailable; the back-off decides about the next attempt
			again = now.Add(time.Second)
		}
		until = earlier(until, again)
	}
	return until
}

// canRefresh reports whether a session's tokens can be refreshed.
func canRefresh(sm *sessionManager, s *session) bool {
	return s.RefreshAt > 0 && s.refreshToken != "" && sm.config.Session.Refresh && s.End == 0
}

// refreshIfDue refreshes the session's tokens if it is time. A provider that is unavailable does not end a session; one that refuses the
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

// refreshSession redeems the session's refresh token, only once, however many requests and middlewares ask. Requests that still carry the
// old cookie get the new session, even if the client whose request did the work has gone away.
func refreshSession(ctx context.Context, sm *sessionManager, s *session) (*session, error) {
	key := hashText(fmt.Sprint(s.RefreshAt, " ", s.refreshToken)) // with the time, because without rotation a refresh token is used repeatedly
	patience := sm.client.http.Timeout
	if time.Now().Unix() < s.TokenEnd {
		patience = briefWait
	}
	waiting, stop := context.WithTimeout(ctx, patience)
	defer stop()
	known, _ := cached(sm.state.refreshed, key)
	known, err := refetch(waiting, sm.state.refreshed, key, known.version, func(ctx context.Context, made *fetched) error {
		before, _ := made.value.(*session) // from a cookie, or one that the store may not have
		call, _ := made.value.(*delayedCall)
		if call == nil {
			call = &delayedCall{wait: patience}
		}
		//lint:ignore SA1029 the interpreter takes all types of ours for one
		fresh, err := refreshTokens(context.WithValue(ctx, delayedCallKey, call), sm, s, before, key, patience)
		if fresh != nil {
			made.value = fresh // even if the store could not be written: the refresh token has been used up
			made.size = sessionCost(fresh)
		} else if call.conn != nil {
			made.value = call
		} else if before == nil {
			made.value = nil
			backOff(&made.backoff, err, time.Now())
			if !errors.Is(err, errUnavailable) {
				made.backoff.until = time.Now().Add(refusedRefreshLifetime) // otherwise an outage of the provider would revive a refused session
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
		return err
	})
	fresh, _ := known.value.(*session)
	return fresh, err
}

// sessionCost estimates how many bytes a session takes in memory.
func sessionCost(s *session) int {
	record, _ := json.Marshal(&s.sessionRecord) // as when it is packed
	return parsedJSONFactor*(len(s.idToken)+len(record)) + len(s.accessToken) + len(s.refreshToken)
}

// redeemRefreshToken redeems the refresh token, and verifies the response as strictly as at sign-in (OIDC Core 12.2).
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
	if t.refreshToken != "" { // RFC 6749 6: if none is returned, the old one stays valid
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

// replaceIDToken replaces the session's ID token with a refreshed one. If the keys are unavailable, the old ID token stays: the refresh
// token has been used up, and the response did come from the provider.
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
		if !hasKey(verified.claims, name) && fresh.claims[name] != nil {
			carried[name] = fresh.claims[name]
		}
	}
	fresh.Carried = carried
	fresh.idToken = t.idToken
	fresh.claims = mergeClaims(carried, verified.claims)
	return nil
}

// evaluateSession applies a policy to a session.
func evaluateSession(by *policy, s *session) (*principal, error) {
	claims := mergeClaims(s.Userinfo, s.claims)
	id := identity{"": claims, "id_token": claims, "userinfo": s.Userinfo, "raw": map[string]any{"id_token": s.idToken, "access_token": s.accessToken}}
	if t, err := parseToken(s.accessToken); err == nil {
		id["access_token"] = t.claims // not verified, but it came straight from the token endpoint
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

// openSessions returns the sessions of a request, live ones first. The ID token of an expired session still tells the provider who signs out.
func openSessions(sm *sessionManager, req *http.Request) ([]*session, error) {
	var sessions []*session
	name := cookieName(&sm.cookie, isHTTPS(sm.site, req))
	for _, value := range chunkedValues(req, name) {
		s, _, err := openSession(req.Context(), sm, name, value)
		if err == nil {
			err = unpackTokens(s)
		}
		if errors.Is(err, errUnavailable) {
			return nil, err
		}
		if err == nil && checkSession(sm, s, time.Now()) == nil {
			sessions = append([]*session{s}, sessions...)
		} else if err == nil {
			sessions = append(sessions, s)
		}
	}
	return sessions, nil
}

// endSessions ends the sessions of a browser: it removes their cookies and principals, and revokes copies that may still be around.
func endSessions(sm *sessionManager, rw http.ResponseWriter, req *http.Request, sessions []*session) error {
	var keys []string
	for _, s := range sessions {
		s.End = time.Now().Unix()
		if _, err := writeSession(req.Context(), sm, s); err != nil {
			return err // otherwise the session would live on without its owner's knowledge
		}
		keys = append(keys, "id:"+s.ID)
	}
	clearCookies(sm, rw, req)
	for _, key := range keys {
		revoke(sm, sm.state.revoked, key, sharedClock(sm.state))
	}
	_ = publishLogouts(req.Context(), sm, keys) // only for the case that Redis loses the deletion, which has succeeded
	return nil
}

// endReplaced ends the session that a browser had before a new sign-in. Its cookie is replaced, so only a thief can still use it, or a
// request in progress, whose response must not put the old cookie back.
func endReplaced(sm *sessionManager, req *http.Request, by *session) {
	sessions, err := openSessions(sm, req)
	for _, old := range sessions {
		if old.ID == by.ID {
			continue // the browser repeated the callback
		}
		cacheAdd(sm.state.revoked, "replaced:"+old.ID, "")
		old.End = time.Now().Add(replacedSessionGrace).Unix()
		_, failed := writeSession(req.Context(), sm, old)
		err = firstError(err, failed)
	}
	if err != nil {
		logf(sm.log, levelInfo, "the session before this sign-in could not be ended: %s", err)
	}
}

// deleteEnded deletes a session that was logged out, or whose refresh the provider refused, so that no other replica tries it again.
func deleteEnded(sm *sessionManager, rw http.ResponseWriter, req *http.Request, s *session) {
	s.End = time.Now().Unix()
	isStored, err := writeSession(req.Context(), sm, s)
	if err != nil {
		logf(sm.log, levelInfo, "session %s could not be deleted: %s", s.ID, err)
	}
	if isStored && !cacheHasAny(sm.state.revoked, []string{"id:" + s.ID, "replaced:" + s.ID}) { // otherwise the browser no longer has this cookie, or may have a newer one, from another replica
		clearCookies(sm, rw, req)
	}
}

// endedSessions are the sessions that ended for the same reason within a minute.
type endedSessions struct {
	since      time.Time
	sessions   map[string]bool
	nextReport int // the number at which the next line is logged
}

// countEndedSession counts sessions that end without their users' doing. One means nothing; many should concern the operator.
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
