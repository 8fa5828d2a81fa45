#!/usr/bin/env bash
# Installs the operator in the local cluster and rehearses faults there. make soak-cluster starts the cluster first.
#
#   hack/soak-cluster.sh [FLAG OF test/soak...]
set -euo pipefail
cd "$(dirname "$0")/.."
export KUBECONFIG=$PWD/.cluster/kubeconfig PATH=$PWD/.tools/bin:$PATH

hack/install-operator.sh
hack/step.sh "Rehearse faults on the cluster" "11 min for each 18 faults" \
  go run ./test/soak -cluster -directory .soak/cluster "$@"
