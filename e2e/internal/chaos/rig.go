// Package chaos breaks things while people work: several Traefiks with the plugin, every kind of store, a provider that ends a sign-in
// when one of its refresh tokens comes twice, and some dozen people who sign in, work, sign out, and are signed out by the provider.
// Each fault says which promises hold while it lasts and after it; a run says which did.
//
// The parts: link.go is the network, redis.go the stores, people.go the people and what they see, faults.go what is done to them,
// run.go goes through the faults, table.go shows what came of it. soak.go is a long run without any fault.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
	"github.com/traefik-oidc/oidc/e2e/internal/upstream"
)

const (
	clientID      = "chaos"
	routeName     = "chaos"
	clientSecret  = "the secret of the client of the chaos"
	firstSecret   = "the first secret that seals the sessions of the chaos"
	secondSecret  = "another secret that seals the sessions of the chaos"
	timeout       = 3 * time.Second // clientConfig.timeoutSeconds
	tokenLife     = 6 * time.Second
	signOutNotice = 3 * time.Second // by when a sign-out holds everywhere
	backchannel   = "/gone"
	logoutPath    = "/logout"
)

// Options say what to run.
type Options struct {
	Root     string // of the repository
	Dir      string // for logs and configuration
	Traefik  string // the program
	People   int
	Traefiks int
	Stores   []string
	Only     *regexp.Regexp // faults, by name; nil: all
	Short    bool           // the faults of the short form only
	Seconds  float64        // how long a fault lasts, if it has no reason to last longer
	Memory   int            // the option memory of each middleware, in MB; 0: its default
	Progress func(format string, args ...any)
}

// rig is everything that runs.
type rig struct {
	Options
	ca       *parts.CA
	provider *provider.Provider
	calls    *link // between Traefik and the provider
	upstream *upstream.Upstream
	traefiks []*gateway
	logs     *os.File // of the provider's library

	sites  []*site
	stall  stall
	client provider.Client
}

// site is what every Traefik serves, with its sessions in one store.
type site struct {
	*rig
	name  string // of route and middleware
	host  string
	store *store
	first int // of its users
}

// gateway is one of the Traefiks.
type gateway struct {
	*parts.Traefik
	number  int
	options parts.TraefikOptions

	mu       sync.Mutex
	isDown   bool      // on purpose
	cutUntil time.Time // it stands still, or what stood in its queue is being worked on
}

func start(o Options) (*rig, error) {
	r := &rig{Options: o}
	if err := r.setUp(); err != nil {
		r.stop()
		return nil, err
	}
	go r.stall.watch()
	return r, nil
}

func (r *rig) setUp() error {
	var err error
	if r.logs, err = os.Create(filepath.Join(r.Dir, "provider.log")); err != nil {
		return err
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(r.logs, nil)))
	if r.ca, err = parts.NewCA("oidc chaos"); err != nil {
		return err
	}
	var users []provider.User
	for i := range 3 * r.People {
		users = append(users, provider.User{Name: userName(i), Password: "secret", Claims: map[string]any{
			"sub": userName(i), "name": "Person " + userName(i), "email": userName(i) + "@example.com", "groups": []string{"people", "group of " + userName(i)},
		}})
	}
	if r.provider, err = provider.Start(provider.Options{Algorithm: "ES256", Users: users}); err != nil {
		return err
	}
	// Refresh tokens outlive the sign-out, as those of offline_access do at many providers: else a session that comes back would end by
	// itself with its access token.
	r.provider.Instead("revoke", func(http.ResponseWriter, *http.Request) {})
	if r.calls, err = newLink(r.provider.Host()); err != nil {
		return err
	}
	if r.upstream, err = upstream.Start(upstream.Options{Identity: []string{"X-User"}}); err != nil {
		return err
	}
	var starting sync.WaitGroup
	failed := make([]error, r.Traefiks)
	r.traefiks = make([]*gateway, r.Traefiks)
	for i := range r.Traefiks {
		starting.Go(func() {
			port, err := stablePort() // the same after a restart
			if err != nil {
				failed[i] = err
				return
			}
			g := &gateway{number: i, options: parts.TraefikOptions{
				Path: r.Options.Traefik, Dir: filepath.Join(r.Dir, fmt.Sprintf("traefik-%d", i)), Plugin: parts.PluginDir(r.Root),
				Addr: fmt.Sprintf("%s:%d", ownHost, port), Static: map[string]any{"log": map[string]any{"level": "INFO"}, "accessLog": nil},
			}}
			g.Traefik, failed[i] = parts.StartTraefik(g.options)
			r.traefiks[i] = g
		})
	}
	starting.Wait()
	return errors.Join(failed...)
}

func (r *rig) stop() {
	r.stall.stop()
	for _, g := range r.traefiks {
		if g != nil && g.Traefik != nil {
			_ = syscall.Kill(g.PID, syscall.SIGCONT)
			g.Kill()
		}
	}
	for _, s := range r.sites {
		s.store.stop()
	}
	if r.calls != nil {
		r.calls.close()
	}
	if r.upstream != nil {
		r.upstream.Stop()
	}
	if r.provider != nil {
		r.provider.Stop()
	}
	if r.logs != nil {
		r.logs.Close()
	}
}

func userName(i int) string { return fmt.Sprintf("user-%03d", i) }

// serve puts a site with this kind of store on every Traefik.
func (r *rig) serve(kind string) (*site, error) {
	kept, err := newStore(kind, filepath.Join(r.Dir, kind), r.ca, r.Traefiks)
	if err != nil {
		return nil, err
	}
	s := &site{rig: r, name: routeName + "-" + kind, host: routeName + "-" + kind + "." + parts.Domain, store: kept, first: len(r.sites) * r.People}
	r.sites = append(r.sites, s)
	r.client.ID, r.client.Secret, r.client.AccessTokenLifetime, r.client.IDTokenLifetime = clientID, clientSecret, tokenLife, time.Hour
	for i := range r.traefiks {
		r.client.RedirectURIs = append(r.client.RedirectURIs, s.url(i)+"/oidc/callback")
		r.client.PostLogoutRedirectURIs = append(r.client.PostLogoutRedirectURIs, s.url(i)+"/")
	}
	r.provider.AddClient(r.client)
	for _, g := range r.traefiks {
		if err := s.route(g, map[string]any{"secret": firstSecret}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// close takes the site away.
func (s *site) close() {
	for _, g := range s.traefiks {
		g.RemoveFile(s.name)
	}
	s.store.stop()
	s.sites = slices.DeleteFunc(s.sites, func(other *site) bool { return other == s })
}

// url is the site at one of the Traefiks. Cookies do not tell ports apart, so a browser that signed in at one of them is signed in at all.
func (s *site) url(traefik int) string {
	return "http://" + strings.Replace(s.traefiks[traefik].options.Addr, ownHost, s.host, 1)
}

// route sets the options of the session on one Traefik. Calls go to the provider by a link of theirs, browsers do not.
func (s *site) route(g *gateway, more map[string]any) error {
	session := map[string]any{"name": "chaos-session"}
	maps.Copy(session, more)
	if s.store.session != nil {
		session["store"] = s.store.session(g.number)
	}
	calls := "http://" + s.calls.addr
	options := map[string]any{
		"issuer": s.provider.Issuer, "clientId": clientID, "clientSecret": clientSecret, "logLevel": "warn",
		"scopes": []string{"openid", "profile", "email", "offline_access"},
		"endpoints": map[string]any{
			"discovery": calls + "/.well-known/openid-configuration", "token": calls + "/token", "jwks": calls + "/jwks", "revocation": calls + "/revoke",
		},
		"clientConfig": map[string]any{"timeoutSeconds": int(timeout.Seconds())},
		"logoutUrl":    logoutPath, "backchannelLogoutUrl": backchannel,
		"usernameClaim": "sub", "forwardHeaders": map[string]any{"X-User": "sub", "X-Sid": "sid", "X-Name": "name"},
		"session": session, "stateCookie": map[string]any{"name": "chaos-state"},
	}
	s.limit(options)
	return g.SetRoutes(s.name, parts.Route{Name: s.name, Rule: "Host(`" + s.host + "`)", Options: options, Backend: s.upstream.URL})
}

// limit sets the memory of a middleware.
func (r *rig) limit(options map[string]any) {
	if r.Memory > 0 {
		options["memory"] = r.Memory
	}
}

// kill ends a Traefik as a power cut does.
func (g *gateway) kill() {
	g.setDown(true)
	g.Kill()
}

// restart brings it back on the same port, with the same routes, and waits until it serves.
func (s *site) restart(g *gateway) error {
	again, err := g.Restart(g.options)
	if err != nil {
		return err
	}
	g.Traefik = again
	err = again.WaitFor("its route was served", 20*time.Second, func() bool { return again.RouteError(s.name) == nil })
	g.setDown(false)
	return err
}

func (g *gateway) setDown(down bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.isDown = down
}

func (g *gateway) down() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.isDown
}

// pause makes a Traefik stand still, as a virtual machine that is moved.
func (g *gateway) pause(d time.Duration) {
	g.mu.Lock()
	g.cutUntil = time.Now().Add(d + timeout)
	g.mu.Unlock()
	_ = syscall.Kill(g.PID, syscall.SIGSTOP)
	time.Sleep(d)
	_ = syscall.Kill(g.PID, syscall.SIGCONT)
}

// isCut says that nothing can be told from how long a Traefik takes.
func (r *rig) isCut(traefik int) bool {
	g := r.traefiks[traefik]
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Before(g.cutUntil)
}

// anyTraefik is one that is not down on purpose, as a load balancer chooses.
func (r *rig) anyTraefik() int {
	for range 20 {
		if i := rand.IntN(len(r.traefiks)); !r.traefiks[i].down() {
			return i
		}
	}
	return 0
}

// newBrowser is one without cookies, whose patience ends well after the plugin's.
func newBrowser() *browser.Browser {
	b := browser.New(nil)
	b.Client().Timeout = 10 * timeout
	return b
}

// lookClient sends cookies as they were, for ever.
func lookClient() *http.Client {
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(ownHost, port))
	}
	return &http.Client{
		Timeout: 10 * timeout, Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 16},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// look makes one request that is no page load, and says what was answered and as whom.
func look(c *http.Client, address, cookie string) (status int, as string) {
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return 0, ""
	}
	req.Header.Set("Sec-Fetch-Mode", "cors")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Cookie", cookie)
	resp, err := c.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, headerIn(string(body), "X-User")
}

// headerIn finds a header in the answer of the upstream, which repeats those that it received.
func headerIn(body, name string) string {
	_, rest, found := strings.Cut(body, `"`+name+`":["`)
	if !found {
		return ""
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// stall notices when this machine stands still: what takes longer then is not the plugin's doing.
type stall struct {
	mu    sync.Mutex
	worst time.Duration
	ended bool
}

func (s *stall) watch() {
	for last := time.Now(); ; last = time.Now() {
		time.Sleep(20 * time.Millisecond)
		late := time.Since(last) - 20*time.Millisecond
		s.mu.Lock()
		s.worst = max(s.worst, late)
		ended := s.ended
		s.mu.Unlock()
		if ended {
			return
		}
	}
}

func (s *stall) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

// since returns the longest stall since it was called last.
func (s *stall) since() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	worst := s.worst
	s.worst = 0
	return worst
}

// peek is since, without forgetting.
func (s *stall) peek() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.worst
}
