package oidc

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"time"
)

// What requests share in memory: bounded maps, and work that is done once however many requests wait for it.
// There is no background goroutine: work runs in the request that needs it first, and old entries leave when new ones come.

// replicaID tells this process from the others that use the same store.
var replicaID string

func init() { replicaID = randomText() }

// boundedCache is a map of so many bytes. When its young half is full it becomes the old half, and what was old is forgotten;
// an entry that is read from the old half moves back into the young one, so what is in use stays.
type boundedCache struct {
	mu          sync.RWMutex
	young, old  map[string]cacheEntry
	capacity    int       // bytes of each half
	used        int       // of the young one
	rotatedAt   time.Time // when old was young for the last time
	evictedUpTo time.Time // nothing newer than this has been forgotten
}

// cacheEntry is a value with the bytes it takes beside its place.
type cacheEntry struct {
	value any
	size  int
}

const (
	cacheEntryCost   = 160 // bytes of an entry's place
	parsedJSONFactor = 8   // how much larger JSON becomes when it is read
	maxErrorSize     = 600 // bytes of an error
)

func newBoundedCache(room int) *boundedCache {
	return &boundedCache{young: map[string]cacheEntry{}, capacity: room}
}

// cacheGet returns what was cached under key, or nil.
func cacheGet(m *boundedCache, key string) any {
	m.mu.RLock()
	value := m.young[key].value
	isOld := value == nil && m.old[key].value != nil
	m.mu.RUnlock()
	if isOld {
		value = cachePromote(m, key)
	}
	return value
}

// cacheHasAny says whether there is something under one of these keys.
func cacheHasAny(m *boundedCache, keys []string) bool {
	has := false
	m.mu.RLock()
	for _, key := range keys {
		has = has || m.young[key].value != nil || m.old[key].value != nil
	}
	m.mu.RUnlock()
	return has
}

// cachePromote moves an entry into the young half, unless it was replaced a moment ago, which must stay so.
func cachePromote(m *boundedCache, key string) any {
	m.mu.Lock()
	if found := m.old[key]; found.value != nil {
		cachePut(m, key, found)
	}
	value := m.young[key].value
	m.mu.Unlock()
	return value
}

// cacheSet keeps value, which is not nil and has size bytes, under key until newer entries push it out.
func cacheSet(m *boundedCache, key string, value any, size int) {
	m.mu.Lock()
	cachePut(m, key, cacheEntry{value, size})
	m.mu.Unlock()
}

// cacheAdd keeps value under a key that is not known yet, and says whether it did: the guard of everything that may be used once.
func cacheAdd(m *boundedCache, key string, value any, size int) bool {
	m.mu.Lock()
	isNew := m.young[key].value == nil && m.old[key].value == nil
	if isNew {
		cachePut(m, key, cacheEntry{value, size})
	}
	m.mu.Unlock()
	return isNew
}

// cachePut writes to the young half. When that is full it becomes the old one first. The caller holds the lock.
func cachePut(m *boundedCache, key string, made cacheEntry) {
	cost := cacheEntryCost + len(key) + made.size
	if before := m.young[key]; before.value != nil {
		cost -= cacheEntryCost + len(key) + before.size
	}
	delete(m.old, key)
	if m.used+cost > m.capacity {
		m.evictedUpTo = m.rotatedAt
		m.rotatedAt = time.Now()
		m.old = m.young
		m.young = map[string]cacheEntry{}
		delete(m.old, key)
		m.used = 0
		cost = cacheEntryCost + len(key) + made.size
	}
	m.used += cost
	m.young[key] = made
}

// inFlight is work under way, by key.
type inFlight struct {
	mu    sync.Mutex
	calls map[string]*inFlightCall
}

// inFlightCall is one piece of work that many requests may wait for.
type inFlightCall struct {
	done  context.Context // done at the end
	value any
	err   error
}

// doOnce runs work once however many ask for key at the same time, and gives all of them its result.
// Whose ctx has a deadline waits no longer for somebody else's work. It runs in the goroutine of the first who asks, and goes on when that client goes away: what the provider has
// handed out (a rotated refresh token above all) must not be lost. All work limits its own time.
func doOnce(ctx context.Context, f *inFlight, key string, work func(ctx context.Context) (any, error)) (any, error) {
	landed, land := context.WithCancel(context.Background())
	defer land()
	mine := &inFlightCall{done: landed, err: errors.New("the work ended in a panic")}
	f.mu.Lock()
	under := f.calls[key]
	if under == nil {
		if f.calls == nil {
			f.calls = map[string]*inFlightCall{}
		}
		f.calls[key] = mine
	}
	f.mu.Unlock()
	if under != nil {
		return waitFor(ctx, under)
	}
	defer func() {
		f.mu.Lock()
		delete(f.calls, key)
		f.mu.Unlock()
	}()
	value, err := work(context.WithoutCancel(ctx))
	mine.value = value
	mine.err = err
	return value, err
}

// waitFor waits for the end of somebody else's work, or for ctx's deadline. That is no select: in the interpreter goroutines that wait at the
// same one get each other's channels.
func waitFor(ctx context.Context, under *inFlightCall) (any, error) {
	end, isLimited := ctx.Deadline()
	if !isLimited {
		<-under.done.Done()
		return under.value, under.err
	}
	either, stop := context.WithDeadline(under.done, end)
	defer stop()
	<-either.Done()
	if under.done.Err() == nil {
		return nil, fmt.Errorf("%w: somebody else is at it for longer than one waits", errInProgress)
	}
	return under.value, under.err
}

// backoff spaces the attempts at something that fails: 1 s, 2 s, 4 s … 30 s.
type backoff struct {
	failures int
	until    time.Time
	err      error // the last failure, answered until the next attempt
}

// backOff records a failed attempt.
func backOff(b *backoff, err error, now time.Time) {
	wait := 30 * time.Second
	if b.failures < 5 {
		wait = time.Second << uint(b.failures)
	}
	b.failures++
	b.until = now.Add(wait)
	b.err = err
}

// cachedDocument is a document that a provider publishes, its metadata or its keys. The request that needs it fetches it.
type cachedDocument struct {
	log   *logger
	fetch func(ctx context.Context) (any, error) // limits its own time; nil: the document never changes

	fetching sync.Mutex // held while somebody fetches; nobody else changes the rest
	backoff  backoff    // until there may be another fetch, and how the last one failed
	mu       sync.Mutex // of what follows
	value    any        // the last good one; replaced as a whole, never changed, so it is read without the lock
	version  int        // how many have come
	until    time.Time  // when it is to be fetched anew
}

// cached is the document as it is here. isOld asks the caller to renew it: nobody else is asked to for a while, so only one of many waits.
func cached(d *cachedDocument) (value any, version int, isOld bool) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if isOld = d.value == nil || now.After(d.until); isOld {
		d.until = now.Add(time.Minute)
	}
	return d.value, d.version, isOld
}

// refetch fetches the document anew, once however many ask, unless one newer than version is here already. When there is none to be
// had it returns the last good one, and how the last fetch failed, if it did. Made-up key names must not make us hammer the provider:
// fetchBurst at once, then one in fetchInterval. What fails costs none of that, as it has its own, growing, pauses.
func refetch(ctx context.Context, d *cachedDocument, version int) (value any, isNewer bool, err error) {
	d.fetching.Lock() // who has to wait here finds what the one before brought
	defer d.fetching.Unlock()
	now := time.Now()
	if d.version != version || now.Before(d.backoff.until) {
		return d.value, d.version != version, d.backoff.err
	}
	fetched, err := d.fetch(context.WithoutCancel(ctx)) // also when this client goes away: others wait
	if err != nil {
		if !errors.Is(err, errUnavailable) {
			err = fmt.Errorf("%w: %w", errUnavailable, err)
		}
		logf(d.log, levelError, "%s", err)
		backOff(&d.backoff, err, time.Now())
		return d.value, false, err
	}
	least := now.Add(-(fetchBurst - 1) * fetchInterval)
	if d.backoff.err != nil || d.backoff.until.Before(least) {
		d.backoff.until = least
	}
	d.backoff = backoff{until: d.backoff.until.Add(fetchInterval)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.value = fetched
	d.version++
	d.until = now.Add(documentLifetime - time.Duration(rand.Int63n(int64(documentJitter)))) // not all replicas at once
	return fetched, true, nil
}

// refundFetch takes a fetch that brought what was wanted off those that are counted: however often a provider changes its keys, tokens of
// its new ones are taken at once.
func refundFetch(d *cachedDocument) {
	d.fetching.Lock()
	d.backoff.until = d.backoff.until.Add(-fetchInterval)
	d.fetching.Unlock()
}
