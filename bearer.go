package oidc

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"text/template"
	"time"
)

// Requests with a token of their own: a JWT that is verified here (RFC 9068, RFC 8725), or any token that the provider is asked about
// (introspection.go). Such a request is judged by its token alone. It never falls back to a session, and is never redirected: a program
// would not know what to do with a sign-in page.

const (
	maxTokenRecheck       = 10 * time.Minute // how long a verified JWT is used without checking it again: its key may be withdrawn
	inactiveLifetime      = 5 * time.Second  // how long "not active" is cached at most
	protectedResourcePath = "/.well-known/oauth-protected-resource"
	anyScheme             = "*"
)

// tokenVerifier is what the jwt block or the oAuthIntrospection block configures.
type tokenVerifier struct {
	policy        *policy
	source        TokenSourceConfig
	headerNames   []string          // the headers that may carry a token
	schemes       map[string]string // by header: the scheme before the token; "": none, anyScheme: any or none
	tokenKey      string            // the parameter's name in a query or a form
	forwardsToken bool              // the token stays in the request for the upstream
	rules         *tokenRules
	keys          *cachedDocument // for jwt; nil: introspection

	client               *client // the provider to ask
	headers              map[string]*template.Template
	isTemplated          bool // the headers of the introspection request depend on the request
	looksBeyondHeaders   bool // a token may be in a place other than a header
	looksInSeveralPlaces bool // a token may be in more than one place
	tokenTypeHint        string
	cacheLifetime        time.Duration // how long an answer about a token is cached

	resource, metadataPath, metadataURL string // RFC 9728, "" without
}

// authenticateBearer returns the principal of a request's token, from the cache or a new one. found is false if there is no token.
func authenticateBearer(m *middleware, req *http.Request) (p *principal, found bool, err error) {
	p = nil
	raw, credential, err := findToken(m.tokens, req)
	if err != nil || credential == "" {
		return nil, err != nil, err
	}
	var headers map[string]string
	if m.tokens.introspection != nil {
		headers, credential, err = introspectionHeaders(m.tokens.introspection, req, credential)
	}
	if err == nil {
		p = findPrincipal(m.cache, credential)
		if p == nil || time.Until(p.validUntil) <= 0 {
			p, err = verifyBearer(req.Context(), m, raw, credential, headers)
		}
	}
	return p, true, err
}

// verifyBearer verifies a token that is not in the cache, and applies the rule.
func verifyBearer(ctx context.Context, m *middleware, raw, credential string, headers map[string]string) (*principal, error) {
	job, answer, err := inspectToken(ctx, m.tokens, raw, headers)
	if err != nil && !errors.Is(err, errUnavailable) {
		err = fmt.Errorf("%w: %s", errInvalidToken, err)
	}
	if err != nil {
		return nil, err
	}
	claims := withoutClientSubject(answer.claims)
	id := identity{"": claims, "access_token": claims, "raw": map[string]any{"access_token": raw}}
	p, err := evaluatePolicy(job.policy, id)
	if err != nil {
		return p, insufficientScope(claims)
	}
	if !job.forwardsToken {
		p.tokenHeader = tokenPlace(credential)
		p.mayHaveOtherTokens = job.looksInSeveralPlaces
	}
	if p.sub = stringOf(claims["sub"]); p.sub == "" && m.csrf != nil {
		p.credentialHash = hashText(credential)
	}
	p, err = rememberPrincipal(ctx, m.clientCredentials, m.cache, credential, p, tokenInfoEnd(job, answer))
	return p, err
}

// tokenPlace is the header that carried a token, or "hidden", which is no header's name.
func tokenPlace(credential string) string { return strings.SplitN(credential, ":", 2)[0] }

// withoutClientSubject removes sub from the claims of a token that a client obtained for itself. There sub is the client's own name (RFC 9068
// 2.2), which may be chosen freely at registration, so it must not pass for a user's (RFC 9700 4.15).
func withoutClientSubject(claims map[string]any) map[string]any {
	sub := stringOf(claims["sub"])
	isClient := sub == stringOf(claims["client_id"]) || sub == stringOf(claims["azp"])
	if claims["cid"] != nil || claims["appid"] != nil { // Okta, Entra v1
		isClient = isClient || sub == stringOf(claims["cid"]) || sub == stringOf(claims["appid"])
	}
	if sub == "" || !isClient {
		return claims
	}
	rest := mergeClaims(nil, claims)
	delete(rest, "sub")
	delete(rest, "username")
	return rest
}

// tokenInfo is what we know about a token, from its own claims or from the provider.
type tokenInfo struct {
	claims    map[string]any
	checkedAt time.Time
	isActive  bool
	err       error // why the provider gave no answer
	size      int   // bytes that the parsed answer takes
}

// inspectToken verifies a JWT here if there is a jwt block; otherwise it asks the provider.
func inspectToken(ctx context.Context, bt *bearerTokens, raw string, headers map[string]string) (*tokenVerifier, *tokenInfo, error) {
	t, err := parseToken(raw)
	if bt.jwt == nil || err != nil && bt.introspection != nil {
		answer, err := introspect(ctx, bt.introspection, raw, headers)
		return bt.introspection, answer, err
	}
	if err == nil {
		err = verifyToken(ctx, bt.jwt.keys, t, bt.jwt.rules.algorithms)
	}
	now := time.Now()
	if err == nil {
		err = checkAccessToken(bt.jwt.rules, t, now)
	}
	if err != nil {
		return nil, nil, err
	}
	return bt.jwt, &tokenInfo{claims: t.claims, checkedAt: now, isActive: true}, nil
}

// tokenInfoEnd is how long a tokenInfo is used: as long as the options say, but never longer than the token is valid.
func tokenInfoEnd(job *tokenVerifier, answer *tokenInfo) time.Time {
	if answer.err != nil {
		return answer.checkedAt.Add(outageLifetime)
	}
	if !answer.isActive && job.cacheLifetime > inactiveLifetime {
		return answer.checkedAt.Add(inactiveLifetime)
	}
	end := answer.checkedAt.Add(job.cacheLifetime)
	if exp, err := numericDate(answer.claims, "exp"); err == nil && exp > 0 && exp < end.Unix() {
		return time.Unix(exp, 0)
	}
	return end
}

// printableASCII matches the characters of an access token (RFC 6749 A.12).
var printableASCII = regexp.MustCompile(`^[ -~]+$`)

// findToken returns a request's token, and the credential by which it is cached, or "". More than one token is an error (RFC 6750 2).
func findToken(bt *bearerTokens, req *http.Request) (raw, credential string, err error) {
	found := map[string]string{} // by credential, because both blocks may look in the same place
	for _, job := range bt.all {
		for _, name := range job.headerNames {
			lines := req.Header[name]
			if len(lines) > 1 { // the upstream might read another one than we do
				return "", "", fmt.Errorf("%w: more than one %s header", errInvalidRequest, name)
			}
			// White space is normalized, or the upstream might read a token that we did not, and every spelling would be cached.
			line := strings.Join(strings.Fields(strings.Join(lines, "")), " ")
			if raw, ok := afterScheme(line, job.schemes[name]); ok {
				found[name+": "+line] = raw
			}
		}
		if job.looksBeyondHeaders {
			for _, raw := range tokensBeyondHeaders(job, req) {
				found["hidden: "+raw] = raw
			}
			delete(found, "hidden: ") // a parameter without a value counts as omitted (RFC 6749 3.1)
		}
	}
	if len(found) > 1 {
		return onlyToken(found)
	}
	for only := range found {
		return found[only], only, nil
	}
	return "", "", nil
}

// onlyToken returns the token if all headers carry the same one, as some proxies send it.
func onlyToken(found map[string]string) (raw, credential string, err error) {
	raw, credential = "", ""
	for name, token := range found {
		if raw != "" && token != raw || strings.HasPrefix(name, "hidden: ") {
			return "", "", fmt.Errorf("%w: more than one token was sent", errInvalidRequest)
		}
		raw = token
		if credential == "" || name < credential {
			credential = name
		}
	}
	return raw, credential, nil
}

// tokensBeyondHeaders returns the tokens in a cookie, the query, a form or a websocket's protocols, as far as the options allow them.
func tokensBeyondHeaders(job *tokenVerifier, req *http.Request) []string {
	var found []string
	if job.source.Cookie != "" {
		found = cookieValues(req, job.source.Cookie)
	}
	if job.source.WebSocketProtocol {
		tokens, _ := protocolTokens(req)
		found = append(found, tokens...)
	}
	if job.source.Query+job.tokenKey != "" {
		query, _ := url.ParseQuery(req.URL.RawQuery) // what cannot be decoded is not a token
		delete(query, "")                            // so an unset tokenKey finds nothing
		found = append(append(found, query[job.source.Query]...), query[job.tokenKey]...)
	}
	if text, isRead := readTokenForm(job, req); isRead {
		form, _ := url.ParseQuery(text)
		found = append(found, form[job.tokenKey]...)
	}
	return found
}

// readTokenForm reads the form of a request, if it may hold a token, and puts it back for the upstream. Any other body is left alone.
func readTokenForm(job *tokenVerifier, req *http.Request) (text string, isRead bool) {
	if job.tokenKey == "" || req.Method != http.MethodPost || req.ContentLength < 0 || req.ContentLength > maxForm {
		return "", false
	}
	text, err := readForm(req)
	if err == nil {
		req.Body = io.NopCloser(strings.NewReader(text))
	}
	return text, err == nil
}

// protocolTokens splits the protocols that a websocket client offers into tokens and others. It is the only header that a browser lets a
// page set on a websocket. The token either follows the word bearer, or is in base64url after the prefix that Kubernetes defined for that.
func protocolTokens(req *http.Request) (tokens, others []string) {
	tokens = nil
	others = nil
	isNext := false
	for _, item := range strings.SplitN(strings.Join(req.Header["Sec-Websocket-Protocol"], ","), ",", maxMentions) {
		item = strings.TrimSpace(item)
		encoded, isEncoded := strings.CutPrefix(item, "base64url.bearer.authorization.k8s.io.")
		if plain, err := base64url.DecodeString(encoded); isEncoded && err == nil {
			tokens = append(tokens, string(plain))
		} else if isNext {
			tokens = append(tokens, item)
		} else {
			others = append(others, item)
		}
		isNext = !isNext && strings.EqualFold(item, "bearer")
	}
	return tokens, others
}

// removeTokens removes tokens wherever they are: the upstream does not need them, and might log them.
func removeTokens(bt *bearerTokens, req *http.Request) {
	for _, job := range bt.all {
		for _, name := range job.headerNames {
			if !job.forwardsToken {
				delete(req.Header, name)
			}
		}
		if job.looksBeyondHeaders && !job.forwardsToken {
			removeTokensBeyondHeaders(job, req)
		}
	}
}

// removeTokensBeyondHeaders removes the token from a cookie, the query, a form and a websocket's protocols. Everything else there stays as it
// was written.
func removeTokensBeyondHeaders(job *tokenVerifier, req *http.Request) {
	if job.source.Cookie != "" {
		var kept []string
		for _, part := range cookiePairs(req) {
			if name, _, _ := strings.Cut(strings.TrimSpace(part), "="); name != job.source.Cookie {
				kept = append(kept, strings.TrimSpace(part))
			}
		}
		setHeader(req, "Cookie", strings.Join(kept, "; "))
	}
	if _, others := protocolTokens(req); job.source.WebSocketProtocol {
		setHeader(req, "Sec-Websocket-Protocol", strings.Join(others, ", "))
	}
	names := []string{job.source.Query, job.tokenKey}
	if query := withoutFields(req.URL.RawQuery, names); query != req.URL.RawQuery {
		req.URL.RawQuery = query
		req.RequestURI = req.URL.RequestURI() // this is what Traefik sends
	}
	if text, isRead := readTokenForm(job, req); isRead {
		text = withoutFields(text, names[1:])
		req.Body = io.NopCloser(strings.NewReader(text))
		req.ContentLength = int64(len(text))
		setHeader(req, "Content-Length", fmt.Sprint(len(text)))
	}
}

// setHeader sets a header to one value, or removes it if the value is empty.
func setHeader(req *http.Request, name, value string) {
	delete(req.Header, name)
	if value != "" {
		req.Header[name] = []string{value}
	}
}

// withoutFields removes the fields with these names from a query or form.
func withoutFields(text string, names []string) string {
	var kept []string
	for _, pair := range strings.Split(text, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err != nil || plain == "" || !contains(names, plain) {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}

// afterScheme returns the token in a header's value. The case of the scheme is ignored (RFC 9110 11.1).
func afterScheme(value, scheme string) (raw string, ok bool) {
	if scheme == "" {
		return value, value != ""
	}
	if scheme == anyScheme {
		return value[strings.LastIndexByte(value, ' ')+1:], value != ""
	}
	word, raw, _ := strings.Cut(value, " ")
	return raw, strings.EqualFold(word, scheme)
}

// bearerTokens are the verifiers of the tokens that requests bring.
type bearerTokens struct {
	jwt, introspection *tokenVerifier   // nil without that block
	all                []*tokenVerifier // those that are not nil
}

// newBearerTokens makes the verifiers of the jwt and oAuthIntrospection blocks. login is the sign-in's client, nil without one.
func newBearerTokens(ctx context.Context, l *logger, c *Config, login *client, p *problems) *bearerTokens {
	bt := &bearerTokens{jwt: newJWTVerifier(ctx, l, c, login, p), introspection: newIntrospectionVerifier(ctx, l, c, login, p)}
	for _, v := range []*tokenVerifier{bt.jwt, bt.introspection} {
		if v != nil {
			bt.all = append(bt.all, v)
		}
	}
	return bt
}

// newTokenVerifier makes what both blocks have in common.
func newTokenVerifier(c *TokenConfig, at string, clockSkew int, p *problems) *tokenVerifier {
	by, source, audience, resource := newPolicy(&c.PolicyConfig, at, p), c.TokenSource, c.Audience, c.Resource
	if source.Header+source.Query+source.Cookie == "" && len(source.Headers) == 0 && !source.WebSocketProtocol {
		source.Header = "Authorization"
		source.HeaderAuthScheme = "Bearer"
	}
	if len(audience) == 0 && resource != "" {
		audience = []string{resource} // RFC 8707 2.2
	}
	job := &tokenVerifier{policy: by, source: source, resource: resource, forwardsToken: c.ForwardAuthorization, rules: &tokenRules{audience: audience, skew: int64(clockSkew)}}
	job.looksBeyondHeaders = source.Query+source.Cookie != "" || source.WebSocketProtocol
	job.schemes = map[string]string{}
	for _, name := range source.Headers {
		job.schemes[http.CanonicalHeaderKey(name)] = anyScheme
	}
	if source.Header != "" {
		job.schemes[http.CanonicalHeaderKey(source.Header)] = source.HeaderAuthScheme
	}
	for name := range job.schemes {
		job.headerNames = append(job.headerNames, name)
	}
	if at, err := url.Parse(resource); err == nil && resource != "" {
		if at.Path == "/" {
			at.Path = "" // RFC 9728 3.1: only a slash that is the whole path is left out
		}
		job.metadataURL = at.Scheme + "://" + at.Host + protectedResourcePath + at.EscapedPath()
		job.metadataPath = protectedResourcePath + at.Path
	}
	job.looksInSeveralPlaces = job.looksBeyondHeaders || len(job.headerNames) > 1
	return job
}

// asymmetric are the algorithms whose verification key cannot sign. The key decides which of them a token may use.
var asymmetric = strings.Fields("RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA")

// newJWTVerifier makes the verifier of the jwt block; nil without one.
func newJWTVerifier(ctx context.Context, l *logger, c *Config, login *client, p *problems) *tokenVerifier {
	j := c.JWT
	if j == nil {
		return nil
	}
	job := newTokenVerifier(&j.TokenConfig, "jwt.", c.ClockSkewSeconds, p)
	job.tokenKey = j.TokenKey
	job.looksBeyondHeaders = job.looksBeyondHeaders || j.TokenKey != ""
	job.looksInSeveralPlaces = job.looksInSeveralPlaces || job.looksBeyondHeaders
	job.cacheLifetime = maxTokenRecheck
	if job.rules.audience == nil && c.Issuer != "" {
		job.rules.audience = []string{c.ClientID}
	}
	job.rules.acceptsIDTokens = j.AcceptIDTokens
	if c.Issuer != "" {
		job.rules.client = c.ClientID
	}
	for _, alg := range j.Algorithms {
		job.rules.algorithms = append(job.rules.algorithms, normalizedAlg(alg))
	}
	if len(j.Algorithms) == 0 {
		job.rules.algorithms = asymmetric
	}
	if j.Issuer != "" {
		job.rules.issuers = []string{j.Issuer}
	}
	if j.SigningSecret != "" {
		one, err := secretKey(j, job.rules)
		p.addError("jwt.signingSecret", err)
		job.keys = newFixedKeySet(one)
	} else if j.PublicKey != "" {
		one, err := parsePublicKeyPEM(j.PublicKey)
		p.addError("jwt.publicKey", err)
		job.keys = newFixedKeySet(one)
	} else if j.JWKSFile != "" {
		keys, err := fileKeys(j.JWKSFile)
		p.addError("jwt.jwksFile", err)
		job.keys = newFixedKeySet(keys...)
	} else {
		job.keys = remoteKeys(ctx, l, c, login, job, p)
	}
	return job
}

// remoteKeys returns the keys of an issuer or at an address, or those of the sign-in's provider if that is the issuer or nothing is configured.
func remoteKeys(ctx context.Context, l *logger, c *Config, login *client, job *tokenVerifier, p *problems) *cachedDocument {
	j := c.JWT
	if c.Issuer != "" && j.JWKSURL == "" && (j.Issuer == "" || j.Issuer == c.Issuer) {
		if login == nil {
			return nil // reported already
		}
		if job.rules.providerIssuer = login.rules.providerIssuer; j.Issuer == "" {
			job.rules.issuers = login.rules.issuers
		}
		return login.keys
	}
	at := &Config{}
	at.ClientConfig = j.ClientConfig.ClientConfig
	if at.Endpoints.JWKS = j.JWKSURL; j.JWKSURL == "" {
		at.Issuer = j.Issuer // discovered
	} else if j.JWKSURL[0] == '/' {
		at.Endpoints.JWKS = strings.TrimSuffix(j.Issuer, "/") + j.JWKSURL
	}
	if c := findClient(ctx, l, at, j.ClientConfig.Headers, "jwt.clientConfig", p); c != nil {
		job.rules.providerIssuer = c.rules.providerIssuer
		return c.keys
	}
	return nil // reported already
}

// secretKey makes the HMAC key, for those algorithms for which the secret is long enough (RFC 7518 3.2).
func secretKey(j *JWTConfig, rules *tokenRules) (*key, error) {
	secret := []byte(j.SigningSecret)
	if j.SigningSecretBase64Encoded {
		var err error
		if secret, err = base64.RawStdEncoding.DecodeString(base64Spellings.Replace(j.SigningSecret)); err != nil {
			return nil, errors.New("must be base64, as signingSecretBase64Encoded says")
		}
	}
	if len(j.Algorithms) == 0 {
		rules.algorithms = []string{"HS256"}
		for _, alg := range []string{"HS384", "HS512"} {
			if len(secret) >= minHMACKeyBytes[alg] {
				rules.algorithms = append(rules.algorithms, alg)
			}
		}
	}
	one, err := newSecretKey(secret, rules.algorithms)
	return one, err
}

// base64Spellings makes one of the four ways to write base64: with either alphabet, padded or not.
var base64Spellings = strings.NewReplacer("-", "+", "_", "/", "=", "")

// fileKeys reads a key set from a file, or from the option itself.
func fileKeys(jwksFile string) ([]*key, error) {
	data := []byte(jwksFile)
	if !strings.HasPrefix(strings.TrimSpace(jwksFile), "{") {
		var err error
		if data, err = readNamedFile(jwksFile); err != nil {
			return nil, err
		}
	}
	set, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	return readKeySet(set)
}

// insufficientScope is the error for a token that the rule refused. Like the rule, it does not see the sub of a client's own token.
func insufficientScope(claims map[string]any) error {
	return fmt.Errorf("%w: the rule says no to sub %s, client_id %s, azp %s", errInsufficientScope, quoteJSON(claims["sub"]), quoteJSON(claims["client_id"]), quoteJSON(claims["azp"]))
}
