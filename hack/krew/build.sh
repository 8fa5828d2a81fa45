#!/usr/bin/env bash
# Builds the archives of the kubectl plugin and its manifest for krew below bin/krew.
#
#   hack/krew/build.sh VERSION LDFLAGS [PLATFORM...]
#
# VERSION is that of the release, such as v1.2.3. A PLATFORM is an operating system and an architecture, such as
# linux_amd64; without one, all platforms of hack/krew/parking.yaml are built. The manifest has the version and the
# checksums of the archives that were built, and only their platforms. The same source and version make the same bytes.
set -euo pipefail
cd "$(dirname "$0")/../.."

(($# >= 2)) || { echo "usage: $0 VERSION LDFLAGS [PLATFORM...]" >&2; exit 2; }
version=$1 ldflags=$2
shift 2
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || {
  echo "krew needs a version such as v1.2.3, not $version: set VERSION" >&2
  exit 2
}
template=hack/krew/parking.yaml out=bin/krew
platforms=("$@")
(($#)) || mapfile -t platforms < <(sed -n 's|.*uri:.*/parking_\(.*\)\.tar\.gz$|\1|p' "$template")

rm -rf "$out"
mkdir -p "$out"
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cp LICENSE "$directory"
: >"$directory/sums"
for platform in "${platforms[@]}"; do
  echo "build parking for $platform"
  CGO_ENABLED=0 GOOS=${platform%_*} GOARCH=${platform#*_} go build -trimpath -ldflags "$ldflags" -o "$directory/parking" ./cmd/parking
  archive=$out/parking_$platform.tar.gz
  tar --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime="$(git log -1 --format=%cI)" \
    -C "$directory" -cf - LICENSE parking | gzip -9n >"$archive"
  echo "$platform $(sha256sum "$archive" | cut -d ' ' -f 1)" >>"$directory/sums"
done

# A platform of the template is the text from "- selector:" to its "bin:".
awk -v version="$version" '
  NR == FNR { sums[$1] = $2; next }
  /^#/ { next }
  /^    - selector:/ { block = ""; inside = 1 }
  { gsub(/v0\.0\.0/, version) }
  !inside { print; next }
  match($0, /parking_[a-z0-9_]+\.tar\.gz/) { platform = substr($0, RSTART + 8, RLENGTH - 15) }
  /sha256:/ && platform in sums { sub(/"[^"]*"/, "\"" sums[platform] "\"") }
  { block = block $0 "\n" }
  /^      bin:/ { if (platform in sums) printf "%s", block; inside = 0 }
' "$directory/sums" "$template" >"$out/parking.yaml"
echo "$out has the archives and parking.yaml"
