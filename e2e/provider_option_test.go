package e2e

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// newProvider is a provider for one test alone, which may do to it what it likes.
func newProvider(t *testing.T, o provider.Options) *provider.Provider {
	t.Helper()
	p, err := provider.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// canSignIn tells whether a sign-in reaches the application.
func canSignIn(v *visitor) string {
	page := v.open("/")
	if v.outcome(page) != "sign-in" {
		return "no"
	}
	page = v.must(v.Submit(page, url.Values{"username": {provider.Alice.Name}, "password": {provider.Alice.Password}}))
	return yes(v.outcome(page) == "application")
}

// edited is canSignIn with an ID token that a test has had its hands on.
func edited(edit func(claims map[string]any)) func(v *visitor) string {
	return func(v *visitor) string {
		v.app.provider.EditIDToken(v.app.name, edit)
		return canSignIn(v)
	}
}

// TestTokenTrustOptions has the cases of the options that say which ID tokens are believed.
func TestTokenTrustOptions(t *testing.T) {
	t.Parallel()
	first, second := newProvider(t, provider.Options{}), newProvider(t, provider.Options{Algorithm: "ES256"})
	try(t, "issuer", site{}, func(v *visitor) string {
		return strings.Split(v.look("/").Header.Get("Location"), "/authorize")[0]
	}, row{first.Issuer, first.Issuer}, row{second.Issuer, second.Issuer})
	try(t, "idTokenSigningAlg", site{provider: second}, canSignIn, row{drop, "yes"}, row{"ES256", "yes"}, row{"RS256", "no"})

	foreign := edited(func(claims map[string]any) { claims["iss"] = "https://other.example.com" })
	try(t, "trustedIssuer", site{}, foreign, row{drop, "no"}, row{"https://other.example.com", "yes"}, row{"https://third.example.com", "no"})
	try(t, "disableIssuerCheck", site{}, foreign, row{drop, "no"}, row{true, "yes"})
	shared := site{client: func(c *provider.Client) { c.Audience = []string{"api"} }}
	try(t, "trustedAudiences", shared, canSignIn, row{drop, "no"}, row{[]string{"api"}, "yes"}, row{[]string{"other"}, "no"})
}

// elsewhere is a provider where one endpoint is gone, and works at another address.
func elsewhere(t *testing.T, endpoint string) (p *provider.Provider, address string) {
	t.Helper()
	p = newProvider(t, provider.Options{})
	p.Instead(endpoint, http.NotFound)
	p.Instead("moved-"+endpoint, func(rw http.ResponseWriter, req *http.Request) {
		req.URL.Path = strings.Replace(req.URL.Path, "moved-", "", 1)
		p.Pass(rw, req)
	})
	if endpoint == "openid-configuration" {
		return p, p.Issuer + "/.well-known/moved-" + endpoint
	}
	return p, p.Issuer + "/moved-" + endpoint
}

// TestProviderEndpointOptions has the cases of the options endpoints.*: the endpoint of the settings is gone, the other works.
func TestProviderEndpointOptions(t *testing.T) {
	t.Parallel()
	p, address := elsewhere(t, "openid-configuration")
	try(t, "endpoints.discovery", site{provider: p}, canSignIn, row{drop, "no"}, row{address, "yes"})
	p, address = elsewhere(t, "token")
	try(t, "endpoints.token", site{provider: p}, canSignIn, row{drop, "no"}, row{address, "yes"})
	p, address = elsewhere(t, "jwks")
	try(t, "endpoints.jwks", site{provider: p}, canSignIn, row{drop, "no"}, row{address, "yes"})
	p, address = elsewhere(t, "userinfo")
	try(t, "endpoints.userinfo", site{provider: p, with: with{"userinfo": true}}, canSignIn, row{drop, "no"}, row{address, "yes"})

	leaving := with{"logoutUrl": "/logout", "scopes": []string{"openid", "offline_access"}}
	signOut := func(endpoint string) func(v *visitor) string {
		return func(v *visitor) string {
			v.signIn("/", provider.Alice)
			v.post("/logout", url.Values{})
			for _, call := range v.app.provider.Calls("moved-" + endpoint) {
				claims, _ := provider.Claims(call.Query.Get("id_token_hint") + call.Form.Get("id_token_hint"))
				if call.Client() == v.app.name || claims["azp"] == v.app.name {
					return "told there"
				}
			}
			return "not told there"
		}
	}
	p, address = elsewhere(t, "revoke")
	try(t, "endpoints.revocation", site{provider: p, with: leaving}, signOut("revoke"), row{drop, "not told there"}, row{address, "told there"})
	p, address = elsewhere(t, "end_session")
	try(t, "endpoints.endSession", site{provider: p, with: leaving}, signOut("end_session"), row{drop, "not told there"}, row{address, "told there"})
}

// TestProviderSettingsAsked: discoveryParams go with the request for the settings, and a request that fails is made again.
func TestProviderSettingsAsked(t *testing.T) {
	t.Parallel()
	covers(t, "discoveryParams", "clientConfig.maxRetries")
	for _, test := range []struct {
		name string
		with with
		want string // the parameter and whether somebody can sign in, when the first two requests fail
	}{
		{"as it comes", with{}, " yes"},
		{"with a parameter", with{"discoveryParams": with{"p": "policy"}}, "policy yes"},
		{"without a second try", with{"clientConfig.maxRetries": 0}, " no"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			own := newProvider(t, provider.Options{})
			var asked atomic.Int64
			own.Instead("openid-configuration", func(rw http.ResponseWriter, req *http.Request) {
				if asked.Add(1) <= 2 {
					http.Error(rw, "not now", http.StatusBadGateway)
					return
				}
				own.Pass(rw, req)
			})
			alice := start(t).serve(t, site{provider: own, with: test.with}).visitor(t)
			can := canSignIn(alice)
			if got := own.Calls("openid-configuration")[0].Query.Get("p") + " " + can; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestProviderClientOptions has the cases of the options by which we prove who we are.
func TestProviderClientOptions(t *testing.T) {
	t.Parallel()
	const secret = "the one secret that is right"
	registered := func(method string) site {
		return site{with: with{"clientSecret": secret}, client: func(c *provider.Client) { c.Secret, c.AuthMethod = secret, method }}
	}
	try(t, "clientSecret", site{client: registered("").client}, canSignIn, row{secret, "yes"}, row{"another secret, which is wrong", "no"})
	try(t, "clientAuthMethod", registered("client_secret_post"), canSignIn, row{"client_secret_post", "yes"}, row{"client_secret_basic", "no"})
	try(t, "clientAuthMethod", registered("client_secret_basic"), canSignIn, row{drop, "yes"}, row{"client_secret_post", "no"})
	try(t, "clientAuthMethod", registered("none"), canSignIn, row{"none", "yes"}, row{"client_secret_basic", "no"})

	key, wrongKey := newKey(t, "RS256"), newKey(t, "RS256")
	signing := site{
		with:   with{"clientSecret": drop, "session.secret": secret, "clientKey": encodeKey(t, key)},
		client: func(c *provider.Client) { c.AuthMethod, c.PublicKey = "private_key_jwt", key.Public() },
	}
	try(t, "clientKey", site{with: with{"clientSecret": drop, "session.secret": secret}, client: signing.client}, canSignIn,
		row{encodeKey(t, key), "yes"}, row{encodeKey(t, wrongKey), "no"})
	assertion := func(member string) func(v *visitor) string {
		return func(v *visitor) string {
			canSignIn(v)
			for _, call := range v.app.provider.Calls("token") {
				claims, _ := provider.Claims(call.Form.Get("client_assertion"))
				if claims["iss"] == v.app.name {
					return headerMember(v.t, call.Form.Get("client_assertion"), member)
				}
			}
			return "no assertion"
		}
	}
	try(t, "clientKeyId", signing, assertion("kid"), row{"one", "one"}, row{"two", "two"})
	try(t, "clientKeyAlg", signing, assertion("alg"), row{drop, "RS256"}, row{"PS384", "PS384"})
}

// TestProviderConnectionOptions has the cases of the options clientConfig.*, but for client certificates.
func TestProviderConnectionOptions(t *testing.T) {
	t.Parallel()
	l := start(t)
	config, err := l.ca.ServerConfig("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	private := newProvider(t, provider.Options{TLS: config})
	try(t, "clientConfig.tls.ca", site{provider: private}, canSignIn, row{drop, "no"}, row{l.ca.PEM, "yes"})
	try(t, "clientConfig.tls.insecureSkipVerify", site{provider: private}, canSignIn, row{drop, "no"}, row{true, "yes"})

	slow := newProvider(t, provider.Options{})
	slow.Instead("token", func(rw http.ResponseWriter, req *http.Request) {
		time.Sleep(1500 * time.Millisecond)
		slow.Pass(rw, req)
	})
	try(t, "clientConfig.timeoutSeconds", site{provider: slow}, canSignIn, row{drop, "yes"}, row{1, "no"})
}

// TestProviderClientCertificate: we prove who we are by a certificate, to a provider that wants one.
func TestProviderClientCertificate(t *testing.T) {
	t.Parallel()
	covers(t, "clientConfig.tls.cert", "clientConfig.tls.key")
	l := start(t)
	app := l.newApp(t, site{})
	t.Cleanup(func() { l.traefik.RemoveFile(app.name) })
	config, err := l.ca.ServerConfig("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	node := l.nodeProvider(t, provider.NodeOptions{TLS: config, Clients: []map[string]any{{
		"client_id": app.name, "redirect_uris": []string{app.URL + "/oidc/callback"},
		"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_san_dns": "the right client",
	}}})
	for name, want := range map[string]string{"the right client": "yes", "another client": "no"} {
		certificate, key, err := l.ca.Issue(name)
		if err != nil {
			t.Fatal(err)
		}
		err = app.set(site{with: with{
			"issuer": node.Issuer, "clientSecret": drop, "session.secret": "a secret of 16 bytes", "clientConfig.tls.ca": l.ca.PEM,
			"clientConfig.tls.cert": certificate, "clientConfig.tls.key": key,
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got := canSignIn(app.visitor(t)); got != want {
			t.Errorf("%s can sign people in: %s", name, got)
		}
	}
}

// TestCSRFOptions has the cases of the options csrf.*: a script that repeats the cookie's value in the header may post.
func TestCSRFOptions(t *testing.T) {
	t.Parallel()
	post := func(v *visitor) string {
		v.signIn("/", provider.Alice)
		for _, cookie := range v.Cookies(v.url("/")) {
			if strings.HasSuffix(cookie.Name, "token") {
				v.Header = http.Header{"X-My-Token": {cookie.Value}}
			}
		}
		return v.outcome(v.fetch(http.MethodPost, "/"))
	}
	on := site{with: with{"csrf.cookieName": "my-token"}}
	try(t, "csrf.headerName", on, post, row{drop, "Forbidden"}, row{"X-My-Token", "application"})
	try(t, "csrf.cookieName", site{with: with{"csrf.headerName": "X-My-Token"}}, func(v *visitor) string {
		return post(v) + " " + v.cookieNames()
	}, row{"my-token", "application NAME-session my-token"}, row{"a-token", "application NAME-session a-token"})
	try(t, "csrf.secure", on, func(v *visitor) string {
		for _, cookie := range v.app.secureVisitor(v.t).signIn("/", provider.Alice).Cookies {
			if cookie.Name == "my-token" {
				return yes(cookie.Secure)
			}
		}
		return "no cookie"
	}, row{true, "yes"}, row{false, "no"})
}

// TestConfigLogLevel: the story of a sign-in is told or not.
func TestConfigLogLevel(t *testing.T) {
	t.Parallel()
	try(t, "logLevel", site{}, func(v *visitor) string {
		v.signIn("/", provider.Alice)
		return yes(strings.Contains(v.app.log(), "signed in"))
	}, row{drop, "yes"}, row{"error", "no"})
}

func newKey(t *testing.T, alg string) crypto.Signer {
	t.Helper()
	key, err := provider.NewPrivateKey(alg)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encodeKey(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// headerMember reads a member of a JWT's header.
func headerMember(t *testing.T, jwt, member string) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(jwt, ".")[0])
	if err != nil {
		t.Fatal(err)
	}
	header := map[string]string{}
	if err := json.Unmarshal(text, &header); err != nil {
		t.Fatal(err)
	}
	return header[member]
}
