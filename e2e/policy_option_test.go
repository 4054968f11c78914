package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// TestClaimsOptions has the cases of what a rule may look at, beside the ID token.
func TestClaimsOptions(t *testing.T) {
	t.Parallel()
	admitted := func(v *visitor) string {
		v.must(v.SignIn(v.base, provider.Alice.Name, provider.Alice.Password))
		return v.outcome(v.look("/"))
	}
	const yes, no = "application", "Forbidden"
	try(t, "claims", site{}, admitted, row{drop, yes},
		row{"Equals(`address.country`, `GB`) && !Prefix(`email`, `bob`)", yes}, row{"Equals(`address.country`, `DE`)", no},
		row{"OneOf(`roles`, `owner`, `writer`)", yes}, row{"AllOf(`roles`, `owner`, `writer`)", no},
		row{"Exists(`email`) && Matches(`email`, `.*@example\\.com`)", yes}, row{"Exists(`birthdate`)", no},
		row{"Equals(`email_verified`, `true`) && Suffix(`name`, \"ell\")", yes}, row{"Equals(`id_token.name`, `Alice Liddell`)", yes})

	bearing := site{client: func(c *provider.Client) { c.JWTAccessTokens = true }}
	try(t, "claims", bearing, admitted, row{"Contains(`access_token.groups`, `admins`)", yes}, row{"Contains(`access_token.groups`, `nobody`)", no})
	thin := site{with: with{"claims": "Equals(`name`, `Alice Liddell`)"}, client: func(c *provider.Client) { c.ThinIDToken = true }}
	try(t, "userinfo", thin, admitted, row{drop, no}, row{true, yes}, row{"true", yes})
}

// TestClaimsHeaderOptions has the cases of what the application may be told, and of what nobody else may tell it.
func TestClaimsHeaderOptions(t *testing.T) {
	t.Parallel()
	whose := func(v *visitor) string { return v.received(v.signIn("/", provider.Alice)).Header.Get("X-Who") }
	try(t, "forwardHeaders", site{}, whose, row{drop, ""}, row{with{"X-Who": "groups"}, "admins,users"}, row{with{"x-who": "email_verified"}, "true"},
		row{with{"X-Who": "Mr {given_name}, {address.country}"}, "Mr Alice, GB"}, row{with{"X-Who": "Mr {birthdate}"}, ""},
		row{with{"X-Who": "{family_name}"}, "Liddell"})
	bearing := site{client: func(c *provider.Client) { c.JWTAccessTokens = true }}
	try(t, "forwardHeaders", bearing, func(v *visitor) string {
		scheme, token, _ := strings.Cut(whose(v), " ")
		claims, _ := provider.Claims(token)
		return fmt.Sprint(scheme, " of ", claims["sub"], ", with nonce ", claims["nonce"] != nil)
	}, row{with{"X-Who": "Bearer {access_token}"}, "Bearer of user-alice, with nonce false"}, row{with{"X-Who": "Identity {id_token}"}, "Identity of user-alice, with nonce true"})

	// In every spelling that some application may read as the same name.
	forged := http.Header{"X-Who": {"root"}, "X_who": {"root"}, "X.Who": {"root"}, "x-who": {"root"}}
	claimed := func(v *visitor) string {
		v.Header = forged
		return strings.Join(spellings(v.received(v.open("/public")).Header), " ")
	}
	open := site{with: with{"bypass": "Path(`/public`)"}}
	try(t, "forwardHeaders", open, claimed, row{drop, "root root root root"}, row{with{"X-Who": "birthdate"}, ""})
	try(t, "forwardHeaders", site{with: with{"unauthenticated": "forward"}}, claimed, row{drop, "root root root root"}, row{with{"X-Who": "name"}, ""})
	try(t, "forwardHeaders", site{}, func(v *visitor) string {
		v.signIn("/", provider.Alice)
		return claimed(v)
	}, row{with{"X-Who": "sub"}, "user-alice"}, row{with{"X-Who": "birthdate"}, ""})

	try(t, "usernameClaim", site{}, func(v *visitor) string {
		v.signIn("/", provider.Alice)
		entries := v.app.lab.traefik.AccessLog(v.app.name)
		return fmt.Sprint(entries[len(entries)-1]["ClientUsername"])
	}, row{"address.country", "GB"}, row{"birthdate", "-"})
}

// spellings are the values of all headers that an application may take for X-Who.
func spellings(header http.Header) []string {
	var values []string
	for name, sent := range header {
		if strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name)) == "x-who" {
			values = append(values, sent...)
		}
	}
	return values
}

// TestBypassOptions has a case of each matcher.
func TestBypassOptions(t *testing.T) {
	t.Parallel()
	asked := func(v *visitor) string {
		v.Header = http.Header{"X-Probe": {"health check"}}
		return v.outcome(v.look("/public/file.css?key=value&v=12"))
	}
	const open, closed = "application", "sign-in"
	try(t, "bypass", site{}, asked, row{drop, closed},
		row{"Path(`/public/file.css`)", open}, row{"Path(`/public`)", closed},
		row{"PathPrefix(`/public`)", open}, row{"PathPrefix(`/private`)", closed},
		row{"PathRegexp(`\\.(css|js)$`)", open}, row{"PathRegexp(`\\.js$`)", closed},
		row{"Method(`GET`)", open}, row{"Method(`OPTIONS`)", closed},
		row{"HostRegexp(`^bypassoptions`)", open}, row{"Host(`other.example.com`)", closed},
		row{"Header(`X-Probe`, `health check`)", open}, row{"HeaderRegexp(`X-Probe`, `^sick`)", closed},
		row{"Query(`key`, `value`)", open}, row{"QueryRegexp(`v`, `^[a-z]+$`)", closed},
		row{"ClientIP(`127.0.0.0/8`)", open}, row{"ClientIP(`10.0.0.0/8`) || !Method(`GET`)", closed})
}

// TestBypassDisguised: a path that some application may read as another opens nothing.
func TestBypassDisguised(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, site{with: with{"bypass": "PathPrefix(`/public`)"}})
	nobody := app.visitor(t)
	if got := nobody.outcome(nobody.look("/public/file")); got != "application" {
		t.Errorf("the plain path: %s", got)
	}
	for _, path := range []string{
		"/public/../private", "/public/%2e%2e/private", "/public/%2E./private", "/public%2f..%2fprivate", "/public/..%5cprivate",
		"/public/..;/private", "/public/%252e%252e/private", "//public/../private", "/PUBLIC",
	} {
		if page := nobody.look(path); nobody.outcome(page) == "application" {
			t.Errorf("%s is open, and the application got %s", path, nobody.received(page).URI)
		}
	}
}

// TestLoginElsewhereOptions: a part of the site that never redirects is open to whoever signed in at another part, and each
// part has its own rule.
func TestLoginElsewhereOptions(t *testing.T) {
	t.Parallel()
	covers(t, "disableLogin", "session.name", "claims")
	l := start(t)
	pages := l.serve(t, site{with: with{"session.name": "shared"}})
	api := func(path string, options with) {
		options["clientId"], options["clientSecret"], options["disableLogin"] = pages.name, pages.secret(), true
		l.serve(t, site{rule: "Host(`" + pages.host + "`) && PathPrefix(`" + path + "`)", with: options})
	}
	api("/api", with{"session.name": "shared"})
	api("/admin", with{"session.name": "shared", "claims": "Contains(`groups`, `admins`)"})
	api("/apart", with{"session.name": "another"})

	bob := pages.visitor(t)
	if got := bob.outcome(bob.look("/api")); got != "Unauthorized" {
		t.Errorf("before the sign-in: %s", got)
	}
	bob.signIn("/", provider.Bob)
	for path, want := range map[string]string{"/api": "application", "/admin": "Forbidden", "/apart": "Unauthorized", "/": "application"} {
		if got := bob.outcome(bob.look(path)); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

// TestPagesByStatusOptions has the cases of errorPages for the statuses that a visitor can meet.
func TestPagesByStatusOptions(t *testing.T) {
	t.Parallel()
	own := filepath.Join(t.TempDir(), "own.html")
	if err := os.WriteFile(own, []byte("<h1>Our own words</h1>"), 0o644); err != nil {
		t.Fatal(err)
	}
	away := newProvider(t, provider.Options{})
	away.Away(true)
	shown := func(v *visitor) string {
		page := v.open("/")
		return fmt.Sprint(page.Status, " ", yes(strings.Contains(page.Body, "Our own words")))
	}
	try(t, "errorPages", site{with: with{"unauthenticated": "deny"}}, shown, row{drop, "401 no"}, row{with{"401": own}, "401 yes"},
		row{"401=" + own + ",403=" + own, "401 yes"}, row{with{"503": own}, "401 no"})
	try(t, "challengeRealm", site{with: with{"unauthenticated": "deny"}}, func(v *visitor) string {
		return strings.ReplaceAll(v.open("/").Header.Get("WWW-Authenticate"), v.app.name, "NAME")
	}, row{drop, `Bearer realm="NAME"`}, row{"Orders (v2)", `Bearer realm="Orders (v2)"`})
	try(t, "errorPages", site{provider: away, with: with{"clientConfig.maxRetries": 0}}, shown, row{drop, "503 no"}, row{with{"503": own}, "503 yes"})
	try(t, "errorPages", site{with: with{"unauthenticated": "deny"}}, func(v *visitor) string {
		return yes(strings.Contains(v.fetch(http.MethodGet, "/").Body, "Our own words")) + " " + shown(v)
	}, row{drop, "no 401 no"}, row{with{"401": own}, "no 401 yes"})
}
