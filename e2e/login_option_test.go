package e2e

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// sent begins a sign-in and reads a parameter of the request that the provider gets.
func sent(parameter string) func(v *visitor) string {
	return func(v *visitor) string {
		location, err := url.Parse(v.look("/?login_hint=bob&other=x").Header.Get("Location"))
		if err != nil {
			v.t.Fatal(err)
		}
		return strings.Join(location.Query()[parameter], " ")
	}
}

// TestLoginRequestOptions has the cases of the options that shape the request to the provider.
func TestLoginRequestOptions(t *testing.T) {
	t.Parallel()
	try(t, "scopes", site{}, sent("scope"), row{drop, "openid profile email"}, row{[]string{"email", "x"}, "openid email x"}, row{"openid,y", "openid y"})
	try(t, "pkce", site{}, sent("code_challenge_method"), row{drop, "S256"}, row{false, ""})
	try(t, "authParams", site{}, sent("access_type"), row{drop, ""}, row{with{"access_type": "offline"}, "offline"})
	try(t, "loginParams", site{}, sent("login_hint"), row{drop, ""}, row{[]string{"login_hint"}, "bob"})
	try(t, "responseMode", site{}, sent("response_mode"), row{drop, ""}, row{"form_post", "form_post"})
	try(t, "maxAge", site{}, sent("max_age"), row{drop, ""}, row{30, "30"})
	try(t, "acrValues", site{}, sent("acr_values"), row{drop, ""}, row{[]string{"gold", "silver"}, "gold silver"})
	try(t, "resource", site{}, sent("resource"), row{drop, ""}, row{"https://api.example.com", "https://api.example.com"})
	try(t, "redirectUrl", site{}, func(v *visitor) string {
		u, _ := url.Parse(sent("redirect_uri")(v))
		return u.Path
	}, row{drop, "/oidc/callback"}, row{"/back", "/back"})
	try(t, "clientId", site{}, sent("client_id"), row{"one", "one"}, row{"two", "two"})
	try(t, "endpoints.authorization", site{}, func(v *visitor) string {
		return strings.Split(v.look("/").Header.Get("Location"), "?")[0]
	}, row{"https://id.example.com/a", "https://id.example.com/a"}, row{"https://id.example.com/b", "https://id.example.com/b"})
}

// TestLoginGateOptions has the cases of the options that decide who has to sign in, and how.
func TestLoginGateOptions(t *testing.T) {
	t.Parallel()
	page := func(v *visitor) string { return v.outcome(v.look("/")) }
	script := func(v *visitor) string { return v.outcome(v.fetch(http.MethodGet, "/")) }
	try(t, "disableLogin", site{}, page, row{drop, "sign-in"}, row{true, "Unauthorized"})
	try(t, "loginUrl", site{}, page, row{drop, "sign-in"}, row{"/login", "Unauthorized"})
	try(t, "unauthenticated", site{}, page, row{drop, "sign-in"}, row{"deny", "Unauthorized"}, row{"forward", "application"})
	try(t, "unauthenticated", site{with: with{"loginUrl": "/in"}}, page, row{drop, "Unauthorized"}, row{"auto", "sign-in"})
	try(t, "unauthenticated", site{}, script, row{"auto", "Unauthorized"}, row{"login", "sign-in"})
	try(t, "bypass", site{}, page, row{drop, "sign-in"}, row{"Path(`/`) && Method(`GET`)", "application"})
	try(t, "postLoginRedirectUrl", site{with: with{"loginUrl": "/login"}}, func(v *visitor) string {
		return v.signIn("/login", provider.Alice).URL.Path
	}, row{"/welcome", "/welcome"}, row{"/hello", "/hello"})
	try(t, "claims", site{}, func(v *visitor) string {
		v.must(v.SignIn(v.base, provider.Bob.Name, provider.Bob.Password))
		return v.outcome(v.look("/"))
	}, row{drop, "application"}, row{"Contains(`groups`, `admins`)", "Forbidden"}, row{"Equals(`email_verified`, `false`)", "application"})
}

// TestLoginIdentityOptions has the cases of the options that tell the application, and Traefik, who somebody is.
func TestLoginIdentityOptions(t *testing.T) {
	t.Parallel()
	try(t, "forwardHeaders", site{}, func(v *visitor) string {
		return v.received(v.signIn("/", provider.Alice)).Header.Get("X-Who")
	}, row{drop, ""}, row{with{"X-Who": "{given_name} <{email}>"}, "Alice <alice@example.com>"}, row{with{"X-Who": "address.locality"}, "Oxford"})
	try(t, "forwardHeaders", site{}, func(v *visitor) string {
		return strings.Join(v.received(v.signIn("/", provider.Alice)).Header.Values("X-Who"), " / ")
	}, row{with{"X-Who": "'the gateway'"}, "the gateway"}, row{with{"X-Who": "{groups|json}"}, `["admins","users"]`}, row{with{"X-Who": "{groups|first}"}, "admins"},
		row{with{"X-Who": "{groups|lines}"}, "admins / users"}, row{with{"X-Who": "{name|rfc8187}"}, "UTF-8''Alice%20Liddell"})
	try(t, "bypassIdentity", site{with: with{"bypass": "PathPrefix(`/open`)", "forwardHeaders": with{"X-Who": "sub"}}}, func(v *visitor) string {
		nobody := v.received(v.open("/open")).Header.Get("X-Who")
		v.signIn("/", provider.Alice)
		return nobody + " " + v.received(v.open("/open")).Header.Get("X-Who")
	}, row{drop, " "}, row{true, " user-alice"})
	try(t, "usernameClaim", site{}, func(v *visitor) string {
		v.signIn("/", provider.Alice)
		entries := v.app.lab.traefik.AccessLog(v.app.name)
		name, _ := entries[len(entries)-1]["ClientUsername"].(string)
		return name
	}, row{drop, "-"}, row{"email", "alice@example.com"})
	thin := site{
		with:   with{"forwardHeaders": with{"X-Who": "name"}},
		client: func(c *provider.Client) { c.ThinIDToken = true },
	}
	try(t, "userinfo", thin, func(v *visitor) string {
		return v.received(v.signIn("/", provider.Alice)).Header.Get("X-Who")
	}, row{drop, ""}, row{true, "Alice Liddell"})
}

// TestLoginStateCookieOptions has the cases of the options stateCookie.*.
func TestLoginStateCookieOptions(t *testing.T) {
	t.Parallel()
	attribute := func(read func(c *http.Cookie) string) func(v *visitor) string {
		return func(v *visitor) string {
			for _, cookie := range v.look("/").Cookies {
				if cookie.MaxAge >= 0 {
					return read(cookie)
				}
			}
			return "no cookie"
		}
	}
	try(t, "stateCookie.name", site{}, attribute(func(c *http.Cookie) string { return c.Name[:2] }), row{"aa", "aa"}, row{"bb", "bb"})
	try(t, "stateCookie.path", site{}, attribute(func(c *http.Cookie) string { return c.Path }), row{drop, "/"}, row{"/oidc", "/oidc"})
	try(t, "stateCookie.domain", site{}, attribute(func(c *http.Cookie) string { return c.Domain }), row{drop, ""}, row{"e2e.localhost", "e2e.localhost"})
	try(t, "stateCookie.maxAge", site{}, attribute(func(c *http.Cookie) string { return (time.Duration(c.MaxAge) * time.Second).String() }),
		row{drop, "10m0s"}, row{60, "1m0s"})
	try(t, "stateCookie.sameSite", site{}, attribute(func(c *http.Cookie) string { return sameSites[c.SameSite] }), row{drop, "lax"}, row{"strict", "strict"})
	try(t, "stateCookie.httpOnly", site{}, attribute(func(c *http.Cookie) string { return yes(c.HttpOnly) }), row{drop, "yes"}, row{false, "no"})
	try(t, "stateCookie.secure", site{}, attribute(func(c *http.Cookie) string { return yes(c.Secure) }), row{drop, "no"}, row{true, "yes"})
}

// TestPagesOptions: an operator's own page is shown in the place of ours.
func TestPagesOptions(t *testing.T) {
	t.Parallel()
	own := filepath.Join(t.TempDir(), "forbidden.html")
	if err := os.WriteFile(own, []byte("<h1>Our own words</h1>"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused := site{with: with{"claims": "Equals(`sub`, `nobody`)"}}
	try(t, "errorPages", refused, func(v *visitor) string {
		v.must(v.SignIn(v.base, provider.Bob.Name, provider.Bob.Password))
		return yes(strings.Contains(v.open("/").Body, "Our own words"))
	}, row{drop, "no"}, row{with{"403": own}, "yes"})
}
