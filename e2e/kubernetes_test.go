package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
	"github.com/traefik-oidc/oidc/e2e/internal/upstream"
)

// The files in examples/kubernetes/ are applied as they are to a real API server, with Traefik's own definitions of its kinds, and
// a real Traefik reads them there. Only addresses and host names are replaced, see tenant.apply, and what a cluster's controllers
// would add is written here: EndpointSlices, and for the Gateway API a certificate.

// cluster is a Kubernetes with a Traefik that reads it.
type cluster struct {
	*parts.Kubernetes
	// lab is the one that all share, but with this Traefik, and with an application on an address that an endpoint may have.
	lab *lab
}

var (
	theCluster   *cluster
	clusterError error
	clusterOnce  sync.Once
)

// startCluster returns the Kubernetes that all tests share, which the first that wants it sets up.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	l := start(t)
	need(t, "etcd")
	address := ownAddress(t)
	clusterOnce.Do(func() {
		if theCluster, clusterError = l.newCluster(address); clusterError != nil {
			t.Error(clusterError)
		}
	})
	if clusterError != nil {
		t.Fatal("no Kubernetes to test with; the first failure says why")
	}
	return theCluster
}

// ownAddress is an address of this machine that is not loopback: Kubernetes refuses 127.0.0.1 as an endpoint, because in a pod it
// would be the pod. A Service of the type ExternalName would have none of this, but it is not how applications stand behind
// Traefik, and Traefik must be told to allow it. Nothing is sent to any other machine: the kernel keeps what goes to this address.
func ownAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		network, ok := address.(*net.IPNet)
		if ok && network.IP.To4() != nil && network.IP.IsGlobalUnicast() {
			return network.IP.String()
		}
	}
	message := "this machine has no IPv4 address beside loopback, and Kubernetes takes no other for an endpoint, so not tested: Kubernetes"
	if parts.Strict() {
		t.Fatal(message)
	}
	t.Skip("SKIPPED: " + message)
	return ""
}

func (l *lab) newCluster(address string) (*cluster, error) {
	server, err := parts.APIServerPath(context.Background(), l.root, os.Stderr)
	if err != nil {
		return nil, err
	}
	c := &cluster{lab: &lab{root: l.root, dir: l.dir, ca: l.ca}}
	c.lab.upstream, err = upstream.Start(upstream.Options{Addr: net.JoinHostPort(address, "0"), Identity: []string{"X-User"}})
	if err != nil {
		return nil, err
	}
	c.Kubernetes, err = parts.StartKubernetes(parts.KubernetesOptions{APIServer: server, Dir: filepath.Join(l.dir, "kubernetes"), CA: l.ca})
	if err == nil {
		err = c.define()
	}
	if err == nil {
		c.lab.traefik, err = c.newTraefik("traefik-kubernetes", nil)
	}
	if err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *cluster) stop() {
	if c.lab.traefik != nil {
		c.lab.traefik.Stop()
	}
	if c.Kubernetes != nil {
		c.Stop()
	}
	c.lab.upstream.Stop()
}

// define makes Traefik's kinds and those of the Gateway API known, in the versions that our Traefik has been built with, and gives
// Traefik the rights that its Helm chart gives it.
func (c *cluster) define() error {
	roles, err := os.ReadFile(filepath.Join(c.lab.root, "e2e", "kubernetes", "roles.yml"))
	if err == nil {
		err = c.Apply("default", string(roles))
	}
	if err != nil {
		return err
	}
	folder := filepath.Join(c.lab.root, "e2e", "traefik")
	for module, pattern := range map[string]string{
		"github.com/traefik/traefik/v3": "docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml",
		"sigs.k8s.io/gateway-api":       "config/crd/standard/gateway.networking.k8s.io_*s.yaml",
	} {
		dir, err := parts.ModuleDir(folder, module)
		if err != nil {
			return err
		}
		files, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(pattern)))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("%s has no %s: %w", module, pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if err := c.Apply("default", string(text)); err != nil {
				return err
			}
		}
	}
	return nil
}

// newTraefik runs a Traefik with the providers of examples/kubernetes/traefik.yml. It runs outside of the cluster, so it is told
// where the API server is.
func (c *cluster) newTraefik(folder string, kubernetesCRD map[string]any) (*parts.Traefik, error) {
	text, err := os.ReadFile(filepath.Join(c.lab.root, "examples", "kubernetes", "traefik.yml"))
	if err != nil {
		return nil, err
	}
	var example struct{ Providers map[string]map[string]any }
	if err := yaml.Unmarshal(text, &example); err != nil {
		return nil, err
	}
	providers := map[string]any{}
	for name, options := range example.Providers {
		options["endpoint"], options["token"], options["certAuthFilePath"] = c.URL, c.TraefikToken, c.CAFile
		providers[name] = options
	}
	for option, value := range kubernetesCRD {
		example.Providers["kubernetesCRD"][option] = value
	}
	return c.lab.newTraefik(folder, parts.TraefikOptions{
		Static: map[string]any{"providers": providers},
		// Where CI itself runs in a cluster, Traefik would read that one.
		Env: []string{"KUBERNETES_SERVICE_HOST=", "KUBERNETES_SERVICE_PORT=", "KUBECONFIG=", "NO_PROXY=*"},
	})
}

// tenant is a namespace in which examples are applied, with a provider that knows the client of the examples.
type tenant struct {
	*cluster
	t        *testing.T
	name     string
	provider *provider.Provider
	logStart int64
}

// exampleClient is what the examples register.
var exampleClient = provider.Client{ID: "my-app", Secret: "change-me"}

func (c *cluster) tenant(t *testing.T, name string) *tenant {
	t.Helper()
	n := &tenant{cluster: c, t: t, name: name, provider: newProvider(t, provider.Options{}), logStart: c.lab.traefik.LogSize()}
	n.register(exampleClient)
	t.Cleanup(func() {
		if t.Failed() {
			anyFailed.Store(true)
			t.Logf("What Traefik wrote about %s:\n%s", name, n.log())
		}
	})
	address, port, err := net.SplitHostPort(strings.TrimPrefix(c.lab.upstream.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	n.applyText("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + name + "}")
	// A cluster writes that when the Deployment's pods run.
	n.applyText(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: app-1, labels: {kubernetes.io/service-name: app}}
addressType: IPv4
ports: [{name: http, port: ` + port + `}]
endpoints: [{addresses: [` + address + `], conditions: {ready: true, serving: true}}]`)
	n.apply("app.yml")
	return n
}

// register makes a client known for all hosts of the tenant.
func (n *tenant) register(client provider.Client) {
	for _, host := range []string{"app", "shop", "office", "ingress", "gateway"} {
		a := n.app(host)
		client.RedirectURIs = append(client.RedirectURIs, a.Secure+"/oidc/callback")
		client.PostLogoutRedirectURIs = append(client.PostLogoutRedirectURIs, a.Secure+"/bye")
	}
	n.provider.AddClient(client)
}

// app is what the examples call https://HOST.example.com.
func (n *tenant) app(host string) *app { return n.appOf(n.lab.traefik, host) }

// appOf is an app as another Traefik serves it.
func (n *tenant) appOf(traefik *parts.Traefik, host string) *app {
	own := &lab{dir: n.lab.dir, ca: n.lab.ca, upstream: n.lab.upstream, traefik: traefik}
	a := &app{lab: own, name: n.name, host: host + "-" + n.name + "." + parts.Domain, provider: n.provider}
	a.Secure = strings.Replace(traefik.SecureURL, "127.0.0.1", a.host, 1)
	return a
}

// apply is kubectl apply -n with a file of examples/kubernetes/, in which the provider's address, the domain of the applications and
// the port of Traefik's entry point are ours. More replacements are what a test changes.
func (n *tenant) apply(file string, replacements ...string) {
	n.t.Helper()
	text, err := os.ReadFile(filepath.Join(n.lab.root, "examples", "kubernetes", file))
	if err != nil {
		n.t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(n.lab.traefik.SecureURL, "https://"))
	for i := 0; i < len(replacements); i += 2 {
		if !strings.Contains(string(text), replacements[i]) {
			n.t.Fatalf("%s has no %q to replace", file, replacements[i])
		}
	}
	replacements = append(replacements, "change-me-too-openssl-rand-base64-32", sealingText, "changed-too-openssl-rand-base64-32", nextSealingText,
		"https://id.example.com", n.provider.Issuer, ".example.com", "-"+n.name+"."+parts.Domain, "port: 8443", "port: "+port)
	n.applyText(strings.NewReplacer(replacements...).Replace(string(text)))
}

func (n *tenant) applyText(manifests string) {
	n.t.Helper()
	if err := n.Apply(n.name, manifests); err != nil {
		n.t.Fatal(err)
	}
}

// deleteSecret takes the Secret of the examples away.
func (n *tenant) deleteSecret() {
	n.t.Helper()
	if err := n.Delete("v1", "Secret", n.name, "oidc"); err != nil {
		n.t.Fatal(err)
	}
}

// log is what Traefik and the plugin wrote about the namespace.
func (n *tenant) log() string { return linesWith(n.lab.traefik.Log(n.logStart), n.name) }

func linesWith(log, word string) string {
	var lines []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, word) && !routine.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// eventually waits until what was applied shows.
func (n *tenant) eventually(what string, shown func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !shown(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("this did not happen: %s", what)
		}
	}
}

// protected waits until the app asks for a sign-in. Until then nobody may reach the application.
func (n *tenant) protected(a *app) {
	n.t.Helper()
	n.settles(a.secureVisitor(n.t), "sign-in")
}

// settles waits until a visitor meets this. Until then they may meet Traefik's 404, or what they met before, but somebody who is not
// signed in never meets the application.
func (n *tenant) settles(v *visitor, want string) {
	n.t.Helper()
	before := v.outcome(v.look("/"))
	n.eventually(v.app.host+" answers: "+want, func() bool {
		got := v.outcome(v.look("/"))
		if got == "application" && got != before && got != want {
			n.t.Fatalf("%s is open", v.app.host)
		}
		return got == want
	})
}

// reads waits until the middleware login has this value of an option below session, in the configuration that serves requests.
func (n *tenant) reads(option, value string) {
	n.t.Helper()
	n.eventually(option+" is "+value, func() bool {
		options, err := n.lab.traefik.Options(n.name + "-login@kubernetescrd")
		session, _ := options["session"].(map[string]any)
		return err == nil && fmt.Sprint(session[option]) == value
	})
}

// TestKubernetesSignIn applies login.yml in two namespaces, whose Secrets differ.
func TestKubernetesSignIn(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	first, second := c.tenant(t, "first"), c.tenant(t, "second")
	second.register(provider.Client{ID: "other-app", Secret: "another-secret"})
	first.apply("login.yml")
	second.apply("login.yml", "my-app", "other-app", "clientSecret: change-me", "clientSecret: another-secret")
	for _, n := range []*tenant{first, second} {
		a := n.app("app")
		n.protected(a)
		alice := a.secureVisitor(t)
		received := alice.received(alice.signIn("/page?x=1", provider.Alice))
		if user := received.Header.Get("X-User"); user != "alice@example.com" || received.URI != "/page?x=1" {
			t.Errorf("%s: the application got %s for %q", n.name, received.URI, user)
		}
		if names := alice.cookieNames(); names != "__Host-NAME-login-session" {
			t.Errorf("%s: the browser has the cookies %s", n.name, names)
		}
		if got := a.secureVisitor(t).fetch("GET", "/"); got.Status != 401 {
			t.Errorf("%s: a program without a sign-in got %s", n.name, got)
		}
	}
	var clients []string
	for _, call := range append(first.provider.Calls("token"), second.provider.Calls("token")...) {
		clients = append(clients, call.Client())
	}
	if got := strings.Join(clients, " "); got != "my-app other-app" {
		t.Errorf("the providers were asked by %s", got)
	}
}

// TestKubernetesRotation applies rotated.yml over login.yml: the next reload uses the new secrets, and who was signed in still is.
func TestKubernetesRotation(t *testing.T) {
	t.Parallel()
	n := startCluster(t).tenant(t, "rotation")
	n.apply("login.yml")
	a := n.app("app")
	n.protected(a)
	alice, bob := a.secureVisitor(t), a.secureVisitor(t)
	alice.signIn("/", provider.Alice)
	bob.signIn("/", provider.Bob)
	sealed := alice.sessionCookie().Value

	n.register(provider.Client{ID: "my-app", Secret: "changed"})
	n.apply("rotated.yml")
	n.reads("secret", nextSealingText)
	if got := alice.outcome(alice.look("/")); got != "application" {
		t.Errorf("after the rotation, somebody who was signed in gets: %s", got)
	}
	if alice.sessionCookie().Value == sealed {
		t.Error("the session is not sealed anew")
	}
	// The provider takes only the new client secret, so a sign-in shows that it is used.
	a.secureVisitor(t).signIn("/", provider.Bob)

	// When the old secret goes, sessions sealed with the new one go on, others end.
	n.apply("rotated.yml", "previousSessionSecret: change-me-too-openssl-rand-base64-32", "previousSessionSecret: "+nextSealingText)
	n.reads("previousSecrets", "["+nextSealingText+"]")
	if got := alice.outcome(alice.look("/")); got != "application" {
		t.Errorf("without the old secret, a session sealed with the new one: %s", got)
	}
	if got := bob.outcome(bob.look("/")); got != "sign-in" {
		t.Errorf("without the old secret, a session sealed with that: %s", got)
	}
}

// TestKubernetesSecretMissing: without its Secret, or without a key in it, a middleware cannot be built, its route is closed for
// everybody, and the log says why. When the Secret is back, who was signed in still is.
func TestKubernetesSecretMissing(t *testing.T) {
	t.Parallel()
	n := startCluster(t).tenant(t, "missing")
	n.apply("login.yml")
	a := n.app("app")
	n.protected(a)
	alice, nobody := a.secureVisitor(t), a.secureVisitor(t)
	alice.signIn("/", provider.Alice)

	n.deleteSecret()
	n.settles(nobody, "Not Found")
	n.settles(alice, "Not Found")
	n.says(`Error while reading plugins middleware`, `secret missing/oidc is not found`, `middlewareName=missing-login`)
	n.says(`middleware \"missing-login@kubernetescrd\" does not exist`, `routerName=missing-app-`)

	n.applyText("apiVersion: v1\nkind: Secret\nmetadata: {name: oidc}\nstringData: {clientId: my-app}")
	n.says(`Error while reading plugins middleware`, `key \"`, `not found in secret missing/oidc`, `middlewareName=missing-login`)
	n.settles(alice, "Not Found")

	n.apply("login.yml")
	n.settles(alice, "application")
	n.settles(nobody, "sign-in")
}

// says waits for a line of Traefik's log with these words, and the level that Traefik shows by itself.
func (n *tenant) says(words ...string) {
	n.t.Helper()
	n.eventually("a line with "+strings.Join(words, ", "), func() bool {
		lines := n.log()
		for _, word := range append(words, " ERR ") {
			lines = linesWith(lines, word)
		}
		return lines != ""
	})
}

// TestKubernetesNamespaces applies two-rules.yml, and in another namespace cross-namespace.yml, whose route Traefik makes only when
// it is allowed to.
func TestKubernetesNamespaces(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	n := c.tenant(t, "shop")
	n.apply("two-rules.yml")
	shop := n.app("shop")
	n.protected(shop)
	alice, bob := twoRules(t, shop)

	// The other namespace has the application, and no Secret.
	c.tenant(t, "office")
	office := n.app("office")
	text, err := os.ReadFile("../examples/kubernetes/cross-namespace.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply("office", strings.ReplaceAll(string(text), "office.example.com", office.host)); err != nil {
		t.Fatal(err)
	}
	n.protected(office)
	carol := office.secureVisitor(t)
	if user := carol.received(carol.signIn("/", provider.Alice)).Header.Get("X-User"); user != "alice@example.com" {
		t.Errorf("behind a middleware of another namespace the application is told %q", user)
	}

	alice.post("/logout", nil)
	for _, path := range []string{"/", "/admin/"} {
		if got := alice.outcome(alice.look(path)); got != "sign-in" {
			t.Errorf("after the sign-out, %s: %s", path, got)
		}
	}
	if got := bob.outcome(bob.look("/")); got != "application" {
		t.Errorf("somebody else has signed out: %s", got)
	}
	notAllowed(t, n)
}

// twoRules has two people sign in at the first middleware, and visit what the second guards.
func twoRules(t *testing.T, shop *app) (alice, bob *visitor) {
	t.Helper()
	alice, bob = shop.secureVisitor(t), shop.secureVisitor(t)
	alice.signIn("/", provider.Alice)
	bob.signIn("/", provider.Bob)
	for _, c := range []struct {
		who        *visitor
		path, want string
	}{
		{alice, "/admin/", "application"}, {bob, "/admin/", "Forbidden"}, {bob, "/", "application"},
		{shop.secureVisitor(t), "/admin/", "sign-in"}, {shop.secureVisitor(t), "/bye", "application"},
	} {
		if got := c.who.outcome(c.who.look(c.path)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.path, got, c.want)
		}
	}
	// The other way round, the session of the second middleware is one of the first.
	dora := shop.secureVisitor(t)
	dora.signIn("/admin/", provider.Alice)
	if got := dora.outcome(dora.look("/")); got != "application" {
		t.Errorf("signed in at the second middleware, the first says: %s", got)
	}
	if names := dora.cookieNames(); names != "NAME-session" {
		t.Errorf("two middlewares of one session leave the cookies %s", names)
	}
	return alice, bob
}

// notAllowed shows a Traefik that may not cross namespaces: it has the one route, and not the other.
func notAllowed(t *testing.T, n *tenant) {
	t.Helper()
	strict, err := n.newTraefik("traefik-one-namespace", map[string]any{"allowCrossNamespace": false})
	if err != nil {
		t.Fatal(err)
	}
	defer strict.Stop()
	n.settles(n.appOf(strict, "shop").secureVisitor(t), "sign-in")
	nobody := n.appOf(strict, "office").secureVisitor(t)
	if got := nobody.outcome(nobody.look("/")); got != "Not Found" {
		t.Errorf("a route into another namespace, which is not allowed: %s", got)
	}
	lines := linesWith(linesWith(strict.Log(0), "ERR"), "office")
	if !strings.Contains(lines, "invalid reference to middleware everyone") {
		t.Errorf("the log does not say why the route is not there:\n%s", lines)
	}
}

// TestKubernetesIngress applies ingress.yml, whose annotation names the middleware. Without that, nobody reaches the application.
func TestKubernetesIngress(t *testing.T) {
	t.Parallel()
	n := startCluster(t).tenant(t, "default")
	a := n.app("ingress")
	nobody := a.secureVisitor(t)
	n.apply("ingress.yml")
	n.says(`middleware \"default-login@kubernetescrd\" does not exist`, `@kubernetes`)
	n.settles(nobody, "Not Found")
	n.apply("login.yml")
	n.settles(nobody, "sign-in")
	alice := a.secureVisitor(t)
	if user := alice.received(alice.signIn("/", provider.Alice)).Header.Get("X-User"); user != "alice@example.com" {
		t.Errorf("the application is told %q", user)
	}
	n.deleteSecret()
	n.settles(nobody, "Not Found")
	n.settles(alice, "Not Found")
}

// TestKubernetesGateway applies gateway.yml: a filter of the kind ExtensionRef puts the middleware before a route of the Gateway API.
func TestKubernetesGateway(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	n := c.tenant(t, "gateway")
	a := n.app("gateway")
	certificate, key, err := c.lab.ca.Issue(a.host)
	if err != nil {
		t.Fatal(err)
	}
	n.applyText("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: app-tls}\ndata:\n  tls.crt: " +
		base64.StdEncoding.EncodeToString([]byte(certificate)) + "\n  tls.key: " + base64.StdEncoding.EncodeToString([]byte(key)))
	n.apply("login.yml")
	n.apply("gateway.yml")
	n.protected(a)
	alice, nobody := a.secureVisitor(t), a.secureVisitor(t)
	if user := alice.received(alice.signIn("/", provider.Alice)).Header.Get("X-User"); user != "alice@example.com" {
		t.Errorf("the application is told %q", user)
	}
	if got := n.conditions(); got != "Accepted=True ResolvedRefs=True" {
		t.Errorf("the route's conditions are %s", got)
	}
	n.deleteSecret()
	n.settles(nobody, "Not Found")
	n.settles(alice, "Not Found")
	if got := n.conditions(); got != "Accepted=True ResolvedRefs=True" { // docs/kubernetes.md says so
		t.Errorf("without its middleware the route's conditions are %s", got)
	}
}

// conditions are what Traefik wrote about the route of gateway.yml.
func (n *tenant) conditions() string {
	n.t.Helper()
	var route struct {
		Status struct {
			Parents []struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if err := n.Get("gateway.networking.k8s.io/v1", "HTTPRoute", n.name, "app", &route); err != nil {
		n.t.Fatal(err)
	}
	var found []string
	for _, parent := range route.Status.Parents {
		for _, condition := range parent.Conditions {
			found = append(found, condition.Type+"="+condition.Status)
		}
	}
	return strings.Join(found, " ")
}

// TestKubernetesNull: Kubernetes' JSON is where a block arrives that is null, and it is an error there; so are an empty limit, and a
// number that a float64 cannot hold.
func TestKubernetesNull(t *testing.T) {
	t.Parallel()
	n := startCluster(t).tenant(t, "nothing")
	n.apply("login.yml", "      forwardHeaders:\n", "      csrf: null\n      claims: \"\"\n      trustedAudiences: [253456789012345678]\n      forwardHeaders:\n")
	for range 100 {
		if strings.Contains(n.log(), "claims: is there and empty") {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	for _, want := range []string{"claims: is there and empty", "csrf: is null, which sets nothing", "trustedAudiences: is a number that lost digits"} {
		if !strings.Contains(n.log(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
}

// TestKubernetesMistakes: the mistakes of config_test.go as Middlewares, whose values arrive with their types.
func TestKubernetesMistakes(t *testing.T) {
	t.Parallel()
	n := startCluster(t).tenant(t, "mistakes")
	manifests := ""
	for i, test := range mistakes {
		options := both(with{"issuer": n.provider.Issuer, "clientId": "my-app", "clientSecret": sealingText}, test.with).nested()
		text, err := json.Marshal(options)
		if err != nil {
			t.Fatal(err)
		}
		manifests += fmt.Sprintf(`---
apiVersion: traefik.io/v1alpha1
kind: Middleware
metadata: {name: mistake-%[1]d}
spec: {plugin: {oidc: %[2]s}}
---
apiVersion: traefik.io/v1alpha1
kind: IngressRoute
metadata: {name: mistake-%[1]d}
spec:
  entryPoints: [websecure]
  routes: [{kind: Rule, match: "Host(%[3]smistake-%[1]d.example.com%[3]s)", middlewares: [{name: mistake-%[1]d}], services: [{name: app, port: http}]}]
`, i, text, "`")
	}
	n.applyText(manifests)
	for i, test := range mistakes {
		name := fmt.Sprintf("mistakes-mistake-%d@kubernetescrd", i)
		for _, want := range test.want {
			n.eventually(fmt.Sprintf("%s: %s is said", test.name, want), func() bool {
				return strings.Contains(linesWith(n.lab.traefik.Log(n.logStart), name), strings.ReplaceAll(want, `"`, `\"`))
			})
		}
	}
}

// rendered is what Traefik's Helm chart makes of the values in examples/kubernetes/values.yml.
type rendered struct {
	Args []string
	Env  []struct{ Name, Value string }
}

// readRendered reads it, and sees that it has everything the values say, so that neither is changed alone.
func readRendered(t *testing.T) rendered {
	t.Helper()
	var chart rendered
	values := map[string]any{}
	for file, into := range map[string]any{"kubernetes/chart.yml": &chart, "../examples/kubernetes/values.yml": &values} {
		text, err := os.ReadFile(file)
		if err == nil {
			err = yaml.Unmarshal(text, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	has := map[string]bool{}
	for _, argument := range chart.Args {
		has[strings.ToLower(argument)] = true
	}
	for _, variable := range chart.Env {
		has[fmt.Sprint("map[name:", variable.Name, " value:", variable.Value, "]")] = true
	}
	count := 0
	for _, block := range []string{"experimental", "providers", "ports", "env"} {
		for _, said := range argumentsOf("--"+block, values[block]) {
			count++
			if !has[said] {
				t.Errorf("examples/kubernetes/values.yml says %s, and e2e/kubernetes/chart.yml does not: render it anew", said)
			}
		}
	}
	if count < 8 {
		t.Errorf("only %d values are looked at", count)
	}
	return chart
}

// argumentsOf is what the chart makes of values, in small letters.
func argumentsOf(path string, value any) []string {
	var found []string
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			found = append(found, argumentsOf(path+"."+name, inner)...)
		}
		return found
	case []any:
		for _, item := range value {
			if path == "--env" {
				found = append(found, fmt.Sprint(item))
			} else {
				found = append(found, argumentsOf(path, item)...)
			}
		}
		return found
	}
	path = strings.Replace(path, "--ports", "--entrypoints", 1)
	return []string{strings.ToLower(strings.TrimSuffix(fmt.Sprint(path, "=", value), ".enabled=true"))}
}

// TestKubernetesHelm runs Traefik with the arguments and the environment that its Helm chart gives it. Only the ports are others, the
// plugin lies in a folder, the debug API and our certificate are added, and as it runs outside of the cluster, it is told where that is.
func TestKubernetesHelm(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	chart := readRendered(t)
	env := []string{"KUBERNETES_SERVICE_HOST=", "KUBERNETES_SERVICE_PORT=", "KUBECONFIG=", "NO_PROXY=*"}
	for _, variable := range chart.Env {
		env = append(env, variable.Name+"="+variable.Value)
	}
	traefik, err := c.lab.newTraefik("traefik-helm", parts.TraefikOptions{Env: env, Arguments: func(web, websecure, dynamic string) []string {
		other := strings.NewReplacer(":8000/tcp", web, ":8443/tcp", websecure, ":9100/tcp", "127.0.0.1:0", ":8080/tcp", "127.0.0.1:0",
			"experimental.plugins.", "experimental.localPlugins.", "=INFO", "=DEBUG")
		args := []string{"--providers.file.directory=" + dynamic, "--providers.providersThrottleDuration=50ms", "--global.checkNewVersion=false"}
		for _, argument := range chart.Args {
			if provider, _, isOption := strings.Cut(strings.TrimPrefix(argument, "--providers."), "."); strings.HasPrefix(argument, "--providers.") && !isOption {
				at := "--providers." + provider
				args = append(args, at+".endpoint="+c.URL, at+".token="+c.TraefikToken, at+".certAuthFilePath="+c.CAFile)
			}
			if !strings.Contains(argument, ".version=") { // a local plugin has none
				args = append(args, other.Replace(argument))
			}
		}
		return args
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer traefik.Stop()
	n := c.tenant(t, "helm")
	n.apply("login.yml")
	n.settles(n.appOf(traefik, "app").secureVisitor(t), "sign-in")
	a := n.appOf(traefik, "app")
	client := exampleClient
	client.RedirectURIs = []string{a.Secure + "/oidc/callback"}
	n.provider.AddClient(client)
	alice := a.secureVisitor(t)
	if user := alice.received(alice.signIn("/page", provider.Alice)).Header.Get("X-User"); user != "alice@example.com" {
		t.Errorf("the application is told %q", user)
	}
	// The environment locks what a middleware may read.
	n.apply("login.yml", "issuer: https://id.example.com", "issuer: ${HOME}")
	n.eventually("the lock is said", func() bool { return strings.Contains(traefik.Log(0), "is not among the names in TRAEFIK_OIDC_ENV") })
}
