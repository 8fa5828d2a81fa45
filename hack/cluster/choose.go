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

// cluster is a Kubernetes to work with.
type cluster interface {
	// check returns an error that names what the machine lacks for up.
	check(ctx context.Context) error
	// up brings the cluster up with the images that tests use, and says how to reach it.
	up(ctx context.Context) error
	// load imports OCI archives.
	load(ctx context.Context, archives []string) error
	// monitoring imports the images of Prometheus and its operator.
	monitoring(ctx context.Context) error
	// shell runs a command on the node.
	shell(ctx context.Context, command []string) error
	// down removes all of it.
	down(ctx context.Context) error
}

// chooseCluster returns the kind of cluster that is asked for. If none is, it is kind's where Docker
// answers, and else our own.
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
			return nil, errors.New("only root can run a node: sudo make cluster-up, or CLUSTER=existing for the cluster that KUBECONFIG names")
		}
		return &nativeCluster{layout: l, steps: newSteps(os.Stdout)}, nil
	case "kind":
		return &kindCluster{layout: l, steps: newSteps(os.Stdout)}, nil
	case "existing":
		return existingCluster{}, nil
	default:
		return nil, fmt.Errorf("CLUSTER=%s is not native, kind or existing", kind)
	}
}

func dockerAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "docker", "info").Run() == nil
}

// existingCluster is whichever KUBECONFIG names. Nothing of it is changed.
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

// monitoring does nothing: an existing cluster pulls what it needs.
func (existingCluster) monitoring(context.Context) error { return nil }

func (existingCluster) shell(context.Context, []string) error {
	return errors.New("there is no shell on the nodes of an existing cluster: use kubectl debug")
}

func (existingCluster) down(context.Context) error {
	fmt.Println("An existing cluster is left as it is.")
	return nil
}

// output runs a command and returns what it prints. An error holds what it complained of.
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
