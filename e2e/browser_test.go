package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// These cases are what a person does in a real browser, with what only a browser has: tabs, a back button, scripts, frames,
// forms that are sent by pressing Enter. What must be seen on the way is in each case, what the console may not say in tab.

// peopled is a site for people: it can be signed out of, and shows them their name.
func peopled(more with) site {
	return site{with: both(with{"logoutUrl": "/logout", "forwardHeaders": with{"X-User": "name"}}, more)}
}

const (
	youAreAlice = "You are Alice Liddell."
	youAreBob   = "You are Bob Baumeister."
)

// TestBrowserSignIn: a person types an address, a name and a password, and is where they wanted to be.
func TestBrowserSignIn(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, peopled(nil))
	for name, open := range map[string]func(*testing.T, ...with) *window{"http": app.window, "https": app.secureWindow} {
		t.Run(name, func(t *testing.T) {
			w := open(t)
			tab := w.tab()
			tab.open("/some/page?with=query")
			// The first field has the focus, so no mouse is needed. The browser gives it once the page is drawn.
			tab.do("waitForSelector", `input[name="username"]:focus`)
			tab.do("keyboard.type", "alice")
			tab.press("Tab")
			tab.do("waitForSelector", `input[name="password"]:focus`)
			tab.do("keyboard.type", "wonderland")
			tab.press("Enter")
			tab.see(youAreAlice)
			tab.isAt("/some/page?with=query")
			want := "NAME-session"
			if name == "https" {
				want = "__Host-" + want
			}
			if got := w.cookieNames(); !slices.Equal(got, []string{want}) {
				t.Errorf("the browser keeps %q, expected %s", got, want)
			}
		})
	}
}

// TestBrowserSignInAtNode is the same with npm oidc-provider, and with an answer that a script of the provider posts from its
// site to ours: only a cookie with SameSite=None comes along.
func TestBrowserSignInAtNode(t *testing.T) {
	t.Parallel()
	l := start(t)
	app := l.newApp(t, site{})
	node := l.nodeProvider(t, provider.NodeOptions{Clients: []map[string]any{{
		"client_id": app.name, "client_secret": app.secret(), "grant_types": []string{"authorization_code", "refresh_token"},
		"redirect_uris": app.addresses([]string{"/oidc/callback"}), "post_logout_redirect_uris": app.addresses([]string{"/bye"}),
	}}})
	t.Cleanup(func() { l.traefik.RemoveFile(app.name) })
	for _, mode := range []string{"query", "form_post"} {
		err := app.set(peopled(with{
			"issuer": node.Issuer, "responseMode": mode, "postLogoutRedirectUrl": "/bye", "bypass": "Path(`/bye`)", "forwardHeaders": with{"X-User": "sub"},
		}))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range []*window{app.window(t), app.secureWindow(t)} {
			tab := w.tab()
			tab.enter("/app", provider.Alice)
			tab.see("The server says you are user-alice.")
			tab.click("Sign out")
			tab.see("You are nobody.")
			tab.open("/app")
			tab.see("Sign in to " + app.name)
		}
	}
}

// openAll opens an address in ten tabs at once, and waits for all of them.
func (w *window) openAll(path string) []*tab {
	w.t.Helper()
	tabs := make([]*tab, 10)
	replies := make([]chan reply, len(tabs))
	for i := range tabs {
		tabs[i] = w.tab()
	}
	for i, tab := range tabs {
		replies[i] = tab.send(tab.number, "goto", w.url(fmt.Sprint(path, i)))
	}
	for i, tab := range tabs {
		tab.done(<-replies[i], "goto")
	}
	return tabs
}

// TestBrowserTenTabsExpired: a browser that restores ten tabs after the access token has ended makes one refresh. The provider
// takes a second use of the refresh token for theft, and would end the sign-in.
func TestBrowserTenTabsExpired(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			s := refreshing(300)
			s.with["forwardHeaders"] = with{"X-User": "name"}
			app := start(t).serve(t, s)
			w := app.window(t)
			if scheme == "https" { // all ten on one connection
				w = app.secureWindow(t)
			}
			// The first access token lasts seconds, the next lasts while ten tabs open on a busy machine.
			app.provider.EditTokenResponse(app.name, func(body map[string]any) { body["expires_in"] = 2 })
			w.tab().enter("/", provider.Alice)
			time.Sleep(2 * time.Second)
			app.provider.EditTokenResponse(app.name, nil)
			before := app.provider.Grants("refresh_token", app.name) // on a busy machine the first page may have needed one
			for _, tab := range w.openAll("/tab?n=") {
				tab.see(youAreAlice)
			}
			if n := app.provider.Grants("refresh_token", app.name) - before; n != 1 {
				t.Errorf("%d refreshes", n)
			}
			if n := app.provider.Grants("authorization_code", app.name); n != 1 {
				t.Errorf("%d sign-ins", n)
			}
		})
	}
}

// TestBrowserTenTabsAtOnce: ten tabs that all lead to the provider, and one more, all sign in; their cookies would pass a server that
// reads four kilobytes of a header.
func TestBrowserTenTabsAtOnce(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, peopled(nil))
	w := app.window(t)
	tabs := w.openAll("/tab?n=")
	more := w.tab() // it comes with all those cookies
	more.open("/more")
	if names := w.cookieNames(); len(names) != 11 {
		t.Errorf("for eleven tabs the browser keeps %q", names)
	}
	if size := w.cookieSize(); size > 4096 {
		t.Errorf("their cookies have %d bytes", size)
	}
	for i, tab := range tabs {
		tab.signIn(provider.Alice)
		tab.isAt(fmt.Sprint("/tab?n=", i))
		tab.see(youAreAlice)
	}
	more.signIn(provider.Alice)
	more.isAt("/more")
	more.see(youAreAlice)
	if names := w.cookieNames(); !slices.Equal(names, []string{"NAME-session"}) {
		t.Errorf("when all is done the browser keeps %q", names)
	}
}

// TestBrowserBackButton: whoever goes back after the sign-in meets no error of ours, and forward again is the page.
func TestBrowserBackButton(t *testing.T) {
	t.Parallel()
	for _, sameSite := range []string{"lax", "strict"} {
		t.Run(sameSite, func(t *testing.T) {
			t.Parallel()
			app := start(t).serve(t, peopled(with{"session.sameSite": sameSite}))
			tab := app.window(t).tab()
			tab.enter("/first", provider.Alice)
			tab.open("/second")
			tab.see(youAreAlice)
			tab.back()
			tab.isAt("/first")
			tab.see(youAreAlice)
			// Before that is the provider's page: our callback is none that a browser remembers.
			tab.do("goBack")
			if got := tab.document(); !strings.HasPrefix(got.URL, app.provider.Issuer) {
				t.Errorf("going back led to %v", got)
			}
			tab.do("goForward")
			tab.isAt("/first")
			tab.see(youAreAlice)
		})
	}
}

// TestBrowserBookmarkedCallback: the address that the provider sends the browser to is no place to be, and so leads on.
func TestBrowserBookmarkedCallback(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, peopled(nil))
	w := app.window(t)
	tab := w.tab()
	tab.enter("/page", provider.Alice)
	bookmark := tab.loaded("/oidc/callback").URL

	tab.open(bookmark) // signed in: to where that sign-in ended
	tab.isAt("/page")
	tab.see(youAreAlice)
	tab.open("/oidc/callback")
	tab.isAt("/")
	tab.see(youAreAlice)

	w.forget()
	tab.open(bookmark) // not signed in: a page that offers it
	tab.see("This sign-in has expired")
	tab.click("Sign in again")
	tab.isAt("/")
	tab.see(youAreAlice)

	stranger := app.window(t).tab()
	stranger.open(bookmark)
	stranger.click("Sign in again")
	stranger.signIn(provider.Bob)
	stranger.isAt("/")
	stranger.see(youAreBob)
}

// TestBrowserSignOut: what one tab signs out of, another finds out with its next click, and a sign-in there goes on where the
// click led.
func TestBrowserSignOut(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, peopled(nil))
	w := app.window(t)
	one, two := w.tab(), w.tab()
	one.enter("/app", provider.Alice)
	two.open("/app")
	one.click("Sign out")
	one.see("Signed out")
	if names := w.cookieNames(); len(names) != 0 {
		t.Errorf("signed out, and the browser keeps %q", names)
	}
	two.click("Other page")
	two.signIn(provider.Bob)
	two.isAt("/other")
	two.see(youAreBob)
}

// TestBrowserSignOutElsewhere: a link on another site signs nobody out, but asks.
func TestBrowserSignOutElsewhere(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, peopled(nil))
	tab := app.window(t).tab()
	tab.enter("/", provider.Alice)
	ask := func() {
		tab.open(app.provider.Issuer + "/signed-out")
		tab.do("evaluate", fmt.Sprintf("location.href = %q", app.URL+"/logout"))
		tab.see("Do you want to sign out?")
	}
	ask()
	tab.click("Stay signed in")
	tab.see(youAreAlice)
	ask()
	tab.click("Sign out")
	tab.see("Signed out")
	tab.open("/")
	tab.see("Demo provider")
}

// TestBrowserForbidden: who may not see a page stays where they are, and can become somebody else who may.
func TestBrowserForbidden(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, peopled(with{"claims": "Contains(`groups`, `admins`)"}))
	tab := app.window(t).tab()
	tab.open("/page?n=1")
	tab.signIn(provider.Bob)
	tab.see("You do not have access here")
	tab.isAt("/page?n=1")
	if got := tab.document(); got.Status != http.StatusForbidden {
		t.Errorf("Bob got %v", got)
	}
	tab.do("reload") // no loop
	tab.see("You do not have access here")
	tab.click("Sign in as someone else")
	tab.signIn(provider.Alice) // the provider asks although it knows Bob
	tab.isAt("/page?n=1")
	tab.see(youAreAlice)
}

// TestBrowserSinglePageApp: a script whose session has ended is told by 401, not sent to another site's sign-in page, where its
// fetch would fail for reasons of CORS. It loads its page again, and that leads to the provider and back.
func TestBrowserSinglePageApp(t *testing.T) {
	t.Parallel()
	s := refreshing(2)
	s.with = both(s.with, peopled(nil).with)
	app := start(t).serve(t, s)
	tab := app.window(t).tab()
	tab.enter("/app", provider.Alice)
	tab.see("The server says you are Alice Liddell.")

	app.provider.EndSignIns(app.name)
	time.Sleep(2500 * time.Millisecond)
	tab.expect("status of 401")
	before := len(app.provider.Calls("authorize", app.name))
	tab.do("evaluate", "document.getElementById('data').textContent = ''")
	tab.click("Load")
	tab.see("The server says you are Alice Liddell.")
	tab.isAt("/app")
	if n := len(app.provider.Calls("authorize", app.name)) - before; n != 1 {
		t.Errorf("%d ways to the provider", n)
	}
	if got := tab.loaded("/app"); got.Status != http.StatusOK {
		t.Errorf("the page was loaded again with %v", got)
	}

	var status int
	tab.evaluate("fetch('/api/me').then((answer) => answer.status)", &status)
	if status != http.StatusOK {
		t.Errorf("after it came back a fetch gets %d", status)
	}
}

// TestBrowserForm: a form that is posted arrives. After the session has ended its sender is told, and is not led through a
// sign-in that would lose what they wrote without a word.
func TestBrowserForm(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, peopled(nil))
	w := app.window(t)
	tab := w.tab()
	tab.enter("/app", provider.Alice)
	write := func() {
		tab.do("fill", `input[name="text"]`, "a long letter")
		tab.press("Enter")
	}
	write()
	tab.isAt("/saved")
	tab.see(youAreAlice)
	received, _ := app.lab.upstream.Received(tab.document().Headers["x-upstream-request"])
	if received.Method != http.MethodPost || received.Body != "text=a+long+letter" {
		t.Errorf("the application received %s %q", received.Method, received.Body)
	}

	tab.open("/app")
	tab.see("The server says you are Alice Liddell.") // else this question comes too late, and the page signs in again
	w.forget()
	write()
	tab.see("You are not signed in")
	if got := tab.document(); got.Status != http.StatusUnauthorized {
		t.Errorf("a form after the end of the session: %v", got)
	}
}

// TestBrowserWebsocket: a page's socket goes through, and is refused without a session.
func TestBrowserWebsocket(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, peopled(nil))
	for _, w := range []*window{app.window(t), app.secureWindow(t)} {
		tab := w.tab()
		tab.enter("/app", provider.Alice)
		tab.click("Talk")
		tab.see("The server says you are Alice Liddell.")
		tab.see("The socket says hello.")
		w.forget()
		tab.expect("WebSocket connection to")
		tab.click("Talk")
		tab.see("The socket does not open.")
	}
}

// TestBrowserFrames: the front-channel logout works in a frame of another site, where the browser sends no cookie. No other
// answer of ours shows in a frame.
func TestBrowserFrames(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, peopled(with{"frontchannelLogoutUrl": "/frame", "claims": "Equals(`name`, `Alice Liddell`)", "forwardHeaders": with{"X-User": "name", "X-Sid": "sid"}}))
	w := app.window(t)
	tab := w.tab()
	tab.enter("/", provider.Alice)
	received, _ := app.lab.upstream.Received(tab.document().Headers["x-upstream-request"])

	framed := map[string]string{
		"the front-channel logout": "/frame?" + url.Values{"iss": {app.provider.Issuer}, "sid": {received.Header.Get("X-Sid")}}.Encode(),
		"one that is refused":      "/frame",
		"an old callback":          "/oidc/callback?code=a&state=b",
		"the logout question":      "/logout",
	}
	other := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(rw, `<!doctype html><title>Another site</title><link rel="icon" href="data:,"><iframe src="%s"></iframe>`, app.URL+framed[req.URL.Query().Get("frame")])
	}))
	t.Cleanup(other.Close)

	tab.expect("frame-ancestors")
	tab.expect("status of 400")
	for name := range framed {
		if name == "the front-channel logout" {
			continue
		}
		tab.open(other.URL + "/?" + url.Values{"frame": {name}}.Encode())
		if got := tab.frame(); got != "chrome-error://chromewebdata/" {
			t.Errorf("%s shows in a frame: %s", name, got)
		}
	}
	tab.open("/")
	tab.see(youAreAlice)
	tab.open(other.URL + "/?" + url.Values{"frame": {"the front-channel logout"}}.Encode())
	if got := tab.frame(); got != app.URL+framed["the front-channel logout"] {
		t.Errorf("the front-channel logout does not show in a frame: %s", got)
	}
	tab.open("/")
	tab.isAt("/")
	if n := app.provider.Grants("authorization_code", app.name); n != 2 {
		t.Errorf("%d sign-ins: the frame did not end the first session", n)
	}
}

// frame is where the page's only frame ended.
func (t *tab) frame() string {
	t.t.Helper()
	var address string
	if err := json.Unmarshal(t.do("frame"), &address); err != nil {
		t.t.Fatal(err)
	}
	return address
}
