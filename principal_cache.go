package oidc

import (
	"crypto/sha256"
	"io"
	"net/http"
	"net/url"
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
	maxLinesPerPrincipal = 4 // where cookies change all the time no more are worth keeping, but for the session's cookie alone
	maxLineLength        = 16 << 10
	principalCost        = 700 // bytes of a pass with its place, beside its texts
	upstreamHeaderCost   = 120 // the same of a header for the upstream
	lineCost             = 600 // and of a line
	maxSafeHeaders       = 512 // header names learnt by a gate
	maxSafeHeaderLength  = 64
	maxHosts             = 1024             // that were seen to be hosts, of 260 bytes at most, by a gate
	relearnInterval      = 10 * time.Minute // how soon all of them may be learnt anew: whoever was let in holds on to those of that time
)

// warm guards this room in all gates. One lock that is no field costs a request two steps less in the interpreter.
var principalsLock sync.RWMutex

var (
	failingWriter      io.Writer = (*os.File)(nil) // it refuses whatever is written
	principalsCapacity int                         // bytes: three eighths for each half of the passes, the rest for lines
	recentPrincipals   = &principalHalf{byKey: map[string]*principal{}, byName: map[string][]*principal{}}
	formerPrincipals   = &principalHalf{byKey: map[string]*principal{}, byName: map[string][]*principal{}}

	linesByAge []*cachedLine // the oldest first
	linesByKey = map[string][]*cachedLine{}
	lineBytes  int

	expiredPrincipal = &principal{} // whose time is over since ever
)

// passes are one half of the memory.
type principalHalf struct {
	byKey  map[string]*principal
	byName map[string][]*principal // by the session's id, the provider's name for it and its user's
	bytes  int
}

// cachedLine is a line that is remembered, "" when no more, with the key of its pass. A pass does not know its lines: the interpreter
// takes types that lead to each other for one another.
type cachedLine struct {
	in        map[string]*principal // where it is
	key, line string
}

// pass is what is remembered of a credential (a session cookie, a bearer token) that was let in: until when it may be
// used without another look, and the finished headers. It is shared among requests, and never changed.
type principal struct {
	validUntil         time.Time
	names              []string // of the headers for the upstream, until they are a list
	values             [][]string
	headers            *upstreamHeader // that list
	tokenHeader        string          // the header that brought a token, "" when the upstream gets it
	mayHaveOtherTokens bool            // it may be elsewhere as well
	user               *url.Userinfo
	sessionID          string // the session's id, "" for a token
	sid, sub           string // by which a pushed logout finds it

	// In the memory of warm.go: the credential's hash, the headers that may come with it, whether the session's cookie is the one looked for.
	cacheKey        string
	credentialHash  string // hashed, for the CSRF token of who has no other name
	clientState     *clientState
	safeHeaders     map[string]bool
	hasCookiePrefix bool
	size            int // bytes

	// With a store: the question how the session's entry there begins, and the answer. While that is the same, the pass is good until end.
	validation, validator string
	redisSlot             int
	revalidatableUntil    time.Time
}

// principalCache is one middleware's part of this memory. principalsLock guards what changes in it.
type principalCache struct {
	salt              string // of its keys: what one middleware has judged another has not
	hasLogin          bool
	headers           *headerNames
	state             *clientState  // nil without sign-in
	cookie            *cookie       // of the session, nil without sign-in
	localCopyLifetime time.Duration // that a session of the store is good for without a look into it: another replica may end it
	header            string        // whose line says who sends a request, "" for none
	prefix            string        // that name, and a colon
	cookieNameStem    string        // with which the names of all our cookies begin
	endpointPaths     map[string]bool
	byHeaderLine      map[string]*principal            // the map itself stays: handlers have it
	hosts             map[string]map[string]*principal // that those lines came to: byHeaderLine, under each; it stays, too

	cookiePrefix       string                // with sign-in: how the session's cookie begins after another
	bySessionCookie    map[string]*principal // by the value of the session's cookie, where the rest of the line changes
	safeHeaders        map[string]bool       // replaced as a whole, never changed
	initialSafeHeaders map[string]bool
	relearnedAt        time.Time // when safeHeaders were the initial ones for the last time
}

// setting is a header for the upstream, with those that follow. Lists share their ends, so a request can have its own beginning.
type upstreamHeader struct {
	name   string
	values []string
	next   *upstreamHeader
}

// findBySessionCookie is the pass of a line that is not remembered: by the session's cookie in it, with the other cookies for the upstream, where
// that is remembered alone.
func findBySessionCookie(h *handler, req *http.Request) *principal {
	pc := h.middleware.cache // not where this is called: a selector there costs each request one allocation more
	if !pc.hasLogin {
		return findByTokenLine(pc, req)
	}
	principalsLock.RLock()
	before, rest, _ := strings.Cut("; "+req.Header[pc.header][0], pc.cookiePrefix)
	value, after, _ := strings.Cut(rest, "; ")
	p := pc.bySessionCookie[value]
	if pc.hosts[req.Host] == nil {
		p = nil
	}
	principalsLock.RUnlock()
	others := strings.Trim(before+"; "+after, "; ")
	if p == nil || others == "" || strings.Contains(others, pc.cookieNameStem) {
		return findByCookieLine(pc, req, value, others)
	}
	among := *p
	among.headers = &upstreamHeader{"Cookie", []string{others}, p.headers}
	return &among
}

// findByCookieLine is the pass of a line of cookies of which nothing but the pass is remembered.
func findByCookieLine(pc *principalCache, req *http.Request, value, others string) *principal {
	if value == "" || others != "" && strings.Contains(others, pc.cookieNameStem) {
		return expiredPrincipal
	}
	principalsLock.RLock()
	prefix := pc.cookiePrefix
	principalsLock.RUnlock()
	p := findPrincipal(pc, prefix[len("; "):]+value)
	if p == nil {
		return expiredPrincipal
	}
	return withHeaderLine(pc, req, p, req.Header[pc.header][0], value, others)
}

// findByTokenLine is findByCookieLine for a line that is nothing but the credential.
func findByTokenLine(pc *principalCache, req *http.Request) *principal {
	line := req.Header[pc.header][0]
	p := findPrincipal(pc, pc.prefix+line)
	if p == nil {
		return expiredPrincipal
	}
	return withHeaderLine(pc, req, p, line, "", line)
}

// lined is a pass as it is for a line, which is remembered from now on, or the value of the cookie in it when there are others enough.
func withHeaderLine(pc *principalCache, req *http.Request, p *principal, line, value, others string) *principal {
	var rest []string
	if others != "" && (pc.hasLogin || p.tokenHeader != pc.header && !contains(pc.headers.overwritten, pc.header)) {
		rest = []string{others}
	}
	made := *p
	made.headers = &upstreamHeader{pc.header, rest, p.headers}
	principalsLock.Lock()
	defer principalsLock.Unlock()
	if recentPrincipals.byKey[p.cacheKey] != p || p.safeHeaders == nil || pc.hosts[req.Host] == nil {
		return expiredPrincipal // revoked a moment ago, or not known well enough
	}
	if len(linesByKey[p.cacheKey]) < maxLinesPerPrincipal {
		cacheLine(pc.byHeaderLine, line, &made)
	} else {
		cacheLine(pc.bySessionCookie, value, p)
	}
	return &made
}

// principalKey is what a pass is remembered by.
func principalKey(pc *principalCache, credential string) string {
	sum := sha256.Sum256([]byte(pc.salt + credential))
	return string(sum[:])
}

// findPrincipal is the pass remembered for a credential, nil when there is none; it may have to be looked at again. A former one moves to the
// recent.
func findPrincipal(pc *principalCache, credential string) *principal {
	sum := sha256.Sum256([]byte(pc.salt + credential))
	key := string(sum[:])
	principalsLock.RLock()
	p := recentPrincipals.byKey[key]
	before := formerPrincipals.byKey[key]
	principalsLock.RUnlock()
	if before != nil {
		return promotePrincipal(key)
	}
	return p
}

func promotePrincipal(key string) *principal {
	principalsLock.Lock()
	defer principalsLock.Unlock()
	if p := formerPrincipals.byKey[key]; p != nil {
		insertPrincipal(p)
	}
	return recentPrincipals.byKey[key]
}

// cachePrincipal remembers a pass by its credential.
func cachePrincipal(pc *principalCache, p *principal, credential string) {
	sum := sha256.Sum256([]byte(pc.salt + credential))
	p.cacheKey = string(sum[:])
	p.clientState = pc.state
	principalsLock.Lock()
	p.hasCookiePrefix = pc.hasLogin && strings.HasPrefix("; "+credential, pc.cookiePrefix)
	insertPrincipal(p)
	principalsLock.Unlock()
}

// insertPrincipal puts a pass in the place of the one that had its key. The caller holds the lock.
func insertPrincipal(p *principal) {
	before := recentPrincipals.byKey[p.cacheKey]
	if before != nil {
		recentPrincipals.bytes -= before.size
		removePrincipal(p.cacheKey)
	}
	delete(formerPrincipals.byKey, p.cacheKey)
	if recentPrincipals.bytes+p.size > principalsCapacity/8*3 {
		rotateHalves()
		before = nil
	}
	recentPrincipals.byKey[p.cacheKey] = p
	recentPrincipals.bytes += p.size
	if p.sessionID != "" {
		indexPrincipal(p, before)
	}
}

// indexPrincipal lets a session's pass be found by its names, unless the one before it in the same half is.
func indexPrincipal(p, before *principal) {
	if before != nil && before.sid == p.sid && before.sub == p.sub {
		return
	}
	for _, name := range []string{p.sessionID, p.sid, p.sub} {
		if name != "" {
			recentPrincipals.byName[name] = append(recentPrincipals.byName[name], p)
		}
	}
}

// rotateHalves makes the recent half the former one. Lines are forgotten: their passes may be, the next time.
func rotateHalves() {
	for _, l := range linesByAge {
		delete(l.in, l.line)
	}
	linesByAge = nil
	linesByKey = map[string][]*cachedLine{}
	lineBytes = 0
	formerPrincipals = recentPrincipals
	recentPrincipals = &principalHalf{byKey: map[string]*principal{}, byName: map[string][]*principal{}}
}

// removePrincipal forgets the pass of a key, with its lines. The caller holds the lock.
func removePrincipal(key string) {
	for _, l := range linesByKey[key] {
		removeLine(l)
	}
	delete(linesByKey, key)
	delete(recentPrincipals.byKey, key)
	delete(formerPrincipals.byKey, key)
}

// cacheLine remembers a pass as it is for a line, or for the value of a cookie. The caller holds the lock.
func cacheLine(lines map[string]*principal, line string, made *principal) {
	if len(linesByKey[made.cacheKey]) > maxLinesPerPrincipal || len(line) > maxLineLength {
		return
	}
	before := lines[line]
	lines[line] = made
	if before != nil && before.cacheKey == made.cacheKey { // or another session in it is over, and would take it along instead of this one
		return
	}
	l := &cachedLine{in: lines, key: made.cacheKey, line: line}
	linesByAge = append(linesByAge, l)
	linesByKey[made.cacheKey] = append(linesByKey[made.cacheKey], l)
	lineBytes += lineCost + len(line)
	for len(linesByAge) > 0 && lineBytes > principalsCapacity/4 {
		evictOldestLine()
	}
}

// removeLine makes a line unknown. The caller holds the lock.
func removeLine(l *cachedLine) {
	delete(l.in, l.line)
	lineBytes -= len(l.line)
	l.line = ""
}

// evictOldestLine forgets the line that is remembered for the longest time. The caller holds the lock.
func evictOldestLine() {
	l := linesByAge[0]
	linesByAge = linesByAge[1:]
	lineBytes -= lineCost
	if l.line == "" {
		return
	}
	removeLine(l)
	linesByKey[l.key] = linesByKey[l.key][1:] // they are in order as well
	if len(linesByKey[l.key]) == 0 {
		delete(linesByKey, l.key)
	}
}

// note remembers which headers may come with who was let in, and the line that said so; that of a token when it comes once more, as most
// do not.
func cacheAdmitted(pc *principalCache, who *principal, host string, line, rest []string, harmless map[string]bool) {
	whole := *who
	whole.safeHeaders = harmless
	principalsLock.Lock()
	isThere := recentPrincipals.byKey[who.cacheKey] == who // or it was revoked a moment ago
	if isThere {
		recentPrincipals.byKey[who.cacheKey] = &whole
	}
	if pc.hosts[host] == nil {
		cacheHost(pc, host)
	}
	principalsLock.Unlock()
	if isThere && len(line) == 1 && (pc.hasLogin || who.safeHeaders != nil) {
		cacheAdmittedLine(pc, &whole, line[0], rest)
	}
}

// cacheHost remembers what was seen to be a host. The map itself stays: the middlewares have it. The caller holds the lock.
func cacheHost(pc *principalCache, host string) {
	for known := range pc.hosts {
		if len(pc.hosts) >= maxHosts {
			delete(pc.hosts, known)
		}
	}
	pc.hosts[host] = pc.byHeaderLine
}

// cacheAdmittedLine remembers a line that came the long way: not one more spelling of a token, nor who was let in by another cookie than is looked
// for.
func cacheAdmittedLine(pc *principalCache, who *principal, line string, rest []string) {
	isKey := who.hasCookiePrefix
	if !pc.hasLogin {
		isKey = len(pc.headers.credentials) == 0 || principalKey(pc, pc.prefix+line) == who.cacheKey
	}
	made := *who
	made.headers = &upstreamHeader{pc.header, rest, who.headers}
	principalsLock.Lock()
	defer principalsLock.Unlock()
	for _, l := range linesByKey[who.cacheKey] { // which know other headers
		removeLine(l)
	}
	delete(linesByKey, who.cacheKey)
	if isKey && recentPrincipals.byKey[who.cacheKey] == who {
		cacheLine(pc.byHeaderLine, line, &made)
	}
}

// checkSafeHeaders gives the header names that are known to fold into none of ours, and says whether a header has no others: those that are
// known are passed over, any other meets the closed writer.
func checkSafeHeaders(pc *principalCache, header http.Header) (known map[string]bool, isAll bool) {
	principalsLock.RLock()
	known = pc.safeHeaders
	principalsLock.RUnlock()
	return known, header.WriteSubset(failingWriter, known) == nil
}

// neverSafe are headers whose values matter, whoever sends them.
var neverSafe = map[string]bool{"Connection": true, "Trailer": true, "Upgrade": true}

// learn adds the names of a header, from which everything of ours was taken, to the harmless ones. Those whose values matter are none.
func addSafeHeaders(pc *principalCache, header http.Header, known map[string]bool) map[string]bool {
	var fresh []string
	for name := range header {
		if !known[name] && !pc.headers.credentials[name] && !neverSafe[name] && len(name) <= maxSafeHeaderLength {
			fresh = append(fresh, name)
		}
	}
	principalsLock.Lock()
	defer principalsLock.Unlock()
	if len(known)+len(fresh) > maxSafeHeaders && time.Since(pc.relearnedAt) > relearnInterval { // or one client's made-up names were the last ones
		pc.relearnedAt = time.Now()
		known = pc.initialSafeHeaders
	}
	if fresh == nil || len(known)+len(fresh) > maxSafeHeaders {
		return known
	}
	learnt := map[string]bool{}
	for name := range known {
		learnt[name] = true
	}
	for _, name := range fresh {
		learnt[name] = true
	}
	pc.safeHeaders = learnt // as a whole: requests are reading the old one
	return learnt
}

// useHTTPSCookie looks for the session's prefixed cookie from now on, and forgets what came with another: another host of the site could
// plant one there.
func useHTTPSCookie(pc *principalCache, name string) {
	mark := "; " + name + "="
	principalsLock.Lock()
	if pc.cookiePrefix != mark {
		pc.cookiePrefix = mark
		for line := range pc.byHeaderLine { // the map itself stays: the middlewares have it
			delete(pc.byHeaderLine, line)
		}
		pc.bySessionCookie = map[string]*principal{}
	}
	principalsLock.Unlock()
}

// isIndexed says whether there may be passes of that name.
func isIndexed(name string) bool {
	principalsLock.RLock()
	defer principalsLock.RUnlock()
	return recentPrincipals.byName[name] != nil || formerPrincipals.byName[name] != nil
}

// removeByName forgets the passes of the sessions that have a name: the session's id, the provider's name for it or its user's. One too many
// is no harm, it is made anew. Anybody can ask for this: it costs no more than there are such sessions, and strangers wait for nobody.
func removeByName(of *clientState, name string) {
	if !isIndexed(name) {
		return
	}
	principalsLock.Lock()
	defer principalsLock.Unlock()
	for _, half := range []*principalHalf{recentPrincipals, formerPrincipals} {
		var others []*principal
		for _, p := range half.byName[name] {
			if p.clientState == of {
				removePrincipal(p.cacheKey)
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

// buildPrincipalCache prepares the memory, and finds the header that says who sends a request: none when it may be said elsewhere as well.
func newPrincipalCache(m *middleware, salt string) *principalCache {
	pc := &principalCache{salt: salt, hasLogin: m.sessions != nil, headers: m.headers, byHeaderLine: map[string]*principal{}, hosts: map[string]map[string]*principal{},
		bySessionCookie: map[string]*principal{}, safeHeaders: map[string]bool{}, endpointPaths: map[string]bool{}}
	for path := range m.site.endpoints {
		pc.endpointPaths[path] = true
		for i := 1; i < len(path); i++ { // what is left of it behind a StripPrefix; but the front page is not looked at each time
			if path[i] == '/' && i+1 < len(path) {
				pc.endpointPaths[path[i:]] = true
			}
		}
	}
	for _, name := range strings.Fields(commonHeaders) {
		if !pc.headers.managed[foldName(name)] { // what a client sends in the name of a header of ours is never harmless
			pc.safeHeaders[name] = true
		}
	}
	if pc.hasLogin {
		pc.state = m.sessions.state
		pc.cookie = &m.sessions.cookie
		pc.localCopyLifetime = time.Duration(m.config.Session.Store.CacheSeconds) * time.Second
		pc.header = "Cookie"
		pc.cookiePrefix = "; " + cookieName(pc.cookie, false) + "="
		state := m.logins.cookie.baseName
		for i := 1; i <= len(state) && strings.HasPrefix(pc.cookie.baseName, state[:i]); i++ {
			pc.cookieNameStem = state[:i]
		}
	} else if len(pc.headers.credentials) == 0 {
		pc.header = "X-Forwarded-Server" // everybody gets the gateway's own token, and Traefik sets this on every request
	}
	for name := range pc.headers.credentials {
		if !pc.hasLogin {
			pc.header = name
			pc.safeHeaders[name] = true
		}
	}
	isHidden := len(pc.headers.credentials) > 1
	for _, job := range m.tokens.all {
		isHidden = isHidden || job.looksBeyondHeaders || job.isTemplated
	}
	if isHidden {
		pc.header = ""
	}
	pc.prefix = pc.header + ": "
	pc.initialSafeHeaders = pc.safeHeaders
	principalsLock.Lock()
	if m.config.Memory<<20 > principalsCapacity {
		principalsCapacity = m.config.Memory << 20
	}
	principalsLock.Unlock()
	return pc
}
