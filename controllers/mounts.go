package controllers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// mountsAnnotation is on pods that follow the plan. A kubelet looks after a pod at once when an annotation of
// it changes, and then brings what is mounted up to date, which else may take a minute.
const mountsAnnotation = v1alpha1.Group + "/mounts-hash"

// syncMounts tells the kubelets of running pods that the plan, or a Secret that they mount, has changed.
func (r *Reconciler) syncMounts(ctx context.Context, s *scope) error {
	hash := s.mountsHash()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{mountsAnnotation: hash}}})
	if err != nil {
		return fmt.Errorf("annotate the pods of %s: %w", s.key, err)
	}
	for _, c := range []resources.Component{resources.ComponentEntry, resources.ComponentExit, resources.ComponentProcessor} {
		for _, pod := range s.podsOf(c) {
			if pod.Annotations[mountsAnnotation] == hash || !isRunning(pod) {
				continue
			}
			err := r.client.Patch(ctx, pod.DeepCopy(), client.RawPatch(types.MergePatchType, patch), client.FieldOwner(apply.FieldManager))
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("annotate pod %s/%s to have its mounts brought up to date: %w", pod.Namespace, pod.Name, err)
			}
		}
	}
	return nil
}

// mountsHash identifies the plan that was applied, and the Secrets by their versions: a hash of a password
// would help to guess it.
func (s *scope) mountsHash() string {
	hash := sha256.New()
	for _, object := range s.desired {
		if plan, ok := object.(*corev1.ConfigMap); ok && plan.Name == resources.PlanName(s.sim) {
			hash.Write([]byte(plan.Data[resources.PlanKey]))
		}
	}
	for _, version := range []string{s.broker.version, s.store.version, s.summaryAPIVersion} {
		hash.Write([]byte("/" + version))
	}
	const enough = 8
	return hex.EncodeToString(hash.Sum(nil)[:enough])
}

func isRunning(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning
}
