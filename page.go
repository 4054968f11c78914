package oidc

// Our own responses: a page for a person, a small JSON object for a program.
//
// House rules: every text in a page is escaped; every address in it is http, https or a path of this site; no scripts, no assets from
// elsewhere; no response may be cached. A page says what happened and what to do, never why we think so: reasons are for the log, where the
// request ID on the page finds them.

import (
	"encoding/base32"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxErrorPage limits an operator's own page, in bytes: an embedded logo fits, a log file at a mistaken path does not.
const maxErrorPage = 256 << 10

// response is one of our own responses: a page for browsers, RFC 9457 JSON for everybody else.
type response struct {
	status        int
	title         string   // what happened, in one sentence that a visitor understands, without the full stop
	detail        string   // what they can do, in whole sentences
	icon          string   // SVG path data
	id            string   // request ID, also in the log line; "" on pages that report no problem
	actions       []action // what the page offers, the most likely first
	retryAfter    string   // seconds, or ""; a page then loads its first link by itself
	isForOperator bool     // the configuration may be wrong, so it is logged now and then at a level that operators see
	challenge     string   // WWW-Authenticate (a 401 must have one, RFC 9110 15.5.2), or ""
}

// action is a link, or, with method POST, a button, for what changes something: a prefetcher may follow a link.
type action struct {
	text, href, method string
	fields             url.Values // posted by the button; a page with such a button presses it by itself
}

// pages are the operator's own pages by status.
type pages struct{ custom map[int]string }

// pageTexts are the built-in texts of all pages, by status, and by name if a status has several. The columns are title, detail and icon: a
// lock, a clock for what is temporary, a triangle for what is broken, a door for signing out, a tick for having signed in.
const pageTexts = `
400|This request cannot be answered|Something in it is missing, wrong, or there twice. Go back and try again; if it happens again, tell the people who run this site and give them the reference.|M12 4 21 19.5H3zM12 10v4.5M12 17v.1
400 sign-in|This sign-in has expired|That happens when the sign-in page stays open for long, or when one is used twice, for example with the back button. Please start again.|M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13zM12 14.5v2
400 cookie|Your browser did not keep the sign-in|Allow cookies for this site and try again; if it happens again, tell the people who run this site and give them the reference.|M12 4 21 19.5H3zM12 10v4.5M12 17v.1
401|You are not signed in|Please sign in to continue. If you were signed in before, your session has ended.|M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13zM12 14.5v2
403|You do not have access here|You are signed in, but this account may not open this page. Use another account, or ask the people who run this site to let you in.|M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13zM12 14.5v2
403 forged|This request was not accepted|It did not come from a page of this site, or that page was open for too long. Load the page again, and send it once more.|M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13zM12 14.5v2
403 sign-in|The sign-in was refused|The sign-in service did not let you in, or you cancelled. You can try again.|M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13zM12 14.5v2
405|Method Not Allowed|This address does not take such a request.|M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13zM12 14.5v2
429|Too many client credentials that are wrong|Check the client's id and secret, and try again after the seconds that Retry-After names.|M12 7.5V12l3 2M20.5 12a8.5 8.5 0 1 1-17 0 8.5 8.5 0 0 1 17 0z
431|Request Header Fields Too Large|This address does not take such a request.|M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13zM12 14.5v2
500|Something went wrong on our side|It is nothing you did. Please try again; if it happens again, tell the people who run this site and give them the reference.|M12 4 21 19.5H3zM12 10v4.5M12 17v.1
500 configuration|Signing in is not set up correctly|It is nothing you did, and trying again does not help: there is a mistake in the configuration. Tell the people who run this site, and give them the reference.|M12 4 21 19.5H3zM12 10v4.5M12 17v.1
502|The sign-in service sent an answer we cannot use|It is nothing you did. Please try again; if it happens again, tell the people who run this site and give them the reference.|M12 4 21 19.5H3zM12 10v4.5M12 17v.1
503|Signing in is not possible right now|The sign-in service does not respond. It is usually back within moments.|M12 7.5V12l3 2M20.5 12a8.5 8.5 0 1 1-17 0 8.5 8.5 0 0 1 17 0z
400 token|This request cannot be answered|Send exactly one access token, in one place: as a rule in the header Authorization, after the word Bearer.|M12 4 21 19.5H3zM12 10v4.5M12 17v.1
400 client|This request cannot be answered|Send exactly one Authorization header.|M12 4 21 19.5H3zM12 10v4.5M12 17v.1
401 token|This address needs an access token|Get one from the authorization server, and send it: as a rule in the header Authorization, after the word Bearer.|M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13zM12 14.5v2
401 token refused|This access token is not accepted|It may have ended, or have been made for something else. Get a new one for this API; if that does not help, give the reference to the people who run it.|M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13zM12 14.5v2
401 client|This address needs a client's id and secret|Send them in the header Authorization, as Basic credentials.|M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13zM12 14.5v2
401 client refused|These client credentials are not accepted|Check the client's id and secret, and try again after ten seconds.|M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13zM12 14.5v2
403 token|This access token does not allow this|It is good, but lacks what this address asks for. Get one with the scope that WWW-Authenticate names, or ask the people who run this API.|M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13zM12 14.5v2
403 token gateway|The gateway may not do this for you|Its own token does not allow it. It is nothing you did: tell the people who run this API and give them the reference.|M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13zM12 14.5v2
500 token|This API is not set up correctly|It is nothing you did, and trying again does not help: there is a mistake in the configuration. Tell the people who run it and give them the reference.|M12 4 21 19.5H3zM12 10v4.5M12 17v.1
502 token|The authorization server sent an answer we cannot use|It is nothing you did. Please try again; if it happens again, tell the people who run this API and give them the reference.|M12 4 21 19.5H3zM12 10v4.5M12 17v.1
503 token|Access cannot be checked right now|The authorization server does not respond. Try again after the seconds that Retry-After names.|M12 7.5V12l3 2M20.5 12a8.5 8.5 0 1 1-17 0 8.5 8.5 0 0 1 17 0z
200 asked|Do you want to sign out?|Another website asked to sign you out here. It is your choice.|M13.5 8V4.5h-9v15h9V16M10 12h10.5M17 8.5l3.5 3.5-3.5 3.5
200 signed in|You are signed in|Your page opens now.|M5 12.5l4.5 4.5L19 7.5
200 leaving|You are signed out here|One more step signs you out at the sign-in service, too.|M13.5 8V4.5h-9v15h9V16M10 12h10.5M17 8.5l3.5 3.5-3.5 3.5
200 signed out|You are signed out|You can close this window now.|M13.5 8V4.5h-9v15h9V16M10 12h10.5M17 8.5l3.5 3.5-3.5 3.5
`

// newResponse makes a response from a row of pageTexts, which begins with its status. The caller may refine it.
func newResponse(name string, actions ...action) *response {
	_, words, _ := cut(pageTexts, "\n"+name+"|")
	words, _, _ = cut(words, "\n")
	cells := strings.Split(words+"||", "|")
	status, _ := strconv.Atoi(name[:3])
	return &response{status: status, title: cells[0], detail: cells[1], icon: cells[2], actions: actions}
}

// newRequestID identifies a response, on the page and in the log: 10 characters that can be read out on the telephone (no i, l, o, u).
func newRequestID() string {
	return requestIDs.EncodeToString(randomBytes(6))
}

var requestIDs = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// setHeaders sets headers, given as alternating names and values. A header with an empty value is left as it is.
func setHeaders(rw http.ResponseWriter, namesAndValues ...string) {
	for i := 1; i < len(namesAndValues); i += 2 {
		if namesAndValues[i] != "" {
			rw.Header().Set(namesAndValues[i-1], namesAndValues[i])
		}
	}
}

// writeResponse sends a response. Cookies must be set on rw before. A HEAD request gets the same headers and no body.
func writeResponse(p *pages, rw http.ResponseWriter, req *http.Request, res *response) {
	offers, link, posts := actionsHTML(res.actions)
	scripts := ""
	retry := ""
	refresh := ""
	// After a POST the page does not load another one by itself: the visitor may want to send the form again.
	if res.retryAfter != "" && link != "" && isNavigation(req) {
		retry = res.retryAfter
		refresh = retry + "; url=" + link
	}
	body := ""
	kind := "text/html; charset=utf-8"
	if wantsHTML(req) {
		body = fillPage(p, res, retry, offers, link)
	} else {
		body = problemJSON(res)
		kind = "application/problem+json"
	}
	if res.status < http.StatusBadRequest {
		kind = strings.Replace(kind, "problem+", "", 1) // it reports no problem
	}
	referrer := "no-referrer" // the address may hold a code: RFC 9700 4.2.4
	targets := "'none'"
	if posts {
		// With no-referrer a browser posts with `Origin: null` (Fetch 3.2), so our own check would take our own button for another site's.
		// Chromium applies form-action to redirects, too: a logout is redirected to the provider, which may redirect it further.
		referrer = "same-origin"
		targets = "'self' https: http:"
	}
	if strings.HasSuffix(offers, pageScript) {
		referrer = "origin" // it is posted to the provider, who need not know more
		scripts = "script-src " + pageScriptHash + "; "
	}
	// Our page may load nothing but its own style. An operator's page may load what it likes. Neither may be framed: in a frame, another site
	// could trick its visitors into pressing our buttons.
	policy := "base-uri 'none'; frame-ancestors 'none'"
	if p.custom[res.status] == "" {
		policy = "default-src 'none'; style-src " + pageStyleHash + "; " + scripts + "form-action " + targets + "; " + policy
	}
	rw.Header().Add("Vary", "Accept, Sec-Fetch-Mode")
	setHeaders(rw, "Retry-After", res.retryAfter, "Refresh", refresh, "WWW-Authenticate", res.challenge, "Cache-Control", "no-store", // RFC 6750 5.3
		"X-Content-Type-Options", "nosniff", "Referrer-Policy", referrer, "Content-Security-Policy", policy,
		"Content-Type", kind, "Content-Length", strconv.Itoa(len(body)))
	rw.WriteHeader(res.status)
	if req.Method != http.MethodHead {
		_, _ = io.WriteString(rw, body) // an error means that the client has gone
	}
}

// problemJSON is a problem details object (RFC 9457 3.1) with the extension member id (3.2).
func problemJSON(res *response) string {
	// With about:blank the title must be the status phrase (RFC 9457 4.2.1), so our own title begins the detail.
	object := map[string]any{"type": "about:blank", "title": http.StatusText(res.status), "status": res.status,
		"detail": strings.TrimSuffix(strings.ReplaceAll(res.title+". "+res.detail, "?.", "?"), " ")}
	if res.id != "" {
		object["id"] = res.id
		object["instance"] = "#" + res.id // identifies this occurrence, relative to the requested URL (RFC 9457 3.1.5)
	}
	body, _ := toJSON(object) // only strings and a number: cannot fail
	return string(body) + "\n"
}

// actionsHTML returns the markup of the actions, the address of the first link, and whether there is a button.
func actionsHTML(actions []action) (markup, link string, posts bool) {
	markup, link, posts = "", "", false
	for _, act := range actions {
		address := safeAddress(act.href)
		href, text := html.EscapeString(address), html.EscapeString(act.text)
		if address == "" {
			continue
		}
		if act.method == http.MethodPost {
			posts = true
			markup += `<form method="post" action="` + href + `">`
			for name := range act.fields {
				markup += `<input type="hidden" name="` + html.EscapeString(name) + `" value="` + html.EscapeString(act.fields.Get(name)) + `">`
			}
			markup += `<button>` + text + `</button></form>`
			if act.fields != nil {
				markup += pageScript
			}
			continue
		}
		markup += `<a href="` + href + `">` + text + `</a>`
		if link == "" {
			link = address
		}
	}
	return markup, link, posts
}

// linkable matches web addresses and paths of this site. Browsers read `//name` as another site.
var linkable = regexp.MustCompile(`^(https?:/)?/([^/]|$)`)

// safeAddress returns "" for an address that is neither http(s) nor a path of this site. Escaping would not stop `javascript:`, and browsers
// read `/\name` as another site, too. String writes a backslash as %5C, and Parse refuses control characters.
func safeAddress(address string) string {
	u, err := url.Parse(address)
	if err != nil || !linkable.MatchString(address) {
		return ""
	}
	return u.String()
}

// fillPage fills in a response's page. The replacer makes one pass, so an inserted text is never read as a placeholder.
func fillPage(p *pages, res *response, retry, offers, link string) string {
	page := p.custom[res.status]
	if page == "" {
		page = pageTemplate
		if retry == "" {
			page = strings.Replace(page, pageNote, "", 1)
		}
		if res.id == "" {
			page = strings.Replace(page, pageReference, "", 1)
		}
	}
	return strings.NewReplacer(
		"{status}", strconv.Itoa(res.status), "{title}", html.EscapeString(res.title), "{detail}", html.EscapeString(res.detail), "{icon}", res.icon,
		"{id}", html.EscapeString(res.id), "{retry}", retry, "{action}", html.EscapeString(link), "{actions}", offers,
	).Replace(page)
}

// newPages reads the operator's pages; files has file names by status, as in errorPages. They are read only once, so a change needs a reload.
func newPages(files map[string]string, p *problems) *pages {
	custom := map[int]string{}
	for _, name := range strings.Fields("401 403 500 503") {
		if files[name] == "" {
			continue
		}
		option := "errorPages." + name
		data, err := readNamedFile(files[name], p)
		p.failIf(err != nil, option, "must be a readable HTML file: %v", err)
		p.failIf(len(data) == 0, option, "must be an HTML file, got an empty one: %q", files[name])
		p.failIf(len(data) > maxErrorPage, option, "must be an HTML file of at most %d bytes, got a larger one: %q", maxErrorPage, files[name])
		p.failIf(!utf8.Valid(data), option, "must be UTF-8 text, got other bytes: %q", files[name])
		status, _ := strconv.Atoi(name)
		custom[status] = string(data)
	}
	// The operator's page also serves statuses for which ours differs only in its text: a sign-in that must be started again, a provider whose
	// response is invalid.
	custom[http.StatusBadRequest] = custom[http.StatusUnauthorized]
	custom[http.StatusBadGateway] = custom[http.StatusInternalServerError]
	return &pages{custom}
}

// pageNote and pageReference are the optional lines of the built-in page.
const (
	pageNote      = "<p>This page tries again by itself every {retry} seconds.</p>\n"
	pageReference = "<footer>Error {status} · Reference <code>{id}</code></footer>\n"
)

const pageTemplate = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>` + pageStyle + `</style>
</head>
<body>
<main>
<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{icon}"/></svg>
<h1>{title}</h1>
<p>{detail}</p>
` + pageNote + `<div>{actions}</div>
` + pageReference + `</main>
</body>
</html>
`

// pageScript presses a page's button at once; without scripts the visitor does. The policy allows it by its hash, which a test checks.
const (
	pageScript     = "<script>document.forms[0].submit()</script>"
	pageScriptHash = "'sha256-ePniVEkSivX/c7XWBGafqh8tSpiRrKiqYeqbG7N1TOE='"
)

// pageStyleHash is the hash by which the policy allows the style sheet; a test checks it.
const pageStyleHash = "'sha256-gj6/g4L36207kQNwSXwtCrm5vYjZzCuoRSEiILN8CMc='"

// pageStyle is separate from the page, because the policy allows it by its hash. All colours have a contrast of at least 4.5.
const pageStyle = `
:root { color-scheme: light dark; --back: #f3f5f8; --card: #fff; --text: #1c2530; --soft: #56616f; --line: #d8dee6; --tint: #e8f0fd; --accent: #1c5ec4; --on: #fff }
@media (prefers-color-scheme: dark) {
  :root { --back: #10141a; --card: #1a2029; --text: #e9edf2; --soft: #a5b0bd; --line: #354050; --tint: #22324c; --accent: #8ebaff; --on: #0b1a31 }
}
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; min-height: 100svh; display: grid; place-items: center; padding: 1rem; background: var(--back); color: var(--text);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere }
main { width: 100%; max-width: 31rem; padding: clamp(1.5rem, 7vw, 2.5rem); background: var(--card); border: 1px solid var(--line); border-radius: 1rem }
svg { width: 3.5rem; height: 3.5rem; padding: .8rem; border-radius: 50%; background: var(--tint); fill: none; stroke: var(--accent); stroke-width: 1.8;
  stroke-linecap: round; stroke-linejoin: round }
h1 { margin: 1.25rem 0 .5rem; font-size: 1.5rem; line-height: 1.25; text-wrap: balance }
p { margin: 0 0 .75rem; color: var(--soft) }
div { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 1.5rem }
div:empty { display: none }
form { display: flex }
a, button { padding: .65rem 1.25rem; border: 1px solid var(--accent); border-radius: .6rem; background: none; color: var(--accent); font: inherit;
  font-weight: 600; text-decoration: none; cursor: pointer }
a:first-child, form:first-child > button { background: var(--accent); color: var(--on) }
a:hover, button:hover { text-decoration: underline }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 3px }
footer { margin-top: 1.75rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .875rem }
@media (max-width: 26rem) { div > * { width: 100%; text-align: center } button { width: 100% } }
`
