package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// ownErrorPage is an operator's page that has every placeholder, as text and in an attribute, and a brace that is none.
const ownErrorPage = `<!doctype html>
<html lang="fr">
<meta charset="utf-8">
<title>Pas d’accès</title>
<style>body { margin: 2rem; color: rgb(1, 2, 3) }</style>
<h1 title="{title}">Pas d’accès</h1>
<p id="status">{status}</p><p id="title">{title}</p><p id="detail">{detail}</p><p id="id">{id}</p><p id="retry">{retry}</p>
<p><a id="action" href="{action}">Continuer</a> <span id="actions">{actions}</span> {braces}
<script>document.title = "écrit par son script"</script>
</html>`

// TestBrowserErrorPages: an operator's page gets its placeholders filled and works as it was written, scripts and all; what the
// request says does not get into it.
func TestBrowserErrorPages(t *testing.T) {
	t.Parallel()
	l := start(t)
	file := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(file, []byte(ownErrorPage), 0o644); err != nil {
		t.Fatal(err)
	}
	app := l.serve(t, peopled(with{"claims": "Contains(`groups`, `admins`)", "errorPages": map[string]any{"403": file}}))
	tab := app.window(t).tab()
	path := `/page?<script>alert(1)</script>"'{id}{status}`
	tab.open(path)
	tab.signIn(provider.Bob)
	tab.see("Pas d’accès")
	text := tab.texts()
	for id, want := range map[string]string{
		"status": "403", "title": "You do not have access here", "retry": "", "actions": "Sign in as someone else", "action": "Continuer",
	} {
		if text[id] != want {
			t.Errorf("{%s} became %q, expected %q", id, text[id], want)
		}
	}
	if !strings.HasPrefix(text["detail"], "You are signed in, but this account") {
		t.Errorf("{detail} became %q", text["detail"])
	}
	if len(text["id"]) != 10 || !strings.Contains(app.log(), "(reference "+text["id"]+")") {
		t.Errorf("{id} became %q, and that is not in the log:\n%s", text["id"], app.log())
	}
	var seen struct {
		Title, Tip, Body string
		Colour           string
		Scripts          int
	}
	tab.evaluate(`({ title: document.title, tip: document.querySelector("h1").title, body: document.body.innerText,
		colour: getComputedStyle(document.body).color, scripts: document.scripts.length })`, &seen)
	if seen.Title != "écrit par son script" || seen.Colour != "rgb(1, 2, 3)" || seen.Tip != text["title"] || !strings.Contains(seen.Body, "{braces}") || seen.Scripts != 1 {
		t.Errorf("the page is not what was written: %+v", seen)
	}
	tab.click("Continuer")
	tab.signIn(provider.Alice)
	tab.see(youAreAlice)
	var address string
	if tab.evaluate("decodeURI(location.href)", &address); address != app.URL+path {
		t.Errorf("the sign-in as somebody else ended at %s", address)
	}
}

// texts is what is written in the elements of the page that have an id.
func (t *tab) texts() map[string]string {
	t.t.Helper()
	text := map[string]string{}
	t.evaluate(`Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element.textContent]))`, &text)
	return text
}

// TestBrowserErrorPageExamples: each example page is reached by a person, reads as its own language only, and leads where the
// built-in page leads, in every look and without a mouse.
func TestBrowserErrorPageExamples(t *testing.T) {
	t.Parallel()
	l := start(t)
	files, err := filepath.Glob(filepath.Join(l.root, "examples", "error-pages", "*.html"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no example: %v", err)
	}
	pages := ownPages(t)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".html")
		status, err := strconv.Atoi(name)
		if err != nil {
			t.Errorf("%s is named after no status", file)
			continue
		}
		page := pageOf(t, pages, status)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app, tab := page.reached(t, with{"errorPages": map[string]any{name: file}})
			var seen struct{ Language, Text string }
			tab.evaluate(`({ language: document.documentElement.lang, text: document.body.innerText })`, &seen)
			if seen.Language == "en" || seen.Language == "" || strings.Contains(seen.Text, page.title) || strings.ContainsAny(seen.Text, "{}") {
				t.Errorf("the page is in %q, and says:\n%s", seen.Language, seen.Text)
			}
			for _, look := range looks {
				tab.lookAt("example-"+name, look)
			}
			tab.do("evaluate", "document.activeElement.blur()")
			tab.press("Tab")
			page.leadsOn(app, tab)
		})
	}
}

// pageOf finds the first page with a status.
func pageOf(t *testing.T, pages []ownPage, status int) ownPage {
	t.Helper()
	for _, page := range pages {
		if page.status == status {
			return page
		}
	}
	t.Fatalf("we have no page with status %d", status)
	return ownPage{}
}

// TestBrowserTriesAgain: who waits on the page that says that signing in is not possible need not do anything.
func TestBrowserTriesAgain(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, withProvider(t, peopled(nil)))
	app.provider.Away(true)
	tab := app.window(t).tab()
	tab.open("/page?n=1")
	tab.see("Signing in is not possible right now")
	app.provider.Away(false)
	began := time.Now()
	tab.signIn(provider.Alice)
	tab.isAt("/page?n=1")
	tab.see(youAreAlice)
	t.Logf("signed in %s after the provider is back", fmt.Sprint(time.Since(began).Round(time.Second)))
}
