// Package provider is the OpenID provider of the demo and of the tests. The protocol is spoken by zitadel's certified
// library; the accounts, clients, keys and tokens behind it are here, so that a test can shorten a lifetime, rotate a key,
// edit a token or take the provider away. Other providers run beside it, as processes of their own, behind the same Front.
package provider

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"
)

// Options say what a provider should be like. The zero value is a good start.
type Options struct {
	Addr  string      // where to listen, default a free port of 127.0.0.1
	TLS   *tls.Config // https, with this certificate
	Users []User      // default Alice and Bob
	// Algorithm signs tokens, default RS256.
	Algorithm string
	Clients   []Client
	// Hint is shown on the sign-in page; the demo tells the password there.
	Hint string
}

// Alice is an administrator, Bob is not. They exist at every provider of the tests.
var (
	Alice = User{Name: "alice", Password: "wonderland", Claims: map[string]any{
		"sub": "user-alice", "name": "Alice Liddell", "given_name": "Alice", "family_name": "Liddell",
		"email": "alice@example.com", "email_verified": true,
		"groups": []string{"admins", "users"}, "roles": []string{"reader", "writer"},
		"address": map[string]any{"locality": "Oxford", "country": "GB"},
	}}
	Bob = User{Name: "bob", Password: "builder", Claims: map[string]any{
		"sub": "user-bob", "name": "Bob Baumeister", "given_name": "Bob", "family_name": "Baumeister",
		"email": "bob@example.com", "email_verified": false,
		"groups": []string{"users"}, "roles": []string{"reader"},
	}}
)

// Provider is a running OpenID provider.
type Provider struct {
	*Front
	Issuer string

	store  *store
	op     *op.Provider
	server *http.Server
	hint   string
	edits  edits
}

// Start runs a provider until Stop.
func Start(o Options) (*Provider, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Algorithm == "" {
		o.Algorithm = "RS256"
	}
	if o.Users == nil {
		o.Users = []User{Alice, Bob}
	}
	key, err := newSigningKey(o.Algorithm)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, err
	}
	scheme := "http://"
	if o.TLS != nil {
		scheme = "https://"
		listener = tls.NewListener(listener, o.TLS)
	}
	p := &Provider{
		Issuer: scheme + listener.Addr().String(),
		hint:   o.Hint,
		edits:  edits{byClient: map[string]func(map[string]any){}},
		store: &store{
			clients: map[string]Client{}, users: o.Users, keys: []*signingKey{key},
			sessions: map[string]*browserSession{}, requests: map[string]*authRequest{}, codes: map[string]string{},
			access: map[string]*grant{}, refresh: map[string]*refreshToken{},
		},
	}
	for _, client := range o.Clients {
		p.AddClient(client)
	}
	if p.op, err = newOP(p.Issuer, p.store); err != nil {
		listener.Close()
		return nil, err
	}
	p.Front = NewFront(p.routes())
	p.server = &http.Server{Handler: p.Front, ReadHeaderTimeout: 10 * time.Second}
	go p.server.Serve(listener)
	return p, nil
}

// newOP sets the library up. Its endpoints have the names of the specifications, as the other providers' have.
func newOP(issuer string, storage *store) (*op.Provider, error) {
	config := &op.Config{
		DefaultLogoutRedirectURI: signedOutPath,
		CodeMethodS256:           true,
		AuthMethodPost:           true,
		AuthMethodPrivateKeyJWT:  true,
		GrantTypeRefreshToken:    true,
	}
	rand.Read(config.CryptoKey[:])
	return op.NewProvider(config, storage, op.StaticIssuer(issuer),
		op.WithAllowInsecure(),
		op.WithCustomEndpoints(op.NewEndpoint("authorize"), op.NewEndpoint("token"), op.NewEndpoint("userinfo"),
			op.NewEndpoint("revoke"), op.NewEndpoint("end_session"), op.NewEndpoint("jwks")),
		op.WithCustomIntrospectionEndpoint(op.NewEndpoint("introspect")),
	)
}

// routes adds to the library what it leaves to its host: the pages, and our hands on the token endpoint.
func (p *Provider) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+loginPath, p.showLogin)
	mux.HandleFunc("POST "+loginPath, p.login)
	mux.HandleFunc(signedOutPath, p.showSignedOut)
	mux.HandleFunc("/token", p.token)
	mux.Handle("/", p.op)
	return mux
}

// Stop ends the provider; its port refuses connections afterwards.
func (p *Provider) Stop() { p.server.Close() }

// AddClient registers a client, or replaces the one with its ID.
func (p *Provider) AddClient(client Client) {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	p.store.clients[client.ID] = client
}

// RotateKey makes a new key the one that signs. The old ones stay published, unless they are to be dropped.
func (p *Provider) RotateKey(alg string, dropOld bool) error {
	key, err := newSigningKey(alg)
	if err != nil {
		return err
	}
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	if dropOld {
		p.store.keys = nil
	}
	p.store.keys = append([]*signingKey{key}, p.store.keys...)
	return nil
}

// Reused counts the refresh tokens that came a second time, each of which ended a sign-in.
func (p *Provider) Reused() int {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	return p.store.reused
}

// Refused counts the refreshes with a token that was not good, or not any more.
func (p *Provider) Refused() int {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	return p.store.refused
}

// EndUser ends all that a user has, as an administrator does who locks somebody out. The next sign-in needs the form.
func (p *Provider) EndUser(client, subject string) {
	p.store.end(client, func(session *browserSession) bool { return session.user.subject() == subject })
}

// EndSignIns forgets every refresh token of a client, as an administrator would who ends a user's sessions.
func (p *Provider) EndSignIns(client string) {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	for token, found := range p.store.refresh {
		if found.grant.client == client {
			delete(p.store.refresh, token)
		}
	}
}

// Sign makes a JWT of the claims with the provider's current key.
func (p *Provider) Sign(claims map[string]any) (string, error) {
	return p.store.signingKey().sign(claims)
}

// token is the library's token endpoint, between two additions: a client that authenticates in another way than it is
// registered for is refused, and a test may edit the answer.
func (p *Provider) token(rw http.ResponseWriter, req *http.Request) {
	call := readCall(req)
	client, known := p.store.client(call.Client())
	if used := authMethodOf(call); known && used != "" && used != (registration{client}).authMethod() {
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(rw, `{"error":"invalid_client","error_description":"registered for %s, not %s"}`, registration{client}.authMethod(), used)
		return
	}
	edit := p.edits.of(client.ID)
	if edit == nil {
		p.op.ServeHTTP(rw, req)
		return
	}
	recorder := httptest.NewRecorder()
	p.op.ServeHTTP(recorder, req)
	body := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(recorder.Body.Bytes()))
	decoder.UseNumber()
	if recorder.Code != http.StatusOK || decoder.Decode(&body) != nil {
		rw.WriteHeader(recorder.Code)
		rw.Write(recorder.Body.Bytes())
		return
	}
	edit(body)
	rw.Header().Set("Content-Type", "application/json")
	json.NewEncoder(rw).Encode(body)
}

// authMethodOf says how the caller of the token endpoint authenticated, "" for a private_key_jwt, whose client the library
// reads from the assertion.
func authMethodOf(call Call) string {
	switch {
	case call.Form.Has("client_assertion"):
		return ""
	case call.Header.Get("Authorization") != "":
		return "client_secret_basic"
	case call.Form.Has("client_secret"):
		return "client_secret_post"
	}
	return "none"
}

// EditTokenResponse lets edit change every answer of the token endpoint to a client; nil ends that.
func (p *Provider) EditTokenResponse(client string, edit func(body map[string]any)) {
	p.edits.set(client, edit)
}

// EditIDToken lets edit change the claims of every ID token of a client, which is then signed as if it had been so from
// the start. A provider whose clock is off is an edit of iat and exp.
func (p *Provider) EditIDToken(client string, edit func(claims map[string]any)) {
	p.EditTokenResponse(client, func(body map[string]any) {
		if raw, ok := body["id_token"].(string); ok {
			claims, err := Claims(raw)
			if err != nil {
				return
			}
			edit(claims)
			body["id_token"], _ = p.Sign(claims)
		}
	})
}

// Claims reads the claims of a JWT without any check.
func Claims(jwt string) (map[string]any, error) {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return nil, errors.New("not a JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, err
	}
	claims := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	return claims, decoder.Decode(&claims)
}

// Host is the provider's host and port.
func (p *Provider) Host() string {
	u, _ := url.Parse(p.Issuer)
	return u.Host
}
