package oidc

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	syntax "go/token"
	"go/types"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"
)

// This file is the list of Go that the plugin may not use. Traefik does not compile a plugin, it interprets it with Yaegi
// v0.16.1, and what is listed here compiles, passes every other test, and then runs wrongly, panics, or keeps Traefik from
// starting. Each entry was seen to happen in the interpreter; each brings sources that must be caught, so that a check that
// has gone blind fails.
//
// The checks read syntax trees with types, because the same syntax is harmless for one type and wrong for another
// (a comparison of strings and one of interfaces, say).

// ban is one construct that the plugin may not use.
type ban struct {
	name    string
	harm    string // what the interpreter does with it
	instead string // what to write
	caught  []string
	find    func(s *sourceTree, n ast.Node, path []ast.Node) bool // path: the nodes around n, the outermost first
}

var bans = []ban{
	// Variables, and when they are read.
	{
		name: "closure over a loop variable", harm: "all closures see the last turn's value", instead: "copy it in the loop body: v := v",
		find: findLoopVariable,
		caught: []string{
			`func f() { for i := 0; i < 3; i++ { use(func() int { return i }) } }`,
			`func f(list []string) { for _, v := range list { use(func() string { return v }) } }`,
			`func f(list []string) { for _, v := range list { use(&v) } }`,
			`func f(list []plain) { for _, v := range list { use(&v.Name) } }`,
		},
	},
	{
		name: "go statement", harm: "a panic in it ends Traefik, and a reload does not end it", instead: "do the work when a request needs it",
		find: findGoroutine,
		caught: []string{
			`func f() { go use(1) }`,
			`func f() { time.AfterFunc(time.Second, func() {}) }`,
			`func f(ctx context.Context) { context.AfterFunc(ctx, func() {}) }`,
		},
	},
	{
		name: "select", harm: "goroutines that wait at the same statement get each other's channels", instead: "a plain receive from a channel that is sure to be closed",
		find: findSelect,
		caught: []string{
			`func f(a chan int, done chan struct{}) { select { case v := <-a: use(v); case <-done: } }`,
		},
	},
	{
		name: "= with several values of which one is a call", harm: "the other variables are not written", instead: "one assignment each",
		find: findCallAmongValues,
		caught: []string{
			`func f(text string) { n := 1; word := "x"; n, word = len(text), ""; use(n); use(word) }`,
			`func f(list []int) { last := 1; list, last = append(list, last), 0; use(list); use(last) }`,
		},
	},
	{
		name: "defer in a loop", harm: "every deferred call sees the last turn", instead: "put the body of the loop in a function",
		find: findDeferInLoop,
		caught: []string{
			`func f(list []io.Closer) { for _, c := range list { c := c; defer c.Close() } }`,
			`func f(c io.Closer) { for i := 0; i < 3; i++ { defer func() { c.Close() }() } }`,
		},
	},
	{
		name: "assertion or look-up in a loop without asking ok", harm: "where it fails the value of the turn before stays", instead: "ask ok, or put it in a function",
		find: findUnasked,
		caught: []string{
			`func f(list []any) { for _, v := range list { n, _ := v.(int); use(n) } }`,
			`func f(list []any) { for i := 0; i < 3; i++ { if n, _ := list[i].(int); n > 0 { use(n) } } }`,
			`func f(m map[string]int) { for { n, _ := m["a"]; use(n) } }`,
		},
	},
	{
		name: "variable of a pending defer assigned again", harm: "the deferred call reads it when the function returns", instead: "use a new name",
		find: findDeferredVariable,
		caught: []string{
			`func f(c io.Closer) { defer c.Close(); c = nil }`,
			`func f() { x := 1; defer use(x); x++ }`,
			`func f(ctx context.Context) { ctx, cancel := context.WithCancel(ctx); defer cancel(); ctx, cancel = context.WithCancel(ctx) }`,
			`func f(c io.Closer) { defer func(c io.Closer) { c.Close() }(c); c, err := open(); use(err) ; c = nil }`,
		},
	},
	{
		name: "method value", harm: "its receiver is read when it is called", instead: "take it of a variable that is never assigned again, or write a closure",
		find: findMethodValue,
		caught: []string{
			`func f(list []*pointed) { for _, p := range list { use(p.run) } }`,
			`func f(p *pointed) { use(p.run); p = nil }`,
			`func f(b *struct{ p *pointed }) { use(b.p.run); b.p = nil }`,
			`func f(list []*pointed) { use(list[0].run) }`,
		},
	},
	{
		name: "received value changed", harm: "the interpreter panics", instead: "v, ok := <-ch",
		find: findReceivedChanged,
		caught: []string{
			`func f(ch chan int) { v := <-ch; v += 1; use(v) }`,
			`func f(ch chan plain) { v := <-ch; v.Name = "x"; use(v) }`,
			`func f(ch chan int) { var v int; select { case v = <-ch: use(v) } }`,
		},
	},

	// Statements.
	{
		name: "nil on the left", harm: "the comparison is always false", instead: "x == nil",
		find:   findNilLeft,
		caught: []string{`func f(x *plain) bool { return nil == x }`, `func f(x error) bool { return nil != x }`},
	},
	{
		name: "several conditions in a case without a tag", harm: "only the first one is looked at", instead: "case a || b",
		find:   findTaglessList,
		caught: []string{`func f(a, b bool) { switch { case a, b: use(1) } }`},
	},
	{
		name: "map element in a multi-value assignment", harm: "the map is not written", instead: "assign to variables first",
		find: findMapTarget,
		caught: []string{
			`func f(m map[string]int) (err error) { m["a"], err = 0, nil; m["a"], err = number(); return err }`,
			`func f(h http.Header, v interface{}) { var ok bool; h["A"], ok = v.([]string); use(ok) }`,
		},
	},
	{
		name: "range into existing variables", harm: "the variables stay unchanged", instead: "for k, v := range",
		find:   findRangeAssign,
		caught: []string{`func f(list []int) { var k int; for k = range list { use(k) } }`},
	},
	{
		name: "range over a number, a function or a string", harm: "refused at load, or a hundred times slower for each character", instead: "an ordinary loop; []byte(text), or a library call",
		find: findRange,
		caught: []string{
			`func f() { for i := range 3 { use(i) } }`,
			`func f(seq func(func(int) bool)) { for i := range seq { use(i) } }`,
			`func f(text string) { for _, r := range text { use(r) } }`,
		},
	},
	{
		name: "min, max, clear", harm: "refused at load", instead: "an if, or a loop with delete",
		find:   findBuiltin,
		caught: []string{`func f(a, b int) int { return min(a, b) }`, `func f(m map[string]int) { clear(m) }`},
	},
	{
		name: "several literals in one :=", harm: "a later method call panics", instead: "one := each",
		find:   findSeveralLiterals,
		caught: []string{`func f() { a, b := plain{}, &pointed{}; use(a, b) }`},
	},
	{
		name: "return of a call with other result types", harm: "the error is lost: the caller sees nil", instead: "assign to variables, then return them",
		find: findWidenedReturn,
		caught: []string{
			`func New() (http.Handler, error) { return server() }`,
			`func f() (interface{}, error) { return number() }`,
			`func f() { use(func() (interface{}, error) { return number() }) }`,
		},
	},
	{
		name: "unnamed parameters", harm: "panics when the library calls it", instead: "name them, _ will do",
		find: findUnnamedParameters,
		caught: []string{
			`func f(c *http.Client) { c.CheckRedirect = func(*http.Request, []*http.Request) error { return nil } }`,
			`func (p *pointed) Read([]byte) (int, error) { return 0, nil }`,
		},
	},
	{
		name: "os.Exit, log.Fatal, log.Panic", harm: "a panic in Traefik", instead: "return an error",
		find:   findExit,
		caught: []string{`func f() { os.Exit(1) }`, `func f() { log.Fatalf("x") }`},
	},

	// Declarations.
	{
		name: "type parameters", harm: "wrong types, or the loader crashes", instead: "write it for the type at hand",
		find: findGeneric,
		caught: []string{
			`func f[T any](x T) {}`,
			`type box[T any] struct{ x T }`,
			`var p atomic.Pointer[plain]`,
			`func f() { use(sync.OnceValue(func() int { return 1 })) }`,
		},
	},
	{
		name: "import the interpreter does not have", harm: "refused at load", instead: "the standard library of Go 1.22 without slices, maps, iter, embed, unsafe, syscall, os/exec",
		find: findImport,
		caught: []string{
			`import "slices"`, `import "maps"`, `import "embed"`, `import "unsafe"`, `import "os/exec"`, `import "crypto/hkdf"`, `import "example.com/library"`,
		},
	},
	{
		name: "//go: line", harm: "//go:build is ignored, both sides of it are loaded; the others do not exist", instead: "nothing of the kind in the plugin",
		find:   findDirective,
		caught: []string{"//go:build linux\n", "//go:embed page.html\nvar page string"},
	},
	{
		name: "local type alias", harm: "refused at load", instead: "type x int",
		find:   findLocalAlias,
		caught: []string{`func f() { type x = int; use(x(1)) }`},
	},
	{
		name: "constant expression of an own type", harm: "== with it is false, map look-ups panic", instead: "bare iota, or the literal",
		find: findTypedConstant,
		caught: []string{
			`const ( a kind = iota + 1; b )`,
			`const ( a kind = 1 << iota; b )`,
			`const a kind = 1 + 1`,
			`const a = kind(1) + 1`,
			`type word string; const a word = "a" + "b"`,
		},
	},
	{
		name: "package variable made by an own function", harm: "what the function reads may be zero still", instead: "a literal or library calls; else init, or New",
		find:   findPackageVariable,
		caught: []string{`var a, _ = number()`, `var a = func() int { return 1 }()`},
	},
	{
		name: "method on a struct value", harm: "a value put into an interface panics", instead: "a pointer receiver, and &T{}",
		find:   findValueReceiver,
		caught: []string{`func (p plain) run() {}`},
	},
	{
		name: "embedded own interface", harm: "its methods panic", instead: "a named field and explicit methods",
		find:   findEmbeddedInterface,
		caught: []string{`type t struct { runner }`, `type t interface { runner; stop() }`},
	},
	{
		name: "method expression", harm: "panics, or refused at load", instead: "a closure",
		find:   findMethodExpression,
		caught: []string{`var f = (*pointed).run`},
	},
	{
		name: "wrapped ResponseWriter", harm: "flushing, and with it every stream, is lost", instead: "set headers before next, hand rw on as it came",
		find: findResponseWriter,
		caught: []string{
			`type t struct { http.ResponseWriter }`,
			`func (p *pointed) WriteHeader(status int) {}`,
		},
	},

	// Interfaces and assertions.
	{
		name: "assertion to an own interface", harm: "false, or a panic", instead: "assert to the concrete pointer type",
		find: findInterfaceAssertion,
		caught: []string{
			`func f(v interface{}) { if r, ok := v.(runner); ok { use(r) } }`,
			`func f(v io.Reader) { l, ok := v.(interface{ Len() int }); use(l, ok) }`,
		},
	},
	{
		name: "assertion on a conversion", harm: "false", instead: "assert on a variable",
		find:   findConversionAssertion,
		caught: []string{`func f(w http.ResponseWriter) { _, ok := http.ResponseWriter(w).(http.Flusher); use(ok) }`},
	},
	{
		name: "assertion to a type that has a twin", harm: "types are told apart by their fields only: the twin matches, too", instead: "give one of them another field",
		find:   findTwinAssertion,
		caught: []string{`type twin struct { Name string }; func f(v interface{}) { _, ok := v.(*twin); use(ok) }`},
	},
	{
		name: "type switch without a variable", harm: "slices, maps, structs and pointers never match", instead: "switch t := v.(type)",
		find:   findUnboundSwitch,
		caught: []string{`func f(v interface{}) { switch v.(type) { case []interface{}: use(1) } }`},
	},
	{
		name: "type switch over error or an own type", harm: "no case matches", instead: "comma-ok assertions, one by one",
		find: findSwitchCase,
		caught: []string{
			`func f(v interface{}) { switch t := v.(type) { case error: use(t) } }`,
			`func f(v interface{}) { switch t := v.(type) { case *pointed: use(t) } }`,
			`func f(v interface{}) { switch t := v.(type) { case runner: use(t) } }`,
		},
	},
	{
		name: "interfaces compared", harm: "false, or a panic", instead: "errors.Is for errors; names or ids for the rest",
		find: findInterfaceComparison,
		caught: []string{
			`func f(a, b runner) bool { return a == b }`,
			`func f(a interface{}, b *pointed) bool { return a == b }`,
			`func f(err error) bool { return err == io.EOF }`,
			`func f(err error) { switch err { case io.EOF: use(1) } }`,
		},
	},

	// Errors and panics.
	{
		name: "own error type", harm: "errors.Is and errors.As never call its methods, %w prints its fields", instead: "errors.New, and fmt.Errorf with %w; return data beside the error",
		find: findErrorType,
		caught: []string{
			`func (p *pointed) Error() string { return "" }`,
			`func (p *pointed) Unwrap() error { return nil }`,
			`func (p *pointed) Is(target error) bool { return false }`,
		},
	},
	{
		name: "errors.As with an own type", harm: "panics", instead: "errors.Is with a sentinel",
		find:   findErrorsAs,
		caught: []string{`func f(err error) { var p *pointed; use(errors.As(err, &p)) }`, `func f(err error) { var r runner; use(errors.As(err, &r)) }`},
	},
	{
		name: "conversion to error", harm: "panics", instead: "assign to a variable of type error",
		find:   findErrorConversion,
		caught: []string{`func f(err error) error { return error(err) }`},
	},
	{
		name: "recover around next", harm: "http.ErrAbortHandler is no longer itself, a broken upstream becomes our error", instead: "let it through",
		find: findRecoverAroundNext,
		caught: []string{
			`func f(next http.Handler, rw http.ResponseWriter, req *http.Request) { defer func() { use(recover()) }(); next.ServeHTTP(rw, req) }`,
		},
	},
	{
		name: "recovered value asserted", harm: "never matches", instead: "only print it",
		find: findRecoverAssertion,
		caught: []string{
			`func f() { defer func() { x := recover(); _, ok := x.(error); use(ok) }() }`,
			`func f() { defer func() { _, ok := recover().(string); use(ok) }() }`,
		},
	},

	// Own types in the library's hands.
	{
		name: "own marshaller", harm: "not called", instead: "decode to interface{} or json.RawMessage, convert by hand",
		find:   findMarshaller,
		caught: []string{`func (p *pointed) UnmarshalJSON(data []byte) error { return nil }`, `func (p *pointed) MarshalText() ([]byte, error) { return nil, nil }`},
	},
	{
		name: "JSON of a type with unexported fields, embedding or methods", harm: "unexported fields are written and read as Xname; embedded ones are not flattened; methods give {}", instead: `exported fields, or the tag json:"-"; plain functions`,
		find: findJSONType,
		caught: []string{
			`type t struct { Name string; secret string }; func f(v *t) { use(json.Marshal(v)) }`,
			`type t struct { plain }; func f(data []byte, v *t) { use(json.Unmarshal(data, v)) }`,
			`func f(r io.Reader, v *pointed) { use(json.NewDecoder(r).Decode(v)) }`,
			`type inner struct { secret string }; type t struct { In []inner }; func f(v t) { use(json.Marshal(v)) }`,
		},
	},
	{
		name: "own struct printed", harm: "its methods are not called: raw fields, secrets too, or a panic", instead: "hand texts and numbers to fmt",
		find: findPrintedType,
		caught: []string{
			`func f(p *pointed) { use(fmt.Sprintf("%v", p)) }`,
			`func f(list []plain) { use(fmt.Errorf("%v", list)) }`,
			`func note(format string, args ...interface{}) {}; func f(p *pointed) { note("%v", p) }`,
		},
	},
	{
		name: "own type in the literal of a library struct", harm: "panics", instead: "assign it to the field after the literal",
		find:   findForeignLiteral,
		caught: []string{`func (p *pointed) RoundTrip(_ *http.Request) (*http.Response, error) { return nil, nil }; func f(p *pointed) { use(&http.Client{Transport: p}) }`},
	},
	{
		name: "context key that is no string", harm: "keys of all own types are one key", instead: "a long, unique string",
		find:   findContextKey,
		caught: []string{`func f(ctx context.Context) { use(context.WithValue(ctx, kind(1), 1)) }`, `func f(ctx context.Context) { use(context.WithValue(ctx, struct{}{}, 1)) }`},
	},
	{
		name: "library newer than Go 1.22", harm: "Traefik v3.0 does not have it", instead: "what Go 1.22 has",
		find:   findNewLibrary,
		caught: []string{`func f(req *http.Request) { use(req.CookiesNamed("a")) }`, `func f() { use(&http.Cookie{Partitioned: true}) }`, `func f() { use(http.ParseCookie("a=b")) }`},
	},
}

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

// source is one package as the checks see it.
type sourceTree struct {
	set      *syntax.FileSet
	files    []*ast.File
	pkg      *types.Package
	info     *types.Info
	loop     map[types.Object]bool         // variables of a loop
	received map[types.Object]bool         // v in v := <-ch
	rescued  map[types.Object]bool         // v in v := recover()
	assigned map[types.Object][]syntax.Pos // variables assigned after their definition, and fields: v = x, v++, a.v = x
	changed  map[types.Object]bool         // those, and the ones with a part assigned: v.field = x
}

func TestInterpreterBans(t *testing.T) {
	if interpreted() {
		t.Skip("reads the source, which does not change by being interpreted")
	}
	library := importer.Default()
	t.Run("plugin", func(t *testing.T) {
		names, err := filepath.Glob("*.go")
		if err != nil {
			t.Fatal(err)
		}
		s := newSourceTree()
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(s.set, name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			s.files = append(s.files, file)
		}
		if err := s.check(library); err != nil {
			t.Fatalf("reading the plugin's types: %v", err)
		}
		for _, problem := range findBanned(s) {
			t.Error(problem)
		}
	})
	for _, b := range bans {
		b := b
		t.Run(b.name, func(t *testing.T) {
			for _, text := range b.caught {
				found := findBanned(sampleTree(t, library, text))
				if !strings.Contains(strings.Join(found, "\n"), b.name) {
					t.Errorf("not caught: %s\nfound: %q", text, found)
				}
			}
		})
	}
	t.Run("the rest of the language", func(t *testing.T) {
		s := sampleTree(t, library, allowedSource)
		for _, problem := range findBanned(s) {
			t.Errorf("must be allowed: %s", problem)
		}
	})
}

// interpreted says whether this test runs in Yaegi, where the caller of every function is in the interpreter's own source.
func interpreted() bool {
	_, file, _, _ := runtime.Caller(0)
	return !strings.HasSuffix(file, "interpreter_test.go")
}

func newSourceTree() *sourceTree {
	return &sourceTree{
		set:      syntax.NewFileSet(),
		loop:     map[types.Object]bool{},
		received: map[types.Object]bool{},
		rescued:  map[types.Object]bool{},
		assigned: map[types.Object][]syntax.Pos{},
		changed:  map[types.Object]bool{},
		info: &types.Info{
			Types:      map[ast.Expr]types.TypeAndValue{},
			Defs:       map[*ast.Ident]types.Object{},
			Uses:       map[*ast.Ident]types.Object{},
			Selections: map[*ast.SelectorExpr]*types.Selection{},
			Instances:  map[*ast.Ident]types.Instance{},
		},
	}
}

// sourceOf puts the surroundings and the imports around a text. Its own mistakes (unused variables and imports) are of no interest.
func sampleTree(t *testing.T, library types.Importer, text string) *sourceTree {
	t.Helper()
	imports := "import (\"context\"; \"encoding/json\"; \"errors\"; \"fmt\"; \"io\"; \"log\"; \"net\"; \"net/http\"; \"os\"; \"regexp\"; \"sync\"; \"sync/atomic\"; \"time\")\n"
	if strings.HasPrefix(text, "import") {
		imports += text + "\n"
		text = ""
	}
	directive := ""
	if strings.HasPrefix(text, "//go:build") {
		directive, text = text+"\n", ""
	}
	s := newSourceTree()
	file, err := parser.ParseFile(s.set, "sample.go", directive+"package p\n"+imports+sampleFrame+text, parser.ParseComments)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	s.files = append(s.files, file)
	_ = s.check(library)
	return s
}

// check finds the types, then what the checks want to know about variables.
func (s *sourceTree) check(library types.Importer) error {
	config := types.Config{Importer: library, Error: func(error) {}}
	pkg, err := config.Check("p", s.set, s.files, s.info)
	s.pkg = pkg
	for _, file := range s.files {
		ast.Inspect(file, func(n ast.Node) bool {
			noteVariables(s, n)
			return true
		})
	}
	return err
}

func noteVariables(s *sourceTree, n ast.Node) {
	switch n := n.(type) {
	case *ast.ForStmt:
		if start, ok := n.Init.(*ast.AssignStmt); ok {
			for _, v := range start.Lhs {
				noteDefined(s, s.loop, v)
			}
		}
	case *ast.RangeStmt:
		noteDefined(s, s.loop, n.Key)
		noteDefined(s, s.loop, n.Value)
	case *ast.IncDecStmt:
		noteAssigned(s, n.X)
	case *ast.AssignStmt:
		for _, v := range n.Lhs {
			noteAssigned(s, v)
		}
		if len(n.Lhs) == 1 && len(n.Rhs) == 1 {
			if isReceive(n.Rhs[0]) {
				noteDefined(s, s.received, n.Lhs[0])
			}
			if isRecover(s, n.Rhs[0]) {
				noteDefined(s, s.rescued, n.Lhs[0])
			}
		}
	}
}

func noteDefined(s *sourceTree, set map[types.Object]bool, v ast.Expr) {
	if id, ok := v.(*ast.Ident); ok && s.info.Defs[id] != nil {
		set[s.info.Defs[id]] = true
	}
}

func noteAssigned(s *sourceTree, v ast.Expr) {
	root := rootOf(v)
	if root == nil || s.info.Uses[root] == nil {
		return // a definition, or the field of a call's result
	}
	object := s.info.Uses[root]
	if field, ok := v.(*ast.SelectorExpr); ok && s.info.Uses[field.Sel] != nil {
		s.assigned[s.info.Uses[field.Sel]] = append(s.assigned[s.info.Uses[field.Sel]], v.Pos())
	}
	if ast.Expr(root) == v {
		s.assigned[object] = append(s.assigned[object], v.Pos())
		s.changed[object] = true
		return
	}
	switch object.Type().Underlying().(type) {
	case *types.Struct, *types.Array:
		s.changed[object] = true
	}
}

// rootOf gives v of v.field, v[i], *v, (v).
func rootOf(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// findBanned gives one line for each banned construct, in the order of the files.
func findBanned(s *sourceTree) []string {
	var found []string
	for _, file := range s.files {
		var path []ast.Node
		ast.Inspect(file, func(n ast.Node) bool {
			if n == nil {
				path = path[:len(path)-1]
				return true
			}
			for _, b := range bans {
				if b.find(s, n, path) {
					found = append(found, fmt.Sprintf("%s: %s: in the interpreter, %s; instead: %s", s.set.Position(n.Pos()), b.name, b.harm, b.instead))
				}
			}
			path = append(path, n)
			return true
		})
	}
	sort.Strings(found)
	return found
}

// Variables, and when they are read.

func findLoopVariable(s *sourceTree, n ast.Node, path []ast.Node) bool {
	id, ok := n.(*ast.Ident)
	if !ok || !s.loop[s.info.Uses[id]] {
		return false
	}
	for i, around := range path {
		if closure, ok := around.(*ast.FuncLit); ok && closure.Pos() > s.info.Uses[id].Pos() {
			return true
		}
		if address, ok := around.(*ast.UnaryExpr); ok && address.Op == syntax.AND && i >= len(path)-3 && rootOf(address.X) == id {
			return true
		}
	}
	return false
}

func findGoroutine(s *sourceTree, n ast.Node, path []ast.Node) bool {
	_, ok := n.(*ast.GoStmt)
	return ok || isCall(s, n, "time.AfterFunc", "context.AfterFunc")
}

func findSelect(s *sourceTree, n ast.Node, path []ast.Node) bool {
	_, ok := n.(*ast.SelectStmt)
	return ok
}

func findCallAmongValues(s *sourceTree, n ast.Node, path []ast.Node) bool {
	assignment, ok := n.(*ast.AssignStmt)
	if !ok || assignment.Tok.String() != "=" || len(assignment.Rhs) < 2 {
		return false
	}
	for _, value := range assignment.Rhs {
		if _, isCall := value.(*ast.CallExpr); isCall {
			return true
		}
	}
	return false
}

func findDeferInLoop(s *sourceTree, n ast.Node, path []ast.Node) bool {
	if _, ok := n.(*ast.DeferStmt); !ok {
		return false
	}
	for i := len(path) - 1; i >= 0; i-- {
		switch path[i].(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			return true
		case *ast.FuncLit, *ast.FuncDecl:
			return false
		}
	}
	return false
}

func findDeferredVariable(s *sourceTree, n ast.Node, path []ast.Node) bool {
	pending, ok := n.(*ast.DeferStmt)
	if !ok {
		return false
	}
	found := false
	ast.Inspect(pending.Call, func(n ast.Node) bool {
		if closure, ok := n.(*ast.FuncLit); ok && ast.Expr(closure) == pending.Call.Fun {
			return false // the body of a closure reads its variables at the end in compiled Go as well
		}
		if id, ok := n.(*ast.Ident); ok {
			for _, at := range s.assigned[s.info.Uses[id]] {
				found = found || at > pending.Pos()
			}
		}
		return true
	})
	return found
}

func findMethodValue(s *sourceTree, n ast.Node, path []ast.Node) bool {
	value, ok := n.(*ast.SelectorExpr)
	if !ok || len(path) == 0 {
		return false
	}
	if call, ok := path[len(path)-1].(*ast.CallExpr); ok && call.Fun == ast.Expr(value) {
		return false
	}
	selection := s.info.Selections[value]
	if selection == nil || selection.Kind() != types.MethodVal {
		return false
	}
	for at := value.X; ; {
		if field, ok := at.(*ast.SelectorExpr); ok && len(s.assigned[s.info.Uses[field.Sel]]) == 0 {
			at = field.X // a field that nobody assigns
			continue
		}
		receiver, ok := at.(*ast.Ident)
		object := s.info.Uses[receiver]
		return !ok || s.loop[object] || len(s.assigned[object]) > 0
	}
}

func findReceivedChanged(s *sourceTree, n ast.Node, path []ast.Node) bool {
	if clause, ok := n.(*ast.CommClause); ok {
		receive, ok := clause.Comm.(*ast.AssignStmt)
		return ok && receive.Tok == syntax.ASSIGN
	}
	id, ok := n.(*ast.Ident)
	object := s.info.Defs[id]
	return ok && s.received[object] && s.changed[object]
}

// Statements.

func findNilLeft(s *sourceTree, n ast.Node, path []ast.Node) bool {
	comparison, ok := n.(*ast.BinaryExpr)
	return ok && isEquality(comparison) && s.info.Types[comparison.X].IsNil()
}

func findTaglessList(s *sourceTree, n ast.Node, path []ast.Node) bool {
	choice, ok := n.(*ast.SwitchStmt)
	if !ok || choice.Tag != nil {
		return false
	}
	for _, clause := range choice.Body.List {
		if clause, ok := clause.(*ast.CaseClause); ok && len(clause.List) > 1 {
			return true
		}
	}
	return false
}

func findMapTarget(s *sourceTree, n ast.Node, path []ast.Node) bool {
	assignment, ok := n.(*ast.AssignStmt)
	if !ok || len(assignment.Lhs) < 2 || len(assignment.Rhs) != 1 {
		return false
	}
	for _, target := range assignment.Lhs {
		element, ok := target.(*ast.IndexExpr)
		if !ok {
			continue
		}
		if _, ok := underlying(s, element.X).(*types.Map); ok {
			return true
		}
	}
	return false
}

func findRangeAssign(s *sourceTree, n ast.Node, path []ast.Node) bool {
	loop, ok := n.(*ast.RangeStmt)
	return ok && loop.Tok == syntax.ASSIGN
}

func findRange(s *sourceTree, n ast.Node, path []ast.Node) bool {
	loop, ok := n.(*ast.RangeStmt)
	if !ok {
		return false
	}
	switch underlying(s, loop.X).(type) {
	case *types.Basic, *types.Signature:
		return true
	}
	return false
}

func findBuiltin(s *sourceTree, n ast.Node, path []ast.Node) bool {
	id, ok := n.(*ast.Ident)
	if !ok {
		return false
	}
	_, builtin := s.info.Uses[id].(*types.Builtin)
	return builtin && (id.Name == "min" || id.Name == "max" || id.Name == "clear")
}

func findSeveralLiterals(s *sourceTree, n ast.Node, path []ast.Node) bool {
	assignment, ok := n.(*ast.AssignStmt)
	if !ok || assignment.Tok != syntax.DEFINE {
		return false
	}
	literals := 0
	for _, value := range assignment.Rhs {
		if address, ok := value.(*ast.UnaryExpr); ok {
			value = address.X
		}
		if _, ok := value.(*ast.CompositeLit); !ok {
			continue
		}
		if _, ok := underlying(s, value).(*types.Struct); ok {
			literals++
		}
	}
	return literals > 1
}

func findWidenedReturn(s *sourceTree, n ast.Node, path []ast.Node) bool {
	result, ok := n.(*ast.ReturnStmt)
	if !ok || len(result.Results) != 1 {
		return false
	}
	given, ok := s.info.TypeOf(result.Results[0]).(*types.Tuple)
	if !ok {
		return false
	}
	var wanted types.Type
	switch function := functionAround(path).(type) {
	case *ast.FuncLit:
		wanted = s.info.TypeOf(function)
	case *ast.FuncDecl:
		wanted = s.info.TypeOf(function.Name)
	}
	signature, ok := wanted.(*types.Signature)
	for i := 0; ok && i < given.Len() && i < signature.Results().Len(); i++ {
		if !types.Identical(given.At(i).Type(), signature.Results().At(i).Type()) {
			return true
		}
	}
	return false
}

func findUnnamedParameters(s *sourceTree, n ast.Node, path []ast.Node) bool {
	var parameters *ast.FieldList
	switch function := n.(type) {
	case *ast.FuncLit:
		parameters = function.Type.Params
	case *ast.FuncDecl:
		parameters = function.Type.Params
	default:
		return false
	}
	for _, field := range parameters.List {
		if len(field.Names) == 0 {
			return true
		}
	}
	return false
}

func findExit(s *sourceTree, n ast.Node, path []ast.Node) bool {
	return isCall(s, n, "os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln", "log.Panic", "log.Panicf", "log.Panicln")
}

// Declarations.

func findGeneric(s *sourceTree, n ast.Node, path []ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncType:
		return n.TypeParams != nil
	case *ast.TypeSpec:
		return n.TypeParams != nil
	case *ast.Ident:
		_, ok := s.info.Instances[n]
		return ok
	}
	return false
}

// missingPackages are those of the standard library that plugins cannot import, or whose functions are nearly all generic.
const missingPackages = " C cmp crypto/fips140 crypto/hkdf crypto/mlkem crypto/pbkdf2 crypto/sha3 embed encoding/json/v2 iter maps os/exec plugin slices structs syscall unique unsafe weak "

func findImport(s *sourceTree, n ast.Node, path []ast.Node) bool {
	spec, ok := n.(*ast.ImportSpec)
	if !ok {
		return false
	}
	name := strings.Trim(spec.Path.Value, `"`)
	first, _, _ := strings.Cut(name, "/")
	return strings.Contains(first, ".") || strings.Contains(missingPackages, " "+name+" ")
}

func findDirective(s *sourceTree, n ast.Node, path []ast.Node) bool {
	file, ok := n.(*ast.File)
	if !ok {
		return false
	}
	for _, group := range file.Comments {
		for _, comment := range group.List {
			if strings.HasPrefix(comment.Text, "//go:") {
				return true
			}
		}
	}
	return false
}

func findLocalAlias(s *sourceTree, n ast.Node, path []ast.Node) bool {
	spec, ok := n.(*ast.TypeSpec)
	return ok && spec.Assign.IsValid() && functionAround(path) != nil
}

func findTypedConstant(s *sourceTree, n ast.Node, path []ast.Node) bool {
	spec, ok := n.(*ast.ValueSpec)
	if !ok {
		return false
	}
	for i, value := range spec.Values {
		constant, ok := s.info.Defs[spec.Names[i]].(*types.Const)
		if !ok || !isOwn(s, constant.Type()) {
			continue
		}
		_, literal := value.(*ast.BasicLit)
		id, name := value.(*ast.Ident)
		if !literal && !(name && id.Name == "iota") {
			return true
		}
	}
	return false
}

func findPackageVariable(s *sourceTree, n ast.Node, path []ast.Node) bool {
	spec, ok := n.(*ast.ValueSpec)
	if !ok || functionAround(path) != nil {
		return false
	}
	found := false
	for _, value := range spec.Values {
		ast.Inspect(value, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				_, closure := n.(*ast.FuncLit)
				return !closure
			}
			_, closure := call.Fun.(*ast.FuncLit)
			function := calledBy(s, call)
			found = found || closure || function != nil && function.Pkg() == s.pkg
			return true
		})
	}
	return found
}

func findValueReceiver(s *sourceTree, n ast.Node, path []ast.Node) bool {
	receiver := receiverOf(s, n)
	if receiver == nil {
		return false
	}
	_, ok := receiver.Underlying().(*types.Struct)
	return ok
}

func findEmbeddedInterface(s *sourceTree, n ast.Node, path []ast.Node) bool {
	field, ok := n.(*ast.Field)
	if !ok || len(field.Names) > 0 || !isField(path) {
		return false
	}
	embedded := s.info.TypeOf(field.Type)
	return embedded != nil && isOwn(s, embedded) && types.IsInterface(embedded)
}

func findMethodExpression(s *sourceTree, n ast.Node, path []ast.Node) bool {
	expression, ok := n.(*ast.SelectorExpr)
	if !ok || s.info.Selections[expression] == nil {
		return false
	}
	return s.info.Selections[expression].Kind() == types.MethodExpr
}

func findResponseWriter(s *sourceTree, n ast.Node, path []ast.Node) bool {
	if isMethod(n, "WriteHeader") {
		return true
	}
	field, ok := n.(*ast.Field)
	if !ok || len(field.Names) > 0 || !isField(path) {
		return false
	}
	embedded := s.info.TypeOf(field.Type)
	return embedded != nil && embedded.String() == "net/http.ResponseWriter"
}

// Interfaces and assertions.

func findInterfaceAssertion(s *sourceTree, n ast.Node, path []ast.Node) bool {
	_, target := assertionOf(s, n)
	if target == nil || !types.IsInterface(target) {
		return false
	}
	_, named := target.(*types.Named)
	empty := target.Underlying().(*types.Interface).Empty()
	return isOwn(s, target) || !named && !empty
}

func findConversionAssertion(s *sourceTree, n ast.Node, path []ast.Node) bool {
	assertion, target := assertionOf(s, n)
	if target == nil {
		return false
	}
	call, ok := assertion.X.(*ast.CallExpr)
	return ok && s.info.Types[call.Fun].IsType()
}

func findTwinAssertion(s *sourceTree, n ast.Node, path []ast.Node) bool {
	_, target := assertionOf(s, n)
	if target == nil || !isOwn(s, dereferenced(target)) {
		return false
	}
	fields, ok := dereferenced(target).Underlying().(*types.Struct)
	if !ok {
		return false
	}
	for _, name := range s.pkg.Scope().Names() {
		other, ok := s.pkg.Scope().Lookup(name).(*types.TypeName)
		if ok && !types.Identical(other.Type(), dereferenced(target)) && types.Identical(other.Type().Underlying(), fields) {
			return true
		}
	}
	return false
}

func findUnboundSwitch(s *sourceTree, n ast.Node, path []ast.Node) bool {
	choice, ok := n.(*ast.TypeSwitchStmt)
	if !ok {
		return false
	}
	_, unbound := choice.Assign.(*ast.ExprStmt)
	return unbound
}

func findSwitchCase(s *sourceTree, n ast.Node, path []ast.Node) bool {
	choice, ok := n.(*ast.TypeSwitchStmt)
	if !ok {
		return false
	}
	for _, clause := range choice.Body.List {
		for _, kind := range clause.(*ast.CaseClause).List {
			of := s.info.TypeOf(kind)
			if of != nil && (of.String() == "error" || isOwn(s, dereferenced(of))) {
				return true
			}
		}
	}
	return false
}

func findInterfaceComparison(s *sourceTree, n ast.Node, path []ast.Node) bool {
	if choice, ok := n.(*ast.SwitchStmt); ok && choice.Tag != nil {
		tag := s.info.TypeOf(choice.Tag)
		return tag != nil && types.IsInterface(tag) && (tag.String() == "error" || isOwn(s, tag))
	}
	comparison, ok := n.(*ast.BinaryExpr)
	if !ok || !isEquality(comparison) {
		return false
	}
	left, right := s.info.Types[comparison.X], s.info.Types[comparison.Y]
	if left.IsNil() || right.IsNil() || left.Type == nil || right.Type == nil {
		return false
	}
	if !types.IsInterface(left.Type) && !types.IsInterface(right.Type) {
		return false
	}
	both := left.Type.String() == "error" && right.Type.String() == "error"
	return both || isOwn(s, dereferenced(left.Type)) || isOwn(s, dereferenced(right.Type))
}

// Errors and panics.

func findErrorType(s *sourceTree, n ast.Node, path []ast.Node) bool {
	return isMethod(n, "Error", "Unwrap", "Is", "As")
}

func findErrorsAs(s *sourceTree, n ast.Node, path []ast.Node) bool {
	if !isCall(s, n, "errors.As") {
		return false
	}
	target := s.info.TypeOf(n.(*ast.CallExpr).Args[1])
	return target != nil && isOwn(s, dereferenced(dereferenced(target)))
}

func findErrorConversion(s *sourceTree, n ast.Node, path []ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok || !s.info.Types[call.Fun].IsType() {
		return false
	}
	id, ok := call.Fun.(*ast.Ident)
	return ok && id.Name == "error"
}

func findRecoverAroundNext(s *sourceTree, n ast.Node, path []ast.Node) bool {
	guard, ok := n.(*ast.DeferStmt)
	function := functionAround(path)
	if !ok || function == nil || !treeHolds(guard, func(n ast.Node) bool { return isRecover(s, n) }) {
		return false
	}
	return treeHolds(function, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return false
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		return ok && method.Sel.Name == "ServeHTTP"
	})
}

func findRecoverAssertion(s *sourceTree, n ast.Node, path []ast.Node) bool {
	assertion, target := assertionOf(s, n)
	if target == nil {
		return false
	}
	id, ok := assertion.X.(*ast.Ident)
	return isRecover(s, assertion.X) || ok && s.rescued[s.info.Uses[id]]
}

// Own types in the library's hands.

func findMarshaller(s *sourceTree, n ast.Node, path []ast.Node) bool {
	return isMethod(n, "MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText", "MarshalBinary", "UnmarshalBinary", "GobEncode", "GobDecode", "Format", "GoString")
}

func findJSONType(s *sourceTree, n ast.Node, path []ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return false
	}
	function := calledBy(s, call)
	if function == nil || function.Pkg() == nil || function.Pkg().Path() != "encoding/json" {
		return false
	}
	return isBadJSON(s, s.info.TypeOf(call.Args[len(call.Args)-1]), map[types.Type]bool{})
}

func isBadJSON(s *sourceTree, t types.Type, seen map[types.Type]bool) bool {
	if t == nil || seen[t] {
		return false
	}
	seen[t] = true
	switch u := t.Underlying().(type) {
	case *types.Pointer:
		return isBadJSON(s, u.Elem(), seen)
	case *types.Slice:
		return isBadJSON(s, u.Elem(), seen)
	case *types.Map:
		return isBadJSON(s, u.Elem(), seen)
	case *types.Struct:
		named, ok := t.(*types.Named)
		if ok && (!isOwn(s, t) || named.NumMethods() > 0) {
			return isOwn(s, t)
		}
		for i := 0; i < u.NumFields(); i++ {
			field := u.Field(i)
			hidden := strings.Contains(u.Tag(i), `json:"-"`)
			if !hidden && (!field.Exported() || field.Embedded() || isBadJSON(s, field.Type(), seen)) {
				return true
			}
		}
	}
	return false
}

func findPrintedType(s *sourceTree, n ast.Node, path []ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	function := calledBy(s, call)
	if function == nil || function.Pkg() == nil {
		return false
	}
	signature := function.Type().(*types.Signature)
	prints := function.Pkg().Path() == "fmt" || function.Pkg().Path() == "log" || function.Pkg() == s.pkg && strings.HasSuffix(lastParameter(signature), "format string")
	if !prints || !signature.Variadic() {
		return false
	}
	for i, argument := range call.Args {
		if i >= signature.Params().Len()-1 && isOwnStruct(s, s.info.TypeOf(argument)) {
			return true
		}
	}
	return false
}

// lastParameter gives the name and type of the parameter before the variadic one.
func lastParameter(signature *types.Signature) string {
	count := signature.Params().Len()
	if count < 2 {
		return ""
	}
	before := signature.Params().At(count - 2)
	return before.Name() + " " + before.Type().String()
}

func isOwnStruct(s *sourceTree, t types.Type) bool {
	if t == nil {
		return false
	}
	if named, ok := t.(*types.Named); ok && isOwn(s, t) && named.NumMethods() > 0 {
		return true
	}
	switch u := t.Underlying().(type) {
	case *types.Struct:
		return isOwn(s, t)
	case *types.Pointer:
		return isOwnStruct(s, u.Elem())
	case *types.Slice:
		return isOwnStruct(s, u.Elem())
	case *types.Map:
		return isOwnStruct(s, u.Elem())
	}
	return false
}

func findForeignLiteral(s *sourceTree, n ast.Node, path []ast.Node) bool {
	literal, ok := n.(*ast.CompositeLit)
	if !ok {
		return false
	}
	of := s.info.TypeOf(literal)
	named, ok := of.(*types.Named)
	if !ok || isOwn(s, named) {
		return false
	}
	for _, element := range literal.Elts {
		pair, ok := element.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		value := s.info.TypeOf(pair.Value)
		if value != nil && isOwnStruct(s, value) {
			return true
		}
	}
	return false
}

func findContextKey(s *sourceTree, n ast.Node, path []ast.Node) bool {
	if !isCall(s, n, "context.WithValue") {
		return false
	}
	key := s.info.TypeOf(n.(*ast.CallExpr).Args[1])
	return key == nil || key.String() != "string"
}

// newNames are of Go 1.23 and later. Missing functions are found by loading the plugin; fields and methods of library types
// are those of the Go that built Traefik, so only this list finds them.
const newNames = " CookiesNamed Partitioned Quoted ParseCookie ParseSetCookie SplitSeq SplitAfterSeq FieldsSeq FieldsFuncSeq Lines AsType NewGCMWithRandomNonce EncryptedClientHelloConfigList EncryptedClientHelloKeys "

func findNewLibrary(s *sourceTree, n ast.Node, path []ast.Node) bool {
	id, ok := n.(*ast.Ident)
	if !ok || !strings.Contains(newNames, " "+id.Name+" ") {
		return false
	}
	object := s.info.Uses[id]
	return object != nil && object.Pkg() != nil && object.Pkg() != s.pkg
}

// What the checks ask of a node.

func isEquality(e *ast.BinaryExpr) bool { return e.Op == syntax.EQL || e.Op == syntax.NEQ }

func isReceive(e ast.Expr) bool {
	receive, ok := e.(*ast.UnaryExpr)
	return ok && receive.Op == syntax.ARROW
}

func isRecover(s *sourceTree, n ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	id, ok := call.Fun.(*ast.Ident)
	return ok && id.Name == "recover"
}

// isOwn says whether a type has its name from the package at hand.
func isOwn(s *sourceTree, t types.Type) bool {
	named, ok := t.(*types.Named)
	return ok && named.Obj().Pkg() == s.pkg
}

func dereferenced(t types.Type) types.Type {
	if pointer, ok := t.(*types.Pointer); ok {
		return pointer.Elem()
	}
	return t
}

func underlying(s *sourceTree, e ast.Expr) types.Type {
	of := s.info.TypeOf(e)
	if of == nil {
		return nil
	}
	return of.Underlying()
}

// assertionOf gives an assertion and the type it asks for; nil for every other node, and for a type switch.
func assertionOf(s *sourceTree, n ast.Node) (*ast.TypeAssertExpr, types.Type) {
	assertion, ok := n.(*ast.TypeAssertExpr)
	if !ok || assertion.Type == nil {
		return nil, nil
	}
	return assertion, s.info.TypeOf(assertion.Type)
}

// calledBy gives the function or method that a call names; nil for closures, conversions and built-in functions.
func calledBy(s *sourceTree, call *ast.CallExpr) *types.Func {
	var function *types.Func
	switch name := call.Fun.(type) {
	case *ast.Ident:
		function, _ = s.info.Uses[name].(*types.Func)
	case *ast.SelectorExpr:
		function, _ = s.info.Uses[name.Sel].(*types.Func)
	}
	return function
}

func isCall(s *sourceTree, n ast.Node, names ...string) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	function := calledBy(s, call)
	for _, name := range names {
		if function != nil && function.FullName() == name {
			return true
		}
	}
	return false
}

func isMethod(n ast.Node, names ...string) bool {
	function, ok := n.(*ast.FuncDecl)
	if !ok || function.Recv == nil {
		return false
	}
	for _, name := range names {
		if function.Name.Name == name {
			return true
		}
	}
	return false
}

func receiverOf(s *sourceTree, n ast.Node) types.Type {
	function, ok := n.(*ast.FuncDecl)
	if !ok || function.Recv == nil || len(function.Recv.List) == 0 {
		return nil
	}
	return s.info.TypeOf(function.Recv.List[0].Type)
}

// isField says whether the last nodes of a path make what hangs below them a field or method of a type, not a parameter.
func isField(path []ast.Node) bool {
	if len(path) < 2 {
		return false
	}
	switch path[len(path)-2].(type) {
	case *ast.StructType, *ast.InterfaceType:
		return true
	}
	return false
}

func functionAround(path []ast.Node) ast.Node {
	for i := len(path) - 1; i >= 0; i-- {
		switch path[i].(type) {
		case *ast.FuncLit, *ast.FuncDecl:
			return path[i]
		}
	}
	return nil
}

func treeHolds(n ast.Node, is func(ast.Node) bool) bool {
	found := false
	ast.Inspect(n, func(n ast.Node) bool {
		found = found || is(n)
		return !found
	})
	return found
}

func findUnasked(_ *sourceTree, n ast.Node, path []ast.Node) bool {
	a, ok := n.(*ast.AssignStmt)
	if !ok || len(a.Lhs) != 2 || len(a.Rhs) != 1 {
		return false
	}
	value, isValue := a.Lhs[0].(*ast.Ident)
	asked, isAsked := a.Lhs[1].(*ast.Ident)
	_, isAssertion := a.Rhs[0].(*ast.TypeAssertExpr)
	_, isLookUp := a.Rhs[0].(*ast.IndexExpr)
	if !isValue || value.Name == "_" || !isAsked || asked.Name != "_" || !isAssertion && !isLookUp {
		return false
	}
	for i := len(path) - 1; i >= 0; i-- {
		switch path[i].(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			return true
		case *ast.FuncLit, *ast.FuncDecl:
			return false
		}
	}
	return false
}
