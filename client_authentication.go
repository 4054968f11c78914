package oidc

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"time"
)

// Client authentication at the provider (RFC 6749 2.3, OIDC Core 9, RFC 7523, RFC 8705).

// authenticateClient adds the client's authentication to a POST (RFC 6749 2.3).
func authenticateClient(c *client, form url.Values, header http.Header) error {
	if form == nil || c.id == "" || header.Get("Authorization") != "" {
		return nil // a GET, a client without an ID at this provider, or a request with somebody else's credentials
	}
	method := c.authMethod
	if method == "" && c.signer != nil {
		method = "private_key_jwt"
	} else if method == "" && c.secret != "" {
		known, _ := cached(&c.metadata.cache, "")
		m, isKnown := known.value.(*metadata) // a client with only a token endpoint has no metadata
		method = "client_secret_basic"        // the default if nothing is listed: OpenID Connect Discovery 3
		if isKnown && len(m.authMethods) > 0 && !contains(m.authMethods, method) {
			method = "client_secret_post"
		}
	}
	if method == "client_secret_basic" {
		header.Set("Authorization", basicAuthorization(c.id, c.secret))
		return nil
	}
	form.Set("client_id", c.id) // all that "none" and "tls_client_auth" (RFC 8705 2.1) need
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

// basicAuthorization is client_secret_basic. ID and secret are form-encoded before they are joined (RFC 6749 2.3.1).
func basicAuthorization(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// clientAssertion makes the JWT of private_key_jwt (OIDC Core 9, RFC 7523 3).
func clientAssertion(c *client) (string, error) {
	now := time.Now()
	audience := issuerOf(c)
	if audience == "" {
		audience = c.endpoints.Token // a client with only a token endpoint, whose address is configured, too
	}
	return signToken(c.signer, c.signerAlg, c.signerHeader, map[string]any{
		"iss": c.id,
		"sub": c.id,
		// The issuer, as one string, never an address from the metadata: whoever chooses that could replay the assertion elsewhere (RFC 9700 update).
		"aud": audience,
		"jti": randomText(),
		"iat": now.Unix(),
		"exp": now.Add(time.Minute).Unix(),
	})
}
