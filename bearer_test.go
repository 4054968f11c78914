package oidc

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

const tokenSecret = "the secret of tokens of 32 bytes" // the least HS256 takes

// apiCall is what a program does: one request, no cookies but those given, no wish for HTML.
func apiCall(t *testing.T, s *testSite, method, path, body string, lines ...string) *reply {
	t.Helper()
	b := newBrowser(t, s)
	req := b.request(method, path, body)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	return b.send(req, "none", &reply{t: t})
}

// bearer is a call of an API with a token.
func bearer(t *testing.T, s *testSite, token string, lines ...string) *reply {
	t.Helper()
	return apiCall(t, s, http.MethodGet, "/api", "", append(lines, "Authorization: Bearer "+token)...)
}

// challenged fails the test unless the answer is this one, with this WWW-Authenticate (NAME is the middleware's) and a line of the log.
func (r *reply) challenged(status int, challenge string, words ...string) *reply {
	r.t.Helper()
	challenge = strings.ReplaceAll(challenge, "NAME", strings.TrimSuffix(r.site.name, "@file"))
	if r.status != status || r.header.Get("WWW-Authenticate") != challenge {
		r.t.Errorf("expected %d with %q, got %q:\n%s", status, challenge, r.header.Get("WWW-Authenticate"), r.story())
	}
	if r.header.Get("Cache-Control") != "no-store" || r.header.Get("Location") != "" {
		r.t.Errorf("expected no-store and no redirect:\n%v", r.header)
	}
	r.site.expectLog(words...)
	return r
}

// accepted fails the test unless the upstream was reached with this X-User.
func (r *reply) accepted(user string) *received {
	r.t.Helper()
	seen := r.upstream()
	if seen.Headers.Get("X-User") != user {
		r.t.Errorf("expected X-User %q, got %q", user, seen.Headers.Get("X-User"))
	}
	return seen
}

// signed makes a JWT; header members are added to alg, and a nil claim is left out.
func signed(key *providerKey, header, claims map[string]any) string {
	head := merge(map[string]any{"alg": key.alg, "kid": key.kid}, header)
	made := merge(map[string]any{"sub": "ada", "exp": time.Now().Add(time.Minute).Unix()}, claims)
	for name, value := range made {
		if value == nil {
			delete(made, name)
		}
	}
	text := encodeSegment(head) + "." + encodeSegment(made)
	return text + "." + base64.RawURLEncoding.EncodeToString(key.sign(text))
}

func hmacKey(alg, secret string) *providerKey {
	return &providerKey{kid: "s", alg: alg, private: []byte(secret)}
}

func sharedToken(claims map[string]any) string {
	return signed(hmacKey("HS256", tokenSecret), nil, claims)
}

// jwtOptions are those of a middleware with the jwt block alone.
func jwtOptions(more map[string]any) map[string]any {
	block := map[string]any{"forwardHeaders": map[string]any{"X-User": "sub"}}
	return map[string]any{"jwt": merge(block, more)}
}

const (
	noToken      = `Bearer realm="NAME"`
	badToken     = noToken + `, error="invalid_token"`
	badRequest   = noToken + `, error="invalid_request"`
	tooFewRights = noToken + `, error="insufficient_scope"`
)

func TestBearerChallenges(t *testing.T) {
	t.Parallel()
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "claims": "Equals(`sub`, `ada`)"}))
	good := sharedToken(nil)
	for _, row := range []struct {
		name      string
		lines     []string
		path      string
		status    int
		challenge string
		words     []string
	}{
		{"nothing", nil, "/", 401, noToken, []string{"GET /: 401: not signed in"}},
		{"another scheme", []string{"Authorization: Basic YTpi"}, "/", 401, noToken, []string{"not signed in"}},
		{"a token in the query, where none is allowed", nil, "/q?access_token=" + good, 401, noToken, []string{"GET /q: 401: not signed in"}},
		{"a navigation without token", []string{"Accept: text/html", "Sec-Fetch-Mode: navigate"}, "/", 401, noToken, []string{"not signed in"}},
		{"a navigation with a bad token", []string{"Accept: text/html", "Sec-Fetch-Mode: navigate", "Authorization: Bearer x"}, "/", 401, badToken, []string{"must have three parts, got 1"}},
		{"an empty token", []string{"Authorization: Bearer "}, "/", 401, badToken, []string{"must have three parts"}},
		{"the scheme alone", []string{"Authorization: Bearer"}, "/", 401, badToken, []string{"must have three parts"}},
		{"two tokens", []string{"Authorization: Bearer " + good, "Authorization: Bearer " + good}, "/two", 400, badRequest, []string{"GET /two: 400: invalid_request: more than one Authorization header"}},
		{"a token and a password", []string{"Authorization: Bearer " + good, "Authorization: Basic YTpi"}, "/two", 400, badRequest, []string{"more than one Authorization header"}},
		{"somebody else's", []string{"Authorization: Bearer " + sharedToken(map[string]any{"sub": "eve"})}, "/eve", 403, tooFewRights, []string{"GET /eve: 403: insufficient_scope: the rule says no to sub \"eve\""}},
		{"five parts", []string{"Authorization: Bearer a.b.c.d.e"}, "/", 401, badToken, []string{"must have three parts, got 5", "encrypted"}},
		{"70 KB", []string{"Authorization: Bearer " + strings.Repeat("x", 70000)}, "/", 401, badToken, []string{"at most 65536 bytes, got 70000"}},
		{"expired", []string{"Authorization: Bearer " + sharedToken(map[string]any{"exp": 1000000000})}, "/", 401, badToken, []string{"exp: expired"}},
		{"no exp", []string{"Authorization: Bearer " + sharedToken(map[string]any{"exp": nil})}, "/", 401, badToken, []string{"exp: required"}},
		{"not yet", []string{"Authorization: Bearer " + sharedToken(map[string]any{"nbf": time.Now().Unix() + 3600})}, "/", 401, badToken, []string{"nbf: 3", "in the future"}},
		{"an ID token", []string{"Authorization: Bearer " + sharedToken(map[string]any{"nonce": "n"})}, "/", 401, badToken, []string{"expected an access token, got an ID token"}},
		{"another signature", []string{"Authorization: Bearer " + signed(hmacKey("HS256", strings.ToUpper(tokenSecret)), nil, nil)}, "/", 401, badToken, []string{"signature: does not match"}},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			r := apiCall(t, s, http.MethodGet, row.path, "", row.lines...)
			r.challenged(row.status, row.challenge, row.words...)
		})
	}
	if r := bearer(t, s, good, "X-User: root"); r.accepted("ada").Headers.Get("Authorization") != "" {
		t.Errorf("the upstream got the token")
	}
	if strings.Contains(s.logs(), good[:30]) {
		t.Errorf("a token is in the log")
	}
	// A megabyte is more than Go's server reads: its own refusal, or ours.
	if r := apiCall(t, s, http.MethodPost, "/", strings.Repeat("x", 1<<20), "Authorization: Bearer "+strings.Repeat("y", 900<<10)); r.isUpstream() {
		t.Errorf("a huge token was let in:\n%s", r.story())
	}
}

// TestBearerAlgorithms: what the token says of its own signature counts for nothing.
func TestBearerAlgorithms(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s := start(t, jwtOptions(map[string]any{"issuer": p.issuer}))
	claims := map[string]any{"iss": p.issuer}
	good := signed(p.key, nil, claims)
	bearer(t, s, good).accepted("ada")
	for _, none := range []string{"none", "None", "NONE", "nOnE"} {
		unsigned := encodeSegment(map[string]any{"alg": none}) + good[strings.Index(good, "."):strings.LastIndex(good, ".")+1]
		bearer(t, s, unsigned).challenged(401, badToken, "alg: not a signature algorithm", none)
	}
	published := p.key.public()
	publicText, _ := json.Marshal(published)
	for _, secret := range []string{string(publicText), published["n"].(string), publicPEM(t, p.key.private)} {
		forged := signed(&providerKey{kid: p.key.kid, alg: "HS256", private: []byte(secret)}, nil, claims)
		bearer(t, s, forged).challenged(401, badToken, "alg: expected one of", `"HS256"`)
	}
	own := &providerKey{kid: "mine", alg: "RS256", private: newPrivateKey("RS256")}
	for _, header := range []map[string]any{
		{"jwk": own.public()}, {"jku": p.issuer + "/mine"}, {"x5c": []string{"MII"}}, {"x5u": p.issuer + "/mine"}, {"kid": p.key.kid},
	} {
		r := bearer(t, s, signed(own, header, claims))
		r.challenged(401, badToken, "401: invalid_token: signature: ")
	}
	if p.count("") > 0 {
		t.Errorf("a link in a token was followed")
	}
	bearer(t, s, signed(p.key, map[string]any{"crit": []string{"b64"}, "b64": false}, claims)).challenged(401, badToken, "asks for an extension")
	bearer(t, s, signed(p.key, map[string]any{"kid": "unknown"}, claims)).challenged(401, badToken, "none of the issuer's 1 keys is \"unknown\"")
}

// TestBearerPlaces: where a token may be, and where not.
func TestBearerPlaces(t *testing.T) {
	t.Parallel()
	good := sharedToken(nil)
	place := func(source map[string]any, tokenKey string) *testSite {
		if source == nil {
			source = map[string]any{}
		}
		return start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenSource": source, "tokenKey": tokenKey}))
	}
	s := place(map[string]any{"header": "x-token"}, "")
	apiCall(t, s, "GET", "/", "", "X-Token: "+good).accepted("ada")
	if seen := apiCall(t, s, "GET", "/", "", "X-Token: "+good).accepted("ada"); seen.Headers.Get("X-Token") != "" {
		t.Errorf("the upstream got the token")
	}
	apiCall(t, s, "GET", "/", "", "Authorization: Bearer "+good).challenged(401, noToken)

	s = place(map[string]any{"header": "Authorization", "headerAuthScheme": "Token"}, "")
	apiCall(t, s, "GET", "/", "", "Authorization: tOkEn  "+good).accepted("ada")
	bearer(t, s, good).challenged(401, noToken)

	s = place(map[string]any{"cookie": "token"}, "")
	apiCall(t, s, "GET", "/", "", "Cookie: a=b; token="+good).accepted("ada")
	apiCall(t, s, "GET", "/", "", "Cookie: token=; token="+good).accepted("ada")
	apiCall(t, s, "GET", "/", "", "Cookie: token=").challenged(401, noToken)
	apiCall(t, s, "GET", "/", "", "Cookie: token=x; token="+good).challenged(400, badRequest, "more than one token")

	s = place(map[string]any{"query": "access_token"}, "")
	apiCall(t, s, "GET", "/?access_token="+good, "").accepted("ada")
	apiCall(t, s, "GET", "/?access_token="+good+"&access_token=x", "").challenged(400, badRequest, "more than one token")

	s = place(nil, "jwt")
	form := url.Values{"jwt": {good}, "amount": {"1"}}.Encode()
	kind := "Content-Type: application/x-www-form-urlencoded"
	bearer(t, s, good).accepted("ada")
	apiCall(t, s, "GET", "/?jwt="+good, "").accepted("ada")
	for range []int{1, 2} { // the second one is remembered
		if seen := apiCall(t, s, "POST", "/", form, kind).accepted("ada"); seen.Body != "amount=1" {
			t.Errorf("the upstream got the form %q", seen.Body)
		}
	}
	apiCall(t, s, "POST", "/", form, kind, "Authorization: Bearer "+good).challenged(400, badRequest, "more than one token")
	apiCall(t, s, "POST", "/", "amount=1", kind).challenged(401, noToken)
	apiCall(t, s, "POST", "/", strings.Repeat("x", 70<<10)+form, kind).challenged(401, noToken)
	apiCall(t, s, "POST", "/", form, "Content-Type: text/plain").challenged(401, noToken)
}

// TestBearerHeaders: what the upstream is told of a token, the first time and the next.
func TestBearerHeaders(t *testing.T) {
	t.Parallel()
	good := sharedToken(map[string]any{"name": "Ada"})
	for _, row := range []struct {
		name          string
		options       map[string]any
		authorization string
	}{
		{"the token is taken off", nil, ""},
		{"the token is handed on", map[string]any{"forwardAuthorization": true}, "Bearer " + good},
		{"Authorization is a header of ours", map[string]any{"forwardHeaders": map[string]any{"X-User": "sub", "Authorization": "Custom {name}"}}, "Custom Ada"},
		{"and has no value", map[string]any{"forwardAuthorization": true, "forwardHeaders": map[string]any{"X-User": "sub", "Authorization": "nothing"}}, ""},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			s := start(t, jwtOptions(merge(map[string]any{"signingSecret": tokenSecret, "usernameClaim": "name"}, row.options)))
			for i := 0; i < 4; i++ {
				seen := bearer(t, s, good, "X-User: root", "X_User: root", "X-Odd: 1", "Connection: authorization, x-user").accepted("ada")
				if seen.Headers.Get("Authorization") != row.authorization || seen.User != "Ada" || seen.Headers["X_user"] != nil {
					t.Errorf("request %d: expected Authorization %q and user Ada, got %v, %q", i, row.authorization, seen.Headers, seen.User)
				}
				bearer(t, s, good).accepted("ada")
			}
			bearer(t, s, "x").challenged(401, badToken)
		})
	}
}

// TestBearerBlanks: a token is the same however many blanks are before it, also where the scheme ends with a tab, as some upstreams read it:
// it is judged, and remembered once.
func TestBearerBlanks(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s, b := signedIn(t, p, map[string]any{"jwt": map[string]any{}})
	line := "Cookie: " + b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	for i := 0; i < 3; i++ {
		for _, blanks := range []string{"\t", " \t", "\t ", "   "} {
			apiCall(t, s, "GET", "/", "", line, "Authorization: Bearer"+blanks+"forged").challenged(401, badToken)
		}
	}
	s = start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret}))
	good := sharedToken(nil)
	for i := 1; i <= 30; i++ {
		bearer(t, s, strings.Repeat(" ", 10000*(i%9)+i)+good).accepted("ada")
	}
	if s.server == nil {
		return // the memory can be seen in this process alone
	}
	g := testGateOf(s)
	for i, blanks := range []string{" ", "  ", "\t", strings.Repeat(" ", 10001)} {
		if isKnown := findPass(g, "Authorization: Bearer"+blanks+good) != nil; isKnown != (i == 0) {
			t.Errorf("with %d blanks it is known: %t", len(blanks), isKnown)
		}
	}
}

// TestBearerAliases: what an upstream may take for the header of the token is not there beside the one that was judged.
func TestBearerAliases(t *testing.T) {
	t.Parallel()
	good := sharedToken(nil)
	for _, keep := range []bool{true, false} {
		s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenSource": map[string]any{"header": "X-Token"}, "forwardAuthorization": keep}))
		for i := 0; i < 3; i++ {
			apiCall(t, s, "GET", "/", "", "X-Token: "+good).accepted("ada")
			seen := apiCall(t, s, "GET", "/", "", "X-Token: "+good, "X_Token: forged", "X.Token: forged", "x-tOKEN_: mine").accepted("ada")
			if seen.Headers["X_token"] != nil || seen.Headers["X.token"] != nil || (seen.Headers.Get("X-Token") == good) != keep || seen.Headers.Get("X-Token_") != "mine" {
				t.Errorf("request %d: the upstream got %v", i, seen.Headers)
			}
		}
	}
}

// TestBearerClientSubject: a client that has a token for itself is nobody, whatever it calls itself (RFC 9700 4.15).
func TestBearerClientSubject(t *testing.T) {
	t.Parallel()
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret,
		"claims":         "Equals(`sub`, `admin`) || Equals(`client_id`, `robot`)",
		"forwardHeaders": map[string]any{"X-User": "sub", "X-Client": "client_id"}}))
	bearer(t, s, sharedToken(map[string]any{"sub": "admin", "client_id": "app"})).accepted("admin")
	bearer(t, s, sharedToken(map[string]any{"sub": "admin", "client_id": "admin"})).challenged(403, tooFewRights, `no to sub null, client_id "admin", azp null`)
	for _, name := range []string{"azp", "cid", "appid"} {
		bearer(t, s, sharedToken(map[string]any{"sub": "admin", name: "admin"})).challenged(403, tooFewRights)
	}
	if seen := bearer(t, s, sharedToken(map[string]any{"sub": "robot", "client_id": "robot"})).accepted(""); seen.Headers.Get("X-Client") != "robot" {
		t.Errorf("the upstream got %v", seen.Headers)
	}
}

// TestBearerEndsWithItsToken: what is remembered of a token does not outlive it.
func TestBearerEndsWithItsToken(t *testing.T) {
	t.Parallel()
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret}))
	ended := sharedToken(map[string]any{"exp": time.Now().Unix() - 58}) // 60 s are forgiven
	bearer(t, s, ended).accepted("ada")
	bearer(t, s, ended).accepted("ada")
	eventually(t, "the token ends", func() bool { return bearer(t, s, ended).status == http.StatusUnauthorized })
}

// TestMixedTable is who is asked when a session and a token come together: the token decides alone.
func TestMixedTable(t *testing.T) {
	t.Parallel()
	for _, job := range []string{"jwt", "oAuthIntrospection"} {
		job := job
		t.Run(job, func(t *testing.T) {
			p := newProvider(t)
			p.jwtAccessTokens = true
			p.edit("access_token", func(claims map[string]any) { claims["aud"] = p.clientID })
			s := start(t, p.options(map[string]any{job: map[string]any{}, "claims": "Exists(`sub`)",
				"forwardHeaders": map[string]any{"X-User": "sub", "X-Token": "{access_token}"}}))
			ada := newBrowser(t, s)
			ada.signIn("/").accepted("ada")
			brought := p.accessToken(&providerGrant{kind: "access", form: url.Values{}, subject: "bob"})
			for _, hasSession := range []bool{false, true} {
				for _, token := range []string{"", "bad", brought} {
					for round := 0; round < 3; round++ { // the later ones are remembered
						b := newBrowser(t, s)
						if hasSession {
							b = ada.copyOf()
						}
						if token != "" {
							b.header.Set("Authorization", "Bearer "+token)
						}
						page, call := b.look("/page"), b.fetch(http.MethodGet, "/api", "")
						switch {
						case token == "bad":
							page.challenged(401, badToken)
							call.challenged(401, badToken)
						case token != "":
							for _, seen := range []*received{page.accepted("bob"), call.accepted("bob")} {
								if seen.Headers.Get("X-Token") != brought || seen.Headers.Get("Authorization") != "" || seen.Headers.Get("Cookie") != "" {
									t.Errorf("the upstream got %v", seen.Headers)
								}
							}
						case hasSession:
							page.accepted("ada")
							call.accepted("ada")
						default:
							if page.status != http.StatusFound || !strings.HasPrefix(page.location().String(), p.issuer) {
								t.Errorf("expected a sign-in:\n%s", page.story())
							}
							call.challenged(401, noToken, "GET /api: 401: not signed in")
						}
					}
				}
			}
			ada.header.Set("Authorization", "Basic YTpi") // not a token, and none of our business
			if seen := ada.fetch(http.MethodGet, "/api", "").accepted("ada"); seen.Headers.Get("Authorization") != "Basic YTpi" {
				t.Errorf("the upstream got %v", seen.Headers)
			}
		})
	}
}

// TestMixedAuthorization: the access token of whoever comes in goes on as Authorization, and nobody can bring another.
func TestMixedAuthorization(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.jwtAccessTokens = true
	p.edit("access_token", func(claims map[string]any) { claims["aud"] = p.clientID })
	s := start(t, p.options(map[string]any{"jwt": map[string]any{}, "unauthenticated": "forward", "bypass": "Path(`/open`)", "loginUrl": "/login",
		"forwardHeaders": map[string]any{"X-User": "sub", "Authorization": "Bearer {access_token}"}}))
	token := p.accessToken(&providerGrant{kind: "access", form: url.Values{}, subject: "bob"})
	for i := 0; i < 3; i++ {
		if seen := bearer(t, s, token).accepted("bob"); seen.Headers.Get("Authorization") != "Bearer "+token {
			t.Errorf("the upstream got %v", seen.Headers)
		}
		bearer(t, s, "bad").challenged(401, badToken)
		for _, path := range []string{"/", "/open"} { // as nobody
			if seen := apiCall(t, s, "GET", path, "", "Authorization: Basic YTpi", "X-User: root").accepted(""); seen.Headers.Get("Authorization") != "" {
				t.Errorf("the upstream got %v", seen.Headers)
			}
		}
	}
	ada := newBrowser(t, s)
	if seen := ada.signIn("/login").accepted("ada"); !strings.HasPrefix(seen.Headers.Get("Authorization"), "Bearer ey") {
		t.Errorf("the upstream got %v", seen.Headers)
	}
}

// TestMixedBothTokenJobs: JWTs are verified here, the provider is asked about all other tokens.
func TestMixedBothTokenJobs(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s := start(t, p.options(map[string]any{"jwt": map[string]any{}, "oAuthIntrospection": map[string]any{},
		"forwardHeaders": map[string]any{"X-User": "sub"}}))
	bearer(t, s, p.sign(map[string]any{"iss": p.issuer, "aud": p.clientID, "sub": "ada", "exp": time.Now().Unix() + 60})).accepted("ada")
	if p.count("introspection") > 0 {
		t.Errorf("a JWT was asked about")
	}
	bearer(t, s, p.accessToken(&providerGrant{kind: "access", form: url.Values{}, subject: "bob"})).accepted("bob")
	bearer(t, s, "opaque").challenged(401, badToken, "active: expected true, got false")

	// What is taken off is the header with the token, whichever of the two looks there.
	s = start(t, p.options(map[string]any{"jwt": map[string]any{"tokenSource": map[string]any{"header": "X-Jwt"}}, "oAuthIntrospection": map[string]any{},
		"forwardHeaders": map[string]any{"X-User": "sub"}}))
	token := p.sign(map[string]any{"iss": p.issuer, "aud": p.clientID, "sub": "ada", "exp": time.Now().Unix() + 60})
	for _, line := range []string{"Authorization: Bearer " + token, "X-Jwt: " + token, "X-Jwt: " + p.opaque("ada")} {
		if seen := apiCall(t, s, "GET", "/", "", line).accepted("ada"); seen.Headers.Get("Authorization")+seen.Headers.Get("X-Jwt") != "" {
			t.Errorf("%.20s: the upstream got %v", line, seen.Headers)
		}
	}
}

// TestResourceMetadata: a client that knows nothing finds its way from the 401 (RFC 9728).
func TestResourceMetadata(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	for _, row := range []struct{ resource, path string }{
		{"https://app.example.com/mcp", "/.well-known/oauth-protected-resource/mcp"},
		{"https://app.example.com/", "/.well-known/oauth-protected-resource"},
		{"https://app.example.com", "/.well-known/oauth-protected-resource"},
		{"https://app.example.com/a%20b/", "/.well-known/oauth-protected-resource/a%20b/"},
	} {
		for _, job := range []string{"jwt", "oAuthIntrospection"} {
			row := row
			options := p.options(map[string]any{job: map[string]any{"resource": row.resource}})
			if job == "jwt" {
				options = jwtOptions(map[string]any{"issuer": p.issuer, "resource": row.resource})
			}
			s := start(t, options)
			challenge := noToken + `, resource_metadata="https://app.example.com` + row.path + `"`
			r := apiCall(t, s, "GET", "/", "", "Host: evil.example").challenged(401, challenge)
			_, address, _ := strings.Cut(r.header.Get("WWW-Authenticate"), `resource_metadata="`)
			found := apiCall(t, s, "GET", strings.Trim(address, `"`), "", "Origin: https://client.example").expect(200)
			document := map[string]any{}
			if err := json.Unmarshal([]byte(found.body), &document); err != nil || found.header.Get("Content-Type") != "application/json" || found.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%v:\n%s", err, found.story())
			}
			if servers := texts(document["authorization_servers"]); document["resource"] != row.resource || len(servers) != 1 || servers[0] != p.issuer {
				t.Errorf("the document is %v", document)
			}
			apiCall(t, s, "OPTIONS", row.path, "", "Origin: https://client.example", "Access-Control-Request-Method: GET").expect(204)
			apiCall(t, s, "POST", row.path, "").expect(405)
			if job == "jwt" { // made for another resource
				bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer, "aud": row.resource})).accepted("ada")
				r := bearer(t, s, signed(p.key, nil, map[string]any{"iss": p.issuer, "aud": "https://other.example"}))
				r.challenged(401, strings.Replace(challenge, ", res", `, error="invalid_token", res`, 1), "audience: expected")
			}
		}
	}
}

// TestResourceScopes: what the rule asks of a token's scopes is told to clients (RFC 6750 3.1, RFC 9728 2).
func TestResourceScopes(t *testing.T) {
	t.Parallel()
	const metadata = `resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"`
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "resource": "https://api.example.com",
		"claims": "SplitContains(`scope`, ` `, `orders:read`) && OneOf(`scp`, `orders:read`, `orders:all`)"}))
	weak := sharedToken(map[string]any{"aud": "https://api.example.com", "scope": "other"})
	bearer(t, s, weak).challenged(403, tooFewRights+`, scope="orders:read orders:all", `+metadata)
	bearer(t, s, "bad").challenged(401, badToken+`, scope="orders:read orders:all", `+metadata) // which the next one is to have
	apiCall(t, s, "GET", "/", "").challenged(401, noToken+`, scope="orders:read orders:all", `+metadata)
	told := apiCall(t, s, "GET", "/.well-known/oauth-protected-resource", "").expect(200)
	if !strings.Contains(told.body, `"scopes_supported":["orders:read","orders:all"]`) {
		t.Errorf("the document is %s", told.body)
	}

	s = start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "resource": "https://api.example.com", "claims": "Equals(`sub`, `bob`)"}))
	bearer(t, s, weak).challenged(403, tooFewRights+", "+metadata)
	if told := apiCall(t, s, "GET", "/.well-known/oauth-protected-resource", "").expect(200); strings.Contains(told.body, "scopes") {
		t.Errorf("the document is %s", told.body)
	}
}
