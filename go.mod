module github.com/traefik-oidc/oidc

// Yaegi, which runs the plugin inside Traefik, has Go 1.20's language: one loop variable for all turns, no range over int.
// The directive makes the compiler, and so our tests, see the same.
go 1.20
