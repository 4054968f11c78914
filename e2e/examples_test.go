package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/traefik/paerser/file"
	"github.com/traefik/paerser/parser"
	"gopkg.in/yaml.v3"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// The files in examples/ and the configurations in README.md and docs/ are read as Traefik reads them (its own parser, paerser,
// for files and labels) and set up in the real Traefik. Those in examples/ are signed in to.

// configuration is the part of Traefik's dynamic configuration that examples use.
type configuration struct {
	HTTP *httpConfiguration `yaml:"http"`
}

type httpConfiguration struct {
	Routers     map[string]*routerConfiguration     `yaml:"routers"`
	Middlewares map[string]*middlewareConfiguration `yaml:"middlewares"`
	Services    map[string]*serviceConfiguration    `yaml:"services"`
}

type routerConfiguration struct {
	Rule        string    `yaml:"rule"`
	EntryPoints []string  `yaml:"entryPoints"`
	Middlewares []string  `yaml:"middlewares"`
	Service     string    `yaml:"service"`
	TLS         *struct{} `yaml:"tls" label:"allowEmpty" file:"allowEmpty"`
}

type middlewareConfiguration struct {
	Plugin  map[string]pluginConfiguration `yaml:"plugin"`
	Headers map[string]any                 `yaml:"headers"` // Traefik's own
}

// pluginConfiguration is dynamic.PluginConf.
type pluginConfiguration map[string]any

type serviceConfiguration struct {
	LoadBalancer *struct {
		Servers []struct {
			URL string `yaml:"url"`
		} `yaml:"servers"`
		Server *struct {
			Port string `yaml:"port"`
		} `yaml:"server"`
	} `yaml:"loadBalancer"`
}

// example is one use of the plugin in a file or page.
type example struct {
	name    string // of the middleware
	options map[string]any
}

// fragment is the name of an example that is some options for a sign-in.
const fragment = "fragment"

// reference is a value that is kept elsewhere.
var reference = regexp.MustCompile(`^\$\{[^}]+\}$`)

// inFile is a part of a value that is kept in a file.
var inFile = regexp.MustCompile(`\$\{file:[^}]+\}`)

// site makes an example ready to be set up: with our provider and client, with secrets for references, and with addresses on the
// host that it gets here.
func (e example) site() site {
	s := site{with: with{}}
	isTokens := e.options["issuer"] == nil && e.name != fragment // only; their client is their own
	if isTokens {
		s.with = with{"issuer": drop, "clientId": drop, "clientSecret": drop}
	}
	for option, value := range e.options {
		switch option {
		case "issuer", "clientId", "clientSecret":
			if !isTokens {
				continue
			}
		}
		s.with[option] = settled(option, value)
	}
	for option, value := range s.with {
		address, _ := value.(string)
		switch strings.ToLower(option) {
		case "redirecturl":
			s.callbacks = append(s.callbacks, address)
		case "postlogoutredirecturl":
			s.landings = append(s.landings, address)
		}
	}
	return s
}

// settled is a value with what it refers to.
func settled(option string, value any) any {
	switch value := value.(type) {
	case string:
		if reference.MatchString(value) {
			return fmt.Sprintf("what %x stands for, and long enough", value) // in digits: the name may have words of published secrets
		}
		if page, ok := strings.CutPrefix(value, "/etc/traefik/error-pages/"); ok {
			page, _ = filepath.Abs("../examples/error-pages/" + page)
			return page
		}
		value = inFile.ReplaceAllString(value, "alice@example.com")
		if strings.HasSuffix(strings.ToLower(option), "url") {
			return strings.TrimPrefix(value, "https://app.example.com")
		}
		return value
	case []any:
		list := []any{}
		for _, item := range value {
			list = append(list, settled(option, item))
		}
		return list
	case map[string]any:
		block := map[string]any{}
		for name, inner := range value {
			block[name] = settled(name, inner)
		}
		return block
	}
	return value
}

// fileExamples reads a dynamic configuration as Traefik's file provider does.
func fileExamples(text string) ([]example, error) {
	config := configuration{}
	if err := file.DecodeContent(text, ".yml", &config); err != nil {
		return nil, err
	}
	return config.examples()
}

// labelExamples reads labels as Traefik's Docker provider does.
func labelExamples(labels []string) ([]example, error) {
	given := map[string]string{}
	for _, label := range labels {
		name, value, _ := strings.Cut(label, "=")
		if !strings.HasPrefix(name, "traefik.http.") {
			continue
		}
		given[name] = strings.ReplaceAll(value, "$$", "$") // as Compose does
	}
	config := configuration{HTTP: &httpConfiguration{}}
	if err := parser.Decode(given, &config, "traefik", "traefik.http"); err != nil {
		return nil, err
	}
	return config.examples()
}

// examples are the middlewares of a configuration. Each must be there for every router that names one, and the other way round.
func (c configuration) examples() ([]example, error) {
	var found []example
	used := map[string]bool{}
	for name, router := range c.HTTP.Routers {
		for _, middleware := range router.Middlewares {
			if c.HTTP.Middlewares[middleware] == nil {
				return nil, fmt.Errorf("router %s names the middleware %s, which is not there", name, middleware)
			}
			used[middleware] = true
		}
		if router.Service != "" && c.HTTP.Services != nil && c.HTTP.Services[router.Service] == nil {
			return nil, fmt.Errorf("router %s names the service %s, which is not there", name, router.Service)
		}
	}
	for name, middleware := range c.HTTP.Middlewares {
		if c.HTTP.Routers != nil && !used[name] {
			return nil, fmt.Errorf("no router names the middleware %s", name)
		}
		options := middleware.Plugin["oidc"]
		if options == nil && middleware.Headers != nil {
			continue
		}
		if options == nil {
			return nil, fmt.Errorf("the middleware %s is not plugin.oidc", name)
		}
		found = append(found, example{name: name, options: options})
	}
	return found, nil
}

// filledIn does what the Secrets of the examples ask for: the plugin refuses what stands there, as everybody can read it.
var filledIn = strings.NewReplacer("change-me-too-openssl-rand-base64-32", sealingText, "changed-too-openssl-rand-base64-32", nextSealingText,
	"change-me-to-32-characters-or-more", signingText)

const (
	sealingText     = "sealed-with-this-at-first"
	nextSealingText = "sealed-with-that-from-now-on"
	signingText     = "what-is-signed-by-an-issuer-and-us"
)

// kubernetesExamples reads manifests. References to Secrets must lead to one among them.
func kubernetesExamples(text string) ([]example, error) {
	var found []example
	secrets := map[string]string{}
	decoder := yaml.NewDecoder(strings.NewReader(filledIn.Replace(text)))
	for {
		var manifest struct {
			Kind       string
			Metadata   struct{ Name string }
			StringData map[string]string `yaml:"stringData"`
			Spec       struct{ Plugin map[string]map[string]any }
		}
		if err := decoder.Decode(&manifest); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		for key, value := range manifest.StringData {
			secrets["urn:k8s:secret:"+manifest.Metadata.Name+":"+key] = value
		}
		if manifest.Kind == "Middleware" {
			found = append(found, example{name: manifest.Metadata.Name, options: manifest.Spec.Plugin["oidc"]})
		}
	}
	for _, e := range found {
		if err := resolve(e.options, secrets); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// resolve puts Secrets in the place of their names, as Traefik's Kubernetes CRD provider does.
func resolve(options map[string]any, secrets map[string]string) error {
	for name, value := range options {
		found, err := resolved(value, secrets)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		options[name] = found
	}
	return nil
}

func resolved(value any, secrets map[string]string) (any, error) {
	var err error
	switch value := value.(type) {
	case map[string]any:
		return value, resolve(value, secrets)
	case []any:
		for i := range value {
			if value[i], err = resolved(value[i], secrets); err != nil {
				return nil, err
			}
		}
	case string:
		if strings.HasPrefix(value, "urn:k8s:secret:") {
			if secrets[value] == "" {
				err = fmt.Errorf("there is no Secret for %s", value)
			}
			return secrets[value], err
		}
	}
	return value, nil
}

// readExample finds the uses of the plugin in a file below examples/.
func readExample(path string) ([]example, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if strings.Contains(string(text), "apiVersion:") { // kubernetes_test.go applies them to a Kubernetes, where there is one
		return kubernetesExamples(string(text))
	}
	if filepath.Base(path) == "compose.yml" {
		var compose struct {
			Services map[string]struct{ Labels []string }
		}
		if err := yaml.Unmarshal(text, &compose); err != nil {
			return nil, err
		}
		return labelExamples(compose.Services["app"].Labels)
	}
	if strings.HasPrefix(filepath.Base(path), "traefik") || strings.HasPrefix(filepath.Base(path), "values") {
		return nil, checkStatic(text)
	}
	return fileExamples(string(text))
}

// checkStatic sees that a static configuration loads this plugin.
func checkStatic(text []byte) error {
	var static struct {
		Experimental struct {
			LocalPlugins map[string]struct{ ModuleName string } `yaml:"localPlugins"`
		}
	}
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&static); err != nil {
		return err
	}
	if static.Experimental.LocalPlugins["oidc"].ModuleName == "" && !strings.Contains(string(text), "moduleName: github.com/traefik-oidc/oidc") {
		return errors.New("the static configuration does not load the plugin")
	}
	return nil
}

// TestExampleFiles sets every example up, and signs Alice, who satisfies every rule, in.
func TestExampleFiles(t *testing.T) {
	paths, err := filepath.Glob("../examples/*/*.yml")
	if err != nil || len(paths) < 5 {
		t.Fatalf("only %d examples: %v", len(paths), err)
	}
	own := regexp.MustCompile(`/(file|docker-compose|kubernetes)/`)
	for _, path := range paths {
		if !own.MatchString(path) {
			continue // these folders have tests of their own
		}
		examples, err := readExample(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for _, e := range examples {
			t.Run(filepath.Base(path)+" "+e.name, func(t *testing.T) {
				t.Parallel()
				visitor := start(t).serve(t, e.site()).visitor(t)
				received := visitor.received(visitor.signIn("/", provider.Alice))
				if user := received.Header.Get("X-User"); user == "" {
					t.Errorf("the application is not told who it is: %v", received.Header)
				}
			})
		}
	}
}

// TestExampleTwoRules serves that file as it is, but for the names of hosts and the client: one sign-in for both middlewares, a rule
// that only one of them has, pages that need no sign-in, and a sign-out.
func TestExampleTwoRules(t *testing.T) {
	t.Parallel()
	l := start(t)
	a := l.newApp(t, site{})
	a.register(site{callbacks: []string{"/oidc/callback"}, landings: []string{"/bye"}})
	text, err := os.ReadFile("../examples/file/two-rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	content := strings.NewReplacer(
		"https://app.example.com", a.Secure, "app.example.com", a.host, "https://id.example.com", a.provider.Issuer,
		"clientId: my-app", "clientId: "+a.name, "${OIDC_CLIENT_SECRET}", a.secret(), "${SESSION_SECRET}", sealingText,
		"service: app", "service: "+a.name, "\n    app:\n", "\n    "+a.name+":\n", "http://127.0.0.1:8081", l.upstream.URL,
	).Replace(string(text))
	if err := l.traefik.SetFile(a.name, content); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.traefik.RemoveFile(a.name) })
	for _, name := range []string{"everyone", "admins"} {
		if err := l.traefik.RouteError(name); err != nil {
			t.Fatal(err)
		}
	}
	alice := a.secureVisitor(t)
	alice.signIn("/", provider.Alice)
	bob := a.secureVisitor(t)
	bob.signIn("/", provider.Bob)
	nobody := a.secureVisitor(t)
	for _, c := range []struct {
		who        *visitor
		path, want string
	}{
		{alice, "/admin/", "application"}, {bob, "/admin/", "Forbidden"}, {bob, "/", "application"},
		{nobody, "/public/x", "application"}, {nobody, "/bye", "application"}, {nobody, "/admin/", "sign-in"},
	} {
		if got := c.who.outcome(c.who.open(c.path)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.path, got, c.want)
		}
	}
	if user := alice.received(alice.open("/admin/")).Header.Get("X-Name"); user != "Alice Liddell <alice@example.com>" {
		t.Errorf("X-Name is %q", user)
	}
	alice.post("/logout", nil)
	if got := alice.outcome(alice.look("/")); got != "sign-in" {
		t.Errorf("after the sign-out: got %s", got)
	}
}

// TestExampleCompose has Docker read the Compose file, where there is one.
func TestExampleCompose(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil || exec.Command(docker, "compose", "version").Run() != nil {
		t.Skip("SKIPPED: docker compose is not installed, so it does not read examples/docker-compose/compose.yml")
	}
	output, err := exec.Command(docker, "compose", "-f", "../examples/docker-compose/compose.yml", "config").CombinedOutput()
	if err != nil || !strings.Contains(string(output), "$${OIDC_ISSUER}") {
		t.Errorf("docker compose config: %v\n%s", err, output)
	}
}

// fence is a block of YAML in a page. One that is fenced as "yaml before" is another program's.
var fence = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// lineStart is where an indentation goes.
var lineStart = regexp.MustCompile(`(?m)^`)

// staticBlock is YAML that is for Traefik itself.
var staticBlock = regexp.MustCompile(`^(log|entryPoints|experimental|providers|core|accessLog|services|env|deployment):`)

// pageExamples finds the uses of the plugin in a page: whole files, manifests, labels, or some options, which then stand beside
// those of the minimal example.
func pageExamples(text string) ([]example, error) {
	var found []example
	for i, block := range fence.FindAllStringSubmatch(text, -1) {
		content := block[1]
		var more []example
		var err error
		switch {
		case strings.HasPrefix(content, "http:"):
			more, err = fileExamples(content)
		case isApplied(content):
			// tried by kubernetes_test.go
		case strings.Contains(content, "apiVersion:"):
			more, err = kubernetesExamples(content)
		case strings.HasPrefix(content, "labels:"):
			var labels struct{ Labels []string }
			if err = yaml.Unmarshal([]byte(content), &labels); err == nil {
				more, err = labelExamples(labels.Labels)
			}
		case staticBlock.MatchString(content):
			err = yaml.Unmarshal([]byte(content), &map[string]any{})
		default:
			more, err = fileExamples("http:\n  middlewares:\n    " + fragment + ":\n      plugin:\n        oidc:\n" + lineStart.ReplaceAllString(content, "          "))
		}
		if err != nil {
			return nil, fmt.Errorf("block %d:\n%s\n%w", i+1, content, err)
		}
		found = append(found, more...)
	}
	return found, nil
}

// isApplied tells whether a file of examples/kubernetes/, which are applied to a Kubernetes, has this block as it is.
func isApplied(block string) bool {
	paths, _ := filepath.Glob("../examples/kubernetes/*.yml")
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err == nil && strings.Contains("\n"+string(text), "\n"+block) {
			return true
		}
	}
	return false
}

// TestExampleKubernetesPages: what the pages for Kubernetes show is what kubernetes_test.go applies, to the letter.
func TestExampleKubernetesPages(t *testing.T) {
	for page, least := range map[string]int{"kubernetes.md": 6, "getting-started.md": 1} {
		text, err := os.ReadFile("../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for i, block := range fence.FindAllStringSubmatch(string(text), -1) {
			if page != "kubernetes.md" && !strings.Contains(block[1], "apiVersion:") {
				continue
			}
			found++
			if !isApplied(block[1]) {
				t.Errorf("%s, block %d is in no file of examples/kubernetes/:\n%s", page, i+1, block[1])
			}
		}
		if found < least {
			t.Errorf("%s has %d such blocks, expected %d at least: this test has gone blind", page, found, least)
		}
	}
}

// TestExamplePages sets every configuration up that a page shows.
func TestExamplePages(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	below, _ := filepath.Glob("../docs/*/*.md")
	for _, page := range append(append(pages, below...), "../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		examples, err := pageExamples(string(text))
		if err != nil {
			t.Errorf("%s: %v", page, err)
		}
		for i, e := range examples {
			t.Run(fmt.Sprintf("%s %d %s", filepath.Base(page), i+1, e.name), func(t *testing.T) {
				t.Parallel()
				start(t).serve(t, e.site())
			})
		}
	}
}
