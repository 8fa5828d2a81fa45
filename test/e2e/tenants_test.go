//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

func TestRollout_PodUnschedulable_SimulationIsNotReady(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	const problem = "node affinity/selector"
	ns.expected = []warning{{"PodsFailing", problem}, {"FailedScheduling", problem}}
	sim := ns.applySample("minimal.yaml", shareNode)
	ns.awaitCondition(sim, v1alpha1.ConditionReady, readyTimeout)

	// Make the rollout fail: no node has the label that the new pod selects, so only the old pod keeps running.
	ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) {
		spec.Processor.Template = &v1alpha1.PodTemplate{
			Spec: &runtime.RawExtension{Raw: []byte(`{"nodeSelector":{"example.com/absent":"true"}}`)},
		}
	})
	// This reason and message appear only if the rollout cannot finish.
	ns.awaitNotReady(sim, "PodsFailing", "pod "+resources.Name(sim, resources.ComponentProcessor)+"-", " is not scheduled: ", problem)
	ns.edit(sim, func(spec *v1alpha1.ParkingSimulationSpec) { spec.Processor.Template = nil })
	ns.awaitCondition(sim, v1alpha1.ConditionReady, readyTimeout)
	ns.remove(sim)
}

func TestResourceQuota_Exceeded_SimulationIsNotReadyUntilRaised(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	ns.expected = []warning{{"FailedCreate", "exceeded quota"}, {"QuotaExceeded", ""}, {"PodsFailing", ""}}
	// The ResourceQuota requires requests and limits for every container. The LimitRange provides defaults for both.
	ns.create(&corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "defaults"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
		Type: corev1.LimitTypeContainer, Default: quantities("cpu", "500m", "memory", "512Mi"), DefaultRequest: quantities("cpu", "10m", "memory", "32Mi"),
	}}}})
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "quota"}, Spec: corev1.ResourceQuotaSpec{
		Hard: quantities("requests.cpu", "50m", "requests.memory", "4Gi", "limits.cpu", "8", "limits.memory", "8Gi"),
	}}
	ns.create(quota)
	sim := ns.applySample("minimal.yaml", shareNode)
	ns.awaitNotReady(sim, "QuotaExceeded")

	base := client.MergeFrom(quota.DeepCopy())
	quota.Spec.Hard[corev1.ResourceRequestsCPU] = resource.MustParse("2")
	if err := ns.Patch(t.Context(), quota, base); err != nil {
		t.Fatal(err)
	}
	ns.awaitCondition(sim, v1alpha1.ConditionReady, readyTimeout)
	// Delete the quota and the LimitRange first, because the method remove waits until the namespace is empty.
	if err := ns.Delete(t.Context(), quota); err != nil {
		t.Fatal(err)
	}
	if err := ns.DeleteAllOf(t.Context(), &corev1.LimitRange{}, client.InNamespace(ns.name)); err != nil {
		t.Fatal(err)
	}
	ns.remove(sim)
}

func TestEditorRole_CannotBypassPodSecurityOrReadSecrets(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	// The operator reports CleanupAbandoned, because without the Secret it cannot check the server for queues.
	ns.expected = []warning{{"TemplateNotAllowed", ""}, {"SecretNotAllowed", ""}, {"CleanupAbandoned", "of-others"}}
	const user = "e2e-author"
	ns.create(&rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "author"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: ns.clusterRole("editor")},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	})
	ns.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "of-others"},
		StringData: map[string]string{"uri": "amqp://user:password@rabbitmq.example:5672/", "token": "secret"},
	})
	author := ns.impersonate(user)
	if err := author.Get(t.Context(), client.ObjectKey{Namespace: ns.name, Name: "of-others"}, &corev1.Secret{}); !apierrors.IsForbidden(err) {
		t.Fatalf("the author reads Secrets: %v", err)
	}
	for name, edit := range map[string]func(*v1alpha1.ParkingSimulationSpec){
		"privileged": func(spec *v1alpha1.ParkingSimulationSpec) {
			spec.Processor.Template = &v1alpha1.PodTemplate{
				Spec: &runtime.RawExtension{Raw: []byte(`{"containers":[{"name":"parking","securityContext":{"privileged":true}}]}`)},
			}
		},
		"host": func(spec *v1alpha1.ParkingSimulationSpec) {
			spec.Processor.Template = &v1alpha1.PodTemplate{Spec: &runtime.RawExtension{Raw: []byte(`{"hostNetwork":true}`)}}
		},
		"path": func(spec *v1alpha1.ParkingSimulationSpec) {
			spec.Processor.Template = &v1alpha1.PodTemplate{Spec: &runtime.RawExtension{Raw: []byte(`{"volumes":[{"name":"root","hostPath":{"path":"/"}}]}`)}}
		},
		"account": func(spec *v1alpha1.ParkingSimulationSpec) {
			spec.Processor.Template = &v1alpha1.PodTemplate{Spec: &runtime.RawExtension{Raw: []byte(`{"serviceAccountName":"default"}`)}}
		},
		"secret": func(spec *v1alpha1.ParkingSimulationSpec) {
			spec.RabbitMQ = v1alpha1.RabbitMQSpec{SecretRef: &v1alpha1.SecretReference{Name: "of-others"}}
		},
		"api": func(spec *v1alpha1.ParkingSimulationSpec) {
			spec.SummaryAPI = v1alpha1.SummaryAPISpec{URL: "https://collector.example/v1", SecretRef: &v1alpha1.SecretReference{Name: "of-others"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns := ns.forSubtest(t)
			sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: ns.name, Name: name}}
			shareNode(sim)
			edit(&sim.Spec)
			if err := author.Create(t.Context(), sim); err != nil {
				t.Fatal(err)
			}
			ns.awaitCondition(sim, v1alpha1.ConditionStalled, time.Minute)
			// The rejected settings apply to these components, so their pods must not exist.
			for _, component := range []resources.Component{resources.ComponentEntry, resources.ComponentExit, resources.ComponentProcessor} {
				if pods := ns.pods(sim, component); len(pods) > 0 {
					t.Errorf("the %s has %d pods, want none", component, len(pods))
				}
			}
			if err := author.Delete(t.Context(), sim); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestNamespaceDeletion_WithExternalServers_Completes(t *testing.T) {
	t.Parallel()
	servers := newNamespace(t)
	managed := servers.applySample("minimal.yaml", shareNode)
	servers.awaitCondition(managed, v1alpha1.ConditionReady, readyTimeout)

	ns := newNamespace(t)
	policy := servers.allowConnectionsFrom(ns.name)
	// These warnings occur if the Secrets are deleted before the simulation.
	ns.expected = []warning{{"CleanupAbandoned", ""}, {"SecretNotFound", ""}}
	external := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: ns.name, Name: "external"}}
	shareNode(external)
	external.Spec.RabbitMQ = v1alpha1.RabbitMQSpec{SecretRef: ns.copyBinding(managed, resources.BrokerSecretName(managed))}
	external.Spec.Redis = v1alpha1.RedisSpec{SecretRef: ns.copyBinding(managed, resources.StoreSecretName(managed))}
	ns.create(external)
	ns.awaitCondition(external, v1alpha1.ConditionReady, readyTimeout)

	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns.name}}
	if err := ns.Delete(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	ns.eventually("the end of the namespace", 4*time.Minute, func() error {
		err := ns.Get(t.Context(), client.ObjectKeyFromObject(namespace), namespace)
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		}
		return fmt.Errorf("the namespace is %s: %v", namespace.Status.Phase, namespace.Status.Conditions)
	})
	if err := servers.Delete(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	servers.remove(managed)
}

// allowConnectionsFrom allows pods of another namespace to connect to all pods of ns.
func (ns *namespace) allowConnectionsFrom(name string) *networkingv1.NetworkPolicy {
	ns.t.Helper()
	policy := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "allow-" + name},
		Spec: networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: name}},
			}}}},
		},
	}
	ns.create(policy)
	return policy
}

func (ns *namespace) create(o client.Object) {
	ns.t.Helper()
	o.SetNamespace(ns.name)
	if err := ns.Create(ns.t.Context(), o); err != nil {
		ns.t.Fatal(err)
	}
}

// copyBinding copies the Secret with a server's address and credentials to ns. All simulations in ns may use the copy.
func (ns *namespace) copyBinding(of *v1alpha1.ParkingSimulation, name string) *v1alpha1.SecretReference {
	ns.t.Helper()
	var secret corev1.Secret
	if err := ns.Get(ns.t.Context(), client.ObjectKey{Namespace: of.Namespace, Name: name}, &secret); err != nil {
		ns.t.Fatal(err)
	}
	ns.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{v1alpha1.AllowedSimulationsAnnotation: "*"}},
		Data:       secret.Data,
	})
	return &v1alpha1.SecretReference{Name: name}
}

// awaitNotReady waits until Ready is False for the current generation, with the given reason, and the message of
// Reconciling contains the texts.
func (ns *namespace) awaitNotReady(sim *v1alpha1.ParkingSimulation, reason string, texts ...string) {
	ns.t.Helper()
	ns.eventually(sim.Name+" is not Ready: "+reason, readyTimeout, func() error {
		current := ns.get(sim)
		c := meta.FindStatusCondition(current.Status.Conditions, v1alpha1.ConditionReady)
		problem := meta.FindStatusCondition(current.Status.Conditions, v1alpha1.ConditionReconciling)
		switch {
		case c == nil:
			return errors.New("the simulation has no condition Ready")
		case c.Status != metav1.ConditionFalse || c.ObservedGeneration != current.Generation || c.Reason != reason || problem == nil:
			return fmt.Errorf("the condition Ready is %s at generation %d of %d: %s: %s", c.Status, c.ObservedGeneration, current.Generation, c.Reason, c.Message)
		}
		for _, text := range texts {
			if !strings.Contains(problem.Message, text) {
				return fmt.Errorf("the message %q does not contain %q", problem.Message, text)
			}
		}
		return nil
	})
}

// clusterRole returns the full name of a ClusterRole of the operator. The name contains the given text, such as
// "editor".
func (ns *namespace) clusterRole(part string) string {
	ns.t.Helper()
	var roles rbacv1.ClusterRoleList
	if err := ns.List(ns.t.Context(), &roles); err != nil {
		ns.t.Fatal(err)
	}
	for _, role := range roles.Items {
		if strings.HasPrefix(role.Name, release) && strings.Contains(role.Name, part) {
			return role.Name
		}
	}
	ns.t.Fatalf("the release %s has no ClusterRole whose name contains %s", release, part)
	return ""
}

func (ns *namespace) impersonate(user string) client.Client {
	ns.t.Helper()
	config, err := ctrl.GetConfig()
	if err != nil {
		ns.t.Fatal(err)
	}
	config.Impersonate = rest.ImpersonationConfig{UserName: user}
	c, err := client.New(config, client.Options{Scheme: ns.Scheme()})
	if err != nil {
		ns.t.Fatal(err)
	}
	return c
}

// quantities converts pairs of resource names and quantities to a ResourceList.
func quantities(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}
