package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// imitations are the providers of docs/providers that cannot be run here: what is special about each, and what the application is then
// told. The claims satisfy the rule of the page; without those named in rule they do not.
var imitations = map[string]struct {
	like      provider.Like
	rule      string // the claim that the page's rule reads
	header    string
	value     string
	refreshed bool   // by what the page asks for
	atEnd     string // where a sign-out goes: "provider", "here"
}{
	"entra-id.md": {
		like: provider.Like{Path: "/00000000-1111-2222-3333-444444444444/v2.0", RefreshFor: "offline_access", Refused: []string{"resource"},
			Metadata: map[string]any{"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
				"code_challenge_methods_supported": nil}, // it knows PKCE and does not say so
			// A token for Microsoft Graph: a JWT whose signature nobody else can verify.
			AccessToken: func(string) string {
				return "eyJ0eXAiOiJKV1QiLCJub25jZSI6IngiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJncmFwaCJ9.c2lnbmF0dXJl"
			},
			Claims: map[string]any{"groups": []string{"0f1e2d3c-aaaa-bbbb-cccc-123456789abc"}, "oid": "oid-alice", "tid": "00000000-1111-2222-3333-444444444444",
				"preferred_username": "alice@example.com", "ver": "2.0"}},
		rule: "groups", header: "X-User-Id", value: "oid-alice", refreshed: true, atEnd: "provider"},
	"google.md": {
		like: provider.Like{Scopes: []string{"openid", "profile", "email"}, RefreshFor: "access_type=offline", KeepRefresh: true,
			Metadata: map[string]any{"end_session_endpoint": nil}, AccessToken: func(string) string { return "ya29.a0AfH6SMB-opaque_with.dots" },
			Claims: map[string]any{"hd": "example.com", "email": "alice@example.com", "email_verified": true}},
		rule: "hd", header: "X-User", value: "alice@example.com", refreshed: true, atEnd: "here"},
	"okta.md": {
		like: provider.Like{Path: "/oauth2/default", RefreshFor: "offline_access", Claims: map[string]any{"groups": []string{"Everyone", "admins"}, "email": "alice@example.com"}},
		rule: "groups", header: "X-User", value: "alice@example.com", refreshed: true, atEnd: "provider"},
	"auth0.md": {
		like: provider.Like{Path: "/", RefreshFor: "offline_access", Refused: []string{"resource"}, AccessToken: func(string) string { return "opaque-access-token" },
			Claims: map[string]any{"https://example.com/roles": []string{"admin", "editor"}, "email": "alice@example.com"}},
		rule: "https://example.com/roles", header: "X-Roles", value: "admin,editor", refreshed: true, atEnd: "provider"},
	"authentik.md": {
		like: provider.Like{Path: "/application/o/my-app/", RefreshFor: "offline_access", Refused: []string{"resource"},
			Claims: map[string]any{"groups": []string{"admins"}, "preferred_username": "alice"}},
		rule: "groups", header: "X-User", value: "alice", refreshed: true, atEnd: "provider"},
	"zitadel.md": {
		like: provider.Like{RefreshFor: "offline_access", AccessToken: func(string) string { return "opaque_access_token-0" },
			Claims: map[string]any{"urn:zitadel:iam:org:project:roles": map[string]any{"admin": map[string]any{"123": "example.zitadel.cloud"}}, "preferred_username": "alice",
				"aud": []string{"my-app", "another application of the project", "the project"}, "azp": "my-app"},
			AfterIDs: func(claims map[string]any) map[string]any {
				claims["aud"] = []string{"my-app", "another application of the project", "a new one", "the project"}
				return claims
			}},
		rule: "urn:zitadel:iam:org:project:roles", header: "X-User", value: "alice", refreshed: true, atEnd: "provider"},
	"dex.md": {
		like: provider.Like{Path: "/dex", Scopes: []string{"openid", "profile", "email", "groups", "offline_access", "federated:id"}, RefreshFor: "offline_access",
			Metadata: map[string]any{"end_session_endpoint": nil}, Claims: map[string]any{"groups": []string{"admins"}, "email": "alice@example.com"}},
		rule: "groups", header: "X-User", value: "alice@example.com", refreshed: true, atEnd: "here"},
	"kanidm.md": {
		like: provider.Like{Path: "/oauth2/openid/my-app", Algorithm: "ES256", RequirePKCE: true, Metadata: map[string]any{"end_session_endpoint": nil},
			Claims: map[string]any{"groups": []string{"0d2f-id", "admins@idm.example.com"}, "preferred_username": "alice@idm.example.com"}},
		rule: "groups", header: "X-User", value: "alice@idm.example.com", refreshed: true, atEnd: "here"},
	"authelia.md": {
		like: provider.Like{RefreshFor: "offline_access", Refused: []string{"resource", "audience"}, Metadata: map[string]any{"end_session_endpoint": nil},
			AccessToken: func(string) string { return "authelia_at_opaque.with-dots_x" },
			Userinfo:    map[string]any{"groups": []string{"admins"}, "preferred_username": "alice"}},
		rule: "groups", header: "X-User", value: "alice", refreshed: true, atEnd: "here"},
	"pocket-id.md": {
		like: provider.Like{AfterIDs: func(map[string]any) map[string]any { return nil },
			Claims: map[string]any{"groups": []string{"admins"}, "email": "alice@example.com"}},
		rule: "groups", header: "X-User", value: "alice@example.com", refreshed: true, atEnd: "provider"},
	"cognito.md": {
		like: provider.Like{Path: "/eu-central-1_AbCdEfGhI", Foreign: true, KeepRefresh: true, AfterIDs: laterAuthTime,
			Claims: map[string]any{"auth_time": 1700000000, "cognito:groups": []string{"admins"}, "email": "alice@example.com", "token_use": "id"}},
		rule: "cognito:groups", header: "X-User", value: "alice@example.com", refreshed: true, atEnd: "provider"},
	"gitlab.md": {
		like: provider.Like{Scopes: []string{"openid", "profile", "email", "api"}, Metadata: map[string]any{"end_session_endpoint": nil},
			AccessToken: func(string) string { return "glpat0123456789abcdef" }, AfterIDs: laterAuthTime,
			Claims: map[string]any{"auth_time": 1700000000, "groups_direct": []string{"my-group"}, "nickname": "alice", "email": "alice@example.com"}},
		rule: "groups_direct", header: "X-User", value: "alice", refreshed: true, atEnd: "here"},
	"logto.md": {
		like: provider.Like{Path: "/oidc", Algorithm: "ES384", RefreshFor: "prompt=consent", AccessToken: func(string) string { return "opaque" },
			Claims: map[string]any{"roles": []string{"admin"}, "email": "alice@example.com"}},
		rule: "roles", header: "X-User", value: "alice@example.com", refreshed: true, atEnd: "provider"},
	"ory-hydra.md": {
		like: provider.Like{Path: "/", RefreshFor: "offline_access", AccessToken: func(string) string { return "ory_at_Zm9v.YmFy" },
			AfterIDs: func(claims map[string]any) map[string]any {
				delete(claims, "email")
				delete(claims, "email_verified")
				delete(claims, "sid")
				delete(claims, "nonce")
				return claims
			},
			Claims: map[string]any{"email": "alice@example.com", "email_verified": true, "sid": "a-session"}},
		rule: "email_verified", header: "X-User", value: "alice@example.com", refreshed: true, atEnd: "provider"},
	"adfs.md": {
		like: provider.Like{Path: "/adfs", Scopes: []string{"openid", "profile", "email", "allatclaims"},
			Metadata:    map[string]any{"access_token_issuer": "http://adfs.example.com/adfs/services/trust"},
			AccessToken: func(string) string { return strings.Repeat("a.large-token_", 200) },
			Claims:      map[string]any{"group": "admins", "upn": "alice@corp.example.com", "email": "alice@example.com"}},
		rule: "group", header: "X-User", value: "alice@corp.example.com", refreshed: true, atEnd: "provider"},
}

// laterAuthTime is what some put into a refreshed ID token: when it was refreshed (against OIDC Core 12.2).
func laterAuthTime(claims map[string]any) map[string]any {
	claims["auth_time"] = time.Now().Unix()
	return claims
}

// realProviders are the pages of those that are run; they have tests of their own.
var realProviders = []string{"keycloak.md"}

// TestProviderImitated signs in, is refreshed and signs out with the configuration of each page, at a provider that behaves as the page
// says.
func TestProviderImitated(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../docs/providers/*.md")
	if err != nil || len(pages) != len(imitations)+len(realProviders)+1 {
		t.Fatalf("%d pages, but %d imitations, %d that are run, and the README: %v", len(pages), len(imitations), len(realProviders), err)
	}
	for page, c := range imitations {
		t.Run(strings.TrimSuffix(page, ".md"), func(t *testing.T) {
			t.Parallel()
			v, p := imitatedSite(t, page, c.like, nil)
			if got := v.received(v.open("/")).Header.Get(c.header); got != c.value {
				t.Fatalf("%s is %q, want %q", c.header, got, c.value)
			}
			calls := len(p.Calls("token"))
			time.Sleep(2100 * time.Millisecond) // the access token's life
			for range 2 {
				if got := v.received(v.open("/")).Header.Get(c.header); got != c.value {
					t.Fatalf("later %s is %q, want %q", c.header, got, c.value)
				}
			}
			if refreshes := len(p.Calls("token")) - calls; (refreshes > 0) != c.refreshed {
				t.Errorf("%d refreshes", refreshes)
			}
			checkSignOut(t, v, p, c.atEnd)

			without := c.like
			without.Claims, without.Userinfo = dropClaim(c.like.Claims, c.rule), dropClaim(c.like.Userinfo, c.rule)
			stranger, _ := imitatedSite(t, page, without, nil)
			if got := stranger.outcome(stranger.open("/")); got != "Forbidden" {
				t.Errorf("without %s: got %s", c.rule, got)
			}
		})
	}
}

// imitatedSite serves the configuration of a page, changed, with an imitation in the place of its provider, to a visitor.
func imitatedSite(t *testing.T, page string, like provider.Like, change with) (*visitor, *provider.Imitation) {
	t.Helper()
	text, err := os.ReadFile("../docs/providers/" + page)
	if err != nil {
		t.Fatal(err)
	}
	examples, err := pageExamples(string(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := provider.Imitate(like)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	s := examples[0].site()
	s.with["issuer"], s.with["clientId"], s.with["clientSecret"] = p.Issuer, p.ID, p.Secret
	for option, value := range change {
		if value == slashless {
			value = strings.TrimSuffix(p.Issuer, "/")
		} else if value == slashed {
			value = p.Issuer + "/"
		}
		s.with[option] = value
	}
	s.with = replaced(s.with, strings.NewReplacer("https://my-pool.auth.eu-central-1.amazoncognito.com", p.Base)) // Cognito's sign-out
	return start(t).serve(t, s).visitor(t), p
}

// misconfigured is the answer to what a visitor cannot help.
const misconfigured = "Internal Server Error"

// slashless and slashed stand for the issuer without its final slash, and with one too many.
const slashless, slashed = "slashless", "slashed"

// checkSignOut signs out, and sees where that leads.
func checkSignOut(t *testing.T, v *visitor, p *provider.Imitation, atEnd string) {
	t.Helper()
	v.post("/logout", nil)
	ended := p.Ended()
	if toProvider := len(ended) > 0; toProvider != (atEnd == "provider") {
		t.Errorf("the provider was told of %d sign-outs: %v", len(ended), ended)
	}
	if len(ended) > 0 && (ended[0].Get("id_token_hint") == "" || ended[0].Get("post_logout_redirect_uri") != v.url("/")) {
		t.Errorf("the sign-out at the provider lacks something: %v", ended[0])
	}
}

func dropClaim(claims map[string]any, name string) map[string]any {
	left := map[string]any{}
	for key, value := range claims {
		if key != name {
			left[key] = value
		}
	}
	return left
}

// TestProviderSpecials tries what is special where a page says that something else would not work: each fails in the way it says.
func TestProviderSpecials(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, page string
		change     with
		want       string
	}{
		{"Authentik's final slash is forgiven", "authentik.md", with{"issuer": slashless}, in},
		{"a final slash too many is forgiven", "okta.md", with{"issuer": slashed}, in},
		{"ZITADEL's audiences have to be trusted", "zitadel.md", with{"trustedAudiences": drop}, "Bad Gateway"},
		{"Google refuses offline_access", "google.md", with{"scopes": []string{"openid", "email", "offline_access"}}, misconfigured},
		{"GitLab refuses offline_access", "gitlab.md", with{"scopes": []string{"openid", "offline_access"}}, misconfigured},
		{"Entra ID refuses resource", "entra-id.md", with{"resource": []string{"https://api.example.com"}}, misconfigured},
		{"Authentik refuses resource", "authentik.md", with{"resource": []string{"https://api.example.com"}}, misconfigured},
		{"Kanidm demands PKCE", "kanidm.md", with{"pkce": false}, misconfigured},
		{"Auth0's final slash is forgiven", "auth0.md", with{"issuer": slashless}, in},
		{"Authelia's claims are at UserInfo", "authelia.md", with{"userinfo": false}, "Forbidden"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v, _ := imitatedSite(t, c.page, imitations[c.page].like, c.change)
			if got := v.outcome(v.open("/")); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestProviderTenants: Entra ID's metadata for several tenants name an issuer that no token has. The page's way lets in the tenants of the
// rule, and nobody else.
func TestProviderTenants(t *testing.T) {
	t.Parallel()
	tenants := with{"disableIssuerCheck": true, "claims": "OneOf(`tid`, `tenant-one`, `tenant-two`)"}
	for _, c := range []struct {
		tenant string
		change with
		want   string
	}{
		{"tenant-two", tenants, in}, {"tenant-three", tenants, "Forbidden"},
		{"tenant-two", with{"claims": tenants["claims"]}, misconfigured}, // the issuer is checked
	} {
		like := imitations["entra-id.md"].like
		like.Metadata = map[string]any{"issuer": "https://login.microsoftonline.com/{tenantid}/v2.0"}
		like.Claims = map[string]any{"iss": "https://login.microsoftonline.com/" + c.tenant + "/v2.0", "tid": c.tenant}
		v, _ := imitatedSite(t, "entra-id.md", like, c.change)
		if got := v.outcome(v.open("/")); got != c.want {
			t.Errorf("%s with %v: got %s, want %s", c.tenant, c.change, got, c.want)
		}
	}
}

// TestProviderPages: every provider has its page, which says how it was tried, and is in the table.
func TestProviderPages(t *testing.T) {
	index, err := os.ReadFile("../docs/providers/README.md")
	if err != nil {
		t.Fatal(err)
	}
	pages, _ := filepath.Glob("../docs/providers/*.md")
	for _, path := range pages {
		name := filepath.Base(path)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if name == "README.md" {
			continue
		}
		tried := "imitat"
		if slices.Contains(realProviders, name) {
			tried = "Run against the real one"
		}
		if !strings.Contains(string(text), tried) || !strings.Contains(string(index), fmt.Sprintf("](%s) |", name)) {
			t.Errorf("%s does not say how it was tried, or is not in the table", name)
		}
	}
}
