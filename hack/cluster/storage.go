package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	// The names of the storage class and its provisioner. They also occur in config/storage.yaml.
	localClass       = "local"
	localProvisioner = "simulation.parking.dev/local"

	provisionedBy = "pv.kubernetes.io/provisioned-by"
)

// provisioner manages the volumes of the storage class "local", which are directories. The capacity of a volume is
// only a number in the API.
type provisioner struct {
	client    kubernetes.Interface
	directory string
}

// provisionVolumes registers event handlers that create and delete volumes. The caller must then start the informer
// factory. A failed operation is retried at the next resync.
func provisionVolumes(ctx context.Context, client kubernetes.Interface, factory informers.SharedInformerFactory, directory string) error {
	p := &provisioner{client: client, directory: directory}
	if err := handle(factory.Core().V1().PersistentVolumeClaims().Informer(), func(c *corev1.PersistentVolumeClaim) error {
		return errors.Join(p.provision(ctx, c), p.enlarge(ctx, c))
	}); err != nil {
		return err
	}
	return handle(factory.Core().V1().PersistentVolumes().Informer(), func(v *corev1.PersistentVolume) error {
		return p.reclaim(ctx, v)
	})
}

// handle registers an event handler that passes each added, updated or deleted object to the function do.
func handle[T any](informer cache.SharedIndexInformer, do func(T) error) error {
	observe := func(object any) {
		if typed, ok := object.(T); ok {
			if err := do(typed); err != nil {
				fmt.Fprintln(os.Stderr, "node:", err)
			}
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: observe, UpdateFunc: func(_, object any) { observe(object) }, DeleteFunc: observe,
	})
	return err
}

// provision creates a volume for a PersistentVolumeClaim that has none yet.
func (p *provisioner) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	class := claim.Spec.StorageClassName
	if class == nil || *class != localClass || claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil {
		return nil
	}
	name := "pvc-" + string(claim.UID)
	path := filepath.Join(p.directory, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	_, err := p.client.CoreV1().PersistentVolumes().Create(ctx, volume(name, path, claim), metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the volume of claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}

func volume(name, path string, claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: localProvisioner}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      claim.Spec.Resources.Requests,
			AccessModes:                   claim.Spec.AccessModes,
			StorageClassName:              localClass,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
					{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{nodeName}},
				}}},
			}},
		},
	}
}

// enlarge raises the capacity of a volume to the requested size. It updates the status of the claim last, so that
// the status never exceeds the volume's capacity.
func (p *provisioner) enlarge(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	class := claim.Spec.StorageClassName
	want, has := claim.Spec.Resources.Requests[corev1.ResourceStorage], claim.Status.Capacity[corev1.ResourceStorage]
	if class == nil || *class != localClass || claim.Status.Phase != corev1.ClaimBound || want.Cmp(has) <= 0 {
		return nil
	}
	volumes := p.client.CoreV1().PersistentVolumes()
	v, err := volumes.Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
	if err == nil {
		v.Spec.Capacity = corev1.ResourceList{corev1.ResourceStorage: want}
		_, err = volumes.Update(ctx, v, metav1.UpdateOptions{})
	}
	if err == nil {
		claim = claim.DeepCopy() // objects in the informer cache must not be modified
		claim.Status.Capacity = v.Spec.Capacity
		_, err = p.client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, claim, metav1.UpdateOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("enlarge the volume of claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}

// reclaim deletes a volume whose PersistentVolumeClaim was deleted.
func (p *provisioner) reclaim(ctx context.Context, v *corev1.PersistentVolume) error {
	if v.Annotations[provisionedBy] != localProvisioner || v.Status.Phase != corev1.VolumeReleased || v.Spec.Local == nil {
		return nil
	}
	if err := os.RemoveAll(v.Spec.Local.Path); err != nil {
		return err
	}
	err := p.client.CoreV1().PersistentVolumes().Delete(ctx, v.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete volume %s: %w", v.Name, err)
	}
	return nil
}
