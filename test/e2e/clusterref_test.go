//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/tlstest"
	"github.com/parking-operator/parking-operator/test/apiserver"
)

// RabbitMQ accepts only TLS connections. As with the RabbitMQ Cluster Operator, the default user's Secret contains
// neither a URI nor the CA certificate.
func TestClusterRef_WithTLS_LosesNoEvents(t *testing.T) {
	t.Parallel()
	messaging, ns := newNamespace(t), newNamespace(t)
	installRabbitmqClusterCRD(t)
	messaging.createRabbitMQ("rabbit")
	messaging.createRabbitmqCluster("rabbit", ns.name)

	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: ns.name, Name: "tenant"}}
	shareNode(sim)
	sim.Spec.Duration = v1alpha1.NewDuration(20 * time.Second)
	sim.Spec.RabbitMQ = v1alpha1.RabbitMQSpec{ClusterRef: &v1alpha1.ClusterReference{Namespace: messaging.name, Name: "rabbit"}}
	ns.create(sim)
	ns.awaitPass(sim)
	ns.remove(sim)
}

// installRabbitmqClusterCRD installs a CRD for RabbitmqClusters, and deletes it when the test ends.
func installRabbitmqClusterCRD(t *testing.T) {
	t.Helper()
	crd := apiserver.RabbitmqClusterDefinition()
	if err := shared.Create(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shared.Delete(context.WithoutCancel(t.Context()), crd); err != nil {
			t.Error(err)
		}
	})
}

// createRabbitMQ starts a RabbitMQ that accepts only TLS connections, and waits for it. It also creates the Secrets
// NAME-tls, with the certificates, and NAME-default-user.
func (ns *namespace) createRabbitMQ(name string) {
	ns.t.Helper()
	host := fmt.Sprintf("%s.%s.svc", name, ns.name)
	const password, port = "e2e-password", 5671
	authority := tlstest.NewAuthority(ns.t, "e2e CA")
	certificate, key := authority.Issue(ns.t, host)
	ns.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name + "-tls"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": certificate, "tls.key": key, "ca.crt": authority.PEM},
	})
	ns.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name + "-default-user"},
		StringData: map[string]string{
			"default_user.conf": "default_user = tenant\ndefault_pass = " + password + "\n", "username": "tenant", "password": password,
			"provider": "rabbitmq", "type": "rabbitmq", "host": host, "port": fmt.Sprint(port),
			"connection_string": fmt.Sprintf("amqps://tenant:%s@%s:%d/", password, host, port),
		},
	})
	ns.create(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "amqps", Port: port, TargetPort: intstr.FromInt32(port)}},
		},
	})
	pod := ns.rabbitMQPod(name, port)
	ns.create(pod)
	ns.eventually("a RabbitMQ that listens for TLS", readyTimeout, func() error {
		var now corev1.Pod
		if err := ns.Get(ns.t.Context(), client.ObjectKeyFromObject(pod), &now); err != nil {
			return err
		}
		if !isReady(&now) {
			return fmt.Errorf("pod %s is %s", name, now.Status.Phase)
		}
		return nil
	})
}

func (ns *namespace) rabbitMQPod(name string, port int32) *corev1.Pod {
	const script = `export PATH="/usr/lib/rabbitmq/bin:$PATH"
cat > "$HOME/rabbitmq.conf" <<EOF
listeners.tcp = none
listeners.ssl.default = 5671
ssl_options.cacertfile = /tls/ca.crt
ssl_options.certfile = /tls/tls.crt
ssl_options.keyfile = /tls/tls.key
ssl_options.verify = verify_none
EOF
cat /user/default_user.conf >> "$HOME/rabbitmq.conf"
exec rabbitmq-server`
	volume := func(name, secret string) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}}}
	}
	const user = 999
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(user)), FSGroup: new(int64(user)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "rabbitmq", Image: ns.rabbitMQImage(), Command: []string{"sh", "-ec", script},
				Env: []corev1.EnvVar{
					{Name: "HOME", Value: "/data"}, {Name: "LANG", Value: "C.UTF-8"}, {Name: "RABBITMQ_LOGS", Value: "-"},
					{Name: "RABBITMQ_CONFIG_FILE", Value: "/data/rabbitmq"}, {Name: "RABBITMQ_MNESIA_BASE", Value: "/data/mnesia"},
					{Name: "RABBITMQ_NODENAME", Value: "rabbit@localhost"}, {Name: "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", Value: "+sbwt none"},
				},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(port)}}},
				VolumeMounts: []corev1.VolumeMount{
					{Name: "data", MountPath: "/data"}, {Name: "tls", MountPath: "/tls"}, {Name: "user", MountPath: "/user"},
				},
			}},
			Volumes: []corev1.Volume{
				{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
				volume("tls", name+"-tls"), volume("user", name+"-default-user"),
			},
			TerminationGracePeriodSeconds: new(int64(1)),
		},
	}
}

// rabbitMQImage returns the image from which the operator runs RabbitMQ servers.
func (ns *namespace) rabbitMQImage() string {
	ns.t.Helper()
	var operators appsv1.DeploymentList
	if err := ns.List(ns.t.Context(), &operators, client.InNamespace(operatorNamespace)); err != nil {
		ns.t.Fatal(err)
	}
	const flag = "--rabbitmq-image="
	for _, operator := range operators.Items {
		arguments := operator.Spec.Template.Spec.Containers[0].Args
		if i := slices.IndexFunc(arguments, func(a string) bool { return strings.HasPrefix(a, flag) }); i >= 0 {
			return strings.TrimPrefix(arguments[i], flag)
		}
	}
	return "docker.io/library/rabbitmq:4.1.4"
}

// createRabbitmqCluster creates a RabbitmqCluster object for the RabbitMQ from createRabbitMQ. Simulations in the
// namespace allowed may use this RabbitMQ.
func (ns *namespace) createRabbitmqCluster(name, allowed string) {
	ns.t.Helper()
	// The API server must reject fields that the schema of RabbitmqClusters does not have.
	const strictly = client.FieldValidation(metav1.FieldValidationStrict)
	cluster := &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{
			"replicas": int64(1),
			"tls":      map[string]any{"secretName": name + "-tls", "disableNonTLSListeners": true},
		},
	}}
	cluster.SetGroupVersionKind(resources.RabbitmqClusterKind())
	cluster.SetNamespace(ns.name)
	cluster.SetName(name)
	cluster.SetAnnotations(map[string]string{"rabbitmq.com/topology-allowed-namespaces": allowed})
	// The API server begins to serve a new kind only some time after its CRD was created.
	ns.eventually("a RabbitmqCluster", time.Minute, func() error {
		return ns.Create(ns.t.Context(), cluster, strictly)
	})
	var user corev1.Secret
	if err := ns.Get(ns.t.Context(), client.ObjectKey{Namespace: ns.name, Name: name + "-default-user"}, &user); err != nil {
		ns.t.Fatal(err)
	}
	user.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(cluster, resources.RabbitmqClusterKind())}
	if err := ns.Update(ns.t.Context(), &user); err != nil {
		ns.t.Fatal(err)
	}
	apiserver.SetRabbitmqClusterStatus(cluster, user.Name)
	if err := ns.Status().Update(ns.t.Context(), cluster, strictly); err != nil {
		ns.t.Fatal(err)
	}
}
