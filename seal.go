package oidc

import (
	"bytes"
	"compress/flate"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// This room turns what we keep at the browser into text that only we can read and nobody can change, move or swap:
//
//	base64url( version byte · 12-byte nonce · AES-256-GCM ciphertext )
//
// The key comes from the secret by HKDF-SHA256 over issuer, client and purpose, and the additional data binds the cookie's
// name as well: a session of another client, another cookie, or a pending login in a session's place does not open.

const sealVersion = 1

var errOtherSecret = errors.New("sealed with another secret, or for another client, issuer or cookie, or a part of it is missing")

// sealer seals for one purpose. The first key seals; all of them open, so that a secret can be replaced without signing anybody out.
type sealer struct {
	context    string
	aeads      []cipher.AEAD
	newKeyFrom *int64 // from when on the first of several keys seals, in Unix seconds; until then the second does. nil: now
}

// newSealer derives the keys of one purpose from the current secret and the previous ones.
func newSealer(secrets []string, issuer, clientID, purpose string) *sealer {
	s := &sealer{context: issuer + "\x00" + clientID + "\x00" + purpose}
	for _, secret := range secrets {
		s.aeads = append(s.aeads, newAEAD(deriveKey(secret, s.context)))
	}
	return s
}

// deriveKey is HKDF-SHA256 (RFC 5869) for one 32-byte block, which Yaegi's library lacks: extract, then expand.
func deriveKey(secret, info string) []byte {
	extract := hmac.New(sha256.New, []byte("traefik-oidc"))
	extract.Write([]byte(secret))
	expand := hmac.New(sha256.New, extract.Sum(nil))
	expand.Write([]byte(info + "\x01"))
	return expand.Sum(nil)
}

// newAEAD makes AES-256-GCM of a 32-byte key, for which neither step can fail.
func newAEAD(key []byte) cipher.AEAD {
	block, _ := aes.NewCipher(key)
	aead, _ := cipher.NewGCM(block)
	return aead
}

// seal encrypts plain for the cookie called name.
func seal(s *sealer, name string, plain []byte) string {
	aead := s.aeads[sealingKey(s)]
	box := append([]byte{sealVersion}, randomBytes(aead.NonceSize())...)
	box = aead.Seal(box, box[1:], plain, []byte(s.context+"\x00"+name))
	return base64.RawURLEncoding.EncodeToString(box)
}

// handover is how long a Traefik that starts with a new secret, and with the old one beside it, seals with the old one: the others of a
// rolling deployment cannot open the new one yet.
const keyHandover = 10 * time.Minute

// sealing is the number of the key that seals.
func sealingKey(s *sealer) int {
	if len(s.aeads) > 1 && s.newKeyFrom != nil && time.Now().Unix() < atomic.LoadInt64(s.newKeyFrom) {
		return 1
	}
	return 0
}

// open is the opposite of seal. current says that the newest secret did it; else the value should be sealed again.
func open(s *sealer, name, sealed string) (plain []byte, current bool, err error) {
	box, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil || len(box) < 1+12+16 || box[0] != sealVersion {
		return nil, false, errors.New("not one of our cookies, or cut short")
	}
	for i, aead := range s.aeads {
		plain, err := aead.Open(nil, box[1:13], box[13:], []byte(s.context+"\x00"+name))
		if err == nil {
			if i == 0 && len(s.aeads) > 1 && s.newKeyFrom != nil { // somebody else seals with it already
				atomic.StoreInt64(s.newKeyFrom, 0)
			}
			return plain, i == sealingKey(s), nil
		}
	}
	return nil, false, errOtherSecret
}

// A packed session is a deflated ASN.1 sequence of byte strings: the record, and the header, payload and signature of each token. They
// go in decoded, so that deflate sees the JSON that three tokens of one user share. A token that is no JWT is a payload alone.

const maxUnpacked = 256 << 10 // bytes; a cookie that inflates to more is a bomb

// pack writes a session's record and its tokens as bytes.
func pack(record *sessionRecord, rawTokens []string) ([]byte, error) {
	head, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	parts := [][]byte{head}
	for _, raw := range rawTokens {
		parts = append(parts, splitJWT(raw)...)
	}
	text, _ := asn1.Marshal(parts) // byte strings do not fail, nor do writes to memory
	if len(text) > maxUnpacked {
		return nil, fmt.Errorf("session: the tokens and the UserInfo have %d bytes, more than the %d that a session may have", len(text), maxUnpacked)
	}
	return deflate(text), nil
}

func deflate(text []byte) []byte {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, flate.BestCompression)
	w.Write(text)
	w.Close()
	return out.Bytes()
}

// inflate is the opposite, and refuses a bomb.
func inflate(packed []byte) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxUnpacked+1))
	if err != nil || len(text) > maxUnpacked {
		return nil, errors.New("session: does not inflate")
	}
	return text, nil
}

// unpack is the opposite of pack for a known number of tokens.
func unpack(packed []byte, count int) (*sessionRecord, []string, error) {
	text, err := inflate(packed)
	if err != nil {
		return nil, nil, err
	}
	var parts [][]byte
	if rest, err := asn1.Unmarshal(text, &parts); err != nil || len(rest) > 0 || len(parts) != 1+3*count {
		return nil, nil, errors.New("session: cut short")
	}
	record := &sessionRecord{}
	numbers := json.NewDecoder(bytes.NewReader(parts[0]))
	numbers.UseNumber() // claims compare as text
	if err := numbers.Decode(record); err != nil {
		return nil, nil, fmt.Errorf("session: %w", err)
	}
	var rawTokens []string
	for i := 1; i < len(parts); i += 3 {
		raw := string(parts[i+1])
		if len(parts[i]) > 0 {
			encode := base64.RawURLEncoding.EncodeToString
			raw = encode(parts[i]) + "." + encode(parts[i+1]) + "." + encode(parts[i+2])
		}
		rawTokens = append(rawTokens, raw)
	}
	return record, rawTokens, nil
}

// splitJWT decodes the three parts of a JWT, when encoding them again gives the same text; else all of it is the second part.
func splitJWT(raw string) [][]byte {
	var decoded [][]byte
	for _, part := range strings.Split(raw, ".") {
		bytes, err := base64.RawURLEncoding.DecodeString(part)
		if err == nil && len(bytes) > 0 && base64.RawURLEncoding.EncodeToString(bytes) == part {
			decoded = append(decoded, bytes)
		}
	}
	if len(decoded) != 3 || strings.Count(raw, ".") != 2 {
		return [][]byte{nil, []byte(raw), nil}
	}
	return decoded
}

// randomBytes comes from the system's generator, which does not fail on the systems Traefik runs on; a panic is better than a guessable key.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		panic("no random numbers: " + err.Error())
	}
	return b
}

// randomText is 32 random bytes in 43 characters of unpadded base64url: a state, a nonce, a PKCE verifier (RFC 7636 4.1).
func randomText() string {
	return base64.RawURLEncoding.EncodeToString(randomBytes(32))
}

// hashText is the SHA-256 of text in base64url: the S256 code challenge (RFC 7636 4.2), and how secrets stand in map keys.
func hashText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
