package controllers

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// readSecret reads a Secret that the simulation does not own, or returns nil if it does not exist. A later change of
// the Secret causes a reconcile.
func (r *Reconciler) readSecret(ctx context.Context, s *scope, key client.ObjectKey) (*corev1.Secret, error) {
	s.secretsRead = append(s.secretsRead, key)
	r.secrets.add(s.key, key) // before getSecret, so that no later change of the Secret is missed
	return r.getSecret(ctx, key)
}

// getSecret reads a Secret, or returns nil if it does not exist. It bypasses the cache, which may lag and contains
// only Secrets of simulations.
func (r *Reconciler) getSecret(ctx context.Context, key client.ObjectKey) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := r.direct.Get(ctx, key, secret)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // absence is not an error
	case err != nil:
		return nil, fmt.Errorf("read Secret %s: %w", key, err)
	}
	return secret, nil
}

// secretReaders stores which simulation has read which Secrets. It is safe for concurrent use.
type secretReaders struct {
	mu sync.Mutex
	// readers lists the simulations that have read each Secret. read lists the Secrets that each simulation has read.
	readers, read map[client.ObjectKey][]client.ObjectKey
}

func newSecretReaders() *secretReaders {
	return &secretReaders{readers: map[client.ObjectKey][]client.ObjectKey{}, read: map[client.ObjectKey][]client.ObjectKey{}}
}

// add remembers that a simulation has read a Secret.
func (r *secretReaders) add(sim, secret client.ObjectKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.read[sim], secret) {
		r.read[sim] = append(r.read[sim], secret)
		r.readers[secret] = append(r.readers[secret], sim)
	}
}

// retain forgets all Secrets that a simulation has read, except the given Secrets.
func (r *secretReaders) retain(sim client.ObjectKey, secrets []client.ObjectKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, secret := range r.read[sim] {
		if !slices.Contains(secrets, secret) {
			r.readers[secret] = without(r.readers[secret], sim)
			if len(r.readers[secret]) == 0 {
				delete(r.readers, secret)
			}
		}
	}
	r.read[sim] = slices.DeleteFunc(r.read[sim], func(secret client.ObjectKey) bool { return !slices.Contains(secrets, secret) })
	if len(r.read[sim]) == 0 {
		delete(r.read, sim)
	}
}

func without(keys []client.ObjectKey, key client.ObjectKey) []client.ObjectKey {
	return slices.DeleteFunc(keys, func(k client.ObjectKey) bool { return k == key })
}

// readersOf returns the simulations that have read a Secret.
func (r *secretReaders) readersOf(secret client.ObjectKey) []client.ObjectKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.readers[secret])
}

// allowsSimulation reports whether an annotation permits the simulation to use an object. Without this check, any
// author of simulations could send the object's password to another server.
func allowsSimulation(o client.Object, name string) bool {
	return listed(o.GetAnnotations()[v1alpha1.AllowedSimulationsAnnotation], name)
}

// listed reports whether a comma-separated list contains a name. The value "*" means every name.
func listed(list, name string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item == name || item == "*" {
			return true
		}
	}
	return false
}

// isNameList matches values of an annotation that can safely be inserted into a shell command.
var isNameList = regexp.MustCompile(`^[a-z0-9, -]*$`)

// maxNameList is the maximum length, in bytes, of a list of names in a shell command.
const maxNameList = 1000

// allowCommand returns the kubectl command that adds a simulation to the annotation of an object. It replaces the names
// in the annotation if they are unsafe in a shell command.
func allowCommand(resource string, o client.Object, name string) string {
	value := name
	overwrite := ""
	if before, ok := o.GetAnnotations()[v1alpha1.AllowedSimulationsAnnotation]; ok {
		overwrite = " --overwrite"
		var names []string
		for item := range strings.SplitSeq(before, ",") {
			if item = strings.TrimSpace(item); item != "" {
				names = append(names, item)
			}
		}
		if len(before) <= maxNameList && isNameList.MatchString(before) {
			value = strings.Join(append(names, name), ",")
		}
	}
	return fmt.Sprintf("kubectl annotate %s %s --namespace %s %s=%s%s",
		resource, o.GetName(), o.GetNamespace(), v1alpha1.AllowedSimulationsAnnotation, value, overwrite)
}
