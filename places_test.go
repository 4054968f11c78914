package oidc

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// TestBearerSeveralHeaders: a token may be in one of several headers, and the same in two of them.
func TestBearerSeveralHeaders(t *testing.T) {
	t.Parallel()
	good, other := sharedToken(nil), sharedToken(map[string]any{"sub": "bob"})
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenSource": map[string]any{"header": "Authorization", "headerAuthScheme": "Bearer",
		"headers": "cf-access-jwt-assertion, X-Forwarded-Access-Token"}}))
	for _, lines := range [][]string{
		{"Authorization: Bearer " + good}, {"Cf-Access-Jwt-Assertion: " + good}, {"X-Forwarded-Access-Token: " + good}, {"X-Forwarded-Access-Token: Bearer " + good},
		{"Authorization: Bearer " + good, "Cf-Access-Jwt-Assertion: " + good}, {"Authorization: Basic YTpi", "Cf-Access-Jwt-Assertion: " + good},
	} {
		for range []int{1, 2} { // the second one is remembered
			seen := apiCall(t, s, "GET", "/", "", lines...).accepted("ada")
			for _, name := range []string{"Authorization", "Cf-Access-Jwt-Assertion", "X-Forwarded-Access-Token"} {
				if strings.Contains(seen.Headers.Get(name), good) {
					t.Errorf("%v: the upstream got the token", lines)
				}
			}
		}
	}
	apiCall(t, s, "GET", "/", "", "Authorization: Bearer "+good, "Cf-Access-Jwt-Assertion: "+other).challenged(400, badRequest, "more than one token was sent")
	apiCall(t, s, "GET", "/", "", "Cf-Access-Jwt-Assertion: "+good, "Cf-Access-Jwt-Assertion: "+good).challenged(400, badRequest, "more than one Cf-Access-Jwt-Assertion header")
	apiCall(t, s, "GET", "/", "", "Cf_Access-Jwt-Assertion: "+good).challenged(401, noToken)
	bearer(t, s, "x").challenged(401, badToken)
}

// TestBearerWebSocketProtocol: scripts in browsers have no other place for a token.
func TestBearerWebSocketProtocol(t *testing.T) {
	t.Parallel()
	good := sharedToken(nil)
	kubernetes := "base64url.bearer.authorization.k8s.io." + base64.RawURLEncoding.EncodeToString([]byte(good))
	source := map[string]any{"webSocketProtocol": true}
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenSource": source}))
	for offered, left := range map[string]string{
		"bearer, " + good + ", chat": "bearer, chat", "chat,Bearer," + good: "chat, Bearer", "bearer, " + good: "bearer",
		"v4.channel.k8s.io, " + kubernetes: "v4.channel.k8s.io", kubernetes: "",
	} {
		seen := apiCall(t, s, "GET", "/", "", "Sec-WebSocket-Protocol: "+offered).accepted("ada")
		if got := strings.Join(seen.Headers["Sec-Websocket-Protocol"], ","); got != left {
			t.Errorf("%s: the upstream got %q", offered[:20], got)
		}
	}
	seen := apiCall(t, s, "GET", "/", "", "Sec-WebSocket-Protocol: bearer", "Sec-WebSocket-Protocol: "+good+", chat").accepted("ada")
	if got := strings.Join(seen.Headers["Sec-Websocket-Protocol"], ","); got != "bearer, chat" {
		t.Errorf("on two lines: %q", got)
	}
	apiCall(t, s, "GET", "/", "", "Sec-WebSocket-Protocol: chat").challenged(401, noToken)
	apiCall(t, s, "GET", "/", "", "Sec-WebSocket-Protocol: bearer").challenged(401, noToken)
	apiCall(t, s, "GET", "/", "", "Sec-WebSocket-Protocol: bearer, x").challenged(401, badToken)
	apiCall(t, s, "GET", "/", "", "Sec-WebSocket-Protocol: bearer, "+good+", bearer, "+good+"x").challenged(400, badRequest)
	apiCall(t, s, "GET", "/", "", "Authorization: Bearer "+good).challenged(401, noToken)
	s = start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenSource": source, "forwardAuthorization": true}))
	seen = apiCall(t, s, "GET", "/", "", "Sec-WebSocket-Protocol: bearer, "+good).accepted("ada")
	if !strings.Contains(seen.Headers.Get("Sec-Websocket-Protocol"), good) {
		t.Error("the upstream did not get the token")
	}
}

// TestBearerTokensAreTaken: a token is for the gateway alone, wherever it was, and what is beside it stays as it was written.
func TestBearerTokensAreTaken(t *testing.T) {
	t.Parallel()
	good := sharedToken(nil)
	for _, keep := range []bool{false, true} {
		s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenKey": "jwt", "forwardAuthorization": keep,
			"tokenSource": map[string]any{"query": "access token", "cookie": "token"}}))
		for sent, left := range map[string]string{
			"/a?access+token=" + good: "/a", "/a?x=%2f&access%20token=" + good + "&y=+&&z": "/a?x=%2f&y=+&&z", "/%2f?jwt=" + good + "&jwt=": "/%2f", "/?y;z&jwt=" + good: "/?y;z",
		} {
			if keep {
				left = sent
			}
			for range []int{1, 2} {
				if seen := apiCall(t, s, "GET", sent, "").accepted("ada"); seen.URI != left {
					t.Errorf("sent %.20s, the upstream got %q, want %q", sent, seen.URI, left)
				}
			}
		}
		want := map[bool]string{false: "a=b; c=\"d\"", true: "a=b; token=" + good + "; c=\"d\""}[keep]
		if seen := apiCall(t, s, "GET", "/", "", "Cookie: a=b; token="+good+"; c=\"d\"").accepted("ada"); seen.Headers.Get("Cookie") != want {
			t.Errorf("the upstream got the cookies %q", seen.Headers.Get("Cookie"))
		}
		form := "b=1&jwt=" + good + "&a=+%20"
		want = map[bool]string{false: "b=1&a=+%20", true: form}[keep]
		seen := apiCall(t, s, "POST", "/?c", form, "Content-Type: application/x-www-form-urlencoded").accepted("ada")
		if seen.Body != want || seen.Headers.Get("Content-Length") != fmt.Sprint(len(want)) || seen.URI != "/?c" {
			t.Errorf("the upstream got %q, %v", seen.Body, seen.Headers)
		}
		if log := s.logs(); strings.Contains(log, good[:40]) {
			t.Errorf("a token is in the log:\n%s", log)
		}
	}
	// A request that is judged by its session keeps what it has.
	p := newProvider(t)
	_, b := signedIn(t, p, map[string]any{"jwt": map[string]any{"tokenSource": map[string]any{"query": "t"}}})
	if seen := b.fetch("GET", "/?t=&x", "").upstream(); seen.URI != "/?t=&x" {
		t.Errorf("the upstream got %q", seen.URI)
	}
}

// TestBearerMethods: the description of an API names the ways of RFC 6750 that it takes, and no others.
func TestBearerMethods(t *testing.T) {
	t.Parallel()
	for want, block := range map[string]map[string]any{
		`["header"]`:                {},
		`["header" ]`:               {"tokenSource": map[string]any{"headers": "Authorization"}},
		`["header","body","query"]`: {"tokenKey": "access_token"},
		`["header","query"]`:        {"tokenSource": map[string]any{"header": "Authorization", "headerAuthScheme": "bearer", "query": "access_token"}},
		`["query"]`:                 {"tokenSource": map[string]any{"query": "access_token"}},
		``:                          {"tokenSource": map[string]any{"header": "X-Token", "query": "t", "cookie": "c"}},
		` `:                         {"tokenSource": map[string]any{"header": "Authorization", "headerAuthScheme": "Token"}},
	} {
		s := start(t, jwtOptions(merge(block, map[string]any{"signingSecret": tokenSecret, "resource": "https://api.example.com"})))
		document := map[string]json.RawMessage{}
		if err := json.Unmarshal([]byte(apiCall(t, s, "GET", "/.well-known/oauth-protected-resource", "").expect(200).body), &document); err != nil {
			t.Fatal(err)
		}
		if got := string(document["bearer_methods_supported"]); got != strings.ReplaceAll(want, " ", "") {
			t.Errorf("%v: got %s", block, got)
		}
	}
}

// TestBearerWords: whoever writes a program reads what is wrong with the request, and nothing of sessions and sign-ins.
func TestBearerWords(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	api := jwtOptions(map[string]any{"signingSecret": tokenSecret, "claims": "SplitContains(`scope`, ` `, `orders:read`)"})
	good := "Authorization: Bearer " + sharedToken(nil)
	callers := callersOptions(p)
	away := introspectionOptions(p, map[string]any{"clientConfig": map[string]any{"url": "http://127.0.0.1:1/", "maxRetries": 0}})
	mixed := p.options(map[string]any{"oAuthIntrospection": map[string]any{"clientConfig": map[string]any{"url": "http://127.0.0.1:1/", "maxRetries": 0}}})
	own := map[string]any{"oAuthClientCredentials": map[string]any{"url": "http://127.0.0.1:1/", "clientId": "a", "clientSecret": "b", "clientConfig": map[string]any{"maxRetries": 0}}}
	strict := map[string]any{"oAuthClientCredentials": map[string]any{"url": p.issuer + "/token", "clientId": p.clientID, "clientSecret": p.clientSecret, "claims": "Exists(`nothing`)"}}
	wrong := map[string]any{"oAuthClientCredentials": map[string]any{"url": p.issuer + "/token", "clientId": p.clientID, "clientSecret": "wrong"}}
	for _, row := range []struct {
		name    string
		options map[string]any
		lines   []string
		status  int
		detail  string
	}{
		{"no token", api, nil, 401, "This address needs an access token. Get one from the authorization server"},
		{"a bad token", api, []string{good + "x"}, 401, "This access token is not accepted. It may have ended, or have been made for something else. Get a new one"},
		{"too few rights", api, []string{good}, 403, "This access token does not allow this. It is good, but lacks what this address asks for. Get one with the scope that WWW-Authenticate names"},
		{"two tokens", api, []string{good, good}, 400, "This request cannot be answered. Send exactly one access token"},
		{"an outage", away, []string{good}, 503, "Access cannot be checked right now. The authorization server does not respond"},
		{"an outage beside a sign-in", mixed, []string{good}, 503, "Access cannot be checked right now"},
		{"nothing beside a sign-in", mixed, nil, 401, "You are not signed in"},
		{"no credentials", callers, nil, 401, "This address needs a client's id and secret. Send them in the header Authorization, as Basic credentials"},
		{"wrong credentials", callers, []string{password("x", "y")}, 401, "These client credentials are not accepted. Check the client's id and secret"},
		{"two credentials", callers, []string{password("x", "y"), password("x", "y")}, 400, "This request cannot be answered. Send exactly one Authorization header"},
		{"no token for the gateway", own, nil, 503, "Access cannot be checked right now"},
		{"a token that the gateway's rule refuses", strict, nil, 403, "The gateway may not do this for you"},
		{"a gateway whose secret is wrong", wrong, nil, 502, "The authorization server sent an answer we cannot use"},
	} {
		s := start(t, row.options)
		for _, page := range []bool{false, true} {
			lines := row.lines
			if page {
				lines = append([]string{"Accept: text/html"}, lines...)
			}
			r := apiCall(t, s, http.MethodPost, "/", "", lines...)
			first, _, _ := strings.Cut(row.detail, ". ")
			isJob := row.name != "nothing beside a sign-in"
			if r.status != row.status || !strings.Contains(strings.ReplaceAll(r.body, "&#39;", "'"), first) || !page && !strings.Contains(r.body, row.detail) || isJob && (strings.Contains(r.body, "sign-in service") || strings.Contains(r.body, "session")) {
				t.Errorf("%s: expected %d with %q:\n%s", row.name, row.status, row.detail, r.story())
			}
		}
	}
	s := start(t, api)
	apiCall(t, s, "GET", "/", "").challenged(401, noToken+`, scope="orders:read"`)
	bearer(t, s, "x").challenged(401, badToken+`, scope="orders:read"`)
	bearer(t, s, sharedToken(nil)).challenged(403, tooFewRights+`, scope="orders:read"`)
}

// TestBearerNameAtRefusal: the access log names also whom the rule says no to, and our own log tells nothing that the rule did not see.
func TestBearerNameAtRefusal(t *testing.T) {
	t.Parallel()
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "usernameClaim": "email", "claims": "Equals(`sub`, `ada`)"}))
	// Google's service accounts: azp is sub.
	r := bearer(t, s, sharedToken(map[string]any{"sub": "1234", "azp": "1234", "email": "robot@example.com"}))
	r.challenged(403, tooFewRights, `the rule says no to sub null, client_id null, azp "1234"`)
	if s.server != nil {
		g := testGateOf(s)
		token := sharedToken(map[string]any{"sub": "eve", "email": "eve@example.com"})
		req := requestTo(t, "GET", "https://app.example.com/")
		req.Header.Set("Authorization", "Bearer "+token)
		req.URL.User = url.User("root")
		m := &Middleware{gate: g, next: http.NotFoundHandler(), header: g.warmHeader, hosts: g.hosts, ownPaths: g.ownPaths}
		rw := httptest.NewRecorder()
		m.ServeHTTP(rw, req)
		if rw.Code != 403 || req.URL.User.String() != "eve%40example.com" {
			t.Errorf("%d for %q", rw.Code, req.URL.User)
		}
	}
}
