package oidc

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestDelayedIsAwaited: a provider that is slower than timeoutSeconds has rotated the refresh token by the time it answers. Who began the
// refresh goes on with the tokens there are, and the next request takes the answer, over https as well, whatever else is asked meanwhile.
func TestDelayedIsAwaited(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.expiresIn = 2
	options := map[string]any{"clientConfig": map[string]any{"timeoutSeconds": 3}}
	s, b := signedIn(t, p, headersFor("X-Token", "access_token"), map[string]any{"forwardHeaders": map[string]any{"X-Token": "{access_token}"}}, options)
	old := b.fetch(http.MethodGet, "/", "").upstream().Headers.Get("X-Token")
	p.answer("token", func(rw http.ResponseWriter, req *http.Request) {
		time.Sleep(10 * time.Second)
		p.answer("token", nil)
		p.usual("token", rw, req)
	})
	p.expiresIn = 300
	time.Sleep(2100 * time.Millisecond)
	began := time.Now()
	got := b.fetch(http.MethodGet, "/", "").upstream().Headers.Get("X-Token")
	if took := time.Since(began); got != old || took > 8*time.Second {
		t.Errorf("who began the refresh got another token: %v, after %s", got != old, took)
	}
	began = time.Now()
	b.fetch(http.MethodGet, "/", "").upstream()
	if took := time.Since(began); took > 2500*time.Millisecond {
		t.Errorf("the next one waited for %s", took)
	}
	eventually(t, "another token", func() bool { return b.fetch(http.MethodGet, "/", "").upstream().Headers.Get("X-Token") != old })
	if p.count("token") != 2 {
		t.Errorf("%d calls of the token endpoint", p.count("token"))
	}
	s.expectLog("no answer in time yet")
}

// TestDelayedBesideHTTP2: nearly every provider offers HTTP/2 in the TLS handshake, and its documents are fetched with it.
func TestDelayedBesideHTTP2(t *testing.T) {
	t.Parallel()
	p := unstartedProvider()
	p.Server.EnableHTTP2 = true
	p.Server.StartTLS()
	p.issuer = p.URL
	t.Cleanup(func() { p.stop() })
	p.expiresIn = 2
	s := start(t, p.options(headersFor("X-Token", "{access_token}"),
		map[string]any{"clientConfig": map[string]any{"tls": map[string]any{"ca": caOf(p)}}}))
	b := newBrowser(t, s)
	b.client.Transport = p.Client().Transport
	b.signIn("/")
	old := b.fetch(http.MethodGet, "/", "").upstream().Headers.Get("X-Token")
	time.Sleep(2100 * time.Millisecond)
	if got := b.fetch(http.MethodGet, "/", "").upstream().Headers.Get("X-Token"); got == "" || got == old || p.count("token") != 2 {
		t.Errorf("not refreshed: token %q, %d calls of the token endpoint\n%s", got, p.count("token"), s.logs())
	}
}

// TestDelayedHasASize: an answer without an end is not read to it, whichever part of it has none.
func TestDelayedHasASize(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"X-A: " + strings.Repeat("a", 1000) + "\r\n", "\r\nHTTP/1.1 103 Early Hints\r\n", "\r\n" + strings.Repeat("b", 1000)} {
		p := newFakeProvider(t)
		p.expiresIn = 2
		_, b := signedIn(t, p, map[string]any{"clientConfig": map[string]any{"timeoutSeconds": 5}})
		sent := make(chan int, 1)
		p.answer("token", func(rw http.ResponseWriter, req *http.Request) {
			conn, _, _ := rw.(http.Hijacker).Hijack()
			defer conn.Close()
			n, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			all := 0
			if strings.Contains(part, "103") {
				n, err = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\n")
			}
			for ; err == nil && all < 64<<20; n, err = io.WriteString(conn, strings.Repeat(part, 100)) {
				all += n
			}
			sent <- all
		})
		time.Sleep(2100 * time.Millisecond)
		b.fetch(http.MethodGet, "/", "").upstream()
		if all := <-sent; all > 32<<20 {
			t.Errorf("%.12q…: read %d MiB of it", part, all>>20)
		}
	}
}

// TestDelayedHasAnEnd: an answer that never comes is given up, and asked for again.
func TestDelayedHasAnEnd(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.expiresIn = 2
	s, b := signedIn(t, p, map[string]any{"exchangeTimeoutSeconds": 5, "clientConfig": map[string]any{"timeoutSeconds": 3}})
	p.answer("token", answerNothing())
	time.Sleep(2100 * time.Millisecond)
	b.fetch(http.MethodGet, "/", "").upstream()
	time.Sleep(2100 * time.Millisecond)
	b.fetch(http.MethodGet, "/", "").upstream()
	p.answer("token", nil)
	s.expectLog("no answer in time; ")
	time.Sleep(1200 * time.Millisecond)
	b.fetch(http.MethodGet, "/", "").upstream()
	if p.count("token") != 3 {
		t.Errorf("%d calls of the token endpoint", p.count("token"))
	}
}

// TestDelayedIsBounded: not more than maxDelayedConns connections are kept for answers that nobody asks for.
func TestDelayedIsBounded(t *testing.T) {
	a := &delayedConns{}
	now := time.Now()
	for i := 0; i < maxDelayedConns; i++ {
		if !keepDelayed(a, pipeEnd(), now.Add(time.Minute)) {
			t.Fatal(i)
		}
	}
	if keepDelayed(a, pipeEnd(), now.Add(time.Minute)) {
		t.Error("one more")
	}
	for given := range a.ends {
		a.ends[given] = now.Add(-time.Second)
		break
	}
	if !keepDelayed(a, pipeEnd(), now.Add(time.Minute)) || len(a.ends) != maxDelayedConns {
		t.Errorf("in place of one that was given up: %d connections", len(a.ends))
	}
}

// TestDelayedAnswersMakeRoom: a connection whose answer has come takes no place among those on which one is awaited, however many refreshes
// there are within exchangeTimeoutSeconds.
func TestDelayedAnswersMakeRoom(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	c := &client{http: &http.Client{Timeout: 10 * time.Second}, exchangeTimeout: time.Minute}
	for i := 0; i < maxDelayedConns+10; i++ {
		req, _ := http.NewRequest(http.MethodPost, p.issuer+"/token", strings.NewReader(""))
		call := &delayedCall{wait: 10 * time.Second}
		if err := sendDelayed(c, call, req); err != nil {
			t.Fatalf("refresh %d: %v", i, err)
		}
		if !time.Now().Before(call.end) {
			t.Fatalf("after %d refreshes that were answered there is no room for another", i)
		}
		if status, _, err := receiveDelayed(c, call); err != nil || status == 0 {
			t.Fatalf("refresh %d: %d, %v", i, status, err)
		}
	}
	if n := len(c.delayedConns.ends); n > 0 {
		t.Errorf("%d connections are kept, no answer is awaited", n)
	}
}

// pipeEnd is a connection to nowhere.
func pipeEnd() net.Conn {
	end, _ := net.Pipe()
	return end
}

// brokenBody is a request's body that cannot be read.
type brokenBody struct{}

func (*brokenBody) Read([]byte) (int, error) { return 0, errors.New("broken") }

// TestDelayedIsNotSent: what could not be sent says why, and leaves no connection behind.
func TestDelayedIsNotSent(t *testing.T) {
	inThisProcess(t)
	c := &client{http: &http.Client{Timeout: time.Second}, exchangeTimeout: time.Minute}
	req, _ := http.NewRequest(http.MethodPost, "http://127.7.7.7/token", nil)
	p := &delayedCall{}
	err := sendDelayed(c, p, req)
	if p.conn != nil || err == nil || !strings.Contains(err.Error(), "127.7.7.7:80: ") {
		t.Errorf("an address without a port: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	address := "http://" + listener.Addr().String() + "/token"
	req, _ = http.NewRequest(http.MethodPost, address, &brokenBody{})
	if err := sendDelayed(c, p, req); err == nil || err.Error() != "broken" {
		t.Errorf("a body that cannot be read: %v", err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.ReadAll(conn); err != nil || p.conn != nil {
		t.Errorf("the connection stays open: %v", err)
	}
	for i := 0; i < maxDelayedConns; i++ { // there is no room for an answer that comes later
		keepDelayed(&c.delayedConns, pipeEnd(), time.Now().Add(time.Minute))
	}
	req, _ = http.NewRequest(http.MethodPost, address, nil)
	if err := sendDelayed(c, p, req); err != nil || p.wait != time.Second || time.Now().Before(p.end) {
		t.Errorf("%v: waits for %s, until %s", err, p.wait, p.end)
	}
	p.conn.Close()
}
