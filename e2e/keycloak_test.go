package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// The third provider is a real Keycloak, one for all tests, each with a realm of its own, made by Keycloak's administration API.

const (
	keycloakVersion = "26.4.0"
	keycloakFetch   = "mvn dependency:get -Dartifact=org.keycloak:keycloak-quarkus-dist:" + keycloakVersion + ":tar.gz -Dtransitive=false"
)

type keycloak struct {
	*parts.Process
	base string
}

var theKeycloak struct {
	once sync.Once
	*keycloak
	err error
}

// keycloak is the one that all tests share. Its archive is the one that Maven keeps; without it the test is skipped.
func (l *lab) keycloak(t *testing.T) *keycloak {
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
	theKeycloak.once.Do(func() {
		theKeycloak.keycloak, theKeycloak.err = startKeycloak(filepath.Join(l.dir, "keycloak"), archive)
	})
	if theKeycloak.err != nil {
		t.Fatal(theKeycloak.err)
	}
	return theKeycloak.keycloak
}

func startKeycloak(dir, archive string) (*keycloak, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if out, err := exec.Command("tar", "xzf", archive, "-C", dir, "--strip-components=1").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	port, err := parts.FreePort()
	if err != nil {
		return nil, err
	}
	k := &keycloak{base: fmt.Sprintf("http://127.0.0.1:%d", port)}
	k.Process, err = parts.StartProcess(parts.Command{
		Name: "Keycloak", Path: filepath.Join(dir, "bin", "kc.sh"), LogFile: filepath.Join(dir, "keycloak.log"),
		// The back channel's addresses are those that discovery was read by; others need a realm whose front is elsewhere.
		Args: []string{"start-dev", "--http-host", "127.0.0.1", "--http-port", fmt.Sprint(port), "--hostname", k.base, "--hostname-backchannel-dynamic", "true"},
		Env:  []string{"KC_BOOTSTRAP_ADMIN_USERNAME=admin", "KC_BOOTSTRAP_ADMIN_PASSWORD=admin", "JAVA_OPTS_APPEND=-Xmx512m"},
	})
	if err != nil {
		return nil, err
	}
	return k, k.WaitFor("it told its metadata", 10*time.Minute, func() bool {
		resp, err := http.Get(k.base + "/realms/master/.well-known/openid-configuration")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// stopKeycloak ends it, if a test has started it.
func stopKeycloak() {
	if theKeycloak.keycloak != nil && theKeycloak.Process != nil {
		theKeycloak.Stop()
	}
}

// admin calls the administration API.
func (k *keycloak) admin(t *testing.T, method, path string, body, answer any) {
	t.Helper()
	var token struct {
		Token string `json:"access_token"`
	}
	resp, err := http.PostForm(k.base+"/realms/master/protocol/openid-connect/token",
		url.Values{"grant_type": {"password"}, "client_id": {"admin-cli"}, "username": {"admin"}, "password": {"admin"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&token); err != nil || token.Token == "" {
		t.Fatalf("no administrator's token: %s, %v", resp.Status, err)
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, k.base+"/admin/realms"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token.Token)
	req.Header.Set("Content-Type", "application/json")
	done, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer done.Body.Close()
	said, _ := io.ReadAll(done.Body)
	if done.StatusCode >= 300 {
		t.Fatalf("Keycloak: %s %s: %s %s", method, path, done.Status, said)
	}
	if answer != nil {
		if err := json.Unmarshal(said, answer); err != nil {
			t.Fatalf("Keycloak: %s %s: %v", method, path, err)
		}
	}
}

// realm makes a realm with Alice, who has the role admin and is in the group admins, with Bob, who does not, and with these settings;
// it returns the issuer. Access tokens last three seconds, so that tests see refreshes.
func (k *keycloak) realm(t *testing.T, name string, settings map[string]any) string {
	t.Helper()
	person := func(user provider.User, groups, roles []string) map[string]any {
		return map[string]any{
			"username": user.Name, "enabled": true, "email": user.Claims["email"], "emailVerified": true, "firstName": user.Claims["given_name"], "lastName": user.Claims["family_name"],
			"credentials": []any{map[string]any{"type": "password", "value": user.Password}}, "groups": groups, "realmRoles": roles,
		}
	}
	realm := map[string]any{
		"realm": name, "enabled": true, "sslRequired": "none", "accessTokenLifespan": 3,
		"groups": []any{map[string]any{"name": "admins"}, map[string]any{"name": "users"}}, "roles": map[string]any{"realm": []any{map[string]any{"name": "admin"}}},
		"users": []any{person(provider.Alice, []string{"/admins", "/users"}, []string{"admin"}), person(provider.Bob, []string{"/users"}, nil)},
	}
	for setting, value := range settings {
		realm[setting] = value
	}
	k.admin(t, http.MethodPost, "", realm, nil)
	t.Cleanup(func() { k.admin(t, http.MethodDelete, "/"+name, nil, nil) })
	return k.base + "/realms/" + name
}

// client registers an app in a realm, with the mapper of groups and with these attributes.
func (k *keycloak) client(t *testing.T, realm string, a *app, more map[string]any, attributes map[string]string) {
	t.Helper()
	all := map[string]string{"post.logout.redirect.uris": a.URL + "/"}
	for name, value := range attributes {
		all[name] = value
	}
	client := map[string]any{
		"clientId": a.name, "secret": a.secret(), "protocol": "openid-connect", "redirectUris": []string{a.URL + "/oidc/callback"},
		"standardFlowEnabled": true, "publicClient": false, "attributes": all,
		"protocolMappers": []any{map[string]any{"name": "groups", "protocol": "openid-connect", "protocolMapper": "oidc-group-membership-mapper",
			"config": map[string]string{"claim.name": "groups", "full.path": "false", "id.token.claim": "true", "access.token.claim": "true", "userinfo.token.claim": "true"}}},
	}
	for name, value := range more {
		client[name] = value
	}
	k.admin(t, http.MethodPost, "/"+realm+"/clients", client, nil)
}

// app is an app in a realm of its own.
func (k *keycloak) app(t *testing.T, settings, client map[string]any, attributes map[string]string, more with) *app {
	t.Helper()
	a := start(t).newApp(t, site{})
	t.Cleanup(func() { a.lab.traefik.RemoveFile(a.name) })
	issuer := k.realm(t, a.name, settings)
	k.client(t, a.name, a, client, attributes)
	options := both(with{"issuer": issuer, "logoutUrl": "/logout", "postLogoutRedirectUrl": "/", "forwardHeaders": map[string]any{"X-User": "preferred_username"}, "clientConfig.timeoutSeconds": 20}, more)
	if err := a.set(site{with: options}); err != nil {
		t.Fatal(err)
	}
	return a
}

// inTime opens a page until it is answered so, ten seconds at most.
func (v *visitor) inTime(path, want string) string {
	v.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		got := "sign-in"
		if page := v.look(path); page.Status != http.StatusFound {
			got = v.outcome(page)
		}
		if got == want || time.Now().After(deadline) {
			return got
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// TestKeycloak has the cases of a real Keycloak. They begin when it is there: until then they would keep others from running.
func TestKeycloak(t *testing.T) {
	t.Parallel()
	k := start(t).keycloak(t)
	for name, test := range map[string]func(t *testing.T, k *keycloak){
		"page": testKeycloakPage, "keys": testKeycloakKeys, "private_key_jwt": testKeycloakPrivateKeyJWT, "session limits": testKeycloakSessionLimits,
		"back channel": testBackChannelKeycloak, "front channel": testFrontChannelKeycloak, "introspection": testKeycloakIntrospection,
		"inner address": testKeycloakInnerAddress, "refusals": testKeycloakRefusals, "tabs": testKeycloakTabs, "answers": testKeycloakAnswers,
	} {
		t.Run(name, func(t *testing.T) { test(t, k) })
	}
}

// testKeycloakPage signs in with the configuration of docs/providers/keycloak.md: roles are in the access token, groups come by a mapper.
func testKeycloakPage(t *testing.T, k *keycloak) {
	t.Parallel()
	text, err := os.ReadFile("../docs/providers/keycloak.md")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := pageExamples(string(text))
	if err != nil {
		t.Fatal(err)
	}
	options := examples[0].site().with
	for _, own := range []string{"issuer", "clientId", "clientSecret"} {
		delete(options, own)
	}
	a := k.app(t, nil, nil, nil, options)
	alice, bob := a.visitor(t), a.visitor(t)
	told := alice.received(alice.signIn("/", provider.Alice)).Header
	if got := told.Get("X-User") + " of " + told.Get("X-Groups"); got != "alice of admins,users" && got != "alice of users,admins" {
		t.Errorf("the application is told %q", got)
	}
	if got := bob.outcome(bob.must(bob.SignIn(a.URL+"/", provider.Bob.Name, provider.Bob.Password))); got != "Forbidden" {
		t.Errorf("Bob: got %s", got)
	}
	alice.post("/logout", nil)
	if page := alice.open("/"); !strings.Contains(page.Body, `type="password"`) {
		t.Errorf("after the sign-out Keycloak does not ask for the password: %s", page)
	}

	roles := k.app(t, nil, nil, nil, with{"claims": "Contains(`access_token.realm_access.roles`, `admin`)"})
	alice, bob = roles.visitor(t), roles.visitor(t)
	alice.signIn("/", provider.Alice)
	if got := bob.outcome(bob.must(bob.SignIn(roles.URL+"/", provider.Bob.Name, provider.Bob.Password))); got != "Forbidden" {
		t.Errorf("Bob without the role: got %s", got)
	}
}

// testKeycloakIntrospection: Keycloak calls whatever it has signed active, and says of which kind it is. Only access tokens are let in.
func testKeycloakIntrospection(t *testing.T, k *keycloak) {
	t.Parallel()
	a := k.app(t, map[string]any{"accessTokenLifespan": 60}, map[string]any{"directAccessGrantsEnabled": true}, nil, with{"oAuthIntrospection": map[string]any{}})
	resp, err := http.PostForm(k.base+"/realms/"+a.name+"/protocol/openid-connect/token", url.Values{"grant_type": {"password"}, "client_id": {a.name},
		"client_secret": {a.secret()}, "scope": {"openid"}, "username": {provider.Alice.Name}, "password": {provider.Alice.Password}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var tokens map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&tokens); err != nil || tokens["id_token"] == nil {
		t.Fatalf("no tokens: %s, %v, %v", resp.Status, tokens, err)
	}
	v := a.visitor(t)
	for name, want := range map[string]string{"access_token": in, "refresh_token": "Unauthorized", "id_token": "Unauthorized"} {
		page := v.call(http.MethodGet, "/"+name, "", fmt.Sprint("Authorization: Bearer ", tokens[name]))
		if got := v.outcome(page); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	madeUp(t, a, "")
	for _, kind := range []string{"Refresh", "ID"} {
		if said := strings.ReplaceAll(a.log(), `\`, ""); !strings.Contains(said, fmt.Sprintf("invalid_token: typ: expected an access token, got %q", kind)) {
			t.Errorf("no line about typ %s in\n%s", kind, said)
		}
	}
}

// testKeycloakInnerAddress: browsers see Keycloak at an https address, Traefik reads its metadata at an inner http address, and they name
// the inner address for what Traefik calls itself (hostname-backchannel-dynamic).
func testKeycloakInnerAddress(t *testing.T, k *keycloak) {
	t.Parallel()
	config, err := start(t).ca.ServerConfig("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	inner, err := url.Parse(k.base)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(inner))
	front.TLS = config
	front.StartTLS()
	t.Cleanup(front.Close)
	outside := map[string]any{"attributes": map[string]string{"frontendUrl": front.URL}}
	a := k.app(t, outside, nil, nil, nil)
	document := k.base + "/realms/" + a.name + "/.well-known/openid-configuration"
	var named map[string]any
	resp, err := http.Get(document)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&named); err != nil || named["issuer"] != front.URL+"/realms/"+a.name || !strings.HasPrefix(fmt.Sprint(named["token_endpoint"]), k.base) {
		t.Fatalf("this Keycloak does not tell the two addresses: %v, %v", named, err)
	}
	for name, c := range map[string]struct {
		options with
		want    string
	}{
		"discovery alone":         {with{"endpoints.discovery": document}, in},
		"all of them, as we said": {with{"endpoints.discovery": document, "endpoints.token": named["token_endpoint"], "endpoints.jwks": named["jwks_uri"]}, in},
	} {
		options := both(with{"issuer": front.URL + "/realms/" + a.name, "clientId": a.name, "clientSecret": a.secret(), "clientConfig.timeoutSeconds": 20,
			"forwardHeaders": map[string]any{"X-User": "preferred_username"}}, c.options)
		if err := a.set(site{with: options}); err != nil {
			t.Fatal(err)
		}
		alice := a.visitor(t)
		if got := alice.outcome(alice.must(alice.SignIn(a.URL+"/", provider.Alice.Name, provider.Alice.Password))); got != c.want {
			t.Errorf("%s: got %s, want %s\n%s", name, got, c.want, a.log())
		}
		time.Sleep(3100 * time.Millisecond)
		if told := alice.received(alice.open("/")).Header.Get("X-User"); told != "alice" {
			t.Errorf("%s: after a refresh the application is told %q", name, told)
		}
	}
}

// testKeycloakRefusals: a user who is locked out is out at the next refresh; a client whose secret was changed keeps its users.
func testKeycloakRefusals(t *testing.T, k *keycloak) {
	t.Parallel()
	t.Run("user", func(t *testing.T) {
		t.Parallel()
		a := k.app(t, nil, nil, nil, nil)
		alice, bob := a.visitor(t), a.visitor(t)
		alice.signIn("/", provider.Alice)
		bob.signIn("/", provider.Bob)
		var found []map[string]any
		k.admin(t, http.MethodGet, "/"+a.name+"/users?exact=true&username=alice", nil, &found)
		found[0]["enabled"] = false
		k.admin(t, http.MethodPut, "/"+a.name+"/users/"+found[0]["id"].(string), found[0], nil)
		time.Sleep(3100 * time.Millisecond)
		if got := alice.inTime("/", "sign-in"); got != "sign-in" {
			t.Errorf("Alice, who is locked out: got %s\n%s", got, a.log())
		}
		if got := bob.outcome(bob.open("/")); got != in {
			t.Errorf("Bob: got %s", got)
		}
	})
	t.Run("client", func(t *testing.T) {
		t.Parallel()
		a := k.app(t, nil, nil, nil, nil)
		alice := a.visitor(t)
		alice.signIn("/", provider.Alice)
		var found []map[string]any
		k.admin(t, http.MethodGet, "/"+a.name+"/clients?clientId="+a.name, nil, &found)
		found[0]["secret"] = "another one"
		k.admin(t, http.MethodPut, "/"+a.name+"/clients/"+found[0]["id"].(string), found[0], nil)
		time.Sleep(3100 * time.Millisecond)
		if got := alice.outcome(alice.open("/")); got != in || a.told("check clientId, clientSecret") == 0 {
			t.Errorf("got %s\n%s", got, a.log())
		}
		bob := a.visitor(t)
		if got := bob.outcome(bob.must(bob.SignIn(a.URL+"/", provider.Bob.Name, provider.Bob.Password))); got != misconfigured {
			t.Errorf("Bob: got %s, want %s", got, misconfigured)
		}
	})
}

// formAction is where a page's form goes.
var formAction = regexp.MustCompile(`<form[^>]* action="([^"]+)"`)

// testKeycloakTabs: somebody signs in at Keycloak, the answer is lost on the way, and they send the form of that tab again. Keycloak has
// dropped its sign-in by then. It begins another one, perhaps with what another tab had asked for (its code is refused), or, where its
// cookie for that is gone, answers temporarily_unavailable. The tab gets its page all the same.
func testKeycloakTabs(t *testing.T, k *keycloak) {
	t.Parallel()
	for _, c := range []struct{ isSignedIn, keepsCookie bool }{{true, true}, {false, true}, {true, false}, {false, false}} {
		a := k.app(t, nil, nil, nil, nil)
		alice := a.visitor(t)
		user := url.Values{"username": {provider.Alice.Name}, "password": {provider.Alice.Password}}
		tab := alice.open("/second")
		found := formAction.FindStringSubmatch(tab.Body)
		if found == nil {
			t.Fatalf("no sign-in form: %s", tab)
		}
		lost, err := alice.Client().PostForm(html.UnescapeString(found[1]), user)
		if err != nil || !strings.Contains(lost.Header.Get("Location"), "code=") {
			t.Fatalf("Keycloak did not sign Alice in: %v, %v", lost, err)
		}
		lost.Body.Close()
		if c.isSignedIn {
			if got := alice.outcome(alice.open("/first")); got != in {
				t.Fatalf("another tab: got %s", got)
			}
		}
		if !c.keepsCookie {
			realm := "/realms/" + a.name + "/"
			alice.Jar.SetCookies(tab.URL, []*http.Cookie{{Name: "KC_RESTART", Path: realm, MaxAge: -1}})
		}
		page := alice.must(alice.Submit(tab, user))
		if got := alice.outcome(page); got != in || page.URL.Path != "/second" {
			t.Errorf("%+v: got %s\n%s", c, page, a.log())
		}
		if said := strings.Contains(strings.Join(page.Trail, " "), "error=temporarily_unavailable"); said == (c.isSignedIn && c.keepsCookie) {
			t.Errorf("%+v: Keycloak said temporarily_unavailable: %t", c, said)
		}
	}
}

// testKeycloakAnswers: the client scope address writes its claim twice, beside a mapper of its own; UserInfo is a signed JWT.
func testKeycloakAnswers(t *testing.T, k *keycloak) {
	t.Parallel()
	a := k.app(t, nil, nil, map[string]string{"user.info.response.signature.alg": "RS256"}, with{"userinfo": true, "forwardHeaders": map[string]any{"X-User": "userinfo.preferred_username"}})
	alice := a.visitor(t)
	if told := alice.received(alice.signIn("/", provider.Alice)).Header.Get("X-User"); told != "alice" {
		t.Errorf("the application is told %q\n%s", told, a.log())
	}
}

// testKeycloakKeys: new keys while people are signed in, and keys on a curve.
func testKeycloakKeys(t *testing.T, k *keycloak) {
	t.Parallel()
	t.Run("rotation", func(t *testing.T) {
		t.Parallel()
		a := k.app(t, nil, nil, nil, nil)
		alice := a.visitor(t)
		alice.signIn("/", provider.Alice)
		k.admin(t, http.MethodPost, "/"+a.name+"/components", map[string]any{
			"name": "newer", "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
			"config": map[string]any{"priority": []string{"1000"}, "enabled": []string{"true"}, "active": []string{"true"}, "algorithm": []string{"RS256"}},
		}, nil)
		time.Sleep(3100 * time.Millisecond) // the refresh brings a token signed with the new key
		if got := alice.outcome(alice.open("/")); got != in {
			t.Errorf("after the rotation: got %s", got)
		}
		if said := a.log(); strings.Contains(said, "refresh:") {
			t.Errorf("the refresh has failed: %s", said)
		}
		bob := a.visitor(t)
		bob.signIn("/", provider.Bob)
	})
	t.Run("ES256", func(t *testing.T) {
		t.Parallel()
		a := k.app(t, map[string]any{"defaultSignatureAlgorithm": "ES256"}, nil, nil, with{
			"idTokenSigningAlg": "ES256", "forwardHeaders": map[string]any{"X-User": "preferred_username", "X-Token": "{id_token}"},
		})
		alice := a.visitor(t)
		told := alice.received(alice.signIn("/", provider.Alice)).Header
		parsed, err := jose.ParseSigned(told.Get("X-Token"), []jose.SignatureAlgorithm{jose.ES256})
		if err != nil || parsed.Signatures[0].Header.Algorithm != "ES256" {
			t.Errorf("the token is not ES256: %v", err)
		}
	})
}

// testKeycloakPrivateKeyJWT: the application proves itself with a key.
func testKeycloakPrivateKeyJWT(t *testing.T, k *keycloak) {
	t.Parallel()
	key, err := provider.NewPrivateKey("ES256")
	if err != nil {
		t.Fatal(err)
	}
	other, err := provider.NewPrivateKey("ES256")
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "ours", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		pem  string
		want string
	}{"its key": {encodeKey(t, key), in}, "another key": {encodeKey(t, other), "Internal Server Error"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := k.app(t, nil, map[string]any{"clientAuthenticatorType": "client-jwt"},
				map[string]string{"use.jwks.string": "true", "jwks.string": string(set), "token.endpoint.auth.signing.alg": "ES256"},
				with{"clientSecret": drop, "session.secret": "a secret of many bytes", "clientKey": c.pem, "clientKeyId": "ours", "clientKeyAlg": "ES256"})
			alice := a.visitor(t)
			if got := alice.outcome(alice.must(alice.SignIn(a.URL+"/", provider.Alice.Name, provider.Alice.Password))); got != c.want {
				t.Errorf("got %s, want %s\n%s", got, c.want, a.log())
			}
		})
	}
}

// testKeycloakSessionLimits: a session that Keycloak ends, because it has lasted long enough or because its user has signed in
// elsewhere, ends here at the next refresh, with a sign-in and nothing worse.
func testKeycloakSessionLimits(t *testing.T, k *keycloak) {
	t.Parallel()
	t.Run("time", func(t *testing.T) {
		t.Parallel()
		a := k.app(t, map[string]any{"ssoSessionMaxLifespan": 8}, nil, nil, nil)
		alice := a.visitor(t)
		alice.signIn("/", provider.Alice)
		time.Sleep(3100 * time.Millisecond)
		if got := alice.outcome(alice.open("/")); got != in {
			t.Errorf("while the session lasts: got %s", got)
		}
		time.Sleep(6 * time.Second)
		if got := alice.inTime("/", "sign-in"); got != "sign-in" {
			t.Errorf("afterwards: got %s", got)
		}
	})
	t.Run("number", func(t *testing.T) {
		t.Parallel()
		a := k.app(t, nil, nil, nil, nil)
		k.limitSessions(t, a.name)
		here, there := a.visitor(t), a.visitor(t)
		here.signIn("/", provider.Alice)
		there.signIn("/", provider.Alice)
		time.Sleep(3100 * time.Millisecond)
		if got := here.inTime("/", "sign-in"); got != "sign-in" {
			t.Errorf("the older session: got %s", got)
		}
		if got := there.outcome(there.open("/")); got != in {
			t.Errorf("the newer session: got %s", got)
		}
	})
}

// limitSessions lets a user of a realm have one session; a new one ends the old.
func (k *keycloak) limitSessions(t *testing.T, realm string) {
	t.Helper()
	at := "/" + realm + "/authentication"
	k.admin(t, http.MethodPost, at+"/flows/browser/copy", map[string]any{"newName": "limited"}, nil)
	k.admin(t, http.MethodPost, at+"/flows/"+url.PathEscape("limited forms")+"/executions/execution", map[string]any{"provider": "user-session-limits"}, nil)
	var executions []map[string]any
	k.admin(t, http.MethodGet, at+"/flows/limited/executions", nil, &executions)
	for _, execution := range executions {
		if execution["providerId"] != "user-session-limits" {
			continue
		}
		execution["requirement"] = "REQUIRED"
		k.admin(t, http.MethodPut, at+"/flows/limited/executions", execution, nil)
		k.admin(t, http.MethodPost, at+"/executions/"+execution["id"].(string)+"/config", map[string]any{
			"alias": "one", "config": map[string]string{"userRealmLimit": "1", "userClientLimit": "0", "behavior": "Terminate oldest session"},
		}, nil)
	}
	k.admin(t, http.MethodPut, "/"+realm, map[string]any{"browserFlow": "limited"}, nil)
}

// frame is what a provider's sign-out page loads for each application with front-channel logout.
var frame = regexp.MustCompile(`<iframe[^>]* src="([^"]+)"`)

// testFrontChannelKeycloak: Keycloak's sign-out page ends the session of another application in a frame.
func testFrontChannelKeycloak(t *testing.T, k *keycloak) {
	t.Parallel()
	l := start(t)
	one, two := l.newApp(t, site{}), l.newApp(t, site{})
	issuer := k.realm(t, one.name, map[string]any{"accessTokenLifespan": 60})
	for _, a := range []*app{one, two} {
		k.client(t, one.name, a, map[string]any{"frontchannelLogout": true}, map[string]string{
			"frontchannel.logout.url": a.URL + "/framed", "frontchannel.logout.session.required": "true",
		})
		t.Cleanup(func() { l.traefik.RemoveFile(a.name) })
		if err := a.set(site{with: with{"issuer": issuer, "logoutUrl": "/logout", "frontchannelLogoutUrl": "/framed", "clientConfig.timeoutSeconds": 20}}); err != nil {
			t.Fatal(err)
		}
	}
	alice := one.visitor(t)
	alice.signIn("/", provider.Alice)
	if page := alice.open(two.URL); page.Status != http.StatusOK {
		t.Fatalf("whoever is signed in at Keycloak got %s", page)
	}
	page := alice.post("/logout", url.Values{})
	var framed []string
	for _, found := range frame.FindAllStringSubmatch(page.Body, -1) {
		address := html.UnescapeString(found[1])
		framed = append(framed, address)
		if answer := alice.open(address); answer.Status != http.StatusOK {
			t.Errorf("%s: %s", address, answer)
		}
	}
	if len(framed) == 0 || !strings.Contains(strings.Join(framed, " "), two.URL+"/framed?") {
		t.Fatalf("Keycloak frames %q on %s", framed, page)
	}
	if page := alice.look(two.URL); page.Status != http.StatusFound {
		t.Errorf("signed out, and the other application lets Alice in: %s", page)
	}
}

// testBackChannelKeycloak: Keycloak tells the applications of a session when its user signs out of one, and when an administrator
// throws the user out.
func testBackChannelKeycloak(t *testing.T, k *keycloak) {
	t.Parallel()
	l := start(t)
	store := newRedis(t)
	one, two := l.newApp(t, site{}), l.newApp(t, site{})
	issuer := k.realm(t, one.name, map[string]any{"accessTokenLifespan": 60})
	for _, a := range []*app{one, two} {
		// Keycloak resolves names as Java does, which knows no *.localhost: it posts to the address, and the route takes both.
		k.client(t, one.name, a, nil, map[string]string{
			"backchannel.logout.url": l.traefik.URL + "/gone/" + a.name, "backchannel.logout.session.required": "true",
		})
		t.Cleanup(func() { l.traefik.RemoveFile(a.name) })
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
	var users []struct{ ID string }
	k.admin(t, http.MethodGet, "/"+one.name+"/users?username=alice", nil, &users)
	k.admin(t, http.MethodPost, "/"+one.name+"/users/"+users[0].ID+"/logout", nil, nil)
	deadline := time.Now().Add(3 * time.Second)
	for alice.look(two.URL).Status == http.StatusOK && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
	}
	gone("thrown out by an administrator")
}
