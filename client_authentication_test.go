package oidc

import (
	"crypto"
	"encoding/base64"
	"strings"
	"testing"
)

func TestClientAuthentication(t *testing.T) {
	key := pemOf(t, commonKey("ES256"))
	for _, c := range []struct {
		name    string
		options map[string]any
		check   func(call *providerCall) string
	}{
		{"client_secret_basic by default", nil, func(call *providerCall) string {
			if call.header.Get("Authorization") == "" || call.form.Get("client_secret") != "" {
				return "expected Basic and nothing in the form"
			}
			return ""
		}},
		{"client_secret_post", map[string]any{"clientAuthMethod": "client_secret_post"}, func(call *providerCall) string {
			if call.header.Get("Authorization") != "" || call.form.Get("client_secret") == "" {
				return "expected the secret in the form"
			}
			return ""
		}},
		{"client_secret_post where the provider lists no other", map[string]any{"pkce": true}, func(call *providerCall) string {
			if call.header.Get("Authorization") != "" || call.form.Get("client_secret") == "" {
				return "expected the secret in the form"
			}
			return ""
		}},
		{"private_key_jwt", map[string]any{"clientAuthMethod": "private_key_jwt", "clientKey": key, "clientKeyAlg": "ES256",
			"clientKeyId": "k1"}, func(call *providerCall) string {
			parts := strings.Split(call.form.Get("client_assertion"), ".")
			if len(parts) != 3 || call.form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" ||
				call.form.Get("client_secret") != "" {
				return "expected an assertion alone"
			}
			header, _ := base64.RawURLEncoding.DecodeString(parts[0])
			claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
			if !holdsAll(string(header), []string{`"ES256"`, `"k1"`}) ||
				!holdsAll(string(claims), []string{`"iss":"app"`, `"sub":"app"`, `"aud":"http://127.0.0.1`, `"jti"`, `"iat"`, `"exp"`}) ||
				call.form.Get("client_id") != "app" {
				return string(header) + string(claims)
			}
			return ""
		}},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newFakeProvider(t)
			if strings.HasSuffix(c.name, "lists no other") {
				p.edit("discovery", func(d map[string]any) {
					d["token_endpoint_auth_methods_supported"] = []string{"private_key_jwt", "client_secret_post"}
				})
			}
			newBrowser(t, start(t, p.options(c.options))).signIn("/")
			if problem := c.check(p.lastCall("token")); problem != "" {
				t.Errorf("%s, got %q %q", problem, p.lastCall("token").form, p.lastCall("token").header)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		p := newFakeProvider(t)
		p.clientSecret = ""
		newBrowser(t, start(t, p.options(map[string]any{"session": map[string]any{"secret": "the-secret-of-sixteen-bytes"}}))).signIn("/")
	})
	t.Run("a name and a secret with every kind of character", func(t *testing.T) { // RFC 6749 2.3.1
		p := newFakeProvider(t)
		p.clientID = "urn:app %+&=/é~"
		p.clientSecret = "a:b %+&=/é\"'~"
		newBrowser(t, start(t, p.options(sessionOptions("secret", "the-secret-of-sixteen-bytes")))).signIn("/")
	})
}

// TestClientAuthenticationKeyNames: how the provider is told which key an assertion is signed with.
func TestClientAuthenticationKeyNames(t *testing.T) {
	t.Parallel()
	private := newPrivateKey("ES256")
	certificate := certificateOf(t, private.(crypto.Signer))
	p := newFakeProvider(t)
	s := start(t, map[string]any{"oAuthClientCredentials": map[string]any{"url": p.issuer + "/token", "clientId": p.clientID,
		"clientKey":   pemOf(t, private),
		"clientKeyId": "mine", "clientKeyAlg": "ES256", "clientCertificate": certificate}})
	apiCall(t, s, "GET", "/", "")
	header := headerOf(t, p.lastCall("token").form.Get("client_assertion"))
	if header["kid"] != "mine" || header["alg"] != "ES256" || len(header["x5t"].(string)) != 27 || len(header["x5t#S256"].(string)) != 43 {
		t.Errorf("header %v", header)
	}
	ed := newPrivateKey("EdDSA")
	s = start(t, map[string]any{"oAuthClientCredentials": map[string]any{"url": p.issuer + "/token", "clientId": p.clientID,
		"clientKey": pemOf(t, ed), "clientKeyAlg": "Ed25519"}})
	apiCall(t, s, "GET", "/", "")
	if header := headerOf(t, p.lastCall("token").form.Get("client_assertion")); header["alg"] != "Ed25519" || header["kid"] != nil {
		t.Errorf("header %v", header)
	}
	for want, block := range map[string]map[string]any{
		"oAuthClientCredentials.clientCertificate: must be the certificate of clientKey": {"clientKey": pemOf(t, newPrivateKey("ES256")),
			"clientCertificate": certificate},
		"oAuthClientCredentials.clientCertificate: must be PEM":                   {"clientKey": pemOf(t, private), "clientCertificate": "x"},
		"oAuthClientCredentials.clientCertificate: x509: malformed":               {"clientKey": pemOf(t, private), "clientCertificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
		"oAuthClientCredentials.clientKey: must be a key for RS256, got EC P-256": {"clientKey": pemOf(t, private), "clientKeyAlg": "RS256"},
		"oAuthClientCredentials.clientKey: required with clientCertificate":       {"clientSecret": "s", "clientCertificate": certificate},
	} {
		refused(t, map[string]any{"oAuthClientCredentials": mergeClaims(block, map[string]any{"url": p.issuer + "/token", "clientId": "a"})}, want)
	}
	// A key of each kind, when nothing is said.
	for _, alg := range []string{"RS256", "ES384", "ES512", "EdDSA"} {
		s := start(t, map[string]any{"oAuthClientCredentials": map[string]any{"url": p.issuer + "/token", "clientId": p.clientID,
			"clientKey": pemOf(t, newPrivateKey(alg))}})
		apiCall(t, s, "GET", "/", "")
		if header := headerOf(t, p.lastCall("token").form.Get("client_assertion")); header["alg"] != alg {
			t.Errorf("%s: header %v", alg, header)
		}
	}
}

// headerOf is the JOSE header of a token.
func headerOf(t *testing.T, token string) map[string]any {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	header, err := decodeObject("header", head)
	if err != nil {
		t.Fatal(err)
	}
	return header
}

func TestClientAuthenticationAudience(t *testing.T) {
	signer, err := parsePrivateKeyPEM(pemOf(t, commonKey("ES256")), "ES256")
	if err != nil {
		t.Fatal(err)
	}
	c := &client{id: "app", signer: signer, signerAlg: "ES256", issuer: "https://id.example.com", rules: &tokenRules{}}
	c.endpoints.Token = "https://id.example.com/token"
	for _, want := range []string{"https://id.example.com", "https://id.example.com/token"} {
		raw, err := clientAssertion(c)
		if err != nil {
			t.Fatal(err)
		}
		made, err := parseToken(raw)
		if err != nil || made.claims["aud"] != want {
			t.Errorf("expected aud %q, got %v %v", want, made.claims["aud"], err)
		}
		c.issuer = "" // a client of a token endpoint alone
	}
}

// TestClientAuthenticationByCertificateAlone: a certificate authenticates a client that has nothing else (RFC 8705 2.1), and no other.
func TestClientAuthenticationByCertificateAlone(t *testing.T) {
	for _, row := range []struct{ cert, secret, key, configured, want string }{
		{cert: "c", want: "tls_client_auth"}, {cert: "c", secret: "s"}, {cert: "c", key: "k"}, {secret: "s"}, {},
		{cert: "c", configured: "none", want: "none"},
	} {
		c := &Config{}
		c.ClientSecret = row.secret
		c.ClientKey = row.key
		c.ClientAuthMethod = row.configured
		c.ClientConfig.TLS.Cert = row.cert
		made := newClient(newLogger("login0-0@file", "error"), c, "clientConfig", &problems{})
		if made.authMethod != row.want || made.mutualTLS != (row.want == "tls_client_auth") {
			t.Errorf("%+v: %q, mutual TLS %v", row, made.authMethod, made.mutualTLS)
		}
	}
}
