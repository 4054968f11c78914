package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeProvider is the one OpenID provider of all HTTP tests. Left alone it is a strict and friendly one: the user is signed in there
// already and consents, codes and refresh tokens work once, every check that a provider owes its clients is made. Tests bend it
// by replacing answers and editing what it signs. Fields are set before the request they are for.
type fakeProvider struct {
	*httptest.Server
	issuer                 string
	clientID, clientSecret string
	user                   map[string]any // claims of who signs in; sub, sid, iss, aud and times are added
	alg                    string
	expiresIn              int // seconds of an access token's life, 0: not told
	idTokenLife            time.Duration
	keepRefreshToken       bool          // no rotation
	jwtAccessTokens        bool          // access tokens are JWTs
	clockSkew              time.Duration // of its clock, in tokens and in Date

	mu      sync.Mutex
	key     *providerKey
	keys    []*providerKey // published
	calls   map[string]int
	last    map[string]*providerCall
	edits   map[string]func(map[string]any)
	answers map[string]http.HandlerFunc
	grants  map[string]*providerGrant // by code, access or refresh token, request_uri
	number  int
}

// providerKey is a key of the provider. A []byte is an HMAC secret.
type providerKey struct {
	kid, alg string
	private  any
}

// providerCall is a request that an endpoint received.
type providerCall struct {
	form   url.Values
	header http.Header
	method string
}

// providerGrant is what a code, a token or a pushed request stands for.
type providerGrant struct {
	kind    string // code, access, refresh, request
	form    url.Values
	subject string
	sid     string
	used    bool
}

// newFakeProvider starts a provider with the client app, whose secret is a good one.
func newFakeProvider(t *testing.T) *fakeProvider {
	t.Helper()
	p := unstartedProvider()
	p.Server.Start()
	p.issuer = p.URL
	t.Cleanup(func() { p.stop() })
	return p
}

func unstartedProvider() *fakeProvider {
	p := &fakeProvider{
		clientID: "app", clientSecret: "app-secret-0" + randomText()[:20], // the 0, or one in 30,000 would be refused as "secretkey"; never the one of an earlier test whose port came back: clients are shared by address and secret
		user: map[string]any{"sub": "ada", "name": "Ada Lovelace", "email": "ada@example.com", "groups": []any{"admins", "staff"}},
		alg:  "RS256", expiresIn: 300, idTokenLife: 5 * time.Minute,
		calls: map[string]int{}, last: map[string]*providerCall{}, edits: map[string]func(map[string]any){},
		answers: map[string]http.HandlerFunc{}, grants: map[string]*providerGrant{},
	}
	p.key = &providerKey{kid: "one", alg: p.alg, private: commonKey(p.alg)}
	p.keys = []*providerKey{p.key}
	for {
		p.Server = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
		if _, isUsed := providerAddresses.LoadOrStore(p.Server.Listener.Addr().String(), true); !isUsed {
			return p
		}
		defer p.Server.Listener.Close() // held until then, so the next one gets another port
	}
}

// providerAddresses are the addresses of all providers so far. A port that came back would bring the client, and the outage, of an earlier test.
var providerAddresses sync.Map

func (p *fakeProvider) stop() {
	p.CloseClientConnections()
	p.Server.Close()
}

// options are what a middleware needs to sign in with this provider; more are added or replaced.
func (p *fakeProvider) options(more ...map[string]any) map[string]any {
	made := map[string]any{"issuer": p.issuer, "clientId": p.clientID}
	if p.clientSecret != "" {
		made["clientSecret"] = p.clientSecret
	}
	for _, m := range more {
		for name, value := range m {
			made[name] = value
		}
	}
	return made
}

// count is how often an endpoint was called: discovery, jwks, authorize, token, userinfo, introspection, revocation, par, end_session.
func (p *fakeProvider) count(endpoint string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[endpoint]
}

// lastCall is the last request an endpoint received; an empty one when there was none.
func (p *fakeProvider) lastCall(endpoint string) *providerCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last[endpoint] == nil {
		return &providerCall{form: url.Values{}, header: http.Header{}}
	}
	return p.last[endpoint]
}

// answer replaces an endpoint's answer; nil restores its own. An answer that calls p.usual goes on as if it were not there.
func (p *fakeProvider) answer(endpoint string, with http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[endpoint] = with
}

// edit changes something before it is signed or sent: discovery, jwks, header, id_token, refreshed_id_token (after id_token),
// access_token, token (the answer), userinfo, introspection.
func (p *fakeProvider) edit(what string, with func(map[string]any)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.edits[what] = with
}

func (p *fakeProvider) edited(what string, document map[string]any) map[string]any {
	p.mu.Lock()
	with := p.edits[what]
	p.mu.Unlock()
	if with != nil {
		with(document)
	}
	return document
}

// rotateKeys signs with a new key from now on, and publishes only that one.
func (p *fakeProvider) rotateKeys(kid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key = &providerKey{kid: kid, alg: p.alg, private: newPrivateKey(p.alg)}
	p.keys = []*providerKey{p.key}
}

// useAlg signs with another algorithm.
func (p *fakeProvider) useAlg(alg string) {
	p.alg = alg
	p.key = &providerKey{kid: "for-" + alg, alg: alg, private: commonKey(alg)}
	if strings.HasPrefix(alg, "HS") {
		p.key.private = []byte(p.clientSecret)
		return
	}
	p.keys = []*providerKey{p.key}
}

// Answers that providers, and what stands in front of them, are known to give.

func answerText(status int, kind, body string) http.HandlerFunc {
	return func(rw http.ResponseWriter, req *http.Request) {
		rw.Header().Set("Content-Type", kind)
		rw.WriteHeader(status)
		_, _ = rw.Write([]byte(body))
	}
}

func answerHTML() http.HandlerFunc {
	return answerText(http.StatusOK, "text/html", "<!doctype html><title>Maintenance</title><h1>Back soon</h1>")
}

func answerJSON(status int, document map[string]any) http.HandlerFunc {
	body, _ := json.Marshal(document)
	return answerText(status, "application/json", string(body))
}

// answerEndless sends the start of a JSON text and never ends.
func answerEndless() http.HandlerFunc {
	return func(rw http.ResponseWriter, req *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		_, _ = rw.Write([]byte(`{"a":"`))
		filler := []byte(strings.Repeat("x", 64<<10))
		for req.Context().Err() == nil {
			if _, err := rw.Write(filler); err != nil {
				return
			}
		}
	}
}

// answerNothing accepts the request and says nothing.
func answerNothing() http.HandlerFunc {
	return func(rw http.ResponseWriter, req *http.Request) { <-req.Context().Done() }
}

// answerBroken ends the connection as a proxy does whose backend is gone.
func answerBroken() http.HandlerFunc {
	return func(rw http.ResponseWriter, req *http.Request) { panic(http.ErrAbortHandler) }
}

func answerRedirect(to string) http.HandlerFunc {
	return func(rw http.ResponseWriter, req *http.Request) {
		http.Redirect(rw, req, to, http.StatusTemporaryRedirect)
	}
}

// away makes the provider unreachable, as far as HTTP can tell, or brings it back.
func (p *fakeProvider) away(isAway bool) {
	for _, endpoint := range providerPaths {
		if isAway {
			p.answer(endpoint, answerBroken())
		} else {
			p.answer(endpoint, nil)
		}
	}
}

var providerPaths = map[string]string{
	"/.well-known/openid-configuration": "discovery", "/jwks": "jwks", "/authorize": "authorize", "/token": "token", "/userinfo": "userinfo",
	"/introspect": "introspection", "/revoke": "revocation", "/par": "par", "/end_session": "end_session",
}

func (p *fakeProvider) serve(rw http.ResponseWriter, req *http.Request) {
	endpoint := providerPaths[strings.TrimPrefix(req.URL.Path, strings.TrimSuffix(strings.TrimPrefix(p.issuer, p.URL), "/"))]
	_ = req.ParseForm()
	p.mu.Lock()
	p.calls[endpoint]++
	p.last[endpoint] = &providerCall{form: req.Form, header: req.Header.Clone(), method: req.Method}
	replaced := p.answers[endpoint]
	p.mu.Unlock()
	rw.Header().Set("Date", time.Now().Add(p.clockSkew).UTC().Format(http.TimeFormat))
	if replaced != nil {
		replaced(rw, req)
		return
	}
	p.usual(endpoint, rw, req)
}

// usual is what an endpoint answers when no test replaced it.
func (p *fakeProvider) usual(endpoint string, rw http.ResponseWriter, req *http.Request) {
	switch endpoint {
	case "discovery":
		p.reply(rw, http.StatusOK, p.edited("discovery", p.metadata()))
	case "jwks":
		p.reply(rw, http.StatusOK, p.edited("jwks", p.keySet()))
	case "authorize":
		p.authorize(rw, req)
	case "token":
		p.token(rw, req)
	case "userinfo":
		p.userinfo(rw, req)
	case "introspection":
		p.introspect(rw, req)
	case "revocation":
		p.mu.Lock()
		delete(p.grants, req.Form.Get("token"))
		p.mu.Unlock()
	case "par":
		p.reply(rw, http.StatusCreated, map[string]any{"request_uri": p.keep(&providerGrant{kind: "request", form: req.Form}), "expires_in": 60})
	case "end_session":
		p.endSession(rw, req)
	default:
		http.NotFound(rw, req)
	}
}

func (p *fakeProvider) metadata() map[string]any {
	at := strings.TrimSuffix(p.issuer, "/")
	return map[string]any{
		"issuer": p.issuer, "authorization_endpoint": at + "/authorize", "token_endpoint": at + "/token", "jwks_uri": at + "/jwks",
		"userinfo_endpoint": at + "/userinfo", "introspection_endpoint": at + "/introspect", "revocation_endpoint": at + "/revoke",
		"end_session_endpoint": at + "/end_session", "pushed_authorization_request_endpoint": at + "/par",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{p.alg}, "code_challenge_methods_supported": []string{"S256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post", "private_key_jwt", "none"},
	}
}

func (p *fakeProvider) keySet() map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := []any{}
	for _, key := range p.keys {
		if public := key.public(); public != nil {
			list = append(list, public)
		}
	}
	return map[string]any{"keys": list}
}

// authorize is the page where users sign in and consent; this one did so before.
func (p *fakeProvider) authorize(rw http.ResponseWriter, req *http.Request) {
	form := req.Form
	if pushed := p.take(form.Get("request_uri"), "request"); pushed != nil {
		form = pushed.form
	}
	back, err := url.Parse(form.Get("redirect_uri"))
	if err != nil || back.Host == "" || form.Get("client_id") != p.clientID {
		http.Error(rw, "who is this, and where from?", http.StatusBadRequest)
		return
	}
	answer := url.Values{"state": {form.Get("state")}}
	for _, name := range []string{"state", "nonce", "scope", "response_type"} {
		if len(form[name]) != 1 {
			answer.Set("error", "invalid_request")
			answer.Set("error_description", "exactly one "+name)
		}
	}
	if answer.Get("error") == "" {
		answer.Set("code", p.keep(&providerGrant{kind: "code", form: form, subject: fmt.Sprint(p.user["sub"]), sid: p.name("sid")}))
	}
	p.sendBack(rw, req, back, form.Get("response_mode"), answer)
}

// refuse makes the authorization endpoint answer with an error, as when the user cancels.
func (p *fakeProvider) refuse(code, description string) {
	p.answer("authorize", func(rw http.ResponseWriter, req *http.Request) {
		back, _ := url.Parse(req.Form.Get("redirect_uri"))
		answer := url.Values{"state": {req.Form.Get("state")}, "error": {code}, "error_description": {description}}
		p.sendBack(rw, req, back, req.Form.Get("response_mode"), answer)
	})
}

func (p *fakeProvider) sendBack(rw http.ResponseWriter, req *http.Request, back *url.URL, mode string, answer url.Values) {
	if mode == "form_post" {
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(rw, `<form method="post" action="%s">`, back)
		for name := range answer {
			fmt.Fprintf(rw, `<input type="hidden" name="%s" value="%s">`, name, answer.Get(name))
		}
		return
	}
	query := back.Query()
	for name := range answer {
		query.Set(name, answer.Get(name))
	}
	back.RawQuery = query.Encode()
	http.Redirect(rw, req, back.String(), http.StatusFound)
}

// token is the token endpoint.
func (p *fakeProvider) token(rw http.ResponseWriter, req *http.Request) {
	if !p.knowsClient(req) {
		p.refuseGrant(rw, http.StatusUnauthorized, "invalid_client", "bad credentials")
		return
	}
	switch req.Form.Get("grant_type") {
	case "authorization_code":
		code := p.take(req.Form.Get("code"), "code")
		if code == nil || code.form.Get("redirect_uri") != req.Form.Get("redirect_uri") || !fitsChallenge(code.form, req.Form.Get("code_verifier")) {
			p.refuseGrant(rw, http.StatusBadRequest, "invalid_grant", "unknown or used code, other redirect_uri, or wrong verifier")
			return
		}
		p.grantTokens(rw, code, false)
	case "refresh_token":
		p.mu.Lock()
		old := p.grants[req.Form.Get("refresh_token")]
		reused := old != nil && old.used
		if reused { // somebody has a copy: nobody may go on (RFC 9700 4.14.2)
			for token, grant := range p.grants {
				if grant.sid == old.sid {
					delete(p.grants, token)
				}
			}
		}
		if old != nil {
			old.used = !p.keepRefreshToken
		}
		p.mu.Unlock()
		if old == nil || reused || old.kind != "refresh" {
			p.refuseGrant(rw, http.StatusBadRequest, "invalid_grant", "unknown or used refresh token")
			return
		}
		p.grantTokens(rw, old, true)
	case "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange":
		access := p.accessToken(&providerGrant{kind: "access", form: req.Form, subject: p.clientID})
		answer := map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": p.expiresIn}
		if subject := req.Form.Get("subject_token"); subject != "" {
			answer["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token"
		}
		p.reply(rw, http.StatusOK, p.edited("token", answer))
	default:
		p.refuseGrant(rw, http.StatusBadRequest, "unsupported_grant_type", "")
	}
}

// knowsClient checks the client's authentication. A JWT assertion is looked at by the test that sends one.
func (p *fakeProvider) knowsClient(req *http.Request) bool {
	if id, secret, ok := req.BasicAuth(); ok {
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
		return id == p.clientID && secret == p.clientSecret
	}
	if req.Form.Get("client_assertion") != "" {
		return true
	}
	return req.Form.Get("client_id") == p.clientID && req.Form.Get("client_secret") == p.clientSecret
}

func fitsChallenge(form url.Values, verifier string) bool {
	if form.Get("code_challenge") == "" {
		return verifier == ""
	}
	sum := sha256.Sum256([]byte(verifier))
	return form.Get("code_challenge_method") == "S256" && form.Get("code_challenge") == base64.RawURLEncoding.EncodeToString(sum[:])
}

func (p *fakeProvider) grantTokens(rw http.ResponseWriter, from *providerGrant, isRefresh bool) {
	now := time.Now().Add(p.clockSkew)
	access := p.accessToken(&providerGrant{kind: "access", form: from.form, subject: from.subject, sid: from.sid})
	claims := map[string]any{}
	for name, value := range p.user {
		claims[name] = value
	}
	for name, value := range map[string]any{
		"iss": p.issuer, "aud": p.clientID, "sub": from.subject, "sid": from.sid, "iat": now.Unix(), "exp": now.Add(p.idTokenLife).Unix(),
	} {
		claims[name] = value
	}
	if nonce := from.form.Get("nonce"); nonce != "" && !isRefresh {
		claims["nonce"] = nonce
	}
	if from.form.Get("max_age") != "" && !isRefresh {
		claims["auth_time"] = now.Unix()
	}
	p.edited("id_token", claims)
	if isRefresh {
		p.edited("refreshed_id_token", claims)
	}
	answer := map[string]any{"access_token": access, "token_type": "Bearer", "id_token": p.sign(claims)}
	if p.expiresIn > 0 {
		answer["expires_in"] = p.expiresIn
	}
	if !isRefresh || !p.keepRefreshToken {
		answer["refresh_token"] = p.keep(&providerGrant{kind: "refresh", form: from.form, subject: from.subject, sid: from.sid})
	}
	p.reply(rw, http.StatusOK, p.edited("token", answer))
}

func (p *fakeProvider) accessToken(grant *providerGrant) string {
	if !p.jwtAccessTokens {
		return p.keep(grant)
	}
	now := time.Now().Add(p.clockSkew)
	raw := p.sign(p.edited("access_token", map[string]any{
		"iss": p.issuer, "aud": "api", "sub": grant.subject, "client_id": p.clientID, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"jti": p.name("jti"), "scope": grant.form.Get("scope"),
	}))
	p.mu.Lock()
	p.grants[raw] = grant
	p.mu.Unlock()
	return raw
}

func (p *fakeProvider) userinfo(rw http.ResponseWriter, req *http.Request) {
	token, isBearer := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	p.mu.Lock()
	grant := p.grants[token]
	p.mu.Unlock()
	if !isBearer || grant == nil {
		http.Error(rw, "", http.StatusUnauthorized)
		return
	}
	info := map[string]any{"locale": "en"}
	for name, value := range p.user {
		info[name] = value
	}
	p.reply(rw, http.StatusOK, p.edited("userinfo", info))
}

func (p *fakeProvider) introspect(rw http.ResponseWriter, req *http.Request) {
	p.mu.Lock()
	grant := p.grants[req.Form.Get("token")]
	p.mu.Unlock()
	answer := map[string]any{"active": grant != nil}
	if grant != nil {
		answer = map[string]any{"active": true, "sub": grant.subject, "client_id": p.clientID, "iss": p.issuer,
			"scope": grant.form.Get("scope"), "exp": time.Now().Add(time.Minute).Unix()}
	}
	p.reply(rw, http.StatusOK, p.edited("introspection", answer))
}

func (p *fakeProvider) endSession(rw http.ResponseWriter, req *http.Request) {
	back := req.Form.Get("post_logout_redirect_uri")
	if back == "" {
		answerText(http.StatusOK, "text/html", "<p>Signed out at the provider</p>")(rw, req)
		return
	}
	p.sendBack(rw, req, mustParse(back), "", url.Values{"state": {req.Form.Get("state")}})
}

func mustParse(address string) *url.URL {
	u, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	return u
}

func (p *fakeProvider) reply(rw http.ResponseWriter, status int, document map[string]any) {
	answerJSON(status, document)(rw, nil)
}

func (p *fakeProvider) refuseGrant(rw http.ResponseWriter, status int, code, description string) {
	p.reply(rw, status, map[string]any{"error": code, "error_description": description})
}

// name gives a new, unique word.
func (p *fakeProvider) name(kind string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	return fmt.Sprintf("%s-%d", kind, p.number)
}

// keep remembers a grant under a new, unguessable-looking name.
func (p *fakeProvider) keep(grant *providerGrant) string {
	random := make([]byte, 16)
	_, _ = rand.Read(random)
	name := p.name(grant.kind) + "-" + base64.RawURLEncoding.EncodeToString(random)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.grants[name] = grant
	return name
}

// take gives what works once.
func (p *fakeProvider) take(name, kind string) *providerGrant {
	p.mu.Lock()
	defer p.mu.Unlock()
	grant := p.grants[name]
	if grant == nil || grant.kind != kind {
		return nil
	}
	delete(p.grants, name)
	return grant
}

// logoutToken makes a back-channel logout token with the given claims beside the required ones; a nil value removes one.
func (p *fakeProvider) logoutToken(claims map[string]any) string {
	now := time.Now()
	made := map[string]any{
		"iss": p.issuer, "aud": p.clientID, "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": p.name("jti"),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	for name, value := range claims {
		made[name] = value
		if value == nil {
			delete(made, name)
		}
	}
	return p.sign(made)
}

// sign makes a JWT of claims with the current key.
func (p *fakeProvider) sign(claims map[string]any) string {
	p.mu.Lock()
	key := p.key
	p.mu.Unlock()
	header := p.edited("header", map[string]any{"alg": key.alg, "kid": key.kid, "typ": "JWT"})
	signed := encodeSegment(header) + "." + encodeSegment(claims)
	if key.private == nil { // alg none
		return signed + "."
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(key.sign(signed))
}

func encodeSegment(document map[string]any) string {
	text, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func (k *providerKey) sign(message string) []byte {
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[strings.TrimLeft(k.alg, "RPEHSdDA")]
	if secret, ok := k.private.([]byte); ok {
		mac := hmac.New(hash.New, secret)
		mac.Write([]byte(message))
		return mac.Sum(nil)
	}
	if private, ok := k.private.(ed25519.PrivateKey); ok {
		return ed25519.Sign(private, []byte(message))
	}
	sum := hash.New()
	sum.Write([]byte(message))
	digest := sum.Sum(nil)
	if private, ok := k.private.(*ecdsa.PrivateKey); ok {
		r, s, _ := ecdsa.Sign(rand.Reader, private, digest)
		size := (private.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
	private := k.private.(*rsa.PrivateKey)
	if strings.HasPrefix(k.alg, "PS") {
		signature, _ := rsa.SignPSS(rand.Reader, private, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		return signature
	}
	signature, _ := rsa.SignPKCS1v15(rand.Reader, private, hash, digest)
	return signature
}

// public is the key as a JWK; nil for a secret.
func (k *providerKey) public() map[string]any {
	text := base64.RawURLEncoding.EncodeToString
	if private, ok := k.private.(*rsa.PrivateKey); ok {
		return map[string]any{"kty": "RSA", "use": "sig", "kid": k.kid, "alg": k.alg,
			"n": text(private.N.Bytes()), "e": text(big.NewInt(int64(private.E)).Bytes())}
	}
	if private, ok := k.private.(*ecdsa.PrivateKey); ok {
		size := (private.Params().BitSize + 7) / 8
		return map[string]any{"kty": "EC", "use": "sig", "kid": k.kid, "alg": k.alg, "crv": private.Params().Name,
			"x": text(private.X.FillBytes(make([]byte, size))), "y": text(private.Y.FillBytes(make([]byte, size)))}
	}
	if private, ok := k.private.(ed25519.PrivateKey); ok {
		return map[string]any{"kty": "OKP", "use": "sig", "kid": k.kid, "alg": k.alg, "crv": "Ed25519",
			"x": text(private.Public().(ed25519.PublicKey))}
	}
	return nil
}

func newPrivateKey(alg string) any {
	var key any
	switch alg {
	case "ES256":
		key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		key, _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		key, _ = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, key, _ = ed25519.GenerateKey(rand.Reader)
	default:
		key, _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	return key
}

// commonKeys are made once: RSA keys take their time, above all with the race detector.
var commonKeys = struct {
	sync.Mutex
	keys map[string]any
}{keys: map[string]any{}}

func commonKey(alg string) any {
	kind := strings.Replace(alg, "PS", "RS", 1)
	if strings.HasPrefix(kind, "RS") {
		kind = "RS"
	}
	commonKeys.Lock()
	defer commonKeys.Unlock()
	if commonKeys.keys[kind] == nil {
		commonKeys.keys[kind] = newPrivateKey(alg)
	}
	return commonKeys.keys[kind]
}
