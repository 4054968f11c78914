package oidc

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
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
//	is:"kind"       what its value, or the names in a map, must be: see complaint
//	min:"1"         the least number, 0 without it
//	max:"10"        the greatest number
//	secret:"true"   its value appears in no message; ${…} only as the whole value
//
// A comment that stands alone in Config opens a section of the reference. Sentences that begin with "Default:" and "Required" fill
// its columns of these names. “…” is code that itself has back-ticks. Blocks that switch something on by being there are pointers.

// RawConfig is what Traefik decodes into: every option as it was written. Labels bring all values as text, YAML brings `{}` and
// `[]` as empty text, Kubernetes brings typed values: readConfig understands them all, and says in its own words what is wrong.
type RawConfig struct {
	Options map[string]interface{} `mapstructure:",remain"`
}

// Config is every option of the plugin. Option names are matched without regard to case, and an option that does not exist is
// refused: a misspelt `claims` must never open a route.
type Config struct {
	// The provider, and who we are to it.

	// Issuer is the provider's address, exactly as it calls itself: its `iss`, compared byte for byte. Its metadata is read
	// below it, at `/.well-known/openid-configuration`. Plain http is allowed for a trial and warned about. Required for sign-in.
	Issuer string `json:"issuer" is:"issuer"`
	// TrustedIssuer is one more `iss` value that is accepted, for a provider whose tokens name another address than its
	// metadata does.
	TrustedIssuer string `json:"trustedIssuer" is:"issuer"`
	// DisableIssuerCheck accepts whatever issuer the metadata and the tokens name. Tokens must still be signed by the
	// provider's keys. Prefer `trustedIssuer`.
	DisableIssuerCheck bool `json:"disableIssuerCheck" default:"false"`
	// TrustedAudiences are further audiences an ID token may name beside `clientId`. A token that names any other is refused.
	TrustedAudiences []string `json:"trustedAudiences"`
	// DiscoveryParams are query parameters added when the provider's metadata is read, for providers that need one (`p` of
	// Azure AD B2C).
	DiscoveryParams map[string]string `json:"discoveryParams"`
	// Endpoints replaces single addresses of the provider's metadata.
	Endpoints EndpointsConfig `json:"endpoints"`
	// ClientID is the name under which the provider knows this application. Required for sign-in. Without a sign-in, it and the
	// other options of the client prove who we are in `oAuthIntrospection`.
	ClientID string `json:"clientId" alias:"clientID"`
	// ClientSecret is the application's secret. Leave it out for a public client, which is protected by PKCE; then set
	// `session.secret`.
	ClientSecret string `json:"clientSecret" secret:"true"`
	// ClientAuthMethod is how the application proves itself to the provider. Default: `private_key_jwt` when `clientKey` is
	// set, `tls_client_auth` when there is no secret but a certificate in `clientConfig.tls`, `none` without either, else
	// `client_secret_basic`, or `client_secret_post` when the provider lists only that.
	ClientAuthMethod string `json:"clientAuthMethod" enum:"client_secret_basic|client_secret_post|private_key_jwt|tls_client_auth|none"`
	// ClientKey is the private key for `private_key_jwt`, as PEM (PKCS #8, PKCS #1 or SEC 1).
	ClientKey string `json:"clientKey" secret:"true"`
	// ClientKeyID is the `kid` that the provider knows this key by. Set it when more than one key is registered.
	ClientKeyID string `json:"clientKeyId"`
	// ClientKeyAlg is the signature algorithm used with `clientKey`. It must fit the kind of key.
	ClientKeyAlg string `json:"clientKeyAlg" default:"RS256" enum:"RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA"`
	// IDTokenSigningAlg is the one signature algorithm that ID tokens and logout tokens may have. Default: `RS256` if the
	// provider lists it, else the family of what it lists first. Set it when the provider signs with something else than it
	// says; HS256, HS384 and HS512 (signed with the client secret) work only when they are named here.
	IDTokenSigningAlg string `json:"idTokenSigningAlg" enum:"RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA|HS256|HS384|HS512"`
	// ClientConfig is how the provider is called.
	ClientConfig ClientConfig `json:"clientConfig"`

	// Sign-in.

	// RedirectURL is where the provider sends the browser back to; register it there. Like all addresses of ours it is a path
	// (`/oidc/callback`, on whatever host the request came to), host and path (`app.example.com/oidc/callback`), or a
	// complete URL. It never reaches the upstream. With several hosts, the first form needs every one registered.
	RedirectURL string `json:"redirectUrl" is:"endpoint" default:"/oidc/callback"`
	// Scopes are what is asked of the provider; `openid` is added if missing. Many providers give a refresh token only for
	// `offline_access`.
	Scopes []string `json:"scopes" default:"openid,profile,email"`
	// PKCE ties the answer of the provider to the browser that asked (RFC 7636, method S256). Providers that do not know it
	// ignore it. Traefik Hub's default is false.
	PKCE bool `json:"pkce" default:"true"`
	// PAR sends the sign-in request to the provider directly and only a reference to it through the browser (RFC 9126):
	// `auto` when the provider requires it.
	PAR string `json:"par" default:"auto" enum:"auto|true|false"`
	// AuthParams are query parameters added to the sign-in request, such as `access_type: offline` for Google. Parameters of
	// the protocol itself cannot be replaced. An empty `prompt` sends none.
	AuthParams map[string]string `json:"authParams" is:"param"`
	// LoginParams are the query parameters of the request that starts the sign-in which are passed on to the provider, such as
	// `login_hint`, `ui_locales`, `acr_values` or `prompt`. Visitors choose their values.
	LoginParams []string `json:"loginParams" is:"param"`
	// ResponseMode is how the provider answers: `query`, in the address, or `form_post`, in a form, which keeps the code out
	// of access logs and needs https.
	ResponseMode string `json:"responseMode" default:"query" enum:"query|form_post"`
	// MaxAge is how many seconds ago the user may have proved who they are at the provider; it is sent, and `auth_time` is
	// checked. 0 asks for the password at each sign-in.
	MaxAge *int `json:"maxAge"`
	// ACRValues are the authentication levels that are accepted, best first. They are sent, and the ID token's `acr` must be
	// one of them.
	ACRValues []string `json:"acrValues"`
	// Resource names the APIs the access token is wanted for (RFC 8707). Some providers refuse it (Entra ID v2, Authentik).
	Resource []string `json:"resource" is:"uri"`
	// Userinfo also fetches the UserInfo endpoint at sign-in and at refresh, for providers that keep the ID token short. Its
	// claims fill in what the ID token lacks, and are also under `userinfo.`.
	Userinfo bool `json:"userinfo" default:"false"`
	// LoginURL is an address that starts a sign-in. With it, nothing else does: a request without session gets 401, unless
	// `unauthenticated` says otherwise. It also serves sign-in started by the provider (OIDC Core 4). Empty: every page does.
	LoginURL string `json:"loginUrl" is:"endpoint"`
	// PostLoginRedirectURL is where a sign-in that was started at `loginUrl` ends.
	PostLoginRedirectURL string `json:"postLoginRedirectUrl" is:"location"`
	// DisableLogin never redirects to the provider: only sessions made by another middleware of the same issuer, client and
	// session settings count.
	DisableLogin bool `json:"disableLogin" default:"false"`
	// Unauthenticated is what a request without session or token gets: `auto`, a sign-in for page loads and 401 for anything
	// else (an API call cannot follow the redirect); `login`, always a sign-in; `deny`, always 401; `forward`, on to the
	// upstream as nobody, without identity headers.
	Unauthenticated string `json:"unauthenticated" default:"auto" enum:"auto|login|deny|forward"`

	// Who may pass, and what the upstream learns.

	// Bypass is a rule for requests that need no sign-in at all, in the syntax of Traefik's routers: “Path(`/health`) ||
	// Method(`OPTIONS`)”. Matchers: `Host`, `HostRegexp`, `Path`, `PathPrefix`, `PathRegexp`, `Method`, `Header`,
	// `HeaderRegexp`, `Query`, `QueryRegexp`, `ClientIP`. Identity headers a client sends are removed here as well.
	Bypass string `json:"bypass"`
	// Claims is the rule a user must satisfy, 403 otherwise: “Contains(`groups`, `admin`) && Equals(`email_verified`,
	// `true`)”. Functions: `Equals`, `Prefix`, `Suffix`, `Contains`, `SplitContains`, `OneOf`, `AllOf`, `Matches`, `Exists`.
	// Keys walk into objects with dots (`realm_access.roles`; `\.` is a dot in a name) and read the ID token, or what a prefix
	// says: `id_token.`, `access_token.`, `userinfo.`. A claim that is missing is false. Empty: everybody who is signed in.
	Claims string `json:"claims"`
	// UsernameClaim is the claim that becomes the user name in Traefik's access log.
	UsernameClaim string `json:"usernameClaim"`
	// ForwardHeaders are the request headers the upstream gets, each with a claim (`X-User: email`) or a text with claims in
	// braces (`Authorization: "Bearer {access_token}"`). Lists are joined with commas. A claim that is missing gives no header.
	// Headers of these names that a client sends are removed, in every spelling.
	ForwardHeaders map[string]string `json:"forwardHeaders" is:"identityHeader"`

	// Sign-out.

	// LogoutURL is an address that ends the session, here and at the provider: a POST, or a link on the same site.
	LogoutURL string `json:"logoutUrl" is:"endpoint"`
	// PostLogoutRedirectURL is where the browser lands after `logoutUrl`; register it at the provider.
	PostLogoutRedirectURL string `json:"postLogoutRedirectUrl" is:"location"`
	// BackchannelLogoutURL is an address to which the provider itself posts that a user is gone (OpenID Connect Back-Channel
	// Logout); register it there. With sessions in cookies each Traefik knows only what it was told: use Redis with several.
	BackchannelLogoutURL string `json:"backchannelLogoutUrl" is:"endpoint"`
	// BackchannelLogoutSessionsRequired refuses logout tokens that name a user but no session (`sid`).
	BackchannelLogoutSessionsRequired bool `json:"backchannelLogoutSessionsRequired" default:"false"`
	// FrontchannelLogoutURL is an address the provider loads in a hidden frame to end the session (OpenID Connect
	// Front-Channel Logout); register it there. Browsers that block third-party cookies defeat it: prefer the back channel.
	FrontchannelLogoutURL string `json:"frontchannelLogoutUrl" is:"endpoint"`

	// Session and cookies.

	// Session is what is remembered of a sign-in, and how.
	Session SessionConfig `json:"session"`
	// StateCookie holds what must be remembered of a sign-in under way, one small cookie each, five at most.
	StateCookie StateCookieConfig `json:"stateCookie"`
	// CSRF makes requests of signed-in users that change something (POST, PUT, PATCH, DELETE) repeat the value of a cookie in a
	// header, which only scripts of the same site can do. `csrf: {}` and the label `csrf=true` switch it on with its defaults.
	CSRF *CSRFConfig `json:"csrf"`
	// Secret is another place for `session.secret`.
	Secret string `json:"secret" is:"secret" secret:"true"`

	// Bearer tokens that are JWTs.

	// JWT accepts bearer tokens that are JWTs. `jwt: {}` and the label `jwt=true` beside a sign-in accept access tokens of its
	// issuer that were made for `clientId`. A request that brings a token is judged by the token alone.
	JWT *JWTConfig `json:"jwt"`

	// Bearer tokens that the provider is asked about.

	// OAuthIntrospection accepts bearer tokens that the provider calls active (RFC 7662).
	OAuthIntrospection *IntrospectionConfig `json:"oAuthIntrospection"`

	// Tokens for the upstream.

	// OAuthClientCredentials obtains a token for the upstream (RFC 6749, 4.4), alone or after another job let the request in.
	OAuthClientCredentials *ClientCredentialsConfig `json:"oAuthClientCredentials"`

	// Operation.

	// ErrorPages are paths of HTML files that replace the built-in pages, by status: `"401"`, `"403"`, `"500"`, `"503"` (in quotes:
	// YAML's numbers do not arrive). A key-value store cannot hold them as keys: write text, `401=/401.html,403=/403.html`.
	ErrorPages map[string]string `json:"errorPages" enum:"401|403|500|503"`
	// LogLevel is how much is logged. At `debug` each decision has a line. Tokens and secrets are never logged.
	LogLevel string `json:"logLevel" default:"info" enum:"debug|info|warn|error"`
}

// EndpointsConfig replaces single addresses of the provider's metadata: where Traefik reaches the provider under another name than
// browsers do, or where there is no discovery document. Each is a complete URL. Default: what discovery says.
type EndpointsConfig struct {
	// Discovery is where the provider's metadata is read. Default: `<issuer>/.well-known/openid-configuration`.
	Discovery string `json:"discovery" is:"url"`
	// Authorization is where browsers are sent to sign in.
	Authorization string `json:"authorization" is:"url"`
	// Token is where codes and refresh tokens are exchanged.
	Token string `json:"token" is:"url"`
	// JWKS is where the provider's keys are.
	JWKS string `json:"jwks" is:"url"`
	// Userinfo is where claims of a user are read, with `userinfo`.
	Userinfo string `json:"userinfo" is:"url"`
	// Introspection is where tokens are asked about, with `oAuthIntrospection`.
	Introspection string `json:"introspection" is:"url"`
	// Revocation is where refresh tokens are given back at sign-out.
	Revocation string `json:"revocation" is:"url"`
	// EndSession is where browsers are sent to sign out.
	EndSession string `json:"endSession" is:"url"`
}

// ClientConfig is how a provider is called.
type ClientConfig struct {
	// TLS is whom to trust, and our own certificate.
	TLS TLSConfig `json:"tls"`
	// TimeoutSeconds is the longest one call may take.
	TimeoutSeconds int `json:"timeoutSeconds" min:"1" default:"5"`
	// MaxRetries is how often a failed call is tried again, 10 at most. Calls that change something are never repeated.
	MaxRetries int `json:"maxRetries" max:"10" default:"3"`
}

// TLSConfig is the certificates of a connection. Each may be PEM text, or `${file:/path}`.
type TLSConfig struct {
	// CA is the certificates to trust, as PEM. Default: the system's.
	CA string `json:"ca" alias:"caBundle"`
	// Cert is our certificate, as PEM, for servers that ask for one.
	Cert string `json:"cert"`
	// Key is the private key of `cert`, as PEM. Required with `cert`.
	Key string `json:"key" secret:"true"`
	// InsecureSkipVerify accepts any certificate, so anybody on the way can be the provider. For a trial only.
	InsecureSkipVerify bool `json:"insecureSkipVerify" default:"false"`
}

// SessionConfig is what is remembered of a sign-in, and how.
type SessionConfig struct {
	// Name is the cookie's name; `%s` stands for the middleware's. Over https and without `domain` the default name gets the
	// prefix `__Host-`, which no other host can overwrite. Two middlewares of one issuer and client share a session by giving
	// it the same name.
	Name string `json:"name" is:"cookie" default:"%s-session"`
	// Path is the part of the site the cookie is sent to.
	Path string `json:"path" is:"path" default:"/"`
	// Domain shares the session with all hosts below it (`example.com`). Each of them can then read it. Default: this host.
	Domain string `json:"domain" is:"domain"`
	// Expiry is how many seconds a sign-in lasts; with `sliding`, after the last request.
	Expiry int `json:"expiry" min:"1" default:"86400"`
	// Sliding begins `expiry` anew while the user is active.
	Sliding bool `json:"sliding" default:"true"`
	// Refresh renews the access token with the refresh token shortly before it ends. Off, the session goes on with the tokens of the sign-in.
	Refresh bool `json:"refresh" default:"true"`
	// IdleTimeout ends a session after this many seconds without a request, if that is sooner than `expiry`. Default: none.
	IdleTimeout int `json:"idleTimeout"`
	// MaxLifetime ends a session this many seconds after the sign-in, however active the user is. Default: none.
	MaxLifetime int `json:"maxLifetime"`
	// SameSite says whether the cookie goes along with requests from other sites: `lax`, only when a link is followed;
	// `strict`, never, also not right after signing in at a provider on another site; `none`, always, which needs `secure` and
	// should have `csrf`.
	SameSite string `json:"sameSite" default:"lax" enum:"lax|strict|none"`
	// HTTPOnly hides the cookie from scripts.
	HTTPOnly bool `json:"httpOnly" default:"true"`
	// Secure sends the cookie over https only. Default: as the request came. Behind a load balancer that ends TLS set it to
	// true, or let Traefik trust the balancer's headers (`forwardedHeaders.trustedIPs`). Traefik Hub's default is false.
	Secure *bool `json:"secure"`
	// Secret is what cookies are sealed with, 16 characters at least (`openssl rand -base64 32`), the same on every replica.
	// Default: derived from `clientSecret`. Required without `clientSecret`.
	Secret string `json:"secret" is:"secret" secret:"true"`
	// PreviousSecrets still open cookies, which are then sealed with `secret`: put the old secret here when you change it, and
	// take it out after `expiry`.
	PreviousSecrets []string `json:"previousSecrets" is:"secret" secret:"true"`
	// Store is where sessions are kept. Default: in the cookie itself, sealed.
	Store SessionStoreConfig `json:"store"`
}

// SessionStoreConfig is where sessions are kept.
type SessionStoreConfig struct {
	// Redis keeps sessions in Redis or Valkey; the cookie holds only a ticket with the key to its session.
	Redis *RedisConfig `json:"redis"`
	// KeyPrefix begins the name of every key in Redis.
	KeyPrefix string `json:"keyPrefix"`
	// CacheSeconds is how long a replica may use its own copy of a session, so how long a sign-out elsewhere may go unseen.
	CacheSeconds int `json:"cacheSeconds" default:"2"`
}

// RedisConfig is a connection to Redis or Valkey: one server, a cluster, or servers watched by Sentinel.
type RedisConfig struct {
	// Endpoints are the addresses, `host:port` or with `redis://` or `rediss://` (TLS): the server, some of the cluster's
	// nodes, or the Sentinels. Required.
	Endpoints []string `json:"endpoints" is:"server"`
	// Username is the ACL user. Default: Redis's default user.
	Username string `json:"username"`
	// Password is the password.
	Password string `json:"password" secret:"true"`
	// Database is the number of the database. A cluster has only 0.
	Database int `json:"database" default:"0"`
	// Cluster says that the endpoints are nodes of a cluster: `cluster: {}`, or the label `cluster=true`.
	Cluster *ClusterConfig `json:"cluster"`
	// TLS encrypts the connection: `tls: {}`, or the label `tls=true`, trusts the system's certificates.
	TLS *TLSConfig `json:"tls"`
	// Sentinel says that the endpoints are Sentinels, which know the current master.
	Sentinel *SentinelConfig `json:"sentinel"`
}

// ClusterConfig has no options yet: to be there is what it says.
type ClusterConfig struct{}

// SentinelConfig is how the master is found among the Sentinels.
type SentinelConfig struct {
	// MasterSet is the name the Sentinels know the master by. Required with `sentinel`.
	MasterSet string `json:"masterSet"`
	// Username is the ACL user on the Sentinels themselves.
	Username string `json:"username"`
	// Password is the password on the Sentinels themselves.
	Password string `json:"password" secret:"true"`
}

// StateCookieConfig is the cookie of a sign-in under way.
type StateCookieConfig struct {
	// Name is the cookie's name; `%s` stands for the middleware's.
	Name string `json:"name" is:"cookie" default:"%s-state"`
	// Path is the part of the site the cookie is sent to. The callback must be in it.
	Path string `json:"path" is:"path" default:"/"`
	// Domain is the cookie's domain. Set it when `redirectUrl` is on another host than the pages. Default: this host.
	Domain string `json:"domain" is:"domain"`
	// MaxAge is how many seconds a sign-in may take.
	MaxAge int `json:"maxAge" min:"1" default:"600"`
	// SameSite is as in `session`. With `strict` the cookie is lost on the way back from a provider on another site. With
	// `responseMode: form_post` it is always `none`.
	SameSite string `json:"sameSite" default:"lax" enum:"lax|strict|none"`
	// HTTPOnly hides the cookie from scripts.
	HTTPOnly bool `json:"httpOnly" default:"true"`
	// Secure is as in `session`. Default: as the request came.
	Secure *bool `json:"secure"`
}

// CSRFConfig is the protection against requests that other sites forge: a signed value, bound to the session, in a cookie and in
// a header, which only a script of the same site can read and repeat.
type CSRFConfig struct {
	// Secure sends the cookie over https only. Default: as `session.secure`.
	Secure *bool `json:"secure"`
	// HeaderName is the header that must repeat the cookie's value.
	HeaderName string `json:"headerName" is:"header" default:"Hub-Csrf-Token"`
	// CookieName is the cookie's name.
	CookieName string `json:"cookieName" is:"cookie" default:"hub-csrf-token"`
}

// TokenSourceConfig is where a token is looked for, in this order.
type TokenSourceConfig struct {
	// Header is the name of a header.
	Header string `json:"header" is:"header"`
	// HeaderAuthScheme is the word before the token in that header, `Bearer` as a rule. Empty: the header is the token.
	HeaderAuthScheme string `json:"headerAuthScheme"`
	// Query is the name of a query parameter. Addresses end up in logs: prefer a header.
	Query string `json:"query"`
	// Cookie is the name of a cookie.
	Cookie string `json:"cookie" is:"cookie"`
}

// JWTConfig is how bearer tokens that are JWTs are checked. Exactly one of `signingSecret`, `publicKey`, `jwksFile`, `jwksUrl` and
// `issuer` says where the keys come from (`jwksUrl` and `issuer` may stand together); beside a sign-in, none means its issuer.
type JWTConfig struct {
	// SigningSecret is the secret shared with the issuer, for HS256, HS384 and HS512; as long as the hash (32, 48, 64 bytes).
	SigningSecret string `json:"signingSecret" secret:"true"`
	// SigningSecretBase64Encoded says that `signingSecret` is base64.
	SigningSecretBase64Encoded bool `json:"signingSecretBase64Encoded" default:"false"`
	// PublicKey is the issuer's public key or certificate, as PEM.
	PublicKey string `json:"publicKey"`
	// JWKSFile is the issuer's key set: the path of a file, or the JSON itself.
	JWKSFile string `json:"jwksFile"`
	// JWKSURL is where the issuer's key set is read. A path is appended to `issuer`. Traefik Hub appends it to whatever
	// issuer the token names, which lets anybody sign: here `issuer` must then be set.
	JWKSURL string `json:"jwksUrl" is:"jwks"`
	// Issuer is the `iss` a token must have. Without any other source its keys are found by discovery.
	Issuer string `json:"issuer"`
	// Audience is what a token's `aud` must name, one of these at least. Default: `clientId` beside a sign-in, `resource` if
	// that is set, else not checked.
	Audience []string `json:"audience"`
	// Algorithms are the signature algorithms accepted, all of one family. Default: what the key is for.
	Algorithms []string `json:"algorithms" enum:"RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA|HS256|HS384|HS512"`
	// TokenSource is where the token is looked for. Default: the header `Authorization` with the word `Bearer`.
	TokenSource TokenSourceConfig `json:"tokenSource"`
	// TokenKey is the name of a query parameter, and of a field of a form, where the token may be as well.
	TokenKey string `json:"tokenKey"`
	// ForwardAuthorization lets the upstream have the token's header. Off, it is removed.
	ForwardAuthorization bool `json:"forwardAuthorization" default:"false"`
	// Resource is the address of this API (absolute URL). With it the API describes itself to OAuth and MCP clients (RFC 9728)
	// below `/.well-known/oauth-protected-resource`, and every 401 names that document.
	Resource string `json:"resource" is:"url"`
	// Claims is the rule the token must satisfy, as at the top level. Default: the top level's.
	Claims string `json:"claims"`
	// UsernameClaim is as at the top level. Default: the top level's.
	UsernameClaim string `json:"usernameClaim"`
	// ForwardHeaders is as at the top level. Default: the top level's.
	ForwardHeaders map[string]string `json:"forwardHeaders" is:"identityHeader"`
	// ClientConfig is how the keys are fetched. Beside a sign-in, its issuer's keys are fetched as the top level says.
	ClientConfig ClientConfig `json:"clientConfig"`
}

// IntrospectionConfig is how bearer tokens are asked about at the provider.
type IntrospectionConfig struct {
	// TokenSource is where the token is looked for. Required: one source at least; beside a sign-in, none means the header
	// `Authorization` with the word `Bearer`.
	TokenSource TokenSourceConfig `json:"tokenSource"`
	// ClientConfig is whom to ask, and how.
	ClientConfig IntrospectionClientConfig `json:"clientConfig"`
	// TokenTypeHint is another place for `clientConfig.tokenTypeHint`.
	TokenTypeHint string `json:"tokenTypeHint"`
	// Issuer is the provider, without a sign-in: the `iss` an answer may have, whom a `clientKey` signs for, and, without
	// `clientConfig.url`, whose metadata says where to ask.
	Issuer string `json:"issuer" is:"issuer"`
	// Audience is what the answer's `aud` must name, one of these at least. Default: `resource` if that is set, else not checked.
	Audience []string `json:"audience"`
	// CacheSeconds is how long an answer is used again, never past the token's end; that a token is not active, 5 s at most. 0
	// asks each time.
	CacheSeconds int `json:"cacheSeconds" default:"10"`
	// ForwardAuthorization lets the upstream have the token's header. Off, it is removed.
	ForwardAuthorization bool `json:"forwardAuthorization" default:"false"`
	// Resource is as in `jwt`.
	Resource string `json:"resource" is:"url"`
	// Claims is the rule the answer must satisfy, as at the top level. Default: the top level's.
	Claims string `json:"claims"`
	// UsernameClaim is as at the top level. Default: the top level's.
	UsernameClaim string `json:"usernameClaim"`
	// ForwardHeaders is as at the top level. Default: the top level's.
	ForwardHeaders map[string]string `json:"forwardHeaders" is:"identityHeader"`
}

// IntrospectionClientConfig is whom to ask about tokens, and how.
type IntrospectionClientConfig struct {
	// URL is the introspection endpoint. Default: what discovery says. Required without a sign-in and without `issuer`.
	URL string `json:"url" is:"url"`
	// Headers are those of the request, as a rule `Authorization` with our own credentials. Values may be Go templates over `.Request`, the
	// incoming request. Without an `Authorization` here the client of the top level proves itself: `clientId`, `clientSecret`,
	// `clientAuthMethod`, `clientKey`.
	Headers map[string]string `json:"headers" is:"header"`
	// TokenTypeHint tells the provider what kind of token it is, `access_token` as a rule.
	TokenTypeHint string `json:"tokenTypeHint"`
	// TLS is whom to trust, and our own certificate, which `tls_client_auth` shows.
	TLS TLSConfig `json:"tls"`
	// TimeoutSeconds is the longest one call may take.
	TimeoutSeconds int `json:"timeoutSeconds" min:"1" default:"5"`
	// MaxRetries is how often a failed call is tried again, 10 at most.
	MaxRetries int `json:"maxRetries" max:"10" default:"3"`
}

// ClientCredentialsConfig is how a token for the upstream is obtained: for the gateway itself with `clientId` and `clientSecret`,
// without them for the caller, who sends its own as Basic credentials.
type ClientCredentialsConfig struct {
	// URL is the provider's token endpoint. Required.
	URL string `json:"url" is:"url"`
	// ClientID is the gateway's own client. Without it callers bring theirs.
	ClientID string `json:"clientId" alias:"clientID"`
	// ClientSecret is its secret. Required with `clientId`, unless `clientKey` is set or `clientAuthMethod` needs none.
	ClientSecret string `json:"clientSecret" secret:"true"`
	// ClientAuthMethod is how the client proves itself. Default: `private_key_jwt` with `clientKey`, else `client_secret_basic`.
	ClientAuthMethod string `json:"clientAuthMethod" enum:"client_secret_basic|client_secret_post|private_key_jwt|tls_client_auth|none"`
	// ClientKey is the private key for `private_key_jwt`, as PEM; signed with RS256, ES256 or EdDSA, as the key is.
	ClientKey string `json:"clientKey" secret:"true"`
	// Audience is the API the token is for, for providers that want it named (Auth0).
	Audience string `json:"audience"`
	// Scopes are what the token may do.
	Scopes []string `json:"scopes"`
	// Params are further parameters of the token request.
	Params map[string]string `json:"params" is:"param"`
	// Claims is the rule the token must satisfy, as at the top level, if it is a JWT.
	Claims string `json:"claims"`
	// UsernameClaim is as at the top level, read from the token.
	UsernameClaim string `json:"usernameClaim"`
	// ForwardHeaders is as at the top level, read from the token.
	ForwardHeaders map[string]string `json:"forwardHeaders" is:"identityHeader"`
	// ClientConfig is how the provider is called.
	ClientConfig ClientConfig `json:"clientConfig"`
	// Store shares tokens among replicas. Default: each Traefik keeps its own in memory.
	Store TokenStoreConfig `json:"store"`
}

// TokenStoreConfig is where tokens for the upstream are kept.
type TokenStoreConfig struct {
	// Redis keeps tokens in Redis or Valkey, sealed with `secret`.
	Redis *RedisConfig `json:"redis"`
	// KeyPrefix begins the name of every key in Redis.
	KeyPrefix string `json:"keyPrefix"`
	// Secret is what tokens are sealed with, 16 characters at least. Required with `redis`.
	Secret string `json:"secret" is:"secret" secret:"true"`
}

// problems gathers everything that is wrong with a configuration, so that one start tells it all.
type problems struct{ list []string }

// add notes one problem: the option's path, what is wrong with it, what to write instead. The first problem of an option is the
// cause of those that follow, so only that one is kept.
func (p *problems) add(option, format string, args ...interface{}) {
	prefix := option + ": "
	for _, known := range p.list {
		if strings.HasPrefix(known, prefix) {
			return
		}
	}
	p.list = append(p.list, prefix+fmt.Sprintf(format, args...))
}

// must notes a problem of option unless ok.
func (p *problems) must(ok bool, option, format string, args ...interface{}) {
	if !ok {
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

// defaultConfig is a configuration in which nothing is set: the defaults beside the fields.
func defaultConfig() *Config {
	config := &Config{}
	setDefaults(reflect.ValueOf(config).Elem())
	return config
}

// readConfig turns what Traefik decoded into the typed configuration and notes every problem of it. The result is complete even
// then, so that later checks can go on and report theirs in the same line.
func readConfig(raw map[string]interface{}, p *problems) *Config {
	config := defaultConfig()
	decodeBlock(reflect.ValueOf(config).Elem(), "", raw, p)
	absorb(config, p)
	checkJobs(config, raw, p)
	checkAddresses(config, p)
	checkCookies(config, p)
	if config.Issuer != "" {
		checkLogin(config, p)
	}
	if config.JWT != nil {
		checkJWT(config, config.JWT, p)
	}
	if config.OAuthIntrospection != nil {
		checkIntrospection(config, config.OAuthIntrospection, p)
	}
	if config.OAuthClientCredentials != nil {
		checkClientCredentials(config.OAuthClientCredentials, p)
	}
	return config
}

// absorb moves what may be written at two places to where the rest of the plugin reads it.
func absorb(config *Config, p *problems) {
	if config.Session.Secret == "" {
		config.Session.Secret = config.Secret
	}
	p.must(config.Secret == "" || config.Secret == config.Session.Secret, "secret", "is another place for session.secret, which differs; keep one of them")
	if j := config.JWT; j != nil {
		inherit(config, &j.Claims, &j.UsernameClaim, &j.ForwardHeaders)
	}
	if i := config.OAuthIntrospection; i != nil {
		inherit(config, &i.Claims, &i.UsernameClaim, &i.ForwardHeaders)
		if i.ClientConfig.TokenTypeHint == "" {
			i.ClientConfig.TokenTypeHint = i.TokenTypeHint
		}
		i.TokenTypeHint = ""
	}
}

// inherit gives a token block the rule and headers of the top level where it has none: a token must not open what a session does not.
func inherit(config *Config, claims, usernameClaim *string, forwardHeaders *map[string]string) {
	if *claims == "" {
		*claims = config.Claims
	}
	if *usernameClaim == "" {
		*usernameClaim = config.UsernameClaim
	}
	if *forwardHeaders == nil {
		*forwardHeaders = config.ForwardHeaders
	}
}

// withoutLogin are the options, in lower case, that mean something without a sign-in. Any other asks for one.
var withoutLogin = map[string]bool{"bypass": true, "unauthenticated": true, "errorpages": true, "loglevel": true, "statusurl": true,
	"statustoken": true, "jwt": true, "oauthintrospection": true, "oauthclientcredentials": true}

// checkJobs finds out whether a sign-in is wanted, and refuses a configuration that does nothing: that would let everybody in.
func checkJobs(config *Config, raw map[string]interface{}, p *problems) {
	reason := ""
	for _, name := range sortedNames("", raw, p) {
		option := strings.ToLower(name)
		isClient := config.OAuthIntrospection != nil && strings.HasPrefix(option, "client") && option != "clientconfig" // proves itself there
		if !withoutLogin[option] && !isClient && reason == "" {
			reason = fmt.Sprintf(", because %q is set", name)
		}
	}
	if reason == "" && (config.JWT != nil || config.OAuthIntrospection != nil || config.OAuthClientCredentials != nil) {
		p.must(config.Unauthenticated != "login", "unauthenticated", "must not be \"login\" without a sign-in; set issuer and clientId, or write \"deny\"")
		return
	}
	p.must(config.Issuer != "", "issuer", "required for sign-in%s; write the provider's address, such as \"https://id.example.com\"", reason)
	p.must(config.ClientID != "", "clientId", "required for sign-in%s; write the name under which the provider knows this application", reason)
}

// checkAddresses sees that each of our own addresses has one meaning.
func checkAddresses(config *Config, p *problems) {
	owner := map[string]string{}
	for _, address := range [][]string{{"redirectUrl", config.RedirectURL}, {"loginUrl", config.LoginURL}, {"logoutUrl", config.LogoutURL},
		{"backchannelLogoutUrl", config.BackchannelLogoutURL}, {"frontchannelLogoutUrl", config.FrontchannelLogoutURL}} {
		if where, err := parseLocation(address[1]); err == nil { // else not set, or reported
			p.must(owner[where.path] == "", address[0], "must not have the path of %s, got %q; write another path", owner[where.path], where.path)
			owner[where.path] = address[0]
		}
	}
	p.must(config.PostLoginRedirectURL == "" || config.PostLoginRedirectURL != config.LoginURL, "postLoginRedirectUrl",
		"must not be loginUrl, which begins another sign-in; write another page, such as \"/\"")
	p.must(config.PostLogoutRedirectURL == "" || config.PostLogoutRedirectURL != config.LogoutURL, "postLogoutRedirectUrl",
		"must not be logoutUrl, which signs out again; write another page, such as \"/\"")
}

// makeSecret is the advice for every missing or weak secret.
const makeSecret = "write the output of `openssl rand -base64 32`"

// checkCookies refuses what browsers would silently drop, and cookies that would overwrite each other.
func checkCookies(config *Config, p *problems) {
	s, t := &config.Session, &config.StateCookie
	checkCookie("session", s.Name, s.Path, s.Domain, s.SameSite, s.Secure, p)
	checkCookie("stateCookie", t.Name, t.Path, t.Domain, t.SameSite, t.Secure, p)
	p.must(s.Name != t.Name, "stateCookie.name", "must not be session.name, got %q; leave it out, or write another name", t.Name)
	p.must(config.ResponseMode != "form_post" || t.Secure == nil || *t.Secure, "stateCookie.secure",
		"must not be false with responseMode \"form_post\", whose answer is a request from another site; leave it out")
	if c := config.CSRF; c != nil {
		checkCookie("csrf", c.CookieName, "/", s.Domain, s.SameSite, c.Secure, p)
		p.must(c.CookieName != s.Name && c.CookieName != t.Name, "csrf.cookieName", "must not be another cookie's name, got %q; leave it out", c.CookieName)
	}
}

// checkCookie: RFC 6265bis 4.1.3 (prefixes) and 5.7 (SameSite).
func checkCookie(option, name, path, domain, sameSite string, secure *bool, p *problems) {
	prefix := strings.ToLower(name)
	isHost, isSecure := strings.HasPrefix(prefix, "__host-"), strings.HasPrefix(prefix, "__secure-")
	p.must(!isHost || path == "/" && domain == "", option+".name", "must not begin with \"__Host-\" unless path is \"/\" and there is no domain, got %q", name)
	p.must(!isHost && !isSecure || secure == nil || *secure, option+".secure", "must not be false for a cookie named %q; leave it out", name)
	p.must(sameSite != "none" || option == "csrf" || secure != nil && *secure, option+".secure",
		"must be true with sameSite \"none\": browsers drop such a cookie otherwise")
}

// checkLogin checks what the provider must be told and shown.
func checkLogin(config *Config, p *problems) {
	tls := &config.ClientConfig.TLS
	checkTLS("clientConfig.tls", tls, p)
	checkClientAuth("", config.ClientAuthMethod, config.ClientSecret, config.ClientKey, tls, p)
	checkRedis("session.store.redis", config.Session.Store.Redis, p)
	p.must(config.Session.Secret+config.ClientSecret != "", "session.secret", "required without clientSecret; %s, the same for all replicas", makeSecret)
	// RFC 9700 2.1.1: nothing else ties the code to a client without credentials.
	isPublic := config.ClientAuthMethod == "none" || config.ClientSecret+config.ClientKey+tls.Cert == ""
	p.must(config.PKCE || !isPublic, "pkce", "must be true for a client without credentials; leave it out, or set clientSecret")
	// OIDC Core 16.19: the client secret is the key, so it must be as long as the hash.
	least := hmacSizes[config.IDTokenSigningAlg]
	p.must(len(config.ClientSecret) >= least, "idTokenSigningAlg", "%s needs a clientSecret of %d bytes at least; let the provider sign with RS256 or ES256",
		config.IDTokenSigningAlg, least)
}

// hmacSizes are the least numbers of bytes in a key (RFC 7518 3.2).
var hmacSizes = map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}

// checkClientAuth sees that what a method needs is there.
func checkClientAuth(prefix, method, secret, key string, tls *TLSConfig, p *problems) {
	for _, need := range [][]string{{"client_secret_basic", "clientSecret", secret}, {"client_secret_post", "clientSecret", secret},
		{"private_key_jwt", "clientKey", key}, {"tls_client_auth", "clientConfig.tls.cert", tls.Cert}} {
		p.must(method != need[0] || need[2] != "", prefix+need[1], "required for clientAuthMethod %q", method)
	}
}

// checkTLS: a certificate is of no use without its key.
func checkTLS(option string, tls *TLSConfig, p *problems) {
	p.must(tls.Cert == "" || tls.Key != "", option+".key", "required with cert; write its private key as PEM")
	p.must(tls.Key == "" || tls.Cert != "", option+".cert", "required with key; write its certificate as PEM")
}

// checkRedis checks a connection to Redis, if there is one.
func checkRedis(option string, redis *RedisConfig, p *problems) {
	if redis == nil {
		return
	}
	p.must(len(redis.Endpoints) > 0, option+".endpoints", "required; write host and port, such as \"redis:6379\"")
	p.must(redis.Cluster == nil || redis.Sentinel == nil, option+".cluster", "must not stand beside sentinel; keep the one that your Redis is")
	p.must(redis.Cluster == nil || redis.Database == 0, option+".database", "must be 0 in a cluster, got %d; leave it out", redis.Database)
	p.must(redis.Sentinel == nil || redis.Sentinel.MasterSet != "", option+".sentinel.masterSet",
		"required; write the name that the Sentinels know the master by, such as \"mymaster\"")
	if redis.TLS != nil {
		checkTLS(option+".tls", redis.TLS, p)
	}
}

// checkJWT sees that the configuration alone says who may sign.
func checkJWT(config *Config, jwt *JWTConfig, p *problems) {
	checkTLS("jwt.clientConfig.tls", &jwt.ClientConfig.TLS, p)
	checkTokenSource("jwt", &jwt.TokenSource, true, p)
	var sources []string
	for _, source := range [][]string{{"signingSecret", jwt.SigningSecret}, {"publicKey", jwt.PublicKey}, {"jwksFile", jwt.JWKSFile}, {"jwksUrl", jwt.JWKSURL}} {
		if source[1] != "" {
			sources = append(sources, source[0])
		}
	}
	p.must(len(sources) < 2, "jwt", "must have one source of keys, got %s; keep one", strings.Join(sources, " and "))
	p.must(len(sources) > 0 || jwt.Issuer+config.Issuer != "", "jwt", "must have a source of keys; write one of signingSecret, publicKey, jwksFile, jwksUrl, issuer")
	isPath := strings.HasPrefix(jwt.JWKSURL, "/")
	p.must(!isPath || jwt.Issuer != "", "jwt.issuer", "required when jwksUrl is a path: tokens must not choose who signs them; write the issuer's URL")
	if isPath || len(sources) == 0 && jwt.Issuer != "" {
		wrong, hint := complaint("issuer", jwt.Issuer)
		p.must(wrong == "", "jwt.issuer", "%s where its keys are, got %q%s", wrong, jwt.Issuer, hint)
	}
	// RFC 8725 3.1: an algorithm belongs to one kind of key, so that a public key is never taken for a secret.
	for _, alg := range jwt.Algorithms {
		p.must(strings.HasPrefix(alg, jwt.Algorithms[0][:2]), "jwt.algorithms", "must be of one family, got %s and %s; keep one", jwt.Algorithms[0], alg)
		p.must((hmacSizes[alg] > 0) == (jwt.SigningSecret != ""), "jwt.algorithms",
			"%s does not fit the key; HS256, HS384 and HS512 go with signingSecret, the others with public keys", alg)
	}
}

// checkTokenSource sees that a token can be found. optional: none means the header Authorization.
func checkTokenSource(option string, source *TokenSourceConfig, optional bool, p *problems) {
	p.must(source.Header != "" || source.HeaderAuthScheme == "", option+".tokenSource.header", "required with headerAuthScheme; write \"Authorization\"")
	p.must(source.Header+source.Query+source.Cookie != "" || optional, option+".tokenSource",
		"must name a header, query or cookie; write header \"Authorization\" and headerAuthScheme \"Bearer\"")
}

// checkIntrospection sees that there is a token, and somebody to ask.
func checkIntrospection(config *Config, in *IntrospectionConfig, p *problems) {
	checkTokenSource("oAuthIntrospection", &in.TokenSource, config.Issuer != "", p)
	checkTLS("oAuthIntrospection.clientConfig.tls", &in.ClientConfig.TLS, p)
	if config.Issuer != "" {
		p.must(in.Issuer == "", "oAuthIntrospection.issuer", "must not stand beside a sign-in, whose issuer is asked; leave it out")
		return
	}
	p.must(in.ClientConfig.URL+in.Issuer != "", "oAuthIntrospection.clientConfig.url", "required without a sign-in; write the provider's introspection endpoint")
	prefix := ""
	if config.ClientAuthMethod == "tls_client_auth" { // the certificate is this block's, the rest is the top level's
		prefix = "oAuthIntrospection."
	}
	checkClientAuth(prefix, config.ClientAuthMethod, config.ClientSecret, config.ClientKey, &in.ClientConfig.TLS, p)
	p.must(config.ClientID != "" || config.ClientAuthMethod+config.ClientSecret+config.ClientKey == "", "clientId",
		"required with clientSecret, clientKey or clientAuthMethod; write the name under which the provider knows this API")
}

// checkClientCredentials: the gateway's own client is given wholly, or callers bring theirs.
func checkClientCredentials(c *ClientCredentialsConfig, p *problems) {
	const block = "oAuthClientCredentials."
	checkTLS(block+"clientConfig.tls", &c.ClientConfig.TLS, p)
	checkRedis(block+"store.redis", c.Store.Redis, p)
	p.must(c.URL != "", block+"url", "required; write the provider's token endpoint")
	p.must(c.Store.Redis == nil || c.Store.Secret != "", block+"store.secret", "required with redis; %s, the same for all replicas", makeSecret)
	hasCredentials := c.ClientSecret+c.ClientKey != ""
	p.must(c.ClientID != "" || !hasCredentials, block+"clientId", "required with clientSecret or clientKey; leave out all of them to use the caller's")
	p.must(c.ClientID == "" || hasCredentials || c.ClientAuthMethod != "", block+"clientSecret", "required with clientId; leave out both to use the caller's")
	if c.ClientID != "" {
		checkClientAuth(block, c.ClientAuthMethod, c.ClientSecret, c.ClientKey, &c.ClientConfig.TLS, p)
	}
}

// nameToken is what names of headers and cookies may be made of (RFC 9110 5.6.2).
var nameToken = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// domainName is what a cookie's domain may be: two labels at least, since browsers refuse a cookie for a whole top level.
var domainName = regexp.MustCompile(`^\.?[0-9A-Za-z]([0-9A-Za-z-]*[0-9A-Za-z])?(\.[0-9A-Za-z]([0-9A-Za-z-]*[0-9A-Za-z])?)+$`)

// connectionHeaders belong to the connection or the message, not to a user (RFC 9110 7.6.1).
var connectionHeaders = map[string]bool{"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Host": true, "Cookie": true, "Content-Length": true}

// protocolParams are the parameters of a sign-in or token request that the plugin itself decides, with the option to use instead.
var protocolParams = map[string]string{"response_type": "", "client_id": "clientId", "redirect_uri": "redirectUrl", "state": "", "nonce": "",
	"scope": "scopes", "code_challenge": "pkce", "code_challenge_method": "pkce", "response_mode": "responseMode", "request": "",
	"request_uri": "par", "grant_type": "", "client_secret": "clientSecret", "client_assertion": "clientKey", "client_assertion_type": "clientAuthMethod"}

// complaint says what is wrong with a value of the kind that an `is` tag names, and what to write. Both are empty if nothing is.
func complaint(kind, text string) (wrong, hint string) {
	switch kind {
	case "issuer", "url", "uri":
		return urlComplaint(kind, text)
	case "jwks": // Traefik Hub's path form
		if !strings.HasPrefix(text, "/") {
			return urlComplaint("url", text)
		}
	case "endpoint", "location":
		where, err := parseLocation(text)
		if err != nil {
			return err.Error(), ""
		}
		// Requests are compared with it as a plain path, and a path form "/" would take the site's front page.
		if kind == "endpoint" && (strings.ContainsAny(where.path, "?%") || where.path == "/" && where.host == "") {
			return "must be the address of a page of its own, without a query or escapes", "; try \"/oidc/callback\" or the like"
		}
	case "header", "identityHeader":
		if !nameToken.MatchString(text) {
			return "must be the name of a header", "; try \"X-User\" or the like"
		}
		if kind == "identityHeader" && connectionHeaders[http.CanonicalHeaderKey(text)] {
			return "must not be a header of the connection", "; write another name"
		}
	case "cookie":
		if !nameToken.MatchString(text) {
			return "must be the name of a cookie", "; use letters, digits, - _ ."
		}
	case "path":
		if !strings.HasPrefix(text, "/") || strings.ContainsAny(text, ";, \"") {
			return "must be a path", "; try \"/\""
		}
	case "domain":
		if !domainName.MatchString(text) {
			return "must be a domain without scheme, port or path", "; try \"example.com\", or leave it out for this host alone"
		}
	case "secret":
		if len(text) < 16 {
			return "must have 16 bytes at least", "; " + makeSecret
		}
	case "param":
		if option, reserved := protocolParams[text]; reserved && option != "" {
			return "is decided by another option", "; use " + option
		} else if reserved {
			return "belongs to the protocol and cannot be replaced", "; leave it out"
		}
	case "server":
		address := strings.TrimPrefix(strings.TrimPrefix(text, "redis://"), "rediss://")
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || strings.Trim(port, "0123456789") != "" {
			return "must be host and port, alone or after redis:// or rediss://", "; try \"redis:6379\""
		}
	}
	return "", ""
}

// urlComplaint checks a complete http(s) URL; a uri may also be a URN (RFC 8707 2), and an issuer has no query (OIDC Discovery 2).
func urlComplaint(kind, text string) (wrong, hint string) {
	u, err := url.Parse(text)
	if kind == "uri" && err == nil && u.Scheme == "urn" && !strings.Contains(text, "#") {
		return "", ""
	}
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		if !strings.Contains(text, "://") {
			hint = fmt.Sprintf("; try %q", "https://"+text)
		}
		return "must be an https URL", hint
	}
	if strings.Contains(text, "#") || kind == "issuer" && strings.Contains(text, "?") {
		return "must not have a query or fragment", fmt.Sprintf("; try %q", strings.SplitN(strings.SplitN(text, "#", 2)[0], "?", 2)[0])
	}
	if base := strings.TrimSuffix(text, "/.well-known/openid-configuration"); kind == "issuer" && base != text {
		return "must be the issuer, not its discovery document", fmt.Sprintf("; try %q", base)
	}
	return "", ""
}
