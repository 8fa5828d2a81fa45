#!/usr/bin/env bash
# Extracts packages of Debian 13 and their dependencies into a directory below .tools/debian13, unless that was done
# before. Prints the directory on stdout and the progress on stderr. Needs root on a Debian machine.
#
#   hack/debian13.sh PACKAGE...
#
# The script does not configure the packages or set up services. Programs run from the directory with chroot, or in a
# container image.
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

# The mirror from which apt gets Debian packages other than security updates.
sites() { apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian'; }
[[ -n $(sites) ]] || hack/step.sh -q "Update the lists of apt" "10 s" apt-get update >&2
mirror=$(sites | sort | uniq -c | sort -rn | awk 'NR == 1 {print $2}')
if [[ -z $mirror ]]; then
  echo "apt has no Debian mirror: add one to /etc/apt/sources.list.d." >&2
  exit 1
fi

# Packages do not declare dependencies on essential packages. These are the essential packages that the scripts of
# the programs need.
base=(base-files bash coreutils dash grep hostname libc-bin procps sed)
packages=("${base[@]}" "$@")
part=$root.part
rm -rf "$part"
mkdir -p "${root%/*}"
hack/step.sh -q "Extract $* of Debian 13 into .tools/debian13, once" "1 min, 200 MB" \
  mmdebstrap --variant=extract --format=directory --include="$(IFS=,; echo "${packages[*]}")" trixie "$part" "$mirror" >&2

# Remove documentation, and files that the programs do not load.
rm -rf "$part"/usr/share/{doc,fonts,info,javascript,locale,man,nodejs} "$part"/var/lib/{apt,rabbitmq,redis}
# Users: root for chroot, and the user ID that the official images of RabbitMQ and Redis use.
printf 'root:x:0:0:root:/root:/bin/sh\nserver:x:999:999:server:/tmp:/bin/sh\n' >"$part/etc/passwd"
printf 'root:x:0:\nserver:x:999:\n' >"$part/etc/group"
mv "$part" "$root"
echo "$root"
