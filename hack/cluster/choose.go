package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// cluster is a Kubernetes cluster for tests. There is one implementation per kind of cluster.
type cluster interface {
	// check returns an error if the machine cannot run the cluster. The error says what is missing.
	check(ctx context.Context) error
	// up starts the cluster, imports the images that tests use, and prints how to reach the cluster.
	up(ctx context.Context) error
	// load imports image archives into the cluster.
	load(ctx context.Context, archives []string) error
	// monitoring imports the images of Prometheus and the Prometheus Operator.
	monitoring(ctx context.Context) error
	// policies makes the cluster enforce NetworkPolicies from its next start on.
	policies(ctx context.Context) error
	// shell runs a command on the node.
	shell(ctx context.Context, command []string) error
	// down removes the cluster.
	down(ctx context.Context) error
}

// chooseCluster returns a cluster of the given kind. If the kind is empty, the default is "kind" if Docker is
// running, otherwise "native".
func chooseCluster(ctx context.Context, l layout, kind string) (cluster, error) {
	if kind == "" {
		kind = "native"
		if dockerAnswers(ctx) {
			kind = "kind"
		}
	}
	switch kind {
	case "native":
		if os.Geteuid() != 0 {
			return nil, errors.New("only root can run a node: use sudo make cluster-up, or set CLUSTER=existing to use the cluster that KUBECONFIG names")
		}
		return &nativeCluster{layout: l, steps: newSteps(l.repository, os.Stdout)}, nil
	case "kind":
		return &kindCluster{layout: l, steps: newSteps(l.repository, os.Stdout)}, nil
	case "existing":
		return existingCluster{}, nil
	default:
		return nil, fmt.Errorf("unknown CLUSTER=%s: want native, kind or existing", kind)
	}
}

func dockerAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "docker", "info").Run() == nil
}

// existingCluster is the cluster that KUBECONFIG selects. This program never changes it.
type existingCluster struct{}

func (existingCluster) check(ctx context.Context) error {
	if _, err := output(ctx, "kubectl", "get", "--raw", "/readyz"); err != nil {
		return fmt.Errorf("the cluster that KUBECONFIG=%s names does not respond: %w", os.Getenv("KUBECONFIG"), err)
	}
	return nil
}

func (c existingCluster) up(ctx context.Context) error {
	if err := c.check(ctx); err != nil {
		return err
	}
	fmt.Println("The cluster answers. Its nodes must be able to pull the images that the chart's values name.")
	return nil
}

func (existingCluster) load(context.Context, []string) error {
	return errors.New("cannot load images into an existing cluster: push them to a registry that its nodes pull from")
}

// monitoring imports no images, because the nodes of an existing cluster pull them from a registry.
func (existingCluster) monitoring(context.Context) error { return nil }

// policies does nothing, because this program does not change an existing cluster. Tests check whether the cluster
// enforces NetworkPolicies.
func (existingCluster) policies(context.Context) error { return nil }

func (existingCluster) shell(context.Context, []string) error {
	return errors.New("cannot open a shell on the nodes of an existing cluster: use kubectl debug")
}

func (existingCluster) down(context.Context) error {
	fmt.Println("An existing cluster is not changed.")
	return nil
}

// output runs a command and returns its output. If the command fails, the error includes the command's stderr.
func output(ctx context.Context, name string, arguments ...string) (string, error) {
	return outputOf(exec.CommandContext(ctx, name, arguments...))
}

func outputOf(cmd *exec.Cmd) (string, error) {
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
