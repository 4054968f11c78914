package interpreted

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What it costs in the interpreter when a session has to be read from Redis: the local copy is no longer fresh, the entry is what it
// was. make bench measures the same in Traefik.

const storedCeiling = 211 // allocations of such a request, from the cookie to the upstream

// storedOptions are those of a sign-in with sessions in Redis that are read for every request.
func storedOptions(p *provider, address string) map[string]any {
	options := p.options()
	options["session"] = map[string]any{"store": map[string]any{"cacheSeconds": 0, "redis": map[string]any{"endpoints": []string{address}}}}
	return options
}

// quietRedis keeps the last session that was written and answers every question for it, without an allocation, so that what is counted is
// the plugin's.
func quietRedis(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	var mu sync.Mutex
	var kept, head []byte
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				request := make([]byte, 64<<10)
				for {
					n, err := conn.Read(request) // small commands come whole over the loopback
					if err != nil {
						return
					}
					answer := []byte("+OK\r\n")
					mu.Lock()
					if bytes.HasPrefix(request, []byte("*2\r\n$3\r\nGET\r\n")) {
						answer = kept
					} else if bytes.HasPrefix(request, []byte("*4\r\n$8\r\nGETRANGE\r\n")) {
						answer = head
					} else if bytes.Contains(request[:n], []byte("$4\r\nEVAL\r\n")) {
						answer = []byte(":1\r\n")
					} else if parts := bytes.Split(request[:n], []byte("\r\n")); len(parts) > 6 && string(parts[2]) == "SET" {
						kept = []byte(string(parts[5]) + "\r\n" + string(parts[6]) + "\r\n")
						head = []byte("$32\r\n" + string(parts[6][:32]) + "\r\n")
					}
					mu.Unlock()
					if _, err := conn.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

func TestStoredSessionAllocations(t *testing.T) {
	p := newProvider(t)
	reached := 0
	next := http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		if req.Header["X-User"][0] == "ada" && req.URL.User != nil {
			reached++
		}
	})
	handler, err := load(t).Build(context.Background(), next, storedOptions(p, quietRedis(t)), "login@file")
	if err != nil {
		t.Fatal(err)
	}
	session := signIn(t, p, handler)
	rw := &silent{header: http.Header{}}
	const runs = 100
	requests := make([]*http.Request, runs+3)
	for i := range requests {
		requests[i] = request("/", session)
	}
	at := 0
	serve := func() {
		handler.ServeHTTP(rw, requests[at])
		at++
	}
	serve()
	serve()
	count := testing.AllocsPerRun(runs, serve)
	t.Logf("%.0f allocations", count)
	if reached != runs+3 {
		t.Fatalf("only %d of %d requests were let in as ada", reached, runs+3)
	}
	if count > storedCeiling {
		t.Errorf("%.0f allocations, at most %d", count, storedCeiling)
	}
}

// BenchmarkStoredSession has a redis-server of its own, so that cpu-µs/op is the processor time of this process alone. The request
// itself is made outside of it but for its headers.
func BenchmarkStoredSession(b *testing.B) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		b.Skip("redis-server is not installed")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	listener.Close()
	server := exec.Command(binary, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", b.TempDir())
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	for i := 0; i < 200; i++ {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	p := newProvider(b)
	plugin := load(b)
	for _, c := range []struct{ name, cacheSeconds string }{{"fresh", "60"}, {"read", "0"}} {
		options := storedOptions(p, address)
		options["session"].(map[string]any)["store"].(map[string]any)["cacheSeconds"] = c.cacheSeconds
		handler, err := plugin.Build(context.Background(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), options, "login@file")
		if err != nil {
			b.Fatal(err)
		}
		session := signIn(b, p, handler)
		for _, others := range []string{"", "a=%d; "} {
			b.Run(fmt.Sprintf("%s, %q", c.name, others), func(b *testing.B) {
				rw := &silent{header: http.Header{}}
				req := request("/", "")
				b.ReportAllocs()
				b.ResetTimer()
				before := processorTime()
				for i := 0; i < b.N; i++ {
					delete(req.Header, "X-User")
					delete(req.Header, "X-Email")
					req.URL.User = nil
					req.Header["Cookie"] = []string{strings.Replace(others, "%d", strconv.Itoa(i), 1) + session}
					handler.ServeHTTP(rw, req)
				}
				b.ReportMetric(float64(processorTime()-before)/float64(b.N)/1e3, "cpu-µs/op")
			})
		}
	}
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	usage := syscall.Rusage{}
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
