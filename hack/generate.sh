#!/usr/bin/env bash
# Generates the deep-copy code and the CRD of the types under api/ into the source tree at FOLDER.
#
#   hack/generate.sh FOLDER
set -euo pipefail
controller_gen=$(cd "$(dirname "$0")/.." && pwd)/.tools/bin/controller-gen
cd "$1"
"$controller_gen" object paths=./api/...
"$controller_gen" crd paths=./api/... output:crd:dir=config/crd/bases
