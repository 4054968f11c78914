package oidc

import (
	"net/http"
	"net/url"
	"strings"
)

// This room is what the upstream is told: identity headers of ours, and none that a client made up.
//
// Backends fold header names together: X-User, X_User and x.user are one variable to CGI, WSGI and others. So a name counts as
// ours when it is the same after every character that is neither letter nor digit has become a hyphen (RFC 9700 4.13).

// policy is what is asked of whoever comes in one way (sign-in, bearer token), and what the upstream is told of them.
type policy struct {
	rule     rule
	headers  []*forwardHeader
	username claimKey
}

// forwardHeader is one header for the upstream; name is canonical.
type forwardHeader struct {
	name   string
	format *headerFormat
}

// newPolicy compiles the three options that make a policy; at is the path of their block, "" at the top level.
func newPolicy(claims, username string, headers map[string]string, at string, p *problems) *policy {
	made := &policy{}
	var err error
	if made.rule, err = parseRule(claims); err != nil {
		p.add(at+"claims", "%s", err)
	}
	if username != "" {
		if made.username, err = parseClaimKey(username); err != nil {
			p.add(at+"usernameClaim", "%s", err)
		}
	}
	for name, text := range headers {
		format, err := parseHeaderFormat(text)
		if err != nil {
			p.add(at+"forwardHeaders."+name, "%s", err)
		}
		made.headers = append(made.headers, &forwardHeader{name: http.CanonicalHeaderKey(name), format: format})
	}
	return made
}

// judge asks the rule, and finishes the headers of whoever satisfies it. Every managed header is either set or dropped.
func judge(g *gate, by *policy, id *identity) (*pass, error) {
	if !allows(by.rule, id) {
		return nil, errNotAllowed
	}
	p := &pass{}
	set := map[string]bool{}
	for _, h := range by.headers {
		if value, ok := formatHeader(h.format, id); ok {
			p.names = append(p.names, h.name)
			p.values = append(p.values, []string{value})
			set[h.name] = true
		}
	}
	for _, name := range g.managedNames {
		if !set[name] {
			p.drop = append(p.drop, name)
		}
	}
	if by.username != nil {
		if name, ok := claimText(id, by.username); ok {
			p.user = url.User(name)
		}
	}
	return p, nil
}

// oddCharacters are those a header name may have beside letters, digits and the hyphen (RFC 9110 5.6.2).
const oddCharacters = "_.!#$%&'*+^`|~"

var foldOdd = strings.NewReplacer("_", "-", ".", "-", "!", "-", "#", "-", "$", "-", "%", "-", "&", "-", "'", "-", "*", "-", "+", "-", "^", "-", "`", "-", "|", "-", "~", "-")

// foldName is what a header name is to the most careless backend.
func foldName(name string) string {
	return foldOdd.Replace(strings.ToLower(name))
}

// manage notes the headers that are ours to set, of all policies together.
func manage(g *gate, by *policy) {
	g.namesUser = g.namesUser || by.username != nil
	for _, h := range by.headers {
		if !g.managed[foldName(h.name)] {
			g.managed[foldName(h.name)] = true
			// The name with hyphens has no odd character: it would pass the look for aliases, so it is dropped by name.
			if plain := http.CanonicalHeaderKey(foldName(h.name)); plain != h.name {
				g.managedNames = append(g.managedNames, plain)
			}
		}
		if !has(g.managedNames, h.name) {
			g.managedNames = append(g.managedNames, h.name)
		}
	}
}

// stripHeaders removes what a client may have sent in our headers' names: the names themselves, their aliases, trailers,
// and their mention in Connection, by which a proxy behind us would drop the header we set.
func stripHeaders(g *gate, req *http.Request) {
	if len(g.managed) == 0 {
		return
	}
	for _, name := range g.managedNames {
		if !g.credentials[name] { // read first; the pass then sets or drops it
			delete(req.Header, name)
		}
	}
	stripAliases(g, req.Header)
	for name := range req.Trailer {
		if g.managed[foldName(name)] {
			delete(req.Trailer, name)
		}
	}
	for _, list := range []string{"Connection", "Trailer"} {
		if req.Header[list] != nil {
			stripMentions(g, req.Header, list)
		}
	}
}

// stripAll takes off what is ours from a request that goes on as nobody's: cookies, and what looks like an identity.
func stripAll(g *gate, req *http.Request) {
	stripCookies(g, req)
	if g.namesUser {
		req.URL.User = nil // `GET http://name@host/` sets it
	}
	for _, name := range g.managedNames {
		delete(req.Header, name)
	}
}

// stripAliases removes the headers whose names have odd characters and fold into one of ours.
func stripAliases(g *gate, header http.Header) {
	for name := range header {
		if strings.ContainsAny(name, oddCharacters) && g.managed[foldName(name)] {
			delete(header, name)
		}
	}
}

// stripMentions removes our headers' names from a header that lists names.
func stripMentions(g *gate, header http.Header, list string) {
	var kept []string
	for _, name := range strings.Split(strings.Join(header[list], ","), ",") {
		name = strings.TrimSpace(name)
		if name != "" && !g.managed[foldName(name)] {
			kept = append(kept, name)
		}
	}
	delete(header, list)
	if len(kept) > 0 {
		header[list] = []string{strings.Join(kept, ", ")}
	}
}

// isHTTPS says how the browser came. Traefik's entry point sets X-Forwarded-Proto on every request, and keeps what was there
// only from proxies it was told to trust (forwardedHeaders.trustedIPs).
func isHTTPS(req *http.Request) bool {
	if proto := req.Header.Get("X-Forwarded-Proto"); proto != "" {
		return proto == "https" || proto == "wss"
	}
	return req.TLS != nil
}

// origin is the scheme and host the request came to. The host is the one Traefik's router matched, never X-Forwarded-Host.
func origin(req *http.Request) string {
	if isHTTPS(req) {
		return "https://" + req.Host
	}
	return "http://" + req.Host
}
