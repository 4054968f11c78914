package oidc

import (
	"net/http"
	"strings"
	"time"
)

// This room is the memory behind ServeHTTP. A credential that was judged good is remembered as a pass (session.go); the whole header
// line it came in is remembered with a copy of it, ready to be applied. Lines are the fastest way in; requests whose other cookies
// change each time find their pass by the cookie alone.

const (
	maxLines        = 4096 // lines remembered by a gate; then it starts anew
	linesOfPass     = 4    // lines of one credential: where cookies change all the time no more are worth keeping
	longestLine     = 16 << 10
	maxHarmless     = 512 // header names learnt by a gate
	longestHarmless = 64
)

// passOn is ServeHTTP for browsers whose other cookies change with each request: it knows the session's cookie among them.
func passOn(g *gate, next http.Handler, rw http.ResponseWriter, req *http.Request) bool {
	header := req.Header
	name := g.secureName
	if proto := header["X-Forwarded-Proto"]; len(proto) == 1 && proto[0] == "http" {
		name = g.plainName
	}
	lines := header["Cookie"]
	if len(lines) != 1 {
		return false
	}
	others, value, found := strings.Cut(lines[0], name)
	value, after, _ := strings.Cut(value, ";")
	g.mu.RLock()
	p := g.lines[" "+name+value]
	g.mu.RUnlock()
	if p == nil || time.Until(p.until) <= 0 || header.WriteSubset(g.closed, p.harmless) != nil || req.Trailer != nil || g.endpoints[req.URL.Path] != nil {
		return false
	}
	if !found || others != "" && !strings.HasSuffix(others, "; ") {
		return false
	}
	if after == "" {
		after = "; "
		others = strings.TrimSuffix(others, after)
	} else if after[0] != ' ' {
		return false // no browser's
	} else {
		others += after[1:]
	}
	if others == "" || strings.Contains(others, g.ownStem) {
		return false
	}
	header["Cookie"] = []string{others}
	for i, name := range p.names {
		header[name] = p.values[i]
	}
	if p.user != nil {
		req.URL.User = p.user
	}
	next.ServeHTTP(rw, req)
	return true
}

// known finds the pass of a request with nothing unusual about it: none of our endpoints, no CSRF token to look at, one credential,
// and no header that could pass for one of ours. nil sends it through serve, which can handle everything.
func known(g *gate, req *http.Request) *pass {
	if g.csrf != nil && !isSafe(req.Method) || req.Trailer != nil || g.endpoints[req.URL.Path] != nil {
		return nil
	}
	harmless := harmlessHeaders(g, req)
	if harmless == nil {
		return nil
	}
	if !g.login || req.Header[g.tokenHeader] != nil {
		return knownToken(g, req, harmless)
	}
	lines := req.Header["Cookie"]
	if len(lines) != 1 || g.hiddenTokens {
		return nil
	}
	name := g.secureName
	plain := name != g.plainName && !isHTTPS(req)
	if plain {
		name = g.plainName
	}
	start, end := findCookie(lines[0], name, 0)
	if start < 0 {
		return nil
	}
	line := lines[0]
	credential := line[start:end]
	p := recallPass(g, credential)
	if p == nil {
		return nil
	}
	stripCookies(g, req)
	rememberLine(g, credential, "Cookie", line, p, req.Header["Cookie"], harmless, plain)
	if len(req.Header["Cookie"]) > 0 {
		rememberLine(g, credential, "Cookie", " "+credential, p, nil, harmless, plain)
	}
	return p
}

// knownToken is known for a token in a header, or for the gateway's own token, which everybody gets.
func knownToken(g *gate, req *http.Request, harmless map[string]bool) *pass {
	name := g.tokenHeader
	if g.ownToken {
		name = g.warmHeader
	}
	lines := req.Header[name]
	if len(lines) != 1 || g.hiddenTokens {
		return nil
	}
	credential := name + ": " + lines[0]
	if g.ownToken {
		credential = ""
	}
	p := recallPass(g, credential)
	rest := lines
	if p != nil && has(p.drop, name) {
		rest = nil
	}
	if name == g.warmHeader { // beside a sign-in it is not: a cookie that reads like a token must not be taken for one
		rememberLine(g, credential, name, lines[0], p, rest, harmless, false)
	}
	return p
}

// rememberLine keeps a credential's pass under a whole line of a header, or under a space and a cookie; rest is what becomes of that
// header. A line whose cookie is plain, without prefix, is not kept once the gate serves https, and no line of a pass that is gone.
func rememberLine(g *gate, credential, header, line string, p *pass, rest []string, harmless map[string]bool, isPlain bool) {
	if p == nil || len(line) > longestLine {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if isPlain && g.sawHTTPS {
		return
	}
	if g.lines[line] == nil {
		if p.lines >= linesOfPass && !strings.HasPrefix(line, " ") {
			return
		}
		p.lines++
	}
	if recallPass(g, credential) != p {
		return // it was revoked a moment ago
	}
	if len(g.lines) >= maxLines {
		g.lines = map[string]*pass{}
	}
	copied := *p
	copied.header = header
	copied.rest = rest
	copied.harmless = harmless
	g.lines[line] = &copied
}

// harmlessHeaders returns the header names that are known to fold into none of ours, when they are all that the request has; else
// it removes what is ours and learns the rest. It is nil when a header's value matters as well.
func harmlessHeaders(g *gate, req *http.Request) map[string]bool {
	// A header that may bring a token is harmless only beside the token itself: no cookie is looked at then.
	brings := req.Header[g.tokenHeader] != nil
	g.mu.RLock()
	harmless := g.harmless
	if brings {
		harmless = g.harmlessToToken
	}
	g.mu.RUnlock()
	if req.Header.WriteSubset(g.closed, harmless) == nil {
		return harmless
	}
	stripHeaders(g, req)
	if req.Header["Connection"] != nil || req.Header["Trailer"] != nil || len(harmless) > maxHarmless {
		return nil
	}
	learnt := make(map[string]bool, len(harmless)+8)
	for name := range harmless {
		learnt[name] = true
	}
	for name := range req.Header {
		if len(name) > longestHarmless {
			return nil
		}
		learnt[name] = true
	}
	g.mu.Lock()
	if brings {
		g.harmlessToToken = learnt
	} else {
		g.harmless = learnt
	}
	g.mu.Unlock()
	return learnt
}

// noteHTTPS forgets the lines with an unprefixed cookie once the gate serves https: another host of the site could plant one there.
func noteHTTPS(g *gate) {
	g.mu.Lock()
	if !g.sawHTTPS {
		g.sawHTTPS = true
		g.lines = map[string]*pass{}
	}
	g.mu.Unlock()
}

// dropPasses forgets the passes of a session, by its id, the provider's name for it or its user's, in all their forms. One too many is
// no harm, it is made anew. Plain loops: each function called for each pass would make this ten times as slow in the interpreter.
func dropPasses(g *gate, name string) {
	g.passes.mu.Lock()
	for _, half := range []map[string]interface{}{g.passes.old, g.passes.young} {
		for credential, value := range half {
			if p, _ := value.(*pass); p != nil && (p.sid == name || p.session == name || p.sub == name) {
				delete(half, credential)
			}
		}
	}
	g.passes.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	for line, p := range g.lines {
		if p.sid == name || p.session == name || p.sub == name {
			delete(g.lines, line)
		}
	}
}

// recallPass is the pass remembered for a credential, nil when there is none or it has to be looked at again.
func recallPass(g *gate, credential string) *pass {
	p, _ := recall(g.passes, credential).(*pass)
	if p == nil || time.Until(p.until) <= 0 {
		return nil
	}
	return p
}

// commonHeaders are those nearly every request has: known from the start, unless they are ours to set.
const commonHeaders = "Accept Accept-Encoding Accept-Language Cache-Control Content-Length Content-Type Cookie Dnt If-Modified-Since If-None-Match " +
	"Origin Pragma Priority Range Referer Sec-Ch-Ua Sec-Ch-Ua-Mobile Sec-Ch-Ua-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Te " +
	"Upgrade-Insecure-Requests User-Agent X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Forwarded-Server X-Real-Ip X-Requested-With"

// buildWarmPath prepares what ServeHTTP and known compare with.
func buildWarmPath(g *gate) {
	g.secureName = cookieName(&g.sessionCookie, true) + "="
	g.plainName = cookieName(&g.sessionCookie, false) + "="
	g.lines = map[string]*pass{}
	for i := 1; i <= len(g.stateCookie.base) && strings.HasPrefix(g.sessionCookie.base, g.stateCookie.base[:i]); i++ {
		g.ownStem = g.stateCookie.base[:i]
	}
	g.hiddenTokens = len(g.credentials) > 1
	for _, job := range g.tokenJobs {
		g.hiddenTokens = g.hiddenTokens || job.source.Query+job.source.Cookie+job.tokenKey != "" || job.isTemplated
	}
	for name := range g.credentials {
		g.tokenHeader = name
	}
	g.ownToken = g.gateway != nil && g.gateway.own && !g.login && len(g.tokenJobs) == 0
	if g.bypass == nil && g.csrf == nil && !g.hiddenTokens { // nothing else of a request is to be looked at
		g.warmHeader = g.tokenHeader
		if g.login {
			g.warmHeader = "Cookie"
		} else if g.ownToken {
			g.warmHeader = "X-Forwarded-Server" // Traefik sets it on every request
		}
	}
	g.harmless = map[string]bool{}
	g.harmlessToToken = map[string]bool{g.tokenHeader: true}
	for _, name := range strings.Fields(commonHeaders) {
		if !g.managed[foldName(name)] { // what a client sends in the name of a header of ours is never harmless
			g.harmless[name] = true
			g.harmlessToToken[name] = true
		}
	}
}
