package interpreted

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Host builds middlewares for tests in another process, each in front of an upstream that answers with what it received:
//
//	POST   /sites {"name": "login@file", "options": {…}}   builds one: {"id": "1", "url": "http://127.0.0.1:…"}, or 422 {"error": "…"}
//	POST   /sites/1/reload                                 what a new dynamic configuration does: the context ends, it is built anew
//	DELETE /sites/1
//	GET    /logs?name=login@file                           what the middleware printed and logged, as a list of lines
type Host struct {
	plugin *Plugin
	log    *Lines
	mu     sync.Mutex
	sites  map[string]*site
	last   int
}

type site struct {
	name    string
	options map[string]any
	server  *httptest.Server
	handler atomic.Value // holder
	cancel  context.CancelFunc
}

// holder makes handlers of different types fit one atomic value.
type holder struct{ http.Handler }

// NewHost serves middlewares of plugin, which was loaded with log for its output.
func NewHost(plugin *Plugin, log *Lines) *Host {
	return &Host{plugin: plugin, log: log, sites: map[string]*site{}}
}

// Close ends all sites.
func (h *Host) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range h.sites {
		h.end(id)
	}
}

func (h *Host) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id, isReload := strings.CutSuffix(strings.TrimPrefix(req.URL.Path, "/sites/"), "/reload")
	switch {
	case req.Method == http.MethodPost && req.URL.Path == "/sites":
		h.add(rw, req)
	case req.Method == http.MethodPost && isReload && h.sites[id] != nil:
		reply(rw, h.sites[id].build(h.plugin), map[string]any{})
	case req.Method == http.MethodDelete && h.sites[id] != nil:
		h.end(id)
		reply(rw, nil, map[string]any{})
	case req.Method == http.MethodGet && req.URL.Path == "/logs":
		reply(rw, nil, h.log.Of(req.URL.Query().Get("name")))
	default:
		http.NotFound(rw, req)
	}
}

func (h *Host) add(rw http.ResponseWriter, req *http.Request) {
	s := &site{}
	asked := struct {
		Name    string
		Options map[string]any
	}{}
	if err := json.NewDecoder(req.Body).Decode(&asked); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	s.name, s.options = asked.Name, asked.Options
	if err := s.build(h.plugin); err != nil {
		reply(rw, err, nil)
		return
	}
	s.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		defer recovered(rw, req)
		s.handler.Load().(holder).ServeHTTP(rw, req)
	}))
	h.last++
	id := strconv.Itoa(h.last)
	h.sites[id] = s
	reply(rw, nil, map[string]any{"id": id, "url": s.server.URL})
}

// recovered does what Traefik's recovery middleware does with a panic: an answer, and a line for the operator. The interpreter has
// written where it happened before.
func recovered(rw http.ResponseWriter, req *http.Request) {
	reason := recover()
	if reason == nil {
		return
	}
	if reason == http.ErrAbortHandler {
		panic(reason)
	}
	fmt.Fprintf(os.Stderr, "PANIC in the interpreter: %s %s: %v\n", req.Method, req.URL, reason)
	http.Error(rw, "panic in the plugin", http.StatusInternalServerError)
}

// build makes the middleware, or makes it anew: the old context ends before the new one begins, as in Traefik.
func (s *site) build(plugin *Plugin) error {
	if s.cancel != nil {
		s.cancel()
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	handler, err := plugin.Build(ctx, http.HandlerFunc(Upstream), s.options, s.name)
	if err != nil {
		return err
	}
	s.handler.Store(holder{handler})
	return nil
}

func (h *Host) end(id string) {
	s := h.sites[id]
	s.cancel()
	s.server.CloseClientConnections()
	s.server.Close()
	delete(h.sites, id)
}

func reply(rw http.ResponseWriter, err error, value any) {
	rw.Header().Set("Content-Type", "application/json")
	if err != nil {
		rw.WriteHeader(http.StatusUnprocessableEntity)
		value = map[string]any{"error": err.Error()}
	}
	_ = json.NewEncoder(rw).Encode(value)
}

// Upstream answers with what it received, like the upstream of the root's tests (harness_test.go, testUpstream): the tests cannot
// tell one from the other.
func Upstream(rw http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/stream" {
		for i := 0; i < 3; i++ {
			_, _ = rw.Write([]byte("data: " + strconv.Itoa(i) + "\n\n"))
			rw.(http.Flusher).Flush()
			if i == 0 {
				<-req.Context().Done() // the rest is for nobody: the test reads the first event, then leaves
			}
		}
		return
	}
	user := ""
	if req.URL.User != nil {
		user = req.URL.User.Username()
	}
	trailers := req.Trailer.Clone()
	body := new(bytes.Buffer)
	_, _ = body.ReadFrom(http.MaxBytesReader(rw, req.Body, 1<<20))
	rw.Header().Set("Content-Type", "application/json")
	rw.Header().Set("X-Upstream", "reached")
	_ = json.NewEncoder(rw).Encode(map[string]any{
		"method": req.Method, "uri": req.URL.RequestURI(), "host": req.Host, "user": user,
		"headers": req.Header, "trailers": trailers, "body": body.String(),
	})
}

var middlewareLine = regexp.MustCompile(`^[^ ]+@[a-z]+: `)

// Lines keeps the output of middlewares by lines, and lets everything else through.
type Lines struct {
	mu    sync.Mutex
	rest  []byte
	lines []string
}

func (l *Lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, text...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(text), nil
		}
		if middlewareLine.Match(line) {
			l.lines = append(l.lines, string(line))
		} else {
			fmt.Fprintf(os.Stderr, "%s\n", line) // where the interpreter panicked, above all
		}
		l.rest = append([]byte(nil), rest...)
	}
}

// Of gives the lines of the middleware called name.
func (l *Lines) Of(name string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := []string{}
	for _, line := range l.lines {
		if strings.HasPrefix(line, name+": ") {
			found = append(found, line)
		}
	}
	return found
}
