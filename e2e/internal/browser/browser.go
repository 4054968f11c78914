// Package browser is a client that behaves as a browser does where a sign-in depends on it: it keeps cookies, tells by
// Sec-Fetch headers what kind of request it makes and where from, follows redirects, and sends forms.
package browser

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/publicsuffix"
)

// Browser is one person's browser. It may be used by several goroutines, as tabs are.
type Browser struct {
	Jar    *cookiejar.Jar
	Header http.Header // sent with every request, beside what a browser sends

	client *http.Client
	mu     sync.Mutex
	set    []*http.Cookie
}

// Page is what the browser ended up with.
type Page struct {
	Status int
	Header http.Header
	Body   string
	URL    *url.URL
	// Trail has every step that led here, the last one included: "302 GET http://…".
	Trail []string
	// Cookies are all that were set on the way.
	Cookies []*http.Cookie
}

// New makes a browser without cookies. All names that end in .localhost lead to 127.0.0.1, as real browsers have it; TLS
// certificates are checked against roots (nil: not checked).
func New(tlsConfig *tls.Config) *Browser {
	jar, _ := cookiejar.New(&cookiejar.Options{PublicSuffixList: publicsuffix.List})
	if tlsConfig == nil {
		tlsConfig = &tls.Config{InsecureSkipVerify: true}
	}
	transport := &http.Transport{
		DialContext:         dialLocalhost,
		TLSClientConfig:     tlsConfig,
		MaxIdleConnsPerHost: 128,
		IdleConnTimeout:     30 * time.Second,
	}
	return &Browser{
		Jar: jar,
		client: &http.Client{
			Jar: jar, Transport: transport, Timeout: 60 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func dialLocalhost(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && strings.HasSuffix(host, ".localhost") {
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

// Client is the plain HTTP client under the browser, with its cookies; it follows no redirects.
func (b *Browser) Client() *http.Client { return b.client }

// Open goes to an address as if it had been typed, and on to where that leads.
func (b *Browser) Open(address string) (*Page, error) {
	return b.navigate(http.MethodGet, address, nil, "", 20)
}

// Look is Open without following redirects.
func (b *Browser) Look(address string) (*Page, error) {
	return b.navigate(http.MethodGet, address, nil, "", 0)
}

// Follow goes to an address by a link on a page.
func (b *Browser) Follow(from *Page, address string) (*Page, error) {
	target, err := from.URL.Parse(address)
	if err != nil {
		return nil, err
	}
	return b.navigate(http.MethodGet, target.String(), nil, from.URL.String(), 20)
}

// Fetch does what a script on the page at origin does with fetch(): no navigation, and the answer as it comes. An empty
// origin means a script of the same site as the address.
func (b *Browser) Fetch(method, address, origin string, body io.Reader) (*Page, error) {
	req, err := http.NewRequest(method, address, body)
	if err != nil {
		return nil, err
	}
	if origin == "" {
		origin = originOf(req.URL)
	}
	from, err := url.Parse(origin)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "*/*")
	req.Header.Set("Sec-Fetch-Mode", "cors")
	req.Header.Set("Sec-Fetch-Dest", "empty")
	req.Header.Set("Sec-Fetch-Site", site(from, req.URL))
	if method != http.MethodGet && method != http.MethodHead {
		req.Header.Set("Origin", originOf(from))
	}
	return b.send(req, &Page{})
}

// Submit sends the form of a page, its fields filled from values. A form with no button to press, which scripts send at
// once, needs no values; navigate sends those by itself.
func (b *Browser) Submit(from *Page, values url.Values) (*Page, error) {
	form, err := from.form()
	if err != nil {
		return nil, err
	}
	return b.submit(from, form, values, 20)
}

func (b *Browser) submit(from *Page, form *form, values url.Values, hops int) (*Page, error) {
	for name := range values {
		form.fields.Set(name, values.Get(name))
	}
	target, err := from.URL.Parse(form.action)
	if err != nil {
		return nil, err
	}
	if form.method != http.MethodPost {
		target.RawQuery = form.fields.Encode()
		return b.navigate(http.MethodGet, target.String(), nil, from.URL.String(), hops)
	}
	return b.navigate(http.MethodPost, target.String(), form.fields, from.URL.String(), hops)
}

// Post sends a form to an address from a page of the same site.
func (b *Browser) Post(address string, values url.Values) (*Page, error) {
	return b.navigate(http.MethodPost, address, values, address, 20)
}

// SignIn opens an address, fills in the provider's form, and ends where the application sends the browser.
func (b *Browser) SignIn(address, name, password string) (*Page, error) {
	page, err := b.Open(address)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(page.Body, `type="password"`) {
		return page, fmt.Errorf("no sign-in form, but %s", page)
	}
	return b.Submit(page, url.Values{"username": {name}, "password": {password}})
}

// navigate loads a page as the top-level document, started by a page at from ("": by typing).
func (b *Browser) navigate(method, address string, values url.Values, from string, hops int) (*Page, error) {
	page := &Page{}
	crossed := false // once a redirect has crossed to another site, the whole chain counts as cross-site
	for {
		var body io.Reader
		if method == http.MethodPost {
			body = strings.NewReader(values.Encode())
		}
		req, err := http.NewRequest(method, address, body)
		if err != nil {
			return page, err
		}
		initiator := ""
		if from != "" {
			source, err := url.Parse(from)
			if err != nil {
				return page, err
			}
			crossed = crossed || site(source, req.URL) == "cross-site"
			initiator = site(source, req.URL)
		}
		setNavigation(req, method, initiator, crossed, from)
		if page, err = b.send(req, page); err != nil {
			return page, err
		}
		location := page.Header.Get("Location")
		if page.Status < 300 || page.Status > 399 || location == "" {
			break
		}
		if hops--; hops < 0 {
			return page, nil
		}
		next, err := page.URL.Parse(location)
		if err != nil {
			return page, fmt.Errorf("redirect: %w", err)
		}
		if from != "" {
			crossed = crossed || site(page.URL, next) == "cross-site"
		}
		address = next.String()
		if page.Status != http.StatusTemporaryRedirect && page.Status != http.StatusPermanentRedirect {
			method, values = http.MethodGet, nil
		}
		if len(page.Trail) > 30 {
			return page, fmt.Errorf("redirect loop:\n%s", page)
		}
	}
	if hops <= 0 {
		return page, nil
	}
	next, err := b.goOn(page, hops-1)
	if next == nil {
		return page, err
	}
	next.Trail = append(page.Trail, next.Trail...)
	next.Cookies = append(page.Cookies, next.Cookies...)
	return next, err
}

// goOn does what a page does by itself as soon as it is there: it leads to another address, or sends its form. Nil: nothing.
func (b *Browser) goOn(page *Page, hops int) (*Page, error) {
	if address, found := strings.CutPrefix(page.Header.Get("Refresh"), "0; url="); found {
		target, err := page.URL.Parse(address)
		if err != nil {
			return nil, fmt.Errorf("refresh: %w", err)
		}
		return b.navigate(http.MethodGet, target.String(), nil, page.URL.String(), hops)
	}
	if !strings.Contains(page.Body, ".submit()") {
		return nil, nil
	}
	form, err := page.form()
	if err != nil || !form.sendsItself {
		return nil, nil
	}
	return b.submit(page, form, nil, hops)
}

// setNavigation sets what browsers send with a page load (Fetch Metadata).
func setNavigation(req *http.Request, method, initiator string, crossed bool, from string) {
	if initiator == "" {
		initiator = "none"
	} else if crossed {
		initiator = "cross-site"
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Sec-Fetch-Dest", "document")
	req.Header.Set("Sec-Fetch-User", "?1")
	req.Header.Set("Sec-Fetch-Site", initiator)
	req.Header.Set("Upgrade-Insecure-Requests", "1")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if source, err := url.Parse(from); err == nil {
			req.Header.Set("Origin", originOf(source))
		}
	}
}

// send makes one request and adds its answer to the page.
func (b *Browser) send(req *http.Request, page *Page) (*Page, error) {
	req.Header.Set("User-Agent", "Mozilla/5.0 (e2e)")
	for name, values := range b.Header {
		req.Header[name] = values
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return page, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return page, err
	}
	cookies := resp.Cookies()
	b.mu.Lock()
	b.set = append(b.set, cookies...)
	b.mu.Unlock()
	return &Page{
		Status: resp.StatusCode, Header: resp.Header, Body: string(body), URL: req.URL,
		Trail:   append(page.Trail, fmt.Sprintf("%d %s %s", resp.StatusCode, req.Method, req.URL)),
		Cookies: append(page.Cookies, cookies...),
	}, nil
}

// Cookies are those that would be sent to an address.
func (b *Browser) Cookies(address string) []*http.Cookie {
	u, err := url.Parse(address)
	if err != nil {
		return nil
	}
	return b.Jar.Cookies(u)
}

// WasSet returns every cookie that any answer set so far, with its attributes, in order.
func (b *Browser) WasSet() []*http.Cookie {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*http.Cookie(nil), b.set...)
}

// Cookie finds the last cookie with this name that was set on the way to the page.
func (p *Page) Cookie(name string) *http.Cookie {
	for i := len(p.Cookies) - 1; i >= 0; i-- {
		if p.Cookies[i].Name == name {
			return p.Cookies[i]
		}
	}
	return nil
}

// String is the page as a failed test wants to see it: how it was reached, and how it begins.
func (p *Page) String() string {
	body := p.Body
	if len(body) > 600 {
		body = body[:600] + "…"
	}
	return fmt.Sprintf("%d after\n  %s\n%s", p.Status, strings.Join(p.Trail, "\n  "), body)
}

// form is the first form of a page, with the values its fields already have.
type form struct {
	action, method string
	fields         url.Values
	sendsItself    bool
}

func (p *Page) form() (*form, error) {
	root, err := html.Parse(strings.NewReader(p.Body))
	if err != nil {
		return nil, err
	}
	for node := range root.Descendants() {
		if node.Type == html.ElementNode && node.Data == "form" {
			found := &form{action: attribute(node, "action"), method: strings.ToUpper(attribute(node, "method")), fields: url.Values{}}
			readFields(node, found.fields)
			// A form of response_mode form_post is sent by a script of its page as soon as it is there.
			found.sendsItself = strings.Contains(p.Body, ".submit()") && !strings.Contains(p.Body, `type="password"`)
			return found, nil
		}
	}
	return nil, fmt.Errorf("no form on the page: %s", p)
}

func readFields(form *html.Node, fields url.Values) {
	for node := range form.Descendants() {
		if node.Type == html.ElementNode && node.Data == "input" && attribute(node, "name") != "" {
			fields.Set(attribute(node, "name"), attribute(node, "value"))
		}
	}
}

func attribute(node *html.Node, name string) string {
	for _, a := range node.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func originOf(u *url.URL) string { return u.Scheme + "://" + u.Host }

// site is the value of Sec-Fetch-Site for a request from one address to another. Hosts under .localhost are sites of their
// own by their last two labels, as the public suffix list has it.
func site(from, to *url.URL) string {
	switch {
	case originOf(from) == originOf(to):
		return "same-origin"
	case from.Scheme == to.Scheme && siteOf(from.Hostname()) == siteOf(to.Hostname()):
		return "same-site"
	}
	return "cross-site"
}

func siteOf(host string) string {
	if net.ParseIP(host) != nil {
		return host
	}
	if own, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return own
	}
	return host
}
