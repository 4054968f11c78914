// Command mutants makes small faults in the plugin, one at a time, and tells which of them its tests do not notice:
// `make mutants N=200 SEED=1`. For each fault only the tests that run its line are run, the quickest first. FILES=token.go,seal.go
// looks at some files alone. It changes nothing: the compiler is given the changed file in the place of the real one.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/mutants"
	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// longest is how long the tests of one fault may run, beside what they take without it: one that never ends is noticed, too.
const longest = 2 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// bench is what all faults share.
type bench struct {
	root, work string
	tests      []test
}

// test is one test of the plugin: how long it takes, and the lines it runs.
type test struct {
	name  string
	took  time.Duration
	lines map[string]map[int]bool
}

func run(ctx context.Context) error {
	root, err := parts.Root()
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "oidc-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	files, err := sources(root)
	if err != nil {
		return err
	}
	n, seed := number("N", 50), number("SEED", 1)
	sample, all, err := mutants.Sample(files, 1<<30, uint64(seed))
	if err != nil {
		return err
	}
	b := &bench{root: root, work: work}
	fmt.Printf("%d faults can be made; which test runs which line?\n", all)
	if err := b.measure(ctx); err != nil {
		return err
	}
	fmt.Printf("%d tests. Trying %d faults, seed %d.\n", len(b.tests), n, seed)
	killed, tried := 0, 0
	for _, m := range sample {
		if tried == n || ctx.Err() != nil {
			break
		}
		outcome, err := b.try(ctx, m)
		if err != nil {
			return err
		}
		if outcome == "" {
			continue // it does not compile
		}
		tried++
		if outcome == "noticed" {
			killed++
		} else {
			fmt.Printf("LIVES  %s  (%s)\n", m, outcome)
		}
		if tried%10 == 0 {
			fmt.Printf("%d tried, %d noticed\n", tried, killed)
		}
	}
	fmt.Printf("%d of %d faults are noticed (%d %%)\n", killed, tried, 100*killed/max(tried, 1))
	return ctx.Err()
}

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

func sources(root string) ([]string, error) {
	if some := os.Getenv("FILES"); some != "" {
		var files []string
		for _, name := range strings.Split(some, ",") {
			files = append(files, filepath.Join(root, name))
		}
		return files, nil
	}
	files, err := filepath.Glob(filepath.Join(root, "*.go"))
	var plugin []string
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			plugin = append(plugin, file)
		}
	}
	return plugin, err
}

// notOfLines are tests that read the source, and see none of the faults.
var notOfLines = regexp.MustCompile(`^TestInterpreter|^TestDocs`)

// measure runs each test alone and notes its lines.
func (b *bench) measure(ctx context.Context) error {
	binary := filepath.Join(b.work, "cover.test")
	if out, err := b.command(ctx, "go", "test", "-c", "-cover", "-o", binary, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("building the tests: %w\n%s", err, out)
	}
	listed, err := b.command(ctx, binary, "-test.list", "^(Test|Fuzz)").Output()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var failed []string
	names := make(chan string)
	var workers sync.WaitGroup
	for i := 0; i < runtime.NumCPU(); i++ {
		workers.Add(1)
		go func(i int) {
			defer workers.Done()
			for name := range names {
				profile := filepath.Join(b.work, fmt.Sprint("profile", i))
				var out []byte
				err := errors.New("not run")
				var took time.Duration
				for attempt := 0; attempt < 3 && err != nil; attempt++ { // a busy machine may be too slow for one
					began := time.Now()
					out, err = b.command(ctx, binary, "-test.run", "^"+name+"$", "-test.coverprofile", profile).CombinedOutput()
					took = time.Since(began)
				}
				lines, profileErr := readProfile(profile)
				mu.Lock()
				if err = errors.Join(err, profileErr); err != nil {
					failed = append(failed, fmt.Sprintf("%s: %v\n%s", name, err, out))
				}
				b.tests = append(b.tests, test{name, took, lines})
				mu.Unlock()
			}
		}(i)
	}
	for _, name := range strings.Fields(string(listed)) {
		if !notOfLines.MatchString(name) {
			names <- name
		}
	}
	close(names)
	workers.Wait()
	if failed != nil {
		return fmt.Errorf("without any fault these fail:\n%s", strings.Join(failed, "\n"))
	}
	sort.Slice(b.tests, func(i, j int) bool { return b.tests[i].took < b.tests[j].took })
	return nil
}

func (b *bench) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = b.root
	return cmd
}

var profileLine = regexp.MustCompile(`/([^/]+\.go):(\d+)\.\d+,(\d+)\.\d+ \d+ ([1-9]\d*)$`)

// readProfile gives the lines that ran, by file.
func readProfile(path string) (map[string]map[int]bool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	lines := map[string]map[int]bool{}
	for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan(); {
		part := profileLine.FindStringSubmatch(scan.Text())
		if part == nil {
			continue
		}
		if lines[part[1]] == nil {
			lines[part[1]] = map[int]bool{}
		}
		first, _ := strconv.Atoi(part[2])
		last, _ := strconv.Atoi(part[3])
		for line := first; line <= last; line++ {
			lines[part[1]][line] = true
		}
	}
	return lines, nil
}

// try says what became of a fault: noticed, or why not, or "" when it does not compile.
func (b *bench) try(ctx context.Context, m mutants.Mutant) (string, error) {
	var names []string
	limit := longest
	for _, one := range b.tests {
		if one.lines[filepath.Base(m.File)][m.Line] {
			names = append(names, one.name)
			limit += 3 * one.took
		}
	}
	if names == nil {
		return "no test runs this line", nil
	}
	text, err := m.Apply()
	if err != nil {
		return "", err
	}
	changed := filepath.Join(b.work, "changed.go")
	overlay, _ := json.Marshal(map[string]any{"Replace": map[string]string{m.File: changed}})
	overlayFile := filepath.Join(b.work, "overlay.json")
	if err := errors.Join(os.WriteFile(changed, text, 0o600), os.WriteFile(overlayFile, overlay, 0o600)); err != nil {
		return "", err
	}
	binary := filepath.Join(b.work, "mutant.test")
	if err := b.command(ctx, "go", "test", "-c", "-vet=off", "-overlay", overlayFile, "-o", binary, ".").Run(); err != nil {
		return "", ctx.Err()
	}
	// The quickest tests first: most faults are noticed by one of them.
	for _, part := range [][]string{names[:min(10, len(names))], names[min(10, len(names)):]} {
		if len(part) == 0 {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, limit)
		err := b.command(limited, binary, "-test.failfast", "-test.run", "^("+strings.Join(part, "|")+")$").Run()
		cancel()
		if err != nil {
			return "noticed", ctx.Err()
		}
	}
	return fmt.Sprintf("%d tests run it", len(names)), nil
}
