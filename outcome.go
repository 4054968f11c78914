package oidc

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// What an error means to the caller: the status, the page and its text, the OAuth code, and how it is logged.

// The errors that decide a response, except those that only one file needs. Any other error means a credential that is not valid. The text of
// an error of RFC 6750 3.1 is its code.
var (
	errNoCredentials     = errors.New("not signed in")
	errSessionEnded      = fmt.Errorf("%w", errNoCredentials) // for ever
	errNotAllowed        = errors.New("not allowed")
	errCSRF              = errors.New("forged request")
	errInvalidRequest    = errors.New("invalid_request")
	errInvalidToken      = errors.New("invalid_token")
	errInsufficientScope = errors.New("insufficient_scope")
	errTooManyGuesses    = errors.New("too many attempts")
	errUnavailable       = errors.New("unavailable")
	errInProgress        = fmt.Errorf("%w", errUnavailable)                // another request or replica is doing it
	errMisconfigured     = fmt.Errorf("%w: configuration", errUnavailable) // not temporary: our configuration, or the provider's for this client, is wrong
	errRefused           = errors.New("refused by the provider")           // a definite refusal of the grant (RFC 6749 5.2)
	errBadResponse       = errors.New("unusable answer of the provider")
	errBadHost           = errors.New("host: the request's Host (:authority) is no name of a host")
	errTooManyHeaders    = errors.New("headers: more names than a request has")
)

// outcome is what an error means to the caller, and for the log.
type outcome struct {
	err        error // nil: any error that is answered with this status
	status     int
	code       string // the OAuth error code, for a client that sent a token (RFC 6750 3.1)
	level      int
	retryAfter string // seconds
	page       string // the row of pageTexts; "": the status's own
	callerPage string // the end of that row's name, for callers with a token or credentials
}

// outcomes is the table of outcomes. The first row counts that fits the error and, if a response is written, its status.
var outcomes = []outcome{
	{errNotAllowed, 403, "", levelInfo, "", "", " gateway"},
	{errInsufficientScope, 403, "insufficient_scope", levelInfo, "", "", ""},
	{errTooManyGuesses, 429, "", levelInfo, "60", "", ""},
	{errInvalidToken, 401, "invalid_token", levelInfo, "", "", " refused"},
	{errInvalidRequest, 400, "invalid_request", levelInfo, "", "", ""},
	// Only a warning: it affects every request alike, and anybody can cause some of it.
	{errMisconfigured, 500, "", levelWarn, "", "500 configuration", ""},
	{errUnavailable, 503, "", levelWarn, "5", "", ""},
	{errRefused, 502, "", levelError, "", "", ""},
	{errBadResponse, 502, "", levelError, "", "", ""},
	{nil, 500, "", levelError, "", "", ""},
	{nil, 503, "", levelWarn, "5", "", ""},
}

// outcomeOf is the row for an error that is answered with this status.
func outcomeOf(reason error, status int) outcome {
	for _, o := range outcomes {
		if o.status == status && (o.err == nil || errors.Is(reason, o.err)) {
			return o
		}
	}
	return outcome{status: status, level: levelInfo}
}

// statusOf is the status for an error; otherwise is the status for an error without a row.
func statusOf(err error, otherwise int) int {
	for _, o := range outcomes {
		if o.err != nil && errors.Is(err, o.err) {
			return o.status
		}
	}
	return otherwise
}

// refuse answers a request with an error. The reason is logged with the request ID that the visitor sees.
func refuse(m *middleware, rw http.ResponseWriter, req *http.Request, status int, reason error) {
	refuseWith(m, rw, req, newResponse(strconv.Itoa(status)), reason)
}

// refuseLogin is refuse for a sign-in that failed: the page links back to where it started.
func refuseLogin(m *middleware, rw http.ResponseWriter, req *http.Request, status int, reason error, back string) {
	name := strconv.Itoa(status)
	if status < http.StatusInternalServerError {
		name += " sign-in" // 400 and 403 have words for it
	}
	refuseWith(m, rw, req, newResponse(name, action{text: "Sign in again", href: back}), reason)
}

func refuseWith(m *middleware, rw http.ResponseWriter, req *http.Request, res *response, reason error) {
	o := outcomeOf(reason, res.status)
	res.id = newRequestID()
	if res.isForOperator {
		o.level = levelWarn
	}
	useTexts(res, o.page)
	addChallenge(m, res, o.code)
	if len(res.actions) == 0 {
		res.retryAfter = o.retryAfter
		useCallerTexts(m, req, res, o)
		text, href := suggestedAction(m, req, res.status)
		res.actions = []action{{text: text, href: href}}
	} else { // such a page does not retry by itself, as that might go on for ever
		setHeaders(rw, "Retry-After", o.retryAfter)
	}
	logf(m.log, o.level, "%s %s: %d: %s (reference %s)", forLog(req.Method), forLog(req.URL.Path), res.status, reason, res.id)
	writeResponse(m.pages, rw, req, res)
}

// suggestedAction is what a visitor can do about a response: the text of a link and its address, "" if there is nothing.
func suggestedAction(m *middleware, req *http.Request, status int) (text, href string) {
	here := requestedPage(req)
	signsIn := m.sessions != nil && !m.config.DisableLogin
	switch status {
	case http.StatusForbidden:
		if signsIn && matchesHost(&m.site.redirect, req) {
			return "Sign in as someone else", externalPath(req, m.site.redirect.path) + "?switch=" + url.QueryEscape(here)
		}
	case http.StatusUnauthorized:
		if at, err := parseLocation(m.config.LoginURL); err == nil {
			return "Sign in", absoluteURL(m.site, &at, req)
		}
		if signsIn && m.config.Unauthenticated != "deny" { // a form that was submitted too late
			return "Sign in", defaultPage(m.site, req)
		}
	case http.StatusServiceUnavailable, http.StatusInternalServerError, http.StatusBadGateway:
		return "Try again", here
	}
	return "", ""
}

// addChallenge adds the challenge that a 401 must have (RFC 9110 11.6.1), and tells a client why its token was refused (RFC 6750 3). A request
// without a token gets no error code.
func addChallenge(m *middleware, res *response, code string) {
	if code == "" && res.status != http.StatusUnauthorized {
		return
	}
	if m.clientCredentials != nil && !m.clientCredentials.hasOwnClient {
		res.challenge = fmt.Sprintf("Basic realm=%q, charset=\"UTF-8\"", m.config.ChallengeRealm) // RFC 7617 2
		return
	}
	challenge := fmt.Sprintf("Bearer realm=%q", m.config.ChallengeRealm)
	if code != "" {
		challenge += fmt.Sprintf(", error=%q", code)
	}
	var scopes []string
	metadata := ""
	for _, v := range m.tokens.all {
		scopes = addScopes(scopes, v.policy.rule)
		if v.metadataURL != "" && metadata == "" {
			metadata = fmt.Sprintf(", resource_metadata=%q", v.metadataURL) // RFC 9728 5.1
		}
	}
	if res.status != http.StatusBadRequest && scopes != nil {
		challenge += fmt.Sprintf(", scope=%q", strings.Join(scopes, " ")) // RFC 6750 3; MCP's clients ask for what the first 401 names
	}
	res.challenge = challenge + metadata
}

// useCallerTexts chooses the texts for a caller that sent, or should have sent, a token or credentials: nothing about sign-in or sessions.
func useCallerTexts(m *middleware, req *http.Request, res *response, o outcome) {
	_, credential, _ := findToken(m.tokens, req)
	isCaller := m.sessions == nil || o.code+credential != ""
	isOurFault := res.status == http.StatusInternalServerError && o.page == ""
	if !isCaller || isOurFault {
		return
	}
	name := fmt.Sprint(res.status, " token")
	if m.clientCredentials != nil && !m.clientCredentials.hasOwnClient && res.status <= http.StatusUnauthorized {
		name = fmt.Sprint(res.status, " client")
	}
	useTexts(res, name+o.callerPage)
}

// useTexts gives a response the texts of a row in pageTexts, if there is one.
func useTexts(res *response, name string) {
	if name == "" {
		return
	}
	if words := newResponse(name); words.title != "" {
		res.title = words.title
		res.detail = words.detail
	}
}
