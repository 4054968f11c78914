// Package mutants makes small faults in Go source, one at a time: what a test suite would have to notice.
package mutants

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Mutant is one fault: File's bytes from Start to End become New.
type Mutant struct {
	File       string
	Line       int
	Start, End int
	Old, New   string
}

func (m Mutant) String() string {
	return fmt.Sprintf("%s:%d: %s → %s", filepath.Base(m.File), m.Line, short(m.Old), short(m.New))
}

func short(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 70 {
		text = text[:70] + "…"
	}
	if text == "" {
		return "(nothing)"
	}
	return "`" + text + "`"
}

// Apply is the file's text with the fault in it.
func (m Mutant) Apply() ([]byte, error) {
	text, err := os.ReadFile(m.File)
	if err != nil {
		return nil, err
	}
	return []byte(string(text[:m.Start]) + m.New + string(text[m.End:])), nil
}

// turned are the operators and what is put in their place.
var turned = map[token.Token]string{
	token.LAND: "||", token.LOR: "&&", token.EQL: "!=", token.NEQ: "==",
	token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">", token.ADD: "-", token.SUB: "+",
}

// Find lists the faults that can be made in a file, in their order. Three kinds are left out, as no test can notice them, whatever the code is:
//   - the very end of a time that has just passed or is left, in nanoseconds: `time.Since(x) < limit` and `<=`, and a nanosecond more. The
//     clock is read in the comparison, so nothing can make it read that.
//   - the very end of a comparison after which one side takes the other's value: `if a > b { a = b }` and `>=`. If they are equal, either does
//     nothing.
//   - a number, true or false beside an error that is always there (`return 0, errors.New(…)`, and `return 0, err` in `if err != nil`). It means
//     nothing, as every Go reader knows. The error itself is still taken away.
func Find(file string) ([]Mutant, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	files := token.NewFileSet()
	tree, err := parser.ParseFile(files, file, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	f := finder{file: file, text: text, files: files, same: map[ast.Node]bool{}}
	for _, decl := range tree.Decls {
		if function, ok := decl.(*ast.FuncDecl); ok && function.Body != nil {
			ast.Inspect(function.Body, f.visit)
		}
	}
	sort.Slice(f.found, func(i, j int) bool { return f.found[i].Start < f.found[j].Start })
	return f.found, nil
}

type finder struct {
	file  string
	text  []byte
	files *token.FileSet
	found []Mutant
	same  map[ast.Node]bool // what no fault can be made of
}

func (f *finder) source(n ast.Node) string {
	return string(f.text[f.files.Position(n.Pos()).Offset:f.files.Position(n.End()).Offset])
}

// skip leaves out the comparisons of a condition whose sides body, the only statement, makes equal, and the values beside errors.
func (f *finder) skip(n *ast.IfStmt) {
	if name, ok := n.Cond.(*ast.BinaryExpr); ok && name.Op == token.NEQ && f.source(n.Cond) == "err != nil" {
		for _, statement := range n.Body.List {
			if result, isReturn := statement.(*ast.ReturnStmt); isReturn && len(result.Results) > 0 && f.source(result.Results[len(result.Results)-1]) == "err" {
				f.skipBeside(result)
			}
		}
	}
	if len(n.Body.List) != 1 || n.Else != nil {
		return
	}
	set, ok := n.Body.List[0].(*ast.AssignStmt)
	if !ok || set.Tok != token.ASSIGN || len(set.Lhs) != 1 {
		return
	}
	to, from := f.source(set.Lhs[0]), f.source(set.Rhs[0])
	ast.Inspect(n.Cond, func(node ast.Node) bool {
		if compared, ok := node.(*ast.BinaryExpr); ok && isOrder(compared.Op) {
			x, y := f.source(compared.X), f.source(compared.Y)
			f.same[compared] = x == to && y == from || x == from && y == to
		}
		return true
	})
}

// skipBeside leaves out the values that a return has beside its error.
func (f *finder) skipBeside(n *ast.ReturnStmt) {
	for _, value := range n.Results[:len(n.Results)-1] {
		f.same[value] = true
	}
}

func isOrder(op token.Token) bool {
	return op == token.LSS || op == token.LEQ || op == token.GTR || op == token.GEQ
}

// isClock reports whether an expression reads the clock, in nanoseconds.
func (f *finder) isClock(n ast.Expr) bool {
	call, ok := n.(*ast.CallExpr)
	return ok && (f.source(call.Fun) == "time.Since" || f.source(call.Fun) == "time.Until")
}

// isError reports whether an expression is an error that is always there.
func (f *finder) isError(n ast.Expr) bool {
	call, ok := n.(*ast.CallExpr)
	return ok && slices.Contains([]string{"errors.New", "fmt.Errorf", "newError", "errorf"}, f.source(call.Fun)) // or the plugin's short names
}

func (f *finder) add(from, to token.Pos, replacement string) {
	start, end := f.files.Position(from), f.files.Position(to)
	f.found = append(f.found, Mutant{f.file, start.Line, start.Offset, end.Offset, string(f.text[start.Offset:end.Offset]), replacement})
}

func (f *finder) visit(node ast.Node) bool {
	switch n := node.(type) {
	case *ast.BinaryExpr:
		if isOrder(n.Op) && (f.isClock(n.X) || f.isClock(n.Y)) {
			f.same[n] = true
			for _, side := range []ast.Expr{n.X, n.Y} {
				if _, isLiteral := side.(*ast.BasicLit); isLiteral {
					f.same[side] = true // a nanosecond more
				}
			}
		}
		if f.same[n] {
			return true
		}
		// A text's + has no opposite; a fault that does not compile is no fault.
		if replacement := turned[n.Op]; replacement != "" && !(n.Op == token.ADD && hasText(n)) {
			f.add(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), replacement)
		}
	case *ast.UnaryExpr:
		if n.Op == token.NOT {
			f.add(n.OpPos, n.X.Pos(), "")
		}
	case *ast.IfStmt:
		f.skip(n)
		f.add(n.Cond.Pos(), n.Cond.End(), "!("+f.source(n.Cond)+")")
	case *ast.ExprStmt:
		if _, isCall := n.X.(*ast.CallExpr); isCall {
			f.add(n.Pos(), n.End(), "")
		}
	case *ast.AssignStmt:
		if n.Tok == token.ASSIGN && len(n.Lhs) == 1 {
			f.add(n.Lhs[0].Pos(), n.Lhs[0].End(), "_") // worked out, and lost
		}
	case *ast.BasicLit:
		if value, err := strconv.ParseInt(n.Value, 0, 64); err == nil && n.Kind == token.INT && !f.same[n] {
			f.add(n.Pos(), n.End(), strconv.FormatInt(value+1, 10))
		}
	case *ast.Ident:
		if opposite := map[string]string{"true": "false", "false": "true"}[n.Name]; opposite != "" && !f.same[n] {
			f.add(n.Pos(), n.End(), opposite)
		}
	case *ast.ReturnStmt:
		if last := len(n.Results) - 1; last >= 0 {
			if f.isError(n.Results[last]) {
				f.skipBeside(n)
			}
			if name, ok := n.Results[last].(*ast.Ident); ok && name.Name == "err" {
				f.add(name.Pos(), name.End(), "nil")
			}
		}
	}
	return true
}

func hasText(n *ast.BinaryExpr) bool {
	isText := false
	ast.Inspect(n, func(node ast.Node) bool {
		literal, ok := node.(*ast.BasicLit)
		isText = isText || ok && literal.Kind == token.STRING
		return true
	})
	return isText
}

// Sample is n of the mutants of files, the same ones for the same seed: each is as likely as any other.
func Sample(files []string, n int, seed uint64) (sample []Mutant, all int, err error) {
	var found []Mutant
	for _, file := range files {
		more, err := Find(file)
		if err != nil {
			return nil, 0, err
		}
		found = append(found, more...)
	}
	random := rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	return found[:min(n, len(found))], len(found), nil
}
