package oidc

import (
	"context"
	"net/url"
	"strings"
	"time"
)

// decision is the result of authorizing a session. It is sealed with the session, so that after a restart the tokens need not be parsed
// again: that would cost the interpreter as much as all the rest of a request. It is valid only for exactly the options that made it.
type decision struct {
	By       string     `json:"b"` // a hash of the options
	Until    int64      `json:"u"` // when the session must be refreshed, renewed or ended, in Unix seconds
	Username string     `json:"n,omitempty"`
	SID      string     `json:"p,omitempty"`
	Subject  string     `json:"s,omitempty"`
	Names    []string   `json:"h,omitempty"` // of the headers for the upstream
	Values   [][]string `json:"v,omitempty"`
}

const maxDecisionSize = 512 // bytes of header values sealed with a session

// acceptDecision lets in a session by the decision that was sealed with it. It returns nil, nil if the decision does not settle it.
func acceptDecision(ctx context.Context, m *middleware, s *session, credential string) (*principal, error) {
	d, now := s.Decision, time.Now()
	until := time.Unix(d.Until, 0)
	if !now.Before(until) || isRevoked(m.sessions.state, s.ID, d.SID, d.Subject, s.Start) {
		return nil, nil
	}
	p := &principal{sessionID: s.ID, sid: d.SID, sub: d.Subject, names: d.Names, values: d.Values}
	if d.Username != "" {
		p.user = url.User(d.Username)
	}
	if m.sessions.tokenPolicy.headers != nil {
		addTokenHeaders(m.sessions.tokenPolicy, p, s)
	}
	p, err := rememberPrincipal(ctx, m.clientCredentials, m.cache, credential, p, earlier(until, now.Add(maxRecheckInterval)))
	if err == nil && isRevoked(m.sessions.state, s.ID, d.SID, d.Subject, s.Start) { // logged out before there was a principal to remove
		removeByName(m.sessions.state, "id", s.ID)
		return nil, nil
	}
	return p, err
}

// splitPolicy splits a policy: tokens has the headers that are made from raw tokens alone, rest everything else.
func splitPolicy(by *policy) (rest, tokens *policy) {
	rest = &policy{rule: by.rule, username: by.username}
	tokens = &policy{}
	for _, h := range by.headers {
		isOfTokens := h.format != nil && len(h.format.keys) > 0
		for i := 0; isOfTokens && i < len(h.format.keys); i++ {
			isOfTokens = h.format.keys[i][0] == "raw"
		}
		part := rest
		if isOfTokens {
			part = tokens
		}
		part.headers = append(part.headers, h)
	}
	return rest, tokens
}

// addTokenHeaders adds the headers that a decision does not hold.
func addTokenHeaders(by *policy, p *principal, s *session) {
	raw := rawTokens(s.parts)
	made, _ := evaluatePolicy(by, identity{"raw": map[string]any{"id_token": raw[0], "access_token": raw[1]}}) // cannot fail: this policy has no rule
	p.names = append(p.names, made.names...)
	p.values = append(p.values, made.values...)
}

// decide makes the decision that is sealed with a session. It is nil if the rule refuses the session, or if the headers are long.
func decide(sm *sessionManager, s *session, now time.Time) *decision {
	p, err := evaluateSession(sm.decisionPolicy, s)
	if err != nil || checkSession(sm, s, now) != nil {
		return nil
	}
	made := &decision{By: sm.hash, Until: partEnd(sm, s, renewFraction), SID: p.sid, Subject: p.sub, Names: p.names, Values: p.values}
	if canRefresh(sm, s) && s.RefreshAt < made.Until {
		made.Until = s.RefreshAt
	}
	if p.user != nil {
		made.Username = p.user.Username()
	}
	size := len(made.Username)
	for _, lines := range p.values {
		size += len(strings.Join(lines, ""))
	}
	if size > maxDecisionSize {
		return nil
	}
	return made
}
