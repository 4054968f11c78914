package provider

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Front stands before a provider, ours or another process. It counts and keeps what comes in, and plays the accidents of
// a network: a provider that is away, slow, or answers something else.
type Front struct {
	next http.Handler

	mu      sync.Mutex
	calls   []Call
	away    bool
	latency time.Duration
	instead map[string]http.HandlerFunc
}

// Call is one request that a provider received.
type Call struct {
	Endpoint string // the last element of its path: token, jwks, openid-configuration, …
	Method   string
	Header   http.Header
	Query    url.Values
	Form     url.Values // of the body
}

// Client is who the call is from, by any way of saying so.
func (c Call) Client() string {
	if id := c.Form.Get("client_id"); id != "" {
		return id
	}
	if id := c.Query.Get("client_id"); id != "" {
		return id
	}
	request := http.Request{Header: c.Header}
	id, _, _ := request.BasicAuth()
	if plain, err := url.QueryUnescape(id); err == nil { // RFC 6749 2.3.1: form-encoded before base64
		return plain
	}
	return id
}

// NewFront puts a front before next.
func NewFront(next http.Handler) *Front {
	return &Front{next: next, instead: map[string]http.HandlerFunc{}}
}

func (f *Front) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	call := readCall(req)
	f.mu.Lock()
	f.calls = append(f.calls, call)
	away, latency, instead := f.away, f.latency, f.instead[call.Endpoint]
	f.mu.Unlock()

	select {
	case <-time.After(latency):
	case <-req.Context().Done():
		return
	}
	switch {
	case away:
		http.Error(rw, "the provider is away", http.StatusServiceUnavailable)
	case instead != nil:
		instead(rw, req)
	default:
		f.next.ServeHTTP(rw, req)
	}
}

// readCall copies what a test may want to see, and leaves the request as it was.
func readCall(req *http.Request) Call {
	call := Call{
		Endpoint: req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:],
		Method:   req.Method,
		Header:   req.Header.Clone(),
		Query:    req.URL.Query(),
	}
	if req.Body != nil && strings.HasPrefix(req.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		body, _ := io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(body))
		call.Form, _ = url.ParseQuery(string(body))
	}
	return call
}

// Calls returns what came in at an endpoint, in order. With a client, only its calls.
func (f *Front) Calls(endpoint string, client ...string) []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []Call
	for _, call := range f.calls {
		if call.Endpoint == endpoint && (len(client) == 0 || call.Client() == client[0]) {
			found = append(found, call)
		}
	}
	return found
}

// Grants counts the calls of the token endpoint for one grant type, by one client if one is given.
func (f *Front) Grants(grantType string, client ...string) int {
	n := 0
	for _, call := range f.Calls("token", client...) {
		if call.Form.Get("grant_type") == grantType {
			n++
		}
	}
	return n
}

// Forget drops the calls that came in so far: a rig that runs for hours keeps none.
func (f *Front) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = nil
}

// Away makes every answer a 503 until it is called with false.
func (f *Front) Away(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
}

// Slow makes every answer wait.
func (f *Front) Slow(latency time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latency = latency
}

// Instead lets handler answer at an endpoint; nil gives it back to the provider.
func (f *Front) Instead(endpoint string, handler http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.instead[endpoint] = handler
}

// Pass is for a handler of Instead that only wants to look, or to change the answer: it asks the provider.
func (f *Front) Pass(rw http.ResponseWriter, req *http.Request) { f.next.ServeHTTP(rw, req) }
