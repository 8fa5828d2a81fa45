#!/usr/bin/env bash
# Generates in a copy of the source tree and compares: exits 1 and shows the difference when what is
# in the tree is not what its types give.
set -euo pipefail
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir -p config/crd/bases "$copy/config/crd"
cp -r go.mod go.sum api "$copy"
hack/generate.sh "$copy"

if ! diff -ru api "$copy/api" || ! diff -ru config/crd/bases "$copy/config/crd/bases"; then
  echo "The generated files are out of date: run make generate and commit what it changes." >&2
  exit 1
fi
echo "The generated files are up to date."
