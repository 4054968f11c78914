package oidc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// This room holds what requests share in memory: bounded maps, and work that is done once however many wait for it.
// There is no background goroutine: work runs in the request that needs it first, and old entries leave when new ones come.

// replica tells this process from the others that use the same store.
var replica string

func init() { replica = randomText() }

// memory is a map of so many bytes. When its young half is full it becomes the old half, and what was old is forgotten;
// an entry that is read from the old half moves back into the young one, so what is in use stays.
type memory struct {
	mu         sync.RWMutex
	young, old map[string]entry
	room       int       // bytes of each half
	used       int       // of the young one
	turned     time.Time // when old was young for the last time
	lost       time.Time // nothing newer than this has been forgotten
}

// entry is a value with the bytes it takes beside its place.
type entry struct {
	value any
	size  int
}

const (
	entryCost     = 160 // bytes of an entry's place
	readCost      = 8   // how much larger JSON becomes when it is read
	longestReason = 600 // bytes of an error
)

func newMemory(room int) *memory {
	return &memory{young: map[string]entry{}, room: room}
}

// recall returns what was remembered under key, or nil.
func recall(m *memory, key string) any {
	m.mu.RLock()
	value := m.young[key].value
	isOld := value == nil && m.old[key].value != nil
	m.mu.RUnlock()
	if isOld {
		value = revive(m, key)
	}
	return value
}

// revive moves an entry into the young half, unless it was replaced or forgotten a moment ago, which must stay so.
func revive(m *memory, key string) any {
	m.mu.Lock()
	if found := m.old[key]; found.value != nil {
		keep(m, key, found)
	}
	value := m.young[key].value
	m.mu.Unlock()
	return value
}

// remember keeps value, which is not nil and has size bytes, under key until newer entries push it out.
func remember(m *memory, key string, value any, size int) {
	m.mu.Lock()
	keep(m, key, entry{value, size})
	m.mu.Unlock()
}

// rememberIf is remember for a key that is known, or for one that is not, and says whether it was so: the guard of everything that may
// be used once, and of what must not come back after it was forgotten.
func rememberIf(m *memory, isKnown bool, key string, value any, size int) bool {
	m.mu.Lock()
	is := (m.young[key].value != nil || m.old[key].value != nil) == isKnown
	if is {
		keep(m, key, entry{value, size})
	}
	m.mu.Unlock()
	return is
}

// keep writes to the young half. When that is full it becomes the old one first. The caller holds the lock.
func keep(m *memory, key string, made entry) {
	cost := entryCost + len(key) + made.size
	if before := m.young[key]; before.value != nil {
		cost -= entryCost + len(key) + before.size
	}
	delete(m.old, key)
	if m.used+cost > m.room {
		m.lost = m.turned
		m.turned = time.Now()
		m.old = m.young
		m.young = map[string]entry{}
		delete(m.old, key)
		m.used = 0
		cost = entryCost + len(key) + made.size
	}
	m.used += cost
	m.young[key] = made
}

// forget drops key.
func forget(m *memory, key string) {
	m.mu.Lock()
	if before := m.young[key]; before.value != nil {
		m.used -= entryCost + len(key) + before.size
	}
	delete(m.young, key)
	delete(m.old, key)
	m.mu.Unlock()
}

// flights is work under way, by key.
type flights struct {
	mu      sync.Mutex
	running map[string]*flight
}

// flight is one piece of work that many requests may wait for.
type flight struct {
	landed context.Context // done at the end
	value  any
	err    error
}

// share runs work once however many ask for key at the same time, and gives all of them its result.
// Whose ctx has a deadline waits no longer for somebody else's work. It runs in the goroutine of the first who asks, and goes on when that client goes away: what the provider has
// handed out (a rotated refresh token above all) must not be lost. All work limits its own time.
func share(ctx context.Context, f *flights, key string, work func(ctx context.Context) (any, error)) (any, error) {
	landed, land := context.WithCancel(context.Background())
	defer land()
	mine := &flight{landed: landed, err: errors.New("the work ended in a panic")}
	f.mu.Lock()
	under := f.running[key]
	if under == nil {
		if f.running == nil {
			f.running = map[string]*flight{}
		}
		f.running[key] = mine
	}
	f.mu.Unlock()
	if under != nil {
		return await(ctx, under)
	}
	defer func() {
		f.mu.Lock()
		delete(f.running, key)
		f.mu.Unlock()
	}()
	value, err := work(context.WithoutCancel(ctx))
	mine.value = value
	mine.err = err
	return value, err
}

// await waits for the end of somebody else's work, or for ctx's deadline. That is no select: in the interpreter goroutines that wait at the
// same one get each other's channels.
func await(ctx context.Context, under *flight) (any, error) {
	end, isLimited := ctx.Deadline()
	if !isLimited {
		<-under.landed.Done()
		return under.value, under.err
	}
	either, stop := context.WithDeadline(under.landed, end)
	defer stop()
	<-either.Done()
	if under.landed.Err() == nil {
		return nil, fmt.Errorf("%w: somebody else is at it for longer than one waits", errElsewhere)
	}
	return under.value, under.err
}

// backoff spaces the attempts at something that fails: 1 s, 2 s, 4 s … 30 s.
type backoff struct {
	failures int
	until    time.Time
	err      error // the last failure, answered until the next attempt
}

// fail notes a failed attempt.
func fail(b *backoff, err error, now time.Time) {
	wait := 30 * time.Second
	if b.failures < 5 {
		wait = time.Second << uint(b.failures)
	}
	b.failures++
	b.until = now.Add(wait)
	b.err = err
}
