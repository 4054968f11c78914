package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// TestConfigReferences: a text may stand in a file, or in the environment of Traefik's process.
func TestConfigReferences(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("the secret in the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	registered := site{client: func(c *provider.Client) { c.Secret = "the secret in the file" }}
	try(t, "clientSecret", registered, canSignIn, row{"${file:" + file + "}", "yes"}, row{"the secret in the other file", "no"})
	try(t, "authParams", site{}, sent("tool"), row{with{"tool": "in ${HOME}"}, "in " + os.Getenv("HOME")}, row{with{"tool": "in HOME"}, "in HOME"})

	said := start(t).refuse(t, site{with: with{"clientSecret": "${file:" + file + ".gone}", "issuer": "${NO_SUCH_VARIABLE}"}})
	for _, want := range []string{"clientSecret", file + ".gone", "issuer", "NO_SUCH_VARIABLE"} {
		if !strings.Contains(said, want) {
			t.Errorf("the error does not say %q: %s", want, said)
		}
	}
	if strings.Contains(said, "the secret in") {
		t.Errorf("the error tells a secret: %s", said)
	}
}

// TestConfigLocks: Traefik's operator says which files and variables middlewares may name.
func TestConfigLocks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mine, others := filepath.Join(dir, "mine"), filepath.Join(dir, "others")
	for name, text := range map[string]string{mine: "the secret in the folder", others: "the secret of others"} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(name, "secret"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(others, "secret"), filepath.Join(mine, "link")); err != nil {
		t.Fatal(err)
	}
	locked := *start(t)
	traefik, err := locked.newTraefik("locked", parts.TraefikOptions{Env: []string{"TRAEFIK_OIDC_FILES=" + mine, "TRAEFIK_OIDC_ENV=OIDC_*", "OIDC_TENANT=a-tenant", "DNS_TOKEN=of others"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(traefik.Stop)
	locked.traefik = traefik
	registered := site{client: func(c *provider.Client) { c.Secret = "the secret in the folder" },
		with: with{"clientSecret": "${file:" + mine + "/secret}", "authParams": with{"tenant": "${OIDC_TENANT}"}}}
	if got := canSignIn(locked.serve(t, registered).visitor(t)); got != "yes" {
		t.Errorf("with what is allowed, can sign in: %s", got)
	}
	for name, refused := range map[string]with{
		"TRAEFIK_OIDC_FILES":    {"clientSecret": "${file:" + others + "/secret}"},
		"is not within":         {"clientSecret": "${file:" + mine + "/link}"},
		"errorPages.403":        {"errorPages": with{"403": others + "/secret"}},
		"jwt.jwksFile":          {"jwt": with{"jwksFile": others + "/secret"}},
		"TRAEFIK_OIDC_ENV":      {"clientSecret": "${DNS_TOKEN}"},
		"whose value visitors":  {"authParams": with{"x": "${file:" + mine + "/secret}"}},
		"must not stand in an ": {"scopes": "${DNS_TOKEN}"},
	} {
		if said := locked.refuse(t, site{with: refused}); !strings.Contains(said, name) || strings.Contains(said, "of others") {
			t.Errorf("%v: expected %q, got %s", refused, name, said)
		}
	}
}

// TestConfigCSRF: every way to write a block that is switched on by being there.
func TestConfigCSRF(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value any
		want  string // what a script gets that does not repeat the cookie, and one that does
	}{
		{drop, "application application"}, {false, "application application"}, {"false", "application application"},
		{true, "Forbidden application"}, {"true", "Forbidden application"}, {with{}, "Forbidden application"},
	} {
		t.Run(fmt.Sprint(test.value), func(t *testing.T) {
			t.Parallel()
			v := start(t).serve(t, site{with: with{"csrf": test.value}}).visitor(t)
			v.signIn("/", provider.Alice)
			got := v.outcome(v.fetch(http.MethodPost, "/"))
			for _, cookie := range v.Cookies(v.url("/")) {
				if cookie.Name == "hub-csrf-token" {
					v.Header = http.Header{"Hub-Csrf-Token": {cookie.Value}}
				}
			}
			if got += " " + v.outcome(v.fetch(http.MethodPost, "/")); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// TestConfigLogLevels: each level tells what is worth as much, and more. No line tells a secret.
func TestConfigLogLevels(t *testing.T) {
	t.Parallel()
	told := func(v *visitor) string {
		page := v.signIn("/", provider.Alice)
		log := v.app.log()
		for _, secret := range append(v.Cookies(v.url("/")), &http.Cookie{Value: v.app.secret()}) {
			if strings.Contains(log, secret.Value) {
				v.t.Errorf("the log tells a secret:\n%s", log)
			}
		}
		if page.Status != http.StatusOK {
			v.t.Errorf("got %s", page)
		}
		var levels []string
		for _, line := range []string{"debug not signed in", "info signed in sub", "warn is plain http"} {
			level, words, _ := strings.Cut(line, " ")
			if strings.Contains(log, words) {
				levels = append(levels, level)
			}
		}
		return strings.Join(levels, " ")
	}
	try(t, "logLevel", site{}, told, row{drop, "info warn"}, row{"debug", "debug info warn"}, row{"INFO", "info warn"},
		row{"warn", "warn"}, row{"error", ""})
}

// TestProviderWithoutSettings: with every address that a sign-in needs there is nothing left to ask for.
func TestProviderWithoutSettings(t *testing.T) {
	t.Parallel()
	covers(t, "endpoints.authorization", "endpoints.token", "endpoints.jwks")
	own := newProvider(t, provider.Options{})
	own.Instead("openid-configuration", http.NotFound)
	alice := start(t).serve(t, site{provider: own, with: with{
		"endpoints": with{"authorization": own.Issuer + "/authorize", "token": own.Issuer + "/token", "jwks": own.Issuer + "/jwks"},
	}}).visitor(t)
	if got := canSignIn(alice); got != "yes" {
		t.Errorf("can sign in: %s", got)
	}
	if n := len(own.Calls("openid-configuration")); n > 0 {
		t.Errorf("the settings were asked for %d times", n)
	}
}

// TestProviderListsAuthMethods: what the provider lists decides how we prove who we are, unless an option does.
func TestProviderListsAuthMethods(t *testing.T) {
	t.Parallel()
	own := newProvider(t, provider.Options{})
	own.Instead("openid-configuration", func(rw http.ResponseWriter, req *http.Request) {
		recorder := httptest.NewRecorder()
		own.Pass(recorder, req)
		settings := map[string]any{}
		if err := json.Unmarshal(recorder.Body.Bytes(), &settings); err != nil {
			t.Error(err)
		}
		settings["token_endpoint_auth_methods_supported"] = []string{"client_secret_post", "private_key_jwt"}
		json.NewEncoder(rw).Encode(settings)
	})
	post := site{provider: own, client: func(c *provider.Client) { c.AuthMethod = "client_secret_post" }}
	try(t, "clientAuthMethod", post, canSignIn, row{drop, "yes"}, row{"client_secret_basic", "no"})
	public := site{provider: own, with: with{"clientSecret": drop, "session.secret": "a secret of 16 bytes"}}
	public.client = func(c *provider.Client) { c.AuthMethod = "none" }
	if got := canSignIn(start(t).serve(t, public).visitor(t)); got != "yes" {
		t.Errorf("a public client can sign people in: %s", got)
	}
}

// TestProviderNeverAskedTwice: what is posted may have worked although its answer was lost, so it is not posted again.
func TestProviderNeverAskedTwice(t *testing.T) {
	t.Parallel()
	own := newProvider(t, provider.Options{})
	own.Instead("token", func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "not now", http.StatusBadGateway) })
	alice := start(t).serve(t, site{provider: own, with: with{"clientConfig.maxRetries": 5}}).visitor(t)
	page := alice.must(alice.SignIn(alice.base, provider.Alice.Name, provider.Alice.Password))
	if n := len(own.Calls("token")); n != 1 || page.Status != http.StatusServiceUnavailable {
		t.Errorf("after %d calls: %s", n, page)
	}
}

// TestProviderCertificateOptions has the cases of the other spelling of the private authority, and of the file it may be in.
func TestProviderCertificateOptions(t *testing.T) {
	t.Parallel()
	l := start(t)
	config, err := l.ca.ServerConfig("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(l.ca.PEM), 0o644); err != nil {
		t.Fatal(err)
	}
	other, err := parts.NewCA("another")
	if err != nil {
		t.Fatal(err)
	}
	private := newProvider(t, provider.Options{TLS: config})
	for name, test := range map[string]struct {
		with with
		want string
	}{
		"caBundle":          {with{"clientConfig.tls.caBundle": l.ca.PEM}, "yes"},
		"ca in a file":      {with{"clientConfig.tls.ca": "${file:" + file + "}"}, "yes"},
		"another authority": {with{"clientConfig.tls.ca": other.PEM}, "no"},
		"skip as text":      {with{"clientConfig.tls.insecureSkipVerify": "true"}, "yes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := canSignIn(l.serve(t, site{provider: private, with: test.with}).visitor(t)); got != test.want {
				t.Errorf("can sign in: %s, want %s", got, test.want)
			}
		})
	}
}

// TestSessionCookieOptions has the cases of what else the session's cookie shows.
func TestSessionCookieOptions(t *testing.T) {
	t.Parallel()
	secure := site{with: with{"session.secure": true}}
	try(t, "session.sameSite", secure, func(v *visitor) string {
		v.base = v.app.Secure
		return sessionAttribute(func(c *http.Cookie) string { return sameSites[c.SameSite] + " " + strings.Split(c.Name, v.app.name)[0] })(v)
	}, row{drop, "lax __Host-"}, row{"none", "none __Host-"}, row{"Strict", "strict __Host-"})
	try(t, "session.expiry", site{}, sessionAttribute(func(c *http.Cookie) string { return (time.Duration(c.MaxAge) * time.Second).String() }),
		row{drop, "24h0m0s"}, row{"3600", "1h0m0s"})
	try(t, "session.maxLifetime", site{}, sessionAttribute(func(c *http.Cookie) string { return (time.Duration(c.MaxAge) * time.Second).String() }),
		row{drop, "24h0m0s"}, row{600, "10m0s"})

	// Each secret alone seals; a cookie under an old one is sealed anew at its first use.
	try(t, "session.secret", site{}, func(v *visitor) string {
		v.signIn("/", provider.Alice)
		old := v.sessionCookie().Value
		if err := v.app.set(site{with: with{"session.secret": "the next secret, long enough", "session.previousSecrets": []string{v.app.secret(), "the first secret, long enough"}}}); err != nil {
			v.t.Fatal(err)
		}
		v.look("/")
		return yes(v.sessionCookie().Value != old)
	}, row{drop, "yes"}, row{"the first secret, long enough", "yes"}, row{"the next secret, long enough", "no"})
}

// TestSessionTooLarge: a session that no browser would keep is refused with words that help the operator.
func TestSessionTooLarge(t *testing.T) {
	t.Parallel()
	var groups []string // no two alike, so that nothing can be packed
	for range 1500 {
		groups = append(groups, rand.Text())
	}
	own := newProvider(t, provider.Options{Users: []provider.User{{Name: provider.Alice.Name, Password: provider.Alice.Password, Claims: map[string]any{
		"sub": "user-alice", "groups": groups,
	}}}})
	app := start(t).serve(t, site{provider: own})
	alice := app.visitor(t)
	page := alice.must(alice.SignIn(alice.base, provider.Alice.Name, provider.Alice.Password))
	if page.Status != http.StatusInternalServerError || !strings.Contains(app.log(), "session.store.redis") {
		t.Errorf("got %s", page)
	}
}
