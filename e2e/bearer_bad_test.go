package e2e

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// What is sent to confuse, through a real Traefik: each case names the status, the challenge and the line in Traefik's log.
// Token endpoints that answer nonsense are in TestClientCredentialsBadAnswers.

// badRow is a request that must be refused.
type badRow struct {
	name   string
	lines  []string // of the header
	query  string
	status int
	code   string // in the challenge
	line   string // in the log, after the address and the status
}

// refuseAll sends each row's request to a path of its own, by which its line in the log is found.
func refuseAll(t *testing.T, v *visitor, rows []badRow) {
	t.Helper()
	for i, row := range rows {
		path := fmt.Sprintf("/bad-%d", i)
		page := v.call(http.MethodGet, path+row.query, "", row.lines...)
		challenge := `Bearer realm="NAME"`
		if row.code != "" {
			challenge += fmt.Sprintf(", error=%q", row.code)
		}
		if row.status == http.StatusServiceUnavailable {
			challenge = ""
			if page.Header.Get("Retry-After") == "" {
				t.Errorf("%s: no Retry-After", row.name)
			}
		}
		if got := strings.ReplaceAll(page.Header.Get("WWW-Authenticate"), v.app.name, "NAME"); page.Status != row.status || got != challenge || v.outcome(page) == in {
			t.Errorf("%s: got %d with %q, want %d with %q", row.name, page.Status, got, row.status, challenge)
		}
		line := fmt.Sprintf("GET %s: %d: %s", path, row.status, row.line)
		if log := strings.ReplaceAll(v.app.log(), `\`, ""); !strings.Contains(log, line) {
			t.Errorf("%s: no line with %s in\n%s", row.name, line, log)
		}
	}
	if log := v.app.log(); strings.Contains(log, "eyJ") {
		t.Errorf("a token is in the log:\n%s", log)
	}
}

// forge is a compact JWS of any header, signed by whatever sign is.
func forge(t *testing.T, header, claims map[string]any, sign func(text []byte) []byte) string {
	t.Helper()
	var parts []string
	for _, part := range []map[string]any{header, claims} {
		text, err := json.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(text))
	}
	text := strings.Join(parts, ".")
	return text + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(text)))
}

// TestBearerBadJWT: what a token says of its own signature counts for nothing.
func TestBearerBadJWT(t *testing.T) {
	t.Parallel()
	l := start(t)
	p := newProvider(t, provider.Options{})
	res, err := http.Get(p.Issuer + "/jwks")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var set jose.JSONWebKeySet
	if err := json.NewDecoder(res.Body).Decode(&set); err != nil || len(set.Keys) != 1 {
		t.Fatalf("the provider's keys: %v, %v", set, err)
	}
	published := set.Keys[0]
	public := published.Key.(*rsa.PublicKey)
	claims := map[string]any{"iss": p.Issuer, "sub": "user-alice", "aud": "api", "exp": time.Now().Add(time.Hour).Unix()}
	good, err := p.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	var rows []badRow
	add := func(name, line string, token string) {
		rows = append(rows, badRow{name, []string{"Authorization: Bearer " + token}, "", 401, "invalid_token", "invalid_token: " + line})
	}

	for _, none := range []string{"none", "None", "nOnE", "NONE", ""} {
		for _, signature := range []string{"", "x"} {
			add("alg "+none+" "+signature, fmt.Sprintf("alg: not a signature algorithm that is known here, got %q", none),
				forge(t, map[string]any{"alg": none, "kid": published.KeyID}, claims, func([]byte) []byte { return []byte(signature) }))
		}
	}

	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(public)
	jwk, err := published.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	modulus := base64.RawURLEncoding.EncodeToString(public.N.Bytes())
	for name, secret := range map[string][]byte{
		"the key as PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), "as PKCS #1 PEM": pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}),
		"as DER": spki, "as PKCS #1 DER": pkcs1, "its modulus": public.N.Bytes(), "its modulus as text": []byte(modulus), "as JWK": jwk, "nothing": {},
	} {
		for _, kid := range []string{published.KeyID, ""} {
			add("HMAC with "+name, `alg: expected one of ["RS256"`, forge(t, map[string]any{"alg": "HS256", "kid": kid}, claims, func(text []byte) []byte {
				mac := hmac.New(sha256.New, secret)
				mac.Write(text)
				return mac.Sum(nil)
			}))
		}
	}

	own := newKey(t, "RS256")
	ownJWK := jose.JSONWebKey{Key: own.Public(), KeyID: "mine", Use: "sig", Algorithm: "RS256"}
	for name, header := range map[string]map[string]any{
		"an embedded jwk": {"jwk": ownJWK}, "an embedded jwk under a name": {"jwk": ownJWK, "kid": "mine"}, "a jku": {"jku": p.Issuer + "/mine", "kid": "mine"},
		"an x5c": {"x5c": []string{base64.StdEncoding.EncodeToString(spki)}}, "an x5u": {"x5u": p.Issuer + "/mine"}, "an unknown key": {"kid": "mine"},
		"a foreign key under the right name": {"kid": published.KeyID}, "a path as name": {"kid": "../../../../dev/null"},
	} {
		header["alg"] = "RS256"
		line := `signature: `
		if kid := header["kid"]; kid != nil && kid != published.KeyID {
			line = fmt.Sprintf("signature: none of the issuer's 1 keys is %q for RS256", kid)
		}
		add(name, line, forge(t, header, claims, func(text []byte) []byte {
			digest := sha256.Sum256(text)
			signature, err := own.Sign(rand.Reader, digest[:], crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			return signature
		}))
	}
	add("an extension", "crit: asks for an extension, none is understood", forge(t, map[string]any{"alg": "RS256", "crit": []string{"b64"}, "b64": false}, claims, func([]byte) []byte { return nil }))
	changed := strings.Split(good, ".")
	changed[1] = base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"iss":%q,"sub":"root","aud":"api","exp":%d}`, p.Issuer, time.Now().Add(time.Hour).Unix()))
	add("a changed payload", "signature: does not match", strings.Join(changed, "."))
	add("five parts", "token: must have three parts, got 5; encrypted tokens", "a.b.c.d.e")
	add("1 MB", "token: must have at most 65536 bytes, got 1000000", strings.Repeat("x", 1000000))
	add("nothing", "token: must have three parts, got 1", "")
	rows = append(rows,
		badRow{"two headers", []string{"Authorization: Bearer " + good, "Authorization: Bearer " + good}, "", 400, "invalid_request", "invalid_request: more than one Authorization header"},
		badRow{"a token and a password", []string{"Authorization: Bearer " + good, "Authorization: Basic YTpi"}, "", 400, "invalid_request", "invalid_request: more than one Authorization header"},
		badRow{"a token in the query", nil, "?access_token=" + good, 401, "", "not signed in"},
		badRow{"a token in a cookie", []string{"Cookie: access_token=" + good}, "", 401, "", "not signed in"},
		badRow{"a token in another header", []string{"X-Token: " + good, "X-Authorization: Bearer " + good}, "", 401, "", "not signed in"},
		badRow{"a token under another scheme", []string{"Authorization: Token " + good}, "", 401, "", "not signed in"},
	)

	app := l.serve(t, tokens(with{"jwt.issuer": p.Issuer, "jwt.audience": "api"}))
	v := app.visitor(t)
	if got := bring("Authorization: Bearer " + good)(v); got != in {
		t.Fatalf("a good token: %s\n%s", got, app.log())
	}
	refuseAll(t, v, rows)
	if calls := p.Calls("mine"); len(calls) > 0 {
		t.Errorf("a link in a token was followed: %v", calls)
	}
	if got := bring("Authorization: Bearer " + good)(v); got != in {
		t.Errorf("a good token, after all: %s\n%s", got, app.log())
	}

	// Much more than a megabyte of header is refused by Traefik's own server: no middleware sees it.
	before := len(app.log())
	huge, err := http.NewRequest(http.MethodGet, app.URL+"/huge", nil)
	if err != nil {
		t.Fatal(err)
	}
	huge.Header.Set("Authorization", "Bearer "+strings.Repeat("x", 2<<20))
	if answer, err := v.Client().Do(huge); err == nil { // else the connection was closed while we were still writing
		answer.Body.Close()
		if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a token of 2 MB: %s", answer.Status)
		}
	}
	if log := app.log(); len(log) != before {
		t.Errorf("a token of 2 MB was looked at:\n%s", log[before:])
	}
}

// TestBearerBadIntrospection: what stands in front of providers, or has gone wrong behind them. Only a 200 with the JSON value true lets in.
func TestBearerBadIntrospection(t *testing.T) {
	t.Parallel()
	l := start(t)
	says := func(status int, body string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(status)
			fmt.Fprint(rw, body)
		}
	}
	const away, no = "unavailable: introspection: POST ISSUER/introspect: ", "invalid_token: introspection: active: expected true, got "
	for _, row := range []struct {
		name   string
		answer http.HandlerFunc
		status int
		line   string
	}{
		{"HTML", says(200, "<h1>Back soon</h1>"), 503, away + "JSON: must be an object"},
		{"nothing at all", says(200, ""), 503, away + "JSON: must be an object"},
		{"a list", says(200, `[{"active":true}]`), 503, away + "JSON: must be an object"},
		{"active as text", says(200, `{"active":"true","sub":"a"}`), 401, no + `"true"`},
		{"active as number", says(200, `{"active":1,"sub":"a"}`), 401, no + `1`},
		{"active in capitals", says(200, `{"Active":true,"ACTIVE":true,"sub":"a"}`), 401, no + `null`},
		{"active twice", says(200, `{"active":false,"active":true,"sub":"a"}`), 503, away + "JSON: must not have a name twice"},
		{"500", says(500, `{"active":true,"sub":"a"}`), 503, away + "500 Internal Server Error"},
		{"201", says(201, `{"active":true,"sub":"a"}`), 503, away + "201 Created"},
		{"401", says(401, `{"error":"invalid_client"}`), 503, away + `401 Unauthorized "invalid_client"; check the client's credentials`},
		{"a redirect", func(rw http.ResponseWriter, req *http.Request) {
			http.Redirect(rw, req, "/elsewhere", http.StatusTemporaryRedirect)
		}, 503, away + "307 Temporary Redirect"},
		{"2 MB", says(200, `{"active":true,"sub":"`+strings.Repeat("x", 2<<20)+`"}`), 503, away + "the answer is larger than 1 MiB"},
		{"nothing for 30 s", func(_ http.ResponseWriter, req *http.Request) {
			select {
			case <-req.Context().Done():
			case <-time.After(30 * time.Second):
			}
		}, 503, away + "no answer in time; clientConfig.timeoutSeconds is the limit"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t, provider.Options{})
			p.Instead("introspect", row.answer)
			v := l.serve(t, asking(p, nil)).visitor(t)
			began := time.Now()
			bad := badRow{row.name, []string{"Authorization: Bearer opaque"}, "", row.status, "", strings.Replace(row.line, "ISSUER", p.Issuer, 1)}
			if row.status == http.StatusUnauthorized {
				bad.code = "invalid_token"
			}
			refuseAll(t, v, []badRow{bad})
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %s, which is more than the 5 s of clientConfig.timeoutSeconds", took)
			}
			if len(p.Calls("elsewhere")) > 0 {
				t.Error("a redirect was followed")
			}
		})
	}
}
