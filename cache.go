package oidc

import (
	"context"
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
	inFlight    inFlight  // fetches in progress
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
func cacheGet(m *boundedCache, key string) (value any) {
	m.mu.RLock()
	value = m.young[key].value
	m.mu.RUnlock()
	if value == nil {
		value = cachePromote(m, key)
	}
	return value
}

// cacheHasAny reports whether one of these keys has a value.
func cacheHasAny(m *boundedCache, keys []string) (has bool) {
	has = false
	m.mu.RLock()
	for _, key := range keys {
		if m.young[key].value != nil {
			has = true
		} else if m.old[key].value != nil {
			has = true
		}
	}
	m.mu.RUnlock()
	return has
}

// cachePromote moves an entry from the old half into the young one, unless it has just been replaced there, and returns its value, or nil.
func cachePromote(m *boundedCache, key string) any {
	m.mu.RLock()
	isOld, value := m.old[key].value != nil, m.young[key].value
	m.mu.RUnlock()
	if !isOld {
		return value // another call may have moved it meanwhile
	}
	m.mu.Lock()
	if found := m.old[key]; found.value != nil {
		cachePut(m, key, found)
	}
	value = m.young[key].value
	m.mu.Unlock()
	return value
}

// cacheSet stores a value of size bytes, which must not be nil, until newer entries push it out.
func cacheSet(m *boundedCache, key string, value any, size int) {
	m.mu.Lock()
	cachePut(m, key, cacheEntry{value, size})
	m.mu.Unlock()
}

// cacheAdd stores a text, which may be empty, if the key has no value yet, and reports whether it did. It guards everything that may be used
// only once.
func cacheAdd(m *boundedCache, key, text string) bool {
	m.mu.Lock()
	isNew := m.young[key].value == nil && m.old[key].value == nil
	if isNew {
		cachePut(m, key, cacheEntry{text, len(text)})
	}
	m.mu.Unlock()
	return isNew
}

// cachePut writes to the young half, and rotates the halves first if it is full. The caller holds the lock.
func cachePut(m *boundedCache, key string, made cacheEntry) {
	cost := cacheEntryCost + len(key) + made.size
	if before := m.young[key]; before.value != nil {
		m.used -= cacheEntryCost + len(key) + before.size
	}
	delete(m.old, key)
	if m.used+cost > m.capacity {
		m.evictedUpTo = m.rotatedAt
		m.rotatedAt = timeNow()
		m.old = m.young
		m.young = map[string]cacheEntry{}
		delete(m.old, key)
		m.used = 0
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
	mine := &inFlightCall{done: landed, err: newError("the work ended in a panic")}
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
	mine.value, mine.err = work(context.WithoutCancel(ctx))
	return mine.value, mine.err
}

// waitFor waits for another caller's work, or for ctx's deadline. It does not use select: in the interpreter, goroutines at the same select
// statement receive from each other's channels.
func waitFor(ctx context.Context, under *inFlightCall) (any, error) {
	either := under.done
	if end, isLimited := ctx.Deadline(); isLimited {
		limited, stop := context.WithDeadline(under.done, end)
		defer stop()
		either = limited
	}
	<-either.Done()
	if under.done.Err() == nil {
		return nil, errorf("%w: somebody else is at it for longer than one waits", errInProgress)
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

// fetched is what is cached of a fetch: a value, how the last attempt failed, or both. A new one replaces it as a whole, so callers need no
// lock to read it.
type fetched struct {
	value   any       // the last good one, or what an unfinished attempt has left
	size    int       // its bytes
	version int       // how many were fetched
	until   time.Time // when to fetch it again, 0 without a value
	end     time.Time // until then it may be used while another is fetched, or if that fails
	backoff backoff   // when the next fetch is allowed, and how the last one failed
}

// cached returns what is cached of a fetch, which may be nothing. isOld asks the caller to refetch it.
func cached(m *boundedCache, key string) (known *fetched, isOld bool) {
	known = nil // the interpreter leaves it as it was if the assertion fails
	known, _ = cacheGet(m, key).(*fetched)
	if known == nil {
		known = &fetched{}
	}
	return known, timeUntil(known.until) <= 0
}

// refetch fetches anew, once for all callers that wait, unless what is cached is newer than version already, or the back-off forbids it. The
// others do not wait if there is a value that may still be used. ask gets a copy of what is cached, and puts the result there: a value, or how
// it failed and for how long that counts. An error that it only returns goes to those who wait, and is not cached.
func refetch(ctx context.Context, m *boundedCache, key string, version int, ask func(ctx context.Context, made *fetched) error) (*fetched, error) {
	value, err := doOnce(ctx, &m.inFlight, key, func(ctx context.Context) (any, error) {
		known, isOld := cached(m, key)
		now := timeNow()
		if known.version > version || now.Before(known.backoff.until) { // another call has ended meanwhile
			return known, known.backoff.err
		}
		made := *known
		if isOld && now.Before(made.end) {
			made.until = earlier(now.Add(time.Minute), now.Add(made.end.Sub(now)/2))
			meanwhile := made
			cacheSet(m, key, &meanwhile, made.size+maxErrorSize)
		}
		made.backoff.err = nil
		err := ask(ctx, &made)
		if err = firstError(err, made.backoff.err); err == nil {
			made.version++
			made.backoff.failures = 0
		}
		if made.value != nil || made.backoff.err != nil {
			cacheSet(m, key, &made, made.size+maxErrorSize)
		}
		return &made, err
	})
	known, _ := value.(*fetched)
	if known == nil { // the wait was too long
		known, _ = cached(m, key)
	}
	return known, err
}

// earlier returns the earlier of two times.
func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
