package oidc

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestLogSumsUp: what happens to many is one line now and then, with the number of times and of sessions; what is new is said at once.
func TestLogSumsUp(t *testing.T) {
	if interpreted() {
		t.Skip("the lines can be read in this process alone; TestLogOfFaults counts those of the interpreted plugin")
	}
	l := newLogger("login0-1@file", "warn")
	before := len(captured.of(l.name))
	for i := 0; i < 500; i++ {
		logf(l, levelWarn, "session %s: refresh: %s", fmt.Sprint("s", i%120), "the provider is away")
		logf(l, levelError, "%s", "token endpoint: 401")
	}
	logf(l, levelError, "%s", "something else")
	for _, r := range l.lines {
		r.since = r.since.Add(-repeatInterval)
	}
	logf(l, levelWarn, "session %s: refresh: %s", "s1", "the provider is away")
	logf(l, levelError, "%s", "token endpoint: 401")
	lines := captured.of(l.name)[before:]
	want := []string{"session s0: refresh: the provider is away", "token endpoint: 401", "something else",
		"session s1: refresh: the provider is away (500 times in 10s, of 120 sessions)", "token endpoint: 401 (500 times in 10s)"}
	if len(lines) != len(want) {
		t.Fatalf("%d lines: %s", len(lines), strings.Join(lines, "\n"))
	}
	for i, line := range lines {
		if line != l.name+": "+want[i] {
			t.Errorf("got %s\nwant %s", line, want[i])
		}
	}
	for i := 0; i < 50; i++ { // each is an attempt of its own, from a port of its own, to one of two servers
		logf(l, levelError, "%s", fmt.Sprintf("redis r%d: read tcp 10.0.0.1:%d->10.0.0.%d:6379: reset", i%2, 40000+i, i%2))
	}
	if lines := captured.of(l.name)[before+len(want):]; len(lines) != 2 {
		t.Errorf("50 connections that were cut: %s", strings.Join(lines, "\n"))
	}
	logf(l, levelError, "%s", "10.0.0.1:40000->10.0.0.2:6379: reset") // nothing is before the address
	for i := 0; i < 100*maxLineKinds; i++ {
		logf(l, levelWarn, "%s", fmt.Sprint("kind ", i))
	}
	if len(l.lines) > maxLineKinds {
		t.Errorf("%d kinds are remembered", len(l.lines))
	}
	verbose := newLogger("login0-2@file", "info")
	logf(verbose, levelWarn, "%s", "away")
	logf(verbose, levelWarn, "%s", "away")
	if lines := captured.of(verbose.name); len(lines) != 2 {
		t.Errorf("at level info there are %d lines", len(lines))
	}
}

// TestLogOfFaults counts the lines for the operator while thirty people, whose tokens have ended, come again and again, and the provider
// does what providers do.
func TestLogOfFaults(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"invalid_client": answerJSON(401, map[string]any{"error": "invalid_client"}),
		"503":            answerText(503, "text/plain", ""),
		"hangs up":       answerBroken(),
		"refused":        answerJSON(400, map[string]any{"error": "invalid_grant"}),
		"half answer": func(rw http.ResponseWriter, req *http.Request) {
			rw.Header().Set("Content-Length", "100")
			fmt.Fprint(rw, `{"access`)
		},
	} {
		name, answer := name, answer
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newFakeProvider(t)
			p.expiresIn = 1
			s, b := signedIn(t, p, map[string]any{"logLevel": "warn"})
			people := []*browser{b}
			for i := 1; i < 30; i++ {
				people = append(people, newBrowser(t, s))
				people[i].signIn("/")
			}
			time.Sleep(1100 * time.Millisecond)
			before := strings.Count(s.logs(), "\n")
			p.answer("token", answer)
			began := time.Now()
			for round := 0; round < 4; round++ {
				inParallel(len(people), func(i int) { people[i].copyOf().fetch(http.MethodGet, "/", "") })
				time.Sleep(700 * time.Millisecond)
			}
			lines := strings.Split(s.logs(), "\n")[before:]
			lines = lines[1:] // the last one of before
			if perSecond := float64(len(lines)) / time.Since(began).Seconds(); len(lines) == 0 || perSecond > 1.5 {
				t.Errorf("%.1f lines a second, %d in all:\n%s", perSecond, len(lines), strings.Join(lines, "\n"))
			}
		})
	}
}

func TestLogHidesTheCallback(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"logLevel": "debug"}))
	b := newBrowser(t, s)
	back := b.answered(b.begin("/page?token=abc"))
	b.open(back.String()).upstream()
	logs := s.logs()
	for _, secret := range []string{back.Query().Get("code"), back.Query().Get("state"), p.clientSecret,
		b.cookie(s.sessionCookie()).Value[:40], url.QueryEscape("token=abc")} {
		if strings.Contains(logs, secret) {
			t.Errorf("the log has %q:\n%s", secret, logs)
		}
	}
}

func TestLogHasOneLinePerRequest(t *testing.T) {
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"logLevel": "debug"}))
	b := newBrowser(t, s)
	for _, end := range []string{"%0a", "%0d", "%c2%85", "%e2%80%a8", "%e2%80%a9", "%1b[2K", "%e2%80%ae"} { // also what readers of logs take for the end of a line
		b.raw("/a"+end+s.name+":%20forged", "Sec-Fetch-Mode: navigate")
	}
	f := start(t, p.options(map[string]any{"logLevel": "debug", "unauthenticated": "forward"}))
	newBrowser(t, f).raw("/a%0a" + f.name + ":%20forged")
	for _, site := range []*testSite{s, f} {
		for _, line := range strings.Split(site.logs(), "\n") {
			if strings.HasPrefix(line, site.name+": forged") || strings.ContainsAny(line, "\r\u0085\u2028\u2029\x1b\u202e") {
				t.Errorf("a visitor wrote a line: %q", line)
			}
		}
	}
}

// TestLogForeignText: foreign text is one printable line of 200 bytes, and an end that was cut off is told.
func TestLogForeignText(t *testing.T) {
	long := strings.Repeat("x", 200)
	for foreign, want := range map[string]string{long: long, long + "y": long + "…", "a\nb\x1b[31m\u202e\u2028c": "a b [31m  c", "\xff": "?"} {
		if got := forLog(foreign); got != want {
			t.Errorf("%q: got %q", foreign, got)
		}
	}
}
