package e2e

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// TestTokenInGRPC calls as gRPC does: HTTP/2 to the end, messages in frames, the outcome in trailers, the token in the metadata. A refusal is a
// status of HTTP, which every gRPC client translates (UNAUTHENTICATED, PERMISSION_DENIED).
func TestTokenInGRPC(t *testing.T) {
	t.Parallel()
	l := start(t)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	var seen http.Header
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		seen = req.Header.Clone()
		message, _ := io.ReadAll(req.Body)
		rw.Header().Set("Content-Type", "application/grpc")
		rw.Header().Set("Trailer", "Grpc-Status")
		_, _ = rw.Write(message)
		rw.Header().Set("Grpc-Status", "0")
	}))
	upstream.Config.Protocols = &protocols
	upstream.Start()
	t.Cleanup(upstream.Close)

	const secret = "f7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAo"
	app := l.newApp(t, site{})
	route := parts.Route{Name: app.name, Options: map[string]any{"jwt": map[string]any{"signingSecret": secret, "claims": "Equals(`sub`, `user-alice`)", "forwardHeaders": map[string]any{"X-User": "sub"}}},
		Backend: strings.Replace(upstream.URL, "http://", "h2c://", 1)}
	if err := l.traefik.SetRoutes(app.name, route); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{Protocols: &protocols, DialContext: app.visitor(t).Client().Transport.(*http.Transport).DialContext}}
	call := func(token string) *http.Response {
		frame := append([]byte{0, 0, 0, 0, 5}, "hello"...)
		req, err := http.NewRequest(http.MethodPost, app.URL+"/orders.Orders/Get", bytes.NewReader(frame))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Content-Type": "application/grpc", "Te": "trailers", "Authorization": "Bearer " + token} {
			req.Header.Set(name, value)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	res := call(newToken(t, "HS256", []byte(secret), nil))
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || res.ProtoMajor != 2 || !bytes.HasSuffix(body, []byte("hello")) || res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("%s %s, %q, trailers %v, %v\n%s", res.Proto, res.Status, body, res.Trailer, err, app.log())
	}
	if seen.Get("X-User") != "user-alice" || seen.Get("Authorization") != "" || seen.Get("Te") != "trailers" {
		t.Errorf("the application got %v", seen)
	}
	for token, want := range map[string]int{"x": http.StatusUnauthorized, newToken(t, "HS256", []byte(secret), map[string]any{"sub": "user-bob"}): http.StatusForbidden} {
		if res := call(token); res.StatusCode != want || res.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("got %s, want %d", res.Status, want)
		}
	}
}
