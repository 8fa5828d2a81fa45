//go:build tools

// Package cluster pins the programs of a local Kubernetes, which hack/cluster builds from source.
package cluster

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
)
