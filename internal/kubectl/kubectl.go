// Package kubectl is the kubectl plugin. It reads and changes simulations with the permissions of the user, and
// connects only to the API server.
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
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// Options are the inputs and outputs of the commands.
type Options struct {
	In, Out, ErrOut *os.File
	// Version is the version of this program.
	Version string
	// OpenPage opens a URL in a browser. If it fails, it prints a message.
	OpenPage func(ctx context.Context, url string)
}

// Plugin contains the options and flags that all commands share.
type Plugin struct {
	Options

	// The values of the kubectl flags that select the cluster, the user and the namespace.
	rules     *clientcmd.ClientConfigLoadingRules
	overrides clientcmd.ConfigOverrides
}

// New returns a plugin. It adds to root the kubectl flags that select the cluster, the user and the namespace.
func New(root *cobra.Command, o Options) *Plugin {
	p := &Plugin{Options: o, rules: clientcmd.NewDefaultClientConfigLoadingRules()}
	flags := root.PersistentFlags()
	flags.StringVar(&p.rules.ExplicitPath, clientcmd.RecommendedConfigPathFlag, "", "kubeconfig `file`")
	_ = root.MarkPersistentFlagFilename(clientcmd.RecommendedConfigPathFlag) // cannot fail, because the flag exists
	names := clientcmd.RecommendedConfigOverrideFlags("")
	names.ClusterOverrideFlags.APIServer.ShortName = "s"
	// Package genericclioptions has the same flags, but depends on kustomize, which would make the binary 30 MB larger.
	clientcmd.BindOverrideFlags(&p.overrides, flags, names)
	return p
}

// DiscardLogs silences the client libraries. Call it before using a client, because the libraries read the loggers
// without a lock.
func DiscardLogs() {
	klog.SetLogger(logr.Discard())
	log.SetLogger(logr.Discard())
}

// Commands returns the commands of the plugin. They return an InputError for an error that the user can fix.
func (p *Plugin) Commands() []*cobra.Command {
	return []*cobra.Command{
		p.statusCommand(), p.topCommand(), p.uiCommand(), p.suspendCommand(true), p.suspendCommand(false), p.purgeCommand(),
	}
}

// notef prints a message for the user on stderr.
func (p *Plugin) notef(format string, args ...any) {
	_, _ = fmt.Fprintf(terminal.CleanWriter(p.ErrOut), format, args...) // a failed write cannot be reported anywhere
}

// cluster is a client of the API server of a cluster, together with a namespace.
type cluster struct {
	client.WithWatch

	namespace string
	config    *rest.Config
}

// connect returns a client with the permissions of the user. The flags or the kubeconfig select its namespace.
// connect does not send requests.
func (p *Plugin) connect() (*cluster, error) {
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(p.rules, &p.overrides)
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, p.kubeconfigError(err)
	}
	if len(validation.IsDNS1123Label(namespace)) > 0 {
		return nil, inputErrorf("%q is not a valid name of a namespace", namespace)
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, p.kubeconfigError(err)
	}
	config.WarningHandler = rest.NewWarningWriter(terminal.CleanWriter(p.ErrOut), rest.WarningWriterOptions{Deduplicate: true})
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: mapper()})
	if err != nil {
		return nil, &InputError{fmt.Errorf("create a client from the kubeconfig: %w", err)}
	}
	return &cluster{WithWatch: c, namespace: namespace, config: config}, nil
}

// connected returns a function for cobra that connects to the cluster, and then calls f with the arguments of the
// command.
func (p *Plugin) connected(f func(ctx context.Context, c *cluster, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := p.connect()
		if err != nil {
			return err
		}
		return f(cmd.Context(), c, args)
	}
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	return scheme, errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme))
}

// mapper maps the kinds that the plugin reads to their resources, without requests to the cluster.
func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	m.Add(v1alpha1.GroupVersion.WithKind(v1alpha1.Kind), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("ConfigMap"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Event"), meta.RESTScopeNamespace)
	return m
}

func (c *cluster) simulation(ctx context.Context, name string) (*v1alpha1.ParkingSimulation, error) {
	sim := &v1alpha1.ParkingSimulation{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, sim); err != nil {
		return nil, c.explain(err, "get simulation "+c.namespace+"/"+name, onSimulations("get"))
	}
	return sim, nil
}

// simulations lists the simulations in a namespace. If namespace is "", it lists the simulations in all namespaces.
func (c *cluster) simulations(ctx context.Context, namespace string) (*v1alpha1.ParkingSimulationList, error) {
	list := &v1alpha1.ParkingSimulationList{}
	if err := c.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, c.explain(err, "list simulations", onSimulations("list"))
	}
	return list, nil
}
