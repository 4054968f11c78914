package oidc

import (
	"net/http"
	"regexp"
	"strings"
)

// What the upstream is told: our identity headers, and none that a client made up.
//
// Backends fold header names: X-User, X_User and x.user are one variable to CGI, WSGI and others. So a name counts as ours if it equals
// one of ours after every character that is neither a letter nor a digit has become a hyphen (RFC 9700 4.13).

const (
	maxHeaders  = 500 // header names in a request; browsers and proxies send some fifty, and checking one takes the interpreter 4 µs
	maxMentions = 100 // names that Connection or Trailer list
)

// policy is what is required of everybody who comes in one way (sign-in, bearer token), and what the upstream is told about them.
type policy struct {
	rule     rule
	headers  []*forwardHeader
	username *headerFormat // nil without
}

// forwardHeader is one header for the upstream; name is canonical.
type forwardHeader struct {
	name   string
	format *headerFormat
}

// newPolicy compiles the three options of a policy. at is the path of their block, "" at the top level.
func newPolicy(c *PolicyConfig, at string, p *problems) *policy {
	made := &policy{}
	var err error
	made.rule, err = parseRule(c.Claims)
	p.addError(at+"claims", err)
	if c.UsernameClaim != "" {
		key, err := parseClaimKey(c.UsernameClaim)
		p.addError(at+"usernameClaim", err)
		made.username = simplified(&headerFormat{texts: []string{"", ""}, keys: []claimKey{key}, encodings: []string{""}})
	}
	for name, text := range c.ForwardHeaders {
		format, err := parseHeaderFormat(text)
		p.addError(at+"forwardHeaders."+name, err)
		made.headers = append(made.headers, &forwardHeader{name: http.CanonicalHeaderKey(name), format: format})
	}
	return made
}

// evaluatePolicy applies the rule, and makes the headers of an identity that satisfies it. For others it returns only the user name, for
// the access log.
func evaluatePolicy(by *policy, id identity) (p *principal, err error) {
	p = &principal{}
	if by.username != nil {
		if lines := headerLines(by.username, id); lines != nil {
			p.user = newUser(lines[0])
		}
	}
	if !allows(by.rule, id) {
		return p, notAllowed(by.rule, id)
	}
	for _, h := range by.headers {
		if lines := headerLines(h.format, id); lines != nil {
			p.names = append(p.names, h.name)
			p.values = append(p.values, lines)
		}
	}
	return p, nil
}

var notLetterOrDigit = regexp.MustCompile("[^a-z0-9]")

// foldName is a header name as the most lenient backend sees it.
func foldName(name string) string {
	return notLetterOrDigit.ReplaceAllString(toLower(name), "-")
}

// allowedUpgrades are the protocols that a request may upgrade to, by their names in lower case: websocket, and those of the option
// upgrades.
func allowedUpgrades(names []string) map[string]string {
	allowed := map[string]string{"websocket": "websocket"}
	for _, name := range names {
		allowed[toLower(name)] = name
	}
	return allowed
}

// restrictUpgrade lets a request ask for one protocol only, and only for one that is allowed. After an upgrade to HTTP/2 (h2c, RFC 7540
// 3.2) or to TLS, the client could send further requests, with any headers it likes, that nobody in front of the upstream sees. Without the
// offer the request goes on unchanged: a server may always ignore an offer (RFC 9110 7.8).
func restrictUpgrade(hn *headerNames, header http.Header) {
	if asked := header["Upgrade"]; asked != nil {
		delete(header, "Upgrade")
		text := strings.TrimSpace(joinTexts(asked, ","))
		if protocol := hn.upgrades[toLower(text)]; protocol != "" && len(protocol) == len(text) { // ToLower makes a k of U+212A
			header["Upgrade"] = []string{protocol}
		}
	}
}

// stripHeaders removes everything that a client sent under the names of our headers: the names themselves, other spellings that fold into
// them, trailers, and mentions in Connection, which would make a proxy behind us drop the header we set. It reports false, and removes
// nothing, if there are too many names to check.
func stripHeaders(hn *headerNames, req *http.Request, known map[string]bool) bool {
	if len(req.Header) > maxHeaders || len(req.Trailer) > maxHeaders {
		return false
	}
	restrictUpgrade(hn, req.Header)
	for name := range req.Header {
		if name == "Connection" || name == "Trailer" {
			stripMentions(hn, req.Header, name)
		} else if !known[name] && !hn.credentials[name] && hn.managed[foldName(name)] { // credentials are still to be read
			delete(req.Header, name)
		}
	}
	for name := range req.Trailer {
		if hn.managed[foldName(name)] {
			delete(req.Trailer, name)
		}
	}
	return true
}

// stripMentions removes our headers' names from a header that lists header names, and cuts an overlong list.
func stripMentions(hn *headerNames, header http.Header, list string) {
	var kept []string
	for i, name := range splitN(joinTexts(header[list], ","), ",", maxMentions+1) {
		if name = strings.TrimSpace(name); name != "" && i < maxMentions && !hn.managed[foldName(name)] && (header["Upgrade"] != nil || !equalFold(name, "Upgrade")) {
			kept = append(kept, name)
		}
	}
	delete(header, list)
	if kept != nil {
		header[list] = []string{joinTexts(kept, ", ")}
	}
}

// headerNames are the headers that we set or read, and a pattern for our cookies.
type headerNames struct {
	managed     map[string]bool // folded
	credentials map[string]bool // headers that carry tokens: for us to read, though the upstream may get one that we set
	overwritten []string        // those of credentials that we set as well
	upgrades    map[string]string
	ownCookies  *regexp.Regexp // nil without sign-in
}

// newHeaderNames gathers the names that all parts of a middleware set and read.
func newHeaderNames(m *middleware) *headerNames {
	hn := &headerNames{managed: map[string]bool{}, credentials: map[string]bool{}, upgrades: allowedUpgrades(m.config.Upgrades)}
	for _, name := range append([]string{"HTTP2-Settings"}, m.config.RemoveHeaders...) { // RFC 7540 3.2.1: belongs to an upgrade that is never allowed
		hn.managed[foldName(name)] = true
	}
	policies := []*policy{m.policy}
	for _, v := range m.tokens.all {
		policies = append(policies, v.policy)
		for name := range v.schemes {
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
		hn.managed[foldName(name)] = true // otherwise an unchecked X_Token could reach the upstream beside the X-Token that was verified
	}
	if m.sessions != nil {
		hn.ownCookies = ownCookiePattern(&m.sessions.cookie, &m.logins.cookie)
	}
	return hn
}

// stripOwn removes from a request to the upstream what is meant for us: our cookies, credentials in a header that we set, and a user name
// in the URL.
func stripOwn(hn *headerNames, req *http.Request) {
	if hn.ownCookies != nil {
		stripCookies(hn.ownCookies, req)
	}
	req.URL.User = nil // `GET http://name@host/` sets it
	for _, name := range hn.overwritten {
		delete(req.Header, name)
	}
}

// setHeader sets a header to one value, or removes it if the value is empty.
func setHeader(req *http.Request, name, value string) {
	delete(req.Header, name)
	if value != "" {
		req.Header[name] = []string{value}
	}
}
