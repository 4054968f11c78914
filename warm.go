package oidc

import (
	"crypto/sha256"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// This room is the memory behind ServeHTTP. Whoever came the long way through serve is remembered as a pass: what the upstream is told of
// them, ready to be applied. It is found by the credential, as a hash of it is short; and for the quickest way by the whole line of the
// header that brings it (a cookie line, a token).
//
// All gates together have one memory, of so many bytes (the option memory): a thousand of them cost no more than one. When the recent half
// is full it becomes the former one, and what was that is forgotten; who is used comes back to the recent half. Lines are forgotten in
// the order in which they came: their pass stays.

const (
	linesOfSession  = 4 // where cookies change all the time no more are worth keeping, but for the session's cookie alone
	longestLine     = 16 << 10
	passCost        = 700 // bytes of a pass with its place, beside its texts
	settingCost     = 120 // the same of a header for the upstream
	lineCost        = 600 // and of a line
	maxHarmless     = 512 // header names learnt by a gate
	longestHarmless = 64
	maxHosts        = 1024             // that were seen to be hosts, of 260 bytes at most, by a gate
	forgetAfter     = 10 * time.Minute // how soon all of them may be learnt anew: whoever was let in holds on to those of that time
)

// warm guards this room in all gates. One lock that is no field costs a request two steps less in the interpreter.
var warm sync.RWMutex

var (
	closed io.Writer = (*os.File)(nil) // it refuses whatever is written
	room   int                         // bytes: three eighths for each half of the passes, the rest for lines
	recent = &passes{byKey: map[string]*pass{}, byName: map[string][]*pass{}}
	former = &passes{byKey: map[string]*pass{}, byName: map[string][]*pass{}}

	inOrder    []*knownLine // the oldest first
	linesByKey = map[string][]*knownLine{}
	lineBytes  int

	stranger = &pass{} // whose time is over since ever
)

// passes are one half of the memory.
type passes struct {
	byKey  map[string]*pass
	byName map[string][]*pass // by the session's id, the provider's name for it and its user's
	bytes  int
}

// knownLine is a line that is remembered, "" when no more, with the key of its pass. A pass does not know its lines: the interpreter
// takes types that lead to each other for one another.
type knownLine struct {
	lines     map[string]*pass // where it is
	key, line string
}

// setting is a header for the upstream, with those that follow. Lists share their ends, so a request can have its own beginning.
type setting struct {
	name   string
	values []string
	next   *setting
}

// amongOthers is the pass of a line that is not remembered: by the session's cookie in it, with the other cookies for the upstream, where
// that is remembered alone.
func amongOthers(m *Middleware, req *http.Request) *pass {
	g := m.gate
	if !g.login {
		return passOfToken(m, req)
	}
	warm.RLock()
	before, rest, _ := strings.Cut("; "+req.Header[m.header][0], g.mark)
	value, after, _ := strings.Cut(rest, "; ")
	p := g.alone[value]
	if m.hosts[req.Host] == nil {
		p = nil
	}
	warm.RUnlock()
	others := strings.Trim(before+"; "+after, "; ")
	if p == nil || others == "" || strings.Contains(others, g.ownStem) {
		return passOf(m, req)
	}
	among := *p
	among.first = &setting{"Cookie", []string{others}, p.first}
	return &among
}

// passOf is the pass of a line of cookies of which nothing but the pass is remembered.
func passOf(m *Middleware, req *http.Request) *pass {
	g, line := m.gate, req.Header[m.header][0]
	warm.RLock()
	mark := g.mark
	warm.RUnlock()
	before, rest, _ := strings.Cut("; "+line, mark)
	value, after, _ := strings.Cut(rest, "; ")
	others := strings.Trim(before+"; "+after, "; ")
	if value == "" || others != "" && strings.Contains(others, g.ownStem) {
		return stranger
	}
	p := findPass(g, mark[len("; "):]+value)
	if p == nil {
		return stranger
	}
	return lined(m, req, p, line, value, others)
}

// passOfToken is passOf for a line that is nothing but the credential.
func passOfToken(m *Middleware, req *http.Request) *pass {
	line := req.Header[m.header][0]
	p := findPass(m.gate, m.gate.before+line)
	if p == nil {
		return stranger
	}
	return lined(m, req, p, line, "", line)
}

// lined is a pass as it is for a line, which is remembered from now on, or the value of the cookie in it when there are others enough.
func lined(m *Middleware, req *http.Request, p *pass, line, value, others string) *pass {
	g := m.gate
	var rest []string
	if others != "" && (g.login || p.drop != g.warmHeader && !has(g.replaced, g.warmHeader)) {
		rest = []string{others}
	}
	made := *p
	made.first = &setting{g.warmHeader, rest, p.first}
	warm.Lock()
	defer warm.Unlock()
	if recent.byKey[p.key] != p || p.harmless == nil || m.hosts[req.Host] == nil {
		return stranger // revoked a moment ago, or not known well enough
	}
	if len(linesByKey[p.key]) < linesOfSession {
		keepLine(g.lines, line, &made)
	} else {
		keepLine(g.alone, value, p)
	}
	return &made
}

// passKey is what a pass is remembered by.
func passKey(g *gate, credential string) string {
	sum := sha256.Sum256([]byte(g.key + credential))
	return string(sum[:])
}

// findPass is the pass remembered for a credential, nil when there is none; it may have to be looked at again. A former one moves to the
// recent.
func findPass(g *gate, credential string) *pass {
	sum := sha256.Sum256([]byte(g.key + credential))
	key := string(sum[:])
	warm.RLock()
	p := recent.byKey[key]
	before := former.byKey[key]
	warm.RUnlock()
	if before != nil {
		return revivePass(key)
	}
	return p
}

func revivePass(key string) *pass {
	warm.Lock()
	defer warm.Unlock()
	if p := former.byKey[key]; p != nil {
		placePass(p)
	}
	return recent.byKey[key]
}

// keepPass remembers a pass by its credential.
func keepPass(g *gate, p *pass, credential string) {
	sum := sha256.Sum256([]byte(g.key + credential))
	p.key = string(sum[:])
	p.ledger = g.ledger
	warm.Lock()
	p.isMarked = g.login && strings.HasPrefix("; "+credential, g.mark)
	placePass(p)
	warm.Unlock()
}

// placePass puts a pass in the place of the one that had its key. The caller holds the lock.
func placePass(p *pass) {
	before := recent.byKey[p.key]
	if before != nil {
		recent.bytes -= before.size
		dropPass(p.key)
	}
	delete(former.byKey, p.key)
	if recent.bytes+p.size > room/8*3 {
		turnPasses()
		before = nil
	}
	recent.byKey[p.key] = p
	recent.bytes += p.size
	if p.session != "" {
		namePass(p, before)
	}
}

// namePass lets a session's pass be found by its names, unless the one before it in the same half is.
func namePass(p, before *pass) {
	if before != nil && before.sid == p.sid && before.sub == p.sub {
		return
	}
	for _, name := range []string{p.session, p.sid, p.sub} {
		if name != "" {
			recent.byName[name] = append(recent.byName[name], p)
		}
	}
}

// turnPasses makes the recent half the former one. Lines are forgotten: their passes may be, the next time.
func turnPasses() {
	for _, l := range inOrder {
		delete(l.lines, l.line)
	}
	inOrder = nil
	linesByKey = map[string][]*knownLine{}
	lineBytes = 0
	former = recent
	recent = &passes{byKey: map[string]*pass{}, byName: map[string][]*pass{}}
}

// dropPass forgets the pass of a key, with its lines. The caller holds the lock.
func dropPass(key string) {
	for _, l := range linesByKey[key] {
		forgetLine(l)
	}
	delete(linesByKey, key)
	delete(recent.byKey, key)
	delete(former.byKey, key)
}

// keepLine remembers a pass as it is for a line, or for the value of a cookie. The caller holds the lock.
func keepLine(lines map[string]*pass, line string, made *pass) {
	if len(linesByKey[made.key]) > linesOfSession || len(line) > longestLine {
		return
	}
	before := lines[line]
	lines[line] = made
	if before != nil && before.key == made.key { // or another session in it is over, and would take it along instead of this one
		return
	}
	l := &knownLine{lines: lines, key: made.key, line: line}
	inOrder = append(inOrder, l)
	linesByKey[made.key] = append(linesByKey[made.key], l)
	lineBytes += lineCost + len(line)
	for len(inOrder) > 0 && lineBytes > room/4 {
		dropOldest()
	}
}

// forgetLine makes a line unknown. The caller holds the lock.
func forgetLine(l *knownLine) {
	delete(l.lines, l.line)
	lineBytes -= len(l.line)
	l.line = ""
}

// dropOldest forgets the line that is remembered for the longest time. The caller holds the lock.
func dropOldest() {
	l := inOrder[0]
	inOrder = inOrder[1:]
	lineBytes -= lineCost
	if l.line == "" {
		return
	}
	forgetLine(l)
	linesByKey[l.key] = linesByKey[l.key][1:] // they are in order as well
	if len(linesByKey[l.key]) == 0 {
		delete(linesByKey, l.key)
	}
}

// note remembers which headers may come with who was let in, and the line that said so; that of a token when it comes once more, as most
// do not.
func note(g *gate, who *pass, host string, line, rest []string, harmless map[string]bool) {
	whole := *who
	whole.harmless = harmless
	warm.Lock()
	isThere := recent.byKey[who.key] == who // or it was revoked a moment ago
	if isThere {
		recent.byKey[who.key] = &whole
	}
	if g.hosts[host] == nil {
		noteHost(g, host)
	}
	warm.Unlock()
	if isThere && len(line) == 1 && (g.login || who.harmless != nil) {
		noteLine(g, &whole, line[0], rest)
	}
}

// noteHost remembers what was seen to be a host. The map itself stays: the middlewares have it. The caller holds the lock.
func noteHost(g *gate, host string) {
	for known := range g.hosts {
		if len(g.hosts) >= maxHosts {
			delete(g.hosts, known)
		}
	}
	g.hosts[host] = g.lines
}

// noteLine remembers a line that came the long way: not one more spelling of a token, nor who was let in by another cookie than is looked
// for.
func noteLine(g *gate, who *pass, line string, rest []string) {
	isKey := who.isMarked
	if !g.login {
		isKey = len(g.credentials) == 0 || passKey(g, g.before+line) == who.key
	}
	made := *who
	made.first = &setting{g.warmHeader, rest, who.first}
	warm.Lock()
	defer warm.Unlock()
	for _, l := range linesByKey[who.key] { // which know other headers
		forgetLine(l)
	}
	delete(linesByKey, who.key)
	if isKey && recent.byKey[who.key] == who {
		keepLine(g.lines, line, &made)
	}
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
	mark := "; " + cookieName(&g.sessionCookie, true) + "="
	warm.Lock()
	if g.mark != mark {
		g.mark = mark
		for line := range g.lines { // the map itself stays: the middlewares have it
			delete(g.lines, line)
		}
		g.alone = map[string]*pass{}
	}
	warm.Unlock()
}

// isNamed says whether there may be passes of that name.
func isNamed(name string) bool {
	warm.RLock()
	defer warm.RUnlock()
	return recent.byName[name] != nil || former.byName[name] != nil
}

// dropNamed forgets the passes of the sessions that have a name: the session's id, the provider's name for it or its user's. One too many
// is no harm, it is made anew. Anybody can ask for this: it costs no more than there are such sessions, and strangers wait for nobody.
func dropNamed(of *ledger, name string) {
	if !isNamed(name) {
		return
	}
	warm.Lock()
	defer warm.Unlock()
	for _, half := range []*passes{recent, former} {
		var others []*pass
		for _, p := range half.byName[name] {
			if p.ledger == of {
				dropPass(p.key)
			} else {
				others = append(others, p)
			}
		}
		delete(half.byName, name)
		if others != nil {
			half.byName[name] = others
		}
	}
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
		g.mark = "; " + cookieName(&g.sessionCookie, false) + "="
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
	g.before = g.warmHeader + ": "
	g.common = g.harmless
}
