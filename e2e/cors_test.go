package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// fetched is what a script learns of an answer from another origin; status 0 when the browser keeps it.
type fetched struct {
	Status          int
	Challenge, Body string
}

// TestExampleCORS calls examples/cors/cors.yml with a script of another origin, in Chromium: preflight, a readable 401 and 403, a good token,
// cookies; and sees that the other order of the middlewares leaves the script with nothing.
func TestExampleCORS(t *testing.T) {
	t.Parallel()
	l := start(t)
	p := newProvider(t, provider.Options{})
	page := l.serve(t, site{plain: true})
	text, err := os.ReadFile("../examples/cors/cors.yml")
	if err != nil {
		t.Fatal(err)
	}
	api := func(order string) *app {
		a := l.newApp(t, site{})
		content := strings.NewReplacer("https://spa.example.com", page.URL, "https://api.example.com", "the-api", "api.example.com", a.host, "https://id.example.com", p.Issuer, "http://127.0.0.1:8081", l.upstream.URL,
			"\n    cors:\n", "\n    "+a.name+"-cors:\n", "\n    api:\n", "\n    "+a.name+":\n", "service: api", "service: "+a.name, "[cors, api]", strings.NewReplacer("cors", a.name+"-cors", "api", a.name).Replace(order)).Replace(string(text))
		if err := l.traefik.SetFile(a.name, content); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.traefik.RemoveFile(a.name) })
		if err := l.traefik.RouteError(a.name); err != nil {
			t.Fatal(err)
		}
		return a
	}
	token := func(scope string) string {
		signed, err := p.Sign(map[string]any{"iss": p.Issuer, "sub": "user-alice", "aud": "the-api", "scope": scope, "exp": time.Now().Add(time.Hour).Unix()})
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	tab := page.window(t).tab()
	tab.open("/")
	tab.expect("401")
	tab.expect("403")
	tab.expect("CORS policy")
	tab.expect("Failed to load resource")
	fetch := func(a *app, options string) fetched {
		var got fetched
		tab.evaluate(fmt.Sprintf(`fetch(%q, %s).then(
			async (r) => ({ status: r.status, challenge: r.headers.get("WWW-Authenticate") ?? "", body: await r.text() }),
			(e) => ({ status: 0, challenge: "", body: String(e) }))`, a.URL+"/orders", options), &got)
		return got
	}
	right := api("[cors, api]")
	for _, c := range []struct {
		name, options  string
		status         int
		challenge, has string
	}{
		{"no token", `{}`, 401, `Bearer realm="NAME", scope="orders:read"`, "This address needs an access token"},
		{"no token, with cookies", `{ credentials: "include" }`, 401, `Bearer realm="NAME", scope="orders:read"`, "This address needs an access token"},
		{"a bad token, after a preflight", `{ headers: { Authorization: "Bearer x" } }`, 401, `error="invalid_token"`, "This access token is not accepted"},
		{"a weak token", `{ method: "PUT", body: "{}", headers: { "Content-Type": "application/json", Authorization: "Bearer ` + token("other") + `" } }`, 403, `error="insufficient_scope"`, "does not allow this"},
		{"a good token", `{ credentials: "include", method: "PUT", body: "{}", headers: { "Content-Type": "application/json", Authorization: "Bearer ` + token("orders:read") + `" } }`, 200, "", ""},
	} {
		got := fetch(right, c.options)
		if got.Status != c.status || !strings.Contains(strings.ReplaceAll(got.Challenge, right.name, "NAME"), c.challenge) || !strings.Contains(got.Body, c.has) {
			t.Errorf("%s: got %+v\n%s", c.name, got, right.log())
		}
	}
	wrong := api("[api, cors]")
	for _, options := range []string{`{}`, `{ headers: { Authorization: "Bearer ` + token("orders:read") + `" } }`} {
		if got := fetch(wrong, options); got.Status != 0 {
			t.Errorf("in the other order: got %+v", got)
		}
	}
}

// TestCORSWithSession: a script of another origin of the same site, with the session's cookie.
func TestCORSWithSession(t *testing.T) {
	t.Parallel()
	l := start(t)
	page := l.serve(t, site{plain: true})
	app := l.newApp(t, site{})
	app.register(site{})
	route := fmt.Sprintf(`{"http": {"routers": {%[1]q: {"rule": "Host(%[2]s)", "middlewares": ["%[3]s-cors", %[1]q], "service": %[1]q}},
		"middlewares": {"%[3]s-cors": {"headers": {"accessControlAllowOriginList": [%[4]q], "accessControlAllowMethods": ["GET"], "accessControlAllowCredentials": true,
			"accessControlExposeHeaders": ["WWW-Authenticate"]}}, %[1]q: {"plugin": {"oidc": {"issuer": %[5]q, "clientId": %[1]q, "clientSecret": %[6]q}}}},
		"services": {%[1]q: {"loadBalancer": {"servers": [{"url": %[7]q}]}}}}}`, app.name, "`"+app.host+"`", app.name, page.URL, app.provider.Issuer, app.secret(), l.upstream.URL)
	if err := l.traefik.SetFile(app.name, route); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.traefik.RemoveFile(app.name) })
	if err := l.traefik.RouteError(app.name); err != nil {
		t.Fatal(err)
	}
	tab := app.window(t).tab()
	tab.expect("401")
	tab.expect("Failed to load resource")
	tab.open(page.URL + "/")
	script := fmt.Sprintf(`fetch(%q, { credentials: "include" }).then(async (r) => ({ status: r.status, challenge: r.headers.get("WWW-Authenticate") ?? "", body: await r.text() }), (e) => ({ status: 0, body: String(e) }))`, app.URL+"/orders")
	var got fetched
	if tab.evaluate(script, &got); got.Status != 401 || got.Challenge == "" || !strings.Contains(got.Body, "not signed in") {
		t.Errorf("without a session: %+v\n%s", got, app.log())
	}
	tab.open("/")
	tab.signIn(provider.Alice)
	tab.open(page.URL + "/")
	if tab.evaluate(script, &got); got.Status != 200 {
		t.Errorf("with a session: %+v\n%s", got, app.log())
	}
}
