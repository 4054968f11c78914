// Command prepare gets ready what the end-to-end tests need: it tells which programs are missing, builds Traefik unless
// there is one, and installs the locked npm packages. The tests would do the last two themselves, but without showing it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := prepare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
}

func prepare(ctx context.Context) error {
	if missing := parts.Report(); missing != "" {
		fmt.Fprintln(os.Stderr, missing)
		if parts.Strict() {
			return fmt.Errorf("STRICT=%s: nothing may be missing", os.Getenv("STRICT"))
		}
	}
	root, err := parts.Root()
	if err != nil {
		return err
	}
	path, err := parts.TraefikPath(ctx, root, os.Stderr)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "Traefik:", path)
	if _, err := parts.Find("npm"); err != nil {
		return nil // reported above
	}
	return parts.InstallNodeModules(filepath.Join(root, "e2e", "node"))
}
