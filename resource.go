package oidc

import (
	"net/http"
	"regexp"
	"strings"
)

// Protected resource metadata (RFC 9728): an API tells clients where to get tokens for it.

// addResourceEndpoints adds the addresses of the metadata documents to our own addresses.
func addResourceEndpoints(st *site, bt *bearerTokens) {
	for _, v := range bt.all {
		if v.metadataPath != "" {
			st.endpoints[v.metadataPath] = &endpoint{name: "resource", methods: strings.Fields("GET HEAD OPTIONS")}
		}
	}
}

// describeResource tells clients that configure themselves where to get a token for this API (RFC 9728 3.2). Everything comes from the
// options: a forged Host must not lead anybody to another authorization server. Scripts of any site may read it, because browsers are among
// those clients.
func describeResource(bt *bearerTokens, rw http.ResponseWriter, req *http.Request) {
	header := rw.Header()
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Access-Control-Allow-Headers", "*")
	header.Set("Cache-Control", "public, max-age=3600")
	header.Set("Content-Type", "application/json")
	for _, job := range bt.all {
		if job.metadataPath != req.URL.Path || req.Method == http.MethodOptions {
			continue
		}
		document := map[string]any{"resource": job.resource}
		if methods := bearerMethods(job); methods != nil {
			document["bearer_methods_supported"] = methods
		}
		if issuers := issuersOf(job.rules); len(issuers) > 0 {
			document["authorization_servers"] = issuers[:1]
		}
		if scopes := addScopes(nil, job.policy.rule); scopes != nil {
			document["scopes_supported"] = scopes
		}
		body, _ := toJSON(document) // only strings: cannot fail
		_, _ = rw.Write(body)
		return
	}
	rw.WriteHeader(http.StatusNoContent)
}

// bearerMethods returns the methods of RFC 6750 2 that a verifier accepts. Other places have no name there.
func bearerMethods(job *tokenVerifier) []string {
	var methods []string
	if equalFold(job.schemes["Authorization"], "Bearer") || job.schemes["Authorization"] == anyScheme {
		methods = append(methods, "header")
	}
	if job.tokenKey == "access_token" {
		methods = append(methods, "body")
	}
	if job.tokenKey == "access_token" || job.source.Query == "access_token" {
		methods = append(methods, "query")
	}
	return methods
}

// addScopes adds the scopes that a rule demands of the claims scope and scp (RFC 6749 3.3, RFC 9068 2.2.3). It adds all alternatives, because
// we cannot know which of them a client may get.
func addScopes(scopes []string, r rule) []string {
	for _, c := range r {
		if c.isNegated || c.isFolded || !contains(strings.Fields(".scope .scp access_token.scope access_token.scp"), joinTexts(c.key, ".")) ||
			!containsText("AllOf Contains Equals OneOf SplitContains", c.name) {
			continue
		}
		values := c.args[1:]
		if c.name == "SplitContains" {
			values = c.args[2:]
		}
		for _, scope := range strings.Fields(joinTexts(values, " ")) {
			if scopeToken.MatchString(scope) && !contains(scopes, scope) {
				scopes = append(scopes, scope)
			}
		}
	}
	return scopes
}

// scopeToken matches a valid scope (RFC 6749 3.3).
var scopeToken = regexp.MustCompile(`^[!#-\[\]-~]+$`)
