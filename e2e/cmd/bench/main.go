// Command bench measures what the plugin costs: `make bench`. One Traefik with the plugin, one with a plugin that does nothing in its
// place, one with both for comparison, and one for each crowd; a route for each case, short bursts of load in turn, medians over the rounds. Traefik's own
// processor time is read from the kernel, and the sidecar's where there is one, so that the load generator and the upstream, which
// share the machine, do not count. Machines differ, so each figure is also given in yardsticks: one is what ForwardAuth to a compiled
// server that always says yes adds over the do-nothing plugin. It prints a table and writes bench.json.
//
//	ROUNDS=5         bursts of each case
//	SECONDS=3        length of a burst
//	CONNECTIONS=16
//	ONLY=sign-in     cases whose name contains this, beside those that are compared with
//	ROUTERS=1000     routers with one middleware, and
//	MIDDLEWARES=1000 middlewares of different options, whose start and reload are measured; 0 leaves that out
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "sidecar" {
		serveSidecar()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// serveSidecar is the floor under every sidecar: a compiled server that says yes to whatever Traefik's ForwardAuth asks.
func serveSidecar() {
	listener, err := net.Listen("tcp", os.Args[2])
	if err == nil {
		err = http.Serve(listener, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("X-User", "user-alice")
			rw.Header().Set("X-Email", "alice@example.com")
		}))
	}
	fmt.Fprintln(os.Stderr, "sidecar:", err)
	os.Exit(1)
}

// report is what bench.json has.
type report struct {
	Machine string `json:"machine"`
	Rounds  int    `json:"rounds"`
	Seconds int    `json:"secondsPerRound"`
	Rows    []row  `json:"rows"`
	// Connections is the most that Traefik had to Redis at a time; more than the pool's limit is an error.
	Connections int          `json:"redisConnections"`
	Memory      sessionsCost `json:"memoryOfSessions"`
	Start       startCost    `json:"start"`
	Many        []manyCost   `json:"manyMiddlewares"`
}

// row is one case. Times are medians over the rounds.
type row struct {
	Name string `json:"case"`
	// PerSecond is requests in a second, CPU the microseconds of processor time that Traefik and the sidecar spent on each.
	PerSecond float64 `json:"requestsPerSecond"`
	CPU       float64 `json:"cpuMicrosecondsPerRequest"`
	// Over is CPU over that of the do-nothing plugin for the same request, the median of the differences within a round; Yardsticks is the
	// same as a share of what ForwardAuth adds; Ratio is PerSecond against that of the do-nothing plugin.
	Over       float64 `json:"overDoNothingMicroseconds"`
	Yardsticks float64 `json:"overDoNothingYardsticks"`
	Ratio      float64 `json:"requestsRatioToDoNothing"`
	P50        float64 `json:"p50Milliseconds"`
	P99        float64 `json:"p99Milliseconds"`
}

func run(ctx context.Context) error {
	if runtime.GOOS != "linux" {
		return errors.New("processor time is read from Linux's /proc: run it there, or in a container")
	}
	wrk, err := parts.Find("wrk")
	if err != nil {
		return err
	}
	root, err := parts.Root()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "oidc-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	logFile, err := os.Create(filepath.Join(dir, "provider.log"))
	if err != nil {
		return err
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(logFile, nil))) // the provider's library writes there

	b := &bench{ctx: ctx, dir: dir, wrk: wrk, rounds: setting("ROUNDS", 5), seconds: setting("SECONDS", 3),
		connections: setting("CONNECTIONS", 16), routers: setting("ROUTERS", 1000), middlewares: setting("MIDDLEWARES", 1000), only: os.Getenv("ONLY")}
	defer b.stop()
	if b.traefikPath, err = parts.TraefikPath(ctx, root, os.Stderr); err != nil {
		return err
	}
	if b.plugin, err = copyPlugin(parts.PluginDir(root), dir); err != nil {
		return err
	}
	if err := b.setUp(); err != nil {
		return err
	}
	rows, err := b.measure()
	if err != nil {
		return err
	}
	made := report{Machine: machine(), Rounds: b.rounds, Seconds: b.seconds, Rows: rows}
	printRows(made)
	if made.Connections, err = b.measurePool(); err != nil {
		return err
	}
	if made.Memory, err = b.measureSessions(); err != nil {
		return err
	}
	printStores(made)
	b.stop() // the next part measures other processes
	if made.Start, err = b.measureStart(); err != nil {
		return err
	}
	printStart(made.Start)
	if made.Many, err = b.measureMany(); err != nil {
		return err
	}
	printMany(made.Many)
	text, err := json.MarshalIndent(made, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "bench.json"), append(text, '\n'), 0o644)
}

// copyPlugin makes a copy, so that all parts measure the same plugin, whoever edits it meanwhile.
func copyPlugin(from, dir string) (string, error) {
	to := filepath.Join(dir, "plugin")
	if err := os.Mkdir(to, 0o755); err != nil {
		return "", err
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return "", err
	}
	for _, file := range files {
		name := file.Name()
		if name != "go.mod" && name != ".traefik.yml" && (filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go")) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			return "", err
		}
	}
	return to, nil
}

func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n >= 0 {
		return n
	}
	return otherwise
}

func machine() string {
	model := ""
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
			}
		}
	}
	return fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, model)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

func printRows(r report) {
	fmt.Printf("\n%s; %d rounds of %d s each, medians\n\n", r.Machine, r.Rounds, r.Seconds)
	fmt.Printf("%-52s %10s %12s %14s %10s %9s %9s %9s\n", "", "requests/s", "CPU µs/req", "over nothing", "yardsticks", "req/s", "p50 ms", "p99 ms")
	for _, row := range r.Rows {
		fmt.Printf("%-52s %10.0f %12.0f %+14.1f %10.2f %8.0f%% %9.2f %9.2f\n", row.Name, row.PerSecond, row.CPU, row.Over, row.Yardsticks, 100*row.Ratio, row.P50, row.P99)
	}
}

func printStores(r report) {
	fmt.Printf("\n%-52s %10s %12s\n", "", "Redis", "cookies")
	fmt.Printf("memory of %d live sessions, MB %23s %10.1f %12.1f\n", r.Memory.Sessions, "", r.Memory.Redis, r.Memory.Cookies)
	fmt.Printf("%-52s %10d\n", fmt.Sprintf("connections at most, of %d", poolLimit), r.Connections)
}

func printStart(s startCost) {
	fmt.Printf("\n%-52s %10s %12s %14s\n", "", "ours", "do-nothing", "difference")
	fmt.Printf("%-52s %10.2f %12.2f %+14.2f\n", "start of Traefik until it serves, s", s.Seconds, s.NothingSeconds, s.Seconds-s.NothingSeconds)
	fmt.Printf("%-52s %10.1f %12.1f %+14.1f\n", "resident after the start, MB", s.RSS, s.NothingRSS, s.RSS-s.NothingRSS)
	fmt.Printf("%-52s %10.1f %12.1f %+14.1f\n", "resident after two seconds of load, MB", s.LoadedRSS, s.NothingLoadedRSS, s.LoadedRSS-s.NothingLoadedRSS)
}

func printMany(many []manyCost) {
	for _, m := range many {
		fmt.Printf("\n%-52s %10s %12s %14s\n", fmt.Sprintf("%d routers, %d middlewares", m.Routers, m.Middlewares), "ours", "do-nothing", "difference")
		fmt.Printf("%-52s %10.2f %12.2f %+14.2f\n", "processor time until they are served, s", m.Seconds, m.NothingSeconds, m.Seconds-m.NothingSeconds)
		fmt.Printf("%-52s %10.2f %12.2f %+14.2f\n", "the same at a reload, ms for each router", m.Reload, m.NothingReload, m.Reload-m.NothingReload)
	}
}

// cpuTime is the processor time that a process has used, to ten milliseconds.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the name in parentheses, and may have anything in it; utime and stime are the 14th and 15th.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: cannot be read: %q", pid, text)
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * (time.Second / 100), err
}

// resident is the memory of a process that is in RAM, in megabytes.
func resident(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, "VmRSS:"); found {
			kilobytes, err := strconv.Atoi(strings.Fields(value)[0])
			return float64(kilobytes) / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status: no VmRSS", pid)
}
