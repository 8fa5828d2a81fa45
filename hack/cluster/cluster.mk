# Targets of the local cluster and of what runs on it.

CLUSTER_TOOL  := $(TOOLS)/cluster
IMAGE         ?= docker.io/local/parking-operator:dev
IMAGE_ARCHIVE := bin/parking-image.tar

.PHONY: cluster-up
cluster-up: cluster-tool ## Start a single-node Kubernetes: kind's where Docker answers, else built from source (as root).
	@$(CLUSTER_TOOL) up

.PHONY: cluster-load
cluster-load: cluster-tool image ## Import the operator's image into the local cluster.
	@$(CLUSTER_TOOL) load $(IMAGE_ARCHIVE)

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
