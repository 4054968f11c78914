// Command soak lets people work with one Traefik for a long time, and shows what grows: `make soak`. Sessions in cookies and in Redis,
// sign-ins, refreshes, pushed logouts, changing cookies, good and refused tokens and reloads, all at once. It prints a table and writes
// soak.json, and fails when something grows once the memories are full, or when an answer comes that should not.
//
//	MINUTES=60
//	PEOPLE=20    at each of the two stores
//	MEMORY=16    the option memory, in megabytes: small, so that it is full early
//	FILL=30000   cookies, and tokens, that come at once first, to fill it
//	PLUGIN=/path another checkout of the plugin, to compare with
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/chaos"
	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	root, err := parts.Root()
	if err != nil {
		return err
	}
	minutes := number("MINUTES", 60)
	o := chaos.SoakOptions{Options: chaos.Options{Root: root, People: number("PEOPLE", 20), Memory: number("MEMORY", 16)}, Length: time.Duration(minutes) * time.Minute,
		Every: max(10*time.Second, time.Duration(minutes)*time.Minute/60), Fill: number("FILL", 30000)}
	o.Progress = func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	if o.Traefik, err = parts.TraefikPath(ctx, root, os.Stderr); err != nil {
		return err
	}
	if o.Dir, err = os.MkdirTemp("", "oidc-soak-"); err != nil {
		return err
	}
	ended := context.AfterFunc(ctx, func() { os.Exit(1) }) // the children end with us
	report, err := chaos.RunSoak(o)
	ended()
	if report != nil {
		fmt.Println(report.Table())
		if text, failed := json.MarshalIndent(report, "", "  "); failed == nil {
			_ = os.WriteFile(filepath.Join(root, "soak.json"), text, 0o644)
		}
		if wrong := report.Wrong(); err == nil && len(wrong) > 0 {
			err = fmt.Errorf("this should not have been:\n  %s", strings.Join(wrong, "\n  "))
		}
	}
	if err != nil {
		return fmt.Errorf("%w\nLogs and configuration are kept in %s", err, o.Dir)
	}
	return os.RemoveAll(o.Dir)
}

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}
