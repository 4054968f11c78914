package oidc

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var jwtAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// jwkOf is the public half of a signer as the JSON of a JWK; extra are further members with a comma in front.
func jwkOf(signer crypto.Signer, extra string) string {
	encode := base64url.EncodeToString
	public := signer.Public()
	if k, ok := public.(*rsa.PublicKey); ok {
		return `{"kty":"RSA","n":"` + encode(k.N.Bytes()) + `","e":"` + encode(big.NewInt(int64(k.E)).Bytes()) + `"` + extra + `}`
	}
	if k, ok := public.(*ecdsa.PublicKey); ok {
		x := make([]byte, coordinateSize(k.Curve))
		y := make([]byte, coordinateSize(k.Curve))
		return `{"kty":"EC","crv":"` + k.Curve.Params().Name + `","x":"` + encode(k.X.FillBytes(x)) + `","y":"` + encode(k.Y.FillBytes(y)) + `"` + extra + `}`
	}
	k, _ := public.(ed25519.PublicKey)
	return `{"kty":"OKP","crv":"Ed25519","x":"` + encode(k) + `"` + extra + `}`
}

// parseKeySet reads a key set as it comes.
func parseKeySet(data []byte) ([]*key, error) {
	set, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	keys, err := readKeySet(set)
	return keys, err
}

// keyOf reads the one key of a set.
func keyOf(t *testing.T, jwk string) *key {
	t.Helper()
	keys, err := parseKeySet([]byte(`{"keys":[` + jwk + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	return keys[0]
}

// jwtSigned is a parsed token of signer.
func jwtSigned(t *testing.T, signer crypto.Signer, alg, kid string) *token {
	t.Helper()
	raw, err := signToken(signer, alg, map[string]any{"kid": kid}, map[string]any{"sub": "alice"})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parseToken(raw)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func keyPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// TestJWTVectors verifies the examples of RFC 7515 appendix A, RFC 7520 section 4 and RFC 8037 appendix A.
func TestJWTVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/jws.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name  string          `json:"name"`
		Alg   string          `json:"alg"`
		Key   json.RawMessage `json:"key"`
		Token string          `json:"token"`
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 9 {
		t.Fatalf("expected 9 vectors, got %d", len(vectors))
	}
	for _, v := range vectors {
		parts := strings.Split(v.Token, ".") // parseToken would refuse some: not all payloads are JSON
		header, err := decodeObject("header", parts[0])
		if err != nil || header["alg"] != v.Alg {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		parsed := &token{alg: v.Alg, signed: parts[0] + "." + parts[1]}
		if parsed.signature, err = decodePart("signature", parts[2]); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		jwk, err := parseObject(v.Key)
		if err != nil {
			t.Fatal(err)
		}
		var k *key
		if jwk["kty"] == "oct" {
			secret, _ := base64url.DecodeString(text(jwk["k"]))
			k, err = newSecretKey(secret, []string{v.Alg})
		} else {
			k, err = parseJWK(jwk)
		}
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if err := verifySignature(parsed, k); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		parsed.signed = strings.Replace(parsed.signed, ".", ".A", 1)
		wantError(t, verifySignature(parsed, k), "signature: does not match")
	}
	// RFC 7515 A.5, an unsecured token.
	_, err = parseToken("eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.")
	wantError(t, err, `alg: not a signature algorithm that is known here, got "none"`)
}

// TestJWTAlgorithms signs with every algorithm and verifies with every key: only the right pairs may fit.
func TestJWTAlgorithms(t *testing.T) {
	secret, err := newSecretKey([]byte(strings.Repeat("s", 64)), []string{"HS256", "HS384", "HS512"})
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range jwtAlgorithms {
		parsed := jwtSigned(t, jwtSigner(alg), alg, "")
		for _, other := range jwtAlgorithms {
			sameKind := algorithms[alg] == algorithms[other]
			k := keyOf(t, jwkOf(jwtSigner(other), ""))
			if err := verifySignature(parsed, k); (err == nil) != sameKind {
				t.Errorf("token of %s with key for %s: %v", alg, other, err)
			}
			k = keyOf(t, jwkOf(jwtSigner(other), `,"alg":"`+other+`"`))
			if err := verifySignature(parsed, k); (err == nil) != (alg == other) {
				t.Errorf("token of %s with key kept for %s: %v", alg, other, err)
			}
		}
		if verifySignature(parsed, secret) == nil {
			t.Errorf("token of %s with a secret", alg)
		}
		for _, cut := range [][]byte{nil, parsed.signature[1:], append([]byte{0}, parsed.signature...), append(parsed.signature[:0:0], make([]byte, len(parsed.signature))...)} {
			broken := *parsed
			broken.signature = cut
			wantError(t, verifySignature(&broken, keyOf(t, jwkOf(jwtSigner(alg), ""))), "signature: does not match")
		}
		renamed := *parsed
		for _, other := range jwtAlgorithms {
			if renamed.alg = other; other != alg && verifySignature(&renamed, keyOf(t, jwkOf(jwtSigner(alg), ""))) == nil {
				t.Errorf("signature of %s accepted as %s", alg, other)
			}
		}
	}
	for _, alg := range []string{"HS256", "HS384", "HS512"} {
		parsed, err := parseToken(jwtMAC([]byte(strings.Repeat("s", 64)), alg, `{}`))
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, verifySignature(parsed, secret), "")
		parsed.signature[0]++
		wantError(t, verifySignature(parsed, secret), "signature: does not match")
	}
}

func TestJWTSecretAttacks(t *testing.T) {
	signer := jwtSigner("RS256")
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	written := keyPEM("PUBLIC KEY", der)
	k, err := parsePublicKeyPEM(written)
	if err != nil {
		t.Fatal(err)
	}
	// RFC 8725 2.1: the public key, which everybody has, taken as the secret.
	for _, secret := range []string{written, strings.TrimSpace(written), string(der)} {
		forged, err := parseToken(jwtMAC([]byte(secret), "HS256", `{"sub":"admin"}`))
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, verifySignature(forged, k), "signature: a key of kind RSA")
		wantError(t, verifyToken(context.Background(), newFixedKeySet(k), forged, []string{"RS256"}), `alg: expected "RS256", got "HS256"`)
		wantError(t, verifyToken(context.Background(), newFixedKeySet(k), forged, []string{"RS256", "HS256"}), "signature: none of the issuer's 1 keys")
	}
	// An empty or short secret.
	_, err = newSecretKey(nil, []string{"HS256"})
	wantError(t, err, "must have at least 32 bytes for HS256, got 0")
	_, err = newSecretKey(make([]byte, 47), []string{"HS256", "HS384"})
	wantError(t, err, "must have at least 48 bytes for HS384, got 47")
	short := make([]byte, 32)
	k, err = newSecretKey(short, []string{"HS256"})
	if err != nil {
		t.Fatal(err)
	}
	forged, _ := parseToken(jwtMAC(short, "HS512", `{}`))
	wantError(t, verifySignature(forged, k), "signature: does not match")
	// A key that is not what it says verifies nothing.
	parsed := jwtSigned(t, signer, "RS256", "")
	wantError(t, verifySignature(parsed, &key{kind: "RSA"}), "signature: does not match")
	// A secret in a published set is nobody's secret.
	_, err = parseKeySet([]byte(`{"keys":[{"kty":"oct","k":"` + strings.Repeat("A", 86) + `"}]}`))
	wantError(t, err, `no usable key of 1: kty "oct"`)
}

func TestJWTSignatureForms(t *testing.T) {
	// ECDSA in ASN.1, as most libraries sign, is not what JWS wants.
	signer := jwtSigner("ES256")
	parsed := jwtSigned(t, signer, "ES256", "")
	sum := sha256.Sum256([]byte(parsed.signed))
	k := keyOf(t, jwkOf(signer, ""))
	var err error
	parsed.signature, err = signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, verifySignature(parsed, k), "signature: does not match")
	// RSA-PSS with another salt than the hash is long.
	signer = jwtSigner("PS256")
	parsed = jwtSigned(t, signer, "PS256", "")
	sum = sha256.Sum256([]byte(parsed.signed))
	k = keyOf(t, jwkOf(signer, ""))
	for _, length := range []int{0, 20, 31, 33, rsa.PSSSaltLengthAuto} {
		parsed.signature, err = signer.Sign(rand.Reader, sum[:], &rsa.PSSOptions{SaltLength: length, Hash: crypto.SHA256})
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, verifySignature(parsed, k), "signature: does not match")
	}
}

func TestJWTKeySet(t *testing.T) {
	encode := base64url.EncodeToString
	number := func(bits int, last int64) string { // odd or even as last is
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		return encode(n.Add(n, big.NewInt(last)).Bytes())
	}
	good := jwkOf(jwtSigner("ES256"), `,"kid":"good"`)
	coordinate := strings.Repeat("A", 43)
	for _, row := range []struct{ name, jwk, wantErr string }{
		{"encryption key", jwkOf(jwtSigner("RS256"), `,"use":"enc"`), `must be for signatures, got use "enc"`},
		{"use is a list", jwkOf(jwtSigner("RS256"), `,"use":["sig"]`), "must be for signatures"},
		{"key that only signs", jwkOf(jwtSigner("RS256"), `,"key_ops":["sign"]`), `key_ops ["sign"]`},
		{"RSA, private", jwkOf(jwtSigner("RS256"), `,"d":"AQAB"`), "must be a public key, got a private one; whoever reads the set could sign"},
		{"EC, private", jwkOf(jwtSigner("ES256"), `,"d":"AQAB","key_ops":["sign","verify"]`), "got a private one"},
		{"Ed25519, private", jwkOf(jwtSigner("EdDSA"), `,"d":"AQAB"`), "got a private one"},
		{"kty missing", `{"n":"AQAB"}`, "kty null: must be RSA, EC"},
		{"kty unknown", `{"kty":"AKP"}`, `kty "AKP": must be RSA, EC`},
		{"kty in lower case", `{"kty":"rsa"}`, `kty "rsa"`},
		{"not an object", `"RSA"`, "kty null"},
		{"null", `null`, "kty null"},
		{"RSA without n", `{"kty":"RSA","e":"AQAB"}`, "RSA: must have 2048 to 8192 bits, got 0"},
		{"RSA with padding", `{"kty":"RSA","n":"` + number(2048, 1) + `=","e":"AQAB"}`, "n: must be base64url without padding and line breaks"},
		{"RSA of 1024 bits", `{"kty":"RSA","n":"` + number(1024, 1) + `","e":"AQAB"}`, "RSA: must have 2048 to 8192 bits, got 1024"},
		{"RSA of 2047 bits", `{"kty":"RSA","n":"` + number(2047, 1) + `","e":"AQAB"}`, "got 2047"},
		{"RSA of 8193 bits", `{"kty":"RSA","n":"` + number(8193, 1) + `","e":"AQAB"}`, "got 8193"},
		{"RSA of 131072 bits", `{"kty":"RSA","n":"` + number(131072, 1) + `","e":"AQAB"}`, "got 131072"},
		{"RSA without e", `{"kty":"RSA","n":"` + number(2048, 1) + `"}`, "RSA: exponent must be odd"},
		{"RSA with e 1", `{"kty":"RSA","n":"` + number(2048, 1) + `","e":"AQ"}`, "RSA: exponent must be odd"},
		{"RSA with e even", `{"kty":"RSA","n":"` + number(2048, 1) + `","e":"BA"}`, "RSA: exponent must be odd"},
		{"RSA with e of 32 bits", `{"kty":"RSA","n":"` + number(2048, 1) + `","e":"` + number(32, 1) + `"}`, "RSA: exponent must be odd"},
		{"EC on P-224", `{"kty":"EC","crv":"P-224","x":"AQ","y":"AQ"}`, `kty "EC": must be`},
		{"EC on secp256k1", `{"kty":"EC","crv":"secp256k1","x":"AQ","y":"AQ"}`, `kty "EC": must be`},
		{"EC without curve", `{"kty":"EC","x":"AQ","y":"AQ"}`, `kty "EC": must be`},
		{"EC without point", `{"kty":"EC","crv":"P-256"}`, "EC: not a point on the curve"},
		{"EC at (0, 0)", `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`, "EC: not a point on the curve"},
		{"EC off the curve", `{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}`, "EC: not a point on the curve"},
		{"EC with huge coordinates", `{"kty":"EC","crv":"P-256","x":"` + number(9000, 1) + `","y":"AQ"}`, "EC: not a point on the curve"},
		{"Ed25519 of 31 bytes", `{"kty":"OKP","crv":"Ed25519","x":"` + encode(make([]byte, 31)) + `"}`, "Ed25519: must have 32 bytes"},
		{"Ed25519 of 33 bytes", `{"kty":"OKP","crv":"Ed25519","x":"` + encode(make([]byte, 33)) + `"}`, "Ed25519: must have 32 bytes"},
		{"Ed25519 without x", `{"kty":"OKP","crv":"Ed25519"}`, "Ed25519: must have 32 bytes"},
		{"Ed25519, order 4", `{"kty":"OKP","crv":"Ed25519","x":"` + coordinate + `"}`, "Ed25519: must have 32 bytes, and not a small order"},
		{"Ed25519, the identity", `{"kty":"OKP","crv":"Ed25519","x":"AQ` + coordinate[2:] + `"}`, "not a small order"},
		{"Ed25519, the identity with a sign", `{"kty":"OKP","crv":"Ed25519","x":"AQ` + coordinate[2:41] + `IA"}`, "must have 32 bytes"},
		{"Ed448", `{"kty":"OKP","crv":"Ed448","x":"AQ"}`, `kty "OKP": must be`},
		{"X25519", `{"kty":"OKP","crv":"X25519","x":"` + coordinate + `"}`, `kty "OKP": must be`},
	} {
		_, err := parseKeySet([]byte(`{"keys":[` + row.jwk + `]}`))
		keys, mixedErr := parseKeySet([]byte(`{"keys":[` + row.jwk + `,` + good + `,` + row.jwk + `]}`))
		t.Run(row.name, func(t *testing.T) {
			wantError(t, err, row.wantErr)
			wantError(t, mixedErr, "")
			if len(keys) != 1 || keys[0].kid != "good" {
				t.Errorf("expected the good key alone, got %d keys", len(keys))
			}
		})
	}
	for _, jwk := range []string{ // at the bounds
		`{"kty":"RSA","n":"` + number(2048, 1) + `","e":"Aw"}`, `{"kty":"RSA","n":"` + number(8192, 1) + `","e":"f____w"}`,
	} {
		_, err := parseKeySet([]byte(`{"keys":[` + jwk + `]}`))
		wantError(t, err, "")
	}
	for _, row := range []struct{ name, text, wantErr string }{
		{"empty set", `{"keys":[]}`, "key set: no usable key of 0: it is empty"},
		{"no keys", `{}`, "key set: keys: must be an array, got null"},
		{"keys is an object", `{"keys":{}}`, "key set: keys: must be an array, got {}"},
		{"a single key", good, "key set: keys: must be an array"},
		{"HTML", `<!doctype html>`, "JSON: must be an object"},
		{"keys twice", `{"keys":[],"keys":[` + good + `]}`, "must not have a name twice"},
		{"member of a key twice", `{"keys":[{"kty":"RSA","kty":"EC"}]}`, "must not have a name twice"},
		{"a certificate chain beside the key", `{"keys":[` + jwkOf(jwtSigner("RS256"), `,"x5c":["MIIB"],"x5t":"x","use":"sig","key_ops":["verify"],"alg":"RS256","kid":5`) + `]}`, ""},
	} {
		_, err := parseKeySet([]byte(row.text))
		t.Run(row.name, func(t *testing.T) { wantError(t, err, row.wantErr) })
	}
}

// TestJWTSmallOrder checks the table of small orders against what the library accepts: a signature of zeros (S = 0, R the
// identity) is good for about one message in the key's order.
func TestJWTSmallOrder(t *testing.T) {
	encodings := strings.Fields(smallOrders)
	if len(encodings) != 7 {
		t.Fatalf("expected 7 encodings, got %d", len(encodings))
	}
	signature := make([]byte, 64)
	signature[0] = 1
	for _, encoding := range encodings {
		for _, sign := range []int64{0, 0x80} {
			number, _ := new(big.Int).SetString(encoding, 16)
			point := number.FillBytes(make([]byte, 32))
			point[31] |= byte(sign)
			if _, err := newKey(ed25519.PublicKey(point)); err == nil {
				t.Errorf("%x is accepted", point)
			}
			forged := 0
			for i := 0; i < 64; i++ {
				if ed25519.Verify(ed25519.PublicKey(point), []byte{byte(i)}, signature) {
					forged++
				}
			}
			if forged == 0 && sign == 0 {
				t.Errorf("%x does no harm, why is it in the table?", point)
			}
		}
	}
}

func TestJWTPEM(t *testing.T) {
	pkix, err := x509.MarshalPKIXPublicKey(jwtSigner("RS256").Public())
	if err != nil {
		t.Fatal(err)
	}
	public, _ := jwtSigner("RS256").Public().(*rsa.PublicKey)
	for _, row := range []struct{ name, written, alg, wantErr string }{
		{"RSA", keyPEM("PUBLIC KEY", pkix), "RS256", ""},
		{"RSA, old form", keyPEM("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(public)), "PS512", ""},
		{"text around it", "a key:\n" + keyPEM("PUBLIC KEY", pkix) + "\nend", "RS256", ""},
		{"EC", pemOfPublic(t, jwtSigner("ES384")), "ES384", ""},
		{"Ed25519", pemOfPublic(t, jwtSigner("EdDSA")), "EdDSA", ""},
		{"certificate", certificateOf(t, jwtSigner("ES256")), "ES256", ""},
		{"line breaks lost", strings.Replace(keyPEM("PUBLIC KEY", pkix), "\n", " ", -1), "", "must be PEM: -----BEGIN PUBLIC KEY-----"},
		{"empty", "", "", "must be PEM"},
		{"private key", pemOfPrivate(t, jwtSigner("ES256")), "", "must be a public key or a certificate, got PRIVATE KEY"},
		{"P-224", pemOfPublic(t, p224(t)), "", `EC: curve must be P-256, P-384 or P-521, got "P-224"`},
		{"small RSA", pemOfSmallRSA(t), "", "RSA: must have 2048 to 8192 bits, got 1024"},
		{"broken certificate", keyPEM("CERTIFICATE", pkix), "", "certificate: "},
	} {
		k, err := parsePublicKeyPEM(row.written)
		t.Run(row.name, func(t *testing.T) {
			wantError(t, err, row.wantErr)
			if row.wantErr == "" && err == nil {
				wantError(t, verifySignature(jwtSigned(t, jwtSigner(row.alg), row.alg, "any"), k), "")
			}
		})
	}
}

func TestJWTPrivateKeyPEM(t *testing.T) {
	rsaKey, _ := jwtSigner("RS256").(*rsa.PrivateKey)
	ecKey, _ := jwtSigner("ES256").(*ecdsa.PrivateKey)
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, written, alg, wantErr string }{
		{"RSA", pemOfPrivate(t, rsaKey), "RS384", ""},
		{"RSA, for PSS", pemOfPrivate(t, rsaKey), "PS256", ""},
		{"RSA, old form", keyPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), "RS256", ""},
		{"EC", pemOfPrivate(t, ecKey), "ES256", ""},
		{"EC, old form", keyPEM("EC PRIVATE KEY", sec1), "ES256", ""},
		{"EC, with its parameters in front", keyPEM("EC PARAMETERS", []byte{6, 8}) + keyPEM("EC PRIVATE KEY", sec1), "ES256", ""},
		{"Ed25519", pemOfPrivate(t, jwtSigner("EdDSA")), "EdDSA", ""},
		{"EC for RSA", pemOfPrivate(t, ecKey), "RS256", "must be a key for RS256, got EC P-256"},
		{"another curve", pemOfPrivate(t, ecKey), "ES384", "must be a key for ES384, got EC P-256"},
		{"for no algorithm", pemOfPrivate(t, rsaKey), "none", "must be a key for none, got RSA"},
		{"for a shared secret", pemOfPrivate(t, rsaKey), "HS256", "must be a key for HS256, got RSA"},
		{"public key", pemOfPublic(t, ecKey), "ES256", "must be a private key without password, got PUBLIC KEY"},
		{"with password", keyPEM("ENCRYPTED PRIVATE KEY", sec1[3:]), "ES256", "without password, got ENCRYPTED PRIVATE KEY"},
		{"X25519", pemOfX25519(t), "EdDSA", "must be a key to sign with"},
		{"P-224", pemOfPrivate(t, p224(t)), "ES256", `EC: curve must be P-256, P-384 or P-521, got "P-224"`},
		{"empty", "", "ES256", "must be PEM"},
		{"parameters alone", keyPEM("EC PARAMETERS", []byte{6, 8}), "ES256", "must be PEM"},
	} {
		signer, err := parsePrivateKeyPEM(row.written, row.alg)
		t.Run(row.name, func(t *testing.T) {
			wantError(t, err, row.wantErr)
			if row.wantErr != "" || err != nil {
				return
			}
			parsed := jwtSigned(t, signer, row.alg, "k7")
			if parsed.kid != "k7" || parsed.typ != "JWT" || parsed.alg != row.alg {
				t.Errorf("header: %s %s %s", parsed.kid, parsed.typ, parsed.alg)
			}
			wantError(t, verifySignature(parsed, keyOf(t, jwkOf(signer, ""))), "")
		})
	}
}

func TestJWTSign(t *testing.T) {
	_, err := signToken(jwtSigner("ES256"), "ES256", nil, map[string]any{"exp": make(chan int)})
	wantError(t, err, "unsupported type")
}

func pemOfPublic(t *testing.T, signer crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	return keyPEM("PUBLIC KEY", der)
}

func pemOfPrivate(t *testing.T, signer crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	return keyPEM("PRIVATE KEY", der)
}

func p224(t *testing.T) crypto.Signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

// pemOfX25519 is a key that cannot sign.
func pemOfX25519(t *testing.T) string {
	t.Helper()
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return keyPEM("PRIVATE KEY", der)
}

func pemOfSmallRSA(t *testing.T) string {
	t.Helper()
	n := new(big.Int).Lsh(big.NewInt(1), 1023)
	der := x509.MarshalPKCS1PublicKey(&rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537})
	return keyPEM("RSA PUBLIC KEY", der)
}

func certificateOf(t *testing.T, signer crypto.Signer) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "id.example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return keyPEM("CERTIFICATE", der)
}

// jwksSource is a provider's key set: what it answers, and how often it was asked.
type jwksSource struct {
	mu    sync.Mutex
	text  string
	err   error
	wait  chan struct{} // when not nil, an answer takes until this is closed
	calls int64
}

func (s *jwksSource) set(text string, err error) {
	s.mu.Lock()
	s.text = text
	s.err = err
	s.mu.Unlock()
}

func (s *jwksSource) fetch(ctx context.Context) ([]byte, error) {
	atomic.AddInt64(&s.calls, 1)
	s.mu.Lock()
	answer, err, wait := s.text, s.err, s.wait
	s.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return []byte(answer), err
}

func newSourceKeySet(source *jwksSource) *document {
	return &document{log: &logger{level: levelError + 1}, fetch: func(ctx context.Context) (any, error) {
		data, err := source.fetch(ctx)
		if err != nil {
			return nil, err
		}
		keys, err := parseKeySet(data) // the interpreter loses both when they are returned in one step
		return keys, err
	}}
}

// age makes the keys, and the allowance of fetches, older.
func age(s *document, by time.Duration) {
	s.mu.Lock()
	s.until = s.until.Add(-by)
	s.wait.until = s.wait.until.Add(-by)
	s.mu.Unlock()
}

func wantCalls(t *testing.T, source *jwksSource, want int64) {
	t.Helper()
	if got := atomic.LoadInt64(&source.calls); got != want {
		t.Errorf("expected %d fetches, got %d", want, got)
	}
}

var es256 = []string{"ES256"}

// jwksOf is a key set of the public halves of signers with the names k0, k1, …
func jwksOf(signers ...crypto.Signer) string {
	var jwks []string
	for i, signer := range signers {
		jwks = append(jwks, jwkOf(signer, `,"kid":"k`+string(rune('0'+i))+`"`))
	}
	return `{"keys":[` + strings.Join(jwks, ",") + `]}`
}

func TestJWTKeysFetchedOnce(t *testing.T) {
	signer := newJWTSigner("ES256")
	source := &jwksSource{text: jwksOf(signer), wait: make(chan struct{})}
	s := newSourceKeySet(source)
	parsed := jwtSigned(t, signer, "ES256", "k0")
	var group sync.WaitGroup
	var failures int64
	const many = 1000
	group.Add(many)
	for i := 0; i < many; i++ {
		go func() {
			defer group.Done()
			if verifyToken(context.Background(), s, parsed, es256) != nil {
				atomic.AddInt64(&failures, 1)
			}
		}()
	}
	time.Sleep(20 * time.Millisecond)
	close(source.wait)
	group.Wait()
	wantCalls(t, source, 1)
	if failures != 0 {
		t.Errorf("%d of %d failed", failures, many)
	}
}

func TestJWTKeysRotate(t *testing.T) {
	first, second, third := newJWTSigner("ES256"), newJWTSigner("ES256"), newJWTSigner("ES256")
	source := &jwksSource{text: jwksOf(first)}
	s := newSourceKeySet(source)
	ctx := context.Background()
	wantError(t, verifyToken(ctx, s, jwtSigned(t, first, "ES256", "k0"), es256), "")
	// Two rotations seconds after each other, and the first use.
	source.set(jwksOf(first, second), nil)
	wantError(t, verifyToken(ctx, s, jwtSigned(t, second, "ES256", "k1"), es256), "")
	wantError(t, verifyToken(ctx, s, jwtSigned(t, first, "ES256", "k0"), es256), "")
	source.set(jwksOf(first, second, third), nil)
	wantError(t, verifyToken(ctx, s, jwtSigned(t, third, "ES256", "k2"), es256), "")
	wantCalls(t, source, 3)
	// However many there are: each fetch brought the key of a good token.
	for i := 0; i < 10; i++ {
		first = newJWTSigner("ES256")
		source.set(jwksOf(first, second, third), nil)
		wantError(t, verifyToken(ctx, s, jwtSigned(t, first, "ES256", "k0"), es256), "")
	}
	wantCalls(t, source, 13)
	// Then made-up names are a flood: no fetch for a while, and known keys go on.
	for i := 0; i < 50; i++ {
		wantError(t, verifyToken(ctx, s, jwtSigned(t, first, "ES256", "made-up"), es256), `signature: none of the issuer's 3 keys is "made-up" for ES256`)
	}
	wantError(t, verifyToken(ctx, s, jwtSigned(t, third, "ES256", "k2"), es256), "")
	wantCalls(t, source, 13+fetchBurst)
	age(s, fetchInterval)
	for i := 0; i < 50; i++ {
		wantError(t, verifyToken(ctx, s, jwtSigned(t, first, "ES256", "made-up"), es256), "none of the issuer's 3 keys")
	}
	wantCalls(t, source, 14+fetchBurst)
	// After a minute of quiet the whole allowance is back, but no more.
	age(s, time.Hour/2)
	for i := 0; i < 50; i++ {
		wantError(t, verifyToken(ctx, s, jwtSigned(t, first, "ES256", "made-up"), es256), "none of the issuer's 3 keys")
	}
	wantCalls(t, source, 14+2*fetchBurst)
}

func TestJWTKeysChangeBehindTheirName(t *testing.T) {
	first, second := newJWTSigner("ES256"), newJWTSigner("ES256")
	source := &jwksSource{text: jwksOf(first)}
	s := newSourceKeySet(source)
	ctx := context.Background()
	wantError(t, verifyToken(ctx, s, jwtSigned(t, first, "ES256", "k0"), es256), "")
	source.set(jwksOf(second), nil)
	wantError(t, verifyToken(ctx, s, jwtSigned(t, second, "ES256", "k0"), es256), "")
	wantError(t, verifyToken(ctx, s, jwtSigned(t, first, "ES256", "k0"), es256), `signature: does not match key "k0"`)
}

func TestJWTKeysWithdrawn(t *testing.T) {
	first, second := newJWTSigner("ES256"), newJWTSigner("ES256")
	source := &jwksSource{text: jwksOf(first, second)}
	s := newSourceKeySet(source)
	ctx := context.Background()
	parsed := jwtSigned(t, second, "ES256", "k1")
	wantError(t, verifyToken(ctx, s, parsed, es256), "")
	source.set(jwksOf(first), nil)
	age(s, lifetime-jitter-time.Minute)
	wantError(t, verifyToken(ctx, s, parsed, es256), "")
	wantCalls(t, source, 1)
	age(s, jitter+time.Minute)
	wantError(t, verifyToken(ctx, s, parsed, es256), "signature: none of the issuer's 1 keys")
	wantCalls(t, source, 2)
}

func TestJWTKeysProviderAway(t *testing.T) {
	signer := newJWTSigner("ES256")
	source := &jwksSource{err: errors.New("connection refused")}
	s := newSourceKeySet(source)
	ctx := context.Background()
	parsed := jwtSigned(t, signer, "ES256", "k0")
	// Never reached: unavailable, and asked again after 1 s, 2 s, 4 s … 30 s only.
	for i := 0; i < 20; i++ {
		err := verifyToken(ctx, s, parsed, es256)
		wantError(t, err, "connection refused")
		if !errors.Is(err, errUnavailable) {
			t.Fatalf("expected errUnavailable, got %v", err)
		}
	}
	wantCalls(t, source, 1)
	for i, pause := range []int{1, 2, 4, 8, 16, 30, 30} {
		age(s, time.Duration(pause)*time.Second-200*time.Millisecond)
		wantError(t, verifyToken(ctx, s, parsed, es256), "connection refused")
		wantCalls(t, source, int64(i+1))
		age(s, 200*time.Millisecond)
		wantError(t, verifyToken(ctx, s, parsed, es256), "connection refused")
		wantCalls(t, source, int64(i+2))
	}
	// Answers that are no key set are the same.
	age(s, time.Minute)
	source.set(`<html>`, nil)
	err := verifyToken(ctx, s, parsed, es256)
	wantError(t, err, "JSON: must be an object")
	if !errors.Is(err, errUnavailable) {
		t.Errorf("expected errUnavailable, got %v", err)
	}
	// Back, and a rotation soon after.
	age(s, time.Minute)
	source.set(jwksOf(newJWTSigner("ES256")), nil)
	wantError(t, verifyToken(ctx, s, parsed, es256), "signature: does not match")
	source.set(jwksOf(signer), nil)
	wantError(t, verifyToken(ctx, s, parsed, es256), "")
	// Away again: the last good keys go on, also when they are old; what they do not fit is unavailable, what they refuse is refused.
	age(s, 2*lifetime)
	source.set("", errors.New("connection refused"))
	wantError(t, verifyToken(ctx, s, parsed, es256), "")
	before := atomic.LoadInt64(&source.calls)
	for i := 0; i < 20; i++ {
		wantError(t, verifyToken(ctx, s, parsed, es256), "")
	}
	wantCalls(t, source, before)
	if err := verifyToken(ctx, s, jwtSigned(t, signer, "ES256", "k9"), es256); !errors.Is(err, errUnavailable) {
		t.Errorf("expected errUnavailable, got %v", err)
	}
	err = verifyToken(ctx, s, jwtSigned(t, newJWTSigner("ES256"), "ES256", "k0"), es256)
	wantError(t, err, "signature: does not match")
	if errors.Is(err, errUnavailable) {
		t.Errorf("expected a refusal, got %v", err)
	}
}

func TestJWTKeysWaiting(t *testing.T) {
	signer := newJWTSigner("ES256")
	source := &jwksSource{text: jwksOf(signer), wait: make(chan struct{})}
	s := newSourceKeySet(source)
	parsed := jwtSigned(t, signer, "ES256", "k0")
	// The client whose request fetches goes away: the fetch goes on for the others.
	leader, leave := context.WithCancel(context.Background())
	results := make(chan error, 2)
	go func() { results <- verifyToken(leader, s, parsed, es256) }()
	for atomic.LoadInt64(&source.calls) == 0 {
		time.Sleep(time.Millisecond)
	}
	leave()
	go func() { results <- verifyToken(context.Background(), s, parsed, es256) }()
	time.Sleep(10 * time.Millisecond)
	close(source.wait)
	for i := 0; i < 2; i++ {
		err := <-results
		wantError(t, err, "")
	}
	wantCalls(t, source, 1)
	// Old keys do while somebody fetches.
	source.mu.Lock()
	source.wait = make(chan struct{})
	source.mu.Unlock()
	age(s, 2*lifetime)
	go func() { results <- verifyToken(context.Background(), s, parsed, es256) }()
	for atomic.LoadInt64(&source.calls) == 1 {
		time.Sleep(time.Millisecond)
	}
	wantError(t, verifyToken(context.Background(), s, parsed, es256), "")
	close(source.wait)
	last := <-results
	wantError(t, last, "")
	wantCalls(t, source, 2)
}

func TestJWTKeyChoice(t *testing.T) {
	first, second, ed := newJWTSigner("ES256"), newJWTSigner("ES256"), jwtSigner("EdDSA")
	ctx := context.Background()
	set := func(jwks ...string) *document {
		return newSourceKeySet(&jwksSource{text: `{"keys":[` + strings.Join(jwks, ",") + `]}`})
	}
	named := func(signer crypto.Signer, kid string) string { return jwkOf(signer, `,"kid":"`+kid+`"`) }
	unnamed := jwtSigned(t, second, "ES256", "")
	wantError(t, verifyToken(ctx, set(named(ed, "e"), named(second, "b")), unnamed, es256), "")
	wantError(t, verifyToken(ctx, set(named(first, "a"), named(second, "b")), unnamed, es256), "")
	wantError(t, verifyToken(ctx, set(named(second, "b"), named(first, "a")), unnamed, es256), "")
	wantError(t, verifyToken(ctx, set(named(first, "a")), unnamed, es256), `signature: does not match key "a"`)
	wantError(t, verifyToken(ctx, set(named(ed, "e")), unnamed, es256), `none of the issuer's 1 keys is "" for ES256`)
	// A name decides: the right key under another name is not tried.
	wantError(t, verifyToken(ctx, set(named(first, "a"), named(second, "b")), jwtSigned(t, second, "ES256", "a"), es256), `does not match key "a"`)
	wantError(t, verifyToken(ctx, set(named(second, "b")), jwtSigned(t, second, "ES256", "B"), es256), "none of the issuer's 1 keys")
	// Keys without a name are tried with any; the same name for two kinds of keys is no conflict.
	wantError(t, verifyToken(ctx, set(jwkOf(second, "")), jwtSigned(t, second, "ES256", "b"), es256), "")
	wantError(t, verifyToken(ctx, set(named(ed, "a"), named(first, "a"), named(second, "a")), jwtSigned(t, second, "ES256", "a"), es256), "")
	// No more than eight tries.
	var many []string
	for i := 0; i < maxTries; i++ {
		many = append(many, jwkOf(first, ""))
	}
	wantError(t, verifyToken(ctx, set(append(many[1:], jwkOf(second, ""))...), unnamed, es256), "")
	wantError(t, verifyToken(ctx, set(append(many, jwkOf(second, ""))...), unnamed, es256), "signature: does not match any of the 8 keys for ES256 that are tried at most, and there are more")
	// The algorithm is ours to choose.
	wantError(t, verifyToken(ctx, set(named(second, "b")), unnamed, []string{"RS256"}), `alg: expected "RS256", got "ES256"`)
	wantError(t, verifyToken(ctx, set(named(second, "b")), unnamed, nil), "alg: expected one of []")
	// Configured keys are never fetched.
	k := keyOf(t, jwkOf(first, ""))
	wantError(t, verifyToken(ctx, newFixedKeySet(k), jwtSigned(t, first, "ES256", "any"), es256), "")
	wantError(t, verifyToken(ctx, newFixedKeySet(k), unnamed, es256), "signature: does not match")
	wantError(t, verifyToken(ctx, newFixedKeySet(), unnamed, es256), "none of the issuer's 0 keys")
}

// jwtTypical are claims of about 1 KB, as Keycloak writes them into an access token.
const jwtTypical = `{"exp":1700000300,"iat":1700000000,"auth_time":1699999990,"jti":"onrtac:7a2cf0e9-0a5f-4a6e-9c3f-1d8f2c6f5b11","iss":"https://id.example.com/realms/main",` +
	`"aud":["https://api.example.com","account"],"sub":"f3a1f5b0-7c1b-4d6e-8f55-0a1b2c3d4e5f","typ":"Bearer","azp":"my-app","sid":"a1b2c3d4-e5f6-4711-8899-aabbccddeeff","acr":"1",` +
	`"allowed-origins":["https://app.example.com"],"realm_access":{"roles":["offline_access","uma_authorization","default-roles-main","admin"]},` +
	`"resource_access":{"account":{"roles":["manage-account","manage-account-links","view-profile"]},"reports":{"roles":["reader","writer"]}},` +
	`"scope":"openid profile email","email_verified":true,"name":"Alice Example","groups":["/staff","/staff/engineering","/project/blue"],"preferred_username":"alice",` +
	`"given_name":"Alice","family_name":"Example","email":"alice@example.com","locale":"en","department":"Engineering","cost_center":"4711"}`

func benchmarkJWT(b *testing.B, alg string) {
	signer := jwtSigner(alg)
	claims, err := parseObject([]byte(jwtTypical))
	if err != nil {
		b.Fatal(err)
	}
	raw, err := signToken(signer, alg, map[string]any{"kid": "k0"}, claims)
	if err != nil {
		b.Fatal(err)
	}
	s := newSourceKeySet(&jwksSource{text: jwksOf(signer, jwtSigner("RS256"), jwtSigner("EdDSA"))})
	r := &tokenRules{skew: 60, issuers: []string{"https://id.example.com/realms/main"}, audience: []string{"https://api.example.com"}, algorithms: []string{alg}}
	var parsed *token
	b.Run("parse", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			if parsed, err = parseToken(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			if err := verifyToken(context.Background(), s, parsed, r.algorithms); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("check", func(b *testing.B) {
		for i := 0; i < b.N; i++ {
			if err := checkAccessToken(r, parsed, jwtNow); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkJWTRS256(b *testing.B) { benchmarkJWT(b, "RS256") }
func BenchmarkJWTES256(b *testing.B) { benchmarkJWT(b, "ES256") }
