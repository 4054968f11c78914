package oidc

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"
)

// This room is the sign-in: out to the provider with a pending login in a cookie of its own, and back with a code for it
// (authorization code flow, OIDC Core 3.1, with PKCE, RFC 7636).

const (
	stateMarkLength  = 12   // hexadecimal digits at the end of a pending login's cookie name: its time, so that names sort, and chance
	maxPendingLogins = 5    // more tabs than that at once, and the oldest has to start again
	maxReturn        = 2000 // bytes of the address to return to; a longer one loses its query, or all
)

// pendingLogin is what is remembered of a sign-in under way, sealed in the browser that started it.
type pendingLogin struct {
	State       string `json:"s"`
	Nonce       string `json:"n"`
	Verifier    string `json:"v,omitempty"`
	RedirectURI string `json:"u"`
	Return      string `json:"r"` // complete address
	At          int64  `json:"t"` // Unix seconds
}

// unauthenticated answers a request that nobody vouches for.
func unauthenticated(g *gate, next http.Handler, rw http.ResponseWriter, req *http.Request, reason error) {
	mode := g.config.Unauthenticated
	if mode == "forward" {
		logf(g.log, levelDebug, "%s %s: anonymous: %s", clip(req.Method), clip(req.URL.Path), reason)
		stripAll(g, req)
		next.ServeHTTP(rw, req)
		return
	}
	onlyElsewhere := g.config.DisableLogin || g.config.LoginURL != "" && mode != "login"
	if g.client == nil || onlyElsewhere || mode == "deny" || mode == "auto" && !isNavigation(req) {
		refuse(g, rw, req, http.StatusUnauthorized, reason)
		return
	}
	logf(g.log, levelDebug, "%s %s: sign-in: %s", clip(req.Method), clip(req.URL.Path), reason)
	login(g, rw, req, returnAddress(req), nil)
}

// returnAddress is the address of this request, for after the sign-in.
func returnAddress(req *http.Request) string {
	return origin(req) + localPath(req.URL.RequestURI())
}

// localPath makes sure that an address stays on our own origin: exactly one slash in front, and nothing a browser reads as one.
func localPath(address string) string {
	path, query, hasQuery := strings.Cut(address, "?")
	if len(path) > maxReturn {
		return "/"
	}
	path = "/" + strings.TrimLeft(strings.Map(noBackslash, path), "/")
	if hasQuery && len(query)+len(path) < maxReturn {
		return path + "?" + strings.Map(noBackslash, query)
	}
	return path
}

// noBackslash drops what browsers take for a slash or skip over (WHATWG URL 4.4).
func noBackslash(r rune) rune {
	if r == '\\' {
		return '/'
	}
	if r < ' ' || r == 0x7f {
		return -1
	}
	return r
}

// login sends the browser to the provider. extra are parameters that this sign-in alone has.
func login(g *gate, rw http.ResponseWriter, req *http.Request, returnTo string, extra url.Values) {
	m, err := discover(req.Context(), g.client)
	if err != nil {
		refuse(g, rw, req, http.StatusServiceUnavailable, err)
		return
	}
	pending := &pendingLogin{State: randomText(), Nonce: randomText(), RedirectURI: address(&g.redirect, req), Return: returnTo, At: time.Now().Unix()}
	if g.config.PKCE {
		pending.Verifier = randomText()
	}
	form := authorizationRequest(g, req, pending, extra)
	if g.config.PAR == "true" || g.config.PAR == "auto" && m["require_pushed_authorization_requests"] == true {
		if form, err = pushAuthorization(req.Context(), g.client, form); err != nil {
			refuse(g, rw, req, http.StatusServiceUnavailable, err)
			return
		}
	}
	keepPending(g, rw, req, pending)
	redirect(rw, req, withQuery(text(m["authorization_endpoint"]), form))
}

// authorizationRequest are the parameters of OIDC Core 3.1.2.1.
func authorizationRequest(g *gate, req *http.Request, pending *pendingLogin, extra url.Values) url.Values {
	c := g.config
	form := url.Values{}
	for name, value := range c.AuthParams {
		if name != "prompt" || value != "" {
			form.Set(name, value)
		}
	}
	if len(c.LoginParams) > 0 {
		asked, _ := url.ParseQuery(req.URL.RawQuery)
		for _, name := range c.LoginParams {
			if value := asked.Get(name); value != "" {
				form.Set(name, value)
			}
		}
	}
	for name, values := range extra {
		form[name] = values
	}
	form.Set("response_type", "code")
	form.Set("client_id", c.ClientID)
	form.Set("redirect_uri", pending.RedirectURI)
	form.Set("scope", strings.Join(c.Scopes, " "))
	form.Set("state", pending.State)
	form.Set("nonce", pending.Nonce)
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
	if len(c.ACRValues) > 0 {
		form.Set("acr_values", strings.Join(c.ACRValues, " "))
	}
	addResource(form, c.Resource)
	return form
}

// addResource names the APIs the token is for (RFC 8707 2).
func addResource(form url.Values, resource []string) {
	if len(resource) > 0 {
		form["resource"] = resource
	}
}

// pushAuthorization hands the request to the provider itself and returns what is left for the browser to carry (RFC 9126 2).
func pushAuthorization(ctx context.Context, c *client, form url.Values) (url.Values, error) {
	status, body, _, err := call(ctx, c, "par", "pushed_authorization_request_endpoint", form, nil, 0)
	if err != nil {
		return nil, err
	}
	answer, err := parseObject(body)
	if err != nil || status != http.StatusCreated || text(answer["request_uri"]) == "" {
		return nil, fmt.Errorf("%w: par: %d %s %q", errUnavailable, status, clip(text(answer["error"])), clip(text(answer["error_description"])))
	}
	return url.Values{"client_id": {c.id}, "request_uri": {text(answer["request_uri"])}}, nil
}

// keepPending gives the browser the cookie of this sign-in, and drops the oldest when there are too many.
func keepPending(g *gate, rw http.ResponseWriter, req *http.Request, pending *pendingLogin) {
	https := isHTTPS(req)
	name := cookieName(&g.stateCookie, https)
	marks := pendingMarks(req, name)
	for i := 0; i+maxPendingLogins <= len(marks); i++ {
		setCookie(rw, &g.stateCookie, name+"."+marks[i], "", https, -1)
	}
	mark := fmt.Sprintf("%010x%x", time.Now().UnixMilli()&0xffffffffff, randomBytes(1))
	name += "." + mark
	content, _ := json.Marshal(pending) // strings and a number: cannot fail
	setCookie(rw, &g.stateCookie, name, seal(g.stateSealer, name, content), https, g.config.StateCookie.MaxAge)
}

// pendingMarks are the ends of the names of the pending logins a browser carries, oldest first.
func pendingMarks(req *http.Request, name string) []string {
	var marks []string
	for _, line := range req.Header["Cookie"] {
		at := 0
		for len(marks) < 4*maxPendingLogins {
			start, end := findCookie(line, name+".", at)
			if start < 0 {
				break
			}
			mark, _, _ := strings.Cut(line[start+len(name)+1:end], "=")
			if len(mark) == stateMarkLength && isOwnSuffix("."+mark) {
				marks = append(marks, mark)
			}
			at = end
		}
	}
	sort.Strings(marks)
	return marks
}

// takePending finds the pending login of state among the browser's cookies, and removes its cookie: it works once.
func takePending(g *gate, rw http.ResponseWriter, req *http.Request, state string) *pendingLogin {
	https := isHTTPS(req)
	base := cookieName(&g.stateCookie, https)
	for _, mark := range pendingMarks(req, base) {
		name := base + "." + mark
		for _, value := range cookieValues(req, name) {
			content, _, err := open(g.stateSealer, name, value)
			pending := &pendingLogin{}
			if err != nil || json.Unmarshal(content, pending) != nil {
				continue
			}
			if subtle.ConstantTimeCompare([]byte(pending.State), []byte(state)) == 1 {
				setCookie(rw, &g.stateCookie, name, "", https, -1)
				return pending
			}
		}
	}
	return nil
}

// callback is where the provider sends the browser back to.
func callback(g *gate, rw http.ResponseWriter, req *http.Request) {
	answer, err := authorizationResponse(g, req)
	if err != nil {
		refuse(g, rw, req, http.StatusBadRequest, err)
		return
	}
	if answer.Get("state") == "" && answer.Get("code") == "" && answer.Get("error") == "" {
		visit(g, rw, req, answer)
		return
	}
	pending := takePending(g, rw, req, answer.Get("state"))
	if err := checkPending(g, req, pending, answer.Get("state")); err != nil {
		stale(g, rw, req, answer.Get("state"), err)
		return
	}
	s, err := completeLogin(g, req, pending, answer)
	status := http.StatusBadRequest
	if err == nil {
		status = http.StatusInternalServerError // tokens that cookies cannot hold are for the operator, not for another try
		err = saveSession(g, rw, req, s, time.Now())
	}
	if err != nil {
		if errors.Is(err, errUnusable) {
			status = http.StatusBadGateway // our configuration, the clock, or an attack: nothing the visitor can mend
		}
		if errors.Is(err, errUnavailable) {
			status = http.StatusServiceUnavailable
		}
		if errors.Is(err, errNotAllowed) {
			status = http.StatusForbidden
		}
		refuseLogin(g, rw, req, status, err, pending.Return)
		return
	}
	endReplaced(g, req)
	logf(g.log, levelInfo, "session %s: signed in sub %q", s.ID, clip(text(s.claims["sub"])))
	if g.sessionCookie.sameSite == http.SameSiteStrictMode {
		// A redirect would be the provider's still, and the browser keep the new cookie back. A page of ours leads on.
		writeAnswer(g.pages, rw, req, leadOn(pending.Return))
		return
	}
	redirect(rw, req, pending.Return)
}

// authorizationResponse reads the parameters of the provider's answer, strictly: Go's URL.Query hides what it could not read.
func authorizationResponse(g *gate, req *http.Request) (url.Values, error) {
	text := req.URL.RawQuery
	if req.Method == http.MethodPost {
		body, err := readForm(req)
		if err != nil {
			return nil, err
		}
		text = body
	}
	answer, err := url.ParseQuery(text)
	if err != nil {
		return nil, fmt.Errorf("callback: the parameters cannot be read: %s", err)
	}
	for _, name := range []string{"state", "code", "iss", "error"} {
		if len(answer[name]) > 1 { // RFC 6749 3.1
			return nil, fmt.Errorf("callback: %s was given more than once", name)
		}
	}
	return answer, nil
}

// visit is the callback without an answer: a bookmark, or the 403 page's way to another account.
func visit(g *gate, rw http.ResponseWriter, req *http.Request, query url.Values) {
	if back := query.Get("switch"); back != "" && !g.config.DisableLogin {
		login(g, rw, req, origin(req)+localPath(back), url.Values{"prompt": {"login"}})
		return
	}
	redirect(rw, req, homePage(g, req))
}

// checkPending says why the answer does not belong to a sign-in of this browser.
func checkPending(g *gate, req *http.Request, pending *pendingLogin, state string) error {
	if pending == nil {
		return errors.New("callback: no pending login for this state: it is used, expired, or of another browser; are cookies blocked?")
	}
	if age := time.Now().Unix() - pending.At; age > int64(g.config.StateCookie.MaxAge) {
		return fmt.Errorf("callback: the login was begun %d s ago, stateCookie.maxAge is %d", age, g.config.StateCookie.MaxAge)
	}
	if here := address(&g.redirect, req); here != pending.RedirectURI {
		return fmt.Errorf("callback: came to %q, was sent to %q", clip(here), pending.RedirectURI)
	}
	if !rememberOnce(g.client.usedStates, hashText(state), &usedState{pending.Return}) {
		return errors.New("callback: this state was used before") // a copied cookie; RFC 9700 4.7.1
	}
	return nil
}

// usedState remembers where a sign-in ended, for the back button.
type usedState struct{ returnTo string }

// stale answers a callback whose sign-in is over. Who is signed in goes on to where they wanted to be: the back button does that.
func stale(g *gate, rw http.ResponseWriter, req *http.Request, state string, reason error) {
	if _, err := sessionPass(g, rw, req); err == nil {
		back := homePage(g, req)
		if used, _ := recall(g.client.usedStates, hashText(state)).(*usedState); used != nil {
			back = used.returnTo
		}
		redirect(rw, req, back)
		return
	}
	refuseLogin(g, rw, req, http.StatusBadRequest, reason, homePage(g, req))
}

// homePage is where somebody goes who wants nothing in particular.
func homePage(g *gate, req *http.Request) string {
	if g.config.PostLoginRedirectURL != "" {
		return address(&g.postLogin, req)
	}
	return origin(req) + "/"
}

// completeLogin checks the answer, exchanges its code, verifies what comes back, and makes the session. The order matters:
// nothing is sent to the provider before state and issuer are right, and no token is used before its nonce is.
func completeLogin(g *gate, req *http.Request, pending *pendingLogin, answer url.Values) (*session, error) {
	ctx := context.WithoutCancel(req.Context()) // a code is spent once: finish what was begun
	m, err := discover(ctx, g.client)
	if err != nil {
		return nil, err
	}
	// RFC 9207 2.4: an answer of another provider (mix-up) ends here, also when it is an error.
	issuer := answer.Get("iss")
	if issuer != "" && issuer != text(m["issuer"]) || issuer == "" && m["authorization_response_iss_parameter_supported"] == true {
		return nil, fmt.Errorf("callback: iss: expected %q, got %q", text(m["issuer"]), clip(issuer))
	}
	if problem := answer.Get("error"); problem != "" {
		return nil, loginError(problem, answer.Get("error_description"))
	}
	t, err := exchangeCode(ctx, g, pending, answer.Get("code"))
	if err != nil {
		return nil, err
	}
	if t.idToken == "" {
		return nil, fmt.Errorf("%w: token endpoint: the answer has no id_token; is %q an OpenID Connect provider?", errUnusable, g.config.Issuer)
	}
	verified, err := verifyIDToken(ctx, g.client, t.idToken)
	if err != nil {
		return nil, fmt.Errorf("%w: id token: %w", errUnusable, err)
	}
	now := time.Now()
	wanted := &expected{nonce: pending.Nonce, accessToken: t.accessToken, maxAge: g.config.MaxAge, acrValues: g.config.ACRValues}
	if err := checkIDToken(g.client.rules, verified, wanted, now); err != nil {
		return nil, fmt.Errorf("%w: id token: %w", errUnusable, err)
	}
	var info map[string]interface{}
	if g.config.Userinfo {
		if info, err = fetchUserinfo(ctx, g.client, t.accessToken, text(verified.claims["sub"])); err != nil {
			return nil, err
		}
	}
	return newSession(t, verified.claims, info, now), nil
}

// loginError words the provider's refusal (RFC 6749 4.1.2.1).
func loginError(code, description string) error {
	if code == "temporarily_unavailable" || code == "server_error" {
		return fmt.Errorf("%w: callback: the provider answered %s %q", errUnavailable, clip(code), clip(description))
	}
	return fmt.Errorf("%w: callback: the provider answered %s %q", errNotAllowed, clip(code), clip(description))
}

// exchangeCode redeems the code (RFC 6749 4.1.3).
func exchangeCode(ctx context.Context, g *gate, pending *pendingLogin, code string) (*tokens, error) {
	if code == "" {
		return nil, errors.New("callback: no code")
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {pending.RedirectURI}}
	if pending.Verifier != "" {
		form.Set("code_verifier", pending.Verifier)
	}
	addResource(form, g.config.Resource)
	return requestTokens(ctx, g.client, form)
}

// startLogin serves loginUrl: a sign-in that a page, or the provider (OIDC Core 4), asks for.
func startLogin(g *gate, rw http.ResponseWriter, req *http.Request) {
	asked, err := url.ParseQuery(req.URL.RawQuery)
	if req.Method == http.MethodPost {
		var body string
		if body, err = readForm(req); err == nil {
			asked, err = url.ParseQuery(body)
		}
	}
	if err != nil {
		refuse(g, rw, req, http.StatusBadRequest, fmt.Errorf("login: the parameters cannot be read: %w", err))
		return
	}
	if issuer := asked.Get("iss"); issuer != "" && issuer != g.config.Issuer {
		refuse(g, rw, req, http.StatusBadRequest, fmt.Errorf("login: iss: expected %q, got %q", g.config.Issuer, clip(issuer)))
		return
	}
	back := homePage(g, req)
	if target := asked.Get("target_link_uri"); target != "" {
		if back = sameOrigin(req, target); back == "" { // OIDC Core 4: or we were an open redirector
			refuse(g, rw, req, http.StatusBadRequest, fmt.Errorf("login: target_link_uri: must be on %q, got %q", origin(req), clip(target)))
			return
		}
	}
	extra := url.Values{}
	if hint := asked.Get("login_hint"); hint != "" {
		extra.Set("login_hint", hint)
	}
	login(g, rw, req, back, extra)
}

// sameOrigin is target as a complete address of our own origin, "" when it is another's.
func sameOrigin(req *http.Request, target string) string {
	if !strings.HasPrefix(target, "/") {
		rest, isOurs := strings.CutPrefix(target, origin(req))
		if !isOurs || rest != "" && rest[0] != '/' && rest[0] != '?' {
			return ""
		}
		target = rest
	}
	if strings.HasPrefix(target, "//") || strings.HasPrefix(target, "/\\") {
		return ""
	}
	return origin(req) + localPath(target)
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
	rw.Header().Set("Cache-Control", "no-store")
	rw.Header().Set("Referrer-Policy", "no-referrer")
	rw.Header().Set("Location", to)
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		rw.WriteHeader(http.StatusSeeOther)
		return
	}
	rw.WriteHeader(http.StatusFound)
}
