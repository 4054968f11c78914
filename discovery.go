package oidc

import (
	"context"
	"errors"
	"math/rand"
	"net/url"
	"strings"
	"time"
)

// The provider's metadata (OpenID Connect Discovery 1.0, RFC 8414) and keys: fetched by the request that needs them, checked, and overridden
// by configured endpoints.

// cachedDocument is a document that a provider publishes: its metadata, or its keys. The request that needs it fetches it.
type cachedDocument struct {
	log   *logger
	fetch func(ctx context.Context) (any, error) // limits its own time; nil: the document never changes
	cache boundedCache                           // without capacity, so it keeps only the last entry
}

// refetchDocument refetches a document, so that t can be verified. If it cannot, it returns the last valid one, and how the last fetch failed.
// Tokens with made-up key IDs must not make us hammer the provider, so fetches are limited: fetchBurst at once, then one every fetchInterval.
// Those that bring the key of t do not count: however often a provider changes its keys, tokens of its new ones are accepted at once. Nor do
// failures: the back-off has its own growing pauses.
func refetchDocument(ctx context.Context, d *cachedDocument, version int, t *token) (*fetched, error) {
	return refetch(ctx, &d.cache, "", version, func(ctx context.Context, made *fetched) error {
		now := time.Now()
		value, err := d.fetch(ctx)
		if err != nil {
			if !errors.Is(err, errUnavailable) {
				err = errorf("%w: %w", errUnavailable, err)
			}
			logf(d.log, levelError, "%s", err)
			backOff(&made.backoff, err, time.Now())
			return err
		}
		made.value = value
		made.until = now.Add(documentLifetime - time.Duration(rand.Int63n(int64(documentJitter)))) // so that replicas do not fetch all at once
		made.end = now.Add(documentEnd)
		least := now.Add(-(fetchBurst - 1) * fetchInterval)
		if made.backoff.failures > 0 || made.backoff.until.Before(least) {
			made.backoff.until = least
		}
		if _, err = verifyWithKeys(value, t); err != nil {
			made.backoff.until = made.backoff.until.Add(fetchInterval)
		}
		return nil
	})
}

// metadata is what we use of the provider's metadata (OpenID Connect Discovery 1.0, 3; RFC 8414 2, RFC 9126 5, RFC 9207 3). It is never changed.
type metadata struct {
	issuer                string
	endpoints             map[string]string // by the names of the specifications; configured ones override the provider's
	signingAlgs           []string          // of ID tokens
	authMethods           []string          // of the token endpoint
	challengeMethods      any               // for PKCE; nil: not listed, which is different from an empty list
	requiresPAR           bool
	namesIssuerInResponse bool // RFC 9207
}

// discover returns the provider's metadata. If the provider is unavailable, it returns the last valid ones. If there are none, they are empty,
// and the error wraps errUnavailable.
func discover(ctx context.Context, c *client) (*metadata, error) {
	known, isOld := cached(&c.metadata.cache, "")
	var err error
	if isOld {
		known, err = refetchDocument(ctx, c.metadata, known.version, &token{})
	}
	if m, ok := known.value.(*metadata); ok {
		return m, nil
	}
	return &metadata{}, err
}

// fetchMetadata fetches and checks the discovery document, and reads what we use of it.
func fetchMetadata(ctx context.Context, c *client) (any, error) {
	found := map[string]any{"issuer": c.issuer}
	var err error
	if c.discoveryURL != "" {
		found, err = getObject(ctx, c, "discovery", c.discoveryURL)
		if err == nil {
			err = checkMetadataIssuer(c, stringOf(found["issuer"]))
		} else if text := err.Error(); !strings.Contains(text, ": 5") && !strings.Contains(text, "; ") { // if something answers 5xx, the address is right
			err = errorf("%w; is the issuer right?", err)
		}
	}
	if err != nil {
		return nil, err
	}
	endpoints, err := checkEndpoints(c, found)
	return &metadata{
		issuer:                stringOf(found["issuer"]),
		endpoints:             endpoints,
		signingAlgs:           stringsOf(found["id_token_signing_alg_values_supported"]),
		authMethods:           stringsOf(found["token_endpoint_auth_methods_supported"]),
		challengeMethods:      found["code_challenge_methods_supported"],
		requiresPAR:           found["require_pushed_authorization_requests"] == true,
		namesIssuerInResponse: found["authorization_response_iss_parameter_supported"] == true,
	}, err
}

// checkMetadataIssuer refuses the metadata of another issuer, whose keys we do not trust (OpenID Connect Discovery 4.3), and records how the
// provider spells its issuer. A trailing slash more or less is tolerated: whoever can answer with one can also answer without, so the check
// would protect nobody. From then on the provider's spelling counts.
func checkMetadataIssuer(c *client, issuer string) error {
	isOther := !acceptsIssuer(c, issuer)
	if isOther {
		if strings.TrimSuffix(issuer, "/") != strings.TrimSuffix(c.issuer, "/") {
			return errorf("%w: discovery: issuer: expected %q, got %q; set issuer to exactly what the provider calls itself", errMisconfigured, c.issuer, forLog(issuer))
		}
		warnOnce(c, "discovery: issuer: the provider calls itself %q, which counts from now on; write it so, instead of %q", issuer, c.issuer)
	}
	if isOther || c.rules.providerIssuer.Load() != nil {
		c.rules.providerIssuer.Store(issuer)
	}
	return nil
}

// checkEndpoints returns the configured endpoints, and those of the provider that can be used. A client with a certificate gets the provider's
// mTLS aliases, except where browsers go (RFC 8705 5). It fails if an endpoint is missing without which sign-in cannot work.
func checkEndpoints(c *client, found map[string]any) (map[string]string, error) {
	endpoints := map[string]string{}
	o := &c.endpoints
	aliases, _ := found["mtls_endpoint_aliases"].(map[string]any)
	for _, e := range []struct {
		name, configured     string
		isRequired, hasAlias bool
	}{
		{"authorization_endpoint", o.Authorization, true, false},
		{"token_endpoint", o.Token, true, true},
		{"jwks_uri", o.JWKS, c.keys.fetch != nil, false},
		{"userinfo_endpoint", o.Userinfo, false, true},
		{"introspection_endpoint", o.Introspection, false, true},
		{"revocation_endpoint", o.Revocation, false, true},
		{"end_session_endpoint", o.EndSession, false, false},
		{"pushed_authorization_request_endpoint", "", false, true},
	} {
		given := found[e.name]
		if alias := stringOf(aliases[e.name]); alias != "" && e.hasAlias && c.mutualTLS {
			given = alias
		}
		if e.configured != "" {
			endpoints[e.name] = e.configured
		} else if isEndpoint(c, stringOf(given)) {
			endpoints[e.name] = stringOf(given)
		} else if e.isRequired && c.hasLogin {
			return nil, errorf("%w: discovery: %s: must be an absolute https URL, got %s; is this provider for sign-in? else set it in endpoints", errMisconfigured, e.name, quoteJSON(given))
		} else if given != nil {
			warnOnce(c, "discovery: %s is left out, as it must be an absolute https URL: got %s; see endpoints", e.name, quoteJSON(given))
		}
	}
	return endpoints, nil
}

// isEndpoint reports whether an address in the metadata can be used. It must be a plain absolute URL, with https unless the operator
// configured the issuer or the metadata's address without it.
func isEndpoint(c *client, address string) bool {
	u, err := url.Parse(address)
	isPlain := strings.HasPrefix(strings.ToLower(c.discoveryURL), "http:") || !strings.HasPrefix(strings.ToLower(c.issuer), "https:")
	return err == nil && u.Host != "" && u.User == nil && !strings.Contains(address, "#") && (u.Scheme == "https" || u.Scheme == "http" && isPlain)
}

// discoveryURL is the address of the provider's metadata (OpenID Connect Discovery 4.1: the issuer without a trailing slash, and the well-known
// path), or "" if every endpoint that sign-in needs is configured.
func discoveryURL(c *Config) string {
	e := &c.Endpoints
	at := e.Discovery
	if at == "" && c.Issuer != "" && (e.Authorization == "" || e.Token == "" || e.JWKS == "") {
		at = strings.TrimSuffix(c.Issuer, "/") + "/.well-known/openid-configuration"
	}
	if at == "" || len(c.DiscoveryParams) == 0 {
		return at
	}
	form := url.Values{}
	for name, value := range c.DiscoveryParams {
		form.Set(name, value)
	}
	return withQuery(at, form)
}

// issuerOf is the provider's issuer.
func issuerOf(c *client) string {
	if names := issuersOf(c.rules); len(names) > 0 {
		return names[0]
	}
	return c.issuer
}

// isIssuer reports whether a name is the provider's issuer, byte for byte, as its metadata spell it.
func isIssuer(ctx context.Context, c *client, name string) bool {
	_, _ = discover(ctx, c) // if this fails, the configured spelling counts
	return name == issuerOf(c)
}

// acceptsIssuer reports whether tokens and metadata may have this issuer.
func acceptsIssuer(c *client, issuer string) bool {
	return c.rules.issuers == nil || contains(c.rules.issuers, issuer)
}

// signingAlgorithm is the algorithm that ID and logout tokens must have: the configured one, otherwise RS256 if the provider lists it,
// otherwise one that it lists. It is never taken from the token (OIDC Core 3.1.3.7).
func signingAlgorithm(c *client, listed []string) string {
	if c.pinnedAlg != "" {
		return normalizedAlg(c.pinnedAlg)
	}
	for _, alg := range listed {
		if kind := algorithms[alg]; kind != "" && kind != "oct" && !contains(listed, "RS256") {
			return normalizedAlg(alg)
		}
	}
	return "RS256"
}

// fetchKeys fetches the provider's key set.
func fetchKeys(ctx context.Context, c *client) (any, error) {
	set, err := getObject(ctx, c, "key set", "jwks_uri")
	if err != nil {
		return nil, err
	}
	keys, err := readKeySet(set)
	if err != nil {
		m, _ := discover(ctx, c) // with the keys' address
		err = errorf("%w, at %s", err, forLog(m.endpoints["jwks_uri"]))
	}
	return keys, err
}
