#!/usr/bin/env bash
# Generates all generated files in the source tree at DIRECTORY: deep copy functions, the CRD, the roles, the chart's
# copies of CRD and roles, the API reference, and the copies of npm packages that the live page uses.
#
#   hack/generate.sh DIRECTORY
set -euo pipefail
tools=$(cd "$(dirname "$0")/.." && pwd)/.tools/bin
"$(dirname "$0")/web.sh" "$1"
cd "$1"

"$tools/controller-gen" object paths=./api/...
"$tools/controller-gen" crd paths=./api/... output:crd:dir=config/crd/bases

# Only one file has RBAC markers. Copy it to a separate module, so that controller-gen does not have to compile the
# package controllers.
markers=$(mktemp -d)
trap 'rm -rf "$markers"' EXIT
cp controllers/rbac.go "$markers"
(cd "$markers" && printf 'module controllers\n' >go.mod && "$tools/controller-gen" rbac:roleName=manager-role paths=. output:rbac:dir=.)
mv "$markers/role.yaml" config/rbac/role.yaml

chart=charts/parking-operator
cp config/crd/bases/simulation.parking.dev_parkingsimulations.yaml "$chart/files/crd.yaml"
cp config/rbac/{role,parkingsimulation_editor_role,parkingsimulation_viewer_role,parkingsimulation_ui_role}.yaml "$chart/files"
"$tools/helm-docs" --log-level=error --chart-search-root="$chart" --skip-version-footer

"$tools/crd-ref-docs" --log-level=ERROR --source-path=api --config=hack/docs/crd-ref-docs.yaml --templates-dir=hack/docs/api \
  --renderer=markdown --output-path=docs/api.md
