package oidc

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
)

// csrf is the signed double submit: a cookie that scripts of the same site can read and must repeat in a header. The value is
// signed for one session, so one that was planted or belongs to somebody else is refused (OWASP: signed double-submit cookie).
type csrf struct {
	cookie cookie
	header string
	keys   [][]byte // the first signs, all verify
}

// issueCSRFToken gives the browser a new token for a session.
func issueCSRFToken(g *gate, rw http.ResponseWriter, sessionID string, https bool) {
	salt := randomText()[:22]
	token := salt + "." + signCSRF(g.csrf.keys[0], sessionID, salt)
	setCookie(rw, &g.csrf.cookie, cookieName(&g.csrf.cookie, https), token, https, g.config.Session.Expiry)
}

func signCSRF(key []byte, sessionID, salt string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(sessionID + "\x00" + salt))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// checkCSRF refuses a request of a session that changes something and does not repeat its token. Who has no token yet, because
// the option is newer than the session, gets one with a request that changes nothing. Tokens of APIs need none:
// no browser adds them by itself.
func checkCSRF(g *gate, rw http.ResponseWriter, req *http.Request, who *pass) error {
	if g.csrf == nil || who.session == "" {
		return nil
	}
	tokens := cookieValues(req, cookieName(&g.csrf.cookie, isHTTPS(req)))
	if isSafe(req.Method) {
		if len(tokens) == 0 && rw.Header()["Set-Cookie"] == nil {
			issueCSRFToken(g, rw, who.session, isHTTPS(req))
		}
		return nil
	}
	sent := req.Header.Get(g.csrf.header)
	for _, kept := range tokens {
		if subtle.ConstantTimeCompare([]byte(sent), []byte(kept)) == 1 && isCSRFToken(g.csrf, who.session, sent) {
			return nil
		}
	}
	return fmt.Errorf("%w: csrf: the header %s must repeat the cookie %s of this session", errForged, g.csrf.header, g.csrf.cookie.base)
}

func isCSRFToken(c *csrf, sessionID, token string) bool {
	salt, signature, _ := strings.Cut(token, ".")
	for _, key := range c.keys {
		if hmac.Equal([]byte(signature), []byte(signCSRF(key, sessionID, salt))) {
			return true
		}
	}
	return false
}

// isSafe says that a method changes nothing (RFC 9110 9.2.1).
func isSafe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions || method == http.MethodTrace
}
