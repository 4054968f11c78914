package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// These cases are what happens rarely: a provider that changes its keys all the time, cookies that a browser lost, floods of headers.

// TestProviderKeysChange: whoever signs in right after the provider has changed its key and withdrawn the old one is signed in, ten times
// in a row. Who is signed in already stays so.
func TestProviderKeysChange(t *testing.T) {
	t.Parallel()
	own := ownProvider(t)
	app := start(t).serve(t, site{provider: own})
	first := app.visitor(t)
	first.signIn("/", provider.Alice)
	for range 10 {
		if err := own.RotateKey("RS256", true); err != nil {
			t.Fatal(err)
		}
		app.visitor(t).signIn("/", provider.Bob)
	}
	if got := first.outcome(first.look("/")); got != "application" {
		t.Errorf("who was signed in got %s", got)
	}
}

// TestCSRFTokenLost: a browser that lost the cookie, as after a sign-out elsewhere, or got another one, from another middleware or a
// neighbour, gets a new one with its next page, and may post again.
func TestCSRFTokenLost(t *testing.T) {
	t.Parallel()
	app, neighbour := start(t).serve(t, site{with: with{"csrf": true}}), start(t).serve(t, site{with: with{"csrf": true}})
	token := func(cookies []*http.Cookie) *http.Cookie {
		for _, cookie := range cookies {
			if cookie.Name == "hub-csrf-token" {
				return cookie
			}
		}
		return nil
	}
	before, other := app.visitor(t), neighbour.visitor(t)
	before.signIn("/", provider.Alice)
	other.signIn("/", provider.Alice)
	session := before.sessionCookie()
	for name, planted := range map[string]*http.Cookie{
		"lost": nil, "planted": {Name: "hub-csrf-token", Value: "x"}, "another middleware's": token(other.Cookies(other.url("/"))),
	} {
		sent := []*http.Cookie{session}
		if planted != nil {
			sent = append(sent, planted)
		}
		v := app.visitor(t)
		v.Header = http.Header{"Cookie": {cookieHeader(sent)}}
		page := v.look("/")
		fresh := token(page.Cookies)
		if got := v.outcome(page); got != "application" || fresh == nil {
			t.Fatalf("%s: %s; the page set %v", name, got, page.Cookies)
		}
		v = app.visitor(t)
		v.Header = http.Header{"Cookie": {cookieHeader([]*http.Cookie{session, fresh})}, "Hub-Csrf-Token": {fresh.Value}}
		if got := v.outcome(v.fetch(http.MethodPost, "/")); got != "application" {
			t.Errorf("%s: with the new token: %s", name, got)
		}
		o := neighbour.visitor(t)
		o.Header = http.Header{"Cookie": {cookieHeader([]*http.Cookie{other.sessionCookie(), fresh})}, "Hub-Csrf-Token": {fresh.Value}}
		if got, want := o.outcome(o.fetch(http.MethodPost, "/")), name == "another middleware's"; (got == "application") != want {
			t.Errorf("%s: the other middleware answers the new token with %s", name, got)
		}
	}
}

// TestLogoutSurvivesReload: a copy of a cookie that was signed out of stays out when the configuration says another way to call the
// provider, or another secret. Whoever did not sign out stays in.
func TestLogoutSurvivesReload(t *testing.T) {
	t.Parallel()
	secret := "the secret that outlives a reload"
	s := site{with: with{"logoutUrl": "/logout", "session.secret": secret}}
	app := start(t).serve(t, s)
	bob := app.visitor(t)
	bob.signIn("/", provider.Bob)
	alice := app.visitor(t)
	alice.signIn("/", provider.Alice)
	copied := app.visitor(t)
	copied.Header = http.Header{"Cookie": {cookieHeader([]*http.Cookie{alice.sessionCookie()})}}
	if got := copied.outcome(copied.look("/")); got != "application" {
		t.Fatalf("the copy, before the sign-out: %s", got)
	}
	alice.post("/logout", nil)
	for _, more := range []with{nil, {"clientConfig.timeoutSeconds": 7}, {"clientSecret": "another secret of this client"}} {
		s.with = both(s.with, more)
		if err := app.set(s); err != nil {
			t.Fatal(err)
		}
		if got := copied.outcome(copied.look("/")); got != "sign-in" {
			t.Errorf("with %v the copy gets %s", more, got)
		}
		if got := bob.outcome(bob.look("/")); got != "application" {
			t.Errorf("with %v who is signed in gets %s", more, got)
		}
	}
}

// TestVisitorSendsFlood: a thousand names of headers are refused before they are looked at, on every path.
func TestVisitorSendsFlood(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, site{with: with{"bypass": "PathPrefix(`/open`)"}})
	v := app.visitor(t)
	var lines []string
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("X-Flood-%d: x", i))
	}
	for _, path := range []string{"/", "/open", "/oidc/callback"} {
		if page := v.call(http.MethodGet, path, "", lines...); page.Status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: got %s", path, page)
		}
	}
	if page := v.call(http.MethodGet, "/open", "", lines[:400]...); v.outcome(page) != "application" {
		t.Errorf("400 names: got %s", page)
	}
	if log := app.log(); !strings.Contains(log, "GET /open: 431: headers: more names than a request has") {
		t.Errorf("the log does not tell:\n%s", log)
	}
}

// TestConfigWarnings: what works in a token block but should be known is in the log, by the option's name.
func TestConfigWarnings(t *testing.T) {
	t.Parallel()
	issuer := start(t).provider.Issuer
	for option, test := range map[string]struct {
		with  with
		words string
	}{
		"jwt.issuer":                  {with{"jwt.issuer": issuer, "jwt.audience": "api"}, "is plain http: anybody on the network path can make tokens"},
		"jwt.jwksUrl":                 {with{"jwt.jwksUrl": issuer + "/keys", "jwt.audience": "api"}, "is plain http: anybody on the network path can make tokens"},
		"jwt.audience":                {with{"jwt.issuer": issuer}, "not set, so tokens issued for any other API are accepted"},
		"oAuthIntrospection.audience": {with{"oAuthIntrospection.tokenSource.header": "X-Token", "oAuthIntrospection.clientConfig.url": issuer + "/introspect"}, "not set, so tokens issued for any other API are accepted"},
		"oAuthIntrospection.clientConfig.url": {with{"oAuthIntrospection.tokenSource.header": "X-Token", "oAuthIntrospection.clientConfig.url": issuer + "/introspect", "oAuthIntrospection.audience": "api"},
			"is plain http: anybody on the network path reads tokens and can declare any token active"},
		"oAuthClientCredentials.url": {with{"oAuthClientCredentials.url": issuer + "/token"}, "is plain http: anybody on the network path reads credentials and tokens"},
		"jwt.clientConfig.tls.insecureSkipVerify": {with{"jwt.issuer": issuer, "jwt.audience": "api", "jwt.clientConfig.tls.insecureSkipVerify": true},
			"anybody on the network path can make tokens"},
	} {
		t.Run(option, func(t *testing.T) {
			t.Parallel()
			app := start(t).serve(t, tokens(test.with))
			if log := app.log(); !strings.Contains(log, option+": ") || !strings.Contains(log, test.words) {
				t.Errorf("no word of %s in\n%s", option, log)
			}
		})
	}
}
