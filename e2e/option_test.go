package e2e

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// row is one value of an option, and what somebody then sees.
type row struct {
	value any // drop leaves the option out
	want  string
}

// try is the case of an option: for each value a site is set up that has it, beside what base says, and see must come to
// the row's words there. What is not a text is tried once more as the text of a label. At least two rows must want different words, so no case passes when its option is ignored.
//
//	try(t, "session.httpOnly", site{}, func(v *visitor) string { … return attributes }, row{drop, "HttpOnly"}, row{false, ""})
func try(t *testing.T, option string, base site, see func(v *visitor) string, rows ...row) {
	t.Helper()
	if !slices.ContainsFunc(rows, func(r row) bool { return r.want != rows[0].want }) {
		t.Fatalf("the case of %s passes when the option is ignored", option)
	}
	for _, r := range rows {
		t.Run(fmt.Sprintf("%s=%v", option, r.value), func(t *testing.T) {
			t.Parallel()
			s := base
			s.with = with{option: r.value}
			for name, value := range base.with {
				s.with[name] = value
			}
			l := start(t)
			seeIn(t, l, s, option, r, see)
			if _, isText := r.value.(string); !isText && r.value != drop && !s.plain && s.rule == "" {
				t.Run("labels", func(t *testing.T) { seeIn(t, l.labelled(t), s, option, r, see) })
			}
		})
	}
}

func seeIn(t *testing.T, l *lab, s site, option string, r row, see func(v *visitor) string) {
	t.Helper()
	if got := see(l.serve(t, s).visitor(t)); got != r.want {
		t.Errorf("with %s: %v\n got %s\nwant %s", option, r.value, got, r.want)
	}
}

// covers tells TestConfigCovered that a test is the case of an option which has another form than try.
func covers(t *testing.T, options ...string) {
	t.Helper()
	known, err := optionNames()
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range options {
		if !slices.Contains(known, option) {
			t.Errorf("there is no option %s", option)
		}
	}
}

// TestConfigCovered fails for every option of the plugin that has no case here: no call of try or covers names it.
func TestConfigCovered(t *testing.T) {
	options, err := optionNames()
	if err != nil {
		t.Fatal(err)
	}
	covered, err := coveredNames()
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for _, option := range options {
		if !covered[option] {
			missing = append(missing, option)
		}
	}
	if len(missing) > 0 {
		t.Errorf("%d of %d options have no case:\n  %s", len(missing), len(options), strings.Join(missing, "\n  "))
	}
	for option := range covered {
		if !slices.Contains(options, option) {
			t.Errorf("there is a case of %s, which is no option", option)
		}
	}
}

// coveredNames reads from the source of the tests which options they are cases of. What was run does not count, so that
// `go test -run` can select.
func coveredNames() (map[string]bool, error) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			return nil, err
		}
		ast.Inspect(tree, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			function, ok := call.Fun.(*ast.Ident)
			if !ok || function.Name != "try" && function.Name != "covers" {
				return true
			}
			for _, argument := range call.Args {
				literal, ok := argument.(*ast.BasicLit)
				if ok && literal.Kind == token.STRING {
					name, _ := strconv.Unquote(literal.Value)
					names[name] = true
				}
			}
			return true
		})
	}
	return names, nil
}

// optionNames are the options of the plugin, read from its Config: session.expiry, …
func optionNames() ([]string, error) {
	root, err := parts.Root()
	if err != nil {
		return nil, err
	}
	source, err := os.ReadFile(filepath.Join(root, "config.go"))
	if err != nil {
		return nil, err
	}
	tree, err := parser.ParseFile(token.NewFileSet(), "config.go", source, 0)
	if err != nil {
		return nil, err
	}
	structs := map[string]*ast.StructType{}
	ast.Inspect(tree, func(node ast.Node) bool {
		if spec, ok := node.(*ast.TypeSpec); ok {
			if fields, ok := spec.Type.(*ast.StructType); ok {
				structs[spec.Name.Name] = fields
			}
		}
		return true
	})
	if structs["Config"] == nil {
		return nil, fmt.Errorf("config.go has no struct Config")
	}
	var names []string
	appendOptions(structs, "Config", "", &names)
	return names, nil
}

// appendOptions adds the options of a struct, those of its blocks by their path. A block without options is one itself.
func appendOptions(structs map[string]*ast.StructType, name, path string, names *[]string) {
	for _, field := range structs[name].Fields.List {
		if block, ok := field.Type.(*ast.Ident); ok && len(field.Names) == 0 { // embedded: its options stand here
			appendOptions(structs, block.Name, path, names)
			continue
		}
		if field.Tag == nil {
			continue
		}
		tags, _ := strconv.Unquote(field.Tag.Value)
		option, _, _ := strings.Cut(reflect.StructTag(tags).Get("json"), ",")
		if option == "" || option == "-" {
			continue
		}
		kind := field.Type
		if pointer, ok := kind.(*ast.StarExpr); ok {
			kind = pointer.X
		}
		block, ok := kind.(*ast.Ident)
		if ok && structs[block.Name] != nil && len(structs[block.Name].Fields.List) > 0 {
			appendOptions(structs, block.Name, path+option+".", names)
			continue
		}
		*names = append(*names, path+option)
	}
}
