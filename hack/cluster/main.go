// Command cluster runs a single-node Kubernetes for development and tests.
//
//	cluster check          say what this machine lacks for it
//	cluster up             start it, or use one that there is (CLUSTER=native|kind|existing)
//	cluster load FILE...   import images, OCI archives, into it
//	cluster monitoring     import the images of Prometheus and its operator
//	cluster shell [CMD]    run a command as if on the node: crictl has its sockets there
//	cluster down           remove it
//
// The native cluster is upstream Kubernetes, etcd, containerd, runc and CoreDNS, built from the versions
// that go.mod pins. It runs in namespaces of its own: on the host there are its processes, a listener on
// loopback, and the folder .cluster.
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

// configs are the components' configuration, for what is always where node.go puts it.
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
		return errors.New("say what to do: check, up, load, monitoring, shell or down")
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
	case "shell":
		return c.shell(ctx, arguments)
	case "down":
		return c.down(ctx)
	default:
		return fmt.Errorf("%q is not check, up, load, monitoring, shell or down", command)
	}
}

// findLayout finds the checkout that the working folder is the root of.
func findLayout(ctx context.Context) (layout, error) {
	root, err := os.Getwd()
	if err != nil {
		return layout{}, err
	}
	if _, err := os.Stat(filepath.Join(root, "hack", "cluster", "go.mod")); err != nil {
		return layout{}, errors.New("run it in the root of the source tree: make cluster-up does")
	}
	version, err := kubernetesVersion(ctx, root)
	return newLayout(root, version), err
}
