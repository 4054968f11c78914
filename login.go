package oidc

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// This room is the sign-in: out to the provider with a pending login in a cookie of its own, and back with a code for it
// (authorization code flow, OIDC Core 3.1, with PKCE, RFC 7636). What goes out comes back, or the sign-in ends:
//
//	state          names the pending login, which only the browser that began has (RFC 9700 4.7)
//	redirect_uri   where the answer must arrive; for a path the host is the one that Traefik's router matched
//	nonce          is in the ID token: the token was made for this attempt (OIDC Core 3.1.3.7, step 11)
//	code_verifier  shows the provider that who brings the code began the attempt; its hash went out as code_challenge

const (
	stateMarkLength  = 12               // hexadecimal digits at the end of a pending login's cookie name: the first characters of its state
	maxPendingLogins = 50               // that are looked at
	maxPendingBytes  = 4000             // that they may have together, with their names: ten tabs and more, and half of what some servers read
	secondCallback   = 10 * time.Second // that a callback may come once more for the session it made: browsers repeat what was cut off
)

// pendingLogin is what is remembered of a sign-in under way, sealed in the browser that started it. A tab has one, and there may be many:
// so what goes to the provider comes from one secret.
type pendingLogin struct {
	State       string   `json:"-"`
	Nonce       string   `json:"-"`
	Verifier    string   `json:"-"`
	HasVerifier bool     `json:"v,omitempty"`
	RedirectURI string   `json:"u"`
	Return      string   `json:"r"`           // the path to return to; with its origin where the callback is at another host
	At          int64    `json:"t"`           // Unix seconds
	MaxAge      *int     `json:"m,omitempty"` // what was asked for: the answer may come to another middleware, with other options
	ACRValues   []string `json:"a,omitempty"`
	IsCut       bool     `json:"c,omitempty"` // the page to return to was too long, and this is its beginning
	IsAgain     bool     `json:"g,omitempty"` // the provider had dropped the one before
	Rounds      int      `json:"n,omitempty"` // sign-ins right before this one that led to no session
}

// derive makes the values of a pending login from its secret. The end of a state is the time: of one whose cookie did not come back it
// tells whether that has expired.
func derive(pending *pendingLogin, secret string) {
	encode := base64.RawURLEncoding.EncodeToString
	state := deriveKey(secret, "state")
	binary.BigEndian.PutUint64(state[24:], uint64(pending.At))
	pending.State = encode(state)
	pending.Nonce = encode(deriveKey(secret, "nonce"))
	if pending.HasVerifier {
		pending.Verifier = encode(deriveKey(secret, "verifier"))
	}
}

// stateAge is how many seconds ago a state was made, if it was: anybody can write one.
func stateAge(state string) int64 {
	made, _ := base64.RawURLEncoding.DecodeString(state)
	if len(made) != 32 {
		return math.MaxInt64
	}
	return time.Now().Unix() - int64(binary.BigEndian.Uint64(made[24:]))
}

// unauthenticated answers a request that nobody vouches for. Only a page load may be sent to the provider by itself: what a script or a
// picture asked for is not shown to anybody, and a form would lose what was written in it.
func unauthenticated(g *gate, next http.Handler, rw http.ResponseWriter, req *http.Request, reason error) {
	c := g.config
	signsIn := c.Unauthenticated == "login" || c.Unauthenticated == "auto" && isNavigation(req)
	logf(g.log, levelDebug, "%s %s: %s", clip(req.Method), clip(req.URL.Path), reason)
	if c.Unauthenticated == "forward" {
		stripAll(g, req)
		next.ServeHTTP(rw, req)
	} else if g.login && isSpeculative(req) {
		sendNothing(rw)
	} else if signsIn && g.login && !c.DisableLogin {
		login(g, rw, req, thisPage(req), "", "")
	} else {
		refuse(g, rw, req, http.StatusUnauthorized, reason)
	}
}

// login sends the browser to the provider. prompt and hint are of this sign-in alone, and may be empty.
func login(g *gate, rw http.ResponseWriter, req *http.Request, returnTo, prompt, hint string) {
	rounds, size := roundsOf(g, req)
	if rounds >= maxRounds && breakLoop(g, rw, req, returnTo, rounds, size) {
		return
	}
	if !isHere(&g.redirect, req) && strings.HasPrefix(returnTo, "/") {
		returnTo = origin(g, req) + returnTo
	}
	pending := &pendingLogin{RedirectURI: address(g, &g.redirect, req), Return: returnTo, At: time.Now().Unix(),
		MaxAge: g.config.MaxAge, ACRValues: g.config.ACRValues, HasVerifier: g.config.PKCE, Rounds: rounds,
		IsAgain: req.URL.Path == g.redirect.path && !req.URL.Query().Has("switch")}
	secret := string(randomBytes(32))
	derive(pending, secret)
	form := authorizationRequest(g, req, pending, prompt, hint)
	m, err := discover(req.Context(), g.client)
	if err == nil && (g.config.PAR == "true" || g.config.PAR == "auto" && m["require_pushed_authorization_requests"] == true) {
		form, err = pushAuthorization(req.Context(), g.client, form)
	}
	if err != nil {
		refuse(g, rw, req, statusOf(err, http.StatusServiceUnavailable), err)
		return
	}
	methods := m["code_challenge_methods_supported"]
	if g.config.PKCE && methods != nil && !has(texts(methods), "S256") && rememberIf(g.client.answers, false, "S256", true, 0) {
		logf(g.log, levelWarn, "discovery: code_challenge_methods_supported: expected S256 in it, got %s; S256 is sent all the same, never plain", shown(methods))
	}
	keepPending(g, rw, req, pending, secret)
	redirect(rw, req, withQuery(text(m["authorization_endpoint"]), form))
}

// authorizationRequest are the parameters of OIDC Core 3.1.2.1: the protocol's own, then what may be added to them and not replace them.
func authorizationRequest(g *gate, req *http.Request, pending *pendingLogin, prompt, hint string) url.Values {
	c := g.config
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
		prompt = chosen // Google knows no prompt=login
	}
	addParam(form, "prompt", prompt)
	addParam(form, "login_hint", hint)
	asked := req.URL.Query()
	for _, name := range c.LoginParams {
		addParam(form, name, asked.Get(name))
	}
	for name, value := range c.AuthParams {
		addParam(form, name, value)
	}
	return form
}

// addParam adds a parameter that is not there yet. An empty one is as good as none (RFC 6749 3.1), and left out.
func addParam(form url.Values, name, value string) {
	if value != "" && len(form[name]) == 0 {
		form.Set(name, value)
	}
}

// pushAuthorization hands the request to the provider itself and returns what is left for the browser to carry (RFC 9126 2).
func pushAuthorization(ctx context.Context, c *client, form url.Values) (url.Values, error) {
	status, body, _, err := call(ctx, c, "par", "pushed_authorization_request_endpoint", form, nil, 0)
	answer, _ := parseObject(body) // what is no answer names no request_uri
	uri := text(answer["request_uri"])
	if err == nil && (status != http.StatusCreated && status != http.StatusOK || uri == "") {
		err = fmt.Errorf("%w: par: %d %s %q", outcomeOf(text(answer["error"]), errUnavailable), status, clip(text(answer["error"])), clip(text(answer["error_description"])))
	}
	return url.Values{"client_id": {c.id}, "request_uri": {uri}}, err
}

// keepPending gives the browser the cookie of this sign-in, and drops the oldest when they are too much: each tab has its own, and a
// browser that never comes back must not fill up the header. What is too long for a cookie loses its query, or all of its path.
func keepPending(g *gate, rw http.ResponseWriter, req *http.Request, pending *pendingLogin, secret string) {
	https := isHTTPS(g, req)
	base := cookieName(&g.stateCookie, https) + "."
	name := base + fmt.Sprintf("%.6x", pending.State)
	sealed := sealPending(g, name, pending, secret)
	if len(sealed) > chunkSize {
		pending.IsCut = true
		pending.Return, _, _ = strings.Cut(pending.Return, "?")
		sealed = sealPending(g, name, pending, secret)
	}
	if len(sealed) > chunkSize {
		u, _ := url.Parse(pending.Return) // a path, or an address that login made
		u.Path = "/"
		u.RawPath = ""
		pending.Return = u.String()
		sealed = sealPending(g, name, pending, secret)
	}
	left := maxPendingBytes - len(name) - len(sealed)
	begun := pendingCookies(req, base)
	for i := len(begun) - 1; i >= 0; i-- {
		left -= len(begun[i].Name) + len(begun[i].Value) + len("=; ")
		if left < 0 {
			setCookie(rw, &g.stateCookie, begun[i].Name, "", https, -1)
		}
	}
	setCookie(rw, &g.stateCookie, name, sealed, https, g.config.StateCookie.MaxAge)
}

func sealPending(g *gate, name string, pending *pendingLogin, secret string) string {
	content, _ := json.Marshal(pending) // strings and numbers: cannot fail
	return seal(g.stateSealer, name, append([]byte(secret), deflate(content)...))
}

// pendingCookies are the pending logins of a request. Browsers send the oldest first (RFC 6265 5.4).
func pendingCookies(req *http.Request, base string) []*http.Cookie {
	var found []*http.Cookie
	for _, c := range cookies(req) {
		isOne := strings.HasPrefix(c.Name, base) && len(c.Name) == len(base)+stateMarkLength // not all that begins so is ours
		if isOne && len(found) < maxPendingLogins {
			found = append(found, c)
		}
	}
	return found
}

// takePending finds the pending login of state among the browser's cookies, and removes its cookie.
// An error says why the answer does not belong to a sign-in of this browser, or not any more.
func takePending(g *gate, rw http.ResponseWriter, req *http.Request, state string) (*pendingLogin, error) {
	https := isHTTPS(g, req)
	name := cookieName(&g.stateCookie, https) + fmt.Sprintf(".%.6x", state)
	var pending *pendingLogin
	for _, value := range cookieValues(req, name) {
		content, _, _ := open(g.stateSealer, name, value)
		pending = readPending(content)
		if pending != nil && subtle.ConstantTimeCompare([]byte(pending.State), []byte(state)) == 1 {
			setCookie(rw, &g.stateCookie, name, "", https, -1)
			break
		}
		pending = nil
	}
	if pending == nil {
		// Fails closed: without the cookie it may be somebody else's answer (login CSRF, RFC 9700 4.7).
		return nil, errNoPending
	}
	if age := time.Now().Unix() - pending.At; age > int64(g.config.StateCookie.MaxAge) {
		return nil, fmt.Errorf("callback: the login was begun %d s ago, stateCookie.maxAge is %d", age, g.config.StateCookie.MaxAge)
	}
	if here := address(g, &g.redirect, req); here != pending.RedirectURI {
		return nil, fmt.Errorf("callback: came to %q, was sent to %q", clip(here), pending.RedirectURI)
	}
	return pending, nil
}

// readPending reads what keepPending wrote, nil when it did not.
func readPending(content []byte) *pendingLogin {
	if len(content) < 32 {
		return nil
	}
	pending := &pendingLogin{}
	text, err := inflate(content[32:])
	if err != nil || json.Unmarshal(text, pending) != nil {
		return nil
	}
	derive(pending, string(content[:32]))
	return pending
}

var (
	errNoPending = errors.New("callback: no pending login for this state: it is used, expired, or of another browser")
	errUsedState = errors.New("callback: this state was used before") // a copied cookie; RFC 9700 4.7.1
)

// completeOnce makes the session of an answer, once: a state is spent with its code. A browser that was cut off and asks once more, with the
// same pending login, gets the session that was made.
func completeOnce(g *gate, req *http.Request, pending *pendingLogin, answer url.Values) (*session, error) {
	key := hashText(pending.State)
	value, err := share(req.Context(), &g.signIns, key, func(ctx context.Context) (any, error) {
		if made, _ := recall(g.made, key).(*session); made != nil && time.Since(time.UnixMilli(made.Start)) < secondCallback {
			return made, checkSession(g, made, time.Now())
		}
		if !rememberIf(g.usedStates, false, key, pending.Return, len(pending.Return)) {
			return nil, errUsedState
		}
		s, err := completeLogin(ctx, g, pending, answer)
		if err == nil && g.store != nil {
			err = storeSession(ctx, g, s)
		}
		if err == nil {
			remember(g.made, key, s, sessionSize(s))
		}
		return s, err
	})
	s, _ := value.(*session)
	return s, err
}

// callback is where the provider sends the browser back to.
func callback(g *gate, rw http.ResponseWriter, req *http.Request) {
	answer, err := parameters(req)
	if err != nil {
		refuse(g, rw, req, http.StatusBadRequest, fmt.Errorf("callback: %w", err))
		return
	}
	state := answer.Get("state")
	if state+answer.Get("code")+answer.Get("error") == "" { // a bookmark, or the 403 page's way to another account
		if back := answer.Get("switch"); back != "" && !g.config.DisableLogin {
			login(g, rw, req, localPath(back), "login", "")
			return
		}
		redirect(rw, req, homePage(g, req))
		return
	}
	pending, err := takePending(g, rw, req, state)
	if err != nil {
		stale(g, rw, req, state, err)
		return
	}
	back := wayBack(g, req, pending.Return)
	s, err := completeOnce(g, req, pending, answer)
	if errors.Is(err, errUsedState) {
		stale(g, rw, req, state, err)
		return
	}
	isDropped := errors.Is(err, errUnavailable) && answer.Get("error") == "temporarily_unavailable"
	if (isDropped || errors.Is(err, errRefused)) && resume(g, rw, req, pending, answer, back) {
		return
	}
	status := statusOf(err, http.StatusBadRequest)
	if errors.Is(err, errRefused) {
		status = http.StatusBadRequest // the code has ended: another one may do
	}
	if err == nil {
		err = saveSession(g, rw, req, s, time.Now())
		status = statusOf(err, http.StatusInternalServerError) // tokens that cookies cannot hold are for the operator, not for another try
	}
	if err != nil {
		refuseLogin(g, rw, req, status, err, back)
		return
	}
	endReplaced(g, req, s)
	noteRound(g, rw, req, pending.Rounds+1)
	logf(g.log, levelInfo, "session %s: signed in sub %q", s.ID, clip(text(s.claims["sub"])))
	welcome(g, rw, req, back, pending.IsCut)
}

// welcome leads on to the page that somebody wanted to see before the sign-in.
func welcome(g *gate, rw http.ResponseWriter, req *http.Request, back string, isCut bool) {
	a := newAnswer("200 signed in", action{text: "Continue", href: back})
	if isCut {
		a.detail = "The address that you came from is too long to be remembered whole. Open it once more, or continue with its beginning."
		writeAnswer(g.pages, rw, req, a)
		return
	}
	if g.sessionCookie.sameSite == http.SameSiteStrictMode {
		// A redirect would be the provider's still, and the browser keep the new cookie back. A page of ours leads on.
		rw.Header().Set("Refresh", "0; url="+back)
		writeAnswer(g.pages, rw, req, a)
		return
	}
	redirect(rw, req, back)
}

// stale answers a callback whose sign-in is over. Who is signed in goes on to where they wanted to be: the back button does that.
// Nobody else is sent to the provider again by itself: an answer that never fits would lead around in circles.
func stale(g *gate, rw http.ResponseWriter, req *http.Request, state string, reason error) {
	back := homePage(g, req)
	if _, err := sessionPass(g, rw, req); err != nil {
		isLost := errors.Is(reason, errNoPending) && stateAge(state) > -60 && // a replica may be ahead
			stateAge(state) < int64(g.config.StateCookie.MaxAge) &&
			recall(g.usedStates, hashText(state)) == nil
		if isLost {
			refuseCookie(g, rw, req, fmt.Errorf("%w: the browser did not send the cookie %s", reason, g.stateCookie.base), causes(g, &g.stateCookie, req, 0), back)
			return
		}
		refuseLogin(g, rw, req, http.StatusBadRequest, reason, back)
		return
	}
	if used := text(recall(g.usedStates, hashText(state))); used != "" {
		back = wayBack(g, req, used)
	}
	redirect(rw, req, back)
}

// resume goes on where the provider could not, and says whether it did: Keycloak answers temporarily_unavailable in a tab whose sign-in page
// was overtaken by another tab's, or a code of that one, which is refused. Who has a session goes to the page; for anybody else the sign-in begins once more, if its page was too old.
func resume(g *gate, rw http.ResponseWriter, req *http.Request, pending *pendingLogin, answer url.Values, back string) bool {
	if _, err := sessionPass(g, rw, req); err == nil {
		redirect(rw, req, back)
		return true
	}
	isOld := strings.Contains(answer.Get("error_description"), "authentication_expired") && !pending.IsAgain
	if isOld {
		login(g, rw, req, pending.Return, "", "")
	}
	return isOld
}

// homePage is where somebody goes who wants nothing in particular: never to an address of ours, which would lead around.
func homePage(g *gate, req *http.Request) string {
	if g.config.PostLoginRedirectURL != "" && (endpointAt(g, &g.postLogin) == nil || !isHere(&g.postLogin, req)) {
		return address(g, &g.postLogin, req)
	}
	return outerPath(req, "/")
}

// completeLogin checks the answer, exchanges its code (RFC 6749 4.1.3), verifies what comes back, and makes the session. The order
// matters: nothing is sent to the provider before state and issuer are right, and no token is used before its nonce is.
func completeLogin(ctx context.Context, g *gate, pending *pendingLogin, answer url.Values) (*session, error) {
	m, err := discover(ctx, g.client)
	if err != nil {
		return nil, err
	}
	// RFC 9207 2.4: an answer of another provider (mix-up) ends here, also when it is an error.
	if issuer := answer.Get("iss"); issuer != text(m["issuer"]) && (answer.Has("iss") || m["authorization_response_iss_parameter_supported"] == true) {
		return nil, fmt.Errorf("%w: callback: iss: expected %q, got %q", errUnusable, text(m["issuer"]), clip(issuer))
	}
	if problem := answer.Get("error"); problem != "" { // RFC 6749 4.1.2.1
		return nil, fmt.Errorf("%w: callback: the provider answered %s %q", outcomeOf(problem, errUnusable), clip(problem), clip(answer.Get("error_description")))
	}
	if answer.Get("code") == "" {
		return nil, fmt.Errorf("%w: callback: no code", errUnusable)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": answer["code"], "redirect_uri": {pending.RedirectURI}, "resource": g.config.Resource}
	addParam(form, "code_verifier", pending.Verifier)
	now := time.Now() // when the session starts: a logout that comes while the code is exchanged is later, and ends it
	t, err := requestTokens(ctx, g.client, form)
	if err == nil && t.idToken == "" {
		err = fmt.Errorf("%w: token endpoint: the answer has no id_token; is %q an OpenID Connect provider?", errUnusable, g.config.Issuer)
	}
	if err != nil {
		return nil, err
	}
	verified, err := verifyIDToken(ctx, g.client, t.idToken)
	if err == nil { // steps 1 to 13 of OIDC Core 3.1.3.7
		wanted := &expected{nonce: pending.Nonce, accessToken: t.accessToken, maxAge: pending.MaxAge, acrValues: pending.ACRValues}
		err = checkIDToken(g.client.rules, verified, wanted, now)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: id token: %w", errUnusable, err)
	}
	var info map[string]any
	if g.config.Userinfo {
		info, err = fetchUserinfo(ctx, g.client, t.accessToken, text(verified.claims["sub"]))
	}
	if err != nil && !errors.Is(err, errUnavailable) {
		err = fmt.Errorf("%w: %w", errUnusable, err)
	}
	s := newSession(t, verified.claims, info, now)
	s.Start += skewOf(g.ledger)
	return s, err
}

// startLogin serves loginUrl: a sign-in that a page, or the provider (OIDC Core 4), asks for. Anybody can lead a browser here: so who
// is asked and where it ends must be ours.
func startLogin(g *gate, rw http.ResponseWriter, req *http.Request) {
	asked, err := parameters(req)
	if issuer := asked.Get("iss"); issuer != "" && !isIssuer(req.Context(), g.client, issuer) {
		err = fmt.Errorf("iss: expected %q, got %q", issuerOf(g.client), clip(issuer))
	}
	ours := origin(g, req)
	back := homePage(g, req)
	addParam(asked, "target_link_uri", asked.Get("rd")) // as oauth2-proxy calls it
	if target := asked.Get("target_link_uri"); target != "" {
		back = localPath(strings.TrimPrefix(target, ours))
		to, bad := url.Parse(target)
		if bad == nil && to.User == nil && strings.HasPrefix(ours, to.Scheme+"://") && (isOurHost(to.Host, req) || sharesCookies(g, to.Host)) {
			back = wayBack(g, req, target)
		} else if bad != nil || to.Scheme+to.Host != "" { // OIDC Core 4: or we were an open redirector
			err = fmt.Errorf("target_link_uri: must be on %q, got %q", ours, clip(target))
		}
	}
	if err != nil {
		refuse(g, rw, req, http.StatusBadRequest, fmt.Errorf("login: %w", err))
		return
	}
	login(g, rw, req, back, "", asked.Get("login_hint"))
}

// parameters reads what was sent to an address of ours, strictly: Go's URL.Query hides what it could not read.
func parameters(req *http.Request) (url.Values, error) {
	sent := req.URL.RawQuery
	if req.Method == http.MethodPost {
		body, err := readForm(req)
		if err != nil {
			return nil, err
		}
		sent = body
	}
	form, err := url.ParseQuery(sent)
	if err != nil {
		return nil, fmt.Errorf("the parameters cannot be read: %s", err)
	}
	for _, name := range strings.Fields("state code iss error sid logout_token target_link_uri rd") {
		if len(form[name]) > 1 { // RFC 6749 3.1
			return nil, fmt.Errorf("%s was given more than once", name)
		}
	}
	return form, nil
}

// withQuery adds parameters to an address that may have some already (RFC 6749 3.1).
func withQuery(address string, form url.Values) string {
	separator := "?"
	if strings.Contains(address, "?") {
		separator = "&"
	}
	return address + separator + form.Encode()
}

// redirect sends the browser elsewhere, with GET whatever it came with (RFC 9700 4.12), and tells nobody where it has been.
func redirect(rw http.ResponseWriter, req *http.Request, to string) {
	setHeaders(rw, "Cache-Control", "no-store", "Referrer-Policy", "no-referrer", "Location", to)
	status := http.StatusFound
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		status = http.StatusSeeOther
	}
	rw.WriteHeader(status)
}
