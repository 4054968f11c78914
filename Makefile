# make demo    a real Traefik with the plugin, a provider and an application to click through
# make test    everything that CI runs; what a machine lacks is named, and with STRICT=1 it is a failure
# make help    the other targets

GO ?= go
TOOLS := .cache
# Modules beside the plugin's own, each with tests of its own. The last runs the real programs, and takes longest.
MODULES := $(patsubst %/go.mod,%,$(wildcard e2e/tools/go.mod e2e/interpreted/go.mod docs/reference/go.mod)) e2e

.NOTPARALLEL:
.PHONY: demo test go lint unit interpreted modules bench chaos soak mutants fuzz screenshots reference release-check help

help:
	@echo "make demo        a real Traefik with the plugin, a provider and an application; PORT=8081 if 8080 is taken"
	@echo "                 ISSUER=… CLIENT_ID=… CLIENT_SECRET=… tries your own provider"
	@echo "make test        all tests: lint, unit, interpreted, modules"
	@echo "make lint        gofmt, go vet, staticcheck, and yaegivet for what the interpreter runs wrongly"
	@echo "make unit        the plugin's own tests, compiled, with the race detector"
	@echo "make interpreted the same HTTP tests, with the plugin in the interpreter"
	@echo "make modules     documentation and end-to-end tests, in a real Traefik"
	@echo "make bench       what a request costs, as a table"
	@echo "make chaos       what is kept and lost while Redis, the network, the provider and Traefik fail; MINUTES=25"
	@echo "make soak        people at work for a long time, and what grows; MINUTES=60"
	@echo "make mutants     small faults in the plugin that no test notices; N=200 SEED=1 FILES=seal.go,jwt.go"
	@echo "make fuzz        every fuzz target for FUZZTIME=30s"
	@echo "make screenshots a picture of every page of ours, in a real browser; those in docs/images are renewed"
	@echo "make reference   docs/reference.md from the comments in config.go"
	@echo "make release-check VERSION=v0.1.0   whether the last commit can be published"

demo: go
	@$(GO) build -C e2e -o ../$(TOOLS)/demo ./cmd/demo
	@$(TOOLS)/demo

test: lint unit interpreted modules

go:
	@command -v $(GO) >/dev/null || { echo "Go is needed: https://go.dev/dl/ (1.21 or later, which fetches the version it needs)"; exit 1; }

lint: go
	@unformatted=$$(find . -name '*.go' -not -path './*/node_modules/*' -not -path './$(TOOLS)/*' | xargs gofmt -l); \
	  test -z "$$unformatted" || { echo "gofmt would change:" $$unformatted; exit 1; }
	@$(GO) build -C e2e/tools -o ../../$(TOOLS)/ honnef.co/go/tools/cmd/staticcheck ./yaegivet
	@echo ".: what the interpreter runs wrongly"; $(GO) vet -vettool="$(CURDIR)/$(TOOLS)/yaegivet" .
	@set -e; for module in . $(MODULES); do \
	  echo "$$module: go vet, staticcheck"; \
	  (cd $$module && $(GO) vet ./... && "$(CURDIR)/$(TOOLS)/staticcheck" ./...); done

# The race detector needs a C compiler.
unit: go
	@if command -v $${CC:-cc} >/dev/null; then $(GO) test -race .; \
	  elif [ -n "$$STRICT" ]; then echo "STRICT=$$STRICT: the race detector needs a C compiler (Debian: apt-get install gcc libc6-dev)"; exit 1; \
	  else echo "SKIPPED: the race detector needs a C compiler (Debian: apt-get install gcc libc6-dev)"; $(GO) test .; fi

interpreted: go
	@$(GO) run -C e2e/interpreted ./cmd/host -- $(GO) test -C ../.. -count=1 .

modules: go
	@$(GO) run -C e2e ./cmd/prepare
	@set -e; for module in $(MODULES); do $(GO) test -C $$module -count=1 -timeout 30m -parallel 8 ./...; done

chaos soak: go
	@$(GO) run -C e2e ./cmd/prepare
	@$(GO) build -C e2e -o ../$(TOOLS)/$@ ./cmd/$@
	@$(TOOLS)/$@

bench: go
	@$(GO) run -C e2e ./cmd/prepare
	@$(GO) run -C e2e ./cmd/bench

mutants: go
	@$(GO) run -C e2e ./cmd/mutants

FUZZTIME ?= 30s
fuzz: go
	@set -e; for target in $$($(GO) test -list '^Fuzz' . | grep '^Fuzz'); do \
	  echo "$$target, $(FUZZTIME)"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) .; done

screenshots: go
	@$(GO) run -C e2e ./cmd/prepare
	@set -e; folder=$$(mktemp -d); \
	  STRICT=1 $(GO) test -C e2e -count=1 -run '^TestBrowser(Pages|ErrorPageExamples|Demo)$$' . -pictures "$$folder"; \
	  echo "Every page of ours in every look: $$folder; those in docs/images are renewed."

reference: go
	@$(GO) run -C docs/reference .

release-check: go
	@$(GO) run -C e2e ./cmd/release
