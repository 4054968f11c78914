package provider

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// User is somebody who can sign in. Claims are the claims of the ID token and of UserInfo; those of the scopes profile
// and email are given only when the scope was asked for, all others always.
type User struct {
	Name     string // what they type, and the claim preferred_username
	Password string
	Claims   map[string]any // sub defaults to Name
}

func (u User) subject() string {
	if sub, ok := u.Claims["sub"].(string); ok {
		return sub
	}
	return u.Name
}

// scopeOf names the claims that a scope guards (OpenID Connect Core 5.4).
var scopeOf = map[string]string{
	"name": "profile", "family_name": "profile", "given_name": "profile", "preferred_username": "profile",
	"locale": "profile", "email": "email", "email_verified": "email",
}

// claims returns what the scopes let a client see of the user.
func (u User) claims(scopes []string) map[string]any {
	seen := map[string]any{}
	if slices.Contains(scopes, "profile") {
		seen["preferred_username"] = u.Name
	}
	for name, value := range u.Claims {
		if scope := scopeOf[name]; scope == "" || slices.Contains(scopes, scope) {
			seen[name] = value
		}
	}
	delete(seen, "sub")
	return seen
}

// store is the memory of a provider, behind the library's op.Storage. The library speaks the protocol; what it asks of
// its storage is here: who the clients and users are, which codes and tokens are good, and with which keys to sign.
type store struct {
	mu       sync.Mutex
	clients  map[string]Client
	users    []User
	keys     []*signingKey // the first signs, all are published
	sessions map[string]*browserSession
	requests map[string]*authRequest
	codes    map[string]string // code to request
	access   map[string]*grant // access token id to grant
	refresh  map[string]*refreshToken
	reused   int
	refused  int // refreshes with a token that is not good, or not any more
}

// browserSession is a browser that is signed in at the provider itself, so that the next client needs no form.
type browserSession struct {
	id       string // the claim sid
	user     User
	authTime time.Time
}

// authRequest is op.AuthRequest: a sign-in from the authorization request until its code is spent.
type authRequest struct {
	*oidc.AuthRequest
	id       string
	audience []string
	session  *browserSession // nil until somebody has signed in
}

func (r *authRequest) GetID() string                         { return r.id }
func (r *authRequest) GetAudience() []string                 { return slices.Clone(r.audience) }
func (r *authRequest) GetClientID() string                   { return r.ClientID }
func (r *authRequest) GetNonce() string                      { return r.Nonce }
func (r *authRequest) GetScopes() []string                   { return r.Scopes }
func (r *authRequest) GetResponseMode() oidc.ResponseMode    { return r.ResponseMode }
func (r *authRequest) Done() bool                            { return r.session != nil }
func (r *authRequest) GetCodeChallenge() *oidc.CodeChallenge { return challengeOf(r.AuthRequest) }

func challengeOf(r *oidc.AuthRequest) *oidc.CodeChallenge {
	if r.CodeChallenge == "" {
		return nil
	}
	return &oidc.CodeChallenge{Challenge: r.CodeChallenge, Method: r.CodeChallengeMethod}
}

// GetACR grants the first class that was asked for. A test that wants another edits the ID token.
func (r *authRequest) GetACR() string {
	if len(r.ACRValues) == 0 {
		return ""
	}
	return r.ACRValues[0]
}

func (r *authRequest) GetSubject() string {
	if r.session == nil {
		return ""
	}
	return r.session.user.subject()
}

func (r *authRequest) GetAMR() []string { return []string{"pwd"} }

func (r *authRequest) GetAuthTime() time.Time {
	if r.session == nil {
		return time.Time{}
	}
	return r.session.authTime
}

// grant is what somebody allowed a client, and so what an access token stands for. As op.RefreshTokenRequest it is also
// what a refresh token brings back.
type grant struct {
	client   string
	user     *User // nil: the client for itself
	subject  string
	session  *browserSession
	scopes   []string
	audience []string
	expires  time.Time
}

func (g *grant) GetSubject() string          { return g.subject }
func (g *grant) GetAudience() []string       { return slices.Clone(g.audience) }
func (g *grant) GetScopes() []string         { return g.scopes }
func (g *grant) GetClientID() string         { return g.client }
func (g *grant) GetAMR() []string            { return []string{"pwd"} }
func (g *grant) GetAuthTime() time.Time      { return g.session.authTime }
func (g *grant) SetCurrentScopes(s []string) { g.scopes = s }

// ownGrant is what a client has in its own name. It is no op.RefreshTokenRequest, so no refresh token comes of it
// (RFC 6749 4.4.3).
type ownGrant struct{ g *grant }

func (o ownGrant) GetSubject() string    { return o.g.subject }
func (o ownGrant) GetAudience() []string { return slices.Clone(o.g.audience) }
func (o ownGrant) GetScopes() []string   { return o.g.scopes }

// refreshToken is one link in the chain of refresh tokens that began with one sign-in.
type refreshToken struct {
	family string
	grant  grant
	used   bool
}

var errNotFound = errors.New("not found")

func (s *store) Health(context.Context) error { return nil }

// Clients

func (s *store) client(id string) (Client, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	client, ok := s.clients[id]
	return client, ok
}

func (s *store) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	client, ok := s.client(id)
	if !ok {
		return nil, oidc.ErrInvalidClient().WithDescription("unknown client %q", id)
	}
	return registration{client}, nil
}

func (s *store) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	client, ok := s.client(id)
	if !ok || client.Secret == "" || client.Secret != secret {
		return oidc.ErrInvalidClient().WithDescription("bad credentials")
	}
	return nil
}

func (s *store) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	if err := s.AuthorizeClientIDSecret(ctx, id, secret); err != nil {
		return nil, err
	}
	return s.GetClientByClientID(ctx, id)
}

func (s *store) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	client, _ := s.client(id)
	return ownGrant{&grant{client: id, subject: id, scopes: scopes, audience: append([]string{id}, client.Audience...)}}, nil
}

func (s *store) GetKeyByIDAndClientID(_ context.Context, kid, id string) (*jose.JSONWebKey, error) {
	client, _ := s.client(id)
	if client.PublicKey == nil {
		return nil, errNotFound
	}
	return &jose.JSONWebKey{KeyID: kid, Use: "sig", Key: client.PublicKey}, nil
}

func (s *store) ValidateJWTProfileScopes(_ context.Context, _ string, scopes []string) ([]string, error) {
	return scopes, nil
}

// Sign-ins

func (s *store) CreateAuthRequest(_ context.Context, request *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	client := s.clients[request.ClientID]
	r := &authRequest{AuthRequest: request, id: uuid.NewString(), audience: append([]string{client.ID}, client.Audience...)}
	s.requests[r.id] = r
	return r, nil
}

func (s *store) request(id string) *authRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[id]
}

func (s *store) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	if r := s.request(id); r != nil {
		return r, nil
	}
	return nil, errNotFound
}

func (s *store) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	s.mu.Lock()
	id := s.codes[code]
	s.mu.Unlock()
	return s.AuthRequestByID(ctx, id)
}

func (s *store) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[code] = id
	return nil
}

// DeleteAuthRequest is called when the code has been exchanged. A code whose request is gone does not work again.
func (s *store) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.requests, id)
	return nil
}

// userNamed finds who types this name, with this password.
func (s *store) userNamed(name, password string) (User, bool) {
	for _, user := range s.users {
		if user.Name == name && user.Password == password {
			return user, true
		}
	}
	return User{}, false
}

// Tokens

// grantOf turns what the library hands us into a grant.
func (s *store) grantOf(request op.TokenRequest) (*grant, error) {
	switch r := request.(type) {
	case *authRequest:
		user := r.session.user
		return &grant{client: r.ClientID, user: &user, subject: r.GetSubject(), session: r.session, scopes: r.Scopes, audience: r.audience}, nil
	case *grant:
		copied := *r
		return &copied, nil
	case ownGrant:
		return r.g, nil
	}
	return nil, oidc.ErrUnsupportedGrantType()
}

func (s *store) CreateAccessToken(_ context.Context, request op.TokenRequest) (string, time.Time, error) {
	g, err := s.grantOf(request)
	if err != nil {
		return "", time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, expires := s.newAccessToken(g)
	return id, expires, nil
}

// newAccessToken remembers a grant under a new id. The caller holds the lock.
func (s *store) newAccessToken(g *grant) (string, time.Time) {
	// The library tells what is left in whole seconds, rounded down.
	g.expires = time.Now().Add(orElse(s.clients[g.client].AccessTokenLifetime, 5*time.Minute) + 200*time.Millisecond)
	id := uuid.NewString()
	s.access[id] = g
	return id, g.expires
}

func (s *store) CreateAccessAndRefreshTokens(_ context.Context, request op.TokenRequest, current string) (string, string, time.Time, error) {
	g, err := s.grantOf(request)
	if err != nil {
		return "", "", time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	client := s.clients[g.client]
	family := uuid.NewString()
	if current != "" {
		old, err := s.liveRefreshToken(current)
		if err != nil {
			return "", "", time.Time{}, oidc.ErrInvalidGrant().WithDescription("refresh token was used before")
		}
		family = old.family
		if client.KeepRefreshToken {
			id, expires := s.newAccessToken(g)
			return id, "", expires, nil
		}
		old.used = true
	}
	id, expires := s.newAccessToken(g)
	token := uuid.NewString()
	kept := *g
	kept.expires = time.Now().Add(orElse(client.RefreshTokenLifetime, 5*time.Hour))
	s.refresh[token] = &refreshToken{family: family, grant: kept}
	return id, token, expires, nil
}

// liveRefreshToken finds a refresh token that still works. One that comes a second time has been stolen, or its client
// refreshed twice at once; nobody can tell, so the whole family ends (RFC 9700 4.14.2). The caller holds the lock.
func (s *store) liveRefreshToken(token string) (*refreshToken, error) {
	found := s.refresh[token]
	if found == nil || time.Now().After(found.grant.expires) {
		s.refused++
		return nil, errNotFound
	}
	if found.used {
		s.reused++
		s.refused++
		s.endFamily(found.family)
		return nil, errNotFound
	}
	return found, nil
}

func (s *store) endFamily(family string) {
	for token, other := range s.refresh {
		if other.family == family {
			delete(s.refresh, token)
		}
	}
}

func (s *store) TokenRequestByRefreshToken(_ context.Context, token string) (op.RefreshTokenRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, err := s.liveRefreshToken(token)
	if err != nil {
		return nil, err
	}
	g := found.grant
	return &g, nil
}

func (s *store) GetRefreshTokenInfo(_ context.Context, _, token string) (string, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.refresh[token]
	if found == nil {
		return "", "", op.ErrInvalidRefreshToken
	}
	return found.grant.subject, token, nil
}

func (s *store) RevokeToken(_ context.Context, token, _, _ string) *oidc.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.access, token)
	if found := s.refresh[token]; found != nil {
		s.endFamily(found.family)
	}
	return nil
}

// TerminateSessionFromRequest is an RP-initiated logout: it ends the session that the ID token in the request names. The
// sign-ins of other browsers go on.
func (s *store) TerminateSessionFromRequest(ctx context.Context, request *op.EndSessionRequest) (string, error) {
	if request.IDTokenHintClaims == nil {
		return request.RedirectURI, s.TerminateSession(ctx, request.UserID, request.ClientID)
	}
	sid := request.IDTokenHintClaims.SessionID
	s.end(request.ClientID, func(session *browserSession) bool { return session.id == sid })
	return request.RedirectURI, nil
}

// TerminateSession ends every session of the user, since nothing names one.
func (s *store) TerminateSession(_ context.Context, subject, client string) error {
	s.end(client, func(session *browserSession) bool { return session.user.subject() == subject })
	return nil
}

// end takes away the chosen sessions, and what a client has to refresh them.
func (s *store) end(client string, chosen func(*browserSession) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, session := range s.sessions {
		if chosen(session) {
			delete(s.sessions, id)
		}
	}
	for token, found := range s.refresh {
		if found.grant.client == client && found.grant.session != nil && chosen(found.grant.session) {
			delete(s.refresh, token)
		}
	}
}

// Claims

func (s *store) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil // the library's deprecated form of the next method
}

// SetUserinfoFromRequest gives the claims of an ID token.
func (s *store) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, request op.IDTokenRequest, scopes []string) error {
	g, err := s.grantOf(request)
	if err != nil {
		return err
	}
	setClaims(info, g, scopes)
	info.AppendClaims("sid", g.session.id)
	return nil
}

func (s *store) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, id, _, _ string) error {
	g := s.accessGrant(id)
	if g == nil || g.user == nil {
		return errNotFound
	}
	setClaims(info, g, g.scopes)
	return nil
}

func setClaims(info *oidc.UserInfo, g *grant, scopes []string) {
	info.Subject = g.subject
	for name, value := range g.user.claims(scopes) {
		info.AppendClaims(name, value)
	}
}

// accessGrant finds what an access token stands for, while it lasts.
func (s *store) accessGrant(id string) *grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.access[id]
	if g == nil || time.Now().After(g.expires) {
		return nil
	}
	return g
}

// SetIntrospectionFromToken tells any client about any token; which client may ask is not what the tests are about.
func (s *store) SetIntrospectionFromToken(_ context.Context, answer *oidc.IntrospectionResponse, id, _, _ string) error {
	g := s.accessGrant(id)
	if g == nil {
		return errNotFound
	}
	if g.user != nil {
		info := new(oidc.UserInfo)
		setClaims(info, g, g.scopes)
		answer.SetUserInfo(info)
	}
	answer.Subject = g.subject
	answer.Scope = g.scopes
	answer.ClientID = g.client
	answer.Audience = g.audience
	answer.Expiration = oidc.FromTime(g.expires)
	answer.TokenType = oidc.BearerToken
	return nil
}

func (s *store) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, nil // GetPrivateClaimsFromRequest has more to go by
}

// GetPrivateClaimsFromRequest gives the claims of a JWT access token beside the registered ones.
func (s *store) GetPrivateClaimsFromRequest(_ context.Context, request op.TokenRequest, scopes []string) (map[string]any, error) {
	g, err := s.grantOf(request)
	if err != nil {
		return nil, err
	}
	claims := map[string]any{}
	if g.user != nil {
		claims = g.user.claims(g.scopes)
	}
	claims["scope"] = oidc.SpaceDelimitedArray(scopes)
	return claims, nil
}

// Keys

func (s *store) SigningKey(context.Context) (op.SigningKey, error) { return s.signingKey(), nil }

func (s *store) signingKey() *signingKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[0]
}

func (s *store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{s.signingKey().alg}, nil
}

func (s *store) KeySet(context.Context) ([]op.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := make([]op.Key, 0, len(s.keys))
	for _, key := range s.keys {
		keys = append(keys, publicKey{key})
	}
	return keys, nil
}
