package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// jwtNow is when all tokens of these tests are judged.
var jwtNow = time.Unix(1700000000, 0)

// jwtSigners holds one private key for each kind, made when first asked for.
var jwtSigners = map[string]crypto.Signer{}

var jwtSignersMutex sync.Mutex

func jwtSigner(alg string) crypto.Signer {
	jwtSignersMutex.Lock()
	defer jwtSignersMutex.Unlock()
	kind := alg
	if strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS") {
		kind = "RSA"
	}
	if jwtSigners[kind] == nil {
		jwtSigners[kind] = newJWTSigner(alg)
	}
	return jwtSigners[kind]
}

func newJWTSigner(alg string) crypto.Signer {
	var signer crypto.Signer
	if alg == "EdDSA" {
		_, private, _ := ed25519.GenerateKey(rand.Reader)
		signer = private
	} else if alg == "ES256" {
		private, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		signer = private
	} else if alg == "ES384" {
		private, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		signer = private
	} else if alg == "ES512" {
		private, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		signer = private
	} else {
		private, _ := rsa.GenerateKey(rand.Reader, 2048)
		signer = private
	}
	return signer
}

// jwtOf writes a token of any header and payload, with a signature that means nothing.
func jwtOf(header, payload string) string {
	return base64url.EncodeToString([]byte(header)) + "." + base64url.EncodeToString([]byte(payload)) + ".c2lnbmF0dXJl"
}

// jwtWith is a parsed token with the claims that are left when change is laid over base and what is null there is taken out.
// A change to "null" itself is written "NULL".
func jwtWith(t *testing.T, header string, base map[string]any, change string) *token {
	t.Helper()
	changes := map[string]any{}
	if change != "" {
		if err := json.Unmarshal([]byte(change), &changes); err != nil {
			t.Fatalf("%s: %v", change, err)
		}
	}
	claims := map[string]any{}
	for name, value := range base {
		claims[name] = value
	}
	for name, value := range changes {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
		if value == "NULL" {
			claims[name] = nil
		}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parseToken(jwtOf(header, string(payload)))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// wantError fails the test unless err says words, or is nil if words is "".
func wantError(t *testing.T, err error, words string) {
	t.Helper()
	if words == "" && err != nil {
		t.Errorf("unexpected error: %v", err)
	}
	if words != "" && (err == nil || !strings.Contains(err.Error(), words)) {
		t.Errorf("expected an error with %q, got %v", words, err)
	}
	if err != nil && strings.ContainsAny(err.Error(), "\r\n") {
		t.Errorf("not one line: %q", err)
	}
}

// exactly is a token of so many bytes; the payload takes them up, in groups of four, and the signature what is left.
func exactly(header string, size int) string {
	rest := size - len(jwtOf(header, ""))
	payload := `{"a":"` + strings.Repeat("x", rest/4*3-9) + `"}`
	short := jwtOf(header, payload)
	return short + strings.Repeat("A", size-len(short))
}

func TestJWTParse(t *testing.T) {
	const header, payload = `{"alg":"RS256","kid":"k1","typ":"JWT"}`, `{"sub":"alice"}`
	good := jwtOf(header, payload)
	encode := base64url.EncodeToString
	for _, row := range []struct{ name, token, wantErr string }{
		{"a plain token", good, ""},
		{"empty", "", "must have three parts, got 1"},
		{"an opaque token with dots", "hvs.CAES", "must have three parts, got 2"},
		{"five parts", "a.b.c.d.e", "must have three parts, got 5; encrypted"},
		{"very many parts", strings.Repeat(".", 60000), "must have three parts, got 6"},
		{"just 64 KB", exactly(header, maxTokenSize), ""},
		{"just over 64 KB", exactly(header, maxTokenSize+1), "must have at most 65536 bytes, got 65537"},
		{"over 64 KB", jwtOf(header, `{"a":"`+strings.Repeat("x", 64<<10)+`"}`), "must have at most 65536 bytes"},
		{"JSON serialisation", `{"payload":"e30","protected":"e30","signature":""}`, "must have three parts"},
		{"padding in the header", strings.Replace(good, ".", "=.", 1), "header: must be base64url"},
		{"line break in the header", good[:4] + "\n" + good[4:], "header: must be base64url"},
		{"carriage return in the payload", strings.Replace(good, ".", ".\r", 1), "payload: must be base64url"},
		{"line break at the end", good + "\n", "signature: must be base64url"},
		{"space at the front", " " + good, "header: must be base64url"},
		{"base64 with plus", strings.Replace(good, ".c2ln", ".c2l+", 1), "signature: must be base64url"},
		{"stray bits in the signature", good[:strings.LastIndex(good, ".")] + ".QR", "signature: must be base64url"},
		{"header is not JSON", jwtOf("alg", payload), "header: JSON: must be an object"},
		{"header is an array", jwtOf(`["alg"]`, payload), "header: JSON: must be an object"},
		{"payload is a text", encode([]byte(header)) + "." + encode([]byte("Payload")) + ".QQ", "payload: JSON: must be an object"},
		{"payload is null", jwtOf(header, `null`), "payload: JSON: must be an object: got null"},
		{"payload is empty", encode([]byte(header)) + "..QQ", "payload: JSON: must be an object"},
		{"alg none", jwtOf(`{"alg":"none"}`, payload), `alg: not a signature algorithm that is known here, got "none"`},
		{"alg None", jwtOf(`{"alg":"None"}`, payload), `got "None"`},
		{"alg nOnE", jwtOf(`{"alg":"nOnE"}`, payload), `got "nOnE"`},
		{"alg NONE", jwtOf(`{"alg":"NONE"}`, payload), `got "NONE"`},
		{"alg empty", jwtOf(`{"alg":""}`, payload), `got ""`},
		{"alg missing", jwtOf(`{}`, payload), `got null`},
		{"alg in lower case", jwtOf(`{"alg":"rs256"}`, payload), `got "rs256"`},
		{"alg with a space", jwtOf(`{"alg":"RS256 "}`, payload), `got "RS256 "`},
		{"alg is a list", jwtOf(`{"alg":["RS256"]}`, payload), `got ["RS256"]`},
		{"alg of an encrypted token", jwtOf(`{"alg":"RSA-OAEP"}`, payload), `got "RSA-OAEP"`},
		{"alg twice", jwtOf(`{"alg":"none","alg":"RS256"}`, payload), "must not have a name twice"},
		{"alg twice, once escaped", jwtOf(`{"alg":"none","\u0061lg":"RS256"}`, payload), "must not have a name twice"},
		{"Alg beside alg is only another name", jwtOf(`{"alg":"RS256","Alg":"none"}`, payload), ""},
		{"an extension that must be understood", jwtOf(`{"alg":"RS256","crit":["exp"],"exp":1}`, payload), "crit: asks for an extension"},
		{"crit is empty", jwtOf(`{"alg":"RS256","crit":[]}`, payload), "crit: asks for an extension"},
		{"crit is null", jwtOf(`{"alg":"RS256","crit":null}`, payload), "crit: asks for an extension"},
		{"payload is not encoded", jwtOf(`{"alg":"RS256","b64":false}`, payload), "b64: asks for an extension"},
		{"embedded and linked keys are ignored",
			jwtOf(`{"alg":"RS256","jwk":{"kty":"oct"},"jku":"https://evil.example","x5u":"https://evil.example","x5c":["QQ"]}`, payload), ""},
		{"kid of 256 bytes", jwtOf(`{"alg":"RS256","kid":"`+strings.Repeat("k", 256)+`"}`, payload), ""},
		{"kid of 257 bytes", jwtOf(`{"alg":"RS256","kid":"`+strings.Repeat("k", 257)+`"}`, payload), "kid: must be a string of at most 256 bytes"},
		{"kid and typ are null", jwtOf(`{"alg":"RS256","kid":null,"typ":null}`, payload), ""},
		{"kid is a number", jwtOf(`{"alg":"RS256","kid":1}`, payload), "kid: must be a string"},
		{"typ is a list", jwtOf(`{"alg":"RS256","typ":["JWT"]}`, payload), "typ: must be a string"},
		{"sub twice", jwtOf(header, `{"sub":"alice","sub":"bob"}`), "payload: JSON: must not have a name twice"},
	} {
		parsed, err := parseToken(row.token)
		t.Run(row.name, func(t *testing.T) {
			wantError(t, err, row.wantErr)
			if err == nil && parsed.signed+"."+base64url.EncodeToString(parsed.signature) != row.token {
				t.Errorf("taken apart wrongly: %q", parsed.signed)
			}
			if err != nil && strings.Contains(err.Error(), "c2lnbmF0dXJl") {
				t.Errorf("the token is in the error: %v", err)
			}
		})
	}
	parsed, err := parseToken(good)
	if err != nil || parsed.alg != "RS256" || parsed.kid != "k1" || parsed.typ != "JWT" || parsed.claims["sub"] != "alice" ||
		string(parsed.signature) != "signature" {
		t.Errorf("taken apart wrongly: %v %v", parsed.claims, err)
	}
}

// TestJWTSameHeader: what is kept of a header is kept within bounds, and shares nothing between two tokens.
func TestJWTSameHeader(t *testing.T) {
	one, err := parseToken(jwtOf(`{"alg":"RS256","kid":"same"}`, `{"sub":"alice"}`))
	if err != nil {
		t.Fatal(err)
	}
	two, err := parseToken(jwtOf(`{"alg":"RS256","kid":"same"}`, `{"sub":"bob"}`))
	if err != nil {
		t.Fatal(err)
	}
	two.alg = "none"
	three, err := parseToken(jwtOf(`{"alg":"RS256","kid":"same"}`, `{}`))
	if err != nil || one.claims["sub"] != "alice" || two.claims["sub"] != "bob" || three.alg != "RS256" || three.claims["sub"] != nil {
		t.Errorf("mixed up: %v %v %v, %v", one, two, three, err)
	}
	for i := 0; i < 1000; i++ {
		for _, more := range []string{"", strings.Repeat("x", 2000)} {
			if _, err := parseToken(jwtOf(fmt.Sprintf(`{"alg":"RS256","kid":"%d","more":"%s"}`, i, more), `{}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	bytes := 0
	for _, half := range []map[string]cacheEntry{parsedHeaders.young, parsedHeaders.old} {
		for key := range half {
			bytes += len(key)
		}
	}
	if bytes > 2*parsedHeaders.capacity {
		t.Errorf("%d bytes of headers are kept", bytes)
	}
}

func TestJWTStrictJSON(t *testing.T) {
	for _, row := range []struct{ name, text, wantErr string }{
		{"empty object", `{}`, ""},
		{"white space around", " \r\n\t{ \"a\" : 1 }\n", ""},
		{"colons in texts and names", `{"a:b":"c:d::","e":{":":[":",":"]},"f":"https://id.example.com:8443"}`, ""},
		{"escaped colon", `{"a":"x\u003ay\u003A"}`, ""},
		{"escaped colon after an escaped backslash", `{"a":"x\\\u003a"}`, ""},
		{"a backslash, then u003a", `{"a":"CORP\\u003alice"}`, ""},
		{"two backslashes, then u003A", `{"a":"\\\\u003A"}`, ""},
		{"escaped quotation mark before a colon", `{"a":"x\":\"y","b":1}`, ""},
		{"HTML characters", `{"a":"<b>&\u003c\u2028:"}`, ""},
		{"same name in different objects", `{"a":{"a":{"a":1}},"b":{"a":1},"c":[{"a":1},{"a":2}]}`, ""},
		{"name twice", `{"a":1,"a":1}`, ""},
		{"deciding name twice", `{"sub":1,"sub":1}`, "must not have a name twice"},
		{"name twice below", `{"x":{"y":[{"a":1,"a":2}]}}`, ""},
		{"deciding name twice below", `{"x":{"y":[{"kid":1,"kid":2}]}}`, "must not have a name twice"},
		{"name twice, the first one pushed out has members", `{"a":{"b":1,"c":2},"a":3}`, ""},
		{"name twice, the first one pushed out has a deciding member", `{"a":{"sub":1},"a":3}`, "must not have a name twice"},
		{"name twice beside an escaped accent", `{"a":1,"a":2,"b":"Jos\u00e9 \u003cx\u003e","sub":"ada"}`, ""},
		{"name twice beside an escaped letter", `{"a":1,"a":2,"b":"\u0073","sub":"ada"}`, "must not have a name twice"},
		{"name twice beside a backslash and what looks like an escaped letter", `{"a":1,"a":2,"b":"\\u0073","sub":"ada"}`, ""},
		{"name twice beside half a surrogate pair", "{\"a\":\"\ufffd\",\"a\":1,\"sub\":\"a\\ud800\"}", "half a surrogate pair"},
		{"name twice, once escaped", `{"sub":1,"s\u0075b":2}`, "must not have a name twice"},
		{"name twice, made up for by an escaped colon", `{"aud":1,"aud":"\u003a"}`, "must not have a name twice"},
		{"name twice, made up for by an escaped colon elsewhere", `{"aud":1,"aud":2,"b":"\u003A"}`, "must not have a name twice"},
		{"name twice, made up for by a false escape", `{"aud":1,"aud":2,"b":"\\u003a"}`, "must not have a name twice"},
		{"names that both lose half a surrogate pair", `{"\ud800":1,"\ud801":2}`, "half a surrogate pair"},
		{"half a surrogate pair", `{"sub":"a\ud800"}`, "half a surrogate pair"},
		{"whole surrogate pair", `{"sub":"\ud83d\ude00"}`, ""},
		{"replacement character", "{\"sub\":\"\ufffd\"}", ""},
		{"invalid UTF-8", "{\"sub\":\"a\xff\"}", "must be UTF-8"},
		{"invalid UTF-8 in a name", "{\"s\xc0\xafb\":1}", "must be UTF-8"},
		{"byte order mark", "\ufeff{}", "must be an object"},
		{"something after it", `{}{}`, "must end after the object"},
		{"a bracket after it", `{}]`, "must end after the object"},
		{"text after it", `{} x`, "must end after the object"},
		{"NUL after it", "{}\x00", "must end after the object"},
		{"array", `[1]`, "must be an object"},
		{"null", `null`, "must be an object: got null"},
		{"number", `1`, "must be an object"},
		{"empty", ``, "must be an object"},
		{"cut off", `{"a":"`, "must be an object"},
		{"comment", `{"a":1/**/}`, "must be an object"},
		{"comma at the end", `{"a":1,}`, "must be an object"},
		{"single quotes", `{'a':1}`, "must be an object"},
		{"leading zero", `{"a":01}`, "must be an object"},
		{"NaN", `{"a":NaN}`, "must be an object"},
		{"control character", "{\"a\":\"\x01\"}", "must be an object"},
		{"depth of 999", `{"a":` + strings.Repeat("[", 999) + strings.Repeat("]", 999) + `}`, ""},
		{"depth of 1001", `{"a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, "at most 1000 levels deep"},
		{"depth of 300000", strings.Repeat(`{"a":`, 300000), "at most 1000 levels deep"},
		{"20000 objects", `{"a":[` + strings.Repeat("{},", 20000) + `{}]}`, ""},
		{"20000 objects, the last cut off", `{"a":[` + strings.Repeat("{},", 20000) + `{}]`, "must be complete"},
		{"just 4 MB", `{"a":"` + strings.Repeat("x", 4<<20-8) + `"}`, ""},
		{"over 4 MB", `{"a":"` + strings.Repeat("x", 4<<20) + `"}`, "must have at most 4194304 bytes"},
	} {
		object, err := parseObject([]byte(row.text))
		t.Run(row.name, func(t *testing.T) {
			wantError(t, err, row.wantErr)
			if (err == nil) != (object != nil) {
				t.Errorf("object %v with error %v", object, err)
			}
		})
	}
	for _, name := range decisiveNames {
		_, err := parseObject([]byte(`{"` + name + `":1,"other":{},"` + name + `":2}`))
		wantError(t, err, "must not have a name twice")
	}
	if last, err := parseObject([]byte(`{"groups":["a"],"groups":["b"],"sub":"ada"}`)); err != nil || fmt.Sprint(last["groups"]) != "[b]" {
		t.Errorf("the last one counts, got %v, %v", last, err)
	}
	object, err := parseObject([]byte(`{"SUB":"x","ſub":"y","n":12345678901234567890,"f":1e400}`))
	if err != nil || object["sub"] != nil || object["n"] != json.Number("12345678901234567890") || object["f"] != json.Number("1e400") {
		t.Errorf("names must stay apart and numbers as written, got %v, %v", object, err)
	}
}

// idTokenBase are the claims of an ID token that nothing is wrong with.
var idTokenBase = map[string]any{
	"iss": "https://id.example.com/", "aud": "my-app", "sub": "alice", "nonce": "n-0S6", "exp": 1700000300, "iat": 1699999990,
}

func TestJWTID(t *testing.T) {
	age := 300
	hash := sha256.Sum256([]byte("the-access-token"))
	wide := sha512.Sum512([]byte("the-access-token"))
	half, wideHalf := base64url.EncodeToString(hash[:16]), base64url.EncodeToString(wide[:32])
	const rs, es, hs = `{"alg":"RS256"}`, `{"alg":"EdDSA"}`, `{"alg":"HS256"}`
	trustAny := func(r *tokenRules, sent *pendingLogin) { r.trustedAudiences = []string{"*"} }
	for _, row := range []struct {
		name, header, change, wantErr string
		edit                          func(r *tokenRules, sent *pendingLogin)
	}{
		{name: "nothing wrong", header: rs},
		{name: "type JWT", header: `{"alg":"RS256","typ":"JWT"}`},
		{name: "type application/jwt", header: `{"alg":"RS256","typ":"application/jwt"}`},
		{name: "access token", header: `{"alg":"RS256","typ":"at+jwt"}`, wantErr: `typ: expected ["jwt"], got "at+jwt"`},
		{name: "access token, long type", header: `{"alg":"RS256","typ":"application/AT+JWT"}`, wantErr: `typ: expected ["jwt"]`},
		{name: "logout token", header: `{"alg":"RS256","typ":"logout+jwt"}`, wantErr: `typ: expected ["jwt"]`},
		{name: "logout token without type", header: rs, change: `{"events":{}}`, wantErr: "events: must not be"},

		{name: "no issuer", header: rs, change: `{"iss":null}`, wantErr: `issuer: expected "https://id.example.com/", got null`},
		{name: "another issuer", header: rs, change: `{"iss":"https://evil.example"}`, wantErr: `got "https://evil.example"`},
		{name: "issuer without its final slash", header: rs, change: `{"iss":"https://id.example.com"}`, wantErr: "issuer: expected"},
		{name: "issuer in capitals", header: rs, change: `{"iss":"HTTPS://ID.EXAMPLE.COM/"}`, wantErr: "issuer: expected"},
		{name: "issuer is a list", header: rs, change: `{"iss":["https://id.example.com/"]}`, wantErr: "issuer: expected"},
		{name: "second issuer that is trusted", header: rs, change: `{"iss":"https://other.example"}`,
			edit: func(r *tokenRules, sent *pendingLogin) { r.issuers = append(r.issuers, "https://other.example") }},
		{name: "issuer is not checked", header: rs, change: `{"iss":"https://other.example"}`,
			edit: func(r *tokenRules, sent *pendingLogin) { r.issuers = nil }},
		{name: "no issuer is known yet", header: rs, change: `{"iss":""}`, wantErr: "issuer: expected one of []",
			edit: func(r *tokenRules, sent *pendingLogin) { r.issuers = []string{} }},

		{name: "audience is a list of us", header: rs, change: `{"aud":["my-app"]}`},
		{name: "token for someone else", header: rs, change: `{"aud":"other-app"}`, wantErr: `audience: expected "my-app", got "other-app"`},
		{name: "list for someone else", header: rs, change: `{"aud":["other-app"]}`, wantErr: `audience: expected "my-app", got ["other-app"]`},
		{name: "no audience", header: rs, change: `{"aud":null}`, wantErr: "audience: expected"},
		{name: "audience null", header: rs, change: `{"aud":"NULL"}`, wantErr: "audience: expected"},
		{name: "audience empty", header: rs, change: `{"aud":""}`, wantErr: "audience: expected"},
		{name: "audience an empty list", header: rs, change: `{"aud":[]}`, wantErr: "audience: expected"},
		{name: "audience a number", header: rs, change: `{"aud":5}`, wantErr: "audience: expected"},
		{name: "audience an object", header: rs, change: `{"aud":{"my-app":true}}`, wantErr: "audience: expected"},
		{name: "audience with a number in it", header: rs, change: `{"aud":["my-app",5]}`, wantErr: "audience: expected"},
		{name: "audience within a list in it", header: rs, change: `{"aud":[["my-app"]]}`, wantErr: "audience: expected"},
		{name: "a foreign audience besides", header: rs, change: `{"aud":["my-app","other-app"],"azp":"my-app"}`,
			wantErr: `audience: expected only "my-app"`},
		{name: "a trusted audience besides", header: rs, change: `{"aud":["my-app","api"],"azp":"my-app"}`},
		{name: "a trusted audience alone", header: rs, change: `{"aud":"api"}`, wantErr: `audience: expected "my-app"`},
		{name: "several audiences without azp", header: rs, change: `{"aud":["my-app","api"]}`, wantErr: `azp: expected "my-app", got null`},
		{name: "several audiences with a shared secret", header: hs, change: `{"aud":["my-app","api"],"azp":"my-app"}`,
			wantErr: "audience: expected one value with HS256"},
		{name: "one audience with a shared secret", header: hs},
		{name: "any audience is trusted", header: rs, change: `{"aud":["my-app","other-app","project"],"azp":"my-app"}`, edit: trustAny},
		{name: "any audience is trusted, and the token is another client's", header: rs,
			change: `{"aud":["my-app","other-app"],"azp":"other-app"}`, wantErr: `azp: expected "my-app"`, edit: trustAny},
		{name: "any audience is trusted, and nothing says whose the token is", header: rs, change: `{"aud":["my-app","other-app"]}`,
			wantErr: `azp: expected "my-app", got null`, edit: trustAny},
		{name: "any audience is trusted, and we are not among them", header: rs, change: `{"aud":["*","other-app"],"azp":"my-app"}`,
			wantErr: `audience: expected "my-app"`, edit: trustAny},
		{name: "any audience is trusted, with a shared secret", header: hs, change: `{"aud":["my-app","api"],"azp":"my-app"}`,
			wantErr: "audience: expected one value", edit: trustAny},
		{name: "no client to expect", header: rs, wantErr: "audience: no client to expect",
			edit: func(r *tokenRules, sent *pendingLogin) { r.audience = nil }},
		{name: "azp is us", header: rs, change: `{"azp":"my-app"}`},
		{name: "azp is someone else", header: rs, change: `{"azp":"other-app"}`, wantErr: `azp: expected "my-app", got "other-app"`},
		{name: "azp null", header: rs, change: `{"azp":"NULL"}`},
		{name: "events null", header: rs, change: `{"events":"NULL"}`},
		{name: "azp a list", header: rs, change: `{"azp":["my-app"]}`, wantErr: "azp: expected"},

		{name: "expired within the allowance", header: rs, change: `{"exp":1699999941}`},
		{name: "expired just now", header: rs, change: `{"exp":1699999940}`,
			wantErr: "exp: expired 60 s ago, 60 s are allowed; is this machine's clock right?"},
		{name: "expired long ago", header: rs, change: `{"exp":1}`, wantErr: "exp: expired 1699999999 s ago"},
		{name: "no exp", header: rs, change: `{"exp":null}`, wantErr: "exp: required, got null"},
		{name: "exp zero", header: rs, change: `{"exp":0}`, wantErr: "exp: required, got 0"},
		{name: "exp with a fraction", header: rs, change: `{"exp":1700000300.75}`},
		{name: "exp with an exponent", header: rs, change: `{"exp":1.7000003e9}`},
		{name: "exp a text", header: rs, change: `{"exp":"1700000300"}`, wantErr: `exp: must be a date in seconds since 1970, got "1700000300"`},
		{name: "exp null", header: rs, change: `{"exp":"NULL"}`, wantErr: "exp: required, got null"},
		{name: "exp true", header: rs, change: `{"exp":true}`, wantErr: "exp: must be a date"},
		{name: "exp negative", header: rs, change: `{"exp":-1}`, wantErr: "exp: must be a date"},
		{name: "exp in milliseconds", header: rs, change: `{"exp":1700000300000}`, wantErr: "exp: must be a date"},
		{name: "exp huge", header: rs, change: `{"exp":1e300}`, wantErr: "exp: must be a date"},

		{name: "not yet valid", header: rs, change: `{"nbf":1700000061}`,
			wantErr: "nbf: 61 s in the future, 60 s are allowed; is this machine's clock right?"},
		{name: "valid within the allowance", header: rs, change: `{"nbf":1700000060}`},
		{name: "nbf zero, as old Keycloaks write it", header: rs, change: `{"nbf":0}`},
		{name: "nbf null, as java-jwt writes it", header: rs, change: `{"nbf":"NULL"}`},
		{name: "nbf a text", header: rs, change: `{"nbf":"now"}`, wantErr: "nbf: must be a date"},
		{name: "issued in the future", header: rs, change: `{"iat":1700000075}`,
			wantErr: "iat: 75 s in the future, 60 s are allowed; is this machine's clock right?"},
		{name: "issued ten minutes ago", header: rs, change: `{"iat":1699999400}`},
		{name: "issued more than ten minutes ago", header: rs, change: `{"iat":1699999399}`,
			wantErr: "iat: 601 s ago, 600 s are allowed; is this machine's clock right?"},
		{name: "no iat", header: rs, change: `{"iat":null}`, wantErr: "iat: required, got null"},
		{name: "iat a list", header: rs, change: `{"iat":[1]}`, wantErr: "iat: must be a date"},

		{name: "another nonce", header: rs, change: `{"nonce":"n-0S7"}`, wantErr: "nonce: not the one sent"},
		{name: "no nonce", header: rs, change: `{"nonce":null}`, wantErr: "nonce: not the one sent"},
		{name: "nonce a list", header: rs, change: `{"nonce":["n-0S6"]}`, wantErr: "nonce: not the one sent"},
		{name: "no nonce was sent, none came", header: rs, change: `{"nonce":null}`, wantErr: "nonce: not the one sent",
			edit: func(r *tokenRules, sent *pendingLogin) { sent.Nonce = "" }},
		{name: "acr not asked for", header: rs, change: `{"acr":"0"}`},
		{name: "acr as asked for", header: rs, change: `{"acr":"gold"}`,
			edit: func(r *tokenRules, sent *pendingLogin) { sent.ACRValues = []string{"silver", "gold"} }},
		{name: "acr too low", header: rs, change: `{"acr":"0"}`, wantErr: `acr: expected one of ["silver" "gold"], got "0"`,
			edit: func(r *tokenRules, sent *pendingLogin) { sent.ACRValues = []string{"silver", "gold"} }},
		{name: "no acr", header: rs, wantErr: `acr: expected "gold", got null`,
			edit: func(r *tokenRules, sent *pendingLogin) { sent.ACRValues = []string{"gold"} }},
		{name: "auth_time recent", header: rs, change: `{"auth_time":1699999700}`, edit: func(r *tokenRules, sent *pendingLogin) { sent.MaxAge = &age }},
		{name: "auth_time too old", header: rs, change: `{"auth_time":1699999639}`, wantErr: "auth_time: 361 s ago, 360 s are allowed",
			edit: func(r *tokenRules, sent *pendingLogin) { sent.MaxAge = &age }},
		{name: "auth_time in the future", header: rs, change: `{"auth_time":1700000999}`, wantErr: "auth_time: 999 s in the future",
			edit: func(r *tokenRules, sent *pendingLogin) { sent.MaxAge = &age }},
		{name: "no auth_time", header: rs, wantErr: "auth_time: required, got null", edit: func(r *tokenRules, sent *pendingLogin) { sent.MaxAge = &age }},
		{name: "auth_time not asked for", header: rs, change: `{"auth_time":1}`},

		{name: "at_hash of the access token", header: rs, change: `{"at_hash":"` + half + `"}`},
		{name: "at_hash with EdDSA is of SHA-512", header: es, change: `{"at_hash":"` + wideHalf + `"}`},
		{name: "at_hash of the wrong hash", header: es, change: `{"at_hash":"` + half + `"}`, wantErr: "at_hash: not the hash"},
		{name: "at_hash of another token", header: rs, change: `{"at_hash":"` + strings.Repeat("A", 22) + `"}`, wantErr: "at_hash: not the hash"},
		{name: "at_hash null", header: rs, change: `{"at_hash":"NULL"}`},

		{name: "no sub", header: rs, change: `{"sub":null}`, wantErr: "sub: required, got null"},
		{name: "sub empty", header: rs, change: `{"sub":""}`, wantErr: `sub: required, got ""`},
		{name: "sub a number", header: rs, change: `{"sub":5}`, wantErr: "sub: must be a string of at most 255 bytes"},
		{name: "sub null", header: rs, change: `{"sub":"NULL"}`, wantErr: "sub: required, got null"},
		{name: "sub of 255 bytes", header: rs, change: `{"sub":"` + strings.Repeat("s", 255) + `"}`},
		{name: "sub of 256 bytes", header: rs, change: `{"sub":"` + strings.Repeat("s", 256) + `"}`, wantErr: "sub: must be a string of at most 255 bytes"},
		{name: "SUB instead of sub", header: rs, change: `{"sub":null,"SUB":"alice"}`, wantErr: "sub: required"},
		{name: "ſub instead of sub", header: rs, change: `{"sub":null,"ſub":"alice"}`, wantErr: "sub: required"},
	} {
		r := &tokenRules{skew: 60, issuers: []string{"https://id.example.com/"}, audience: []string{"my-app"}, trustedAudiences: []string{"api"}}
		sent := &pendingLogin{Nonce: "n-0S6"}
		if row.edit != nil {
			row.edit(r, sent)
		}
		err := checkIDToken(r, jwtWith(t, row.header, idTokenBase, row.change), sent, "the-access-token", jwtNow)
		t.Run(row.name, func(t *testing.T) { wantError(t, err, row.wantErr) })
	}
}

func TestJWTRefreshedID(t *testing.T) {
	hash := sha256.Sum256([]byte("the-access-token"))
	for _, row := range []struct{ name, first, change, wantErr string }{
		{"nothing wrong", ``, `{"nonce":null}`, ""},
		{"nonce repeated", ``, ``, ""},
		{"another nonce", ``, `{"nonce":"n-0S7"}`, "nonce: not what it was before the refresh"},
		{"a nonce, after a refresh without", `{"nonce":null}`, ``, ""},
		{"another user", ``, `{"sub":"bob"}`, "sub: not what it was before the refresh"},
		{"another user with the same beginning", `{"sub":"` + strings.Repeat("a", 254) + `b"}`, `{"sub":"` + strings.Repeat("a", 254) + `c"}`,
			"sub: not what"},
		{"no user", ``, `{"sub":null}`, "sub: required"},
		{"another trusted issuer", ``, `{"iss":"https://other.example"}`, "iss: not what it was before the refresh"},
		{"another issuer", ``, `{"iss":"https://evil.example"}`, "issuer: expected"},
		{"access token", ``, ``, "typ: expected"},
		{"for someone else", ``, `{"aud":"other-app"}`, "audience: expected"},
		{"for the same, as a list", ``, `{"aud":["my-app"]}`, ""},
		{"for one more who is trusted", `{"azp":"my-app"}`, `{"azp":"my-app","aud":["my-app","friend"]}`, "audience: not what it was before the refresh"},
		{"for one less", `{"azp":"my-app","aud":["my-app","friend"]}`, `{"azp":"my-app"}`, "audience: not what it was before the refresh"},
		{"for another one who is trusted", `{"azp":"my-app","aud":["my-app","friend"]}`, `{"azp":"my-app","aud":["my-app","other friend"]}`,
			"audience: not what it was before the refresh"},
		{"for the same in another order", `{"azp":"my-app","aud":["my-app","friend"]}`, `{"azp":"my-app","aud":["friend","my-app"]}`, ""},
		{"azp kept", `{"azp":"my-app"}`, `{"azp":"my-app"}`, ""},
		{"azp lost", `{"azp":"my-app"}`, ``, "azp: not what it was"},
		{"azp new", ``, `{"azp":"my-app"}`, "azp: not what it was"},
		{"auth_time kept", `{"auth_time":1699990000}`, `{"auth_time":1699990000}`, ""},
		{"auth_time left out", `{"auth_time":1699990000}`, ``, ""},
		{"auth_time new", ``, `{"auth_time":1699990000}`, ""},
		{"auth_time changed", `{"auth_time":1699990000}`, `{"auth_time":1700000000}`, ""},
		{"the old token again", ``, `{"iat":1699990000}`, "iat: 10000 s ago"},
		{"expired", ``, `{"exp":1699990000}`, "exp: expired"},
		{"at_hash fits", ``, `{"at_hash":"` + base64url.EncodeToString(hash[:16]) + `"}`, ""},
		{"at_hash does not fit", ``, `{"at_hash":"x"}`, "at_hash: not the hash"},
		{"logout token", ``, `{"events":{}}`, "events: must not be"},
	} {
		r := &tokenRules{skew: 60, issuers: []string{"https://id.example.com/", "https://other.example"}, audience: []string{"my-app"},
			trustedAudiences: []string{"friend", "other friend"}}
		first := jwtWith(t, `{"alg":"RS256"}`, idTokenBase, row.first)
		header := `{"alg":"RS256"}`
		if row.name == "access token" {
			header = `{"alg":"RS256","typ":"at+jwt"}`
		}
		err := checkRefreshedIDToken(r, jwtWith(t, header, idTokenBase, row.change), first.claims, "the-access-token", jwtNow)
		t.Run(row.name, func(t *testing.T) { wantError(t, err, row.wantErr) })
	}
	// Where any audience is trusted, a new application in the provider's project does not end the session.
	any := &tokenRules{issuers: []string{"https://id.example.com/"}, audience: []string{"my-app"}, trustedAudiences: []string{"*"}}
	for _, row := range []struct{ change, wantErr string }{
		{`{"azp":"my-app","aud":["my-app","project","new app"]}`, ""},
		{`{"azp":"new app","aud":["my-app","project","new app"]}`, "azp: expected"},
		{`{"azp":"my-app","aud":["project","new app"]}`, "audience: expected"},
	} {
		first := jwtWith(t, `{"alg":"RS256"}`, idTokenBase, `{"azp":"my-app","aud":["my-app","project"]}`)
		wantError(t, checkRefreshedIDToken(any, jwtWith(t, `{"alg":"RS256"}`, idTokenBase, row.change), first.claims, "", jwtNow), row.wantErr)
	}
	// Also where issuers are not checked, the issuer stays.
	r := &tokenRules{skew: 60, audience: []string{"my-app"}}
	err := checkRefreshedIDToken(r, jwtWith(t, `{"alg":"RS256"}`, idTokenBase, `{"iss":null}`), idTokenBase, "", jwtNow)
	wantError(t, err, "iss: not what it was before the refresh")
}

func TestJWTLogout(t *testing.T) {
	base := map[string]any{
		"iss": "https://id.example.com/", "aud": "my-app", "sub": "alice", "sid": "s1", "jti": "j1", "exp": 1700000100, "iat": 1700000000,
		"events": map[string]any{logoutEvent: map[string]any{}},
	}
	const plain = `{"alg":"RS256"}`
	for _, row := range []struct {
		name, header, change string
		requireSid           bool
		wantErr              string
	}{
		{"nothing wrong", `{"alg":"RS256","typ":"logout+jwt"}`, ``, true, ""},
		{"no type", plain, ``, false, ""},
		{"type JWT", `{"alg":"RS256","typ":"JWT"}`, ``, false, ""},
		{"access token", `{"alg":"RS256","typ":"at+jwt"}`, ``, false, "typ: expected"},
		{"another issuer", plain, `{"iss":"https://evil.example"}`, false, "issuer: expected"},
		{"for someone else", plain, `{"aud":"other-app"}`, false, "audience: expected"},
		{"for others, too", plain, `{"aud":["my-app","other-app"],"azp":"my-app"}`, false, "audience: expected only"},
		{"expired", plain, `{"exp":1699999000}`, false, "exp: expired 1000 s ago"},
		{"no exp", plain, `{"exp":null}`, false, "exp: required"},
		{"no iat", plain, `{"iat":null}`, false, "iat: required"},
		{"issued in the future", plain, `{"iat":1700000100}`, false, "iat: 100 s in the future"},
		{"issued an hour ago, still valid", plain, `{"iat":1699996400}`, false, ""},
		{"a user only", plain, `{"sid":null}`, false, ""},
		{"a user only, where sessions are required", plain, `{"sid":null}`, true, "sid: required"},
		{"a session only, and a user that is null", plain, `{"sub":"NULL"}`, false, ""},
		{"a session only", plain, `{"sub":null}`, true, ""},
		{"neither user nor session", plain, `{"sub":null,"sid":null}`, false, "sid: required"},
		{"empty user", plain, `{"sub":"","sid":null}`, false, "sid: required"},
		{"session a number", plain, `{"sid":5}`, false, "sid: must be a string"},
		{"user a list", plain, `{"sub":["alice"]}`, false, "sub: must be a string"},
		{"no events: an ID token", plain, `{"events":null}`, false, "events: expected"},
		{"events a list", plain, `{"events":["` + logoutEvent + `"]}`, false, "events: expected"},
		{"another event", plain, `{"events":{"http://schemas.openid.net/event/other":{}}}`, false, "events: expected"},
		{"event null", plain, `{"events":{"` + logoutEvent + `":null}}`, false, "events: expected"},
		{"event true", plain, `{"events":{"` + logoutEvent + `":true}}`, false, "events: expected"},
		{"event with members", plain, `{"events":{"` + logoutEvent + `":{"a":1}}}`, false, ""},
		{"nonce", plain, `{"nonce":"n"}`, false, "nonce: must not be"},
		{"empty nonce", plain, `{"nonce":""}`, false, "nonce: must not be"},
		{"nonce null", plain, `{"nonce":"NULL"}`, false, "nonce: must not be"},
		{"no jti", plain, `{"jti":null}`, false, "jti: required"},
		{"empty jti", plain, `{"jti":""}`, false, "jti: required"},
		{"jti a number", plain, `{"jti":5}`, false, "jti: must be a string"},
	} {
		r := &tokenRules{skew: 60, issuers: []string{"https://id.example.com/"}, audience: []string{"my-app"}}
		err := checkLogoutToken(r, jwtWith(t, row.header, base, row.change), row.requireSid, jwtNow)
		t.Run(row.name, func(t *testing.T) { wantError(t, err, row.wantErr) })
	}
}

func TestJWTAccess(t *testing.T) {
	base := map[string]any{"iss": "https://id.example.com/", "aud": "https://api.example.com", "sub": "alice", "exp": 1700000100}
	const plain = `{"alg":"RS256"}`
	for _, row := range []struct{ name, header, change, wantErr string }{
		{"nothing wrong", `{"alg":"RS256","typ":"at+jwt"}`, ``, ""},
		{"no type", plain, ``, ""},
		{"type JWT", `{"alg":"RS256","typ":"JWT"}`, ``, ""},
		{"long type", `{"alg":"RS256","typ":"application/at+JWT"}`, ``, ""},
		{"logout token", `{"alg":"RS256","typ":"logout+jwt"}`, ``, "typ: expected"},
		{"logout token without type", plain, `{"events":{}}`, "typ: expected an access token"},
		{"ID token with nonce", plain, `{"nonce":"n"}`, "typ: expected an access token, got an ID token"},
		{"ID token with at_hash", plain, `{"at_hash":"x"}`, "typ: expected an access token"},
		{"ID token of Keycloak", plain, `{"typ":"ID"}`, "typ: expected an access token"},
		{"ID token of Cognito", plain, `{"token_use":"id"}`, "typ: expected an access token"},
		{"refresh token of Django", plain, `{"token_type":"refresh"}`, `typ: expected an access token, got "refresh"`},
		{"refresh token of Keycloak", plain, `{"typ":"Refresh"}`, `typ: expected an access token, got "Refresh"`},
		{"access token of Hydra", plain, `{"token_use":"access_token","token_type":"Bearer"}`, ""},
		{"access token of an older Keycloak", plain, `{"nonce":"n","typ":"Bearer"}`, ""},
		{"another issuer", plain, `{"iss":"https://evil.example"}`, "issuer: expected"},
		{"for another API", plain, `{"aud":"https://other.example.com"}`, "audience: expected"},
		{"for several APIs", plain, `{"aud":["https://other.example.com","https://api.example.com"]}`, ""},
		{"no audience", plain, `{"aud":null}`, "audience: expected"},
		{"audience empty", plain, `{"aud":""}`, "audience: expected"},
		{"no exp", plain, `{"exp":null}`, "exp: required"},
		{"expired", plain, `{"exp":1699999900}`, "exp: expired 100 s ago, 60 s are allowed; is this machine's clock right?"},
		{"not yet valid", plain, `{"nbf":1700000100}`, "nbf: 100 s in the future"},
		{"issued long ago", plain, `{"iat":1600000000}`, ""},
		{"issued in the future", plain, `{"iat":1700000100}`, "iat: 100 s in the future"},
		{"iat a text", plain, `{"iat":"x"}`, "iat: must be a date"},
	} {
		r := &tokenRules{skew: 60, issuers: []string{"https://id.example.com/"}, audience: []string{"https://api.example.com"}}
		err := checkAccessToken(r, jwtWith(t, row.header, base, row.change), jwtNow)
		t.Run(row.name, func(t *testing.T) { wantError(t, err, row.wantErr) })
	}
	r := &tokenRules{skew: 60}
	if err := checkAccessToken(r, jwtWith(t, plain, base, `{"iss":"x","aud":null}`), jwtNow); err != nil {
		t.Errorf("what is not configured is not checked: %v", err)
	}
}

// TestJWTErrorsAreShort sees to it that a claim of a stranger cannot fill the log.
func TestJWTErrorsAreShort(t *testing.T) {
	r := &tokenRules{skew: 60, issuers: []string{"https://id.example.com/"}, audience: []string{"my-app"}}
	long := strings.Repeat("x\\n", 9000)
	for _, change := range []string{`{"iss":"` + long + `"}`, `{"aud":["` + long + `"]}`, `{"exp":"` + long + `"}`, `{"sub":"` + long + `"}`} {
		err := checkIDToken(r, jwtWith(t, `{"alg":"RS256"}`, idTokenBase, change), &pendingLogin{Nonce: "n-0S6"}, "", jwtNow)
		if err == nil || len(err.Error()) > 400 || strings.Contains(err.Error(), "\n") {
			t.Errorf("expected a short line, got %d bytes", len(err.Error()))
		}
	}
}

// jwtMAC makes a token with HMAC, which signToken does not offer.
func jwtMAC(secret []byte, alg, payload string) string {
	signed := base64url.EncodeToString([]byte(`{"alg":"`+alg+`"}`)) + "." + base64url.EncodeToString([]byte(payload))
	mac := hmac.New(hashes[alg[2:]].New, secret)
	mac.Write([]byte(signed))
	return signed + "." + base64url.EncodeToString(mac.Sum(nil))
}

// TestJWTDates: the first and the last second that a date can name are dates (RFC 7519 2).
func TestJWTDates(t *testing.T) {
	for _, row := range []struct {
		number string
		want   int64
		isGood bool
	}{{"0", 0, true}, {"1", 1, true}, {fmt.Sprint(int64(maxNumericDate)), maxNumericDate, true},
		{fmt.Sprint(int64(maxNumericDate) + 1), 0, false}, {"-1", 0, false},
		{"1.9", 1, true}, {"-0.5", 0, false}, {"1e300", 0, false}, {"NaN", 0, false}} {
		got, err := numericDate(map[string]any{"exp": json.Number(row.number)}, "exp")
		if (err == nil) != row.isGood || row.isGood && got != row.want {
			t.Errorf("%s: got %d, %v", row.number, got, err)
		}
	}
}

// TestJWTClockSkew: how far clocks may differ is the operator's to say.
func TestJWTClockSkew(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		skew any
		late int64
		in   bool
	}{{nil, 30, true}, {nil, 90, false}, {0, 5, false}, {"120", 90, true}, {300, 290, true}, {300, 310, false}} {
		options := jwtOptions(map[string]any{"signingSecret": tokenSecret})
		options["clockSkewSeconds"] = row.skew
		s := start(t, options)
		for _, claims := range []map[string]any{{"exp": time.Now().Unix() - row.late}, {"nbf": time.Now().Unix() + row.late + 1},
			{"iat": time.Now().Unix() + row.late + 1}} {
			r := bearer(t, s, sharedToken(claims))
			if r.isUpstream() != row.in {
				t.Errorf("skew %v, %v: expected in: %v\n%s", row.skew, claims, row.in, r.story())
			}
		}
	}
	for _, wrong := range []any{301, -1, 1000, "x"} {
		options := jwtOptions(map[string]any{"signingSecret": tokenSecret})
		options["clockSkewSeconds"] = wrong
		refused(t, options, "clockSkewSeconds: must be")
	}
}

// tokenKinds are tokens as providers make them, without the claims that tell no kinds. aud is app where it is the sign-in's client. What
// is wanted is a part of the refusal, "" for a token that is good; docs/apis.md has a row for each provider.
var tokenKinds = []struct{ provider, kind, header, claims, wantErr string }{
	{"Keycloak", "access", `{"typ":"JWT"}`, `{"typ":"Bearer","aud":"account","azp":"app","scope":"openid email","sid":"s","acr":"1"}`, ""},
	{"Keycloak", "access, for the client", `{"typ":"JWT"}`, `{"typ":"Bearer","aud":"app","azp":"app","sid":"s"}`, ""},
	{"Keycloak", "access, older, with nonce", `{"typ":"JWT"}`, `{"typ":"Bearer","aud":"app","azp":"app","nonce":"n"}`, ""},
	{"Keycloak", "access, as at+jwt", `{"typ":"at+jwt"}`, `{"aud":"app","client_id":"app","azp":"app"}`, ""},
	{"Keycloak", "ID", `{"typ":"JWT"}`, `{"typ":"ID","aud":"app","azp":"app","nonce":"n","at_hash":"h"}`, `an ID token`},
	{"Keycloak", "ID, refreshed", `{"typ":"JWT"}`, `{"typ":"ID","aud":"app","azp":"app"}`, `an ID token`},
	{"Keycloak", "ID, of another client", `{"typ":"JWT"}`, `{"typ":"ID","aud":"other","azp":"other"}`, `got "ID"`},
	{"Keycloak", "refresh", `{"typ":"JWT"}`, `{"typ":"Refresh","aud":"https://id/realms/main","azp":"app","scope":"openid"}`, `got "Refresh"`},
	{"Keycloak", "offline", `{"typ":"JWT"}`, `{"typ":"Offline","aud":"https://id/realms/main","azp":"app"}`, `got "Offline"`},
	{"Keycloak", "logout", `{"typ":"JWT"}`, `{"typ":"Logout","aud":"app","events":{"http://schemas.openid.net/event/backchannel-logout":{}}}`, `token`},
	{"Keycloak", "e-mail action", `{"typ":"JWT"}`, `{"typ":"verify-email","aud":"x"}`, `got "verify-email"`},
	{"Keycloak", "registration", `{"typ":"JWT"}`, `{"typ":"RegistrationAccessToken","aud":"x"}`, `got "RegistrationAccessToken"`},
	{"Keycloak", "access, bound by DPoP", `{"typ":"JWT"}`, `{"typ":"DPoP","aud":"account","scope":"openid","cnf":{"jkt":"k"}}`, `got "DPoP"`},
	{"Auth0", "access", `{"typ":"JWT"}`, `{"aud":["https://api","https://t/userinfo"],"azp":"app","scope":"openid"}`, ""},
	{"Auth0", "access, RFC 9068", `{"typ":"at+jwt"}`, `{"aud":"https://api","client_id":"app","jti":"j"}`, ""},
	{"Auth0", "ID", `{"typ":"JWT"}`, `{"aud":"app","sid":"s","nonce":"n","name":"Ada"}`, `an ID token`},
	{"Auth0", "ID, refreshed", `{"typ":"JWT"}`, `{"aud":"app","sid":"s","name":"Ada","email":"ada@example.com"}`, `an ID token`},
	{"Okta", "access", `{}`, `{"ver":1,"jti":"AT.1","aud":"api://default","cid":"app","uid":"u","scp":["openid"]}`, ""},
	{"Okta", "ID, refreshed", `{}`, `{"ver":1,"jti":"ID.1","aud":"app","amr":["pwd"],"at_hash":"h"}`, `an ID token`},
	{"Entra ID", "access, v1", `{"typ":"JWT"}`, `{"ver":"1.0","aud":"app","appid":"other","appidacr":"1","scp":"read"}`, ""},
	{"Entra ID", "access, v2", `{"typ":"JWT"}`, `{"ver":"2.0","aud":"app","azp":"other","azpacr":"0","scp":"read"}`, ""},
	{"Entra ID", "access, of an application", `{"typ":"JWT"}`, `{"ver":"2.0","aud":"app","azp":"other","azpacr":"1","roles":["r"],"idtyp":"app"}`, ""},
	{"Entra ID", "ID", `{"typ":"JWT"}`, `{"ver":"2.0","aud":"app","nonce":"n","oid":"o","tid":"t","roles":["r"]}`, `an ID token`},
	{"Entra ID", "ID, refreshed", `{"typ":"JWT"}`, `{"ver":"2.0","aud":"app","oid":"o","tid":"t","roles":["r"],"rh":"r","uti":"u"}`, `an ID token`},
	{"Entra ID", "access, bound (PoP)", `{"typ":"JWT"}`, `{"ver":"1.0","aud":"api","appid":"a","scp":"read","cnf":{"kid":"k"}}`,
		`cnf: bound to the key of its sender`},
	{"Azure AD B2C", "access", `{"typ":"JWT"}`, `{"ver":"1.0","aud":"api","azp":"app","scp":"read","nonce":"n","tfp":"B2C_1_in"}`, ""},
	{"Azure AD B2C", "access, for the client", `{"typ":"JWT"}`,
		`{"ver":"1.0","aud":"app","azp":"app","scp":"read write","nonce":"n","tfp":"B2C_1_in"}`, ""},
	{"Azure AD B2C", "ID", `{"typ":"JWT"}`, `{"ver":"1.0","aud":"app","nonce":"n","tfp":"B2C_1_in","at_hash":"h"}`, `an ID token`},
	{"Azure AD B2C", "ID, of another client", `{"typ":"JWT"}`, `{"ver":"1.0","aud":"other","nonce":"n","tfp":"B2C_1_in"}`, `an ID token`},
	{"Amazon Cognito", "access", `{}`, `{"token_use":"access","client_id":"app","scope":"openid","origin_jti":"j"}`, ""},
	{"Amazon Cognito", "ID", `{}`, `{"token_use":"id","aud":"app","cognito:username":"ada","origin_jti":"j"}`, `an ID token`},
	{"Amazon Cognito", "ID, of another client", `{}`, `{"token_use":"id","aud":"other"}`, `got "id"`},
	{"Ory Hydra", "access", `{"typ":"JWT"}`, `{"aud":[],"client_id":"app","scp":["openid"],"ext":{}}`, ""},
	{"Ory Hydra", "ID, refreshed", `{"typ":"JWT"}`, `{"aud":["app"],"rat":1,"sid":"s","at_hash":"h"}`, `an ID token`},
	{"Ory Hydra", "refresh, as introspection tells", `{}`, `{"token_use":"refresh_token","client_id":"app","scope":"openid"}`, `got "refresh_token"`},
	{"ZITADEL", "access", `{"typ":"JWT"}`, `{"aud":["app"],"client_id":"app","jti":"j","nbf":1700000000}`, ""},
	{"ZITADEL", "ID", `{"typ":"JWT"}`, `{"aud":["app"],"client_id":"app","azp":"app","at_hash":"h","nonce":"n"}`, `an ID token`},
	{"ZITADEL", "ID, refreshed, without at_hash", `{"typ":"JWT"}`, `{"aud":["app"],"client_id":"app","azp":"app"}`, `an ID token`},
	{"Authentik", "access", `{"typ":"JWT"}`, `{"aud":"app","azp":"app","uid":"u","scope":"openid email","nonce":"n"}`, ""},
	{"Authentik", "ID", `{"typ":"JWT"}`, `{"aud":"app","nonce":"n","at_hash":"h"}`, `an ID token`},
	{"Authelia", "access", `{"typ":"at+jwt"}`, `{"aud":["https://api"],"client_id":"app","scp":["openid"]}`, ""},
	{"Authelia", "ID, refreshed", `{"typ":"JWT"}`, `{"aud":["app"],"azp":"app","at_hash":"h","client_id":"app"}`, `an ID token`},
	{"Dex", "ID, also as access token", `{}`, `{"aud":"app","at_hash":"h","nonce":"n"}`, `an ID token`},
	{"Google", "ID", `{"typ":"JWT"}`, `{"aud":"app","azp":"app","at_hash":"h"}`, `an ID token`},
	{"Google", "ID, of a service account", `{"typ":"JWT"}`, `{"aud":"app","azp":"100","sub":"100","email":"x@y.iam.gserviceaccount.com"}`,
		`an ID token`},
	{"GitLab", "ID, refreshed", `{"typ":"JWT"}`, `{"aud":"app","auth_time":1700000000,"sub_legacy":"x","groups_direct":[]}`, `an ID token`},
	{"Curity", "access", `{}`, `{"purpose":"access_token","aud":"app","scope":"openid","client_id":"app"}`, ""},
	{"Curity", "ID", `{}`, `{"purpose":"id","aud":"app"}`, `an ID token`},
	{"Curity", "ID, of another client", `{}`, `{"purpose":"id","aud":"other"}`, `got "id"`},
	{"node oidc-provider", "access", `{"typ":"at+jwt"}`, `{"aud":"https://api","client_id":"app","jti":"j","scope":"read"}`, ""},
	{"node oidc-provider", "ID, refreshed", `{}`, `{"aud":"app","at_hash":"h"}`, `an ID token`},
	{"node oidc-provider", "logout", `{"typ":"logout+jwt"}`,
		`{"aud":"app","events":{"http://schemas.openid.net/event/backchannel-logout":{}}}`, `token`},
	{"node oidc-provider", "access, bound by DPoP", `{"typ":"at+jwt"}`,
		`{"aud":"https://api","client_id":"app","scope":"read","cnf":{"jkt":"k"}}`, `cnf: bound to the key of its sender`},
	{"node oidc-provider", "access, bound by a certificate", `{"typ":"at+jwt"}`,
		`{"aud":"https://api","client_id":"app","cnf":{"x5t#S256":"k"}}`, `cnf: bound to the key of its sender`},
	{"Django and Flask", "access", `{"typ":"JWT"}`, `{"token_type":"access","user_id":1}`, ""},
	{"Django and Flask", "refresh", `{"typ":"JWT"}`, `{"token_type":"refresh","user_id":1}`, `got "refresh"`},
	{"Django and Flask", "access, of Flask", `{"typ":"JWT"}`, `{"type":"access","fresh":false,"csrf":"x"}`, ""},
	{"Django and Flask", "refresh, of Flask", `{"typ":"JWT"}`, `{"type":"refresh","fresh":false}`, `got "refresh"`},
	{"AD FS", "access", `{"typ":"JWT"}`, `{"aud":"app","apptype":"Confidential","appid":"app","scp":"openid","ver":"1.0"}`, ""},
	{"AD FS", "ID, refreshed", `{"typ":"JWT"}`, `{"aud":"app","auth_time":1700000000,"upn":"ada@example.com","unique_name":"EX\\ada","sid":"S-1"}`, `an ID token`},
	{"Kanidm", "access", `{"typ":"at+jwt"}`, `{"aud":"app","client_id":"app","jti":"j","scope":["openid"],"nonce":"n"}`, ""},
	{"Kanidm", "ID, refreshed", `{}`, `{"aud":"app","azp":"app","nbf":1700000000,"auth_time":1700000000}`, `an ID token`},
	{"Logto", "access", `{"typ":"at+jwt"}`, `{"aud":"https://api","client_id":"app","jti":"j","scope":"read"}`, ""},
	{"Logto", "ID, refreshed", `{}`, `{"aud":"app","at_hash":"h","roles":["admin"]}`, `an ID token`},
	{"Pocket ID", "access", `{"typ":"JWT"}`, `{"type":"oauth-access-token","aud":["app"]}`, ""},
	{"Pocket ID", "ID, refreshed", `{"typ":"JWT"}`, `{"type":"id-token","aud":["app"]}`, `an ID token`},
	{"Pocket ID", "ID, of another client", `{"typ":"JWT"}`, `{"type":"id-token","aud":["other"]}`, `got "id-token"`},
	{"Pocket ID", "refresh", `{"typ":"JWT"}`, `{"type":"refresh-token","aud":["app"],"rt":"r"}`, `got "refresh-token"`},
	{"Casdoor", "access, which is the ID token as well", `{"typ":"JWT"}`, `{"tokenType":"access-token","aud":["app"],"nonce":"n"}`, ""},
	{"Casdoor", "refresh", `{"typ":"JWT"}`, `{"tokenType":"refresh-token","aud":["app"]}`, `got "refresh-token"`},
	{"Descope", "access", `{"typ":"JWT"}`, `{"drn":"DS","aud":["P2x"]}`, ""},
	{"Descope", "refresh", `{"typ":"JWT"}`, `{"drn":"DSR","aud":["P2x"]}`, `got "DSR"`},
	{"Spring and UAA", "access", `{"typ":"JWT"}`, `{"scope":["read"],"client_id":"app","user_name":"ada"}`, ""},
	{"Spring and UAA", "refresh, of Spring", `{"typ":"JWT"}`, `{"scope":["read"],"client_id":"app","ati":"j"}`, `got a refresh token`},
	{"Spring and UAA", "refresh, of UAA", `{"typ":"JWT"}`, `{"granted_scopes":["read"],"cid":"app"}`, `got a refresh token`},
	{"Kubernetes", "service account", `{}`, `{"aud":["https://kubernetes.default.svc"],"kubernetes.io":{"namespace":"default"}}`, ""},
	{"GitHub Actions and GitLab CI", "workflow", `{"typ":"JWT"}`, `{"aud":"https://api","repository":"a/b","ref":"refs/heads/main"}`, ""},
	{"Cloudflare Access", "application", `{}`, `{"aud":["32 letters"],"type":"app","identity_nonce":"n","country":"DE"}`, ""},
	{"Supabase", "access", `{"typ":"JWT"}`, `{"aud":"authenticated","role":"authenticated","session_id":"s","amr":[{"method":"password"}]}`, ""},
	{"every provider", "security event", `{"typ":"secevent+jwt"}`, `{"aud":"app","events":{}}`, `token`},
	{"every provider", "proof of DPoP", `{"typ":"dpop+jwt"}`, `{"htm":"GET"}`, `typ: expected`},
	{"every provider", "sign-in request", `{"typ":"oauth-authz-req+jwt"}`, `{"aud":"x"}`, `typ: expected`},
	{"every provider", "answer of introspection", `{"typ":"token-introspection+jwt"}`, `{"aud":"x"}`, `typ: expected`},
}

// TestJWTKinds: an access token is let in, everything else is not. The documentation names every provider of this table.
func TestJWTKinds(t *testing.T) {
	page, err := os.ReadFile("docs/apis.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range tokenKinds {
		row := row
		t.Run(row.provider+" "+row.kind, func(t *testing.T) {
			if !strings.Contains(string(page), "\n| "+row.provider+" | ") {
				t.Errorf("docs/apis.md has no row for %s", row.provider)
			}
			header := strings.Replace(row.header, "{", `{"alg":"RS256",`, 1)
			base := map[string]any{"iss": "https://id.example.com", "sub": "ada", "exp": 1700000100, "iat": 1700000000}
			made := jwtWith(t, strings.Replace(header, ",}", "}", 1), base, row.claims)
			wantError(t, checkAccessToken(&tokenRules{skew: 60, client: "app"}, made, jwtNow), row.wantErr)
			isID := strings.HasPrefix(row.kind, "ID")
			lenient := row.wantErr
			if isID {
				lenient = ""
			}
			wantError(t, checkAccessToken(&tokenRules{skew: 60, client: "app", acceptsIDTokens: true}, made, jwtNow), lenient)
		})
	}
}

// TestJWTKindsBesideSignIn: the ID token that a sign-out shows to the whole world is no access token, also one without nonce.
func TestJWTKindsBesideSignIn(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	now := time.Now().Unix()
	refreshed := map[string]any{"iss": p.issuer, "aud": p.clientID, "iat": now, "auth_time": now, "email": "ada@example.com"}
	s := start(t, p.options(map[string]any{"jwt": map[string]any{}, "forwardHeaders": map[string]any{"X-User": "sub"}}))
	bearer(t, s, signed(p.key, nil, refreshed)).challenged(401, badToken, "typ: expected an access token, got an ID token; see jwt.acceptIdTokens")
	bearer(t, s, signed(p.key, nil, mergeClaims(refreshed, map[string]any{"scope": "openid"}))).accepted("ada")
	bearer(t, s, signed(p.key, map[string]any{"typ": "at+jwt"}, refreshed)).accepted("ada")

	cognito := map[string]any{"iss": p.issuer, "token_use": "access", "client_id": p.clientID, "scope": "openid", "iat": now}
	bearer(t, s, signed(p.key, nil, cognito)).accepted("ada")
	bearer(t, s, signed(p.key, nil, mergeClaims(cognito, map[string]any{"client_id": "other"}))).challenged(401, badToken, "audience: expected")
	bearer(t, s, signed(p.key, nil, mergeClaims(cognito, map[string]any{"aud": ""}))).challenged(401, badToken, "audience: expected")
	elsewhere := start(t, p.options(map[string]any{"jwt": map[string]any{"audience": "api"}}))
	bearer(t, elsewhere, signed(p.key, nil, cognito)).challenged(401, badToken, "audience: expected")

	s = start(t, p.options(map[string]any{"jwt": map[string]any{"acceptIdTokens": true}, "forwardHeaders": map[string]any{"X-User": "sub"}}))
	s.expectLog(`jwt.acceptIdTokens: ID tokens are accepted as access tokens`)
	bearer(t, s, signed(p.key, nil, refreshed)).accepted("ada")
	bearer(t, s, signed(p.key, nil, mergeClaims(refreshed, map[string]any{"nonce": "n", "at_hash": "h"}))).accepted("ada")
	bearer(t, s, signed(p.key, nil, mergeClaims(refreshed, map[string]any{"aud": "other"}))).challenged(401, badToken, "audience: expected")
	bearer(t, s, signed(p.key, nil, mergeClaims(refreshed, map[string]any{"typ": "Refresh"}))).challenged(401, badToken, `got "Refresh"`)
	refused(t, jwtOptions(map[string]any{"issuer": p.issuer, "acceptIdTokens": true}), "jwt.audience: required with acceptIdTokens")
}
