#!/usr/bin/env bash
# Builds a command from source, in the version that a Go module pins.
#
#   hack/build-tool.sh PACKAGE OUTPUT USUALLY [MODULE]      default module: hack/tools
#
# USUALLY is the usual build time without a build cache.
set -euo pipefail
package=$1
output=$PWD/$2
usually=$3
module=${4:-hack/tools}
cd "$(dirname "$0")/.."
step=$PWD/hack/step.sh

cd "$module"
export CGO_ENABLED=0
"$step" -q "Build ${output##*/} from source" "$usually the first time" \
  go build -v -trimpath -ldflags '-s -w' -o "$output" "$package"
