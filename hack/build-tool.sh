#!/usr/bin/env bash
# Builds a command of the module hack/tools, at the version pinned there.
#
#   hack/build-tool.sh PACKAGE OUTPUT
set -euo pipefail
package=$1
output=$PWD/$2
cd "$(dirname "$0")/tools"

version=$(go list -f '{{.Module.Version}}' "$package")
echo "Building ${package##*/} $version (once; a large tool takes some minutes)"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$output" "$package"
