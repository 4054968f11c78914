package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// TestMemoryOption: whoever is signed in stays so with the smallest memory, and a size that means nothing is refused.
func TestMemoryOption(t *testing.T) {
	t.Parallel()
	covers(t, "memory")
	app := start(t).serve(t, site{with: with{"memory": 1}})
	v := app.visitor(t)
	v.signIn("/", provider.Alice)
	for i := range 20 {
		if got := v.outcome(v.fetch(http.MethodGet, fmt.Sprint("/?", i))); got != "application" {
			t.Errorf("request %d: %s", i, got)
		}
	}
	for value, words := range map[any]string{0: "at least 1", -1: "at least 1", 100000: "at most 99999", "much": "a whole number"} {
		if said := start(t).refuse(t, site{with: with{"memory": value}}); !strings.Contains(said, "memory: must be") || !strings.Contains(said, words) {
			t.Errorf("memory %v: %s", value, said)
		}
	}
}
