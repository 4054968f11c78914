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
	schemes       map[string]string // of the headers that may carry a token: the scheme before it; "": none, anyScheme: any or none
	cookiePattern *regexp.Regexp    // of the cookie that may carry a token
	tokenKey      string            // the parameter's name in a query or a form
	forwardsToken bool              // the token stays in the request for the upstream
	rules         *tokenRules
	keys          *cachedDocument // for jwt; nil: introspection

	client             *client // the provider to ask
	headers            map[string]*template.Template
	isTemplated        bool // the headers of the introspection request depend on the request
	looksBeyondHeaders bool // a token may be in a place other than a header
	hasOtherPlaces     bool // a request may have more than one token for it
	tokenTypeHint      string
	cacheLifetime      time.Duration // how long a tokenInfo is cached

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
		if p = findPrincipal(m.cache, credential); p == nil {
			p, err = verifyBearer(req.Context(), m, raw, credential, headers)
		}
	}
	return p, true, err
}

// verifyBearer verifies a token that is not in the cache, and applies the rule.
func verifyBearer(ctx context.Context, m *middleware, raw, credential string, headers map[string]string) (p *principal, err error) {
	v, info, err := inspectToken(ctx, m.tokens, raw, headers)
	if err != nil {
		return nil, invalidToken(err)
	}
	claims := withoutClientSubject(info.claims)
	if p, err = evaluatePolicy(v.policy, identity{"": claims, "access_token": claims, "raw": map[string]any{"access_token": raw}}); err != nil {
		return p, insufficientScope(claims)
	}
	if !v.forwardsToken {
		p.tokenHeader, _, _ = cut(credential, ":") // "hidden", which is no header's name, if no header carried it
		p.mayHaveOtherTokens = v.hasOtherPlaces
	}
	p.sub, _ = claims["sub"].(string)
	if m.csrf != nil && p.sub == "" {
		p.credentialHash = hashText(credential)
	}
	return rememberPrincipal(ctx, m.clientCredentials, m.cache, credential, p, tokenInfoEnd(v, info))
}

// invalidToken is the error for a token that could not be verified.
func invalidToken(err error) error {
	if errors.Is(err, errUnavailable) {
		return err
	}
	return errorf("%w: %s", errInvalidToken, err)
}

// withoutClientSubject removes sub from the claims of a token that a client obtained for itself. There sub is the client's own name (RFC 9068
// 2.2), which may be chosen freely at registration, so it must not pass for a user's (RFC 9700 4.15).
func withoutClientSubject(claims map[string]any) map[string]any {
	sub, _ := claims["sub"].(string)
	isClient := false
	for _, name := range clientClaims {
		isClient = isClient || claims[name] == sub
	}
	if !isClient {
		return claims
	}
	rest := mergeClaims(nil, claims)
	delete(rest, "sub")
	delete(rest, "username")
	return rest
}

// clientClaims are the claims that name the client: RFC 9068 2.2, OIDC Core 2, Okta, Entra v1.
var clientClaims = strings.Fields("client_id azp cid appid")

// tokenInfo is what we know about a token, from its own claims or from the provider.
type tokenInfo struct {
	claims    map[string]any
	expiry    int64 // 0: none is known
	checkedAt time.Time
	isActive  bool
}

// inspectToken verifies a JWT here if there is a jwt block; otherwise it asks the provider.
func inspectToken(ctx context.Context, bt *bearerTokens, raw string, headers map[string]string) (v *tokenVerifier, info *tokenInfo, err error) {
	t, err := parseToken(raw)
	if v = bt.jwt; v == nil || err != nil && bt.introspection != nil {
		v = bt.introspection
		info, err = introspect(ctx, v, raw, headers)
		return v, info, err
	}
	if err == nil {
		err = verifyToken(ctx, v.keys, t, v.rules.algorithms)
	}
	if err != nil {
		return nil, nil, err
	}
	now := timeNow()
	err = checkAccessToken(v.rules, t, now)
	return v, &tokenInfo{claims: t.claims, checkedAt: now, expiry: t.expiry, isActive: true}, err
}

// tokenInfoEnd is when to stop using a tokenInfo: after the time that the options say, but never after the token's expiry.
func tokenInfoEnd(v *tokenVerifier, info *tokenInfo) (end time.Time) {
	life := v.cacheLifetime
	if !info.isActive && life > inactiveLifetime {
		life = inactiveLifetime
	}
	end = info.checkedAt.Add(life)
	if info.expiry > 0 && info.expiry <= end.Unix() && info.isActive {
		return fromUnix(info.expiry, 0)
	}
	return end
}

// printableASCII matches the characters of an access token (RFC 6749 A.12).
var printableASCII = regexp.MustCompile(`^[ -~]+$`)

// findToken returns a request's token, and the credential by which it is cached, or "". More than one token is an error (RFC 6750 2).
func findToken(bt *bearerTokens, req *http.Request) (raw, credential string, err error) {
	found := map[string]string{} // by credential, because both blocks may look in the same place
	raw, credential = "", ""
	for _, v := range bt.all {
		for name, scheme := range v.schemes {
			lines := req.Header[name]
			if len(lines) > 1 { // the upstream might read another one than we do
				return "", "", errorf("%w: more than one %s header", errInvalidRequest, name)
			}
			// White space is normalized, or the upstream might read a token that we did not, and every spelling would be cached.
			line := joinTexts(fieldsOf(joinTexts(lines, "")), " ")
			if token, ok := afterScheme(line, scheme); ok {
				raw = token
				credential = name + ": " + line
				found[credential] = token
			}
		}
	}
	if len(found) > 1 || bt.looksBeyondHeaders {
		return chooseToken(bt, req, found)
	}
	return raw, credential, nil
}

// chooseToken is the rest of findToken for a request that may have tokens in several places.
func chooseToken(bt *bearerTokens, req *http.Request, found map[string]string) (raw, credential string, err error) {
	for _, v := range bt.all {
		if v.looksBeyondHeaders {
			for _, raw := range tokensBeyondHeaders(v, req) {
				found["hidden: "+raw] = raw
			}
		}
	}
	delete(found, "hidden: ") // a parameter without a value counts as omitted (RFC 6749 3.1)
	raw, credential = "", ""
	for name, token := range found {
		// Some proxies send one token in several headers, but none repeats it elsewhere.
		if len(found) > 1 && (raw != "" && token != raw || hasPrefix(name, "hidden: ")) {
			return "", "", errorf("%w: more than one token was sent", errInvalidRequest)
		}
		raw = token
		if credential == "" || name < credential {
			credential = name
		}
	}
	return raw, credential, nil
}

// tokensBeyondHeaders returns the tokens in a cookie, the query, a form or a websocket's protocols, as far as the options allow them.
func tokensBeyondHeaders(v *tokenVerifier, req *http.Request) []string {
	var found []string
	if v.source.Cookie != "" {
		found = cookieValues(req, v.source.Cookie)
	}
	if v.source.WebSocketProtocol {
		tokens, _ := protocolTokens(req)
		found = append(found, tokens...)
	}
	query, _ := url.ParseQuery(req.URL.RawQuery) // what cannot be decoded is not a token
	delete(query, "")                            // so an unset option finds nothing
	found = append(append(found, query[v.source.Query]...), query[v.tokenKey]...)
	if text, isRead := readTokenForm(v, req); isRead {
		form, _ := url.ParseQuery(text)
		found = append(found, form[v.tokenKey]...)
	}
	return found
}

// readTokenForm reads the form of a request, if it may hold a token, and puts it back for the upstream. Any other body is left alone. An unknown
// length is -1, a very large one without its sign.
func readTokenForm(v *tokenVerifier, req *http.Request) (text string, isRead bool) {
	if v.tokenKey == "" || req.Method != http.MethodPost || uint64(req.ContentLength) > maxForm {
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
	for _, item := range splitN(joinTexts(req.Header["Sec-Websocket-Protocol"], ","), ",", maxMentions) {
		item = strings.TrimSpace(item)
		encoded, isEncoded := strings.CutPrefix(item, "base64url.bearer.authorization.k8s.io.")
		if plain, err := base64url.DecodeString(encoded); isEncoded && err == nil {
			tokens = append(tokens, string(plain))
		} else if isNext {
			tokens = append(tokens, item)
		} else {
			others = append(others, item)
		}
		isNext = !isNext && equalFold(item, "bearer")
	}
	return tokens, others
}

// removeTokens removes tokens wherever they may be: the upstream does not need them, and might log them. What is beside a token stays as it
// was written.
func removeTokens(bt *bearerTokens, req *http.Request) {
	for _, v := range bt.all {
		if v.forwardsToken {
			continue
		}
		for name := range v.schemes {
			delete(req.Header, name)
		}
		if v.source.Cookie != "" {
			stripCookies(v.cookiePattern, req)
		}
		if _, others := protocolTokens(req); v.source.WebSocketProtocol {
			setHeader(req, "Sec-Websocket-Protocol", joinTexts(others, ", "))
		}
		u := req.URL
		if query := withoutFields(u.RawQuery, v.source.Query, v.tokenKey); query != u.RawQuery {
			u.RawQuery = query
			req.RequestURI = u.RequestURI() // this is what Traefik sends
		}
		if text, isRead := readTokenForm(v, req); isRead {
			text = withoutFields(text, v.tokenKey)
			req.Body = io.NopCloser(strings.NewReader(text))
			req.ContentLength = int64(len(text))
			setHeader(req, "Content-Length", fmt.Sprint(len(text)))
		}
	}
}

// withoutFields removes the fields with these names from a query or form.
func withoutFields(text string, names ...string) string {
	var kept []string
	for _, pair := range strings.Split(text, "&") {
		name, _, _ := cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err != nil || plain == "" || !contains(names, plain) {
			kept = append(kept, pair)
		}
	}
	return joinTexts(kept, "&")
}

// afterScheme returns the token in a header's value. The case of the scheme is ignored (RFC 9110 11.1).
func afterScheme(value, scheme string) (raw string, ok bool) {
	if scheme == "" {
		return value, value != ""
	}
	if scheme == anyScheme {
		return value[strings.LastIndexByte(value, ' ')+1:], value != ""
	}
	word, raw, _ := cut(value, " ")
	return raw, equalFold(word, scheme)
}

// bearerTokens are the verifiers of the tokens that requests bring.
type bearerTokens struct {
	jwt, introspection *tokenVerifier   // nil without that block
	all                []*tokenVerifier // those that are not nil
	looksBeyondHeaders bool             // one of them does
}

// newBearerTokens makes the verifiers of the jwt and oAuthIntrospection blocks. login is the sign-in's client, nil without one.
func newBearerTokens(l *logger, c *Config, login *client, p *problems) *bearerTokens {
	bt := &bearerTokens{}
	if c.JWT != nil {
		bt.jwt = newJWTVerifier(l, c, login, p)
		bt.all = append(bt.all, bt.jwt)
	}
	if c.OAuthIntrospection != nil {
		bt.introspection = newIntrospectionVerifier(l, c, login, p)
		bt.all = append(bt.all, bt.introspection)
	}
	for _, v := range bt.all {
		bt.looksBeyondHeaders = bt.looksBeyondHeaders || v.looksBeyondHeaders
	}
	return bt
}

// newTokenVerifier makes what both blocks have in common. tokenKey is "" for introspection.
func newTokenVerifier(c *TokenConfig, tokenKey, at string, clockSkew int, p *problems) *tokenVerifier {
	source, audience := c.TokenSource, c.Audience
	if source.Header+source.Query+source.Cookie == "" && len(source.Headers) == 0 && !source.WebSocketProtocol {
		source.Header = "Authorization"
		source.HeaderAuthScheme = "Bearer"
	}
	if len(audience) == 0 && c.Resource != "" {
		audience = []string{c.Resource} // RFC 8707 2.2
	}
	v := &tokenVerifier{policy: newPolicy(&c.PolicyConfig, at, p), source: source, schemes: map[string]string{}, tokenKey: tokenKey, resource: c.Resource, forwardsToken: c.ForwardAuthorization,
		looksBeyondHeaders: source.Query+source.Cookie+tokenKey != "" || source.WebSocketProtocol, rules: &tokenRules{audience: audience, skew: int64(clockSkew)}}
	if source.Cookie != "" {
		v.cookiePattern = regexp.MustCompile(`^\s*` + regexp.QuoteMeta(source.Cookie) + `\s*(?s:=.*)?$`)
	}
	for _, name := range source.Headers {
		v.schemes[http.CanonicalHeaderKey(name)] = anyScheme
	}
	if source.Header != "" {
		v.schemes[http.CanonicalHeaderKey(source.Header)] = source.HeaderAuthScheme
	}
	v.hasOtherPlaces = v.looksBeyondHeaders || len(v.schemes) > 1
	if at, err := url.Parse(c.Resource); err == nil && c.Resource != "" {
		if at.Path == "/" {
			at.Path = "" // RFC 9728 3.1: only a slash that is the whole path is left out
		}
		v.metadataURL = at.Scheme + "://" + at.Host + protectedResourcePath + at.EscapedPath()
		v.metadataPath = protectedResourcePath + at.Path
	}
	return v
}

// asymmetric are the algorithms whose verification key cannot sign. The key decides which of them a token may use.
var asymmetric = strings.Fields("RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA")

// newJWTVerifier makes the verifier of the jwt block.
func newJWTVerifier(l *logger, c *Config, login *client, p *problems) *tokenVerifier {
	j := c.JWT
	v := newTokenVerifier(&j.TokenConfig, j.TokenKey, "jwt.", c.ClockSkewSeconds, p)
	v.cacheLifetime = maxTokenRecheck
	rules := v.rules
	if c.Issuer != "" { // beside a sign-in
		rules.client = c.ClientID
		if rules.audience == nil {
			rules.audience = []string{c.ClientID}
		}
	}
	rules.acceptsIDTokens = j.AcceptIDTokens
	for _, alg := range j.Algorithms {
		rules.algorithms = append(rules.algorithms, normalizedAlg(alg))
	}
	if rules.algorithms == nil {
		rules.algorithms = asymmetric
	}
	if j.Issuer != "" {
		rules.issuers = []string{j.Issuer}
	}
	if j.SigningSecret != "" {
		k, err := secretKey(j, rules)
		p.addError("jwt.signingSecret", err)
		v.keys = newFixedKeySet(k)
	} else if j.PublicKey != "" {
		k, err := parsePublicKeyPEM(j.PublicKey)
		p.addError("jwt.publicKey", err)
		v.keys = newFixedKeySet(k)
	} else if j.JWKSFile != "" {
		keys, err := fileKeys(j.JWKSFile, p)
		p.addError("jwt.jwksFile", err)
		v.keys = newFixedKeySet(keys...)
	} else {
		v.keys = remoteKeys(l, c, login, rules, p)
	}
	return v
}

// remoteKeys returns the keys of an issuer or at an address, or those of the sign-in's provider if that is the issuer or nothing is configured.
func remoteKeys(l *logger, c *Config, login *client, rules *tokenRules, p *problems) *cachedDocument {
	j := c.JWT
	if c.Issuer != "" && j.JWKSURL == "" && (j.Issuer == "" || j.Issuer == c.Issuer) {
		if login == nil {
			return nil // reported already
		}
		if rules.providerIssuer = login.rules.providerIssuer; j.Issuer == "" {
			rules.issuers = login.rules.issuers
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
	if c := findClient(l, at, j.ClientConfig.Headers, "jwt.clientConfig", p); c != nil {
		rules.providerIssuer = c.rules.providerIssuer
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
			return nil, newError("must be base64, as signingSecretBase64Encoded says")
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
	return newSecretKey(secret, rules.algorithms)
}

// base64Spellings makes one of the four ways to write base64: with either alphabet, padded or not.
var base64Spellings = strings.NewReplacer("-", "+", "_", "/", "=", "")

// fileKeys reads a key set from a file, or from the option itself.
func fileKeys(jwksFile string, p *problems) ([]*key, error) {
	data := []byte(jwksFile)
	if !hasPrefix(strings.TrimSpace(jwksFile), "{") {
		var err error
		if data, err = readNamedFile(jwksFile, p); err != nil {
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
	return errorf("%w: the rule says no to sub %s, client_id %s, azp %s", errInsufficientScope, quoteJSON(claims["sub"]), quoteJSON(claims["client_id"]), quoteJSON(claims["azp"]))
}
