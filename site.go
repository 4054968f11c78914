package oidc

import (
	"net/http"
	"net/url"
	"strings"
)

// The addresses of ours: which there are, and how a browser calls them.

// site is what is known of the addresses where browsers come to us.
type site struct {
	config                          *Config
	endpoints                       map[string]*endpoint // by path
	redirect, postLogin, postLogout location
	secure                          *bool  // session.secure: true says that browsers come by https, whatever Traefik saw
	stateDomain                     string // of the cookie of pending logins: hosts below it share sign-ins
}

// newSite reads the options that are addresses. Each address of ours has one meaning, and takes these methods.
func newSite(c *Config, p *problems) *site {
	st := &site{config: c, endpoints: map[string]*endpoint{}, secure: c.Session.Secure, stateDomain: c.StateCookie.Domain}
	if c.Issuer == "" {
		return st
	}
	for _, row := range strings.Fields("redirectUrl=GET,HEAD loginUrl=GET,POST logoutUrl=GET,POST backchannelLogoutUrl=POST frontchannelLogoutUrl=GET") {
		name, methods, _ := strings.Cut(row, "=")
		at, err := parseLocation(p.set[name])
		if err != nil {
			continue // not set, or reported
		}
		if other := st.endpoints[at.path]; other != nil {
			p.add(name, "must not have the path of %s, got %q; write another path", other.name, at.path)
		}
		// RFC 6265 5.1.4: elsewhere browsers do not send the session, and a sign-out would leave it as it is.
		if path := c.Session.Path; name == "logoutUrl" && !strings.HasPrefix(at.path+"/", strings.TrimSuffix(path, "/")+"/") {
			p.add(name, "must be within session.path, %q, got %q; the browser does not send the session elsewhere", path, at.path)
		}
		if name == "redirectUrl" && c.ResponseMode == "form_post" {
			methods = "GET,HEAD,POST"
		}
		// RFC 6265 5.3, step 6: the browser would drop a cookie that is set there.
		sets := name == "redirectUrl" || name == "loginUrl" || name == "logoutUrl"
		if domain := c.Session.Domain; sets && domain != "" && at.host != "" && !domainMatches(at.host, domain) {
			p.add("session.domain", "must cover the host of %s, %q, got %q; write a domain that both the pages and that host are in", name, at.host, domain)
		}
		st.endpoints[at.path] = &endpoint{location: at, name: name, methods: strings.Split(methods, ",")}
	}
	st.redirect, _ = parseLocation(c.RedirectURL)
	st.postLogin, _ = parseLocation(c.PostLoginRedirectURL)
	st.postLogout, _ = parseLocation(c.PostLogoutRedirectURL)
	checkLanding(st, "postLoginRedirectUrl", &st.postLogin, p)
	checkLanding(st, "postLogoutRedirectUrl", &st.postLogout, p)
	return st
}

// checkLanding refuses an address of ours as the page where a sign-in or sign-out ends: people would go round. A sign-out may end with
// another sign-in.
func checkLanding(st *site, name string, at *location, p *problems) {
	own := endpointAt(st, at)
	if own == nil || at.host != "" && at.host != own.location.host && at.host != st.redirect.host || name == "postLogoutRedirectUrl" && own.name == "loginUrl" {
		return
	}
	p.add(name, "must not be %s, which is no page to end at; write another page, such as \"/\"", own.name)
}

// endpointAt is the endpoint at an address, whatever its query.
func endpointAt(st *site, at *location) *endpoint {
	path, _, _ := strings.Cut(at.path, "?")
	return st.endpoints[path]
}

// isHTTPS says how the browser came. Where TLS ends before Traefik nobody may have told it, but an operator who wants secure cookies, or
// registered an https address for this host, has.
//
// Traefik's entry point sets X-Forwarded-Proto on every request, and keeps what was there only from proxies it was told to trust
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

// origin is the scheme and host the request came to. Where redirectUrl names this host it is known better than a proxy tells it.
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

// matchesHost says that a request came to the host of an address that names one.
func matchesHost(at *location, req *http.Request) bool {
	return at.host == "" || isRequestHost(at.host, req)
}

// absoluteURL is an address of ours as a complete URL; what the option leaves open is taken from the request.
func absoluteURL(st *site, at *location, req *http.Request) string {
	if at.host == "" {
		return origin(st, req) + externalPath(req, at.path)
	}
	scheme, _, _ := strings.Cut(origin(st, req), "://")
	if at.scheme != "" {
		scheme = at.scheme
	}
	return scheme + "://" + at.host + at.path
}

// externalEndpoint is the address of ours that a request behind a StripPrefix is for, if it was written as browsers call it.
func externalEndpoint(st *site, req *http.Request) *endpoint {
	return st.endpoints[forwardedPrefix(req)+req.URL.Path]
}

// returnURL is where somebody is sent who was at address before: a path, and so on the origin the browser is at, whatever address was
// made of. Only where hosts share a cookie for sign-ins, because one of them has the callback of all, it may lead to another of these.
func returnURL(st *site, req *http.Request, address string) string {
	if strings.HasPrefix(address, "/") {
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

// sharesStateCookie says that a host is one of those that have one cookie for sign-ins.
func sharesStateCookie(st *site, host string) bool {
	return st.stateDomain != "" && hostName.MatchString(host) && domainMatches(host, st.stateDomain)
}

// defaultPage is where somebody goes who wants nothing in particular: never to an address of ours, which would lead around.
func defaultPage(st *site, req *http.Request) string {
	if st.config.PostLoginRedirectURL != "" && (endpointAt(st, &st.postLogin) == nil || !matchesHost(&st.postLogin, req)) {
		return absoluteURL(st, &st.postLogin, req)
	}
	return externalPath(req, "/")
}
