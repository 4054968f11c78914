package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// TestBearerBesideASession is who is asked when a browser's session and a token come together, each with the real access tokens of real users:
// the token decides alone. It never falls back to the session, and is never redirected.
func TestBearerBesideASession(t *testing.T) {
	t.Parallel()
	l := start(t)
	const challenge = `Bearer realm="NAME"`
	for _, job := range []string{"jwt", "introspection"} {
		t.Run(job, func(t *testing.T) {
			t.Parallel()
			options := with{"claims": "Exists(`sub`)", "forwardHeaders": with{"X-User": "sub", "X-Token": "{access_token}", "X-Groups": "groups"}}
			if job == "jwt" {
				options["jwt"] = true
			} else {
				options["oAuthIntrospection.cacheSeconds"] = 60
			}
			app := l.serve(t, site{with: options, client: func(c *provider.Client) { c.JWTAccessTokens, c.ClientCredentials = job == "jwt", true }})
			alice, bob := app.visitor(t), app.visitor(t)
			aliceToken := alice.received(alice.signIn("/", provider.Alice)).Header.Get("X-Token")
			token := bob.received(bob.signIn("/", provider.Bob)).Header.Get("X-Token")
			if aliceToken == "" || token == "" || (strings.Count(token, ".") == 2) != (job == "jwt") {
				t.Fatalf("these are no access tokens for this case: %q, %q", aliceToken, token)
			}
			for _, row := range []struct {
				name       string
				hasSession bool // Alice's
				token      string
				navigation outcome
				fetch      outcome
			}{
				{"no credentials", false, "", outcome{status: http.StatusFound, location: app.provider.Issuer + "/authorize"}, outcome{status: 401, challenge: challenge}},
				{"session", true, "", outcome{status: 200, user: "user-alice", token: aliceToken}, outcome{status: 200, user: "user-alice", token: aliceToken}},
				{"good token", false, token, outcome{status: 200, user: "user-bob", token: token}, outcome{status: 200, user: "user-bob", token: token}},
				{"bad token", false, token + "x", outcome{status: 401, challenge: challenge + `, error="invalid_token"`}, outcome{status: 401, challenge: challenge + `, error="invalid_token"`}},
				{"session and bad token", true, token + "x", outcome{status: 401, challenge: challenge + `, error="invalid_token"`}, outcome{status: 401, challenge: challenge + `, error="invalid_token"`}},
				{"session and good token of someone else", true, token, outcome{status: 200, user: "user-bob", token: token}, outcome{status: 200, user: "user-bob", token: token}},
			} {
				t.Run(row.name, func(t *testing.T) {
					v := app.visitor(t)
					if row.hasSession {
						v = alice
					}
					v.Header = http.Header{"X-User": {"root"}, "X_user": {"root"}, "X-Groups": {"admins"}}
					if row.token != "" {
						v.Header.Set("Authorization", "Bearer "+row.token)
					}
					for range 3 { // what is remembered says the same
						compare(t, "navigation", v, v.look("/page"), row.navigation)
						compare(t, "fetch", v, v.fetch(http.MethodGet, "/api"), row.fetch)
					}
				})
			}
			alice.Header = http.Header{}
			if got := alice.received(alice.fetch(http.MethodGet, "/api")).Header.Get("X-User"); got != "user-alice" {
				t.Errorf("the session is not what it was: %s", got)
			}
			// A token of the client for itself is nobody's.
			if page := bring("Authorization: Bearer " + clientToken(t, app))(app.visitor(t)); page != "Forbidden" {
				t.Errorf("a client's own token: %s", page)
			}
		})
	}
}

// outcome is what a request of the table comes to.
type outcome struct {
	status              int
	location, challenge string // how one begins, the other as a whole; NAME is the middleware's
	user, token         string // which the application got
}

// groupsOf is what each user's token, or session, says.
var groupsOf = map[string]string{"user-alice": "admins,users", "user-bob": "users"}

func compare(t *testing.T, kind string, v *visitor, page *browser.Page, want outcome) {
	t.Helper()
	location := page.Header.Get("Location")
	challenge := strings.ReplaceAll(page.Header.Get("WWW-Authenticate"), v.app.name, "NAME")
	if page.Status != want.status || challenge != want.challenge || (location == "") != (want.location == "") || !strings.HasPrefix(location, want.location) {
		t.Errorf("%s: got %d, location %q, challenge %q, want %+v\n%s", kind, page.Status, location, challenge, want, v.app.log())
	}
	if want.status != http.StatusOK || v.outcome(page) != in {
		if reached := v.outcome(page) == in; reached || want.status == http.StatusOK {
			t.Errorf("%s: the application was reached: %t", kind, reached)
		}
		return
	}
	got := v.received(page).Header
	if got.Get("X-User") != want.user || got.Get("X-Token") != want.token || got.Get("X-Groups") != groupsOf[want.user] || got["X_user"] != nil {
		t.Errorf("%s: the application got %v", kind, got)
	}
	if got.Get("Authorization") != "" || strings.Contains(got.Get("Cookie"), "-session") {
		t.Errorf("%s: the application got our credentials: %v", kind, got)
	}
}

// clientToken is the token of an app's client for itself.
func clientToken(t *testing.T, a *app) string {
	t.Helper()
	return ownToken(t, a.provider.Issuer, a.name, a.secret(), nil)
}
