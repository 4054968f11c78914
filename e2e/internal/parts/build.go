package parts

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// traefikPackage is what the module e2e/traefik builds.
const traefikPackage = "github.com/traefik/traefik/v3/cmd/traefik"

// Root is the top of the repository: the nearest folder above the working directory that has the plugin's manifest or its
// go.mod.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && strings.Contains(string(text), "module "+pluginModule+"\n") {
			return dir, nil
		}
	}
	return "", errors.New("not inside the repository: no go.mod of " + pluginModule + " above the working directory")
}

// PluginDir is the folder of the plugin to load: $PLUGIN, another checkout to compare with, else the repository.
func PluginDir(root string) string {
	if dir := os.Getenv("PLUGIN"); dir != "" {
		return dir
	}
	return root
}

// TraefikPath finds a Traefik v3: $TRAEFIK, else the one in PATH, else the one built from e2e/traefik, which takes some
// minutes the first time. Progress goes to w.
//
// When ctx ends, so does the build.
func TraefikPath(ctx context.Context, root string, w io.Writer) (string, error) {
	if path := os.Getenv("TRAEFIK"); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("TRAEFIK: %w", err)
		}
		return path, nil
	}
	if path, err := exec.LookPath("traefik"); err == nil {
		version, _ := output("", path, "version")
		if regexp.MustCompile(`(?m)^Version:\s+v?3\.`).MatchString(version) {
			return path, nil
		}
		fmt.Fprintf(w, "%s is no Traefik v3, so it is not used.\n", path)
	}
	return buildTraefik(ctx, filepath.Join(root, "e2e", "traefik"), w)
}

// buildTraefik builds Traefik, or finds the one that was built from the same go.sum before.
func buildTraefik(ctx context.Context, module string, w io.Writer) (string, error) {
	sums, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "traefik-oidc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, fmt.Sprintf("traefik-%x", sha256.Sum256(sums))[:len("traefik-")+16])

	// Two commands started at once build it once.
	lock, err := os.Create(path + ".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		fmt.Fprintln(w, "Waiting for another build of Traefik to finish.")
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, compileTraefik(ctx, module, path, w)
}

// compileTraefik runs the compiler and shows how far it is.
func compileTraefik(ctx context.Context, module, path string, w io.Writer) error {
	if _, err := exec.LookPath("go"); err != nil {
		return errors.New("no Traefik v3 in PATH, and no Go to build one; install Go from https://go.dev/dl/, or set TRAEFIK=/path/to/traefik")
	}
	version, err := output(module, "go", "list", "-m", "-f", "{{.Version}}", "github.com/traefik/traefik/v3")
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "Building Traefik %s from its Go module. That takes 4 to 10 minutes on two cores, once.\n", version)
	p := newProgress(w)
	p.step("downloading modules")
	list, err := output(module, "go", "list", "-deps", traefikPackage)
	if err != nil {
		p.end()
		return err
	}
	p.total = strings.Count(list, "\n") + 1
	p.step("compiling")

	partial := path + ".partial"
	defer os.Remove(partial)
	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-o", partial,
		"-ldflags", "-s -w -X github.com/traefik/traefik/v3/pkg/version.Version="+strings.TrimPrefix(version, "v"), traefikPackage)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.SysProcAttr = childAttributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) } // and go removes its work folder
	if err := runCompiler(ctx, cmd, p); err != nil {
		return err
	}
	fmt.Fprintf(w, "Traefik %s is built, and kept as %s.\n", version, path)
	return os.Rename(partial, path)
}

// runCompiler counts the packages that `go build -v` names, and keeps the rest of its words for an error.
func runCompiler(ctx context.Context, cmd *exec.Cmd, p *progress) error {
	defer p.end()
	runtime.LockOSThread() // see StartProcess
	defer runtime.UnlockOSThread()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var words []string
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if line := lines.Text(); strings.ContainsAny(line, " \t") {
			words = append(words, line)
		} else {
			p.count(line == traefikPackage)
		}
	}
	if err := cmd.Wait(); ctx.Err() != nil {
		return errors.New("stopped while building Traefik; the next start goes on from here")
	} else if err != nil {
		return fmt.Errorf("go build %s: %w\n%s", traefikPackage, err, tail(strings.Join(words, "\n"), 30))
	}
	return nil
}

// progress shows on one line of a terminal, or on a line every ten seconds elsewhere, how far a build is.
type progress struct {
	w        io.Writer
	terminal bool
	total    int
	lines    chan func(*progress)
	ended    chan struct{}

	// Owned by show.
	what string
	done int
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, lines: make(chan func(*progress)), ended: make(chan struct{})}
	if file, ok := w.(*os.File); ok {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	go p.show()
	return p
}

func (p *progress) step(what string) { p.lines <- func(p *progress) { p.what = what } }

func (p *progress) count(last bool) {
	p.lines <- func(p *progress) {
		p.done++
		if last {
			p.what = "linking"
		}
	}
}

func (p *progress) end() {
	close(p.lines)
	<-p.ended
}

func (p *progress) show() {
	defer close(p.ended)
	every := 10 * time.Second
	if p.terminal {
		every = 200 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case change, ok := <-p.lines:
			if !ok {
				if p.terminal {
					fmt.Fprint(p.w, "\r\033[K")
				}
				return
			}
			change(p)
		case <-tick.C:
			line := fmt.Sprintf("  %s, %s", p.what, time.Since(began).Round(time.Second))
			if p.done > 0 {
				line = fmt.Sprintf("  %s, %d of %d packages, %s", p.what, p.done, p.total, time.Since(began).Round(time.Second))
			}
			if p.terminal {
				fmt.Fprint(p.w, "\r\033[K"+line)
			} else {
				fmt.Fprintln(p.w, line)
			}
		}
	}
}
