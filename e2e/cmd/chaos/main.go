// Command chaos breaks Redis, the network, the provider and Traefik while people work, and says what was kept and what was lost:
// `make chaos`. It prints a table and writes chaos.json. It fails when a promise does not hold that should.
//
//	MINUTES=25          about as long; each fault lasts longer with more
//	STORES=single,tls   of cookies, single, tls, sentinel, cluster
//	FAULTS=regexp       faults by name
//	PEOPLE=40
//	PAGE=chaos.json     prints a run of before as docs/scaling.md has it, and does nothing else
//	PLUGIN=/path        another checkout of the plugin, to compare with
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/chaos"
	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-ctx.Done()
		if ctx.Err() != nil {
			os.Exit(1) // the children end with us
		}
	}()
	err := run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
	_ = stop
}

func run(ctx context.Context) error {
	root, err := parts.Root()
	if err != nil {
		return err
	}
	if written := os.Getenv("PAGE"); written != "" {
		report, err := chaos.ReadReport(written)
		if err == nil {
			fmt.Print(report.Page())
		}
		return err
	}
	o := chaos.Options{Root: root, People: number("PEOPLE", 40), Traefiks: 3, Stores: chaos.Stores}
	if stores := os.Getenv("STORES"); stores != "" {
		o.Stores = strings.Split(stores, ",")
	}
	if only := os.Getenv("FAULTS"); only != "" {
		if o.Only, err = regexp.Compile(only); err != nil {
			return fmt.Errorf("FAULTS: %w", err)
		}
	}
	o.Seconds = o.SecondsFor(float64(number("MINUTES", 25)))
	o.Progress = func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
	}
	o.Progress("%d faults, each for %.0f s at least", o.Rows(), o.Seconds)
	if o.Traefik, err = parts.TraefikPath(ctx, root, os.Stderr); err != nil {
		return err
	}
	if o.Dir, err = os.MkdirTemp("", "oidc-chaos-"); err != nil {
		return err
	}
	report, err := chaos.Run(o)
	fmt.Println(report.Table())
	fmt.Println(report.Summary())
	if failed := report.Write(filepath.Join(root, "chaos.json")); err == nil {
		err = failed
	}
	broken := report.Broken()
	if err == nil && len(broken) == 0 {
		return os.RemoveAll(o.Dir)
	}
	fmt.Fprintf(os.Stderr, "Logs and configuration are kept in %s.\n", o.Dir)
	if err == nil {
		err = fmt.Errorf("%d promises did not hold:\n  %s", len(broken), strings.Join(broken, "\n  "))
	}
	return err
}

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}
