#!/usr/bin/env bash
# Runs the tests with the race detector, against private RabbitMQ and Redis servers and a real Kubernetes API
# server. At the end, prints the failed tests, the skipped tests with their reasons, the versions of the servers, and
# the totals.
#
#   hack/test.sh [ARGUMENT OF go test...]      default: every package of every module
#
# PARKING_TEST_AMQP_URI and PARKING_TEST_REDIS_URI select existing servers for the tests that can share a server.
set -euo pipefail
cd "$(dirname "$0")/.."

# The race detector needs cgo.
compiler=$(go env CC)
command -v "${compiler%% *}" >/dev/null || hack/apt-install.sh gcc libc6-dev

if hack/install-servers.sh; then
  export PARKING_TEST_REQUIRE=${PARKING_TEST_REQUIRE:-1}
else
  echo "Tests of the missing servers will be skipped." >&2
fi

KUBEBUILDER_ASSETS=$(hack/envtest.sh)
PARKING_TEST_REPORT=$(mktemp) # test/servers writes which servers the tests use
totals=$(mktemp)
trap 'rm -f "$PARKING_TEST_REPORT" "$totals"' EXIT
export KUBEBUILDER_ASSETS PARKING_TEST_REPORT CGO_ENABLED=1

# Modules with tests, other than the root module. They have dependencies that the root module must not have.
export OTHER_MODULES="hack/crd hack/image test/kstatus hack/cluster"
# The longest package, test/faults, takes 20 min on two slow cores, and several times as long on busy ones.
export TEST_TIMEOUT=${TEST_TIMEOUT:-80m}

# run_tests runs all tests, even if some fail, and prints the output of go test -json.
run_tests() {
  local code=0
  if (($# > 0)); then
    go test -race -json -timeout "$TEST_TIMEOUT" "$@" || code=1
    return $code
  fi
  # The tests in test/faults take longest, and mostly wait. So they run first, at the same time as the others.
  go test -race -json -timeout "$TEST_TIMEOUT" ./test/faults ./... || code=1
  for module in $OTHER_MODULES; do
    (cd "$module" && go test -json ./...) || code=1
  done
  return $code
}
export -f run_tests

code=0
hack/step.sh "Run the tests" "40 min on two cores; the race detector is compiled in first" \
  .tools/bin/gotestsum --format pkgname --format-hide-empty-pkg \
  --post-run-command "bash -c 'env | grep ^TESTS_ >$totals'" \
  --raw-command -- bash -c 'run_tests "$@"' run_tests "$@" || code=$?

# Print what gotestsum does not: the versions of the servers, and the totals on a separate line for other programs.
printf '\n%-10s %-10s %9s  %s\n' SERVER VERSION INSTANCES PACKAGE
awk -F '\t' '$1 == "server" {print $3, $4, $2}' "$PARKING_TEST_REPORT" | sort | uniq -c |
  awk '{printf "%-10s %-10s %9d  %s\n", $2, $3, $1, $4}'
TESTS_TOTAL=0 TESTS_FAILED=0 TESTS_SKIPPED=0
. "$totals"
printf '\nTests: %d passed, %d failed, %d skipped\n' \
  $((TESTS_TOTAL > 0 ? TESTS_TOTAL - TESTS_FAILED - TESTS_SKIPPED : 0)) "$TESTS_FAILED" "$TESTS_SKIPPED"
exit "$code"
