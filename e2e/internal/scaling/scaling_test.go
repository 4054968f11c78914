package scaling

import (
	"math"
	"os"
	"strings"
	"testing"
)

const page = "../../../docs/scaling.md"

// TestScalingPage: the page's table is what the simulation says with the page's costs.
func TestScalingPage(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	costs, err := ReadCosts(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{Table(costs), Limits(costs)} {
		if !strings.Contains(string(text), table) {
			t.Errorf("docs/scaling.md has another table; go run -C e2e ./cmd/scaling prints it:\n%s", table)
		}
	}
}

// TestScalingSimulation: where it can be reckoned on paper, the simulation agrees.
func TestScalingSimulation(t *testing.T) {
	costs := Costs{Look: Cost{CPU: 1, Commands: 1}, Refresh: Cost{CPU: 10, Commands: 7}, Logout: Cost{CPU: 100, Commands: 3}}
	for _, c := range []struct {
		name                     string
		load                     Load
		wantLooks, wantRefreshes float64
	}{
		// A busy session is looked at each time its copy is too old, and then with its next request.
		{"busy", Load{Sessions: 1000, Rate: 10, Replicas: 1, Sticky: true, CacheSeconds: 2, TokenSeconds: 100}, 1000 / 2.1, 1000 / 90.1},
		// A quiet one at each request.
		{"quiet", Load{Sessions: 1000, Rate: 0.01, Replicas: 1, Sticky: true, CacheSeconds: 2, TokenSeconds: 1e9}, 10 * (1 - 0.02), 0},
		{"no copies", Load{Sessions: 1000, Rate: 3, Replicas: 1, Sticky: true, CacheSeconds: 0, TokenSeconds: 1e9}, 3000, 0},
		{"busy everywhere", Load{Sessions: 1000, Rate: 40, Replicas: 4, CacheSeconds: 2, TokenSeconds: 1e9}, 4 * 1000 / 2.1, 0},
	} {
		r := Simulate(c.load, costs)
		if math.Abs(r.Looks-c.wantLooks) > 0.05*c.wantLooks || math.Abs(r.Refreshes-c.wantRefreshes) > 0.1*c.wantRefreshes {
			t.Errorf("%s: %.1f looks and %.2f refreshes, on paper %.1f and %.2f", c.name, r.Looks, r.Refreshes, c.wantLooks, c.wantRefreshes)
		}
		if want := r.Looks + 7*r.Refreshes; math.Abs(r.Commands-want) > 1e-6 {
			t.Errorf("%s: %.1f commands, want %.1f", c.name, r.Commands, want)
		}
	}
}
