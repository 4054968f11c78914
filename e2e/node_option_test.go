package e2e

import (
	"crypto"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// nodeCase is a site at npm oidc-provider, with what our first provider does not know or does not insist on.
type nodeCase struct {
	name   string
	client map[string]any // members of its registration, beside the usual ones
	with   with
	see    func(v *visitor, node *provider.Node) string // default: whether a sign-in succeeds
	want   string
}

// tryAtNode tries cases that share one provider, since it takes a second to start.
func tryAtNode(t *testing.T, settings map[string]any, cases ...nodeCase) {
	t.Helper()
	l := start(t)
	var apps []*app
	var clients []map[string]any
	for _, test := range cases {
		app := l.newApp(t, site{})
		client := map[string]any{
			"client_id": app.name, "client_secret": app.secret(), "redirect_uris": app.addresses([]string{"/oidc/callback"}),
			"grant_types": []string{"authorization_code", "refresh_token"},
		}
		for name, value := range test.client {
			client[name] = value
		}
		apps, clients = append(apps, app), append(clients, client)
		t.Cleanup(func() { l.traefik.RemoveFile(app.name) })
	}
	node := l.nodeProvider(t, provider.NodeOptions{Clients: clients, Settings: settings})
	for i, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			options := with{"issuer": node.Issuer}
			for name, value := range test.with {
				options[name] = value
			}
			if err := apps[i].set(site{with: options}); err != nil {
				t.Fatal(err)
			}
			see := test.see
			if see == nil {
				see = func(v *visitor, _ *provider.Node) string { return canSignIn(v) }
			}
			if got := see(apps[i].visitor(t), node); got != test.want {
				t.Errorf("got %q, want %q\n%s", got, test.want, apps[i].log())
			}
		})
	}
}

// header signs in and returns the header X-Who as the application got it.
func header(v *visitor, _ *provider.Node) string {
	return v.received(v.signIn("/", provider.Alice)).Header.Get("X-Who")
}

// pushes signs in and tells whether the request was pushed to the provider (RFC 9126).
func pushes(v *visitor, node *provider.Node) string {
	return canSignIn(v) + ", pushed " + yes(len(node.Calls("par", v.app.name)) > 0)
}

// TestLoginAtNodeOptions has cases whose answer only a provider can give that does what it was asked.
func TestLoginAtNodeOptions(t *testing.T) {
	t.Parallel()
	covers(t, "par", "responseMode", "resource", "acrValues", "idTokenSigningAlg", "clientAuthMethod", "clientKey", "clientKeyAlg", "clientKeyId")
	signs := func(alg string) map[string]any { return map[string]any{"id_token_signed_response_alg": alg} }
	elliptic, edwards, rsa := newKey(t, "ES384"), newKey(t, "EdDSA"), newKey(t, "RS256")
	withKey := func(key crypto.Signer, options with) with {
		options["clientSecret"], options["session.secret"], options["clientKey"] = drop, "a secret of 16 bytes", encodeKey(t, key)
		return options
	}
	const api = "https://api.example.com/v1"
	tryAtNode(t, map[string]any{"acrValues": []string{"gold", "silver"}},
		nodeCase{name: "par=unset", with: with{}, see: pushes, want: "yes, pushed no"},
		nodeCase{name: "par=true", with: with{"par": true}, see: pushes, want: "yes, pushed yes"},
		nodeCase{name: "par=false", with: with{"par": "false"}, see: pushes, want: "yes, pushed no"},

		nodeCase{name: "responseMode=form_post", with: with{"responseMode": "form_post"}, see: byForm, want: "POST"},
		nodeCase{name: "responseMode=unset", with: with{}, see: byForm, want: "GET"},

		nodeCase{name: "resource", with: with{"resource": api, "forwardHeaders": with{"X-Who": "access_token.aud"}}, see: header, want: api},
		nodeCase{name: "resource=unset", with: with{"forwardHeaders": with{"X-Who": "access_token.aud"}}, see: header, want: ""},
		nodeCase{name: "acrValues", with: with{"acrValues": []string{"silver"}, "forwardHeaders": with{"X-Who": "acr"}}, see: header, want: "silver"},
		nodeCase{name: "acrValues=unset", with: with{"forwardHeaders": with{"X-Who": "acr"}}, see: header, want: ""},

		nodeCase{name: "idTokenSigningAlg=HS256", client: signs("HS256"), with: with{"idTokenSigningAlg": "HS256"}, want: "yes"},
		nodeCase{name: "idTokenSigningAlg=PS512", client: signs("PS512"), with: with{"idTokenSigningAlg": "PS512"}, want: "yes"},
		nodeCase{name: "idTokenSigningAlg=ES512", client: signs("ES512"), with: with{"idTokenSigningAlg": "ES512"}, want: "yes"},
		nodeCase{name: "idTokenSigningAlg=EdDSA", client: signs("EdDSA"), with: with{"idTokenSigningAlg": "EdDSA"}, want: "yes"},
		nodeCase{name: "idTokenSigningAlg=unset for HS256", client: signs("HS256"), with: with{}, want: "no"},
		nodeCase{name: "idTokenSigningAlg=ES256 for RS256", with: with{"idTokenSigningAlg": "ES256"}, want: "no"},

		nodeCase{name: "clientKeyAlg=ES384", client: knows(elliptic, "one", "ES384"), with: withKey(elliptic, with{"clientKeyAlg": "ES384"}), want: "yes"},
		nodeCase{name: "clientKeyAlg=EdDSA", client: knows(edwards, "one", "EdDSA"), with: withKey(edwards, with{"clientKeyAlg": "EdDSA"}), want: "yes"},
		nodeCase{name: "clientKeyAlg=PS256", client: knows(rsa, "one", "PS256"), with: withKey(rsa, with{"clientKeyAlg": "PS256"}), want: "yes"},
		nodeCase{name: "clientKeyAlg=unset for PS256", client: knows(rsa, "one", "PS256"), with: withKey(rsa, with{}), want: "no"},
		nodeCase{name: "clientKeyId", client: knows(rsa, "one", "RS256"), with: withKey(rsa, with{"clientKeyId": "one"}), want: "yes"},
		nodeCase{name: "clientKeyId of another key", client: knows(rsa, "one", "RS256"), with: withKey(rsa, with{"clientKeyId": "two"}), want: "no"},
		nodeCase{name: "clientAuthMethod=private_key_jwt beside a secret", client: knows(rsa, "one", "RS256"),
			with: with{"clientAuthMethod": "private_key_jwt", "clientKey": encodeKey(t, rsa)}, want: "yes"},
		nodeCase{name: "clientAuthMethod=client_secret_post beside a key", client: knows(rsa, "one", "RS256"),
			with: with{"clientAuthMethod": "client_secret_post", "clientKey": encodeKey(t, rsa)}, want: "no"},
	)
}

// knows is the registration of a client that signs with a key.
func knows(key crypto.Signer, kid, alg string) map[string]any {
	public := jose.JSONWebKey{Key: key.Public(), KeyID: kid, Use: "sig"}
	return map[string]any{
		"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": alg,
		"jwks": map[string]any{"keys": []any{public}},
	}
}

// byForm signs in by https and tells the method by which the answer of the provider came.
func byForm(v *visitor, _ *provider.Node) string {
	v.base = v.app.Secure
	page := v.signIn("/page", provider.Alice)
	if page.URL.String() != v.url("/page") {
		return "ended at " + page.URL.String()
	}
	for _, step := range page.Trail {
		status, request, _ := strings.Cut(step, " ")
		method, address, _ := strings.Cut(request, " ")
		if strings.HasPrefix(address, v.url("/oidc/callback")) {
			if method == http.MethodPost && status != "303" || strings.Contains(address, "code=") != (method == http.MethodGet) {
				return step
			}
			return method
		}
	}
	return "no answer"
}

// TestLoginAtStrictNodeOptions is at a provider that insists on pushed requests and PKCE, and says little in the ID token.
func TestLoginAtStrictNodeOptions(t *testing.T) {
	t.Parallel()
	covers(t, "par", "pkce", "userinfo")
	named := func(options with) with {
		options["forwardHeaders"] = with{"X-Who": "name", "X-Where": "userinfo.address.locality"}
		return options
	}
	tryAtNode(t, map[string]any{"requirePAR": true, "requirePKCE": true, "thinIdTokens": true},
		nodeCase{name: "par=unset", with: with{}, see: pushes, want: "yes, pushed yes"},
		nodeCase{name: "par=auto", with: with{"par": "auto"}, see: pushes, want: "yes, pushed yes"},
		nodeCase{name: "par=false", with: with{"par": false}, see: pushes, want: "no, pushed no"},
		nodeCase{name: "pkce=false", with: with{"pkce": false}, want: "no"},
		nodeCase{name: "userinfo=unset", with: named(with{}), see: header, want: ""},
		nodeCase{name: "userinfo=true", with: named(with{"userinfo": true}), see: header, want: "Alice Liddell"},
	)
}
