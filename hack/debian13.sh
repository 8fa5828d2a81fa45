#!/usr/bin/env bash
# Extracts the packages of Debian 13 in PACKAGE, with what they depend on, into a folder of their own below
# .tools/debian13, once. Prints the folder, and its progress on stderr. Needs root on a Debian machine.
#
#   hack/debian13.sh PACKAGE...
#
# The packages are extracted, not configured: programs run from the folder by chroot or as an image, and no service
# is set up.
set -euo pipefail
cd "$(dirname "$0")/.."
(($# > 0)) || { echo "usage: $0 PACKAGE..." >&2; exit 2; }

root=$PWD/.tools/debian13/$(IFS=+; echo "$*")
if [[ -d $root ]]; then
  echo "$root"
  exit
fi
if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
  echo "The packages of Debian 13 can be extracted only by root on a Debian machine." >&2
  exit 1
fi
command -v mmdebstrap >/dev/null || hack/apt-install.sh mmdebstrap >&2

# The mirror that apt uses for Debian itself, not for its security updates.
sites() { apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian'; }
[[ -n $(sites) ]] || hack/step.sh -q "Update the lists of apt" "10 s" apt-get update >&2
mirror=$(sites | sort | uniq -c | sort -rn | awk 'NR == 1 {print $2}')
if [[ -z $mirror ]]; then
  echo "apt has no Debian mirror: add one to /etc/apt/sources.list.d." >&2
  exit 1
fi

# No package depends on essential packages. These are the ones that the programs' scripts use.
base=(base-files bash coreutils dash grep hostname libc-bin procps sed)
packages=("${base[@]}" "$@")
part=$root.part
rm -rf "$part"
mkdir -p "${root%/*}"
hack/step.sh -q "Extract $* of Debian 13 into .tools/debian13, once" "1 min, 200 MB" \
  mmdebstrap --variant=extract --format=directory --include="$(IFS=,; echo "${packages[*]}")" trixie "$part" "$mirror" >&2

# Documentation, and files that the programs do not load.
rm -rf "$part"/usr/share/{doc,fonts,info,javascript,locale,man,nodejs} "$part"/var/lib/{apt,rabbitmq,redis}
# The user of the official images of RabbitMQ and Redis, and root for chroot.
printf 'root:x:0:0:root:/root:/bin/sh\nserver:x:999:999:server:/tmp:/bin/sh\n' >"$part/etc/passwd"
printf 'root:x:0:\nserver:x:999:\n' >"$part/etc/group"
mv "$part" "$root"
echo "$root"
