// Package oidc is a Traefik middleware plugin that signs people in with OpenID Connect, checks the tokens of APIs and obtains
// tokens for upstreams. Traefik interprets it with Yaegi; it needs nothing but Go's standard library.
//
// A request's way: ServeHTTP lets in whoever it has seen before. Everybody else goes through serve, which is the table of contents.
//
//	the front door   oidc.go, outcome.go, page.go     requests in; what an error means for the one who asked; our own answers
//	                 principal_cache.go               who was let in before: the memory behind ServeHTTP
//	                 request.go, site.go              what is read off a request; our own addresses
//	                 headers.go, bypass.go            what the upstream is told, and what a client may not claim; requests that need no sign-in
//	sign-in          login.go, pending_login.go       to the provider and back
//	                 login_loop.go                    nobody goes round in circles
//	                 logout.go, revocation.go         the four kinds of sign-out; which sessions were ended
//	sessions         session.go                       their life: opened, judged, refreshed, renewed, ended
//	                 session_cookie.go, cookie.go     kept at the browser
//	                 session_redis.go, store.go       kept in Redis, for more than one Traefik; redis.go is its protocol
//	                 seal.go, csrf.go                 encryption; forged requests
//	APIs             bearer.go, introspection.go      tokens that requests bring; resource.go describes the API to clients
//	                 client_credentials.go            tokens for the upstream
//	policies         claims.go, expression.go         the rule, claim lookup and header formats; the language of both kinds of rule
//	the provider     client.go, client_authentication.go, discovery.go, token_endpoint.go, userinfo.go, delayed.go
//	                 jwt.go, jwks.go                  its tokens and keys
//	options          config.go, rules.go              what they are, and what they must be
//	                 options.go, option_names.go      how they are read; what others call them
//	                 middleware.go, registry.go       what is made of them, and what outlives a reload
//	for all          cache.go, log.go, text.go
//
// Five things live for different lengths of time, and each has its type:
//
//	router           handler: made by New, again at each change of any configuration
//	configuration    middleware and its parts: shared by all routers with the same options; it does not change
//	connection       client, store: the provider as it is reached, its metadata and keys; Redis
//	issuer, client   clientState: sign-ins that were completed, refreshes, sign-outs; it survives changes of all other options
//	process          the registries, the principals and their lock, replicaID: package variables, as one interpreter runs all routers
package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// handler is one router's use of a middleware, which all routers with the same configuration share.
type handler struct {
	middleware *middleware
	next       http.Handler

	// Those of middleware.cache, for ServeHTTP: each selector less is one allocation less in every request.
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

// serveSlow serves the requests that are not, or no longer, in the cache.
func serveSlow(h *handler, rw http.ResponseWriter, req *http.Request) {
	if h.middleware.store != nil {
		revalidate(h, rw, req)
	} else {
		serve(h, rw, req)
	}
}

// checkedHandler looks at a request before it asks who sent it: some are open to all, some must repeat a CSRF token.
type checkedHandler struct{ inner *handler }

// ServeHTTP sends the requests that need more than a look at their credential through serve.
func (w *checkedHandler) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	m := w.inner.middleware
	if m.csrf != nil && (!isSafeMethod(req.Method) || lacksCSRFToken(m.csrf, req)) || m.bypass != nil && bypasses(m.bypass, req) {
		serve(w.inner, rw, req)
		return
	}
	w.inner.ServeHTTP(rw, req)
}

// serve serves everybody else. The order matters: what a client claims is taken off before anything is decided.
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
		err = checkCSRF(m.sessions, m.tokens, rw, req, who)
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

// forward hands the request on with the headers of its principal. rw goes as it came, so that streams and websockets work.
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

// endpoint is one of our own addresses.
type endpoint struct {
	location location
	name     string // the option that says where it is; a function of the middleware cannot stand here, as the interpreter loses such circles of types
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

// deny answers a request that is not let through.
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
