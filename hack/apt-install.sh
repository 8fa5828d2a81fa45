#!/usr/bin/env bash
# Installs Debian packages without starting their services. Needs root and apt-get. If one of them is missing, prints
# what to do instead and exits 1.
#
#   hack/apt-install.sh PACKAGE...
set -euo pipefail

(($# > 0)) || { echo "usage: $0 PACKAGE..." >&2; exit 2; }

if ! command -v apt-get >/dev/null; then
  echo "Missing: $*. This machine has no apt-get: install them with its own package manager." >&2
  exit 1
fi
if ((EUID != 0)); then
  echo "Missing: $*. Only root can install them: sudo $0 $*" >&2
  exit 1
fi

# Packages run this file before they start a service. Exit code 101 forbids the start. Do not replace an existing
# file, because it is the policy of the machine.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive

install() {
  apt-get update && apt-get install -y --no-install-recommends "$@"
}
export -f install
"$(dirname "$0")/step.sh" -q "Install with apt-get: $*" "1 min" bash -c 'install "$@"' install "$@"
