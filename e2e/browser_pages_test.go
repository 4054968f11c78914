package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// Every page of ours, as somebody meets it: in the light and in the dark, on a telephone, without a mouse, with a screen reader.

// ownPage is one of them.
type ownPage struct {
	name    string // of its picture
	site    site
	wrong   func(a *app, is bool) // makes something go wrong, and right again
	reach   func(tab *tab)        // leads there
	status  int
	title   string
	actions []string
	then    string // what is seen after Enter on the first of them, with nothing wrong any more
}

// ownPages are all, in the order of their statuses.
func ownPages(t *testing.T) []ownPage {
	signIn := func(user provider.User) func(*tab) {
		return func(tab *tab) { tab.open("/page"); tab.signIn(user) }
	}
	visit := func(path string) func(*tab) { return func(tab *tab) { tab.open(path) } }
	return []ownPage{
		{
			name: "200-signed-out", title: "You are signed out", status: http.StatusOK, actions: []string{"Sign in again"}, then: youAreAlice,
			site: withProvider(t, peopled(nil)), wrong: withoutLogout,
			reach: func(tab *tab) { tab.enter("/app", provider.Alice); tab.click("Sign out") },
		},
		{
			name: "200-logout-question", title: "Do you want to sign out?", status: http.StatusOK, actions: []string{"Sign out", "Stay signed in"}, then: "Signed out",
			site: site{with: with{"logoutUrl": "/logout"}},
			reach: func(tab *tab) {
				tab.enter("/page", provider.Alice)
				tab.open(tab.app.provider.Issuer + "/signed-out")
				tab.do("evaluate", fmt.Sprintf("location.href = %q", tab.url("/logout")))
			},
		},
		{
			name: "200-leading-on", title: "You are signed in", status: http.StatusOK, actions: []string{"Continue"}, then: youAreAlice,
			site: peopled(with{"session.sameSite": "strict"}),
			reach: func(tab *tab) {
				tab.open("/page")
				tab.do("stay", tab.url("/page"))
				tab.signIn(provider.Alice)
			},
		},
		{
			name: "200-address-too-long", title: "You are signed in", status: http.StatusOK, actions: []string{"Continue"}, then: youAreAlice,
			site: peopled(nil),
			reach: func(tab *tab) {
				tab.open("/reports?q=" + noise(9000))
				tab.signIn(provider.Alice)
			},
		},
		{
			name: "200-leaving", title: "You are signed out here", status: http.StatusOK, actions: []string{"Continue"}, then: "Signed out",
			site: withProvider(t, peopled(nil)), wrong: hundredGroups,
			reach: func(tab *tab) {
				tab.enter("/page", provider.Alice)
				tab.do("stay", "**/end_session*") // or it leads on by itself
				tab.do("evaluate", fmt.Sprintf("void setTimeout(() => location.href = %q)", tab.url("/logout")))
			},
		},
		{
			name: "400-no-cookies", title: "Your browser did not keep the sign-in", status: http.StatusBadRequest, actions: []string{"Try again"}, then: youAreAlice,
			site: site{with: with{"session.path": "/elsewhere", "forwardHeaders": with{"X-User": "name"}}}, wrong: func(a *app, is bool) {
				if !is {
					a.set(peopled(nil))
				}
			},
			reach: func(tab *tab) {
				tab.open("/page")
				tab.signIn(provider.Alice)
			},
		},
		{
			name: "400-expired", title: "This sign-in has expired", status: http.StatusBadRequest, actions: []string{"Sign in again"}, then: "Demo provider",
			reach: visit("/oidc/callback?code=a&state=b"),
		},
		{
			name: "400-no-answer", title: "This request cannot be answered", status: http.StatusBadRequest, then: "This request cannot be answered",
			reach: visit("/oidc/callback?state=a&state=b"),
		},
		{
			name: "401-not-signed-in", title: "You are not signed in", status: http.StatusUnauthorized, actions: []string{"Sign in"}, then: "Demo provider",
			site: site{with: with{"loginUrl": "/login"}}, reach: visit("/page"),
		},
		{
			name: "403-no-access", title: "You do not have access here", status: http.StatusForbidden, actions: []string{"Sign in as someone else"}, then: "Demo provider",
			site: site{with: with{"claims": "Contains(`groups`, `admins`)"}}, reach: signIn(provider.Bob),
		},
		{
			name: "403-not-accepted", title: "This request was not accepted", status: http.StatusForbidden, actions: []string{"Load the page again"}, then: youAreAlice,
			site: peopled(with{"csrf": true}),
			reach: func(tab *tab) {
				tab.enter("/page", provider.Alice)
				tab.do("evaluate", `document.body.insertAdjacentHTML("beforeend", "<form id=own method=post action=/save></form>"), document.forms.own.submit()`)
			},
		},
		{
			name: "403-refused", title: "The sign-in was refused", status: http.StatusForbidden, actions: []string{"Sign in again"}, then: "Demo provider",
			reach: func(tab *tab) { tab.open("/page"); tab.click("Cancel") },
		},
		{
			name: "500-our-side", title: "Something went wrong on our side", status: http.StatusInternalServerError, actions: []string{"Sign in again"}, then: youAreAlice,
			site: peopled(nil), wrong: tooLarge, reach: signIn(provider.Alice),
		},
		{
			name: "502-unusable", title: "The sign-in service sent an answer we cannot use", status: http.StatusBadGateway, actions: []string{"Sign in again"}, then: youAreAlice,
			site: peopled(nil), wrong: forSomebodyElse, reach: signIn(provider.Alice),
		},
		{
			name: "503-not-now", title: "Signing in is not possible right now", status: http.StatusServiceUnavailable, actions: []string{"Try again"}, then: "Demo provider",
			site: withProvider(t, site{}), wrong: func(a *app, is bool) { a.provider.Away(is) },
			reach: func(tab *tab) { tab.open("/page"); tab.do("stay", tab.url("/page")) }, // or it tries again by itself
		},
	}
}

// withProvider gives a site a provider of its own, which may be broken.
func withProvider(t *testing.T, s site) site {
	s.provider = newProvider(t, provider.Options{})
	return s
}

// withoutLogout makes a provider that knows no logout.
func withoutLogout(a *app, is bool) {
	if !is {
		return // we have read its metadata
	}
	a.provider.Instead("openid-configuration", func(rw http.ResponseWriter, req *http.Request) {
		recorder := httptest.NewRecorder()
		a.provider.Pass(recorder, req)
		document := map[string]any{}
		json.Unmarshal(recorder.Body.Bytes(), &document)
		delete(document, "end_session_endpoint")
		json.NewEncoder(rw).Encode(document)
	})
}

// hundredGroups makes ID tokens that no address can carry.
func hundredGroups(a *app, is bool) {
	a.editIDToken(is, func(claims map[string]any) {
		claims["groups"] = strings.Split(strings.TrimSuffix(strings.Repeat("a-group-of-people ", 100), " "), " ")
	})
}

// tooLarge makes ID tokens that no cookies can hold.
func tooLarge(a *app, is bool) {
	noise := make([]byte, 32_000) // no compression makes it shorter
	rand.Read(noise)
	a.editIDToken(is, func(claims map[string]any) { claims["noise"] = base64.RawStdEncoding.EncodeToString(noise) })
}

// forSomebodyElse makes ID tokens that are for another client.
func forSomebodyElse(a *app, is bool) {
	a.editIDToken(is, func(claims map[string]any) { claims["aud"] = "somebody else" })
}

func (a *app) editIDToken(is bool, edit func(claims map[string]any)) {
	if is {
		a.provider.EditIDToken(a.name, edit)
	} else {
		a.provider.EditTokenResponse(a.name, nil)
	}
}

// look is a way to see a page.
type look struct {
	name   string
	scheme string
	width  int
}

var looks = []look{{"light", "light", 900}, {"dark", "dark", 900}, {"light-320", "light", 320}, {"dark-320", "dark", 320}}

// TestBrowserPages looks at each page of ours.
func TestBrowserPages(t *testing.T) {
	t.Parallel()
	for _, page := range ownPages(t) {
		t.Run(page.name, func(t *testing.T) {
			t.Parallel()
			app, tab := page.reached(t, nil)
			tab.see(page.title)
			tab.isOurs(page.status)
			for _, look := range looks {
				tab.lookAt(page.name, look)
			}
			tab.needsNoMouse(page.actions)
			page.leadsOn(app, tab)
		})
	}
}

// reached sets the site up, with more options, and leads to the page.
func (p ownPage) reached(t *testing.T, more with) (*app, *tab) {
	t.Helper()
	s := p.site
	s.with = both(s.with, more)
	a := start(t).serve(t, s)
	if p.wrong != nil {
		p.wrong(a, true)
	}
	tab := a.window(t, with{"deviceScaleFactor": 1.5}).tab()
	p.reach(tab)
	return a, tab
}

// leadsOn presses Enter, with an action chosen and nothing wrong any more.
func (p ownPage) leadsOn(a *app, tab *tab) {
	tab.t.Helper()
	if p.wrong != nil {
		p.wrong(a, false)
	}
	tab.do("unrouteAll")
	tab.press("Enter")
	tab.see(p.then)
}

// isOurs checks the headers of the page that is shown.
func (t *tab) isOurs(status int) {
	t.t.Helper()
	got := t.document()
	if got.Status != status {
		t.t.Errorf("the status is %d, expected %d", got.Status, status)
	}
	if cache := got.Headers["cache-control"]; cache != "no-store" {
		t.t.Errorf("Cache-Control is %q", cache)
	}
	policy := got.Headers["content-security-policy"]
	for _, rule := range []string{"default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "form-action ", "style-src 'sha256-"} {
		if !strings.Contains(policy, rule) {
			t.t.Errorf("the page may more than %s: %s", rule, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(strings.ReplaceAll(policy, "script-src 'sha256-", ""), "script-src") {
		t.t.Errorf("the policy is loose: %s", policy)
	}
	// Nothing else was loaded: the page is all there is.
	var loaded []string
	t.evaluate(`performance.getEntriesByType("resource").map((entry) => entry.name)`, &loaded)
	if len(loaded) != 0 {
		t.t.Errorf("the page loads %q", loaded)
	}
}

// lookAt sees the page in one look, and takes its picture when one is wanted.
func (t *tab) lookAt(name string, look look) {
	t.t.Helper()
	t.do("emulateMedia", with{"colorScheme": look.scheme})
	t.do("setViewportSize", with{"width": look.width, "height": 640})
	var seen struct {
		Wide   int    // of what there is to see
		Colour string // of its letters
	}
	t.evaluate(`({ wide: document.documentElement.scrollWidth, colour: getComputedStyle(document.body).color })`, &seen)
	if seen.Wide > look.width {
		t.t.Errorf("%s: the page is %d pixels wide, in a window of %d", look.name, seen.Wide, look.width)
	}
	if isDark := brightness(seen.Colour) > 150; isDark != (look.scheme == "dark") {
		t.t.Errorf("%s: the letters are %s", look.name, seen.Colour)
	}
	var violations []string
	if err := json.Unmarshal(t.do("accessibility"), &violations); err != nil {
		t.t.Fatal(err)
	}
	for _, violation := range violations {
		t.t.Errorf("%s: %s", look.name, violation)
	}
	t.picture(name + "-" + look.name)
}

// brightness of a colour as CSS computes it, "rgb(16, 20, 26)": 0 to 255.
func brightness(colour string) int {
	var red, green, blue int
	fmt.Sscanf(colour, "rgb(%d, %d, %d)", &red, &green, &blue)
	return (red + green + blue) / 3
}

// needsNoMouse checks that the Tab key reaches every action in order, each visibly, and leaves the first chosen.
func (t *tab) needsNoMouse(actions []string) {
	t.t.Helper()
	t.do("evaluate", "document.activeElement.blur()")
	var reached []string
	for range actions {
		t.press("Tab")
		var focus struct {
			Text    string
			Outline float64
		}
		t.evaluate(`(({ activeElement: chosen }) => ({ text: chosen.innerText, outline: chosen.matches(":focus-visible") && getComputedStyle(chosen).outlineStyle !== "none"
			? parseFloat(getComputedStyle(chosen).outlineWidth) : 0 }))(document)`, &focus)
		reached = append(reached, focus.Text)
		if focus.Outline < 2 {
			t.t.Errorf("nobody sees that %q has the focus: its outline is %v wide", focus.Text, focus.Outline)
		}
	}
	if !slices.Equal(reached, actions) {
		t.t.Errorf("the Tab key reaches %q, expected %q", reached, actions)
	}
	for i := 1; i < len(actions); i++ {
		t.press("Shift+Tab")
	}
}
