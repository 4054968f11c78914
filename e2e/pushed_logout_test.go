package e2e

import (
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// logoutToken is a logout token for an app (OpenID Connect Back-Channel Logout 2.4). Members are added; nil takes one away.
func (a *app) logoutToken(t *testing.T, members map[string]any) string {
	t.Helper()
	claims := map[string]any{
		"iss": a.provider.Issuer, "aud": a.name, "jti": uuid.NewString(),
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	maps.Copy(claims, members)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	token, err := a.provider.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// push posts a logout token to /gone as the provider does, and returns the answer.
func (a *app) push(t *testing.T, token string) *http.Response {
	t.Helper()
	resp, err := a.visitor(t).Client().PostForm(a.URL+"/gone", url.Values{"logout_token": {token}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control is %q", resp.Header.Get("Cache-Control"))
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusBadRequest {
		t.Errorf("the answer is %s, neither 200 nor 400", resp.Status)
	}
	return resp
}

// listening is a site that the provider can tell of logouts.
var listening = with{"backchannelLogoutUrl": "/gone", "frontchannelLogoutUrl": "/frame", "forwardHeaders": with{"X-Sid": "sid"}}

// goneWithin waits until none of the clients is let in, and fails after three seconds.
func goneWithin(t *testing.T, r *replicas, clients []*browser.Browser) {
	t.Helper()
	began := time.Now()
	for i, client := range clients {
		for fetchStatus(client, r.apps[i%len(r.apps)].URL) == "200" {
			time.Sleep(20 * time.Millisecond)
			if time.Since(began) > 3*time.Second {
				t.Fatalf("replica %d lets the session in three seconds after its end", i)
			}
		}
	}
	t.Logf("gone everywhere after %s", time.Since(began).Round(10*time.Millisecond))
}

// TestBackChannelReplicas: a logout that one replica is told of reaches all of them, and its token is good for one replica only.
func TestBackChannelReplicas(t *testing.T) {
	t.Parallel()
	store := newRedis(t)
	r := serveReplicas(t, 3, site{with: both(storing(store), listening)})
	first := r.apps[0]
	signIn := func(user provider.User) (*visitor, string, []*browser.Browser) {
		v := first.visitor(t)
		sid := v.received(v.signIn("/", user)).Header.Get("X-Sid")
		var clients []*browser.Browser
		for _, a := range r.apps {
			clients = append(clients, a.old(t, v))
			if got := fetchStatus(clients[len(clients)-1], a.URL); got != "200" {
				t.Fatalf("signed in, and answered %s", got)
			}
		}
		return v, sid, clients
	}
	_, sid, one := signIn(provider.Alice)
	_, _, two := signIn(provider.Alice)
	_, _, bob := signIn(provider.Bob)

	token := first.logoutToken(t, map[string]any{"sid": sid, "sub": "user-alice"})
	if resp := r.apps[1].push(t, token); resp.StatusCode != http.StatusOK {
		t.Fatalf("a logout by sid: %s", resp.Status)
	}
	goneWithin(t, r, one)
	for i, a := range r.apps {
		if resp := a.push(t, token); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("replica %d takes the same token again: %s", i, resp.Status)
		}
		if got := fetchStatus(two[i], a.URL); got != "200" {
			t.Errorf("another session of the same user: %s", got)
		}
	}

	if resp := r.apps[2].push(t, first.logoutToken(t, map[string]any{"sub": "user-alice"})); resp.StatusCode != http.StatusOK {
		t.Fatalf("a logout by sub: %s", resp.Status)
	}
	goneWithin(t, r, two)
	for i, a := range r.apps {
		if got := fetchStatus(bob[i], a.URL); got != "200" {
			t.Errorf("another user: %s", got)
		}
	}
	if rest := store.keys(t, first, "session:"); len(rest) != 1 {
		t.Errorf("Redis has %d sessions, expected Bob's only", len(rest))
	}
	again := first.visitor(t)
	if got := again.outcome(again.signIn("/", provider.Alice)); got != "application" {
		t.Errorf("a sign-in after the logout: %s", got)
	}
	if resp := first.push(t, first.logoutToken(t, map[string]any{"sid": "never heard of"})); resp.StatusCode != http.StatusOK {
		t.Errorf("a session that is not here: %s", resp.Status)
	}
}

// TestBackChannelRules: only a good logout token ends a session, wherever it is kept.
func TestBackChannelRules(t *testing.T) {
	t.Parallel()
	store := newRedis(t)
	for kept, where := range map[string]with{"in Redis": storing(store), "in cookies": {}} {
		t.Run(kept, func(t *testing.T) {
			t.Parallel()
			app := start(t).serve(t, site{with: both(where, listening)})
			alice := app.visitor(t)
			sid := alice.received(alice.signIn("/", provider.Alice)).Header.Get("X-Sid")
			past := time.Now().Add(-time.Hour).Unix()
			for name, wrong := range map[string]map[string]any{
				"of another issuer":      {"iss": "https://other.example.com"},
				"for another client":     {"aud": "other"},
				"that has expired":       {"exp": past},
				"that never expires":     {"exp": nil},
				"without iat":            {"iat": nil},
				"without jti":            {"jti": nil},
				"without sid and sub":    {"sid": nil},
				"without an event":       {"events": nil},
				"with an event as array": {"events": []string{"http://schemas.openid.net/event/backchannel-logout"}},
				"with a nonce":           {"nonce": ""},
				"with a nonce that is 0": {"nonce": 0},
			} {
				members := map[string]any{"sid": sid}
				maps.Copy(members, wrong)
				if resp := app.push(t, app.logoutToken(t, members)); resp.StatusCode != http.StatusBadRequest {
					t.Errorf("a logout token %s: %s", name, resp.Status)
				}
			}
			good := app.logoutToken(t, map[string]any{"sid": sid})
			for name, token := range map[string]string{"cut": good[:len(good)-4], "unsigned": good[:strings.LastIndexByte(good, '.')+1], "empty": ""} {
				if resp := app.push(t, token); resp.StatusCode != http.StatusBadRequest {
					t.Errorf("a token that is %s: %s", name, resp.Status)
				}
			}
			if got := alice.outcome(alice.look("/")); got != "application" {
				t.Fatalf("after bad tokens only: %s", got)
			}
			if resp := app.push(t, good); resp.StatusCode != http.StatusOK {
				t.Errorf("a good token: %s", resp.Status)
			}
			if got := alice.outcome(alice.look("/")); got != "sign-in" {
				t.Errorf("after a good token: %s", got)
			}
			if resp := app.push(t, good); resp.StatusCode != http.StatusBadRequest {
				t.Errorf("the same token again: %s", resp.Status)
			}
			warned := strings.Contains(app.log(), "backchannelLogoutUrl: sessions are in cookies, so only this Traefik learns of a logout")
			if warned != (kept == "in cookies") {
				t.Errorf("sessions %s, warned: %v", kept, warned)
			}
		})
	}
}

// TestBackChannelOutage: a logout that Redis fails is no success, and the same token works when Redis is back.
func TestBackChannelOutage(t *testing.T) {
	t.Parallel()
	store := newRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	app := start(t).serve(t, site{with: both(storing(store), listening)})
	alice := app.visitor(t)
	alice.signIn("/", provider.Alice)
	token := app.logoutToken(t, map[string]any{"sub": "user-alice"})
	store.Kill()
	if resp := app.push(t, token); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("while Redis is away: %s", resp.Status)
	}
	store.run(t)
	if resp := app.push(t, token); resp.StatusCode != http.StatusOK {
		t.Errorf("the same token after Redis is back: %s", resp.Status)
	}
	if got := alice.outcome(alice.look("/")); got != "sign-in" {
		t.Errorf("after the logout: %s", got)
	}
}

// TestFrontChannelReplicas: sid is required, and iss must fit where it is sent; the frame needs no cookie, reaches every replica, and is the one
// answer that may be framed.
func TestFrontChannelReplicas(t *testing.T) {
	t.Parallel()
	r := serveReplicas(t, 2, site{with: both(storing(newRedis(t)), listening)})
	app := r.apps[0]
	alice := app.visitor(t)
	sid := alice.received(alice.signIn("/", provider.Alice)).Header.Get("X-Sid")
	clients := []*browser.Browser{r.apps[0].old(t, alice), r.apps[1].old(t, alice)}
	frame := app.visitor(t)
	for name, query := range map[string]url.Values{
		"nothing": {}, "iss only": {"iss": {app.provider.Issuer}},
		"another issuer": {"iss": {"https://other.example.com"}, "sid": {sid}},
		"iss twice":      {"iss": {app.provider.Issuer, app.provider.Issuer}, "sid": {sid}},
		"sid twice":      {"iss": {app.provider.Issuer}, "sid": {sid, "x"}},
		"empty sid":      {"iss": {app.provider.Issuer}, "sid": {""}},
	} {
		page := frame.look("/frame?" + query.Encode())
		if page.Status != http.StatusBadRequest || mayBeFramed(page) {
			t.Errorf("with %s: %d, may be framed: %v", name, page.Status, mayBeFramed(page))
		}
	}
	for i, client := range clients {
		if got := fetchStatus(client, r.apps[i].URL); got != "200" {
			t.Fatalf("after bad calls only: %s", got)
		}
	}
	page := frame.look("/frame?" + url.Values{"iss": {app.provider.Issuer}, "sid": {sid}}.Encode())
	if page.Status != http.StatusOK || !mayBeFramed(page) || page.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("iss and sid: %s, %v", page, page.Header)
	}
	goneWithin(t, r, clients)
}

func mayBeFramed(page *browser.Page) bool {
	return page.Header.Get("X-Frame-Options") == "" && !strings.Contains(page.Header.Get("Content-Security-Policy"), "frame-ancestors")
}

// TestBackChannelNode: npm oidc-provider posts to every application of a session when its user signs out of one.
func TestBackChannelNode(t *testing.T) {
	t.Parallel()
	need(t, "node")
	l := start(t)
	store := newRedis(t)
	one, two := l.newApp(t, site{}), l.newApp(t, site{})
	var clients []map[string]any
	for _, a := range []*app{one, two} {
		clients = append(clients, map[string]any{
			"client_id": a.name, "client_secret": a.secret(), "redirect_uris": []string{a.URL + "/oidc/callback"},
			"backchannel_logout_uri": a.URL + "/gone", "backchannel_logout_session_required": true,
		})
		t.Cleanup(func() { l.traefik.RemoveFile(a.name) })
	}
	node := l.nodeProvider(t, provider.NodeOptions{Clients: clients})
	for _, a := range []*app{one, two} {
		options := both(storing(store), with{"issuer": node.Issuer, "logoutUrl": "/logout", "backchannelLogoutUrl": "/gone", "backchannelLogoutSessionsRequired": true})
		if err := a.set(site{with: options}); err != nil {
			t.Fatal(err)
		}
	}
	alice := one.visitor(t)
	alice.signIn("/", provider.Alice)
	if got := alice.outcome(alice.open(two.URL)); got != "application" {
		t.Fatalf("whoever is signed in at the provider got %s", got)
	}
	if len(store.keys(t, one, "session:")) != 1 || len(store.keys(t, two, "session:")) != 1 {
		t.Fatal("expected a session of each application in Redis")
	}
	alice.post("/logout", url.Values{})
	if page := alice.look(two.URL); page.Status != http.StatusFound {
		t.Errorf("the application that was told lets Alice in: %s", page)
	}
	if left := append(store.keys(t, one, "session:"), store.keys(t, two, "session:")...); len(left) != 0 {
		t.Errorf("Redis still has %v", left)
	}
	t.Logf("what oidc-provider was answered: %v", strings.Contains(two.log(), "logout by the provider"))
}

// TestFrontChannelNode: a person signs out at npm oidc-provider (6, the last that has front-channel logout), whose page loads every
// application of the session in a frame. That ends the session wherever it is kept, but not where the frame names no iss and sid.
func TestFrontChannelNode(t *testing.T) {
	t.Parallel()
	need(t, "chromium")
	l := start(t)
	cookies, redis, nameless := l.newApp(t, site{}), l.newApp(t, site{}), l.newApp(t, site{})
	var clients []map[string]any
	for _, a := range []*app{cookies, redis, nameless} {
		clients = append(clients, map[string]any{
			"client_id": a.name, "client_secret": a.secret(), "redirect_uris": []string{a.URL + "/oidc/callback"},
			"frontchannel_logout_uri": a.URL + "/frame", "frontchannel_logout_session_required": a != nameless,
		})
		t.Cleanup(func() { l.traefik.RemoveFile(a.name) })
	}
	node := l.nodeProvider(t, provider.NodeOptions{Clients: clients, Settings: map[string]any{"frontchannelLogout": true}})
	framed := framedBy(node)
	for a, where := range map[*app]with{cookies: {}, redis: storing(newRedis(t)), nameless: {}} {
		options := with{"issuer": node.Issuer, "frontchannelLogoutUrl": "/frame", "forwardHeaders": with{"X-User": "sub", "X-Sid": "sid"}}
		if err := a.set(site{with: both(options, where)}); err != nil {
			t.Fatal(err, a.log())
		}
	}

	tab := cookies.window(t).tab()
	tab.open("/")
	tab.signIn(provider.Alice)
	want := []string{nameless.URL + "/frame?"}
	for _, a := range []*app{cookies, redis, nameless} {
		tab.open(a.URL + "/")
		tab.see("You are user-alice.")
		told, _ := l.upstream.Received(tab.document().Headers["x-upstream-request"])
		iss, sid := []string{node.Issuer}, []string{told.Header.Get("X-Sid")}
		if a != nameless {
			want = append(want, a.URL+"/frame?"+url.Values{"iss": iss, "sid": sid}.Encode())
		}
		for _, wrong := range []url.Values{{"iss": {l.provider.Issuer}, "sid": sid}, {"iss": iss}, {"iss": iss, "sid": {sid[0] + "x"}}} {
			a.visitor(t).look("/frame?" + wrong.Encode())
		}
		tab.open(a.URL + "/")
		tab.see("You are user-alice.")
		if n := len(node.Calls("authorize", a.name)); n != 1 {
			t.Errorf("%d sign-ins at %s: a frame of another issuer or session has ended the first", n, a.name)
		}
	}
	tab.expect("frame-ancestors") // what is refused must not be framed
	tab.expect("status of 400")
	tab.open(node.Issuer + "/end_session")
	tab.see("You are signed out of oidc-provider.")

	slices.Sort(want)
	if got := <-framed; !slices.Equal(got, want) {
		t.Errorf("oidc-provider frames %q, expected %q", got, want)
	}
	tab.open(nameless.URL + "/")
	tab.see("You are user-alice.")
	for _, a := range []*app{cookies, redis} {
		tab.open(a.URL + "/")
		tab.see("Sign in to " + a.name)
	}
}

// framedBy tells which addresses the sign-out page of npm oidc-provider loads in frames, each with its parameters in order.
func framedBy(node *provider.Node) <-chan []string {
	framed := make(chan []string, 9)
	node.Instead("confirm", func(rw http.ResponseWriter, req *http.Request) {
		page := httptest.NewRecorder()
		node.Pass(page, req)
		var addresses []string
		for _, found := range frame.FindAllStringSubmatch(page.Body.String(), -1) {
			address, query, _ := strings.Cut(html.UnescapeString(found[1]), "?")
			values, _ := url.ParseQuery(query)
			addresses = append(addresses, address+"?"+values.Encode())
		}
		slices.Sort(addresses)
		framed <- addresses
		maps.Copy(rw.Header(), page.Header())
		rw.WriteHeader(page.Code)
		rw.Write(page.Body.Bytes())
	})
	return framed
}
