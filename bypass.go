package oidc

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"
)

// A bypass rule opens a part of a route to everybody. It speaks the language of Traefik's own routers (v3), so that a rule can
// be copied from one, and means the same there, with one difference: a request that could be read in two ways never passes.
//
// What an operator should know:
//   - Path, PathPrefix and PathRegexp see the path that goes on to the upstream, after a StripPrefix in front of this
//     middleware. PathPrefix compares text: `/public` is also the beginning of `/publications`; write `/public/`. A regular
//     expression matches anywhere unless it has ^ and $.
//   - "!" opens all that is not named. An upstream that takes /Admin for /admin is open under !PathPrefix(`/admin`).
//   - Header and Query are in the hands of whoever sends the request, and so is Method where the upstream lets a header or
//     parameter replace it: they are no protection alone. They are here because a rule may need them beside another condition.
//   - ClientIP is the peer of the connection, never X-Forwarded-For. Behind a load balancer that is the load balancer, for
//     everybody, unless PROXY protocol tells Traefik better.

// bypassRule is a bypass expression, ready to be judged.
type bypassRule struct{ conditions []*condition }

// bypassFunctions are the matchers of Traefik's routers and their parameters.
var bypassFunctions = map[string]string{
	"Host":         "host",
	"HostRegexp":   "pattern",
	"Path":         "path",
	"PathPrefix":   "path",
	"PathRegexp":   "pattern",
	"Method":       "method",
	"Header":       "name, value",
	"HeaderRegexp": "name, pattern",
	"Query":        "name, [value]",
	"QueryRegexp":  "name, [pattern]",
	"ClientIP":     "address or range",
}

// parseBypass reads a bypass rule. No text is no rule, nil, which lets nobody pass.
func parseBypass(text string) (*bypassRule, error) {
	if text == "" {
		return nil, nil
	}
	conditions, err := parseExpression(text, bypassFunctions, prepareBypass)
	if err != nil {
		return nil, err
	}
	return &bypassRule{conditions: conditions}, nil
}

// prepareBypass completes a condition on a request, and refuses what Traefik refuses or what could never match.
func prepareBypass(c *condition) (err error) {
	if has(c.args, "") {
		return errors.New("an empty argument")
	}
	first, last := c.args[0], c.args[len(c.args)-1]
	if c.name == "Query" || c.name == "QueryRegexp" && len(c.args) == 1 {
		c.args = append(c.args, "") // as in Traefik: without a value, the parameter is there and empty
	} else if strings.HasSuffix(c.name, "Regexp") {
		c.pattern, err = regexp.Compile(last)
	}
	switch c.name {
	case "Host":
		c.args[0] = strings.TrimSuffix(strings.ToLower(first), ".")
		if utf8.RuneCountInString(first) != len(first) {
			err = errors.New(`a host has ASCII letters only; write an international one as "xn--…"`)
		}
	case "Path", "PathPrefix":
		if first[0] != '/' || strings.ContainsAny(first, `?#%;\`) || strings.Contains(first, "//") {
			err = fmt.Errorf(`expected a decoded path that begins with "/", without query, "%%", ";", "\" or "//", got %q`, first)
		}
	case "Method":
		c.args[0] = strings.ToUpper(first)
	case "Header", "HeaderRegexp":
		c.args[0] = http.CanonicalHeaderKey(first)
	case "ClientIP":
		if !strings.Contains(first, "/") && strings.Contains(first, ":") {
			first += "/128"
		} else if !strings.Contains(first, "/") {
			first += "/32"
		}
		_, c.network, err = net.ParseCIDR(first)
	}
	return err
}

// bypasses tells whether a request needs no sign-in. It runs on every request of the route, so the usual conditions stand here
// without a call, and a path is examined only once the rule would let it pass.
func bypasses(b *bypassRule, req *http.Request) bool {
	if b == nil {
		return false
	}
	conditions, text, i := b.conditions, req.URL.Path, 0
	for i >= 0 {
		c := conditions[i]
		want := c.args[0]
		met := false
		if c.name == "PathPrefix" {
			met = len(text) >= len(want) && text[:len(want)] == want
		} else if c.name == "Path" {
			met = text == want
		} else if c.name == "Method" {
			met = req.Method == want
		} else {
			i = judgeRequest(c, req)
			continue
		}
		if met {
			i = c.yes
		} else {
			i = c.no
		}
	}
	return i == exitTrue && isPlainPath(req)
}

// judgeRequest judges one condition and returns where to go on. What cannot be read with certainty ends the rule as false,
// also behind a "!": fails closed.
func judgeRequest(c *condition, req *http.Request) int {
	met, known := false, true
	switch c.name {
	case "PathRegexp":
		met = c.pattern.MatchString(req.URL.Path)
	case "Host", "HostRegexp":
		met, known = judgeHost(c, req.Host)
	case "Header", "HeaderRegexp":
		met = judgeValues(c, req.Header[c.args[0]])
	case "Query", "QueryRegexp":
		values, err := url.ParseQuery(req.URL.RawQuery)
		met = judgeValues(c, values[c.args[0]])
		known = err == nil
	case "ClientIP":
		host, _, err := net.SplitHostPort(req.RemoteAddr)
		if err != nil {
			host = req.RemoteAddr
		}
		host, _, _ = strings.Cut(host, "%") // the zone of a link-local address
		address := net.ParseIP(host)
		met = c.network.Contains(address)
		known = address != nil
	}
	if !known {
		return exitFalse
	}
	if met {
		return c.yes
	}
	return c.no
}

// judgeHost compares the host without port and without regard to case. `*.example.com` is any one label before the rest, `*` any
// host; a final dot does not count. Only ASCII is compared, because Unicode folds other letters into it (U+212A is a k).
func judgeHost(c *condition, host string) (met, known bool) {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	known = utf8.RuneCountInString(host) == len(host)
	host = strings.ToLower(strings.Trim(host, "[]"))
	if c.pattern != nil {
		return c.pattern.MatchString(host), known
	}
	host, want := strings.TrimSuffix(host, "."), c.args[0]
	if want[0] == '*' && want != "*" {
		_, rest, _ := strings.Cut(host, ".")
		host = "*." + rest
	}
	return host == want || want == "*", known
}

// judgeValues looks for a value among those of a header or a query parameter.
func judgeValues(c *condition, values []string) bool {
	for _, value := range values {
		if c.pattern == nil && value == c.args[1] || c.pattern != nil && c.pattern.MatchString(value) {
			return true
		}
	}
	return false
}

// ambiguousDecoded are characters that a path may have only as they are, or not at all: control characters, what separates parts
// of a URL (RFC 3986 2.2: encoded it is not the same), and what some servers fold into "/", "\" or ".".
const ambiguousDecoded = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\v\f\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f" +
	`%\?#!'()*[]` + "\uff0f\uff3c\uff0e\u2024\u2025\u2026\u2215\u2044\ufe52\ufe68"

// isPlainPath tells whether everybody on the way reads the path of a request alike, so that what the rule saw is what the
// upstream serves. Traefik allows encoded slashes and the like, and can be told not to clean paths: see its entry points.
func isPlainPath(req *http.Request) bool {
	text, wire := req.URL.Path, req.URL.EscapedPath()
	// No dot segments, no double slashes, no path parameters ("/public/..;/admin").
	clean := path.Clean(text)
	if text == "" || text[0] != '/' || strings.Contains(text, ";") || clean != text && (clean == "/" || clean+"/" != text) {
		return false
	}
	// What is encoded is encoded as the library does it, which leaves out %2F, %2E, %41, lower-case digits, and has one meaning.
	if wire != text && (req.URL.RawPath != "" || !utf8.ValidString(text) || strings.ContainsAny(text, ambiguousDecoded)) {
		return false
	}
	// Traefik sends what RequestURI says, not URL: another middleware may have changed one of them only.
	target := strings.TrimPrefix(req.RequestURI, req.URL.Scheme+"://"+req.URL.Host) // RFC 9112 3.2.2, absolute form
	target, _, _ = strings.Cut(target, "?")
	return target == wire || req.RequestURI == ""
}
