package oidc

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// This file reads, writes and removes our cookies. What a browser sends is untrusted input, so every loop over it is bounded.

const (
	chunkSize     = 3800 // bytes of one cookie's value; browsers drop a cookie of more than 4,096 with its name (RFC 6265bis)
	maxNameBeside = 200  // bytes of a cookie's name that fit beside chunkSize; a longer name shortens the value
	maxChunks     = 8
	maxCookies    = 3000        // in a request; no browser sends more, and then the library reads none
	maxCookieAge  = 400 * 86400 // seconds; browsers keep no cookie longer
	removed       = -1          // the maxAge that removes a cookie
	maxCandidates = 4           // cookies of one name that are tried: a sibling domain may have planted some in front of ours
)

// cookie says how one of our cookies is written.
type cookie struct {
	baseName      string // the name without its prefix
	isDefaultName bool   // the name was not configured, so it may get the prefix __Host- or __Secure-
	path          string
	domain        string
	sameSite      http.SameSite
	httpOnly      bool
	secure        *bool // nil: depends on the request's scheme
	isPartitioned bool  // with the attribute Partitioned, for frames
}

var sameSites = map[string]http.SameSite{"lax": http.SameSiteLaxMode, "strict": http.SameSiteStrictMode, "none": http.SameSiteNoneMode}

// newCookie describes one of our cookies. A default name may get a prefix; a configured one stays as it is. The middleware's name is
// escaped: it may hold letters and spaces that browsers reject in a cookie's name (RFC 6265 4.1.1).
func newCookie(name, byDefault, middlewareName string, c *CookieConfig, isPartitioned bool) cookie {
	return cookie{baseName: strings.ReplaceAll(name, "%s", url.QueryEscape(middlewareName)), isDefaultName: name == byDefault, path: c.Path, domain: c.Domain,
		sameSite: sameSites[c.SameSite], httpOnly: c.HTTPOnly, secure: c.Secure, isPartitioned: isPartitioned}
}

// cookieName is the cookie's full name. Another host of the same site cannot plant a cookie with a prefix (RFC 6265bis 4.1.3).
func cookieName(c *cookie, https bool) string {
	if !c.isDefaultName || !isSecureCookie(c, https) {
		return c.baseName
	}
	if c.domain == "" && c.path == "/" {
		return "__Host-" + c.baseName
	}
	return "__Secure-" + c.baseName
}

// domainMatches reports whether a host is in a domain (RFC 6265 5.1.3).
func domainMatches(host, domain string) bool {
	host, _, _ = strings.Cut(strings.ToLower(host), ":")
	domain = strings.ToLower(strings.TrimPrefix(domain, "."))
	return host == domain || strings.HasSuffix(host, "."+domain)
}

func isSecureCookie(c *cookie, https bool) bool {
	if c.secure != nil {
		return *c.secure
	}
	return https
}

// setCookie writes one cookie. A negative maxAge removes it; the attributes must be those it was set with.
func setCookie(rw http.ResponseWriter, c *cookie, name, value string, https bool, maxAge int) {
	if maxAge > maxCookieAge {
		maxAge = maxCookieAge
	}
	// When a session is renewed, the response is the upstream's, which adds its own Cache-Control after this one. Then both are sent, and a
	// shared cache must obey private (RFC 9111 5.2.2.7). Our own responses replace the header.
	rw.Header().Set("Cache-Control", "private")
	made := http.Cookie{
		Name: name, Value: value, Path: c.path, Domain: c.domain, MaxAge: maxAge,
		Secure: isSecureCookie(c, https), HttpOnly: c.httpOnly, SameSite: c.sameSite,
	}
	line := made.String()
	if c.isPartitioned {
		line += "; Partitioned" // http.Cookie has no such field in the oldest Traefik
	}
	rw.Header().Add("Set-Cookie", line)
}

// setChunked writes value in as many cookies as it needs, and reports whether it fits. The first chunk is called name and begins with
// their number ("3~…"). The others are called name.1, name.2, … and begin with the value's tag, because another middleware with the same
// cookie name may have set its own for a parent domain. Chunks left over from a longer value are removed; an empty value removes all.
func setChunked(rw http.ResponseWriter, req *http.Request, c *cookie, name, value string, https bool, maxAge int) bool {
	size := chunkSize
	if len(name) > maxNameBeside {
		size -= len(name) - maxNameBeside
	}
	mark, before := "", ""
	if len(value) > size {
		mark = chunkTag(value) + "~"
		size -= len(mark)
	}
	if len(value)+2 > maxChunks*size {
		return false
	}
	if mark != "" {
		value = strconv.Itoa((len(value)+1)/size+1) + "~" + value
	}
	for i := 0; i < maxChunks; i++ {
		chunk, rest := value, ""
		if len(value) > size {
			chunk, rest = value[:size], value[size:]
		}
		if value != "" {
			setCookie(rw, c, chunkName(name, i), before+chunk, https, maxAge)
		} else if len(cookieValues(req, chunkName(name, i))) > 0 {
			setCookie(rw, c, chunkName(name, i), "", https, removed)
		}
		value = rest
		before = mark
	}
	return true
}

func chunkName(name string, i int) string {
	if i == 0 {
		return name
	}
	return name + "." + strconv.Itoa(i)
}

// chunkTag tells the chunks of one sealed value from those of another. It is part of the value's random nonce. Anybody can send a value that
// is shorter, so it is padded.
func chunkTag(sealed string) string {
	return (sealed + "          ")[2:10]
}

// chunkedValues returns the values of the cookies called name, with their chunks joined.
func chunkedValues(req *http.Request, name string) []string {
	values := cookieValues(req, name)
	if strings.Contains(strings.Join(values, ""), "~") {
		joinChunks(req, name, values)
	}
	return values
}

// joinChunks completes the values that are first chunks. It goes over the cookies only once, because anybody can send thousands.
func joinChunks(req *http.Request, name string, values []string) {
	chunks := map[string]string{} // by name and tag; the first one counts
	for _, c := range cookies(req) {
		if !strings.HasPrefix(c.Name, name+".") {
			continue
		}
		tag, chunk, isTagged := strings.Cut(c.Value, "~")
		if !isTagged { // chunks once had no tag, and such sessions may still be alive
			tag, chunk = "", c.Value
		}
		if _, found := chunks[c.Name+"~"+tag]; !found {
			chunks[c.Name+"~"+tag] = chunk
		}
	}
	for i, value := range values {
		count, whole, _ := strings.Cut(value, "~")
		n, _ := strconv.Atoi(count)
		if n < 2 || n > maxChunks {
			continue // a single cookie, or one that will not open
		}
		tag := chunkTag(whole)
		for j := 1; j < n; j++ {
			chunk, found := chunks[chunkName(name, j)+"~"+tag]
			if !found {
				chunk = chunks[chunkName(name, j)+"~"]
			}
			whole += chunk
		}
		values[i] = whole
	}
}

// cookieValues returns the first few values of the cookies called name.
func cookieValues(req *http.Request, name string) []string {
	var values []string
	for _, c := range cookies(req) {
		if c.Name == name && len(values) < maxCandidates {
			values = append(values, c.Value)
		}
	}
	return values
}

// cookies returns a request's cookies, or none if there are more than any browser sends.
func cookies(req *http.Request) []*http.Cookie {
	if strings.Count(strings.Join(req.Header["Cookie"], ";"), ";") >= maxCookies {
		return nil
	}
	return req.Cookies()
}

// ownCookiePattern matches a cookie that is not for the upstream: ours with any prefix, their chunks (.1), pending logins (.0123456789ab),
// and an empty one.
func ownCookiePattern(session, state *cookie) *regexp.Regexp {
	bases := regexp.QuoteMeta(session.baseName) + "|" + regexp.QuoteMeta(state.baseName)
	return regexp.MustCompile(`^\s*((__Host-|__Secure-)?(` + bases + `)(\.[0-9a-f]|\.[0-9a-f]{12})?\s*(=|$)|$)`)
}

// cookiePairs splits the cookies at the semicolons, and cuts an overlong list. SplitN allocates for as many pieces as it may return, so it
// is used only for clients that send too many.
func cookiePairs(req *http.Request) []string {
	line := strings.Join(req.Header["Cookie"], ";")
	if strings.Count(line, ";") >= maxCookies {
		return strings.SplitN(line, ";", maxCookies+1)[:maxCookies]
	}
	return strings.Split(line, ";")
}

// stripCookies removes cookies that are none of the upstream's business: our own, which are long, and those with a token.
func stripCookies(pattern *regexp.Regexp, req *http.Request) {
	if req.Header["Cookie"] == nil {
		return
	}
	var kept []string
	for _, part := range cookiePairs(req) {
		if !pattern.MatchString(part) {
			kept = append(kept, strings.TrimSpace(part))
		}
	}
	setHeader(req, "Cookie", strings.Join(kept, "; "))
}
