# Targets that use a cluster.

CLUSTER_TOOL  := $(TOOLS)/cluster
IMAGE         ?= docker.io/local/parking-operator:dev
IMAGE_ARCHIVE := bin/parking-image.tar

# Tests that run at the same time, each with its own simulation: two cores cannot run more.
E2E_PARALLEL ?= 2

# The image that the tests upgrade from. An existing cluster does not have it.
PREVIOUS_TAG     := previous
PREVIOUS_IMAGE   := docker.io/local/parking-operator:$(PREVIOUS_TAG)
PREVIOUS_ARCHIVE := bin/previous-image.tar

# An existing cluster has its own kubeconfig and pulls the images that the files E2E_VALUES and E2E_MONITORING name.
# The tests kill processes on a node of the cluster only if E2E_NODE_SHELL is set. It is the beginning of a command, such
# as "docker exec NODE": what follows it runs on the node.
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
demo-cluster: refuse-existing cluster-up cluster-load ## Start the local cluster, install the operator, and run the smallest simulation (12 min the first time).
	@hack/demo-cluster.sh

.PHONY: soak-cluster
soak-cluster: refuse-existing cluster-up cluster-load ## Rehearse FAULTS (1000) faults on the local cluster, JOBS (1) runs of 11 minutes at a time.
	@hack/soak-cluster.sh -faults $(FAULTS) -jobs $(JOBS)

.PHONY: refuse-existing
refuse-existing:
	@[ "$(CLUSTER)" != existing ] || { echo "The demo uses the local cluster; see docs/operations.md to install into another." >&2; exit 2; }

.PHONY: cluster-check
cluster-check: cluster-tool ## Check that this machine can run the local cluster.
	@$(CLUSTER_TOOL) check

.PHONY: cluster-up
cluster-up: cluster-tool ## Start a single-node Kubernetes: with kind where Docker answers, else built from source (as root).
	@$(CLUSTER_TOOL) up

.PHONY: cluster-load
cluster-load: cluster-tool image ## Import the operator's image into the local cluster.
	@[ "$(CLUSTER)" = existing ] || $(CLUSTER_TOOL) load $(IMAGE_ARCHIVE)

.PHONY: cluster-load-previous
cluster-load-previous: cluster-tool build
	@[ "$(CLUSTER)" = existing ] || $(STEP) "Write the image of the commit before this one" "3 min the first time" \
		hack/previous-image.sh $(PREVIOUS_IMAGE) $(PREVIOUS_ARCHIVE)
	@[ "$(CLUSTER)" = existing ] || $(CLUSTER_TOOL) load $(PREVIOUS_ARCHIVE)

.PHONY: cluster-monitoring
cluster-monitoring: cluster-tool ## Import the images of Prometheus and its operator, built from source, into the local cluster.
	@$(CLUSTER_TOOL) monitoring

.PHONY: cluster-policies
cluster-policies: cluster-tool ## Build kube-router from source, so that the next cluster-up enforces NetworkPolicies.
	@$(CLUSTER_TOOL) policies

.PHONY: cluster-down
cluster-down: cluster-tool ## Remove the local cluster and everything that it left on the machine.
	@$(CLUSTER_TOOL) down

.PHONY: cluster-tool
cluster-tool:
	@cd hack/cluster && CGO_ENABLED=0 ../../$(STEP) -q "Build the cluster tool" "1 min the first time, then 2 s" \
		go build -v -trimpath -o ../../$(CLUSTER_TOOL) .

.PHONY: image
image: build ## Write the image of bin/parking to an archive, bin/parking-image.tar, without a container engine.
	@# With the flags of the other builds, so that the standard library is not compiled again.
	@cd hack/image && CGO_ENABLED=0 ../../$(STEP) "Write the image" "20 s the first time, then 5 s" go run -trimpath . -binary ../../bin/parking -output ../../$(IMAGE_ARCHIVE) -name $(IMAGE) \
		-version '$(VERSION)' -commit '$(COMMIT)' -date '$(DATE)'

# Prerequisites run in the listed order, with make -j too.
.NOTPARALLEL: demo-cluster soak-cluster cluster-load test-e2e

.PHONY: test-e2e
test-e2e: cluster-policies cluster-up cluster-load cluster-load-previous cluster-monitoring $(HELM) ## Test the chart and the samples on the local cluster, or with CLUSTER=existing on that of KUBECONFIG.
	@command -v chromium >/dev/null || hack/apt-install.sh chromium fonts-dejavu-core
	@KUBECONFIG=$(E2E_KUBECONFIG) E2E_VALUES=$(E2E_VALUES) E2E_MONITORING=$(E2E_MONITORING) \
		E2E_PREVIOUS_TAG=$(E2E_PREVIOUS_TAG) E2E_NODE_SHELL='$(E2E_NODE_SHELL)' \
		$(STEP) "Run the end-to-end tests" "30 min" go test -tags e2e -count=1 -timeout 90m -parallel $(E2E_PARALLEL) -v $(E2E_FLAGS) ./test/e2e
