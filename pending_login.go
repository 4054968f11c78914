package oidc

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Sign-ins under way: each is a sealed cookie at the browser that began it, one for each tab.

const (
	stateTagLength   = 12   // hexadecimal digits at the end of a pending login's cookie name: the first characters of its state
	maxPendingLogins = 50   // that are looked at
	maxPendingBytes  = 4000 // that they may have together, with their names: ten tabs and more, and half of what some servers read
)

// pendingLogin is a sign-in under way, sealed in a cookie of the browser that began it. A tab has one, and there may be many:
// so what goes to the provider comes from one secret.
type pendingLogin struct {
	State       string   `json:"-"`
	Nonce       string   `json:"-"`
	Verifier    string   `json:"-"`
	HasVerifier bool     `json:"v,omitempty"`
	RedirectURI string   `json:"u"`
	ReturnTo    string   `json:"r"`           // the path to return to; with its origin where the callback is at another host
	CreatedAt   int64    `json:"t"`           // Unix seconds
	MaxAge      *int     `json:"m,omitempty"` // what was asked for: the answer may come to another middleware, with other options
	ACRValues   []string `json:"a,omitempty"`
	IsTruncated bool     `json:"c,omitempty"` // the page to return to was too long, and this is its beginning
	IsRetry     bool     `json:"g,omitempty"` // the provider had dropped the one before
	Attempts    int      `json:"n,omitempty"` // sign-ins right before this one that led to no session
}

// pendingLogins is all that sign-ins under way need.
type pendingLogins struct {
	config         *Config
	site           *site
	state          *clientState
	sealer         *sealer
	cookie         cookie
	attemptsCookie cookie // says that a sign-in was completed a moment ago
	inFlight       inFlight
	completed      *boundedCache // state (hashed) → *session, of the last ones
}

// newPendingLogins makes what sign-ins need that lead to these sessions.
func newPendingLogins(sm *sessionManager, middlewareName string) *pendingLogins {
	c := sm.config
	pl := &pendingLogins{config: c, site: sm.site, state: sm.state, sealer: newSealer(sealingSecrets(c), c.Issuer, c.ClientID, "state"), completed: newBoundedCache(1 << 20),
		cookie: newCookie(c.StateCookie.Name, "%s-state", middlewareName, &c.StateCookie.CookieConfig, c.Session.Partitioned)}
	pl.sealer.newKeyFrom = &sm.state.newKeyFrom
	pl.attemptsCookie = pl.cookie
	pl.attemptsCookie.path = "/" // where pages are
	return pl
}

// deriveValues makes the values of a pending login from its secret. The end of a state is the time: of one whose cookie did not come back it
// tells whether that has expired.
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

// stateAge is how many seconds ago a state was made, if it was: anybody can write one.
func stateAge(state string) int64 {
	made, _ := base64.RawURLEncoding.DecodeString(state)
	if len(made) != 32 {
		return math.MaxInt64
	}
	return time.Now().Unix() - int64(binary.BigEndian.Uint64(made[24:]))
}

// setPending gives the browser the cookie of this sign-in, and drops the oldest when they are too much: each tab has its own, and a
// browser that never comes back must not fill up the header. What is too long for a cookie loses its query, or all of its path.
func setPending(pl *pendingLogins, rw http.ResponseWriter, req *http.Request, pending *pendingLogin, secret string) {
	https := isHTTPS(pl.site, req)
	base := cookieName(&pl.cookie, https) + "."
	name := base + fmt.Sprintf("%.6x", pending.State)
	sealed := sealPending(pl, name, pending, secret)
	if len(sealed) > chunkSize {
		pending.IsTruncated = true
		pending.ReturnTo, _, _ = strings.Cut(pending.ReturnTo, "?")
		sealed = sealPending(pl, name, pending, secret)
	}
	if len(sealed) > chunkSize {
		u, _ := url.Parse(pending.ReturnTo) // a path, or an address that login made
		u.Path = "/"
		u.RawPath = ""
		pending.ReturnTo = u.String()
		sealed = sealPending(pl, name, pending, secret)
	}
	left := maxPendingBytes - len(name) - len(sealed)
	begun := pendingCookies(req, base)
	for i := len(begun) - 1; i >= 0; i-- {
		left -= len(begun[i].Name) + len(begun[i].Value) + len("=; ")
		if left < 0 {
			setCookie(rw, &pl.cookie, begun[i].Name, "", https, -1)
		}
	}
	setCookie(rw, &pl.cookie, name, sealed, https, pl.config.StateCookie.MaxAge)
}

func sealPending(pl *pendingLogins, name string, pending *pendingLogin, secret string) string {
	content, _ := json.Marshal(pending) // strings and numbers: cannot fail
	return seal(pl.sealer, name, append([]byte(secret), deflate(content)...))
}

// pendingCookies are the pending logins of a request. Browsers send the oldest first (RFC 6265 5.4).
func pendingCookies(req *http.Request, base string) []*http.Cookie {
	var found []*http.Cookie
	for _, c := range cookies(req) {
		isOne := strings.HasPrefix(c.Name, base) && len(c.Name) == len(base)+stateTagLength // not all that begins so is ours
		if isOne && len(found) < maxPendingLogins {
			found = append(found, c)
		}
	}
	return found
}

// takePending finds the pending login of state among the browser's cookies, and removes its cookie.
// An error says why the answer does not belong to a sign-in of this browser, or not any more.
func takePending(pl *pendingLogins, rw http.ResponseWriter, req *http.Request, state string) (*pendingLogin, error) {
	https := isHTTPS(pl.site, req)
	name := cookieName(&pl.cookie, https) + fmt.Sprintf(".%.6x", state)
	var pending *pendingLogin
	for _, value := range cookieValues(req, name) {
		content, _, _ := open(pl.sealer, name, value)
		pending = readPending(content)
		if pending != nil && subtle.ConstantTimeCompare([]byte(pending.State), []byte(state)) == 1 {
			setCookie(rw, &pl.cookie, name, "", https, -1)
			break
		}
		pending = nil
	}
	if pending == nil {
		// Fails closed: without the cookie it may be somebody else's answer (login CSRF, RFC 9700 4.7).
		return nil, errNoPending
	}
	if age := time.Now().Unix() - pending.CreatedAt; age > int64(pl.config.StateCookie.MaxAge) {
		return nil, fmt.Errorf("callback: the login was begun %d s ago, stateCookie.maxAge is %d", age, pl.config.StateCookie.MaxAge)
	}
	if here := absoluteURL(pl.site, &pl.site.redirect, req); here != pending.RedirectURI {
		return nil, fmt.Errorf("callback: came to %q, was sent to %q", forLog(here), pending.RedirectURI)
	}
	return pending, nil
}

// readPending reads what setPending wrote, nil when it did not.
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
