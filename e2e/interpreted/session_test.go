package interpreted

import (
	"context"
	"net/http"
	"testing"
)

// What the first request of a session costs in the interpreter: that of everybody after a restart.

const newSessionCeiling = 1700 // allocations of such a request; half of what it costs when the tokens must be read and judged

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
	count := testing.AllocsPerRun(runs, serve)
	t.Logf("%.0f allocations", count)
	for i, req := range requests {
		if req.Header.Get("X-User") != "ada" {
			t.Fatalf("request %d was not let in as ada", i)
		}
	}
	if count > newSessionCeiling {
		t.Errorf("%.0f allocations, at most %d", count, newSessionCeiling)
	}
}
