#!/usr/bin/env bash
# Runs each fuzz target of the project for a while.
#
#   hack/fuzz.sh [TIME]      default: 20s
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-20s}

found=0
while IFS=: read -r file target; do
  found=$((found + 1))
  package=./$(dirname "$file")
  echo "== $package $target for $time"
  go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package"
done < <(git ls-files --cached --others --exclude-standard '*_test.go' |
  xargs grep -oE '^func Fuzz[A-Za-z0-9_]*' /dev/null | sed 's/:func /:/')

echo "$found fuzz targets ran."
((found > 0))
