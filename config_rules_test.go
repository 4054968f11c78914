package oidc

import (
	"context"
	"encoding/json"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"testing"
)

// sayings is all that is said about a configuration: its problems in order, or else its warnings and notices.
func sayings(raw map[string]any) string {
	_, p := read(raw)
	if len(p.list) == 0 {
		for _, kind := range []string{"notice", "warning"} {
			found := &problems{}
			checkRules(kind, &option{p: found}, "", p.set)
			p.list = append(p.list, found.list...)
		}
	}
	return strings.Join(p.list, "\n")
}

// TestConfigConditionsMatter takes away each condition of each rule, one at a time, and each rule: one of the samples of this package's
// tests must then be told something else. A condition that nothing notices may be wrong for years.
func TestConfigConditionsMatter(t *testing.T) {
	if interpreted() {
		t.Skip("reads some thousand configurations; which rows there are is the same interpreted")
	}
	samples := map[string]map[string]any{} // by their JSON
	said := map[string]string{}
	note := func(raw map[string]any) {
		text, err := json.Marshal(raw)
		if err != nil {
			t.Fatal(err)
		}
		samples[string(text)] = raw
		said[string(text)] = sayings(raw)
	}
	for _, test := range mistakes {
		note(signIn(t, test.options))
	}
	for _, test := range jobless {
		note(options(t, test.options))
	}
	for _, test := range blameless {
		note(sample(t, test.options))
	}
	// The samples that have more of the names in a row come first: they are most likely to notice.
	ordered := func(conditions string) []string {
		var texts []string
		score := map[string]int{}
		for text := range samples {
			texts = append(texts, text)
			for _, name := range regexp.MustCompile(`[\w]+`).FindAllString(conditions, -1) {
				if strings.Contains(text, name) {
					score[text]++
				}
			}
		}
		sort.Slice(texts, func(i, j int) bool { return score[texts[i]] > score[texts[j]] })
		return texts
	}
	unseen, all := 0, 0
	try := func(r *optionRule, texts []string, what string, conditions []*ruleCondition) {
		kept := r.conditions
		r.conditions = conditions
		all++
		isNoticed := false
		for i := 0; i < len(texts) && !isNoticed; i++ {
			isNoticed = sayings(samples[texts[i]]) != said[texts[i]]
		}
		r.conditions = kept
		if !isNoticed {
			unseen++
			t.Errorf("nothing notices that %s is gone from\n\t%s: %s", what, r.option, r.message)
		}
	}
	seen := map[*optionRule]bool{}
	for _, rows := range ruleBook {
		for _, r := range rows {
			if seen[r] {
				continue // of several blocks
			}
			seen[r] = true
			names := r.option
			for _, c := range r.conditions {
				names += " " + c.name
			}
			texts := ordered(names)
			try(r, texts, "all of it", []*ruleCondition{{name: "never"}})
			for i, c := range r.conditions {
				others := append(append([]*ruleCondition{}, r.conditions[:i]...), r.conditions[i+1:]...)
				try(r, texts, c.name, others)
			}
		}
	}
	t.Logf("%d of %d removals are noticed, by %d samples", all-unseen, all, len(samples))
}

// sample is a good sign-in with what text adds, and without what it says is empty.
func sample(t *testing.T, text string) map[string]any {
	raw := signIn(t, text)
	for name, value := range raw {
		if value == "" {
			delete(raw, name)
		}
	}
	return raw
}

// blameless are configurations that are taken, and the warning or notice that is said of them: see sample.
var blameless = []struct{ name, options, want string }{
	{"the least", `{}`, ``},
	{"a client that asks, about further headers",
		`{"issuer": "", "oAuthIntrospection": {"audience": "a", "tokenSource": {"headers": "X-Token"}, "issuer": "https://id.example.com"}}`, ``},
	{"a client that asks, about websockets",
		`{"issuer": "", "oAuthIntrospection": {"audience": "a", "tokenSource": {"webSocketProtocol": true}, "issuer": "https://id.example.com"}}`, ``},
	{"the widest clock", `{"clockSkewSeconds": "300"}`, ``},
	{"a memory of the largest size", `{"memory": "99999", "session": {"expiry": 604800}}`, ``},
	{"a narrow clock", `{"clockSkewSeconds": 299}`, ``},
	{"ID tokens of the sign-in's client", `{"jwt": {"acceptIdTokens": true}}`, `jwt.acceptIdTokens: ID tokens are accepted`},
	{"ID tokens of a client",
		`{"issuer": "", "clientId": "", "clientSecret": "", "jwt": {"issuer": "https://id.example.com", "audience": "a", "acceptIdTokens": true}}`, `jwt.acceptIdTokens: ID tokens are accepted`},
	{"access tokens of anybody",
		`{"issuer": "", "clientId": "", "clientSecret": "", "jwt": {"issuer": "https://id.example.com", "acceptIdTokens": false}}`,
		`jwt.audience: not set`},
	{"a key with its certificate", `{"clientKey": "PEM", "clientCertificate": "PEM"}`, ``},
	{"a realm", `{"challengeRealm": "Orders & invoices (v2)"}`, ``},
	{"protocols to upgrade to", `{"upgrades": "SPDY/3.1,tcp,websocket"}`, ``},
	{"a depth", `{"ipStrategy": {"depth": 1}}`, ``},
	{"no depth", `{"ipStrategy": {"depth": 0, "excludedIPs": "10.0.0.1"}}`, ``},
	{"a certificate with its key", `{"clientConfig": {"tls": {"cert": "PEM", "key": "PEM"}}}`, ``},
	{"numbers at their bounds", `{"session": {"expiry": 1}, "clientConfig": {"maxRetries": 10}, "maxAge": 0}`, ``},
	{"no retries, and a second", `{"clientConfig": {"maxRetries": "00", "timeoutSeconds": "1.000"}}`, ``},
	{"plain http", `{"issuer": "http://id.example.com"}`, `issuer: "http://id.example.com" is plain http`},
	{"an app that shares the provider's host",
		`{"issuer": "https://example.com/auth/realms/main", "redirectUrl": "https://example.com/app/callback", "loginUrl": "https://example.com/login", "logoutUrl": "https://example.com/auth/logout", "postLogoutRedirectUrl": "https://example.com/auth/realms/main/account"}`, ``},
	{"the callback of all on the provider's host",
		`{"redirectUrl": "https://id.example.com/oidc/callback", "session": {"domain": "example.com"}, "logoutUrl": "https://id.example.com/app/logout", "postLogoutRedirectUrl": "https://id.example.com/login"}`, `session.domain: every host below`},
	{"addresses of ours that are called like theirs",
		`{"loginUrl": "/oauth2/authorize", "logoutUrl": "app.example.com/oidc/logout", "redirectUrl": "https://app.example.com/auth", "postLogoutRedirectUrl": "/end_session"}`, ``},
	{"any certificate", `{"clientConfig": {"tls": {"insecureSkipVerify": true}}}`,
		`clientConfig.tls.insecureSkipVerify: anybody on the network path can pose as the provider`},
	{"plain http of tokens", `{"jwt": {"issuer": "http://id.example.com"}}`, `jwt.issuer: "http://id.example.com" is plain http`},
	{"plain http of keys", `{"jwt": {"issuer": "me", "jwksUrl": "http://id.example.com/keys"}}`,
		`jwt.jwksUrl: "http://id.example.com/keys" is plain http`},
	{"any certificate of tokens", `{"jwt": {"clientConfig": {"tls": {"insecureSkipVerify": true}}}}`,
		`jwt.clientConfig.tls.insecureSkipVerify: anybody on the network path can make tokens`},
	{"plain http of introspection", `{"oAuthIntrospection": {"audience": "a", "clientConfig": {"url": "http://id.example.com/i"}}}`,
		`oAuthIntrospection.clientConfig.url: "http://id.example.com/i" is plain http`},
	{"any certificate of introspection",
		`{"oAuthIntrospection": {"resource": "https://api", "clientConfig": {"tls": {"insecureSkipVerify": true}}}}`,
		`oAuthIntrospection.clientConfig.tls.insecureSkipVerify: anybody on the network path reads tokens`},
	{"plain http of the gateway", `{"oAuthClientCredentials": {"url": "http://id.example.com/t"}}`,
		`oAuthClientCredentials.url: "http://id.example.com/t" is plain http`},
	{"any certificate of the gateway",
		`{"oAuthClientCredentials": {"url": "https://id/t", "clientConfig": {"tls": {"insecureSkipVerify": true}}}}`,
		`oAuthClientCredentials.clientConfig.tls.insecureSkipVerify: anybody on the network path reads credentials`},
	{"a pushed logout of cookies", `{"backchannelLogoutUrl": "/bye", "session": {"maxLifetime": 3600}}`,
		`backchannelLogoutUrl: sessions are in cookies`},
	{"a pushed logout of cookies that are renewed", `{"backchannelLogoutUrl": "/bye"}`,
		"backchannelLogoutUrl: sessions are in cookies, so only this Traefik learns of a logout, until it restarts; several replicas need session.store.redis\nsession.maxLifetime: not set"},
	{"a pushed logout of cookies that are not renewed", `{"backchannelLogoutUrl": "/bye", "session": {"sliding": false}}`,
		`backchannelLogoutUrl: sessions are in cookies`},
	{"a pushed logout of sessions in Redis", `{"backchannelLogoutUrl": "/bye", "session": {"store": {"redis": {"endpoints": "a:1"}}}}`, ``},
	{"tokens for anybody", `{"issuer": "", "clientId": "", "clientSecret": "", "jwt": {"issuer": "https://id.example.com"}}`, `jwt.audience: not set`},
	{"tokens for one", `{"issuer": "", "clientId": "", "clientSecret": "", "jwt": {"issuer": "https://id.example.com", "audience": "a"}}`, ``},
	{"tokens for a resource",
		`{"issuer": "", "clientId": "", "clientSecret": "", "jwt": {"issuer": "https://id.example.com", "resource": "https://api"}}`, ``},
	{"active tokens for anybody", `{"oAuthIntrospection": {}}`, `oAuthIntrospection.audience: not set`},
	{"a cookie of many hosts", `{"session": {"domain": "example.com"}}`, `session.domain: every host below "example.com"`},
	{"a database that is not in a cluster", `{"session": {"store": {"redis": {"endpoints": "a:1", "database": 2}}}}`, ``},
	{"a Sentinel with its set", `{"session": {"store": {"redis": {"endpoints": "a:1", "sentinel": {"masterSet": "m"}}}}}`, ``},
	{"CSRF of this host", `{"csrf": {"cookieName": "__Host-x", "secure": true}}`, ``},
	{"CSRF over http", `{"csrf": {"secure": false}}`, ``},
	{"a state over http", `{"stateCookie": {"secure": false}}`, ``},
	{"a form over https", `{"responseMode": "form_post"}`, ``},
	{"a secret at another place", `{"secret": "Kq3vT9zXw7LmN2pR"}`, ``},
	{"one secret at two places", `{"secret": "Kq3vT9zXw7LmN2pR", "session": {"secret": "Kq3vT9zXw7LmN2pR"}}`, ``},
	{"a secret instead of the client's", `{"clientSecret": "", "secret": "Kq3vT9zXw7LmN2pR"}`, ``},
	{"a public client", `{"clientSecret": "", "session": {"secret": "Kq3vT9zXw7LmN2pR"}}`, ``},
	{"a public client in one word", `{"clientAuthMethod": "none"}`, ``},
	{"no PKCE with a secret", `{"pkce": false}`, ``},
	{"no PKCE with a key", `{"pkce": false, "clientSecret": "", "clientKey": "PEM", "session": {"secret": "Kq3vT9zXw7LmN2pR"}}`, ``},
	{"no PKCE with a certificate",
		`{"pkce": false, "clientSecret": "", "clientConfig": {"tls": {"cert": "PEM", "key": "PEM"}}, "session": {"secret": "Kq3vT9zXw7LmN2pR"}}`, ``},
	{"no sign-in here", `{"disableLogin": true}`, ``},
	{"a client with a certificate", `{"clientAuthMethod": "tls_client_auth", "clientConfig": {"tls": {"cert": "PEM", "key": "PEM"}}}`, ``},
	{"a client that asks, with a certificate",
		`{"issuer": "", "clientSecret": "", "clientAuthMethod": "tls_client_auth", "oAuthIntrospection": {"audience": "a", "tokenSource": {"query": "t"}, "clientConfig": {"url": "https://id/i", "tls": {"cert": "PEM", "key": "PEM"}}}}`, ``},
	{"a client that asks, at its issuer",
		`{"issuer": "", "oAuthIntrospection": {"audience": "a", "tokenSource": {"header": "X-Token"}, "issuer": "https://id.example.com"}}`, ``},
	{"a client that asks, about a cookie",
		`{"issuer": "", "oAuthIntrospection": {"audience": "a", "tokenSource": {"cookie": "t"}, "issuer": "https://id.example.com"}}`, ``},
	{"an API that asks without being a client",
		`{"issuer": "", "clientId": "", "clientSecret": "", "oAuthIntrospection": {"audience": "a", "tokenSource": {"query": "t"}, "clientConfig": {"url": "https://id/i"}}}`, ``},
	{"tokens by a secret", `{"issuer": "", "clientId": "", "clientSecret": "", "jwt": {"audience": "a", "signingSecret": "Kq3vT9zXw7LmN2pR"}}`, ``},
	{"tokens by a file", `{"issuer": "", "clientId": "", "clientSecret": "", "jwt": {"audience": "a", "jwksFile": "/x"}}`, ``},
	{"tokens by an address", `{"issuer": "", "clientId": "", "clientSecret": "", "jwt": {"audience": "a", "jwksUrl": "https://id/x"}}`, ``},
	{"tokens by a secret of one kind", `{"jwt": {"signingSecret": "Kq3vT9zXw7LmN2pR", "algorithms": "HS256", "issuer": "me"}}`, ``},
	{"tokens by a secret of an issuer with a query", `{"jwt": {"signingSecret": "Kq3vT9zXw7LmN2pR", "issuer": "https://id?x=y"}}`, ``},
	{"tokens by a key of an issuer", `{"jwt": {"publicKey": "PEM", "issuer": "me"}}`, ``},
	{"tokens by a key of an issuer with a query", `{"jwt": {"publicKey": "PEM", "issuer": "https://id?x=y"}}`, ``},
	{"tokens by a file of an issuer", `{"jwt": {"jwksFile": "/x", "issuer": "me"}}`, ``},
	{"tokens by a file of an issuer with a query", `{"jwt": {"jwksFile": "/x", "issuer": "https://id?x=y"}}`, ``},
	{"tokens of one kind", `{"jwt": {"algorithms": ["ES256", "ES384"]}}`, ``},
	{"an API that asks with a key",
		`{"issuer": "", "clientSecret": "", "clientKey": "PEM", "oAuthIntrospection": {"audience": "a", "tokenSource": {"query": "t"}, "clientConfig": {"url": "https://id/i"}}}`, ``},
	{"a secure session whose callback is by https",
		`{"session": {"secure": true}, "stateCookie": {"secure": true}, "redirectUrl": "https://app.example.com/cb"}`, ``},
	{"a callback by http of cookies that may be", `{"session": {"secure": false}, "redirectUrl": "http://app.example.com/cb"}`, ``},
	{"a framed session", `{"session": {"partitioned": true}}`, ``},
	{"a pending login of this host alone", `{"stateCookie": {"name": "__Host-x"}}`, ``},
	{"an API by a name", `{"resource": "urn:x:y"}`, ``},
	{"a token in a header of its own", `{"jwt": {"tokenSource": {"header": "X-Token", "headerAuthScheme": "Bearer"}}}`, ``},
	{"a cookie of this host alone", `{"session": {"name": "__Host-x"}}`, ``},
	{"a cookie for other sites", `{"session": {"sameSite": "none", "secure": true}}`, ``},
	{"the gateway's client by form",
		`{"oAuthClientCredentials": {"url": "https://id/t", "clientId": "x", "clientSecret": "y", "clientAuthMethod": "client_secret_post"}}`, ``},
	{"the callers' clients by form", `{"oAuthClientCredentials": {"url": "https://id/t", "clientAuthMethod": "client_secret_post"}}`, ``},
	{"the gateway's client by key",
		`{"oAuthClientCredentials": {"url": "https://id/t", "clientId": "x", "clientKey": "PEM", "clientAuthMethod": "private_key_jwt"}}`, ``},
	{"the gateway's client by key alone", `{"oAuthClientCredentials": {"url": "https://id/t", "clientId": "x", "clientKey": "PEM"}}`, ``},
	{"the gateway's client by secret", `{"oAuthClientCredentials": {"url": "https://id/t", "clientId": "x", "clientSecret": "y"}}`, ``},
	{"the gateway's client by certificate",
		`{"oAuthClientCredentials": {"url": "https://id/t", "clientId": "x", "clientAuthMethod": "tls_client_auth", "clientConfig": {"tls": {"cert": "PEM", "key": "PEM"}}}}`, ``},
	{"the gateway's tokens in Redis",
		`{"oAuthClientCredentials": {"url": "https://id/t", "store": {"secret": "Kq3vT9zXw7LmN2pR", "redis": {"endpoints": "a:1"}}}}`, ``},
	{"an empty secret beside a key", `{"oAuthClientCredentials": {"url": "https://id/t", "clientId": "x", "clientKey": "PEM", "clientSecret": ""}}`, ``},
	{"an empty secret beside a method that needs none",
		`{"oAuthClientCredentials": {"url": "https://id/t", "clientId": "x", "clientAuthMethod": "none", "clientSecret": ""}}`, ``},
	{"identity on no bypass", `{"bypassIdentity": true}`, `bypassIdentity: has no effect without bypass; leave it out`},
	{"a bypass with identity", "{\"bypassIdentity\": true, \"bypass\": \"Path(`/x`)\"}", ``},
	{"a bypass without", "{\"bypassIdentity\": false, \"bypass\": \"Path(`/x`)\"}", ``},
	{"a rule about UserInfo", "{\"userinfo\": true, \"usernameClaim\": \"userinfo.name\", \"claims\": \"Exists(`userinfo.phone`)\"}", ``},
	{"a rule about UserInfo of another's sessions",
		"{\"disableLogin\": true, \"usernameClaim\": \"userinfo.name\", \"claims\": \"Exists(`userinfo.phone`)\"}", ``},
	{"tokens in Authorization without a word", `{"jwt": {"tokenSource": {"header": "authorization"}}}`,
		`jwt.tokenSource.headerAuthScheme: not set, so a token is expected in Authorization without a word before it; write "Bearer"`},
	{"tokens in Authorization with one", `{"jwt": {"tokenSource": {"header": "Authorization", "headerAuthScheme": "JWT"}}}`, ``},
	{"tokens to ask about, without a word", `{"oAuthIntrospection": {"audience": "a", "tokenSource": {"header": "Authorization"}}}`,
		`oAuthIntrospection.tokenSource.headerAuthScheme: not set`},
	{"tokens to ask about, with a word",
		`{"oAuthIntrospection": {"audience": "a", "tokenSource": {"header": "Authorization", "headerAuthScheme": "Bearer"}}}`, ``},
	{"a key set of JSON", `{"jwt": {"jwksFile": "{\"keys\": [{}]}"}}`, ``},
	{"introspection beside a sign-in, with a certificate",
		`{"oAuthIntrospection": {"audience": "a"}, "clientAuthMethod": "tls_client_auth", "clientConfig": {"tls": {"cert": "PEM", "key": "PEM"}}}`, ``},
}

func TestConfigTakes(t *testing.T) {
	for _, test := range blameless {
		test := test
		t.Run(test.name, func(t *testing.T) {
			got := sayings(sample(t, test.options))
			if test.want == "" && got != "" || !strings.HasPrefix(got, test.want) || strings.Count(got, "\n") != strings.Count(test.want, "\n") {
				t.Errorf("expected %q, got %q", test.want, got)
			}
		})
	}
}

// What seals or signs must not be what anybody can read or guess: references nobody resolved, in anybody's syntax, and what manuals have.
func TestConfigSecretsThatAreNone(t *testing.T) {
	published := []string{"change-me-too-openssl-rand-base64-32", "changed-too-openssl-rand-base64-32", "a-secret-of-at-least-16-characters",
		"24-characters-to-replace",
		"only-letters-digits-and-dashes-32bytes", "powpowpowpowpowpowpowpow", "MLFs4TT99kOOq8h3UAVRtYoCTDYXiRcZ", "potato-secret-is-at-least-32-bytes-long",
		"OQINaROshtE9TcZkNAm-5Zs2Pv3xaWytBmc5W7sPX7w=", "something-random-here", "mysecretmysecret", "my-super-secret-key-of-32-bytes!",
		"your-256-bit-secret-key-goes-here", "a-string-secret-at-least-256-bits-long", "Your-256-bit-secret",
		"my-32-character-ultra-secure-and-ultra-long-secret", "this is my custom Secret key for authentication",
		"09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7", "404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",
		"413F4428472B4B6250655368566D5970337336763979244226452948404D6351", "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
		"super-secret-jwt-token-with-at-least-32-characters-long", "Insert_Your_Own_Secret", "ChangeThisToSomethingLong",
		"P@ssw0rd-P@ssw0rd-1234", "thisisasessionkeyreplacethisjetzt",
		"0123456789abcdef", "1234567890123456", "abcdefghijklmnopqrstuvwxyz", "placeholder-for-the-secret", "session-secret-example-value"}
	references := []string{"$SESSION_SECRET_OF_APP", "$${SESSION_SECRET_OF_APP}", "${SESSION_SECRET:-default}", "${SESSION-SECRET-OF-APP}",
		"${env:SESSION_SECRET}", "$(SESSION_SECRET_OF_APP)",
		`{{ env "SESSION_SECRET" }}`, "{{.Values.session.secret}}", "{{ lookup('env') | quote }}", "%SESSION_SECRET_OF_APP%",
		"%(session_secret)s of it", "<%= ENV['SESSION_SECRET'] %>",
		"((session-secret-of-app))", "#{SESSION_SECRET_OF_APP}#", "vault:secret/data/oidc#session", "op://vault/oidc/session-secret",
		"ENC[AES256_GCM,data:abcdefg,iv:x]", "ENC(G6N718UuyPE5bHyWKyuLQSm02auQPUtm)",
		"urn:k8s:oidc:session-secret", "<the-session-goes-here>", "env:SESSION_SECRET_OF_APP", "file:/run/secrets/session",
		"/run/secrets/oidc/session", "./secrets/session.txt", "~/secrets/session.txt",
		"!vault oidc/session/sealing", "!Ref SessionOfThisStack", "ref+vault://oidc#/session", "arn:aws:secretsmanager:eu:1:x",
		"projects/1/secrets/oidc/versions/2", "__SESSION_SEALING_OF_APP__", "@SESSION_SEALING_OF_APP@",
		"@Microsoft.KeyVault(SecretUri=https://x)", "[[ .sealing_of_sessions ]]", "{cipher}AQA3rT8dfJ2kq0", "{env.SEALING_OF_SESSIONS}",
		"{$SEALING_OF_SESSIONS}", "process.env.SESSION_SEALING", "secrets.SESSION_SEALING",
		"$[variables.sealing_of_it]", "sops:sealing/of/sessions", "ssm:/oidc/sessions/sealing", "${SEALING_OF_SESSIONS", "VAULT:oidc/session/seal",
		"$env:SEALING_OF_SESSIONS", "%env(SEALING_OF_SESSIONS)%", "os.environ['SEALING_OF_IT']", `System.getenv("SEALING_OF_IT")`,
		"lookup('SEALING_OF_ENV')", "get_secret('sealing/of/it')", "local.sealing_of_sessions",
		`data.vault_generic.x.data["y"]`, "Fn::Sub SealingOfSessions", "AWS::SSM::Parameter", "~{SEALING_OF_SESSIONS}", "[SEALING_OF_SESSIONS]", "SEALING_OF_SESSIONS",
		`"$SEALING_OF_SESSIONS"`, "$SEALING_OF_IT:-default", "$SEALING_OF$SESSIONS_X",
		`C:\sealing\session.txt`, "run/sealing/of-it.txt", "/keys/session-sealing-file", "/data/oidc/sealing.key", "$(cat /run/sealing/it)",
		"`cat /run/sealing/it`", "TODO-put-the-sealing-here"}
	good := []string{"pIm9k3Zr1d6sB1u0bW8oYVQm0n4Lr2tS7cD5eF6gH8E=", "/u3kqPz+9aXr0tLw5yBv7nCm2dEf4gHj6kLp8qRs1tU=",
		"kJ8~Q.s7Tz1yXw3VuT5rSp7Qn9Mk", "GOCSPX-k3J9dL2mQ8rT5vX1zB7n", "hvo_secret_k3J9dL2mQ8rT5vX1zB7nQ",
		"correct horse battery staple", "7f0c1b9e5d3a8642", "tok$n of !ll {kinds} in (it)", "a:b %+&=/é\"'~ and more", "Tr0ub4dor&3 on a hill",
		"CORRECT horse_BATTERY", "7F0C1B9E5D3A8642_01", "/u3k/PzaXr/0tLw5yBv7nCm2", "todos-are-never-done-9"}
	for i, list := range [][]string{references, published, good} {
		want := []string{"looks like a reference that was not resolved", "is like a published example", ""}[i]
		for _, text := range list {
			for _, option := range []string{"session.secret", "session.previousSecrets", "secret", "clientSecret",
				"oAuthClientCredentials.store.secret", "jwt.signingSecret"} {
				if interpreted() && option != "session.secret" {
					continue // which are asked the same: it would take half a minute
				}
				raw := signIn(t, `{}`)
				for name, value := range at(option, text) {
					raw[name] = value
				}
				_, p := read(raw)
				said := strings.Join(p.list, "\n")
				isSaid := strings.Contains(said, want) || strings.Contains(text, "urn:k8s") && strings.Contains(said, "is resolved only by")
				if want == "" && strings.Contains(said, "anybody could guess it") || !isSaid {
					t.Errorf("%s %q: expected %q, got %q", option, text, want, said)
				}
				if want != "" && strings.Contains(said, text) {
					t.Errorf("%s: %q is shown", option, text)
				}
			}
		}
	}
}

// middlewareOf makes the middleware of a sign-in with further options.
func middlewareOf(t *testing.T, options string) (*middleware, error) {
	t.Helper()
	raw, err := json.Marshal(signIn(t, options))
	if err != nil {
		t.Fatal(err)
	}
	return newMiddleware(context.Background(), raw, "login@file")
}

// What is wrong with an option keeps nobody from looking at the others, and at what they are made into.
func TestConfigTellsEveryMistake(t *testing.T) {
	for _, test := range mistakes {
		if _, err := middlewareOf(t, test.options); err == nil || !strings.Contains(err.Error(), test.wantErr) {
			t.Errorf("%s: expected %q, got %v", test.name, test.wantErr, err)
		}
	}
}

func TestConfigTellsAllMistakesAtOnce(t *testing.T) {
	_, err := middlewareOf(t,
		"{\"issuer\": \"id.example.com\", \"claims\": \"Equals(\", \"bypass\": \"(\", \"clientKey\": \"no key\", \"idTokenSigningAlg\": \"HS512\", "+
			"\"clientConfig\": {\"tls\": {\"ca\": \"no certificate\"}}, \"jwt\": {\"publicKey\": \"no key either\", \"claims\": \"x\"}, "+
			"\"oAuthClientCredentials\": {\"url\": \"https://id/t\", \"clientId\": \"x\", \"clientKey\": \"nor this\", \"store\": {\"secret\": \"short\"}}}")
	if err == nil {
		t.Fatal("expected problems")
	}
	for _, want := range []string{"issuer: must be an https URL", "claims: position 8", "bypass: position 2", "clientKey: must be ",
		"clientConfig: tls.ca: no certificate found",
		"idTokenSigningAlg: HS512 needs a clientSecret of 64 bytes at least; let the provider sign with RS256 or ES256",
		"jwt.publicKey: must be ", "jwt.claims: position 1",
		"oAuthClientCredentials.store.secret: must have at least 16 bytes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %s", want, err)
		}
	}
}

// Every row of the table of rules speaks of options that there are, can be read, and is what some row of the tests runs into.
func TestConfigRules(t *testing.T) {
	paths := map[string]bool{}
	eachOption(reflect.TypeOf(Config{}), "", func(option string, _ reflect.StructField) { paths[option] = true })
	isThere := func(block, name string) bool {
		for path := range paths {
			if block == "" && path == name || block != "" && strings.HasSuffix("."+path, "."+block+"."+name) {
				return true
			}
		}
		return false
	}
	const ofValues = " value size kinds example try min max host path wrong issuer below "
	kinds := " switch number issuer url jwks uri endpoint location header identityHeader cookie path domain secret signing pem server param upgrade realm "
	var said []string
	for _, list := range [][]struct{ name, options, wantErr string }{mistakes, jobless} {
		for _, test := range list {
			raw := options(t, test.options)
			if len(list) == len(mistakes) {
				raw = signIn(t, test.options)
			}
			_, p := read(raw)
			said = append(said, p.list...)
		}
	}
	rows := strings.Split(strings.TrimSpace(ruleAbbreviations.Replace(rules)), "\n")
	for i, row := range rows {
		parts := ruleRow.FindStringSubmatch(row)
		if parts == nil {
			t.Errorf("not a row: %s", row)
			continue
		}
		isNote := parts[1] == "warning" || parts[1] == "notice"
		for _, block := range strings.Split(parts[1], ",") {
			if isNote {
				block = ""
			}
			isKind := strings.Contains(kinds, " "+block+" ") && block != ""
			names := strings.Fields(regexp.MustCompile(`=\S*|!`).ReplaceAllString(parts[3], " "))
			for _, name := range append(names, regexp.MustCompile(`==(\S+)`).FindAllString(parts[3], -1)...) {
				if name = strings.TrimSuffix(strings.TrimPrefix(name, "=="), "~"); isKind && !strings.Contains(ofValues, " "+name+" ") ||
					!isKind && !isThere(block, name) {
					t.Errorf("there is no option %q: %s", name, row)
				}
			}
			if isKind != (parts[2] == "" && block != "jwt") || parts[2] != "" && !isThere(block, parts[2]) {
				t.Errorf("there is no option %q: %s", parts[2], row)
			}
		}
		for _, condition := range strings.Fields(parts[3]) {
			if _, pattern, _ := strings.Cut(condition, "="); !strings.HasPrefix(pattern, "=") {
				regexp.MustCompile("^(?s:" + pattern + ")$")
			}
		}
		words := regexp.MustCompile(`\\\$\\\{[^}]*\\}`).ReplaceAllString(regexp.QuoteMeta(parts[4]), ".*")
		about := regexp.MustCompile(`(^|\.)` + regexp.QuoteMeta(parts[2]) + ": " + words + "$")
		if parts[2] == "" {
			about = regexp.MustCompile(": " + words + "$")
		}
		isSeen := isNote
		for _, problem := range said {
			isSeen = isSeen || about.MatchString(problem)
		}
		if !isSeen {
			t.Errorf("no test runs into row %d: %s", i+1, row)
		}
	}
	if len(rows) < 80 {
		t.Errorf("only %d rows", len(rows))
	}
}

// What should be known is logged when a middleware is built.
func TestConfigWarns(t *testing.T) {
	s := start(t, signIn(t,
		`{"issuer": "http://id.example.com", "clientConfig": {"tls": {"insecureSkipVerify": true}}, "backchannelLogoutUrl": "/bye", "session": {"domain": "example.com"}}`))
	s.expectLog(`issuer: "http://id.example.com" is plain http: anybody on the network path can sign in as any user`)
	s.expectLog("clientConfig.tls.insecureSkipVerify: anybody on the network path can pose as the provider")
	s.expectLog("backchannelLogoutUrl: sessions are in cookies, so only this Traefik learns of a logout")
	s.expectLog(`session.domain: every host below "example.com" gets the session's cookie and can replace it`)
	s = start(t, map[string]any{
		"jwt": map[string]any{"issuer": "http://id.example.com",
			"clientConfig": map[string]any{"tls": map[string]any{"insecureSkipVerify": true}}},
		"oAuthIntrospection": map[string]any{"tokenSource": map[string]any{"header": "X-Token"},
			"clientConfig": map[string]any{"url": "http://id.example.com/introspect"}},
		"oAuthClientCredentials": map[string]any{"url": "http://id.example.com/token", "clientId": "app", "clientSecret": "a secret"},
	})
	s.expectLog(`jwt.issuer: "http://id.example.com" is plain http: anybody on the network path can make tokens`)
	s.expectLog("jwt.clientConfig.tls.insecureSkipVerify: anybody on the network path can make tokens")
	s.expectLog("jwt.audience: not set, so tokens issued for any other API are accepted")
	s.expectLog(`oAuthIntrospection.clientConfig.url: "http://id.example.com/introspect" is plain http: anybody on the network path reads tokens`)
	s.expectLog("oAuthIntrospection.audience: not set, so tokens issued for any other API are accepted")
	s.expectLog(`oAuthClientCredentials.url: "http://id.example.com/token" is plain http: anybody on the network path reads credentials and tokens`)
	careless := map[string]any{"insecureSkipVerify": true}
	s = start(t, map[string]any{
		"jwt": map[string]any{"jwksUrl": "HTTP://id.example.com/keys"},
		"oAuthIntrospection": map[string]any{"tokenSource": map[string]any{"header": "X-Token"},
			"clientConfig": map[string]any{"url": "https://id.example.com/introspect", "tls": careless}},
		"oAuthClientCredentials": map[string]any{"url": "https://id.example.com/token", "clientId": "app", "clientSecret": "a secret",
			"clientConfig": map[string]any{"tls": careless}},
	})
	s.expectLog(`jwt.jwksUrl: "HTTP://id.example.com/keys" is plain http: anybody on the network path can make tokens`)
	s.expectLog("oAuthIntrospection.clientConfig.tls.insecureSkipVerify: anybody on the network path reads tokens and can declare any token active")
	s.expectLog("oAuthClientCredentials.clientConfig.tls.insecureSkipVerify: anybody on the network path reads credentials and tokens")
	s = start(t, signIn(t, `{"backchannelLogoutUrl": "/bye", "session": {"store": {"redis": {"endpoints": "a:1"}}}}`))
	if lines := captured.of(s.name); len(lines) > 0 {
		t.Errorf("nothing is to be known, got %q", lines)
	}
}

// A sign-out that the browser does not bring its session to would leave the session as it is.
func TestConfigLogoutGetsTheSession(t *testing.T) {
	for _, c := range []struct{ options, wantErr string }{
		{`{"logoutUrl": "/logout", "session": {"path": "/app"}}`, `logoutUrl: must be within session.path, "/app", got "/logout"`},
		{`{"logoutUrl": "/application/logout", "session": {"path": "/app"}}`, `logoutUrl: must be within session.path, "/app"`},
		{`{"logoutUrl": "app.example.com/logout", "session": {"path": "/app/"}}`, `logoutUrl: must be within session.path, "/app/"`},
		{`{"logoutUrl": "/app/logout", "session": {"path": "/app"}}`, ""},
		{`{"logoutUrl": "/app/logout", "session": {"path": "/app/"}}`, ""},
		{`{"logoutUrl": "/app", "session": {"path": "/app"}}`, ""},
		{`{"logoutUrl": "/logout", "loginUrl": "/login", "backchannelLogoutUrl": "/pushed", "frontchannelLogoutUrl": "/frame"}`, ""},
	} {
		_, err := middlewareOf(t, c.options)
		if c.wantErr == "" && err != nil || c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)) {
			t.Errorf("%s: expected %q, got %v", c.options, c.wantErr, err)
		}
	}
}

func TestConfigDomainCoversOurHosts(t *testing.T) {
	p := newFakeProvider(t)
	for _, c := range []struct{ option, at, domain, problem string }{
		{"redirectUrl", "https://auth.example.com/cb", "example.com", ""},
		{"redirectUrl", "https://example.com:8443/cb", ".Example.com", ""},
		{"redirectUrl", "/cb", "example.com", ""},
		{"redirectUrl", "https://auth.example.org/cb", "example.com",
			`session.domain: must cover the host of redirectUrl, "auth.example.org", got "example.com"; write a domain that both the pages and that host are in`},
		{"redirectUrl", "badexample.com/cb", "example.com", `session.domain: must cover the host of redirectUrl, "badexample.com"`},
		{"redirectUrl", "https://example.com/cb", "app.example.com", `session.domain: must cover the host of redirectUrl, "example.com"`},
		{"logoutUrl", "https://auth.example.org/out", "example.com", `session.domain: must cover the host of logoutUrl`},
		{"loginUrl", "https://auth.example.org/in", "example.com", `session.domain: must cover the host of loginUrl`},
		{"backchannelLogoutUrl", "http://traefik.internal/out", "example.com", ""}, // no browser comes there
	} {
		_, err := build(t, p.options(sessionOptions("domain", c.domain), map[string]any{c.option: c.at}))
		if c.problem == "" && err != nil || c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem)) {
			t.Errorf("%s %q with %q: expected %q, got %v", c.option, c.at, c.domain, c.problem, err)
		}
	}
}
