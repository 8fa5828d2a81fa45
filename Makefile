# Run "make" or "make help" for what there is.

MODULE  := github.com/parking-operator/parking-operator
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
DATE    ?= $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)

FUZZTIME      ?= 20s
DEMO_DURATION ?= 20s
SIMULATIONS   ?= 1000

TOOLS          := .tools/bin
GOLANGCI_LINT  := $(TOOLS)/golangci-lint
CONTROLLER_GEN := $(TOOLS)/controller-gen
CRD_REF_DOCS   := $(TOOLS)/crd-ref-docs
KUSTOMIZE      := $(TOOLS)/kustomize
API_LINTER     := $(TOOLS)/golangci-lint-kube-api-linter
HELM           := $(TOOLS)/helm
HELM_DOCS      := $(TOOLS)/helm-docs
HELM_UNITTEST  := $(TOOLS)/helm-unittest
GENERATORS     := $(CONTROLLER_GEN) $(CRD_REF_DOCS) $(HELM_DOCS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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
generate: $(GENERATORS) ## Write what follows from the code: deep copies, CRD, roles, the chart's copies, docs/api.md.
	hack/generate.sh .

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the Go code and group its imports.
	$(GOLANGCI_LINT) fmt

##@ Check

.PHONY: test
test: $(KUSTOMIZE) $(HELM) ## Run all tests with the race detector, against private RabbitMQ and Redis servers (installed when missing).
	hack/test.sh

.PHONY: test-chart
test-chart: $(HELM) $(HELM_UNITTEST) $(KUSTOMIZE) ## Check the chart and the manifests under config, also against a real API server.
	$(HELM) lint --strict charts/parking-operator
	$(HELM_UNITTEST) charts/parking-operator
	KUBEBUILDER_ASSETS=$$(hack/envtest.sh | tail -n 1) PARKING_TEST_REQUIRE=1 go test ./test/manifests

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

.PHONY: bench-operator
bench-operator: build ## Measure the operator with SIMULATIONS (1000) simulations against a real API server.
	KUBEBUILDER_ASSETS=$$(hack/envtest.sh | tail -n 1) go run ./test/bench-operator -simulations $(SIMULATIONS)

.PHONY: lint
lint: $(GOLANGCI_LINT) $(API_LINTER) ## Run the linters, which are built from source the first time.
	$(GOLANGCI_LINT) run
	go vet -tags e2e ./test/e2e
	$(API_LINTER) run --config hack/crd/kube-api-linter.yaml ./api/...

.PHONY: verify
verify: $(GENERATORS) ## Check that what is generated is what is committed.
	hack/verify.sh

include hack/cluster/cluster.mk

##@ Tools

# The versions are those of hack/tools/go.mod; a change there builds the tools again.
$(GOLANGCI_LINT): hack/tools/go.mod hack/tools/go.sum
	hack/build-tool.sh github.com/golangci/golangci-lint/v2/cmd/golangci-lint $@

$(CONTROLLER_GEN): hack/tools/go.mod hack/tools/go.sum
	hack/build-tool.sh sigs.k8s.io/controller-tools/cmd/controller-gen $@

# What builds, documents and checks manifests needs other versions of the same libraries.
$(CRD_REF_DOCS): hack/manifests/go.mod hack/manifests/go.sum
	hack/build-tool.sh github.com/elastic/crd-ref-docs $@ hack/manifests

$(KUSTOMIZE): hack/manifests/go.mod hack/manifests/go.sum
	hack/build-tool.sh sigs.k8s.io/kustomize/kustomize/v5 $@ hack/manifests

$(HELM): hack/manifests/go.mod hack/manifests/go.sum
	hack/build-tool.sh helm.sh/helm/v4/cmd/helm $@ hack/manifests

$(HELM_DOCS): hack/manifests/go.mod hack/manifests/go.sum
	hack/build-tool.sh github.com/norwoodj/helm-docs/cmd/helm-docs $@ hack/manifests

$(HELM_UNITTEST): hack/manifests/go.mod hack/manifests/go.sum
	hack/build-tool.sh github.com/helm-unittest/helm-unittest/cmd/helm-unittest $@ hack/manifests

$(API_LINTER): hack/kube-api-linter/go.mod hack/kube-api-linter/go.sum
	hack/build-tool.sh sigs.k8s.io/kube-api-linter/cmd/golangci-lint-kube-api-linter $@ hack/kube-api-linter

.PHONY: clean
clean: ## Remove what make built, the downloaded tools and systems included.
	hack/clean.sh
