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
	"sync/atomic"
	"time"
)

// This room turns options into ready values, and keeps what must outlive a reload. Traefik calls New once per router and again for
// each router at every change of any configuration. So gates are found by name and configuration, clients by issuer, client and
// connection, in registries that are the process's: package variables belong to the one interpreter of all routers.

// gate is all that one configuration of the middleware has and does. It is shared by its routers and does not change.
type middleware struct {
	name, shortName   string // login@file, login
	log               *logger
	config            *Config
	client            *client       // nil without sign-in
	*clientState                    // the same
	store             *store        // nil: sessions are in cookies
	localCopyLifetime time.Duration // that a session of the store is good for without a look into it: another replica may end it
	hasLogin          bool          // browsers are signed in here
	policy            *policy
	jwt               *tokenVerifier // nil without that job
	introspection     *tokenVerifier
	tokenVerifiers    []*tokenVerifier // those of both that there are
	clientCredentials *clientCredentials
	bypass            rule
	ipStrategy        *ipStrategy // how they are told apart by address
	pages             *pages
	csrf              *csrf
	endpoints         map[string]*endpoint // by path

	redirect, postLogin, postLogout location
	sessionCookie, stateCookie      cookie
	attemptsCookie                  cookie // says that a sign-in was completed a moment ago
	loginsInFlight                  inFlight
	completedLogins                 *boundedCache // state (hashed) → *session, of the last sign-ins
	sessionSealer, stateSealer      *sealer
	ownCookies                      *regexp.Regexp  // to take out of requests
	managedHeaders                  map[string]bool // folded names of the headers we set or read
	credentialHeaders               map[string]bool // headers that bring tokens: ours to read, though a pass may set them
	overwrittenHeaders              []string        // those that a pass does set
	upgrades                        map[string]string

	registryKey string // by which it is registered

	// The memory of warm.go, whose lock guards it.
	credentialHeader    string                           // whose line says who sends a request, "" for none
	credentialPrefix    string                           // that name, and a colon
	sessionCookiePrefix string                           // with sign-in: how the session's cookie begins after another
	cookieNameStem      string                           // with which the names of all our cookies begin
	endpointPaths       map[string]bool                  // of the endpoints
	byHeaderLine        map[string]*principal            // by the warm header's line
	hosts               map[string]map[string]*principal // that those lines came to: lines, under each
	bySessionCookie     map[string]*principal            // by the value of the session's cookie, where the rest of the line changes
	safeHeaders         map[string]bool                  // replaced as a whole, never changed
	initialSafeHeaders  map[string]bool                  // what it was at first
	relearnedAt         time.Time                        // when it was that for the last time

	endedSessions map[string]*endedSessions // sessions that ended, by why
}

// registry finds what is shared. An entry that no configuration has asked for is dropped after a while: at least the span of
// a reload, in which contexts end before their successors come.
type registry struct {
	mu        sync.Mutex
	entries   map[string]*registryEntry
	idleLimit time.Duration
	lastSweep time.Time // when all were looked at
}

type registryEntry struct {
	value     any
	ctx       context.Context // of the last configuration that asked
	idleSince time.Time       // when that context was first seen to have ended
}

var (
	middlewares = registry{entries: map[string]*registryEntry{}, idleLimit: 10 * time.Minute}
	sharedParts = registry{entries: map[string]*registryEntry{}, idleLimit: 24 * time.Hour} // and stores, and ledgers, which hold the logout list
)

const sweepInterval = time.Minute // each look at all entries: a look-up costs the same however many there are

// sweep drops the entries that no configuration has asked for in a while. The caller holds the lock.
func sweep(r *registry, now time.Time) {
	for key, entry := range r.entries {
		if entry.ctx.Err() == nil {
			continue
		}
		if entry.idleSince.IsZero() {
			entry.idleSince = now
		} else if now.Sub(entry.idleSince) > r.idleLimit {
			delete(r.entries, key)
		}
	}
}

// register returns what r has under key. When there is nothing, that is made from now on, if it is not nil: of two New at the same time
// the first one's.
func loadOrStore(ctx context.Context, r *registry, key string, made any) any {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.lastSweep) > sweepInterval {
		r.lastSweep = now
		sweep(r, now)
	}
	entry := r.entries[key]
	if entry == nil {
		if made == nil {
			return nil
		}
		entry = &registryEntry{value: made}
		r.entries[key] = entry
	}
	entry.ctx = ctx
	entry.idleSince = time.Time{}
	return entry.value
}

// optionsKey is a name for what has these options.
func optionsKey(options ...any) string {
	text, _ := json.Marshal(options)
	return hashText(string(text))
}

// namedFilePaths finds the paths of files in the JSON of the options: in a reference, in jwksFile, and in errorPages as a block and as text.
var namedFilePaths = regexp.MustCompile(`(?i)\$\{file:((?:[^}"\\]|\\.)+)\}|"(?:jwksFile|[45]\d\d)":"((?:[^"\\]|\\.)+)"|[45]\d\d *= *([^," ]+)`)

// findMiddleware returns the gate of a middleware's options.
func findMiddleware(ctx context.Context, raw map[string]any, name string) (*middleware, error) {
	text, err := json.Marshal(raw) // keys come out sorted
	if err != nil {
		return nil, fmt.Errorf("%s: the options cannot be read: %w", name, err)
	}
	key := name + " " + string(text)
	for _, match := range namedFilePaths.FindAllStringSubmatch(key, -1) {
		var path string
		_ = json.Unmarshal([]byte(`"`+strings.Join(match[1:], "")+`"`), &path) // JSON writes & as \u0026
		if file, err := os.Stat(os.ExpandEnv(path)); err == nil {              // a changed file is a changed configuration
			key += fmt.Sprint(" ", file.ModTime().UnixNano(), file.Size())
		}
	}
	key = hashText(key)
	known := loadOrStore(ctx, &middlewares, key, nil)
	if known == nil {
		made, err := newMiddleware(ctx, text, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		made.registryKey = key
		known = loadOrStore(ctx, &middlewares, key, made)
	}
	m, _ := known.(*middleware)
	return m, nil
}

// newMiddleware reads the options and makes everything that can be made before the first request.
func newMiddleware(ctx context.Context, options []byte, name string) (*middleware, error) {
	p := &problems{}
	c := readConfig(options, p)
	m := &middleware{name: name, log: newLogger(name, c.LogLevel), config: c, hasLogin: c.Issuer != "", endpoints: map[string]*endpoint{},
		managedHeaders: map[string]bool{}, credentialHeaders: map[string]bool{}, completedLogins: newBoundedCache(1 << 20)}
	m.shortName, _, _ = strings.Cut(name, "@")
	if !contains(c.Scopes, "openid") { // OIDC Core 3.1.2.1
		c.Scopes = append([]string{"openid"}, c.Scopes...)
	}
	var err error
	m.bypass, err = parseBypass(c.Bypass)
	p.addError("bypass", err)
	m.ipStrategy = setStrategy(m.bypass, &c.IPStrategy, p)
	m.policy = newPolicy(&c.PolicyConfig, "", p)
	addManagedHeaders(m, m.policy)
	m.upgrades = allowedUpgrades(c.Upgrades)
	for _, name := range append([]string{"HTTP2-Settings"}, c.RemoveHeaders...) { // RFC 7540 3.2.1: of an upgrade that is never allowed
		m.managedHeaders[foldName(name)] = true
	}
	m.pages = newPages(c.ErrorPages, p)
	buildCookies(m)
	if m.hasLogin {
		buildEndpoints(m, p)
	}
	buildJobs(ctx, m, p)
	if err := p.err(); err != nil {
		return nil, err
	}
	buildPrincipalCache(m)
	principalsLock.Lock()
	if c.Memory<<20 > principalsCapacity {
		principalsCapacity = c.Memory << 20
	}
	principalsLock.Unlock()
	logWarnings(m, p.set)
	return m, nil
}

// buildJobs makes what talks to providers, one after the other: sign-in, tokens that are brought, tokens for the upstream.
func buildJobs(ctx context.Context, m *middleware, p *problems) {
	if m.hasLogin {
		shared := buildSealers(m)
		m.clientState = findClientState(ctx, shared)
		m.sessionSealer.newKeyFrom = &m.clientState.newKeyFrom
		m.stateSealer.newKeyFrom = &m.clientState.newKeyFrom
		m.client = findClient(ctx, m.log, m.config, nil, "clientConfig", p)
		m.store = findStore(ctx, m, shared, p)
		m.revoked.mu.Lock()
		if m.store == nil && m.config.Session.Expiry > m.maxExpiry {
			m.maxExpiry = m.config.Session.Expiry
		}
		m.revoked.mu.Unlock()
		m.localCopyLifetime = time.Duration(m.config.Session.Store.CacheSeconds) * time.Second
	}
	m.jwt = newJWTVerifier(ctx, m, p)
	m.introspection = newIntrospectionVerifier(ctx, m, p)
	m.clientCredentials = newClientCredentials(ctx, m, p)
	for _, job := range m.tokenVerifiers {
		if job.metadataPath != "" {
			m.endpoints[job.metadataPath] = &endpoint{name: "resource", methods: strings.Fields("GET HEAD OPTIONS")}
		}
	}
	for name := range m.credentialHeaders {
		if m.managedHeaders[foldName(name)] {
			m.overwrittenHeaders = append(m.overwrittenHeaders, name)
		}
		m.managedHeaders[foldName(name)] = true // or X_Token went on unread beside the X-Token that was judged
	}
}

// warn logs what works but should be known.
func logWarnings(m *middleware, set map[string]string) {
	for i, kind := range []string{"notice", "warning"} {
		found := &problems{}
		checkRules(kind, &option{p: found}, "", set)
		for _, line := range found.list {
			logf(m.log, levelInfo+i, "%s", line)
		}
	}
}

var sameSites = map[string]http.SameSite{"lax": http.SameSiteLaxMode, "strict": http.SameSiteStrictMode, "none": http.SameSiteNoneMode}

// newCookie makes one of our cookies. A default name may get a prefix; one that the operator chose stays as it is. The middleware's name
// is escaped: it may have letters and spaces that browsers take in no cookie's name (RFC 6265 4.1.1).
func newCookie(m *middleware, name, byDefault string, c *CookieConfig) cookie {
	return cookie{baseName: strings.ReplaceAll(name, "%s", url.QueryEscape(m.shortName)), isDefaultName: name == byDefault, path: c.Path, domain: c.Domain,
		sameSite: sameSites[c.SameSite], httpOnly: c.HTTPOnly, secure: c.Secure, isPartitioned: m.config.Session.Partitioned}
}

// buildCookies says what goes to the browser.
func buildCookies(m *middleware) {
	c := m.config
	always := true
	if c.ResponseMode == "form_post" || c.Session.Partitioned { // the answer is a POST from another site, or in a frame: only such a cookie comes along
		c.StateCookie.SameSite = "none"
		c.StateCookie.Secure = &always
	}
	if c.Session.Partitioned {
		c.Session.SameSite = "none"
		c.Session.Secure = &always
	}
	m.sessionCookie = newCookie(m, c.Session.Name, "%s-session", &c.Session.CookieConfig)
	m.stateCookie = newCookie(m, c.StateCookie.Name, "%s-state", &c.StateCookie.CookieConfig)
	m.attemptsCookie = m.stateCookie
	m.attemptsCookie.path = "/" // where pages are
	m.ownCookies = ownCookiePattern(&m.sessionCookie, &m.stateCookie)
	if c.CSRF == nil {
		return
	}
	csrfCookie := c.Session.CookieConfig
	csrfCookie.Path = "/"
	csrfCookie.HTTPOnly = false // scripts must repeat it
	if c.CSRF.Secure != nil {
		csrfCookie.Secure = c.CSRF.Secure
	}
	made := newCookie(m, c.CSRF.CookieName, "", &csrfCookie)
	m.csrf = &csrf{header: c.CSRF.HeaderName, cookie: made, linePrefix: " " + made.baseName + "="}
}

// buildEndpoints lists our own addresses, each of which has one meaning, with the methods they take.
func buildEndpoints(m *middleware, p *problems) {
	for _, row := range strings.Fields("redirectUrl=GET,HEAD loginUrl=GET,POST logoutUrl=GET,POST backchannelLogoutUrl=POST frontchannelLogoutUrl=GET") {
		name, methods, _ := strings.Cut(row, "=")
		at, err := parseLocation(p.set[name])
		if err != nil {
			continue // not set, or reported
		}
		if other := m.endpoints[at.path]; other != nil {
			p.add(name, "must not have the path of %s, got %q; write another path", other.name, at.path)
		}
		// RFC 6265 5.1.4: elsewhere browsers do not send the session, and a sign-out would leave it as it is.
		if path := m.config.Session.Path; name == "logoutUrl" && !strings.HasPrefix(at.path+"/", strings.TrimSuffix(path, "/")+"/") {
			p.add(name, "must be within session.path, %q, got %q; the browser does not send the session elsewhere", path, at.path)
		}
		if name == "redirectUrl" && m.config.ResponseMode == "form_post" {
			methods = "GET,HEAD,POST"
		}
		// RFC 6265 5.3, step 6: the browser would drop a cookie that is set there.
		sets := name == "redirectUrl" || name == "loginUrl" || name == "logoutUrl"
		if domain := m.config.Session.Domain; sets && domain != "" && at.host != "" && !domainMatches(at.host, domain) {
			p.add("session.domain", "must cover the host of %s, %q, got %q; write a domain that both the pages and that host are in", name, at.host, domain)
		}
		m.endpoints[at.path] = &endpoint{location: at, name: name, methods: strings.Split(methods, ",")}
	}
	m.redirect, _ = parseLocation(m.config.RedirectURL)
	m.postLogin, _ = parseLocation(m.config.PostLoginRedirectURL)
	m.postLogout, _ = parseLocation(m.config.PostLogoutRedirectURL)
	checkLanding(m, "postLoginRedirectUrl", &m.postLogin, p)
	checkLanding(m, "postLogoutRedirectUrl", &m.postLogout, p)
}

// checkLanding refuses an address of ours as the page where a sign-in or sign-out ends: people would go round. A sign-out may end with
// another sign-in.
func checkLanding(m *middleware, name string, at *location, p *problems) {
	own := endpointAt(m, at)
	if own == nil || at.host != "" && at.host != own.location.host && at.host != m.redirect.host || name == "postLogoutRedirectUrl" && own.name == "loginUrl" {
		return
	}
	p.add(name, "must not be %s, which is no page to end at; write another page, such as \"/\"", own.name)
}

// endpointAt is the endpoint at an address, whatever its query.
func endpointAt(m *middleware, at *location) *endpoint {
	path, _, _ := strings.Cut(at.path, "?")
	return m.endpoints[path]
}

// buildSealers derives the keys. Without a secret of its own a session is sealed with the client's, so that configurations of
// Traefik Hub start as they are and all replicas have the same key. It returns a name of each secret, by which middlewares that know it
// find what they share: issuer and client anybody can write down, beside a provider of his own.
func buildSealers(m *middleware) []string {
	var shared []string
	c := m.config
	secret := c.Session.Secret
	if secret == "" {
		secret = c.ClientSecret
	}
	secrets := append([]string{secret}, c.Session.PreviousSecrets...)
	purpose := "session"
	if c.Session.Store.Redis != nil {
		purpose = "ticket"
	}
	m.sessionSealer = newSealer(secrets, c.Issuer, c.ClientID, purpose)
	m.stateSealer = newSealer(secrets, c.Issuer, c.ClientID, "state")
	for _, secret := range secrets {
		if m.csrf != nil {
			m.csrf.keys = append(m.csrf.keys, deriveKey(secret, c.Issuer+"\x00"+c.ClientID+"\x00csrf"))
		}
		shared = append(shared, hashText(string(deriveKey(secret, c.Issuer+"\x00"+c.ClientID+"\x00shared"))))
	}
	return shared
}

// findClientState returns the ledger of the first of these names that has one. The others have the same from now on: who replaces a secret
// names the old one beside it.
func findClientState(ctx context.Context, shared []string) *clientState {
	var known any
	for _, name := range shared {
		if known == nil {
			known = loadOrStore(ctx, &sharedParts, "ledger "+name, nil)
		}
	}
	if known == nil {
		made := newClientState()
		if len(shared) > 1 { // else this Traefik has just learnt the new secret, as all do
			made.newKeyFrom = time.Now().Add(keyHandover).Unix()
		}
		known = made
	}
	for _, name := range shared {
		loadOrStore(ctx, &sharedParts, "ledger "+name, known)
	}
	found, _ := known.(*clientState)
	return found
}

// findClient returns the client for the provider that c describes: the same one for all who talk to it in the same way.
// It is nil when there are problems, which are added to p; at is the path of the connection's options.
// headers go with the requests for its documents.
func findClient(ctx context.Context, l *logger, c *Config, headers map[string]string, at string, p *problems) *client {
	signsIn := at == "clientConfig"
	key := optionsKey(c.ProviderConfig, headers, signsIn)
	known := loadOrStore(ctx, &sharedParts, key, nil)
	if known == nil {
		before := p.count
		made := newClient(l, c, at, p)
		if p.count > before {
			return nil
		}
		made.headers = headers
		made.hasLogin = signsIn
		known = loadOrStore(ctx, &sharedParts, key, made)
	}
	found, _ := known.(*client)
	return found
}

func newClientState() *clientState {
	return &clientState{refreshed: newBoundedCache(8 << 20), usedStates: newBoundedCache(2 << 20), revoked: newBoundedCache(12 << 20), frontchannelLogouts: newBoundedCache(2 << 20),
		usedLogoutTokens: newBoundedCache(2 << 20)}
}

// findStore returns the store of the gate's sessions: one for all gates with the same one.
func findStore(ctx context.Context, m *middleware, shared []string, p *problems) *store {
	at, c := &m.config.Session.Store, m.config
	if at.Redis == nil {
		return nil
	}
	key := optionsKey(at.Redis, at.KeyPrefix, shared, c.ClientConfig.TimeoutSeconds)
	known := loadOrStore(ctx, &sharedParts, key, nil)
	if known == nil {
		made, err := newStore(at.Redis, at.KeyPrefix, shared, c.ClientConfig.TimeoutSeconds)
		if err != nil {
			p.addError("session.store.redis", err)
			return nil
		}
		made.log = m.log
		made.redis.maintain = func(isLost bool) error { return replayChanges(made, isLost) }
		made.redis.mayHaveLostWrites = true // nothing is known of it yet
		known = loadOrStore(ctx, &sharedParts, key, made)
	}
	found, _ := known.(*store)
	found.mu.Lock()
	defer found.mu.Unlock()
	found.syncLogouts = func(ctx context.Context, told []string) (int64, error) { return syncLogouts(ctx, m, told) }
	if life := time.Duration(c.Session.Expiry) * time.Second; life > found.logoutLifetime {
		found.logoutLifetime = life
	}
	return found
}

// minHMACKeyBytes are the least numbers of bytes in a key (RFC 7518 3.2).
var minHMACKeyBytes = map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}

// newClient makes the client that c describes, and notes what is wrong with it.
func newClient(l *logger, c *Config, at string, p *problems) *client {
	made := &client{log: l, issuer: c.Issuer, id: c.ClientID, secret: c.ClientSecret, authMethod: c.ClientAuthMethod, pinnedAlg: c.IDTokenSigningAlg,
		endpoints: c.Endpoints, retries: c.ClientConfig.MaxRetries, discoveryURL: discoveryURL(c),
		answerCache: newBoundedCache(8 << 20)}
	var err error
	made.exchangeTimeout = time.Duration(c.ExchangeTimeoutSeconds) * time.Second
	made.http, err = newHTTPClient(&c.ClientConfig)
	p.addError(at, err)
	if c.ClientKey != "" {
		made.signerAlg = c.ClientKeyAlg
		block := strings.TrimSuffix(strings.TrimPrefix(at, "oAuthIntrospection."), "clientConfig")
		made.signer, err = parsePrivateKeyPEM(c.ClientKey, c.ClientKeyAlg)
		p.addError(block+"clientKey", err)
		if err == nil {
			made.signerHeader, err = keyNames(c.ClientKeyID, c.ClientCertificate, made.signer)
			p.addError(block+"clientCertificate", err)
		}
	}
	if made.authMethod == "" && c.ClientKey+c.ClientSecret == "" && c.ClientConfig.TLS.Cert != "" {
		made.authMethod = "tls_client_auth"
	}
	made.mutualTLS = made.authMethod == "tls_client_auth" || made.signer != nil && c.ClientConfig.TLS.Cert != ""
	made.rules = &tokenRules{issuers: []string{c.Issuer}, providerIssuer: &atomic.Value{}, audience: []string{c.ClientID}, trustedAudiences: c.TrustedAudiences, skew: int64(c.ClockSkewSeconds)}
	if c.TrustedIssuer != "" {
		made.rules.issuers = append(made.rules.issuers, c.TrustedIssuer)
	}
	if c.DisableIssuerCheck {
		made.rules.issuers = nil
	}
	made.metadata = &cachedDocument{log: l, fetch: func(ctx context.Context) (any, error) { return fetchMetadata(ctx, made) }}
	if alg := c.IDTokenSigningAlg; minHMACKeyBytes[alg] > 0 { // the client's secret is the key (OIDC Core 16.19)
		secret, err := newSecretKey([]byte(c.ClientSecret), []string{alg})
		p.must(err == nil, "idTokenSigningAlg", "%s needs a clientSecret of %d bytes at least; let the provider sign with RS256 or ES256", alg, minHMACKeyBytes[alg])
		made.keys = newFixedKeySet(secret)
		return made
	}
	made.keys = &cachedDocument{log: l, fetch: func(ctx context.Context) (any, error) { return fetchKeys(ctx, made) }}
	return made
}

// discoveryURL is where the provider's metadata is (OpenID Connect Discovery 4.1: the issuer without a final slash, and the well-known
// path), "" when every endpoint that sign-in needs is configured.
func discoveryURL(c *Config) string {
	e := &c.Endpoints
	at := e.Discovery
	if at == "" && c.Issuer != "" && (e.Authorization == "" || e.Token == "" || e.JWKS == "") {
		at = strings.TrimSuffix(c.Issuer, "/") + "/.well-known/openid-configuration"
	}
	if at == "" || len(c.DiscoveryParams) == 0 {
		return at
	}
	form := url.Values{}
	for name, value := range c.DiscoveryParams {
		form.Set(name, value)
	}
	return withQuery(at, form)
}

// issuerOf is the name of the provider.
func issuerOf(c *client) string {
	if names := issuersOf(c.rules); len(names) > 0 {
		return names[0]
	}
	return c.issuer
}

// isIssuer says that a name is the provider's, byte for byte, in the spelling of its metadata.
func isIssuer(ctx context.Context, c *client, name string) bool {
	_, _ = discover(ctx, c) // without it the configured spelling counts
	return name == issuerOf(c)
}

// acceptsIssuer says whether tokens and metadata may carry this issuer.
func acceptsIssuer(c *client, issuer string) bool {
	return c.rules.issuers == nil || contains(c.rules.issuers, issuer)
}
