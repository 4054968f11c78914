package parts

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
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

// program is one that is built from its published Go module. A module of ours below e2e/ pins it.
type program struct {
	name    string // for messages
	folder  string // of the module that pins it, below e2e/
	module  string // its own, whose version is the program's
	command string // the package that is the program, in module
	version string // the variable that holds its version
	missing string // what to say when there is no Go to build it
}

var (
	traefikProgram = program{
		name: "Traefik", folder: "traefik", module: "github.com/traefik/traefik/v3", command: "cmd/traefik",
		version: "github.com/traefik/traefik/v3/pkg/version.Version",
		missing: "no Traefik v3 in PATH, and no Go to build one; install Go from https://go.dev/dl/, or set TRAEFIK=/path/to/traefik",
	}
	oldestTraefikProgram = program{
		name: "the oldest Traefik", folder: "traefik-oldest", module: traefikProgram.module, command: traefikProgram.command,
		version: traefikProgram.version, missing: "no Go to build the oldest Traefik; install it from https://go.dev/dl/",
	}
	kubernetesProgram = program{
		name: "Kubernetes' API server", folder: "kubernetes", module: "k8s.io/kubernetes", command: "cmd/kube-apiserver",
		version: "k8s.io/component-base/version.gitVersion",
		missing: "no Go to build Kubernetes' API server; install it from https://go.dev/dl/",
	}
)

func (p program) path() string { return p.module + "/" + p.command }

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
	return traefikProgram.build(ctx, root, w)
}

// OldestTraefikPath is the oldest Traefik 3, built from e2e/traefik-oldest like the other.
func OldestTraefikPath(ctx context.Context, root string, w io.Writer) (string, error) {
	return oldestTraefikProgram.build(ctx, root, w)
}

// APIServerPath is Kubernetes' API server, built from e2e/kubernetes.
func APIServerPath(ctx context.Context, root string, w io.Writer) (string, error) {
	return kubernetesProgram.build(ctx, root, w)
}

// build builds the program, or finds the one that was built from the same go.sum before.
func (p program) build(ctx context.Context, root string, w io.Writer) (string, error) {
	module := filepath.Join(root, "e2e", p.folder)
	return keep(p.folder, p.name, []string{filepath.Join(module, "go.sum")}, w, func(path string) error { return p.compile(ctx, module, path, w) })
}

// keep has create put something at a path in the user's cache folder, unless it is there: made of the same inputs before. What is made
// has its name at the end alone, so that no half of it is ever used; until then it is beside it, with .partial.
func keep(file, name string, inputs []string, w io.Writer, create func(path string) error) (string, error) {
	sums := sha256.New()
	for _, input := range inputs {
		text, err := os.ReadFile(input)
		if err != nil {
			return "", err
		}
		sums.Write(text)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "traefik-oidc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, fmt.Sprintf("%s-%.8x", file, sums.Sum(nil)))

	// Two commands started at once make it once.
	lock, err := os.Create(path + ".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		fmt.Fprintf(w, "Waiting for another build of %s to finish.\n", name)
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
			return "", err
		}
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, create(path)
}

// compile runs the compiler and shows how far it is.
func (p program) compile(ctx context.Context, module, path string, w io.Writer) error {
	if _, err := exec.LookPath("go"); err != nil {
		return errors.New(p.missing)
	}
	version, err := output(module, "go", "list", "-m", "-f", "{{.Version}}", p.module)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "Building %s %s from its Go module. That takes 3 to 10 minutes on two cores, once.\n", p.name, version)
	if err := layOutLego(module); err != nil {
		return err
	}
	shown := newProgress(w)
	shown.step("downloading modules")
	list, err := output(module, "go", "list", "-deps", p.path())
	if err != nil {
		shown.end()
		return err
	}
	shown.total = strings.Count(list, "\n") + 1
	shown.step("compiling")

	told := version
	if p.module == traefikProgram.module { // whose releases tell their version without the letter
		told = strings.TrimPrefix(version, "v")
	}
	partial := path + ".partial"
	defer os.Remove(partial)
	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-o", partial, "-ldflags", "-s -w -X "+p.version+"="+told, p.path())
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.SysProcAttr = childAttributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) } // and go removes its work folder
	if err := p.runCompiler(ctx, cmd, shown); err != nil {
		return err
	}
	fmt.Fprintf(w, "Built %s %s, and kept it as %s.\n", p.name, version, path)
	return os.Rename(partial, path)
}

const legoModule = "github.com/go-acme/lego/v5"

// noDNSProviders is lego's list of DNS providers, with none.
const noDNSProviders = `package dns

import (
	"fmt"

	"github.com/go-acme/lego/v5/challenge"
)

func NewDNSChallengeProviderByName(name string) (challenge.Provider, error) {
	return nil, fmt.Errorf("this Traefik was built for tests, without the DNS provider %s", name)
}
`

// layOutLego copies lego, by which Traefik gets certificates, to where the module's replace line wants it, without its DNS providers.
// They are the larger half of Traefik's packages, no test asks for a certificate, and not every module proxy has all that they need.
// Other modules, and one where that is done, stay as they are.
func layOutLego(module string) error {
	text, err := output(module, "go", "mod", "edit", "-json")
	if err != nil {
		return err
	}
	var edited struct {
		Require []struct{ Path, Version string }
		Replace []struct {
			Old, New struct{ Path string }
		}
	}
	if err := json.Unmarshal([]byte(text), &edited); err != nil {
		return err
	}
	var wanted, place string
	for _, r := range edited.Require {
		if r.Path == legoModule {
			wanted = r.Path + "@" + r.Version
		}
	}
	for _, r := range edited.Replace {
		if r.Old.Path == legoModule {
			place = filepath.Join(module, r.New.Path)
		}
	}
	if _, err := os.Stat(filepath.Join(place, "go.mod")); wanted == "" || place == "" || err == nil {
		return nil
	}
	answer, err := output(os.TempDir(), "go", "mod", "download", "-json", wanted)
	if err != nil {
		return err
	}
	var downloaded struct{ Dir, GoMod string }
	if err := json.Unmarshal([]byte(answer), &downloaded); err != nil {
		return err
	}
	place, done := place+".partial", place
	if err := os.RemoveAll(place); err != nil {
		return err
	}
	if err := os.CopyFS(place, os.DirFS(downloaded.Dir)); err != nil {
		return err
	}
	providers := filepath.Join(place, "providers", "dns")
	if err := os.RemoveAll(providers); err != nil {
		return err
	}
	if err := os.MkdirAll(providers, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(providers, "dns.go"), []byte(noDNSProviders), 0o644); err != nil {
		return err
	}
	// Without requirements: those of Traefik name the same versions.
	if err := os.WriteFile(filepath.Join(place, "go.mod"), []byte("module "+legoModule+"\n\ngo 1.26.0\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(place, done)
}

// runCompiler counts the packages that `go build -v` names, and keeps the rest of its words for an error.
func (p program) runCompiler(ctx context.Context, cmd *exec.Cmd, shown *progress) error {
	defer shown.end()
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
			shown.count(line == p.path())
		}
	}
	if err := cmd.Wait(); ctx.Err() != nil {
		return fmt.Errorf("stopped while building %s; the next start goes on from here", p.name)
	} else if err != nil {
		return fmt.Errorf("go build %s: %w\n%s", p.path(), err, tail(strings.Join(words, "\n"), 30))
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
