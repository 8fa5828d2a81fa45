#!/usr/bin/env bash
# Removes everything that make built. Fails while the local cluster exists, or while a file system is mounted below
# .tools, because rm would delete the files on it.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -d .tools ]] && grep -qF " $PWD/.tools/" /proc/self/mounts 2>/dev/null; then
  echo "Something is mounted below .tools: unmount it first (see /proc/self/mounts)." >&2
  exit 1
fi
if [[ -e .cluster/node.json || -e .cluster/kubeconfig ]]; then # native, or kind
  echo "The local cluster exists: run make cluster-down first." >&2
  exit 1
fi
rm -rf bin .tools .cache .cluster
