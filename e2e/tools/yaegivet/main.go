// Yaegivet reports Go that the plugin may not use:
//
//	go build -C e2e/tools -o ../../.cache/ ./yaegivet
//	go vet -vettool=.cache/yaegivet .
//
// Traefik does not compile a plugin, it interprets it with Yaegi v0.16.1. What is reported here compiles, passes every other test, and
// then runs wrongly, panics, or keeps Traefik from starting. Each entry of the table was seen to happen in the interpreter.
package main

import (
	"fmt"
	"go/ast"
	"go/token"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/unitchecker"
)

func main() { unitchecker.Main(analyzer) }

var analyzer = &analysis.Analyzer{
	Name: "yaegi",
	Doc:  "report Go that Traefik's interpreter runs wrongly or does not run",
	Run: func(pass *analysis.Pass) (any, error) {
		report(newSource(pass.Fset, pass.Files, pass.Pkg, pass.TypesInfo), func(at token.Pos, t *trap) {
			pass.Report(analysis.Diagnostic{Pos: at, Category: t.name, Message: t.message()})
		})
		return nil, nil
	},
}

func (t *trap) message() string {
	return fmt.Sprintf("%s: in the interpreter, %s; instead: %s", t.name, t.harm, t.instead)
}

// report calls found for each trap in a package.
func report(s *source, found func(token.Pos, *trap)) {
	for _, file := range s.files {
		ast.PreorderStack(file, nil, func(n ast.Node, path []ast.Node) bool {
			for i := range traps {
				if traps[i].find(s, n, path) {
					found(n.Pos(), &traps[i])
				}
			}
			return true
		})
	}
}
