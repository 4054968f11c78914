package oidc

import (
	"strings"
	"testing"
)

// FuzzClaimsRule: no text makes the parser panic, loop or answer in several lines, and whatever it accepts can be judged.
func FuzzClaimsRule(f *testing.F) {
	for _, seed := range []string{
		"", " ", "Equals(`sub`, `alice`)", "!(Exists(`a`) || OneOf(`groups`, `dev`, \"x\\n\")) && Matches(`email`, `.+@example\\.com`)",
		"SplitContains(`scope`, ` `, `read`)", "((((Exists(`a`", "Contains(`https://example\\.com/roles`, `x`) &", "AllOf(`a`, `b`,)", "Exists(\"\\",
		"!!!!", "Suffix(`access_token.x`, `\xff`)", "\xba",
	} {
		f.Add(seed)
	}
	who := alice(f)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRule(text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("error in several lines: %q", err)
			}
			return
		}
		if (r == nil) != (text == "") {
			t.Fatalf("%q: rule is %v", text, r)
		}
		allowed := allows(r, who)
		opposite, err := parseRule("!(" + text + ")")
		if r == nil || err != nil {
			return // too deep or too long by now
		}
		if allows(opposite, who) == allowed {
			t.Fatalf("%q and its opposite are both %v", text, allowed)
		}
	})
}

// FuzzClaimsHeader: whatever format is accepted and whatever a claim says, the value is one that a header can carry.
func FuzzClaimsHeader(f *testing.F) {
	f.Add("email", "alice")
	f.Add("Bearer {access_token}", "x\r\nSet-Cookie: a=b")
	f.Add("{name} <{email}>", " \x00\x7f ")
	f.Add("{{.X}}", "")
	f.Add(`a\.b.c\\`, ",%")
	f.Fuzz(func(t *testing.T, format, value string) {
		h, err := parseHeaderFormat(format)
		if err != nil {
			return
		}
		claims := map[string]any{"email": value, "name": []any{value, value}, format: value}
		text, ok := formatHeader(h, identity{"": claims, "raw": map[string]any{"access_token": value, "id_token": value}})
		if !ok && text != "" || ok && text == "" {
			t.Fatalf("%q with %q: got %q, %v", format, value, text, ok)
		}
		if unsafeInHeader.MatchString(text) {
			t.Fatalf("%q with %q: no header can carry %q", format, value, text)
		}
	})
}
