package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// The client of an introspection that stands without a sign-in, by each method of proving who it is, at real providers.

// prove is a site that asks about tokens, with the client of the top level.
func prove(url string, more with) site {
	s := tokens(with{"oAuthIntrospection.tokenSource.header": "Authorization", "oAuthIntrospection.tokenSource.headerAuthScheme": "Bearer",
		"oAuthIntrospection.forwardHeaders": with{"X-Client": "client_id"}, "oAuthIntrospection.clientConfig.url": url})
	for name, value := range more {
		s.with[name] = value
	}
	return s
}

// TestIntrospectionClientMethods: each method, right and wrong, at npm oidc-provider, which knows them all.
func TestIntrospectionClientMethods(t *testing.T) {
	t.Parallel()
	l := start(t)
	const secret, block = "the secret of this API", "oAuthIntrospection.clientConfig."
	key, wrongKey := newKey(t, "ES256"), newKey(t, "ES256")
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Use: "sig", Algorithm: "ES256"}}})
	if err != nil {
		t.Fatal(err)
	}
	config, err := l.ca.ServerConfig("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	client := func(method string, more map[string]any) map[string]any {
		made := map[string]any{"client_id": "api-" + method, "token_endpoint_auth_method": method, "redirect_uris": []string{}, "response_types": []string{}, "grant_types": []string{}}
		for name, value := range more {
			made[name] = value
		}
		return made
	}
	node := l.nodeProvider(t, provider.NodeOptions{TLS: config, Clients: []map[string]any{
		{"client_id": "caller", "client_secret": secret, "redirect_uris": []string{}, "response_types": []string{}, "grant_types": []string{"client_credentials"}},
		client("client_secret_basic", map[string]any{"client_secret": secret}),
		client("client_secret_post", map[string]any{"client_secret": secret}),
		client("private_key_jwt", map[string]any{"jwks": json.RawMessage(keys), "token_endpoint_auth_signing_alg": "ES256"}),
		client("tls_client_auth", map[string]any{"tls_client_auth_san_dns": "the right client"}),
		client("none", nil),
	}})
	certificates := map[string]with{}
	for _, name := range []string{"the right client", "another client"} {
		certificate, private, err := l.ca.Issue(name)
		if err != nil {
			t.Fatal(err)
		}
		certificates[name] = with{block + "tls.cert": certificate, block + "tls.key": private}
	}
	token := ownToken(t, node.Issuer, "caller", secret, url.Values{"resource": {"https://opaque.example.com"}, "scope": {"read"}})
	signing := func(text string) with { return with{"clientKey": text, "clientKeyId": "k", "clientKeyAlg": "ES256"} }
	const away, refused = "Service Unavailable", "check the client's credentials"
	t.Run("methods", func(t *testing.T) { // end before the provider does
		for _, row := range []struct {
			method, name string
			with         with
			want, line   string
			sent         func(call provider.Call) bool
		}{
			{"client_secret_basic", "right", with{"clientSecret": secret}, in, "", func(c provider.Call) bool {
				return c.Header.Get("Authorization") == basic("api-client_secret_basic", secret) && !c.Form.Has("client_secret")
			}},
			{"client_secret_basic", "wrong", with{"clientSecret": "another"}, away, refused, nil},
			{"client_secret_post", "right", with{"clientSecret": secret}, in, "", func(c provider.Call) bool {
				return c.Form.Get("client_secret") == secret && c.Header.Get("Authorization") == ""
			}},
			{"client_secret_post", "wrong", with{"clientSecret": "another"}, away, refused, nil},
			{"private_key_jwt", "right", signing(encodeKey(t, key)), in, "", func(c provider.Call) bool {
				return c.Form.Has("client_assertion") && headerMember(t, c.Form.Get("client_assertion"), "kid") == "k" && c.Header.Get("Authorization") == ""
			}},
			{"private_key_jwt", "wrong", signing(encodeKey(t, wrongKey)), away, refused, nil},
			{"tls_client_auth", "right", certificates["the right client"], in, "", func(c provider.Call) bool {
				return c.Form.Get("client_id") == "api-tls_client_auth" && c.Header.Get("Authorization") == ""
			}},
			{"tls_client_auth", "wrong", certificates["another client"], away, refused, nil},
			{"none", "right", nil, in, "", func(c provider.Call) bool {
				return c.Form.Get("client_id") == "api-none" && c.Header.Get("Authorization") == "" && !c.Form.Has("client_secret")
			}},
			{"none", "wrong", with{"clientId": "nobody"}, away, refused, nil},
		} {
			t.Run(row.method+" "+row.name, func(t *testing.T) {
				t.Parallel()
				s := prove(node.Issuer+"/introspect", with{"clientId": "api-" + row.method, "clientAuthMethod": row.method, block + "tls.ca": l.ca.PEM})
				for name, value := range row.with {
					s.with[name] = value
				}
				app := l.serve(t, s)
				v := app.visitor(t)
				page := v.call(http.MethodGet, "/api", "", "Authorization: Bearer "+token)
				if got := v.outcome(page); got != row.want || !strings.Contains(app.log(), row.line) {
					t.Errorf("got %q, want %q and a line with %q\n%s", got, row.want, row.line, app.log())
				}
				if row.want == in && v.received(page).Header.Get("X-Client") != "caller" {
					t.Errorf("the application got %v", v.received(page).Header)
				}
				if calls := node.Calls("introspect"); row.sent != nil && !slices.ContainsFunc(calls, row.sent) {
					t.Errorf("asked with %v", calls)
				}
				if strings.Contains(app.log(), secret) || strings.Contains(app.log(), token) {
					t.Errorf("a secret is in the log:\n%s", app.log())
				}
			})
		}
	})
}

// TestIntrospectionClientIssuer: without an address the issuer's metadata says where to ask, and an assertion is made for the issuer,
// which is all that zitadel's provider accepts.
func TestIntrospectionClientIssuer(t *testing.T) {
	t.Parallel()
	l := start(t)
	key := newKey(t, "RS256")
	p := newProvider(t, provider.Options{Clients: []provider.Client{machine, {ID: "api", AuthMethod: "private_key_jwt", PublicKey: key.Public()}}})
	header := "Authorization: Bearer " + ownToken(t, p.Issuer, machine.ID, machine.Secret, nil)
	signing := with{"clientId": "api", "clientAuthMethod": "private_key_jwt", "clientKey": encodeKey(t, key)}
	try(t, "oAuthIntrospection.issuer", prove(p.Issuer+"/introspect", signing), bring(header),
		row{p.Issuer, in}, row{"https://other.example.com", "Service Unavailable"}, row{drop, "Service Unavailable"})

	s := prove("", with{"clientId": machine.ID, "clientSecret": machine.Secret, "oAuthIntrospection.issuer": p.Issuer, "oAuthIntrospection.resource": "https://api.example.com/x"})
	delete(s.with, "oAuthIntrospection.clientConfig.url")
	s.with["oAuthIntrospection.audience"] = machine.ID
	app := l.serve(t, s)
	if got := bring(header)(app.visitor(t)); got != in {
		t.Errorf("by discovery: %s\n%s", got, app.log())
	}
	v := app.visitor(t)
	document := v.call(http.MethodGet, "/.well-known/oauth-protected-resource/x", "")
	if !strings.Contains(document.Body, `"authorization_servers":["`+p.Issuer+`"]`) {
		t.Errorf("the description does not name the issuer: %s", document.Body)
	}
	for want, more := range map[string]with{
		"clientId: required with clientSecret":                                                      {"clientSecret": "a secret of nobody"},
		`oAuthIntrospection.clientConfig.tls.cert: required for clientAuthMethod "tls_client_auth"`: {"clientId": "api", "clientAuthMethod": "tls_client_auth"},
	} {
		if words := strings.ReplaceAll(l.refuse(t, prove(p.Issuer+"/introspect", more)), `\`, ""); !strings.Contains(words, want) {
			t.Errorf("%v: expected %s in\n%s", more, want, words)
		}
	}
}
