package oidc

import (
	"go/ast"
	"go/parser"
	syntax "go/token"
	"testing"
)

// TestSessionStorage: where a session is kept is known to session_storage.go alone, so that the rest of its life is the same with cookies and
// with Redis. The functions named here are those that docs/how-it-works.md excepts.
func TestSessionStorage(t *testing.T) {
	excepted := map[string]bool{"newSessionManager": true}
	of := map[string]string{} // the file of each function
	var calls [][2]string
	for _, name := range []string{"session.go", "session_storage.go", "session_cookie.go", "session_redis.go", "session_format.go", "session_decision.go",
		"login.go", "pending_login.go", "login_loop.go", "logout.go", "csrf.go"} {
		file, err := parser.ParseFile(syntax.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, is := decl.(*ast.FuncDecl)
			if !is {
				continue
			}
			of[f.Name.Name] = name
			ast.Inspect(f, func(n ast.Node) bool {
				if s, is := n.(*ast.SelectorExpr); is && s.Sel.Name == "store" && !excepted[f.Name.Name] &&
					name != "session_storage.go" && name != "session_redis.go" {
					t.Errorf("%s: %s asks where sessions are kept", name, f.Name.Name)
				}
				if c, is := n.(*ast.CallExpr); is {
					if called, is := c.Fun.(*ast.Ident); is {
						calls = append(calls, [2]string{name, called.Name})
					}
				}
				return true
			})
		}
	}
	if len(calls) < 300 {
		t.Fatalf("only %d calls were found: this test has gone blind", len(calls))
	}
	for _, call := range calls {
		to := of[call[1]]
		if to == "session_redis.go" && call[0] != to && call[0] != "session_storage.go" && call[1] != "allowRevalidation" ||
			to == "session_storage.go" && (call[0] == "session_redis.go" || call[0] == "session_cookie.go") {
			t.Errorf("%s calls %s of %s", call[0], call[1], to)
		}
	}
}
