package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// trailerBackend is an application that reads a request to its end, and tells everything that it could take for the user's name.
func trailerBackend(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		fmt.Fprintf(rw, "%s %q", req.Proto, body)
		for at, fields := range map[string]http.Header{"header": req.Header, "trailer": req.Trailer} {
			for name, values := range fields {
				if strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name)) == "x-user" {
					fmt.Fprintf(rw, ", %s %s %q", at, name, values)
				}
			}
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestRequestTrailers: nobody says who they are behind the body of a request, announced or not, by HTTP/1 or HTTP/2 (RFC 9110 6.5).
func TestRequestTrailers(t *testing.T) {
	t.Parallel()
	l := start(t)
	backend := trailerBackend(t)
	guarded := l.serve(t, site{with: with{"bypass": "Path(`/public`)", "forwardHeaders": with{"X-User": "name"}}, backend: backend})
	forwarding := l.serve(t, site{with: with{"unauthenticated": "forward", "forwardHeaders": with{"X-User": "name"}}, backend: backend})
	alice := guarded.visitor(t)
	alice.must(alice.SignIn(guarded.URL+"/", provider.Alice.Name, provider.Alice.Password))
	at, _ := url.Parse(guarded.URL)
	cookie := "Cookie: x=y"
	for _, c := range alice.Client().Jar.Cookies(at) {
		cookie += "; " + c.Name + "=" + c.Value
	}
	for _, row := range []struct {
		app                *app
		path, cookie, want string
	}{
		{guarded, "/public", "X: y", ""}, {guarded, "/", cookie, `, header X-User ["Alice`}, {forwarding, "/", "X: y", ""},
	} {
		for _, announced := range []string{"X: z", "Trailer: X-User", "Trailer: x_user, X.User", "Trailer: X-Other\r\nTrailer: X-User"} {
			for _, name := range []string{"X-User", "x_user", "X.User"} {
				for range 2 { // the second time it is remembered
					conn, _, resp := speak(t, row.app, "POST "+row.path+" HTTP/1.1", "Host: "+strings.TrimPrefix(row.app.URL, "http://"), row.cookie, announced,
						"TE: trailers", "Transfer-Encoding: chunked", "", "2", "ab", "0", name+": admin")
					said, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
					conn.Close()
					if got := strings.TrimPrefix(string(said), `HTTP/1.1 "ab"`); resp.StatusCode != http.StatusOK || strings.Contains(got, "admin") || strings.Contains(got, "trailer") || !strings.HasPrefix(got, row.want) {
						t.Errorf("%s with %q and %s: %d %s", row.path, announced, name, resp.StatusCode, said)
					}
				}
			}
		}
	}
	protocols := http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: &protocols, DialContext: alice.Client().Transport.(*http.Transport).DialContext}}
	req, err := http.NewRequest(http.MethodPost, guarded.URL+"/public", io.NopCloser(strings.NewReader("ab")))
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"X-User": {"admin"}, "X_user": {"admin"}, "X-Other": {"kept"}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	said, _ := io.ReadAll(res.Body)
	if res.ProtoMajor != 2 || strings.Contains(string(said), "admin") || strings.Contains(string(said), "trailer") || !strings.HasPrefix(string(said), `HTTP/1.1 "ab"`) {
		t.Errorf("%s: %s", res.Proto, said)
	}
}
