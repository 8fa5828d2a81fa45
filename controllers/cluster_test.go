package controllers

import (
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/tlstest"
)

// Only the spec of a RabbitmqCluster always says whether it uses TLS: with a public CA, no Secret contains a CA
// certificate.
func TestDefaultUser_RabbitmqClusterHasTLS_BindingUsesTLS(t *testing.T) {
	t.Parallel()
	ca := string(tlstest.NewAuthority(t, "issuer").PEM)
	tests := map[string]struct {
		spec, user, tlsSecret map[string]any
		config                string
		want                  string
		ca                    bool
		reason                string
	}{
		"a configured virtual host":           {config: "a = b\ndefault_vhost = lots\n", want: "amqp://u:p@rabbit:5672/lots"},
		"a configured virtual host and a uri": {config: "default_vhost = lots", user: map[string]any{"uri": "amqp://u:p@other"}, want: "amqp://u:p@other"},
		"without TLS":                         {want: "amqp://u:p@rabbit:5672"},
		"a private CA":                        {spec: map[string]any{"secretName": "tls"}, tlsSecret: map[string]any{"ca.crt": ca}, want: "amqps://u:p@rabbit:5672", ca: true},
		"a public CA":                         {spec: map[string]any{"secretName": "tls"}, tlsSecret: map[string]any{"tls.crt": "-"}, want: "amqps://u:p@rabbit:5672"},
		"a public CA, no port":                {spec: map[string]any{"secretName": "tls"}, user: map[string]any{"port": ""}, tlsSecret: map[string]any{"tls.crt": "-"}, want: "amqps://u:p@rabbit:5671"},
		"a public CA and a uri":               {spec: map[string]any{"secretName": "tls"}, user: map[string]any{"uri": "amqps://u:p@other"}, tlsSecret: map[string]any{"tls.crt": "-"}, want: "amqps://u:p@other"},
		"the Secret does not exist yet":       {spec: map[string]any{"secretName": "tls"}, reason: reasonClusterUnready},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secret := func(name string, data map[string]any) *corev1.Secret {
				s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string][]byte{}}
				for key, value := range data {
					s.Data[key] = []byte(value.(string))
				}
				return s
			}
			user := map[string]any{
				"host": "rabbit", "port": "5672", "username": "u", "password": "p", "type": "rabbitmq", "connection_string": "amqp://u:p@rabbit:5672/",
			}
			maps.Copy(user, tt.user)
			owned := secret("user", user)
			owned.OwnerReferences = []metav1.OwnerReference{{UID: "1", Controller: new(true)}}
			builder := fake.NewClientBuilder().WithObjects(owned)
			if tt.tlsSecret != nil {
				builder = builder.WithObjects(secret("tls", tt.tlsSecret))
			}
			cluster := &unstructured.Unstructured{Object: map[string]any{
				"spec":   map[string]any{"tls": tt.spec},
				"status": map[string]any{"binding": map[string]any{"name": "user"}},
			}}
			if tt.spec == nil {
				cluster.Object["spec"] = map[string]any{"rabbitmq": map[string]any{"additionalConfig": tt.config}}
			}
			cluster.SetNamespace("default")
			cluster.SetName("rabbit")
			cluster.SetUID("1")
			r := &Reconciler{direct: builder.Build(), secrets: newSecretReaders()}
			got, err := r.defaultUser(t.Context(), newScope(externalSimulation(), time.Now()), server{name: binding.RabbitMQ().Name}, cluster)
			if err != nil || got.finding.reason != tt.reason {
				t.Fatalf("the finding is %+v (%v), want the reason %q", got.finding, err, tt.reason)
			}
			if tt.want == "" {
				return
			}
			if got.binding == nil || got.binding.URI.String() != tt.want || (got.binding.CA != nil) != tt.ca {
				t.Errorf("the binding is %+v, want %s with a CA: %t", got.binding, tt.want, tt.ca)
			}
		})
	}
}

// A RabbitmqCluster can name a Secret that it does not own. An annotation of the RabbitmqCluster does not permit its
// use: the Secret itself needs one.
func TestUserDenied_SecretNotOwnedByRabbitmqCluster_IsDeniedUnlessTheSecretHasTheAnnotation(t *testing.T) {
	t.Parallel()
	const here, elsewhere = "default", "messaging"
	owner := func(uid types.UID, controller bool) []metav1.OwnerReference {
		return []metav1.OwnerReference{{UID: uid, Controller: &controller}}
	}
	simulations := map[string]string{v1alpha1.AllowedSimulationsAnnotation: "other, sim"}
	namespaces := map[string]string{allowedNamespaces: here}
	for name, tt := range map[string]struct {
		namespace   string
		owners      []metav1.OwnerReference
		annotations map[string]string
		want        string // expected part of the message; "" if the simulation may use the Secret
	}{
		"a Secret of the RabbitmqCluster":                                {here, owner("1", true), nil, ""},
		"a Secret of the RabbitmqCluster in another namespace":           {elsewhere, owner("1", true), nil, ""},
		"a Secret without an owner":                                      {here, nil, nil, "kubectl annotate secret orders --namespace default simulation.parking.dev/allowed-simulations=sim"},
		"a Secret of another RabbitmqCluster":                            {here, owner("2", true), nil, "which RabbitmqCluster default/rabbit names but does not own"},
		"an owner that is not the controller":                            {here, owner("1", false), nil, "does not allow simulation sim to use it"},
		"a Secret with consent":                                          {here, nil, simulations, ""},
		"a Secret in another namespace with consent":                     {elsewhere, nil, namespaces, ""},
		"a Secret with consent only to its namespace":                    {here, nil, namespaces, "does not allow simulation sim to use it"},
		"a Secret in another namespace with consent only to simulations": {elsewhere, nil, simulations, "does not allow namespace default to use it: add the namespace to its annotation " + allowedNamespaces},
	} {
		cluster := &unstructured.Unstructured{Object: map[string]any{}}
		cluster.SetNamespace(tt.namespace)
		cluster.SetName("rabbit")
		cluster.SetUID("1")
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Namespace: tt.namespace, Name: "orders", OwnerReferences: tt.owners, Annotations: tt.annotations,
		}}
		got := userDenied(secret, cluster, client.ObjectKey{Namespace: here, Name: "sim"})
		switch {
		case tt.want == "" && got != (finding{}):
			t.Errorf("%s: the finding is %+v, want none", name, got)
		case tt.want != "" && (got.reason != reasonSecretNotAllowed || got.state != stalled || !strings.Contains(got.message, tt.want)):
			t.Errorf("%s: the finding is %+v, want %q", name, got, tt.want)
		}
	}
}

func TestNoDefaultUser_RabbitmqClusterUsesVault_ReturnsStalledFinding(t *testing.T) {
	t.Parallel()
	for want, spec := range map[state]map[string]any{
		progressing: {},
		stalled:     {"secretBackend": map[string]any{"vault": map[string]any{"role": "rabbitmq"}}},
	} {
		cluster := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
		if got := noDefaultUser(cluster); got.state != want || got.reason != reasonClusterUnready {
			t.Errorf("with spec %v the finding is %+v, want the state %v", spec, got, want)
		}
	}
}
