package oidc

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What the memories really hold, beside what they count. A part of a text keeps the whole text in memory, so nothing that a client sent may
// be kept as a part of something longer.

// readByServer is a request as Go's server reads it.
func readByServer(t *testing.T, text string) *http.Request {
	t.Helper()
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// TestMemoryOfJOSEHeaders: of a forged token only its short header is kept, not the long rest that it came in.
func TestMemoryOfJOSEHeaders(t *testing.T) {
	inThisProcess(t)
	rest := strings.Repeat("x", maxTokenSize-100)
	before := heapNow()
	for i := 0; i < 1000; i++ {
		_, _ = parseToken(encodeSegment(map[string]any{"alg": "RS256", "kid": fmt.Sprint(i)}) + "." + rest + ".")
	}
	if held := heapNow() - before; held > 1<<20 {
		t.Errorf("%d bytes are held of a thousand forged tokens", held)
	}
}

// TestMemoryOfHosts: of a request in absolute form (RFC 9112 3.2.2) only its host is kept, not the address that it is a part of.
func TestMemoryOfHosts(t *testing.T) {
	inThisProcess(t)
	pc := &principalCache{hosts: map[string]map[string]*principal{}, byHeaderLine: map[string]*principal{}}
	before := heapNow()
	for i := 0; i < maxHosts; i++ {
		req := readByServer(t, fmt.Sprintf("GET http://host-%d.example.com/%s HTTP/1.1\r\nHost: x\r\n\r\n", i, strings.Repeat("x", 30000)))
		cacheHost(pc, req.Host)
	}
	if held := heapNow() - before; len(pc.hosts) != maxHosts || held > 1<<20 {
		t.Errorf("%d hosts hold %d bytes", len(pc.hosts), held)
	}
}

// TestMemoryOfTokensInQueries: a token that the upstream gets from memory does not keep the long query that it came in.
func TestMemoryOfTokensInQueries(t *testing.T) {
	inThisProcess(t)
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenSource": map[string]any{"query": "token"},
		"forwardHeaders": map[string]any{"X-Token": "{access_token}"}}))
	h := s.handler.Load().(*testHandler).handler
	const count = 100
	var tokens []string
	for i := 0; i < count; i++ {
		tokens = append(tokens, sharedToken(map[string]any{"sub": fmt.Sprint("user-", i)}))
	}
	before := heapNow()
	for i, token := range tokens {
		rw := httptest.NewRecorder()
		h.ServeHTTP(rw, readByServer(t, fmt.Sprintf("GET /?token=%s&x=%s HTTP/1.1\r\nHost: app.example.com\r\nX-Forwarded-Proto: https\r\n\r\n", token, strings.Repeat("x", 40000))))
		if rw.Code != http.StatusOK {
			t.Fatalf("request %d: got %d %s", i, rw.Code, rw.Body)
		}
	}
	if held := heapNow() - before; held > 2<<20 {
		t.Errorf("%d bytes are held of %d tokens of %d bytes", held, count, len(tokens[0]))
	}
}
