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
// the recent half. Lines are kept whole, and are many times longer than a hash, so there is room for those of some thousand people only.
// When it is full, lines are not evicted one by one: with more people than fit, each would push out another's just before it comes
// again. The other principals are settled instead, which means that they are found by their hash at once. All lines are dropped, and
// collected anew, when a principal finds no room and they are lineLifetime old.

const (
	maxLinesPerPrincipal = 4 // more are not worth keeping: the cookies must change with every request
	maxLineLength        = 16 << 10
	lineLifetime         = 10 * time.Minute
	principalCost        = 700 // bytes of a principal and its map entries, without its strings
	upstreamHeaderCost   = 120 // bytes of a header for the upstream
	stringCost           = 16  // bytes of one of its values, without the text
	lineCost             = 600 // bytes of a header line, without its text
	safeHeaderCost       = 50  // bytes of a name in a set of them
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

	recentPrincipals, formerPrincipals *principalHalf

	linesByKey        = map[[sha256.Size]byte][]cachedLine{} // by the key of their principal
	lineBytes         int
	linesSince        time.Time
	settledPrincipals map[[sha256.Size]byte]*principal // those whose further lines are not kept

	// What each request calls: a package variable spares it the selector (an allocation).
	lockForReading, unlockForReading = principalsLock.RLock, principalsLock.RUnlock
	lockForWriting, unlockForWriting = principalsLock.Lock, principalsLock.Unlock
	timeUntil, cut, trim, hash       = time.Until, strings.Cut, strings.Trim, sha256.Sum256

	expiredPrincipal = &principal{} // returned instead of nil when none was found: validUntil is zero
)

func init() {
	rotateHalves()
	rotateHalves()
}

// principalHalf is one half of the cache.
type principalHalf struct {
	byKey  map[[sha256.Size]byte]*principal
	byName map[string]map[string][][sha256.Size]byte // keys of sessions by "id", "sid" or "sub", and its value; some may be gone
	bytes  int
}

// cachedLine is a cached header line, and the map that holds it.
type cachedLine struct {
	in   map[string]*principal
	line string
	size int // bytes
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
	cacheKey        [sha256.Size]byte
	credentialHash  string // a CSRF token is bound to it if there is no sub
	clientState     *clientState
	safeHeaders     map[string]bool
	hasCookiePrefix bool
	size            int // bytes

	// With a store: the command that reads the beginning of the session's entry, and the reply that proves it unchanged.
	validation         *redisCall
	validator          string
	revalidatableUntil time.Time
}

// principalCache is one middleware's part of the cache. principalsLock guards what changes in it.
type principalCache struct {
	salt              string // salts its keys: what one middleware allows, another may not
	hasLogin          bool
	headers           *headerNames
	state             *clientState  // nil without sign-in
	localCopyLifetime time.Duration // how long a session is used without asking the store: another replica may have ended it
	header            string        // the header that carries the credential; "" if several places can
	isReplaced        bool          // the upstream gets another value in that header, or none
	cookieNameStem    string        // the common beginning of all our cookies' names
	endpointPaths     map[string]bool
	byHeaderLine      map[string]*principal            // never replaced: handlers hold it
	hosts             map[string]map[string]*principal // byHeaderLine for each host that requests came to; never replaced either

	cookiePrefix       string          // how the session cookie begins when it follows another cookie
	keyPrefix          string          // what precedes a session cookie's value, or a token's header line, to be hashed
	safeHeaders        map[string]bool // copied on write
	initialSafeHeaders map[string]bool
	relearnedAt        time.Time // when safeHeaders were last reset
}

// upstreamHeader is a linked list of headers for the upstream. Lists share tails, so a request can put its own headers in front.
type upstreamHeader struct {
	name   string
	values []string
	next   *upstreamHeader
}

// findUncached finds the principal of a header line that is not cached.
func findUncached(h *handler, req *http.Request) *principal {
	if h.hasLogin {
		return findBySessionCookie(h, req)
	}
	return findByToken(h, req)
}

// findBySessionCookie finds the principal of a cookie line that is not cached, by the session cookie in it. The upstream gets the other
// cookies of that line.
func findBySessionCookie(h *handler, req *http.Request) (p *principal) {
	pc := h.cache
	var rest []string
	lockForReading()
	before, found, _ := cut("; "+req.Header["Cookie"][0], pc.cookiePrefix)
	value, after, _ := cut(found, "; ")
	p = settledPrincipals[hash([]byte(pc.keyPrefix+value))]
	if pc.hosts[req.Host] == nil {
		p = nil
	}
	unlockForReading()
	if others := trim(before+"; "+after, "; "); others != "" {
		if containsText(others, pc.cookieNameStem) {
			return expiredPrincipal
		}
		rest = []string{others}
	}
	if p == nil {
		return findUnsettled(pc, req, value, rest)
	}
	among := *p
	among.headers = &upstreamHeader{"Cookie", rest, p.headers}
	return &among
}

// findByToken finds the principal of a header line that is not cached and holds nothing but the credential.
func findByToken(h *handler, req *http.Request) (p *principal) {
	line := req.Header[h.credentialHeader][0]
	lockForReading()
	p = settledPrincipals[hash([]byte(h.cache.keyPrefix+line))]
	if h.hosts[req.Host] == nil {
		p = nil
	}
	unlockForReading()
	if p == nil {
		return findUnsettled(h.cache, req, line, nil)
	}
	return p
}

// findUnsettled finds a principal that may not have all its lines yet. It takes no write lock for a credential that is not cached.
func findUnsettled(pc *principalCache, req *http.Request, value string, rest []string) *principal {
	lockForReading()
	key := hash([]byte(pc.keyPrefix + value))
	isKnown := recentPrincipals.byKey[key] != nil || formerPrincipals.byKey[key] != nil
	unlockForReading()
	if !isKnown {
		return expiredPrincipal
	}
	return findForLine(pc, req, key, rest)
}

// findForLine finds a principal, and caches the request's line, or settles the principal if there is no room for more lines.
func findForLine(pc *principalCache, req *http.Request, key [sha256.Size]byte, rest []string) *principal {
	principalsLock.Lock()
	defer principalsLock.Unlock()
	p := promotePrincipal(pc, key)
	if p == nil || p.safeHeaders == nil || pc.hosts[req.Host] == nil {
		return expiredPrincipal // just signed out, or never passed through forward
	}
	made := withHeaderLine(pc, p, rest)
	if !cacheLine(pc.byHeaderLine, req.Header[pc.header][0], rest, made) {
		settledPrincipals[key] = p
	}
	return made
}

// withHeaderLine returns the principal as it applies to a header line, of which rest is for the upstream.
func withHeaderLine(pc *principalCache, p *principal, rest []string) *principal {
	if !pc.hasLogin { // then the line is a token, and what becomes of it is among the principal's headers
		return p
	}
	made := *p
	made.headers = &upstreamHeader{"Cookie", rest, p.headers}
	return &made
}

// findPrincipal returns the cached principal of a credential, or nil. One in the former half moves to the recent half.
func findPrincipal(pc *principalCache, credential string) (p *principal) {
	key := hash([]byte(pc.salt + credential))
	lockForReading()
	p = recentPrincipals.byKey[key]
	isFormer := formerPrincipals.byKey[key] != nil
	unlockForReading()
	if isFormer {
		lockForWriting()
		p = promotePrincipal(pc, key)
		unlockForWriting()
	}
	if p == nil || timeUntil(p.validUntil) > 0 {
		return p
	}
	return nil
}

// promotePrincipal returns the principal of a key, after moving it from the former half to the recent half, with the latest safe headers. The
// caller holds the lock.
func promotePrincipal(pc *principalCache, key [sha256.Size]byte) *principal {
	if p := formerPrincipals.byKey[key]; p != nil {
		promoted := *p
		if p.safeHeaders != nil {
			promoted.safeHeaders = pc.safeHeaders
		}
		insertPrincipal(&promoted)
	}
	return recentPrincipals.byKey[key]
}

// cachePrincipal caches a principal by its credential.
func cachePrincipal(pc *principalCache, p *principal, credential string) {
	p.cacheKey = hash([]byte(pc.salt + credential))
	p.clientState = pc.state
	lockForWriting()
	if pc.hasLogin {
		p.hasCookiePrefix = hasPrefix("; "+credential, pc.cookiePrefix)
	} else if pc.header != "" && (pc.isReplaced || p.tokenHeader == pc.header) {
		p.headers = &upstreamHeader{pc.header, nil, p.headers}
	}
	insertPrincipal(p)
	unlockForWriting()
}

// insertPrincipal stores a principal in place of one with the same key. The caller holds the lock.
func insertPrincipal(p *principal) {
	before := recentPrincipals.byKey[p.cacheKey]
	removePrincipal(p.cacheKey)
	if p.size > principalsCapacity/32 { // judged anew each time, or a few of these would evict everybody
		return
	}
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
	for kind, name := range namesOf(p) {
		if name != "" {
			named := recentPrincipals.byName[kind]
			named[name] = append(named[name], p.cacheKey)
		}
	}
}

// namesOf are the names of a session's principal, by kind.
func namesOf(p *principal) map[string]string {
	return map[string]string{"id": p.sessionID, "sid": p.sid, "sub": p.sub}
}

// unindexPrincipal removes a principal from an index, or the index would grow with each sign-in that is followed by a sign-out. The caller
// holds the lock.
func unindexPrincipal(half *principalHalf, p *principal) {
	for kind, name := range namesOf(p) {
		var others [][sha256.Size]byte
		for _, key := range half.byName[kind][name] {
			if key != p.cacheKey {
				others = append(others, key)
			}
		}
		setIndexed(half, kind, name, others)
	}
}

// setIndexed sets the keys of a name. The caller holds the lock.
func setIndexed(half *principalHalf, kind, name string, keys [][sha256.Size]byte) {
	delete(half.byName[kind], name)
	if keys != nil {
		half.byName[kind][name] = keys
	}
}

// rotateHalves makes the recent half the former one. All lines are dropped, as the next rotation may drop their principals.
func rotateHalves() {
	dropLines()
	formerPrincipals = recentPrincipals
	recentPrincipals = &principalHalf{byKey: map[[sha256.Size]byte]*principal{}, byName: map[string]map[string][][sha256.Size]byte{}}
	for _, kind := range []string{"id", "sid", "sub"} {
		recentPrincipals.byName[kind] = map[string][][sha256.Size]byte{}
	}
}

// resizePrincipals sets the size of the cache to what the middlewares that are left ask for. Those of others are forgotten, like all that are
// not in use.
func resizePrincipals(capacity int) {
	principalsLock.Lock()
	principalsCapacity = capacity
	if time.Since(linesSince) > lineLifetime { // or people would be forgotten all the time when the options change often
		rotateHalves()
	}
	principalsLock.Unlock()
}

// dropLines removes all lines. The caller holds the lock.
func dropLines() {
	for key := range linesByKey {
		removeLines(key)
	}
	settledPrincipals = map[[sha256.Size]byte]*principal{}
	linesSince = time.Now()
}

// removePrincipal removes a key's principal and its lines. The caller holds the lock.
func removePrincipal(key [sha256.Size]byte) {
	removeLines(key)
	for _, half := range []*principalHalf{recentPrincipals, formerPrincipals} {
		if p := half.byKey[key]; p != nil {
			half.bytes -= p.size
			delete(half.byKey, key)
		}
	}
}

// removeLines removes the lines of a key's principal, which is no longer settled then. The caller holds the lock.
func removeLines(key [sha256.Size]byte) {
	for _, l := range linesByKey[key] {
		delete(l.in, l.line)
		lineBytes -= l.size
	}
	delete(linesByKey, key)
	delete(settledPrincipals, key)
}

// cacheLine caches a principal by a header line, of which rest is for the upstream. It returns false if there is no room. The caller holds the
// lock.
func cacheLine(lines map[string]*principal, line string, rest []string, made *principal) bool {
	before := lines[line]
	if before != nil && before.cacheKey == made.cacheKey { // another principal's line must be listed anew, or that one's removal would remove it
		lines[line] = made
		return true
	}
	known := linesByKey[made.cacheKey]
	size := lineCost + len(line) + len(strings.Join(rest, ""))
	if lineBytes+size > principalsCapacity/4 && time.Since(linesSince) > lineLifetime {
		dropLines()
	}
	if len(known) >= maxLinesPerPrincipal || len(line) > maxLineLength || lineBytes+size > principalsCapacity/4 {
		return false
	}
	lines[line] = made
	linesByKey[made.cacheKey] = append(known, cachedLine{lines, line, size})
	lineBytes += size
	return true
}

// cacheAdmitted records which headers are safe beside a principal that serve let in, and caches the line that carried its credential. A
// token's line is cached only when it comes a second time, since most do not.
func cacheAdmitted(pc *principalCache, who *principal, req *http.Request, line []string, safe map[string]bool) {
	whole := *who
	whole.safeHeaders = safe
	lockForWriting()
	isThere := recentPrincipals.byKey[who.cacheKey] == who // otherwise it has just been signed out
	if isThere {
		recentPrincipals.byKey[who.cacheKey] = &whole
	}
	if pc.hosts[req.Host] == nil {
		cacheHost(pc, req.Host)
	}
	unlockForWriting()
	if isThere && (pc.hasLogin || who.safeHeaders != nil) {
		cacheAdmittedLine(pc, &whole, line, req.Header[pc.header])
	}
}

// cacheAdmittedLine caches the line by which serve let a principal in, unless it spells a token differently from the cache key, or carries
// the session in a cookie of another name than cookiePrefix.
func cacheAdmittedLine(pc *principalCache, who *principal, line, rest []string) {
	if len(line) != 1 {
		return
	}
	isKey := who.hasCookiePrefix || !pc.hasLogin && (len(pc.headers.credentials) == 0 || hash([]byte(pc.keyPrefix+line[0])) == who.cacheKey)
	lockForWriting()
	removeLines(who.cacheKey) // their safe headers are out of date
	if isKey && recentPrincipals.byKey[who.cacheKey] == who {
		cacheLine(pc.byHeaderLine, line[0], rest, withHeaderLine(pc, who, rest))
	}
	unlockForWriting()
}

// cacheHost records a valid host. The caller holds the lock.
func cacheHost(pc *principalCache, host string) {
	for known := range pc.hosts {
		if len(pc.hosts) >= maxHosts {
			delete(pc.hosts, known)
		}
	}
	pc.hosts[strings.Clone(host)] = pc.byHeaderLine // it may be a part of the whole address that was requested (RFC 9112 3.2.2)
}

// checkSafeHeaders returns the header names that no backend can take for one of ours, and whether the request has only such headers: the
// library skips the known names, and fails to write any other.
func checkSafeHeaders(pc *principalCache, header http.Header) (known map[string]bool, isAll bool) {
	lockForReading()
	known = pc.safeHeaders
	unlockForReading()
	return known, header.WriteSubset(failingWriter, known) == nil
}

// neverSafe are headers whose values must be checked each time.
var neverSafe = map[string]bool{"Connection": true, "Trailer": true, "Upgrade": true}

// addSafeHeaders returns the safe names, after it has added those of a request that was stripped already, except those whose values matter.
func addSafeHeaders(pc *principalCache, header http.Header) map[string]bool {
	known, isAll := checkSafeHeaders(pc, header)
	if isAll {
		return known
	}
	learnt := map[string]bool{} // a new map: requests are reading the old one
	for name := range header {
		if !known[name] && !pc.headers.credentials[name] && !neverSafe[name] && len(name) <= maxSafeHeaderLength {
			learnt[name] = true
		}
	}
	principalsLock.Lock()
	defer principalsLock.Unlock()
	// Without a reset, one client that makes up names could fill the set for good.
	if len(known)+len(learnt) > maxSafeHeaders && time.Since(pc.relearnedAt) > relearnInterval {
		pc.relearnedAt = time.Now()
		known = pc.initialSafeHeaders
	}
	if len(learnt) == 0 || len(known)+len(learnt) > maxSafeHeaders {
		return known
	}
	for name := range known {
		learnt[name] = true
	}
	pc.safeHeaders = learnt
	recentPrincipals.bytes += safeHeaderCost * len(learnt) // whoever comes now may keep this set for as long as they are in this half
	return learnt
}

// useHTTPSCookie makes ServeHTTP look for the session cookie with its prefix, and drops the lines with the other cookie, which another
// host of the site could plant.
func useHTTPSCookie(pc *principalCache, name string) {
	principalsLock.Lock()
	if mark := "; " + name + "="; pc.cookiePrefix != mark {
		expectCookie(pc, mark)
		for line := range pc.byHeaderLine { // emptied, not replaced: handlers hold this map
			delete(pc.byHeaderLine, line)
		}
	}
	principalsLock.Unlock()
}

// expectCookie sets how the session cookie begins when it follows another cookie. The caller holds the lock.
func expectCookie(pc *principalCache, mark string) {
	pc.cookiePrefix = mark
	pc.keyPrefix = pc.salt + mark[len("; "):]
}

// removeByName removes the principals of the sessions of a name: an "id", a "sid" or a "sub". Removing one too many is safe: the next request
// makes it again. Anybody can trigger this, so its cost grows only with the number of such sessions, and for a name that nobody has it takes
// no write lock.
func removeByName(of *clientState, kind, name string) {
	principalsLock.RLock()
	isUnknown := recentPrincipals.byName[kind][name] == nil && formerPrincipals.byName[kind][name] == nil
	principalsLock.RUnlock()
	if isUnknown {
		return
	}
	principalsLock.Lock()
	defer principalsLock.Unlock()
	for _, half := range []*principalHalf{recentPrincipals, formerPrincipals} {
		keys := half.byName[kind][name]
		delete(half.byName[kind], name) // first, so that it need not be gone through for each of them
		var others [][sha256.Size]byte
		for _, key := range keys {
			if p := half.byKey[key]; p != nil && p.clientState == of {
				removePrincipal(key)
				unindexPrincipal(half, p)
			} else if p != nil {
				others = append(others, key)
			}
		}
		setIndexed(half, kind, name, others)
	}
}

// commonHeaders are headers that nearly every request has. They are safe from the start, unless the options make us set them.
const commonHeaders = "Accept Accept-Encoding Accept-Language Cache-Control Content-Length Content-Type Cookie Dnt If-Modified-Since If-None-Match " +
	"Origin Pragma Priority Range Referer Sec-Ch-Ua Sec-Ch-Ua-Mobile Sec-Ch-Ua-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Te " +
	"Upgrade-Insecure-Requests User-Agent X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Forwarded-Server X-Real-Ip X-Requested-With"

// newPrincipalCache makes a middleware's part of the cache, and determines the one header that carries the credential.
func newPrincipalCache(m *middleware) *principalCache {
	pc := &principalCache{salt: randomText(), hasLogin: m.sessions != nil, headers: m.headers, byHeaderLine: map[string]*principal{}, hosts: map[string]map[string]*principal{},
		safeHeaders: map[string]bool{}, endpointPaths: map[string]bool{}}
	for path := range m.site.endpoints {
		pc.endpointPaths[path] = true
		for i := range []byte(path) { // what a StripPrefix may leave of it; not "/", or the front page would never be served from the cache
			if path[i] == '/' && path[i:] != "/" {
				pc.endpointPaths[path[i:]] = true
			}
		}
	}
	for _, name := range strings.Fields(commonHeaders) {
		pc.safeHeaders[name] = true
	}
	for name := range pc.headers.managed { // folded names; folding the common ones just makes them lower case
		delete(pc.safeHeaders, http.CanonicalHeaderKey(name))
	}
	if pc.hasLogin {
		pc.state = m.sessions.state
		session := &m.sessions.cookie
		pc.localCopyLifetime = time.Duration(m.config.Session.Store.CacheSeconds) * time.Second
		pc.header = "Cookie"
		expectCookie(pc, "; "+cookieName(session, false)+"=")
		state := m.logins.cookie.baseName
		for i := 1; i <= len(state) && strings.HasPrefix(session.baseName, state[:i]); i++ {
			pc.cookieNameStem = state[:i]
		}
	} else {
		pc.header = "X-Forwarded-Server" // if every caller gets the same token; Traefik sets this header on every request
		for name := range pc.headers.credentials {
			pc.header = name
			pc.safeHeaders[name] = true
		}
		pc.keyPrefix = pc.salt + pc.header + ": "
		pc.isReplaced = contains(pc.headers.overwritten, pc.header)
	}
	isHidden := len(pc.headers.credentials) > 1
	for _, job := range m.tokens.all {
		isHidden = isHidden || job.looksBeyondHeaders || job.isTemplated
	}
	if isHidden {
		pc.header = ""
	}
	pc.initialSafeHeaders = pc.safeHeaders
	principalsLock.Lock()
	if m.config.Memory<<20 > principalsCapacity {
		principalsCapacity = m.config.Memory << 20
	}
	principalsLock.Unlock()
	return pc
}
