// Package ext stands in for a package that Traefik's repository has and its published module lacks:
// the two empty structs by which Traefik's commercial edition adds fields to the dynamic configuration.
package ext

// HTTP has the extra fields of the http section: none.
type HTTP struct{}

// Router has the extra fields of a router: none.
type Router struct{}
