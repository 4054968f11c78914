package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// asking is a site that asks a provider about tokens, as the client machine.
func asking(p *provider.Provider, more with) site {
	s := tokens(with{
		"oAuthIntrospection.tokenSource.header": "Authorization", "oAuthIntrospection.tokenSource.headerAuthScheme": "Bearer",
		"oAuthIntrospection.clientConfig.url":     p.Issuer + "/introspect",
		"oAuthIntrospection.clientConfig.headers": with{"Authorization": basic(machine.ID, machine.Secret)},
	})
	for name, value := range more {
		s.with[name] = value
	}
	return s
}

// TestIntrospectionOptions has the cases of the options oAuthIntrospection.*, with opaque tokens of the first provider.
func TestIntrospectionOptions(t *testing.T) {
	t.Parallel()
	start(t)
	audience := machine
	audience.Audience = []string{"api"}
	p := newProvider(t, provider.Options{Clients: []provider.Client{audience}})
	other := newProvider(t, provider.Options{Clients: []provider.Client{machine}})
	token := ownToken(t, p.Issuer, machine.ID, machine.Secret, url.Values{"scope": {"read"}})
	header := "Authorization: Bearer " + token
	try(t, "oAuthIntrospection.clientConfig.url", site{with: with{"issuer": drop, "clientId": drop, "clientSecret": drop,
		"oAuthIntrospection.tokenSource.header": "Authorization", "oAuthIntrospection.tokenSource.headerAuthScheme": "Bearer",
		"oAuthIntrospection.clientConfig.headers": asking(p, nil).with["oAuthIntrospection.clientConfig.headers"]}}, bring(header),
		row{p.Issuer + "/introspect", in}, row{other.Issuer + "/introspect", out})
	without := asking(p, nil)
	delete(without.with, "oAuthIntrospection.clientConfig.headers")
	try(t, "oAuthIntrospection.clientConfig.headers", without, bring(header, "Who: "+basic(machine.ID, machine.Secret)),
		row{with{"Authorization": basic(machine.ID, machine.Secret)}, in}, row{with{"authorization": `{{ .Request.Header.Get "Who" }}`}, in},
		row{with{"Authorization": basic(machine.ID, "wrong")}, "Service Unavailable"})
	hint := func(v *visitor) string { // the only token of its site
		own := ownToken(v.t, p.Issuer, machine.ID, machine.Secret, nil)
		v.call(http.MethodGet, "/", "", "Authorization: Bearer "+own)
		for _, call := range p.Calls("introspect") {
			if call.Form.Get("token") == own {
				return call.Form.Get("token_type_hint")
			}
		}
		return "not asked"
	}
	try(t, "oAuthIntrospection.clientConfig.tokenTypeHint", asking(p, nil), hint, row{drop, ""}, row{"access_token", "access_token"})
	try(t, "oAuthIntrospection.tokenTypeHint", asking(p, nil), hint, row{drop, ""}, row{"refresh_token", "refresh_token"})
	calls := func(v *visitor) string {
		own := ownToken(v.t, p.Issuer, machine.ID, machine.Secret, nil)
		for range 3 {
			if got := bring("Authorization: Bearer " + own)(v); got != in {
				return got
			}
		}
		n := 0
		for _, call := range p.Calls("introspect") {
			if call.Form.Get("token") == own {
				n++
			}
		}
		return map[int]string{1: "once", 3: "each time"}[n]
	}
	try(t, "oAuthIntrospection.cacheSeconds", asking(p, nil), calls, row{drop, "once"}, row{"0", "each time"})
	try(t, "oAuthIntrospection.audience", asking(p, nil), bring(header), row{drop, in}, row{"api", in}, row{[]string{"other"}, out})
	try(t, "oAuthIntrospection.resource", asking(p, nil), func(v *visitor) string {
		return strings.ReplaceAll(v.call(http.MethodGet, "/", "").Header.Get("WWW-Authenticate"), v.app.name, "NAME")
	}, row{drop, `Bearer realm="NAME"`}, row{"https://api.example.com", `Bearer realm="NAME", resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"`})
	try(t, "oAuthIntrospection.claims", asking(p, nil), bring(header), row{drop, in}, row{"SplitContains(`scope`, ` `, `read`)", in}, row{"Equals(`client_id`, `other`)", "Forbidden"},
		row{"Equals(`sub`, `machine`)", "Forbidden"}) // it is no user, whatever it calls itself
	try(t, "oAuthIntrospection.forwardHeaders", asking(p, nil), told("X-Who", header, "X-Who: root"), row{drop, "root"}, row{with{"X-Who": "client_id"}, "machine"}, row{with{"X-Who": "sub"}, ""})
	try(t, "oAuthIntrospection.usernameClaim", asking(p, nil), func(v *visitor) string {
		v.call(http.MethodGet, "/", "", header)
		entries := v.app.lab.traefik.AccessLog(v.app.name)
		return entries[len(entries)-1]["ClientUsername"].(string)
	}, row{drop, "-"}, row{"client_id", "machine"})
	try(t, "oAuthIntrospection.forwardAuthorization", asking(p, nil), told("Authorization", header), row{drop, ""}, row{true, "Bearer " + token})

	places := asking(p, nil)
	delete(places.with, "oAuthIntrospection.tokenSource.header")
	delete(places.with, "oAuthIntrospection.tokenSource.headerAuthScheme")
	try(t, "oAuthIntrospection.tokenSource.header", places, bring("X-Token: "+token), row{"X-Token", in}, row{"X-Other", out})
	scheme := places
	scheme.with = with{"oAuthIntrospection.tokenSource.header": "X-Token"}
	for name, value := range places.with {
		scheme.with[name] = value
	}
	try(t, "oAuthIntrospection.tokenSource.headerAuthScheme", scheme, bring("X-Token: opaque "+token), row{drop, out}, row{"opaque", in})
	try(t, "oAuthIntrospection.tokenSource.cookie", places, bring("Cookie: token="+token), row{"token", in}, row{"other", out})
	try(t, "oAuthIntrospection.tokenSource.query", places, func(v *visitor) string { return v.outcome(v.call(http.MethodGet, "/?token="+token, "")) },
		row{"token", in}, row{"other", out})
}

// TestIntrospectionConnectionOptions has the cases of the options by which the provider is asked.
func TestIntrospectionConnectionOptions(t *testing.T) {
	t.Parallel()
	covers(t, "oAuthIntrospection.clientConfig.tls.ca", "oAuthIntrospection.clientConfig.tls.cert", "oAuthIntrospection.clientConfig.tls.key",
		"oAuthIntrospection.clientConfig.tls.insecureSkipVerify", "oAuthIntrospection.clientConfig.timeoutSeconds", "oAuthIntrospection.clientConfig.maxRetries")
	connections(t, "oAuthIntrospection", func(p *provider.Provider) site { return asking(p, nil) }, func(p *provider.Provider) func(v *visitor) string {
		return bring("Authorization: Bearer " + ownToken(t, p.Issuer, machine.ID, machine.Secret, nil))
	}, "Service Unavailable")
}

// TestIntrospectionBesideSignIn: the sign-in's client asks where discovery says, in every way that it can prove itself.
func TestIntrospectionBesideSignIn(t *testing.T) {
	t.Parallel()
	start(t)
	own := func(v *visitor) string {
		return bring("Authorization: Bearer " + ownToken(v.t, v.app.provider.Issuer, v.app.name, v.app.secret(), nil))(v)
	}
	machines := func(c *provider.Client) { c.ClientCredentials = true }
	beside := with{"oAuthIntrospection.cacheSeconds": 1}
	p, address := elsewhere(t, "introspect")
	try(t, "endpoints.introspection", site{provider: p, client: machines, with: beside}, own, row{drop, "Service Unavailable"}, row{address, in})
}

// TestIntrospectionOneCall: a thousand requests with one new token are one question.
func TestIntrospectionOneCall(t *testing.T) {
	t.Parallel()
	p := newProvider(t, provider.Options{Clients: []provider.Client{machine}})
	app := start(t).serve(t, asking(p, nil))
	token := ownToken(t, p.Issuer, machine.ID, machine.Secret, nil)
	p.Slow(300 * time.Millisecond)
	v := app.visitor(t)
	v.Header = http.Header{"Authorization": {"Bearer " + token}}
	refused := thousandAtOnce(v, app)
	if n := len(p.Calls("introspect")); refused > 0 || n != 1 {
		t.Errorf("%d were refused, %d calls", refused, n)
	}
}

// TestBearerAtNodeProvider: the other provider's opaque tokens by introspection, and its JWT access tokens (RFC 9068) for a resource.
func TestBearerAtNodeProvider(t *testing.T) {
	t.Parallel()
	l := start(t)
	const secret = "a secret of our own"
	node := l.nodeProvider(t, provider.NodeOptions{Clients: []map[string]any{{
		"client_id": "machine", "client_secret": secret, "redirect_uris": []string{}, "response_types": []string{}, "grant_types": []string{"client_credentials"},
	}}})
	opaque := ownToken(t, node.Issuer, "machine", secret, url.Values{"resource": {"https://opaque.example.com"}, "scope": {"read"}})
	jwt := ownToken(t, node.Issuer, "machine", secret, url.Values{"resource": {"https://api.example.com"}, "scope": {"read"}})
	asks := with{"oAuthIntrospection.clientConfig.headers": with{"Authorization": basic("machine", secret)}, "oAuthIntrospection.tokenSource.header": "Authorization",
		"oAuthIntrospection.tokenSource.headerAuthScheme": "Bearer", "oAuthIntrospection.clientConfig.url": node.Issuer + "/introspect", "oAuthIntrospection.claims": "Equals(`scope`, `read`)"}
	app := l.serve(t, tokens(asks))
	if got := bring("Authorization: Bearer " + opaque)(app.visitor(t)); got != in {
		t.Errorf("an opaque token: %s", got)
	}
	if got := bring("Authorization: Bearer x" + opaque)(app.visitor(t)); got != out {
		t.Errorf("a wrong opaque token: %s", got)
	}
	try(t, "jwt.resource", tokens(with{"jwt.issuer": node.Issuer, "jwt.claims": "Equals(`client_id`, `machine`) && !Exists(`sub`)"}), bring("Authorization: Bearer "+jwt),
		row{"https://api.example.com", in}, row{"https://other.example.com", out})
}
