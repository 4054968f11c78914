package oidc

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
)

// csrf is the signed double submit: a cookie that scripts of the same site can read and must repeat in a header. The value is
// signed for one session, so one that was planted or belongs to somebody else is refused (OWASP: signed double-submit cookie).
type csrf struct {
	cookie cookie
	mark   string // how the cookie begins in a line: not at the end of another name
	header string
	keys   [][]byte // the first signs, all verify
}

// newCSRFToken signs a token for a session.
func newCSRFToken(key []byte, sessionID, salt string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(sessionID + "\x00" + salt))
	return salt + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// issueCSRFToken gives the browser a new token for a session.
func issueCSRFToken(g *gate, rw http.ResponseWriter, sessionID string, https bool) {
	token := newCSRFToken(g.csrf.keys[0], sessionID, randomText()[:22])
	maxAge := g.config.Session.Expiry
	if !g.config.Session.Persistent {
		maxAge = 0 // with the browser
	}
	setCookie(rw, &g.csrf.cookie, cookieName(&g.csrf.cookie, https), token, https, maxAge)
}

// checkCSRF refuses a request of a session that changes something and does not repeat its token. Who has no token yet, because
// the option is newer than the session, gets one with a request that changes nothing. Tokens of APIs need none:
// no browser adds them by itself.
func checkCSRF(g *gate, rw http.ResponseWriter, req *http.Request, who *pass) error {
	if who.session == "" {
		return nil
	}
	https := isHTTPS(g, req)
	tokens := cookieValues(req, cookieName(&g.csrf.cookie, https))
	if isSafe(req.Method) {
		if len(tokens) == 0 && rw.Header()["Set-Cookie"] == nil {
			issueCSRFToken(g, rw, who.session, https)
		}
		return nil
	}
	sent := req.Header.Get(g.csrf.header)
	salt, _, _ := strings.Cut(sent, ".")
	for _, key := range g.csrf.keys {
		if hmac.Equal([]byte(sent), []byte(newCSRFToken(key, who.session, salt))) && has(tokens, sent) {
			return nil
		}
	}
	return fmt.Errorf("%w: csrf: the header %s must repeat the cookie %s of this session", errForged, g.csrf.header, g.csrf.cookie.base)
}

// lacksCSRFToken says that a request brings no token, or one that has to be looked for: then it may need a new one.
func lacksCSRFToken(g *gate, req *http.Request) bool {
	lines := req.Header["Cookie"]
	return len(lines) != 1 || !strings.Contains(" "+lines[0], g.csrf.mark)
}

// isSafe says that a method changes nothing (RFC 9110 9.2.1).
func isSafe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions || method == http.MethodTrace
}
