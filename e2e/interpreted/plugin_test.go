package interpreted

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What the signed-in request costs in the interpreter. Times depend on the machine, and make bench measures them in Traefik;
// allocations are exact, and tell at once when something was added to that path.

const (
	ceiling         = 68  // 14 of them are the interpreter's for a plugin that only calls next; the line of cookies was seen before
	changingCeiling = 163 // it was not: other cookies change with each request

	newMiddlewareCeiling   = 9000 // to make one, from options that are decoded to what waits for requests
	foundMiddlewareCeiling = 335  // to find it again at a reload in which something else has changed
)

func load(t testing.TB) *Plugin {
	t.Helper()
	plugin, err := Load("../..", io.Discard, os.Stderr)
	if err != nil {
		t.Fatalf("loading the plugin: %v", err)
	}
	t.Cleanup(plugin.Close)
	return plugin
}

// provider is the least that a sign-in needs: the browser's part is played by signIn.
type provider struct {
	*httptest.Server
	key   *rsa.PrivateKey
	nonce string
}

func newProvider(t testing.TB) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key}
	p.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		text := base64.RawURLEncoding.EncodeToString
		answer := map[string]any{}
		switch req.URL.Path {
		case "/.well-known/openid-configuration":
			answer = map[string]any{"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/jwks"}
		case "/jwks":
			answer["keys"] = []any{map[string]any{"kty": "RSA", "kid": "one", "alg": "RS256", "n": text(key.N.Bytes()), "e": "AQAB"}}
		case "/token":
			answer = map[string]any{"token_type": "Bearer", "access_token": "opaque", "expires_in": 3600, "id_token": p.sign(map[string]any{
				"iss": p.URL, "aud": "app", "sub": "ada", "nonce": p.nonce, "iat": time.Now().Unix(), "exp": time.Now().Unix() + 3600,
				"name": "Ada Lovelace", "email": "ada@example.com", "groups": []string{"admins", "staff"},
			})}
		}
		_ = json.NewEncoder(rw).Encode(answer)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) sign(claims map[string]any) string {
	body, _ := json.Marshal(claims)
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"one"}`)) + "." + base64.RawURLEncoding.EncodeToString(body)
	digest := sha256.Sum256([]byte(signed))
	signature, _ := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, digest[:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func (p *provider) options() map[string]any {
	return map[string]any{
		"issuer": p.URL, "clientId": "app", "clientSecret": "a-secret-of-the-tests", "claims": "Contains(`groups`, `admins`)", "usernameClaim": "email",
		"forwardHeaders": map[string]any{"X-User": "sub", "X-Email": "email"},
	}
}

// request is what Traefik hands to a middleware for a page load.
func request(target, cookies string) *http.Request {
	req := httptest.NewRequest(http.MethodGet, "https://app.example.com"+target, nil)
	req.RequestURI = target
	req.TLS = nil
	for name, value := range map[string]string{
		"Accept": "text/html", "Accept-Encoding": "gzip", "Accept-Language": "en", "Sec-Fetch-Mode": "navigate", "User-Agent": "Mozilla/5.0",
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "app.example.com", "X-Forwarded-Port": "443", "X-Forwarded-Proto": "https",
		"X-Forwarded-Server": "traefik", "X-Real-Ip": "127.0.0.1", "Cookie": cookies,
	} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	return req
}

// signIn goes through a sign-in and gives the session's cookie as a browser sends it.
func signIn(t testing.TB, p *provider, handler http.Handler) string {
	t.Helper()
	begin := httptest.NewRecorder()
	handler.ServeHTTP(begin, request("/", ""))
	to, err := url.Parse(begin.Header().Get("Location"))
	if err != nil || begin.Code != http.StatusFound {
		t.Fatalf("the sign-in did not begin: %d %s", begin.Code, begin.Body)
	}
	p.nonce = to.Query().Get("nonce")
	end := httptest.NewRecorder()
	handler.ServeHTTP(end, request("/oidc/callback?code=c&state="+to.Query().Get("state"), pairs(begin, "state")))
	if end.Code != http.StatusFound {
		t.Fatalf("the sign-in did not end: %d %s", end.Code, end.Body)
	}
	return pairs(end, "s") // the session, and a token if there is one
}

func pairs(from *httptest.ResponseRecorder, kind string) string {
	var list []string
	for _, c := range from.Result().Cookies() {
		isRound := strings.HasSuffix(c.Name, "-state") // says for a moment that a sign-in was completed
		if c.MaxAge >= 0 && strings.Contains(c.Name, kind) && !isRound {
			list = append(list, c.Name+"="+c.Value)
		}
	}
	return strings.Join(list, "; ")
}

// silent is a ResponseWriter that allocates nothing.
type silent struct{ header http.Header }

func (s *silent) Header() http.Header         { return s.header }
func (s *silent) Write(b []byte) (int, error) { return len(b), nil }
func (s *silent) WriteHeader(int)             {}

func TestSignedInAllocations(t *testing.T) {
	p := newProvider(t)
	reached := 0
	next := http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		if req.Header["X-User"][0] == "ada" && req.URL.User != nil {
			reached++
		}
	})
	handler, err := load(t).Build(context.Background(), next, p.options(), "login@file")
	if err != nil {
		t.Fatal(err)
	}
	session := signIn(t, p, handler)
	for _, c := range []struct {
		name, cookies string
		ceiling       float64
	}{
		{"one cookie", session, ceiling},
		{"among ten others", "a=1; b=2; c=3; d=4; e=5; " + session + "; f=6; g=7; h=8; i=9; j=10", ceiling},
		{"among ten others, one new each time", "a=%d; b=2; c=3; d=4; e=5; " + session + "; f=6; g=7; h=8; i=9; j=10", changingCeiling},
	} {
		t.Run(c.name, func(t *testing.T) {
			rw := &silent{header: http.Header{}}
			for i := 0; i < 6; i++ { // the first looks make the pass, and tell cookies that change from those that do not
				handler.ServeHTTP(rw, request("/", strings.Replace(c.cookies, "%d", "-"+strconv.Itoa(i), 1)))
			}
			const runs = 100
			requests := make([]*http.Request, runs+1)
			for i := range requests {
				requests[i] = request("/", strings.Replace(c.cookies, "%d", strconv.Itoa(i), 1))
			}
			reached = 0
			at := 0
			count := testing.AllocsPerRun(runs, func() {
				handler.ServeHTTP(rw, requests[at])
				at++
			})
			t.Logf("%.0f allocations", count)
			if reached != runs+1 {
				t.Fatalf("only %d of %d requests were let in as ada", reached, runs+1)
			}
			if count > c.ceiling {
				t.Errorf("%.0f allocations, at most %.0f", count, c.ceiling)
			}
		})
	}
}

// TestSeenBeforeAllocations is the same for other ways to be known, and for middlewares that look at more than who sends a request.
func TestSeenBeforeAllocations(t *testing.T) {
	p := newProvider(t)
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	token := map[string]any{"issuer": p.URL, "audience": "api", "forwardHeaders": map[string]any{"X-User": "sub", "X-Email": "email"}}
	for _, c := range []struct {
		name    string
		options map[string]any
		ceiling float64
	}{
		{"a token", map[string]any{"jwt": token}, ceiling},
		{"a session, beside tokens", map[string]any{"jwt": map[string]any{"audience": "api"}}, ceiling},
		{"a session, beside a bypass rule", map[string]any{"bypass": "PathPrefix(`/public`)"}, 160},
		{"a session with CSRF tokens", map[string]any{"csrf": map[string]any{}}, 200},
		{"a token, beside a sign-in", map[string]any{"jwt": token}, 600},
	} {
		t.Run(c.name, func(t *testing.T) {
			isToken := strings.HasPrefix(c.name, "a token")
			options := c.options
			if c.name != "a token" {
				options = p.options()
				for name, value := range c.options {
					options[name] = value
				}
			}
			handler, err := load(t).Build(context.Background(), next, options, "login@file")
			if err != nil {
				t.Fatal(err)
			}
			req := request("/", "")
			if isToken {
				req.Header.Set("Authorization", "Bearer "+p.sign(map[string]any{"iss": p.URL, "aud": "api", "sub": "ada", "email": "ada@example.com", "groups": []string{"admins"},
					"iat": time.Now().Unix(), "exp": time.Now().Unix() + 3600}))
			} else {
				req.Header.Set("Cookie", signIn(t, p, handler))
			}
			req.Header.Set("Sec-Fetch-Mode", "cors") // a page load with CSRF tokens looks at them
			sent := req.Header.Clone()
			rw := &silent{header: http.Header{}}
			for range 2 { // the first looks make the pass, and remember the line
				req.Header = sent.Clone()
				handler.ServeHTTP(rw, req)
			}
			count := testing.AllocsPerRun(100, func() {
				req.Header = sent.Clone()
				handler.ServeHTTP(rw, req)
				if req.Header["X-User"][0] != "ada" {
					t.Errorf("got %q", req.Header)
				}
			}) - testing.AllocsPerRun(100, func() { req.Header = sent.Clone() })
			t.Logf("%.0f allocations", count)
			if count > c.ceiling {
				t.Errorf("%.0f allocations, at most %.0f", count, c.ceiling)
			}
		})
	}
}

// BenchmarkSignedIn gives the time of the signed-in path alone, for work on it; make bench gives the one that counts.
func BenchmarkSignedIn(b *testing.B) {
	p := newProvider(b)
	handler, err := load(b).Build(context.Background(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), p.options(), "login@file")
	if err != nil {
		b.Fatal(err)
	}
	session := signIn(b, p, handler)
	for _, c := range []struct{ name, others string }{{"one cookie", ""}, {"a new cookie each time", "a=%d; "}} {
		b.Run(c.name, func(b *testing.B) {
			rw := &silent{header: http.Header{}}
			req := request("/", "")
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				delete(req.Header, "X-User")
				delete(req.Header, "X-Email")
				req.URL.User = nil
				req.Header["Cookie"] = []string{strings.Replace(c.others, "%d", strconv.Itoa(i), 1) + session}
				handler.ServeHTTP(rw, req)
			}
		})
	}
}

func TestThousandRouters(t *testing.T) {
	p := newProvider(t)
	plugin := load(t)
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	const routers = 1000
	var handlers []http.Handler
	reload := func(ctx context.Context) time.Duration {
		begin := processorTime()
		handlers = make([]http.Handler, routers)
		for i := range handlers {
			var err error
			if handlers[i], err = plugin.Build(ctx, next, p.options(), "login@file"); err != nil {
				t.Fatal(err)
			}
		}
		return processorTime() - begin
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	first, end := context.WithCancel(context.Background())
	if _, err := plugin.Build(first, next, p.options(), "login@file"); err != nil {
		t.Fatal(err)
	}
	goroutines, before := runtime.NumGoroutine(), heap()
	took := reload(first)
	held := float64(heap()-before) / routers
	t.Logf("each router: %s, %.1f KB", took/routers, held/1024)
	if took > routers*time.Millisecond {
		t.Errorf("%s for each New, at most 1 ms", took/routers)
	}
	if held > 25<<10 {
		t.Errorf("%.0f bytes held for each router, at most 25 KB", held)
	}
	session := signIn(t, p, handlers[7])
	level := heap()
	for i := 0; i < 5; i++ { // the context ends before the next generation is built
		end()
		first, end = context.WithCancel(context.Background())
		reload(first)
		rw := httptest.NewRecorder()
		handlers[3].ServeHTTP(rw, request("/", session))
		if rw.Code != http.StatusOK {
			t.Errorf("reload %d: the session got %d", i, rw.Code)
		}
	}
	end()
	if grown := int64(heap()) - int64(level); grown > 2<<20 {
		t.Errorf("five reloads left %d KB", grown>>10)
	}
	if now := runtime.NumGoroutine(); now > goroutines+5 {
		t.Errorf("%d goroutines, %d before", now, goroutines)
	}
}

// TestManyMiddlewares: hundreds of middlewares of different options are made, and found again at a reload, at the same cost each as
// the first hundred.
func TestManyMiddlewares(t *testing.T) {
	p := newProvider(t)
	plugin := load(t)
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	options := func(i int) map[string]any {
		o := p.options()
		o["claims"] = fmt.Sprintf("Contains(`groups`, `team-%d`)", i)
		return o
	}
	build := func(ctx context.Context, from, to int) time.Duration {
		begin := processorTime()
		for i := from; i < to; i++ {
			if _, err := plugin.Build(ctx, next, options(i), fmt.Sprintf("login-%d@file", i)); err != nil {
				t.Fatal(err)
			}
		}
		return (processorTime() - begin) / time.Duration(to-from)
	}
	first, end := context.WithCancel(context.Background())
	build(first, 0, 10)
	early := build(first, 10, 110)
	build(first, 110, 300)
	late := build(first, 300, 400)
	end()
	again, end := context.WithCancel(context.Background())
	defer end()
	build(again, 0, 100)
	found := build(again, 100, 400)
	t.Logf("each: %s of the first hundred, %s of the last; found again %s", early, late, found)
	reload := testing.AllocsPerRun(3, func() {
		next, end := context.WithCancel(context.Background())
		build(next, 0, 400)
		end()
	}) / 400
	t.Logf("%.0f allocations to find one again at a reload", reload)
	if reload > foundMiddlewareCeiling {
		t.Errorf("%.0f allocations to find one again at a reload, at most %d", reload, foundMiddlewareCeiling)
	}
	at := 400
	count := testing.AllocsPerRun(20, func() {
		build(again, at, at+1)
		at++
	})
	t.Logf("%.0f allocations to make one", count)
	if count > newMiddlewareCeiling {
		t.Errorf("%.0f allocations to make one, at most %d", count, newMiddlewareCeiling)
	}
	if late > 2*early {
		t.Errorf("the last hundred cost %s each, the first %s", late, early)
	}
	if found > early/3 {
		t.Errorf("to find one again costs %s, to make one %s", found, early)
	}
}

func TestConfigurationAsTraefikDecodesIt(t *testing.T) {
	p := newProvider(t)
	plugin := load(t)
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for _, c := range []struct {
		name    string
		options map[string]any
		wants   string // in the error; "": accepted
	}{
		{"numbers and truths as text, as labels bring them", map[string]any{"pkce": "true", "session": map[string]any{"expiry": "3600", "sliding": "false"}, "scopes": "openid,email"}, ""},
		{"numbers and truths, as Kubernetes brings them", map[string]any{"pkce": true, "session": map[string]any{"expiry": 3600.0}, "scopes": []any{"openid"}}, ""},
		{"names in any case", map[string]any{"Session": map[string]any{"SameSite": "lax"}, "USERNAMECLAIM": "sub", "usernameClaim": nil}, ""},
		{"an empty block as YAML brings it", map[string]any{"csrf": "", "session": ""}, ""},
		{"a switched-on block as a label brings it", map[string]any{"csrf": "true"}, ""},
		{"a misspelt option", map[string]any{"claim": "Equals(`sub`, `ada`)"}, "claims"},
		{"a misspelt option below", map[string]any{"session": map[string]any{"expiri": "1"}}, "session.expir"},
		{"a number that is none", map[string]any{"session": map[string]any{"expiry": "soon"}}, "session.expiry"},
		{"a rule with a missing parenthesis", map[string]any{"claims": "Equals(`sub`, `ada`"}, "claims"},
		{"nothing", map[string]any{"issuer": "", "clientId": ""}, "issuer"},
		{"a Kubernetes secret outside of Kubernetes", map[string]any{"clientSecret": "urn:k8s:secret:oidc:secret"}, "urn:k8s:secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			options := p.options()
			for name, value := range c.options {
				options[name] = value
				if value == nil {
					delete(options, name)
				}
			}
			_, err := plugin.Build(context.Background(), next, options, "login@file")
			if c.wants == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if c.wants != "" && (err == nil || !strings.Contains(err.Error(), c.wants) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("expected one line with %q, got %v", c.wants, err)
			}
		})
	}
}

func TestLoadReportsABrokenPlugin(t *testing.T) {
	for name, source := range map[string]string{
		"does not parse":         "package oidc\nfunc New(",
		"unknown name":           "package oidc\nfunc New() { there() }",
		"range over a number":    "package oidc\nfunc New() { for i := range 3 { println(i) } }\nfunc CreateConfig() {}",
		"no CreateConfig at all": "package oidc\nfunc New() {}",
	} {
		folder := t.TempDir()
		if err := os.WriteFile(folder+"/oidc.go", []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(folder, io.Discard, io.Discard); err == nil {
			t.Errorf("%s: loaded", name)
		} else if fmt.Sprint(err) == "" {
			t.Errorf("%s: no reason", name)
		}
	}
}
