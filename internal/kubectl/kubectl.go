// Package kubectl is the kubectl plugin: commands that read and change the simulations of a cluster with the rights of
// the user. It uses the API server only, never the servers of a simulation.
package kubectl

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// Options are what the commands work with.
type Options struct {
	In, Out, ErrOut *os.File
	// Version is the version of the program.
	Version string
	// OpenPage opens a URL in a browser. It reports failures itself.
	OpenPage func(ctx context.Context, url string)
}

// Plugin holds what all commands share.
type Plugin struct {
	Options

	// rules and overrides are the flags of kubectl for the cluster, the user and the namespace.
	rules     *clientcmd.ClientConfigLoadingRules
	overrides clientcmd.ConfigOverrides
}

// New returns a plugin. It adds the flags of kubectl for the cluster, the user and the namespace to the root command.
//
// The flags are those of package clientcmd. Package genericclioptions has the same ones, but also needs kustomize, which
// makes the binary 30 MB larger.
func New(root *cobra.Command, o Options) *Plugin {
	// The libraries log to stderr on their own. The commands report what matters.
	klog.SetLogger(logr.Discard())
	log.SetLogger(logr.Discard())
	p := &Plugin{Options: o, rules: clientcmd.NewDefaultClientConfigLoadingRules()}
	flags := root.PersistentFlags()
	flags.StringVar(&p.rules.ExplicitPath, clientcmd.RecommendedConfigPathFlag, "", "kubeconfig `file`")
	_ = root.MarkPersistentFlagFilename(clientcmd.RecommendedConfigPathFlag) // fails only for a flag that does not exist
	names := clientcmd.RecommendedConfigOverrideFlags("")
	names.ClusterOverrideFlags.APIServer.ShortName = "s"
	names.AuthOverrideFlags.Username.LongName, names.AuthOverrideFlags.Password.LongName = "", "" // kubectl has none either
	clientcmd.BindOverrideFlags(&p.overrides, flags, names)
	return p
}

// Commands returns the commands of the plugin. Their errors are described at InputError.
func (p *Plugin) Commands() []*cobra.Command {
	return []*cobra.Command{
		p.statusCommand(), p.topCommand(), p.uiCommand(), p.suspendCommand(true), p.suspendCommand(false), p.purgeCommand(),
	}
}

// connection is an API server and a namespace in it.
type connection struct {
	client.WithWatch

	namespace string
	config    *rest.Config
}

// connect returns a client with the rights of the user, and the namespace that the flags or the kubeconfig select. It
// sends no requests.
func (p *Plugin) connect() (*connection, error) {
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(p.rules, &p.overrides)
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, kubeconfigError(err)
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, kubeconfigError(err)
	}
	config.WarningHandler = rest.NewWarningWriter(p.ErrOut, rest.WarningWriterOptions{Deduplicate: true})
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: mapper()})
	if err != nil {
		return nil, &InputError{fmt.Errorf("kubeconfig: %w", err)}
	}
	return &connection{WithWatch: c, namespace: namespace, config: config}, nil
}

// newScheme returns the types that the plugin reads.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	return scheme, errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme))
}

// mapper maps the kinds that the plugin reads to their resources. It is fixed, so that no command has to discover the
// resources of the cluster first.
func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	m.Add(v1alpha1.GroupVersion.WithKind(v1alpha1.Kind), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("ConfigMap"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Event"), meta.RESTScopeNamespace)
	return m
}

// simulation returns a simulation by name.
func (c *connection) simulation(ctx context.Context, name string) (*v1alpha1.ParkingSimulation, error) {
	sim := &v1alpha1.ParkingSimulation{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, sim); err != nil {
		return nil, c.explain(err, "get simulation "+c.namespace+"/"+name, onSimulations("get"))
	}
	return sim, nil
}

// simulations returns the simulations of a namespace, or of all namespaces if it is "".
func (c *connection) simulations(ctx context.Context, namespace string) (*v1alpha1.ParkingSimulationList, error) {
	list := &v1alpha1.ParkingSimulationList{}
	if err := c.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, c.explain(err, "list simulations", onSimulations("list"))
	}
	return list, nil
}
