package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

const gatewayBlock = "oAuthClientCredentials."

// gateway is a site whose upstream gets a token of the client machine.
func gateway(p *provider.Provider, more with) site {
	s := tokens(with{gatewayBlock + "url": p.Issuer + "/token", gatewayBlock + "clientId": machine.ID, gatewayBlock + "clientSecret": machine.Secret})
	for name, value := range more {
		s.with[name] = value
		if value == drop { // for try, whose option comes before what its base says
			delete(s.with, name)
		}
	}
	return s
}

// tokenFor tells whose token the application got: its sub, "opaque", or what became of the request.
func tokenFor(lines ...string) func(v *visitor) string {
	return func(v *visitor) string {
		page := v.call(http.MethodGet, "/api", "", lines...)
		if got := v.outcome(page); got != in {
			return got
		}
		token, isBearer := strings.CutPrefix(v.received(page).Header.Get("Authorization"), "Bearer ")
		if claims, err := provider.Claims(token); err == nil {
			return fmt.Sprint(claims["sub"])
		}
		if !isBearer || token == "" {
			return "no token"
		}
		return "opaque"
	}
}

// jwtMachine is machine with tokens that can be read.
func jwtMachine(id string) provider.Client {
	client := machine
	client.ID, client.JWTAccessTokens = id, true
	return client
}

// TestClientCredentialsOptions has the cases of the options oAuthClientCredentials.*.
func TestClientCredentialsOptions(t *testing.T) {
	t.Parallel()
	l := start(t)
	posting := machine
	posting.ID, posting.AuthMethod = "posting", "client_secret_post"
	p := newProvider(t, provider.Options{Clients: []provider.Client{jwtMachine("machine"), jwtMachine("second"), posting}})
	other := newProvider(t, provider.Options{Clients: []provider.Client{machine}})
	try(t, "oAuthClientCredentials.url", gateway(p, with{"oAuthClientCredentials.url": drop}), tokenFor(),
		row{p.Issuer + "/token", "machine"}, row{other.Issuer + "/token", "opaque"})
	try(t, "oAuthClientCredentials.clientId", gateway(p, with{"oAuthClientCredentials.clientId": drop}), tokenFor(),
		row{"machine", "machine"}, row{"second", "second"}, row{"third", "Bad Gateway"})
	try(t, "oAuthClientCredentials.clientSecret", gateway(p, with{"oAuthClientCredentials.clientSecret": drop}), tokenFor(),
		row{machine.Secret, "machine"}, row{"wrong", "Bad Gateway"})
	try(t, "oAuthClientCredentials.clientAuthMethod", gateway(p, with{"oAuthClientCredentials.clientId": "posting"}), tokenFor(),
		row{"client_secret_post", "opaque"}, row{"client_secret_basic", "Bad Gateway"})
	try(t, "oAuthClientCredentials.claims", gateway(p, nil), tokenFor(), row{drop, "machine"}, row{"Equals(`sub`, `machine`)", "machine"}, row{"Equals(`sub`, `other`)", "Forbidden"})
	try(t, "oAuthClientCredentials.forwardHeaders", gateway(p, nil), told("X-Who", "X-Who: root"), row{drop, "root"}, row{with{"X-Who": "sub"}, "machine"})
	try(t, "oAuthClientCredentials.usernameClaim", gateway(p, nil), func(v *visitor) string {
		v.call(http.MethodGet, "/", "")
		entries := v.app.lab.traefik.AccessLog(v.app.name)
		return entries[len(entries)-1]["ClientUsername"].(string)
	}, row{drop, "-"}, row{"sub", "machine"})

	key, wrong := newKey(t, "ES256"), newKey(t, "ES256")
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Use: "sig", Algorithm: "ES256"}}})
	if err != nil {
		t.Fatal(err)
	}
	node := l.nodeProvider(t, provider.NodeOptions{Clients: []map[string]any{{
		"client_id": "signing", "redirect_uris": []string{}, "response_types": []string{}, "grant_types": []string{"client_credentials"},
		"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256", "jwks": json.RawMessage(text),
	}}})
	t.Run("key", func(t *testing.T) { // ends before the provider does
		try(t, "oAuthClientCredentials.clientKey", tokens(with{gatewayBlock + "url": node.Issuer + "/token", gatewayBlock + "clientId": "signing"}), tokenFor(),
			row{encodeKey(t, key), "opaque"}, row{encodeKey(t, wrong), "Bad Gateway"})
	})
}

// TestClientCredentialsRequest has the cases of the options that the token request says.
func TestClientCredentialsRequest(t *testing.T) {
	t.Parallel()
	covers(t, "oAuthClientCredentials.audience", "oAuthClientCredentials.scopes", "oAuthClientCredentials.params")
	l := start(t)
	for _, test := range []struct {
		with            with
		parameter, want string
	}{
		{with{}, "audience", ""}, {with{gatewayBlock + "audience": "https://api.example.com"}, "audience", "https://api.example.com"},
		{with{}, "scope", ""}, {with{gatewayBlock + "scopes": []string{"read", "write"}}, "scope", "read write"},
		{with{gatewayBlock + "params": with{"tenant": "one"}}, "tenant", "one"}, {with{gatewayBlock + "params": "tenant=two"}, "tenant", "two"},
	} {
		p := newProvider(t, provider.Options{Clients: []provider.Client{machine}})
		if got := tokenFor()(l.serve(t, gateway(p, test.with)).visitor(t)); got != "opaque" || p.Calls("token")[0].Form.Get(test.parameter) != test.want {
			t.Errorf("%v: %s, %v", test.with, got, p.Calls("token")[0].Form)
		}
	}
}

// TestClientCredentialsConnectionOptions has the cases of the options by which tokens are asked for.
func TestClientCredentialsConnectionOptions(t *testing.T) {
	t.Parallel()
	covers(t, "oAuthClientCredentials.clientConfig.tls.ca", "oAuthClientCredentials.clientConfig.tls.cert", "oAuthClientCredentials.clientConfig.tls.key",
		"oAuthClientCredentials.clientConfig.tls.insecureSkipVerify", "oAuthClientCredentials.clientConfig.timeoutSeconds", "oAuthClientCredentials.clientConfig.maxRetries")
	connections(t, "oAuthClientCredentials", func(p *provider.Provider) site { return gateway(p, nil) }, func(*provider.Provider) func(v *visitor) string { return bring() }, "Service Unavailable")
}

// TestClientCredentialsStore has the cases of the options store.*: a token that one Traefik obtained serves another, if both have
// the secret, and Redis is asked under the names that were chosen.
func TestClientCredentialsStore(t *testing.T) {
	t.Parallel()
	covers(t, "oAuthClientCredentials.store.redis.endpoints", "oAuthClientCredentials.store.redis.password", "oAuthClientCredentials.store.redis.username",
		"oAuthClientCredentials.store.redis.database", "oAuthClientCredentials.store.keyPrefix", "oAuthClientCredentials.store.secret")
	server := need(t, "redis-server")
	l := start(t)
	port, err := parts.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	redis, err := parts.StartProcess(parts.Command{Name: "Redis", Path: server, Dir: t.TempDir(), LogFile: t.TempDir() + "/redis.log",
		Args: []string{"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--user", "gateway", "on", ">a-password", "~tokens:*", "+@all", "--user", "default", "off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Stop)
	if err := redis.WaitFor("ready", 10*time.Second, func() bool { return strings.Contains(redis.Log(0), "Ready to accept connections") }); err != nil {
		t.Fatal(err)
	}
	second, err := l.newTraefik("second-"+t.Name(), parts.TraefikOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Stop)
	right := with{"store.redis.endpoints": []string{fmt.Sprintf("127.0.0.1:%d", port)}, "store.redis.username": "gateway", "store.redis.password": "a-password",
		"store.redis.database": 3, "store.keyPrefix": "tokens:", "store.secret": "a secret of sixteen or more"}
	for _, test := range []struct {
		name  string
		other with // of the second Traefik
		calls int  // for tokens
	}{
		{"the same", nil, 1},
		{"another secret", with{"store.secret": "another secret of sixteen or more"}, 2},
		{"another prefix", with{"store.keyPrefix": "tokens:more:"}, 2},
		{"another database", with{"store.redis.database": 4}, 2},
		{"another password", with{"store.redis.password": "wrong"}, 2},
		{"another user", with{"store.redis.username": "nobody"}, 2},
		{"another server", with{"store.redis.endpoints": "127.0.0.1:1"}, 2},
		{"a prefix that the user may not have", with{"store.keyPrefix": "foreign:"}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newProvider(t, provider.Options{Clients: []provider.Client{machine}})
			site := gateway(p, nil)
			for name, value := range right {
				site.with[gatewayBlock+name] = value
			}
			app := l.serve(t, site)
			first := app.visitor(t)
			if got := tokenFor()(first); got != "opaque" {
				t.Fatalf("the first Traefik: %s\n%s", got, app.log())
			}
			for name, value := range test.other {
				site.with[gatewayBlock+name] = value
			}
			if err := second.SetRoutes(app.name, parts.Route{Name: app.name, Options: site.with.nested(), Backend: l.upstream.URL}); err != nil {
				t.Fatal(err)
			}
			other := app.visitor(t)
			other.base = strings.Replace(second.URL, "127.0.0.1", app.host, 1)
			if got := tokenFor()(other); got != "opaque" || p.Grants("client_credentials") != test.calls {
				t.Errorf("%s; %d tokens, want %d\n%s", got, p.Grants("client_credentials"), test.calls, second.Log(0))
			}
		})
	}
}

// storingTokens is a gateway that keeps its tokens where base would keep sessions. Each asks in its own way, or one would use a token
// that another has in memory.
func (l *lab) storingTokens(base with) site {
	l.provider.AddClient(machine)
	s := gateway(l.provider, with{gatewayBlock + "store.secret": "a secret of sixteen or more", gatewayBlock + "params": "tenant={site}"})
	for name, value := range base {
		s.with[gatewayBlock+strings.TrimPrefix(name, "session.")] = value
	}
	return s
}

// tokenKept says whether a token that was obtained is in one of these servers: one that cannot be kept is used all the same.
func tokenKept(servers ...*redis) func(v *visitor) string {
	return func(v *visitor) string {
		if got := tokenFor()(v); got != "opaque" {
			return got
		}
		for _, server := range servers {
			if len(server.keys(v.t, v.app, "token:")) > 0 {
				return "kept"
			}
		}
		return "not kept"
	}
}

// TestClientCredentialsOfCallers: every caller's own client at a real provider; a wrong password is a 401 and does not hammer it.
func TestClientCredentialsOfCallers(t *testing.T) {
	t.Parallel()
	p := newProvider(t, provider.Options{Clients: []provider.Client{jwtMachine("machine"), jwtMachine("second")}})
	app := start(t).serve(t, tokens(with{gatewayBlock + "url": p.Issuer + "/token"}))
	v := app.visitor(t)
	for range 3 {
		for _, id := range []string{"machine", "second"} {
			if got := tokenFor("Authorization: " + plainBasic(id, machine.Secret))(v); got != id {
				t.Errorf("%s: %s\n%s", id, got, app.log())
			}
		}
		page := v.call(http.MethodGet, "/", "", "Authorization: "+plainBasic("machine", "wrong"))
		if page.Status != http.StatusUnauthorized || !strings.HasPrefix(page.Header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("a wrong password: %s", page)
		}
	}
	if page := v.call(http.MethodGet, "/", ""); page.Status != http.StatusUnauthorized || !strings.HasPrefix(page.Header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("no password: %s", page)
	}
	if log := app.log(); !strings.Contains(log, "the caller's credentials are wrong") || strings.Contains(log, "wrong:") {
		t.Errorf("the log:\n%s", log)
	}
}

// TestClientCredentialsBadAnswers: status and log line for what a token endpoint should not answer.
func TestClientCredentialsBadAnswers(t *testing.T) {
	t.Parallel()
	l := start(t)
	for _, test := range []struct{ name, body, want, line string }{
		{"no access_token", `{"token_type":"Bearer","expires_in":60}`, "Service Unavailable", "the answer has no access_token"},
		{"expires_in 0", `{"access_token":"a","token_type":"Bearer","expires_in":0}`, "opaque", "expires_in: expected the seconds that the token lasts, got none"},
		{"token_type mac", `{"access_token":"a","token_type":"mac","expires_in":60}`, "Service Unavailable", "token_type: expected"},
		{"HTML", `<h1>Back soon</h1>`, "Service Unavailable", "JSON: must be an object"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t, provider.Options{})
			p.Instead("token", func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte(test.body)) })
			app := l.serve(t, gateway(p, nil))
			if got := tokenFor()(app.visitor(t)); got != test.want || !strings.Contains(app.log(), test.line) {
				t.Errorf("got %q, want %q and a line with %q:\n%s", got, test.want, test.line, app.log())
			}
		})
	}
}

// TestClientCredentialsOneCall: a thousand requests at a gateway that has no token yet are one request for it.
func TestClientCredentialsOneCall(t *testing.T) {
	t.Parallel()
	p := newProvider(t, provider.Options{Clients: []provider.Client{machine}})
	app := start(t).serve(t, gateway(p, nil))
	p.Slow(300 * time.Millisecond)
	v := app.visitor(t)
	refused := thousandAtOnce(v, app)
	if n := p.Grants("client_credentials"); refused > 0 || n != 1 {
		t.Errorf("%d were refused, %d calls", refused, n)
	}
}

// TestMixedSignInAndGateway: people sign in, and the application gets the gateway's token beside their name.
func TestMixedSignInAndGateway(t *testing.T) {
	t.Parallel()
	p := newProvider(t, provider.Options{Clients: []provider.Client{jwtMachine("machine")}})
	app := start(t).serve(t, site{with: with{"forwardHeaders": with{"X-User": "sub"}, gatewayBlock + "url": p.Issuer + "/token",
		gatewayBlock + "clientId": machine.ID, gatewayBlock + "clientSecret": machine.Secret, gatewayBlock + "forwardHeaders": with{"X-Client": "sub"}}})
	alice := app.visitor(t)
	alice.signIn("/", provider.Alice)
	for range 3 {
		got := alice.received(alice.open("/")).Header
		claims, err := provider.Claims(strings.TrimPrefix(got.Get("Authorization"), "Bearer "))
		if err != nil || claims["sub"] != "machine" || got.Get("X-User") != "user-alice" || got.Get("X-Client") != "machine" {
			t.Errorf("the application got %v (%v)", got, err)
		}
	}
	if n := p.Grants("client_credentials"); n != 1 {
		t.Errorf("%d tokens", n)
	}
	if got := bring()(app.visitor(t)); got != out {
		t.Errorf("nobody: %s", got)
	}
}
