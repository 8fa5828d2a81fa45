#!/usr/bin/env bash
# Installs the operator into the local cluster, starts the smallest simulation, and shows it once it runs.
# make demo-cluster brings what it needs.
set -euo pipefail
cd "$(dirname "$0")/.."
export KUBECONFIG=$PWD/.cluster/kubeconfig PATH=$PWD/.tools/bin:$PATH

# step runs a command, which it shows, and how long that took.
step() {
  local start=$EPOCHREALTIME
  printf '\n$ %s\n' "$*"
  "$@"
  awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN {printf "%64.1f s\n", b - a}'
}

step helm upgrade --install parking-operator charts/parking-operator \
  --namespace parking-operator-system --create-namespace --values .cluster/values.yaml --wait
step kubectl apply -f config/samples/minimal.yaml
step kubectl wait psim/minimal --for condition=Ready --timeout 5m
step kubectl wait psim/minimal --for 'jsonpath={.status.ledger.processed}' --timeout 2m
step kubectl get psim

cat <<END

It runs. Go on with

  export KUBECONFIG=$KUBECONFIG PATH=$PWD/.tools/bin:\$PATH
  kubectl get psim --watch
END
