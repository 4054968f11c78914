package parts

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/BurntSushi/toml"
)

const (
	// pluginModule is where Traefik looks for the plugin below plugins-local/src.
	pluginModule = "github.com/traefik-oidc/oidc"
	// Domain is what the names of all routes end in. Browsers lead *.localhost to this machine without any DNS.
	Domain = "e2e.localhost"
	// apiHost is where Traefik's own API is, on both entry points.
	apiHost = "traefik." + Domain
	// secureSuffix is added to the name of the API's router on the entry point with TLS; two routers need two names.
	secureSuffix = "-secure"
	// markerPrefix begins the name of the file that tells the version of another, and sorts it before that.
	markerPrefix = "0-"
	// tomlSuffix ends the name of a dynamic file that is not YAML.
	tomlSuffix = ".toml"
)

// TraefikOptions say how to run a Traefik. Only Path, Dir and Plugin are needed.
type TraefikOptions struct {
	Path string // the program; see TraefikPath
	Dir  string // its working directory, made if missing
	// Plugin is the folder of the plugin; only what a plugin consists of is copied. More plugins by alias are in Plugins.
	Plugin  string
	Plugins map[string]Plugin
	// WholePlugin copies everything in the plugin's folder, as Traefik does when it unpacks a download.
	WholePlugin bool
	// Addr is where http is served, default a free port of 127.0.0.1; https always has a free port.
	Addr string
	// Static is merged into the static configuration.
	Static map[string]any
	// Arguments are the static configuration instead, for these addresses and this folder of dynamic files.
	Arguments func(web, websecure, dynamic string) []string
	Env       []string
	CA        *CA // of the entry point with TLS; without one Traefik makes a certificate up
}

// Plugin is a local plugin beside ours.
type Plugin struct{ Module, Dir string }

// Traefik is a running Traefik.
type Traefik struct {
	*Process
	URL       string // of the entry point web
	SecureURL string // of the entry point websecure
	Dir       string

	client  *http.Client
	mu      sync.Mutex
	version map[string]int // of each dynamic file
}

// StartTraefik runs a Traefik with the plugin loaded and no routes but its own API's.
func StartTraefik(o TraefikOptions) (*Traefik, error) {
	dynamic := filepath.Join(o.Dir, "dynamic")
	if err := os.MkdirAll(dynamic, 0o755); err != nil {
		return nil, err
	}
	plugins := map[string]any{"oidc": map[string]any{"moduleName": pluginModule}}
	if err := copyPlugin(o.Dir, Plugin{pluginModule, o.Plugin}, o.WholePlugin); err != nil {
		return nil, err
	}
	for alias, plugin := range o.Plugins {
		plugins[alias] = map[string]any{"moduleName": plugin.Module}
		if err := copyPlugin(o.Dir, plugin, false); err != nil {
			return nil, err
		}
	}
	// A free port may be taken before Traefik listens on it, so it is tried more than once.
	for attempt := 1; ; attempt++ {
		t, err := startTraefik(o, dynamic, plugins)
		if err == nil || attempt == 3 || !strings.Contains(err.Error(), "address already in use") {
			return t, err
		}
	}
}

// Restart runs a Traefik that has ended again, with the routes it had; with an Addr in the options, at the same place.
func (t *Traefik) Restart(o TraefikOptions) (*Traefik, error) {
	again, err := StartTraefik(o)
	if err == nil {
		again.version = maps.Clone(t.version) // the markers in its folder go on counting
	}
	return again, err
}

func startTraefik(o TraefikOptions, dynamic string, plugins map[string]any) (*Traefik, error) {
	web, err := addrOr(o.Addr)
	if err != nil {
		return nil, err
	}
	websecure, err := addrOr("")
	if err != nil {
		return nil, err
	}
	static := map[string]any{
		"entryPoints": map[string]any{
			"web":       map[string]any{"address": web},
			"websecure": map[string]any{"address": websecure, "http": map[string]any{"tls": map[string]any{}}},
		},
		"api":     map[string]any{"debug": true},
		"metrics": map[string]any{"prometheus": map[string]any{"manualRouting": true}},
		"providers": map[string]any{
			"providersThrottleDuration": "50ms", // not the usual two seconds: tests change routes all the time
			"file":                      map[string]any{"directory": dynamic},
		},
		"experimental": map[string]any{"localPlugins": plugins},
		"log":          map[string]any{"level": "DEBUG", "noColor": true},
		"accessLog":    map[string]any{"format": "json", "filePath": filepath.Join(o.Dir, "access.log")},
		"global":       map[string]any{"checkNewVersion": false, "sendAnonymousUsage": false},
	}
	merge(static, o.Static)
	args := []string{"--configFile=traefik.yml"}
	if o.Arguments != nil {
		args = o.Arguments(web, websecure, dynamic) // and no file, which would win
	} else if err := writeJSON(filepath.Join(o.Dir, "traefik.yml"), static); err != nil {
		return nil, err
	}
	t := &Traefik{
		URL: "http://" + web, SecureURL: "https://" + websecure, Dir: o.Dir,
		version: map[string]int{}, client: directClient(web, websecure),
	}
	if err := t.writeOwnRoutes(o.CA); err != nil {
		return nil, err
	}
	t.Process, err = StartProcess(Command{
		Name: "Traefik", Path: o.Path, Args: args, Dir: o.Dir, Env: o.Env,
		LogFile: filepath.Join(o.Dir, "traefik.log"),
	})
	if err != nil {
		return nil, err
	}
	if err := t.ready(); err != nil {
		t.Stop()
		return nil, err
	}
	return t, nil
}

// ready waits until both entry points serve the API, and finds out whether the plugins were loaded: Traefik starts without
// those that were not.
func (t *Traefik) ready() error {
	err := t.WaitFor("its API answered", 30*time.Second, func() bool {
		return t.api("http", "/api/version", nil) == nil && t.api("https", "/api/version", nil) == nil
	})
	if err != nil {
		return err
	}
	for line := range strings.Lines(t.Log(0)) {
		if strings.Contains(line, "Plugins are disabled") {
			return errors.New(strings.TrimSpace(line))
		}
	}
	return nil
}

func addrOr(addr string) (string, error) {
	if addr != "" {
		return addr, nil
	}
	port, err := FreePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// directClient reaches Traefik's entry points under any name.
func directClient(web, websecure string) *http.Client {
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it is our own Traefik, and only its API is asked
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				to := web
				if strings.HasSuffix(addr, ":443") {
					to = websecure
				}
				return (&net.Dialer{}).DialContext(ctx, network, to)
			},
		},
	}
}

// copyPlugin lays a plugin out as Traefik wants it: what the interpreter reads, or the whole folder.
func copyPlugin(dir string, plugin Plugin, whole bool) error {
	target := filepath.Join(dir, "plugins-local", "src", filepath.FromSlash(plugin.Module))
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	if whole {
		return os.CopyFS(target, os.DirFS(plugin.Dir))
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(plugin.Dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		source := strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
		if !source && name != "go.mod" && name != ".traefik.yml" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(plugin.Dir, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(target, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writeOwnRoutes puts Traefik's API and metrics on both entry points. Asked there, the API answers from the very
// configuration that serves the entry point's other routes.
func (t *Traefik) writeOwnRoutes(ca *CA) error {
	routers := map[string]any{}
	for suffix, entryPoint := range map[string]string{"": "web", secureSuffix: "websecure"} {
		routers["api"+suffix] = map[string]any{
			"entryPoints": []string{entryPoint}, "rule": "Host(`" + apiHost + "`)", "service": "api@internal",
		}
		routers["metrics"+suffix] = map[string]any{
			"entryPoints": []string{entryPoint}, "rule": "Host(`" + apiHost + "`) && Path(`/metrics`)", "service": "prometheus@internal",
		}
	}
	config := map[string]any{"http": map[string]any{"routers": routers}}
	if ca != nil {
		certificate, key, err := ca.Issue("*."+Domain, Domain, "localhost", "127.0.0.1")
		if err != nil {
			return err
		}
		config["tls"] = map[string]any{"stores": map[string]any{"default": map[string]any{
			"defaultCertificate": map[string]any{"certFile": certificate, "keyFile": key},
		}}}
	}
	return writeJSON(filepath.Join(t.Dir, "dynamic", "traefik.yml"), config)
}

// Route is a router, with the plugin as its middleware, in front of a service.
type Route struct {
	Name    string
	Rule    string         // default: the host Name.e2e.localhost
	Options map[string]any // of the plugin; nil: no middleware
	Plugin  string         // its alias, default oidc
	Backend string         // URL of the service
}

// SetRoutes makes these routes the contents of a dynamic configuration file, and waits until Traefik serves them. A route
// that Traefik refuses is an error with Traefik's words. The file is YAML, or TOML if its name ends so.
func (t *Traefik) SetRoutes(file string, routes ...Route) error {
	routers, middlewares, services := map[string]any{}, map[string]any{}, map[string]any{}
	for _, route := range routes {
		if route.Rule == "" {
			route.Rule = "Host(`" + route.Name + "." + Domain + "`)"
		}
		router := map[string]any{"rule": route.Rule, "service": route.Name}
		if route.Options != nil {
			plugin := route.Plugin
			if plugin == "" {
				plugin = "oidc"
			}
			middlewares[route.Name] = map[string]any{"plugin": map[string]any{plugin: route.Options}}
			router["middlewares"] = []string{route.Name}
		}
		routers[route.Name] = router
		services[route.Name] = map[string]any{"loadBalancer": map[string]any{"servers": []any{map[string]any{"url": route.Backend}}}}
	}
	sections := map[string]any{"routers": routers, "services": services}
	if len(middlewares) > 0 {
		sections["middlewares"] = middlewares
	}
	marshal := func(value any) ([]byte, error) { return json.MarshalIndent(value, "", "  ") } // which is YAML, too
	if strings.HasSuffix(file, tomlSuffix) {
		marshal = toml.Marshal
	}
	text, err := marshal(map[string]any{"http": sections})
	if err != nil {
		return err
	}
	// The file provider takes every file for a template.
	if err := t.SetFile(file, strings.ReplaceAll(string(text), "{{", "{{`{{`}}")); err != nil {
		return err
	}
	for _, route := range routes {
		if err := t.RouteError(route.Name); err != nil {
			return err
		}
	}
	return nil
}

// SetFile makes text, YAML as users write it, a dynamic configuration file, and waits until Traefik serves it.
func (t *Traefik) SetFile(file, text string) error {
	t.mu.Lock()
	t.version[file]++
	version := strconv.Itoa(t.version[file])
	t.mu.Unlock()
	// A middleware that nobody uses tells which version is served. Traefik reads the folder in the order of the names, so
	// when it has read this version of the marker, what it reads next is at least this version of the file.
	marker := markerPrefix + strings.TrimSuffix(file, tomlSuffix)
	if err := t.write(file, text); err != nil {
		return err
	}
	if err := t.write(marker, fmt.Sprintf(`{"http":{"middlewares":{%q:{"headers":{"customRequestHeaders":{"Version":%q}}}}}}`, marker, version)); err != nil {
		return err
	}
	return t.WaitForMark(marker+"@file", "Version", version)
}

// WaitForMark waits until both entry points serve a configuration in which the headers middleware has this request header.
func (t *Traefik) WaitForMark(middleware, header, value string) error {
	return t.WaitFor("serving "+middleware, 20*time.Second, func() bool {
		for _, scheme := range []string{"http", "https"} {
			var seen struct {
				Headers struct{ CustomRequestHeaders map[string]string }
			}
			if t.api(scheme, "/api/http/middlewares/"+middleware, &seen) != nil || seen.Headers.CustomRequestHeaders[header] != value {
				return false
			}
		}
		return true
	})
}

// RemoveFile takes a dynamic configuration file away, and does not wait.
func (t *Traefik) RemoveFile(file string) {
	os.Remove(filepath.Join(t.Dir, "dynamic", fileName(file)))
	os.Remove(filepath.Join(t.Dir, "dynamic", fileName(markerPrefix+strings.TrimSuffix(file, tomlSuffix))))
}

// write puts a file into the watched folder in one step, so that Traefik never reads half of it.
func (t *Traefik) write(file, text string) error {
	temporary := filepath.Join(t.Dir, file+".new")
	if err := os.WriteFile(temporary, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(t.Dir, "dynamic", fileName(file)))
}

func fileName(file string) string {
	if strings.HasSuffix(file, tomlSuffix) {
		return file
	}
	return file + ".yml"
}

// RouteError is nil if Traefik serves the route, else why it does not. A name without provider is of a file.
func (t *Traefik) RouteError(name string) error {
	if !strings.Contains(name, "@") {
		name += "@file"
	}
	var router struct {
		Status string
		Error  []string
	}
	if err := t.api("http", "/api/http/routers/"+name, &router); err != nil {
		return err
	}
	if len(router.Error) > 0 {
		return errors.New(strings.Join(router.Error, "; "))
	}
	if router.Status != "enabled" {
		return fmt.Errorf("router %s is %s", name, router.Status)
	}
	return nil
}

// MiddlewareError is what the API says is wrong with a middleware of a file.
func (t *Traefik) MiddlewareError(name string) (string, error) {
	var found struct{ Error []string }
	err := t.api("https", "/api/http/middlewares/"+name+"@file", &found)
	return strings.Join(found.Error, "; "), err
}

// Version is what Traefik says of itself.
func (t *Traefik) Version() (string, error) {
	var answer struct{ Version string }
	err := t.api("http", "/api/version", &answer)
	return answer.Version, err
}

// Options are the options of the plugin in a middleware, whose name ends in @ and its provider, as the provider gave them.
func (t *Traefik) Options(middleware string) (map[string]any, error) {
	var found struct{ Plugin map[string]map[string]any }
	err := t.api("https", "/api/http/middlewares/"+middleware, &found)
	return found.Plugin["oidc"], err
}

// api asks Traefik's API; answer may be nil.
func (t *Traefik) api(scheme, path string, answer any) error {
	resp, err := t.client.Get(scheme + "://" + apiHost + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// text reads a page of the API as it is.
func (t *Traefik) text(path string) (string, error) {
	resp, err := t.client.Get("http://" + apiHost + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// Reloads is how often Traefik has applied a dynamic configuration.
func (t *Traefik) Reloads() (int, error) {
	n, err := t.Metric("traefik_config_reloads_total")
	return int(n), err
}

// Metric reads one of Traefik's metrics by its name, with its labels if it has some.
func (t *Traefik) Metric(name string) (float64, error) {
	page, err := t.text("/metrics")
	if err != nil {
		return 0, err
	}
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(page)
	if found == nil {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return strconv.ParseFloat(found[1], 64)
}

// Profile reads one of Traefik's runtime profiles as text: goroutine, or heap, after a garbage collection.
func (t *Traefik) Profile(name string) (string, error) {
	return t.text("/debug/pprof/" + name + "?debug=1&gc=1")
}

// AccessLog returns the entries of Traefik's access log for one route.
func (t *Traefik) AccessLog(route string) []map[string]any {
	text, err := os.ReadFile(filepath.Join(t.Dir, "access.log"))
	if err != nil {
		return nil
	}
	var entries []map[string]any
	for line := range strings.Lines(string(text)) {
		entry := map[string]any{}
		if json.Unmarshal([]byte(line), &entry) == nil && entry["RouterName"] == route+"@file" {
			entries = append(entries, entry)
		}
	}
	return entries
}

// merge puts what extra has into base, block by block.
func merge(base, extra map[string]any) {
	for key, value := range extra {
		block, isBlock := value.(map[string]any)
		into, hasBlock := base[key].(map[string]any)
		if isBlock && hasBlock {
			into = maps.Clone(into)
			merge(into, block)
			value = into
		}
		base[key] = value
	}
}

func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ") // which is YAML, too
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
