package e2e

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// refreshing is a site whose access tokens last seconds.
func refreshing(seconds int) site {
	return site{
		with: with{"scopes": []string{"openid", "profile", "offline_access"}, "forwardHeaders": with{"X-Token": "{access_token}"}},
		client: func(c *provider.Client) {
			c.AccessTokenLifetime = time.Duration(seconds) * time.Second
		},
	}
}

// TestSessionRefreshedOnce: a hundred requests on a session that has to be refreshed make one call, and all succeed. The
// provider takes a second use of a refresh token for theft and would end the session.
func TestSessionRefreshedOnce(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, refreshing(2))
	alice := app.visitor(t)
	before := alice.received(alice.signIn("/", provider.Alice)).Header.Get("X-Token")
	cookies := alice.Cookies(app.URL)
	time.Sleep(2500 * time.Millisecond)

	// Every request carries the old cookies, as those of a page that loads do.
	late := app.visitor(t)
	late.Header = http.Header{"Cookie": {cookieHeader(cookies)}}
	late.Jar = nil
	late.Client().Jar = nil
	pages := make([]*browser.Page, 100)
	var all sync.WaitGroup
	for i := range pages {
		all.Go(func() { pages[i], _ = late.Fetch(http.MethodGet, app.URL, "", nil) })
	}
	all.Wait()
	for _, page := range pages {
		if page == nil || page.Status != http.StatusOK {
			t.Fatalf("one of a hundred requests got %v", page)
		}
		if token := late.received(page).Header.Get("X-Token"); token == before || token == "" {
			t.Fatalf("a request was served with the old token")
		}
	}
	if n := app.provider.Grants("refresh_token", app.name); n != 1 {
		t.Errorf("%d refreshes", n)
	}
}

func cookieHeader(cookies []*http.Cookie) string {
	var pairs []string
	for _, cookie := range cookies {
		pairs = append(pairs, cookie.Name+"="+cookie.Value)
	}
	return strings.Join(pairs, "; ")
}

// TestSessionEndsWithRefreshToken: a definite no of the provider ends the session.
func TestSessionEndsWithRefreshToken(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, refreshing(1))
	alice := app.visitor(t)
	alice.signIn("/", provider.Alice)
	app.provider.EndSignIns(app.name)
	time.Sleep(1500 * time.Millisecond)
	if page := alice.fetch(http.MethodGet, "/"); page.Status != http.StatusUnauthorized {
		t.Errorf("after the provider ended the sign-in: %s", page)
	}
}

// TestSessionSurvivesOutage: a provider that is away ends no session that still has time, and public paths go on.
func TestSessionSurvivesOutage(t *testing.T) {
	t.Parallel()
	own := ownProvider(t)
	s := refreshing(1)
	s.provider = own
	s.with["bypass"] = "PathPrefix(`/public`)"
	app := start(t).serve(t, s)
	alice := app.visitor(t)
	alice.signIn("/", provider.Alice)
	own.Away(true)
	time.Sleep(1500 * time.Millisecond)

	if page := alice.fetch(http.MethodGet, "/"); page.Status != http.StatusOK {
		t.Errorf("a session while the provider is away: %s", page)
	}
	nobody := app.visitor(t)
	if page := nobody.open("/public"); page.Status != http.StatusOK {
		t.Errorf("a public path while the provider is away: %s", page)
	}
	own.Away(false)
	time.Sleep(1500 * time.Millisecond)
	if page := alice.open("/"); alice.outcome(page) != "application" {
		t.Errorf("after the provider is back: %s", page)
	}
}

// TestSessionOptions has the cases of the options session.*.
func TestSessionOptions(t *testing.T) {
	t.Parallel()
	signedIn := func(v *visitor) string {
		v.signIn("/", provider.Alice)
		return v.cookieNames()
	}
	try(t, "session.name", site{}, signedIn, row{drop, "NAME-session"}, row{"mine", "mine"}, row{"%s-2", "NAME-2"})
	try(t, "session.path", site{}, func(v *visitor) string {
		v.signIn("/part/page", provider.Alice)
		return v.outcome(v.look("/other"))
	}, row{drop, "application"}, row{"/part", "sign-in"})
	try(t, "session.domain", site{}, func(v *visitor) string {
		v.signIn("/", provider.Alice)
		return v.sessionCookie().Domain
	}, row{drop, ""}, row{"e2e.localhost", "e2e.localhost"})
	try(t, "session.httpOnly", site{}, sessionAttribute(func(c *http.Cookie) string { return yes(c.HttpOnly) }),
		row{drop, "yes"}, row{false, "no"})
	try(t, "session.sameSite", site{}, sessionAttribute(func(c *http.Cookie) string { return sameSites[c.SameSite] }),
		row{drop, "lax"}, row{"strict", "strict"})
	try(t, "session.secure", site{}, func(v *visitor) string {
		return sessionAttribute(func(c *http.Cookie) string { return yes(c.Secure) })(v.app.secureVisitor(v.t))
	}, row{drop, "yes"}, row{false, "no"})

	try(t, "session.persistent", site{}, sessionAttribute(func(c *http.Cookie) string { return yes(c.MaxAge > 0) }), row{drop, "yes"}, row{false, "no"})
	try(t, "session.partitioned", site{}, func(v *visitor) string {
		return sessionAttribute(func(c *http.Cookie) string { return sameSites[c.SameSite] + " " + yes(c.Partitioned) })(v.app.secureVisitor(v.t))
	}, row{drop, "lax no"}, row{true, "none yes"})

	afterTwoSeconds := func(v *visitor) string {
		v.signIn("/", provider.Alice)
		time.Sleep(2500 * time.Millisecond)
		return v.outcome(v.look("/"))
	}
	try(t, "session.expiry", site{}, afterTwoSeconds, row{drop, "application"}, row{2, "sign-in"})
	try(t, "session.idleTimeout", site{}, afterTwoSeconds, row{drop, "application"}, row{2, "sign-in"})
	try(t, "session.maxLifetime", site{}, keepBusy, row{drop, "application"}, row{2, "sign-in"})
	try(t, "session.sliding", site{with: with{"session.expiry": 2}}, keepBusy, row{drop, "application"}, row{false, "sign-in"})
	try(t, "session.refresh", refreshing(1), func(v *visitor) string {
		v.signIn("/", provider.Alice)
		time.Sleep(1500 * time.Millisecond)
		v.fetch(http.MethodGet, "/")
		return yes(v.app.provider.Grants("refresh_token", v.app.name) > 0)
	}, row{drop, "yes"}, row{false, "no"})
}

// keepBusy uses a session every half second for three, and says what it is worth then.
func keepBusy(v *visitor) string {
	v.signIn("/", provider.Alice)
	for range 6 {
		time.Sleep(500 * time.Millisecond)
		v.fetch(http.MethodGet, "/")
	}
	return v.outcome(v.look("/"))
}

// sessionAttribute signs in and reads something of the session's cookie.
func sessionAttribute(read func(c *http.Cookie) string) func(v *visitor) string {
	return func(v *visitor) string {
		v.signIn("/", provider.Alice)
		return read(v.sessionCookie())
	}
}

// TestSessionSecrets: a session survives a change of the secret if the old one is named, and only then.
func TestSessionSecrets(t *testing.T) {
	t.Parallel()
	covers(t, "secret", "session.secret", "session.previousSecrets")
	const first, second = "the first secret, long enough", "the second secret, long enough"
	for _, test := range []struct {
		name     string
		previous []string
		want     string
	}{
		{"the old secret is named", []string{first}, "application"},
		{"the old secret is forgotten", nil, "sign-in"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			app := start(t).serve(t, site{with: with{"secret": first}}) // another place for it
			alice := app.visitor(t)
			alice.signIn("/", provider.Alice)
			changed := site{with: with{"session.secret": second}}
			if test.previous != nil {
				changed.with["session.previousSecrets"] = test.previous
			}
			if err := app.set(changed); err != nil {
				t.Fatal(err)
			}
			if got := alice.outcome(alice.look("/")); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
