package oidc

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What is shared stays while a configuration has it, and for a while after: contexts end before their successors come.
func TestRegistryKeepsWhatIsShared(t *testing.T) {
	r := &registry{entries: map[string]*registryEntry{}, idleLimit: time.Hour, latest: context.Background()}
	first, end := context.WithCancel(context.Background())
	one, other := &store{prefix: "one"}, &store{prefix: "other"}
	if loadOrStore(first, r, "a", nil) != nil {
		t.Error("found before it was kept")
	}
	if got, _ := loadOrStore(first, r, "a", one).(*store); got != one {
		t.Error("not kept")
	}
	if got, _ := loadOrStore(first, r, "a", other).(*store); got != one {
		t.Error("replaced by a later one")
	}
	reload := func() { // the old contexts end, and b is asked for
		end()
		first, end = context.WithCancel(context.Background())
		loadOrStore(first, r, "b", other)
	}
	reload()
	if r.entries["a"] == nil || r.entries["a"].idleSince.IsZero() {
		t.Error("gone with its context, or not known to be idle")
	}
	if got, _ := loadOrStore(first, r, "a", nil).(*store); got != one || !r.entries["a"].idleSince.IsZero() {
		t.Error("not found by a successor")
	}
	reload()
	loadOrStore(first, r, "b", nil)
	if r.entries["a"] == nil || r.entries["a"].idleSince.IsZero() {
		t.Error("gone, or not known to be idle once more")
	}
	reload()
	if r.entries["a"] == nil {
		t.Error("gone before its time")
	}
	r.entries["a"].idleSince = time.Now().Add(-2 * time.Hour)
	loadOrStore(first, r, "b", nil)
	if r.entries["a"] == nil {
		t.Error("all were looked at once more within one reload")
	}
	reload()
	end()
	if r.entries["a"] != nil || r.entries["b"] == nil {
		t.Error("expected only what is in use after a while")
	}
}

// TestRegistryChangedFiles: a file that changed is a changed configuration, however the options name it.
func TestRegistryChangedFiles(t *testing.T) {
	dir := t.TempDir()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(here, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KEYS_PATH", filepath.Join(dir, "of the environment"))
	for name, option := range map[string]string{
		"absolute":           `{"clientSecret": "${file:` + dir + `/absolute}"}`,
		"relative":           `{"clientSecret": "${file:` + relative + `/relative}"}`,
		"R&D <x>":            `{"clientSecret": "${file:` + dir + `/R&D <x>}"}`,
		"with \" and \\":     `{"clientSecret": "${file:` + dir + `/with \" and \\}"}`,
		"one of a list":      `{"session": {"previousSecrets": ["Wm4kQz7TnX9bLr2vHs6YdF3jPc8gE1ua", "${file:` + dir + `/one of a list}"]}}`,
		"one of several":     `{"authParams": {"x": "y"}, "session": {"previousSecrets": "${file:` + dir + `/one of several},Wm4kQz7TnX9bLr2vHs6YdF3jPc8gE1ua"}}`,
		"keys":               `{"jwt": {"audience": "a", "JWKSFile": "` + relative + `/keys"}}`,
		"of the environment": `{"jwt": {"audience": "a", "jwksFile": "${KEYS_PATH}"}}`,
		"page&.html":         `{"errorPages": {"403": "` + relative + `/page&.html"}}`,
		"page.html":          `{"errorPages": "403=` + relative + `/page.html"}`,
		"a page.html":        `{"errorPages": "401=page.go, 403 = ` + relative + `/a page.html "}`,
		"with a $name":       `{"clientSecret": "${file:` + dir + `/with a $name}"}`,
	} {
		if name == "of the environment" && interpreted() {
			continue // whose environment is that of its start
		}
		file := filepath.Join(dir, name)
		write := func(text string) {
			if strings.Contains(option, "wks") || strings.Contains(option, "JWKS") {
				text = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"` + text + `","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("Tq7vX2mKf9RbW4sYzL1nHd8cJ3gP6uEa")
		first, err := findMiddleware(context.Background(), signIn(t, option), "login@file")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if same, _ := findMiddleware(context.Background(), signIn(t, option), "login@file"); same != first {
			t.Errorf("%s: a file that did not change is a new configuration", name)
		}
		write("Vk3hZ8wQn5TjM1xBr7FdL2sYcG9pU4aE0oNi")
		changed, err := findMiddleware(context.Background(), signIn(t, option), "login@file")
		if err != nil || changed == first || changed.cache.salt == first.cache.salt {
			t.Errorf("%s: nobody noticed that the file changed, or what the old one allowed is still known: %v", name, err)
			continue
		}
		before, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		write("Wk3hZ8wQn5TjM1xBr7FdL2sYcG9pU4aE0oNi") // as long, and of the same time, as `cp -p` leaves it
		if err := os.Chtimes(file, before.ModTime(), before.ModTime()); err != nil {
			t.Fatal(err)
		}
		if last, err := findMiddleware(context.Background(), signIn(t, option), "login@file"); err != nil || last == changed {
			t.Errorf("%s: nobody noticed that the content changed: %v", name, err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if _, err := findMiddleware(context.Background(), signIn(t, option), "login@file"); err == nil {
			t.Errorf("%s: accepted without its file", name)
		}
	}
}

// TestRegistrySurvivesAPanic, which would end Traefik's loop of configurations.
func TestRegistrySurvivesAPanic(t *testing.T) {
	inThisProcess(t)
	_, err := New(context.Background(), nil, nil, "broken@file")
	if err == nil || !strings.HasPrefix(err.Error(), "broken@file: a bug, please report it: ") {
		t.Errorf("got %v", err)
	}
}

// TestRegistryKeysAreHashes: what middlewares are found by is a hash of their options.
func TestRegistryKeysAreHashes(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	start(t, p.options())
	middlewares.mu.Lock()
	defer middlewares.mu.Unlock()
	for key := range middlewares.entries {
		if strings.Contains(key, p.clientSecret) {
			t.Error("a secret is in a key")
		}
	}
}

// TestRegistryStoreKeepsLogoutsForTheLongest: middlewares that share a store keep sign-outs for the longest session of all of them, and what
// Redis holds is not taken for granted at first.
func TestRegistryStoreKeepsLogoutsForTheLongest(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	for i, expiry := range []int{1000, 3000, 2000} {
		s := start(t, p.options(sessionOptions("expiry", expiry, "store", map[string]any{"redis": map[string]any{"endpoints": []string{"127.0.0.1:1"}}})))
		shared := testMiddlewareOf(s).store
		want := []time.Duration{1000, 3000, 3000}[i] * time.Second
		if shared.logoutLifetime != want || !shared.redis.mayHaveLostWrites {
			t.Errorf("after one of %d s: %s, expected %s; may have lost writes: %v", expiry, shared.logoutLifetime, want, shared.redis.mayHaveLostWrites)
		}
	}
}

// TestRegistryKeepsWhatMiddlewaresUse: what a middleware shares stays for as long as that middleware is there, however long ago it was built.
// Otherwise the next one with the same secret would not know who was signed out.
func TestRegistryKeepsWhatMiddlewaresUse(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	options := func(more map[string]any) map[string]any {
		return p.options(sessionOptions("secret", "Tq7vX2mKf9RbW4sYzL1nHd8cJ3gP6uEa"), more)
	}
	another := p.options(sessionOptions("secret", "Vk3hZ8wQn5TjM1xBr7FdL2sYcG9pU4aE"))
	reload := func(ctx context.Context, name string, of map[string]any) *middleware {
		m, err := findMiddleware(ctx, of, name)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	first, end := context.WithCancel(context.Background())
	built := reload(first, "one@file", options(nil))
	for day := 0; day < 4; day++ {
		end()
		first, end = context.WithCancel(context.Background())
		sharedParts.mu.Lock()
		for _, entry := range sharedParts.entries { // a day has passed, and more
			if !entry.idleSince.IsZero() {
				entry.idleSince = entry.idleSince.Add(-25 * time.Hour)
			}
		}
		sharedParts.mu.Unlock()
		reload(first, "other@file", mergeClaims(another, map[string]any{"usernameClaim": fmt.Sprint("day", day)})) // something changes each day
		if reload(first, "one@file", options(nil)) != built {
			t.Fatalf("day %d: it is another one, with the same options", day)
		}
	}
	defer end()
	changed := reload(first, "one@file", options(map[string]any{"usernameClaim": "sub"}))
	if changed == built || changed.sessions.state != built.sessions.state {
		t.Error("with another option, nobody knows who was signed out")
	}
	if changed.sessions.client != built.sessions.client {
		t.Error("with another option, the provider is asked again")
	}
}

// TestRegistryForgetsOldConfigurations: of a hundred middlewares whose options change with every reload, only those of the last two are held,
// and nothing of the others but what happened to sessions. The cache of principals is as large as those ask for that are left.
func TestRegistryForgetsOldConfigurations(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	const count, reloads = 100, 50
	ctx, end := context.WithCancel(context.Background())
	registered := func() int {
		middlewares.mu.Lock()
		defer middlewares.mu.Unlock()
		return len(middlewares.entries)
	}
	reload := func(i, memory int) {
		end()
		ctx, end = context.WithCancel(context.Background())
		for j := 0; j < count; j++ {
			options := p.options(headersFor("X-User", fmt.Sprint("claim", i)), map[string]any{"logLevel": "error", "memory": memory})
			m, err := findMiddleware(ctx, options, fmt.Sprint("login", j, "@file"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := rememberPrincipal(ctx, nil, m.cache, fmt.Sprint("s=", j), &principal{sessionID: fmt.Sprint(j)}, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := 0; i < 3; i++ { // what other tests have left goes first
		reload(-1-i, 300)
	}
	others := registered() - 2*count
	principalsLock.RLock()
	if principalsCapacity != 300<<20 {
		t.Errorf("%d bytes for principals, 300 MB were asked for", principalsCapacity)
	}
	principalsLock.RUnlock()
	before := heapNow()
	for i := 0; i < reloads; i++ {
		principalsLock.Lock()
		linesSince = time.Now().Add(-2 * lineLifetime) // a while later
		principalsLock.Unlock()
		reload(i, 100)
	}
	defer end()
	if n := registered() - others; n != 2*count {
		t.Errorf("%d middlewares are registered, expected those of two reloads", n)
	}
	principalsLock.RLock()
	if principalsCapacity != 100<<20 {
		t.Errorf("%d bytes for principals, 100 MB are asked for now", principalsCapacity)
	}
	if n := len(recentPrincipals.byKey) + len(formerPrincipals.byKey); n > 4*count {
		t.Errorf("%d principals of %d reloads are still there", n, reloads)
	}
	principalsLock.RUnlock()
	if held := heapNow() - before; held > 2<<20 {
		t.Errorf("after %d reloads %d bytes more are held", reloads, held)
	}
}
