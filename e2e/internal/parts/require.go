package parts

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Part is a program the tests want and the machine may lack.
type Part struct {
	Name    string   // the program in PATH
	Others  []string // further names it goes by
	Debian  string   // the package that has it
	Runs    []string // what it must be able to do, as arguments; nothing: to be there is enough
	Missing string   // what is not tested without it
}

// Parts are all programs of this kind. Traefik and the providers in Go are built, so they are not among them.
var Parts = []Part{
	{Name: "node", Others: []string{"nodejs"}, Debian: "nodejs npm", Missing: "sign-in with the second provider, npm oidc-provider, and with a real browser"},
	{Name: "npm", Debian: "npm", Missing: "sign-in with the second provider, npm oidc-provider, and with a real browser"},
	{Name: "chromium", Others: []string{"chromium-browser", "google-chrome"}, Debian: "chromium", Missing: "sign-in with a real browser, our pages on its screen"},
	{Name: "redis-server", Debian: "redis-server", Missing: "sessions in Redis, and configuration by labels"},
	{Name: "redis-sentinel", Debian: "redis-sentinel", Missing: "Redis with Sentinel"},
	{Name: "etcd", Debian: "etcd-server", Missing: "Kubernetes: Middleware, IngressRoute, Secret, Gateway API"},
	{Name: "nginx", Debian: "nginx-light", Missing: "TLS that ends before Traefik, prefixes that a proxy takes off, a cache in front and sign-outs behind it"},
	{Name: "haproxy", Debian: "haproxy", Missing: "another proxy that ends TLS before Traefik, and the PROXY protocol"},
	{Name: "varnishd", Debian: "varnish", Missing: "another cache in front of Traefik"},
	{Name: "python3", Debian: "python3-venv", Runs: []string{"-c", "import ensurepip"}, Missing: "tokens of Python's libraries"},
	{Name: "javac", Debian: "openjdk-17-jdk-headless", Missing: "tokens of Java's libraries, and upgrades to HTTP/2 at Undertow"},
	{Name: "mvn", Debian: "maven", Missing: "tokens of Java's libraries, and upgrades to HTTP/2 at Undertow"},
	{Name: "cargo", Debian: "cargo-web", Missing: "tokens of Rust's jsonwebtoken"},
	{Name: "wrk", Debian: "wrk", Missing: "the benchmark"},
}

// Strict is how CI runs: a missing part is a failure.
func Strict() bool { return isSet("STRICT") }

// OldestVariable names the environment variable by which somebody who is not CI asks for the oldest Traefik.
const OldestVariable = "OLDEST_TRAEFIK"

// WantsOldest tells whether the oldest Traefik is to be built and tested, too. It takes minutes the first time, and is what CI does.
func WantsOldest() bool { return Strict() || isSet(OldestVariable) }

func isSet(variable string) bool { return os.Getenv(variable) != "" && os.Getenv(variable) != "0" }

// Find returns the path of a part, or an error that says what to install.
func Find(name string) (string, error) {
	for _, part := range Parts {
		if part.Name == name {
			return part.Find()
		}
	}
	return exec.LookPath(name)
}

// Find returns the path of the program, or an error that says what to install.
func (p Part) Find() (string, error) {
	for _, name := range append([]string{p.Name}, p.Others...) {
		path, err := exec.LookPath(name)
		if err == nil && len(p.Runs) > 0 {
			_, err = output("", path, p.Runs...)
		}
		if err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed (Debian: apt-get install %s), so not tested: %s", p.Name, p.Debian, p.Missing)
}

// Report lists the parts that are missing, one to a line, "" if none is.
func Report() string {
	var lines []string
	for _, part := range Parts {
		if _, err := part.Find(); err != nil {
			lines = append(lines, "SKIPPED: "+err.Error())
		}
	}
	return strings.Join(lines, "\n")
}
