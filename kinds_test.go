package oidc

import (
	"crypto"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// tokenKinds are tokens as providers make them, without the claims that tell no kinds. aud is app where it is the sign-in's client. What
// is wanted is a part of the refusal, "" for a token that is good; docs/apis.md has a row for each provider.
var tokenKinds = []struct{ provider, kind, header, claims, wantErr string }{
	{"Keycloak", "access", `{"typ":"JWT"}`, `{"typ":"Bearer","aud":"account","azp":"app","scope":"openid email","sid":"s","acr":"1"}`, ""},
	{"Keycloak", "access, for the client", `{"typ":"JWT"}`, `{"typ":"Bearer","aud":"app","azp":"app","sid":"s"}`, ""},
	{"Keycloak", "access, older, with nonce", `{"typ":"JWT"}`, `{"typ":"Bearer","aud":"app","azp":"app","nonce":"n"}`, ""},
	{"Keycloak", "access, as at+jwt", `{"typ":"at+jwt"}`, `{"aud":"app","client_id":"app","azp":"app"}`, ""},
	{"Keycloak", "ID", `{"typ":"JWT"}`, `{"typ":"ID","aud":"app","azp":"app","nonce":"n","at_hash":"h"}`, `an ID token`},
	{"Keycloak", "ID, refreshed", `{"typ":"JWT"}`, `{"typ":"ID","aud":"app","azp":"app"}`, `an ID token`},
	{"Keycloak", "ID, of another client", `{"typ":"JWT"}`, `{"typ":"ID","aud":"other","azp":"other"}`, `got "ID"`},
	{"Keycloak", "refresh", `{"typ":"JWT"}`, `{"typ":"Refresh","aud":"https://id/realms/main","azp":"app","scope":"openid"}`, `got "Refresh"`},
	{"Keycloak", "offline", `{"typ":"JWT"}`, `{"typ":"Offline","aud":"https://id/realms/main","azp":"app"}`, `got "Offline"`},
	{"Keycloak", "logout", `{"typ":"JWT"}`, `{"typ":"Logout","aud":"app","events":{"http://schemas.openid.net/event/backchannel-logout":{}}}`, `token`},
	{"Keycloak", "e-mail action", `{"typ":"JWT"}`, `{"typ":"verify-email","aud":"x"}`, `got "verify-email"`},
	{"Keycloak", "registration", `{"typ":"JWT"}`, `{"typ":"RegistrationAccessToken","aud":"x"}`, `got "RegistrationAccessToken"`},
	{"Keycloak", "access, bound by DPoP", `{"typ":"JWT"}`, `{"typ":"DPoP","aud":"account","scope":"openid","cnf":{"jkt":"k"}}`, `got "DPoP"`},
	{"Auth0", "access", `{"typ":"JWT"}`, `{"aud":["https://api","https://t/userinfo"],"azp":"app","scope":"openid"}`, ""},
	{"Auth0", "access, RFC 9068", `{"typ":"at+jwt"}`, `{"aud":"https://api","client_id":"app","jti":"j"}`, ""},
	{"Auth0", "ID", `{"typ":"JWT"}`, `{"aud":"app","sid":"s","nonce":"n","name":"Ada"}`, `an ID token`},
	{"Auth0", "ID, refreshed", `{"typ":"JWT"}`, `{"aud":"app","sid":"s","name":"Ada","email":"ada@example.com"}`, `an ID token`},
	{"Okta", "access", `{}`, `{"ver":1,"jti":"AT.1","aud":"api://default","cid":"app","uid":"u","scp":["openid"]}`, ""},
	{"Okta", "ID, refreshed", `{}`, `{"ver":1,"jti":"ID.1","aud":"app","amr":["pwd"],"at_hash":"h"}`, `an ID token`},
	{"Entra ID", "access, v1", `{"typ":"JWT"}`, `{"ver":"1.0","aud":"app","appid":"other","appidacr":"1","scp":"read"}`, ""},
	{"Entra ID", "access, v2", `{"typ":"JWT"}`, `{"ver":"2.0","aud":"app","azp":"other","azpacr":"0","scp":"read"}`, ""},
	{"Entra ID", "access, of an application", `{"typ":"JWT"}`, `{"ver":"2.0","aud":"app","azp":"other","azpacr":"1","roles":["r"],"idtyp":"app"}`, ""},
	{"Entra ID", "ID", `{"typ":"JWT"}`, `{"ver":"2.0","aud":"app","nonce":"n","oid":"o","tid":"t","roles":["r"]}`, `an ID token`},
	{"Entra ID", "ID, refreshed", `{"typ":"JWT"}`, `{"ver":"2.0","aud":"app","oid":"o","tid":"t","roles":["r"],"rh":"r","uti":"u"}`, `an ID token`},
	{"Entra ID", "access, bound (PoP)", `{"typ":"JWT"}`, `{"ver":"1.0","aud":"api","appid":"a","scp":"read","cnf":{"kid":"k"}}`, `cnf: bound to the key of its sender`},
	{"Azure AD B2C", "access", `{"typ":"JWT"}`, `{"ver":"1.0","aud":"api","azp":"app","scp":"read","nonce":"n","tfp":"B2C_1_in"}`, ""},
	{"Azure AD B2C", "access, for the client", `{"typ":"JWT"}`, `{"ver":"1.0","aud":"app","azp":"app","scp":"read write","nonce":"n","tfp":"B2C_1_in"}`, ""},
	{"Azure AD B2C", "ID", `{"typ":"JWT"}`, `{"ver":"1.0","aud":"app","nonce":"n","tfp":"B2C_1_in","at_hash":"h"}`, `an ID token`},
	{"Azure AD B2C", "ID, of another client", `{"typ":"JWT"}`, `{"ver":"1.0","aud":"other","nonce":"n","tfp":"B2C_1_in"}`, `an ID token`},
	{"Amazon Cognito", "access", `{}`, `{"token_use":"access","client_id":"app","scope":"openid","origin_jti":"j"}`, ""},
	{"Amazon Cognito", "ID", `{}`, `{"token_use":"id","aud":"app","cognito:username":"ada","origin_jti":"j"}`, `an ID token`},
	{"Amazon Cognito", "ID, of another client", `{}`, `{"token_use":"id","aud":"other"}`, `got "id"`},
	{"Ory Hydra", "access", `{"typ":"JWT"}`, `{"aud":[],"client_id":"app","scp":["openid"],"ext":{}}`, ""},
	{"Ory Hydra", "ID, refreshed", `{"typ":"JWT"}`, `{"aud":["app"],"rat":1,"sid":"s","at_hash":"h"}`, `an ID token`},
	{"Ory Hydra", "refresh, as introspection tells", `{}`, `{"token_use":"refresh_token","client_id":"app","scope":"openid"}`, `got "refresh_token"`},
	{"ZITADEL", "access", `{"typ":"JWT"}`, `{"aud":["app"],"client_id":"app","jti":"j","nbf":1700000000}`, ""},
	{"ZITADEL", "ID", `{"typ":"JWT"}`, `{"aud":["app"],"client_id":"app","azp":"app","at_hash":"h","nonce":"n"}`, `an ID token`},
	{"ZITADEL", "ID, refreshed, without at_hash", `{"typ":"JWT"}`, `{"aud":["app"],"client_id":"app","azp":"app"}`, `an ID token`},
	{"Authentik", "access", `{"typ":"JWT"}`, `{"aud":"app","azp":"app","uid":"u","scope":"openid email","nonce":"n"}`, ""},
	{"Authentik", "ID", `{"typ":"JWT"}`, `{"aud":"app","nonce":"n","at_hash":"h"}`, `an ID token`},
	{"Authelia", "access", `{"typ":"at+jwt"}`, `{"aud":["https://api"],"client_id":"app","scp":["openid"]}`, ""},
	{"Authelia", "ID, refreshed", `{"typ":"JWT"}`, `{"aud":["app"],"azp":"app","at_hash":"h","client_id":"app"}`, `an ID token`},
	{"Dex", "ID, also as access token", `{}`, `{"aud":"app","at_hash":"h","nonce":"n"}`, `an ID token`},
	{"Google", "ID", `{"typ":"JWT"}`, `{"aud":"app","azp":"app","at_hash":"h"}`, `an ID token`},
	{"Google", "ID, of a service account", `{"typ":"JWT"}`, `{"aud":"app","azp":"100","sub":"100","email":"x@y.iam.gserviceaccount.com"}`, `an ID token`},
	{"GitLab", "ID, refreshed", `{"typ":"JWT"}`, `{"aud":"app","auth_time":1700000000,"sub_legacy":"x","groups_direct":[]}`, `an ID token`},
	{"Curity", "access", `{}`, `{"purpose":"access_token","aud":"app","scope":"openid","client_id":"app"}`, ""},
	{"Curity", "ID", `{}`, `{"purpose":"id","aud":"app"}`, `an ID token`},
	{"Curity", "ID, of another client", `{}`, `{"purpose":"id","aud":"other"}`, `got "id"`},
	{"node oidc-provider", "access", `{"typ":"at+jwt"}`, `{"aud":"https://api","client_id":"app","jti":"j","scope":"read"}`, ""},
	{"node oidc-provider", "ID, refreshed", `{}`, `{"aud":"app","at_hash":"h"}`, `an ID token`},
	{"node oidc-provider", "logout", `{"typ":"logout+jwt"}`, `{"aud":"app","events":{"http://schemas.openid.net/event/backchannel-logout":{}}}`, `token`},
	{"node oidc-provider", "access, bound by DPoP", `{"typ":"at+jwt"}`, `{"aud":"https://api","client_id":"app","scope":"read","cnf":{"jkt":"k"}}`, `cnf: bound to the key of its sender`},
	{"node oidc-provider", "access, bound by a certificate", `{"typ":"at+jwt"}`, `{"aud":"https://api","client_id":"app","cnf":{"x5t#S256":"k"}}`, `cnf: bound to the key of its sender`},
	{"Django and Flask", "access", `{"typ":"JWT"}`, `{"token_type":"access","user_id":1}`, ""},
	{"Django and Flask", "refresh", `{"typ":"JWT"}`, `{"token_type":"refresh","user_id":1}`, `got "refresh"`},
	{"Django and Flask", "access, of Flask", `{"typ":"JWT"}`, `{"type":"access","fresh":false,"csrf":"x"}`, ""},
	{"Django and Flask", "refresh, of Flask", `{"typ":"JWT"}`, `{"type":"refresh","fresh":false}`, `got "refresh"`},
	{"Kubernetes", "service account", `{}`, `{"aud":["https://kubernetes.default.svc"],"kubernetes.io":{"namespace":"default"}}`, ""},
	{"GitHub Actions and GitLab CI", "workflow", `{"typ":"JWT"}`, `{"aud":"https://api","repository":"a/b","ref":"refs/heads/main"}`, ""},
	{"Cloudflare Access", "application", `{}`, `{"aud":["32 letters"],"type":"app","identity_nonce":"n","country":"DE"}`, ""},
	{"Supabase", "access", `{"typ":"JWT"}`, `{"aud":"authenticated","role":"authenticated","session_id":"s","amr":[{"method":"password"}]}`, ""},
	{"every provider", "security event", `{"typ":"secevent+jwt"}`, `{"aud":"app","events":{}}`, `token`},
	{"every provider", "proof of DPoP", `{"typ":"dpop+jwt"}`, `{"htm":"GET"}`, `typ: expected`},
	{"every provider", "sign-in request", `{"typ":"oauth-authz-req+jwt"}`, `{"aud":"x"}`, `typ: expected`},
	{"every provider", "answer of introspection", `{"typ":"token-introspection+jwt"}`, `{"aud":"x"}`, `typ: expected`},
}

// TestTokenKinds: an access token is let in, everything else is not. The documentation names every provider of this table.
func TestTokenKinds(t *testing.T) {
	page, err := os.ReadFile("docs/apis.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range tokenKinds {
		row := row
		t.Run(row.provider+" "+row.kind, func(t *testing.T) {
			if !strings.Contains(string(page), "\n| "+row.provider+" | ") {
				t.Errorf("docs/apis.md has no row for %s", row.provider)
			}
			header := strings.Replace(row.header, "{", `{"alg":"RS256",`, 1)
			base := map[string]any{"iss": "https://id.example.com", "sub": "ada", "exp": 1700000100, "iat": 1700000000}
			made := jwtWith(t, strings.Replace(header, ",}", "}", 1), base, row.claims)
			wantError(t, checkAccessToken(&tokenRules{skew: 60, client: "app"}, made, jwtNow), row.wantErr)
			isID := strings.HasPrefix(row.kind, "ID")
			lenient := row.wantErr
			if isID {
				lenient = ""
			}
			wantError(t, checkAccessToken(&tokenRules{skew: 60, client: "app", acceptsIDTokens: true}, made, jwtNow), lenient)
		})
	}
}

// TestTokenKindsBesideSignIn: the ID token that a sign-out shows to the whole world is no access token, also one without nonce.
func TestTokenKindsBesideSignIn(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	now := time.Now().Unix()
	refreshed := map[string]any{"iss": p.issuer, "aud": p.clientID, "iat": now, "auth_time": now, "email": "ada@example.com"}
	s := start(t, p.options(map[string]any{"jwt": map[string]any{}, "forwardHeaders": map[string]any{"X-User": "sub"}}))
	bearer(t, s, signed(p.key, nil, refreshed)).challenged(401, badToken, "typ: expected an access token, got an ID token; see jwt.acceptIdTokens")
	bearer(t, s, signed(p.key, nil, merge(refreshed, map[string]any{"scope": "openid"}))).accepted("ada")
	bearer(t, s, signed(p.key, map[string]any{"typ": "at+jwt"}, refreshed)).accepted("ada")

	cognito := map[string]any{"iss": p.issuer, "token_use": "access", "client_id": p.clientID, "scope": "openid", "iat": now}
	bearer(t, s, signed(p.key, nil, cognito)).accepted("ada")
	bearer(t, s, signed(p.key, nil, merge(cognito, map[string]any{"client_id": "other"}))).challenged(401, badToken, "audience: expected")
	bearer(t, s, signed(p.key, nil, merge(cognito, map[string]any{"aud": ""}))).challenged(401, badToken, "audience: expected")
	elsewhere := start(t, p.options(map[string]any{"jwt": map[string]any{"audience": "api"}}))
	bearer(t, elsewhere, signed(p.key, nil, cognito)).challenged(401, badToken, "audience: expected")

	s = start(t, p.options(map[string]any{"jwt": map[string]any{"acceptIdTokens": true}, "forwardHeaders": map[string]any{"X-User": "sub"}}))
	s.expectLog(`jwt.acceptIdTokens: ID tokens are accepted as access tokens`)
	bearer(t, s, signed(p.key, nil, refreshed)).accepted("ada")
	bearer(t, s, signed(p.key, nil, merge(refreshed, map[string]any{"nonce": "n", "at_hash": "h"}))).accepted("ada")
	bearer(t, s, signed(p.key, nil, merge(refreshed, map[string]any{"aud": "other"}))).challenged(401, badToken, "audience: expected")
	bearer(t, s, signed(p.key, nil, merge(refreshed, map[string]any{"typ": "Refresh"}))).challenged(401, badToken, `got "Refresh"`)
	if _, err := build(t, jwtOptions(map[string]any{"issuer": p.issuer, "acceptIdTokens": true})); err == nil || !strings.Contains(err.Error(), "jwt.audience: required with acceptIdTokens") {
		t.Errorf("without an audience: %v", err)
	}
}

// TestTokenNames: Ed25519 and EdDSA are one algorithm in tokens, keys and options.
func TestTokenNames(t *testing.T) {
	if interpreted() {
		t.Skip("HTTP tests run interpreted by way of e2e/interpreted")
	}
	t.Parallel()
	private := newPrivateKey("EdDSA")
	for i, names := range []string{"EdDSA EdDSA", "EdDSA Ed25519", "Ed25519 EdDSA", "Ed25519 Ed25519"} {
		inToken, inKey, _ := strings.Cut(names, " ")
		p := newProvider(t)
		p.key = &providerKey{kid: fmt.Sprint("k", i), alg: "EdDSA", private: private}
		published := p.key.public()
		published["alg"] = inKey
		p.answer("jwks", answerJSON(200, map[string]any{"keys": []any{published}}))
		token := signed(p.key, map[string]any{"alg": inToken}, map[string]any{"iss": p.issuer})
		for _, option := range []any{nil, "EdDSA", "Ed25519", "EdDSA,Ed25519"} {
			block := map[string]any{"issuer": p.issuer}
			if option != nil {
				block["algorithms"] = option
			}
			s := start(t, jwtOptions(block))
			bearer(t, s, token).accepted("ada")
		}
		p.edit("discovery", func(m map[string]any) { m["id_token_signing_alg_values_supported"] = []string{inKey} })
		for _, option := range []any{nil, "EdDSA", "Ed25519"} {
			s := start(t, p.options(map[string]any{"idTokenSigningAlg": option}))
			newBrowser(t, s).signIn("/").upstream()
		}
	}
	if _, err := build(t, jwtOptions(map[string]any{"publicKey": publicPEM(t, private), "algorithms": "Ed25519,ES256"})); err == nil || !strings.Contains(err.Error(), "must be of one family") {
		t.Errorf("two families: %v", err)
	}
}

// TestTokenClockSkew: how far clocks may differ is the operator's to say.
func TestTokenClockSkew(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		skew any
		late int64
		in   bool
	}{{nil, 30, true}, {nil, 90, false}, {0, 5, false}, {"120", 90, true}, {300, 290, true}, {300, 310, false}} {
		options := jwtOptions(map[string]any{"signingSecret": tokenSecret})
		options["clockSkewSeconds"] = row.skew
		s := start(t, options)
		for _, claims := range []map[string]any{{"exp": time.Now().Unix() - row.late}, {"nbf": time.Now().Unix() + row.late + 1}, {"iat": time.Now().Unix() + row.late + 1}} {
			r := bearer(t, s, sharedToken(claims))
			if r.isUpstream() != row.in {
				t.Errorf("skew %v, %v: expected in: %v\n%s", row.skew, claims, row.in, r.story())
			}
		}
	}
	for _, wrong := range []any{301, -1, 1000, "x"} {
		options := jwtOptions(map[string]any{"signingSecret": tokenSecret})
		options["clockSkewSeconds"] = wrong
		if _, err := build(t, options); err == nil || !strings.Contains(err.Error(), "clockSkewSeconds: must be") {
			t.Errorf("%v: %v", wrong, err)
		}
	}
}

// TestJWTLargeSets: a thousand keys of all uses with certificates, of which one is the token's.
func TestJWTLargeSets(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	chain := strings.Repeat("TUlJ", 400)
	var all []any
	for i := 0; i < 1000; i++ {
		published := p.key.public()
		published["kid"] = fmt.Sprint("key ", i)
		published["x5c"] = []string{chain}
		published["use"] = []string{"sig", "enc"}[i%2]
		all = append(all, published)
	}
	all = append(all, p.key.public())
	p.answer("jwks", answerJSON(200, map[string]any{"keys": all}))
	s := start(t, jwtOptions(map[string]any{"issuer": p.issuer}))
	bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer})).accepted("ada")
	bearer(t, s, signed(p.key, map[string]any{"kid": "key 998"}, map[string]any{"iss": p.issuer})).accepted("ada")
	bearer(t, s, signed(p.key, map[string]any{"kid": "key 999"}, map[string]any{"iss": p.issuer})).challenged(401, badToken,
		`none of the issuer's 1001 keys is "key 999" for RS256; the one of that name cannot be used: must be for signatures, got use "enc"`)
	// A payload of thousands of objects is a token like any other.
	many := make([]any, 9000)
	for i := range many {
		many[i] = map[string]any{}
	}
	bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer, "list": many})).accepted("ada")
	var deep any = "x"
	for i := 0; i < 1001; i++ {
		deep = []any{deep}
	}
	bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer, "deep": deep})).challenged(401, badToken, "JSON: must be complete, and at most 1000 levels deep")
}

// TestJWTCertificateKeys: keys that are published as certificates alone, and the words for those that are broken.
func TestJWTCertificateKeys(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		p := newProvider(t)
		p.key = &providerKey{kid: "k", alg: alg, private: newPrivateKey(alg)}
		kty := p.key.public()["kty"]
		p.answer("jwks", answerJSON(200, map[string]any{"keys": []any{map[string]any{"kty": kty, "kid": "k", "x5c": []string{linesOf(certificateOf(t, p.key.private.(crypto.Signer)))}}}}))
		s := start(t, jwtOptions(map[string]any{"issuer": p.issuer}))
		bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer})).accepted("ada")
	}
	p := newProvider(t)
	broken := p.key.public()
	broken["n"] = "+/" + broken["n"].(string)
	for want, keys := range map[string]any{
		`no usable key of 1: kty "RSA": n: must be base64url without padding and line breaks, at ` + p.issuer: []any{broken},
		`no usable key of 1: x5c: must be base64, at `:                                                        []any{map[string]any{"kty": "RSA", "x5c": []string{"-"}}},
		`no usable key of 1: x5c: x509: `:                                                                     []any{map[string]any{"kty": "RSA", "x5c": []string{"TUlJ"}}},
		`keys: must be an array, got null, at `:                                                               nil,
	} {
		p.answer("jwks", answerJSON(200, map[string]any{"keys": keys}))
		s := start(t, jwtOptions(map[string]any{"issuer": p.issuer, "clientConfig": map[string]any{"maxRetries": 0, "headers": map[string]any{"X-Row": want}}}))
		bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer})).challenged(503, "", want)
	}
	p.answer("jwks", answerJSON(200, map[string]any{"keys": []any{broken, (&providerKey{kid: "other", alg: "RS256", private: newPrivateKey("RS256")}).public()}}))
	s := start(t, jwtOptions(map[string]any{"issuer": p.issuer}))
	bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer})).challenged(401, badToken, "the one of that name cannot be used: kty \"RSA\": n: must be base64url")
}

// TestJWTHeadersForKeys: keys that are not public are asked for with headers.
func TestJWTHeadersForKeys(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	for _, headers := range []map[string]any{{"authorization": "Bearer one"}, {"Authorization": "Bearer two"}} {
		s := start(t, jwtOptions(map[string]any{"issuer": p.issuer, "clientConfig": map[string]any{"headers": headers}}))
		bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer})).accepted("ada")
		for _, endpoint := range []string{"discovery", "jwks"} {
			got := p.lastCall(endpoint).header.Get("Authorization")
			if got != headers["authorization"] && got != headers["Authorization"] {
				t.Errorf("%s was asked with %q", endpoint, got)
			}
		}
	}
}

// TestClientKeyNames: how the provider is told which key an assertion is signed with.
func TestClientKeyNames(t *testing.T) {
	t.Parallel()
	private := newPrivateKey("ES256")
	certificate := certificateOf(t, private.(crypto.Signer))
	p := newProvider(t)
	s := start(t, map[string]any{"oAuthClientCredentials": map[string]any{"url": p.issuer + "/token", "clientId": p.clientID, "clientKey": pemOf(t, private),
		"clientKeyId": "mine", "clientKeyAlg": "ES256", "clientCertificate": certificate}})
	apiCall(t, s, "GET", "/", "")
	header := headerOf(t, p.lastCall("token").form.Get("client_assertion"))
	if header["kid"] != "mine" || header["alg"] != "ES256" || len(header["x5t"].(string)) != 27 || len(header["x5t#S256"].(string)) != 43 {
		t.Errorf("header %v", header)
	}
	ed := newPrivateKey("EdDSA")
	s = start(t, map[string]any{"oAuthClientCredentials": map[string]any{"url": p.issuer + "/token", "clientId": p.clientID, "clientKey": pemOf(t, ed), "clientKeyAlg": "Ed25519"}})
	apiCall(t, s, "GET", "/", "")
	if header := headerOf(t, p.lastCall("token").form.Get("client_assertion")); header["alg"] != "Ed25519" || header["kid"] != nil {
		t.Errorf("header %v", header)
	}
	for want, block := range map[string]map[string]any{
		"oAuthClientCredentials.clientCertificate: must be the certificate of clientKey": {"clientKey": pemOf(t, newPrivateKey("ES256")), "clientCertificate": certificate},
		"oAuthClientCredentials.clientCertificate: must be PEM":                          {"clientKey": pemOf(t, private), "clientCertificate": "x"},
		"oAuthClientCredentials.clientKey: must be a key for RS256, got EC P-256":        {"clientKey": pemOf(t, private), "clientKeyAlg": "RS256"},
		"oAuthClientCredentials.clientKey: required with clientCertificate":              {"clientSecret": "s", "clientCertificate": certificate},
	} {
		_, err := build(t, map[string]any{"oAuthClientCredentials": merge(block, map[string]any{"url": p.issuer + "/token", "clientId": "a"})})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("expected %q, got %v", want, err)
		}
	}
	// A key of each kind, when nothing is said.
	for _, alg := range []string{"RS256", "ES384", "ES512", "EdDSA"} {
		s := start(t, map[string]any{"oAuthClientCredentials": map[string]any{"url": p.issuer + "/token", "clientId": p.clientID, "clientKey": pemOf(t, newPrivateKey(alg))}})
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

// linesOf is the base64 of a PEM text.
func linesOf(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[1:len(lines)-1], "")
}
