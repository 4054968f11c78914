package oidc

import (
	"fmt"
	"log"
	"strings"
)

// Log levels. Traefik shows what a plugin prints at DEBUG and what it logs as ERROR, whatever we call it: so what an operator must
// act on goes one way, and the story of requests (with everything a visitor can cause) the other.
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
}

// errorLog is the log package's own output, which Traefik has replaced by its log, without a second date.
var errorLog = log.New(log.Writer(), "", 0)

func newLogger(name, level string) *logger {
	return &logger{name: name, level: strings.Index("debug info  warn  error", level) / 6}
}

// logf writes one line. Arguments are text and numbers: the interpreter cannot print our types.
func logf(l *logger, level int, format string, args ...any) {
	if level < l.level {
		return
	}
	line := l.name + ": " + fmt.Sprintf(format, args...)
	if level >= levelWarn {
		errorLog.Print(line)
		return
	}
	fmt.Println(line)
}
