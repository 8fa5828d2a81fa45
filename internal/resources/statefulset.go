package resources

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// dataVolume is the name of the data volume. The names of the volume claims begin with this name.
const dataVolume = "data"

// revisions is the number of old revisions of a workload that Kubernetes keeps for rollbacks.
const revisions = 3

// set contains the properties in which the StatefulSets of the components differ.
type set struct {
	component Component
	// service is the name of the Service that gives the pods their host names.
	service  string
	replicas int32
	template corev1.PodTemplateSpec
	storage  v1alpha1.StorageSpec
}

// statefulSet returns a StatefulSet whose volume claims are deleted with it. Its pods start and stop in parallel,
// because the nodes of a cluster wait for each other.
func (b *builder) statefulSet(s set) client.Object {
	spec := appsv1.StatefulSetSpec{
		Replicas:             new(s.replicas),
		ServiceName:          s.service,
		Selector:             b.selector(s.component),
		Template:             s.template,
		PodManagementPolicy:  appsv1.ParallelPodManagement,
		UpdateStrategy:       appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType},
		RevisionHistoryLimit: new(int32(revisions)),
		PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
			WhenDeleted: appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
			WhenScaled:  appsv1.RetainPersistentVolumeClaimRetentionPolicyType,
		},
	}
	if size := s.storage.Size.Value(); size.IsZero() {
		spec.Template.Spec.Volumes = append(spec.Template.Spec.Volumes, emptyDir(dataVolume))
	} else {
		spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{b.claim(s.component, s.storage)}
	}
	return &appsv1.StatefulSet{ObjectMeta: b.object(b.name(s.component), s.component), Spec: spec}
}

// claim returns the claim template of a data volume. All of its labels are constant, because the claim templates of
// a StatefulSet are immutable.
func (b *builder) claim(c Component, s v1alpha1.StorageSpec) corev1.PersistentVolumeClaim {
	claim := corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: dataVolume, Labels: Selector(b.sim, c)},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: s.Size.Value()},
			},
			VolumeMode: new(corev1.PersistentVolumeFilesystem),
		},
	}
	if s.StorageClassName != "" {
		claim.Spec.StorageClassName = new(s.StorageClassName)
	}
	return claim
}
