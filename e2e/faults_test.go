package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// alarms are the lines about an app that Traefik shows as errors, but for the warnings at its start.
func (a *app) alarms() []string {
	var lines []string
	for line := range strings.Lines(a.log()) {
		if strings.Contains(line, "ERR") && (strings.Contains(line, "unavailable") || strings.Contains(line, "503")) {
			lines = append(lines, line)
		}
	}
	return lines
}

// madeUp brings tokens that nobody issued, or for something else: each is its caller's fault, and no operator is called for it. real is
// a token that must still be good afterwards, if there is one.
func madeUp(t *testing.T, a *app, real string) {
	t.Helper()
	v := a.visitor(t)
	jwt := newToken(t, "ES256", newKey(t, "ES256"), map[string]any{"iss": a.provider.Issuer})
	for _, token := range []string{"x", "made-up", strings.Repeat("a", 20<<10), jwt, jwt + "x", strings.TrimRight(jwt, "x"), "a.b.c", "..", "eyJhbGciOiJub25lIn0.e30.", "%00", "<script>", "'; DROP TABLE tokens", "{}",
		"a b c", "00000000-0000-0000-0000-000000000000", "YTpi", "+/=="} {
		page := v.call(http.MethodGet, "/", "", "Authorization: Bearer "+token)
		if got := v.outcome(page); got != out {
			t.Errorf("%.40s: got %s", token, got)
		}
	}
	if lines := a.alarms(); len(lines) > 0 {
		t.Errorf("the operator was called:\n%s", strings.Join(lines, ""))
	}
	if real != "" {
		if got := bring("Authorization: Bearer " + real)(v); got != in {
			t.Errorf("a good token afterwards: %s", got)
		}
	}
}

// TestIntrospectionMadeUp: made-up tokens at real providers, and our own wrong credentials there.
func TestIntrospectionMadeUp(t *testing.T) {
	t.Parallel()
	l := start(t)
	const secret = "a secret of our own"
	node := l.nodeProvider(t, provider.NodeOptions{Clients: []map[string]any{{
		"client_id": "machine", "client_secret": secret, "redirect_uris": []string{}, "response_types": []string{}, "grant_types": []string{"client_credentials"},
	}}})
	p := newProvider(t, provider.Options{Clients: []provider.Client{machine}})
	for _, at := range []struct{ name, issuer, secret string }{{"oidc-provider", node.Issuer, secret}, {"zitadel", p.Issuer, machine.Secret}} {
		t.Run(at.name, func(t *testing.T) { // ends before the provider does
			with := with{"oAuthIntrospection.clientConfig.url": at.issuer + "/introspect", "oAuthIntrospection.clientConfig.headers": with{"Authorization": basic("machine", at.secret)}}
			madeUp(t, l.serve(t, asking(p, with)), ownToken(t, at.issuer, "machine", at.secret, url.Values{}))
			with["oAuthIntrospection.clientConfig.headers"] = map[string]any{"Authorization": basic("machine", "wrong")}
			app := l.serve(t, asking(p, with))
			v := app.visitor(t)
			for i := range 20 {
				page := v.call(http.MethodGet, "/", "", fmt.Sprint("Authorization: Bearer made-up-", i))
				if got := v.outcome(page); got != "Service Unavailable" {
					t.Errorf("with wrong credentials: %s", got)
				}
			}
			if lines := app.alarms(); len(lines) == 0 || len(lines) > 4 || !strings.Contains(lines[0], "check the client's credentials, and that it may introspect") {
				t.Errorf("%d alarms:\n%s", len(lines), strings.Join(lines, ""))
			}
		})
	}
}

// TestIntrospectionOutage: an outage costs the provider a question now and then, and the operator a line; when it is over, tokens are good
// within the pause.
func TestIntrospectionOutage(t *testing.T) {
	t.Parallel()
	l := start(t)
	p := newProvider(t, provider.Options{Clients: []provider.Client{machine}})
	app := l.serve(t, asking(p, with{"oAuthIntrospection.clientConfig.maxRetries": 0, "oAuthIntrospection.cacheSeconds": 60}))
	known, fresh := ownToken(t, p.Issuer, machine.ID, machine.Secret, nil), ownToken(t, p.Issuer, machine.ID, machine.Secret, nil)
	v := app.visitor(t)
	if got := bring("Authorization: Bearer " + known)(v); got != in {
		t.Fatal(got)
	}
	p.Instead("introspect", func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "back soon", http.StatusBadGateway) })
	before := len(p.Calls("introspect"))
	began := time.Now()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			w := app.visitor(t)
			for k := range 25 {
				if got := bring(fmt.Sprintf("Authorization: Bearer made-up-%d-%d", i, k))(w); got != "Service Unavailable" {
					t.Errorf("a made-up token: %s", got)
				}
			}
		})
	}
	all.Wait()
	if got := bring("Authorization: Bearer " + known)(v); got != in {
		t.Errorf("a token that is remembered: %s", got)
	}
	allowed := 6 + int(time.Since(began).Seconds()) // four at once when it begins
	if n := len(p.Calls("introspect")) - before; n > allowed {
		t.Errorf("%d questions in %s", n, time.Since(began))
	}
	if lines := app.alarms(); len(lines) == 0 || len(lines) > allowed+1+int(time.Since(began).Seconds())/10 {
		t.Errorf("%d alarms in %s", len(lines), time.Since(began))
	}
	p.Instead("introspect", nil)
	for over := time.Now(); time.Since(over) < 35*time.Second; {
		if got := bring("Authorization: Bearer " + fresh)(v); got == in {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Error("the provider is not asked again")
}
