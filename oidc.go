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
	"strings"
	"time"
)

// The outcomes that decide an answer. Every other error is a credential that is no good.
var (
	errNoCredentials = errors.New("not signed in")
	errNotAllowed    = errors.New("not allowed")
	errCSRF          = errors.New("forged request")
	errUnavailable   = errors.New("unavailable")
	errInProgress    = fmt.Errorf("%w", errUnavailable)   // somebody else is at it
	errSessionEnded  = fmt.Errorf("%w", errNoCredentials) // for good
	errBadResponse   = errors.New("unusable answer of the provider")
)

// Middleware is one router's use of the middleware. All routers with the same configuration share one gate.
type handler struct {
	middleware *middleware
	next       http.Handler

	// The gate's, for ServeHTTP: one step less.
	credentialHeader string
	hosts            map[string]map[string]*principal
	endpointPaths    map[string]bool
}

// CreateConfig gives Traefik the value it decodes the options into. The table of defaults is on Config.
func CreateConfig() *RawConfig {
	return &RawConfig{}
}

// New makes the middleware called name in front of next. It needs no network, and reports every problem of the configuration in
// one error. Traefik calls it for each router, and again at each change of any configuration.
func New(ctx context.Context, next http.Handler, config *RawConfig, name string) (made http.Handler, err error) {
	defer func() {
		if trouble := recover(); trouble != nil { // a panic here would end Traefik's configuration loop
			err = fmt.Errorf("%s: a bug, please report it: %s", name, forLog(fmt.Sprint(trouble)))
		}
	}()
	m, err := findMiddleware(ctx, config.Options, name)
	if err != nil {
		return nil, err
	}
	h := &handler{middleware: m, next: next, credentialHeader: m.cache.header, hosts: m.cache.hosts, endpointPaths: m.cache.endpointPaths}
	if m.bypass != nil || m.csrf != nil {
		return &checkedHandler{inner: h}, nil
	}
	return h, nil
}

// ServeHTTP is the path of whoever was seen before, told by the one header that says who they are. The interpreter makes room for every
// variable and every intermediate value of this function on each call: whatever else there is to do is done by others.
func (h *handler) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	if line := req.Header[h.credentialHeader]; len(line) == 1 {
		principalsLock.RLock()
		p := h.hosts[req.Host][line[0]]
		principalsLock.RUnlock()
		if p == nil {
			p = findBySessionCookie(h, req)
		}
		switch {
		case time.Until(p.validUntil) <= 0:
		case req.Trailer != nil:
		case h.endpointPaths[req.URL.Path]:
		case req.Header.WriteSubset(failingWriter, p.safeHeaders) != nil: // a header that might fold into one of ours
		default:
			for set := p.headers; set != nil; set = set.next {
				req.Header[set.name] = set.values
			}
			req.URL.User = p.user // Traefik's access log reads it; a client's, as in `GET http://name@host/`, goes
			h.next.ServeHTTP(rw, req)
			return
		}
	}
	serveSlow(h, rw, req)
}

// serveSlow is every request that is not, or no longer, known.
func serveSlow(h *handler, rw http.ResponseWriter, req *http.Request) {
	if h.middleware.store != nil {
		revalidate(h, rw, req)
	} else {
		serve(h, rw, req)
	}
}

// watchful is a middleware that must look at more than who sends a request: some are open to all, some must repeat a token.
type checkedHandler struct{ inner *handler }

func (w *checkedHandler) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	m := w.inner.middleware
	if m.csrf != nil && (!isSafeMethod(req.Method) || lacksCSRFToken(m.csrf, req)) || m.bypass != nil && bypasses(m.bypass, req) {
		serve(w.inner, rw, req)
		return
	}
	w.inner.ServeHTTP(rw, req)
}

// serve is every other request.
func serve(h *handler, rw http.ResponseWriter, req *http.Request) {
	m := h.middleware
	if m.store != nil {
		req = withStoreBudget(m.sessions, req)
	}
	isOpen := m.bypass != nil && bypasses(m.bypass, req) // a rule sees what the client sent
	if !hostName.MatchString(req.Host) && refuseBadHost(m, rw, req, isOpen) {
		return
	}
	if harmless, isAll := checkSafeHeaders(m.cache, req.Header); !isAll || req.Trailer != nil {
		if len(req.Header) > maxHeaders || len(req.Trailer) > maxHeaders {
			refuseHeaders(m, rw, req)
			return
		}
		stripHeaders(m.headers, req, harmless) // a client never names itself
	}
	at := m.site.endpoints[req.URL.Path]
	if at == nil && req.Header["X-Forwarded-Prefix"] != nil {
		at = externalEndpoint(m.site, req)
	}
	if at != nil && matchesHost(&at.location, req) {
		serveEndpoint(m, at, rw, req)
		return
	}
	if isOpen && !m.config.BypassIdentity {
		stripOwn(m.headers, req)
		h.next.ServeHTTP(rw, req)
		return
	}
	who, err := authenticate(m, rw, req)
	if err == nil && m.csrf != nil {
		err = checkCSRF(m, rw, req, who)
	}
	if err != nil && isOpen { // as nobody
		stripOwn(m.headers, req)
		h.next.ServeHTTP(rw, req)
		return
	}
	if err != nil {
		deny(h, who, rw, req, err)
		return
	}
	forward(h, who, rw, req)
}

// authenticate says who sent the request: a token that is brought decides alone, else it is the session, else the gateway itself
// speaks for whoever asks.
func authenticate(m *middleware, rw http.ResponseWriter, req *http.Request) (*principal, error) {
	if m.tokens.all != nil {
		if p, found, err := authenticateBearer(m, req); found {
			return p, err
		}
	}
	if m.sessions != nil {
		return authenticateSession(m, rw, req)
	}
	return authenticateClientCredentials(m, req)
}

// forward hands the request on with the headers of its pass. rw goes as it came, so that streams and websockets work.
func forward(h *handler, who *principal, rw http.ResponseWriter, req *http.Request) {
	m := h.middleware
	line := req.Header[h.credentialHeader]
	stripOwn(m.headers, req)
	delete(req.Header, who.tokenHeader)
	if who.mayHaveOtherTokens {
		removeTokens(m.tokens, req)
	}
	harmless, isAll := checkSafeHeaders(m.cache, req.Header)
	if !isAll {
		harmless = addSafeHeaders(m.cache, req.Header, harmless)
	}
	for set := who.headers; set != nil; set = set.next {
		req.Header[set.name] = set.values
	}
	req.URL.User = who.user
	if m.sessions == nil || who.sessionID != "" { // who brought a token beside a sign-in was let in by another header
		cacheAdmitted(m.cache, who, req.Host, line, req.Header[h.credentialHeader], harmless)
	}
	h.next.ServeHTTP(rw, req)
}

// endpoint is an address of ours.
type endpoint struct {
	location location
	name     string // the option that says where it is; a function of a gate cannot stand here, the interpreter loses such circles
	methods  []string
}

func serveEndpoint(m *middleware, e *endpoint, rw http.ResponseWriter, req *http.Request) {
	if isSpeculative(req) {
		sendNoContent(rw)
		return
	}
	if !contains(e.methods, req.Method) {
		rw.Header().Set("Allow", strings.Join(e.methods, ", "))
		refuse(m, rw, req, http.StatusMethodNotAllowed, fmt.Errorf("%s: expected %s, got %s", e.location.path, strings.Join(e.methods, " or "), forLog(req.Method)))
		return
	}
	switch e.name {
	case "redirectUrl":
		callback(m, rw, req)
	case "resource":
		describeResource(m.tokens, rw, req)
	case "loginUrl":
		startLogin(m, rw, req)
	case "logoutUrl":
		logout(m, rw, req)
	case "backchannelLogoutUrl":
		backchannelLogout(m.sessions, rw, req)
	case "frontchannelLogoutUrl":
		frontchannelLogout(m, rw, req)
	}
}

// deny answers whoever may not pass.
func deny(h *handler, who *principal, rw http.ResponseWriter, req *http.Request, reason error) {
	m := h.middleware
	req.URL.User = nil // `GET http://name@host/` sets it
	if who != nil {
		req.URL.User = who.user // whom the rule says no to has a name in the access log, too
	}
	switch {
	case errors.Is(reason, errNoCredentials):
		unauthenticated(m, h.next, rw, req, reason)
	case errors.Is(reason, errCSRF):
		back := returnURL(m.site, req, req.Referer()) // which has a token for the next try
		refuseWith(m, rw, req, newResponse("403 forged", action{text: "Load the page again", href: back}), reason)
	default:
		refuse(m, rw, req, statusOf(reason, http.StatusInternalServerError), reason)
	}
}
