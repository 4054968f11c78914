package oidc

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"time"
)

// How we prove to the provider who we are (RFC 6749 2.3, OIDC Core 9, RFC 7523, RFC 8705).

// authenticateClient adds the client's authentication to a POST (RFC 6749 2.3).
func authenticateClient(c *client, form url.Values, header http.Header) error {
	if form == nil || c.id == "" || header.Get("Authorization") != "" {
		return nil // a GET; a client that has no name at this provider; or somebody else's credentials are used
	}
	method := c.authMethod
	if method == "" && c.signer != nil {
		method = "private_key_jwt"
	} else if method == "" && c.secret != "" {
		known, _, _ := cached(c.metadata)
		m, isKnown := known.(*metadata) // not of a client of a token endpoint alone
		method = "client_secret_basic"  // also where nothing is listed: OpenID Connect Discovery 3
		if isKnown && len(m.authMethods) > 0 && !contains(m.authMethods, method) {
			method = "client_secret_post"
		}
	}
	if method == "client_secret_basic" {
		header.Set("Authorization", basicAuthorization(c.id, c.secret))
		return nil
	}
	form.Set("client_id", c.id) // "none" and "tls_client_auth" (RFC 8705 2.1) say only who they are
	if method == "client_secret_post" {
		form.Set("client_secret", c.secret)
	}
	if method != "private_key_jwt" {
		return nil
	}
	assertion, err := clientAssertion(c)
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", assertion)
	return err
}

// basicAuthorization is client_secret_basic: both halves are form-encoded before they are joined (RFC 6749 2.3.1).
func basicAuthorization(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// clientAssertion makes the JWT of private_key_jwt (OIDC Core 9, RFC 7523 3).
func clientAssertion(c *client) (string, error) {
	now := time.Now()
	audience := issuerOf(c)
	if audience == "" {
		audience = c.endpoints.Token // a client of a token endpoint alone; configured as well
	}
	return signToken(c.signer, c.signerAlg, c.signerHeader, map[string]any{
		"iss": c.id,
		"sub": c.id,
		// The issuer, one string, never an address from metadata: who can choose the address could replay the assertion elsewhere (RFC 9700 update).
		"aud": audience,
		"jti": randomText(),
		"iat": now.Unix(),
		"exp": now.Add(time.Minute).Unix(),
	})
}
