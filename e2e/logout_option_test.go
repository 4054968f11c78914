package e2e

import (
	"maps"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// pushed signs in, lets the provider post a logout token to /gone (OpenID Connect Back-Channel Logout 2.5), and says how that
// was answered and what the session is worth then. Members name who is gone; sid: true stands for the visitor's session.
func pushed(members map[string]any) func(v *visitor) string {
	return func(v *visitor) string {
		claims := map[string]any{
			"iss": v.app.provider.Issuer, "aud": v.app.name, "jti": uuid.NewString(),
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
			"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
		}
		sid := v.received(v.signIn("/", provider.Alice)).Header.Get("X-Sid")
		maps.Copy(claims, members)
		if members["sid"] == true {
			claims["sid"] = sid
		}
		token, err := v.app.provider.Sign(claims)
		if err != nil {
			v.t.Fatal(err)
		}
		resp, err := v.app.visitor(v.t).Client().PostForm(v.url("/gone"), url.Values{"logout_token": {token}})
		if err != nil {
			v.t.Fatal(err)
		}
		resp.Body.Close()
		return http.StatusText(resp.StatusCode) + ", " + v.outcome(v.look("/"))
	}
}

// TestLogoutPushedOptions has the cases of the options by which the provider ends sessions.
func TestLogoutPushedOptions(t *testing.T) {
	t.Parallel()
	const ended, still, refused = "OK, sign-in", "Unauthorized, application", "Bad Request, application"
	named := with{"forwardHeaders": with{"X-Sid": "sid"}}
	try(t, "backchannelLogoutUrl", site{with: named}, pushed(map[string]any{"sid": true}),
		row{drop, still}, row{"/gone", ended}, row{"{host}/gone", ended}, row{"http://{host}/gone", ended}, row{"elsewhere.example.com/gone", still})

	listening := site{with: with{"forwardHeaders": with{"X-Sid": "sid"}, "backchannelLogoutUrl": "/gone"}}
	try(t, "backchannelLogoutSessionsRequired", listening, pushed(map[string]any{"sub": "user-alice"}),
		row{drop, ended}, row{true, refused}, row{"true", refused}, row{"false", ended})

	try(t, "frontchannelLogoutUrl", site{with: named}, func(v *visitor) string {
		sid := v.received(v.signIn("/", provider.Alice)).Header.Get("X-Sid")
		query := url.Values{"iss": {v.app.provider.Issuer}, "sid": {sid}}
		frame := v.app.visitor(v.t) // a frame of another site, which gets none of our cookies
		return v.outcome(frame.look("/gone?"+query.Encode())) + ", " + v.outcome(v.look("/"))
	}, row{drop, "sign-in, application"}, row{"/gone", "OK, sign-in"}, row{"http://{host}/gone", "OK, sign-in"})
}

// TestLogoutForged: a back-channel logout that somebody else made up ends nothing.
func TestLogoutForged(t *testing.T) {
	t.Parallel()
	l := start(t)
	for name, members := range map[string]map[string]any{
		"of another issuer":  {"sid": true, "iss": "https://other.example.com"},
		"for another client": {"sid": true, "aud": "other"},
		"an ID token":        {"sid": true, "nonce": "n", "events": map[string]any{}},
		"about nobody":       {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := l.serve(t, site{with: with{"forwardHeaders": with{"X-Sid": "sid"}, "backchannelLogoutUrl": "/gone"}})
			if got := pushed(members)(app.visitor(t)); got != "Bad Request, application" {
				t.Errorf("got %s", got)
			}
		})
	}
}

// TestLogoutAddressOptions has the cases of the other forms of the addresses of sign-out: host and path, and a complete URL.
func TestLogoutAddressOptions(t *testing.T) {
	t.Parallel()
	try(t, "logoutUrl", site{}, func(v *visitor) string {
		v.signIn("/", provider.Alice)
		v.post("/leave", url.Values{})
		return yes(v.cookieNames() == "")
	}, row{"{host}/leave", "yes"}, row{"http://{host}/leave", "yes"}, row{"elsewhere.example.com/leave", "no"})

	leaving := site{with: with{"logoutUrl": "/logout", "bypass": "PathPrefix(`/bye`)"}, landings: []string{"/bye", "/bye2"}}
	try(t, "postLogoutRedirectUrl", leaving, func(v *visitor) string {
		v.signIn("/", provider.Alice)
		page := v.post("/logout", url.Values{})
		return page.URL.Scheme + " " + page.URL.Path
	}, row{"{host}/bye", "http /bye"}, row{"http://{host}/bye2", "http /bye2"}, row{"https://{host}/unknown", "http /end_session"})
}

// TestLogoutThroughNodeProvider: who signs out of one application is signed out of the other, because the provider tells it.
func TestLogoutThroughNodeProvider(t *testing.T) {
	t.Parallel()
	covers(t, "backchannelLogoutUrl", "backchannelLogoutSessionsRequired")
	l := start(t)
	one, two, three := l.newApp(t, site{}), l.newApp(t, site{}), l.newApp(t, site{})
	var clients []map[string]any
	for _, app := range []*app{one, two, three} {
		clients = append(clients, map[string]any{
			"client_id": app.name, "client_secret": app.secret(), "redirect_uris": []string{app.URL + "/oidc/callback"},
			"backchannel_logout_uri": app.URL + "/gone", "backchannel_logout_session_required": true,
		})
		t.Cleanup(func() { l.traefik.RemoveFile(app.name) })
	}
	node := l.nodeProvider(t, provider.NodeOptions{Clients: clients})
	for app, options := range map[*app]with{
		one: {"logoutUrl": "/logout"}, two: {"backchannelLogoutUrl": "/gone", "backchannelLogoutSessionsRequired": true}, three: {},
	} {
		options["issuer"] = node.Issuer
		if err := app.set(site{with: options}); err != nil {
			t.Fatal(err)
		}
	}
	alice := one.visitor(t)
	alice.signIn("/", provider.Alice)
	for _, app := range []*app{two, three} {
		if got := alice.outcome(alice.open(app.URL)); got != "application" {
			t.Fatalf("whoever is signed in at the provider got %s", got)
		}
	}
	alice.post("/logout", url.Values{})
	if page := alice.look(two.URL); page.Status != http.StatusFound {
		t.Errorf("the application that is told still lets Alice in: %s", page)
	}
	if page := alice.look(three.URL); page.Status != http.StatusOK {
		t.Errorf("the application that is not told has no session left: %s", page)
	}
}
