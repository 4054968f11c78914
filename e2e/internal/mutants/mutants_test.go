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

// TestFindLeavesOut: what no test can notice is no fault, and everything beside it is one.
func TestFindLeavesOut(t *testing.T) {
	for statement, want := range map[string]string{
		"if time.Since(at) < limit { g() }":                      "`g()` → (nothing), `time.Since(at) < limit` → `!(time.Since(at) < limit)`",
		"if time.Until(at) <= 0 { g() }":                         "`g()` → (nothing), `time.Until(at) <= 0` → `!(time.Until(at) <= 0)`",
		"if age(at) <= 0 { g() }":                                "`0` → `1`, `<=` → `<`, `age(at) <= 0` → `!(age(at) <= 0)`, `g()` → (nothing)",
		"if time.Since(at) < a-b { g() }":                        "`-` → `+`, `g()` → (nothing), `time.Since(at) < a-b` → `!(time.Since(at) < a-b)`",
		"if a > b { a = b }":                                     "`a > b` → `!(a > b)`, `a` → `_`",
		"if a > b { b = a }":                                     "`a > b` → `!(a > b)`, `b` → `_`",
		"if ok || a < b { a = b }":                               "`a` → `_`, `ok || a < b` → `!(ok || a < b)`, `||` → `&&`",
		"if a > b { a = c }":                                     "`>` → `>=`, `a > b` → `!(a > b)`, `a` → `_`",
		"if a > b { a = b; g() }":                                "`>` → `>=`, `a > b` → `!(a > b)`, `a` → `_`, `g()` → (nothing)",
		"if a > b { a = b } else { g() }":                        "`>` → `>=`, `a > b` → `!(a > b)`, `a` → `_`, `g()` → (nothing)",
		"if a == b { a = b }":                                    "`==` → `!=`, `a == b` → `!(a == b)`, `a` → `_`",
		"return 0, false, errors.New(text)":                      "",
		"return 0, false, fmt.Errorf(text, 5)":                   "`5` → `6`",
		"return 0, false, newError(text)":                        "",
		"return 0, false, nil":                                   "`0` → `1`, `false` → `true`",
		"return 0, false, err":                                   "`0` → `1`, `err` → `nil`, `false` → `true`",
		"if err != nil { return 0, false, err }":                 "`!=` → `==`, `err != nil` → `!(err != nil)`, `err` → `nil`",
		"if err != nil && ok { return 0, err }":                  "`!=` → `==`, `&&` → `||`, `0` → `1`, `err != nil && ok` → `!(err != nil && ok)`, `err` → `nil`",
		"if err != nil { if g() { return 0, false, failed() } }": "`!=` → `==`, `0` → `1`, `err != nil` → `!(err != nil)`, `false` → `true`, `g()` → `!(g())`",
	} {
		file := filepath.Join(t.TempDir(), "a.go")
		if err := os.WriteFile(file, []byte("package a\n\nfunc f() (int, bool, error) {\n"+statement+"\n}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := Find(file)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range found {
			got = append(got, strings.TrimPrefix(m.String(), "a.go:4: "))
		}
		slices.Sort(got)
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("%s:\ngot  %s\nwant %s", statement, text, want)
		}
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
