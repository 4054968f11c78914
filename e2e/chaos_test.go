package e2e

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/chaos"
	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// rigOptions are those of a small rig that lives as long as the test.
func rigOptions(t *testing.T, people int) chaos.Options {
	t.Helper()
	need(t, "redis-server")
	need(t, "redis-sentinel")
	root, err := parts.Root()
	if err != nil {
		t.Fatal(err)
	}
	traefik, err := parts.TraefikPath(context.Background(), root, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return chaos.Options{Root: root, Dir: t.TempDir(), Traefik: traefik, People: people, Traefiks: 3, Stores: chaos.Stores, Short: true, Seconds: 2, Progress: t.Logf}
}

// TestChaos is the short form of make chaos: what is done to three Traefiks, their store and their provider, with people at work, breaks
// no promise. On a machine that others use as well a promise about time may break by itself, so what broke is tried again, once.
func TestChaos(t *testing.T) {
	o := rigOptions(t, 16)
	for attempt := range 2 {
		report, err := chaos.Run(o)
		t.Logf("\n%s%s", report.Table(), report.Summary())
		if err != nil {
			t.Fatal(err)
		}
		var again []string
		for _, row := range report.Rows {
			if row.TakenForAnother() {
				t.Errorf("%s", row)
			}
			if len(row.Broken) > 0 || row.Failed != "" {
				again = append(again, "^"+regexp.QuoteMeta(row.Fault)+"$")
				t.Logf("%s\n  %s", row, strings.Join(row.Seen(), "\n  "))
			}
		}
		if len(report.Rows) == 0 {
			t.Fatal("nothing was tried")
		}
		if len(again) == 0 {
			return
		}
		if attempt > 0 || t.Failed() {
			t.Fatalf("broken twice:\n%s", strings.Join(report.Broken(), "\n"))
		}
		slices.Sort(again)
		o.Only = regexp.MustCompile(strings.Join(slices.Compact(again), "|"))
		o.Dir, o.Seconds = t.TempDir(), 4
	}
}

// TestSoak is the short form of make soak: everything at once on one Traefik, and nothing but the expected answers.
func TestSoak(t *testing.T) {
	o := rigOptions(t, 8)
	o.Memory = 1 // so that it is full within seconds
	report, err := chaos.RunSoak(chaos.SoakOptions{Options: o, Length: 35 * time.Second, Every: 4 * time.Second, Fill: 1500})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", report.Table())
	if wrong := report.Wrong(); len(wrong) > 0 {
		t.Errorf("this should not have been:\n  %s\n  %s", strings.Join(wrong, "\n  "), strings.Join(report.Seen(), "\n  "))
	}
	if report.SignIns < 10 || report.SignOuts == 0 || report.Pushes == 0 || len(report.Samples) < 4 {
		t.Error("too little happened to tell anything")
	}
}
