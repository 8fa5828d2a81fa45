#!/usr/bin/env bash
# Installs the Debian packages that are named, and starts none of their services.
# Needs root and apt-get; without them it says what to type and exits 1.
set -euo pipefail

(($# > 0)) || { echo "usage: $0 PACKAGE..." >&2; exit 2; }

if ! command -v apt-get >/dev/null; then
  echo "Missing: $*. This is not a Debian or Ubuntu machine: install them with its own package manager." >&2
  exit 1
fi
if ((EUID != 0)); then
  echo "Missing: $*. Only root can install them: sudo $0 $*" >&2
  exit 1
fi

# Maintainer scripts ask this file before they start a service; 101 forbids it. One that is there is
# the machine's own policy and stays.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive

echo "Installing with apt-get, no service is started: $*"
apt-get update -qq
apt-get install -qq -y --no-install-recommends "$@" >/dev/null
