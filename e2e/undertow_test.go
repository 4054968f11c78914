package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// undertow is an application on a real Undertow that takes upgrades to HTTP/2 (ENABLE_HTTP2), and tells whom it believes a request to be
// from.
func (l *lab) undertow(t *testing.T) string {
	t.Helper()
	java, jars := need(t, "java"), l.jars(t)
	port, err := parts.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	undertow, err := parts.StartProcess(parts.Command{
		Name: "Undertow", Path: java, LogFile: filepath.Join(l.dir, fmt.Sprint("undertow-", names.Add(1), ".log")),
		Args: []string{"-Xmx128m", "-cp", jars, filepath.Join(l.root, "e2e", "java", "UpgradingServer.java"), fmt.Sprint(port)},
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
