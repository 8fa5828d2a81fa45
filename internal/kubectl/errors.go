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

// InputError is an error that the user can fix on the command line, in the kubeconfig, or in an object or a right that
// the message names.
type InputError struct {
	err error
}

// Error returns the message.
func (e *InputError) Error() string { return e.err.Error() }

// Unwrap returns the error that the user can fix.
func (e *InputError) Unwrap() error { return e.err }

func inputErrorf(format string, args ...any) error { return &InputError{fmt.Errorf(format, args...)} }

// kubeconfigError explains an error of the kubeconfig or of a flag that replaces one of its fields.
func kubeconfigError(err error) error {
	if clientcmd.IsEmptyConfig(err) {
		return inputErrorf("no cluster is configured: name a kubeconfig with --kubeconfig or KUBECONFIG, or a server with --server")
	}
	return inputErrorf("kubeconfig: %w", err)
}

// rule is the rule of a Role that a request needs.
type rule struct {
	group, resource, verbs string
}

// simulationsResource is the resource of the ParkingSimulation kind.
const simulationsResource = "parkingsimulations"

// onSimulations is the rule for requests of simulations.
func onSimulations(verb string) rule { return rule{v1alpha1.Group, simulationsResource, verb} }

// onCore is the rule for requests of resources of Kubernetes itself.
func onCore(resource, verbs string) rule { return rule{"", resource, verbs} }

// String returns the rule as it is written in a Role.
func (r rule) String() string {
	verbs := `"` + strings.ReplaceAll(r.verbs, ",", `", "`) + `"`
	return fmt.Sprintf("{apiGroups: [%q], resources: [%q], verbs: [%s]}", r.group, r.resource, verbs)
}

// explain returns an error of the API server with what was being done and what the user can do about it. The rule is
// the one that the request needs.
func (c *connection) explain(err error, doing string, needed rule) error {
	var unreachable *url.Error
	var network net.Error
	switch {
	case isMissingRight(err):
		return inputErrorf("%s: %w; ask an administrator to add this rule to a Role of yours: %s", doing, err, needed)
	case apierrors.IsUnauthorized(err):
		return inputErrorf("%s: the API server rejects the credentials: %w; log in again, or choose others with --context or --user", doing, err)
	case isMissingResource(err):
		return inputErrorf("%s: this cluster does not have the resource %s: install parking-operator, or choose another cluster with --context", doing, needed.resource)
	case apierrors.IsNotFound(err) && needed.resource == simulationsResource:
		return inputErrorf("%s: %w; 'kubectl parking status -A' lists the simulations of all namespaces", doing, err)
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return inputErrorf("%s: %w", doing, err)
	case errors.As(err, &unreachable), errors.As(err, &network):
		return fmt.Errorf("%s: cannot reach the API server: %w; check that the cluster runs and that this machine can reach it, or choose another one with --context", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// isMissingRight reports whether the user's roles do not allow the request. Admission, such as a quota, forbids requests
// as well. The error of a request to forward a port has a text only.
func isMissingRight(err error) bool {
	text := err.Error()
	return (apierrors.IsForbidden(err) || strings.Contains(text, " is forbidden: ")) && strings.Contains(text, " cannot ")
}

// isMissingResource reports whether the API server does not serve the resource at all.
func isMissingResource(err error) bool {
	return apierrors.IsNotFound(err) && strings.Contains(err.Error(), "could not find the requested resource")
}
