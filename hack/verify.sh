#!/usr/bin/env bash
# Runs the generators in a copy of the source tree. If the result differs from the source tree, shows the
# differences and exits with 1. It also exits with 1 if code or documentation contains words that the project avoids.
set -euo pipefail
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
sources=(go.mod go.sum api config controllers/rbac.go charts hack/docs internal/view/assets)
generated=(api config charts docs/api.md internal/view/assets)
for path in "${sources[@]}"; do
  mkdir -p "$copy/$(dirname "$path")"
  cp -r "$path" "$copy/$path"
done
mkdir -p "$copy/docs"
hack/generate.sh "$copy"

differs=0
for path in "${generated[@]}"; do
  diff -ruN "$path" "$copy/$path" || differs=1
done
if ((differs)); then
  echo "The generated files are out of date: run make generate and commit the changes." >&2
  exit 1
fi
echo "The generated files are up to date."

# These words are old-fashioned, or have a plainer synonym in the glossary.
avoided='wish|stranger|made anew|is none\b|spoilt|bury'
if git grep --line-number --ignore-case --extended-regexp "$avoided" -- '*.go' '*.md'; then
  echo "Replace the words above: see the section Words of CONTRIBUTING.md." >&2
  exit 1
fi
