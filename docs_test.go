package oidc

import (
	"fmt"
	"go/ast"
	"go/parser"
	syntax "go/token"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// docs/troubleshooting.md pairs what an operator may read in the log with its cause and cure. This test reads the plugin's source
// for every text that can get there and fails when one has no entry, or when an entry's text is gone from the source.
//
// An entry is a block fenced as text, one log line in a line, with … for what differs from case to case, and behind it a paragraph
// with the words Cause and Cure.

// wordOf is a text in the source that can reach a log line, and the constant part of it by which its entry is found.
type wordOf struct{ place, text, head string }

// formatVerb is where something else is put into a text.
var formatVerb = regexp.MustCompile(`%[-+# 0]*[0-9.]*[a-zA-Z%]`)

const shortestHead = 8 // bytes: "header: %w" only says where in a token the error behind it is

// headOf is the constant beginning of a format; where that is short, its longest constant part; "" when no part says anything.
func headOf(format string) string {
	longest := ""
	for i, part := range formatVerb.Split(format, -1) {
		part = strings.Trim(part, " :;,\"(")
		if len(part) >= 12 && i == 0 {
			return part
		}
		if len(part) > len(longest) {
			longest = part
		}
	}
	if len(longest) < shortestHead {
		return ""
	}
	return longest
}

// messageAt says which argument of a call is a text for the log; -1 when none is.
func messageAt(call *ast.CallExpr) int {
	switch function := call.Fun.(type) {
	case *ast.Ident:
		if function.Name == "logf" && len(call.Args) > 2 {
			level, isName := call.Args[1].(*ast.Ident)
			_, isCall := call.Args[1].(*ast.CallExpr) // of outageLevel: a warning now and then
			if isCall || isName && (level.Name == "levelWarn" || level.Name == "levelError") {
				return 2
			}
		}
		if function.Name == "warnOnce" { // provider.go
			return 1
		}
		if function.Name == "errorf" || function.Name == "newError" { // text.go
			return 0
		}
		if function.Name == "complain" || function.Name == "failIf" { // expression.go, jwt.go
			return 2
		}
	case *ast.SelectorExpr:
		of, ok := function.X.(*ast.Ident)
		if inner, is := function.X.(*ast.SelectorExpr); is && inner.Sel.Name == "p" { // o.p.failIf
			of, ok = inner.Sel, true
		}
		if ok {
			name := of.Name + "." + function.Sel.Name
			if at, found := map[string]int{"errors.New": 0, "fmt.Errorf": 0, "p.add": 1, "p.failIf": 2}[name]; found {
				return at
			}
		}
	}
	return -1
}

// literal is the text of a string literal.
func literal(expression ast.Expr) (string, bool) {
	basic, ok := expression.(*ast.BasicLit)
	if !ok || basic.Kind != syntax.STRING {
		return "", false
	}
	text, err := strconv.Unquote(basic.Value)
	return text, err == nil
}

// logWords collects the texts of one file of the plugin.
func logWords(set *syntax.FileSet, file *ast.File) []wordOf {
	var words []wordOf
	collect := func(expression ast.Expr) {
		text, ok := literal(expression)
		if head := headOf(text); ok && head != "" {
			words = append(words, wordOf{place: set.Position(expression.Pos()).String(), text: text, head: head})
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.CallExpr:
			if at := messageAt(node); at >= 0 && at < len(node.Args) {
				collect(node.Args[at])
			}
		case *ast.ValueSpec:
			if node.Names[0].Name == "rules" { // rules.go
				words = append(words, ruleWords(set, node.Values[0])...)
			}
		}
		return true
	})
	return words
}

// ruleWords collects what the rows of the table rules say.
func ruleWords(set *syntax.FileSet, table ast.Expr) []wordOf {
	var words []wordOf
	text, _ := literal(table)
	for i, row := range strings.Split(ruleAbbreviations.Replace(text), "\n") {
		place := set.Position(table.Pos())
		place.Line += i
		_, said, _ := strings.Cut(row, ": ")
		said = regexp.MustCompile(`\$\{[^}]*}|got \w+ and \w+`).ReplaceAllString(said, "%s") // what differs from case to case
		if head := headOf(said); head != "" && !strings.HasPrefix(row, "notice/") {          // of level info
			words = append(words, wordOf{place: place.String(), text: said, head: head})
		}
	}
	return words
}

// entryLines are the lines of all entries of a troubleshooting page. It reports entries without a cause and a cure.
func entryLines(page string) (lines, problems []string) {
	parts := strings.Split(page, "\n```text\n")
	for _, part := range parts[1:] {
		block, rest, closed := strings.Cut(part, "\n```\n")
		words, _, _ := strings.Cut(rest, "\n#")
		first, _, _ := strings.Cut(block, "\n")
		if !closed || !strings.Contains(words, "Cause:") || !strings.Contains(words, "Cure:") {
			problems = append(problems, fmt.Sprintf("the entry %q has no Cause: or no Cure:", first))
		}
		lines = append(lines, strings.Split(block, "\n")...)
	}
	return lines, problems
}

// unpaired compares texts and entries in both directions.
func unpaired(words []wordOf, page string) []string {
	lines, problems := entryLines(page)
	matched := map[string]bool{}
	for _, word := range words {
		found := false
		for _, line := range lines {
			if strings.Contains(line, word.head) {
				found = true
				matched[line] = true
			}
		}
		if !found {
			problems = append(problems, fmt.Sprintf("%s: %q has no entry: no line with %q", word.place, word.text, word.head))
		}
	}
	for _, line := range lines {
		if !matched[line] {
			problems = append(problems, fmt.Sprintf("no error of the plugin has the words of the entry %q", line))
		}
	}
	sort.Strings(problems)
	return problems
}

// pluginSyntax are the files of the plugin in this folder.
func pluginSyntax(t *testing.T) (*syntax.FileSet, []*ast.File) {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := syntax.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return set, files
}

// pluginWords are the texts of the plugin in this folder.
func pluginWords(t *testing.T) []wordOf {
	t.Helper()
	set, files := pluginSyntax(t)
	var words []wordOf
	for _, file := range files {
		words = append(words, logWords(set, file)...)
	}
	return words
}

func TestDocsTroubleshooting(t *testing.T) {
	page, err := os.ReadFile("docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	words := pluginWords(t)
	if len(words) < 100 {
		t.Fatalf("only %d texts were found in the source: this test has gone blind", len(words))
	}
	for _, problem := range unpaired(words, string(page)) {
		t.Errorf("docs/troubleshooting.md: %s", problem)
	}
}

// TestDocsTroubleshootingNotices shows that the test above can fail, in each way.
func TestDocsTroubleshootingNotices(t *testing.T) {
	const entry = "# Page\n\n```text\ndiscovery: the sky is …\n```\nCause: clouds. Cure: wait.\n"
	for _, c := range []struct{ name, source, page, want string }{
		{"a documented error is fine", `var _ = errors.New("discovery: the sky is grey")`, strings.Replace(entry, "…", "grey", 1), ""},
		{"what is filled in does not count", `var _ = fmt.Errorf("%w: discovery: the sky is %q", err, x)`, entry, ""},
		{"an error without entry", `var _ = errors.New("the moon is missing")`, entry, "x.go:2:20: \"the moon is missing\" has no entry"},
		{"a log line of level warn", `func f() { logf(l, levelWarn, "the moon is at %d", 1) }`, entry, "has no entry"},
		{"a log line of level debug needs none",
			`func f() { logf(l, levelDebug, "the moon is at %d", 1); errors.New("discovery: the sky is …") }`, entry, ""},
		{"a problem of a configuration", `func f() { p.failIf(bad, "moon", "must be full, got %q", x) }`, entry, "has no entry"},
		{"a problem noted by what reads an option", `func f() { o.p.failIf(bad, "moon", "must be full, got %q", x) }`, entry, "has no entry"},
		{"a row of the rules", "const rules = `\nmoon/ if !value=full: must be full, got ${value}`", entry, `"must be full, got %s" has no entry`},
		{"an entry whose error is gone", `var _ = 1`, entry, "no error of the plugin has the words"},
		{"an entry without a cure", `var _ = errors.New("discovery: the sky is …")`, strings.Replace(entry, "Cure", "Well", 1), "no Cure"},
	} {
		set := syntax.NewFileSet()
		file, err := parser.ParseFile(set, "x.go", "package x\n"+c.source, 0)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got := strings.Join(unpaired(logWords(set, file), c.page), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: expected %q, got %q", c.name, c.want, got)
		}
	}
}

// readAll gives the files that match some patterns, by path.
func readAll(t *testing.T, patterns ...string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("no file is %s", pattern)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(text)
		}
	}
	return texts
}

// TestDocsNameTests: the tests that the pages name are there. A name that ends with … is the beginning of several.
func TestDocsNameTests(t *testing.T) {
	tests := "\n"
	for _, text := range readAll(t, "*_test.go", "e2e/*_test.go") {
		tests += text
	}
	named := 0
	for page, text := range readAll(t, "*.md", "docs/*.md", "docs/*/*.md") {
		for _, found := range regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)(…?)`").FindAllStringSubmatch(text, -1) {
			named++
			end := "("
			if found[2] != "" {
				end = ""
			}
			if !strings.Contains(tests, "\nfunc "+found[1]+end) {
				t.Errorf("%s: no test is called %s", page, found[1])
			}
		}
	}
	if named < 30 {
		t.Errorf("only %d names were found: this test has gone blind", named)
	}
}

// link is a relative link or picture of a page.
var link = regexp.MustCompile(`(?:\]\(|src=")([^)":\s]+)[)"]`)

// anchored is what can be linked to in a page, beside its headings.
var anchored = regexp.MustCompile(`<a id="([^"]+)">`)

// TestDocsLinks: every relative link of the pages leads to a file that is there, and to a heading in it.
func TestDocsLinks(t *testing.T) {
	for page, text := range readAll(t, "*.md", "docs/*.md", "docs/*/*.md") {
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			path, anchor, _ := strings.Cut(found[1], "#")
			target := filepath.Join(filepath.Dir(page), path)
			if path == "" {
				target = page
			}
			content, err := os.ReadFile(target)
			if info, statErr := os.Stat(target); statErr == nil && info.IsDir() {
				continue
			}
			if err != nil {
				t.Errorf("%s: the link %q leads nowhere", page, found[1])
			} else if anchor != "" && !hasAnchor(string(content), anchor) {
				t.Errorf("%s: %s has no heading for the link %q", page, target, found[1])
			}
		}
	}
}

// headingMarks are what a heading loses in its anchor.
var headingMarks = regexp.MustCompile("[^a-z0-9 _-]")

// hasAnchor looks for an explicit anchor, or a heading as GitHub names it.
func hasAnchor(page, anchor string) bool {
	for _, found := range anchored.FindAllStringSubmatch(page, -1) {
		if found[1] == anchor {
			return true
		}
	}
	for _, line := range strings.Split(page, "\n") {
		heading := strings.TrimLeft(line, "#")
		if heading != line && strings.ReplaceAll(headingMarks.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}

// TestDocsErrorFormats: each error has as many arguments as its format wants. go vet checks fmt.Errorf alone, not the variable that stands
// for it.
func TestDocsErrorFormats(t *testing.T) {
	verb := regexp.MustCompile(`%[-+# 0]*[\d.]*[a-zA-Z]`)
	seen := 0
	set, files := pluginSyntax(t)
	for _, file := range files {
		ast.Inspect(file, func(node ast.Node) bool {
			call, isCall := node.(*ast.CallExpr)
			if !isCall {
				return true
			}
			if function, isName := call.Fun.(*ast.Ident); !isName || function.Name != "errorf" {
				return true
			}
			seen++
			format, ok := literal(call.Args[0])
			if wanted := len(verb.FindAllString(strings.ReplaceAll(format, "%%", ""), -1)); !ok || wanted != len(call.Args)-1 {
				t.Errorf("%s: %q wants %d arguments, got %d", set.Position(call.Pos()), format, wanted, len(call.Args)-1)
			}
			return true
		})
	}
	if seen < 100 {
		t.Fatalf("only %d errors were found in the source: this test has gone blind", seen)
	}
}
