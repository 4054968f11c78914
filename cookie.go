package oidc

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Our cookies: read, written, removed. What a browser sends is untrusted, so every loop over it is bounded.

const (
	chunkSize     = 3800 // bytes of one cookie's value; browsers drop a cookie of more than 4,096 with its name (RFC 6265bis)
	maxNameBeside = 200  // bytes of a cookie's name for which there is room beside that; what a name has more, its value must have less
	maxChunks     = 8
	maxCookies    = 3000 // of a request; no browser sends more, and the library reads none then
	maxCandidates = 4    // cookies of one name that are looked at: a neighbour domain may have planted some before ours
)

// cookie says how one of our cookies is written.
type cookie struct {
	baseName      string // the name without its prefix
	isDefaultName bool   // the name is our default: __Host- or __Secure- may go in front of it
	path          string
	domain        string
	sameSite      http.SameSite
	httpOnly      bool
	secure        *bool // nil: by the request's scheme
	isPartitioned bool  // Partitioned: for frames
}

var sameSites = map[string]http.SameSite{"lax": http.SameSiteLaxMode, "strict": http.SameSiteStrictMode, "none": http.SameSiteNoneMode}

// newCookie makes one of our cookies. A default name may get a prefix; one that the operator chose stays as it is. The middleware's name
// is escaped: it may have letters and spaces that browsers take in no cookie's name (RFC 6265 4.1.1).
func newCookie(name, byDefault, middlewareName string, c *CookieConfig, isPartitioned bool) cookie {
	return cookie{baseName: strings.ReplaceAll(name, "%s", url.QueryEscape(middlewareName)), isDefaultName: name == byDefault, path: c.Path, domain: c.Domain,
		sameSite: sameSites[c.SameSite], httpOnly: c.HTTPOnly, secure: c.Secure, isPartitioned: isPartitioned}
}

// cookieName is the cookie's whole name. A prefixed cookie cannot be planted by another host of the same site (RFC 6265bis 4.1.3).
func cookieName(c *cookie, https bool) string {
	if !c.isDefaultName || !isSecureCookie(c, https) {
		return c.baseName
	}
	if c.domain == "" && c.path == "/" {
		return "__Host-" + c.baseName
	}
	return "__Secure-" + c.baseName
}

// domainMatches says that a host is in a domain (RFC 6265 5.1.3).
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

// setCookie writes one cookie; a maxAge below zero removes it, with the attributes it was set with.
func setCookie(rw http.ResponseWriter, c *cookie, name, value string, https bool, maxAge int) {
	if maxAge > 400*86400 {
		maxAge = 400 * 86400 // browsers keep none longer
	}
	// Of a session that is renewed the answer is the upstream's, which comes after this and adds its own Cache-Control: then both are
	// sent, and a shared cache must obey the stricter one (RFC 9111 5.2.2.7). An answer of ours replaces it.
	rw.Header().Set("Cache-Control", "private")
	made := http.Cookie{
		Name: name, Value: value, Path: c.path, Domain: c.domain, MaxAge: maxAge,
		Secure: isSecureCookie(c, https), HttpOnly: c.httpOnly, SameSite: c.sameSite,
	}
	line := made.String()
	if c.isPartitioned {
		line += "; Partitioned" // a field of the library that the oldest Traefik's has not
	}
	rw.Header().Add("Set-Cookie", line)
}

// setChunked writes value in as many cookies as it takes, and says whether it fits. The first is called name and says how many there
// are ("3~…"), the others name.1, name.2, … begin with the mark of the value they belong to: another middleware of this name may have set
// its own for a domain above. What the browser has of a longer one is removed; no value removes all.
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
	if size < 100 || len(value)+2 > maxChunks*size {
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
			setCookie(rw, c, chunkName(name, i), "", https, -1)
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

// chunkTag tells the chunks of one sealed value from those of another: some of its random nonce.
func chunkTag(sealed string) string {
	if len(sealed) < 10 {
		return "" // no value of ours
	}
	return sealed[2:10]
}

// chunkedValues are the values under name, with chunks joined.
func chunkedValues(req *http.Request, name string) []string {
	values := cookieValues(req, name)
	if strings.Contains(strings.Join(values, ""), "~") {
		joinChunks(req, name, values)
	}
	return values
}

// joinChunks completes values of which there is the first chunk. It looks at all cookies once: anybody may send thousands.
func joinChunks(req *http.Request, name string, values []string) {
	chunks := map[string]string{} // the first of each name and tag
	for _, c := range cookies(req) {
		if !strings.HasPrefix(c.Name, name+".") {
			continue
		}
		tag, chunk, isTagged := strings.Cut(c.Value, "~")
		if !isTagged { // there were chunks without a tag once, and their sessions may go on
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
			continue // it is whole, or will not open
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

// cookieValues are the first few values of the cookies called name.
func cookieValues(req *http.Request, name string) []string {
	var values []string
	for _, c := range cookies(req) {
		if c.Name == name && len(values) < maxCandidates {
			values = append(values, c.Value)
		}
	}
	return values
}

// cookies are those of a request, none where there are more than a browser sends.
func cookies(req *http.Request) []*http.Cookie {
	if strings.Count(strings.Join(req.Header["Cookie"], ";"), ";") >= maxCookies {
		return nil
	}
	return req.Cookies()
}

// ownCookiePattern matches our cookies with any prefix, their chunks (.1) and pending logins (.0123456789ab), and empty parts.
func ownCookiePattern(session, state *cookie) *regexp.Regexp {
	bases := regexp.QuoteMeta(session.baseName) + "|" + regexp.QuoteMeta(state.baseName)
	return regexp.MustCompile(`^\s*((__Host-|__Secure-)?(` + bases + `)(\.[0-9a-f]|\.[0-9a-f]{12})?\s*(=|$)|$)`)
}

// cookiePairs are the first of what stands between the semicolons. SplitN makes room for as many pieces as it may give, so it is for those
// who send too many.
func cookiePairs(req *http.Request) []string {
	line := strings.Join(req.Header["Cookie"], ";")
	if strings.Count(line, ";") >= maxCookies {
		return strings.SplitN(line, ";", maxCookies+1)[:maxCookies]
	}
	return strings.Split(line, ";")
}

// stripCookies takes our session and state cookies out of the request: they are long, and no business of the upstream.
func stripCookies(hn *headerNames, req *http.Request) {
	if req.Header["Cookie"] == nil {
		return
	}
	var kept []string
	for _, part := range cookiePairs(req) {
		if !hn.ownCookies.MatchString(part) {
			kept = append(kept, strings.TrimSpace(part))
		}
	}
	delete(req.Header, "Cookie")
	if kept != nil {
		req.Header["Cookie"] = []string{strings.Join(kept, "; ")}
	}
}
