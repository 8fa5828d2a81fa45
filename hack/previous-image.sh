#!/usr/bin/env bash
# Writes the operator's image of the commit before this one as an OCI archive, to upgrade from.
# A first commit, and a shallow clone, know of none: the image is of bin/parking then.
#
#   hack/previous-image.sh IMAGE ARCHIVE
set -euo pipefail
(($# == 2)) || { echo "usage: $0 IMAGE ARCHIVE" >&2; exit 2; }
image=$1
archive=$PWD/$2
cd "$(dirname "$0")/.."

binary=$PWD/bin/parking-previous
git rev-parse --quiet --verify HEAD >/dev/null || { echo "$PWD has no commit: the image of the one before is built from git." >&2; exit 1; }
if commit=$(git rev-parse --verify --quiet --short=12 HEAD~1); then
  if ! "$binary" version 2>/dev/null | grep -q "$commit"; then
    source=$(mktemp -d)
    trap 'rm -rf "$source"' EXIT
    git archive HEAD~1 | tar -x -C "$source"
    echo "Building the operator of the commit before, $commit"
    (cd "$source" && CGO_ENABLED=0 go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=previous -X main.commit=$commit" -o "$binary" ./cmd/parking)
  fi
else
  echo "There is no commit before this one: upgrades are from this one's image under another name."
  binary=$PWD/bin/parking
fi
cd hack/image
go run . -binary "$binary" -output "$archive" -name "$image" -version previous -commit "${commit:-unknown}"
