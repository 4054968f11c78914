package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// String is a row as it is shown while the others are under way.
func (row Row) String() string {
	verdict := "as promised"
	if len(row.Known) > 0 {
		verdict = "as documented: " + strings.Join(row.Known, "; ")
	}
	if len(row.Broken) > 0 {
		verdict = "BROKEN: " + strings.Join(row.Broken, "; ")
	}
	if row.Failed != "" {
		verdict = "NOT DONE: " + row.Failed
	}
	return fmt.Sprintf("%s | %s: %s", row.Store, row.Fault, verdict)
}

// cells are the columns of a row.
func (row Row) cells() []string {
	t := row.Tally
	return []string{
		row.Fault, row.Store,
		keptOr(t.Lost, "lost"),
		done(t.SignIns, t.SignInsRefused, 0),
		done(t.SignOuts, t.SignOutsRefused, t.SignOutsUndone),
		refreshed(t),
		done(t.Pushes, t.PushesRefused, t.PushesUndone),
		fmt.Sprintf("%.1f s", t.Slowest.Seconds()),
		fmt.Sprintf("%.0f s", row.Recovered),
		fmt.Sprintf("%.1f", float64(t.LogLines)/max(1, row.Seconds+row.Recovered)),
	}
}

func keptOr(n int, what string) string {
	if n == 0 {
		return "kept"
	}
	return fmt.Sprintf("%s %d", what, n)
}

func done(n, refused, undone int) string {
	text := fmt.Sprint(n)
	if refused > 0 {
		text += fmt.Sprintf(", refused %d", refused)
	}
	if undone > 0 {
		text += fmt.Sprintf(", **undone %d**", undone)
	}
	return text
}

func refreshed(t *Tally) string {
	text := fmt.Sprint(t.Refreshes)
	if t.Reused > 0 {
		text += fmt.Sprintf(", spent twice %d", t.Reused)
	}
	if t.DeadSent > 0 {
		text += fmt.Sprintf(", dead ones sent again %d", t.DeadSent)
	}
	return text
}

// Table is the report in Markdown.
func (r *Report) Table() string {
	var b strings.Builder
	b.WriteString("| fault | store | signed-in people | sign-ins | sign-outs | refreshes | pushed logouts | slowest request | all work again after | log lines/s of all |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		if row.Tally != nil {
			b.WriteString("| " + strings.Join(row.cells(), " | ") + " |\n")
		}
	}
	return b.String()
}

// Summary is a line for the end.
func (r *Report) Summary() string {
	answers := map[string]int{}
	kinds := map[string]bool{}
	for _, row := range r.Rows {
		kinds[row.Fault] = true
		for status, n := range row.Answers {
			answers[status] += n
		}
	}
	return fmt.Sprintf("%d faults, %d with their stores, in %s: %s; answers %s", len(kinds), len(r.Rows),
		time.Duration(r.Minutes*float64(time.Minute)).Round(time.Second), r.Options, counts(answers))
}

// Write keeps the report as JSON.
func (r *Report) Write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// ReadReport reads what Write wrote.
func ReadReport(path string) (*Report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	return r, json.Unmarshal(text, r)
}

// Page is the table of docs/scaling.md: stores that fared alike are one row.
func (r *Report) Page() string {
	type line struct {
		fault, does, fared string
		stores             []string
	}
	var lines []*line
	for _, row := range r.Rows {
		if row.Fault == calm[0].name || row.Tally == nil || row.Failed != "" {
			continue
		}
		fared := strings.Join(row.fared(), " | ")
		i := slices.IndexFunc(lines, func(l *line) bool { return l.fault == row.Fault && l.fared == fared })
		if i < 0 {
			lines = append(lines, &line{row.Fault, row.Does, fared, nil})
			i = len(lines) - 1
		}
		lines[i].stores = append(lines[i].stores, row.Store)
	}
	place := map[string]int{}
	for i, f := range faults {
		if _, known := place[f.name]; !known {
			place[f.name] = i
		}
	}
	slices.SortStableFunc(lines, func(a, b *line) int { return place[a.fault] - place[b.fault] })
	var b strings.Builder
	b.WriteString("| fault | store | signed-in people | sign-ins | sign-outs | refreshes | pushed logouts |\n|---|---|---|---|---|---|---|\n")
	said := map[string]bool{}
	for _, l := range lines {
		name := "**" + l.fault + "**"
		if !said[l.fault] {
			name += ": " + l.does
			said[l.fault] = true
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, strings.Join(l.stores, ", "), l.fared)
	}
	return b.String()
}

// fared is what became of people in a row.
func (row Row) fared() []string {
	t := row.Tally
	stayed := "kept"
	switch {
	case t.Lost > 0:
		stayed = fmt.Sprintf("%d of %d lost", t.Lost, row.People)
	case t.Answers["503"] > 0:
		stayed = "kept; 503 meanwhile"
	}
	refreshes := "kept"
	if t.Reused > 0 {
		refreshes = fmt.Sprintf("%d of %d spent twice", t.Reused, t.Refreshes)
	}
	return []string{stayed, went(t.SignIns, t.SignInsRefused, 0), went(t.SignOuts, t.SignOutsRefused, t.SignOutsUndone), refreshes, went(t.Pushes, t.PushesRefused, t.PushesUndone)}
}

func went(n, refused, undone int) string {
	switch {
	case undone > 0:
		return fmt.Sprintf("%d of %d undone", undone, n)
	case refused > 0:
		return "refused meanwhile"
	}
	return "kept"
}

// TakenForAnother says whether somebody was seen as somebody else.
func (row Row) TakenForAnother() bool { return len(row.Confused) > 0 }

// Seen are the moments in which something went wrong.
func (t *Tally) Seen() []string { return t.Events }
