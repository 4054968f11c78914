package oidc

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// The rules for option values, alone and together, as a table, and how its rows are evaluated.

// rules is a table of mistakes: each row says where it applies, the conditions under which an option is wrong, and the message. A row begins
// with the name of a block, and applies to every block of that name; with nothing before the slash, it applies to the top level; with the
// name of a kind of value, as in a `format` tag, to every value of that kind. All conditions must hold. Names in them and in ${…} are those
// of the same block:
//
//	name         it is set, even if only by its default
//	name=x       the regular expression x matches the whole value; items of a list are joined with " and "
//	name==other  it has the same value as other
//	!…           not
//
// In a row for a kind of value, these names exist: value, the value itself; size, its length in bytes; kinds, how many different bytes it has;
// example, what a secret shares with a published one; min and max, tags of its field; try, the address that was probably meant. If the value
// is one of our addresses (parseLocation): host and path, its parts; wrong, what is wrong with it; below, set if the issuer begins like it.
// <url>, <name> and <theirs> are patterns. The blocks warning and notice are for what is allowed, but should be known.
const rules = `
tls/key if cert !key: required with cert; write its private key as PEM
tls/cert if key !cert: required with key; write its certificate as PEM
redis/endpoints if !endpoints: required; write host and port, such as "redis:6379"
redis/cluster if cluster sentinel: must not be combined with sentinel; keep the one that matches your Redis
redis/database if cluster !database=0: must be 0 in a cluster, got ${database}; leave it out
sentinel/masterSet if !masterSet: required; write the name that the Sentinels know the master by, such as "mymaster"
session,stateCookie/name if name=(?i)__host-.* !path=/: must not begin with "__Host-" unless path is "/" and there is no domain, got "${name}"
session,stateCookie/name if name=(?i)__host-.* domain: must not begin with "__Host-" unless path is "/" and there is no domain, got "${name}"
/stateCookie.name if stateCookie.name=(?i)__host-.* session.domain: must not begin with "__Host-" beside session.domain, got "${stateCookie.name}"; leave it out
/csrf.cookieName if csrf.cookieName=(?i)__host-.* session.domain: must not begin with "__Host-" unless path is "/" and there is no domain, got "${csrf.cookieName}"
session,stateCookie/secure if name=(?i)__(host|secure)-.* secure=false: must not be false for a cookie named "${name}"; leave it out
csrf/secure if cookieName=(?i)__(host|secure)-.* secure=false: must not be false for a cookie named "${cookieName}"; leave it out
/session.secure if session.secure=true redirectUrl=(?i)http:.*: must not be true with plain http in redirectUrl, got "${redirectUrl}": browsers drop such a cookie there; write https in redirectUrl
/stateCookie.secure if stateCookie.secure=true redirectUrl=(?i)http:.*: must not be true with plain http in redirectUrl, got "${redirectUrl}": browsers drop such a cookie there; write https in redirectUrl
/session.secure if session.partitioned=true session.secure=false: must not be false with session.partitioned: browsers drop such a cookie; leave it out
/stateCookie.secure if session.partitioned=true stateCookie.secure=false: must not be false with session.partitioned: browsers drop such a cookie; leave it out
session,stateCookie/secure if sameSite=none !secure=true: must be true with sameSite "none": browsers drop such a cookie otherwise
/stateCookie.secure if responseMode=form_post stateCookie.secure=false: must not be false with responseMode "form_post", whose answer is a request from another site; leave it out
/stateCookie.name if stateCookie.name==session.name: must not be session.name, got "${stateCookie.name}"; leave it out, or write another name
/csrf.cookieName if csrf.cookieName==session.name: must not be another cookie's name, got "${csrf.cookieName}"; leave it out
/csrf.cookieName if csrf.cookieName==stateCookie.name: must not be another cookie's name, got "${csrf.cookieName}"; leave it out
/secret if secret session.secret !secret==session.secret: is an alternative to session.secret, and differs from it; keep one of them
/clientSecret if issuer clientSecret~ !clientKey !clientAuthMethod=none|private_key_jwt|tls_client_auth: is there and empty, as when Compose finds no variable; set it, or leave it out for a public client
oAuthClientCredentials/clientSecret if clientSecret~ !clientKey !clientAuthMethod=none|private_key_jwt|tls_client_auth: is there and empty, as when Compose finds no variable; set it, or leave it out to use the caller's
/claims if claims=.*[\x22\x60]userinfo\..* userinfo=false disableLogin=false: reads userinfo., which is not fetched; set userinfo to true
/usernameClaim if usernameClaim=userinfo\..* userinfo=false disableLogin=false: reads userinfo., which is not fetched; set userinfo to true
jwt,oAuthIntrospection,oAuthClientCredentials/claims if claims=.*[\x22\x60](id_token|userinfo)\..*: reads id_token. or userinfo., which such a token does not have; leave that prefix out
session,,store/secret if secret~: is there and empty, as when Compose finds no variable; set it, or leave it out
/session.secret if issuer !session.secret !secret !clientSecret: required without clientSecret; write the output of “openssl rand -base64 32”, the same for all replicas
/pkce if issuer pkce=false clientAuthMethod=none: must be true for a client without credentials; leave it out, or set clientSecret
/pkce if issuer pkce=false !clientSecret !clientKey !clientConfig.tls.cert: must be true for a client without credentials; leave it out, or set clientSecret
/loginUrl if loginUrl disableLogin=true: must not be combined with disableLogin, which starts no sign-in; leave one of them out
/postLoginRedirectUrl if postLoginRedirectUrl==loginUrl: must not be loginUrl, which begins another sign-in; write another page, such as "/"
/postLogoutRedirectUrl if postLogoutRedirectUrl==logoutUrl: must not be logoutUrl, which signs out again; write another page, such as "/"
,oAuthClientCredentials/clientSecret if clientId clientAuthMethod=client_secret_.* !clientSecret: required for clientAuthMethod "${clientAuthMethod}"
,oAuthClientCredentials/clientKey if clientId clientAuthMethod=private_key_jwt !clientKey: required for clientAuthMethod "${clientAuthMethod}"
/clientConfig.tls.cert if issuer clientAuthMethod=tls_client_auth !clientConfig.tls.cert: required for clientAuthMethod "${clientAuthMethod}"
/oAuthIntrospection.clientConfig.tls.cert if oAuthIntrospection !issuer clientAuthMethod=tls_client_auth !oAuthIntrospection.clientConfig.tls.cert: required for clientAuthMethod "${clientAuthMethod}"
oAuthClientCredentials/clientConfig.tls.cert if clientId clientAuthMethod=tls_client_auth !clientConfig.tls.cert: required for clientAuthMethod "${clientAuthMethod}"
oAuthClientCredentials/url if !url: required; write the provider's token endpoint
oAuthClientCredentials/clientId if clientSecret !clientId: required with clientSecret or clientKey; leave out all of them to use the caller's
oAuthClientCredentials/clientId if clientKey !clientId: required with clientSecret or clientKey; leave out all of them to use the caller's
oAuthClientCredentials/clientSecret if clientId !clientSecret !clientKey !clientAuthMethod: required with clientId; leave out both to use the caller's
oAuthClientCredentials/store.secret if store.redis !store.secret: required with redis; write the output of “openssl rand -base64 32”, the same for all replicas
tokenSource/headerAuthScheme if headerAuthScheme=.*[^\w-].*: must be the word before the token alone, got "${headerAuthScheme}"; write "Bearer"
tokenSource/header if headerAuthScheme !header: required with headerAuthScheme; write "Authorization"
/oAuthIntrospection.tokenSource if oAuthIntrospection !issuer !oAuthIntrospection.tokenSource.header !oAuthIntrospection.tokenSource.headers !oAuthIntrospection.tokenSource.webSocketProtocol=true !oAuthIntrospection.tokenSource.query !oAuthIntrospection.tokenSource.cookie: must name a header, query or cookie; write header "Authorization" and headerAuthScheme "Bearer"
/oAuthIntrospection.issuer if issuer oAuthIntrospection.issuer: must not be combined with a sign-in, whose issuer is used; leave it out
/clientId if oAuthIntrospection !issuer !clientId clientSecret: required with clientSecret, clientKey or clientAuthMethod; write the name under which the provider knows this API
/clientId if oAuthIntrospection !issuer !clientId clientKey: required with clientSecret, clientKey or clientAuthMethod; write the name under which the provider knows this API
/clientId if oAuthIntrospection !issuer !clientId clientAuthMethod: required with clientSecret, clientKey or clientAuthMethod; write the name under which the provider knows this API
/oAuthIntrospection.clientConfig.url if oAuthIntrospection !issuer !oAuthIntrospection.issuer !oAuthIntrospection.clientConfig.url: required without a sign-in; write the provider's introspection endpoint
/jwt if jwt !issuer !jwt.issuer !jwt.signingSecret !jwt.publicKey !jwt.jwksFile !jwt.jwksUrl: must have a source of keys; write one of signingSecret, publicKey, jwksFile, jwksUrl, issuer
jwt/ if signingSecret publicKey: must have one source of keys, got signingSecret and publicKey; keep one
jwt/ if signingSecret jwksFile: must have one source of keys, got signingSecret and jwksFile; keep one
jwt/ if signingSecret jwksUrl: must have one source of keys, got signingSecret and jwksUrl; keep one
jwt/ if publicKey jwksFile: must have one source of keys, got publicKey and jwksFile; keep one
jwt/ if publicKey jwksUrl: must have one source of keys, got publicKey and jwksUrl; keep one
jwt/ if jwksFile jwksUrl: must have one source of keys, got jwksFile and jwksUrl; keep one
/jwt.audience if jwt.acceptIdTokens=true !issuer !jwt.audience: required with acceptIdTokens, or the ID tokens of every application would be accepted; write the client that they are issued for
,oAuthClientCredentials/clientKey if clientCertificate !clientKey: required with clientCertificate; write its private key as PEM
jwt/publicKey if publicKey=.*BEGIN\s[A-Z\s]*PRIVATE.*: must be a public key, got a private one, which is the issuer's alone; write what “openssl pkey -pubout” makes of it
jwt/publicKey if publicKey=\{.*: must be PEM, got JSON; write it as jwksFile, {"keys": [ ]} with the key in it
jwt/jwksFile if jwksFile=-----BEGIN.*: must be a path or JSON, got a key in PEM, which is not shown; write a public one as publicKey
jwt/jwksFile if jwksFile=(?i)https?:.*: must be a path or JSON, got an address; write it as jwksUrl
jwt/jwksFile if jwksFile=\[.*|\{[^\[]*: must be a key set, got other JSON; write {"keys": [ ]} with the key in it
jwt/jwksUrl if jwksUrl=.*/\.well-known/openid-configuration: must be where the keys are, not the discovery document; leave it out, and write the issuer alone
jwt/issuer if issuer=.*/\.well-known/openid-configuration: must be the issuer, not its discovery document, got "${issuer}"; leave out what begins with /.well-known
jwt,oAuthIntrospection/audience if audience=(.*\sand\s)?\*(\sand\s.*)?: "*" is compared as it is, and no token names it; leave audience out to accept any
jwt,oAuthIntrospection/resource if resource=.*/\.well-known/.*: must be the address of this API, not of its description, got "${resource}"; leave out what begins with /.well-known
oAuthClientCredentials/url if url=.*/\.well-known/.*: must be the token endpoint, not the discovery document, got "${url}"; write what that names token_endpoint
clientConfig/url if url=.*/\.well-known/.*: must be the introspection endpoint, not the discovery document, got "${url}"; write what that names introspection_endpoint
jwt,oAuthIntrospection,oAuthClientCredentials/usernameClaim if usernameClaim=(id_token|userinfo)\..*: reads id_token. or userinfo., which such a token does not have; leave that prefix out
jwt/tokenKey if tokenKey=.*[?&=].*: must be the name of a parameter alone, got "${tokenKey}"; write "access_token" or the like
tokenSource/query if query=.*[?&=].*: must be the name of a parameter alone, got "${query}"; write "access_token" or the like
tokenSource/headers if headers=(?i)(.*\sand\s)?(cookie|sec-websocket-protocol)(\sand\s.*)?: must hold nothing but a token, got "${headers}"; name the cookie in cookie, or set webSocketProtocol
tokenSource/header if header=(?i)cookie|sec-websocket-protocol: must hold nothing but a token, got "${header}"; name the cookie in cookie, or set webSocketProtocol
jwt/signingSecret if signingSecret=-----BEGIN.*: must be a secret, got a key in PEM; a public key is no secret: write it as publicKey
jwt/issuer if jwksUrl=/.* !issuer: required when jwksUrl is a path: tokens must not choose who signs them; write the issuer's URL
jwt/issuer if issuer !issuer=.*://.* !signingSecret !publicKey !jwksFile !jwksUrl=(?i)http.*: must be an https URL where its keys are, got "${issuer}"; try "https://${issuer}"
jwt/issuer if issuer !issuer=<url> !signingSecret !publicKey !jwksFile !jwksUrl=(?i)http.*: must be an https URL where its keys are, got "${issuer}"; write one alone, without spaces, ? and #
jwt/algorithms if algorithms !algorithms=(RS\d+(\sand\s)?)+|(PS\d+(\sand\s)?)+|(ES\d+(\sand\s)?)+|(HS\d+(\sand\s)?)+|(Ed\w+(\sand\s)?)+: must be of one family, got ${algorithms}; keep one
jwt/algorithms if algorithms=HS.* !signingSecret: ${algorithms} does not fit the key; HS256, HS384 and HS512 go with signingSecret, the others with public keys
jwt/algorithms if algorithms signingSecret !algorithms=HS.*: ${algorithms} does not fit the key; HS256, HS384 and HS512 go with signingSecret, the others with public keys
switch/ if !value=1|0|t|f|T|F|true|false|True|False|TRUE|FALSE: must be true or false, got "${value}"
number/ if value=(?i)[\d.,]+\s*[a-z]+.*|P[T\d].*: must be a whole number without a unit, got "${value}"; write seconds, 3600 for an hour
number/ if !value=-?[0-2]?\d{1,9}(\.0*)?: must be a whole number, got "${value}"
number/ if value=-.*: must be at least ${min}, got "${value}"
number/ if min=1 value=0+(\.0*)?: must be at least ${min}, got "${value}"
number/ if max=10 !value=0*(\d|10)(\.0*)?: must be at most ${max}, got "${value}"
number/ if max=300 !value=0*([12]?\d{1,2}|300)(\.0*)?: must be at most ${max}, got "${value}"
number/ if max=99999 !value=-?0*\d{1,5}(\.0*)?: must be at most ${max}, got "${value}"
issuer,url/ if !value=<url>([?#]\S*)?: must be an https URL, got "${value}"; try "${try}"
jwks/ if !value=<url>([?#]\S*)? !value=/.*: must be an https URL, got "${value}"; try "${try}"
uri/ if !value=<url>([?#]\S*)? !value=urn:[^#]+: must be an https URL, got "${value}"; try "${try}"
issuer,url,jwks,uri/ if value=.*#.*: must not have a query or fragment, got "${value}"; try "${try}"
issuer/ if value=.*\?.*: must not have a query or fragment, got "${value}"; try "${try}"
issuer/ if value=.*/\.well-known/openid-configuration: must be the issuer, not its discovery document, got "${value}"; try "${try}"
endpoint,location/ if !wrong=<nil>: ${wrong}, got "${value}"
endpoint/ if below=true issuer=[^:]*://[^/]*/[^/].*: must be an address of yours, got the provider's, "${value}"; write a path, such as "/login" or "/logout": the provider's are found by discovery
endpoint/ if issuer below=true path=(/(oauth2?|oidc|connect|users|sessions?|v\d|o|ui|api))*/(auth\w*|log-?(in|out)|sign[-_]?(in|out)|end)/?(\?.*)?: must be an address of yours, got the provider's, "${value}"; write a path, such as "/login" or "/logout": the provider's are found by discovery
endpoint/ if host path=<theirs>: must be an address of yours, got the provider's, "${value}"; write a path, such as "/login" or "/logout": the provider's are found by discovery
location/ if host path=<theirs>: must be a page of yours, got the provider's, "${value}"; write one, such as "/", where people land afterwards
endpoint/ if path=.*[?%].*: must be the address of a page of its own, without a query or escapes, got "${value}"; try "/oidc/callback" or the like
endpoint/ if path=/: must be the address of a page of its own, without a query or escapes, got "${value}"; try "/oidc/callback" or the like
header,identityHeader/ if !value=<name>: must be the name of a header, got "${value}"; try "X-User" or the like
identityHeader/ if value=(?i)(proxy-)?connection|keep-alive|proxy-authenticate|proxy-authorization|te|trailer|transfer-encoding|upgrade|host|cookie|content-length: must not be a header of the connection, got "${value}"; write another name
cookie/ if size=\d{4,}|[2-9]\d\d: must be shorter than 200 bytes, got ${size}: browsers keep 4096 bytes of name and value; write a shorter name
cookie/ if !value=<name>: must be the name of a cookie, got "${value}"; use letters, digits, - _ .
path/ if !value=/[^;,\s"]*: must be a path, got "${value}"; try "/"
domain/ if !value=\.?[0-9A-Za-z]([0-9A-Za-z-]*[0-9A-Za-z])?(\.[0-9A-Za-z]([0-9A-Za-z-]*[0-9A-Za-z])?)+: must be a domain without scheme, port or path, got "${value}"; try "example.com", or leave it out for this host alone
secret,signing/ if value=<reference>: looks like a reference that was not resolved, so anybody could guess it; write “${NAME}” or “${file:/path}” (in a Compose file with two dollar signs)
secret,signing/ if example: is like a published example, so anybody could guess it; write the output of “openssl rand -base64 32”
secret/ if size=\d|1[0-5]: must have at least 16 bytes; write the output of “openssl rand -base64 32”
secret,signing/ if kinds=[1-7]: must have at least 8 different bytes, or it could be guessed; write the output of “openssl rand -base64 32”
realm/ if !value=[\x20!#-\[\]-~]+: must be printable ASCII without quotes and backslashes, got "${value}"; write a name
upgrade/ if !value=<name>(/<name>)?: must be a protocol of the header Upgrade, got "${value}"; try "SPDY/3.1"
upgrade/ if value=(?i)(h\d\S*|http|tls)(/.*)?: must not be a protocol that carries further requests, got "${value}": they would not be checked; leave it out
/ipStrategy.depth if ipStrategy.depth=[1-9].* ipStrategy.excludedIPs: must not be combined with excludedIPs; keep one of them
pem/ if value=[./~]\S*: must be PEM text, got a path; write “${file:/path}”
server/ if !value=(rediss?://)?([^\s/:]+|\[[^\s/\]]+\]):\d+: must be host and port, alone or after redis:// or rediss://, got "${value}"; try "redis:6379"
param/ if value=client_id: is decided by another option, got "${value}"; use clientId
param/ if value=client_secret: is decided by another option, got "${value}"; use clientSecret
param/ if value=client_assertion: is decided by another option, got "${value}"; use clientKey
param/ if value=client_assertion_type: is decided by another option, got "${value}"; use clientAuthMethod
param/ if value=redirect_uri: is decided by another option, got "${value}"; use redirectUrl
param/ if value=scope: is decided by another option, got "${value}"; use scopes
param/ if value=code_challenge(_method)?: is decided by another option, got "${value}"; use pkce
param/ if value=response_mode: is decided by another option, got "${value}"; use responseMode
param/ if value=request_uri: is decided by another option, got "${value}"; use par
param/ if value=response_type|state|nonce|request|grant_type: belongs to the protocol and cannot be replaced, got "${value}"; leave it out
warning/issuer if issuer=(?i)http:.*: "${issuer}" is plain http: anybody on the network path can sign in as any user; use https, except in a test
warning/clientConfig.tls.insecureSkipVerify if clientConfig.tls.insecureSkipVerify=true: anybody on the network path can pose as the provider; give its CA in clientConfig.tls.ca instead
warning/jwt.issuer if jwt.issuer=(?i)http:.*: "${jwt.issuer}" is plain http: anybody on the network path can make tokens; use https, except in a test
warning/jwt.jwksUrl if jwt.jwksUrl=(?i)http:.*: "${jwt.jwksUrl}" is plain http: anybody on the network path can make tokens; use https, except in a test
warning/jwt.clientConfig.tls.insecureSkipVerify if jwt.clientConfig.tls.insecureSkipVerify=true: anybody on the network path can make tokens; give the issuer's CA in jwt.clientConfig.tls.ca instead
warning/oAuthIntrospection.clientConfig.url if oAuthIntrospection.clientConfig.url=(?i)http:.*: "${oAuthIntrospection.clientConfig.url}" is plain http: anybody on the network path reads tokens and can declare any token active; use https, except in a test
warning/oAuthIntrospection.clientConfig.tls.insecureSkipVerify if oAuthIntrospection.clientConfig.tls.insecureSkipVerify=true: anybody on the network path reads tokens and can declare any token active; give the provider's CA in oAuthIntrospection.clientConfig.tls.ca instead
warning/oAuthClientCredentials.url if oAuthClientCredentials.url=(?i)http:.*: "${oAuthClientCredentials.url}" is plain http: anybody on the network path reads credentials and tokens; use https, except in a test
warning/oAuthClientCredentials.clientConfig.tls.insecureSkipVerify if oAuthClientCredentials.clientConfig.tls.insecureSkipVerify=true: anybody on the network path reads credentials and tokens; give the provider's CA in oAuthClientCredentials.clientConfig.tls.ca instead
warning/jwt.tokenSource.headerAuthScheme if jwt.tokenSource.header=(?i)authorization !jwt.tokenSource.headerAuthScheme: not set, so a token is expected in Authorization without a word before it; write "Bearer"
warning/oAuthIntrospection.tokenSource.headerAuthScheme if oAuthIntrospection.tokenSource.header=(?i)authorization !oAuthIntrospection.tokenSource.headerAuthScheme: not set, so a token is expected in Authorization without a word before it; write "Bearer"
warning/backchannelLogoutUrl if backchannelLogoutUrl !session.store.redis: sessions are in cookies, so only this Traefik learns of a logout, until it restarts; several replicas need session.store.redis
warning/session.maxLifetime if backchannelLogoutUrl !session.store.redis session.sliding=true !session.maxLifetime=[1-9].*: not set, so a cookie that was copied before a pushed logout can be renewed forever after a restart; write seconds
warning/jwt.acceptIdTokens if jwt.acceptIdTokens=true: ID tokens are accepted as access tokens: whoever gets one that was issued for "${jwt.audience}" can call this API as its user; use access tokens if the provider issues them
notice/jwt.audience if jwt !issuer !jwt.audience !jwt.resource: not set, so tokens issued for any other API are accepted; write the name of this one
notice/oAuthIntrospection.audience if oAuthIntrospection !oAuthIntrospection.audience !oAuthIntrospection.resource: not set, so tokens issued for any other API are accepted; write the name of this one
notice/bypassIdentity if bypassIdentity=true !bypass: has no effect without bypass; leave it out
notice/session.domain if session.domain: every host below "${session.domain}" gets the session's cookie and can replace it
`

// ruleAbbreviations expands abbreviations in rules. A cookie's domain has at least two labels, since browsers refuse a cookie for a whole
// top-level domain. Names of headers and cookies are tokens (RFC 9110 5.6.2).
var ruleAbbreviations = strings.NewReplacer("“", "`", "”", "`",
	"<url>", `(?i:https?)://([^\x00-\x20/?#@%:\[\]"<>\\^\x60{|}\x7f]+|\[[0-9A-Fa-f:.]+\])(:\d+)?(/([^%\x00-\x20?#\x7f]|%[0-9A-Fa-f]{2})*)?`,
	// Paths that only providers use.
	"<theirs>", `.*(/(oauth2?|oidc|connect|o)/(.*/)?authori[sz]\w+|/openid-connect/\w+|/oauth2/v\d[.]\d/\w+|/end[-_]?session|/ui/oauth2)/?(\?.*)?`,
	"<name>", "[!#$%&'*+.^_\\x60|~0-9A-Za-z-]+",
	// How shells, templates, build tools, secret managers and people write placeholders; and the values in manuals.
	"<reference>", `.*(\$\{.*\}|\$\([^)]+\)|\$\[\w.*\]|\{\{.*\}\}|<%.*%>|#\{.*\}|%[({]\w+[)}]).*|\$+\{.*|\$+\w+|\$(?i:env):.*|\W*\$?[A-Z]+\d*(_[A-Z]+\d*)+\W*|\$[A-Z]+(_[A-Z]+)+\W.*|%\w+%|<.*>|\{.*\}.*|\(\(.*\)\)|\[\[.*\]\]|__\w+__|@+\w+[@(.].*|!\w+\s.*|ENC[\[(].*|`+
		`[a-z][a-z0-9+_.-]+:\S.*|(?i:env|file|op|vault|secrets?):.*|(?i:(process\.)?env|secrets?|vars?)\.[\w.]+|(local|data|module)\.\w+[\w."\[\]]*|`+
		`\W?[\w.:]*(?i:env|environ|file|lookup|ssm|secret|vault)\w*[(\[].*[)\]]\W?|(Fn|AWS)::\w+.*|\x60.*\x60|(?i:todo|fixme)\b.*|[A-Za-z]:\\.*|/?([\w-]+/)+[\w.-]+\.[a-z]{2,4}|/[a-z_-]+(/[a-z._-]+)+|([.~]{1,2}|/(run|etc|var|mnt|home|opt|secrets|srv|root|usr|tmp))/.*|projects/.*/secrets/.*`)

// ruleRow matches a row: block, option, conditions, message.
var ruleRow = regexp.MustCompile(`(?m)^(.*?)/(\S*) if (.*?): (.*)$`)

// ruleBook holds the rows of rules by block or kind of value.
var ruleBook = map[string][]*optionRule{}

// optionRule is a row of rules, taken apart once for all middlewares.
type optionRule struct {
	option     string
	conditions []*ruleCondition
	message    string
}

// ruleCondition is a condition of a row: name or, with isNot, !name; name==other; name=pattern.
type ruleCondition struct {
	name, other, pattern string
	compiled             *regexp.Regexp // pattern, compiled when it is first needed; rulesLock guards it
	isNot                bool
}

func init() {
	for _, row := range ruleRow.FindAllStringSubmatch(ruleAbbreviations.Replace(rules), -1) {
		r := &optionRule{option: row[2], message: row[4]}
		for _, text := range strings.Fields(row[3]) {
			c := &ruleCondition{isNot: text[0] == '!'}
			c.name, c.pattern, _ = strings.Cut(strings.TrimPrefix(text, "!"), "=")
			if strings.HasPrefix(c.pattern, "=") {
				c.other, c.pattern = c.pattern[1:], ""
			}
			r.conditions = append(r.conditions, c)
		}
		for _, name := range strings.Split(row[1], ",") {
			ruleBook[name] = append(ruleBook[name], r)
		}
	}
}

var rulesLock sync.Mutex

// checkRules reports what is wrong with a block or value. set holds the values that are set, by their paths, which begin with at. Every
// option and every block comes through here, past dozens of rows, so conditions are evaluated in place: a call for each of them would cost
// the interpreter a fifth of what it takes to make a middleware.
func checkRules(name string, o *option, at string, set map[string]string) {
	rulesLock.Lock()
	defer rulesLock.Unlock()
	text, applies := "", false // here, because the interpreter makes a variable anew each time it is declared
	for _, r := range ruleBook[name] {
		applies = true
		for _, c := range r.conditions {
			text = set[at+c.name]
			if c.pattern != "" && c.compiled == nil {
				c.compiled = compiledPattern(c.pattern)
			}
			if c.compiled != nil {
				applies = c.compiled.MatchString(text) != c.isNot
			} else {
				applies = (text != "" && (c.other == "" || text == set[at+c.other])) != c.isNot
			}
			if !applies {
				break
			}
		}
		if applies {
			o.p.add(under(o, r.option), "%s", ruleMessage(r, at, set))
		}
	}
}

// ruleMessage fills in the message of a row.
func ruleMessage(r *optionRule, at string, set map[string]string) string {
	return os.Expand(r.message, func(name string) string {
		if name == "NAME" || name == "file:/path" {
			return "${" + name + "}" // is shown as it is
		}
		text := set[at+name]
		if name == "try" {
			text = strings.Replace(addressParts.ReplaceAllString(addressUserInfo.ReplaceAllString(set["value"], "$1"), "https://$3"), ":///", "://id.example.com/", 1)
		}
		text = strconv.Quote(addressUserInfo.ReplaceAllString(text, "$1…@"))
		return strings.ReplaceAll(text[1:len(text)-1], `\"`, `"`)
	})
}

// compiledPatterns are the regular expressions in our tables, each compiled when it is first needed.
var compiledPatterns sync.Map

func compiledPattern(pattern string) *regexp.Regexp {
	known, found := compiledPatterns.Load(pattern)
	if !found {
		known = regexp.MustCompile("^(?s:" + pattern + ")$")
		compiledPatterns.Store(pattern, known)
	}
	return known.(*regexp.Regexp)
}

// under is the path of an option below another one.
func under(o *option, name string) string {
	return strings.Trim(o.path+"."+name, ".")
}
