#!/usr/bin/env bash
# Builds the Kubernetes API server and etcd, which the controller's tests run, from source into
# .tools/kubernetes: once, with the versions that hack/cluster/go.mod pins and go.sum verifies.
# Prints on its last line the folder that KUBEBUILDER_ASSETS is to name.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  if [ ! -x "$KUBEBUILDER_ASSETS/kube-apiserver" ] || [ ! -x "$KUBEBUILDER_ASSETS/etcd" ]; then
    echo "KUBEBUILDER_ASSETS names $KUBEBUILDER_ASSETS, where kube-apiserver and etcd are not; unset it to have them built" >&2
    exit 1
  fi
  echo "$KUBEBUILDER_ASSETS"
  exit 0
fi

version=$(cd hack/cluster && go list -m -f '{{.Version}}' k8s.io/kubernetes)
folder=$PWD/.tools/kubernetes/$version
mkdir -p "$folder"

# build NAME PACKAGE [FLAG...] builds one program unless it is there already. The binary gets its name
# only when it is whole, so that an interrupted build is not mistaken for a finished one.
build() {
  local name=$1 package=$2
  shift 2
  [ -x "$folder/$name" ] && return
  echo "building $name $version from source (once; kube-apiserver takes about 6 minutes on 2 cores)" >&2
  (cd hack/cluster && CGO_ENABLED=0 go build -trimpath "$@" -o "$folder/$name.part" "$package")
  mv "$folder/$name.part" "$folder/$name"
}

minor=${version#v1.}
minor=${minor%%.*}
stamp="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"
build etcd go.etcd.io/etcd/server/v3 -ldflags "-s -w"
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver -ldflags "-s -w $stamp"
echo "$folder"
