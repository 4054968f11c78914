package chaos

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// weather is how a link treats the connections of Traefik.
type weather struct {
	refuse  bool          // connections are closed as soon as they are there, those that are open are cut
	swallow bool          // what the server says never arrives
	delay   time.Duration // each piece of a reply
	cut     int           // connections end in the middle of a reply, after at most so many bytes
}

// link is the network between a server and everybody who talks to it: Traefik, and the server's own peers. Those dial from an address
// of their own (see node), so that each can be treated in its own way: Traefik may reach a master that its Sentinels do not.
type link struct {
	addr   string
	target string

	listener net.Listener
	mu       sync.Mutex
	now      weather
	apart    map[string]bool // hosts that cannot come through; anyPeer: no peer can
	open     map[net.Conn]string
}

const (
	ownHost = "127.0.0.1" // where Traefik and this process dial from
	anyPeer = "peers"
)

func newLink(target string) (*link, error) {
	listener, err := net.Listen("tcp", ownHost+":0")
	if err != nil {
		return nil, err
	}
	l := &link{addr: listener.Addr().String(), target: target, listener: listener, apart: map[string]bool{}, open: map[net.Conn]string{}}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go l.serve(conn)
		}
	}()
	return l, nil
}

func (l *link) port() int { return l.listener.Addr().(*net.TCPAddr).Port }

func (l *link) close() {
	l.listener.Close()
	l.set(weather{refuse: true})
	l.part(anyPeer, true)
}

// set changes the weather. A better one leaves open connections alone.
func (l *link) set(w weather) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = w
	if w.refuse || w.cut > 0 || w.swallow {
		l.cutOff(func(host string) bool { return host == ownHost })
	}
}

// part keeps a host from coming through, or lets it again.
func (l *link) part(host string, apart bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.apart[host] = apart
	if apart {
		l.cutOff(l.isApart)
	}
}

// isApart says whether a host cannot come through. The caller holds the lock.
func (l *link) isApart(host string) bool { return l.apart[host] || host != ownHost && l.apart[anyPeer] }

// cutOff closes the connections of some hosts. The caller holds the lock.
func (l *link) cutOff(chosen func(host string) bool) {
	for conn, host := range l.open {
		if chosen(host) {
			conn.Close()
			delete(l.open, conn)
		}
	}
}

// enter registers a connection and says whether it may stay.
func (l *link) enter(conn net.Conn) (host string, ok bool) {
	host, _, _ = net.SplitHostPort(conn.RemoteAddr().String())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isApart(host) || host == ownHost && l.now.refuse {
		return host, false
	}
	l.open[conn] = host
	return host, true
}

func (l *link) serve(conn net.Conn) {
	defer conn.Close()
	host, ok := l.enter(conn)
	defer func() {
		l.mu.Lock()
		delete(l.open, conn)
		l.mu.Unlock()
	}()
	if !ok {
		return
	}
	server, err := (&net.Dialer{Timeout: 5 * time.Second}).Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, conn)
		server.Close()
	}()
	if host != ownHost {
		_, _ = io.Copy(conn, server)
		return
	}
	l.bring(conn, server)
}

// bring carries replies to Traefik, through the weather of the moment.
func (l *link) bring(conn, server net.Conn) {
	left := 0
	buffer := make([]byte, 16<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		l.mu.Lock()
		how := l.now
		l.mu.Unlock()
		if how.swallow {
			continue
		}
		time.Sleep(how.delay)
		if how.cut > 0 {
			if left == 0 {
				left = 1 + rand.IntN(how.cut)
			}
			n = min(n, left)
			left -= n
		}
		if _, err := conn.Write(buffer[:n]); err != nil || how.cut > 0 && left == 0 {
			return
		}
	}
}
