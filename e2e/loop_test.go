package e2e

import (
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// These cases are what keeps a cookie from coming back, and what browsers and the things between them and us do besides. In each a
// person sees a page, never goes round in circles, and the provider is asked for tokens twice at most.

// between is a proxy in front of Traefik that does what some do: it drops cookies, cuts off answers, and notes what came.
type between struct {
	port  string
	drops *regexp.Regexp // names of cookies

	mu    sync.Mutex
	cut   string // the path whose next answer does not arrive
	asked []*http.Request
}

func (l *lab) between(t *testing.T, drops string) *between {
	t.Helper()
	b := &between{drops: regexp.MustCompile(drops)}
	to, err := url.Parse(l.traefik.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, r.In.Host
		},
		ModifyResponse: func(answer *http.Response) error {
			lines := answer.Header["Set-Cookie"]
			answer.Header.Del("Set-Cookie")
			for _, line := range lines {
				if name, _, _ := strings.Cut(line, "="); !b.drops.MatchString(name) {
					answer.Header.Add("Set-Cookie", line)
				}
			}
			b.mu.Lock()
			isCut := b.cut != "" && answer.Request.URL.Path == b.cut
			if isCut {
				b.cut = ""
			}
			b.mu.Unlock()
			if isCut {
				io.Copy(io.Discard, answer.Body)
				return fmt.Errorf("cut off")
			}
			return nil
		},
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, _ error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		b.mu.Lock()
		b.asked = append(b.asked, req.Clone(req.Context()))
		b.mu.Unlock()
		proxy.ServeHTTP(rw, req)
	}))
	t.Cleanup(server.Close)
	server.Config.ErrorLog = nil
	_, b.port, _ = strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	return b
}

// callback is the address to be registered for an app behind it.
func (b *between) callback() string { return "http://{site}:" + b.port + "/oidc/callback" }

// base is where an app is behind it.
func (b *between) base(a *app) string { return "http://" + a.host + ":" + b.port }

// requests are those that came for a path.
func (b *between) requests(path string) []*http.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []*http.Request
	for _, req := range b.asked {
		if req.URL.Path == path {
			found = append(found, req)
		}
	}
	return found
}

// TestBrowserLoops has the table of what can go wrong with a cookie, in Chromium and for the plain visitor.
func TestBrowserLoops(t *testing.T) {
	t.Parallel()
	blocking := with{"preferences": map[string]any{"profile": map[string]any{"default_content_setting_values": map[string]any{"cookies": 2}}}}
	for _, c := range []struct {
		name   string
		with   with
		drops  string // names of cookies, between us and the browser
		plain  bool   // http, at a name that the browser does not trust for that
		window with
		tokens int
		cause  string
	}{
		{"the session's cookie is dropped", nil, `-session$`, false, nil, 2, "drops this cookie and no other"},
		{"a part of it is dropped", with{"session.name": "large"}, `^large\.1$`, false, nil, 2, "the cookie came, and could not be used"},
		{"all are dropped", nil, `.`, false, nil, 0, "blocks the cookies of this site"},
		{"all are blocked by the browser", nil, ``, false, blocking, 0, "blocks the cookies of this site"},
		{"the pending login is secure, over http", with{"stateCookie.secure": true}, ``, true, nil, 0, "for https alone (secure), and the page came by http"},
		{"the session is of another domain", with{"session.domain": "elsewhere.localhost", "stateCookie.domain": "{site}"}, ``, false, nil, 2, "for the domain"},
		{"all are of another domain", with{"session.domain": "elsewhere.localhost"}, ``, false, nil, 0, "for the domain"},
		{"the session is of another path", with{"session.path": "/elsewhere"}, ``, false, nil, 2, "for the path"},
		{"the pending login is of another path", with{"stateCookie.path": "/elsewhere"}, ``, false, nil, 0, "for the path"},
		{"the pending login is strict", with{"stateCookie.sameSite": "strict"}, ``, false, nil, 0, "sameSite strict"},
		{"the sign-in comes back to another host", with{"redirectUrl": "http://auth.{site}:PORT/oidc/callback"}, ``, false, nil, 0, "no session.domain covers both"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := start(t)
			drops := c.drops
			if drops == "" {
				drops = "^$"
			}
			b := l.between(t, drops)
			s := site{with: both(c.with, nil), callbacks: []string{b.callback(), "http://{name}.e2e.test:" + b.port + "/oidc/callback", "http://auth.{site}:" + b.port + "/oidc/callback"}, rule: "HOST || Host(`{name}.e2e.test`) || Host(`auth.{site}`)"}
			if address, _ := s.with["redirectUrl"].(string); address != "" {
				s.with["redirectUrl"] = strings.ReplaceAll(address, "PORT", b.port)
			}
			if strings.Contains(c.name, "a part") {
				s.provider = newProvider(t, provider.Options{Users: []provider.User{{Name: provider.Alice.Name, Password: provider.Alice.Password, Claims: map[string]any{"sub": "user-alice", "noise": noise(9000)}}}})
			}
			app := l.serve(t, s)
			base := b.base(app)
			if c.plain {
				base = "http://" + app.name + ".e2e.test:" + b.port
			}
			exchanges := func() int { return app.provider.Grants("authorization_code", app.name) }

			w := app.window(t, c.window)
			w.base = base
			tab := w.tab()
			tab.open("/page?a=b")
			tab.do("fill", `input[name="username"]`, provider.Alice.Name)
			tab.do("fill", `input[name="password"]`, provider.Alice.Password)
			tab.do("press", `input[name="password"]`, "Enter")
			tab.see("Your browser did not keep the sign-in")
			if got := tab.document(); got.Status != http.StatusBadRequest || exchanges() != c.tokens {
				t.Errorf("%d token requests, and then %v", exchanges(), got)
			}
			var text string
			tab.evaluate("document.body.innerText", &text)
			if !strings.Contains(text, c.cause) || !strings.Contains(app.log(), c.cause) {
				t.Errorf("neither page nor log may hide that %s:\n%s\n%s", c.cause, text, app.log())
			}
			if c.window != nil || c.plain || strings.Contains(c.cause, "sameSite") { // what only a browser does
				return
			}
			before := exchanges()
			bob := app.visitor(t)
			bob.base = base
			page := bob.must(bob.SignIn(base+"/page?a=b", provider.Alice.Name, provider.Alice.Password))
			if page.Status != http.StatusBadRequest || !strings.Contains(page.Body, "did not keep the sign-in") || exchanges()-before != c.tokens {
				t.Errorf("a visitor, after %d token requests: %s", exchanges()-before, page)
			}
		})
	}
}

// TestBrowserOneHost: one host has the callback of all, and everybody ends at the page they asked for, on the host they asked, with one
// session everywhere.
func TestBrowserOneHost(t *testing.T) {
	t.Parallel()
	l := start(t)
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			port := l.traefik.URL[strings.LastIndex(l.traefik.URL, ":"):]
			if scheme == "https" {
				port = l.traefik.SecureURL[strings.LastIndex(l.traefik.SecureURL, ":"):]
			}
			at := func(host string) string { return scheme + "://" + host + "{site}" + port }
			callback := at("auth.") + "/oidc/callback"
			s := peopled(with{"redirectUrl": callback, "session.domain": "{site}", "postLogoutRedirectUrl": "/"})
			s.callbacks = []string{callback}
			s.landings = []string{at("") + "/", at("auth.") + "/", at("office.") + "/"}
			s.rule = "HOST || Host(`auth.{site}`) || Host(`office.{site}`)"
			app := l.serve(t, s)
			first, office, auth := app.fill(at("")), app.fill(at("office.")), app.fill(at("auth."))
			signIns := func() int { return app.provider.Grants("authorization_code", app.name) }
			for i, begin := range []string{first, office, auth} {
				w := app.window(t)
				w.base = begin
				tab := w.tab()
				tab.enter("/reports?a=b&c=d", provider.Alice)
				if got := tab.loaded(auth + "/oidc/callback"); got.Status != http.StatusFound {
					t.Errorf("the callback: %v", got)
				}
				for _, other := range []string{first, office, auth} {
					tab.open(other + "/page")
					tab.isAt(other + "/page")
					tab.see(youAreAlice)
				}
				if n := signIns(); n != i+1 {
					t.Errorf("from %s: %d token requests, expected %d", begin, n, i+1)
				}
				// A sign-out at one host is one at all, and lands at the host where it began.
				tab.open(office + "/logout")
				tab.do("waitForSelector", `input[name="username"]`)
				w.base = first
				tab.open("/page")
				tab.do("waitForSelector", `input[name="username"]`)
			}

			// Two tabs of two hosts, both before the password: each ends where it began.
			w := app.window(t)
			w.base = first
			one, two := w.tab(), w.tab()
			one.open(first + "/one")
			two.open(office + "/two")
			one.signIn(provider.Alice)
			one.isAt(first + "/one")
			two.base = office
			two.do("reload")
			two.isAt(office + "/two")
			two.see(youAreAlice)
		})
	}
}

// noise is text that no compression makes shorter.
func noise(bytes int) string {
	text := ""
	for len(text) < bytes {
		text += rand.Text()
	}
	return text[:bytes]
}

// TestBrowserClock: our cookies have an age and no date. A browser adds the age to its own clock and compares with that (RFC 6265 5.2.2), so
// it may think it is any year.
func TestBrowserClock(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, peopled(nil))
	alice := app.visitor(t)
	alice.signIn("/", provider.Alice)
	for _, cookie := range alice.WasSet() {
		if !strings.Contains(cookie.Name, app.name) {
			continue // the provider's
		}
		if !cookie.Expires.IsZero() || cookie.MaxAge == 0 {
			t.Errorf("%s depends on the clock: %s", cookie.Name, cookie)
		}
	}
}

// TestBrowserSpeculates: a browser that loads in advance what may be clicked on neither signs anybody out nor in.
func TestBrowserSpeculates(t *testing.T) {
	t.Parallel()
	l := start(t)
	b := l.between(t, "^$")
	app := l.serve(t, site{with: with{"logoutUrl": "/logout", "loginUrl": "/login", "unauthenticated": "auto", "bypass": "Path(`/open`)", "forwardHeaders": with{"X-User": "name"}},
		callbacks: []string{b.callback()}})
	w := app.window(t)
	w.base = b.base(app)
	tab := w.tab()
	prefetch := func(path string) {
		t.Helper()
		before := len(b.requests(path))
		tab.do("evaluate", fmt.Sprintf(`(() => {
			const rules = document.createElement("script");
			rules.type = "speculationrules";
			rules.textContent = JSON.stringify({ prefetch: [{ source: "list", urls: [%[1]q], eagerness: "immediate" }], prerender: [{ source: "list", urls: [%[1]q], eagerness: "immediate" }] });
			const link = document.createElement("link");
			link.rel = "prefetch"; link.href = %[1]q;
			document.head.append(rules, link);
		})()`, path))
		deadline := time.Now().Add(20 * time.Second)
		for len(b.requests(path)) == before {
			if time.Now().After(deadline) {
				t.Fatalf("%s is not loaded in advance", path)
			}
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(500 * time.Millisecond) // for the others
		for _, req := range b.requests(path)[before:] {
			if req.Header.Get("Sec-Purpose") == "" {
				t.Errorf("%s came without Sec-Purpose: %v", path, req.Header)
			}
		}
	}
	tab.open("/open")
	prefetch("/login")
	prefetch("/page")
	if n := len(app.provider.Calls("authorize", app.name)); n != 0 || len(w.cookieNames()) != 0 {
		t.Errorf("%d sign-ins began, with the cookies %q", n, w.cookieNames())
	}
	tab.enter("/page", provider.Alice)
	prefetch("/logout")
	tab.open("/other")
	tab.see(youAreAlice)
	if n := app.provider.Grants("authorization_code", app.name); n != 1 {
		t.Errorf("%d sign-ins", n)
	}
}

// TestBrowserCallbackTwice: the answer to the callback is cut off, and the person loads it again.
func TestBrowserCallbackTwice(t *testing.T) {
	t.Parallel()
	l := start(t)
	b := l.between(t, "^$")
	s := peopled(nil)
	s.callbacks = []string{b.callback()}
	app := l.serve(t, s)
	w := app.window(t)
	w.base = b.base(app)
	tab := w.tab()
	tab.expect("net::ERR")
	tab.open("/page")
	tab.do("fill", `input[name="username"]`, provider.Alice.Name)
	tab.do("fill", `input[name="password"]`, provider.Alice.Password)
	b.mu.Lock()
	b.cut = "/oidc/callback"
	b.mu.Unlock()
	tab.do("press", `input[name="password"]`, "Enter")
	deadline := time.Now().Add(20 * time.Second)
	for len(b.requests("/oidc/callback")) == 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(500 * time.Millisecond) // the browser has its error, or has asked again by itself
	if len(b.requests("/page")) == 1 {
		again := b.requests("/oidc/callback")[0].URL.RequestURI()
		tab.open(again)
	}
	tab.isAt("/page")
	tab.see(youAreAlice)
	if n := app.provider.Grants("authorization_code", app.name); n != 1 || len(b.requests("/oidc/callback")) < 2 {
		t.Errorf("%d callbacks, %d token requests", len(b.requests("/oidc/callback")), n)
	}
}

// TestBrowserLongAddress: who comes from an address of some thousand bytes returns there, from a longer one is told.
func TestBrowserLongAddress(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, peopled(nil))
	for _, size := range []int{1000, 3000, 12000} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			tab := app.window(t).tab()
			address := "/reports?q=" + noise(size)
			tab.open(address)
			tab.signIn(provider.Alice)
			if size < 4000 {
				tab.isAt(address)
			} else {
				tab.see("You are signed in")
				tab.click("Continue")
				tab.isAt("/reports")
			}
			tab.see(youAreAlice)
			tab.open(address)
			tab.see(youAreAlice)
		})
	}
}

// TestBrowserLargeSignOut: with a hundred groups the ID token goes to the provider in a form, by itself or by a button.
func TestBrowserLargeSignOut(t *testing.T) {
	t.Parallel()
	var groups []string
	for range 100 {
		groups = append(groups, rand.Text())
	}
	user := provider.User{Name: provider.Alice.Name, Password: provider.Alice.Password, Claims: map[string]any{"sub": "user-alice", "name": "Alice Liddell", "groups": groups}}
	s := peopled(with{"postLogoutRedirectUrl": "/bye", "bypass": "Path(`/bye`)"})
	s.landings = []string{"/bye"}
	s.provider = newProvider(t, provider.Options{Users: []provider.User{user}})
	app := start(t).serve(t, s)
	for name, scripts := range map[string]bool{"by itself": true, "by a button": false} {
		t.Run(name, func(t *testing.T) {
			before := len(app.provider.Calls("end_session", app.name))
			w := app.window(t, with{"javaScriptEnabled": scripts})
			tab := w.tab()
			tab.enter("/page", provider.Alice)
			tab.do("goto", tab.url("/logout"))
			if !scripts {
				tab.see("You are signed out here")
				tab.click("Continue")
			}
			tab.do("waitForURL", tab.url("/bye")+"**")
			calls := app.provider.Calls("end_session", app.name)
			if len(calls)-before != 1 {
				t.Fatalf("%d calls of the end session endpoint", len(calls)-before)
			}
			if names := w.cookieNames(); len(names) != 0 {
				t.Errorf("the browser keeps %q", names)
			}
			tab.open("/page")
			tab.signIn(provider.Alice) // the provider has forgotten her, too
		})
	}
}

// TestBrowserFramedSession: in a frame of another site, with a browser that keeps no other cookies there, a session works that is made
// for it, is that frame's alone, and any other ends with a line in the log. Our own pages are shown in no frame.
func TestBrowserFramedSession(t *testing.T) {
	t.Parallel()
	l := start(t)
	imitation, err := provider.Imitate(provider.Like{}) // who signs people in without a page and without cookies
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(imitation.Stop)
	for _, c := range []struct {
		with   with
		works  bool
		tokens int
		said   string
	}{
		{with{"session.partitioned": true}, true, 2, "signed in"},
		{with{"session.partitioned": true, "claims": "Equals(`sub`, `nobody`)"}, false, 1, "403"},
		{nil, false, 0, "in a frame of another site"},
		{with{"session.sameSite": "none", "session.secure": true}, false, 0, "in a frame of another site"},
	} {
		t.Run(fmt.Sprint(c.with), func(t *testing.T) {
			app := l.serve(t, site{with: both(with{"issuer": imitation.Issuer, "clientId": imitation.ID, "clientSecret": imitation.Secret, "forwardHeaders": with{"X-User": "sub"}}, c.with)})
			other := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
				rw.Header().Set("Content-Type", "text/html")
				fmt.Fprintf(rw, `<!doctype html><title>Another site</title><link rel="icon" href="data:,"><iframe src="%s/page"></iframe>`, app.Secure)
			}))
			t.Cleanup(other.Close)
			before := imitation.Grants("authorization_code")
			w := app.window(t, with{"args": []string{"--test-third-party-cookie-phaseout"}})
			tab := w.tab()
			tab.expect("frame-ancestors")
			tab.expect("hird-party cookie")
			tab.expect("status of 40")
			tab.open(other.URL)
			if c.works {
				tab.do("seeInFrame", "You are user-alice.")
				tab.open(other.URL)
				tab.do("seeInFrame", "You are user-alice.")
				if n := imitation.Grants("authorization_code") - before; n != 1 {
					t.Errorf("%d token requests in the frame", n)
				}
				tab.open(app.Secure + "/page") // not in a frame: another session
				tab.see("You are user-alice.")
			} else if got := tab.frame(); got != "chrome-error://chromewebdata/" || !strings.Contains(app.log(), c.said) {
				t.Errorf("the frame shows %s, and the log says\n%s", got, app.log())
			}
			if n := imitation.Grants("authorization_code") - before; n != c.tokens {
				t.Errorf("%d token requests", n)
			}
		})
	}
}

// TestBrowserSessionOfABrowser: a cookie that ends with the browser is one, and any other is not.
func TestBrowserSessionOfABrowser(t *testing.T) {
	t.Parallel()
	for _, persistent := range []bool{true, false} {
		app := start(t).serve(t, peopled(with{"session.persistent": persistent}))
		w := app.window(t)
		w.tab().enter("/page", provider.Alice)
		var cookies []struct {
			Name    string
			Expires float64
		}
		w.decode(<-w.send(w.number, "cookies", w.url("/")), &cookies)
		for _, cookie := range cookies {
			if strings.HasSuffix(cookie.Name, "-session") && (cookie.Expires > 0) != persistent {
				t.Errorf("persistent %v: %v", persistent, cookie)
			}
		}
	}
}

// TestSessionThroughACache: a cache that everybody shares, and that is told to keep answers with cookies, keeps none that brings somebody's session.
func TestSessionThroughACache(t *testing.T) {
	t.Parallel()
	l := start(t)
	for name, cache := range map[string]func(t *testing.T, to string) string{"nginx": nginxCache, "varnish": varnishCache} {
		t.Run(name, func(t *testing.T) {
			address := cache(t, strings.TrimPrefix(l.traefik.URL, "http://"))
			_, port, _ := strings.Cut(address, ":")
			app := l.serve(t, site{with: with{"session.expiry": 20, "bypass": "Query(`open`, `1`)"}, callbacks: []string{"http://{site}:" + port + "/oidc/callback"}})
			alice, eve := app.visitor(t), app.visitor(t)
			alice.base, eve.base = "http://"+app.host+":"+port, "http://"+app.host+":"+port
			// The cache does keep what it may.
			first, second := eve.look("/cacheable?open=1"), eve.look("/cacheable?open=1")
			if first.Status != http.StatusOK || first.Header.Get("X-Upstream-Request") != second.Header.Get("X-Upstream-Request") {
				t.Fatalf("this cache keeps nothing: %s %v %v", first, first.Header, second.Header)
			}
			alice.signIn("/", provider.Alice)
			old := alice.sessionCookie().Value
			time.Sleep(2500 * time.Millisecond) // a tenth of its life: it is renewed
			page := alice.look("/cacheable")
			if alice.sessionCookie().Value == old || !strings.Contains(strings.Join(page.Header["Cache-Control"], ","), "private") || !strings.Contains(strings.Join(page.Header["Cache-Control"], ","), "public") {
				t.Fatalf("expected a renewed session, and private beside the upstream's own word: %v", page.Header)
			}
			if page := eve.look("/cacheable"); eve.outcome(page) != "sign-in" || page.Cookie(alice.sessionCookie().Name) != nil {
				t.Errorf("somebody else gets %s %v", page, page.Header)
			}
		})
	}
}

// TestLoginTabsThroughASmallServer: ten tabs sign in behind a server that reads five kilobytes of a header, and no more.
func TestLoginTabsThroughASmallServer(t *testing.T) {
	t.Parallel()
	l := start(t)
	address := runCache(t, strings.TrimPrefix(l.traefik.URL, "http://"), "nginx", "nginx.conf", `
daemon off; master_process off; pid DIR/pid; error_log DIR/error.log;
events {}
http {
  access_log off;
  client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  client_header_buffer_size 1k; large_client_header_buffers 4 5k;
  server {
    listen 127.0.0.1:PORT;
    location / { proxy_pass http://TRAEFIK; proxy_set_header Host $http_host; proxy_buffer_size 32k; proxy_buffers 4 32k; proxy_busy_buffers_size 64k; }
  }
}
`, "-p", "DIR", "-e", "DIR/error.log", "-c", "DIR/nginx.conf")
	_, port, _ := strings.Cut(address, ":")
	app := l.serve(t, site{callbacks: []string{"http://{site}:" + port + "/oidc/callback"}})
	alice := app.visitor(t)
	alice.base = "http://" + app.host + ":" + port
	var tabs []*browser.Page
	for i := range 10 {
		tabs = append(tabs, alice.open(fmt.Sprint("/tab/", i)))
	}
	for i, tab := range tabs {
		page := alice.must(alice.Submit(tab, url.Values{"username": {provider.Alice.Name}, "password": {provider.Alice.Password}}))
		if alice.outcome(page) != "application" || page.URL.Path != fmt.Sprint("/tab/", i) {
			t.Errorf("tab %d: %s", i, page)
		}
	}
}

// nginxCache is nginx as a cache in front of Traefik: it obeys Cache-Control, and does not mind cookies.
func nginxCache(t *testing.T, to string) string {
	return runCache(t, to, "nginx", "nginx.conf", `
daemon off; master_process off; pid DIR/pid; error_log DIR/error.log;
events {}
http {
  access_log off;
  client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  proxy_cache_path DIR/cache keys_zone=all:1m;
  server {
    listen 127.0.0.1:PORT;
    location / {
      proxy_pass http://TRAEFIK; proxy_set_header Host $http_host; proxy_buffer_size 32k; proxy_buffers 4 32k; proxy_busy_buffers_size 64k;
      proxy_cache all; proxy_cache_key $http_host$request_uri; proxy_ignore_headers Set-Cookie Vary;
    }
  }
}
`, "-p", "DIR", "-e", "DIR/error.log", "-c", "DIR/nginx.conf")
}

// varnishCache is Varnish, told the same.
func varnishCache(t *testing.T, to string) string {
	host, port, _ := strings.Cut(to, ":")
	return runCache(t, to, "varnishd", "default.vcl", `
vcl 4.1;
backend default { .host = "`+host+`"; .port = "`+port+`"; }
sub vcl_recv {
  if (req.method == "GET") { return (hash); }
  return (pass);
}
sub vcl_backend_response {
  if (beresp.ttl <= 0s || beresp.http.Cache-Control ~ "(?i)private|no-store|no-cache") { set beresp.uncacheable = true; }
  return (deliver);
}
`, "-F", "-j", "none", "-n", "DIR/work", "-s", "malloc,20m", "-a", "127.0.0.1:PORT", "-f", "DIR/default.vcl")
}

// runCache runs a cache, and gives its address. DIR, PORT and TRAEFIK stand in its configuration and arguments.
func runCache(t *testing.T, to, program, file, configuration string, args ...string) string {
	t.Helper()
	path := need(t, program)
	port, err := parts.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	filled := strings.NewReplacer("DIR", dir, "PORT", strconv.Itoa(port), "TRAEFIK", to)
	if err := os.WriteFile(filepath.Join(dir, file), []byte(filled.Replace(configuration)), 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range args {
		args[i] = filled.Replace(args[i])
	}
	process, err := parts.StartProcess(parts.Command{Name: program, Path: path, Args: args, Dir: dir, LogFile: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Stop)
	address := "127.0.0.1:" + strconv.Itoa(port)
	err = process.WaitFor(program, 30*time.Second, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if err != nil {
		t.Fatal(err, process.Log(0))
	}
	return address
}
