package oidc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

// House rules of this file: the comment on a field is its documentation, and the tags beside it are its facts. docs/reference
// makes docs/reference.md and docs/oidc.schema.json of both, so neither can drift from what the plugin does.
//
//	json:"name"     the option's name
//	default:"text"  its default, as a label would write it; a default that depends on something is told in the comment
//	alias:"name"    a second spelling that Traefik Hub's pages use
//	enum:"a|b"      the values it may have, or the names in a map
//	format:"kind"   what its value, or the names in a map, must be: see rules
//	min:"1"         the least number
//	max:"10"        the greatest number
//	secret:"true"   its value appears in no message; ${…} only as the whole value
//	restricts:"true"    without it more are let in, so it must not be there and empty, nor may what ${…} stands for
//	shown:"true"    visitors see its value: no ${file:…} in it, nor a variable with the name of a secret
//
// A comment that stands alone in Config opens a section of the reference. Sentences that begin with "Default:" and "Required" fill
// its columns of these names. “…” is code that itself has back-ticks. Blocks that switch something on by being there are pointers.
// The options of an embedded block stand where it is embedded; a comment on it replaces theirs.
//
// The tags of a field say what its value must be; the table rules says what must hold between values.

// RawConfig is what Traefik decodes into: every option as it was written. In labels all values are text, in YAML `{}` and `[]` arrive as empty
// text, and Kubernetes has typed values. readConfig understands them all, and says in its own words what is wrong.
type RawConfig struct {
	Options map[string]any `mapstructure:",remain"`
}

// Config is every option of the plugin. Option names are matched without regard to case, and an option that does not exist is
// refused: a misspelt `claims` must never open a route.
type Config struct {
	// The provider, and who we are to it.

	ProviderConfig

	// Sign-in.

	// RedirectURL is where the provider sends the browser after sign-in; register this URL there. Like all our addresses, it is a path
	// (`/oidc/callback`, on whatever host the request came to), a host and path (`app.example.com/oidc/callback`), or a complete URL. The
	// middleware's router must match it, so a router with a path rule needs that path in front. The upstream never sees it. With several
	// hosts and a path alone, register the URL of every host.
	RedirectURL string `json:"redirectUrl" shown:"true" format:"endpoint" default:"/oidc/callback"`
	// Scopes are the scopes requested from the provider; `openid` is added if missing. Many providers issue a refresh token only for
	// `offline_access`.
	Scopes []string `json:"scopes" shown:"true" default:"openid,profile,email"`
	// PKCE protects the authorization code with PKCE (RFC 7636, method S256). Providers that do not support it ignore it. The default in
	// Traefik Hub is false.
	PKCE bool `json:"pkce" format:"switch" default:"true"`
	// PAR sends the authorization request directly to the provider, and only a reference to it through the browser (RFC 9126). `auto` does
	// so if the provider requires it.
	PAR string `json:"par" default:"auto" enum:"auto|true|false"`
	// AuthParams are query parameters to add to the authorization request, such as `access_type: offline` for Google. They cannot replace
	// parameters of the protocol itself. An empty `prompt` sends none.
	AuthParams map[string]string `json:"authParams" shown:"true" format:"param"`
	// LoginParams are query parameters to pass on to the provider from the request that starts the sign-in, such as `login_hint`,
	// `ui_locales`, `acr_values` or `prompt`. Visitors choose their values.
	LoginParams []string `json:"loginParams" format:"param"`
	// ResponseMode is how the provider returns the authorization response: `query`, in the URL, or `form_post`, in a form. `form_post`
	// keeps the code out of access logs and needs https.
	ResponseMode string `json:"responseMode" default:"query" enum:"query|form_post"`
	// MaxAge is the longest time, in seconds, since the user last authenticated at the provider. It is sent to the provider, and
	// `auth_time` is checked, also in a session that another middleware created. With 0, every sign-in asks for the password.
	MaxAge *int `json:"maxAge" format:"number" min:"0" restricts:"true"`
	// ACRValues are the accepted authentication context classes (`acr`), the preferred one first. They are sent to the provider, and the
	// ID token's `acr` must be one of them, also in a session that another middleware created.
	ACRValues []string `json:"acrValues" shown:"true" restricts:"true"`
	// Resource names the APIs that the access token is requested for (RFC 8707). Some providers reject it (Entra ID v2, Authentik).
	Resource []string `json:"resource" shown:"true" format:"uri"`
	// Userinfo also reads the UserInfo endpoint at sign-in and refresh, for providers that put few claims into the ID token. Its claims
	// add what the ID token lacks; all of them are available under `userinfo.`.
	Userinfo bool `json:"userinfo" format:"switch" default:"false"`
	// LoginURL is an address that starts a sign-in. If it is set, no other request starts one: without a session, a request gets 401,
	// unless `unauthenticated` says otherwise. It also accepts a sign-in that the provider starts (OIDC Core 4). `target_link_uri`, or
	// `rd` as in oauth2-proxy, is the page to return to, on this origin or on a host within `session.domain`. If it is empty, every page
	// starts a sign-in.
	LoginURL string `json:"loginUrl" shown:"true" format:"endpoint"`
	// PostLoginRedirectURL is the page to open after a sign-in that was started at `loginUrl`.
	PostLoginRedirectURL string `json:"postLoginRedirectUrl" shown:"true" format:"location"`
	// DisableLogin never redirects to the provider. Only sessions count that another middleware with the same issuer, client and session
	// settings created.
	DisableLogin bool `json:"disableLogin" format:"switch" default:"false"`
	// Unauthenticated decides what happens to a request without a session or token. `auto` redirects page loads to sign in and answers
	// anything else with 401, because an API call cannot follow the redirect. `login` always redirects, and `deny` always answers 401.
	// `forward` passes the request on anonymously, without identity headers. Default: `auto`, or `deny` if `loginUrl` is set.
	Unauthenticated string `json:"unauthenticated" enum:"auto|login|deny|forward"`

	// Who may pass, and what the upstream learns.

	// Bypass is a rule for requests that need no authentication, in the syntax of Traefik's routers: “Path(`/health`) ||
	// Method(`OPTIONS`)”. The matchers are `Host`, `HostRegexp`, `Path`, `PathPrefix`, `PathRegexp`, `Method`, `Header`, `HeaderRegexp`,
	// `Query`, `QueryRegexp` and `ClientIP`. Identity headers from the client are removed from these requests, too.
	Bypass string `json:"bypass"`
	// BypassIdentity also sends identity headers on requests that match `bypass`, if the user is signed in. Nobody is redirected to sign
	// in there: all other requests pass anonymously.
	BypassIdentity bool `json:"bypassIdentity" format:"switch" default:"false"`
	// IPStrategy determines the client's address for `ClientIP` in `bypass` behind load balancers.
	IPStrategy IPStrategyConfig `json:"ipStrategy"`
	PolicyConfig
	// RemoveHeaders are request headers to remove from every request, in every spelling and on every path. Use it for headers that tell an
	// upstream another path or method than the one that was checked (`X-Original-URL`, `X-Rewrite-URL`, `X-HTTP-Method-Override`,
	// `X-HTTP-Method`, `X-Method-Override`).
	RemoveHeaders []string `json:"removeHeaders" format:"identityHeader"`
	// Upgrades are protocols, besides `websocket`, that a request may switch to with the header `Upgrade`: `SPDY/3.1` for `kubectl exec`,
	// `tcp` for Docker's API. Nothing after the switch is checked, so `h2c` and `TLS/1.0` are refused.
	Upgrades []string `json:"upgrades" format:"upgrade"`

	// Sign-out.

	// LogoutURL is an address that ends the session here and at the provider. It accepts a POST, or a link on the same site.
	LogoutURL string `json:"logoutUrl" shown:"true" format:"endpoint"`
	// PostLogoutRedirectURL is the page to open after `logoutUrl`; register it at the provider.
	PostLogoutRedirectURL string `json:"postLogoutRedirectUrl" shown:"true" format:"location"`
	// BackchannelLogoutURL is the address to which the provider posts logout tokens (OpenID Connect Back-Channel Logout); register it
	// there. If sessions are kept in cookies, each Traefik knows only the logouts that it received itself: with several replicas, use
	// Redis.
	BackchannelLogoutURL string `json:"backchannelLogoutUrl" shown:"true" format:"endpoint"`
	// BackchannelLogoutSessionsRequired refuses logout tokens that name a user but no session (`sid`).
	BackchannelLogoutSessionsRequired bool `json:"backchannelLogoutSessionsRequired" format:"switch" default:"false"`
	// FrontchannelLogoutURL is an address that the provider loads in a hidden frame to end the session (OpenID Connect Front-Channel
	// Logout); register it there. It does not work in browsers that block third-party cookies, so prefer `backchannelLogoutUrl`.
	FrontchannelLogoutURL string `json:"frontchannelLogoutUrl" shown:"true" format:"endpoint"`

	// Session and cookies.

	// Session configures the session and its cookie.
	Session SessionConfig `json:"session"`
	// StateCookie configures the cookie that holds the state of a sign-in in progress. Each sign-in has its own small cookie; together
	// they are limited to 4 KB.
	StateCookie StateCookieConfig `json:"stateCookie"`
	// CSRF protects signed-in users against cross-site request forgery. A request that changes something (POST, PUT, PATCH, DELETE) must
	// repeat a cookie's value in a header, which only scripts of the same site can do. `csrf: {}` or the label `csrf=true` turns it on
	// with its defaults.
	CSRF *CSRFConfig `json:"csrf"`
	// Secret is an alternative to `session.secret`.
	Secret string `json:"secret" format:"secret" secret:"true"`

	// Bearer tokens that are JWTs.

	// JWT accepts JWTs as bearer tokens. If sign-in is configured, `jwt: {}` or the label `jwt=true` accepts access tokens that its issuer
	// issued for `clientId`. If a request carries a token, only the token is evaluated, not the session.
	JWT *JWTConfig `json:"jwt"`

	// Bearer tokens that the provider is asked about.

	// OAuthIntrospection accepts bearer tokens that the provider reports as active (RFC 7662).
	OAuthIntrospection *IntrospectionConfig `json:"oAuthIntrospection"`

	// Tokens for the upstream.

	// OAuthClientCredentials obtains a token for the upstream (RFC 6749, 4.4). It works alone, or after another method has authenticated
	// the request.
	OAuthClientCredentials *ClientCredentialsConfig `json:"oAuthClientCredentials"`

	// Operation.

	// ErrorPages are paths of HTML files that replace the built-in pages, by status: `"401"`, `"403"`, `"500"`, `"503"`. In YAML, quote
	// the statuses, because numbers do not arrive. A key-value store cannot hold them as keys, so write text there:
	// `401=/401.html,403=/403.html`.
	ErrorPages map[string]string `json:"errorPages" shown:"true" enum:"401|403|500|503"`
	// ChallengeRealm is the realm in `WWW-Authenticate` of a 401 (RFC 9110 11.5). Browsers show it when they ask for Basic credentials.
	// Default: the middleware's name.
	ChallengeRealm string `json:"challengeRealm" shown:"true" format:"realm"`
	// Memory is the size in megabytes of the cache of authenticated sessions and tokens, which makes their next request cheap. 64 MB hold
	// twenty thousand sessions or tokens that are all in use, and forty thousand at most. All middlewares of a Traefik share the cache,
	// and the largest value applies; a lower one counts from the second reload on.
	Memory int `json:"memory" format:"number" default:"64" min:"1" max:"99999"`
	// LogLevel is the least severe level that is logged. At `debug`, every decision has a line. Tokens and secrets are never logged.
	LogLevel string `json:"logLevel" default:"info" enum:"debug|info|warn|error"`
}

// ProviderConfig is the provider and our client there. Middlewares with the same values share metadata and keys.
type ProviderConfig struct {
	// Issuer is the provider's issuer identifier, exactly as in its `iss`; it is compared byte for byte. If only a final slash differs,
	// the spelling in the metadata applies, with a warning. The metadata is read at `/.well-known/openid-configuration` below it. Plain
	// http is allowed for tests, with a warning. Required for sign-in.
	Issuer string `json:"issuer" format:"issuer"`
	// TrustedIssuer is one more accepted `iss` value, for a provider whose tokens have another issuer than its metadata.
	TrustedIssuer string `json:"trustedIssuer" format:"issuer"`
	// DisableIssuerCheck accepts any issuer in the metadata and the tokens. Tokens must still be signed with the provider's keys. Prefer
	// `trustedIssuer`.
	DisableIssuerCheck bool `json:"disableIssuerCheck" format:"switch" default:"false"`
	// TrustedAudiences are audiences that an ID token may have in addition to `clientId`. `*` allows any, if the token's `azp` is
	// `clientId` (ZITADEL lists all clients of a project). A token with any other audience is refused.
	TrustedAudiences []string `json:"trustedAudiences"`
	// DiscoveryParams are query parameters to add when the provider's metadata is read, for providers that need one (`p` in Azure AD B2C).
	DiscoveryParams map[string]string `json:"discoveryParams"`
	// Endpoints replaces single endpoints from the provider's metadata.
	Endpoints EndpointsConfig `json:"endpoints"`
	// ClientID is the client ID of this application at the provider. Without sign-in, `oAuthIntrospection` authenticates with it and the
	// other client options. Required for sign-in.
	ClientID string `json:"clientId" alias:"clientID"`
	// ClientSecret is the client secret. Leave it out for a public client, which PKCE protects, and set `session.secret` instead.
	ClientSecret string `json:"clientSecret" secret:"true"`
	// ClientAuthMethod is how the client authenticates at the provider. Default: `private_key_jwt` with `clientKey`; `tls_client_auth`
	// with a certificate in `clientConfig.tls` and no secret; `none` with neither; otherwise `client_secret_basic`, or
	// `client_secret_post` if the provider supports only that.
	ClientAuthMethod string `json:"clientAuthMethod" enum:"client_secret_basic|client_secret_post|private_key_jwt|tls_client_auth|none"`
	// ClientKey is the private key for `private_key_jwt`, as PEM (PKCS #8, PKCS #1 or SEC 1).
	ClientKey string `json:"clientKey" format:"pem" secret:"true"`
	// ClientKeyID is the key's `kid` at the provider. Set it if more than one key is registered there.
	ClientKeyID string `json:"clientKeyId"`
	// ClientKeyAlg is the signature algorithm for `clientKey`. It must match the type of the key.
	ClientKeyAlg string `json:"clientKeyAlg" default:"RS256" enum:"RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA|Ed25519"`
	// ClientCertificate is the certificate of `clientKey`, as PEM. Set it for providers that identify the key by its thumbprint (`x5t`,
	// `x5t#S256`), such as Entra ID.
	ClientCertificate string `json:"clientCertificate" format:"pem"`
	// IDTokenSigningAlg is the only signature algorithm accepted in ID tokens and logout tokens. Set it if the provider does not sign with
	// what its metadata lists. HS256, HS384 and HS512, which sign with the client secret, are accepted only if they are set here. Default:
	// `RS256` if the provider lists it, otherwise the family of the first algorithm that it lists.
	IDTokenSigningAlg string `json:"idTokenSigningAlg" enum:"RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA|Ed25519|HS256|HS384|HS512"`
	// ClockSkewSeconds is the tolerated difference in seconds between our clock and the provider's when a token's `exp`, `nbf` and `iat`
	// are checked. A token stays valid that long after it expires.
	ClockSkewSeconds int `json:"clockSkewSeconds" format:"number" min:"0" max:"300" default:"60"`
	// ExchangeTimeoutSeconds is how many seconds a refresh may take. The request that starts it waits one second, or
	// `clientConfig.timeoutSeconds` if its tokens have expired, and then continues with the old tokens; a later request of that session
	// uses the new ones. A provider that rotates refresh tokens has invalidated the old one by then, so a shorter limit would end the
	// session.
	ExchangeTimeoutSeconds int `json:"exchangeTimeoutSeconds" format:"number" min:"1" max:"120" default:"20"`
	// ClientConfig configures the connection to the provider.
	ClientConfig ClientConfig `json:"clientConfig"`
}

// PolicyConfig is what a user or token must satisfy, and what the upstream learns about them.
type PolicyConfig struct {
	// Claims is the rule that a user must satisfy; otherwise the answer is 403: “Contains(`groups`, `admin`) && Equals(`email_verified`,
	// `true`)”. The functions are `Equals`, `Prefix`, `Suffix`, `Contains`, `SplitContains`, `OneOf`, `AllOf`, `Matches` and `Exists`.
	// `EqualsFold`, `PrefixFold`, `SuffixFold`, `ContainsFold` and `OneOfFold` ignore case, as e-mail addresses need. In a key, a dot
	// leads into an object (`realm_access.roles`), and `\.` is a dot in a name. A key names a claim of the ID token, or of what a prefix
	// says: `id_token.`, `access_token.`, `userinfo.`. A condition on a missing claim is false. Without a rule, everybody who is signed in
	// may pass.
	Claims string `json:"claims" restricts:"true"`
	// UsernameClaim is the claim that becomes the user name in Traefik's access log.
	UsernameClaim string `json:"usernameClaim"`
	// ForwardHeaders are request headers for the upstream. Each value is a claim (`X-User: email`), a text with claims in braces
	// (`Authorization: "Bearer {access_token}"`), or a constant in its own quotes (`X-From: "'traefik'"`). Lists are joined with commas.
	// `{groups|json}`, `|first` and `|lines` format them in other ways; `|percent` and `|rfc8187` encode characters beyond ASCII. If a
	// claim is missing, its header is not sent. Headers of these names from the client are removed, in every spelling.
	ForwardHeaders map[string]string `json:"forwardHeaders" format:"identityHeader"`
}

// IPStrategyConfig determines which address is the client's, as in Traefik's IPAllowList. Default: the peer of the connection.
type IPStrategyConfig struct {
	// Depth is the position in `X-Forwarded-For`, counted from the right: 1 is the address that the nearest proxy saw. If there are fewer
	// addresses, the client is unknown. Traefik must trust the proxies (`forwardedHeaders.trustedIPs`).
	Depth int `json:"depth" format:"number" min:"0" restricts:"true"`
	// ExcludedIPs are the addresses of proxies. The client is the first address in `X-Forwarded-For`, from the right, that is none of
	// them.
	ExcludedIPs []string `json:"excludedIPs" restricts:"true"`
}

// EndpointsConfig replaces single endpoints from the provider's metadata. Use it if Traefik reaches the provider under another name than
// browsers do, or if there is no discovery document. Each is a complete URL. Default: from the provider's metadata.
type EndpointsConfig struct {
	// Discovery is the URL of the provider's metadata. Default: `<issuer>/.well-known/openid-configuration`.
	Discovery string `json:"discovery" format:"url"`
	// Authorization is the authorization endpoint, to which browsers are sent to sign in.
	Authorization string `json:"authorization" shown:"true" format:"url"`
	// Token is the token endpoint.
	Token string `json:"token" format:"url"`
	// JWKS is the URL of the provider's key set.
	JWKS string `json:"jwks" format:"url"`
	// Userinfo is the UserInfo endpoint; see `userinfo`.
	Userinfo string `json:"userinfo" format:"url"`
	// Introspection is the introspection endpoint; see `oAuthIntrospection`.
	Introspection string `json:"introspection" format:"url"`
	// Revocation is the revocation endpoint, where refresh tokens are revoked at sign-out.
	Revocation string `json:"revocation" format:"url"`
	// EndSession is the end-session endpoint, to which browsers are sent to sign out.
	EndSession string `json:"endSession" shown:"true" format:"url"`
}

// ClientConfig configures the connection to a provider.
type ClientConfig struct {
	// TLS configures the certificates of the connection.
	TLS TLSConfig `json:"tls"`
	// TimeoutSeconds is the longest time, in seconds, that one request may take; it also applies to the block's Redis.
	TimeoutSeconds int `json:"timeoutSeconds" format:"number" min:"1" default:"5"`
	// MaxRetries is how often a failed request is retried, 10 times at most. Requests that change something are never repeated.
	MaxRetries int `json:"maxRetries" format:"number" min:"0" max:"10" default:"3"`
}

// TLSConfig is the certificates of a connection. Each may be PEM text, or `${file:/path}`.
type TLSConfig struct {
	// CA is the CA certificates to trust, as PEM. Default: the system's.
	CA string `json:"ca" format:"pem" alias:"caBundle"`
	// Cert is our client certificate, as PEM, for servers that request one.
	Cert string `json:"cert" format:"pem"`
	// Key is the private key of `cert`, as PEM. Required with `cert`.
	Key string `json:"key" format:"pem" secret:"true"`
	// InsecureSkipVerify accepts any certificate, so anybody on the network path can pose as the provider. Use it for tests only.
	InsecureSkipVerify bool `json:"insecureSkipVerify" format:"switch" default:"false"`
}

// CookieConfig is the attributes of a cookie.
type CookieConfig struct {
	// Path is the path below which browsers send the cookie. `redirectUrl` must be within the path of `stateCookie`, and `logoutUrl`
	// within the path of `session`.
	Path string `json:"path" shown:"true" format:"path" default:"/"`
	// Domain shares the cookie with all hosts below that domain (`example.com`); each of them can then read it. `stateCookie` needs it if
	// `redirectUrl` is on another host than the pages. Default: this host only.
	Domain string `json:"domain" shown:"true" format:"domain"`
	// SameSite controls whether browsers send the cookie with requests from other sites. `lax` sends it only when the user follows a link.
	// `strict` never sends it, not even right after a sign-in at a provider on another site, which would lose `stateCookie`. `none` always
	// sends it, needs `secure`, and should be combined with `csrf`. With `responseMode: form_post`, `stateCookie` is always `none`.
	SameSite string `json:"sameSite" default:"lax" enum:"lax|strict|none"`
	// HTTPOnly hides the cookie from scripts.
	HTTPOnly bool `json:"httpOnly" format:"switch" default:"true"`
	// Secure sends the cookie over https only. `session.secure: true` declares that the site uses https even if Traefik sees http, because
	// TLS ends in a proxy in front of it. Default: true if the request came over https, or if `redirectUrl` is a complete https URL on its
	// host.
	Secure *bool `json:"secure" format:"switch"`
}

// SessionConfig configures the session and its cookie.
type SessionConfig struct {
	// Name is the cookie's name; `%s` stands for the middleware's name. Over https and without `domain`, the default name gets the prefix
	// `__Host-`, so no other host can overwrite the cookie. Two middlewares with the same issuer and client share a session if they use
	// the same name.
	Name string `json:"name" shown:"true" format:"cookie" default:"%s-session"`
	CookieConfig
	// Partitioned makes our cookies work in a frame on a page of another site. It sets `SameSite=None; Secure; Partitioned`, whatever
	// `sameSite` and `secure` of `session` and `stateCookie` are. Each such site has its own sessions. The sign-in takes place in the
	// frame, so the provider must allow that and partition its cookies, too. Use it with `csrf`.
	Partitioned bool `json:"partitioned" format:"switch" default:"false"`
	// Persistent keeps the session's cookie when the browser is closed. If it is false, the browser drops the cookie then; `expiry` still
	// applies on our side.
	Persistent bool `json:"persistent" format:"switch" default:"true"`
	// Expiry is how many seconds a session lasts; with `sliding`, counted from the last request.
	Expiry int `json:"expiry" format:"number" min:"1" default:"86400"`
	// Sliding restarts `expiry` while the user is active.
	Sliding bool `json:"sliding" format:"switch" default:"true"`
	// Refresh refreshes the access token shortly before it expires. If it is false, the session keeps the tokens of the sign-in.
	Refresh bool `json:"refresh" format:"switch" default:"true"`
	// IdleTimeout ends a session after this many seconds without a request, if that is sooner than `expiry`. Default: none.
	IdleTimeout int `json:"idleTimeout" format:"number" min:"0" restricts:"true"`
	// MaxLifetime ends a session this many seconds after the sign-in, however active the user is. Default: none.
	MaxLifetime int `json:"maxLifetime" format:"number" min:"0" restricts:"true"`
	// Secret is the secret that encrypts the cookies, at least 16 characters (`openssl rand -base64 32`) and the same on every replica.
	// Default: derived from `clientSecret`. Required without `clientSecret`.
	Secret string `json:"secret" format:"secret" secret:"true"`
	// PreviousSecrets are old secrets that still decrypt cookies; these are then encrypted with `secret`. When you change `secret`, add
	// the old one here, and remove it after `expiry`.
	PreviousSecrets []string `json:"previousSecrets" format:"secret" secret:"true"`
	// Store is where sessions are stored. Default: in the encrypted cookie itself.
	Store SessionStoreConfig `json:"store"`
}

// SessionStoreConfig is where sessions are stored.
type SessionStoreConfig struct {
	// Redis stores sessions in Redis or Valkey. The cookie then holds only a ticket with the key to its session.
	Redis *RedisConfig `json:"redis"`
	// KeyPrefix is the prefix of every key in Redis.
	KeyPrefix string `json:"keyPrefix"`
	// CacheSeconds is how many seconds a replica may use its own copy of a session. A sign-out at another replica may go unnoticed that
	// long.
	CacheSeconds int `json:"cacheSeconds" format:"number" min:"0" default:"2"`
}

// RedisConfig is a connection to Redis or Valkey: one server, a cluster, or servers monitored by Sentinel.
type RedisConfig struct {
	// Endpoints are addresses, as `host:port`, `redis://` or `rediss://` (TLS): of the server, of some nodes of the cluster, or of the
	// Sentinels. Required.
	Endpoints []string `json:"endpoints" format:"server"`
	// Username is the ACL user. Default: Redis's default user.
	Username string `json:"username"`
	// Password is the user's password.
	Password string `json:"password" secret:"true"`
	// Database is the number of the database. A cluster has only 0.
	Database int `json:"database" format:"number" min:"0" default:"0"`
	// Cluster declares that the endpoints are nodes of a cluster: `cluster: {}` or the label `cluster=true`.
	Cluster *ClusterConfig `json:"cluster"`
	// TLS encrypts the connection. `tls: {}` or the label `tls=true` trusts the system's certificates.
	TLS *TLSConfig `json:"tls"`
	// Sentinel declares that the endpoints are Sentinels, which know the current master.
	Sentinel *SentinelConfig `json:"sentinel"`
}

// ClusterConfig has no options yet: its presence turns it on.
type ClusterConfig struct{}

// SentinelConfig is how to find the master through the Sentinels.
type SentinelConfig struct {
	// MasterSet is the master's name in the Sentinels' configuration. Required with `sentinel`.
	MasterSet string `json:"masterSet"`
	// Username is the ACL user on the Sentinels themselves.
	Username string `json:"username"`
	// Password is the password on the Sentinels themselves.
	Password string `json:"password" secret:"true"`
}

// StateCookieConfig configures the cookie of a sign-in in progress.
type StateCookieConfig struct {
	// Name is the cookie's name; `%s` stands for the middleware's name.
	Name string `json:"name" shown:"true" format:"cookie" default:"%s-state"`
	CookieConfig
	// MaxAge is how many seconds a sign-in may take.
	MaxAge int `json:"maxAge" format:"number" min:"1" default:"600"`
}

// CSRFConfig is the protection against cross-site request forgery: a signed value that is bound to the session is in a cookie, and must be
// in a header, too. Only scripts of the same site can read and repeat it.
type CSRFConfig struct {
	// Secure sends the cookie over https only. Default: as `session.secure`.
	Secure *bool `json:"secure" format:"switch"`
	// HeaderName is the header that must repeat the cookie's value.
	HeaderName string `json:"headerName" shown:"true" format:"header" default:"Hub-Csrf-Token"`
	// CookieName is the cookie's name.
	CookieName string `json:"cookieName" shown:"true" format:"cookie" default:"hub-csrf-token"`
}

// TokenSourceConfig is where to look for a token: in one or several places, of which a request may use only one.
type TokenSourceConfig struct {
	// Header is the name of a header.
	Header string `json:"header" format:"header"`
	// HeaderAuthScheme is the authentication scheme before the token in that header, usually `Bearer`. If it is empty, the whole header is
	// the token.
	HeaderAuthScheme string `json:"headerAuthScheme"`
	// Headers are more headers that may hold a token, alone or after a scheme, such as `Cf-Access-Jwt-Assertion` of Cloudflare Access.
	Headers []string `json:"headers" format:"header"`
	// WebSocketProtocol also accepts a token in `Sec-WebSocket-Protocol`, because scripts in browsers cannot set headers of a WebSocket:
	// `new WebSocket(url, ["bearer", token, "chat"])`, or Kubernetes' `base64url.bearer.authorization.k8s.io.…`.
	WebSocketProtocol bool `json:"webSocketProtocol" format:"switch" default:"false"`
	// Query is the name of a query parameter. URLs end up in logs, so prefer a header.
	Query string `json:"query"`
	// Cookie is the name of a cookie.
	Cookie string `json:"cookie" format:"cookie"`
}

// TokenConfig is what `jwt` and `oAuthIntrospection` have in common.
type TokenConfig struct {
	// TokenSource is where to look for the token. Default: the header `Authorization` with the scheme `Bearer`. Required for
	// `oAuthIntrospection` without sign-in: at least one source.
	TokenSource TokenSourceConfig `json:"tokenSource"`
	// Audience are the accepted audiences: `aud` in the token, or in the introspection response, must contain one of them. Default:
	// `resource` if it is set; otherwise `clientId` for `jwt` with sign-in; otherwise not checked.
	Audience []string `json:"audience" restricts:"true"`
	// Resource is the absolute URL of this API. If it is set, metadata for OAuth and MCP clients is served below
	// `/.well-known/oauth-protected-resource` (RFC 9728), and every 401 refers to it.
	Resource string `json:"resource" shown:"true" format:"url" restricts:"true"`
	// ForwardAuthorization passes the token on to the upstream where it was sent. If it is false, the token is removed from the header,
	// the cookie, the query or form parameter, or the WebSocket protocol.
	ForwardAuthorization bool `json:"forwardAuthorization" format:"switch" default:"false"`
	// PolicyConfig is as at the top level, for the claims of the token or the introspection response. Default: the top level's.
	PolicyConfig
}

// JWTConfig configures how JWTs are verified as bearer tokens. Exactly one of `signingSecret`, `publicKey`, `jwksFile`, `jwksUrl` and
// `issuer` is the source of the keys (`jwksUrl` and `issuer` may be combined). If sign-in is configured and none is set, its issuer is
// used.
type JWTConfig struct {
	// SigningSecret is the secret shared with the issuer, for HS256, HS384 and HS512. It must be as long as the hash (32, 48, 64 bytes).
	SigningSecret string `json:"signingSecret" format:"signing" secret:"true" restricts:"true"`
	// SigningSecretBase64Encoded says that `signingSecret` is base64.
	SigningSecretBase64Encoded bool `json:"signingSecretBase64Encoded" format:"switch" default:"false"`
	// PublicKey is the issuer's public key or certificate, as PEM.
	PublicKey string `json:"publicKey" format:"pem" restricts:"true"`
	// JWKSFile is the issuer's key set: the path of a file, or the JSON itself.
	JWKSFile string `json:"jwksFile" restricts:"true"`
	// JWKSURL is the URL of the issuer's key set. A path is appended to `issuer`, which must then be set. Traefik Hub appends it to the
	// issuer that the token names, so there anybody can sign tokens.
	JWKSURL string `json:"jwksUrl" format:"jwks" restricts:"true"`
	// Issuer is the `iss` that a token must have. If no other source of keys is set, they are found by discovery.
	Issuer string `json:"issuer" restricts:"true"`
	// Algorithms are the accepted signature algorithms, all of one family. Default: what the key is for.
	Algorithms []string `json:"algorithms" restricts:"true" enum:"RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA|Ed25519|HS256|HS384|HS512"`
	// AcceptIDTokens also accepts ID tokens as access tokens, for programs that have nothing else (`gcloud`, `kubelogin`, Cognito). An ID
	// token tells the client in `aud` who the user is, and whoever gets it can then call this API as that user. So set `audience` to a
	// client all of whose users may call it.
	AcceptIDTokens bool `json:"acceptIdTokens" format:"switch" default:"false"`
	// TokenKey is the name of a query parameter and form field that may also hold the token.
	TokenKey string `json:"tokenKey"`
	TokenConfig
	// ClientConfig configures how the keys are fetched. With sign-in, its issuer's keys are fetched as the top level says.
	ClientConfig KeysClientConfig `json:"clientConfig"`
}

// KeysClientConfig configures how an issuer's keys are fetched.
type KeysClientConfig struct {
	// Headers are sent with the requests for the issuer's metadata and keys, if these are not public. Kubernetes' API needs
	// `Authorization: "Bearer ${file:/var/run/secrets/kubernetes.io/serviceaccount/token}"`.
	Headers map[string]string `json:"headers" format:"header"`
	ClientConfig
}

// IntrospectionConfig configures token introspection at the provider.
type IntrospectionConfig struct {
	TokenConfig
	// ClientConfig configures the introspection request. With sign-in and without `url`, the request goes to its provider, as the top
	// level says.
	ClientConfig IntrospectionClientConfig `json:"clientConfig"`
	// TokenTypeHint is an alternative to `clientConfig.tokenTypeHint`.
	TokenTypeHint string `json:"tokenTypeHint"`
	// Issuer is the provider if there is no sign-in: the accepted `iss` of an introspection response, and the audience of client
	// assertions made with `clientKey`. Without `clientConfig.url`, its metadata names the introspection endpoint.
	Issuer string `json:"issuer" format:"issuer" restricts:"true"`
	// CacheSeconds is how many seconds an introspection response is cached, never longer than the token is valid. That a token is not
	// active is cached for 5 seconds at most. 0 disables the cache.
	CacheSeconds int `json:"cacheSeconds" format:"number" min:"0" default:"10"`
}

// IntrospectionClientConfig configures the introspection request.
type IntrospectionClientConfig struct {
	// URL is the introspection endpoint. Default: from the provider's metadata. Required without a sign-in and without `issuer`.
	URL string `json:"url" format:"url"`
	// Headers are the headers of the request, usually `Authorization` with our own credentials. Values may be Go templates over
	// `.Request`, the incoming request. Without `Authorization` here, the client of the top level authenticates: `clientId`,
	// `clientSecret`, `clientAuthMethod`, `clientKey`.
	Headers map[string]string `json:"headers" format:"header"`
	// TokenTypeHint tells the provider the type of the token, usually `access_token`.
	TokenTypeHint string `json:"tokenTypeHint"`
	ClientConfig
}

// ClientCredentialsConfig configures how a token for the upstream is obtained: with a client of our own, if `clientId` and `clientSecret`
// are set; otherwise with the client of the caller, who sends its credentials with Basic authentication.
type ClientCredentialsConfig struct {
	// URL is the provider's token endpoint. Required.
	URL string `json:"url" format:"url"`
	// ClientID is our own client ID. Without it, callers send their own credentials.
	ClientID string `json:"clientId" alias:"clientID"`
	// ClientSecret is the client secret. Required with `clientId`, unless `clientKey` is set or `clientAuthMethod` needs none.
	ClientSecret string `json:"clientSecret" secret:"true"`
	// ClientAuthMethod is how the client authenticates at the provider. Default: `private_key_jwt` with `clientKey`, otherwise
	// `client_secret_basic`.
	ClientAuthMethod string `json:"clientAuthMethod" enum:"client_secret_basic|client_secret_post|private_key_jwt|tls_client_auth|none"`
	// ClientKey is the private key for `private_key_jwt`, as PEM.
	ClientKey string `json:"clientKey" format:"pem" secret:"true"`
	// ClientKeyID is the key's `kid` at the provider.
	ClientKeyID string `json:"clientKeyId"`
	// ClientKeyAlg is the signature algorithm for `clientKey`. Default: `RS256`, `ES256`, `ES384`, `ES512` or `EdDSA`, according to the
	// key.
	ClientKeyAlg string `json:"clientKeyAlg" enum:"RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA|Ed25519"`
	// ClientCertificate is as at the top level.
	ClientCertificate string `json:"clientCertificate" format:"pem"`
	// Audience is the API that the token is for, if the provider needs its name (Auth0).
	Audience string `json:"audience"`
	// Scopes are the scopes requested for the token.
	Scopes []string `json:"scopes" shown:"true"`
	// Params are additional parameters of the token request.
	Params map[string]string `json:"params" format:"param"`
	// PolicyConfig is as at the top level, for the claims of the token, if it is a JWT.
	PolicyConfig
	// ClientConfig configures the connection to the provider.
	ClientConfig ClientConfig `json:"clientConfig"`
	// Store shares tokens between replicas. Default: each Traefik keeps its own in memory.
	Store TokenStoreConfig `json:"store"`
}

// TokenStoreConfig is where tokens for the upstream are stored.
type TokenStoreConfig struct {
	// Redis stores tokens in Redis or Valkey, encrypted with `secret`.
	Redis *RedisConfig `json:"redis"`
	// KeyPrefix is the prefix of every key in Redis.
	KeyPrefix string `json:"keyPrefix"`
	// Secret is the secret that encrypts the tokens, at least 16 characters. Required with `redis`.
	Secret string `json:"secret" format:"secret" secret:"true"`
}

// problems gathers everything that is wrong with a configuration, so that one start tells it all, and what else is found while it is read.
type problems struct {
	list  []string
	count int               // also those that say the same again
	set   map[string]string // what is set, by path
	files []string          // that the options name: a name, then the hash of its content
	parts []string          // what it shares with others, by key in the registry
	ctx   context.Context   // ends with the configuration
}

// add notes one problem: the option's path, what is wrong with it, what to write instead. The first problem of an option is the
// cause of those that follow, so only that one is kept.
func (p *problems) add(option, format string, args ...any) {
	p.count++
	prefix := option + ": "
	for _, known := range p.list {
		if strings.HasPrefix(known, prefix) {
			return
		}
	}
	p.list = append(p.list, prefix+fmt.Sprintf(format, args...))
}

// failIf notes a problem of option when a check has failed.
func (p *problems) failIf(failed bool, option, format string, args ...any) {
	if failed {
		p.add(option, format, args...)
	}
}

// addError notes err, when there is one, as a problem of option.
func (p *problems) addError(option string, err error) {
	if err != nil {
		p.add(option, "%s", err)
	}
}

// err is nil without a problem, else one line with all of them.
func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	return errors.New(strings.ReplaceAll(strings.Join(p.list, "; "), "\n", " "))
}

// readConfig turns what Traefik decoded, written as JSON, into the typed configuration and notes every problem of it. The result is
// complete even then, so that later checks can go on and report theirs in the same line.
func readConfig(text []byte, p *problems) *Config {
	raw := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // 1000000 is not 1e+06
	p.addError("options", decoder.Decode(&raw))
	config := &Config{}
	p.set = map[string]string{}
	checkJobs(config, readBlock(reflect.ValueOf(config).Elem(), &option{p: p}, raw), p)
	if config.Session.Secret == "" {
		config.Session.Secret = config.Secret
	}
	if config.Unauthenticated == "" && config.LoginURL != "" {
		config.Unauthenticated = "deny"
	} else if config.Unauthenticated == "" {
		config.Unauthenticated = "auto"
	}
	if config.StateCookie.Domain == "" { // a sign-in may come back to another host of that domain
		config.StateCookie.Domain = config.Session.Domain
	}
	if !contains(config.Scopes, "openid") { // OIDC Core 3.1.2.1
		config.Scopes = append([]string{"openid"}, config.Scopes...)
	}
	adjustCookies(config)
	checkClientSecret(config, p)
	if config.JWT != nil {
		inherit(&config.JWT.PolicyConfig, &config.PolicyConfig)
	}
	if in := config.OAuthIntrospection; in != nil {
		inherit(&in.PolicyConfig, &config.PolicyConfig)
		if in.ClientConfig.TokenTypeHint == "" {
			in.ClientConfig.TokenTypeHint = in.TokenTypeHint
		}
	}
	return config
}

// adjustCookies sets the attributes without which browsers would not send our cookies: a response that the provider has posted comes from
// another site, and so does every request from a frame.
func adjustCookies(config *Config) {
	always := true
	if config.ResponseMode == "form_post" || config.Session.Partitioned {
		config.StateCookie.SameSite = "none"
		config.StateCookie.Secure = &always
	}
	if config.Session.Partitioned {
		config.Session.SameSite = "none"
		config.Session.Secure = &always
	}
}

// checkClientSecret demands of a client secret that seals sessions as much as of session.secret: whoever can guess it offline from a cookie
// can forge a session for anybody. With one that signs tokens, they could forge tokens.
func checkClientSecret(config *Config, p *problems) {
	isSealing := config.Issuer != "" && config.Session.Secret == ""
	if config.ClientSecret == "" || !isSealing && !strings.HasPrefix(config.IDTokenSigningAlg, "HS") {
		return
	}
	found := &problems{}
	checkText(&option{path: "clientSecret", tag: `format:"secret" secret:"true"`, p: found}, config.ClientSecret)
	for _, line := range found.list {
		line = strings.TrimPrefix(line, "clientSecret: ")
		if isSealing {
			p.add("clientSecret", "seals sessions where there is no session.secret, and %s", strings.Replace(line, "write the output", "write session.secret, the output", 1))
		}
		p.add("clientSecret", "%s", line)
	}
}

// inherit gives a token block the rule and headers of the top level if it has none: a token must not open what a session does not.
func inherit(to, from *PolicyConfig) {
	if to.Claims == "" {
		to.Claims = from.Claims
	}
	if to.UsernameClaim == "" {
		to.UsernameClaim = from.UsernameClaim
	}
	if to.ForwardHeaders == nil {
		to.ForwardHeaders = from.ForwardHeaders
	}
}

// withoutLogin matches the options that make sense without a sign-in; those in the last group do so only with oAuthIntrospection. Any other
// option means that a sign-in is wanted.
var withoutLogin = regexp.MustCompile(`^(?i:bypass|bypassIdentity|ipStrategy|removeHeaders|upgrades|unauthenticated|errorPages|challengeRealm|memory|logLevel|jwt|oAuthIntrospection|oAuthClientCredentials|clockSkewSeconds|(client(?:Id|Certificate|Secret|AuthMethod|Key|KeyId|KeyAlg)))$`)

// checkJobs finds out whether a sign-in is wanted, and refuses a configuration without any job: it would let everybody in.
func checkJobs(config *Config, names []string, p *problems) {
	reason := ""
	jobs := map[string]bool{"jwt": config.JWT != nil, "oAuthIntrospection": config.OAuthIntrospection != nil, "oAuthClientCredentials": config.OAuthClientCredentials != nil}
	for _, name := range names {
		known := withoutLogin.FindStringSubmatch(name)
		if known == nil && config.ClientID == "" && (config.Issuer == "" || name == "issuer" && config.JWT != nil) && placeInJob(jobs, name) != "" {
			p.add(name, "is of a sign-in, and there is none; its place is %s", placeInJob(jobs, name))
			known = []string{name, ""}
		}
		if reason == "" && (known == nil || known[1] != "" && config.OAuthIntrospection == nil) {
			reason = fmt.Sprintf(", because %q is set", name)
		}
	}
	if reason == "" && (config.JWT != nil || config.OAuthIntrospection != nil || config.OAuthClientCredentials != nil) {
		p.failIf(config.Unauthenticated == "login", "unauthenticated", "must not be \"login\" without a sign-in; set issuer and clientId, or write \"deny\"")
		return
	}
	p.failIf(config.Issuer == "", "issuer", "required for sign-in%s; write the provider's address, such as \"https://id.example.com\"", reason)
	p.failIf(config.ClientID == "", "clientId", "required for sign-in%s; write the name under which the provider knows this application", reason)
}

// placeInJob is the path of an option with that name in the block of a configured job, "" if there is none.
func placeInJob(jobs map[string]bool, name string) string {
	for _, path := range optionPaths(reflect.TypeOf(Config{}), "") {
		if job, below, _ := strings.Cut(path, "."); jobs[job] && strings.EqualFold(below, name) {
			return path
		}
	}
	return ""
}
