package chaos

import (
	"encoding/json"
	"fmt"
	"os"
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

// Page is the table of docs/scaling.md: a fault has one row, with the stores by name where they fared differently.
func (r *Report) Page() string {
	var b strings.Builder
	b.WriteString("| fault | store | signed-in people | sign-ins | sign-outs | refreshes | pushed logouts |\n|---|---|---|---|---|---|---|\n")
	shown := map[string]bool{}
	for _, f := range faults[len(calm):] {
		var rows []Row
		var stores []string
		for _, row := range r.Rows {
			if row.Fault == f.name && row.Tally != nil && row.Failed == "" {
				rows, stores = append(rows, row), append(stores, row.Store)
			}
		}
		if shown[f.name] || len(rows) == 0 {
			continue
		}
		shown[f.name] = true
		fmt.Fprintf(&b, "| **%s**: %s | %s | %s | %s | %s | %s | %s |\n", f.name, rows[0].Does, strings.Join(stores, ", "),
			fared(rows, "503 meanwhile", func(t *Tally) (int, int, string) { return t.Lost, t.Answers["503"], "lost" }),
			fared(rows, "refused meanwhile", func(t *Tally) (int, int, string) { return 0, t.SignInsRefused, "" }),
			fared(rows, "refused meanwhile", func(t *Tally) (int, int, string) {
				return t.SignOutsUndone, t.SignOutsRefused, fmt.Sprintf("of %d undone", t.SignOuts)
			}),
			fared(rows, "", func(t *Tally) (int, int, string) { return t.Reused, 0, fmt.Sprintf("of %d spent twice", t.Refreshes) }),
			fared(rows, "refused meanwhile", func(t *Tally) (int, int, string) {
				return t.PushesUndone, t.PushesRefused, fmt.Sprintf("of %d undone", t.Pushes)
			}))
	}
	return b.String()
}

// fared is one cell: what was lost, by store if there is more than one, or that nothing was.
func fared(rows []Row, meanwhile string, of func(t *Tally) (lost, refused int, what string)) string {
	var losses []string
	text := "kept"
	for _, row := range rows {
		lost, refused, what := of(row.Tally)
		if refused > 0 {
			text = meanwhile
		}
		if lost > 0 && len(rows) > 1 {
			losses = append(losses, fmt.Sprintf("%s: %d %s", row.Store, lost, what))
		} else if lost > 0 {
			losses = append(losses, fmt.Sprintf("%d %s", lost, what))
		}
	}
	if len(losses) > 0 {
		text = strings.Join(losses, "; ")
	}
	return text
}

// TakenForAnother says whether somebody was seen as somebody else.
func (row Row) TakenForAnother() bool { return len(row.Confused) > 0 }

// Seen are the moments in which something went wrong.
func (t *Tally) Seen() []string { return t.Events }
