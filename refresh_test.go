package oidc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRefreshOnce(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.expiresIn = 2
	s, b := signedIn(t, p, headersFor("X-User", "sub"))
	p.expiresIn = 300
	time.Sleep(2200 * time.Millisecond)
	p.answer("token", func(rw http.ResponseWriter, req *http.Request) {
		time.Sleep(300 * time.Millisecond)
		p.usual("token", rw, req)
	})
	line := "Cookie: " + b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	var good, cookies int64
	inParallel(100, func(i int) {
		res := b.raw("/", line)
		if res.StatusCode == http.StatusOK {
			atomic.AddInt64(&good, 1)
		}
		if len(res.Header["Set-Cookie"]) > 0 {
			atomic.AddInt64(&cookies, 1)
		}
	})
	if good != 100 || p.count("token") != 2 {
		t.Errorf("expected 100 answers and one refresh, got %d and %d\n%s", good, p.count("token")-1, s.logs())
	}
	if cookies == 0 {
		t.Error("nobody got the new session")
	}
	// Late requests with the old cookie, some seconds on.
	time.Sleep(1500 * time.Millisecond)
	if res := b.raw("/", line); res.StatusCode != http.StatusOK {
		t.Errorf("a late request got %s", res.Status)
	}
	if p.count("token") != 2 {
		t.Errorf("the old refresh token was sent again")
	}
}

func TestRefreshByTwoMiddlewares(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.expiresIn = 2
	options := p.options(sessionOptions("name", "shared"))
	one, other := start(t, options), start(t, options)
	third := start(t, p.options(sessionOptions("name", "shared"), map[string]any{"clientConfig": map[string]any{"timeoutSeconds": 4}}))
	b := newBrowser(t, one)
	b.routes[app+"/other"] = other
	b.routes[app+"/third"] = third
	b.signIn("/")
	p.expiresIn = 300
	time.Sleep(2200 * time.Millisecond)
	inParallel(30, func(i int) {
		c := b.copyOf()
		c.fetch(http.MethodGet, map[int]string{0: "/a", 1: "/other/b", 2: "/third/c"}[i%3], "").upstream()
	})
	if p.count("token") != 2 {
		t.Errorf("expected one refresh, got %d", p.count("token")-1)
	}
}

func TestRefreshTroubles(t *testing.T) {
	now := time.Now().Unix()
	for _, c := range []struct {
		name  string
		bend  func(p *fakeProvider)
		stays bool
		log   string
	}{
		{"500", func(p *fakeProvider) { p.answer("token", answerText(500, "text/plain", "oops")) }, true, "500"},
		{"429", func(p *fakeProvider) { p.answer("token", answerText(429, "text/plain", "slowly")) }, true, "429"},
		{"HTML", func(p *fakeProvider) { p.answer("token", answerHTML()) }, true, "token endpoint"},
		{"connection broken", func(p *fakeProvider) { p.answer("token", answerBroken()) }, true, "token endpoint"},
		{"nothing", func(p *fakeProvider) { p.answer("token", answerNothing()) }, true, "in time"},
		{"our secret is wrong", func(p *fakeProvider) {
			p.answer("token", answerJSON(401, map[string]any{"error": "invalid_client"}))
		}, true, "invalid_client"},
		{"invalid_grant", func(p *fakeProvider) {
			p.answer("token", answerJSON(400, map[string]any{"error": "invalid_grant", "error_description": "session not active"}))
		}, false, "invalid_grant"},
		{"we may not use it", func(p *fakeProvider) {
			p.answer("token", answerJSON(400, map[string]any{"error": "unauthorized_client"}))
		}, true, "unauthorized_client"},
		{"our secret is wrong, says a 200", func(p *fakeProvider) {
			p.answer("token", answerJSON(200, map[string]any{"error": "invalid_client"}))
		}, true, "invalid_client"},
		{"it has no time", func(p *fakeProvider) {
			p.answer("token", answerJSON(400, map[string]any{"error": "temporarily_unavailable"}))
		}, true, "temporarily_unavailable"},
		{"it is broken", func(p *fakeProvider) { p.answer("token", answerJSON(500, map[string]any{"error": "invalid_grant"})) }, true, "500"},
		{"timeout of a proxy", func(p *fakeProvider) { p.answer("token", answerText(408, "text/plain", "")) }, true, "408"},
		{"404", func(p *fakeProvider) { p.answer("token", answerText(404, "text/html", "<p>")) }, true, "404"},
		{"redirect", func(p *fakeProvider) { p.answer("token", answerRedirect("http://127.0.0.1:1/")) }, true, "307"},
		{"neither tokens nor an error", func(p *fakeProvider) { p.answer("token", answerJSON(200, map[string]any{})) }, true, "no access_token"},
		{"invalid_request",
			refusedWith(400, `{"error":"invalid_request","error_description":"Refresh token is invalid or has already been claimed by another client."}`), false, "invalid_request"},
		{"invalid_scope", refusedWith(400, `{"error":"invalid_scope"}`), false, "invalid_scope"},
		{"a sentence", refusedWith(400, `{"error":"Refresh token has expired"}`), false, "Refresh token has expired"},
		{"a sentence that is no JSON", refusedWith(400, `the token is gone`), false, "400"},
		{"an object", refusedWith(400, `{"error":{"code":400,"message":"gone"}}`), false, "400"},
		{"access_denied", refusedWith(403, `{"error":"access_denied"}`), false, "access_denied"},
		{"not_allowed", refusedWith(403, `{"error":"not_allowed"}`), false, "not_allowed"},
		{"interaction_required", refusedWith(400, `{"error":"interaction_required","suberror":"basic_action"}`), false, "interaction_required"},
		{"401", refusedWith(401, `{"error":"invalid_grant"}`), false, "invalid_grant"},
		{"401 without a word", refusedWith(401, ``), false, "401"},
		{"403 without a word", refusedWith(403, ``), false, "403"},
		{"invalid_grant in a 200", refusedWith(200, `{"error":"invalid_grant"}`), false, "invalid_grant"},
		{"a word of its own in a 422", refusedWith(422, `{"error":"user_locked"}`), false, "user_locked"},
		{"ID token with another auth_time", func(p *fakeProvider) {
			p.edit("id_token", func(c map[string]any) { c["auth_time"] = now - 100 })
			p.edit("refreshed_id_token", func(c map[string]any) { c["auth_time"] = now })
		}, true, ""},
		{"no ID token", func(p *fakeProvider) { p.edit("token", func(a map[string]any) { delete(a, "id_token") }) }, true, ""},
		{"no refresh token", func(p *fakeProvider) { p.edit("token", func(a map[string]any) { delete(a, "refresh_token") }) }, true, ""},
		{"no end told", func(p *fakeProvider) { p.edit("token", func(a map[string]any) { delete(a, "expires_in") }) }, true, ""},
		{"poorer ID token", func(p *fakeProvider) {
			p.edit("refreshed_id_token", func(c map[string]any) { delete(c, "email"); delete(c, "name"); delete(c, "sid") })
		}, true, ""},
		{"ID token of somebody else", func(p *fakeProvider) {
			p.edit("refreshed_id_token", func(c map[string]any) { c["sub"] = "eve" })
		}, false, "sub"},
		{"ID token of another issuer", func(p *fakeProvider) {
			p.edit("refreshed_id_token", func(c map[string]any) { c["iss"] = "https://evil.example.com" })
		}, false, "issuer"},
		{"ID token for somebody else", func(p *fakeProvider) {
			p.edit("refreshed_id_token", func(c map[string]any) { c["aud"] = "other" })
		}, false, "audience"},
		{"ID token made for somebody else", func(p *fakeProvider) {
			p.edit("refreshed_id_token", func(c map[string]any) { c["azp"] = "other" })
		}, false, "azp"},
		{"ID token ended", func(p *fakeProvider) {
			p.edit("refreshed_id_token", func(c map[string]any) { c["exp"] = now - 3600 })
		}, false, "exp"},
		{"ID token with another nonce", func(p *fakeProvider) {
			p.edit("refreshed_id_token", func(c map[string]any) { c["nonce"] = "other" })
		}, false, "nonce"},
		{"ID token signed by a stranger", func(p *fakeProvider) {
			p.key = &providerKey{kid: "one", alg: "RS256", private: newPrivateKey("RS256")}
		}, false, "signature"},
		{"UserInfo of somebody else", func(p *fakeProvider) {
			p.edit("userinfo", func(info map[string]any) { info["sub"] = "eve" })
		}, false, "userinfo: sub"},
		{"UserInfo refused", func(p *fakeProvider) { p.answer("userinfo", answerText(403, "text/plain", "")) }, true, ""},
		{"UserInfo away", func(p *fakeProvider) { p.answer("userinfo", answerText(400, "text/plain", "")) }, true, ""},
		{"keys renewed meanwhile", func(p *fakeProvider) { p.rotateKeys("two") }, true, ""},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			hasInfo := !c.stays || strings.HasPrefix(c.name, "UserInfo ")
			p := newFakeProvider(t)
			p.expiresIn = 2
			s, b := signedIn(t, p, headersFor("X-Mail", "email", "X-Locale", "locale"),
				map[string]any{"userinfo": hasInfo, "clientConfig": map[string]any{"timeoutSeconds": 5}})
			p.expiresIn = 300
			c.bend(p)
			time.Sleep(2200 * time.Millisecond)
			for i := 0; i < 3; i++ {
				r := b.fetch(http.MethodGet, "/", "")
				if c.stays && (r.upstream().Headers.Get("X-Mail") != "ada@example.com" || hasInfo && r.upstream().Headers.Get("X-Locale") != "en") {
					t.Errorf("the user's claims are gone: %q", r.upstream().Headers)
				}
				if !c.stays && r.status != http.StatusUnauthorized {
					t.Errorf("expected 401, got %s", r.story())
				}
			}
			if !c.stays && c.log != "userinfo: sub" && p.count("userinfo") != 1 {
				t.Errorf("the access token of a refused refresh was used: %d userinfo requests", p.count("userinfo"))
			}
			if p.count("token") > 3 {
				t.Errorf("no back-off: %d refreshes in no time", p.count("token")-1)
			}
			if c.log != "" {
				s.expectLog(c.log)
			}
		})
	}
}

func refusedWith(status int, body string) func(p *fakeProvider) {
	return func(p *fakeProvider) { p.answer("token", answerText(status, "application/json", body)) }
}

// Who was refused stays so when the provider is away later on: an outage must not let in who was locked out.
func TestRefreshRefusedStaysRefused(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.expiresIn = 2
	_, b := signedIn(t, p)
	refusedWith(403, `{"error":"access_denied"}`)(p)
	time.Sleep(2200 * time.Millisecond)
	copied := b.copyOf()
	b.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	p.away(true)
	time.Sleep(1200 * time.Millisecond) // the pause after a failure
	copied.fetch(http.MethodGet, "/", "").expect(http.StatusUnauthorized)
	if p.count("token") != 2 {
		t.Errorf("the refused token was sent again: %d", p.count("token"))
	}
}

func TestRefreshWhileTheProviderIsAway(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.expiresIn = 2
	s, b := signedIn(t, p, map[string]any{"bypass": "Path(`/public`)"})
	p.away(true)
	time.Sleep(2200 * time.Millisecond)
	for i := 0; i < 20; i++ {
		b.fetch(http.MethodGet, "/", "").upstream()
	}
	calls := p.count("token")
	if calls > 3 {
		t.Errorf("no back-off: %d refreshes", calls)
	}
	newBrowser(t, s).open("/public").upstream()
	p.away(false)
	p.expiresIn = 300
	time.Sleep(3200 * time.Millisecond)
	b.fetch(http.MethodGet, "/", "").upstream()
	if p.count("token") <= calls {
		t.Error("it was not tried again")
	}
}

func TestRefreshIsNotLostWithItsClient(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.expiresIn = 2
	s, b := signedIn(t, p)
	p.expiresIn = 300
	time.Sleep(2200 * time.Millisecond)
	p.answer("token", func(rw http.ResponseWriter, req *http.Request) {
		time.Sleep(500 * time.Millisecond)
		p.usual("token", rw, req)
	})
	line := b.cookieLine(mustParse(app+"/"), "none", http.MethodGet)
	conn, err := net.Dial("tcp", mustParse(s.url).Host)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: app.example.com\r\nX-Forwarded-Proto: https\r\nCookie: %s\r\n\r\n", line)
	time.Sleep(150 * time.Millisecond)
	conn.Close()
	time.Sleep(700 * time.Millisecond)
	b.fetch(http.MethodGet, "/", "").upstream() // with the old cookie
	if p.count("token") != 2 {
		t.Errorf("expected one refresh, got %d", p.count("token")-1)
	}
}

func TestRefreshJudgesTheRuleAnew(t *testing.T) {
	t.Parallel()
	p := newFakeProvider(t)
	p.expiresIn = 2
	_, b := signedIn(t, p, map[string]any{"claims": "Contains(`groups`, `admins`)"})
	p.user["groups"] = []any{"staff"}
	p.expiresIn = 300
	time.Sleep(2200 * time.Millisecond)
	for i := 0; i < 2; i++ {
		b.fetch(http.MethodGet, "/", "").expect(http.StatusForbidden)
	}
	if p.count("token") != 2 {
		t.Errorf("expected one refresh, got %d", p.count("token")-1)
	}
}

// TestRefreshIsWaitedForBriefly: while the access token is good a request waits for a moment only; and what UserInfo says is refreshed, too.
func TestRefreshIsWaitedForBriefly(t *testing.T) {
	inThisProcess(t)
	t.Parallel()
	p := newFakeProvider(t)
	s, b := signedIn(t, p, map[string]any{"userinfo": true})
	sm := testMiddlewareOf(s).sessions
	old, _, err := openSession(context.Background(), sm, s.sessionCookie(), b.cookie(s.sessionCookie()).Value)
	if err = firstError(err, unpackTokens(old)); err != nil {
		t.Fatal(err)
	}
	p.edit("userinfo", func(d map[string]any) { d["locale"] = "cy" })
	fresh, err := redeemRefreshToken(context.Background(), sm, old)
	if err != nil || fresh.Userinfo["locale"] != "cy" {
		t.Fatalf("got %v, %v", fresh, err)
	}
	p.answer("token", answerNothing())
	began := time.Now()
	if _, err := refreshSession(context.Background(), sm, fresh); !errors.Is(err, errUnavailable) || time.Since(began) > 4*briefWait {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

// TestRefreshIsWaitedForNoLongerThanItsRequest: whoever waits for another's refresh goes on when its own time is over, and the result is
// there for those who come later.
func TestRefreshIsWaitedForNoLongerThanItsRequest(t *testing.T) {
	inThisProcess(t)
	t.Parallel()
	p := newFakeProvider(t)
	s, b := signedIn(t, p)
	sm := testMiddlewareOf(s).sessions
	old, _, err := openSession(context.Background(), sm, s.sessionCookie(), b.cookie(s.sessionCookie()).Value)
	if err = firstError(err, unpackTokens(old)); err != nil {
		t.Fatal(err)
	}
	old.TokenEnd = 1 // whoever refreshes waits for as long as a request may take
	release := make(chan struct{})
	p.answer("token", func(rw http.ResponseWriter, req *http.Request) {
		<-release
		p.usual("token", rw, req)
	})
	calls := p.count("token")
	var first *session
	leader := make(chan error, 1)
	go func() {
		var err error
		first, err = refreshSession(context.Background(), sm, old)
		leader <- err
	}()
	eventually(t, "the provider is asked", func() bool { return p.count("token") == calls+1 })
	brief, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stop()
	if fresh, err := refreshSession(brief, sm, old); fresh != nil || !errors.Is(err, errInProgress) {
		t.Errorf("who waited got %v, %v", fresh, err)
	}
	close(release)
	if err := <-leader; err != nil {
		t.Fatal(err)
	}
	if fresh, err := refreshSession(context.Background(), sm, old); err != nil || fresh != first || p.count("token") != calls+1 {
		t.Errorf("who came later got %v, %v, after %d calls", fresh, err, p.count("token")-calls)
	}
}
