package oidc

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The HTTP tests drive a running site: the middleware in front of an upstream that answers with what it received, and a browser
// with a person's habits. The same tests run in two ways:
//
//	go test -race .                                                                the plugin compiled, in this process
//	go run -C e2e/interpreted ./cmd/host -- go test -C ../.. -run 'TestLogin' .    the plugin interpreted, as Traefik loads it
//
// The second sets OIDC_TEST_HOST to the host that builds the middlewares.

// testSite is one middleware, as one router of Traefik would use it, at an address of its own.
type testSite struct {
	t       *testing.T
	name    string // login7@file
	url     string // http://127.0.0.1:…
	options map[string]any
	id      string           // at the host
	server  *httptest.Server // in this process
	handler atomic.Value     // *testHandler
	cancel  context.CancelFunc
}

// testHandler lets handlers of different types follow each other in one atomic value.
type testHandler struct{ handler http.Handler }

var siteNumber int64

// start runs a site with the given options. A configuration that is refused fails the test.
func start(t *testing.T, options map[string]any) *testSite {
	t.Helper()
	s, err := build(t, options)
	if err != nil {
		t.Fatalf("building the middleware: %v", err)
	}
	return s
}

// build is start for configurations that may be refused: it gives the error that Traefik would log.
func build(t *testing.T, options map[string]any) (*testSite, error) {
	t.Helper()
	return buildNamed(t, fmt.Sprintf("login%d-%d@file", os.Getpid(), atomic.AddInt64(&siteNumber, 1)), options)
}

// refused expects that a configuration is refused, with some words in the error.
func refused(t *testing.T, options map[string]any, words string) {
	t.Helper()
	if _, err := build(t, options); err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("%v: expected %q, got %v", options, words, err)
	}
}

// buildNamed builds a middleware of a given name: two routers with one middleware have it twice.
func buildNamed(t *testing.T, name string, options map[string]any) (*testSite, error) {
	t.Helper()
	if interpreted() {
		t.Skip("HTTP tests run interpreted by way of e2e/interpreted")
	}
	s := &testSite{t: t, name: name, options: options}
	if host := os.Getenv("OIDC_TEST_HOST"); host != "" {
		made := struct{ ID, URL, Error string }{}
		askHost(t, http.MethodPost, host+"/sites", map[string]any{"name": name, "options": options}, &made)
		if made.Error != "" {
			return nil, fmt.Errorf("%s", made.Error)
		}
		s.id, s.url = made.ID, made.URL
		t.Cleanup(func() { askHost(t, http.MethodDelete, host+"/sites/"+s.id, nil, nil) })
		return s, nil
	}
	if err := s.make(); err != nil {
		return nil, err
	}
	s.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		s.handler.Load().(*testHandler).handler.ServeHTTP(rw, req)
	}))
	s.url = s.server.URL
	t.Cleanup(func() {
		s.cancel()
		s.server.CloseClientConnections()
		s.server.Close()
	})
	return s, nil
}

// make builds the middleware from its options in the way of Traefik: the context of what was there before ends first.
func (s *testSite) make() error {
	if s.cancel != nil {
		s.cancel()
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	text, err := json.Marshal(s.options) // a copy, of the types that a decoder gives
	if err != nil {
		return err
	}
	config := CreateConfig()
	if err := json.Unmarshal(text, &config.Options); err != nil {
		return err
	}
	handler, err := New(ctx, http.HandlerFunc(testUpstream), config, s.name)
	if err != nil {
		return err
	}
	s.handler.Store(&testHandler{handler})
	return nil
}

// reload does what any change of Traefik's dynamic configuration does to every middleware.
func (s *testSite) reload() {
	s.t.Helper()
	if s.server != nil {
		if err := s.make(); err != nil {
			s.t.Fatalf("reloading: %v", err)
		}
		return
	}
	made := struct{ Error string }{}
	askHost(s.t, http.MethodPost, os.Getenv("OIDC_TEST_HOST")+"/sites/"+s.id+"/reload", nil, &made)
	if made.Error != "" {
		s.t.Fatalf("reloading: %s", made.Error)
	}
}

// sessionCookie and stateCookie are the default names over https, the latter without its suffix.
func (s *testSite) sessionCookie() string {
	return "__Host-" + strings.TrimSuffix(s.name, "@file") + "-session"
}

func (s *testSite) stateCookie() string {
	return "__Host-" + strings.TrimSuffix(s.name, "@file") + "-state"
}

// logs is what the middleware printed and logged until now.
func (s *testSite) logs() string {
	s.t.Helper()
	var lines []string
	if s.server == nil {
		askHost(s.t, http.MethodGet, os.Getenv("OIDC_TEST_HOST")+"/logs?name="+url.QueryEscape(s.name), nil, &lines)
	} else {
		lines = captured.of(s.name)
	}
	return strings.Join(lines, "\n")
}

// expectLog fails the test when no line of the middleware's log has all the words.
func (s *testSite) expectLog(words ...string) {
	s.t.Helper()
	for _, line := range strings.Split(s.logs(), "\n") {
		if line != "" && holdsAll(line, words) {
			return
		}
	}
	s.t.Errorf("no line of the log has %q:\n%s", words, s.logs())
}

func holdsAll(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

func askHost(t *testing.T, method, address string, document, answer any) {
	t.Helper()
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, address, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("the plugin host: %v", err)
	}
	defer res.Body.Close()
	if answer == nil {
		return
	}
	if err := json.NewDecoder(res.Body).Decode(answer); err != nil {
		t.Fatalf("the plugin host: %s: %v", res.Status, err)
	}
}

// received is what the upstream saw.
type received struct {
	Method, URI, Host, User, Body string
	Headers, Trailers             http.Header
}

// testUpstream answers with what it received. e2e/interpreted/host.go has its twin.
func testUpstream(rw http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/stream" {
		_, _ = rw.Write([]byte("data: 0\n\n"))
		rw.(http.Flusher).Flush()
		<-req.Context().Done() // the rest is for nobody: the test reads the first event, then leaves
		return
	}
	user := ""
	if req.URL.User != nil {
		user = req.URL.User.Username()
	}
	trailers := req.Trailer.Clone() // the announced ones: a proxy that copies the request here sends no others on
	body, _ := io.ReadAll(http.MaxBytesReader(rw, req.Body, 1<<20))
	rw.Header().Set("Content-Type", "application/json")
	rw.Header().Set("X-Upstream", "reached")
	_ = json.NewEncoder(rw).Encode(map[string]any{
		"method": req.Method, "uri": req.URL.RequestURI(), "host": req.Host, "user": user,
		"headers": req.Header, "trailers": trailers, "body": string(body),
	})
}

// captured is what middlewares wrote in this process. Their names begin every line.
var captured = &capture{seen: map[string]chan bool{}}

type capture struct {
	mu    sync.Mutex
	out   io.Writer // the real standard output
	lines []string
	seen  map[string]chan bool
	marks int
}

var middlewareLine = regexp.MustCompile(`^login\d+-\d+@file: `)

// interpreted says whether this test runs in Yaegi, where the caller of every function is in the interpreter's own source.
func interpreted() bool {
	_, file, _, _ := runtime.Caller(0)
	return !strings.HasSuffix(file, "harness_test.go")
}

// TestMain puts itself between the plugin and standard output, so that tests can read the log. What is not the plugin's passes.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // the parallel tests mostly wait
		panic(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	captured.out, os.Stdout = os.Stdout, write
	errorLog.SetOutput(captured)
	done := make(chan bool)
	go func() {
		reader := bufio.NewReader(read)
		for {
			line, err := reader.ReadString('\n')
			_, _ = captured.Write([]byte(line))
			if err != nil {
				close(done)
				return
			}
		}
	}()
	code := m.Run()
	write.Close()
	<-done
	os.Exit(code)
}

func (c *capture) Write(text []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	line := strings.TrimSuffix(string(text), "\n")
	if mark := c.seen[line]; mark != nil {
		close(mark)
		delete(c.seen, line)
	} else if middlewareLine.MatchString(line) {
		c.lines = append(c.lines, line)
	} else {
		_, _ = c.out.Write(text)
	}
	return len(text), nil
}

// of gives the lines of one middleware that were written before now. What is interpreted writes elsewhere.
func (c *capture) of(name string) []string {
	if interpreted() {
		return nil
	}
	mark := make(chan bool)
	c.mu.Lock()
	c.marks++
	line := fmt.Sprintf("the log until here %d", c.marks)
	c.seen[line] = mark
	c.mu.Unlock()
	fmt.Println(line)
	<-mark
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []string
	for _, line := range c.lines {
		if strings.HasPrefix(line, name+": ") {
			found = append(found, line)
		}
	}
	return found
}

// browser is one person's browser, as far as a sign-in depends on it: cookies by the rules of RFC 6265bis with SameSite, Fetch
// Metadata, redirects, forms that send themselves. It stands behind Traefik's entry point, which has set the X-Forwarded headers.
// A cookie that a real browser would refuse fails the test.
type browser struct {
	t         *testing.T
	client    *http.Client
	routes    map[string]*testSite // beginning of an address → site, as Traefik's rules decide
	header    http.Header          // sent with every request
	mu        sync.Mutex
	cookies   map[string]*kept // by name, host and path
	order     int
	plainHTTP bool           // the site is visited over http
	drops     *regexp.Regexp // cookies, name=value, that it, or something on the way, does not let in; it may refuse others then, too
}

type kept struct {
	*http.Cookie
	host     string // the cookie is for this host, or for all below it
	hostOnly bool
	order    int
	expires  time.Time
}

// app is where sites are visited, when a test does not say otherwise.
const app = "https://app.example.com"

// newBrowser opens a browser for which site is at https://app.example.com.
func newBrowser(t *testing.T, site *testSite) *browser {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true}
	t.Cleanup(func() { transport.CloseIdleConnections() })
	b := &browser{t: t, routes: map[string]*testSite{app: site}, header: http.Header{}, cookies: map[string]*kept{}}
	b.client = &http.Client{Timeout: 30 * time.Second}
	b.client.Transport = transport
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return b
}

// reply is what the browser shows in the end.
type reply struct {
	t       *testing.T
	status  int
	header  http.Header
	body    string
	url     *url.URL
	trail   []string       // "302 GET https://…", each step, this one last
	cookies []*http.Cookie // set on the way
	site    *testSite      // who answered; nil: the provider
}

// story is what a failed test tells.
func (r *reply) story() string {
	text := strings.Join(r.trail, "\n") + "\n"
	if _, page, found := strings.Cut(r.body, "</head>"); found {
		text += page
	} else {
		text += r.body
	}
	if len(text) > 3000 {
		text = text[:3000]
	}
	if r.site != nil {
		text += "\nlog:\n" + r.site.logs()
	}
	return text
}

// expect fails the test unless the status is right and the body has all the words.
func (r *reply) expect(status int, words ...string) *reply {
	r.t.Helper()
	if r.status != status || !holdsAll(r.body, words) {
		r.t.Errorf("expected %d with %q, got:\n%s", status, words, r.story())
	}
	return r
}

// upstream is what the upstream received; it fails the test when the request did not get there.
func (r *reply) upstream() *received {
	r.t.Helper()
	seen := &received{Headers: http.Header{}}
	if r.header.Get("X-Upstream") != "reached" || json.Unmarshal([]byte(r.body), seen) != nil {
		r.t.Errorf("the upstream was not reached:\n%s", r.story())
	}
	return seen
}

func (r *reply) isUpstream() bool { return r.header.Get("X-Upstream") == "reached" }

// location is the target of a redirect.
func (r *reply) location() *url.URL {
	r.t.Helper()
	target, err := r.url.Parse(r.header.Get("Location"))
	if err != nil || r.header.Get("Location") == "" {
		r.t.Fatalf("expected a redirect, got:\n%s", r.story())
	}
	return target
}

// open types an address (a path is one of the app) and goes where that leads.
func (b *browser) open(address string) *reply {
	b.t.Helper()
	return b.travel(http.MethodGet, address, "", "", 20)
}

// look is open without following redirects.
func (b *browser) look(address string) *reply {
	b.t.Helper()
	return b.travel(http.MethodGet, address, "", "", 0)
}

// follow clicks a link on the page from, and goes where that leads.
func (b *browser) follow(from, address string) *reply {
	b.t.Helper()
	return b.travel(http.MethodGet, address, "", from, 20)
}

// post sends a form from the page from, and goes where that leads.
func (b *browser) post(from, address string, form url.Values) *reply {
	b.t.Helper()
	return b.travel(http.MethodPost, address, form.Encode(), from, 20)
}

// fetch is a script's fetch() on a page of the app.
func (b *browser) fetch(method, address, body string) *reply {
	b.t.Helper()
	req := b.request(method, address, body)
	req.Header.Set("Accept", "*/*")
	req.Header.Set("Sec-Fetch-Mode", "cors")
	req.Header.Set("Sec-Fetch-Dest", "empty")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.send(req, "same-origin", &reply{t: b.t})
}

// signIn opens a page of the app as somebody who is not signed in, and fails the test when that does not end there.
func (b *browser) signIn(path string) *reply {
	b.t.Helper()
	r := b.open(path)
	r.expect(http.StatusOK)
	r.upstream()
	return r
}

// begin starts a sign-in and stops at the provider's door: the address of the authorization request.
func (b *browser) begin(path string) *url.URL {
	b.t.Helper()
	r := b.look(path)
	if r.status != http.StatusFound {
		b.t.Fatalf("expected the sign-in to begin, got:\n%s", r.story())
	}
	return r.location()
}

// answered gives the provider's answer to the authorization request: the address of the callback, not yet visited.
func (b *browser) answered(authorization *url.URL) *url.URL {
	b.t.Helper()
	return b.look(authorization.String()).location()
}

func (b *browser) request(method, address, body string) *http.Request {
	b.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = app + address
		if b.plainHTTP {
			address = strings.Replace(address, "https:", "http:", 1)
		}
	}
	req, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	return req
}

var selfSending = regexp.MustCompile(`<form method="post" action="([^"]*)">`)

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// travel navigates: it follows redirects, and forms that a provider lets the browser send at once.
func (b *browser) travel(method, address, body, from string, hops int) *reply {
	b.t.Helper()
	r := &reply{t: b.t}
	relation := "none"
	for {
		req := b.request(method, address, body)
		req.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
		req.Header.Set("Sec-Fetch-Mode", "navigate")
		req.Header.Set("Sec-Fetch-Dest", "document")
		if from != "" {
			if step := siteRelation(mustParse(from), req.URL); relation == "none" || step == "cross-site" {
				relation = step
			}
		}
		req.Header.Set("Sec-Fetch-Site", relation)
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if from != "" {
				req.Header.Set("Origin", mustParse(from).Scheme+"://"+mustParse(from).Host)
			}
		}
		r = b.send(req, relation, r)
		from = r.url.String()
		isSent := b.siteOf(r.url) == nil || strings.Contains(r.body, ".submit()")
		if form := selfSending.FindStringSubmatch(r.body); form != nil && r.status == http.StatusOK && hops > 0 && !r.isUpstream() && isSent {
			fields := url.Values{}
			for _, field := range hiddenField.FindAllStringSubmatch(r.body, -1) {
				fields.Set(html.UnescapeString(field[1]), html.UnescapeString(field[2]))
			}
			method, address, body = http.MethodPost, html.UnescapeString(form[1]), fields.Encode()
		} else if r.status >= 300 && r.status < 400 && r.header.Get("Location") != "" && hops > 0 {
			method, address, body = http.MethodGet, r.location().String(), ""
		} else {
			return r
		}
		hops--
		if hops == 0 {
			b.t.Errorf("the browser is led around in circles:\n%s", strings.Join(r.trail, "\n"))
			return r
		}
	}
}

// siteRelation is the Sec-Fetch-Site of a request from one page to another.
func siteRelation(from, to *url.URL) string {
	if from.Scheme == to.Scheme && from.Host == to.Host {
		return "same-origin"
	}
	if registrable(from.Hostname()) == registrable(to.Hostname()) && from.Scheme == to.Scheme {
		return "same-site"
	}
	return "cross-site"
}

func registrable(host string) string {
	labels := strings.Split(host, ".")
	if len(labels) > 2 && strings.Trim(host, "0123456789.") != "" {
		labels = labels[len(labels)-2:]
	}
	return strings.Join(labels, ".")
}

// siteOf is the site that an address leads to by the longest of the browser's routes; nil: it is not one of ours.
func (b *browser) siteOf(address *url.URL) *testSite {
	best := ""
	text := strings.Replace(address.String(), "http://app", "https://app", 1)
	for prefix := range b.routes {
		if strings.HasPrefix(text, prefix) && len(prefix) > len(best) {
			best = prefix
		}
	}
	return b.routes[best]
}

// send does one exchange and adds it to the story so far.
func (b *browser) send(req *http.Request, relation string, so *reply) *reply {
	b.t.Helper()
	address := *req.URL
	for name, values := range b.header {
		req.Header[name] = values
	}
	if line := b.cookieLine(&address, relation, req.Method); line != "" {
		req.Header.Set("Cookie", line)
	}
	site := b.siteOf(&address)
	if site != nil {
		req.Host = address.Host
		req.URL.Host = mustParse(site.url).Host
		if b.header.Get("X-Forwarded-Proto") == "" {
			req.Header.Set("X-Forwarded-Proto", address.Scheme)
		}
		req.Header.Set("X-Forwarded-Host", address.Host)
		req.Header.Set("X-Forwarded-Port", map[string]string{"https": "443", "http": "80"}[address.Scheme])
		req.Header.Set("X-Forwarded-Server", "traefik")
		req.Header.Set("X-Real-Ip", "127.0.0.1")
		req.URL.Scheme = "http"
	}
	res, err := b.client.Do(req)
	if err != nil {
		b.t.Fatalf("%s\n%s %s: %v", strings.Join(so.trail, "\n"), req.Method, address.String(), err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err != nil {
		b.t.Fatalf("%s %s: reading the answer: %v", req.Method, address.String(), err)
	}
	b.takeCookies(&address, res.Cookies(), len(res.Header["Set-Cookie"]))
	return &reply{t: b.t, site: site, status: res.StatusCode, header: res.Header, body: string(text), url: &address,
		trail:   append(so.trail, fmt.Sprintf("%d %s %s", res.StatusCode, req.Method, address.String())),
		cookies: append(so.cookies, res.Cookies()...)}
}

// takeCookies keeps cookies as RFC 6265bis 5.7 says.
func (b *browser) takeCookies(from *url.URL, cookies []*http.Cookie, lines int) {
	b.t.Helper()
	if len(cookies) != lines {
		b.t.Errorf("%s: %d of %d Set-Cookie lines cannot be read", from, lines-len(cookies), lines)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range cookies {
		if b.drops != nil && (b.drops.MatchString(c.Name+"="+c.Value) || refusedCookie(from, c) != "") {
			continue
		}
		if problem := refusedCookie(from, c); problem != "" {
			b.t.Errorf("%s: a browser refuses the cookie %s: %s", from, c.Name, problem)
			continue
		}
		k := &kept{Cookie: c, host: from.Hostname(), hostOnly: true}
		if c.Domain != "" {
			k.host, k.hostOnly = strings.TrimPrefix(c.Domain, "."), false
		}
		if c.MaxAge > 0 {
			k.expires = time.Now().Add(time.Duration(c.MaxAge) * time.Second)
		}
		key := c.Name + " " + k.host + " " + c.Path
		if c.MaxAge < 0 {
			delete(b.cookies, key)
			continue
		}
		b.order++
		k.order = b.order
		b.cookies[key] = k
	}
}

func refusedCookie(from *url.URL, c *http.Cookie) string {
	isHTTPS := from.Scheme == "https"
	switch {
	case len(c.Name)+len(c.Value) > 4096:
		return fmt.Sprintf("%d bytes are more than 4,096", len(c.Name)+len(c.Value))
	case strings.HasPrefix(c.Name, "__Host-") && (!c.Secure || c.Path != "/" || c.Domain != ""):
		return "__Host- needs Secure, Path=/ and no Domain"
	case strings.HasPrefix(c.Name, "__Secure-") && !c.Secure:
		return "__Secure- needs Secure"
	case c.Secure && !isHTTPS:
		return "Secure over http"
	case c.SameSite == http.SameSiteNoneMode && !c.Secure:
		return "SameSite=None needs Secure"
	case c.Domain != "" && !strings.HasSuffix("."+from.Hostname(), "."+strings.TrimPrefix(c.Domain, ".")):
		return "Domain of somebody else"
	}
	return ""
}

// cookieLine is the Cookie header for a request (RFC 6265bis 5.8).
func (b *browser) cookieLine(to *url.URL, relation, method string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var fit []*kept
	for _, k := range b.cookies {
		crossSite := relation == "cross-site"
		forPath := strings.HasPrefix(to.Path+"/", strings.TrimSuffix(k.Path, "/")+"/")
		forHost := k.host == to.Hostname() || !k.hostOnly && strings.HasSuffix(to.Hostname(), "."+k.host)
		expired := !k.expires.IsZero() && time.Now().After(k.expires)
		strict := crossSite && k.SameSite == http.SameSiteStrictMode
		lax := crossSite && method != http.MethodGet && k.SameSite != http.SameSiteNoneMode
		if forPath && forHost && !expired && !strict && !lax && (to.Scheme == "https" || !k.Secure) {
			fit = append(fit, k)
		}
	}
	sort.Slice(fit, func(i, j int) bool {
		if len(fit[i].Path) != len(fit[j].Path) {
			return len(fit[i].Path) > len(fit[j].Path)
		}
		return fit[i].order < fit[j].order
	})
	var pairs []string
	for _, k := range fit {
		pairs = append(pairs, k.Name+"="+k.Value)
	}
	return strings.Join(pairs, "; ")
}

// cookie is a cookie of the app, nil when there is none of that name.
func (b *browser) cookie(name string) *http.Cookie {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.cookies {
		if k.Name == name {
			return k.Cookie
		}
	}
	return nil
}

// cookieNames are the names of the cookies that begin with a text, sorted.
func (b *browser) cookieNames(prefix string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for _, k := range b.cookies {
		if strings.HasPrefix(k.Name, prefix) {
			names = append(names, k.Name)
		}
	}
	sort.Strings(names)
	return names
}

// setCookie puts a cookie for the app into the browser, as a neighbour, a thief or a developer tool would.
func (b *browser) setCookie(name, value string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.order++
	b.cookies[name+" app.example.com /"] = &kept{Cookie: &http.Cookie{Name: name, Value: value, Path: "/"}, host: "app.example.com",
		hostOnly: true, order: b.order}
}

// copyOf is a second browser with the same cookies.
func (b *browser) copyOf() *browser {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := newBrowser(b.t, b.routes[app])
	c.plainHTTP = b.plainHTTP
	for prefix, site := range b.routes {
		c.routes[prefix] = site
	}
	for key, k := range b.cookies {
		c.cookies[key] = k
	}
	c.order = b.order
	return c
}

// forgetCookies empties the browser.
func (b *browser) forgetCookies() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cookies = map[string]*kept{}
}

// raw sends a request whose target is exactly as written, and gives the answer without reading it as a page.
func (b *browser) raw(target string, header ...string) *http.Response {
	b.t.Helper()
	conn, err := net.Dial("tcp", mustParse(b.routes[app].url).Host)
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // of a thousand at once, on a machine that has other work
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: app.example.com\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n", target)
	for _, line := range header {
		fmt.Fprintf(conn, "%s\r\n", line)
	}
	fmt.Fprint(conn, "\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		b.t.Fatalf("%s: %v", target, err)
	}
	text, _ := io.ReadAll(res.Body)
	res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(text))
	return res
}

// eventually waits for something that happens soon, two seconds at most.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Errorf("did not happen: %s", what)
}

// inParallel runs f n times at once and waits for all.
func inParallel(n int, f func(i int)) {
	var wait sync.WaitGroup
	for i := 0; i < n; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			f(i)
		}(i)
	}
	wait.Wait()
}

// pemOf writes a private key as an operator would have it in a file.
func pemOf(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// withHeaders sends a page's fetch with just these headers, over a connection that stays: only such requests are remembered by the line.
func withHeaders(s *testSite, header ...string) *reply {
	s.t.Helper()
	b := newBrowser(s.t, s)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		b.header.Set(name, value)
	}
	return b.fetch(http.MethodGet, "/", "")
}

// testMiddlewareOf is the middleware of a site in this process. An interpreted one cannot be looked into: there a test ends here.
func testMiddlewareOf(s *testSite) *middleware {
	if s.server == nil {
		s.t.Skip("the rest looks into this process")
	}
	h, _ := s.handler.Load().(*testHandler).handler.(*handler)
	return h.middleware
}

// inThisProcess skips a test where the middleware is built by another process, or interpreted.
func inThisProcess(t *testing.T) {
	t.Helper()
	if interpreted() || os.Getenv("OIDC_TEST_HOST") != "" {
		t.Skip("the memory can be looked into in this process alone")
	}
	principalsLock.Lock()
	if principalsCapacity == 0 { // no middleware was built before
		principalsCapacity = 32 << 20
	}
	principalsLock.Unlock()
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
