#!/usr/bin/env bash
# Downloads the npm packages of the live page and its tests, and copies the files of the page unchanged to the source
# tree at DIRECTORY. hack/web/package-lock.json pins the packages by their hashes.
#
#   hack/web.sh DIRECTORY
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
assets=$(cd "$1" && pwd)/internal/view/assets
cache=$root/.tools/web

if ! cmp -s "$root/hack/web/package-lock.json" "$cache/installed.json"; then
  command -v npm >/dev/null || "$root/hack/apt-install.sh" npm
  mkdir -p "$cache"
  cp "$root"/hack/web/{package.json,package-lock.json,.npmrc} "$cache"
  (cd "$cache" && npm ci --silent)
  cp "$cache/package-lock.json" "$cache/installed.json"
fi

mkdir -p "$assets"
cp "$cache/node_modules/uplot/dist/uPlot.iife.min.js" "$assets/uplot.js"
cp "$cache/node_modules/uplot/dist/uPlot.min.css" "$assets/uplot.css"
cp "$cache/node_modules/uplot/LICENSE" "$assets/uplot-license.txt"
chmod 644 "$assets"/uplot*
