package oidc

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestCSRF(t *testing.T) {
	p := newFakeProvider(t)
	_, b := signedIn(t, p, map[string]any{"csrf": map[string]any{}})
	c := b.cookie("hub-csrf-token")
	if c == nil || c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode {
		t.Fatalf("expected a cookie for scripts of this site, got %v", c)
	}
	send := func(b *browser, method, token string) int {
		req := b.request(method, "/", "a=1")
		req.Header.Set("Sec-Fetch-Mode", "cors")
		if token != "" {
			req.Header.Set("Hub-Csrf-Token", token)
		}
		return b.send(req, "same-origin", &reply{t: t}).status
	}
	_, other := signedIn(t, p, map[string]any{"csrf": map[string]any{}})
	for _, try := range []struct {
		name, method, token string
		status              int
	}{
		{"reading needs none", http.MethodGet, "", 200}, {"neither does looking", http.MethodHead, "", 200}, {"nor asking", http.MethodOptions, "", 200},
		{"writing does", http.MethodPost, "", 403}, {"so does deleting", http.MethodDelete, "", 403}, {"and putting", http.MethodPut, "", 403},
		{"and a method of one's own", "PURGE", "", 403},
		{"the cookie's value", http.MethodPost, c.Value, 200}, {"a changed one", http.MethodPost, flipped(c.Value), 403},
		{"another session's", http.MethodPost, other.cookie("hub-csrf-token").Value, 403},
	} {
		if got := send(b, try.method, try.token); got != try.status {
			t.Errorf("%s: expected %d, got %d", try.name, try.status, got)
		}
	}
	planted := b.copyOf()
	planted.setCookie("hub-csrf-token", other.cookie("hub-csrf-token").Value)
	if got := send(planted, http.MethodPost, other.cookie("hub-csrf-token").Value); got != http.StatusForbidden {
		t.Errorf("a planted pair: expected 403, got %d", got)
	}
	r := b.fetch(http.MethodGet, "/", "")
	if strings.Contains(r.upstream().Headers.Get("Cookie"), "session") {
		t.Errorf("got %q", r.upstream().Headers)
	}
	b.setCookie("x-hub-csrf-token", "of somebody else")
	for i := 0; i < 8; i++ { // until the session is known by its cookie alone
		b.setCookie("a", fmt.Sprint(i))
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	for key, kept := range b.cookies {
		if kept.Name == "hub-csrf-token" {
			delete(b.cookies, key) // as a script may
		}
	}
	b.fetch(http.MethodGet, "/", "").upstream()
	if again := b.cookie("hub-csrf-token"); again == nil || again.Value == "" || send(b, http.MethodPost, again.Value) != http.StatusOK {
		t.Errorf("whoever lost the token got %v", again)
	}
}

func TestCSRFOptions(t *testing.T) {
	p := newFakeProvider(t)
	_, b := signedIn(t, p, map[string]any{"csrf": map[string]any{"headerName": "X-Token", "cookieName": "token"}})
	req := b.request(http.MethodPost, "/", "a=1")
	req.Header.Set("X-Token", b.cookie("token").Value)
	b.send(req, "same-origin", &reply{t: t}).upstream()
	_, label := signedIn(t, p, map[string]any{"csrf": "true"})
	label.fetch(http.MethodPost, "/", "").expect(http.StatusForbidden)
}

// A token that a browser adds by itself, from a cookie, is no better than a session.
func TestCSRFOfTokensInCookies(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"csrf": map[string]any{}},
		map[string]any{"jwt": map[string]any{"signingSecret": tokenSecret, "audience": "api",
			"tokenSource": map[string]any{"cookie": "app-token"}, "tokenKey": "t"}}))
	b := newBrowser(t, s)
	for i, claims := range []map[string]any{{"sub": "ada", "aud": "api"}, {"sub": "ada", "aud": "api", "jti": "another"},
		{"sub": "eve", "aud": "api"}, {"sub": nil, "aud": "api"}, {"sub": nil, "aud": "api", "jti": "of another"}} {
		b.setCookie("app-token", sharedToken(claims))
		if before := b.cookie("hub-csrf-token"); i > 1 { // of somebody else
			req := b.request(http.MethodPost, "/", "a=1")
			req.Header.Set("Hub-Csrf-Token", before.Value)
			b.send(req, "same-origin", &reply{t: t}).expect(http.StatusForbidden)
		}
		b.open("/").upstream()
		c := b.cookie("hub-csrf-token")
		if c == nil {
			t.Fatalf("%v: no CSRF token was given", claims)
		}
		b.fetch(http.MethodPost, "/", "").expect(http.StatusForbidden)
		req := b.request(http.MethodPost, "/", "a=1")
		req.Header.Set("Hub-Csrf-Token", c.Value)
		if got := b.send(req, "same-origin", &reply{t: t}).status; got != http.StatusOK {
			t.Errorf("%v: with the CSRF token: %d", claims, got)
		}
	}
	// What is in a query is added by nobody.
	api := newBrowser(t, s)
	api.fetch(http.MethodPost, "/?t="+sharedToken(map[string]any{"sub": "ada", "aud": "api"}), "").upstream()
}

// Two middlewares of one host have one CSRF cookie, and a neighbour may plant one: the next page mends it, and nobody is locked out.
func TestCSRFBesideOthers(t *testing.T) {
	p := newFakeProvider(t)
	on := map[string]any{"csrf": map[string]any{}}
	_, one := signedIn(t, p, on)
	_, two := signedIn(t, p, on)
	post := func(b *browser, value string) int {
		req := b.request(http.MethodPost, "/", "a=1")
		req.Header.Set("Sec-Fetch-Mode", "cors")
		req.Header.Set("Hub-Csrf-Token", value)
		return b.send(req, "same-origin", &reply{t: t}).status
	}
	share := func(from, to *browser) { to.setCookie("hub-csrf-token", from.cookie("hub-csrf-token").Value) }
	for i := 0; i < 3; i++ { // as one browser would, with a page of each in turn
		share(one, two)
		two.open("/").upstream()
		share(two, one)
		one.open("/").upstream()
		share(one, two)
	}
	value := one.cookie("hub-csrf-token").Value
	if got, other := post(one, value), post(two, value); got != 200 || other != 200 || strings.Count(value, "~") != 1 {
		t.Errorf("with %q one gets %d, the other %d", value, got, other)
	}
	for _, planted := range []string{"x", "x~y", strings.Repeat("~", 3000),
		strings.Repeat(newCSRFToken([]byte("k"), "s", strings.Repeat("a", 22))+"~", 20)} {
		one.setCookie("hub-csrf-token", planted)
		one.fetch(http.MethodGet, "/", "").upstream()
		if got := post(one, planted); got != http.StatusForbidden {
			t.Errorf("a planted %.40q: got %d", planted, got)
		}
		one.open("/").upstream()
		value := one.cookie("hub-csrf-token").Value
		if got := post(one, value); got != http.StatusOK || len(value) > 66*maxCSRFTokens+10 {
			t.Errorf("after a planted %.40q: got %d with %q", planted, got, value)
		}
	}
}
