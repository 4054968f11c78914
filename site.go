package oidc

import (
	"net/http"
	"net/url"
	"strings"
)

// Our own addresses: which there are, and how a browser calls them.

// site is what we know about the addresses at which browsers reach us.
type site struct {
	config                          *Config
	endpoints                       map[string]*endpoint // by path
	redirect, postLogin, postLogout location
	secure                          *bool  // session.secure: if true, browsers use https, whatever Traefik saw
	stateDomain                     string // stateCookie.domain: the hosts below it share sign-ins
}

// newSite reads the options that are addresses. Each of our addresses has one purpose, and accepts only certain methods.
func newSite(c *Config, p *problems) *site {
	st := &site{config: c, endpoints: map[string]*endpoint{}, secure: c.Session.Secure, stateDomain: c.StateCookie.Domain}
	if c.Issuer == "" {
		return st
	}
	for _, row := range strings.Fields("redirectUrl=GET,HEAD loginUrl=GET,POST logoutUrl=GET,POST backchannelLogoutUrl=POST frontchannelLogoutUrl=GET") {
		name, methods, _ := cut(row, "=")
		if p.set[name] == "" {
			continue
		}
		at, err := parseLocation(p.set[name])
		if err != nil {
			continue // reported
		}
		if other := st.endpoints[at.path]; other != nil {
			p.add(name, "must not have the path of %s, got %q; write another path", other.name, at.path)
		}
		// RFC 6265 5.1.4: browsers do not send the session cookie to other paths, so a sign-out there would not end the session.
		if path := c.Session.Path; name == "logoutUrl" && !hasPrefix(at.path+"/", strings.TrimSuffix(path, "/")+"/") {
			p.add(name, "must be within session.path, %q, got %q; the browser does not send the session elsewhere", path, at.path)
		}
		if name == "redirectUrl" {
			st.redirect = at
			if c.ResponseMode == "form_post" {
				methods = "GET,HEAD,POST"
			}
		}
		// RFC 6265 5.3, step 6: a browser ignores a cookie for a domain that the host is not in.
		sets := name == "redirectUrl" || name == "loginUrl" || name == "logoutUrl"
		if domain := c.Session.Domain; sets && domain != "" && at.host != "" && !domainMatches(at.host, domain) {
			p.add("session.domain", "must cover the host of %s, %q, got %q; write a domain that both the pages and that host are in", name, at.host, domain)
		}
		st.endpoints[at.path] = &endpoint{location: at, name: name, methods: strings.Split(methods, ",")}
	}
	if c.PostLoginRedirectURL != "" {
		st.postLogin = parseLanding(st, "postLoginRedirectUrl", c.PostLoginRedirectURL, p)
	}
	if c.PostLogoutRedirectURL != "" {
		st.postLogout = parseLanding(st, "postLogoutRedirectUrl", c.PostLogoutRedirectURL, p)
	}
	return st
}

// parseLanding reads the address of the page where a sign-in or sign-out ends. It refuses one of our own: that would be a redirect loop.
// Only a sign-out may end at loginUrl, with another sign-in.
func parseLanding(st *site, name, text string, p *problems) location {
	at, _ := parseLocation(text) // a mistake in it was reported
	own := endpointAt(st, &at)
	if own != nil && (at.host == "" || at.host == own.location.host || at.host == st.redirect.host) && (name != "postLogoutRedirectUrl" || own.name != "loginUrl") {
		p.add(name, "must not be %s, which is no page to end at; write another page, such as \"/\"", own.name)
	}
	return at
}

// endpointAt is the endpoint at an address, ignoring its query.
func endpointAt(st *site, at *location) *endpoint {
	path, _, _ := cut(at.path, "?")
	return st.endpoints[path]
}

// isHTTPS reports whether the browser uses https. Where TLS ends in front of Traefik, nothing in the request may say so. But an operator
// who sets session.secure, or an https redirectUrl for this host, has said so.
//
// Traefik's entry point sets X-Forwarded-Proto on every request. It keeps a value that was sent only if it came from a trusted proxy
// (forwardedHeaders.trustedIPs).
func isHTTPS(st *site, req *http.Request) bool {
	if st.secure != nil && *st.secure || st.redirect.scheme == "https" && matchesHost(&st.redirect, req) {
		return true
	}
	if proto := req.Header.Get("X-Forwarded-Proto"); proto != "" {
		return secureScheme.MatchString(proto)
	}
	return req.TLS != nil
}

// origin is the scheme and host the request came to. If redirectUrl names this host, it is more reliable than what proxies pass on.
func origin(st *site, req *http.Request) string {
	host := req.Host
	if st.redirect.host != "" && matchesHost(&st.redirect, req) {
		host = st.redirect.host
	}
	if isHTTPS(st, req) {
		return "https://" + host
	}
	return "http://" + host
}

// matchesHost reports whether a request came to the host of an address. An address without a host matches every request.
func matchesHost(at *location, req *http.Request) bool {
	return at.host == "" || isRequestHost(at.host, req)
}

// absoluteURL is one of our addresses as a complete URL. What the option leaves out is taken from the request.
func absoluteURL(st *site, at *location, req *http.Request) string {
	if at.host == "" {
		return origin(st, req) + externalPath(req, at.path)
	}
	scheme, _, _ := cut(origin(st, req), "://")
	if at.scheme != "" {
		scheme = at.scheme
	}
	return scheme + "://" + at.host + at.path
}

// returnURL is where to send a browser that was at address before. It is a path, so it stays on the browser's current origin, whatever
// address held. The exception are hosts that share a state cookie because one of them has the callback for all: it may lead to another
// of these.
func returnURL(st *site, req *http.Request, address string) string {
	if hasPrefix(address, "/") {
		return localPath(address)
	}
	u, err := url.Parse(address)
	if err != nil || address == "" || u.Opaque != "" {
		return defaultPage(st, req)
	}
	back := localPath(u.RequestURI())
	if isRequestHost(u.Host, req) {
		return back
	}
	if !contains([]string{"http", "https"}, u.Scheme) || !sharesStateCookie(st, u.Host) {
		return defaultPage(st, req)
	}
	return u.Scheme + "://" + u.Host + back
}

// sharesStateCookie reports whether a host is one of those that share a state cookie.
func sharesStateCookie(st *site, host string) bool {
	return st.stateDomain != "" && isHostName(host) && domainMatches(host, st.stateDomain)
}

// defaultPage is where a sign-in ends that has no page to return to. It is never one of our own addresses: that would be a loop.
func defaultPage(st *site, req *http.Request) string {
	if st.config.PostLoginRedirectURL != "" && (endpointAt(st, &st.postLogin) == nil || !matchesHost(&st.postLogin, req)) {
		return absoluteURL(st, &st.postLogin, req)
	}
	return externalPath(req, "/")
}
