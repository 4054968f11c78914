package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// TestLoginRedirectOptions has the cases of the forms of redirectUrl: a path, host and path, and a complete URL.
func TestLoginRedirectOptions(t *testing.T) {
	t.Parallel()
	registered := site{callbacks: []string{"/a/back", "/b/back", "/c/back"}}
	try(t, "redirectUrl", registered, func(v *visitor) string {
		asked := strings.Replace(sent("redirect_uri")(v), v.app.URL, "http://HOST", 1)
		return asked + " " + canSignIn(v)
	}, row{drop, "http://HOST/oidc/callback yes"}, row{"/a/back", "http://HOST/a/back yes"}, row{"{host}/b/back", "http://HOST/b/back yes"},
		row{"http://{host}/c/back", "http://HOST/c/back yes"}, row{"/d/back", "http://HOST/d/back no"})

	// All sign-ins of a domain may come back to one host. Then the cookies are the domain's, and it leads on to where they began.
	central := site{callbacks: []string{"http://central.{host}/back"}, rule: "HOST || Host(`central.{site}`)"}
	central.with = with{"redirectUrl": "central.{host}/back", "session.domain": "{site}"}
	try(t, "stateCookie.domain", central, canSignIn, row{drop, "yes"}, row{"central.{site}", "no"})
	central.with = with{"redirectUrl": "http://central.{host}/back", "stateCookie.domain": "{site}"}
	try(t, "session.domain", central, func(v *visitor) string {
		canSignIn(v)
		return v.outcome(v.look("/"))
	}, row{drop, "sign-in"}, row{"{site}", "application"})
}

// TestLoginStartOptions has the cases of loginUrl, where a page or the provider starts a sign-in (OpenID Connect Core 4), and
// of where that ends.
func TestLoginStartOptions(t *testing.T) {
	t.Parallel()
	try(t, "loginUrl", site{}, func(v *visitor) string { return v.outcome(v.look("/start")) + ", " + v.outcome(v.look("/")) },
		row{drop, "sign-in, sign-in"}, row{"/start", "sign-in, Unauthorized"}, row{"{host}/start", "sign-in, Unauthorized"},
		row{"http://{host}/start", "sign-in, Unauthorized"}, row{"elsewhere.example.com/start", "Unauthorized, Unauthorized"})

	ends := func(v *visitor) string {
		page := v.signIn("/start", provider.Alice)
		return strings.Replace(page.URL.String(), v.app.URL, "", 1)
	}
	starting := site{with: with{"loginUrl": "/start"}}
	try(t, "postLoginRedirectUrl", starting, ends, row{drop, "/"}, row{"/home?a=b", "/home?a=b"}, row{"{host}/hello", "/hello"},
		row{"http://{host}/welcome", "/welcome"})

	// Who asks for a page that needs no sign-in of its own, or goes to the callback without an answer, is led there as well.
	try(t, "postLoginRedirectUrl", site{}, func(v *visitor) string {
		return strings.Replace(v.look("/oidc/callback").Header.Get("Location"), v.app.URL, "", 1)
	}, row{drop, "/"}, row{"/home", "/home"})
}

// TestLoginStartedByProvider: by a link or a form the provider may name the user and the page, but no other site.
func TestLoginStartedByProvider(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, site{with: with{"loginUrl": "/start"}})
	for _, test := range []struct {
		name, issuer, page string
		want               string // where the sign-in ends, or what it is refused with
	}{
		{"a page of ours", app.provider.Issuer, app.URL + "/deep?a=b", app.URL + "/deep?a=b"},
		{"a path of ours", app.provider.Issuer, "/deep", app.URL + "/deep"},
		{"another provider", "https://other.example.com", "/deep", "Bad Request"},
		{"another site", app.provider.Issuer, "https://other.example.com/", "Bad Request"},
		{"another site in disguise", app.provider.Issuer, "//other.example.com/", "Bad Request"},
	} {
		query := url.Values{"iss": {test.issuer}, "target_link_uri": {test.page}, "login_hint": {provider.Alice.Name}}
		for way, started := range map[string]func(v *visitor) *browser.Page{
			"by a link": func(v *visitor) *browser.Page { return v.open("/start?" + query.Encode()) },
			"by a form": func(v *visitor) *browser.Page { return v.post("/start", query) },
		} {
			t.Run(test.name+" "+way, func(t *testing.T) {
				v := app.visitor(t)
				page := started(v)
				got := v.outcome(page)
				if got == "sign-in" { // the hint has filled in the name
					got = v.must(v.Submit(page, url.Values{"password": {provider.Alice.Password}})).URL.String()
				}
				if got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
			})
		}
	}
}

// TestLoginFreshness has the cases of the options that say how fresh and how strong a sign-in has to be, at a provider that
// does not do what it is asked.
func TestLoginFreshness(t *testing.T) {
	t.Parallel()
	hourAgo := edited(func(claims map[string]any) { claims["auth_time"] = time.Now().Add(-time.Hour).Unix() })
	try(t, "maxAge", site{}, hourAgo, row{drop, "yes"}, row{60, "no"}, row{7200, "yes"}, row{"60", "no"})
	try(t, "maxAge", site{}, edited(func(claims map[string]any) { delete(claims, "auth_time") }), row{drop, "yes"}, row{7200, "no"})
	try(t, "maxAge", site{}, func(v *visitor) string {
		v.signIn("/", provider.Alice)
		for _, cookie := range v.Cookies(v.app.URL) {
			cookie.MaxAge = -1
			v.Jar.SetCookies(&url.URL{Scheme: "http", Host: v.app.host, Path: "/"}, []*http.Cookie{cookie})
		}
		return v.outcome(v.open("/")) // the provider still knows the browser
	}, row{drop, "application"}, row{0, "sign-in"})
	bronze := edited(func(claims map[string]any) { claims["acr"] = "bronze" })
	try(t, "acrValues", site{}, bronze, row{drop, "yes"}, row{[]string{"gold", "silver"}, "no"}, row{"gold,bronze", "yes"})
}

// TestLoginPendingOptions has the cases of the options that bound a sign-in under way.
func TestLoginPendingOptions(t *testing.T) {
	t.Parallel()
	try(t, "stateCookie.maxAge", site{}, func(v *visitor) string {
		page := v.open("/")
		time.Sleep(2200 * time.Millisecond)
		page = v.must(v.Submit(page, url.Values{"username": {provider.Alice.Name}, "password": {provider.Alice.Password}}))
		return v.outcome(page)
	}, row{drop, "application"}, row{1, "Bad Request"})
	try(t, "stateCookie.path", site{}, canSignIn, row{drop, "yes"}, row{"/oidc", "yes"}, row{"/other", "no"})
}
