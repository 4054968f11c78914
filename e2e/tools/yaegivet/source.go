package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"strings"

	"golang.org/x/tools/go/types/typeutil"
)

// source is one package as the checks see it.
type source struct {
	set      *token.FileSet
	files    []*ast.File // without tests, which Traefik does not load
	pkg      *types.Package
	info     *types.Info
	loop     map[types.Object]bool        // variables of a loop
	received map[types.Object]bool        // v in v := <-ch
	rescued  map[types.Object]bool        // v in v := recover()
	assigned map[types.Object][]token.Pos // variables assigned after their definition, and fields: v = x, v++, a.v = x
	changed  map[types.Object]bool        // those, and the ones with a part assigned: v.field = x
}

func newSource(set *token.FileSet, files []*ast.File, pkg *types.Package, info *types.Info) *source {
	s := &source{set: set, pkg: pkg, info: info,
		loop: map[types.Object]bool{}, received: map[types.Object]bool{}, rescued: map[types.Object]bool{},
		assigned: map[types.Object][]token.Pos{}, changed: map[types.Object]bool{}}
	for _, file := range files {
		if !isTest(s, file.Package) {
			s.files = append(s.files, file)
			ast.Inspect(file, func(n ast.Node) bool {
				noteVariables(s, n)
				return true
			})
		}
	}
	return s
}

func isTest(s *source, at token.Pos) bool {
	return strings.HasSuffix(s.set.Position(at).Filename, "_test.go")
}

func noteVariables(s *source, n ast.Node) {
	switch n := n.(type) {
	case *ast.ForStmt:
		if start, ok := n.Init.(*ast.AssignStmt); ok {
			for _, v := range start.Lhs {
				noteDefined(s, s.loop, v)
			}
		}
	case *ast.RangeStmt:
		noteDefined(s, s.loop, n.Key)
		noteDefined(s, s.loop, n.Value)
	case *ast.IncDecStmt:
		noteAssigned(s, n.X)
	case *ast.AssignStmt:
		for _, v := range n.Lhs {
			noteAssigned(s, v)
		}
		if len(n.Lhs) == 1 && len(n.Rhs) == 1 {
			if isReceive(n.Rhs[0]) {
				noteDefined(s, s.received, n.Lhs[0])
			}
			if isRecover(s, n.Rhs[0]) {
				noteDefined(s, s.rescued, n.Lhs[0])
			}
		}
	}
}

func noteDefined(s *source, set map[types.Object]bool, v ast.Expr) {
	if id, ok := v.(*ast.Ident); ok && s.info.Defs[id] != nil {
		set[s.info.Defs[id]] = true
	}
}

func noteAssigned(s *source, v ast.Expr) {
	root := rootOf(v)
	if root == nil || s.info.Uses[root] == nil {
		return // a definition, or the field of a call's result
	}
	object := s.info.Uses[root]
	if field, ok := v.(*ast.SelectorExpr); ok && s.info.Uses[field.Sel] != nil {
		s.assigned[s.info.Uses[field.Sel]] = append(s.assigned[s.info.Uses[field.Sel]], v.Pos())
	}
	if ast.Expr(root) == v {
		s.assigned[object] = append(s.assigned[object], v.Pos())
		s.changed[object] = true
		return
	}
	switch object.Type().Underlying().(type) {
	case *types.Struct, *types.Array:
		s.changed[object] = true
	}
}

// rootOf gives v of v.field, v[i], *v, (v).
func rootOf(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// findBanned gives one line for each banned construct, in the order of the files.
// What the checks ask of a node.

func isEquality(e *ast.BinaryExpr) bool { return e.Op == token.EQL || e.Op == token.NEQ }

func isReceive(e ast.Expr) bool {
	receive, ok := e.(*ast.UnaryExpr)
	return ok && receive.Op == token.ARROW
}

func isRecover(s *source, n ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	id, ok := call.Fun.(*ast.Ident)
	return ok && id.Name == "recover"
}

// isOwn says whether a type has its name from the package at hand.
func isOwn(s *source, t types.Type) bool {
	named, ok := t.(*types.Named)
	return ok && named.Obj().Pkg() == s.pkg
}

func dereferenced(t types.Type) types.Type {
	if pointer, ok := t.(*types.Pointer); ok {
		return pointer.Elem()
	}
	return t
}

func underlying(s *source, e ast.Expr) types.Type {
	of := s.info.TypeOf(e)
	if of == nil {
		return nil
	}
	return of.Underlying()
}

// assertionOf gives an assertion and the type it asks for; nil for every other node, and for a type switch.
func assertionOf(s *source, n ast.Node) (*ast.TypeAssertExpr, types.Type) {
	assertion, ok := n.(*ast.TypeAssertExpr)
	if !ok || assertion.Type == nil {
		return nil, nil
	}
	return assertion, s.info.TypeOf(assertion.Type)
}

// calledBy gives the function or method that a call names; nil for closures, conversions and built-in functions.
func calledBy(s *source, call *ast.CallExpr) *types.Func {
	function, _ := typeutil.Callee(s.info, call).(*types.Func)
	return function
}

func isCall(s *source, n ast.Node, names ...string) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	function := calledBy(s, call)
	for _, name := range names {
		if function != nil && function.FullName() == name {
			return true
		}
	}
	return false
}

func isMethod(n ast.Node, names ...string) bool {
	function, ok := n.(*ast.FuncDecl)
	if !ok || function.Recv == nil {
		return false
	}
	for _, name := range names {
		if function.Name.Name == name {
			return true
		}
	}
	return false
}

func receiverOf(s *source, n ast.Node) types.Type {
	function, ok := n.(*ast.FuncDecl)
	if !ok || function.Recv == nil || len(function.Recv.List) == 0 {
		return nil
	}
	return s.info.TypeOf(function.Recv.List[0].Type)
}

// isField says whether the last nodes of a path make what hangs below them a field or method of a type, not a parameter.
func isField(path []ast.Node) bool {
	if len(path) < 2 {
		return false
	}
	switch path[len(path)-2].(type) {
	case *ast.StructType, *ast.InterfaceType:
		return true
	}
	return false
}

func resultNames(function *ast.FuncType) []*ast.Ident {
	var names []*ast.Ident
	if function.Results != nil {
		for _, field := range function.Results.List {
			names = append(names, field.Names...)
		}
	}
	return names
}

func functionAround(path []ast.Node) ast.Node {
	for i := len(path) - 1; i >= 0; i-- {
		switch path[i].(type) {
		case *ast.FuncLit, *ast.FuncDecl:
			return path[i]
		}
	}
	return nil
}

// isInLoop says whether a loop of the same function is around.
func isInLoop(path []ast.Node) bool {
	for i := len(path) - 1; i >= 0; i-- {
		switch path[i].(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			return true
		case *ast.FuncLit, *ast.FuncDecl:
			return false
		}
	}
	return false
}

func treeHolds(n ast.Node, is func(ast.Node) bool) bool {
	found := false
	ast.Inspect(n, func(n ast.Node) bool {
		found = found || is(n)
		return !found
	})
	return found
}
