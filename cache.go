package oidc

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"time"
)

// What requests share in memory: bounded caches, and work that is done once for all requests that wait for it.
// There is no background goroutine: work runs in the first request that needs it, and old entries are evicted when new ones come.

// replicaID distinguishes this process from others that use the same store.
var replicaID string

func init() { replicaID = randomText() }

// boundedCache is a map with a limited size in bytes. When its young half is full, it becomes the old half, and the previous old half is
// dropped. An entry that is read from the old half moves back into the young one, so what is in use stays.
type boundedCache struct {
	mu          sync.RWMutex
	young, old  map[string]cacheEntry
	capacity    int       // bytes of each half
	used        int       // of the young half
	rotatedAt   time.Time // when the halves were last rotated
	evictedUpTo time.Time // no entry newer than this has been evicted
}

// cacheEntry is a value and its size in bytes, without the cost of the entry itself.
type cacheEntry struct {
	value any
	size  int
}

const (
	cacheEntryCost   = 160 // bytes of an entry itself
	parsedJSONFactor = 8   // how much larger JSON becomes when it is parsed
	maxErrorSize     = 600 // bytes of an error
)

func newBoundedCache(room int) *boundedCache {
	return &boundedCache{young: map[string]cacheEntry{}, capacity: room}
}

// cacheGet returns the value of key, or nil.
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

// cacheHasAny reports whether one of these keys has a value.
func cacheHasAny(m *boundedCache, keys []string) bool {
	has := false
	m.mu.RLock()
	for _, key := range keys {
		has = has || m.young[key].value != nil || m.old[key].value != nil
	}
	m.mu.RUnlock()
	return has
}

// cachePromote moves an entry into the young half, unless it has just been replaced there.
func cachePromote(m *boundedCache, key string) any {
	m.mu.Lock()
	if found := m.old[key]; found.value != nil {
		cachePut(m, key, found)
	}
	value := m.young[key].value
	m.mu.Unlock()
	return value
}

// cacheSet stores a value of size bytes, which must not be nil, until newer entries push it out.
func cacheSet(m *boundedCache, key string, value any, size int) {
	m.mu.Lock()
	cachePut(m, key, cacheEntry{value, size})
	m.mu.Unlock()
}

// cacheAdd stores a value if the key has none yet, and reports whether it did. It guards everything that may be used only once.
func cacheAdd(m *boundedCache, key string, value any, size int) bool {
	m.mu.Lock()
	isNew := m.young[key].value == nil && m.old[key].value == nil
	if isNew {
		cachePut(m, key, cacheEntry{value, size})
	}
	m.mu.Unlock()
	return isNew
}

// cachePut writes to the young half, and rotates the halves first if it is full. The caller holds the lock.
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

// inFlight is work in progress, by key.
type inFlight struct {
	mu    sync.Mutex
	calls map[string]*inFlightCall
}

// inFlightCall is one piece of work that many requests may wait for.
type inFlightCall struct {
	done  context.Context // is done when the work has finished
	value any
	err   error
}

// doOnce runs work once for all callers that ask for key at the same time, and gives all of them its result. It runs in the first caller's
// goroutine, and goes on even if that client goes away: what the provider has handed out (above all a rotated refresh token) must not be
// lost. The others wait no longer than the deadline of their ctx. All work limits its own time.
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

// waitFor waits for another caller's work, or for ctx's deadline. It does not use select: in the interpreter, goroutines at the same select
// statement receive from each other's channels.
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

// backoff spaces out attempts at something that fails: 1 s, 2 s, 4 s … 30 s.
type backoff struct {
	failures int
	until    time.Time
	err      error // the last failure, returned until the next attempt
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

// cachedDocument is a document that a provider publishes: its metadata, or its keys. The request that needs it fetches it.
type cachedDocument struct {
	log   *logger
	fetch func(ctx context.Context) (any, error) // limits its own time; nil: the document never changes

	fetching sync.Mutex // held while fetching; only its holder changes what follows
	backoff  backoff    // when the next fetch is allowed, and how the last one failed
	mu       sync.Mutex // guards what follows
	value    any        // the last valid one; replaced as a whole and never changed, so callers need no lock to read it
	version  int        // how many were fetched
	until    time.Time  // when to fetch it again
}

// cached returns the cached document. isOld asks the caller to refetch it. For a while no other caller is asked to, so only one of many waits.
func cached(d *cachedDocument) (value any, version int, isOld bool) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if isOld = d.value == nil || now.After(d.until); isOld {
		d.until = now.Add(time.Minute)
	}
	return d.value, d.version, isOld
}

// refetch fetches the document again, once for all callers that wait, unless the cached one is newer than version already. If it cannot, it
// returns the last valid one, and how the last fetch failed, if it did. Tokens with made-up key IDs must not make us hammer the provider, so
// fetches are limited: fetchBurst at once, then one every fetchInterval. Failures do not count; the back-off has its own growing pauses.
func refetch(ctx context.Context, d *cachedDocument, version int) (value any, isNewer bool, err error) {
	d.fetching.Lock() // a caller that had to wait here finds the new document
	defer d.fetching.Unlock()
	now := time.Now()
	if d.version != version || now.Before(d.backoff.until) {
		return d.value, d.version != version, d.backoff.err
	}
	fetched, err := d.fetch(context.WithoutCancel(ctx)) // even if this client goes away: others are waiting
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
	d.until = now.Add(documentLifetime - time.Duration(rand.Int63n(int64(documentJitter)))) // so that replicas do not fetch all at once
	return fetched, true, nil
}

// refundFetch takes a fetch that found the wanted key out of the count: however often a provider changes its keys, tokens of its new ones are
// accepted at once.
func refundFetch(d *cachedDocument) {
	d.fetching.Lock()
	d.backoff.until = d.backoff.until.Add(-fetchInterval)
	d.fetching.Unlock()
}
