// Command release tells whether the last commit can be published: `make release-check VERSION=v0.1.0`. It changes nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/release"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	version := os.Getenv("VERSION")
	if err := check(ctx, version); err != nil {
		fmt.Fprintf(os.Stderr, "release-check: %q cannot be published:\n%s\n", version, err)
		os.Exit(1)
	}
	fmt.Printf("%s can be published: git tag -s %s && git push origin %s\n", version, version, version)
}

func check(ctx context.Context, version string) error {
	if version == "" {
		return errors.New("no version; write make release-check VERSION=v0.1.0")
	}
	root, err := parts.Root()
	if err != nil {
		return err
	}
	if err := errors.Join(release.CheckTree(root, version)...); err != nil {
		return err
	}
	fmt.Println("ok  the tree, CHANGELOG.md, README.md, go.mod, .traefik.yml, the icon")
	work, err := os.MkdirTemp("", "oidc-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	folder, err := release.Zip(root, version, work)
	if err != nil {
		return err
	}
	fmt.Println("ok  the module's zip")
	if err := release.CheckCatalogue(ctx, root, folder); err != nil {
		return err
	}
	fmt.Println("ok  CreateConfig, testData and New, as the catalogue calls them")
	traefikPath, err := parts.TraefikPath(ctx, root, os.Stderr)
	if err != nil {
		return err
	}
	if err := release.CheckTraefik(traefikPath, folder, work); err != nil {
		return err
	}
	fmt.Println("ok  Traefik with the plugin from that zip")
	return nil
}
