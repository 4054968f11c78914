package oidc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
)

// FuzzJWT: whatever a stranger sends, parsing ends, and what is accepted can be written in one way only.
func FuzzJWT(f *testing.F) {
	data, err := os.ReadFile("testdata/jws.json")
	if err != nil {
		f.Fatal(err)
	}
	var vectors []struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		f.Fatal(err)
	}
	for _, v := range vectors {
		f.Add(v.Token)
	}
	f.Add(jwtOf(`{"alg":"none"}`, `{}`))
	f.Add(jwtOf(`{"alg":"RS256","crit":["b64"],"b64":false}`, `{"aud":[],"exp":1e400}`))
	f.Add(strings.Repeat(".", 10))
	f.Fuzz(func(t *testing.T, raw string) {
		parsed, err := parseToken(raw)
		if (err == nil) != (parsed != nil) {
			t.Fatalf("token %v with error %v", parsed != nil, err)
		}
		if err != nil {
			return
		}
		if algorithms[parsed.alg] == "" || len(parsed.kid) > maxKeyID {
			t.Fatalf("alg %q, kid %q", parsed.alg, parsed.kid)
		}
		parts := strings.Split(raw, ".")
		payload, err := base64url.DecodeString(parts[1])
		if err != nil || len(parts) != 3 || base64url.EncodeToString(payload) != parts[1] ||
			parsed.signed+"."+base64url.EncodeToString(parsed.signature) != raw {
			t.Fatalf("%q can be written differently", raw)
		}
		// No claims may make a check panic, and none of these rules accepts without an issuer.
		r := &tokenRules{skew: 60, issuers: []string{"https://id.example.com"}, audience: []string{"my-app"}}
		fine := checkIDToken(r, parsed, &pendingLogin{Nonce: "n"}, "", jwtNow) == nil
		fine = checkAccessToken(r, parsed, jwtNow) == nil || fine
		fine = checkLogoutToken(r, parsed, true, jwtNow) == nil || fine
		fine = checkRefreshedIDToken(r, parsed, parsed.claims, "x", jwtNow) == nil || fine
		if fine && parsed.claims["iss"] != "https://id.example.com" {
			t.Fatalf("accepted: %s", payload)
		}
	})
}

// FuzzStrictJSON compares parseObject, which counts colons, with a reader that looks at each name.
func FuzzStrictJSON(f *testing.F) {
	for _, text := range []string{
		`{}`, `{"a":1}`, `{"a":1,"a":2}`, `{"a":"\u003a","a":1}`, `{"a":"\\u003a"}`, `{"a":{"b":[{"c":":"},{"c":1,"\u0063":2}]}}`,
		`{"sub":1,"s\u0075b":2}`, `{"sub":"\\","sub":"\\\"sub\""}`, `{"a":{"sub":1},"a":{}}`, `{"address":{"street":1,"street":2}}`,
		`{"\ud800":1,"\udc00":2}`, `{"a":"\ufffd"}`, `[]`, `null`, `{}x`, "{\"\xff\":1}", `{"a":"\\\u003A:\""}`, jwtTypical,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		object, err := parseObject(data)
		if (err == nil) != (object != nil) {
			t.Fatalf("object %v with error %v", object, err)
		}
		if !json.Valid(data) {
			if err == nil {
				t.Fatalf("accepted %q", data)
			}
			return
		}
		names := namesTwice(data)
		for _, name := range decisiveNames {
			if names[name] && err == nil {
				t.Fatalf("%s twice is accepted: %q", name, data)
			}
		}
		var last map[string]any
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		if bad := decoder.Decode(&last); err == nil && (bad != nil || !reflect.DeepEqual(object, last)) {
			t.Fatalf("%q is read as %v, not %v", data, object, last)
		}
		if len(names) == 0 && err != nil && strings.Contains(err.Error(), "a name twice") {
			t.Fatalf("no name twice, yet refused: %q", data)
		}
	})
}

// namesTwice reads valid JSON token by token.
func namesTwice(data []byte) map[string]bool {
	twice := map[string]bool{}
	decoder := json.NewDecoder(bytes.NewReader(data))
	type level struct {
		names map[string]bool // nil: an array
		value bool            // the next token is a value
	}
	var levels []*level
	for {
		tok, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return twice
		}
		if err != nil {
			return twice
		}
		top := &level{}
		if len(levels) > 0 {
			top = levels[len(levels)-1]
		}
		delim, isDelim := tok.(json.Delim)
		if isDelim && (delim == '}' || delim == ']') {
			levels = levels[:len(levels)-1]
			continue
		}
		if name, ok := tok.(string); ok && top.names != nil && !top.value {
			if top.names[name] {
				twice[name] = true
			}
			top.names[name] = true
			top.value = true
			continue
		}
		top.value = false
		if isDelim && delim == '{' {
			levels = append(levels, &level{names: map[string]bool{}})
		}
		if isDelim && delim == '[' {
			levels = append(levels, &level{})
		}
	}
}

// FuzzJWKS: a key that is accepted never makes a verification panic.
func FuzzJWKS(f *testing.F) {
	for _, alg := range []string{"RS256", "ES256", "ES512", "EdDSA"} {
		f.Add([]byte(`{"keys":[` + jwkOf(jwtSigner(alg), `,"kid":"k","use":"sig","alg":"`+alg+`"`) + `]}`))
	}
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"},{"kty":"EC","crv":"P-256"},{"kty":"RSA","n":"AQAB"},{"kty":"oct","k":"AA"},null,5]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeySet(data)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys with error %v", len(keys), err)
		}
		for _, k := range keys {
			for alg := range algorithms {
				forged := &token{signed: "e30.e30", alg: alg, signature: make([]byte, 64)}
				if verifySignature(forged, k) == nil {
					t.Fatalf("zeros are a signature of %s", alg)
				}
			}
		}
	})
}
