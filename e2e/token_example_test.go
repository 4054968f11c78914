package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// replaced is options with other texts in the place of some.
func replaced(options map[string]any, texts *strings.Replacer) map[string]any {
	result := map[string]any{}
	for name, value := range options {
		switch value := value.(type) {
		case string:
			result[name] = texts.Replace(value)
		case map[string]any:
			result[name] = replaced(value, texts)
		default:
			result[name] = value
		}
	}
	return result
}

// hubExample is one middleware of a file in examples/hub, its provider replaced.
func hubExample(t *testing.T, file, name, issuer string) with {
	t.Helper()
	text, err := os.ReadFile("../examples/hub/" + file)
	if err != nil {
		t.Fatal(err)
	}
	examples, err := kubernetesExamples(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range examples {
		if e.name == name {
			return replaced(e.options, strings.NewReplacer("https://id.example.com", issuer))
		}
	}
	t.Fatalf("%s has no middleware %s", file, name)
	return nil
}

// TestExampleHubSignIn drives Hub's documented sign-ins.
func TestExampleHubSignIn(t *testing.T) {
	t.Parallel()
	l := start(t)
	for name, group := range map[string]string{"login": "", "reports": "admins,users"} {
		options := hubExample(t, "oidc.yml", name, l.provider.Issuer)
		callback, _ := options["redirectUrl"].(string)
		for _, own := range []string{"issuer", "clientId", "clientID", "clientSecret"} {
			delete(options, own)
		}
		app := l.serve(t, site{with: options, callbacks: []string{callback}})
		alice, bob := app.visitor(t), app.visitor(t)
		if got := alice.received(alice.signIn("/", provider.Alice)).Header.Get("X-Traefik-Group"); got != group {
			t.Errorf("%s: the application is told %q", name, got)
		}
		if page := bob.must(bob.SignIn(app.URL, provider.Bob.Name, provider.Bob.Password)); (page.Status == http.StatusForbidden) != (name == "reports") {
			t.Errorf("%s: Bob got %s", name, page)
		}
	}
}

// hubGateway is the client of examples/hub.
var hubGateway = provider.Client{ID: "gateway", Secret: "change-me", ClientCredentials: true, JWTAccessTokens: true}

// TestExampleHubIntrospection drives Hub's documented introspection, where the caller has got its token by client credentials.
func TestExampleHubIntrospection(t *testing.T) {
	t.Parallel()
	l := start(t)
	p := newProvider(t, provider.Options{Clients: []provider.Client{hubGateway, machine}})
	token := "Authorization: Bearer " + ownToken(t, p.Issuer, machine.ID, machine.Secret, nil)
	tenant := "X-Tenant-Credentials: " + base64.StdEncoding.EncodeToString([]byte("gateway:change-me"))
	for _, row := range []struct {
		name, want string
		lines      []string
	}{
		{"api", "machine", []string{token}},
		{"api", "", []string{token + "x"}},
		{"tenants", "machine", []string{token, tenant}},
		{"tenants", "", []string{token, tenant + "x"}},
	} {
		v := l.serve(t, tokens(hubExample(t, "introspection.yml", row.name, p.Issuer))).visitor(t)
		page := v.call(http.MethodGet, "/", "", row.lines...)
		if got := v.outcome(page); (got == in) != (row.want != "") {
			t.Errorf("%s: %s", row.name, got)
		} else if got == in && v.received(page).Header.Get("X-Client") != row.want {
			t.Errorf("%s: the application got %v", row.name, v.received(page).Header)
		}
	}
	if calls := p.Calls("introspect"); calls[0].Form.Get("token_type_hint") != "access_token" {
		t.Errorf("asked with %v", calls[0].Form)
	}
}

// TestExampleHubClientCredentials drives Hub's documented client credentials.
func TestExampleHubClientCredentials(t *testing.T) {
	t.Parallel()
	l := start(t)
	p := newProvider(t, provider.Options{Clients: []provider.Client{hubGateway}})
	caller := "Authorization: " + plainBasic("gateway", "change-me")
	for _, row := range []struct {
		name, want string
		lines      []string
	}{
		{"application", "gateway", []string{caller}},
		{"application", out, nil},
		{"application", out, []string{caller + "x"}},
		{"gateway", "gateway", nil},
		{"scopes", "gateway", nil},
	} {
		v := l.serve(t, tokens(hubExample(t, "client-credentials.yml", row.name, p.Issuer))).visitor(t)
		if got := tokenFor(row.lines...)(v); got != row.want {
			t.Errorf("%s: %s", row.name, got)
		}
	}
	calls := p.Calls("token")
	if got := calls[len(calls)-1].Form.Get("scope"); got != "urn:opc:resource:consumer::all" {
		t.Errorf("the scope was %q", got)
	}
}

// TestExampleHubJWT drives each source of keys.
func TestExampleHubJWT(t *testing.T) {
	t.Parallel()
	l := start(t)
	key := newKey(t, "ES256")
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, set, 0o644); err != nil {
		t.Fatal(err)
	}
	fromProvider, err := l.provider.Sign(map[string]any{"iss": l.provider.Issuer, "aud": "https://api.example.com", "sub": "user-alice", "exp": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"signing-secret": newToken(t, "HS256", []byte(signingText), nil),
		"public-key":     newToken(t, "ES256", key, nil),
		"jwks-file":      newToken(t, "ES256", key, nil),
		"jwks-url":       fromProvider, "jwks-path": fromProvider, "issuer": fromProvider,
	} {
		options := hubExample(t, "jwt.yml", name, l.provider.Issuer)
		block := options["jwt"].(map[string]any)
		if name == "public-key" {
			l.serve(t, tokens(options)) // the example's own key can be read, but nobody can sign with it
			block["publicKey"] = publicPEM(t, key)
		} else if name == "jwks-file" {
			block["jwksFile"] = file
		}
		app := l.serve(t, tokens(options))
		v := app.visitor(t)
		if got := told("X-User", "Authorization: Bearer "+token)(v); got != "user-alice" {
			t.Errorf("%s: X-User is %q", name, got)
		}
		if got := bring("Authorization: Bearer " + newToken(t, "ES256", newKey(t, "ES256"), nil))(v); got != out {
			t.Errorf("%s: somebody else's token: %s", name, got)
		}
	}
}

// TestResourceExample: an OAuth client of npm finds its way from the 401 of examples/mcp, in a real Traefik, to the other provider,
// which gives it a JWT for this API alone, and back.
func TestResourceExample(t *testing.T) {
	t.Parallel()
	l := start(t)
	const secret = "a secret of our own"
	node := l.nodeProvider(t, provider.NodeOptions{Clients: []map[string]any{{
		"client_id": "agent", "client_secret": secret, "redirect_uris": []string{}, "response_types": []string{}, "grant_types": []string{"client_credentials"},
	}}})
	text, err := os.ReadFile("../examples/mcp/mcp.yml")
	if err != nil {
		t.Fatal(err)
	}
	app := l.newApp(t, site{})
	content := strings.NewReplacer("https://mcp.example.com", app.URL, "mcp.example.com", app.host, "https://id.example.com", node.Issuer,
		"http://127.0.0.1:8081", l.upstream.URL, "\n    mcp:\n", "\n    "+app.name+":\n", "service: mcp", "service: "+app.name, "[mcp]", "["+app.name+"]").Replace(string(text))
	if err := l.traefik.SetFile(app.name, content); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.traefik.RemoveFile(app.name) })
	if err := l.traefik.RouteError(app.name); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	client, err := os.ReadFile("../examples/mcp/client.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "client.mjs"), client, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(l.root, "e2e", "node", "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	// Node has no names below .localhost.
	script := `import dns from 'node:dns'; const { lookup } = dns; dns.lookup = (name, ...rest) => lookup(name.endsWith('.localhost') ? '127.0.0.1' : name, ...rest);`
	command := exec.Command(need(t, "node"), "--import", "data:text/javascript,"+url.PathEscape(script), "client.mjs", app.URL+"/mcp", "agent", secret)
	command.Dir = dir
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s\n%s", err, output, app.log(), node.LogText())
	}
	for _, words := range []string{"described at " + app.URL + "/.well-known/oauth-protected-resource/mcp\n", "\n200 ", `"X-Client":["agent"]`} {
		if !strings.Contains(string(output), words) {
			t.Errorf("the client wrote, without %s:\n%s", words, output)
		}
	}
	// A token for another API of the same provider is not for this one.
	other := ownToken(t, node.Issuer, "agent", secret, url.Values{"resource": {"https://other.example.com"}})
	v := app.visitor(t)
	if page := v.call(http.MethodGet, "/mcp", "", "Authorization: Bearer "+other); page.Status != http.StatusUnauthorized || !strings.Contains(page.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
		t.Errorf("a token for another API: %s", page)
	}
}
