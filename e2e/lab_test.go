// Package e2e tries the plugin as users run it: in a real Traefik, with real OpenID providers, by a client that behaves as a
// browser does.
//
// All cases share one Traefik; each has a route, a host name and a client registration of its own, so they run in parallel:
//
//	app := start(t).serve(t, site{with: with{"session.expiry": 60}})
//	alice := app.visitor(t)
//	page := alice.signIn("/", provider.Alice)
//
// A case of one option, which has to show that the option's value makes a difference, is a call of try; see option_test.go.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
	"github.com/traefik-oidc/oidc/e2e/internal/upstream"
)

// lab is what the cases share.
type lab struct {
	root     string // of the repository
	dir      string // logs and configuration, kept when a test fails
	ca       *parts.CA
	traefik  *parts.Traefik
	provider *provider.Provider
	upstream *upstream.Upstream

	isLabelled bool   // routes come as text; see labels_test.go
	suffix     string // of the files with routes: "" for YAML, or ".toml"
}

var (
	theLab    *lab
	labError  error
	labOnce   sync.Once
	anyFailed atomic.Bool
	names     atomic.Int64
)

func TestMain(m *testing.M) {
	// Cases wait more than they compute. What -parallel says comes later, and wins.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	code := m.Run()
	stopLabels()
	stopKeycloak()
	theChromium.stop()
	if theCluster != nil {
		theCluster.stop()
	}
	if theLab != nil {
		theLab.stop()
	}
	os.Exit(code)
}

// start returns the lab, which the first test that wants it sets up.
func start(t *testing.T) *lab {
	t.Helper()
	labOnce.Do(func() {
		if theLab, labError = newLab(); labError != nil {
			t.Error(labError)
		}
	})
	if labError != nil {
		t.Fatal("nothing to test with; the first failure says why")
	}
	return theLab
}

func newLab() (*lab, error) {
	root, err := parts.Root()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "oidc-e2e-")
	if err != nil {
		return nil, err
	}
	l := &lab{root: root, dir: dir}
	if err := l.setUp(); err != nil {
		l.stop()
		return nil, err
	}
	return l, nil
}

func (l *lab) setUp() error {
	logFile, err := os.Create(filepath.Join(l.dir, "provider.log"))
	if err != nil {
		return err
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(logFile, nil))) // the first provider's library writes there

	if l.ca, err = parts.NewCA("oidc e2e"); err != nil {
		return err
	}
	if l.provider, err = provider.Start(provider.Options{}); err != nil {
		return err
	}
	if l.upstream, err = upstream.Start(upstream.Options{Identity: []string{"X-User"}}); err != nil {
		return err
	}
	l.traefik, err = l.newTraefik("traefik", parts.TraefikOptions{})
	return err
}

// newTraefik runs a Traefik with the plugin in a folder of the lab.
func (l *lab) newTraefik(folder string, o parts.TraefikOptions) (*parts.Traefik, error) {
	if o.Path == "" {
		path, err := parts.TraefikPath(context.Background(), l.root, os.Stderr)
		if err != nil {
			return nil, err
		}
		o.Path = path
	}
	o.Dir, o.CA, o.Plugin = filepath.Join(l.dir, folder), l.ca, parts.PluginDir(l.root)
	return parts.StartTraefik(o)
}

func (l *lab) stop() {
	if l.traefik != nil {
		l.traefik.Stop()
	}
	if l.provider != nil {
		l.provider.Stop()
	}
	if l.upstream != nil {
		l.upstream.Stop()
	}
	if anyFailed.Load() {
		fmt.Fprintf(os.Stderr, "Logs and configuration are kept in %s.\n", l.dir)
	} else {
		os.RemoveAll(l.dir)
	}
}

// need skips a test whose program is not installed; in CI it fails.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := parts.Find(program)
	switch {
	case err == nil:
		return path
	case parts.Strict():
		t.Fatal(err)
	default:
		t.Skipf("SKIPPED: %v", err)
	}
	return ""
}

// with is options of the plugin. A name may be a path: "session.expiry". The value drop takes a default of serve away. In
// a text, as in a rule and a callback, {site} stands for the site's host name, and {host} for that with the port.
type with map[string]any

type dropped struct{}

func (dropped) String() string { return "unset" }

var drop = dropped{}

// nested turns paths into blocks, as they are written in YAML.
func (w with) nested() map[string]any {
	result := map[string]any{}
	for path, value := range w {
		if value == drop {
			continue
		}
		block := result
		names := strings.Split(path, ".")
		for _, name := range names[:len(names)-1] {
			inner, ok := block[name].(map[string]any)
			if !ok {
				inner = map[string]any{}
				block[name] = inner
			}
			block = inner
		}
		block[names[len(names)-1]] = value
	}
	return result
}

// ownProvider starts a provider for a test that does to it what others would notice.
func ownProvider(t *testing.T) *provider.Provider {
	t.Helper()
	own, err := provider.Start(provider.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Stop)
	return own
}

// site is a protected route to be set up. The zero value is a plain sign-in with issuer, clientId and clientSecret.
type site struct {
	with      with
	callbacks []string // registered redirect URIs, beside /oidc/callback; paths or URLs
	landings  []string // registered post-logout redirect URIs, beside /; paths or URLs
	client    func(c *provider.Client)
	provider  *provider.Provider // default: the one that all share
	rule      string             // default: its host; HOST stands for that
	plain     bool               // no middleware
	backend   string             // default: the application that all share
}

// app is a site that Traefik serves.
type app struct {
	lab      *lab
	name     string // of the route, the middleware and the client
	host     string
	URL      string
	Secure   string // the same by https
	provider *provider.Provider

	logStart int64
	version  int               // of its labels
	keys     map[string]string // its labels
}

// serve sets a site up, until the test ends.
func (l *lab) serve(t *testing.T, s site) *app {
	t.Helper()
	a, err := l.tryServe(t, s)
	if err != nil {
		t.Fatalf("Traefik does not serve this: %v\n%s", err, a.log())
	}
	return a
}

// refuse sets a site up that the plugin must refuse, and returns the plugin's words.
func (l *lab) refuse(t *testing.T, s site) string {
	t.Helper()
	a, err := l.tryServe(t, s)
	if err == nil {
		t.Fatalf("the plugin accepts %v", s.with)
	}
	return err.Error() + "\n" + a.log()
}

func (l *lab) tryServe(t *testing.T, s site) (*app, error) {
	t.Helper()
	a := l.newApp(t, s)
	a.register(s)
	t.Cleanup(func() {
		if l.isLabelled {
			a.forgetLabels(nil)
		} else {
			l.traefik.RemoveFile(a.name + l.suffix)
		}
		if t.Failed() {
			anyFailed.Store(true)
			t.Logf("What Traefik wrote about %s:\n%s", a.name, a.log())
		}
	})
	return a, a.set(s)
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

func (l *lab) newApp(t *testing.T, s site) *app {
	name := notInNames.ReplaceAllString(strings.ToLower(strings.TrimPrefix(t.Name(), "Test")), "-")
	if len(name) > 40 {
		name = name[:40]
	}
	name = fmt.Sprintf("%s-%d", strings.Trim(name, "-"), names.Add(1))
	a := &app{lab: l, name: name, host: name + "." + parts.Domain, provider: s.provider, logStart: l.traefik.LogSize()}
	a.URL = strings.Replace(l.traefik.URL, "127.0.0.1", a.host, 1)
	a.Secure = strings.Replace(l.traefik.SecureURL, "127.0.0.1", a.host, 1)
	if a.provider == nil {
		a.provider = l.provider
	}
	return a
}

// register makes the app known to its provider.
func (a *app) register(s site) {
	client := provider.Client{ID: a.name, Secret: a.secret()}
	client.RedirectURIs = a.addresses(append(s.callbacks, "/oidc/callback"))
	client.PostLogoutRedirectURIs = a.addresses(append(s.landings, "/"))
	if s.client != nil {
		s.client(&client)
	}
	a.provider.AddClient(client)
}

func (a *app) secret() string { return fmt.Sprintf("the secret of %x", a.name) } // in digits: a name may have words of published secrets

// addresses turns paths into URLs of the app.
func (a *app) addresses(paths []string) []string {
	var urls []string
	for _, path := range paths {
		if strings.HasPrefix(path, "/") {
			urls = append(urls, a.URL+path, a.Secure+path)
		} else {
			urls = append(urls, a.fill(path))
		}
	}
	return urls
}

func (a *app) fill(text string) string {
	return strings.NewReplacer("{site}", a.host, "{host}", strings.TrimPrefix(a.URL, "http://"), "{name}", a.name).Replace(text)
}

// set makes Traefik serve the app with these options, or with others than before.
func (a *app) set(s site) error {
	options := with{"issuer": a.provider.Issuer, "clientId": a.name, "clientSecret": a.secret()}
	for name, value := range s.with {
		if text, ok := value.(string); ok {
			value = a.fill(text)
		}
		options[name] = value
	}
	rule := "Host(`" + a.host + "`)"
	if s.rule != "" {
		rule = strings.ReplaceAll(a.fill(s.rule), "HOST", rule)
	}
	route := parts.Route{Name: a.name, Rule: rule, Options: options.nested(), Backend: a.lab.upstream.URL}
	if s.plain {
		route.Options = nil
	}
	if s.backend != "" {
		route.Backend = s.backend
	}
	if a.lab.isLabelled {
		return a.setLabels(route)
	}
	return a.lab.traefik.SetRoutes(a.name+a.lab.suffix, route)
}

// routine is what Traefik writes about every route at every reload.
var routine = regexp.MustCompile(`> (Creating|Adding|Added|No entryPoint|Configuration received)`)

// log is what Traefik and the plugin wrote about the app.
func (a *app) log() string {
	var lines []string
	for line := range strings.Lines(a.lab.traefik.Log(a.logStart)) {
		if strings.Contains(line, a.name) && !routine.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// nodeProvider is npm oidc-provider, shared like the rest. Clients are registered when it starts, so it has one for each
// kind of case, each good for any host under the tests' domain.
func (l *lab) nodeProvider(t *testing.T, o provider.NodeOptions) *provider.Node {
	t.Helper()
	need(t, "node")
	o.Root, o.LogFile = l.root, filepath.Join(l.dir, fmt.Sprintf("node-%d.log", names.Add(1)))
	node, err := provider.StartNode(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		node.Stop()
		if t.Failed() {
			anyFailed.Store(true)
			t.Logf("What oidc-provider wrote:\n%s", node.LogText())
		}
	})
	return node
}
