// Package nothing is a plugin that only calls next: what the interpreter itself costs.
package nothing

import (
	"context"
	"net/http"
)

// Config has no options.
type Config struct{}

// CreateConfig gives Traefik the value it decodes the options into.
func CreateConfig() *Config { return &Config{} }

// Nothing is one router's use of the middleware.
type Nothing struct{ next http.Handler }

// New makes the middleware.
func New(_ context.Context, next http.Handler, _ *Config, _ string) (http.Handler, error) {
	return &Nothing{next: next}, nil
}

// ServeHTTP hands the request on.
func (n *Nothing) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	n.next.ServeHTTP(rw, req)
}
