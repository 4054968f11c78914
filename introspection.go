package oidc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"text/template"
	"time"
)

// Introspection (RFC 7662): the provider is asked whether a token is valid, once for all requests that carry it, and its answer is cached for a
// while.

// newIntrospectionVerifier makes the verifier of the oAuthIntrospection block.
func newIntrospectionVerifier(l *logger, c *Config, login *client, p *problems) *tokenVerifier {
	i := c.OAuthIntrospection
	const block = "oAuthIntrospection."
	job := newTokenVerifier(&i.TokenConfig, "", block, c.ClockSkewSeconds, p)
	job.cacheLifetime = time.Duration(i.CacheSeconds) * time.Second
	asks := &i.ClientConfig
	job.tokenTypeHint = asks.TokenTypeHint
	job.headers = map[string]*template.Template{}
	for name, written := range asks.Headers {
		made, err := template.New(name).Option("missingkey=error").Parse(written)
		p.addError(block+"clientConfig.headers."+name, err)
		p.failIf(controlCharacter.MatchString(written), block+"clientConfig.headers."+name, "must be one line")
		p.failIf(plainBasic.MatchString(written), block+"clientConfig.headers."+name, "must be Basic and the base64 of id:secret; write that, or clientId and clientSecret at the top level")
		job.headers[http.CanonicalHeaderKey(name)] = made
		job.isTemplated = job.isTemplated || containsText(written, "{{")
	}
	at := *c // the client that authenticates here: the sign-in's, or a separate one
	at.ClientConfig = asks.ClientConfig
	at.Endpoints.Introspection = asks.URL
	if c.Issuer == "" { // the endpoint is configured, and nothing else is needed, so there is no discovery
		at.Issuer = i.Issuer
		at.Endpoints = EndpointsConfig{Authorization: asks.URL, Token: asks.URL, JWKS: asks.URL, Introspection: asks.URL}
	}
	if job.client = login; c.Issuer == "" || asks.URL != "" {
		job.client = findClient(l, &at, nil, block+"clientConfig", p)
	}
	if job.client != nil && at.Issuer != "" {
		job.rules.issuers = job.client.rules.issuers
		job.rules.providerIssuer = job.client.rules.providerIssuer
	}
	return job
}

// plainBasic matches Basic credentials that nobody encoded.
var plainBasic = regexp.MustCompile(`(?i)^basic [^{]*:`)

// introspect asks the provider about a token, once for all requests that carry it at the same time, and again only if the cached answer is too
// old for this verifier.
func introspect(ctx context.Context, job *tokenVerifier, raw string, headers map[string]string) (*tokenInfo, error) {
	if raw == "" || len(raw) > maxTokenSize {
		return nil, errorf("token: must have 1 to %d bytes, got %d", maxTokenSize, len(raw))
	}
	if !printableASCII.MatchString(raw) {
		return nil, newError("token: must be printable ASCII")
	}
	// The key holds everything that can change the answer (RFC 7662 4). Endpoint and client are the same for this cache; the audience is compared
	// each time.
	key := hashText(fmt.Sprintf("introspect %q %q %q", raw, job.tokenTypeHint, headers))
	c := job.client
	known, _ := cached(c.responses, key)
	answer, _ := known.value.(*tokenInfo)
	if answer == nil || timeUntil(tokenInfoEnd(job, answer)) <= 0 {
		newer, err := refetch(ctx, c.responses, key, known.version, func(ctx context.Context, made *fetched) error {
			err := outageOf(c)
			if err == nil {
				err = askIntrospection(ctx, job, raw, headers, made)
				recordOutage(c, err)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		answer, _ = newer.value.(*tokenInfo)
	}
	if !answer.isActive {
		return nil, errorf("introspection: active: expected true, got %s", quoteJSON(answer.claims["active"]))
	}
	return answer, checkIntrospection(job.rules, answer.claims, timeNow())
}

// askIntrospection sends the request of RFC 7662 2.1. A token is active only if the status is 200 and active is the JSON value true.
func askIntrospection(ctx context.Context, job *tokenVerifier, raw string, headers map[string]string, made *fetched) error {
	c := job.client
	form := url.Values{"token": {raw}}
	if job.tokenTypeHint != "" {
		form.Set("token_type_hint", job.tokenTypeHint)
	}
	now := timeNow()
	status, body, at, err := request(ctx, c, "introspection", "introspection_endpoint", form, headers, c.retries)
	if err != nil {
		return err
	}
	claims, err := parseObject(body)
	code := forLog(stringOf(claims["error"])) // some servers send it with 200
	if status == http.StatusOK && err == nil && (code == "" || claims["active"] != nil) {
		warnDuplicates(c, "introspection", body, claims)
		for _, name := range []string{"exp", "nbf"} { // accept it as a string, too, like expires_in
			if text := stringOf(claims[name]); wholeNumber.MatchString(text) {
				claims[name] = json.Number(text)
			}
		}
		expiry, _ := numericDate(claims, "exp")
		made.value = &tokenInfo{claims: claims, expiry: expiry, checkedAt: now, isActive: claims["active"] == true}
		made.size = parsedJSONFactor * len(body)
		return nil
	}
	if status != http.StatusOK || code != "" {
		err = errorf("%d %s %q", status, http.StatusText(status), code)
	}
	outcome, row := fmt.Sprint(status, " ", code), 0
	for !compiledPattern(introspectionFaults[row][0]).MatchString(outcome) {
		row++
	}
	fault := introspectionFaults[row]
	if fault[1] == "token" {
		made.value = &tokenInfo{claims: map[string]any{"active": outcome}, checkedAt: now}
		return nil
	}
	err = errorf("%w: %s: %s; %s", errUnavailable, at, err, fault[2])
	if fault[1] == "question" {
		made.backoff = backoff{until: now.Add(outageLifetime), err: err}
		return nil
	}
	logf(c.log, levelError, "%s", err)
	return err
}

// introspectionFaults says what is at fault if the introspection endpoint gives no answer, and the cure, by status and code (RFC 7662 2.3, RFC 6749 5.2, RFC
// 6750 3.1). The first row that fits counts. If it is the token, the caller gets 401, as for one that is not active; Keycloak answers one that
// it cannot read with invalid_request. If it is the question, only this token is affected, but nothing is known about it. Everything else
// affects all tokens. docs/apis.md has the same table.
var introspectionFaults = [][]string{
	{"(200|403|406|501) ", "question", "this question alone, as it seems: something in front of the provider may refuse it; is this the introspection endpoint?"},
	{"(200|4..) (invalid_client|unauthorized_client|access_denied|insufficient_scope)|401 .*|403 .*", "client", "check the client's credentials, and that it may introspect"},
	{"408 .*|425 .*|429 .*|50[1-9] .*|5[1-9]. .*|... (temporarily_unavailable|slow_down)", "provider", "it is away, or has had enough"},
	{"(200|400) .*|422 .*|413 .*|414 .*|431 .*|404 (invalid_token|unsupported_token_type|invalid_grant)", "token", ""},
	{"500 .*", "question", "this question alone, as it seems"},
	{".*", "address", "is this the introspection endpoint?"},
}

var wholeNumber = regexp.MustCompile(`^[0-9]+$`)

// outageOf is the error of a provider that was unavailable a moment ago: for a while it gets no more requests (see backoff).
func outageOf(c *client) error {
	c.outageLock.Lock()
	defer c.outageLock.Unlock()
	if timeNow().Before(c.outage.until) {
		return c.outage.err
	}
	return nil
}

// recordOutage records how a call ended. Of many that were in progress when an outage began, only the first counts.
func recordOutage(c *client, err error) {
	now := timeNow()
	c.outageLock.Lock()
	defer c.outageLock.Unlock()
	if err == nil {
		c.outage = backoff{}
	} else if !now.Before(c.outage.until) {
		backOff(&c.outage, err, now)
	}
}

// checkIntrospection checks kind, times and audience in an active answer: the provider need not have done so, and refresh and ID tokens may be
// active, too.
func checkIntrospection(r *tokenRules, claims map[string]any, now time.Time) error {
	t := &token{claims: claims}
	err := firstError(checkKind(r, claims), checkNotFuture(r, t, "nbf", false, unlimitedAge, now), checkAudience(r, t))
	if exp, badExp := numericDate(claims, "exp"); err == nil && (badExp != nil || exp > 0) { // 0: it does not expire
		err = checkExpiry(r, t, now)
	}
	if err == nil && claims["iss"] != nil {
		err = checkIssuer(r, t)
	}
	return err
}

// introspectionHeaders evaluates the configured header templates for a request. They become part of the credential, since a request with other
// headers may get another answer.
func introspectionHeaders(job *tokenVerifier, req *http.Request, credential string) (map[string]string, string, error) {
	headers := map[string]string{}
	for name, made := range job.headers {
		var value bytes.Buffer
		err := made.Execute(&value, map[string]any{"Request": req})
		if err != nil || controlCharacter.MatchString(value.String()) { // a value that no header can carry is the caller's fault, not the provider's
			return nil, "", errorf("%w: oAuthIntrospection.clientConfig.headers.%s: the template does not fit this request", errInvalidRequest, name)
		}
		headers[name] = value.String()
	}
	if job.isTemplated {
		place, _, _ := cut(credential, ":")
		credential = place + ":" + hashText(fmt.Sprintf("%q %q", credential, headers))
	}
	return headers, credential, nil
}
