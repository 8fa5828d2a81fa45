package apiserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// Cluster gives one test access to a Kubernetes API server. There are no nodes. Each test has its own namespace.
type Cluster struct {
	T testing.TB
	// Config and KubeConfig contain the credentials of a user with all permissions.
	Config     *rest.Config
	KubeConfig []byte
	// Client is a client for all types that the operator uses.
	Client    client.Client
	Namespace string
}

// New returns a Cluster with a new namespace. All tests of one test binary share the API server.
func New(t testing.TB) *Cluster {
	t.Helper()
	return newCluster(t, sharedServer(t))
}

// NewPrivate is like New, but starts an API server for this test alone. The server stops when the test ends.
func NewPrivate(t testing.TB) *Cluster {
	t.Helper()
	return newCluster(t, serverFor(t))
}

func newCluster(t testing.TB, s *server) *Cluster {
	t.Helper()
	scheme, err := controllers.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{T: t, Config: rest.CopyConfig(s.config), KubeConfig: s.environment.KubeConfig}
	if c.Client, err = client.New(c.Config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	c.Create(namespace)
	c.Namespace = namespace.Name
	return c
}

// Definition returns a CRD for a namespaced kind whose objects match the given schema.
func Definition(kind schema.GroupVersionKind, object *apiextensionsv1.JSONSchemaProps) *apiextensionsv1.CustomResourceDefinition {
	plural := strings.ToLower(kind.Kind) + "s"
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: plural + "." + kind.Group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: kind.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: kind.Kind, ListKind: kind.Kind + "List", Plural: plural},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: kind.Version, Served: true, Storage: true,
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
				Schema:       &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: object},
			}},
		},
	}
}

// Define installs CRDs on the API server.
func (c *Cluster) Define(definitions ...*apiextensionsv1.CustomResourceDefinition) {
	c.T.Helper()
	if _, err := envtest.InstallCRDs(c.Config, envtest.CRDInstallOptions{CRDs: definitions}); err != nil {
		c.T.Fatal(err)
	}
}

// Eventually calls the function check until check returns nil. The test fails after five minutes.
func (c *Cluster) Eventually(what string, check func() error) {
	c.T.Helper()
	polltest.UntilNoError(c.T, what, check)
}

// Create creates an object. The test fails if the API server rejects the object.
func (c *Cluster) Create(o client.Object) {
	c.T.Helper()
	if err := c.Client.Create(c.T.Context(), o); err != nil {
		c.T.Fatal(err)
	}
}

// Simulate creates a simulation with an empty spec. If the function edit is not nil, Simulate first calls it to change
// the spec.
func (c *Cluster) Simulate(name string, edit func(*v1alpha1.ParkingSimulationSpec)) *v1alpha1.ParkingSimulation {
	c.T.Helper()
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: name}}
	if edit != nil {
		edit(&sim.Spec)
	}
	c.Create(sim)
	return sim
}

// Secret creates a Secret that all simulations are permitted to use. It returns the Secret, and the reference to the
// Secret for the spec of a simulation.
func (c *Cluster) Secret(name string, values map[string]string) (*corev1.Secret, *v1alpha1.SecretReference) {
	c.T.Helper()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.Namespace, Name: name, Annotations: map[string]string{v1alpha1.AllowedSimulationsAnnotation: "*"},
		},
		StringData: values,
	}
	c.Create(secret)
	return secret, &v1alpha1.SecretReference{Name: name}
}

// Edit reads an object, calls the function change, and updates the object on the API server. After an error, such as a
// conflict, Edit starts again.
func (c *Cluster) Edit(o client.Object, change func()) {
	c.T.Helper()
	c.Eventually("edit "+o.GetName(), func() error {
		if err := c.read(o); err != nil {
			return err
		}
		change()
		return c.Client.Update(c.T.Context(), o)
	})
}

// Delete deletes an object by name. It does not wait until the object is gone.
func (c *Cluster) Delete(o client.Object, name string) {
	c.T.Helper()
	o.SetNamespace(c.Namespace)
	o.SetName(name)
	if err := c.Client.Delete(c.T.Context(), o); err != nil {
		c.T.Fatal(err)
	}
}

// Exists waits until an object with the given name exists, and reads the object into o.
func (c *Cluster) Exists(o client.Object, name string) {
	c.T.Helper()
	o.SetNamespace(c.Namespace)
	o.SetName(name)
	c.Eventually(fmt.Sprintf("%T %s to exist", o, name), func() error { return c.read(o) })
}

// Gone waits until an object no longer exists.
func (c *Cluster) Gone(o client.Object) {
	c.T.Helper()
	c.Eventually(fmt.Sprintf("%T %s to be gone", o, o.GetName()), func() error { return c.Absent(o) })
}

// Absent returns an error if the object exists.
func (c *Cluster) Absent(o client.Object) error {
	err := c.read(o)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err == nil:
		return errors.New("it exists")
	}
	return err
}

func (c *Cluster) read(o client.Object) error {
	return c.Client.Get(c.T.Context(), client.ObjectKeyFromObject(o), o)
}

// Expect waits until the simulation has a condition with the given type, status and reason for the current generation.
// It returns this condition.
func (c *Cluster) Expect(sim *v1alpha1.ParkingSimulation, kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
	c.T.Helper()
	var got metav1.Condition
	c.Eventually(fmt.Sprintf("condition %s of %s to have the status %s and the reason %s", kind, sim.Name, status, reason), func() error {
		if err := c.read(sim); err != nil {
			return err
		}
		condition := meta.FindStatusCondition(sim.Status.Conditions, kind)
		if condition == nil || condition.Status != status || condition.Reason != reason || condition.ObservedGeneration != sim.Generation {
			return fmt.Errorf("the simulation has the conditions %+v", sim.Status.Conditions)
		}
		got = *condition
		return nil
	})
	return got
}

// AwaitEvent waits for an event about an object. The event must have the given reason, and a message that contains the
// given text. AwaitEvent returns the message.
func (c *Cluster) AwaitEvent(o client.Object, reason, part string) (note string) {
	c.T.Helper()
	c.Eventually(fmt.Sprintf("an event %s of %s", reason, o.GetName()), func() error {
		list := &corev1.EventList{}
		if err := c.Client.List(c.T.Context(), list, client.InNamespace(c.Namespace)); err != nil {
			return err
		}
		for i := range list.Items {
			e := &list.Items[i]
			if e.InvolvedObject.Name == o.GetName() && e.Reason == reason && strings.Contains(e.Message, part) {
				note = e.Message
				return nil
			}
		}
		return fmt.Errorf("no event with this reason has a message that contains %q", part)
	})
	return note
}

// MakeWorkloadsReady sets the status of all Deployments and StatefulSets, except the named ones, as if all replicas
// were ready. It creates no pods.
func (c *Cluster) MakeWorkloadsReady(but ...string) {
	c.T.Helper()
	c.Eventually("workloads to become ready", func() error {
		deployments, sets := &appsv1.DeploymentList{}, &appsv1.StatefulSetList{}
		for _, list := range []client.ObjectList{deployments, sets} {
			if err := c.Client.List(c.T.Context(), list, client.InNamespace(c.Namespace)); err != nil {
				return err
			}
		}
		var settled []client.Object
		for i := range deployments.Items {
			d, n := &deployments.Items[i], *deployments.Items[i].Spec.Replicas
			d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
			settled = append(settled, d)
		}
		for i := range sets.Items {
			s, n := &sets.Items[i], *sets.Items[i].Spec.Replicas
			s.Status = appsv1.StatefulSetStatus{ObservedGeneration: s.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
			settled = append(settled, s)
		}
		for _, workload := range settled {
			if slices.Contains(but, workload.GetName()) {
				continue
			}
			if err := c.Client.Status().Update(c.T.Context(), workload); err != nil {
				return err
			}
		}
		return nil
	})
}

// Pod creates a running pod of a component. If the function edit is not nil, Pod calls it to change the status of the
// pod.
func (c *Cluster) Pod(sim *v1alpha1.ParkingSimulation, component resources.Component, edit func(*corev1.PodStatus)) *corev1.Pod {
	c.T.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: sim.Namespace, GenerateName: resources.Name(sim, component) + "-", Labels: resources.Selector(sim, component),
			OwnerReferences: []metav1.OwnerReference{ownerOfPods(sim, component)},
		},
		// This pod meets the restricted Pod Security Standard.
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{Name: resources.ContainerParking, Image: "parking:test", SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			}}},
		},
	}
	pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = podTemplateHash
	c.Create(pod)
	c.Eventually(fmt.Sprintf("pod %s to run", pod.Name), func() error {
		if err := c.read(pod); err != nil {
			return err
		}
		pod.Status.Phase = corev1.PodRunning
		if edit != nil {
			edit(&pod.Status)
		}
		return c.Client.Status().Update(c.T.Context(), pod)
	})
	return pod
}

// StorageClass creates a StorageClass and returns its name. The StorageClass is deleted when the test ends.
func (c *Cluster) StorageClass(isExpandable bool) string {
	c.T.Helper()
	class := &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{GenerateName: "test-"},
		Provisioner: "example.com/none", AllowVolumeExpansion: &isExpandable,
	}
	c.Create(class)
	c.T.Cleanup(func() {
		if err := c.Client.Delete(context.Background(), class); err != nil {
			c.T.Error(err)
		}
	})
	return class.Name
}

// Claim creates the PersistentVolumeClaim for one replica of a component. The phase of the claim is Bound.
func (c *Cluster) Claim(sim *v1alpha1.ParkingSimulation, component resources.Component, ordinal int, class, size string) *corev1.PersistentVolumeClaim {
	c.T.Helper()
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: sim.Namespace, Name: fmt.Sprintf("data-%s-%d", resources.Name(sim, component), ordinal), Labels: resources.Selector(sim, component),
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &class,
			Resources:  corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}},
			VolumeName: fmt.Sprintf("pv-%s-%d", resources.Name(sim, component), ordinal),
		},
	}
	c.Create(claim)
	claim.Status.Phase, claim.Status.Capacity = corev1.ClaimBound, claim.Spec.Resources.Requests
	if err := c.Client.Status().Update(c.T.Context(), claim); err != nil {
		c.T.Fatal(err)
	}
	return claim
}

// podTemplateHash is part of the name of the ReplicaSet that owns the pods of a Deployment.
const podTemplateHash = "5d8f"

// ownerOfPods returns the owner of a component's pods: a StatefulSet, or the ReplicaSet of a Deployment.
func ownerOfPods(sim *v1alpha1.ParkingSimulation, component resources.Component) metav1.OwnerReference {
	owner := metav1.OwnerReference{
		APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "StatefulSet", Name: resources.Name(sim, component),
		UID: types.UID("owner-" + string(component)), Controller: new(true),
	}
	isDeployment := false
	switch component {
	case resources.ComponentEntry, resources.ComponentExit, resources.ComponentProcessor:
		isDeployment = true
	case resources.ComponentSummaries:
		managed := sim.Spec.SummaryAPI.Managed
		isDeployment = managed != nil && managed.Database != nil
	}
	if isDeployment {
		owner.Kind, owner.Name = "ReplicaSet", owner.Name+"-"+podTemplateHash
	}
	return owner
}
