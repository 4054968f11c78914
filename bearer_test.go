package oidc

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
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
	head := mergeClaims(map[string]any{"alg": key.alg, "kid": key.kid}, header)
	made := mergeClaims(map[string]any{"sub": "ada", "exp": time.Now().Add(time.Minute).Unix()}, claims)
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
	return map[string]any{"jwt": mergeClaims(block, more)}
}

const (
	noToken      = `Bearer realm="NAME"`
	badToken     = noToken + `, error="invalid_token"`
	badRequest   = noToken + `, error="invalid_request"`
	tooFewRights = noToken + `, error="insufficient_scope"`
)

// A realm of the operator's choice stands in every challenge.
func TestBearerChallengeRealm(t *testing.T) {
	t.Parallel()
	raw := jwtOptions(map[string]any{"signingSecret": tokenSecret})
	raw["challengeRealm"] = "Orders (v2)"
	s := start(t, raw)
	apiCall(t, s, "GET", "/", "").challenged(401, `Bearer realm="Orders (v2)"`)
	bearer(t, s, "mine").challenged(401, `Bearer realm="Orders (v2)", error="invalid_token"`)
}

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
		{"a navigation with a bad token", []string{"Accept: text/html", "Sec-Fetch-Mode: navigate", "Authorization: Bearer x"}, "/", 401,
			badToken, []string{"must have three parts, got 1"}},
		{"an empty token", []string{"Authorization: Bearer "}, "/", 401, badToken, []string{"must have three parts"}},
		{"the scheme alone", []string{"Authorization: Bearer"}, "/", 401, badToken, []string{"must have three parts"}},
		{"two tokens", []string{"Authorization: Bearer " + good, "Authorization: Bearer " + good}, "/two", 400, badRequest,
			[]string{"GET /two: 400: invalid_request: more than one Authorization header"}},
		{"a token and a password", []string{"Authorization: Bearer " + good, "Authorization: Basic YTpi"}, "/two", 400, badRequest,
			[]string{"more than one Authorization header"}},
		{"somebody else's", []string{"Authorization: Bearer " + sharedToken(map[string]any{"sub": "eve"})}, "/eve", 403, tooFewRights,
			[]string{"GET /eve: 403: insufficient_scope: the rule says no to sub \"eve\""}},
		{"five parts", []string{"Authorization: Bearer a.b.c.d.e"}, "/", 401, badToken, []string{"must have three parts, got 5", "encrypted"}},
		{"70 KB", []string{"Authorization: Bearer " + strings.Repeat("x", 70000)}, "/", 401, badToken, []string{"at most 65536 bytes, got 70000"}},
		{"expired", []string{"Authorization: Bearer " + sharedToken(map[string]any{"exp": 1000000000})}, "/", 401, badToken, []string{"exp: expired"}},
		{"no exp", []string{"Authorization: Bearer " + sharedToken(map[string]any{"exp": nil})}, "/", 401, badToken, []string{"exp: required"}},
		{"not yet", []string{"Authorization: Bearer " + sharedToken(map[string]any{"nbf": time.Now().Unix() + 3600})}, "/", 401, badToken,
			[]string{"nbf: 3", "in the future"}},
		{"an ID token", []string{"Authorization: Bearer " + sharedToken(map[string]any{"nonce": "n"})}, "/", 401, badToken,
			[]string{"expected an access token, got an ID token"}},
		{"another signature", []string{"Authorization: Bearer " + signed(hmacKey("HS256", strings.ToUpper(tokenSecret)), nil, nil)}, "/", 401,
			badToken, []string{"signature: does not match"}},
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
	p := newFakeProvider(t)
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
	apiCall(t, s, "POST", "/", strings.Repeat("x", maxForm-len(form)-1)+"&"+form, kind).accepted("ada")
	apiCall(t, s, "POST", "/", strings.Repeat("x", maxForm-len(form))+"&"+form, kind).challenged(401, noToken)
	apiCall(t, s, "POST", "/", form, "Content-Type: text/plain").challenged(401, noToken)
}

// TestBearerKeepsBodies: a form that carries no token reaches the upstream as it was sent.
func TestBearerKeepsBodies(t *testing.T) {
	t.Parallel()
	good := sharedToken(nil)
	kind := "Content-Type: application/x-www-form-urlencoded"
	for _, row := range []struct {
		name    string
		options map[string]any
		body    string
		line    string
	}{
		{"the token may be in a cookie", map[string]any{"tokenSource": map[string]any{"cookie": "token"}}, "amount=1", "Cookie: token=" + good},
		{"the form is longer than one with a token", map[string]any{"tokenKey": "jwt"}, "amount=" + strings.Repeat("1", maxForm), "Authorization: Bearer " + good},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			s := start(t, jwtOptions(mergeClaims(map[string]any{"signingSecret": tokenSecret}, row.options)))
			for i := 0; i < 2; i++ { // the second one is remembered
				if seen := apiCall(t, s, "POST", "/", row.body, kind, row.line).accepted("ada"); seen.Body != row.body {
					t.Errorf("request %d: the upstream got %d bytes, %d were sent", i, len(seen.Body), len(row.body))
				}
			}
		})
	}
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
		{"Authorization is a header of ours", map[string]any{"forwardHeaders": map[string]any{"X-User": "sub",
			"Authorization": "Custom {name}"}}, "Custom Ada"},
		{"and has no value", map[string]any{"forwardAuthorization": true,
			"forwardHeaders": map[string]any{"X-User": "sub", "Authorization": "nothing"}}, ""},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			s := start(t, jwtOptions(mergeClaims(map[string]any{"signingSecret": tokenSecret, "usernameClaim": "name"}, row.options)))
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
	p := newFakeProvider(t)
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
	m := testMiddlewareOf(s)
	for i, blanks := range []string{" ", "  ", "\t", strings.Repeat(" ", 10001)} {
		if isKnown := findPrincipal(m.cache, "Authorization: Bearer"+blanks+good) != nil; isKnown != (i == 0) {
			t.Errorf("with %d blanks it is known: %t", len(blanks), isKnown)
		}
	}
}

// TestBearerAliases: what an upstream may take for the header of the token is not there beside the one that was judged.
func TestBearerAliases(t *testing.T) {
	t.Parallel()
	good := sharedToken(nil)
	for _, keep := range []bool{true, false} {
		s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenSource": map[string]any{"header": "X-Token"},
			"forwardAuthorization": keep}))
		for i := 0; i < 3; i++ {
			apiCall(t, s, "GET", "/", "", "X-Token: "+good).accepted("ada")
			seen := apiCall(t, s, "GET", "/", "", "X-Token: "+good, "X_Token: forged", "X.Token: forged", "x-tOKEN_: mine").accepted("ada")
			if seen.Headers["X_token"] != nil || seen.Headers["X.token"] != nil || (seen.Headers.Get("X-Token") == good) != keep ||
				seen.Headers.Get("X-Token_") != "mine" {
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
	bearer(t, s, sharedToken(map[string]any{"sub": "admin", "client_id": "admin"})).challenged(403, tooFewRights,
		`no to sub null, client_id "admin", azp null`)
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

// TestBearerBesideASession is who is asked when a session and a token come together: the token decides alone.
func TestBearerBesideASession(t *testing.T) {
	t.Parallel()
	for _, job := range []string{"jwt", "oAuthIntrospection"} {
		job := job
		t.Run(job, func(t *testing.T) {
			p := newFakeProvider(t)
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

// TestBearerBesideAuthorizationOfOthers: the access token of whoever comes in goes on as Authorization, and nobody can bring another.
func TestBearerBesideAuthorizationOfOthers(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
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

// TestBearerOfTwoJobs: JWTs are verified here, the provider is asked about all other tokens.
func TestBearerOfTwoJobs(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	s := start(t, p.options(map[string]any{"jwt": map[string]any{}, "oAuthIntrospection": map[string]any{},
		"forwardHeaders": map[string]any{"X-User": "sub"}}))
	bearer(t, s, p.sign(map[string]any{"iss": p.issuer, "aud": p.clientID, "sub": "ada", "exp": time.Now().Unix() + 60})).accepted("ada")
	if p.count("introspection") > 0 {
		t.Errorf("a JWT was asked about")
	}
	bearer(t, s, p.accessToken(&providerGrant{kind: "access", form: url.Values{}, subject: "bob"})).accepted("bob")
	bearer(t, s, "opaque").challenged(401, badToken, "active: expected true, got false")

	// What is taken off is the header with the token, whichever of the two looks there.
	s = start(t, p.options(map[string]any{"jwt": map[string]any{"tokenSource": map[string]any{"header": "X-Jwt"}},
		"oAuthIntrospection": map[string]any{},
		"forwardHeaders":     map[string]any{"X-User": "sub"}}))
	token := p.sign(map[string]any{"iss": p.issuer, "aud": p.clientID, "sub": "ada", "exp": time.Now().Unix() + 60})
	for _, line := range []string{"Authorization: Bearer " + token, "X-Jwt: " + token, "X-Jwt: " + p.opaque("ada")} {
		if seen := apiCall(t, s, "GET", "/", "", line).accepted("ada"); seen.Headers.Get("Authorization")+seen.Headers.Get("X-Jwt") != "" {
			t.Errorf("%.20s: the upstream got %v", line, seen.Headers)
		}
	}
}

// TestBearerSeveralHeaders: a token may be in one of several headers, and the same in two of them.
func TestBearerSeveralHeaders(t *testing.T) {
	t.Parallel()
	good, other := sharedToken(nil), sharedToken(map[string]any{"sub": "bob"})
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret,
		"tokenSource": map[string]any{"header": "Authorization", "headerAuthScheme": "Bearer",
			"headers": "cf-access-jwt-assertion, X-Forwarded-Access-Token"}}))
	for _, lines := range [][]string{
		{"Authorization: Bearer " + good}, {"Cf-Access-Jwt-Assertion: " + good}, {"X-Forwarded-Access-Token: " + good},
		{"X-Forwarded-Access-Token: Bearer " + good},
		{"Authorization: Bearer " + good, "Cf-Access-Jwt-Assertion: " + good}, {"Authorization: Basic YTpi", "Cf-Access-Jwt-Assertion: " + good},
	} {
		for range []int{1, 2} { // the second one is remembered
			seen := apiCall(t, s, "GET", "/", "", lines...).accepted("ada")
			for _, name := range []string{"Authorization", "Cf-Access-Jwt-Assertion", "X-Forwarded-Access-Token"} {
				if strings.Contains(seen.Headers.Get(name), good) {
					t.Errorf("%v: the upstream got the token", lines)
				}
			}
		}
	}
	two := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenSource": map[string]any{"header": "X-A", "headers": "X-B"}}))
	if seen := apiCall(t, two, "GET", "/", "", "X-A: "+good, "X-B: "+good).accepted("ada"); seen.Headers.Get("X-A")+seen.Headers.Get("X-B") != "" {
		t.Errorf("of two headers the upstream got one: %q", seen.Headers)
	}
	apiCall(t, s, "GET", "/", "", "Authorization: Bearer "+good, "Cf-Access-Jwt-Assertion: "+other).challenged(400, badRequest,
		"more than one token was sent")
	apiCall(t, s, "GET", "/", "", "Cf-Access-Jwt-Assertion: "+good, "Cf-Access-Jwt-Assertion: "+good).challenged(400, badRequest,
		"more than one Cf-Access-Jwt-Assertion header")
	apiCall(t, s, "GET", "/", "", "Cf_Access-Jwt-Assertion: "+good).challenged(401, noToken)
	bearer(t, s, "x").challenged(401, badToken)
}

// TestBearerWebSocketProtocol: scripts in browsers have no other place for a token.
func TestBearerWebSocketProtocol(t *testing.T) {
	t.Parallel()
	good := sharedToken(nil)
	kubernetes := "base64url.bearer.authorization.k8s.io." + base64.RawURLEncoding.EncodeToString([]byte(good))
	source := map[string]any{"webSocketProtocol": true}
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenSource": source}))
	for offered, left := range map[string]string{
		"bearer, " + good + ", chat": "bearer, chat", "chat,Bearer," + good: "chat, Bearer", "bearer, " + good: "bearer",
		"v4.channel.k8s.io, " + kubernetes: "v4.channel.k8s.io", kubernetes: "",
	} {
		seen := apiCall(t, s, "GET", "/", "", "Sec-WebSocket-Protocol: "+offered).accepted("ada")
		if got := strings.Join(seen.Headers["Sec-Websocket-Protocol"], ","); got != left {
			t.Errorf("%s: the upstream got %q", offered[:20], got)
		}
	}
	seen := apiCall(t, s, "GET", "/", "", "Sec-WebSocket-Protocol: bearer", "Sec-WebSocket-Protocol: "+good+", chat").accepted("ada")
	if got := strings.Join(seen.Headers["Sec-Websocket-Protocol"], ","); got != "bearer, chat" {
		t.Errorf("on two lines: %q", got)
	}
	apiCall(t, s, "GET", "/", "", "Sec-WebSocket-Protocol: chat").challenged(401, noToken)
	apiCall(t, s, "GET", "/", "", "Sec-WebSocket-Protocol: bearer").challenged(401, noToken)
	apiCall(t, s, "GET", "/", "", "Sec-WebSocket-Protocol: bearer, x").challenged(401, badToken)
	apiCall(t, s, "GET", "/", "", "Sec-WebSocket-Protocol: bearer, "+good+", bearer, "+good+"x").challenged(400, badRequest)
	apiCall(t, s, "GET", "/", "", "Authorization: Bearer "+good).challenged(401, noToken)
	s = start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenSource": source, "forwardAuthorization": true}))
	seen = apiCall(t, s, "GET", "/", "", "Sec-WebSocket-Protocol: bearer, "+good).accepted("ada")
	if !strings.Contains(seen.Headers.Get("Sec-Websocket-Protocol"), good) {
		t.Error("the upstream did not get the token")
	}
}

// TestBearerPatternsEnd: the pattern of a cookie's name belongs to its middleware. The process would keep those of all reloads.
func TestBearerPatternsEnd(t *testing.T) {
	inThisProcess(t)
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenKey": "jwt", "tokenSource": map[string]any{"cookie": "of-this-reload"}}))
	if seen := apiCall(t, s, "GET", "/", "", "Cookie: of-this-reload="+sharedToken(nil)+"; a=b").accepted("ada"); seen.Headers.Get("Cookie") != "a=b" {
		t.Errorf("the upstream got the cookies %q", seen.Headers.Get("Cookie"))
	}
	compiledPatterns.Range(func(pattern, _ any) bool {
		if strings.Contains(pattern.(string), "reload") {
			t.Errorf("kept for ever: %s", pattern)
		}
		return true
	})
}

// TestBearerTokensAreTaken: a token is for the gateway alone, wherever it was, and what is beside it stays as it was written.
func TestBearerTokensAreTaken(t *testing.T) {
	t.Parallel()
	good := sharedToken(nil)
	for _, keep := range []bool{false, true} {
		s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "tokenKey": "jwt", "forwardAuthorization": keep,
			"tokenSource": map[string]any{"query": "access token", "cookie": "token"}}))
		for sent, left := range map[string]string{
			"/a?access+token=" + good: "/a", "/a?x=%2f&access%20token=" + good + "&y=+&&z": "/a?x=%2f&y=+&&z", "/%2f?jwt=" + good + "&jwt=": "/%2f",
			"/?y;z&jwt=" + good: "/?y;z",
		} {
			if keep {
				left = sent
			}
			for range []int{1, 2} {
				if seen := apiCall(t, s, "GET", sent, "").accepted("ada"); seen.URI != left {
					t.Errorf("sent %.20s, the upstream got %q, want %q", sent, seen.URI, left)
				}
			}
		}
		want := map[bool]string{false: "a_token=b; tokens; c=\"d\"", true: "a_token=b; token=" + good + "; tokens; c=\"d\""}[keep]
		if seen := apiCall(t, s, "GET", "/", "", "Cookie: a_token=b; token="+good+"; tokens; c=\"d\"").accepted("ada"); seen.Headers.Get("Cookie") != want {
			t.Errorf("the upstream got the cookies %q", seen.Headers.Get("Cookie"))
		}
		form := "b=1&jwt=" + good + "&a=+%20"
		want = map[bool]string{false: "b=1&a=+%20", true: form}[keep]
		seen := apiCall(t, s, "POST", "/?c", form, "Content-Type: application/x-www-form-urlencoded").accepted("ada")
		if seen.Body != want || seen.Headers.Get("Content-Length") != fmt.Sprint(len(want)) || seen.URI != "/?c" {
			t.Errorf("the upstream got %q, %v", seen.Body, seen.Headers)
		}
		if log := s.logs(); strings.Contains(log, good[:40]) {
			t.Errorf("a token is in the log:\n%s", log)
		}
	}
	// A request that is judged by its session keeps what it has.
	p := newFakeProvider(t)
	_, b := signedIn(t, p, map[string]any{"jwt": map[string]any{"tokenSource": map[string]any{"query": "t"}}})
	if seen := b.fetch("GET", "/?t=&x", "").upstream(); seen.URI != "/?t=&x" {
		t.Errorf("the upstream got %q", seen.URI)
	}
}

// TestBearerMethods: the description of an API names the ways of RFC 6750 that it takes, and no others.
func TestBearerMethods(t *testing.T) {
	t.Parallel()
	for want, block := range map[string]map[string]any{
		`["header"]`:                {},
		`["header" ]`:               {"tokenSource": map[string]any{"headers": "Authorization"}},
		`["header","body","query"]`: {"tokenKey": "access_token"},
		`["header","query"]`:        {"tokenSource": map[string]any{"header": "Authorization", "headerAuthScheme": "bearer", "query": "access_token"}},
		`["query"]`:                 {"tokenSource": map[string]any{"query": "access_token"}},
		``:                          {"tokenSource": map[string]any{"header": "X-Token", "query": "t", "cookie": "c"}},
		` `:                         {"tokenSource": map[string]any{"header": "Authorization", "headerAuthScheme": "Token"}},
	} {
		s := start(t, jwtOptions(mergeClaims(block, map[string]any{"signingSecret": tokenSecret, "resource": "https://api.example.com"})))
		document := map[string]json.RawMessage{}
		if err := json.Unmarshal([]byte(apiCall(t, s, "GET", "/.well-known/oauth-protected-resource", "").expect(200).body), &document); err != nil {
			t.Fatal(err)
		}
		if got := string(document["bearer_methods_supported"]); got != strings.ReplaceAll(want, " ", "") {
			t.Errorf("%v: got %s", block, got)
		}
	}
}

// TestBearerWords: whoever writes a program reads what is wrong with the request, and nothing of sessions and sign-ins.
func TestBearerWords(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	api := jwtOptions(map[string]any{"signingSecret": tokenSecret, "claims": "SplitContains(`scope`, ` `, `orders:read`)"})
	good := "Authorization: Bearer " + sharedToken(nil)
	callers := callersOptions(p)
	away := introspectionOptions(p, map[string]any{"clientConfig": map[string]any{"url": "http://127.0.0.1:1/", "maxRetries": 0}})
	mixed := p.options(map[string]any{"oAuthIntrospection": map[string]any{"clientConfig": map[string]any{"url": "http://127.0.0.1:1/",
		"maxRetries": 0}}})
	own := map[string]any{"oAuthClientCredentials": map[string]any{"url": "http://127.0.0.1:1/", "clientId": "a", "clientSecret": "b",
		"clientConfig": map[string]any{"maxRetries": 0}}}
	strict := map[string]any{"oAuthClientCredentials": map[string]any{"url": p.issuer + "/token", "clientId": p.clientID,
		"clientSecret": p.clientSecret, "claims": "Exists(`nothing`)"}}
	wrong := map[string]any{"oAuthClientCredentials": map[string]any{"url": p.issuer + "/token", "clientId": p.clientID, "clientSecret": "wrong"}}
	other := newFakeProvider(t)
	other.edit("discovery", func(d map[string]any) { delete(d, "introspection_endpoint") })
	nameless := other.options(map[string]any{"oAuthIntrospection": map[string]any{}})
	for _, row := range []struct {
		name    string
		options map[string]any
		lines   []string
		status  int
		detail  string
	}{
		{"a provider without introspection", nameless, []string{good}, 500, "This API is not set up correctly. It is nothing you did"},
		{"no token", api, nil, 401, "This address needs an access token. Get one from the authorization server"},
		{"a bad token", api, []string{good + "x"}, 401,
			"This access token is not accepted. It may have ended, or have been made for something else. Get a new one"},
		{"too few rights", api, []string{good}, 403,
			"This access token does not allow this. It is good, but lacks what this address asks for. Get one with the scope that WWW-Authenticate names"},
		{"two tokens", api, []string{good, good}, 400, "This request cannot be answered. Send exactly one access token"},
		{"an outage", away, []string{good}, 503, "Access cannot be checked right now. The authorization server does not respond"},
		{"an outage beside a sign-in", mixed, []string{good}, 503, "Access cannot be checked right now"},
		{"nothing beside a sign-in", mixed, nil, 401, "You are not signed in"},
		{"no credentials", callers, nil, 401, "This address needs a client's id and secret. Send them in the header Authorization, as Basic credentials"},
		{"wrong credentials", callers, []string{password("x", "y")}, 401, "These client credentials are not accepted. Check the client's id and secret"},
		{"two credentials", callers, []string{password("x", "y"), password("x", "y")}, 400,
			"This request cannot be answered. Send exactly one Authorization header"},
		{"no token for the gateway", own, nil, 503, "Access cannot be checked right now"},
		{"a token that the gateway's rule refuses", strict, nil, 403, "The gateway may not do this for you"},
		{"a gateway whose secret is wrong", wrong, nil, 502, "The authorization server sent an answer we cannot use"},
	} {
		s := start(t, row.options)
		for _, page := range []bool{false, true} {
			lines := row.lines
			if page {
				lines = append([]string{"Accept: text/html"}, lines...)
			}
			r := apiCall(t, s, http.MethodPost, "/", "", lines...)
			first, _, _ := strings.Cut(row.detail, ". ")
			isJob := row.name != "nothing beside a sign-in"
			if r.status != row.status || !strings.Contains(strings.ReplaceAll(r.body, "&#39;", "'"), first) ||
				!page && !strings.Contains(r.body, row.detail) || isJob && (strings.Contains(r.body, "sign-in service") || strings.Contains(r.body, "session")) {
				t.Errorf("%s: expected %d with %q:\n%s", row.name, row.status, row.detail, r.story())
			}
		}
	}
	s := start(t, api)
	apiCall(t, s, "GET", "/", "").challenged(401, noToken+`, scope="orders:read"`)
	bearer(t, s, "x").challenged(401, badToken+`, scope="orders:read"`)
	bearer(t, s, sharedToken(nil)).challenged(403, tooFewRights+`, scope="orders:read"`)
}

// TestBearerNameAtRefusal: the access log names also whom the rule says no to, and our own log tells nothing that the rule did not see.
func TestBearerNameAtRefusal(t *testing.T) {
	t.Parallel()
	s := start(t, jwtOptions(map[string]any{"signingSecret": tokenSecret, "usernameClaim": "email", "claims": "Equals(`sub`, `ada`)"}))
	// Google's service accounts: azp is sub.
	r := bearer(t, s, sharedToken(map[string]any{"sub": "1234", "azp": "1234", "email": "robot@example.com"}))
	r.challenged(403, tooFewRights, `the rule says no to sub null, client_id null, azp "1234"`)
	if s.server != nil {
		m := testMiddlewareOf(s)
		token := sharedToken(map[string]any{"sub": "eve", "email": "eve@example.com"})
		req := requestTo(t, "GET", "https://app.example.com/")
		req.Header.Set("Authorization", "Bearer "+token)
		req.URL.User = url.User("root")
		h := &handler{middleware: m, next: http.NotFoundHandler(), cache: m.cache, credentialHeader: m.cache.header, hasLogin: m.cache.hasLogin, hosts: m.cache.hosts,
			endpointPaths: m.cache.endpointPaths}
		rw := httptest.NewRecorder()
		h.ServeHTTP(rw, req)
		if rw.Code != 403 || req.URL.User.String() != "eve%40example.com" {
			t.Errorf("%d for %q", rw.Code, req.URL.User)
		}
	}
}

// TestBearerParameterWithoutAName: it holds no token, also where no name of one is configured.
func TestBearerParameterWithoutAName(t *testing.T) {
	req := httptest.NewRequest(http.MethodGet, "/?=stray&token=brought", nil)
	if got := tokensBeyondHeaders(&tokenVerifier{source: TokenSourceConfig{Query: "token"}}, req); strings.Join(got, " ") != "brought" {
		t.Errorf("got %q", got)
	}
}
