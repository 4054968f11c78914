package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// TestLogout: one click ends the session here and at the provider, and an old copy of the tokens is worth nothing.
func TestLogout(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, site{
		with: with{
			"logoutUrl": "/logout", "postLogoutRedirectUrl": "/bye", "bypass": "Path(`/bye`)",
			"scopes": []string{"openid", "offline_access"},
		},
		landings: []string{"/bye"},
	})
	alice := app.visitor(t)
	alice.signIn("/", provider.Alice)
	page := alice.post("/logout", url.Values{})
	if page.URL.Path != "/bye" || page.Status != http.StatusOK {
		t.Errorf("the sign-out ended so: %s", page)
	}
	if names := alice.cookieNames(); names != "" {
		t.Errorf("these cookies are left: %s", names)
	}
	ended := app.provider.Calls("end_session")
	found := false
	for _, call := range ended {
		hint := call.Query.Get("id_token_hint") + call.Form.Get("id_token_hint")
		claims, err := provider.Claims(hint)
		found = found || err == nil && claims["azp"] == app.name
	}
	if !found {
		t.Errorf("the provider was not told who signs out: %v", ended)
	}
	if len(app.provider.Calls("revoke", app.name)) == 0 {
		t.Errorf("the refresh token was not revoked")
	}
	if got := alice.outcome(alice.open("/")); got != "sign-in" {
		t.Errorf("after the sign-out: %s, so the provider did not forget the user", got)
	}
}

// TestLogoutFromAnotherSite: a link somewhere else does not sign anybody out without asking.
func TestLogoutFromAnotherSite(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, site{with: with{"logoutUrl": "/logout"}})
	alice := app.visitor(t)
	alice.signIn("/", provider.Alice)
	elsewhere := alice.open(app.provider.Issuer + "/signed-out")
	page, err := alice.Follow(elsewhere, app.URL+"/logout")
	if err != nil {
		t.Fatal(err)
	}
	if got := alice.outcome(alice.look("/")); got != "application" {
		t.Errorf("a link on another site signed Alice out: %s", page)
	}
}

// TestLogoutAtNodeProvider does the whole of it with the second provider.
func TestLogoutAtNodeProvider(t *testing.T) {
	t.Parallel()
	l := start(t)
	app := l.newApp(t, site{})
	node := l.nodeProvider(t, provider.NodeOptions{Clients: []map[string]any{{
		"client_id": app.name, "client_secret": app.secret(), "grant_types": []string{"authorization_code", "refresh_token"},
		"redirect_uris": []string{app.URL + "/oidc/callback"}, "post_logout_redirect_uris": []string{app.URL + "/bye"},
	}}})
	t.Cleanup(func() { l.traefik.RemoveFile(app.name) })
	err := app.set(site{with: with{
		"issuer": node.Issuer, "logoutUrl": "/logout", "postLogoutRedirectUrl": "/bye", "bypass": "Path(`/bye`)",
	}})
	if err != nil {
		t.Fatal(err)
	}
	alice := app.visitor(t)
	alice.signIn("/", provider.Alice)
	page := alice.post("/logout", url.Values{})
	if page.URL.Path != "/bye" || page.Status != http.StatusOK {
		t.Errorf("the sign-out ended so: %s", page)
	}
	if again := alice.open("/"); !strings.Contains(again.Body, `type="password"`) {
		t.Errorf("after the sign-out: %s", again)
	}
}

// TestLogoutOptions has the cases of the options that sign out.
func TestLogoutOptions(t *testing.T) {
	t.Parallel()
	try(t, "logoutUrl", site{}, func(v *visitor) string {
		v.signIn("/", provider.Alice)
		v.post("/leave", url.Values{})
		return yes(v.cookieNames() == "")
	}, row{drop, "no"}, row{"/leave", "yes"})
	leaving := site{with: with{"logoutUrl": "/logout", "bypass": "Path(`/bye`)"}, landings: []string{"/bye"}}
	try(t, "postLogoutRedirectUrl", leaving, func(v *visitor) string {
		v.signIn("/", provider.Alice)
		return v.post("/logout", url.Values{}).URL.Path
	}, row{drop, "/signed-out"}, row{"/bye", "/bye"})
}
