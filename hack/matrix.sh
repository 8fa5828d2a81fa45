#!/usr/bin/env bash
# Runs three kinds of tests of the broker and the store: the conformance suites, the tests on clusters, and the failover
# tests of the store. It runs them against two generations of each server: those of this machine (on Debian 12 RabbitMQ
# 3.10 and Redis 7), and those of Debian 13 (RabbitMQ 4.0, Redis 8, Valkey 8), which run with chroot from
# .tools/debian13. On Valkey 8, it also runs the fault tests with failovers or a cluster. Needs root on a Debian
# machine.
#
#   hack/matrix.sh [ARGUMENT OF go test...]
#
# CELLS='*valkey*' runs only the cells whose label, such as debian13-valkey, matches this pattern.
set -euo pipefail
cd "$(dirname "$0")/.."

if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
  echo "The matrix needs root on a Debian machine: sudo make test-matrix" >&2
  exit 1
fi

# A private mount namespace removes the mounts of this script when it ends.
if [[ -z ${PARKING_MATRIX_NAMESPACE:-} ]]; then
  PARKING_MATRIX_NAMESPACE=1 exec unshare --mount --propagation private "$PWD/hack/matrix.sh" "$@"
fi

# cell LABEL PACKAGE [VARIABLE=VALUE...] -- [ARGUMENT OF go test...]
#
# Runs one cell and adds its row to the table. A suite that passes without connecting to a server counts as failed.
cell() {
  local label=$1 package=$2 report=$results/$1.report
  # shellcheck disable=SC2053 # CELLS is a pattern
  [[ $label == ${CELLS:-*} ]] || return 0
  shift 2
  local variables=()
  while [[ $1 != -- ]]; do variables+=("$1"); shift; done
  shift
  : >"$report"
  local result=pass start=$SECONDS server
  env "${variables[@]}" PARKING_TEST_REQUIRE=1 PARKING_TEST_REPORT="$report" \
    hack/step.sh -q "Test $label" "1 to 7 min" go test -timeout 30m -count=1 -run 'Conformance|Failover|Cluster' "$@" "$package" || result=FAIL
  server=$(awk -F '\t' '$1 == "server" {print $3, $4}' "$report" | sort -u | paste -sd, -)
  [[ -n $server ]] || result=FAIL
  [[ $result == pass ]] || failures=$((failures + 1))
  printf '%-22s %-20s %-6s %4d s\n' "$label" "${server:-no server}" "$result" $((SECONDS - start)) >>"$results/table"
}

hack/install-servers.sh
root=$(hack/debian13.sh rabbitmq-server redis-server valkey-server)
mount -t proc proc "$root/proc" # an Erlang node reads it
cp /etc/hosts "$root/etc/hosts"

# The matrix selects the servers, so ignore these variables.
unset PARKING_TEST_AMQP_URI PARKING_TEST_REDIS_URI PARKING_RABBITMQ_ROOT PARKING_REDIS_ROOT PARKING_REDIS_SERVER

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
failures=0
cell host-rabbitmq ./internal/broker/... -- "$@"
cell debian13-rabbitmq ./internal/broker/... PARKING_RABBITMQ_ROOT="$root" -- "$@"
cell host-redis ./internal/store/... -- "$@"
cell debian13-redis ./internal/store/... PARKING_REDIS_ROOT="$root" -- "$@"
cell debian13-valkey ./internal/store/... PARKING_REDIS_ROOT="$root" PARKING_REDIS_SERVER=valkey-server -- "$@"
cell debian13-valkey-faults ./test/faults PARKING_REDIS_ROOT="$root" PARKING_REDIS_SERVER=valkey-server -- "$@"

[[ -e $results/table ]] || { echo "No cell matches CELLS=$CELLS." >&2; exit 1; }
printf '\n%-22s %-20s %-6s %6s\n' SYSTEM SERVER RESULT TIME
cat "$results/table"
((failures == 0))
