package oidc

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestResourceMetadata: a client that knows nothing finds its way from the 401 (RFC 9728).
func TestResourceMetadata(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	for _, row := range []struct{ resource, path string }{
		{"https://app.example.com/mcp", "/.well-known/oauth-protected-resource/mcp"},
		{"https://app.example.com/", "/.well-known/oauth-protected-resource"},
		{"https://app.example.com", "/.well-known/oauth-protected-resource"},
		{"https://app.example.com/a%20b/", "/.well-known/oauth-protected-resource/a%20b/"},
	} {
		for _, job := range []string{"jwt", "oAuthIntrospection"} {
			row := row
			options := p.options(map[string]any{job: map[string]any{"resource": row.resource}})
			if job == "jwt" {
				options = jwtOptions(map[string]any{"issuer": p.issuer, "resource": row.resource})
			}
			s := start(t, options)
			challenge := noToken + `, resource_metadata="https://app.example.com` + row.path + `"`
			r := apiCall(t, s, "GET", "/", "", "Host: evil.example").challenged(401, challenge)
			_, address, _ := strings.Cut(r.header.Get("WWW-Authenticate"), `resource_metadata="`)
			found := apiCall(t, s, "GET", strings.Trim(address, `"`), "", "Origin: https://client.example").expect(200)
			document := map[string]any{}
			if err := json.Unmarshal([]byte(found.body), &document); err != nil || found.header.Get("Content-Type") != "application/json" ||
				found.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%v:\n%s", err, found.story())
			}
			if servers := stringsOf(document["authorization_servers"]); document["resource"] != row.resource || len(servers) != 1 || servers[0] != p.issuer {
				t.Errorf("the document is %v", document)
			}
			apiCall(t, s, "OPTIONS", row.path, "", "Origin: https://client.example", "Access-Control-Request-Method: GET").expect(204)
			apiCall(t, s, "POST", row.path, "").expect(405)
			if job == "jwt" { // made for another resource
				bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer, "aud": row.resource})).accepted("ada")
				r := bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer, "aud": "https://other.example"}))
				r.challenged(401, strings.Replace(challenge, ", res", `, error="invalid_token", res`, 1), "audience: expected")
			}
		}
	}
}

// TestResourceScopes: what the rule asks of a token's scopes is told to clients (RFC 6750 3.1, RFC 9728 2).
func TestResourceScopes(t *testing.T) {
	t.Parallel()
	const metadata = `resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"`
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "resource": "https://api.example.com",
		"claims": "SplitContains(`scope`, ` `, `orders:read`) && OneOf(`scp`, `orders:read`, `orders:all`)"}))
	weak := sharedToken(map[string]any{"aud": "https://api.example.com", "scope": "other"})
	bearer(t, s, weak).challenged(403, tooFewRights+`, scope="orders:read orders:all", `+metadata)
	bearer(t, s, "bad").challenged(401, badToken+`, scope="orders:read orders:all", `+metadata) // which the next one is to have
	apiCall(t, s, "GET", "/", "").challenged(401, noToken+`, scope="orders:read orders:all", `+metadata)
	told := apiCall(t, s, "GET", "/.well-known/oauth-protected-resource", "").expect(200)
	if !strings.Contains(told.body, `"scopes_supported":["orders:read","orders:all"]`) {
		t.Errorf("the document is %s", told.body)
	}

	s = start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "resource": "https://api.example.com", "claims": "Equals(`sub`, `bob`)"}))
	bearer(t, s, weak).challenged(403, tooFewRights+", "+metadata)
	if told := apiCall(t, s, "GET", "/.well-known/oauth-protected-resource", "").expect(200); strings.Contains(told.body, "scopes") {
		t.Errorf("the document is %s", told.body)
	}
}
