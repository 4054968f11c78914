// Command prepare gets ready what the end-to-end tests need: it tells which programs are missing, builds Traefik unless
// there is one, Kubernetes' API server where there is an etcd for it, and the oldest Traefik where that is wanted, and installs the
// locked packages of other languages. The tests would do all but the first themselves, but without showing it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
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
	if err := build(ctx, root); err != nil {
		return err
	}
	return install(root)
}

// install fetches what the tests have from the registries of other languages, unless what it takes is missing, which is reported above.
func install(root string) error {
	for _, language := range []struct {
		needs []string
		path  func(root string, w io.Writer) (string, error)
	}{
		{[]string{"npm"}, func(root string, _ io.Writer) (string, error) {
			return "", parts.InstallNodeModules(filepath.Join(root, "e2e", "node"))
		}},
		{[]string{"python3"}, parts.PythonPath},
		{[]string{"javac", "mvn"}, parts.JarsPath},
		{[]string{"cargo"}, parts.RustTokensPath},
	} {
		missing := slices.ContainsFunc(language.needs, func(name string) bool { _, err := parts.Find(name); return err != nil })
		if missing {
			continue
		}
		if _, err := language.path(root, os.Stderr); err != nil {
			return err
		}
	}
	return nil
}

// build makes the programs that no package of a system has.
func build(ctx context.Context, root string) error {
	_, noEtcd := parts.Find("etcd")
	for _, program := range []struct {
		name   string
		wanted bool
		path   func(context.Context, string, io.Writer) (string, error)
	}{
		{"Traefik", true, parts.TraefikPath},
		{"Kubernetes' API server", noEtcd == nil, parts.APIServerPath},
		{"The oldest Traefik", parts.WantsOldest(), parts.OldestTraefikPath},
	} {
		if !program.wanted {
			continue
		}
		path, err := program.path(ctx, root, os.Stderr)
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, program.name+":", path)
	}
	if !parts.WantsOldest() {
		fmt.Fprintf(os.Stderr, "SKIPPED: the oldest Traefik; %s=1 builds it, in some minutes, and tests it, too\n", parts.OldestVariable)
	}
	return nil
}
