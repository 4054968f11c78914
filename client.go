package oidc

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// This room holds everything that is sent to the provider. Its house rules:
//   - every answer is capped in size and time, and no request follows a redirect (a code or a secret would go with it);
//   - a GET is repeated when it fails quickly, a POST only where it can have spent no code and no refresh token;
//   - no secret, code or token reaches an error or the log.

const (
	maxResponse      = 1 << 20   // bytes of one answer of the provider, but for its key set
	documentLifetime = time.Hour // a document is read again after this time, less up to jitter: withdrawn keys are gone then
	documentJitter   = documentLifetime / 10
	fetchInterval    = 10 * time.Second // between two fetches in the long run
	fetchBurst       = 3                // fetches at once: the first, and two rotations soon after
	retryPause       = 200 * time.Millisecond
	retryLimit       = time.Second // a request that fails later than this is not repeated: somebody waits
)

// userAgent says who calls: some firewalls refuse programs that do not. The version is that of the next release, which `make
// release-check` compares.
const userAgent = "traefik-oidc/0.1.0 (+https://github.com/traefik-oidc/oidc)"

var (
	// errRefused marks an answer by which the provider says a definite no to the grant that was sent (RFC 6749 5.2).
	errRefused = errors.New("refused by the provider")
	// errMisconfigured is an outage that does not pass by itself: what we were told of the provider, or it of us, is wrong.
	errMisconfigured = fmt.Errorf("%w: configuration", errUnavailable)
)

// client is one registration at one provider. All middlewares with the same issuer, client and connection share it,
// across routers and reloads: what was learnt from the provider, and what is under way.
type client struct {
	log             *logger
	issuer, id      string
	secret          string
	authMethod      string // "" is by discovery
	signer          crypto.Signer
	signerAlg       string
	signerHeader    map[string]any // of its key, for the header of an assertion
	mutualTLS       bool           // the provider asks for our certificate: to know us, or to bind tokens to it
	hasLogin        bool           // not only for tokens that are brought
	endpoints       EndpointsConfig
	discoveryURL    string // "": there is nothing to discover
	http            *http.Client
	headers         map[string]string // of the requests for metadata and keys
	retries         int
	exchangeTimeout time.Duration // of what spends something
	delayedConns    delayedConns
	clockWarned     int32 // 1: a warning was written
	rules           *tokenRules
	pinnedAlg       string          // idTokenSigningAlg, "" is by discovery
	metadata        *cachedDocument // map[string]any by the names of OpenID Connect Discovery 3 and RFC 8414 2
	keys            *cachedDocument // []*key
	inFlight        inFlight
	outageLock      sync.Mutex    // of away
	outage          backoff       // of calls about tokens
	answerCache     *boundedCache // of questions about tokens, and of requests for them (hashed) → *verdict, *upstreamToken
}

// ledger is what became of sign-ins and sessions. All middlewares that seal the sessions of one client with one secret share it: another
// time limit, or a new secret beside the old one, must not bring back who was signed out.
type clientState struct {
	refreshesInFlight   inFlight
	refreshed           *boundedCache // refresh token and when it was due (hashed) → *session it became
	usedStates          *boundedCache // state (hashed) → where its sign-in ended
	revoked             *boundedCache // "id:", "sid:" or "sub:" + name → time of the logout
	frontchannelLogouts *boundedCache // the same of front-channel logouts: anybody can ask for those, and must not push the others out
	usedLogoutTokens    *boundedCache // jti of logout tokens seen
	clockSkew           int64         // milliseconds that the store's clock is ahead of ours
	newKeyFrom          int64         // when the first of several secrets begins to seal, in Unix seconds
	maxExpiry           int           // session.expiry of all whose cookies nothing but these lists can end; revoked's lock guards it
}

// document is what a provider publishes of itself: its metadata, or its keys. It is fetched by the request that needs it.
type cachedDocument struct {
	log   *logger
	fetch func(ctx context.Context) (any, error) // limits its own time; nil: the document never changes

	fetching sync.Mutex // held while somebody fetches; nobody else changes the rest
	backoff  backoff    // until there may be another fetch, and how the last one failed
	mu       sync.Mutex // of what follows
	value    any        // the last good one; replaced as a whole, never changed, so it is read without the lock
	version  int        // how many have come
	until    time.Time  // when it is to be fetched anew
}

// peek is the document as it is here. isOld asks the caller to renew it: nobody else is asked to for a while, so only one of many waits.
func cached(d *cachedDocument) (value any, version int, isOld bool) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if isOld = d.value == nil || now.After(d.until); isOld {
		d.until = now.Add(time.Minute)
	}
	return d.value, d.version, isOld
}

// renew fetches the document anew, once however many ask, unless one newer than version is here already. When there is none to be
// had it returns the last good one, and how the last fetch failed, if it did. Made-up key names must not make us hammer the provider:
// fetchBurst at once, then one in fetchInterval. What fails costs none of that, as it has its own, growing, pauses.
func refetch(ctx context.Context, d *cachedDocument, version int) (value any, isNewer bool, err error) {
	d.fetching.Lock() // who has to wait here finds what the one before brought
	defer d.fetching.Unlock()
	now := time.Now()
	if d.version != version || now.Before(d.backoff.until) {
		return d.value, d.version != version, d.backoff.err
	}
	fetched, err := d.fetch(context.WithoutCancel(ctx)) // also when this client goes away: others wait
	if err != nil {
		if !errors.Is(err, errUnavailable) {
			err = fmt.Errorf("%w: %w", errUnavailable, err)
		}
		logf(d.log, levelError, "%s", err)
		backOff(&d.backoff, err, time.Now())
		return d.value, false, err
	}
	least := now.Add(-(fetchBurst - 1) * fetchInterval)
	if d.backoff.err != nil || d.backoff.until.Before(least) {
		d.backoff.until = least
	}
	d.backoff = backoff{until: d.backoff.until.Add(fetchInterval)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.value = fetched
	d.version++
	d.until = now.Add(documentLifetime - time.Duration(rand.Int63n(int64(documentJitter)))) // not all replicas at once
	return fetched, true, nil
}

// refundFetch takes a fetch that brought what was wanted off those that are counted: however often a provider changes its keys, tokens of
// its new ones are taken at once.
func refundFetch(d *cachedDocument) {
	d.fetching.Lock()
	d.backoff.until = d.backoff.until.Add(-fetchInterval)
	d.fetching.Unlock()
}

// discover returns the provider's metadata, with the endpoints that are configured in place of its own. When the provider is away the
// last good document goes on, and without one the error wraps errUnavailable.
func discover(ctx context.Context, c *client) (map[string]any, error) {
	value, version, isOld := cached(c.metadata)
	var err error
	if isOld {
		value, _, err = refetch(ctx, c.metadata, version)
	}
	if m, ok := value.(map[string]any); ok {
		return m, nil
	}
	return nil, err
}

// fetchMetadata fetches the discovery document, puts what is configured in the place of its own, and checks what is left.
func fetchMetadata(ctx context.Context, c *client) (any, error) {
	m := map[string]any{"issuer": c.issuer}
	if c.discoveryURL != "" {
		found, err := getObject(ctx, c, "discovery", c.discoveryURL, c.headers)
		if err != nil && !strings.Contains(err.Error(), ": 5") { // it is right where something answers 5xx
			err = fmt.Errorf("%w; is the issuer right?", err)
		}
		if err != nil {
			return nil, err
		}
		if err = checkMetadataIssuer(c, stringOf(found["issuer"])); err != nil {
			return nil, err
		}
		m = found
	}
	aliases, _ := m["mtls_endpoint_aliases"].(map[string]any)
	for _, name := range strings.Fields("token_endpoint userinfo_endpoint introspection_endpoint revocation_endpoint pushed_authorization_request_endpoint") {
		if alias := stringOf(aliases[name]); alias != "" && c.mutualTLS {
			m[name] = alias // RFC 8705 5
		}
	}
	return m, checkEndpoints(c, m)
}

// checkMetadataIssuer refuses a document of another issuer, whose keys would be a stranger's (OpenID Connect Discovery 4.3), and notes
// how the provider spells its name. Who can answer at that address with a slash more or less can as well without: that difference
// protects nobody, and the provider's spelling counts from then on.
func checkMetadataIssuer(c *client, issuer string) error {
	isOther := !acceptsIssuer(c, issuer)
	if isOther {
		if strings.TrimSuffix(issuer, "/") != strings.TrimSuffix(c.issuer, "/") {
			return fmt.Errorf("%w: discovery: issuer: expected %q, got %q; set issuer to exactly what the provider calls itself", errMisconfigured, c.issuer, forLog(issuer))
		}
		warnOnce(c, "discovery: issuer: the provider calls itself %q, which counts from now on; write it so, instead of %q", issuer, c.issuer)
	}
	if isOther || c.rules.providerIssuer.Load() != nil {
		c.rules.providerIssuer.Store(issuer)
	}
	return nil
}

// checkEndpoints puts the addresses that are configured in the place of the provider's, leaves out those of its own that nobody can use,
// and stops where the sign-in cannot do without.
func checkEndpoints(c *client, m map[string]any) error {
	o := &c.endpoints
	configured := map[string]string{"authorization_endpoint": o.Authorization, "token_endpoint": o.Token, "jwks_uri": o.JWKS, "userinfo_endpoint": o.Userinfo,
		"introspection_endpoint": o.Introspection, "revocation_endpoint": o.Revocation, "end_session_endpoint": o.EndSession}
	for _, name := range strings.Fields(`authorization_endpoint token_endpoint jwks_uri userinfo_endpoint introspection_endpoint
		revocation_endpoint end_session_endpoint pushed_authorization_request_endpoint`) {
		if configured[name] != "" {
			m[name] = configured[name]
		} else if isEndpoint(c, stringOf(m[name])) {
			continue
		} else if c.hasLogin && (name == "authorization_endpoint" || name == "token_endpoint" || name == "jwks_uri" && c.keys.fetch != nil) {
			return fmt.Errorf("%w: discovery: %s: must be an absolute https URL, got %s; is this provider for sign-in? else set it in endpoints", errMisconfigured, name, quoteJSON(m[name]))
		} else if m[name] != nil {
			warnOnce(c, "discovery: %s is left out, as it must be an absolute https URL: got %s; see endpoints", name, quoteJSON(m[name]))
			delete(m, name)
		}
	}
	return nil
}

// isEndpoint says that an address of the metadata can be used: a plain absolute URL, with https unless the operator reads the metadata, or
// names the issuer, without.
func isEndpoint(c *client, address string) bool {
	u, err := url.Parse(address)
	isPlain := strings.HasPrefix(strings.ToLower(c.discoveryURL), "http:") || !strings.HasPrefix(strings.ToLower(c.issuer), "https:")
	return err == nil && u.Host != "" && u.User == nil && !strings.Contains(address, "#") && (u.Scheme == "https" || u.Scheme == "http" && isPlain)
}

// warnOnce tells the operator of something that is put up with.
func warnOnce(c *client, format string, args ...any) {
	if line := fmt.Sprintf(format, args...); cacheSetIf(c.answerCache, false, line, true, 0) {
		logf(c.log, levelWarn, "%s", line)
	}
}

// get fetches the JSON object of a 200 answer.
func getObject(ctx context.Context, c *client, what, endpoint string, headers map[string]string) (map[string]any, error) {
	status, body, at, err := request(ctx, c, what, endpoint, nil, headers, c.retries)
	if err != nil {
		return nil, err
	}
	return readObject(c, what, at, status, body)
}

// readObject reads an answer that must be a 200 with a JSON object.
func readObject(c *client, what, at string, status int, body []byte) (map[string]any, error) {
	object, err := parseObject(body)
	if status != http.StatusOK {
		err = errors.New(http.StatusText(status))
	}
	if status/100 == 3 {
		err = fmt.Errorf("%s; redirects are not followed: write the address it leads to", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %d %s", errUnavailable, at, status, err)
	}
	warnDuplicates(c, what, body, object)
	return object, nil
}

// warnDuplicates tells the operator when a name is there twice.
func warnDuplicates(c *client, what string, written []byte, object map[string]any) {
	again, _ := json.Marshal(object)
	if object != nil && json.Valid(written) && strings.Count(unescaped.Replace(string(written)), ":") != strings.Count(string(again), ":") {
		warnOnce(c, "%s: the provider's answer has a name twice in one object; the last one counts", what)
	}
}

// call sends a request to an endpoint, an address or the name that one has in the metadata, and reads the capped answer: a POST of form
// with the client's authentication or, without one, a GET. An Authorization among headers stands in for the client's authentication.
// What fails quickly, also with 429 or 5xx, is tried again up to retries times. at is what an error about the answer begins with.
func request(ctx context.Context, c *client, what, endpoint string, form url.Values, headers map[string]string, retries int) (status int, body []byte, at string, err error) {
	address := endpoint
	if !strings.Contains(endpoint, ":") {
		m, err := discover(ctx, c)
		if err != nil {
			return 0, nil, "", err
		}
		if address = stringOf(m[endpoint]); address == "" {
			return 0, nil, "", fmt.Errorf("%w: %s: the provider names no %s; see endpoints", errMisconfigured, what, endpoint)
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
		return 0, nil, at, fmt.Errorf("%w: %s: %w", errInProgress, at, err)
	}
	limit := maxResponse
	if endpoint == "jwks_uri" {
		limit = maxJSONSize
	}
	if len(body) > limit {
		err = fmt.Errorf("the answer is larger than %d MiB", limit>>20)
	} else if os.IsTimeout(err) {
		err = errors.New("no answer in time; clientConfig.timeoutSeconds is the limit (exchangeTimeoutSeconds for a refresh)")
	} else if wrapped, ok := err.(*url.Error); ok {
		err = wrapped.Err // without the URL: ours says it already, and an authorization code never belongs in a log
	}
	if err != nil {
		err = fmt.Errorf("%w: %s: %s", errUnavailable, at, forLog(err.Error())) // may quote whole headers
	}
	if err != nil && form != nil {
		logf(c.log, levelError, "%s", err)
	}
	return status, body, at, err
}

// exchange sends one request under the client's time limit.
func roundTrip(ctx context.Context, c *client, method, address string, form url.Values, header http.Header) (status int, body []byte, err error) {
	slow, _ := ctx.Value(delayedCallKey).(*delayedCall)
	if form != nil && slow != nil && slow.conn != nil {
		return receiveDelayed(c, slow)
	}
	err = authenticateClient(c, form, header)
	req, badURL := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err = firstError(err, badURL); err != nil {
		return 0, nil, err
	}
	req.Header = header
	proxy, badProxy := http.ProxyFromEnvironment(req) // whose rules are the library's business
	if form != nil && slow != nil && proxy == nil && badProxy == nil {
		if err = sendDelayed(c, slow, req); err != nil {
			return 0, nil, err
		}
		return receiveDelayed(c, slow)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	if form != nil { // what is fetched may come from a cache, with the time of then
		checkDate(c, res.Header.Get("Date"))
	}
	body, err = io.ReadAll(io.LimitReader(res.Body, maxJSONSize+1))
	return res.StatusCode, body, err
}

// checkDate warns, once, about a provider whose clock differs from ours: its tokens may seem to have ended, or to be of the future.
func checkDate(c *client, sent string) {
	theirs, err := http.ParseTime(sent)
	skew := time.Until(theirs)
	if err == nil && skew.Abs() > clockWarningSkew && atomic.CompareAndSwapInt32(&c.clockWarned, 0, 1) {
		logf(c.log, levelWarn, "the clock of %s is %s ahead of this Traefik's (behind it, if negative); set both by NTP", c.issuer, skew.Round(time.Second))
	}
}

// authenticateClient adds the client's authentication to a POST (RFC 6749 2.3).
func authenticateClient(c *client, form url.Values, header http.Header) error {
	if form == nil || c.id == "" || header.Get("Authorization") != "" {
		return nil // a GET; a client that has no name at this provider; or somebody else's credentials are used
	}
	method := c.authMethod
	if method == "" && c.signer != nil {
		method = "private_key_jwt"
	} else if method == "" && c.secret != "" {
		known, _, _ := cached(c.metadata)
		m, _ := known.(map[string]any) // nil for a client of a token endpoint alone
		listed := stringsOf(m["token_endpoint_auth_methods_supported"])
		method = "client_secret_basic" // also where nothing is listed: OpenID Connect Discovery 3
		if len(listed) > 0 && !contains(listed, method) {
			method = "client_secret_post"
		}
	}
	if method == "client_secret_basic" {
		header.Set("Authorization", basicAuthorization(c.id, c.secret))
		return nil
	}
	form.Set("client_id", c.id) // "none" and "tls_client_auth" (RFC 8705 2.1) say only who they are
	if method == "client_secret_post" {
		form.Set("client_secret", c.secret)
	}
	if method != "private_key_jwt" {
		return nil
	}
	assertion, err := clientAssertion(c)
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", assertion)
	return err
}

// basicAuthorization is client_secret_basic: both halves are form-encoded before they are joined (RFC 6749 2.3.1).
func basicAuthorization(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// clientAssertion makes the JWT of private_key_jwt (OIDC Core 9, RFC 7523 3).
func clientAssertion(c *client) (string, error) {
	now := time.Now()
	audience := issuerOf(c)
	if audience == "" {
		audience = c.endpoints.Token // a client of a token endpoint alone; configured as well
	}
	return signToken(c.signer, c.signerAlg, c.signerHeader, map[string]any{
		"iss": c.id,
		"sub": c.id,
		// The issuer, one string, never an address from metadata: who can choose the address could replay the assertion elsewhere (RFC 9700 update).
		"aud": audience,
		"jti": randomText(),
		"iat": now.Unix(),
		"exp": now.Add(time.Minute).Unix(),
	})
}

// tokens is the successful answer of a token endpoint (RFC 6749 5.1).
type tokenResponse struct {
	accessToken, refreshToken, idToken string
	expiresIn                          int64 // seconds; 0 when the provider did not say
}

// requestTokens sends one grant to the token endpoint, with the client's authentication.
// A definite no to the grant wraps errRefused, errNotAllowed or errBadResponse, everything that may pass wraps errUnavailable.
func requestTokens(ctx context.Context, c *client, form url.Values) (*tokenResponse, error) {
	status, body, _, err := request(ctx, c, "token endpoint", "token_endpoint", form, nil, 0)
	if err != nil {
		return nil, err
	}
	return readTokenResponse(c, status, body)
}

// problems of the provider's answers, by whose they are (RFC 6749 4.1.2.1 and 5.2, OIDC Core 3.1.2.6, RFC 8707 2). All other words are a
// no to this grant, which another one may not get: providers have many for it, also whole sentences.
const (
	temporaryErrors = "temporarily_unavailable server_error slow_down"
	clientErrors    = "invalid_client unauthorized_client"
	requestErrors   = "invalid_scope invalid_target unsupported_grant_type unsupported_response_type request_not_supported request_uri_not_supported"
	userErrors      = "access_denied not_allowed"
)

// isOneOf says that a code is one of words.
func isOneOf(words, code string) bool { return contains(strings.Fields(words), code) }

// outcomeOf says what an authorization request has come to that was refused with a code.
func outcomeOf(code string, otherwise error) error {
	if isOneOf(temporaryErrors, code) {
		return errUnavailable
	}
	if isOneOf("invalid_request "+clientErrors+" "+requestErrors, code) {
		return errMisconfigured // it was ours, made of the options
	}
	if isOneOf(userErrors, code) || strings.HasSuffix(code, "_required") {
		return errNotAllowed
	}
	return otherwise
}

// tokenError words an answer of a token endpoint that is an error; some providers send one with 200.
func tokenError(c *client, status int, code, description string) error {
	outcome := errRefused
	isPlainNo := status == http.StatusBadRequest || status == http.StatusUnauthorized || status == http.StatusForbidden
	if status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || isOneOf(temporaryErrors, code) || code == "" && !isPlainNo {
		outcome = errUnavailable // also a page of something in between, or an address that moved: no word about the grant
	} else if isOneOf(clientErrors, code) {
		outcome = errMisconfigured
	} else if isOneOf(userErrors, code) || strings.HasSuffix(code, "_required") {
		outcome = errNotAllowed
	} else if isOneOf(requestErrors, code) || code == "" && status != http.StatusBadRequest {
		outcome = errBadResponse
	}
	err := fmt.Errorf("%w: token endpoint: %d %s %q", outcome, status, forLog(code), forLog(description))
	if isOneOf(clientErrors, code) || code == "" && status == http.StatusUnauthorized {
		err = fmt.Errorf("%w; check clientId, clientSecret and clientAuthMethod", err)
		logf(c.log, levelError, "%s", err)
	}
	return err
}

// readTokenResponse reads the answer of a token endpoint, also one that is an error (RFC 6749 5.2).
func readTokenResponse(c *client, status int, body []byte) (*tokenResponse, error) {
	answer, err := parseGrant(body)
	warnDuplicates(c, "token endpoint", body, answer)
	if status > http.StatusOK && status < http.StatusMultipleChoices {
		status = http.StatusOK
	}
	code, kind := stringOf(answer["error"]), stringOf(answer["token_type"])
	if status != http.StatusOK || code != "" {
		return nil, tokenError(c, status, code, stringOf(answer["error_description"]))
	}
	if err == nil && stringOf(answer["access_token"]) == "" {
		err = errors.New("the answer has no access_token")
	}
	// RFC 6749 7.1: a type we do not understand must not be used. Providers have more names for Bearer than can be listed, and some none.
	if err == nil && proofOfPossession.MatchString(kind) {
		err = fmt.Errorf("token_type: expected \"Bearer\", got %q", forLog(kind))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: token endpoint: %s", errUnavailable, err)
	}
	t := &tokenResponse{accessToken: stringOf(answer["access_token"]), refreshToken: stringOf(answer["refresh_token"]), idToken: stringOf(answer["id_token"])}
	if !visibleASCII.MatchString(t.accessToken) { // which no header can carry as it is
		return nil, fmt.Errorf("%w: token endpoint: access_token: must be printable ASCII without spaces", errBadResponse)
	}
	answer["expires_in"] = json.Number(valueText(answer["expires_in"])) // also written as text
	if seconds, err := numericDate(answer, "expires_in"); err == nil && seconds < 1<<31 {
		t.expiresIn = seconds
	}
	return t, nil
}

// proofOfPossession are the types of tokens that are good only with a proof of their holder's key, or with none at all (RFC 9449 5, RFC 8693 2.2.1).
var proofOfPossession = regexp.MustCompile("(?i)^(dpop|mac|pop|n_a)$")

// graphic is what a Bearer token may be made of (RFC 6750 2.1, generously).
var visibleASCII = regexp.MustCompile("^[!-~]+$")

// parseGrant reads the answer of a token endpoint: JSON, or a form, as some still write it.
func parseGrant(body []byte) (map[string]any, error) {
	answer, err := parseObject(body)
	form, formErr := url.ParseQuery(string(body))
	if err == nil || formErr != nil || form.Get("access_token")+form.Get("error") == "" {
		return answer, err
	}
	answer = map[string]any{}
	for name, values := range form {
		if len(values) > 1 && contains(decisiveNames, name) {
			return nil, fmt.Errorf("form: must not have %s twice", name)
		}
		answer[name] = values[len(values)-1]
	}
	return answer, nil
}

// fetchUserinfo asks for the UserInfo of the user whom accessToken is about (OIDC Core 5.3).
func fetchUserinfo(ctx context.Context, c *client, accessToken, subject string) (map[string]any, error) {
	headers := map[string]string{"Authorization": "Bearer " + accessToken}
	status, body, at, err := request(ctx, c, "userinfo", "userinfo_endpoint", nil, headers, c.retries)
	if err != nil {
		return nil, err
	}
	var info map[string]any
	if raw := strings.TrimSpace(string(body)); status == http.StatusOK && strings.Count(raw, ".") == 2 && !strings.HasPrefix(raw, "{") {
		info, err = readSignedUserinfo(ctx, c, raw)
	} else if isOneOf("401 403 404", fmt.Sprint(status)) { // with a token that it has just given
		err = fmt.Errorf("%w: %s: %d %s; mind scopes and endpoints.userinfo", errMisconfigured, at, status, http.StatusText(status))
	} else {
		info, err = readObject(c, "userinfo", at, status, body)
	}
	if err != nil {
		return nil, err
	}
	// OIDC Core 5.3.2: without this comparison somebody else's claims could be handed in.
	if stringOf(info["sub"]) != subject {
		return nil, errors.New("userinfo: sub: expected the ID token's, got another one")
	}
	return info, nil
}

// readSignedUserinfo reads UserInfo that is a JWT, as the provider's registration of this client may ask for (OIDC Core 5.3.2): iss and aud
// should be there, and exp may be.
func readSignedUserinfo(ctx context.Context, c *client, raw string) (map[string]any, error) {
	t, err := verifyIDToken(ctx, c, raw)
	if err == nil && t.claims["iss"] != nil {
		err = checkIssuer(c.rules, t)
	}
	if err == nil && t.claims["aud"] != nil {
		err = checkAudience(c.rules, t)
	}
	if err == nil && t.claims["exp"] != nil {
		err = checkExpiry(c.rules, t, time.Now())
	}
	if err == nil {
		err = failIf(hasKey(t.claims, "events"), "events", "must not be in this kind of token")
	}
	if err != nil {
		return nil, fmt.Errorf("userinfo: %w", err)
	}
	return t.claims, nil
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
	alg := signingAlgorithm(c, stringsOf(m["id_token_signing_alg_values_supported"]))
	if err = verifyToken(ctx, c.keys, t, []string{alg}); err == nil {
		payload, _ := decodePart("payload", t.signed[strings.Index(t.signed, ".")+1:])
		warnDuplicates(c, "id token", payload, t.claims)
	}
	return t, err
}

// signingAlgorithm is the one that ID and logout tokens must have: the configured one, else RS256 where the provider lists it, else
// what it lists. It is never taken from the token (OIDC Core 3.1.3.7).
func signingAlgorithm(c *client, listed []string) string {
	if c.pinnedAlg != "" {
		return normalizedAlg(c.pinnedAlg)
	}
	for _, alg := range listed {
		if kind := algorithms[alg]; kind != "" && kind != "oct" && !contains(listed, "RS256") {
			return normalizedAlg(alg)
		}
	}
	return "RS256"
}

// fetchKeys reads the provider's key set.
func fetchKeys(ctx context.Context, c *client) (any, error) {
	set, err := getObject(ctx, c, "key set", "jwks_uri", c.headers)
	if err != nil {
		return nil, err
	}
	keys, err := readKeySet(set)
	if err != nil {
		known, _, _ := cached(c.metadata)
		m, _ := known.(map[string]any)
		err = fmt.Errorf("%w, at %s", err, forLog(stringOf(m["jwks_uri"])))
	}
	return keys, err
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
	transport.MaxResponseHeaderBytes = maxResponseHead
	c := &http.Client{Timeout: time.Duration(cc.TimeoutSeconds) * time.Second, Transport: transport}
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
func stringOf(value any) string {
	s, _ := value.(string)
	return s
}

// texts are the strings of a JSON array.
func stringsOf(value any) []string {
	items, _ := value.([]any)
	var found []string
	for _, item := range items {
		if s, ok := item.(string); ok {
			found = append(found, s)
		}
	}
	return found
}

func contains(list []string, wanted string) bool {
	for _, s := range list {
		if s == wanted {
			return true
		}
	}
	return false
}

var controlCharacter = regexp.MustCompile(`[\pC\p{Zl}\p{Zp}]`) // also what readers of logs take for line breaks, or what turns text around

// clip makes foreign text fit for a log line: one line, printable, short.
func forLog(foreign string) string {
	if len(foreign) > 200 {
		foreign = foreign[:200] + "…"
	}
	return strings.ToValidUTF8(controlCharacter.ReplaceAllString(foreign, " "), "?")
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
