package oidc

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The main job, from a person's first visit to the sign-out. Three others take part: a browser, the fake provider, at which whoever comes
// is Ada, and an upstream that answers with what it received. The details have files of their own, named after their subjects.

// visitors is a site for administrators, and a browser in which nobody has signed in.
func visitors(t *testing.T) (*fakeProvider, *testSite, *browser) {
	t.Helper()
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{ // issuer, clientId, clientSecret
		"claims":                "Contains(`groups`, `admins`)",
		"forwardHeaders":        map[string]any{"X-User": "sub", "X-Mail": "{name} <{email}>", "X-Token": "{access_token}"},
		"logoutUrl":             "/logout",
		"postLogoutRedirectUrl": "/goodbye",
		"bypass":                "Path(`/goodbye`)",
	}))
	return p, s, newBrowser(t, s)
}

// expectTrail compares the addresses that a browser came by, without their queries.
func expectTrail(t *testing.T, p *fakeProvider, r *reply, want ...string) {
	t.Helper()
	var got []string
	for _, step := range r.trail {
		step, _, _ = strings.Cut(step, "?")
		got = append(got, strings.NewReplacer(p.URL, "provider", app, "app").Replace(step))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("expected the way %q, got %q", want, got)
	}
}

func TestOIDCSignIn(t *testing.T) {
	p, s, b := visitors(t)
	r := b.open("/reports?year=1843")
	expectTrail(t, p, r, "302 GET app/reports", "302 GET provider/authorize", "302 GET app/oidc/callback", "200 GET app/reports")
	if seen := r.upstream(); seen.URI != "/reports?year=1843" {
		t.Errorf("expected the page that was asked for, got %s", seen.URI)
	}
	c := b.cookie(s.sessionCookie())
	if c == nil || !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("expected a session's cookie that no script, no other host and no plain http gets, got %v", c)
	}

	// From now on the provider is not needed.
	p.away(true)
	expectTrail(t, p, b.open("/other"), "200 GET app/other")
	b.fetch(http.MethodPost, "/api/orders", `{"pages":3}`).upstream()
}

func TestOIDCWhoMay(t *testing.T) {
	p, s, b := visitors(t)
	p.user["groups"] = []any{"staff"}
	r := b.open("/page")
	expectTrail(t, p, r, "302 GET app/page", "302 GET provider/authorize", "302 GET app/oidc/callback", "403 GET app/page")
	for i := 0; i < 3; i++ { // the first is judged, the others are remembered
		b.open("/page").expect(http.StatusForbidden, "<html")
		b.fetch(http.MethodGet, "/page", "").expect(http.StatusForbidden, `"status":403`)
		b.fetch(http.MethodPost, "/page", "").expect(http.StatusForbidden)
	}
	if p.count("authorize") != 1 {
		t.Errorf("whom the rule refuses must not be sent around in circles: %d sign-ins", p.count("authorize"))
	}
	s.expectLog("403", `sub "ada"`)
}

func TestOIDCUpstream(t *testing.T) {
	p, s, b := visitors(t)
	b.signIn("/")
	b.setCookie("theme", "dark")
	b.header.Set("X-User", "grace") // nobody names themselves
	b.header.Set("X_mail", "grace@example.com")
	b.header.Set("X-Request-Id", "7")
	for i := 0; i < 2; i++ { // the first is judged, the second is remembered
		seen := b.open("/").upstream().Headers
		for name, want := range map[string]string{
			"X-User":       "ada",
			"X-Mail":       "Ada Lovelace <ada@example.com>",
			"X_mail":       "",
			"X-Request-Id": "7",
			"Cookie":       "theme=dark",
		} {
			if got := strings.Join(seen[name], ", "); got != want {
				t.Errorf("request %d: %s: expected %q, got %q", i, name, want, got)
			}
		}
	}

	// Where no sign-in is needed nobody is named, not even who is signed in.
	seen := b.open("/goodbye").upstream().Headers
	if seen.Get("X-User")+seen.Get("X_mail") != "" || strings.Contains(seen.Get("Cookie"), s.sessionCookie()) {
		t.Errorf("an open page got %q", seen)
	}
	if p.count("authorize") != 1 {
		t.Errorf("%d sign-ins", p.count("authorize"))
	}
}

// A program cannot sign in: it is told so, where a page would be redirected.
func TestOIDCProgram(t *testing.T) {
	p, s, b := visitors(t)
	r := b.fetch(http.MethodGet, "/api/orders", "").expect(http.StatusUnauthorized, `"status":401`)
	for name, want := range map[string]string{
		"Content-Type":     "application/problem+json",
		"Www-Authenticate": `Bearer realm="` + strings.TrimSuffix(s.name, "@file") + `"`,
		"Cache-Control":    "no-store",
		"Location":         "",
		"Set-Cookie":       "",
	} {
		if got := strings.Join(r.header[name], ", "); got != want {
			t.Errorf("%s: expected %q, got %q", name, want, got)
		}
	}
	if p.count("authorize") != 0 {
		t.Error("the provider was asked")
	}
}

func TestOIDCRefresh(t *testing.T) {
	t.Parallel()
	p, _, b := visitors(t)
	p.expiresIn = 2
	first := b.signIn("/").upstream().Headers
	p.user["name"] = "Countess Lovelace"
	p.expiresIn = 300
	time.Sleep(2200 * time.Millisecond)
	r := b.open("/")
	expectTrail(t, p, r, "200 GET app/") // the browser does not notice
	seen := r.upstream().Headers
	if seen.Get("X-Mail") != "Countess Lovelace <ada@example.com>" || seen.Get("X-Token") == first.Get("X-Token") {
		t.Errorf("expected new claims and a new token, got %q", seen)
	}
	if sent := p.lastCall("token"); sent.form.Get("grant_type") != "refresh_token" || sent.header.Get("Authorization") == "" {
		t.Errorf("the provider was sent %q", sent.form)
	}
	b.open("/").upstream()
	if p.count("token") != 2 {
		t.Errorf("expected the code's exchange and one refresh, got %d token requests", p.count("token"))
	}
}

func TestOIDCSignOut(t *testing.T) {
	p, s, b := visitors(t)
	b.signIn("/page")
	copied := b.copyOf()
	r := b.follow(app+"/page", "/logout")
	expectTrail(t, p, r, "302 GET app/logout", "302 GET provider/end_session", "200 GET app/goodbye")
	if names := b.cookieNames(""); len(names) > 0 {
		t.Errorf("cookies stayed: %q", names)
	}
	if p.count("end_session") != 1 || p.count("revocation") != 1 {
		t.Errorf("the provider ended %d sessions and %d tokens", p.count("end_session"), p.count("revocation"))
	}

	// The session is over, not only forgotten by this browser.
	copied.fetch(http.MethodGet, "/page", "").expect(http.StatusUnauthorized)
	b.fetch(http.MethodGet, "/page", "").expect(http.StatusUnauthorized)
	s.expectLog("signed out", `sub "ada"`)
	expectTrail(t, p, b.look("/page"), "302 GET app/page") // and she may come again
}
