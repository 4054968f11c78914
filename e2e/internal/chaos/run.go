package chaos

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Row is what came of one fault with one store.
type Row struct {
	Fault, Does, Store string
	Seconds            float64 // it lasted
	Recovered          float64 // seconds until everybody worked again
	Stall              float64 // the longest this machine stood still meanwhile, in seconds
	People             int
	*Tally
	Broken []string // promises that should have held
	Known  []string // promises that did not hold, and why that is so
	Failed string   // the fault itself could not be done
}

// Report is what came of all of them.
type Report struct {
	Started time.Time
	Minutes float64
	Options string
	Rows    []Row
}

// Broken are the promises that did not hold, a line each.
func (r *Report) Broken() []string {
	var lines []string
	for _, row := range r.Rows {
		for _, broken := range row.Broken {
			lines = append(lines, fmt.Sprintf("%s, %s: %s", row.Store, row.Fault, broken))
		}
		if row.Failed != "" {
			lines = append(lines, fmt.Sprintf("%s, %s: %s", row.Store, row.Fault, row.Failed))
		}
	}
	return lines
}

const restLimit = 60 * time.Second // until everybody works again

// overhead is what a fault takes beside the time it lasts, on average; starting a store, too.
const overhead, storeOverhead = 8.0, 12.0

// SecondsFor is how long each fault may last if all of them are to take so many minutes.
func (o Options) SecondsFor(minutes float64) float64 {
	return max(2, (60*minutes-storeOverhead*float64(len(o.Stores)))/float64(max(1, o.Rows()))-overhead)
}

// Rows is how many faults there are to go through, each counted with every store.
func (o Options) Rows() int {
	n := 0
	for _, f := range faults {
		for _, kind := range o.Stores {
			if o.wants(f, kind) {
				n++
			}
		}
	}
	return n
}

func (o Options) wants(f fault, kind string) bool {
	if o.Short && f.short != kind {
		return false
	}
	return slices.Contains(f.stores, kind) && (o.Only == nil || o.Only.MatchString(f.name))
}

// Run goes through the faults of every store.
func Run(o Options) (*Report, error) {
	if o.Progress == nil {
		o.Progress = func(string, ...any) {}
	}
	report := &Report{Started: time.Now(), Options: fmt.Sprintf("%d people, %d Traefiks, timeoutSeconds %d, tokens for %s, faults of %.0f s or more", o.People, o.Traefiks, int(timeout.Seconds()), tokenLife, o.Seconds)}
	defer func() { report.Minutes = time.Since(report.Started).Minutes() }()
	r, err := start(o)
	if err != nil {
		return report, err
	}
	defer r.stop()
	for _, kind := range o.Stores {
		rows, err := r.through(kind)
		report.Rows = append(report.Rows, rows...)
		if err != nil {
			return report, fmt.Errorf("%s: %w", kind, err)
		}
	}
	return report, nil
}

// through goes through the faults of one store, with people of its own.
func (r *rig) through(kind string) ([]Row, error) {
	var wanted []fault
	for _, f := range faults {
		if r.wants(f, kind) {
			wanted = append(wanted, f)
		}
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	s, err := r.serve(kind)
	if err != nil {
		return nil, err
	}
	defer s.close()
	c := s.gather()
	defer c.disperse()
	if err := c.allCalm(restLimit); err != nil {
		return nil, fmt.Errorf("before any fault: %w", err)
	}
	var rows []Row
	for _, f := range wanted {
		r.Progress("%s: %s", kind, f.name)
		row := c.suffer(f)
		rows = append(rows, row)
		r.Progress("%s", row)
		if row.Failed != "" { // what it left behind would be taken for the next one's doing
			return rows, nil
		}
	}
	return rows, nil
}

// suffer lets people work while something is done to them, and looks at what is left.
func (c *crowd) suffer(f fault) Row {
	row := Row{Fault: f.name, Does: f.does, Store: c.store.kind, People: len(c.people)}
	logs := c.readLogs()
	grants, reused := c.provider.Grants("refresh_token"), c.provider.Reused()
	c.stall.since()
	c.mu.Lock()
	c.tally = newTally()
	row.Tally = c.tally
	c.mu.Unlock()
	began := time.Now()
	c.busy.Store(true)
	time.Sleep(2 * time.Second) // sign-outs of just before, too
	err := f.do(&scene{crowd: c, long: time.Duration(c.Seconds * float64(time.Second))})
	healed := time.Now()
	row.Seconds = healed.Sub(began).Seconds()
	c.busy.Store(false)
	c.unsettle()
	if err == nil {
		err = c.store.settled(restLimit)
	}
	calm := c.allCalm(restLimit)
	row.Recovered = time.Since(healed).Seconds()
	if f.late && calm == nil { // an attempt that failed is repeated after as long as it has failed until then, about
		time.Sleep(max(tokenLife, healed.Sub(began)) + 2*time.Second)
		c.unsettle()
		calm = c.allCalm(restLimit)
	}
	c.exorcise()
	c.note(func(t *Tally) {
		t.Refreshes, t.Reused = c.provider.Grants("refresh_token")-grants, c.provider.Reused()-reused
		logs.count(t)
	})
	c.provider.Forget()
	row.Stall = c.stall.peek().Seconds()
	if err != nil {
		row.Failed = err.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	row.judge(f, calm, c.Traefiks)
	c.tally = newTally() // the row keeps the other
	return row
}

// judge says which promises did not hold.
func (row *Row) judge(f fault, calm error, traefiks int) {
	t := row.Tally
	found := map[promise]string{}
	if len(t.Confused) > 0 {
		found[identity] = strings.Join(t.Confused, "; ")
	}
	if len(t.Strange) > 0 {
		found[statuses] = counts(t.Strange)
	}
	if t.Lost > 0 {
		found[stay] = fmt.Sprintf("%d were out", t.Lost)
	}
	if t.SignOutsUndone > 0 {
		found[gone] = fmt.Sprintf("%d of %d were undone", t.SignOutsUndone, t.SignOuts)
	}
	if t.PushesUndone > 0 {
		found[pushed] = fmt.Sprintf("%d of %d were undone", t.PushesUndone, t.Pushes)
	}
	if t.Reused > 0 {
		found[once] = fmt.Sprintf("%d were", t.Reused)
	}
	if t.DeadSent > 2 && row.Store != cookies { // there each copy of a cookie has the token still
		found[once] += fmt.Sprintf(" %d were sent again after they had been refused", t.DeadSent)
	}
	if t.TooSlow > 0 {
		found[prompt] = fmt.Sprintf("%d took longer, the slowest %s", t.TooSlow, t.Slowest.Round(100*time.Millisecond))
	}
	// One line a second of each Traefik can be read, and a burst when something begins.
	if lines := float64(10*traefiks) + (row.Seconds+row.Recovered)*float64(traefiks); float64(t.LogLines) > lines {
		found[quiet] = fmt.Sprintf("%d lines in %.0f s, at most %d in a second", t.LogLines, row.Seconds+row.Recovered, t.LogPeak)
	}
	if calm != nil {
		found[recovery] = calm.Error()
	}
	for _, p := range []promise{identity, statuses, stay, gone, pushed, once, prompt, quiet, recovery} {
		if found[p] == "" {
			continue
		}
		line := string(p) + ": " + found[p]
		if why := f.limits[p]; why != "" {
			row.Known = append(row.Known, line+" ("+why+")")
		} else {
			row.Broken = append(row.Broken, line)
		}
	}
}

func counts(m map[string]int) string {
	var parts []string
	for name, n := range m {
		parts = append(parts, fmt.Sprintf("%d× %s", n, name))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// logReader remembers where the logs of all Traefiks ended.
type logReader struct {
	files []string
	at    []int64
}

func (r *rig) readLogs() *logReader {
	l := &logReader{}
	for _, g := range r.traefiks {
		l.files, l.at = append(l.files, g.LogFile), append(l.at, g.LogSize())
	}
	return l
}

var (
	// logLine is a line of the plugin, and the second it was written in.
	logLine = regexp.MustCompile(`(?m)^(\S+) (?:ERR|WRN|INF) .*?(` + routeName + `-\w+@file: .*)$`)
	variant = regexp.MustCompile(`session "?[\w-]{8,}"?|[\w.-]+:\d{4,5}|127\.0\.\d\.\d|"[^"]{9,}"|\b[0-9a-f-]{16,}\b|\d+`)
)

// count adds what the plugin has written since.
func (l *logReader) count(t *Tally) {
	for i, name := range l.files {
		file, err := os.Open(name)
		if err != nil {
			continue
		}
		_, _ = file.Seek(l.at[i], io.SeekStart)
		text, _ := io.ReadAll(file)
		file.Close()
		seconds := map[string]int{}
		for _, found := range logLine.FindAllStringSubmatch(string(text), -1) {
			t.LogLines++
			seconds[found[1]]++
			t.LogPeak = max(t.LogPeak, seconds[found[1]])
			kind := variant.ReplaceAllString(found[2], "…")
			if len(t.Lines) < 30 || t.Lines[kind] > 0 {
				t.Lines[kind]++
			}
		}
	}
}
