#!/usr/bin/env bash
# Runs the tests with the race detector against real servers, and ends with a table of what ran
# against which server and of every test that was skipped.
#
#   hack/test.sh [ARGUMENTS OF go test]      default: ./...
#
# PARKING_TEST_AMQP_URI and PARKING_TEST_REDIS_URI name servers to use for the tests that only need one.
set -euo pipefail
cd "$(dirname "$0")/.."

# The race detector is written in C.
compiler=$(go env CC)
if ! command -v "${compiler%% *}" >/dev/null; then
  echo "The race detector needs the C compiler ${compiler%% *}." >&2
  hack/apt-install.sh gcc libc6-dev
fi

if hack/install-servers.sh; then
  export PARKING_TEST_REQUIRE=${PARKING_TEST_REQUIRE:-1}
else
  echo "The tests that need what is missing will be skipped." >&2
fi

# The controller's tests talk to a real API server.
KUBEBUILDER_ASSETS=$(hack/envtest.sh | tail -n 1)
export KUBEBUILDER_ASSETS

report=$(mktemp)
trap 'rm -f "$report"' EXIT
export PARKING_TEST_REPORT=$report CGO_ENABLED=1

# A program of its own, not "go run": it must be built before the tests use all processors.
mkdir -p .tools/bin
go build -o .tools/bin/testreport ./hack/testreport

run() { go test -race -json -timeout "${TEST_TIMEOUT:-40m}" "$@"; }

# Modules of their own have tests too, and need what the root module is spared: the API server's code, kstatus, images.
modules=(hack/crd test/kstatus hack/cluster)
others() { for module in "${modules[@]}"; do (cd "$module" && go test -json ./...) || true; done; }

if (($# > 0)); then
  run "$@"
else
  # The report on the output, not the exit code here, says whether anything failed.
  { run ./... || true; others; }
fi | .tools/bin/testreport -servers "$report"
