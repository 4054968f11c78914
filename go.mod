module github.com/traefik-oidc/oidc

// Yaegi, which runs the plugin inside Traefik, has Go 1.20's language: one loop variable for all turns, no range over int.
// The directive makes the compiler, and so our tests, see the same.
go 1.20

// Without this line the language version above would also give the tests the library's behaviour of 2023.
godebug default=go1.22
