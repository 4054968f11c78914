package e2e

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// tokens is a site without a sign-in.
func tokens(more with) site {
	s := site{with: with{"issuer": drop, "clientId": drop, "clientSecret": drop}}
	for name, value := range more {
		s.with[name] = value
	}
	return s
}

// call is a program's request, with these header lines.
func (v *visitor) call(method, path, body string, lines ...string) *browser.Page {
	v.t.Helper()
	v.Header = http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		v.Header.Add(name, value)
	}
	return v.must(v.Fetch(method, v.url(path), "", strings.NewReader(body)))
}

// bring tells what becomes of a request with these header lines.
func bring(lines ...string) func(v *visitor) string {
	return func(v *visitor) string { return v.outcome(v.call(http.MethodGet, "/api", "", lines...)) }
}

// told is what the application got in a header, when a request has these lines.
func told(header string, lines ...string) func(v *visitor) string {
	return func(v *visitor) string {
		return v.received(v.call(http.MethodGet, "/api", "", lines...)).Header.Get(header)
	}
}

const (
	in  = "application"
	out = "Unauthorized"
)

// newToken signs claims of an access token.
func newToken(t *testing.T, alg string, key any, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"sub": "user-alice", "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range claims {
		all[name] = value
	}
	return compact(t, alg, key, "at+jwt", all)
}

// compact signs claims as a JWT with a typ.
func compact(t *testing.T, alg string, key any, typ jose.ContentType, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key}, (&jose.SignerOptions{}).WithType(typ))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// thousandAtOnce sends a thousand requests at once, and counts those that do not get in.
func thousandAtOnce(v *visitor, app *app) int64 {
	var all sync.WaitGroup
	var refused atomic.Int64
	for range 1000 {
		all.Go(func() {
			page, err := v.Fetch(http.MethodGet, app.URL+"/", "", nil)
			if err != nil || v.outcome(page) != in {
				refused.Add(1)
			}
		})
	}
	all.Wait()
	return refused.Load()
}

// ownToken is a token of a client for itself, by the client credentials grant at a real provider.
func ownToken(t *testing.T, issuer, id, secret string, more url.Values) string {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}}
	for name, values := range more {
		form[name] = values
	}
	req, err := http.NewRequest(http.MethodPost, issuer+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Test", "yes") // not the gateway's
	req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("no token: %s, %v", res.Status, err)
	}
	return answer.AccessToken
}

// machine is a client that may have tokens for itself.
var machine = provider.Client{ID: "machine", Secret: "the secret of the machine", ClientCredentials: true}

func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

func publicPEM(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// TestJWTKeyOptions has the cases of the options that say who may sign.
func TestJWTKeyOptions(t *testing.T) {
	t.Parallel()
	p := start(t).provider
	const secret, other = "f7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAo", "Rt3nV8yBq5WxK1zMj7PdLf4hSc9GuE2a"
	shared := "Authorization: Bearer " + newToken(t, "HS256", []byte(secret), nil)
	try(t, "jwt.signingSecret", tokens(nil), bring(shared), row{secret, in}, row{other, out})
	encoded := base64.StdEncoding.EncodeToString([]byte(secret))
	try(t, "jwt.signingSecretBase64Encoded", tokens(with{"jwt.signingSecret": encoded}), bring(shared), row{true, in}, row{false, out}, row{drop, out})
	long := secret + secret
	try(t, "jwt.algorithms", tokens(with{"jwt.signingSecret": long}), bring("Authorization: Bearer "+newToken(t, "HS512", []byte(long), nil)),
		row{drop, in}, row{[]string{"HS512"}, in}, row{"HS384,HS256", out})

	key, wrong := newKey(t, "ES256"), newKey(t, "ES256")
	elliptic := "Authorization: Bearer " + newToken(t, "ES256", key, nil)
	try(t, "jwt.publicKey", tokens(nil), bring(elliptic), row{publicPEM(t, key), in}, row{publicPEM(t, wrong), out})
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	otherSet, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: wrong.Public(), KeyID: "k", Use: "sig"}}})
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, set, 0o644); err != nil {
		t.Fatal(err)
	}
	try(t, "jwt.jwksFile", tokens(nil), bring(elliptic), row{file, in}, row{string(set), in}, row{string(otherSet), out})

	second := newProvider(t, provider.Options{})
	signed, err := p.Sign(map[string]any{"iss": p.Issuer, "sub": "user-alice", "aud": []string{"api"}, "exp": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	lines := "Authorization: Bearer " + signed
	try(t, "jwt.issuer", tokens(nil), bring(lines), row{p.Issuer, in}, row{second.Issuer, out})
	try(t, "jwt.jwksUrl", tokens(nil), bring(lines), row{p.Issuer + "/jwks", in}, row{second.Issuer + "/jwks", out})
	try(t, "jwt.jwksUrl", tokens(with{"jwt.issuer": p.Issuer}), bring(lines), row{"/jwks", in}, row{"/nothing", "Service Unavailable"})
	try(t, "jwt.audience", tokens(with{"jwt.issuer": p.Issuer}), bring(lines), row{drop, in}, row{"api", in}, row{[]string{"x", "y"}, out})
	try(t, "jwt.resource", tokens(with{"jwt.issuer": p.Issuer}), func(v *visitor) string {
		return strings.ReplaceAll(v.call(http.MethodGet, "/", "").Header.Get("WWW-Authenticate"), v.app.name, "NAME")
	}, row{drop, `Bearer realm="NAME"`},
		row{"https://api.example.com/mcp", `Bearer realm="NAME", resource_metadata="https://api.example.com/.well-known/oauth-protected-resource/mcp"`})
}

// TestJWTPolicyOptions has the cases of the options that say where a token is, who may pass, and what the application learns.
func TestJWTPolicyOptions(t *testing.T) {
	t.Parallel()
	start(t)
	const secret = "f7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAo"
	token := newToken(t, "HS256", []byte(secret), map[string]any{"groups": []string{"admins"}})
	header := "Authorization: Bearer " + token
	base := tokens(with{"jwt.signingSecret": secret})
	try(t, "jwt.tokenSource.header", base, bring("X-Token: "+token), row{drop, out}, row{"x-token", in})
	try(t, "jwt.tokenSource.headerAuthScheme", tokens(with{"jwt.signingSecret": secret, "jwt.tokenSource.header": "X-Token"}), bring("X-Token: jwt "+token),
		row{drop, out}, row{"JWT", in}, row{"Bearer", out})
	try(t, "jwt.tokenSource.cookie", base, bring("Cookie: a=b; token="+token), row{drop, out}, row{"token", in})
	query := func(v *visitor) string { return v.outcome(v.call(http.MethodGet, "/?a=b&token="+token, "")) }
	try(t, "jwt.tokenSource.query", base, query, row{drop, out}, row{"token", in})
	try(t, "jwt.tokenKey", base, query, row{drop, out}, row{"token", in})
	form := func(v *visitor) string {
		return v.outcome(v.call(http.MethodPost, "/", "a=b&token="+token, "Content-Type: application/x-www-form-urlencoded"))
	}
	try(t, "jwt.tokenKey", base, form, row{drop, out}, row{"token", in})

	try(t, "jwt.forwardAuthorization", base, told("Authorization", header), row{drop, ""}, row{true, "Bearer " + token})
	try(t, "jwt.claims", base, bring(header), row{drop, in}, row{"Contains(`groups`, `admins`)", in}, row{"Contains(`groups`, `others`)", "Forbidden"})
	try(t, "jwt.forwardHeaders", base, told("X-Who", header, "X-Who: root"), row{drop, "root"}, row{with{"X-Who": "sub"}, "user-alice"})
	try(t, "jwt.usernameClaim", base, func(v *visitor) string {
		v.call(http.MethodGet, "/", "", header)
		entries := v.app.lab.traefik.AccessLog(v.app.name)
		return entries[len(entries)-1]["ClientUsername"].(string)
	}, row{drop, "-"}, row{"sub", "user-alice"})
}

// connections are the cases of a block's options clientConfig.*: base is a site that asks the provider something, and see comes
// to in when it can.
func connections(t *testing.T, block string, base func(p *provider.Provider) site, see func(p *provider.Provider) func(v *visitor) string, away string) {
	l := start(t)
	config, err := l.ca.ServerConfig("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := l.ca.Issue("the gateway")
	if err != nil {
		t.Fatal(err)
	}
	private := newProvider(t, provider.Options{TLS: config, Clients: []provider.Client{machine}})
	closed := config.Clone()
	closed.ClientCAs = l.ca.Pool()
	closed.ClientAuth = tls.VerifyClientCertIfGiven
	strict := newProvider(t, provider.Options{TLS: closed, Clients: []provider.Client{machine}})
	for _, endpoint := range []string{"jwks", "introspect", "token"} {
		strict.Instead(endpoint, func(rw http.ResponseWriter, req *http.Request) {
			if len(req.TLS.PeerCertificates) == 0 && req.Header.Get("X-Test") == "" {
				http.Error(rw, "no certificate", http.StatusServiceUnavailable)
				return
			}
			strict.Pass(rw, req)
		})
	}
	slow := newProvider(t, provider.Options{Clients: []provider.Client{machine}})
	shaky := func() *provider.Provider {
		return newProvider(t, provider.Options{Clients: []provider.Client{machine}})
	}
	for _, row := range []struct {
		name     string
		provider *provider.Provider
		with     with
		want     string
		prepare  func(p *provider.Provider)
	}{
		{"no CA", private, with{"maxRetries": 0}, away, nil},
		{"CA", private, with{"tls.ca": l.ca.PEM}, in, nil},
		{"no check", private, with{"tls.insecureSkipVerify": true}, in, nil},
		{"no certificate", strict, with{"tls.ca": l.ca.PEM, "maxRetries": 0}, away, nil},
		{"certificate", strict, with{"tls.ca": l.ca.PEM, "tls.cert": certificate, "tls.key": key}, in, nil},
		{"slow", slow, with{}, in, slowly},
		{"slow, in a hurry", slow, with{"timeoutSeconds": 1}, away, slowly},
		{"twice", shaky(), with{}, in, shakily},
		{"only once", shaky(), with{"maxRetries": 0}, away, shakily},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := base(row.provider)
			for name, value := range row.with {
				s.with[block+".clientConfig."+name] = value
			}
			app := l.serve(t, s)
			judge := see(row.provider)
			if row.prepare != nil {
				row.prepare(row.provider)
			}
			if got := judge(app.visitor(t)); got != row.want {
				t.Errorf("got %q, want %q\n%s", got, row.want, app.log())
			}
		})
	}
}

func slowly(p *provider.Provider) {
	for _, endpoint := range []string{"jwks", "introspect", "token"} {
		p.Instead(endpoint, func(rw http.ResponseWriter, req *http.Request) {
			time.Sleep(1500 * time.Millisecond)
			p.Pass(rw, req)
		})
	}
}

func shakily(p *provider.Provider) {
	var asked atomic.Int64
	for _, endpoint := range []string{"jwks", "introspect", "token"} {
		p.Instead(endpoint, func(rw http.ResponseWriter, req *http.Request) {
			if asked.Add(1) <= 2 {
				http.Error(rw, "not now", http.StatusBadGateway)
				return
			}
			p.Pass(rw, req)
		})
	}
}

// TestJWTConnectionOptions has the cases of the options by which keys are fetched.
func TestJWTConnectionOptions(t *testing.T) {
	t.Parallel()
	covers(t, "jwt.clientConfig.tls.ca", "jwt.clientConfig.tls.cert", "jwt.clientConfig.tls.key", "jwt.clientConfig.tls.insecureSkipVerify",
		"jwt.clientConfig.timeoutSeconds", "jwt.clientConfig.maxRetries")
	connections(t, "jwt", func(p *provider.Provider) site { return tokens(with{"jwt.jwksUrl": p.Issuer + "/jwks"}) },
		func(p *provider.Provider) func(v *visitor) string {
			token, err := p.Sign(map[string]any{"sub": "user-alice", "exp": time.Now().Add(time.Hour).Unix()})
			if err != nil {
				t.Fatal(err)
			}
			return bring("Authorization: Bearer " + token)
		}, "Service Unavailable")
}

// plainBasic is what people and curl send.
func plainBasic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}
