package oidc

import (
	"net/http"
	"strconv"
	"strings"
)

// This room reads, writes and removes our cookies. What a browser sends is foreign text: every loop over it is bounded.

const (
	chunkSize     = 3800 // bytes of one cookie's value; browsers drop a cookie of more than 4,096 with its name (RFC 6265bis)
	maxChunks     = 8
	maxOwnCookies = 100 // that are cut out of one line; no browser has more, and such a line goes as a whole
	maxCandidates = 4   // cookies of one name that are looked at: a neighbour domain may have planted some before ours
)

// cookie says how one of our cookies is written.
type cookie struct {
	base     string // the name without its prefix
	isOwn    bool   // the name is our default: __Host- or __Secure- may go in front of it
	path     string
	domain   string
	sameSite http.SameSite
	httpOnly bool
	secure   *bool // nil: by the request's scheme
}

// cookieName is the cookie's whole name. A prefixed cookie cannot be planted by another host of the same site (RFC 6265bis 4.1.3).
func cookieName(c *cookie, https bool) string {
	if !c.isOwn || !isSecureCookie(c, https) {
		return c.base
	}
	if c.domain == "" && c.path == "/" {
		return "__Host-" + c.base
	}
	return "__Secure-" + c.base
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
	http.SetCookie(rw, &http.Cookie{
		Name: name, Value: value, Path: c.path, Domain: c.domain, MaxAge: maxAge,
		Secure: isSecureCookie(c, https), HttpOnly: c.httpOnly, SameSite: c.sameSite,
	})
}

// setChunked writes value in as many cookies as it takes, says whether it fits, and removes chunks of a longer one before it.
// The first is called name and says how many there are ("3~…"), the others name.1, name.2, …
func setChunked(rw http.ResponseWriter, req *http.Request, c *cookie, name, value string, https bool, maxAge int) bool {
	count := (len(value) + chunkSize - 1) / chunkSize
	if count > maxChunks {
		return false
	}
	first := value
	if count > 1 {
		first = strconv.Itoa(count) + "~" + value[:chunkSize]
	}
	setCookie(rw, c, name, first, https, maxAge)
	for i := 1; i < count; i++ {
		setCookie(rw, c, name+"."+strconv.Itoa(i), part(value, i), https, maxAge)
	}
	dropChunks(rw, req, c, name, count, https)
	return true
}

// dropChunks removes the chunks that a browser has from a number on.
func dropChunks(rw http.ResponseWriter, req *http.Request, c *cookie, name string, from int, https bool) {
	for i := from; i < maxChunks; i++ {
		if chunk := name + "." + strconv.Itoa(i); len(cookieValues(req, chunk)) > 0 {
			setCookie(rw, c, chunk, "", https, -1)
		}
	}
}

func part(value string, i int) string {
	rest := value[i*chunkSize:]
	if len(rest) > chunkSize {
		return rest[:chunkSize]
	}
	return rest
}

// chunkedValues are the values under name, with chunks joined.
func chunkedValues(req *http.Request, name string) []string {
	values := cookieValues(req, name)
	for i, value := range values {
		count, first, isChunked := strings.Cut(value, "~")
		if !isChunked {
			continue
		}
		n, err := strconv.Atoi(count)
		if err != nil || n < 2 || n > maxChunks {
			continue // it will not open
		}
		for j := 1; j < n; j++ {
			if rest := cookieValues(req, name+"."+strconv.Itoa(j)); len(rest) > 0 {
				first += rest[0]
			}
		}
		values[i] = first
	}
	return values
}

// cookieValues are the first few values of the cookies called name.
func cookieValues(req *http.Request, name string) []string {
	var values []string
	for _, line := range req.Header["Cookie"] {
		at := 0
		for len(values) < maxCandidates {
			start, end := findCookie(line, name+"=", at)
			if start < 0 {
				break
			}
			values = append(values, strings.Trim(line[start+len(name)+1:end], ` "`))
			at = end
		}
	}
	return values
}

// findCookie finds the next cookie that begins with prefix: it stands at line[start:end], start is -1 when there is none.
// It searches with library calls only: a loop over the bytes of a Cookie header is slow in the interpreter.
func findCookie(line, prefix string, from int) (start, end int) {
	for {
		i := strings.Index(line[from:], prefix)
		if i < 0 {
			return -1, -1
		}
		start = from + i
		end = strings.IndexByte(line[start:], ';')
		if end < 0 {
			end = len(line)
		} else {
			end += start
		}
		if start == 0 || line[start-1] == ' ' || line[start-1] == ';' {
			return start, end
		}
		from = end
	}
}

// stripCookies takes our session and state cookies out of the request: they are long, and no business of the upstream.
func stripCookies(g *gate, req *http.Request) {
	lines := req.Header["Cookie"]
	var kept []string
	for _, line := range lines {
		for _, base := range g.ownCookies {
			line = cutCookies(line, base)
		}
		if line != "" {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		delete(req.Header, "Cookie")
		return
	}
	req.Header["Cookie"] = kept
}

// cutCookies removes the cookies called base, its chunks (base.1) and pending logins (base.0123456789ab), with any prefix.
func cutCookies(line, base string) string {
	line = strings.Trim(line, "; ")
	cuts := 0
	for _, prefix := range []string{"", "__Host-", "__Secure-"} {
		at := 0
		for strings.Contains(line[at:], base) {
			start, end := findCookie(line, prefix+base, at)
			if start < 0 {
				break
			}
			name, _, _ := strings.Cut(line[start:end], "=")
			if !isOwnSuffix(strings.TrimPrefix(name, prefix+base)) {
				at = end
				continue
			}
			cuts++
			if cuts > maxOwnCookies {
				return ""
			}
			line = strings.Trim(line[:start]+strings.TrimLeft(line[end:], "; "), "; ")
			if at = start; at > len(line) {
				at = len(line)
			}
		}
	}
	return line
}

// isOwnSuffix says whether what follows our cookie's base name makes it ours as well: nothing, a chunk's number, or a pending login's mark.
func isOwnSuffix(suffix string) bool {
	if suffix == "" {
		return true
	}
	digits := strings.TrimPrefix(suffix, ".")
	return digits != suffix && (len(digits) == 1 || len(digits) == stateMarkLength) && strings.Trim(digits, "0123456789abcdef") == ""
}
