package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var impatient = map[string]any{"clientConfig": map[string]any{"timeoutSeconds": 1, "maxRetries": 0}}

func TestProviderDiscoveryTroubles(t *testing.T) {
	t.Parallel()
	edited := func(edit func(d map[string]any)) func(p *fakeProvider) {
		return func(p *fakeProvider) { p.edit("discovery", edit) }
	}
	set := func(name string, value any) func(p *fakeProvider) {
		return edited(func(d map[string]any) { d[name] = value })
	}
	without := func(name string) func(p *fakeProvider) {
		return edited(func(d map[string]any) { delete(d, name) })
	}
	withIssuer := func(more string) func(p *fakeProvider) {
		return func(p *fakeProvider) { set("issuer", p.issuer+more)(p) }
	}
	answered := func(answer http.HandlerFunc) func(p *fakeProvider) {
		return func(p *fakeProvider) { p.answer("discovery", answer) }
	}
	deep := strings.Repeat("[", 100000) + strings.Repeat("]", 100000)
	const away, wrong = http.StatusServiceUnavailable, http.StatusInternalServerError
	for _, c := range []struct {
		name   string
		status int
		bend   func(p *fakeProvider)
		want   []string
	}{
		{"it names another issuer", wrong, set("issuer", "https://other.example.com"),
			[]string{"configuration: discovery: issuer: expected", "other.example.com"}},
		{"it names the issuer with two slashes", wrong, withIssuer("//"), []string{"configuration: discovery: issuer: expected"}},
		{"it names the issuer with another path", wrong, withIssuer("/x"), []string{"configuration: discovery: issuer: expected"}},
		{"it names no issuer", wrong, without("issuer"), []string{"issuer"}},
		{"it names a list of issuers", wrong, edited(func(d map[string]any) { d["issuer"] = []any{d["issuer"]} }), []string{"issuer"}},
		{"it names no authorization endpoint", wrong, without("authorization_endpoint"), []string{"authorization_endpoint", "got null", "endpoints"}},
		{"it names no token endpoint", wrong, set("token_endpoint", nil), []string{"token_endpoint", "got null"}},
		{"it names no keys", wrong, set("jwks_uri", ""), []string{"jwks_uri"}},
		{"an endpoint without host", wrong, set("token_endpoint", "/token"), []string{"token_endpoint"}},
		{"an endpoint that is a number", wrong, set("jwks_uri", 5), []string{"jwks_uri", "got 5"}},
		{"an endpoint with a password", wrong, set("token_endpoint", "https://a:b@example.com/"), []string{"token_endpoint"}},
		{"an endpoint that is a script", wrong, set("authorization_endpoint", "javascript:alert(1)"), []string{"authorization_endpoint"}},
		{"an endpoint with the beginning of a fragment", wrong, set("authorization_endpoint", "http://127.0.0.1/#"), []string{"authorization_endpoint"}},
		{"a huge issuer", wrong, set("issuer", strings.Repeat("i", 900000)), []string{"issuer: expected", "iii…"}},
		{"a huge endpoint", wrong, set("token_endpoint", "ftp://a/"+strings.Repeat("e", 900000)), []string{"token_endpoint", "eee…"}},
		{"a huge header", away, answered(answerRaw("HTTP/1.1 200 OK\r\n" + strings.Repeat("h", 50000) + "\r\n\r\n{}")), []string{"discovery", "…"}},
		{"HTML", away, answered(answerHTML()), []string{"discovery", "issuer"}},
		{"404", away, answered(answerText(404, "text/plain", "")), []string{"404", "is the issuer right?"}},
		{"500", away, answered(answerText(500, "text/plain", "")), []string{"500"}},
		{"redirect", away, answered(answerRedirect("http://127.0.0.1:1/")), []string{"307"}},
		{"10 MB", away, answered(answerText(200, "application/json", `{"a":"`+strings.Repeat("x", 10<<20)+`"}`)), []string{"larger than"}},
		{"endless", away, answered(answerEndless()), []string{"larger than"}},
		{"nothing", away, answered(answerNothing()), []string{"in time"}},
		{"broken connection", away, answered(answerBroken()), []string{"discovery"}},
		{"array", away, answered(answerText(200, "application/json", "[]")), []string{"discovery"}},
		{"an issuer twice", away, answered(answerText(200, "application/json", `{"issuer":"a","issuer":"b"}`)), []string{"discovery"}},
		{"nested too deep", away, answered(answerText(200, "application/json", `{"a":`+deep+`}`)), []string{"discovery"}},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newFakeProvider(t)
			c.bend(p)
			s := start(t, p.options(impatient, map[string]any{"bypass": "Path(`/public`)"}))
			b := newBrowser(t, s)
			r := b.open("/page").expect(c.status, "<html")
			passes, isOurFault := strings.Contains(r.body, "moments"), strings.Contains(r.body, "configuration")
			if (r.header.Get("Retry-After") != "") != passes || passes != (c.status == away) || isOurFault != (c.status == wrong) {
				t.Errorf("the page of %d: %q %s", c.status, r.header, r.body)
			}
			if r.header.Get("Cache-Control") != "no-store" {
				t.Errorf("got %q", r.header)
			}
			if strings.Contains(r.body, p.issuer) {
				t.Error("the page says more than a visitor needs")
			}
			s.expectLog(c.want...)
			for _, line := range strings.Split(s.logs(), "\n") {
				if len(line) > 1000 {
					t.Errorf("a line of %d bytes: %.200q", len(line), line)
				}
			}
			b.open("/public").upstream()
			b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
			p.edit("discovery", nil)
			p.answer("discovery", nil)
			time.Sleep(1200 * time.Millisecond) // the first pause
			b.signIn("/page")
		})
	}
}

// answerRaw sends bytes that no HTTP server would.
func answerRaw(text string) http.HandlerFunc {
	return func(rw http.ResponseWriter, req *http.Request) {
		if conn, buffer, err := rw.(http.Hijacker).Hijack(); err == nil {
			_, _ = buffer.WriteString(text)
			_ = buffer.Flush()
			_ = conn.Close()
		}
	}
}

// A token endpoint of any length is called, and named in short.
func TestProviderLongEndpoint(t *testing.T) {
	p := newFakeProvider(t)
	p.edit("discovery", func(d map[string]any) {
		d["token_endpoint"] = "http://127.0.0.1:1/" + strings.Repeat("e", 5000)
	})
	s := start(t, p.options())
	newBrowser(t, s).open("/").expect(http.StatusServiceUnavailable)
	s.expectLog("token endpoint: POST http://127.0.0.1:1/eee", "connection refused")
	for _, line := range strings.Split(s.logs(), "\n") {
		if len(line) > 1000 {
			t.Errorf("a line of %d bytes: %.200q", len(line), line)
		}
	}
}

// An optional address that nobody can use is left out, with one warning, and the sign-in works without it.
func TestProviderBrokenOptionalEndpoints(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"userinfo_endpoint", "introspection_endpoint", "revocation_endpoint", "end_session_endpoint",
		"pushed_authorization_request_endpoint"} {
		for _, value := range []any{"/end", "", "javascript:alert(1)", "https://a:b@id.example.com/", "https://id.example.com/#x",
			[]any{"https://id.example.com/"}, 5} {
			p := newFakeProvider(t)
			p.edit("discovery", func(d map[string]any) { d[name] = value })
			s, b := signedIn(t, p, map[string]any{"logoutUrl": "/logout"})
			if told := strings.Count(s.logs(), "discovery: "+name+" is left out"); told != 1 {
				t.Errorf("%s is %v: expected one warning, got %d:\n%s", name, value, told, s.logs())
			}
			if b.open("/logout"); name == "end_session_endpoint" && p.count("end_session") != 0 {
				t.Errorf("%v was used", value)
			}
		}
	}
	// What the options need is missing then: that is no outage.
	for name, options := range map[string]map[string]any{"userinfo_endpoint": {"userinfo": true},
		"pushed_authorization_request_endpoint": {"par": true}} {
		p := newFakeProvider(t)
		p.edit("discovery", func(d map[string]any) { d[name] = "/relative" })
		s := start(t, p.options(options))
		newBrowser(t, s).open("/").expect(http.StatusInternalServerError, "configuration")
		s.expectLog("configuration", "the provider names no "+name+"; see endpoints")
	}
	// Addresses that are configured are not even looked at in the document.
	p := newFakeProvider(t)
	p.edit("discovery", func(d map[string]any) {
		d["authorization_endpoint"], d["token_endpoint"], d["userinfo_endpoint"] = "/a", nil, "ftp://x"
	})
	s := start(t, p.options(map[string]any{"userinfo": true,
		"endpoints": map[string]any{"authorization": p.issuer + "/authorize", "token": p.issuer + "/token", "userinfo": p.issuer + "/userinfo"}}))
	newBrowser(t, s).signIn("/")
	if strings.Contains(s.logs(), "left out") {
		t.Errorf("nothing was left out:\n%s", s.logs())
	}
}

// The final slash of the issuer is forgiven in the options, and then the provider's own spelling counts, byte for byte.
func TestProviderFinalSlash(t *testing.T) {
	t.Parallel()
	for _, slash := range []string{"", "/"} {
		p := newFakeProvider(t)
		p.issuer = p.URL + slash
		written := p.URL + strings.TrimPrefix("/", slash)
		p.edit("discovery", func(d map[string]any) { d["authorization_response_iss_parameter_supported"] = true })
		p.answer("authorize", withIss(p, func() string { return p.issuer }))
		options := p.options(map[string]any{"issuer": written, "jwt": map[string]any{"resource": app + "/api"}, "loginUrl": "/login",
			"frontchannelLogoutUrl": "/frontchannel", "backchannelLogoutUrl": "/backchannel"})
		s := start(t, options)
		b := newBrowser(t, s)
		b.open("/login?iss=" + url.QueryEscape(p.issuer)).upstream()
		b.open("/login").upstream()
		if told := strings.Count(s.logs(), "which counts from now on"); told != 1 {
			t.Errorf("expected one warning, got %d:\n%s", told, s.logs())
		}
		now := time.Now().Unix()
		bearer := func(issuer string) string {
			return "Authorization: Bearer " + p.sign(map[string]any{"iss": issuer, "sub": "ada", "aud": app + "/api", "exp": now + 60})
		}
		withHeaders(s, bearer(p.issuer)).upstream()
		withHeaders(s, bearer(written)).expect(http.StatusUnauthorized)
		if described := b.fetch(http.MethodGet, "/.well-known/oauth-protected-resource/api", ""); !strings.Contains(described.body, `["`+p.issuer+`"]`) {
			t.Errorf("the resource is described as %s", described.body)
		}
		asking := start(t, p.options(map[string]any{"issuer": written, "oAuthIntrospection": map[string]any{"resource": app + "/api"}}))
		for _, issuer := range []string{p.issuer, written} {
			p.edit("introspection", func(answer map[string]any) { answer["iss"], answer["aud"] = issuer, app+"/api" })
			want := http.StatusOK
			if issuer == written {
				want = http.StatusUnauthorized
			}
			withHeaders(asking, "Authorization: Bearer "+p.opaque("ada")).expect(want)
		}
		b.open("/login?iss=" + url.QueryEscape(written)).expect(http.StatusBadRequest)
		sendLogoutToken(s, logoutForm(p.logoutToken(map[string]any{"iss": written, "sub": "ada"}))).expect(http.StatusBadRequest)
		newBrowser(t, s).look("/frontchannel?iss=" + url.QueryEscape(written) + "&sid=" + sidOf(p)).expect(http.StatusBadRequest)
		newBrowser(t, s).look("/frontchannel?iss=" + url.QueryEscape(p.issuer) + "&sid=" + sidOf(p)).expect(http.StatusOK)
		sendLogoutToken(s, logoutForm(p.logoutToken(map[string]any{"sub": "ada"}))).expect(http.StatusOK)

		p.edit("id_token", func(claims map[string]any) { claims["iss"] = written })
		newBrowser(t, s).open("/login").expect(http.StatusBadGateway)
		p.edit("id_token", nil)
		p.answer("authorize", withIss(p, func() string { return written }))
		newBrowser(t, s).open("/login").expect(http.StatusBadGateway)
		s.expectLog("callback: iss: expected", p.issuer)
	}
}

// withIss names the issuer in the answer (RFC 9207).
func withIss(p *fakeProvider, issuer func() string) http.HandlerFunc {
	return func(rw http.ResponseWriter, req *http.Request) {
		recorder := httptest.NewRecorder()
		p.usual("authorize", recorder, req)
		rw.Header().Set("Location", recorder.Header().Get("Location")+"&iss="+url.QueryEscape(issuer()))
		rw.WriteHeader(recorder.Code)
	}
}

func TestProviderIssuerSpellings(t *testing.T) {
	for _, path := range []string{"/", "/realms/one", "/realms/one/"} {
		p := newFakeProvider(t)
		p.issuer = p.URL + path
		newBrowser(t, start(t, p.options())).signIn("/")
	}
}

func TestProviderIsLeftAloneAfterFailures(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.answer("discovery", answerText(500, "text/plain", ""))
	s := start(t, p.options(impatient))
	begin := time.Now()
	for time.Since(begin) < 2500*time.Millisecond || p.count("discovery") < 2 && time.Since(begin) < time.Minute {
		newBrowser(t, s).open("/").expect(http.StatusServiceUnavailable)
		time.Sleep(20 * time.Millisecond)
	}
	if calls := p.count("discovery"); calls < 2 || calls > 3 {
		t.Errorf("expected attempts at 0 s and 1 s, got %d", calls)
	}
}

func TestProviderIsAskedAgain(t *testing.T) {
	t.Parallel()
	// What only reads is tried again within one request.
	p := newFakeProvider(t)
	var failures int64 = 2
	fail := func(endpoint string) http.HandlerFunc {
		return func(rw http.ResponseWriter, req *http.Request) {
			if atomic.AddInt64(&failures, -1) >= 0 {
				panic(http.ErrAbortHandler)
			}
			p.usual(endpoint, rw, req)
		}
	}
	p.answer("discovery", fail("discovery"))
	s := start(t, p.options())
	newBrowser(t, s).signIn("/")
	if p.count("discovery") != 3 {
		t.Errorf("expected three attempts, got %d", p.count("discovery"))
	}
}

func TestProviderFirstRequests(t *testing.T) {
	p := newFakeProvider(t)
	p.answer("discovery", func(rw http.ResponseWriter, req *http.Request) {
		time.Sleep(200 * time.Millisecond)
		p.usual("discovery", rw, req)
	})
	p.answer("jwks", func(rw http.ResponseWriter, req *http.Request) {
		time.Sleep(200 * time.Millisecond)
		p.usual("jwks", rw, req)
	})
	s := start(t, p.options())
	one := newBrowser(t, s)
	var redirected, signedIn int64
	inParallel(1000, func(i int) {
		if res := one.raw("/", "Sec-Fetch-Mode: navigate"); res.StatusCode == http.StatusFound {
			atomic.AddInt64(&redirected, 1)
		}
	})
	inParallel(50, func(i int) {
		if newBrowser(t, s).open("/").isUpstream() {
			atomic.AddInt64(&signedIn, 1)
		}
	})
	if redirected != 1000 || signedIn != 50 || p.count("discovery") != 1 || p.count("jwks") != 1 {
		t.Errorf("%d of 1000 redirected, %d of 50 signed in, %d discoveries, %d key sets", redirected, signedIn, p.count("discovery"), p.count("jwks"))
	}
}

func TestProviderRotatesItsKeys(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.useAlg("ES256")
	s := start(t, p.options())
	newBrowser(t, s).signIn("/")
	p.rotateKeys("two")
	newBrowser(t, s).signIn("/")
	time.Sleep(2 * time.Second) // a second rotation, seconds later
	p.rotateKeys("three")
	newBrowser(t, s).signIn("/")
	if p.count("jwks") != 3 {
		t.Errorf("expected three key sets, got %d", p.count("jwks"))
	}
}

func TestProviderIsNotHammeredForUnknownKeys(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.useAlg("ES256")
	s, b := signedIn(t, p, map[string]any{"backchannelLogoutUrl": "/backchannel"})
	known := p.key
	for i := 0; i < 30; i++ {
		p.mu.Lock()
		p.key = &providerKey{kid: fmt.Sprintf("unknown%d", i), alg: "ES256", private: known.private}
		p.mu.Unlock()
		sendLogoutToken(s, logoutForm(p.logoutToken(map[string]any{"sub": "ada"}))).expect(http.StatusBadRequest)
	}
	p.answer("jwks", answerText(500, "text/plain", ""))
	for i := 0; i < 30; i++ {
		r := sendLogoutToken(s, logoutForm(p.logoutToken(map[string]any{"sub": "ada"})))
		if r.status == http.StatusOK {
			t.Errorf("an unknown key was taken")
		}
	}
	if calls := p.count("jwks"); calls > 8 {
		t.Errorf("60 tokens with unknown keys made %d key set requests", calls)
	}
	b.fetch(http.MethodGet, "/", "").upstream()
}

func TestProviderKeySetTroubles(t *testing.T) {
	for _, c := range []struct {
		name   string
		bend   func(p *fakeProvider)
		status int
		want   string
	}{
		{"keys of kinds we do not know among them", func(p *fakeProvider) {
			p.edit("jwks", func(d map[string]any) {
				d["keys"] = append([]any{7, nil, "text", []int{1}, map[string]any{}, map[string]any{"kty": "XYZ", "kid": "a"},
					map[string]any{"kty": "EC", "crv": "secp256k1", "kid": "b", "x": "AA", "y": "AA"},
					map[string]any{"kty": "RSA", "kid": "c", "n": "AQAB", "e": "AQAB"},
					map[string]any{"kty": "RSA", "kid": "d", "n": 5, "e": true}, map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": "e", "x": "AA"},
					map[string]any{"kty": "oct", "kid": "f", "k": "AAAA"}}, d["keys"].([]any)...)
			})
		}, 200, ""},
		{"no name on the one key", func(p *fakeProvider) {
			p.edit("jwks", func(d map[string]any) { delete(d["keys"].([]any)[0].(map[string]any), "kid") })
		}, 200, ""},
		{"no name in the token", func(p *fakeProvider) { p.edit("header", func(h map[string]any) { delete(h, "kid") }) }, 200, ""},
		{"no name in the token, several keys", func(p *fakeProvider) {
			p.keys = append([]*providerKey{{kid: "zero", alg: "RS256", private: newPrivateKey("RS256")}}, p.keys...)
			p.edit("header", func(h map[string]any) { delete(h, "kid") })
		}, 200, ""},
		{"no keys", func(p *fakeProvider) { p.edit("jwks", func(d map[string]any) { d["keys"] = []int{} }) }, 503, "key"},
		{"HTML", func(p *fakeProvider) { p.answer("jwks", answerHTML()) }, 503, "key set"},
		{"500", func(p *fakeProvider) { p.answer("jwks", answerText(500, "text/plain", "")) }, 503, "500"},
		{"10 MB", func(p *fakeProvider) {
			p.answer("jwks", answerText(200, "application/json", `{"keys":["`+strings.Repeat("x", 10<<20)+`"]}`))
		}, 503, "larger than"},
		{"endless", func(p *fakeProvider) { p.answer("jwks", answerEndless()) }, 503, "larger than"},
		{"nothing", func(p *fakeProvider) { p.answer("jwks", answerNothing()) }, 503, "in time"},
		{"no address", func(p *fakeProvider) { p.edit("discovery", func(d map[string]any) { delete(d, "jwks_uri") }) }, 500, "jwks_uri"},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newFakeProvider(t)
			c.bend(p)
			s := start(t, p.options(impatient))
			b := newBrowser(t, s)
			b.open("/").expect(c.status)
			if c.status == 200 {
				return
			}
			if b.cookie(s.sessionCookie()) != nil {
				t.Error("there is a session")
			}
			s.expectLog(c.want)
		})
	}
}

func TestProviderEndpointsByHand(t *testing.T) {
	p := newFakeProvider(t)
	p.answer("discovery", answerText(404, "text/plain", ""))
	at := p.issuer
	s := start(t, p.options(map[string]any{"endpoints": map[string]string{"authorization": at + "/authorize", "token": at + "/token",
		"jwks": at + "/jwks"}}))
	newBrowser(t, s).signIn("/")
	if p.count("discovery") != 0 {
		t.Errorf("there was nothing to discover: %d", p.count("discovery"))
	}
	q := newFakeProvider(t)
	inside := newFakeProvider(t) // the same provider by another name
	inside.answer("token", func(rw http.ResponseWriter, req *http.Request) { q.usual("token", rw, req) })
	newBrowser(t, start(t, q.options(map[string]any{"endpoints": map[string]string{"token": inside.URL + "/token"}}))).signIn("/")
	if inside.count("token") != 1 || q.count("token") != 0 {
		t.Error("the endpoint that was configured is not used")
	}
}

func TestProviderDiscoveryByHand(t *testing.T) {
	p := newFakeProvider(t)
	elsewhere := newFakeProvider(t)
	elsewhere.answer("discovery", func(rw http.ResponseWriter, req *http.Request) { p.usual("discovery", rw, req) })
	s := start(t, p.options(map[string]any{"endpoints": map[string]string{"discovery": elsewhere.URL + "/.well-known/openid-configuration"},
		"discoveryParams": map[string]string{"p": "b2c_1"}}))
	newBrowser(t, s).signIn("/")
	if p.count("discovery") != 0 || elsewhere.lastCall("discovery").form.Get("p") != "b2c_1" {
		t.Errorf("got %d, %q", p.count("discovery"), elsewhere.lastCall("discovery").form)
	}
}

// tlsProvider is a provider with a certificate of its own, which asks for the client's when client is set.
func tlsProvider(t *testing.T, client *x509.CertPool) *fakeProvider {
	t.Helper()
	p := unstartedProvider()
	if client != nil {
		p.Server.TLS = &tls.Config{ClientCAs: client, ClientAuth: tls.RequireAndVerifyClientCert}
	}
	p.Server.StartTLS()
	p.issuer = p.URL
	t.Cleanup(func() { p.stop() })
	return p
}

func caOf(p *fakeProvider) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Server.Certificate().Raw}))
}

func TestProviderCertificates(t *testing.T) {
	tlsOptions := func(pairs ...any) map[string]any {
		block := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			block[pairs[i].(string)] = pairs[i+1]
		}
		return map[string]any{"clientConfig": map[string]any{"maxRetries": 0, "tls": block}}
	}
	trusting := func(s *testSite, p *fakeProvider) *browser {
		b := newBrowser(t, s)
		b.client.Transport = p.Client().Transport
		return b
	}
	p := tlsProvider(t, nil)
	trusting(start(t, p.options(tlsOptions("ca", caOf(p)))), p).signIn("/")
	trusting(start(t, p.options(tlsOptions("caBundle", caOf(p)))), p).signIn("/")
	trusting(start(t, p.options(tlsOptions("insecureSkipVerify", true))), p).signIn("/")
	s := start(t, p.options(map[string]any{"clientConfig": map[string]any{"maxRetries": 0}}))
	trusting(s, p).open("/").expect(http.StatusServiceUnavailable)
	s.expectLog("signed by unknown authority; give its CA in tls.ca of clientConfig")
	for issuer, hint := range map[string]string{
		strings.Replace(newFakeProvider(t).issuer, "http:", "https:", 1): "HTTP response to HTTPS client; this address speaks http",
		"https://127.0.0.1:1":       "in a container, this is the container itself",
		"https://no-name.invalid/x": "the name must be known where Traefik runs; see endpoints",
	} {
		s := start(t, p.options(map[string]any{"issuer": issuer, "clientConfig": map[string]any{"maxRetries": 0}}))
		newBrowser(t, s).open("/").expect(http.StatusServiceUnavailable)
		s.expectLog(hint)
		if strings.Contains(s.logs(), "is the issuer right") {
			t.Errorf("%s: two hints", issuer)
		}
	}
	if s, err := build(t, p.options(tlsOptions("ca", "not a certificate"))); err == nil {
		t.Errorf("%s: a broken certificate was accepted", s.name)
	} else if !strings.Contains(err.Error(), "tls.ca") {
		t.Errorf("got %v", err)
	}
}

// RFC 8705 5: a provider may ask for certificates at addresses of their own, where browsers are not sent.
func TestProviderCertificateEndpoints(t *testing.T) {
	ca := newTestCA(t)
	serverCert, serverKey := ca.issue(t, "127.0.0.1")
	pair, err := tls.X509KeyPair([]byte(serverCert), []byte(serverKey))
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(parsedCertificate(t, ca.pem))
	for _, method := range []string{"tls_client_auth", "private_key_jwt", "private_key_jwt without certificate", "client_secret_post"} {
		p := newFakeProvider(t)
		var shown int64
		aliases := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			atomic.AddInt64(&shown, 1)
			p.serve(rw, req)
		}))
		aliases.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: trusted, ClientAuth: tls.RequireAndVerifyClientCert}
		aliases.StartTLS()
		t.Cleanup(aliases.Close)
		p.edit("discovery", func(d map[string]any) {
			d["mtls_endpoint_aliases"] = map[string]any{"issuer": "https://evil.example.com", "authorization_endpoint": aliases.URL,
				"end_session_endpoint": aliases.URL,
				"token_endpoint":       aliases.URL + "/token", "userinfo_endpoint": aliases.URL + "/userinfo", "revocation_endpoint": aliases.URL + "/revoke"}
		})
		cert, key := ca.issue(t, "127.0.0.1")
		options := p.options(map[string]any{"clientAuthMethod": method, "userinfo": true, "logoutUrl": "/logout",
			"session":      map[string]any{"secret": "the-secret-of-sixteen-bytes"},
			"clientConfig": map[string]any{"tls": map[string]any{"ca": ca.pem, "cert": cert, "key": key}}})
		want := int64(0)
		if method != "client_secret_post" {
			delete(options, "clientSecret")
			p.clientSecret = ""
			want = 3
		}
		if strings.HasPrefix(method, "private_key_jwt") { // for certificate-bound tokens, as in FAPI 2.0
			options["clientAuthMethod"] = "private_key_jwt"
			options["clientKey"] = pemOf(t, commonKey("RS256"))
		}
		if strings.HasSuffix(method, "without certificate") {
			delete(options, "clientConfig")
			want = 0
		}
		b := newBrowser(t, start(t, options))
		b.signIn("/")
		b.open("/logout")
		if atomic.LoadInt64(&shown) != want || p.count("token") != 1 || p.count("userinfo") != 1 || p.count("revocation") != 1 ||
			p.count("end_session") != 1 {
			t.Errorf("%s: expected %d calls with a certificate, got %d", method, want, shown)
		}
	}
	p := newFakeProvider(t)
	p.edit("discovery", func(d map[string]any) {
		d["mtls_endpoint_aliases"] = map[string]any{"token_endpoint": "ftp://127.0.0.1/"}
	})
	s := start(t, p.options(map[string]any{"clientAuthMethod": "tls_client_auth",
		"clientConfig": map[string]any{"tls": map[string]any{"cert": serverCert, "key": serverKey}}}))
	newBrowser(t, s).open("/").expect(http.StatusInternalServerError)
	s.expectLog("token_endpoint: must be an absolute https URL")
}

func parsedCertificate(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestProviderWarnsOfPlainHTTP(t *testing.T) {
	p := newFakeProvider(t)
	start(t, p.options()).expectLog("plain http")
}

func TestProviderDownAtStart(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.away(true)
	s := start(t, p.options(impatient, map[string]any{"bypass": "Path(`/public`)"})) // needs no network
	b := newBrowser(t, s)
	b.open("/public").upstream()
	page := b.open("/").expect(http.StatusServiceUnavailable)
	if page.header.Get("Refresh") == "" {
		t.Errorf("a page should try again by itself: %q", page.header)
	}
	p.away(false)
	time.Sleep(1200 * time.Millisecond)
	b.signIn("/")
}

// TestProviderMetadataIsReadAgain: after its lifetime, which differs from document to document; what is worse than the last good one
// does not replace it.
func TestProviderMetadataIsReadAgain(t *testing.T) {
	seen := map[time.Duration]bool{}
	for i := 0; i < 20; i++ {
		d := &cachedDocument{log: newLogger("test", "error"), fetch: func(context.Context) (any, error) { return i, nil }}
		before := time.Now()
		known, err := refetchDocument(context.Background(), d, 0, &token{})
		if err != nil || known.version != 1 {
			t.Fatalf("expected a document, got %v", err)
		}
		lasts := known.until.Sub(before).Round(time.Second)
		if lasts <= documentLifetime-documentJitter-time.Second || lasts > documentLifetime+time.Second {
			t.Errorf("expected %s to %s, got %s", documentLifetime-documentJitter, documentLifetime, lasts)
		}
		seen[lasts] = true
	}
	if len(seen) < 3 {
		t.Errorf("all documents are read again at the same time: %v", seen)
	}
	p := newFakeProvider(t)
	s := start(t, p.options(impatient))
	newBrowser(t, s).signIn("/")
	if s.server == nil {
		return // its clock can be moved in this process alone
	}
	d := testMiddlewareOf(s).sessions.client.metadata
	again := func() {
		age(d, 24*time.Hour)
		newBrowser(t, s).open("/").upstream()
	}
	p.answer("discovery", answerText(500, "text/plain", ""))
	again()
	p.answer("discovery", nil)
	p.edit("discovery", func(m map[string]any) { m["issuer"] = "https://other.example.com" })
	again()
	s.expectLog("issuer", "other.example.com")
	moved := newFakeProvider(t)
	moved.answer("jwks", func(rw http.ResponseWriter, req *http.Request) { p.usual("jwks", rw, req) })
	p.edit("discovery", func(m map[string]any) { m["jwks_uri"] = moved.URL + "/jwks" })
	again()
	if m, err := discover(context.Background(), testMiddlewareOf(s).sessions.client); err != nil || m.endpoints["jwks_uri"] != moved.URL+"/jwks" ||
		p.count("discovery") != 4 {
		t.Errorf("expected the new document after four requests, got %v, %v after %d", m.endpoints["jwks_uri"], err, p.count("discovery"))
	}
}

// TestProviderWithoutS256Shared: the first middleware of a client has PKCE off, and its second sends what the metadata deny.
func TestProviderWithoutS256Shared(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.edit("discovery", func(d map[string]any) { d["code_challenge_methods_supported"] = []string{"plain"} })
	off, on := start(t, p.options(map[string]any{"pkce": false})), start(t, p.options())
	for i := 0; i < 2; i++ {
		for _, s := range []*testSite{off, on} {
			newBrowser(t, s).signIn("/")
		}
	}
	const line = "code_challenge_methods_supported: expected S256"
	if strings.Contains(off.logs(), line) || strings.Count(on.logs(), line) != 1 {
		t.Errorf("expected one line of the second, got\n%s\n%s", off.logs(), on.logs())
	}
	if p.count("discovery") != 1 {
		t.Errorf("the two share no client: %d discoveries", p.count("discovery"))
	}
}

// TestProviderWithoutS256 is told once that its metadata deny what is sent all the same.
func TestProviderWithoutS256(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		methods any
		options map[string]any
		lines   int
	}{
		{"plain alone", []string{"plain"}, nil, 1},
		{"no method", []string{}, nil, 1},
		{"no list", nil, nil, 0},
		{"S256 among others", []string{"plain", "S256"}, nil, 0},
		{"PKCE is off", []string{"plain"}, map[string]any{"pkce": false}, 0},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			p := newFakeProvider(t)
			p.edit("discovery", func(d map[string]any) {
				d["code_challenge_methods_supported"] = row.methods
				if row.methods == nil {
					delete(d, "code_challenge_methods_supported")
				}
			})
			s := start(t, p.options(row.options))
			newBrowser(t, s).signIn("/")
			if row.options == nil && p.lastCall("authorize").form.Get("code_challenge_method") != "S256" {
				t.Errorf("S256 was not sent: %q", p.lastCall("authorize").form)
			}
			if s.server != nil { // its clock can be moved in this process alone
				age(testMiddlewareOf(s).sessions.client.metadata, 24*time.Hour)
			}
			newBrowser(t, s).signIn("/")
			if got := strings.Count(s.logs(), "code_challenge_methods_supported: expected S256"); got != row.lines {
				t.Errorf("expected %d lines, got %d:\n%s", row.lines, got, s.logs())
			}
		})
	}
}

// A token answer that is a form is read as strictly as one in JSON.
func TestProviderNamesTwiceInAForm(t *testing.T) {
	c := &client{}
	for body, want := range map[string]string{
		"access_token=a&token_type=bearer&scope=x&scope=y":     "",
		"access_token=a&token_type=bearer&access_token=b":      "form: must not have access_token twice",
		"access_token=a&token_type=bearer&id_token=&id_token=": "form: must not have id_token twice",
	} {
		_, err := readTokenResponse(c, 200, []byte(body))
		wantError(t, err, want)
	}
}

// A name that is there twice in an answer stops nobody, unless something is decided by it. The operator is told once.
func TestProviderNamesTwice(t *testing.T) {
	t.Parallel()
	twice := func(p *fakeProvider, endpoint, members string) {
		p.answer(endpoint, func(rw http.ResponseWriter, req *http.Request) {
			recorder := httptest.NewRecorder()
			p.usual(endpoint, recorder, req)
			answerText(recorder.Code, "application/json", "{"+members+","+recorder.Body.String()[1:])(rw, req)
		})
	}
	idToken := func(p *fakeProvider, members string) {
		p.edit("token", func(d map[string]any) {
			parts := strings.Split(d["id_token"].(string), ".")
			claims, _ := base64url.DecodeString(parts[1])
			signed := parts[0] + "." + base64url.EncodeToString([]byte("{"+members+","+string(claims[1:])))
			d["id_token"] = signed + "." + base64url.EncodeToString(p.key.sign(signed))
		})
	}
	for _, c := range []struct {
		name, endpoint, members string
		status                  int
	}{
		{"discovery", "discovery", `"claims_supported":["a"],"claims_supported":["b"]`, 200},
		{"discovery", "discovery", `"issuer":"https://evil.example.com"`, 503},
		{"discovery", "discovery", `"token_endpoint":"https://evil.example.com/token"`, 503},
		{"key set", "jwks", `"x":[{"alg_x":1,"alg_x":2}]`, 200},
		{"key set", "jwks", `"keys":[]`, 503},
		{"userinfo", "userinfo", `"address":{"street":"a"},"address":{"street":"b"}`, 200},
		{"userinfo", "userinfo", `"address":{"street":"a","street":"b"}`, 200},
		{"userinfo", "userinfo", `"sub":"eve"`, 503},
		{"token endpoint", "token", `"scope":"a","scope":"b"`, 200},
		{"token endpoint", "token", `"id_token":"a.b.c"`, 503},
		{"id token", "", `"address":{"street":"a"},"address":{"street":"b"}`, 200},
		{"id token", "", `"groups":["first"]`, 200},
		{"id token", "", `"sub":"eve"`, 502},
		{"id token", "", `"\u0073ub":"eve"`, 502},
		{"id token", "", `"nonce":"x"`, 502},
	} {
		p := newFakeProvider(t)
		if c.endpoint == "" {
			idToken(p, c.members)
		} else {
			twice(p, c.endpoint, c.members)
		}
		s := start(t, p.options(impatient, map[string]any{"userinfo": true}, headersFor("X-Groups", "groups")))
		b := newBrowser(t, s)
		r := b.open("/")
		if r.status != c.status {
			t.Errorf("%s with %s: expected %d, got %s", c.name, c.members, c.status, r.story())
			continue
		}
		if c.status != 200 {
			s.expectLog("must not have a name twice")
			continue
		}
		if groups := r.upstream().Headers.Get("X-Groups"); groups != "admins,staff" {
			t.Errorf("%s with %s: the last one counts, got %q", c.name, c.members, groups)
		}
		newBrowser(t, s).signIn("/")
		if told := strings.Count(s.logs(), c.name+": the provider's answer has a name twice"); told != 1 {
			t.Errorf("%s with %s: expected one warning, got %d\n%s", c.name, c.members, told, s.logs())
		}
	}
}

// A key set that has moved: what is redirected is not followed, and the line says what to do.
func TestProviderRedirects(t *testing.T) {
	p := newFakeProvider(t)
	p.answer("jwks", func(rw http.ResponseWriter, req *http.Request) {
		http.Redirect(rw, req, "https://elsewhere.example.com/", http.StatusFound)
	})
	s := start(t, jwtOptions(map[string]any{"jwksUrl": p.issuer + "/jwks", "issuer": p.issuer}))
	bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer})).expect(http.StatusServiceUnavailable)
	s.expectLog("302 Found; redirects are not followed: write the address it leads to")
}

// An https issuer is one in any letters: its addresses must be https, too, unless the operator reads the metadata without.
func TestProviderMetadataOfAnIssuerInCapitals(t *testing.T) {
	for _, c := range []struct{ issuer, discovery, want string }{
		{"https://id.example.com", "https://id.example.com/d", "must be an absolute https URL"},
		{"HTTPS://id.example.com", "https://id.example.com/d", "must be an absolute https URL"},
		{"http://id.example.com", "http://id.example.com/d", ""},
		{"http://id.example.com", "https://id.example.com/d", ""},
		{"https://id.example.com", "HTTP://inside/d", ""},
	} {
		_, err := checkEndpoints(&client{issuer: c.issuer, discoveryURL: c.discovery, hasLogin: true, keys: newFixedKeySet()}, map[string]any{
			"authorization_endpoint": "http://id.example.com/authorize", "token_endpoint": "http://id.example.com/token",
			"jwks_uri": "http://id.example.com/keys"})
		wantError(t, err, c.want)
	}
}

func TestProviderIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	broken := httptest.NewServer(answerText(500, "text/plain", ""))
	t.Cleanup(broken.Close)
	c := &client{http: broken.Client(), retries: 5}
	begin := time.Now()
	if _, err := getObject(context.Background(), c, "discovery", broken.URL); err == nil || time.Since(begin) > 4*time.Second {
		t.Errorf("five repetitions took %s: %v", time.Since(begin), err)
	}
}

// TestProviderTokenResponse: token endpoints as they are, read as golang.org/x/oauth2 reads them.
func TestProviderTokenResponse(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, kind, body string
		life             int64
		want             string
	}{
		{"RFC 6749", "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":3599}`, 3599, ""},
		{"small letters", "application/json", `{"access_token":"a","token_type":"bearer","expires_in":3599}`, 3599, ""},
		{"capital letters", "application/json", `{"access_token":"a","token_type":"BEARER","expires_in":3599}`, 3599, ""},
		{"Apigee", "application/json", `{"access_token":"a","token_type":"BearerToken","expires_in":"3599"}`, 3599, ""},
		{"no type", "application/json", `{"access_token":"a","expires_in":"3599"}`, 3599, ""},
		{"type null", "application/json", `{"access_token":"a","token_type":null,"expires_in":3599.0}`, 3599, ""},
		{"another name", "application/json", `{"access_token":"a","token_type":"access_token","expires_in":"3599.9"}`, 3599, ""},
		{"float", "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":3.599e3}`, 3599, ""},
		{"spaces", "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":" 3599 "}`, 0, ""},
		{"no end", "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":null}`, 0, ""},
		{"a text that is no number", "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":"soon"}`, 0, ""},
		{"a list", "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":[3599]}`, 0, ""},
		{"negative", "application/json", `{"access_token":"a","token_type":"Bearer","expires_in":-1}`, 0, ""},
		{"a form", "application/x-www-form-urlencoded", `access_token=a&token_type=bearer&expires_in=3599`, 3599, ""},
		{"a form without end", "text/plain", `access_token=a&scope=&token_type=bearer`, 0, ""},
		{"DPoP", "application/json", `{"access_token":"a","token_type":"DPoP"}`, 0, `token_type: expected "Bearer", got "DPoP"`},
		{"PoP", "application/json", `{"access_token":"a","token_type":"pop"}`, 0, `token_type: expected "Bearer", got "pop"`},
		{"no access token", "application/json", `{"access_token":"a","token_type":"N_A"}`, 0, `token_type: expected "Bearer", got "N_A"`},
		{"control characters", "application/json", `{"access_token":"a\u0000b","token_type":"Bearer"}`, 0,
			`unusable answer of the provider: token endpoint: access_token: must be printable`},
		{"nothing", "application/json", `{}`, 0, "has no access_token"},
		{"nothing at all", "text/plain", ``, 0, "JSON: must be an object"},
		{"in a list", "application/json", `[{"access_token":"a","token_type":"Bearer"}]`, 0, "JSON: must be an object: got [{\"a"},
	} {
		for _, status := range []int{200, 201} {
			tokens, err := readTokenResponse(&client{log: newLogger("x", "error")}, status, []byte(row.body))
			wantError(t, err, row.want)
			if err == nil && (tokens.accessToken != "a" || tokens.expiresIn != row.life) {
				t.Errorf("%s: got %q for %d s", row.name, tokens.accessToken, tokens.expiresIn)
			}
		}
	}
}

// TestProviderUnreachable: what could not be asked is told to the operator, once where the answer mattered to one request alone.
func TestProviderUnreachable(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	s := start(t, p.options(clientCredentialsOptions(p, nil), map[string]any{"logLevel": "error"}))
	c := testMiddlewareOf(s).sessions.client
	token := p.sign(map[string]any{"iss": p.issuer, "sub": "ada"})
	p.away(true)
	if _, err := verifyIDToken(context.Background(), c, token); !errors.Is(err, errUnavailable) {
		t.Errorf("no keys: %v", err)
	}
	if got, err := completeLogin(context.Background(), testMiddlewareOf(s).sessions, &pendingLogin{}, url.Values{}); got != nil || !errors.Is(err, errUnavailable) {
		t.Errorf("no metadata at a callback: %v, %v", got, err)
	}
	//lint:ignore SA1029 as the session has it
	delayed := context.WithValue(context.Background(), delayedCallKey, &delayedCall{})
	for _, address := range []string{"http://127.7.7.7/", "http://[::1"} {
		if status, _, err := roundTrip(delayed, c, http.MethodPost, address, url.Values{}, http.Header{}); status != 0 || err == nil {
			t.Errorf("%s: %d, %v", address, status, err)
		}
	}
}

// TestProviderFailuresAreLogged: a form that could not be sent and a document that could not be fetched are one error in the log each, and what
// went well is none.
func TestProviderFailuresAreLogged(t *testing.T) {
	p := newFakeProvider(t)
	options := clientCredentialsOptions(p, nil)
	options["logLevel"] = "error"
	s := start(t, options)
	apiCall(t, s, "GET", "/", "").tokenOf()
	if said := s.logs(); said != "" {
		t.Errorf("the log says %s", said)
	}
	for _, endpoint := range []string{"token", "discovery"} {
		p = newFakeProvider(t)
		p.away(true)
		options := clientCredentialsOptions(p, nil)
		if endpoint == "discovery" {
			options = p.options()
		}
		options["logLevel"] = "error"
		s := start(t, options)
		if r := apiCall(t, s, "GET", "/", "", "Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"); r.status != http.StatusServiceUnavailable {
			t.Fatal(r.story())
		}
		if n := strings.Count(s.logs(), "unavailable: "); n != 1 {
			t.Errorf("%s: %d lines, expected one:\n%s", endpoint, n, s.logs())
		}
	}
}

// TestProviderTokenError: what an answer of the token endpoint means for the grant, by its status and its code.
func TestProviderTokenError(t *testing.T) {
	for _, row := range []struct {
		status int
		code   string
		want   error
	}{
		{500, "invalid_grant", errUnavailable}, {503, "", errUnavailable}, {429, "invalid_grant", errUnavailable}, {408, "invalid_grant", errUnavailable},
		{400, "temporarily_unavailable", errUnavailable}, {302, "", errUnavailable}, {404, "", errUnavailable}, {200, "", errUnavailable},
		{400, "invalid_client", errMisconfigured}, {200, "unauthorized_client", errMisconfigured}, {400, "access_denied", errNotAllowed},
		{400, "interaction_required", errNotAllowed}, {400, "consent_required", errNotAllowed}, {400, "invalid_request", errRefused}, {400, "invalid_scope", errBadResponse},
		{401, "", errBadResponse}, {403, "", errBadResponse}, {400, "", errRefused}, {400, "invalid_grant", errRefused}, {404, "invalid_grant", errRefused},
	} {
		err := tokenError(&client{log: newLogger("x", "error")}, row.status, row.code, "")
		for _, outcome := range []error{errMisconfigured, errUnavailable, errNotAllowed, errBadResponse, errRefused} { // the first of which is the second, too
			if errors.Is(err, outcome) {
				if outcome != row.want {
					t.Errorf("%d %s: got %v", row.status, row.code, err)
				}
				break
			}
		}
	}
}

// TestProviderDiscoveryIsNeeded: one endpoint that is not configured is enough.
func TestProviderDiscoveryIsNeeded(t *testing.T) {
	const at, document = "https://id.example.com/a", "https://id.example.com/.well-known/openid-configuration"
	for _, row := range []struct {
		endpoints EndpointsConfig
		want      string
	}{
		{EndpointsConfig{Authorization: at, Token: at, JWKS: at}, ""},
		{EndpointsConfig{Token: at, JWKS: at}, document},
		{EndpointsConfig{Authorization: at, JWKS: at}, document},
		{EndpointsConfig{Authorization: at, Token: at}, document},
		{EndpointsConfig{}, document},
		{EndpointsConfig{Discovery: at, Authorization: at, Token: at, JWKS: at}, at},
	} {
		c := &Config{}
		c.Issuer = "https://id.example.com/"
		c.Endpoints = row.endpoints
		if got := discoveryURL(c); got != row.want {
			t.Errorf("%+v: got %q", row.endpoints, got)
		}
	}
}
