package oidc

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// The token endpoint: we send a grant, and get tokens or an error (RFC 6749 5).

// tokenResponse is a successful response of the token endpoint (RFC 6749 5.1).
type tokenResponse struct {
	accessToken, refreshToken, idToken string
	expiresIn                          int64 // seconds; 0 if the provider did not say
}

// requestTokens sends a grant to the token endpoint, with the client's authentication. The error for a definite refusal wraps errRefused,
// errNotAllowed or errBadResponse; an error that may be temporary wraps errUnavailable.
func requestTokens(ctx context.Context, c *client, form url.Values) (*tokenResponse, error) {
	status, body, _, err := request(ctx, c, "token endpoint", "token_endpoint", form, nil, 0)
	if err != nil {
		return nil, err
	}
	return readTokenResponse(c, status, body)
}

// Error codes, by who can do something about them (RFC 6749 4.1.2.1 and 5.2, OIDC Core 3.1.2.6, RFC 8707 2). Any other code refuses this grant
// and says nothing about the next: providers have many such codes, and some write whole sentences.
const (
	temporaryErrors = "temporarily_unavailable server_error slow_down"
	clientErrors    = "invalid_client unauthorized_client"
	requestErrors   = "invalid_scope invalid_target unsupported_grant_type unsupported_response_type request_not_supported request_uri_not_supported"
	userErrors      = "access_denied not_allowed"
)

// isOneOf reports whether words, separated by spaces, include code.
func isOneOf(words, code string) bool { return contains(strings.Fields(words), code) }

// errorOfCode returns the error for a request that was refused with a code; otherwise is the error for all other codes.
func errorOfCode(code string, otherwise error) error {
	if isOneOf(temporaryErrors, code) {
		return errUnavailable
	}
	if isOneOf("invalid_request "+clientErrors+" "+requestErrors, code) {
		return errMisconfigured // we made the request, from the options
	}
	if isOneOf(userErrors, code) || strings.HasSuffix(code, "_required") {
		return errNotAllowed
	}
	return otherwise
}

// tokenError makes an error from an error response of the token endpoint. Some providers send those with status 200.
func tokenError(c *client, status int, code, description string) error {
	outcome := errorOfCode(code, errRefused)
	text := strconv.Itoa(status)
	if status >= 500 || isOneOf("408 429", text) || code == "" && !isOneOf("400 401 403", text) {
		outcome = errUnavailable // also a proxy's page, or an endpoint that moved: that says nothing about the grant
	} else if code == "invalid_request" {
		outcome = errRefused // providers have many reasons for it, such as a code that has expired
	} else if isOneOf(requestErrors, code) || code == "" && status != http.StatusBadRequest {
		outcome = errBadResponse
	}
	said := forLog(code)
	if code == "" {
		said = statusError(status).Error()
	}
	err := errorf("%w: token endpoint: %d %s %q", outcome, status, said, forLog(description))
	if isOneOf(clientErrors, code) || code == "" && status == http.StatusUnauthorized {
		err = errorf("%w; check clientId, clientSecret and clientAuthMethod", err)
		logf(c.log, levelError, "%s", err)
	}
	return err
}

// readTokenResponse reads a response of the token endpoint, or an error response (RFC 6749 5.2).
func readTokenResponse(c *client, status int, body []byte) (*tokenResponse, error) {
	fields, err := parseGrant(body)
	warnDuplicates(c, "token endpoint", body, fields)
	code, kind := stringOf(fields["error"]), stringOf(fields["token_type"])
	if status/100 != 2 || code != "" {
		return nil, tokenError(c, status, code, stringOf(fields["error_description"]))
	}
	t := &tokenResponse{accessToken: stringOf(fields["access_token"]), refreshToken: stringOf(fields["refresh_token"]), idToken: stringOf(fields["id_token"])}
	if err == nil && t.accessToken == "" {
		err = newError("the answer has no access_token")
	}
	// RFC 6749 7.1: a token of an unknown type must not be used. Providers have more names for Bearer than we could list, and some give none.
	if err == nil && proofOfPossession.MatchString(kind) {
		err = errorf("token_type: expected \"Bearer\", got %q", forLog(kind))
	}
	if err != nil {
		return nil, errorf("%w: token endpoint: %s", errUnavailable, err)
	}
	if !visibleASCII.MatchString(t.accessToken) { // no header can carry such a token
		return nil, errorf("%w: token endpoint: access_token: must be printable ASCII without spaces", errBadResponse)
	}
	fields["expires_in"] = json.Number(valueText(fields["expires_in"])) // accept it as a string, too
	if seconds, err := numericDate(fields, "expires_in"); err == nil && seconds < 1<<31 {
		t.expiresIn = seconds
	}
	return t, nil
}

// proofOfPossession matches token types that need a proof of possession, or that are not access tokens at all (RFC 9449 5, RFC 8693 2.2.1).
var proofOfPossession = regexp.MustCompile("(?i)^(dpop|mac|pop|n_a)$")

// visibleASCII matches a bearer token (RFC 6750 2.1, leniently).
var visibleASCII = regexp.MustCompile("^[!-~]+$")

// parseGrant reads the body of a token response: JSON, or a form, as some providers still send.
func parseGrant(body []byte) (map[string]any, error) {
	fields, err := parseObject(body)
	form, formErr := url.ParseQuery(string(body))
	if err == nil || formErr != nil || form.Get("access_token")+form.Get("error") == "" {
		return fields, err
	}
	fields = map[string]any{}
	for name, values := range form {
		if len(values) > 1 && contains(decisiveNames, name) {
			return nil, errorf("form: must not have %s twice", name)
		}
		fields[name] = values[len(values)-1]
	}
	return fields, nil
}
