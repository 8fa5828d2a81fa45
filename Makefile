# Run "make" or "make help" to list the targets.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
DATE    ?= $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)

FUZZTIME      ?= 20s
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
GOTESTSUM      := $(TOOLS)/gotestsum
BENCHSTAT      := $(TOOLS)/benchstat
GENERATORS     := $(CONTROLLER_GEN) $(CRD_REF_DOCS) $(HELM_DOCS)

# STEP runs a long command. It prints what the command does, how long it usually takes, and progress lines.
STEP := hack/step.sh

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Build

.PHONY: build
build: ## Build bin/parking, a static binary that knows its version.
	@CGO_ENABLED=0 $(STEP) -q "Build bin/parking" "3 min the first time, then 10 s" \
		go build -v -trimpath -ldflags '$(LDFLAGS)' -o bin/parking ./cmd/parking

.PHONY: demo
demo: ## Run a simulation with five faults in this terminal for 20 s, without a cluster or servers.
	@# Without the operator and the server clients: their libraries would make a first build take much longer. Without
	@# inlining, the build takes a third less, and the demo is fast enough.
	@CGO_ENABLED=0 $(STEP) -q "Build bin/parking-demo" "1 min the first time, then 5 s" \
		go build -v -trimpath -tags nooperator,noservers -gcflags=all=-l -ldflags '$(LDFLAGS)' -o bin/parking-demo ./cmd/parking
	bin/parking-demo simulate -f config/samples/demo.yaml

.PHONY: krew
krew: ## Write the archives of the kubectl plugin and the manifest for krew to bin/krew (VERSION=v1.2.3, PLATFORMS=linux_arm64 for some).
	@$(STEP) "Build the kubectl plugin for $(or $(PLATFORMS),all platforms)" "12 min the first time, then 1 min" \
		hack/krew/build.sh '$(VERSION)' '$(LDFLAGS)' $(PLATFORMS)

.PHONY: generate
generate: $(GENERATORS) ## Generate what is derived from the code: deep copies, CRD, roles, the chart's copies of CRD and roles, docs/api.md, the live page's npm files.
	@$(STEP) "Generate deep copies, CRD, roles and docs/api.md" "20 s" hack/generate.sh .

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the Go code and group its imports.
	$(GOLANGCI_LINT) fmt

##@ Check

.PHONY: check
check: fmt lint unit ## Format, lint, and run the unit tests without servers: the inner loop, under 60 s when warm.

.NOTPARALLEL: check

.PHONY: unit
unit: ## Run the tests that need no server.
	@$(STEP) "Run the unit tests" "2 min the first time, then 20 s" go test -short ./...

.PHONY: test
test: $(KUSTOMIZE) $(HELM) $(GOTESTSUM) ## Run all tests with the race detector, against private RabbitMQ and Redis servers (installed when missing).
	@hack/test.sh

.PHONY: test-chart
test-chart: $(HELM) $(HELM_UNITTEST) $(KUSTOMIZE) ## Check the chart and the manifests below config, also against a real API server.
	$(HELM) lint --strict charts/parking-operator
	$(HELM_UNITTEST) charts/parking-operator
	@KUBEBUILDER_ASSETS=$$(hack/envtest.sh) PARKING_TEST_REQUIRE=1 \
		$(STEP) "Apply the manifests to a real API server" "1 min" go test ./test/manifests

.PHONY: test-certmanager
test-certmanager: ## Run a simulation with certificates of cert-manager, whose controllers are built from source the first time.
	@KUBEBUILDER_ASSETS=$$(hack/envtest.sh) PARKING_TEST_REQUIRE=1 \
		$(STEP) "Run cert-manager and the operator" "4 min the first time, then 30 s" go test -C hack/certmanager .

.PHONY: test-matrix
test-matrix: ## As root, run the conformance suites and the tests on clusters against RabbitMQ 3.10 and 4.0, Redis 7 and 8, and Valkey 8, and the fault test with failovers on Valkey 8 (CELLS=pattern for some).
	@CELLS='$(CELLS)' hack/matrix.sh

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (20s).
	@hack/fuzz.sh $(FUZZTIME)

# A soak consists of runs of some minutes. Their reports are kept in .soak, so an interrupted soak continues.
FAULTS ?= 1000
JOBS ?= 1

.PHONY: soak
soak: build ## Rehearse FAULTS (1000) faults on the servers of the matrix, JOBS (1) runs of 5 minutes at a time.
	@hack/soak.sh -faults $(FAULTS) -jobs $(JOBS)

# FLAGS are flags of test/bench; see "go run ./test/bench -help".
.PHONY: bench
bench: ## Compare the pipeline with the bare broker and with simpler processors (FLAGS=--quick takes 2 min). Installs missing servers.
	@hack/install-servers.sh
	@$(STEP) "Measure the pipeline and what it is compared with" "14 min, or 2 min with --quick" go run ./test/bench $(FLAGS)

.PHONY: bench-compare
bench-compare: $(BENCHSTAT) ## Measure commit BASE and the working tree alternately, and print which differences exceed the noise (ROUNDS=6, BENCH=regexp for Go benchmarks).
	@hack/bench-compare.sh '$(BASE)' $(FLAGS)

.PHONY: bench-go
bench-go: ## Run the Go benchmarks.
	@$(STEP) "Run the Go benchmarks" "5 min" go test -run '^$$' -bench . -benchmem ./...

.PHONY: bench-costs
bench-costs: ## Measure the CPU and memory costs on which the predictions of `parking plan` are based, check the predictions, and update docs/sizing.md.
	@hack/install-servers.sh
	@$(STEP) "Measure the costs per component, and check the predictions" "13 min" \
		go run ./test/bench -rounds 3 -length 15s -costs internal/sizing/costs.json -check-sizing internal/sizing/testdata/check.json
	@$(STEP) "Update docs/sizing.md" "30 s" go test -run TestDocs_Sizing ./cmd/parking -update

.PHONY: bench-partitions
bench-partitions: ## Measure how the throughput grows with partitions and processors, and update docs/sizing.md.
	@hack/install-servers.sh
	@$(STEP) "Measure the throughput with 1, 2, 4 and 8 partitions" "6 min" go run ./test/bench -partitions internal/sizing/testdata/partitions.json -rounds 3
	@$(STEP) "Update docs/sizing.md" "30 s" go test -run TestDocs_Sizing ./cmd/parking -update

.PHONY: bench-operator
bench-operator: build ## Measure the operator with SIMULATIONS (1000) simulations against a real API server.
	@KUBEBUILDER_ASSETS=$$(hack/envtest.sh) $(STEP) "Measure the operator with $(SIMULATIONS) simulations" "10 min" \
		go run ./test/bench-operator -simulations $(SIMULATIONS)

.PHONY: lint
lint: $(GOLANGCI_LINT) $(API_LINTER) ## Run the linters, which are built from source the first time.
	@$(STEP) "Lint the Go code" "5 min the first time, then 20 s" $(GOLANGCI_LINT) run
	@$(STEP) "Vet the e2e tests" "10 s" go vet -tags e2e ./test/e2e
	@$(STEP) "Vet the tests with cert-manager" "3 min the first time, then 5 s" go vet -C hack/certmanager .
	@$(STEP) "Lint the API types" "30 s the first time, then 5 s" \
		$(API_LINTER) run --config hack/crd/kube-api-linter.yaml ./api/...

.PHONY: verify
verify: $(GENERATORS) ## Check that the generated files are up to date.
	@$(STEP) "Compare the generated files with their sources" "20 s" hack/verify.sh

include hack/cluster/cluster.mk

##@ Tools

# hack/tools/go.mod pins the versions; a change there builds the tools again.
$(GOLANGCI_LINT): hack/tools/go.mod hack/tools/go.sum
	@hack/build-tool.sh github.com/golangci/golangci-lint/v2/cmd/golangci-lint $@ "4 min"

$(CONTROLLER_GEN): hack/tools/go.mod hack/tools/go.sum
	@hack/build-tool.sh sigs.k8s.io/controller-tools/cmd/controller-gen $@ "1 min"

$(GOTESTSUM): hack/tools/go.mod hack/tools/go.sum
	@hack/build-tool.sh gotest.tools/gotestsum $@ "10 s"

$(BENCHSTAT): hack/benchstat/go.mod hack/benchstat/go.sum
	@hack/build-tool.sh golang.org/x/perf/cmd/benchstat $@ "10 s" hack/benchstat

# The tools for manifests need other versions of the same libraries.
$(CRD_REF_DOCS): hack/manifests/go.mod hack/manifests/go.sum
	@hack/build-tool.sh github.com/elastic/crd-ref-docs $@ "30 s" hack/manifests

$(KUSTOMIZE): hack/manifests/go.mod hack/manifests/go.sum
	@hack/build-tool.sh sigs.k8s.io/kustomize/kustomize/v5 $@ "30 s" hack/manifests

$(HELM): hack/manifests/go.mod hack/manifests/go.sum
	@hack/build-tool.sh helm.sh/helm/v4/cmd/helm $@ "2 min" hack/manifests

$(HELM_DOCS): hack/manifests/go.mod hack/manifests/go.sum
	@hack/build-tool.sh github.com/norwoodj/helm-docs/cmd/helm-docs $@ "1 min" hack/manifests

$(HELM_UNITTEST): hack/manifests/go.mod hack/manifests/go.sum
	@hack/build-tool.sh github.com/helm-unittest/helm-unittest/cmd/helm-unittest $@ "2 min" hack/manifests

$(API_LINTER): hack/kube-api-linter/go.mod hack/kube-api-linter/go.sum
	@hack/build-tool.sh sigs.k8s.io/kube-api-linter/cmd/golangci-lint-kube-api-linter $@ "3 min" hack/kube-api-linter

.PHONY: clean
clean: ## Remove everything that make built or downloaded.
	hack/clean.sh
