package oidc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// This room ends sessions, in four ways: the user signs out here (OpenID Connect RP-Initiated Logout), the provider says so itself
// (Back-Channel Logout) or through the user's browser (Front-Channel Logout), and the user lands here after signing out there.

const maxForm = 64 << 10 // bytes of a form that is posted to us

// readForm is the body of a posted form, as text.
func readForm(req *http.Request) (string, error) {
	kind, _, _ := strings.Cut(req.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") {
		return "", fmt.Errorf("form: expected application/x-www-form-urlencoded, got %q", clip(kind))
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxForm+1))
	if err != nil {
		return "", fmt.Errorf("form: %w", err)
	}
	if len(body) > maxForm {
		return "", fmt.Errorf("form: larger than %d bytes", maxForm)
	}
	return string(body), nil
}

// logout ends the session here first, whatever the provider does, and then sends the browser there.
// What another site started gets a question instead: such a request proves no wish of the user's.
func logout(g *gate, rw http.ResponseWriter, req *http.Request) {
	if isForeign(req) {
		writeAnswer(g.pages, rw, req, logoutQuestion(req.URL.Path, "/"))
		return
	}
	s, err := anySession(g, req)
	if err == nil {
		err = endSession(g, rw, req, s)
	}
	if err != nil { // the store is away: a sign-out that leaves the session there would be a lie
		refuse(g, rw, req, http.StatusServiceUnavailable, err)
		return
	}
	if s == nil {
		logf(g.log, levelDebug, "logout: no session")
	} else {
		logf(g.log, levelInfo, "session %s: signed out sub %q", s.ID, clip(text(s.claims["sub"])))
	}
	m, _ := discover(req.Context(), g.client) // without it we are signed out here, and there we can do nothing
	if s != nil && s.refreshToken != "" && m["revocation_endpoint"] != nil {
		revokeToken(req.Context(), g.client, s.refreshToken)
	}
	endSession := text(m["end_session_endpoint"])
	if endSession == "" {
		landed(g, rw, req)
		return
	}
	form := url.Values{"client_id": {g.client.id}, "state": {randomText()}}
	if s != nil {
		form.Set("id_token_hint", s.idToken)
	}
	if g.config.PostLogoutRedirectURL != "" {
		form.Set("post_logout_redirect_uri", address(&g.postLogout, req))
	}
	redirect(rw, req, withQuery(endSession, form))
}

// landed ends a sign-out that the provider has no part in.
func landed(g *gate, rw http.ResponseWriter, req *http.Request) {
	if g.config.PostLogoutRedirectURL != "" {
		redirect(rw, req, address(&g.postLogout, req))
		return
	}
	writeAnswer(g.pages, rw, req, signedOut("/"))
}

// anySession is the session a request brings, also one that is past its time: its ID token still tells the provider who leaves.
func anySession(g *gate, req *http.Request) (*session, error) {
	name := cookieName(&g.sessionCookie, isHTTPS(req))
	for _, value := range chunkedValues(req, name) {
		s, _, err := openSession(req.Context(), g, name, value)
		if err == nil || errors.Is(err, errUnavailable) {
			return s, err
		}
	}
	return nil, nil
}

// revokeToken gives a refresh token back (RFC 7009). It is a courtesy: the sign-out goes on without it.
func revokeToken(ctx context.Context, c *client, refreshToken string) {
	form := url.Values{"token": {refreshToken}, "token_type_hint": {"refresh_token"}}
	status, _, at, err := call(ctx, c, "revocation", "revocation_endpoint", form, nil, 0)
	if err == nil && status != http.StatusOK {
		logf(c.log, levelWarn, "%s: %d %s; the refresh token stays good there", at, status, http.StatusText(status))
	}
}

// isForeign says that another site sent this request. Browsers tell it in Sec-Fetch-Site, on https and localhost; else Origin and
// Referer have to do, and a request that has none of them was typed or is no browser's.
func isForeign(req *http.Request) bool {
	if site := req.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "cross-site"
	}
	for _, name := range []string{"Origin", "Referer"} {
		if sent := req.Header.Get(name); sent != "" {
			from, err := url.Parse(sent)
			return err != nil || !strings.EqualFold(from.Host, req.Host)
		}
	}
	return false
}

// backchannelLogout takes a logout token that the provider posts (Back-Channel Logout 2.5 to 2.8): 200 when the session is gone,
// also when it was not here, 400 for anything that is not a good token.
func backchannelLogout(g *gate, rw http.ResponseWriter, req *http.Request) {
	rw.Header().Set("Cache-Control", "no-store")
	t, err := logoutToken(g, req)
	if err == nil {
		err = logoutEverywhere(req.Context(), g, g.client.revoked, text(t.claims["sid"]), text(t.claims["sub"]))
	}
	if err == nil {
		err = noteUsed(req.Context(), g, t)
	}
	if err != nil {
		logf(g.log, levelWarn, "back-channel logout: %s", err)
		http.Error(rw, "invalid_request", http.StatusBadRequest) // 2.8: also when the logout failed
		return
	}
	rw.WriteHeader(http.StatusOK)
}

// logoutToken reads and checks the one logout token of a request.
func logoutToken(g *gate, req *http.Request) (*token, error) {
	body, err := readForm(req)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(body)
	if err != nil || len(form["logout_token"]) != 1 {
		return nil, errors.New("expected exactly one logout_token")
	}
	t, err := verifyIDToken(req.Context(), g.client, form.Get("logout_token"))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if err := checkLogoutToken(g.client.rules, t, g.config.BackchannelLogoutSessionsRequired, now); err != nil {
		return nil, err
	}
	used, err := wasUsed(req.Context(), g, text(t.claims["jti"]))
	if err != nil {
		return nil, err
	}
	if used {
		return nil, errors.New("jti: this logout token was used before")
	}
	return t, nil
}

// logoutEverywhere ends the session sid, or with sub alone all sessions of that user, and notes it on a list.
func logoutEverywhere(ctx context.Context, g *gate, list *memory, sid, sub string) error {
	if sid != "" {
		revoke(g.client, list, "sid:"+sid, func(p *pass) bool { return p.sid == sid })
	} else {
		revoke(g.client, list, "sub:"+sub, func(p *pass) bool { return p.sub == sub })
	}
	logf(g.log, levelInfo, "logout by the provider: sid %q sub %q", clip(sid), clip(sub))
	if g.store != nil {
		return forgetStored(ctx, g.store, sid, sub)
	}
	return nil
}

// frontchannelLogout is loaded by the provider's page in a frame (Front-Channel Logout 2). Both iss and sid must be there and fit,
// or any site could sign our users out; the frame carries no cookie in most browsers, so the session is ended by its name.
func frontchannelLogout(g *gate, rw http.ResponseWriter, req *http.Request) {
	query, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil || len(query["iss"]) != 1 || len(query["sid"]) != 1 || query.Get("iss") != g.client.issuer || query.Get("sid") == "" || len(query.Get("sid")) > maxName {
		refuse(g, rw, req, http.StatusBadRequest, errors.New("front-channel logout: iss and sid must both be given, once, and iss be the provider's"))
		return
	}
	if err := logoutEverywhere(req.Context(), g, g.client.framed, query.Get("sid"), ""); err != nil {
		refuse(g, rw, req, http.StatusServiceUnavailable, err)
		return
	}
	header := rw.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'") // the one answer of ours that may be framed
	_, _ = io.WriteString(rw, "<!doctype html><title>Signed out</title>")
}
