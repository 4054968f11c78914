// Package upstream is the application behind Traefik: it shows who it thinks you are, and remembers what it was told, so
// that a test can look at a request as the application received it.
package upstream

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// NumberHeader names the response header with the number of the request, for Received.
const NumberHeader = "X-Upstream-Request"

//go:embed page.html
var pageHTML string

//go:embed app.html
var appHTML string

var page = template.Must(template.New("page").Parse(pageHTML))

// Received is a request as the application got it.
type Received struct {
	Method  string
	Host    string
	URI     string
	Header  http.Header
	Trailer http.Header
	Body    string
}

// Link is an entry of the page's navigation. One with Post is a button.
type Link struct {
	Text, Href string
	Post       bool
}

// Options say what the page looks like. Traefik's plugin is expected to send the Identity headers; the first that has a
// value is the name on the page.
type Options struct {
	Addr     string // where to listen, default a free port of 127.0.0.1
	Identity []string
	Links    []Link
}

// Upstream is a running application.
type Upstream struct {
	URL string

	options  Options
	server   *http.Server
	mu       sync.Mutex
	received map[int]Received
	last     int
}

// remembered is how many requests are kept; a benchmark sends more than anybody wants to look at.
const remembered = 10_000

// Start runs the application until Stop.
func Start(o Options) (*Upstream, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, err
	}
	u := &Upstream{URL: "http://" + listener.Addr().String(), options: o, received: map[int]Received{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", u.echo)
	mux.HandleFunc("/events", u.events)
	mux.HandleFunc("/app", u.app)
	mux.HandleFunc("/cacheable", func(rw http.ResponseWriter, req *http.Request) {
		rw.Header().Set("Cache-Control", "public, max-age=600") // whether it is or not
		io.WriteString(rw, "for everybody")
	})
	mux.HandleFunc("/", u.show)
	u.server = &http.Server{Handler: u.remember(mux), ReadHeaderTimeout: 10 * time.Second}
	go u.server.Serve(listener)
	return u, nil
}

// Stop ends the application.
func (u *Upstream) Stop() { u.server.Close() }

// Received returns the request with this number, as the header NumberHeader told it.
func (u *Upstream) Received(number string) (Received, bool) {
	n, _ := strconv.Atoi(number)
	u.mu.Lock()
	defer u.mu.Unlock()
	r, ok := u.received[n]
	return r, ok
}

// Count is how many requests came in so far, from everywhere.
func (u *Upstream) Count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last
}

// remember keeps every request and numbers the answer. Bodies of streams are left alone.
func (u *Upstream) remember(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(req.Body, 1<<20))
		r := Received{
			Method: req.Method, Host: req.Host, URI: req.RequestURI,
			Header: req.Header.Clone(), Trailer: req.Trailer.Clone(), Body: string(body),
		}
		u.mu.Lock()
		u.last++
		n := u.last
		u.received[n] = r
		delete(u.received, n-remembered)
		u.mu.Unlock()
		rw.Header().Set(NumberHeader, strconv.Itoa(n))
		next.ServeHTTP(rw, req)
	})
}

// app is a page that lives by its script, as single-page applications do.
func (u *Upstream) app(rw http.ResponseWriter, _ *http.Request) {
	rw.Header().Set("Cache-Control", "no-store")
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	io.WriteString(rw, appHTML)
}

// echo sends every websocket message back.
func (u *Upstream) echo(rw http.ResponseWriter, req *http.Request) {
	conn, err := websocket.Accept(rw, req, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	for {
		kind, message, err := conn.Read(req.Context())
		if err != nil {
			return
		}
		if conn.Write(req.Context(), kind, message) != nil {
			return
		}
	}
}

// events sends ?n= server-sent events, ?ms= apart, each at once.
func (u *Upstream) events(rw http.ResponseWriter, req *http.Request) {
	n, _ := strconv.Atoi(req.FormValue("n"))
	pause, _ := strconv.Atoi(req.FormValue("ms"))
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.Header().Set("Cache-Control", "no-store")
	flusher := http.NewResponseController(rw)
	for i := 1; i <= n; i++ {
		fmt.Fprintf(rw, "data: %d\n\n", i)
		if flusher.Flush() != nil {
			return
		}
		select {
		case <-time.After(time.Duration(pause) * time.Millisecond):
		case <-req.Context().Done():
			return
		}
	}
}

// header is one line of the page's table.
type header struct{ Name, Value string }

// show is every other path: a page for browsers, the same as JSON for the rest.
func (u *Upstream) show(rw http.ResponseWriter, req *http.Request) {
	rw.Header().Set("Cache-Control", "no-store")
	if !strings.Contains(req.Header.Get("Accept"), "text/html") {
		rw.Header().Set("Content-Type", "application/json")
		json.NewEncoder(rw).Encode(map[string]any{
			"method": req.Method, "host": req.Host, "path": req.URL.Path, "headers": req.Header,
		})
		return
	}
	identity, rest := u.split(req.Header)
	name := ""
	if len(identity) > 0 {
		name = identity[0].Value
	}
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	page.Execute(rw, map[string]any{
		"Name": name, "Path": req.URL.Path, "Identity": identity, "Rest": rest, "Links": u.options.Links,
	})
}

// split separates the headers that say who you are from all others.
func (u *Upstream) split(all http.Header) (identity, rest []header) {
	told := map[string]bool{}
	for _, name := range u.options.Identity {
		told[http.CanonicalHeaderKey(name)] = true
		if value := all.Get(name); value != "" {
			identity = append(identity, header{name, value})
		}
	}
	for name, values := range all {
		if !told[name] {
			rest = append(rest, header{name, strings.Join(values, "\n")})
		}
	}
	sort.Slice(rest, func(i, j int) bool { return rest[i].Name < rest[j].Name })
	return identity, rest
}
