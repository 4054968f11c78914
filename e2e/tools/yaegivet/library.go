package main

import (
	"go/ast"
	"go/types"
	"strings"
)

// Own types in the library's hands.

func findMarshaller(s *source, n ast.Node, path []ast.Node) bool {
	return isMethod(n, "MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText", "MarshalBinary", "UnmarshalBinary", "GobEncode", "GobDecode", "Format", "GoString")
}

func findJSONType(s *source, n ast.Node, path []ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return false
	}
	function := calledBy(s, call)
	if function == nil || function.Pkg() == nil || function.Pkg().Path() != "encoding/json" {
		return false
	}
	return isBadJSON(s, s.info.TypeOf(call.Args[len(call.Args)-1]), map[types.Type]bool{})
}

func isBadJSON(s *source, t types.Type, seen map[types.Type]bool) bool {
	if t == nil || seen[t] {
		return false
	}
	seen[t] = true
	switch u := t.Underlying().(type) {
	case *types.Pointer:
		return isBadJSON(s, u.Elem(), seen)
	case *types.Slice:
		return isBadJSON(s, u.Elem(), seen)
	case *types.Map:
		return isBadJSON(s, u.Elem(), seen)
	case *types.Struct:
		named, ok := t.(*types.Named)
		if ok && (!isOwn(s, t) || named.NumMethods() > 0) {
			return isOwn(s, t)
		}
		for i := 0; i < u.NumFields(); i++ {
			field := u.Field(i)
			hidden := strings.Contains(u.Tag(i), `json:"-"`)
			if !hidden && (!field.Exported() || field.Embedded() || isBadJSON(s, field.Type(), seen)) {
				return true
			}
		}
	}
	return false
}

func findPrintedType(s *source, n ast.Node, path []ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	function := calledBy(s, call)
	if function == nil || function.Pkg() == nil {
		return false
	}
	signature := function.Type().(*types.Signature)
	prints := function.Pkg().Path() == "fmt" || function.Pkg().Path() == "log" || function.Pkg() == s.pkg && strings.HasSuffix(lastParameter(signature), "format string")
	if !prints || !signature.Variadic() {
		return false
	}
	for i, argument := range call.Args {
		if i >= signature.Params().Len()-1 && isOwnStruct(s, s.info.TypeOf(argument)) {
			return true
		}
	}
	return false
}

// lastParameter gives the name and type of the parameter before the variadic one.
func lastParameter(signature *types.Signature) string {
	count := signature.Params().Len()
	if count < 2 {
		return ""
	}
	before := signature.Params().At(count - 2)
	return before.Name() + " " + before.Type().String()
}

func isOwnStruct(s *source, t types.Type) bool {
	if t == nil {
		return false
	}
	if named, ok := t.(*types.Named); ok && isOwn(s, t) && named.NumMethods() > 0 {
		return true
	}
	switch u := t.Underlying().(type) {
	case *types.Struct:
		return isOwn(s, t)
	case *types.Pointer:
		return isOwnStruct(s, u.Elem())
	case *types.Slice:
		return isOwnStruct(s, u.Elem())
	case *types.Map:
		return isOwnStruct(s, u.Elem())
	}
	return false
}

func findForeignLiteral(s *source, n ast.Node, path []ast.Node) bool {
	literal, ok := n.(*ast.CompositeLit)
	if !ok {
		return false
	}
	of := s.info.TypeOf(literal)
	named, ok := of.(*types.Named)
	if !ok || isOwn(s, named) {
		return false
	}
	for _, element := range literal.Elts {
		pair, ok := element.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		value := s.info.TypeOf(pair.Value)
		if value != nil && isOwnStruct(s, value) {
			return true
		}
	}
	return false
}

func findContextKey(s *source, n ast.Node, path []ast.Node) bool {
	if !isCall(s, n, "context.WithValue") {
		return false
	}
	key := s.info.TypeOf(n.(*ast.CallExpr).Args[1])
	return key == nil || key.String() != "string"
}

// newNames are of Go 1.23 and later. Missing functions are found by loading the plugin; fields and methods of library types
// are those of the Go that built Traefik, so only this list finds them.
const newNames = " CookiesNamed Partitioned Quoted ParseCookie ParseSetCookie SplitSeq SplitAfterSeq FieldsSeq FieldsFuncSeq Lines AsType NewGCMWithRandomNonce EncryptedClientHelloConfigList EncryptedClientHelloKeys "

func findNewLibrary(s *source, n ast.Node, path []ast.Node) bool {
	id, ok := n.(*ast.Ident)
	if !ok || !strings.Contains(newNames, " "+id.Name+" ") {
		return false
	}
	object := s.info.Uses[id]
	return object != nil && object.Pkg() != nil && object.Pkg() != s.pkg
}
