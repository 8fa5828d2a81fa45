#!/usr/bin/env bash
# Installs the operator in the local cluster with kubectl. Helm would have to be built first, which takes two minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
export KUBECONFIG=$PWD/.cluster/kubeconfig PATH=$PWD/.tools/bin:$PATH

# run USUALLY COMMAND... shows a command and runs it.
run() {
  local usually=$1
  shift
  hack/step.sh "$*" "$usually" "$@"
}

# The end-to-end tests leave the custom resource definition of the chart in the cluster. Helm owns its fields, so only
# --force-conflicts lets kubectl apply it.
run "2 s" kubectl apply --server-side --force-conflicts -k .cluster/operator
run "5 s" kubectl rollout status deployment/parking-operator-controller-manager --namespace parking-operator-system --timeout 5m
