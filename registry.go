package oidc

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"
)

// What outlives a reload. Traefik calls New for each router, and again for each router at every change of any configuration. So middlewares
// are looked up by name and configuration, and clients by issuer, client and connection, in registries that belong to the process: package
// variables, which all routers share because one interpreter runs them.

// registry holds what is shared. In a reload, the old contexts end before the new ones begin. So an entry is dropped when one whole reload has
// passed in which nobody asked for it, and idleLimit since then.
type registry struct {
	mu        sync.Mutex
	entries   map[string]*registryEntry
	idleLimit time.Duration
	latest    context.Context // of who asked last; when it has ended, a reload has begun
}

type registryEntry struct {
	value     any
	ctx       context.Context // of the last configuration that asked for it
	idleSince time.Time       // when that context was first found to have ended
}

var (
	middlewares = registry{entries: map[string]*registryEntry{}, latest: context.Background()}
	sharedParts = registry{entries: map[string]*registryEntry{}, latest: context.Background(), idleLimit: 24 * time.Hour} // clients, stores and clientStates, which hold the lists of sign-outs
)

// sweep drops the entries that nobody has asked for since the last sweep, and for idleLimit. It is called once in each reload. The caller holds
// the lock.
func sweep(r *registry, now time.Time) {
	isDropped, memory := false, 0
	var parts []string
	for key, entry := range r.entries {
		if entry.ctx.Err() != nil && !entry.idleSince.IsZero() && now.Sub(entry.idleSince) >= r.idleLimit {
			delete(r.entries, key)
			isDropped = true
			continue
		}
		if entry.ctx.Err() != nil && entry.idleSince.IsZero() {
			entry.idleSince = now
		}
		if m, isOne := entry.value.(*middleware); isOne {
			parts = append(parts, m.parts...)
			if m.config.Memory > memory {
				memory = m.config.Memory
			}
		}
	}
	if parts != nil {
		keepParts(parts)
	}
	if isDropped && memory > 0 {
		resizePrincipals(memory << 20)
	}
}

// loadOrStore returns the entry of key. If there is none, it stores made, unless that is nil. Of two calls of New at the same time, both
// get what the first one stored.
func loadOrStore(ctx context.Context, r *registry, key string, made any) any {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.latest.Err() != nil {
		sweep(r, time.Now())
	}
	r.latest = ctx
	entry := r.entries[key]
	if entry == nil {
		if made == nil {
			return nil
		}
		entry = &registryEntry{value: made}
		r.entries[key] = entry
	}
	entry.ctx = ctx
	entry.idleSince = time.Time{}
	return entry.value
}

// sharePart is loadOrStore for what middlewares share. It notes in p that this one does.
func sharePart(key string, made any, p *problems) any {
	p.parts = append(p.parts, key)
	return loadOrStore(p.ctx, &sharedParts, key, made)
}

// keepParts keeps what middlewares share for as long as these are there: a reload finds a middleware without asking for its parts.
func keepParts(keys []string) {
	sharedParts.mu.Lock()
	for _, key := range keys {
		if part := sharedParts.entries[key]; part != nil {
			part.idleSince = time.Time{}
		}
	}
	sharedParts.mu.Unlock()
}

// optionsKey is the registry key of something made from these options.
func optionsKey(options ...any) string {
	text, _ := json.Marshal(options)
	return hashText(string(text))
}

// findMiddleware returns the middleware for these options, and makes it if there is none. Most calls find one: at a reload, all but those
// whose options have changed. The files that the options name are read at each call, because they change without the options.
func findMiddleware(ctx context.Context, raw map[string]any, name string) (*middleware, error) {
	text, err := json.Marshal(raw) // keys come out sorted
	if err != nil {
		return nil, fmt.Errorf("the options cannot be read: %w", err)
	}
	key := hashText(name + " " + string(text))
	m, _ := loadOrStore(ctx, &middlewares, key, nil).(*middleware)
	if m == nil || m.files != nil && haveChanged(m.files) {
		if m, err = newMiddleware(ctx, text, name); err == nil {
			middlewares.mu.Lock()
			middlewares.entries[key] = &registryEntry{value: m, ctx: ctx}
			middlewares.mu.Unlock()
		}
	}
	return m, err
}

// haveChanged reports whether one of these files has another content now, or cannot be read any more.
func haveChanged(files []string) bool {
	now := &problems{}
	for i := 0; i < len(files); i += 2 {
		_, _ = readNamedFile(files[i], now)
	}
	return strings.Join(files, " ") != strings.Join(now.files, " ")
}

// findClient returns the client for the provider that c describes. Everybody who reaches the provider in the same way shares it.
// It is nil if there are problems, which are added to p. at is the path of the connection's options; headers are sent with the requests
// for metadata and keys.
func findClient(l *logger, c *Config, headers map[string]string, at string, p *problems) *client {
	signsIn := at == "clientConfig"
	key := optionsKey(c.ProviderConfig, headers, signsIn)
	known := sharePart(key, nil, p)
	if known == nil {
		before := p.count
		made := newClient(l, c, at, p)
		if p.count > before {
			return nil
		}
		made.headers = headers
		made.hasLogin = signsIn
		known = sharePart(key, made, p)
	}
	found, _ := known.(*client)
	return found
}

// findClientState returns the state of the first of these names that has one, and registers it under the others, too: an operator who
// replaces a secret keeps the old one in the configuration for a while.
func findClientState(secretNames []string, p *problems) *clientState {
	var known any
	for _, name := range secretNames {
		if known == nil {
			known = sharePart("state "+name, nil, p)
		}
	}
	if known == nil {
		made := newClientState()
		if len(secretNames) > 1 { // this Traefik starts in the middle of a change of secrets; the other replicas may not know the new one yet
			made.newKeyFrom = time.Now().Add(keyHandover).Unix()
		}
		known = made
	}
	for _, name := range secretNames {
		sharePart("state "+name, known, p)
	}
	found, _ := known.(*clientState)
	return found
}

func newClientState() *clientState {
	return &clientState{refreshed: newBoundedCache(8 << 20), usedStates: newBoundedCache(2 << 20), revoked: newBoundedCache(12 << 20), frontchannelLogouts: newBoundedCache(2 << 20),
		usedLogoutTokens: newBoundedCache(2 << 20)}
}

// findStore returns the store of these sessions, nil if sessions are in cookies. All middlewares that configure the same store share it.
func findStore(sm *sessionManager, secretNames []string, p *problems) *store {
	at, c := &sm.config.Session.Store, sm.config
	if at.Redis == nil {
		return nil
	}
	key := optionsKey(at.Redis, at.KeyPrefix, secretNames, c.ClientConfig.TimeoutSeconds)
	known := sharePart(key, nil, p)
	if known == nil {
		made, err := newStore(at.Redis, at.KeyPrefix, secretNames, c.ClientConfig.TimeoutSeconds)
		if err != nil {
			p.addError("session.store.redis", err)
			return nil
		}
		made.log = sm.log
		made.redis.maintain = func(isLost bool) error { return replayChanges(made, isLost) }
		made.redis.mayHaveLostWrites = true // we do not know yet what it holds
		known = sharePart(key, made, p)
	}
	found, _ := known.(*store)
	found.mu.Lock()
	defer found.mu.Unlock()
	found.syncLogouts = func(ctx context.Context, told []string) (int64, error) { return syncLogouts(ctx, sm, told) }
	if life := time.Duration(c.Session.Expiry) * time.Second; life > found.logoutLifetime {
		found.logoutLifetime = life
	}
	return found
}
