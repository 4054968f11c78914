package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// burst is one round of one case.
type burst struct{ perSecond, cpu, p50, p99 float64 }

// measure lets the cases take turns and gives their medians.
func (b *bench) measure() ([]row, error) {
	for i, c := range b.cases {
		if b.skips(i) {
			continue
		}
		if err := b.check(c); err != nil {
			return nil, err
		}
		if !c.isFresh { // the first visit of each is another row; a token is known when it came twice
			for _, err := range []error{b.visit(c.at, c.route, "Cookie", "", c.cookies), b.visit(c.at, c.route, "Authorization", "Bearer ", append(c.tokens, c.tokens...))} {
				if err != nil {
					return nil, err
				}
			}
		}
		if _, err := b.burst(c, 1); err != nil { // warm: connections, caches, the first garbage collections
			return nil, err
		}
	}
	for round := range b.rounds {
		for i, c := range b.cases {
			if b.skips(i) {
				continue
			}
			progress("round %d of %d: %s", round+1, b.rounds, c.name)
			made, err := b.burst(c, b.seconds)
			if err != nil {
				return nil, err
			}
			c.rounds = append(c.rounds, made)
		}
	}
	progress("")
	var rows []row
	for i, c := range b.cases {
		if !b.skips(i) {
			rows = append(rows, summary(c, b.named(c.against)))
		}
	}
	unit := summary(b.named(yardstick), b.named(doNothing)).Over
	for i := range rows {
		rows[i].Yardsticks = rows[i].Over / unit
	}
	return rows, nil
}

func (b *bench) named(name string) *load {
	for _, c := range b.cases {
		if c.name == name {
			return c
		}
	}
	return nil
}

// progress shows what is going on, in one line of a terminal.
func progress(format string, args ...any) {
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(os.Stderr, "\r%-80s\r", fmt.Sprintf(format, args...))
	}
}

// skips says that a case was not asked for. The ones that others are compared with always are.
func (b *bench) skips(number int) bool {
	one := b.cases[number]
	for _, c := range b.cases {
		if strings.Contains(c.name, b.only) && (one == c || c.against == one.name) {
			return false
		}
	}
	return one.name != yardstick && one.name != doNothing
}

func summary(c, against *load) row {
	of := func(value func(burst) float64) float64 {
		var values []float64
		for _, b := range c.rounds {
			values = append(values, value(b))
		}
		return median(values)
	}
	var over, ratio []float64
	for i, b := range c.rounds {
		over = append(over, b.cpu-against.rounds[i].cpu)
		ratio = append(ratio, b.perSecond/against.rounds[i].perSecond)
	}
	return row{
		Name: c.name, Over: median(over), Ratio: median(ratio),
		PerSecond: of(func(b burst) float64 { return b.perSecond }),
		CPU:       of(func(b burst) float64 { return b.cpu }),
		P50:       of(func(b burst) float64 { return b.p50 }),
		P99:       of(func(b burst) float64 { return b.p99 }),
	}
}

// check sends one request of a case and fails unless the upstream answers: a fast refusal is no result.
func (b *bench) check(c *load) error {
	req, err := http.NewRequest(http.MethodGet, c.at.URL+"/", nil)
	if err != nil {
		return err
	}
	req.Host = c.route + "." + parts.Domain
	req.Header.Set("Cookie", strings.ReplaceAll(c.cookie, "%d", "0"))
	bearer := c.bearer
	if c.tokens != nil {
		bearer = c.tokens[len(c.tokens)-1]
	}
	if c.cookies != nil {
		req.Header.Set("Cookie", c.cookies[len(c.cookies)-1])
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: expected 200, got %s; Traefik's log ends:\n%s", c.name, res.Status, lastLines(c.at.Log(0), 5))
	}
	return nil
}

func lastLines(text string, count int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}

// burst sends load for some seconds.
func (b *bench) burst(c *load, seconds int) (burst, error) {
	before, err := b.cpu(c)
	if err != nil {
		return burst{}, err
	}
	result, err := b.send(c, b.connections, seconds)
	if err != nil {
		return burst{}, fmt.Errorf("%s: %w", c.name, err)
	}
	after, err := b.cpu(c)
	if err != nil {
		return burst{}, err
	}
	return burst{
		perSecond: float64(result.Requests) / (float64(result.Microseconds) / 1e6),
		cpu:       float64((after - before).Microseconds()) / float64(result.Requests),
		p50:       result.P50 / 1000, p99: result.P99 / 1000,
	}, nil
}

// cpu is what the Traefik of a case and the sidecar have used until now.
func (b *bench) cpu(c *load) (time.Duration, error) {
	traefik, err := cpuTime(c.at.PID)
	if err != nil || b.sidecar == nil {
		return traefik, err
	}
	sidecar, err := cpuTime(b.sidecar.PID)
	return traefik + sidecar, err
}

// sent is the line of JSON that load.lua prints.
type sent struct {
	Requests, Microseconds, Bad int
	P50, P99                    float64
}

func (b *bench) send(c *load, connections, seconds int) (sent, error) {
	tokens, err := b.write(c, "tokens", c.tokens, seconds)
	if err != nil {
		return sent{}, err
	}
	cookies, err := b.write(c, "cookies", c.cookies, seconds)
	if err != nil {
		return sent{}, err
	}
	cmd := exec.CommandContext(b.ctx, b.wrk, "-t1", "-c"+strconv.Itoa(connections), "-d"+strconv.Itoa(seconds)+"s", "--latency",
		"-s", filepath.Join(b.dir, "load.lua"), c.at.URL)
	cmd.Env = append(os.Environ(), "HOST_NAME="+c.route+"."+parts.Domain, "COOKIE="+c.cookie, "BEARER="+c.bearer, "TOKENS="+tokens, "COOKIES="+cookies)
	out, err := cmd.CombinedOutput()
	result := sent{}
	if err != nil {
		return result, fmt.Errorf("wrk: %w\n%s", err, lastLines(string(out), 10))
	}
	_, line, found := strings.Cut(string(out), "RESULT ")
	if !found {
		return result, fmt.Errorf("wrk: no result in %q", out)
	}
	if err := json.Unmarshal([]byte(line), &result); err != nil {
		return result, err
	}
	if result.Bad > 0 || result.Requests == 0 {
		return result, fmt.Errorf("%d of %d requests failed; Traefik's log ends:\n%s", result.Bad, result.Requests, lastLines(c.at.Log(0), 5))
	}
	if c.isFresh && result.Requests > freshRate*seconds {
		return result, fmt.Errorf("%d requests in %d s, and no more than %d may be fresh: make freshRate higher", result.Requests, seconds, freshRate*seconds)
	}
	return result, nil
}

// write gives wrk a file of what it sends in turn: all of it, or, where nothing may come twice, what was not sent yet.
func (b *bench) write(c *load, kind string, all []string, seconds int) (string, error) {
	if all == nil {
		return "", nil
	}
	if c.isFresh {
		all = all[c.sent : c.sent+freshRate*seconds]
		c.sent += len(all)
	}
	path := filepath.Join(b.dir, kind)
	return path, os.WriteFile(path, []byte(strings.Join(all, "\n")+"\n"), 0o600)
}

// startCost is a fresh Traefik with our plugin, against one with the do-nothing plugin in its place. Medians.
type startCost struct {
	Seconds          float64 `json:"seconds"`
	NothingSeconds   float64 `json:"doNothingSeconds"`
	RSS              float64 `json:"residentMB"`
	NothingRSS       float64 `json:"doNothingResidentMB"`
	LoadedRSS        float64 `json:"residentAfterLoadMB"`
	NothingLoadedRSS float64 `json:"doNothingResidentAfterLoadMB"`
}

// measureStart starts both in turn. The do-nothing plugin goes under our plugin's name, so that nothing else differs.
func (b *bench) measureStart() (startCost, error) {
	if err := b.startUpstream(); err != nil {
		return startCost{}, err
	}
	defer b.upstream.Close()
	nothing, err := b.writeNothing("oidc", "github.com/traefik-oidc/oidc")
	if err != nil {
		return startCost{}, err
	}
	var seconds, rss, loaded [2][]float64
	for round := range b.rounds {
		for which, plugin := range []string{b.plugin, nothing} {
			progress("start %d of %d", round+1, b.rounds)
			s, r, l, err := b.startOnce(plugin)
			if err != nil {
				return startCost{}, err
			}
			seconds[which] = append(seconds[which], s)
			rss[which] = append(rss[which], r)
			loaded[which] = append(loaded[which], l)
		}
	}
	progress("")
	return startCost{
		Seconds: median(seconds[0]), NothingSeconds: median(seconds[1]), RSS: median(rss[0]), NothingRSS: median(rss[1]),
		LoadedRSS: median(loaded[0]), NothingLoadedRSS: median(loaded[1]),
	}, nil
}

// startOnce starts a Traefik with one route, and looks at its memory before and after some load. The route's bypass rule lets the load
// through, for there is no provider any more.
func (b *bench) startOnce(plugin string) (seconds, rss, loaded float64, err error) {
	dir, err := os.MkdirTemp(b.dir, "start-")
	if err != nil {
		return 0, 0, 0, err
	}
	begin := time.Now()
	traefik, err := parts.StartTraefik(parts.TraefikOptions{Path: b.traefikPath, Dir: dir, Plugin: plugin, Static: quiet})
	if err != nil {
		return 0, 0, 0, err
	}
	defer traefik.Stop()
	seconds = time.Since(begin).Seconds()
	err = traefik.SetRoutes("start", parts.Route{Name: "start", Backend: b.backend, Options: map[string]any{"issuer": "https://id.example.com",
		"clientId": clientID, "clientSecret": clientSecret, "claims": "Contains(`groups`, `users`)", "bypass": "Method(`GET`)"}})
	if err != nil {
		return 0, 0, 0, err
	}
	time.Sleep(time.Second)
	if rss, err = resident(traefik.PID); err != nil {
		return 0, 0, 0, err
	}
	if _, err = b.send(&load{route: "start", at: traefik}, b.connections, 2); err != nil {
		return 0, 0, 0, err
	}
	loaded, err = resident(traefik.PID)
	return seconds, rss, loaded, err
}
