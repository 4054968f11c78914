package oidc

import (
	"errors"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
)

// This room reads off a request, once for all others, where the browser is: by which scheme, at which host, below which path.
// A request is foreign text. What is read here goes into addresses, cookies and log lines, so nothing leaves this room unchecked:
//
//	host     the one that Traefik's router matched. Over HTTP/3 nobody before us looks at :authority, so serve does first of all.
//	scheme   X-Forwarded-Proto, which Traefik takes from proxies it trusts alone, unless the options say that the site is https
//	prefix   X-Forwarded-Prefix, of such a proxy or of a StripPrefix in front of us; it leads nowhere but to this origin
//
// X-Forwarded-Host is compared with what is configured, and never a part of an address: proxies pass on what a client made up.

// hostName is what a host may be: a name, or an IPv6 address in brackets, and a port (RFC 9110 4.2.3, without escapes and empty ports).
var hostName = regexp.MustCompile(`^([0-9A-Za-z._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

// refuseBadHost answers a request whose host is none, of which nothing is made. Only what needs no sign-in may come without any, such as a
// balancer's health check by HTTP/1.0.
func refuseBadHost(m *middleware, rw http.ResponseWriter, req *http.Request, isOpen bool) bool {
	if isOpen && req.Host == "" {
		return false
	}
	refuse(m, rw, req, http.StatusBadRequest, errors.New("host: the request's Host (:authority) is no name of a host"))
	return true
}

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

// prefix is what was taken off the path on the way to us, "" for nothing. Several may have done so, the first of them first.
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
