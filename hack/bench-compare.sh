#!/usr/bin/env bash
# Compares the performance of two versions: BASE, a commit, and the working tree. Measures them alternately, ROUNDS (6)
# times each, and prints which differences exceed the noise. With fewer than 4 rounds, none can. The bare broker is
# measured too: it does not depend on the version, so a difference there means that the machine has changed.
#
#   hack/bench-compare.sh BASE [FLAG OF test/bench...]
#
# If BENCH is set, it also compares the Go benchmarks that match this regular expression, in PACKAGES (./internal/...).
set -euo pipefail
cd "$(dirname "$0")/.."
(($# >= 1)) && [[ -n $1 ]] || { echo "usage: make bench-compare BASE=<commit>" >&2; exit 2; }
commit=$(git rev-parse --verify --quiet "$1^{commit}") || { echo "$1 is not a commit" >&2; exit 2; }
base=$1
shift
rounds=${ROUNDS:-6}
hack/install-servers.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/base" bin 2>/dev/null || true
git archive "$commit" | tar -x -C "$work/base"
ln -s "$PWD" "$work/new"
for version in base new; do
  (cd "$work/$version" && "$OLDPWD/hack/step.sh" -q "Build parking, $version" "1 min" \
    env CGO_ENABLED=0 go build -trimpath -o "$work/parking-$version" ./cmd/parking)
  : >"bin/bench-$version.txt"
done
go build -o "$work/bench" ./test/bench

SECONDS=0
done=0
for ((round = 1; round <= rounds; round++)); do
  # The order changes, so that neither version always comes first.
  order=(base new)
  ((round % 2)) || order=(new base)
  for version in "${order[@]}"; do
    left=$((2 * rounds - done)) # in minutes, if each takes one
    ((done == 0)) || left=$((SECONDS * left / done / 60 + 1))
    echo "==> Round $round of $rounds: $version (about $left min left)"
    "$work/bench" -quick -run '^(ceiling|saturated|drain|memory|offered)$' -parking "$work/parking-$version" \
      -json "$work/report.json" -benchfmt "bin/bench-$version.txt" "$@" >/dev/null
    [[ -z ${BENCH:-} ]] || (cd "$work/$version/." && go test -run '^$' -bench "$BENCH" ${PACKAGES:-./internal/...}) |
      { grep -E '^(Benchmark|pkg:|Unit )' || true; } >>"bin/bench-$version.txt" || [[ $version == base ]] # it may lack a package
    done=$((done + 1))
  done
done
echo
echo "base is $base ($commit). ~ means that the difference does not exceed the noise (p > 0.05)."
.tools/bin/benchstat base=bin/bench-base.txt new=bin/bench-new.txt
