package oidc

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// options reads the JSON of an options block, as Kubernetes would bring it.
func options(t *testing.T, text string) map[string]any {
	t.Helper()
	var raw map[string]any
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return raw
}

// signIn reads the least a sign-in needs, with what text adds or replaces.
func signIn(t *testing.T, text string) map[string]any {
	t.Helper()
	raw := options(t, `{"issuer": "https://id.example.com", "clientId": "my-app", "clientSecret": "a secret of many bytes"}`)
	for name, value := range options(t, text) {
		raw[name] = value
		if value == "(none)" {
			delete(raw, name)
		}
	}
	return raw
}

// read reads options as New does, as far as their problems are seen without making what they ask for.
func read(raw map[string]any) (*Config, *problems) {
	text, err := json.Marshal(raw)
	p := &problems{}
	p.addError("JSON", err)
	c := readConfig(text, p)
	newSite(c, p)
	return c, p
}

// TestConfigDefaultsAreNotShared: the defaults are made once for all middlewares, so nothing that is read, adjusted or refused may change them.
func TestConfigDefaultsAreNotShared(t *testing.T) {
	least := func() string {
		c, p := read(signIn(t, `{}`))
		text, err := json.Marshal([]any{c, p.set, p.list})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	want := least()
	for _, test := range mistakes {
		_, _ = read(signIn(t, test.options))
	}
	for _, test := range blameless {
		_, _ = read(signIn(t, test.options))
	}
	if got := least(); got != want {
		t.Errorf("other configurations changed the defaults:\ngot  %s\nwant %s", got, want)
	}
}

// mustRead reads options that have no problem.
func mustRead(t *testing.T, raw map[string]any) *Config {
	t.Helper()
	config, p := read(raw)
	if err := p.err(); err != nil {
		t.Fatalf("unexpected problem: %v", err)
	}
	return config
}

func TestConfigHasTheDocumentedDefaults(t *testing.T) {
	c := mustRead(t, signIn(t, `{"csrf": {}, "oAuthIntrospection": {}, "session": {"store": {"redis": {"endpoints": ["redis:6379"]}}}}`))
	for option, pair := range map[string][2]any{
		"redirectUrl":                     {c.RedirectURL, "/oidc/callback"},
		"scopes":                          {strings.Join(c.Scopes, " "), "openid profile email"},
		"pkce":                            {c.PKCE, true},
		"par":                             {c.PAR, "auto"},
		"responseMode":                    {c.ResponseMode, "query"},
		"unauthenticated":                 {c.Unauthenticated, "auto"},
		"clientAuthMethod":                {c.ClientAuthMethod, ""},
		"clientKeyAlg":                    {c.ClientKeyAlg, "RS256"},
		"idTokenSigningAlg":               {c.IDTokenSigningAlg, ""},
		"maxAge":                          {c.MaxAge == nil, true},
		"session.name":                    {c.Session.Name, "%s-session"},
		"session.expiry":                  {c.Session.Expiry, 86400},
		"session.sliding":                 {c.Session.Sliding, true},
		"session.refresh":                 {c.Session.Refresh, true},
		"session.sameSite":                {c.Session.SameSite, "lax"},
		"session.httpOnly":                {c.Session.HTTPOnly, true},
		"session.secure":                  {c.Session.Secure == nil, true},
		"session.idleTimeout":             {c.Session.IdleTimeout, 0},
		"session.store.cacheSeconds":      {c.Session.Store.CacheSeconds, 2},
		"session.store.redis.cluster":     {c.Session.Store.Redis.Cluster == nil, true},
		"stateCookie.name":                {c.StateCookie.Name, "%s-state"},
		"stateCookie.maxAge":              {c.StateCookie.MaxAge, 600},
		"csrf.headerName":                 {c.CSRF.HeaderName, "Hub-Csrf-Token"},
		"csrf.cookieName":                 {c.CSRF.CookieName, "hub-csrf-token"},
		"clientConfig.timeoutSeconds":     {c.ClientConfig.TimeoutSeconds, 5},
		"exchangeTimeoutSeconds":          {c.ExchangeTimeoutSeconds, 20},
		"clientConfig.maxRetries":         {c.ClientConfig.MaxRetries, 3},
		"oAuthIntrospection.cacheSeconds": {c.OAuthIntrospection.CacheSeconds, 10},
		"introspection's timeout":         {c.OAuthIntrospection.ClientConfig.TimeoutSeconds, 5},
		"jwt":                             {c.JWT == nil, true},
		"logLevel":                        {c.LogLevel, "info"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: expected %v, got %v", option, pair[1], pair[0])
		}
	}
}

// optionOf is the value of an option by its path: a list with | between its items, a map as fmt prints it, a block as "a block"; nil where
// nothing is set.
func optionOf(c *Config, path string) any {
	v := reflect.ValueOf(c)
	for _, name := range strings.Split(path, ".") {
		name := name
		v = reflect.Indirect(v)
		switch v.Kind() {
		case reflect.Map:
			v = v.MapIndex(reflect.ValueOf(name))
		case reflect.Slice:
			i, _ := strconv.Atoi(name)
			v = v.Index(i)
		default:
			v = fieldOf(v, name)
		}
	}
	if v.Kind() == reflect.Ptr && v.IsNil() {
		return nil
	}
	value := reflect.Indirect(v)
	switch value.Kind() {
	case reflect.Struct:
		return "a block"
	case reflect.Map:
		return fmt.Sprint(value.Interface())
	case reflect.Slice:
		return strings.Join(value.Interface().([]string), "|")
	}
	return value.Interface()
}

// embedded are the structs that others have without a name. The interpreter does not tell reflect of them.
var embedded = []string{"ProviderConfig", "PolicyConfig", "CookieConfig", "TokenConfig", "ClientConfig"}

// fieldOf is a field by its name in any case, also of what is embedded.
func fieldOf(v reflect.Value, name string) reflect.Value {
	found := v.FieldByNameFunc(func(field string) bool { return strings.EqualFold(field, name) })
	for _, in := range embedded {
		if inner := v.FieldByName(in); !found.IsValid() && inner.IsValid() {
			found = fieldOf(inner, name)
		}
	}
	return found
}

// Values arrive typed from Kubernetes, as text from everywhere else, and `{}` and `[]` as empty text.
func TestConfigReadsWhatProvidersWrite(t *testing.T) {
	for _, test := range []struct {
		name, options string
		option        string
		want          any
	}{
		{"a bool", `{"disableLogin": true}`, "disableLogin", true},
		{"a bool as text", `{"disableLogin": "true"}`, "disableLogin", true},
		{"a bool as YAML 1.1 in Python writes it", `{"pkce": "False"}`, "pkce", false},
		{"a bool as number", `{"disableLogin": 1}`, "disableLogin", true},
		{"a bool as 0 in text", `{"pkce": "0"}`, "pkce", false},
		{"an empty bool keeps its default", `{"pkce": ""}`, "pkce", true},
		{"null keeps the default", `{"pkce": null}`, "pkce", true},
		{"a number", `{"session": {"expiry": 7}}`, "session.expiry", 7},
		{"a large number is not written as 1e+06", `{"session": {"expiry": 1000000}}`, "session.expiry", 1000000},
		{"a number as text", `{"session": {"expiry": "7"}}`, "session.expiry", 7},
		{"a number as Traefik writes a YAML float", `{"session": {"expiry": "7.000000"}}`, "session.expiry", 7},
		{"a number in white space", `{"session": {"expiry": " 7 "}}`, "session.expiry", 7},
		{"an empty number keeps its default", `{"session": {"expiry": ""}}`, "session.expiry", 86400},
		{"zero where it means something", `{"clientConfig": {"maxRetries": "0"}}`, "clientConfig.maxRetries", 0},
		{"zero where none is the default", `{"maxAge": 0}`, "maxAge", 0},
		{"a switch with three states, off", `{"session": {"secure": "false"}}`, "session.secure", false},
		{"a switch with three states, empty", `{"session": {"secure": ""}}`, "session.secure", nil},
		{"text from a number", `{"clientId": 123456789}`, "clientId", "123456789"},
		{"text from a long number", `{"clientId": 9007199254740991}`, "clientId", "9007199254740991"},
		{"text from a longer number in quotes", `{"clientId": "253456789012345678"}`, "clientId", "253456789012345678"},
		{"text from a bool", `{"par": true}`, "par", "true"},
		{"white space around text is dropped", `{"clientSecret": "secret with a line end\n"}`, "clientSecret", "secret with a line end"},
		{"a word of a fixed set in another case", `{"session": {"sameSite": "Strict"}}`, "session.sameSite", "strict"},
		{"a list", `{"scopes": ["openid", "groups"]}`, "scopes", "openid|groups"},
		{"a list as text", `{"scopes": "openid, groups ,"}`, "scopes", "openid|groups"},
		{"a list of one", `{"scopes": "openid"}`, "scopes", "openid"},
		{"an item with a comma is not split", `{"acrValues": ["a,b", 2]}`, "acrValues", "a,b|2"},
		{"an empty list keeps the default", `{"scopes": ""}`, "scopes", "openid|profile|email"},
		{"a map", `{"authParams": {"prompt": "", "Max": 5}}`, "authParams", "map[Max:5 prompt:]"},
		{"a map as text", `{"errorPages": "401=/a.html, 403=/b.html"}`, "errorPages", "map[401:/a.html 403:/b.html]"},
		{"an empty map", `{"authParams": ""}`, "authParams", "map[]"},
		{"an empty block changes nothing", `{"session": ""}`, "session.expiry", 86400},
		{"a block that is there is on", `{"csrf": {}}`, "csrf.headerName", "Hub-Csrf-Token"},
		{"a block that is there is on, from YAML", `{"csrf": ""}`, "csrf.headerName", "Hub-Csrf-Token"},
		{"a block switched on by a label", `{"csrf": "true"}`, "csrf.headerName", "Hub-Csrf-Token"},
		{"a block switched on by Kubernetes", `{"jwt": true}`, "jwt.clientConfig.timeoutSeconds", 5},
		{"a block switched off", `{"jwt": "false"}`, "jwt", nil},
		{"a block keeps the defaults it does not set", `{"csrf": {"cookieName": "x"}}`, "csrf.headerName", "Hub-Csrf-Token"},
		{"a block has what it sets", `{"csrf": {"cookieName": "x"}}`, "csrf.cookieName", "x"},
		{"a block in a block", `{"session": {"store": {"redis": {"endpoints": "a:1", "cluster": "true", "tls": ""}}}}`, "session.store.redis", "a block"},
		{"names in any case", `{"SESSION": {"EXPIRY": 5}}`, "session.expiry", 5},
		{"Hub's clientID", `{"oAuthClientCredentials": {"url": "https://id/token", "clientID": "gateway", "clientSecret": "s"}}`,
			"oAuthClientCredentials.clientId", "gateway"},
		{"Hub's caBundle", `{"clientConfig": {"tls": {"caBundle": "PEM"}}}`, "clientConfig.tls.ca", "PEM"},
		{"Hub's caBundle of Redis", `{"session": {"store": {"redis": {"endpoints": "a:1", "tls": {"caBundle": "PEM"}}}}}`,
			"session.store.redis.tls.ca", "PEM"},
		{"Hub's tokenTypeHint", `{"oAuthIntrospection": {"clientConfig": {"tokenTypeHint": "access_token"}}}`,
			"oAuthIntrospection.clientConfig.tokenTypeHint", "access_token"},
		{"Hub's older tokenTypeHint", `{"oAuthIntrospection": {"tokenTypeHint": "access_token"}}`,
			"oAuthIntrospection.clientConfig.tokenTypeHint", "access_token"},
		{"Enterprise's secret at another place", `{"secret": "sixteen bytes or more"}`, "session.secret", "sixteen bytes or more"},
		{"a token block takes the top level's rule", `{"jwt": {"forwardHeaders": {"X-A": "a"}}, "claims": "Exists(x)"}`, "jwt.claims", "Exists(x)"},
		{"a token block takes the top level's headers", `{"jwt": {"claims": "Exists(y)"}, "forwardHeaders": {"X-A": "a"}}`, "jwt.forwardHeaders.X-A", "a"},
		{"a token block with headers of the top level has its own rule", `{"jwt": {"claims": "Exists(y)"}, "forwardHeaders": {"X-A": "a"}}`,
			"jwt.claims", "Exists(y)"},
		{"introspection takes the top level's user name", `{"oAuthIntrospection": true, "usernameClaim": "email"}`,
			"oAuthIntrospection.usernameClaim", "email"},
	} {
		test := test
		t.Run(test.name, func(t *testing.T) {
			if got := optionOf(mustRead(t, signIn(t, test.options)), test.option); got != test.want {
				t.Errorf("expected %v, got %v", test.want, got)
			}
		})
	}
}

func TestConfigReadsOtherKindsOfBlocksAndLists(t *testing.T) {
	raw := signIn(t, `{}`)
	raw["session"] = map[string]int{"expiry": 9}
	raw["errorPages"] = map[int]string{401: "/a.html"}
	raw["scopes"] = []string{"openid"}
	c := mustRead(t, raw)
	if c.Session.Expiry != 9 || c.ErrorPages["401"] != "/a.html" || len(c.Scopes) != 1 {
		t.Errorf("got %d, %v, %v", c.Session.Expiry, c.ErrorPages, c.Scopes)
	}
}

// Hub's documented configurations start as they are, once Kubernetes has resolved the secrets.
func TestConfigStartsWithHubsConfigurations(t *testing.T) {
	for name, text := range map[string]string{
		"OIDC":                        `{"issuer": "https://kc/realms/traefik", "clientId": "id", "clientSecret": "as a provider makes them", "redirectUrl": "/oidc/callback"}`,
		"Traefik Enterprise":          "{\"issuer\": \"https://id\", \"clientID\": \"id\", \"clientSecret\": \"secret\", \"scopes\": [\"openid\"], \"redirectUrl\": \"/callback\", \"session\": {\"name\": \"%s-session\", \"path\": \"/\", \"secret\": \"24 letters, as they want\", \"expiry\": 86400}, \"forwardHeaders\": {\"X-Traefik-Group\": \"groups\"}, \"claims\": \"Contains(`groups`, `admin`)\"}",
		"introspection":               `{"oAuthIntrospection": {"tokenSource": {"header": "Authorization", "headerAuthScheme": "Bearer"}, "clientConfig": {"url": "https://kc/introspect", "headers": {"Authorization": "Basic {{ .Request.Header.Get \"X\" }}"}}}}`,
		"client credentials, caller":  `{"oAuthClientCredentials": {"url": "https://kc/token"}}`,
		"client credentials, gateway": `{"oAuthClientCredentials": {"url": "https://kc/token", "clientID": "id", "clientSecret": "secret", "audience": "api"}}`,
		"client credentials, scopes":  `{"oAuthClientCredentials": {"url": "https://kc/token", "scopes": ["urn:opc:resource:consumer::all"]}}`,
		"client credentials, Redis":   `{"oAuthClientCredentials": {"url": "https://kc/token", "store": {"keyPrefix": "x", "secret": "Hj8sB4cYd6FgM1nQ", "redis": {"endpoints": ["redis:6379"], "cluster": {}, "tls": {"ca": "PEM"}}}}}`,
		"JWT by secret":               `{"jwt": {"signingSecret": "the-secret-of-thirty-two-bytes-or-more"}}`,
		"JWT by path and issuer":      `{"jwt": {"jwksUrl": "/protocol/openid-connect/certs", "issuer": "https://kc/realms/x"}}`,
		"HMAC with a long secret":     `{"issuer": "https://id", "clientId": "id", "clientSecret": "Kq3vT9zXw7LmN2pRHj8sB4cYd6FgM1nQ", "idTokenSigningAlg": "HS256"}`,
		"a public client":             `{"issuer": "https://id", "clientId": "id", "session": {"secret": "Kq3vT9zXw7LmN2pR", "sameSite": "none", "secure": true}}`,
		"empty prompt":                `{"issuer": "https://id", "clientId": "id", "clientSecret": "as a provider makes them", "authParams": {"prompt": ""}}`,
	} {
		_, p := read(options(t, text))
		if err := p.err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const newSecret = "write the output of `openssl rand -base64 32`"

// mistakes are beside a good sign-in, one in a row, and all that may be said about it.
var mistakes = []struct{ name, options, wantErr string }{
	// Kinds of values.
	{"a word for a bool", `{"pkce": "yes"}`, `pkce: must be true or false, got "yes"`},
	{"a list for a bool", `{"pkce": [true]}`, `pkce: must be one value, not a list or block`},
	{"a fraction", `{"session": {"expiry": 1.5}}`, `session.expiry: must be a whole number, got "1.5"`},
	{"a fraction as Traefik writes it", `{"session": {"expiry": "1.500000"}}`, `session.expiry: must be a whole number, got "1.500000"`},
	{"a duration", `{"session": {"expiry": "24h"}}`,
		`session.expiry: must be a whole number without a unit, got "24h"; write seconds, 3600 for an hour`},
	{"a number too large", `{"session": {"expiry": 1e12}}`, `session.expiry: must be a whole number, got "1000000000000"`},
	{"a client whose name is a long number", `{"clientId": 253456789012345678}`, `clientId: is a number that lost digits on its way here, got 2534567890123456`},
	{"a long number in a list", `{"trustedAudiences": [253456789012345678]}`, `trustedAudiences: is a number that lost digits`},
	{"not a number", `{"session": {"expiry": "NaN"}}`, `session.expiry: must be a whole number, got "NaN"`},
	{"a session of no time", `{"session": {"expiry": 0}}`, `session.expiry: must be at least 1, got "0"`},
	{"a session of less than no time", `{"session": {"expiry": -1}}`, `session.expiry: must be at least 1, got "-1"`},
	{"a negative idle timeout", `{"session": {"idleTimeout": -1}}`, `session.idleTimeout: must be at least 0, got "-1"`},
	{"a negative lifetime", `{"session": {"maxLifetime": "-5"}}`, `session.maxLifetime: must be at least 0, got "-5"`},
	{"no time to sign in", `{"stateCookie": {"maxAge": 0}}`, `stateCookie.maxAge: must be at least 1, got "0"`},
	{"a negative maxAge", `{"maxAge": -1}`, `maxAge: must be at least 0, got "-1"`},
	{"no time to answer", `{"clientConfig": {"timeoutSeconds": 0}}`, `clientConfig.timeoutSeconds: must be at least 1, got "0"`},
	{"too large a memory", `{"memory": 100000}`, `memory: must be at most 99999, got "100000"`},
	{"no memory", `{"memory": 0}`, `memory: must be at least 1, got "0"`},
	{"too wide a clock", `{"clockSkewSeconds": 301}`, `clockSkewSeconds: must be at most 300, got "301"`},
	{"a certificate without its key", `{"clientCertificate": "PEM"}`, `clientKey: required with clientCertificate`},
	{"the gateway's certificate without its key",
		`{"oAuthClientCredentials": {"url": "https://id/t", "clientId": "x", "clientSecret": "y", "clientCertificate": "PEM"}}`,
		`oAuthClientCredentials.clientKey: required with clientCertificate`},
	{"too many retries", `{"clientConfig": {"maxRetries": 11}}`, `clientConfig.maxRetries: must be at most 10, got "11"`},
	{"a block for a text", `{"redirectUrl": {"a": "b"}}`, `redirectUrl: must be one value, not a list or block`},
	{"a text for a block", `{"session": "10"}`, `session: must be a block of options, not a text or list`},
	{"a list for a block", `{"session": ["a"]}`, `session: must be a block of options, not a text or list`},
	{"a text for a block with a switch", `{"csrf": "on"}`, `csrf: must be a block of options, not a text or list`},
	{"a block in a list", `{"scopes": [{"a": "b"}]}`, `scopes: must be one value, not a list or block`},
	{"a text for a map", `{"authParams": "offline"}`, `authParams: must be names with values; write a block, or text like "name=value,name=value"`},
	{"a list for a map", `{"authParams": ["a"]}`, `authParams: must be names with values, not a list`},
	{"a block in a map", `{"authParams": {"a": {"b": "c"}}}`, `authParams.a: must be one value, not a list or block`},
	{"one option in two spellings", `{"clientConfig": {"tls": {"ca": "x", "caBundle": "y"}}}`,
		`clientConfig.tls.ca: given twice, also as "cabundle"; keep one`},
	{"one name twice in a text", `{"authParams": "a=b, a=c"}`, `authParams.a: given twice; keep one`},
	{"one option twice", `{"session": {"Expiry": 1, "expiry": 2}}`, `session.expiry: given twice, with other capital letters; keep one`},

	// Options that do not exist.
	{"a misspelt option", `{"claim": "x"}`, `claim: unknown option; did you mean "claims"?`},
	{"letters swapped", `{"redirctUrl": "/x"}`, `redirctUrl: unknown option; did you mean "redirectUrl"?`},
	{"the specification's spelling", `{"redirectUri": "/x"}`, "redirectUri: unknown option; here it is `redirectUrl`"},
	{"snake case", `{"forward_headers": {}}`, `forward_headers: unknown option; did you mean "forwardHeaders"?`},
	{"a misspelt option below", `{"session": {"store": {"redis": {"endpoints": "a:1", "pasword": "x"}}}}`,
		`session.store.redis.pasword: unknown option; did you mean "password"?`},
	{"an option of a block at the top", `{"expiry": 5}`, `expiry: unknown option; its place is session.expiry`},
	{"an option of several blocks", `{"database": 5}`,
		`database: unknown option; its place is session.store.redis.database or oAuthClientCredentials.store.redis.database`},
	{"an option of the top in a block", `{"session": {"claims": "x"}}`, `session.claims: unknown option; its place is claims or jwt.claims`},
	{"an option of a block further down", `{"session": {"database": 5}}`, `session.database: unknown option; its place is session.store.redis.database`},
	{"an option in a block without any", `{"session": {"store": {"redis": {"endpoints": "a:1", "cluster": {"nodes": 3}}}}}`,
		`session.store.redis.cluster.nodes: unknown option; did you mean "{}"?`},

	{"a name of traefikoidc", `{"providerURL": "https://id"}`, "providerURL: unknown option; here it is `issuer`"},
	{"a switch of traefikoidc", `{"forceHTTPS": true}`, "forceHTTPS: unknown option; here it is `session.secure`; true, or a `redirectUrl` with https"},
	{"a block of traefik-oidc-auth", `{"Authorization": {"AssertClaims": []}}`,
		"Authorization: unknown option; here it is `claims`, such as OneOf(`groups`, …)"},
	{"a block of traefik-oidc-auth's provider", `{"Provider": {"Url": "https://id"}}`, "Provider: unknown option; here it is `issuer`"},
	{"a flag of oauth2-proxy", `{"oidc-issuer-url": "https://id"}`, "oidc-issuer-url: unknown option; here it is `issuer`"},
	{"an environment variable's name", `{"COOKIE_SECRET": "x"}`, "COOKIE_SECRET: unknown option; here it is `session.secret`"},
	{"a name of forwardAuth", `{"authResponseHeaders": ["X-User"]}`, "authResponseHeaders: unknown option; here it is `forwardHeaders`"},
	{"a name of OAuth libraries", `{"tokenUrl": "https://id/t"}`, "tokenUrl: unknown option; here it is `endpoints.token`"},
	{"an age of a session", `{"session": {"maxAge": 5}}`, "session.maxAge: unknown option; here it is `session.expiry`"},
	{"a name below a real block", `{"jwt": {"iss": "https://id"}}`, "jwt.iss: unknown option; here it is `jwt.issuer`"},
	{"a name like nothing", `{"quux": 1}`, `quux: unknown option; nothing here has a name like it; see docs/reference.md`},
	{"a part of a name", `{"clientConfig": {"timeoutSecs": 5}}`, `clientConfig.timeoutSecs: unknown option; did you mean "timeoutSeconds"?`},

	// Provider and client.
	{"no issuer", `{"issuer": ""}`,
		`issuer: required for sign-in, because "clientId" is set; write the provider's address, such as "https://id.example.com"`},
	{"no client", `{"clientId": ""}`, `clientId: required for sign-in, because "clientId" is set`},
	{"an issuer without scheme", `{"issuer": "id.example.com"}`, `issuer: must be an https URL, got "id.example.com"; try "https://id.example.com"`},
	{"an issuer with a port, without scheme", `{"issuer": "id.example.com:8443/x"}`,
		`issuer: must be an https URL, got "id.example.com:8443/x"; try "https://id.example.com:8443/x"`},
	{"an issuer of another scheme", `{"issuer": "ldap://id.example.com"}`, `issuer: must be an https URL, got "ldap://id.example.com"`},
	{"an issuer with a query", `{"issuer": "https://id.example.com/?p=x"}`,
		`issuer: must not have a query or fragment, got "https://id.example.com/?p=x"; try "https://id.example.com/"`},
	{"an issuer with a fragment", `{"issuer": "https://id.example.com#x"}`,
		`issuer: must not have a query or fragment, got "https://id.example.com#x"; try "https://id.example.com"`},
	{"an issuer with a password", `{"issuer": "https://a:b@id.example.com"}`, `issuer: must be an https URL`},
	{"a password with a line break", `{"issuer": "https://a\n:b@id.example.com"}`,
		`issuer: must be an https URL, got "…@id.example.com"; try "https://id.example.com"`},
	{"a password with a question mark", `{"endpoints": {"token": "https://a:b?c@id.example.com/t"}}`,
		`endpoints.token: must be an https URL, got "…@id.example.com/t"; try "https://id.example.com/t"`},
	{"the discovery document", `{"issuer": "https://id.example.com/.well-known/openid-configuration"}`,
		`issuer: must be the issuer, not its discovery document, got "https://id.example.com/.well-known/openid-configuration"; try "https://id.example.com"`},
	{"a trusted issuer that is none", `{"trustedIssuer": "other"}`, `trustedIssuer: must be an https URL, got "other"; try "https://other"`},
	{"an endpoint that is a path", `{"endpoints": {"token": "/token"}}`, `endpoints.token: must be an https URL, got "/token"`},
	{"an unknown method", `{"clientAuthMethod": "basic"}`,
		`clientAuthMethod: must be one of client_secret_basic, client_secret_post, private_key_jwt, tls_client_auth, none, got "basic"`},
	{"a method without its secret",
		`{"clientAuthMethod": "client_secret_post", "clientSecret": "(none)", "session": {"secret": "Kq3vT9zXw7LmN2pR"}}`,
		`clientSecret: required for clientAuthMethod "client_secret_post"`},
	{"a method without its key", `{"clientAuthMethod": "private_key_jwt"}`, `clientKey: required for clientAuthMethod "private_key_jwt"`},
	{"a method without its certificate", `{"clientAuthMethod": "tls_client_auth"}`,
		`clientConfig.tls.cert: required for clientAuthMethod "tls_client_auth"`},
	{"a certificate without key", `{"clientConfig": {"tls": {"cert": "PEM"}}}`,
		`clientConfig.tls.key: required with cert; write its private key as PEM`},
	{"a key without certificate", `{"clientConfig": {"tls": {"key": "PEM"}}}`, `clientConfig.tls.cert: required with key; write its certificate as PEM`},
	{"an unknown algorithm of the key", `{"clientKeyAlg": "HS256"}`, `clientKeyAlg: must be one of RS256, RS384`},
	{"no signature", `{"idTokenSigningAlg": "none"}`, `idTokenSigningAlg: must be one of RS256`},
	{"a public client without PKCE", `{"pkce": false, "clientAuthMethod": "none"}`,
		`pkce: must be true for a client without credentials; leave it out, or set clientSecret`},

	// Sign-in and sign-out.
	{"a path without slash", `{"redirectUrl": "callback"}`,
		`redirectUrl: must be a path ("/x"), host and path, or an http(s) URL; a path begins with a slash, got "callback"`},
	{"a longer path without slash", `{"redirectUrl": "oidc/callback"}`,
		`redirectUrl: must be a path ("/x"), host and path, or an http(s) URL; a path begins with a slash, got "oidc/callback"`},
	{"a callback that is the front page", `{"redirectUrl": "/"}`,
		`redirectUrl: must be the address of a page of its own, without a query or escapes, got "/"; try "/oidc/callback" or the like`},
	{"a callback that is the front page of a host", `{"redirectUrl": "http://app.local"}`,
		`redirectUrl: must be the address of a page of its own, without a query or escapes, got "http://app.local"; try "/oidc/callback" or the like`},
	{"a callback that is the front page of another host", `{"redirectUrl": "auth.example.com/"}`,
		`redirectUrl: must be the address of a page of its own`},
	{"a secure session over http", `{"session": {"secure": true}, "redirectUrl": "http://app.local/cb"}`,
		`session.secure: must not be true with plain http in redirectUrl, got "http://app.local/cb": browsers drop such a cookie there; write https in redirectUrl`},
	{"a secure pending login over http", `{"stateCookie": {"secure": "true"}, "redirectUrl": "HTTP://app.local/cb"}`,
		`stateCookie.secure: must not be true with plain http in redirectUrl, got "HTTP://app.local/cb": browsers drop such a cookie there; write https in redirectUrl`},
	{"a pending login of this host in a domain", `{"session": {"domain": "example.com"}, "stateCookie": {"name": "__Host-x"}}`,
		`stateCookie.name: must not begin with "__Host-" beside session.domain, got "__Host-x"; leave it out`},
	{"a framed session without TLS", `{"session": {"partitioned": true, "secure": false}}`,
		`session.secure: must not be false with session.partitioned: browsers drop such a cookie; leave it out`},
	{"a framed pending login without TLS", `{"session": {"partitioned": "true"}, "stateCookie": {"secure": "false"}}`,
		`stateCookie.secure: must not be false with session.partitioned: browsers drop such a cookie; leave it out`},
	{"a callback with a query", `{"redirectUrl": "/cb?x=1"}`, `redirectUrl: must be the address of a page of its own`},
	{"another scheme", `{"logoutUrl": "javascript://x/y"}`,
		`logoutUrl: must be a path ("/x"), host and path ("app.example.com/x"), or an http(s) URL, without a fragment, got "javascript://x/y"`},
	{"a fragment", `{"postLogoutRedirectUrl": "/bye#x"}`, `postLogoutRedirectUrl: must be a path`},
	{"two slashes", `{"postLoginRedirectUrl": "//evil.example.com"}`,
		`postLoginRedirectUrl: must not have . or .. or // in its path, got "//evil.example.com"`},
	{"two addresses with one path", `{"loginUrl": "/oidc/callback"}`,
		`loginUrl: must not have the path of redirectUrl, got "/oidc/callback"; write another path`},
	{"two addresses with one path and two hosts", `{"logoutUrl": "a.example.com/x", "frontchannelLogoutUrl": "https://b.example.com/x"}`,
		`frontchannelLogoutUrl: must not have the path of logoutUrl, got "/x"; write another path`},
	{"the provider's page for the sign-in",
		`{"issuer": "https://id.example.com/realms/Main/", "loginUrl": "https://ID.example.com/realms/Main/login"}`,
		`loginUrl: must be an address of yours, got the provider's, "https://ID.example.com/realms/Main/login"; write a path, such as "/login" or "/logout": the provider's are found by discovery`},
	{"the provider's page for the sign-out", `{"logoutUrl": "https://id.example.com/v2/logout"}`,
		`logoutUrl: must be an address of yours, got the provider's, "https://id.example.com/v2/logout"; write`},
	{"the provider's address for a pushed sign-out", `{"backchannelLogoutUrl": "https://id.example.com/v2/logout"}`,
		`backchannelLogoutUrl: must be an address of yours, got the provider's`}, // issuer is read first, whatever the order of the names is
	{"the provider's page with a query", `{"loginUrl": "id.example.com/oauth2/auth?client_id=x"}`,
		`loginUrl: must be an address of yours, got the provider's`},
	{"the endpoint of a provider with several hosts", `{"loginUrl": "https://x.auth.eu-west-1.amazoncognito.com/oauth2/authorize"}`,
		`loginUrl: must be an address of yours, got the provider's`},
	{"the endpoint of a provider that shares its host",
		`{"issuer": "https://login.example.com/t/v2.0", "frontchannelLogoutUrl": "https://login.example.com/t/oauth2/v2.0/logout"}`,
		`frontchannelLogoutUrl: must be an address of yours`},
	{"the provider's callback for ours",
		`{"issuer": "https://id.example.com/realms/main", "redirectUrl": "https://id.example.com/realms/main/broker/x/endpoint"}`,
		`redirectUrl: must be an address of yours`},
	{"the end of a session for the page after it",
		`{"postLogoutRedirectUrl": "https://id.example.com/realms/main/protocol/openid-connect/logout?x=y"}`,
		`postLogoutRedirectUrl: must be a page of yours, got the provider's, "https://id.example.com/realms/main/protocol/openid-connect/logout?x=y"; write one, such as "/", where people land afterwards`},
	{"a sign-in that must not begin", `{"loginUrl": "/in", "disableLogin": true}`,
		`loginUrl: must not be combined with disableLogin, which starts no sign-in; leave one of them out`},
	{"a sign-in that ends where it began", `{"loginUrl": "/in", "postLoginRedirectUrl": "/in"}`,
		`postLoginRedirectUrl: must not be loginUrl, which begins another sign-in; write another page, such as "/"`},
	{"a sign-in that ends where it began, with a query", `{"loginUrl": "/in", "postLoginRedirectUrl": "/in?next=/x"}`,
		`postLoginRedirectUrl: must not be loginUrl, which is no page to end at; write another page, such as "/"`},
	{"a sign-in that ends where it began, on the host of all",
		`{"redirectUrl": "https://a.example.com/cb", "loginUrl": "/in", "postLoginRedirectUrl": "https://a.example.com/in"}`,
		`postLoginRedirectUrl: must not be loginUrl, which is`},
	{"a sign-in that ends with a sign-out", `{"logoutUrl": "/out", "postLoginRedirectUrl": "/out"}`,
		`postLoginRedirectUrl: must not be logoutUrl, which is`},
	{"a sign-in that ends at the callback", `{"postLoginRedirectUrl": "/oidc/callback"}`, `postLoginRedirectUrl: must not be redirectUrl, which is`},
	{"a sign-out that ends at the callback", `{"postLogoutRedirectUrl": "/oidc/callback"}`, `postLogoutRedirectUrl: must not be redirectUrl, which is`},
	{"a sign-out that ends where it began", `{"logoutUrl": "/out", "postLogoutRedirectUrl": "/out"}`,
		`postLogoutRedirectUrl: must not be logoutUrl, which signs out again; write another page, such as "/"`},
	{"an unknown response mode", `{"responseMode": "fragment"}`, `responseMode: must be one of query, form_post, got "fragment"`},
	{"an unknown par", `{"par": "maybe"}`, `par: must be one of auto, true, false, got "maybe"`},
	{"an unknown way with visitors", `{"unauthenticated": "allow"}`, `unauthenticated: must be one of auto, login, deny, forward, got "allow"`},
	{"an unknown log level", `{"logLevel": "verbose"}`, `logLevel: must be one of debug, info, warn, error, got "verbose"`},
	{"scopes as parameter", `{"authParams": {"scope": "openid"}}`, `authParams.scope: is decided by another option, got "scope"; use scopes`},
	{"a nonce as parameter", `{"authParams": {"nonce": "x"}}`,
		`authParams.nonce: belongs to the protocol and cannot be replaced, got "nonce"; leave it out`},
	{"visitors choose the callback", `{"loginParams": ["login_hint", "redirect_uri"]}`,
		`loginParams: is decided by another option, got "redirect_uri"; use redirectUrl`},
	{"visitors bring a request object", `{"loginParams": "request"}`,
		`loginParams: belongs to the protocol and cannot be replaced, got "request"; leave it out`},
	{"a client as parameter", `{"authParams": {"client_id": "x"}}`, `authParams.client_id: is decided by another option, got "client_id"; use clientId`},
	{"a secret as parameter", `{"authParams": {"client_secret": "x"}}`,
		`authParams.client_secret: is decided by another option, got "client_secret"; use clientSecret`},
	{"an assertion as parameter", `{"authParams": {"client_assertion": "x"}}`,
		`authParams.client_assertion: is decided by another option, got "client_assertion"; use clientKey`},
	{"a kind of assertion as parameter", `{"loginParams": "client_assertion_type"}`,
		`loginParams: is decided by another option, got "client_assertion_type"; use clientAuthMethod`},
	{"a challenge as parameter", `{"authParams": {"code_challenge": "x"}}`,
		`authParams.code_challenge: is decided by another option, got "code_challenge"; use pkce`},
	{"its method as parameter", `{"authParams": {"code_challenge_method": "x"}}`,
		`authParams.code_challenge_method: is decided by another option, got "code_challenge_method"; use pkce`},
	{"a response mode as parameter", `{"authParams": {"response_mode": "x"}}`,
		`authParams.response_mode: is decided by another option, got "response_mode"; use responseMode`},
	{"a reference to a request as parameter", `{"loginParams": ["request_uri"]}`,
		`loginParams: is decided by another option, got "request_uri"; use par`},
	{"a resource that is no address", `{"resource": ["api"]}`, `resource: must be an https URL, got "api"; try "https://api"`},
	{"a resource with a fragment", `{"resource": "https://api#x"}`,
		`resource: must not have a query or fragment, got "https://api#x"; try "https://api"`},

	// Headers.
	{"a header with a space", `{"forwardHeaders": {"X User": "sub"}}`,
		`forwardHeaders.X User: must be the name of a header, got "X User"; try "X-User" or the like`},
	{"the host as header", `{"forwardHeaders": {"host": "sub"}}`,
		`forwardHeaders.host: must not be a header of the connection, got "host"; write another name`},
	{"the cookies as header", `{"forwardHeaders": {"Cookie": "sub"}}`, `forwardHeaders.Cookie: must not be a header of the connection`},
	{"a header of one hop", `{"forwardHeaders": {"transfer-encoding": "sub"}}`,
		`forwardHeaders.transfer-encoding: must not be a header of the connection`},
	{"proofs for a proxy as header", `{"forwardHeaders": {"Proxy-Authorization": "sub"}}`,
		`forwardHeaders.Proxy-Authorization: must not be a header of the connection`},
	{"one header twice", `{"forwardHeaders": {"X-User": "sub", "x-user": "email"}}`,
		`forwardHeaders.x-user: given twice, with other capital letters; keep one`},

	// Cookies and secrets.
	{"no secret at all", `{"clientSecret": "(none)"}`, `session.secret: required without clientSecret; ` + newSecret + `, the same for all replicas`},
	{"a reference as Compose files have it", `{"session": {"secret": "$${OIDC_TEST_SESSION_SECRET}"}}`,
		`session.secret: looks like a reference that was not resolved, so anybody could guess it; write ` + "`${NAME}` or `${file:/path}`" + ` (in a`},
	{"a reference with a default", `{"session": {"previousSecrets": ["${OIDC_TEST_SESSION_SECRET:-}"]}}`,
		`session.previousSecrets: looks like a reference that was not resolved`},
	{"an empty secret", `{"clientSecret": "", "session": {"secret": "Kq3vT9zXw7LmN2pR"}}`,
		`clientSecret: is there and empty, as when Compose finds no variable; set it, or leave it out for a public client`},
	{"an empty secret, unimportant", `{"clientSecret": "", "clientKey": "PEM", "session": {"secret": ""}}`,
		`session.secret: is there and empty, as when Compose finds no variable; set it, or leave it out`},
	{"an empty secret of a public client", `{"clientSecret": "", "clientAuthMethod": "none"}`, `session.secret: required without clientSecret`},
	{"an empty secret of the gateway", `{"oAuthClientCredentials": {"url": "https://id/t", "clientId": "x", "clientSecret": ""}}`,
		`oAuthClientCredentials.clientSecret: is there and empty, as when Compose finds no variable; set it, or leave it out to use the caller's`},
	{"a published secret", `{"session": {"secret": "change-me-to-something-else"}}`,
		`session.secret: is like a published example, so anybody could guess it; ` + newSecret},
	{"a secret of few letters", `{"session": {"secret": "ababababcdcdcdcdefefefef"}}`,
		`session.secret: must have at least 8 different bytes, or it could be guessed; ` + newSecret},
	{"a client's secret that seals", `{"clientSecret": "short"}`,
		"clientSecret: seals sessions where there is no session.secret, and must have at least 16 bytes; write session.secret, the output of `openssl rand -base64 32`"},
	{"a client's secret that signs",
		`{"clientSecret": "${CLIENT-SECRET-OF-THIRTY-TWO-BYTES}", "idTokenSigningAlg": "HS256", "session": {"secret": "Kq3vT9zXw7LmN2pR"}}`,
		`clientSecret: looks like a reference that was not resolved`},
	{"a secret of tokens that is an example", `{"jwt": {"signingSecret": "super-secret-jwt-token-with-at-least-32-characters-long"}}`,
		`jwt.signingSecret: is like a published example`},
	{"a short secret", `{"session": {"secret": "fifteen bytes.."}}`, `session.secret: must have at least 16 bytes; ` + newSecret},
	{"a short old secret", `{"session": {"previousSecrets": "fifteen bytes.."}}`, `session.previousSecrets: must have at least 16 bytes; ` + newSecret},
	{"two secrets", `{"secret": "Kq3vT9zXw7LmN2pR", "session": {"secret": "Hj8sB4cYd6FgM1nQ"}}`,
		`secret: is an alternative to session.secret, and differs from it; keep one of them`},
	{"a long name of a cookie", `{"session": {"name": "` + strings.Repeat("n", 200) + `"}}`, `session.name: must be shorter than 200 bytes, got 200: browsers keep 4096 bytes of name and value; write a shorter name`},
	{"a cookie name with a space", `{"session": {"name": "my session"}}`,
		`session.name: must be the name of a cookie, got "my session"; use letters, digits, - _ .`},
	{"a cookie path without slash", `{"session": {"path": "app"}}`, `session.path: must be a path, got "app"; try "/"`},
	{"a domain with a scheme", `{"session": {"domain": "https://example.com"}}`,
		`session.domain: must be a domain without scheme, port or path, got "https://example.com"; try "example.com", or leave it out for this host alone`},
	{"a domain with a port", `{"session": {"domain": "example.com:8443"}}`, `session.domain: must be a domain without scheme, port or path`},
	{"a domain that is a top level", `{"stateCookie": {"domain": "com"}}`, `stateCookie.domain: must be a domain without scheme, port or path`},
	{"the prefix __Host- with a domain", `{"session": {"name": "__Host-x", "domain": "example.com"}}`,
		`session.name: must not begin with "__Host-" unless path is "/" and there is no domain, got "__Host-x"`},
	{"the prefix __Host- with a path", `{"stateCookie": {"name": "__host-x", "path": "/oidc"}}`,
		`stateCookie.name: must not begin with "__Host-" unless path is "/" and there is no domain, got "__host-x"`},
	{"the prefix __Secure- over http", `{"session": {"name": "__Secure-x", "secure": false}}`,
		`session.secure: must not be false for a cookie named "__Secure-x"; leave it out`},
	{"a cookie for other sites over http", `{"session": {"sameSite": "none"}}`,
		`session.secure: must be true with sameSite "none": browsers drop such a cookie otherwise`},
	{"an unknown sameSite", `{"session": {"sameSite": "loose"}}`, `session.sameSite: must be one of lax, strict, none, got "loose"`},
	{"a form over http", `{"responseMode": "form_post", "stateCookie": {"secure": "false"}}`,
		`stateCookie.secure: must not be false with responseMode "form_post", whose answer is a request from another site; leave it out`},
	{"two cookies of one name", `{"session": {"name": "x"}, "stateCookie": {"name": "x"}}`,
		`stateCookie.name: must not be session.name, got "x"; leave it out, or write another name`},
	{"a CSRF cookie with the session's name", `{"session": {"name": "x"}, "csrf": {"cookieName": "x"}}`,
		`csrf.cookieName: must not be another cookie's name, got "x"; leave it out`},
	{"a CSRF cookie with the prefix __Host- and a domain", `{"session": {"domain": "example.com"}, "csrf": {"cookieName": "__Host-x"}}`,
		`csrf.cookieName: must not begin with "__Host-" unless path is "/" and there is no domain, got "__Host-x"`},
	{"a CSRF cookie with the prefix __Secure- over http", `{"csrf": {"cookieName": "__Secure-x", "secure": false}}`,
		`csrf.secure: must not be false for a cookie named "__Secure-x"; leave it out`},
	{"a CSRF header that is none", `{"csrf": {"headerName": "a:b"}}`,
		`csrf.headerName: must be the name of a header, got "a:b"; try "X-User" or the like`},
	{"an error page for another status", `{"errorPages": {"404": "/x.html"}}`, `errorPages.404: must be one of 401, 403, 500, 503, got "404"`},
	{"an error page without quotes in YAML", `{"errorPages": {"<int Value>": "/x.html"}}`,
		`errorPages.<int Value>: Traefik's file provider reads only text as names; write the number in quotes, as in "401"`},

	{"a rule about UserInfo that is not fetched", "{\"claims\": \"Exists(`userinfo.phone`)\"}",
		`claims: reads userinfo., which is not fetched; set userinfo to true`},
	{"a name in UserInfo that is not fetched", `{"usernameClaim": "userinfo.phone"}`,
		`usernameClaim: reads userinfo., which is not fetched; set userinfo to true`},
	{"a rule about another token", "{\"jwt\": {\"claims\": \"Exists(`id_token.sub`)\"}}",
		`jwt.claims: reads id_token. or userinfo., which such a token does not have; leave that prefix out`},

	// What is there and says nothing.
	{"a block that is null", `{"csrf": null}`, `csrf: is null, which sets nothing; write options below it, {} for its defaults, or leave it out`},
	{"a block of tokens that is null", `{"jwt": null}`, `jwt: is null, which sets nothing`},
	{"a block below that is null", `{"session": {"store": {"redis": null}}}`, `session.store.redis: is null, which sets nothing`},
	{"an empty rule", `{"claims": ""}`, `claims: is there and empty, and without a value more would be let in; set it, or leave it out`},
	{"a rule of nothing but spaces", `{"claims": " \n "}`, `claims: is there and empty`},
	{"a rule that is null", `{"claims": null}`, `claims: is there and empty`},
	{"an empty rule of tokens", `{"jwt": {"claims": ""}}`, `jwt.claims: is there and empty`},
	{"levels of nothing", `{"acrValues": [""]}`, `acrValues: is there and empty`},
	{"levels of commas", `{"acrValues": " , "}`, `acrValues: is there and empty`},
	{"no levels", `{"acrValues": []}`, `acrValues: is there and empty`},
	{"a blank audience", `{"jwt": {"audience": [" "]}}`, `jwt.audience: is there and empty`},
	{"a null audience", `{"oAuthIntrospection": {"audience": [null]}}`, `oAuthIntrospection.audience: is there and empty`},
	{"no age", `{"maxAge": ""}`, `maxAge: is there and empty`},
	{"no algorithms", `{"jwt": {"algorithms": ""}}`, `jwt.algorithms: is there and empty`},
	{"an issuer of nothing", `{"jwt": {"jwksUrl": "https://id.example.com/keys", "issuer": ""}}`, `jwt.issuer: is there and empty`},
	{"a resource of nothing", `{"jwt": {"resource": ""}}`, `jwt.resource: is there and empty`},
	{"a lifetime of nothing", `{"session": {"maxLifetime": ""}}`, `session.maxLifetime: is there and empty`},
	{"keys of nothing", `{"jwt": {"publicKey": ""}}`, `jwt.publicKey: is there and empty`},

	// Redis.
	{"Redis nowhere", `{"session": {"store": {"redis": {}}}}`, `session.store.redis.endpoints: required; write host and port, such as "redis:6379"`},
	{"an upgrade to HTTP/2", `{"upgrades": ["tcp", "h2c"]}`,
		`upgrades: must not be a protocol that carries further requests, got "h2c": they would not be checked; leave it out`},
	{"a realm in quotes", `{"challengeRealm": "the \"API\""}`, `challengeRealm: must be printable ASCII without quotes and backslashes, got "the "API""; write a name`},
	{"an upgrade to two", `{"upgrades": "a/b/c"}`, `upgrades: must be a protocol of the header Upgrade, got "a/b/c"; try "SPDY/3.1"`},
	{"two strategies", `{"ipStrategy": {"depth": 1, "excludedIPs": "10.0.0.1"}}`,
		`ipStrategy.depth: must not be combined with excludedIPs; keep one of them`},
	{"Redis without port", `{"session": {"store": {"redis": {"endpoints": "redis"}}}}`,
		`session.store.redis.endpoints: must be host and port, alone or after redis:// or rediss://, got "redis"; try "redis:6379"`},
	{"Redis by another scheme", `{"session": {"store": {"redis": {"endpoints": "http://redis:6379"}}}}`,
		`session.store.redis.endpoints: must be host and port`},
	{"Redis with a path", `{"session": {"store": {"redis": {"endpoints": "redis://redis:6379/1"}}}}`,
		`session.store.redis.endpoints: must be host and port`},
	{"cluster and Sentinel", `{"session": {"store": {"redis": {"endpoints": "a:1", "cluster": {}, "sentinel": {"masterSet": "m"}}}}}`,
		`session.store.redis.cluster: must not be combined with sentinel; keep the one that matches your Redis`},
	{"a database in a cluster", `{"session": {"store": {"redis": {"endpoints": "a:1", "cluster": {}, "database": 2}}}}`,
		`session.store.redis.database: must be 0 in a cluster, got 2; leave it out`},
	{"Sentinel without a name", `{"session": {"store": {"redis": {"endpoints": "a:1", "sentinel": {}}}}}`,
		`session.store.redis.sentinel.masterSet: required; write the name that the Sentinels know the master by, such as "mymaster"`},
	{"a Redis certificate without key", `{"session": {"store": {"redis": {"endpoints": "a:1", "tls": {"cert": "PEM"}}}}}`,
		`session.store.redis.tls.key: required with cert`},

	// Tokens.
	{"two sources of keys", `{"jwt": {"publicKey": "PEM", "jwksFile": "/x"}}`,
		`jwt: must have one source of keys, got publicKey and jwksFile; keep one`},
	{"a secret and a key", `{"jwt": {"signingSecret": "Kq3vT9zXw7LmN2pR", "publicKey": "PEM"}}`,
		`jwt: must have one source of keys, got signingSecret and publicKey; keep one`},
	{"a secret and a file of keys", `{"jwt": {"signingSecret": "Kq3vT9zXw7LmN2pR", "jwksFile": "/x"}}`,
		`jwt: must have one source of keys, got signingSecret and jwksFile; keep one`},
	{"a secret and an address of keys", `{"jwt": {"signingSecret": "Kq3vT9zXw7LmN2pR", "jwksUrl": "https://id/x"}}`,
		`jwt: must have one source of keys, got signingSecret and jwksUrl; keep one`},
	{"a key and an address of keys", `{"jwt": {"publicKey": "PEM", "jwksUrl": "https://id/x"}}`,
		`jwt: must have one source of keys, got publicKey and jwksUrl; keep one`},
	{"a file and an address of keys", `{"jwt": {"jwksFile": "/x", "jwksUrl": "https://id/x"}}`,
		`jwt: must have one source of keys, got jwksFile and jwksUrl; keep one`},
	{"whatever issuer the token names", `{"jwt": {"jwksUrl": "/certs"}}`,
		`jwt.issuer: required when jwksUrl is a path: tokens must not choose who signs them; write the issuer's URL`},
	{"keys at an issuer that is no address", `{"jwt": {"issuer": "accounts"}}`,
		`jwt.issuer: must be an https URL where its keys are, got "accounts"; try "https://accounts"`},
	{"keys at an issuer with a query", `{"jwt": {"issuer": "https://id?x=y"}}`,
		`jwt.issuer: must be an https URL where its keys are, got "https://id?x=y"; write one alone, without spaces, ? and #`},
	{"an issuer that is needed for its own keys only", `{"jwt": {"issuer": "accounts", "jwksUrl": "/certs"}}`,
		`jwt.issuer: must be an https URL where its keys are, got "accounts"; try "https://accounts"`},
	{"a key set at no address", `{"jwt": {"jwksUrl": "certs"}}`, `jwt.jwksUrl: must be an https URL, got "certs"; try "https://certs"`},
	{"a private key for a public one", `{"jwt": {"publicKey": "-----BEGIN RSA PRIVATE KEY-----\nMII"}}`,
		"jwt.publicKey: must be a public key, got a private one, which is the issuer's alone; write what `openssl pkey -pubout` makes of it"},
	{"any audience", `{"jwt": {"audience": "*"}}`, `jwt.audience: "*" is compared as it is, and no token names it; leave audience out to accept any`},
	{"any audience beside others", `{"oAuthIntrospection": {"audience": ["api", "*"]}}`, `oAuthIntrospection.audience: "*" is compared as it is`},
	{"a parameter with what is around it", `{"jwt": {"tokenSource": {"query": "?access_token="}}}`,
		`jwt.tokenSource.query: must be the name of a parameter alone, got "?access_token="; write "access_token" or the like`},
	{"two parameters", `{"jwt": {"tokenKey": "jwt&token"}}`, `jwt.tokenKey: must be the name of a parameter alone, got "jwt&token"`},
	{"the header of all cookies", `{"jwt": {"tokenSource": {"header": "cookie"}}}`,
		`jwt.tokenSource.header: must hold nothing but a token, got "cookie"; name the cookie in cookie, or set webSocketProtocol`},
	{"the header of all cookies among others", `{"jwt": {"tokenSource": {"headers": "X-A,Cookie"}}}`, `jwt.tokenSource.headers: must hold nothing but a token`},
	{"the description of an API", `{"jwt": {"resource": "https://api.example.com/.well-known/oauth-protected-resource"}}`,
		`jwt.resource: must be the address of this API, not of its description`},
	{"a discovery document for a token endpoint", `{"oAuthClientCredentials": {"url": "https://id/.well-known/openid-configuration", "clientId": "x", "clientSecret": "y"}}`,
		`oAuthClientCredentials.url: must be the token endpoint, not the discovery document`},
	{"a discovery document to ask", `{"oAuthIntrospection": {"clientConfig": {"url": "https://id/.well-known/openid-configuration"}}}`,
		`oAuthIntrospection.clientConfig.url: must be the introspection endpoint, not the discovery document`},
	{"a name that is in the ID token", `{"jwt": {"usernameClaim": "id_token.email"}}`, `jwt.usernameClaim: reads id_token. or userinfo.`},
	{"a key for a key set", `{"jwt": {"jwksFile": "-----BEGIN PRIVATE KEY-----\n5h0rt"}}`, `jwt.jwksFile: must be a path or JSON, got a key in PEM, which is not shown`},
	{"the header of all protocols", `{"jwt": {"tokenSource": {"header": "Sec-WebSocket-Protocol"}}}`, `jwt.tokenSource.header: must hold nothing but a token`},
	{"headers with words", `{"jwt": {"tokenSource": {"headers": {"X-A": "Bearer"}}}}`,
		`jwt.tokenSource.headers: must be a list, or text with commas, not a block`},
	{"several issuers in a text", `{"jwt": {"issuer": "https://a.example.com, https://b.example.com"}}`,
		`jwt.issuer: must be an https URL where its keys are, got "https://a.example.com, https://b.example.com"; write one alone`},
	{"a JWK for PEM", `{"jwt": {"publicKey": "{\"kty\": \"RSA\"}"}}`, `jwt.publicKey: must be PEM, got JSON; write it as jwksFile`},
	{"a path for PEM", `{"jwt": {"publicKey": "/etc/keys/public.pem"}}`, "jwt.publicKey: must be PEM text, got a path; write `${file:/path}`"},
	{"a path for a private key", `{"clientKey": "./key.pem"}`, "clientKey: must be PEM text, got a path; write `${file:/path}`"},
	{"a path for a CA", `{"clientConfig": {"tls": {"ca": "/etc/ca.pem"}}}`, "clientConfig.tls.ca: must be PEM text, got a path"},
	{"an address for a file of keys", `{"jwt": {"jwksFile": "https://id/keys"}}`,
		`jwt.jwksFile: must be a path or JSON, got an address; write it as jwksUrl`},
	{"a key for a key set", `{"jwt": {"jwksFile": "{\"kty\": \"RSA\", \"n\": \"x\"}"}}`,
		`jwt.jwksFile: must be a key set, got other JSON; write {"keys": [ ]} with the key in it`},
	{"a list for a key set", `{"jwt": {"jwksFile": "[{\"kty\": \"RSA\"}]"}}`, `jwt.jwksFile: must be a key set, got other JSON`},
	{"a discovery document for keys", `{"jwt": {"jwksUrl": "https://id/.well-known/openid-configuration"}}`,
		`jwt.jwksUrl: must be where the keys are, not the discovery document; leave it out, and write the issuer alone`},
	{"a discovery document for an issuer", `{"jwt": {"issuer": "https://id/.well-known/openid-configuration"}}`,
		`jwt.issuer: must be the issuer, not its discovery document, got "https://id/.well-known/openid-configuration"; leave out what begins with /.well-known`},
	{"a resource that is a path", `{"jwt": {"resource": "/api"}}`, `jwt.resource: must be an https URL, got "/api"; try "https://id.example.com/api"`},
	{"a word with more than that", `{"jwt": {"tokenSource": {"header": "Authorization", "headerAuthScheme": "Bearer:"}}}`,
		`jwt.tokenSource.headerAuthScheme: must be the word before the token alone, got "Bearer:"; write "Bearer"`},
	{"an endpoint's other name", `{"oAuthClientCredentials": {"url": "https://id/t", "tokenUrl": "https://id/t"}}`,
		"oAuthClientCredentials.tokenUrl: unknown option; here it is `oAuthClientCredentials.url`"},
	{"a grant's name", `{"oAuthClientCredentials": {"url": "https://id/t", "grantType": "client_credentials"}}`,
		`oAuthClientCredentials.grantType: unknown option; here it is nothing: it is always so here`},
	{"algorithms of two families", `{"jwt": {"algorithms": ["RS256", "ES256"]}}`,
		`jwt.algorithms: must be of one family, got RS256 and ES256; keep one`},
	{"a public key as a secret", `{"jwt": {"signingSecret": "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----"}}`,
		`jwt.signingSecret: must be a secret, got a key in PEM; a public key is no secret: write it as publicKey`},
	{"a public key taken for a secret", `{"jwt": {"publicKey": "PEM", "algorithms": "HS256"}}`,
		`jwt.algorithms: HS256 does not fit the key; HS256, HS384 and HS512 go with signingSecret, the others with public keys`},
	{"no signature of a token", `{"jwt": {"algorithms": "none"}}`, `jwt.algorithms: must be one of RS256`},
	{"a scheme without header", `{"jwt": {"tokenSource": {"headerAuthScheme": "Bearer"}}}`,
		`jwt.tokenSource.header: required with headerAuthScheme; write "Authorization"`},
	{"a protected resource without scheme", `{"jwt": {"resource": "api.example.com"}}`,
		`jwt.resource: must be an https URL, got "api.example.com"; try "https://api.example.com"`},
	{"a protected resource that is a URN", `{"oAuthIntrospection": {"resource": "urn:api"}}`,
		`oAuthIntrospection.resource: must be an https URL, got "urn:api"`},
	{"introspection at another issuer", `{"oAuthIntrospection": {"issuer": "https://other"}}`,
		`oAuthIntrospection.issuer: must not be combined with a sign-in, whose issuer is used; leave it out`},
	{"introspection at no address", `{"oAuthIntrospection": {"clientConfig": {"url": "/introspect"}}}`,
		`oAuthIntrospection.clientConfig.url: must be an https URL, got "/introspect"`},
	{"introspection with a broken header", `{"oAuthIntrospection": {"clientConfig": {"headers": {"a b": "c"}}}}`,
		`oAuthIntrospection.clientConfig.headers.a b: must be the name of a header`},
	{"client credentials from nowhere", `{"oAuthClientCredentials": {}}`, `oAuthClientCredentials.url: required; write the provider's token endpoint`},
	{"a client without secret", `{"oAuthClientCredentials": {"url": "https://id/t", "clientId": "x"}}`,
		`oAuthClientCredentials.clientSecret: required with clientId; leave out both to use the caller's`},
	{"a secret without client", `{"oAuthClientCredentials": {"url": "https://id/t", "clientSecret": "x"}}`,
		`oAuthClientCredentials.clientId: required with clientSecret or clientKey; leave out all of them to use the caller's`},
	{"a gateway's method without key",
		`{"oAuthClientCredentials": {"url": "https://id/t", "clientId": "x", "clientAuthMethod": "private_key_jwt"}}`,
		`oAuthClientCredentials.clientKey: required for clientAuthMethod "private_key_jwt"`},
	{"a store without secret", `{"oAuthClientCredentials": {"url": "https://id/t", "store": {"redis": {"endpoints": "a:1"}}}}`,
		`oAuthClientCredentials.store.secret: required with redis; ` + newSecret + `, the same for all replicas`},
	{"a key without client", `{"oAuthClientCredentials": {"url": "https://id/t", "clientKey": "x"}}`,
		`oAuthClientCredentials.clientId: required with clientSecret or clientKey; leave out all of them to use the caller's`},
	{"a gateway's certificate", `{"oAuthClientCredentials": {"url": "https://id/t", "clientId": "x", "clientAuthMethod": "tls_client_auth"}}`,
		`oAuthClientCredentials.clientConfig.tls.cert: required for clientAuthMethod "tls_client_auth"`},
	{"callers by certificate", `{"oAuthClientCredentials": {"url": "x", "clientAuthMethod": "tls_client_auth"}}`,
		`oAuthClientCredentials.url: must be an https URL, got "x"`},
	{"callers by key", `{"oAuthClientCredentials": {"url": "x", "clientAuthMethod": "private_key_jwt"}}`,
		`oAuthClientCredentials.url: must be an https URL, got "x"`},
	{"a CSRF cookie with the state's name", `{"stateCookie": {"name": "x"}, "csrf": {"cookieName": "x"}}`,
		`csrf.cookieName: must not be another cookie's name, got "x"; leave it out`},
	{"a public client without PKCE or a word", `{"pkce": false, "clientSecret": "(none)", "session": {"secret": "Kq3vT9zXw7LmN2pR"}}`,
		`pkce: must be true for a client without credentials; leave it out, or set clientSecret`},
	{"a public key taken for a secret's", `{"jwt": {"signingSecret": "Kq3vT9zXw7LmN2pR", "algorithms": "RS256"}}`,
		`jwt.algorithms: RS256 does not fit the key`},
	{"a grant as parameter", `{"oAuthClientCredentials": {"url": "https://id/t", "params": {"grant_type": "password"}}}`,
		`oAuthClientCredentials.params.grant_type: belongs to the protocol and cannot be replaced`},
}

func TestConfigRefuses(t *testing.T) {
	for _, test := range mistakes {
		test := test
		t.Run(test.name, func(t *testing.T) {
			_, p := read(signIn(t, test.options))
			if len(p.list) != 1 || !strings.HasPrefix(p.list[0], test.wantErr) {
				t.Errorf("expected %q, got %q", test.wantErr, p.list)
			}
		})
	}
}

// jobless are options without a sign-in, and what is said about them.
var jobless = []struct{ name, options, wantErr string }{
	{"nothing", `{}`, `issuer: required for sign-in; write the provider's address`},
	{"nothing but a log level", `{"logLevel": "debug"}`, `clientId: required for sign-in; write the name under which`},
	{"ID tokens of every client", `{"jwt": {"issuer": "https://id.example.com", "acceptIdTokens": true}}`, `jwt.audience: required with acceptIdTokens`},
	{"a rule without job", `{"claims": "Exists(x)"}`, `issuer: required for sign-in, because "claims" is set`},
	{"a rule at the top without sign-in", `{"jwt": {"publicKey": "PEM"}, "claims": "Exists(x)"}`,
		`claims: is of a sign-in, and there is none; its place is jwt.claims`},
	{"a connection at the top without sign-in",
		`{"oAuthIntrospection": {"tokenSource": {"query": "t"}, "issuer": "https://id"}, "clientConfig": {"timeoutSeconds": 3}}`,
		`clientConfig: is of a sign-in, and there is none; its place is oAuthIntrospection.clientConfig`},
	{"an address without sign-in", `{"jwt": {"publicKey": "PEM"}, "loginUrl": "/login"}`, `issuer: required for sign-in, because "loginUrl" is set`},
	{"an unknown option without sign-in", `{"jwt": {"publicKey": "PEM"}, "isuer": "x"}`, `isuer: unknown option; did you mean "issuer"?`},
	{"a redirect without sign-in", `{"jwt": {"publicKey": "PEM"}, "unauthenticated": "login"}`,
		`unauthenticated: must not be "login" without a sign-in; set issuer and clientId, or write "deny"`},
	{"an issuer at the top without sign-in", `{"issuer": "https://id.example.com", "jwt": {"audience": "a"}}`,
		`issuer: is of a sign-in, and there is none; its place is jwt.issuer`},
	{"keys from nowhere", `{"jwt": {}}`, `jwt: must have a source of keys; write one of signingSecret, publicKey, jwksFile, jwksUrl, issuer`},
	{"nobody to ask", `{"oAuthIntrospection": {"tokenSource": {"query": "t"}}}`,
		`oAuthIntrospection.clientConfig.url: required without a sign-in; write the provider's introspection endpoint`},
	{"nothing to ask about", `{"oAuthIntrospection": {"clientConfig": {"url": "https://id/i"}}}`,
		`oAuthIntrospection.tokenSource: must name a header, query or cookie; write header "Authorization" and headerAuthScheme "Bearer"`},
	{"an introspection's certificate",
		`{"clientId": "x", "clientAuthMethod": "tls_client_auth", "oAuthIntrospection": {"tokenSource": {"query": "t"}, "clientConfig": {"url": "https://id/i"}}}`, `oAuthIntrospection.clientConfig.tls.cert: required for clientAuthMethod "tls_client_auth"`},
	{"an introspection's secret",
		`{"clientId": "x", "clientAuthMethod": "client_secret_post", "oAuthIntrospection": {"tokenSource": {"query": "t"}, "clientConfig": {"url": "https://id/i"}}}`, `clientSecret: required for clientAuthMethod "client_secret_post"`},
	{"a secret without its client",
		`{"clientSecret": "x", "oAuthIntrospection": {"tokenSource": {"query": "t"}, "clientConfig": {"url": "https://id/i"}}}`,
		`clientId: required with clientSecret, clientKey or clientAuthMethod; write the name under which the provider knows this API`},
	{"a key without its client",
		`{"clientKey": "x", "oAuthIntrospection": {"tokenSource": {"query": "t"}, "clientConfig": {"url": "https://id/i"}}}`,
		`clientId: required with clientSecret, clientKey or clientAuthMethod`},
	{"a method without its client",
		`{"clientAuthMethod": "none", "oAuthIntrospection": {"tokenSource": {"query": "t"}, "clientConfig": {"url": "https://id/i"}}}`,
		`clientId: required with clientSecret, clientKey or clientAuthMethod`},
	{"an empty secret alone", `{"clientSecret": ""}`, `clientId: required for sign-in, because "clientSecret" is set`},
	{"a secret alone", `{"clientSecret": "x"}`, `clientId: required for sign-in, because "clientSecret" is set`},
	{"a key alone", `{"clientKey": "x"}`, `clientId: required for sign-in, because "clientKey" is set`},
	{"a method alone", `{"clientAuthMethod": "none"}`, `clientId: required for sign-in, because "clientAuthMethod" is set`},
	{"a certificate's method alone", `{"clientAuthMethod": "tls_client_auth"}`, `clientId: required for sign-in, because "clientAuthMethod" is set`},
	{"a secret beside a sign-in without client",
		`{"issuer": "https://id", "clientSecret": "a secret of many bytes", "oAuthIntrospection": {}}`, `clientId: required for sign-in, because`},
	{"a key beside a sign-in without client",
		`{"issuer": "https://id", "clientKey": "x", "session": {"secret": "Kq3vT9zXw7LmN2pR"}, "oAuthIntrospection": {}}`,
		`clientId: required for sign-in, because`},
	{"a method beside a sign-in without client",
		`{"issuer": "https://id", "clientAuthMethod": "none", "session": {"secret": "Kq3vT9zXw7LmN2pR"}, "oAuthIntrospection": {}}`,
		`clientId: required for sign-in, because`},
	{"no PKCE without sign-in", `{"pkce": false, "clientAuthMethod": "none"}`, `issuer: required for sign-in, because "clientAuthMethod" is set`},
	{"a job that is switched off", `{"jwt": "false"}`, `issuer: required for sign-in; write`},
	{"a job with the options around it", `{"jwt": {"issuer": "https://id"}, "bypass": "Path(x)", "unauthenticated": "forward", "logLevel": "warn"}`, ``},
}

func TestConfigNeedsAJob(t *testing.T) {
	for _, test := range jobless {
		test := test
		t.Run(test.name, func(t *testing.T) {
			_, p := read(options(t, test.options))
			err := p.err()
			if test.wantErr == "" && err != nil || test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)) {
				t.Errorf("expected %q, got %v", test.wantErr, err)
			}
		})
	}
}

func TestConfigTellsAllProblemsInOneLine(t *testing.T) {
	_, p := read(options(t,
		`{"issuer": "id.example.com", "claim": "x", "session": {"expiry": "soon", "sameSite": "none"}, "scopes": {"a\nb": 1}, "redirectUrl": "x"}`))
	err := p.err()
	if err == nil {
		t.Fatal("expected problems")
	}
	want := []string{"issuer: must", "redirectUrl: must", "scopes: must", "session.expiry: must", "session.secure: must", "claim: unknown",
		"session.secret: required", "clientId: required"}
	rest := err.Error()
	for _, part := range want {
		i := strings.Index(rest, part)
		if i < 0 {
			t.Fatalf("%q is missing, or in another order, in %s", part, err)
		}
		rest = rest[i:]
	}
	if got := strings.Count(err.Error(), "; "); len(p.list) != len(want) || strings.Contains(err.Error(), "\n") || got < len(want)-1 {
		t.Errorf("expected one line with %d problems, got %s", len(want), err)
	}
}

func TestConfigExpandsReferences(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from a file, with $ and ${HOME}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"OIDC_TEST_TEXT": " from the environment ", "OIDC_TEST_LIST": "a, b", "OIDC_TEST_NUMBER": "77",
		"OIDC_TEST_EMPTY":      "",
		"OIDC_TEST_SECRET_ONE": "the first of two secrets", "OIDC_TEST_SECRET_TWO": "the second of two secrets"} {
		if err := os.Setenv(name, value); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, options string
		option        string
		want          any
	}{
		{"a variable", `{"clientId": "${OIDC_TEST_TEXT}"}`, "clientId", "from the environment"},
		{"a variable for a secret", `{"clientSecret": "${OIDC_TEST_TEXT}"}`, "clientSecret", "from the environment"},
		{"a variable within a text", `{"issuer": "https://id.example.com/${OIDC_TEST_NUMBER}/x"}`, "issuer", "https://id.example.com/77/x"},
		{"a variable in a map", `{"authParams": {"a": "b ${OIDC_TEST_NUMBER}"}}`, "authParams.a", "b 77"},
		{"a variable in a list", `{"scopes": ["openid", "s${OIDC_TEST_NUMBER}"]}`, "scopes.1", "s77"},
		{"variables in a text with commas", `{"session": {"previousSecrets": "${OIDC_TEST_SECRET_ONE}, ${OIDC_TEST_SECRET_TWO}"}}`,
			"session.previousSecrets", "the first of two secrets|the second of two secrets"},
		{"a variable that is a list", `{"scopes": "${OIDC_TEST_LIST}"}`, "scopes", "openid|a|b"},
		{"an empty variable keeps the default", `{"par": "${OIDC_TEST_EMPTY}"}`, "par", "auto"},
		{"a file, not expanded again", `{"session": {"secret": "Kq3vT9zXw7LmN2pR"}, "clientSecret": "${file:` + file + `}"}`, "clientSecret",
			"from a file, with $ and ${HOME}"},
		{"a secret that contains what looks like a variable", `{"session": {"secret": "Kq3vT9zXw7LmN2pR"}, "clientSecret": "pa${ss}word"}`,
			"clientSecret", "pa${ss}word"},
		{"a regular expression is no variable", `{"bypass": "PathRegexp(^/a{2}$|^${1}$)"}`, "bypass", "PathRegexp(^/a{2}$|^${1}$)"},
	} {
		test := test
		t.Run(test.name, func(t *testing.T) {
			if got := optionOf(mustRead(t, signIn(t, test.options)), test.option); got != test.want {
				t.Errorf("expected %q, got %q", test.want, got)
			}
		})
	}
	for _, test := range []struct{ name, options, wantErr string }{
		{"a variable that is not set", `{"clientSecret": "${OIDC_TEST_MISSING}"}`,
			`clientSecret: environment variable "OIDC_TEST_MISSING" is not set; set it for Traefik's process`},
		{"a variable that is not set, within a text", `{"issuer": "https://${OIDC_TEST_MISSING}"}`,
			`issuer: environment variable "OIDC_TEST_MISSING" is not set`},
		{"a rule that is empty", `{"claims": "${OIDC_TEST_EMPTY}"}`,
			`claims: ${OIDC_TEST_EMPTY} is empty, and without a value more would be let in; set it`},
		{"an audience that is empty", `{"jwt": {"audience": ["${OIDC_TEST_EMPTY}"]}}`, `jwt.audience: ${OIDC_TEST_EMPTY} is empty, and`},
		{"audiences that are empty", `{"jwt": {"audience": "${OIDC_TEST_EMPTY},${OIDC_TEST_EMPTY}"}}`, `jwt.audience: ${OIDC_TEST_EMPTY} is empty, and`},
		{"an issuer in an empty file", `{"jwt": {"jwksUrl": "https://id.example.com/keys", "issuer": "${file:` + empty + `}"}}`,
			`jwt.issuer: ${file:` + empty + `} is empty, and`},
		{"a file that is not there", `{"session": {"secret": "${file:/nowhere/secret}"}}`,
			`session.secret: ${file:/nowhere/secret}: open /nowhere/secret: no such file or directory; Traefik's process must be able to read it`},
		{"a number that is none", `{"session": {"expiry": "${OIDC_TEST_TEXT}"}}`, `session.expiry: must be a whole number, got "from the environment"`},
		{"a reference for Kubernetes", `{"clientSecret": "urn:k8s:secret:oidc:secret"}`,
			`clientSecret: urn:k8s:secret:name:key is resolved only by Traefik's Kubernetes CRD provider; write "${NAME}" or "${file:/path}"`},
		{"a reference for Kubernetes, as one page writes it", `{"clientId": "urn:k8s:my-secret:my-secret:clientID"}`,
			`clientId: urn:k8s:secret:name:key is resolved only by`},
	} {
		_, p := read(signIn(t, test.options))
		if len(p.list) != 1 || !strings.HasPrefix(p.list[0], test.wantErr) {
			t.Errorf("%s: expected %q, got %q", test.name, test.wantErr, p.list)
		}
	}
}

// The operator's locks: what references may name, whatever a middleware says.
func TestConfigLocks(t *testing.T) {
	dir := t.TempDir()
	mine, others := filepath.Join(dir, "mine"), filepath.Join(dir, "mine-not")
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(mine, "..2026", "good"), "a value of many bytes")
	write(filepath.Join(others, "bad"), "a value of other people")
	for name, target := range map[string]string{"..data": "..2026", "good": "..data/good", "out": others, "gone": "nowhere",
		"bad": filepath.Join(others, "bad")} {
		if err := os.Symlink(target, filepath.Join(mine, name)); err != nil { // as Kubernetes mounts a Secret, and as an attacker would like it
			t.Fatal(err)
		}
	}
	set := func(name, value string) {
		if err := os.Setenv(name, value); err != nil {
			t.Fatal(err)
		}
	}
	set("OIDC_TEST_MINE", "a value of many bytes")
	set("OIDC_TEST_OTHER", "a value of other people")
	outside := "is not within the folders in TRAEFIK_OIDC_FILES, which Traefik's operator has set; move it there"
	for _, test := range []struct{ folders, names, options, wantErr string }{
		{"-", "-", `{"clientId": "${file:` + others + `/bad}"}`, ""},
		{"-", "-", `{"clientId": "${OIDC_TEST_OTHER}"}`, ""},
		{mine, "-", `{"clientId": "${file:` + mine + `/good}"}`, ""},
		{"/nowhere:" + mine + "/", "-", `{"clientId": "${file:` + mine + `/../mine/good}"}`, ""},
		{"/", "-", `{"clientId": "${file:` + mine + `/good}"}`, ""},
		{mine, "-", `{"clientId": "${file:` + others + `/bad}"}`, outside},
		{mine, "-", `{"clientId": "${file:` + mine + `/../mine-not/bad}"}`, outside},
		{mine, "-", `{"clientId": "${file:` + mine + `/bad}"}`, outside},
		{mine, "-", `{"clientId": "${file:` + mine + `/out/bad}"}`, outside},
		{mine, "-", `{"clientId": "${file:` + mine + `/gone}"}`, "no such file or directory"},
		{mine, "-", `{"clientId": "${file:/nowhere/at/all}"}`, outside},
		{mine, "-", `{"clientId": "${file:options.go}"}`, outside},
		{mine, "-", `{"clientId": "${file:/etc/passwd}"}`, outside},
		{"", "-", `{"clientId": "${file:` + mine + `/good}"}`, outside},
		{".", "-", `{"clientId": "${file:` + mine + `/good}"}`, outside},
		{"-", "OIDC_TEST_M*, X", `{"clientId": "${OIDC_TEST_MINE}"}`, ""},
		{"-", "X OIDC_TEST_MINE", `{"clientId": "${OIDC_TEST_MINE}"}`, ""},
		{"-", "OIDC_TEST_M*", `{"clientId": "${OIDC_TEST_OTHER}"}`,
			`environment variable "OIDC_TEST_OTHER" is not among the names in TRAEFIK_OIDC_ENV, which Traefik's operator has set; use one of those`},
		{"-", "OIDC_TEST_M*", `{"clientId": "${OIDC_TEST_GONE}"}`, "is not among the names"},
		{"-", "", `{"clientId": "${OIDC_TEST_MINE}"}`, "is not among the names"},
		{"-", "[", `{"clientId": "${OIDC_TEST_MINE}"}`, "is not among the names"},
		{"-", "-", `{"clientId": "${file:/dev/zero}"}`, "must be a regular file of at most"},
		{"-", "-", `{"clientId": "${file:` + dir + `}"}`, "must be a regular file of at most"},
		{"-", "-", `{"authParams": {"x": "a ${file:` + mine + `/good}"}}`, "must not stand in an option whose value visitors see; write the value itself"},
		{"-", "-", `{"scopes": ["${file:` + mine + `/good}"]}`, "must not stand in an option whose value visitors see"},
		{"-", "-", `{"redirectUrl": "/${file:` + mine + `/good}"}`, "must not stand in an option whose value visitors see"},
		{"-", "-", `{"postLogoutRedirectUrl": "/${CF_DNS_API_TOKEN}"}`, "must not stand in an option whose value visitors see"},
		{"-", "-", `{"session": {"name": "${AWS_SECRET_ACCESS_KEY}"}}`, "must not stand in an option whose value visitors see"},
		{"-", "-", `{"authParams": {"hd": "${OIDC_TEST_MINE}"}}`, ""},
	} {
		for name, value := range map[string]string{"TRAEFIK_OIDC_FILES": test.folders, "TRAEFIK_OIDC_ENV": test.names} {
			set(name, value)
			if value == "-" {
				os.Unsetenv(name)
			}
		}
		_, p := read(signIn(t, test.options))
		if said := strings.Join(p.list, "; "); test.wantErr == "" && said != "" || !strings.Contains(said, test.wantErr) ||
			strings.Contains(said, "other people") {
			t.Errorf("folders %q, names %q, %s: expected %q, got %q", test.folders, test.names, test.options, test.wantErr, said)
		}
	}
	set("TRAEFIK_OIDC_FILES", mine)
	p := &problems{}
	newPages(map[string]string{"403": filepath.Join(others, "bad")}, p)
	_, err := fileKeys(filepath.Join(others, "bad"), p)
	if len(p.list) == 0 || !strings.Contains(p.list[0], outside) || err == nil || !strings.Contains(err.Error(), outside) {
		t.Errorf("a page and a file of keys: %q, %v", p.list, err)
	}
	os.Unsetenv("TRAEFIK_OIDC_FILES")
	os.Unsetenv("TRAEFIK_OIDC_ENV")
}

// eachOption calls do for every option, as fields of structs and with the text that names it.
func eachOption(block reflect.Type, prefix string, do func(option string, field reflect.StructField)) {
	for i := 0; i < block.NumField(); i++ {
		field := block.Field(i)
		kind := field.Type
		if kind.Kind() == reflect.Ptr {
			kind = kind.Elem()
		}
		if field.Tag.Get("json") == "" { // embedded
			eachOption(kind, prefix, do)
			continue
		}
		do(prefix+field.Tag.Get("json"), field)
		if kind.Kind() == reflect.Struct {
			eachOption(kind, prefix+field.Tag.Get("json")+".", do)
		}
	}
}

// at is an options block with one value, at the end of a path.
func at(option string, value any) map[string]any {
	names := strings.Split(option, ".")
	for i := len(names) - 1; i > 0; i-- {
		value = map[string]any{names[i]: value}
	}
	return map[string]any{names[0]: value}
}

func TestConfigNeverShowsASecret(t *testing.T) {
	const value = "5h0rt-53cr3t"
	secrets := 0
	eachOption(reflect.TypeOf(Config{}), "", func(option string, field reflect.StructField) {
		name := strings.ToLower(field.Name)
		isSecret := field.Tag.Get("secret") != ""
		looksSecret := strings.Contains(name, "secret") && field.Type.Kind() != reflect.Bool || strings.Contains(name, "password") ||
			name == "key" || name == "clientkey" || name == "statustoken"
		if isSecret != looksSecret {
			t.Errorf("%s: is it a secret? its tag says %v", option, isSecret)
		}
		if !isSecret {
			return
		}
		secrets++
		for _, raw := range []any{value, []any{value}, map[string]any{"x": value}, "${" + value + "}", "a${file:/nowhere}" + value} {
			_, p := read(at(option, raw))
			if err := p.err(); err != nil && strings.Contains(err.Error(), value) {
				t.Errorf("%s: %v shows the value", option, err)
			}
		}
	})
	// Nor one that was written where none belongs: the file would be named.
	if _, err := build(t, jwtOptions(map[string]any{"jwksFile": "-----BEGIN PRIVATE KEY-----\n" + value + "\n-----END PRIVATE KEY-----"})); err == nil || strings.Contains(err.Error(), value) {
		t.Errorf("a key in jwksFile: %v", err)
	}
	if secrets < 12 {
		t.Errorf("only %d secrets were seen", secrets)
	}
}

// good are values that options of a kind may have.
var good = map[string]string{"issuer": "https://other.example.com", "url": "https://x.example.com/y?z=1", "uri": "urn:x:y",
	"jwks":     "https://x.example.com/jwks",
	"endpoint": "https://app.example.com/only-here", "location": "/bye?x=1", "header": "X-Other", "identityHeader": "X-Other",
	"upgrade": "tcp", "realm": "Orders", "cookie": "other", "path": "/app",
	"domain": ".example.com", "secret": "another secret of many bytes", "signing": "another secret of many bytes",
	"server": "rediss://redis.example.com:6380"}

// Every option is read, from text as from typed values, and changes its own field and no other.
func TestConfigReadsEveryOption(t *testing.T) {
	seen := 0
	eachOption(reflect.TypeOf(Config{}), "", func(option string, field reflect.StructField) {
		kind, tag := field.Type, field.Tag
		if kind.Kind() == reflect.Ptr {
			kind = kind.Elem()
		}
		sample := "something-else"
		if option == "jwt.issuer" {
			sample = good["issuer"]
		} else if option == "unauthenticated" { // whose default depends
			sample = "deny"
		} else if values := strings.Split(tag.Get("enum"), "|"); values[0] != "" {
			if sample = values[0]; sample == tag.Get("default") {
				sample = values[1]
			}
		} else if text := good[tag.Get("format")]; text != "" {
			sample = text
		}
		var typed, text any
		switch kind.Kind() {
		case reflect.String:
			typed = sample
			text = sample
		case reflect.Bool:
			typed = tag.Get("default") != "true"
			text = map[bool]string{true: "False", false: "1"}[tag.Get("default") == "true"]
		case reflect.Int:
			typed = float64(7)
			text = "7.000000"
		case reflect.Slice:
			typed = []any{sample}
			text = sample + " ,"
		case reflect.Map:
			name := map[string]string{"identityHeader": "X-A", "header": "X-A", "param": "a"}[tag.Get("format")]
			if tag.Get("enum") != "" {
				name = sample
			}
			typed = map[string]any{name: "b"}
			text = name + "=b"
		default:
			return
		}
		seen++
		fromTyped, typedProblems := read(at(option, typed))
		fromText, textProblems := read(at(strings.ToUpper(option), text))
		alone, _ := read(at(option, nil))
		for _, problem := range append(typedProblems.list, textProblems.list...) {
			if strings.HasPrefix(problem, option+": ") && !strings.Contains(problem, "required") && !strings.HasPrefix(problem, "jwt.algorithms: ") {
				t.Errorf("unexpected problem: %s", problem)
			}
		}
		if !reflect.DeepEqual(fromTyped, fromText) {
			t.Errorf("%s: typed %v and text %v are read differently", option, typed, text)
		}
		if reflect.DeepEqual(fromTyped, alone) {
			t.Errorf("%s: ignored", option)
		}
	})
	if seen < 130 {
		t.Errorf("only %d options were seen", seen)
	}
}

// The names of others lead to options that there are, and none is an option's own here, but where that stands deeper.
func TestConfigOtherNames(t *testing.T) {
	paths := optionPaths(reflect.TypeOf(Config{}), "")
	seen := map[string]bool{}
	for _, row := range strings.Split(strings.Trim(foreignNames, "\n"), "\n") {
		answer, names, _ := strings.Cut(row, " <")
		for i, option := range strings.Split(answer, "“") {
			if option, _, _ = strings.Cut(option, "”"); i > 0 && !contains(paths, option) && option != "email" && option != "groups" {
				t.Errorf("there is no option %q: %s", option, row)
			}
		}
		for _, name := range strings.Fields(names) {
			if seen[name] || notNameCharacter.MatchString(name) {
				t.Errorf("%q is there twice, or not in lower case", name)
			}
			seen[name] = true
			for _, path := range paths {
				if strings.EqualFold(path, name) {
					t.Errorf("%q is an option", name)
				}
			}
		}
	}
	if len(seen) < 250 {
		t.Errorf("only %d names", len(seen))
	}
}

// Names that people give the options of the blocks for tokens are answered with ours, in that block.
func TestConfigOtherNamesOfTokenBlocks(t *testing.T) {
	for _, row := range []struct{ path, answer string }{
		{"jwt.jwksUri", "`jwt.jwksUrl`"}, {"jwt.jwks_uri", "`jwt.jwksUrl`"}, {"jwt.secret", "`jwt.signingSecret`"}, {"jwt.signingKey", "`jwt.signingSecret`"},
		{"jwt.alg", "`jwt.algorithms`"}, {"jwt.trustedIssuers", "`jwt.issuer`"}, {"jwt.leeway", "`clockSkewSeconds`"}, {"jwt.clockSkew", "`clockSkewSeconds`"},
		{"jwt.scopes", "SplitContains"}, {"jwt.requiredScopes", "SplitContains"}, {"jwt.tokenSource.scheme", "headerAuthScheme"}, {"audience", "`jwt.audience`"},
		{"bearer", "`jwt`"}, {"oidc", "without this block"}, {"jwt.enabled", "a block that is there is switched on"},
		{"jwt.tokenSource.cookies", "`jwt.tokenSource.cookie`"}, {"jwt.tokenSource.form", "`jwt.tokenKey`"}, {"jwt.realm", "`challengeRealm`"},
		{"oAuthClientCredentials.resource", "oAuthClientCredentials.params"}, {"oAuthClientCredentials.password", "no user's password"},
		{"oAuthIntrospection.cacheTTL", "cacheSeconds"}, {"oAuthIntrospection.clientConfig.clientSecret", "`clientSecret` at the top level"},
	} {
		if got := optionFor(row.path); !strings.Contains(got, row.answer) {
			t.Errorf("%s: expected %s, got %q", row.path, row.answer, got)
		}
	}
}

// A tag that is misspelt would switch a check off without a word.
func TestConfigTagsAreKnown(t *testing.T) {
	eachOption(reflect.TypeOf(Config{}), "", func(at string, field reflect.StructField) {
		if !strings.EqualFold(field.Name, field.Tag.Get("json")) {
			t.Errorf("%s: the field is called %s", at, field.Name)
		}
		rest := string(field.Tag)
		for _, name := range []string{"json", "default", "alias", "enum", "format", "min", "max", "secret", "restricts", "shown"} {
			if value, ok := field.Tag.Lookup(name); ok {
				rest = strings.Replace(rest, name+`:"`+value+`"`, "", 1)
			}
		}
		if strings.TrimSpace(rest) != "" {
			t.Errorf("%s: what is %s?", at, rest)
		}
		kind := field.Tag.Get("format")
		bad := map[string]string{"param": "state", "identityHeader": "Host", "jwks": "x", "signing": "{{ .Key }}", "pem": "/key.pem", "realm": `"`}[kind]
		if bad == "" {
			bad = " "
		}
		checked := &problems{}
		checkText(&option{path: at, tag: reflect.StructTag(`format:"` + kind + `"`), p: checked}, bad)
		if kind != "" && checked.err() == nil {
			t.Errorf("%s: nothing checks %q", at, kind)
		}
		if text := field.Tag.Get("default"); text != "" {
			p := &problems{}
			checkText(&option{path: at, tag: field.Tag, p: p}, strings.Split(text, ",")[0])
			if err := p.err(); err != nil {
				t.Errorf("the default is refused: %v", err)
			}
		}
	})
}

func TestConfigLocation(t *testing.T) {
	for _, test := range []struct {
		text string
		want location
	}{
		{"/oidc/callback", location{path: "/oidc/callback"}},
		{"/", location{path: "/"}},
		{"/a/", location{path: "/a/"}},
		{"/bye?x=1&y=a b", location{path: "/bye?x=1&y=a b"}},
		{"/caf%C3%A9", location{path: "/caf%C3%A9"}},
		{"App.Example.com/x", location{host: "app.example.com", path: "/x"}},
		{"localhost/x", location{host: "localhost", path: "/x"}},
		{"app:8443/x/y", location{host: "app:8443", path: "/x/y"}},
		{"[::1]:8443/x", location{host: "[::1]:8443", path: "/x"}},
		{"https://app.example.com/x", location{scheme: "https", host: "app.example.com", path: "/x"}},
		{"HTTP://app:80", location{scheme: "http", host: "app:80", path: "/"}},
	} {
		if got, err := parseLocation(test.text); err != nil || got != test.want {
			t.Errorf("%q: expected %v, got %v, %v", test.text, test.want, got, err)
		}
	}
	for _, text := range []string{"", "x", "x/y", "app.example.com", "ftp://app/x", "//app/x", "/a//b", "/a/../b", "/./a", "https:///x",
		"https://u:p@app/x", "app.example.com/x#y",
		"http://", "mailto:a@b.c/d", "/%zz", "http://a b/c", "https://caf\u00e9.example/x", "caf\u00e9.example/x"} {
		if got, err := parseLocation(text); err == nil {
			t.Errorf("%q: expected an error, got %v", text, got)
		}
	}
}

// tableValues are words in the tables of docs/migrate that are no names of options: values, functions, headers.
const tableValues = " AllOf AnyOf Challenge Forward Public Unauthorized Authorization offline_access openid https aud kid oidc keycloak-oidc google entra-id gitlab adfs realm_access.roles range if " +
	"withPrefix withSuffix mapToJsonArray rule config port providers.generic-oauth Value Values Name Unauthenticated.FilePath Unauthorized.FilePath client-id client-secret "

// TestConfigOtherNamesOfPages: every option that a page of docs/migrate names has an answer when it is left in: the name here, the place, or
// that there is nothing like it.
func TestConfigOtherNamesOfPages(t *testing.T) {
	pages, err := filepath.Glob("docs/migrate/*.md")
	if err != nil || len(pages) < 9 {
		t.Fatal(pages, err)
	}
	known := map[string]bool{}
	for _, path := range optionPaths(reflect.TypeOf(Config{}), "") {
		known[strings.ToLower(path[strings.LastIndex(path, ".")+1:])] = true
	}
	name := regexp.MustCompile("`(?:--)?([A-Za-z][\\w-]*(?:\\.[\\w<>-]+)*)(?:=[\\w.*]+)?`")
	found := 0
	for _, page := range pages {
		if strings.Contains(page, "README") || strings.Contains(page, "hub") ||
			strings.Contains(page, "auth") && !strings.Contains(page, "auth2") && !strings.Contains(page, "oidc-auth") &&
				!strings.Contains(page, "traefik-forward") {
			continue // options with our names, and programs that stay
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		options, _, _ := strings.Cut(string(text), "### The process")
		for _, line := range strings.Split(options, "\n") {
			if !strings.HasPrefix(line, "| ") {
				continue
			}
			cell, _, _ := strings.Cut(line[2:], " | ")
			for _, match := range name.FindAllStringSubmatch(cell, -1) {
				option := match[1]
				last := option[strings.LastIndex(option, ".")+1:]
				if strings.Contains(tableValues, " "+option+" ") || strings.HasPrefix(option, "X-") {
					continue
				}
				found++
				if optionFor(option) == "" && !known[notNameCharacter.ReplaceAllString(strings.ToLower(last), "")] {
					t.Errorf("%s: %s has no answer", page, option)
				}
			}
		}
	}
	if found < 150 {
		t.Errorf("only %d names: this test has gone blind", found)
	}
}

// TestConfigSimilarNames: a name that was misspelt, or is a part of another, in whichever letters; no short one that happens to be.
func TestConfigSimilarNames(t *testing.T) {
	for _, row := range []struct {
		name, other string
		want        bool
	}{
		{"isuer", "issuer", true}, {"ISSUER", "issuer", true}, {"time", "exchangeTimeoutSeconds", true}, {"exchangeTimeoutSecondsOfAll", "time", true},
		{"url", "backchannelLogoutUrl", false}, {"exchangeTimeoutSecondsOfAll", "out", false}, {"color", "issuer", false},
	} {
		if got := isSimilar(row.name, row.other); got != row.want {
			t.Errorf("%s, %s: got %v", row.name, row.other, got)
		}
	}
}
