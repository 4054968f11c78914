package oidc

import (
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
)

// This file reads from a request where the browser is: the scheme, the host, and the path prefix. A request is untrusted input, and what is
// read here goes into addresses, cookies and log lines, so nothing leaves this file unchecked:
//
//	host     the one that Traefik's router matched. Over HTTP/3 nobody in front of us checks :authority, so serve does that first.
//	scheme   X-Forwarded-Proto, which Traefik accepts only from proxies it trusts; the options may say that the site is https anyway
//	prefix   X-Forwarded-Prefix, from such a proxy or from a StripPrefix in front of us; it cannot lead to another origin
//
// X-Forwarded-Host is only compared with what is configured, and never part of an address: proxies pass on what a client made up.

// hostName matches a valid host: a name, or an IPv6 address in brackets, with an optional port (RFC 9110 4.2.3, without escapes and empty
// ports).
var hostName = regexp.MustCompile(`^([0-9A-Za-z._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

var isHostName = hostName.MatchString

// secureScheme matches X-Forwarded-Proto if the browser's scheme was secure. It comes first in what a chain of proxies writes ("https, http").
var secureScheme = regexp.MustCompile(`(?i)^(https|wss)( *,|$)`)

// isRequestHost reports whether host may be the one in the browser's address bar. Many proxies drop the port from Host.
func isRequestHost(host string, req *http.Request) bool {
	host = defaultPort.ReplaceAllString(host, "")
	told, _, _ := cut(req.Header.Get("X-Forwarded-Host"), ",") // in a chain of proxies, the first value is the browser's
	for _, came := range []string{req.Host, told} {
		came = defaultPort.ReplaceAllString(came, "")
		if equalFold(came, host) || equalFold(came, hostOf(host)) {
			return true
		}
	}
	return false
}

var defaultPort = regexp.MustCompile(`:(80|443)$`) // browsers leave it out, whatever the options say

const maxPrefix = 256 // bytes

// forwardedPrefix is the part of the path that was stripped on the way to us, or "". If several proxies stripped one, theirs come in order.
func forwardedPrefix(req *http.Request) string {
	whole := ""
	for _, part := range splitN(joinTexts(req.Header["X-Forwarded-Prefix"], ","), ",", maxMentions) {
		whole += "/" + strings.TrimSpace(part)
	}
	u := url.URL{Path: path.Clean(whole)} // no dot segments, no double slashes
	if whole = u.EscapedPath(); whole == "/" || len(whole) > maxPrefix || whole[0] != '/' {
		return ""
	}
	return whole
}

// externalPath is one of our paths as browsers see it.
func externalPath(req *http.Request, path string) string {
	before := forwardedPrefix(req)
	if before == "" || hasPrefix(path, before+"/") { // the option was written as browsers see it
		return path
	}
	return before + path
}

// requestedPage is the page that was asked for, as a path.
func requestedPage(req *http.Request) string {
	return localPath(forwardedPrefix(req) + req.URL.RequestURI())
}

// localPath makes an address stay on our own origin: it begins with exactly one slash, and has no characters that browsers read as a slash
// or skip (WHATWG URL 4.4).
func localPath(address string) string {
	visible := joinTexts(strings.FieldsFunc(address, unicode.IsControl), "")
	path := nonASCII.ReplaceAllStringFunc(strings.TrimLeft(strings.ReplaceAll(visible, "\\", "/"), "/"), url.QueryEscape)
	return "/" + path
}

var nonASCII = regexp.MustCompile("[^\x00-\x7f]") // also bytes that are not UTF-8, which JSON cannot hold

// readForm returns the body of a posted form, still encoded.
func readForm(req *http.Request) (string, error) {
	kind, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if kind != "application/x-www-form-urlencoded" {
		return "", errorf("form: expected application/x-www-form-urlencoded, got %q", forLog(kind))
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxForm+1))
	if err == nil && len(body) > maxForm {
		err = errorf("form: larger than %d bytes", maxForm)
	}
	return string(body), err
}

// isCrossSite reports whether another site caused this request. Browsers say so in Sec-Fetch-Site, on https and localhost. Elsewhere Origin
// and Referer must do; a request with none of them was typed into the address bar, or is not a browser's.
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

// wantsHTML tells a page load from a call by a script or another program. Today's browsers say which it is (Fetch Metadata, on https and
// localhost). If nothing is said, an Accept header with HTML must do, unless a library says that it is a script.
func wantsHTML(req *http.Request) bool {
	mode := req.Header.Get("Sec-Fetch-Mode")
	return mode == "navigate" || mode == "" && containsText(toLower(joinTexts(req.Header["Accept"], ",")), "text/html") && !isOfScript(req)
}

// isOfScript reports whether a library says that its request is no page load: jQuery and others, htmx. It is a function of its own because
// each value in an expression costs the interpreter an allocation, also where it is not reached.
func isOfScript(req *http.Request) bool {
	return req.Header.Get("X-Requested-With") == "XMLHttpRequest" || req.Header["Hx-Request"] != nil
}

// isNavigation reports whether the request loads a page and has no body to lose, so that it may be redirected to the provider.
func isNavigation(req *http.Request) bool {
	return (req.Method == http.MethodGet || req.Method == http.MethodHead) && wantsHTML(req)
}

// isSafeMethod reports whether a method is safe: it changes nothing (RFC 9110 9.2.1).
func isSafeMethod(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions || method == http.MethodTrace
}

// speculative matches headers by which browsers and pages mark a load that the user may never see (Fetch: Sec-Purpose, and its
// forerunners; Next.js, Turbo, htmx).
var speculative = regexp.MustCompile(`(?i)^(([a-z]+-)*purpose|x-moz): *(prefetch|prerender|preview|preload|instant)|^[a-z-]*(prefetch|prerender|preloaded)[a-z-]*: *[^0f ]`)

// isSpeculative reports whether a request is such a load. It must change nothing: no session ends, and no sign-in begins.
func isSpeculative(req *http.Request) bool {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return false
	}
	for name, values := range req.Header {
		if len(name) <= maxSafeHeaderLength && speculative.MatchString(name+": "+joinTexts(values, ",")) {
			return true
		}
	}
	return false
}

// readParameters reads the parameters of a request to one of our own addresses, strictly: Go's URL.Query silently drops malformed ones.
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
		return nil, errorf("the parameters cannot be read: %s", err)
	}
	for _, name := range strings.Fields("state code iss error sid logout_token target_link_uri rd") {
		if len(form[name]) > 1 { // RFC 6749 3.1
			return nil, errorf("%s was given more than once", name)
		}
	}
	return form, nil
}

// withQuery adds parameters to an address that may already have some (RFC 6749 3.1).
func withQuery(address string, form url.Values) string {
	separator := "?"
	if containsText(address, "?") {
		separator = "&"
	}
	return address + separator + form.Encode()
}
