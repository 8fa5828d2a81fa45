package main

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
)

// layout contains the paths of the cluster's files on the host.
type layout struct {
	// repository is the root of the source tree.
	repository string
	// programs is the directory with the built programs. images is the directory with the image archives. Both
	// directories remain when the cluster is removed.
	programs, images string
	// state is the directory with the cluster's data, logs and kubeconfig.
	state string
}

func newLayout(repository, kubernetesVersion string) layout {
	return layout{
		repository: repository,
		programs:   filepath.Join(repository, ".tools", "kubernetes", kubernetesVersion),
		images:     filepath.Join(repository, ".tools", "images"),
		state:      filepath.Join(repository, ".cluster"),
	}
}

// source returns the directory of the Go module hack/cluster.
func (l layout) source() string     { return filepath.Join(l.repository, "hack", "cluster") }
func (l layout) kubeconfig() string { return filepath.Join(l.state, "kubeconfig") }
func (l layout) logs() string       { return filepath.Join(l.state, "log") }
func (l layout) nodeLog() string    { return filepath.Join(l.logs(), "node.log") }
func (l layout) nodeFile() string   { return filepath.Join(l.state, "node.json") }
func (l layout) program(name string) string {
	return filepath.Join(l.programs, name)
}

// cgroup returns the name of the control group of all pods. The name is unique per checkout, because all clusters
// share one hierarchy.
func (l layout) cgroup() string {
	sum := sha256.Sum256([]byte(l.state))
	return "parking-" + hex.EncodeToString(sum[:4])
}

// These are paths in the mount namespace of the node. They do not contain the path of the checkout, because socket
// paths must be short.
const (
	nodeState = "/run/node"
	nodeBin   = "/run/bin"

	containerdSocket = "/run/containerd/containerd.sock"
)

// These names and addresses are valid only in the network namespace of the node.
const (
	nodeName     = "parking"
	nodeAddress  = "10.243.0.1"
	nodeAPI      = "127.0.0.1:6443"
	nodeEtcd     = "http://127.0.0.1:2379"
	podSubnet    = "10.244.0.0/24"
	serviceRange = "10.96.0.0/16"
	apiService   = "10.96.0.1"
	domain       = "cluster.local"
)
