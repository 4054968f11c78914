package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
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

// TestIntrospectionBadAnswers: status and log line for what stands in front of providers, or has gone wrong behind them.
func TestIntrospectionBadAnswers(t *testing.T) {
	t.Parallel()
	l := start(t)
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
		line   string
	}{
		"HTML":           {func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte("<h1>Back soon</h1>")) }, "Service Unavailable", "introspection: POST"},
		"active as text": {func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte(`{"active":"true","sub":"a"}`)) }, out, `active: expected true, got \"true\"`},
		"500":            {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) }, "Service Unavailable", "500 Internal Server Error"},
		"nothing":        {func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }, "Service Unavailable", "no answer in time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t, provider.Options{})
			p.Instead("introspect", test.answer)
			app := l.serve(t, asking(p, with{"oAuthIntrospection.clientConfig.timeoutSeconds": 1}))
			got := bring("Authorization: Bearer token")(app.visitor(t))
			if log := strings.ReplaceAll(app.log(), `\\`, `\`); got != test.want || !strings.Contains(log, test.line) && !strings.Contains(log, strings.ReplaceAll(test.line, `\`, "")) {
				t.Errorf("got %q, want %q and a line with %s:\n%s", got, test.want, test.line, log)
			}
		})
	}
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
	var all sync.WaitGroup
	var wrong atomic.Int64
	for range 1000 {
		all.Go(func() {
			page, err := v.Fetch(http.MethodGet, app.URL+"/", "", nil)
			if err != nil || v.outcome(page) != in {
				wrong.Add(1)
			}
		})
	}
	all.Wait()
	if n := len(p.Calls("introspect")); wrong.Load() > 0 || n != 1 {
		t.Errorf("%d were refused, %d calls", wrong.Load(), n)
	}
}

// TestMixedWithRealTokens: users' own access tokens of a real provider, opaque and as JWTs, on a route where browsers sign in.
func TestMixedWithRealTokens(t *testing.T) {
	t.Parallel()
	l := start(t)
	for name, test := range map[string]struct {
		jwt  bool
		with with
	}{
		"jwt":           {true, with{"jwt": true}},
		"introspection": {false, with{"oAuthIntrospection.cacheSeconds": 60}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.with["claims"] = "Exists(`sub`)"
			test.with["forwardHeaders"] = with{"X-User": "sub", "X-Token": "{access_token}", "X-Groups": "groups"}
			app := l.serve(t, site{with: test.with, client: func(c *provider.Client) { c.JWTAccessTokens, c.ClientCredentials = test.jwt, true }})
			alice, bob := app.visitor(t), app.visitor(t)
			alice.signIn("/", provider.Alice)
			token := bob.received(bob.signIn("/", provider.Bob)).Header.Get("X-Token")
			for range 3 {
				for _, page := range []string{"page", "script"} { // with Alice's session, and Bob's token
					alice.Header = http.Header{"Authorization": {"Bearer " + token}}
					seen := alice.fetch(http.MethodGet, "/api")
					if page == "page" {
						seen = alice.look("/page")
					}
					got := alice.received(seen).Header
					if got.Get("X-User") != "user-bob" || got.Get("X-Groups") != "users" || got.Get("Cookie") != "" || got.Get("Authorization") != "" {
						t.Errorf("a %s with both: %v", page, got)
					}
				}
				alice.Header = http.Header{"Authorization": {"Bearer bad"}}
				if page := alice.look("/page"); page.Status != http.StatusUnauthorized || !strings.Contains(page.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
					t.Errorf("a bad token beside a session: %s", page)
				}
				alice.Header = http.Header{}
				if got := alice.received(alice.fetch(http.MethodGet, "/api")).Header.Get("X-User"); got != "user-alice" {
					t.Errorf("the session alone: %s", got)
				}
				nobody := app.visitor(t)
				if got := nobody.outcome(nobody.look("/page")); got != "sign-in" {
					t.Errorf("nothing: %s", got)
				}
			}
			// A token of the client for itself is nobody's.
			own := ownToken(t, app.provider.Issuer, app.name, app.secret(), nil)
			if got := bring("Authorization: Bearer " + own)(app.visitor(t)); got != "Forbidden" {
				t.Errorf("a client's own token: %s", got)
			}
		})
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

// TestBearerUnderPressure: what is sent to confuse, through a real Traefik.
func TestBearerUnderPressure(t *testing.T) {
	t.Parallel()
	l := start(t)
	const secret = "a shared secret of 32 characters"
	token := newToken(t, "HS256", []byte(secret), nil)
	app := l.serve(t, tokens(with{"jwt.signingSecret": secret}))
	v := app.visitor(t)
	for want, lines := range map[string][]string{
		"400 invalid_request": {"Authorization: Bearer " + token, "Authorization: Bearer " + token},
		"401 invalid_token":   {"Authorization: Bearer a.b.c.d.e"},
		"401 ":                {"X-Token: " + token},
	} {
		page := v.call(http.MethodGet, "/", "", lines...)
		_, code, _ := strings.Cut(page.Header.Get("WWW-Authenticate"), `error="`)
		if got := strings.TrimSuffix(http.StatusText(page.Status), " ") + " " + strings.Trim(code, `"`); got != map[string]string{"400": "Bad Request", "401": "Unauthorized"}[want[:3]]+want[3:] {
			t.Errorf("%v: got %s, want %s", lines, got, want)
		}
	}
	huge, err := http.NewRequest(http.MethodGet, app.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	huge.Header.Set("Authorization", "Bearer "+strings.Repeat("x", 1<<20))
	if res, err := v.Client().Do(huge); err == nil {
		res.Body.Close()
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge && res.StatusCode != http.StatusUnauthorized {
			t.Errorf("a token of 1 MB: %s", res.Status)
		}
	}
}
