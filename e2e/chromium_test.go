package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// chromium is a real browser. It does what e2e/node/browser.mjs tells it, and that does what is said here.
type chromium struct {
	once    sync.Once
	err     error
	process *parts.Process
	write   *os.File

	mu      sync.Mutex
	last    int
	waiting map[int]chan reply
}

// theChromium is the one that all tests share; the first that wants it starts it.
var theChromium chromium

// reply is what became of a command.
type reply struct {
	ID    int
	Value json.RawMessage
	Error string
}

// start runs the browser, unless it runs.
func (c *chromium) start(l *lab, program string) error {
	c.once.Do(func() { c.err = c.run(l, program) })
	return c.err
}

func (c *chromium) run(l *lab, program string) error {
	node, err := parts.Find("node")
	if err != nil {
		return err
	}
	folder := filepath.Join(l.root, "e2e", "node")
	if err := parts.InstallNodeModules(folder); err != nil {
		return err
	}
	stdin, write, err := os.Pipe()
	if err != nil {
		return err
	}
	read, stdout, err := os.Pipe()
	if err != nil {
		return err
	}
	c.write, c.waiting = write, map[int]chan reply{}
	c.process, err = parts.StartProcess(parts.Command{
		Name: "Chromium", Path: node, Args: []string{"browser.mjs", program}, Dir: folder,
		Stdin: stdin, Stdout: stdout, LogFile: filepath.Join(l.dir, "chromium.log"),
	})
	stdin.Close()
	stdout.Close()
	if err != nil {
		return err
	}
	go c.listen(read)
	return nil
}

// listen hands the replies to those who wait for them, until the browser ends.
func (c *chromium) listen(read *os.File) {
	defer read.Close()
	lines := bufio.NewReader(read)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var r reply
		if err := json.Unmarshal(line, &r); err != nil {
			r.Error = fmt.Sprintf("not a reply: %s", line)
		}
		c.mu.Lock()
		waiting := c.waiting[r.ID]
		delete(c.waiting, r.ID)
		c.mu.Unlock()
		if waiting != nil {
			waiting <- r
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, waiting := range c.waiting {
		waiting <- c.gone()
	}
	c.waiting = nil
}

func (c *chromium) gone() reply {
	return reply{Error: "the browser has ended; its log is " + c.process.LogFile + ":\n" + c.process.Log(0)}
}

// send gives a command on a window or tab, and does not wait.
func (c *chromium) send(on int, do string, with ...any) chan reply {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := make(chan reply, 1)
	if c.waiting == nil {
		waiting <- c.gone()
		return waiting
	}
	c.last++
	c.waiting[c.last] = waiting
	if err := json.NewEncoder(c.write).Encode(map[string]any{"id": c.last, "do": do, "on": on, "with": append([]any{}, with...)}); err != nil {
		delete(c.waiting, c.last)
		waiting <- reply{Error: err.Error()}
	}
	return waiting
}

func (c *chromium) stop() {
	if c.process != nil {
		c.write.Close()
		c.process.Stop()
	}
}

// window has cookies of its own, and tabs.
type window struct {
	*chromium
	t      *testing.T
	app    *app
	base   string // the app's address, http unless told otherwise
	number int
}

// window opens a new one, as Playwright's options say ("colorScheme", "viewport"). It is closed when the test ends.
func (a *app) window(t *testing.T, options ...with) *window {
	t.Helper()
	program := need(t, "chromium")
	need(t, "node")
	c := &theChromium
	if err := c.start(a.lab, program); err != nil {
		t.Fatal(err)
	}
	all := with{}
	for _, option := range options {
		all = both(all, option)
	}
	w := &window{chromium: c, t: t, app: a, base: a.URL}
	how := "window"
	if all["args"] != nil || all["preferences"] != nil {
		how = "browser"
	}
	w.decode(<-c.send(0, how, all), &w.number)
	t.Cleanup(func() { <-c.send(w.number, "close") })
	return w
}

// secureWindow opens one that uses https.
func (a *app) secureWindow(t *testing.T, options ...with) *window {
	t.Helper()
	w := a.window(t, options...)
	w.base = a.Secure
	return w
}

// decode reads what a command gave; a failed command ends the test.
func (w *window) decode(r reply, into any) {
	w.t.Helper()
	if r.Error != "" {
		w.t.Fatal(r.Error)
	}
	if err := json.Unmarshal(r.Value, into); err != nil {
		w.t.Fatalf("%s: %v", r.Value, err)
	}
}

// url is an address of the app; another site's stays as it is.
func (w *window) url(path string) string {
	if strings.HasPrefix(path, "/") {
		return w.base + path
	}
	return path
}

// cookieNames lists the cookies the app's pages would get.
func (w *window) cookieNames() []string {
	w.t.Helper()
	var cookies []struct{ Name string }
	w.decode(<-w.send(w.number, "cookies", w.url("/")), &cookies)
	var names []string
	for _, cookie := range cookies {
		if isRound(cookie.Name) {
			continue
		}
		names = append(names, strings.ReplaceAll(cookie.Name, w.app.name, "NAME"))
	}
	return names
}

// cookieSize is how long the line of cookies is that the app's pages get.
func (w *window) cookieSize() int {
	w.t.Helper()
	var cookies []struct{ Name, Value string }
	w.decode(<-w.send(w.number, "cookies", w.url("/")), &cookies)
	size := 0
	for _, cookie := range cookies {
		size += len(cookie.Name + "=" + cookie.Value + "; ")
	}
	return size
}

// forget takes the app's cookies away, and leaves the provider's: the session here has ended.
func (w *window) forget() {
	w.t.Helper()
	w.decode(<-w.send(w.number, "clearCookies", with{"domain": w.app.host}), new(any))
}

// tab is one of a window. Its methods end the test when something does not happen.
type tab struct {
	*window
	number    int
	documents []document // loaded so far, those that only redirect included
	expected  []string   // what the console may say
}

// document is an answer to a page load.
type document struct {
	URL     string
	Status  int
	Headers map[string]string
}

// tab opens a new one. When the test ends, its console must be silent but for what was expected.
func (w *window) tab() *tab {
	w.t.Helper()
	t := &tab{window: w}
	w.decode(<-w.send(w.number, "tab"), &t.number)
	w.t.Cleanup(func() {
		w.t.Helper()
		for _, complaint := range t.complaints() {
			w.t.Errorf("the console says: %s", complaint)
		}
	})
	return t
}

// expect lets the console say what contains these words.
func (t *tab) expect(words string) { t.expected = append(t.expected, words) }

// complaints are what the console said unexpectedly since the last time; the documents of that time are added.
func (t *tab) complaints() []string {
	t.t.Helper()
	var noted struct {
		Documents  []document
		Complaints []string
	}
	t.decode(<-t.send(t.number, "noted"), &noted)
	t.documents = append(t.documents, noted.Documents...)
	var unexpected []string
	for _, complaint := range noted.Complaints {
		known := false
		for _, words := range t.expected {
			known = known || strings.Contains(complaint, words)
		}
		if !known {
			unexpected = append(unexpected, complaint)
		}
	}
	return unexpected
}

// document is the last one that was loaded.
func (t *tab) document() document {
	t.t.Helper()
	for _, complaint := range t.complaints() {
		t.t.Errorf("the console says: %s", complaint)
	}
	if len(t.documents) == 0 {
		t.t.Fatal("no document yet")
	}
	return t.documents[len(t.documents)-1]
}

// loaded finds the last document whose address begins so.
func (t *tab) loaded(path string) document {
	t.t.Helper()
	t.document()
	for i := len(t.documents) - 1; i >= 0; i-- {
		if strings.HasPrefix(t.documents[i].URL, t.url(path)) {
			return t.documents[i]
		}
	}
	t.t.Fatalf("nothing was loaded from %s, but %v", path, t.documents)
	return document{}
}

// do runs a command on the tab.
func (t *tab) do(name string, with ...any) json.RawMessage {
	t.t.Helper()
	return t.done(<-t.send(t.number, name, with...), name, with...)
}

// done is the value of a command's reply.
func (t *tab) done(r reply, name string, with ...any) json.RawMessage {
	t.t.Helper()
	if r.Error != "" {
		shown := <-t.send(t.number, "evaluate", "location.href + '\\n' + document.body.innerText.slice(0, 600)")
		var text string
		json.Unmarshal(shown.Value, &text)
		t.t.Fatalf("%s %v: %s\non %s", name, with, r.Error, text)
	}
	return r.Value
}

// open types an address, and waits until the page it leads to is there.
func (t *tab) open(path string) { t.t.Helper(); t.do("goto", t.url(path)) }

// click presses what a person reads there, a link or a button.
func (t *tab) click(text string) { t.t.Helper(); t.do("click", action(text)) }

// action selects a link or a button by its text.
func action(text string) string { return fmt.Sprintf(":is(a, button):text-is(%q)", text) }

// press presses keys, one after the other.
func (t *tab) press(keys ...string) {
	t.t.Helper()
	for _, key := range keys {
		t.do("keyboard.press", key)
	}
}

// see waits until a text is to be read.
func (t *tab) see(text string) {
	t.t.Helper()
	t.do("waitForSelector", fmt.Sprintf("text=%q", text))
}

// isAt waits until the address is this one.
func (t *tab) isAt(path string) { t.t.Helper(); t.do("waitForURL", t.url(path)) }

// back presses the browser's back button.
func (t *tab) back() { t.t.Helper(); t.do("goBack") }

// evaluate runs a script on the page.
func (t *tab) evaluate(script string, into any) {
	t.t.Helper()
	if err := json.Unmarshal(t.do("evaluate", script), into); err != nil {
		t.t.Fatalf("%s: %v", script, err)
	}
}

// signIn fills in the provider's form, which must be there.
func (t *tab) signIn(user provider.User) {
	t.t.Helper()
	t.do("fill", `input[name="username"]`, user.Name)
	t.do("fill", `input[name="password"]`, user.Password)
	t.do("press", `input[name="password"]`, "Enter")
	t.do("waitForURL", t.base+"/**")
}

// enter opens an address, signs in at the provider, and must end where it began.
func (t *tab) enter(path string, user provider.User) {
	t.t.Helper()
	t.open(path)
	t.signIn(user)
	t.isAt(path)
	if got := t.document(); got.Status != http.StatusOK {
		t.t.Fatalf("%s is not signed in: %v", user.Name, got)
	}
}
