package e2e

import (
	"strings"
	"testing"
)

// TestConfigRefused: the plugin says what is wrong with a configuration, everything at once, and Traefik passes it on.
func TestConfigRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		with with
		want []string
	}{
		{"no issuer", with{"issuer": drop}, []string{"issuer"}},
		{"a misspelt option", with{"claim": "Equals(`a`, `b`)"}, []string{"claim", "claims"}},
		{"a misspelt option in a block", with{"session.expiri": 60}, []string{"session.expiri", "expiry"}},
		{"a missing parenthesis", with{"claims": "Equals(`a`, `b`"}, []string{"claims"}},
		{"a secret that is too short", with{"session.secret": "short"}, []string{"session.secret", "16"}},
		{"two problems", with{"session.expiry": -1, "maxAge": "soon"}, []string{"session.expiry", "maxAge"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			said := start(t).refuse(t, site{with: test.with})
			for _, want := range test.want {
				if !strings.Contains(said, want) {
					t.Errorf("the error does not say %q: %s", want, said)
				}
			}
		})
	}
}
