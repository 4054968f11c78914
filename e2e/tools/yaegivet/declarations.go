package main

import (
	"go/ast"
	"go/types"
	"strings"
)

// Declarations.

func findGeneric(s *source, n ast.Node, path []ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncType:
		return n.TypeParams != nil
	case *ast.TypeSpec:
		return n.TypeParams != nil
	case *ast.Ident:
		_, ok := s.info.Instances[n]
		return ok
	}
	return false
}

// missingPackages are those of the standard library that plugins cannot import, or whose functions are nearly all generic.
const missingPackages = " C cmp crypto/fips140 crypto/hkdf crypto/mlkem crypto/pbkdf2 crypto/sha3 embed encoding/json/v2 iter maps os/exec plugin slices structs syscall unique unsafe weak "

func findImport(s *source, n ast.Node, path []ast.Node) bool {
	spec, ok := n.(*ast.ImportSpec)
	if !ok {
		return false
	}
	name := strings.Trim(spec.Path.Value, `"`)
	first, _, _ := strings.Cut(name, "/")
	return strings.Contains(first, ".") || strings.Contains(missingPackages, " "+name+" ")
}

func findDirective(s *source, n ast.Node, path []ast.Node) bool {
	file, ok := n.(*ast.File)
	if !ok {
		return false
	}
	for _, group := range file.Comments {
		for _, comment := range group.List {
			if strings.HasPrefix(comment.Text, "//go:") {
				return true
			}
		}
	}
	return false
}

func findLocalAlias(s *source, n ast.Node, path []ast.Node) bool {
	spec, ok := n.(*ast.TypeSpec)
	return ok && spec.Assign.IsValid() && functionAround(path) != nil
}

func findTypedConstant(s *source, n ast.Node, path []ast.Node) bool {
	spec, ok := n.(*ast.ValueSpec)
	if !ok {
		return false
	}
	for i, value := range spec.Values {
		constant, ok := s.info.Defs[spec.Names[i]].(*types.Const)
		if !ok || !isOwn(s, constant.Type()) {
			continue
		}
		_, literal := value.(*ast.BasicLit)
		id, name := value.(*ast.Ident)
		if !literal && !(name && id.Name == "iota") {
			return true
		}
	}
	return false
}

func findPackageVariable(s *source, n ast.Node, path []ast.Node) bool {
	spec, ok := n.(*ast.ValueSpec)
	if !ok || functionAround(path) != nil {
		return false
	}
	found := false
	for _, value := range spec.Values {
		ast.Inspect(value, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				_, closure := n.(*ast.FuncLit)
				return !closure
			}
			_, closure := call.Fun.(*ast.FuncLit)
			function := calledBy(s, call)
			found = found || closure || function != nil && function.Pkg() == s.pkg
			return true
		})
	}
	return found
}

func findValueReceiver(s *source, n ast.Node, path []ast.Node) bool {
	receiver := receiverOf(s, n)
	if receiver == nil {
		return false
	}
	_, ok := receiver.Underlying().(*types.Struct)
	return ok
}

func findEmbeddedInterface(s *source, n ast.Node, path []ast.Node) bool {
	field, ok := n.(*ast.Field)
	if !ok || len(field.Names) > 0 || !isField(path) {
		return false
	}
	embedded := s.info.TypeOf(field.Type)
	return embedded != nil && isOwn(s, embedded) && types.IsInterface(embedded)
}

func findMethodExpression(s *source, n ast.Node, path []ast.Node) bool {
	expression, ok := n.(*ast.SelectorExpr)
	if !ok || s.info.Selections[expression] == nil {
		return false
	}
	return s.info.Selections[expression].Kind() == types.MethodExpr
}

func findResponseWriter(s *source, n ast.Node, path []ast.Node) bool {
	if isMethod(n, "WriteHeader") {
		return true
	}
	field, ok := n.(*ast.Field)
	if !ok || len(field.Names) > 0 || !isField(path) {
		return false
	}
	embedded := s.info.TypeOf(field.Type)
	return embedded != nil && embedded.String() == "net/http.ResponseWriter"
}
