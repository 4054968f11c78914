package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// manyCost is a Traefik with many routers, with our plugin and with the do-nothing plugin in its place.
type manyCost struct {
	Routers     int `json:"routers"`
	Middlewares int `json:"middlewares"`
	// Processor time from the start of the process until all of them are served.
	Seconds        float64 `json:"seconds"`
	NothingSeconds float64 `json:"doNothingSeconds"`
	// Processor time of one change of another router, in milliseconds for each of these.
	Reload        float64 `json:"reloadMilliseconds"`
	NothingReload float64 `json:"doNothingReloadMilliseconds"`
}

const reloads = 5

// measureMany has many routers with one middleware, and as many middlewares of different options.
func (b *bench) measureMany() ([]manyCost, error) {
	nothing, err := b.writeNothing("oidc", "github.com/traefik-oidc/oidc")
	if err != nil {
		return nil, err
	}
	var many []manyCost
	for _, m := range []manyCost{{Routers: b.routers, Middlewares: 1}, {Routers: b.middlewares, Middlewares: b.middlewares}} {
		if m.Routers == 0 {
			continue
		}
		progress("%d routers, %d middlewares", m.Routers, m.Middlewares)
		if m.Seconds, m.Reload, err = b.serveMany(b.plugin, m); err != nil {
			return nil, err
		}
		if m.NothingSeconds, m.NothingReload, err = b.serveMany(nothing, m); err != nil {
			return nil, err
		}
		many = append(many, m)
	}
	progress("")
	return many, nil
}

// serveMany gives the processor seconds until all are served, and the milliseconds of a reload for each router, the median of some.
func (b *bench) serveMany(plugin string, m manyCost) (start, reload float64, err error) {
	dir, err := os.MkdirTemp(b.dir, "many-")
	if err != nil {
		return 0, 0, err
	}
	traefik, err := parts.StartTraefik(parts.TraefikOptions{Path: b.traefikPath, Dir: dir, Plugin: plugin, Static: quiet})
	if err != nil {
		return 0, 0, err
	}
	defer traefik.Stop()
	if err := traefik.SetFile("many", manyRoutes(m)); err != nil {
		return 0, 0, err
	}
	if err := traefik.RouteError(fmt.Sprintf("r%d", m.Routers-1)); err != nil {
		return 0, 0, err
	}
	used, err := settled(traefik.PID)
	if err != nil {
		return 0, 0, err
	}
	start = used.Seconds()
	var each []float64
	for i := range reloads {
		before := used
		if err := traefik.SetFile("other", fmt.Sprintf(`{"http":{"middlewares":{"other":{"headers":{"customRequestHeaders":{"X":"%d"}}}}}}`, i)); err != nil {
			return 0, 0, err
		}
		if used, err = settled(traefik.PID); err != nil {
			return 0, 0, err
		}
		each = append(each, float64((used-before).Microseconds())/1000/float64(m.Routers))
	}
	return start, median(each), nil
}

// settled is the processor time of a process that has stopped working.
func settled(pid int) (time.Duration, error) {
	used, err := cpuTime(pid)
	for quiet := 0; quiet < 3 && err == nil; {
		time.Sleep(300 * time.Millisecond)
		before := used
		if used, err = cpuTime(pid); used-before <= 10*time.Millisecond {
			quiet++
		} else {
			quiet = 0
		}
	}
	return used, err
}

// manyRoutes is the dynamic configuration. The do-nothing plugin ignores the options.
func manyRoutes(m manyCost) string {
	routers, middlewares := map[string]any{}, map[string]any{}
	for i := range m.Middlewares {
		options := map[string]any{"issuer": "https://id.example.com", "clientId": fmt.Sprintf("app-%d", i), "clientSecret": clientSecret,
			"claims": "Contains(`groups`, `users`)", "bypass": "PathPrefix(`/public`)", "forwardHeaders": map[string]any{"X-User": "sub", "X-Email": "email"}}
		middlewares[fmt.Sprintf("m%d", i)] = map[string]any{"plugin": map[string]any{"oidc": options}}
	}
	for i := range m.Routers {
		routers[fmt.Sprintf("r%d", i)] = map[string]any{"rule": fmt.Sprintf("Host(`r%d.%s`)", i, parts.Domain), "service": "app",
			"entryPoints": []string{"web"}, "middlewares": []string{fmt.Sprintf("m%d", i%m.Middlewares)}}
	}
	services := map[string]any{"app": map[string]any{"loadBalancer": map[string]any{"servers": []any{map[string]any{"url": "http://127.0.0.1:9"}}}}}
	text, _ := json.Marshal(map[string]any{"http": map[string]any{"routers": routers, "middlewares": middlewares, "services": services}}) // texts alone
	return string(text)
}
