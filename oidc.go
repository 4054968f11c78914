// Package oidc is a Traefik middleware plugin that signs people in with OpenID Connect, checks the tokens of APIs and obtains
// tokens for upstreams. Traefik interprets it with Yaegi; it needs nothing but Go's standard library.
//
// A request's way: ServeHTTP lets in whom it has seen before. Everybody else goes through serve, which is the table of contents:
//
//	warm.go                        the memory behind ServeHTTP
//	request.go                     what is read off a request
//	headers.go                     what the upstream is told, and what a client may not claim
//	bypass.go                      requests that need no sign-in
//	loop.go                        nobody goes round in circles, and loads that nobody asked for change nothing
//	login.go, logout.go            the sign-in, to the provider and back; the four kinds of sign-out
//	session.go                     the session's life: open, refresh, renew, end; and the pass remembered of it
//	cookies.go, seal.go, csrf.go   how it is kept at the browser
//	replicas.go, store.go          how it is kept in Redis, for more than one Traefik
//	bearer.go                      tokens that are brought: JWT and introspection
//	clientcredentials.go           tokens for the upstream
//	claims.go, expression.go       the rule, claim lookup, header formats; the language of both kinds of rule
//	provider.go, token.go, jwks.go the provider's side: calls, tokens, keys
//	exchange.go                    answers of the provider that come late
//	redis.go                       the protocol of Redis
//	pages.go, log.go               our own answers, and our log lines
//	config.go, options.go, gate.go the options, how they are read, and what is made of them
//	memory.go                      what requests share
package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The outcomes that decide an answer. Every other error is a credential that is no good.
var (
	errNoCredentials = errors.New("not signed in")
	errNotAllowed    = errors.New("not allowed")
	errForged        = errors.New("forged request")
	errUnavailable   = errors.New("unavailable")
	errElsewhere     = fmt.Errorf("%w", errUnavailable)   // somebody else is at it
	errEnded         = fmt.Errorf("%w", errNoCredentials) // for good
	errUnusable      = errors.New("unusable answer of the provider")
)

// Middleware is one router's use of the middleware. All routers with the same configuration share one gate.
type Middleware struct {
	gate *gate
	next http.Handler

	// The gate's, for ServeHTTP: one step less.
	header   string
	hosts    map[string]map[string]*pass
	ownPaths map[string]bool
}

// CreateConfig gives Traefik the value it decodes the options into. The table of defaults is on Config.
func CreateConfig() *RawConfig {
	return &RawConfig{}
}

// New makes the middleware called name in front of next. It needs no network, and reports every problem of the configuration in
// one error. Traefik calls it for each router, and again at each change of any configuration.
func New(ctx context.Context, next http.Handler, config *RawConfig, name string) (handler http.Handler, err error) {
	defer func() {
		if trouble := recover(); trouble != nil { // a panic here would end Traefik's configuration loop
			err = fmt.Errorf("%s: a bug, please report it: %s", name, clip(fmt.Sprint(trouble)))
		}
	}()
	g, err := findGate(ctx, config.Options, name)
	if err != nil {
		return nil, err
	}
	m := &Middleware{gate: g, next: next, header: g.warmHeader, hosts: g.hosts, ownPaths: g.ownPaths}
	if g.bypass != nil || g.csrf != nil {
		return &watchful{known: m}, nil
	}
	return m, nil
}

// ServeHTTP is the path of whoever was seen before, told by the one header that says who they are. The interpreter makes room for every
// variable and every intermediate value of this function on each call: whatever else there is to do is done by others.
func (m *Middleware) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	if line := req.Header[m.header]; len(line) == 1 {
		warm.RLock()
		p := m.hosts[req.Host][line[0]]
		warm.RUnlock()
		if p == nil {
			p = amongOthers(m, req)
		}
		switch {
		case time.Until(p.until) <= 0:
		case req.Trailer != nil:
		case m.ownPaths[req.URL.Path]:
		case req.Header.WriteSubset(closed, p.harmless) != nil: // a header that might fold into one of ours
		default:
			for set := p.first; set != nil; set = set.next {
				req.Header[set.name] = set.values
			}
			req.URL.User = p.user // Traefik's access log reads it; a client's, as in `GET http://name@host/`, goes
			m.next.ServeHTTP(rw, req)
			return
		}
	}
	notSeen(m, rw, req)
}

// notSeen is every request that is not, or no longer, known.
func notSeen(m *Middleware, rw http.ResponseWriter, req *http.Request) {
	if m.gate.store != nil {
		lookAgain(m, rw, req)
	} else {
		serve(m, rw, req)
	}
}

// watchful is a middleware that must look at more than who sends a request: some are open to all, some must repeat a token.
type watchful struct{ known *Middleware }

func (w *watchful) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	g := w.known.gate
	if g.csrf != nil && (!isSafe(req.Method) || lacksCSRFToken(g, req)) || g.bypass != nil && bypasses(g.bypass, req) {
		serve(w.known, rw, req)
		return
	}
	w.known.ServeHTTP(rw, req)
}

// serve is every other request.
func serve(m *Middleware, rw http.ResponseWriter, req *http.Request) {
	g := m.gate
	if g.store != nil {
		req = withStore(g, req)
	}
	isOpen := g.bypass != nil && bypasses(g.bypass, req) // a rule sees what the client sent
	if !hostName.MatchString(req.Host) && refusesHost(g, rw, req, isOpen) {
		return
	}
	if harmless, isAll := harmlessTo(g, req.Header); !isAll || req.Trailer != nil {
		if len(req.Header) > maxHeaders || len(req.Trailer) > maxHeaders {
			refuseHeaders(g, rw, req)
			return
		}
		stripHeaders(g, req, harmless) // a client never names itself
	}
	at := g.endpoints[req.URL.Path]
	if at == nil && req.Header["X-Forwarded-Prefix"] != nil {
		at = outerEndpoint(g, req)
	}
	if at != nil && isHere(&at.at, req) {
		serveEndpoint(g, at, rw, req)
		return
	}
	if isOpen && !g.config.BypassIdentity {
		stripAll(g, req)
		m.next.ServeHTTP(rw, req)
		return
	}
	who, err := authenticate(g, rw, req)
	if err == nil && g.csrf != nil {
		err = checkCSRF(g, rw, req, who)
	}
	if err != nil && isOpen { // as nobody
		stripAll(g, req)
		m.next.ServeHTTP(rw, req)
		return
	}
	if err != nil {
		turnAway(m, who, rw, req, err)
		return
	}
	forward(m, who, rw, req)
}

// turnAway answers whoever may not pass.
func turnAway(m *Middleware, who *pass, rw http.ResponseWriter, req *http.Request, reason error) {
	g := m.gate
	req.URL.User = nil // `GET http://name@host/` sets it
	if who != nil {
		req.URL.User = who.user // whom the rule says no to has a name in the access log, too
	}
	switch {
	case errors.Is(reason, errNoCredentials):
		unauthenticated(g, m.next, rw, req, reason)
	case errors.Is(reason, errForged):
		back := wayBack(g, req, req.Referer()) // which has a token for the next try
		refuseWith(g, rw, req, newAnswer("403 forged", action{text: "Load the page again", href: back}), reason)
	default:
		refuse(g, rw, req, statusOf(reason, http.StatusInternalServerError), reason)
	}
}

// statusOf is the answer to an outcome; otherwise is that to one which is not listed.
func statusOf(err error, otherwise int) int {
	for _, outcome := range []struct {
		reason error
		status int
	}{
		{errNotAllowed, http.StatusForbidden}, {errInsufficientScope, http.StatusForbidden},
		{errTooMany, http.StatusTooManyRequests}, {errInvalidToken, http.StatusUnauthorized}, {errInvalidRequest, http.StatusBadRequest},
		{errMisconfigured, http.StatusInternalServerError}, // which is an errUnavailable, too
		{errUnavailable, http.StatusServiceUnavailable}, {errRefused, http.StatusBadGateway}, {errUnusable, http.StatusBadGateway},
	} {
		if errors.Is(err, outcome.reason) {
			return outcome.status
		}
	}
	return otherwise
}

// authenticate says who sent the request: a token that is brought decides alone, else it is the session, else the gateway itself
// speaks for whoever asks.
func authenticate(g *gate, rw http.ResponseWriter, req *http.Request) (*pass, error) {
	if len(g.tokenJobs) > 0 {
		if p, found, err := bearerPass(g, req); found {
			return p, err
		}
	}
	if g.login {
		return sessionPass(g, rw, req)
	}
	if len(g.tokenJobs) > 0 {
		return nil, errNoCredentials
	}
	return gatewayPass(g, req)
}

// forward hands the request on with the headers of its pass. rw goes as it came, so that streams and websockets work.
func forward(m *Middleware, who *pass, rw http.ResponseWriter, req *http.Request) {
	g := m.gate
	line := req.Header[m.header]
	stripAll(g, req)
	delete(req.Header, who.drop)
	if who.dropsMore {
		takeTokens(g, req)
	}
	harmless, isAll := harmlessTo(g, req.Header)
	if !isAll {
		harmless = learn(g, req.Header, harmless)
	}
	for set := who.first; set != nil; set = set.next {
		req.Header[set.name] = set.values
	}
	req.URL.User = who.user
	if !g.login || who.session != "" { // who brought a token beside a sign-in was let in by another header
		note(g, who, req.Host, line, req.Header[m.header], harmless)
	}
	m.next.ServeHTTP(rw, req)
}

// endpoint is an address of ours.
type endpoint struct {
	at      location
	name    string // the option that says where it is; a function of a gate cannot stand here, the interpreter loses such circles
	methods []string
}

func serveEndpoint(g *gate, e *endpoint, rw http.ResponseWriter, req *http.Request) {
	if isSpeculative(req) {
		sendNothing(rw)
		return
	}
	if !has(e.methods, req.Method) {
		rw.Header().Set("Allow", strings.Join(e.methods, ", "))
		refuse(g, rw, req, http.StatusMethodNotAllowed, fmt.Errorf("%s: expected %s, got %s", e.at.path, strings.Join(e.methods, " or "), clip(req.Method)))
		return
	}
	switch e.name {
	case "redirectUrl":
		callback(g, rw, req)
	case "resource":
		describeResource(g, rw, req)
	case "loginUrl":
		startLogin(g, rw, req)
	case "logoutUrl":
		logout(g, rw, req)
	case "backchannelLogoutUrl":
		backchannelLogout(g, rw, req)
	case "frontchannelLogoutUrl":
		frontchannelLogout(g, rw, req)
	}
}

// refuse answers with an error. The reason goes to the log under the id that the visitor sees.
func refuse(g *gate, rw http.ResponseWriter, req *http.Request, status int, reason error) {
	refuseWith(g, rw, req, newAnswer(strconv.Itoa(status)), reason)
}

// refuseLogin is refuse for a sign-in that failed: the page leads back to where it began.
func refuseLogin(g *gate, rw http.ResponseWriter, req *http.Request, status int, reason error, back string) {
	name := strconv.Itoa(status)
	if status < http.StatusInternalServerError {
		name += " sign-in" // 400 and 403 have words for it
	}
	a := newAnswer(name, action{text: "Sign in again", href: back})
	if status == http.StatusServiceUnavailable {
		rw.Header().Set("Retry-After", "5") // but the page does not sign in again by itself: it might go on for ever
	}
	refuseWith(g, rw, req, a, reason)
}

func refuseWith(g *gate, rw http.ResponseWriter, req *http.Request, a *answer, reason error) {
	a.id = newRequestID()
	level := levelInfo
	switch a.status {
	case http.StatusInternalServerError, http.StatusBadGateway:
		level = levelError
	case http.StatusTooManyRequests:
		a.retryAfter = "60"
	case http.StatusServiceUnavailable:
		level = levelWarn
		if len(a.actions) == 0 {
			a.retryAfter = "5"
		}
	}
	if a.isForOperator {
		level = levelWarn
	}
	if errors.Is(reason, errMisconfigured) {
		level = levelWarn // the same for everybody who comes, and some of it anybody can cause
		words := newAnswer("500 configuration")
		a.title = words.title
		a.detail = words.detail
	}
	speakToCallers(g, req, a, reason)
	challenge(g, a, reason)
	if len(a.actions) == 0 {
		a.actions = wayOut(g, req, a.status)
	}
	logf(g.log, level, "%s %s: %d: %s (reference %s)", clip(req.Method), clip(req.URL.Path), a.status, reason, a.id)
	writeAnswer(g.pages, rw, req, a)
}

// wayOut is what a visitor can do about an answer.
func wayOut(g *gate, req *http.Request, status int) []action {
	here := thisPage(req)
	switch status {
	case http.StatusForbidden:
		if g.login && !g.config.DisableLogin && isHere(&g.redirect, req) {
			return []action{{text: "Sign in as someone else", href: outerPath(req, g.redirect.path) + "?switch=" + url.QueryEscape(here)}}
		}
	case http.StatusUnauthorized:
		if at, err := parseLocation(g.config.LoginURL); err == nil {
			return []action{{text: "Sign in", href: address(g, &at, req)}}
		}
		if g.login && !g.config.DisableLogin && g.config.Unauthenticated != "deny" { // a form that was posted too late
			return []action{{text: "Sign in", href: homePage(g, req)}}
		}
	case http.StatusServiceUnavailable, http.StatusInternalServerError, http.StatusBadGateway:
		return []action{{text: "Try again", href: here}}
	}
	return nil
}
