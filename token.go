package oidc

import (
	"bytes"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// This room reads JSON Web Tokens and judges their claims, without any I/O. Its house rules:
//   - parseToken believes nothing: until verifyToken (jwks.go) and one of the check functions below have both said yes,
//     a token is what a stranger wrote;
//   - every check fails closed: what is missing, of the wrong kind or out of range is refused, never skipped;
//   - an error begins with the claim and may quote claims, never the token.

const (
	maxTokenSize  = 64 << 10     // bytes of a whole token; the largest seen in practice are about 12 KB
	maxJSONSize   = 1 << 20      // bytes of any JSON
	maxContainers = 1000         // objects and arrays in one JSON text, and so its depth
	maxKeyID      = 256          // bytes of kid
	maxName       = 255          // bytes of sub (OIDC Core 2), sid, jti, typ
	clockSkew     = 60           // seconds by which our clock and the provider's may differ
	maxLoginAge   = 10 * 60      // seconds between the issue of an ID token and its use
	anyAge        = endOfTime    // for tokens whose exp alone says how long they are good for
	endOfTime     = 253402300799 // 31 December 9999: a later date is a mistake
	logoutEvent   = "http://schemas.openid.net/event/backchannel-logout"
)

// token is a JSON Web Token taken apart. Nothing in it has been verified.
type token struct {
	raw, signed   string // the whole, and the part that is signed: header.payload
	alg, kid, typ string
	claims        map[string]interface{}
	signature     []byte
}

// tokenRules is what the tokens of one client must satisfy. They come from the configuration alone, never from a token or from what
// an answer of the provider says of itself.
type tokenRules struct {
	issuers          []string // accepted iss values; nil: not checked (disableIssuerCheck)
	audience         []string // aud must name one of these: the client for ID and logout tokens; empty: access tokens are not checked
	trustedAudiences []string // what the aud of an ID or logout token may name besides
	clientID         string
	algorithms       []string // accepted alg values, all of one family: for verifyToken
}

// expected is what one sign-in asked for and its ID token must answer.
type expected struct {
	nonce       string
	accessToken string // which at_hash, if there is one, must match; "" when none came
	maxAge      *int
	acrValues   []string
}

var base64url = base64.RawURLEncoding.Strict()

// parseToken takes a signed JWT apart. It refuses every form of JOSE object but the compact JWS of a JSON object (RFC 8725 3.11,
// RFC 7519 7.2).
//
// It is what any visitor can make us do, so its cost is bounded: some 50 µs for a usual token, 2 to 4 ms for 64 KB of nothing but
// numbers or names.
func parseToken(raw string) (*token, error) {
	t, payload, err := parseJWS(raw)
	if err != nil {
		return nil, err
	}
	t.claims, err = parseObject(payload)
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return t, nil
}

// parseJWS takes a compact JWS apart (RFC 7515 5.2, steps 1 to 5). Embedded and linked keys (jwk, jku, x5c, x5u) are not even
// looked at (RFC 8725 3.10): the keys of an issuer are known beforehand.
func parseJWS(raw string) (t *token, payload []byte, err error) {
	if len(raw) > maxTokenSize {
		return nil, nil, fmt.Errorf("token: must have at most %d bytes, got %d", maxTokenSize, len(raw))
	}
	parts := strings.SplitN(raw, ".", 6) // no more pieces than can be told apart: the text may be all dots
	if len(parts) != 3 {
		return nil, nil, fmt.Errorf("token: must have three parts, got %d; encrypted tokens (five parts) and opaque ones cannot be read", len(parts))
	}
	var decoded [][]byte
	for i, name := range []string{"header", "payload", "signature"} {
		data, err := decodePart(name, parts[i])
		if err != nil {
			return nil, nil, err
		}
		decoded = append(decoded, data)
	}
	t = &token{raw: raw, signed: parts[0] + "." + parts[1], signature: decoded[2]}
	return t, decoded[1], readHeader(t, decoded[0])
}

// decodePart decodes the only spelling of base64url that a JWS may have (RFC 7515 2): no padding, no line breaks, no
// stray bits at the end. Otherwise one token could be written in several ways.
func decodePart(name, part string) ([]byte, error) {
	data, err := base64url.DecodeString(part)
	if err != nil || strings.ContainsAny(part, "\r\n") { // which the library skips, in strict mode, too
		return nil, fmt.Errorf("%s: must be base64url without padding and line breaks", name)
	}
	return data, nil
}

// readHeader takes what we use from a JOSE header and refuses what would change how the token is to be read.
func readHeader(t *token, data []byte) error {
	header, err := parseObject(data)
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	for _, name := range []string{"crit", "b64"} { // RFC 7515 4.1.11, RFC 7797 7
		if _, found := header[name]; found {
			return fmt.Errorf("%s: asks for an extension, none is understood", name)
		}
	}
	t.alg = text(header["alg"])
	if algorithms[t.alg] == nil { // compared exactly with what we know; "none", in any case, is not among it
		return fmt.Errorf("alg: not a signature algorithm that is known here, got %s", shown(header["alg"]))
	}
	if t.kid, err = stringIn(header, "kid", maxKeyID); err != nil {
		return err
	}
	t.typ, err = stringIn(header, "typ", maxName)
	return err
}

// parseObject reads one JSON object, strictly: valid UTF-8, no name twice in any object, bounded in size and depth, nothing
// after it. Names are kept as they are, so nothing but exactly "sub" is ever read as sub. Numbers stay text (json.Number).
func parseObject(data []byte) (map[string]interface{}, error) {
	if len(data) > maxJSONSize || bytes.Count(data, []byte("{"))+bytes.Count(data, []byte("[")) > maxContainers {
		return nil, fmt.Errorf("JSON: must have at most %d bytes and %d objects and arrays", maxJSONSize, maxContainers)
	}
	if !utf8.Valid(data) { // the library would put U+FFFD, and two names could become one
		return nil, errors.New("JSON: must be UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var object map[string]interface{}
	err := decoder.Decode(&object)
	if err == nil && object == nil {
		err = errors.New("got null")
	}
	if err != nil {
		return nil, fmt.Errorf("JSON: must be an object: %w", err)
	}
	if _, err = decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("JSON: must end after the object")
	}
	if err = checkNothingLost(data, object); err != nil {
		return nil, err
	}
	return object, nil
}

// checkNothingLost compares data with the object that was decoded from it.
//
// A member with the name of another pushes it out, and which of the two counts differs from parser to parser (RFC 8725 2.4).
// Each member has a colon; other colons are in strings only. So the text, and the object written anew, have equally many,
// unless a member was dropped. Reading token by token instead would cost the interpreter five times as much.
func checkNothingLost(data []byte, object map[string]interface{}) error {
	again, _ := json.Marshal(object) // cannot fail, and would leave nothing to compare if it did
	colons := bytes.Count(data, []byte(":"))
	if bytes.Contains(data, []byte(`\u00`)) {
		// A colon may be written \u003a, unless the backslash is itself escaped.
		escapes := bytes.ToLower(bytes.ReplaceAll(data, []byte(`\\`), nil))
		colons += bytes.Count(escapes, []byte(`\u003a`))
	}
	if colons != bytes.Count(again, []byte(":")) {
		return errors.New("JSON: must not have a name twice in one object")
	}
	// Half of a surrogate pair is decoded as U+FFFD: two users' sub could become one.
	if bytes.Count(again, []byte("\ufffd")) > bytes.Count(data, []byte("\ufffd")) {
		return errors.New("JSON: must be Unicode, got half a surrogate pair")
	}
	return nil
}

// stringIn is the string object[name], or "" if there is none. Anything else than a string of at most size bytes is an error.
func stringIn(object map[string]interface{}, name string, size int) (string, error) {
	value, found := object[name]
	if !found {
		return "", nil
	}
	s, ok := value.(string)
	if !ok || len(s) > size {
		return "", fmt.Errorf("%s: must be a string of at most %d bytes, got %s", name, size, shown(value))
	}
	return s, nil
}

// shown is a claim as it may stand in a log line: JSON, so on one line, and cut when it is long. What is missing is null.
func shown(value interface{}) string {
	written, _ := json.Marshal(value)
	return clip(string(written))
}

// firstError is the first of several checks that failed. All of them are made, so each must stand by itself.
func firstError(checks ...error) error {
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkIDToken judges an ID token by which someone signs in. The steps are those of OIDC Core 3.1.3.7; step 6, the signature, and 7,
// the algorithm, are verifyToken's.
func checkIDToken(r *tokenRules, t *token, e *expected, now time.Time) error {
	return firstError(
		checkType(t, "jwt"),                     // RFC 8725 3.11: not a token of another kind,
		checkAbsent(t, "events"),                // nor a logout token that does not say so
		checkProvenance(r, t, maxLoginAge, now), // steps 2 to 5 and 8 to 10
		checkNonce(t, e.nonce),                  // step 11
		checkACR(t, e.acrValues),                // step 12
		checkAuthTime(t, e.maxAge, now),         // step 13
		checkAccessTokenHash(t, e.accessToken),  // 3.1.3.8
		checkNamed(t, "sub"),                    // 2
	)
}

// checkProvenance is what ID and logout tokens have in common: who made it, for whom, and when.
func checkProvenance(r *tokenRules, t *token, maxAge int64, now time.Time) error {
	return firstError(
		checkIssuer(r, t),                       // step 2
		checkClientAudience(r, t),               // steps 3 and 8
		checkAuthorizedParty(r, t),              // steps 4 and 5
		checkExpiry(t, now),                     // step 9
		checkPast(t, "nbf", false, anyAge, now), // RFC 7519 4.1.5
		checkPast(t, "iat", true, maxAge, now),  // step 10
	)
}

// checkRefreshedIDToken judges an ID token that came with a refresh (OIDC Core 12.2). first is the claims of the one it replaces,
// accessToken the access token that came with it.
func checkRefreshedIDToken(r *tokenRules, t *token, first map[string]interface{}, accessToken string, now time.Time) error {
	return firstError(
		checkType(t, "jwt"),
		checkAbsent(t, "events"),
		checkProvenance(r, t, maxLoginAge, now), // iat is "the time that the new ID token is issued"
		checkAccessTokenHash(t, accessToken),
		checkNamed(t, "sub"),
		checkSame(t, first, "iss", true),
		checkSame(t, first, "sub", true), // or someone else would go on in this session
		checkSame(t, first, "azp", true),
		checkSame(t, first, "auth_time", false), // "the time of the original authentication", where it is given
		checkSame(t, first, "nonce", false),     // it need not be there
	)
}

// checkLogoutToken judges a logout token (Back-Channel Logout 1.0, 2.6). Whether its jti was seen before is the caller's to ask.
func checkLogoutToken(r *tokenRules, t *token, requireSid bool, now time.Time) error {
	return firstError(
		checkType(t, "jwt", "logout+jwt"),
		checkProvenance(r, t, anyAge, now), // step 4
		checkWho(t, requireSid),            // step 5
		checkEvents(t),                     // step 6
		checkAbsent(t, "nonce"),            // step 7: an ID token must not sign anyone out
		checkNamed(t, "jti"),               // 2.4
	)
}

// checkAccessToken judges a JWT that was brought to an API as a bearer token (RFC 9068 4, RFC 7519 7.2). Issuer and audience are
// checked as far as r has them; type at+jwt is not demanded, as most providers do not set it.
func checkAccessToken(r *tokenRules, t *token, now time.Time) error {
	return firstError(
		checkType(t, "jwt", "at+jwt"),
		checkNotIDToken(t),
		checkIssuer(r, t),
		checkAudience(r, t),
		checkExpiry(t, now),
		checkPast(t, "nbf", false, anyAge, now),
		checkPast(t, "iat", false, anyAge, now),
	)
}

// checkType compares typ without regard to case and with application/ left out or not (RFC 8725 3.11, RFC 7515 4.1.9).
// A token without typ may be of any kind; its claims tell.
func checkType(t *token, accepted ...string) error {
	if kind := strings.TrimPrefix(strings.ToLower(t.typ), "application/"); t.typ != "" && !has(accepted, kind) {
		return fmt.Errorf("typ: expected %q, got %q", accepted, t.typ)
	}
	return nil
}

// checkAbsent wants a token not to have a claim that would make it one of another kind (RFC 8725 3.12: mutually exclusive rules).
func checkAbsent(t *token, name string) error {
	if _, found := t.claims[name]; found { // also null
		return fmt.Errorf("%s: must not be in this kind of token", name)
	}
	return nil
}

// checkNotIDToken refuses an ID token in place of an access token: it tells a client who someone is and gives no right to call an
// API (RFC 8725 3.12). Where typ does not tell the kind, these claims do. Older Keycloaks put nonce into access tokens, too, but with
// "typ": "Bearer" among the claims.
func checkNotIDToken(t *token) error {
	_, nonce := t.claims["nonce"]
	_, hash := t.claims["at_hash"]
	_, events := t.claims["events"]
	kind := text(t.claims["typ"])
	if hash || events || kind == "ID" || text(t.claims["token_use"]) == "id" || nonce && kind != "Bearer" {
		return errors.New("typ: expected an access token, got an ID token or a logout token")
	}
	return nil
}

// checkIssuer compares byte for byte (OIDC Core 3.1.3.7, step 2: "exactly match"): no final slash is forgiven, no letter folded.
// An issuer that is not yet known (an empty list) fits nobody; only nil is not checked.
func checkIssuer(r *tokenRules, t *token) error {
	if iss := text(t.claims["iss"]); r.issuers != nil && (iss == "" || !has(r.issuers, iss)) {
		return fmt.Errorf("issuer: expected %s, got %s", oneOf(r.issuers), shown(t.claims["iss"]))
	}
	return nil
}

// audienceOf reads aud: a string, or an array of strings (RFC 7519 4.1.3). Anything else gives nothing, and so fits nobody.
func audienceOf(t *token) []string {
	items, ok := t.claims["aud"].([]interface{})
	if !ok {
		items = []interface{}{t.claims["aud"]}
	}
	audience := texts(items)
	if len(audience) != len(items) {
		return nil
	}
	return audience
}

// checkAudience wants one of r.audience in aud.
func checkAudience(r *tokenRules, t *token) error {
	if len(r.audience) == 0 {
		return nil
	}
	for _, name := range audienceOf(t) {
		if name != "" && has(r.audience, name) {
			return nil
		}
	}
	return fmt.Errorf("audience: expected %s, got %s", oneOf(r.audience), shown(t.claims["aud"]))
}

// checkClientAudience wants aud to name this client, and nobody else who is not trusted.
func checkClientAudience(r *tokenRules, t *token) error {
	if len(r.audience) == 0 {
		return errors.New("audience: no client to expect") // fails closed
	}
	if err := checkAudience(r, t); err != nil {
		return err
	}
	audience := audienceOf(t)
	for _, name := range audience {
		if !has(r.audience, name) && !has(r.trustedAudiences, name) {
			return fmt.Errorf("audience: expected only %s, got %s; see trustedAudiences", oneOf(r.audience), shown(t.claims["aud"]))
		}
	}
	// Step 8: everybody who may read a token signed with a shared secret could have made it.
	if len(audience) > 1 && strings.HasPrefix(t.alg, "HS") {
		return fmt.Errorf("audience: expected one value with %s, got %s", t.alg, shown(t.claims["aud"]))
	}
	return nil
}

// checkAuthorizedParty wants azp to be this client if it is there, and it to be there if aud has several values.
func checkAuthorizedParty(r *tokenRules, t *token) error {
	azp, found := t.claims["azp"]
	if !found && len(audienceOf(t)) < 2 {
		return nil
	}
	if r.clientID == "" || text(azp) != r.clientID {
		return fmt.Errorf("azp: expected %q, got %s", r.clientID, shown(azp))
	}
	return nil
}

// numericDate reads a NumericDate (RFC 7519 2): seconds since 1970, perhaps with a fraction, which is cut off. Without one it is 0,
// as some providers write it, too ("nbf": 0). The range is checked before the conversion, or 1e300 would become a date long ago.
func numericDate(claims map[string]interface{}, name string) (int64, error) {
	value, found := claims[name]
	if !found {
		return 0, nil
	}
	number, _ := value.(json.Number)
	seconds, err := strconv.ParseFloat(string(number), 64)
	if err != nil || seconds < 0 || seconds > endOfTime {
		return 0, fmt.Errorf("%s: must be a date in seconds since 1970, got %s", name, shown(value))
	}
	return int64(seconds), nil
}

// checkExpiry wants a time at which the token ends, and that to be not yet over (RFC 7519 4.1.4). RFC 7519 leaves exp out of what a
// token must have; without it a stolen token would be good for ever.
func checkExpiry(t *token, now time.Time) error {
	exp, err := numericDate(t.claims, "exp")
	if err != nil {
		return err
	}
	if exp == 0 {
		return fmt.Errorf("exp: required, got %s", shown(t.claims["exp"]))
	}
	if late := now.Unix() - exp; late >= clockSkew {
		return fmt.Errorf("exp: expired %d s ago, %d s are allowed; is this machine's clock right?", late, clockSkew)
	}
	return nil
}

// checkPast wants the date not to be in the future, and at most maxAge seconds ago. Clocks differ: the message says by how much, and
// whose may be wrong.
func checkPast(t *token, name string, required bool, maxAge int64, now time.Time) error {
	date, err := numericDate(t.claims, name)
	if err != nil {
		return err
	}
	if date == 0 && required {
		return fmt.Errorf("%s: required, got %s", name, shown(t.claims[name]))
	}
	age := now.Unix() - date
	if age < -clockSkew {
		return fmt.Errorf("%s: %d s in the future, %d s are allowed; is this machine's clock right?", name, -age, clockSkew)
	}
	if age > maxAge {
		return fmt.Errorf("%s: %d s ago, %d s are allowed; is this machine's clock right?", name, age, maxAge)
	}
	return nil
}

// checkNonce ties the token to the sign-in that asked for it: one that was stolen or issued elsewhere is of no use here. We always
// send a nonce, so neither side may be empty. Nothing of it is shown: the sign-in may still be under way.
func checkNonce(t *token, nonce string) error {
	got := text(t.claims["nonce"])
	if nonce == "" || subtle.ConstantTimeCompare([]byte(got), []byte(nonce)) != 1 {
		return errors.New("nonce: not the one sent with this sign-in")
	}
	return nil
}

// checkACR wants the sign-in to have been as strong as was asked for: the provider may treat acr_values as a mere wish
// (OIDC Core 3.1.2.1).
func checkACR(t *token, acrValues []string) error {
	if len(acrValues) > 0 && !has(acrValues, text(t.claims["acr"])) {
		return fmt.Errorf("acr: expected %s, got %s", oneOf(acrValues), shown(t.claims["acr"]))
	}
	return nil
}

// checkAuthTime wants the user to have proved who they are at most maxAge seconds ago, if that was asked for.
func checkAuthTime(t *token, maxAge *int, now time.Time) error {
	if maxAge == nil {
		return nil
	}
	return checkPast(t, "auth_time", true, int64(*maxAge)+clockSkew, now)
}

// checkAccessTokenHash ties the access token to the ID token it came with: the left half of its hash (OIDC Core 3.1.3.6), by the
// hash of the ID token's alg; for EdDSA that is SHA-512, inside Ed25519, too.
func checkAccessTokenHash(t *token, accessToken string) error {
	claim, found := t.claims["at_hash"]
	if !found || accessToken == "" {
		return nil
	}
	hash := algorithms[t.alg].hash.New()
	hash.Write([]byte(accessToken))
	sum := hash.Sum(nil)
	if text(claim) != base64url.EncodeToString(sum[:len(sum)/2]) {
		return errors.New("at_hash: not the hash of the access token that came with it")
	}
	return nil
}

// checkNamed wants a string that is not empty. A number is not taken for its digits: 5 and "5" would become the same user.
func checkNamed(t *token, name string) error {
	value, err := stringIn(t.claims, name, maxName)
	if err == nil && value == "" {
		err = fmt.Errorf("%s: required, got %s", name, shown(t.claims[name]))
	}
	return err
}

// checkSame wants the value that the claim had in first. A claim that is not always there is compared when both tokens have it.
func checkSame(t *token, first map[string]interface{}, name string, always bool) error {
	value, found := t.claims[name]
	before, had := first[name]
	both := found && had
	if both && fmt.Sprint(value) == fmt.Sprint(before) || !both && (!always || found == had) {
		return nil
	}
	return fmt.Errorf("%s: not what it was before the refresh", name)
}

// checkWho wants a logout token to say which session ends, or whose.
func checkWho(t *token, requireSid bool) error {
	sub, subErr := stringIn(t.claims, "sub", maxName)
	sid, sidErr := stringIn(t.claims, "sid", maxName)
	if sidErr == nil && sid == "" && (sub == "" || requireSid) {
		sidErr = fmt.Errorf("sid: required, got %s", shown(t.claims["sid"]))
	}
	return firstError(subErr, sidErr)
}

// checkEvents wants the one event that makes a token a logout token (Back-Channel Logout 1.0, 2.4).
func checkEvents(t *token) error {
	events, _ := t.claims["events"].(map[string]interface{})
	if _, ok := events[logoutEvent].(map[string]interface{}); !ok {
		return fmt.Errorf("events: expected {%q: {}}, got %s", logoutEvent, shown(t.claims["events"]))
	}
	return nil
}

// oneOf words what was expected: "a", or one of ["a" "b"].
func oneOf(values []string) string {
	if len(values) == 1 {
		return strconv.Quote(values[0])
	}
	return fmt.Sprintf("one of %q", values)
}
