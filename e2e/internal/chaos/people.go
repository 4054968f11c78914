package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/traefik-oidc/oidc/e2e/internal/browser"
)

// What a person knows about the own session.
const (
	out    = iota // never signed in, or signed out, or was told so
	in            // signed in, and nothing has ended it
	unsure        // something was begun and answered with an error: whatever comes is right
)

// person is somebody with a browser, who does one thing at a time.
type person struct {
	crowd *crowd
	name  string

	b      *browser.Browser
	home   int
	state  int
	lastOK atomic.Bool // the last answer let this person in
	mu     sync.Mutex
	sid    string      // of the session at the provider
	calm   atomic.Bool // signed in, and let in by every Traefik a moment ago
	ended  atomic.Bool // the provider has locked this person out: the end of the session is right
}

// crowd are all people, and what they saw.
type crowd struct {
	*site  // where they are
	people []*person
	busy   atomic.Bool // else nobody signs out, and who is out signs in

	mu     sync.Mutex
	tally  *Tally
	ghosts []*ghost

	leave context.CancelFunc
	gone  sync.WaitGroup
}

// Tally counts what happened during one fault.
type Tally struct {
	Answers  map[string]int // to requests of people who work
	Lost     int            // people who were out without cause
	Confused []string       // somebody was taken for somebody else
	Strange  map[string]int // answers that nobody should get

	SignIns, SignInsRefused     int
	SignOuts, SignOutsRefused   int
	SignOutsUndone              int
	Pushes, PushesRefused       int
	PushesUndone                int
	Refreshes, Reused, DeadSent int
	Slowest                     time.Duration
	TooSlow                     int // requests beyond the limit
	LogLines                    int
	LogPeak                     int            // the most of one Traefik in one second
	Lines                       map[string]int // by kind
	Events                      []string       // what was lost, when and where

	began time.Time
}

func newTally() *Tally {
	return &Tally{Answers: map[string]int{}, Strange: map[string]int{}, Lines: map[string]int{}, began: time.Now()}
}

// ghost is the cookie of a session that has ended, as somebody might have kept it.
type ghost struct {
	who     string
	cookie  string
	since   time.Time // it is dead from here on
	where   []int     // Traefiks that have to know
	pushed  bool      // by the provider
	counted bool
}

func (s *site) gather() *crowd {
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{site: s, tally: newTally(), leave: cancel}
	for i := range s.People {
		p := &person{crowd: c, name: userName(s.first + i), b: newBrowser(), home: i % s.Traefiks}
		c.people = append(c.people, p)
		c.gone.Go(func() { p.live(ctx) })
	}
	c.gone.Go(func() { c.haunt(ctx) })
	return c
}

func (c *crowd) disperse() {
	c.leave()
	c.gone.Wait()
}

// note changes the tally.
func (c *crowd) note(change func(t *Tally)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c.tally)
}

func (t *Tally) event(format string, args ...any) {
	if len(t.Events) < 200 {
		t.Events = append(t.Events, fmt.Sprintf("%5.1f s: ", time.Since(t.began).Seconds())+fmt.Sprintf(format, args...))
	}
}

// limit is how long a request may take: twice timeoutSeconds, and what the machine adds.
func (c *crowd) limit() time.Duration {
	return 2*timeout + 1500*time.Millisecond + 2*c.stall.peek()
}

// live is a person's day.
func (p *person) live(ctx context.Context) {
	for ctx.Err() == nil {
		pause := 150 + rand.IntN(350)
		if p.calm.Load() {
			pause += 600
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(pause) * time.Millisecond):
		}
		busy := p.crowd.busy.Load()
		dice := rand.IntN(1000)
		switch {
		case p.state != in:
			p.calm.Store(false)
			if !busy || dice < 400 {
				p.signIn()
			}
		case busy && dice < 40:
			p.signOut()
		case busy && dice < 65:
			p.pushOut()
		case busy && dice < 300:
			p.work(p.traefik(), p.traefik()) // two tabs
		case busy:
			p.work(p.traefik())
		default:
			p.everywhere()
		}
	}
}

// traefik is the one that a balancer chooses. Sessions in cookies want it to stay with its choice: two Traefiks that refresh one session
// would spend the refresh token twice.
func (p *person) traefik() int {
	r := p.crowd
	if r.store.kind != cookies {
		return r.anyTraefik()
	}
	if r.traefiks[p.home].down() {
		p.home = r.anyTraefik()
	}
	return p.home
}

// work makes requests at once, one at each of the Traefiks.
func (p *person) work(traefiks ...int) {
	results := make([]bool, len(traefiks))
	var all sync.WaitGroup
	for i, traefik := range traefiks {
		all.Go(func() { results[i] = p.ask(traefik) })
	}
	all.Wait()
	for _, isOut := range results {
		if isOut {
			p.isOut()
			return
		}
	}
}

// everywhere is what people do in quiet times: they see that each Traefik lets them in.
func (p *person) everywhere() {
	calm := true
	for i, g := range p.crowd.traefiks {
		if g.down() || p.crowd.store.kind == cookies && i != p.traefik() {
			continue
		}
		before := p.state
		if p.ask(i) {
			p.isOut()
			calm = false
			break
		}
		calm = calm && before == in && p.lastOK.Load()
	}
	p.calm.Store(calm && p.state == in)
}

// ask makes one request and judges the answer. True: the answer says that nobody is signed in.
func (p *person) ask(traefik int) bool {
	c := p.crowd
	began := time.Now()
	page, err := p.b.Fetch(http.MethodGet, c.url(traefik)+"/work", "", nil)
	took := time.Since(began)
	p.lastOK.Store(false)
	if err != nil {
		if !c.traefiks[traefik].down() && !c.isCut(traefik) {
			c.note(func(t *Tally) { t.Strange["no answer"]++; t.event("%s at %d: %v", p.name, traefik, err) })
		}
		return false
	}
	as := headerIn(page.Body, "X-User")
	c.note(func(t *Tally) {
		t.Answers[fmt.Sprint(page.Status)]++
		t.Slowest = max(t.Slowest, took)
		if took > c.limit() && !c.isCut(traefik) {
			t.TooSlow++
			t.event("%s at %d: %d after %s", p.name, traefik, page.Status, took.Round(time.Millisecond))
		}
		switch {
		case page.Status == http.StatusOK && as != p.name:
			t.Confused = append(t.Confused, fmt.Sprintf("%s was taken for %q", p.name, as))
		case page.Status != http.StatusOK && page.Status != http.StatusUnauthorized && page.Status != http.StatusServiceUnavailable:
			t.Strange[fmt.Sprint(page.Status)]++
			t.event("%s at %d: %d %s", p.name, traefik, page.Status, words(page.Body))
		}
	})
	if page.Status == http.StatusOK {
		p.lastOK.Store(true)
		if sid := headerIn(page.Body, "X-Sid"); sid != "" {
			p.mu.Lock()
			p.sid = sid
			p.mu.Unlock()
		}
	}
	if page.Status == http.StatusUnauthorized && p.state == in && !p.ended.Load() {
		c.note(func(t *Tally) { t.event("%s at %d: out without cause", p.name, traefik) })
	}
	return page.Status == http.StatusUnauthorized
}

// isOut notes that the session has ended, and whether it should not have.
func (p *person) isOut() {
	if p.state == in && !p.ended.Load() {
		p.crowd.note(func(t *Tally) { t.Lost++ })
	}
	p.ended.Store(false)
	p.state = out
}

// signIn goes by the provider's form, or past it for who is signed in there.
func (p *person) signIn() {
	c := p.crowd
	traefik := p.traefik()
	address := c.url(traefik) + "/"
	page, err := p.b.Open(address)
	if err == nil && strings.Contains(page.Body, `type="password"`) {
		page, err = p.b.Submit(page, url.Values{"username": {p.name}, "password": {"secret"}})
	}
	done := err == nil && page.Status == http.StatusOK && strings.HasPrefix(page.URL.String(), address) && strings.Contains(page.Body, p.name)
	if done {
		p.state = in
		p.ended.Store(false)
		p.mu.Lock()
		p.sid = "" // the next answer tells it
		p.mu.Unlock()
		c.note(func(t *Tally) { t.SignIns++ })
		return
	}
	p.state = unsure
	if c.traefiks[traefik].down() || c.isCut(traefik) {
		return
	}
	c.note(func(t *Tally) {
		t.SignInsRefused++
		if err == nil && page.Status != http.StatusServiceUnavailable {
			ours := "the provider's"
			if strings.HasPrefix(page.URL.String(), address) {
				ours = "at " + page.URL.Path
				t.Strange[fmt.Sprintf("sign-in: %d at %s", page.Status, page.URL.Path)]++
			}
			t.event("%s signing in at %d: %d, %s: %s", p.name, traefik, page.Status, ours, words(page.Body))
		}
	})
}

var markup = regexp.MustCompile(`(?s)^.*<body|<[^>]*>|\s+`)

// words are the first ones that somebody reads on a page.
func words(body string) string {
	text := strings.Join(strings.Fields(markup.ReplaceAllString(body, " ")), " ")
	return text[:min(len(text), 200)]
}

// cookie is what the browser would send to the site now.
func (p *person) cookie() string {
	var pairs []string
	for _, c := range p.b.Cookies(p.crowd.url(0) + "/") {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return strings.Join(pairs, "; ")
}

// signOut is the button of the application, while another tab has a request under way.
func (p *person) signOut() {
	c := p.crowd
	traefik := p.traefik()
	before := p.cookie()
	var tab sync.WaitGroup
	if rand.IntN(2) == 0 {
		tab.Go(func() { p.tab(p.traefik()) })
		time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
	}
	page, err := p.b.Fetch(http.MethodPost, c.url(traefik)+logoutPath, "", nil)
	done := err == nil && page.Status >= 302 && page.Status <= 303 && strings.HasPrefix(page.Header.Get("Location"), c.provider.Issuer)
	ended := time.Now()
	tab.Wait()
	if !done {
		p.state = out
		p.newBrowser() // half of it may have been done
		c.note(func(t *Tally) {
			t.SignOutsRefused++
			if err == nil && page.Status != http.StatusServiceUnavailable {
				t.Strange[fmt.Sprintf("sign-out: %d", page.Status)]++
				t.event("%s signing out at %d: %d %s", p.name, traefik, page.Status, words(page.Body))
			}
		})
		return
	}
	p.state = out
	c.bury(p, before, ended, traefik, false)
	if after := p.cookie(); strings.Contains(after, "-session") && after != before { // the other tab's answer came late
		c.bury(p, after, ended, traefik, false)
	}
	c.note(func(t *Tally) { t.SignOuts++ })
	p.newBrowser()
}

// tab is a request that nobody waits for.
func (p *person) tab(traefik int) {
	_, _ = p.b.Fetch(http.MethodGet, p.crowd.url(traefik)+"/tab", "", nil)
}

func (p *person) newBrowser() {
	p.b.Client().CloseIdleConnections()
	p.b = newBrowser()
}

// pushOut has the provider tell one of the Traefiks that this session, or all of this person's, has ended.
func (p *person) pushOut() {
	c := p.crowd
	claims := map[string]any{
		"iss": c.provider.Issuer, "aud": clientID, "jti": uuid.NewString(), "sub": p.name,
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	p.mu.Lock()
	sid := p.sid
	p.mu.Unlock()
	if sid != "" && rand.IntN(2) == 0 {
		claims["sid"] = sid
	}
	token, err := c.provider.Sign(claims)
	if err != nil {
		return
	}
	traefik := p.traefik()
	before := p.cookie()
	caller := newBrowser().Client()
	defer caller.CloseIdleConnections()
	resp, err := caller.PostForm(c.url(traefik)+backchannel, url.Values{"logout_token": {token}})
	ended := time.Now()
	if err == nil {
		resp.Body.Close()
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		p.state = out
		p.newBrowser() // that Traefik knows, others may not
		c.note(func(t *Tally) {
			t.PushesRefused++
			if err == nil && resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusBadRequest {
				t.Strange["pushed logout: "+resp.Status]++
			}
		})
		return
	}
	p.state = out
	c.bury(p, before, ended, traefik, true)
	c.note(func(t *Tally) { t.Pushes++ })
	p.newBrowser()
	time.Sleep(1200 * time.Millisecond) // nobody signs in again in the second in which everything of theirs was ended
}

// bury has the cookie of an ended session looked at from now on. With sessions in cookies only the Traefik that saw the end knows of it.
func (c *crowd) bury(p *person, cookie string, ended time.Time, traefik int, pushed bool) {
	if !strings.Contains(cookie, "-session") {
		return
	}
	where := []int{traefik}
	if c.store.kind != cookies {
		where = nil
		for i := range c.traefiks {
			where = append(where, i)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ghosts = append(c.ghosts, &ghost{who: p.name, cookie: cookie, since: ended, where: where, pushed: pushed})
}

// haunt tries the cookies of ended sessions, again and again.
func (c *crowd) haunt(ctx context.Context) {
	client := lookClient()
	for ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
		c.mu.Lock()
		var g *ghost
		if len(c.ghosts) > 0 {
			g = c.ghosts[rand.IntN(len(c.ghosts))]
		}
		c.mu.Unlock()
		if g != nil && len(g.where) > 0 {
			c.try(client, g, g.where[rand.IntN(len(g.where))])
		}
	}
}

// try looks whether a ghost is let in.
func (c *crowd) try(client *http.Client, g *ghost, traefik int) {
	if time.Since(g.since) < signOutNotice+c.stall.peek() || c.traefiks[traefik].down() {
		return
	}
	status, as := look(client, c.url(traefik)+"/ghost", g.cookie)
	if status != http.StatusOK {
		return
	}
	c.note(func(t *Tally) {
		if g.counted {
			return
		}
		g.counted = true
		what := "signed out"
		if g.pushed {
			t.PushesUndone++
			what = "logged out by the provider"
		} else {
			t.SignOutsUndone++
		}
		if as != g.who {
			t.Confused = append(t.Confused, fmt.Sprintf("a copied cookie of %s is taken for %q", g.who, as))
		}
		t.event("%s was %s %.1f s ago and is let in by %d", g.who, what, time.Since(g.since).Seconds(), traefik)
	})
}

// exorcise tries every ghost everywhere, and forgets them.
func (c *crowd) exorcise() {
	c.mu.Lock()
	ghosts := c.ghosts
	c.ghosts = nil
	c.mu.Unlock()
	client := lookClient()
	for _, g := range ghosts {
		if wait := signOutNotice + c.stall.peek() - time.Since(g.since); wait > 0 {
			time.Sleep(wait + 10*time.Millisecond)
		}
		for _, traefik := range g.where {
			c.try(client, g, traefik)
		}
	}
}

// lockOut has the provider end all that some people have, without telling anybody but the next refresh.
func (c *crowd) lockOut(people []*person) {
	for _, p := range people {
		p.ended.Store(true)
		cookie := p.cookie()
		c.provider.EndUser(clientID, p.name)
		c.bury(p, cookie, time.Now().Add(tokenLife), p.home, false)
	}
}

// allCalm waits until everybody is signed in and let in everywhere.
func (c *crowd) allCalm(limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		var restless []string
		for _, p := range c.people {
			if !p.calm.Load() {
				restless = append(restless, p.name)
			}
		}
		if len(restless) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %s %d of %d people are not let in everywhere: %s", limit, len(restless), len(c.people), strings.Join(restless, " "))
		}
	}
}

// unsettle makes everybody prove anew that they are calm.
func (c *crowd) unsettle() {
	for _, p := range c.people {
		p.calm.Store(false)
	}
}
