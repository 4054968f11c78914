package oidc

import (
	"bytes"
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

	// RedirectURL is where the provider sends the browser back to; register it there. Like all addresses of ours it is a path
	// (`/oidc/callback`, on whatever host the request came to), host and path (`app.example.com/oidc/callback`), or a
	// complete URL. The router of the middleware must serve it: one with a path needs that in front. It never reaches the upstream. With several hosts, the first form needs every one registered.
	RedirectURL string `json:"redirectUrl" shown:"true" format:"endpoint" default:"/oidc/callback"`
	// Scopes are what is asked of the provider; `openid` is added if missing. Many providers give a refresh token only for
	// `offline_access`.
	Scopes []string `json:"scopes" shown:"true" default:"openid,profile,email"`
	// PKCE ties the answer of the provider to the browser that asked (RFC 7636, method S256). Providers that do not know it
	// ignore it. Traefik Hub's default is false.
	PKCE bool `json:"pkce" format:"switch" default:"true"`
	// PAR sends the sign-in request to the provider directly and only a reference to it through the browser (RFC 9126):
	// `auto` when the provider requires it.
	PAR string `json:"par" default:"auto" enum:"auto|true|false"`
	// AuthParams are query parameters added to the sign-in request, such as `access_type: offline` for Google. Parameters of
	// the protocol itself cannot be replaced. An empty `prompt` sends none.
	AuthParams map[string]string `json:"authParams" shown:"true" format:"param"`
	// LoginParams are the query parameters of the request that starts the sign-in which are passed on to the provider, such as
	// `login_hint`, `ui_locales`, `acr_values` or `prompt`. Visitors choose their values.
	LoginParams []string `json:"loginParams" format:"param"`
	// ResponseMode is how the provider answers: `query`, in the address, or `form_post`, in a form, which keeps the code out
	// of access logs and needs https.
	ResponseMode string `json:"responseMode" default:"query" enum:"query|form_post"`
	// MaxAge is how many seconds ago the user may have proved who they are at the provider; it is sent, and `auth_time` is
	// checked, also of a session that another middleware made. 0 asks for the password at each sign-in.
	MaxAge *int `json:"maxAge" format:"number" min:"0" restricts:"true"`
	// ACRValues are the authentication levels that are accepted, best first. They are sent, and the ID token's `acr` must be
	// one of them, also of a session that another middleware made.
	ACRValues []string `json:"acrValues" shown:"true" restricts:"true"`
	// Resource names the APIs the access token is wanted for (RFC 8707). Some providers refuse it (Entra ID v2, Authentik).
	Resource []string `json:"resource" shown:"true" format:"uri"`
	// Userinfo also fetches the UserInfo endpoint at sign-in and at refresh, for providers that keep the ID token short. Its
	// claims fill in what the ID token lacks, and are also under `userinfo.`.
	Userinfo bool `json:"userinfo" format:"switch" default:"false"`
	// LoginURL is an address that starts a sign-in. With it, nothing else does: a request without session gets 401, unless
	// `unauthenticated` says otherwise. It also serves sign-in started by the provider (OIDC Core 4): `target_link_uri`, or `rd` as
	// oauth2-proxy calls it, is the page to return to, on this origin or at a host within `session.domain`. Empty: every page does.
	LoginURL string `json:"loginUrl" shown:"true" format:"endpoint"`
	// PostLoginRedirectURL is where a sign-in that was started at `loginUrl` ends.
	PostLoginRedirectURL string `json:"postLoginRedirectUrl" shown:"true" format:"location"`
	// DisableLogin never redirects to the provider: only sessions made by another middleware of the same issuer, client and
	// session settings count.
	DisableLogin bool `json:"disableLogin" format:"switch" default:"false"`
	// Unauthenticated is what a request without session or token gets: `auto`, a sign-in for page loads and 401 for anything
	// else (an API call cannot follow the redirect); `login`, always a sign-in; `deny`, always 401; `forward`, on to the
	// upstream as nobody, without identity headers. Default: `auto`, beside `loginUrl` `deny`.
	Unauthenticated string `json:"unauthenticated" enum:"auto|login|deny|forward"`

	// Who may pass, and what the upstream learns.

	// Bypass is a rule for requests that need no sign-in at all, in the syntax of Traefik's routers: “Path(`/health`) ||
	// Method(`OPTIONS`)”. Matchers: `Host`, `HostRegexp`, `Path`, `PathPrefix`, `PathRegexp`, `Method`, `Header`,
	// `HeaderRegexp`, `Query`, `QueryRegexp`, `ClientIP`. Identity headers a client sends are removed here as well.
	Bypass string `json:"bypass"`
	// BypassIdentity names whoever is signed in to the upstream on requests that `bypass` lets pass, too. Nobody is sent to sign in there:
	// everybody else goes on as nobody.
	BypassIdentity bool `json:"bypassIdentity" format:"switch" default:"false"`
	// IPStrategy says whose address `ClientIP` in `bypass` is about, behind load balancers.
	IPStrategy IPStrategyConfig `json:"ipStrategy"`
	PolicyConfig
	// RemoveHeaders are request headers that are taken off whoever sends them, in every spelling, on every path: headers by which an
	// upstream is told another path or method than the one that was judged (`X-Original-URL`, `X-Rewrite-URL`,
	// `X-HTTP-Method-Override`, `X-HTTP-Method`, `X-Method-Override`).
	RemoveHeaders []string `json:"removeHeaders" format:"identityHeader"`
	// Upgrades are the protocols besides `websocket` that a connection to the upstream may change to, by the header `Upgrade`:
	// `SPDY/3.1` for `kubectl exec`, `tcp` for Docker's API. What follows is judged by nobody, so `h2c` and `TLS/1.0` are refused.
	Upgrades []string `json:"upgrades" format:"upgrade"`

	// Sign-out.

	// LogoutURL is an address that ends the session, here and at the provider: a POST, or a link on the same site.
	LogoutURL string `json:"logoutUrl" shown:"true" format:"endpoint"`
	// PostLogoutRedirectURL is where the browser lands after `logoutUrl`; register it at the provider.
	PostLogoutRedirectURL string `json:"postLogoutRedirectUrl" shown:"true" format:"location"`
	// BackchannelLogoutURL is an address to which the provider itself posts that a user is gone (OpenID Connect Back-Channel
	// Logout); register it there. With sessions in cookies each Traefik knows only what it was told: use Redis with several.
	BackchannelLogoutURL string `json:"backchannelLogoutUrl" shown:"true" format:"endpoint"`
	// BackchannelLogoutSessionsRequired refuses logout tokens that name a user but no session (`sid`).
	BackchannelLogoutSessionsRequired bool `json:"backchannelLogoutSessionsRequired" format:"switch" default:"false"`
	// FrontchannelLogoutURL is an address the provider loads in a hidden frame to end the session (OpenID Connect
	// Front-Channel Logout); register it there. Browsers that block third-party cookies defeat it: prefer the back channel.
	FrontchannelLogoutURL string `json:"frontchannelLogoutUrl" shown:"true" format:"endpoint"`

	// Session and cookies.

	// Session is what is remembered of a sign-in, and how.
	Session SessionConfig `json:"session"`
	// StateCookie holds what must be remembered of a sign-in under way, one small cookie each, 4 KB of them at most.
	StateCookie StateCookieConfig `json:"stateCookie"`
	// CSRF makes requests of signed-in users that change something (POST, PUT, PATCH, DELETE) repeat the value of a cookie in a
	// header, which only scripts of the same site can do. `csrf: {}` and the label `csrf=true` switch it on with its defaults.
	CSRF *CSRFConfig `json:"csrf"`
	// Secret is another place for `session.secret`.
	Secret string `json:"secret" format:"secret" secret:"true"`

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
	ErrorPages map[string]string `json:"errorPages" shown:"true" enum:"401|403|500|503"`
	// ChallengeRealm is what a 401 calls the protected space in `WWW-Authenticate` (RFC 9110 11.5); with Basic credentials browsers show
	// it. Default: the middleware's name.
	ChallengeRealm string `json:"challengeRealm" shown:"true" format:"realm"`
	// Memory is how many megabytes may be used to remember who was let in, so that the next request costs next to nothing; 64 hold
	// twenty thousand sessions or tokens that are all in use, and up to forty thousand. All middlewares of a Traefik share it: the largest value counts.
	Memory int `json:"memory" format:"number" default:"64" min:"1" max:"99999"`
	// LogLevel is how much is logged. At `debug` each decision has a line. Tokens and secrets are never logged.
	LogLevel string `json:"logLevel" default:"info" enum:"debug|info|warn|error"`
}

// ProviderConfig is the provider, and who we are to it: whoever says the same of both shares its documents and keys.
type ProviderConfig struct {
	// Issuer is the provider's address, exactly as it calls itself: its `iss`, compared byte for byte; where only a final slash
	// differs, the spelling of its metadata counts, with a warning. Its metadata is read
	// below it, at `/.well-known/openid-configuration`. Plain http is allowed for a trial and warned about. Required for sign-in.
	Issuer string `json:"issuer" format:"issuer"`
	// TrustedIssuer is one more `iss` value that is accepted, for a provider whose tokens name another address than its
	// metadata does.
	TrustedIssuer string `json:"trustedIssuer" format:"issuer"`
	// DisableIssuerCheck accepts whatever issuer the metadata and the tokens name. Tokens must still be signed by the
	// provider's keys. Prefer `trustedIssuer`.
	DisableIssuerCheck bool `json:"disableIssuerCheck" format:"switch" default:"false"`
	// TrustedAudiences are further audiences an ID token may name beside `clientId`; `*` is any, of tokens whose `azp` is
	// `clientId` (ZITADEL names all clients of a project). A token that names any other is refused.
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
	ClientKey string `json:"clientKey" format:"pem" secret:"true"`
	// ClientKeyID is the `kid` that the provider knows this key by. Set it when more than one key is registered.
	ClientKeyID string `json:"clientKeyId"`
	// ClientKeyAlg is the signature algorithm used with `clientKey`. It must fit the kind of key.
	ClientKeyAlg string `json:"clientKeyAlg" default:"RS256" enum:"RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA|Ed25519"`
	// ClientCertificate is the certificate of `clientKey`, as PEM, for providers that know the key by its thumbprint (`x5t`, `x5t#S256`):
	// Entra ID.
	ClientCertificate string `json:"clientCertificate" format:"pem"`
	// IDTokenSigningAlg is the one signature algorithm that ID tokens and logout tokens may have. Default: `RS256` if the
	// provider lists it, else the family of what it lists first. Set it when the provider signs with something else than it
	// says; HS256, HS384 and HS512 (signed with the client secret) work only when they are named here.
	IDTokenSigningAlg string `json:"idTokenSigningAlg" enum:"RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA|Ed25519|HS256|HS384|HS512"`
	// ClockSkewSeconds is by how much our clock and the provider's may differ when the times in a token are judged (`exp`, `nbf`, `iat`).
	// That long after its end a token is still good.
	ClockSkewSeconds int `json:"clockSkewSeconds" format:"number" min:"0" max:"300" default:"60"`
	// ExchangeTimeoutSeconds is how long the answer to a refresh is awaited. The request that began it waits for a second, or for
	// `clientConfig.timeoutSeconds` if its tokens have ended, and goes on with those; a later one of that session takes the answer.
	// A provider that rotates refresh tokens has spent the old one by then: to hang up early would end the session.
	ExchangeTimeoutSeconds int `json:"exchangeTimeoutSeconds" format:"number" min:"1" max:"120" default:"20"`
	// ClientConfig is how the provider is called.
	ClientConfig ClientConfig `json:"clientConfig"`
}

// PolicyConfig is what is asked of whoever comes in, and what the upstream is told of them.
type PolicyConfig struct {
	// Claims is the rule a user must satisfy, 403 otherwise: “Contains(`groups`, `admin`) && Equals(`email_verified`,
	// `true`)”. Functions: `Equals`, `Prefix`, `Suffix`, `Contains`, `SplitContains`, `OneOf`, `AllOf`, `Matches`, `Exists`; the first four and `OneOf`
	// also as `EqualsFold` and so on, which take capital letters for small ones: addresses of mail.
	// Keys walk into objects with dots (`realm_access.roles`; `\.` is a dot in a name) and read the ID token, or what a prefix
	// says: `id_token.`, `access_token.`, `userinfo.`. A claim that is missing is false. Empty: everybody who is signed in.
	Claims string `json:"claims" restricts:"true"`
	// UsernameClaim is the claim that becomes the user name in Traefik's access log.
	UsernameClaim string `json:"usernameClaim"`
	// ForwardHeaders are the request headers the upstream gets, each with a claim (`X-User: email`), a text with claims in
	// braces (`Authorization: "Bearer {access_token}"`), or a text in quotes of its own (`X-From: "'gateway'"`). Lists are joined with
	// commas; `{groups|json}`, `|first`, `|lines` write them otherwise, and `|percent`, `|rfc8187` what is beyond ASCII. A claim that is missing gives no header.
	// Headers of these names that a client sends are removed, in every spelling.
	ForwardHeaders map[string]string `json:"forwardHeaders" format:"identityHeader"`
}

// IPStrategyConfig is which address of a request is the client's, as in Traefik's IPAllowList. Default: the peer of the connection.
type IPStrategyConfig struct {
	// Depth is the place in `X-Forwarded-For`, counted from the right: 1 is what the nearest proxy wrote, the address it saw. A request
	// with fewer is from nobody known. Traefik must trust the proxies (`forwardedHeaders.trustedIPs`).
	Depth int `json:"depth" format:"number" min:"0" restricts:"true"`
	// ExcludedIPs are the addresses of proxies: the client is the first in `X-Forwarded-For`, from the right, that is none of them.
	ExcludedIPs []string `json:"excludedIPs" restricts:"true"`
}

// EndpointsConfig replaces single addresses of the provider's metadata: where Traefik reaches the provider under another name than
// browsers do, or where there is no discovery document. Each is a complete URL. Default: what discovery says.
type EndpointsConfig struct {
	// Discovery is where the provider's metadata is read. Default: `<issuer>/.well-known/openid-configuration`.
	Discovery string `json:"discovery" format:"url"`
	// Authorization is where browsers are sent to sign in.
	Authorization string `json:"authorization" shown:"true" format:"url"`
	// Token is where codes and refresh tokens are exchanged.
	Token string `json:"token" format:"url"`
	// JWKS is where the provider's keys are.
	JWKS string `json:"jwks" format:"url"`
	// Userinfo is where claims of a user are read, with `userinfo`.
	Userinfo string `json:"userinfo" format:"url"`
	// Introspection is where tokens are asked about, with `oAuthIntrospection`.
	Introspection string `json:"introspection" format:"url"`
	// Revocation is where refresh tokens are given back at sign-out.
	Revocation string `json:"revocation" format:"url"`
	// EndSession is where browsers are sent to sign out.
	EndSession string `json:"endSession" shown:"true" format:"url"`
}

// ClientConfig is how a provider is called.
type ClientConfig struct {
	// TLS is whom to trust, and our own certificate.
	TLS TLSConfig `json:"tls"`
	// TimeoutSeconds is the longest one call may take, also to the block's Redis.
	TimeoutSeconds int `json:"timeoutSeconds" format:"number" min:"1" default:"5"`
	// MaxRetries is how often a failed call is tried again, 10 at most. Calls that change something are never repeated.
	MaxRetries int `json:"maxRetries" format:"number" min:"0" max:"10" default:"3"`
}

// TLSConfig is the certificates of a connection. Each may be PEM text, or `${file:/path}`.
type TLSConfig struct {
	// CA is the certificates to trust, as PEM. Default: the system's.
	CA string `json:"ca" format:"pem" alias:"caBundle"`
	// Cert is our certificate, as PEM, for servers that ask for one.
	Cert string `json:"cert" format:"pem"`
	// Key is the private key of `cert`, as PEM. Required with `cert`.
	Key string `json:"key" format:"pem" secret:"true"`
	// InsecureSkipVerify accepts any certificate, so anybody on the way can be the provider. For a trial only.
	InsecureSkipVerify bool `json:"insecureSkipVerify" format:"switch" default:"false"`
}

// CookieConfig is where a cookie goes.
type CookieConfig struct {
	// Path is the part of the site the cookie is sent to. The callback must be in that of `stateCookie`, and `logoutUrl` in that
	// of `session`.
	Path string `json:"path" shown:"true" format:"path" default:"/"`
	// Domain shares the cookie with all hosts below it (`example.com`), each of which can then read it. `stateCookie` needs it when
	// `redirectUrl` is on another host than the pages. Default: this host.
	Domain string `json:"domain" shown:"true" format:"domain"`
	// SameSite says whether the cookie goes along with requests from other sites: `lax`, only when a link is followed;
	// `strict`, never, also not right after signing in at a provider on another site, where `stateCookie` would be lost; `none`,
	// always, which needs `secure` and should have `csrf`. `stateCookie` is always `none` with `responseMode: form_post`.
	SameSite string `json:"sameSite" default:"lax" enum:"lax|strict|none"`
	// HTTPOnly hides the cookie from scripts.
	HTTPOnly bool `json:"httpOnly" format:"switch" default:"true"`
	// Secure sends the cookie over https only. `session.secure: true` says that the site is https, whatever Traefik saw: for TLS that
	// ends before Traefik. Default: as the request came, or https where `redirectUrl` is a complete https address of its host.
	Secure *bool `json:"secure" format:"switch"`
}

// SessionConfig is what is remembered of a sign-in, and how.
type SessionConfig struct {
	// Name is the cookie's name; `%s` stands for the middleware's. Over https and without `domain` the default name gets the
	// prefix `__Host-`, which no other host can overwrite. Two middlewares of one issuer and client share a session by giving
	// it the same name.
	Name string `json:"name" shown:"true" format:"cookie" default:"%s-session"`
	CookieConfig
	// Partitioned makes our cookies fit for a frame on a page of another site: `SameSite=None; Secure; Partitioned`, whatever `sameSite`
	// and `secure` say of `session` and `stateCookie`. Such a page has sessions of its own. The sign-in happens in the frame, so
	// the provider must allow that, and keep its cookies so as well. Use it with `csrf`.
	Partitioned bool `json:"partitioned" format:"switch" default:"false"`
	// Persistent keeps the session's cookie when the browser is closed. Off, it ends with the browser, and `expiry` holds on our side.
	Persistent bool `json:"persistent" format:"switch" default:"true"`
	// Expiry is how many seconds a sign-in lasts; with `sliding`, after the last request.
	Expiry int `json:"expiry" format:"number" min:"1" default:"86400"`
	// Sliding begins `expiry` anew while the user is active.
	Sliding bool `json:"sliding" format:"switch" default:"true"`
	// Refresh renews the access token with the refresh token shortly before it ends. Off, the session goes on with the tokens of the sign-in.
	Refresh bool `json:"refresh" format:"switch" default:"true"`
	// IdleTimeout ends a session after this many seconds without a request, if that is sooner than `expiry`. Default: none.
	IdleTimeout int `json:"idleTimeout" format:"number" min:"0" restricts:"true"`
	// MaxLifetime ends a session this many seconds after the sign-in, however active the user is. Default: none.
	MaxLifetime int `json:"maxLifetime" format:"number" min:"0" restricts:"true"`
	// Secret is what cookies are sealed with, 16 characters at least (`openssl rand -base64 32`), the same on every replica.
	// Default: derived from `clientSecret`. Required without `clientSecret`.
	Secret string `json:"secret" format:"secret" secret:"true"`
	// PreviousSecrets still open cookies, which are then sealed with `secret`: put the old secret here when you change it, and
	// take it out after `expiry`.
	PreviousSecrets []string `json:"previousSecrets" format:"secret" secret:"true"`
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
	CacheSeconds int `json:"cacheSeconds" format:"number" min:"0" default:"2"`
}

// RedisConfig is a connection to Redis or Valkey: one server, a cluster, or servers watched by Sentinel.
type RedisConfig struct {
	// Endpoints are the addresses, `host:port` or with `redis://` or `rediss://` (TLS): the server, some of the cluster's
	// nodes, or the Sentinels. Required.
	Endpoints []string `json:"endpoints" format:"server"`
	// Username is the ACL user. Default: Redis's default user.
	Username string `json:"username"`
	// Password is the password.
	Password string `json:"password" secret:"true"`
	// Database is the number of the database. A cluster has only 0.
	Database int `json:"database" format:"number" min:"0" default:"0"`
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
	Name string `json:"name" shown:"true" format:"cookie" default:"%s-state"`
	CookieConfig
	// MaxAge is how many seconds a sign-in may take.
	MaxAge int `json:"maxAge" format:"number" min:"1" default:"600"`
}

// CSRFConfig is the protection against requests that other sites forge: a signed value, bound to the session, in a cookie and in
// a header, which only a script of the same site can read and repeat.
type CSRFConfig struct {
	// Secure sends the cookie over https only. Default: as `session.secure`.
	Secure *bool `json:"secure" format:"switch"`
	// HeaderName is the header that must repeat the cookie's value.
	HeaderName string `json:"headerName" shown:"true" format:"header" default:"Hub-Csrf-Token"`
	// CookieName is the cookie's name.
	CookieName string `json:"cookieName" shown:"true" format:"cookie" default:"hub-csrf-token"`
}

// TokenSourceConfig is where a token is looked for: in one place or in several, of which a request may use one.
type TokenSourceConfig struct {
	// Header is the name of a header.
	Header string `json:"header" format:"header"`
	// HeaderAuthScheme is the word before the token in that header, `Bearer` as a rule. Empty: the header is the token.
	HeaderAuthScheme string `json:"headerAuthScheme"`
	// Headers are further headers with a token, alone or after a word: `Cf-Access-Jwt-Assertion` of Cloudflare Access.
	Headers []string `json:"headers" format:"header"`
	// WebSocketProtocol takes a token also from the protocols that a websocket's client offers, as scripts in browsers can send no header:
	// `new WebSocket(url, ["bearer", token, "chat"])`, or Kubernetes' `base64url.bearer.authorization.k8s.io.…`.
	WebSocketProtocol bool `json:"webSocketProtocol" format:"switch" default:"false"`
	// Query is the name of a query parameter. Addresses end up in logs: prefer a header.
	Query string `json:"query"`
	// Cookie is the name of a cookie.
	Cookie string `json:"cookie" format:"cookie"`
}

// TokenConfig is what both ways to check a bearer token have.
type TokenConfig struct {
	// TokenSource is where the token is looked for. Default: the header `Authorization` with the word `Bearer`. Required for
	// `oAuthIntrospection` without a sign-in: one source at least.
	TokenSource TokenSourceConfig `json:"tokenSource"`
	// Audience is what the `aud` of a token, or of the answer about it, must name, one of these at least. Default: `resource` if that is
	// set, `clientId` for `jwt` beside a sign-in, else not checked.
	Audience []string `json:"audience" restricts:"true"`
	// Resource is the address of this API (absolute URL). With it the API describes itself to OAuth and MCP clients (RFC 9728)
	// below `/.well-known/oauth-protected-resource`, and every 401 names that document.
	Resource string `json:"resource" shown:"true" format:"url" restricts:"true"`
	// ForwardAuthorization lets the upstream have the token, where it was. Off, it is removed: the header, the cookie, the parameter of
	// a query or form, the protocol of a websocket.
	ForwardAuthorization bool `json:"forwardAuthorization" format:"switch" default:"false"`
	// PolicyConfig is as at the top level, of the token or the answer about it. Default: the top level's.
	PolicyConfig
}

// JWTConfig is how bearer tokens that are JWTs are checked. Exactly one of `signingSecret`, `publicKey`, `jwksFile`, `jwksUrl` and
// `issuer` says where the keys come from (`jwksUrl` and `issuer` may stand together); beside a sign-in, none means its issuer.
type JWTConfig struct {
	// SigningSecret is the secret shared with the issuer, for HS256, HS384 and HS512; as long as the hash (32, 48, 64 bytes).
	SigningSecret string `json:"signingSecret" format:"signing" secret:"true" restricts:"true"`
	// SigningSecretBase64Encoded says that `signingSecret` is base64.
	SigningSecretBase64Encoded bool `json:"signingSecretBase64Encoded" format:"switch" default:"false"`
	// PublicKey is the issuer's public key or certificate, as PEM.
	PublicKey string `json:"publicKey" format:"pem" restricts:"true"`
	// JWKSFile is the issuer's key set: the path of a file, or the JSON itself.
	JWKSFile string `json:"jwksFile" restricts:"true"`
	// JWKSURL is where the issuer's key set is read. A path is appended to `issuer`. Traefik Hub appends it to whatever
	// issuer the token names, which lets anybody sign: here `issuer` must then be set.
	JWKSURL string `json:"jwksUrl" format:"jwks" restricts:"true"`
	// Issuer is the `iss` a token must have. Without any other source its keys are found by discovery.
	Issuer string `json:"issuer" restricts:"true"`
	// Algorithms are the signature algorithms accepted, all of one family. Default: what the key is for.
	Algorithms []string `json:"algorithms" restricts:"true" enum:"RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA|Ed25519|HS256|HS384|HS512"`
	// AcceptIDTokens also takes ID tokens for access tokens, where programs have nothing else (`gcloud`, `kubelogin`, Cognito). They say
	// who somebody is to the client in `aud`, and anybody who got one may then call this API as that user: `audience` must name a
	// client whose every user may.
	AcceptIDTokens bool `json:"acceptIdTokens" format:"switch" default:"false"`
	// TokenKey is the name of a query parameter, and of a field of a form, where the token may be as well.
	TokenKey string `json:"tokenKey"`
	TokenConfig
	// ClientConfig is how the keys are fetched. Beside a sign-in, its issuer's keys are fetched as the top level says.
	ClientConfig KeysClientConfig `json:"clientConfig"`
}

// KeysClientConfig is how an issuer's keys are fetched.
type KeysClientConfig struct {
	// Headers go with the requests for the issuer's metadata and keys, for those that are not public: Kubernetes' API wants
	// `Authorization: "Bearer ${file:/var/run/secrets/kubernetes.io/serviceaccount/token}"`.
	Headers map[string]string `json:"headers" format:"header"`
	ClientConfig
}

// IntrospectionConfig is how bearer tokens are asked about at the provider.
type IntrospectionConfig struct {
	TokenConfig
	// ClientConfig is whom to ask, and how. Beside a sign-in and without `url`, its provider is asked as the top level says.
	ClientConfig IntrospectionClientConfig `json:"clientConfig"`
	// TokenTypeHint is another place for `clientConfig.tokenTypeHint`.
	TokenTypeHint string `json:"tokenTypeHint"`
	// Issuer is the provider, without a sign-in: the `iss` an answer may have, whom a `clientKey` signs for, and, without
	// `clientConfig.url`, whose metadata says where to ask.
	Issuer string `json:"issuer" format:"issuer" restricts:"true"`
	// CacheSeconds is how long an answer is used again, never past the token's end; that a token is not active, 5 s at most. 0
	// asks each time.
	CacheSeconds int `json:"cacheSeconds" format:"number" min:"0" default:"10"`
}

// IntrospectionClientConfig is whom to ask about tokens, and how.
type IntrospectionClientConfig struct {
	// URL is the introspection endpoint. Default: what discovery says. Required without a sign-in and without `issuer`.
	URL string `json:"url" format:"url"`
	// Headers are those of the request, as a rule `Authorization` with our own credentials. Values may be Go templates over `.Request`, the
	// incoming request. Without an `Authorization` here the client of the top level proves itself: `clientId`, `clientSecret`,
	// `clientAuthMethod`, `clientKey`.
	Headers map[string]string `json:"headers" format:"header"`
	// TokenTypeHint tells the provider what kind of token it is, `access_token` as a rule.
	TokenTypeHint string `json:"tokenTypeHint"`
	ClientConfig
}

// ClientCredentialsConfig is how a token for the upstream is obtained: for the gateway itself with `clientId` and `clientSecret`,
// without them for the caller, who sends its own as Basic credentials.
type ClientCredentialsConfig struct {
	// URL is the provider's token endpoint. Required.
	URL string `json:"url" format:"url"`
	// ClientID is the gateway's own client. Without it callers bring theirs.
	ClientID string `json:"clientId" alias:"clientID"`
	// ClientSecret is its secret. Required with `clientId`, unless `clientKey` is set or `clientAuthMethod` needs none.
	ClientSecret string `json:"clientSecret" secret:"true"`
	// ClientAuthMethod is how the client proves itself. Default: `private_key_jwt` with `clientKey`, else `client_secret_basic`.
	ClientAuthMethod string `json:"clientAuthMethod" enum:"client_secret_basic|client_secret_post|private_key_jwt|tls_client_auth|none"`
	// ClientKey is the private key for `private_key_jwt`, as PEM.
	ClientKey string `json:"clientKey" format:"pem" secret:"true"`
	// ClientKeyID is the `kid` that the provider knows this key by.
	ClientKeyID string `json:"clientKeyId"`
	// ClientKeyAlg is the signature algorithm used with `clientKey`. Default: `RS256`, `ES256`, `ES384`, `ES512` or `EdDSA`, as the key is.
	ClientKeyAlg string `json:"clientKeyAlg" enum:"RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA|Ed25519"`
	// ClientCertificate is as at the top level.
	ClientCertificate string `json:"clientCertificate" format:"pem"`
	// Audience is the API the token is for, for providers that want it named (Auth0).
	Audience string `json:"audience"`
	// Scopes are what the token may do.
	Scopes []string `json:"scopes" shown:"true"`
	// Params are further parameters of the token request.
	Params map[string]string `json:"params" format:"param"`
	// PolicyConfig is as at the top level, of the token, if it is a JWT.
	PolicyConfig
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
	Secret string `json:"secret" format:"secret" secret:"true"`
}

// problems gathers everything that is wrong with a configuration, so that one start tells it all.
type problems struct {
	list  []string
	count int               // also those that say the same again
	set   map[string]string // what is set, by path
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
	top := &option{p: p}
	readBlock(reflect.ValueOf(config).Elem(), top, raw)
	checkJobs(config, sortedNames(top, raw), p)
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
