package oidc

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// whoseFault are answers of introspection endpoints, and whose fault they are: docs/apis.md has the same table.
var whoseFault = []struct {
	status      int
	code, whose string
}{
	{400, "unsupported_token_type", "token"}, {400, "invalid_token", "token"}, {400, "invalid_grant", "token"}, {404, "invalid_token", "token"}, {422, "invalid_token", "token"},
	{400, "invalid_request", "token"}, {400, "invalid_scope", "token"}, {400, "unsupported_grant_type", "token"}, {400, "", "token"}, {422, "", "token"}, {400, "server_error", "token"},
	{413, "", "token"}, {414, "", "token"}, {431, "", "token"},
	{500, "", "question"}, {500, "invalid_token", "question"},
	{401, "", "client"}, {401, "invalid_token", "client"}, {401, "invalid_client", "client"}, {401, "invalid_request", "client"}, {403, "", "client"}, {403, "insufficient_scope", "client"},
	{403, "access_denied", "client"}, {400, "invalid_client", "client"}, {400, "unauthorized_client", "client"}, {400, "access_denied", "client"},
	{408, "", "provider"}, {425, "", "provider"}, {429, "", "provider"}, {429, "slow_down", "provider"}, {502, "", "provider"}, {503, "", "provider"}, {503, "temporarily_unavailable", "provider"},
	{504, "", "provider"}, {522, "", "provider"}, {400, "temporarily_unavailable", "provider"},
	{201, "", "address"}, {204, "", "address"}, {302, "", "address"}, {307, "", "address"}, {404, "", "address"}, {405, "", "address"}, {406, "", "address"}, {410, "", "address"},
	{415, "", "address"}, {418, "", "address"},
}

// TestIntrospectionFaults: whose fault an answer is decides what the caller is told, whether the operator is called, and for how long the
// provider is left alone.
func TestIntrospectionFaults(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/apis.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range faults {
		if !strings.Contains(string(page), "\n| "+row[1]+" | ") {
			t.Errorf("docs/apis.md has no row for a fault of the %s", row[1])
		}
	}
	for _, row := range whoseFault {
		row := row
		t.Run(fmt.Sprint(row.status, row.code), func(t *testing.T) {
			t.Parallel()
			p := newProvider(t)
			body := map[string]any{"error": row.code}
			if row.code == "" {
				body = nil
			}
			p.answer("introspection", answerJSON(row.status, body))
			s := start(t, introspectionOptions(p, map[string]any{"clientConfig": map[string]any{"url": p.issuer + "/introspect", "maxRetries": 0}}))
			wanted := map[string]int{"token": 401}[row.whose]
			if wanted == 0 {
				wanted = 503
			}
			began := time.Now()
			for i := 0; i < 3; i++ { // one token has one answer for some seconds
				if r := bearer(t, s, "one"); r.status != wanted {
					t.Fatalf("expected %d:\n%s", wanted, r.story())
				}
			}
			isSlow := time.Since(began) > 900*time.Millisecond // on a busy machine the pause is over meanwhile
			if p.count("introspection") != 1 && !isSlow {
				t.Errorf("one token: %d calls", p.count("introspection"))
			}
			others := map[string]int{"token": 3, "question": 3}[row.whose] // and other tokens have theirs, unless there is no use in asking
			for i := 0; i < 3; i++ {
				bearer(t, s, fmt.Sprint("other-", i))
			}
			isSlow = time.Since(began) > 900*time.Millisecond
			if calls := p.count("introspection") - 1; calls != others && !isSlow {
				t.Errorf("a fault of the %s: other tokens made %d calls", row.whose, calls)
			}
			if isAlarm := strings.Contains(s.logs(), "@file: unavailable: introspection: POST "); isAlarm != (others == 0) {
				t.Errorf("a fault of the %s: alarm %v", row.whose, isAlarm)
			}
			s.expectLog(map[string]string{"token": fmt.Sprintf("active: expected true, got \"%d %s\"", row.status, row.code), "question": "this question alone, as it seems",
				"client": "check the client's credentials, and that it may introspect", "provider": "it is away, or has had enough", "address": "is this the introspection endpoint?"}[row.whose])
		})
	}
}

// TestIntrospectionOutage: in an outage the provider is asked now and then, however many tokens callers make up.
func TestIntrospectionOutage(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s := start(t, introspectionOptions(p, map[string]any{"clientConfig": map[string]any{"url": p.issuer + "/introspect", "maxRetries": 0}}))
	p.answer("introspection", answerText(503, "text/html", "<h1>Back soon</h1>"))
	began := time.Now()
	for i := 0; i < 60; i++ {
		if r := bearer(t, s, fmt.Sprint("made-up-", i)); r.status != 503 || r.header.Get("Retry-After") == "" {
			t.Fatal(r.story())
		}
	}
	allowed := 2 + int(time.Since(began).Seconds())
	if n := p.count("introspection"); n > allowed {
		t.Errorf("%d calls in %s", n, time.Since(began))
	}
	if lines := strings.Count(s.logs(), "@file: unavailable: "); lines > allowed {
		t.Errorf("%d alarms", lines)
	}
	p.answer("introspection", nil)
	token := p.opaque("ada")
	patiently(t, func() bool { return bearer(t, s, token).isUpstream() })
	bearer(t, s, p.opaque("bob")).accepted("bob")

	// The same of callers with credentials of their own.
	p = newProvider(t)
	s = start(t, map[string]any{"oAuthClientCredentials": map[string]any{"url": p.issuer + "/token", "clientConfig": map[string]any{"maxRetries": 0}}})
	p.answer("token", answerJSON(503, nil))
	began = time.Now()
	for i := 0; i < 60; i++ {
		if r := apiCall(t, s, http.MethodGet, "/", "", password(fmt.Sprint("made-up-", i), "x")); r.status != 503 {
			t.Fatal(r.story())
		}
	}
	if n := p.count("token"); n > 2+int(time.Since(began).Seconds()) {
		t.Errorf("%d calls in %s", n, time.Since(began))
	}
	p.answer("token", nil)
	patiently(t, func() bool {
		return apiCall(t, s, http.MethodGet, "/", "", password(p.clientID, p.clientSecret)).isUpstream()
	})
}

// patiently waits for the end of a pause.
func patiently(t *testing.T, is func() bool) {
	t.Helper()
	for i := 0; i < 40 && !is(); i++ {
		time.Sleep(250 * time.Millisecond)
	}
	if !is() {
		t.Error("the provider is not asked again")
	}
}

// TestIntrospectionOddTokens: what no token is made of is not asked about.
func TestIntrospectionOddTokens(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s := start(t, introspectionOptions(p, map[string]any{"tokenSource": map[string]any{"query": "token"}}))
	for _, odd := range []string{"gr%C3%B6%C3%9Fe", "a%7Fb", "a%80b", "a%0Ab", "%00"} {
		apiCall(t, s, "GET", "/?token="+odd, "").challenged(401, badToken, "token: must be printable ASCII")
	}
	if p.count("introspection") > 0 {
		t.Errorf("%d calls", p.count("introspection"))
	}
}

// TestTokenAnswers: token endpoints as they are, read as golang.org/x/oauth2 reads them.
func TestTokenAnswers(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, kind, body string
		life             int64
		want             string
	}{
		{"RFC 6749", "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":3599}`, 3599, ""},
		{"small letters", "application/json", `{"access_token":"a","token_type":"bearer","expires_in":3599}`, 3599, ""},
		{"capital letters", "application/json", `{"access_token":"a","token_type":"BEARER","expires_in":3599}`, 3599, ""},
		{"Apigee", "application/json", `{"access_token":"a","token_type":"BearerToken","expires_in":"3599"}`, 3599, ""},
		{"no type", "application/json", `{"access_token":"a","expires_in":"3599"}`, 3599, ""},
		{"type null", "application/json", `{"access_token":"a","token_type":null,"expires_in":3599.0}`, 3599, ""},
		{"another name", "application/json", `{"access_token":"a","token_type":"access_token","expires_in":"3599.9"}`, 3599, ""},
		{"float", "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":3.599e3}`, 3599, ""},
		{"spaces", "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":" 3599 "}`, 0, ""},
		{"no end", "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":null}`, 0, ""},
		{"a text that is no number", "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":"soon"}`, 0, ""},
		{"a list", "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":[3599]}`, 0, ""},
		{"negative", "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":-1}`, 0, ""},
		{"a form", "application/x-www-form-urlencoded", `access_token=a&token_type=bearer&expires_in=3599`, 3599, ""},
		{"a form without end", "text/plain", `access_token=a&scope=&token_type=bearer`, 0, ""},
		{"DPoP", "application/json", `{"access_token":"a","token_type":"DPoP"}`, 0, `token_type: expected "Bearer", got "DPoP"`},
		{"PoP", "application/json", `{"access_token":"a","token_type":"pop"}`, 0, `token_type: expected "Bearer", got "pop"`},
		{"no access token", "application/json", `{"access_token":"a","token_type":"N_A"}`, 0, `token_type: expected "Bearer", got "N_A"`},
		{"control characters", "application/json", `{"access_token":"a\u0000b","token_type":"Bearer"}`, 0, `unusable answer of the provider: token endpoint: access_token: must be printable`},
		{"nothing", "application/json", `{}`, 0, "has no access_token"},
		{"nothing at all", "text/plain", ``, 0, "JSON: must be an object"},
	} {
		for _, status := range []int{200, 201} {
			tokens, err := readTokens(&client{log: newLogger("x", "error")}, status, []byte(row.body))
			wantError(t, err, row.want)
			if err == nil && (tokens.accessToken != "a" || tokens.expiresIn != row.life) {
				t.Errorf("%s: got %q for %d s", row.name, tokens.accessToken, tokens.expiresIn)
			}
		}
	}
}

// TestClaimsListItems: the ends of an item are its own, also in a list that is joined.
func TestClaimsListItems(t *testing.T) {
	id := identity{"": claimsOf(t, `{"groups":[" admins","staff ","  ","a b","x\u0009y","with, comma"," both, "]}`)}
	f, err := parseHeaderFormat("groups")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := formatHeader(f, id)
	if want := "%20admins,staff%20,%20%20,a b,x%09y,with%2C comma,%20both%2C%20"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
