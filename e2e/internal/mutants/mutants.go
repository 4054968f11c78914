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

// Find lists the faults that can be made in a file, in their order.
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
	f := finder{file: file, text: text, files: files}
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
}

func (f *finder) add(from, to token.Pos, replacement string) {
	start, end := f.files.Position(from), f.files.Position(to)
	f.found = append(f.found, Mutant{f.file, start.Line, start.Offset, end.Offset, string(f.text[start.Offset:end.Offset]), replacement})
}

func (f *finder) visit(node ast.Node) bool {
	switch n := node.(type) {
	case *ast.BinaryExpr:
		// A text's + has no opposite; a fault that does not compile is no fault.
		if replacement := turned[n.Op]; replacement != "" && !(n.Op == token.ADD && hasText(n)) {
			f.add(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), replacement)
		}
	case *ast.UnaryExpr:
		if n.Op == token.NOT {
			f.add(n.OpPos, n.X.Pos(), "")
		}
	case *ast.IfStmt:
		f.add(n.Cond.Pos(), n.Cond.End(), "!("+string(f.text[f.files.Position(n.Cond.Pos()).Offset:f.files.Position(n.Cond.End()).Offset])+")")
	case *ast.ExprStmt:
		if _, isCall := n.X.(*ast.CallExpr); isCall {
			f.add(n.Pos(), n.End(), "")
		}
	case *ast.AssignStmt:
		if n.Tok == token.ASSIGN && len(n.Lhs) == 1 {
			f.add(n.Lhs[0].Pos(), n.Lhs[0].End(), "_") // worked out, and lost
		}
	case *ast.BasicLit:
		if value, err := strconv.ParseInt(n.Value, 0, 64); err == nil && n.Kind == token.INT {
			f.add(n.Pos(), n.End(), strconv.FormatInt(value+1, 10))
		}
	case *ast.Ident:
		if opposite := map[string]string{"true": "false", "false": "true"}[n.Name]; opposite != "" {
			f.add(n.Pos(), n.End(), opposite)
		}
	case *ast.ReturnStmt:
		if last := len(n.Results) - 1; last >= 0 {
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
