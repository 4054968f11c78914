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

// The memory behind ServeHTTP. Whoever was let in by serve is remembered as a principal: what the upstream is told of them, ready to be
// applied. A principal is found by a hash of its credential, and fastest by the whole line of the header that brings it (the cookies, or
// the token).
//
// All middlewares share one memory of a fixed size (the option memory), so that a thousand of them need no more than one. When the recent
// half is full it becomes the former one, and the one before that is forgotten; a principal that is used moves back into the recent half.
// Header lines are forgotten in the order in which they came; their principal stays.

const (
	maxLinesPerPrincipal = 4 // where cookies change with every request more are not worth keeping: then bySessionCookie helps
	maxLineLength        = 16 << 10
	principalCost        = 700 // bytes of a principal with its place in the maps, beside its texts
	upstreamHeaderCost   = 120 // bytes of a header for the upstream
	lineCost             = 600 // bytes of a header line, beside its text
	maxSafeHeaders       = 512 // names learned by one middleware
	maxSafeHeaderLength  = 64
	maxHosts             = 1024             // of one middleware, each of 260 bytes at most
	relearnInterval      = 10 * time.Minute // between two times that all names are learned anew; principals keep the names of their time
)

// principalsLock guards all that changes here, in every middleware. A package variable costs each request two selectors less than a field.
var principalsLock sync.RWMutex

var (
	failingWriter      io.Writer = (*os.File)(nil) // refuses every write: Header.WriteSubset then tells at no cost whether a header is left to write
	principalsCapacity int                         // bytes: three eighths for each half of the principals, the rest for lines
	recentPrincipals   = &principalHalf{byKey: map[string]*principal{}, byName: map[string][]*principal{}}
	formerPrincipals   = &principalHalf{byKey: map[string]*principal{}, byName: map[string][]*principal{}}

	linesByAge []*cachedLine // the oldest first
	linesByKey = map[string][]*cachedLine{}
	lineBytes  int

	expiredPrincipal = &principal{} // stands for nobody
)

// principalHalf is one half of the memory.
type principalHalf struct {
	byKey  map[string]*principal
	byName map[string][]*principal // by session id, sid and sub
	bytes  int
}

// cachedLine is a header line that is remembered, with the key of its principal; an empty line has been removed. A principal does not point
// to its lines: the interpreter mixes up types that lead to each other.
type cachedLine struct {
	in        map[string]*principal // the map it is in
	key, line string
}

// principal is whoever a credential (a session cookie, a bearer token) stands for, after the rule has let them in: the finished headers, and
// until when they may be used without another look. It is shared among requests and never changed.
type principal struct {
	validUntil         time.Time
	names              []string // of the headers for the upstream, until rememberPrincipal links them
	values             [][]string
	headers            *upstreamHeader // the linked headers
	tokenHeader        string          // which brought the token and is removed; "" when the upstream gets it
	mayHaveOtherTokens bool            // the token may also be elsewhere in the request
	user               *url.Userinfo
	sessionID          string // "" for a token
	sid, sub           string // by which a logout of the provider finds it

	// For the cache.
	cacheKey        string
	credentialHash  string // what a CSRF token is bound to when there is no sub
	clientState     *clientState
	safeHeaders     map[string]bool
	hasCookiePrefix bool
	size            int // bytes

	// With a store: the command that reads the beginning of the session's entry, and the reply that means it is unchanged.
	validation, validator string
	redisSlot             int
	revalidatableUntil    time.Time
}

// principalCache is one middleware's part of this memory. principalsLock guards what changes in it.
type principalCache struct {
	salt              string // of its keys: what one middleware allows another may not
	hasLogin          bool
	headers           *headerNames
	state             *clientState  // nil without sign-in
	cookie            *cookie       // of the session, nil without sign-in
	localCopyLifetime time.Duration // how long a session of the store is good for without a look into it: another replica may end it
	header            string        // the one that says who sends a request; "" when that may be said in several places
	prefix            string        // that name and a colon
	cookieNameStem    string        // what the names of all our cookies begin with
	endpointPaths     map[string]bool
	byHeaderLine      map[string]*principal            // never replaced: handlers have it
	hosts             map[string]map[string]*principal // the hosts that lines came to, each with byHeaderLine; never replaced either

	cookiePrefix       string                // what the session's cookie begins with after another cookie
	bySessionCookie    map[string]*principal // by the cookie's value, for lines in which other cookies change
	safeHeaders        map[string]bool       // replaced as a whole, never changed
	initialSafeHeaders map[string]bool
	relearnedAt        time.Time // when safeHeaders were last set back
}

// upstreamHeader is a header for the upstream, with those that follow. Lists share their ends, so a request can have its own beginning.
type upstreamHeader struct {
	name   string
	values []string
	next   *upstreamHeader
}

// findBySessionCookie finds the principal of a cookie line that is not remembered itself, by the session's cookie in it. The upstream gets the
// other cookies of this line.
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

// findByCookieLine finds the principal of a cookie line of which neither the line nor the cookie is remembered, only the principal.
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

// findByTokenLine is findByCookieLine for a header that holds nothing but the credential.
func findByTokenLine(pc *principalCache, req *http.Request) *principal {
	line := req.Header[pc.header][0]
	p := findPrincipal(pc, pc.prefix+line)
	if p == nil {
		return expiredPrincipal
	}
	return withHeaderLine(pc, req, p, line, "", line)
}

// withHeaderLine returns the principal as it is for this line, and remembers the line; or the cookie's value, when there are many lines.
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
		return expiredPrincipal // signed out a moment ago, or not seen with headers yet
	}
	if len(linesByKey[p.cacheKey]) < maxLinesPerPrincipal {
		cacheLine(pc.byHeaderLine, line, &made)
	} else {
		cacheLine(pc.bySessionCookie, value, p)
	}
	return &made
}

// principalKey is the cache key of a principal.
func principalKey(pc *principalCache, credential string) string {
	sum := sha256.Sum256([]byte(pc.salt + credential))
	return string(sum[:])
}

// findPrincipal is the principal remembered for a credential, or nil. It may be past its time. One in the former half moves to the recent.
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

// cachePrincipal remembers a principal by its credential.
func cachePrincipal(pc *principalCache, p *principal, credential string) {
	p.cacheKey = principalKey(pc, credential)
	p.clientState = pc.state
	principalsLock.Lock()
	p.hasCookiePrefix = pc.hasLogin && strings.HasPrefix("; "+credential, pc.cookiePrefix)
	insertPrincipal(p)
	principalsLock.Unlock()
}

// insertPrincipal replaces the principal that had this key. The caller holds the lock.
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

// indexPrincipal lets a session's principal be found by its names, unless the one that it replaces was found by the same ones.
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

// rotateHalves makes the recent half the former one. All lines are forgotten, as their principals may be the next time.
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

// removePrincipal forgets the principal of a key, with its lines. The caller holds the lock.
func removePrincipal(key string) {
	for _, l := range linesByKey[key] {
		removeLine(l)
	}
	delete(linesByKey, key)
	delete(recentPrincipals.byKey, key)
	delete(formerPrincipals.byKey, key)
}

// cacheLine remembers a principal for a line, or for the value of a cookie. The caller holds the lock.
func cacheLine(lines map[string]*principal, line string, made *principal) {
	if len(linesByKey[made.cacheKey]) > maxLinesPerPrincipal || len(line) > maxLineLength {
		return
	}
	before := lines[line]
	lines[line] = made
	if before != nil && before.cacheKey == made.cacheKey { // otherwise another session's end would remove this line, and not the end of this one
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

// removeLine forgets a line. The caller holds the lock.
func removeLine(l *cachedLine) {
	delete(l.in, l.line)
	lineBytes -= len(l.line)
	l.line = ""
}

// evictOldestLine forgets the line that came first. The caller holds the lock.
func evictOldestLine() {
	l := linesByAge[0]
	linesByAge = linesByAge[1:]
	lineBytes -= lineCost
	if l.line == "" {
		return
	}
	removeLine(l)
	linesByKey[l.key] = linesByKey[l.key][1:] // which are in the same order
	if len(linesByKey[l.key]) == 0 {
		delete(linesByKey, l.key)
	}
}

// cacheAdmitted remembers which headers may come with a principal that serve let in, and the line that brought its credential: a token's
// line only when it comes once more, as most do not.
func cacheAdmitted(pc *principalCache, who *principal, host string, line, rest []string, harmless map[string]bool) {
	whole := *who
	whole.safeHeaders = harmless
	principalsLock.Lock()
	isThere := recentPrincipals.byKey[who.cacheKey] == who // else it was signed out a moment ago
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

// cacheHost remembers a valid host. The caller holds the lock.
func cacheHost(pc *principalCache, host string) {
	for known := range pc.hosts {
		if len(pc.hosts) >= maxHosts {
			delete(pc.hosts, known)
		}
	}
	pc.hosts[host] = pc.byHeaderLine
}

// cacheAdmittedLine remembers the line by which serve let a principal in; not another spelling of a token, and not a line with another cookie
// than the one that is looked for.
func cacheAdmittedLine(pc *principalCache, who *principal, line string, rest []string) {
	isKey := who.hasCookiePrefix
	if !pc.hasLogin {
		isKey = len(pc.headers.credentials) == 0 || principalKey(pc, pc.prefix+line) == who.cacheKey
	}
	made := *who
	made.headers = &upstreamHeader{pc.header, rest, who.headers}
	principalsLock.Lock()
	defer principalsLock.Unlock()
	for _, l := range linesByKey[who.cacheKey] { // which list other headers
		removeLine(l)
	}
	delete(linesByKey, who.cacheKey)
	if isKey && recentPrincipals.byKey[who.cacheKey] == who {
		cacheLine(pc.byHeaderLine, line, &made)
	}
}

// checkSafeHeaders returns the header names that are known to fold into none of ours, and says whether a header has no others: the library
// skips those that are known, and fails to write any other one.
func checkSafeHeaders(pc *principalCache, header http.Header) (known map[string]bool, isAll bool) {
	principalsLock.RLock()
	known = pc.safeHeaders
	principalsLock.RUnlock()
	return known, header.WriteSubset(failingWriter, known) == nil
}

// neverSafe are headers whose values must be looked at each time.
var neverSafe = map[string]bool{"Connection": true, "Trailer": true, "Upgrade": true}

// addSafeHeaders adds the names of a header from which everything of ours was taken. Those whose values matter are left out.
func addSafeHeaders(pc *principalCache, header http.Header, known map[string]bool) map[string]bool {
	var fresh []string
	for name := range header {
		if !known[name] && !pc.headers.credentials[name] && !neverSafe[name] && len(name) <= maxSafeHeaderLength {
			fresh = append(fresh, name)
		}
	}
	principalsLock.Lock()
	defer principalsLock.Unlock()
	if len(known)+len(fresh) > maxSafeHeaders && time.Since(pc.relearnedAt) > relearnInterval { // else the made-up names of one client would be the last to be learned
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
	pc.safeHeaders = learnt // a new map: requests are reading the old one
	return learnt
}

// useHTTPSCookie makes the session's prefixed cookie the one that is looked for, and forgets the lines with the other one, which another host
// of the site could plant.
func useHTTPSCookie(pc *principalCache, name string) {
	mark := "; " + name + "="
	principalsLock.Lock()
	if pc.cookiePrefix != mark {
		pc.cookiePrefix = mark
		for line := range pc.byHeaderLine { // never replaced: handlers have this map
			delete(pc.byHeaderLine, line)
		}
		pc.bySessionCookie = map[string]*principal{}
	}
	principalsLock.Unlock()
}

// isIndexed says whether there may be principals of that name.
func isIndexed(name string) bool {
	principalsLock.RLock()
	defer principalsLock.RUnlock()
	return recentPrincipals.byName[name] != nil || formerPrincipals.byName[name] != nil
}

// removeByName forgets the principals of sessions by a session id, sid or sub. One too many does no harm, as it is made anew. Anybody can ask
// for this, so it costs no more than there are such sessions, and takes no lock for names that nobody has.
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

// commonHeaders are those that nearly every request has. They are safe from the start, unless they are ours to set.
const commonHeaders = "Accept Accept-Encoding Accept-Language Cache-Control Content-Length Content-Type Cookie Dnt If-Modified-Since If-None-Match " +
	"Origin Pragma Priority Range Referer Sec-Ch-Ua Sec-Ch-Ua-Mobile Sec-Ch-Ua-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Te " +
	"Upgrade-Insecure-Requests User-Agent X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Forwarded-Server X-Real-Ip X-Requested-With"

// newPrincipalCache makes a middleware's part of the memory, and finds the one header that says who sends a request.
func newPrincipalCache(m *middleware, salt string) *principalCache {
	pc := &principalCache{salt: salt, hasLogin: m.sessions != nil, headers: m.headers, byHeaderLine: map[string]*principal{}, hosts: map[string]map[string]*principal{},
		bySessionCookie: map[string]*principal{}, safeHeaders: map[string]bool{}, endpointPaths: map[string]bool{}}
	for path := range m.site.endpoints {
		pc.endpointPaths[path] = true
		for i := 1; i < len(path); i++ { // what a StripPrefix leaves of it; not "/", or the front page would always take the slow way
			if path[i] == '/' && i+1 < len(path) {
				pc.endpointPaths[path[i:]] = true
			}
		}
	}
	for _, name := range strings.Fields(commonHeaders) { // they have only letters and hyphens: folded, they are in lower case
		if !pc.headers.managed[strings.ToLower(name)] { // nothing that a client sends under the name of one of our headers is safe
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
		pc.header = "X-Forwarded-Server" // everybody gets the same token, and Traefik sets this header on every request
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
