package interpreted

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// What it costs in the interpreter when a JWT was not seen before. Nearly all of it is variables and intermediate values of the functions
// on the way: the interpreter makes all of a function's on each call, also those of branches that are not taken.

const newTokenCeiling = 2350 // allocations of such a request

// newTokens is a middleware that checks JWTs, and requests that bring as many different ones.
func newTokens(t testing.TB, count int) (http.Handler, []*http.Request) {
	t.Helper()
	p := newProvider(t)
	options := map[string]any{"jwt": map[string]any{"issuer": p.URL, "audience": "api", "claims": "Contains(`groups`, `admins`)", "usernameClaim": "email",
		"forwardHeaders": map[string]any{"X-User": "sub", "X-Email": "email"}}}
	handler, err := load(t).Build(context.Background(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), options, "api@file")
	if err != nil {
		t.Fatal(err)
	}
	requests := make([]*http.Request, count)
	for i := range requests {
		requests[i] = request("/", "")
		requests[i].Header.Set("Authorization", "Bearer "+p.sign(map[string]any{"iss": p.URL, "aud": "api", "sub": "ada", "email": "ada@example.com",
			"groups": []string{"admins", "staff"}, "jti": fmt.Sprint(i), "iat": time.Now().Unix(), "exp": time.Now().Unix() + 3600}))
	}
	return handler, requests
}

func TestNewTokenAllocations(t *testing.T) {
	const runs = 50
	handler, requests := newTokens(t, runs+2)
	rw := &silent{header: http.Header{}}
	at := 0
	serve := func() {
		handler.ServeHTTP(rw, requests[at])
		at++
	}
	serve() // fetches the keys
	count := testing.AllocsPerRun(runs, serve)
	t.Logf("%.0f allocations", count)
	for i, req := range requests {
		if req.Header.Get("X-User") != "ada" {
			t.Fatalf("request %d was not let in as ada", i)
		}
	}
	if count > newTokenCeiling {
		t.Errorf("%.0f allocations, at most %d", count, newTokenCeiling)
	}
}

func BenchmarkNewToken(b *testing.B) {
	handler, requests := newTokens(b, b.N+1)
	rw := &silent{header: http.Header{}}
	handler.ServeHTTP(rw, requests[b.N])
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime()
	for i := 0; i < b.N; i++ {
		handler.ServeHTTP(rw, requests[i])
	}
	b.ReportMetric(float64(processorTime()-before)/float64(b.N)/1e3, "cpu-µs/op")
}
