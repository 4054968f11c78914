package oidc

import (
	"net/http"
	"time"
)

// Sessions in the browser: the session cookie holds everything, sealed. The ticket of a session in Redis is in the same cookie.

// saveInCookie seals a session into the session cookie, as used now. It returns the session of the old cookie, which requests that are
// already on their way still bring: it has been replaced, and so ends in a moment.
func saveInCookie(sm *sessionManager, rw http.ResponseWriter, req *http.Request, s *session, now time.Time) (*session, error) {
	renewed := *s // a copy: sessions are shared between requests and never changed
	renewed.Renewed = now.Unix()
	renewed.Decision = decide(sm, &renewed, now)
	content, err := packSession(&renewed)
	if renewed.Decision != nil && len(content) > maxChunks*chunkSize/2 { // the tokens may need all the room there is
		renewed.Decision = nil
		content, err = packSession(&renewed)
	}
	if err == nil {
		err = setSessionCookie(sm, rw, req, &renewed, content, now)
	}
	renewed.End = now.Add(replacedCookieGrace).Unix()
	return &renewed, err
}

// setSessionCookie seals content, the session or its ticket, into the session cookie.
func setSessionCookie(sm *sessionManager, rw http.ResponseWriter, req *http.Request, s *session, content []byte, now time.Time) error {
	if cacheGet(sm.state.revoked, "replaced:"+s.ID) != nil {
		return nil // the browser has a newer one
	}
	https := isHTTPS(sm.site, req)
	name := cookieName(&sm.cookie, https)
	sealed := seal(sm.sealer, name, content)
	maxAge := int(sessionEnd(sm, s) - now.Unix())
	if !sm.config.Session.Persistent {
		maxAge = 0 // it ends with the browser
	}
	if !setChunked(rw, req, &sm.cookie, name, sealed, https, maxAge) {
		return errorf("session: the tokens need %d bytes of cookies, more than a browser can be asked to keep in %d; use the Redis store (session.store.redis)", len(sealed), maxChunks)
	}
	if sm.csrf != nil {
		issueCSRFToken(sm, rw, req, s.ID)
	}
	logf(sm.log, levelDebug, "session %s: sealed in %d bytes", s.ID, len(sealed))
	return nil
}

// clearCookies removes the session's cookies from the browser.
func clearCookies(sm *sessionManager, rw http.ResponseWriter, req *http.Request) {
	https := isHTTPS(sm.site, req)
	setChunked(rw, req, &sm.cookie, cookieName(&sm.cookie, https), "", https, removed)
	if sm.csrf != nil {
		setCookie(rw, &sm.csrf.cookie, sm.csrf.cookie.baseName, "", https, removed)
	}
}
