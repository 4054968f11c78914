package oidc

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// This room holds everything that is sent to the provider. Its house rules:
//   - every answer is capped in size and time, and no request follows a redirect (a code or a secret would go with it);
//   - a GET is repeated when it fails, a POST never is: it may have spent a code or a refresh token;
//   - no secret, code or token reaches an error or the log.

const (
	maxAnswer        = 1 << 20   // bytes of one answer of the provider
	metadataLifetime = time.Hour // how long a discovery document is used before it is read again
	retryPause       = 200 * time.Millisecond
)

// errRefused marks an answer by which the provider says a definite no to the grant that was sent:
// invalid_grant (RFC 6749 5.2). Everything else may be better the next time.
var errRefused = errors.New("refused by the provider")

// client is one registration at one provider. All middlewares with the same issuer, client and connection share it,
// across routers and reloads: what was learnt from the provider, what is under way, and who was logged out.
type client struct {
	log           *logger
	issuer, id    string
	secret        string
	authMethod    string // "" is by discovery
	signer        crypto.Signer
	signerAlg     string
	signerKeyID   string
	overrides     EndpointsConfig
	discoveryURL  string
	http          *http.Client
	retries       int
	rules         *tokenRules
	pinnedAlg     string // idTokenSigningAlg, "" is by discovery
	keys          *keySet
	flights       flights
	mu            sync.Mutex
	metadata      *metadata // last good discovery document
	metadataUntil time.Time
	metadataWait  backoff

	answers    *memory // of questions about tokens, and of requests for them (hashed) → *verdict, *upstreamToken
	refreshed  *memory // refresh token and when it was due (hashed) → *session it became
	refreshing *memory // the same → *backoff after a transient failure
	usedStates *memory // state (hashed) → where its sign-in ended
	revoked    *memory // "id:", "sid:" or "sub:" + name → time of the logout
	framed     *memory // the same of front-channel logouts: anybody can ask for those, and must not push the others out
	logoutIDs  *memory // jti of logout tokens seen
	replica    string  // tells this process from the others that use the same store
}

// metadata is what a provider says of itself (OpenID Connect Discovery 3, RFC 8414 2).
type metadata struct {
	issuer                     string
	authorization, token, jwks string
	userinfo, introspection    string
	revocation, endSession     string
	pushedAuthorization        string
	requirePushedAuthorization bool
	requireIssuerInResponse    bool // RFC 9207
	signingAlgs, authMethods   []string
}

// discover returns the provider's metadata: from memory while it is fresh, else by one request however many wait.
// When the provider is away the last good document goes on, and without one the error wraps errUnavailable.
func discover(ctx context.Context, c *client) (*metadata, error) {
	now := time.Now()
	c.mu.Lock()
	known, until, wait := c.metadata, c.metadataUntil, c.metadataWait
	c.mu.Unlock()
	if known != nil && now.Before(until) {
		return known, nil
	}
	if now.Before(wait.until) {
		if known != nil {
			return known, nil
		}
		return nil, wait.err
	}
	value, err := share(ctx, &c.flights, "discovery", func(ctx context.Context) (interface{}, error) {
		found, err := readMetadata(ctx, c)
		return found, err
	})
	if err == nil {
		return value.(*metadata), nil
	}
	if known != nil {
		return known, nil
	}
	return nil, err
}

// readMetadata fetches and checks the discovery document and notes the outcome.
func readMetadata(ctx context.Context, c *client) (*metadata, error) {
	c.mu.Lock()
	known, until := c.metadata, c.metadataUntil
	c.mu.Unlock()
	if known != nil && time.Now().Before(until) {
		return known, nil // somebody else's flight landed between our look and our turn
	}
	found, err := fetchMetadata(ctx, c)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		fail(&c.metadataWait, err, time.Now())
		logf(c.log, levelError, "%s", err)
		return nil, err
	}
	c.metadata = found
	c.metadataUntil = time.Now().Add(metadataLifetime)
	c.metadataWait = backoff{}
	return found, nil
}

func fetchMetadata(ctx context.Context, c *client) (*metadata, error) {
	m := &metadata{issuer: c.issuer}
	if c.discoveryURL != "" {
		body, err := get(ctx, c, "discovery", c.discoveryURL, "")
		if err != nil {
			return nil, err
		}
		document, err := parseObject(body)
		if err != nil {
			return nil, fmt.Errorf("%w: discovery: GET %s: %s; is the issuer right?", errUnavailable, c.discoveryURL, err)
		}
		if m, err = readDocument(c, document); err != nil {
			return nil, fmt.Errorf("%w: discovery: %s", errUnavailable, err)
		}
	}
	for _, o := range []struct {
		endpoint *string
		override string
	}{
		{&m.authorization, c.overrides.Authorization}, {&m.token, c.overrides.Token}, {&m.jwks, c.overrides.JWKS},
		{&m.userinfo, c.overrides.Userinfo}, {&m.introspection, c.overrides.Introspection},
		{&m.revocation, c.overrides.Revocation}, {&m.endSession, c.overrides.EndSession},
	} {
		if o.override != "" {
			*o.endpoint = o.override
		}
	}
	if m.authorization == "" && c.issuer != "" && c.id != "" {
		return nil, fmt.Errorf("%w: discovery: the provider names no authorization_endpoint; is it for sign-in? else set endpoints.authorization", errUnavailable)
	}
	return m, nil
}

// readDocument takes what we use from a discovery document and refuses one that is not this issuer's.
func readDocument(c *client, document map[string]interface{}) (*metadata, error) {
	m := &metadata{issuer: text(document["issuer"])}
	// OpenID Connect Discovery 4.3: identical, compared byte for byte; a stranger's document would give us a stranger's keys.
	if !acceptsIssuer(c, m.issuer) {
		return nil, fmt.Errorf("issuer: expected %q, got %q; set issuer to exactly what the provider calls itself, mind the final slash", c.issuer, m.issuer)
	}
	for name, field := range map[string]*string{
		"authorization_endpoint": &m.authorization, "token_endpoint": &m.token, "jwks_uri": &m.jwks,
		"userinfo_endpoint": &m.userinfo, "introspection_endpoint": &m.introspection,
		"revocation_endpoint": &m.revocation, "end_session_endpoint": &m.endSession,
		"pushed_authorization_request_endpoint": &m.pushedAuthorization,
	} {
		*field = text(document[name])
		if err := checkEndpoint(c, *field); err != nil {
			return nil, fmt.Errorf("%s: %s", name, err)
		}
	}
	for name, field := range map[string]*[]string{
		"id_token_signing_alg_values_supported": &m.signingAlgs, "token_endpoint_auth_methods_supported": &m.authMethods,
	} {
		*field = texts(document[name])
	}
	m.requirePushedAuthorization = document["require_pushed_authorization_requests"] == true
	m.requireIssuerInResponse = document["authorization_response_iss_parameter_supported"] == true
	return m, nil
}

// checkEndpoint refuses what is not a plain absolute URL, and plain http from an https issuer.
func checkEndpoint(c *client, endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || (u.Scheme != "https" && u.Scheme != "http") {
		return fmt.Errorf("must be an absolute https URL, got %q", endpoint)
	}
	if u.Scheme == "http" && strings.HasPrefix(c.issuer, "https:") {
		return fmt.Errorf("must be https like the issuer, got %q", endpoint)
	}
	return nil
}

// get fetches url and returns the body of its 200 answer. bearer, when not empty, is sent as the access token.
// Refused connections, broken answers, 429 and 5xx are tried again up to c.retries times.
func get(ctx context.Context, c *client, what, url, bearer string) ([]byte, error) {
	var err error
	for attempt := 0; attempt <= c.retries; attempt++ {
		if attempt > 0 {
			time.Sleep(retryPause * time.Duration(attempt))
		}
		var body []byte
		var again bool
		body, again, err = getOnce(ctx, c, what, url, bearer)
		if err == nil {
			return body, nil
		}
		if !again {
			break
		}
	}
	return nil, err
}

func getOnce(ctx context.Context, c *client, what, address, bearer string) (body []byte, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %s: GET %s: not a usable URL", errUnavailable, what, address)
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	status, body, err := send(c, req)
	if err != nil {
		var timeout net.Error
		slow := errors.As(err, &timeout) && timeout.Timeout() // a provider that hangs once more would hang the visitor too
		return nil, !slow && !errors.Is(err, errTooLarge), fmt.Errorf("%w: %s: GET %s: %s", errUnavailable, what, address, plain(err))
	}
	if status != http.StatusOK {
		again = status >= 500 || status == http.StatusTooManyRequests
		return nil, again, fmt.Errorf("%w: %s: GET %s: %d %s%s", errUnavailable, what, address, status, http.StatusText(status), statusHint(status))
	}
	return body, false, nil
}

func statusHint(status int) string {
	if status == http.StatusNotFound {
		return "; is the issuer right?"
	}
	if status >= 300 && status < 400 {
		return "; redirects are not followed, configure the final address"
	}
	return ""
}

var errTooLarge = errors.New("the answer is larger than 1 MiB")

// send does one exchange under the client's time limit and reads the capped body.
func send(c *client, req *http.Request) (status int, body []byte, err error) {
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, err
	}
	if len(body) > maxAnswer {
		return 0, nil, errTooLarge
	}
	return res.StatusCode, body, nil
}

// plain takes the URL off a transport error: ours says it already, and an authorization code never belongs in a log.
func plain(err error) string {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "no answer in time; clientConfig.timeoutSeconds is the limit"
	}
	return err.Error()
}

// tokens is the successful answer of a token endpoint (RFC 6749 5.1).
type tokens struct {
	accessToken, refreshToken, idToken string
	issuedTokenType                    string // RFC 8693 2.2.1
	expiresIn                          int64  // seconds; 0 when the provider did not say
}

// requestTokens sends one grant to the token endpoint, with the client's authentication.
// A definite no to the grant wraps errRefused, everything that may pass wraps errUnavailable.
func requestTokens(ctx context.Context, c *client, form url.Values) (*tokens, error) {
	m, err := discover(ctx, c)
	if err != nil {
		return nil, err
	}
	if m.token == "" {
		return nil, fmt.Errorf("%w: token endpoint: the provider names none; set endpoints.token", errUnavailable)
	}
	status, body, err := post(ctx, c, m, "token endpoint", m.token, form)
	if err != nil {
		return nil, err
	}
	return readTokens(c, status, body)
}

func readTokens(c *client, status int, body []byte) (*tokens, error) {
	answer, err := parseObject(body)
	if status != http.StatusOK {
		return nil, tokenError(c, status, answer)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: token endpoint: %s", errUnavailable, err)
	}
	t := &tokens{
		accessToken:     text(answer["access_token"]),
		refreshToken:    text(answer["refresh_token"]),
		idToken:         text(answer["id_token"]),
		issuedTokenType: text(answer["issued_token_type"]),
	}
	if t.accessToken == "" {
		return nil, fmt.Errorf("%w: token endpoint: the answer has no access_token", errUnavailable)
	}
	// RFC 6749 7.1: a type we do not understand must not be used.
	if kind := text(answer["token_type"]); !strings.EqualFold(kind, "Bearer") {
		return nil, fmt.Errorf("%w: token endpoint: token_type: expected \"Bearer\", got %q", errUnavailable, clip(kind))
	}
	if seconds, ok := answer["expires_in"].(json.Number); ok {
		if n, err := seconds.Int64(); err == nil && n > 0 && n < 1<<31 {
			t.expiresIn = n
		}
	}
	return t, nil
}

// tokenError words an error answer of the token endpoint (RFC 6749 5.2).
func tokenError(c *client, status int, answer map[string]interface{}) error {
	code := text(answer["error"])
	detail := clip(text(answer["error_description"]))
	if code == "invalid_grant" {
		return fmt.Errorf("%w: token endpoint: invalid_grant %q", errRefused, detail)
	}
	if status == http.StatusUnauthorized || code == "invalid_client" || code == "unauthorized_client" {
		err := fmt.Errorf("%w: token endpoint: %s %q; check clientId, clientSecret and clientAuthMethod", errUnavailable, clip(code), detail)
		logf(c.log, levelError, "%s", err)
		return err
	}
	return fmt.Errorf("%w: token endpoint: %d %s %q", errUnavailable, status, clip(code), detail)
}

// post sends form with the client's authentication, and never twice.
func post(ctx context.Context, c *client, m *metadata, what, address string, form url.Values) (status int, body []byte, err error) {
	return postWith(ctx, c, m, what, address, form, nil)
}

// postWith is post with headers of its own. An Authorization among them stands in for the client's authentication.
func postWith(ctx context.Context, c *client, m *metadata, what, address string, form url.Values, headers map[string]string) (status int, body []byte, err error) {
	authorization := headers["Authorization"]
	if authorization == "" {
		if authorization, err = authenticateClient(c, m, form); err != nil {
			return 0, nil, fmt.Errorf("%s: %w", what, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %s: %s is not a usable URL", errUnavailable, what, address)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	status, body, err = send(c, req)
	if err != nil {
		err = fmt.Errorf("%w: %s: POST %s: %s", errUnavailable, what, address, plain(err))
		logf(c.log, levelError, "%s", err)
	}
	return status, body, err
}

// authenticateClient adds the client's authentication to form, or returns it as an Authorization header (RFC 6749 2.3).
func authenticateClient(c *client, m *metadata, form url.Values) (authorization string, err error) {
	if c.id == "" {
		return "", nil // a client that has no name at this provider: only keys are read, or the caller's credentials used
	}
	method := c.authMethod
	if method == "" {
		method = chooseAuthMethod(c, m)
	}
	if method == "client_secret_basic" {
		return basicAuthorization(c.id, c.secret), nil
	}
	form.Set("client_id", c.id)
	if method == "client_secret_post" {
		form.Set("client_secret", c.secret)
	}
	if method == "private_key_jwt" {
		assertion, err := clientAssertion(c)
		if err != nil {
			return "", err
		}
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
	}
	return "", nil // "none" and "tls_client_auth" (RFC 8705 2.1) say only who they are
}

// basicAuthorization is client_secret_basic: both halves are form-encoded before they are joined (RFC 6749 2.3.1).
func basicAuthorization(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// chooseAuthMethod picks what the configuration has the means for and the provider lists.
func chooseAuthMethod(c *client, m *metadata) string {
	if c.signer != nil {
		return "private_key_jwt"
	}
	if c.secret == "" {
		return "none"
	}
	if len(m.authMethods) == 0 || has(m.authMethods, "client_secret_basic") {
		return "client_secret_basic" // also the default where nothing is listed: OpenID Connect Discovery 3
	}
	return "client_secret_post"
}

// clientAssertion makes the JWT of private_key_jwt (OIDC Core 9, RFC 7523 3).
func clientAssertion(c *client) (string, error) {
	now := time.Now()
	audience := c.issuer
	if audience == "" {
		audience = c.overrides.Token // a client of a token endpoint alone; configured as well
	}
	return signToken(c.signer, c.signerAlg, c.signerKeyID, map[string]interface{}{
		"iss": c.id,
		"sub": c.id,
		// The issuer, one string, never an address from metadata: who can choose the address could replay the assertion elsewhere (RFC 9700 update).
		"aud": audience,
		"jti": randomText(),
		"iat": now.Unix(),
		"exp": now.Add(time.Minute).Unix(),
	})
}

// fetchUserinfo asks for the UserInfo of the user whom accessToken is about (OIDC Core 5.3).
func fetchUserinfo(ctx context.Context, c *client, accessToken, subject string) (map[string]interface{}, error) {
	m, err := discover(ctx, c)
	if err != nil {
		return nil, err
	}
	if m.userinfo == "" {
		return nil, fmt.Errorf("%w: userinfo: the provider names no userinfo endpoint; set endpoints.userinfo or userinfo: false", errUnavailable)
	}
	body, err := get(ctx, c, "userinfo", m.userinfo, accessToken)
	if err != nil {
		return nil, err
	}
	info, err := parseObject(body)
	if err != nil {
		return nil, fmt.Errorf("%w: userinfo: %s", errUnavailable, err)
	}
	// OIDC Core 5.3.2: without this comparison somebody else's claims could be handed in.
	if text(info["sub"]) != subject {
		return nil, fmt.Errorf("userinfo: sub: expected the ID token's, got another one")
	}
	return info, nil
}

// verifyIDToken parses a token of this provider for this client and checks its signature; its claims are the caller's to check.
func verifyIDToken(ctx context.Context, c *client, raw string) (*token, error) {
	t, err := parseToken(raw)
	if err != nil {
		return nil, err
	}
	m, err := discover(ctx, c)
	if err != nil {
		return nil, err
	}
	algorithms, err := signingAlgorithms(c, m)
	if err != nil {
		return nil, err
	}
	if err := verifyToken(ctx, c.keys, t, algorithms); err != nil {
		return nil, err
	}
	return t, nil
}

// signingAlgorithms is the one algorithm that ID and logout tokens must have: the configured one, else RS256
// where the provider lists it, else what it lists. It is never taken from the token (OIDC Core 3.1.3.7).
func signingAlgorithms(c *client, m *metadata) ([]string, error) {
	if c.pinnedAlg != "" {
		return []string{c.pinnedAlg}, nil
	}
	if len(m.signingAlgs) == 0 || has(m.signingAlgs, "RS256") {
		return []string{"RS256"}, nil
	}
	for _, alg := range m.signingAlgs {
		if alg != "none" && !strings.HasPrefix(alg, "HS") {
			return []string{alg}, nil
		}
	}
	return nil, fmt.Errorf("id token: the provider lists no signing algorithm we know, got %q; set idTokenSigningAlg", m.signingAlgs)
}

// fetchKeys reads the provider's key set.
func fetchKeys(ctx context.Context, c *client) ([]byte, error) {
	m, err := discover(ctx, c)
	if err != nil {
		return nil, err
	}
	if m.jwks == "" {
		return nil, fmt.Errorf("%w: keys: the provider names no jwks_uri; set endpoints.jwks", errUnavailable)
	}
	body, err := get(ctx, c, "keys", m.jwks, "")
	if err != nil {
		logf(c.log, levelError, "%s", err)
	}
	return body, err
}

// newHTTPClient makes the client for the connections described by cc. Certificates and keys are PEM.
func newHTTPClient(cc *ClientConfig) (*http.Client, error) {
	tlsConfig, err := newTLSConfig(&cc.TLS)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = tlsConfig
	transport.MaxIdleConnsPerHost = 16
	transport.MaxResponseHeaderBytes = 64 << 10
	c := &http.Client{Timeout: time.Duration(cc.TimeoutSeconds) * time.Second}
	c.Transport = transport
	c.CheckRedirect = func(_ *http.Request, _ []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// newTLSConfig makes the TLS side of a connection; every error names the option below the block.
func newTLSConfig(tc *TLSConfig) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: tc.InsecureSkipVerify}
	if tc.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(tc.CA)) {
			return nil, errors.New("tls.ca: no certificate found; write PEM text, or ${file:/path/ca.pem}")
		}
	}
	if tc.Cert != "" || tc.Key != "" {
		pair, err := tls.X509KeyPair([]byte(tc.Cert), []byte(tc.Key))
		if err != nil {
			return nil, fmt.Errorf("tls.cert, tls.key: %s; write a PEM certificate and its key", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// text is value when it is a string, else "".
func text(value interface{}) string {
	s, _ := value.(string)
	return s
}

// texts are the strings of a JSON array.
func texts(value interface{}) []string {
	items, _ := value.([]interface{})
	var found []string
	for _, item := range items {
		if s, ok := item.(string); ok {
			found = append(found, s)
		}
	}
	return found
}

func has(list []string, wanted string) bool {
	for _, s := range list {
		if s == wanted {
			return true
		}
	}
	return false
}

// clip makes foreign text fit for a log line: one line, printable, short.
func clip(foreign string) string {
	if len(foreign) > 200 {
		foreign = foreign[:200] + "…"
	}
	return strings.ToValidUTF8(string(bytes.Map(printable, []byte(foreign))), "?")
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}
