package oidc

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
)

// Claims: rules say who may pass, header formats say what the upstream is told. Both name a claim by a key:
//
//	email                        a claim
//	realm_access.roles           a dot leads into an object, as in Keycloak's claims
//	https://example\.com/roles   a dot in a name is escaped, as in Auth0's namespaced claims
//	access_token.scope           id_token., access_token. and userinfo. say where to look
//
// A claim that is missing or null satisfies no condition and makes no header. It is never an error, because users' tokens differ. So a
// negated condition is true: a rule that only forbids lets in everybody without that claim.
//
// Roles that are the names of an object's members, as in ZITADEL's tokens, are tested with Exists(`urn:zitadel:….admin`).

// identity is what rules and header formats can know about the sender of a request, by the prefix of a key: "" (none), "id_token",
// "access_token" and "userinfo" hold claims, "raw" holds the tokens themselves, as id_token and access_token. Values come from JSON that was
// decoded with UseNumber.
type identity map[string]any

// claimKey is the path to a claim: a prefix as in identity, then the names that lead through objects.
type claimKey []string

// keyName matches one name in a key, with a dot written `\.` and a backslash `\\`; keyEscapes removes the escapes.
var (
	keyName    = regexp.MustCompile(`(?:[^.\\]|\\[.\\])+`)
	keyEscapes = strings.NewReplacer(`\.`, `.`, `\\`, `\`)
)

// keyMistakes are keys in other languages. Taken as names of claims, they would make rules that are never true.
var keyMistakes = []struct {
	pattern *regexp.Regexp
	words   string
}{
	{regexp.MustCompile(`^\s|\s$`), "take the spaces at its ends away"},
	{regexp.MustCompile(`\{\{|\}\}|\$\{|^[${<%]\w`), "templates and variables have no place here; write the claim's name"},
	{regexp.MustCompile(`^[$@#][.\[\w]|^/[^/]|->|^(realm_access|resource_access|address|(app|user)_metadata)/`), "it begins with the claim's own name, and a dot walks into an object"},
	{regexp.MustCompile(`\[(\*|-?[\w:]*|'.*'|".*"|[?@].*)\]|(^|\.)\*(\.|$)|\.\d{1,2}$`), "OneOf, AllOf and Contains look into a list by themselves; write the list's name, such as realm_access.roles"},
	{regexp.MustCompile(`^[^.]*[|,()]`), "functions and lists have no place here; write one claim's name"},
	{regexp.MustCompile(`^X-[A-Z]`), "it is the name of a header, which stands before its claim"},
	{regexp.MustCompile(`^["']|["']$`), "names have no quotes; a dot in one is written `\\.`"},
	{regexp.MustCompile(`^((?i:(id|access)[- ]?token|user[-_ ]info)|(ID|Id)_\w+|(ACCESS|Access)_\w+|userInfo|User[Ii]nfo)\.`), "the prefixes are id_token., access_token. and userinfo."},
}

// parseClaimKey reads a key such as realm_access.roles, access_token.scope or https://example\.com/roles.
func parseClaimKey(text string) (claimKey, error) {
	path := keyName.FindAllString(text, -1)
	if text == "" || joinTexts(path, ".") != text {
		return nil, errorf("claim key %q: expected names joined by dots; `\\.` is a dot in a name, `\\\\` a backslash", text)
	}
	for _, mistake := range keyMistakes {
		if mistake.pattern.MatchString(text) {
			return nil, errorf("claim key %q: would never be there; %s", text, mistake.words)
		}
	}
	for i, name := range path {
		// The one mistake with namespaced claims that would otherwise go unnoticed: the rule would just never be true.
		if i > 0 && containsText(path[i-1], "://") && containsText(name, "/") {
			return nil, errorf("claim key %q: a dot walks into an object; write the dot of a name as `\\.`", text)
		}
		path[i] = keyEscapes.Replace(name)
	}
	if len(path) == 1 || path[0] != "userinfo" && !isRawToken(path[0]) {
		path = append([]string{""}, path...)
	}
	return path, nil
}

// findClaim looks up a claim. It returns nil for a claim that is missing or null.
func findClaim(id identity, key claimKey) any {
	claims, _ := id[key[0]].(map[string]any)
	if len(key) == 2 { // most are
		return claims[key[1]]
	}
	return findMember(claims, key[1:])
}

// findMember follows the names of a key through objects.
func findMember(value any, key claimKey) any {
	for _, name := range key {
		object, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = object[name]
	}
	return value
}

// claimFunctions are the functions of the claims language and their parameters. Those that end in Fold ignore case.
const claimFunctions = "AllOf(key, value, …) Contains(key, value) Equals(key, value) Exists(key) Matches(key, pattern) OneOf(key, value, …) " +
	"Prefix(key, value) SplitContains(key, separator, value) Suffix(key, value) ContainsFold(key, value) EqualsFold(key, value) OneOfFold(key, value, …) " +
	"PrefixFold(key, value) SuffixFold(key, value)"

// lowerASCII folds only ASCII letters. strings.ToLower would turn some others into ASCII: U+212A becomes a k.
var lowerASCII = strings.NewReplacer(strings.Split("A,a,B,b,C,c,D,d,E,e,F,f,G,g,H,h,I,i,J,j,K,k,L,l,M,m,N,n,O,o,P,p,Q,q,R,r,S,s,T,t,U,u,V,v,W,w,X,x,Y,y,Z,z", ",")...)

// valueMistakes matches values that are patterns, lists, variables or quotes in other languages, and that no claim has here. addressMistakes
// matches what cannot be an e-mail address, but may be the value of other claims.
var (
	valueMistakes   = regexp.MustCompile("\\\\\\.|\\.\\*|^\\^|^\\(\\?|^\\*[@.]|\\([^()]*\\|[^()]*\\)|\\{\\{|\\$\\{|^\\$[A-Z][A-Z0-9_]*$|^[\"'].*[\"']$|^\\[\".*\"\\]$")
	addressMistakes = regexp.MustCompile(`^[@*]|^[\w-]+(\.[\w-]+)+$|@.*[,;\s].*@|^mailto:`)
)

// parseRule reads a claims expression. An empty text is no rule, which allows everybody; white space alone is a mistake.
func parseRule(text string) (rule, error) {
	return parseExpression(text, claimFunctions, prepareClaim)
}

// prepareClaim completes a condition on a claim.
func prepareClaim(c *condition) (err error) {
	name := strings.TrimSuffix(c.name, "Fold")
	c.isFolded = name != c.name
	c.name = name
	if contains(c.args, "") && !containsText("Equals OneOf AllOf", c.name) {
		return newError("an empty argument; Exists asks whether a claim is there")
	}
	if c.name == "OneOf" || c.name == "AllOf" { // an argument with line breaks is a list from a file
		c.args = append(c.args[:1], lineBreaks.Split(strings.TrimSpace(joinTexts(c.args[1:], "\n")), -1)...)
	}
	c.key, err = parseClaimKey(c.args[0])
	for i := 1; i < len(c.args) && err == nil; i++ {
		err = checkValue(c, c.args[i])
		if c.isFolded {
			c.args[i] = lowerASCII.Replace(c.args[i])
		}
	}
	if err == nil && c.name == "Matches" {
		// Compiled without our parentheses first: inside them, the mistake in "a)|(b" would not be noticed.
		if _, err = regexp.Compile(c.args[1]); err == nil {
			c.pattern, err = regexp.Compile("^(?:" + c.args[1] + ")$")
		}
	}
	return err
}

var lineBreaks = regexp.MustCompile(`\s*[\r\n]+\s*`)

var (
	slashDelimited = regexp.MustCompile(`^/(\^|.*/i?$)`)
	wildcardEnds   = regexp.MustCompile(`^\*|\$$`)
)

// checkValue refuses a value that no claim ever has.
func checkValue(c *condition, value string) error {
	claim := c.key[len(c.key)-1]
	switch {
	case c.name == "Matches" && slashDelimited.MatchString(value):
		return errorf("%q: a regular expression has no slashes around it here", value)
	case c.name == "Matches" && hasPrefix(value, "@"):
		return errorf("%q: must match the whole value, and none begins so; write `.*%s`, or Suffix for the end", value, value)
	case c.name != "Matches" && valueMistakes.MatchString(value) || c.name == "Prefix" && strings.HasSuffix(value, "*") || c.name == "Suffix" && wildcardEnds.MatchString(value):
		return errorf("%q is compared as it is, without escapes and wildcards; write the text, or Matches with a regular expression, or Suffix for the end", value)
	case !contains(strings.Fields("Equals OneOf AllOf"), c.name):
		return nil
	case value != strings.TrimSpace(value):
		return errorf("%q: has spaces at its ends; take them away", value)
	case strings.HasSuffix(claim, "_verified") && value != "true" && value != "false" && !c.isFolded:
		return errorf("%q: this claim is true or false; write `true`", value)
	case equalFold(claim, "email") && addressMistakes.MatchString(value):
		return errorf("%q is no address; each is an argument of its own, and SuffixFold(`email`, `@example.com`) asks for its end", value)
	}
	return nil
}

// allows evaluates a rule. It fails closed: without an identity, no rule is satisfied, not even one that only forbids.
func allows(r rule, id identity) bool {
	if r == nil || id == nil {
		return r == nil
	}
	i := 0
	for i >= 0 {
		c := r[i]
		i = c.no
		if claimHolds(c, findClaim(id, c.key)) {
			i = c.yes
		}
	}
	return i == exitTrue
}

// notAllowed is the error of a rule that is false. It names the claims that the rule reads in vain: a misspelt name, a claim that the provider
// does not send (or only a reference to it, OIDC Core 5.6.2), or an access token that is no JWT.
func notAllowed(r rule, id identity) error {
	var missing []string
	for _, c := range r {
		if !c.isNegated && findClaim(id, c.key) == nil && !contains(missing, c.args[0]) {
			missing = append(missing, c.args[0])
		}
	}
	if missing == nil {
		return errNotAllowed
	}
	return errorf("%w: the rule reads %s, and no such claim came", errNotAllowed, strings.Join(missing, ", "))
}

// claimHolds evaluates one condition. Values are compared as text: the JSON value true is `true`, 1.50 is `1.50` and `1.5`.
//
// Equals, Prefix, Suffix and Matches are about a single value: a list or an object never satisfies them, however few items it has. OneOf,
// AllOf and SplitContains are about the items of a list. They take a single value for a list of one, because some providers send a list with
// one item as a bare string. Contains looks for an item in a list, or for a part of a string.
func claimHolds(c *condition, claim any) bool {
	items, isList := claim.([]any)
	if !isList {
		items = []any{claim}
	}
	texts := itemTexts(items)
	if c.isFolded {
		foldTexts(texts)
	}
	isSingle := !isList && len(texts) > 0
	switch c.name {
	case "Exists":
		return claim != nil
	case "Equals":
		return isSingle && contains(texts, c.args[1])
	case "Contains":
		return isSingle && containsText(texts[0], c.args[1]) || contains(texts, c.args[1])
	case "Prefix", "Suffix", "Matches":
		return isSingle && textHolds(c, texts[0])
	}
	return listHolds(c, texts)
}

// foldTexts folds texts in place.
func foldTexts(texts []string) {
	for i := range texts {
		texts[i] = lowerASCII.Replace(texts[i])
	}
}

// textHolds evaluates conditions on a single text, except the simplest.
func textHolds(c *condition, text string) bool {
	switch c.name {
	case "Prefix":
		return hasPrefix(text, c.args[1])
	case "Suffix":
		return strings.HasSuffix(text, c.args[1])
	}
	return c.pattern.MatchString(text)
}

// listHolds evaluates conditions on the items of a list, except the simplest.
func listHolds(c *condition, texts []string) bool {
	values := c.args[1:]
	if c.name == "SplitContains" {
		var parts []string
		for _, text := range texts {
			parts = append(parts, strings.Split(text, values[0])...)
		}
		return contains(parts, values[1])
	}
	found := 0
	for _, value := range values {
		if contains(texts, value) {
			found++
		}
	}
	return found == len(values) || c.name == "OneOf" && found > 0
}

// itemTexts returns the single values among the items as texts, which a condition compares. Some JSON encoders write 1 as 1.0, so a number
// that ends in zeros is there twice, with and without them. Numbers are never read as floats: two account numbers of 17 digits can be the
// same float.
func itemTexts(items []any) (texts []string) {
	texts = nil
	for _, item := range items {
		if text, isText := item.(string); isText {
			texts = append(texts, text)
		} else {
			texts = append(texts, itemTextsSlow(item)...)
		}
	}
	return texts
}

// itemTextsSlow is itemTexts for a value that is not a string.
func itemTextsSlow(item any) []string {
	_, isList := item.([]any)
	_, isObject := item.(map[string]any)
	if isList || isObject || item == nil {
		return nil
	}
	text := valueText(item)
	if _, isNumber := item.(json.Number); isNumber && containsText(text, ".") && !containsAny(text, "eE") {
		return []string{text, strings.TrimSuffix(strings.TrimRight(text, "0"), ".")}
	}
	return []string{text}
}

// headerFormat describes the value of a header: texts[0], the claim of keys[0], texts[1], and so on to the last text.
type headerFormat struct {
	texts     []string
	keys      []claimKey
	encodings []string // how each claim is written
	claim     string   // of a format that is nothing but a claim as it is, without a prefix or a dot; "" for all others
}

// headerEncodings are the ways to write a claim, after a "|" in the braces: as JSON, only its first item, one header line for each item, and,
// for characters beyond ASCII, percent-encoded like JavaScript's encodeURIComponent, or as in RFC 8187.
var headerEncodings = strings.Fields("json first lines percent rfc8187")

var headerEncoding = regexp.MustCompile(`\|(\w*)$`)

// bracedKey matches a key in a format.
var bracedKey = regexp.MustCompile(`\{[^{}]*\}`)

// parseHeaderFormat reads a value of forwardHeaders: a claim key, or a text with keys in braces such as "Bearer {access_token}". There is no
// escape for a brace, since no header needs one.
func parseHeaderFormat(text string) (*headerFormat, error) {
	if text == "" || unsafeInHeader.MatchString(text) {
		return nil, errorf("expected a claim or a format, without control characters or spaces around it, got %q", text)
	}
	if containsText(text, "{{") || containsText(text, "}}") {
		return nil, errorf("%q has double braces, which Traefik's file provider would replace itself; write {claim}", text)
	}
	if last := len(text) - 1; last > 0 && containsAny(text[:1], "'\"\x60") && text[last] == text[0] {
		return &headerFormat{texts: []string{text[1:last]}}, nil // the same for everybody
	}
	if !containsAny(text, "{}") {
		if isRawToken(text) || containsText(text, " ") {
			return nil, errorf(`%q would be the name of a claim; a format has braces, such as "Bearer {access_token}"`, text)
		}
		text = "{" + text + "}"
	}
	f := &headerFormat{texts: bracedKey.Split(text, -1)}
	if containsAny(joinTexts(f.texts, ""), "{}") {
		return nil, errorf(`%q has braces that do not match; expected a format such as "{name} <{email}>"`, text)
	}
	for _, name := range bracedKey.FindAllString(text, -1) {
		name = strings.Trim(name, "{}")
		way := headerEncoding.FindString(name)
		if way != "" && !contains(headerEncodings, way[1:]) {
			return nil, errorf("%q is no way to write a claim; write one of %s behind the |", way[1:], joinTexts(headerEncodings, ", "))
		}
		if way == "|lines" && strings.TrimSpace(text) != "{"+name+"}" {
			return nil, errorf("%q makes several lines of one claim, so nothing may stand beside it; write {%s} alone", text, name)
		}
		name = strings.TrimSuffix(name, way)
		f.encodings = append(f.encodings, way)
		key, err := parseClaimKey(name)
		if err != nil {
			return nil, err
		}
		if isRawToken(name) {
			key[0] = "raw"
		}
		f.keys = append(f.keys, key)
	}
	return simplified(f), nil
}

// simplified completes a format.
func simplified(f *headerFormat) *headerFormat {
	if len(f.keys) == 1 && len(f.keys[0]) == 2 && f.texts[0]+f.texts[1]+f.encodings[0]+f.keys[0][0] == "" {
		f.claim = f.keys[0][1]
	}
	return f
}

// isRawToken reports whether a name in braces stands for a token, not a claim.
func isRawToken(name string) bool {
	return name == "id_token" || name == "access_token"
}

// formatHeader makes the value of a header. If one of its claims or tokens is missing, there is no header. An empty claim counts as missing:
// an upstream that only checks whether the header is there must not take nobody for somebody.
//
// A format does not quote: the name `Eve <root@example.com>` in "{name} <{email}>" arrives as it is. What an upstream bases decisions on
// belongs in a header of its own.
func formatHeader(f *headerFormat, id identity) (string, bool) {
	if f == nil || id == nil {
		return "", false
	}
	value := f.texts[0]
	for i, key := range f.keys {
		claim := findClaim(id, key)
		text := ""
		if way := f.encodings[i]; way != "" {
			text = encodeClaim(way, claim)
		} else {
			text = claimString(claim)
		}
		if text == "" {
			return "", false
		}
		value += text + f.texts[i+1]
	}
	return headerSafe(value), true
}

// headerLines returns the lines of a header, none if its claim is missing.
func headerLines(f *headerFormat, id identity) []string {
	if f.claim == "" {
		return headerLinesSlow(f, id)
	}
	claims, _ := id[""].(map[string]any)
	text, _ := claims[f.claim].(string)
	if text == "" {
		text = claimString(claims[f.claim])
	}
	if text == "" {
		return nil
	}
	return []string{encodeUnsafe(text, pathEscape)}
}

// headerLinesSlow is headerLines for a format that is not just a claim.
func headerLinesSlow(f *headerFormat, id identity) (lines []string) {
	lines = nil
	var items []any
	if len(f.encodings) == 1 && f.encodings[0] == "|lines" {
		items, _ = findClaim(id, f.keys[0]).([]any)
	}
	if value, isThere := formatHeader(f, id); isThere && items == nil {
		lines = append(lines, value)
	}
	for _, item := range items {
		if text := headerSafe(valueText(item)); text != "" {
			lines = append(lines, text)
		}
	}
	return lines
}

// encodeClaim writes a claim in one of headerEncodings.
func encodeClaim(way string, claim any) string {
	list, isList := claim.([]any)
	if way == "|first" && isList {
		claim = nil
		if len(list) > 0 {
			claim = list[0]
		}
	}
	text := claimString(claim)
	switch {
	case way == "|json" && text != "":
		encoded, _ := toJSON(claim)
		return string(encoded)
	case way == "|percent" || way == "|rfc8187" && text != "":
		text = strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
		if way == "|rfc8187" {
			text = "UTF-8''" + text
		}
	}
	return text
}

// claimString returns a claim as text. Items of a list are joined with commas.
func claimString(claim any) string {
	if text, isText := claim.(string); isText {
		return text
	}
	if list, isList := claim.([]any); isList {
		return listText(list)
	}
	return valueText(claim)
}

func listText(list []any) string {
	var items []string
	for _, item := range list {
		text := valueText(item)
		if containsText(text, ",") {
			text = commaEncoder.Replace(text) // otherwise a group with a comma in its name would become two groups
		}
		if text != "" {
			items = append(items, headerSafe(text)) // otherwise a reader that trims the items would take " admins" for "admins"
		}
	}
	return joinTexts(items, ",")
}

// valueText returns a string as it is, "" for nil, and any other value as JSON.
func valueText(claim any) string {
	text, isText := claim.(string)
	if !isText && claim != nil {
		encoded, _ := toJSON(claim)
		text = string(encoded)
	}
	return text
}

// commaEncoder encodes an item that contains a comma. It also encodes percent signs, so that the upstream can decode it.
var commaEncoder = strings.NewReplacer(",", "%2C", "%", "%25")

// unsafeInHeader matches what a header value cannot carry (RFC 9110 5.5): control characters, and spaces at its ends, which every recipient
// trims. Many languages trim the other spaces of Unicode as well.
var unsafeInHeader = regexp.MustCompile(`[\x00-\x1f\x7f]|^[\p{Z}\x{85}\x{feff}]+|[\p{Z}\x{85}\x{feff}]+$`)

var encodeUnsafe, pathEscape = unsafeInHeader.ReplaceAllStringFunc, url.PathEscape

// headerSafe percent-encodes what a header value cannot carry. Dropping it would make two names the same: a user who calls himself
// "ad\x00min" or "admin " would be "admin" to the upstream.
func headerSafe(text string) string { return encodeUnsafe(text, pathEscape) }

// mergeClaims returns the claims of both; those of over win.
func mergeClaims(under, over map[string]any) map[string]any {
	both := make(map[string]any, len(under)+len(over))
	for name, value := range under {
		both[name] = value
	}
	for name, value := range over {
		both[name] = value
	}
	return both
}
