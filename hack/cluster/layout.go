package main

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
)

// layout says where things are on the host.
type layout struct {
	// repository is the root of the source tree.
	repository string
	// programs holds what is built, and images the archives made of it. Both outlive the cluster.
	programs, images string
	// state is all that the cluster keeps, its logs and its kubeconfig.
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

// source is the folder of this module.
func (l layout) source() string     { return filepath.Join(l.repository, "hack", "cluster") }
func (l layout) kubeconfig() string { return filepath.Join(l.state, "kubeconfig") }
func (l layout) logs() string       { return filepath.Join(l.state, "log") }
func (l layout) nodeLog() string    { return filepath.Join(l.logs(), "node.log") }
func (l layout) nodeFile() string   { return filepath.Join(l.state, "node.json") }
func (l layout) program(name string) string {
	return filepath.Join(l.programs, name)
}

// cgroup is the name of the control group that holds every pod. It differs between checkouts, as control
// groups are the one thing that clusters on a machine share.
func (l layout) cgroup() string {
	sum := sha256.Sum256([]byte(l.state))
	return "parking-" + hex.EncodeToString(sum[:4])
}

// Where things are inside the node, whatever the path of the checkout is: sockets' paths must be short.
const (
	nodeState = "/run/node"
	nodeBin   = "/run/bin"

	containerdSocket = "/run/containerd/containerd.sock"
)

// Addresses inside the node's network namespace. Nothing of it can be reached from the host, but the API
// server through the node's forwarder.
const (
	nodeName     = "parking"
	nodeAddress  = "10.243.0.1"
	nodeAPI      = "127.0.0.1:6443"
	nodeEtcd     = "http://127.0.0.1:2379"
	podSubnet    = "10.244.0.0/24"
	serviceRange = "10.96.0.0/16"
	apiService   = "10.96.0.1"
	dnsService   = "10.96.0.10"
	domain       = "cluster.local"
)
