package e2e

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// TestOldTraefik has the plugin work in the oldest Traefik 3 as in the one that all other tests use: what a user meets on every day,
// and what depends on the standard library that a Traefik has been built with, or on how it reads options.
func TestOldTraefik(t *testing.T) {
	t.Parallel()
	if !parts.WantsOldest() {
		t.Skipf("SKIPPED: %s is not set, so the oldest Traefik is neither built nor tested", parts.OldestVariable)
	}
	l := start(t)
	oldest, err := parts.OldestTraefikPath(context.Background(), l.root, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []struct{ path, name string }{{oldest, "3.0."}, {"", "3."}} {
		t.Run(version.name+"x", func(t *testing.T) {
			traefik, err := l.newTraefik("traefik-"+version.name+"x", parts.TraefikOptions{Path: version.path})
			if err != nil {
				t.Fatal(err)
			}
			defer traefik.Stop()
			if got, err := traefik.Version(); err != nil || !strings.HasPrefix(got, version.name) {
				t.Fatalf("this is Traefik %s, want %sx: %v", got, version.name, err)
			}
			own := &lab{root: l.root, dir: l.dir, ca: l.ca, traefik: traefik, provider: l.provider, upstream: l.upstream}
			everyday(t, own)
			noTunnel(t, own, h2cBackend(t), map[string]string{"3.0.": "h2c", "3.": "HTTP/2.0"}[version.name])
			refreshes(t, own)
			bearer(t, own)
			misspelt(t, own)
		})
	}
}

// everyday is a sign-in by http and by https, what the application and the access log are told, a rule, a form, and a sign-out.
func everyday(t *testing.T, l *lab) {
	t.Helper()
	a := l.serve(t, site{
		with: with{
			"usernameClaim": "email", "forwardHeaders": with{"X-User": "{name} <{email}>"}, "bypass": "PathPrefix(`/public/`)",
			"claims": "Contains(`groups`, `admins`)", "logoutUrl": "/logout", "postLogoutRedirectUrl": "/public/bye",
		},
		landings: []string{"/public/bye"},
	})
	for _, alice := range []*visitor{a.visitor(t), a.secureVisitor(t)} {
		got := alice.received(alice.signIn("/page?x=1", provider.Alice))
		if user := got.Header.Get("X-User"); user != "Alice Liddell <alice@example.com>" || got.URI != "/page?x=1" || got.Header.Get("Cookie") != "" {
			t.Errorf("the application got %s with X-User %q and the cookies %q", got.URI, user, got.Header.Get("Cookie"))
		}
		sent := alice.received(alice.post("/form", url.Values{"text": {"ä"}}))
		if sent.Method != http.MethodPost || sent.Body != "text=%C3%A4" {
			t.Errorf("of a form, the application got %s %q", sent.Method, sent.Body)
		}
		alice.post("/logout", nil)
		if got := alice.outcome(alice.look("/")); got != "sign-in" {
			t.Errorf("after the sign-out: %s", got)
		}
	}
	log := l.traefik.AccessLog(a.name)
	found := false
	for _, entry := range log {
		found = found || entry["ClientUsername"] == "alice@example.com"
	}
	if !found {
		t.Errorf("the access log, %d lines, does not name the user", len(log))
	}
	nobody, bob := a.visitor(t), a.visitor(t)
	bob.must(bob.SignIn(bob.url("/"), provider.Bob.Name, provider.Bob.Password))
	for _, c := range []struct {
		who        *visitor
		path, want string
	}{{nobody, "/", "sign-in"}, {nobody, "/public/x", "application"}, {bob, "/", "Forbidden"}} {
		if got := c.who.outcome(c.who.look(c.path)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.path, got, c.want)
		}
	}
	if page := nobody.fetch(http.MethodGet, "/"); page.Status != http.StatusUnauthorized {
		t.Errorf("a program that is not signed in gets %s", page)
	}
}

// refreshes lets an access token end while somebody is signed in.
func refreshes(t *testing.T, l *lab) {
	t.Helper()
	a := l.serve(t, site{
		with:   with{"scopes": []string{"openid", "offline_access"}},
		client: func(c *provider.Client) { c.AccessTokenLifetime = 2 * time.Second },
	})
	alice := a.visitor(t)
	alice.signIn("/", provider.Alice)
	time.Sleep(2500 * time.Millisecond)
	if got := alice.outcome(alice.look("/")); got != "application" {
		t.Errorf("after the access token has ended: %s", got)
	}
	if n := a.provider.Grants("refresh_token", a.name); n != 1 {
		t.Errorf("%d refreshes, expected 1", n)
	}
}

// bearer brings JWTs, which need the interpreter's view of crypto and encoding.
func bearer(t *testing.T, l *lab) {
	t.Helper()
	a := l.serve(t, site{with: with{"issuer": drop, "clientId": drop, "clientSecret": drop, "jwt": with{
		"issuer": l.provider.Issuer, "audience": "an-api", "forwardHeaders": with{"X-User": "sub"},
	}}})
	claims := map[string]any{"iss": l.provider.Issuer, "aud": "an-api", "sub": "robot", "exp": time.Now().Add(time.Minute).Unix()}
	token, err := l.provider.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		token string
		want  int
	}{{token, http.StatusOK}, {token[:len(token)-6] + "AAAAAA", http.StatusUnauthorized}} {
		page := a.visitor(t).call(http.MethodGet, "/", "", "Authorization: Bearer "+c.token)
		if page.Status != c.want {
			t.Errorf("a token gets %s, expected %d", page, c.want)
		}
	}
}

// misspelt is an option that does not exist: the route must not be there, and the log must say why.
func misspelt(t *testing.T, l *lab) {
	t.Helper()
	a, err := l.tryServe(t, site{with: with{"claim": "Equals(`a`, `b`)"}})
	if err == nil || !strings.Contains(err.Error()+a.log(), `unknown option; did you mean`) {
		t.Errorf("a misspelt option: %v\n%s", err, a.log())
	}
	nobody := a.visitor(t)
	if got := nobody.outcome(nobody.look("/")); got != "Not Found" {
		t.Errorf("with a misspelt option the route is not closed: %s", got)
	}
}
