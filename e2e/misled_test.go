package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// These cases are answers of the provider that something leads astray: a proxy, a router's rule, another middleware. Nobody goes round in
// circles, and page and log say what is wrong.

// isMisled reports what is wrong with a page that should say that the sign-in is not set up correctly.
func (v *visitor) isMisled(page *browser.Page, words ...string) {
	v.t.Helper()
	if page.Status != http.StatusInternalServerError || !strings.Contains(page.Body, "Signing in is not set up correctly") {
		v.t.Errorf("expected a page about the configuration, got %s", page)
	}
	for _, want := range words {
		if !strings.Contains(v.app.log(), want) {
			v.t.Errorf("the log does not say %q", want)
		}
	}
}

// TestMisledByTwoMiddlewares: two clients on one host, and one path for the answers of both.
func TestMisledByTwoMiddlewares(t *testing.T) {
	t.Parallel()
	l := start(t)
	first := l.serve(t, site{rule: "HOST && (PathPrefix(`/first`) || PathPrefix(`/oidc/`))"})
	second := l.newApp(t, site{})
	second.host, second.URL, second.Secure = first.host, first.URL, first.Secure
	second.register(site{callbacks: []string{"/second/callback"}})
	t.Cleanup(func() { l.traefik.RemoveFile(second.name) })
	if err := second.set(site{rule: "HOST"}); err != nil {
		t.Fatal(err)
	}
	stranger := first.visitor(t)
	stranger.isMisled(stranger.must(stranger.SignIn(first.URL+"/page", provider.Alice.Name, provider.Alice.Password)),
		"the sign-in was begun with the cookie "+second.name+"-state.", "redirectUrl of its own")
	alice := first.visitor(t)
	alice.signIn("/first", provider.Alice) // whoever is signed in at the first was led around for ever
	alice.isMisled(alice.open("/page"))

	if err := second.set(site{rule: "HOST", with: with{"redirectUrl": "/second/callback"}}); err != nil { // what the line says
		t.Fatal(err)
	}
	for _, path := range []string{"/page", "/first", "/other"} {
		if page := alice.open(path); alice.outcome(page) != "application" {
			t.Errorf("%s: %s", path, page)
		}
	}
}

// TestMisledByAProxy: something in front drops the query of the answer, as many do where they redirect to https.
func TestMisledByAProxy(t *testing.T) {
	t.Parallel()
	l := start(t)
	to, err := url.Parse(l.traefik.URL)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, r.In.Host
		if r.In.URL.Path == "/oidc/callback" {
			r.Out.URL.RawQuery = ""
		}
	}})
	t.Cleanup(front.Close)
	base := strings.Replace(front.URL, "127.0.0.1", "{site}", 1)
	app := l.serve(t, site{callbacks: []string{base + "/oidc/callback"}})
	alice := app.visitor(t)
	alice.isMisled(alice.must(alice.SignIn(app.fill(base)+"/page", provider.Alice.Name, provider.Alice.Password)), "callback: came without state and code")
}

// TestMisledForm: the answer is a form, and comes where nobody waits for it.
func TestMisledForm(t *testing.T) {
	t.Parallel()
	l := start(t)
	for mode, path := range map[string]string{"form_post": "/elsewhere", "query": "/oidc/callback"} {
		app := l.serve(t, site{with: with{"responseMode": mode}})
		alice := app.visitor(t)
		request, err := url.Parse(alice.look("/page").Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		alice.isMisled(alice.post(path, url.Values{"state": request.Query()["state"], "code": {"any"}}), "POST "+path+": 500")
	}
}

// TestMisledByReplicas: the sign-in begins at one replica and ends at another one, which has another secret.
func TestMisledByReplicas(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, site{with: with{"session.secret": "of the first one, and long enough"}})
	alice := app.visitor(t)
	form := alice.open("/page")
	if err := app.set(site{with: with{"session.secret": "of the other one, and long enough"}}); err != nil {
		t.Fatal(err)
	}
	page := alice.must(alice.Submit(form, url.Values{"username": {provider.Alice.Name}, "password": {provider.Alice.Password}}))
	if page.Status != http.StatusBadRequest || !strings.Contains(page.Body, "the cookie came, and could not be used") || !strings.Contains(app.log(), "it is sealed with another secret") {
		t.Errorf("expected what is wrong with the cookie, got %s", page)
	}
}
