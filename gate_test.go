package oidc

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// gateOf makes the gate of a sign-in with further options.
func gateOf(t *testing.T, options string) (*gate, error) {
	t.Helper()
	raw, err := json.Marshal(signIn(t, options))
	if err != nil {
		t.Fatal(err)
	}
	return newGate(context.Background(), raw, "login@file")
}

// What is wrong with an option keeps nobody from looking at the others, and at what they are made into.
func TestGateTellsEveryMistake(t *testing.T) {
	for _, test := range mistakes {
		if _, err := gateOf(t, test.options); err == nil || !strings.Contains(err.Error(), test.wantErr) {
			t.Errorf("%s: expected %q, got %v", test.name, test.wantErr, err)
		}
	}
}

func TestGateTellsAllMistakesAtOnce(t *testing.T) {
	_, err := gateOf(t, "{\"issuer\": \"id.example.com\", \"claims\": \"Equals(\", \"bypass\": \"(\", \"clientKey\": \"no key\", \"idTokenSigningAlg\": \"HS512\", "+
		"\"clientConfig\": {\"tls\": {\"ca\": \"no certificate\"}}, \"jwt\": {\"publicKey\": \"no key either\", \"claims\": \"x\"}, "+
		"\"oAuthClientCredentials\": {\"url\": \"https://id/t\", \"clientId\": \"x\", \"clientKey\": \"nor this\", \"store\": {\"secret\": \"short\"}}}")
	if err == nil {
		t.Fatal("expected problems")
	}
	for _, want := range []string{"issuer: must be an https URL", "claims: position 8", "bypass: position 2", "clientKey: must be ", "clientConfig: tls.ca: no certificate found",
		"idTokenSigningAlg: HS512 needs a clientSecret of 64 bytes at least; let the provider sign with RS256 or ES256", "jwt.publicKey: must be ", "jwt.claims: position 1",
		"oAuthClientCredentials.store.secret: must have 16 bytes at least"} {
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
	kinds := " switch number issuer url jwks uri endpoint location header identityHeader cookie path domain secret signing pem server param upgrade "
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
	rows := strings.Split(strings.TrimSpace(patterns.Replace(rules)), "\n")
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
				if name = strings.TrimSuffix(strings.TrimPrefix(name, "=="), "~"); isKind && !strings.Contains(ofValues, " "+name+" ") || !isKind && !isThere(block, name) {
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

// What should be known is logged when a gate is made.
func TestGateWarns(t *testing.T) {
	s := start(t, signIn(t, `{"issuer": "http://id.example.com", "clientConfig": {"tls": {"insecureSkipVerify": true}}, "backchannelLogoutUrl": "/bye", "session": {"domain": "example.com"}}`))
	s.expectLog(`issuer: "http://id.example.com" is plain http: whoever is on the way can sign in as anybody`)
	s.expectLog("clientConfig.tls.insecureSkipVerify: anybody on the way can be the provider")
	s.expectLog("backchannelLogoutUrl: sessions are in cookies, so only this Traefik learns of a logout")
	s.expectLog(`session.domain: every host below "example.com" gets the session's cookie and can replace it`)
	s = start(t, map[string]any{
		"jwt":                    map[string]any{"issuer": "http://id.example.com", "clientConfig": map[string]any{"tls": map[string]any{"insecureSkipVerify": true}}},
		"oAuthIntrospection":     map[string]any{"tokenSource": map[string]any{"header": "X-Token"}, "clientConfig": map[string]any{"url": "http://id.example.com/introspect"}},
		"oAuthClientCredentials": map[string]any{"url": "http://id.example.com/token", "clientId": "app", "clientSecret": "a secret"},
	})
	s.expectLog(`jwt.issuer: "http://id.example.com" is plain http: whoever is on the way can make tokens`)
	s.expectLog("jwt.clientConfig.tls.insecureSkipVerify: anybody on the way can make tokens")
	s.expectLog("jwt.audience: not set, so tokens that were made for any other API are accepted")
	s.expectLog(`oAuthIntrospection.clientConfig.url: "http://id.example.com/introspect" is plain http: whoever is on the way reads tokens`)
	s.expectLog("oAuthIntrospection.audience: not set, so tokens that were made for any other API are accepted")
	s.expectLog(`oAuthClientCredentials.url: "http://id.example.com/token" is plain http: whoever is on the way reads credentials and tokens`)
	careless := map[string]any{"insecureSkipVerify": true}
	s = start(t, map[string]any{
		"jwt":                    map[string]any{"jwksUrl": "HTTP://id.example.com/keys"},
		"oAuthIntrospection":     map[string]any{"tokenSource": map[string]any{"header": "X-Token"}, "clientConfig": map[string]any{"url": "https://id.example.com/introspect", "tls": careless}},
		"oAuthClientCredentials": map[string]any{"url": "https://id.example.com/token", "clientId": "app", "clientSecret": "a secret", "clientConfig": map[string]any{"tls": careless}},
	})
	s.expectLog(`jwt.jwksUrl: "HTTP://id.example.com/keys" is plain http: whoever is on the way can make tokens`)
	s.expectLog("oAuthIntrospection.clientConfig.tls.insecureSkipVerify: anybody on the way reads tokens and can call any active")
	s.expectLog("oAuthClientCredentials.clientConfig.tls.insecureSkipVerify: anybody on the way reads credentials and tokens")
	s = start(t, signIn(t, `{"backchannelLogoutUrl": "/bye", "session": {"store": {"redis": {"endpoints": "a:1"}}}}`))
	if lines := captured.of(s.name); len(lines) > 0 {
		t.Errorf("nothing is to be known, got %q", lines)
	}
}

// What is shared stays while a configuration has it, and for a while after: contexts end before their successors come.
func TestGateKeepsWhatIsShared(t *testing.T) {
	r := &registry{entries: map[string]*registered{}, patience: time.Hour}
	first, end := context.WithCancel(context.Background())
	one, other := &store{prefix: "one"}, &store{prefix: "other"}
	if register(first, r, "a", nil) != nil {
		t.Error("found before it was kept")
	}
	if got, _ := register(first, r, "a", one).(*store); got != one {
		t.Error("not kept")
	}
	if got, _ := register(first, r, "a", other).(*store); got != one {
		t.Error("replaced by a later one")
	}
	end()
	r.swept = time.Time{}
	register(context.Background(), r, "b", other)
	if r.entries["a"] == nil || r.entries["a"].idleSince.IsZero() {
		t.Error("gone with its context, or not known to be idle")
	}
	if got, _ := register(context.Background(), r, "a", nil).(*store); got != one || !r.entries["a"].idleSince.IsZero() {
		t.Error("not found by a successor")
	}
	r.entries["a"].ctx = first
	r.swept = time.Time{}
	register(context.Background(), r, "b", nil)
	r.entries["a"].idleSince = time.Now().Add(-2 * time.Hour)
	register(context.Background(), r, "b", nil)
	if r.entries["a"] == nil {
		t.Error("all were looked at once more within a moment")
	}
	r.swept = time.Now().Add(-2 * sweepPause)
	register(context.Background(), r, "b", nil)
	if r.entries["a"] != nil || r.entries["b"] == nil {
		t.Error("expected only what is in use after a while")
	}
}

// A sign-out that the browser does not bring its session to would leave the session as it is.
func TestGateLogoutGetsTheSession(t *testing.T) {
	for _, c := range []struct{ options, wantErr string }{
		{`{"logoutUrl": "/logout", "session": {"path": "/app"}}`, `logoutUrl: must be within session.path, "/app", got "/logout"`},
		{`{"logoutUrl": "/application/logout", "session": {"path": "/app"}}`, `logoutUrl: must be within session.path, "/app"`},
		{`{"logoutUrl": "app.example.com/logout", "session": {"path": "/app/"}}`, `logoutUrl: must be within session.path, "/app/"`},
		{`{"logoutUrl": "/app/logout", "session": {"path": "/app"}}`, ""},
		{`{"logoutUrl": "/app/logout", "session": {"path": "/app/"}}`, ""},
		{`{"logoutUrl": "/app", "session": {"path": "/app"}}`, ""},
		{`{"logoutUrl": "/logout", "loginUrl": "/login", "backchannelLogoutUrl": "/pushed", "frontchannelLogoutUrl": "/frame"}`, ""},
	} {
		_, err := gateOf(t, c.options)
		if c.wantErr == "" && err != nil || c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)) {
			t.Errorf("%s: expected %q, got %v", c.options, c.wantErr, err)
		}
	}
}

func TestGateDomainCoversOurHosts(t *testing.T) {
	p := newProvider(t)
	for _, c := range []struct{ option, at, domain, problem string }{
		{"redirectUrl", "https://auth.example.com/cb", "example.com", ""},
		{"redirectUrl", "https://example.com:8443/cb", ".Example.com", ""},
		{"redirectUrl", "/cb", "example.com", ""},
		{"redirectUrl", "https://auth.example.org/cb", "example.com", `session.domain: must cover the host of redirectUrl, "auth.example.org", got "example.com"; write a domain that both the pages and that host are in`},
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

// TestGateChangedFiles: a file that changed is a changed configuration, however the options name it.
func TestGateChangedFiles(t *testing.T) {
	dir := t.TempDir()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(here, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KEYS_PATH", filepath.Join(dir, "of the environment"))
	for name, option := range map[string]string{
		"absolute":           `{"clientSecret": "${file:` + dir + `/absolute}"}`,
		"relative":           `{"clientSecret": "${file:` + relative + `/relative}"}`,
		"R&D <x>":            `{"clientSecret": "${file:` + dir + `/R&D <x>}"}`,
		"with \" and \\":     `{"clientSecret": "${file:` + dir + `/with \" and \\}"}`,
		"one of a list":      `{"session": {"previousSecrets": ["Wm4kQz7TnX9bLr2vHs6YdF3jPc8gE1ua", "${file:` + dir + `/one of a list}"]}}`,
		"one of several":     `{"authParams": {"x": "y"}, "session": {"previousSecrets": "${file:` + dir + `/one of several},Wm4kQz7TnX9bLr2vHs6YdF3jPc8gE1ua"}}`,
		"keys":               `{"jwt": {"audience": "a", "JWKSFile": "` + relative + `/keys"}}`,
		"of the environment": `{"jwt": {"audience": "a", "jwksFile": "${KEYS_PATH}"}}`,
		"page&.html":         `{"errorPages": {"403": "` + relative + `/page&.html"}}`,
		"page.html":          `{"errorPages": "403=` + relative + `/page.html"}`,
	} {
		if name == "of the environment" && interpreted() {
			continue // whose environment is that of its start
		}
		file := filepath.Join(dir, name)
		write := func(text string) {
			if strings.Contains(option, "wks") || strings.Contains(option, "JWKS") {
				text = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"` + text + `","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("Tq7vX2mKf9RbW4sYzL1nHd8cJ3gP6uEa")
		first, err := findGate(context.Background(), signIn(t, option), "login@file")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if same, _ := findGate(context.Background(), signIn(t, option), "login@file"); same != first {
			t.Errorf("%s: a file that did not change is a new configuration", name)
		}
		write("Vk3hZ8wQn5TjM1xBr7FdL2sYcG9pU4aE0oNi")
		if changed, _ := findGate(context.Background(), signIn(t, option), "login@file"); changed == first {
			t.Errorf("%s: nobody noticed that the file changed", name)
		}
	}
}
