package oidc

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// This room obtains tokens for the upstream by the client credentials grant (RFC 6749 4.4): with the gateway's own client, or with the
// credentials that the caller sends as Basic. One request to the provider however many wait; a token is renewed before it ends,
// and used to its end while the provider is away.

const (
	renewLead     = 30 * time.Second // a token is renewed this long before it ends, or at three quarters of a short life
	unknownLife   = time.Minute      // of a token that nobody says the end of
	credentialGap = 10 * time.Second // how long a refusal stands, and how long a renewal may take, before the provider is asked again
	absenceGap    = time.Second      // the same for a provider that is away
)

// gateway is the oAuthClientCredentials job.
type gateway struct {
	client *client
	policy *policy
	form   url.Values // of the token request
	own    bool       // the gateway has its own client; else callers bring theirs
	hash   []byte     // key by which credentials become the name of their token
	store  *store     // nil: tokens are in memory only
	sealer *sealer
}

// upstreamToken is a token for the upstream, or the provider's no to one, which is remembered as well.
type upstreamToken struct {
	raw            string
	claims         map[string]interface{} // when it is a JWT
	renewAt, endAt time.Time
	err            error
}

// processKey hashes what is remembered by this process alone.
var processKey []byte

func init() {
	processKey = randomBytes(32)
}

// newGateway makes the job of the oAuthClientCredentials block; nil without one.
func newGateway(ctx context.Context, g *gate, p *problems) *gateway {
	c := g.config.OAuthClientCredentials
	if c == nil {
		return nil
	}
	const block = "oAuthClientCredentials."
	w := &gateway{form: url.Values{}, own: c.ClientID != "", hash: processKey}
	p.must(w.own || !g.login && len(g.tokenJobs) == 0, block+"clientId", "required beside another job: a caller cannot bring two kinds of credentials")
	for name, value := range c.Params {
		w.form.Set(name, value)
	}
	w.form.Set("grant_type", "client_credentials")
	if c.Audience != "" {
		w.form.Set("audience", c.Audience)
	}
	if len(c.Scopes) > 0 {
		w.form.Set("scope", strings.Join(c.Scopes, " "))
	}
	w.policy = newPolicy(c.Claims, c.UsernameClaim, c.ForwardHeaders, block, p)
	format, _ := parseHeaderFormat("Bearer {access_token}")
	w.policy.headers = append(w.policy.headers, &forwardHeader{name: "Authorization", format: format})
	manage(g, w.policy)
	if !w.own {
		g.credentials["Authorization"] = true
	}
	if c.Store.Secret != "" {
		w.hash = deriveKey(c.Store.Secret, c.URL+"\x00names")
		w.sealer = newSealer([]string{c.Store.Secret}, c.URL, c.ClientID, "token")
	}
	var err error
	if c.Store.Redis != nil {
		w.store, err = newStore(c.Store.Redis, c.Store.KeyPrefix, c.URL, c.ClientID)
		p.addError(block+"store.redis", err)
	}
	at := &Config{ClientID: c.ClientID, ClientSecret: c.ClientSecret, ClientAuthMethod: c.ClientAuthMethod, ClientKey: c.ClientKey, ClientConfig: c.ClientConfig}
	at.Endpoints.Token = c.URL
	at.Issuer = c.URL // the audience of client assertions (RFC 7523 3) when the issuer is not known
	if g.login && strings.HasPrefix(c.URL, g.config.Issuer) {
		at.Issuer = g.config.Issuer
	}
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		if _, err := parsePrivateKeyPEM(c.ClientKey, alg); err == nil || alg == "RS256" {
			at.ClientKeyAlg = alg
		}
	}
	w.client = findClient(ctx, g.log, at, block+"clientConfig", p)
	return w
}

// gatewayPass lets a request in because there is a token for the upstream: the gateway's own for everybody, or one for the credentials
// that the caller brings (application level).
func gatewayPass(g *gate, req *http.Request) (*pass, error) {
	ctx := req.Context()
	p := &pass{}
	if g.gateway.own {
		if known := recallPass(g, ""); known != nil {
			return known, nil
		}
		p, err := letIn(ctx, g, "", p, time.Now().Add(longestCheck))
		return p, err
	}
	lines := req.Header["Authorization"]
	if len(lines) > 1 {
		return nil, fmt.Errorf("%w: more than one Authorization header", errInvalidRequest)
	}
	id, secret, ok := req.BasicAuth()
	if !ok {
		return nil, errNoCredentials
	}
	credential := "Authorization: " + lines[0]
	if known := recallPass(g, credential); known != nil {
		return known, nil
	}
	until, err := addUpstreamToken(ctx, g, p, id, secret)
	if err != nil {
		return nil, err
	}
	p, err = letIn(ctx, g, credential, p, until)
	return p, err
}

// addUpstreamToken adds the token for the upstream, and the headers made of it, to a pass. Who the user is was said before and stays
// so; only Authorization is the token's. until is when the token is to be renewed.
func addUpstreamToken(ctx context.Context, g *gate, p *pass, id, secret string) (until time.Time, err error) {
	t, err := obtainToken(ctx, g.gateway, id, secret)
	if err != nil {
		return until, err
	}
	made, err := judge(g.gateway.policy, &identity{claims: t.claims, accessToken: t.claims, rawAccessToken: t.raw})
	if err != nil {
		return until, fmt.Errorf("%w: oAuthClientCredentials.claims says no to the token for the upstream", errNotAllowed)
	}
	for i, name := range made.names {
		if name == "Authorization" || !has(p.names, name) {
			p.names = append(p.names, name)
			p.values = append(p.values, made.values[i])
		}
	}
	if p.user == nil {
		p.user = made.user
	}
	return t.renewAt, nil
}

// obtainToken returns the token of a client: the remembered one, or a new one.
func obtainToken(ctx context.Context, w *gateway, id, secret string) (*upstreamToken, error) {
	mac := hmac.New(sha256.New, w.hash)
	mac.Write([]byte(id + "\x00" + secret + "\x00" + w.form.Encode()))
	key := base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	c := w.client
	now := time.Now()
	known, _ := recall(c.answers, key).(*upstreamToken)
	if known != nil && now.Before(known.renewAt) {
		return known, known.err
	}
	if known != nil && (known.err != nil || !now.Before(known.endAt)) {
		known = nil
	}
	if known != nil { // while it is renewed, everybody else goes on with the old one
		meanwhile := *known
		meanwhile.renewAt = now.Add(credentialGap)
		if known = &meanwhile; known.endAt.Before(known.renewAt) {
			known.renewAt = known.endAt
		}
		remember(c.answers, key, known)
	}
	value, err := share(ctx, &c.flights, key, func(ctx context.Context) (interface{}, error) {
		found, _ := recall(c.answers, key).(*upstreamToken)
		if found != nil && time.Now().Before(found.renewAt) && (known == nil || found.raw != known.raw) {
			return found, found.err // of a flight that landed between our look and our turn
		}
		made, err := renewToken(ctx, w, id, secret, key)
		if err != nil && (known == nil || !errors.Is(err, errUnavailable)) {
			gap := credentialGap
			if errors.Is(err, errUnavailable) {
				gap = absenceGap
			}
			remember(c.answers, key, &upstreamToken{err: err, renewAt: time.Now().Add(gap)})
		}
		return made, err
	})
	if err != nil && known != nil && errors.Is(err, errUnavailable) {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	made, _ := value.(*upstreamToken)
	return made, nil
}

// renewToken takes a token from the store, where another replica may have put one, or from the provider.
func renewToken(ctx context.Context, w *gateway, id, secret, key string) (*upstreamToken, error) {
	made := storedToken(ctx, w, key)
	var err error
	if made == nil {
		if made, err = requestUpstreamToken(ctx, w, id, secret); err != nil {
			return nil, err
		}
		storeToken(ctx, w, key, made)
	}
	if parsed, err := parseToken(made.raw); err == nil {
		made.claims = parsed.claims
	}
	remember(w.client.answers, key, made)
	return made, nil
}

// requestUpstreamToken sends the grant.
func requestUpstreamToken(ctx context.Context, w *gateway, id, secret string) (*upstreamToken, error) {
	form := url.Values{}
	for name, values := range w.form {
		form[name] = values
	}
	c := w.client
	var headers map[string]string
	if !w.own {
		headers = map[string]string{"Authorization": basicAuthorization(id, secret)}
	}
	now := time.Now()
	status, body, _, err := call(ctx, c, "client credentials", c.overrides.Token, form, headers, c.retries)
	if err != nil {
		return nil, err
	}
	if status >= 400 && status < 500 && status != http.StatusTooManyRequests {
		return nil, refusedClient(w, status, body)
	}
	t, err := readTokens(c, status, body)
	if err != nil {
		logf(c.log, levelError, "client credentials: %s", err)
		return nil, err
	}
	life := time.Duration(t.expiresIn) * time.Second
	if life == 0 {
		life = unknownLife
		logf(c.log, levelInfo, "client credentials: expires_in: expected the seconds that the token lasts, got none; it is used for %s", life)
	}
	lead := renewLead
	if lead > life/4 {
		lead = life / 4
	}
	return &upstreamToken{raw: t.accessToken, renewAt: now.Add(life - lead), endAt: now.Add(life)}, nil
}

// refusedClient words the provider's no (RFC 6749 5.2). Wrong credentials are the fault of whoever gave them: the caller, or the operator.
func refusedClient(w *gateway, status int, body []byte) error {
	answer, _ := parseObject(body)
	code := text(answer["error"])
	reason := fmt.Sprintf("client credentials: POST %s: %d %s %q", w.client.overrides.Token, status, clip(code), clip(text(answer["error_description"])))
	if !w.own && (status == http.StatusUnauthorized || code == "invalid_client" || code == "unauthorized_client") {
		return fmt.Errorf("%w: %s: the caller's credentials are wrong", errInvalidToken, reason)
	}
	logf(w.client.log, levelError, "%s; check clientId, clientSecret, scopes and audience of oAuthClientCredentials", reason)
	return fmt.Errorf("%w: %s", errRefused, reason)
}

// storedRecord is a token as the store has it, sealed.
type storedRecord struct {
	Raw            string
	RenewAt, EndAt time.Time
}

// storedToken is a token that another replica obtained, nil without one. A store that is away costs a request to the provider.
func storedToken(ctx context.Context, w *gateway, key string) *upstreamToken {
	if w.store == nil {
		return nil
	}
	reply, err := storeDo(ctx, w.store, "token:{"+key+"}", "GET")
	if err != nil {
		logf(w.client.log, levelWarn, "client credentials: %s", err)
	}
	plain, _, err := open(w.sealer, key, text(reply))
	record := &storedRecord{}
	if err != nil || json.Unmarshal(plain, record) != nil || !time.Now().Before(record.RenewAt) {
		return nil
	}
	return &upstreamToken{raw: record.Raw, renewAt: record.RenewAt, endAt: record.EndAt}
}

func storeToken(ctx context.Context, w *gateway, key string, t *upstreamToken) {
	if w.store == nil {
		return
	}
	plain, _ := json.Marshal(&storedRecord{t.raw, t.renewAt, t.endAt}) // texts and times
	_, err := storeDo(ctx, w.store, "token:{"+key+"}", "SET", seal(w.sealer, key, plain), "PX", milliseconds(time.Until(t.endAt)))
	if err != nil {
		logf(w.client.log, levelWarn, "client credentials: %s", err)
	}
}
