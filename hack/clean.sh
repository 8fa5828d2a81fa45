#!/usr/bin/env bash
# Removes what make built. A system under .tools may have parts mounted, which rm must not enter.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -d .tools ]] && grep -qF " $PWD/.tools/" /proc/self/mounts 2>/dev/null; then
  echo "Something is mounted below .tools: unmount it first (see /proc/self/mounts)." >&2
  exit 1
fi
if [[ -e .cluster/node.json || -e .cluster/kubeconfig ]]; then # the local cluster is our own, or kind's
  echo "The local cluster is there: make cluster-down first." >&2
  exit 1
fi
rm -rf bin .tools .cache .cluster
