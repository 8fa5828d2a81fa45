package controllers_test

import (
	"context"
	"errors"
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
	"github.com/parking-operator/parking-operator/internal/tlstest"
	"github.com/parking-operator/parking-operator/test/apiserver"
)

// definition returns the CustomResourceDefinition of an optional kind. Like PrometheusRule, it declares the list
// "groups": the API server tracks the ownership of an undeclared list differently.
func definition(kind schema.GroupVersionKind) *apiextensionsv1.CustomResourceDefinition {
	anything := apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: new(true)}
	spec := anything
	spec.Properties = map[string]apiextensionsv1.JSONSchemaProps{
		"groups": {Type: "array", Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &anything}},
	}
	return apiserver.Definition(kind, &apiextensionsv1.JSONSchemaProps{
		Type: "object", XPreserveUnknownFields: new(true), Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": spec},
	})
}

// undefine deletes the CustomResourceDefinition of a kind. This also deletes all objects of the kind.
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

func TestCRDWatcher_CRDsAreCreatedAndDeleted_MonitoringObjectsFollow(t *testing.T) {
	t.Parallel()
	c := newDedicatedCluster(t)
	c.startOperator()
	sim := c.Simulate("watched", nil)
	missing := c.Expect(sim, "MonitoringReady", metav1.ConditionFalse, "KindNotServed")
	if !strings.Contains(missing.Message, "ServiceMonitors") {
		t.Errorf("the message is %q, want the missing kinds", missing.Message)
	}
	monitors, rules := resources.ServiceMonitorKind(), resources.PrometheusRuleKind()
	// components is the number of components with a ServiceMonitor. Redis has no ServiceMonitor, because this
	// simulation has no Redis exporter.
	const components = 5
	for range 2 {
		c.Define(definition(monitors), definition(rules))
		c.Expect(sim, "MonitoringReady", metav1.ConditionTrue, "Created")
		c.has(monitors, components)
		c.has(rules, 1)
		c.Exists(&corev1.ConfigMap{}, "watched-dashboard")

		// A reconcile for another reason would also restore the deleted object, so the operator must be idle first.
		c.awaitQuiet()
		rule := &unstructured.Unstructured{}
		rule.SetGroupVersionKind(rules)
		c.Delete(rule, "watched-rules")
		c.has(rules, 1)

		c.undefine(rules)
		partly := c.Expect(sim, "MonitoringReady", metav1.ConditionFalse, "KindNotServed")
		if !strings.Contains(partly.Message, "Created: ServiceMonitors") || !strings.Contains(partly.Message, "Not created: PrometheusRule") {
			t.Errorf("the message is %q, want the created and the missing kinds", partly.Message)
		}
		c.undefine(monitors)
		c.Gone(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "watched-dashboard"}})
		c.isCalm(2)
	}
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
}

// strictFields makes the API server reject objects with unknown fields. Without this option, the API server drops these
// fields and returns only a warning.
const strictFields = client.FieldValidation(metav1.FieldValidationStrict)

func (c *cluster) newRabbitmqCluster(namespace string, annotations map[string]string, spec map[string]any) *unstructured.Unstructured {
	c.T.Helper()
	rabbit := &unstructured.Unstructured{Object: map[string]any{}}
	if spec != nil {
		rabbit.Object["spec"] = spec
	}
	rabbit.SetGroupVersionKind(resources.RabbitmqClusterKind())
	rabbit.SetNamespace(namespace)
	rabbit.SetName("rabbit")
	rabbit.SetAnnotations(annotations)
	if err := c.Client.Create(c.T.Context(), rabbit, strictFields); err != nil {
		c.T.Fatal(err)
	}
	return rabbit
}

// bind does what the RabbitMQ Cluster Operator does: it sets the status, with the name of the default user's Secret.
func (c *cluster) bind(rabbit *unstructured.Unstructured, secret string) {
	c.T.Helper()
	c.Eventually("the binding to be written", func() error {
		if err := c.Client.Get(c.T.Context(), client.ObjectKeyFromObject(rabbit), rabbit); err != nil {
			return err
		}
		apiserver.SetRabbitmqClusterStatus(rabbit, secret)
		return c.Client.Status().Update(c.T.Context(), rabbit, strictFields)
	})
}

// newDefaultUser creates the Secret of the default user. The Secret has the owner and the keys that the RabbitMQ
// Cluster Operator sets.
func (c *cluster) newDefaultUser(rabbit *unstructured.Unstructured, scheme, port string) *corev1.Secret {
	c.T.Helper()
	namespace := rabbit.GetNamespace()
	user := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: "rabbit-default-user",
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rabbit, resources.RabbitmqClusterKind())},
		},
		StringData: map[string]string{
			"type": "rabbitmq", "provider": "rabbitmq", "host": "rabbit." + namespace + ".svc", "port": port,
			"username": "default_user_x", "password": "first", "default_user.conf": "default_pass = first",
			"connection_string": scheme + "://default_user_x:first@rabbit." + namespace + ".svc:" + port + "/",
		},
	}
	c.Create(user)
	return user
}

func TestClusterServer_OtherNamespace_CopiesTheBinding(t *testing.T) {
	t.Parallel()
	c := newDedicatedCluster(t)
	c.startOperator()
	const messaging = "messaging"
	c.Create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: messaging}})
	sim := c.Simulate("lodger", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.ClusterRef = &v1alpha1.ClusterReference{Name: "rabbit", Namespace: messaging}
	})
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "KindNotServed")
	c.Define(apiserver.RabbitmqClusterDefinition())
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "ClusterNotFound")

	rabbit := c.newRabbitmqCluster(messaging, nil, nil)
	denied := c.Expect(sim, "Stalled", metav1.ConditionTrue, "ClusterNotAllowed")
	if !strings.Contains(denied.Message, c.Namespace) || !strings.Contains(denied.Message, "rabbitmq.com/topology-allowed-namespaces") {
		t.Errorf("the message is %q, want namespace and annotation", denied.Message)
	}
	allowed := map[string]string{"rabbitmq.com/topology-allowed-namespaces": "elsewhere, " + c.Namespace}
	c.Edit(rabbit, func() { rabbit.SetAnnotations(allowed) })
	c.Expect(sim, "BrokerReady", metav1.ConditionFalse, "ClusterNotReady")

	user := c.newDefaultUser(rabbit, "amqp", "5672")
	c.bind(rabbit, user.Name)
	copied := &corev1.Secret{}
	settled(c, copied, "lodger-rabbitmq", func(s *corev1.Secret) bool { return string(s.Data["password"]) == "first" })
	if _, ok := copied.Data["default_user.conf"]; ok || string(copied.Data["host"]) != "rabbit.messaging.svc" {
		t.Errorf("the copy has the keys %v, want those of the binding", keysOf(copied.Data))
	}
	c.Eventually("the processors to run", func() error { return c.hasReplicas("lodger-processor", 2) })
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	answers := c.Expect(sim, "BrokerReady", metav1.ConditionTrue, "Ready")
	if !strings.Contains(answers.Message, "Secret messaging/rabbit-default-user of RabbitmqCluster messaging/rabbit") {
		t.Errorf("the message is %q, want it to name the cluster and its own Secret", answers.Message)
	}

	c.checkTLSFailure(sim, rabbit)

	// When the password in the RabbitmqCluster's Secret changes, the operator updates the simulation's copy of the
	// Secret.
	c.Edit(user, func() { user.StringData = map[string]string{"password": "second"} })
	settled(c, copied, "lodger-rabbitmq", func(s *corev1.Secret) bool { return string(s.Data["password"]) == "second" })

	// Without the CRD of RabbitmqCluster, the operator cannot read the credentials, so it must keep the simulation's
	// copy.
	c.undefine(resources.RabbitmqClusterKind())
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "KindNotServed")
	settled(c, copied, "lodger-rabbitmq", func(s *corev1.Secret) bool { return string(s.Data["password"]) == "second" })
	c.isCalm(2)
}

// checkTLSFailure makes TLS connections to a RabbitmqCluster fail. The condition BrokerReady must then name the Secrets
// of the RabbitmqCluster, not the simulation's copy.
func (c *cluster) checkTLSFailure(sim *v1alpha1.ParkingSimulation, rabbit *unstructured.Unstructured) {
	c.T.Helper()
	namespace, ca := rabbit.GetNamespace(), string(tlstest.NewAuthority(c.T, "issuer").PEM)
	c.Create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "rabbit-tls"}, StringData: map[string]string{"ca.crt": ca}})
	c.Edit(rabbit, func() { rabbit.Object["spec"] = map[string]any{"tls": map[string]any{"secretName": "rabbit-tls"}} })
	copied := sim.Name + "-rabbitmq"
	settled(c, &corev1.Secret{}, copied, func(s *corev1.Secret) bool { return len(s.Data["ca.crt"]) > 0 })
	c.servers.fail(errors.New("certificate signed by unknown authority"))
	failing := c.Expect(sim, "BrokerReady", metav1.ConditionFalse, "Unreachable")
	want := fmt.Sprintf("RabbitMQ (Secret %[1]s/rabbit-default-user of RabbitmqCluster %[1]s/rabbit; CA certificates belong in ca.crt of "+
		"Secret %[1]s/rabbit-tls) cannot be used: ", namespace)
	if !strings.HasPrefix(failing.Message, want) || strings.Contains(failing.Message, copied) {
		c.T.Errorf("the message is %q, want it to begin with %q and not to name the copy %s", failing.Message, want, copied)
	}
	c.servers.fail(nil)
	c.Expect(sim, "BrokerReady", metav1.ConditionTrue, "Ready")
}

// rejectsMisspelledFields checks that the API server rejects a RabbitmqCluster with a misspelled field. If the API
// server accepted it, the tests would not notice misspelled fields in their own RabbitmqClusters.
func (c *cluster) rejectsMisspelledFields() {
	c.T.Helper()
	rabbit := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"tls": map[string]any{"secret": "rabbit-tls"}}}}
	rabbit.SetGroupVersionKind(resources.RabbitmqClusterKind())
	rabbit.SetNamespace(c.Namespace)
	rabbit.SetName("misspelled")
	if err := c.Client.Create(c.T.Context(), rabbit, strictFields); err == nil || !strings.Contains(err.Error(), `unknown field "spec.tls.secret"`) {
		c.T.Errorf("the API server answers %v, want that it does not know spec.tls.secret", err)
	}
}

func TestClusterServer_SameNamespaceWithTLS_CopiesCertificatesWithoutPrivateKey(t *testing.T) {
	t.Parallel()
	c := newDedicatedCluster(t)
	c.Define(apiserver.RabbitmqClusterDefinition())
	c.startOperator()
	ca := strings.TrimSpace(string(tlstest.NewAuthority(t, "issuer").PEM))
	peers := strings.TrimSpace(string(tlstest.NewAuthority(t, "peers").PEM))
	sim := c.Simulate("tenant", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.ClusterRef = &v1alpha1.ClusterReference{Name: "rabbit"}
	})
	tls := map[string]any{"tls": map[string]any{"secretName": "rabbit-tls", "caSecretName": "rabbit-ca", "disableNonTLSListeners": true}}
	c.rejectsMisspelledFields()
	rabbit := c.newRabbitmqCluster(c.Namespace, nil, tls)
	denied := c.Expect(sim, "Stalled", metav1.ConditionTrue, "ClusterNotAllowed")
	if want := "kubectl annotate rabbitmqcluster rabbit --namespace " + c.Namespace + " simulation.parking.dev/allowed-simulations=tenant"; !strings.Contains(denied.Message, want) {
		t.Errorf("the message is %q, want the command %q", denied.Message, want)
	}
	c.Edit(rabbit, func() { rabbit.SetAnnotations(map[string]string{v1alpha1.AllowedSimulationsAnnotation: "tenant"}) })
	user := c.newDefaultUser(rabbit, "amqps", "5671")
	c.bind(rabbit, user.Name)
	c.Eventually("the message to name the Secret of spec.tls", func() error {
		missing := c.Expect(sim, "BrokerReady", metav1.ConditionFalse, "ClusterNotReady")
		if !strings.Contains(missing.Message, c.Namespace+"/rabbit-tls") {
			return fmt.Errorf("the message is %q", missing.Message)
		}
		return nil
	})
	c.Create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "rabbit-tls"}, StringData: map[string]string{"ca.crt": ca, "tls.crt": "-", "tls.key": "-"},
	})
	c.Create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "rabbit-ca"}, StringData: map[string]string{"ca.crt": peers}})
	copied := &corev1.Secret{}
	settled(c, copied, "tenant-rabbitmq", func(s *corev1.Secret) bool {
		return strings.Contains(string(s.Data["ca.crt"]), ca) && strings.Contains(string(s.Data["ca.crt"]), peers)
	})
	if _, ok := copied.Data["tls.key"]; ok {
		t.Errorf("the copy has the keys %v, want no private key", keysOf(copied.Data))
	}

	// When the permission is revoked, the operator deletes the simulation's copy of the binding.
	c.Edit(rabbit, func() { rabbit.SetAnnotations(nil) })
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "ClusterNotAllowed")
	c.Gone(copied)
}

// A user who may create RabbitmqClusters must not be able to make a simulation use any Secret of the namespace.
func TestClusterServer_SecretNotOwnedByRabbitmqCluster_IsUsedOnlyWhileItHasTheAnnotation(t *testing.T) {
	t.Parallel()
	c := newDedicatedCluster(t)
	c.Define(apiserver.RabbitmqClusterDefinition())
	c.startOperator()
	sim := c.Simulate("guest", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.ClusterRef = &v1alpha1.ClusterReference{Name: "rabbit"}
	})
	orders := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "orders"},
		StringData: map[string]string{"host": "orders.example", "port": "5672", "username": "orders", "password": "first"},
	}
	c.Create(orders)
	rabbit := c.newRabbitmqCluster(c.Namespace, map[string]string{v1alpha1.AllowedSimulationsAnnotation: "guest"}, nil)
	c.bind(rabbit, orders.Name)
	denied := c.Expect(sim, "Stalled", metav1.ConditionTrue, "SecretNotAllowed")
	if want := "kubectl annotate secret orders --namespace " + c.Namespace + " simulation.parking.dev/allowed-simulations=guest"; !strings.Contains(denied.Message, want) {
		t.Errorf("the message is %q, want the command %q", denied.Message, want)
	}
	copied := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "guest-rabbitmq"}}
	c.awaitQuiet()
	if err := c.Absent(copied); err != nil {
		t.Errorf("the copy of the Secret: %v", err)
	}

	c.Edit(orders, func() { orders.Annotations = map[string]string{v1alpha1.AllowedSimulationsAnnotation: "guest"} })
	settled(c, copied, "guest-rabbitmq", func(s *corev1.Secret) bool { return string(s.Data["username"]) == "orders" })
	c.Eventually("the processors to run", func() error { return c.hasReplicas("guest-processor", 2) })

	c.Edit(orders, func() { orders.Annotations = nil })
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "SecretNotAllowed")
	c.Gone(copied)
	c.Eventually("the processors to stop", func() error { return c.hasReplicas("guest-processor", 0) })
}

func keysOf(data map[string][]byte) []string {
	keys := make([]string, 0, len(data))
	for key := range data {
		keys = append(keys, key)
	}
	return keys
}
