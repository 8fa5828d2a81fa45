package controllers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// The pods of a simulation refer to the simulation's own objects by name. If an object of another owner had such a
// name, a pod would use that object: it would mount a Secret whose owner did not consent, for example, or send
// passwords to another Service. Therefore, while a name is taken, no workload that refers to it has pods, and the
// operator does not connect to a server through it.

// isReferable reports whether other objects refer by name to objects of the given kind.
func isReferable(kind string) bool {
	switch kind {
	case "ServiceAccount", "Secret", "ConfigMap", "Service":
		return true
	}
	return false
}

// checkNames finds the names that are taken by objects of other owners. It then fills s.withheld with three groups of
// objects: those whose name is taken, those that depend on a taken name, and the managed servers whose pods must not
// mount a Secret that the spec names.
func (r *Reconciler) checkNames(ctx context.Context, s *scope) error {
	for _, object := range s.desired {
		key, err := r.keyOf(object)
		if err != nil {
			return err
		}
		switch set, isSet := object.(*appsv1.StatefulSet); {
		case isSet:
			err = r.checkClaims(ctx, s, key, set)
		case isReferable(key.kind) && s.children[key] == nil:
			err = s.recordTaken(key, r.applier.CheckName(ctx, object))
		}
		if err != nil {
			return err
		}
	}
	s.withholdServers()
	if len(s.taken) == 0 {
		return nil
	}
	for _, key := range sortedKeys(s.taken) {
		s.findings.objects = worstOf(s.findings.objects, nameTaken(s.taken[key]))
	}
	if err := r.withholdReferrers(s); err != nil {
		return err
	}
	for _, server := range []*server{&s.broker, &s.store} {
		if s.withheld[childKey{"Secret", server.ownSecret}] {
			server.binding = nil
		}
	}
	return nil
}

// withholdServers adds to s.withheld the managed servers whose pods must not mount a Secret that the spec names. The
// method toApply then makes sure that these servers have no pods.
func (s *scope) withholdServers() {
	for _, c := range resources.Servers() {
		server := s.managedServer(c)
		if server.managed && (server.withheld || c == resources.ComponentSummaries && s.database.withheld) {
			s.withheld[childKey{"StatefulSet", resources.Name(s.sim, c)}] = true
			s.withheld[childKey{"Deployment", resources.Name(s.sim, c)}] = true
		}
	}
}

// recordTaken records that the name of an object is taken if err is an *apply.NameTakenError. It returns all other
// errors.
func (s *scope) recordTaken(key childKey, err error) error {
	if taken, ok := errors.AsType[*apply.NameTakenError](err); ok {
		s.taken[key] = taken
		return nil
	}
	return err
}

// sortedKeys returns the keys of a map in a fixed order, so that the status does not change between reconciles.
func sortedKeys[V any](m map[childKey]V) []childKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b childKey) int {
		return cmp.Or(strings.Compare(a.kind, b.kind), strings.Compare(a.name, b.name))
	})
}

func nameTaken(err *apply.NameTakenError) finding { return found(stalled, reasonNameTaken, "%s", err) }

// checkClaims checks the volume claims of a StatefulSet that lacks pods. The controller of StatefulSets uses every
// claim that has the right name, and deletes it together with the StatefulSet. If a claim is not the simulation's, or
// if the operator may not read it, a missing StatefulSet is not created, and an existing one gets no more replicas.
// Existing replicas stay, because they may use claims of the simulation.
func (r *Reconciler) checkClaims(ctx context.Context, s *scope, owner childKey, set *appsv1.StatefulSet) error {
	if live, ok := s.children[owner].(*appsv1.StatefulSet); ok && live.Status.Replicas >= *set.Spec.Replicas {
		return nil
	}
	for _, name := range claimNames(set) {
		err := r.checkClaim(ctx, client.ObjectKey{Namespace: set.Namespace, Name: name}, set.Spec.VolumeClaimTemplates[0].Labels)
		if apierrors.IsForbidden(err) {
			s.limited[owner] = true
			s.findings.objects = worstOf(s.findings.objects, forbidden(err))
			s.wakeAfter(forbiddenRetry)
			return nil
		}
		if err == nil {
			continue
		}
		if err := s.recordTaken(childKey{claimKind, name}, err); err != nil {
			return err
		}
		s.limited[owner] = true
	}
	return nil
}

// claimNames returns the names of the volume claims of a StatefulSet. Every StatefulSet of a simulation has at most one
// claim template.
func claimNames(set *appsv1.StatefulSet) []string {
	if len(set.Spec.VolumeClaimTemplates) == 0 {
		return nil
	}
	names := make([]string, *set.Spec.Replicas)
	for ordinal := range names {
		names[ordinal] = fmt.Sprintf("%s-%s-%d", set.Spec.VolumeClaimTemplates[0].Name, set.Name, ordinal)
	}
	return names
}

const (
	claimKind = "PersistentVolumeClaim"
	// forbiddenRetry is how often the operator tries to read a claim that it has no permission to read. It does not
	// watch its own roles, so it does not notice when it gets the permission.
	forbiddenRetry = time.Minute
)

// checkClaim returns a *apply.NameTakenError if a volume claim exists and does not belong to the simulation. A claim
// belongs to the simulation if it has the labels of the claim template. It may be left from an earlier StatefulSet.
func (r *Reconciler) checkClaim(ctx context.Context, key client.ObjectKey, labels map[string]string) error {
	claim := partial(corev1.SchemeGroupVersion.WithKind(claimKind))
	err := r.direct.Get(ctx, key, claim)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("look for %s %s: %w", claimKind, key, err)
	case !hasLabels(claim, labels):
		return &apply.NameTakenError{Kind: claimKind, Key: key}
	}
	return nil
}

func hasLabels(o client.Object, want map[string]string) bool {
	for label, value := range want {
		if o.GetLabels()[label] != value {
			return false
		}
	}
	return true
}

// withholdReferrers withholds every object that refers to a taken name, directly or through other objects. If the name
// of the authority's Secret is taken, it also withholds the Secrets with certificates that the authority would sign.
// withholdReferrers compares only names, not kinds, because all objects of a component have the same name.
func (r *Reconciler) withholdReferrers(s *scope) error {
	names := map[string]bool{}
	for key := range s.taken {
		s.withheld[key] = true
		if isReferable(key.kind) {
			names[key.name] = true
		}
	}
	if s.isTaken(resources.AuthoritySecretName(s.sim)) { // the operator then cannot sign certificates
		for _, c := range r.neededCertificates(s) {
			if !c.External {
				s.withheld[childKey{"Secret", c.Secret}], names[c.Secret] = true, true
			}
		}
	}
	for before := -1; before != len(s.withheld); {
		before = len(s.withheld)
		for _, object := range s.desired {
			if err := r.withholdReferrer(s, object, names); err != nil {
				return err
			}
		}
	}
	return nil
}

// withholdReferrer adds an object to s.withheld if the object refers to one of the given names. It then adds the
// object's own name to these names, so that objects that refer to it are withheld too.
func (r *Reconciler) withholdReferrer(s *scope, object client.Object, names map[string]bool) error {
	key, err := r.keyOf(object)
	if err != nil || s.withheld[key] {
		return err
	}
	refers, err := refersToAny(object, names)
	if err != nil || !refers {
		return err
	}
	s.withheld[key] = true
	if isReferable(key.kind) {
		names[key.name] = true
	}
	return nil
}

// refersToAny reports whether any text in an object, except in its metadata, is one of the names, or contains the host
// name of a Service with one of the names.
func refersToAny(object client.Object, names map[string]bool) (bool, error) {
	if secret, ok := object.(*corev1.Secret); ok {
		for _, value := range secret.Data {
			if isReference(string(value), object.GetNamespace(), names) {
				return true, nil
			}
		}
		return false, nil
	}
	encoded, err := json.Marshal(object)
	if err != nil {
		return false, fmt.Errorf("encode %s: %w", client.ObjectKeyFromObject(object), err)
	}
	var content map[string]any
	if err := json.Unmarshal(encoded, &content); err != nil {
		return false, fmt.Errorf("decode %s: %w", client.ObjectKeyFromObject(object), err)
	}
	delete(content, "metadata")
	return anyText(content, func(text string) bool { return isReference(text, object.GetNamespace(), names) }), nil
}

func isReference(text, namespace string, names map[string]bool) bool {
	if names[text] {
		return true
	}
	for name := range names {
		if strings.Contains(text, name+"."+namespace+".svc") {
			return true
		}
	}
	return false
}

// anyText reports whether a text in a JSON value satisfies the given check.
func anyText(value any, check func(string) bool) bool {
	switch value := value.(type) {
	case string:
		return check(value)
	case []any:
		for _, element := range value {
			if anyText(element, check) {
				return true
			}
		}
	case map[string]any:
		for _, element := range value {
			if anyText(element, check) {
				return true
			}
		}
	}
	return false
}

// withoutPods returns a copy of a workload, changed so that it creates no pods. It returns nil if the object is not a
// workload.
func withoutPods(object client.Object) client.Object {
	switch o := object.(type) {
	case *appsv1.Deployment:
		stopped := o.DeepCopy()
		stopped.Spec.Replicas = new(int32(0))
		return stopped
	case *appsv1.StatefulSet:
		stopped := o.DeepCopy()
		stopped.Spec.Replicas = new(int32(0))
		return stopped
	}
	return nil
}

// withReplicasOf returns a copy of a desired StatefulSet that has at most as many replicas as the live StatefulSet. It
// returns nil if one of the two objects is not a StatefulSet.
func withReplicasOf(live, object client.Object) client.Object {
	set, isSet := object.(*appsv1.StatefulSet)
	existing, exists := live.(*appsv1.StatefulSet)
	if !isSet || !exists {
		return nil
	}
	limited := set.DeepCopy()
	limited.Spec.Replicas = new(min(*set.Spec.Replicas, *existing.Spec.Replicas))
	return limited
}

// toApply returns the object to apply for a desired object, or nil if nothing may be applied:
//   - A workload in the map withheld is not created. If it exists already, it is scaled to 0 replicas.
//   - A StatefulSet in the map limited is neither created nor scaled up.
//   - If the new pods of a workload would mount a missing Secret, the workload must not change yet. If its existing
//     pods mount no missing Secret, toApply returns nil. Otherwise, toApply returns the change, mustWait delays the
//     change, and a condition shows that the change waits. While s.isWithheld returns true, mustWait delays nothing, so
//     toApply returns nil in both cases.
//   - An existing StatefulSet keeps its claim template.
func (s *scope) toApply(key childKey, object client.Object) client.Object {
	live := s.children[key]
	object = withVolumeSizeOf(live, object)
	switch {
	case !s.withheld[key] && s.mountsMissing(object) && (!s.mountsMissing(live) || s.isWithheld()):
		return nil // apply nothing, because new pods would wait for a missing Secret
	case live == nil && (s.withheld[key] || s.limited[key]):
		return nil
	case s.withheld[key]:
		return withoutPods(object)
	case s.limited[key]:
		return withReplicasOf(live, object)
	}
	return object
}
