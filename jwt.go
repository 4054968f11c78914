package oidc

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

// JSON Web Tokens are parsed and their claims checked here, without any I/O. House rules of this file:
//   - parseToken verifies nothing: until both verifyToken (jwks.go) and one of the check functions below have succeeded, a token is
//     untrusted input;
//   - every check fails closed: what is missing, of the wrong type or out of range is refused, never skipped;
//   - an error begins with the claim, and may quote claims, but never the token.

const (
	maxTokenSize   = 64 << 10       // bytes of a whole token; the largest seen in practice are about 12 KB
	maxJSONSize    = 4 << 20        // bytes of any JSON; a set of 1,000 keys with certificates has about 2 MB
	maxLevels      = 1000           // nesting depth of any JSON
	libraryDepth   = 10000          // nesting depth that the library accepts
	maxKeyID       = 256            // bytes of kid
	maxName        = 255            // bytes of sub (OIDC Core 2), sid, jti, typ
	maxLoginAge    = 10 * 60        // seconds between the issue of an ID token and its use
	unlimitedAge   = maxNumericDate // for tokens whose validity exp alone limits
	anyAudience    = "*"            // a value of trustedAudiences
	maxNumericDate = 253402300799   // 31 December 9999: a later date is a mistake
	logoutEvent    = "http://schemas.openid.net/event/backchannel-logout"
)

// token is a parsed JSON Web Token. Nothing in it has been verified.
type token struct {
	signed        string // the part that is signed: header.payload
	alg, kid, typ string
	claims        map[string]any
	signature     []byte
	expiry        int64 // exp, once it has been checked
}

// tokenRules are what the tokens of one client must satisfy. They come from the configuration alone, never from a token or from what the
// provider says of itself.
type tokenRules struct {
	issuers          []string      // accepted iss values; nil: not checked (disableIssuerCheck)
	providerIssuer   *atomic.Value // the first of them as the provider's metadata spell it; empty if they spell it as configured
	audience         []string      // aud must name one of these: the client for ID and logout tokens; empty: access tokens are not checked
	trustedAudiences []string      // what else the aud of an ID or logout token may name; anyAudience: anything, as azp says whose token it is
	skew             int64         // seconds by which our clock and the provider's may differ
	client           string        // for access tokens: the sign-in's client, which also gets ID tokens
	acceptsIDTokens  bool          // as access tokens
	algorithms       []string      // accepted alg values, all of one family: for verifyToken
}

// parsedHeaders caches JOSE headers, since all tokens of one key have the same.
var parsedHeaders = &boundedCache{young: map[string]cacheEntry{}, capacity: 64 << 10}

// parseToken parses a signed JWT. It refuses every JOSE object but the compact JWS of a JSON object (RFC 7515 5.2, RFC 7519 7.2, RFC 8725
// 3.11).
//
// Any visitor can make us do this, so its cost is bounded: some 50 µs for a usual token, 2 to 4 ms for 64 KB of only numbers or names, 10 ms
// for 64 KB of only objects.
func parseToken(raw string) (t *token, err error) {
	parts := splitN(raw, ".", 6) // limited, as the text may be all dots
	if len(raw) > maxTokenSize {
		return nil, errorf("token: must have at most %d bytes, got %d", maxTokenSize, len(raw))
	}
	if len(parts) != 3 {
		return nil, errorf("token: must have three parts, got %d; encrypted tokens (five parts) and opaque ones cannot be read", len(parts))
	}
	t = nil // the interpreter leaves it as it was if the assertion fails
	if t, _ = cacheGet(parsedHeaders, parts[0]).(*token); t == nil {
		if t, err = readHeader(parts[0]); err != nil {
			return nil, err
		}
	}
	made := *t
	made.signed = parts[0] + "." + parts[1]
	if made.claims, err = decodeObject("payload", parts[1]); err != nil {
		return nil, err
	}
	if made.signature, err = decodePart("signature", parts[2]); err != nil {
		return nil, err
	}
	return &made, nil
}

// readHeader reads what we use of a JOSE header, and refuses what would change how the token must be read. Embedded and linked keys (jwk,
// jku, x5c, x5u) are ignored (RFC 8725 3.10): an issuer's keys are known beforehand.
func readHeader(part string) (*token, error) {
	header, err := decodeObject("header", part)
	if err = firstError(err, checkName(header, "kid", maxKeyID, false), checkName(header, "typ", maxName, false)); err != nil {
		return nil, err
	}
	t := &token{alg: normalizedAlg(stringOf(header["alg"])), kid: stringOf(header["kid"]), typ: stringOf(header["typ"])}
	if algorithms[t.alg] == "" { // must be exactly one that we know; "none", in any spelling, is not
		return nil, errorf("alg: not a signature algorithm that is known here, got %s", quoteJSON(header["alg"]))
	}
	for _, name := range []string{"crit", "b64"} { // RFC 7515 4.1.11, RFC 7797 7
		if hasKey(header, name) {
			return nil, errorf("%s: asks for an extension, none is understood", name)
		}
	}
	if len(part) < 1<<10 {
		cacheSet(parsedHeaders, strings.Clone(part), t, len(part)) // a part of the token would keep the whole of it in memory
	}
	return t, nil
}

func decodeObject(name, part string) (object map[string]any, err error) {
	data, err := decodePart(name, part)
	if err != nil {
		return nil, err
	}
	if object, err = parseObject(data); err != nil {
		return nil, errorf("%s: %w", name, err)
	}
	return object, nil
}

// unescaped replaces \u003a in a JSON text with a colon, and drops escaped backslashes.
var unescaped = strings.NewReplacer(`\\`, ``, `\u003a`, `:`, `\u003A`, `:`)

// decisiveNames must not occur twice in an object: they decide what a token or response is good for, and parsers differ about which of the
// two counts (RFC 8725 2.4). Of any other name, the last one counts (RFC 7519 4, RFC 7517 4).
var decisiveNames = strings.Fields(`iss sub aud exp nbf iat nonce azp sid acr auth_time events jti typ alg kid crit b64 at_hash cnf client_id token_use token_type
	active error access_token refresh_token id_token keys kty crv use key_ops n e x y issuer authorization_endpoint token_endpoint jwks_uri`)

// escapedNameCharacter matches escapes by which a decisive name could be spelled differently. Nobody writes letters like that.
var escapedNameCharacter = regexp.MustCompile(`\\u00(4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aA]|3[0-9])`)

// parseObject reads one JSON object, strictly: valid UTF-8, no decisive name twice in any object, bounded in size and depth, nothing after
// it. Names are kept as they are, so only exactly "sub" is read as sub. Numbers stay text (json.Number).
func parseObject(data []byte) (object map[string]any, err error) {
	if !isUTF8(data) || len(data) > maxJSONSize || len(data) > maxLevels && !isShallow(string(data)) {
		return nil, jsonTextError(data)
	}
	var value any
	decoder := newDecoder(newReader(data))
	decoder.UseNumber()
	if err = decoder.Decode(&value); err != nil {
		return nil, errorf("JSON: must be an object: %w", err)
	}
	object = nil // the interpreter leaves it as it was if the assertion fails
	if object, _ = value.(map[string]any); object == nil {
		return nil, errorf("JSON: must be an object: got %.4s", quoteJSON(value)) // no more: it may hold tokens
	}
	if !isJSON(data) {
		return nil, newError("JSON: must end after the object")
	}
	again, _ := toJSON(value) // cannot fail; if it did, the comparison would
	written := unescaped.Replace(string(data))
	// Every member has a colon, and all other colons are in strings. So both texts have the same number of colons, unless a member was dropped
	// because another one has its name. Reading token by token would cost the interpreter five times as much.
	if count(written, ":") != countBytes(again, colon) || count(written, "\ufffd") < countBytes(again, replacement) {
		if err = checkDroppedMembers(written, string(again)); err != nil {
			return nil, err
		}
	}
	return object, nil
}

// colon and replacement are what parseObject counts.
var colon, replacement = []byte(":"), []byte("\ufffd")

// jsonTextError says what is wrong with JSON that is not UTF-8, too long or too deep.
func jsonTextError(data []byte) error {
	if len(data) > maxJSONSize {
		return errorf("JSON: must have at most %d bytes, got %d", maxJSONSize, len(data))
	}
	if !isUTF8(data) { // the library would replace it by U+FFFD, and two names could become one
		return newError("JSON: must be UTF-8")
	}
	return errorf("JSON: must be complete, and at most %d levels deep", maxLevels)
}

// checkDroppedMembers refuses an object if decoding may have lost something decisive: a member, or part of what tells two users apart.
func checkDroppedMembers(written, again string) error {
	if containsText(again, "\ufffd") { // half a surrogate pair is decoded as this, so two users could get the same sub
		return newError("JSON: must be Unicode, got half a surrogate pair")
	}
	again = unescaped.Replace(again)
	isRepeated := escapedNameCharacter.MatchString(written)
	for _, name := range decisiveNames {
		isRepeated = isRepeated || count(written, `"`+name+`"`) != count(again, `"`+name+`"`)
	}
	if isRepeated {
		return newError("JSON: must not have a name twice in one object")
	}
	return nil
}

// isShallow reports whether a JSON text is nested at most maxLevels deep; one that might be deeper must also be complete. The library has a
// deeper limit of its own, so it gets the text inside as many arrays as make up the difference.
func isShallow(written string) bool {
	outside := libraryDepth - maxLevels
	return count(written, "{")+count(written, "[") <= maxLevels || json.Valid([]byte(strings.Repeat("[", outside)+written+strings.Repeat("]", outside)))
}

// checkIDToken checks the claims of an ID token at sign-in: sent is what was requested, accessToken came with the token. The steps are those
// of OIDC Core 3.1.3.7; verifyToken has done step 6, the signature, and step 7, the algorithm.
func checkIDToken(r *tokenRules, t *token, sent *pendingLogin, accessToken string, now time.Time) error {
	var authTime error
	if sent.MaxAge != nil { // the user must have authenticated at most that many seconds ago
		authTime = checkNotFuture(r, t, "auth_time", true, int64(*sent.MaxAge)+r.skew, now)
	}
	return firstError(
		checkUser(r, t, accessToken, now),
		// Step 11: a token that was stolen or issued elsewhere is useless here. We always send a nonce, so neither side may be empty. The
		// error shows nothing of it, as the sign-in may still be in progress.
		failIf(sent.Nonce == "" || stringOf(t.claims["nonce"]) != sent.Nonce, "nonce", "not the one sent with this sign-in"),
		// Step 12: the provider may treat acr_values as a mere wish (3.1.2.1).
		checkACR(sent.ACRValues, t.claims),
		authTime) // step 13
}

// checkACR demands that the user authenticated at one of the accepted levels. If there are none, any level will do.
func checkACR(accepted []string, claims map[string]any) error {
	return failIf(len(accepted) > 0 && !contains(accepted, stringOf(claims["acr"])), "acr", "expected %s, got %s", accepted, claims["acr"])
}

// checkAuthTime demands that the user authenticated at most maxAge seconds before the sign-in. Later is fine, too: after a refresh, auth_time
// may be later.
func checkAuthTime(r *tokenRules, maxAge *int, claims map[string]any, signIn int64) error {
	if maxAge == nil {
		return nil
	}
	at, err := numericDate(claims, "auth_time")
	return failIf(err != nil || at < signIn-int64(*maxAge)-r.skew, "auth_time", "expected at most %s s before the sign-in, got %s", *maxAge, claims["auth_time"])
}

// checkRefreshedIDToken checks an ID token from a refresh (OIDC Core 12.2). first are the claims of the token that it replaces, accessToken is
// the access token that came with it.
func checkRefreshedIDToken(r *tokenRules, t *token, first map[string]any, accessToken string, now time.Time) error {
	audience, before := audienceOf(t), audienceOf(&token{claims: first})
	differs := len(audience) != len(before)
	for _, name := range before {
		differs = differs || !contains(audience, name)
	}
	err := firstError(checkUser(r, t, accessToken, now), // iat is "the time that the new ID token is issued"
		failIf(differs && !contains(r.trustedAudiences, anyAudience), "audience", "not what it was before the refresh"))
	for _, name := range strings.Fields("iss sub azp nonce") { // with another sub, somebody else would take over this session
		value, before := t.claims[name], first[name]
		isCompared := name != "nonce" || value != nil && before != nil
		err = firstError(err, failIf(isCompared && fmt.Sprint(value) != fmt.Sprint(before), name, "not what it was before the refresh"))
	}
	return err
}

// checkUser checks what all ID tokens have in common: they say who the user is.
func checkUser(r *tokenRules, t *token, accessToken string, now time.Time) error {
	sum := digest(hashes[t.alg[2:]], accessToken)
	differs := stringOf(t.claims["at_hash"]) != base64url.EncodeToString(sum[:len(sum)/2])
	return firstError(
		checkType(t, "jwt"), // RFC 8725 3.11: not a token of another kind
		failIf(t.claims["events"] != nil, "events", "must not be in this kind of token"), // nor a logout token that lacks its typ
		checkProvenance(r, t, maxLoginAge, now),
		// OIDC Core 3.1.3.6: the hash is that of the ID token's alg; for EdDSA it is the one inside Ed25519, SHA-512.
		failIf(t.claims["at_hash"] != nil && differs, "at_hash", "not the hash of the access token that came with it"),
		checkName(t.claims, "sub", maxName, true))
}

// checkLogoutToken checks a logout token (Back-Channel Logout 1.0, 2.6). The caller must check whether its jti was seen before.
func checkLogoutToken(r *tokenRules, t *token, requireSid bool, now time.Time) error {
	events, _ := t.claims["events"].(map[string]any)
	_, isLogout := events[logoutEvent].(map[string]any)
	return firstError(
		checkType(t, "jwt", "logout+jwt"),
		checkProvenance(r, t, unlimitedAge, now),   // step 4
		checkName(t.claims, "sub", maxName, false), // step 5: the session that ends, or its user
		checkName(t.claims, "sid", maxName, requireSid || stringOf(t.claims["sub"]) == ""),
		failIf(!isLogout, "events", "expected {%s: {}}, got %s", logoutEvent, t.claims["events"]), // step 6
		failIf(hasKey(t.claims, "nonce"), "nonce", "must not be in this kind of token"),           // step 7: an ID token must not sign anybody out
		checkName(t.claims, "jti", maxName, true))                                                 // 2.4
}

// checkAccessToken checks a JWT that an API received as a bearer token (RFC 9068 4, RFC 7519 7.2). Issuer and audience are checked as far as r
// has them. The type at+jwt is not required, since most providers do not set it.
func checkAccessToken(r *tokenRules, t *token, now time.Time) (err error) {
	if (r.client != "" || t.claims["nonce"] != nil || t.claims["at_hash"] != nil) && isIDToken(r, t) {
		return newError("typ: expected an access token, got an ID token; see jwt.acceptIdTokens")
	}
	err = checkKind(r, t.claims) // one after the other: in the interpreter, a list of them costs more
	if err == nil {
		err = checkType(t, "jwt", "at+jwt")
	}
	if err == nil {
		err = checkIssuer(r, t)
	}
	if err == nil {
		err = checkAudience(r, t)
	}
	if err == nil {
		err = checkExpiry(r, t, now)
	}
	if err == nil {
		err = checkNotFuture(r, t, "iat", false, unlimitedAge, now)
	}
	if err == nil && t.claims["nbf"] != nil { // few tokens have it, and in the interpreter the call costs more than this condition
		err = checkNotFuture(r, t, "nbf", false, unlimitedAge, now)
	}
	return err
}

// isIDToken tells an ID token from an access token if neither says what it is. Only an ID token has the hash of an access token or a code
// (OIDC Core 3.3.2.11). A token for the sign-in's client alone is an ID token, and so is one with a nonce (ID tokens from a refresh have
// none), unless it has a claim that only access tokens have: Azure AD B2C and older versions of Keycloak put a nonce into those as well.
func isIDToken(r *tokenRules, t *token) bool {
	if r.acceptsIDTokens || t.claims["at_hash"] != nil || t.claims["c_hash"] != nil {
		return !r.acceptsIDTokens
	}
	audience := audienceOf(t)
	isForSignIn := r.client != "" && len(audience) == 1 && audience[0] == r.client && t.claims["iat"] != nil // ID tokens must have iat
	if t.claims["nonce"] == nil && !isForSignIn {
		return false
	}
	for _, name := range strings.Fields("scope scp cid appid azpacr") { // RFC 9068 2.2.3, then Okta and Entra ID
		if t.claims[name] != nil {
			return false
		}
	}
	isForClient := t.claims["client_id"] != nil && t.claims["azp"] == nil // ZITADEL, whose ID tokens have both
	said := t.typ + " " + kindOf(t.claims)
	return !isForClient && !accessKind.MatchString(said) && !otherKind.MatchString(said)
}

// kindOf is what the claims say about the kind of their token: in typ (Keycloak), token_use (Cognito, Hydra), purpose (Curity), tokenType
// (Casdoor), drn (Descope), or token_type or type (Pocket ID and others).
func kindOf(claims map[string]any) string {
	stated := ""
	for _, name := range saysKind[4:] {
		stated += " " + stringOf(claims[name])
	}
	return stated
}

var (
	saysKind   = strings.Fields("cnf events ati granted_scopes typ token_use token_type purpose type tokenType tokenUse drn")
	accessKind = regexp.MustCompile(`(?i)(^|[ /])(at\+jwt|bearer|(oauth-)?access([_-]?token)?)( |$)`)
	idKind     = regexp.MustCompile(`(?i) (id|id[_-]?token|identity)( |$)`)
	otherKind  = regexp.MustCompile(`(?i) ((refresh|logout|authorization|device)[_-]?(token|code)|refresh|logout|authorization|dsr|offline|serialized-id|(initial|registration)accesstoken|` +
		`dpop|mac|pop|n_a|(verify|update|reset|password|email)[a-z_-]*|execute-actions|idp-verify[a-z-]*)( |$)`)
)

// checkKind refuses a token whose claims say that it is not an access token, but an ID token (RFC 8725 3.12), a refresh token or a logout
// token. It also refuses a token that is bound to its holder's key (RFC 8705, RFC 9449): we do not check the proof of possession, so anybody
// who stole such a token could use it.
func checkKind(r *tokenRules, claims map[string]any) error {
	for _, name := range saysKind { // most tokens have none of them, and in the interpreter the rest costs more than this condition
		if claims[name] != nil {
			return checkStatedKind(r, claims)
		}
	}
	return nil
}

func checkStatedKind(r *tokenRules, claims map[string]any) error {
	stated := kindOf(claims)
	other := otherKind.FindString(stated)
	if other == "" && !r.acceptsIDTokens {
		other = idKind.FindString(stated)
	}
	if other != "" {
		return errorf("typ: expected an access token, got %q", strings.TrimSpace(other))
	}
	if claims["events"] != nil {
		return newError("typ: expected an access token, got a logout token")
	}
	if claims["ati"] != nil || claims["granted_scopes"] != nil { // Spring's name the access token that they are for, UAA's the scopes it may get
		return newError("typ: expected an access token, got a refresh token")
	}
	return failIf(claims["cnf"] != nil, "cnf", "bound to the key of its sender, which cannot be asked for here, got %s; let the provider issue Bearer tokens without mutual TLS or DPoP to this client", claims["cnf"])
}

// checkType compares typ, ignoring case and a leading application/ (RFC 8725 3.11, RFC 7515 4.1.9). A token without typ may be of any kind;
// its claims tell which.
func checkType(t *token, accepted ...string) error {
	if t.typ == "" || contains(accepted, trimPrefix(toLower(t.typ), "application/")) {
		return nil
	}
	return errorf("typ: expected %q, got %q", accepted, t.typ)
}

// checkProvenance checks what ID and logout tokens have in common: who issued it, for whom, and when (OIDC Core 3.1.3.7).
func checkProvenance(r *tokenRules, t *token, maxAge int64, now time.Time) error {
	return firstError(
		checkIssuer(r, t),      // step 2
		checkClient(r, t),      // steps 3 to 5 and 8
		checkExpiry(r, t, now), // step 9
		checkNotFuture(r, t, "nbf", false, unlimitedAge, now), // RFC 7519 4.1.5
		checkNotFuture(r, t, "iat", true, maxAge, now))        // step 10
}

// checkClient demands that aud names this client, and otherwise only trusted ones. azp, if it is there, must be this client, and it must be
// there if aud has several values.
func checkClient(r *tokenRules, t *token) error {
	audience, aud, azp := audienceOf(t), t.claims["aud"], t.claims["azp"]
	isForeign := false
	for _, name := range audience {
		isForeign = isForeign || !contains(r.audience, name) && !contains(r.trustedAudiences, name) && !contains(r.trustedAudiences, anyAudience)
	}
	return firstError(
		failIf(len(r.audience) == 0, "audience", "no client to expect"), // fails closed
		checkAudience(r, t),
		failIf(isForeign, "audience", "expected only %s, got %s; name the others in trustedAudiences, or \"*\" if azp is clientId", r.audience, aud),
		// Step 8: everybody who can verify a token that is signed with a shared secret could have made it.
		failIf(len(audience) > 1 && algorithms[t.alg] == "oct", "audience", "expected one value with "+t.alg+", got %s", aud),
		failIf((len(audience) > 1 || azp != nil) && !contains(r.audience, stringOf(azp)), "azp", "expected %s, got %s", r.audience, azp))
}

// checkIssuer compares byte for byte (OIDC Core 3.1.3.7, step 2: "exactly match"): neither a trailing slash nor letter case is ignored. An
// empty list, for an issuer that is not known yet, accepts nothing; only nil switches the check off.
func checkIssuer(r *tokenRules, t *token) error {
	accepted := issuersOf(r)
	if iss, _ := t.claims["iss"].(string); iss != "" && contains(accepted, iss) || accepted == nil {
		return nil
	}
	return failIf(true, "issuer", "expected %s, got %s", accepted, t.claims["iss"])
}

// issuersOf returns the accepted iss values. The spelling in the provider's metadata replaces the configured one.
func issuersOf(r *tokenRules) []string {
	if r.providerIssuer != nil {
		if own, isKnown := r.providerIssuer.Load().(string); isKnown {
			return append([]string{own}, r.issuers[1:]...)
		}
	}
	return r.issuers
}

// audienceOf reads aud: a string, or an array of strings (RFC 7519 4.1.3). Anything else is empty, and so names nobody.
func audienceOf(t *token) []string {
	items, ok := t.claims["aud"].([]any)
	if !ok {
		items = []any{t.claims["aud"]}
	}
	audience := stringsOf(items)
	if len(audience) != len(items) {
		return nil
	}
	return audience
}

// checkAudience demands one of r.audience in aud.
func checkAudience(r *tokenRules, t *token) error {
	if aud, _ := t.claims["aud"].(string); aud != "" && contains(r.audience, aud) {
		return nil
	}
	return checkAudienceSlow(r, t)
}

func checkAudienceSlow(r *tokenRules, t *token) error {
	for _, name := range audienceOf(t) {
		if name != "" && contains(r.audience, name) {
			return nil
		}
	}
	if t.claims["aud"] == nil && r.client != "" && contains(r.audience, r.client) && stringOf(t.claims["client_id"]) == r.client {
		return nil // Cognito's access tokens have no aud, only client_id: the sign-in's client
	}
	return failIf(len(r.audience) > 0, "audience", "expected %s, got %s", r.audience, t.claims["aud"])
}

// numericDate reads a NumericDate (RFC 7519 2): seconds since 1970, perhaps with a fraction, which is cut off. A missing date is 0, which some
// providers also write ("nbf": 0), and so is null, as java-jwt writes one.
func numericDate(claims map[string]any, name string) (date int64, err error) {
	number, _ := claims[name].(json.Number)
	if date, _ = number.Int64(); date > 0 && date <= maxNumericDate { // out of range, it is the largest or the smallest number
		return date, nil
	}
	return numericDateSlow(claims[name], name)
}

// numericDateSlow is numericDate for all but a positive integer. The range is checked before the conversion, or 1e300 would become a date long
// ago.
func numericDateSlow(value any, name string) (int64, error) {
	number, _ := value.(json.Number)
	seconds, err := number.Float64() // exact up to maxNumericDate
	if err == nil && seconds >= 0 && seconds <= maxNumericDate {
		return int64(seconds), nil
	}
	return 0, failIf(value != nil, name, "must be a date in seconds since 1970, got %s", value)
}

// checkExpiry demands an exp that has not passed (RFC 7519 4.1.4). RFC 7519 does not require exp, but without it a stolen token would be valid
// for ever.
func checkExpiry(r *tokenRules, t *token, now time.Time) error {
	exp, err := numericDate(t.claims, "exp")
	t.expiry = exp
	late := now.Unix() - exp
	if err != nil || exp > 0 && late < r.skew {
		return err
	}
	return dateError(r, t, "exp", exp, late, r.skew)
}

// checkNotFuture demands that a date is not in the future, and at most maxAge seconds ago. Clocks differ, so the message says by how much, and
// whose may be wrong.
func checkNotFuture(r *tokenRules, t *token, name string, required bool, maxAge int64, now time.Time) error {
	date, err := numericDate(t.claims, name)
	age := now.Unix() - date
	if err != nil || date == 0 && !required {
		return err
	}
	if date == 0 || age < -r.skew || age > maxAge {
		return dateError(r, t, name, date, age, maxAge)
	}
	return nil
}

func dateError(r *tokenRules, t *token, name string, date, age, maxAge int64) error {
	if date == 0 {
		return errorf("%s: required, got %s", name, quoteJSON(t.claims[name]))
	}
	if name == "exp" {
		return errorf("exp: expired %d s ago, %d s are allowed; is this machine's clock right?", age, r.skew)
	}
	if age < -r.skew {
		return errorf("%s: %d s in the future, %d s are allowed; is this machine's clock right?", name, -age, r.skew)
	}
	return errorf("%s: %d s ago, %d s are allowed; is this machine's clock right?", name, age, maxAge)
}

// checkName demands a string of at most size bytes, and, if it is required, not an empty one. A number is refused: 5 and "5" would become the
// same user.
func checkName(object map[string]any, name string, size int, required bool) error {
	value := object[name] // null is as good as missing
	s, ok := value.(string)
	return firstError(
		failIf(value != nil && !ok || len(s) > size, name, "must be a string of at most %s bytes, got %s", size, value),
		failIf(required && s == "", name, "required, got %s", value))
}
