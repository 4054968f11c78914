// Command mutants makes small faults in the plugin, one at a time, and tells which of them its tests do not notice:
// `make mutants N=200 SEED=1`. For each fault only the tests that run its line are run, the quickest first. FILES=jwt.go,seal.go
// looks at some files alone. SKIP=40 goes on after the 40th fault of the same seed, and AT=3,17 tries some alone.
// It works on a copy of the repository, and keeps in the temporary folder which test runs which line until a file changes.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
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
	tree, work string
	tests      []test

	mu                            sync.Mutex
	next, underWay, tried, killed int
	failed                        error
}

// test is one test of the plugin: how long it takes, and the lines it runs.
type test struct {
	Name  string
	Took  time.Duration
	Lines map[string]map[int]bool
}

func run(ctx context.Context) error {
	work, err := os.MkdirTemp("", "oidc-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b := &bench{tree: filepath.Join(work, "tree"), work: work, next: number("SKIP", 0)}
	if err := b.copyTree(ctx); err != nil {
		return err
	}
	files, err := b.sources()
	if err != nil {
		return err
	}
	seed := number("SEED", 1)
	sample, all, err := mutants.Sample(files, 1<<30, uint64(seed))
	if err != nil {
		return err
	}
	fmt.Printf("%d faults can be made; which test runs which line?\n", all)
	if err := b.measureOnce(ctx); err != nil {
		return err
	}
	n := number("N", 50)
	chosen := map[int]bool{}
	for _, at := range strings.Split(os.Getenv("AT"), ",") {
		if position, err := strconv.Atoi(at); err == nil {
			chosen[position] = true
			n = len(chosen)
		}
	}
	fmt.Printf("%d tests. Trying %d faults, seed %d, after the %dth.\n", len(b.tests), n, seed, b.next)
	var workers sync.WaitGroup
	for i := range 2 { // more would starve the tests that measure time
		workers.Add(1)
		go func() {
			defer workers.Done()
			for position := b.take(n, len(sample), chosen); position > 0 && ctx.Err() == nil; position = b.take(n, len(sample), chosen) {
				outcome, err := b.try(ctx, fmt.Sprint(i), sample[position-1])
				b.note(position, sample[position-1], outcome, err)
			}
		}()
	}
	workers.Wait()
	fmt.Printf("%d of %d faults are noticed (%d %%); SKIP=%d goes on\n", b.killed, b.tried, 100*b.killed/max(b.tried, 1), b.next)
	return errors.Join(b.failed, ctx.Err())
}

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// take is the position of the next fault to try, from 1, or 0 when there are enough.
func (b *bench) take(n, all int, chosen map[int]bool) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.failed == nil && b.tried+b.underWay < n && b.next < all {
		if b.next++; len(chosen) == 0 || chosen[b.next] {
			b.underWay++
			return b.next
		}
	}
	return 0
}

// note tells what became of a fault. One that does not compile is none.
func (b *bench) note(position int, m mutants.Mutant, o outcome, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.underWay--
	if err != nil || !o.compiles {
		b.failed = errors.Join(b.failed, err)
		return
	}
	b.tried++
	if o.by != "" {
		b.killed++
		fmt.Printf("%d noticed  %s  by %s\n", position, m, o.by)
	} else {
		fmt.Printf("%d LIVES  %s  run by %d tests: %s\n", position, m, len(o.ran), strings.Join(o.ran[:min(8, len(o.ran))], " "))
	}
	if b.tried%10 == 0 {
		fmt.Printf("%d tried, %d noticed\n", b.tried, b.killed)
	}
}

// copyTree copies the repository as it is now, so that work on it may go on.
func (b *bench) copyTree(ctx context.Context) error {
	root, err := parts.Root()
	if err != nil {
		return err
	}
	list := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	names, err := list.Output()
	if err != nil {
		return fmt.Errorf("git ls-files: %w", err)
	}
	for _, name := range strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		to := filepath.Join(b.tree, name)
		text, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not committed yet
		}
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, text, 0o600)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) sources() ([]string, error) {
	if some := os.Getenv("FILES"); some != "" {
		var files []string
		for _, name := range strings.Split(some, ",") {
			files = append(files, filepath.Join(b.tree, name))
		}
		return files, nil
	}
	files, err := filepath.Glob(filepath.Join(b.tree, "*.go"))
	var plugin []string
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			plugin = append(plugin, file)
		}
	}
	return plugin, err
}

// measureOnce is measure, or what it found before for the same files.
func (b *bench) measureOnce(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(b.tree, "*.go"))
	if err != nil {
		return err
	}
	sum := sha256.New()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %s %d\n%s", runtime.Version(), filepath.Base(file), len(text), text)
	}
	kept := filepath.Join(os.TempDir(), fmt.Sprintf("oidc-mutants-%.8x.json", sum.Sum(nil)))
	if text, err := os.ReadFile(kept); err == nil && json.Unmarshal(text, &b.tests) == nil {
		return nil
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	text, err := json.Marshal(b.tests)
	return errors.Join(err, os.WriteFile(kept, text, 0o600))
}

// notOfLines are tests that read the source, and see none of the faults.
var notOfLines = regexp.MustCompile(`^TestInterpreter|^TestDocs`)

// measure runs each test alone and notes its lines.
func (b *bench) measure(ctx context.Context) error {
	binary := filepath.Join(b.work, "cover.test")
	if out, err := b.build(ctx, binary, "-cover").CombinedOutput(); err != nil {
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
	sort.Slice(b.tests, func(i, j int) bool { return b.tests[i].Took < b.tests[j].Took })
	return nil
}

func (b *bench) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = b.tree
	return cmd
}

// build makes the tests' binary, unoptimized: most of a fault's time would go by compiling.
func (b *bench) build(ctx context.Context, binary string, flags ...string) *exec.Cmd {
	args := append([]string{"test", "-c", "-vet=off", "-gcflags=-N -l", "-ldflags=-s -w", "-o", binary}, flags...)
	return b.command(ctx, "go", append(args, ".")...)
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

// outcome is what became of a fault: the test that noticed it, or "", and those that run its line.
type outcome struct {
	compiles bool
	by       string
	ran      []string
}

// try builds the tests with the fault in the place of the real file, and runs those that may notice it.
func (b *bench) try(ctx context.Context, worker string, m mutants.Mutant) (outcome, error) {
	text, err := m.Apply()
	if err != nil {
		return outcome{}, err
	}
	changed, overlayFile := filepath.Join(b.work, "changed"+worker+".go"), filepath.Join(b.work, "overlay"+worker)
	overlay, _ := json.Marshal(map[string]any{"Replace": map[string]string{m.File: changed}})
	if err := errors.Join(os.WriteFile(changed, text, 0o600), os.WriteFile(overlayFile, overlay, 0o600)); err != nil {
		return outcome{}, err
	}
	binary := filepath.Join(b.work, "mutant"+worker)
	if err := b.build(ctx, binary, "-overlay", overlayFile).Run(); err != nil {
		return outcome{}, ctx.Err()
	}
	o := outcome{compiles: true}
	var some []test
	for _, one := range b.tests {
		if !one.Lines[filepath.Base(m.File)][m.Line] {
			continue
		}
		// The quickest tests first, a few at a time: most faults are noticed by one of them.
		o.ran = append(o.ran, one.Name)
		if some = append(some, one); len(some) >= len(o.ran)/2+5 {
			if o.by = b.noticed(ctx, binary, some); o.by != "" {
				return o, ctx.Err()
			}
			some = nil
		}
	}
	o.by = b.noticed(ctx, binary, some)
	return o, ctx.Err()
}

var failedTest = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)

// noticed is the test that fails, twice, for a busy machine may be too slow for one; or that never ends; or "".
func (b *bench) noticed(ctx context.Context, binary string, tests []test) string {
	if tests == nil {
		return ""
	}
	var names []string
	var all, slowest time.Duration
	for _, one := range tests {
		names = append(names, one.Name)
		all += one.Took
		slowest = max(slowest, one.Took)
	}
	limit := max(2*all+5*slowest, 10*time.Second)
	limited, cancel := context.WithTimeout(ctx, limit+5*time.Second) // for one that hears of no time limit
	defer cancel()
	out, err := b.command(limited, binary, "-test.failfast", "-test.timeout", limit.String(), "-test.run", "^("+strings.Join(names, "|")+")$").CombinedOutput()
	found := failedTest.FindSubmatch(out)
	switch {
	case err == nil:
		return ""
	case limited.Err() != nil || bytes.Contains(out, []byte("panic: test timed out")):
		return "the time limit of " + limit.String()
	case found == nil:
		return "a crash"
	case len(tests) == 1:
		return string(found[1])
	}
	for i, one := range tests {
		if one.Name != string(found[1]) {
			continue
		}
		if by := b.noticed(ctx, binary, tests[i:i+1]); by != "" {
			return by
		}
		return b.noticed(ctx, binary, append(append([]test{}, tests[:i]...), tests[i+1:]...)) // it was chance
	}
	return string(found[1])
}
