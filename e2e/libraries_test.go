package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// What libraries in five languages make is tried in a real Traefik. A program for each language (Go's is libraries_go_test.go) prints
// a list of what it has from each library: sources of keys, each the options of a jwt block, where jwks stands for a key set that is
// served at jwksUrl, and tokens, each for a source and with the status that is right. Names of algorithms are names of good tokens.

const (
	libraryIssuer = "https://issuer.test"
	libraryUser   = `Zoë <&> "😀"` // in the claim name, which libraries write differently
)

type library struct {
	Name     string `json:"library"`
	Version  string
	Language string
	Sources  map[string]map[string]any
	Tokens   []libraryToken
}

type libraryToken struct {
	Name, Source, Token string
	Want                int
}

// refusals are the reasons for which a token of that name is refused, as the log has them.
var refusals = map[string]string{
	"expired":                     "exp: expired 3",
	"not yet":                     "nbf: 3",
	"another audience":            `audience: expected "api", got `,
	"another issuer":              `issuer: expected "https://issuer.test", got "https://other.test"`,
	"another type":                `typ: expected ["jwt" "at+jwt"], got "dpop+jwt"`,
	"unsigned":                    `alg: not a signature algorithm that is known here, got "none"`,
	"encrypted":                   "must have three parts",
	"the public key as secret":    "alg: expected",
	"a key in the token":          "signature: does not match",
	"a key for another algorithm": "signature: none of the issuer's",
	"a critical extension":        "crit: asks for an extension",
	"a private key in the set":    "must be a public key, got a private one",
	"claims in Latin 1":           "payload: ",
	"ES256K":                      "alg: not a signature algorithm that is known here",
	"Ed448":                       "alg: not a signature algorithm that is known here",
	"EdDSA on Ed448":              "the one of that name cannot be used: kty \"OKP\"",
}

// TestLibraries: good tokens pass with what they say of the user, and bad ones are refused for the right reason.
func TestLibraries(t *testing.T) {
	t.Parallel()
	l := start(t)
	libraries, isWhole := madeByLibraries(t, l)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("X-User")+" "+r.Header.Get("X-Name"))
	}))
	t.Cleanup(backend.Close)
	routes := librariesRoutes(t, libraries, backend.URL)
	t.Cleanup(func() { l.traefik.RemoveFile("libraries") })
	logStart := l.traefik.LogSize()
	if err := l.traefik.SetRoutes("libraries", routes...); err != nil {
		t.Fatal(err)
	}
	passed := map[string][]string{} // by library, the algorithms
	for i, made := range libraries {
		t.Run(made.Language+"/"+made.Name, func(t *testing.T) {
			tryLibrary(t, l, i, made, logStart)
			for _, token := range made.Tokens {
				if token.Want == http.StatusOK && headerMember(t, token.Token, "alg") == token.Name {
					passed[made.Language+made.Name] = append(passed[made.Language+made.Name], token.Name)
				}
			}
		})
	}
	if !t.Failed() && isWhole {
		compareTable(t, l, libraries, passed)
	}
}

// madeByLibraries runs the programs. One that cannot run, for what the machine lacks, is named, and the rest is not whole.
func madeByLibraries(t *testing.T, l *lab) (libraries []*library, isWhole bool) {
	t.Helper()
	makers := map[string]func(t *testing.T) []*library{
		"Go": goLibraries,
		"Python": func(t *testing.T) []*library {
			need(t, "python3")
			python, err := parts.PythonPath(l.root, os.Stderr)
			return printed(t, err, python, filepath.Join(l.root, "e2e", "python", "tokens.py"))
		},
		"JavaScript": func(t *testing.T) []*library {
			node := need(t, "node")
			need(t, "npm")
			folder := filepath.Join(l.root, "e2e", "node")
			return printed(t, parts.InstallNodeModules(folder), node, filepath.Join(folder, "tokens.mjs"))
		},
		"Java": func(t *testing.T) []*library {
			return printed(t, nil, need(t, "java"), "-cp", l.jars(t), filepath.Join(l.root, "e2e", "java", "Tokens.java"))
		},
		"Rust": func(t *testing.T) []*library {
			need(t, "cargo")
			tokens, err := parts.RustTokensPath(l.root, os.Stderr)
			return printed(t, err, tokens)
		},
	}
	var mutex sync.Mutex
	languages := 0
	t.Run("made", func(t *testing.T) {
		for language, made := range makers {
			t.Run(language, func(t *testing.T) {
				t.Parallel()
				of := made(t)
				mutex.Lock()
				defer mutex.Unlock()
				languages++
				for _, one := range of {
					one.Language = language
				}
				libraries = append(libraries, of...)
			})
		}
	})
	sort.Slice(libraries, func(i, j int) bool {
		a, b := libraries[i], libraries[j]
		return a.Language+" "+strings.ToLower(a.Name) < b.Language+" "+strings.ToLower(b.Name)
	})
	return libraries, languages == len(makers)
}

// jars is the class path of what the tests have in Java.
func (l *lab) jars(t *testing.T) string {
	t.Helper()
	need(t, "javac")
	need(t, "mvn")
	path, err := parts.JarsPath(l.root, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// printed runs a program, unless it could not be made, and reads what it prints.
func printed(t *testing.T, err error, path string, args ...string) []*library {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var words strings.Builder
	cmd := exec.Command(path, args...)
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", path, err, words.String())
	}
	var libraries []*library
	if err := json.Unmarshal(out, &libraries); err != nil {
		t.Fatal(err)
	}
	return libraries
}

// librariesRoutes are a route for each source of keys of each library.
func librariesRoutes(t *testing.T, libraries []*library, backend string) []parts.Route {
	t.Helper()
	sets := http.NewServeMux()
	server := httptest.NewServer(sets)
	t.Cleanup(server.Close)
	var routes []parts.Route
	for i, made := range libraries {
		for source, options := range made.Sources {
			name := libraryRoute(i, source)
			jwt := with{"issuer": libraryIssuer, "audience": "api", "forwardHeaders": with{"X-User": "sub", "X-Name": "{name|percent}"}}
			for option, value := range options {
				jwt[option] = value
			}
			if set, has := jwt["jwks"]; has {
				delete(jwt, "jwks")
				jwt["jwksUrl"] = server.URL + "/" + name
				sets.HandleFunc("/"+name, func(w http.ResponseWriter, _ *http.Request) {
					_ = json.NewEncoder(w).Encode(set)
				})
			}
			routes = append(routes, parts.Route{Name: name, Options: with{"jwt": jwt}, Backend: backend})
		}
	}
	return routes
}

func libraryRoute(i int, source string) string {
	return fmt.Sprintf("library-%d-%s", i, notInNames.ReplaceAllString(strings.ToLower(source), "-"))
}

// everyLibrary names tokens that each library makes.
var everyLibrary = []string{"RS256", "ES256", "HS256", "HS384", "HS512", "several audiences", "at+jwt", "expired", "not yet", "another audience", "another issuer", "another type"}

// tryLibrary brings each token to a path of its own, by which its line in the log is found.
func tryLibrary(t *testing.T, l *lab, i int, made *library, logStart int64) {
	var names []string
	for n, token := range made.Tokens {
		names = append(names, token.Name)
		path := fmt.Sprintf("/library-%d-%d", i, n)
		status, body := bringTo(t, l, libraryRoute(i, token.Source), path, token.Token)
		if status != token.Want {
			t.Errorf("%s, keys from %s: got %d, want %d: %s\n%s", token.Name, token.Source, status, token.Want, token.Token, linesAbout(l, logStart, path))
			continue
		}
		if status == http.StatusOK {
			user, name, _ := strings.Cut(body, " ")
			if name, err := url.PathUnescape(name); err != nil || user != "user-alice" || name != libraryUser {
				t.Errorf("%s, keys from %s: the application got %q", token.Name, token.Source, body)
			}
		} else if line := strings.ReplaceAll(linesAbout(l, logStart, path), `\`, ""); refusals[token.Name] == "" || !strings.Contains(line, refusals[token.Name]) {
			t.Errorf("%s, keys from %s: no %q in %s", token.Name, token.Source, refusals[token.Name], line)
		}
	}
	for _, name := range everyLibrary {
		if !slices.Contains(names, name) {
			t.Errorf("there is no token %q", name)
		}
	}
}

var libraryClient = &http.Client{Timeout: 20 * time.Second}

func bringTo(t *testing.T, l *lab, route, path, token string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, l.traefik.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = route + "." + parts.Domain
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := libraryClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusUnauthorized && !strings.Contains(resp.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
		t.Errorf("%s: challenge %q", path, resp.Header.Get("WWW-Authenticate"))
	}
	return resp.StatusCode, string(text)
}

// linesAbout are the plugin's lines about a request.
func linesAbout(l *lab, logStart int64, path string) string {
	var lines []string
	for line := range strings.Lines(l.traefik.Log(logStart)) {
		if strings.Contains(line, " GET "+path+": ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// librariesTable has the test write its table into docs/apis.md.
var librariesTable = flag.Bool("libraries", false, "write the table of libraries into docs/apis.md")

// compareTable compares the table in docs/apis.md with what was just tried.
func compareTable(t *testing.T, l *lab, libraries []*library, passed map[string][]string) {
	t.Helper()
	families := []struct{ name, algorithms string }{
		{"RS", "RS256 RS384 RS512"}, {"PS", "PS256 PS384 PS512"}, {"ES", "ES256 ES384 ES512"},
		{"EdDSA", "EdDSA"}, {"Ed25519", "Ed25519"}, {"HS", "HS256 HS384 HS512"},
	}
	var table strings.Builder
	table.WriteString("| library | | RS256, 384, 512 | PS256, 384, 512 | ES256, 384, 512 | EdDSA | Ed25519 | HS256, 384, 512 | its keys |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, made := range libraries {
		fmt.Fprintf(&table, "| %s %s | %s |", made.Name, made.Version, made.Language)
		for _, family := range families {
			var has []string
			for _, alg := range strings.Fields(family.algorithms) {
				if slices.Contains(passed[made.Language+made.Name], alg) {
					has = append(has, strings.TrimPrefix(alg, family.name))
				}
			}
			cell := strings.Join(has, ", ")
			if all := len(strings.Fields(family.algorithms)); len(has) == all {
				cell = "yes"
			}
			fmt.Fprintf(&table, " %s |", cell)
		}
		fmt.Fprintf(&table, " %s |\n", keysOf(made))
	}
	path := filepath.Join(l.root, "docs", "apis.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), "<!-- libraries -->\n")
	old, after, ends := strings.Cut(rest, "<!-- end -->\n")
	switch {
	case !found || !ends:
		t.Error("docs/apis.md has no place for the table of libraries")
	case *librariesTable:
		if err := os.WriteFile(path, []byte(before+"<!-- libraries -->\n"+table.String()+"<!-- end -->\n"+after), 0o644); err != nil {
			t.Fatal(err)
		}
	case old != table.String():
		t.Errorf("the table of libraries in docs/apis.md is another; go test -C e2e -run TestLibraries . -libraries writes it:\n%s", table.String())
	}
}

// keysOf says in which forms a library's keys were tried, and what names its own key set has.
func keysOf(made *library) string {
	set, hasSet := made.Sources["set"]
	hasPEM := slices.ContainsFunc(made.Tokens, func(token libraryToken) bool { return strings.HasPrefix(token.Source, "PEM") })
	if !hasSet {
		return "PEM"
	}
	text, _ := json.Marshal(set["jwks"])
	var parsed struct{ Keys []map[string]any }
	_ = json.Unmarshal(text, &parsed)
	members := map[string]bool{}
	for _, key := range parsed.Keys {
		for _, name := range []string{"kid", "alg", "use", "key_ops", "x5c"} {
			members[name] = members[name] || key[name] != nil
		}
	}
	form := "set"
	var has []string
	for _, name := range []string{"kid", "alg", "use", "key_ops", "x5c"} {
		if members[name] {
			has = append(has, "`"+name+"`")
		}
	}
	if len(has) > 0 {
		form += " with " + strings.Join(has, ", ")
	}
	if hasPEM {
		form += "; PEM"
	}
	return form
}
