package oidc

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestLoginRequest(t *testing.T) {
	p := newFakeProvider(t)
	b := newBrowser(t, start(t, p.options()))
	r := b.look("/")
	first, second := r.location().Query(), b.begin("/").Query()
	for name, want := range map[string]string{
		"response_type": "code", "client_id": "app", "redirect_uri": app + "/oidc/callback", "scope": "openid profile email",
		"code_challenge_method": "S256", "client_secret": "", "response_mode": "", "prompt": "", "max_age": "",
	} {
		if got := first.Get(name); got != want {
			t.Errorf("%s: expected %q, got %q", name, want, got)
		}
	}
	random := regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`) // 32 bytes
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if !random.MatchString(first.Get(name)) || first.Get(name) == second.Get(name) {
			t.Errorf("%s: expected 32 random bytes, new for each sign-in, got %q and %q", name, first.Get(name), second.Get(name))
		}
	}
	if r.header.Get("Cache-Control") != "no-store" || r.header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("the redirect must not be stored nor tell its address: %q", r.header)
	}
}

func TestLoginRequestOptions(t *testing.T) {
	for _, c := range []struct {
		name    string
		options map[string]any
		address string
		want    map[string]string // parameter → value, "": none
	}{
		{"openid is added to the scopes", map[string]any{"scopes": []string{"email", "offline_access"}}, "/",
			map[string]string{"scope": "openid email offline_access"}},
		{"scopes as a label writes them", map[string]any{"scopes": "openid, groups"}, "/", map[string]string{"scope": "openid groups"}},
		{"pkce switched off", map[string]any{"pkce": "false"}, "/", map[string]string{"code_challenge": "", "code_challenge_method": ""}},
		{"extra parameters", map[string]any{"authParams": map[string]string{"access_type": "offline"}}, "/", map[string]string{"access_type": "offline"}},
		{"an empty prompt is none", map[string]any{"authParams": map[string]string{"prompt": ""}}, "/", map[string]string{"prompt": ""}},
		{"login parameters of the visit are passed on", map[string]any{"loginParams": []string{"login_hint", "ui_locales"}},
			"/?login_hint=ada&ui_locales=de&other=1", map[string]string{"login_hint": "ada", "ui_locales": "de", "other": ""}},
		{"no others are", nil, "/?login_hint=ada", map[string]string{"login_hint": ""}},
		{"max_age", map[string]any{"maxAge": 0}, "/", map[string]string{"max_age": "0"}},
		{"acr_values", map[string]any{"acrValues": []string{"gold", "silver"}}, "/", map[string]string{"acr_values": "gold silver"}},
		{"resource", map[string]any{"resource": []string{"https://api.example.com"}}, "/", map[string]string{"resource": "https://api.example.com"}},
		{"form_post", map[string]any{"responseMode": "form_post"}, "/", map[string]string{"response_mode": "form_post"}},
		{"redirectUrl as host and path", map[string]any{"redirectUrl": "login.example.com/back"}, "/",
			map[string]string{"redirect_uri": "https://login.example.com/back"}},
		{"redirectUrl as URL", map[string]any{"redirectUrl": "https://app.example.com/back"}, "/",
			map[string]string{"redirect_uri": "https://app.example.com/back"}},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newFakeProvider(t)
			sent := newBrowser(t, start(t, p.options(c.options))).begin(c.address).Query()
			for name, want := range c.want {
				if got := strings.Join(sent[name], "|"); got != want {
					t.Errorf("%s: expected %q, got %q", name, want, got)
				}
			}
		})
	}
}

func TestLoginRequestKeepsProtocolParameters(t *testing.T) {
	p := newFakeProvider(t)
	for _, name := range []string{"state", "nonce", "redirect_uri", "client_id", "response_type", "code_challenge", "scope"} {
		s, err := build(t, p.options(map[string]any{"authParams": map[string]string{name: "theirs"}, "loginParams": []string{name}}))
		if err != nil {
			continue // refused: as good
		}
		sent := newBrowser(t, s).begin("/?" + name + "=visitors").Query()
		if got := strings.Join(sent[name], "|"); strings.Contains(got, "theirs") || strings.Contains(got, "visitors") {
			t.Errorf("%s was replaced by %q", name, got)
		}
	}
}

// request kinds of TestLoginUnauthenticated.
func sendAs(b *browser, kind string) *reply {
	b.t.Helper()
	method := http.MethodGet
	if kind == "posted form" {
		return b.post(app+"/", "/page", url.Values{"a": {"1"}})
	}
	if kind == "fetch" {
		return b.fetch(method, "/page", "")
	}
	req := b.request(method, "/page", "")
	switch kind {
	case "navigation":
		return b.look("/page")
	case "HEAD navigation":
		req.Method = http.MethodHead
		req.Header.Set("Sec-Fetch-Mode", "navigate")
	case "old browser":
		req.Header.Set("Accept", "text/html,*/*")
	case "curl":
		req.Header.Set("Accept", "*/*")
	case "websocket":
		req.Header.Set("Sec-Fetch-Mode", "websocket")
		req.Header.Set("Accept", "text/html")
	case "picture":
		req.Header.Set("Sec-Fetch-Mode", "no-cors")
		req.Header.Set("Accept", "image/*")
	}
	return b.send(req, "none", &reply{t: b.t})
}

// Who posts a form after the session has ended is not sent away with it, but shown the way in.
func TestLoginWayIn(t *testing.T) {
	p := newFakeProvider(t)
	for _, c := range []struct {
		name    string
		options map[string]any
		link    string
	}{
		{"at home", nil, `<a href="/">Sign in</a>`},
		{"at a page of its own", map[string]any{"loginUrl": "/login"}, `<a href="HERE/login">Sign in</a>`},
		{"at a host of its own", map[string]any{"loginUrl": "id.example.com/login"}, `<a href="https://id.example.com/login">Sign in</a>`},
		{"nowhere", map[string]any{"unauthenticated": "deny"}, ""},
		{"at another middleware", map[string]any{"disableLogin": true}, ""},
	} {
		s := start(t, p.options(c.options))
		page := newBrowser(t, s).post(app+"/form", "/form", url.Values{"a": {"b"}}).expect(http.StatusUnauthorized, "You are not signed in").body
		if link := strings.ReplaceAll(c.link, "HERE", app); !strings.Contains(page, link) || link == "" && strings.Contains(page, "<a ") {
			t.Errorf("%s: expected %q on\n%s", c.name, link, page)
		}
	}
}

func TestLoginUnauthenticated(t *testing.T) {
	kinds := []string{"navigation", "HEAD navigation", "old browser", "curl", "fetch", "websocket", "picture", "posted form"}
	for _, c := range []struct {
		name    string
		options map[string]any
		want    string // statuses in the order of kinds
	}{
		{"auto: page loads sign in, the rest is told", nil, "302 302 302 401 401 401 401 401"},
		{"login: everything signs in", map[string]any{"unauthenticated": "login"}, "302 302 302 302 302 302 302 303"},
		{"deny: nothing does", map[string]any{"unauthenticated": "deny"}, "401 401 401 401 401 401 401 401"},
		{"forward: as nobody", map[string]any{"unauthenticated": "forward"}, "200 200 200 200 200 200 200 200"},
		{"disableLogin", map[string]any{"disableLogin": true}, "401 401 401 401 401 401 401 401"},
		{"loginUrl: only there", map[string]any{"loginUrl": "/login"}, "401 401 401 401 401 401 401 401"},
		{"loginUrl, and what is written out wins", map[string]any{"loginUrl": "/login", "unauthenticated": "auto"}, "302 302 302 401 401 401 401 401"},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newFakeProvider(t)
			s := start(t, p.options(c.options))
			var got []string
			for _, kind := range kinds {
				b := newBrowser(t, s)
				b.routes["https://provider"] = nil
				r := sendAsWithoutFollowing(b, kind)
				got = append(got, fmt.Sprint(r.status))
				if r.status == http.StatusUnauthorized && (r.header.Get("WWW-Authenticate") == "" || r.header.Get("Cache-Control") != "no-store") {
					t.Errorf("%s: a 401 needs WWW-Authenticate and no-store, got %q", kind, r.header)
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%q\nexpected %s\ngot      %s", kinds, c.want, strings.Join(got, " "))
			}
		})
	}
}

// sendAsWithoutFollowing is sendAs that stops at a redirect.
func sendAsWithoutFollowing(b *browser, kind string) *reply {
	if kind == "posted form" {
		return b.travel(http.MethodPost, "/page", "a=1", app+"/", 0)
	}
	return sendAs(b, kind)
}

func TestLoginAnswerFormats(t *testing.T) {
	p := newFakeProvider(t)
	b := newBrowser(t, start(t, p.options(map[string]any{"unauthenticated": "deny"})))
	page := b.look("/").expect(http.StatusUnauthorized, "<html")
	if !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") {
		t.Errorf("a browser gets a page, got %q", page.header)
	}
	problem := b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized, `"status":401`)
	if problem.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("a script gets RFC 9457, got %q", problem.header)
	}
}

func TestLoginTabs(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"maxAge": 3600, "acrValues": []string{"gold"}}))
	p.user["acr"] = "gold"
	p.user["auth_time"] = time.Now().Unix()
	b := newBrowser(t, s)
	var backs []*url.URL
	for i := 0; i < 25; i++ {
		backs = append(backs, b.answered(b.begin(fmt.Sprintf("/tab%d", i))))
		if line := b.cookieLine(mustParse(app+"/"), "none", http.MethodGet); len(line) > maxPendingBytes {
			t.Fatalf("%d tabs have %d bytes of cookies", i+1, len(line))
		}
	}
	finished := 0
	for i := len(backs) - 1; i >= 0; i-- { // the newest first, while nobody is signed in yet
		fresh := b.copyOf()
		r := fresh.open(backs[i].String())
		if !r.isUpstream() {
			break
		}
		finished++
		if seen := r.upstream(); seen.URI != fmt.Sprintf("/tab%d", i) {
			t.Errorf("tab %d ended at %q", i, seen.URI)
		}
	}
	if finished < 12 {
		t.Errorf("expected ten tabs and more to finish, got %d", finished)
	}
	// All of them in one browser, one after the other.
	for _, back := range backs[len(backs)-10:] {
		b.open(back.String()).upstream()
	}
}

// A pending login must fit into one cookie whatever address it began with, or the browser drops it and the sign-in never ends. What does not
// fit is not lost without a word.
func TestLoginFromLongAddresses(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options())
	for path, want := range map[string]string{
		"/?" + strings.Repeat("a=b&", 250): "", "/a?" + strings.Repeat("a=b&", 480): "", "/a?" + strings.Repeat("&", 1900): "",
		"/a?b=\xe9&c=é":                 "/a?b=%E9&c=%C3%A9",
		"/" + strings.Repeat("&", 1900): "", "/a?" + strings.Repeat("<", 1900): "", "/" + strings.Repeat("a", 6000) + "?b": "",
		"/" + strings.Repeat("%22", 790): "",
		"/?" + incompressible(3300):      "", "/?SAMLRequest=" + url.QueryEscape(incompressible(2800)): "",
		"/reports?" + incompressible(6000): "cut /reports", "/" + incompressible(6000) + "?b": "cut /", "/a?" + incompressible(60000): "cut /a",
		// No URL at all: of another account's page, which a visitor writes.
		"/oidc/callback?switch=" + url.QueryEscape("/%zz"+incompressible(6000)): "cut /",
	} {
		b := newBrowser(t, s)
		res := b.raw(path, "Sec-Fetch-Mode: navigate")
		b.takeCookies(mustParse(app+"/"), res.Cookies(), len(res.Cookies())) // fails for one that is too large
		back := b.answered(mustParse(res.Header.Get("Location")))
		if want == "" {
			want = path
		}
		r := b.look(back.String())
		if cut := strings.TrimPrefix(want, "cut "); cut != want {
			r.expect(http.StatusOK, "too long to be remembered whole", `<a href="`+cut+`">Continue</a>`)
			b.open("/").upstream()
		} else if target := r.header.Get("Location"); target != want {
			t.Errorf("%.40q: expected %.60q, got %.60q", path, want, target)
		}
	}
}

func TestLoginBackButton(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options())
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page"))
	b.open(back.String()).upstream()
	if seen := b.open(back.String()).upstream(); seen.URI != "/page" {
		t.Errorf("the back button must lead to the page again, got %q", seen.URI)
	}
	if p.count("token") != 1 {
		t.Errorf("the code was sent again: %d token requests", p.count("token"))
	}
	b.forgetCookies()
	r := b.look(back.String()).expect(http.StatusBadRequest, `href="/"`)
	if r.isUpstream() {
		t.Error("the callback reached the upstream")
	}
}

// Keycloak drops the sign-in of a tab that was overtaken by another one's. Who is signed in by then goes to the page, for others the sign-in
// begins once more, and only once.
func TestLoginOvertakenByAnotherTab(t *testing.T) {
	for _, mode := range []string{"query", "form_post"} {
		p := newFakeProvider(t)
		s := start(t, p.options(map[string]any{"responseMode": mode}))
		b := newBrowser(t, s)
		b.open("/first").upstream()
		p.refuse("temporarily_unavailable", "authentication_expired")
		second := newBrowser(t, s)
		r := second.open("/second").expect(http.StatusServiceUnavailable)
		if p.count("authorize") != 3 {
			t.Errorf("%s: expected it to begin once more, and only once: %s", mode, r.story())
		}
		begun := newBrowser(t, s)
		back := begun.begin("/third?x=1")
		p.answer("authorize", nil)
		begun.open("/fourth").upstream()
		p.refuse("temporarily_unavailable", "authentication_expired")
		if mode == "query" { // a POST of another site brings no session with it: there the sign-in begins once more
			if seen := begun.open(back.String()).upstream(); seen.URI != "/third?x=1" || p.count("authorize") != 5 {
				t.Errorf("expected the page of that tab, and no sign-in, got %q", seen.URI)
			}
		}
		// Once more is enough when the provider has caught up.
		again := newBrowser(t, s)
		back = again.begin("/fifth")
		first := again.look(back.String())
		p.answer("authorize", nil)
		if mode == "query" {
			if seen := again.open(first.location().String()).upstream(); seen.URI != "/fifth" {
				t.Errorf("expected the page, got %q", seen.URI)
			}
		}
		// Any other trouble is told to who has no session.
		p.refuse("temporarily_unavailable", "maintenance")
		newBrowser(t, s).open("/sixth").expect(http.StatusServiceUnavailable, "/sixth")
	}
	// A code that is refused is no trouble for who is signed in: Keycloak mixes up the codes of two tabs.
	refusing := newFakeProvider(t)
	site := start(t, refusing.options())
	mixed := newBrowser(t, site)
	back := mixed.begin("/second")
	mixed.signIn("/first")
	refusing.answer("token", answerJSON(400, map[string]any{"error": "invalid_grant", "error_description": "PKCE verification failed"}))
	if seen := mixed.open(back.String()).upstream(); seen.URI != "/second" {
		t.Errorf("expected the page of that tab, got %q", seen.URI)
	}
	newBrowser(t, site).open("/third").expect(http.StatusBadRequest, "/third")
	// An answer of another issuer is not believed in this, either (RFC 9207).
	p := newFakeProvider(t)
	p.edit("discovery", func(d map[string]any) { d["authorization_response_iss_parameter_supported"] = true })
	p.refuse("temporarily_unavailable", "authentication_expired")
	newBrowser(t, start(t, p.options())).open("/").expect(http.StatusBadGateway)
	if p.count("authorize") != 1 {
		t.Errorf("it began again %d times", p.count("authorize")-1)
	}
}

func TestLoginStaysOnOurOwnOrigin(t *testing.T) {
	for _, path := range []string{
		"//evil.example.com/", "///evil.example.com", "/\\evil.example.com", "/%5cevil.example.com", "/%09/evil.example.com", "/.//evil.example.com",
		"/@evil.example.com", "/page?next=https://evil.example.com", "/;//evil.example.com", "/%2f%2fevil.example.com", "//evil.example.com/%2f..",
	} {
		p := newFakeProvider(t)
		s := start(t, p.options())
		b := newBrowser(t, s)
		res := b.raw(path, "Sec-Fetch-Mode: navigate")
		if res.StatusCode != http.StatusFound {
			if res.StatusCode >= 500 {
				t.Errorf("%s: %s", path, res.Status)
			}
			continue
		}
		b.takeCookies(mustParse(app+"/"), res.Cookies(), len(res.Cookies()))
		back := b.answered(mustParse(res.Header.Get("Location")))
		target := b.look(back.String()).header.Get("Location")
		if !strings.HasPrefix(target, "/") || strings.ContainsAny(target, "\\\t\r\n") || strings.HasPrefix(target, "//") {
			t.Errorf("%s: leads to %q", path, target)
		}
	}
}

func TestLoginURL(t *testing.T) {
	p := newFakeProvider(t)
	options := p.options(map[string]any{"loginUrl": "/login", "postLoginRedirectUrl": "/welcome"})
	s := start(t, options)
	b := newBrowser(t, s)
	b.open("/page").expect(http.StatusUnauthorized)
	if seen := b.open("/login").upstream(); seen.URI != "/welcome" {
		t.Errorf("expected the page for after the sign-in, got %q", seen.URI)
	}
	b.signIn("/page")
	for _, c := range []struct {
		name, query string
		status      int
	}{
		{"started by the provider", "iss=" + url.QueryEscape(p.issuer) + "&login_hint=ada&target_link_uri=" + url.QueryEscape(app+"/deep?x=1"), 302},
		{"started by the provider, of which no more is said", "iss=" + url.QueryEscape(p.issuer), 302},
		{"started by another provider", "iss=https://evil.example.com", 400},
		{"started by the provider in another spelling", "iss=" + url.QueryEscape(p.issuer+"/"), 400},
		{"started by two", "iss=" + url.QueryEscape(p.issuer) + "&iss=https://evil.example.com", 400},
		{"with a target elsewhere", "iss=" + url.QueryEscape(p.issuer) + "&target_link_uri=https://evil.example.com/", 400},
		{"with a target that only begins like ours", "target_link_uri=" + url.QueryEscape(app+".evil.example.com/"), 400},
		{"with a target without scheme", "target_link_uri=//evil.example.com/", 400},
		{"with a script for a target", "target_link_uri=javascript:alert(1)", 400},
		{"with user information", "target_link_uri=" + url.QueryEscape(app+"@evil.example.com/"), 400},
	} {
		r := newBrowser(t, s).look("/login?" + c.query)
		if r.status != c.status {
			t.Errorf("%s: expected %d, got %s", c.name, c.status, r.trail)
		}
		posted := newBrowser(t, s).travel(http.MethodPost, "/login", c.query, "https://id.example.org/", 0) // OIDC Core 4: both methods
		if c.status == 302 && (posted.status != 303 || posted.location().Query().Get("login_hint") != r.location().Query().Get("login_hint")) ||
			c.status == 400 && posted.status != 400 {
			t.Errorf("%s, in a form: expected %d, got %s", c.name, c.status, posted.story())
		}
	}
	fresh := newBrowser(t, s)
	sent := fresh.begin("/login?login_hint=ada&target_link_uri=" + url.QueryEscape(app+"/deep?x=1"))
	if sent.Query().Get("login_hint") != "ada" {
		t.Errorf("the hint was lost: %s", sent)
	}
	if seen := fresh.open(sent.String()).upstream(); seen.URI != "/deep?x=1" {
		t.Errorf("expected the target, got %q", seen.URI)
	}
}

func TestLoginPushedRequest(t *testing.T) {
	for _, c := range []struct {
		par      string
		required bool
		calls    int
	}{{"auto", false, 0}, {"auto", true, 1}, {"true", false, 1}, {"false", true, 0}} {
		p := newFakeProvider(t)
		p.edit("discovery", func(d map[string]any) { d["require_pushed_authorization_requests"] = c.required })
		b := newBrowser(t, start(t, p.options(map[string]any{"par": c.par})))
		sent := b.begin("/page")
		if c.calls == 1 && (len(sent.Query()) != 2 || sent.Query().Get("request_uri") == "" || sent.Query().Get("client_id") != "app") {
			t.Errorf("par: %s: the browser carries %s", c.par, sent)
		}
		if pushed := p.lastCall("par"); c.calls == 1 &&
			(pushed.header.Get("Authorization") == "" || pushed.form.Get("client_secret") != "" || pushed.form.Get("client_id") != "app" ||
				pushed.form.Get("redirect_uri") != app+"/oidc/callback" || pushed.form.Get("code_challenge_method") != "S256" ||
				len(pushed.form["request_uri"]) > 0) {
			t.Errorf("par: %s: pushed %q with %q", c.par, pushed.form, pushed.header)
		}
		b.open(sent.String()).upstream()
		if p.count("par") != c.calls {
			t.Errorf("par: %s, required: %t: expected %d pushed requests, got %d", c.par, c.required, c.calls, p.count("par"))
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		status int
	}{
		"refused":                        {answerJSON(400, map[string]any{"error": "invalid_request"}), 500},
		"refused in a 200":               {answerJSON(200, map[string]any{"error": "invalid_scope"}), 500},
		"refused for now":                {answerJSON(400, map[string]any{"error": "temporarily_unavailable"}), 503},
		"without request_uri":            {answerJSON(201, map[string]any{"expires_in": 60}), 503},
		"not accepted, with request_uri": {answerJSON(400, map[string]any{"request_uri": "urn:x", "expires_in": 60}), 503},
		"HTML":                           {answerText(201, "text/html", "<p>"), 503},
		"away":                           {answerText(503, "text/plain", ""), 503},
	} {
		p := newFakeProvider(t)
		p.answer("par", c.answer)
		s := start(t, p.options(map[string]any{"par": true}))
		newBrowser(t, s).open("/page").expect(c.status)
		s.expectLog("par: ")
		if p.count("authorize") > 0 || p.count("par") != 1 {
			t.Errorf("%s: the browser was sent on %d times, after %d requests", name, p.count("authorize"), p.count("par"))
		}
	}
	p := newFakeProvider(t) // RFC 9126 2.2 says 201; some say 200
	p.answer("par", func(rw http.ResponseWriter, req *http.Request) {
		recorder := httptest.NewRecorder()
		p.usual("par", recorder, req)
		answerText(200, "application/json", recorder.Body.String())(rw, req)
	})
	newBrowser(t, start(t, p.options(map[string]any{"par": true}))).signIn("/")
}

func TestLoginNeverMixesPeople(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"forwardHeaders": map[string]string{"X-User": "sub", "X-Page": "page"}}))
	// The page a person asked for goes to the provider as a hint and comes back as a claim.
	p.answer("authorize", func(rw http.ResponseWriter, req *http.Request) { p.usual("authorize", rw, req) })
	inParallel(40, func(i int) {
		b := newBrowser(t, s)
		who := fmt.Sprintf("user%d", i)
		sent := b.begin("/" + who)
		code := p.keep(&providerGrant{kind: "code", form: sent.Query(), subject: who, sid: who})
		back := mustParse(app + "/oidc/callback?code=" + url.QueryEscape(code) + "&state=" + sent.Query().Get("state"))
		for j := 0; j < 3; j++ {
			seen := b.open(back.String()).upstream()
			if seen.Headers.Get("X-User") != who || seen.URI != "/"+who {
				t.Errorf("%s is %q at %q", who, seen.Headers.Get("X-User"), seen.URI)
			}
			back = mustParse(app + "/" + who)
		}
	})
}

func TestLoginSwitchesTheUser(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"claims": "Equals(`sub`, `grace`)"}))
	b := newBrowser(t, s)
	page := b.open("/page?a=1").expect(http.StatusForbidden)
	link := regexp.MustCompile(`href="(/oidc/callback\?[^"]*)"`).FindStringSubmatch(page.body)
	if link == nil {
		t.Fatalf("the page offers no other account: %s", page.body)
	}
	p.user["sub"] = "grace"
	seen := b.follow(app+"/page", strings.ReplaceAll(link[1], "&amp;", "&")).upstream()
	if seen.URI != "/page?a=1" {
		t.Errorf("expected the page that was refused, got %q", seen.URI)
	}
	if prompt := p.lastCall("authorize").form.Get("prompt"); prompt != "login" && prompt != "select_account" {
		t.Errorf("the provider must ask who it is, got prompt %q", prompt)
	}
}

// What the operator has set as prompt goes before ours, also when it is none: not all providers know prompt=login.
func TestLoginSwitchesTheUserAsTheOperatorSays(t *testing.T) {
	for _, want := range []string{"select_account", ""} {
		p := newFakeProvider(t)
		s := start(t, p.options(map[string]any{"claims": "Equals(`sub`, `grace`)", "authParams": map[string]any{"prompt": want}}))
		b := newBrowser(t, s)
		page := b.open("/page").expect(http.StatusForbidden)
		link := regexp.MustCompile(`href="(/oidc/callback\?[^"]*)"`).FindStringSubmatch(page.body)
		p.user["sub"] = "grace"
		b.follow(app+"/page", strings.ReplaceAll(link[1], "&amp;", "&")).upstream()
		if sent := p.lastCall("authorize").form; sent.Get("prompt") != want || sent.Has("prompt") != (want != "") {
			t.Errorf("expected prompt %q, got %q", want, sent["prompt"])
		}
	}
}

// An address may name the port that browsers leave out.
func TestLoginURLWithTheUsualPort(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"redirectUrl": "https://app.example.com:443/oidc/callback",
		"logoutUrl": "APP.example.com:443/logout", "loginUrl": "https://app.example.com/login"}))
	b := newBrowser(t, s)
	authorization := b.begin("/login")
	if got := authorization.Query().Get("redirect_uri"); got != "https://app.example.com:443/oidc/callback" {
		t.Errorf("the redirect URI must be as it is registered, got %q", got)
	}
	back := b.answered(authorization)
	back.Host = "app.example.com"
	b.look(back.String()).expect(http.StatusFound)
	b.open("/").upstream()
	b.look("https://app.example.com:443/login").expect(http.StatusFound)
	if r := b.look("https://app.example.com:8443/login"); r.status != http.StatusUnauthorized && !r.isUpstream() {
		t.Errorf("another port is another address: %s", r.story())
	}
	b.look("/logout").expect(http.StatusFound)
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
}

// One host may have the callback of all, and every page is returned to.
func TestLoginAtOneHostForAll(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"redirectUrl": "https://auth.example.com/oidc/callback", "loginUrl": "/login",
		"unauthenticated": "auto"}, sessionOptions("domain", "example.com")))
	b := newBrowser(t, s)
	for _, host := range []string{"https://auth.example.com", "https://wiki.example.com", "https://evil.example.org"} {
		b.routes[host] = s
	}
	r := b.open("/reports?year=2025")
	if seen := r.upstream(); seen.URI != "/reports?year=2025" || r.url.Host != "app.example.com" ||
		p.lastCall("authorize").form.Get("redirect_uri") != "https://auth.example.com/oidc/callback" {
		t.Errorf("ended at %s %s", r.url, seen.URI)
	}
	if r := b.open("https://wiki.example.com/start"); len(r.trail) != 1 || !r.isUpstream() {
		t.Errorf("the session must be good at every host: %s", r.story())
	}
	// As oauth2-proxy's addresses are linked to.
	for _, c := range []struct{ at, target, end string }{
		{"https://auth.example.com/login?rd=", "https://wiki.example.com/page?a=b", "https://wiki.example.com/page?a=b"},
		{"/login?rd=", "/page", app + "/page"},
		{"/login?rd=", app + "/page", app + "/page"},
		{"/login?rd=", "//evil.example.org/", ""}, {"/login?rd=", "https://evil.example.org/", ""}, {"/login?rd=", "http://wiki.example.com/", ""},
		{"/login?rd=", "https://x@wiki.example.com/", ""}, {"/login?rd=", "https://wiki.example.com.example.org/", ""},
		{"/login?rd=", "javascript:alert(1)", ""},
		{"/login?rd=", "//wiki.example.com/", ""}, {"/login?rd=/a&rd=", "/b", ""},
	} {
		r := b.open(c.at + url.QueryEscape(c.target))
		if c.end == "" {
			r.expect(http.StatusBadRequest)
		} else if !r.isUpstream() || r.url.String() != c.end {
			t.Errorf("%s%s: ended at %s", c.at, c.target, r.story())
		}
	}
	// Who begins elsewhere does not get there.
	stranger := newBrowser(t, s)
	stranger.routes = b.routes
	stranger.drops = regexp.MustCompile("^$")
	stranger.open("https://evil.example.org/page").expect(http.StatusBadRequest, "did not keep the sign-in", "session.domain covers both")
}

// TestLoginQueryOfAnAddress: what an address has in its query already stays (RFC 6749 3.1).
func TestLoginQueryOfAnAddress(t *testing.T) {
	for address, want := range map[string]string{"https://id.example.com/a": "https://id.example.com/a?b=c",
		"https://id.example.com/a?x=y": "https://id.example.com/a?x=y&b=c"} {
		if got := withQuery(address, url.Values{"b": {"c"}}); got != want {
			t.Errorf("%s: got %s", address, got)
		}
	}
}

func TestLoginRedirectsWithoutTheBody(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"unauthenticated": "login"}))
	b := newBrowser(t, s)
	for method, status := range map[string]int{http.MethodGet: 302, http.MethodHead: 302, http.MethodPost: 303, http.MethodPut: 303,
		http.MethodPatch: 303, http.MethodDelete: 303} {
		if r := b.fetch(method, "/", "a=1"); r.status != status {
			t.Errorf("%s: expected %d, got %d", method, status, r.status)
		}
	}
}

func TestLoginSwitchesTheUserOnAnotherHost(t *testing.T) {
	// The callback is on another host: the page cannot lead there with a path.
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"redirectUrl": "login.example.com/back", "claims": "Equals(`sub`, `grace`)",
		"session":     map[string]any{"domain": "example.com"},
		"stateCookie": map[string]any{"domain": "example.com"}}))
	b := newBrowser(t, s)
	b.routes["https://login.example.com"] = s
	if page := b.open("/page").expect(http.StatusForbidden); strings.Contains(page.body, `href="/back`) {
		t.Errorf("the link leads nowhere: %s", page.body)
	}
}

// TestLoginTabsHaveABound: however many sign-ins a browser begins, their cookies stay within maxPendingBytes, and fill them.
func TestLoginTabsHaveABound(t *testing.T) {
	s := start(t, newFakeProvider(t).options())
	b := newBrowser(t, s)
	for i := 0; i < 40; i++ {
		b.begin(fmt.Sprint("/", strings.Repeat("page", i), i))
		sum, largest := 0, 0
		for _, name := range b.cookieNames(s.stateCookie()) {
			size := len(name) + len(b.cookie(name).Value) + len("=; ")
			sum += size
			if size > largest {
				largest = size
			}
		}
		if sum > maxPendingBytes+len("=; ") || i > 20 && sum+largest < maxPendingBytes {
			t.Fatalf("after %d sign-ins the cookies have %d bytes, the largest %d", i+1, sum, largest)
		}
	}
}
