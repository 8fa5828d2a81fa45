#!/usr/bin/env bash
# Rehearses faults on two generations of each server: those of this machine (on Debian 12 RabbitMQ 3.10 and Redis 7),
# and those of Debian 13 (RabbitMQ 4.0, Redis 8, Valkey 8), which run with chroot from .tools/debian13. Without root, or
# on another system, it rehearses on the servers of this machine only.
#
#   hack/soak.sh [FLAG OF test/soak...]
set -euo pipefail
cd "$(dirname "$0")/.."

flags=()
if ((EUID == 0)) && command -v apt-get >/dev/null; then
  # A private mount namespace removes the mounts of this script when it ends.
  if [[ -z ${PARKING_SOAK_NAMESPACE:-} ]]; then
    PARKING_SOAK_NAMESPACE=1 exec unshare --mount --propagation private "$PWD/hack/soak.sh" "$@"
  fi
  root=$(hack/debian13.sh rabbitmq-server redis-server valkey-server)
  mount -t proc proc "$root/proc" # an Erlang node reads it
  cp /etc/hosts "$root/etc/hosts"
  flags=(-root "$root")
fi
hack/install-servers.sh
unset PARKING_RABBITMQ_ROOT PARKING_REDIS_ROOT PARKING_REDIS_SERVER # the soak chooses the servers
hack/step.sh "Rehearse faults" "5 min for each 18 faults" go run ./test/soak "${flags[@]}" "$@"
