package oidc

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The four kinds of sign-out: the user signs out here (OpenID Connect RP-Initiated Logout), the provider tells us directly (Back-Channel
// Logout) or through the user's browser (Front-Channel Logout), or the user comes here after signing out there.

const (
	maxForm      = 64 << 10 // bytes of a form that is posted to us
	maxHintInURL = 1500     // bytes of an ID token that fit in a URL; for longer ones the provider accepts a form (RP-Initiated Logout 2)
)

// logout ends the session here first, whatever the provider does, and then sends the browser to the provider. A request that another site
// caused is answered with a question instead: it does not show that the user wants to sign out.
func logout(m *middleware, rw http.ResponseWriter, req *http.Request) {
	if isCrossSite(req) {
		stay := action{text: "Stay signed in", href: externalPath(req, "/")}
		writeResponse(m.pages, rw, req, newResponse("200 asked", action{text: "Sign out", href: externalPath(req, req.URL.Path), method: http.MethodPost}, stay))
		return
	}
	sessions, err := openSessions(m.sessions, req)
	if err == nil && sessions == nil {
		err = deleteUnread(m.sessions, req)
	}
	if err == nil {
		err = endSessions(m.sessions, rw, req, sessions)
	}
	if err != nil { // we must not say "signed out" while the session may live on
		refuse(m, rw, req, http.StatusServiceUnavailable, err)
		return
	}
	setAttempts(m.logins, rw, req, "", removed) // the next sign-in is no loop
	s := &session{}
	if len(sessions) > 0 {
		s = sessions[0]
		logf(m.log, levelInfo, "session %s: signed out sub %q", s.ID, forLog(stringOf(s.claims["sub"])))
	}
	landing := ""
	if m.config.PostLogoutRedirectURL != "" {
		landing = absoluteURL(m.site, &m.site.postLogout, req)
	}
	md, _ := discover(req.Context(), m.sessions.client) // without it, the user is signed out here, but not at the provider
	if s.refreshToken != "" && md.endpoints["revocation_endpoint"] != "" {
		// Token revocation (RFC 7009) is a courtesy: the sign-out does not depend on it.
		form := url.Values{"token": {s.refreshToken}, "token_type_hint": {"refresh_token"}}
		status, _, at, err := request(req.Context(), m.sessions.client, "revocation", "revocation_endpoint", form, nil, 0)
		if err == nil && status != http.StatusOK {
			logf(m.log, levelWarn, "%s: %d %s; the refresh token stays good there", at, status, http.StatusText(status))
		}
	}
	if endSession := md.endpoints["end_session_endpoint"]; endSession != "" {
		form := url.Values{"client_id": {m.sessions.client.id}}
		addParam(form, "id_token_hint", s.idToken)
		addParam(form, "post_logout_redirect_uri", landing)
		isLong := len(s.idToken) > maxHintInURL
		if isLong && wantsHTML(req) {
			writeResponse(m.pages, rw, req, newResponse("200 leaving", action{text: "Continue", href: endSession, method: http.MethodPost, fields: form}))
			return
		}
		if isLong { // a script is shown no page with a form, so a URL without the hint must do
			form.Del("id_token_hint")
			for _, name := range strings.Fields("login_hint preferred_username email") {
				addParam(form, "logout_hint", stringOf(s.claims[name]))
			}
		}
		landing = withQuery(endSession, form)
	}
	if landing != "" {
		redirect(rw, req, landing)
		return
	}
	writeResponse(m.pages, rw, req, newResponse("200 signed out", action{text: "Sign in again", href: externalPath(req, "/")}))
}

// deleteUnread is for a sign-out whose cookies led to no session. The store's entry of a ticket is deleted, whatever it holds. But one of our
// cookies that does not open, or is incomplete, may still be valid at another replica, or as a copy: such a session cannot be ended here.
func deleteUnread(sm *sessionManager, req *http.Request) error {
	name := cookieName(&sm.cookie, isHTTPS(sm.site, req))
	values := chunkedValues(req, name)
	isUnread := len(values) == 0 && len(cookieValues(req, chunkName(name, 1))) > 0 // the first part is missing
	for _, value := range values {
		isStored := false
		content, _, err := open(sm.sealer, name, value)
		if err == nil && len(content) == ticketIDSize+ticketKeySize {
			isStored, err = writeSession(req.Context(), sm, &session{ticket: content}) // it ended in 1970, so it is deleted
		}
		if isStored && err != nil {
			return err
		}
		isUnread = isUnread || !isStored && strings.HasPrefix(value, "A") // from the version byte, which all of ours begin with
	}
	if isUnread {
		return errorf("sign-out: the session's cookie is %w; have all replicas the same session.secret? see previousSecrets", errOtherSecret)
	}
	return nil
}

// backchannelLogout receives a logout token from the provider (Back-Channel Logout 2.5 to 2.8). It answers 200 if the session is gone, even if
// it was never here, and 400 if the token is not valid or the logout failed.
func backchannelLogout(sm *sessionManager, rw http.ResponseWriter, req *http.Request) {
	setHeaders(rw, "Cache-Control", "no-store")
	if err := processLogoutToken(sm, req); err != nil {
		logf(sm.log, levelWarn, "back-channel logout: %s", err)  // anybody can post here
		http.Error(rw, "invalid_request", http.StatusBadRequest) // 2.8: also if the logout failed
		return
	}
	rw.WriteHeader(http.StatusOK)
}

// processLogoutToken checks the logout token of a request, and ends the sessions that it names.
func processLogoutToken(sm *sessionManager, req *http.Request) error {
	form, err := readParameters(req)
	if err == nil && form.Get("logout_token") == "" {
		err = newError("expected exactly one logout_token")
	}
	if err != nil {
		return err
	}
	t, err := verifyIDToken(req.Context(), sm.client, form.Get("logout_token"))
	if err == nil {
		err = checkLogoutToken(sm.client.rules, t, sm.config.BackchannelLogoutSessionsRequired, time.Now())
	}
	if err != nil {
		return err
	}
	jti := stringOf(t.claims["jti"])
	used, err := logoutTokenUse(req.Context(), sm, jti, 0)
	if used {
		err = newError("jti: this logout token was used before")
	}
	if err == nil {
		err = logoutByProvider(req.Context(), sm, sm.state.revoked, stringOf(t.claims["sid"]), stringOf(t.claims["sub"]))
	}
	if err != nil {
		return err
	}
	// This comes last: the provider must be able to repeat a logout that the store failed halfway.
	end, _ := numericDate(t.claims, "exp") // has been checked
	_, err = logoutTokenUse(req.Context(), sm, jti, time.Until(time.Unix(end, 0))+time.Duration(sm.client.rules.skew)*time.Second)
	if err != nil { // the logout is done, and it may be repeated
		logf(sm.log, levelWarn, "back-channel logout: its jti could not be kept: %s", err)
	}
	return nil
}

// frontchannelLogout is loaded in a frame of the provider's page (Front-Channel Logout 2). Most browsers send no cookies in such a frame, so
// the session is ended by its sid, which outsiders do not know: without it, any site could sign our users out. iss may be missing (Entra ID
// sends none), since there is only one issuer.
func frontchannelLogout(m *middleware, rw http.ResponseWriter, req *http.Request) {
	query, err := readParameters(req)
	sid := query.Get("sid")
	isOurs := isIssuer(req.Context(), m.sessions.client, query.Get("iss")) || !query.Has("iss") && len(m.sessions.client.rules.issuers) == 1
	isKnown := false
	if err != nil || !isOurs || sid == "" || len(sid) > maxName {
		err = newError("front-channel logout: sid must be given, once, and iss, if it is, be the provider's; nobody was signed out: without sid there is no telling who is meant")
	} else {
		isKnown, err = hasSessionOf(req.Context(), m.sessions, sid)
		err = firstError(err, logoutByProvider(req.Context(), m.sessions, m.sessions.state.frontchannelLogouts, sid, ""))
	}
	if err != nil {
		refuse(m, rw, req, statusOf(err, http.StatusBadRequest), err)
		return
	}
	title := "Signed out"
	if !isKnown { // we must not say "signed out" without knowing it
		title = "No session of this name is known here"
		logf(m.log, levelWarn, "front-channel logout: no session is known with sid %q; have the provider's ID tokens the claim sid?", forLog(sid))
	}
	// This is the only response of ours that may be framed.
	setHeaders(rw, "Cache-Control", "no-store", "Content-Type", "text/html; charset=utf-8", "Content-Security-Policy", "default-src 'none'")
	_, _ = io.WriteString(rw, "<!doctype html><title>"+title+"</title>")
}
