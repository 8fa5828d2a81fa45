// Package kubectl is the kubectl plugin: commands that read and change the simulations of a cluster with the rights of
// the user. It uses the API server only, never the servers of a simulation.
package kubectl

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// plugin holds what all commands share.
type plugin struct {
	flags *genericclioptions.ConfigFlags
	out   io.Writer
}

// AddTo adds the commands of the plugin to a command, and the flags of kubectl for the cluster, the user and the
// namespace. The commands write to out.
func AddTo(root *cobra.Command, out io.Writer) {
	p := &plugin{flags: genericclioptions.NewConfigFlags(true), out: out}
	p.flags.AddFlags(root.PersistentFlags())
	root.AddCommand(p.statusCommand(), p.suspendCommand(true), p.suspendCommand(false))
}

// connection is an API server and a namespace in it.
type connection struct {
	client.Client
	namespace string
}

// connect returns a client with the rights of the user, and the namespace that the flags or the kubeconfig select. It
// sends no requests.
func (p *plugin) connect() (*connection, error) {
	loader := p.flags.ToRawKubeConfigLoader()
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	return &connection{Client: c, namespace: namespace}, nil
}

// simulation returns a simulation by name.
func (c *connection) simulation(ctx context.Context, name string) (*v1alpha1.ParkingSimulation, error) {
	sim := &v1alpha1.ParkingSimulation{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, sim); err != nil {
		return nil, fmt.Errorf("get simulation %s/%s: %w", c.namespace, name, explain(err, v1alpha1.Group, simulations, "get"))
	}
	return sim, nil
}

// simulations is the resource of the ParkingSimulation kind.
const simulations = "parkingsimulations"

// explain adds to an error of the API server what the user can do about it. The other arguments are the rule that the
// request needs. Other errors are unchanged.
func explain(err error, group, resource, verb string) error {
	switch {
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%w; ask an administrator to add this rule to a role of yours: {apiGroups: [%q], resources: [%q], verbs: [%q]}",
			err, group, resource, verb)
	case meta.IsNoMatchError(err):
		return fmt.Errorf("%w; install parking-operator in this cluster", err)
	}
	return err
}
