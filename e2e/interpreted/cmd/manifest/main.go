// Command manifest tells whether Traefik's catalogue would take the plugin in a folder: see interpreted.CheckManifest.
//
//	go run -C e2e/interpreted ./cmd/manifest ../..
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/traefik-oidc/oidc/e2e/interpreted"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: manifest FOLDER")
		os.Exit(2)
	}
	if err := interpreted.CheckManifest(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "manifest:", err)
		os.Exit(1)
	}
}
