#!/usr/bin/env bash
# Installs the operator in the local cluster and rehearses faults there. make soak-cluster starts the cluster first.
#
#   hack/soak-cluster.sh [FLAG OF test/soak...]
set -euo pipefail
cd "$(dirname "$0")/.."
export KUBECONFIG=$PWD/.cluster/kubeconfig PATH=$PWD/.tools/bin:$PATH

hack/step.sh "Install the operator" "15 s" helm upgrade --install parking-operator charts/parking-operator \
  --namespace parking-operator-system --create-namespace --values .cluster/values.yaml --wait
hack/step.sh "Rehearse faults on the cluster" "11 min for each 18 faults" \
  go run ./test/soak -cluster -directory .soak/cluster "$@"
