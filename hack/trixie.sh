#!/usr/bin/env bash
# Makes a Debian 13 with RabbitMQ, Redis, Valkey and Prometheus in the folder .tools/trixie, once, and prints
# the folder on its last line. Needs root on a Debian machine.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly root=$PWD/.tools/trixie
readonly packages=rabbitmq-server,redis-server,valkey-server,prometheus,prometheus-redis-exporter,ca-certificates

if [[ -e $root/complete && $(<"$root/complete") == "$packages" ]]; then
  echo "$root"
  exit
fi
if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
  echo "Debian 13's servers need root on a Debian machine, for debootstrap." >&2
  exit 1
fi

# What debootstrap mounts below the folder is so for this script alone, and ends with it.
if [[ -z ${PARKING_TRIXIE_NAMESPACE:-} ]]; then
  PARKING_TRIXIE_NAMESPACE=1 exec unshare --mount --propagation private "$PWD/hack/trixie.sh"
fi

# The mirror that apt uses for Debian itself, not for its security updates.
debian_mirror() {
  local sites
  sites() { apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian'; }
  [[ -n $(sites) ]] || apt-get update -qq
  sites | sort | uniq -c | sort -rn | awk 'NR == 1 {print $2}'
}

command -v debootstrap >/dev/null || hack/apt-install.sh debootstrap >&2
mirror=$(debian_mirror)
if [[ -z $mirror ]]; then
  echo "apt has no Debian mirror: add one to /etc/apt/sources.list.d." >&2
  exit 1
fi
proxy=""
eval "$(apt-config shell proxy Acquire::http::Proxy)"
echo "Making a Debian 13 in .tools/trixie, once: some minutes and 700 MB" >&2
for mounted in "$root/proc" "$root/sys"; do # rm must not enter them
  ! mountpoint -q "$mounted" || umount "$mounted"
done
rm -rf "$root"
mkdir -p "$root"
if ! http_proxy=${proxy:-${http_proxy:-}} debootstrap --variant=minbase \
  --include="$packages" \
  trixie "$root" "$mirror" >"$root.log" 2>&1; then
  tail -n 20 "$root.log" >&2
  exit 1
fi
echo "$packages" >"$root/complete"
echo "$root"
