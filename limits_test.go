package oidc

import (
	"bufio"
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// numbered is the text of a JSON object whose member n is that number.
func numbered(n int) string { return fmt.Sprintf(`{"n":%d}`, n) }

// padded is text with as much behind it as makes n bytes.
func padded(text, filler, end string, n int) string {
	return text + strings.Repeat(filler, n-len(text)-len(end)) + end
}

// limitRow is a limit: what is as large as most passes.
type limitRow struct {
	name   string
	most   int
	passes func(n int) bool
}

// TestLimits: what is as large as it may be passes, and what is larger by one does not.
func TestLimits(t *testing.T) {
	limitsFolder = t.TempDir()
	withHeader := func(name, value string) *http.Request {
		req := httptest.NewRequest(http.MethodPost, app+"/", nil)
		req.Header.Set(name, value)
		return req
	}
	for _, row := range append([]limitRow{
		{"bytes of a rule", maxExpression, func(n int) bool {
			_, err := parseBypass(padded("Path(`/", "x", "`)", n))
			return err == nil
		}},
		{"parentheses of a rule", maxDepth, func(n int) bool {
			_, err := parseBypass(strings.Repeat("(", n) + "Path(`/`)" + strings.Repeat(")", n))
			return err == nil
		}},
		{"bytes of a JSON text", maxJSONSize, func(n int) bool {
			_, err := parseObject([]byte(padded(`{"a":"`, "x", `"}`, n)))
			return err == nil
		}},
		{"levels of a JSON text", maxLevels, func(n int) bool {
			_, err := parseObject([]byte(`{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}`))
			return err == nil
		}},
		{"seconds of a date", maxNumericDate, func(n int) bool {
			whole, err := numericDate(claimsOf(t, numbered(n)), "n")
			_, other := numericDate(claimsOf(t, fmt.Sprintf(`{"n":%d.0e0}`, n)), "n")
			return err == nil && whole == int64(n) && other == nil
		}},
		{"seconds of an access token", 1<<31 - 1, func(n int) bool {
			got, err := readTokenResponse(&client{log: newLogger("x", "error")}, http.StatusOK, []byte(fmt.Sprintf(`{"access_token":"a","expires_in":%d}`, n)))
			return err == nil && got.expiresIn == int64(n)
		}},
		{"bits of an RSA key", maxRSABits, func(n int) bool {
			_, err := newKey(&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), uint(n-1)), E: 3})
			return err == nil
		}},
		{"bits of an RSA key, not fewer", -minRSABits, func(n int) bool {
			_, err := newKey(&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), uint(-n-1)), E: 3})
			return err == nil
		}},
		{"cookies of a request", maxCookies, func(n int) bool {
			return len(cookies(withHeader("Cookie", strings.Repeat("a=b; ", n-1)+"a=b"))) == n
		}},
		{"bytes of a prefix", maxPrefix, func(n int) bool {
			return forwardedPrefix(withHeader("X-Forwarded-Prefix", padded("/", "x", "", n))) != ""
		}},
		{"bytes of a session", maxUnpacked - 1, func(n int) bool {
			content, err := packSession(&session{accessToken: padded("", "x", "", n-sessionFrame(t, n))})
			text, bad := inflate(content)
			return err == nil && bad == nil && len(text) == n
		}},
	}, append(append(limitsOfTokens, limitsOfRequests...), append(limitsOfAnswers, limitsOfTime...)...)...) {
		if !row.passes(row.most) || row.passes(row.most+1) {
			t.Errorf("%s: %d: %v, one more: %v", row.name, row.most, row.passes(row.most), row.passes(row.most+1))
		}
	}
}

// sessionFrame is how many bytes a session has beside a token of about n bytes.
func sessionFrame(t *testing.T, n int) int {
	content, err := packSession(&session{accessToken: padded("", "x", "", n-1000)})
	if err != nil {
		t.Fatal(err)
	}
	text, err := inflate(content)
	if err != nil {
		t.Fatal(err)
	}
	return len(text) - (n - 1000)
}

// limitsOfTokens are those of tokens, keys and secrets.
var limitsOfTokens = []limitRow{
	{"bytes of an object", maxJSONSize, func(n int) bool {
		_, err := parseObject([]byte(padded(`{"n":"`, "x", `"}`, n)))
		return err == nil
	}},
	{"levels of an object", maxLevels, func(n int) bool {
		_, err := parseObject([]byte(`{"n":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}"))
		return err == nil
	}},
	{"bytes of a token", maxTokenSize, func(n int) bool {
		_, err := parseToken(padded("", ".", "", n))
		return err != nil && !strings.Contains(err.Error(), "must have at most")
	}},
	{"bytes of a token that the provider is asked about", maxTokenSize, func(n int) bool {
		c := &client{responses: newBoundedCache(1)}
		c.outage.until = time.Now().Add(time.Hour)
		c.outage.err = errUnavailable
		_, err := introspect(context.Background(), &tokenVerifier{client: c}, padded("", "x", "", n), nil)
		return errors.Is(err, errUnavailable)
	}},
	{"bytes of a sub", maxName, func(n int) bool {
		return checkName(map[string]any{"sub": padded("", "x", "", n)}, "sub", maxName, true) == nil
	}},
	{"bytes of a kid", maxKeyID, func(n int) bool {
		_, err := readHeader(base64url.EncodeToString([]byte(padded(`{"alg":"RS256","kid":"`, "x", `"}`, n+len(`{"alg":"RS256","kid":""}`)))))
		return err == nil
	}},
	{"bytes of a JOSE header that is remembered", 1<<10 - 1, func(n int) bool {
		part := base64url.EncodeToString([]byte(padded(`{"alg":"RS256","x":"`, "x", `"}`, n*3/4)))
		_, err := readHeader(part)
		return err == nil && len(part) == n && cacheGet(parsedHeaders, part) != nil
	}},
	{"the exponent of an RSA key", math.MaxInt32, func(n int) bool {
		_, err := newKey(&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), minRSABits-1), E: n})
		return err == nil
	}},
	{"the exponent of an RSA key, no smaller", -3, func(n int) bool {
		_, err := newKey(&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), minRSABits-1), E: -n})
		return err == nil
	}},
	{"keys that are tried for a token", maxTries, func(n int) bool {
		t := &token{alg: "HS256", signed: "a.b"}
		var keys []*key
		for i := 1; i <= n; i++ {
			keys = append(keys, &key{kind: "oct", public: []byte(padded(fmt.Sprint(i, "-"), "x", "", 32))})
		}
		mac := hmac.New(sha256.New, []byte(padded(fmt.Sprint(n, "-"), "x", "", 32)))
		mac.Write([]byte(t.signed))
		t.signature = mac.Sum(nil)
		found, err := verifyWithKeys(keys, t)
		return found && err == nil
	}},
	{"bytes of a secret for HS256, no fewer", -32, func(n int) bool {
		secret := []byte(padded("", "x", "", -n))
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte("a.b"))
		_, err := newSecretKey(secret, []string{"HS256"})
		return err == nil && verifyHMAC(crypto.SHA256, secret, &token{alg: "HS256", signed: "a.b", signature: mac.Sum(nil)})
	}},
	{"bytes of a secret for all of HMAC, no fewer", -64, func(n int) bool {
		rules := &tokenRules{}
		_, err := secretKey(&JWTConfig{SigningSecret: padded("", "x", "", -n)}, rules)
		return err == nil && len(rules.algorithms) == 3
	}},
	{"bytes of a sealed value, no fewer", -29, func(n int) bool {
		s := newSealer([]string{"secret"}, "", "", "")
		plain, _, err := open(s, "name", seal(s, "name", nil)[:base64url.EncodedLen(-n)])
		return err == nil && len(plain) == 0
	}},
	{"of a pending login, no fewer", -33, func(n int) bool {
		content := append([]byte(padded("", "x", "", 32)), deflate([]byte("{}"))...)
		return readPending(content[:len(content)-(33+n)]) != nil
	}},
}

// limitsOfRequests are those of what a visitor sends.
var limitsOfRequests = []limitRow{
	{"addresses in X-Forwarded-For", maxMentions, func(n int) bool {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header.Set("X-Forwarded-For", "192.0.2.1"+strings.Repeat(", 10.0.0.1", n-1))
		return clientIP(&ipStrategy{depth: n}, req).String() == "192.0.2.1"
	}},
	{"values of a header that a rule looks at", maxHeaders, func(n int) bool {
		r, err := parseBypass("Header(`X-A`, `a`)")
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header["X-A"] = strings.Split(strings.Repeat("a ", n-1)+"a", " ")
		return err == nil && bypasses(r, req)
	}},
	{"names that Connection lists", maxMentions, func(n int) bool {
		header := http.Header{"Connection": {strings.Repeat("a,", n-1) + "last"}}
		stripMentions(&headerNames{managed: map[string]bool{}}, header, "Connection")
		return strings.HasSuffix(header.Get("Connection"), "a, last")
	}},
	{"bytes of a form", maxForm, func(n int) bool {
		req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(padded("a=", "x", "", n)))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		text, err := readForm(req)
		return err == nil && len(text) == n
	}},
	{"bytes of a form with a token", maxForm, func(n int) bool {
		req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(padded("token=t&a=", "x", "", n)))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return strings.Join(tokensBeyondHeaders(&tokenVerifier{tokenKey: "token"}, req), " ") == "t"
	}},
	{"bytes of the name of a header that marks a prefetch", maxSafeHeaderLength, func(n int) bool {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header.Set(padded("X-Prefetch-", "x", "", n), "1")
		return isSpeculative(req)
	}},
	{"cookies of one name", maxCandidates, func(n int) bool {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header.Set("Cookie", strings.Repeat("a=b; ", n-1)+"a=b")
		return len(cookieValues(req, "a")) == n
	}},
	{"pairs of a Cookie header", maxCookies, func(n int) bool {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header.Set("Cookie", strings.Repeat("a=b; ", n-1)+"last=b")
		pairs := cookiePairs(req)
		return len(pairs) == n && pairs[n-1] == " last=b"
	}},
	{"pending logins of a browser", maxPendingLogins, func(n int) bool {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.Header.Set("Cookie", strings.Repeat("a.0123456789ab=b; ", n))
		return len(pendingCookies(&pendingLogins{site: &site{}, cookie: cookie{baseName: "a"}}, req)) == n
	}},
	{"bytes of all pending logins", maxPendingBytes, func(n int) bool {
		pl, req := limitsPending(), httptest.NewRequest(http.MethodGet, "/", nil)
		pending := &pendingLogin{}
		deriveValues(pending, padded("", "x", "", 32))
		ours := len("a.0123456789ab") + len(sealPending(pl, "", pending, padded("", "x", "", 32)))
		req.Header.Set("Cookie", padded("a.0123456789ab=", "x", "", n-ours-len("; ")))
		rw := httptest.NewRecorder()
		setPending(pl, rw, req, pending, padded("", "x", "", 32))
		return len(rw.Result().Cookies()) == 1 // else the other one is removed
	}},
	{"bytes of a pending login with the address of its page", chunkSize + 1, func(n int) bool { // base64 has no length of 4n+1
		pending := limitsPage(n, "")
		setPending(limitsPending(), httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil), pending, padded("", "x", "", 32))
		return !pending.IsTruncated
	}},
	{"bytes of a pending login with the path of its page", chunkSize + 1, func(n int) bool {
		pending := limitsPage(n, "?"+incompressible(1000))
		setPending(limitsPending(), httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil), pending, padded("", "x", "", 32))
		return pending.IsTruncated && pending.ReturnTo != "/"
	}},
	{"seconds of a pending login", 100, func(n int) bool {
		pl, req := limitsPending(), httptest.NewRequest(http.MethodGet, "/", nil)
		return inOneSecond(func(now int64) bool {
			pending := &pendingLogin{CreatedAt: now - int64(n), RedirectURI: absoluteURL(pl.site, &pl.site.redirect, req)}
			deriveValues(pending, padded("", "x", "", 32))
			name := fmt.Sprintf("a.%.6x", pending.State)
			req.Header.Set("Cookie", name+"="+sealPending(pl, name, pending, padded("", "x", "", 32)))
			_, err := takePending(pl, httptest.NewRecorder(), req, pending.State)
			return err == nil
		})
	}},
	{"CSRF tokens of a cookie that are looked at", maxCSRFTokens + 1, func(n int) bool {
		sm := &sessionManager{csrf: &csrf{keys: [][]byte{[]byte("key")}}}
		return isCSRFToken(sm, strings.Repeat("other.token~", n-1)+newCSRFToken([]byte("key"), "id", "salt"), "id")
	}},
}

// limitsPending has cookies called a.….
func limitsPending() *pendingLogins {
	return &pendingLogins{site: &site{}, sealer: newSealer([]string{"secret"}, "", "", ""), cookie: cookie{baseName: "a", path: "/"}, maxAge: 100}
}

// limitsPage is a sign-in from a page with such a path that its cookie has n bytes, or one less. A query is cut off before, and that is noted.
func limitsPage(n int, query string) *pendingLogin {
	pl := limitsPending()
	for size := n * 2 / 3; ; size++ {
		if size > n {
			size = n * 2 / 3 // of these texts none had such a length
		}
		pending := &pendingLogin{ReturnTo: "/" + incompressible(size), IsTruncated: query != ""}
		if length := len(sealPending(pl, "", pending, padded("", "x", "", 32))); length == n || length == n-1 && n%4 == 1 {
			pending.IsTruncated = false
			pending.ReturnTo += query
			return pending
		}
	}
}

// limitsOfAnswers are those of what providers, Redis and files answer, and of what is logged.
var limitsOfAnswers = []limitRow{
	{"bytes of a document", maxResponse, func(n int) bool {
		_, err := getObject(context.Background(), clientOf(padded(`{"n":"`, "x", `"}`, n)), "document", "https://id.example.com/")
		return err == nil
	}},
	{"bytes of a key set", maxJSONSize, func(n int) bool {
		c := clientOf(padded(`{"n":"`, "x", `"}`, n))
		c.metadata = &cachedDocument{}
		cacheSet(&c.metadata.cache, "", &fetched{value: &metadata{endpoints: map[string]string{"jwks_uri": "https://id.example.com/"}},
			until: time.Now().Add(time.Hour)}, 0)
		_, err := getObject(context.Background(), c, "key set", "jwks_uri")
		return err == nil
	}},
	{"the last status of a successful answer", 299, func(n int) bool {
		_, err := readTokenResponse(clientOf(""), n, []byte(`{"access_token":"a"}`))
		return err == nil
	}},
	{"the last status of a refusal", 499, func(n int) bool {
		_, err := readTokenResponse(clientOf(""), n, []byte(`{"error":"invalid_grant"}`))
		return errors.Is(err, errRefused)
	}},
	{"levels of a Redis reply", redisMaxDepth, func(n int) bool {
		budget := redisMaxReply
		_, err := readRedisReply(bufio.NewReader(strings.NewReader(strings.Repeat("*1\r\n", n-1)+":1\r\n")), &budget, 1)
		return err == nil
	}},
	{"bytes of a Redis reply", 1000 - redisItemCost, func(n int) bool {
		budget := 1000
		_, err := readRedisReply(bufio.NewReader(strings.NewReader(redisBulk(padded("", "x", "", n)))), &budget, 1)
		return err == nil
	}},
	{"values of a Redis reply", 5, func(n int) bool {
		budget := 5 * redisItemCost
		_, err := readRedisReply(bufio.NewReader(strings.NewReader("*"+fmt.Sprint(n-1)+"\r\n"+strings.Repeat(":1\r\n", n-1))), &budget, 1)
		return err == nil
	}},
	{"slots of a Redis Cluster", redisSlots, func(n int) bool {
		from := &redisNode{address: "127.0.0.1:1"}
		_, err := readRedisSlots(&redisClient{nodes: map[string]*redisNode{}}, from, []any{[]any{int64(0), int64(n - 1), []any{"127.0.0.2", int64(7000)}}})
		return err == nil
	}},
	{"bytes in a line of the log", 200, func(n int) bool { return len(forLog(padded("", "x", "", n))) == n }},
	{"different bytes that are counted", 8, func(n int) bool { return countDistinctBytes("abcdefghi"[:n]) == n }},
	{"bytes of a file that an option names", maxNamedFile, func(n int) bool {
		data, err := readNamedFile(fileOf(n), &problems{})
		return err == nil && len(data) == n
	}},
	{"bytes of an operator's page", maxErrorPage, func(n int) bool {
		p := &problems{}
		newPages(map[string]string{"401": fileOf(n)}, p)
		return p.err() == nil
	}},
}

// limitsOfTime are in seconds from a moment, if nothing else is said.
var limitsOfTime = []limitRow{
	{"a token after its end", 59, func(n int) bool {
		return checkExpiry(&tokenRules{skew: 60}, dated("exp", -n), limitsNow) == nil
	}},
	{"a token before its beginning", 60, func(n int) bool {
		return checkNotFuture(&tokenRules{skew: 60}, dated("nbf", n), "nbf", false, unlimitedAge, limitsNow) == nil
	}},
	{"an ID token after it was made", maxLoginAge, func(n int) bool {
		return checkNotFuture(&tokenRules{skew: 60}, dated("iat", -n), "iat", true, maxLoginAge, limitsNow) == nil
	}},
	{"the user's proof before the sign-in", 300 + 60, func(n int) bool {
		maxAge := 300
		return checkAuthTime(&tokenRules{skew: 60}, &maxAge, dated("auth_time", -n).claims, limitsNow.Unix()) == nil
	}},
	{"a session before its end", 99, func(n int) bool {
		return checkSession(limitsSession(100), &session{sessionRecord: sessionRecord{Start: limitsNow.UnixMilli()}}, limitsNow.Add(time.Duration(n)*time.Second)) == nil
	}},
	{"a session made before a logout, in milliseconds, no later", 0, func(n int) bool {
		c := newClientState()
		cacheSet(c.revoked, "sub:ada", limitsNow.UnixMilli(), 0)
		return isRevoked(c, "id", "sid", "ada", limitsNow.UnixMilli()+int64(n))
	}},
	{"a session before its renewal is due", 99, func(n int) bool {
		sm := limitsSession(100 * renewFraction)
		sm.config.Session.Sliding = true
		s := &session{sessionRecord: sessionRecord{Start: limitsNow.UnixMilli(), Renewed: limitsNow.Unix()}}
		return recheckTime(sm, s, limitsNow.Add(time.Duration(n)*time.Second)).Equal(limitsNow.Add(100 * time.Second))
	}},
	{"the user's proof before the sign-in of a session", 300 + 60, func(n int) bool {
		maxAge := 300
		sm := limitsSession(100)
		sm.config.MaxAge = &maxAge
		sm.client.rules.skew = 60
		s := &session{sessionRecord: sessionRecord{Start: limitsNow.UnixMilli()}, claims: dated("auth_time", -n).claims}
		return checkSession(sm, s, limitsNow) == nil
	}},
	{"an ID token's end that is none for its session", 0, func(n int) bool {
		_, end := refreshTime(&tokenResponse{}, dated("exp", n).claims, limitsNow)
		return end == limitsNow.Unix()+defaultTokenLifetime
	}},
	{"a lease", 10 + 2*(20+5*2) + 2*20 + 2, func(n int) bool { // each of 5 repetitions takes 2 s
		return leaseDuration(&client{retries: 5, http: &http.Client{Timeout: 20 * time.Second}, exchangeTimeout: 10 * time.Second}) >= time.Duration(n)*time.Second
	}},
	{"keys of which no other need be asked", 1, func(n int) bool {
		s := newSealer([]string{"one", "two"}[:n], "", "", "")
		*s.newKeyFrom = 5
		_, current, err := open(s, "name", seal(s, "name", nil))
		return err == nil && current && *s.newKeyFrom == 5
	}},
	{"a key before it seals", 0, func(n int) bool {
		s := newSealer([]string{"one", "two"}, "", "", "")
		return inOneSecond(func(now int64) bool { *s.newKeyFrom = now + int64(n); return sealingKey(s) == 0 })
	}},
	{"a state of the future", 59, func(n int) bool { return isStateOf(100, n) }},
	{"a state of the past", 99, func(n int) bool { return isStateOf(100, -n) }},
	{"a refresh before the end of a token of ten minutes", 60, func(n int) bool {
		at, end := refreshTime(&tokenResponse{expiresIn: 610}, nil, limitsNow)
		return end-at >= int64(n)
	}},
	{"a refresh before the end of a token of two minutes", 12, func(n int) bool {
		at, end := refreshTime(&tokenResponse{expiresIn: 120}, nil, limitsNow)
		return end-at >= int64(n)
	}},
}

// inOneSecond is what passes says of a second in which it both begins and ends.
func inOneSecond(passes func(now int64) bool) bool {
	for {
		now := time.Now().Unix()
		if passed := passes(now); time.Now().Unix() == now {
			return passed
		}
	}
}

// isStateOf reports whether a state that was made so many seconds from now is a recent one.
func isStateOf(maxAge, seconds int) bool {
	c := &Config{}
	c.StateCookie.MaxAge = maxAge
	return inOneSecond(func(now int64) bool {
		pending := &pendingLogin{CreatedAt: now + int64(seconds)}
		deriveValues(pending, "secret")
		return isRecentState(c, pending.State)
	})
}

// limitsNow is the moment.
var limitsNow = time.Unix(1_700_000_000, 0)

// dated is a token with a date so many seconds after the moment.
func dated(name string, seconds int) *token {
	return &token{claims: map[string]any{name: json.Number(fmt.Sprint(limitsNow.Unix() + int64(seconds)))}}
}

// limitsSession are sessions that end after so many seconds.
func limitsSession(expiry int) *sessionManager {
	c := &Config{}
	c.Session.Expiry = expiry
	return &sessionManager{config: c, state: newClientState(), client: &client{rules: &tokenRules{}}}
}

// TestLimitsOfPauses: after each failure the pause doubles, up to half a minute.
func TestLimitsOfPauses(t *testing.T) {
	b := &backoff{}
	for i, want := range []int{1, 2, 4, 8, 16, 30, 30, 30} {
		backOff(b, errUnavailable, limitsNow)
		if got := b.until.Sub(limitsNow); got != time.Duration(want)*time.Second || b.err != errUnavailable {
			t.Errorf("after %d failures: %s, %v", i+1, got, b.err)
		}
	}
}

// TestLimitsOfMemories: each holds as much as docs/security.md says.
func TestLimitsOfMemories(t *testing.T) {
	inThisProcess(t)
	page, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	m := testMiddlewareOf(start(t, newFakeProvider(t).options()))
	state := m.sessions.state
	for what, cache := range map[string]*boundedCache{
		"logouts: by users and back-channel":                                                                state.revoked,
		"logouts by front-channel":                                                                          state.frontchannelLogouts,
		"logout tokens that were used (`jti`)":                                                              state.usedLogoutTokens,
		"states that were used, with the address to return to":                                              state.usedStates,
		"sessions that were refreshed, for requests that are late":                                          state.refreshed,
		"sessions of the last sign-ins, for callbacks that come twice":                                      m.logins.completed,
		"answers of the provider about tokens, tokens for the upstream, wrong credentials and their number": m.sessions.client.responses,
		"headers of JWTs": parsedHeaders,
	} {
		bound := fmt.Sprintf("2 × %d MB", cache.capacity>>20)
		if cache.capacity < 1<<20 {
			bound = fmt.Sprintf("2 × %d KB", cache.capacity>>10)
		}
		if !strings.Contains(string(page), "\n| "+what+" | "+bound) {
			t.Errorf("docs/security.md does not say that this has %s: %s", bound, what)
		}
	}
}

// TestLimitsOfTheTable: the other rows of that table say what the constants say, and each of them is a bound.
func TestLimitsOfTheTable(t *testing.T) {
	inThisProcess(t)
	page, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	longest := strings.Repeat("x", 253) + ":65535"
	if len(longest) > 260 || !hostName.MatchString(longest) || hostName.MatchString("x"+longest) || hostName.MatchString(longest+"0") {
		t.Error("a host may be longer than the table says, or not as long")
	}
	m := testMiddlewareOf(start(t, newFakeProvider(t).options()))
	transport, _ := m.sessions.client.http.Transport.(*http.Transport)
	thousands := func(n int) string {
		if n < 1000 {
			return fmt.Sprint(n)
		}
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	for _, row := range []string{
		fmt.Sprintf("names of hosts that they came to | %s of 260 bytes |", thousands(maxHosts)),
		fmt.Sprintf("names of harmless headers | %s of %d bytes |", thousands(maxSafeHeaders), maxSafeHeaderLength),
		fmt.Sprintf("kinds of warnings and errors, to sum them up | %d, each with %s names of sessions |", maxLineKinds, thousands(maxCountedSessions)),
		fmt.Sprintf("sessions that ended in this minute, for one log line | %s of 22 bytes |", thousands(maxCountedSessions)),
		fmt.Sprintf("the provider's metadata and keys | %d MB of text each |", maxResponse>>20),
		fmt.Sprintf("the last sign-outs | %d MB; %s, sealed |", replayBytes>>20, thousands(maxRecentLogouts)),
		fmt.Sprintf("connections on which the answer to a refresh is awaited | %d |", maxDelayedConns),
		fmt.Sprintf("connections to the provider, to Redis | %d idle, %d |", transport.MaxIdleConnsPerHost, redisPoolSize),
	} {
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/security.md does not have the row %q", row)
		}
	}
	for i := 0; i < maxCountedSessions+10; i++ {
		countEndedSession(m.sessions, "end in this test", fmt.Sprintf("%022d", i))
	}
	if n := len(m.sessions.ended["end in this test"].sessions); n != maxCountedSessions {
		t.Errorf("%d sessions that ended are counted", n)
	}
}

// TestLimitsOfCookies: a value of any length comes back whole, in as few cookies as can hold it, none larger than a browser takes, or is not
// written at all; and a name of any length leaves room for it.
func TestLimitsOfCookies(t *testing.T) {
	for _, name := range []string{"s", padded("s", "x", "", maxNameBeside), padded("s", "x", "", maxNameBeside+1), padded("s", "x", "", 3900)} {
		room := chunkSize - len(name) + maxNameBeside
		if len(name) < maxNameBeside {
			room = chunkSize
		}
		marked := room - len("0123456~") - 1 // in each of several, the tag of 8 and its mark
		lengths := []int{1, 9, 10, 11, room - 1, room, room + 1}
		for n := 2; n <= maxChunks; n++ {
			for off := -3; off < 3; off++ {
				lengths = append(lengths, n*marked+off)
			}
		}
		for _, length := range lengths {
			most := (length + 2 + marked - 1) / marked // "2~" is before the first
			if length <= room {
				most = 1
			}
			checkChunks(t, name, strings.Repeat("abcdefghijklmnopqrs", length)[:length], room, most)
		}
	}
}

// checkChunks writes a value in most cookies, and reads it.
func checkChunks(t *testing.T, name, value string, room, most int) {
	t.Helper()
	rw, req := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
	isWritten := setChunked(rw, req, &cookie{path: "/"}, name, value, true, 0)
	written := rw.Result().Cookies()
	if most > maxChunks {
		if isWritten || len(written) > 0 {
			t.Errorf("name of %d, value of %d: %d cookies", len(name), len(value), len(written))
		}
		return
	}
	for _, c := range written {
		req.AddCookie(c)
		if len(c.Value) > room {
			t.Errorf("name of %d, value of %d: a cookie of %d", len(name), len(value), len(c.Value))
		}
	}
	if got := chunkedValues(req, name); !isWritten || len(written) != most || len(got) != 1 || got[0] != value {
		t.Errorf("name of %d, value of %d: %d cookies, expected %d; comes back: %v", len(name), len(value), len(written), most, len(got) == 1 && got[0] == value)
	}
}

// clientOf is a client whose provider answers everything with this text.
func clientOf(answer string) *client {
	c := &client{log: newLogger("login0-0@file", "error"), responses: newBoundedCache(100), http: &http.Client{}}
	c.http.Transport = &cannedProvider{[]byte(answer)}
	return c
}

// fileOf is a file of n bytes, all of them zero; TestLimits removes it.
func fileOf(n int) string {
	name := filepath.Join(limitsFolder, fmt.Sprint(n))
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		panic(err)
	}
	if err := os.Truncate(name, int64(n)); err != nil {
		panic(err)
	}
	return name
}

var limitsFolder string

// TestLimitsOfAnswersAboutTokens: an answer is kept as long as the options say, but no longer than the token, and a refusal only for a moment.
func TestLimitsOfAnswersAboutTokens(t *testing.T) {
	for _, row := range []struct {
		isActive      bool
		lifetime, exp int64
		want          int64
	}{
		{true, 60, 0, 60}, {true, 60, 30, 30}, {true, 60, 60, 60}, {true, 60, 90, 60}, {false, 60, 0, 5}, {false, 60, 30, 5}, {false, 3, 0, 3},
		{true, 60, -limitsNow.Unix(), 60}, {true, 60, 1 - limitsNow.Unix(), 1 - limitsNow.Unix()}, // 0: it does not expire
	} {
		info := &tokenInfo{isActive: row.isActive, checkedAt: limitsNow.Add(time.Second / 2)}
		if row.exp != 0 {
			info.expiry = limitsNow.Unix() + row.exp
		}
		v := &tokenVerifier{cacheLifetime: time.Duration(row.lifetime) * time.Second}
		want := limitsNow.Add(time.Duration(row.want) * time.Second)
		if row.want != row.exp {
			want = want.Add(time.Second / 2)
		}
		if got := tokenInfoEnd(v, info); !got.Equal(want) {
			t.Errorf("%+v: %s", row, got)
		}
	}
}
