package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// TestBrowserDemo does what README.md says under "Try it", with its two pictures.
func TestBrowserDemo(t *testing.T) {
	t.Parallel()
	l := start(t)
	need(t, "chromium")
	program := filepath.Join(t.TempDir(), "demo")
	build := exec.Command("go", "build", "-o", program, "./cmd/demo")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	port, err := parts.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	demo, err := parts.StartProcess(parts.Command{
		Name: "demo", Path: program, Dir: filepath.Join(l.root, "e2e"), LogFile: filepath.Join(l.dir, "demo.log"), Env: []string{fmt.Sprintf("PORT=%d", port)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(demo.Stop)
	err = demo.WaitFor("it told where to look", time.Minute, func() bool { return strings.Contains(demo.Log(0), "Ctrl-C stops everything.") })
	if err != nil {
		t.Fatal(err)
	}

	app := &app{lab: l, URL: fmt.Sprintf("http://localhost:%d", port)}
	tab := app.window(t, with{"deviceScaleFactor": 1.5, "viewport": with{"width": 720, "height": 448}}).tab()
	tab.enter("/", provider.Alice)
	tab.see(youAreAlice)
	tab.picture("signed-in")
	tab.click("Administrators")
	tab.isAt("/admin")
	tab.see(youAreAlice)
	tab.click("Sign out")
	tab.see("You are nobody.")
	tab.enter("/", provider.Bob)
	tab.click("Administrators")
	tab.see("You do not have access here")
	tab.picture("refused")
}
