#!/usr/bin/env bash
# Builds the Kubernetes API server and etcd from source into .tools/kubernetes, for tests that need a real API
# server. hack/cluster/go.mod pins their versions. Prints the directory for KUBEBUILDER_ASSETS on stdout, and
# the progress on stderr.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then
  if [[ ! -x $KUBEBUILDER_ASSETS/kube-apiserver || ! -x $KUBEBUILDER_ASSETS/etcd ]]; then
    echo "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no kube-apiserver and etcd: unset it to build them." >&2
    exit 1
  fi
  echo "$KUBEBUILDER_ASSETS"
  exit
fi

version=$(cd hack/cluster && go list -m -f '{{.Version}}' k8s.io/kubernetes)
directory=$PWD/.tools/kubernetes/$version
step=$PWD/hack/step.sh
mkdir -p "$directory"

# build NAME USUALLY PACKAGE LDFLAGS builds one program unless it exists. The binary has a temporary name until it is
# complete, so that an interrupted build leaves no incomplete program.
build() {
  [[ ! -x $directory/$1 ]] || return 0
  (cd hack/cluster && CGO_ENABLED=0 "$step" -q "Build $1 $version from source, once" "$2" \
    go build -v -trimpath -ldflags "$4" -o "$directory/$1.part" "$3") >&2
  mv "$directory/$1.part" "$directory/$1"
}

minor=${version#v1.}
minor=${minor%%.*}
build etcd "30 s" go.etcd.io/etcd/server/v3 "-s -w"
build kube-apiserver "6 min" k8s.io/kubernetes/cmd/kube-apiserver "-s -w \
  -X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"
echo "$directory"
