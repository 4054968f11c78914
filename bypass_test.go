package oidc

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// requestTo is a request as Go's server reads it: RequestURI as it was sent.
func requestTo(t testing.TB, method, target string) *http.Request {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	return &http.Request{
		Method: method, URL: u, RequestURI: target, Host: "app.example.com", RemoteAddr: "192.0.2.7:4711",
		Header: http.Header{"X-Job": {"one", "two"}},
	}
}

func TestBypassRule(t *testing.T) {
	rows := []struct {
		rule, target string
		want         bool
	}{
		{"Path(`/health`)", "/health", true},
		{"Method(`OPTIONS`) || ClientIP(`198.51.100.0/24`)", "/x", false},
		{"Host(`other.example.com`) || ClientIP(`198.51.100.0/24`)", "/x", false},
		{"Method(`OPTIONS`) || ClientIP(`192.0.2.0/24`)", "/x", true},
		{"ClientIP(`192.0.2.0/24`) && Method(`OPTIONS`)", "/x", false},
		{"Header(`X-Job`, `three`) || ClientIP(`198.51.100.0/24`)", "/x", false},
		{"Path(`/health`)", "/health?full=1", true},
		{"Path(`/health`)", "/health?", true},
		{"Path(`/health`)", "/health/", false},
		{"Path(`/health`)", "/Health", false},
		{"Path(`/`)", "/", true},
		{"Path(`/`)", "/x", false},
		{"PathPrefix(`/public`)", "/public", true},
		{"PathPrefix(`/public`)", "/public/a/b.css", true},
		{"PathPrefix(`/public`)", "/publications", true}, // text, as in Traefik v3
		{"PathPrefix(`/public/`)", "/publications", false},
		{"PathPrefix(`/public`)", "/pub", false},
		{"PathPrefix(`/.well-known/`)", "/.well-known/security.txt", true},
		{"PathPrefix(`/a b`)", "/a%20b/c", true},
		{"PathPrefix(`/café`)", "/caf%C3%A9/menu", true},
		{"Path(`/a(b)`)", "/a(b)", true},
		{"PathRegexp(`\\.(css|js)$`)", "/static/app.css", true},
		{"PathRegexp(`\\.(css|js)$`)", "/static/app.css.html", false},
		{"PathRegexp(`^/v[0-9]+/`)", "/v12/x", true},
		{"Method(`OPTIONS`)", "/x", false},
		{"Method(`get`)", "/x", true},
		{"Host(`app.example.com`)", "/", true},
		{"Host(`APP.Example.com.`)", "/", true},
		{"Host(`*.example.com`)", "/", true},
		{"Host(`*.com`)", "/", false},
		{"Host(`*`)", "/", true},
		{"Host(`example.com`)", "/", false},
		{"HostRegexp(`^app\\.`)", "/", true},
		{"HostRegexp(`^web\\.`)", "/", false},
		{"Header(`x-job`, `two`)", "/", true},
		{"Header(`X-Job`, `three`)", "/", false},
		{"Header(`X-Other`, `two`)", "/", false},
		{"HeaderRegexp(`X-Job`, `^t`)", "/", true},
		{"HeaderRegexp(`X-Job`, `^x`)", "/", false},
		{"Query(`token`)", "/?token", true},
		{"Query(`token`)", "/?token=", true},
		{"Query(`token`)", "/?token=x", false}, // as in Traefik: empty
		{"Query(`a`, `1`)", "/?a=2&a=1", true},
		{"Query(`a`, `1`)", "/?b=1", false},
		{"QueryRegexp(`a`, `^[0-9]+$`)", "/?a=12", true},
		{"QueryRegexp(`a`, `^[0-9]+$`)", "/?a=x", false},
		{"QueryRegexp(`a`)", "/?a", true},
		{"QueryRegexp(`a`)", "/?a=1", false},
		{"!Query(`a`, `1`)", "/?b=2", true},
		{"!Query(`a`, `1`)", "/?a=1;b", false}, // cannot be read
		{"!Query(`a`, `1`)", "/?a=%zz", false},
		{"ClientIP(`192.0.2.7`)", "/", true},
		{"ClientIP(`192.0.2.0/24`)", "/", true},
		{"ClientIP(`::ffff:192.0.2.7`)", "/", true},
		{"ClientIP(`192.0.2.8`)", "/", false},
		{"ClientIP(`2001:db8::/32`)", "/", false},
		{"!ClientIP(`192.0.2.0/24`)", "/", false},
		{"PathPrefix(`/a`) || PathPrefix(`/b`) && Method(`POST`)", "/a", true},
		{"PathPrefix(`/a`) || PathPrefix(`/b`) && Method(`POST`)", "/b", false},
		{"PathPrefix(`/`) && !PathPrefix(`/admin`)", "/x", true},
		{"PathPrefix(`/`) && !PathPrefix(`/admin`)", "/admin/x", false},
		{"pathprefix(`/a`)", "/a", true},
		{"PATHPREFIX(\"/a\")", "/a", true},
	}
	for _, row := range rows {
		b, err := parseBypass(row.rule)
		if err != nil {
			t.Errorf("%s: %v", row.rule, err)
			continue
		}
		if got := bypasses(b, requestTo(t, "GET", row.target)); got != row.want {
			t.Errorf("%s for %s: got %v, want %v", row.rule, row.target, got, row.want)
		}
	}
	if r, err := parseBypass(""); r != nil || err != nil {
		t.Errorf("no text must be no rule, got %v, %v", r, err)
	}
}

// TestBypassAmbiguousPath: what one reader takes for /public and another for something else opens nothing, whatever the rule.
func TestBypassAmbiguousPath(t *testing.T) {
	rules := []string{
		"PathPrefix(`/`)", "PathPrefix(`/public`)", "!PathPrefix(`/admin`)", "!Path(`/x`)", "PathRegexp(`.`)", "!PathRegexp(`^/admin`)",
		"Method(`GET`)", "Host(`app.example.com`)", "!Host(`other`)", "ClientIP(`0.0.0.0/0`)", "Header(`X-Job`, `one`)",
		"!(Path(`/a`) || Path(`/b`))", "Path(`/x`) || !Query(`q`, `1`)",
	}
	targets := []string{
		"/public/../admin", "/public/..", "/public/.", "/public/./x", "/../public", "/./public", "//public", "/public//x", "/public//", "//",
		"/public%2f..%2fadmin", "/public%2F", "/public%5cadmin", "/public%5C..%5Cadmin", "/public\\..\\admin", "/public/%2e%2e/admin",
		"/public/%2E%2E/admin", "/public/.%2e/admin", "/%2e/public", "/public;jsessionid=1", "/public/..;/admin", "/public%3bx", "/public%3B",
		"/public%00", "/public%00.css", "/public%25", "/public%252e%252e/admin", "/public/%252fadmin", "/%70ublic", "/publi%63",
		"/public%3fx", "/public%3Fx=1", "/public%23x", "/public#x", "/public%0a", "/public%0D%0AX", "/public%09", "/public%7f", "/public%1b",
		"/public%c3%a9", "/public%C0%AF..", "/public%C0%AE%C0%AE/", "/public%FF", "/public%EF%BC%8F..%EF%BC%8Fadmin", "/public/%E2%80%A5/admin",
		"/public%28x%29", "/public%21", "/public%2A", "/public%5Bx%5D", "/public%40", "/public%3A", "/public%2b", "/publi\xc3\xa9", "*",
		"/public/..%20/admin", "/public/.../admin", "/public/%20../admin", "/public/.%20/x", "/public/x/...",
	}
	for _, rule := range rules {
		b, err := parseBypass(rule)
		if err != nil {
			t.Fatalf("%s: %v", rule, err)
		}
		for _, target := range targets {
			req := requestTo(t, "GET", "/public")
			req.RequestURI = target
			if u, err := url.ParseRequestURI(target); err == nil {
				req.URL = u
			} else {
				req.URL = &url.URL{Path: target}
			}
			if bypasses(b, req) {
				t.Errorf("%s lets %q pass", rule, target)
			}
		}
	}
}

func TestBypassRequestChangedOnTheWay(t *testing.T) {
	b, err := parseBypass("PathPrefix(`/public`)")
	if err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name, path, uri string
		want            bool
	}{
		{"stripped as Traefik strips, both of them", "/public/x", "/public/x?q=1", true},
		{"no RequestURI, as in a request made by hand", "/public/x", "", true},
		{"only URL was changed, the upstream gets something else", "/public/x", "/admin", false},
		{"the same with a query that looks like the path", "/public/x", "/admin?/public/x", false},
		{"a longer target", "/public/x", "/public/x/../../admin", false},
		{"a prefix was taken off URL only", "/public/x", "/private/public/x", false},
	}
	for _, row := range rows {
		req := requestTo(t, "GET", row.path)
		req.RequestURI = row.uri
		if got := bypasses(b, req); got != row.want {
			t.Errorf("%s: got %v, want %v", row.name, got, row.want)
		}
	}
	// The absolute form of a request line (RFC 9112 3.2.2).
	if req := requestTo(t, "GET", "http://app.example.com/public/x?q=1"); !bypasses(b, req) {
		t.Error("absolute form: want the same as without")
	}
	if req := httptest.NewRequest("GET", "http://app.example.com/public", nil); !bypasses(b, req) {
		t.Error("a request made by httptest: want true")
	}
	req := requestTo(t, "GET", "http://app.example.com/public/x")
	req.RequestURI = "http://app.example.com/admin"
	if bypasses(b, req) {
		t.Error("absolute form of something else: want false")
	}
}

func TestBypassHost(t *testing.T) {
	rows := []struct {
		rule, host string
		want       bool
	}{
		{"Host(`app.example.com`)", "app.example.com:8443", true},
		{"Host(`app.example.com`)", "APP.EXAMPLE.COM", true},
		{"Host(`app.example.com`)", "app.example.com.", true},
		{"Host(`app.example.com`)", "app.example.com.:80", true},
		{"Host(`app.example.com`)", "app.example.com.evil", false},
		{"Host(`app.example.com`)", "", false},
		{"Host(`*.example.com`)", "a.b.example.com", false},
		{"Host(`*.example.com`)", "example.com", false},
		{"Host(`::1`)", "[::1]:80", true},
		{"Host(`::1`)", "[::1]", true},
		{"Host(`kiosk.example`)", "\u212aiosk.example", false},
		{"HostRegexp(`^kiosk`)", "\u212aiosk.example", false},
		{"!HostRegexp(`^kiosk`)", "\u212aiosk.example", false},
		{"!Host(`kiosk.example`)", "\u212aiosk.example", false},
		{"HostRegexp(`(?i)^KIOSK\\.`)", "kiosk.example:80", true},
		{"HostRegexp(`^kiosk\\.example$`)", "KIOSK.example:80", true},
	}
	for _, row := range rows {
		b, err := parseBypass(row.rule)
		if err != nil {
			t.Fatal(err)
		}
		req := requestTo(t, "GET", "/")
		req.Host = row.host
		if got := bypasses(b, req); got != row.want {
			t.Errorf("%s for %q: got %v, want %v", row.rule, row.host, got, row.want)
		}
	}
}

func TestBypassClientIP(t *testing.T) {
	rows := []struct {
		rule, address string
		want          bool
	}{
		{"ClientIP(`10.0.0.0/8`)", "10.1.2.3:5", true},
		{"ClientIP(`10.0.0.0/8`)", "[::ffff:10.1.2.3]:5", true},
		{"ClientIP(`10.9.9.9/8`)", "10.1.2.3:5", true},
		{"ClientIP(`2001:db8::/32`)", "[2001:db8::1]:5", true},
		{"ClientIP(`2001:db8::1`)", "[2001:db8::2]:5", false},
		{"ClientIP(`fe80::1`)", "[fe80::1%eth0]:5", true},
		{"ClientIP(`10.0.0.1`)", "10.0.0.1", true},
		{"ClientIP(`10.0.0.1`)", "", false},
		{"!ClientIP(`10.0.0.1`)", "", false}, // unknown is nobody
		{"!ClientIP(`10.0.0.1`)", "@", false},
		{"!ClientIP(`10.0.0.1`)", "10.0.0.2:1", true},
	}
	for _, row := range rows {
		b, err := parseBypass(row.rule)
		if err != nil {
			t.Fatal(err)
		}
		req := requestTo(t, "GET", "/")
		req.RemoteAddr = row.address
		req.Header.Set("X-Forwarded-For", "10.0.0.1")
		req.Header.Set("X-Real-Ip", "10.0.0.1")
		if got := bypasses(b, req); got != row.want {
			t.Errorf("%s for %q: got %v, want %v", row.rule, row.address, got, row.want)
		}
	}
}

func TestBypassErrors(t *testing.T) {
	rows := []struct{ name, rule, want string }{
		{"white space alone", " ", `expected a condition, "!" or "(", found the end`},
		{"two paths in one matcher, as in Traefik v2", "PathPrefix(`/a`, `/b`)",
			`PathPrefix takes (path), got 2 arguments; several conditions are joined with "||"`},
		{"a matcher of Traefik v2", "Headers(`a`, `b`)", `unknown function "Headers"; did you mean Header?`},
		{"a misspelt matcher", "Exists(`a`) || PathPrefex(`/a`)", `unknown function "Exists"; did you mean ClientIP, Header,`},
		{"another misspelt matcher", "PathPrefex(`/a`)", `unknown function "PathPrefex"; did you mean PathPrefix?`},
		{"missing parenthesis", "Path(`/a`", `position 10: expected "," or ")", found the end`},
		{"an empty argument", "Path(``)", `Path: an empty argument`},
		{"a path without slash", "PathPrefix(`public`)", `PathPrefix: expected a decoded path that begins with "/"`},
		{"a path with query", "Path(`/a?b=1`)", `without query`},
		{"an encoded path", "Path(`/a%20b`)", `expected a decoded path`},
		{"a path with parameters", "Path(`/a;b`)", `expected a decoded path`},
		{"a path with a double slash", "Path(`/a//b`)", `expected a decoded path`},
		{"a broken pattern", "PathRegexp(`(`)", `PathRegexp: error parsing regexp`},
		{"a broken pattern for a host", "HostRegexp(`(`)", `HostRegexp: error parsing regexp`},
		{"a broken pattern for a header", "HeaderRegexp(`a`, `(`)", `HeaderRegexp: error parsing regexp`},
		{"a broken pattern for a parameter", "QueryRegexp(`a`, `(`)", `QueryRegexp: error parsing regexp`},
		{"a host beyond ASCII", "Host(`caf\u00e9.example`)", `Host: a host has ASCII letters only; write an international one as "xn--…"`},
		{"a host with its port, which none has", "!Host(`app.example.com:8443`)", `Host: expected one host, without scheme and port`},
		{"an address with a port", "Host(`[::1]:80`)", `Host: expected one host`},
		{"two hosts in one", "Host(`a.example.com, b.example.com`)", `Host: expected one host`},
		{"two methods in one", "!Method(`GET,HEAD`)", `Method: expected one method; several conditions are joined with "||"`},
		{"no address", "ClientIP(`localhost`)", `ClientIP: invalid CIDR address: localhost/32; write an address, or a range such as 10.0.0.0/8`},
		{"a range too wide", "ClientIP(`10.0.0.0/33`)", `ClientIP: invalid CIDR address`},
		{"what is below a path, as shells have it", "PathPrefix(`/x/*`)",
			"PathPrefix: \"/x/*\" would never match: it is compared as it is, without patterns; write PathPrefix with a last slash"},
		{"all of it, as web servers have it", "Path(`/x/**`)", "is compared as it is, without patterns"},
		{"a name in a path, as in Traefik v2", "Path(`/users/{id}`)", "is compared as it is, without patterns"},
		{"an end", "Path(`/x$`)", "is compared as it is, without patterns"},
		{"two paths as a pattern", "PathPrefix(`/a|/b`)", "is compared as it is, without patterns"},
		{"a path that is cleaned", "Path(`/a/../b`)", "is compared as it is, without patterns"},
		{"a host with escapes", "Host(`example\\.com`)",
			"Host: \"example\\\\.com\" would never match: it is compared as it is, without patterns; write *.example.com, or HostRegexp"},
		{"a star within a host", "Host(`app*.example.com`)", "is compared as it is, without patterns"},
		{"a host of Traefik v2", "Host(`{sub:[a-z]+}.example.com`)", "Host: expected one host"},
		{"a pattern for a host", "Host(`^example.com$`)", "is compared as it is, without patterns"},
		{"a pattern of Traefik v2", "HostRegexp(`{sub:[a-z]+}.example.com`)",
			"HostRegexp: \"{sub:[a-z]+}.example.com\" would never match: it is a regular expression alone here"},
		{"another pattern of Traefik v2", "PathRegexp(`/users/{id}`)", "is a regular expression alone here"},
		{"a pattern in slashes", "PathRegexp(`/^\\/a$/`)", "is a regular expression alone here"},
		{"every method", "Method(`*`)", "Method: \"*\" would never match: it is not one method; every method is open where none is asked for"},
		{"any method", "Method(`ANY`)", "is not one method"},
		{"a parameter with its value", "Query(`a=b`)",
			"Query: \"a=b\" would never match: it is not the name of a parameter; its value is an argument of its own"},
		{"a name in a path, as in many frameworks", "Path(`/users/:id`)", "is compared as it is, without patterns"},
		{"a host with all below it, as cookies have it", "Host(`.example.com`)", "is compared as it is, without patterns"},
		{"a scheme with a host", "HostRegexp(`https://.*`)", "is asked of a host alone, without scheme, port and path"},
		{"a port with a host", "HostRegexp(`.*\\.example\\.com:443`)", "is asked of a host alone"},
		{"a pattern for a path without its slash", "PathRegexp(`^api/.*`)",
			"PathRegexp: \"^api/.*\" would never match: it is asked of a decoded path alone, which begins with a slash"},
		{"a pattern as nginx has it", "PathRegexp(`~^/x`)", "is asked of a decoded path alone"},
		{"a pattern for the query", "PathRegexp(`\\?id=`)", "is asked of a decoded path alone"},
		{"an escape in a path", "PathRegexp(`%2F`)", "is asked of a decoded path alone"},
		{"a parameter in a path", "PathRegexp(`/a;v=1`)", "is asked of a decoded path alone"},
		{"every address", "ClientIP(`0.0.0.0`)", "ClientIP: \"0.0.0.0\" would never match: it is no client's; a range has its length"},
		{"a query with its mark", "Query(`?a`)", "is not the name of a parameter"},
		{"a header of the connection", "Header(`Transfer-Encoding`, `a`)", "is not the name of a header that is seen here"},
		{"the host as a header", "Header(`Host`, `a`)",
			"Header: \"Host\" would never match: it is not the name of a header that is seen here; Host asks for the host"},
		{"a header with its value", "Header(`X-A: b`, `c`)", "is not the name of a header"},
		{"three arguments", "Query(`a`, `b`, `c`)", `Query takes (name, [value]), got 3 arguments`},
		{"no arguments", "Query()", `Query takes (name, [value]), got 0 arguments`},
	}
	for _, row := range rows {
		_, err := parseBypass(row.rule)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %s", row.name, err, row.want)
		}
	}
	if b, err := parseBypass(""); b != nil || err != nil {
		t.Errorf("no text: got %v, %v, want no rule", b, err)
	}
}

// A header that is there thousands of times would cost the interpreter half a second for each condition: nobody can say what it is.
func TestBypassFloodOfValues(t *testing.T) {
	for _, rule := range []string{"Header(`X-Job`, `one`)", "!Header(`X-Job`, `three`)", "Query(`a`, `b`)"} {
		r, err := parseBypass(rule)
		if err != nil {
			t.Fatal(err)
		}
		few := requestTo(t, "GET", "/?a=b")
		many := requestTo(t, "GET", "/?a=b"+strings.Repeat("&a=b", maxHeaders))
		for i := 0; i < maxHeaders; i++ {
			many.Header.Add("X-Job", "one")
		}
		if !bypasses(r, few) || bypasses(r, many) {
			t.Errorf("%s: %v with few values, %v with many", rule, bypasses(r, few), bypasses(r, many))
		}
	}
}

func TestBypassTakes(t *testing.T) {
	for _, rule := range []string{"PathPrefix(`/.well-known`)", "PathRegexp(`^/a{2,3}/\\p{Greek}+$`)", "Host(`*.example.com`)", "Host(`*`)",
		"Host(`::1`)", "HostRegexp(`^[a-z]+\\.example\\.com$`)",
		"Method(`M-SEARCH`)", "Query(`a`, `b=c`)", "Header(`X_A`, `b: c`)", "PathRegexp(`^/x/.*`)", "Path(`/a b/(c)`)"} {
		if _, err := parseBypass(rule); err != nil {
			t.Errorf("%s: %v", rule, err)
		}
	}
}

// With bypassIdentity whoever is signed in is named on open paths, too; nobody else is sent anywhere, or named.
func TestBypassIdentity(t *testing.T) {
	p := newFakeProvider(t)
	for _, on := range []bool{false, true} {
		s := start(t, p.options(map[string]any{"bypass": "PathPrefix(`/open`)", "bypassIdentity": on,
			"forwardHeaders": map[string]any{"X-User": "sub"}, "csrf": map[string]any{},
			"claims": "Equals(`sub`, `ada`)"}))
		b := newBrowser(t, s)
		named := func(r *reply) string { return r.upstream().Headers.Get("X-User") }
		if got := named(b.fetch(http.MethodGet, "/open/a", "")); got != "" {
			t.Errorf("on %v: nobody is called %q", on, got)
		}
		b.signIn("/")
		want := map[bool]string{true: "ada"}[on]
		for i := 0; i < 3; i++ {
			if got := named(b.fetch(http.MethodGet, "/open/a", "")); got != want {
				t.Errorf("on %v: who is signed in is called %q", on, got)
			}
		}
		// A request that another site forged goes on, as nobody.
		if got := named(b.fetch(http.MethodPost, "/open/a", "")); got != "" {
			t.Errorf("on %v: without a CSRF token: called %q", on, got)
		}
		b.fetch(http.MethodPost, "/closed", "").expect(http.StatusForbidden)
		if got := named(b.fetch(http.MethodGet, "/closed", "")); got != "ada" {
			t.Errorf("on %v: elsewhere: called %q", on, got)
		}
		b.setCookie(s.sessionCookie(), "broken")
		if got := named(b.fetch(http.MethodGet, "/open/a", "")); got != "" {
			t.Errorf("on %v: with a broken session: called %q", on, got)
		}
	}
}

func TestBypassBesideSignIn(t *testing.T) {
	p := newFakeProvider(t)
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
	if res := b.raw("/private", "X-Forwarded-Uri: /public", "X-Original-Url: /public", "X-Rewrite-Url: /public",
		"X-Http-Method-Override: OPTIONS"); res.StatusCode == http.StatusOK {
		t.Error("a header opened the route")
	}
	p.away(false)
	c := newBrowser(t, start(t, p.options(headersFor("X-User", "sub"), map[string]any{"bypass": "PathPrefix(`/public`)"})))
	c.signIn("/")
	if seen := c.open("/public").upstream(); seen.Headers.Get("X-User") != "" || strings.Contains(seen.Headers.Get("Cookie"), "session") {
		t.Errorf("an open route tells nobody who is there: %q", seen.Headers)
	}
}
