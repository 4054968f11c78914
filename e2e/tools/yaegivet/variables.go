package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"

	"golang.org/x/tools/go/cfg"
)

// Variables, and when they are read.

func findLoopVariable(s *source, n ast.Node, path []ast.Node) bool {
	id, ok := n.(*ast.Ident)
	if !ok || !s.loop[s.info.Uses[id]] {
		return false
	}
	for i, around := range path {
		if closure, ok := around.(*ast.FuncLit); ok && closure.Pos() > s.info.Uses[id].Pos() {
			return true
		}
		if address, ok := around.(*ast.UnaryExpr); ok && address.Op == token.AND && i >= len(path)-3 && rootOf(address.X) == id {
			return true
		}
	}
	return false
}

func findGoroutine(s *source, n ast.Node, path []ast.Node) bool {
	_, ok := n.(*ast.GoStmt)
	return ok || isCall(s, n, "time.AfterFunc", "context.AfterFunc")
}

func findSelect(s *source, n ast.Node, path []ast.Node) bool {
	_, ok := n.(*ast.SelectStmt)
	return ok
}

func findCallAmongValues(s *source, n ast.Node, path []ast.Node) bool {
	assignment, ok := n.(*ast.AssignStmt)
	if !ok || assignment.Tok.String() != "=" || len(assignment.Rhs) < 2 {
		return false
	}
	for _, value := range assignment.Rhs {
		if _, isCall := value.(*ast.CallExpr); isCall {
			return true
		}
	}
	return false
}

func findNilAmongValues(s *source, n ast.Node, path []ast.Node) bool {
	assignment, ok := n.(*ast.AssignStmt)
	return ok && len(assignment.Rhs) > 1 && slices.ContainsFunc(assignment.Rhs, func(e ast.Expr) bool { return s.info.Types[e].IsNil() })
}

func findDeferInLoop(s *source, n ast.Node, path []ast.Node) bool {
	_, ok := n.(*ast.DeferStmt)
	return ok && isInLoop(path)
}

func findDeferredVariable(s *source, n ast.Node, path []ast.Node) bool {
	pending, ok := n.(*ast.DeferStmt)
	if !ok {
		return false
	}
	found := false
	ast.Inspect(pending.Call, func(n ast.Node) bool {
		if closure, ok := n.(*ast.FuncLit); ok && ast.Expr(closure) == pending.Call.Fun {
			return false // the body of a closure reads its variables at the end in compiled Go as well
		}
		if id, ok := n.(*ast.Ident); ok {
			for _, at := range s.assigned[s.info.Uses[id]] {
				found = found || at > pending.Pos()
			}
		}
		return true
	})
	return found
}

func findMethodValue(s *source, n ast.Node, path []ast.Node) bool {
	value, ok := n.(*ast.SelectorExpr)
	if !ok || len(path) == 0 {
		return false
	}
	if call, ok := path[len(path)-1].(*ast.CallExpr); ok && call.Fun == ast.Expr(value) {
		return false
	}
	selection := s.info.Selections[value]
	if selection == nil || selection.Kind() != types.MethodVal {
		return false
	}
	for at := value.X; ; {
		if field, ok := at.(*ast.SelectorExpr); ok && len(s.assigned[s.info.Uses[field.Sel]]) == 0 {
			at = field.X // a field that nobody assigns
			continue
		}
		receiver, ok := at.(*ast.Ident)
		object := s.info.Uses[receiver]
		return !ok || s.loop[object] || len(s.assigned[object]) > 0
	}
}

func findReceivedChanged(s *source, n ast.Node, path []ast.Node) bool {
	if clause, ok := n.(*ast.CommClause); ok {
		receive, ok := clause.Comm.(*ast.AssignStmt)
		return ok && receive.Tok == token.ASSIGN
	}
	id, ok := n.(*ast.Ident)
	object := s.info.Defs[id]
	return ok && s.received[object] && s.changed[object]
}

func findUnasked(_ *source, n ast.Node, path []ast.Node) bool {
	a, ok := n.(*ast.AssignStmt)
	return ok && isUnasked(a) && isInLoop(path)
}

// isUnasked says whether an assignment is of an assertion or a look-up that may fail, and nobody asks whether it did.
func isUnasked(a *ast.AssignStmt) bool {
	if len(a.Lhs) != 2 || len(a.Rhs) != 1 {
		return false
	}
	value, isValue := a.Lhs[0].(*ast.Ident)
	asked, isAsked := a.Lhs[1].(*ast.Ident)
	_, isAssertion := a.Rhs[0].(*ast.TypeAssertExpr)
	_, isLookUp := a.Rhs[0].(*ast.IndexExpr)
	return isValue && value.Name != "_" && isAsked && asked.Name == "_" && (isAssertion || isLookUp)
}

// findNamedResult finds the first node on a way through a function that reads a named result before anything is assigned to it.
func findNamedResult(s *source, n ast.Node, path []ast.Node) bool {
	if len(path) == 0 {
		return false
	}
	var body *ast.BlockStmt
	function, ok := n.(*ast.FuncType)
	switch around := path[len(path)-1].(type) {
	case *ast.FuncDecl:
		body = around.Body
	case *ast.FuncLit:
		body = around.Body
	}
	if !ok || body == nil {
		return false
	}
	graph := cfg.New(body, func(*ast.CallExpr) bool { return true })
	for _, name := range resultNames(function) {
		if isReadUnset(s, s.info.Defs[name], graph.Blocks[0], map[*cfg.Block]bool{}) {
			return true
		}
	}
	return false
}

// isReadUnset says whether a way that begins with a block reads a result that nothing was assigned to.
func isReadUnset(s *source, result types.Object, block *cfg.Block, seen map[*cfg.Block]bool) bool {
	if result == nil || seen[block] {
		return false // of a blank name, or a loop
	}
	seen[block] = true
	for _, n := range block.Nodes {
		if bare, ok := n.(*ast.ReturnStmt); ok && len(bare.Results) == 0 {
			return true
		}
		reads, writes := usesOf(s, result, n)
		if reads || writes {
			return reads
		}
	}
	for _, next := range block.Succs {
		if isReadUnset(s, result, next, seen) {
			return true
		}
	}
	return false
}

// usesOf says whether a node reads a variable before it is assigned there, and whether it assigns to the whole of it. What a closure
// assigns is not assigned yet, nor is what an assertion gives that may have failed.
func usesOf(s *source, variable types.Object, n ast.Node) (reads, writes bool) {
	ast.PreorderStack(n, nil, func(n ast.Node, path []ast.Node) bool {
		id, ok := n.(*ast.Ident)
		if !ok || s.info.Uses[id] != variable {
			return true
		}
		assignment, _ := path[len(path)-1].(*ast.AssignStmt)
		switch {
		case assignment == nil || !isTarget(assignment, id):
			reads = true
		case functionAround(path) == nil && !isUnasked(assignment):
			writes = true
		}
		return true
	})
	return reads, writes
}

func isTarget(assignment *ast.AssignStmt, id *ast.Ident) bool {
	isPlain := assignment.Tok == token.ASSIGN || assignment.Tok == token.DEFINE
	return isPlain && slices.Contains(assignment.Lhs, ast.Expr(id))
}
