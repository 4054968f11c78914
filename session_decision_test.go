package oidc

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// asNew opens a page after the middleware has forgotten everybody.
func asNew(b *browser, m *middleware) *reply {
	forgetAll(m)
	return b.open("/")
}

// TestSessionDecision: what was judged when a session was sealed is good for these very options, until there is something to do.
func TestSessionDecision(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	p.user["groups"] = []any{"staff"}
	options := mergeClaims(headersFor("X-User", "sub", "X-Groups", "groups", "X-None", "none"),
		map[string]any{"claims": "Contains(`groups`, `staff`)", "usernameClaim": "sub"})
	s, b := signedIn(t, p, options)
	m := testMiddlewareOf(s)
	sealed := func() *decision {
		opened, current, err := openSession(context.Background(), m.sessions, s.sessionCookie(), b.cookie(s.sessionCookie()).Value)
		if err != nil || !current {
			t.Fatal(current, err)
		}
		return opened.Decision
	}
	tamper := func(change func(d *decision)) {
		opened, _, err := openSession(context.Background(), m.sessions, s.sessionCookie(), b.cookie(s.sessionCookie()).Value)
		if err != nil {
			t.Fatal(err)
		}
		change(opened.Decision)
		packed, err := packSession(opened)
		if err != nil {
			t.Fatal(err)
		}
		b.setCookie(s.sessionCookie(), seal(m.sessions.sealer, s.sessionCookie(), packed))
	}
	made := sealed()
	if made == nil || made.By != m.sessions.hash || made.Subject != "ada" || made.Username != "ada" || len(made.Names) != 2 || len(made.Values) != 2 {
		t.Fatalf("sealed: %+v", made)
	}
	tamper(func(d *decision) { d.Username = "by the decision" }) // tells which way a request went; nobody but us can seal
	got := asNew(b, m).upstream()
	if got.User != "by the decision" || got.Headers.Get("X-User") != "ada" || got.Headers.Get("X-Groups") != "staff" || got.Headers.Get("X-None") != "" {
		t.Errorf("by the decision: %+v", got)
	}
	for name, change := range map[string]func(d *decision){
		"by other options":             func(d *decision) { d.By = strings.Repeat("x", len(d.By)) },
		"of nobody":                    func(d *decision) { d.By = "" },
		"when something is to be done": func(d *decision) { d.Until = time.Now().Unix() },
	} {
		by, until := m.sessions.hash, made.Until
		tamper(change)
		if got := asNew(b, m).upstream(); got.User != "ada" {
			t.Errorf("%s: the decision counted", name)
		}
		tamper(func(d *decision) { d.By, d.Until = by, until })
	}
	// Sealed with a secret that is replaced: it is read, and sealed anew with what is judged now.
	keys := m.sessions.sealer.aeads
	m.sessions.sealer.aeads = append(newSealer([]string{"another secret"}, m.config.Issuer, m.config.ClientID, "session").aeads, keys...)
	if got := asNew(b, m).upstream(); got.User != "ada" || sealed().Username != "ada" {
		t.Error("an old secret's decision counted")
	}
	revoke(m.sessions, m.sessions.state.revoked, "sub:ada", time.Now().UnixMilli())
	forgetAll(m)
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
}

// TestSessionDecisionAfterRefresh: it is made anew with the tokens, so nobody keeps a group that was taken away.
func TestSessionDecisionAfterRefresh(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.user["groups"] = []any{"staff", "admins"}
	p.expiresIn = 2
	s, b := signedIn(t, p, headersFor("X-Groups", "groups"), map[string]any{"claims": "Contains(`groups`, `staff`)"})
	p.user["groups"] = []any{"staff"}
	time.Sleep(2 * time.Second)
	for i := 0; i < 2; i++ {
		s.reload()
		if got := b.open("/").upstream(); got.Headers.Get("X-Groups") != "staff" {
			t.Errorf("look %d: %q", i, got.Headers)
		}
	}
}

// TestSessionDecisionOfAnotherMiddleware: of those that share a session each judges it by its own options, and by what is in their files now.
func TestSessionDecisionOfAnotherMiddleware(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.user = mergeClaims(p.user, map[string]any{"groups": []any{"staff"}, "name": "Ada", "acr": "low"})
	file := filepath.Join(t.TempDir(), "groups")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("staff")
	options := p.options(sessionOptions("name", "shared"), headersFor("X-User", "sub", "X-Groups", "groups"),
		map[string]any{"claims": "OneOf(`groups`, `${file:" + file + "}`)", "usernameClaim": "sub"})
	b := newBrowser(t, start(t, options))
	b.signIn("/")
	at := func(more map[string]any) *reply {
		other := newBrowser(t, start(t, mergeClaims(options, more)))
		other.setCookie("shared", b.cookie("shared").Value)
		return other.fetch(http.MethodGet, "/", "")
	}
	for _, row := range []struct {
		option             string
		value              any
		user, name, groups string
	}{
		{"unauthenticated", "deny", "ada", "ada", "staff"},
		{"forwardHeaders", map[string]any{"X-User": "name"}, "ada", "Ada", ""},
		{"usernameClaim", "name", "Ada", "ada", "staff"},
		{"usernameClaim", "", "", "ada", "staff"},
	} {
		got := at(map[string]any{row.option: row.value}).upstream()
		if seen := got.Headers; got.User != row.user || seen.Get("X-User") != row.name || seen.Get("X-Groups") != row.groups {
			t.Errorf("%s %v: %+v", row.option, row.value, got)
		}
	}
	at(map[string]any{"claims": "Equals(`sub`, `eve`)"}).expect(http.StatusForbidden)
	at(map[string]any{"acrValues": "high"}).expect(http.StatusUnauthorized)
	write("admins")
	at(nil).expect(http.StatusForbidden)
}

// TestSessionDecisionIsShort: headers that would fill the cookie are made anew each time.
func TestSessionDecisionIsShort(t *testing.T) {
	p := newFakeProvider(t)
	for size := maxDecisionSize; size <= maxDecisionSize+1; size++ {
		p.user["groups"] = []any{strings.Repeat("g", maxDecisionSize/2), strings.Repeat("h", size-maxDecisionSize/2-1)}
		s, b := signedIn(t, p, headersFor("X-Groups", "groups"))
		opened, _, err := openSession(context.Background(), testMiddlewareOf(s).sessions, s.sessionCookie(), b.cookie(s.sessionCookie()).Value)
		if err != nil || (opened.Decision == nil) != (size > maxDecisionSize) {
			t.Error(size, err, opened.Decision)
		}
		if got := b.open("/").upstream(); len(got.Headers.Get("X-Groups")) != size {
			t.Errorf("%q", got.Headers)
		}
	}
}

// TestSessionDecisionLeavesTokensOut: headers of the tokens themselves are made of what is in the session already.
func TestSessionDecisionLeavesTokensOut(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	p.jwtAccessTokens = true
	s, b := signedIn(t, p, mergeClaims(headersFor("Authorization", "Bearer {access_token}", "X-ID", "{id_token}", "X-User", "sub", "X-Fixed", "'yes'"),
		map[string]any{"usernameClaim": "sub"}))
	m := testMiddlewareOf(s)
	opened, _, err := openSession(context.Background(), m.sessions, s.sessionCookie(), b.cookie(s.sessionCookie()).Value)
	if err != nil || opened.Decision == nil || len(opened.Decision.Names) != 2 {
		t.Fatal(err, opened.Decision)
	}
	opened.Decision.Username = "by the decision"
	packed, err := packSession(opened)
	if err != nil {
		t.Fatal(err)
	}
	b.setCookie(s.sessionCookie(), seal(m.sessions.sealer, s.sessionCookie(), packed))
	got := asNew(b, m).upstream()
	for name, want := range map[string]string{"Authorization": "Bearer " + opened.accessToken, "X-Id": opened.idToken, "X-User": "ada", "X-Fixed": "yes"} {
		if got.User != "by the decision" || len(opened.accessToken) < 200 || got.Headers.Get(name) != want {
			t.Errorf("%s: %q, expected %q", name, got.Headers.Get(name), want)
		}
	}
}

// TestSessionDecisionDuringALogout: who is logged out while the token for the upstream is fetched is not let in any more.
func TestSessionDecisionDuringALogout(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	s, b := signedIn(t, p, map[string]any{"oAuthClientCredentials": map[string]any{"url": p.issuer + "/token", "clientId": "app", "clientSecret": p.clientSecret}})
	m := testMiddlewareOf(s)
	m.clientCredentials.client.responses = newBoundedCache(1 << 20)
	asked := 0
	p.answer("token", func(rw http.ResponseWriter, req *http.Request) {
		asked++
		revoke(m.sessions, m.sessions.state.revoked, "sub:ada", time.Now().UnixMilli())
		p.usual("token", rw, req)
	})
	forgetAll(m)
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	if asked != 1 {
		t.Errorf("the provider was asked %d times", asked)
	}
}

// TestSessionDecisionOfALevel: none is made for a session that these options would not accept.
func TestSessionDecisionOfALevel(t *testing.T) {
	p := newFakeProvider(t)
	s, b := signedIn(t, p)
	sm := testMiddlewareOf(s).sessions
	opened, _, err := openSession(context.Background(), sm, s.sessionCookie(), b.cookie(s.sessionCookie()).Value)
	if err == nil {
		err = unpackTokens(opened)
	}
	if err != nil || decide(sm, opened, time.Now()) == nil {
		t.Fatal("no decision at all:", err)
	}
	sm.config.ACRValues = []string{"high"}
	if decide(sm, opened, time.Now()) != nil {
		t.Error("a session of another level was decided on")
	}
}

// TestSessionDecisionIsBoundToAllOptions: each option, whatever it is for, is part of the name of the options.
func TestSessionDecisionIsBoundToAllOptions(t *testing.T) {
	if interpreted() {
		t.Skip("it walks types by reflection")
	}
	c := &Config{}
	before, count := optionsKey(c), 0
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		was := reflect.New(v.Type()).Elem()
		was.Set(v)
		switch v.Kind() {
		case reflect.Struct:
			for i := 0; i < v.NumField(); i++ {
				walk(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
			return
		case reflect.Ptr:
			v.Set(reflect.New(v.Type().Elem()))
			if v.Elem().Kind() == reflect.Struct {
				walk(path, v.Elem())
			}
		case reflect.String:
			v.SetString("x")
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int:
			v.SetInt(7)
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		case reflect.Map:
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(reflect.Zero(v.Type().Key()), reflect.Zero(v.Type().Elem()))
		default:
			t.Fatalf("%s is of a kind that is not tried: %s", path, v.Kind())
		}
		if count++; optionsKey(c) == before {
			t.Errorf("%s: another value has the same name", path)
		}
		v.Set(was)
	}
	walk("", reflect.ValueOf(c).Elem())
	if count < 150 {
		t.Errorf("only %d options were tried", count)
	}
}

// TestSessionDecisionLeavesRoomForTokens: tokens that fit into a browser's cookies fit beside a decision, too.
func TestSessionDecisionLeavesRoomForTokens(t *testing.T) {
	inThisProcess(t)
	p := newFakeProvider(t)
	p.user["groups"] = strings.Repeat(randomText(), 10)
	s, b := signedIn(t, p, headersFor("X-Groups", "groups"))
	sm := testMiddlewareOf(s).sessions
	opened, _, err := openSession(context.Background(), sm, s.sessionCookie(), b.cookie(s.sessionCookie()).Value)
	if err != nil || opened.Decision == nil || unpackTokens(opened) != nil {
		t.Fatal(err, opened.Decision)
	}
	req, now := httptest.NewRequest(http.MethodGet, app, nil), time.Now()
	fits := func(withoutDecision session) bool {
		withoutDecision.Decision = nil
		content, err := packSession(&withoutDecision)
		return err == nil && setSessionCookie(sm, httptest.NewRecorder(), req, &withoutDecision, content, now) == nil
	}
	largest := *opened
	largest.Renewed = now.Unix() // as it is saved below: another second may deflate to another length
	for size := 23000; size > 0; size -= 16 {
		largest.accessToken = base64.RawURLEncoding.EncodeToString(randomBytes(size))
		if fits(largest) {
			break
		}
	}
	if len(largest.accessToken) < 20000 {
		t.Fatalf("only %d bytes fit", len(largest.accessToken))
	}
	if _, err := saveSession(sm, httptest.NewRecorder(), req, &largest, false, now); err != nil {
		t.Error(err)
	}
}
