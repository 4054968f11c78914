package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schema is docs/oidc.schema.json, by which editors complete and check the options.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	compiled, err := jsonschema.NewCompiler().Compile("../docs/oidc.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// documented are the options in every example and page, by the place where they stand.
func documented(t *testing.T) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	add := func(path string, examples []example, err error) {
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for i, e := range examples {
			// Through JSON, so that numbers and lists have the types that a JSON Schema knows.
			text, err := json.Marshal(e.options)
			if err != nil {
				t.Fatal(err)
			}
			options := map[string]any{}
			if err := json.Unmarshal(text, &options); err != nil {
				t.Fatal(err)
			}
			found[fmt.Sprintf("%s %d %s", path, i+1, e.name)] = options
		}
	}
	for _, pattern := range []string{"../examples/*/*.yml", "../examples/*/*/*.yml"} {
		files, _ := filepath.Glob(pattern)
		for _, path := range files {
			examples, err := readExample(path)
			add(path, examples, err)
		}
	}
	for _, pattern := range []string{"../README.md", "../docs/*.md", "../docs/*/*.md"} {
		pages, _ := filepath.Glob(pattern)
		for _, path := range pages {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			examples, err := pageExamples(string(text))
			add(path, examples, err)
		}
	}
	return found
}

// TestSchemaExamples: whatever is documented is good by the schema, and each of its options, misspelt, is not.
func TestSchemaExamples(t *testing.T) {
	s := schema(t)
	all := documented(t)
	if len(all) < 40 {
		t.Fatalf("only %d examples: this test has gone blind", len(all))
	}
	misspelt := 0
	for place, options := range all {
		if err := s.Validate(options); err != nil {
			t.Errorf("%s: %v", place, err)
			continue
		}
		for _, path := range paths(options, nil) {
			misspelt++
			if err := s.Validate(renamed(options, path)); err == nil {
				t.Errorf("%s: %s is misspelt, and the schema does not mind", place, strings.Join(path, "."))
			}
		}
	}
	t.Logf("%d examples, %d misspelt options", len(all), misspelt)
}

// freeNames are maps whose names are the user's.
var freeNames = []string{"forwardHeaders", "authParams", "discoveryParams", "params", "headers", "errorPages"}

// paths lists every option in a block, those of blocks in it with their path.
func paths(block map[string]any, above []string) [][]string {
	var found [][]string
	for name, value := range block {
		path := append(slices.Clone(above), name)
		found = append(found, path)
		if inner, ok := value.(map[string]any); ok && !slices.Contains(freeNames, name) {
			found = append(found, paths(inner, path)...)
		}
	}
	return found
}

// renamed is a copy of the block in which the option at path has a letter more.
func renamed(block map[string]any, path []string) map[string]any {
	copied := map[string]any{}
	for name, value := range block {
		if name == path[0] && len(path) == 1 {
			name += "x" // an s might make it another option: header, headers
		} else if name == path[0] {
			value = renamed(value.(map[string]any), path[1:])
		}
		copied[name] = value
	}
	return copied
}
