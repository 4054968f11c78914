package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// moved is what a configuration does that a page of docs/migrate shows as *after*. Alice may enter, nobody may not.
type moved struct {
	headers map[string]string // what the application is told of Alice
	bob     string            // what becomes of Bob: "Forbidden" if empty
	open    string            // a path that is open to all
	shut    string            // one that is not: "/" if empty
	nobody  string            // what becomes of nobody there: "sign-in" if empty
	logout  string            // where Alice signs out, if anywhere

	token     map[string]any // for tokens: the claims of one that is let in
	bad       map[string]any // one of these claims more makes it one that may not
	line      string         // the header that brings it, or the query, with TOKEN for it: "Authorization: Bearer TOKEN" if empty
	signature string         // HS256, with the example's secret; RS256, the provider's, if empty
}

// migrations are the configurations of each page, in its order.
var migrations = map[string][]moved{
	"traefik-hub.md": {
		{headers: map[string]string{"X-User": "alice@example.com"}},
		{token: map[string]any{"scope": "orders"}, bad: map[string]any{"scope": "invoices"}, headers: map[string]string{"X-User": "user-alice"}},
		{token: map[string]any{"grp": "admin"}, bad: map[string]any{"grp": "guest"}, headers: map[string]string{"Group": "admin"}, line: "/?token=TOKEN", signature: "HS256"},
	},
	"oauth2-proxy.md": {
		{headers: map[string]string{"X-Auth-Request-User": "user-alice", "X-Auth-Request-Groups": "admins,users", "X-Auth-Request-Email": "alice@example.com",
			"X-Auth-Request-Access-Token": "…"}, open: "/health", logout: "/oauth2/sign_out"},
		{headers: map[string]string{"Authorization": "Bearer ey…"}, bob: in, open: "/public/x"},
		{headers: map[string]string{"X-Forwarded-User": "alice@example.com"},
			token: map[string]any{"aud": "my-api", "email": "Carol@Example.com"}, bad: map[string]any{"aud": "another"}},
	},
	"traefik-forward-auth.md": {
		{headers: map[string]string{"X-Forwarded-User": "alice@example.com"}, open: "/bye", logout: "/_oauth/logout"},
		{headers: map[string]string{"X-Forwarded-User": "alice@example.com"}, open: "/", shut: "/inside"},
		{headers: map[string]string{"X-Forwarded-Token": "Bearer ey…", "Impersonate-User": "alice@example.com", "Impersonate-Group": "admins"}},
	},
	"traefik-oidc-auth.md": {
		{headers: map[string]string{"X-User": "alice@example.com"}, open: "/bye", logout: "/logout"},
		{headers: map[string]string{"X-Roles": `["reader","writer"]`, "X-Group": "admins", "Authorization": "Bearer …"}},
		{headers: map[string]string{"X-User": "alice@example.com"}, bob: in, open: "/public/x", nobody: in},
	},
	"traefikoidc.md": {
		{headers: map[string]string{"X-User": "alice@example.com"}, open: "/health", logout: "/oauth2/logout"},
		{headers: map[string]string{"X-Forwarded-User": "alice@example.com", "X-User-Groups": "admins,users", "X-User-Roles": "reader,writer", "X-Auth-Request-Token": "ey…"}},
		{headers: map[string]string{"X-Forwarded-User": "alice@example.com"}},
	},
	"authelia.md": {
		{headers: map[string]string{"Remote-Groups": "admins,users", "Remote-Email": "alice@example.com", "Remote-Name": "Alice Liddell"}, logout: "/logout"},
		{headers: map[string]string{"Remote-Email": "alice@example.com"}, open: "/api/things", shut: "/apix"},
		{headers: map[string]string{"Remote-Email": "alice@example.com"}, bob: in},
	},
	"authentik.md": {
		{headers: map[string]string{"X-Authentik-Groups": "admins,users", "X-Authentik-Uid": "user-alice", "X-Authentik-Jwt": "ey…", "X-Authentik-Meta-App": "my-app"}, logout: "/logout"},
		{headers: map[string]string{"X-Authentik-Email": "alice@example.com"}, bob: in, open: "/public/x", shut: "/health/x",
			token: map[string]any{"aud": "my-app", "email": "alice@example.com"}, bad: map[string]any{"aud": "another"}},
		{headers: map[string]string{"X-Authentik-Groups": `["admins","users"]`}},
	},
	"jwt-plugins.md": {
		{token: map[string]any{"aud": "my-api", "role": []string{"hr", "power"}, "tenant": "acme"}, bad: map[string]any{"role": []string{"hr"}},
			headers: map[string]string{"X-User": "user-alice", "X-Tenant": "acme"}, line: "Cookie: token=TOKEN"},
		{token: map[string]any{"scope": "a b"}, bad: map[string]any{"sub": nil}, headers: map[string]string{"X-Subject": "user-alice", "X-Scope": "a b"}, line: "/?jwt=TOKEN"},
		{token: map[string]any{"roles": []string{"a"}}, bad: map[string]any{"exp": nil}, headers: map[string]string{"X-User": "user-alice", "X-Roles": `["a"]`},
			line: "X-Api-Token: Bearer TOKEN", signature: "HS256"},
	},
}

// here puts our addresses in the place of the pages': one host for all sign-ins is a second one of the app.
var here = strings.NewReplacer("https://auth.example.com", "http://central.{host}", "https://login.example.com", "http://central.{host}", "https://www.example.com", "http://{host}")

// migratedSite makes an example ready to be driven.
func migratedSite(e example, issuer string) site {
	e.options = replaced(e.options, here)
	if e.options["issuer"] == nil && e.name != fragment {
		e.options = replaced(e.options, strings.NewReplacer("https://id.example.com/keys", issuer+"/jwks", "https://id.example.com", issuer))
	}
	s := e.site()
	if session, _ := s.with["session"].(map[string]any); session != nil {
		delete(s.with, "session")
		for name, value := range session {
			if name == "domain" {
				value = "{site}"
			}
			s.with["session."+name] = value
		}
	}
	s.rule = "HOST || Host(`central.{site}`)"
	return s
}

// TestMigrate drives the configurations that docs/migrate shows as *after*: who may enter and who may not, what the application is
// told, what is open, and the sign-out. Hub's other tokens are driven with examples/hub.
func TestMigrate(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../docs/migrate/*.md")
	if err != nil || len(pages) != len(migrations)+1 {
		t.Fatalf("%d pages, %d cases and the README: %v", len(pages), len(migrations), err)
	}
	for page, cases := range migrations {
		text, err := os.ReadFile("../docs/migrate/" + page)
		if err != nil {
			t.Fatal(err)
		}
		examples, err := pageExamples(string(text))
		if err != nil || len(examples) != len(cases) {
			t.Fatalf("%s has %d examples for %d cases: %v", page, len(examples), len(cases), err)
		}
		for i, c := range cases {
			t.Run(page, func(t *testing.T) {
				t.Parallel()
				l := start(t)
				s := migratedSite(examples[i], l.provider.Issuer)
				app := l.serve(t, s)
				if s.with["issuer"] != drop {
					c.signsIn(t, app)
				}
				if c.token != nil {
					c.brings(t, app, s)
				}
			})
		}
	}
}

// signsIn drives a sign-in.
func (c moved) signsIn(t *testing.T, app *app) {
	or := func(text, otherwise string) string {
		if text == "" {
			return otherwise
		}
		return text
	}
	alice, bob, nobody := app.visitor(t), app.visitor(t), app.visitor(t)
	start := or(c.shut, "/")
	if c.nobody == in { // a sign-in begins at loginUrl alone
		start = "/login"
	}
	alice.signIn(start, provider.Alice)
	c.told(t, alice.received(alice.open(or(c.shut, "/"))).Header)
	if got := bob.outcome(bob.must(bob.SignIn(app.URL+start, provider.Bob.Name, provider.Bob.Password))); got != or(c.bob, "Forbidden") {
		t.Errorf("Bob: got %s", got)
	}
	if got := nobody.outcome(nobody.look(or(c.shut, "/"))); got != or(c.nobody, "sign-in") {
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
}

// brings drives tokens.
func (c moved) brings(t *testing.T, app *app, s site) {
	bring := func(more map[string]any) string {
		claims := map[string]any{"iss": app.provider.Issuer, "sub": "user-alice", "exp": time.Now().Add(time.Minute).Unix()}
		for _, part := range []map[string]any{c.token, more} {
			for name, value := range part {
				claims[name] = value
			}
		}
		var token string
		if c.signature != "" {
			secret, _ := s.with["jwt"].(map[string]any)["signingSecret"].(string)
			token = newToken(t, c.signature, []byte(secret), claims)
		} else if signed, err := app.provider.Sign(claims); err != nil {
			t.Fatal(err)
		} else {
			token = signed
		}
		path, line := "/", "Authorization: Bearer "+token
		if c.line != "" {
			line = strings.ReplaceAll(c.line, "TOKEN", token)
		}
		if strings.HasPrefix(line, "/") {
			path, line = line, "X-Other: "
		}
		v := app.visitor(t)
		page := v.call(http.MethodGet, path, "", line)
		if more == nil && v.outcome(page) == in && s.with["issuer"] == drop {
			c.told(t, v.received(page).Header)
		}
		return v.outcome(page)
	}
	if got := bring(nil); got != in {
		t.Errorf("a token gets %s", got)
	}
	if got := bring(c.bad); got != "Forbidden" && got != out {
		t.Errorf("a token with %v gets %s", c.bad, got)
	}
	if s.with["issuer"] == drop {
		v := app.visitor(t)
		if got := v.outcome(v.fetch(http.MethodGet, "/")); got != out {
			t.Errorf("without a token: %s", got)
		}
	}
}

// told compares what the application is told; what begins like the text before … is enough.
func (c moved) told(t *testing.T, got http.Header) {
	t.Helper()
	for name, want := range c.headers {
		value := got.Get(name)
		head, isOpen := strings.CutSuffix(want, "…")
		if value != want && !(isOpen && strings.HasPrefix(value, head) && len(value) > len(head)) {
			t.Errorf("%s is %q, want %q", name, value, want)
		}
	}
}
