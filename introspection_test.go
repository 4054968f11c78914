package oidc

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// introspectionOptions are those of a middleware with the oAuthIntrospection block alone; the client proves itself by a header.
func introspectionOptions(p *fakeProvider, more map[string]any) map[string]any {
	return map[string]any{"oAuthIntrospection": mergeClaims(map[string]any{
		"tokenSource":    map[string]any{"header": "Authorization", "headerAuthScheme": "Bearer"},
		"clientConfig":   map[string]any{"url": p.issuer + "/introspect", "headers": map[string]any{"Authorization": "Basic YXBwOnM="}},
		"forwardHeaders": map[string]any{"X-User": "sub"},
	}, more)}
}

// opaque is a token of a user that only the provider can read.
func (p *fakeProvider) opaque(subject string) string {
	return p.keep(&providerGrant{kind: "access", form: url.Values{"scope": {"read"}}, subject: subject})
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, introspectionOptions(p, map[string]any{"claims": "Contains(`scope`, `read`)", "tokenTypeHint": "access_token"}))
	token := p.opaque("ada")
	for i := 0; i < 5; i++ {
		if seen := bearer(t, s, token, "X-User: root").accepted("ada"); seen.Headers.Get("Authorization") != "" {
			t.Errorf("the upstream got the token")
		}
	}
	asked := p.lastCall("introspection")
	if p.count("introspection") != 1 || asked.form.Get("token") != token || asked.form.Get("token_type_hint") != "access_token" ||
		asked.header.Get("Authorization") != "Basic YXBwOnM=" {
		t.Errorf("%d calls, the last with %v, %v", p.count("introspection"), asked.form, asked.header)
	}
	for i := 0; i < 3; i++ {
		bearer(t, s, "unknown").challenged(401, badToken+`, scope="read"`, "GET /api: 401: invalid_token: introspection: active: expected true, got false")
	}
	if p.count("introspection") != 2 {
		t.Errorf("a token that is not active was asked about %d times", p.count("introspection")-1)
	}
	weak := p.keep(&providerGrant{kind: "access", form: url.Values{"scope": {"none"}}, subject: "bob"})
	bearer(t, s, weak).challenged(403, tooFewRights+`, scope="read"`, `the rule says no to sub "bob"`)
	bearer(t, s, "").challenged(401, badToken+`, scope="read"`, "token: must have 1 to 65536 bytes, got 0")
	bearer(t, s, strings.Repeat("x", 70000)).challenged(401, badToken+`, scope="read"`, "got 70000")
	apiCall(t, s, "GET", "/?access_token="+token, "").challenged(401, noToken+`, scope="read"`, "not signed in")
	if p.count("introspection") != 3 || strings.Contains(s.logs(), token) {
		t.Errorf("%d calls, log:\n%s", p.count("introspection"), s.logs())
	}
}

// TestIntrospectionOfAnExpiredToken: an answer that a token is not active is cached, also if it says since when.
func TestIntrospectionOfAnExpiredToken(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.edit("introspection", func(answer map[string]any) {
		answer["active"] = false
		answer["exp"] = time.Now().Unix() - 3600
	})
	s := start(t, introspectionOptions(p, nil))
	token := p.opaque("ada")
	for i := 0; i < 2; i++ {
		bearer(t, s, token).challenged(401, badToken, "active: expected true, got false")
	}
	if p.count("introspection") != 1 {
		t.Errorf("the provider was asked %d times", p.count("introspection"))
	}
}

// TestIntrospectionAnswers: only a 200 with the JSON value true is a yes, and what it says of time and purpose is checked.
func TestIntrospectionAnswers(t *testing.T) {
	t.Parallel()
	now := time.Now().Unix()
	active := func(more map[string]any) http.HandlerFunc {
		return answerJSON(200, mergeClaims(map[string]any{"active": true, "sub": "ada", "aud": "api"}, more))
	}
	for _, row := range []struct {
		name   string
		answer http.HandlerFunc
		status int // 200: let in
		words  []string
	}{
		{"yes", active(nil), 200, nil},
		{"yes, to several", active(map[string]any{"aud": []string{"x", "api"}}), 200, nil},
		{"the text true", active(map[string]any{"active": "true"}), 401, []string{`active: expected true, got "true"`}},
		{"the number 1", active(map[string]any{"active": 1}), 401, []string{`active: expected true, got 1`}},
		{"nothing", answerJSON(200, map[string]any{}), 401, []string{`active: expected true, got null`}},
		{"expired", active(map[string]any{"exp": now - 100}), 401, []string{"exp: expired"}},
		{"exp is text", active(map[string]any{"exp": "soon"}), 401, []string{"exp: must be a date"}},
		{"not yet", active(map[string]any{"nbf": now + 100}), 401, []string{"nbf:", "in the future"}},
		{"for somebody else", active(map[string]any{"aud": "other"}), 401, []string{`audience: expected "api", got "other"`}},
		{"for nobody", answerJSON(200, map[string]any{"active": true}), 401, []string{"audience: expected"}},
		{"a refresh token of Keycloak", active(map[string]any{"typ": "Refresh"}), 401, []string{`typ: expected an access token, got "Refresh"`}},
		{"an ID token of Keycloak", active(map[string]any{"typ": "ID"}), 401, []string{`typ: expected an access token, got "ID"`}},
		{"a refresh token of Hydra", active(map[string]any{"token_use": "refresh_token"}), 401,
			[]string{`typ: expected an access token, got "refresh_token"`}},
		{"an access token of Hydra", active(map[string]any{"token_use": "access_token", "token_type": "Bearer"}), 200, nil},
		{"exp is the text of a number", active(map[string]any{"exp": fmt.Sprint(now + 100), "nbf": fmt.Sprint(now - 100)}), 200, nil},
		{"exp is the text of a number, expired", active(map[string]any{"exp": fmt.Sprint(now - 100)}), 401, []string{"exp: expired"}},
		{"exp is no number", active(map[string]any{"exp": "NaN"}), 401, []string{"exp: must be a date"}},
		{"without an end", active(map[string]any{"exp": 0}), 200, nil},
		{"a byte order mark", answerText(200, "application/json", "\ufeff"+`{"active":true,"sub":"ada","aud":"api"}`), 200, nil},
		{"a refresh token of Spring", active(map[string]any{"ati": "x"}), 401, []string{"got a refresh token"}},
		{"an access token of Authentik, with the claims of its ID token", active(map[string]any{"nonce": "n", "at_hash": "h"}), 200, nil},
		{"HTML", answerHTML(), 503, []string{"introspection: POST", "JSON: must be an object"}},
		{"500", answerJSON(500, map[string]any{"active": true}), 503, []string{"introspection: POST", "500 Internal Server Error"}},
		{"201", answerJSON(201, map[string]any{"active": true, "aud": "api"}), 503, []string{"201 Created"}},
		{"401", answerJSON(401, map[string]any{"error": "invalid_client"}), 503,
			[]string{`401 Unauthorized "invalid_client"; check the client's credentials`}},
		{"a redirect", answerRedirect("/elsewhere"), 503, []string{"307 Temporary Redirect"}},
		{"two names", answerText(200, "application/json", `{"active":false,"active":true,"aud":"api"}`), 503, []string{"must not have a name twice"}},
		{"endless", answerEndless(), 503, []string{"larger than 1 MiB"}},
		{"broken off", answerBroken(), 503, []string{"introspection: POST"}},
		{"silence", answerNothing(), 503, []string{"no answer in time"}},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := newFakeProvider(t)
			p.answer("introspection", row.answer)
			s := start(t, introspectionOptions(p, map[string]any{"audience": "api", "clientConfig": map[string]any{
				"url": p.issuer + "/introspect", "timeoutSeconds": 1, "maxRetries": 0}}))
			r := bearer(t, s, "token")
			switch row.status {
			case 200:
				r.accepted("ada")
			case 401:
				r.challenged(401, badToken, row.words...)
			default:
				if r.challenged(503, "", append(row.words, "GET /api: 503: unavailable: ")...); r.header.Get("Retry-After") == "" {
					t.Errorf("no Retry-After:\n%s", r.story())
				}
			}
		})
	}
}

// TestIntrospectionOneCall: a thousand requests with one new token are one question.
func TestIntrospectionOneCall(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, introspectionOptions(p, nil))
	p.answer("introspection", func(rw http.ResponseWriter, req *http.Request) {
		time.Sleep(200 * time.Millisecond)
		p.usual("introspection", rw, req)
	})
	token := p.opaque("ada")
	b := newBrowser(t, s)
	b.header.Set("Authorization", "Bearer "+token)
	var wrong int64
	inParallel(1000, func(int) {
		if r := b.fetch(http.MethodGet, "/", ""); !r.isUpstream() {
			atomic.AddInt64(&wrong, 1)
		}
	})
	if wrong > 0 || p.count("introspection") != 1 {
		t.Errorf("%d were refused, %d calls", wrong, p.count("introspection"))
	}
}

// TestIntrospectionCache: answers are used again for a while, and never longer than the token lasts.
func TestIntrospectionCache(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name         string
		cacheSeconds int
		life, pause  time.Duration
		calls        int
	}{
		{"never", 0, time.Minute, 0, 3},
		{"for a second", 1, time.Minute, 1100 * time.Millisecond, 3},
		{"for a minute", 60, time.Minute, 1100 * time.Millisecond, 1},
		{"not past the token's end", 60, time.Second, 1100 * time.Millisecond, 3},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := newFakeProvider(t)
			p.edit("introspection", func(answer map[string]any) { answer["exp"] = time.Now().Add(row.life).Unix() })
			s := start(t, introspectionOptions(p, map[string]any{"cacheSeconds": row.cacheSeconds}))
			token := p.opaque("ada")
			for i := 0; i < 3; i++ {
				bearer(t, s, token).accepted("ada")
				time.Sleep(row.pause)
			}
			if p.count("introspection") != row.calls {
				t.Errorf("expected %d calls, got %d", row.calls, p.count("introspection"))
			}
		})
	}
	// A token that was revoked is refused when its answer ends, and while the provider is away the answer goes on to its end.
	p := newFakeProvider(t)
	s := start(t, introspectionOptions(p, map[string]any{"cacheSeconds": 5}))
	token, other := p.opaque("ada"), p.opaque("bob")
	bearer(t, s, token).accepted("ada")
	p.away(true)
	bearer(t, s, token).accepted("ada")
	bearer(t, s, other).challenged(503, "", "503: unavailable: introspection")
	p.away(false)
	patiently(t, func() bool { return bearer(t, s, other).isUpstream() }) // it is left alone for a second
	bearer(t, s, token).accepted("ada")
	p.mu.Lock()
	delete(p.grants, token)
	p.mu.Unlock()
	eventually(t, "the answer's end", func() bool { return !bearer(t, s, token).isUpstream() })
	bearer(t, s, token).challenged(401, badToken, "active: expected true, got false")
}

// TestIntrospectionSharedAnswers: two middlewares that ask the same share answers, and judge them each by its own rules.
func TestIntrospectionSharedAnswers(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.edit("introspection", func(answer map[string]any) { answer["aud"] = "first" })
	first := start(t, introspectionOptions(p, map[string]any{"audience": "first"}))
	second := start(t, introspectionOptions(p, map[string]any{"audience": "second"}))
	third := start(t, introspectionOptions(p, map[string]any{"claims": "Equals(`sub`, `bob`)"}))
	token := p.opaque("ada")
	bearer(t, first, token).accepted("ada")
	bearer(t, second, token).challenged(401, badToken, `audience: expected "second", got "first"`)
	bearer(t, third, token).challenged(403, tooFewRights)
	if p.count("introspection") != 1 {
		t.Errorf("%d calls", p.count("introspection"))
	}
}

// templated is a site whose question to the provider has headers made of the request. A token is active when header has that value.
func templated(t *testing.T, p *fakeProvider, header, value string, headers map[string]any) *testSite {
	t.Helper()
	p.answer("introspection", func(rw http.ResponseWriter, req *http.Request) {
		p.reply(rw, 200, map[string]any{"active": req.Header.Get(header) == value, "sub": "ada"})
	})
	return start(t, introspectionOptions(p, map[string]any{"clientConfig": map[string]any{"url": p.issuer + "/introspect", "headers": headers}}))
}

// TestIntrospectionTemplates: headers of the question are made of the request, whose answer is then for such requests only.
func TestIntrospectionTemplates(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := templated(t, p, "X-Tenant", "one", map[string]any{"X-Tenant": `{{ .Request.Header.Get "Tenant" }}`,
		"authorization": "Basic {{ .Request.Host }}"})
	for i := 0; i < 3; i++ {
		bearer(t, s, "token", "Tenant: one").accepted("ada")
		bearer(t, s, "token", "Tenant: two").challenged(401, badToken)
		bearer(t, s, "token").challenged(401, badToken)
	}
	if p.count("introspection") != 3 || p.lastCall("introspection").header.Get("Authorization") != "Basic "+"app.example.com" {
		t.Errorf("%d calls, the last with %v", p.count("introspection"), p.lastCall("introspection").header)
	}
	for _, wrong := range []string{"{{", "{{ .Request.Header.Get }", "{{ nothing }}", "a\nb"} {
		refused(t, introspectionOptions(p, map[string]any{"clientConfig": map[string]any{"url": p.issuer,
			"headers": map[string]any{"X-A": wrong}}}), "oAuthIntrospection.clientConfig.headers.X-A: ")
	}
	refused(t, introspectionOptions(p, map[string]any{"clientConfig": map[string]any{"url": p.issuer, "headers": map[string]any{"authorization": "basic my-api:secret"}}}),
		"oAuthIntrospection.clientConfig.headers.authorization: must be Basic and the base64 of id:secret; write that")
	start(t, introspectionOptions(p, map[string]any{"clientConfig": map[string]any{"url": p.issuer, "headers": map[string]any{"Authorization": `Basic {{ printf "a:b" }}`}}}))
}

// TestIntrospectionTemplatesOfStrangers: what a visitor writes into a header of the question can neither be taken for another header,
// nor fail at the provider.
func TestIntrospectionTemplatesOfStrangers(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := templated(t, p, "X-Zone", "c", map[string]any{"X-Tenant": `{{ .Request.URL.Query.Get "tenant" }}`,
		"X-Zone": `{{ .Request.URL.Query.Get "zone" }}`})
	for i := 0; i < 2; i++ {
		apiCall(t, s, "GET", "/?tenant=a+X-Zone:b&zone=c", "", "Authorization: Bearer token").accepted("ada")
		apiCall(t, s, "GET", "/?tenant=a&zone=b+X-Zone:c", "", "Authorization: Bearer token").challenged(401, badToken)
	}
	asked := p.count("introspection")
	apiCall(t, s, "GET", "/?tenant=a%0d%0aX-Zone:+c", "", "Authorization: Bearer token").challenged(400, badRequest,
		"headers.X-Tenant: the template does not fit this request")
	if asked != 2 || p.count("introspection") != asked || strings.Contains(s.logs(), "unavailable") {
		t.Errorf("%d calls, log:\n%s", p.count("introspection"), s.logs())
	}
	// Whoever has a token may change the headers at will: what is remembered of it is short.
	apiCall(t, s, "GET", "/?zone=c&tenant="+strings.Repeat("x", 100000), "", "Authorization: Bearer token").accepted("ada")
	if s.server != nil {
		principalsLock.RLock()
		for key, p := range recentPrincipals.byKey {
			if len(key) != 32 || p.size > 100000 {
				t.Errorf("a principal of %d bytes is remembered by %d", p.size, len(key))
			}
		}
		principalsLock.RUnlock()
	}
}

// TestIntrospectionRetries: asking changes nothing, so a failure that comes at once is tried again.
func TestIntrospectionRetries(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	var calls int64
	p.answer("introspection", func(rw http.ResponseWriter, req *http.Request) {
		if atomic.AddInt64(&calls, 1) < 3 {
			answerBroken()(rw, req)
		}
		p.usual("introspection", rw, req)
	})
	s := start(t, introspectionOptions(p, nil))
	eventually(t, "a token is accepted by the third call", func() bool { // on a busy machine the failure itself may take too long
		atomic.StoreInt64(&calls, 0)
		return bearer(t, s, p.opaque("ada")).isUpstream() && atomic.LoadInt64(&calls) == 3
	})
}

// TestIntrospectionClientAuthentication: its client proves itself, in every way that it can, beside a sign-in and without one.
func TestIntrospectionClientAuthentication(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"client_secret_basic", "client_secret_post", "private_key_jwt", "none"} {
		p := newFakeProvider(t)
		options := map[string]any{"clientAuthMethod": method, "forwardHeaders": map[string]any{"X-User": "sub"}}
		alone := introspectionOptions(p, map[string]any{"clientConfig": map[string]any{"url": p.issuer + "/introspect"}})
		alone = mergeClaims(alone, map[string]any{"clientAuthMethod": method, "clientId": p.clientID})
		if method == "private_key_jwt" {
			options["clientKey"] = pemOf(t, commonKey("RS256"))
			alone["clientKey"] = options["clientKey"]
		} else if method != "none" {
			alone["clientSecret"] = p.clientSecret
		}
		beside := start(t, p.options(mergeClaims(map[string]any{"oAuthIntrospection": map[string]any{}}, options)))
		for _, s := range []*testSite{beside, start(t, alone)} {
			bearer(t, s, p.opaque("ada")).accepted("ada")
			asked := p.lastCall("introspection")
			got := map[string]bool{"client_secret_basic": asked.header.Get("Authorization") == basicAuthorization(p.clientID, p.clientSecret),
				"client_secret_post": asked.form.Get("client_secret") == p.clientSecret, "private_key_jwt": asked.form.Get("client_assertion") != "",
				"none": asked.form.Get("client_id") == p.clientID && asked.form.Get("client_secret") == ""}
			if !got[method] {
				t.Errorf("%s: %v, %v", method, asked.header, asked.form)
			}
		}
		p.edit("introspection", func(answer map[string]any) { answer["iss"] = "https://other.example" })
		bearer(t, beside, p.opaque("bob")).challenged(401, badToken, "issuer: expected")
	}
}

// TestIntrospectionAlone: what a middleware that only asks needs to know of the provider.
func TestIntrospectionAlone(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	key := pemOf(t, commonKey("RS256"))
	audience := func() any {
		parsed, err := parseToken(p.lastCall("introspection").form.Get("client_assertion"))
		if err != nil {
			t.Fatal(err)
		}
		return parsed.claims["aud"]
	}
	source := map[string]any{"header": "Authorization", "headerAuthScheme": "Bearer"}
	site := func(block map[string]any) *testSite {
		block = mergeClaims(map[string]any{"tokenSource": source, "forwardHeaders": map[string]any{"X-User": "sub"},
			"resource": "https://api.example.com"}, block)
		p.edit("introspection", func(answer map[string]any) { answer["aud"] = "https://api.example.com" })
		return start(t, map[string]any{"clientId": p.clientID, "clientKey": key, "oAuthIntrospection": block})
	}
	// The address alone: nothing is discovered, and an assertion is for that address.
	s := site(map[string]any{"clientConfig": map[string]any{"url": p.issuer + "/introspect"}})
	bearer(t, s, p.opaque("ada")).accepted("ada")
	if p.count("discovery") != 0 || audience() != p.issuer+"/introspect" {
		t.Errorf("%d discoveries, an assertion for %v", p.count("discovery"), audience())
	}
	// The issuer besides: it is whom the assertion is for, and what the answer must not contradict.
	s = site(map[string]any{"issuer": p.issuer, "clientConfig": map[string]any{"url": p.issuer + "/introspect"}})
	bearer(t, s, p.opaque("ada")).accepted("ada")
	if p.count("discovery") != 0 || audience() != p.issuer {
		t.Errorf("%d discoveries, an assertion for %v", p.count("discovery"), audience())
	}
	if r := apiCall(t, s, "GET", "/.well-known/oauth-protected-resource", ""); !strings.Contains(r.body, `"authorization_servers":["`+p.issuer+`"]`) {
		t.Errorf("the issuer is not told:\n%s", r.story())
	}
	// The issuer alone: its metadata says where to ask.
	s = site(map[string]any{"issuer": p.issuer})
	bearer(t, s, p.opaque("ada")).accepted("ada")
	if p.count("discovery") != 1 || audience() != p.issuer {
		t.Errorf("%d discoveries, an assertion for %v", p.count("discovery"), audience())
	}
	p.edit("introspection", func(answer map[string]any) {
		answer["aud"] = "https://api.example.com"
		answer["iss"] = "https://other.example"
	})
	bearer(t, s, p.opaque("bob")).challenged(401,
		badToken+`, resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"`, "issuer: expected")

	// An Authorization among the headers stands in for the client.
	options := introspectionOptions(p, nil)
	options["clientId"] = p.clientID
	options["clientSecret"] = p.clientSecret
	bearer(t, start(t, options), p.opaque("ada"))
	if asked := p.lastCall("introspection"); asked.header.Get("Authorization") != "Basic YXBwOnM=" || len(asked.form) != 1 {
		t.Errorf("asked with %v, %v", asked.header, asked.form)
	}
}

// TestIntrospectionAloneRefuses: what cannot be meant is said when Traefik starts.
func TestIntrospectionAloneRefuses(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	for _, row := range []struct {
		name  string
		top   map[string]any
		block map[string]any
		want  string
	}{
		{"a secret of nobody", map[string]any{"clientSecret": "s"}, nil, "clientId: required with clientSecret, clientKey or clientAuthMethod"},
		{"no secret", map[string]any{"clientId": "a", "clientAuthMethod": "client_secret_post"}, nil,
			`clientSecret: required for clientAuthMethod "client_secret_post"`},
		{"no key", map[string]any{"clientId": "a", "clientAuthMethod": "private_key_jwt"}, nil,
			`clientKey: required for clientAuthMethod "private_key_jwt"`},
		{"a broken key", map[string]any{"clientId": "a", "clientKey": "x"}, nil, "clientKey: "},
		{"no certificate", map[string]any{"clientId": "a", "clientAuthMethod": "tls_client_auth"}, nil,
			`oAuthIntrospection.clientConfig.tls.cert: required for clientAuthMethod "tls_client_auth"`},
		{"another connection", map[string]any{"clientId": "a", "clientConfig": map[string]any{"timeoutSeconds": 1}}, nil,
			`issuer: required for sign-in, because "clientConfig" is set`},
		{"a sign-in that lacks its issuer", map[string]any{"clientId": "a", "redirectUrl": "/cb"}, nil,
			`issuer: required for sign-in, because "redirectUrl" is set`},
		{"an issuer that is none", nil, map[string]any{"issuer": "id.example.com"}, `oAuthIntrospection.issuer: must be an https URL`},
		{"two issuers", map[string]any{"issuer": p.issuer, "clientId": "a", "clientSecret": "b"}, map[string]any{"issuer": p.issuer},
			"oAuthIntrospection.issuer: must not be combined with a sign-in"},
	} {
		refused(t, mergeClaims(introspectionOptions(p, row.block), row.top), row.want)
	}
	// Without that job, nobody is told of a client that signs nobody in.
	if _, err := build(t, mergeClaims(jwtOptions(map[string]any{"signingSecret": tokenSecret}), map[string]any{"clientId": "a"})); err == nil ||
		!strings.Contains(err.Error(), `issuer: required for sign-in, because "clientId" is set`) {
		t.Errorf("a client without a job: %v", err)
	}
}

// whoseFault are answers of introspection endpoints, and whose fault they are: docs/apis.md has the same table.
var whoseFault = []struct {
	status      int
	code, whose string
}{
	{400, "unsupported_token_type", "token"}, {400, "invalid_token", "token"}, {400, "invalid_grant", "token"},
	{404, "invalid_token", "token"}, {422, "invalid_token", "token"},
	{400, "invalid_request", "token"}, {400, "invalid_scope", "token"}, {400, "unsupported_grant_type", "token"}, {400, "", "token"},
	{422, "", "token"}, {400, "server_error", "token"},
	{413, "", "token"}, {414, "", "token"}, {431, "", "token"},
	{500, "", "question"}, {500, "invalid_token", "question"},
	{401, "", "client"}, {401, "invalid_token", "client"}, {401, "invalid_client", "client"}, {401, "invalid_request", "client"},
	{200, "invalid_client", "client"}, {200, "invalid_token", "token"}, {200, "temporarily_unavailable", "provider"},
	{200, "", "question"}, {403, "", "question"}, {406, "", "question"}, {501, "", "question"}, {403, "insufficient_scope", "client"},
	{403, "access_denied", "client"}, {400, "invalid_client", "client"}, {400, "unauthorized_client", "client"}, {400, "access_denied", "client"},
	{408, "", "provider"}, {425, "", "provider"}, {429, "", "provider"}, {429, "slow_down", "provider"}, {502, "", "provider"},
	{503, "", "provider"}, {503, "temporarily_unavailable", "provider"},
	{504, "", "provider"}, {522, "", "provider"}, {400, "temporarily_unavailable", "provider"},
	{201, "", "address"}, {204, "", "address"}, {302, "", "address"}, {307, "", "address"}, {404, "", "address"}, {405, "", "address"},
	{410, "", "address"},
	{415, "", "address"}, {418, "", "address"},
}

// TestIntrospectionFaults: whose fault an answer is decides what the caller is told, whether the operator is called, and for how long the
// provider is left alone.
func TestIntrospectionFaults(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/apis.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range introspectionFaults {
		if !strings.Contains(string(page), "\n| "+row[1]+" | ") {
			t.Errorf("docs/apis.md has no row for a fault of the %s", row[1])
		}
	}
	for _, row := range whoseFault {
		row := row
		t.Run(fmt.Sprint(row.status, row.code), func(t *testing.T) {
			t.Parallel()
			p := newFakeProvider(t)
			body := map[string]any{"error": row.code}
			if row.code == "" {
				body = nil
			}
			p.answer("introspection", answerJSON(row.status, body))
			s := start(t, introspectionOptions(p, map[string]any{"clientConfig": map[string]any{"url": p.issuer + "/introspect", "maxRetries": 0}}))
			wanted := map[string]int{"token": 401}[row.whose]
			if wanted == 0 {
				wanted = 503
			}
			began := time.Now()
			for i := 0; i < 3; i++ { // one token has one answer for some seconds
				if r := bearer(t, s, "one"); r.status != wanted {
					t.Fatalf("expected %d:\n%s", wanted, r.story())
				}
			}
			isSlow := time.Since(began) > 900*time.Millisecond // on a busy machine the pause is over meanwhile
			if p.count("introspection") != 1 && !isSlow {
				t.Errorf("one token: %d calls", p.count("introspection"))
			}
			others := map[string]int{"token": 3, "question": 3}[row.whose] // and other tokens have theirs, unless there is no use in asking
			for i := 0; i < 3; i++ {
				bearer(t, s, fmt.Sprint("other-", i))
			}
			isSlow = time.Since(began) > 900*time.Millisecond
			if calls := p.count("introspection") - 1; calls != others && !isSlow {
				t.Errorf("a fault of the %s: other tokens made %d calls", row.whose, calls)
			}
			if isAlarm := strings.Contains(s.logs(), "@file: unavailable: introspection: POST "); isAlarm != (others == 0) {
				t.Errorf("a fault of the %s: alarm %v", row.whose, isAlarm)
			}
			s.expectLog(map[string]string{"token": fmt.Sprintf("active: expected true, got \"%d %s\"", row.status, row.code),
				"question": "this question alone, as it seems",
				"client":   "check the client's credentials, and that it may introspect", "provider": "it is away, or has had enough",
				"address": "is this the introspection endpoint?"}[row.whose])
		})
	}
}

// TestIntrospectionOutage: in an outage the provider is asked now and then, however many tokens callers make up.
func TestIntrospectionOutage(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, introspectionOptions(p, map[string]any{"clientConfig": map[string]any{"url": p.issuer + "/introspect", "maxRetries": 0}}))
	p.answer("introspection", answerText(503, "text/html", "<h1>Back soon</h1>"))
	began := time.Now()
	for i := 0; i < 60; i++ {
		if r := bearer(t, s, fmt.Sprint("made-up-", i)); r.status != 503 || r.header.Get("Retry-After") == "" {
			t.Fatal(r.story())
		}
	}
	allowed := 2 + int(time.Since(began).Seconds())
	if n := p.count("introspection"); n > allowed {
		t.Errorf("%d calls in %s", n, time.Since(began))
	}
	if lines := strings.Count(s.logs(), "@file: unavailable: "); lines > allowed {
		t.Errorf("%d alarms", lines)
	}
	p.answer("introspection", nil)
	token := p.opaque("ada")
	patiently(t, func() bool { return bearer(t, s, token).isUpstream() })
	bearer(t, s, p.opaque("bob")).accepted("bob")

	// The same of callers with credentials of their own.
	p = newFakeProvider(t)
	s = start(t, map[string]any{"oAuthClientCredentials": map[string]any{"url": p.issuer + "/token", "clientConfig": map[string]any{"maxRetries": 0}}})
	p.answer("token", answerJSON(503, nil))
	began = time.Now()
	for i := 0; i < 60; i++ {
		if r := apiCall(t, s, http.MethodGet, "/", "", password(fmt.Sprint("made-up-", i), "x")); r.status != 503 {
			t.Fatal(r.story())
		}
	}
	if n := p.count("token"); n > 2+int(time.Since(began).Seconds()) {
		t.Errorf("%d calls in %s", n, time.Since(began))
	}
	p.answer("token", nil)
	patiently(t, func() bool {
		return apiCall(t, s, http.MethodGet, "/", "", password(p.clientID, p.clientSecret)).isUpstream()
	})
}

// patiently waits for the end of a pause.
func patiently(t *testing.T, is func() bool) {
	t.Helper()
	for i := 0; i < 40 && !is(); i++ {
		time.Sleep(250 * time.Millisecond)
	}
	if !is() {
		t.Error("the provider is not asked again")
	}
}

// TestIntrospectionOddTokens: what no token is made of is not asked about.
func TestIntrospectionOddTokens(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, introspectionOptions(p, map[string]any{"tokenSource": map[string]any{"query": "token"}}))
	for _, odd := range []string{"gr%C3%B6%C3%9Fe", "a%7Fb", "a%80b", "a%0Ab", "%00"} {
		apiCall(t, s, "GET", "/?token="+odd, "").challenged(401, badToken, "token: must be printable ASCII")
	}
	if p.count("introspection") > 0 {
		t.Errorf("%d calls", p.count("introspection"))
	}
}

// TestIntrospectionManyTokensAtOnce: each token is asked about once, whatever else is asked at the same time.
func TestIntrospectionManyTokensAtOnce(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, introspectionOptions(p, nil))
	p.answer("introspection", func(rw http.ResponseWriter, req *http.Request) {
		time.Sleep(20 * time.Millisecond)
		p.usual("introspection", rw, req)
	})
	const tokens = 40
	var raw []string
	for i := 0; i < tokens; i++ {
		raw = append(raw, p.opaque(fmt.Sprint("user-", i)))
	}
	inParallel(5*tokens, func(i int) { bearer(t, s, raw[i%tokens]).accepted(fmt.Sprint("user-", i%tokens)) })
	if p.count("introspection") != tokens {
		t.Errorf("%d tokens, %d calls", tokens, p.count("introspection"))
	}
}

// TestIntrospectionSharedAnswersAge: of two middlewares that share answers, each takes only those that are young enough for it.
func TestIntrospectionSharedAnswersAge(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	site := func(seconds int) *testSite {
		return start(t, introspectionOptions(p, map[string]any{"cacheSeconds": seconds}))
	}
	first, brief, long := site(600), site(1), site(601)
	token := p.opaque("ada")
	bearer(t, first, token).accepted("ada")
	time.Sleep(1100 * time.Millisecond)
	bearer(t, long, token).accepted("ada")
	if p.count("introspection") != 1 {
		t.Errorf("an answer that is young enough: %d calls", p.count("introspection"))
	}
	bearer(t, brief, token).accepted("ada")
	if p.count("introspection") != 2 {
		t.Errorf("an answer that is too old: %d calls", p.count("introspection"))
	}
}

// TestIntrospectionOutageKeepsNothing: of tokens that the provider could not be asked about nothing is kept, so however many there are, the
// answers that are known stay.
func TestIntrospectionOutageKeepsNothing(t *testing.T) {
	inThisProcess(t)
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, introspectionOptions(p, map[string]any{"clientConfig": map[string]any{"url": p.issuer + "/introspect", "maxRetries": 0}}))
	bearer(t, s, p.opaque("ada")).accepted("ada")
	p.answer("introspection", answerText(503, "text/html", "<h1>Back soon</h1>"))
	cache := testMiddlewareOf(s).tokens.introspection.client.responses
	held := cache.used
	for i := 0; i < 20; i++ {
		bearer(t, s, fmt.Sprint("made-up-", i)).expect(503)
	}
	if cache.used != held {
		t.Errorf("%d bytes are held, there were %d", cache.used, held)
	}
}

// TestIntrospectionQuestionIsAskedAgain: a token about which the provider fails is asked about again after a moment.
func TestIntrospectionQuestionIsAskedAgain(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, introspectionOptions(p, map[string]any{"clientConfig": map[string]any{"url": p.issuer + "/introspect", "maxRetries": 0}}))
	token := p.opaque("ada")
	p.answer("introspection", answerJSON(500, nil))
	bearer(t, s, token).expect(503)
	p.answer("introspection", nil)
	time.Sleep(outageLifetime)
	bearer(t, s, token).accepted("ada")
}
