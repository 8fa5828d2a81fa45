# Run "make" or "make help" for what there is.

MODULE  := github.com/parking-operator/parking-operator
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
DATE    ?= $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)

FUZZTIME      ?= 20s
DEMO_DURATION ?= 20s

TOOLS          := .tools/bin
GOLANGCI_LINT  := $(TOOLS)/golangci-lint
CONTROLLER_GEN := $(TOOLS)/controller-gen

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Build

.PHONY: build
build: ## Build bin/parking, a static binary that knows its version.
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/parking ./cmd/parking

.PHONY: demo
demo: ## Run a simulation in this terminal for DEMO_DURATION (20s), without a cluster or a server.
	@# Without the operator, whose libraries double the time of a first build.
	CGO_ENABLED=0 go build -trimpath -tags nooperator -ldflags '$(LDFLAGS)' -o bin/parking-demo ./cmd/parking
	bin/parking-demo simulate -f config/samples/demo.yaml --duration $(DEMO_DURATION)

.PHONY: generate
generate: $(CONTROLLER_GEN) ## Write the generated code and the CRD from the types under api/.
	hack/generate.sh .

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the Go code and group its imports.
	$(GOLANGCI_LINT) fmt

##@ Check

.PHONY: test
test: ## Run all tests with the race detector, against private RabbitMQ and Redis servers (installed when missing).
	hack/test.sh

.PHONY: test-matrix
test-matrix: ## Run the conformance suites against RabbitMQ 3.10 and 4.0, Redis 7 and 8, and Valkey 8 (as root).
	hack/matrix.sh

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (20s).
	hack/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: ## Measure the bare broker and the whole pipeline side by side, then run the Go benchmarks.
	go run ./test/bench
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Run the linters, which are built from hack/tools the first time.
	$(GOLANGCI_LINT) run

.PHONY: verify
verify: $(CONTROLLER_GEN) ## Check that what is generated is what is committed.
	hack/verify.sh

##@ Tools

# The versions are those of hack/tools/go.mod; a change there builds the tools again.
$(GOLANGCI_LINT): hack/tools/go.mod hack/tools/go.sum
	hack/build-tool.sh github.com/golangci/golangci-lint/v2/cmd/golangci-lint $@

$(CONTROLLER_GEN): hack/tools/go.mod hack/tools/go.sum
	hack/build-tool.sh sigs.k8s.io/controller-tools/cmd/controller-gen $@

.PHONY: clean
clean: ## Remove what make built, the downloaded tools and systems included.
	hack/clean.sh
