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

// isReferable reports whether other objects refer by name to objects of the given kind. If another owner uses such a
// name, pods could mount its Secret or send passwords to its Service.
func isReferable(kind string) bool {
	switch kind {
	case "ServiceAccount", "Secret", "ConfigMap", "Service":
		return true
	}
	return false
}

// checkNames finds the names that other owners have taken. It adds to s.withheld the objects that the operator must
// not create.
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
			// The operator must not connect to a server whose Secret belongs to another owner.
			server.binding = nil
		}
	}
	return nil
}

// withholdServers records in s.withheld which managed servers must have no pods, because they need a Secret that pods
// must not mount.
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

// checkClaims keeps a StatefulSet from getting more replicas if a volume claim is unreadable or belongs to another
// owner. Otherwise, the StatefulSet controller would use this claim, and delete it later.
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
	// forbiddenRetry is the time until the operator tries again to read a PersistentVolumeClaim. The operator does not
	// notice when somebody grants the permission.
	forbiddenRetry = time.Minute
)

// checkClaim returns an *apply.NameTakenError if a volume claim exists and lacks the given labels. A claim with these
// labels may come from an earlier StatefulSet of the simulation.
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

// withholdReferrers adds objects with a taken name to s.withheld, and all objects that refer to them, directly or
// through others. It compares only names, because many references contain no kind.
func (r *Reconciler) withholdReferrers(s *scope) error {
	names := map[string]bool{}
	for key := range s.taken {
		s.withheld[key] = true
		if isReferable(key.kind) {
			names[key.name] = true
		}
	}
	if s.isTaken(resources.AuthoritySecretName(s.sim)) { // without its CA, the operator cannot issue certificates
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

// withholdReferrer adds an object to s.withheld if it refers to one of the names. It also adds the name of that object
// to names.
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

// refersToAny reports whether a text of the object, outside its metadata, equals one of the names, or contains the host
// name of a Service with such a name.
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

// withReplicasOf returns a copy of a StatefulSet with at most the replicas of the live StatefulSet. It returns nil
// unless both objects are StatefulSets.
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

// toApply returns the object to apply for a desired object, or nil if the operator must apply nothing.
func (s *scope) toApply(key childKey, object client.Object) client.Object {
	live := s.children[key]
	// Keep the volume size of the existing StatefulSet, because claim templates are immutable.
	object = withVolumeSizeOf(live, object)
	switch {
	// This case excludes workloads whose existing pods mount a missing Secret, unless isWithheld is true.
	// mustWait delays the changes of these workloads.
	case !s.withheld[key] && s.mountsMissing(object) && (!s.mountsMissing(live) || s.isWithheld()):
		return nil // do not create pods that would wait for a missing Secret
	case live == nil && (s.withheld[key] || s.limited[key]):
		return nil
	case s.withheld[key]:
		return withoutPods(object) // existing pods must stop
	case s.limited[key]:
		return withReplicasOf(live, object)
	}
	return object
}
