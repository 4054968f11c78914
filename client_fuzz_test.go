package oidc

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// cannedProvider is one that gives the same answer to whatever it is asked.
type cannedProvider struct{ body []byte }

func (a *cannedProvider) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(a.body)), Request: req}, nil
}

// discoveries are documents as providers publish them, and as nobody should.
var discoveries = []string{
	`{"issuer":"https://id.example.com","authorization_endpoint":"https://id.example.com/authorize","token_endpoint":"https://id.example.com/token","jwks_uri":"https://id.example.com/keys"}`,
	`{"issuer":"https://id.example.com/","authorization_endpoint":"https://a.example.com/a?x=1","token_endpoint":"https://b.example.com:8443/t","jwks_uri":"https://[::1]/k","userinfo_endpoint":"/userinfo","end_session_endpoint":"http://id.example.com/end"}`,
	`{"issuer":"https://id.example.com//"}`, `{"issuer":"https://id.example.com.evil.example"}`, `{"issuer":["https://id.example.com"]}`,
	`{"issuer":null}`, `{}`, `[]`, `null`, ``, `<!doctype html>`,
	`{"issuer":"https://id.example.com","issuer":"https://evil.example"}`,
	`{"issuer":"https://id.example.com","\u0069ssuer":"https://evil.example","a":1,"a":2}`,
	`{"issuer":"https://id.example.com","authorization_endpoint":"javascript:alert(1)","token_endpoint":"https://u:p@id.example.com/","jwks_uri":"https://id.example.com/#k"}`,
	`{"issuer":"https://id.example.com","authorization_endpoint":"//evil.example/a","token_endpoint":"https:/token","jwks_uri":"https:id.example.com"}`,
	`{"issuer":"https://id.example.com","authorization_endpoint":"HTTPS://id.example.com/a","token_endpoint":"https://id.example.com/\n","jwks_uri":"https://%zz/"}`,
	`{"issuer":"https://id.example.com","authorization_endpoint":5,"token_endpoint":{},"jwks_uri":[],"userinfo_endpoint":true,"revocation_endpoint":"","introspection_endpoint":null,"mtls_endpoint_aliases":{"token_endpoint":"ftp://x"}}`,
	`{"issuer":"https://id.example.com","authorization_endpoint":"https://id.example.com/a","token_endpoint":"https://id.example.com/t","jwks_uri":"https://id.example.com/k","mtls_endpoint_aliases":{"token_endpoint":"https://mtls.example.com/t","userinfo_endpoint":5}}`,
	`{"issuer":"https://id.example.com","scopes_supported":["a"],"scopes_supported":["b"],"authorization_endpoint":"https://id.example.com/a","token_endpoint":"https://id.example.com/t","jwks_uri":"https://id.example.com/k","pushed_authorization_request_endpoint":"/par"}`,
}

// FuzzDiscovery: whatever a discovery document says, what is used of it is ours or a plain https address, the issuer is the one that was
// asked, and the sign-in has what it needs.
func FuzzDiscovery(f *testing.F) {
	for _, document := range discoveries {
		for mode := byte(0); mode < 8; mode++ {
			f.Add([]byte(document), mode)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, mode byte) {
		const issuer = "https://id.example.com"
		c := &client{log: newLogger("login0-0@file", "error"), issuer: issuer, id: "app", discoveryURL: issuer + "/.well-known/openid-configuration",
			hasLogin: mode&1 != 0, mutualTLS: mode&2 != 0, rules: &tokenRules{issuers: []string{issuer}, providerIssuer: &atomic.Value{}},
			responses: newBoundedCache(100)}
		c.keys = &cachedDocument{fetch: func(context.Context) (any, error) { return nil, nil }}
		if mode&4 != 0 {
			c.endpoints = EndpointsConfig{Token: "http://inside/token", EndSession: "https://id.example.com/bye"}
		}
		c.http = &http.Client{}
		c.http.Transport = &cannedProvider{data}
		fetched, err := fetchMetadata(context.Background(), c)
		if err != nil {
			if said := err.Error(); len(said) > 1000 || controlCharacter.MatchString(said) {
				t.Fatalf("%q", said)
			}
			return
		}
		m, _ := fetched.(*metadata)
		if named := m.issuer; named != issuer && named != issuer+"/" || issuerOf(c) != named {
			t.Fatalf("%q is taken for %s, and tokens must be of %q", named, issuer, issuerOf(c))
		}
		for _, name := range strings.Fields("authorization_endpoint token_endpoint jwks_uri userinfo_endpoint introspection_endpoint revocation_endpoint end_session_endpoint pushed_authorization_request_endpoint") {
			isNeeded := c.hasLogin && strings.Contains("authorization_endpoint token_endpoint jwks_uri", name)
			address := m.endpoints[name]
			switch {
			case address == "" && !isNeeded:
				continue
			case address == c.endpoints.Token || address == c.endpoints.EndSession:
				continue
			}
			u, err := url.Parse(address)
			if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsAny(address, "#\r\n") {
				t.Fatalf("%s is %q", name, address)
			}
		}
		if mode&4 != 0 && (m.endpoints["token_endpoint"] != "http://inside/token" || m.endpoints["end_session_endpoint"] != "https://id.example.com/bye") {
			t.Fatalf("what is configured is not used: %v", m)
		}
	})
}
