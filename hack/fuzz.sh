#!/usr/bin/env bash
# Runs each fuzz target of the project for TIME.
#
#   hack/fuzz.sh [TIME]      default: 20s
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-20s}

count=0
while IFS=: read -r file target; do
  count=$((count + 1))
  package=./$(dirname "$file")
  hack/step.sh "Fuzz $package $target" "$time, after a build" go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"
done < <(git ls-files --cached --others --exclude-standard '*_test.go' |
  xargs grep -oE '^func Fuzz[A-Za-z0-9_]*' /dev/null | sed 's/:func /:/')

echo "$count fuzz targets ran."
((count > 0))
