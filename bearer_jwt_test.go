package oidc

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func publicPEM(t *testing.T, private any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(private.(crypto.Signer).Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// TestBearerJWTKeySources: a token signed with the key is let in, and one signed with another is not.
func TestBearerJWTKeySources(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	ec := &providerKey{kid: "ec", alg: "ES256", private: commonKey("ES256")}
	ed := &providerKey{kid: "ed", alg: "EdDSA", private: commonKey("EdDSA")}
	set, _ := json.Marshal(map[string]any{"keys": []any{ec.public(), ed.public()}})
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat(tokenSecret, 2)
	other := &providerKey{kid: "one", alg: "RS256", private: newPrivateKey("RS256")}
	for _, row := range []struct {
		name      string
		options   map[string]any
		good, bad []*providerKey
	}{
		{"a secret", map[string]any{"signingSecret": tokenSecret}, []*providerKey{hmacKey("HS256", tokenSecret)},
			[]*providerKey{hmacKey("HS256", long), hmacKey("HS384", tokenSecret), p.key}},
		{"a long secret", map[string]any{"signingSecret": long},
			[]*providerKey{hmacKey("HS256", long), hmacKey("HS384", long), hmacKey("HS512", long)}, nil},
		{"a secret in base64", map[string]any{"signingSecret": base64.StdEncoding.EncodeToString([]byte(tokenSecret)), "signingSecretBase64Encoded": true},
			[]*providerKey{hmacKey("HS256", tokenSecret)}, nil},
		{"a secret in base64url", map[string]any{"signingSecret": base64.RawURLEncoding.EncodeToString([]byte("ÿþ" + tokenSecret)), "signingSecretBase64Encoded": true},
			[]*providerKey{hmacKey("HS256", "ÿþ"+tokenSecret)}, nil},
		{"one algorithm of a secret", map[string]any{"signingSecret": long, "algorithms": "HS512"}, []*providerKey{hmacKey("HS512", long)},
			[]*providerKey{hmacKey("HS256", long)}},
		{"a public key", map[string]any{"publicKey": publicPEM(t, ec.private)}, []*providerKey{ec},
			[]*providerKey{ed, p.key, {alg: "HS256", private: []byte(publicPEM(t, ec.private))}}},
		{"the path of a key set", map[string]any{"jwksFile": file}, []*providerKey{ec, ed}, []*providerKey{p.key}},
		{"a key set", map[string]any{"jwksFile": string(set)}, []*providerKey{ec, ed}, []*providerKey{p.key}},
		{"one algorithm of a key set", map[string]any{"jwksFile": string(set), "algorithms": "EdDSA"}, []*providerKey{ed}, []*providerKey{ec}},
		{"the address of a key set", map[string]any{"jwksUrl": p.issuer + "/jwks"}, []*providerKey{p.key}, []*providerKey{other, ec}},
		{"its path", map[string]any{"jwksUrl": "/jwks", "issuer": p.issuer}, []*providerKey{p.key}, []*providerKey{other}},
		{"an issuer", map[string]any{"issuer": p.issuer}, []*providerKey{p.key}, []*providerKey{other}},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			s := start(t, jwtOptions(row.options))
			claims := map[string]any{"iss": p.issuer}
			for _, key := range row.good {
				bearer(t, s, signed(key, nil, claims)).accepted("ada")
			}
			for _, key := range row.bad {
				bearer(t, s, signed(key, nil, claims)).challenged(401, badToken)
			}
			if row.options["issuer"] != nil {
				bearer(t, s, signed(row.good[0], nil, map[string]any{"iss": "https://other.example"})).challenged(401, badToken, "issuer: expected")
			}
		})
	}
}

// TestBearerJWTOptions: what cannot work is refused before the first request.
func TestBearerJWTOptions(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		options map[string]any
		want    string
	}{
		{"a short secret", map[string]any{"signingSecret": "too short a key"}, "jwt.signingSecret: must have at least 32 bytes for HS256, got 15"},
		{"a secret too short for its algorithm", map[string]any{"signingSecret": tokenSecret, "algorithms": "HS512"},
			"jwt.signingSecret: must have at least 64 bytes for HS512"},
		{"no base64", map[string]any{"signingSecret": "what is that?", "signingSecretBase64Encoded": true}, "jwt.signingSecret: must be base64"},
		{"no PEM", map[string]any{"publicKey": "x"}, "jwt.publicKey: must be PEM"},
		{"no file", map[string]any{"jwksFile": "/nowhere/keys.json"}, "jwt.jwksFile: open /nowhere/keys.json"},
		{"no keys", map[string]any{"jwksFile": `{"keys":[]}`}, "jwt.jwksFile: key set: no usable key"},
		{"a secret in a key set", map[string]any{"jwksFile": `{"keys":[{"kty":"oct","k":"AAAA"}]}`}, "jwt.jwksFile: key set: no usable key"},
		{"Hub's path without an issuer", map[string]any{"jwksUrl": "/jwks"}, "jwt.issuer: required when jwksUrl is a path"},
		{"two sources", map[string]any{"signingSecret": tokenSecret, "publicKey": "x"}, "jwt: must have one source of keys"},
		{"two families", map[string]any{"issuer": "https://id.example.com", "algorithms": "RS256,ES256"}, "jwt.algorithms: must be of one family"},
		{"a public key as secret", map[string]any{"signingSecret": publicPEM(t, commonKey("RS256"))},
			"jwt.signingSecret: must be a secret, got a key in PEM; a public key is no secret: write it as publicKey"},
		{"no algorithm", map[string]any{"signingSecret": tokenSecret, "algorithms": "none"}, "jwt.algorithms: must be one of RS256,"},
		{"a short name of an algorithm", map[string]any{"signingSecret": tokenSecret, "algorithms": "x"}, "jwt.algorithms: must be one of RS256,"},
		{"a secret for RSA", map[string]any{"signingSecret": tokenSecret, "algorithms": "RS256"}, "jwt.algorithms: RS256 does not fit the key"},
		{"HMAC with an issuer's keys", map[string]any{"issuer": "https://id.example.com", "algorithms": "HS256"},
			"jwt.algorithms: HS256 does not fit the key"},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			refused(t, jwtOptions(row.options), row.want)
		})
	}
}

// TestBearerJWTBesideBrokenSignIn: what is wrong with the sign-in is said, also when its keys are wanted.
func TestBearerJWTBesideBrokenSignIn(t *testing.T) {
	t.Parallel()
	_, err := build(t, newFakeProvider(t).options(map[string]any{"jwt": true, "clientConfig": map[string]any{"tls": map[string]any{"ca": "x"}}}))
	if err == nil || strings.Contains(err.Error(), "a bug") || !strings.Contains(err.Error(), "clientConfig: tls.ca: no certificate found") {
		t.Errorf("got %v", err)
	}
}

// TestBearerJWTBesideSignIn: an empty block means this issuer, this client.
func TestBearerJWTBesideSignIn(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	for _, on := range []any{map[string]any{}, true, "true"} {
		s := start(t, p.options(map[string]any{"jwt": on, "forwardHeaders": map[string]any{"X-User": "sub", "X-ID": "id_token.sub"}}))
		claims := map[string]any{"iss": p.issuer, "aud": p.clientID}
		if seen := bearer(t, s, signed(p.key, nil, claims)).accepted("ada"); seen.Headers["X-Id"] != nil {
			t.Errorf("a token that was brought is no ID token: %v", seen.Headers)
		}
		bearer(t, s, signed(p.key, nil, mergeClaims(claims, map[string]any{"aud": "other"}))).challenged(401, badToken, `audience: expected "app"`)
		bearer(t, s, signed(p.key, nil, mergeClaims(claims, map[string]any{"iss": "https://other.example"}))).challenged(401, badToken, "issuer: expected")
		bearer(t, s, signed(p.key, map[string]any{"typ": "logout+jwt"}, claims)).challenged(401, badToken, "typ: expected")
	}
	if p.count("discovery") != 1 || p.count("jwks") != 1 {
		t.Errorf("%d discoveries and %d key sets for one provider", p.count("discovery"), p.count("jwks"))
	}
	s := start(t, p.options(map[string]any{"jwt": map[string]any{"audience": []string{"api", "other"}},
		"forwardHeaders": map[string]any{"X-User": "sub"}}))
	bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer, "aud": []string{"x", "other"}})).accepted("ada")
}

// TestBearerJWTProviderAway: while the keys cannot be had nobody can say whether a token is good, so it is neither let in nor refused.
func TestBearerJWTProviderAway(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.away(true)
	s := start(t, jwtOptions(map[string]any{"issuer": p.issuer, "clientConfig": map[string]any{"maxRetries": 0}}))
	token := signed(p.key, nil, map[string]any{"iss": p.issuer})
	r := bearer(t, s, token).challenged(503, "", "GET /api: 503: unavailable: ")
	if r.header.Get("Retry-After") == "" {
		t.Errorf("no Retry-After:\n%s", r.story())
	}
	p.away(false)
	time.Sleep(1100 * time.Millisecond) // the plugin waits a second before it asks again
	bearer(t, s, token).accepted("ada")
	p.away(true)
	bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer, "sub": "bob"})).accepted("bob")
}

// TestJWTFileOfNoKeys: what is no key set is refused, in the option itself as in a file.
func TestJWTFileOfNoKeys(t *testing.T) {
	for _, text := range []string{`{"keys":[`, `{"keys":[]}`, "/no/such/file"} {
		if got, err := fileKeys(text, &problems{}); err == nil {
			t.Errorf("%s: got %v", text, got)
		}
	}
}
