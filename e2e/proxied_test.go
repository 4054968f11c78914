package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
	"github.com/traefik-oidc/oidc/e2e/internal/upstream"
)

// The proxies that people have in front of Traefik, each an nginx server that ends TLS.
var proxies = map[string]string{
	"says https":           `location / { proxy_pass http://TRAEFIK; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto https; }`,
	"says nothing":         `location / { proxy_pass http://TRAEFIK; proxy_set_header Host $http_host; }`,
	"says http":            `location / { proxy_pass http://TRAEFIK; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto http; }`,
	"drops the port":       `location / { proxy_pass http://TRAEFIK; proxy_set_header Host $host; }`,
	"has another host":     `location / { proxy_pass http://TRAEFIK; proxy_set_header Host inner.e2e.localhost; proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Proto https; }`,
	"takes a prefix off":   `location /app/ { proxy_pass http://TRAEFIK/; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Prefix /app; proxy_set_header X-Forwarded-Proto https; }`,
	"takes it off, silent": `location /app/ { proxy_pass http://TRAEFIK/; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto https; }`,
}

// startProxies runs an nginx in front of a Traefik, and returns the port of each proxy.
func startProxies(t *testing.T, l *lab) map[string]string {
	t.Helper()
	path := need(t, "nginx")
	dir := filepath.Join(l.dir, fmt.Sprint("nginx-", names.Add(1)))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	certificate, key, err := l.ca.Issue("*."+parts.Domain, parts.Domain)
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]string{}
	servers := ""
	for name, location := range proxies {
		port, err := parts.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		ports[name] = fmt.Sprint(":", port)
		servers += fmt.Sprintf("server { listen 127.0.0.1:%d ssl; ssl_certificate cert.pem; ssl_certificate_key key.pem; proxy_buffer_size 64k; proxy_buffers 4 64k; proxy_busy_buffers_size 64k; large_client_header_buffers 8 64k; %s }\n",
			port, strings.ReplaceAll(location, "TRAEFIK", strings.TrimPrefix(l.traefik.URL, "http://")))
	}
	for name, text := range map[string]string{"cert.pem": certificate, "key.pem": key, "nginx.conf": "daemon off; worker_processes 1; pid nginx.pid; error_log stderr;\nevents { worker_connections 256; }\n" +
		"http { access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n" + servers + "}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nginx, err := parts.StartProcess(parts.Command{Name: "nginx", Path: path, Args: []string{"-p", dir, "-c", "nginx.conf"}, Dir: dir, LogFile: filepath.Join(dir, "nginx.log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nginx.Stop)
	if err := nginx.WaitFor("it answered", 20*time.Second, func() bool {
		_, err := browser.New(nil).Look("https://traefik." + parts.Domain + ports["says https"] + "/api/version")
		return err == nil
	}); err != nil {
		t.Fatal(err)
	}
	return ports
}

// TestProxiedSignIn: where TLS ends before Traefik, a sign-in takes one round and ends at the page that was asked for, whether Traefik is
// told of https, believes it, or neither.
func TestProxiedSignIn(t *testing.T) {
	t.Parallel()
	l := start(t)
	const callback, complete = "/oidc/callback", "https://{site}PORT/oidc/callback"
	secure := with{"session.secure": true}
	for _, trusts := range []bool{true, false} {
		t.Run(fmt.Sprint("trusted=", trusts), func(t *testing.T) {
			static := map[string]any{}
			if trusts {
				static["entryPoints"] = map[string]any{"web": map[string]any{"forwardedHeaders": map[string]any{"trustedIPs": []string{"127.0.0.1/32"}}}}
			}
			traefik, err := l.newTraefik(fmt.Sprint("traefik-proxied-", trusts), parts.TraefikOptions{Static: static})
			if err != nil {
				t.Fatal(err)
			}
			defer traefik.Stop()
			own := &lab{root: l.root, dir: l.dir, ca: l.ca, traefik: traefik, provider: l.provider, upstream: l.upstream}
			ports := startProxies(t, own)
			for _, row := range []struct {
				proxy, redirectURL string
				with               with
				trusted            bool // it takes a Traefik that trusts the proxy
				path               string
				rule               string
				hosts              []string // besides the site's: first labels
			}{
				{"says https", callback, nil, true, "/page?a=1", "", nil},
				{"says https", callback, secure, false, "/page?a=1", "", nil},
				{"says https", complete, nil, false, "/page?a=1", "", nil},
				{"says nothing", callback, secure, false, "/page?a=1", "", nil},
				{"says nothing", complete, nil, false, "/page?a=1", "", nil},
				{"says nothing", complete, secure, false, "/page?a=1", "", nil},
				{"says http", callback, secure, false, "/page", "", nil},
				{"says http", complete, nil, false, "/page", "", nil},
				{"says nothing", callback, secure, false, "/page", "HostRegexp(`^[a-z]+-{site}$`) || HOST", []string{"one-", "two-"}},
				{"says https", callback, nil, true, "/page", "HostRegexp(`^[a-z]+-{site}$`) || HOST", []string{"one-", "two-"}},
				{"drops the port", complete, nil, false, "/page?a=1", "", nil},
				{"has another host", complete, nil, true, "/page?a=1", "Host(`inner.e2e.localhost`) && PathPrefix(`/{site}`)", nil},
				{"takes a prefix off", callback, nil, true, "/app/page?a=1", "", nil},
				{"takes a prefix off", callback, secure, true, "/app/page?a=1", "", nil},
				{"takes a prefix off", "https://{site}PORT/app/oidc/callback", nil, true, "/app/page", "", nil},
			} {
				if row.trusted && !trusts {
					continue
				}
				port := ports[row.proxy]
				s := site{with: with{"redirectUrl": strings.ReplaceAll(row.redirectURL, "PORT", port), "logoutUrl": "/logout", "postLogoutRedirectUrl": "/"}, rule: row.rule}
				for name, value := range row.with {
					s.with[name] = value
				}
				s.callbacks = []string{"https://{site}" + port + callback, "https://{site}" + port + "/app" + callback}
				prefix := ""
				if strings.HasPrefix(row.path, "/app/") {
					prefix = "/app"
				}
				s.landings = []string{"https://{site}" + port + prefix + "/"}
				for _, host := range row.hosts {
					s.landings = append(s.landings, "https://"+host+"{site}"+port+"/")
					s.callbacks = append(s.callbacks, "https://"+host+"{site}"+port+callback)
				}
				path := row.path
				if strings.Contains(row.rule, "/{site}") { // all sites have one host there
					s.with["redirectUrl"] = "https://{site}" + port + "/{site}" + callback
					s.callbacks = []string{"https://{site}" + port + "/{site}" + callback}
					s.with["logoutUrl"] = "/{site}/logout"
					path = "/{site}" + path
				}
				app := own.serve(t, s)
				for _, host := range append([]string{""}, row.hosts...) {
					name := fmt.Sprintf("%s, %s %v, %s%s", row.proxy, row.redirectURL, row.with, host, row.path)
					alice := app.visitor(t)
					alice.base = "https://" + host + app.host + port
					page := alice.must(alice.SignIn(alice.url(app.fill(path)), provider.Alice.Name, provider.Alice.Password))
					if page.Header.Get(upstream.NumberHeader) == "" || page.URL.String() != alice.base+app.fill(path) {
						t.Errorf("%s: ends at %s\n%s", name, page, strings.Join(page.Trail, "\n"))
						continue
					}
					if rounds := strings.Count(strings.Join(page.Trail, "\n"), callback+"?"); rounds != 1 {
						t.Errorf("%s: %d rounds:\n%s", name, rounds, strings.Join(page.Trail, "\n"))
					}
					if strings.Contains(strings.Join(page.Trail, "\n"), "http://"+host+app.host) {
						t.Errorf("%s: it went over plain http:\n%s", name, strings.Join(page.Trail, "\n"))
					}
					if c := alice.sessionCookie(); !c.Secure || !strings.HasPrefix(c.Name, "__Host-") {
						t.Errorf("%s: the session's cookie is %s", name, c)
					}
					for range 3 {
						if got := alice.outcome(alice.look(app.fill(path))); got != "application" {
							t.Errorf("%s: afterwards %s", name, got)
						}
					}
					left := alice.post(prefix+app.fill(s.with["logoutUrl"].(string)), nil)
					if landing := " " + alice.base + prefix + "/"; !strings.Contains(strings.Join(left.Trail, "\n")+"\n", landing+"\n") || path == row.path && alice.outcome(left) != "sign-in" {
						t.Errorf("%s: the sign-out should land at%s:\n%s", name, landing, strings.Join(left.Trail, "\n"))
					}
				}
			}
		})
	}
}

// TestProxiedStripPrefix: behind Traefik's own stripPrefix, addresses and pages keep the prefix; nobody outside can make one up that leads
// off this origin.
func TestProxiedStripPrefix(t *testing.T) {
	t.Parallel()
	l := start(t)
	a := l.newApp(t, site{})
	for _, redirectURL := range []string{"/oidc/callback", "http://" + strings.TrimPrefix(a.URL, "http://") + "/app/oidc/callback"} {
		a.register(site{callbacks: []string{"/app/oidc/callback"}})
		t.Cleanup(func() { l.traefik.RemoveFile(a.name) })
		if err := l.traefik.SetFile(a.name, fmt.Sprintf(`
http:
  routers:
    %[1]s: {rule: "Host(`+"`%[2]s`"+`) && PathPrefix(`+"`/app`"+`)", service: %[1]s, middlewares: [%[1]s-strip, %[1]s]}
  middlewares:
    %[1]s-strip: {stripPrefix: {prefixes: [/app]}}
    %[1]s: {plugin: {oidc: {issuer: "%[3]s", clientId: %[1]s, clientSecret: "%[4]s", redirectUrl: "%[5]s", logoutUrl: /logout, claims: "!Equals(`+"`name`, `Bob Builder`"+`)"}}}
  services:
    %[1]s: {loadBalancer: {servers: [{url: "%[6]s"}]}}
`, a.name, a.host, a.provider.Issuer, a.secret(), redirectURL, l.upstream.URL)); err != nil {
			t.Fatal(err)
		}
		alice := a.visitor(t)
		page := alice.signIn("/app/page?a=1", provider.Alice)
		if page.URL.String() != a.URL+"/app/page?a=1" || alice.received(page).URI != "/page?a=1" {
			t.Errorf("%s: the sign-in ends at %s", redirectURL, page.URL)
		}
		for range 3 { // also who is remembered
			if got := alice.outcome(alice.look("/app/oidc/callback")); got != "redirect to /app/" {
				t.Errorf("%s: a bookmark of the callback: %s", redirectURL, got)
			}
		}
		alice.Header = http.Header{"X-Forwarded-Prefix": {"//evil.example.net"}, "X-Forwarded-Host": {"evil.example.net"}}
		nobody := a.visitor(t)
		nobody.Header = alice.Header
		for _, v := range []*visitor{alice, nobody} {
			for _, path := range []string{"/app/", "/app/oidc/callback", "/app/oidc/callback?code=a&state=b", "/app/logout"} {
				if page := v.look(path); strings.Contains(fmt.Sprint(page.Header), "evil") {
					t.Errorf("%s: %s: %v", redirectURL, path, page.Header)
				}
			}
		}
	}
}

// haproxies are HAProxy's usual ways to end TLS before Traefik: with the headers, and with the PROXY protocol beside them.
var haproxies = map[string]string{"headers": "", "PROXY": "send-proxy-v2"}

// startHAProxies runs a HAProxy in front of a Traefik, and returns the port of each way.
func startHAProxies(t *testing.T, l *lab) map[string]string {
	t.Helper()
	path := need(t, "haproxy")
	dir := t.TempDir()
	certificate, key, err := l.ca.Issue("*."+parts.Domain, parts.Domain)
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]string{}
	config := "global\n  maxconn 64\ndefaults\n  mode http\n  option forwardfor\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n"
	for name, more := range haproxies {
		port, err := parts.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		ports[name] = fmt.Sprint(":", port)
		config += fmt.Sprintf("listen %s\n  bind 127.0.0.1:%d ssl crt %s\n  http-request set-header X-Forwarded-Proto https if { ssl_fc }\n  server traefik %s source 127.0.0.2 %s\n",
			name, port, filepath.Join(dir, "both.pem"), strings.TrimPrefix(l.traefik.URL, "http://"), more)
	}
	for name, text := range map[string]string{"both.pem": certificate + key, "haproxy.cfg": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	process, err := parts.StartProcess(parts.Command{Name: "haproxy", Path: path, Args: []string{"-db", "-f", "haproxy.cfg"}, Dir: dir, LogFile: filepath.Join(dir, "haproxy.log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Stop)
	if err := process.WaitFor("it answered", 20*time.Second, func() bool {
		page, err := browser.New(nil).Look("https://traefik." + parts.Domain + ports["headers"] + "/api/version")
		return err == nil && page.Status == http.StatusOK
	}); err != nil {
		t.Fatal(err, process.Log(0))
	}
	return ports
}

// TestProxiedByHAProxy: a sign-in takes one round behind HAProxy as well, trusted or not, and whose address ClientIP is about is known
// where Traefik trusts what tells it, the header or the PROXY protocol.
func TestProxiedByHAProxy(t *testing.T) {
	t.Parallel()
	l := start(t)
	for _, trusts := range []bool{true, false} {
		t.Run(fmt.Sprint("trusted=", trusts), func(t *testing.T) {
			static := map[string]any{}
			if trusts {
				trusted := map[string]any{"trustedIPs": []string{"127.0.0.2/32"}}
				static["entryPoints"] = map[string]any{"web": map[string]any{"forwardedHeaders": trusted, "proxyProtocol": trusted}}
			}
			traefik, err := l.newTraefik(fmt.Sprint("traefik-haproxy-", trusts), parts.TraefikOptions{Static: static})
			if err != nil {
				t.Fatal(err)
			}
			defer traefik.Stop()
			own := &lab{root: l.root, dir: l.dir, ca: l.ca, traefik: traefik, provider: l.provider, upstream: l.upstream}
			for way, port := range startHAProxies(t, own) {
				if way == "PROXY" && !trusts { // Traefik reads the protocol's first bytes for a request, and refuses it
					page, err := browser.New(&tls.Config{RootCAs: l.ca.Pool()}).Look("https://traefik." + parts.Domain + port + "/api/version")
					if err == nil && page.Status != http.StatusBadRequest {
						t.Errorf("a PROXY protocol that nobody expects: %s", page)
					}
					continue
				}
				for redirectURL, secure := range map[string]any{"/oidc/callback": true, "https://{site}" + port + "/oidc/callback": drop, "{site}" + port + "/oidc/callback": drop} {
					// With the PROXY protocol a request comes from the browser's address, which no list of trusted proxies has, so Traefik drops
					// the headers beside it. Then only the configuration can say that it is https.
					if secure == drop && (!trusts || way == "PROXY") && !strings.HasPrefix(redirectURL, "https:") {
						continue
					}
					app := own.serve(t, site{with: with{"redirectUrl": redirectURL, "session.secure": secure},
						callbacks: []string{"https://{site}" + port + "/oidc/callback"}})
					alice := app.visitor(t)
					alice.base = "https://" + app.host + port
					page := alice.must(alice.SignIn(alice.url("/page?a=1"), provider.Alice.Name, provider.Alice.Password))
					trail := strings.Join(page.Trail, "\n")
					if page.Header.Get(upstream.NumberHeader) == "" || page.URL.String() != alice.base+"/page?a=1" || strings.Count(trail, "/oidc/callback?") != 1 {
						t.Errorf("%s, %s: ends at %s\n%s", way, redirectURL, page, trail)
						continue
					}
					if c := alice.sessionCookie(); !c.Secure || !strings.HasPrefix(c.Name, "__Host-") {
						t.Errorf("%s: the session's cookie is %s", way, c)
					}
					if n := app.provider.Grants("authorization_code", app.name); n != 1 {
						t.Errorf("%s: %d token requests", way, n)
					}
				}
				// The browser is at 127.0.0.1, HAProxy at 127.0.0.2, and what a client says of itself counts for nothing. With the PROXY protocol
				// the peer is the browser, and the header is dropped.
				for depth, want := range map[any]string{drop: map[string]string{"PROXY": "application", "headers": "sign-in"}[way], 1: map[bool]string{true: "application", false: "sign-in"}[trusts && way == "headers"]} {
					app := own.serve(t, site{with: with{"session.secure": true, "bypass": "ClientIP(`127.0.0.1`)", "ipStrategy.depth": depth}})
					for _, claimed := range []string{"", "192.0.2.1", "127.0.0.1"} {
						nobody := app.visitor(t)
						nobody.base = "https://" + app.host + port
						if claimed != "" {
							nobody.Header = http.Header{"X-Forwarded-For": {claimed}}
						}
						if got := nobody.outcome(nobody.look("/")); got != want {
							t.Errorf("%s, depth %v, X-Forwarded-For %q: %s, expected %s", way, depth, claimed, got, want)
						}
					}
				}
			}
		})
	}
}
