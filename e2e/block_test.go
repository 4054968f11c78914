package e2e

import (
	"os"
	"strings"
	"testing"
)

// TestBlockThatIsBroken: what Traefik itself says of a block that does not get as far as the plugin is in docs/troubleshooting.md, and
// what the plugin says is at the router and the middleware in Traefik's API, as docs/getting-started.md has it.
func TestBlockThatIsBroken(t *testing.T) {
	t.Parallel()
	l := start(t)
	page, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ block, want string }{
		"unknown":  {"{plugin: {traefik-oidc-auth: {Secret: x}}}", "plugin: unknown plugin type: "},
		"two":      {"{plugin: {oidc: {issuer: x}, jwt: {issuer: x}}}", "invalid configuration: no configuration or too many plugin definition"},
		"kinds":    {"{plugin: {oidc: {issuer: x}}, forwardAuth: {address: x}}", "cannot create middleware: multi-types middleware not supported"},
		"misspelt": {"{plugin: {oidc: {issuer: \"https://id.example.com\", clientId: a, clientSecret: for-this-test-alone-1, providerURL: x}}}", "providerURL: unknown option; "},
	} {
		name, file := "broken-"+name, "broken-"+name
		content := "http:\n  routers:\n    " + name + ": {rule: Host(`" + name + ".localhost`), middlewares: [" + name + "], service: noop@internal}\n  middlewares:\n    " +
			name + ": " + c.block + "\n"
		if err := l.traefik.SetFile(file, content); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.traefik.RemoveFile(file) })
		said := l.traefik.RouteError(name)
		if said == nil || !strings.Contains(said.Error(), c.want) {
			t.Errorf("%s: the router says %v, want %q", name, said, c.want)
		}
		if found, err := l.traefik.MiddlewareError(name); err != nil || !strings.Contains(found, c.want) {
			t.Errorf("%s: the middleware says %q (%v), want %q", name, found, err, c.want)
		}
		if name != "broken-misspelt" && !strings.Contains(string(page), c.want) {
			t.Errorf("docs/troubleshooting.md does not have %q", c.want)
		}
	}
}
