// Command scaling prints the tables of docs/scaling.md: simulated loads, with the costs that the page gives as measured.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/scaling"
)

func main() {
	if err := printTable(); err != nil {
		fmt.Fprintln(os.Stderr, "scaling:", err)
		os.Exit(1)
	}
}

func printTable() error {
	root, err := parts.Root()
	if err != nil {
		return err
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "scaling.md"))
	if err != nil {
		return err
	}
	costs, err := scaling.ReadCosts(string(page))
	if err != nil {
		return err
	}
	fmt.Print(scaling.Table(costs), "\n", scaling.Limits(costs))
	return nil
}
