package interpreted

import (
	"context"
	"net/http"
	"runtime"
	"testing"
)

// What the first request of a session costs in the interpreter: that of everybody after a restart.

const (
	newSessionCeiling = 1645     // allocations of such a request; less than half of what it costs when the tokens must be read and judged
	newSessionBytes   = 80 << 10 // which the collector has to clear away: with a heap as small as Traefik's that is half of the price
)

func TestNewSessionAllocations(t *testing.T) {
	const runs = 50
	p := newProvider(t)
	handler, err := load(t).Build(context.Background(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), p.options(), "login@file")
	if err != nil {
		t.Fatal(err)
	}
	var requests []*http.Request
	for range runs + 2 {
		requests = append(requests, request("/", signIn(t, p, handler)))
	}
	rw := &silent{header: http.Header{}}
	at := 0
	serve := func() {
		handler.ServeHTTP(rw, requests[at])
		at++
	}
	serve()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	count := testing.AllocsPerRun(runs, serve)
	runtime.ReadMemStats(&after)
	size := (after.TotalAlloc - before.TotalAlloc) / (runs + 1)
	t.Logf("%.0f allocations, %d bytes", count, size)
	if size > newSessionBytes {
		t.Errorf("%d bytes, at most %d", size, newSessionBytes)
	}
	for i, req := range requests {
		if req.Header.Get("X-User") != "ada" {
			t.Fatalf("request %d was not let in as ada", i)
		}
	}
	if count > newSessionCeiling {
		t.Errorf("%.0f allocations, at most %d", count, newSessionCeiling)
	}
}
