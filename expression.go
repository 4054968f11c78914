package oidc

import (
	"fmt"
	"net"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// This file reads the language that `claims` and `bypass` share: conditions such as Contains(`groups`, "admin"), joined by &&,
// || and !, grouped by parentheses, with Go's precedence as in Traefik's routers. What a condition means is said in claims.go
// and bypass.go.
//
// The result is not a tree. Conditions lie in a list in the order of the text, and each names the one to look at next when it
// is true and when it is false. Judging is then one loop over a slice, without recursion or function values: the interpreter
// charges most for calls, and a hostile text has no stack to exhaust.

// A condition leads to the number of another one further on, or out of the expression.
const (
	exitTrue  = -1
	exitFalse = -2
	exitAside = -3 // only while the two are exchanged
)

// Limits that no rule written by a person meets.
const (
	maxExpression = 32768 // bytes
	maxConditions = 256
	maxDepth      = 32 // parentheses in parentheses
)

// condition is one Name(`argument`, …).
type condition struct {
	name    string // as in the language's table, whatever case the text has
	args    []string
	yes, no int // where to go on: the number of a condition, exitTrue or exitFalse

	// Worked out once by the language, for those conditions that need it.
	key     *claimKey
	pattern *regexp.Regexp
	network *net.IPNet
}

// expressionParser is at one word of a text. After the first error it is at the end, so that every loop ends by itself.
type expressionParser struct {
	text       string
	functions  map[string]string
	prepare    func(c *condition) error
	at         int    // where word begins
	word       string // "" at the end
	depth      int
	conditions []*condition
	err        error
}

// expressionWord matches an operator, a name, a text in quotes, or else any one character, for the error that will name it.
var expressionWord = regexp.MustCompile("^(?:&&|\\|\\||[A-Za-z]\\w*|`[^`]*`|\"(?:[^\"\\\\]|\\\\.)*\"|(?s:.))")

// parseExpression reads a text. The table of functions has each name's parameters, such as "key, value": a last "…" stands for
// any number of further ones, brackets for one that may be left out. prepare checks a condition and completes it.
func parseExpression(text string, functions map[string]string, prepare func(c *condition) error) ([]*condition, error) {
	if len(text) > maxExpression {
		return nil, fmt.Errorf("a rule has at most %d bytes, got %d", maxExpression, len(text))
	}
	p := &expressionParser{text: text, functions: functions, prepare: prepare}
	nextWord(p)
	parseJoined(p, "||", exitFalse)
	if p.word != "" {
		expect(p, "", `"&&", "||" or the end`)
	}
	return p.conditions, p.err
}

// nextWord moves on to the next word.
func nextWord(p *expressionParser) {
	rest := strings.TrimLeft(p.text[p.at+len(p.word):], " \t\r\n")
	p.at = len(p.text) - len(rest)
	p.word = expressionWord.FindString(rest)
}

// parseJoined reads what is joined by "||", or one level below by "&&". Whatever would have left the text before an "&&" as true,
// or before a "||" as false, goes on behind it.
func parseJoined(p *expressionParser, operator string, exit int) {
	from := len(p.conditions)
	for {
		rewire(p.conditions[from:], exit, len(p.conditions))
		if operator == "||" {
			parseJoined(p, "&&", exitTrue)
		} else {
			parseTerm(p)
		}
		if p.word != operator {
			return
		}
		nextWord(p)
	}
}

// rewire makes conditions that left by an exit go on elsewhere.
func rewire(conditions []*condition, exit, target int) {
	for _, c := range conditions {
		if c.yes == exit {
			c.yes = target
		}
		if c.no == exit {
			c.no = target
		}
	}
}

// parseTerm reads a condition or a group in parentheses, with any number of "!". To negate is to exchange the two exits.
func parseTerm(p *expressionParser) {
	negated, from := false, len(p.conditions)
	for ; p.word == "!"; nextWord(p) {
		negated = !negated
	}
	if p.word == "(" {
		p.depth++
		if p.depth > maxDepth {
			complain(p, p.at, "more than %d parentheses in each other", maxDepth)
		}
		nextWord(p)
		parseJoined(p, "||", exitFalse)
		expect(p, ")", `"&&", "||" or ")"`)
		p.depth--
	} else {
		parseCondition(p)
	}
	if negated {
		rewire(p.conditions[from:], exitTrue, exitAside)
		rewire(p.conditions[from:], exitFalse, exitTrue)
		rewire(p.conditions[from:], exitAside, exitFalse)
	}
}

// parseCondition reads Name(`argument`, …). Names are taken in any case, as Traefik takes `pathprefix`.
func parseCondition(p *expressionParser) {
	start, name := p.at, p.word
	if name == "" || !unicode.IsLetter(rune(name[0])) {
		expect(p, "", `a condition, "!" or "("`)
		return
	}
	c := &condition{yes: exitTrue, no: exitFalse}
	known := make([]string, 0, len(p.functions))
	for function := range p.functions {
		known = append(known, function)
		if strings.EqualFold(name, function) {
			c.name = function
		}
	}
	if c.name == "" {
		sort.Strings(known)
		complain(p, start, "unknown function %.40q; did you mean %s?", name, nearest(name, known))
		return
	}
	nextWord(p)
	parseArguments(p, c)
	if parameters := p.functions[c.name]; !takes(parameters, len(c.args)) {
		complain(p, start, `%s takes (%s), got %d arguments; several conditions are joined with "||"`, c.name, parameters, len(c.args))
	} else if err := p.prepare(c); err != nil {
		complain(p, start, "%s: %v", c.name, err)
	}
	if len(p.conditions) == maxConditions {
		complain(p, start, "more than %d conditions", maxConditions)
	}
	p.conditions = append(p.conditions, c)
}

// parseArguments reads the parentheses behind a name. As in Go, a comma may stand before the last one.
func parseArguments(p *expressionParser, c *condition) {
	expect(p, "(", `"(" after `+c.name)
	for p.word != ")" && p.err == nil {
		text, err := strconv.Unquote(p.word)
		if err != nil && len(p.word) > 1 && p.word[0] == '"' {
			complain(p, p.at, "double quotes take Go's escapes only, such as \\\\ for a backslash; back-ticks take a text as it is")
		} else if err != nil {
			expect(p, "", "an argument in back-ticks or double quotes")
		}
		c.args = append(c.args, text)
		nextWord(p)
		if p.word != ")" {
			expect(p, ",", `"," or ")"`)
		}
	}
	nextWord(p)
}

// takes tells whether a function with these parameters takes so many arguments.
func takes(parameters string, count int) bool {
	least := 1 + strings.Count(parameters, ",")
	if strings.HasSuffix(parameters, "…") {
		return count >= least-1
	}
	return count == least || count == least-1 && strings.HasSuffix(parameters, "]")
}

// expect takes a word that must come next, or complains with what could have stood there.
func expect(p *expressionParser, word, expected string) {
	if p.word == word && word != "" {
		nextWord(p)
		return
	}
	found := fmt.Sprintf("%.40q", p.word)
	if p.word == "" {
		found = "the end"
	} else if p.word == "`" || p.word == `"` {
		found = "a text without its closing " + p.word
	}
	complain(p, p.at, "expected %s, found %s", expected, found)
}

// complain keeps the first error, in one line: the place, what is wrong, and the text around it with an arrow at the place.
func complain(p *expressionParser, at int, format string, args ...interface{}) {
	if p.err == nil {
		before, after := p.text[:at], p.text[at:]
		position := utf8.RuneCountInString(before) + 1
		if len(before) > 30 {
			before = "…" + strings.ToValidUTF8(before[len(before)-30:], "")
		}
		if len(after) > 30 {
			after = strings.ToValidUTF8(after[:30], "") + "…"
		}
		p.err = fmt.Errorf("position %d: %s; at the arrow in %q", position, fmt.Sprintf(format, args...), before+" --> "+after)
	}
	p.at = len(p.text)
	p.word = ""
}

// nearest is the known word that was probably meant, or all of them.
func nearest(word string, known []string) string {
	for _, other := range known {
		if 2*likeness(strings.ToLower(word), strings.ToLower(other)) > len(other) {
			return other
		}
	}
	return strings.Join(known, ", ")
}
