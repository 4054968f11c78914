package oidc

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const neverFramed = "base-uri 'none'; frame-ancestors 'none'"

// ask sends a through writeResponse to a client that sends these headers ("Name: value").
func ask(t *testing.T, p *pages, method string, res *response, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequest(method, "https://app.example.com/reports?year=1", nil)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		req.Header.Add(name, value)
	}
	rec := httptest.NewRecorder()
	writeResponse(p, rec, req, res)
	return rec
}

func builtInPages(t *testing.T) *pages {
	t.Helper()
	p := &problems{}
	made := newPages(nil, p)
	if err := p.err(); err != nil {
		t.Fatal(err)
	}
	return made
}

func TestPagesNavigation(t *testing.T) {
	tests := []struct {
		name           string
		method         string
		headers        []string
		html, navigate bool
	}{
		{"a page load of a browser", "GET", []string{"Sec-Fetch-Mode: navigate", "Accept: text/html,*/*;q=0.8"}, true, true},
		{"a page load that asks for anything", "GET", []string{"Sec-Fetch-Mode: navigate", "Accept: */*"}, true, true},
		{"the headers of a page", "HEAD", []string{"Sec-Fetch-Mode: navigate"}, true, true},
		{"a posted form is shown a page and not redirected", "POST", []string{"Sec-Fetch-Mode: navigate", "Accept: text/html"}, true, false},
		{"a script's fetch that would take HTML", "GET", []string{"Sec-Fetch-Mode: cors", "Accept: text/html"}, false, false},
		{"a script's same-origin fetch", "GET", []string{"Sec-Fetch-Mode: same-origin", "Accept: text/html"}, false, false},
		{"an image", "GET", []string{"Sec-Fetch-Mode: no-cors", "Accept: image/avif,*/*"}, false, false},
		{"a websocket", "GET", []string{"Sec-Fetch-Mode: websocket"}, false, false},
		{"a browser on plain http", "GET", []string{"Accept: text/html,application/xhtml+xml,*/*;q=0.8"}, true, true},
		{"HTML in capitals", "GET", []string{"Accept: Text/HTML"}, true, true},
		{"HTML in the second Accept line", "GET", []string{"Accept: application/json", "Accept: text/html"}, true, true},
		{"jQuery on plain http", "GET", []string{"Accept: text/html, */*; q=0.01", "X-Requested-With: XMLHttpRequest"}, false, false},
		{"htmx on plain http", "GET", []string{"Accept: text/html", "Hx-Request: true"}, false, false},
		{"a page load of an app's web view on plain http", "GET", []string{"Accept: text/html", "X-Requested-With: com.example.app"}, true, true},
		{"curl", "GET", []string{"Accept: */*"}, false, false},
		{"an API client", "GET", []string{"Accept: application/json"}, false, false},
		{"a client that says nothing", "GET", nil, false, false},
		{"a form from a browser on plain http", "POST", []string{"Accept: text/html"}, true, false},
		{"a preflight", "OPTIONS", []string{"Accept: text/html"}, true, false},
	}
	for _, test := range tests {
		req := httptest.NewRequest(test.method, "https://app.example.com/", nil)
		for _, header := range test.headers {
			name, value, _ := strings.Cut(header, ": ")
			req.Header.Add(name, value)
		}
		if got := wantsHTML(req); got != test.html {
			t.Errorf("%s: wantsHTML is %v", test.name, got)
		}
		if got := isNavigation(req); got != test.navigate {
			t.Errorf("%s: isNavigation is %v", test.name, got)
		}
	}
}

func TestPagesHeaders(t *testing.T) {
	p := builtInPages(t)
	link := []action{{text: "Try again", href: "/reports?year=1"}}
	button := []action{{text: "Sign out", href: "/logout", method: http.MethodPost}}
	tests := []struct {
		name   string
		method string
		accept string
		answer *response
		want   map[string]string
	}{
		{"a page", "GET", "text/html", &response{status: 403, title: "No", actions: link}, map[string]string{
			"Cache-Control": "no-store", "Vary": "Accept, Sec-Fetch-Mode", "X-Content-Type-Options": "nosniff",
			"Content-Type": "text/html; charset=utf-8", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy": "default-src 'none'; style-src " + pageStyleHash + "; form-action 'none'; " + neverFramed,
		}},
		{"a page with a button keeps its Origin, and its post may be redirected to the provider", "GET", "text/html",
			&response{status: 200, title: "Sure?", actions: button}, map[string]string{
				"Cache-Control": "no-store", "Vary": "Accept, Sec-Fetch-Mode", "X-Content-Type-Options": "nosniff",
				"Content-Type": "text/html; charset=utf-8", "Referrer-Policy": "same-origin",
				"Content-Security-Policy": "default-src 'none'; style-src " + pageStyleHash + "; form-action 'self' https: http:; " + neverFramed,
			}},
		{"a page that passes loads itself again", "GET", "text/html", &response{status: 503, title: "Away", actions: link, retryAfter: "5"},
			map[string]string{
				"Cache-Control": "no-store", "Vary": "Accept, Sec-Fetch-Mode", "X-Content-Type-Options": "nosniff",
				"Content-Type": "text/html; charset=utf-8", "Referrer-Policy": "no-referrer",
				"Retry-After": "5", "Refresh": "5; url=/reports?year=1",
				"Content-Security-Policy": "default-src 'none'; style-src " + pageStyleHash + "; form-action 'none'; " + neverFramed,
			}},
		{"a program gets the challenge and no reload", "GET", "application/json",
			&response{status: 401, title: "No", actions: link, retryAfter: "7", challenge: `Bearer error="invalid_token"`}, map[string]string{
				"Cache-Control": "no-store", "Vary": "Accept, Sec-Fetch-Mode", "X-Content-Type-Options": "nosniff",
				"Content-Type": "application/problem+json", "Referrer-Policy": "no-referrer",
				"Retry-After": "7", "Www-Authenticate": `Bearer error="invalid_token"`,
				"Content-Security-Policy": "default-src 'none'; style-src " + pageStyleHash + "; form-action 'none'; " + neverFramed,
			}},
	}
	for _, test := range tests {
		rec := ask(t, p, test.method, test.answer, "Accept: "+test.accept)
		if rec.Code != test.answer.status {
			t.Errorf("%s: status %d", test.name, rec.Code)
		}
		test.want["Content-Length"] = strconv.Itoa(rec.Body.Len())
		for name, value := range test.want {
			if got := rec.Header().Get(name); got != value {
				t.Errorf("%s: %s: expected %q, got %q", test.name, name, value, got)
			}
		}
		for name := range rec.Header() {
			if _, ok := test.want[name]; !ok {
				t.Errorf("%s: nobody asked for the header %s", test.name, name)
			}
		}
	}
}

func TestPagesKeepHeadersOfOthers(t *testing.T) {
	rec := httptest.NewRecorder()
	rec.Header().Set("Vary", "Origin")
	rec.Header().Set("Set-Cookie", "a=b")
	writeResponse(builtInPages(t), rec, httptest.NewRequest("GET", "/", nil), newResponse("401"))
	if got := strings.Join(rec.Header()["Vary"], ", "); got != "Origin, Accept, Sec-Fetch-Mode" {
		t.Errorf("Vary is %q", got)
	}
	if rec.Header().Get("Set-Cookie") != "a=b" {
		t.Error("the cookie that was set before is gone")
	}
}

func TestPagesRefreshOnlyWhereNothingIsLost(t *testing.T) {
	p := builtInPages(t)
	link := action{text: "Try again", href: "/reports"}
	tests := []struct {
		name    string
		method  string
		actions []action
		refresh string
	}{
		{"the first link", "GET", []action{{text: "Sign out", href: "/logout", method: "POST"}, link}, "5; url=/reports"},
		{"the first of two links", "GET", []action{link, {text: "Home", href: "/"}}, "5; url=/reports"},
		{"headers of a page are those of the page", "HEAD", []action{link}, "5; url=/reports"},
		{"a posted form could be sent again", "POST", []action{link}, ""},
		{"only a button", "GET", []action{{text: "Sign out", href: "/logout", method: "POST"}}, ""},
		{"no action at all", "GET", nil, ""},
		{"an address that is no link", "GET", []action{{text: "Bad", href: "javascript:alert(1)"}}, ""},
	}
	for _, test := range tests {
		rec := ask(t, p, test.method, &response{status: 503, title: "Away", actions: test.actions, retryAfter: "5"}, "Accept: text/html")
		if got := rec.Header().Get("Refresh"); got != test.refresh {
			t.Errorf("%s: expected Refresh %q, got %q", test.name, test.refresh, got)
		}
		if rec.Header().Get("Retry-After") != "5" {
			t.Errorf("%s: no Retry-After", test.name)
		}
		if said := strings.Contains(rec.Body.String(), "tries again by itself every 5 seconds"); said != (test.refresh != "" && test.method != "HEAD") {
			t.Errorf("%s: the page says that it tries again: %v", test.name, said)
		}
	}
}

func TestPagesHead(t *testing.T) {
	p := builtInPages(t)
	for _, accept := range []string{"Accept: text/html", "Accept: */*"} {
		get := ask(t, p, "GET", newResponse("403"), accept)
		head := ask(t, p, "HEAD", newResponse("403"), accept)
		if head.Body.Len() != 0 {
			t.Errorf("%s: HEAD has a body", accept)
		}
		for name := range get.Header() {
			if get.Header().Get(name) != head.Header().Get(name) {
				t.Errorf("%s: %s: GET %q, HEAD %q", accept, name, get.Header().Get(name), head.Header().Get(name))
			}
		}
	}
}

func TestPagesJSON(t *testing.T) {
	tests := []struct {
		name   string
		answer *response
		kind   string
		want   string
	}{
		{"a refusal", &response{status: 403, title: "No access", detail: "Ask for it.", id: "0123456789"}, "application/problem+json",
			`{"detail":"No access. Ask for it.","id":"0123456789","instance":"#0123456789","status":403,"title":"Forbidden","type":"about:blank"}`},
		{"only a title", &response{status: 400, title: "What was that?"}, "application/problem+json",
			`{"detail":"What was that?","status":400,"title":"Bad Request","type":"about:blank"}`},
		{"no trouble", &response{status: 200, title: "You are signed out", detail: "Bye."}, "application/json",
			`{"detail":"You are signed out. Bye.","status":200,"title":"OK","type":"about:blank"}`},
		{"a question", &response{status: 200, title: "Sign out?", detail: "You may."}, "application/json",
			`{"detail":"Sign out? You may.","status":200,"title":"OK","type":"about:blank"}`},
		{"hostile text", &response{status: 500, title: `a"b`, detail: "</script>\x00\n"}, "application/problem+json",
			`{"detail":"a\"b. \u003c/script\u003e\u0000\n","status":500,"title":"Internal Server Error","type":"about:blank"}`},
	}
	for _, test := range tests {
		rec := ask(t, builtInPages(t), "GET", test.answer, "Accept: application/json")
		if got := strings.TrimSuffix(rec.Body.String(), "\n"); got != test.want {
			t.Errorf("%s:\nexpected %s\ngot      %s", test.name, test.want, got)
		}
		if got := rec.Header().Get("Content-Type"); got != test.kind {
			t.Errorf("%s: Content-Type %q", test.name, got)
		}
		var any map[string]any
		if err := json.Unmarshal(rec.Body.Bytes(), &any); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestPagesEscape(t *testing.T) {
	hostile := `"><script>alert(1)</script>'&{detail}{id}`
	res := &response{status: 403, title: hostile, detail: hostile, id: hostile, actions: []action{
		{text: hostile, href: `/a"onclick="b`},
		{text: "run", href: "javascript:alert(2)"},
		{text: hostile, href: `/b"><script>`, method: http.MethodPost},
		{text: "post", href: "javascript:alert(3)", method: http.MethodPost},
	}}
	file := filepath.Join(t.TempDir(), "403.html")
	page := "<h1 title=\"{title}\">{title}</h1><p>{detail}</p><code>{id}</code><a href=\"{action}\">x</a>{actions}"
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*pages{"built in": builtInPages(t), "custom": newPages(map[string]string{"403": file}, &problems{})} {
		body := ask(t, p, "GET", res, "Accept: text/html").Body.String()
		for _, bad := range []string{"<script", "javascript:", `"onclick`, `'&`, `"">`} {
			if strings.Contains(body, bad) {
				t.Errorf("%s page: contains %q:\n%s", name, bad, body)
			}
		}
		for _, good := range []string{"&#39;&amp;{detail}{id}</h1>", "&#39;&amp;{detail}{id}</p>", `href="/a%22onclick=%22b"`,
			`action="/b%22%3E%3Cscript%3E"`} {
			if !strings.Contains(body, good) {
				t.Errorf("%s page: does not contain %q:\n%s", name, good, body)
			}
		}
	}
}

func TestPagesAddress(t *testing.T) {
	tests := []struct{ name, address, want string }{
		{"a path", "/reports?a=1&b=2#top", "/reports?a=1&b=2#top"},
		{"the provider", "https://id.example.com/logout?x=1", "https://id.example.com/logout?x=1"},
		{"plain http", "http://app.example.com/", "http://app.example.com/"},
		{"a script", "javascript:alert(1)", ""},
		{"a script in capitals", "JaVaScRiPt:alert(1)", ""},
		{"data", "data:text/html,x", ""},
		{"another site without scheme", "//evil.example.com/", ""},
		{"the same with a third slash", "///evil.example.com/", ""},
		{"a backslash stays a letter of the path", `/\evil.example.com`, "/%5Cevil.example.com"},
		{"a line end", "/a\r\nSet-Cookie: x=y", ""},
		{"a tab inside the scheme", "java\tscript:alert(1)", ""},
		{"a relative path", "reports", ""},
		{"nothing", "", ""},
	}
	for _, test := range tests {
		if got := safeAddress(test.address); got != test.want {
			t.Errorf("%s: expected %q, got %q", test.name, test.want, got)
		}
	}
}

func TestPagesBuiltIn(t *testing.T) {
	p := builtInPages(t)
	answers := []*response{newResponse("200 asked", action{text: "Sign out", href: "/logout", method: http.MethodPost},
		action{text: "Stay signed in", href: "/"}), newResponse("200 signed out", action{text: "Sign in again", href: "/"}),
		newResponse("200 signed in", action{text: "Continue", href: "/"})}
	for _, status := range []string{"400", "400 sign-in", "401", "403", "403 forged", "403 sign-in", "405", "500", "502", "503"} {
		res := newResponse(status)
		res.id = newRequestID()
		answers = append(answers, res)
	}
	leftover := regexp.MustCompile(`\{[a-z]+\}`)
	for _, res := range answers {
		body := ask(t, p, "GET", res, "Accept: text/html").Body.String()
		if res.title == "" || !strings.Contains(body, "<h1>"+res.title+"</h1>") || !strings.Contains(body, "<title>"+res.title+"</title>") {
			t.Errorf("%d %q: the title is missing:\n%s", res.status, res.title, body)
		}
		if !strings.Contains(body, "<p>"+res.detail+"</p>") || !strings.Contains(body, `<html lang="en">`) {
			t.Errorf("%d %q: the detail or the language is missing:\n%s", res.status, res.title, body)
		}
		if found := leftover.FindString(body); found != "" {
			t.Errorf("%d %q: %s was not filled in", res.status, res.title, found)
		}
		if shown := strings.Contains(body, "Reference <code>"+res.id+"</code>"); shown != (res.id != "") {
			t.Errorf("%d %q: the reference is shown: %v", res.status, res.title, shown)
		}
		if strings.Contains(strings.Replace(body, pageScript, "", 1), "<script") || strings.Contains(body, "style=") ||
			strings.Contains(body, "url(") || strings.Contains(body, "src=") {
			t.Errorf("%d %q: something the policy forbids:\n%s", res.status, res.title, body)
		}
		_, style, _ := strings.Cut(body, "<style>")
		style, _, _ = strings.Cut(style, "</style>")
		sum := sha256.Sum256([]byte(style))
		if pageStyleHash != "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'" {
			t.Errorf("%d %q: the policy's hash is not that of the style sheet", res.status, res.title)
		}
	}
	if newResponse("200 signed in").icon == newResponse("200 signed out").icon {
		t.Error("a door to go out by is no picture of having come in")
	}
	question := ask(t, p, "GET", answers[0], "Accept: text/html").Body.String()
	if want := `<form method="post" action="/logout"><button>Sign out</button></form><a href="/">Stay signed in</a>`; !strings.Contains(question, want) {
		t.Errorf("the question has no %s:\n%s", want, question)
	}
}

// WCAG 2.2, 1.4.3: text has a contrast of at least 4.5 in both colour schemes.
func TestPagesContrast(t *testing.T) {
	checkContrast(t, pageStyle, "text card", "soft card", "accent card", "on accent")
}

// checkContrast compares pairs of a style sheet's colours, "front back", in the light and in the dark.
func checkContrast(t *testing.T, style string, pairs ...string) {
	t.Helper()
	schemes := regexp.MustCompile(`:root \{.*--on: .* \}`).FindAllString(style, -1)
	if len(schemes) != 2 {
		t.Fatalf("expected a light and a dark set of colours, got %d", len(schemes))
	}
	for _, scheme := range schemes {
		light := map[string]float64{}
		for _, found := range regexp.MustCompile(`--([a-z]+): #([0-9a-f]+)`).FindAllStringSubmatch(scheme, -1) {
			light[found[1]] = luminance(t, found[2])
		}
		for _, pair := range pairs {
			front, back, _ := strings.Cut(pair, " ")
			bright, dark := math.Max(light[front], light[back]), math.Min(light[front], light[back])
			if contrast := (bright + 0.05) / (dark + 0.05); contrast < 4.5 {
				t.Errorf("%s: %s has a contrast of %.2f", scheme, pair, contrast)
			}
		}
	}
}

func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) == 3 {
		hex = hex[:1] + hex[:1] + hex[1:2] + hex[1:2] + hex[2:] + hex[2:]
	}
	weights := []float64{0.2126, 0.7152, 0.0722}
	sum := 0.0
	for i := 0; i < 3; i++ {
		value, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		part := float64(value) / 255
		if part <= 0.04045 {
			part = part / 12.92
		} else {
			part = math.Pow((part+0.055)/1.055, 2.4)
		}
		sum += weights[i] * part
	}
	return sum
}

func TestPagesCustom(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	p := &problems{}
	made := newPages(map[string]string{
		"401": write("401.html", "<style>a{color:red}</style>{status} {title} {id} {unknown} { id } <a href='{action}'>"),
		"403": "examples/error-pages/403.html",
		"500": write("500.html", "broken {status}"),
		"503": write("503.html", "away for {retry}s{actions}"),
	}, p)
	if err := p.err(); err != nil {
		t.Fatal(err)
	}
	link := []action{{text: "Sign in", href: "/a?b=1&c=2"}}
	tests := []struct {
		name   string
		answer *response
		want   string
	}{
		{"known names only", &response{status: 401, title: "No", id: "7", actions: link},
			"<style>a{color:red}</style>401 No 7 {unknown} { id } <a href='/a?b=1&amp;c=2'>"},
		{"the page for 401 serves a sign-in that expired", &response{status: 400, title: "Old", id: "8"},
			"<style>a{color:red}</style>400 Old 8 {unknown} { id } <a href=''>"},
		{"the page for 500 serves 502", &response{status: 502}, "broken 502"},
		{"seconds and links", &response{status: 503, retryAfter: "5", actions: link}, `away for 5s<a href="/a?b=1&amp;c=2">Sign in</a>`},
	}
	for _, test := range tests {
		rec := ask(t, made, "GET", test.answer, "Accept: text/html")
		if got := rec.Body.String(); got != test.want {
			t.Errorf("%s:\nexpected %s\ngot      %s", test.name, test.want, got)
		}
		if got := rec.Header().Get("Content-Security-Policy"); got != neverFramed {
			t.Errorf("%s: policy %q", test.name, got)
		}
	}
	german := ask(t, made, "GET", &response{status: 403, id: "0123456789", actions: link}, "Accept: text/html").Body.String()
	for _, want := range []string{`<html lang="de">`, "Fehler 403 · Kennung <code>0123456789</code>",
		`<a href="/a?b=1&amp;c=2">Mit einem anderen Konto`} {
		if !strings.Contains(german, want) {
			t.Errorf("the German example has no %q:\n%s", want, german)
		}
	}
	if got := ask(t, made, "GET", &response{status: 401}).Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("a program gets %q although there is a page", got)
	}
	if got := ask(t, made, "GET", newResponse("200 signed out", action{text: "Sign in again", href: "/"}),
		"Accept: text/html").Body.String(); !strings.Contains(got, "<h1>You are signed out</h1>") {
		t.Errorf("the signed-out page became %s", got)
	}
}

// TestPagesExamples loads the German pages in examples/error-pages.
func TestPagesExamples(t *testing.T) {
	files, _ := filepath.Glob("examples/error-pages/*.html")
	if len(files) != 4 {
		t.Fatalf("expected a page for each status, got %q", files)
	}
	options := map[string]string{}
	for _, file := range files {
		options[strings.TrimSuffix(filepath.Base(file), ".html")] = file
	}
	p := &problems{}
	made := newPages(options, p)
	if err := p.err(); err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"400", "400 sign-in", "401", "403", "403 forged", "403 sign-in", "500", "502", "503"} {
		name := words[:3]
		res := newResponse(words, action{text: "Go on", href: "/a?b=1&c=2"})
		res.id = "0123456789"
		if name == "503" {
			res.retryAfter = "5"
		}
		body := ask(t, made, "GET", res, "Accept: text/html").Body.String()
		_, visible, _ := strings.Cut(body, "<body>")
		for _, want := range []string{`<html lang="de">`, `name="viewport"`, "<main>", "<h1>",
			"Fehler " + name + " · Kennung <code>0123456789</code>", `<a href="/a?b=1&amp;c=2">`, ":focus-visible"} {
			if !strings.Contains(body, want) {
				t.Errorf("%s: no %q", name, want)
			}
		}
		for _, bad := range []string{"{", "}", res.title, res.detail, "Go on"} {
			if strings.Contains(visible, bad) {
				t.Errorf("%s: %q is not German:\n%s", name, bad, visible)
			}
		}
		if found := regexp.MustCompile(`(?i)\bsrc=|url\(|@import|<script|<link|//`).FindString(body); found != "" {
			t.Errorf("%s: %q is an asset from elsewhere", name, found)
		}
		if said := strings.Contains(body, "alle 5 Sekunden"); said != (name == "503") {
			t.Errorf("%s: says that it tries again: %t", name, said)
		}
		checkContrast(t, body, "text back", "soft back", "on accent")
	}
	// Without a link and without a reload, what belongs to them is hidden by the page's style.
	body := ask(t, made, "GET", newResponse("503"), "Accept: text/html").Body.String()
	if !strings.Contains(body, `a[href=""], [data-seconds=""] { display: none }`) || !strings.Contains(body, `<a href="">`) ||
		!strings.Contains(body, `data-seconds=""`) {
		t.Errorf("got %s", body)
	}
}

// TestPagesPlaceholders: docs/pages.md has every placeholder, with an example, and no other.
func TestPagesPlaceholders(t *testing.T) {
	text, err := os.ReadFile("docs/pages.md")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "page.html")
	res := newResponse("503", action{text: "Try again", href: "/reports"})
	res.id = "0123456789"
	res.retryAfter = "5"
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `\\{([a-z]+)\\}` \\| [^|]+ \\| `[^`]+` \\|$").FindAllStringSubmatch(string(text), -1) {
		documented[row[1]] = true
		if err := os.WriteFile(file, []byte("{"+row[1]+"}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := ask(t, newPages(map[string]string{"503": file}, &problems{}), "GET", res, "Accept: text/html").Body.String(); got == "" ||
			strings.Contains(got, "{") {
			t.Errorf("{%s} is documented, and becomes %q", row[1], got)
		}
	}
	source, err := os.ReadFile("page.go")
	if err != nil {
		t.Fatal(err)
	}
	_, source, _ = bytes.Cut(source, []byte("strings.NewReplacer("))
	source, _, _ = bytes.Cut(source, []byte(").Replace"))
	names := regexp.MustCompile(`"\{([a-z]+)\}"`).FindAllSubmatch(source, -1)
	for _, name := range names {
		if !documented[string(name[1])] {
			t.Errorf("docs/pages.md: the table has no {%s} with an example", name[1])
		}
	}
	if len(names) < 7 {
		t.Errorf("only %d placeholders were found: this test has gone blind", len(names))
	}
}

// TestPagesReflectNothing sends markup in everything of a request that comes back in an answer of ours: it comes back as text.
func TestPagesReflectNothing(t *testing.T) {
	const markup = `"><script>alert(1)</script><x'y='`
	page := `/page` + markup + `?q=` + markup + `&{id}{status}`
	navigate := "Sec-Fetch-Mode: navigate"
	own := filepath.Join(t.TempDir(), "own.html")
	if err := os.WriteFile(own, []byte(`<a href="{action}" title="{title}">{detail}</a>{actions}<i>{id}</i>`), 0o600); err != nil {
		t.Fatal(err)
	}
	type request func(b *browser, p *fakeProvider) *http.Response
	get := func(target string, header ...string) request {
		return func(b *browser, _ *fakeProvider) *http.Response { return b.raw(target, append(header, navigate)...) }
	}
	callback := func(b *browser, _ *fakeProvider) *http.Response {
		begun := b.raw(page, navigate)
		b.takeCookies(mustParse(app+"/"), begun.Cookies(), len(begun.Cookies()))
		back := b.answered(mustParse(begun.Header.Get("Location")))
		return b.raw(back.RequestURI(), navigate, "Cookie: "+b.cookieLine(back, "none", http.MethodGet))
	}
	for _, c := range []struct {
		name    string
		options map[string]any
		status  int
		want    string // that the place was reached: the address, escaped
		send    request
	}{
		{"the page asked for, where the rule says no", map[string]any{"claims": "Equals(`sub`, `grace`)"}, 403, "script%253Ealert",
			func(b *browser, p *fakeProvider) *http.Response {
				b.open("/page")
				return b.raw(page, navigate, "Cookie: "+b.cookieLine(mustParse(app+"/"), "none", http.MethodGet))
			}},
		{"the page asked for, while the provider is away", nil, 503, "%3Cscript%3Ealert", func(b *browser, p *fakeProvider) *http.Response {
			p.away(true)
			return b.raw(page, navigate)
		}},
		{"the page asked for, after a sign-in that was refused", nil, 403, "%3Cscript%3Ealert", func(b *browser, p *fakeProvider) *http.Response {
			p.refuse("access_denied", markup)
			return callback(b, p)
		}},
		{"the provider's error", nil, 400, "", get("/oidc/callback?state=x&error=" + markup + "&error_description=" + markup)},
		{"state and code", nil, 400, "", get("/oidc/callback?state=" + markup + "&code=" + markup)},
		{"the issuer of a sign-in begun elsewhere", map[string]any{"loginUrl": "/login"}, 400, "", get("/login?iss=" + markup)},
		{"the target of a sign-in begun elsewhere", map[string]any{"loginUrl": "/login"}, 400, "",
			get("/login?target_link_uri=https://evil.example.com/" + markup)},
		{"issuer and sid of a front-channel logout", map[string]any{"frontchannelLogoutUrl": "/front"}, 400, "",
			get("/front?iss=" + markup + "&sid=" + markup)},
		{"sid of a front-channel logout that works", map[string]any{"frontchannelLogoutUrl": "/front"}, 200, "",
			func(b *browser, p *fakeProvider) *http.Response {
				return b.raw("/front?iss="+url.QueryEscape(p.issuer)+"&sid="+markup, navigate)
			}},
		{"the query of a sign-out from another site", map[string]any{"logoutUrl": "/logout"}, 200, `action="/logout"`,
			get("/logout?"+markup, "Sec-Fetch-Site: cross-site")},
		{"the page that leads on", sessionOptions("sameSite", "strict"), 200, "%3Cscript%3Ealert", callback},
		{"a program's JSON", map[string]any{"unauthenticated": "deny"}, 401, `"status":401`, func(b *browser, p *fakeProvider) *http.Response {
			return b.raw(page, "Accept: application/json"+markup)
		}},
	} {
		for kind, more := range map[string]map[string]any{"built in": nil,
			"of the operator": {"errorPages": map[string]string{"401": own, "403": own, "503": own}}} {
			p := newFakeProvider(t)
			res := c.send(newBrowser(t, start(t, p.options(c.options, more))), p)
			text, _ := io.ReadAll(res.Body)
			if res.StatusCode != c.status || !strings.Contains(string(text), c.want) && !(kind != "built in" && c.status == 200) {
				t.Errorf("%s, page %s: expected %d with %q, got %s\n%s", c.name, kind, c.status, c.want, res.Status, text)
			}
			for _, bad := range []string{"<script", `<x`, "'y="} {
				if strings.Contains(string(text), bad) {
					t.Errorf("%s, page %s: %q came back:\n%s", c.name, kind, bad, text)
				}
			}
			for name, values := range res.Header {
				if strings.Contains(strings.Join(values, " "), "<script") && name != "Refresh" { // its address ends with the line, in every browser
					t.Errorf("%s, page %s: came back in %s: %q", c.name, kind, name, values)
				}
			}
		}
	}
}

// TestPagesWords: a page says what happened here, and not what else has the same status.
func TestPagesWords(t *testing.T) {
	const (
		general = "<h1>This request cannot be answered</h1>"
		expired = "<h1>This sign-in has expired</h1>"
		forged  = "<h1>This request was not accepted</h1>"
	)
	page := []string{"Sec-Fetch-Mode: navigate"}
	token := "Authorization: Bearer " + sharedToken(nil)
	p := newFakeProvider(t)
	signIn, api := p.options(map[string]any{"loginUrl": "/login", "frontchannelLogoutUrl": "/front"}),
		jwtOptions(map[string]any{"signingSecret": tokenSecret})
	for _, row := range []struct {
		name    string
		options map[string]any
		path    string
		header  []string
		status  int
		words   []string
		never   string
	}{
		{"a callback of no sign-in", signIn, "/oidc/callback?code=a&state=b", page, 400, []string{expired, `<a href="/">Sign in again</a>`}, ""},
		{"a callback with two states", signIn, "/oidc/callback?code=a&state=b&state=c", page, 400, []string{general}, "<a"},
		{"a sign-in for another issuer", signIn, "/login?iss=x", page, 400, []string{general}, "<a"},
		{"a frame without sid", signIn, "/front?iss=x", page, 400, []string{general}, "<a"},
		{"two tokens", api, "/", append(page, token, token), 400, []string{general, "Send exactly one access token"}, "<a"},
		{"two tokens of a program", api, "/", []string{token, token}, 400,
			[]string{`"detail":"This request cannot be answered. Send exactly one access token, in one place`}, "sign"},
		{"a token that is no good", api, "/", append(page, token+"x"), 401,
			[]string{"<h1>This access token is not accepted</h1>"}, "<a"},
	} {
		res := newBrowser(t, start(t, row.options)).raw(row.path, row.header...)
		text, _ := io.ReadAll(res.Body)
		if res.StatusCode != row.status || !holdsAll(string(text), row.words) || row.never != "" && strings.Contains(string(text), row.never) {
			t.Errorf("%s: expected %d with %q and without %q, got %s\n%s", row.name, row.status, row.words, row.never, res.Status, text)
		}
	}

	_, b := signedIn(t, p, map[string]any{"csrf": map[string]any{}})
	for referer, back := range map[string]string{
		"https://app.example.com/form?a=1&b=2": "/form?a=1&amp;b=2", "": "/", "https://app.example.com": "/",
		"https://evil.example.com/form": "/", "https://app.example.com.evil.example/": "/", "//evil.example.com/": "/evil.example.com/",
	} {
		req := b.request(http.MethodPost, "/save", "a=1")
		req.Header.Set("Sec-Fetch-Mode", "navigate")
		req.Header.Set("Referer", referer)
		r := b.send(req, "same-origin", &reply{t: t}).expect(403, forged, `<a href="`+back+`">Load the page again</a>`)
		if strings.Contains(r.body, "someone else") || strings.Contains(r.body, "account") {
			t.Errorf("it speaks of accounts:\n%s", r.body)
		}
	}
	b.fetch(http.MethodPost, "/save", "a=1").expect(403, `"detail":"This request was not accepted. It did not come from a page of this site`)
}

func TestPagesCustomProblems(t *testing.T) {
	folder := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := []struct{ name, status, path, wantErr string }{
		{"no such file", "401", filepath.Join(folder, "none.html"), "errorPages.401: must be a readable HTML file: open "},
		{"a folder", "403", folder, "errorPages.403: must be a readable HTML file: must be a regular file of at most"},
		{"an empty file", "500", write("empty", nil), "errorPages.500: must be an HTML file, got an empty one: "},
		{"a file that is too large", "503", write("large", make([]byte, maxErrorPage+1)), "errorPages.503: must be an HTML file of at most 262144 bytes"},
		{"a picture", "403", write("picture", []byte{0xff, 0xd8, 0xff}), "errorPages.403: must be UTF-8 text, got other bytes: "},
		{"an endless file", "403", "/dev/zero", "errorPages.403: must be a readable HTML file: must be a regular file of at most"},
		{"the largest file", "403", write("largest", []byte(strings.Repeat("x", maxErrorPage))), ""},
		{"no name", "403", "", ""},
	}
	for _, test := range tests {
		p := &problems{}
		newPages(map[string]string{test.status: test.path}, p)
		err := p.err()
		if test.wantErr == "" && err != nil || test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)) {
			t.Errorf("%s: expected %q, got %v", test.name, test.wantErr, err)
		}
	}
	p := &problems{}
	newPages(map[string]string{"503": "/none/b", "401": "/none/a"}, p)
	if err := p.err().Error(); !strings.Contains(err, "errorPages.401: ") ||
		strings.Index(err, "errorPages.401") > strings.Index(err, "errorPages.503") {
		t.Errorf("both problems, in the order of their names: %s", err)
	}
}

func TestPagesRequestID(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-hjkmnp-tv-z]{10}$`)
	seen := map[string]bool{}
	for i := 0; i < 500; i++ {
		id := newRequestID()
		if !form.MatchString(id) || seen[id] {
			t.Fatalf("%q is not ten characters of the alphabet, or came before", id)
		}
		seen[id] = true
	}
}

func TestPagesScriptIsTheOneThatThePolicyNames(t *testing.T) {
	script := strings.TrimSuffix(strings.TrimPrefix(pageScript, "<script>"), "</script>")
	sum := sha256.Sum256([]byte(script))
	if pageScriptHash != "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'" {
		t.Error("the policy's hash is not that of the script")
	}
}
