package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// Providers bend rules. Where that protects nobody the sign-in works, and one line says what is put up with; where it does, page and
// line say whose fault it is. docs/providers/README.md has the table.

// bent serves a site whose provider is like that to a visitor. The options may name ISSUER and BASE.
func bent(t *testing.T, like provider.Like, options with) (*visitor, *provider.Imitation) {
	t.Helper()
	p, err := provider.Imitate(like)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	made := both(with{"issuer": p.Issuer, "clientId": p.ID, "clientSecret": p.Secret}, options)
	return start(t).serve(t, site{with: replaced(made, strings.NewReplacer("ISSUER", p.Issuer, "BASE", p.Base))}).visitor(t), p
}

// told counts the lines of a site's log with these words.
func (a *app) told(words ...string) int {
	count := 0
	for _, line := range strings.Split(strings.ReplaceAll(a.log(), `\"`, `"`), "\n") {
		hasAll := true
		for _, word := range words {
			hasAll = hasAll && strings.Contains(line, word)
		}
		if hasAll {
			count++
		}
	}
	return count
}

// TestBentRefusals: a refresh is refused in many words, and all of them end the session, but those about the client, the rate and the
// server.
func TestBentRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"Dex", 400, `{"error":"invalid_request","error_description":"Refresh token is invalid or has already been claimed by another client."}`, "sign-in"},
		{"ZITADEL", 400, `{"error":"invalid_request","error_description":"Errors.User.NotActive"}`, "sign-in"},
		{"Pocket ID", 400, `{"error":"Refresh token is invalid or expired"}`, "sign-in"},
		{"Keycloak", 400, `{"error":"invalid_grant","error_description":"Token is not active"}`, "sign-in"},
		{"Keycloak, client policy", 403, `{"error":"not_allowed"}`, "sign-in"},
		{"Entra ID", 400, `{"error":"interaction_required","error_description":"AADSTS50076: ..."}`, "sign-in"},
		{"locked out", 403, `{"error":"access_denied"}`, "sign-in"},
		{"unauthorized", 401, `{"error":"access_denied"}`, "sign-in"},
		{"in a 200", 200, `{"error":"invalid_grant"}`, "sign-in"},
		{"wrong secret", 401, `{"error":"invalid_client"}`, in},
		{"grant not allowed", 400, `{"error":"unauthorized_client"}`, in},
		{"too often", 429, `{"error":"invalid_request"}`, in},
		{"broken", 502, `<h1>Bad Gateway</h1>`, in},
		{"a page instead", 200, `<h1>Back soon</h1>`, in},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v, p := bent(t, provider.Like{}, nil)
			v.received(v.open("/"))
			p.Instead("token", func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Content-Type", "application/json")
				rw.WriteHeader(c.status)
				fmt.Fprint(rw, c.body)
			})
			time.Sleep(2100 * time.Millisecond) // the access token's life
			page := v.look("/")
			got := v.outcome(page)
			if strings.HasPrefix(page.Header.Get("Location"), p.Base) {
				got = "sign-in"
			}
			if got != c.want {
				t.Fatalf("got %s, want %s\n%s", got, c.want, v.app.log())
			}
			if c.want == in {
				return
			}
			// An outage does not bring the session back.
			p.Away(true)
			time.Sleep(1100 * time.Millisecond)
			if page := v.fetch(http.MethodGet, "/"); page.Status != http.StatusUnauthorized {
				t.Errorf("while the provider is away: %s", page)
			}
		})
	}
}

// TestBentAnswers: what is not as it should be, and yet good enough.
func TestBentAnswers(t *testing.T) {
	t.Parallel()
	address := `"address":{"street":"1"},"address":{"street":"2"}`
	forward := with{"forwardHeaders": map[string]any{"X-User": "sub", "X-Street": "address.street"}}
	for _, c := range []struct {
		name    string
		like    provider.Like
		options with
		want    string
		says    string // once
	}{
		{"address twice in the ID token", provider.Like{Repeated: map[string]string{"id_token": address}}, forward, in, "id token: the provider's answer has a name twice"},
		{"sub twice in the ID token", provider.Like{Repeated: map[string]string{"id_token": `"sub":"user-bob"`}}, nil, "Bad Gateway", "must not have a name twice"},
		{"aud twice in the ID token", provider.Like{Repeated: map[string]string{"id_token": `"aud":"other"`}}, nil, "Bad Gateway", "must not have a name twice"},
		{"address twice in UserInfo", provider.Like{Repeated: map[string]string{"userinfo": address}}, both(forward, with{"userinfo": true}), in, "userinfo: the provider's answer has a name twice"},
		{"sub twice in UserInfo", provider.Like{Repeated: map[string]string{"userinfo": `"sub":"user-bob"`}}, with{"userinfo": true}, "Service Unavailable", "must not have a name twice"},
		{"a member twice in discovery", provider.Like{Repeated: map[string]string{"discovery": `"scopes_supported":[],"scopes_supported":["openid"]`}}, nil, in, "discovery: the provider's answer has a name twice"},
		{"the issuer twice in discovery", provider.Like{Repeated: map[string]string{"discovery": `"issuer":"https://other.example.com"`}}, nil, "Service Unavailable", ""},
		{"a member twice beside the keys", provider.Like{Repeated: map[string]string{"jwks": `"a":1,"a":2`}}, nil, in, "key set: the provider's answer has a name twice"},
		{"the keys twice", provider.Like{Repeated: map[string]string{"jwks": `"keys":[]`}}, nil, "Service Unavailable", "must not have a name twice"},
		{"scope twice in the token answer", provider.Like{Repeated: map[string]string{"token": `"scope":"a","scope":"b"`}}, nil, in, "token endpoint: the provider's answer has a name twice"},
		{"access_token twice", provider.Like{Repeated: map[string]string{"token": `"access_token":"a"`}}, nil, "Service Unavailable", "must not have a name twice"},
		{"UserInfo as a JWT", provider.Like{SignedUserinfo: true, Userinfo: map[string]any{"address": map[string]any{"street": "2"}}}, both(forward, with{"userinfo": true}), in, ""},
		{"a relative address for the sign-out", provider.Like{Metadata: map[string]any{"end_session_endpoint": "/end"}}, with{"logoutUrl": "/logout"}, in, "discovery: end_session_endpoint is left out"},
		{"a list where an address should be", provider.Like{Metadata: map[string]any{"revocation_endpoint": []string{"https://id.example.com/revoke"}}}, nil, in, "discovery: revocation_endpoint is left out"},
		{"a relative address for the sign-in", provider.Like{Metadata: map[string]any{"authorization_endpoint": "/at/authorize"}}, nil, misconfigured, ""},
		{"the same, with one that is configured", provider.Like{Metadata: map[string]any{"authorization_endpoint": "/at/authorize"}}, with{"endpoints.authorization": "BASE/at/authorize"}, in, ""},
		{"another issuer", provider.Like{Metadata: map[string]any{"issuer": "https://other.example.com"}}, nil, misconfigured, ""},
		{"the issuer in capitals", provider.Like{Path: "/Realm", Metadata: nil}, with{"issuer": "BASE/realm", "endpoints.discovery": "ISSUER/.well-known/openid-configuration"}, misconfigured, ""},
		{"an issuer with a slash more", provider.Like{Path: "/x"}, with{"issuer": "ISSUER/"}, in, "which counts from now on"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v, p := bent(t, c.like, c.options)
			page := v.open("/")
			if got := v.outcome(page); got != c.want {
				t.Fatalf("got %s, want %s\n%s", got, c.want, v.app.log())
			}
			if c.want == in && strings.Contains(c.name, "address twice") {
				if street := v.received(page).Header.Get("X-Street"); street != "2" {
					t.Errorf("the last one counts, got %q", street)
				}
			}
			if c.want == misconfigured && (!strings.Contains(page.Body, "configuration") || strings.Contains(page.Body, "moments") || v.app.told("configuration: discovery: ") == 0) {
				t.Errorf("page and line do not say that it is the configuration: %s\n%s", page.Body, v.app.log())
			}
			v.app.visitor(t).open("/")
			if count := v.app.told(c.says); c.says != "" && c.want == in && count != 1 || c.says != "" && count == 0 {
				t.Errorf("%d lines say %q:\n%s", count, c.says, v.app.log())
			}
			for _, endpoint := range []string{"openid-configuration", "jwks", "token", "userinfo"} {
				for _, call := range p.Calls(endpoint) {
					if !strings.HasPrefix(call.Header.Get("User-Agent"), "traefik-oidc/") {
						t.Errorf("%s was called by %q", endpoint, call.Header.Get("User-Agent"))
					}
				}
			}
		})
	}
}

// TestBentInnerAddress: discovery over an inner http address names http endpoints; browsers see the outer ones.
func TestBentInnerAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		discovery string
		want      string
	}{{"over http", "BASE/.well-known/openid-configuration", in}, {"of the issuer itself", "", misconfigured}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			like := provider.Like{Metadata: map[string]any{"issuer": "https://id.example.com"}, Claims: map[string]any{"iss": "https://id.example.com"}}
			options := with{"issuer": "https://id.example.com", "endpoints.discovery": c.discovery}
			if c.discovery == "" {
				options = with{"issuer": "ISSUER"} // another one than it says
			}
			v, _ := bent(t, like, options)
			if got := v.outcome(v.open("/")); got != c.want {
				t.Errorf("got %s, want %s\n%s", got, c.want, v.app.log())
			}
		})
	}
}

// TestBentPrompt: Google knows no prompt=login. What the operator says goes before what "Sign in as someone else" would ask for.
func TestBentPrompt(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`href="(/oidc/callback\?switch=[^"]*)"`)
	for _, c := range []struct {
		chosen with
		prompt string
		want   string
	}{{nil, "login", misconfigured}, {with{"authParams.prompt": "select_account"}, "select_account", "Forbidden"}, {with{"authParams.prompt": ""}, "", "Forbidden"}} {
		like := provider.Like{Refused: []string{"prompt=login"}}
		v, p := bent(t, like, both(with{"claims": "Equals(`sub`, `somebody else`)"}, c.chosen))
		found := link.FindStringSubmatch(v.open("/").Body)
		if found == nil {
			t.Fatal("no way to another account")
		}
		if got := v.outcome(v.open(strings.ReplaceAll(found[1], "&amp;", "&"))); got != c.want {
			t.Errorf("with %v: got %s, want %s", c.chosen, got, c.want)
		}
		calls := p.Calls("authorize")
		if last := calls[len(calls)-1].Query; last.Get("prompt") != c.prompt {
			t.Errorf("expected prompt %q, got %q", c.prompt, last["prompt"])
		}
	}
}

// TestBentLogout: Entra ID's frames name the session alone, and only where ID tokens have its name; nobody is called signed out who is not.
func TestBentLogout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, sid, query string
		status           int
		isOut            bool
	}{
		{"the session's name", "s1", "sid=s1", 200, true},
		{"name and issuer", "s1", "sid=s1&iss=ISSUER", 200, true},
		{"another's issuer", "s1", "sid=s1&iss=https://other.example.com", 400, false},
		{"a name that no ID token had", "", "sid=unknown", 200, false},
		{"nothing", "s1", "", 400, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			like := provider.Like{}
			if c.sid != "" {
				like.Claims = map[string]any{"sid": c.sid}
			}
			v, p := bent(t, like, with{"frontchannelLogoutUrl": "/framed"})
			v.received(v.open("/"))
			frame := v.app.visitor(t).open("/framed?" + strings.ReplaceAll(c.query, "ISSUER", url.QueryEscape(p.Issuer)))
			if frame.Status != c.status || strings.Contains(frame.Body, "Signed out") != c.isOut {
				t.Errorf("the frame shows %s", frame)
			}
			if page := v.fetch(http.MethodGet, "/"); (page.Status == http.StatusUnauthorized) != c.isOut {
				t.Errorf("afterwards: %s", page)
			}
		})
	}
}

// TestBentLogoutToken: a logout token with the session of one user and the name of another ends neither's.
func TestBentLogoutToken(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]with{"cookies": nil, "Redis": storing(newRedis(t))} {
		v, p := bent(t, provider.Like{Claims: map[string]any{"sid": "s1"}}, both(options, with{"backchannelLogoutUrl": "/gone"}))
		v.received(v.open("/"))
		for _, claims := range []map[string]any{{"sid": "s1", "sub": "user-bob"}, {"sid": "s2", "sub": "user-alice"}} {
			if page := v.app.visitor(t).post("/gone", url.Values{"logout_token": {p.LogoutToken(claims)}}); page.Status != http.StatusOK {
				t.Errorf("%s: %v: %s", name, claims, page)
			}
			time.Sleep(2100 * time.Millisecond) // a local copy's life
			if page := v.fetch(http.MethodGet, "/"); page.Status != http.StatusOK {
				t.Errorf("%s: %v ended the session: %s", name, claims, page)
			}
		}
		v.app.visitor(t).post("/gone", url.Values{"logout_token": {p.LogoutToken(map[string]any{"sid": "s1", "sub": "user-alice"})}})
		time.Sleep(2100 * time.Millisecond)
		if page := v.fetch(http.MethodGet, "/"); page.Status != http.StatusUnauthorized {
			t.Errorf("%s: afterwards: %s", name, page)
		}
	}
}
