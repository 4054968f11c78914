package oidc

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// signedIn is a site with somebody signed in.
func signedIn(t *testing.T, p *fakeProvider, more ...map[string]any) (*testSite, *browser) {
	t.Helper()
	s := start(t, p.options(more...))
	b := newBrowser(t, s)
	b.signIn("/")
	return s, b
}

func sessionOptions(pairs ...any) map[string]any {
	block := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		block[pairs[i].(string)] = pairs[i+1]
	}
	return map[string]any{"session": block}
}

func headersFor(pairs ...string) map[string]any {
	block := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		block[pairs[i]] = pairs[i+1]
	}
	return map[string]any{"forwardHeaders": block}
}

func TestSessionCookie(t *testing.T) {
	for _, c := range []struct {
		name      string
		options   map[string]any
		plainHTTP bool
		cookie    string // %s is the middleware
		check     func(c *http.Cookie) bool
	}{
		{"over https", nil, false, "__Host-%s-session", func(c *http.Cookie) bool {
			return c.Secure && c.HttpOnly && c.Path == "/" && c.Domain == "" && c.SameSite == http.SameSiteLaxMode && c.MaxAge > 86000
		}},
		{"over http", nil, true, "%s-session", func(c *http.Cookie) bool { return !c.Secure && c.HttpOnly }},
		{"named", sessionOptions("name", "mine"), false, "mine", func(c *http.Cookie) bool { return c.Secure }},
		{"named after the middleware", sessionOptions("name", "%s-mine"), false, "%s-mine", func(c *http.Cookie) bool { return c.Secure }},
		{"for a domain", sessionOptions("domain", "example.com"), false, "__Secure-%s-session", func(c *http.Cookie) bool { return c.Secure && c.Domain == "example.com" }},
		{"for a path", sessionOptions("path", "/app"), false, "__Secure-%s-session", func(c *http.Cookie) bool { return c.Path == "/app" }},
		{"strict", sessionOptions("sameSite", "strict"), false, "__Host-%s-session", func(c *http.Cookie) bool { return c.SameSite == http.SameSiteStrictMode }},
		{"readable for scripts", sessionOptions("httpOnly", "false"), false, "__Host-%s-session", func(c *http.Cookie) bool { return !c.HttpOnly }},
		{"never secure, as Traefik Hub has it", sessionOptions("secure", false), false, "%s-session", func(c *http.Cookie) bool { return !c.Secure }},
		{"for an hour", sessionOptions("expiry", 3600), false, "__Host-%s-session", func(c *http.Cookie) bool { return c.MaxAge <= 3600 && c.MaxAge > 3590 }},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newProvider(t)
			s := start(t, p.options(c.options))
			b := newBrowser(t, s)
			b.plainHTTP = c.plainHTTP
			r := b.open("/app/page")
			name := strings.ReplaceAll(c.cookie, "%s", strings.TrimSuffix(s.name, "@file"))
			got := b.cookie(name)
			if got == nil || !c.check(got) {
				t.Errorf("expected the cookie %s as told, got %v of %q", name, got, b.cookieNames(""))
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
func TestSessionCookieOfAnyMiddleware(t *testing.T) {
	for name, cookie := range map[string]string{"team login": "team+login", "größe": "gr%C3%B6%C3%9Fe", "a/b": "a%2Fb", "a=b;c": "a%3Db%3Bc", `a"b\`: "a%22b%5C", "team.login-1_2~3": "team.login-1_2~3"} {
		p := newProvider(t)
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

func TestSessionSecureByHandOverHTTP(t *testing.T) {
	// Behind a load balancer that ends TLS and is not trusted by Traefik: the operator says that browsers come by https.
	p := newProvider(t)
	s := start(t, p.options(sessionOptions("secure", true), map[string]any{"redirectUrl": app + "/oidc/callback", "stateCookie": map[string]any{"secure": true}}))
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

func TestSessionBehindProxies(t *testing.T) {
	// What a chain of trusted proxies makes of X-Forwarded-Proto still says how the browser came.
	p := newProvider(t)
	s := start(t, p.options())
	for proto, want := range map[string]string{"https": "https", "HTTPS": "https", "https,http": "https", "https, http": "https", "wss": "https",
		"http": "http", "http, https": "http", "httpsx": "http", "x": "http"} {
		b := newBrowser(t, s)
		b.header.Set("X-Forwarded-Proto", proto)
		if got := b.look("/page").location().Query().Get("redirect_uri"); got != want+"://app.example.com/oidc/callback" {
			t.Errorf("%s: redirect_uri: got %q", proto, got)
		}
	}
}

func TestSessionHeaders(t *testing.T) {
	p := newProvider(t)
	p.jwtAccessTokens = true
	p.user["nested"] = map[string]any{"a.b": "deep", "list": []any{"one", "two,three"}}
	_, b := signedIn(t, p, headersFor("X-User", "sub", "X-Groups", "groups", "X-Nested", `nested.a\.b`, "X-List", "nested.list", "X-Missing", "none",
		"X-Format", "{name} <{email}>", "Authorization", "Bearer {access_token}", "X-Scope", "access_token.scope"), map[string]any{"usernameClaim": "email"})
	for i, r := range []*reply{b.open("/first"), b.open("/second")} { // judged anew, and remembered
		seen := r.upstream()
		for name, want := range map[string]string{
			"X-User": "ada", "X-Groups": "admins,staff", "X-Nested": "deep", "X-List": "one,two%2Cthree",
			"X-Format": "Ada Lovelace <ada@example.com>", "X-Scope": "openid profile email",
		} {
			if got := strings.Join(seen.Headers[name], "|"); got != want {
				t.Errorf("request %d: %s: expected %q, got %q", i, name, want, got)
			}
		}
		if _, there := seen.Headers["X-Missing"]; there {
			t.Errorf("request %d: a missing claim gives no header, got %q", i, seen.Headers)
		}
		if !strings.HasPrefix(seen.Headers.Get("Authorization"), "Bearer ey") || seen.User != "ada@example.com" {
			t.Errorf("request %d: got user %q, %q", i, seen.User, seen.Headers)
		}
	}
}

func TestSessionCookiesOfOthersPass(t *testing.T) {
	p := newProvider(t)
	s, b := signedIn(t, p)
	b.setCookie("theirs", "1")
	b.setCookie("login-session-of-theirs", "2")
	b.setCookie(s.sessionCookie()+"x", "3")
	b.begin("/oidc/callback?switch=/") // a pending login beside the session
	for i := 0; i < 2; i++ {
		got := b.open("/").upstream().Headers["Cookie"]
		line := strings.Join(got, "|")
		if len(got) != 1 || !holdsAll(line, []string{"theirs=1", "login-session-of-theirs=2", s.sessionCookie() + "x=3"}) || strings.Contains(line, s.stateCookie()) || strings.Contains(line, s.sessionCookie()+"=") {
			t.Errorf("got %q", got)
		}
	}
}

// rawUpstream sends a request line by line and gives what the upstream received.
func rawUpstream(b *browser, target string, header ...string) *received {
	b.t.Helper()
	res := b.raw(target, header...)
	seen := &received{Headers: http.Header{}}
	if err := json.NewDecoder(res.Body).Decode(seen); err != nil || res.StatusCode != http.StatusOK {
		b.t.Errorf("the upstream was not reached: %s %v with %q", res.Status, err, header)
	}
	return seen
}

func TestSessionForgedHeadersAreRemoved(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options(headersFor("X-User", "sub", "X-Role", "no_such_claim", "Remote_User", "sub"), map[string]any{"bypass": "PathPrefix(`/public`)"}))
	b := newBrowser(t, s)
	b.signIn("/")
	line := "Cookie: " + b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	names := []string{"X-User", "x-user", "X_User", "x_user", "X.User", "X~User", "X-Role", "X_Role", "x-role", "X'Role", "X|Role", "Remote-User", "remote_user", "REMOTE.USER"}
	for _, odd := range "!#$%&*+^`" {
		names = append(names, "X"+string(odd)+"Role")
	}
	for _, path := range []string{"/page", "/page", "/public/page"} {
		for _, name := range names {
			seen := rawUpstream(b, path, line, name+": eve", name+": mallory")
			for got, values := range seen.Headers {
				if strings.Contains(strings.Join(values, ","), "eve") || strings.Contains(strings.Join(values, ","), "mallory") {
					t.Errorf("%s: %s arrived as %s", path, name, got)
				}
			}
			if user := strings.Join(seen.Headers["X-User"], "|"); user != "ada" && path == "/page" || user != "" && path != "/page" {
				t.Errorf("%s with %s: X-User is %q", path, name, user)
			}
		}
		if seen := rawUpstream(b, path, line, "X-Users: 1", "X-Use: 2", "XUser: 3"); len(seen.Headers["X-Users"])+len(seen.Headers["X-Use"])+len(seen.Headers["Xuser"]) != 3 {
			t.Errorf("%s: headers of others are gone: %q", path, seen.Headers)
		}
		if seen := rawUpstream(b, path, line, "Connection: X-User, X_Role, keep-alive"); strings.Contains(strings.ToLower(strings.Join(seen.Headers["Connection"], ",")), "x-user") {
			t.Errorf("%s: Connection still names our header: %q", path, seen.Headers)
		}
	}
	for _, mode := range []string{"forward"} {
		anonymous := newBrowser(t, start(t, p.options(headersFor("X-User", "sub"), map[string]any{"unauthenticated": mode})))
		if seen := rawUpstream(anonymous, "/", "X-User: eve", "x_user: eve"); len(seen.Headers["X-User"])+len(seen.Headers["X_user"]) > 0 {
			t.Errorf("nobody is %q", seen.Headers)
		}
	}
}

// What a visitor sends costs little, however much of it there is: every name would be looked at.
func TestSessionManyHeaders(t *testing.T) {
	p := newProvider(t)
	s, b := signedIn(t, p, headersFor("X-User", "sub"), map[string]any{"bypass": "Path(`/public`)", "backchannelLogoutUrl": "/back"})
	line := "Cookie: " + b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	var many []string
	for i := 0; i < 20000; i++ {
		many = append(many, fmt.Sprintf("X%x: 1", i))
	}
	for _, path := range []string{"/", "/public", "/back", "/oidc/callback"} {
		begin := time.Now()
		res := b.raw(path, append([]string{line}, many...)...)
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge || res.Header.Get("X-Upstream") != "" {
			t.Errorf("%s: got %s after %s", path, res.Status, time.Since(begin))
		}
	}
	s.expectLog("headers: more names than a request has")
	rawUpstream(b, "/", append([]string{line}, many[:400]...)...)
	trailers := strings.Join(many, ",")
	if res := b.raw("/public", "Transfer-Encoding: chunked", "Trailer: "+strings.ReplaceAll(trailers, ": 1", "")); res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("trailers: got %s", res.Status)
	}
	for _, list := range []string{"Connection", "Trailer"} {
		begin := time.Now()
		seen := rawUpstream(b, "/public", list+": keep-alive, "+strings.Repeat("x-user,", 50)+"x-other"+strings.Repeat(",a", 300000)+",x-user, x_user")
		if sent := strings.Join(seen.Headers[list], ","); strings.Contains(sent, "user") || !strings.Contains(sent, "x-other") || len(sent) > 300 || time.Since(begin) > time.Second {
			t.Errorf("%s: got %.100q of %d bytes after %s", list, sent, len(sent), time.Since(begin))
		}
	}
}

func TestSessionForgedTrailersAreRemoved(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options(headersFor("X-User", "sub")))
	b := newBrowser(t, s)
	b.signIn("/")
	line := b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	rawUpstream(b, "/", "Cookie: "+line) // so that it was seen before
	// A request that closes its connection goes the long way; one that does not is known at once, but for its trailers.
	for _, more := range []string{"Connection: close\r\n", ""} {
		conn, err := net.Dial("tcp", mustParse(s.url).Host)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: app.example.com\r\nX-Forwarded-Proto: https\r\n%sCookie: %s\r\nTransfer-Encoding: chunked\r\nTrailer: X-User, X_user, X-Other\r\n\r\n", more, line)
		fmt.Fprint(conn, "2\r\nhi\r\n0\r\nX-User: eve\r\nX_user: eve\r\nX-Other: 1\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		seen := &received{}
		err = json.NewDecoder(res.Body).Decode(seen)
		conn.Close()
		if err != nil {
			t.Fatal(res.Status, err)
		}
		for name := range seen.Trailers {
			if foldName(name) == "x-user" {
				t.Errorf("%q: the trailer arrived: %q", more, seen.Trailers)
			}
		}
		if seen.Body != "hi" || seen.Headers.Get("X-User") != "ada" {
			t.Errorf("%q: got %q by %q", more, seen.Body, seen.Headers.Get("X-User"))
		}
	}
}

func TestSessionStreams(t *testing.T) {
	// The first event of a stream arrives while the stream goes on: nothing stands between the upstream and the client.
	p := newProvider(t)
	s, b := signedIn(t, p)
	req := b.request(http.MethodGet, "/stream", "")
	req.Header.Set("Cookie", b.cookieLine(req.URL, "none", http.MethodGet))
	req.Header.Set("X-Forwarded-Proto", "https")
	req.URL.Scheme, req.URL.Host, req.Host = "http", mustParse(s.url).Host, "app.example.com"
	res, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); line != "data: 0\n" {
		t.Errorf("got %q, %v", line, err)
	}
}

func TestSessionCookieIsRefused(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s, b := signedIn(t, p)
	good := b.cookie(s.sessionCookie()).Value
	s2, b2 := signedIn(t, p, sessionOptions("secret", "another-secret-of-32-bytes-or-so!!"))
	otherSecret := b2.cookie(s2.sessionCookie()).Value
	s3, b3 := signedIn(t, p)
	otherRoute := b3.cookie(s3.sessionCookie()).Value
	q := newProvider(t)
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
		"chunk count huge": "99999999~" + good, "chunk count beyond numbers": strings.Repeat("9", 40) + "~" + good, "chunk count 9": "9~" + good, "chunk count of a short text": "2~" + good[:100],
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

func TestSessionManyCookies(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
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
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("%d cookies took %s", count, took)
		}
	}
}

// incompressible makes text that does not deflate.
func incompressible(bytes int) string {
	text := ""
	for len(text) < bytes {
		text += randomText()
	}
	return text[:bytes]
}

// Cookies that claim to have chunks must not make us read thousands of others again and again.
func TestSessionCookiesAreReadOnce(t *testing.T) {
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

func TestSessionChunks(t *testing.T) {
	p := newProvider(t)
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
	b.open("/oidc/callback?switch=/")
	if names := b.cookieNames(s.sessionCookie()); len(names) != 1 {
		t.Errorf("chunks of the old session stayed: %q", names)
	}
	p.user["filler"] = incompressible(40000)
	c := newBrowser(t, s)
	if r := c.open("/"); r.status < 400 || c.cookie(s.sessionCookie()) != nil {
		t.Errorf("expected an error: %s", r.story())
	}
	s.expectLog("Redis")
}

func TestSessionOfThreeLargeTokensFitsOneCookie(t *testing.T) {
	p := newProvider(t)
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
		answer["refresh_token"] = p.sign(map[string]any{"iss": p.issuer, "sub": p.user["sub"], "typ": "Refresh", "azp": "app", "exp": time.Now().Unix() + 1800,
			"iat": time.Now().Unix(), "jti": "f4b1d0c3-7a57-4f0c-8e6a-0d3a2c9f8b77", "sid": p.user["session_state"], "scope": "openid email profile"})
	})
	s, b := signedIn(t, p)
	size := len(s.sessionCookie()) + 1 + len(b.cookie(s.sessionCookie()).Value)
	t.Logf("the cookie of three Keycloak tokens has %d bytes", size)
	if len(b.cookieNames(s.sessionCookie())) != 1 || size > 2662 {
		t.Errorf("expected one cookie of 2.6 KB at most, got %d bytes in %q", size, b.cookieNames(s.sessionCookie()))
	}
}

func TestSessionSliding(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s, b := signedIn(t, p, sessionOptions("expiry", 6))
	still := b.copyOf() // keeps what it has, and looks only once more
	for i := 0; i < 5; i++ {
		time.Sleep(1500 * time.Millisecond)
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	for _, k := range still.cookies {
		k.expires = time.Time{}
	}
	still.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	if p.count("token") != 1 {
		t.Errorf("nothing had to be asked, got %d token requests", p.count("token"))
	}
	s.expectLog("expired")
}

func TestSessionEnds(t *testing.T) {
	for _, c := range []struct {
		name    string
		options map[string]any
	}{
		{"at its expiry, without sliding", sessionOptions("expiry", 2, "sliding", false)},
		{"at its longest life, however active", sessionOptions("maxLifetime", 2)},
		{"when idle", sessionOptions("idleTimeout", 1, "expiry", 1000)},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t)
			_, b := signedIn(t, p, c.options)
			keep := func() {
				b.mu.Lock()
				defer b.mu.Unlock()
				for _, k := range b.cookies {
					k.expires = time.Time{}
				}
			}
			keep()
			if c.name != "when idle" {
				for i := 0; i < 3; i++ {
					b.fetch(http.MethodGet, "/", "").upstream()
					keep()
					time.Sleep(200 * time.Millisecond)
				}
			}
			time.Sleep(2200 * time.Millisecond)
			b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
		})
	}
}

func TestSessionIsRefreshed(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.expiresIn = 2
	_, b := signedIn(t, p, headersFor("X-Name", "name", "X-Token", "{access_token}"))
	first := b.open("/").upstream().Headers.Get("X-Token")
	p.user["name"] = "Countess Lovelace"
	p.expiresIn = 300
	time.Sleep(2200 * time.Millisecond)
	seen := b.open("/").upstream()
	if seen.Headers.Get("X-Name") != "Countess Lovelace" || seen.Headers.Get("X-Token") == first {
		t.Errorf("got %q", seen.Headers)
	}
	if sent := p.lastCall("token"); sent.form.Get("grant_type") != "refresh_token" || sent.header.Get("Authorization") == "" {
		t.Errorf("got %q", sent.form)
	}
	b.open("/").upstream()
	if p.count("token") != 2 {
		t.Errorf("expected one refresh, got %d", p.count("token")-1)
	}
}

func TestSessionRefreshOnce(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.expiresIn = 2
	s, b := signedIn(t, p, headersFor("X-User", "sub"))
	p.expiresIn = 300
	time.Sleep(2200 * time.Millisecond)
	p.answer("token", func(rw http.ResponseWriter, req *http.Request) {
		time.Sleep(300 * time.Millisecond)
		p.usual("token", rw, req)
	})
	line := "Cookie: " + b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	var good, cookies int64
	inParallel(100, func(i int) {
		res := b.raw("/", line)
		if res.StatusCode == http.StatusOK {
			atomic.AddInt64(&good, 1)
		}
		if len(res.Header["Set-Cookie"]) > 0 {
			atomic.AddInt64(&cookies, 1)
		}
	})
	if good != 100 || p.count("token") != 2 {
		t.Errorf("expected 100 answers and one refresh, got %d and %d\n%s", good, p.count("token")-1, s.logs())
	}
	if cookies == 0 {
		t.Error("nobody got the new session")
	}
	// Late requests with the old cookie, some seconds on.
	time.Sleep(1500 * time.Millisecond)
	if res := b.raw("/", line); res.StatusCode != http.StatusOK {
		t.Errorf("a late request got %s", res.Status)
	}
	if p.count("token") != 2 {
		t.Errorf("the old refresh token was sent again")
	}
}

func TestSessionRefreshByTwoMiddlewares(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.expiresIn = 2
	options := p.options(sessionOptions("name", "shared"))
	one, other := start(t, options), start(t, options)
	third := start(t, p.options(sessionOptions("name", "shared"), map[string]any{"clientConfig": map[string]any{"timeoutSeconds": 4}}))
	b := newBrowser(t, one)
	b.routes[app+"/other"] = other
	b.routes[app+"/third"] = third
	b.signIn("/")
	p.expiresIn = 300
	time.Sleep(2200 * time.Millisecond)
	inParallel(30, func(i int) {
		c := b.copyOf()
		c.fetch(http.MethodGet, map[int]string{0: "/a", 1: "/other/b", 2: "/third/c"}[i%3], "").upstream()
	})
	if p.count("token") != 2 {
		t.Errorf("expected one refresh, got %d", p.count("token")-1)
	}
}

func TestSessionRefreshTroubles(t *testing.T) {
	now := time.Now().Unix()
	for _, c := range []struct {
		name  string
		bend  func(p *fakeProvider)
		stays bool
		log   string
	}{
		{"500", func(p *fakeProvider) { p.answer("token", answerText(500, "text/plain", "oops")) }, true, "500"},
		{"429", func(p *fakeProvider) { p.answer("token", answerText(429, "text/plain", "slowly")) }, true, "429"},
		{"HTML", func(p *fakeProvider) { p.answer("token", answerHTML()) }, true, "token endpoint"},
		{"connection broken", func(p *fakeProvider) { p.answer("token", answerBroken()) }, true, "token endpoint"},
		{"nothing", func(p *fakeProvider) { p.answer("token", answerNothing()) }, true, "in time"},
		{"our secret is wrong", func(p *fakeProvider) {
			p.answer("token", answerJSON(401, map[string]any{"error": "invalid_client"}))
		}, true, "invalid_client"},
		{"invalid_grant", func(p *fakeProvider) {
			p.answer("token", answerJSON(400, map[string]any{"error": "invalid_grant", "error_description": "session not active"}))
		}, false, "invalid_grant"},
		{"we may not use it", func(p *fakeProvider) {
			p.answer("token", answerJSON(400, map[string]any{"error": "unauthorized_client"}))
		}, true, "unauthorized_client"},
		{"our secret is wrong, says a 200", func(p *fakeProvider) {
			p.answer("token", answerJSON(200, map[string]any{"error": "invalid_client"}))
		}, true, "invalid_client"},
		{"it has no time", func(p *fakeProvider) {
			p.answer("token", answerJSON(400, map[string]any{"error": "temporarily_unavailable"}))
		}, true, "temporarily_unavailable"},
		{"it is broken", func(p *fakeProvider) { p.answer("token", answerJSON(500, map[string]any{"error": "invalid_grant"})) }, true, "500"},
		{"timeout of a proxy", func(p *fakeProvider) { p.answer("token", answerText(408, "text/plain", "")) }, true, "408"},
		{"404", func(p *fakeProvider) { p.answer("token", answerText(404, "text/html", "<p>")) }, true, "404"},
		{"redirect", func(p *fakeProvider) { p.answer("token", answerRedirect("http://127.0.0.1:1/")) }, true, "307"},
		{"neither tokens nor an error", func(p *fakeProvider) { p.answer("token", answerJSON(200, map[string]any{})) }, true, "no access_token"},
		{"invalid_request", refusedWith(400, `{"error":"invalid_request","error_description":"Refresh token is invalid or has already been claimed by another client."}`), false, "invalid_request"},
		{"invalid_scope", refusedWith(400, `{"error":"invalid_scope"}`), false, "invalid_scope"},
		{"a sentence", refusedWith(400, `{"error":"Refresh token has expired"}`), false, "Refresh token has expired"},
		{"a sentence that is no JSON", refusedWith(400, `the token is gone`), false, "400"},
		{"an object", refusedWith(400, `{"error":{"code":400,"message":"gone"}}`), false, "400"},
		{"access_denied", refusedWith(403, `{"error":"access_denied"}`), false, "access_denied"},
		{"not_allowed", refusedWith(403, `{"error":"not_allowed"}`), false, "not_allowed"},
		{"interaction_required", refusedWith(400, `{"error":"interaction_required","suberror":"basic_action"}`), false, "interaction_required"},
		{"401", refusedWith(401, `{"error":"invalid_grant"}`), false, "invalid_grant"},
		{"401 without a word", refusedWith(401, ``), false, "401"},
		{"403 without a word", refusedWith(403, ``), false, "403"},
		{"invalid_grant in a 200", refusedWith(200, `{"error":"invalid_grant"}`), false, "invalid_grant"},
		{"a word of its own in a 422", refusedWith(422, `{"error":"user_locked"}`), false, "user_locked"},
		{"ID token with another auth_time", func(p *fakeProvider) {
			p.edit("id_token", func(c map[string]any) { c["auth_time"] = now - 100 })
			p.edit("refreshed_id_token", func(c map[string]any) { c["auth_time"] = now })
		}, true, ""},
		{"no ID token", func(p *fakeProvider) { p.edit("token", func(a map[string]any) { delete(a, "id_token") }) }, true, ""},
		{"no refresh token", func(p *fakeProvider) { p.edit("token", func(a map[string]any) { delete(a, "refresh_token") }) }, true, ""},
		{"no end told", func(p *fakeProvider) { p.edit("token", func(a map[string]any) { delete(a, "expires_in") }) }, true, ""},
		{"poorer ID token", func(p *fakeProvider) {
			p.edit("refreshed_id_token", func(c map[string]any) { delete(c, "email"); delete(c, "name"); delete(c, "sid") })
		}, true, ""},
		{"ID token of somebody else", func(p *fakeProvider) {
			p.edit("refreshed_id_token", func(c map[string]any) { c["sub"] = "eve" })
		}, false, "sub"},
		{"ID token of another issuer", func(p *fakeProvider) {
			p.edit("refreshed_id_token", func(c map[string]any) { c["iss"] = "https://evil.example.com" })
		}, false, "issuer"},
		{"ID token for somebody else", func(p *fakeProvider) {
			p.edit("refreshed_id_token", func(c map[string]any) { c["aud"] = "other" })
		}, false, "audience"},
		{"ID token made for somebody else", func(p *fakeProvider) {
			p.edit("refreshed_id_token", func(c map[string]any) { c["azp"] = "other" })
		}, false, "azp"},
		{"ID token ended", func(p *fakeProvider) {
			p.edit("refreshed_id_token", func(c map[string]any) { c["exp"] = now - 3600 })
		}, false, "exp"},
		{"ID token with another nonce", func(p *fakeProvider) {
			p.edit("refreshed_id_token", func(c map[string]any) { c["nonce"] = "other" })
		}, false, "nonce"},
		{"ID token signed by a stranger", func(p *fakeProvider) {
			p.key = &providerKey{kid: "one", alg: "RS256", private: newPrivateKey("RS256")}
		}, false, "signature"},
		{"UserInfo of somebody else", func(p *fakeProvider) {
			p.edit("userinfo", func(info map[string]any) { info["sub"] = "eve" })
		}, false, "userinfo: sub"},
		{"UserInfo refused", func(p *fakeProvider) { p.answer("userinfo", answerText(403, "text/plain", "")) }, true, ""},
		{"UserInfo away", func(p *fakeProvider) { p.answer("userinfo", answerText(400, "text/plain", "")) }, true, ""},
		{"keys renewed meanwhile", func(p *fakeProvider) { p.rotateKeys("two") }, true, ""},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			hasInfo := !c.stays || strings.HasPrefix(c.name, "UserInfo ")
			p := newProvider(t)
			p.expiresIn = 2
			s, b := signedIn(t, p, headersFor("X-Mail", "email", "X-Locale", "locale"), map[string]any{"userinfo": hasInfo, "clientConfig": map[string]any{"timeoutSeconds": 1}})
			p.expiresIn = 300
			c.bend(p)
			time.Sleep(2200 * time.Millisecond)
			for i := 0; i < 3; i++ {
				r := b.fetch(http.MethodGet, "/", "")
				if c.stays && (r.upstream().Headers.Get("X-Mail") != "ada@example.com" || hasInfo && r.upstream().Headers.Get("X-Locale") != "en") {
					t.Errorf("the user's claims are gone: %q", r.upstream().Headers)
				}
				if !c.stays && r.status != http.StatusUnauthorized {
					t.Errorf("expected 401, got %s", r.story())
				}
			}
			if !c.stays && c.log != "userinfo: sub" && p.count("userinfo") != 1 {
				t.Errorf("the access token of a refused refresh was used: %d userinfo requests", p.count("userinfo"))
			}
			if p.count("token") > 3 {
				t.Errorf("no back-off: %d refreshes in no time", p.count("token")-1)
			}
			if c.log != "" {
				s.expectLog(c.log)
			}
		})
	}
}

func refusedWith(status int, body string) func(p *fakeProvider) {
	return func(p *fakeProvider) { p.answer("token", answerText(status, "application/json", body)) }
}

// Who was refused stays so when the provider is away later on: an outage must not let in who was locked out.
func TestSessionRefusedStaysRefused(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.expiresIn = 2
	_, b := signedIn(t, p)
	refusedWith(403, `{"error":"access_denied"}`)(p)
	time.Sleep(2200 * time.Millisecond)
	copied := b.copyOf()
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	p.away(true)
	time.Sleep(1200 * time.Millisecond) // the pause after a failure
	copied.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	if p.count("token") != 2 {
		t.Errorf("the refused token was sent again: %d", p.count("token"))
	}
}

func TestSessionSurvivesTheProviderBeingAway(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.expiresIn = 2
	s, b := signedIn(t, p, map[string]any{"bypass": "Path(`/public`)"})
	p.away(true)
	time.Sleep(2200 * time.Millisecond)
	for i := 0; i < 20; i++ {
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	calls := p.count("token")
	if calls > 3 {
		t.Errorf("no back-off: %d refreshes", calls)
	}
	newBrowser(t, s).open("/public").upstream()
	p.away(false)
	p.expiresIn = 300
	time.Sleep(3200 * time.Millisecond)
	b.fetch(http.MethodGet, "/", "").upstream()
	if p.count("token") <= calls {
		t.Error("it was not tried again")
	}
}

func TestSessionRefreshIsNotLostWithItsClient(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.expiresIn = 2
	s, b := signedIn(t, p)
	p.expiresIn = 300
	time.Sleep(2200 * time.Millisecond)
	p.answer("token", func(rw http.ResponseWriter, req *http.Request) {
		time.Sleep(500 * time.Millisecond)
		p.usual("token", rw, req)
	})
	line := b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	conn, err := net.Dial("tcp", mustParse(s.url).Host)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: app.example.com\r\nX-Forwarded-Proto: https\r\nCookie: %s\r\n\r\n", line)
	time.Sleep(150 * time.Millisecond)
	conn.Close()
	time.Sleep(700 * time.Millisecond)
	b.fetch(http.MethodGet, "/", "").upstream() // with the old cookie
	if p.count("token") != 2 {
		t.Errorf("expected one refresh, got %d", p.count("token")-1)
	}
}

func TestSessionRuleIsJudgedAnewAfterARefresh(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.expiresIn = 2
	_, b := signedIn(t, p, map[string]any{"claims": "Contains(`groups`, `admins`)"})
	p.user["groups"] = []any{"staff"}
	p.expiresIn = 300
	time.Sleep(2200 * time.Millisecond)
	for i := 0; i < 2; i++ {
		b.fetch(http.MethodGet, "/", "").expect(http.StatusForbidden)
	}
	if p.count("token") != 2 {
		t.Errorf("expected one refresh, got %d", p.count("token")-1)
	}
}

func TestSessionSecretIsReplaced(t *testing.T) {
	p := newProvider(t)
	name := sessionOptions("name", "kept", "secret", "the-first-secret-of-32-bytes-or-so")
	s, b := signedIn(t, p, name)
	second := start(t, p.options(sessionOptions("name", "kept", "secret", "the-second-secret-of-32-bytes-or-so", "previousSecrets", []string{"the-first-secret-of-32-bytes-or-so"})))
	b.routes[app] = second
	before := b.cookie("kept").Value
	b.fetch(http.MethodGet, "/", "").upstream()
	after := b.cookie("kept").Value
	if before == after {
		t.Error("the cookie was not sealed anew")
	}
	if second.server != nil { // the memory can be seen in this process alone
		old := findPass(testGateOf(second), "kept="+before)
		if left := time.Until(old.until); left <= 0 || left > lateGrace {
			t.Errorf("the replaced cookie is good for %s without another look", left)
		}
	}
	third := start(t, p.options(sessionOptions("name", "kept", "secret", "the-second-secret-of-32-bytes-or-so")))
	b.routes[app] = third
	b.fetch(http.MethodGet, "/", "").upstream()
	b.setCookie("kept", before)
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	third.expectLog("secret")
	_ = s
}

// TestSessionSecretRollout: a Traefik that starts with a new secret, beside one that still has only the old one, seals what both can open,
// until it meets a cookie of the new secret. A sign-out at the one that cannot read the cookie does not say that it is done.
func TestSessionSecretRollout(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	const older, newer = "the-rolled-out-secret-number-one-1", "the-rolled-out-secret-number-two-2"
	out := map[string]any{"logoutUrl": "/logout"}
	names := map[string]any{"stateCookie": map[string]any{"name": "rolled-state"}}
	ahead, b := signedIn(t, p, out, names, sessionOptions("name", "rolled", "secret", newer, "previousSecrets", []string{older}))
	behind := start(t, p.options(out, names, sessionOptions("name", "rolled", "secret", older)))
	before := b.cookie("rolled").Value
	for i := 0; i < 4; i++ {
		b.routes[app] = []*testSite{behind, ahead}[i%2]
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	if b.cookie("rolled").Value != before {
		t.Error("the cookie was sealed anew")
	}
	if ahead.server == nil {
		return // the memory can be emptied in this process alone
	}
	g := testGateOf(ahead)
	if _, current, err := open(g.sessionSealer, "rolled", before); !current || err != nil {
		t.Errorf("current %v, %v", current, err)
	}
	_, _, _ = open(g.sessionSealer, "rolled", seal(newSealer([]string{newer}, p.issuer, p.clientID, "session"), "rolled", []byte("x"))) // another replica is done with it
	known, _, err := openSession(context.Background(), g, "rolled", before)
	if err != nil {
		t.Fatal(err)
	}
	dropNamed(g.ledger, known.ID) // so that it is looked at
	b.fetch(http.MethodGet, "/", "").upstream()
	if b.cookie("rolled").Value == before {
		t.Error("the cookie was not sealed anew")
	}
	b.routes[app] = behind
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	b.fetch(http.MethodPost, "/logout", "").expect(http.StatusServiceUnavailable)
	behind.expectLog("sign-out: the session's cookie is sealed with another secret")
	b.routes[app] = ahead
	b.fetch(http.MethodGet, "/", "").upstream()
}

// What a session cannot hold is told at the sign-in: one that cannot be read would send the browser around in circles.
func TestSessionTooLargeToBeRead(t *testing.T) {
	for name, options := range map[string]map[string]any{"token": nil, "userinfo": {"userinfo": true}} {
		p := newProvider(t)
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

func TestSessionSharedByTwoRules(t *testing.T) {
	p := newProvider(t)
	lenient := start(t, p.options(sessionOptions("name", "shared"), headersFor("X-Who", "sub")))
	strict := start(t, p.options(sessionOptions("name", "shared"), headersFor("X-Who", "email"), map[string]any{"claims": "Equals(`sub`, `grace`)"}))
	only := start(t, p.options(sessionOptions("name", "shared"), map[string]any{"disableLogin": true}))
	b := newBrowser(t, lenient)
	b.routes[app+"/strict"] = strict
	b.routes[app+"/only"] = only
	b.open("/only").expect(http.StatusUnauthorized)
	b.signIn("/")
	for i := 0; i < 2; i++ {
		if who := b.open("/").upstream().Headers.Get("X-Who"); who != "ada" {
			t.Errorf("got %q", who)
		}
		b.open("/strict").expect(http.StatusForbidden)
		b.open("/only").upstream()
	}
	if p.count("authorize") != 1 {
		t.Errorf("expected one sign-in, got %d", p.count("authorize"))
	}
}

// The level of a sign-in counts for whoever asks for one, also when another middleware made the session, or when a refresh lowers it.
func TestSessionLevel(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.edit("id_token", func(claims map[string]any) {
		if acr := p.lastCall("authorize").form.Get("acr_values"); acr != "" {
			claims["acr"] = acr
		}
	})
	low := start(t, p.options(sessionOptions("name", "shared")))
	high := start(t, p.options(sessionOptions("name", "shared"), map[string]any{"acrValues": "gold"}))
	b := newBrowser(t, low)
	b.routes[app+"/high"] = high
	b.signIn("/")
	for i := 0; i < 2; i++ {
		b.fetch(http.MethodGet, "/high", "").expect(http.StatusUnauthorized)
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	high.expectLog("session", `acr: expected "gold", got null`)
	p.expiresIn = 2
	b.routes[app+"/oidc/callback"] = high
	b.signIn("/high") // a step up, for both
	b.fetch(http.MethodGet, "/", "").upstream()
	if p.count("authorize") != 2 {
		t.Errorf("expected two sign-ins, got %d", p.count("authorize"))
	}
	p.edit("refreshed_id_token", func(claims map[string]any) { claims["acr"] = "bronze" })
	time.Sleep(2200 * time.Millisecond)
	b.fetch(http.MethodGet, "/high", "").expect(http.StatusUnauthorized)
	high.expectLog("session", `acr: expected "gold", got "bronze"`)
	b.fetch(http.MethodGet, "/", "").upstream()
	b.fetch(http.MethodGet, "/high", "").expect(http.StatusUnauthorized)
}

// A sign-in is held to what was asked of the provider, whichever of the middlewares that share a session takes the answer.
func TestSessionLevelIsThatOfWhoAsked(t *testing.T) {
	p := newProvider(t)
	low := start(t, p.options(sessionOptions("name", "shared"), map[string]any{"stateCookie": map[string]any{"name": "shared-state"}}))
	high := start(t, p.options(sessionOptions("name", "shared"), map[string]any{"stateCookie": map[string]any{"name": "shared-state"}, "acrValues": "gold", "maxAge": 60}))
	b := newBrowser(t, low)
	b.routes[app+"/high"] = high
	b.open("/high").expect(http.StatusBadGateway) // the provider did not do what it was asked: no circle
	low.expectLog(`acr: expected "gold", got null`)
	p.edit("id_token", func(claims map[string]any) { claims["acr"] = "gold"; claims["auth_time"] = time.Now().Unix() - 3600 })
	b.open("/high").expect(http.StatusBadGateway)
	low.expectLog("auth_time")
	p.edit("id_token", func(map[string]any) {})
	b.routes[app+"/oidc/callback"] = high
	b.signIn("/") // nothing was asked
}

// How long ago somebody may have proved who they are is asked by each middleware for itself, also of a session that another one made.
func TestSessionAgeOfTheProof(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	var ago int64 = 3600
	p.edit("id_token", func(claims map[string]any) { claims["auth_time"] = time.Now().Unix() - ago })
	p.edit("refreshed_id_token", func(claims map[string]any) { delete(claims, "auth_time") })
	lax := start(t, p.options(sessionOptions("name", "shared")))
	strict := start(t, p.options(sessionOptions("name", "shared"), map[string]any{"maxAge": 60}))
	b := newBrowser(t, lax)
	b.routes[app+"/strict"] = strict
	b.signIn("/")
	for i := 0; i < 2; i++ {
		b.fetch(http.MethodGet, "/strict", "").expect(http.StatusUnauthorized)
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	strict.expectLog("session", "auth_time: expected at most 60 s before the sign-in")
	ago = 0
	p.expiresIn = 2
	b.routes[app+"/oidc/callback"] = strict
	b.signIn("/strict") // for both, also after a refresh that tells no time
	b.fetch(http.MethodGet, "/", "").upstream()
	time.Sleep(2200 * time.Millisecond)
	b.fetch(http.MethodGet, "/strict", "").upstream()
	if p.count("authorize") != 2 {
		t.Errorf("expected two sign-ins, got %d", p.count("authorize"))
	}
	none := start(t, p.options(sessionOptions("name", "shared"), map[string]any{"maxAge": 0}))
	b.routes[app+"/none"] = none
	b.fetch(http.MethodGet, "/none", "").upstream() // signed in with the password just now
	p.edit("id_token", func(map[string]any) {})     // a provider that does not tell
	b.routes[app+"/oidc/callback"] = lax
	b.open("/oidc/callback?switch=/")
	b.fetch(http.MethodGet, "/strict", "").expect(http.StatusUnauthorized)
	strict.expectLog("session", "auth_time: expected at most 60 s before the sign-in, got null")
}

func TestSessionSurvivesReloads(t *testing.T) {
	p := newProvider(t)
	s, b := signedIn(t, p)
	for i := 0; i < 20; i++ {
		s.reload()
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	newBrowser(t, s).signIn("/")
	if p.count("discovery") != 1 || p.count("jwks") != 1 {
		t.Errorf("what was learnt was lost: %d discoveries, %d key sets", p.count("discovery"), p.count("jwks"))
	}
}

func TestSessionOfANewSignInReplacesTheOld(t *testing.T) {
	p := newProvider(t)
	s, b := signedIn(t, p, headersFor("X-User", "sub"))
	p.user["sub"] = "grace"
	b.open("/oidc/callback?switch=/")
	if who := b.open("/").upstream().Headers.Get("X-User"); who != "grace" {
		t.Errorf("got %q", who)
	}
	if names := b.cookieNames(s.sessionCookie()); len(names) != 1 {
		t.Errorf("got %q", names)
	}
}

func TestSessionCSRF(t *testing.T) {
	p := newProvider(t)
	_, b := signedIn(t, p, map[string]any{"csrf": map[string]any{}})
	c := b.cookie("hub-csrf-token")
	if c == nil || c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode {
		t.Fatalf("expected a cookie for scripts of this site, got %v", c)
	}
	send := func(b *browser, method, token string) int {
		req := b.request(method, "/", "a=1")
		req.Header.Set("Sec-Fetch-Mode", "cors")
		if token != "" {
			req.Header.Set("Hub-Csrf-Token", token)
		}
		return b.send(req, "same-origin", &reply{t: t}).status
	}
	_, other := signedIn(t, p, map[string]any{"csrf": map[string]any{}})
	for _, try := range []struct {
		name, method, token string
		status              int
	}{
		{"reading needs none", http.MethodGet, "", 200}, {"neither does looking", http.MethodHead, "", 200}, {"nor asking", http.MethodOptions, "", 200},
		{"writing does", http.MethodPost, "", 403}, {"so does deleting", http.MethodDelete, "", 403}, {"and putting", http.MethodPut, "", 403},
		{"and a method of one's own", "PURGE", "", 403},
		{"the cookie's value", http.MethodPost, c.Value, 200}, {"a changed one", http.MethodPost, flipped(c.Value), 403},
		{"another session's", http.MethodPost, other.cookie("hub-csrf-token").Value, 403},
	} {
		if got := send(b, try.method, try.token); got != try.status {
			t.Errorf("%s: expected %d, got %d", try.name, try.status, got)
		}
	}
	planted := b.copyOf()
	planted.setCookie("hub-csrf-token", other.cookie("hub-csrf-token").Value)
	if got := send(planted, http.MethodPost, other.cookie("hub-csrf-token").Value); got != http.StatusForbidden {
		t.Errorf("a planted pair: expected 403, got %d", got)
	}
	r := b.fetch(http.MethodGet, "/", "")
	if strings.Contains(r.upstream().Headers.Get("Cookie"), "session") {
		t.Errorf("got %q", r.upstream().Headers)
	}
	b.setCookie("x-hub-csrf-token", "of somebody else")
	for i := 0; i < 8; i++ { // until the session is known by its cookie alone
		b.setCookie("a", fmt.Sprint(i))
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	for key, kept := range b.cookies {
		if kept.Name == "hub-csrf-token" {
			delete(b.cookies, key) // as a script may
		}
	}
	b.fetch(http.MethodGet, "/", "").upstream()
	if again := b.cookie("hub-csrf-token"); again == nil || again.Value == "" || send(b, http.MethodPost, again.Value) != http.StatusOK {
		t.Errorf("whoever lost the token got %v", again)
	}
}

func TestSessionCSRFOptions(t *testing.T) {
	p := newProvider(t)
	_, b := signedIn(t, p, map[string]any{"csrf": map[string]any{"headerName": "X-Token", "cookieName": "token"}})
	req := b.request(http.MethodPost, "/", "a=1")
	req.Header.Set("X-Token", b.cookie("token").Value)
	b.send(req, "same-origin", &reply{t: t}).upstream()
	_, label := signedIn(t, p, map[string]any{"csrf": "true"})
	label.fetch(http.MethodPost, "/", "").expect(http.StatusForbidden)
}

// A token that a browser adds by itself, from a cookie, is no better than a session.
func TestCSRFOfTokensInCookies(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"csrf": map[string]any{}}, map[string]any{"jwt": map[string]any{"signingSecret": tokenSecret, "audience": "api",
		"tokenSource": map[string]any{"cookie": "app-token"}, "tokenKey": "t"}}))
	b := newBrowser(t, s)
	for _, claims := range []map[string]any{{"sub": "ada", "aud": "api"}, {"sub": "ada", "aud": "api", "jti": "another"}, {"sub": "eve", "aud": "api"}, {"aud": "api"}} {
		b.setCookie("app-token", sharedToken(claims))
		b.open("/").upstream()
		c := b.cookie("hub-csrf-token")
		if c == nil {
			t.Fatalf("%v: no CSRF token was given", claims)
		}
		b.fetch(http.MethodPost, "/", "").expect(http.StatusForbidden)
		req := b.request(http.MethodPost, "/", "a=1")
		req.Header.Set("Hub-Csrf-Token", c.Value)
		if got := b.send(req, "same-origin", &reply{t: t}).status; got != http.StatusOK {
			t.Errorf("%v: with the CSRF token: %d", claims, got)
		}
	}
	// What is in a query is added by nobody.
	api := newBrowser(t, s)
	api.fetch(http.MethodPost, "/?t="+sharedToken(map[string]any{"sub": "ada", "aud": "api"}), "").upstream()
}

// Two middlewares of one host have one CSRF cookie, and a neighbour may plant one: the next page mends it, and nobody is locked out.
func TestCSRFBesideOthers(t *testing.T) {
	p := newProvider(t)
	on := map[string]any{"csrf": map[string]any{}}
	_, one := signedIn(t, p, on)
	_, two := signedIn(t, p, on)
	post := func(b *browser, value string) int {
		req := b.request(http.MethodPost, "/", "a=1")
		req.Header.Set("Sec-Fetch-Mode", "cors")
		req.Header.Set("Hub-Csrf-Token", value)
		return b.send(req, "same-origin", &reply{t: t}).status
	}
	share := func(from, to *browser) { to.setCookie("hub-csrf-token", from.cookie("hub-csrf-token").Value) }
	for i := 0; i < 3; i++ { // as one browser would, with a page of each in turn
		share(one, two)
		two.open("/").upstream()
		share(two, one)
		one.open("/").upstream()
		share(one, two)
	}
	value := one.cookie("hub-csrf-token").Value
	if got, other := post(one, value), post(two, value); got != 200 || other != 200 || strings.Count(value, "~") != 1 {
		t.Errorf("with %q one gets %d, the other %d", value, got, other)
	}
	for _, planted := range []string{"x", "x~y", strings.Repeat("~", 3000), strings.Repeat(newCSRFToken([]byte("k"), "s", strings.Repeat("a", 22))+"~", 20)} {
		one.setCookie("hub-csrf-token", planted)
		one.fetch(http.MethodGet, "/", "").upstream()
		if got := post(one, planted); got != http.StatusForbidden {
			t.Errorf("a planted %.40q: got %d", planted, got)
		}
		one.open("/").upstream()
		value := one.cookie("hub-csrf-token").Value
		if got := post(one, value); got != http.StatusOK || len(value) > 66*maxCSRFTokens+10 {
			t.Errorf("after a planted %.40q: got %d with %q", planted, got, value)
		}
	}
}

func TestSessionForbidden(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"claims": "Equals(`sub`, `grace`)"}))
	b := newBrowser(t, s)
	b.open("/page").expect(http.StatusForbidden, "<html")
	for i := 0; i < 3; i++ {
		b.open("/page").expect(http.StatusForbidden)
		b.fetch(http.MethodGet, "/page", "").expect(http.StatusForbidden, `"status":403`)
		b.fetch(http.MethodPost, "/page", "").expect(http.StatusForbidden)
	}
	if p.count("authorize") != 1 {
		t.Errorf("a refused user must not be sent around in circles: %d sign-ins", p.count("authorize"))
	}
	s.expectLog("403", "ada")
}

func TestSessionPathsOfOthers(t *testing.T) {
	// The endpoints are exact paths: what only looks like them belongs to the upstream.
	p := newProvider(t)
	_, b := signedIn(t, p, map[string]any{"logoutUrl": "/logout", "redirectUrl": "/oidc/callback"})
	for _, path := range []string{"/logout/", "/Logout", "/logout/x", "/oidc/callback/", "/oidc", "/x/oidc/callback", "/logout;a=1"} {
		r := b.open(path)
		if !r.isUpstream() {
			t.Errorf("%s: %s", path, r.story())
		}
	}
	other := newProvider(t)
	_, c := signedIn(t, other, map[string]any{"logoutUrl": "login.example.com/logout"})
	if r := c.open("/logout"); !r.isUpstream() {
		t.Errorf("the endpoint of another host: %s", r.story())
	}
}

func TestSessionOpenRoutesStayOpen(t *testing.T) {
	p := newProvider(t)
	p.away(true)
	s := start(t, p.options(headersFor("X-User", "sub"), map[string]any{"bypass": "PathPrefix(`/public`) || Method(`OPTIONS`)"}))
	b := newBrowser(t, s)
	b.open("/public/page").upstream()
	b.fetch(http.MethodOptions, "/private", "").upstream()
	for _, path := range []string{"/private?x=/public", "/private#/public", "/public/../private", "/x/public"} {
		if res := b.raw(path); res.Header.Get("X-Upstream") == "reached" {
			t.Errorf("%s was open", path)
		}
	}
	if res := b.raw("/private", "X-Forwarded-Uri: /public", "X-Original-Url: /public", "X-Rewrite-Url: /public", "X-Http-Method-Override: OPTIONS"); res.StatusCode == http.StatusOK {
		t.Error("a header opened the route")
	}
	p.away(false)
	c := newBrowser(t, start(t, p.options(headersFor("X-User", "sub"), map[string]any{"bypass": "PathPrefix(`/public`)"})))
	c.signIn("/")
	if seen := c.open("/public").upstream(); seen.Headers.Get("X-User") != "" || strings.Contains(seen.Headers.Get("Cookie"), "session") {
		t.Errorf("an open route tells nobody who is there: %q", seen.Headers)
	}
}

func TestSessionQueryOfTheCallbackIsNotShown(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"logLevel": "debug"}))
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page?token=abc"))
	b.open(back.String()).upstream()
	logs := s.logs()
	for _, secret := range []string{back.Query().Get("code"), back.Query().Get("state"), p.clientSecret, b.cookie(s.sessionCookie()).Value[:40], url.QueryEscape("token=abc")} {
		if strings.Contains(logs, secret) {
			t.Errorf("the log has %q:\n%s", secret, logs)
		}
	}
}

func TestSessionUnprefixedCookieOverHTTPS(t *testing.T) {
	// Another host of the same site can plant an unprefixed cookie, so over https ours has a prefix, and no other is taken.
	p := newProvider(t)
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

func TestSessionRemembersNothingTooMuch(t *testing.T) {
	// What was remembered for one request must not open another that only looks like it.
	p := newProvider(t)
	s, b := signedIn(t, p, map[string]any{"logoutUrl": "/logout", "bypass": "Path(`/public`)"}, headersFor("X-User", "sub"))
	line := s.sessionCookie() + "=" + b.cookie(s.sessionCookie()).Value
	for i := 0; i < 3; i++ {
		rawUpstream(b, "/", "Cookie: "+line)
	}
	if seen := rawUpstream(b, "/public", "Cookie: "+line, "X-User: eve"); seen.Headers.Get("X-User") != "" || seen.Headers.Get("Cookie") != "" {
		t.Errorf("an open route got %q", seen.Headers)
	}
	for _, wrong := range []string{strings.ToUpper(line), line[:len(line)-1], line + "A", strings.Replace(line, s.sessionCookie(), "x"+s.sessionCookie(), 1), strings.Replace(line, "__Host-", "__host-", 1)} {
		if res := b.raw("/", "Cookie: "+wrong); res.StatusCode == http.StatusOK {
			t.Errorf("let in with %q", wrong[:60])
		}
	}
	rawUpstream(b, "/", "Cookie: a=1", "Cookie: "+line)
	two := start(t, p.options(headersFor("X-User", "sub")))
	if res := newBrowser(t, two).raw("/", "Cookie: "+line); res.StatusCode == http.StatusOK {
		t.Error("another middleware let it in")
	}
	b.open("/logout")
	for i := 0; i < 3; i++ {
		if res := b.raw("/", "Cookie: "+line); res.StatusCode == http.StatusOK {
			t.Error("let in after the logout")
		}
		if res := b.raw("/", "Cookie: "+line+"; a=1"); res.StatusCode == http.StatusOK {
			t.Error("let in after the logout, with another cookie")
		}
	}
}

// Two middlewares may use one name for their cookies, one for a whole domain and one for a host in it: the browser sends both, and what
// belongs to one session must not be joined with what belongs to the other.
func TestSessionChunksOfANeighbour(t *testing.T) {
	p := newProvider(t)
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

// A cookie's name counts as well for what a browser takes.
func TestSessionCookieOfALongName(t *testing.T) {
	p := newProvider(t)
	p.user["filler"] = incompressible(9000)
	s := start(t, p.options(sessionOptions("name", strings.Repeat("n", 1000))))
	newBrowser(t, s).signIn("/") // fails for a cookie that is too large
	for name, status := range map[int]int{3000: http.StatusInternalServerError, 4000: http.StatusInternalServerError} {
		s = start(t, p.options(sessionOptions("name", strings.Repeat("n", name))))
		newBrowser(t, s).open("/").expect(status)
	}
	delete(p.user, "filler")
	s = start(t, p.options(sessionOptions("name", strings.Repeat("n", 3000))))
	newBrowser(t, s).signIn("/")
}

// An answer that sets our cookie is for this browser alone, whatever the upstream says about it.
func TestSessionRenewalIsPrivate(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	_, b := signedIn(t, p, sessionOptions("expiry", 10))
	if r := b.open("/"); r.header.Get("Cache-Control") != "" || r.header["Set-Cookie"] != nil {
		t.Errorf("nothing is to be said here, got %q", r.header)
	}
	time.Sleep(2 * time.Second)
	if r := b.open("/"); r.header.Get("Cache-Control") != "private" || r.header["Set-Cookie"] == nil {
		t.Errorf("expected a renewed cookie that no cache keeps, got %q", r.header)
	}
}

// TestSessionKeepsTokensOfAnyForm: what a provider gives comes back from the cookie as it was, whether it is a JWT or only looks like one.
func TestSessionKeepsTokensOfAnyForm(t *testing.T) {
	for _, raw := range []string{"", "opaque", "a.b", "eyJh.eyJz.c2ln", "eyJh.not base64!.c2ln", "eyJh.!.c2ln.", "eyJh.eyJz.c2ln.!", "eyJh.eyJz.c2ln.", "eyJh.eyJz.", "..", "eyJh.eyJz.c2ln.eyJz.eyJz",
		"eyJh.eyJz.c2lo=", "eyJh.eyJz.c2l_", "eyJh.eyJz.c2l-x", "eyJh.!.eyJz.c2ln"} {
		packed, err := pack(&sessionRecord{ID: "id"}, []string{raw, "", raw})
		if err != nil {
			t.Fatal(err)
		}
		record, tokens, err := unpack(packed, 3)
		if err != nil || record.ID != "id" || tokens[0] != raw || tokens[1] != "" || tokens[2] != raw {
			t.Errorf("%q came back as %q, %v", raw, tokens, err)
		}
	}
}
