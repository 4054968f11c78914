package oidc

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// incompressible makes text that does not deflate.
func incompressible(bytes int) string {
	text := ""
	for len(text) < bytes {
		text += randomText()
	}
	return text[:bytes]
}

func TestCookieAttributes(t *testing.T) {
	for _, c := range []struct {
		name       string
		options    map[string]any
		plainHTTP  bool
		cookie     string // %s is the middleware
		attributes string
	}{
		{"over https", nil, false, "__Host-%s-session", "Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"over http", nil, true, "%s-session", "Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"},
		{"named", sessionOptions("name", "mine"), false, "mine", "Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"named after the middleware", sessionOptions("name", "%s-mine"), false, "%s-mine", "Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"for a domain", sessionOptions("domain", "example.com"), false, "__Secure-%s-session",
			"Path=/; Domain=example.com; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"for a path", sessionOptions("path", "/app"), false, "__Secure-%s-session", "Path=/app; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"strict", sessionOptions("sameSite", "strict"), false, "__Host-%s-session", "Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Strict"},
		{"readable for scripts", sessionOptions("httpOnly", "false"), false, "__Host-%s-session", "Path=/; Max-Age=86400; Secure; SameSite=Lax"},
		{"never secure, as Traefik Hub has it", sessionOptions("secure", false), false, "%s-session", "Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"},
		{"for an hour", sessionOptions("expiry", 3600), false, "__Host-%s-session", "Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax"},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newFakeProvider(t)
			s := start(t, p.options(c.options))
			b := newBrowser(t, s)
			b.plainHTTP = c.plainHTTP
			r := b.open("/app/page")
			name := strings.ReplaceAll(c.cookie, "%s", strings.TrimSuffix(s.name, "@file"))
			got := b.cookie(name)
			if got == nil {
				t.Fatalf("expected the cookie %s, got %q", name, b.cookieNames(""))
			}
			_, attributes, _ := strings.Cut(got.Raw, "; ")
			late := fmt.Sprint("Max-Age=", got.MaxAge) // a second may have passed
			if attributes = strings.Replace(attributes, late, fmt.Sprint("Max-Age=", (got.MaxAge+59)/60*60), 1); attributes != c.attributes {
				t.Errorf("expected %s, got %s", c.attributes, attributes)
			}
			if c.name != "strict" { // the redirect back comes from another site: the browser holds a strict cookie back
				r.upstream()
			}
			if got := b.open("/app/other").upstream(); strings.Contains(got.Headers.Get("Cookie"), name) {
				t.Errorf("the upstream was shown the session: %q", got.Headers)
			}
		})
	}
}

// A middleware's name may have any character, the names of its cookies may not.
func TestCookieNamesOfAnyMiddleware(t *testing.T) {
	for name, cookie := range map[string]string{"team login": "team+login", "größe": "gr%C3%B6%C3%9Fe", "a/b": "a%2Fb", "a=b;c": "a%3Db%3Bc",
		`a"b\`: "a%22b%5C", "team.login-1_2~3": "team.login-1_2~3"} {
		p := newFakeProvider(t)
		s, err := buildNamed(t, name+"@file", p.options(map[string]any{"logoutUrl": "/logout", "csrf": map[string]any{"cookieName": "%s-csrf"}}))
		if err != nil {
			t.Fatal(err)
		}
		b := newBrowser(t, s)
		for i := 0; i < 2; i++ { // from memory as well
			b.setCookie("theirs", "1")
			if sent := b.open("/").upstream().Headers.Get("Cookie"); !strings.Contains(sent, "theirs=1") || strings.Contains(sent, "-session=") {
				t.Errorf("%s: the upstream gets %q", name, sent)
			}
		}
		if names := strings.Join(b.cookieNames(""), " "); names != "__Host-"+cookie+"-session __Host-"+cookie+"-state "+cookie+"-csrf theirs" {
			t.Errorf("%s: got the cookies %q", name, names)
		}
		b.open("/logout")
		b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	}
}

// A cookie's name counts as well for what a browser takes.
func TestCookieOfALongName(t *testing.T) {
	p := newFakeProvider(t)
	p.user["filler"] = incompressible(9000)
	s := start(t, p.options(sessionOptions("name", strings.Repeat("n", 199))))
	newBrowser(t, s).signIn("/") // fails for a cookie that is too large
	refused(t, p.options(sessionOptions("name", strings.Repeat("n", 200))), "session.name: must be shorter than 200 bytes")
}

func TestCookieSecureByHandOverHTTP(t *testing.T) {
	// Behind a load balancer that ends TLS and is not trusted by Traefik: the operator says that browsers come by https.
	p := newFakeProvider(t)
	s := start(t, p.options(sessionOptions("secure", true),
		map[string]any{"redirectUrl": app + "/oidc/callback", "stateCookie": map[string]any{"secure": true}}))
	b := newBrowser(t, s)
	b.header.Set("X-Forwarded-Proto", "http")
	r := b.look("/page")
	for _, c := range r.cookies {
		if !c.Secure {
			t.Errorf("%s is not Secure", c.Name)
		}
	}
	if got := r.location().Query().Get("redirect_uri"); got != app+"/oidc/callback" {
		t.Errorf("redirect_uri: got %q", got)
	}
}

func TestCookieUnprefixedOverHTTPS(t *testing.T) {
	// Another host of the same site can plant an unprefixed cookie, so over https ours has a prefix, and no other is taken.
	p := newFakeProvider(t)
	s := start(t, p.options())
	b := newBrowser(t, s)
	b.plainHTTP = true
	b.signIn("/")
	line := "Cookie: " + b.cookieLine(mustParse("http://app.example.com/"), "none", http.MethodGet)
	for i := 0; i < 3; i++ {
		b.fetch(http.MethodGet, "/", "").upstream() // remembered
	}
	secure := newBrowser(t, s)
	for i := 0; i < 3; i++ {
		if res := secure.raw("/", line); res.StatusCode == http.StatusOK {
			t.Errorf("request %d over https was let in with %q", i, line[:40])
		}
	}
	b.fetch(http.MethodGet, "/", "").upstream()
	if res := secure.raw("/", line); res.StatusCode == http.StatusOK {
		t.Errorf("over https, after http: let in")
	}
}

// A cookie for frames says so, whatever else is set, and one that ends with the browser has no age.
func TestCookieOfFramesAndOfABrowser(t *testing.T) {
	p := newFakeProvider(t)
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

func TestCookieIsRefused(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s, b := signedIn(t, p)
	good := b.cookie(s.sessionCookie()).Value
	s2, b2 := signedIn(t, p, sessionOptions("secret", "another-secret-of-32-bytes-or-so!!"))
	otherSecret := b2.cookie(s2.sessionCookie()).Value
	s3, b3 := signedIn(t, p)
	otherRoute := b3.cookie(s3.sessionCookie()).Value
	q := newFakeProvider(t)
	s4, b4 := signedIn(t, q)
	otherIssuer := b4.cookie(s4.sessionCookie()).Value
	b5 := newBrowser(t, s)
	b5.begin("/")
	pending := b5.cookie(b5.cookieNames(s.stateCookie())[0]).Value

	values := map[string]string{
		"empty": "", "one letter": "A", "not base64": "$$$", "a word": "undefined", "a bomb": strings.Repeat("A", 4000),
		"another secret's": otherSecret, "another route's": otherRoute, "another issuer's": otherIssuer, "a pending login": pending,
		"one character changed": flipped(good), "version changed": "C" + good[1:], "padded": good + "=", "twice": good + good,
		"chunk count 0": "0~" + good, "chunk count negative": "-3~" + good,
		"chunk count huge": "99999999~" + good, "chunk count beyond numbers": strings.Repeat("9", 40) + "~" + good, "chunk count 9": "9~" + good,
		"chunk count of a short text": "2~" + good[:100], "chunk count of nothing": "2~",
		"quoted": `"` + good[:20] + `"`, "with a line break escaped": good[:20] + "%0a" + good[20:],
	}
	for length := 0; length < len(good); length += len(good)/40 + 1 {
		values[fmt.Sprintf("cut to %d", length)] = good[:length]
	}
	for name, value := range values {
		c := newBrowser(t, s)
		c.setCookie(s.sessionCookie(), value)
		r := c.fetch(http.MethodGet, "/", "")
		if r.status != http.StatusUnauthorized {
			t.Errorf("%s: expected 401, got %d", name, r.status)
		}
		if r := c.open("/again"); !r.isUpstream() {
			t.Errorf("%s: signing in again must do: %s", name, r.story())
		}
	}
	// Among rubbish of the same name the good one is found: a neighbour can plant cookies.
	c := newBrowser(t, s)
	seen := rawUpstream(c, "/", "Cookie: "+s.sessionCookie()+"=rubbish; "+s.sessionCookie()+"="+good+"; other=1")
	if got := seen.Headers.Get("Cookie"); got != "other=1" {
		t.Errorf("the upstream was shown %q", got)
	}
	seen = rawUpstream(c, "/", "Cookie: "+s.sessionCookie()+"="+good+"; "+s.sessionCookie()+"=rubbish; other=1")
	if got := seen.Headers.Get("Cookie"); got != "other=1" {
		t.Errorf("the upstream was shown %q", got)
	}
	if strings.Contains(s.logs(), good[:60]) {
		t.Error("the log has the cookie")
	}
}

// What a session cannot hold is told at the sign-in: one that cannot be read would send the browser around in circles.
func TestCookieTooLargeToBeRead(t *testing.T) {
	for name, options := range map[string]map[string]any{"token": nil, "userinfo": {"userinfo": true}} {
		p := newFakeProvider(t)
		field := map[string]string{"token": "access_token", "userinfo": "picture"}[name]
		p.edit(name, func(answer map[string]any) { answer[field] = strings.Repeat("x", maxUnpacked) }) // deflates to nothing
		s := start(t, p.options(options))
		b := newBrowser(t, s)
		b.open("/page").expect(http.StatusInternalServerError)
		if p.count("authorize") != 1 || b.cookie(s.sessionCookie()) != nil {
			t.Errorf("%s: expected one sign-in and no session, got %d", name, p.count("authorize"))
		}
		s.expectLog("session: the tokens and the UserInfo have", "262144")
	}
}

func TestCookieChunks(t *testing.T) {
	p := newFakeProvider(t)
	s, b := signedIn(t, p, headersFor("X-Size", "size"), sessionOptions("expiry", 100000))
	p.user["filler"], p.user["size"] = incompressible(9000), "large"
	b.forgetCookies()
	b.signIn("/large")
	names := b.cookieNames(s.sessionCookie())
	if len(names) < 3 || len(names) > 8 {
		t.Fatalf("expected a few chunks, got %q", names)
	}
	for i := 0; i < 2; i++ {
		if seen := b.open("/").upstream(); seen.Headers.Get("X-Size") != "large" || strings.Contains(seen.Headers.Get("Cookie"), "session") {
			t.Errorf("got %q", seen.Headers)
		}
	}
	// A chunk is lost, swapped, or another session's.
	for _, bend := range []func(c *browser){
		func(c *browser) {
			c.mu.Lock()
			delete(c.cookies, names[1]+" app.example.com /")
			c.mu.Unlock()
		},
		func(c *browser) { c.setCookie(names[1], b.cookie(names[2]).Value) },
		func(c *browser) { c.setCookie(names[0], "2"+b.cookie(names[0]).Value[1:]) },
	} {
		c := b.copyOf()
		bend(c)
		if r := c.fetch(http.MethodGet, "/", ""); r.status != http.StatusUnauthorized {
			t.Errorf("a broken session was taken: %d", r.status)
		}
	}
	// A smaller session takes the place: no chunk of the old one stays.
	delete(p.user, "filler")
	b.setCookie(s.sessionCookie()+".8", "not a chunk")
	b.open("/oidc/callback?switch=/")
	if names := b.cookieNames(s.sessionCookie()); len(names) != 2 || !strings.HasSuffix(names[1], ".8") {
		t.Errorf("chunks of the old session stayed: %q", names)
	}
	p.user["filler"] = incompressible(40000)
	c := newBrowser(t, s)
	if r := c.open("/"); r.status < 400 || c.cookie(s.sessionCookie()) != nil {
		t.Errorf("expected an error: %s", r.story())
	}
	s.expectLog("Redis")
}

// Two middlewares may use one name for their cookies, one for a whole domain and one for a host in it: the browser sends both, and what
// belongs to one session must not be joined with what belongs to the other.
func TestCookieChunksOfANeighbour(t *testing.T) {
	p := newFakeProvider(t)
	wide := start(t, p.options(sessionOptions("name", "s", "domain", "example.com")))
	narrow := start(t, p.options(sessionOptions("name", "s", "secret", "another secret, as the other team has")))
	for _, first := range []string{"wide", "narrow"} {
		p.user["filler"] = incompressible(4500)
		b := newBrowser(t, wide)
		b.routes["https://staging.example.com"] = narrow
		pages := []string{app + "/", "https://staging.example.com/"}
		if first == "narrow" {
			pages = []string{pages[1], pages[0]}
		}
		for _, page := range append(pages, pages...) {
			b.signIn(page)
		}
		if names := b.cookieNames("s"); len(names) != 4 {
			t.Errorf("expected two cookies of each, got %q", names)
		}
		if p.count("token") != 2 {
			t.Errorf("%s first: expected a sign-in at each, got %d", first, p.count("token"))
		}
		// Sessions from before the chunks had marks go on.
		b.mu.Lock()
		for _, k := range b.cookies {
			if _, chunk, isMarked := strings.Cut(k.Value, "~"); isMarked && strings.HasPrefix(k.Name, "s.") {
				bare := *k.Cookie
				bare.Value = chunk
				k.Cookie = &bare
			}
		}
		b.mu.Unlock()
		b.signIn(app + "/other")
		if p.count("token") != 2 {
			t.Errorf("%s first: expected the old session to go on, got %d sign-ins", first, p.count("token"))
		}
		p.calls = map[string]int{}
	}
}

func TestCookieHoldsThreeLargeTokens(t *testing.T) {
	p := newFakeProvider(t)
	p.jwtAccessTokens = true
	roles := []any{"offline_access", "uma_authorization", "default-roles-company", "app-admin", "app-user", "reporting-reader"}
	for name, value := range map[string]any{
		"sub": "1c6b4d0e-6a0f-4b0c-9a64-2f7a1c5f1b7e", "typ": "ID", "auth_time": time.Now().Unix(), "session_state": "8f6b2f0e-2f3c-4f7e-9d5e-6d6a5b1e7a11",
		"acr": "1", "email_verified": true, "name": "Ada Lovelace", "preferred_username": "ada", "given_name": "Ada", "family_name": "Lovelace",
		"email": "ada@example.com", "groups": []any{"/staff", "/staff/engineering", "/admins"},
		"realm_access":    map[string]any{"roles": roles},
		"resource_access": map[string]any{"account": map[string]any{"roles": []any{"manage-account", "manage-account-links", "view-profile"}}},
	} {
		p.user[name] = value
	}
	p.edit("access_token", func(claims map[string]any) {
		for name, value := range p.user {
			claims[name] = value
		}
		claims["typ"], claims["azp"], claims["allowed-origins"] = "Bearer", "app", []string{app}
	})
	p.edit("token", func(answer map[string]any) {
		answer["refresh_token"] = p.sign(map[string]any{"iss": p.issuer, "sub": p.user["sub"], "typ": "Refresh", "azp": "app",
			"exp": time.Now().Unix() + 1800,
			"iat": time.Now().Unix(), "jti": "f4b1d0c3-7a57-4f0c-8e6a-0d3a2c9f8b77", "sid": p.user["session_state"], "scope": "openid email profile"})
	})
	s, b := signedIn(t, p)
	size := len(s.sessionCookie()) + 1 + len(b.cookie(s.sessionCookie()).Value)
	t.Logf("the cookie of three Keycloak tokens has %d bytes", size)
	if len(b.cookieNames(s.sessionCookie())) != 1 || size > 2662 {
		t.Errorf("expected one cookie of 2.6 KB at most, got %d bytes in %q", size, b.cookieNames(s.sessionCookie()))
	}
}

// TestCookieHoldsTokensOfAnyForm: what a provider gives comes back from the cookie as it was, whether it is a JWT or only looks like one.
func TestCookieHoldsTokensOfAnyForm(t *testing.T) {
	for _, raw := range []string{"", "opaque", "a.b", "eyJh.eyJz.c2ln", "eyJh.not base64!.c2ln", "eyJh.!.c2ln.", "eyJh.eyJz.c2ln.!",
		"eyJh.eyJz.c2ln.", "eyJh.eyJz.", "..", "eyJh.eyJz.c2ln.eyJz.eyJz",
		"eyJh.eyJz.c2lo=", "eyJh.eyJz.c2l_", "eyJh.eyJz.c2l-x", "eyJh.!.eyJz.c2ln"} {
		packed, err := packSession(&session{sessionRecord: sessionRecord{ID: "id"}, idToken: raw, refreshToken: raw})
		if err != nil {
			t.Fatal(err)
		}
		opened, err := unpackSession(packed)
		if err != nil || opened.ID != "id" {
			t.Fatalf("%q: %v", raw, err)
		}
		if tokens := rawTokens(opened.parts); tokens[0] != raw || tokens[1] != "" || tokens[2] != raw {
			t.Errorf("%q came back as %q", raw, tokens)
		}
	}
}

func TestCookiesOfOthersPass(t *testing.T) {
	p := newFakeProvider(t)
	s, b := signedIn(t, p)
	b.setCookie("theirs", "1")
	b.setCookie("login-session-of-theirs", "2")
	b.setCookie(s.sessionCookie()+"x", "3")
	b.begin("/oidc/callback?switch=/") // a pending login beside the session
	for i := 0; i < 2; i++ {
		got := b.open("/").upstream().Headers["Cookie"]
		line := strings.Join(got, "|")
		if len(got) != 1 || !holdsAll(line, []string{"theirs=1", "login-session-of-theirs=2", s.sessionCookie() + "x=3"}) ||
			strings.Contains(line, s.stateCookie()) || strings.Contains(line, s.sessionCookie()+"=") {
			t.Errorf("got %q", got)
		}
	}
}

// Other cookies may begin with the name of ours: they are no pending logins, however many there are.
func TestCookiesOfOthersStay(t *testing.T) {
	p := newFakeProvider(t)
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

func TestCookiesWithoutBlanks(t *testing.T) {
	p := newFakeProvider(t)
	s, b := signedIn(t, p)
	mine := s.sessionCookie() + "=" + b.cookie(s.sessionCookie()).Value
	for i := 0; i < 6; i++ { // other cookies change each time
		for line, want := range map[string]string{"a=%d; " + mine + ";b=2": "a=%d; b=2", "a=%d;" + mine + "; b=2": "a=%d; b=2",
			"a=%d; " + mine + ";": "a=%d", mine + ";b=%d": "b=%d"} {
			if got := withHeaders(s, "Cookie: "+fmt.Sprintf(line, i)).upstream().Headers.Get("Cookie"); strings.ReplaceAll(got, ";b",
				"; b") != fmt.Sprintf(want, i) {
				t.Errorf("%q: got %q", strings.ReplaceAll(line, mine, "session"), got)
			}
		}
		for _, line := range []string{"a=%d; x" + mine + "; b=2", "a=%d; b=2 " + mine + "; c=3", "x" + mine + "; b=%d"} {
			if got := withHeaders(s, "Cookie: "+fmt.Sprintf(line, i)).status; got != http.StatusUnauthorized {
				t.Errorf("%q: got %d for a cookie of another name", strings.ReplaceAll(line, mine, "session"), got)
			}
		}
	}
}

func TestCookiesInThousands(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s, b := signedIn(t, p)
	mine := s.sessionCookie() + "=" + b.cookie(s.sessionCookie()).Value
	for _, count := range []int{1000, 2900} {
		var pairs []string
		for i := 0; i < count; i++ {
			pairs = append(pairs, fmt.Sprintf("c%d=v%d", i, i))
		}
		many := strings.Join(pairs, "; ")
		begin := time.Now()
		if got := rawUpstream(b, "/", "Cookie: "+many[:len(many)/2]+"; "+mine+"; z="+many[len(many)/2:]); got.Headers.Get("Cookie") == "" {
			t.Errorf("%d cookies: the others are gone", count)
		}
		rawUpstream(b, "/", "Cookie: "+many, "Cookie: "+mine)
		var own []string
		for i := 0; i < count; i++ {
			own = append(own, s.sessionCookie()+"=AAAA", fmt.Sprintf("%s.%012x=AAAA", s.stateCookie(), i), fmt.Sprintf("%s.%d=A", s.sessionCookie(), i%10))
		}
		planted := strings.Join(own, "; ")
		if res := b.raw("/", "Cookie: "+planted, "Sec-Fetch-Mode: navigate"); res.StatusCode != http.StatusFound || len(res.Header["Set-Cookie"]) > 50 {
			t.Errorf("%d cookies of ours: %s with %d Set-Cookie lines", count, res.Status, len(res.Header["Set-Cookie"]))
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%d cookies took %s", count, took)
		}
	}
}

func TestCookiesOfOursInThousands(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"bypass": "Path(`/public`)"}))
	b := newBrowser(t, s)
	name := s.sessionCookie()
	line := strings.Repeat(name+"x=1; ", 8000) + strings.Repeat(name+"=1; ", 8000) + "z=1"
	begin := time.Now()
	seen := rawUpstream(b, "/public", "Cookie: "+line)
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
	if strings.Contains(seen.Headers.Get("Cookie"), name+"=") {
		t.Error("the upstream was shown cookies of ours")
	}
	seen = rawUpstream(b, "/public", "Cookie: ;; "+name+"=1; a=1; "+name+".1=1; __Secure-"+strings.TrimPrefix(name, "__Host-")+"=1;b=2; "+name+"=2")
	if got := seen.Headers.Get("Cookie"); got != "a=1; b=2" {
		t.Errorf("expected those of others alone, got %q", got)
	}
}

// Cookies that claim to have chunks must not make us read thousands of others again and again.
func TestCookiesAreReadOnce(t *testing.T) {
	req, err := http.NewRequest(http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Cookie", strings.Repeat("s=8~x; ", 5)+"s.1=y; s.1=z; s.3=w; "+strings.Repeat("a=b; ", 2900))
	if values := chunkedValues(req, "s"); strings.Join(values, " ") != "xyw xyw xyw xyw" {
		t.Errorf("got %q", values)
	}
	once := testing.AllocsPerRun(5, func() { cookies(req) })
	if all := testing.AllocsPerRun(5, func() { chunkedValues(req, "s") }); all > 10*once { // the interpreter has some of its own
		t.Errorf("to read them takes %.0f allocations, expected a few times that, got %.0f", once, all)
	}
}

// TestCookieValuesAreFew: of more cookies of one name than are looked at the first ones count.
func TestCookieValuesAreFew(t *testing.T) {
	req := &http.Request{Header: http.Header{"Cookie": {"a=0; b=x; a=1; a=2; a=3; a=4; a=5"}}}
	if got := strings.Join(cookieValues(req, "a"), ""); got != "0123" {
		t.Errorf("got %q", got)
	}
}

// TestCookieAge: browsers keep no cookie longer than 400 days, and a longer one may be dropped (RFC 6265bis 5.5).
func TestCookieAge(t *testing.T) {
	for seconds, want := range map[int]string{400*86400 - 1: "; Max-Age=34559999;", 400 * 86400: "; Max-Age=34560000;", 400*86400 + 1: "; Max-Age=34560000;", -1: "; Max-Age=0;"} {
		rw := httptest.NewRecorder()
		setCookie(rw, &cookie{path: "/", httpOnly: true}, "a", "x", true, seconds)
		if got := rw.Header().Get("Set-Cookie"); !strings.Contains(got, want) {
			t.Errorf("%d: got %q", seconds, got)
		}
	}
}
