package provider

import (
	"crypto"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// Client is one registration at the provider. Only ID is needed; the zero value of the rest is what most cases want:
// a client that authenticates with its secret in the Authorization header and gets rotating refresh tokens.
type Client struct {
	ID     string
	Secret string

	// AuthMethod is the only way this client may authenticate: client_secret_basic (the default), client_secret_post,
	// private_key_jwt, or none, which makes it a public client.
	AuthMethod string
	// PublicKey verifies the assertions of a private_key_jwt client, whatever kid they name.
	PublicKey crypto.PublicKey

	RedirectURIs           []string
	PostLogoutRedirectURIs []string

	// AccessTokenLifetime and IDTokenLifetime default to five minutes and one hour.
	AccessTokenLifetime time.Duration
	IDTokenLifetime     time.Duration
	// RefreshTokenLifetime defaults to five hours.
	RefreshTokenLifetime time.Duration
	// KeepRefreshToken makes a refresh answer without a new refresh token, as Google does. The default is rotation:
	// each refresh token works once, and a second use of one ends the whole sign-in (RFC 9700 4.14.2).
	KeepRefreshToken bool

	// JWTAccessTokens makes access tokens JWTs (RFC 9068) instead of opaque ones.
	JWTAccessTokens bool
	// Audience is what access and ID tokens name beside the client.
	Audience []string
	// ThinIDToken leaves the claims of the scopes profile and email out of the ID token, so that only UserInfo has them,
	// which is what OpenID Connect Core 5.4 describes.
	ThinIDToken bool
	// ClientCredentials allows the grant of RFC 6749 4.4.
	ClientCredentials bool
}

// registration is a Client as the library wants to see it.
type registration struct{ Client }

func (c registration) GetID() string                    { return c.ID }
func (c registration) RedirectURIs() []string           { return c.Client.RedirectURIs }
func (c registration) PostLogoutRedirectURIs() []string { return c.Client.PostLogoutRedirectURIs }
func (c registration) LoginURL(id string) string        { return loginPath + "?id=" + id }
func (c registration) AuthMethod() oidc.AuthMethod      { return oidc.AuthMethod(c.authMethod()) }

func (c registration) authMethod() string {
	if c.Client.AuthMethod == "" {
		return "client_secret_basic"
	}
	return c.Client.AuthMethod
}

// ApplicationType tells the library whether the client can keep a secret. A native one may use http on loopback only.
func (c registration) ApplicationType() op.ApplicationType {
	if c.authMethod() == "none" {
		return op.ApplicationTypeNative
	}
	return op.ApplicationTypeWeb
}

func (c registration) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}

func (c registration) GrantTypes() []oidc.GrantType {
	types := []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken}
	if c.ClientCredentials {
		types = append(types, oidc.GrantTypeClientCredentials)
	}
	return types
}

func (c registration) AccessTokenType() op.AccessTokenType {
	if c.JWTAccessTokens {
		return op.AccessTokenTypeJWT
	}
	return op.AccessTokenTypeBearer
}

func (c registration) IDTokenLifetime() time.Duration {
	return orElse(c.Client.IDTokenLifetime, time.Hour)
}

// DevMode allows http redirect URIs on names other than localhost; the tests have one name per case.
func (c registration) DevMode() bool { return true }

func (c registration) RestrictAdditionalIdTokenScopes() func([]string) []string { return allScopes }

func (c registration) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return allScopes
}

func allScopes(scopes []string) []string { return scopes }

// IsScopeAllowed lets every scope through: what a client asks for is for its test to see.
func (c registration) IsScopeAllowed(string) bool           { return true }
func (c registration) IDTokenUserinfoClaimsAssertion() bool { return !c.ThinIDToken }
func (c registration) ClockSkew() time.Duration             { return 0 }

func orElse(value, otherwise time.Duration) time.Duration {
	if value == 0 {
		return otherwise
	}
	return value
}
