package oidc

import (
	"context"
	"strings"
)

// Here the options become ready values, one part after the other. Each constructor takes the parts it needs and returns what it makes.

// middleware is everything made from one configuration. All routers with that configuration share it, and it never changes: what changes
// is in the caches and states that it points to.
type middleware struct {
	name, shortName string   // login@file, login
	files, parts    []string // as in problems
	log             *logger
	config          *Config

	site              *site
	headers           *headerNames
	policy            *policy         // for sessions
	bypass            rule            // nil: none
	csrf              *csrf           // nil: off
	sessions          *sessionManager // nil without sign-in
	logins            *pendingLogins  // nil without sign-in
	tokens            *bearerTokens
	clientCredentials *clientCredentials // nil without that block
	cache             *principalCache
	store             *store      // of the sessions; nil: they are in cookies
	ipStrategy        *ipStrategy // finds a caller's IP address
	pages             *pages
}

// newMiddleware reads the options and makes everything that needs no request. It reports all problems in one error.
func newMiddleware(ctx context.Context, options []byte, name string) (*middleware, error) {
	p := &problems{ctx: ctx}
	c := readConfig(options, p)
	m := &middleware{name: name, log: newLogger(name, c.LogLevel), config: c}
	m.shortName, _, _ = strings.Cut(name, "@")
	if c.ChallengeRealm == "" {
		c.ChallengeRealm = m.shortName
	}
	var err error
	m.bypass, err = parseBypass(c.Bypass)
	p.addError("bypass", err)
	m.ipStrategy = setStrategy(m.bypass, &c.IPStrategy, p)
	m.policy = newPolicy(&c.PolicyConfig, "", p)
	m.pages = newPages(c.ErrorPages, p)
	m.site = newSite(c, p)
	var login *client
	if c.Issuer != "" {
		m.sessions = newSessionManager(m.log, c, m.site, m.policy, m.shortName, p)
		m.logins = newPendingLogins(m.sessions, m.shortName)
		m.csrf = m.sessions.csrf
		m.store = m.sessions.store
		login = m.sessions.client
	}
	m.tokens = newBearerTokens(m.log, c, login, p)
	if c.OAuthClientCredentials != nil {
		m.clientCredentials = newClientCredentials(m.log, c, p)
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	addResourceEndpoints(m.site, m.tokens)
	m.headers = newHeaderNames(m)
	m.files = p.files
	m.parts = p.parts
	m.cache = newPrincipalCache(m)
	logWarnings(m.log, p.set)
	return m, nil
}

// logWarnings logs what is allowed, but what the operator should know.
func logWarnings(l *logger, set map[string]string) {
	for i, kind := range []string{"notice", "warning"} {
		found := &problems{}
		checkRules(kind, &option{p: found}, "", set)
		for _, line := range found.list {
			logf(l, levelInfo+i, "%s", line)
		}
	}
}
