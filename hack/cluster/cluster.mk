# Targets of the local cluster and of what runs on it.

CLUSTER_TOOL  := $(TOOLS)/cluster
IMAGE         ?= docker.io/local/parking-operator:dev
IMAGE_ARCHIVE := bin/parking-image.tar

# Tests that run at a time, each with a simulation of its own: as many as two cores can bear.
E2E_PARALLEL ?= 2

# The image that the tests upgrade from, but on an existing cluster.
PREVIOUS_TAG     := previous
PREVIOUS_IMAGE   := docker.io/local/parking-operator:$(PREVIOUS_TAG)
PREVIOUS_ARCHIVE := bin/previous-image.tar

# An existing cluster comes with its own kubeconfig, pulls the images that the files E2E_VALUES and E2E_MONITORING
# name, and has its processes killed if E2E_NODE_SHELL says what runs a command on its node.
ifeq ($(CLUSTER),existing)
E2E_KUBECONFIG := $(KUBECONFIG)
E2E_MONITORING ?= hack/cluster/config/monitoring-kind.yaml
else
E2E_KUBECONFIG   := $(CURDIR)/.cluster/kubeconfig
E2E_VALUES       := .cluster/values.yaml
E2E_MONITORING   := .cluster/monitoring.yaml
E2E_PREVIOUS_TAG := $(PREVIOUS_TAG)
E2E_NODE_SHELL   := $(CLUSTER_TOOL) shell
endif

.PHONY: demo-cluster
demo-cluster: refuse-existing cluster-up cluster-load $(HELM) ## Install the operator into the local cluster, which it starts, and run the smallest simulation there.
	@hack/demo-cluster.sh

.PHONY: refuse-existing
refuse-existing:
	@[ "$(CLUSTER)" != existing ] || { echo "The demo is for the local cluster; docs/operations.md says how to install into another." >&2; exit 2; }

.PHONY: cluster-check
cluster-check: cluster-tool ## Say what this machine lacks for the local cluster, if anything.
	@$(CLUSTER_TOOL) check

.PHONY: cluster-up
cluster-up: cluster-tool ## Start a single-node Kubernetes: kind's where Docker answers, else built from source (as root).
	@$(CLUSTER_TOOL) up

.PHONY: cluster-load
cluster-load: cluster-tool image ## Import the operator's image into the local cluster.
	@[ "$(CLUSTER)" = existing ] || $(CLUSTER_TOOL) load $(IMAGE_ARCHIVE)

.PHONY: cluster-load-previous
cluster-load-previous: cluster-tool build
	@[ "$(CLUSTER)" = existing ] || hack/previous-image.sh $(PREVIOUS_IMAGE) $(PREVIOUS_ARCHIVE)
	@[ "$(CLUSTER)" = existing ] || $(CLUSTER_TOOL) load $(PREVIOUS_ARCHIVE)

.PHONY: cluster-monitoring
cluster-monitoring: cluster-tool ## Import the images of Prometheus and its operator, built from source, into the local cluster.
	@$(CLUSTER_TOOL) monitoring

.PHONY: cluster-down
cluster-down: cluster-tool ## Remove the local cluster with all that it left on the machine.
	@$(CLUSTER_TOOL) down

.PHONY: cluster-tool
cluster-tool:
	@cd hack/cluster && CGO_ENABLED=0 go build -trimpath -o ../../$(CLUSTER_TOOL) .

.PHONY: image
image: build ## Write the image of bin/parking as an OCI archive, bin/parking-image.tar, without a container engine.
	@cd hack/image && go run . -binary ../../bin/parking -output ../../$(IMAGE_ARCHIVE) -name $(IMAGE) \
		-version '$(VERSION)' -commit '$(COMMIT)' -date '$(DATE)'

# What a target needs is to be done in the order in which it is listed, with make -j too.
.NOTPARALLEL: demo-cluster cluster-load test-e2e

.PHONY: test-e2e
test-e2e: cluster-up cluster-load cluster-load-previous cluster-monitoring $(HELM) ## Test the chart and the samples on the local cluster, or on that of KUBECONFIG with CLUSTER=existing.
	KUBECONFIG=$(E2E_KUBECONFIG) E2E_VALUES=$(E2E_VALUES) E2E_MONITORING=$(E2E_MONITORING) \
		E2E_PREVIOUS_TAG=$(E2E_PREVIOUS_TAG) E2E_NODE_SHELL='$(E2E_NODE_SHELL)' \
		go test -tags e2e -count=1 -timeout 20m -parallel $(E2E_PARALLEL) -v $(E2E_FLAGS) ./test/e2e
