package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

const (
	undertowVersion = "2.4.0.Final"
	undertowFetch   = "mvn dependency:get -Dartifact=io.undertow:undertow-core:" + undertowVersion
)

// undertow is an application on a real Undertow that takes upgrades to HTTP/2 (ENABLE_HTTP2), and tells whom it believes a request to be
// from. Its jars are those that Maven keeps.
func (l *lab) undertow(t *testing.T) string {
	t.Helper()
	java := need(t, "java")
	home, _ := os.UserHomeDir()
	repository := filepath.Join(home, ".m2", "repository")
	var jars []string
	for _, group := range []string{"io/undertow", "org/jboss", "org/wildfly", "io/smallrye"} {
		_ = filepath.WalkDir(filepath.Join(repository, group), func(path string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".jar") {
				jars = append(jars, path)
			}
			return nil
		})
	}
	why := ""
	if !strings.Contains(strings.Join(jars, ":"), "undertow-core-"+undertowVersion) {
		why = "Undertow is not there; get it with " + undertowFetch
	} else if _, err := exec.LookPath("javac"); err != nil {
		why = "javac is not installed (Debian: apt-get install openjdk-17-jdk-headless), so not tested: upgrades to HTTP/2 at Undertow"
	}
	if why != "" && parts.Strict() {
		t.Fatal(why)
	} else if why != "" {
		t.Log("SKIPPED: " + why)
		return ""
	}
	port, err := parts.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	undertow, err := parts.StartProcess(parts.Command{
		Name: "Undertow", Path: java, LogFile: filepath.Join(l.dir, fmt.Sprint("undertow-", names.Add(1), ".log")),
		Args: []string{"-Xmx128m", "-cp", strings.Join(jars, ":"), filepath.Join(l.root, "e2e", "java", "UpgradingServer.java"), fmt.Sprint(port)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(undertow.Stop)
	address := fmt.Sprint("http://127.0.0.1:", port)
	if err := undertow.WaitFor("it answered", 2*time.Minute, func() bool {
		resp, err := http.Get(address)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	}); err != nil {
		t.Fatal(err)
	}
	return address
}

// TestRequestTunnelUndertow is TestRequestTunnel with Undertow behind Traefik, also behind the oldest, which lets h2c through.
func TestRequestTunnelUndertow(t *testing.T) {
	t.Parallel()
	l := start(t)
	backend := l.undertow(t)
	if backend == "" {
		return
	}
	noTunnel(t, l, backend, "none: Traefik takes h2c off itself")
	if !parts.WantsOldest() {
		return
	}
	oldest, err := parts.OldestTraefikPath(context.Background(), l.root, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	traefik, err := l.newTraefik("traefik-undertow", parts.TraefikOptions{Path: oldest})
	if err != nil {
		t.Fatal(err)
	}
	defer traefik.Stop()
	noTunnel(t, &lab{root: l.root, dir: l.dir, ca: l.ca, traefik: traefik, provider: l.provider, upstream: l.upstream}, backend, "h2c")
}
