package oidc

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The sign-in: to the provider, with a pending login in a cookie of its own, and back with a code (authorization code flow, OIDC Core 3.1,
// with PKCE, RFC 7636). What we send must come back, or the sign-in fails:
//
//	state          names the pending login, which only the browser that began it has (RFC 9700 4.7)
//	redirect_uri   where the response must arrive; if the option is a path, the host is the one that Traefik's router matched
//	nonce          must be in the ID token, so the token was made for this attempt (OIDC Core 3.1.3.7, step 11)
//	code_verifier  proves to the provider that whoever redeems the code began the attempt; its hash was sent as code_challenge

const repeatWindow = 10 * time.Second // in which a callback may be repeated: browsers do that when the connection breaks

// unauthenticated answers a request without valid credentials. Only a page load may be redirected to the provider: the sign-in page would not
// be shown in the place of a script's request or a picture, and a form would lose what was entered.
func unauthenticated(m *middleware, next http.Handler, rw http.ResponseWriter, req *http.Request, reason error) {
	c := m.config
	signsIn := m.sessions != nil && !c.DisableLogin && (c.Unauthenticated == "login" || c.Unauthenticated == "auto" && isNavigation(req))
	logf(m.log, levelDebug, "%s %s: %s", forLog(req.Method), forLog(req.URL.Path), reason)
	if c.Unauthenticated == "forward" {
		stripOwn(m.headers, req)
		next.ServeHTTP(rw, req)
	} else if m.sessions != nil && isSpeculative(req) {
		sendNoContent(rw)
	} else if m.sessions != nil && (signsIn || wantsHTML(req)) && isAnswer(c, req) { // to send the browser there again would be a loop
		refuseLogin(m, rw, req, http.StatusInternalServerError, errorf("%w: callback: came to %q, not to redirectUrl, %q; does something in front of this middleware change the path or host?",
			errMisconfigured, forLog(req.Host+req.URL.Path), c.RedirectURL), defaultPage(m.site, req))
	} else if signsIn {
		login(m, rw, req, requestedPage(req), "", "")
	} else {
		refuse(m, rw, req, http.StatusUnauthorized, reason)
	}
}

// login redirects the browser to the provider. prompt and hint apply to this sign-in only, and may be empty.
func login(m *middleware, rw http.ResponseWriter, req *http.Request, returnTo, prompt, hint string) {
	rounds, size := loginAttempts(m.logins, req)
	if rounds >= maxAttempts && stopLoop(m, rw, req, returnTo, rounds, size) {
		return
	}
	if !matchesHost(&m.site.redirect, req) && strings.HasPrefix(returnTo, "/") {
		returnTo = origin(m.site, req) + returnTo
	}
	config, c := m.config, m.sessions.client
	pending := &pendingLogin{RedirectURI: absoluteURL(m.site, &m.site.redirect, req), ReturnTo: returnTo, CreatedAt: time.Now().Unix(),
		MaxAge: config.MaxAge, ACRValues: config.ACRValues, HasVerifier: config.PKCE, Attempts: rounds,
		IsRetry: req.URL.Path == m.site.redirect.path && !req.URL.Query().Has("switch")}
	secret := string(randomBytes(32))
	deriveValues(pending, secret)
	form := authorizationRequest(config, req, pending, prompt, hint)
	md, err := discover(req.Context(), c)
	if err == nil && (config.PAR == "true" || config.PAR == "auto" && md.requiresPAR) {
		form, err = pushAuthorization(req.Context(), c, form)
	}
	if err != nil {
		refuse(m, rw, req, statusOf(err, http.StatusServiceUnavailable), err)
		return
	}
	if config.PKCE && md.challengeMethods != nil && !contains(stringsOf(md.challengeMethods), "S256") && cacheAdd(c.responses, "S256", "") {
		logf(m.log, levelWarn, "discovery: code_challenge_methods_supported: expected S256 in it, got %s; S256 is sent all the same, never plain", quoteJSON(md.challengeMethods))
	}
	setPending(m.logins, rw, req, pending, secret)
	redirect(rw, req, withQuery(md.endpoints["authorization_endpoint"], form))
}

// authorizationRequest returns the parameters of OIDC Core 3.1.2.1: first the protocol's own, then configured ones, which may add to them but
// not replace them.
func authorizationRequest(c *Config, req *http.Request, pending *pendingLogin, prompt, hint string) url.Values {
	form := url.Values{
		"response_type": {"code"}, "client_id": {c.ClientID}, "redirect_uri": {pending.RedirectURI}, "scope": {strings.Join(c.Scopes, " ")},
		"state": {pending.State}, "nonce": {pending.Nonce}, "resource": c.Resource, // RFC 8707 2
	}
	if pending.Verifier != "" {
		form.Set("code_challenge", hashText(pending.Verifier))
		form.Set("code_challenge_method", "S256") // RFC 7636 4.2; never plain
	}
	if c.ResponseMode != "query" {
		form.Set("response_mode", c.ResponseMode)
	}
	if c.MaxAge != nil {
		form.Set("max_age", strconv.Itoa(*c.MaxAge))
	}
	addParam(form, "acr_values", strings.Join(c.ACRValues, " "))
	if chosen, is := c.AuthParams["prompt"]; is && prompt != "" {
		prompt = chosen // Google does not support prompt=login
	}
	addParam(form, "prompt", prompt)
	addParam(form, "login_hint", hint)
	query := req.URL.Query()
	for _, name := range c.LoginParams {
		addParam(form, name, query.Get(name))
	}
	for name, value := range c.AuthParams {
		addParam(form, name, value)
	}
	return form
}

// addParam adds a parameter unless it is there already. An empty one means the same as none (RFC 6749 3.1) and is left out.
func addParam(form url.Values, name, value string) {
	if value != "" && len(form[name]) == 0 {
		form.Set(name, value)
	}
}

// pushAuthorization sends the authorization request to the provider directly, and returns the parameters that remain for the browser
// (RFC 9126 2).
func pushAuthorization(ctx context.Context, c *client, form url.Values) (url.Values, error) {
	status, body, _, err := request(ctx, c, "par", "pushed_authorization_request_endpoint", form, nil, 0)
	fields, _ := parseObject(body) // what cannot be read has no request_uri
	uri, code := stringOf(fields["request_uri"]), stringOf(fields["error"])
	if err == nil && (status/100 != 2 || uri == "") {
		err = errorf("%w: par: %d %s %q", errorOfCode(code, errUnavailable), status, forLog(code), forLog(stringOf(fields["error_description"])))
	}
	return url.Values{"client_id": {c.id}, "request_uri": {uri}}, err
}

var (
	errNoPending = errors.New("callback: no pending login for this state: it is used, expired, or of another browser")
	errUsedState = errors.New("callback: this state was used before") // a copied cookie; RFC 9700 4.7.1
)

// completeOnce makes the session of an authorization response, only once: a state is used up together with its code. A browser whose
// connection broke, and which repeats the request with the same pending login, gets the session that was made.
func completeOnce(sm *sessionManager, pl *pendingLogins, req *http.Request, pending *pendingLogin, params url.Values) (*session, error) {
	key := hashText(pending.State)
	value, err := doOnce(req.Context(), &pl.inFlight, key, func(ctx context.Context) (any, error) {
		if made, _ := cacheGet(pl.completed, key).(*session); made != nil && time.Since(time.UnixMilli(made.Start)) < repeatWindow {
			return made, checkSession(sm, made, time.Now())
		}
		if !cacheAdd(sm.state.usedStates, key, pending.ReturnTo) {
			return nil, errUsedState
		}
		s, err := completeLogin(ctx, sm, pending, params)
		if err == nil {
			_, err = writeSession(ctx, sm, s)
		}
		if err == nil {
			cacheSet(pl.completed, key, s, sessionCost(s))
		}
		return s, err
	})
	s, _ := value.(*session)
	return s, err
}

// callback serves redirectUrl, where the provider sends the browser back to.
func callback(m *middleware, rw http.ResponseWriter, req *http.Request) {
	params, err := readParameters(req)
	if err != nil {
		refuse(m, rw, req, http.StatusBadRequest, errorf("callback: %w", err))
		return
	}
	state := params.Get("state")
	if state+params.Get("code")+params.Get("error") == "" { // a bookmark, or the 403 page's way to another account
		if back := params.Get("switch"); back != "" && !m.config.DisableLogin {
			login(m, rw, req, localPath(back), "login", "")
			return
		}
		// Where nobody is signed in although a sign-in has begun, it was probably the provider's answer, and the next would be no better: a loop.
		if _, err = authenticateSession(m, rw, req); errors.Is(err, errNoCredentials) && pendingCookies(m.logins, req) != nil {
			refuseLogin(m, rw, req, http.StatusInternalServerError, errorf("%w: callback: came without state and code, while a sign-in is under way; does something in front of this middleware drop the query?", errMisconfigured), defaultPage(m.site, req))
			return
		}
		redirect(rw, req, defaultPage(m.site, req))
		return
	}
	pending, err := takePending(m.logins, rw, req, state)
	if err != nil {
		refuseStale(m, rw, req, state, err)
		return
	}
	back := returnURL(m.site, req, pending.ReturnTo)
	s, err := completeOnce(m.sessions, m.logins, req, pending, params)
	if errors.Is(err, errUsedState) {
		refuseStale(m, rw, req, state, err)
		return
	}
	isRefused := errors.Is(err, errRefused)
	isDropped := errors.Is(err, errUnavailable) && params.Get("error") == "temporarily_unavailable"
	if (isDropped || isRefused) && resumeLogin(m, rw, req, pending, params, back) {
		return
	}
	status := statusOf(err, http.StatusBadRequest)
	if isRefused {
		status = http.StatusBadRequest // the code has expired; a new attempt may succeed
	}
	if err == nil {
		_, err = saveSession(m.sessions, rw, req, s, false, time.Now())
		status = statusOf(err, http.StatusInternalServerError) // such as tokens too large for cookies: trying again would not help
	}
	if err != nil {
		refuseLogin(m, rw, req, status, err, back)
		return
	}
	endReplaced(m.sessions, req, s)
	countAttempt(m.logins, rw, req, pending.Attempts+1)
	logf(m.log, levelInfo, "session %s: signed in sub %q", s.ID, forLog(stringOf(s.claims["sub"])))
	returnToPage(m.pages, m.sessions.cookie.sameSite, rw, req, back, pending.IsTruncated)
}

// returnToPage sends the browser to the page that was requested before the sign-in.
func returnToPage(p *pages, sameSite http.SameSite, rw http.ResponseWriter, req *http.Request, back string, isCut bool) {
	if !isCut && sameSite != http.SameSiteStrictMode {
		redirect(rw, req, back)
		return
	}
	res := newResponse("200 signed in", action{text: "Continue", href: back})
	if isCut {
		res.detail = "The address that you came from is too long to be remembered whole. Open it once more, or continue with its beginning."
	} else { // after a redirect from the provider's site the browser would not send the new cookie, so a page of ours leads on
		rw.Header().Set("Refresh", "0; url="+back)
	}
	writeResponse(p, rw, req, res)
}

// refuseStale answers a callback whose sign-in is over. A user who is signed in goes on to the page: the back button leads here. Nobody else
// is redirected to the provider again: if the response never fits, that would be a loop.
func refuseStale(m *middleware, rw http.ResponseWriter, req *http.Request, state string, reason error) {
	back := defaultPage(m.site, req)
	used := cacheGet(m.sessions.state.usedStates, hashText(state))
	isLost := errors.Is(reason, errNoPending) && used == nil && isRecentState(m.config, state)
	came, own := "", ""
	if isLost {
		came, own = findPendingCookie(m.logins, req, state)
	}
	if came != own { // asked before the session, which is this middleware's: to lead on to a page of the other one would be a loop
		refuseLogin(m, rw, req, http.StatusInternalServerError, errorf("%w: callback: the sign-in was begun with the cookie %s, and not %s; another middleware on this host needs a redirectUrl of its own, and https must stay https", errMisconfigured, forLog(came), own), back)
		return
	}
	if _, err := authenticateSession(m, rw, req); err == nil {
		if page := stringOf(used); page != "" {
			back = returnURL(m.site, req, page)
		}
		redirect(rw, req, back)
	} else if own != "" {
		refuseLostCookie(m, rw, req, reason, "the cookie came, and could not be used: it is sealed with another secret, or for another client or issuer", back)
	} else if isLost {
		refuseLostCookie(m, rw, req, errorf("%w: the browser did not send the cookie %s", reason, m.logins.cookie.baseName), cookieLossCauses(m.sessions, &m.logins.cookie, req, 0), back)
	} else {
		refuseLogin(m, rw, req, http.StatusBadRequest, reason, back)
	}
}

// resumeLogin helps where the provider gave up, and reports whether it did. If another tab has signed in first, Keycloak answers the sign-in
// page of this one with temporarily_unavailable, or with a code of the other tab's, which is refused. A user who has a session goes to the
// page. For anybody else the sign-in starts again, if its page was too old.
func resumeLogin(m *middleware, rw http.ResponseWriter, req *http.Request, pending *pendingLogin, params url.Values, back string) bool {
	if _, err := authenticateSession(m, rw, req); err == nil {
		redirect(rw, req, back)
		return true
	}
	isOld := strings.Contains(params.Get("error_description"), "authentication_expired") && !pending.IsRetry
	if isOld {
		login(m, rw, req, pending.ReturnTo, "", "")
	}
	return isOld
}

// completeLogin checks the authorization response, exchanges its code (RFC 6749 4.1.3), verifies the tokens, and makes the session. The order
// matters: nothing is sent to the provider before state and issuer have been checked, and no token is used before its nonce has.
func completeLogin(ctx context.Context, sm *sessionManager, pending *pendingLogin, params url.Values) (*session, error) {
	c := sm.client
	md, err := discover(ctx, c)
	if err != nil {
		return nil, err
	}
	// RFC 9207 2.4: a response from another provider (mix-up attack) is refused here, even if it is an error.
	if issuer := params.Get("iss"); issuer != md.issuer && (params.Has("iss") || md.namesIssuerInResponse) {
		return nil, errorf("%w: callback: iss: expected %q, got %q", errBadResponse, md.issuer, forLog(issuer))
	}
	if problem := params.Get("error"); problem != "" { // RFC 6749 4.1.2.1
		return nil, errorf("%w: callback: the provider answered %s %q", errorOfCode(problem, errBadResponse), forLog(problem), forLog(params.Get("error_description")))
	}
	if params.Get("code") == "" {
		return nil, errorf("%w: callback: no code", errBadResponse)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": params["code"], "redirect_uri": {pending.RedirectURI}, "resource": sm.config.Resource}
	addParam(form, "code_verifier", pending.Verifier)
	now := time.Now() // the session's start: a logout that arrives while the code is exchanged is later, and so ends it
	t, err := requestTokens(ctx, c, form)
	if err != nil {
		return nil, err
	}
	if t.idToken == "" {
		return nil, errorf("%w: token endpoint: the answer has no id_token; is %q an OpenID Connect provider?", errBadResponse, sm.config.Issuer)
	}
	verified, err := verifyIDToken(ctx, c, t.idToken)
	if err == nil { // steps 1 to 13 of OIDC Core 3.1.3.7
		err = checkIDToken(c.rules, verified, pending, t.accessToken, now)
	}
	if err != nil {
		return nil, errorf("%w: id token: %w", errBadResponse, err)
	}
	var info map[string]any
	if sm.config.Userinfo {
		info, err = fetchUserinfo(ctx, c, t.accessToken, stringOf(verified.claims["sub"]))
	}
	if err != nil && !errors.Is(err, errUnavailable) {
		err = errorf("%w: %w", errBadResponse, err)
	}
	s := newSession(t, verified.claims, info, now)
	s.Start += clockSkewOf(sm.state)
	return s, err
}

// startLogin serves loginUrl: a sign-in that a page, or the provider (OIDC Core 4), starts. Anybody can send a browser here, so the provider
// must be ours, and so must be the page where the sign-in ends.
func startLogin(m *middleware, rw http.ResponseWriter, req *http.Request) {
	params, err := readParameters(req)
	if issuer := params.Get("iss"); issuer != "" && !isIssuer(req.Context(), m.sessions.client, issuer) {
		err = errorf("iss: expected %q, got %q", issuerOf(m.sessions.client), forLog(issuer))
	}
	ours := origin(m.site, req)
	back := defaultPage(m.site, req)
	addParam(params, "target_link_uri", params.Get("rd")) // the name in oauth2-proxy
	if target := params.Get("target_link_uri"); target != "" {
		back = localPath(strings.TrimPrefix(target, ours))
		to, bad := url.Parse(target)
		if bad == nil && to.User == nil && strings.HasPrefix(ours, to.Scheme+"://") && (isRequestHost(to.Host, req) || sharesStateCookie(m.site, to.Host)) {
			back = returnURL(m.site, req, target)
		} else if bad != nil || to.Scheme+to.Host != "" { // OIDC Core 4: otherwise we would be an open redirector
			err = errorf("target_link_uri: must be on %q, got %q", ours, forLog(target))
		}
	}
	if err != nil {
		refuse(m, rw, req, http.StatusBadRequest, errorf("login: %w", err))
		return
	}
	login(m, rw, req, back, "", params.Get("login_hint"))
}

// redirect sends the browser elsewhere, always with GET (RFC 9700 4.12), and without a Referer.
func redirect(rw http.ResponseWriter, req *http.Request, to string) {
	setHeaders(rw, "Cache-Control", "no-store", "Referrer-Policy", "no-referrer", "Location", to)
	status := http.StatusFound
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		status = http.StatusSeeOther
	}
	rw.WriteHeader(status)
}
