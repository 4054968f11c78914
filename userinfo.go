package oidc

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// UserInfo (OIDC Core 5.3): further claims about a user, as JSON or as a signed JWT.

// fetchUserinfo requests the UserInfo of accessToken's user (OIDC Core 5.3).
func fetchUserinfo(ctx context.Context, c *client, accessToken, subject string) (map[string]any, error) {
	status, body, at, err := request(ctx, c, "userinfo", "userinfo_endpoint", nil, map[string]string{"Authorization": "Bearer " + accessToken}, c.retries)
	if err != nil {
		return nil, err
	}
	var info map[string]any
	if raw := strings.TrimSpace(string(body)); status/100 == 2 && count(raw, ".") == 2 && !hasPrefix(raw, "{") {
		info, err = readSignedUserinfo(ctx, c, raw)
	} else if isOneOf("400 401 403 404 405 406", fmt.Sprint(status)) { // although the provider has just issued this token
		err = errorf("%w: %s: %d %s; mind scopes and endpoints.userinfo", errMisconfigured, at, status, http.StatusText(status))
	} else {
		info, err = readObject(c, "userinfo", at, status, body)
	}
	if err != nil {
		return nil, err
	}
	// OIDC Core 5.3.2: without this comparison, somebody else's claims could be substituted.
	if stringOf(info["sub"]) != subject {
		return nil, errorf("userinfo: sub: expected the ID token's, %q, got %s", forLog(subject), quoteJSON(info["sub"]))
	}
	return info, nil
}

// readSignedUserinfo reads UserInfo that is a JWT, as this client's registration at the provider may demand (OIDC Core 5.3.2). iss and aud
// should be there, and exp may be.
func readSignedUserinfo(ctx context.Context, c *client, raw string) (map[string]any, error) {
	t, err := verifyIDToken(ctx, c, raw)
	if err == nil && t.claims["iss"] != nil {
		err = checkIssuer(c.rules, t)
	}
	if err == nil && t.claims["aud"] != nil {
		err = checkAudience(c.rules, t)
	}
	if err == nil && t.claims["exp"] != nil {
		err = checkExpiry(c.rules, t, timeNow())
	}
	if err == nil {
		err = failIf(t.claims["events"] != nil, "events", "must not be in this kind of token")
	}
	if err != nil {
		return nil, errorf("userinfo: %w", err)
	}
	return t.claims, nil
}
