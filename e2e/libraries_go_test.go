package e2e

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	gojosejwt "github.com/go-jose/go-jose/v4/jwt"
	golangjwt "github.com/golang-jwt/jwt/v5"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	jwxjwt "github.com/lestrrat-go/jwx/v3/jwt"
	"golang.org/x/mod/modfile"
)

const librarySecret = "f7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAof7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAo"

var (
	hmacAlgorithms = []string{"HS256", "HS384", "HS512"}
	keyAlgorithms  = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)

// said is what a token says beside its type. Each library writes it by its own means.
type said struct {
	typ      string
	issuer   string
	audience []string
	ends     time.Time
	begins   time.Time // zero: not said
}

func good() said {
	return said{issuer: libraryIssuer, audience: []string{"api"}, ends: time.Now().Add(time.Hour)}
}

// signWith has a library sign with the key of an algorithm; key is a crypto.Signer, or a secret as []byte.
type signWith func(alg string, key any, s said) (string, error)

// newLibrary has a library of Go's sign what all libraries sign. sources says which keys verify an algorithm's tokens.
func newLibrary(t *testing.T, name, module string, sources map[string]any, sourceOf func(alg string) string, keys map[string]crypto.Signer, sign signWith) *library {
	t.Helper()
	made := &library{Name: name, Version: moduleVersion(t, module), Sources: map[string]map[string]any{}}
	for source, jwt := range sources {
		made.Sources[source] = jwt.(map[string]any)
	}
	made.Sources["secret"] = with{"signingSecret": librarySecret, "algorithms": hmacAlgorithms}
	for _, alg := range hmacAlgorithms {
		made.add(t, alg, "secret", 200)(sign(alg, []byte(librarySecret), good()))
	}
	for _, alg := range keyAlgorithms {
		made.add(t, alg, sourceOf(alg), 200)(sign(alg, keys[keyName(keys, alg)], good()))
	}
	for _, c := range []struct {
		name string
		bend func(s *said)
		want int
	}{
		{"several audiences", func(s *said) { s.audience = []string{"other", "api"} }, 200},
		{"at+jwt", func(s *said) { s.typ = "at+jwt" }, 200},
		{"expired", func(s *said) { s.ends = time.Now().Add(-time.Hour) }, 401},
		{"not yet", func(s *said) { s.begins = time.Now().Add(time.Hour) }, 401},
		{"another audience", func(s *said) { s.audience = []string{"other"} }, 401},
		{"another issuer", func(s *said) { s.issuer = "https://other.test" }, 401},
		{"another type", func(s *said) { s.typ = "dpop+jwt" }, 401},
	} {
		s := good()
		c.bend(&s)
		made.add(t, c.name, sourceOf("ES256"), c.want)(sign("ES256", keys["ES256"], s))
	}
	return made
}

// add keeps a token, or fails.
func (l *library) add(t *testing.T, name, source string, want int) func(token string, err error) {
	return func(token string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s, %s: %v", l.Name, name, err)
		}
		l.Tokens = append(l.Tokens, libraryToken{Name: name, Source: source, Token: token, Want: want})
	}
}

// moduleVersion is that of go.mod: a test's program does not know what it was built from.
func moduleVersion(t *testing.T, module string) string {
	t.Helper()
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	file, err := modfile.ParseLax("go.mod", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, required := range file.Require {
		if required.Mod.Path == module {
			return strings.TrimPrefix(required.Mod.Version, "v")
		}
	}
	t.Fatalf("go.mod has no %s", module)
	return ""
}

// keyName names the key of an algorithm: those of RSA share one, and so do the two names of one algorithm.
func keyName(keys map[string]crypto.Signer, alg string) string {
	switch {
	case alg == "Ed25519":
		return "EdDSA"
	case keys[alg] != nil:
		return alg
	}
	return "RSA"
}

func newKeys(t *testing.T) map[string]crypto.Signer {
	keys := map[string]crypto.Signer{}
	for name, alg := range map[string]string{"RSA": "RS256", "ES256": "ES256", "ES384": "ES384", "ES512": "ES512", "EdDSA": "EdDSA"} {
		keys[name] = newKey(t, alg)
	}
	return keys
}

// goLibraries are Go's, which need no program of their own.
func goLibraries(t *testing.T) []*library {
	return []*library{golangJWT(t), goJOSE(t), jwx(t)}
}

// golangJWT has no key sets.
func golangJWT(t *testing.T) *library {
	keys := newKeys(t)
	sources := map[string]any{}
	for name, key := range keys {
		sources["PEM "+name] = map[string]any{"publicKey": publicPEM(t, key)}
	}
	sourceOf := func(alg string) string { return "PEM " + keyName(keys, alg) }
	type claims struct {
		golangjwt.RegisteredClaims
		Name string `json:"name"`
	}
	of := func(s said) *claims {
		c := &claims{golangjwt.RegisteredClaims{
			Issuer: s.issuer, Subject: "user-alice", Audience: s.audience,
			IssuedAt: golangjwt.NewNumericDate(time.Now()), ExpiresAt: golangjwt.NewNumericDate(s.ends),
		}, libraryUser}
		if !s.begins.IsZero() {
			c.NotBefore = golangjwt.NewNumericDate(s.begins)
		}
		return c
	}
	sign := func(alg string, key any, s said) (string, error) {
		token := golangjwt.NewWithClaims(golangjwt.GetSigningMethod(alg), of(s))
		if s.typ != "" {
			token.Header["typ"] = s.typ
		}
		return token.SignedString(key)
	}
	made := newLibrary(t, "golang-jwt", "github.com/golang-jwt/jwt/v5", sources, sourceOf, keys, sign)
	golangjwt.TimePrecision = time.Millisecond // which is for the whole process
	made.add(t, "fractions", "PEM ES256", 200)(sign("ES256", keys["ES256"], good()))
	golangjwt.TimePrecision = time.Second
	unsigned := golangjwt.NewWithClaims(golangjwt.SigningMethodNone, of(good()))
	made.add(t, "unsigned", "PEM RSA", 401)(unsigned.SignedString(golangjwt.UnsafeAllowNoneSignatureType))
	made.add(t, "the public key as secret", "PEM RSA", 401)(sign("HS256", []byte(publicPEM(t, keys["RSA"])), good()))
	return made
}

// goJOSE publishes its RSA key with a certificate.
func goJOSE(t *testing.T) *library {
	keys := newKeys(t)
	set, private := jose.JSONWebKeySet{}, jose.JSONWebKeySet{}
	for name, key := range keys {
		published := jose.JSONWebKey{Key: key.Public(), KeyID: name, Use: "sig"}
		if name == "RSA" {
			published.Certificates = []*x509.Certificate{certificateOf(t, key)}
		}
		set.Keys = append(set.Keys, published)
	}
	private.Keys = append(private.Keys, jose.JSONWebKey{Key: keys["ES256"], KeyID: "ES256"})
	type name struct {
		Name string `json:"name"`
	}
	sign := func(alg string, key any, s said) (string, error) {
		signing := jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key}
		if signer, ok := key.(crypto.Signer); ok {
			signing.Key = jose.JSONWebKey{Key: signer, KeyID: keyName(keys, alg)}
		}
		options := &jose.SignerOptions{}
		if s.typ != "" {
			options = options.WithType(jose.ContentType(s.typ))
		}
		signer, err := jose.NewSigner(signing, options)
		if err != nil {
			return "", err
		}
		claims := gojosejwt.Claims{
			Issuer: s.issuer, Subject: "user-alice", Audience: s.audience,
			IssuedAt: gojosejwt.NewNumericDate(time.Now()), Expiry: gojosejwt.NewNumericDate(s.ends),
		}
		if !s.begins.IsZero() {
			claims.NotBefore = gojosejwt.NewNumericDate(s.begins)
		}
		return gojosejwt.Signed(signer).Claims(claims).Claims(name{libraryUser}).Serialize()
	}
	sources := map[string]any{"set": map[string]any{"jwks": set}, "private": map[string]any{"jwks": private}}
	made := newLibrary(t, "go-jose", "github.com/go-jose/go-jose/v4", sources, theSet, keys, sign)
	made.add(t, "a private key in the set", "private", 503)(sign("ES256", keys["ES256"], good()))
	made.add(t, "the public key as secret", "set", 401)(sign("HS256", []byte(publicPEM(t, keys["RSA"])), good()))
	encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.RSA_OAEP, Key: keys["RSA"].Public()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	made.add(t, "encrypted", "set", 401)(gojosejwt.Encrypted(encrypter).Claims(name{libraryUser}).Serialize())
	return made
}

func theSet(string) string { return "set" }

func certificateOf(t *testing.T, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func jwx(t *testing.T) *library {
	keys, set, named := newKeys(t), jwk.NewSet(), map[string]jwk.Key{}
	for name, key := range keys {
		imported, err := jwk.Import(key)
		if err == nil {
			err = jwk.AssignKeyID(imported)
		}
		if err == nil {
			err = set.AddKey(imported)
		}
		if err != nil {
			t.Fatal(err)
		}
		named[name] = imported
	}
	published, err := jwk.PublicSetOf(set)
	if err != nil {
		t.Fatal(err)
	}
	claims := func(s said) jwxjwt.Token {
		token := jwxjwt.NewBuilder().Issuer(s.issuer).Subject("user-alice").Audience(s.audience).Claim("name", libraryUser).IssuedAt(time.Now()).Expiration(s.ends)
		if !s.begins.IsZero() {
			token = token.NotBefore(s.begins)
		}
		built, err := token.Build()
		if err != nil {
			t.Fatal(err)
		}
		return built
	}
	sign := func(alg string, key any, s said) (string, error) {
		algorithm, _ := jwa.LookupSignatureAlgorithm(alg)
		if _, isSecret := key.([]byte); !isSecret {
			key = named[keyName(keys, alg)]
		}
		header := jws.NewHeaders()
		if s.typ != "" {
			_ = header.Set(jws.TypeKey, s.typ)
		}
		token, err := jwxjwt.Sign(claims(s), jwxjwt.WithKey(algorithm, key, jws.WithProtectedHeaders(header)))
		return string(token), err
	}
	sources := map[string]any{"set": map[string]any{"jwks": published}, "private": map[string]any{"jwks": set}}
	made := newLibrary(t, "jwx", "github.com/lestrrat-go/jwx/v3", sources, theSet, keys, sign)
	made.add(t, "Ed25519", "set", 200)(sign("Ed25519", keys["EdDSA"], good()))
	made.add(t, "a private key in the set", "private", 503)(sign("ES256", keys["ES256"], good()))
	made.add(t, "the public key as secret", "set", 401)(sign("HS256", []byte(publicPEM(t, keys["RSA"])), good()))
	unsigned, err := jwxjwt.Sign(claims(good()), jwxjwt.WithInsecureNoSignature())
	made.add(t, "unsigned", "set", 401)(string(unsigned), err)
	return made
}
