package oidc

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Redirect loops are stopped here. A browser that does not keep the session cookie signs in, comes back without it, is sent to sign in
// again, and so on. Providers remember their users, so nobody even has to type. The state cookie does come back, or the sign-in would end at
// the callback. So a similar cookie records for a moment that a sign-in was completed, and how many there were in a row. After a few, the
// browser gets a page that says what is probably wrong.

const (
	maxAttempts      = 2
	attemptsLifetime = 20 // seconds after a sign-in in which the browser should come back with the session
)

// countAttempt tells this browser's next request that it has just signed in, and how large the cookies were.
func countAttempt(pl *pendingLogins, rw http.ResponseWriter, req *http.Request, rounds int) {
	size := len(strings.Join(rw.Header()["Set-Cookie"], ""))
	setAttempts(pl, rw, req, fmt.Sprint(rounds, ".", size), attemptsLifetime)
}

// setAttempts sets the cookie of countAttempt. A negative maxAge removes it.
func setAttempts(pl *pendingLogins, rw http.ResponseWriter, req *http.Request, value string, maxAge int) {
	https := isHTTPS(pl.site, req)
	setCookie(rw, &pl.attemptsCookie, cookieName(&pl.attemptsCookie, https), value, https, maxAge)
}

// loginAttempts reads what countAttempt wrote. Anybody can forge this cookie, but it only stops the browser's own next sign-in, and only once.
func loginAttempts(pl *pendingLogins, req *http.Request) (rounds, size int) {
	rounds, size = 0, 0
	for _, value := range cookieValues(req, cookieName(&pl.attemptsCookie, isHTTPS(pl.site, req))) {
		count, bytes, _ := strings.Cut(value, ".")
		rounds, _ = strconv.Atoi(count)
		size, _ = strconv.Atoi(bytes)
	}
	for _, c := range pendingCookies(pl, req) {
		content, _, _ := open(pl.sealer, c.Name, c.Value)
		pending := readPending(content)
		if pending != nil && pending.Attempts >= rounds && cacheGet(pl.state.usedStates, hashText(pending.State)) != nil {
			rounds = pending.Attempts + 1 // that sign-in was completed, but the browser kept no cookie of the response
		}
	}
	return rounds, size
}

// stopLoop answers a browser that came back from its last sign-ins without a session. If it has one after all, it returns false.
func stopLoop(m *middleware, rw http.ResponseWriter, req *http.Request, returnTo string, rounds, size int) bool {
	_, reason := authenticateSession(m, rw, req)
	if !errors.Is(reason, errNoCredentials) {
		return false
	}
	setAttempts(m.logins, rw, req, "", removed) // the next try starts counting from zero
	for _, c := range pendingCookies(m.logins, req) {
		setCookie(rw, &m.logins.cookie, c.Name, "", isHTTPS(m.site, req), removed)
	}
	why := cookieLossCauses(m.sessions, &m.sessions.cookie, req, size)
	if trouble, hasCome := strings.CutPrefix(reason.Error(), errNoCredentials.Error()+": "); hasCome {
		why = "the cookie came, and could not be used: " + trouble
	}
	refuseLostCookie(m, rw, req, errorf("login: stopped: %d sign-ins one after the other, and after each the browser came back without a session", rounds), why, returnTo)
	return true
}

// refuseLostCookie answers a browser that did not keep one of our cookies.
func refuseLostCookie(m *middleware, rw http.ResponseWriter, req *http.Request, reason error, why, back string) {
	res := newResponse("400 cookie", action{text: "Try again", href: back})
	res.detail = "Probably " + why + ". " + res.detail
	res.isForOperator = true
	refuseWith(m, rw, req, res, errorf("%w; probably %s", reason, why))
}

// cookieLossCauses says why the browser may not have sent one of our cookies, as far as a request can tell.
func cookieLossCauses(sm *sessionManager, c *cookie, req *http.Request, size int) string {
	proto := req.Header.Get("X-Forwarded-Proto")
	isPlain := proto != "" && !secureScheme.MatchString(proto)
	var found []string
	for _, cause := range []struct {
		is   bool
		text string
	}{
		{contains(strings.Fields("iframe frame embed object"), req.Header.Get("Sec-Fetch-Dest")),
			"the page is in a frame of another site, where browsers keep cookies only if they are made for it (session.partitioned)"},
		{c.sameSite == http.SameSiteStrictMode && isCrossSite(req), "the cookie is sameSite strict, and browsers keep that back when another site leads here, as the provider does"},
		{isSecureCookie(c, isHTTPS(sm.site, req)) && (isPlain || size == 0 && (c.secure != nil || sm.cookie.secure != nil || sm.site.redirect.scheme == "https")), "the cookie is for https alone (secure), and the page came by http"},
		{c.domain != "" && !domainMatches(req.Host, c.domain), fmt.Sprintf("the cookie is for the domain %q, and %q is not in it", c.domain, forLog(req.Host))},
		{!strings.HasPrefix(externalPath(req, req.URL.Path)+"/", strings.TrimSuffix(c.path, "/")+"/"), fmt.Sprintf("the cookie is for the path %q, and the page is not below it", c.path)},
		{sm.site.redirect.host != "" && size == 0, "the sign-in began at another host than it came back to (redirectUrl), and no session.domain covers both"},
		{req.Header["Cookie"] == nil, "the browser blocks the cookies of this site, or something on the way takes them out"},
	} {
		if cause.is {
			found = append(found, cause.text)
		}
	}
	if found == nil {
		return fmt.Sprintf("the browser, or something on the way, drops this cookie and no other: it is blocked, or too large (%d bytes in all)", size)
	}
	return strings.Join(found, ", or ")
}

// sendNoContent answers a speculative request with 204: the browser asks again when the user really goes there.
func sendNoContent(rw http.ResponseWriter) {
	setHeaders(rw, "Cache-Control", "no-store")
	rw.WriteHeader(http.StatusNoContent)
}
