package release

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

const version = "v0.1.0"

// publishable is a copy of this repository's last commit in which a release was prepared.
func publishable(t *testing.T) (dir string, edit func(name, old, new string), commit func()) {
	t.Helper()
	root, err := parts.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	run("git", "clone", "-q", "--depth=1", "file://"+root, dir)
	edit = func(name, old, new string) {
		t.Helper()
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), old) {
			t.Fatalf("%s does not contain %q", name, old)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, new)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	commit = func() {
		t.Helper()
		run("git", "-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qam", "prepare the release")
	}
	edit("CHANGELOG.md", "## Next", "## "+version)
	commit()
	return dir, edit, commit
}

func TestReleaseTree(t *testing.T) {
	for _, c := range []struct{ name, version, file, old, new, wantErr string }{
		{"ready", version, "", "", "", ""},
		{"no version", "0.1.0", "", "", "", `not a semantic version`},
		{"a version of another path", "v2.0.0", "", "", "", `should be v0 or v1`},
		{"changes without a section", version, "CHANGELOG.md", "## " + version, "## Next", `no section "## v0.1.0"`},
		{"changes left behind", version, "CHANGELOG.md", "## " + version, "## Next\n\n- One more.\n\n## " + version, "Next is not empty"},
		{"another version to install", version, "README.md", "version: v0.1.0", "version: v0.0.9", "tells people to install v0.0.9"},
		{"another version told to providers", version, "client.go", "traefik-oidc/0.1.0", "traefik-oidc/0.0.9", "tells providers the version"},
		{"a dependency", version, "go.mod", "go 1.20", "go 1.20\n\nrequire golang.org/x/mod v0.30.0", "require, replace and use nothing"},
		{"another import", version, ".traefik.yml", "import: " + Module, "import: example.com/oidc", "import is missing or wrong"},
		{"no testData", version, ".traefik.yml", "testData:", "testdata:", "testData is missing"},
		{"an icon that is not there", version, ".traefik.yml", "icon.png", "logo.png", "iconPath: open"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, edit, commit := publishable(t)
			if c.file != "" {
				edit(c.file, c.old, c.new)
				commit()
			}
			err := errors.Join(CheckTree(dir, c.version)...)
			if c.wantErr == "" && err != nil || c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)) {
				t.Errorf("expected %q, got %v", c.wantErr, err)
			}
		})
	}
	t.Run("not committed", func(t *testing.T) {
		dir, edit, _ := publishable(t)
		edit("README.md", "OpenID", "Opened")
		if err := errors.Join(CheckTree(dir, version)...); err == nil || !strings.Contains(err.Error(), "not clean") {
			t.Errorf("expected a complaint, got %v", err)
		}
	})
}

// TestReleaseZip loads the plugin from the module's zip: as the catalogue does, and in a Traefik.
func TestReleaseZip(t *testing.T) {
	dir, edit, commit := publishable(t)
	root, err := parts.Root()
	if err != nil {
		t.Fatal(err)
	}
	traefikPath, err := parts.TraefikPath(t.Context(), root, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := Zip(dir, version, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckCatalogue(t.Context(), root, folder); err != nil {
		t.Error(err)
	}
	if err := CheckTraefik(traefikPath, folder, t.TempDir()); err != nil {
		t.Error(err)
	}

	edit(".traefik.yml", "issuer: https", "isuer: https")
	commit()
	if folder, err = Zip(dir, version, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if err := CheckCatalogue(t.Context(), root, folder); err == nil || !strings.Contains(err.Error(), "did you mean") {
		t.Errorf("as the catalogue loads it: expected a complaint about isuer, got %v", err)
	}
	if err := CheckTraefik(traefikPath, folder, t.TempDir()); err == nil || !strings.Contains(err.Error(), "did you mean") {
		t.Errorf("in Traefik: expected a complaint about isuer, got %v", err)
	}
}
