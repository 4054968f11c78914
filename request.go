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

// refusesHost answers a request whose host is none, of which nothing is made. Only what needs no sign-in may come without any, such as a
// balancer's health check by HTTP/1.0.
func refusesHost(g *gate, rw http.ResponseWriter, req *http.Request, isOpen bool) bool {
	if isOpen && req.Host == "" {
		return false
	}
	refuse(g, rw, req, http.StatusBadRequest, errors.New("host: the request's Host (:authority) is no name of a host"))
	return true
}

// isHTTPS says how the browser came. Where TLS ends before Traefik nobody may have told it, but an operator who wants secure cookies, or
// registered an https address for this host, has.
//
// Traefik's entry point sets X-Forwarded-Proto on every request, and keeps what was there only from proxies it was told to trust
// (forwardedHeaders.trustedIPs).
func isHTTPS(g *gate, req *http.Request) bool {
	if secure := g.sessionCookie.secure; secure != nil && *secure || g.redirect.scheme == "https" && isHere(&g.redirect, req) {
		return true
	}
	if proto := req.Header.Get("X-Forwarded-Proto"); proto != "" {
		return secureScheme.MatchString(proto)
	}
	return req.TLS != nil
}

// secureScheme matches the way a browser came, in what a chain of proxies may make of it ("https, http").
var secureScheme = regexp.MustCompile(`(?i)^(https|wss)( *,|$)`)

// origin is the scheme and host the request came to. Where redirectUrl names this host it is known better than a proxy tells it.
func origin(g *gate, req *http.Request) string {
	host := req.Host
	if g.redirect.host != "" && isHere(&g.redirect, req) {
		host = g.redirect.host
	}
	if isHTTPS(g, req) {
		return "https://" + host
	}
	return "http://" + host
}

// isOurHost says that a browser which sent this request may have come to host. Many a proxy leaves the port out of Host.
func isOurHost(host string, req *http.Request) bool {
	host = usualPort.ReplaceAllString(host, "")
	told, _, _ := strings.Cut(req.Header.Get("X-Forwarded-Host"), ",") // the first of a chain of proxies is the browser's
	for _, came := range []string{req.Host, told} {
		came = usualPort.ReplaceAllString(came, "")
		if strings.EqualFold(came, host) || strings.EqualFold(came, hostOf(host)) {
			return true
		}
	}
	return false
}

var usualPort = regexp.MustCompile(`:(80|443)$`) // which browsers leave out, wherever it was written

// isHere says that a request came to the host of an address that names one.
func isHere(at *location, req *http.Request) bool {
	return at.host == "" || isOurHost(at.host, req)
}

// address is an address of ours as a complete URL; what the option leaves open is taken from the request.
func address(g *gate, at *location, req *http.Request) string {
	if at.host == "" {
		return origin(g, req) + outerPath(req, at.path)
	}
	scheme, _, _ := strings.Cut(origin(g, req), "://")
	if at.scheme != "" {
		scheme = at.scheme
	}
	return scheme + "://" + at.host + at.path
}

const maxPrefix = 256 // bytes

// prefix is what was taken off the path on the way to us, "" for nothing. Several may have done so, the first of them first.
func prefix(req *http.Request) string {
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

// outerPath is how browsers call a path of ours.
func outerPath(req *http.Request, path string) string {
	before := prefix(req)
	if before == "" || strings.HasPrefix(path, before+"/") { // it was written as browsers call it
		return path
	}
	return before + path
}

// outerEndpoint is the address of ours that a request behind a StripPrefix is for, if it was written as browsers call it.
func outerEndpoint(g *gate, req *http.Request) *endpoint {
	return g.endpoints[prefix(req)+req.URL.Path]
}

// thisPage is the page that was asked for, as a path.
func thisPage(req *http.Request) string {
	return localPath(prefix(req) + req.URL.RequestURI())
}

// localPath makes sure that an address stays on our own origin: exactly one slash in front, and nothing that browsers take for one
// or skip over (WHATWG URL 4.4).
func localPath(address string) string {
	visible := strings.Join(strings.FieldsFunc(address, unicode.IsControl), "")
	path := foreign.ReplaceAllStringFunc(strings.TrimLeft(strings.ReplaceAll(visible, "\\", "/"), "/"), url.QueryEscape)
	return "/" + path
}

var foreign = regexp.MustCompile("[^\x00-\x7f]") // also bytes that are no UTF-8, which JSON cannot hold

// wayBack is where somebody is sent who was at address before: a path, and so on the origin the browser is at, whatever address was
// made of. Only where hosts share a cookie for sign-ins, because one of them has the callback of all, it may lead to another of these.
func wayBack(g *gate, req *http.Request, address string) string {
	if strings.HasPrefix(address, "/") {
		return localPath(address)
	}
	u, err := url.Parse(address)
	if err != nil || address == "" || u.Opaque != "" {
		return homePage(g, req)
	}
	back := localPath(u.RequestURI())
	if isOurHost(u.Host, req) {
		return back
	}
	if !has([]string{"http", "https"}, u.Scheme) || !sharesCookies(g, u.Host) {
		return homePage(g, req)
	}
	return u.Scheme + "://" + u.Host + back
}

// sharesCookies says that a host is one of those that have one cookie for sign-ins.
func sharesCookies(g *gate, host string) bool {
	return g.stateCookie.domain != "" && hostName.MatchString(host) && isBelow(host, g.stateCookie.domain)
}
