package interpreted

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"
)

// What it costs in the interpreter when a JWT was not seen before. Nearly all of it is variables and intermediate values of the functions
// on the way: the interpreter makes all of a function's on each call, also those of branches that are not taken.

const newTokenCeiling = 1850 // allocations of such a request

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

// sharedTokens is a middleware that checks JWTs of a shared secret, with these options beside, and as many header lines.
func sharedTokens(t *testing.T, count int, options map[string]any) (http.Handler, []string) {
	t.Helper()
	const secret = "a secret of thirty-two bytes, or so"
	options["jwt"] = map[string]any{"signingSecret": secret, "audience": "api", "forwardHeaders": map[string]any{"X-User": "sub", "X-Email": "email"}}
	handler, err := load(t).Build(context.Background(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), options, "api@file")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	encode := base64.RawURLEncoding.EncodeToString
	for i := range count {
		signed := encode([]byte(`{"alg":"HS256"}`)) + "." + encode(fmt.Appendf(nil, `{"aud":"api","sub":"user-%d","email":"user-%d@example.com","exp":%d,"more":"%0400d"}`, i, i, time.Now().Unix()+3600, i))
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(signed))
		lines = append(lines, "Bearer "+signed+"."+encode(mac.Sum(nil)))
	}
	return handler, lines
}

// TestMoreTokensThanLines: of tokens in turn, those whose header line finds no room cost little more than the others.
func TestMoreTokensThanLines(t *testing.T) {
	const settledCeiling = 116 // allocations of such a request
	handler, lines := sharedTokens(t, 300, map[string]any{"memory": 1})
	rw := &silent{header: http.Header{}}
	serve := func(line string) *http.Request {
		req := request("/", "")
		req.Header.Set("Authorization", line)
		handler.ServeHTTP(rw, req)
		return req
	}
	for range 3 { // the first looks judge the token, keep its line, or find that there is no room
		for _, line := range lines {
			serve(line)
		}
	}
	others := testing.AllocsPerRun(100, func() { request("/", "").Header.Set("Authorization", lines[0]) })
	least, most := float64(settledCeiling), 0.0
	for _, line := range lines {
		count := testing.AllocsPerRun(2, func() { serve(line) }) - others
		least, most = min(least, count), max(most, count)
	}
	t.Logf("%.0f to %.0f allocations", least, most)
	if most > settledCeiling {
		t.Errorf("%.0f allocations, at most %d", most, settledCeiling)
	}
	if least > ceiling || most <= ceiling {
		t.Errorf("%.0f to %.0f allocations: either all lines find room, or none", least, most)
	}
}

// TestManyTokens: twenty thousand different tokens that come in turn cost each hardly more than a thousand do, once they were seen.
func TestManyTokens(t *testing.T) {
	const many, few = 20000, 1000
	handler, lines := sharedTokens(t, many, map[string]any{})
	rw := &silent{header: http.Header{}}
	round := func(count int) time.Duration {
		begin := processorTime()
		for i := range many {
			req := request("/", "")
			req.Header.Set("Authorization", lines[i%count])
			handler.ServeHTTP(rw, req)
			if req.Header.Get("X-User") == "" {
				t.Fatalf("token %d was refused", i%count)
			}
		}
		return (processorTime() - begin) / many
	}
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	round(few)
	known := round(few)
	before := heap()
	unseen := round(many)
	held := heap() - before
	round(many)
	turn := round(many)
	t.Logf("a request with one of %d tokens: %s, of %d: %s; with one never seen: %s; %d bytes each", few, known, many, turn, unseen, held/(many-few))
	if turn > unseen/2 {
		t.Errorf("%s for one of %d in turn, %s for one never seen: they are forgotten", turn, many, unseen)
	}
}
