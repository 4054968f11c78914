package main

import (
	"go/ast"
	"go/types"
)

// Interfaces and assertions.

func findInterfaceAssertion(s *source, n ast.Node, path []ast.Node) bool {
	_, target := assertionOf(s, n)
	if target == nil || !types.IsInterface(target) {
		return false
	}
	_, named := target.(*types.Named)
	empty := target.Underlying().(*types.Interface).Empty()
	return isOwn(s, target) || !named && !empty
}

func findConversionAssertion(s *source, n ast.Node, path []ast.Node) bool {
	assertion, target := assertionOf(s, n)
	if target == nil {
		return false
	}
	call, ok := assertion.X.(*ast.CallExpr)
	return ok && s.info.Types[call.Fun].IsType()
}

func findTwinAssertion(s *source, n ast.Node, path []ast.Node) bool {
	_, target := assertionOf(s, n)
	if target == nil || !isOwn(s, dereferenced(target)) {
		return false
	}
	fields, ok := dereferenced(target).Underlying().(*types.Struct)
	if !ok {
		return false
	}
	for _, name := range s.pkg.Scope().Names() {
		other, ok := s.pkg.Scope().Lookup(name).(*types.TypeName)
		if ok && !isTest(s, other.Pos()) && !types.Identical(other.Type(), dereferenced(target)) && types.Identical(other.Type().Underlying(), fields) {
			return true
		}
	}
	return false
}

func findUnboundSwitch(s *source, n ast.Node, path []ast.Node) bool {
	choice, ok := n.(*ast.TypeSwitchStmt)
	if !ok {
		return false
	}
	_, unbound := choice.Assign.(*ast.ExprStmt)
	return unbound
}

func findSwitchCase(s *source, n ast.Node, path []ast.Node) bool {
	choice, ok := n.(*ast.TypeSwitchStmt)
	if !ok {
		return false
	}
	for _, clause := range choice.Body.List {
		for _, kind := range clause.(*ast.CaseClause).List {
			of := s.info.TypeOf(kind)
			if of != nil && (of.String() == "error" || isOwn(s, dereferenced(of))) {
				return true
			}
		}
	}
	return false
}

func findInterfaceComparison(s *source, n ast.Node, path []ast.Node) bool {
	if choice, ok := n.(*ast.SwitchStmt); ok && choice.Tag != nil {
		tag := s.info.TypeOf(choice.Tag)
		return tag != nil && types.IsInterface(tag) && (tag.String() == "error" || isOwn(s, tag))
	}
	comparison, ok := n.(*ast.BinaryExpr)
	if !ok || !isEquality(comparison) {
		return false
	}
	left, right := s.info.Types[comparison.X], s.info.Types[comparison.Y]
	if left.IsNil() || right.IsNil() || left.Type == nil || right.Type == nil {
		return false
	}
	if !types.IsInterface(left.Type) && !types.IsInterface(right.Type) {
		return false
	}
	both := left.Type.String() == "error" && right.Type.String() == "error"
	return both || isOwn(s, dereferenced(left.Type)) || isOwn(s, dereferenced(right.Type))
}

// Errors and panics.

func findErrorType(s *source, n ast.Node, path []ast.Node) bool {
	return isMethod(n, "Error", "Unwrap", "Is", "As")
}

func findErrorsAs(s *source, n ast.Node, path []ast.Node) bool {
	if !isCall(s, n, "errors.As") {
		return false
	}
	target := s.info.TypeOf(n.(*ast.CallExpr).Args[1])
	return target != nil && isOwn(s, dereferenced(dereferenced(target)))
}

func findErrorConversion(s *source, n ast.Node, path []ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok || !s.info.Types[call.Fun].IsType() {
		return false
	}
	id, ok := call.Fun.(*ast.Ident)
	return ok && id.Name == "error"
}

func findRecoverAroundNext(s *source, n ast.Node, path []ast.Node) bool {
	guard, ok := n.(*ast.DeferStmt)
	function := functionAround(path)
	if !ok || function == nil || !treeHolds(guard, func(n ast.Node) bool { return isRecover(s, n) }) {
		return false
	}
	return treeHolds(function, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return false
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		return ok && method.Sel.Name == "ServeHTTP"
	})
}

func findRecoverAssertion(s *source, n ast.Node, path []ast.Node) bool {
	assertion, target := assertionOf(s, n)
	if target == nil {
		return false
	}
	id, ok := assertion.X.(*ast.Ident)
	return isRecover(s, assertion.X) || ok && s.rescued[s.info.Uses[id]]
}
