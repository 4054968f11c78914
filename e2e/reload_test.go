package e2e

import (
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// TestReloadUnderLoad: a hundred changes of the dynamic configuration fail no request of somebody who is signed in, and
// leave nothing behind. It has a Traefik of its own, whose goroutines and memory nobody else uses.
func TestReloadUnderLoad(t *testing.T) {
	l := start(t)
	traefik, err := l.newTraefik("reload", parts.TraefikOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer traefik.Stop()
	own := &lab{root: l.root, dir: l.dir, ca: l.ca, traefik: traefik, provider: l.provider, upstream: l.upstream}
	app := own.serve(t, site{})
	alice := app.visitor(t)
	alice.signIn("/", provider.Alice)

	reload := func(times int) {
		for i := range times {
			// A rule that changes makes Traefik build every router, and the plugin for each, anew.
			rule := "HOST && PathPrefix(`/`) && !Path(`/" + strconv.Itoa(i%2) + "`)"
			if err := app.set(site{rule: rule, with: with{"logLevel": "warn"}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	reload(10) // what is made once is made now
	before := footprint(t, traefik)
	counted, _ := traefik.Reloads()

	var failed, served atomic.Int64
	var load sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				served.Add(1)
				if page, err := alice.Fetch(http.MethodGet, app.URL+"/page", "", nil); err != nil || page.Status != http.StatusOK {
					failed.Add(1)
				}
			}
		})
	}
	reload(100)
	close(stop)
	load.Wait()
	if failed.Load() > 0 || served.Load() < 100 {
		t.Errorf("%d of %d requests failed during the reloads", failed.Load(), served.Load())
	}
	if now, _ := traefik.Reloads(); now-counted < 100 {
		t.Errorf("Traefik reloaded %d times only", now-counted)
	}
	after := footprint(t, traefik)
	t.Logf("%d requests; goroutines %d, then %d; heap %d KB, then %d KB", served.Load(), before.goroutines, after.goroutines, before.heap>>10, after.heap>>10)
	// A goroutine for each router and reload would be 200; the heap of a middleware for each, more than 10 MB.
	if after.goroutines > before.goroutines+25 {
		t.Errorf("goroutines grew from %d to %d", before.goroutines, after.goroutines)
	}
	if after.heap > before.heap+8<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before.heap, after.heap)
	}
}

type size struct{ goroutines, heap int }

var (
	goroutineTotal = regexp.MustCompile(`goroutine profile: total (\d+)`)
	heapInUse      = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)`)
)

// footprint asks Traefik for its goroutines and for its heap after a collection. Idle connections are given time to go.
func footprint(t *testing.T, traefik *parts.Traefik) size {
	t.Helper()
	time.Sleep(time.Second)
	read := func(profile string, pattern *regexp.Regexp) int {
		text, err := traefik.Profile(profile)
		if err != nil {
			t.Fatal(err)
		}
		found := pattern.FindStringSubmatch(text)
		if found == nil {
			t.Fatalf("the %s profile has no %s", profile, pattern)
		}
		n, _ := strconv.Atoi(found[1])
		return n
	}
	for range 2 { // what has a finalizer goes in the second
		if _, err := traefik.Profile("heap"); err != nil {
			t.Fatal(err)
		}
	}
	return size{read("goroutine", goroutineTotal), read("heap", heapInUse)}
}
