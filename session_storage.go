package oidc

import (
	"context"
	"net/http"
	"time"
)

// Where sessions are kept: in the browser's cookies (session_cookie.go), or in Redis, with a ticket in the cookie (session_redis.go). Through
// the life of a session, the two differ in these four functions and nowhere else. Each branches: in the interpreter, a call of a method, or
// of a function in a variable, costs two to four times as much as this one.

// openSession returns the session that a cookie stands for, and whether the cookie was sealed with the current secret (see open).
func openSession(ctx context.Context, sm *sessionManager, name, value string) (s *session, isCurrent bool, err error) {
	s = nil
	content, isCurrent, err := open(sm.sealer, name, value)
	if err == nil && sm.store != nil {
		s, err = fetchStored(ctx, sm, content)
		return s, isCurrent, err
	}
	if err == nil {
		s, err = unpackSession(content)
	}
	if err != nil {
		return nil, false, errorf("%w: session cookie: %w", errNoCredentials, err)
	}
	return s, isCurrent, nil
}

// writeSession writes a session that is new, or that another sign-in has replaced, and deletes one that has ended. It returns false if there is
// nothing to write to: a session in a cookie is written with a response (saveSession), and copies of it cannot be deleted.
func writeSession(ctx context.Context, sm *sessionManager, s *session) (bool, error) {
	if sm.store == nil {
		return false, nil
	}
	return true, writeStored(ctx, sm, s)
}

// refreshTokens redeems the refresh token of s, only once among all replicas. fresh is the result of an earlier call, nil if there was none:
// it may not have been written yet. A session that is returned with an error means the same: it is refreshed, but could not be written.
func refreshTokens(ctx context.Context, sm *sessionManager, s, fresh *session, key string, patience time.Duration) (*session, error) {
	if sm.store != nil {
		return redeemWithLease(ctx, sm, s, fresh, key, patience)
	}
	if fresh != nil {
		return fresh, nil
	}
	return redeemRefreshToken(ctx, sm, s)
}

// saveSession gives the browser the cookie of a session that is new, was refreshed, is due for renewal, or was sealed with another secret. It
// returns the session that the browser's old cookie stands for from now on.
func saveSession(sm *sessionManager, rw http.ResponseWriter, req *http.Request, s *session, isDue bool, now time.Time) (*session, error) {
	if sm.store != nil {
		return saveStored(sm, rw, req, s, isDue, now)
	}
	return saveInCookie(sm, rw, req, s, now)
}
