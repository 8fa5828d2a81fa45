package controllers_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// definition defines a kind of others, of which anything goes. The API server keeps another account of who owns the
// fields of a kind without any schema; so as the real kinds do, this one says that a PrometheusRule has groups.
func definition(kind schema.GroupVersionKind) *apiextensionsv1.CustomResourceDefinition {
	anything := apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: new(true)}
	spec := anything
	spec.Properties = map[string]apiextensionsv1.JSONSchemaProps{
		"groups": {Type: "array", Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &anything}},
	}
	plural := strings.ToLower(kind.Kind) + "s"
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: plural + "." + kind.Group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: kind.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: kind.Kind, ListKind: kind.Kind + "List", Plural: plural},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: kind.Version, Served: true, Storage: true,
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type: "object", XPreserveUnknownFields: new(true), Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": spec},
				}},
			}},
		},
	}
}

// undefine deletes a definition, and with it every object of the kind.
func (c *cluster) undefine(kind schema.GroupVersionKind) {
	c.T.Helper()
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
	o.SetName(definition(kind).Name)
	if err := c.Client.Delete(c.T.Context(), o); err != nil {
		c.T.Fatal(err)
	}
}

func (c *cluster) count(ctx context.Context, kind schema.GroupVersionKind) (int, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(kind)
	err := c.Client.List(ctx, list, client.InNamespace(c.Namespace))
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return 0, nil
	}
	return len(list.Items), err
}

func (c *cluster) has(kind schema.GroupVersionKind, want int) {
	c.T.Helper()
	c.Eventually(fmt.Sprintf("%d of %s to exist", want, kind.Kind), func() error {
		switch n, err := c.count(c.T.Context(), kind); {
		case err != nil:
			return err
		case n != want:
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
}

func TestMonitoringComesAndGoesWithItsKinds(t *testing.T) {
	t.Parallel()
	c := newClusterOfItsOwn(t)
	c.startOperator()
	sim := c.Simulate("watched", nil)
	missing := c.Expect(sim, "MonitoringReady", metav1.ConditionFalse, "KindNotServed")
	if !strings.Contains(missing.Message, "ServiceMonitors") {
		t.Errorf("the message is %q, want what is missing", missing.Message)
	}
	monitors, rules := resources.ServiceMonitorKind(), resources.PrometheusRuleKind()
	const components = 5 // Redis has no exporter here
	for range 2 {
		c.Define(definition(monitors), definition(rules))
		c.Expect(sim, "MonitoringReady", metav1.ConditionTrue, "Created")
		c.has(monitors, components)
		c.has(rules, 1)
		c.Exists(&corev1.ConfigMap{}, "watched-dashboard")

		// What somebody deletes comes back, so that it is watched indeed.
		c.quiet()
		rule := &unstructured.Unstructured{}
		rule.SetGroupVersionKind(rules)
		c.Delete(rule, "watched-rules")
		c.has(rules, 1)

		c.undefine(rules)
		partly := c.Expect(sim, "MonitoringReady", metav1.ConditionFalse, "KindNotServed")
		if !strings.Contains(partly.Message, "Created: ServiceMonitors") || !strings.Contains(partly.Message, "Not created: PrometheusRule") {
			t.Errorf("the message is %q, want what there is and what is missing", partly.Message)
		}
		c.undefine(monitors)
		c.Gone(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "watched-dashboard"}})
		c.isCalm(2)
	}
	c.Settle()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
}

// rabbitmqCluster is the kind of the RabbitMQ Cluster Operator.
func rabbitmqCluster() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "rabbitmq.com", Version: "v1beta1", Kind: "RabbitmqCluster"}
}

func TestARabbitmqClusterOfAnotherNamespaceIsUsed(t *testing.T) {
	t.Parallel()
	c := newClusterOfItsOwn(t)
	c.startOperator()
	const messaging = "messaging"
	c.Create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: messaging}})
	sim := c.Simulate("lodger", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.ClusterRef = &v1alpha1.ClusterReference{Name: "rabbit", Namespace: messaging}
	})
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "KindNotServed")
	c.Define(definition(rabbitmqCluster()))
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "ClusterNotFound")

	rabbit := &unstructured.Unstructured{}
	rabbit.SetGroupVersionKind(rabbitmqCluster())
	rabbit.SetNamespace(messaging)
	rabbit.SetName("rabbit")
	c.Create(rabbit)
	denied := c.Expect(sim, "Stalled", metav1.ConditionTrue, "ClusterNotAllowed")
	if !strings.Contains(denied.Message, c.Namespace) || !strings.Contains(denied.Message, "rabbitmq.com/topology-allowed-namespaces") {
		t.Errorf("the message is %q, want namespace and annotation", denied.Message)
	}
	c.Edit(rabbit, func() {
		rabbit.SetAnnotations(map[string]string{"rabbitmq.com/topology-allowed-namespaces": "elsewhere, " + c.Namespace})
	})
	c.Expect(sim, "BrokerReady", metav1.ConditionFalse, "ClusterNotReady")

	user := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: messaging, Name: "rabbit-default-user"},
		StringData: map[string]string{
			"type": "rabbitmq", "provider": "rabbitmq", "host": "rabbit.messaging.svc", "port": "5672",
			"username": "default_user_x", "password": "first", "default_user.conf": "default_pass = first",
		},
	}
	c.Create(user)
	c.Eventually("the binding to be written", func() error {
		if err := c.Client.Get(t.Context(), client.ObjectKeyFromObject(rabbit), rabbit); err != nil {
			return err
		}
		if err := unstructured.SetNestedField(rabbit.Object, "rabbit-default-user", "status", "binding", "name"); err != nil {
			return err
		}
		return c.Client.Status().Update(t.Context(), rabbit)
	})
	copied := &corev1.Secret{}
	settled(c, copied, "lodger-rabbitmq", func(s *corev1.Secret) bool { return string(s.Data["password"]) == "first" })
	if _, ok := copied.Data["default_user.conf"]; ok || string(copied.Data["host"]) != "rabbit.messaging.svc" {
		t.Errorf("the copy has the keys %v, want the binding alone", keysOf(copied.Data))
	}
	c.Settle()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")

	// A new password reaches the copy.
	c.Edit(user, func() { user.StringData = map[string]string{"password": "second"} })
	settled(c, copied, "lodger-rabbitmq", func(s *corev1.Secret) bool { return string(s.Data["password"]) == "second" })

	// While the kind is gone, what is known of the cluster stays in use.
	c.undefine(rabbitmqCluster())
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "KindNotServed")
	settled(c, copied, "lodger-rabbitmq", func(s *corev1.Secret) bool { return string(s.Data["password"]) == "second" })
	c.isCalm(2)
}

func keysOf(data map[string][]byte) []string {
	keys := make([]string, 0, len(data))
	for key := range data {
		keys = append(keys, key)
	}
	return keys
}
