package oidc

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/template"
	"time"
)

// This room judges requests that bring a token of their own: a JWT that is verified here (RFC 9068, RFC 8725), or any token that the
// provider is asked about (introspection, RFC 7662). Such a request is judged by its token alone. It never falls back to a session
// and is never redirected: a program would not know what to do there.

// The outcomes of RFC 6750 3.1.
var (
	errInvalidRequest    = errors.New("invalid_request")
	errInvalidToken      = errors.New("invalid_token")
	errInsufficientScope = errors.New("insufficient_scope")
)

const (
	tokenCheck     = 10 * time.Minute // a verified JWT is looked at again at least this often: its key may be withdrawn
	negativeAnswer = 5 * time.Second  // how long "not active" is believed, at most
)

// tokenJob is one way to judge tokens that are brought.
type tokenJob struct {
	policy   *policy
	source   TokenSourceConfig
	tokenKey string
	keep     bool // the upstream gets the header with the token
	client   *client
	rules    *tokenRules

	keys *keySet // of a JWT

	headers map[string]*template.Template // of introspection
	hint    string
	cache   time.Duration
}

// broughtToken is a token that came with a request; credential is what its pass is remembered by.
type broughtToken struct{ raw, credential string }

// bearerPass judges the token a request brings. found is false when it brings none.
func bearerPass(g *gate, req *http.Request) (p *pass, found bool, err error) {
	brought, err := findTokens(g, req)
	if err != nil {
		return nil, true, err
	}
	if brought == nil {
		return nil, false, nil
	}
	if p := recallPass(g, brought.credential); p != nil {
		return p, true, nil
	}
	ctx := req.Context()
	job, claims, until, err := judgeToken(ctx, g, req, brought.raw)
	if err != nil {
		return nil, true, err
	}
	id := &identity{claims: withoutClientSubject(claims), rawAccessToken: brought.raw}
	id.accessToken = id.claims
	p, err = judge(g, job.policy, id)
	if err != nil {
		return nil, true, fmt.Errorf("%w: the rule says no to sub %q", errInsufficientScope, clip(text(claims["sub"])))
	}
	if !job.keep && job.source.Header != "" {
		p.drop = append(p.drop, http.CanonicalHeaderKey(job.source.Header))
	}
	p.sub = text(claims["sub"])
	p, err = letIn(ctx, g, brought.credential, p, until)
	return p, true, err
}

// withoutClientSubject takes the sub out of the claims of a token that a client obtained for itself. There sub is the client's own
// name (RFC 9068 2.2), which whoever registers a client may choose: it must not pass for a user's (RFC 9700 4.15).
func withoutClientSubject(claims map[string]interface{}) map[string]interface{} {
	sub := text(claims["sub"])
	if sub == "" || sub != text(claims["client_id"]) && sub != text(claims["azp"]) {
		return claims
	}
	rest := merge(nil, claims)
	delete(rest, "sub")
	delete(rest, "username")
	return rest
}

// judgeToken verifies a token here when it is a JWT and that job is on, else asks the provider.
func judgeToken(ctx context.Context, g *gate, req *http.Request, raw string) (job *tokenJob, claims map[string]interface{}, until time.Time, err error) {
	if g.jwt != nil {
		t, err := parseToken(raw)
		if err == nil {
			until, err := verifyJWT(ctx, g.jwt, t)
			return g.jwt, t.claims, until, err
		}
		if g.introspection == nil {
			return nil, nil, until, fmt.Errorf("%w: %s", errInvalidToken, err)
		}
	}
	claims, until, err = introspect(ctx, g.introspection, req, raw)
	return g.introspection, claims, until, err
}

// verifyJWT checks signature and claims, and says how long that may be believed.
func verifyJWT(ctx context.Context, job *tokenJob, t *token) (time.Time, error) {
	err := verifyToken(ctx, job.keys, t, job.rules.algorithms)
	now := time.Now()
	if err == nil {
		err = checkAccessToken(job.rules, t, now)
	}
	if errors.Is(err, errUnavailable) {
		return now, err
	}
	if err != nil {
		return now, fmt.Errorf("%w: %s", errInvalidToken, err)
	}
	return earlier(now.Add(tokenCheck), t.claims["exp"]), nil
}

// earlier is until, or the time of a NumericDate claim that comes before it.
func earlier(until time.Time, date interface{}) time.Time {
	if number, ok := date.(json.Number); ok {
		if seconds, err := number.Float64(); err == nil && seconds < float64(until.Unix()) {
			return time.Unix(int64(seconds), 0)
		}
	}
	return until
}

// introspected is the provider's answer about a token: its claims while it is active, nil when it is not.
type introspected struct {
	claims map[string]interface{}
	until  time.Time
}

// introspect asks the provider about a token, once however many requests bring it at the same time.
func introspect(ctx context.Context, job *tokenJob, req *http.Request, raw string) (map[string]interface{}, time.Time, error) {
	c := job.client
	headers, err := introspectionHeaders(job, req)
	if err != nil {
		return nil, time.Time{}, err
	}
	// Whatever can change the answer is in the key (RFC 7662 4): token, hint, credentials; endpoint and client are this client's.
	key := hashText(fmt.Sprint(raw, "\x00", job.hint, "\x00", headers))
	if known, _ := recall(c.introspected, key).(*introspected); known != nil && time.Now().Before(known.until) {
		return introspectionResult(job, known)
	}
	value, err := share(ctx, &c.flights, "introspect "+key, func(ctx context.Context) (interface{}, error) {
		answer, err := askIntrospection(ctx, job, raw, headers)
		if err == nil && job.cache > 0 {
			remember(c.introspected, key, answer)
		}
		return answer, err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	return introspectionResult(job, value.(*introspected))
}

// askIntrospection sends the request of RFC 7662 2.1. Only a 200 with active: true, the JSON value, is a yes.
func askIntrospection(ctx context.Context, job *tokenJob, raw string, headers map[string]string) (*introspected, error) {
	c := job.client
	m, err := discover(ctx, c)
	if err != nil {
		return nil, err
	}
	if m.introspection == "" {
		return nil, fmt.Errorf("%w: introspection: the provider names no introspection_endpoint; set oAuthIntrospection.clientConfig.url", errUnavailable)
	}
	form := url.Values{"token": {raw}}
	if job.hint != "" {
		form.Set("token_type_hint", job.hint)
	}
	status, body, err := postWith(ctx, c, m, "introspection", m.introspection, form, headers)
	if err != nil {
		return nil, err
	}
	answer, err := parseObject(body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d %s %q; check the client's credentials", status, http.StatusText(status), clip(text(answer["error"])))
	}
	if err != nil {
		err = fmt.Errorf("%w: introspection: POST %s: %s", errUnavailable, m.introspection, err)
		logf(c.log, levelError, "%s", err)
		return nil, err
	}
	now := time.Now()
	if answer["active"] != true {
		until := now.Add(negativeAnswer)
		if job.cache < negativeAnswer {
			until = now.Add(job.cache)
		}
		return &introspected{until: until}, nil
	}
	return &introspected{claims: answer, until: earlier(now.Add(job.cache), answer["exp"])}, nil
}

// introspectionResult judges an answer again each time: the token may have ended, and rules differ from gate to gate.
func introspectionResult(job *tokenJob, answer *introspected) (map[string]interface{}, time.Time, error) {
	if answer.claims == nil {
		return nil, answer.until, fmt.Errorf("%w: the provider says it is not active", errInvalidToken)
	}
	if err := checkActive(job.rules, answer.claims, time.Now()); err != nil {
		return nil, answer.until, fmt.Errorf("%w: %s", errInvalidToken, err)
	}
	return answer.claims, answer.until, nil
}

// checkActive checks what an active answer says of the token's time and purpose: the provider need not have.
func checkActive(r *tokenRules, claims map[string]interface{}, now time.Time) error {
	t := &token{claims: claims}
	if _, ends := claims["exp"]; ends {
		if err := checkExpiry(t, now); err != nil {
			return err
		}
	}
	if _, named := claims["iss"]; named {
		if err := checkIssuer(r, t); err != nil {
			return err
		}
	}
	return firstError(checkPast(t, "nbf", false, anyAge, now), checkAudience(r, t))
}

// introspectionHeaders fills the templates of the options with the request.
func introspectionHeaders(job *tokenJob, req *http.Request) (map[string]string, error) {
	headers := map[string]string{}
	for name, made := range job.headers {
		var value bytes.Buffer
		if err := made.Execute(&value, map[string]interface{}{"Request": req}); err != nil {
			return nil, fmt.Errorf("oAuthIntrospection.clientConfig.headers.%s: the template cannot be filled", name)
		}
		headers[name] = value.String()
	}
	return headers, nil
}

// findTokens is the token a request brings, nil without one. Two of them are one too many (RFC 6750 2).
func findTokens(g *gate, req *http.Request) (*broughtToken, error) {
	var found *broughtToken
	seen := map[string]bool{} // both jobs may look at the same place
	for _, job := range []*tokenJob{g.jwt, g.introspection} {
		if job == nil {
			continue
		}
		places, err := lookForTokens(job, req)
		if err != nil {
			return nil, err
		}
		for _, t := range places {
			if !seen[t.credential] {
				seen[t.credential] = true
				found = t
			}
		}
	}
	if len(seen) > 1 {
		return nil, fmt.Errorf("%w: more than one token was sent", errInvalidRequest)
	}
	return found, nil
}

// lookForTokens looks at every place where the job allows a token.
func lookForTokens(job *tokenJob, req *http.Request) ([]*broughtToken, error) {
	var found []*broughtToken
	if name := http.CanonicalHeaderKey(job.source.Header); name != "" {
		for _, value := range req.Header[name] {
			if raw, ok := afterScheme(value, job.source.HeaderAuthScheme); ok {
				found = append(found, &broughtToken{raw: raw, credential: name + ": " + value})
			}
		}
		if len(req.Header[name]) > 1 {
			return nil, fmt.Errorf("%w: more than one %s header", errInvalidRequest, name)
		}
	}
	if job.source.Cookie != "" {
		for _, raw := range cookieValues(req, job.source.Cookie) {
			found = append(found, &broughtToken{raw: raw, credential: "cookie: " + raw})
		}
	}
	for _, name := range []string{job.source.Query, job.tokenKey} {
		if name == "" {
			continue
		}
		query, err := url.ParseQuery(req.URL.RawQuery)
		if err != nil && strings.Contains(req.URL.RawQuery, name) {
			return nil, fmt.Errorf("%w: the query cannot be read", errInvalidRequest)
		}
		for _, raw := range query[name] {
			found = append(found, &broughtToken{raw: raw, credential: "query: " + raw})
		}
	}
	if job.tokenKey != "" && req.Method == http.MethodPost {
		for _, raw := range formTokens(req, job.tokenKey) {
			found = append(found, &broughtToken{raw: raw, credential: "form: " + raw})
		}
	}
	return found, nil
}

// afterScheme is the token in a header's value. The scheme is matched without regard to case (RFC 9110 11.1).
func afterScheme(value, scheme string) (raw string, ok bool) {
	if scheme == "" {
		return value, value != ""
	}
	word, raw, _ := strings.Cut(value, " ")
	raw = strings.TrimSpace(raw)
	return raw, strings.EqualFold(word, scheme)
}

// formTokens reads the fields of a small posted form, and puts the body back for the upstream.
func formTokens(req *http.Request, name string) []string {
	if req.ContentLength < 0 || req.ContentLength > maxForm {
		return nil
	}
	text, err := readForm(req)
	if text == "" {
		return nil
	}
	req.Body = io.NopCloser(strings.NewReader(text))
	form, parseErr := url.ParseQuery(text)
	if err != nil || parseErr != nil {
		return nil
	}
	return form[name]
}

// newJWTJob makes the job of the jwt block; nil without one.
func newJWTJob(ctx context.Context, g *gate, p *problems) *tokenJob {
	c := g.config
	if c.JWT == nil {
		return nil
	}
	j := c.JWT
	job := &tokenJob{source: j.TokenSource, tokenKey: j.TokenKey, keep: j.ForwardAuthorization}
	job.policy = tokenPolicy(g, j.Claims, j.UsernameClaim, j.ForwardHeaders, "jwt.", p)
	job.rules = &tokenRules{audience: j.Audience, algorithms: j.Algorithms}
	if j.Issuer != "" {
		job.rules.issuers = []string{j.Issuer}
	}
	if len(j.Audience) == 0 && j.Resource != "" {
		job.rules.audience = []string{j.Resource}
	}
	if job.source.Header+job.source.Query+job.source.Cookie == "" {
		job.source = TokenSourceConfig{Header: "Authorization", HeaderAuthScheme: "Bearer"}
	}
	if len(j.Algorithms) == 0 {
		job.rules.algorithms = asymmetric
	}
	var keys []*key
	var err error
	if j.SigningSecret != "" {
		keys, err = secretKeys(j, job.rules)
		p.addError("jwt.signingSecret", err)
	} else if j.PublicKey != "" {
		keys = make([]*key, 1)
		keys[0], err = parsePublicKeyPEM(j.PublicKey)
		p.addError("jwt.publicKey", err)
	} else if j.JWKSFile != "" {
		keys, err = fileKeys(j.JWKSFile)
		p.addError("jwt.jwksFile", err)
	} else {
		remoteKeys(ctx, g, job, p)
		return job
	}
	job.keys = newFixedKeySet(keys...)
	return job
}

// asymmetric are the algorithms whose verifying key signs nothing. Which of them a token may have is what its key is for.
var asymmetric = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// remoteKeys gives job the keys of an issuer or of an address.
func remoteKeys(ctx context.Context, g *gate, job *tokenJob, p *problems) {
	j := g.config.JWT
	at := &Config{Issuer: j.Issuer, ClientConfig: j.ClientConfig}
	at.Endpoints.JWKS = j.JWKSURL
	if strings.HasPrefix(j.JWKSURL, "/") {
		at.Endpoints.JWKS = strings.TrimSuffix(j.Issuer, "/") + j.JWKSURL
	}
	if j.JWKSURL == "" && j.Issuer == "" { // beside a sign-in: this issuer's keys, tokens made for this client
		job.client = g.client
		job.rules.issuers = g.client.rules.issuers
		if len(job.rules.audience) == 0 {
			job.rules.audience = []string{g.config.ClientID}
		}
	} else {
		job.client = findClient(ctx, g.log, at, "jwt.clientConfig", p)
	}
	if job.client != nil {
		job.keys = job.client.keys
	}
}

// secretKeys are the HMAC keys that a shared secret is long enough for (RFC 7518 3.2).
func secretKeys(j *JWTConfig, rules *tokenRules) ([]*key, error) {
	secret := []byte(j.SigningSecret)
	if j.SigningSecretBase64Encoded {
		decoded, err := base64.StdEncoding.DecodeString(j.SigningSecret)
		if err != nil {
			return nil, errors.New("is not base64, as signingSecretBase64Encoded says")
		}
		secret = decoded
	}
	if rules.algorithms = j.Algorithms; len(j.Algorithms) == 0 {
		rules.algorithms = []string{"HS256"}
		if len(secret) >= 48 {
			rules.algorithms = append(rules.algorithms, "HS384")
		}
		if len(secret) >= 64 {
			rules.algorithms = append(rules.algorithms, "HS512")
		}
	}
	one, err := newSecretKey(secret, rules.algorithms)
	return []*key{one}, err
}

// fileKeys reads a key set from a file, or from the option itself.
func fileKeys(jwksFile string) ([]*key, error) {
	data := []byte(jwksFile)
	if !strings.HasPrefix(strings.TrimSpace(jwksFile), "{") {
		var err error
		if data, err = os.ReadFile(jwksFile); err != nil {
			return nil, err
		}
	}
	return parseKeySet(data)
}

// tokenPolicy is the policy of a token block: its own, or the top level's when it has none.
func tokenPolicy(g *gate, claims, username string, headers map[string]string, at string, p *problems) *policy {
	if claims == "" && username == "" && len(headers) == 0 {
		return g.policy
	}
	made := newPolicy(claims, username, headers, at, p)
	manage(g, made)
	return made
}

// newIntrospectionJob makes the job of the oAuthIntrospection block; nil without one.
func newIntrospectionJob(ctx context.Context, g *gate, p *problems) *tokenJob {
	c := g.config
	if c.OAuthIntrospection == nil {
		return nil
	}
	i := c.OAuthIntrospection
	job := &tokenJob{source: i.TokenSource, keep: i.ForwardAuthorization, hint: i.ClientConfig.TokenTypeHint + i.TokenTypeHint,
		cache: time.Duration(i.CacheSeconds) * time.Second, headers: map[string]*template.Template{}}
	job.policy = tokenPolicy(g, i.Claims, i.UsernameClaim, i.ForwardHeaders, "oAuthIntrospection.", p)
	job.rules = &tokenRules{audience: i.Audience}
	if len(i.Audience) == 0 && i.Resource != "" {
		job.rules.audience = []string{i.Resource}
	}
	if job.source.Header+job.source.Query+job.source.Cookie == "" {
		job.source = TokenSourceConfig{Header: "Authorization", HeaderAuthScheme: "Bearer"}
	}
	for name, text := range i.ClientConfig.Headers {
		made, err := template.New(name).Option("missingkey=error").Parse(text)
		p.addError("oAuthIntrospection.clientConfig.headers."+name, err)
		job.headers[http.CanonicalHeaderKey(name)] = made
	}
	at := &Config{ClientID: c.ClientID, ClientSecret: c.ClientSecret, ClientAuthMethod: c.ClientAuthMethod, ClientKey: c.ClientKey, ClientKeyID: c.ClientKeyID, ClientKeyAlg: c.ClientKeyAlg}
	at.Issuer = c.Issuer
	at.Endpoints = c.Endpoints
	at.DiscoveryParams = c.DiscoveryParams
	at.ClientConfig = c.ClientConfig
	if i.ClientConfig.URL != "" {
		at.Endpoints.Introspection = i.ClientConfig.URL
		at.ClientConfig = ClientConfig{TLS: i.ClientConfig.TLS, TimeoutSeconds: i.ClientConfig.TimeoutSeconds, MaxRetries: i.ClientConfig.MaxRetries}
	}
	job.client = findClient(ctx, g.log, at, "oAuthIntrospection.clientConfig", p)
	return job
}

// keyedHash names a credential in memory without keeping it: the key lives as long as the process.
func keyedHash(credential string) string {
	mac := hmac.New(sha256.New, processKey)
	mac.Write([]byte(credential))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

var processKey []byte

func init() {
	processKey = randomBytes(32)
}

// protectedResource describes this API to clients that find their way by themselves (RFC 9728 3.2). Everything in it comes from
// the options: what a client sends as Host must not lead others to its own authorization server.
func protectedResource(resource string, issuers []string) []byte {
	document := map[string]interface{}{"resource": resource, "bearer_methods_supported": []string{"header"}}
	if len(issuers) > 0 {
		document["authorization_servers"] = issuers
	}
	text, _ := json.Marshal(document)
	return text
}
