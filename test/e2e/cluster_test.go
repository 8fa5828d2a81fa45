//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

const (
	repository = "../.."
	chart      = repository + "/charts/parking-operator"
	release    = "parking-operator"
	// operatorNamespace is the namespace of the operator. Like the namespaces of simulations, it enforces the
	// restricted Pod Security Standard.
	operatorNamespace = "parking-operator-system"
	// namespacePrefix is the prefix of the names of all namespaces that the tests create.
	namespacePrefix = "e2e-"
)

// cluster contains clients of the Kubernetes cluster under test.
type cluster struct {
	client.Client
	set      kubernetes.Interface
	metadata metadata.Interface
}

// shared is the cluster that all tests use. TestMain sets it.
var shared *cluster

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// runTests installs the operator, runs the tests, and uninstalls the operator.
func runTests(m *testing.M) (int, error) {
	ctx := context.Background()
	ctrl.SetLogger(logr.Discard())                         // otherwise, controller-runtime warns that no logger is set
	tools, err := filepath.Abs(repository + "/.tools/bin") // the directory with helm and kubectl
	if err != nil {
		return 1, err
	}
	if err := os.Setenv("PATH", tools+string(os.PathListSeparator)+os.Getenv("PATH")); err != nil {
		return 1, err
	}
	if shared, err = connect(); err != nil {
		return 1, err
	}
	if err := shared.rejectOthers(ctx); err != nil {
		return 1, err
	}
	if err := shared.createNamespace(ctx, operatorNamespace); err != nil {
		return 1, err
	}
	start := time.Now()
	if err := shared.install(ctx, chart); err != nil {
		return 1, err
	}
	fmt.Printf("the operator was installed in %.1f s\n", time.Since(start).Seconds())
	code := m.Run()
	if err := shared.checkOperator(ctx); err != nil {
		return 1, err
	}
	if os.Getenv("E2E_KEEP") != "" {
		return code, nil
	}
	return code, errors.Join(shared.awaitNoSimulation(ctx), uninstall(ctx))
}

// rejectOthers returns an error if the cluster contains simulations that these tests did not create.
func (c *cluster) rejectOthers(ctx context.Context) error {
	var sims v1alpha1.ParkingSimulationList
	if err := c.List(ctx, &sims); err != nil {
		if apimeta.IsNoMatchError(err) {
			return nil
		}
		return err
	}
	for _, sim := range sims.Items {
		if !strings.HasPrefix(sim.Namespace, namespacePrefix) {
			return fmt.Errorf("the cluster has the simulation %s/%s, and the tests uninstall the operator: delete it, or use another cluster",
				sim.Namespace, sim.Name)
		}
	}
	return nil
}

// awaitNoSimulation waits until all simulations of the tests are deleted. If the operator is uninstalled earlier, the
// finalizers of simulations block the deletion of namespaces.
func (c *cluster) awaitNoSimulation(ctx context.Context) error {
	const timeout, interval = 3 * time.Minute, time.Second
	for deadline := time.Now().Add(timeout); ; <-time.After(interval) {
		var sims v1alpha1.ParkingSimulationList
		if err := c.List(ctx, &sims); err != nil {
			return err
		}
		sims.Items = slices.DeleteFunc(sims.Items, func(sim v1alpha1.ParkingSimulation) bool { return !strings.HasPrefix(sim.Namespace, namespacePrefix) })
		if len(sims.Items) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s/%s still exists", sims.Items[0].Namespace, sims.Items[0].Name)
		}
	}
}

// checkOperator returns an error if the operator restarted, or if there is an unexpected warning event in
// operatorNamespace.
func (c *cluster) checkOperator(ctx context.Context) error {
	var pods corev1.PodList
	if err := c.List(ctx, &pods, client.InNamespace(operatorNamespace)); err != nil {
		return err
	}
	var errs []error
	for _, pod := range pods.Items {
		for _, status := range pod.Status.ContainerStatuses {
			if status.RestartCount > 0 {
				errs = append(errs, fmt.Errorf("the operator's pod %s restarted %d times", pod.Name, status.RestartCount))
			}
		}
	}
	warnings, err := c.warnings(ctx, operatorNamespace, []warning{probedDead})
	for _, warning := range warnings {
		errs = append(errs, errors.New(warning))
	}
	return errors.Join(append(errs, err)...)
}

func connect() (*cluster, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster: set KUBECONFIG, as make test-e2e does: %w", err)
	}
	config.QPS, config.Burst = 100, 200
	config.WarningHandler = rest.NoWarnings{} // the tests list objects of all kinds, including deprecated ones
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	c := &cluster{}
	if c.Client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if c.set, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	c.metadata, err = metadata.NewForConfig(rest.CopyConfig(config))
	return c, err
}

// createNamespace creates a namespace that enforces the restricted Pod Security Standard.
func (c *cluster) createNamespace(ctx context.Context, name string) error {
	err := c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted",
		"pod-security.kubernetes.io/warn":    "restricted",
	}}})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// install installs or upgrades the operator from a Helm chart. It waits until no old operator pod is left, which
// could create pods from the old image.
func (c *cluster) install(ctx context.Context, chart string, settings ...string) error {
	return c.installInto(ctx, operatorNamespace, chart, settings...)
}

// installInto installs the operator from a Helm chart in the given namespace, or upgrades it.
func (c *cluster) installInto(ctx context.Context, namespace, chart string, settings ...string) error {
	// Without --reset-values, Helm would keep the values of the previous installation when no values are given.
	arguments := []string{"upgrade", "--install", "--reset-values", release, chart, "--namespace", namespace, "--wait", "--timeout", "2m"}
	if values := os.Getenv("E2E_VALUES"); values != "" {
		arguments = append(arguments, "--values", filepath.Join(repository, values))
	}
	// 'make demo-cluster' and 'make soak-cluster' install the operator without Helm, so Helm must take over its
	// objects.
	if namespace == operatorNamespace {
		arguments = append(arguments, "--take-ownership", "--force-conflicts")
	}
	for _, setting := range settings {
		arguments = append(arguments, "--set", setting)
	}
	if err := helm(ctx, arguments...); err != nil {
		return err
	}
	const timeout, interval = time.Minute, 200 * time.Millisecond
	for deadline := time.Now().Add(timeout); ; <-time.After(interval) {
		var pods corev1.PodList
		if err := c.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			return err
		}
		running := slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool {
			return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
		})
		if len(running) == 1 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s after the installation, the operator has %d pods, want 1", timeout, len(running))
		}
	}
}

func uninstall(ctx context.Context) error { return uninstallFrom(ctx, operatorNamespace) }

func uninstallFrom(ctx context.Context, namespace string) error {
	return helm(ctx, "uninstall", release, "--namespace", namespace, "--wait")
}

func helm(ctx context.Context, arguments ...string) error {
	cmd := exec.CommandContext(ctx, "helm", arguments...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("helm %s: %w\n%s", strings.Join(arguments, " "), err, out)
	}
	return nil
}

// nodeShell returns the beginning of a command line that runs a command on the node of the cluster.
func nodeShell() []string { return strings.Fields(os.Getenv("E2E_NODE_SHELL")) }

// skipWithoutNode skips the test if E2E_NODE_SHELL is not set. purpose, such as "connect from the pods", is part of the
// message.
func skipWithoutNode(t *testing.T, purpose string) {
	t.Helper()
	if len(nodeShell()) == 0 {
		t.Skipf("cannot %s: set E2E_NODE_SHELL to the beginning of a command that runs on a node with containerd's ctr, such as 'docker exec NODE'", purpose)
	}
}

// onNode runs a command on the node of the cluster and returns its standard output.
func onNode(t *testing.T, command ...string) string {
	t.Helper()
	shell := nodeShell()
	cmd := exec.CommandContext(t.Context(), shell[0], append(shell[1:], command...)...)
	cmd.Dir = repository
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run %s on the node: %v\n%s%s", strings.Join(command, " "), err, out, stderr.String())
	}
	return string(out)
}
