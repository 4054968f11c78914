package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
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

// TestMemoryOfStrangers: sign-ins that a stranger begins with addresses, states, codes and headers as long as Traefik takes, and has refused,
// leave next to nothing in Traefik's memory.
func TestMemoryOfStrangers(t *testing.T) {
	app := serveReplicas(t, 1, site{with: with{"unauthenticated": "login", "frontchannelLogoutUrl": "/frontchannel"}}).apps[0]
	long := strings.Repeat("0123456789", 20000)
	pair := func(i int) {
		v := app.visitor(t)
		begun := v.call(http.MethodGet, fmt.Sprint("/", i, "?q=", long), "", "X-Long: "+long, "Accept: text/html")
		to, err := url.Parse(begun.Header.Get("Location"))
		if err != nil || begun.Status != http.StatusFound {
			t.Fatalf("pair %d: got %s, %v", i, begun, err)
		}
		back := url.Values{"error": {"access_denied"}, "iss": {app.provider.Issuer}, "state": {to.Query().Get("state")}, "error_description": {long}}
		if page := v.call(http.MethodGet, "/oidc/callback?"+back.Encode(), "", "X-Long: "+long); page.Status != http.StatusForbidden {
			t.Fatalf("pair %d: got %s", i, page)
		}
		v.call(http.MethodGet, fmt.Sprint("/oidc/callback?code=", i, long, "&state=", i, long), "", "Host: "+app.host+":"+strings.Repeat("0", 1000))
		v.call(http.MethodGet, fmt.Sprintf("/frontchannel?iss=%s&sid=%0255d", url.QueryEscape(app.provider.Issuer), i), "")
	}
	for i := range 40 { // what the garbage collector lets stand is there before
		pair(i)
	}
	before := residentOf(t, app)
	for i := range 120 {
		pair(40 + i)
	}
	grown := residentOf(t, app) - before
	t.Logf("120 times 800 KB: Traefik has grown by %d KB", grown)
	if grown > 20<<10 {
		t.Errorf("Traefik has grown by %d KB", grown)
	}
}

// residentOf is how much of the app's Traefik is in memory, in KB.
func residentOf(t *testing.T, a *app) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.lab.traefik.PID))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kilobytes, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kilobytes
}
