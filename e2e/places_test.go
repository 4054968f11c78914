package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// TestTokenPlaceOptions has the cases of the options that say where a token may be, and of what the application sees of it.
func TestTokenPlaceOptions(t *testing.T) {
	t.Parallel()
	start(t)
	const secret = "f7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAo"
	token := newToken(t, "HS256", []byte(secret), nil)
	base := tokens(with{"jwt.signingSecret": secret, "jwt.tokenSource.header": "Authorization", "jwt.tokenSource.headerAuthScheme": "Bearer"})
	try(t, "jwt.tokenSource.headers", base, bring("Cf-Access-Jwt-Assertion: "+token), row{drop, out}, row{"Cf-Access-Jwt-Assertion", in}, row{[]string{"X-Token", "cf-access-jwt-assertion"}, in})
	offered := func(protocols string) func(v *visitor) string {
		return func(v *visitor) string {
			return told("Sec-Websocket-Protocol", "Sec-WebSocket-Protocol: "+protocols)(v)
		}
	}
	socket := with{"jwt.signingSecret": secret, "jwt.tokenSource.webSocketProtocol": true}
	kubernetes := "base64url.bearer.authorization.k8s.io." + base64.RawURLEncoding.EncodeToString([]byte(token))
	try(t, "jwt.tokenSource.webSocketProtocol", base, bring("Sec-WebSocket-Protocol: bearer, "+token+", chat"), row{drop, out}, row{false, out}, row{true, in})
	try(t, "jwt.forwardAuthorization", tokens(socket), offered("bearer, "+token+", chat"), row{drop, "bearer, chat"}, row{true, "bearer, " + token + ", chat"})
	try(t, "jwt.forwardAuthorization", tokens(socket), offered("v4.channel.k8s.io, "+kubernetes), row{drop, "v4.channel.k8s.io"}, row{true, "v4.channel.k8s.io, " + kubernetes})

	// What the application sees of a token in an address, a cookie, a form.
	seen := func(method, path, body string, lines ...string) func(v *visitor) string {
		return func(v *visitor) string {
			got := v.received(v.call(method, path, body, lines...))
			return strings.ReplaceAll(fmt.Sprint(got.URI, " ", got.Header.Get("Cookie"), " ", got.Body), token, "TOKEN")
		}
	}
	try(t, "jwt.forwardAuthorization", tokens(with{"jwt.signingSecret": secret, "jwt.tokenSource.query": "token"}), seen("GET", "/a?b=%2f&token="+token+"&c", ""),
		row{drop, "/a?b=%2f&c  "}, row{true, "/a?b=%2f&token=TOKEN&c  "})
	try(t, "jwt.forwardAuthorization", tokens(with{"jwt.signingSecret": secret, "jwt.tokenSource.cookie": "token"}), seen("GET", "/", "", "Cookie: a=b; token="+token),
		row{drop, "/ a=b "}, row{true, "/ a=b; token=TOKEN "})
	try(t, "jwt.forwardAuthorization", tokens(with{"jwt.signingSecret": secret, "jwt.tokenKey": "token"}),
		seen("POST", "/", "a=%20&token="+token+"&b", "Content-Type: application/x-www-form-urlencoded"), row{drop, "/  a=%20&b"}, row{true, "/  a=%20&token=TOKEN&b"})

	asks := newProvider(t, provider.Options{Clients: []provider.Client{machine}})
	opaque := ownToken(t, asks.Issuer, machine.ID, machine.Secret, nil)
	try(t, "oAuthIntrospection.tokenSource.headers", asking(asks, nil), bring("X-Token: "+opaque), row{drop, out}, row{"X-Token", in})
	try(t, "oAuthIntrospection.tokenSource.webSocketProtocol", asking(asks, nil), bring("Sec-WebSocket-Protocol: bearer, "+opaque), row{drop, out}, row{true, in})
}

// TestTokenInWebSocket opens a websocket as a script would, through Traefik, and speaks over it.
func TestTokenInWebSocket(t *testing.T) {
	t.Parallel()
	const secret = "f7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAo"
	token := newToken(t, "HS256", []byte(secret), nil)
	app := start(t).serve(t, tokens(with{"jwt.signingSecret": secret, "jwt.tokenSource.webSocketProtocol": true}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	open := func(protocols ...string) (*websocket.Conn, int) {
		conn, res, err := websocket.Dial(ctx, app.URL+"/ws", &websocket.DialOptions{HTTPClient: app.visitor(t).Client(), Subprotocols: protocols})
		if res == nil {
			t.Fatal(err)
		}
		return conn, res.StatusCode
	}
	conn, status := open("bearer", token, "chat")
	if conn == nil {
		t.Fatalf("with a token: %d\n%s", status, app.log())
	}
	defer conn.CloseNow()
	if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, echo, err := conn.Read(ctx); err != nil || string(echo) != "hello" {
		t.Errorf("got %q, %v", echo, err)
	}
	for _, protocols := range [][]string{{"bearer", token + "x", "chat"}, {"chat"}, {"bearer"}, nil} {
		if _, status := open(protocols...); status != http.StatusUnauthorized {
			t.Errorf("%.30q: %d", protocols, status)
		}
	}
	if strings.Contains(app.log(), token) {
		t.Error("the token is in the log")
	}
}
