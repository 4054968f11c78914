package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// redis is a real redis-server, or a Sentinel, on a free port.
type redis struct {
	*parts.Process
	port int
	dir  string
	args []string // beside the port, the same after a restart
	auth []string // for redis-cli
}

// newRedis starts a server with these arguments, as on its command line. It keeps what it has on disk when it is killed.
func newRedis(t *testing.T, args ...string) *redis {
	t.Helper()
	need(t, "redis-server")
	port, err := parts.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	r := &redis{port: port, dir: t.TempDir(), args: args}
	r.run(t)
	t.Cleanup(func() { r.Stop() })
	return r
}

// run starts the server, again if it was killed.
func (r *redis) run(t *testing.T) {
	t.Helper()
	r.launch(t)
	err := r.WaitFor("it answered", 20*time.Second, func() bool {
		answer := r.try("PING")
		return strings.HasPrefix(answer, "PONG") || strings.Contains(answer, "NOAUTH") || strings.Contains(answer, "denied")
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (r *redis) launch(t *testing.T) {
	t.Helper()
	args := append([]string{"--port", strconv.Itoa(r.port), "--bind", "127.0.0.1", "--save", "", "--dir", r.dir}, r.args...)
	if len(r.args) > 0 && strings.HasSuffix(r.args[0], ".conf") { // a Sentinel has all of it in its file
		args = append(r.args, "--sentinel")
	}
	var err error
	r.Process, err = parts.StartProcess(parts.Command{Name: "Redis", Path: need(t, "redis-server"), Args: args, LogFile: filepath.Join(r.dir, "redis.log")})
	if err != nil {
		t.Fatal(err)
	}
}

// try runs redis-cli and returns all it says.
func (r *redis) try(command ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	args := append(append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(r.port)}, r.auth...), command...)
	out, _ := exec.CommandContext(ctx, "redis-cli", args...).CombinedOutput()
	return strings.TrimSpace(string(out))
}

// do is try for a command that must succeed.
func (r *redis) do(t *testing.T, command ...string) string {
	t.Helper()
	answer := r.try(command...)
	for _, bad := range []string{"ERR ", "Could not connect", "NOAUTH", "WRONGPASS", "NOPERM", "OOM "} {
		if strings.Contains(answer, bad) {
			t.Fatalf("redis-cli %s: %s", strings.Join(command, " "), answer)
		}
	}
	return answer
}

func (r *redis) addr() string { return fmt.Sprintf("127.0.0.1:%d", r.port) }

// keys are those of an app that has its host name as keyPrefix.
func (r *redis) keys(t *testing.T, a *app, kind string) []string {
	t.Helper()
	return strings.Fields(r.do(t, "--raw", "KEYS", a.host+":"+kind+"*"))
}

// storing is a site with its sessions in r, under a prefix of its own.
func storing(r *redis) with {
	return with{"session.store.redis.endpoints": []string{r.addr()}, "session.store.keyPrefix": "{site}:", "clientConfig.timeoutSeconds": 3}
}

// both joins options; those of more win.
func both(base, more with) with {
	joined := with{}
	for name, value := range base {
		joined[name] = value
	}
	for name, value := range more {
		joined[name] = value
	}
	return joined
}

// stored tries to sign in, and says what the session's cookie is then: a ticket, or the session itself.
func stored(v *visitor) string {
	page, err := v.SignIn(v.url("/"), provider.Alice.Name, provider.Alice.Password)
	if err != nil && page == nil {
		v.t.Fatal(err)
	}
	if got := v.outcome(page); got != "application" {
		return got
	}
	if len(v.sessionCookie().Value) <= 200 {
		return "ticket"
	}
	return "session"
}

const unavailable = "Service Unavailable"

// TestRedisOptions has the cases of the options of a single server.
func TestRedisOptions(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	dead, err := parts.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	nobody := fmt.Sprintf("127.0.0.1:%d", dead)
	try(t, "session.store.redis.endpoints", site{}, stored,
		row{drop, "session"}, row{[]string{r.addr()}, "ticket"}, row{"redis://" + r.addr(), "ticket"}, row{nobody, unavailable},
		row{[]string{nobody, r.addr()}, "ticket"}, row{[]string{r.addr(), nobody}, "ticket"})

	guarded := newRedis(t, "--requirepass", "of the default user")
	guarded.auth = []string{"--no-auth-warning", "-a", "of the default user"}
	guarded.do(t, "ACL", "SETUSER", "oidc", "on", ">of oidc", "~*", "resetchannels", "-@all", "+get", "+getrange", "+set", "+del", "+eval", "+time", "+role", "+pexpireat", "+@sortedset")
	base := site{with: both(storing(guarded), with{"session.store.redis.password": "of oidc"})}
	try(t, "session.store.redis.username", base, stored, row{drop, unavailable}, row{"oidc", "ticket"})
	base = site{with: both(storing(guarded), with{"session.store.redis.username": "oidc"})}
	try(t, "session.store.redis.password", base, stored, row{"of oidc", "ticket"}, row{"of somebody else", unavailable})
	try(t, "session.store.redis.password", site{with: storing(guarded)}, stored, row{"of the default user", "ticket"}, row{drop, unavailable})

	try(t, "session.store.redis.database", site{with: storing(r)}, func(v *visitor) string {
		v.signIn("/", provider.Alice)
		return yes(r.do(v.t, "-n", "3", "--raw", "KEYS", v.app.host+":session:*") != "")
	}, row{drop, "no"}, row{3, "yes"}, row{"3", "yes"})

	try(t, "session.store.keyPrefix", site{with: with{"session.store.redis.endpoints": r.addr()}}, func(v *visitor) string {
		v.signIn("/", provider.Alice)
		return yes(len(r.keys(v.t, v.app, "session:")) == 1 && len(r.keys(v.t, v.app, "sub:")) == 1 && len(r.keys(v.t, v.app, "sid:")) == 1)
	}, row{drop, "no"}, row{"{site}:", "yes"})

	try(t, "session.store.cacheSeconds", site{with: storing(r)}, func(v *visitor) string {
		v.signIn("/", provider.Alice)
		v.fetch(http.MethodGet, "/")
		r.do(v.t, append([]string{"DEL"}, r.keys(v.t, v.app, "")...)...)
		before := v.outcome(v.look("/"))
		time.Sleep(2200 * time.Millisecond)
		return before + ", " + v.outcome(v.look("/"))
	}, row{drop, "application, sign-in"}, row{0, "sign-in, sign-in"}, row{60, "application, application"})
}

// TestRedisTLSOptions has the cases of encrypted connections.
func TestRedisTLSOptions(t *testing.T) {
	t.Parallel()
	l := start(t)
	certificate, key, err := l.ca.Issue("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	encrypted := func(clients string) *redis {
		port, err := parts.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		for name, text := range map[string]string{"cert.pem": certificate, "key.pem": key, "ca.pem": l.ca.PEM} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := newRedis(t, "--tls-port", strconv.Itoa(port), "--tls-cert-file", dir+"/cert.pem", "--tls-key-file", dir+"/key.pem",
			"--tls-ca-cert-file", dir+"/ca.pem", "--tls-auth-clients", clients)
		r.port = port // the plain one stays there, for nobody
		r.auth, r.dir = []string{"--tls", "--cacert", dir + "/ca.pem"}, dir
		return r
	}
	r := encrypted("no")
	secure := both(storing(r), with{"session.store.redis.endpoints": "rediss://" + r.addr()})
	try(t, "session.store.redis.tls.ca", site{with: secure}, stored, row{drop, unavailable}, row{l.ca.PEM, "ticket"})
	try(t, "session.store.redis.tls.ca", site{with: storing(r)}, stored, row{drop, unavailable}, row{l.ca.PEM, "ticket"})
	try(t, "session.store.redis.tls.insecureSkipVerify", site{with: secure}, stored, row{drop, unavailable}, row{true, "ticket"}, row{"true", "ticket"})

	try(t, "oAuthClientCredentials.store.redis.tls.ca", l.storingTokens(secure), tokenKept(r), row{drop, "not kept"}, row{l.ca.PEM, "kept"})
	try(t, "oAuthClientCredentials.store.redis.tls.insecureSkipVerify", l.storingTokens(secure), tokenKept(r), row{drop, "not kept"}, row{true, "kept"})

	t.Run("client certificate", func(t *testing.T) {
		t.Parallel()
		covers(t, "session.store.redis.tls.cert", "session.store.redis.tls.key", "oAuthClientCredentials.store.redis.tls.cert", "oAuthClientCredentials.store.redis.tls.key")
		strict := encrypted("yes")
		trusting := both(storing(strict), with{"session.store.redis.tls.ca": l.ca.PEM})
		if got := stored(l.serve(t, site{with: trusting}).visitor(t)); got != unavailable {
			t.Errorf("without a client certificate: %s", got)
		}
		_, other, err := l.ca.Issue("client")
		if err != nil {
			t.Fatal(err)
		}
		named := both(trusting, with{"session.store.redis.tls.cert": certificate, "session.store.redis.tls.key": key})
		if got := stored(l.serve(t, site{with: named}).visitor(t)); got != "ticket" {
			t.Errorf("with a client certificate: %s", got)
		}
		strict.auth = append(strict.auth, "--cert", strict.dir+"/cert.pem", "--key", strict.dir+"/key.pem")
		for want, options := range map[string]with{"not kept": trusting, "kept": named} {
			if got := tokenKept(strict)(l.serve(t, l.storingTokens(options)).visitor(t)); got != want {
				t.Errorf("a gateway's token is %s, want %s", got, want)
			}
		}
		said := l.refuse(t, site{with: both(named, with{"session.store.redis.tls.key": other})})
		if !strings.Contains(said, "session.store.redis: tls.cert, tls.key: ") {
			t.Errorf("a key that does not fit is refused with %s", said)
		}
	})
}

// TestRedisTicket: the cookie is small, Redis holds nothing that anybody can read, and all of it ends by itself.
func TestRedisTicket(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	s := refreshing(300)
	s.with = both(both(s.with, storing(r)), with{"session.expiry": 1000, "session.sliding": false, "backchannelLogoutUrl": "/gone"})
	app := start(t).serve(t, s)
	alice := app.visitor(t)
	token := alice.received(alice.signIn("/", provider.Alice)).Header.Get("X-Token")
	if token == "" {
		t.Fatal("no access token to look for")
	}
	cookie := alice.sessionCookie()
	t.Logf("the cookie has %d bytes with its name", len(cookie.Name)+1+len(cookie.Value))
	if len(cookie.Name)+1+len(cookie.Value) > 200+len(app.name) {
		t.Errorf("the cookie has %d bytes", len(cookie.Value))
	}
	if got := pushed(map[string]any{"sub": "user-alice"})(app.visitor(t)); got != "OK, sign-in" {
		t.Fatalf("a logout, whose token Redis remembers: %s", got)
	}
	alice.open("/") // signed in at the provider still

	r.do(t, "SAVE")
	dump, err := os.ReadFile(filepath.Join(r.dir, "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	everything := string(dump)
	for _, name := range r.keys(t, app, "") {
		everything += name + r.do(t, "--raw", "DUMP", name)
		left, _ := strconv.Atoi(r.do(t, "--raw", "TTL", name))
		most := 1001
		if strings.Contains(name, ":sub:") || strings.Contains(name, ":sid:") {
			most = 2001 // an index outlives what it finds
		}
		if left < 1 || left > most || strings.Contains(name, ":session:") && left < 900 {
			t.Errorf("%s ends in %d seconds", name, left)
		}
	}
	if !strings.Contains(everything, app.host+":session:") {
		t.Fatal("the dump has no session")
	}
	issuer := strings.TrimPrefix(app.provider.Issuer, "http://")
	for _, secret := range []string{"alice", "Alice", "Liddell", "example.com", "admins", "Oxford", "eyJ", `"sub"`, "groups", issuer, token, token[:20], app.secret(), cookie.Value[:20]} {
		if strings.Contains(everything, secret) {
			t.Errorf("Redis has %q in clear", secret)
		}
	}
}

// TestRedisLogout: who signs out, or signs in anew, leaves no session behind that a copied cookie could use.
func TestRedisLogout(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	app := start(t).serve(t, site{with: both(storing(r), with{"logoutUrl": "/logout", "loginUrl": "/login"})})
	alice, thief := app.visitor(t), app.visitor(t)
	alice.signIn("/login", provider.Alice)
	thief.Header = http.Header{"Cookie": {cookieHeader(alice.Cookies(app.URL))}}
	first := r.keys(t, app, "session:")
	alice.open("/login")
	second := r.keys(t, app, "session:")
	if len(first) != 1 || len(second) != 2 {
		t.Fatalf("%d sessions after the first sign-in, %d after the second", len(first), len(second))
	}
	left, _ := strconv.Atoi(r.do(t, "--raw", "TTL", first[0]))
	if left < 0 || left > 30 {
		t.Errorf("the session before the second sign-in lasts for another %d seconds", left)
	}
	thief.Header = http.Header{"Cookie": {cookieHeader(alice.Cookies(app.URL))}}
	if got := thief.outcome(thief.look("/")); got != "application" {
		t.Fatalf("a copied cookie: %s", got)
	}
	alice.post("/logout", nil)
	if got := thief.outcome(thief.look("/")); got != "Unauthorized" {
		t.Errorf("a copied cookie after the sign-out: %s", got)
	}
	if rest := r.keys(t, app, "session:"); len(rest) > 1 || len(rest) == 1 && rest[0] != first[0] {
		t.Errorf("after the sign-out Redis has %v", rest)
	}
}

// TestRedisForeign: what is not this middleware's session is a new sign-in, never an error and never a way in.
func TestRedisForeign(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	l := start(t)
	app := l.serve(t, site{with: storing(r)})
	other := l.serve(t, site{with: storing(r)})
	for name, spoil := range map[string]func(v *visitor) string{
		"ticket of another middleware": func(v *visitor) string {
			bob := other.visitor(v.t)
			bob.signIn("/", provider.Bob)
			return bob.sessionCookie().Value
		},
		"ticket with another key": func(v *visitor) string { // another session's value under the name that this ticket has
			v.signIn("/", provider.Alice)
			names := r.keys(v.t, app, "session:")
			bob := app.visitor(v.t)
			bob.signIn("/", provider.Bob)
			for _, name := range names {
				r.do(v.t, "SET", name, "AXh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4")
			}
			return v.sessionCookie().Value
		},
		"value of another version": func(v *visitor) string {
			v.signIn("/", provider.Alice)
			for _, name := range r.keys(v.t, app, "session:") {
				r.do(v.t, "SETRANGE", name, "0", "B")
			}
			return v.sessionCookie().Value
		},
		"value that is empty": func(v *visitor) string {
			v.signIn("/", provider.Alice)
			for _, name := range r.keys(v.t, app, "session:") {
				r.do(v.t, "SET", name, "")
			}
			return v.sessionCookie().Value
		},
	} {
		alice := app.visitor(t)
		value := spoil(alice)
		late := app.visitor(t)
		late.Header = http.Header{"Cookie": {app.name + "-session=" + value}}
		time.Sleep(2100 * time.Millisecond) // the local copy
		if got := late.outcome(late.look("/")); got != "sign-in" {
			t.Errorf("a %s: %s", name, got)
		}
	}
}

// TestRedisErrors: a Redis that is there but does not do what it should is a 503 for who needs it, and a log line that says what to do.
// Nobody is signed out by it.
func TestRedisErrors(t *testing.T) {
	t.Parallel()
	master := newRedis(t)
	for name, test := range map[string]struct {
		ill, well func(t *testing.T, r *redis, a *app)
		signedIn  string // what who is signed in gets meanwhile
		says      string
	}{
		"full": {
			func(t *testing.T, r *redis, a *app) { r.do(t, "CONFIG", "SET", "maxmemory", "1") },
			func(t *testing.T, r *redis, a *app) { r.do(t, "CONFIG", "SET", "maxmemory", "0") },
			"application", `answered "OOM"; Redis is full: raise its maxmemory`,
		},
		"read-only": {
			func(t *testing.T, r *redis, a *app) {
				r.do(t, "CONFIG", "SET", "replica-serve-stale-data", "yes")
				replicate(t, r, master)
			},
			func(t *testing.T, r *redis, a *app) { r.do(t, "REPLICAOF", "NO", "ONE") },
			"", `answered "READONLY"; this is a replica: name the master`,
		},
		"loading": {
			func(t *testing.T, r *redis, a *app) {
				r.do(t, "CONFIG", "SET", "key-load-delay", "100000") // 0.1 s for each key, and a look at requests after each
				r.do(t, "CONFIG", "SET", "loading-process-events-interval-bytes", "1024")
				r.do(t, "DEBUG", "POPULATE", "100", "key", "2000")
				go r.try("DEBUG", "RELOAD")
				if err := r.WaitFor("reading its data", 10*time.Second, func() bool { return strings.Contains(r.try("INFO", "persistence"), "loading:1") }); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, r *redis, a *app) { r.Kill(); r.run(t) },
			unavailable, `answered "LOADING"; Redis has just started`,
		},
		"other things under our keys": {
			func(t *testing.T, r *redis, a *app) {
				for _, name := range r.keys(t, a, "") {
					r.do(t, "RENAME", name, "kept "+name)
					r.do(t, "LPUSH", name, "x")
				}
			},
			func(t *testing.T, r *redis, a *app) {
				for _, name := range r.keys(t, a, "") {
					r.try("RENAME", "kept "+name, name) // Bob's were not kept
				}
			},
			unavailable, `answered "WRONGTYPE"; something else is stored under our keys`,
		},
		"password changed": {
			func(t *testing.T, r *redis, a *app) {
				r.do(t, "CONFIG", "SET", "requirepass", "new")
				r.auth = []string{"-a", "new", "--no-auth-warning"}
				r.do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			},
			func(t *testing.T, r *redis, a *app) { r.do(t, "CONFIG", "SET", "requirepass", "") },
			unavailable, `answered "NOAUTH"; Redis wants a password`,
		},
		"away": {
			func(t *testing.T, r *redis, a *app) { r.Kill() },
			func(t *testing.T, r *redis, a *app) { r.run(t) },
			unavailable, `connection refused; is Redis running there`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRedis(t, "--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "local")
			app := start(t).serve(t, site{with: both(storing(r), with{"session.store.cacheSeconds": 0})})
			alice, bob := app.visitor(t), app.visitor(t)
			alice.signIn("/", provider.Alice)
			page := bob.open("/")
			test.ill(t, r, app)
			if got := alice.outcome(alice.look("/")); got != test.signedIn && test.signedIn != "" {
				t.Errorf("who is signed in got %s", got)
			}
			answer := bob.must(bob.Submit(page, map[string][]string{"username": {"bob"}, "password": {"builder"}}))
			if name == "other things under our keys" {
				answer = alice.look("/") // Bob has keys of his own
			}
			if answer.Status != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
				t.Errorf("who needs Redis got %s, Retry-After %q", answer, answer.Header.Get("Retry-After"))
			}
			if !strings.Contains(app.log(), test.says) {
				t.Errorf("the log has no %s:\n%s", test.says, app.log())
			}
			test.well(t, r, app)
			if got := alice.outcome(alice.look("/")); got != "application" {
				t.Errorf("afterwards who was signed in got %s", got)
			}
		})
	}
}

// replicate makes r a replica of master, which keeps the keys it has.
func replicate(t *testing.T, r, master *redis) {
	for _, name := range strings.Fields(r.do(t, "--raw", "KEYS", "*")) {
		value := r.do(t, "--raw", "GET", name)
		if !strings.Contains(value, "WRONGTYPE") {
			master.do(t, "SET", name, value)
		}
	}
	r.do(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(master.port))
	err := r.WaitFor("it was a replica", 10*time.Second, func() bool { return strings.Contains(r.try("INFO", "replication"), "master_link_status:up") })
	if err != nil {
		t.Fatal(err)
	}
}

// TestRedisKeptRefreshToken: a provider that does not rotate refresh tokens gets the same one again each time it is due.
func TestRedisKeptRefreshToken(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	for name, where := range map[string]with{"in Redis": storing(r), "in cookies": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := refreshing(1)
			s.with = both(s.with, where)
			s.client = func(c *provider.Client) { c.AccessTokenLifetime, c.KeepRefreshToken = time.Second, true }
			app := start(t).serve(t, s)
			alice := app.visitor(t)
			alice.signIn("/", provider.Alice)
			seen := map[string]bool{}
			for range 3 {
				time.Sleep(1300 * time.Millisecond)
				seen[alice.received(alice.fetch(http.MethodGet, "/")).Header.Get("X-Token")] = true
			}
			if n := app.provider.Grants("refresh_token", app.name); n < 3 || len(seen) != 3 { // more on a slow machine, where it may be due again
				t.Errorf("three times due, refreshed %d times, %d access tokens", n, len(seen))
			}
		})
	}
}

// TestRedisRefused: what cannot work is refused when Traefik reads it, with the option's name and what to write instead.
func TestRedisRefused(t *testing.T) {
	t.Parallel()
	const at = "session.store.redis"
	for name, test := range map[string]struct {
		with with
		says string
	}{
		"no endpoints":            {with{at + ".username": "x"}, at + ".endpoints: required"},
		"empty endpoint":          {with{at + ".endpoints": []string{""}}, at + ".endpoints"},
		"unknown scheme":          {with{at + ".endpoints": "https://redis:6379"}, at + ".endpoints"},
		"password in the URL":     {with{at + ".endpoints": "redis://:pa55word@redis:6379"}, at + ".endpoints"},
		"Sentinel without a name": {with{at + ".endpoints": "redis:26379", at + ".sentinel.username": "x"}, at + ".sentinel.masterSet: required"},
		"cluster with a database": {with{at + ".endpoints": "redis:6379", at + ".cluster": "true", at + ".database": 1}, at + ".database: must be 0 in a cluster"},
		"cluster and Sentinel":    {with{at + ".endpoints": "redis:6379", at + ".cluster": "true", at + ".sentinel.masterSet": "x"}, at + ".cluster: must not be combined with sentinel"},
		"database as a word":      {with{at + ".endpoints": "redis:6379", at + ".database": "two"}, at + ".database"},
		"misspelt option":         {with{at + ".endpoint": "redis:6379"}, `endpoints`},
		"plain and TLS":           {with{at + ".endpoints": "redis://redis:6379", at + ".tls.insecureSkipVerify": "true"}, "redis:// is without TLS"},
		"CA that is none":         {with{at + ".endpoints": "redis:6379", at + ".tls.ca": "x"}, at + ": tls.ca: no certificate found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said := start(t).refuse(t, site{with: test.with})
			if !strings.Contains(said, test.says) || strings.Contains(said, "pa55word") {
				t.Errorf("refused with %s\nwant %s", said, test.says)
			}
		})
	}
}

// TestRedisCommands counts what each kind of work asks of Redis: the numbers that docs/scaling.md reckons with.
func TestRedisCommands(t *testing.T) {
	t.Parallel()
	r := newRedis(t)
	s := refreshing(5)
	s.with = both(both(s.with, storing(r)), both(listening, with{"logoutUrl": "/logout", "session.store.cacheSeconds": 60}))
	app := start(t).serve(t, s)
	alice := app.visitor(t)
	asked := func(what, want string, work func()) {
		t.Helper()
		r.do(t, "CONFIG", "RESETSTAT")
		work()
		var got []string
		stats := r.do(t, "INFO", "commandstats")
		calls := func(command string) int {
			_, rest, _ := strings.Cut(stats, "cmdstat_"+command+":calls=")
			number, _, _ := strings.Cut(rest, ",")
			n, _ := strconv.Atoi(number)
			return n
		}
		for _, command := range []string{"get", "set", "del", "eval"} {
			n := calls(command)
			if command == "eval" {
				n -= calls("zrangebyscore") // those that look for news: one in two seconds, or when something is told
			}
			if n > 0 {
				got = append(got, fmt.Sprint(n, " ", command))
			}
		}
		if all := strings.Join(got, ", "); all != want {
			t.Errorf("%s: %s, expected %s", what, all, want)
		}
	}
	asked("a sign-in and the page after it", "1 get, 1 set, 2 eval", func() { alice.signIn("/", provider.Alice) })
	asked("ten requests on a fresh copy", "", func() {
		for range 10 {
			alice.fetch(http.MethodGet, "/")
		}
	})
	time.Sleep(5200 * time.Millisecond)
	// One get and one set are the lease's own, in its script.
	asked("a request that refreshes", "2 get, 2 set, 3 eval", func() { alice.fetch(http.MethodGet, "/") })
	app.visitor(t).signIn("/", provider.Alice)
	// Beside the ZRANGE. A session is deleted, and that noted, by a script.
	asked("a pushed logout of two sessions", "1 get, 3 set, 2 del, 2 eval", func() {
		app.push(t, app.logoutToken(t, map[string]any{"sub": "user-alice"}))
	})
}
