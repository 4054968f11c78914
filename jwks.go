package oidc

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // RFC 7515 4.1.7 wants it
	"crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"math"
	"math/big"
	"strings"
)

// Keys: reading them, choosing one for a token, verifying and signing. House rules of this file:
//   - a key is checked when it is read (newKey), because the library panics on a missing curve or a key of the wrong length;
//   - a key is used only with algorithms for its own type, so a public key is never taken for a shared secret;
//   - a key set belongs to one issuer, and kid is only a name within it.

const (
	maxTries   = 8    // keys tried for one token
	minRSABits = 2048 // RFC 7518 3.3
	maxRSABits = 8192 // 2.5 ms to verify; 16384 bits cost 31 ms
)

// algorithms maps each signature algorithm to the one kind of key it takes (RFC 7518 3.1, RFC 8037 3.1), curve included. That keeps a token
// from choosing how a key is used.
var algorithms = map[string]string{
	"RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
	"ES256": "EC P-256", "ES384": "EC P-384", "ES512": "EC P-521", "EdDSA": "OKP Ed25519", "Ed25519": "OKP Ed25519",
	"HS256": "oct", "HS384": "oct", "HS512": "oct",
}

// hashes are found by the end of an algorithm's name. EdDSA's is only for at_hash; the signature does its own hashing.
var hashes = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512, "DSA": crypto.SHA512, "25519": crypto.SHA512}

// normalizedAlg maps an algorithm with two names to one of them: RFC 9864 calls EdDSA on that curve Ed25519.
func normalizedAlg(alg string) string {
	if alg == "Ed25519" {
		return "EdDSA"
	}
	return alg
}

// saltLength demands a salt as long as the hash (RFC 7518 3.5). The library's default accepts any length.
var saltLength = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}

var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

// key is one key that verifies signatures.
type key struct {
	kid, alg string // "": any
	kind     string // one of algorithms
	public   any    // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, or []byte for HMAC
	problem  string // why a published key cannot be used, or ""; a key with a problem has no kind, and so verifies nothing
}

// newKey checks a public key and determines its kind. It refuses early what the library would refuse later, so that a configured key can be
// reported in time. And it refuses what the library accepts but should not: RSA keys that are too short, or so long that they cost CPU time,
// points that are not on the curve (invalid-curve attacks), and Ed25519 keys of small order.
func newKey(public any) (*key, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		bits := k.N.BitLen()
		return &key{kind: "RSA", public: k}, firstError(
			failIf(bits < minRSABits || bits > maxRSABits, "RSA", "must have %s to %s bits, got %s", minRSABits, maxRSABits, bits),
			failIf(k.E < 3 || k.E%2 == 0 || k.E > math.MaxInt32, "RSA", "exponent must be odd, at least 3 and at most 31 bits long, got %s", k.E))
	case *ecdsa.PublicKey:
		curve := k.Curve.Params().Name
		_, err := k.ECDH()
		return &key{kind: "EC " + curve, public: k}, firstError(
			failIf(curves[curve] == nil, "EC", "curve must be P-256, P-384 or P-521, got %s", curve),
			failIf(err != nil, "EC", "not a point on the curve"))
	case ed25519.PublicKey:
		isUnfit := len(k) != ed25519.PublicKeySize || containsText(smallOrders, hex.EncodeToString(k[:31])) // without the sign bit's byte
		return &key{kind: "OKP Ed25519", public: k}, failIf(isUnfit, "Ed25519", "must have 32 bytes, and not a small order")
	}
	return nil, newError("must be RSA, EC on P-256, P-384 or P-521, or Ed25519")
}

// smallOrders are the points of order 1, 2, 4 and 8 in all encodings: with such a key, one signature fits many messages. The last byte is
// not compared: it holds the sign, and does not tell any of them from a good key.
const smallOrders = `
0000000000000000000000000000000000000000000000000000000000000000 0100000000000000000000000000000000000000000000000000000000000000
26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05 c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a
ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f
eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f`

// newSecretKey makes the key for HS256, HS384 and HS512, as far as they are in algs. It must be at least as long as the hash (RFC 7518 3.2).
func newSecretKey(secret []byte, algs []string) (*key, error) {
	for _, alg := range algs {
		if size := minHMACKeyBytes[alg]; len(secret) < size { // 0: unknown algorithm, which the check of the options reports
			return nil, errorf("must have at least %d bytes for %s, got %d", size, alg, len(secret))
		}
	}
	return &key{kind: "oct", public: secret}, nil
}

// readKeySet reads a JWK set (RFC 7517 5). A key that we do not understand, that is not for signatures, or that is broken, is kept with its
// problem, so that the error about a token of that key can name it. A set without a usable key is an error that says why.
func readKeySet(set map[string]any) ([]*key, error) {
	items, ok := set["keys"].([]any)
	if !ok {
		return nil, errorf("key set: keys: must be an array, got %.4s", quoteJSON(set["keys"])) // no more: it may hold secret keys
	}
	var keys []*key
	usable, reason := 0, "it is empty"
	for _, item := range items {
		k, err := parseJWK(item)
		if err == nil {
			usable++
		} else {
			reason = err.Error()
			k = &key{problem: reason}
			if jwk, isObject := item.(map[string]any); isObject {
				k.kid = stringOf(jwk["kid"])
			}
		}
		if err == nil || k.kid != "" {
			keys = append(keys, k)
		}
	}
	if usable == 0 {
		return nil, errorf("key set: no usable key of %d: %s", len(items), reason)
	}
	return keys, nil
}

// parseJWK reads one public key (RFC 7517 4, RFC 7518 6, RFC 8037 2). Secret keys (oct) must not be in a published set: everybody who reads
// it could sign.
func parseJWK(item any) (*key, error) {
	jwk, _ := item.(map[string]any)
	use, operations, kty, crv := jwk["use"], jwk["key_ops"], stringOf(jwk["kty"]), stringOf(jwk["crv"])
	if use != nil && use != "" && use != "sig" || operations != nil && !contains(stringsOf(operations), "verify") {
		return nil, errorf("must be for signatures, got use %s, key_ops %s", quoteJSON(use), quoteJSON(operations))
	}
	if jwk["d"] != nil { // RFC 7518 6.2.2, 6.3.2, RFC 8037 2: a private key, as bad as a secret one
		return nil, newError("must be a public key, got a private one; whoever reads the set could sign")
	}
	var public any // nil: of an unknown kind
	for _, name := range strings.Fields("n e x y") {
		if _, err := decodeMember(jwk, name); err != nil {
			return nil, errorf("kty %s: %w", quoteJSON(kty), err)
		}
	}
	if chain := stringsOf(jwk["x5c"]); len(chain) > 0 && stringOf(jwk["n"])+stringOf(jwk["x"]) == "" { // RFC 7517 4.7: standard base64
		der, err := base64.StdEncoding.DecodeString(chain[0])
		if err != nil {
			return nil, newError("x5c: must be base64")
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, errorf("x5c: %w", err)
		}
		public = certificate.PublicKey
	} else if kty == "RSA" {
		public = &rsa.PublicKey{N: numberIn(jwk, "n"), E: int(numberIn(jwk, "e").Int64())}
	} else if kty == "EC" && curves[crv] != nil {
		public = &ecdsa.PublicKey{Curve: curves[crv], X: numberIn(jwk, "x"), Y: numberIn(jwk, "y")}
	} else if kty == "OKP" && crv == "Ed25519" {
		x, _ := decodeMember(jwk, "x")
		public = ed25519.PublicKey(x)
	}
	k, err := newKey(public)
	if err != nil {
		return nil, errorf("kty %s: %w", quoteJSON(jwk["kty"]), err)
	}
	k.kid = stringOf(jwk["kid"])
	k.alg = normalizedAlg(stringOf(jwk["alg"]))
	return k, nil
}

// decodeMember decodes a member of a JWK. Padding and the standard alphabet are accepted, as a key is not known by its spelling.
func decodeMember(jwk map[string]any, name string) ([]byte, error) {
	return decodePart(name, standardBase64.Replace(stringOf(jwk[name])))
}

var standardBase64 = strings.NewReplacer("+", "-", "/", "_", "=", "")

// numberIn decodes a number in a JWK. A missing one is 0, which newKey refuses.
func numberIn(jwk map[string]any, name string) *big.Int {
	data, _ := decodeMember(jwk, name)
	return new(big.Int).SetBytes(data)
}

// fitsAlgorithm reports whether k may verify alg: it has the right kind and curve, and is not reserved for another algorithm (RFC 8725 3.1:
// a key is used with one algorithm). So an RSA key is never used as the secret of HS256.
func fitsAlgorithm(k *key, alg string) bool {
	switch k.alg {
	case "", alg:
		return algorithms[alg] == k.kind
	}
	return false
}

// digest hashes a message. Each key that is tried hashes again, which costs a tenth of verifying.
func digest(hash crypto.Hash, message string) []byte {
	h := hash.New()
	h.Write([]byte(message))
	return h.Sum(nil)
}

var verifyPKCS1v15, verifyPSS, verifyEd25519 = rsa.VerifyPKCS1v15, rsa.VerifyPSS, ed25519.Verify

// verifySignature checks the signature of t with k. verifyToken decides whether t's algorithm is acceptable at all.
func verifySignature(t *token, k *key) error {
	if !fitsAlgorithm(k, t.alg) {
		return errorf("signature: a key of kind %s %s is not for %s", k.kind, k.alg, t.alg)
	}
	hash, good := hashes[t.alg[2:]], false
	sum := digest(hash, t.signed)
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		if t.alg[0] == 'P' { // PS256 and so on
			good = verifyPSS(public, hash, sum, t.signature, saltLength) == nil
		} else {
			good = verifyPKCS1v15(public, hash, sum, t.signature) == nil
		}
	case *ecdsa.PublicKey:
		good = verifyECDSA(public, sum, t.signature)
	case ed25519.PublicKey:
		good = verifyEd25519(public, []byte(t.signed), t.signature)
	case []byte:
		good = verifyHMAC(hash, public, t)
	}
	if good {
		return nil
	}
	return errorf("signature: does not match key %q", k.kid)
}

func verifyHMAC(hash crypto.Hash, secret []byte, t *token) bool {
	mac := hmac.New(hash.New, secret)
	mac.Write([]byte(t.signed))
	return len(secret) >= hash.Size() && hmac.Equal(mac.Sum(nil), t.signature)
}

// verifyECDSA checks a signature of r and s, concatenated, each as long as the order of the curve (RFC 7518 3.4).
func verifyECDSA(public *ecdsa.PublicKey, sum, signature []byte) bool {
	size := coordinateSize(public.Curve)
	return len(signature) == 2*size && ecdsa.Verify(public, sum, new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:]))
}

func coordinateSize(curve elliptic.Curve) int { return (curve.Params().BitSize + 7) / 8 }

// signToken makes a signed JWT, for private_key_jwt. signer comes from parsePrivateKeyPEM with the same alg. names are the header members by
// which the provider finds the key.
func signToken(signer crypto.Signer, alg string, names, claims map[string]any) (string, error) {
	head, _ := toJSON(mergeClaims(map[string]any{"alg": alg, "typ": "JWT"}, names)) // only strings: cannot fail
	payload, err := toJSON(claims)
	signed := base64url.EncodeToString(head) + "." + base64url.EncodeToString(payload)
	hash, signature := hashes[alg[2:]], []byte(nil)
	sum := digest(hash, signed)
	switch private := signer.(type) { // as in verifySignature
	case *rsa.PrivateKey:
		if alg[0] == 'P' {
			signature, err = rsa.SignPSS(rand.Reader, private, hash, sum, saltLength)
		} else {
			signature, err = rsa.SignPKCS1v15(rand.Reader, private, hash, sum)
		}
	case *ecdsa.PrivateKey:
		r, s, _ := ecdsa.Sign(rand.Reader, private, sum)
		size := coordinateSize(private.Curve)
		signature = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	case ed25519.PrivateKey:
		signature = ed25519.Sign(private, []byte(signed))
	}
	if err != nil {
		return "", errorf("signing with %s: %w", alg, err)
	}
	return signed + "." + base64url.EncodeToString(signature), nil
}

// parsePublicKeyPEM reads a public key or a certificate.
func parsePublicKeyPEM(written string) (*key, error) {
	block, _ := pem.Decode([]byte(written))
	if block == nil {
		return nil, newError("must be PEM: -----BEGIN PUBLIC KEY----- and so on, with its line breaks")
	}
	if block.Type == "CERTIFICATE" {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errorf("certificate: %w", err)
		}
		return newKey(certificate.PublicKey)
	}
	if public, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil { // RSA PUBLIC KEY
		return newKey(public)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errorf("must be a public key or a certificate, got %s: %w", forLog(block.Type), err)
	}
	return newKey(public)
}

// parsePrivateKeyPEM reads a signing key, and checks that it is for alg.
func parsePrivateKeyPEM(written, alg string) (crypto.Signer, error) {
	block, rest := pem.Decode([]byte(written))
	if block != nil && block.Type == "EC PARAMETERS" { // openssl ecparam -genkey writes them first
		block, _ = pem.Decode(rest)
	}
	if block == nil {
		return nil, newError("must be PEM: -----BEGIN PRIVATE KEY----- and so on, with its line breaks")
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if k, failed := x509.ParsePKCS1PrivateKey(block.Bytes); failed == nil { // RSA PRIVATE KEY
		private = k
	} else if k, failed := x509.ParseECPrivateKey(block.Bytes); failed == nil { // EC PRIVATE KEY
		private = k
	} else if err != nil {
		return nil, errorf("must be a private key without password, got %s", forLog(block.Type)) // no details of a secret
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, newError("must be a key to sign with")
	}
	k, err := newKey(signer.Public())
	if err == nil && !fitsAlgorithm(k, alg) {
		err = errorf("must be a key for %s, got %s", alg, k.kind)
	}
	return signer, err
}

// keyNames returns the members of a JOSE header that identify our key (RFC 7515 4.1.4, 4.1.7, 4.1.8): its kid, and the thumbprints of the
// certificate by which the provider knows it.
func keyNames(kid, certificate string, signer crypto.Signer) (map[string]any, error) {
	names := map[string]any{}
	if kid != "" {
		names["kid"] = kid
	}
	if certificate == "" {
		return names, nil
	}
	block, _ := pem.Decode([]byte(certificate))
	if block == nil {
		return nil, newError("must be PEM: -----BEGIN CERTIFICATE----- and so on, with its line breaks")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	ours, _ := x509.MarshalPKIXPublicKey(signer.Public())
	if !bytes.Equal(ours, parsed.RawSubjectPublicKeyInfo) {
		return nil, newError("must be the certificate of clientKey, got that of another key")
	}
	old, sum := sha1.Sum(block.Bytes), sha256.Sum256(block.Bytes)
	names["x5t"] = base64url.EncodeToString(old[:])
	names["x5t#S256"] = base64url.EncodeToString(sum[:])
	return names, nil
}

// newFixedKeySet makes a key set from configured keys.
func newFixedKeySet(keys ...*key) *cachedDocument {
	d := &cachedDocument{}
	cacheSet(&d.cache, "", &fetched{value: keys}, 0)
	return d
}

// verifyToken checks the algorithm and the signature of t. It fetches the keys if there are none, if they are old, and if none of them
// verifies t: the issuer may have new ones, or a new one under an old name. If they cannot be fetched, and none that we have is for t, the
// error wraps errUnavailable.
func verifyToken(ctx context.Context, s *cachedDocument, t *token, accepted []string) error {
	// OIDC Core 3.1.3.7, step 7, RFC 8725 3.1: we choose the algorithm, never the token.
	if !contains(accepted, t.alg) {
		return failIf(true, "alg", "expected %s, got %s; see idTokenSigningAlg, algorithms", accepted, t.alg)
	}
	known, isOld := cached(&s.cache, "")
	found, err := verifyWithKeys(known.value, t) // even with old ones: if no newer ones can be fetched, this result stands
	if s.fetch == nil || err == nil && !isOld {
		return err
	}
	return verifyWithNewerKeys(ctx, s, t, known.version, found, err)
}

// verifyWithNewerKeys is the rest of verifyToken: found and err are the result with the keys of that version.
func verifyWithNewerKeys(ctx context.Context, s *cachedDocument, t *token, version int, found bool, err error) error {
	newer, fetchErr := refetchDocument(ctx, s, version, t)
	if newer.version > version {
		found, err = verifyWithKeys(newer.value, t)
	}
	if !found && fetchErr != nil {
		return fetchErr
	}
	return err
}

// verifyWithKeys looks for the key that verifies t. If both have a kid, they must match; a token or a key without one is tried with all
// that fit the algorithm. found tells whether there was any.
func verifyWithKeys(set any, t *token) (found bool, err error) {
	err = nil
	keys, _ := set.([]*key)
	tries := 0
	for _, k := range keys {
		if t.kid != "" && k.kid != "" && t.kid != k.kid || !fitsAlgorithm(k, t.alg) {
			continue
		}
		if tries++; tries > maxTries {
			return true, errorf("signature: does not match any of the %d keys for %s that are tried at most, and there are more; let the issuer say which by a kid", maxTries, t.alg)
		}
		if err = verifySignature(t, k); err == nil {
			return true, nil
		}
	}
	if tries == 0 {
		err = errorf("signature: none of the issuer's %d keys is %q for %s%s", len(keys), t.kid, t.alg, keyProblem(keys, t.kid))
	}
	return tries > 0, err
}

// keyProblem is why the key with that kid cannot be used for the token, if there is one.
func keyProblem(keys []*key, kid string) string {
	for _, k := range keys {
		if k.problem != "" && k.kid == kid {
			return "; the one of that name cannot be used: " + k.problem
		}
		if kid != "" && k.kid == kid {
			return "; the one of that name is for " + k.kind + " " + k.alg
		}
	}
	return ""
}
