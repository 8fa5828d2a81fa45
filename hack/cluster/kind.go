package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// kindName is the name that the cluster has in the tool "kind".
const kindName = "parking"

// kindCluster is a cluster that runs in Docker and is managed by the tool "kind".
type kindCluster struct {
	layout layout
	steps  *steps
}

func (k *kindCluster) kind(ctx context.Context, arguments ...string) error {
	cmd := exec.CommandContext(ctx, k.layout.program("kind"), append(arguments, "--name", kindName)...)
	_, err := outputOf(cmd)
	return err
}

// check does nothing, because kind itself reports missing requirements.
func (k *kindCluster) check(context.Context) error { return nil }

func (k *kindCluster) up(ctx context.Context) error {
	b := &builder{k.layout.source(), k.layout.programs, k.steps}
	for _, build := range kindBuilds() {
		if err := b.build(ctx, build); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(k.layout.state, 0o755); err != nil {
		return err
	}
	// If the cluster does not exist yet, "kind export kubeconfig" fails.
	if k.kind(ctx, "export", "kubeconfig", "--kubeconfig", k.layout.kubeconfig()) != nil {
		if err := k.steps.do("Create the kind cluster", "2 min", func() error {
			return k.kind(ctx, "create", "cluster", "--wait", "5m", "--kubeconfig", k.layout.kubeconfig())
		}); err != nil {
			return err
		}
	}
	if err := equip(k.layout, "kind"); err != nil {
		return err
	}
	fmt.Printf("The cluster is up after %.0f s: export KUBECONFIG=%s\n", k.steps.total().Seconds(), k.layout.kubeconfig())
	return nil
}

func (k *kindCluster) load(ctx context.Context, archives []string) error {
	for _, archive := range archives {
		if err := k.steps.do("Load "+archive, "10 s", func() error { return k.kind(ctx, "load", "image-archive", archive) }); err != nil {
			return err
		}
	}
	return nil
}

// monitoring imports no images, because the nodes pull those of Prometheus from a registry.
func (k *kindCluster) monitoring(context.Context) error { return nil }

// policies does nothing, because a cluster of the tool "kind" enforces NetworkPolicies by default.
func (k *kindCluster) policies(context.Context) error { return nil }

func (k *kindCluster) shell(ctx context.Context, command []string) error {
	return interactive(exec.CommandContext(ctx, "docker", append([]string{"exec", "-i", kindName + "-control-plane"}, command...)...))
}

func (k *kindCluster) down(ctx context.Context) error {
	if err := k.kind(ctx, "delete", "cluster"); err != nil {
		return err
	}
	return os.RemoveAll(k.layout.state)
}

// interactive runs a command that uses the terminal of this process.
func interactive(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
