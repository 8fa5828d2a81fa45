package controllers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/parking-operator/parking-operator/internal/apply"
)

// Claim templates are immutable, so the operator enlarges existing claims. Volumes grow without a restart.

const (
	// resizeInterval is the time until the operator checks a volume claim again while its volume grows, or after a
	// temporary error.
	resizeInterval = 10 * time.Second
	// claimInterval is the time until the operator checks a volume claim again if the claim is large enough, or after a
	// permanent error. A claim that is deleted and created again has the old size.
	claimInterval = time.Minute
)

// growVolumes enlarges the volumes that are smaller than the size in the spec. A failure does not stop other volumes
// or phases.
func (r *Reconciler) growVolumes(ctx context.Context, s *scope) error {
	for _, object := range s.desired {
		set, isSet := object.(*appsv1.StatefulSet)
		if !isSet {
			continue
		}
		live, exists := s.children[childKey{"StatefulSet", set.Name}].(*appsv1.StatefulSet)
		// The operator does not watch claims, and reads them only while the claim template has a smaller size than the
		// spec.
		if !exists || !isLess(volumeSize(live), volumeSize(set)) {
			continue
		}
		for _, name := range claimNames(set) {
			r.checkSize(ctx, s, name, set)
		}
	}
	return nil
}

// checkSize adds the finding about the size of a volume claim. It examines and enlarges the claim only if a check is
// due.
func (r *Reconciler) checkSize(ctx context.Context, s *scope, name string, set *appsv1.StatefulSet) {
	want := volumeSize(set)
	check, isKnown := r.claimChecks.latest(s.key, name)
	isCurrent := isKnown && check.want.Cmp(want) == 0 && s.now.Before(check.due)
	if !isCurrent {
		f, next := r.growClaim(ctx, client.ObjectKey{Namespace: set.Namespace, Name: name}, set)
		check = claimCheck{want: want, due: s.now.Add(next), finding: f}
		r.claimChecks.record(s.key, name, check)
	}
	s.findings.volumes = worstOf(s.findings.volumes, check.finding)
	// Request a reconcile for the next check, unless this reconcile has checked the claim and has nothing to report.
	if isCurrent || check.finding.state != unchecked {
		s.wakeAfter(check.due.Sub(s.now))
	}
}

// claimCheck is the latest check of a volume claim.
type claimCheck struct {
	want    resource.Quantity // the desired size at the time of the check
	due     time.Time         // the time of the next check, unless the desired size changes earlier
	finding finding
}

// claimChecks contains the latest check of the size of each volume claim, by simulation and name of the claim. It is
// safe for concurrent use.
type claimChecks struct {
	mu     sync.Mutex
	checks map[client.ObjectKey]map[string]claimCheck
}

func (c *claimChecks) latest(simulation client.ObjectKey, claim string) (check claimCheck, isKnown bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	check, isKnown = c.checks[simulation][claim]
	return check, isKnown
}

func (c *claimChecks) record(simulation client.ObjectKey, claim string, check claimCheck) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.checks == nil {
		c.checks = map[client.ObjectKey]map[string]claimCheck{}
	}
	if c.checks[simulation] == nil {
		c.checks[simulation] = map[string]claimCheck{}
	}
	c.checks[simulation][claim] = check
}

func (c *claimChecks) evict(simulation client.ObjectKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.checks, simulation)
}

// isLess reports whether a volume is smaller than the desired size. Size 0 means that there is no volume.
func isLess(size, want resource.Quantity) bool { return !size.IsZero() && size.Cmp(want) < 0 }

// volumeSize returns the size in the claim template of a StatefulSet. It is 0 if the StatefulSet has no volumes.
func volumeSize(set *appsv1.StatefulSet) resource.Quantity {
	if len(set.Spec.VolumeClaimTemplates) == 0 {
		return resource.Quantity{}
	}
	return set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests[corev1.ResourceStorage]
}

// withVolumeSizeOf returns a copy of a StatefulSet with the volume size of the live StatefulSet. It returns other
// objects unchanged.
func withVolumeSizeOf(live, object client.Object) client.Object {
	set, isSet := object.(*appsv1.StatefulSet)
	existing, exists := live.(*appsv1.StatefulSet)
	if !isSet || !exists {
		return object
	}
	size, want := volumeSize(existing), volumeSize(set)
	if size.IsZero() || want.IsZero() {
		return object
	}
	kept := set.DeepCopy()
	kept.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests[corev1.ResourceStorage] = size
	return kept
}

// growClaim requests the desired size for a PersistentVolumeClaim. It returns what to report, if anything, and how
// long to wait before the next call.
func (r *Reconciler) growClaim(ctx context.Context, key client.ObjectKey, set *appsv1.StatefulSet) (f finding, next time.Duration) {
	claim, want := &corev1.PersistentVolumeClaim{}, volumeSize(set)
	switch err := r.direct.Get(ctx, key, claim); {
	case apierrors.IsNotFound(err):
		return finding{}, claimInterval
	case err != nil:
		claim.Name = key.Name
		return resizeFailed(claim, want, err), retryInterval(err)
	case !hasLabels(claim, set.Spec.VolumeClaimTemplates[0].Labels):
		return nameTaken(&apply.NameTakenError{Kind: claimKind, Key: key}), claimInterval
	}
	isTooSmall, f := examineClaim(claim, want)
	switch {
	case f.state == unchecked:
		return f, claimInterval
	case !isTooSmall:
		return f, resizeInterval
	}
	switch err := r.patchSize(ctx, claim.DeepCopy(), want); {
	case err == nil:
		log.FromContext(ctx).Info("Enlarging a volume", "claim", key.Name, "size", textOf(want))
		return f, resizeInterval
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // another client has changed or deleted the claim, so check it again soon
		return f, resizeInterval
	default:
		return resizeFailed(claim, want, err), retryInterval(err)
	}
}

// patchSize changes the request of a volume claim. It fails with a conflict if the claim has changed since it was read:
// another client may have requested a larger size.
func (r *Reconciler) patchSize(ctx context.Context, claim *corev1.PersistentVolumeClaim, size resource.Quantity) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": claim.UID, "resourceVersion": claim.ResourceVersion},
		"spec":     map[string]any{"resources": map[string]any{"requests": corev1.ResourceList{corev1.ResourceStorage: size}}},
	})
	if err == nil {
		err = r.client.Patch(ctx, claim, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(apply.FieldManager))
	}
	if err != nil {
		return fmt.Errorf("change %s %s: %w", claimKind, client.ObjectKeyFromObject(claim), err)
	}
	return nil
}

// examineClaim reports whether the request of a volume claim must be raised. The finding is empty if the request and
// the volume are large enough.
func examineClaim(claim *corev1.PersistentVolumeClaim, want resource.Quantity) (isTooSmall bool, f finding) {
	requested, capacity := claim.Spec.Resources.Requests[corev1.ResourceStorage], claim.Status.Capacity[corev1.ResourceStorage]
	grows := found(progressing, reasonVolumeResizing, "The volume of %s %s grows from %s to %s", claimKind, claim.Name, cmp.Or(textOf(capacity), textOf(requested)), textOf(want))
	switch {
	case isLess(requested, want) && claim.Status.Phase != corev1.ClaimBound: // only a bound claim can grow
		return false, found(progressing, reasonVolumeResizing, "%s %s grows to %s when it is bound to a volume", claimKind, claim.Name, textOf(want))
	case isLess(requested, want):
		return true, grows
	case !isLess(capacity, want):
		return false, finding{}
	}
	if failure := resizeFailure(claim); failure != "" {
		return false, found(stalled, reasonVolumeNotResized, "The volume of %s %s cannot grow from %s to %s: %s. The server continues to run with the current size. "+
			"Correct the cause in the storage system; Kubernetes tries again. See 'kubectl describe pvc %s'", claimKind, claim.Name, textOf(capacity), textOf(want), failure, claim.Name)
	}
	if hasCondition(claim, corev1.PersistentVolumeClaimFileSystemResizePending) {
		return false, found(progressing, reasonVolumeResizing, "%s. The file system of the volume grows next. "+
			"If the file system does not grow, the storage system cannot enlarge it while a pod uses the volume: delete the pod of the claim", grows.message)
	}
	return false, grows
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

// resizeFailed returns the finding for a failed read or resize of a claim. It examines the text of the error, because
// the API server gives no machine-readable reason.
func resizeFailed(claim *corev1.PersistentVolumeClaim, want resource.Quantity, err error) finding {
	class := "its StorageClass"
	if name := claim.Spec.StorageClassName; name != nil && *name != "" {
		class = "StorageClass " + *name
	}
	err = redactedError{err}
	keeps := fmt.Sprintf("%s %s cannot grow to %s", claimKind, claim.Name, textOf(want))
	const undo = "or restore the previous size in the spec"
	switch text := err.Error(); {
	case isTemporary(err):
		return found(progressing, reasonVolumeResizing, "%s %s could not be read or enlarged to %s: %s; the operator tries again",
			claimKind, claim.Name, textOf(want), err)
	case strings.Contains(text, "must support resize"):
		return found(stalled, reasonVolumeNotResized, "%s, because %s does not allow volumes to be enlarged. The server continues to run with the current size. "+
			"Set allowVolumeExpansion of the StorageClass to true if its storage system can enlarge volumes, %s", keeps, class, undo)
	case isQuotaFailure(text): // some quota failures do not have the status Forbidden
		return found(progressing, reasonQuota, "%s: %s, %s. The server continues to run with the current size", keeps, withRemedy(text), undo)
	case apierrors.IsForbidden(err) && strings.Contains(text, `resource "persistentvolumeclaims" in API group`):
		return forbidden(err)
	case apierrors.IsForbidden(err), isRefused(err):
		return found(stalled, reasonVolumeNotResized, "%s: the API server rejects the change: %s. The server continues to run with the current size. "+
			"Change the admission policy that rejects the new size, %s", keeps, err, undo)
	}
	return found(stalled, reasonVolumeNotResized, "%s: %s. The server continues to run with the current size, and the operator tries again every minute. "+
		"If the error persists, check the API server and its admission webhooks, %s", keeps, err, undo)
}

// retryInterval returns how long to wait until the next try after an error.
func retryInterval(err error) time.Duration {
	if isTemporary(err) {
		return resizeInterval
	}
	return claimInterval
}

// isTemporary reports whether a request failed because the API server could not be reached or was overloaded.
func isTemporary(err error) bool {
	var status apierrors.APIStatus
	return !errors.As(err, &status) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) ||
		apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err)
}
