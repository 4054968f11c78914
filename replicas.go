package oidc

import (
	"context"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// This room keeps sessions in the store, for more than one Traefik. The browser's cookie holds a ticket: the name of the session's
// entry and the key to it. The entry is sealed with that key, which the store never sees: whoever reads Redis reads nothing.

const (
	ticketName = 16 // bytes
	ticketKey  = 32
	leasePause = 50 * time.Millisecond
)

func newTicket() []byte { return randomBytes(ticketName + ticketKey) }

func ticketID(ticket []byte) string {
	return base64.RawURLEncoding.EncodeToString(ticket[:ticketName])
}

// ticketSealer seals one session's entry.
func ticketSealer(g *gate, ticket []byte) *sealer {
	return &sealer{context: g.sessionSealer.context, aeads: []cipher.AEAD{newAEAD(ticket[ticketName:])}}
}

// fetchSession reads the session of a ticket.
func fetchSession(ctx context.Context, g *gate, ticket []byte) (*session, error) {
	if len(ticket) != ticketName+ticketKey {
		return nil, fmt.Errorf("%w: session cookie: not a ticket", errNoCredentials)
	}
	id := ticketID(ticket)
	sealed, found, err := storeGet(ctx, g.store, id)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("%w: the session is not in the store: it has ended or was logged out", errNoCredentials)
	}
	packed, _, err := open(ticketSealer(g, ticket), id, string(sealed))
	if err != nil {
		return nil, fmt.Errorf("%w: stored session: %s", errNoCredentials, err)
	}
	s, err := unpackSession(packed)
	if err != nil {
		return nil, fmt.Errorf("%w: stored session: %s", errNoCredentials, err)
	}
	s.ticket = ticket
	return s, nil
}

// storeSession writes a session to the store; without a ticket it is new and gets one. One that is there no more was logged out
// while we worked on it, and stays so.
func storeSession(ctx context.Context, g *gate, s *session) error {
	isNew := s.ticket == nil
	if isNew {
		s.ticket = newTicket()
	}
	packed, err := packSession(s)
	if err != nil {
		return err
	}
	id := ticketID(s.ticket)
	sealed := []byte(seal(ticketSealer(g, s.ticket), id, packed))
	life := time.Until(time.Unix(sessionEnd(g, s), 0))
	sid := text(s.claims["sid"])
	sub := text(s.claims["sub"])
	if isNew {
		return storeSet(ctx, g.store, id, sealed, life, sid, sub)
	}
	there, err := storeReplace(ctx, g.store, id, sealed, life, sid, sub)
	if err == nil && !there {
		err = fmt.Errorf("%w: session %s was logged out", errNoCredentials, s.ID)
	}
	return err
}

// storeRefreshed writes what a refresh made of a session, when there is a store.
func storeRefreshed(ctx context.Context, g *gate, s *session) error {
	if g.store == nil {
		return nil
	}
	return storeSession(ctx, g, s)
}

// redeemOnce is redeem for one replica of all: who has the lease refreshes, the others wait for what comes of it. If the holder
// dies, the lease ends and the next one takes over. A session may come back beside an error: then only the store failed.
func redeemOnce(ctx context.Context, g *gate, s *session) (*session, error) {
	if g.store == nil {
		return redeem(ctx, g, s)
	}
	id := ticketID(s.ticket)
	mine := randomText()
	life := time.Duration(2*g.config.ClientConfig.TimeoutSeconds+2) * time.Second // a discovery and a grant, each with its time limit
	for deadline := time.Now().Add(2 * life); time.Now().Before(deadline); {
		held, err := storeLease(ctx, g.store, id, mine, life)
		if err != nil {
			return nil, err
		}
		known, err := fetchSession(ctx, g, s.ticket)
		if err == nil && known.refreshToken != s.refreshToken {
			err = errRefreshed
		}
		if held && err == nil {
			var fresh *session
			if fresh, err = redeem(ctx, g, s); err == nil {
				err = storeSession(ctx, g, fresh)
			}
			known = fresh
		}
		if held {
			_ = storeRelease(ctx, g.store, id, mine) // it ends by itself
		}
		if errors.Is(err, errRefreshed) {
			return known, nil
		}
		if held || err != nil {
			return known, err
		}
		time.Sleep(leasePause)
	}
	return nil, fmt.Errorf("%w: another replica is refreshing session %s", errUnavailable, s.ID)
}

var errRefreshed = errors.New("another replica has refreshed it")

// forgetStored ends the sessions that a pushed logout names, for all replicas.
func forgetStored(ctx context.Context, s *store, sid, sub string) error {
	ids, err := storeFind(ctx, s, sid, sub)
	for _, id := range ids {
		if err == nil {
			err = storeDelete(ctx, s, id)
		}
	}
	return err
}
