package e2e

import (
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

// TestExampleMCP: client and server of MCP's own SDK, with examples/mcp between them. The client learns from the 401 where tokens are given,
// for which resource and with which scope, gets one, for itself or with a person who signs in, and calls a tool, whose answer is a stream.
func TestExampleMCP(t *testing.T) {
	t.Parallel()
	l := start(t)
	const secret = "a secret of our own"
	node := l.nodeProvider(t, provider.NodeOptions{Clients: []map[string]any{{
		"client_id": "agent", "client_secret": secret, "redirect_uris": []string{}, "response_types": []string{}, "grant_types": []string{"client_credentials"},
	}, {
		"client_id": "desktop", "token_endpoint_auth_method": "none", "application_type": "native", "redirect_uris": []string{"http://127.0.0.1:1/callback"},
		"response_types": []string{"code"}, "grant_types": []string{"authorization_code"},
	}}})
	server := mcpServer(t, l)
	open, ruled := mcpApp(t, l, node.Issuer, server, ""), mcpApp(t, l, node.Issuer, server, "            claims: SplitContains(`scope`, ` `, `read`)\n")
	own := func(resource, scope string) string {
		form := url.Values{"resource": {resource}}
		if scope != "" {
			form.Set("scope", scope)
		}
		return ownToken(t, node.Issuer, "agent", secret, form)
	}
	const answer = "tools whoami\nnotified a moment\nanswer "
	for _, c := range []struct {
		name string
		app  *app
		args []string
		want string
	}{
		{"a program", open, []string{"client", open.URL + "/mcp", node.Issuer, "agent", secret}, answer + "nobody with agent, without token\n"},
		{"a person", ruled, []string{"person", ruled.URL + "/mcp", node.Issuer, "desktop", provider.Alice.Name, provider.Alice.Password},
			"asks for read at " + ruled.URL + "/mcp S256\n" + answer + "user-alice with desktop, without token\n"},
		{"a token with the scope", ruled, []string{"token", ruled.URL + "/mcp", own(ruled.URL+"/mcp", "read")}, answer + "nobody with agent, without token\n"},
		{"a token without the scope", ruled, []string{"token", ruled.URL + "/mcp", own(ruled.URL+"/mcp", "")}, "code: 403"},
		{"a token for another server", open, []string{"token", open.URL + "/mcp", own("https://other.example.com/mcp", "read")}, "code: 401"},
	} {
		command := exec.Command(need(t, "node"), append([]string{"mcp.mjs"}, c.args...)...)
		command.Dir = filepath.Join(l.root, "e2e", "node")
		output, err := command.CombinedOutput()
		if isRefused := strings.HasPrefix(c.want, "code"); !strings.Contains(string(output), c.want) || isRefused != (err != nil) {
			t.Errorf("%s: %v, and not %q:\n%s\n%s\n%s", c.name, err, c.want, output, c.app.log(), node.LogText())
		}
	}
}

// mcpApp serves examples/mcp/mcp.yml in front of a server, with one more line in the block jwt.
func mcpApp(t *testing.T, l *lab, issuer, server, line string) *app {
	t.Helper()
	text, err := os.ReadFile("../examples/mcp/mcp.yml")
	if err != nil {
		t.Fatal(err)
	}
	app := l.newApp(t, site{})
	content := strings.NewReplacer("https://mcp.example.com", app.URL, "mcp.example.com", app.host, "https://id.example.com", issuer,
		"http://127.0.0.1:8081", server, "\n    mcp:\n", "\n    "+app.name+":\n", "service: mcp", "service: "+app.name, "[mcp]", "["+app.name+"]",
		"            forwardHeaders:", line+"            forwardHeaders:").Replace(string(text))
	if err := l.traefik.SetFile(app.name, content); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.traefik.RemoveFile(app.name) })
	if err := l.traefik.RouteError(app.name); err != nil {
		t.Fatal(err)
	}
	return app
}

// mcpServer runs the server of e2e/node/mcp.mjs and returns its address.
func mcpServer(t *testing.T, l *lab) string {
	t.Helper()
	process, err := parts.StartProcess(parts.Command{
		Name: "mcp", Path: need(t, "node"), Args: []string{"mcp.mjs", "server"}, Dir: filepath.Join(l.root, "e2e", "node"), LogFile: filepath.Join(t.TempDir(), "mcp.log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Stop)
	port := ""
	if err := process.WaitFor("its port", 30*time.Second, func() bool {
		var isWhole bool
		port, _, isWhole = strings.Cut(process.Log(0), "\n")
		return isWhole
	}); err != nil {
		t.Fatal(err)
	}
	return "http://127.0.0.1:" + port
}
