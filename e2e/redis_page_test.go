package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// confBlock is a block of settings on a page, beginning with the name of the file it is for.
var confBlock = regexp.MustCompile("(?s)```\n# (redis|sentinel)\\.conf[^\n]*\n(.*?)```")

// TestRedisPage: what docs/redis.md says is accepted by Redis, enough for the plugin, and seen by the commands with which it is to be
// checked.
func TestRedisPage(t *testing.T) {
	t.Parallel()
	l := start(t)
	text, err := os.ReadFile(filepath.Join(l.root, "docs", "redis.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	blocks := confBlock.FindAllStringSubmatch(page, -1)
	if len(blocks) != 3 {
		t.Fatalf("the page has %d blocks of settings, expected one server, Sentinel, cluster", len(blocks))
	}
	var settings []string
	for i, block := range blocks {
		mine := settings
		lines, _, _ := strings.Cut(block[2], "# sentinel.conf")
		for line := range strings.Lines(lines) {
			if name, value, found := strings.Cut(strings.TrimSpace(line), " "); found {
				mine = append(mine, "--"+name, strings.Replace(value, "…", "of redis", 1))
			}
		}
		if i == 0 {
			settings = mine
		}
		if strings.Contains(block[2], "cluster-enabled") {
			mine = append(mine, "--cluster-port", freePort(t))
		}
		r := newRedis(t, mine...)
		r.auth = []string{"--no-auth-warning", "-a", "of redis"}
		checkSettings(t, r, page)
	}

	r := newRedis(t, settings...)
	r.auth = []string{"--no-auth-warning", "-a", "of redis"}
	acl := regexp.MustCompile(`(?m)^ACL SETUSER .*$`).FindString(page)
	r.do(t, strings.Fields(strings.Replace(acl, "PASSWORD", "of-oidc", 1))...)
	own := with{"session.store.redis.endpoints": []string{r.addr()}, "session.store.redis.username": "oidc", "session.store.redis.password": "of-oidc", "session.store.keyPrefix": "oidc:"}
	s := refreshing(2)
	s.with = both(both(s.with, own), with{"logoutUrl": "/logout", "backchannelLogoutUrl": "/gone", "logLevel": "warn"})
	app := l.serve(t, s)
	alice := app.visitor(t)
	alice.signIn("/", provider.Alice)
	before := app.provider.Grants("refresh_token", app.name)
	for range 30 {
		alice.open("/")
		if app.provider.Grants("refresh_token", app.name) > before {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if app.provider.Grants("refresh_token", app.name) == before {
		t.Error("the session was not refreshed")
	}
	alice.post("/logout", nil)
	bob := app.visitor(t)
	if got := pushed(map[string]any{"sub": "user-alice"})(bob); got != "OK, sign-in" {
		t.Errorf("a pushed logout: %s", got)
	}
	if said := app.log(); regexp.MustCompile(`NOPERM|store\.redis|Redis`).MatchString(said) {
		t.Errorf("a Redis as the page has it is complained about:\n%s", said)
	}
	if denied := r.do(t, "--raw", "ACL", "LOG"); strings.Contains(denied, "oidc") {
		t.Errorf("the page's user of Redis lacks a right:\n%s", denied)
	}
}

// checkSettings runs the page's own commands that look at settings, and compares with what the page says that they show.
func checkSettings(t *testing.T, r *redis, page string) {
	t.Helper()
	checks := regexp.MustCompile(`(?m)^redis-cli (CONFIG GET \S+) +# (\S+)$`).FindAllStringSubmatch(page, -1)
	if len(checks) < 2 {
		t.Fatalf("the page has %d commands to check settings with", len(checks))
	}
	for _, check := range checks {
		shown := strings.Fields(r.do(t, append([]string{"--raw"}, strings.Fields(check[1])...)...))
		if len(shown) != 2 || shown[1] != check[2] {
			t.Errorf("%s shows %v, the page says %s", check[1], shown, check[2])
		}
	}
}
