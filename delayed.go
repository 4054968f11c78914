package oidc

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Responses that take longer than a request can wait. A refresh token is used up once the provider has received it, whether the response comes
// in time or not. With a provider that rotates refresh tokens, hanging up would lose the session. So the request waits for a while and then
// goes on with the tokens it has, and the session's next request checks whether the response has arrived. This needs no goroutine: the open
// connection holds the state.

// delayedCall is a request to the provider whose response may come later.
type delayedCall struct {
	wait   time.Duration // how long the current caller waits
	conn   net.Conn      // nil: not sent yet
	reader *bufio.Reader
	end    time.Time // when to give up
}

const (
	delayedCallKey  = "github.com/traefik-oidc/oidc: an exchange that may be awaited later" // a string, because in the interpreter all keys of our own types are equal
	maxResponseHead = 64 << 10                                                              // bytes of a response before its body
	maxDelayedConns = 500
	delayedPoll     = 20 * time.Millisecond // how long a request waits that is not the first
)

var errDelayed = errors.New("no answer in time yet; it is awaited for exchangeTimeoutSeconds, while the session goes on with what it has")

// delayedConns are the connections on which a response is still awaited, and until when.
type delayedConns struct {
	mu   sync.Mutex
	ends map[net.Conn]time.Time
}

// keepDelayed adds a connection, and reports whether there was room for it. Those that were given up make room.
func keepDelayed(waiting *delayedConns, conn net.Conn, end time.Time) bool {
	waiting.mu.Lock()
	defer waiting.mu.Unlock()
	for given, until := range waiting.ends {
		if len(waiting.ends) >= maxDelayedConns && !time.Now().Before(until) {
			given.Close()
			delete(waiting.ends, given)
		}
	}
	if len(waiting.ends) >= maxDelayedConns {
		return false
	}
	if waiting.ends == nil {
		waiting.ends = map[net.Conn]time.Time{}
	}
	waiting.ends[conn] = end
	return true
}

// closeDelayed closes a connection on which nothing is awaited any more.
func closeDelayed(waiting *delayedConns, conn net.Conn) {
	conn.Close()
	waiting.mu.Lock()
	delete(waiting.ends, conn)
	waiting.mu.Unlock()
}

// sendDelayed sends a request on a connection of its own.
func sendDelayed(c *client, call *delayedCall, req *http.Request) error {
	u := req.URL
	port := u.Port()
	if port == "" {
		port = u.Scheme // net.Dial knows it by name
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(u.Hostname(), port), c.http.Timeout)
	if err != nil {
		return err
	}
	if u.Scheme == "https" {
		transport, _ := c.http.Transport.(*http.Transport)
		config := transport.TLSClientConfig.Clone()
		config.ServerName = u.Hostname()
		config.NextProtos = []string{"http/1.1"} // what we speak; the transport has put h2 there for its own connections
		conn = tls.Client(conn, config)
	}
	conn.SetDeadline(time.Now().Add(c.http.Timeout))
	req.Close = true
	if err = req.Write(conn); err != nil {
		conn.Close()
		return err
	}
	call.conn = conn
	call.reader = bufio.NewReader(io.LimitReader(conn, maxJSONSize+maxResponseHead)) // the library limits only the headers of its own responses
	call.end = time.Now().Add(c.exchangeTimeout)
	if !keepDelayed(&c.delayedConns, conn, call.end) {
		call.wait = c.http.Timeout
		call.end = time.Now()
	}
	return nil
}

// receiveDelayed waits a while for the response. errDelayed means that it may still come.
func receiveDelayed(c *client, call *delayedCall) (status int, body []byte, err error) {
	call.conn.SetDeadline(time.Now().Add(call.wait))
	call.wait = delayedPoll
	_, err = call.reader.Peek(1)
	if os.IsTimeout(err) && time.Now().Before(call.end) {
		return 0, nil, errDelayed
	}
	conn := call.conn
	call.conn = nil
	defer closeDelayed(&c.delayedConns, conn)
	if err != nil {
		return 0, nil, err
	}
	conn.SetDeadline(time.Now().Add(c.http.Timeout)) // the response has begun, so the rest must follow soon
	res, err := http.ReadResponse(call.reader, nil)
	for err == nil && res.StatusCode < http.StatusOK { // RFC 9110 15.2: interim responses; the final one follows
		res, err = http.ReadResponse(call.reader, nil)
	}
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(io.LimitReader(res.Body, maxJSONSize+1))
	return res.StatusCode, body, err
}
