#!/usr/bin/env bash
# Builds the operator's image from the commit before HEAD and writes it to an archive, to test upgrades. If there is
# no such commit, as in a shallow clone, the image contains bin/parking.
#
#   hack/previous-image.sh IMAGE ARCHIVE
set -euo pipefail
(($# == 2)) || { echo "usage: $0 IMAGE ARCHIVE" >&2; exit 2; }
image=$1
archive=$PWD/$2
cd "$(dirname "$0")/.."

binary=$PWD/bin/parking-previous
git rev-parse --quiet --verify HEAD >/dev/null || { echo "$PWD is not a git checkout with a commit." >&2; exit 1; }
if commit=$(git rev-parse --verify --quiet --short=12 HEAD~1); then
  if ! "$binary" version 2>/dev/null | grep -q "$commit"; then
    source=$(mktemp -d)
    trap 'rm -rf "$source"' EXIT
    git archive HEAD~1 | tar -x -C "$source"
    echo "Building the operator of commit $commit"
    (cd "$source" && CGO_ENABLED=0 go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=previous -X main.commit=$commit" -o "$binary" ./cmd/parking)
  fi
else
  echo "HEAD has no parent here: the image holds bin/parking."
  binary=$PWD/bin/parking
fi
cd hack/image
go run . -binary "$binary" -output "$archive" -name "$image" -version previous -commit "${commit:-unknown}"
