package oidc

import (
	"context"
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
	renewLead     = 30 * time.Second // a token is renewed this long before it ends, or at nine tenths of a short life
	unknownLife   = 5 * time.Minute  // of a token whose answer does not say how long it lasts
	credentialGap = 10 * time.Second // how long wrong credentials are refused without asking again
)

// gateway is the oAuthClientCredentials job.
type gateway struct {
	client *client
	policy *policy
	form   url.Values // of the token request
	own    bool       // the gateway has its own client; else callers bring theirs
	tokens *memory    // keyed hash of the credentials → *upstreamToken or *refusal
}

// upstreamToken is a token for the upstream.
type upstreamToken struct {
	raw            string
	claims         map[string]interface{} // when it is a JWT
	renewAt, endAt time.Time
}

// refusal is a no that was heard a moment ago.
type refusal struct {
	err   error
	until time.Time
}

// newGateway makes the job of the oAuthClientCredentials block; nil without one.
func newGateway(ctx context.Context, g *gate, p *problems) *gateway {
	c := g.config.OAuthClientCredentials
	if c == nil {
		return nil
	}
	w := &gateway{form: url.Values{}, own: c.ClientID != "", tokens: newMemory(2048)}
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
	w.policy = newPolicy(c.Claims, c.UsernameClaim, c.ForwardHeaders, "oAuthClientCredentials.", p)
	manage(g, w.policy)
	at := &Config{ClientID: c.ClientID, ClientSecret: c.ClientSecret, ClientAuthMethod: c.ClientAuthMethod, ClientKey: c.ClientKey, ClientKeyAlg: "RS256", ClientConfig: c.ClientConfig}
	at.Endpoints.Token = c.URL
	w.client = findClient(ctx, g.log, at, "oAuthClientCredentials.clientConfig", p)
	return w
}

// gatewayPass lets a request in because there is a token for the upstream: the gateway's own for everybody, or one for the credentials
// that the caller brings (application level).
func gatewayPass(g *gate, req *http.Request) (*pass, error) {
	if g.gateway.own {
		if p := recallPass(g, ""); p != nil {
			return p, nil
		}
		return letIn(req.Context(), g, "", &pass{}, time.Now().Add(longestCheck))
	}
	id, secret, ok := req.BasicAuth()
	if !ok {
		return nil, errNoCredentials
	}
	lines := req.Header["Authorization"]
	if len(lines) > 1 {
		return nil, fmt.Errorf("%w: more than one Authorization header", errInvalidRequest)
	}
	credential := "Authorization: " + lines[0]
	if p := recallPass(g, credential); p != nil {
		return p, nil
	}
	p, until, err := upstreamPass(req.Context(), g, id, secret)
	if err != nil {
		return nil, err
	}
	return letIn(req.Context(), g, credential, p, until)
}

// upstreamPass is a pass that consists of a token for the upstream.
func upstreamPass(ctx context.Context, g *gate, id, secret string) (*pass, time.Time, error) {
	t, err := obtainToken(ctx, g.gateway, id, secret)
	if err != nil {
		return nil, time.Time{}, err
	}
	p, err := judge(g, g.gateway.policy, &identity{claims: t.claims, accessToken: t.claims, rawAccessToken: t.raw})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: the rule says no to the token for the upstream", errNotAllowed)
	}
	p.names = append(p.names, "Authorization")
	p.values = append(p.values, []string{"Bearer " + t.raw})
	until := t.renewAt
	if now := time.Now(); until.Before(now) { // the provider is away: look again in a moment
		until = now.Add(time.Second)
	}
	return p, until, nil
}

// obtainToken returns the token of a client: the remembered one, or a new one.
func obtainToken(ctx context.Context, w *gateway, id, secret string) (*upstreamToken, error) {
	key := keyedHash(id + "\x00" + secret)
	now := time.Now()
	known, _ := recall(w.tokens, key).(*upstreamToken)
	if known != nil && now.Before(known.renewAt) {
		return known, nil
	}
	if known == nil {
		if no, _ := recall(w.tokens, key).(*refusal); no != nil && now.Before(no.until) {
			return nil, no.err
		}
	}
	value, err := share(ctx, &w.client.flights, "client credentials "+key, func(ctx context.Context) (interface{}, error) {
		return requestUpstreamToken(ctx, w, id, secret, key)
	})
	if err == nil {
		return value.(*upstreamToken), nil
	}
	if known != nil && now.Before(known.endAt) && errors.Is(err, errUnavailable) {
		return known, nil
	}
	if known == nil {
		remember(w.tokens, key, &refusal{err: err, until: now.Add(credentialGap)})
	}
	return nil, err
}

// requestUpstreamToken sends the grant.
func requestUpstreamToken(ctx context.Context, w *gateway, id, secret, key string) (*upstreamToken, error) {
	form := url.Values{}
	for name, values := range w.form {
		form[name] = values
	}
	c := w.client
	m := &metadata{token: c.overrides.Token}
	var status int
	var body []byte
	var err error
	if w.own {
		status, body, err = post(ctx, c, m, "client credentials", m.token, form)
	} else {
		status, body, err = postWith(ctx, c, m, "client credentials", m.token, form, map[string]string{"Authorization": basicAuthorization(id, secret)})
	}
	if err != nil {
		return nil, err
	}
	if status == http.StatusUnauthorized && !w.own {
		return nil, fmt.Errorf("%w: client credentials: the provider does not know client %q with this secret", errInvalidToken, clip(id))
	}
	t, err := readTokens(c, status, body)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	life := time.Duration(t.expiresIn) * time.Second
	if life == 0 {
		life = unknownLife
	}
	lead := renewLead
	if lead > life/10 {
		lead = life / 10
	}
	made := &upstreamToken{raw: t.accessToken, renewAt: now.Add(life - lead), endAt: now.Add(life)}
	if parsed, err := parseToken(t.accessToken); err == nil {
		made.claims = parsed.claims
	}
	remember(w.tokens, key, made)
	return made, nil
}
