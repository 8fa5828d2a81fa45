// Command cluster runs a single-node Kubernetes cluster for development and tests.
//
//	cluster check          check whether this machine can run the cluster
//	cluster up             start the cluster if it is not running (CLUSTER=native|kind|existing)
//	cluster load FILE...   import image archives
//	cluster monitoring     import the images of Prometheus and the Prometheus Operator
//	cluster policies       enforce NetworkPolicies from the next start of the cluster
//	cluster shell [CMD]    run a command on the node
//	cluster down           remove the cluster
//
// The native cluster runs Kubernetes, etcd, containerd and runc, built from source in the versions that go.mod pins.
// Namespaces hide all of it from the host, except its processes, one loopback listener and the directory .cluster.
package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// configs are the configuration files of the components.
//
//go:embed config
var configs embed.FS

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	if len(arguments) == 0 {
		return errors.New("missing command: want check, up, load, monitoring, policies, shell or down")
	}
	l, err := findLayout(ctx)
	if err != nil {
		return err
	}
	command, arguments := arguments[0], arguments[1:]
	if command == nodeCommand {
		return runNode(ctx, l)
	}
	c, err := chooseCluster(ctx, l, os.Getenv("CLUSTER"))
	if err != nil {
		return err
	}
	switch command {
	case "check":
		return c.check(ctx)
	case "up":
		return c.up(ctx)
	case "load":
		return c.load(ctx, arguments)
	case "monitoring":
		return c.monitoring(ctx)
	case "policies":
		return c.policies(ctx)
	case "shell":
		return c.shell(ctx, arguments)
	case "down":
		return c.down(ctx)
	default:
		return fmt.Errorf("unknown command %q: want check, up, load, monitoring, policies, shell or down", command)
	}
}

// findLayout returns the layout for this source tree. The working directory must be the root of the tree.
func findLayout(ctx context.Context) (layout, error) {
	root, err := os.Getwd()
	if err != nil {
		return layout{}, err
	}
	if _, err := os.Stat(filepath.Join(root, "hack", "cluster", "go.mod")); err != nil {
		return layout{}, errors.New("the working directory is not the root of the source tree: use make cluster-up")
	}
	version, err := kubernetesVersion(ctx, root)
	return newLayout(root, version), err
}
