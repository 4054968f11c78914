package oidc

import (
	"crypto/rsa"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// numbered is the text of a JSON object whose member n is that number.
func numbered(n int) string { return fmt.Sprintf(`{"n":%d}`, n) }

// padded is text with as much behind it as makes n bytes.
func padded(text, filler, end string, n int) string {
	return text + strings.Repeat(filler, n-len(text)-len(end)) + end
}

// TestLimits: what is as large as it may be passes, and what is larger by one does not.
func TestLimits(t *testing.T) {
	withHeader := func(name, value string) *http.Request {
		req := httptest.NewRequest(http.MethodPost, app+"/", nil)
		req.Header.Set(name, value)
		return req
	}
	for _, row := range []struct {
		name   string
		most   int
		passes func(n int) bool
	}{
		{"bytes of a rule", maxExpression, func(n int) bool {
			_, err := parseBypass(padded("Path(`/", "x", "`)", n))
			return err == nil
		}},
		{"parentheses of a rule", maxDepth, func(n int) bool {
			_, err := parseBypass(strings.Repeat("(", n) + "Path(`/`)" + strings.Repeat(")", n))
			return err == nil
		}},
		{"bytes of a JSON text", maxJSONSize, func(n int) bool { return checkJSONText(padded("", "x", "", n)) == nil }},
		{"levels of a JSON text", maxLevels, func(n int) bool {
			return checkJSONText(strings.Repeat("[", n)+strings.Repeat("]", n)) == nil
		}},
		{"seconds of a date", maxNumericDate, func(n int) bool {
			whole, err := numericDate(claimsOf(t, numbered(n)), "n")
			_, other := numericDate(claimsOf(t, fmt.Sprintf(`{"n":%d.5e0}`, n-1)), "n")
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
		{"bytes of a session", maxUnpacked, func(n int) bool {
			content, err := packSession(&session{accessToken: padded("", "x", "", n-sessionFrame(t, n))})
			_, bad := inflate(content)
			return err == nil && bad == nil
		}},
	} {
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
