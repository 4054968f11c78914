// The plugin in the interpreter, as Traefik loads it. A module of its own, so that it needs nothing but what Traefik itself uses
// for that, in the versions of the Traefik that is tested (e2e/traefik/go.mod).
module github.com/traefik-oidc/oidc/e2e/interpreted

go 1.26.0

require (
	github.com/mitchellh/mapstructure v1.5.1-0.20231216201459-8508981c8b6c
	github.com/traefik/yaegi v0.16.1
)

require gopkg.in/yaml.v3 v3.0.1
