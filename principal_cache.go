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

// The cache behind ServeHTTP. When serve lets somebody in, they are cached as a principal, with finished headers for the upstream. A
// principal is found by a hash of its credential, or, faster, by the whole header line that carries the credential (all cookies, or the
// token).
//
// All middlewares share one cache of a fixed size (the option memory), so a thousand of them need no more than one. It has two halves:
// when the recent half is full, it becomes the former half, and the old former half is dropped; a principal that is used moves back into
// the recent half. Header lines are evicted oldest first; their principals stay.

const (
	maxLinesPerPrincipal = 4 // more are not worth keeping: the cookies must change with every request, and bySessionCookie serves those
	maxLineLength        = 16 << 10
	principalCost        = 700 // bytes of a principal and its map entries, without its strings
	upstreamHeaderCost   = 120 // bytes of a header for the upstream
	lineCost             = 600 // bytes of a header line, without its text
	maxSafeHeaders       = 512 // names that one middleware learns
	maxSafeHeaderLength  = 64
	maxHosts             = 1024             // per middleware, each of at most 260 bytes
	relearnInterval      = 10 * time.Minute // how often a full set of names may be dropped and learned again; principals keep the set they have
)

// principalsLock guards everything that changes in this file, for all middlewares. As a package variable it costs each request two
// selectors (allocations) less than as a field.
var principalsLock sync.RWMutex

var (
	failingWriter      io.Writer = (*os.File)(nil) // fails every write: with it, Header.WriteSubset tells for free whether there is a header to write
	principalsCapacity int                         // bytes: three eighths for each half, the rest for lines
	recentPrincipals   = &principalHalf{byKey: map[string]*principal{}, byName: map[string][]*principal{}}
	formerPrincipals   = &principalHalf{byKey: map[string]*principal{}, byName: map[string][]*principal{}}

	linesByAge []*cachedLine // oldest first
	linesByKey = map[string][]*cachedLine{}
	lineBytes  int

	expiredPrincipal = &principal{} // returned instead of nil when none was found: validUntil is zero
)

// principalHalf is one half of the cache.
type principalHalf struct {
	byKey  map[string]*principal
	byName map[string][]*principal // by session ID, sid and sub
	bytes  int
}

// cachedLine is a cached header line with its principal's key; it has been removed if line is empty. A principal does not point to its
// lines, because the interpreter confuses mutually recursive types.
type cachedLine struct {
	in        map[string]*principal // the map that holds it
	key, line string
}

// principal is whom a credential (a session cookie, a bearer token) stands for, once the claims rule has let them in: their finished
// headers, and until when these may be used without checking again. It is shared between requests and never changed.
type principal struct {
	validUntil         time.Time
	names              []string // the headers for the upstream, until rememberPrincipal links them
	values             [][]string
	headers            *upstreamHeader // the linked headers
	tokenHeader        string          // the header that carried the token and must be removed; "" if the upstream gets it
	mayHaveOtherTokens bool            // the request may carry the token in other places as well
	user               *url.Userinfo
	sessionID          string // "" for a token
	sid, sub           string // by which the provider's logout finds it

	// For the cache.
	cacheKey        string
	credentialHash  string // a CSRF token is bound to it if there is no sub
	clientState     *clientState
	safeHeaders     map[string]bool
	hasCookiePrefix bool
	size            int // bytes

	// With a store: the command that reads the beginning of the session's entry, and the reply that proves it unchanged.
	validation, validator string
	redisSlot             int
	revalidatableUntil    time.Time
}

// principalCache is one middleware's part of the cache. principalsLock guards what changes in it.
type principalCache struct {
	salt              string // salts its keys: what one middleware allows, another may not
	hasLogin          bool
	headers           *headerNames
	state             *clientState  // nil without sign-in
	cookie            *cookie       // the session cookie, nil without sign-in
	localCopyLifetime time.Duration // how long a session is used without asking the store: another replica may have ended it
	header            string        // the header that carries the credential; "" if several places can
	prefix            string        // that name and a colon
	cookieNameStem    string        // the common beginning of all our cookies' names
	endpointPaths     map[string]bool
	byHeaderLine      map[string]*principal            // never replaced: handlers hold it
	hosts             map[string]map[string]*principal // byHeaderLine for each host that requests came to; never replaced either

	cookiePrefix       string                // how the session cookie begins when it follows another cookie
	bySessionCookie    map[string]*principal // by the cookie's value, for clients whose other cookies keep changing
	safeHeaders        map[string]bool       // copied on write
	initialSafeHeaders map[string]bool
	relearnedAt        time.Time // when safeHeaders were last reset
}

// upstreamHeader is a linked list of headers for the upstream. Lists share tails, so a request can put its own headers in front.
type upstreamHeader struct {
	name   string
	values []string
	next   *upstreamHeader
}

// findBySessionCookie finds the principal of a cookie line that is not cached, by the session cookie in it. The upstream gets the other
// cookies of that line.
func findBySessionCookie(h *handler, req *http.Request) *principal {
	pc := h.middleware.cache // not passed by ServeHTTP: the selector would cost each of its requests one allocation
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

// findByCookieLine finds the principal when neither its cookie line nor its session cookie is cached, only the principal itself.
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

// withHeaderLine returns the principal as it applies to this line, and caches the line, or only the cookie's value if the principal has
// too many lines already.
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
		return expiredPrincipal // just signed out, or never passed through forward
	}
	if len(linesByKey[p.cacheKey]) < maxLinesPerPrincipal {
		cacheLine(pc.byHeaderLine, line, &made)
	} else {
		cacheLine(pc.bySessionCookie, value, p)
	}
	return &made
}

// principalKey is the cache key of a credential.
func principalKey(pc *principalCache, credential string) string {
	sum := sha256.Sum256([]byte(pc.salt + credential))
	return string(sum[:])
}

// findPrincipal returns the cached principal of a credential, which may have expired, or nil. One in the former half moves to the recent
// half.
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

// cachePrincipal caches a principal by its credential.
func cachePrincipal(pc *principalCache, p *principal, credential string) {
	p.cacheKey = principalKey(pc, credential)
	p.clientState = pc.state
	principalsLock.Lock()
	p.hasCookiePrefix = pc.hasLogin && strings.HasPrefix("; "+credential, pc.cookiePrefix)
	insertPrincipal(p)
	principalsLock.Unlock()
}

// insertPrincipal stores a principal in place of one with the same key. The caller holds the lock.
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

// indexPrincipal indexes a session's principal by session ID, sid and sub, unless the one it replaces was indexed by the same.
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

// rotateHalves makes the recent half the former one. All lines are dropped, as the next rotation may drop their principals.
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

// removePrincipal removes a key's principal and its lines. The caller holds the lock.
func removePrincipal(key string) {
	for _, l := range linesByKey[key] {
		removeLine(l)
	}
	delete(linesByKey, key)
	delete(recentPrincipals.byKey, key)
	delete(formerPrincipals.byKey, key)
}

// cacheLine caches a principal by a header line, or by the value of a cookie. The caller holds the lock.
func cacheLine(lines map[string]*principal, line string, made *principal) {
	if len(linesByKey[made.cacheKey]) > maxLinesPerPrincipal || len(line) > maxLineLength {
		return
	}
	before := lines[line]
	lines[line] = made
	if before != nil && before.cacheKey == made.cacheKey { // another principal's line must be listed anew, or that one's removal would remove it
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

// removeLine removes a line from its map. The caller holds the lock.
func removeLine(l *cachedLine) {
	delete(l.in, l.line)
	lineBytes -= len(l.line)
	l.line = ""
}

// evictOldestLine removes the oldest line. The caller holds the lock.
func evictOldestLine() {
	l := linesByAge[0]
	linesByAge = linesByAge[1:]
	lineBytes -= lineCost
	if l.line == "" {
		return
	}
	removeLine(l)
	linesByKey[l.key] = linesByKey[l.key][1:] // in the same order as linesByAge, so it is the first here, too
	if len(linesByKey[l.key]) == 0 {
		delete(linesByKey, l.key)
	}
}

// cacheAdmitted records which headers are safe beside a principal that serve let in, and caches the line that carried its credential. A
// token's line is cached only when it comes a second time, since most do not.
func cacheAdmitted(pc *principalCache, who *principal, host string, line, rest []string, safe map[string]bool) {
	whole := *who
	whole.safeHeaders = safe
	principalsLock.Lock()
	isThere := recentPrincipals.byKey[who.cacheKey] == who // otherwise it has just been signed out
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

// cacheHost records a valid host. The caller holds the lock.
func cacheHost(pc *principalCache, host string) {
	for known := range pc.hosts {
		if len(pc.hosts) >= maxHosts {
			delete(pc.hosts, known)
		}
	}
	pc.hosts[host] = pc.byHeaderLine
}

// cacheAdmittedLine caches the line by which serve let a principal in, unless it spells a token differently from the cache key, or carries
// the session in a cookie of another name than cookiePrefix.
func cacheAdmittedLine(pc *principalCache, who *principal, line string, rest []string) {
	isKey := who.hasCookiePrefix
	if !pc.hasLogin {
		isKey = len(pc.headers.credentials) == 0 || principalKey(pc, pc.prefix+line) == who.cacheKey
	}
	made := *who
	made.headers = &upstreamHeader{pc.header, rest, who.headers}
	principalsLock.Lock()
	defer principalsLock.Unlock()
	for _, l := range linesByKey[who.cacheKey] { // their safe headers are out of date
		removeLine(l)
	}
	delete(linesByKey, who.cacheKey)
	if isKey && recentPrincipals.byKey[who.cacheKey] == who {
		cacheLine(pc.byHeaderLine, line, &made)
	}
}

// checkSafeHeaders returns the header names that no backend can take for one of ours, and whether the request has only such headers: the
// library skips the known names, and fails to write any other.
func checkSafeHeaders(pc *principalCache, header http.Header) (known map[string]bool, isAll bool) {
	principalsLock.RLock()
	known = pc.safeHeaders
	principalsLock.RUnlock()
	return known, header.WriteSubset(failingWriter, known) == nil
}

// neverSafe are headers whose values must be checked each time.
var neverSafe = map[string]bool{"Connection": true, "Trailer": true, "Upgrade": true}

// addSafeHeaders adds the header names of a request that was stripped already, except those whose values matter.
func addSafeHeaders(pc *principalCache, header http.Header, known map[string]bool) map[string]bool {
	var fresh []string
	for name := range header {
		if !known[name] && !pc.headers.credentials[name] && !neverSafe[name] && len(name) <= maxSafeHeaderLength {
			fresh = append(fresh, name)
		}
	}
	principalsLock.Lock()
	defer principalsLock.Unlock()
	// Without a reset, one client that makes up names could fill the set for good.
	if len(known)+len(fresh) > maxSafeHeaders && time.Since(pc.relearnedAt) > relearnInterval {
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

// useHTTPSCookie makes ServeHTTP look for the session cookie with its prefix, and drops the lines with the other cookie, which another
// host of the site could plant.
func useHTTPSCookie(pc *principalCache, name string) {
	mark := "; " + name + "="
	principalsLock.Lock()
	if pc.cookiePrefix != mark {
		pc.cookiePrefix = mark
		for line := range pc.byHeaderLine { // emptied, not replaced: handlers hold this map
			delete(pc.byHeaderLine, line)
		}
		pc.bySessionCookie = map[string]*principal{}
	}
	principalsLock.Unlock()
}

// isIndexed reports whether there may be principals with that session ID, sid or sub.
func isIndexed(name string) bool {
	principalsLock.RLock()
	defer principalsLock.RUnlock()
	return recentPrincipals.byName[name] != nil || formerPrincipals.byName[name] != nil
}

// removeByName removes the principals of sessions with a session ID, sid or sub. Removing one too many is safe: the next request makes
// it again. Anybody can trigger this, so its cost grows only with the number of such sessions, and for a name that nobody has it takes no
// write lock.
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

// commonHeaders are headers that nearly every request has. They are safe from the start, unless the options make us set them.
const commonHeaders = "Accept Accept-Encoding Accept-Language Cache-Control Content-Length Content-Type Cookie Dnt If-Modified-Since If-None-Match " +
	"Origin Pragma Priority Range Referer Sec-Ch-Ua Sec-Ch-Ua-Mobile Sec-Ch-Ua-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Te " +
	"Upgrade-Insecure-Requests User-Agent X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Forwarded-Server X-Real-Ip X-Requested-With"

// newPrincipalCache makes a middleware's part of the cache, and determines the one header that carries the credential.
func newPrincipalCache(m *middleware, salt string) *principalCache {
	pc := &principalCache{salt: salt, hasLogin: m.sessions != nil, headers: m.headers, byHeaderLine: map[string]*principal{}, hosts: map[string]map[string]*principal{},
		bySessionCookie: map[string]*principal{}, safeHeaders: map[string]bool{}, endpointPaths: map[string]bool{}}
	for path := range m.site.endpoints {
		pc.endpointPaths[path] = true
		for i := 1; i < len(path); i++ { // what a StripPrefix may leave of it; not "/", or the front page would never be served from the cache
			if path[i] == '/' && i+1 < len(path) {
				pc.endpointPaths[path[i:]] = true
			}
		}
	}
	for _, name := range strings.Fields(commonHeaders) { // with only letters and hyphens, folding them just makes them lower case
		if !pc.headers.managed[strings.ToLower(name)] {
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
		pc.header = "X-Forwarded-Server" // every caller gets the same token, and Traefik sets this header on every request
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
