// Command demo shows the plugin to a person: a real Traefik with an OpenID provider, an application, and routes to click
// through. `make demo` runs it, `make help` tells its settings.
package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
	"github.com/traefik-oidc/oidc/e2e/internal/upstream"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// settings are what the caller may choose, all by the environment, where make puts its variables.
type settings struct {
	port         string
	issuer       string // empty: a provider of our own
	clientID     string
	clientSecret string
}

func readSettings() (settings, error) {
	s := settings{
		port:   os.Getenv("PORT"),
		issuer: os.Getenv("ISSUER"), clientID: os.Getenv("CLIENT_ID"), clientSecret: os.Getenv("CLIENT_SECRET"),
	}
	if s.port == "" {
		s.port = "8080"
	}
	if s.issuer != "" && s.clientID == "" {
		return s, errors.New("with ISSUER, CLIENT_ID is needed too: make demo ISSUER=https://id.example.com CLIENT_ID=my-app CLIENT_SECRET=…")
	}
	// Now, not after some minutes of building.
	listener, err := net.Listen("tcp", "127.0.0.1:"+s.port)
	if errors.Is(err, syscall.EADDRINUSE) {
		return s, fmt.Errorf("port %s is taken by another program; choose another: make demo PORT=8081", s.port)
	}
	if err != nil {
		return s, fmt.Errorf("PORT=%s: %w", s.port, err)
	}
	return s, listener.Close()
}

// run starts everything and waits for the end of ctx, or of Traefik.
func run(ctx context.Context) error {
	s, err := readSettings()
	if err != nil {
		return err
	}
	root, err := parts.Root()
	if err != nil {
		return err
	}
	traefikPath, err := parts.TraefikPath(ctx, root, os.Stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "oidc-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil))) // the provider's library talks a lot

	if s.issuer == "" {
		p, err := startProvider(&s)
		if err != nil {
			return err
		}
		defer p.Stop()
	}
	app, err := upstream.Start(upstream.Options{
		Identity: []string{"X-User-Name", "X-User-Email", "X-User-Groups", "X-User-Id"},
		Links: []upstream.Link{
			{Text: "Everyone", Href: "/"}, {Text: "Administrators", Href: "/admin"}, {Text: "Public", Href: "/public"},
			{Text: "Sign out", Href: "/logout", Post: true},
		},
	})
	if err != nil {
		return err
	}
	defer app.Stop()
	traefik, err := parts.StartTraefik(parts.TraefikOptions{Path: traefikPath, Dir: dir, Plugin: parts.PluginDir(root), Addr: "127.0.0.1:" + s.port})
	if err != nil {
		return err
	}
	defer traefik.Stop()
	if err := traefik.SetRoutes("demo", routes(s, app.URL)...); err != nil {
		return fmt.Errorf("%w\n%s", err, traefik.Log(0))
	}
	fmt.Print(welcome(s, dir))

	select {
	case <-ctx.Done():
		fmt.Println("\nEverything is stopped.")
		return nil
	case <-traefik.Ended():
		return fmt.Errorf("the program Traefik has ended:\n%s", traefik.Log(0))
	}
}

// startProvider runs a provider of our own and fills in the settings it makes. It is reached as 127.0.0.1, the
// application as localhost: browsers keep cookies per name, whatever the port.
func startProvider(s *settings) (*provider.Provider, error) {
	s.clientID, s.clientSecret = "demo", randomText()
	p, err := provider.Start(provider.Options{
		Hint: fmt.Sprintf("%s, password %s: administrator\n%s, password %s: not one",
			provider.Alice.Name, provider.Alice.Password, provider.Bob.Name, provider.Bob.Password),
		Clients: []provider.Client{{
			ID: s.clientID, Secret: s.clientSecret,
			RedirectURIs:           []string{s.url("/oidc/callback")},
			PostLogoutRedirectURIs: []string{s.url("/public")},
		}},
	})
	if err == nil {
		s.issuer = p.Issuer
	}
	return p, err
}

func (s settings) url(path string) string { return "http://localhost:" + s.port + path }

// routes are two middlewares that share one session, and so one sign-in, but not one rule.
func routes(s settings, backend string) []parts.Route {
	everyone := map[string]any{
		"issuer":                s.issuer,
		"clientId":              s.clientID,
		"redirectUrl":           s.url("/oidc/callback"),
		"scopes":                []string{"openid", "profile", "email", "offline_access"},
		"logoutUrl":             "/logout",
		"postLogoutRedirectUrl": "/public",
		"bypass":                "Path(`/public`)",
		"session":               map[string]any{"name": "demo-session"},
		"stateCookie":           map[string]any{"name": "demo-state"},
		"usernameClaim":         "email",
		"forwardHeaders": map[string]any{
			"X-User-Name": "name", "X-User-Email": "email", "X-User-Groups": "groups", "X-User-Id": "sub",
		},
	}
	if s.clientSecret != "" {
		everyone["clientSecret"] = s.clientSecret
	} else { // a public client
		everyone["session"] = map[string]any{"name": "demo-session", "secret": randomText()}
	}
	admins := map[string]any{}
	for name, value := range everyone {
		admins[name] = value
	}
	admins["claims"] = "Contains(`groups`, `admins`)"
	return []parts.Route{
		{Name: "everyone", Rule: "Host(`localhost`)", Options: everyone, Backend: backend},
		{Name: "admins", Rule: "Host(`localhost`) && PathPrefix(`/admin`)", Options: admins, Backend: backend},
	}
}

func randomText() string {
	key := make([]byte, 32)
	rand.Read(key)
	return base64.RawURLEncoding.EncodeToString(key)
}

// welcome is what the person at the terminal needs to know.
func welcome(s settings, dir string) string {
	who := fmt.Sprintf("Sign in as  %s, password %s   (an administrator)\n        or  %s, password %s        (not one)\n",
		provider.Alice.Name, provider.Alice.Password, provider.Bob.Name, provider.Bob.Password)
	if os.Getenv("ISSUER") != "" {
		who = fmt.Sprintf("Sign in at  %s\n\nRegister there for client %s:\n  redirect URI             %s\n  post-logout redirect URI %s\n",
			s.issuer, s.clientID, s.url("/oidc/callback"), s.url("/public"))
	}
	return fmt.Sprintf(`
Open        %s
%s
  /         everyone who is signed in
  /admin    those whose groups contain "admins"; others get a 403 page
  /public   needs no sign-in

Configuration  %s
Log            %s

Ctrl-C stops everything.
`, s.url("/"), who, filepath.Join(dir, "dynamic", "demo.yml"), filepath.Join(dir, "traefik.log"))
}
