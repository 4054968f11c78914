package oidc

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Requests to the provider. House rules of this file:
//   - every response is limited in size and time, and no request follows a redirect (a code or a secret would go with it);
//   - a GET is repeated if it fails quickly, a POST only if it cannot have used up a code or a refresh token;
//   - no secret, code or token reaches an error or the log.

const (
	maxResponse      = 1 << 20   // bytes of a response, except a key set
	documentLifetime = time.Hour // how long a document is used, less up to jitter; then withdrawn keys are gone
	documentJitter   = documentLifetime / 10
	documentEnd      = 365 * 24 * time.Hour // how long the last valid one is used if no other can be fetched: as long as anybody needs
	fetchInterval    = 10 * time.Second     // between two fetches, on average
	fetchBurst       = 3                    // fetches that may follow each other at once: the first, and two key rotations
	retryPause       = 200 * time.Millisecond
	retryLimit       = time.Second // a request that takes longer to fail is not repeated: somebody is waiting
)

// userAgent names us: some firewalls refuse requests without one. The version is that of the next release; `make release-check` compares them.
const userAgent = "traefik-oidc/0.1.0 (+https://github.com/traefik-oidc/oidc)"

// client is one registration at one provider. All middlewares with the same issuer, client and connection share it, across routers and
// reloads, with what was learnt from the provider and the requests in progress.
type client struct {
	log             *logger
	issuer, id      string
	secret          string
	authMethod      string // "": by discovery
	signer          crypto.Signer
	signerAlg       string
	signerHeader    map[string]any // header members that name the signing key
	mutualTLS       bool           // we have a certificate: to authenticate us, or to bind tokens to it
	hasLogin        bool           // used for sign-in, not only to verify tokens
	endpoints       EndpointsConfig
	discoveryURL    string // "": there is nothing to discover
	http            *http.Client
	headers         map[string]string // for requests for metadata and keys
	retries         int
	exchangeTimeout time.Duration // for requests that use up a code or a refresh token
	delayedConns    delayedConns
	rules           *tokenRules
	pinnedAlg       string          // idTokenSigningAlg, "": by discovery
	metadata        *cachedDocument // *metadata
	keys            *cachedDocument // []*key
	outageLock      sync.Mutex      // guards outage and the guesses
	outage          backoff         // of introspection and token requests
	responses       *boundedCache   // hashed introspection or token request → *fetched: *tokenInfo or *upstreamToken
}

// clientState records what happened to sign-ins and sessions. All middlewares that seal the sessions of one client with one secret share it: a
// different time limit, or a new secret beside the old one, must not bring back a session that was signed out.
type clientState struct {
	refreshed           *boundedCache // hashed refresh token and due time → *fetched: *session, or *delayedCall while the response is awaited
	usedStates          *boundedCache // hashed state → where its sign-in ended
	revoked             *boundedCache // "id:", "sid:" or "sub:" + name → time of the logout
	frontchannelLogouts *boundedCache // the same for front-channel logouts, apart because anybody can cause those, and must not push out the others
	usedLogoutTokens    *boundedCache // jti of the logout tokens that were accepted
	clockSkew           int64         // milliseconds by which the store's clock is ahead of ours
	newKeyFrom          int64         // when the first of several secrets begins to seal, in Unix seconds
	maxExpiry           int           // the longest session.expiry of sessions in cookies, which only these lists can end; revoked's lock guards it
}

// warnOnce tells the operator about something that is tolerated.
func warnOnce(c *client, format string, args ...any) {
	if line := fmt.Sprintf(format, args...); cacheAdd(c.responses, line, "") {
		logf(c.log, levelWarn, "%s", line)
	}
}

// getObject fetches the metadata or the keys: a JSON object.
func getObject(ctx context.Context, c *client, what, endpoint string) (map[string]any, error) {
	status, body, at, err := request(ctx, c, what, endpoint, nil, c.headers, c.retries)
	if err != nil {
		return nil, err
	}
	return readObject(c, what, at, status, body)
}

// statusError is the error of a response that has this status, and says nothing more about it.
func statusError(status int) error {
	if status/100 == 3 {
		return errorf("%s; redirects are not followed: write the address it leads to", http.StatusText(status))
	}
	return newError(http.StatusText(status))
}

// readObject reads a response, which must be a success with a JSON object.
func readObject(c *client, what, at string, status int, body []byte) (map[string]any, error) {
	object, err := parseObject(body)
	if status/100 != 2 {
		err = statusError(status)
	}
	if err != nil {
		return nil, errorf("%w: %s: %d %s", errUnavailable, at, status, err)
	}
	warnDuplicates(c, what, body, object)
	return object, nil
}

// warnDuplicates warns the operator if an object has a name twice.
func warnDuplicates(c *client, what string, written []byte, object map[string]any) {
	again, _ := json.Marshal(object)
	if object != nil && json.Valid(written) && strings.Count(unescaped.Replace(string(written)), ":") != strings.Count(string(again), ":") {
		warnOnce(c, "%s: the provider's answer has a name twice in one object; the last one counts", what)
	}
}

// request sends a request and reads the response, up to a limit. endpoint is a URL, or the name of an endpoint in the metadata. With a form it
// is a POST with the client's authentication (unless headers has an Authorization), otherwise a GET. A request that fails quickly, even with
// 429 or 5xx, is repeated up to retries times. at is the beginning of an error about the response.
func request(ctx context.Context, c *client, what, endpoint string, form url.Values, headers map[string]string, retries int) (status int, body []byte, at string, err error) {
	address := endpoint
	if !strings.Contains(endpoint, ":") {
		m, err := discover(ctx, c)
		if err != nil {
			return 0, nil, "", err
		}
		if address = m.endpoints[endpoint]; address == "" {
			return 0, nil, "", errorf("%w: %s: the provider names no %s; see endpoints", errMisconfigured, what, endpoint)
		}
	}
	method := http.MethodGet
	header := http.Header{"Accept": {"application/json, application/jwk-set+json, application/jwt"}, "User-Agent": {userAgent}}
	if form != nil {
		method = http.MethodPost
		header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range headers {
		header.Set(name, value)
	}
	at = what + ": " + method + " " + forLog(address)
	for attempt := 1; ; attempt++ {
		began := time.Now()
		status, body, err = roundTrip(ctx, c, method, address, form, header)
		isPassing := err != nil || status >= 500 || status == http.StatusTooManyRequests
		if !isPassing || attempt > retries || time.Since(began) > retryLimit {
			break
		}
		time.Sleep(retryPause * time.Duration(attempt))
	}
	if errors.Is(err, errDelayed) {
		return 0, nil, at, errorf("%w: %s: %w", errInProgress, at, err)
	}
	body = bytes.TrimPrefix(body, []byte("\ufeff")) // a byte order mark, which a reader may ignore (RFC 8259 8.1)
	limit := maxResponse
	if endpoint == "jwks_uri" {
		limit = maxJSONSize
	}
	if len(body) > limit {
		err = errorf("the answer is larger than %d MiB", limit>>20)
	} else if os.IsTimeout(err) {
		err = newError("no answer in time; clientConfig.timeoutSeconds is the limit (exchangeTimeoutSeconds for a refresh)")
	} else if wrapped, ok := err.(*url.Error); ok {
		err = wrapped.Err // without the URL: our error has it already, and a code must never get into the log
	}
	if err != nil {
		err = errorf("%w: %s: %s%s", errUnavailable, at, forLog(err.Error()), connectionHint(err)) // the library's error may quote whole headers
		if form != nil {
			logf(c.log, levelError, "%s", err)
		}
	}
	return status, body, at, err
}

// connectionHints say what to do about errors of connections that begin with a mistake in the set-up. The columns are a part of the error, and
// the hint.
const connectionHints = `signed by unknown authority|give its CA in tls.ca of clientConfig
tcp 127.0.0.1:|in a container, this is the container itself
tcp [::1]:|in a container, this is the container itself
no such host|the name must be known where Traefik runs; see endpoints
HTTP response to HTTPS client|this address speaks http
`

func connectionHint(err error) string {
	for _, row := range strings.Split(connectionHints, "\n") {
		trouble, hint, _ := strings.Cut(row, "|")
		if hint != "" && strings.Contains(err.Error(), trouble) {
			return "; " + hint
		}
	}
	return ""
}

// roundTrip sends one request within the client's time limit.
func roundTrip(ctx context.Context, c *client, method, address string, form url.Values, header http.Header) (status int, body []byte, err error) {
	delayed, _ := ctx.Value(delayedCallKey).(*delayedCall)
	if form != nil && delayed != nil && delayed.conn != nil {
		return receiveDelayed(c, delayed)
	}
	err = authenticateClient(c, form, header)
	req, badURL := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err = firstError(err, badURL); err != nil {
		return 0, nil, err
	}
	req.Header = header
	proxy, badProxy := http.ProxyFromEnvironment(req) // the library applies its rules
	if form != nil && delayed != nil && proxy == nil && badProxy == nil {
		if err = sendDelayed(c, delayed, req); err != nil {
			return 0, nil, err
		}
		return receiveDelayed(c, delayed)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	if form != nil { // the response to a GET may come from a cache, with an old Date
		checkDate(c, res.Header.Get("Date"))
	}
	body, err = io.ReadAll(io.LimitReader(res.Body, maxJSONSize+1))
	return res.StatusCode, body, err
}

// checkDate warns, once, about a provider whose clock differs from ours: its tokens may seem to have expired, or to be from the future.
func checkDate(c *client, sent string) {
	theirs, err := http.ParseTime(sent)
	skew := time.Until(theirs)
	if err == nil && skew.Abs() > clockWarningSkew && cacheAdd(c.responses, "clock", "") {
		logf(c.log, levelWarn, "the clock of %s is %s ahead of this Traefik's (behind it, if negative); set both by NTP", c.issuer, skew.Round(time.Second))
	}
}

// verifyIDToken parses a token from this provider for this client and checks its signature. The caller must check its claims.
func verifyIDToken(ctx context.Context, c *client, raw string) (*token, error) {
	t, err := parseToken(raw)
	if err != nil {
		return nil, err
	}
	m, err := discover(ctx, c)
	if err != nil {
		return nil, err
	}
	if err = verifyToken(ctx, c.keys, t, []string{signingAlgorithm(c, m.signingAlgs)}); err == nil {
		payload, _ := decodePart("payload", t.signed[strings.Index(t.signed, ".")+1:])
		warnDuplicates(c, "id token", payload, t.claims)
	}
	return t, err
}

// newTLSConfig makes the TLS configuration of a connection. Every error names the option within the block.
func newTLSConfig(tc *TLSConfig) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: tc.InsecureSkipVerify}
	if tc.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(tc.CA)) {
			return nil, newError("tls.ca: no certificate found; write PEM text, or ${file:/path/ca.pem}")
		}
	}
	if tc.Cert != "" || tc.Key != "" {
		pair, err := tls.X509KeyPair([]byte(tc.Cert), []byte(tc.Key))
		if err != nil {
			return nil, errorf("tls.cert, tls.key: %s; write a PEM certificate and its key", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

var controlCharacter = regexp.MustCompile(`[\pC\p{Zl}\p{Zp}]`) // also characters that log viewers take for line breaks, or that reverse the text

// minHMACKeyBytes is how long a key must be at least (RFC 7518 3.2).
var minHMACKeyBytes = map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}

// newClient makes the client that c describes, and adds what is wrong with it to p.
func newClient(l *logger, c *Config, at string, p *problems) *client {
	made := &client{log: l, issuer: c.Issuer, id: c.ClientID, secret: c.ClientSecret, authMethod: c.ClientAuthMethod, signerAlg: c.ClientKeyAlg, pinnedAlg: c.IDTokenSigningAlg,
		endpoints: c.Endpoints, retries: c.ClientConfig.MaxRetries, exchangeTimeout: time.Duration(c.ExchangeTimeoutSeconds) * time.Second, discoveryURL: discoveryURL(c),
		responses: newBoundedCache(8 << 20)}
	tlsConfig, err := newTLSConfig(&c.ClientConfig.TLS)
	p.addError(at, err)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = tlsConfig
	transport.MaxIdleConnsPerHost = 16
	transport.MaxResponseHeaderBytes = maxResponseHead
	made.http = &http.Client{Timeout: time.Duration(c.ClientConfig.TimeoutSeconds) * time.Second, Transport: transport}
	made.http.CheckRedirect = func(_ *http.Request, _ []*http.Request) error { return http.ErrUseLastResponse }
	if c.ClientKey != "" {
		block := strings.TrimSuffix(strings.TrimPrefix(at, "oAuthIntrospection."), "clientConfig")
		made.signer, err = parsePrivateKeyPEM(c.ClientKey, c.ClientKeyAlg)
		p.addError(block+"clientKey", err)
		if err == nil {
			made.signerHeader, err = keyNames(c.ClientKeyID, c.ClientCertificate, made.signer)
			p.addError(block+"clientCertificate", err)
		}
	}
	hasCertificate := c.ClientConfig.TLS.Cert != ""
	if made.authMethod == "" && c.ClientKey+c.ClientSecret == "" && hasCertificate {
		made.authMethod = "tls_client_auth"
	}
	made.mutualTLS = made.authMethod == "tls_client_auth" || made.signer != nil && hasCertificate
	rules := &tokenRules{issuers: []string{c.Issuer}, providerIssuer: &atomic.Value{}, audience: []string{c.ClientID}, trustedAudiences: c.TrustedAudiences, skew: int64(c.ClockSkewSeconds)}
	if c.TrustedIssuer != "" {
		rules.issuers = append(rules.issuers, c.TrustedIssuer)
	}
	if c.DisableIssuerCheck {
		rules.issuers = nil
	}
	made.rules = rules
	made.metadata = &cachedDocument{log: l, fetch: func(ctx context.Context) (any, error) { return fetchMetadata(ctx, made) }}
	if alg := c.IDTokenSigningAlg; minHMACKeyBytes[alg] > 0 { // the client secret is the key (OIDC Core 16.19)
		secret, err := newSecretKey([]byte(c.ClientSecret), []string{alg})
		p.failIf(err != nil, "idTokenSigningAlg", "%s needs a clientSecret of %d bytes at least; let the provider sign with RS256 or ES256", alg, minHMACKeyBytes[alg])
		made.keys = newFixedKeySet(secret)
		return made
	}
	made.keys = &cachedDocument{log: l, fetch: func(ctx context.Context) (any, error) { return fetchKeys(ctx, made) }}
	return made
}
