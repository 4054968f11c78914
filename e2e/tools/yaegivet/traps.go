package main

import "go/ast"

// trap is one construct that the plugin may not use.
type trap struct {
	name    string
	harm    string                                            // what the interpreter does with it
	instead string                                            // what to write
	caught  []string                                          // samples that it must be found in, so that a check that has gone blind fails
	find    func(s *source, n ast.Node, path []ast.Node) bool // path: the nodes around n, the outermost first
}

var traps = []trap{
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
		name: "= with several values of which one is nil", harm: "panics", instead: "one assignment each",
		find: findNilAmongValues,
		caught: []string{
			`func f() { list, n := []int{1}, 1; list, n = nil, 2; use(list, n) }`,
			`func f(p *pointed, err error) { err, p = nil, nil; use(err, p) }`,
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
		name: "named result read before it is assigned", harm: "it is not zero when a loop calls the function again, but what it was in the turn before", instead: "assign to it, or use a variable of the body",
		find: findNamedResult,
		caught: []string{
			`func f(is bool) (n int) { if is { n = 7 }; return }`,
			`func f(is bool) (n int) { if is { n = 7 }; return n }`,
			`func f(v string) (list []string) { list = append(list, v); return list }`,
			`func f(is bool) (n int, word string) { if is { return 7, "x" }; return 0, word }`,
			`func f() (n int) { for use(); n < 3; n++ { use() }; return 1 }`,
			`func f(list []int) (n int, err error) { for range list { n, err = number() }; return n, err }`,
			`func f() (v plain) { v.Name = "x"; return v }`,
			`func f() { use(func() (n int) { n++; return n }) }`,
			`func f(v any) (p *pointed) { if p, _ = v.(*pointed); p == nil { return nil }; return p }`,
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
