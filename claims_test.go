package oidc

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// claimsOf reads JSON as tokens are read: with UseNumber.
func claimsOf(t testing.TB, text string) map[string]any {
	t.Helper()
	var claims map[string]any
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&claims); err != nil {
		t.Fatalf("claims %s: %v", text, err)
	}
	return claims
}

// alice is who the tests below are about.
func alice(t testing.TB) identity {
	t.Helper()
	own := claimsOf(t, `{
		"sub": "alice", "email": "alice@example.com", "email_verified": true, "locked": false, "nothing": null, "empty": "",
		"groups": ["dev", "ops,night", "100%", "on,off%2C", null, ""], "level": 3, "share": 1.50, "round": 2.0, "huge": 9007199254740993,
		"exponent": 1e3, "scope": "read write", "scopes": ["read write", "audit"], "none": [], "numbers": [1.0, 2],
		"address": {"country": "IE", "street name": "Main", "lines": ["a", "b"]},
		"realm_access": {"roles": ["admin", "user"]}, "mixed": [{"a": 1, "b": "x"}, ["y"], "z"],
		"https://example.com/roles": ["editor"], "back\\slash": "yes", "dotted.name": {"in.ner": "deep"},
		"single": "dev", "bad": "ad\u0000min", "lines": "one\r\ntwo", "padded": "admin ", "name": "Alice Ó Briain"
	}`)
	return identity{
		"":             own,
		"id_token":     own,
		"access_token": claimsOf(t, `{"sub": "alice", "aud": "api", "scope": "api:read"}`),
		"userinfo":     claimsOf(t, `{"phone": "+353"}`),
		"raw":          claimsOf(t, `{"id_token": "raw.id.token", "access_token": "raw.access.token"}`),
	}
}

func TestClaimsRule(t *testing.T) {
	who := alice(t)
	rows := []struct {
		name, rule string
		want       bool
	}{
		{"text equals", "Equals(`sub`, `alice`)", true},
		{"text differs in case", "Equals(`sub`, `Alice`)", false},
		{"the JSON value true is the text true", "Equals(`email_verified`, `true`)", true},
		{"the JSON value false is the text false", "Equals(`locked`, `false`)", true},
		{"a number is its text", "Equals(`level`, `3`)", true},
		{"a number as it was written", "Equals(`share`, `1.50`)", true},
		{"a number without final zeros", "Equals(`share`, `1.5`)", true},
		{"2.0 is 2", "Equals(`round`, `2`)", true},
		{"2.0 is 2.0", "Equals(`round`, `2.0`)", true},
		{"2.0 is not 20", "Equals(`round`, `20`)", false},
		{"3 is not 3.0", "Equals(`level`, `3.0`)", false},
		{"an exponent is compared as it was written", "Equals(`exponent`, `1e3`) && !Equals(`exponent`, `1000`)", true},
		{"a long number equals itself", "Equals(`huge`, `9007199254740993`)", true},
		{"a long number is not its neighbour, although both are the same float", "Equals(`huge`, `9007199254740992`)", false},
		{"a missing claim is false", "Equals(`ghost`, `x`)", false},
		{"a missing claim does not equal nothing", "Equals(`ghost`, ``)", false},
		{"an empty claim equals nothing", "Equals(`empty`, ``)", true},
		{"not, of a missing claim, is true", "!Equals(`ghost`, `x`)", true},
		{"null is missing", "Exists(`nothing`)", false},
		{"an empty text exists", "Exists(`empty`)", true},
		{"an object exists", "Exists(`address`)", true},
		{"an empty list exists", "Exists(`none`)", true},
		{"a list never equals a text", "Equals(`groups`, `dev`)", false},
		{"a list of one never equals a text", "Equals(`https://example\\.com/roles`, `editor`)", false},
		{"an object never equals a text", "Equals(`address`, `IE`)", false},

		{"prefix", "Prefix(`email`, `alice@`)", true},
		{"prefix of something else", "Prefix(`email`, `bob@`)", false},
		{"prefix of a list", "Prefix(`groups`, `de`)", false},
		{"suffix", "Suffix(`email`, `@example.com`)", true},
		{"suffix of something else", "Suffix(`email`, `@example.org`)", false},
		{"suffix of nothing", "Suffix(`ghost`, `x`)", false},

		{"contains an item", "Contains(`groups`, `dev`)", true},
		{"contains no part of an item", "Contains(`groups`, `de`)", false},
		{"contains an item with a comma", "Contains(`groups`, `ops,night`)", true},
		{"contains a number", "Contains(`numbers`, `1`) && Contains(`numbers`, `2`) && Contains(`numbers`, `1.0`)", true},
		{"contains a part of a text", "Contains(`email`, `@example`)", true},
		{"contains in an object", "Contains(`address`, `IE`)", false},
		{"contains in an empty list", "Contains(`none`, `x`)", false},
		{"contains looks into single items only", "Contains(`mixed`, `z`) && !Contains(`mixed`, `y`)", true},
		{"roles of Keycloak", "Contains(`realm_access.roles`, `admin`)", true},
		{"a path through a text", "Contains(`sub.roles`, `admin`)", false},
		{"an address in another case", "EqualsFold(`email`, `ALICE@Example.com`)", true},
		{"another address", "EqualsFold(`email`, `alice@example.org`)", false},
		{"a domain in another case", "SuffixFold(`email`, `@EXAMPLE.com`)", true},
		{"no other letters", "SuffixFold(`email`, `@example.Kom`)", false},
		{"the beginning in another case", "PrefixFold(`email`, `Alice@`)", true},
		{"a group in another case", "ContainsFold(`groups`, `DEV`)", true},
		{"one of several addresses", "OneOfFold(`email`, `bob@example.com`, `Alice@Example.com`)", true},
		{"none of several addresses", "OneOfFold(`email`, `bob@example.com`, `carol@example.com`)", false},
		{"a list in a file", "OneOfFold(`email`, `bob@example.com\r\n  Alice@Example.com\n\ncarol@example.com\n`)", true},
		{"a list in a file, in its case", "OneOf(`email`, `bob@example.com\nalice@example.com`)", true},
		{"a list in a file without her", "OneOfFold(`email`, `bob@example.com\n\ncarol@example.com\n`)", false},
		{"an empty list is nobody", "OneOfFold(`ghost`, `\n`)", false},

		{"split contains", "SplitContains(`scope`, ` `, `write`)", true},
		{"split contains no part", "SplitContains(`scope`, ` `, `writ`)", false},
		{"split contains with a list", "SplitContains(`scopes`, ` `, `write`) && SplitContains(`scopes`, ` `, `audit`)", true},
		{"split contains of nothing", "SplitContains(`ghost`, ` `, `x`)", false},

		{"one of, single", "OneOf(`sub`, `bob`, `alice`)", true},
		{"one of, list", "OneOf(`groups`, `qa`, `dev`)", true},
		{"one of, none", "OneOf(`groups`, `qa`, `sales`)", false},
		{"one of, missing", "OneOf(`ghost`, `qa`, `sales`)", false},
		{"one of, number", "OneOf(`level`, `1`, `3`)", true},
		{"all of, list", "AllOf(`realm_access.roles`, `user`, `admin`)", true},
		{"all of, one missing", "AllOf(`realm_access.roles`, `user`, `root`)", false},
		{"all of, single value", "AllOf(`single`, `dev`)", true},
		{"all of, single value is not two", "AllOf(`single`, `dev`, `ops`)", false},
		{"all of, missing", "AllOf(`ghost`, `x`)", false},

		{"matches", "Matches(`email`, `[a-z]+@example\\.(com|org)`)", true},
		{"matches the whole text only", "Matches(`email`, `alice`)", false},
		{"matches all alternatives whole", "Matches(`email`, `alice|bob`)", false},
		{"a final line break is not ignored", "Matches(`lines`, `one`)", false},
		{"matches a number", "Matches(`level`, `[0-9]`)", true},
		{"matches nothing", "Matches(`ghost`, `.*`)", false},

		{"a namespaced claim", "Contains(`https://example\\.com/roles`, `editor`)", true},
		{"the same in double quotes", `Contains("https://example\\.com/roles", "editor")`, true},
		{"a backslash in a name", "Equals(`back\\\\slash`, `yes`)", true},
		{"dots in two names", "Equals(`dotted\\.name.in\\.ner`, `deep`)", true},
		{"a name with a space", "Equals(`address.street name`, `Main`)", true},

		{"ID token by prefix", "Equals(`id_token.sub`, `alice`)", true},
		{"access token by prefix", "SplitContains(`access_token.scope`, ` `, `api:read`)", true},
		{"access token without prefix", "Equals(`scope`, `api:read`)", false},
		{"userinfo by prefix", "Equals(`userinfo.phone`, `+353`)", true},
		{"a prefix alone is a claim", "Exists(`id_token`)", false},
		{"an escaped prefix is a claim", "Exists(`id_token\\.sub`)", false},

		{"and, both", "Exists(`sub`) && Exists(`email`)", true},
		{"and, first false", "Exists(`ghost`) && Exists(`email`)", false},
		{"and, second false", "Exists(`sub`) && Exists(`ghost`)", false},
		{"or, second true", "Exists(`ghost`) || Exists(`email`)", true},
		{"or, none", "Exists(`ghost`) || Exists(`nothing`)", false},
		{"and before or", "Exists(`sub`) || Exists(`ghost`) && Exists(`ghost`)", true},
		{"parentheses before and", "(Exists(`sub`) || Exists(`ghost`)) && Exists(`ghost`)", false},
		{"not of a group", "!(Exists(`ghost`) || Exists(`sub`))", false},
		{"not of a group, the other way", "!(Exists(`ghost`) && Exists(`sub`))", true},
		{"not twice", "!!Exists(`sub`)", true},
		{"not thrice, in parentheses", "!(!(!Exists(`sub`)))", false},
		{"names in any case, several lines, final comma", "exists(`sub`)\n\t&& EQUALS(`sub`, `alice`,)", true},
		{"escapes in double quotes", `Equals("sub", "\x61lice")`, true},
	}
	for _, row := range rows {
		r, err := parseRule(row.rule)
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		if got := allows(r, who); got != row.want {
			t.Errorf("%s: %s = %v, want %v", row.name, row.rule, got, row.want)
		}
	}
}

func TestClaimsRuleForNobody(t *testing.T) {
	r, err := parseRule("")
	if r != nil || err != nil {
		t.Fatalf("no text: got %v, %v, want no rule", r, err)
	}
	if !allows(nil, nil) || !allows(nil, alice(t)) {
		t.Error("no rule must allow everybody")
	}
	r, _ = parseRule("!Equals(`banned`, `true`)")
	if allows(r, nil) {
		t.Error("a rule that only forbids must not allow nobody")
	}
	if !allows(r, identity{}) {
		t.Error("somebody without claims is not banned")
	}
	r, _ = parseRule("Exists(`access_token.sub`) || Exists(`userinfo.sub`) || Exists(`id_token.sub`)")
	if allows(r, identity{"": claimsOf(t, `{"sub":"x"}`)}) {
		t.Error("a token that is not there has no claims")
	}
}

// A refusal names the claims that the rule reads in vain, and no values.
func TestClaimsRefusalNamesWhatIsMissing(t *testing.T) {
	who := identity{"": claimsOf(t, `{"sub":"x","groups":["a"],"_claim_names":{"roles":"src1"}}`)}
	for text, want := range map[string]string{
		"Contains(`groups`, `b`)": "not allowed",
		"Contains(`groups`, `b`) && !Exists(`banned`) && Exists(`a.b`)":      "not allowed: the rule reads a.b, and no such claim came",
		"OneOf(`roles`, `b`) || OneOf(`roles`, `c`) || Exists(`userinfo.x`)": "not allowed: the rule reads roles, userinfo.x, and no such claim came",
		"Contains(`access_token.scope`, `b`)":                                "not allowed: the rule reads access_token.scope, and no such claim came",
	} {
		r, err := parseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = evaluatePolicy(&policy{rule: r}, who)
		if err == nil || err.Error() != want || !errors.Is(err, errNotAllowed) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// TestClaimsRuleLogic compares every expression of up to three conditions with what Go's operators say.
func TestClaimsRuleLogic(t *testing.T) {
	who := identity{"": map[string]any{"yes": "1"}}
	leaves := []string{"Exists(`yes`)", "Exists(`no`)", "!Exists(`yes`)", "!Exists(`no`)"}
	values := []bool{true, false, false, true}
	check := func(text string, want bool) {
		r, err := parseRule(text)
		if err != nil || allows(r, who) != want {
			t.Errorf("%s: error %v, want %v", text, err, want)
		}
	}
	for i, a := range leaves {
		for j, b := range leaves {
			for k, c := range leaves {
				x, y, z := values[i], values[j], values[k]
				check(a+" && "+b+" || "+c, x && y || z)
				check(a+" || "+b+" && "+c, x || y && z)
				check("("+a+" || "+b+") && "+c, (x || y) && z)
				check(a+" && ("+b+" || "+c+")", x && (y || z))
				check("!("+a+" && "+b+") || "+c, !(x && y) || z)
				check(a+" && !("+b+" || !("+c+"))", x && !(y || !z))
				check("!("+a+" || "+b+" || "+c+")", !(x || y || z))
			}
		}
	}
}

func TestClaimsRuleErrors(t *testing.T) {
	rows := []struct{ name, rule, want string }{
		{"white space alone", "  ", `position 3: expected a condition, "!" or "(", found the end`},
		{"missing parenthesis of a group", "(Exists(`a`) && Exists(`b`)", `position 28: expected "&&", "||" or ")", found the end`},
		{"missing parenthesis of a condition", "Equals(`a`, `b` && Exists(`c`)",
			"position 17: expected \",\" or \")\", found \"&&\"; at the arrow in \"Equals(`a`, `b`  --> && Exists(`c`)\""},
		{"surplus parenthesis", "Exists(`a`))", `position 12: expected "&&", "||" or the end, found ")"`},
		{"single operator", "Exists(`a`) & Exists(`b`)", `expected "&&", "||" or the end, found "&"`},
		{"operator in words", "Exists(`a`) and Exists(`b`)", `expected "&&", "||" or the end, found "and"`},
		{"nothing after an operator", "Exists(`a`) &&", `expected a condition, "!" or "(", found the end`},
		{"nothing between operators", "Exists(`a`) && || Exists(`b`)", `position 16: expected a condition, "!" or "(", found "||"`},
		{"empty parentheses", "()", `position 2: expected a condition`},
		{"misspelt function", "Equal(`a`, `b`)", `position 1: unknown function "Equal"; did you mean Equals?`},
		{"another misspelt function", "Exists(`a`) || Contians(`a`, `b`)", `position 16: unknown function "Contians"; did you mean Contains?`},
		{"function of another language", "Host(`a`)", `unknown function "Host"; did you mean AllOf, Contains,`},
		{"too few arguments", "Contains(`groups`)", `Contains takes (key, value), got 1 arguments`},
		{"too many arguments", "Contains(`groups`, `a`, `b`)", `Contains takes (key, value), got 3 arguments; several conditions are joined with "||"`},
		{"no arguments", "Exists()", `Exists takes (key), got 0 arguments`},
		{"a list without values", "OneOf(`groups`)", `OneOf takes (key, value, …), got 1 arguments`},
		{"no quotes", "Exists(a)", `position 8: expected an argument in back-ticks or double quotes, found "a"`},
		{"single quotes", "Exists('a')", `expected an argument in back-ticks or double quotes, found "'"`},
		{"open back-tick", "Exists(`a)", "position 8: expected an argument in back-ticks or double quotes, found a text without its closing `"},
		{"open double quote", `Exists("a\")`, `found a text without its closing "`},
		{"escape unknown to Go", `Exists("https://example\.com")`, `position 8: double quotes take Go's escapes only`},
		{"no comma", "Equals(`a` `b`)", "expected \",\" or \")\", found \"`b`\""},
		{"comma first", "Equals(, `b`)", `expected an argument in back-ticks or double quotes, found ","`},
		{"no parenthesis after a name", "Exists `a`", `expected "(" after Exists, found`},
		{"a text instead of a condition", "`a`", "expected a condition, \"!\" or \"(\", found \"`a`\""},
		{"key that ends in a backslash", "Exists(`a\\`)", `Exists: claim key "a\\": expected names joined by dots`},
		{"key with another escape", "Exists(`a\\n`)", `expected names joined by dots`},
		{"key with an empty name", "Exists(`a..b`)", `claim key "a..b": expected names joined by dots`},
		{"namespaced key without escapes", "Exists(`https://example.com/roles`)", `write the dot of a name as`},
		{"empty key", "Exists(``)", `Exists: an empty argument`},
		{"empty prefix", "Exists(`a`) && Prefix(`a`, ``)", `position 16: Prefix: an empty argument; Exists asks whether a claim is there`},
		{"empty separator", "SplitContains(`a`, ``, `b`)", `SplitContains: an empty argument`},
		{"broken pattern", "Matches(`a`, `(`)", `Matches: error parsing regexp: missing closing )`},
		{"pattern that would break out of its anchors", "Matches(`a`, `a)|(b`)", `Matches: error parsing regexp: unexpected )`},
		{"too deep", strings.Repeat("(", 100000/4) + "Exists(`a`)", `position 33: more than 32 parentheses in each other`},
		{"too deep with not", strings.Repeat("!(", 10000) + "Exists(`a`)", `more than 32 parentheses in each other`},
		{"too many conditions", strings.Repeat("Exists(`a`)||", 300) + "Exists(`a`)", `position 3329: more than 256 conditions`},
		{"too long", strings.Repeat(" ", 40000), `a rule has at most 32768 bytes, got 40000`},
		{"another encoding", "\xc4quals(`a`, `b`)", `position 1: expected a condition, "!" or "("`},
		{"not text at all", "\x00\xff", `expected a condition, "!" or "(", found "\x00"`},
	}
	for _, row := range rows {
		_, err := parseRule(row.rule)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %s", row.name, err, row.want)
		} else if strings.ContainsAny(err.Error(), "\n\r\x00") || len(err.Error()) > 400 {
			t.Errorf("%s: the error is not one short line: %q", row.name, err)
		}
	}
}

func TestClaimsHeaders(t *testing.T) {
	who := alice(t)
	rows := []struct{ name, format, want string }{
		{"a claim", "email", "alice@example.com"},
		{"a claim in braces", "{email}", "alice@example.com"},
		{"a claim by path", "realm_access.roles", "admin,user"},
		{"a claim by prefix", "access_token.aud", "api"},
		{"userinfo", "userinfo.phone", "+353"},
		{"a namespaced claim", `https://example\.com/roles`, "editor"},
		{"a name with a space, in braces", "{address.street name}", "Main"},
		{"true", "email_verified", "true"},
		{"a number as it was written", "share", "1.50"},
		{"a long number", "huge", "9007199254740993"},
		{"a list: items with commas encoded, null and empty ones left out", "groups", "dev,ops%2Cnight,100%,on%2Coff%252C"},
		{"a list of lists and objects", "mixed", `{"a":1%2C"b":"x"},["y"],z`},
		{"an object", "address", `{"country":"IE","lines":["a","b"],"street name":"Main"}`},
		{"letters beyond ASCII", "name", "Alice Ó Briain"},
		{"the raw access token", "Bearer {access_token}", "Bearer raw.access.token"},
		{"the raw ID token", "{id_token}", "raw.id.token"},
		{"the same for everybody", "'{email}'", "{email}"},
		{"nothing for everybody", "''", ""},
		{"two claims", "{name} <{email}>", "Alice Ó Briain <alice@example.com>"},
		{"two claims side by side", "{sub}{level};", "alice3;"},
		{"control characters stay visible", "bad", "ad%00min"},
		{"line breaks make no second header", "lines", "one%0D%0Atwo"},
		{"a space at the end makes nobody admin", "padded", "admin%20"},
	}
	for _, row := range rows {
		f, err := parseHeaderFormat(row.format)
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		got, ok := formatHeader(f, who)
		if !ok || got != row.want {
			t.Errorf("%s: got %q, %v, want %q", row.name, got, ok, row.want)
		}
	}
}

// Rules that could never be true are refused, with what to write.
func TestClaimsDeadRules(t *testing.T) {
	for _, row := range []struct{ rule, want string }{
		{"OneOf(`realm_access.roles[*]`, `admin`)", "look into a list by themselves; write the list's name"},
		{"Contains(`groups[0]`, `admin`)", "look into a list by themselves"},
		{"Contains(`groups[]`, `admin`)", "look into a list by themselves"},
		{"Equals(`groups.0`, `admin`)", "look into a list by themselves"},
		{"Equals(`groups.*`, `admin`)", "look into a list by themselves"},
		{"Equals(`resource['x']`, `admin`)", "look into a list by themselves"},
		{"Contains(`roles[?(@.name)]`, `admin`)", "look into a list by themselves"},
		{"Equals(`$.email`, `a`)", "it begins with the claim's own name"},
		{"Equals(`$['email']`, `a`)", "it begins with the claim's own name"},
		{"Equals(`@.email`, `a`)", "it begins with the claim's own name"},
		{"Equals(`/realm_access/roles`, `a`)", "it begins with the claim's own name"},
		{"Equals(`.email`, `a`)", "expected names joined by dots"},
		{"Equals(` email`, `a`)", "spaces at its ends"},
		{"Equals(`{{ .Claims.email }}`, `a`)", "templates and variables"},
		{"Equals(`'email'`, `a`)", "names have no quotes"},
		{"Equals(`accessToken.scope`, `a`)", "the prefixes are id_token., access_token. and userinfo."},
		{"Equals(`Access_Token.scope`, `a`)", "the prefixes are"},
		{"Equals(`userInfo.phone`, `a`)", "the prefixes are"},
		{"Equals(`user_info.phone`, `a`)", "the prefixes are"},
		{"Equals(`email`, `*@example.com`)", "compared as it is, without escapes and wildcards"},
		{"Suffix(`email`, `@example\\.com`)", "compared as it is"},
		{"Equals(`email`, `.*@example.com`)", "compared as it is"},
		{"OneOf(`groups`, `^admin`)", "compared as it is"},
		{"Contains(`groups`, `(?i)admin`)", "compared as it is"},
		{"Matches(`email`, `/^a@b$/`)", "no slashes around it"},
		{"Equals(`email_verified`, `True`)", "this claim is true or false; write `true`"},
		{"OneOf(`email_verified`, `yes`)", "this claim is true or false"},
		{"Contains(`groups[admin]`, `x`)", "look into a list by themselves"},
		{"Contains(`roles[-1]`, `x`)", "look into a list by themselves"},
		{"Exists(`$email`)", "templates and variables"},
		{"Exists(`#email`)", "it begins with the claim's own name"},
		{"Contains(`realm_access->roles`, `x`)", "it begins with the claim's own name"},
		{"Contains(`realm_access/roles`, `x`)", "it begins with the claim's own name"},
		{"Exists(`{email}`)", "templates and variables"},
		{"Exists(`%email%`)", "templates and variables"},
		{"Exists(`length(groups)`)", "functions and lists have no place here"},
		{"Equals(`groups|first`, `x`)", "functions and lists have no place here"},
		{"Exists(`email, name`)", "functions and lists have no place here"},
		{"Equals(`email`, `@example.com`)", "is no address; each is an argument of its own"},
		{"OneOfFold(`email`, `example.com`)", "is no address"},
		{"Equals(`email`, `*`)", "is no address"},
		{"OneOf(`email`, `a@b.c,d@e.f`)", "is no address"},
		{"Equals(`userinfo.email`, `mailto:a@b.c`)", "is no address"},
		{"Matches(`email`, `@example\\.com$`)", "must match the whole value"},
		{"Matches(`groups`, `/x/i`)", "no slashes around it"},
		{"Suffix(`email`, `*example.com`)", "compared as it is"},
		{"Suffix(`email`, `@example.com$`)", "compared as it is"},
		{"Prefix(`sub`, `svc-*`)", "compared as it is"},
		{"Equals(`email`, `(a|b)@example.com`)", "compared as it is"},
		{"OneOf(`groups`, `[\"a\",\"b\"]`)", "compared as it is"},
		{"Equals(`groups`, `\"a\"`)", "compared as it is"},
		{"Equals(`groups`, `${ADMIN:-x}`)", "compared as it is"},
		{"Equals(`groups`, `$ADMINS`)", "compared as it is"},
		{"Equals(`groups`, `admins `)", "has spaces at its ends"},
	} {
		if _, err := parseRule(row.rule); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: expected %q, got %v", row.rule, row.want, err)
		}
	}
	for _, rule := range []string{"Exists(`https://example\\.com/roles`)", "Exists(`urn:zitadel:iam:org:project:roles.admin.230987234`)",
		"Equals(`scope`, `*`)", "Equals(`account`, `CORP\\ada`)",
		"Matches(`email`, `.*@example\\.com`)", "Contains(`groups`, `/team/admins`)", "Equals(`machine`, `HOST$`)",
		"Exists(`access_token.scope`)", "Contains(`groups`, `cn=a,ou=b`)",
		"SplitContains(`scope`, ` `, `read`)", "Prefix(`name`, `Dr `)", "EqualsFold(`email_verified`, `TRUE`)",
		"OneOf(`email`, `ada@example.com`, `root`)", "Equals(`email`, ``)", "Equals(`hd`, `example.com`)", "OneOf(`scope`, `orders:*`)",
		"Exists(`kubernetes\\.io/serviceaccount/namespace`)", "Exists(`resource_access.my app (old).roles`)", "Matches(`sub`, `[a-z]+|\\d+`)",
		"Exists(`id_token`)"} {
		if _, err := parseRule(rule); err != nil {
			t.Errorf("%s: %v", rule, err)
		}
	}
}

// Constants, and the ways to write a claim.
func TestClaimsHeaderWays(t *testing.T) {
	who := alice(t)
	for _, row := range []struct{ format, want string }{
		{"'gateway'", "gateway"}, {`"a {b} c"`, "a {b} c"}, {"`it's`", "it's"},
		{"{groups|json}", `["dev","ops,night","100%","on,off%2C",null,""]`}, {"{email|json}", `"alice@example.com"`},
		{"{groups|first}", "dev"}, {"{email|first}", "alice@example.com"}, {"first of {groups|first}", "first of dev"},
		{"{groups|lines}", "dev\nops,night\n100%\non,off%2C"}, {"{email|lines}", "alice@example.com"},
		{"{name|percent}", "Alice%20%C3%93%20Briain"}, {"{name|rfc8187}", "UTF-8''Alice%20%C3%93%20Briain"},
		{"filename*={name|rfc8187}", "filename*=UTF-8''Alice%20%C3%93%20Briain"},
		{"{ghost|json}", ""}, {"{ghost|rfc8187}", ""}, {"{none|first}", ""}, {"{ghost|lines}", ""}, {"{none|lines}", ""},
		{"{bad|percent}", "ad%00min"},
	} {
		f, err := parseHeaderFormat(row.format)
		if err != nil {
			t.Errorf("%s: %v", row.format, err)
			continue
		}
		if got := strings.Join(headerLines(f, who), "\n"); got != row.want {
			t.Errorf("%s: got %q, want %q", row.format, got, row.want)
		}
	}
	for format, want := range map[string]string{"{groups|csv}": `"csv" is no way to write a claim; write one of json, first, lines, percent, rfc8187`, "{a|}": `"" is no way`,
		"x {groups|lines}": "nothing may stand beside it", "{groups|lines}{a}": "nothing may stand beside it"} {
		if _, err := parseHeaderFormat(format); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: expected %q, got %v", format, want, err)
		}
	}
}

func TestClaimsHeadersWithoutValue(t *testing.T) {
	who := alice(t)
	for _, format := range []string{"ghost", "nothing", "empty", "none", "{name} <{ghost}>", "Bearer {empty}", "access_token.ghost", "sub.x"} {
		f, err := parseHeaderFormat(format)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := formatHeader(f, who); ok {
			t.Errorf("%s: got the header %q, want none", format, got)
		}
	}
	f, _ := parseHeaderFormat("Bearer {access_token}")
	if got, ok := formatHeader(f, identity{"": who[""]}); ok {
		t.Errorf("no access token: got the header %q, want none", got)
	}
	if _, ok := formatHeader(f, nil); ok {
		t.Error("nobody has no headers")
	}
	if _, ok := formatHeader(nil, who); ok {
		t.Error("no format, no header")
	}
}

func TestClaimsHeaderErrors(t *testing.T) {
	rows := []struct{ name, format, want string }{
		{"nothing", "", `expected a claim or a format`},
		{"a template", "{{.AccessToken}}", `double braces, which Traefik's file provider would replace itself; write {claim}`},
		{"half a template", "Bearer {access_token}}", `double braces`},
		{"forgotten braces", "Bearer access_token", `would be the name of a claim; a format has braces, such as "Bearer {access_token}"`},
		{"a header's name for a claim, with both the wrong way round", "X-User", `it is the name of a header, which stands before its claim`},
		{"a token without braces", "id_token", `would be the name of a claim`},
		{"an open brace", "Bearer {access_token", `braces that do not match`},
		{"a closing brace", "Bearer access_token}", `braces that do not match`},
		{"a closing brace after a claim", "{a} b}", `braces that do not match`},
		{"a closing brace first", "}{a}", `braces that do not match`},
		{"brace in brace", "{a{b}", `braces that do not match`},
		{"nothing in braces", "Bearer {}", `claim key "": expected names joined by dots`},
		{"a bad key in braces", "{a..b}", `claim key "a..b"`},
		{"a bad key", "a.", `claim key "a."`},
		{"a quote alone", "'", `names have no quotes`},
		{"a line break", "a\nb", `without control characters`},
		{"a space at the end", "email ", `or spaces around it`},
	}
	for _, row := range rows {
		_, err := parseHeaderFormat(row.format)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %s", row.name, err, row.want)
		}
	}
}

func TestClaimsText(t *testing.T) {
	f, err := parseHeaderFormat("groups")
	if err != nil {
		t.Fatal(err)
	}
	if lines := headerLines(f, alice(t)); len(lines) != 1 || lines[0] != "dev,ops%2Cnight,100%,on%2Coff%252C" {
		t.Errorf("got %q", lines)
	}
	if lines := headerLines(f, identity{}); lines != nil {
		t.Errorf("missing: got %q", lines)
	}
}

// TestClaimsScopes: the scopes that a rule asks for.
func TestClaimsScopes(t *testing.T) {
	for _, row := range []struct{ name, rule, want string }{
		{"no rule", "", ""},
		{"a part of a text", "SplitContains(`scope`, ` `, `read`)", "read"},
		{"a part between commas", "SplitContains(`scope`, `,`, `read`)", "read"},
		{"an item", "Contains(`scp`, `read`)", "read"},
		{"a whole text", "Equals(`scope`, `read write`)", "read write"},
		{"alternatives", "OneOf(`scp`, `read`, `write`) || Contains(`scope`, `admin`)", "read write admin"},
		{"all, one of them twice", "AllOf(`scp`, `read`, `write`) && Contains(`scope`, `read`)", "read write"},
		{"by prefix", "Contains(`access_token.scope`, `read`) && Contains(`access_token.scp`, `write`)", "read write"},
		{"of another token", "Contains(`id_token.scope`, `read`) && Contains(`userinfo.scp`, `read`)", ""},
		{"of another claim",
			"Contains(`groups`, `read`) || Contains(`a.scope`, `read`) || Contains(`scope.a`, `read`) || Contains(`access_token\\.scope`, `read`)", ""},
		{"what names none", "Exists(`scope`) && Prefix(`scope`, `read`) && Suffix(`scope`, `read`) && Matches(`scope`, `read`)", ""},
		{"what is forbidden", "!Contains(`scope`, `admin`) && Contains(`scope`, `read`)", "read"},
		{"what is forbidden in a group", "!(Contains(`scope`, `a`) || !Contains(`scope`, `b`) && !!Contains(`scope`, `c`))", "b"},
		{"what no scope can be", "Contains(`scope`, `a\"b`) || Contains(`scope`, `a\\b`) || Contains(`scope`, `café`)", ""},
	} {
		r, err := parseRule(row.rule)
		if got := strings.Join(addScopes(nil, r), " "); err != nil || got != row.want {
			t.Errorf("%s: got %q, %v, want %q", row.name, got, err, row.want)
		}
	}
}

// TestClaimsListItems: the ends of an item are its own, also in a list that is joined.
func TestClaimsListItems(t *testing.T) {
	id := identity{"": claimsOf(t, `{"groups":[" admins","staff ","  ","a b","x\u0009y","with, comma"," both, ","\u00a0admins","admins\u2003","\ufeffadmins\u0085","a\u00a0b"]}`)}
	f, err := parseHeaderFormat("groups")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := formatHeader(f, id)
	if want := "%20admins,staff%20,%20%20,a b,x%09y,with%2C comma,%20both%2C%20,%C2%A0admins,admins%E2%80%83,%EF%BB%BFadmins%C2%85,a\u00a0b"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
