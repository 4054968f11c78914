package e2e

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// recipe is how a file in examples/apis/ is driven: with the claims of a real token of that kind.
type recipe struct {
	alg       string
	published string // where the issuer says where its keys are, or the keys themselves; nothing else is there
	header    string // where the token is, if not in Authorization
	claims    with
	user      string // what X-User is
	more      []variation
}

// variation is the same token but for some claims.
type variation struct {
	name   string
	claims with
	want   string // in, out, or Forbidden
	user   string
}

const (
	forbidden = "Forbidden"
	tenantID  = "fa15d692-e9c7-4460-a743-29f29522229b"
	apiID     = "ef1da9d4-ff77-4c3e-a005-840c3f830745"
)

// recipes has a row for every file but kubernetes.yml, which has a test of its own.
var recipes = map[string]recipe{
	"github-actions": {
		published: "token.actions.githubusercontent.com/.well-known/openid-configuration",
		claims: with{
			"iss": "https://token.actions.githubusercontent.com", "aud": "https://api.example.com", "sub": "repo:octo-org/octo-repo:ref:refs/heads/main",
			"jti": "example-id", "environment": "prod", "ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true", "sha": "8b2d6f4a0c",
			"repository": "octo-org/octo-repo", "repository_id": "74", "repository_owner": "octo-org", "repository_owner_id": "65", "repository_visibility": "private",
			"actor": "octocat", "actor_id": "12", "workflow": "deploy", "head_ref": "", "base_ref": "", "event_name": "push", "run_id": "2", "run_number": "10", "run_attempt": "1",
			"runner_environment": "github-hosted", "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
		},
		user: "repo:octo-org/octo-repo:ref:refs/heads/main",
		more: []variation{
			{"another repository", with{"repository": "octo-org/other", "sub": "repo:octo-org/other:ref:refs/heads/main"}, forbidden, ""},
			{"a name that somebody else took", with{"repository_owner_id": "66"}, forbidden, ""},
			{"a pull request", with{"ref": "refs/pull/1/merge", "event_name": "pull_request"}, forbidden, ""},
		},
	},
	"gitlab-ci": {
		published: "gitlab.com/.well-known/openid-configuration",
		claims: with{
			"iss": "https://gitlab.com", "aud": "https://api.example.com", "sub": "project_path:my-group/my-project:ref_type:branch:ref:main", "jti": "235b3a54-b797",
			"namespace_id": "72", "namespace_path": "my-group", "project_id": "22", "project_path": "my-group/my-project", "user_id": "1", "user_login": "alice",
			"user_email": "alice@example.com", "user_access_level": "owner", "pipeline_id": "574", "pipeline_source": "push", "job_id": "302", "ref": "main", "ref_type": "branch",
			"ref_path": "refs/heads/main", "ref_protected": "true", "groups_direct": []string{"my-group"}, "environment": "prod", "environment_protected": "false",
			"runner_id": 1, "runner_environment": "self-hosted", "sha": "714a629c", "project_visibility": "private", "ci_config_ref_uri": "gitlab.com/my-group/my-project//.gitlab-ci.yml@refs/heads/main",
		},
		user: "alice",
		more: []variation{
			{"another project", with{"project_id": "23", "project_path": "my-group/other"}, forbidden, ""},
			{"a branch that everybody may push", with{"ref": "x", "ref_protected": "false"}, forbidden, ""},
		},
	},
	"cloudflare-access": {
		published: "my-team.cloudflareaccess.com/cdn-cgi/access/certs", header: "Cf-Access-Jwt-Assertion",
		claims: with{
			"iss": "https://my-team.cloudflareaccess.com", "aud": []string{"32eafc7626e737c8d3a9a5b1b2c4d6e8f0a1b2c3d4e5f60718293a4b5c6d7e8f"}, "type": "app",
			"identity_nonce": "6ei69kawdKzMIAPF", "sub": "7335d417-61da-459d-899c-0a01c76a2f94", "email": "alice@example.com", "country": "US",
		},
		user: "alice@example.com",
		more: []variation{
			{"a service token", with{"sub": "", "email": drop, "identity_nonce": drop, "country": drop, "common_name": "e367826f93b8.access"}, in, ""},
			{"another team", with{"iss": "https://other.cloudflareaccess.com"}, out, ""},
		},
	},
	"google-iap": {
		alg: "ES256", published: "www.gstatic.com/iap/verify/public_key-jwk", header: "x-goog-iap-jwt-assertion",
		claims: with{
			"iss": "https://cloud.google.com/iap", "aud": "/projects/1234567890/global/backendServices/4321", "azp": "/projects/1234567890/global/backendServices/4321",
			"sub": "accounts.google.com:118133858486581853996", "email": "alice@example.com", "hd": "example.com", "identity_source": "GOOGLE",
			"google": with{"access_levels": []string{"accessPolicies/1/accessLevels/office"}},
		},
		user: "alice@example.com",
		more: []variation{{"another project", with{"aud": "/projects/999/global/backendServices/4321"}, out, ""}},
	},
	"google-service-account": {
		published: "accounts.google.com/.well-known/openid-configuration",
		claims: with{
			"iss": "https://accounts.google.com", "aud": "https://api.example.com", "azp": "112010400000000710080", "sub": "112010400000000710080",
			"email": "orders@my-project.iam.gserviceaccount.com", "email_verified": true,
		},
		user: "orders@my-project.iam.gserviceaccount.com",
		more: []variation{{"an account of another project", with{"email": "orders@other-project.iam.gserviceaccount.com", "sub": "2", "azp": "2"}, forbidden, ""}},
	},
	"aws-alb": {
		published: "cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Example/.well-known/openid-configuration", header: "x-amzn-oidc-accesstoken",
		claims: with{
			"iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Example", "aud": drop, "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "token_use": "access",
			"client_id": "1example23456789", "username": "alice", "scope": "openid email", "version": 2, "jti": "j", "origin_jti": "o", "event_id": "e", "auth_time": 1,
			"cognito:groups": []string{"staff"},
		},
		user: "alice",
		more: []variation{
			{"another client", with{"client_id": "other"}, forbidden, ""},
			{"an ID token", with{"aud": "1example23456789", "client_id": drop, "scope": drop, "token_use": "id", "cognito:username": "alice"}, out, ""},
		},
	},
	"azure-ad-b2c": {
		published: "my-tenant.b2clogin.com/my-tenant.onmicrosoft.com/B2C_1_signin/discovery/v2.0/keys",
		claims: with{
			"iss": "https://my-tenant.b2clogin.com/775527ff-9a37-4307-8b3d-cc311f58d925/v2.0/", "aud": "90c0fe63-bcf2-44d5-8fb7-b8bbc0b29dc6", "ver": "1.0",
			"sub": "884408e1-2918-4cz0-b12d-3aa027d7563b", "acr": "b2c_1_signin", "tfp": "B2C_1_signin", "nonce": "defaultNonce", "scp": "orders.read", "azp": "90c0fe63-bcf2-44d5-8fb7-000000000000",
			"name": "Alice", "emails": []string{"alice@example.com"}, "auth_time": 1,
		},
		user: "884408e1-2918-4cz0-b12d-3aa027d7563b",
		more: []variation{
			{"an ID token", with{"scp": drop, "azp": drop}, out, ""},
			{"another scope", with{"scp": "orders.readall"}, forbidden, ""},
			{"another tenant", with{"iss": "https://my-tenant.b2clogin.com/11111111-9a37-4307-8b3d-cc311f58d925/v2.0/"}, out, ""},
		},
	},
	"entra-v1": {
		published: "sts.windows.net/" + tenantID + "/.well-known/openid-configuration",
		claims: with{
			"iss": "https://sts.windows.net/" + tenantID + "/", "aud": "api://" + apiID, "acr": "1", "aio": "AXQAi/8IAAAA", "amr": []string{"pwd"}, "appid": "c44b4083", "appidacr": "1",
			"family_name": "Liddell", "given_name": "Alice", "ipaddr": "192.0.2.1", "name": "Alice", "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474", "rh": "I", "scp": "Orders.Read",
			"sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ", "tid": tenantID, "unique_name": "alice@example.com", "upn": "alice@example.com", "uti": "fqiBqXLPj0eQa82S", "ver": "1.0",
		},
		user: "690222be-ff1a-4d56-abd1-7e4f7d38e474",
		more: []variation{
			{"a program", with{"scp": drop, "roles": []string{"Orders.Read.All"}, "idtyp": "app", "oid": "p", "sub": "p", "upn": drop, "unique_name": drop}, in, "p"},
			{"a program without the role", with{"scp": drop, "idtyp": "app"}, forbidden, ""},
			{"a token for Microsoft Graph", with{"aud": "00000003-0000-0000-c000-000000000000"}, out, ""},
			{"another tenant", with{"iss": "https://sts.windows.net/00000000-e9c7-4460-a743-29f29522229b/"}, out, ""},
		},
	},
	"entra-v2": {
		published: "login.microsoftonline.com/" + tenantID + "/v2.0/.well-known/openid-configuration",
		claims: with{
			"iss": "https://login.microsoftonline.com/" + tenantID + "/v2.0", "aud": apiID, "aio": "AXQAi/8IAAAA", "azp": "c44b4083", "azpacr": "0", "name": "Alice",
			"oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474", "preferred_username": "alice@example.com", "rh": "I", "scp": "Orders.Read Orders.Write",
			"sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ", "tid": tenantID, "uti": "fqiBqXLPj0eQa82S", "ver": "2.0",
		},
		user: "690222be-ff1a-4d56-abd1-7e4f7d38e474",
		more: []variation{
			{"a program", with{"scp": drop, "roles": []string{"Orders.Read.All"}, "azpacr": "1", "idtyp": "app", "oid": "p", "sub": "p", "preferred_username": drop}, in, "p"},
			{"another scope", with{"scp": "Orders.ReadBasic"}, forbidden, ""},
			{"an ID token", with{"aud": apiID, "azp": drop, "azpacr": drop, "scp": drop, "nonce": "n"}, out, ""},
			{"another tenant", with{"iss": "https://login.microsoftonline.com/00000000-e9c7-4460-a743-29f29522229b/v2.0"}, out, ""},
		},
	},
	"firebase": {
		published: "securetoken.google.com/my-project/.well-known/openid-configuration",
		claims: with{
			"iss": "https://securetoken.google.com/my-project", "aud": "my-project", "auth_time": 1, "user_id": "QmZkA1", "sub": "QmZkA1", "email": "alice@example.com", "email_verified": true,
			"name": "Alice", "firebase": with{"identities": with{"email": []string{"alice@example.com"}}, "sign_in_provider": "password"},
		},
		user: "QmZkA1",
		more: []variation{
			{"another project", with{"iss": "https://securetoken.google.com/other", "aud": "other"}, out, ""},
			{"an address that nobody has confirmed", with{"email_verified": false}, forbidden, ""},
			{"somebody without a name", with{"email": drop, "email_verified": drop, "provider_id": "anonymous"}, forbidden, ""},
		},
	},
	"auth0": {
		published: "my-tenant.eu.auth0.com/.well-known/openid-configuration",
		claims: with{
			"iss": "https://my-tenant.eu.auth0.com/", "aud": []string{"https://api.example.com", "https://my-tenant.eu.auth0.com/userinfo"}, "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
			"azp": "my-client", "scope": "openid profile read:orders", "permissions": []string{"read:orders"}, "org_id": "org_9ybsU1dN2dKfDkBi",
		},
		user: "auth0|5f7c8ec7c33c6c004bbafe82",
		more: []variation{
			{"a program", with{"aud": "https://api.example.com", "sub": "my-client@clients", "gty": "client-credentials", "scope": "read:orders", "permissions": drop}, in, "my-client@clients"},
			{"another scope", with{"scope": "openid read:orders:all", "permissions": []string{}}, forbidden, ""},
			{"an ID token", with{"aud": "my-client", "azp": drop, "scope": drop, "permissions": drop, "nonce": "n"}, out, ""},
		},
	},
	"okta": {
		published: "my-org.okta.com/oauth2/default/.well-known/openid-configuration",
		claims: with{
			"iss": "https://my-org.okta.com/oauth2/default", "aud": "api://default", "ver": 1, "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE", "cid": "0oa8lak9kUQUKd7mX0g7",
			"uid": "00ulthapbErVUwVJy4x6", "sub": "alice@example.com", "scp": []string{"openid", "orders.read"}, "auth_time": 1,
		},
		user: "00ulthapbErVUwVJy4x6",
		more: []variation{
			{"a program", with{"uid": drop, "sub": "0oa8lak9kUQUKd7mX0g7", "scp": []string{"orders.read"}}, in, ""},
			{"another scope", with{"scp": []string{"orders.readall"}}, forbidden, ""},
			{"the org's server", with{"iss": "https://my-org.okta.com", "aud": "https://my-org.okta.com"}, out, ""},
		},
	},
	"supabase": {
		alg: "ES256", published: "abcdefghijklmnopqrst.supabase.co/auth/v1/.well-known/jwks.json",
		claims: with{
			"iss": "https://abcdefghijklmnopqrst.supabase.co/auth/v1", "aud": "authenticated", "sub": "03acaa13-7989-45c1-8dfb-6eeb7cf0b92e", "email": "alice@example.com", "phone": "",
			"app_metadata": with{"provider": "email", "providers": []string{"email"}}, "user_metadata": with{}, "role": "authenticated", "aal": "aal1",
			"amr": []with{{"method": "password", "timestamp": 1}}, "session_id": "4938a4e1-5a4f-4d79-9d1d-50f0ba3a8a2d", "is_anonymous": false,
		},
		user: "03acaa13-7989-45c1-8dfb-6eeb7cf0b92e",
		more: []variation{
			{"somebody without a name", with{"is_anonymous": true, "email": ""}, forbidden, ""},
			{"another project", with{"iss": "https://other.supabase.co/auth/v1"}, out, ""},
			{"the key that everybody has", with{"iss": "supabase", "ref": "abcdefghijklmnopqrst", "role": "anon", "aud": drop, "sub": drop}, out, ""},
		},
	},
}

// issuers imitates what issuers publish: below /HOST there is what is at https://HOST, and nothing but one address and the keys.
func issuers(t *testing.T, published string, keys jose.JSONWebKeySet) string {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	write := func(address string, value any) {
		mux.HandleFunc(address, func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(rw).Encode(value)
		})
	}
	issuer, isDiscovery := strings.CutSuffix(published, ".well-known/openid-configuration")
	if !isDiscovery {
		write("/"+published, keys)
		return server.URL
	}
	if !strings.HasPrefix(issuer, "sts.windows.net/") && !strings.HasPrefix(issuer, "my-tenant.eu.auth0.com/") { // these end with a slash
		issuer = strings.TrimSuffix(issuer, "/")
	}
	write("/keys", keys)
	write("/"+published, with{
		"issuer": server.URL + "/" + issuer, "jwks_uri": server.URL + "/keys", "authorization_endpoint": server.URL + "/authorize", "token_endpoint": server.URL + "/token",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
	})
	return server.URL
}

// merged has what any of these have; the last one counts.
func merged(all ...with) with {
	result := with{}
	for _, some := range all {
		for name, value := range some {
			result[name] = value
		}
	}
	return result
}

// signed is a JWT as issuers write it: with kid and the type JWT.
func signed(t *testing.T, alg string, key crypto.Signer, claims with) string {
	t.Helper()
	all := merged(with{"iat": time.Now().Unix(), "nbf": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}, claims)
	for name, value := range all {
		if value == any(drop) {
			delete(all, name)
		}
	}
	return compact(t, alg, jose.JSONWebKey{Key: key, KeyID: "k1"}, "JWT", all)
}

// readRecipe is the one middleware of a file in examples/apis/.
func readRecipe(t *testing.T, name string) (options, block map[string]any) {
	t.Helper()
	examples, err := readExample("../examples/apis/" + name + ".yml")
	if err != nil || len(examples) != 1 || examples[0].name != name {
		t.Fatalf("%s: %v, %v", name, examples, err)
	}
	block, ok := examples[0].options["jwt"].(map[string]any)
	if !ok {
		t.Fatalf("%s has no block jwt: %v", name, examples[0].options)
	}
	return examples[0].options, block
}

// TestExampleAPIs drives every file in examples/apis/ as it is, but for the address where keys are published.
func TestExampleAPIs(t *testing.T) {
	t.Parallel()
	l := start(t)
	paths, err := filepath.Glob("../examples/apis/*.yml")
	if err != nil || len(paths) != len(recipes)+1 {
		t.Fatalf("%d files, but %d recipes and Kubernetes: %v", len(paths), len(recipes), err)
	}
	for name, r := range recipes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if r.alg == "" {
				r.alg = "RS256"
			}
			r.try(t, l, name)
		})
	}
}

func (r recipe) try(t *testing.T, l *lab, name string) {
	key, wrong := newKey(t, r.alg), newKey(t, r.alg)
	base := issuers(t, r.published, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Use: "sig"}}}) // without alg, as Microsoft's
	options, block := readRecipe(t, name)
	here := func(address any) any {
		return strings.Replace(address.(string), "https://", base+"/", 1)
	}
	address := func(issuer any) any { return issuer } // in tokens
	if block["jwksUrl"] != nil {
		block["jwksUrl"] = here(block["jwksUrl"])
	} else {
		block["issuer"], address = here(block["issuer"]), here
	}
	app := l.serve(t, tokens(options))
	v := app.visitor(t)
	header, prefix := "Authorization", "Authorization: Bearer "
	if r.header != "" {
		header, prefix = r.header, r.header+": "
	}
	if got := bring()(v); got != out {
		t.Errorf("no token: %s", got)
	}
	variations := append([]variation{
		{"as it comes", nil, in, r.user},
		{"another audience", with{"aud": "https://other.example.com"}, out, ""},
		{"too old", with{"iat": 1, "nbf": 1, "exp": time.Now().Add(-time.Hour).Unix()}, out, ""},
		{"another issuer", with{"iss": "https://other.example.com"}, out, ""},
	}, r.more...)
	for _, c := range variations {
		if r.claims["aud"] == drop && c.name == "another audience" {
			continue // its audience is its client_id
		}
		claims := merged(r.claims, c.claims)
		claims["iss"] = address(claims["iss"])
		page := v.call(http.MethodGet, "/api", "", prefix+signed(t, r.alg, key, claims), "X-User: root", "X-Client: root")
		got := v.outcome(page)
		if got != c.want {
			t.Errorf("%s: got %s, want %s\n%s", c.name, got, c.want, app.log())
		}
		if got != in {
			continue
		}
		received := v.received(page).Header
		if received.Get("X-User") != c.user {
			t.Errorf("%s: X-User is %q, want %q", c.name, received.Get("X-User"), c.user)
		}
		if received.Get(header) != "" {
			t.Errorf("%s: the application sees the token", c.name)
		}
	}
	claims := merged(r.claims)
	claims["iss"] = address(claims["iss"])
	if got := bring(prefix + signed(t, r.alg, wrong, claims))(v); got != out {
		t.Errorf("somebody else's key: %s", got)
	}
	if r.header != "" {
		if got := bring("Authorization: Bearer " + signed(t, r.alg, key, claims))(v); got != out {
			t.Errorf("in another header: %s", got)
		}
	}
}

// TestExampleALBData: what a load balancer of AWS signs itself has padding and a kid of its own, and opens nothing, wherever it is.
func TestExampleALBData(t *testing.T) {
	t.Parallel()
	l := start(t)
	r := recipes["aws-alb"]
	key := newKey(t, "ES256")
	base := issuers(t, r.published, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Use: "sig"}}})
	options, block := readRecipe(t, "aws-alb")
	block["issuer"] = strings.Replace(block["issuer"].(string), "https://", base+"/", 1)
	claims := merged(r.claims)
	claims["iss"] = block["issuer"]
	good := signed(t, "ES256", key, claims)
	v := l.serve(t, tokens(options)).visitor(t)
	if got := bring("x-amzn-oidc-accesstoken: " + good)(v); got != in {
		t.Fatalf("the access token: %s", got)
	}
	var padded []string
	for _, part := range strings.Split(good, ".") {
		raw, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			t.Fatal(err)
		}
		padded = append(padded, base64.URLEncoding.EncodeToString(raw))
	}
	data := strings.Join(padded, ".")
	if !strings.Contains(data, "=") {
		t.Fatal("nothing is padded")
	}
	for _, header := range []string{"x-amzn-oidc-data", "x-amzn-oidc-accesstoken"} {
		if got := bring(header + ": " + data)(v); got != out {
			t.Errorf("%s: %s", header, got)
		}
	}
}

// TestExampleKubernetesTokens: a service account's token that a real API server has issued, whose keys are at that server, for those
// who have a token.
func TestExampleKubernetesTokens(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(c.TraefikToken), 0o600); err != nil {
		t.Fatal(err)
	}
	const folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
	here := strings.NewReplacer(folder+"token", file, folder+"ca.crt", c.CAFile, "https://kubernetes.default.svc/", c.URL+"/") // with the slash: not the issuer
	options, block := readRecipe(t, "kubernetes")
	options = replaced(options, here)
	for _, namespace := range []string{"shop", "office"} {
		manifests := "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + namespace + "}"
		for _, name := range []string{"orders", "other"} {
			manifests += "\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: " + name + ", namespace: " + namespace + "}"
		}
		if err := c.Apply(namespace, manifests); err != nil {
			t.Fatal(err)
		}
	}
	app := start(t).serve(t, tokens(options))
	v := app.visitor(t)
	api, _ := block["audience"].([]any)
	if len(api) != 1 {
		t.Fatalf("audience is %v", block["audience"])
	}
	for _, row := range []struct{ namespace, name, audience, want string }{
		{"shop", "orders", api[0].(string), in},
		{"shop", "other", api[0].(string), forbidden},
		{"office", "orders", api[0].(string), forbidden},
		{"shop", "orders", "https://kubernetes.default.svc", out},
		{"shop", "orders", "https://other.example.com", out},
	} {
		token, err := c.AccountToken(row.namespace, row.name, row.audience)
		if err != nil {
			t.Fatal(err)
		}
		page := v.call(http.MethodGet, "/", "", "Authorization: Bearer "+token)
		got := v.outcome(page)
		if got != row.want {
			t.Errorf("%v: got %s\n%s", row, got, app.log())
		}
		if got == in && v.received(page).Header.Get("X-User") != "system:serviceaccount:shop:orders" {
			t.Errorf("the application got %v", v.received(page).Header)
		}
	}
	token, err := c.AccountToken("shop", "orders", api[0].(string))
	if err != nil {
		t.Fatal(err)
	}
	// Without a token of our own there are no keys.
	without, _ := readRecipe(t, "kubernetes")
	without = replaced(without, here)
	delete(without["jwt"].(map[string]any)["clientConfig"].(map[string]any), "headers")
	if got := bring("Authorization: Bearer " + token)(start(t).serve(t, tokens(without)).visitor(t)); got != "Service Unavailable" {
		t.Errorf("keys without a token: %s", got)
	}
}
