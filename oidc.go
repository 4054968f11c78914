// Package oidc is a Traefik middleware plugin that signs people in with OpenID Connect, checks the tokens of APIs and obtains
// tokens for upstreams. Traefik interprets it with Yaegi; it needs nothing but Go's standard library.
//
// ServeHTTP serves clients that were let in before. Every other request goes through serve, which reads like a table of contents. The files:
//
//	the front door   oidc.go, outcome.go, page.go     the flow of a request; what each error means to the caller; our own pages
//	                 principal_cache.go               the cache behind ServeHTTP: who was let in before
//	                 request.go, site.go              what is read from a request; our own addresses
//	                 headers.go, bypass.go            identity headers, set and stripped; requests that need no sign-in
//	sign-in          login.go, pending_login.go       to the provider and back; the state of a sign-in in progress
//	                 login_loop.go                    redirect loops are stopped
//	                 logout.go, revocation.go         the four kinds of sign-out; the record of revoked sessions
//	sessions         session.go                       their life: opened, authorized, refreshed, renewed, ended
//	                 session_storage.go               where they are kept: the boundary between their life and the next two
//	                 session_cookie.go, cookie.go     sessions in the browser
//	                 session_redis.go, store.go       sessions in Redis, for several replicas of Traefik; redis.go speaks its protocol
//	                 session_format.go                how a session is packed, for either
//	                 session_decision.go              what is sealed with a session so that its tokens need not be read again
//	                 seal.go, csrf.go                 encryption; protection against cross-site request forgery
//	APIs             bearer.go, introspection.go      tokens that requests bring; resource.go describes the API to clients
//	                 client_credentials.go            tokens for the upstream
//	policies         claims.go, expression.go         claims rules, claim lookup, header formats; the syntax of claims and bypass rules
//	the provider     client.go, client_authentication.go, discovery.go, token_endpoint.go, userinfo.go, delayed.go
//	                 jwt.go, jwks.go                  its tokens and keys
//	options          config.go, rules.go              the options, and the rules they must satisfy
//	                 options.go, option_names.go      how they are decoded; what other products call them
//	                 middleware.go, registry.go       what is built from them; what outlives a reload
//	used by all      cache.go, log.go, text.go
//
// There are five lifetimes, and each has its types. Each points to what lives longer:
//
//	router                    handler                     made by New, and again at every change of any configuration
//	└ configuration           middleware and its parts    shared by all routers with the same options; never changes
//	  └ connection            client, store               one way to reach a provider or Redis; holds the metadata and the keys
//	    └ issuer, client      clientState                 completed sign-ins, refreshes, sign-outs; survives a change of any other option
//	      └ process           package variables           the registries, the principals and their lock, replicaID
//
// What belongs to the process is in package variables, because one interpreter runs all routers.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// handler connects one router to a middleware, which all routers with the same configuration share.
type handler struct {
	middleware *middleware
	next       http.Handler

	// Copies of what the middleware has: every selector saved there saves each request one allocation.
	cache            *principalCache
	credentialHeader string
	hasLogin         bool
	hosts            map[string]map[string]*principal
	endpointPaths    map[string]bool
}

// CreateConfig returns the value that Traefik decodes the options into. The defaults are in the tags of Config.
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
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	h := &handler{middleware: m, next: next, cache: m.cache, credentialHeader: m.cache.header, hasLogin: m.cache.hasLogin, hosts: m.cache.hosts, endpointPaths: m.cache.endpointPaths}
	if m.bypass != nil || m.csrf != nil {
		return &checkedHandler{inner: h}, nil
	}
	return h, nil
}

// ServeHTTP serves clients that were let in before, whom it recognizes by the one header that carries their credential. The interpreter
// allocates every local variable and every intermediate value of this function on each call, so everything else is done elsewhere.
func (h *handler) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	if line := req.Header[h.credentialHeader]; len(line) == 1 {
		lockForReading()
		p := h.hosts[req.Host][line[0]]
		unlockForReading()
		if p == nil {
			p = findUncached(h, req)
		}
		switch {
		case req.Trailer != nil:
		case h.endpointPaths[req.URL.Path]:
		case req.Header.WriteSubset(failingWriter, p.safeHeaders) != nil: // a header whose name a backend might take for one of ours
		case timeUntil(p.validUntil) <= 0:
			if serveExpired(h, rw, req, p) {
				return
			}
			fallthrough
		default:
			for set := p.headers; set != nil; set = set.next {
				req.Header[set.name] = set.values
			}
			req.URL.User = p.user // for Traefik's access log; replaces one that the client sent, as in `GET http://name@host/`
			h.next.ServeHTTP(rw, req)
			return
		}
	}
	serve(h, rw, req)
}

// checkedHandler looks at the request before the credential: a bypass rule may open it to everybody, or it may need a CSRF token.
type checkedHandler struct{ inner *handler }

// ServeHTTP sends requests for which the credential alone does not decide straight to serve.
func (w *checkedHandler) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	m := w.inner.middleware
	if m.csrf != nil && (!isSafeMethod(req.Method) || lacksCSRFToken(m.csrf, req)) || m.bypass != nil && bypasses(m.bypass, req) {
		serve(w.inner, rw, req)
		return
	}
	w.inner.ServeHTTP(rw, req)
}

// serve handles all other requests. The order matters: headers that a client must not send are stripped before anything is decided.
func serve(h *handler, rw http.ResponseWriter, req *http.Request) {
	m := h.middleware
	if m.store != nil {
		req = withRedisBudget(req, m.store.redis, 0)
	}
	isOpen := m.bypass != nil && bypasses(m.bypass, req) // before any header is stripped: the rule sees what the client sent
	// Only a request that needs no sign-in may have no host at all, such as a load balancer's health check by HTTP/1.0.
	if !isHostName(req.Host) && (!isOpen || req.Host != "") {
		refuse(m, rw, req, 400, errBadHost) // without using the host for anything
		return
	}
	safe, isAll := checkSafeHeaders(h.cache, req.Header)
	if !isAll || req.Trailer != nil {
		if !stripHeaders(m.headers, req, safe) { // a client never names itself
			refuse(m, rw, req, 431, errTooManyHeaders)
			return
		}
		safe = nil
	}
	if h.endpointPaths[req.URL.Path] || req.Header["X-Forwarded-Prefix"] != nil {
		if at := findEndpoint(m.site, req); at != nil {
			serveEndpoint(m, at, rw, req)
			return
		}
	}
	if isOpen && !m.config.BypassIdentity {
		forwardAnonymously(h, rw, req)
		return
	}
	who, err := authenticate(m, rw, req)
	if err == nil && m.csrf != nil {
		err = checkCSRF(m.sessions, m.tokens, rw, req, who)
	}
	switch {
	case err == nil:
		forward(h, who, safe, rw, req)
	case isOpen:
		forwardAnonymously(h, rw, req)
	default:
		deny(h, who, rw, req, err)
	}
}

// forwardAnonymously passes on a request that a bypass rule lets in.
func forwardAnonymously(h *handler, rw http.ResponseWriter, req *http.Request) {
	stripOwn(h.middleware.headers, req)
	h.next.ServeHTTP(rw, req)
}

// authenticate finds out who sent the request. A bearer token decides alone; without one the session does. Without sign-in, the
// middleware's own client credentials stand in for the caller.
func authenticate(m *middleware, rw http.ResponseWriter, req *http.Request) (p *principal, err error) {
	if m.tokens.all != nil {
		var found bool
		if p, found, err = authenticateBearer(m, req); found {
			return p, err
		}
	}
	if m.sessions != nil {
		return authenticateSession(m, rw, req)
	}
	return authenticateClientCredentials(m, req)
}

// forward passes the request on with its principal's headers. rw is not wrapped, so streaming and websockets keep working. safe are the names
// of headers that need no check, if the request has no others.
func forward(h *handler, who *principal, safe map[string]bool, rw http.ResponseWriter, req *http.Request) {
	pc, header := h.cache, req.Header
	line := header[h.credentialHeader]
	stripOwn(pc.headers, req)
	delete(header, who.tokenHeader)
	if who.mayHaveOtherTokens {
		removeTokens(h.middleware.tokens, req)
	}
	if safe == nil {
		safe = addSafeHeaders(pc, header)
	}
	for set := who.headers; set != nil; set = set.next {
		header[set.name] = set.values
	}
	req.URL.User = who.user
	if !pc.hasLogin || who.sessionID != "" { // with sign-in, the cached header is Cookie; a bearer token came in another one
		cacheAdmitted(pc, who, req, line, safe)
	}
	h.next.ServeHTTP(rw, req)
}

// findEndpoint returns the endpoint that a request is for, or nil.
func findEndpoint(st *site, req *http.Request) *endpoint {
	at := st.endpoints[req.URL.Path]
	if at == nil && req.Header["X-Forwarded-Prefix"] != nil {
		at = st.endpoints[forwardedPrefix(req)+req.URL.Path] // behind a StripPrefix, if the option was written as browsers see it
	}
	if at == nil || !matchesHost(&at.location, req) {
		return nil
	}
	return at
}

// endpoint is one of our own addresses.
type endpoint struct {
	location location
	name     string // the option that sets its address; not a func(*middleware, …), because the interpreter loses track of such circular types
	methods  []string
}

func serveEndpoint(m *middleware, e *endpoint, rw http.ResponseWriter, req *http.Request) {
	if isSpeculative(req) {
		sendNoContent(rw)
		return
	}
	if !contains(e.methods, req.Method) {
		rw.Header().Set("Allow", strings.Join(e.methods, ", "))
		if e.name == "redirectUrl" && isAnswer(m.config, req) {
			refuseLogin(m, rw, req, http.StatusInternalServerError, errorf("%w: callback: the provider answered with a form; set responseMode to form_post", errMisconfigured), defaultPage(m.site, req))
			return
		}
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

// deny answers a request that is not let through.
func deny(h *handler, who *principal, rw http.ResponseWriter, req *http.Request, reason error) {
	m := h.middleware
	req.URL.User = nil // `GET http://name@host/` sets it
	if who != nil {
		req.URL.User = who.user // the access log also names users that the rule refuses
	}
	switch {
	case errors.Is(reason, errNoCredentials):
		unauthenticated(m, h.next, rw, req, reason)
	case errors.Is(reason, errCSRF):
		back := returnURL(m.site, req, req.Referer()) // loading that page brings a fresh token
		refuseWith(m, rw, req, newResponse("403 forged", action{text: "Load the page again", href: back}), reason)
	default:
		refuse(m, rw, req, statusOf(reason, http.StatusInternalServerError), reason)
	}
}
