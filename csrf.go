package oidc

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
)

// csrf is a signed double-submit cookie: scripts of the same site can read it and must repeat it in a header. The value is signed for one
// session, so one that was planted or belongs to somebody else is refused (OWASP: Signed Double-Submit Cookie).
type csrf struct {
	cookie     cookie
	linePrefix string // how the cookie begins in a line; the space keeps it from matching the end of another name
	header     string
	keys       [][]byte // the first signs, all verify
}

// newCSRF makes the protection that the csrf block configures, nil without one.
func newCSRF(c *Config, middlewareName string, secrets []string) *csrf {
	if c.CSRF == nil {
		return nil
	}
	options := c.Session.CookieConfig
	options.Path = "/"
	options.HTTPOnly = false // scripts must repeat it
	if c.CSRF.Secure != nil {
		options.Secure = c.CSRF.Secure
	}
	made := newCookie(c.CSRF.CookieName, "", middlewareName, &options, c.Session.Partitioned)
	protection := &csrf{header: c.CSRF.HeaderName, cookie: made, linePrefix: " " + made.baseName + "="}
	for _, secret := range secrets {
		protection.keys = append(protection.keys, deriveKey(secret, c.Issuer+"\x00"+c.ClientID+"\x00csrf"))
	}
	return protection
}

// newCSRFToken signs a token for a session.
func newCSRFToken(key []byte, sessionID, salt string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(sessionID + "\x00" + salt))
	return salt + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// csrfToken matches one token in a cookie's value. Tokens of other middlewares on this host are kept beside ours, or each would overwrite
// the other's. Somebody who plants a cookie can take up those places, but nothing more.
var csrfToken = regexp.MustCompile(`^[\w-]{22}\.[\w-]{43}$`)

const maxCSRFTokens = 5

// issueCSRFToken gives the browser a new token for a session, and keeps the latest tokens of other sessions beside it.
func issueCSRFToken(sm *sessionManager, rw http.ResponseWriter, req *http.Request, sessionID string) {
	value := newCSRFToken(sm.csrf.keys[sealingKey(sm.sealer)], sessionID, randomText()[:22])
	beside := 1
	for _, other := range strings.Split(joinTexts(cookieValues(req, sm.csrf.cookie.baseName), "~"), "~") {
		if beside < maxCSRFTokens && csrfToken.MatchString(other) && !isCSRFToken(sm, other, sessionID) {
			value += "~" + other
			beside++
		}
	}
	maxAge := sm.config.Session.Expiry
	if !sm.config.Session.Persistent {
		maxAge = 0 // it ends with the browser
	}
	setCookie(rw, &sm.csrf.cookie, sm.csrf.cookie.baseName, value, isHTTPS(sm.site, req), maxAge)
}

// isCSRFToken reports whether one of the tokens in a cookie's value is for this session.
func isCSRFToken(sm *sessionManager, value, sessionID string) bool {
	for _, token := range splitN(value, "~", maxCSRFTokens+1) {
		salt, _, _ := cut(token, ".")
		for _, key := range sm.csrf.keys {
			if hmac.Equal([]byte(token), []byte(newCSRFToken(key, sessionID, salt))) {
				return true
			}
		}
	}
	return false
}

// csrfBinding is what a request's CSRF token must be bound to: the session, or the subject of an access token that came in a cookie, since a
// browser adds that by itself, too. It is "" for other tokens, which no browser adds, so they need no protection.
func csrfBinding(bt *bearerTokens, req *http.Request, who *principal) string {
	for _, v := range bt.all {
		if who.sessionID == "" && v.source.Cookie != "" && len(cookieValues(req, v.source.Cookie)) > 0 {
			if who.sub == "" {
				return "token " + who.credentialHash
			}
			return "token of " + who.sub // not of the token, which may be replaced meanwhile
		}
	}
	return who.sessionID
}

// checkCSRF refuses a request that may change something and does not repeat the token of its session. A browser without a valid token,
// because the option is newer than the session or another host of the site planted one, gets one with its next safe request.
func checkCSRF(sm *sessionManager, bt *bearerTokens, rw http.ResponseWriter, req *http.Request, who *principal) error {
	session := csrfBinding(bt, req, who)
	if session == "" {
		return nil
	}
	tokens := cookieValues(req, sm.csrf.cookie.baseName)
	if isSafeMethod(req.Method) {
		if !isCSRFToken(sm, joinTexts(tokens, "~"), session) && rw.Header()["Set-Cookie"] == nil {
			issueCSRFToken(sm, rw, req, session)
		}
		return nil
	}
	if sent := req.Header.Get(sm.csrf.header); contains(tokens, sent) && isCSRFToken(sm, sent, session) {
		return nil
	}
	return errorf("%w: csrf: the header %s must repeat the cookie %s of this session", errCSRF, sm.csrf.header, sm.csrf.cookie.baseName)
}

// lacksCSRFToken reports whether a request may need a new token: it has none, or the cookie must be looked at first. A page load is always
// looked at, and that does for all requests that the page will send.
func lacksCSRFToken(protection *csrf, req *http.Request) bool {
	lines := req.Header["Cookie"]
	return len(lines) != 1 || isNavigation(req) || !containsText(" "+lines[0], protection.linePrefix)
}
