package oidc

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// What an error means for whoever asked: its status, the page and the words, the OAuth code, and how it is logged.

// refuseBadHost answers a request whose host is none, of which nothing is made. Only what needs no sign-in may come without any, such as a
// balancer's health check by HTTP/1.0.
func refuseBadHost(m *middleware, rw http.ResponseWriter, req *http.Request, isOpen bool) bool {
	if isOpen && req.Host == "" {
		return false
	}
	refuse(m, rw, req, http.StatusBadRequest, errors.New("host: the request's Host (:authority) is no name of a host"))
	return true
}

// refuseHeaders answers a request with more headers than can be looked at.
func refuseHeaders(m *middleware, rw http.ResponseWriter, req *http.Request) {
	refuse(m, rw, req, http.StatusRequestHeaderFieldsTooLarge, errors.New("headers: more names than a request has"))
}

// statusOf is the answer to an outcome; otherwise is that to one which is not listed.
func statusOf(err error, otherwise int) int {
	for _, outcome := range []struct {
		reason error
		status int
	}{
		{errNotAllowed, http.StatusForbidden}, {errInsufficientScope, http.StatusForbidden},
		{errTooManyGuesses, http.StatusTooManyRequests}, {errInvalidToken, http.StatusUnauthorized}, {errInvalidRequest, http.StatusBadRequest},
		{errMisconfigured, http.StatusInternalServerError}, // which is an errUnavailable, too
		{errUnavailable, http.StatusServiceUnavailable}, {errRefused, http.StatusBadGateway}, {errBadResponse, http.StatusBadGateway},
	} {
		if errors.Is(err, outcome.reason) {
			return outcome.status
		}
	}
	return otherwise
}

// refuse answers with an error. The reason goes to the log under the id that the visitor sees.
func refuse(m *middleware, rw http.ResponseWriter, req *http.Request, status int, reason error) {
	refuseWith(m, rw, req, newResponse(strconv.Itoa(status)), reason)
}

// refuseLogin is refuse for a sign-in that failed: the page leads back to where it began.
func refuseLogin(m *middleware, rw http.ResponseWriter, req *http.Request, status int, reason error, back string) {
	name := strconv.Itoa(status)
	if status < http.StatusInternalServerError {
		name += " sign-in" // 400 and 403 have words for it
	}
	res := newResponse(name, action{text: "Sign in again", href: back})
	if status == http.StatusServiceUnavailable {
		rw.Header().Set("Retry-After", "5") // but the page does not sign in again by itself: it might go on for ever
	}
	refuseWith(m, rw, req, res, reason)
}

func refuseWith(m *middleware, rw http.ResponseWriter, req *http.Request, res *response, reason error) {
	res.id = newRequestID()
	level := levelInfo
	switch res.status {
	case http.StatusInternalServerError, http.StatusBadGateway:
		level = levelError
	case http.StatusTooManyRequests:
		res.retryAfter = "60"
	case http.StatusServiceUnavailable:
		level = levelWarn
		if len(res.actions) == 0 {
			res.retryAfter = "5"
		}
	}
	if res.isForOperator {
		level = levelWarn
	}
	if errors.Is(reason, errMisconfigured) {
		level = levelWarn // the same for everybody who comes, and some of it anybody can cause
		words := newResponse("500 configuration")
		res.title = words.title
		res.detail = words.detail
	}
	useTokenTexts(m, req, res, reason)
	addChallenge(m, res, reason)
	if len(res.actions) == 0 {
		res.actions = suggestedActions(m, req, res.status)
	}
	logf(m.log, level, "%s %s: %d: %s (reference %s)", forLog(req.Method), forLog(req.URL.Path), res.status, reason, res.id)
	writeResponse(m.pages, rw, req, res)
}

// suggestedActions is what a visitor can do about an answer.
func suggestedActions(m *middleware, req *http.Request, status int) []action {
	here := requestedPage(req)
	switch status {
	case http.StatusForbidden:
		if m.sessions != nil && !m.config.DisableLogin && matchesHost(&m.site.redirect, req) {
			return []action{{text: "Sign in as someone else", href: externalPath(req, m.site.redirect.path) + "?switch=" + url.QueryEscape(here)}}
		}
	case http.StatusUnauthorized:
		if at, err := parseLocation(m.config.LoginURL); err == nil {
			return []action{{text: "Sign in", href: absoluteURL(m.site, &at, req)}}
		}
		if m.sessions != nil && !m.config.DisableLogin && m.config.Unauthenticated != "deny" { // a form that was posted too late
			return []action{{text: "Sign in", href: defaultPage(m.site, req)}}
		}
	case http.StatusServiceUnavailable, http.StatusInternalServerError, http.StatusBadGateway:
		return []action{{text: "Try again", href: here}}
	}
	return nil
}

// addChallenge adds to an answer what a 401 must carry (RFC 9110 11.6.1), and what tells whoever brought a token why it does not do
// (RFC 6750 3). Nothing is told of a token that did not come.
func addChallenge(m *middleware, res *response, reason error) {
	code := ""
	for _, outcome := range []error{errInvalidToken, errInvalidRequest, errInsufficientScope} {
		if errors.Is(reason, outcome) {
			code = outcome.Error()
		}
	}
	if code == "" && res.status != http.StatusUnauthorized {
		return
	}
	if m.clientCredentials != nil && !m.clientCredentials.hasOwnClient {
		res.challenge = fmt.Sprintf("Basic realm=%q, charset=\"UTF-8\"", m.shortName) // RFC 7617 2
		return
	}
	res.challenge = fmt.Sprintf("Bearer realm=%q", m.shortName)
	if code != "" {
		res.challenge += fmt.Sprintf(", error=%q", code)
	}
	var scopes []string
	metadata := ""
	for _, job := range m.tokens.all {
		scopes = addScopes(scopes, job.policy.rule)
		if job.metadataURL != "" && metadata == "" {
			metadata = fmt.Sprintf(", resource_metadata=%q", job.metadataURL) // RFC 9728 5.1
		}
	}
	if res.status != http.StatusBadRequest && scopes != nil {
		res.challenge += fmt.Sprintf(", scope=%q", strings.Join(scopes, " ")) // RFC 6750 3; MCP's clients ask for what the first 401 names
	}
	res.challenge += metadata
}

// useTokenTexts finds the words for whoever brought a token or credentials, or should have: no word of a sign-in or a session.
func useTokenTexts(m *middleware, req *http.Request, res *response, reason error) {
	isRefused := errors.Is(reason, errInvalidToken)
	isCaller := m.sessions == nil || isRefused || errors.Is(reason, errInvalidRequest) || errors.Is(reason, errInsufficientScope)
	if !isCaller {
		_, credential, _ := findToken(m.tokens, req)
		isCaller = credential != ""
	}
	isOurFault := res.status == http.StatusInternalServerError && !errors.Is(reason, errMisconfigured)
	if !isCaller || len(res.actions) > 0 || isOurFault {
		return
	}
	name := fmt.Sprint(res.status, " token")
	if m.clientCredentials != nil && !m.clientCredentials.hasOwnClient && res.status <= http.StatusUnauthorized {
		name = fmt.Sprint(res.status, " client")
	}
	if isRefused {
		name += " refused"
	} else if errors.Is(reason, errNotAllowed) {
		name = "403 gateway"
	}
	if words := newResponse(name); words.title != "" {
		res.title = words.title
		res.detail = words.detail
	}
}
