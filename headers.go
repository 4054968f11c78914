package oidc

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// What the upstream is told: our identity headers, and none that a client made up.
//
// Backends fold header names together: X-User, X_User and x.user are one variable to CGI, WSGI and others. So a name counts as
// ours when it is the same after every character that is neither letter nor digit has become a hyphen (RFC 9700 4.13).

const (
	maxHeaders  = 500 // names of a request's headers; browsers and proxies need some fifty, and looking at one takes the interpreter 4 µs
	maxMentions = 100 // names that Connection or Trailer list
)

// policy is the rule for one way in (sign-in, bearer token), with the headers and user name for the upstream.
type policy struct {
	rule     rule
	headers  []*forwardHeader
	username claimKey
}

// forwardHeader is one header for the upstream; name is canonical.
type forwardHeader struct {
	name    string
	format  *headerFormat
	isLines bool
}

// newPolicy compiles the three options that make a policy; at is the path of their block, "" at the top level.
func newPolicy(c *PolicyConfig, at string, p *problems) *policy {
	made := &policy{}
	var err error
	made.rule, err = parseRule(c.Claims)
	p.addError(at+"claims", err)
	if c.UsernameClaim != "" {
		made.username, err = parseClaimKey(c.UsernameClaim)
		p.addError(at+"usernameClaim", err)
	}
	for name, text := range c.ForwardHeaders {
		format, err := parseHeaderFormat(text)
		p.addError(at+"forwardHeaders."+name, err)
		made.headers = append(made.headers, &forwardHeader{name: http.CanonicalHeaderKey(name), format: format, isLines: format != nil && isLines(format)})
	}
	return made
}

// evaluatePolicy asks the rule, and makes the headers of whoever satisfies it. Of others only the name is known.
func evaluatePolicy(by *policy, id identity) (*principal, error) {
	p := &principal{}
	if by.username != nil {
		if name, ok := claimText(id, by.username); ok {
			p.user = url.User(name)
		}
	}
	if !allows(by.rule, id) {
		return p, errNotAllowed
	}
	for _, h := range by.headers {
		if h.isLines && id != nil {
			if lines := headerLines(h.format, id); lines != nil {
				p.names = append(p.names, h.name)
				p.values = append(p.values, lines)
			}
		} else if value, isThere := formatHeader(h.format, id); isThere {
			p.names = append(p.names, h.name)
			p.values = append(p.values, []string{value})
		}
	}
	return p, nil
}

var notLetterOrDigit = regexp.MustCompile("[^a-z0-9]")

// foldName returns a header name as the most careless backend sees it.
func foldName(name string) string {
	return notLetterOrDigit.ReplaceAllString(strings.ToLower(name), "-")
}

// allowedUpgrades are the protocols that a request may change to: by the option upgrades, and websockets, in lower case.
func allowedUpgrades(names []string) map[string]string {
	allowed := map[string]string{"websocket": "websocket"}
	for _, name := range names {
		allowed[strings.ToLower(name)] = name
	}
	return allowed
}

// restrictUpgrade lets a request ask for one other protocol, and for one that is allowed. Where it changes to HTTP/2 (h2c, RFC 7540 3.2), or
// to TLS, requests with headers of the client's choice follow that nobody in front of the upstream sees. Without the offer the request
// goes on as it is, as a server may answer it anyway (RFC 9110 7.8).
func restrictUpgrade(hn *headerNames, header http.Header) {
	if asked := header["Upgrade"]; asked != nil {
		delete(header, "Upgrade")
		text := strings.TrimSpace(strings.Join(asked, ","))
		if protocol := hn.upgrades[strings.ToLower(text)]; protocol != "" && len(protocol) == len(text) { // U+212A is a k in lower case
			header["Upgrade"] = []string{protocol}
		}
	}
}

// stripHeaders removes what a client may have sent in our headers' names: the names themselves, their aliases, trailers,
// and their mention in Connection, by which a proxy behind us would drop the header we set.
func stripHeaders(hn *headerNames, req *http.Request, known map[string]bool) {
	restrictUpgrade(hn, req.Header)
	for name := range req.Header {
		if name == "Connection" || name == "Trailer" {
			stripMentions(hn, req.Header, name)
		} else if !known[name] && !hn.credentials[name] && hn.managed[foldName(name)] { // credentials are read first
			delete(req.Header, name)
		}
	}
	for name := range req.Trailer {
		if hn.managed[foldName(name)] {
			delete(req.Trailer, name)
		}
	}
}

// stripMentions removes our headers' names from a header that lists names, and what is beyond any use.
func stripMentions(hn *headerNames, header http.Header, list string) {
	var kept []string
	for i, name := range strings.SplitN(strings.Join(header[list], ","), ",", maxMentions+1) {
		if name = strings.TrimSpace(name); name != "" && i < maxMentions && !hn.managed[foldName(name)] && (header["Upgrade"] != nil || !strings.EqualFold(name, "Upgrade")) {
			kept = append(kept, name)
		}
	}
	delete(header, list)
	if kept != nil {
		header[list] = []string{strings.Join(kept, ", ")}
	}
}

// headerNames are the names of headers that are ours to set or to read, and the cookies that are ours.
type headerNames struct {
	managed     map[string]bool // folded
	credentials map[string]bool // that bring tokens: ours to read, though an upstream may get one that we set
	overwritten []string        // credentials that we set as well
	upgrades    map[string]string
	ownCookies  *regexp.Regexp // nil without sign-in
}

// newHeaderNames gathers the names that all jobs of a middleware set and read.
func newHeaderNames(m *middleware) *headerNames {
	hn := &headerNames{managed: map[string]bool{}, credentials: map[string]bool{}, upgrades: allowedUpgrades(m.config.Upgrades)}
	for _, name := range append([]string{"HTTP2-Settings"}, m.config.RemoveHeaders...) { // RFC 7540 3.2.1: of an upgrade that is never allowed
		hn.managed[foldName(name)] = true
	}
	policies := []*policy{m.policy}
	for _, v := range m.tokens.all {
		policies = append(policies, v.policy)
		for _, name := range v.headerNames {
			hn.credentials[name] = true
		}
	}
	if m.clientCredentials != nil {
		policies = append(policies, m.clientCredentials.policy)
		if !m.clientCredentials.hasOwnClient {
			hn.credentials["Authorization"] = true
		}
	}
	for _, by := range policies {
		for _, header := range by.headers {
			hn.managed[foldName(header.name)] = true
		}
	}
	for name := range hn.credentials {
		if hn.managed[foldName(name)] {
			hn.overwritten = append(hn.overwritten, name)
		}
		hn.managed[foldName(name)] = true // or X_Token would go on unread beside the X-Token that was judged
	}
	if m.sessions != nil {
		hn.ownCookies = ownCookiePattern(&m.sessions.cookie, &m.logins.cookie)
	}
	return hn
}

// stripOwn takes off what is ours from a request that goes on: cookies, credentials in the name of a header that we set, and a user.
func stripOwn(hn *headerNames, req *http.Request) {
	if hn.ownCookies != nil {
		stripCookies(hn, req)
	}
	req.URL.User = nil // `GET http://name@host/` sets it
	for _, name := range hn.overwritten {
		delete(req.Header, name)
	}
}
