package main

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"
)

// sampleFrame stands around every source of a ban, so that the sources stay one line long.
const sampleFrame = `
type plain struct { Name string }
type pointed struct { Number int }
func (p *pointed) run() {}
type runner interface { run() }
type kind int
func use(_ ...interface{}) {}
func number() (int, error) { return 0, nil }
func open() (io.Closer, error) { return nil, nil }
func build() (http.Handler, error) { return nil, nil }
func server() (*http.ServeMux, error) { return nil, nil }
`

// allowedSource has, for the checks, what they might mistake for a banned construct.
const allowedSource = `
type word string
const ( first kind = iota; second )
const ( flagA kind = 1; flagB kind = 2 )
const name word = "a"
const wait = 5 * time.Second
var pattern = regexp.MustCompile("a" + "b")
var errGone = errors.New("gone")
type handler struct { next http.Handler; mu sync.Mutex; run runner; fields map[string]interface{} }
type document struct { Issuer string ` + "`json:\"issuer\"`" + `; Keys []json.RawMessage; secret string ` + "`json:\"-\"`" + ` }
func (w word) text() string { return string(w) }
func (h *handler) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	http.SetCookie(rw, &http.Cookie{Name: "a"})
	h.next.ServeHTTP(rw, req)
}
func New(ctx context.Context) (handled http.Handler, err error) {
	defer func() {
		if reason := recover(); reason != nil { err = fmt.Errorf("%v", reason) }
	}()
	return build()
}
func results(is bool) (n int, word string, err error) {
	if n, err = number(); err != nil { return 0, "", err }
	for is { word = "a"; return n, word, nil }
	return n, "", err
}
func fine(ctx context.Context, list []string, ch chan int, v interface{}, h *handler, data []byte) error {
	for i, v := range list {
		v := v
		use(func() string { return v }, i)
		func() { c, _ := open(); defer c.Close() }()
	}
	for _, b := range []byte("text") { use(b) }
	v1 := <-ch
	v2, ok := <-ch
	v2++
	use(v1, v2, ok, h.ServeHTTP)
	switch t := v.(type) {
	case string, []interface{}: use(t)
	case map[string]interface{}: use(t)
	}
	switch { case ok && v1 > 1: use(1) }
	switch v1 { case 1, 2: use(2) }
	n, err := number()
	many, few := map[string]bool{}, []int{}
	inner := struct { p *pointed }{&pointed{}}
	use(inner.p.run, many, few)
	h.fields["n"] = n
	if err != nil || errors.Is(err, errGone) { return fmt.Errorf("reading %q: %w", list, err) }
	if v == "text" || v == nil { use(h.run == nil) }
	var netErr net.Error
	if errors.As(err, &netErr) { use(netErr.Timeout()) }
	flusher, ok := v.(http.Flusher)
	pointer, ok := v.(*pointed)
	ctx = context.WithValue(ctx, "example.com/our long key", pointer)
	client := &http.Client{Timeout: wait}
	use(flusher, ok, ctx, client, pattern, json.Unmarshal(data, &document{}), json.Unmarshal(data, &h.fields))
	return nil
}
`

func TestTraps(t *testing.T) {
	library := importer.Default()
	for _, trap := range traps {
		t.Run(trap.name, func(t *testing.T) {
			for _, text := range trap.caught {
				if found := trapsIn(t, library, text); !strings.Contains(strings.Join(found, "\n"), trap.name+": ") {
					t.Errorf("not caught: %s\nfound: %q", text, found)
				}
			}
		})
	}
	t.Run("the rest of the language", func(t *testing.T) {
		for _, problem := range trapsIn(t, library, allowedSource) {
			t.Errorf("must be allowed: %s", problem)
		}
	})
}

// trapsIn puts the frame and the imports around a text. Its own mistakes (unused variables and imports) are of no interest.
func trapsIn(t *testing.T, library types.Importer, text string) []string {
	t.Helper()
	imports := ""
	for _, name := range []string{"context", "encoding/json", "errors", "fmt", "io", "log", "net", "net/http", "os", "regexp", "sync", "sync/atomic", "time"} {
		imports += "import \"" + name + "\"\n"
	}
	directive := ""
	switch {
	case strings.HasPrefix(text, "import"):
		imports, text = imports+text+"\n", ""
	case strings.HasPrefix(text, "//go:build"):
		directive, text = text+"\n", ""
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "sample.go", directive+"package p\n"+imports+sampleFrame+text, parser.ParseComments)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{},
		Selections: map[*ast.SelectorExpr]*types.Selection{}, Instances: map[*ast.Ident]types.Instance{}}
	config := types.Config{Importer: library, Error: func(error) {}}
	pkg, _ := config.Check("p", set, []*ast.File{file}, info)
	var found []string
	report(newSource(set, []*ast.File{file}, pkg, info), func(at token.Pos, trap *trap) {
		found = append(found, set.Position(at).String()+": "+trap.message())
	})
	return found
}
