package oidc

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// Small helpers for texts and values of JSON that everybody uses.

func contains(list []string, wanted string) bool {
	for _, s := range list {
		if s == wanted {
			return true
		}
	}
	return false
}

// stringOf is value when it is a string, else "".
func stringOf(value any) string {
	s, _ := value.(string)
	return s
}

// stringsOf are the strings of a JSON array.
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

// forLog makes foreign text fit for a log line: one line, printable, short.
func forLog(foreign string) string {
	if len(foreign) > 200 {
		foreign = foreign[:200] + "…"
	}
	return strings.ToValidUTF8(controlCharacter.ReplaceAllString(foreign, " "), "?")
}

// hasKey tells whether there is a member of that name, also null.
func hasKey(object map[string]any, name string) bool {
	_, found := object[name]
	return found
}

// quoteJSON is a claim as it may stand in a log line: JSON, so on one line, and cut when it is long. What is missing is null.
func quoteJSON(value any) string {
	written, _ := json.Marshal(value)
	return forLog(string(written))
}

// failIf returns an error when a check has failed. Each %s in problem is what was expected, a list of what may be, or
// what came, as JSON.
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

// firstError is the first of several checks that failed. All of them are made, so each must stand by itself.
func firstError(checks ...error) error {
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	return nil
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

var base64url = base64.RawURLEncoding.Strict()
