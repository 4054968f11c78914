package oidc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// Small helpers for strings and JSON values.

func contains(list []string, wanted string) bool {
	for _, s := range list {
		if s == wanted {
			return true
		}
	}
	return false
}

// stringOf returns value if it is a string, otherwise "".
func stringOf(value any) string {
	s, _ := value.(string)
	return s
}

// stringsOf returns the strings in a JSON array.
func stringsOf(value any) []string {
	items, _ := value.([]any)
	var found []string
	for _, item := range items {
		if s, ok := item.(string); ok {
			found = append(found, s)
		}
	}
	return found
}

// forLog makes untrusted text safe for a log line: one line, printable, short.
func forLog(foreign string) string {
	if len(foreign) > 200 {
		foreign = foreign[:200] + "…"
	}
	return strings.ToValidUTF8(controlCharacter.ReplaceAllString(foreign, " "), "?")
}

// hasKey reports whether an object has a member of that name, even if it is null.
func hasKey(object map[string]any, name string) bool {
	_, found := object[name]
	return found
}

// quoteJSON is a claim as it appears in a log line: as JSON, so on one line, and cut if it is long. A missing claim is null.
func quoteJSON(value any) string {
	written, _ := toJSON(value)
	return forLog(string(written))
}

// failIf returns the error of a check if it failed, otherwise nil. Each %s in problem is replaced by a value as JSON: what was expected, or
// what we got.
func failIf(failed bool, name, problem string, values ...any) error {
	if !failed {
		return nil
	}
	for i, value := range values {
		list, ok := value.([]string)
		if ok && len(list) == 1 {
			value = list[0]
		}
		if values[i] = quoteJSON(value); ok && len(list) != 1 {
			values[i] = fmt.Sprintf("one of %q", list)
		}
	}
	return fmt.Errorf(name+": "+problem, values...)
}

// firstError returns the first error of several checks. All of them are evaluated, so none may rely on an earlier one.
func firstError(checks ...error) error {
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	return nil
}

// decodePart decodes base64url as a JWS must spell it (RFC 7515 2): no padding, no line breaks, no stray bits at the end. Otherwise one token
// could be written in several ways.
func decodePart(name, part string) (data []byte, err error) {
	data, err = base64url.DecodeString(part)
	if err != nil || containsAny(part, "\r\n") { // the library skips these even in strict mode
		return nil, errorf("%s: must be base64url without padding and line breaks", name)
	}
	return data, nil
}

var base64url = base64.RawURLEncoding.Strict()

// Functions of the library that are called, or might be, for each token or session that was not seen before. A package variable spares the
// interpreter a selector: it allocates one on each call of a function, also for a branch that is not taken.
var (
	errorf, newError               = fmt.Errorf, errors.New
	count, countBytes, containsAny = strings.Count, bytes.Count, strings.ContainsAny
	splitN, joinTexts, hasPrefix   = strings.SplitN, strings.Join, strings.HasPrefix
	isUTF8, newReader              = utf8.Valid, bytes.NewReader
	newDecoder, isJSON, toJSON     = json.NewDecoder, json.Valid, json.Marshal
	containsText, newUser          = strings.Contains, url.User
	equalFold, fieldsOf, timeNow   = strings.EqualFold, strings.Fields, time.Now
	trimPrefix, toLower, fromUnix  = strings.TrimPrefix, strings.ToLower, time.Unix
)
