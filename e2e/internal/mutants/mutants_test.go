package mutants

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.go")
	source := "package a\n\nfunc f(x int, err error) (bool, error) {\n\tif x > 1 && !g() {\n\t\tx = 2\n\t\tg()\n\t\treturn false, err\n\t}\n\treturn \"a\"+h() == \"ab\", nil\n}\n"
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := Find(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range found {
		got = append(got, strings.TrimPrefix(m.String(), "a.go:"))
	}
	slices.Sort(got)
	want := []string{
		"4: `!` → (nothing)", "4: `&&` → `||`", "4: `1` → `2`", "4: `>` → `>=`", "4: `x > 1 && !g()` → `!(x > 1 && !g())`",
		"5: `2` → `3`", "5: `x` → `_`", "6: `g()` → (nothing)", "7: `err` → `nil`", "7: `false` → `true`", "9: `==` → `!=`",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	changed, err := found[0].Apply()
	if err != nil || string(changed) == source || len(changed) != len(source)+len(found[0].New)-len(found[0].Old) {
		t.Errorf("the first fault gives %q, %v", changed, err)
	}
}

func TestSampleIsTheSameForTheSameSeed(t *testing.T) {
	files := []string{"mutants.go"}
	one, all, err := Sample(files, 5, 7)
	two, _, _ := Sample(files, 5, 7)
	three, _, _ := Sample(files, 5, 8)
	if err != nil || all < 20 || !slices.Equal(one, two) || slices.Equal(one, three) {
		t.Errorf("of %d: %v, %v, %v, %v", all, one, two, three, err)
	}
}
