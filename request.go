package oidc

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
)

// Everything that is read off a request: by which scheme, at which host and below which path the browser came, and what it sent.
// A request is untrusted text. What is read here goes into addresses, cookies and log lines, so nothing leaves unchecked:
//
//	host     the one that Traefik's router matched. Over HTTP/3 nobody before us looks at :authority, so serve does first of all.
//	scheme   X-Forwarded-Proto, which Traefik takes from proxies it trusts alone, unless the options say that the site is https
//	prefix   X-Forwarded-Prefix, of such a proxy or of a StripPrefix in front of us; it leads nowhere but to this origin
//
// X-Forwarded-Host is compared with what is configured, and never a part of an address: proxies pass on what a client made up.

// hostName is what a host may be: a name, or an IPv6 address in brackets, and a port (RFC 9110 4.2.3, without escapes and empty ports).
var hostName = regexp.MustCompile(`^([0-9A-Za-z._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

// secureScheme matches the way a browser came, in what a chain of proxies may make of it ("https, http").
var secureScheme = regexp.MustCompile(`(?i)^(https|wss)( *,|$)`)

// isRequestHost says that a browser which sent this request may have come to host. Many a proxy leaves the port out of Host.
func isRequestHost(host string, req *http.Request) bool {
	host = defaultPort.ReplaceAllString(host, "")
	told, _, _ := strings.Cut(req.Header.Get("X-Forwarded-Host"), ",") // the first of a chain of proxies is the browser's
	for _, came := range []string{req.Host, told} {
		came = defaultPort.ReplaceAllString(came, "")
		if strings.EqualFold(came, host) || strings.EqualFold(came, hostOf(host)) {
			return true
		}
	}
	return false
}

var defaultPort = regexp.MustCompile(`:(80|443)$`) // which browsers leave out, wherever it was written

const maxPrefix = 256 // bytes

// forwardedPrefix is the part of the path that was stripped on the way to us, "" if none. Several may have done so, the first of them first.
func forwardedPrefix(req *http.Request) string {
	whole := ""
	for _, part := range strings.SplitN(strings.Join(req.Header["X-Forwarded-Prefix"], ","), ",", maxMentions) {
		whole += "/" + strings.TrimSpace(part)
	}
	u := url.URL{Path: path.Clean(whole)} // no dot segments, no double slashes
	if whole = u.EscapedPath(); whole == "/" || len(whole) > maxPrefix || whole[0] != '/' {
		return ""
	}
	return whole
}

// externalPath is how browsers call a path of ours.
func externalPath(req *http.Request, path string) string {
	before := forwardedPrefix(req)
	if before == "" || strings.HasPrefix(path, before+"/") { // it was written as browsers call it
		return path
	}
	return before + path
}

// requestedPage is the page that was asked for, as a path.
func requestedPage(req *http.Request) string {
	return localPath(forwardedPrefix(req) + req.URL.RequestURI())
}

// localPath makes sure that an address stays on our own origin: exactly one slash in front, and nothing that browsers take for one
// or skip over (WHATWG URL 4.4).
func localPath(address string) string {
	visible := strings.Join(strings.FieldsFunc(address, unicode.IsControl), "")
	path := nonASCII.ReplaceAllStringFunc(strings.TrimLeft(strings.ReplaceAll(visible, "\\", "/"), "/"), url.QueryEscape)
	return "/" + path
}

var nonASCII = regexp.MustCompile("[^\x00-\x7f]") // also bytes that are no UTF-8, which JSON cannot hold

// readForm is the body of a posted form, as text.
func readForm(req *http.Request) (string, error) {
	kind, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if kind != "application/x-www-form-urlencoded" {
		return "", fmt.Errorf("form: expected application/x-www-form-urlencoded, got %q", forLog(kind))
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxForm+1))
	if err == nil && len(body) > maxForm {
		err = fmt.Errorf("form: larger than %d bytes", maxForm)
	}
	return string(body), err
}

// isCrossSite says that another site sent this request. Browsers tell it in Sec-Fetch-Site, on https and localhost; else Origin and
// Referer have to do, and a request that has none of them was typed or is no browser's.
func isCrossSite(req *http.Request) bool {
	if site := req.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "cross-site"
	}
	sent := req.Header.Get("Origin")
	if sent == "" {
		sent = req.Header.Get("Referer")
	}
	from, err := url.Parse(sent)
	return sent != "" && (err != nil || !isRequestHost(from.Host, req))
}

// wantsHTML tells a browser's page load from a program's call. Browsers of today say it (Fetch Metadata, on https and localhost);
// when nothing is said, asking for HTML has to do.
func wantsHTML(req *http.Request) bool {
	mode := req.Header.Get("Sec-Fetch-Mode")
	return mode == "navigate" || mode == "" && strings.Contains(strings.ToLower(strings.Join(req.Header["Accept"], ",")), "text/html")
}

// isNavigation says that the request loads a page and loses nothing when it is sent elsewhere first: it may be redirected to the provider.
func isNavigation(req *http.Request) bool {
	return (req.Method == http.MethodGet || req.Method == http.MethodHead) && wantsHTML(req)
}

// isSafeMethod says that a method changes nothing (RFC 9110 9.2.1).
func isSafeMethod(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions || method == http.MethodTrace
}

// speculative matches what browsers and pages say of a load that its user may never see (Fetch: Sec-Purpose; its forerunners; Next.js,
// Turbo, htmx).
var speculative = regexp.MustCompile(`(?i)^(([a-z]+-)*purpose|x-moz): *(prefetch|prerender|preview|preload|instant)|^[a-z-]*(prefetch|prerender|preload)[a-z-]*: *[^0f ]`)

// isSpeculative says that a request is such a load. It must change nothing: no session ends, and no sign-in begins.
func isSpeculative(req *http.Request) bool {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return false
	}
	for name, values := range req.Header {
		if len(name) <= maxSafeHeaderLength && speculative.MatchString(name+": "+strings.Join(values, ",")) {
			return true
		}
	}
	return false
}

// readParameters reads what was sent to an address of ours, strictly: Go's URL.Query hides what it could not read.
func readParameters(req *http.Request) (url.Values, error) {
	sent := req.URL.RawQuery
	if req.Method == http.MethodPost {
		body, err := readForm(req)
		if err != nil {
			return nil, err
		}
		sent = body
	}
	form, err := url.ParseQuery(sent)
	if err != nil {
		return nil, fmt.Errorf("the parameters cannot be read: %s", err)
	}
	for _, name := range strings.Fields("state code iss error sid logout_token target_link_uri rd") {
		if len(form[name]) > 1 { // RFC 6749 3.1
			return nil, fmt.Errorf("%s was given more than once", name)
		}
	}
	return form, nil
}

// withQuery adds parameters to an address that may have some already (RFC 6749 3.1).
func withQuery(address string, form url.Values) string {
	separator := "?"
	if strings.Contains(address, "?") {
		separator = "&"
	}
	return address + separator + form.Encode()
}
