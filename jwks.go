package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // for crypto.Hash
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"sync"
	"time"
)

// This room holds keys: reading them, choosing one for a token, signing, and fetching an issuer's key set when it is needed.
// Its house rules:
//   - a key is checked when it is read (newKey), because the library panics on a missing curve or a key of the wrong length;
//   - a key serves the algorithms of its own kind only, so no public key is ever taken for a shared secret;
//   - one key set belongs to one issuer, and kid is nothing but a name in it.

const (
	keysLifetime  = time.Hour        // withdrawn keys are gone after this time
	fetchInterval = 10 * time.Second // between two fetches in the long run
	fetchBurst    = 3                // fetches at once: the first, and two rotations soon after
	maxTries      = 8                // signatures verified for one token that fits several keys
	minRSABits    = 2048             // RFC 7518 3.3
	maxRSABits    = 8192             // 2.5 ms to verify; 16384 bits cost 31 ms
)

// algorithm says what key a signature algorithm takes (RFC 7518 3.1, RFC 8037 3.1). Each takes one kind and one curve: that is what
// keeps a token from choosing how a key is used.
type algorithm struct {
	kty, crv string
	hash     crypto.Hash
}

var algorithms = map[string]*algorithm{
	"RS256": {"RSA", "", crypto.SHA256},
	"RS384": {"RSA", "", crypto.SHA384},
	"RS512": {"RSA", "", crypto.SHA512},
	"PS256": {"RSA", "", crypto.SHA256},
	"PS384": {"RSA", "", crypto.SHA384},
	"PS512": {"RSA", "", crypto.SHA512},
	"ES256": {"EC", "P-256", crypto.SHA256},
	"ES384": {"EC", "P-384", crypto.SHA384},
	"ES512": {"EC", "P-521", crypto.SHA512},
	"EdDSA": {"OKP", "Ed25519", crypto.SHA512}, // its hash is for at_hash; the signature hashes by itself
	"HS256": {"oct", "", crypto.SHA256},
	"HS384": {"oct", "", crypto.SHA384},
	"HS512": {"oct", "", crypto.SHA512},
}

var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

// key is one key that verifies signatures.
type key struct {
	kid, alg string // "": any
	kty, crv string
	public   interface{} // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, or []byte for HMAC
}

// newKey checks public and names its kind. What the library would refuse later is refused here, where it can be said in time (a
// key of the configuration), and what it would accept but should not: short and huge RSA keys (CPU), points off the curve
// (invalid-curve attacks), Ed25519 keys of a small order.
func newKey(public interface{}) (*key, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("RSA: must have %d to %d bits, got %d", minRSABits, maxRSABits, bits)
		}
		if k.E < 3 || k.E%2 == 0 || k.E > math.MaxInt32 {
			return nil, fmt.Errorf("RSA: exponent must be odd, at least 3 and at most 31 bits long, got %d", k.E)
		}
		return &key{kty: "RSA", public: k}, nil
	case *ecdsa.PublicKey:
		name := k.Curve.Params().Name
		if curves[name] == nil {
			return nil, fmt.Errorf("EC: curve must be P-256, P-384 or P-521, got %q", name)
		}
		if _, err := k.ECDH(); err != nil {
			return nil, errors.New("EC: not a point on the curve")
		}
		return &key{kty: "EC", crv: name, public: k}, nil
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize || isSmallOrder(k) {
			return nil, errors.New("Ed25519: must have 32 bytes, and not a small order")
		}
		return &key{kty: "OKP", crv: "Ed25519", public: k}, nil
	}
	return nil, errors.New("must be RSA, EC on P-256, P-384 or P-521, or Ed25519")
}

// newSecretKey is the key for those of HS256, HS384 and HS512 that are in algs. It must be as long as the hash (RFC 7518 3.2).
func newSecretKey(secret []byte, algs []string) (*key, error) {
	for _, alg := range algs {
		a := algorithms[alg]
		if a == nil || a.kty != "oct" {
			return nil, fmt.Errorf("a secret is not for %s", alg)
		}
		if len(secret) < a.hash.Size() {
			return nil, fmt.Errorf("must have at least %d bytes for %s, got %d", a.hash.Size(), alg, len(secret))
		}
	}
	return &key{kty: "oct", public: secret}, nil
}

// smallOrders are the points of order 1, 2, 4 and 8 in all their spellings, without the sign: with such a key one
// signature is good for many messages.
const smallOrders = "0000000000000000000000000000000000000000000000000000000000000000 " +
	"0100000000000000000000000000000000000000000000000000000000000000 " +
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05 " +
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a " +
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f " +
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f " +
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"

func isSmallOrder(k ed25519.PublicKey) bool {
	point := append([]byte{}, k...)
	point[31] &= 0x7f // the sign
	return strings.Contains(smallOrders, hex.EncodeToString(point))
}

// parseKeySet reads a JWK set (RFC 7517 5). Keys that we do not understand, that are not for signatures, or that are broken
// are left out one by one; a set without any usable key is an error that says why.
func parseKeySet(data []byte) ([]*key, error) {
	document, err := parseObject(data)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	items, ok := document["keys"].([]interface{})
	if !ok {
		return nil, fmt.Errorf("key set: keys: must be an array, got %s", shown(document["keys"]))
	}
	var keys []*key
	reason := "it is empty"
	for _, item := range items {
		k, err := parseJWK(item)
		if err != nil {
			reason = err.Error()
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("key set: no usable key of %d: %s", len(items), reason)
	}
	return keys, nil
}

// parseJWK reads one public key (RFC 7517 4). Secret keys (oct) have no place in a published set: whoever reads it could sign.
func parseJWK(item interface{}) (*key, error) {
	jwk, _ := item.(map[string]interface{})
	use, operations := jwk["use"], jwk["key_ops"]
	if use != nil && text(use) != "sig" || operations != nil && !has(texts(operations), "verify") {
		return nil, fmt.Errorf("must be for signatures, got use %s, key_ops %s", shown(use), shown(operations))
	}
	k, err := newKey(publicFromJWK(jwk))
	if err != nil {
		return nil, fmt.Errorf("kty %s: %w", shown(jwk["kty"]), err)
	}
	k.kid = text(jwk["kid"])
	k.alg = text(jwk["alg"])
	return k, nil
}

// publicFromJWK reads the key itself (RFC 7518 6, RFC 8037 2): nil if it is of a kind we do not know, unchecked otherwise.
func publicFromJWK(jwk map[string]interface{}) interface{} {
	kty, crv := text(jwk["kty"]), text(jwk["crv"])
	if kty == "RSA" {
		return &rsa.PublicKey{N: numberIn(jwk, "n"), E: int(numberIn(jwk, "e").Int64())}
	}
	if kty == "EC" && curves[crv] != nil {
		return &ecdsa.PublicKey{Curve: curves[crv], X: numberIn(jwk, "x"), Y: numberIn(jwk, "y")}
	}
	if kty == "OKP" && crv == "Ed25519" {
		x, _ := decodePart("x", text(jwk["x"])) // newKey refuses nothing
		return ed25519.PublicKey(x)
	}
	return nil
}

// numberIn decodes a member of a JWK. What is not base64url is 0, which newKey refuses.
func numberIn(jwk map[string]interface{}, name string) *big.Int {
	data, _ := decodePart(name, text(jwk[name]))
	return new(big.Int).SetBytes(data)
}

// fits reports whether k may verify alg: same kind, same curve, and the key is not kept for another algorithm (RFC 8725 3.1: a key
// is used with one algorithm). With this an RSA key never is the secret of HS256.
func fits(k *key, alg string) bool {
	a := algorithms[alg]
	return a != nil && a.kty == k.kty && a.crv == k.crv && (k.alg == "" || k.alg == alg)
}

// verifySignature checks the signature of t with k. Whether t's algorithm is acceptable at all is verifyToken's to say.
func verifySignature(t *token, k *key) error {
	if !fits(k, t.alg) {
		return fmt.Errorf("signature: a key of kind %s %s %s is not for %s", k.kty, k.crv, k.alg, t.alg)
	}
	a, message := algorithms[t.alg], []byte(t.signed)
	good := false
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		if strings.HasPrefix(t.alg, "PS") {
			good = rsa.VerifyPSS(public, a.hash, digest(a, message), t.signature, pssOptions(a)) == nil
		} else {
			good = rsa.VerifyPKCS1v15(public, a.hash, digest(a, message), t.signature) == nil
		}
	case *ecdsa.PublicKey:
		good = verifyECDSA(public, digest(a, message), t.signature)
	case ed25519.PublicKey:
		good = ed25519.Verify(public, message, t.signature)
	case []byte:
		mac := hmac.New(a.hash.New, public)
		mac.Write(message)
		good = len(public) >= a.hash.Size() && hmac.Equal(mac.Sum(nil), t.signature)
	}
	if !good {
		return fmt.Errorf("signature: does not match key %q", k.kid)
	}
	return nil
}

// digest hashes message as a says. It is hashed once for each key that is tried, which costs a tenth of the signature.
func digest(a *algorithm, message []byte) []byte {
	hash := a.hash.New()
	hash.Write(message)
	return hash.Sum(nil)
}

// pssOptions demands a salt as long as the hash (RFC 7518 3.5); the library's default takes any.
func pssOptions(a *algorithm) *rsa.PSSOptions {
	return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.hash}
}

// verifyECDSA checks a signature that is r and s side by side, each as long as the order of the curve (RFC 7518 3.4).
func verifyECDSA(public *ecdsa.PublicKey, sum, signature []byte) bool {
	size := coordinateSize(public.Curve)
	if len(signature) != 2*size {
		return false
	}
	r := new(big.Int).SetBytes(signature[:size])
	s := new(big.Int).SetBytes(signature[size:])
	return ecdsa.Verify(public, sum, r, s)
}

func coordinateSize(curve elliptic.Curve) int { return (curve.Params().BitSize + 7) / 8 }

// parsePublicKeyPEM reads a public key or a certificate.
func parsePublicKeyPEM(written string) (*key, error) {
	block, _ := pem.Decode([]byte(written))
	if block == nil {
		return nil, errors.New("must be PEM: -----BEGIN PUBLIC KEY----- and so on, with its line breaks")
	}
	if block.Type == "CERTIFICATE" {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		return newKey(certificate.PublicKey)
	}
	if public, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil { // RSA PUBLIC KEY
		return newKey(public)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("must be a public key or a certificate, got %s: %w", clip(block.Type), err)
	}
	return newKey(public)
}

// parsePrivateKeyPEM reads a key to sign with, and checks that it is one for alg.
func parsePrivateKeyPEM(written, alg string) (crypto.Signer, error) {
	block, rest := pem.Decode([]byte(written))
	if block != nil && block.Type == "EC PARAMETERS" { // openssl ecparam -genkey writes them first
		block, _ = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New("must be PEM: -----BEGIN PRIVATE KEY----- and so on, with its line breaks")
	}
	var private interface{}
	if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		private = k
	} else if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil { // RSA PRIVATE KEY
		private = k
	} else if k, err := x509.ParseECPrivateKey(block.Bytes); err == nil { // EC PRIVATE KEY
		private = k
	} else {
		return nil, fmt.Errorf("must be a private key without password, got %s", clip(block.Type)) // no details of a secret
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, errors.New("must be a key to sign with")
	}
	k, err := newKey(signer.Public())
	if err != nil {
		return nil, err
	}
	if !fits(k, alg) {
		return nil, fmt.Errorf("must be a key for %s, got %s %s", alg, k.kty, k.crv)
	}
	return signer, nil
}

// signToken makes a signed JWT, for private_key_jwt. signer comes from parsePrivateKeyPEM with the same alg.
func signToken(signer crypto.Signer, alg, kid string, claims map[string]interface{}) (string, error) {
	header := map[string]interface{}{"alg": alg, "typ": "JWT"}
	if kid != "" {
		header["kid"] = kid
	}
	head, _ := json.Marshal(header) // texts only
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed := base64url.EncodeToString(head) + "." + base64url.EncodeToString(payload)
	signature, err := sign(signer, alg, []byte(signed))
	if err != nil {
		return "", fmt.Errorf("signing with %s: %w", alg, err)
	}
	return signed + "." + base64url.EncodeToString(signature), nil
}

// sign makes the signature of message as JWS wants it.
func sign(signer crypto.Signer, alg string, message []byte) ([]byte, error) {
	a := algorithms[alg]
	if a == nil {
		return nil, errors.New("not a known algorithm")
	}
	if a.kty == "OKP" {
		return signer.Sign(rand.Reader, message, crypto.Hash(0))
	}
	if private, ok := signer.(*ecdsa.PrivateKey); ok { // its Sign would give ASN.1
		r, s, err := ecdsa.Sign(rand.Reader, private, digest(a, message))
		if err != nil {
			return nil, err
		}
		signature := make([]byte, 2*coordinateSize(private.Curve))
		r.FillBytes(signature[:len(signature)/2])
		s.FillBytes(signature[len(signature)/2:])
		return signature, nil
	}
	if strings.HasPrefix(alg, "PS") {
		return signer.Sign(rand.Reader, digest(a, message), pssOptions(a))
	}
	return signer.Sign(rand.Reader, digest(a, message), a.hash)
}

// keySet is the keys of one issuer. They are fetched when a token needs them, in the request that brings it.
type keySet struct {
	fetch   func(ctx context.Context) ([]byte, error) // nil: the keys never change
	flights flights

	mu      sync.Mutex
	keys    []*key    // the last good ones; replaced as a whole, never changed, so they are read without the lock
	fetched time.Time // when they came
	fetches int       // how many fetches have ended, well or not
	wait    backoff   // after a fetch that failed
	paid    time.Time // until when the allowance of fetches is used up; fetchInterval after the last good one began, at least
}

// newKeySet makes a key set that fetch, which limits its own time, fills when it is needed.
func newKeySet(fetch func(ctx context.Context) ([]byte, error)) *keySet {
	return &keySet{fetch: fetch}
}

// newFixedKeySet makes a key set of configured keys.
func newFixedKeySet(keys ...*key) *keySet {
	return &keySet{keys: keys}
}

// verifyToken checks the algorithm and the signature of t. The keys are fetched when there are none, when they are old, and when
// none of them verifies t: the issuer may have new ones, or may have put a new one under an old name. When they are not to be had
// and none that we have is for t, the error wraps errUnavailable.
func verifyToken(ctx context.Context, s *keySet, t *token, accepted []string) error {
	// OIDC Core 3.1.3.7, step 7, RFC 8725 3.1: the algorithm is ours to choose, never the token's.
	if !has(accepted, t.alg) {
		return fmt.Errorf("alg: expected %s, got %q; see idTokenSigningAlg, algorithms", oneOf(accepted), t.alg)
	}
	s.mu.Lock()
	keys, fetches, now := s.keys, s.fetches, time.Now()
	// Old keys do while they are being fetched, and for a moment after that failed: nobody but the one who fetches waits.
	current := now.Sub(s.fetched) < keysLifetime || now.Before(s.paid) || now.Before(s.wait.until)
	s.mu.Unlock()
	// Also old ones are tried: when there is nothing newer to be had, they are what counts.
	found, err := tryKeys(keys, t)
	if s.fetch == nil || current && err == nil {
		return err
	}
	// The number in the key keeps apart who knows the present keys and who looked before they came.
	_, fetchErr := share(ctx, &s.flights, strconv.Itoa(fetches), func(ctx context.Context) (interface{}, error) {
		return nil, fetchKeySet(ctx, s, fetches)
	})
	s.mu.Lock()
	keys = s.keys // the old ones, if the provider is away
	changed := s.fetches != fetches
	s.mu.Unlock()
	if changed {
		found, err = tryKeys(keys, t)
	}
	if !found && fetchErr != nil {
		return fetchErr
	}
	return err
}

// tryKeys looks for the key that verifies t. Names decide where both have one; a token or a key without is tried with all that
// are for its algorithm. found tells whether there was any.
func tryKeys(keys []*key, t *token) (found bool, err error) {
	tries := 0
	for _, k := range keys {
		if t.kid != "" && k.kid != "" && t.kid != k.kid || !fits(k, t.alg) || tries == maxTries {
			continue
		}
		tries++
		if err = verifySignature(t, k); err == nil {
			return true, nil
		}
	}
	if tries == 0 {
		return false, fmt.Errorf("signature: none of the issuer's %d keys is %q for %s", len(keys), t.kid, t.alg)
	}
	return true, err
}

// fetchKeySet fetches the keys, unless that has happened since the caller looked or happens too often: made-up key names must not
// make us hammer the provider. fetchBurst at once, then one in fetchInterval; the allowance is paid before the attempt. What fails
// costs none, as it has its own, growing, pauses. fetchKeySet returns how the last fetch ended.
func fetchKeySet(ctx context.Context, s *keySet, fetches int) error {
	s.mu.Lock()
	now, err := time.Now(), s.wait.err
	due := s.fetches == fetches && !now.Before(s.wait.until) && s.paid.Sub(now) <= (fetchBurst-1)*fetchInterval
	if due {
		if s.paid.Before(now) {
			s.paid = now
		}
		s.paid = s.paid.Add(fetchInterval)
	}
	s.mu.Unlock()
	if !due {
		return err
	}
	data, err := s.fetch(ctx)
	var keys []*key
	if err == nil {
		keys, err = parseKeySet(data)
	}
	if err != nil && !errors.Is(err, errUnavailable) {
		err = fmt.Errorf("%w: %s", errUnavailable, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetches++
	if err != nil {
		s.paid = s.paid.Add(-fetchInterval)
		fail(&s.wait, err, time.Now())
		return err
	}
	s.wait = backoff{}
	s.keys = keys
	s.fetched = now
	return nil
}
