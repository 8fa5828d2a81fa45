package kubectl

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// InputError is an error that the user can fix on the command line, in the kubeconfig, or in a Kubernetes object or
// role.
type InputError struct {
	err error
}

func (e *InputError) Error() string { return e.err.Error() }

// Unwrap returns the cause, for errors.Is and errors.As.
func (e *InputError) Unwrap() error { return e.err }

func inputErrorf(format string, args ...any) error { return &InputError{fmt.Errorf(format, args...)} }

// kubeconfigError explains an error in the kubeconfig, or in a flag that overrides a field of the kubeconfig.
func (p *Plugin) kubeconfigError(err error) error {
	if clientcmd.IsEmptyConfig(err) {
		return inputErrorf("no cluster is configured in %s: name a kubeconfig with --kubeconfig or KUBECONFIG, or a server with --server",
			strings.Join(p.rules.GetLoadingPrecedence(), ", "))
	}
	if clientcmd.IsContextNotFound(err) {
		// The message omits err, because err also lists consequences of the missing context, such as a missing server.
		return inputErrorf("load the kubeconfig: the context that --context or current-context selects does not exist; 'kubectl config get-contexts' lists all")
	}
	return inputErrorf("load the kubeconfig: %w", err)
}

// rule is a rule of an RBAC Role that allows a request.
type rule struct {
	group, resource, verbs string
}

// simulationsResource is the name of the resource for the kind ParkingSimulation.
const simulationsResource = "parkingsimulations"

// onSimulations returns the RBAC rule that allows a verb, such as get, on ParkingSimulation objects.
func onSimulations(verb string) rule { return rule{v1alpha1.Group, simulationsResource, verb} }

// onCore returns the RBAC rule that allows verbs on a resource of the core API group. The verbs are separated by
// commas.
func onCore(resource, verbs string) rule { return rule{"", resource, verbs} }

// String returns the rule as it is written in a Role.
func (r rule) String() string {
	verbs := `"` + strings.ReplaceAll(r.verbs, ",", `", "`) + `"`
	return fmt.Sprintf("{apiGroups: [%q], resources: [%q], verbs: [%s]}", r.group, r.resource, verbs)
}

// explain adds to an error of the API server what the plugin was doing and what the user can do. needed is the RBAC
// rule for the request.
func (c *cluster) explain(err error, doing string, needed rule) error {
	var unreachable *url.Error
	var network net.Error
	switch {
	case isMissingRight(err):
		role := "Role"
		if strings.Contains(err.Error(), "at the cluster scope") {
			role = "ClusterRole"
		}
		return inputErrorf("%s: %w; ask an administrator to add this rule to one of your %ss: %s", doing, err, role, needed)
	case apierrors.IsUnauthorized(err):
		return inputErrorf("%s: the API server rejects the credentials: %w; log in again, or choose others with --context or --user", doing, err)
	case isMissingResource(err):
		return inputErrorf("%s: this cluster does not have the resource %s: install parking-operator, or choose another cluster with --context", doing, needed.resource)
	case apierrors.IsNotFound(err) && needed.resource == simulationsResource:
		return inputErrorf("%s: %w; 'kubectl parking status -A' lists the simulations of all namespaces", doing, err)
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return inputErrorf("%s: %w", doing, err)
	case errors.As(err, &unreachable), errors.As(err, &network):
		return fmt.Errorf("%s: cannot reach the API server: %w; check that the cluster runs and that this machine can reach it, or choose another cluster with --context", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// isMissingRight reports whether the user lacks a permission. It matches the error text, because admission also returns
// 403, and port forwarding returns no status code.
func isMissingRight(err error) bool {
	text := err.Error()
	return (apierrors.IsForbidden(err) || strings.Contains(text, " is forbidden: ")) && strings.Contains(text, " cannot ")
}

// isMissingResource reports whether err means that the API server does not serve the requested kind.
func isMissingResource(err error) bool {
	return apierrors.IsNotFound(err) && strings.Contains(err.Error(), "could not find the requested resource")
}
