package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/traefik/paerser/file"
	"github.com/traefik/paerser/parser"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// mistakes are mistakes, and what the plugin says of each.
var mistakes = []struct {
	name string
	with with
	want []string
}{
	{"no issuer", with{"issuer": drop}, []string{"issuer"}},
	{"a misspelt option", with{"claim": "Equals(`a`, `b`)"}, []string{"claim", "claims"}},
	{"a misspelt option in a block", with{"session.expiri": 60}, []string{"session.expiri", "expiry"}},
	{"a missing parenthesis", with{"claims": "Equals(`a`, `b`"}, []string{"claims"}},
	{"a secret that is too short", with{"session.secret": "short"}, []string{"session.secret", "16"}},
	{"a secret that nobody put in", with{"session.secret": `{{ env "SESSION_SECRET" }}`}, []string{"session.secret", "looks like a reference that was not resolved", "${file:/path}"}},
	{"a secret of a manual", with{"session.secret": "change-me-to-something-else"}, []string{"session.secret", "is like a published example", "openssl rand"}},
	{"a client's secret that seals and is short", with{"clientSecret": "short"}, []string{"clientSecret", "seals sessions", "write session.secret"}},
	{"an empty client's secret", with{"clientSecret": "", "session.secret": "a text of sixteen or more"}, []string{"clientSecret", "is there and empty", "Compose"}},
	{"an empty rule", with{"claims": ""}, []string{"claims", "is there and empty"}},
	{"a rule of spaces", with{"claims": " "}, []string{"claims", "is there and empty"}},
	{"levels of nothing", with{"acrValues": []string{" "}}, []string{"acrValues", "is there and empty"}},
	{"a name of another plugin", with{"providerURL": "https://id"}, []string{"providerURL", "here it is `issuer`"}},
	{"a rule that is never true", with{"claims": "OneOf(`realm_access.roles[*]`, `a`)"}, []string{"claims", "look into a list by themselves"}},
	{"a bypass that is never true", with{"bypass": "PathPrefix(`/x/*`)"}, []string{"bypass", "compared as it is"}},
	{"a number with its unit", with{"clientConfig.timeoutSeconds": "5s"}, []string{"clientConfig.timeoutSeconds", "without a unit"}},
	{"two problems", with{"session.expiry": -1, "maxAge": "soon"}, []string{"session.expiry", "maxAge"}},
	{"the provider's address for ours", with{"loginUrl": "https://id.example.com/oauth2/authorize"}, []string{"loginUrl", "must be an address of yours"}},
	{"a list for a text", with{"clientId": []string{"a", "b"}}, []string{"clientId", "must be one value"}},
	{"a text for a block", with{"session": "cookie"}, []string{"session", "must be a block of options"}},
	{"a switch that is none", with{"session.sliding": "on"}, []string{"session.sliding", "must be true or false"}},
	{"a number for a page", with{"errorPages": with{"404": "/404.html"}}, []string{"errorPages", "must be one of 401, 403, 500, 503"}},
}

// TestConfigRefused: the plugin says what is wrong with a configuration, everything at once, and Traefik passes it on, whether it is
// written as YAML, as TOML, or as labels.
func TestConfigRefused(t *testing.T) {
	t.Parallel()
	l := start(t)
	inTOML := *l
	inTOML.suffix = ".toml"
	for _, test := range mistakes {
		for form, l := range map[string]*lab{"yaml": l, "toml": &inTOML, "labels": l.labelled(t)} {
			if form == "labels" && isNoLabel(test.with) {
				continue
			}
			t.Run(test.name+" "+form, func(t *testing.T) {
				t.Parallel()
				said := l.refuse(t, site{with: test.with})
				for _, want := range test.want {
					if !strings.Contains(said, want) {
						t.Errorf("the error does not say %q: %s", want, said)
					}
				}
			})
		}
	}
}

// isNoLabel says that labels cannot bring this: nothing, or a list where a text is wanted, which they write with commas.
func isNoLabel(options with) bool {
	if _, isList := options["clientId"].([]string); isList {
		return true
	}
	for _, value := range options {
		if text := strings.Trim(fmt.Sprint(value), "[] "); text == "" {
			return true
		}
	}
	return false
}

// TestConfigTOML signs in with what is hard to write in TOML: rules in quotes of all kinds, lists, maps, numbers, blocks in blocks.
func TestConfigTOML(t *testing.T) {
	t.Parallel()
	l := *start(t)
	l.suffix = ".toml"
	app := l.serve(t, site{with: with{
		"scopes": []string{"openid", "email", "profile"}, "maxAge": 3600, "pkce": true,
		"claims":         "(Contains(`groups`, `admins`) || OneOf(`email`, `a,b`, \"c, d\")) && !Equals(`name`, `Bob, the Builder`)",
		"bypass":         "Path(`/open`) || (Method(`GET`) && PathPrefix(`/free/`))",
		"forwardHeaders": with{"X-User": "email", "X-Quoted": "'the \"gateway\"'"}, "session.expiry": 600, "session.sliding": false, "csrf": with{}, "acrValues": drop,
	}})
	alice := app.visitor(t)
	received := alice.received(alice.signIn("/page", provider.Alice))
	if received.Header.Get("X-User") != "alice@example.com" || received.Header.Get("X-Quoted") != `the "gateway"` {
		t.Errorf("the application is told %v", received.Header)
	}
	if got := alice.outcome(alice.post("/", nil)); got != "Forbidden" {
		t.Errorf("a post without the CSRF token: %s", got)
	}
	nobody := app.visitor(t)
	for path, want := range map[string]string{"/open": "application", "/free/x": "application", "/": "sign-in"} {
		if got := nobody.outcome(nobody.look(path)); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// TestConfigAsWritten: what Traefik's own readers make of options that are there and say nothing. All but null arrives as empty text, which
// the plugin refuses where it would be a limit; null is dropped by the readers of files and labels, and only Kubernetes' JSON brings it.
func TestConfigAsWritten(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ kind, text, want string }{
		{".yml", "csrf:", `{}`}, {".yml", "csrf: ~", `{}`}, {".yml", "csrf: {}", `{"csrf":""}`}, {".yml", `claims: ""`, `{"claims":""}`}, {".yml", "claims:", `{}`},
		{".yml", `acrValues: [""]`, `{"acrValues":[""]}`}, {".yml", "acrValues: []", `{"acrValues":""}`}, {".yml", "jwt: {audience: }", `{"jwt":""}`},
		{".toml", `claims = ""`, `{"claims":""}`}, {".toml", "acrValues = []", `{"acrValues":""}`}, {".toml", `acrValues = [""]`, `{"acrValues":[""]}`},
		{".toml", "[http.middlewares.x.plugin.oidc.csrf]", `{"csrf":""}`},
		{"label", "csrf=", `{"csrf":""}`}, {"label", "claims=", `{"claims":""}`}, {"label", "claims= ", `{"claims":" "}`}, {"label", "acrValues=,", `{"acrValues":","}`},
		{"label", "acrValues[0]=", `{"acrValues":[""]}`},
	} {
		config := configuration{}
		var err error
		switch test.kind {
		case ".yml":
			err = file.DecodeContent("http:\n  middlewares:\n    x:\n      plugin:\n        oidc:\n          is: there\n          "+test.text+"\n", test.kind, &config)
		case ".toml":
			err = file.DecodeContent("[http.middlewares.x.plugin.oidc]\nis = \"there\"\n"+test.text+"\n", test.kind, &config)
		default:
			name, value, _ := strings.Cut(test.text, "=")
			at := "traefik.http.middlewares.x.plugin.oidc."
			err = parser.Decode(map[string]string{at + "is": "there", at + name: value}, &config, "traefik", "traefik.http")
		}
		if err != nil {
			t.Fatalf("%s %q: %v", test.kind, test.text, err)
		}
		options := config.HTTP.Middlewares["x"].Plugin["oidc"]
		delete(options, "is")
		if got, _ := json.Marshal(options); string(got) != test.want {
			t.Errorf("%s %q: got %s, want %s", test.kind, test.text, fmt.Sprint(string(got)), test.want)
		}
	}
}
