package oidc

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Whatever keeps a cookie of ours from coming back: after two sign-ins at most there is a page that says why, and so does the log.
func TestLoginLoopEnds(t *testing.T) {
	for _, c := range []struct {
		name    string
		options map[string]any
		http    bool
		drops   string // cookies, name=value
		header  http.Header
		tokens  int // requests
		causes  []string
	}{
		{"the session's cookie alone is blocked", nil, false, `-session=`, nil, 2, []string{"drops this cookie and no other", "bytes in all"}},
		{"a later part of it is", map[string]any{"name": "s"}, false, `^s\.1=`, nil, 2,
			[]string{"the cookie came, and could not be used: session cookie: "}},
		{"all are blocked", nil, false, `.`, nil, 0, []string{"blocks the cookies of this site"}},
		{"all are blocked, with one host for all sign-ins", map[string]any{"redirectUrl": app + "/oidc/callback"}, false, `.`, nil, 0,
			[]string{"blocks the cookies of this site", "session.domain"}},
		{"the pending login is secure, and plain http", map[string]any{"stateCookie.secure": true}, true, `^$`, nil, 0,
			[]string{"for https alone (secure), and the page came by http"}},
		{"by http, where the callback is by https", map[string]any{"redirectUrl": app + "/oidc/callback"}, true, `^$`, nil, 0,
			[]string{"for https alone (secure), and the page came by http"}},
		{"secure, and by http", map[string]any{"secure": true}, true, `^$`, nil, 0, []string{"for https alone (secure), and the page came by http"}},
		{"a domain of others", map[string]any{"domain": "example.org", "stateCookie.domain": "app.example.com"}, false, `^$`, nil, 2,
			[]string{`for the domain "example.org", and "app.example.com" is not in it`}},
		{"all for a domain of others", map[string]any{"domain": "example.org"}, false, `^$`, nil, 0, []string{`for the domain "example.org"`}},
		{"a path of others", map[string]any{"path": "/other"}, false, `^$`, nil, 2, []string{`for the path "/other", and the page is not below it`}},
		{"all of the callback's are dropped", nil, false, `-session=|-state=|-state\.\w+=$`, nil, 2, []string{"drops this cookie and no other", "(0 bytes in all)"}},
		{"sameSite strict, from the provider's site", map[string]any{"stateCookie.sameSite": "strict"}, false, `^$`, nil, 0, []string{"sameSite strict"}},
		{"in a frame of another site", nil, false, `.`, http.Header{"Sec-Fetch-Dest": {"iframe"}}, 0, []string{"in a frame of another site"}},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newFakeProvider(t)
			session, state := map[string]any{}, map[string]any{}
			options := p.options(map[string]any{"session": session, "stateCookie": state})
			for name, value := range c.options {
				if own := strings.TrimPrefix(name, "stateCookie."); own != name {
					state[own] = value
				} else if name == "redirectUrl" {
					options[name] = value
				} else {
					session[name] = value
				}
			}
			if strings.Contains(c.name, "part") {
				p.user["filler"] = incompressible(9000)
			}
			s := start(t, options)
			b := newBrowser(t, s)
			b.plainHTTP = c.http
			b.drops = regexp.MustCompile(c.drops)
			for name, values := range c.header {
				b.header[name] = values
			}
			for i := 1; i <= 2; i++ { // and once more when somebody tries again
				r := b.open("/page?x=1").expect(http.StatusBadRequest, "did not keep the sign-in", "Probably ")
				if n := p.count("token"); n > i*c.tokens || n < i*c.tokens && (i == 1 || !strings.Contains(c.name, "the callback's")) {
					t.Errorf("expected %d token requests, got %d:\n%s", i*c.tokens, p.count("token"), strings.Join(r.trail, "\n"))
				}
				if c.tokens > 0 && !strings.Contains(r.body, `/page?x=1">Try again</a>`) {
					t.Errorf("expected a link to the page: %s", r.body)
				}
				for _, cause := range c.causes {
					if !strings.Contains(strings.ReplaceAll(r.body, "&#34;", `"`), cause) {
						t.Errorf("the page does not say %q: %s", cause, r.body)
					}
				}
			}
			s.expectLog(append(c.causes, "probably")...)
		})
	}
}

// A page after the sign-in that is an address of ours, as can be seen at some hosts only, is not gone to there.
func TestLoginLoopOfLandings(t *testing.T) {
	for _, landing := range []string{app + "/login", app + "/login?x=1", app + "/oidc/callback", app + "/logout"} {
		p := newFakeProvider(t)
		s := start(t, p.options(map[string]any{"loginUrl": "/login", "logoutUrl": "/logout", "postLoginRedirectUrl": landing}))
		b := newBrowser(t, s)
		if r := b.open("/login").upstream(); r.URI != "/" || p.count("token") != 1 {
			t.Errorf("%s: expected one sign-in that ends at /, got %d that end at %s", landing, p.count("token"), r.URI)
		}
		b.open("/oidc/callback").upstream()
	}
	elsewhere := "https://portal.example.org/login" // is another application's
	p := newFakeProvider(t)
	b := newBrowser(t, start(t, p.options(map[string]any{"loginUrl": "/login", "postLoginRedirectUrl": elsewhere})))
	if r := b.look(b.answered(b.begin("/login")).String()); r.header.Get("Location") != elsewhere {
		t.Errorf("expected to end at %s, got %s", elsewhere, r.trail)
	}
}

// A sign-in that was once cut off and completed elsewhere does not hide that the next ones lead around.
func TestLoginLoopEndsBesideAnOldSignIn(t *testing.T) {
	p := newFakeProvider(t)
	b := newBrowser(t, start(t, p.options()))
	back := b.answered(b.begin("/old"))
	b.copyOf().open(back.String()).upstream()
	b.drops = regexp.MustCompile(`-session=`)
	b.open("/page").expect(http.StatusBadRequest, "did not keep the sign-in")
	if n := p.count("token"); n > 1+maxAttempts {
		t.Errorf("expected two token requests at most after the first, got %d", n-1)
	}
}

// Something in front changes the path or host, so the provider's answer does not arrive at redirectUrl: it is not asked again for ever.
func TestLoginLoopOfAnAnswerElsewhere(t *testing.T) {
	for _, c := range []struct {
		name, redirectURL, host string
		path                    func(string) string
	}{
		{"replacePathRegex", "/app/oidc/callback", "", func(path string) string { return strings.TrimPrefix(path, "/app") }},
		{"addPrefix", "/oidc/callback", "", func(path string) string { return "/inner" + path }},
		{"a slash at the end", "/oidc/callback", "", func(path string) string { return strings.TrimSuffix(path, "/") + "/" }},
		{"replacePath", "/oidc/callback", "", func(string) string { return "/index.html" }},
		{"another host", app + "/oidc/callback", "inner.example.com", func(path string) string { return path }},
	} {
		for _, answer := range []string{"code", "error"} {
			p := newFakeProvider(t)
			if answer == "error" {
				p.refuse("access_denied", "no")
			}
			s := start(t, p.options(map[string]any{"redirectUrl": c.redirectURL}))
			b := newBrowser(t, s)
			b.routes["https://inner.example.com"] = s
			back := b.answered(b.begin("/app/page"))
			state := back.Query().Get("state")
			if back.Path = c.path(back.Path); c.host != "" {
				back.Host = c.host
			}
			b.look(back.String()).expect(http.StatusInternalServerError, "not set up correctly", `href="/"`)
			if p.count("token") != 0 {
				t.Errorf("%s, %s: the code was redeemed", c.name, answer)
			}
			s.expectLog("configuration: callback: came to \"" + back.Host + back.Path + "\", not to redirectUrl, \"" + c.redirectURL + "\"")
			if strings.Contains(s.logs(), state) {
				t.Errorf("%s: the log has the state", c.name)
			}
		}
	}
	// Also as a form, and where page loads do not lead to the provider.
	for _, options := range []map[string]any{{"responseMode": "form_post"}, {"loginUrl": "/login"}, {"loginUrl": "/login", "unauthenticated": "deny"}, nil} {
		s := start(t, newFakeProvider(t).options(options))
		b := newBrowser(t, s)
		from := "/page"
		if options["loginUrl"] != nil {
			from = "/login"
		}
		state := b.begin(from).Query().Get("state")
		answer := url.Values{"state": {state}, "code": {"x"}}
		b.post("https://id.example.com/", "/other", answer).expect(http.StatusInternalServerError, "not set up correctly")
		b.look("/other?"+answer.Encode()).expect(http.StatusInternalServerError, "not set up correctly")
		s.expectLog("POST /other: 500", `configuration: callback: came to "app.example.com/other", not to redirectUrl, "/oidc/callback"`)
		if options["responseMode"] == nil {
			b.post("https://id.example.com/", "/oidc/callback", answer).expect(http.StatusInternalServerError, "not set up correctly")
			s.expectLog("configuration: callback: the provider answered with a form; set responseMode to form_post")
			b.post("https://id.example.com/", "/oidc/callback", url.Values{"state": {"x"}}).expect(http.StatusMethodNotAllowed)
		}
		b.post("https://id.example.com/", "/other", url.Values{"state": {"x"}}).expect(http.StatusUnauthorized)
		b.fetch(http.MethodGet, "/other?"+answer.Encode(), "").expect(http.StatusUnauthorized)
	}
	b := newBrowser(t, start(t, newFakeProvider(t).options()))
	for _, state := range []string{"x", strings.Repeat("A", 43), incompressible(43)} { // an application's own
		if r := b.look("/page?code=x&state=" + state); r.status != http.StatusFound {
			t.Errorf("%s: expected a sign-in, got %s", state, r.story())
		}
	}
}

// Something in front drops the query of the answer: the page to go to would lead to the provider again, and so on.
func TestLoginLoopOfAnAnswerWithoutQuery(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options())
	b := newBrowser(t, s)
	b.look("/oidc/callback").expect(http.StatusFound) // a bookmark
	b.answered(b.begin("/page"))
	b.look("/oidc/callback").expect(http.StatusInternalServerError, "not set up correctly", `href="/"`)
	s.expectLog("configuration: callback: came without state and code")
	b.signIn("/page")
	b.begin("/oidc/callback?switch=/page") // a sign-in as somebody else is under way
	if r := b.look("/oidc/callback"); r.status != http.StatusFound || r.header.Get("Location") != "/" {
		t.Errorf("signed in: %s", r.story())
	}
}

// Two middlewares on one host, with one path for the answers of both: whoever is signed in at the one that gets it would be led around.
func TestLoginLoopOfTwoOnOneHost(t *testing.T) {
	p := newFakeProvider(t)
	first, second := start(t, p.options()), start(t, p.options(map[string]any{"session": map[string]any{"secret": "another secret of 16 bytes"}}))
	b := newBrowser(t, second)
	for _, path := range []string{"/first", "/oidc/callback"} {
		b.routes[app+path] = first
	}
	for _, isSignedIn := range []bool{false, true} {
		if isSignedIn {
			b.signIn("/first")
		}
		before := p.count("token")
		b.open("/page").expect(http.StatusInternalServerError, "not set up correctly")
		first.expectLog("configuration: callback: the sign-in was begun with the cookie "+second.stateCookie()+".", ", and not "+first.stateCookie()+".", "redirectUrl of its own")
		if p.count("token") != before {
			t.Error("the code was redeemed")
		}
	}

	// The same name, but another secret: replicas that were not set up alike.
	one := start(t, p.options(map[string]any{"stateCookie": map[string]any{"name": "state"}, "session": map[string]any{"secret": "one secret of sixteen bytes"}}))
	other := start(t, p.options(map[string]any{"stateCookie": map[string]any{"name": "state"}, "session": map[string]any{"secret": "two secret of sixteen bytes"}}))
	b = newBrowser(t, one)
	back := b.answered(b.begin("/page"))
	b.routes[app] = other
	b.look(back.String()).expect(http.StatusBadRequest, "Probably the cookie came, and could not be used")
	other.expectLog("no pending login for this state", "probably the cookie came, and could not be used: it is sealed with another secret")
	if strings.Contains(other.logs(), "did not send") {
		t.Error("the browser is blamed")
	}
}

// Sessions may end soon, and people may sign in again and again: that is no loop.
func TestLoginLoopIsNone(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"logoutUrl": "/logout", "loginUrl": "/login", "unauthenticated": "auto"}))
	b := newBrowser(t, s)
	for i := 0; i < 5; i++ {
		b.signIn("/page")
		b.open("/logout")
	}
	for i := 0; i < 5; i++ {
		b.open("/login").upstream()
		b.open("/oidc/callback?switch=/page").upstream()
	}
	if p.count("token") != 15 {
		t.Errorf("expected 15 sign-ins, got %d", p.count("token"))
	}
	b.setCookie(s.stateCookie(), "7.x") // made up
	b.open("/page").upstream()
	b.forgetCookies()
	b.setCookie(s.stateCookie(), "7.x")
	b.open("/page").expect(http.StatusBadRequest)
	b.forgetCookies()
	b.setCookie(s.stateCookie(), "-7")
	b.open("/page").upstream()
}

// What is no sign-in of this browser, or not any more, is not called a matter of cookies.
func TestLoginLoopWordsAreForLostCookies(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, p.options())
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page"))
	fresh := newBrowser(t, s)
	fresh.look(back.String()).expect(http.StatusBadRequest, "did not keep the sign-in")
	b.open(back.String()).upstream()
	b.forgetCookies()
	b.look(back.String()).expect(http.StatusBadRequest, "has expired") // used
	brief := start(t, p.options(map[string]any{"stateCookie": map[string]any{"maxAge": 1}}))
	late := newBrowser(t, brief)
	back = late.answered(late.begin("/page"))
	time.Sleep(2100 * time.Millisecond)
	late.look(back.String()).expect(http.StatusBadRequest, "has expired")
	newBrowser(t, brief).look(back.String()).expect(http.StatusBadRequest, "has expired")
	for _, state := range []string{"x", strings.Repeat("A", 43), strings.Repeat("_", 43), incompressible(43), incompressible(44)} {
		fresh.look("/oidc/callback?code=x&state="+state).expect(http.StatusBadRequest, "has expired")
	}
}

// speculations are what browsers and frameworks say of a load that nobody may ever see.
var speculations = []string{
	"Sec-Purpose: prefetch", "Sec-Purpose: prefetch;prerender", "Sec-Purpose: prefetch;anonymous-client-ip", "Purpose: prefetch",
	"Purpose: preview", "X-Purpose: preview",
	"X-Purpose: instant", "X-Moz: prefetch", "Next-Router-Prefetch: 1", "Next-Router-Segment-Prefetch: /_tree", "X-Middleware-Prefetch: 1",
	"X-Sec-Purpose: prefetch", "Hx-Preloaded: true",
	"X-Prerender: 1",
}

func TestLoginLoopSpeculativeLoadsChangeNothing(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"logoutUrl": "/logout", "loginUrl": "/login", "frontchannelLogoutUrl": "/gone", "unauthenticated": "auto"}))
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page"))
	stranger := newBrowser(t, s)
	is := func(b *browser, address, line string) {
		t.Helper()
		name, value, _ := strings.Cut(line, ": ")
		b.header.Set(name, value)
		r := b.look(address)
		if r.status != http.StatusNoContent || r.header["Set-Cookie"] != nil || r.header.Get("Cache-Control") != "no-store" || r.body != "" {
			t.Errorf("%s with %s: got %s %q", address, line, r.trail, r.header)
		}
		b.header.Del(name)
	}
	for _, line := range speculations {
		is(b, back.String(), line)
		is(stranger, "/page", line)
		is(stranger, "/login", line)
		is(stranger, "/oidc/callback?switch=/", line)
	}
	b.open(back.String()).upstream() // the code is still good
	for _, line := range speculations {
		is(b, "/logout", line)
		is(b, "/gone?sid="+sidOf(p)+"&iss="+url.QueryEscape(p.issuer), line)
	}
	b.header.Set("Sec-Purpose", "prefetch")
	b.open("/page").upstream() // what is open to a user is to be had in advance
	b.header.Del("Sec-Purpose")
	b.fetch(http.MethodGet, "/", "").expect(http.StatusOK)
	for _, line := range []string{"Purpose: ", "Next-Router-Prefetch: 0", "X-Prefetch: false", "X-Moz: zilla", "Purpose-Of: prefetch",
		"Accept: prefetch", "Service-Worker-Navigation-Preload: true"} { // the last is a real page load, begun while a service worker starts
		name, value, _ := strings.Cut(line, ": ")
		stranger.header.Set(name, value)
		if r := stranger.look("/login"); r.status != http.StatusFound {
			t.Errorf("%s: expected a sign-in, got %s", line, r.trail)
		}
		stranger.header.Del(name)
	}
	b.header.Set("Purpose", "prefetch")
	b.post(app+"/", "/logout", url.Values{}) // nobody loads a form in advance
	b.header.Del("Purpose")
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
}
