package e2e

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// TestLogin is the thinnest sign-in: a page that was asked for is shown, and the application learns who asked.
func TestLogin(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, site{with: with{"forwardHeaders": with{"X-User": "name", "X-Groups": "groups"}, "usernameClaim": "email"}})
	alice := app.visitor(t)

	page := alice.signIn("/some/page?a=1&b=%20", provider.Alice)
	if got := page.URL.RequestURI(); got != "/some/page?a=1&b=%20" {
		t.Errorf("the sign-in ended at %s", got)
	}
	got := alice.received(page)
	if got.Header.Get("X-User") != "Alice Liddell" || got.Header.Get("X-Groups") != "admins,users" {
		t.Errorf("the application received %v", got.Header)
	}
	if cookie := got.Header.Get("Cookie"); strings.Contains(cookie, app.name) {
		t.Errorf("the application received our cookies: %s", cookie)
	}

	again := alice.open("/other")
	if again.Status != http.StatusOK || len(again.Trail) != 1 {
		t.Errorf("a signed-in visitor has to travel: %s", again)
	}
	if n := app.provider.Grants("authorization_code", app.name); n != 1 {
		t.Errorf("%d codes were exchanged for one sign-in", n)
	}
	if entries := app.lab.traefik.AccessLog(app.name); entries[len(entries)-1]["ClientUsername"] != "alice@example.com" {
		t.Errorf("the access log has no user name: %v", entries[len(entries)-1])
	}
}

// TestLoginWithNodeProvider is the same with an implementation that shares nothing with the first.
func TestLoginWithNodeProvider(t *testing.T) {
	t.Parallel()
	l := start(t)
	app := l.newApp(t, site{})
	node := l.nodeProvider(t, provider.NodeOptions{Clients: []map[string]any{{
		"client_id": app.name, "client_secret": "a secret of our own",
		"redirect_uris": []string{app.URL + "/oidc/callback"}, "grant_types": []string{"authorization_code", "refresh_token"},
	}}})
	t.Cleanup(func() { l.traefik.RemoveFile(app.name) })
	err := app.set(site{with: with{
		"issuer": node.Issuer, "clientSecret": "a secret of our own", "forwardHeaders": with{"X-User": "name", "X-Groups": "groups"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	bob := app.visitor(t)
	got := bob.received(bob.signIn("/", provider.Bob))
	if got.Header.Get("X-User") != "Bob Baumeister" || got.Header.Get("X-Groups") != "users" {
		t.Errorf("the application received %v", got.Header)
	}
	if n := node.Grants("authorization_code"); n != 1 {
		t.Errorf("%d codes were exchanged for one sign-in", n)
	}
}

// TestLoginOnlyForPageLoads: a script gets 401, because it cannot follow a redirect to the provider.
func TestLoginOnlyForPageLoads(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, site{})
	nobody := app.visitor(t)
	page := nobody.fetch(http.MethodGet, "/api")
	if page.Status != http.StatusUnauthorized || page.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("a script got %s", page)
	}
	if got := nobody.outcome(nobody.open("/")); got != "sign-in" {
		t.Errorf("a page load got %s", got)
	}
}

// TestLoginRefusedByRule: who is signed in but may not pass gets a 403 page, and is not sent around in circles.
func TestLoginRefusedByRule(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, site{with: with{"claims": "Contains(`groups`, `admins`)"}})
	alice, bob := app.visitor(t), app.visitor(t)
	alice.signIn("/", provider.Alice)

	page, err := bob.SignIn(app.URL, provider.Bob.Name, provider.Bob.Password)
	if err != nil || page.Status != http.StatusForbidden || !strings.Contains(page.Header.Get("Content-Type"), "text/html") {
		t.Errorf("Bob is no administrator, and got %s", page)
	}
	if page := bob.fetch(http.MethodGet, "/api"); page.Status != http.StatusForbidden {
		t.Errorf("a script of Bob's got %s", page)
	}
}

// TestLoginWhileProviderIsAway: nobody can sign in, and is told so; as soon as the provider is back, everybody can.
func TestLoginWhileProviderIsAway(t *testing.T) {
	t.Parallel()
	own := ownProvider(t)
	own.Away(true)
	app := start(t).serve(t, site{provider: own})
	alice := app.visitor(t)
	page := alice.open("/")
	if page.Status != http.StatusServiceUnavailable || page.Header.Get("Retry-After") == "" {
		t.Errorf("while the provider is away: %s", page)
	}
	own.Away(false)
	time.Sleep(1500 * time.Millisecond) // the plugin waits a second before it asks again
	alice.signIn("/", provider.Alice)
}

// TestLoginFirstRequests: a thousand requests that are the first of all make one call for the provider's settings, and the
// sign-in after them one for its keys.
func TestLoginFirstRequests(t *testing.T) {
	t.Parallel()
	own := ownProvider(t)
	app := start(t).serve(t, site{provider: own})
	own.Slow(100 * time.Millisecond) // long enough for all to come before the first answer
	nobody := app.visitor(t)
	nobody.Jar, nobody.Client().Jar = nil, nil
	var all sync.WaitGroup
	var wrong atomic.Int64
	for range 1000 {
		all.Go(func() {
			page, err := nobody.Look(app.URL)
			if err != nil || nobody.outcome(page) != "sign-in" {
				wrong.Add(1)
			}
		})
	}
	all.Wait()
	own.Slow(0)
	if wrong.Load() > 0 {
		t.Errorf("%d of a thousand were not sent to the provider", wrong.Load())
	}
	app.visitor(t).signIn("/", provider.Alice)
	if n := len(own.Calls("openid-configuration")); n != 1 {
		t.Errorf("the settings were read %d times", n)
	}
	if n := len(own.Calls("jwks")); n != 1 {
		t.Errorf("the keys were read %d times", n)
	}
}
