package main

import (
	"go/ast"
	"go/token"
	"go/types"
)

// Statements.

func findNilLeft(s *source, n ast.Node, path []ast.Node) bool {
	comparison, ok := n.(*ast.BinaryExpr)
	return ok && isEquality(comparison) && s.info.Types[comparison.X].IsNil()
}

func findTaglessList(s *source, n ast.Node, path []ast.Node) bool {
	choice, ok := n.(*ast.SwitchStmt)
	if !ok || choice.Tag != nil {
		return false
	}
	for _, clause := range choice.Body.List {
		if clause, ok := clause.(*ast.CaseClause); ok && len(clause.List) > 1 {
			return true
		}
	}
	return false
}

func findMapTarget(s *source, n ast.Node, path []ast.Node) bool {
	assignment, ok := n.(*ast.AssignStmt)
	if !ok || len(assignment.Lhs) < 2 || len(assignment.Rhs) != 1 {
		return false
	}
	for _, target := range assignment.Lhs {
		element, ok := target.(*ast.IndexExpr)
		if !ok {
			continue
		}
		if _, ok := underlying(s, element.X).(*types.Map); ok {
			return true
		}
	}
	return false
}

func findRangeAssign(s *source, n ast.Node, path []ast.Node) bool {
	loop, ok := n.(*ast.RangeStmt)
	return ok && loop.Tok == token.ASSIGN
}

func findRange(s *source, n ast.Node, path []ast.Node) bool {
	loop, ok := n.(*ast.RangeStmt)
	if !ok {
		return false
	}
	switch underlying(s, loop.X).(type) {
	case *types.Basic, *types.Signature:
		return true
	}
	return false
}

func findBuiltin(s *source, n ast.Node, path []ast.Node) bool {
	id, ok := n.(*ast.Ident)
	if !ok {
		return false
	}
	_, builtin := s.info.Uses[id].(*types.Builtin)
	return builtin && (id.Name == "min" || id.Name == "max" || id.Name == "clear")
}

func findSeveralLiterals(s *source, n ast.Node, path []ast.Node) bool {
	assignment, ok := n.(*ast.AssignStmt)
	if !ok || assignment.Tok != token.DEFINE {
		return false
	}
	literals := 0
	for _, value := range assignment.Rhs {
		if address, ok := value.(*ast.UnaryExpr); ok {
			value = address.X
		}
		if _, ok := value.(*ast.CompositeLit); !ok {
			continue
		}
		if _, ok := underlying(s, value).(*types.Struct); ok {
			literals++
		}
	}
	return literals > 1
}

func findWidenedReturn(s *source, n ast.Node, path []ast.Node) bool {
	result, ok := n.(*ast.ReturnStmt)
	if !ok || len(result.Results) != 1 {
		return false
	}
	given, ok := s.info.TypeOf(result.Results[0]).(*types.Tuple)
	if !ok {
		return false
	}
	var wanted types.Type
	switch function := functionAround(path).(type) {
	case *ast.FuncLit:
		wanted = s.info.TypeOf(function)
	case *ast.FuncDecl:
		wanted = s.info.TypeOf(function.Name)
	}
	signature, ok := wanted.(*types.Signature)
	for i := 0; ok && i < given.Len() && i < signature.Results().Len(); i++ {
		if !types.Identical(given.At(i).Type(), signature.Results().At(i).Type()) {
			return true
		}
	}
	return false
}

func findUnnamedParameters(s *source, n ast.Node, path []ast.Node) bool {
	var parameters *ast.FieldList
	switch function := n.(type) {
	case *ast.FuncLit:
		parameters = function.Type.Params
	case *ast.FuncDecl:
		parameters = function.Type.Params
	default:
		return false
	}
	for _, field := range parameters.List {
		if len(field.Names) == 0 {
			return true
		}
	}
	return false
}

func findExit(s *source, n ast.Node, path []ast.Node) bool {
	return isCall(s, n, "os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln", "log.Panic", "log.Panicf", "log.Panicln")
}
