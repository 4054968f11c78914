package oidc

import (
	"bytes"
	"compress/flate"
	"encoding/asn1"
	"encoding/base64"
	"io"
	"strings"
	"sync"
)

// A packed session is a deflated ASN.1 sequence of byte strings: the record, and the header, payload and signature of each token. The parts
// are stored decoded, so that deflate finds the JSON that a user's three tokens have in common. A token that is not a JWT is only a payload.

const maxUnpacked = 256 << 10 // bytes; a cookie that inflates to as many is a bomb

// packSession encodes a session's record and tokens.
func packSession(s *session) ([]byte, error) {
	if err := unpackTokens(s); err != nil {
		return nil, err
	}
	head, _ := toJSON(&s.sessionRecord) // what was JSON before: cannot fail
	parts := [][]byte{head}
	for _, raw := range []string{s.idToken, s.accessToken, s.refreshToken} {
		parts = append(parts, splitJWT(raw)...)
	}
	text, _ := asn1.Marshal(parts) // byte strings do not fail, nor do writes to memory
	if len(text) >= maxUnpacked {
		return nil, errorf("session: the tokens and the UserInfo have %d bytes, more than the %d that a session may have", len(text), maxUnpacked)
	}
	return deflate(text), nil
}

// unpackSession is the inverse of packSession. The tokens stay in parts until they are needed.
func unpackSession(packed []byte) (*session, error) {
	text, err := inflate(packed)
	if err != nil {
		return nil, err
	}
	var parts [][]byte
	if rest, err := asn1.Unmarshal(text, &parts); err != nil || len(rest) > 0 || len(parts) != 1+3*3 {
		return nil, newError("session: cut short")
	}
	s := &session{parts: parts[1:]}
	numbers := newDecoder(newReader(parts[0]))
	numbers.UseNumber() // claims are compared as text
	if err := numbers.Decode(&s.sessionRecord); err != nil {
		return nil, errorf("session: %w", err)
	}
	return s, nil
}

// unpackTokens reads the tokens of an unpacked session. Until then, only its Decision tells anything about the user.
func unpackTokens(s *session) error {
	if s.parts == nil {
		return nil
	}
	raw := rawTokens(s.parts)
	t, err := parseToken(raw[0])
	if err == nil {
		s.idToken, s.accessToken, s.refreshToken = raw[0], raw[1], raw[2]
		s.claims = mergeClaims(s.Carried, t.claims)
		s.parts = nil
	}
	return err
}

func deflate(text []byte) []byte {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, flate.BestCompression)
	w.Write(text)
	w.Close()
	return out.Bytes()
}

var inflaters sync.Pool // each takes 44 KB, which would be garbage after every session that is opened

// inflate is the inverse of deflate, and refuses decompression bombs.
func inflate(packed []byte) ([]byte, error) {
	found := inflaters.Get()
	if found == nil {
		found = flate.NewReader(strings.NewReader(""))
	}
	again, _ := found.(flate.Resetter)
	_ = again.Reset(newReader(packed), nil) // cannot fail
	reader, _ := found.(io.Reader)
	text, err := io.ReadAll(io.LimitReader(reader, maxUnpacked))
	inflaters.Put(found)
	if err != nil || len(text) == maxUnpacked {
		return nil, newError("session: does not inflate")
	}
	return text, nil
}

// rawTokens returns the tokens as they were before splitJWT.
func rawTokens(parts [][]byte) []string {
	var tokens []string
	for i := 0; i < len(parts); i += 3 {
		raw := string(parts[i+1])
		if len(parts[i]) > 0 {
			encode := base64.RawURLEncoding.EncodeToString
			raw = encode(parts[i]) + "." + encode(parts[i+1]) + "." + encode(parts[i+2])
		}
		tokens = append(tokens, raw)
	}
	return tokens
}

// splitJWT decodes the three parts of a JWT, if encoding them again gives the same text. Otherwise the whole token is the second part.
func splitJWT(raw string) [][]byte {
	var decoded [][]byte
	encoded := strings.Split(raw, ".")
	for _, part := range encoded {
		bytes, _ := base64.RawURLEncoding.DecodeString(part)
		if len(bytes) > 0 && base64.RawURLEncoding.EncodeToString(bytes) == part {
			decoded = append(decoded, bytes)
		}
	}
	if len(decoded) != 3 || len(encoded) != 3 {
		return [][]byte{nil, []byte(raw), nil}
	}
	return decoded
}
