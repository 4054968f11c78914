package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// TestMigrate drives the configurations that docs/migrate shows as *after*: who may enter and who may not, what the application is
// told, what is open, and the sign-out. Hub's tokens are driven with examples/hub.
func TestMigrate(t *testing.T) {
	t.Parallel()
	type moved struct {
		header, value string // for Alice
		open, logout  string // "" without
	}
	cases := map[string]moved{
		"traefik-hub.md":          {header: "X-User", value: "alice@example.com"},
		"oauth2-proxy.md":         {header: "X-Auth-Request-Groups", value: "admins,users", open: "/health", logout: "/oauth2/sign_out"},
		"traefik-forward-auth.md": {header: "X-Forwarded-User", value: "alice@example.com", open: "/bye", logout: "/_oauth/logout"},
		"traefik-oidc-auth.md":    {header: "X-User", value: "alice@example.com", open: "/bye", logout: "/logout"},
		"traefikoidc.md":          {header: "X-User", value: "alice@example.com", open: "/health", logout: "/oauth2/logout"},
	}
	pages, err := filepath.Glob("../docs/migrate/*.md")
	if err != nil || len(pages) != len(cases)+1 {
		t.Fatalf("%d pages, %d cases and the README: %v", len(pages), len(cases), err)
	}
	for page, c := range cases {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile("../docs/migrate/" + page)
			if err != nil {
				t.Fatal(err)
			}
			examples, err := pageExamples(string(text))
			if err != nil {
				t.Fatal(err)
			}
			app := start(t).serve(t, examples[0].site())
			alice, bob, nobody := app.visitor(t), app.visitor(t), app.visitor(t)
			if got := alice.received(alice.signIn("/", provider.Alice)).Header.Get(c.header); got != c.value {
				t.Errorf("%s is %q, want %q", c.header, got, c.value)
			}
			if got := bob.outcome(bob.must(bob.SignIn(app.URL+"/", provider.Bob.Name, provider.Bob.Password))); got != "Forbidden" {
				t.Errorf("Bob: got %s", got)
			}
			if got := nobody.outcome(nobody.look("/")); got != "sign-in" {
				t.Errorf("nobody: got %s", got)
			}
			if c.open != "" && nobody.outcome(nobody.look(c.open)) != in {
				t.Errorf("%s is not open", c.open)
			}
			if c.logout == "" {
				return
			}
			alice.post(c.logout, nil)
			if got := alice.outcome(alice.look("/")); got != "sign-in" {
				t.Errorf("after the sign-out: got %s", got)
			}
		})
	}
}
