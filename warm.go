package oidc

import (
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// This room is the memory behind ServeHTTP. Whoever came the long way through serve is remembered by the whole line of the header that
// says who they are (a cookie line, a token), with what the upstream is told of them, ready to be applied. A session is remembered by
// its cookie alone as well, for browsers whose other cookies change with each request.

const (
	maxLines        = 4096 // remembered by a gate; then it starts anew
	maxHosts        = 1024 // that were seen to be hosts, of 260 bytes at most; then it starts anew, too
	linesOfSession  = 4    // where cookies change all the time no more are worth keeping
	longestLine     = 16 << 10
	maxHarmless     = 512 // header names learnt by a gate
	longestHarmless = 64
	forgetAfter     = 10 * time.Minute // how soon all of them may be learnt anew: whoever was let in holds on to those of that time
)

// warm guards this room in all gates. One lock that is no field costs a request two steps less in the interpreter.
var warm sync.RWMutex

var (
	closed   io.Writer = (*os.File)(nil) // it refuses whatever is written
	stranger           = &pass{}         // whose time is over since ever
)

// setting is a header for the upstream, with those that follow. Lists share their ends, so a request can have its own beginning.
type setting struct {
	name   string
	values []string
	next   *setting
}

// amongOthers is the pass of a session's cookie in a line that was not seen before, with the other cookies for the upstream.
func amongOthers(m *Middleware, req *http.Request) *pass {
	g := m.gate
	warm.RLock()
	before, rest, _ := strings.Cut(req.Header[m.header][0], g.mark)
	value, after, _ := strings.Cut(rest, "; ")
	p := g.alone[value]
	if m.hosts[req.Host] == nil {
		p = nil
	}
	warm.RUnlock()
	if p == nil || !strings.HasSuffix("; "+before, "; ") { // the mark may be the end of another name
		return stranger
	}
	others := strings.Trim(before+after, "; ")
	if others == "" || strings.Contains(others, g.ownStem) {
		return stranger
	}
	among := *p
	among.first = &setting{"Cookie", []string{others}, p.first}
	return &among
}

// note remembers who was let in by a line of the header that says so, and what became of that line.
func note(g *gate, who *pass, host string, line, rest []string, harmless map[string]bool) {
	if len(line) != 1 || len(line[0]) > longestLine {
		return
	}
	whole := *who
	whole.harmless = harmless
	for i := len(who.names) - 1; i >= 0; i-- {
		whole.first = &setting{who.names[i], who.values[i], whole.first}
	}
	warm.Lock()
	defer warm.Unlock()
	if p, _ := recall(g.passes, who.credential).(*pass); p != who {
		return // revoked a moment ago
	}
	if len(g.lines) >= maxLines || len(g.hosts) >= maxHosts {
		forgetLines(g)
	}
	g.hosts[host] = g.lines
	isAsRemembered := !g.login && (who.credential == "" || who.credential == g.warmHeader+": "+line[0]) // not one more spelling of a token
	if isAsRemembered || g.login && noteAlone(g, &whole, line[0]) {
		whole.first = &setting{g.warmHeader, rest, whole.first}
		g.lines[line[0]] = &whole
	}
}

// noteAlone remembers a session by its cookie alone, and says whether the whole line is worth remembering, too. The caller holds the lock.
func noteAlone(g *gate, whole *pass, line string) bool {
	value, isMarked := strings.CutPrefix(whole.credential, g.mark)
	if !isMarked {
		return false // let in by another cookie than is looked for
	}
	alone := *whole
	if before := g.alone[value]; before != nil {
		alone.lines = before.lines
	}
	isKnown := g.lines[line] != nil
	if !isKnown {
		alone.lines++
	}
	isFew := alone.lines <= linesOfSession
	if isFew {
		alone.until = time.Time{} // the next lines come the long way as well
		alone.end = alone.until
	}
	g.alone[value] = &alone
	return isKnown || isFew
}

// forgetLines empties a gate's memory. The map itself stays: the middlewares have it. The caller holds the lock.
func forgetLines(g *gate) {
	for line := range g.lines {
		delete(g.lines, line)
	}
	for host := range g.hosts {
		delete(g.hosts, host)
	}
	g.alone = map[string]*pass{}
}

// harmlessTo gives the header names that are known to fold into none of ours, and says whether a header has no others: those that are
// known are passed over, any other meets the closed writer.
func harmlessTo(g *gate, header http.Header) (known map[string]bool, isAll bool) {
	warm.RLock()
	known = g.harmless
	warm.RUnlock()
	return known, header.WriteSubset(closed, known) == nil
}

// neverHarmless are headers whose values matter, whoever sends them.
var neverHarmless = map[string]bool{"Connection": true, "Trailer": true, "Upgrade": true}

// learn adds the names of a header, from which everything of ours was taken, to the harmless ones. Those whose values matter are none.
func learn(g *gate, header http.Header, known map[string]bool) map[string]bool {
	var fresh []string
	for name := range header {
		if !known[name] && !g.credentials[name] && !neverHarmless[name] && len(name) <= longestHarmless {
			fresh = append(fresh, name)
		}
	}
	warm.Lock()
	defer warm.Unlock()
	if len(known)+len(fresh) > maxHarmless && time.Since(g.relearnt) > forgetAfter { // or one client's made-up names were the last ones
		g.relearnt = time.Now()
		known = g.common
	}
	if fresh == nil || len(known)+len(fresh) > maxHarmless {
		return known
	}
	learnt := map[string]bool{}
	for name := range known {
		learnt[name] = true
	}
	for _, name := range fresh {
		learnt[name] = true
	}
	g.harmless = learnt // as a whole: requests are reading the old one
	return learnt
}

// noteHTTPS looks for the session's prefixed cookie from now on, and forgets what came with another: another host of the site could
// plant one there.
func noteHTTPS(g *gate) {
	mark := cookieName(&g.sessionCookie, true) + "="
	warm.Lock()
	if g.mark != mark {
		g.mark = mark
		forgetLines(g)
	}
	warm.Unlock()
}

// dropPasses forgets the passes of a session, by its id, the provider's name for it or its user's, in all their forms. One too many is
// no harm, it is made anew. Plain loops: a function called for each pass would make this ten times as slow in the interpreter.
func dropPasses(g *gate, name string) {
	g.passes.mu.Lock()
	for _, half := range []map[string]any{g.passes.old, g.passes.young} {
		for credential, value := range half {
			if p, _ := value.(*pass); p != nil && (p.sid == name || p.session == name || p.sub == name) {
				delete(half, credential)
			}
		}
	}
	g.passes.mu.Unlock()
	warm.Lock()
	defer warm.Unlock()
	for _, seen := range []map[string]*pass{g.lines, g.alone} {
		for line, p := range seen {
			if p.sid == name || p.session == name || p.sub == name {
				delete(seen, line)
			}
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

// buildWarmPath prepares the memory, and finds the header that says who sends a request: none when it may be said elsewhere as well.
func buildWarmPath(g *gate) {
	g.lines = map[string]*pass{}
	g.hosts = map[string]map[string]*pass{}
	g.alone = map[string]*pass{}
	g.harmless = map[string]bool{}
	g.many = map[string]*many{}
	g.ownPaths = map[string]bool{}
	for path := range g.endpoints {
		g.ownPaths[path] = true
		for i := 1; i < len(path); i++ { // what is left of it behind a StripPrefix; but the front page is not looked at each time
			if path[i] == '/' && i+1 < len(path) {
				g.ownPaths[path[i:]] = true
			}
		}
	}
	for i := 1; i <= len(g.stateCookie.base) && strings.HasPrefix(g.sessionCookie.base, g.stateCookie.base[:i]); i++ {
		g.ownStem = g.stateCookie.base[:i]
	}
	for _, name := range strings.Fields(commonHeaders) {
		if !g.managed[foldName(name)] { // what a client sends in the name of a header of ours is never harmless
			g.harmless[name] = true
		}
	}
	if g.login {
		g.warmHeader = "Cookie"
		g.mark = cookieName(&g.sessionCookie, false) + "="
	} else if len(g.credentials) == 0 {
		g.warmHeader = "X-Forwarded-Server" // everybody gets the gateway's own token, and Traefik sets this on every request
	}
	for name := range g.credentials {
		if !g.login {
			g.warmHeader = name
			g.harmless[name] = true
		}
	}
	isHidden := len(g.credentials) > 1
	for _, job := range g.tokenJobs {
		isHidden = isHidden || job.isHidden || job.isTemplated
	}
	if isHidden {
		g.warmHeader = ""
	}
	g.common = g.harmless
}
