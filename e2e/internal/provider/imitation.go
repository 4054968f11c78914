package provider

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Like says in what a provider that cannot be run here differs from the others, as far as it is publicly documented. The zero value
// is a plain provider: RS256, JWT access tokens, rotating refresh tokens for everybody, an end session endpoint.
type Like struct {
	Path      string // of the issuer: "/realms/x", "/o/app/"; a final slash counts
	Algorithm string // of tokens

	Scopes      []string // that may be asked for; another one is refused. nil: all
	Refused     []string // parameters of the authorization request that are refused, all values or one ("prompt=login")
	RequirePKCE bool

	RefreshFor  string                                     // what must be asked for to get a refresh token: "offline_access", "access_type=offline", "never"
	KeepRefresh bool                                       // a refresh token is good for ever, and no new one is returned
	AfterIDs    func(claims map[string]any) map[string]any // what is left of the ID token at a refresh; nil: all; no claims: none

	AccessToken func(sub string) string // nil: a JWT
	Claims      map[string]any          // of the ID token, beside the protocol's
	Userinfo    map[string]any
	Metadata    map[string]any // replaces members of the discovery document; nil removes one
	Foreign     bool           // the endpoints are on another host name than the issuer

	Repeated       map[string]string // by endpoint, or "id_token": members, as JSON, that stand there once more, in front
	SignedUserinfo bool              // UserInfo is a JWT
}

// Imitation is a provider that behaves like another. Whoever comes is signed in at once: how people prove who they are is nothing
// that an application sees.
type Imitation struct {
	*Front
	Issuer string
	ID     string // of the one client
	Secret string
	Base   string // of the endpoints

	like   Like
	key    *signingKey
	server *http.Server

	mu    sync.Mutex
	codes map[string]*imitated
	live  map[string]*imitated // refresh tokens
	dead  map[string]bool
	ended []url.Values // what came to the end session endpoint
}

// imitated is one sign-in.
type imitated struct {
	nonce, challenge, redirectURI string
	refreshable                   bool
}

// Imitate runs a provider like that until Stop.
func Imitate(like Like) (*Imitation, error) {
	if like.Algorithm == "" {
		like.Algorithm = "RS256"
	}
	key, err := newSigningKey(like.Algorithm)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := "http://" + listener.Addr().String()
	p := &Imitation{
		Issuer: address + like.Path, Base: address, ID: "my-app", Secret: "the secret of the imitation's client",
		like: like, key: key, codes: map[string]*imitated{}, live: map[string]*imitated{}, dead: map[string]bool{},
	}
	if like.Foreign {
		p.Base = strings.Replace(address, "127.0.0.1", "localhost", 1)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+strings.TrimSuffix(like.Path, "/")+"/.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /at/authorize", p.authorize)
	mux.HandleFunc("POST /at/token", p.token)
	mux.HandleFunc("GET /at/userinfo", p.userinfo)
	mux.HandleFunc("GET /at/jwks", p.jwks)
	mux.HandleFunc("GET /at/logout", p.logout)
	mux.HandleFunc("POST /at/logout", p.logout) // RP-Initiated Logout 2: both
	mux.HandleFunc("GET /logout", p.logout)     // Cognito's, which no metadata name
	p.Front = NewFront(mux)
	p.server = &http.Server{Handler: p.Front, ReadHeaderTimeout: 10 * time.Second}
	go p.server.Serve(listener)
	return p, nil
}

// Stop ends the provider.
func (p *Imitation) Stop() { p.server.Close() }

// Ended is what came to the end session endpoint.
func (p *Imitation) Ended() []url.Values {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.ended)
}

func (p *Imitation) discovery(rw http.ResponseWriter, _ *http.Request) {
	document := map[string]any{
		"issuer": p.Issuer, "authorization_endpoint": p.Base + "/at/authorize", "token_endpoint": p.Base + "/at/token",
		"userinfo_endpoint": p.Base + "/at/userinfo", "jwks_uri": p.Base + "/at/jwks", "end_session_endpoint": p.Base + "/at/logout",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{p.like.Algorithm}, "code_challenge_methods_supported": []string{"S256"},
	}
	maps.Copy(document, p.like.Metadata)
	maps.DeleteFunc(document, func(_ string, value any) bool { return value == nil })
	p.write(rw, "discovery", document)
}

// authorize answers at once: with a code, or with an error where the provider would refuse the request.
func (p *Imitation) authorize(rw http.ResponseWriter, req *http.Request) {
	asked := req.URL.Query()
	answer := url.Values{"state": {asked.Get("state")}}
	scopes := strings.Fields(asked.Get("scope"))
	refused := slices.ContainsFunc(p.like.Refused, func(parameter string) bool {
		name, value, isOne := strings.Cut(parameter, "=")
		return asked.Has(name) && (!isOne || asked.Get(name) == value)
	}) || p.like.RequirePKCE && asked.Get("code_challenge_method") != "S256"
	unknown := p.like.Scopes != nil && slices.ContainsFunc(scopes, func(s string) bool { return !slices.Contains(p.like.Scopes, s) })
	switch {
	case refused:
		answer.Set("error", "invalid_request")
	case unknown:
		answer.Set("error", "invalid_scope")
	default:
		name, value, isParameter := strings.Cut(p.like.RefreshFor, "=")
		code := rand.Text()
		p.mu.Lock()
		p.codes[code] = &imitated{
			nonce: asked.Get("nonce"), challenge: asked.Get("code_challenge"), redirectURI: asked.Get("redirect_uri"),
			refreshable: name == "" || isParameter && asked.Get(name) == value || slices.Contains(scopes, name),
		}
		p.mu.Unlock()
		answer.Set("code", code)
	}
	http.Redirect(rw, req, asked.Get("redirect_uri")+"?"+answer.Encode(), http.StatusFound)
}

func (p *Imitation) token(rw http.ResponseWriter, req *http.Request) {
	call := readCall(req)
	id, secret, _ := req.BasicAuth()
	if secret == "" {
		id, secret = call.Form.Get("client_id"), call.Form.Get("client_secret")
	}
	if plain, err := url.QueryUnescape(secret); id != p.ID || err != nil || plain != p.Secret && secret != p.Secret {
		writeObject(rw, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	isRefresh := call.Form.Get("grant_type") == "refresh_token"
	code, used := call.Form.Get("code"), call.Form.Get("refresh_token")
	found := p.codes[code]
	if isRefresh {
		found = p.live[used]
	}
	sum := sha256.Sum256([]byte(call.Form.Get("code_verifier")))
	wrong := found == nil || !isRefresh && (found.redirectURI != call.Form.Get("redirect_uri") ||
		found.challenge != "" && found.challenge != base64.RawURLEncoding.EncodeToString(sum[:]))
	if wrong {
		if p.dead[used] { // a second use ends the whole sign-in
			clear(p.live)
		}
		writeObject(rw, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	}
	delete(p.codes, code)
	answer := p.answer(found, isRefresh)
	if found.refreshable && !(isRefresh && p.like.KeepRefresh) {
		fresh := rand.Text()
		answer["refresh_token"] = fresh
		p.live[fresh] = found
		delete(p.live, used)
		p.dead[used] = isRefresh
	}
	p.write(rw, "token", answer)
}

// answer makes the tokens. Access tokens last two seconds, so that a test sees a refresh.
func (p *Imitation) answer(of *imitated, isRefresh bool) map[string]any {
	now := time.Now().Unix()
	claims := map[string]any{"iss": p.Issuer, "sub": "user-alice", "aud": p.ID, "iat": now, "exp": now + 3600, "nonce": of.nonce}
	maps.Copy(claims, p.like.Claims)
	answer := map[string]any{"token_type": "Bearer", "expires_in": 2}
	if p.like.AccessToken != nil {
		answer["access_token"] = p.like.AccessToken("user-alice")
	} else {
		answer["access_token"], _ = p.key.sign(map[string]any{"iss": p.Issuer, "sub": "user-alice", "aud": "an-api", "exp": now + 2, "jti": rand.Text()})
	}
	if isRefresh && p.like.AfterIDs != nil {
		claims = p.like.AfterIDs(claims)
	}
	if claims != nil {
		answer["id_token"], _ = p.key.signText(p.repeat("id_token", claims))
	}
	return answer
}

func (p *Imitation) userinfo(rw http.ResponseWriter, req *http.Request) {
	if !strings.HasPrefix(req.Header.Get("Authorization"), "Bearer ") {
		rw.WriteHeader(http.StatusUnauthorized)
		return
	}
	info := map[string]any{"sub": "user-alice"}
	maps.Copy(info, p.like.Userinfo)
	if p.like.SignedUserinfo {
		info["iss"], info["aud"] = p.Issuer, p.ID
		signed, _ := p.key.signText(p.repeat("userinfo", info))
		rw.Header().Set("Content-Type", "application/jwt")
		_, _ = rw.Write([]byte(signed))
		return
	}
	p.write(rw, "userinfo", info)
}

func (p *Imitation) jwks(rw http.ResponseWriter, _ *http.Request) {
	p.write(rw, "jwks", jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: p.key.private.Public(), KeyID: p.key.id, Algorithm: p.like.Algorithm, Use: "sig"},
	}})
}

func (p *Imitation) logout(rw http.ResponseWriter, req *http.Request) {
	asked := req.URL.Query()
	p.mu.Lock()
	p.ended = append(p.ended, asked)
	p.mu.Unlock()
	if to := asked.Get("post_logout_redirect_uri"); to != "" && asked.Get("id_token_hint") != "" {
		http.Redirect(rw, req, to+"?state="+url.QueryEscape(asked.Get("state")), http.StatusFound)
		return
	}
	rw.Write([]byte("signed out at the provider"))
}

// write answers with an object, and with what is repeated in it.
func (p *Imitation) write(rw http.ResponseWriter, endpoint string, value any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.Header().Set("Cache-Control", "no-store")
	_, _ = rw.Write(p.repeat(endpoint, value))
}

// repeat is the JSON of an object, and what is repeated in it.
func (p *Imitation) repeat(endpoint string, value any) []byte {
	text, _ := json.Marshal(value)
	if members := p.like.Repeated[endpoint]; members != "" {
		text = append([]byte("{"+members+","), text[1:]...)
	}
	return text
}

// LogoutToken is what it posts to an application when somebody signs out elsewhere.
func (p *Imitation) LogoutToken(claims map[string]any) string {
	now := time.Now().Unix()
	made := map[string]any{"iss": p.Issuer, "aud": p.ID, "iat": now, "exp": now + 120, "jti": rand.Text(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}
	maps.Copy(made, claims)
	raw, _ := p.key.sign(made)
	return raw
}

func writeObject(rw http.ResponseWriter, status int, value any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.Header().Set("Cache-Control", "no-store")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(value)
}
