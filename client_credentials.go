package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Tokens for the upstream by the client credentials grant (RFC 6749 4.4): with the middleware's own client, or with credentials that the
// caller sends as Basic. However many requests wait, the provider gets one. A token is renewed before it expires; while the provider is
// unavailable, it is used until it expires.

const (
	renewLead               = 30 * time.Second // a token is renewed this long before it expires, or after three quarters of a short life
	defaultUpstreamLifetime = time.Minute      // for a token without a known expiry
	refusalLifetime         = 10 * time.Second // how long a refusal is cached
	outageLifetime          = time.Second      // the same while the provider is unavailable
)

// How many credentials callers may try within a minute: each attempt costs the provider a request. Credentials that are known to be valid do
// not count.
const (
	maxGuessesPerCaller = 20
	maxGuesses          = 300
)

// guesses are attempts within a minute that have not succeeded (yet).
type guesses struct {
	since time.Time
	count int
}

// countGuess counts an attempt with unknown credentials, and refuses it if there were too many from that caller or from all. A refused attempt
// does not count, so one caller cannot use up the attempts of all others. With -1 it takes one that was no guess out of the count.
func countGuess(c *client, caller string, by int) error {
	now := time.Now()
	c.outageLock.Lock()
	defer c.outageLock.Unlock()
	all := guessesOf(c, "all", now)
	if all.count+by > maxGuesses {
		return errorf("%w: client credentials: %d were wrong within a minute, of all", errTooManyGuesses, maxGuesses)
	}
	one := guessesOf(c, caller, now)
	if one.count+by > maxGuessesPerCaller {
		return errorf("%w: client credentials: %d were wrong within a minute, of %s", errTooManyGuesses, maxGuessesPerCaller, caller)
	}
	all.count += by
	one.count += by
	return nil
}

// guessesOf returns a caller's guesses of this minute.
func guessesOf(c *client, whose string, now time.Time) *guesses {
	known, _ := cacheGet(c.responses, "guesses of "+whose).(*guesses)
	if known == nil || now.Sub(known.since) > time.Minute {
		known = &guesses{since: now}
		cacheSet(c.responses, "guesses of "+whose, known, 0)
	}
	return known
}

// callerAddress identifies a caller by its address; with IPv6, by the part that an access provider assigns to one customer.
func callerAddress(s *ipStrategy, req *http.Request) string {
	ip := clientIP(s, req)
	if len(ip) == net.IPv6len && ip.To4() == nil {
		ip = ip.Mask(net.CIDRMask(64, 128))
	}
	return ip.String()
}

// clientCredentials is what the oAuthClientCredentials block configures.
type clientCredentials struct {
	client       *client
	policy       *policy
	form         string // the parameters of the token request
	hasOwnClient bool   // we have our own client; otherwise callers send their credentials
	salt         string // for hashing credentials into cache keys
	store        *store // nil: tokens are kept in memory only
	sealer       *sealer
}

// upstreamToken is a token for the upstream. In the store it is JSON.
type upstreamToken struct {
	Raw            string
	RenewAt, EndAt time.Time
	claims         map[string]any `json:"-"` // when it is a JWT; the interpreter exports every field
}

// newClientCredentials makes what the oAuthClientCredentials block configures.
func newClientCredentials(l *logger, config *Config, p *problems) *clientCredentials {
	c := config.OAuthClientCredentials
	const block = "oAuthClientCredentials."
	cc := &clientCredentials{hasOwnClient: c.ClientID != ""}
	p.failIf(!cc.hasOwnClient && (config.Issuer != "" || config.JWT != nil || config.OAuthIntrospection != nil), block+"clientId", "required beside another job: a caller cannot bring two kinds of credentials")
	form := url.Values{"grant_type": {"client_credentials"}}
	for name, value := range c.Params {
		form.Set(name, value)
	}
	if c.Audience != "" {
		form.Set("audience", c.Audience)
	}
	if len(c.Scopes) > 0 {
		form.Set("scope", strings.Join(c.Scopes, " "))
	}
	cc.form = form.Encode()
	cc.policy = newPolicy(&c.PolicyConfig, block, p)
	format, _ := parseHeaderFormat("Bearer {access_token}")
	cc.policy.headers = append(cc.policy.headers, &forwardHeader{name: "Authorization", format: format})
	at := &Config{ProviderConfig: ProviderConfig{Issuer: c.URL, ClientID: c.ClientID, ClientSecret: c.ClientSecret, ClientAuthMethod: c.ClientAuthMethod, ClientKey: c.ClientKey,
		ClientKeyID: c.ClientKeyID, ClientKeyAlg: c.ClientKeyAlg, ClientCertificate: c.ClientCertificate, ClientConfig: c.ClientConfig, Endpoints: EndpointsConfig{Token: c.URL}}}
	if config.Issuer != "" && strings.HasPrefix(c.URL, config.Issuer) {
		at.Issuer = config.Issuer // the audience of client assertions (RFC 7523 3); it is the endpoint if the issuer is unknown
	}
	for _, alg := range strings.Fields("RS256 ES256 ES384 ES512 EdDSA") { // if none is configured, the key decides
		if _, err := parsePrivateKeyPEM(c.ClientKey, alg); c.ClientKeyAlg == "" && (err == nil || alg == "RS256") {
			at.ClientKeyAlg = alg
		}
	}
	if c.Store.Redis != nil {
		var err error
		cc.store, err = newStore(c.Store.Redis, c.Store.KeyPrefix, nil, c.ClientConfig.TimeoutSeconds)
		p.addError(block+"store.redis", err)
		cc.salt = string(deriveKey(c.Store.Secret, c.URL+"\x00"+c.ClientID+"\x00names"))
		cc.sealer = newSealer([]string{c.Store.Secret}, c.URL, c.ClientID, "token")
	}
	if cc.salt == "" {
		cc.salt = replicaID
	}
	cc.client = findClient(l, at, nil, block+"clientConfig", p)
	return cc
}

// authenticateClientCredentials lets a request in if there is a token for the upstream: our own for everybody, or one for the credentials that
// the caller sends (application level).
func authenticateClientCredentials(m *middleware, req *http.Request) (*principal, error) {
	var credential, id, secret string
	if m.tokens.all != nil { // a bearer token is required, and there was none
		return nil, errNoCredentials
	}
	if !m.clientCredentials.hasOwnClient {
		lines := req.Header["Authorization"]
		if len(lines) > 1 {
			return nil, errorf("%w: more than one Authorization header", errInvalidRequest)
		}
		var ok bool
		if id, secret, ok = req.BasicAuth(); !ok || id == "" { // a client has an ID (RFC 6749 2.3.1)
			return nil, errNoCredentials
		}
		credential = "Authorization: " + lines[0]
	}
	if known := findPrincipal(m.cache, credential); known != nil {
		return known, nil
	}
	p := &principal{}
	until := time.Now().Add(maxRecheckInterval)
	if !m.clientCredentials.hasOwnClient {
		var err error
		if until, err = addUpstreamToken(req.Context(), m.clientCredentials, p, id, secret, callerAddress(m.ipStrategy, req)); err != nil {
			return nil, err
		}
	}
	return rememberPrincipal(req.Context(), m.clientCredentials, m.cache, credential, p, until)
}

// addUpstreamToken adds the token for the upstream, and the headers made from it, to a principal. Headers about the user that are set already
// stay; only Authorization is replaced. until is when the token is to be renewed.
func addUpstreamToken(ctx context.Context, cc *clientCredentials, p *principal, id, secret, caller string) (until time.Time, err error) {
	known, err := obtainToken(ctx, cc, id, secret, caller)
	if err != nil {
		return time.Time{}, err
	}
	t, _ := known.value.(*upstreamToken)
	made, err := evaluatePolicy(cc.policy, identity{"": t.claims, "access_token": t.claims, "raw": map[string]any{"access_token": t.Raw}})
	if err != nil {
		return time.Time{}, errorf("%w: oAuthClientCredentials.claims says no to the token for the upstream", errNotAllowed)
	}
	for i, name := range made.names {
		if name == "Authorization" || !contains(p.names, name) {
			p.names = append(p.names, name)
			p.values = append(p.values, made.values[i])
		}
	}
	if p.user == nil {
		p.user = made.user
	}
	return known.until, nil
}

// obtainToken returns a client's token, from the cache or a new one.
func obtainToken(ctx context.Context, cc *clientCredentials, id, secret, caller string) (*fetched, error) {
	key := hashText(cc.salt + id + "\x00" + secret + "\x00" + cc.form)
	c := cc.client
	known, isOld := cached(c.responses, key)
	if !isOld {
		return known, nil
	}
	return refetch(ctx, c.responses, key, known.version, func(ctx context.Context, made *fetched) error {
		if !time.Now().Before(made.end) {
			made.value = nil
		}
		isGuess := !cc.hasOwnClient && made.value == nil
		if isGuess {
			if err := countGuess(c, caller, 1); err != nil {
				return err
			}
		}
		t, err := fetchUpstreamToken(ctx, cc, id, secret, key)
		isAway := errors.Is(err, errUnavailable)
		if isGuess && (err == nil || isAway) {
			_ = countGuess(c, caller, -1)
		}
		if err == nil {
			made.value = t
			made.size = parsedJSONFactor * len(t.Raw)
			made.until = t.RenewAt
			made.end = t.EndAt
		} else if !isAway || made.value == nil {
			*made = fetched{backoff: backoff{until: time.Now().Add(refusalLifetime), err: err}}
			if isAway {
				made.backoff.until = time.Now().Add(outageLifetime)
			}
		}
		return nil
	})
}

// fetchUpstreamToken gets a token from the store, where another replica may have put one, or from the provider. If the store fails, the
// provider is asked.
func fetchUpstreamToken(ctx context.Context, cc *clientCredentials, id, secret, key string) (*upstreamToken, error) {
	t := &upstreamToken{}
	sealed, storeErr := tokenStoreDo(ctx, cc, key, "GET")
	plain, _, err := open(cc.sealer, key, stringOf(sealed))
	if err != nil || json.Unmarshal(plain, t) != nil || !time.Now().Before(t.RenewAt) {
		if t, err = requestUpstreamToken(ctx, cc, id, secret); err != nil {
			return nil, err
		}
		plain, _ = json.Marshal(t)              // only strings and times: cannot fail
		if cc.store != nil && storeErr == nil { // do not wait for a store that has just failed
			_, _ = tokenStoreDo(ctx, cc, key, "SET", seal(cc.sealer, key, plain), "PX", milliseconds(time.Until(t.EndAt)))
		}
	}
	if parsed, err := parseToken(t.Raw); err == nil {
		t.claims = parsed.claims
	}
	return t, nil
}

// tokenStoreDo sends the store, if there is one, a command about a token.
func tokenStoreDo(ctx context.Context, cc *clientCredentials, key, command string, rest ...string) (any, error) {
	if cc.store == nil {
		return nil, nil
	}
	reply, err := storeDo(ctx, cc.store, "token:{"+key+"}", command, rest...)
	if err != nil {
		logf(cc.client.log, levelWarn, "client credentials: %s", err)
	}
	return reply, err
}

// requestUpstreamToken sends the token request.
func requestUpstreamToken(ctx context.Context, cc *clientCredentials, id, secret string) (*upstreamToken, error) {
	c := cc.client
	form, _ := url.ParseQuery(cc.form)
	var headers map[string]string
	if !cc.hasOwnClient {
		headers = map[string]string{"Authorization": basicAuthorization(id, secret)}
	}
	now := time.Now()
	if err := outageOf(c); err != nil && !cc.hasOwnClient {
		return nil, err
	}
	status, body, _, err := request(ctx, c, "client credentials", c.endpoints.Token, form, headers, c.retries)
	answer, _ := parseGrant(body)
	code := stringOf(answer["error"]) // some servers send it with 200
	isAway := status >= http.StatusInternalServerError || status == http.StatusTooManyRequests || isOneOf(temporaryErrors, code)
	outage := err
	if isAway && status != http.StatusInternalServerError { // 500 may be about these credentials alone, which a caller made up
		outage = firstError(err, errorf("%w: client credentials: POST %s: %d %s", errUnavailable, forLog(c.endpoints.Token), status, http.StatusText(status)))
	}
	recordOutage(c, outage)
	if err != nil {
		return nil, err
	}
	if !isAway && (status >= http.StatusBadRequest || code != "") {
		return nil, refusedClient(cc, status, code, stringOf(answer["error_description"]))
	}
	t, err := readTokenResponse(c, status, body)
	if err != nil {
		logf(c.log, levelError, "client credentials: %s", err)
		return nil, err
	}
	life := time.Duration(t.expiresIn) * time.Second
	if life == 0 {
		if parsed, err := parseToken(t.accessToken); err == nil { // a JWT has its own expiry
			exp, _ := numericDate(parsed.claims, "exp")
			life = time.Unix(exp, 0).Sub(now)
		}
	}
	if life <= 0 {
		life = defaultUpstreamLifetime
		logf(c.log, levelInfo, "client credentials: expires_in: expected the seconds that the token lasts, got none; it is used for %s", life)
	}
	lead := renewLead
	if lead > life/4 {
		lead = life / 4
	}
	return &upstreamToken{Raw: t.accessToken, RenewAt: now.Add(life - lead), EndAt: now.Add(life)}, nil
}

// refusedClient is the error for a refusal by the provider (RFC 6749 5.2). Wrong credentials are the fault of whoever supplied them: the
// caller or the operator.
func refusedClient(cc *clientCredentials, status int, code, description string) error {
	reason := fmt.Sprintf("client credentials: POST %s: %d %s %q", cc.client.endpoints.Token, status, forLog(code), forLog(description))
	if !cc.hasOwnClient && (status == http.StatusUnauthorized || isOneOf(clientErrors+" "+userErrors+" invalid_grant", code)) {
		return errorf("%w: %s: the caller's credentials are wrong", errInvalidToken, reason)
	}
	logf(cc.client.log, levelError, "%s; check clientId, clientSecret, scopes and audience of oAuthClientCredentials", reason)
	return errorf("%w: %s", errRefused, reason)
}
