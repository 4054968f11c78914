package provider

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
)

// signingKey is one key of a provider, current or past. It is what the library wants to see of a key, private or public.
type signingKey struct {
	id      string
	alg     jose.SignatureAlgorithm
	private crypto.Signer
}

// newSigningKey makes a key that fits alg, an RFC 7518 name such as RS256, PS384, ES512, or EdDSA.
func newSigningKey(alg string) (*signingKey, error) {
	private, err := NewPrivateKey(alg)
	if err != nil {
		return nil, err
	}
	return &signingKey{id: uuid.NewString(), alg: jose.SignatureAlgorithm(alg), private: private}, nil
}

// NewPrivateKey makes a private key that fits alg. Tests use it for clients that sign (private_key_jwt) too.
func NewPrivateKey(alg string) (crypto.Signer, error) {
	switch alg {
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("no key for algorithm %q", alg)
}

// sign makes a JWS of the claims with this key. The typ is JWT, as the library writes it.
func (k *signingKey) sign(claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	return k.signText(payload)
}

// signText makes a JWS of what is no JSON that a library would write.
func (k *signingKey) signText(payload []byte) (string, error) {
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: k.alg, Key: jose.JSONWebKey{Key: k.private, KeyID: k.id}},
		(&jose.SignerOptions{}).WithType("JWT"),
	)
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// ID, Key and SignatureAlgorithm are op.SigningKey.
func (k *signingKey) ID() string                                  { return k.id }
func (k *signingKey) Key() any                                    { return k.private }
func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return k.alg }

// publicKey is op.Key, one entry of the published key set.
type publicKey struct{ key *signingKey }

func (k publicKey) ID() string                         { return k.key.id }
func (k publicKey) Key() any                           { return k.key.private.Public() }
func (k publicKey) Algorithm() jose.SignatureAlgorithm { return k.key.alg }
func (k publicKey) Use() string                        { return "sig" }
