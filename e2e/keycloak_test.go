package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

const (
	keycloakVersion = "26.4.0"
	keycloakFetch   = "mvn dependency:get -Dartifact=org.keycloak:keycloak-quarkus-dist:" + keycloakVersion + ":tar.gz -Dtransitive=false"
)

// newKeycloak runs a Keycloak with the realm "tests", Alice in it, and these clients; it returns the issuer. Its archive is the one
// that Maven keeps; without it the test is skipped.
func newKeycloak(t *testing.T, clients []map[string]any) string {
	t.Helper()
	need(t, "java")
	home, _ := os.UserHomeDir()
	archive := filepath.Join(home, ".m2/repository/org/keycloak/keycloak-quarkus-dist", keycloakVersion, "keycloak-quarkus-dist-"+keycloakVersion+".tar.gz")
	if _, err := os.Stat(archive); err != nil {
		if parts.Strict() {
			t.Fatalf("Keycloak is not there; get it with %s", keycloakFetch)
		}
		t.Skipf("SKIPPED: Keycloak is not there; get it with %s", keycloakFetch)
	}
	dir := t.TempDir()
	if out, err := exec.Command("tar", "xzf", archive, "-C", dir, "--strip-components=1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	realm := map[string]any{
		"realm": "tests", "enabled": true, "sslRequired": "none", "accessTokenLifespan": 60, "clients": clients,
		"users": []any{map[string]any{
			"username": provider.Alice.Name, "enabled": true, "email": "alice@example.com", "emailVerified": true, "firstName": "Alice", "lastName": "Liddell",
			"credentials": []any{map[string]any{"type": "password", "value": provider.Alice.Password}},
		}},
	}
	text, _ := json.Marshal(realm)
	imports := filepath.Join(dir, "data", "import")
	if err := os.MkdirAll(imports, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(imports, "tests-realm.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	issuer := "http://127.0.0.1:" + port + "/realms/tests"
	process, err := parts.StartProcess(parts.Command{
		Name: "Keycloak", Path: filepath.Join(dir, "bin", "kc.sh"), LogFile: filepath.Join(dir, "keycloak.log"),
		Args: []string{"start-dev", "--import-realm", "--http-host", "127.0.0.1", "--http-port", port},
		Env:  []string{"KC_BOOTSTRAP_ADMIN_USERNAME=admin", "KC_BOOTSTRAP_ADMIN_PASSWORD=admin", "JAVA_OPTS_APPEND=-Xmx512m"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Stop)
	err = process.WaitFor("it told its metadata", 4*time.Minute, func() bool {
		resp, err := http.Get(issuer + "/.well-known/openid-configuration")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

// TestBackChannelKeycloak: Keycloak tells the applications of a session when its user signs out of one, and when an administrator
// throws the user out.
func TestBackChannelKeycloak(t *testing.T) {
	t.Parallel()
	l := start(t)
	store := newRedis(t)
	one, two := l.newApp(t, site{}), l.newApp(t, site{})
	var clients []map[string]any
	for _, a := range []*app{one, two} {
		// Keycloak resolves names as Java does, which knows no *.localhost: it posts to the address, and the route takes both.
		clients = append(clients, map[string]any{
			"clientId": a.name, "secret": a.secret(), "protocol": "openid-connect", "redirectUris": []string{a.URL + "/oidc/callback"},
			"standardFlowEnabled": true, "publicClient": false,
			"attributes": map[string]any{
				"backchannel.logout.url": l.traefik.URL + "/gone/" + a.name, "backchannel.logout.session.required": "true",
				"post.logout.redirect.uris": a.URL + "/",
			},
		})
		t.Cleanup(func() { l.traefik.RemoveFile(a.name) })
	}
	issuer := newKeycloak(t, clients)
	for _, a := range []*app{one, two} {
		options := both(storing(store), with{"issuer": issuer, "logoutUrl": "/logout", "backchannelLogoutUrl": "/gone/" + a.name, "clientConfig.timeoutSeconds": 20})
		if err := a.set(site{with: options, rule: "(HOST || Path(`/gone/" + a.name + "`))"}); err != nil {
			t.Fatal(err)
		}
	}
	alice := one.visitor(t)
	signIn := func() {
		t.Helper()
		alice.signIn("/", provider.Alice)
		if page := alice.open(two.URL); page.Status != http.StatusOK {
			t.Fatalf("whoever is signed in at Keycloak got %s", page)
		}
		if len(store.keys(t, one, "session:")) != 1 || len(store.keys(t, two, "session:")) != 1 {
			t.Fatal("expected a session of each application in Redis")
		}
	}
	gone := func(why string) {
		t.Helper()
		if page := alice.look(two.URL); page.Status != http.StatusFound {
			t.Errorf("%s, and the other application lets Alice in: %s", why, page)
		}
		if left := store.keys(t, two, "session:"); len(left) != 0 {
			t.Errorf("%s, and Redis still has %v", why, left)
		}
	}
	signIn()
	alice.post("/logout", url.Values{})
	gone("signed out")

	signIn()
	base := strings.TrimSuffix(issuer, "/realms/tests")
	token := keycloakAdmin(t, base)
	var users []struct{ ID string }
	keycloakCall(t, token, http.MethodGet, base+"/admin/realms/tests/users?username=alice", &users)
	keycloakCall(t, token, http.MethodPost, base+"/admin/realms/tests/users/"+users[0].ID+"/logout", nil)
	deadline := time.Now().Add(3 * time.Second)
	for alice.look(two.URL).Status == http.StatusOK && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
	}
	gone("thrown out by an administrator")
}

func keycloakAdmin(t *testing.T, base string) string {
	t.Helper()
	resp, err := http.PostForm(base+"/realms/master/protocol/openid-connect/token",
		url.Values{"grant_type": {"password"}, "client_id": {"admin-cli"}, "username": {"admin"}, "password": {"admin"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Token == "" {
		t.Fatalf("no administrator's token: %s, %v", resp.Status, err)
	}
	return answer.Token
}

func keycloakCall(t *testing.T, token, method, address string, answer any) {
	t.Helper()
	req, err := http.NewRequest(method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatal(fmt.Sprint(method, " ", address, ": ", resp.Status))
	}
	if answer != nil {
		if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
			t.Fatal(err)
		}
	}
}
