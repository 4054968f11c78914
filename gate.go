package oidc

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// This room turns options into ready values, and keeps what must outlive a reload. Traefik calls New once per router and again for
// each router at every change of any configuration. So gates are found by name and configuration, clients by issuer, client and
// connection, in registries that are the process's: package variables belong to the one interpreter of all routers.

// gate is all that one configuration of the middleware has and does. It is shared by its routers and does not change.
type gate struct {
	name, shortName string // login@file, login
	log             *logger
	config          *Config
	client          *client // nil without sign-in
	store           *store  // nil: sessions are in cookies
	login           bool    // browsers are signed in here
	policy          *policy
	jwt             *tokenJob // nil without that job
	introspection   *tokenJob
	tokenJobs       []*tokenJob // those of both that there are
	gateway         *gateway
	bypass          rule
	pages           *pages
	csrf            *csrf
	endpoints       map[string]*endpoint // by path

	redirect, postLogin, postLogout location
	sessionCookie, stateCookie      cookie
	sessionSealer, stateSealer      *sealer
	ownCookies                      *regexp.Regexp  // to take out of requests
	managed                         map[string]bool // folded names of the headers we set
	namesUser                       bool            // usernameClaim: req.URL.User is ours to set
	credentials                     map[string]bool // headers that bring tokens: ours to read, though a pass may set them

	passes *memory // credential → *pass

	// The memory of warm.go, whose lock guards it.
	warmHeader string           // whose line says who sends a request, "" for none
	mark       string           // with sign-in: how the session's cookie begins among others
	ownStem    string           // with which the names of all our cookies begin
	ownPaths   map[string]bool  // of the endpoints
	lines      map[string]*pass // by the warm header's line; with a space in front, by the session's cookie
	harmless   map[string]bool  // replaced as a whole, never changed
	complained time.Time        // of an outage
}

// registry finds what is shared. An entry that no configuration has asked for is dropped after a while: at least the span of
// a reload, in which contexts end before their successors come.
type registry struct {
	mu       sync.Mutex
	entries  map[string]*registered
	patience time.Duration
}

type registered struct {
	value     interface{}
	ctx       context.Context // of the last configuration that asked
	idleSince time.Time       // when that context was first seen to have ended
}

var (
	stores  = registry{entries: map[string]*registered{}, patience: time.Hour}
	gates   = registry{entries: map[string]*registered{}, patience: 10 * time.Minute}
	clients = registry{entries: map[string]*registered{}, patience: 24 * time.Hour} // they hold the logout list
)

// register returns the value under key, made by build when it is not there.
func register(ctx context.Context, r *registry, key string, build func() (interface{}, error)) (interface{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sweep(r, time.Now())
	if entry := r.entries[key]; entry != nil {
		entry.ctx = ctx
		entry.idleSince = time.Time{}
		return entry.value, nil
	}
	value, err := build()
	if err != nil {
		return nil, err
	}
	r.entries[key] = &registered{value: value, ctx: ctx}
	return value, nil
}

// sweep drops what no configuration uses any more.
func sweep(r *registry, now time.Time) {
	for key, entry := range r.entries {
		if entry.ctx.Err() == nil {
			continue
		}
		if entry.idleSince.IsZero() {
			entry.idleSince = now
		} else if now.Sub(entry.idleSince) > r.patience {
			delete(r.entries, key)
		}
	}
}

// namedFiles finds what may be the path of a file in the JSON of the options.
var namedFiles = regexp.MustCompile(`(?:"|\$\{file:)(/[^"}]+)`)

// findGate returns the gate of a middleware's options.
func findGate(ctx context.Context, raw map[string]interface{}, name string) (*gate, error) {
	text, err := json.Marshal(raw) // keys come out sorted
	if err != nil {
		return nil, fmt.Errorf("%s: the options cannot be read: %w", name, err)
	}
	key := name + " " + string(text)
	for _, match := range namedFiles.FindAllStringSubmatch(key, -1) {
		if file, err := os.Stat(match[1]); err == nil { // a changed file is a changed configuration
			key += fmt.Sprint(" ", file.ModTime().UnixNano(), file.Size())
		}
	}
	value, err := register(ctx, &gates, hashText(key), func() (interface{}, error) {
		g, err := newGate(ctx, raw, name)
		return g, err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	g, _ := value.(*gate)
	return g, nil
}

// newGate reads the options and makes everything that can be made before the first request.
func newGate(ctx context.Context, raw map[string]interface{}, name string) (*gate, error) {
	p := &problems{}
	c := readConfig(raw, p)
	g := &gate{name: name, log: newLogger(name, c.LogLevel), config: c, managed: map[string]bool{}, credentials: map[string]bool{}, passes: newMemory(4096)}
	g.shortName, _, _ = strings.Cut(name, "@")
	if !has(c.Scopes, "openid") { // OIDC Core 3.1.2.1
		c.Scopes = append([]string{"openid"}, c.Scopes...)
	}
	g.login = c.Issuer != ""
	var err error
	if g.bypass, err = parseBypass(c.Bypass); err != nil {
		p.add("bypass", "%s", err)
	}
	g.policy = newPolicy(c.Claims, c.UsernameClaim, c.ForwardHeaders, "", p)
	manage(g, g.policy)
	g.pages = newPages(c.ErrorPages, p)
	buildCookies(g)
	if len(p.list) == 0 {
		buildJobs(ctx, g, p)
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	buildEndpoints(g)
	buildWarmPath(g)
	warn(g)
	return g, nil
}

// buildJobs makes what talks to providers, one after the other: sign-in, tokens that are brought, tokens for the upstream.
func buildJobs(ctx context.Context, g *gate, p *problems) {
	if g.login {
		buildSealers(g)
		if g.client = findClient(ctx, g.log, g.config, "clientConfig", p); g.client == nil {
			return
		}
		g.store = findStore(ctx, g, p)
	}
	g.jwt = newJWTJob(ctx, g, p)
	g.introspection = newIntrospectionJob(ctx, g, p)
	g.gateway = newGateway(ctx, g, p)
}

// warn says what works but should be known.
func warn(g *gate) {
	c := g.config
	if strings.HasPrefix(c.Issuer, "http:") {
		logf(g.log, levelWarn, "issuer: %q is plain http: whoever is on the way can sign in as anybody; use https but for a trial", c.Issuer)
	}
	if c.ClientConfig.TLS.InsecureSkipVerify {
		logf(g.log, levelWarn, "clientConfig.tls.insecureSkipVerify: anybody on the way can be the provider; give its CA in clientConfig.tls.ca instead")
	}
	if c.Session.Domain != "" {
		logf(g.log, levelInfo, "session.domain: every host below %q gets the session's cookie and can replace it", c.Session.Domain)
	}
	if c.BackchannelLogoutURL != "" && g.store == nil {
		then := ""
		if c.Session.Sliding && c.Session.MaxLifetime == 0 {
			then = ", after which a copied cookie may be renewed for ever (set session.maxLifetime)"
		}
		logf(g.log, levelWarn, "backchannelLogoutUrl: sessions are in cookies, so only this Traefik learns of a logout, until it restarts%s; several replicas need session.store.redis", then)
	}
}

var sameSites = map[string]http.SameSite{"lax": http.SameSiteLaxMode, "strict": http.SameSiteStrictMode, "none": http.SameSiteNoneMode}

// buildCookies names the cookies. A default name may get a prefix; one that the operator chose stays as it is.
func buildCookies(g *gate) {
	s := &g.config.Session
	t := &g.config.StateCookie
	g.sessionCookie = cookie{base: strings.ReplaceAll(s.Name, "%s", g.shortName), isOwn: s.Name == "%s-session", path: s.Path, domain: s.Domain,
		sameSite: sameSites[strings.ToLower(s.SameSite)], httpOnly: s.HTTPOnly, secure: s.Secure}
	g.stateCookie = cookie{base: strings.ReplaceAll(t.Name, "%s", g.shortName), isOwn: t.Name == "%s-state", path: t.Path, domain: t.Domain,
		sameSite: sameSites[strings.ToLower(t.SameSite)], httpOnly: t.HTTPOnly, secure: t.Secure}
	if g.config.ResponseMode == "form_post" { // the answer is a POST from another site: only such a cookie comes along
		always := true
		g.stateCookie.sameSite = http.SameSiteNoneMode
		g.stateCookie.secure = &always
	}
	g.ownCookies = ownCookies(&g.sessionCookie, &g.stateCookie)
}

// buildEndpoints lists our own addresses.
func buildEndpoints(g *gate) {
	g.endpoints = map[string]*endpoint{}
	for _, job := range g.tokenJobs {
		if job.metadataPath != "" {
			g.endpoints[job.metadataPath] = &endpoint{name: "resource", methods: []string{http.MethodGet, http.MethodHead, http.MethodOptions}}
		}
	}
	if !g.login {
		return
	}
	c := g.config
	g.redirect, _ = parseLocation(c.RedirectURL) // readConfig has reported what cannot be read
	g.postLogin, _ = parseLocation(c.PostLoginRedirectURL)
	g.postLogout, _ = parseLocation(c.PostLogoutRedirectURL)
	answers := []string{http.MethodGet, http.MethodHead}
	if c.ResponseMode == "form_post" {
		answers = []string{http.MethodGet, http.MethodHead, http.MethodPost}
	}
	addEndpoint(g, "callback", c.RedirectURL, answers)
	addEndpoint(g, "login", c.LoginURL, []string{http.MethodGet, http.MethodPost})
	addEndpoint(g, "logout", c.LogoutURL, []string{http.MethodGet, http.MethodPost})
	addEndpoint(g, "back-channel logout", c.BackchannelLogoutURL, []string{http.MethodPost})
	addEndpoint(g, "front-channel logout", c.FrontchannelLogoutURL, []string{http.MethodGet})
}

func addEndpoint(g *gate, name, option string, methods []string) {
	if option == "" {
		return
	}
	at, _ := parseLocation(option)
	g.endpoints[at.path] = &endpoint{at: at, name: name, methods: methods}
}

// buildSealers derives the keys. Without a secret of its own a session is sealed with the client's, so that configurations of
// Traefik Hub start as they are and all replicas have the same key.
func buildSealers(g *gate) {
	c := g.config
	secret := c.Session.Secret
	if secret == "" {
		secret = c.ClientSecret
	}
	secrets := append([]string{secret}, c.Session.PreviousSecrets...)
	purpose := "session"
	if c.Session.Store.Redis != nil {
		purpose = "ticket"
	}
	g.sessionSealer = newSealer(secrets, c.Issuer, c.ClientID, purpose)
	g.stateSealer = newSealer(secrets, c.Issuer, c.ClientID, "state")
	if c.CSRF == nil {
		return
	}
	secure := c.CSRF.Secure
	if secure == nil {
		secure = c.Session.Secure
	}
	g.csrf = &csrf{header: c.CSRF.HeaderName, cookie: cookie{base: c.CSRF.CookieName, path: "/", domain: c.Session.Domain, sameSite: g.sessionCookie.sameSite, secure: secure}}
	for _, secret := range secrets {
		g.csrf.keys = append(g.csrf.keys, deriveKey(secret, c.Issuer+"\x00"+c.ClientID+"\x00csrf"))
	}
}

// findClient returns the client for the provider that c describes: the same one for all who talk to it in the same way.
// It is nil when there are problems, which are added to p; at is the path of the connection's options.
func findClient(ctx context.Context, l *logger, c *Config, at string, p *problems) *client {
	key, err := json.Marshal([]interface{}{c.Issuer, c.TrustedIssuer, c.DisableIssuerCheck, c.TrustedAudiences, c.DiscoveryParams, c.Endpoints, c.ClientID,
		c.ClientSecret, c.ClientAuthMethod, c.ClientKey, c.ClientKeyID, c.ClientKeyAlg, c.IDTokenSigningAlg, c.ClientConfig})
	if err != nil {
		p.add(at, "%s", err)
		return nil
	}
	value, err := register(ctx, &clients, hashText(string(key)), func() (interface{}, error) {
		made, err := newClient(l, c, at, p)
		return made, err
	})
	if err != nil {
		return nil // the problem is noted
	}
	found, _ := value.(*client)
	return found
}

// findStore returns the store of the gate's sessions: one for all gates with the same one.
func findStore(ctx context.Context, g *gate, p *problems) *store {
	at := &g.config.Session.Store
	if at.Redis == nil {
		return nil
	}
	key, _ := json.Marshal([]interface{}{at.Redis, at.KeyPrefix, g.config.Issuer, g.config.ClientID})
	value, err := register(ctx, &stores, hashText(string(key)), func() (interface{}, error) {
		made, err := newStore(at.Redis, at.KeyPrefix, g.config.Issuer, g.config.ClientID)
		return made, err
	})
	p.addError("session.store.redis", err)
	found, _ := value.(*store)
	return found
}

// newClient makes the client that c describes.
func newClient(l *logger, c *Config, at string, p *problems) (*client, error) {
	made := &client{log: l, issuer: c.Issuer, id: c.ClientID, secret: c.ClientSecret, authMethod: c.ClientAuthMethod, pinnedAlg: c.IDTokenSigningAlg, pkce: c.PKCE,
		overrides: c.Endpoints, retries: c.ClientConfig.MaxRetries,
		answers: newMemory(4096), refreshed: newMemory(2048), usedStates: newMemory(4096), revoked: newMemory(50000), framed: newMemory(10000), seen: newMemory(10000), logoutIDs: newMemory(10000), replica: randomText()}
	var err error
	if made.http, err = newHTTPClient(&c.ClientConfig); err != nil {
		p.add(at, "%s", err)
	}
	if c.ClientKey != "" {
		made.signerAlg = c.ClientKeyAlg
		made.signerKeyID = c.ClientKeyID
		if made.signer, err = parsePrivateKeyPEM(c.ClientKey, c.ClientKeyAlg); err != nil {
			p.add("clientKey", "%s", err)
		}
	}
	if made.authMethod == "" && made.signer == nil && c.ClientSecret == "" && c.ClientConfig.TLS.Cert != "" {
		made.authMethod = "tls_client_auth"
	}
	var shared []*key // with HS256 and its like the client's secret is the key
	if strings.HasPrefix(c.IDTokenSigningAlg, "HS") {
		one, err := newSecretKey([]byte(c.ClientSecret), []string{c.IDTokenSigningAlg})
		p.addError("clientSecret", err)
		shared = []*key{one}
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	made.discoveryURL = discoveryURL(c)
	made.rules = &tokenRules{issuers: []string{c.Issuer}, audience: []string{c.ClientID}, trustedAudiences: c.TrustedAudiences}
	if c.TrustedIssuer != "" {
		made.rules.issuers = append(made.rules.issuers, c.TrustedIssuer)
	}
	if c.DisableIssuerCheck {
		made.rules.issuers = nil
	}
	made.metadata = &document{log: l, fetch: func(ctx context.Context) (interface{}, error) { return fetchMetadata(ctx, made) }}
	if made.keys = newFixedKeySet(shared...); shared == nil {
		made.keys = &document{log: l, fetch: func(ctx context.Context) (interface{}, error) { return fetchKeys(ctx, made) }}
	}
	return made, nil
}

// discoveryURL is where the provider's metadata is (OpenID Connect Discovery 4.1: the issuer without a final slash, and the well-known
// path), "" when every endpoint that sign-in needs is configured.
func discoveryURL(c *Config) string {
	e := &c.Endpoints
	at := e.Discovery
	if at == "" {
		if c.Issuer == "" || e.Authorization != "" && e.Token != "" && e.JWKS != "" {
			return ""
		}
		at = strings.TrimSuffix(c.Issuer, "/") + "/.well-known/openid-configuration"
	}
	if len(c.DiscoveryParams) == 0 {
		return at
	}
	form := url.Values{}
	for name, value := range c.DiscoveryParams {
		form.Set(name, value)
	}
	return withQuery(at, form)
}

// acceptsIssuer says whether tokens and metadata may carry this issuer.
func acceptsIssuer(c *client, issuer string) bool {
	return c.rules.issuers == nil || has(c.rules.issuers, issuer)
}
