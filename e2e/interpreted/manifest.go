package interpreted

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"gopkg.in/yaml.v3"
)

// CheckManifest does with the plugin in folder what Traefik's catalogue does before it lists one: interpret it, decode the
// manifest's testData into what CreateConfig makes, and build the middleware of it, without a network.
func CheckManifest(ctx context.Context, folder string) error {
	text, err := os.ReadFile(filepath.Join(folder, ".traefik.yml"))
	if err != nil {
		return err
	}
	var manifest struct {
		TestData map[string]any `yaml:"testData"`
	}
	if err := yaml.Unmarshal(text, &manifest); err != nil {
		return fmt.Errorf(".traefik.yml: %w", err)
	}
	plugin, err := Load(folder, io.Discard, io.Discard)
	if err != nil {
		return err
	}
	defer plugin.Close()
	if _, err := plugin.Build(ctx, http.NotFoundHandler(), manifest.TestData, "test"); err != nil {
		return fmt.Errorf("testData: %w", err)
	}
	return nil
}
