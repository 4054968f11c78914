package oidc

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// Sign-ins in progress. Each is a sealed cookie in the browser that started it, one for each tab.

const (
	stateTagLength   = 12   // hexadecimal digits at the end of the cookie's name: the first characters of the state
	maxPendingLogins = 50   // per browser; further ones are ignored
	maxPendingBytes  = 4000 // for all of them, names included: enough for ten tabs and more, and half of what some servers accept as a header
)

// pendingLogin is the state of a sign-in in progress, sealed in the browser that started it. There may be one for each of many tabs. To keep
// the cookie short, state, nonce and PKCE verifier are derived from one secret.
type pendingLogin struct {
	State       string   `json:"-"`
	Nonce       string   `json:"-"`
	Verifier    string   `json:"-"`
	HasVerifier bool     `json:"v,omitempty"`
	RedirectURI string   `json:"u"`
	ReturnTo    string   `json:"r"`           // the path to return to; with its origin if the callback is on another host
	CreatedAt   int64    `json:"t"`           // Unix seconds
	MaxAge      *int     `json:"m,omitempty"` // what was requested: the response may reach another middleware, with other options
	ACRValues   []string `json:"a,omitempty"`
	IsTruncated bool     `json:"c,omitempty"` // the page to return to was too long and has been cut
	IsRetry     bool     `json:"g,omitempty"` // the provider dropped the previous attempt
	Attempts    int      `json:"n,omitempty"` // sign-ins just before this one that led to no session
}

// pendingLogins is everything that sign-ins in progress need.
type pendingLogins struct {
	site           *site
	state          *clientState
	sealer         *sealer
	cookie         cookie
	maxAge         int    // of the cookie, in seconds
	attemptsCookie cookie // tells that a sign-in was completed a moment ago
	inFlight       inFlight
	completed      *boundedCache // hashed state → *session of the last sign-ins
}

// newPendingLogins makes what the sign-ins to these sessions need.
func newPendingLogins(sm *sessionManager, middlewareName string) *pendingLogins {
	c := sm.config
	pl := &pendingLogins{maxAge: c.StateCookie.MaxAge, site: sm.site, state: sm.state, sealer: newSealer(sealingSecrets(c), c.Issuer, c.ClientID, "state"), completed: newBoundedCache(1 << 20),
		cookie: newCookie(c.StateCookie.Name, "%s-state", middlewareName, &c.StateCookie.CookieConfig, c.Session.Partitioned)}
	pl.sealer.newKeyFrom = &sm.state.newKeyFrom
	pl.attemptsCookie = pl.cookie
	pl.attemptsCookie.path = "/" // any page may be the one that loops
	return pl
}

// deriveValues derives the values of a pending login from its secret. The state ends with the time when it was made: if the cookie does not
// come back, that tells whether it had expired.
func deriveValues(pending *pendingLogin, secret string) {
	encode := base64.RawURLEncoding.EncodeToString
	state := deriveKey(secret, "state")
	binary.BigEndian.PutUint64(state[24:], uint64(pending.CreatedAt))
	pending.State = encode(state)
	pending.Nonce = encode(deriveKey(secret, "nonce"))
	if pending.HasVerifier {
		pending.Verifier = encode(deriveKey(secret, "verifier"))
	}
}

// isRecentState reports whether a state was made by us, or another replica, not too long ago. It proves nothing, as anybody can make one up.
func isRecentState(c *Config, state string) bool {
	made, _ := base64.RawURLEncoding.DecodeString(state)
	if len(made) != 32 {
		return false
	}
	age := time.Now().Unix() - int64(binary.BigEndian.Uint64(made[24:]))
	return age > -60 && age < int64(c.StateCookie.MaxAge) // a replica's clock may be ahead
}

// isAnswer reports whether a request has the state of a sign-in that is under way, in its query or in a form: it is the provider's answer.
func isAnswer(c *Config, req *http.Request) bool {
	params, _ := readParameters(req)
	return isRecentState(c, params.Get("state"))
}

// setPending sets the cookie of this sign-in, and drops the oldest ones when they become too many: each tab has its own, and abandoned
// sign-ins must not fill up the header. A page address that is too long for a cookie loses its query, and then its path.
func setPending(pl *pendingLogins, rw http.ResponseWriter, req *http.Request, pending *pendingLogin, secret string) {
	https := isHTTPS(pl.site, req)
	name := cookieName(&pl.cookie, https) + fmt.Sprintf(".%.6x", pending.State)
	sealed := sealPending(pl, name, pending, secret)
	if len(sealed) > chunkSize {
		pending.IsTruncated = true
		pending.ReturnTo, _, _ = strings.Cut(pending.ReturnTo, "?")
		sealed = sealPending(pl, name, pending, secret)
	}
	if len(sealed) > chunkSize {
		pending.ReturnTo = siteRoot.FindString(pending.ReturnTo) // not parsed: visitors write it, and not all of it is a URL
		sealed = sealPending(pl, name, pending, secret)
	}
	left := maxPendingBytes - len(name) - len(sealed)
	begun := pendingCookies(pl, req)
	for i := len(begun) - 1; i >= 0; i-- {
		left -= len(begun[i].Name) + len(begun[i].Value) + 3 // with "=" and "; "
		if left < 0 {
			setCookie(rw, &pl.cookie, begun[i].Name, "", https, removed)
		}
	}
	setCookie(rw, &pl.cookie, name, sealed, https, pl.maxAge)
}

// siteRoot matches the beginning of a page's address, a path or an absolute URL, up to the first slash of its path.
var siteRoot = regexp.MustCompile(`^(https?://[^/]*)?/`)

func sealPending(pl *pendingLogins, name string, pending *pendingLogin, secret string) string {
	content, _ := json.Marshal(pending) // strings and numbers: cannot fail
	return seal(pl.sealer, name, append([]byte(secret), deflate(content)...))
}

// pendingCookies returns the pending logins in a request. Browsers send the oldest first (RFC 6265 5.4).
func pendingCookies(pl *pendingLogins, req *http.Request) []*http.Cookie {
	var found []*http.Cookie
	base := cookieName(&pl.cookie, isHTTPS(pl.site, req)) + "."
	for _, c := range cookies(req) {
		if strings.HasPrefix(c.Name, base) && len(c.Name) == len(base)+stateTagLength && len(found) < maxPendingLogins { // not every cookie with that prefix is ours
			found = append(found, c)
		}
	}
	return found
}

// takePending finds the pending login of a state among the browser's cookies, and removes its cookie.
// An error says why the response does not, or no longer, belong to a sign-in of this browser.
func takePending(pl *pendingLogins, rw http.ResponseWriter, req *http.Request, state string) (*pendingLogin, error) {
	https := isHTTPS(pl.site, req)
	name := cookieName(&pl.cookie, https) + fmt.Sprintf(".%.6x", state)
	var pending *pendingLogin
	for _, value := range cookieValues(req, name) {
		content, _, _ := open(pl.sealer, name, value)
		if found := readPending(content); found != nil && subtle.ConstantTimeCompare([]byte(found.State), []byte(state)) == 1 {
			pending = found
		}
	}
	if pending == nil {
		// Fails closed: without the cookie it may be the response to somebody else's request (login CSRF, RFC 9700 4.7).
		return nil, errNoPending
	}
	setCookie(rw, &pl.cookie, name, "", https, removed)
	if age := time.Now().Unix() - pending.CreatedAt; age > int64(pl.maxAge) {
		return nil, errorf("callback: the login was begun %d s ago, stateCookie.maxAge is %d", age, pl.maxAge)
	}
	if here := absoluteURL(pl.site, &pl.site.redirect, req); here != pending.RedirectURI {
		return nil, errorf("callback: came to %q, was sent to %q", forLog(here), pending.RedirectURI)
	}
	return pending, nil
}

// findPendingCookie returns the name of the cookie that came for a state, and what it should be; both are "" if none came. The names differ
// if another middleware began the sign-in, or if only one of the two requests came by https.
func findPendingCookie(pl *pendingLogins, req *http.Request, state string) (came, own string) {
	own = cookieName(&pl.cookie, isHTTPS(pl.site, req)) + fmt.Sprintf(".%.6x", state)
	other := ""
	for _, c := range cookies(req) {
		if c.Name == own {
			return own, own
		}
		if strings.HasSuffix(c.Name, fmt.Sprintf(".%.6x", state)) {
			other = c.Name
		}
	}
	if other == "" {
		return "", ""
	}
	return other, own
}

// readPending reads what setPending wrote. It returns nil for anything else.
func readPending(content []byte) *pendingLogin {
	if len(content) < 32 {
		return nil
	}
	pending := &pendingLogin{}
	text, err := inflate(content[32:])
	if err != nil || json.Unmarshal(text, pending) != nil {
		return nil
	}
	deriveValues(pending, string(content[:32]))
	return pending
}
