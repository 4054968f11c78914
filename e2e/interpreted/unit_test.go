package interpreted

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnitTestsInterpreted runs the plugin's own tests in the interpreter: what is computed there must be what Go computes. The HTTP
// tests skip themselves, they have cmd/host.
func TestUnitTestsInterpreted(t *testing.T) {
	yaegi := filepath.Join(t.TempDir(), "yaegi")
	if out, err := exec.Command("go", "build", "-o", yaegi, "github.com/traefik/yaegi/cmd/yaegi").CombinedOutput(); err != nil {
		t.Fatalf("building yaegi: %v\n%s", err, out)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	goPath := t.TempDir()
	link := filepath.Join(goPath, "src", filepath.FromSlash(Module))
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(yaegi, "test", "-v", Module)
	cmd.Env = append(os.Environ(), "GOPATH="+goPath, "GO111MODULE=off")
	out, err := cmd.CombinedOutput()
	passed := strings.Count(string(out), "--- PASS: ")
	t.Logf("%d tests passed", passed)
	if err == nil && passed > 0 {
		return
	}
	// What failed, and what it said: everything but the lines of those that did well.
	var lines []string
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "--- PASS") && !strings.Contains(line, "--- SKIP") && !strings.HasPrefix(line, "=== ") && !strings.Contains(line, "interpreted by way of") {
			lines = append(lines, line)
		}
	}
	t.Errorf("the tests in the interpreter: %v\n%s", err, strings.Join(lines, ""))
}
