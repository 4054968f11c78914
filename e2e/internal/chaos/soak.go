package chaos

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// Sample is what one Traefik was at a moment of a long run.
type Sample struct {
	Minute      float64
	Requests    int            // so far
	Answers     map[string]int // the same, by status
	Resident    float64        // MB, as the kernel counts
	Heap        float64        // MB in use, after a collection
	Goroutines  int
	Files       int // open, connections among them
	Connections int // of Redis, without ours
	Reloads     int
}

// Soak is what came of a long run.
type Soak struct {
	Minutes float64
	Options string
	Samples []Sample
	*Tally
	Tokens  map[string]int // answers to bearer tokens, as "good: 200"
	Unasked map[string]int // answers that nobody should get, or growth
}

// SoakOptions say how long, and how many sessions, cookies and tokens fill the memories first.
type SoakOptions struct {
	Options
	Length time.Duration
	Every  time.Duration // between two samples
	Fill   int
}

// RunSoak lets people work for a long time with one Traefik: with sessions in cookies and in Redis, with cookies that change, with tokens
// that are good and others that are not, while its configuration changes. Nothing may grow once its memories are full.
func RunSoak(o SoakOptions) (*Soak, error) {
	if o.Progress == nil {
		o.Progress = func(string, ...any) {}
	}
	o.Traefiks = 1
	r, err := start(o.Options)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	s := &soak{rig: r, options: o, report: &Soak{Tokens: map[string]int{}, Unasked: map[string]int{}}, stop: make(chan struct{})}
	err = s.run()
	return s.report, err
}

type soak struct {
	*rig
	options SoakOptions
	report  *Soak
	crowds  []*crowd

	mu   sync.Mutex
	stop chan struct{}
	all  sync.WaitGroup
}

const tokenRoute = routeName + "-tokens"

func (s *soak) run() error {
	for _, kind := range []string{cookies, single} {
		at, err := s.serve(kind)
		if err != nil {
			return err
		}
		c := at.gather()
		defer c.disperse()
		s.crowds = append(s.crowds, c)
	}
	if err := s.serveTokens(); err != nil {
		return err
	}
	for _, c := range s.crowds {
		if err := c.allCalm(restLimit); err != nil {
			return err
		}
	}
	logs, began := s.readLogs(), time.Now()
	for _, c := range s.crowds {
		c.note(func(t *Tally) { *t = *newTally() })
		c.busy.Store(true)
		s.all.Go(func() { s.changing(c) })
	}
	s.all.Go(s.tokens)
	s.all.Go(s.reloading)
	defer func() {
		close(s.stop)
		s.all.Wait()
	}()
	for s.pause(s.options.Every) && time.Since(began) < s.options.Length {
		if err := s.sample(began); err != nil {
			return err
		}
		s.provider.Forget()
		s.crowds[0].bound()
		s.crowds[1].bound()
	}
	s.sum(logs, began)
	return nil
}

// pause waits, and says whether the run goes on.
func (s *soak) pause(d time.Duration) bool {
	select {
	case <-s.stop:
		return false
	case <-time.After(d):
		return true
	}
}

// bound forgets the oldest ghosts: a long run has thousands.
func (c *crowd) bound() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ghosts = slices.Delete(c.ghosts, 0, max(0, len(c.ghosts)-200))
}

// changing makes requests of somebody who is signed in, and whose cookies are others each time, as a counter in one makes them. The first
// ones come as fast as they can and fill the memories.
func (s *soak) changing(c *crowd) {
	steady := &person{crowd: c, name: userName(2*s.People + c.first/s.People), b: newBrowser()}
	steady.signIn()
	client := lookClient()
	for n := 0; s.pause(time.Duration(0)); n++ {
		status, as := look(client, c.url(0)+"/changing", steady.cookie()+"; visits="+strconv.Itoa(n))
		c.note(func(t *Tally) {
			t.Answers[fmt.Sprint(status)]++
			if status == http.StatusOK && as != steady.name {
				t.Confused = append(t.Confused, fmt.Sprintf("%s was taken for %q", steady.name, as))
			}
		})
		if n%20 == 0 { // its session is refreshed by requests that take the new cookie
			if steady.ask(0) {
				steady.state = out
			}
		}
		if status != http.StatusOK || steady.state != in {
			steady.signIn() // its user may have been logged out
		}
		if n > s.options.Fill {
			s.pause(20 * time.Millisecond)
		}
	}
}

// serveTokens adds a route for bearer tokens of the provider.
func (s *soak) serveTokens() error {
	options := map[string]any{"logLevel": "warn", "jwt": map[string]any{
		"issuer": s.provider.Issuer, "jwksUrl": s.provider.Issuer + "/jwks", "audience": "api", "forwardHeaders": map[string]any{"X-User": "sub"},
	}}
	s.limit(options)
	return s.traefiks[0].SetRoutes(tokenRoute, parts.Route{Name: tokenRoute, Options: options, Backend: s.upstream.URL})
}

// tokens sends bearer tokens, each a new one: good ones, ended ones, those of another audience, and some that are none.
func (s *soak) tokens() {
	address := "http://" + strings.Replace(s.traefiks[0].options.Addr, ownHost, tokenRoute+"."+parts.Domain, 1) + "/api"
	client := lookClient()
	for n := 0; s.pause(0); n++ {
		claims := map[string]any{"iss": s.provider.Issuer, "aud": "api", "sub": fmt.Sprint("machine-", n), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()}
		kind, want := "good", http.StatusOK
		switch n % 5 {
		case 1:
			kind, want = "ended", http.StatusUnauthorized
			claims["exp"] = time.Now().Add(-time.Hour).Unix()
		case 2:
			kind, want = "of another audience", http.StatusUnauthorized
			claims["aud"] = "another api"
		case 3:
			kind, want = "no token", http.StatusUnauthorized
		}
		token, err := s.provider.Sign(claims)
		if err != nil {
			continue
		}
		if kind == "no token" {
			token = strings.Replace(token, ".", ".x", 1)
		}
		req, _ := http.NewRequest(http.MethodGet, address, nil)
		req.Header.Set("Authorization", "Bearer "+token)
		status := 0
		resp, err := client.Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			status = resp.StatusCode
		}
		s.mu.Lock()
		s.report.Tokens[fmt.Sprintf("%s: %d", kind, status)]++
		if status != want {
			s.report.Unasked[fmt.Sprintf("a token, %s: %d", kind, status)]++
		}
		s.mu.Unlock()
		if n > s.options.Fill {
			s.pause(30 * time.Millisecond)
		}
	}
}

// reloading changes the options of one site after the other, for ever.
func (s *soak) reloading() {
	for n := 1; s.pause(5 * time.Second); n++ {
		c := s.crowds[n%len(s.crowds)]
		if err := c.route(s.traefiks[0], map[string]any{"secret": firstSecret, "expiry": 86400 - n%7}); err != nil {
			s.mu.Lock()
			s.report.Unasked["a reload: "+err.Error()]++
			s.mu.Unlock()
		}
	}
}

var (
	goroutineTotal = regexp.MustCompile(`goroutine profile: total (\d+)`)
	heapInUse      = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)`)
	residentSize   = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB`)
)

// sample looks at Traefik.
func (s *soak) sample(began time.Time) error {
	traefik := s.traefiks[0]
	sample := Sample{Minute: time.Since(began).Minutes(), Answers: map[string]int{}}
	for _, c := range s.crowds {
		c.note(func(t *Tally) {
			for status, n := range t.Answers {
				sample.Answers[status] += n
				sample.Requests += n
			}
		})
	}
	for range 3 { // what has a finalizer goes in the second collection; requests between two count as little as can be
		heap, err := profiled(traefik.Traefik, "heap", heapInUse)
		if err != nil {
			return err
		}
		if mb := float64(heap) / (1 << 20); sample.Heap == 0 || mb < sample.Heap {
			sample.Heap = mb
		}
	}
	var err error
	if sample.Goroutines, err = profiled(traefik.Traefik, "goroutine", goroutineTotal); err != nil {
		return err
	}
	if runtime.GOOS == "linux" {
		process := filepath.Join("/proc", strconv.Itoa(traefik.PID))
		status, _ := os.ReadFile(filepath.Join(process, "status"))
		if found := residentSize.FindSubmatch(status); found != nil {
			kb, _ := strconv.Atoi(string(found[1]))
			sample.Resident = float64(kb) / 1024
		}
		open, _ := os.ReadDir(filepath.Join(process, "fd"))
		sample.Files = len(open)
	}
	list, err := s.crowds[1].store.nodes[0].do("CLIENT", "LIST", "TYPE", "normal")
	if err != nil {
		return err
	}
	sample.Connections = strings.Count(fmt.Sprint(list), "\n") - 1
	sample.Reloads, _ = traefik.Reloads()
	s.report.Samples = append(s.report.Samples, sample)
	s.options.Progress("%5.1f min: %d requests, %.0f MB resident, %.1f MB heap, %d goroutines, %d files, %d connections to Redis, %d reloads",
		sample.Minute, sample.Requests, sample.Resident, sample.Heap, sample.Goroutines, sample.Files, sample.Connections, sample.Reloads)
	return nil
}

func profiled(t *parts.Traefik, name string, pattern *regexp.Regexp) (int, error) {
	text, err := t.Profile(name)
	if err != nil {
		return 0, err
	}
	found := pattern.FindStringSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("the %s profile has no %s", name, pattern)
	}
	return strconv.Atoi(found[1])
}

// sum joins what both crowds saw, and judges growth.
func (s *soak) sum(logs *logReader, began time.Time) {
	for _, c := range s.crowds {
		c.busy.Store(false)
	}
	report := s.report
	report.Tally = newTally()
	for _, c := range s.crowds {
		c.exorcise()
		c.note(func(t *Tally) { report.add(t) })
	}
	logs.count(report.Tally)
	report.Minutes = time.Since(began).Minutes()
	report.Options = fmt.Sprintf("2 × %d people, memory: %d, %d cookies and tokens at once first, a reload every 5 s", s.People, s.Memory, s.options.Fill)
	s.mu.Lock()
	defer s.mu.Unlock()
	report.judge(s.Traefiks)
}

func (t *Tally) add(other *Tally) {
	for _, pair := range [][2]map[string]int{{t.Answers, other.Answers}, {t.Strange, other.Strange}} {
		for name, n := range pair[1] {
			pair[0][name] += n
		}
	}
	t.Confused = append(t.Confused, other.Confused...)
	t.Events = append(t.Events, other.Events...)
	for _, pair := range [][2]*int{
		{&t.Lost, &other.Lost}, {&t.SignIns, &other.SignIns}, {&t.SignInsRefused, &other.SignInsRefused}, {&t.SignOuts, &other.SignOuts},
		{&t.SignOutsRefused, &other.SignOutsRefused}, {&t.SignOutsUndone, &other.SignOutsUndone}, {&t.Pushes, &other.Pushes},
		{&t.PushesRefused, &other.PushesRefused}, {&t.PushesUndone, &other.PushesUndone}, {&t.TooSlow, &other.TooSlow},
	} {
		*pair[0] += *pair[1]
	}
	t.Slowest = max(t.Slowest, other.Slowest)
}

// judge says what should not be. In a run of 20 minutes or more the memories are full when half of the time has passed; from then on nothing
// grows.
func (r *Soak) judge(traefiks int) {
	row := Row{Seconds: 60 * r.Minutes, Tally: r.Tally}
	row.judge(fault{}, nil, traefiks)
	for _, broken := range row.Broken {
		r.Unasked[broken]++
	}
	if refused := r.SignInsRefused + r.SignOutsRefused + r.PushesRefused; refused > 0 {
		r.Unasked["sign-ins, sign-outs and pushed logouts refused"] = refused
	}
	n := len(r.Samples)
	if n < 4 {
		return
	}
	third, last := r.Samples[n/2:n*3/4], r.Samples[n*3/4:]
	heapSlack := 4.0
	if r.Minutes < 20 { // the memories are not full yet
		heapSlack = 8
	}
	for name, of := range map[string]struct {
		value func(Sample) float64
		slack float64
	}{
		"heap, MB":             {func(s Sample) float64 { return s.Heap }, heapSlack},
		"goroutines":           {func(s Sample) float64 { return float64(s.Goroutines) }, 40},
		"files":                {func(s Sample) float64 { return float64(s.Files) }, 40},
		"connections to Redis": {func(s Sample) float64 { return float64(s.Connections) }, 8},
	} {
		before, after := middle(third, of.value), middle(last, of.value)
		if after > before*1.1+of.slack {
			r.Unasked[fmt.Sprintf("%s grew from %.1f to %.1f", name, before, after)]++
		}
	}
}

func middle(samples []Sample, value func(Sample) float64) float64 {
	var values []float64
	for _, s := range samples {
		values = append(values, value(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// Wrong are a line each of what should not have been.
func (r *Soak) Wrong() []string {
	lines := make([]string, 0, len(r.Unasked))
	for what, n := range maps.All(r.Unasked) {
		lines = append(lines, fmt.Sprintf("%d× %s", n, what))
	}
	slices.Sort(lines)
	return lines
}

// Table is the run in Markdown, twelve samples of it.
func (r *Soak) Table() string {
	var b strings.Builder
	b.WriteString("| minute | requests | answers | resident MB | heap MB | goroutines | open files | connections to Redis | reloads |\n|---|---|---|---|---|---|---|---|---|\n")
	step := max(1, (len(r.Samples)+11)/12)
	for i, s := range r.Samples {
		if i%step == 0 || i == len(r.Samples)-1 {
			fmt.Fprintf(&b, "| %.1f | %d | %s | %.0f | %.1f | %d | %d | %d | %d |\n", s.Minute, s.Requests, counts(s.Answers), s.Resident, s.Heap, s.Goroutines, s.Files, s.Connections, s.Reloads)
		}
	}
	if r.Tally != nil {
		fmt.Fprintf(&b, "\n%s, %.1f minutes: sign-ins %d, sign-outs %s, pushed logouts %s; tokens %s; slowest request %s; %d log lines\n",
			r.Options, r.Minutes, r.SignIns, done(r.SignOuts, r.SignOutsRefused, r.SignOutsUndone), done(r.Pushes, r.PushesRefused, r.PushesUndone),
			counts(r.Tokens), r.Slowest.Round(time.Millisecond), r.LogLines)
	}
	return b.String()
}
