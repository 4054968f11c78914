package interpreted

import (
	"context"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// heapCeiling is how many megabytes the loaded plugin may keep; a running Traefik needs about twice as much for it, as the collector lets
// garbage grow to the size of what is kept.
const heapCeiling = 33

// TestMemoryOfThePlugin says what the memory of docs/scaling.md is made of: `go test -C e2e/interpreted -run MemoryOfThePlugin -v .`
func TestMemoryOfThePlugin(t *testing.T) {
	kept := func(folder string) float64 {
		before := heap()
		plugin, err := Load(folder, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		defer plugin.Close()
		grown := float64(heap()-before) / (1 << 20)
		runtime.KeepAlive(plugin)
		return grown
	}
	empty := t.TempDir()
	write(t, filepath.Join(empty, "oidc.go"), []byte("package oidc\nfunc New() {}\nfunc CreateConfig() {}\n"))
	declarations := t.TempDir()
	nodes := withoutBodies(t, "../..", declarations)
	kept(empty) // the library's symbols, once for all
	interpreter, declared, whole := kept(empty), kept(declarations), kept("../..")
	t.Logf("interpreter %.1f MB, declarations %.1f MB, bodies %.1f MB; %d syntax nodes, %.0f bytes each",
		interpreter, declared-interpreter, whole-declared, nodes, (whole-interpreter)*(1<<20)/float64(nodes))
	t.Logf("a middleware %.0f KB", middlewareSize(t)/1024)
	if whole > heapCeiling {
		t.Errorf("%.1f MB, at most %d", whole, heapCeiling)
	}
}

// middlewareSize is what one more middleware with options of its own keeps, in bytes.
func middlewareSize(t *testing.T) float64 {
	t.Helper()
	const count = 100
	plugin, err := Load("../..", io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer plugin.Close()
	var kept []http.Handler
	add := func(i int) {
		handler, err := plugin.Build(context.Background(), http.NotFoundHandler(), map[string]any{"issuer": "https://id.example.com", "clientId": "app", "clientSecret": "oq6ZRjGmFvcU0tPYAx7hKd2e",
			"claims": fmt.Sprintf("Contains(`groups`, `g%d`)", i), "forwardHeaders": map[string]any{"X-User": "email"}}, "login@file")
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, handler)
	}
	add(0)
	before := heap()
	for i := range count {
		add(i + 1)
	}
	grown := float64(heap() - before)
	runtime.KeepAlive(kept)
	return grown / count
}

func heap() uint64 {
	var stats runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// withoutBodies writes the plugin with functions that do nothing, and counts its syntax nodes.
func withoutBodies(t *testing.T, from, to string) (nodes int) {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(from, "*.go"))
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			if node != nil {
				nodes++
			}
			return true
		})
		for _, declaration := range file.Decls {
			if function, is := declaration.(*ast.FuncDecl); is {
				doNothing(function)
			}
		}
		var text strings.Builder
		if err := format.Node(&text, set, file); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, filepath.Base(name)), []byte(text.String()))
	}
	return nodes
}

// doNothing makes a function return zeros.
func doNothing(function *ast.FuncDecl) {
	function.Body.List = nil
	if function.Type.Results == nil {
		return
	}
	function.Body.List = []ast.Stmt{&ast.ReturnStmt{}}
	for i, result := range function.Type.Results.List {
		if len(result.Names) == 0 {
			result.Names = []*ast.Ident{ast.NewIdent(fmt.Sprint("zero", i))}
		}
	}
}

func write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
