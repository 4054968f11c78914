package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

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

func TestJWKS(t *testing.T) {
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
		{"RSA that is no base64", `{"kty":"RSA","n":"` + number(2048, 1) + `*","e":"AQAB"}`, "n: must be base64url without padding and line breaks"},
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
		`{"kty":"RSA","n":"` + number(2048, 1) + `==","e":"AQAB","use":"","alg":"","kid":""}`, // padded, and with empty members
		strings.NewReplacer("-", "+", "_", "/", "P-256", "P-256").Replace(jwkOf(jwtSigner("ES256"), `,"use":"sig"`)),
		`{"kty":"RSA","n":"` + number(2048, 1) + `","e":"Aw"}`, `{"kty":"RSA","n":"` + number(8192, 1) + `","e":"f____w"}`,
	} {
		_, err := parseKeySet([]byte(`{"keys":[` + jwk + `]}`))
		wantError(t, err, "")
	}
	for _, row := range []struct{ name, text, wantErr string }{
		{"empty set", `{"keys":[]}`, "key set: no usable key of 0: it is empty"},
		{"no keys", `{}`, "key set: keys: must be an array, got null"},
		{"keys is an object", `{"keys":{"k":"secret"}}`, "key set: keys: must be an array, got {\"k\""},
		{"a single key", good, "key set: keys: must be an array"},
		{"HTML", `<!doctype html>`, "JSON: must be an object"},
		{"keys twice", `{"keys":[],"keys":[` + good + `]}`, "must not have a name twice"},
		{"member of a key twice", `{"keys":[{"kty":"RSA","kty":"EC"}]}`, "must not have a name twice"},
		{"a certificate chain beside the key", `{"keys":[` + jwkOf(jwtSigner("RS256"),
			`,"x5c":["MIIB"],"x5t":"x","use":"sig","key_ops":["verify"],"alg":"RS256","kid":5`) + `]}`, ""},
	} {
		_, err := parseKeySet([]byte(row.text))
		t.Run(row.name, func(t *testing.T) { wantError(t, err, row.wantErr) })
	}
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

func newSourceKeySet(source *jwksSource) *cachedDocument {
	return &cachedDocument{log: &logger{level: levelError + 1}, fetch: func(ctx context.Context) (any, error) {
		data, err := source.fetch(ctx)
		if err != nil {
			return nil, err
		}
		keys, err := parseKeySet(data) // the interpreter loses both when they are returned in one step
		return keys, err
	}}
}

// age makes the keys, and the allowance of fetches, older.
func age(s *cachedDocument, by time.Duration) {
	known, _ := cached(&s.cache, "")
	older := *known
	older.until = older.until.Add(-by)
	older.backoff.until = older.backoff.until.Add(-by)
	cacheSet(&s.cache, "", &older, 0)
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

func TestJWKSFetchedOnce(t *testing.T) {
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

func TestJWKSRotated(t *testing.T) {
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

func TestJWKSChangedBehindTheirNames(t *testing.T) {
	first, second := newJWTSigner("ES256"), newJWTSigner("ES256")
	source := &jwksSource{text: jwksOf(first)}
	s := newSourceKeySet(source)
	ctx := context.Background()
	wantError(t, verifyToken(ctx, s, jwtSigned(t, first, "ES256", "k0"), es256), "")
	source.set(jwksOf(second), nil)
	wantError(t, verifyToken(ctx, s, jwtSigned(t, second, "ES256", "k0"), es256), "")
	wantError(t, verifyToken(ctx, s, jwtSigned(t, first, "ES256", "k0"), es256), `signature: does not match key "k0"`)
}

func TestJWKSWithdrawn(t *testing.T) {
	first, second := newJWTSigner("ES256"), newJWTSigner("ES256")
	source := &jwksSource{text: jwksOf(first, second)}
	s := newSourceKeySet(source)
	ctx := context.Background()
	parsed := jwtSigned(t, second, "ES256", "k1")
	wantError(t, verifyToken(ctx, s, parsed, es256), "")
	source.set(jwksOf(first), nil)
	age(s, documentLifetime-documentJitter-time.Minute)
	wantError(t, verifyToken(ctx, s, parsed, es256), "")
	wantCalls(t, source, 1)
	age(s, documentJitter+time.Minute)
	wantError(t, verifyToken(ctx, s, parsed, es256), "signature: none of the issuer's 1 keys")
	wantCalls(t, source, 2)
}

func TestJWKSProviderAway(t *testing.T) {
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
	age(s, 2*documentLifetime)
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

func TestJWKSWaiting(t *testing.T) {
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
	age(s, 2*documentLifetime)
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

func TestJWKSChoice(t *testing.T) {
	first, second, ed := newJWTSigner("ES256"), newJWTSigner("ES256"), jwtSigner("EdDSA")
	ctx := context.Background()
	set := func(jwks ...string) *cachedDocument {
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
	wantError(t, verifyToken(ctx, set(append(many, jwkOf(second, ""))...), unnamed, es256),
		"signature: does not match any of the 8 keys for ES256 that are tried at most, and there are more")
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
	r := &tokenRules{skew: 60, issuers: []string{"https://id.example.com/realms/main"}, audience: []string{"https://api.example.com"},
		algorithms: []string{alg}}
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

// TestJWKSLarge: a thousand keys of all uses with certificates, of which one is the token's.
func TestJWKSLarge(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	chain := strings.Repeat("TUlJ", 400)
	var all []any
	for i := 0; i < 1000; i++ {
		published := p.key.public()
		published["kid"] = fmt.Sprint("key ", i)
		published["x5c"] = []string{chain}
		published["use"] = []string{"sig", "enc"}[i%2]
		all = append(all, published)
	}
	all = append(all, p.key.public())
	p.answer("jwks", answerJSON(200, map[string]any{"keys": all}))
	s := start(t, jwtOptions(map[string]any{"issuer": p.issuer}))
	bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer})).accepted("ada")
	bearer(t, s, signed(p.key, map[string]any{"kid": "key 998"}, map[string]any{"iss": p.issuer})).accepted("ada")
	bearer(t, s, signed(p.key, map[string]any{"kid": "key 999"}, map[string]any{"iss": p.issuer})).challenged(401, badToken,
		`none of the issuer's 1001 keys is "key 999" for RS256; the one of that name cannot be used: must be for signatures, got use "enc"`)
	// A payload of thousands of objects is a token like any other.
	many := make([]any, 9000)
	for i := range many {
		many[i] = map[string]any{}
	}
	bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer, "list": many})).accepted("ada")
	var deep any = "x"
	for i := 0; i < 1001; i++ {
		deep = []any{deep}
	}
	bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer, "deep": deep})).challenged(401, badToken,
		"JSON: must be complete, and at most 1000 levels deep")
}

// TestJWKSCertificates: keys that are published as certificates alone, and the words for those that are broken.
func TestJWKSCertificates(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		p := newFakeProvider(t)
		p.key = &providerKey{kid: "k", alg: alg, private: newPrivateKey(alg)}
		kty := p.key.public()["kty"]
		p.answer("jwks", answerJSON(200, map[string]any{"keys": []any{map[string]any{"kty": kty, "kid": "k",
			"x5c": []string{linesOf(certificateOf(t, p.key.private.(crypto.Signer)))}}}}))
		s := start(t, jwtOptions(map[string]any{"issuer": p.issuer}))
		bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer})).accepted("ada")
	}
	p := newFakeProvider(t)
	broken := p.key.public()
	broken["n"] = "*" + broken["n"].(string)
	for want, keys := range map[string]any{
		`no usable key of 1: kty "RSA": n: must be base64url without padding and line breaks, at ` + p.issuer: []any{broken},
		`no usable key of 1: x5c: must be base64, at `: []any{map[string]any{"kty": "RSA",
			"x5c": []string{"-"}}},
		`no usable key of 1: x5c: x509: `: []any{map[string]any{"kty": "RSA",
			"x5c": []string{"TUlJ"}}},
		`keys: must be an array, got null, at `: nil,
	} {
		p.answer("jwks", answerJSON(200, map[string]any{"keys": keys}))
		s := start(t, jwtOptions(map[string]any{"issuer": p.issuer,
			"clientConfig": map[string]any{"maxRetries": 0, "headers": map[string]any{"X-Row": want}}}))
		bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer})).challenged(503, "", want)
	}
	p.answer("jwks", answerJSON(200, map[string]any{"keys": []any{broken,
		(&providerKey{kid: "other", alg: "RS256", private: newPrivateKey("RS256")}).public()}}))
	s := start(t, jwtOptions(map[string]any{"issuer": p.issuer}))
	bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer})).challenged(401, badToken,
		"the one of that name cannot be used: kty \"RSA\": n: must be base64url")
	p.answer("jwks", answerJSON(200, map[string]any{"keys": []any{mergeClaims(p.key.public(), map[string]any{"alg": "RS512"})}}))
	s = start(t, jwtOptions(map[string]any{"issuer": p.issuer, "clientConfig": map[string]any{"headers": map[string]any{"X-Row": "another algorithm"}}}))
	bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer})).challenged(401, badToken, "for RS256; the one of that name is for RSA RS512")
}

// linesOf is the base64 of a PEM text.
func linesOf(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[1:len(lines)-1], "")
}

// TestJWKSHeaders: keys that are not public are asked for with headers.
func TestJWKSHeaders(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	for _, headers := range []map[string]any{{"authorization": "Bearer one"}, {"Authorization": "Bearer two"}} {
		s := start(t, jwtOptions(map[string]any{"issuer": p.issuer, "clientConfig": map[string]any{"headers": headers}}))
		bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer})).accepted("ada")
		for _, endpoint := range []string{"discovery", "jwks"} {
			got := p.lastCall(endpoint).header.Get("Authorization")
			if got != headers["authorization"] && got != headers["Authorization"] {
				t.Errorf("%s was asked with %q", endpoint, got)
			}
		}
	}
}

// TestJWKSBackAfterAnOutage: its end leaves the whole allowance of fetches.
func TestJWKSBackAfterAnOutage(t *testing.T) {
	signer := newJWTSigner("ES256")
	source := &jwksSource{err: errors.New("connection refused")}
	s := newSourceKeySet(source)
	unknown := jwtSigned(t, signer, "ES256", "made-up")
	wantError(t, verifyToken(context.Background(), s, unknown, es256), "connection refused")
	age(s, time.Second)
	source.set(jwksOf(signer), nil)
	for i := 0; i < 2*fetchBurst; i++ {
		wantError(t, verifyToken(context.Background(), s, unknown, es256), "none of the issuer's 1 keys")
	}
	wantCalls(t, source, 1+fetchBurst)
}
