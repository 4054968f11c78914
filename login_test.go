package oidc

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestLoginEndsWhereItBegan(t *testing.T) {
	p := newProvider(t)
	b := newBrowser(t, start(t, p.options()))
	seen := b.signIn("/reports?year=2025").upstream()
	if seen.URI != "/reports?year=2025" {
		t.Errorf("expected the page the visit began with, got %q", seen.URI)
	}
	again := b.open("/other").expect(http.StatusOK)
	if len(again.trail) != 1 || p.count("token") != 1 {
		t.Errorf("the second page must need nothing: %q, %d token requests", again.trail, p.count("token"))
	}
}

func TestLoginRequest(t *testing.T) {
	p := newProvider(t)
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
		{"openid is added to the scopes", map[string]any{"scopes": []string{"email", "offline_access"}}, "/", map[string]string{"scope": "openid email offline_access"}},
		{"scopes as a label writes them", map[string]any{"scopes": "openid, groups"}, "/", map[string]string{"scope": "openid groups"}},
		{"pkce switched off", map[string]any{"pkce": "false"}, "/", map[string]string{"code_challenge": "", "code_challenge_method": ""}},
		{"extra parameters", map[string]any{"authParams": map[string]string{"access_type": "offline"}}, "/", map[string]string{"access_type": "offline"}},
		{"an empty prompt is none", map[string]any{"authParams": map[string]string{"prompt": ""}}, "/", map[string]string{"prompt": ""}},
		{"login parameters of the visit are passed on", map[string]any{"loginParams": []string{"login_hint", "ui_locales"}}, "/?login_hint=ada&ui_locales=de&other=1", map[string]string{"login_hint": "ada", "ui_locales": "de", "other": ""}},
		{"no others are", nil, "/?login_hint=ada", map[string]string{"login_hint": ""}},
		{"max_age", map[string]any{"maxAge": 0}, "/", map[string]string{"max_age": "0"}},
		{"acr_values", map[string]any{"acrValues": []string{"gold", "silver"}}, "/", map[string]string{"acr_values": "gold silver"}},
		{"resource", map[string]any{"resource": []string{"https://api.example.com"}}, "/", map[string]string{"resource": "https://api.example.com"}},
		{"form_post", map[string]any{"responseMode": "form_post"}, "/", map[string]string{"response_mode": "form_post"}},
		{"redirectUrl as host and path", map[string]any{"redirectUrl": "login.example.com/back"}, "/", map[string]string{"redirect_uri": "https://login.example.com/back"}},
		{"redirectUrl as URL", map[string]any{"redirectUrl": "https://app.example.com/back"}, "/", map[string]string{"redirect_uri": "https://app.example.com/back"}},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newProvider(t)
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
	p := newProvider(t)
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
	p := newProvider(t)
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
			p := newProvider(t)
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
	p := newProvider(t)
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

func TestLoginCallbackIsRefused(t *testing.T) {
	// What arrives at the callback of a browser with one pending login. None of it may reach the token endpoint.
	for _, c := range []struct {
		name  string
		bend  func(b *browser, s *testSite, back *url.URL)
		wants []string // in the log
	}{
		{"another browser", func(b *browser, s *testSite, back *url.URL) { b.forgetCookies() }, []string{"no pending login"}},
		{"another state", func(b *browser, s *testSite, back *url.URL) { replaceQuery(back, "state", strings.Repeat("A", 43)) }, []string{"no pending login"}},
		{"no state", func(b *browser, s *testSite, back *url.URL) { replaceQuery(back, "state", "") }, []string{"callback"}},
		{"no code", func(b *browser, s *testSite, back *url.URL) { replaceQuery(back, "code", "") }, []string{"code"}},
		{"two states", func(b *browser, s *testSite, back *url.URL) { back.RawQuery += "&state=x" }, []string{"state", "more than once"}},
		{"two codes", func(b *browser, s *testSite, back *url.URL) { back.RawQuery += "&code=x" }, []string{"code", "more than once"}},
		{"two issuers", func(b *browser, s *testSite, back *url.URL) { back.RawQuery += "&iss=a&iss=b" }, []string{"iss", "more than once"}},
		{"an escape that is none", func(b *browser, s *testSite, back *url.URL) { back.RawQuery += "&x=%zz" }, []string{"cannot be read"}},
		{"another provider's answer", func(b *browser, s *testSite, back *url.URL) { replaceQuery(back, "iss", "https://evil.example.com") }, []string{"iss", "evil.example.com"}},
		{"an issuer in another spelling", func(b *browser, s *testSite, back *url.URL) {
			replaceQuery(back, "iss", strings.ToUpper(s.options["issuer"].(string)))
		}, []string{"iss"}},
		{"an issuer that is empty", func(b *browser, s *testSite, back *url.URL) { back.RawQuery += "&iss=" }, []string{"iss", `got ""`}},
		{"state cookie with one character changed", func(b *browser, s *testSite, back *url.URL) {
			name := b.cookieNames(s.stateCookie())[0]
			b.setCookie(name, flipped(b.cookie(name).Value))
		}, []string{"no pending login"}},
		{"state cookie under another attempt's name", func(b *browser, s *testSite, back *url.URL) {
			name := b.cookieNames(s.stateCookie())[0]
			value := b.cookie(name).Value
			b.forgetCookies()
			b.setCookie(name[:len(name)-4]+"0000", value)
		}, []string{"no pending login"}},
		{"state cookie of another middleware", func(b *browser, s *testSite, back *url.URL) {
			other := start(s.t, s.options)
			c := newBrowser(s.t, other)
			theirs := c.begin("/")
			b.forgetCookies()
			for _, name := range c.cookieNames(other.stateCookie()) {
				b.setCookie(strings.Replace(name, other.stateCookie(), s.stateCookie(), 1), c.cookie(name).Value)
			}
			replaceQuery(back, "state", theirs.Query().Get("state"))
		}, []string{"no pending login"}},
		{"another host", func(b *browser, s *testSite, back *url.URL) {
			b.routes["https://other.example.com"] = s
			for _, name := range b.cookieNames(s.stateCookie()) {
				value := b.cookie(name).Value
				b.mu.Lock()
				b.cookies[name] = &kept{Cookie: &http.Cookie{Name: name, Value: value, Path: "/"}, host: "other.example.com"}
				b.mu.Unlock()
			}
			back.Host = "other.example.com"
		}, []string{"other.example.com"}},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newProvider(t)
			s := start(t, p.options())
			b := newBrowser(t, s)
			back := b.answered(b.begin("/page"))
			c.bend(b, s, back)
			r := b.look(back.String())
			if r.status < 400 || r.status >= 500 && r.status != http.StatusBadGateway {
				t.Errorf("expected a refusal, got %s", r.trail)
			}
			if p.count("token") != 0 {
				t.Error("the code was sent to the token endpoint")
			}
			if b.cookie(s.sessionCookie()) != nil {
				t.Error("there is a session")
			}
			s.expectLog(c.wants...)
		})
	}
}

func replaceQuery(address *url.URL, name, value string) {
	query := address.Query()
	query.Set(name, value)
	if value == "" {
		query.Del(name)
	}
	address.RawQuery = query.Encode()
}

// flipped changes one character in the middle of a text.
func flipped(text string) string {
	at := len(text) / 2
	other := "A"
	if text[at] == 'A' {
		other = "B"
	}
	return text[:at] + other + text[at+1:]
}

func TestLoginStateWorksOnce(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s := start(t, p.options())
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page"))
	thief := b.copyOf() // with the state cookie
	b.open(back.String()).upstream()
	if names := b.cookieNames(s.stateCookie() + "."); len(names) > 0 {
		t.Errorf("the state cookie must be gone, got %q", names)
	}
	stranger := newBrowser(t, s)
	stranger.look(back.String()).expect(http.StatusBadRequest)
	time.Sleep(secondCallback)
	thief.look(back.String()).expect(http.StatusBadRequest)
	if p.count("token") != 1 || thief.cookie(s.sessionCookie()) != nil || stranger.cookie(s.sessionCookie()) != nil {
		t.Errorf("a used state was accepted again: %d token requests", p.count("token"))
	}
	s.expectLog("state was used before")
}

// A callback that is sent twice, because the first was cut off or at the same time, gets the session that its code was good for.
func TestLoginCallbackTwice(t *testing.T) {
	for _, kept := range []string{"in cookies", "in Redis"} {
		kept := kept
		t.Run(kept, func(t *testing.T) {
			p := newProvider(t)
			options := map[string]any{"logoutUrl": "/logout"}
			redis := ""
			if kept == "in Redis" {
				redis = startRedis(t).address
				options["session"] = map[string]any{"store": map[string]any{"redis": map[string]any{"endpoints": redis}}}
			}
			s := start(t, p.options(options))
			b := newBrowser(t, s)
			back := b.answered(b.begin("/page"))
			var again []*browser
			for i := 0; i < 8; i++ {
				again = append(again, b.copyOf()) // what the first answer set has not arrived
			}
			inParallel(len(again), func(i int) {
				if seen := again[i].open(back.String()).upstream(); seen.URI != "/page" {
					t.Errorf("ended at %q", seen.URI)
				}
			})
			if seen := b.open(back.String()).upstream(); seen.URI != "/page" || p.count("token") != 1 {
				t.Errorf("ended at %q, with %d token requests", seen.URI, p.count("token"))
			}
			half := newBrowser(t, s) // the cookie of the session arrived, that of the sign-in did not go
			back2 := half.answered(half.begin("/page"))
			other := half.copyOf()
			other.open(back2.String()).upstream()
			half.setCookie(s.sessionCookie(), other.cookie(s.sessionCookie()).Value)
			half.open(back2.String()).upstream()
			if redis != "" {
				config := &RedisConfig{Endpoints: []string{redis}}
				lives := askRedis(t, config, "EVAL", `local n = 0 for _, k in ipairs(redis.call("KEYS", "*session:*")) do if redis.call("TTL", k) > 60 then n = n + 1 end end return n`, "0")
				if lives != "2" {
					t.Errorf("expected two sessions that go on, got %s", lives)
				}
			}
			late := again[0].copyOf()
			late.forgetCookies()
			late.look(back.String()).expect(http.StatusBadRequest) // not without the cookie of the pending login
			b.open("/logout")
			again[1].fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized) // it is one session
		})
	}
}

// What went wrong goes wrong for the second callback as well, and costs nothing more.
func TestLoginCallbackTwiceInVain(t *testing.T) {
	p := newProvider(t)
	p.answer("token", answerText(400, "application/json", `{"error":"invalid_grant"}`))
	s := start(t, p.options())
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page"))
	c := b.copyOf()
	b.look(back.String()).expect(http.StatusBadRequest)
	c.look(back.String()).expect(http.StatusBadRequest)
	if p.count("token") != 1 {
		t.Errorf("expected one token request, got %d", p.count("token"))
	}
}

func TestLoginStateExpires(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"stateCookie": map[string]any{"maxAge": 1}}))
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page"))
	keeper := b.copyOf() // keeps cookies longer than it was told
	for _, k := range keeper.cookies {
		k.expires = time.Time{}
	}
	time.Sleep(2100 * time.Millisecond)
	keeper.look(back.String()).expect(http.StatusBadRequest)
	s.expectLog("stateCookie.maxAge")
	if p.count("token") != 0 {
		t.Error("the code was sent to the token endpoint")
	}
}

func TestLoginTabs(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"maxAge": 3600, "acrValues": []string{"gold"}}))
	p.user["acr"] = "gold"
	p.user["auth_time"] = time.Now().Unix()
	b := newBrowser(t, s)
	var backs []*url.URL
	for i := 0; i < 25; i++ {
		backs = append(backs, b.answered(b.begin(fmt.Sprintf("/tab%d", i))))
		if line := b.cookieLine(mustParse(app+"/"), "none", http.MethodGet); len(line) > 4096 {
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
	p := newProvider(t)
	s := start(t, p.options())
	for path, want := range map[string]string{
		"/?" + strings.Repeat("a=b&", 250): "", "/a?" + strings.Repeat("a=b&", 480): "", "/a?" + strings.Repeat("&", 1900): "", "/a?b=\xe9&c=é": "/a?b=%E9&c=%C3%A9",
		"/" + strings.Repeat("&", 1900): "", "/a?" + strings.Repeat("<", 1900): "", "/" + strings.Repeat("a", 6000) + "?b": "", "/" + strings.Repeat("%22", 790): "",
		"/?" + incompressible(3300): "", "/?SAMLRequest=" + url.QueryEscape(incompressible(2800)): "",
		"/reports?" + incompressible(6000): "cut /reports", "/" + incompressible(6000) + "?b": "cut /", "/a?" + incompressible(60000): "cut /a",
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
	p := newProvider(t)
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

func TestLoginBookmarkOfTheCallback(t *testing.T) {
	p := newProvider(t)
	b := newBrowser(t, start(t, p.options()))
	if seen := b.open("/oidc/callback").upstream(); seen.URI != "/" {
		t.Errorf("expected the front page after a sign-in, got %q", seen.URI)
	}
	if seen := b.open("/oidc/callback").upstream(); seen.URI != "/" {
		t.Errorf("expected the front page, got %q", seen.URI)
	}
}

func TestLoginIssuerInTheAnswer(t *testing.T) {
	p := newProvider(t)
	p.edit("discovery", func(d map[string]any) { d["authorization_response_iss_parameter_supported"] = true })
	s := start(t, p.options())
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page"))
	b.look(back.String()).expect(http.StatusBadGateway)
	s.expectLog("iss")
	back = b.answered(b.begin("/page"))
	replaceQuery(back, "iss", p.issuer)
	b.open(back.String()).upstream()
	// An error of another provider, or of one that does not say who it is, ends there as well: it is not believed.
	p.refuse("access_denied", "")
	for issuer, status := range map[string]int{"": http.StatusBadGateway, "https://evil.example.com": http.StatusBadGateway, p.issuer: http.StatusForbidden} {
		fresh := newBrowser(t, s)
		back = fresh.answered(fresh.begin("/page"))
		replaceQuery(back, "iss", issuer)
		fresh.look(back.String()).expect(status)
	}
	if p.count("token") != 1 {
		t.Errorf("expected one exchange, got %d", p.count("token"))
	}
}

func TestLoginProviderRefuses(t *testing.T) {
	for _, c := range []struct {
		code   string
		status int
	}{
		{"access_denied", http.StatusForbidden}, {"login_required", http.StatusForbidden}, {"interaction_required", http.StatusForbidden}, {"consent_required", http.StatusForbidden}, {"account_selection_required", http.StatusForbidden},
		{"invalid_scope", http.StatusInternalServerError}, {"unauthorized_client", http.StatusInternalServerError}, {"invalid_request", http.StatusInternalServerError}, {"something_of_theirs", http.StatusBadGateway},
		{"temporarily_unavailable", http.StatusServiceUnavailable}, {"server_error", http.StatusServiceUnavailable},
	} {
		c := c
		t.Run(c.code, func(t *testing.T) {
			p := newProvider(t)
			p.refuse(c.code, "because <b>we</b> say so")
			s := start(t, p.options())
			b := newBrowser(t, s)
			r := b.open("/page").expect(c.status, "/page")
			if strings.Contains(r.body, "<b>we</b>") || len(r.trail) != 3 {
				t.Errorf("expected one page without the provider's markup, got %s\n%s", r.trail, r.body)
			}
			s.expectLog(c.code, "because")
			if names := b.cookieNames(s.stateCookie()); len(names) > 0 {
				t.Errorf("the attempt has ended, got %q", names)
			}
			p.answer("authorize", nil)
			b.signIn("/page")
		})
	}
}

// Keycloak drops the sign-in of a tab that was overtaken by another one's. Who is signed in by then goes to the page, for others the sign-in
// begins once more, and only once.
func TestLoginOvertakenByAnotherTab(t *testing.T) {
	for _, mode := range []string{"query", "form_post"} {
		p := newProvider(t)
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
	refusing := newProvider(t)
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
	p := newProvider(t)
	p.edit("discovery", func(d map[string]any) { d["authorization_response_iss_parameter_supported"] = true })
	p.refuse("temporarily_unavailable", "authentication_expired")
	newBrowser(t, start(t, p.options())).open("/").expect(http.StatusBadGateway)
	if p.count("authorize") != 1 {
		t.Errorf("it began again %d times", p.count("authorize")-1)
	}
}

func TestLoginTokenEndpointTroubles(t *testing.T) {
	t.Parallel()
	thief := newProvider(t) // where a redirect would take the code and the secret
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		status int
		wants  []string
	}{
		{"HTML", answerHTML(), 503, []string{"token endpoint"}},
		{"500", answerText(500, "text/plain", "oops"), 503, []string{"token endpoint", "500"}},
		{"401", answerJSON(401, map[string]any{"error": "invalid_client", "error_description": "bad credentials"}), 500, []string{"configuration", "invalid_client", "bad credentials", "clientSecret"}},
		{"invalid_grant", answerJSON(400, map[string]any{"error": "invalid_grant", "error_description": "code expired"}), 400, []string{"invalid_grant", "code expired"}},
		{"401 without a word", answerText(401, "text/plain", ""), 502, []string{"401", "clientSecret"}},
		{"invalid_grant in a 200", answerJSON(200, map[string]any{"error": "invalid_grant"}), 400, []string{"invalid_grant"}},
		{"invalid_client in a 200", answerJSON(200, map[string]any{"error": "invalid_client"}), 500, []string{"configuration", "invalid_client", "clientSecret"}},
		{"invalid_request", answerJSON(400, map[string]any{"error": "invalid_request", "error_description": "Invalid or expired code parameter."}), 400, []string{"expired code"}},
		{"access_denied", answerJSON(403, map[string]any{"error": "access_denied"}), 403, []string{"access_denied"}},
		{"invalid_target", answerJSON(400, map[string]any{"error": "invalid_target"}), 502, []string{"invalid_target"}},
		{"not now", answerJSON(400, map[string]any{"error": "temporarily_unavailable"}), 503, []string{"temporarily_unavailable"}},
		{"10 MB", answerText(200, "application/json", `{"access_token":"`+strings.Repeat("x", 10<<20)+`"}`), 503, []string{"larger than"}},
		{"endless", answerEndless(), 503, []string{"larger than"}},
		{"nothing", answerNothing(), 503, []string{"in time"}},
		{"broken connection", answerBroken(), 503, []string{"token endpoint"}},
		{"redirect", answerRedirect(thief.URL + "/token"), 503, []string{"token endpoint", "307"}},
		{"no access token", answerJSON(200, map[string]any{"token_type": "Bearer", "id_token": "x"}), 503, []string{"access_token"}},
		{"no ID token", answerJSON(200, map[string]any{"token_type": "Bearer", "access_token": "x"}), 502, []string{"id_token"}},
		{"type we do not know", answerJSON(200, map[string]any{"token_type": "mac", "access_token": "x", "id_token": "x"}), 503, []string{"token_type", "mac"}},
		{"array", answerText(200, "application/json", `[1]`), 503, []string{"token endpoint"}},
		{"two access tokens", answerText(200, "application/json", `{"access_token":"a","access_token":"b","token_type":"Bearer"}`), 503, []string{"token endpoint"}},
		{"ID token that is none", answerJSON(200, map[string]any{"token_type": "Bearer", "access_token": "x", "id_token": "a.b"}), 502, []string{"id token"}},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newProvider(t)
			p.answer("token", c.answer)
			s := start(t, p.options(map[string]any{"clientConfig": map[string]any{"timeoutSeconds": 1}}))
			b := newBrowser(t, s)
			begin := time.Now()
			r := b.open("/page").expect(c.status, "/page")
			if time.Since(begin) > 5*time.Second {
				t.Errorf("took %s", time.Since(begin))
			}
			if b.cookie(s.sessionCookie()) != nil {
				t.Error("there is a session")
			}
			if p.count("token") != 1 {
				t.Errorf("a code is sent once, got %d", p.count("token"))
			}
			if strings.Contains(s.logs()+r.body, p.clientSecret) {
				t.Error("the client secret was written")
			}
			s.expectLog(c.wants...)
		})
	}
	if thief.count("token") != 0 {
		t.Error("a POST followed a redirect")
	}
}

func TestLoginIDToken(t *testing.T) {
	hour := int64(3600)
	now := time.Now().Unix()
	set := func(name string, value any) func(map[string]any) {
		return func(c map[string]any) { c[name] = value }
	}
	for _, c := range []struct {
		name    string
		edit    func(map[string]any)
		options map[string]any
		want    string // in the log; "": the sign-in succeeds
	}{
		{"for someone else", set("aud", "other-app"), nil, `audience: expected "app"`},
		{"for several, one a stranger", func(c map[string]any) { c["aud"] = []string{"app", "stranger"}; c["azp"] = "app" }, nil, "audience"},
		{"for several, all trusted", func(c map[string]any) { c["aud"] = []string{"app", "friend"}; c["azp"] = "app" }, map[string]any{"trustedAudiences": "friend"}, ""},
		{"for nobody", set("aud", []string{}), nil, "audience"},
		{"no audience", set("aud", nil), nil, "audience"},
		{"made for another party", set("azp", "other-app"), nil, "azp"},
		{"of another issuer", set("iss", "https://evil.example.com"), nil, "issuer"},
		{"of the trusted issuer", set("iss", "https://other.example.com"), map[string]any{"trustedIssuer": "https://other.example.com"}, ""},
		{"of any issuer, unchecked", set("iss", "https://any.example.com"), map[string]any{"disableIssuerCheck": true}, ""},
		{"no subject", set("sub", ""), nil, "sub"},
		{"a number for a subject", set("sub", 7), nil, "sub"},
		{"a subject of 300 bytes", set("sub", strings.Repeat("a", 300)), nil, "sub"},
		{"ended", set("exp", now-hour), nil, "exp"},
		{"no end", func(c map[string]any) { delete(c, "exp") }, nil, "exp"},
		{"an end beyond numbers", set("exp", 1e300), nil, "exp"},
		{"issued in an hour", set("iat", now+hour), nil, "iat"},
		{"issued 30 s ahead of us", set("iat", now+30), nil, ""},
		{"issued an hour ago", set("iat", now-hour), nil, "iat"},
		{"no time of issue", func(c map[string]any) { delete(c, "iat") }, nil, "iat"},
		{"another nonce", set("nonce", "other"), nil, "nonce"},
		{"no nonce", func(c map[string]any) { delete(c, "nonce") }, nil, "nonce"},
		{"hash of another access token", set("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), nil, "at_hash"},
		{"a logout token", set("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}), nil, "events"},
		{"no authentication time though asked", func(c map[string]any) { delete(c, "auth_time") }, map[string]any{"maxAge": 60}, "auth_time"},
		{"signed in too long ago", set("auth_time", now-hour), map[string]any{"maxAge": 60}, "auth_time"},
		{"signed in lately", set("auth_time", now-30), map[string]any{"maxAge": 60}, ""},
		{"level too low", set("acr", "bronze"), map[string]any{"acrValues": "gold,silver"}, "acr"},
		{"no level", func(c map[string]any) {}, map[string]any{"acrValues": "gold"}, "acr"},
		{"level high enough", set("acr", "silver"), map[string]any{"acrValues": "gold,silver"}, ""},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newProvider(t)
			p.edit("id_token", c.edit)
			s := start(t, p.options(map[string]any{"userinfo": true}, c.options))
			b := newBrowser(t, s)
			if c.want == "" {
				b.signIn("/page")
				return
			}
			b.open("/page").expect(http.StatusBadGateway)
			if b.cookie(s.sessionCookie()) != nil || p.count("userinfo") > 0 {
				t.Error("there is a session, or the access token was used")
			}
			s.expectLog("id token", c.want)
		})
	}
}

func TestLoginAlgorithms(t *testing.T) {
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		alg := alg
		t.Run(alg, func(t *testing.T) {
			p := newProvider(t)
			p.useAlg(alg)
			newBrowser(t, start(t, p.options())).signIn("/") // what the provider lists
			s := start(t, p.options(map[string]any{"idTokenSigningAlg": alg, "clientConfig": map[string]any{"timeoutSeconds": 4}}))
			newBrowser(t, s).signIn("/")
			refusesBadSignature(t, p, s)
		})
	}
	t.Run("HS256 when it is named", func(t *testing.T) {
		p := newProvider(t)
		p.clientSecret = strings.Repeat("long-enough-", 4)
		p.useAlg("HS256")
		s := start(t, p.options(map[string]any{"idTokenSigningAlg": "HS256"}))
		newBrowser(t, s).signIn("/")
		refusesBadSignature(t, p, s)
	})
}

// refusesBadSignature tries an ID token whose signature has one other character.
func refusesBadSignature(t *testing.T, p *fakeProvider, s *testSite) {
	t.Helper()
	p.edit("token", func(d map[string]any) {
		raw := d["id_token"].(string)
		at := strings.LastIndex(raw, ".")
		d["id_token"] = raw[:at] + flipped(raw[at:])
	})
	newBrowser(t, s).open("/").expect(http.StatusBadGateway)
	s.expectLog("id token: signature: does not match")
}

func TestLoginSignatureIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		bend func(p *fakeProvider)
		want string
	}{
		{"HS256 with the secret though not named", func(p *fakeProvider) {
			p.key = &providerKey{kid: "one", alg: "HS256", private: []byte(strings.Repeat("long enough ", 4))}
		}, "alg"},
		{"HS256 with the public key", func(p *fakeProvider) {
			p.key = &providerKey{kid: "one", alg: "HS256", private: []byte(fmt.Sprint(p.keySet()))}
		}, "alg"},
		{"none", func(p *fakeProvider) { p.edit("header", func(h map[string]any) { h["alg"] = "none" }) }, "alg"},
		{"no signature at all", func(p *fakeProvider) { p.key = &providerKey{alg: "none"} }, "alg"},
		{"nOnE", func(p *fakeProvider) { p.edit("header", func(h map[string]any) { h["alg"] = "nOnE" }) }, "alg"},
		{"a member of another family", func(p *fakeProvider) { p.key = &providerKey{kid: "one", alg: "ES256", private: commonKey("ES256")} }, "alg"},
		{"a stranger's key under our key's name", func(p *fakeProvider) {
			p.key = &providerKey{kid: "one", alg: "RS256", private: newPrivateKey("RS256")}
		}, "signature"},
		{"a key the provider does not have", func(p *fakeProvider) {
			p.key = &providerKey{kid: "two", alg: "RS256", private: newPrivateKey("RS256")}
		}, "two"},
		{"a key in the token itself", func(p *fakeProvider) {
			p.key = &providerKey{kid: "two", alg: "RS256", private: newPrivateKey("RS256")}
			p.edit("header", func(h map[string]any) { h["jwk"] = p.key.public(); delete(h, "kid") })
		}, "id token"},
		{"crit", func(p *fakeProvider) {
			p.edit("header", func(h map[string]any) { h["crit"] = []string{"x"}; h["x"] = 1 })
		}, "crit"},
		{"a key for encryption", func(p *fakeProvider) {
			p.edit("jwks", func(d map[string]any) {
				d["keys"].([]any)[0].(map[string]any)["use"] = "enc"
			})
		}, "id token"},
		{"an encrypted token", func(p *fakeProvider) {
			p.edit("token", func(d map[string]any) { d["id_token"] = d["id_token"].(string) + ".a.b" })
		}, "id token"},
		{"a line break in the token", func(p *fakeProvider) {
			p.edit("token", func(d map[string]any) {
				d["id_token"] = d["id_token"].(string)[:40] + "\n" + d["id_token"].(string)[40:]
			})
		}, "id token"},
		{"a claim twice", func(p *fakeProvider) {
			p.edit("token", func(d map[string]any) {
				claims := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"` + p.issuer + `","sub":"ada","sub":"eve"}`))
				signed := strings.Split(d["id_token"].(string), ".")[0] + "." + claims
				d["id_token"] = signed + "." + base64.RawURLEncoding.EncodeToString(p.key.sign(signed))
			})
		}, "id token"},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newProvider(t)
			c.bend(p)
			s := start(t, p.options(map[string]any{"userinfo": true}))
			b := newBrowser(t, s)
			r := b.open("/page")
			if r.isUpstream() || b.cookie(s.sessionCookie()) != nil || r.status < 400 || p.count("userinfo") > 0 {
				t.Errorf("the token was accepted: %s", r.trail)
			}
			s.expectLog("id token", c.want)
		})
	}
}

func TestLoginStaysOnOurOwnOrigin(t *testing.T) {
	for _, path := range []string{
		"//evil.example.com/", "///evil.example.com", "/\\evil.example.com", "/%5cevil.example.com", "/%09/evil.example.com", "/.//evil.example.com",
		"/@evil.example.com", "/page?next=https://evil.example.com", "/;//evil.example.com", "/%2f%2fevil.example.com", "//evil.example.com/%2f..",
	} {
		p := newProvider(t)
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

func TestLoginUserinfo(t *testing.T) {
	options := map[string]any{"userinfo": true, "forwardHeaders": map[string]string{"X-Locale": "locale", "X-Info": "userinfo.email", "X-Mail": "email"}}
	t.Run("merged under the ID token", func(t *testing.T) {
		p := newProvider(t)
		p.edit("userinfo", func(info map[string]any) { info["email"] = "info@example.com" })
		seen := newBrowser(t, start(t, p.options(options))).signIn("/").upstream()
		if seen.Headers.Get("X-Locale") != "en" || seen.Headers.Get("X-Mail") != "ada@example.com" || seen.Headers.Get("X-Info") != "info@example.com" {
			t.Errorf("got %q", seen.Headers)
		}
		if p.count("userinfo") != 1 {
			t.Errorf("expected one call at sign-in, got %d", p.count("userinfo"))
		}
		for endpoint, method := range map[string]string{"discovery": "GET", "jwks": "GET", "token": "POST", "userinfo": "GET"} {
			call := p.lastCall(endpoint)
			if call.method != method || !strings.HasPrefix(call.header.Get("Accept"), "application/json") || !strings.HasPrefix(call.header.Get("User-Agent"), "traefik-oidc/") || endpoint != "token" && len(call.form) > 0 {
				t.Errorf("%s: got %s %q %q", endpoint, call.method, call.form, call.header)
			}
		}
	})
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		edit   func(map[string]any)
		status int
	}{
		{"of somebody else", nil, func(info map[string]any) { info["sub"] = "eve" }, 502},
		{"without subject", nil, func(info map[string]any) { delete(info, "sub") }, 502},
		{"refused", answerText(401, "text/plain", ""), nil, 500},
		{"not allowed", answerText(403, "text/plain", ""), nil, 500},
		{"too often", answerText(429, "text/plain", ""), nil, 503},
		{"HTML", answerHTML(), nil, 503},
		{"a signed answer that is none", answerText(200, "application/jwt", "e30.e30.AA"), nil, 502},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newProvider(t)
			p.answer("userinfo", c.answer)
			p.edit("userinfo", c.edit)
			s := start(t, p.options(options))
			b := newBrowser(t, s)
			b.open("/").expect(c.status)
			if b.cookie(s.sessionCookie()) != nil {
				t.Error("there is a session")
			}
			s.expectLog("userinfo")
		})
	}
}

// UserInfo may be a signed JWT (OIDC Core 5.3.2), which is believed as much as an ID token.
func TestLoginSignedUserinfo(t *testing.T) {
	t.Parallel()
	now := time.Now().Unix()
	stranger := &providerKey{kid: "one", alg: "RS256", private: newPrivateKey("RS256")}
	for _, c := range []struct {
		name   string
		change map[string]any
		key    *providerKey
		status int
		log    string
	}{
		{"good", nil, nil, 200, ""},
		{"without issuer and audience", map[string]any{"iss": nil, "aud": nil}, nil, 200, ""},
		{"for us among others", map[string]any{"aud": []string{"app", "project"}}, nil, 200, ""},
		{"of somebody else", map[string]any{"sub": "eve"}, nil, 502, "userinfo: sub"},
		{"without subject", map[string]any{"sub": nil}, nil, 502, "userinfo: sub"},
		{"of another issuer", map[string]any{"iss": "https://evil.example.com"}, nil, 502, "userinfo: issuer: expected"},
		{"for another client", map[string]any{"aud": "other"}, nil, 502, "userinfo: audience: expected"},
		{"ended", map[string]any{"exp": now - 3600}, nil, 502, "userinfo: exp: expired"},
		{"a logout token", map[string]any{"events": map[string]any{}}, nil, 502, "userinfo: events"},
		{"signed by a stranger", nil, stranger, 502, "userinfo: signature"},
		{"not signed", nil, &providerKey{alg: "none"}, 502, "userinfo: alg"},
	} {
		p := newProvider(t)
		claims := map[string]any{"iss": p.issuer, "aud": "app", "sub": "ada", "locale": "fr"}
		for name, value := range c.change {
			if claims[name] = value; value == nil {
				delete(claims, name)
			}
		}
		p.answer("userinfo", func(rw http.ResponseWriter, req *http.Request) {
			ours := p.key
			if c.key != nil {
				p.key = c.key
			}
			answerText(200, "application/jwt", p.sign(claims)+"\n")(rw, req)
			p.key = ours
		})
		s := start(t, p.options(map[string]any{"userinfo": true, "forwardHeaders": map[string]string{"X-Locale": "userinfo.locale"}}))
		r := newBrowser(t, s).open("/")
		if r.status != c.status || c.status == 200 && r.upstream().Headers.Get("X-Locale") != "fr" {
			t.Errorf("%s: expected %d, got %s", c.name, c.status, r.story())
		}
		if c.log != "" {
			s.expectLog(c.log)
		}
	}
}

func TestLoginClientAuthentication(t *testing.T) {
	key := pemOf(t, commonKey("ES256"))
	for _, c := range []struct {
		name    string
		options map[string]any
		check   func(call *providerCall) string
	}{
		{"client_secret_basic by default", nil, func(call *providerCall) string {
			if call.header.Get("Authorization") == "" || call.form.Get("client_secret") != "" {
				return "expected Basic and nothing in the form"
			}
			return ""
		}},
		{"client_secret_post", map[string]any{"clientAuthMethod": "client_secret_post"}, func(call *providerCall) string {
			if call.header.Get("Authorization") != "" || call.form.Get("client_secret") == "" {
				return "expected the secret in the form"
			}
			return ""
		}},
		{"private_key_jwt", map[string]any{"clientAuthMethod": "private_key_jwt", "clientKey": key, "clientKeyAlg": "ES256", "clientKeyId": "k1"}, func(call *providerCall) string {
			parts := strings.Split(call.form.Get("client_assertion"), ".")
			if len(parts) != 3 || call.form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || call.form.Get("client_secret") != "" {
				return "expected an assertion alone"
			}
			header, _ := base64.RawURLEncoding.DecodeString(parts[0])
			claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
			if !holdsAll(string(header), []string{`"ES256"`, `"k1"`}) || !holdsAll(string(claims), []string{`"iss":"app"`, `"sub":"app"`, `"aud":"http://127.0.0.1`, `"jti"`, `"iat"`, `"exp"`}) || call.form.Get("client_id") != "app" {
				return string(header) + string(claims)
			}
			return ""
		}},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newProvider(t)
			newBrowser(t, start(t, p.options(c.options))).signIn("/")
			if problem := c.check(p.lastCall("token")); problem != "" {
				t.Errorf("%s, got %q %q", problem, p.lastCall("token").form, p.lastCall("token").header)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		p := newProvider(t)
		p.clientSecret = ""
		newBrowser(t, start(t, p.options(map[string]any{"session": map[string]any{"secret": "the-secret-of-sixteen-bytes"}}))).signIn("/")
	})
	t.Run("a name and a secret with every kind of character", func(t *testing.T) { // RFC 6749 2.3.1
		p := newProvider(t)
		p.clientID = "urn:app %+&=/é~"
		p.clientSecret = "a:b %+&=/é\"'~"
		newBrowser(t, start(t, p.options(sessionOptions("secret", "the-secret-of-sixteen-bytes")))).signIn("/")
	})
}

func TestLoginFormPost(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"responseMode": "form_post"}))
	b := newBrowser(t, s)
	b.signIn("/page")
	if p.lastCall("authorize").form.Get("response_mode") != "form_post" {
		t.Error("form_post was not asked for")
	}
	p.answer("authorize", answerText(200, "text/html", `<form method="post" action="`+app+`/oidc/callback"><input type="hidden" name="state" value="x"></form>`))
	fresh := newBrowser(t, s)
	fresh.open("/page").expect(http.StatusBadRequest)
	p.refuse("login_required", "ask nobody")
	fresh.open("/page").expect(http.StatusForbidden, "/page")
	s.expectLog("login_required", "ask nobody")
	if names := fresh.cookieNames(s.stateCookie() + "."); len(names) != 1 || p.count("token") != 1 {
		t.Errorf("expected the first attempt of two to be left, got %q, %d token requests", names, p.count("token"))
	}
}

func TestLoginCallbackMethods(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options())
	b := newBrowser(t, s)
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch} {
		r := b.fetch(method, "/oidc/callback", "")
		if r.isUpstream() || r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") == "" {
			t.Errorf("%s: %d %q", method, r.status, r.header)
		}
	}
}

func TestLoginURL(t *testing.T) {
	p := newProvider(t)
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
		if c.status == 302 && (posted.status != 303 || posted.location().Query().Get("login_hint") != r.location().Query().Get("login_hint")) || c.status == 400 && posted.status != 400 {
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
		p := newProvider(t)
		p.edit("discovery", func(d map[string]any) { d["require_pushed_authorization_requests"] = c.required })
		b := newBrowser(t, start(t, p.options(map[string]any{"par": c.par})))
		sent := b.begin("/page")
		if c.calls == 1 && (len(sent.Query()) != 2 || sent.Query().Get("request_uri") == "" || sent.Query().Get("client_id") != "app") {
			t.Errorf("par: %s: the browser carries %s", c.par, sent)
		}
		if pushed := p.lastCall("par"); c.calls == 1 && (pushed.header.Get("Authorization") == "" || pushed.form.Get("client_secret") != "" || pushed.form.Get("client_id") != "app" ||
			pushed.form.Get("redirect_uri") != app+"/oidc/callback" || pushed.form.Get("code_challenge_method") != "S256" || len(pushed.form["request_uri"]) > 0) {
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
	} {
		p := newProvider(t)
		p.answer("par", c.answer)
		s := start(t, p.options(map[string]any{"par": true}))
		newBrowser(t, s).open("/page").expect(c.status)
		s.expectLog("par: ")
		if p.count("authorize") > 0 {
			t.Errorf("%s: the browser was sent on", name)
		}
	}
	p := newProvider(t) // RFC 9126 2.2 says 201; some say 200
	p.answer("par", func(rw http.ResponseWriter, req *http.Request) {
		recorder := httptest.NewRecorder()
		p.usual("par", recorder, req)
		answerText(200, "application/json", recorder.Body.String())(rw, req)
	})
	newBrowser(t, start(t, p.options(map[string]any{"par": true}))).signIn("/")
}

func TestLoginNeverMixesPeople(t *testing.T) {
	p := newProvider(t)
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

func TestLoginClockDifference(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{-30 * time.Second, 30 * time.Second} {
		p := newProvider(t)
		p.clockSkew = skew
		newBrowser(t, start(t, p.options())).signIn("/")
	}
	p := newProvider(t)
	p.clockSkew = 5 * time.Minute
	s := start(t, p.options())
	newBrowser(t, s).open("/").expect(http.StatusBadGateway)
	s.expectLog("id token", "iat")
}

func TestLoginSwitchesTheUser(t *testing.T) {
	p := newProvider(t)
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
		p := newProvider(t)
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
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"redirectUrl": "https://app.example.com:443/oidc/callback", "logoutUrl": "APP.example.com:443/logout", "loginUrl": "https://app.example.com/login"}))
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

// Other cookies may begin with the name of ours: they are no pending logins, however many there are.
func TestLoginLeavesCookiesOfOthers(t *testing.T) {
	p := newProvider(t)
	b := newBrowser(t, start(t, p.options(sessionOptions("name", "app.session"), map[string]any{"stateCookie": map[string]any{"name": "app"}})))
	b.setCookie("app.theme", "dark")
	b.setCookie("app.0123456789abc", "long")
	for i := 0; i < 40; i++ {
		b.begin(fmt.Sprintf("/tab%d", i))
	}
	b.signIn("/")
	for i := 0; i < 40; i++ {
		b.begin("/oidc/callback?switch=/")
	}
	for _, name := range []string{"app.theme", "app.0123456789abc", "app.session"} {
		if b.cookie(name) == nil {
			t.Errorf("%s was removed", name)
		}
	}
	if names := b.cookieNames("app."); len(names) < 3+10 || len(names) > 3+40 {
		t.Errorf("expected the last pending logins, got %q", names)
	}
}

// One host may have the callback of all, and every page is returned to.
func TestLoginAtOneHostForAll(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"redirectUrl": "https://auth.example.com/oidc/callback", "loginUrl": "/login", "unauthenticated": "auto"}, sessionOptions("domain", "example.com")))
	b := newBrowser(t, s)
	for _, host := range []string{"https://auth.example.com", "https://wiki.example.com", "https://evil.example.org"} {
		b.routes[host] = s
	}
	r := b.open("/reports?year=2025")
	if seen := r.upstream(); seen.URI != "/reports?year=2025" || r.url.Host != "app.example.com" || p.lastCall("authorize").form.Get("redirect_uri") != "https://auth.example.com/oidc/callback" {
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
		{"/login?rd=", "https://x@wiki.example.com/", ""}, {"/login?rd=", "https://wiki.example.com.example.org/", ""}, {"/login?rd=", "javascript:alert(1)", ""},
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

// A cookie for frames says so, whatever else is set, and one that ends with the browser has no age.
func TestSessionCookieOfFramesAndOfABrowser(t *testing.T) {
	p := newProvider(t)
	for _, c := range []struct {
		name    string
		options map[string]any
		want    string // of every cookie
	}{
		{"usual", nil, "SameSite=Lax Max-Age"},
		{"for frames", map[string]any{"partitioned": true}, "Secure SameSite=None Partitioned Max-Age"},
		{"for frames, as a label", map[string]any{"partitioned": "true", "sameSite": "strict"}, "Secure SameSite=None Partitioned Max-Age"},
		{"ends with the browser", map[string]any{"persistent": false}, "SameSite=Lax"},
	} {
		s := start(t, p.options(map[string]any{"session": c.options, "csrf": map[string]any{}, "logoutUrl": "/logout"}))
		b := newBrowser(t, s)
		for _, at := range []string{"/", "/oidc/callback", "/logout"} {
			var lines []string
			switch at {
			case "/":
				lines = b.look(at).header["Set-Cookie"]
			case "/oidc/callback":
				lines = b.look(b.answered(b.begin("/")).String()).header["Set-Cookie"]
			default:
				lines = b.look(at).header["Set-Cookie"]
			}
			for _, line := range lines {
				isSession := strings.Contains(line, "-session=") || strings.Contains(line, "hub-csrf-token=")
				for _, word := range strings.Fields("Secure SameSite=Lax SameSite=None SameSite=Strict Partitioned Max-Age") {
					isThere, isWanted := strings.Contains(line, "; "+word), strings.Contains(c.want, word)
					if word == "Secure" {
						isWanted = true // it is https
					}
					if word == "Max-Age" && (!isSession || at == "/logout") {
						isWanted = true
					}
					if isThere != isWanted {
						t.Errorf("%s, %s: %s must be there: %v, got %q", c.name, at, word, isWanted, line)
					}
				}
			}
			if len(lines) == 0 {
				t.Errorf("%s: no cookie at %s", c.name, at)
			}
		}
	}
}

// TestLoginQueryOfAnAddress: what an address has in its query already stays (RFC 6749 3.1).
func TestLoginQueryOfAnAddress(t *testing.T) {
	for address, want := range map[string]string{"https://id.example.com/a": "https://id.example.com/a?b=c", "https://id.example.com/a?x=y": "https://id.example.com/a?x=y&b=c"} {
		if got := withQuery(address, url.Values{"b": {"c"}}); got != want {
			t.Errorf("%s: got %s", address, got)
		}
	}
}
