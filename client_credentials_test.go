package oidc

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clientCredentialsOptions are those of a middleware with the oAuthClientCredentials block alone, and a client of its own.
func clientCredentialsOptions(p *fakeProvider, more map[string]any) map[string]any {
	return map[string]any{"oAuthClientCredentials": mergeClaims(map[string]any{
		"url": p.issuer + "/token", "clientId": p.clientID, "clientSecret": p.clientSecret, "clientConfig": map[string]any{"maxRetries": 0},
	}, more)}
}

// callersOptions are the same for clients of the callers.
func callersOptions(p *fakeProvider) map[string]any {
	return map[string]any{"oAuthClientCredentials": map[string]any{"url": p.issuer + "/token", "clientConfig": map[string]any{"maxRetries": 0}}}
}

func password(id, secret string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

// tokenOf is the token that the upstream got.
func (r *reply) tokenOf() string {
	r.t.Helper()
	token, isBearer := strings.CutPrefix(r.upstream().Headers.Get("Authorization"), "Bearer ")
	if !isBearer || token == "" {
		r.t.Errorf("the upstream got no token:\n%s", r.story())
	}
	return token
}

func TestClientCredentialsOfTheGateway(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, clientCredentialsOptions(p, map[string]any{"audience": "api", "scopes": []string{"read", "write"},
		"params": map[string]any{"tenant": "one"}}))
	first := apiCall(t, s, "GET", "/", "").tokenOf()
	for i := 0; i < 4; i++ { // whoever calls, and with whatever
		if token := apiCall(t, s, "GET", "/", "", "Authorization: Bearer mine", "Connection: authorization").tokenOf(); token != first {
			t.Errorf("request %d got %q, not %q", i, token, first)
		}
	}
	asked := p.lastCall("token")
	form := asked.form
	if p.count("token") != 1 || form.Get("grant_type") != "client_credentials" || form.Get("audience") != "api" ||
		form.Get("scope") != "read write" || form.Get("tenant") != "one" ||
		asked.header.Get("Authorization") != basicAuthorization(p.clientID, p.clientSecret) {
		t.Errorf("%d calls, the last with %v, %v", p.count("token"), form, asked.header)
	}
	if strings.Contains(s.logs(), first) || strings.Contains(s.logs(), p.clientSecret) {
		t.Errorf("a secret is in the log")
	}
	// Another middleware of the same client needs no token of its own; one that asks for something else does.
	same := start(t, clientCredentialsOptions(p, map[string]any{"audience": "api", "scopes": "read,write", "params": "tenant=one",
		"forwardHeaders": map[string]any{"X-A": "b"}}))
	other := start(t, clientCredentialsOptions(p, nil))
	if apiCall(t, same, "GET", "/", "").tokenOf() != first || apiCall(t, other, "GET", "/", "").tokenOf() == first || p.count("token") != 2 {
		t.Errorf("%d tokens", p.count("token"))
	}
}

func TestClientCredentialsOfTheCaller(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, callersOptions(p))
	challenge := `Basic realm="NAME", charset="UTF-8"`
	apiCall(t, s, "GET", "/", "").challenged(401, challenge, "GET /: 401: not signed in")
	bearer(t, s, "mine").challenged(401, challenge, "not signed in")
	apiCall(t, s, "GET", "/", "", "Authorization: Basic ?").challenged(401, challenge)
	apiCall(t, s, "GET", "/", "", password("", p.clientSecret)).challenged(401, challenge, "not signed in")
	for i := 0; i < 3; i++ {
		apiCall(t, s, "GET", "/", "", password(p.clientID, "wrong")).challenged(401, challenge,
			"client credentials: POST "+p.issuer+`/token: 401 invalid_client "bad credentials": the caller's credentials are wrong`)
	}
	if p.count("token") != 1 {
		t.Errorf("%d calls for one wrong password", p.count("token"))
	}
	first := apiCall(t, s, "GET", "/", "", password(p.clientID, p.clientSecret)).tokenOf()
	for i := 0; i < 3; i++ {
		if apiCall(t, s, "GET", "/", "", password(p.clientID, p.clientSecret)).tokenOf() != first {
			t.Errorf("another token")
		}
	}
	apiCall(t, s, "GET", "/", "", password(p.clientID, p.clientSecret), password("eve", "x")).challenged(400, challenge,
		"more than one Authorization header")
	if logs := s.logs(); p.count("token") != 2 || strings.Contains(logs, p.clientSecret) || strings.Contains(logs, "wrong:") ||
		strings.Contains(logs, "YXBw") {
		t.Errorf("%d calls, log:\n%s", p.count("token"), logs)
	}
}

// TestClientCredentialsAnswers: what the token endpoint may answer, at both levels.
func TestClientCredentialsAnswers(t *testing.T) {
	t.Parallel()
	good := map[string]any{"access_token": "good", "token_type": "bearer", "expires_in": 60}
	with := func(name string, value any) http.HandlerFunc {
		return answerJSON(200, mergeClaims(good, map[string]any{name: value}))
	}
	for _, row := range []struct {
		name         string
		answer       http.HandlerFunc
		own, callers int
		words        []string
	}{
		{"good", with("", nil), 200, 200, nil},
		{"no access_token", with("access_token", nil), 503, 503, []string{"client credentials: ", "the answer has no access_token"}},
		{"expires_in 0", with("expires_in", 0), 200, 200,
			[]string{"client credentials: expires_in: expected the seconds that the token lasts, got none; it is used for 1m0s"}},
		{"token_type mac", with("token_type", "mac"), 503, 503, []string{"client credentials: ", `token_type: expected "Bearer", got "mac"`}},
		{"token_type DPoP", with("token_type", "DPoP"), 503, 503, []string{`token_type: expected "Bearer", got "DPoP"`}},
		{"a token with a line break", with("access_token", "a\r\nX-User: root"), 502, 502,
			[]string{"unusable answer of the provider: token endpoint: access_token: must be printable ASCII without spaces"}},
		{"a token with a tab", with("access_token", "a\tb"), 502, 502, []string{"access_token: must be printable"}},
		{"a token with a space at its end", with("access_token", "a "), 502, 502, []string{"access_token: must be printable"}},
		{"a token with letters beyond ASCII", with("access_token", "größe"), 502, 502, []string{"access_token: must be printable"}},
		{"HTML", answerHTML(), 503, 503, []string{"client credentials: ", "JSON: must be an object"}},
		{"500", answerJSON(500, nil), 503, 503, []string{"client credentials: ", "500"}},
		{"429", answerJSON(429, nil), 503, 503, []string{"client credentials: ", "429"}},
		{"wrong credentials", answerJSON(401, map[string]any{"error": "invalid_client"}), 502, 401, []string{"401 invalid_client"}},
		{"wrong credentials as Google says it", answerJSON(400, map[string]any{"error": "invalid_client"}), 502, 401, []string{"400 invalid_client"}},
		{"wrong credentials with 200", answerJSON(200, map[string]any{"error": "invalid_client"}), 502, 401, []string{"200 invalid_client"}},
		{"wrong credentials in a form", answerText(400, "text/plain", "error=invalid_client"), 502, 401, []string{"400 invalid_client"}},
		{"credentials that may not", answerJSON(403, map[string]any{"error": "access_denied"}), 502, 401, []string{"403 access_denied"}},
		{"a pause with 400", answerJSON(400, map[string]any{"error": "temporarily_unavailable"}), 503, 503, []string{"client credentials: ", "400 temporarily_unavailable"}},
		{"wrong scope", answerJSON(400, map[string]any{"error": "invalid_scope"}), 502, 502,
			[]string{"400 invalid_scope", "check clientId, clientSecret, scopes and audience of oAuthClientCredentials"}},
		{"a page", answerText(404, "text/html", "<h1>404</h1>"), 502, 502, []string{"404"}},
		{"broken off", answerBroken(), 503, 503, []string{"client credentials: POST"}},
		{"silence", answerNothing(), 503, 503, []string{"client credentials: POST", "no answer in time"}},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := newFakeProvider(t)
			p.answer("token", row.answer)
			quick := map[string]any{"timeoutSeconds": 1, "maxRetries": 0}
			callers := callersOptions(p)
			callers["oAuthClientCredentials"].(map[string]any)["clientConfig"] = quick
			for want, s := range map[*testSite]int{start(t, clientCredentialsOptions(p, map[string]any{"clientConfig": quick})): row.own,
				start(t, callers): row.callers} {
				r := apiCall(t, want, "GET", "/", "", password("app", "x"))
				if s == 200 {
					r.tokenOf()
					apiCall(t, want, "GET", "/", "", password("app", "x")).tokenOf()
				} else if r.expect(s); (s == 503) != (r.header.Get("Retry-After") != "") || (s == 401) != (r.header.Get("WWW-Authenticate") != "") {
					t.Errorf("the headers are %v", r.header)
				}
				if row.words != nil {
					want.expectLog(row.words...)
				}
			}
		})
	}
}

// TestClientCredentialsOneCall: a thousand requests that need a new token are one request for it.
func TestClientCredentialsOneCall(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.answer("token", func(rw http.ResponseWriter, req *http.Request) {
		time.Sleep(200 * time.Millisecond)
		p.usual("token", rw, req)
	})
	b := newBrowser(t, start(t, clientCredentialsOptions(p, nil)))
	var wrong int64
	inParallel(1000, func(int) {
		if r := b.fetch(http.MethodGet, "/", ""); !r.isUpstream() {
			atomic.AddInt64(&wrong, 1)
		}
	})
	if wrong > 0 || p.count("token") != 1 {
		t.Errorf("%d were refused, %d calls", wrong, p.count("token"))
	}
}

// TestClientCredentialsRenewal: a token is renewed before it ends; while the provider is away the old one goes on, and nobody waits.
func TestClientCredentialsRenewal(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.expiresIn = 8
	s := start(t, clientCredentialsOptions(p, nil))
	first := apiCall(t, s, "GET", "/", "").tokenOf()
	time.Sleep(6100 * time.Millisecond) // three quarters have passed
	p.answer("token", answerNothing())
	asking := make(chan *reply)
	go func() { asking <- apiCall(t, s, "GET", "/", "") }() // asks for a new one, and waits
	eventually(t, "the provider is asked", func() bool { return p.count("token") == 2 })
	for i := 0; i < 2; i++ {
		if apiCall(t, s, "GET", "/", "").tokenOf() != first || p.count("token") != 2 {
			t.Errorf("request %d did not go on with the old token", i)
		}
	}
	p.answer("token", nil)
	p.CloseClientConnections() // who asked gets no answer, and the old token
	if (<-asking).tokenOf() != first {
		t.Errorf("another token from nowhere")
	}
	time.Sleep(2 * time.Second)
	if apiCall(t, s, "GET", "/", "").tokenOf() == first {
		t.Errorf("the token has ended and is still used")
	}
	p.answer("token", answerJSON(401, map[string]any{"error": "invalid_client"}))
	time.Sleep(6500 * time.Millisecond) // the client was deleted: its token is not used any more
	apiCall(t, s, "GET", "/", "").expect(502)
}

// TestClientCredentialsEndOfJWT: where the provider does not say how long a token lasts, the token may.
func TestClientCredentialsEndOfJWT(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.answer("token", func(rw http.ResponseWriter, _ *http.Request) {
		p.reply(rw, 200, map[string]any{"access_token": p.sign(map[string]any{"exp": time.Now().Unix() + 2}), "token_type": "Bearer"})
	})
	s := start(t, clientCredentialsOptions(p, nil))
	first := apiCall(t, s, "GET", "/", "").tokenOf()
	time.Sleep(2 * time.Second)
	if apiCall(t, s, "GET", "/", "").tokenOf() == first || strings.Contains(s.logs(), "expires_in") {
		t.Errorf("a token was used beyond its exp:\n%s", s.logs())
	}
}

// TestClientCredentialsAfterRefusal: a provider that was away is asked again within seconds.
func TestClientCredentialsAfterRefusal(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.away(true)
	s := start(t, clientCredentialsOptions(p, nil))
	began := time.Now()
	apiCall(t, s, "GET", "/", "").expect(503)
	apiCall(t, s, "GET", "/", "").expect(503)
	if p.count("token") != 1 && time.Since(began) < time.Second {
		t.Errorf("%d calls within a second", p.count("token"))
	}
	p.away(false)
	eventually(t, "a token", func() bool { return apiCall(t, s, "GET", "/", "").isUpstream() })
}

// TestClientCredentialsStoreHangs: a store that does not answer is waited for once.
func TestClientCredentialsStoreHangs(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	deaf := newFakeRedis(t, func([]string) string { return silence })
	store := map[string]any{"secret": "Hj8sB4cYd6FgM1nQ", "redis": map[string]any{"endpoints": deaf.address}}
	s := start(t, clientCredentialsOptions(p, map[string]any{"store": store, "clientConfig": map[string]any{"timeoutSeconds": 3}}))
	apiCall(t, s, "GET", "/", "").tokenOf()
	s.expectLog("client credentials: unavailable: redis", "GET")
	deaf.mu.Lock()
	defer deaf.mu.Unlock()
	if sent := strings.Join(deaf.seen, "\n"); strings.Contains(sent, "SET") {
		t.Errorf("sent:\n%s", sent)
	}
}

// TestClientCredentialsStoreOfTwo: two clients of one store keep their tokens apart, and do not push out each other's.
func TestClientCredentialsStoreOfTwo(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	empty := newFakeRedis(t, answering(map[string]string{"GET": "$-1\r\n", "": "+OK\r\n"}))
	store := map[string]any{"secret": "Hj8sB4cYd6FgM1nQ", "redis": map[string]any{"endpoints": empty.address}}
	asked := map[string]bool{}
	for _, id := range []string{p.clientID, "another", p.clientID} {
		apiCall(t, start(t, clientCredentialsOptions(p,
			map[string]any{"store": store, "clientId": id, "clientConfig": map[string]any{"timeoutSeconds": len(asked) + 1}})), "GET", "/", "")
		for _, command := range strings.Split(empty.heard(), "; ") {
			if key, isGet := strings.CutPrefix(command, "GET "); isGet {
				asked[key] = true
			}
		}
	}
	if len(asked) != 2 {
		t.Errorf("expected two keys, got %v", asked)
	}
}

// TestClientCredentialsClaims: rule, headers and user name read the token when it is a JWT.
func TestClientCredentialsClaims(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.jwtAccessTokens = true
	options := map[string]any{"claims": "Contains(`scope`, `read`)",
		"forwardHeaders": map[string]any{"X-Client": "client_id", "X-None": "nothing"}, "usernameClaim": "client_id"}
	s := start(t, clientCredentialsOptions(p, mergeClaims(options, map[string]any{"scopes": "read"})))
	for i := 0; i < 3; i++ {
		r := apiCall(t, s, "GET", "/", "", "X-Client: root", "X-None: root")
		if seen := r.upstream(); seen.Headers.Get("X-Client") != p.clientID || seen.Headers["X-None"] != nil || seen.User != p.clientID {
			t.Errorf("the upstream got %v, %q", seen.Headers, seen.User)
		}
	}
	apiCall(t, start(t, clientCredentialsOptions(p, options)), "GET", "/", "").expect(403)
	p.jwtAccessTokens = false
	apiCall(t, start(t, clientCredentialsOptions(p, mergeClaims(options, map[string]any{"audience": "opaque"}))), "GET", "/", "").expect(403)
}

// TestClientCredentialsAuthentication: the ways in which the gateway's client proves itself.
func TestClientCredentialsAuthentication(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	for _, row := range []struct {
		options map[string]any
		alg     string
	}{
		{map[string]any{"clientAuthMethod": "client_secret_post"}, ""},
		{map[string]any{"clientSecret": "", "clientKey": pemOf(t, commonKey("RS256"))}, "RS256"},
		{map[string]any{"clientSecret": "", "clientKey": pemOf(t, commonKey("ES256"))}, "ES256"},
		{map[string]any{"clientSecret": "", "clientKey": pemOf(t, commonKey("EdDSA")), "clientAuthMethod": "private_key_jwt"}, "EdDSA"},
	} {
		apiCall(t, start(t, clientCredentialsOptions(p, row.options)), "GET", "/", "").tokenOf()
		form := p.lastCall("token").form
		if row.alg == "" {
			if form.Get("client_secret") != p.clientSecret || form.Get("client_id") != p.clientID {
				t.Errorf("the form is %v", form)
			}
		} else if assertion, err := parseToken(form.Get("client_assertion")); err != nil || assertion.alg != row.alg ||
			assertion.claims["aud"] != p.issuer+"/token" {
			t.Errorf("%v: the form is %v", err, form)
		}
	}
	// Beside a sign-in at the same provider its issuer is known, and is the audience (RFC 7523 3).
	b := newBrowser(t, start(t, p.options(clientCredentialsOptions(p, map[string]any{"clientSecret": "", "clientKey": pemOf(t, commonKey("RS256"))}))))
	b.signIn("/")
	if assertion, err := parseToken(p.lastCall("token").form.Get("client_assertion")); err != nil || assertion.claims["aud"] != p.issuer {
		t.Errorf("%v: the form is %v", err, p.lastCall("token").form)
	}
	refused(t, clientCredentialsOptions(p, map[string]any{"clientKey": "x"}), ": oAuthClientCredentials.clientKey: must be PEM")
}

// TestClientCredentialsBehindSignIn: sign-in first, then the gateway's token to the upstream, which still learns who the user is.
func TestClientCredentialsBehindSignIn(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.jwtAccessTokens = true
	block := clientCredentialsOptions(p, map[string]any{"forwardHeaders": map[string]any{"X-User": "client_id", "X-Client": "client_id"}})
	s := start(t, p.options(block, map[string]any{"jwt": map[string]any{"audience": "api"}, "usernameClaim": "sub",
		"forwardHeaders": map[string]any{"X-User": "sub", "Authorization": "Bearer {access_token}"}}))
	apiCall(t, s, "GET", "/", "").challenged(401, noToken)
	if p.count("token") > 0 {
		t.Errorf("a token for nobody")
	}
	ada := newBrowser(t, s)
	ada.signIn("/")
	brought := p.accessToken(&providerGrant{kind: "access", subject: "bob"})
	for i := 0; i < 3; i++ {
		seen := ada.open("/").accepted("ada")
		other := bearer(t, s, brought).accepted("bob")
		for _, seen := range []*received{seen, other} {
			sent, err := parseToken(strings.TrimPrefix(seen.Headers.Get("Authorization"), "Bearer "))
			if err != nil || sent.claims["sub"] != p.clientID || seen.Headers.Get("X-Client") != p.clientID || seen.User == p.clientID {
				t.Errorf("%v: the upstream got %v, %q", err, seen.Headers, seen.User)
			}
		}
	}
	if p.count("token") != 2 { // the code, and one token for the upstream
		t.Errorf("%d calls", p.count("token"))
	}
	refused(t, p.options(callersOptions(p)), "oAuthClientCredentials.clientId: required beside another job")
}

// TestClientCredentialsGuessed: made-up credentials cost the provider so many questions in a minute and no more, from one address and from
// all; who has good ones goes on, and who is new is told when to come again.
func TestClientCredentialsGuessed(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	options := callersOptions(p)
	options["ipStrategy"] = map[string]any{"depth": 1}
	s := start(t, options)
	from := func(address, id, secret string) *reply {
		return apiCall(t, s, "GET", "/", "", password(id, secret), "X-Forwarded-For: "+address)
	}
	from("192.0.2.1", p.clientID, p.clientSecret).tokenOf()
	asked := p.count("token")
	for i := 0; i < maxGuessesPerCaller; i++ {
		from("192.0.2.66", "made-up", fmt.Sprint(i)).expect(401)
	}
	for i := 0; i < 5; i++ {
		r := from("192.0.2.66", "made-up", fmt.Sprint("more", i)).expect(429)
		if r.header.Get("Retry-After") != "60" || r.header.Get("WWW-Authenticate") != "" {
			t.Errorf("got %q", r.header)
		}
	}
	if got := p.count("token") - asked; got != maxGuessesPerCaller {
		t.Errorf("%d questions of one caller", got)
	}
	s.expectLog("429: too many attempts: client credentials: 20 were wrong within a minute, of 192.0.2.66")
	from("192.0.2.66", p.clientID, p.clientSecret).tokenOf() // known to be good
	from("192.0.2.2", "other", "x").expect(401)              // of another address
	for i := 0; i < 2*maxGuesses; i++ {
		from(fmt.Sprintf("2001:db8:%x::%x", i/4, i), "made-up", fmt.Sprint("all", i))
	}
	if got := p.count("token") - asked; got != maxGuesses {
		t.Errorf("%d questions of all", got)
	}
	from("192.0.2.3", "new", "x").expect(429)
	from("192.0.2.3", p.clientID, p.clientSecret).tokenOf()
	s.expectLog("429: too many attempts: client credentials: 300 were wrong within a minute, of all")
	one := start(t, options) // all routers and middlewares of one token endpoint share the bound
	apiCall(t, one, "GET", "/", "", password("new", "x"), "X-Forwarded-For: 192.0.2.4").expect(429)
}

// TestClientCredentialsThatBreakTheProvider: credentials on which the provider fails keep nobody else out.
func TestClientCredentialsThatBreakTheProvider(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.answer("token", func(rw http.ResponseWriter, req *http.Request) {
		if id, _, _ := req.BasicAuth(); id == "broken" {
			answerJSON(500, nil)(rw, req)
			return
		}
		p.usual("token", rw, req)
	})
	options := callersOptions(p)
	options["oAuthClientCredentials"].(map[string]any)["clientConfig"] = map[string]any{"maxRetries": 0}
	s := start(t, options)
	apiCall(t, s, "GET", "/", "", password("broken", "x")).expect(503)
	apiCall(t, s, "GET", "/", "", password(p.clientID, p.clientSecret)).tokenOf()
}

// TestClientCredentialsCallers: guesses are counted by address, those of IPv6 by the part that providers give away whole.
func TestClientCredentialsCallers(t *testing.T) {
	direct := setStrategy(nil, &IPStrategyConfig{}, &problems{})
	for address, want := range map[string]string{
		"192.0.2.1:1": "192.0.2.1", "[2001:db8:0:1::1]:1": "2001:db8:0:1::", "[2001:db8:0:1:8000::1]:1": "2001:db8:0:1::",
		"[2001:db8:0:2::1]:1": "2001:db8:0:2::", "[::ffff:192.0.2.1]:1": "192.0.2.1",
	} {
		req, _ := http.NewRequest(http.MethodGet, app+"/", nil)
		req.RemoteAddr = address
		if got := callerAddress(direct, req); got != want {
			t.Errorf("%s: got %s, expected %s", address, got, want)
		}
	}
}

// TestClientCredentialsEndWithTheirToken: with a store a session that goes on gets another token before that one ends.
func TestClientCredentialsEndWithTheirToken(t *testing.T) {
	inThisProcess(t)
	t.Parallel()
	p := newFakeProvider(t)
	var mu sync.Mutex
	redis := newFakeRedis(t, keepingRedis(map[string]string{}, &mu))
	p.edit("token", func(d map[string]any) {
		if d["id_token"] == nil { // it is the upstream's
			d["expires_in"] = 60
		}
	})
	s, _ := signedIn(t, p, clientCredentialsOptions(p, nil),
		map[string]any{"session": map[string]any{"store": map[string]any{"redis": map[string]any{"endpoints": redis.address}}}})
	principalsLock.RLock()
	defer principalsLock.RUnlock()
	known := 0
	for _, one := range recentPrincipals.byKey {
		if one.clientState != testMiddlewareOf(s).sessions.state {
			continue
		}
		known++
		if left := time.Until(one.revalidatableUntil); left > time.Minute {
			t.Errorf("it is good for %s, its token for a minute", left)
		}
	}
	if known == 0 {
		t.Error("nobody is remembered")
	}
}

// TestClientCredentialsRefusalIsForgotten: a refusal counts for all who come within ten seconds, and then no longer.
func TestClientCredentialsRefusalIsForgotten(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, clientCredentialsOptions(p, nil))
	p.answer("token", answerJSON(401, map[string]any{"error": "invalid_client"}))
	began := time.Now()
	for i := 0; i < 3; i++ {
		apiCall(t, s, "GET", "/", "").expect(502)
	}
	p.answer("token", nil)
	if p.count("token") != 1 && time.Since(began) < refusalLifetime {
		t.Errorf("%d calls", p.count("token"))
	}
	if time.Sleep(refusalLifetime - time.Since(began) - 2*time.Second); time.Since(began) < refusalLifetime-time.Second {
		apiCall(t, s, "GET", "/", "").expect(502)
	}
	time.Sleep(refusalLifetime - time.Since(began))
	eventually(t, "a token", func() bool { return apiCall(t, s, "GET", "/", "").isUpstream() })
}

// TestClientCredentialsOldToken: in an outage an old token goes on to its end and no longer, and a refusal ends it at once.
func TestClientCredentialsOldToken(t *testing.T) {
	inThisProcess(t)
	t.Parallel()
	p := newFakeProvider(t)
	cc := testMiddlewareOf(start(t, clientCredentialsOptions(p, nil))).clientCredentials
	key := hashText(cc.salt + "\x00\x00" + cc.form)
	ctx := context.Background()
	first, err := obtainToken(ctx, cc, "", "", "")
	if err != nil {
		t.Fatal(err)
	}
	left := func(life time.Duration) {
		cacheSet(cc.client.responses, key, &fetched{value: first.value, version: first.version, until: time.Now().Add(-time.Second), end: time.Now().Add(life)}, 0)
	}
	p.away(true)
	left(time.Minute)
	if got, err := obtainToken(ctx, cc, "", "", ""); err != nil || got.value != first.value || time.Until(got.until) > 30*time.Second {
		t.Errorf("before its end: %v, until %s", err, got.until)
	}
	left(-time.Second)
	if got, err := obtainToken(ctx, cc, "", "", ""); !errors.Is(err, errUnavailable) || got.value != nil {
		t.Errorf("after its end: %v, %v", got.value, err)
	}
	p.away(false)
	p.answer("token", answerJSON(401, map[string]any{"error": "invalid_client"}))
	left(time.Minute)
	for i := 0; i < 2; i++ {
		if got, err := obtainToken(ctx, cc, "", "", ""); !errors.Is(err, errRefused) || got.value != nil {
			t.Errorf("refused, and asked for %d times: %v, %v", i+1, got.value, err)
		}
	}
}

// TestClientCredentialsStoreSpares: a token that another replica has put into the store is used, until it is to be renewed.
func TestClientCredentialsStoreSpares(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	var mu sync.Mutex
	kept := map[string]string{}
	redis := newFakeRedis(t, func(args []string) string {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case args[0] == "SET":
			kept[args[1]] = args[2]
		case args[0] == "GET" && kept[args[1]] != "":
			return bulk(kept[args[1]])
		case args[0] == "GET":
			return "$-1\r\n"
		}
		return "+OK\r\n"
	})
	store := map[string]any{"secret": "Hj8sB4cYd6FgM1nQ", "redis": map[string]any{"endpoints": redis.address}}
	replica := func(timeout int) *reply { // another time limit makes another client, as another replica has
		return apiCall(t, start(t, clientCredentialsOptions(p, map[string]any{"store": store, "clientConfig": map[string]any{"timeoutSeconds": timeout}})), "GET", "/", "")
	}
	one, two := replica(10).tokenOf(), replica(11).tokenOf()
	if one == "" || one != two || p.count("token") != 1 {
		t.Errorf("%q and %q, with %d requests", one, two, p.count("token"))
	}
	mu.Lock()
	for key := range kept {
		delete(kept, key)
	}
	mu.Unlock()
	p.expiresIn = 1
	three := replica(12).tokenOf()
	time.Sleep(1100 * time.Millisecond)
	if four := replica(13).tokenOf(); four == "" || four == three || p.count("token") != 3 {
		t.Errorf("%q and %q, with %d requests", three, four, p.count("token"))
	}
}
