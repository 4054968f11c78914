package oidc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// This room ends sessions, in four ways: the user signs out here (OpenID Connect RP-Initiated Logout), the provider says so itself
// (Back-Channel Logout) or through the user's browser (Front-Channel Logout), and the user lands here after signing out there.

const (
	maxForm = 64 << 10 // bytes of a form that is posted to us
	maxHint = 1500     // bytes of an ID token that an address can be asked to carry; the provider takes a form as well (RP-Initiated Logout 2)
)

// readForm is the body of a posted form, as text.
func readForm(req *http.Request) (string, error) {
	kind, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if kind != "application/x-www-form-urlencoded" {
		return "", fmt.Errorf("form: expected application/x-www-form-urlencoded, got %q", clip(kind))
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxForm+1))
	if err == nil && len(body) > maxForm {
		err = fmt.Errorf("form: larger than %d bytes", maxForm)
	}
	return string(body), err
}

// logout ends the session here first, whatever the provider does, and then sends the browser there.
// What another site started gets a question instead: such a request proves no wish of the user's.
func logout(g *gate, rw http.ResponseWriter, req *http.Request) {
	if isForeign(req) {
		stay := action{text: "Stay signed in", href: outerPath(req, "/")}
		writeAnswer(g.pages, rw, req, newAnswer("200 asked", action{text: "Sign out", href: outerPath(req, req.URL.Path), method: http.MethodPost}, stay))
		return
	}
	sessions, err := openSessions(g, req)
	if err == nil && sessions == nil {
		err = endUnread(g, req)
	}
	if err == nil {
		err = endSessions(g, rw, req, sessions)
	}
	if err != nil { // to say that somebody is signed out whose session may live on would be a lie
		refuse(g, rw, req, http.StatusServiceUnavailable, err)
		return
	}
	forgetRound(g, rw, req) // the next sign-in is wanted
	s := &session{}
	if len(sessions) > 0 {
		s = sessions[0]
		logf(g.log, levelInfo, "session %s: signed out sub %q", s.ID, clip(text(s.claims["sub"])))
	}
	landing := ""
	if g.config.PostLogoutRedirectURL != "" {
		landing = address(g, &g.postLogout, req)
	}
	m, _ := discover(req.Context(), g.client) // without it we are signed out here, and there we can do nothing
	if s.refreshToken != "" && m["revocation_endpoint"] != nil {
		// RFC 7009, a courtesy: the sign-out goes on without it.
		form := url.Values{"token": {s.refreshToken}, "token_type_hint": {"refresh_token"}}
		status, _, at, err := call(req.Context(), g.client, "revocation", "revocation_endpoint", form, nil, 0)
		if err == nil && status != http.StatusOK {
			logf(g.log, levelWarn, "%s: %d %s; the refresh token stays good there", at, status, http.StatusText(status))
		}
	}
	if endSession := text(m["end_session_endpoint"]); endSession != "" {
		form := url.Values{"client_id": {g.client.id}, "state": {randomText()}}
		addParam(form, "id_token_hint", s.idToken)
		addParam(form, "post_logout_redirect_uri", landing)
		if len(s.idToken) > maxHint && wantsHTML(req) {
			writeAnswer(g.pages, rw, req, newAnswer("200 leaving", action{text: "Continue", href: endSession, method: http.MethodPost, fields: form}))
			return
		}
		if len(s.idToken) > maxHint { // no page is shown to whoever asked, so the address must say enough
			form.Del("id_token_hint")
			for _, name := range strings.Fields("login_hint preferred_username email") {
				addParam(form, "logout_hint", text(s.claims[name]))
			}
		}
		landing = withQuery(endSession, form)
	}
	if landing != "" {
		redirect(rw, req, landing)
		return
	}
	writeAnswer(g.pages, rw, req, newAnswer("200 signed out", action{text: "Sign in again", href: outerPath(req, "/")}))
}

// openSessions are the sessions a request brings, those first that may go on. The ID token of one that is past its time still tells the
// provider who leaves.
func openSessions(g *gate, req *http.Request) ([]*session, error) {
	var sessions []*session
	name := cookieName(&g.sessionCookie, isHTTPS(g, req))
	for _, value := range chunkedValues(req, name) {
		s, _, err := openSession(req.Context(), g, name, value)
		if errors.Is(err, errUnavailable) {
			return nil, err
		}
		if err == nil && checkSession(g, s, time.Now()) == nil {
			sessions = append([]*session{s}, sessions...)
		} else if err == nil {
			sessions = append(sessions, s)
		}
	}
	return sessions, nil
}

// endUnread is for a sign-out whose cookies gave no session. What a ticket names in the store is deleted, whatever it is. A cookie of ours
// that does not open, or is not complete, may be good at another replica, or as a copy: its session cannot be ended here.
func endUnread(g *gate, req *http.Request) error {
	name := cookieName(&g.sessionCookie, isHTTPS(g, req))
	values := chunkedValues(req, name)
	isUnread := len(values) == 0 && len(cookieValues(req, chunkName(name, 1))) > 0 // the first part is missing
	for _, value := range values {
		packed, _, err := open(g.sessionSealer, name, value)
		if err == nil && g.store != nil && len(packed) == ticketName+ticketKey {
			if err = storeDelete(req.Context(), g.store, ticketID(packed)); err != nil {
				return err
			}
			continue
		}
		isUnread = isUnread || err == nil || strings.HasPrefix(value, "A") // as the version byte makes all of ours begin
	}
	if isUnread {
		return fmt.Errorf("sign-out: the session's cookie is %w; have all replicas the same session.secret? see previousSecrets", errOtherSecret)
	}
	return nil
}

// isForeign says that another site sent this request. Browsers tell it in Sec-Fetch-Site, on https and localhost; else Origin and
// Referer have to do, and a request that has none of them was typed or is no browser's.
func isForeign(req *http.Request) bool {
	if site := req.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "cross-site"
	}
	sent := req.Header.Get("Origin")
	if sent == "" {
		sent = req.Header.Get("Referer")
	}
	from, err := url.Parse(sent)
	return sent != "" && (err != nil || !isOurHost(from.Host, req))
}

// backchannelLogout takes a logout token that the provider posts (Back-Channel Logout 2.5 to 2.8): 200 when the session is gone,
// also when it was not here, 400 for anything that is not a good token.
func backchannelLogout(g *gate, rw http.ResponseWriter, req *http.Request) {
	rw.Header().Set("Cache-Control", "no-store")
	if err := takeLogoutToken(g, req); err != nil {
		logf(g.log, levelWarn, "back-channel logout: %s", err)   // anybody can post here
		http.Error(rw, "invalid_request", http.StatusBadRequest) // 2.8: also when the logout failed
		return
	}
	rw.WriteHeader(http.StatusOK)
}

// takeLogoutToken checks the one logout token of a request and does what it says.
func takeLogoutToken(g *gate, req *http.Request) error {
	form, err := parameters(req)
	if err == nil && form.Get("logout_token") == "" {
		err = errors.New("expected exactly one logout_token")
	}
	if err != nil {
		return err
	}
	t, err := verifyIDToken(req.Context(), g.client, form.Get("logout_token"))
	if err == nil {
		err = checkLogoutToken(g.client.rules, t, g.config.BackchannelLogoutSessionsRequired, time.Now())
	}
	if err != nil {
		return err
	}
	used, err := wasUsed(req.Context(), g, text(t.claims["jti"]))
	if used {
		err = errors.New("jti: this logout token was used before")
	}
	if err == nil {
		err = logoutEverywhere(req.Context(), g, g.revoked, text(t.claims["sid"]), text(t.claims["sub"]))
	}
	if err != nil {
		return err
	}
	if err = noteUsed(req.Context(), g, t); err != nil { // the logout is done: to repeat it does no harm
		logf(g.log, levelWarn, "back-channel logout: its jti could not be kept: %s", err)
	}
	return nil
}

// frontchannelLogout is loaded by the provider's page in a frame (Front-Channel Logout 2). The frame carries no cookie in most browsers, so
// the session is ended by its name at the provider, which strangers do not know: without sid any site could sign our users out. iss may be
// missing where there is one issuer only (Entra ID sends none).
func frontchannelLogout(g *gate, rw http.ResponseWriter, req *http.Request) {
	query, err := parameters(req)
	sid := query.Get("sid")
	isOurs := isIssuer(req.Context(), g.client, query.Get("iss")) || !query.Has("iss") && len(g.client.rules.issuers) == 1
	isKnown := false
	if err != nil || !isOurs || sid == "" || len(sid) > maxName {
		err = errors.New("front-channel logout: sid must be given, once, and iss, if it is, be the provider's; nobody was signed out: without sid there is no telling who is meant")
	} else {
		isKnown, err = hasSid(req.Context(), g, sid)
		err = firstError(err, logoutEverywhere(req.Context(), g, g.framed, sid, ""))
	}
	if err != nil {
		refuse(g, rw, req, statusOf(err, http.StatusBadRequest), err)
		return
	}
	title := "Signed out"
	if !isKnown { // nothing is called signed out that may not be
		title = "No session of this name is known here"
		logf(g.log, levelWarn, "front-channel logout: no session is known with sid %q; have the provider's ID tokens the claim sid?", clip(sid))
	}
	// The one answer of ours that may be framed.
	setHeaders(rw, "Cache-Control", "no-store", "Content-Type", "text/html; charset=utf-8", "Content-Security-Policy", "default-src 'none'")
	_, _ = io.WriteString(rw, "<!doctype html><title>"+title+"</title>")
}

// hasSid says whether there is a session of that name here.
func hasSid(ctx context.Context, g *gate, sid string) (bool, error) {
	if g.store == nil {
		warm.RLock()
		defer warm.RUnlock()
		for _, p := range append(append([]*pass{}, recent.byName[sid]...), former.byName[sid]...) {
			if p.ledger == g.ledger && p.sid == sid { // not the name of a user
				return true, nil
			}
		}
		return false, nil
	}
	found, err := storeFind(ctx, g.store, sid, "")
	return len(found) > 0, err
}

// logoutEverywhere ends the session sid, if it is that user's where sub is named, too, or with sub alone all sessions of that user, and
// notes it on a list.
func logoutEverywhere(ctx context.Context, g *gate, list *memory, sid, sub string) error {
	mark := "sid:" + sid
	if sid == "" {
		mark = "sub:" + sub
	} else if sub != "" {
		mark = "both:" + sid + "\x00" + sub
	}
	revoke(g, list, mark, storeClock(g.ledger))
	logf(g.log, levelInfo, "logout by the provider: sid %q sub %q", clip(sid), clip(sub))
	if g.store == nil {
		return nil
	}
	found, err := forgetStored(ctx, g.store, sid, sub)
	if err != nil || list != g.revoked {
		return err // the provider may try again
	}
	err = spreadNews(ctx, g, mark) // last: what is deleted frees a full Redis
	if err != nil && found > 0 {
		logf(g.log, levelWarn, "logout by the provider: %d sessions were ended, but other replicas were not told: %s", found, err)
		err = nil
	}
	return err
}

// isRevoked says whether this process knows of a logout of a session, at start (in milliseconds) or later. Whoever makes a pass asks
// before and after: a logout between the two finds the pass, or is found by it.
func isRevoked(c *ledger, id, sid, sub string, start int64) bool {
	if recall(c.revoked, "id:"+id) != nil {
		return true // whatever the clocks say: it may be another replica's session
	}
	both := "both:" + sid + "\x00" + sub
	sid = "sid:" + sid
	for _, mark := range []any{recall(c.revoked, sid), recall(c.revoked, both), recall(c.revoked, "sub:"+sub), recall(c.framed, sid)} {
		if at, isTime := mark.(int64); isTime && start <= at {
			return true
		}
	}
	return false
}

// revoke puts a mark on a list of logouts, and takes the passes that it names out of memory.
//
// A mark matters for session.expiry seconds: what is logged out is not renewed, so no cookie of it is good for longer.
func revoke(g *gate, list *memory, mark string, at int64) {
	now := time.Now()
	remember(list, mark, at, 0)
	_, name, _ := strings.Cut(mark, ":")
	name, _, _ = strings.Cut(name, "\x00") // of a sid with its user, which isRevoked compares
	dropNamed(g.ledger, name)
	g.revoked.mu.RLock()
	expiry := time.Duration(g.longest) * time.Second
	g.revoked.mu.RUnlock()
	list.mu.Lock()
	defer list.mu.Unlock()
	if now.Sub(list.lost) < expiry {
		logf(g.log, levelWarn, "logout list: full: more than %d logouts in session.expiry (%.0f s), the oldest are forgotten; use session.store.redis", len(list.old), expiry.Seconds())
		list.lost = time.Time{} // said
	}
}
