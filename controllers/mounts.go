package controllers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// mountsAnnotation makes the kubelet refresh the mounts of a pod at once when the annotation changes. Otherwise, a
// refresh can take a minute.
const mountsAnnotation = v1alpha1.Group + "/mounts-hash"

// syncMounts annotates the running pods when the plan or a Secret that they mount has changed, so that the kubelet
// updates the mounted files at once.
func (r *Reconciler) syncMounts(ctx context.Context, s *scope) error {
	for _, c := range ownComponents() {
		if err := r.annotatePods(ctx, s, c.component, s.mountsHash(c.component)); err != nil {
			return err
		}
	}
	if version := s.database.version; version != "" {
		s.certificateVersions[resources.ComponentSummaries] = append([]string{version}, s.certificateVersions[resources.ComponentSummaries]...)
	}
	for _, c := range resources.Servers() {
		versions := s.certificateVersions[c]
		if len(versions) == 0 {
			continue
		}
		if err := r.annotatePods(ctx, s, c, hashOf("", versions...)); err != nil {
			return err
		}
	}
	return nil
}

// annotatePods sets mountsAnnotation of a component's running pods.
func (r *Reconciler) annotatePods(ctx context.Context, s *scope, c resources.Component, hash string) error {
	// While a Secret is invalid, do not make the kubelet refresh the mounts at once: the user may have replaced the
	// certificate, but not yet the key.
	if s.managedServer(c).finding.reason == reasonSecretInvalid {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{mountsAnnotation: hash}}})
	if err != nil {
		return fmt.Errorf("annotate the pods of %s: %w", s.key, err)
	}
	for _, pod := range s.podsOf(c) {
		if pod.Annotations[mountsAnnotation] == hash || !isRunning(pod) {
			continue
		}
		err := r.client.Patch(ctx, pod.DeepCopy(), client.RawPatch(types.MergePatchType, patch), client.FieldOwner(apply.FieldManager))
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("annotate pod %s/%s so that its mounts are refreshed: %w", pod.Namespace, pod.Name, err)
		}
	}
	return nil
}

// mountsHash returns a hash of the desired plan, and of the versions of all Secrets that the pods of a generator or
// processor mount.
func (s *scope) mountsHash(c resources.Component) string {
	var plan string
	for _, object := range s.desired {
		if config, ok := object.(*corev1.ConfigMap); ok && config.Name == resources.PlanName(s.sim) {
			plan = config.Data[resources.PlanKey]
		}
	}
	versions := slices.Concat([]string{s.broker.version, s.store.version, s.summaryAPI.version},
		s.certificateVersions[resources.ComponentSummaries], s.certificateVersions[c])
	return hashOf(plan, versions...)
}

// hashOf returns a hash of a plan and of the versions of Secrets. A hash of the content would help to guess a password.
func hashOf(plan string, versions ...string) string {
	hash := sha256.New()
	hash.Write([]byte(plan))
	for _, version := range versions {
		hash.Write([]byte("/" + version))
	}
	const bytes = 8
	return hex.EncodeToString(hash.Sum(nil)[:bytes])
}

func isRunning(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning
}
