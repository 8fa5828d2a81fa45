package controllers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// Volumes of managed servers grow without a restart. The operator raises the requests of the volume claims, and the
// storage system enlarges the volumes while they are in use. The claim template of a StatefulSet is immutable. So the
// operator also deletes the StatefulSet, but neither its pods nor its claims. The next reconcile creates it again with
// the new size, and it adopts the pods, whose template has not changed.
//
// In between, no StatefulSet owns the pods and claims. If the operator ends at this moment, the pods continue to run, and
// the first reconcile of the next operator creates the StatefulSet. The claims belong to the simulation as well, so that
// Kubernetes never deletes them together with the StatefulSet, but always together with the simulation. If the simulation
// is deleted at this moment, the operator deletes the pods itself.

const (
	// resizeRetry is how often the operator tries to enlarge a volume claim after the API server has rejected that. It
	// does not watch StorageClasses, so it does not notice when one of them begins to allow it.
	resizeRetry = time.Minute
	// replaceInterval is how often the operator looks at a StatefulSet that is about to be replaced or deleted.
	replaceInterval = time.Second
)

// growVolumes enlarges the volumes that are smaller than the spec asks for. Larger volumes keep their size.
func (r *Reconciler) growVolumes(ctx context.Context, s *scope) error {
	for _, object := range s.desired {
		set, isSet := object.(*appsv1.StatefulSet)
		if !isSet || len(set.Spec.VolumeClaimTemplates) == 0 {
			continue
		}
		key, err := r.keyOf(set)
		if err != nil {
			return err
		}
		if err := r.growVolumesOf(ctx, s, key, set); err != nil {
			return err
		}
	}
	return nil
}

// growVolumesOf enlarges the volumes of one StatefulSet. It replaces the StatefulSet when the API server has accepted the
// new size of all claims.
func (r *Reconciler) growVolumesOf(ctx context.Context, s *scope, key childKey, set *appsv1.StatefulSet) error {
	live, exists := s.children[key].(*appsv1.StatefulSet)
	isOutgrown := exists && isLess(volumeSize(live), volumeSize(set))
	accepted := true
	for _, name := range claimNames(set) {
		ok, err := r.growClaim(ctx, s, s.claims[name], set)
		if err != nil {
			return err
		}
		accepted = accepted && ok
	}
	switch {
	case exists && live.DeletionTimestamp != nil:
		s.replaced[key] = true
		s.addVolumes(found(progressing, reasonVolumeResizing, "StatefulSet %s is being deleted, and will be created again", set.Name))
		return nil
	case !isOutgrown:
		return nil
	}
	s.presentSizes[key] = volumeSize(live)
	switch {
	case !accepted, s.withheld[key], s.limited[key]:
		return nil
	case s.isHeld(key):
		s.findings.objects = worstOf(s.findings.objects, found(progressing, reasonFaultInEffect, "The change of %s %s waits until %s", key.kind, key.name, s.heldUntil))
		return nil
	}
	return r.replace(ctx, s, key, set, live)
}

// isLess reports whether a volume is smaller than wanted. It returns false if there is no volume.
func isLess(size, want resource.Quantity) bool { return !size.IsZero() && size.Cmp(want) < 0 }

// volumeSize returns the size in the claim template of a StatefulSet. It is 0 if the StatefulSet has no volumes.
func volumeSize(set *appsv1.StatefulSet) resource.Quantity {
	if len(set.Spec.VolumeClaimTemplates) == 0 {
		return resource.Quantity{}
	}
	return set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests[corev1.ResourceStorage]
}

func (s *scope) addVolumes(f finding) { s.findings.volumes = worstOf(s.findings.volumes, f) }

// growClaim raises the request of a volume claim if it is smaller than wanted. It reports whether the API server has
// accepted the wanted size. The claim is nil if it does not exist: the controller of StatefulSets creates it in the size of
// the template.
func (r *Reconciler) growClaim(ctx context.Context, s *scope, claim *corev1.PersistentVolumeClaim, set *appsv1.StatefulSet) (accepted bool, err error) {
	if claim == nil || !hasLabels(claim, set.Spec.VolumeClaimTemplates[0].Labels) {
		return true, nil
	}
	want := volumeSize(set)
	state, f := examineClaim(claim, want)
	if state != claimTooSmall {
		s.addVolumes(f)
		return state == claimAccepted, nil
	}
	err = r.patchClaim(ctx, claim.DeepCopy(), map[string]any{
		"spec": map[string]any{"resources": map[string]any{"requests": corev1.ResourceList{corev1.ResourceStorage: want}}},
	})
	switch refused := claimRefused(claim, want, err); {
	case err == nil:
		s.addVolumes(f)
		return true, nil
	case isOutdated(err):
		s.wakeAfter(replaceInterval)
		return false, nil
	case refused.state != unchecked:
		s.addVolumes(refused)
		s.wakeAfter(resizeRetry)
		return false, nil
	}
	return false, err
}

// patchClaim patches a volume claim, and replaces the given object by the result. It fails with a conflict if the claim has
// changed since it was read, because someone may have made it larger than wanted.
func (r *Reconciler) patchClaim(ctx context.Context, claim client.Object, content map[string]any) error {
	metadata, _ := content["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
		content["metadata"] = metadata
	}
	metadata["uid"], metadata["resourceVersion"] = claim.GetUID(), claim.GetResourceVersion()
	patch, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("change %s %s: %w", claimKind, client.ObjectKeyFromObject(claim), err)
	}
	err = r.client.Patch(ctx, claim, client.RawPatch(types.StrategicMergePatchType, patch), client.FieldOwner(apply.FieldManager))
	if err != nil {
		return fmt.Errorf("change %s %s: %w", claimKind, client.ObjectKeyFromObject(claim), err)
	}
	return nil
}

// isOutdated reports whether a request failed because the object has changed or was deleted since it was read.
func isOutdated(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }

// claimState says whether the API server has accepted the wanted size of a volume claim.
type claimState int

const (
	// claimAccepted means that the claim requests the wanted size or more. The volume may still be smaller.
	claimAccepted claimState = iota
	// claimTooSmall means that the claim requests less.
	claimTooSmall
	// claimUnbound means that the claim requests less and has no volume. Such a claim cannot grow yet.
	claimUnbound
)

// examineClaim returns the state of a volume claim, and a finding if its volume is smaller than wanted.
func examineClaim(claim *corev1.PersistentVolumeClaim, want resource.Quantity) (claimState, finding) {
	requested, capacity := claim.Spec.Resources.Requests[corev1.ResourceStorage], claim.Status.Capacity[corev1.ResourceStorage]
	grows := found(progressing, reasonVolumeResizing, "The volume of %s %s grows from %s to %s", claimKind, claim.Name, cmp.Or(textOf(capacity), textOf(requested)), textOf(want))
	switch {
	case isLess(requested, want) && claim.Status.Phase != corev1.ClaimBound:
		return claimUnbound, found(progressing, reasonVolumeResizing, "%s %s grows to %s when it is bound to a volume", claimKind, claim.Name, textOf(want))
	case isLess(requested, want):
		return claimTooSmall, grows
	case !isLess(capacity, want):
		return claimAccepted, finding{}
	}
	if failure := resizeFailure(claim); failure != "" {
		return claimAccepted, found(stalled, reasonVolumeNotResized, "The volume of %s %s cannot grow from %s to %s: %s. The server continues with the present size. "+
			"Correct the cause in the storage system; Kubernetes tries again. See 'kubectl describe pvc %s'", claimKind, claim.Name, textOf(capacity), textOf(want), failure, claim.Name)
	}
	if hasCondition(claim, corev1.PersistentVolumeClaimFileSystemResizePending) {
		return claimAccepted, found(progressing, reasonVolumeResizing, "%s. Its file system grows next. "+
			"If this lasts, the storage system cannot do that while the volume is in use: delete the pod of the claim", grows.message)
	}
	return claimAccepted, grows
}

// textOf returns a size as text, or "" if it is 0.
func textOf(size resource.Quantity) string {
	if size.IsZero() {
		return ""
	}
	return size.String()
}

// resizeFailure returns why the storage system could not enlarge a volume. It returns "" if there was no failure.
func resizeFailure(claim *corev1.PersistentVolumeClaim) string {
	for _, c := range claim.Status.Conditions {
		isFailure := c.Type == corev1.PersistentVolumeClaimControllerResizeError || c.Type == corev1.PersistentVolumeClaimNodeResizeError
		if isFailure && c.Status == corev1.ConditionTrue {
			return strings.TrimRight(orElse(c.Message, string(c.Type)), ". \n")
		}
	}
	switch claim.Status.AllocatedResourceStatuses[corev1.ResourceStorage] {
	case corev1.PersistentVolumeClaimControllerResizeInfeasible, corev1.PersistentVolumeClaimNodeResizeInfeasible:
		return "the storage system cannot provide this size"
	}
	return ""
}

func hasCondition(claim *corev1.PersistentVolumeClaim, kind corev1.PersistentVolumeClaimConditionType) bool {
	return slices.ContainsFunc(claim.Status.Conditions, func(c corev1.PersistentVolumeClaimCondition) bool {
		return c.Type == kind && c.Status == corev1.ConditionTrue
	})
}

// claimRefused returns a finding if the API server has rejected a larger volume claim. It returns no finding for other
// errors. The API server does not say in a machine-readable way why it forbids a change, so the text has to serve.
func claimRefused(claim *corev1.PersistentVolumeClaim, want resource.Quantity, err error) finding {
	if !apierrors.IsForbidden(err) && !isRefused(err) {
		return finding{}
	}
	class := "its StorageClass"
	if name := claim.Spec.StorageClassName; name != nil && *name != "" {
		class = "StorageClass " + *name
	}
	keeps := fmt.Sprintf("%s %s cannot grow to %s", claimKind, claim.Name, textOf(want))
	switch text := err.Error(); {
	case strings.Contains(text, "must support resize"):
		return found(stalled, reasonVolumeNotResized, "%s, because %s does not allow it. The server continues with the present size. "+
			"Set allowVolumeExpansion of the StorageClass to true if its storage system can enlarge volumes, or create another simulation", keeps, class)
	case isQuotaFailure(text):
		return found(progressing, reasonQuota, "%s: %s: raise the quota. The server continues with the present size", keeps, redactedError{err})
	case strings.Contains(text, `cannot patch resource "persistentvolumeclaims"`):
		return forbidden(err)
	}
	return found(stalled, reasonVolumeNotResized, "%s: the API server rejects the change: %s. The server continues with the present size. "+
		"Change the policy that rejects it, or create another simulation", keeps, redactedError{err})
}

// replace deletes a StatefulSet without its pods and claims, so that the next reconcile creates it with larger volumes.
func (r *Reconciler) replace(ctx context.Context, s *scope, key childKey, set, live *appsv1.StatefulSet) error {
	if owned, err := r.ownClaims(ctx, s, set); err != nil || !owned {
		return err
	}
	uid := live.UID
	err := r.client.Delete(ctx, live, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationOrphan))
	if err != nil && !isOutdated(err) {
		return fmt.Errorf("replace %s %s/%s: %w", key.kind, live.Namespace, live.Name, err)
	}
	log.FromContext(ctx).Info("Replacing a StatefulSet to enlarge its volumes; its pods continue to run", "name", live.Name, "size", textOf(volumeSize(set)))
	s.replaced[key] = true
	return nil
}

// ownClaims makes the simulation an owner of the claims of a StatefulSet. It reports whether the simulation owns all
// claims that exist. If one of them belongs to something else, the StatefulSet could not be created again. If the API server
// forbids the change, the StatefulSet keeps its claim template. This has no other effect, because its claims have grown.
func (r *Reconciler) ownClaims(ctx context.Context, s *scope, set *appsv1.StatefulSet) (owned bool, err error) {
	owner := metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.Kind, Name: s.sim.Name, UID: s.sim.UID}
	for _, name := range claimNames(set) {
		claim, err := r.checkClaim(ctx, client.ObjectKey{Namespace: set.Namespace, Name: name}, set.Spec.VolumeClaimTemplates[0].Labels)
		if taken, ok := errors.AsType[*apply.NameTakenError](err); ok {
			s.findings.objects = worstOf(s.findings.objects, nameTaken(taken))
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if claim == nil || slices.ContainsFunc(claim.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == owner.UID }) {
			continue
		}
		// A strategic merge patch keeps the other owners.
		err = r.patchClaim(ctx, claim, map[string]any{"metadata": map[string]any{"ownerReferences": []metav1.OwnerReference{owner}}})
		switch {
		case apierrors.IsForbidden(err): // OpenShift requires the right to delete an object whose owners change
			return false, nil
		case err != nil && isOutdated(err):
			s.wakeAfter(replaceInterval)
			return false, nil
		case err != nil:
			return false, err
		}
	}
	return true, nil
}

// withPresentSize returns a copy of a StatefulSet whose volumes have the present size, if the StatefulSet cannot be
// replaced yet. It returns all other objects unchanged.
func (s *scope) withPresentSize(key childKey, object client.Object) client.Object {
	size, keeps := s.presentSizes[key]
	set, isSet := object.(*appsv1.StatefulSet)
	if !keeps || !isSet {
		return object
	}
	kept := set.DeepCopy()
	kept.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests[corev1.ResourceStorage] = size
	return kept
}

// deleteOrphans deletes the pods of managed servers whose StatefulSet was being replaced when the simulation was deleted.
// Nothing owns these pods, so Kubernetes would not delete them. It returns false while a StatefulSet is still being
// deleted, because until then its pods are not orphans.
func (r *Reconciler) deleteOrphans(ctx context.Context, s *scope) (done bool, err error) {
	for _, c := range resources.Servers() {
		name := resources.Name(s.sim, c)
		if live := s.children[childKey{"StatefulSet", name}]; live != nil {
			if live.GetDeletionTimestamp() != nil {
				return false, nil
			}
			continue
		}
		for _, pod := range s.orphansOf(name) {
			uid := pod.UID
			if err := r.client.Delete(ctx, pod, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
				return false, fmt.Errorf("delete pod %s/%s, which has no owner: %w", pod.Namespace, pod.Name, err)
			}
		}
	}
	return true, nil
}

// orphansOf returns the pods of a StatefulSet that have no owner, because the StatefulSet was deleted without them.
func (s *scope) orphansOf(set string) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(s.pods), func(pod *corev1.Pod) bool {
		return metav1.GetControllerOfNoCopy(pod) != nil || pod.DeletionTimestamp != nil || !isReplica(pod.Name, set)
	})
}

// isReplica reports whether a pod has the name of a replica of a StatefulSet.
func isReplica(pod, set string) bool {
	ordinal, ok := strings.CutPrefix(pod, set+"-")
	_, err := strconv.ParseUint(ordinal, 10, 31)
	return ok && err == nil
}
