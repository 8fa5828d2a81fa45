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

// cluster is a kind of Kubernetes cluster to work with.
type cluster interface {
	// check returns an error that names what the machine lacks to run the cluster.
	check(ctx context.Context) error
	// up starts the cluster with the images that tests use, and prints how to reach it.
	up(ctx context.Context) error
	// load imports image archives.
	load(ctx context.Context, archives []string) error
	// monitoring imports the images of Prometheus and its operator.
	monitoring(ctx context.Context) error
	// shell runs a command on the node.
	shell(ctx context.Context, command []string) error
	// down removes the cluster.
	down(ctx context.Context) error
}

// chooseCluster returns the kind of cluster with that name. Without a name it returns kind if Docker answers, and
// native otherwise.
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

// existingCluster is the cluster that KUBECONFIG names. It is not changed.
type existingCluster struct{}

func (existingCluster) check(ctx context.Context) error {
	if _, err := output(ctx, "kubectl", "get", "--raw", "/readyz"); err != nil {
		return fmt.Errorf("the cluster that KUBECONFIG=%s names does not answer: %w", os.Getenv("KUBECONFIG"), err)
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
	return errors.New("images are not loaded into an existing cluster: push them to a registry that it pulls from")
}

// monitoring does nothing: an existing cluster pulls the images.
func (existingCluster) monitoring(context.Context) error { return nil }

func (existingCluster) shell(context.Context, []string) error {
	return errors.New("there is no shell on the nodes of an existing cluster: use kubectl debug")
}

func (existingCluster) down(context.Context) error {
	fmt.Println("An existing cluster is not changed.")
	return nil
}

// output runs a command and returns its output. An error includes what the command wrote to stderr.
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
