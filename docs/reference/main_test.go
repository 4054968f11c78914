package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func made(t *testing.T) (reference, schema []byte) {
	t.Helper()
	sections, blocks, err := read(sourceFile)
	if err != nil {
		t.Fatal(err)
	}
	schema, err = schemaOf(blocks)
	if err != nil {
		t.Fatal(err)
	}
	return referenceOf(sections, blocks), schema
}

func TestReferenceIsUpToDate(t *testing.T) {
	reference, schema := made(t)
	for name, want := range map[string][]byte{referenceFile: reference, schemaFile: schema} {
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what config.go says (%v); run: go run -C docs/reference .", name, err)
		}
	}
}

// A row of a table has four cells, and code in it is closed; else the rest of the page is garbled.
func TestReferenceTables(t *testing.T) {
	reference, _ := made(t)
	rows := 0
	for _, line := range strings.Split(string(reference), "\n") {
		if !strings.HasPrefix(line, "| <a") {
			continue
		}
		rows++
		if cells := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") - 1; cells != 4 || strings.Count(line, "`")%2 != 0 {
			t.Errorf("%d cells, or code that is not closed: %s", cells, line)
		}
		if strings.ContainsAny(line, "“”") || strings.Contains(line, "Default:") {
			t.Errorf("not rendered: %s", line)
		}
	}
	if rows < 150 {
		t.Errorf("only %d options", rows)
	}
}

func TestSchema(t *testing.T) {
	_, data := made(t)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("oidc.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("oidc.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, options, wantErr string }{
		{"the least", `{"issuer": "https://id.example.com", "clientId": "app", "clientSecret": "${SECRET}"}`, ""},
		{"typed", `{"pkce": false, "maxAge": 5, "scopes": ["openid"], "authParams": {"a": 1}, "session": {"expiry": 5, "secure": true, "store": {"redis": {"endpoints": ["a:1"], "tls": {}}}}, "csrf": {}}`, ""},
		{"text, as labels have it", `{"pkce": "False", "maxAge": "5", "scopes": "openid, email", "errorPages": "401=/a,403=/b", "session": {"expiry": "5", "secure": "1"}, "csrf": "true", "jwt": ""}`, ""},
		{"switched by a word", `{"jwt": true, "csrf": false, "par": true}`, ""},
		{"from the environment", `{"pkce": "${PKCE}", "maxAge": "${AGE}", "session": {"sameSite": "${file:/same}"}, "scopes": ["${S}"]}`, ""},
		{"Hub's second spelling", `{"clientConfig": {"tls": {"caBundle": "PEM"}}}`, ""},
		{"an empty block", `{"session": "", "stateCookie": {}}`, ""},
		{"a misspelt option", `{"claim": "x"}`, "'claim'"},
		{"a misspelt option in a block", `{"session": {"expire": 5}}`, "'expire'"},
		{"a misspelt option in a block with a switch", `{"jwt": {"jwksUri": "x"}}`, "'jwksUri'"},
		{"a misspelt option far below", `{"session": {"store": {"redis": {"endpoints": "a:1", "tls": {"caFile": "x"}}}}}`, "'caFile'"},
		{"another case", `{"clientid": "x"}`, "'clientid'"},
		{"a word for a bool", `{"pkce": "yes"}`, "/pkce"},
		{"a fraction", `{"session": {"expiry": 1.5}}`, "/session/expiry"},
		{"a duration", `{"session": {"expiry": "24h"}}`, "/session/expiry"},
		{"a number too small", `{"session": {"expiry": 0}}`, "/session/expiry"},
		{"a number too large", `{"clientConfig": {"maxRetries": 11}}`, "/clientConfig/maxRetries"},
		{"an unknown word", `{"session": {"sameSite": "loose"}}`, "/session/sameSite"},
		{"an unknown word in a list", `{"jwt": {"algorithms": ["none"]}}`, "/jwt/algorithms"},
		{"an unknown status", `{"errorPages": {"404": "/x"}}`, "404"},
		{"a list for a text", `{"issuer": ["https://id.example.com"]}`, "/issuer"},
		{"Redis nowhere", `{"session": {"store": {"redis": {}}}}`, "endpoints"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var options any
			if err := json.Unmarshal([]byte(test.options), &options); err != nil {
				t.Fatal(err)
			}
			err := schema.Validate(options)
			if test.wantErr == "" && err != nil || test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)) {
				t.Errorf("expected %q, got %v", test.wantErr, err)
			}
		})
	}
}
