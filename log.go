package oidc

import (
	"fmt"
	"log"
	"strings"
	"sync"
	"time"
)

// Log levels. Whatever we call them, Traefik shows what a plugin prints to standard output as DEBUG, and what it logs as ERROR. So what an
// operator must act on is logged, and the story of each request, with everything a visitor can cause, is printed.
const (
	levelDebug = 0
	levelInfo  = 1
	levelWarn  = 2
	levelError = 3
)

// logger writes the lines of one middleware.
type logger struct {
	name  string
	level int

	mu    sync.Mutex
	lines map[string]*lineCount // by kind of line
}

// lineCount is how often a line for the operator occurred since it was last written.
type lineCount struct {
	since    time.Time
	count    int
	sessions map[string]bool
}

const (
	repeatInterval     = 10 * time.Second // between two lines of a kind: an outage causes one for every request
	maxLineKinds       = 100
	maxCountedSessions = 10000 // per reason; further ones are not counted
)

// errorLog writes to the log package's output, which Traefik has replaced with its own log, without adding a second date.
var errorLog = log.New(log.Writer(), "", 0)

func newLogger(name, level string) *logger {
	return &logger{name: name, level: strings.Index("debug info  warn  error", level) / 6}
}

// logf writes one line. Arguments must be strings and numbers: the interpreter cannot print our types. A line that an operator must act on
// is logged once in a while, with a count; the repetitions in between are printed, with the story of their requests.
func logf(l *logger, level int, format string, args ...any) {
	if level < l.level {
		return
	}
	text := fmt.Sprintf(format, args...)
	line := l.name + ": " + text
	if level >= levelWarn {
		sum, isDue := summarize(l, format, text)
		if isDue {
			errorLog.Print(line + sum)
			return
		}
	}
	if l.level <= levelInfo {
		fmt.Println(line)
	}
}

// summarize counts a line among those of its kind, and reports whether the next one is due.
func summarize(l *logger, format, line string) (sum string, isDue bool) {
	if format == "%s" || strings.HasPrefix(format, "in the last minute") { // the first has its text from elsewhere; the second is a count already
		format = line
		if before, after, found := strings.Cut(line, "->"); found { // a network error names our own port, which is different each time
			format = before[:strings.LastIndexByte(before, ' ')+1] + after
		}
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.lines[format]
	if r == nil {
		if len(l.lines)%maxLineKinds == 0 {
			l.lines = map[string]*lineCount{}
		}
		r = &lineCount{sessions: map[string]bool{}}
		l.lines[format] = r
	}
	r.count++
	if words := strings.Fields(line); words[0] == "session" && len(r.sessions) < maxCountedSessions {
		r.sessions[strings.Clone(words[1])] = true
	}
	passed := now.Sub(r.since)
	if passed < repeatInterval {
		return "", false
	}
	sum = ""
	if r.count > 1 {
		sum = fmt.Sprintf(" (%d times in %s", r.count, passed.Round(time.Second))
		if len(r.sessions) > 0 {
			sum += fmt.Sprintf(", of %d sessions", len(r.sessions))
		}
		sum += ")"
	}
	l.lines[format] = &lineCount{since: now, sessions: map[string]bool{}}
	return sum, true
}
