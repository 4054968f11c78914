package oidc

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"
)

// A bypass rule opens a part of a route to everybody. It uses the language of Traefik's own routers (v3), so a rule can be copied from a
// router and means the same, with one difference: a request that could be read in two ways never passes.
//
// What an operator should know:
//   - Path, PathPrefix and PathRegexp see the path that goes on to the upstream, after a StripPrefix in front of this
//     middleware. PathPrefix compares text: `/public` is also the beginning of `/publications`; write `/public/`. A regular
//     expression matches anywhere unless it has ^ and $.
//   - "!" opens everything that is not named. An upstream that takes /Admin for /admin is open under !PathPrefix(`/admin`).
//   - The sender of a request chooses Header and Query, and also Method if the upstream lets a header or parameter override it. They
//     are no protection alone. They exist because a rule may need them together with another condition.
//   - ClientIP is the peer of the connection. Behind a load balancer that is the load balancer, for everybody, unless the PROXY
//     protocol tells Traefik the client, or ipStrategy says which address in X-Forwarded-For to use.

// bypassFunctions are the matchers of Traefik's routers and their parameters.
const bypassFunctions = "ClientIP(address or range) Header(name, value) HeaderRegexp(name, pattern) Host(host) HostRegexp(pattern) Method(method) " +
	"Path(path) PathPrefix(path) PathRegexp(pattern) Query(name, [value]) QueryRegexp(name, [pattern])"

// parseBypass reads a bypass rule. An empty text is no rule, which lets nobody pass.
func parseBypass(text string) (rule, error) {
	return parseExpression(text, bypassFunctions, prepareBypass)
}

var errForeignHost = errors.New(`a host has ASCII letters only; write an international one as "xn--…"`)

// matcherMistakes are arguments that match no request, by matcher: the syntax of Traefik v2, shells and web servers.
var matcherMistakes = []struct {
	names   string
	pattern *regexp.Regexp
	words   string
}{
	{"Path PathPrefix", regexp.MustCompile(`[*{}|^$<>]|/:|/\.\.?/|/\.\.$`), "is compared as it is, without patterns; write PathPrefix with a last slash for what is below, or PathRegexp"},
	{"Host", regexp.MustCompile(`[\\^$|()\[\]{}+?]|.\*|^\*[^.]|^\.|\.\.`), "is compared as it is, without patterns; write *.example.com, or HostRegexp"},
	{"HostRegexp PathRegexp HeaderRegexp QueryRegexp", regexp.MustCompile(`^/\^|(^|[^pPx\\])\{[A-Za-z_]\w*[:}]`), "is a regular expression alone here, without slashes around it or names in braces"},
	{"HostRegexp", regexp.MustCompile(`/|[^?\[]:\d`), "is asked of a host alone, without scheme, port and path"},
	{"PathRegexp", regexp.MustCompile(`^\^[A-Za-z]|^~|://|\\\?|%[0-9A-Fa-f]{2}|;|//`), "is asked of a decoded path alone, which begins with a slash; nothing with \";\" or \"//\" passes"},
	{"ClientIP", regexp.MustCompile(`^(0\.0\.0\.0|::)$`), "is no client's; a range has its length, such as 0.0.0.0/0"},
	{"Method", regexp.MustCompile(`[^A-Za-z-]|^(?i:any|all)$`), "is not one method; every method is open where none is asked for"},
	{"Query", regexp.MustCompile("[?&=]"), "is not the name of a parameter; its value is an argument of its own"},
	{"Header HeaderRegexp", regexp.MustCompile(`[^\w-]|^(?i:host|transfer-encoding|trailer)$`), "is not the name of a header that is seen here; Host asks for the host, and the value is an argument of its own"},
}

// checkMatcher refuses what could never match. last is the last argument. For headers and parameters it checks the name.
func checkMatcher(c *condition, last string) error {
	for _, mistake := range matcherMistakes {
		if !strings.Contains(" "+mistake.names+" ", " "+c.name+" ") {
			continue
		}
		text := last
		if strings.HasPrefix(mistake.names, "Header ") || mistake.names == "Query" {
			text = c.args[0]
		}
		if mistake.pattern.MatchString(text) {
			return errorf("%q would never match: it %s", text, mistake.words)
		}
	}
	return nil
}

// prepareBypass completes a condition on a request, and refuses what Traefik refuses or what could never match. Every condition becomes a
// pattern; its name becomes the kind of values that the pattern is for.
func prepareBypass(c *condition) error {
	var err error
	if contains(c.args, "") {
		return newError("an empty argument")
	}
	last := c.args[len(c.args)-1]
	if len(c.args) == 1 && strings.HasPrefix(c.name, "Query") {
		c.name = "Query"
		last = "" // as in Traefik: without a value, the parameter is there and empty
	}
	pattern := "^" + regexp.QuoteMeta(last) + "$"
	switch c.name {
	case "Host":
		pattern = "^" + regexp.QuoteMeta(strings.TrimSuffix(strings.ToLower(last), ".")) + `\.?$`
		if last == "*" {
			pattern = ""
		} else if strings.HasPrefix(last, "*.") {
			pattern = strings.ReplaceAll(pattern, `\*`, `[^.]*`)
		}
		if utf8.RuneCountInString(last) != len(last) {
			err = errForeignHost
		} else if strings.ContainsAny(last, ":/, @") && net.ParseIP(last) == nil {
			err = newError(`expected one host, without scheme and port; several conditions are joined with "||"`)
		}
	case "Path", "PathPrefix":
		if last[0] != '/' || strings.ContainsAny(last, `?#%;\`) || strings.Contains(last, "//") {
			err = errorf(`expected a decoded path that begins with "/", without query, "%%", ";", "\" or "//", got %q`, last)
		}
		if c.name == "PathPrefix" {
			pattern = strings.TrimSuffix(pattern, "$")
		}
	case "Method":
		pattern = strings.ToUpper(pattern)
		if strings.ContainsAny(last, ", ") {
			err = newError(`expected one method; several conditions are joined with "||"`)
		}
	case "ClientIP":
		pattern = "" // the value is there or not
		if c.network, err = parseNetwork(last); err != nil {
			err = errorf("%w; write an address, or a range such as 10.0.0.0/8", err)
		}
	case "Header", "HeaderRegexp":
		c.args[0] = http.CanonicalHeaderKey(c.args[0])
	}
	if err == nil {
		err = checkMatcher(c, last)
	}
	if strings.HasSuffix(c.name, "Regexp") {
		pattern = last
	}
	c.name = strings.TrimSuffix(strings.TrimSuffix(c.name, "Regexp"), "Prefix")
	if err == nil {
		c.pattern, err = regexp.Compile(pattern)
	}
	return err
}

// parseNetwork reads an address or a range of addresses.
func parseNetwork(text string) (network *net.IPNet, err error) {
	if strings.Contains(text, ":") && !strings.Contains(text, "/") {
		text += "/128"
	} else if !strings.Contains(text, "/") {
		text += "/32"
	}
	_, network, err = net.ParseCIDR(text)
	return network, err
}

// ipStrategy decides which address ClientIP is about, as in Traefik's own middlewares; nil: the peer's.
type ipStrategy struct {
	depth    int
	excluded []*net.IPNet
}

// setStrategy gives a rule the configured strategy, and returns it.
func setStrategy(r rule, c *IPStrategyConfig, p *problems) *ipStrategy {
	made := &ipStrategy{depth: c.Depth}
	for _, text := range c.ExcludedIPs {
		network, err := parseNetwork(text)
		p.addError("ipStrategy.excludedIPs", err)
		made.excluded = append(made.excluded, network)
	}
	if made.depth == 0 && made.excluded == nil {
		return nil
	}
	for _, condition := range r {
		condition.client = made
	}
	return made
}

// clientIP is the address that a condition is about, nil if the client's address is unknown.
func clientIP(s *ipStrategy, req *http.Request) net.IP {
	if s == nil {
		host, _, _ := strings.Cut(hostOf(req.RemoteAddr), "%") // the zone of a link-local address
		return net.ParseIP(host)
	}
	told := strings.Split(strings.Join(req.Header["X-Forwarded-For"], ","), ",") // the last one is the nearest proxy's
	for i := 1; i <= maxMentions && i <= len(told); i++ {
		address := net.ParseIP(strings.Trim(hostOf(strings.TrimSpace(told[len(told)-i])), "[]"))
		isProxy := s.depth > i
		for _, network := range s.excluded {
			isProxy = isProxy || address != nil && network.Contains(address)
		}
		if !isProxy {
			return address
		}
	}
	return nil
}

// bypasses reports whether a request needs no sign-in. It runs on every request of the route. So the path, which most rules are about, is
// matched without a call, and examined more closely only if the rule would let the request pass. Fails closed: if something cannot be read
// with certainty, the whole rule is false, even behind a "!".
func bypasses(r rule, req *http.Request) bool {
	here, i := []string{req.URL.Path}, 0
	for i >= 0 {
		c, values, known := r[i], here, true
		if c.name != "Path" {
			values, known = valuesFor(c, req)
		}
		if !known || len(values) > maxHeaders {
			return false
		}
		i = c.no
		for _, value := range values {
			if c.pattern.MatchString(value) {
				i = c.yes
			}
		}
	}
	return i == exitTrue && isPlainPath(req)
}

// valuesFor returns the values in a request that a condition is about, and false if the request cannot be read with certainty.
func valuesFor(c *condition, req *http.Request) ([]string, bool) {
	switch c.name {
	case "Method":
		return []string{req.Method}, true
	case "Header":
		return req.Header[c.args[0]], true
	case "Query":
		query, err := url.ParseQuery(req.URL.RawQuery)
		return query[c.args[0]], err == nil
	case "Host": // without port and without regard to case. Only ASCII, because Unicode folds other letters into it (U+212A is a k)
		host := hostOf(req.Host)
		return []string{strings.ToLower(strings.Trim(host, "[]"))}, utf8.RuneCountInString(host) == len(host)
	}
	address := clientIP(c.client, req)
	if !c.network.Contains(address) { // no named results: the interpreter would keep their values from the previous call
		return nil, address != nil
	}
	return []string{""}, true
}

// hostOf removes the port from an address.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// ambiguousDecoded are characters that must not be percent-encoded in a path: control characters, separators of a URL, which mean something
// else when encoded (RFC 3986 2.2), and characters that some servers fold into "/", "\" or ".".
const ambiguousDecoded = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\v\f\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f" +
	`%\?#!'()*[]` + "\uff0f\uff3c\uff0e\u2024\u2025\u2026\u2215\u2044\ufe52\ufe68"

// oddSegment matches a segment of dots and spaces alone: Windows takes "/.. /" and "/.../" for "/../".
var oddSegment = regexp.MustCompile(`/[. ]*\.[. ]*(/|$)`)

// isPlainPath reports whether everybody on the way reads the path of a request in the same way, so that the upstream serves what the rule
// saw. Traefik's entry points may allow encoded slashes and the like, and can be told not to clean paths.
func isPlainPath(req *http.Request) bool {
	text, wire := req.URL.Path, req.URL.EscapedPath()
	// No dot segments, no double slashes, no path parameters ("/public/..;/admin").
	clean := path.Clean(text)
	if text == "" || text[0] != '/' || strings.Contains(text, ";") || oddSegment.MatchString(text) || clean != text && (clean == "/" || clean+"/" != text) {
		return false
	}
	// Only the library's own encoding is accepted: no %2F, %2E, %41 or lower-case digits, and only one reading.
	if wire != text && (req.URL.RawPath != "" || !utf8.ValidString(text) || strings.ContainsAny(text, ambiguousDecoded)) {
		return false
	}
	// Traefik sends RequestURI, not URL, to the upstream, and another middleware may have changed only one of them.
	target := strings.TrimPrefix(req.RequestURI, req.URL.Scheme+"://"+req.URL.Host) // RFC 9112 3.2.2, absolute form
	target, _, _ = strings.Cut(target, "?")
	return target == wire || req.RequestURI == ""
}
