package e2e

import (
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// TestTokenKindOptions has the cases of the options that say which tokens are access tokens, and for how long.
func TestTokenKindOptions(t *testing.T) {
	t.Parallel()
	start(t)
	p := newProvider(t, provider.Options{})
	sign := func(claims with) string {
		all := map[string]any{"iss": p.Issuer, "sub": "user-alice", "aud": "api", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
		for name, value := range claims {
			all[name] = value
		}
		token, err := p.Sign(all)
		if err != nil {
			t.Fatal(err)
		}
		return "Authorization: Bearer " + token
	}
	api := tokens(with{"jwt.issuer": p.Issuer, "jwt.audience": "api"})
	try(t, "jwt.acceptIdTokens", api, bring(sign(with{"nonce": "n", "at_hash": "h"})), row{drop, out}, row{false, out}, row{true, in})
	late := func(v *visitor) string { return bring(sign(with{"exp": time.Now().Unix() - 30}))(v) }
	try(t, "clockSkewSeconds", api, late, row{drop, in}, row{0, out}, row{300, in})
	// Azure AD B2C's access tokens, and a refreshed ID token as a sign-out shows it.
	for name, c := range map[string]struct {
		claims with
		want   string
	}{
		"B2C access":   {with{"aud": "api", "azp": "other", "scp": "read", "nonce": "n", "ver": "1.0", "tfp": "B2C_1_in"}, in},
		"B2C ID":       {with{"aud": "api", "nonce": "n", "ver": "1.0", "tfp": "B2C_1_in"}, out},
		"DPoP":         {with{"aud": "api", "scope": "read", "cnf": with{"jkt": "x"}}, out},
		"mutual TLS":   {with{"aud": "api", "scope": "read", "cnf": with{"x5t#S256": "x"}}, out},
		"refresh":      {with{"aud": "api", "typ": "Refresh"}, out},
		"plain":        {with{"aud": "api"}, in},
		"many objects": {with{"aud": "api", "list": make([]struct{}, 3000)}, in},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := bring(sign(c.claims))(start(t).serve(t, api).visitor(t)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestTokenKindsBesideSignIn: what a sign-out shows to everybody who looks over somebody's shoulder opens nothing, and the access token
// of the same provider does.
func TestTokenKindsBesideSignIn(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, site{with: with{"jwt": with{}}})
	for _, c := range []struct {
		claims map[string]any
		want   string
	}{
		{map[string]any{}, out},
		{map[string]any{"nonce": "n"}, out},
		{map[string]any{"client_id": app.name, "azp": app.name}, out},
		{map[string]any{"client_id": app.name, "jti": "j"}, in},
		{map[string]any{"scope": "openid"}, in},
	} {
		claims := map[string]any{"iss": app.provider.Issuer, "sub": "user-alice", "aud": []string{app.name}, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
		for name, value := range c.claims {
			claims[name] = value
		}
		token, err := app.provider.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		if got := bring("Authorization: Bearer " + token)(app.visitor(t)); got != c.want {
			t.Errorf("%v: got %q, want %q\n%s", c.claims, got, c.want, app.log())
		}
	}
}

// TestEd25519 signs with go-jose, which writes EdDSA, under both names of the algorithm, with a key set of a thousand keys.
func TestEd25519(t *testing.T) {
	t.Parallel()
	key := newKey(t, "EdDSA")
	certificate := certify(t, key)
	for _, name := range []string{"EdDSA", "Ed25519"} {
		set := jose.JSONWebKeySet{}
		for i := range 1000 {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: fmt.Sprint("k", i), Algorithm: name, Use: []string{"sig", "enc"}[i%2], Certificates: []*x509.Certificate{certificate}})
		}
		text, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		p := newProvider(t, provider.Options{})
		p.Instead("jwks", func(rw http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Authorization") != "Bearer of the keys" {
				http.Error(rw, "{}", http.StatusUnauthorized)
				return
			}
			_, _ = rw.Write(text)
		})
		for _, inToken := range []string{"EdDSA", "Ed25519"} {
			head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + inToken + `","kid":"k998"}`))
			payload := base64.RawURLEncoding.EncodeToString([]byte(fmt.Sprintf(`{"iss":%q,"sub":"user-alice","exp":%d}`, p.Issuer, time.Now().Add(time.Hour).Unix())))
			signature, err := key.Sign(rand.Reader, []byte(head+"."+payload), crypto.Hash(0))
			if err != nil {
				t.Fatal(err)
			}
			token := "Authorization: Bearer " + head + "." + payload + "." + base64.RawURLEncoding.EncodeToString(signature)
			s := tokens(with{"jwt.issuer": p.Issuer, "jwt.algorithms": name})
			try(t, "jwt.clientConfig.headers", s, bring(token), row{with{"Authorization": "Bearer of the keys"}, in}, row{drop, "Service Unavailable"})
		}
	}
}

// certify makes a certificate of a key.
func certify(t *testing.T, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the gateway"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// TestClientCertificateOptions has the cases of the options that name our key to the provider.
func TestClientCertificateOptions(t *testing.T) {
	t.Parallel()
	start(t)
	key := newKey(t, "PS256")
	certificate := certify(t, key)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
	sum, old := sha256.Sum256(certificate.Raw), sha1.Sum(certificate.Raw)
	thumbprints := base64.RawURLEncoding.EncodeToString(old[:]) + " " + base64.RawURLEncoding.EncodeToString(sum[:])

	p := newProvider(t, provider.Options{Clients: []provider.Client{machine}})
	p.Instead("token", func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = rw.Write([]byte(`{"access_token":"opaque","token_type":"Bearer","expires_in":60}`))
	})
	member := func(names ...string) func(v *visitor) string {
		return func(v *visitor) string {
			if got := tokenFor()(v); got != "opaque" {
				return got
			}
			for _, call := range p.Calls("token") {
				assertion := call.Form.Get("client_assertion")
				if claims, _ := provider.Claims(assertion); claims["iss"] == v.app.host {
					var found []string
					for _, name := range names {
						found = append(found, headerMember(v.t, assertion, name))
					}
					return strings.Join(found, " ")
				}
			}
			return "no assertion"
		}
	}
	signing := func(more with) site {
		s := tokens(with{gatewayBlock + "url": p.Issuer + "/token", gatewayBlock + "clientId": "{site}", gatewayBlock + "clientKey": encodeKey(t, key)})
		for name, value := range more {
			s.with[name] = value
		}
		return s
	}
	try(t, "oAuthClientCredentials.clientKeyId", signing(nil), member("kid"), row{drop, ""}, row{"mine", "mine"})
	try(t, "oAuthClientCredentials.clientKeyAlg", signing(nil), member("alg"), row{drop, "RS256"}, row{"PS256", "PS256"})
	try(t, "oAuthClientCredentials.clientCertificate", signing(nil), member("x5t", "x5t#S256"), row{drop, " "}, row{text, thumbprints})

	const secret = "the one secret that is right"
	client := func(c *provider.Client) { c.AuthMethod, c.PublicKey = "private_key_jwt", key.Public() }
	try(t, "clientCertificate", site{with: with{"clientSecret": drop, "session.secret": secret, "clientKey": encodeKey(t, key)}, client: client}, func(v *visitor) string {
		can := canSignIn(v)
		for _, call := range v.app.provider.Calls("token") {
			if claims, _ := provider.Claims(call.Form.Get("client_assertion")); claims["iss"] == v.app.name {
				return can + " " + headerMember(v.t, call.Form.Get("client_assertion"), "x5t#S256")
			}
		}
		return "no assertion"
	}, row{drop, "yes "}, row{text, "yes " + strings.Fields(thumbprints)[1]})
}
