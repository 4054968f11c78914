package e2e

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// Docker labels bring every value as text. No Docker runs here, but Traefik's key-value providers decode in the same way, so a second
// Traefik gets its routes from a Redis. Each case of an option that is not a text (see try) is tried there as well.

// labels is what the cases by labels share.
var labels struct {
	once  sync.Once
	lab   *lab
	redis *redis
	err   error
}

// labelled is the lab with the Traefik that reads text.
func (l *lab) labelled(t *testing.T) *lab {
	t.Helper()
	need(t, "redis-server")
	labels.once.Do(func() { labels.err = l.startLabels(t) })
	if labels.err != nil {
		t.Fatal(labels.err)
	}
	return labels.lab
}

func (l *lab) startLabels(t *testing.T) error {
	port, err := parts.FreePort()
	if err != nil {
		return err
	}
	labels.redis = &redis{port: port, dir: l.dir}
	labels.redis.run(t)
	copied := *l
	copied.isLabelled = true
	copied.traefik, err = l.newTraefik("labels", parts.TraefikOptions{Static: map[string]any{
		"providers": map[string]any{"redis": map[string]any{"endpoints": []string{labels.redis.addr()}}},
	}})
	labels.lab = &copied
	return err
}

func stopLabels() {
	if labels.lab != nil && labels.lab.traefik != nil {
		labels.lab.traefik.Stop()
	}
	if labels.redis != nil && labels.redis.Process != nil {
		labels.redis.Stop()
	}
}

// setLabels makes Traefik serve a route by keys, which are what labels are with slashes for dots.
func (a *app) setLabels(route parts.Route) error {
	pairs := map[string]string{
		"http/routers/" + a.name + "/rule":                        route.Rule,
		"http/routers/" + a.name + "/service":                     a.name,
		"http/services/" + a.name + "/loadbalancer/servers/0/url": route.Backend,
	}
	if route.Options != nil {
		pairs["http/routers/"+a.name+"/middlewares/0"] = a.name
		asText(pairs, "http/middlewares/"+a.name+"/plugin/oidc", reflect.ValueOf(route.Options))
	}
	command := []string{"MSET"}
	for key, value := range pairs {
		command = append(command, "traefik/"+key, value)
	}
	a.forgetLabels(pairs)
	if said := labels.redis.try(command...); said != "OK" {
		return fmt.Errorf("redis-cli MSET: %s", said)
	}
	// Traefik scans the keys, which takes its time: a scan under way may see one of ours and not the others. The next one sees all.
	for range 2 {
		a.version++
		version := strconv.Itoa(a.version)
		labels.redis.try("SET", "traefik/http/middlewares/0-"+a.name+"/headers/customrequestheaders/Mark", version)
		if err := a.lab.traefik.WaitForMark("0-"+a.name+"@redis", "Mark", version); err != nil {
			return err
		}
	}
	return a.lab.traefik.RouteError(a.name + "@redis")
}

// forgetLabels takes the keys away that the app had and has no more; nil: all of them.
func (a *app) forgetLabels(now map[string]string) {
	var gone []string
	if now == nil {
		gone = append(gone, "traefik/http/middlewares/0-"+a.name+"/headers/customrequestheaders/Mark")
	}
	for key := range a.keys {
		if _, stays := now[key]; !stays {
			gone = append(gone, "traefik/"+key)
		}
	}
	if len(gone) > 0 {
		labels.redis.try(append([]string{"DEL"}, gone...)...)
	}
	a.keys = now
}

// asText writes a value as a label would have it. An empty text, list or block does not arrive; a block that is switched on by being
// there is "true".
func asText(pairs map[string]string, key string, value reflect.Value) {
	for value.Kind() == reflect.Interface || value.Kind() == reflect.Pointer {
		value = value.Elem()
	}
	switch value.Kind() {
	case reflect.Map:
		if value.Len() == 0 {
			pairs[key] = "true"
		}
		var joined []string
		for _, name := range value.MapKeys() {
			if _, err := strconv.Atoi(name.String()); err == nil { // the provider would make a list of them
				joined = append(joined, fmt.Sprintf("%s=%v", name, value.MapIndex(name)))
				pairs[key] = strings.Join(joined, ",")
				continue
			}
			asText(pairs, key+"/"+name.String(), value.MapIndex(name))
		}
	case reflect.Slice:
		var items []string
		for i := range value.Len() {
			items = append(items, fmt.Sprint(value.Index(i)))
		}
		joined := strings.Join(items, ",")
		if strings.Count(joined, ",") == len(items)-1 {
			pairs[key] = joined
			return
		}
		for i, item := range items {
			pairs[key+"/"+strconv.Itoa(i)] = item
		}
	default:
		pairs[key] = fmt.Sprint(value)
	}
}

// TestLabels signs in with everything that labels can make difficult in one block: rules with back-ticks, commas and spaces, lists
// in both forms, maps, switches, numbers, blocks in blocks, and a block that is only switched on.
func TestLabels(t *testing.T) {
	t.Parallel()
	l := start(t).labelled(t)
	a := l.serve(t, site{callbacks: []string{"/back"}, with: with{
		"redirectUrl":        "/back",
		"scopes":             []string{"openid", "email", "profile", "offline_access"},
		"pkce":               true,
		"maxAge":             3600,
		"claims":             "(Contains(`groups`, `admins`) || OneOf(`email`, `a,b`, \"c, d\")) && !Equals(`name`, `Bob, the Builder`)",
		"bypass":             "Path(`/open`) || (Method(`GET`) && PathPrefix(`/free/`))",
		"forwardHeaders":     map[string]string{"X-User": "email", "X-Both": "{name}, {email}"},
		"authParams":         map[string]string{"ui_locales": "de en"},
		"unauthenticated":    "auto",
		"csrf":               map[string]any{},
		"session.sliding":    false,
		"session.expiry":     600,
		"session.sameSite":   "lax",
		"stateCookie.maxAge": 300,
		"clientConfig":       map[string]any{"timeoutSeconds": 4, "maxRetries": 0, "tls": map[string]any{"insecureSkipVerify": false}},
		"errorPages":         map[string]any{"403": filepath.Join(l.root, "examples", "error-pages", "403.html")},
	}})
	alice := a.visitor(t)
	received := alice.received(alice.signIn("/", provider.Alice))
	if got := received.Header.Get("X-User") + " · " + received.Header.Get("X-Both"); got != "alice@example.com · Alice Liddell, alice@example.com" {
		t.Errorf("the application is told %q", got)
	}
	if got := alice.outcome(alice.post("/", nil)); got != "Forbidden" {
		t.Errorf("a post without the CSRF token: got %s", got)
	}
	bob := a.visitor(t)
	if got := bob.outcome(bob.must(bob.SignIn(bob.url("/"), provider.Bob.Name, provider.Bob.Password))); got != "Forbidden" {
		t.Errorf("Bob: got %s", got)
	}
	for path, want := range map[string]string{"/open": "application", "/free/x": "application", "/other": "sign-in"} {
		nobody := a.visitor(t)
		if got := nobody.outcome(nobody.look(path)); got != want {
			t.Errorf("%s without a session: got %s, want %s", path, got, want)
		}
	}
}

// TestLabelsRefused: what is wrong with a label is said like everything else.
func TestLabelsRefused(t *testing.T) {
	t.Parallel()
	l := start(t).labelled(t)
	for _, c := range []struct {
		option string
		value  any
		want   string
	}{
		{"session.sliding", "yes", `session.sliding: must be true or false, got "yes"`},
		{"session.expiry", "1h", `session.expiry: must be a whole number without a unit, got "1h"; write seconds`},
		{"claims", "Contains(`groups`, `admins`", `claims: position 28: expected "," or ")", found the end`},
		{"forwardHeader", map[string]string{"X-User": "email"}, `forwardHeader: unknown option; did you mean "forwardHeaders"?`},
		{"claims", " ", "claims: is there and empty"},
		{"acrValues", ",", "acrValues: is there and empty"},
		{"csrf", "on", "csrf: must be a block of options"},
		{"clientSecret", "urn:k8s:secret:oidc:secret", "clientSecret: urn:k8s:secret:name:key is resolved only by Traefik's Kubernetes CRD provider"},
	} {
		t.Run(c.option, func(t *testing.T) {
			t.Parallel()
			if said := l.refuse(t, site{with: with{c.option: c.value}}); !strings.Contains(said, c.want) {
				t.Errorf("expected %q, got %s", c.want, said)
			}
		})
	}
}
