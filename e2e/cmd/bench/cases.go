package main

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// The files beside this one that other programs need.
var (
	//go:embed load.lua
	loadScript []byte
	//go:embed nothing/nothing.go
	nothingSource []byte
)

// The two cases that most others are compared with.
const (
	noMiddleware = "no middleware"
	doNothing    = "do-nothing plugin"
)

// yardstick is the case whose cost the others are shares of.
const yardstick = "ForwardAuth to a compiled server that says yes"

// The Traefiks, by who comes to them. What our plugin remembers is the whole Traefik's, so each crowd has one of its own.
const (
	few        = "few"    // our plugin alone
	bare       = "bare"   // the do-nothing plugin alone, and the sidecar
	shared     = "shared" // both, for comparison
	crowd      = "crowd"  // our plugin, as in the others
	redisCrowd = "redis-crowd"
	tokenCrowd = "token-crowd"
	strangers  = "strangers" // none of them comes twice
)

// bench has the running programs.
type bench struct {
	ctx                                        context.Context
	dir, wrk, traefikPath, plugin, nothingPath string
	rounds, seconds, connections               int
	routers, middlewares                       int
	only                                       string

	traefiks         map[string]*parts.Traefik
	provider, second *provider.Provider // they sign with RS256 and ES256
	sidecar          *parts.Process
	redis            *redisServer
	upstream         *http.Server
	backend          string
	callbacks        []string // of all sign-ins
	people           []string // the cookies of a crowd
	cases            []*load
	reading          *load        // the case whose requests all need Redis
	made             atomic.Int64 // tokens
}

// load is a case: a route, and what is sent to it.
type load struct {
	name    string
	route   string // the first label of its host
	at      *parts.Traefik
	cookie  string // %d is another number in each request
	bearer  string
	tokens  []string // sent in turn
	cookies []string // the same
	isFresh bool     // no token or cookie is sent twice in all rounds
	sent    int      // of those
	against string   // the case that it is compared with, by name
	rounds  []burst
}

// setUp starts everything, makes the routes, and signs in.
func (b *bench) setUp() error {
	script := filepath.Join(b.dir, "load.lua")
	if err := os.WriteFile(script, loadScript, 0o644); err != nil {
		return err
	}
	if err := b.startUpstream(); err != nil {
		return err
	}
	var err error
	if b.provider, err = provider.Start(provider.Options{}); err != nil {
		return err
	}
	if b.second, err = provider.Start(provider.Options{Algorithm: "ES256"}); err != nil {
		return err
	}
	if b.redis, err = startRedis(b.dir); err != nil {
		return err
	}
	if b.nothingPath, err = b.writeNothing("nothing", "github.com/traefik-oidc/nothing"); err != nil {
		return err
	}
	// The do-nothing plugin goes under our plugin's name, so that nothing else differs.
	inPlace, err := b.writeNothing("oidc", "github.com/traefik-oidc/oidc")
	if err != nil {
		return err
	}
	b.traefiks = map[string]*parts.Traefik{}
	for _, name := range []string{few, bare, shared, crowd, redisCrowd, tokenCrowd, strangers} {
		o := parts.TraefikOptions{Path: b.traefikPath, Dir: filepath.Join(b.dir, "traefik-"+name), Plugin: b.plugin, Static: quiet}
		switch name {
		case bare:
			o.Plugin = inPlace
		case shared:
			o.Plugins = map[string]parts.Plugin{"nothing": {Module: "github.com/traefik-oidc/nothing", Dir: b.nothingPath}}
		}
		if b.traefiks[name], err = parts.StartTraefik(o); err != nil {
			return err
		}
	}
	return b.addCases()
}

// quiet is Traefik as people run it under load: no access log, no metrics, no debug lines.
var quiet = map[string]any{"log": map[string]any{"level": "ERROR"}, "accessLog": nil, "metrics": nil}

// startUpstream serves a small page, as fast as it can, in this process.
func (b *bench) startUpstream() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	page := []byte(strings.Repeat("hello ", 20))
	b.backend = "http://" + listener.Addr().String()
	b.upstream = &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(page) })}
	go func() { _ = b.upstream.Serve(listener) }()
	return nil
}

// writeNothing lays the do-nothing plugin out as a package of any name.
func (b *bench) writeNothing(name, module string) (string, error) {
	dir := filepath.Join(b.dir, "plugin-"+name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for file, text := range map[string]string{
		name + ".go":   strings.Replace(string(nothingSource), "package nothing", "package "+name, 1),
		"go.mod":       "module " + module + "\n\ngo 1.20\n",
		".traefik.yml": "displayName: Nothing\ntype: middleware\nimport: " + module + "\nsummary: calls next\ntestData: {}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

const (
	clientID     = "bench"
	clientSecret = "a-secret-of-the-benchmark"
	freshRate    = 6000  // tokens and sessions made for a second of a burst in which none may come twice
	manyPeople   = 20000 // sessions, or tokens, in turn
)

// addCases makes a route for each case. All get the same request, with the session's cookie, and some a token besides: the ones that
// do not take the cookie out hand it on to the upstream, as they would.
func (b *bench) addCases() error {
	headers := map[string]any{"X-User": "sub", "X-Email": "email"}
	jwt := func(p *provider.Provider) map[string]any {
		return map[string]any{"jwt": map[string]any{"issuer": p.Issuer, "audience": "api", "claims": "Contains(`groups`, `users`)", "forwardHeaders": headers}}
	}
	tokenEndpoint := b.provider.Issuer + "/token"
	inRedis := b.redis.options(3600)
	inRedis["secret"] = sessionSecret
	people := map[string]any{"secret": sessionSecret}
	routes := map[string][]parts.Route{
		bare:       {{Name: "plain"}, {Name: "nothing", Options: map[string]any{}}},
		shared:     {{Name: "shared-nothing", Plugin: "nothing", Options: map[string]any{}}, {Name: "shared", Options: b.signInOptions(map[string]any{})}},
		crowd:      {{Name: "people", Options: b.signInOptions(people)}},
		redisCrowd: {{Name: "redis-people", Options: b.signInOptions(inRedis)}},
		tokenCrowd: {{Name: "tokens", Options: jwt(b.provider)}},
		strangers: {
			{Name: "strangers", Options: b.signInOptions(people)},
			{Name: "jwt-rs256", Options: jwt(b.provider)},
			{Name: "jwt-es256", Options: jwt(b.second)},
		},
		few: {
			{Name: "signed-in", Options: b.signInOptions(map[string]any{})},
			{Name: "redis-fresh", Options: b.signInOptions(b.redis.options(2))},
			{Name: "redis-read", Options: b.signInOptions(b.redis.options(0))},
			{Name: "jwt", Options: jwt(b.provider)},
			{Name: "introspection", Options: map[string]any{"oAuthIntrospection": map[string]any{
				"tokenSource":  map[string]any{"header": "Authorization", "headerAuthScheme": "Bearer"},
				"clientConfig": map[string]any{"url": b.provider.Issuer + "/introspect", "headers": map[string]any{"Authorization": basicAuthorization()}},
				"cacheSeconds": 3600, "forwardHeaders": map[string]any{"X-User": "client_id"}}}},
			{Name: "gateway", Options: map[string]any{"oAuthClientCredentials": map[string]any{"url": tokenEndpoint, "clientId": clientID, "clientSecret": clientSecret}}},
		},
	}
	at := map[string]*parts.Traefik{"sidecar": b.traefiks[bare]} // of each route
	for name, list := range routes {
		for _, route := range list {
			route.Backend = b.backend
			at[route.Name] = b.traefiks[name]
			if err := b.traefiks[name].SetRoutes(route.Name, route); err != nil {
				return err
			}
		}
	}
	if err := b.addSidecar(); err != nil {
		return err
	}
	sessions := map[string]string{}
	for _, route := range []string{"signed-in", "people", "strangers", "redis-people", "redis-fresh", "redis-read", "shared"} {
		var err error
		if sessions[route], err = b.signIn(at[route], route); err != nil {
			return err
		}
	}
	access, err := clientToken(tokenEndpoint)
	if err != nil {
		return err
	}
	seen, err := b.provider.Sign(claims(b.provider.Issuer, 0))
	if err != nil {
		return err
	}
	session := sessions["signed-in"]
	others := "a=1; consent=yes; lang=en; theme=dark; _ga=GA1.%d; " + session + "; _gid=GA2.%d; cart=3; seen=%d; tz=UTC; ab=7"
	b.cases = []*load{
		{name: noMiddleware, route: "plain", cookie: session},
		{name: doNothing, route: "nothing", cookie: session, against: doNothing},
		{name: yardstick, route: "sidecar", cookie: session},
		{name: "sign-in: signed in", route: "signed-in", cookie: session},
		{name: doNothing + ", ten more cookies that change", route: "nothing", cookie: others},
		{name: "sign-in: signed in, ten more cookies that change", route: "signed-in", cookie: others, against: doNothing + ", ten more cookies that change"},
		{name: "people: 1,000 sessions in turn", route: "people", cookies: make([]string, 1000)},
		{name: "people: 6,000 sessions in turn", route: "people", cookies: make([]string, 6000)},
		{name: "people: 20,000 sessions in turn", route: "people", cookies: make([]string, manyPeople)},
		{name: "people: a session never seen before", route: "strangers", isFresh: true, cookies: b.unseen()},
		{name: "sessions in Redis: signed in, fresh copy", route: "redis-fresh", cookie: sessions["redis-fresh"]},
		{name: "sessions in Redis: signed in, read each time", route: "redis-read", cookie: sessions["redis-read"]},
		{name: "sessions in Redis: 20,000 in turn, fresh copies", route: "redis-people", cookies: make([]string, manyPeople)},
		{name: "JWT: seen before", route: "jwt", cookie: session, bearer: seen},
		{name: "JWT: 20,000 in turn", route: "tokens", cookie: session, tokens: make([]string, manyPeople)},
		{name: "JWT: never seen before, RS256", route: "jwt-rs256", cookie: session, isFresh: true, tokens: b.unseen()},
		{name: "JWT: never seen before, ES256", route: "jwt-es256", cookie: session, isFresh: true, tokens: b.unseen()},
		{name: "introspection: answer in the cache", route: "introspection", cookie: session, bearer: access},
		{name: "client credentials: token in the cache", route: "gateway", cookie: session},
		{name: doNothing + ", both plugins in one Traefik", route: "shared-nothing", cookie: session},
		{name: "sign-in: signed in, both plugins in one Traefik", route: "shared", cookie: sessions["shared"], against: doNothing + ", both plugins in one Traefik"},
	}
	for i, c := range b.cases {
		c.at = at[c.route]
		if c.against == "" {
			c.against = doNothing
		}
		if c.route == "redis-read" {
			b.reading = c
		}
		if b.skips(i) {
			continue
		}
		if err := b.fill(c, sessions[c.route]); err != nil {
			return err
		}
	}
	return nil
}

// unseen is room for what a case sends in all bursts, the first of which is short.
func (b *bench) unseen() []string { return make([]string, freshRate*(b.seconds*b.rounds+1)) }

// fill makes the tokens or sessions of a case. A session is a copy of one.
func (b *bench) fill(c *load, session string) error {
	from := b.provider
	if c.route == "jwt-es256" {
		from = b.second
	}
	var err error
	if c.tokens != nil {
		progress("%d tokens", len(c.tokens))
		c.tokens, err = b.makeTokens(len(c.tokens), from)
	}
	if c.cookies == nil || err != nil {
		return err
	}
	if c.route == "people" { // rows of the same twenty thousand: what is promised for them is not for thousands more
		if b.people == nil {
			progress("%d sessions", manyPeople)
			b.people, err = b.copySessions(session, manyPeople, false)
		}
		c.cookies = b.people[:min(len(c.cookies), len(b.people))]
		return err
	}
	progress("%d sessions", len(c.cookies))
	c.cookies, err = b.copySessions(session, len(c.cookies), c.route == "redis-people")
	return err
}

// addSidecar starts the server and makes the route that asks it.
func (b *bench) addSidecar() error {
	port, err := parts.FreePort()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	b.sidecar, err = parts.StartProcess(parts.Command{Name: "sidecar", Path: self, Args: []string{"sidecar", address}, Dir: b.dir,
		LogFile: filepath.Join(b.dir, "sidecar.log")})
	if err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{"http": map[string]any{
		"middlewares": map[string]any{"sidecar": map[string]any{"forwardAuth": map[string]any{"address": "http://" + address, "authResponseHeaders": []string{"X-User", "X-Email"}}}},
		"routers":     map[string]any{"sidecar": map[string]any{"rule": "Host(`sidecar." + parts.Domain + "`)", "service": "plain", "middlewares": []string{"sidecar"}}},
	}})
	if err != nil {
		return err
	}
	return b.traefiks[bare].SetFile("sidecar", string(text))
}

// signInOptions are those of a middleware with a sign-in.
func (b *bench) signInOptions(session map[string]any) map[string]any {
	return map[string]any{"issuer": b.provider.Issuer, "clientId": clientID, "clientSecret": clientSecret, "session": session,
		"claims": "Contains(`groups`, `users`)", "usernameClaim": "email", "forwardHeaders": map[string]any{"X-User": "sub", "X-Email": "email"}}
}

// signIn gives the cookies of a session at a route, as a browser sends them.
func (b *bench) signIn(traefik *parts.Traefik, route string) (string, error) {
	address := strings.Replace(traefik.URL, "127.0.0.1", route+"."+parts.Domain, 1)
	b.callbacks = append(b.callbacks, address+"/oidc/callback")
	b.provider.AddClient(provider.Client{ID: clientID, Secret: clientSecret, RedirectURIs: b.callbacks,
		AccessTokenLifetime: 24 * time.Hour, IDTokenLifetime: 24 * time.Hour, ClientCredentials: true})
	visitor := browser.New(nil)
	page, err := visitor.SignIn(address+"/", provider.Alice.Name, provider.Alice.Password)
	if err != nil {
		return "", err
	}
	if page.Status != http.StatusOK {
		return "", fmt.Errorf("signing in: %s", page)
	}
	var pairs []string
	for _, cookie := range visitor.Cookies(address + "/") {
		if strings.Contains(cookie.Name, "-session") { // the others end within seconds
			pairs = append(pairs, cookie.Name+"="+cookie.Value)
		}
	}
	return strings.Join(pairs, "; "), nil
}

func basicAuthorization() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(clientID+":"+clientSecret))
}

// clientToken gets an opaque access token.
func clientToken(endpoint string) (string, error) {
	req, err := http.NewRequest(http.MethodPost, endpoint, strings.NewReader("grant_type=client_credentials&scope=openid"))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", basicAuthorization())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	answer := struct {
		AccessToken string `json:"access_token"`
	}{}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		return "", fmt.Errorf("client credentials: %s, no access token: %v", res.Status, err)
	}
	return answer.AccessToken, nil
}

// claims are those of an access token, number makes it one of its own.
func claims(issuer string, number int) map[string]any {
	now := time.Now().Unix()
	made := map[string]any{"iss": issuer, "aud": "api", "iat": now, "exp": now + 86400, "jti": fmt.Sprintf("token-%d", number), "client_id": clientID, "scope": "read write"}
	for name, value := range provider.Alice.Claims {
		made[name] = value
	}
	return made
}

// makeTokens signs as many tokens as are wanted, no two the same.
func (b *bench) makeTokens(count int, from *provider.Provider) ([]string, error) {
	tokens := make([]string, count)
	failed := make([]error, runtime.NumCPU())
	var wait sync.WaitGroup
	for worker := range failed {
		wait.Go(func() {
			for i := worker; i < len(tokens) && failed[worker] == nil && b.ctx.Err() == nil; i += len(failed) {
				tokens[i], failed[worker] = from.Sign(claims(from.Issuer, int(b.made.Add(1))))
			}
		})
	}
	wait.Wait()
	return tokens, errors.Join(append(failed, b.ctx.Err())...)
}

// stop ends everything. It may be called more than once.
func (b *bench) stop() {
	for _, traefik := range b.traefiks {
		if traefik != nil {
			traefik.Stop()
		}
	}
	if b.sidecar != nil {
		b.sidecar.Stop()
	}
	if b.redis != nil {
		b.redis.Stop()
	}
	for _, p := range []*provider.Provider{b.provider, b.second} {
		if p != nil {
			p.Stop()
		}
	}
	if b.upstream != nil {
		_ = b.upstream.Close()
	}
}
