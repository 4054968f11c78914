package oidc

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The language that `claims` and `bypass` share: conditions such as Contains(`groups`, "admin"), joined by &&, || and !, grouped by
// parentheses, with Go's precedence as in Traefik's routers. What the conditions mean is up to claims.go and bypass.go.
//
// The result is not a tree. Conditions are a list in the order of the text, and each says which one comes next if it is true, and if it is
// false. So evaluation is one loop over a slice, without recursion or function values: calls are what the interpreter charges most for, and a
// hostile text has no stack to exhaust.

// A condition leads to the index of a later one, or out of the expression. The two exits add up to bothExits.
const (
	exitTrue  = -1
	exitFalse = -2
	bothExits = -3
)

// Limits that no rule written by a person reaches.
const (
	maxExpression = 32768 // bytes
	maxConditions = 256
	maxDepth      = 32 // nested parentheses
)

// rule is a parsed expression. Nil is no rule.
type rule []*condition

// condition is one Name(`argument`, …).
type condition struct {
	name      string // as in the language's table, whatever the case in the text
	args      []string
	yes, no   int  // what comes next: the index of a condition, exitTrue or exitFalse
	isNegated bool // an odd number of "!" apply to it
	isFolded  bool // case is ignored

	// Prepared by the language, for the conditions that need it.
	key     claimKey
	pattern *regexp.Regexp
	network *net.IPNet
	client  *ipStrategy
}

// expressionParser stands at one word of a text. After the first error it stands at the end, so that every loop ends by itself.
type expressionParser struct {
	text, functions string
	prepare         func(c *condition) error
	at              int    // where word begins
	word            string // "" at the end
	goal            int    // the exit if the expression is true; "!" swaps the two
	depth           int
	conditions      rule
	err             error
}

// expressionWord matches an operator, a name, a quoted text, or otherwise a single character, for the error message.
var expressionWord = regexp.MustCompile("^(?:&&|\\|\\||[A-Za-z]\\w*|`[^`]*`|\"(?:[^\"\\\\]|\\\\.)*\"|(?s:.))")

// functionName matches those of a language; names of parameters are in lower case.
var functionName = regexp.MustCompile(`[A-Z]\w+`)

// parseExpression reads a text; without one there is no rule. functions are the language's, with their parameters: a last "…" stands
// for any number of further arguments, brackets for one that may be left out. prepare checks a condition and completes it.
func parseExpression(text, functions string, prepare func(c *condition) error) (rule, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > maxExpression {
		return nil, errorf("a rule has at most %d bytes, got %d", maxExpression, len(text))
	}
	p := &expressionParser{text: text, functions: functions, prepare: prepare, goal: exitTrue}
	nextWord(p)
	parseJoined(p, "||")
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
func parseJoined(p *expressionParser, operator string) {
	from, exit := len(p.conditions), p.goal
	if operator == "||" {
		exit = bothExits - p.goal
	}
	for {
		if operator == "||" {
			parseJoined(p, "&&")
		} else {
			parseTerm(p)
		}
		if p.word != operator {
			return
		}
		nextWord(p)
		for _, c := range p.conditions[from:] {
			if c.yes == exit {
				c.yes = len(p.conditions)
			}
			if c.no == exit {
				c.no = len(p.conditions)
			}
		}
	}
}

// parseTerm reads a condition or a group in parentheses, with any number of "!".
func parseTerm(p *expressionParser) {
	goal := p.goal
	for ; p.word == "!"; nextWord(p) {
		p.goal = bothExits - p.goal
	}
	if p.word == "(" {
		if p.depth++; p.depth > maxDepth {
			complain(p, p.at, "more than %d parentheses in each other", maxDepth)
		}
		nextWord(p)
		parseJoined(p, "||")
		expect(p, ")", `"&&", "||" or ")"`)
		p.depth--
	} else {
		parseCondition(p)
	}
	p.goal = goal
}

// parseCondition reads Name(`argument`, …). Names are taken in any case, as Traefik takes `pathprefix`.
func parseCondition(p *expressionParser) {
	start, word := p.at, p.word
	if word == "" || word[0] >= utf8.RuneSelf || !unicode.IsLetter(rune(word[0])) {
		expect(p, "", `a condition, "!" or "("`)
		return
	}
	from := strings.Index(" "+strings.ToLower(p.functions), " "+strings.ToLower(word)+"(")
	if from < 0 {
		complain(p, start, "unknown function %.40q; did you mean %s?", word, nearest(word, functionName.FindAllString(p.functions, -1)))
		return
	}
	name, rest, _ := strings.Cut(p.functions[from:], "(")
	parameters, _, _ := strings.Cut(rest, ")")
	c := &condition{name: name, yes: p.goal, no: bothExits - p.goal, isNegated: p.goal == exitFalse}
	nextWord(p)
	parseArguments(p, c)
	most, got, isOpen := 1+strings.Count(parameters, ","), len(c.args), strings.Contains(parameters, "…")
	if got > most && !isOpen || got < most-1 || got == most-1 && !isOpen && !strings.Contains(parameters, "[") {
		complain(p, start, `%s takes (%s), got %d arguments; several conditions are joined with "||"`, name, parameters, got)
	} else if err := p.prepare(c); err != nil {
		complain(p, start, "%s: %v", name, err)
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

// complain keeps the first error, on one line: the position, what is wrong, and the text around it with an arrow at the position.
func complain(p *expressionParser, at int, format string, args ...any) {
	if p.err == nil {
		before := p.text[:at]
		position := utf8.RuneCountInString(before) + 1
		if len(before) > 30 {
			before = "…" + strings.ToValidUTF8(before[at-30:], "")
		}
		around := fmt.Sprintf("%s --> %.30s", before, p.text[at:])
		p.err = errorf("position %d: %s; at the arrow in %q", position, fmt.Sprintf(format, args...), around)
	}
	p.at = len(p.text)
	p.word = ""
}

// nearest returns the known word that was probably meant, or all of them.
func nearest(word string, known []string) string {
	for _, other := range known {
		if 2*similarity(strings.ToLower(word), strings.ToLower(other)) > len(other) {
			return other
		}
	}
	return strings.Join(known, ", ")
}
