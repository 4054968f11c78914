package oidc

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// What outlives a reload. Traefik calls New for each router, and again for each router at every change of any configuration. So middlewares
// are looked up by name and configuration, and clients by issuer, client and connection, in registries that belong to the process: package
// variables, which all routers share because one interpreter runs them.

// registry holds what is shared. An entry is dropped some time after the last configuration that used it has ended. That time is longer
// than a reload, in which the old contexts end before the new ones begin.
type registry struct {
	mu        sync.Mutex
	entries   map[string]*registryEntry
	idleLimit time.Duration
	lastSweep time.Time // when all entries were last checked
}

type registryEntry struct {
	value     any
	ctx       context.Context // of the last configuration that asked for it
	idleSince time.Time       // when that context was first found to have ended
}

var (
	middlewares = registry{entries: map[string]*registryEntry{}, idleLimit: 10 * time.Minute}
	sharedParts = registry{entries: map[string]*registryEntry{}, idleLimit: 24 * time.Hour} // clients, stores and clientStates, which hold the lists of sign-outs
)

// usedPartsKey is the key of a context by which loadOrStore notes what a middleware shares with others, while it is built. It is a string,
// because in the interpreter all keys of our own types are equal.
const usedPartsKey = "github.com/traefik-oidc/oidc: what this middleware shares"

const sweepInterval = time.Minute // not at every look-up, whose cost would then grow with the number of entries

// sweep drops the entries whose last configuration ended more than idleLimit ago. The caller holds the lock.
func sweep(r *registry, now time.Time) {
	for key, entry := range r.entries {
		if entry.ctx.Err() == nil {
			continue
		}
		if entry.idleSince.IsZero() {
			entry.idleSince = now
		} else if now.Sub(entry.idleSince) > r.idleLimit {
			delete(r.entries, key)
		}
	}
}

// loadOrStore returns the entry of key. If there is none, it stores made, unless that is nil. Of two calls of New at the same time, both
// get what the first one stored.
func loadOrStore(ctx context.Context, r *registry, key string, made any) any {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.lastSweep) > sweepInterval {
		r.lastSweep = now
		sweep(r, now)
	}
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
	if parts, isOfOne := ctx.Value(usedPartsKey).(map[string]any); isOfOne {
		parts[key] = entry.value
	}
	return entry.value
}

// optionsKey is the registry key of something made from these options.
func optionsKey(options ...any) string {
	text, _ := json.Marshal(options)
	return hashText(string(text))
}

// namedFilePaths finds file paths in the JSON of the options: in a reference, in jwksFile, and in errorPages, both as a block and as text.
var namedFilePaths = regexp.MustCompile(`(?i)\$\{file:((?:[^}"\\]|\\.)+)\}|"(?:jwksFile|[45]\d\d)":"((?:[^"\\]|\\.)+)"|[45]\d\d *= *([^," ]+)`)

// findMiddleware returns the middleware for these options, and makes it if there is none.
func findMiddleware(ctx context.Context, raw map[string]any, name string) (*middleware, error) {
	text, err := json.Marshal(raw) // keys come out sorted
	if err != nil {
		return nil, fmt.Errorf("%s: the options cannot be read: %w", name, err)
	}
	key := name + " " + string(text)
	for _, match := range namedFilePaths.FindAllStringSubmatch(key, -1) {
		var path string
		_ = json.Unmarshal([]byte(`"`+strings.Join(match[1:], "")+`"`), &path) // JSON writes & as \u0026
		if file, err := os.Stat(os.ExpandEnv(path)); err == nil {              // a file that changed is a changed configuration
			key += fmt.Sprint(" ", file.ModTime().UnixNano(), file.Size())
		}
	}
	key = hashText(key)
	known := loadOrStore(ctx, &middlewares, key, nil)
	if known == nil {
		parts := map[string]any{}
		//lint:ignore SA1029 the interpreter takes all types of ours for one
		made, err := newMiddleware(context.WithValue(ctx, usedPartsKey, parts), text, name, key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		made.parts = parts
		known = loadOrStore(ctx, &middlewares, key, made)
	}
	m, _ := known.(*middleware)
	for part, value := range m.parts { // or they would be dropped while it uses them, and the next one that shares them would get others
		loadOrStore(ctx, &sharedParts, part, value)
	}
	return m, nil
}

// findClient returns the client for the provider that c describes. Everybody who reaches the provider in the same way shares it.
// It is nil if there are problems, which are added to p. at is the path of the connection's options; headers are sent with the requests
// for metadata and keys.
func findClient(ctx context.Context, l *logger, c *Config, headers map[string]string, at string, p *problems) *client {
	signsIn := at == "clientConfig"
	key := optionsKey(c.ProviderConfig, headers, signsIn)
	known := loadOrStore(ctx, &sharedParts, key, nil)
	if known == nil {
		before := p.count
		made := newClient(l, c, at, p)
		if p.count > before {
			return nil
		}
		made.headers = headers
		made.hasLogin = signsIn
		known = loadOrStore(ctx, &sharedParts, key, made)
	}
	found, _ := known.(*client)
	return found
}

// findClientState returns the state of the first of these names that has one, and registers it under the others, too: an operator who
// replaces a secret keeps the old one in the configuration for a while.
func findClientState(ctx context.Context, secretNames []string) *clientState {
	var known any
	for _, name := range secretNames {
		if known == nil {
			known = loadOrStore(ctx, &sharedParts, "state "+name, nil)
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
		loadOrStore(ctx, &sharedParts, "state "+name, known)
	}
	found, _ := known.(*clientState)
	return found
}

func newClientState() *clientState {
	return &clientState{refreshed: newBoundedCache(8 << 20), usedStates: newBoundedCache(2 << 20), revoked: newBoundedCache(12 << 20), frontchannelLogouts: newBoundedCache(2 << 20),
		usedLogoutTokens: newBoundedCache(2 << 20)}
}

// findStore returns the store of these sessions, nil if sessions are in cookies. All middlewares that configure the same store share it.
func findStore(ctx context.Context, sm *sessionManager, secretNames []string, p *problems) *store {
	at, c := &sm.config.Session.Store, sm.config
	if at.Redis == nil {
		return nil
	}
	key := optionsKey(at.Redis, at.KeyPrefix, secretNames, c.ClientConfig.TimeoutSeconds)
	known := loadOrStore(ctx, &sharedParts, key, nil)
	if known == nil {
		made, err := newStore(at.Redis, at.KeyPrefix, secretNames, c.ClientConfig.TimeoutSeconds)
		if err != nil {
			p.addError("session.store.redis", err)
			return nil
		}
		made.log = sm.log
		made.redis.maintain = func(isLost bool) error { return replayChanges(made, isLost) }
		made.redis.mayHaveLostWrites = true // we do not know yet what it holds
		known = loadOrStore(ctx, &sharedParts, key, made)
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
