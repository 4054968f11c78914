// Package release checks that a commit can be published as a version: that Traefik's catalogue would take it, and that what users
// then download loads.
package release

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"image/png"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
	"gopkg.in/yaml.v3"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// Module is the plugin's path, in the module proxy and in the catalogue.
const Module = "github.com/traefik-oidc/oidc"

// manifest is .traefik.yml as the catalogue reads it.
type manifest struct {
	DisplayName string         `yaml:"displayName"`
	Type        string         `yaml:"type"`
	Import      string         `yaml:"import"`
	Summary     string         `yaml:"summary"`
	IconPath    string         `yaml:"iconPath"`
	TestData    map[string]any `yaml:"testData"`
}

// CheckTree says what is wrong with publishing the last commit of the repository in dir as version; nil when nothing is.
func CheckTree(dir, version string) []error {
	return append([]error{
		module.Check(Module, version), // "v1.2.3", and v0 or v1 for a path without /v2
		checkCommitted(dir),
		checkChangelog(dir, version),
		checkInstructions(dir, version),
		checkUserAgent(dir, version),
		checkRequirements(dir),
	}, checkManifest(dir)...)
}

// checkCommitted: what is not committed would be missing in the version.
func checkCommitted(dir string) error {
	status, err := exec.Command("git", "-C", dir, "status", "--porcelain").Output()
	if err != nil {
		return fmt.Errorf("git status: %w", err)
	}
	if len(status) > 0 {
		return fmt.Errorf("the tree is not clean; commit or remove:\n%s", status)
	}
	return nil
}

// checkChangelog wants a section of the version with something in it, and nothing left in the section Next.
func checkChangelog(dir, version string) error {
	text, err := os.ReadFile(filepath.Join(dir, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	sections := map[string]string{}
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(section, "\n")
		name, _, _ := strings.Cut(title, " ") // "v0.1.0 (2026-12-01)"
		sections[name] = strings.TrimSpace(body)
	}
	if sections[version] == "" {
		return fmt.Errorf("CHANGELOG.md: no section %q with changes; rename the section Next", "## "+version)
	}
	if sections["Next"] != "" {
		return errors.New("CHANGELOG.md: the section Next is not empty; its changes are in this version")
	}
	return nil
}

// checkInstructions: the version that the documents tell people to install is this one.
func checkInstructions(dir, version string) error {
	named := regexp.MustCompile(`(?m)^\s*version: (v\d\S*)$`)
	for _, page := range []string{"README.md", "docs/getting-started.md", "docs/kubernetes.md"} {
		text, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil {
			return err
		}
		found := named.FindAllStringSubmatch(string(text), -1)
		if len(found) == 0 {
			return fmt.Errorf("%s: no version to install", page)
		}
		for _, match := range found {
			if match[1] != version {
				return fmt.Errorf("%s: tells people to install %s, not %s", page, match[1], version)
			}
		}
	}
	return nil
}

// checkUserAgent: the version that the plugin tells providers is this one.
func checkUserAgent(dir, version string) error {
	text, err := os.ReadFile(filepath.Join(dir, "client.go"))
	if err != nil {
		return err
	}
	found := regexp.MustCompile(`const userAgent = "traefik-oidc/(\S+) `).FindStringSubmatch(string(text))
	if len(found) == 0 || "v"+found[1] != version {
		return fmt.Errorf("client.go: userAgent: tells providers the version %q, not %s", found, version)
	}
	return nil
}

// checkRequirements keeps the promise that the plugin is everything that is downloaded.
func checkRequirements(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	file, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		return err
	}
	if len(file.Require)+len(file.Replace)+len(file.Tool) > 0 || file.Module.Mod.Path != Module {
		return fmt.Errorf("go.mod: must be of %s, and require, replace and use nothing", Module)
	}
	return nil
}

// checkManifest checks what the catalogue shows, and what it needs.
func checkManifest(dir string) []error {
	text, err := os.ReadFile(filepath.Join(dir, ".traefik.yml"))
	if err != nil {
		return []error{err}
	}
	var m manifest
	if err := yaml.Unmarshal(text, &m); err != nil {
		return []error{fmt.Errorf(".traefik.yml: %w", err)}
	}
	var problems []error
	for _, needed := range []struct {
		ok   bool
		name string
	}{
		{m.DisplayName != "", "displayName"}, {m.Type == "middleware", "type"}, {m.Import == Module, "import"},
		{m.Summary != "", "summary"}, {len(m.TestData) > 0, "testData"},
	} {
		if !needed.ok {
			problems = append(problems, fmt.Errorf(".traefik.yml: %s is missing or wrong", needed.name))
		}
	}
	for _, name := range []string{"README.md", "LICENSE", "SECURITY.md"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			problems = append(problems, fmt.Errorf("%s: missing or empty", name))
		}
	}
	return append(problems, checkIcon(filepath.Join(dir, m.IconPath)))
}

// checkIcon wants a square picture.
func checkIcon(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf(".traefik.yml: iconPath: %w", err)
	}
	defer file.Close()
	icon, err := png.DecodeConfig(file)
	if err != nil || icon.Width != icon.Height {
		return fmt.Errorf(".traefik.yml: iconPath: must be a square PNG, got %d × %d (%v)", icon.Width, icon.Height, err)
	}
	return nil
}

// Zip makes what the module proxy would serve for version of the last commit, and unpacks it into a folder below work.
func Zip(dir, version, work string) (unpacked string, err error) {
	name := filepath.Join(work, version+".zip")
	file, err := os.Create(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	m := module.Version{Path: Module, Version: version}
	if err := modzip.CreateFromVCS(file, m, dir, "HEAD", ""); err != nil {
		return "", fmt.Errorf("module zip: %w", err)
	}
	if err := checkContents(name); err != nil {
		return "", err
	}
	unpacked = filepath.Join(work, "unpacked")
	return unpacked, modzip.Unzip(unpacked, m, name)
}

// checkContents sees that the zip has the plugin, and none of the modules beside it: Traefik downloads all of it at each start.
func checkContents(name string) error {
	archive, err := zip.OpenReader(name)
	if err != nil {
		return err
	}
	defer archive.Close()
	hasManifest := false
	for _, file := range archive.File {
		_, path, _ := strings.Cut(strings.TrimPrefix(file.Name, Module), "/")
		hasManifest = hasManifest || path == ".traefik.yml"
		if strings.HasPrefix(path, "e2e/") {
			return fmt.Errorf("module zip: must not contain %s", path)
		}
	}
	if !hasManifest {
		return errors.New("module zip: .traefik.yml is missing")
	}
	return nil
}

// CheckCatalogue runs the catalogue's own check on the plugin in folder.
func CheckCatalogue(ctx context.Context, root, folder string) error {
	cmd := exec.CommandContext(ctx, "go", "run", "-C", filepath.Join(root, "e2e", "interpreted"), "./cmd/manifest", folder)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("as the catalogue loads it: %s", strings.TrimSpace(string(out)))
	}
	return nil
}

// CheckTraefik starts a Traefik with everything in folder as its plugin, protects a route with the manifest's testData, and sees
// that the route is closed.
func CheckTraefik(traefikPath, folder, work string) error {
	text, err := os.ReadFile(filepath.Join(folder, ".traefik.yml"))
	if err != nil {
		return err
	}
	var m manifest
	if err := yaml.Unmarshal(text, &m); err != nil {
		return err
	}
	traefik, err := parts.StartTraefik(parts.TraefikOptions{Path: traefikPath, Dir: filepath.Join(work, "traefik"), Plugin: folder, WholePlugin: true})
	if err != nil {
		return err
	}
	defer traefik.Stop()
	if err := traefik.SetRoutes("release", parts.Route{Name: "release", Rule: "PathPrefix(`/`)", Options: m.TestData, Backend: "http://127.0.0.1:9"}); err != nil {
		return fmt.Errorf("%w\n%s", err, traefik.Log(0))
	}
	answer, err := http.Get(traefik.URL)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized || answer.Header.Get("Content-Type") != "application/problem+json" {
		return fmt.Errorf("in Traefik: expected 401 and application/problem+json, got %s and %s", answer.Status, answer.Header.Get("Content-Type"))
	}
	return nil
}
