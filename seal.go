package oidc

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync/atomic"
	"time"
)

// This file seals what we keep in the browser: only we can read it, and nobody can change it, or put it in another cookie's place.
//
//	base64url( version byte · 12-byte nonce · AES-256-GCM ciphertext )
//
// The key is derived from the secret by HKDF-SHA256 over issuer, client and purpose, and the additional data binds the cookie's name as
// well. So a session of another client, of another cookie, or a pending login in a session's place does not open.

const sealVersion = 1

var errOtherSecret = errors.New("sealed with another secret, or for another client, issuer or cookie, or a part of it is missing")

// sealer seals for one purpose. The first key seals, and all of them open, so a secret can be replaced without signing anybody out.
type sealer struct {
	context    string
	aeads      []cipher.AEAD
	newKeyFrom *int64 // when the first of several keys begins to seal, in Unix seconds; until then the second does
}

// newSealer derives the keys for one purpose from the current secret and the previous ones.
func newSealer(secrets []string, issuer, clientID, purpose string) *sealer {
	s := &sealer{context: issuer + "\x00" + clientID + "\x00" + purpose, newKeyFrom: new(int64)}
	for _, secret := range secrets {
		s.aeads = append(s.aeads, newAEAD(deriveKey(secret, s.context)))
	}
	return s
}

// deriveKey is HKDF-SHA256 (RFC 5869) for one 32-byte block, extract and then expand. Yaegi's standard library has no HKDF.
func deriveKey(secret, info string) []byte {
	extract := hmac.New(sha256.New, []byte("traefik-oidc"))
	extract.Write([]byte(secret))
	expand := hmac.New(sha256.New, extract.Sum(nil))
	expand.Write([]byte(info + "\x01"))
	return expand.Sum(nil)
}

// newAEAD makes AES-256-GCM from a 32-byte key, with which neither step can fail.
func newAEAD(key []byte) cipher.AEAD {
	block, _ := aes.NewCipher(key)
	aead, _ := cipher.NewGCM(block)
	return aead
}

// seal encrypts plain for the cookie called name.
func seal(s *sealer, name string, plain []byte) string {
	aead := s.aeads[sealingKey(s)]
	box := append([]byte{sealVersion}, randomBytes(12)...)
	box = aead.Seal(box, box[1:], plain, []byte(s.context+"\x00"+name))
	return base64url.EncodeToString(box)
}

// keyHandover is how long a Traefik that starts with a new secret and the old one goes on sealing with the old one: during a rolling
// deployment, other replicas do not know the new one yet.
const keyHandover = 10 * time.Minute

// sealingKey is the index of the key that seals.
func sealingKey(s *sealer) int {
	if len(s.aeads) > 1 && timeNow().Unix() < atomic.LoadInt64(s.newKeyFrom) {
		return 1
	}
	return 0
}

// open is the inverse of seal. current tells whether the key that seals now was used; if not, the value should be sealed again.
func open(s *sealer, name, sealed string) (plain []byte, current bool, err error) {
	box, err := base64url.DecodeString(sealed)
	if err != nil || len(box) < 29 || box[0] != sealVersion { // version, nonce and the tag of GCM
		return nil, false, newError("not one of our cookies, or cut short")
	}
	for i, aead := range s.aeads {
		plain, err := aead.Open(nil, box[1:13], box[13:], []byte(s.context+"\x00"+name))
		if err == nil {
			if i == 0 && len(s.aeads) > 1 { // another replica already seals with it
				atomic.StoreInt64(s.newKeyFrom, 0)
			}
			return plain, i == sealingKey(s), nil
		}
	}
	return nil, false, errOtherSecret
}

// randomBytes reads the system's random generator. It does not fail on systems that Traefik runs on, and a panic is better than a guessable
// key.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		panic("no random numbers: " + err.Error())
	}
	return b
}

// randomText is 32 random bytes in 43 characters of unpadded base64url: a state, a nonce, a PKCE verifier (RFC 7636 4.1).
func randomText() string {
	return base64url.EncodeToString(randomBytes(32))
}

// hashText is the SHA-256 of text in base64url: the S256 code challenge (RFC 7636 4.2), and the form in which secrets appear in map keys.
func hashText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64url.EncodeToString(sum[:])
}
