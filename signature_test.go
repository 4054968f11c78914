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
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
)

// TestSignatureNamesOfEd25519: Ed25519 and EdDSA are one algorithm in tokens, keys and options.
func TestSignatureNamesOfEd25519(t *testing.T) {
	if interpreted() {
		t.Skip("HTTP tests run interpreted by way of e2e/interpreted")
	}
	t.Parallel()
	private := newPrivateKey("EdDSA")
	for i, names := range []string{"EdDSA EdDSA", "EdDSA Ed25519", "Ed25519 EdDSA", "Ed25519 Ed25519"} {
		inToken, inKey, _ := strings.Cut(names, " ")
		p := newFakeProvider(t)
		p.key = &providerKey{kid: fmt.Sprint("k", i), alg: "EdDSA", private: private}
		published := p.key.public()
		published["alg"] = inKey
		p.answer("jwks", answerJSON(200, map[string]any{"keys": []any{published}}))
		token := signed(p.key, map[string]any{"alg": inToken}, map[string]any{"iss": p.issuer})
		for _, option := range []any{nil, "EdDSA", "Ed25519", "EdDSA,Ed25519"} {
			block := map[string]any{"issuer": p.issuer}
			if option != nil {
				block["algorithms"] = option
			}
			s := start(t, jwtOptions(block))
			bearer(t, s, token).accepted("ada")
		}
		p.edit("discovery", func(m map[string]any) { m["id_token_signing_alg_values_supported"] = []string{inKey} })
		for _, option := range []any{nil, "EdDSA", "Ed25519"} {
			s := start(t, p.options(map[string]any{"idTokenSigningAlg": option}))
			newBrowser(t, s).signIn("/").upstream()
		}
	}
	refused(t, jwtOptions(map[string]any{"publicKey": publicPEM(t, private), "algorithms": "Ed25519,ES256"}), "must be of one family")
}

// TestSignatureVectors verifies the examples of RFC 7515 appendix A, RFC 7520 section 4 and RFC 8037 appendix A.
func TestSignatureVectors(t *testing.T) {
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
			secret, _ := base64url.DecodeString(stringOf(jwk["k"]))
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

var jwtAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

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

// TestSignatureAlgorithms signs with every algorithm and verifies with every key: only the right pairs may fit.
func TestSignatureAlgorithms(t *testing.T) {
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
		for _, cut := range [][]byte{nil, parsed.signature[1:], append([]byte{0}, parsed.signature...),
			append(parsed.signature[:0:0], make([]byte, len(parsed.signature))...)} {
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

func TestSignatureSecretAttacks(t *testing.T) {
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

func TestSignatureForms(t *testing.T) {
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

// TestSignatureSmallOrder checks the table of small orders against what the library accepts: a signature of zeros (S = 0, R the
// identity) is good for about one message in the key's order.
func TestSignatureSmallOrder(t *testing.T) {
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

func TestSignatureOfOurs(t *testing.T) {
	_, err := signToken(jwtSigner("ES256"), "ES256", nil, map[string]any{"exp": make(chan int)})
	wantError(t, err, "unsupported type")
}

func TestSignaturePublicPEM(t *testing.T) {
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

func TestSignaturePrivatePEM(t *testing.T) {
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

func keyPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
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

// TestSignatureAlgorithmOfTheProvider: RS256 where it is listed or nothing of ours is, else the first that has a public key.
func TestSignatureAlgorithmOfTheProvider(t *testing.T) {
	for listed, want := range map[string]string{
		"": "RS256", "ES256 RS256": "RS256", "RS256 ES256": "RS256", "HS256 RS256": "RS256", "none ES256": "ES256", "HS256 PS256 ES256": "PS256",
		"HS256": "RS256", "of-tomorrow": "RS256",
	} {
		if got := signingAlgorithm(&client{}, strings.Fields(listed)); got != want {
			t.Errorf("%q: got %s, expected %s", listed, got, want)
		}
	}
	if got := signingAlgorithm(&client{pinnedAlg: "ES256"}, []string{"RS256"}); got != "ES256" {
		t.Errorf("the configured one: got %s", got)
	}
}
