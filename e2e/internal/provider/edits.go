package provider

import "sync"

// edits are the hands that tests have on the token answers, by client.
type edits struct {
	mu       sync.Mutex
	byClient map[string]func(map[string]any)
}

func (e *edits) of(client string) func(map[string]any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.byClient[client]
}

func (e *edits) set(client string, edit func(map[string]any)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.byClient[client] = edit
}
