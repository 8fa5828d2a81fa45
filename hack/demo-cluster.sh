#!/usr/bin/env bash
# Installs the operator in the local cluster, starts a simulation with default settings, and shows its status.
# make demo-cluster starts the cluster first.
set -euo pipefail
cd "$(dirname "$0")/.."
export KUBECONFIG=$PWD/.cluster/kubeconfig PATH=$PWD/.tools/bin:$PATH

# run USUALLY COMMAND... shows a command and runs it.
run() {
  local usually=$1
  shift
  hack/step.sh "$*" "$usually" "$@"
}

hack/install-operator.sh
run "1 s" kubectl apply -f config/samples/minimal.yaml
run "30 s" kubectl wait psim/minimal --for condition=Ready --timeout 5m
run "10 s" kubectl wait psim/minimal --for 'jsonpath={.status.ledger.processed}' --timeout 2m
kubectl get psim

cat <<END

The simulation runs. Go on with

  export KUBECONFIG=$KUBECONFIG PATH=$PWD/.tools/bin:\$PATH
  kubectl get psim --watch
END
