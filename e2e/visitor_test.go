package e2e

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
	"github.com/traefik-oidc/oidc/e2e/internal/upstream"
)

// visitor is a person with a browser at an app. Its methods end the test when the network fails; what the pages say is
// for the test to judge.
type visitor struct {
	*browser.Browser
	t    *testing.T
	app  *app
	base string // the app's address, http unless told otherwise
}

// visitor opens a new browser.
func (a *app) visitor(t *testing.T) *visitor {
	return &visitor{Browser: browser.New(&tls.Config{RootCAs: a.lab.ca.Pool()}), t: t, app: a, base: a.URL}
}

// secureVisitor opens a new browser that uses https.
func (a *app) secureVisitor(t *testing.T) *visitor {
	v := a.visitor(t)
	v.base = a.Secure
	return v
}

func (v *visitor) url(path string) string {
	if strings.HasPrefix(path, "/") {
		return v.base + path
	}
	return path
}

func (v *visitor) must(page *browser.Page, err error) *browser.Page {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
	return page
}

// open types an address, and goes where it leads.
func (v *visitor) open(path string) *browser.Page {
	v.t.Helper()
	return v.must(v.Open(v.url(path)))
}

// look types an address, and stays where a redirect would begin.
func (v *visitor) look(path string) *browser.Page {
	v.t.Helper()
	return v.must(v.Look(v.url(path)))
}

// fetch is what a script of the app's pages does.
func (v *visitor) fetch(method, path string) *browser.Page {
	v.t.Helper()
	return v.must(v.Fetch(method, v.url(path), "", nil))
}

// post sends a form of the app's pages.
func (v *visitor) post(path string, values url.Values) *browser.Page {
	v.t.Helper()
	return v.must(v.Post(v.url(path), values))
}

// signIn goes to an address, signs in at the provider as user, and must end at the application.
func (v *visitor) signIn(path string, user provider.User) *browser.Page {
	v.t.Helper()
	page := v.must(v.SignIn(v.url(path), user.Name, user.Password))
	if page.Header.Get(upstream.NumberHeader) == "" {
		v.t.Fatalf("%s is not signed in: %s", user.Name, page)
	}
	return page
}

// received is the request behind a page as the application got it.
func (v *visitor) received(page *browser.Page) upstream.Received {
	v.t.Helper()
	request, ok := v.app.lab.upstream.Received(page.Header.Get(upstream.NumberHeader))
	if !ok {
		v.t.Fatalf("this did not come from the application: %s", page)
	}
	return request
}

// outcome says in a word what became of a request.
func (v *visitor) outcome(page *browser.Page) string {
	location := page.Header.Get("Location")
	switch {
	case page.Header.Get(upstream.NumberHeader) != "":
		return "application"
	case strings.Contains(page.Body, `type="password"`) || strings.HasPrefix(location, v.app.provider.Issuer):
		return "sign-in"
	case location != "":
		return "redirect to " + location
	}
	return http.StatusText(page.Status)
}

// cookieNames lists the cookies the app's pages would get, in order.
func (v *visitor) cookieNames() string {
	var names []string
	for _, cookie := range v.Cookies(v.url("/")) {
		if isRound(cookie.Name) {
			continue
		}
		names = append(names, strings.ReplaceAll(cookie.Name, v.app.name, "NAME"))
	}
	sort.Strings(names)
	return strings.Join(names, " ")
}

// isRound says that a cookie is the one which tells for some seconds that a sign-in was completed.
func isRound(name string) bool { return strings.HasSuffix(name, "-state") }

// sessionCookie is the last session cookie that was set.
func (v *visitor) sessionCookie() *http.Cookie {
	v.t.Helper()
	var found *http.Cookie
	for _, cookie := range v.WasSet() {
		if strings.Contains(cookie.Name, "-session") && strings.Contains(cookie.Name, v.app.name) && cookie.MaxAge >= 0 && !isRound(cookie.Name) {
			found = cookie
		}
	}
	if found == nil {
		v.t.Fatal("no session cookie was set")
	}
	return found
}

var sameSites = map[http.SameSite]string{
	http.SameSiteLaxMode: "lax", http.SameSiteStrictMode: "strict", http.SameSiteNoneMode: "none", http.SameSiteDefaultMode: "",
}

func yes(fact bool) string {
	if fact {
		return "yes"
	}
	return "no"
}
