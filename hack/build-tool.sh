#!/usr/bin/env bash
# Builds a command at the version that a module pins.
#
#   hack/build-tool.sh PACKAGE OUTPUT [MODULE]      default: hack/tools
set -euo pipefail
package=$1
output=$PWD/$2
module=${3:-hack/tools}
cd "$(dirname "$0")/.."
cd "$module"

version=$(go list -f '{{.Module.Version}}' "$package")
echo "Building ${output##*/} $version (once; a large tool takes some minutes)"
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$output" "$package"
