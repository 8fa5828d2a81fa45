#!/usr/bin/env bash
# Runs the conformance suites of the broker and the store against two generations of each server: the
# machine's own (on Debian 12 RabbitMQ 3.10 and Redis 7), and those of Debian 13 (RabbitMQ 4.0, Redis 8,
# Valkey 8), which run by chroot from a folder that is made once, .tools/trixie. Needs root.
#
#   hack/matrix.sh [ARGUMENTS OF go test]
set -euo pipefail
cd "$(dirname "$0")/.."

readonly root=$PWD/.tools/trixie

if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
  echo "The matrix needs root on a Debian machine, for debootstrap and chroot: sudo make test-matrix" >&2
  exit 1
fi

# What is mounted below the folder, here and by debootstrap, is so for this script alone and ends with it.
if [[ -z ${PARKING_MATRIX_NAMESPACE:-} ]]; then
  PARKING_MATRIX_NAMESPACE=1 exec unshare --mount --propagation private "$PWD/hack/matrix.sh" "$@"
fi

# Runs one cell and prints its line. A suite that passes without having met its server has failed.
#
#   cell LABEL PACKAGE [VARIABLE=VALUE...] -- [ARGUMENTS OF go test]
cell() {
  local label=$1 package=$2 log=$logs/$1 report=$logs/$1.report
  shift 2
  local variables=()
  while [[ $1 != -- ]]; do variables+=("$1"); shift; done
  shift
  : >"$report"
  local result=pass start=$SECONDS
  env "${variables[@]}" PARKING_TEST_REQUIRE=1 PARKING_TEST_REPORT="$report" \
    go test -count=1 -run Conformance "$@" "$package" >"$log" 2>&1 || result=FAIL
  local server
  server=$(awk -F '\t' '$1 == "server" {print $3, $4}' "$report" | sort -u | paste -sd, -)
  if [[ -z $server ]]; then
    result=FAIL server="none"
  fi
  printf '%-22s %-20s %-6s %4d s\n' "$label" "$server" "$result" $((SECONDS - start))
  if [[ $result == FAIL ]]; then
    failures=$((failures + 1))
    sed 's/^/    /' "$log"
  fi
}

hack/install-servers.sh
hack/trixie.sh >/dev/null
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc" # an Erlang node reads it
cp /etc/hosts "$root/etc/hosts"

# The servers that were asked for by name are not the matrix's.
unset PARKING_TEST_AMQP_URI PARKING_TEST_REDIS_URI PARKING_RABBITMQ_ROOT PARKING_REDIS_ROOT PARKING_REDIS_SERVER

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
failures=0
printf '%-22s %-20s %-6s %6s\n' SYSTEM SERVER RESULT TIME
cell host-rabbitmq ./internal/broker/... -- "$@"
cell trixie-rabbitmq ./internal/broker/... PARKING_RABBITMQ_ROOT="$root" -- "$@"
cell host-redis ./internal/store/... -- "$@"
cell trixie-redis ./internal/store/... PARKING_REDIS_ROOT="$root" -- "$@"
cell trixie-valkey ./internal/store/... PARKING_REDIS_ROOT="$root" PARKING_REDIS_SERVER=valkey-server -- "$@"
((failures == 0))
