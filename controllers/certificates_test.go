package controllers_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/certificates"
	"github.com/parking-operator/parking-operator/internal/resources"
)

func checkCertificate(secret *corev1.Secret, ca []byte, host string) error {
	pair := certificates.Pair{Certificate: secret.Data["tls.crt"], Key: secret.Data["tls.key"]}
	_, err := certificates.Check(pair, ca, host, time.Now())
	return err
}

func TestReconcile_TLS_IssuesCertificatesAndReplacesDeletedOnes(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("safe", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{TLS: &v1alpha1.TLSSpec{}}
		s.Redis.Managed = &v1alpha1.ManagedRedis{TLS: &v1alpha1.TLSSpec{}}
		s.SummaryAPI.Managed = &v1alpha1.ManagedSummaryAPI{TLS: &v1alpha1.TLSSpec{}}
		s.Monitoring.TLS = &v1alpha1.TLSSpec{}
	})
	hosts := map[string]string{
		"safe-rabbitmq-tls":   "safe-rabbitmq." + c.Namespace + ".svc.cluster.local",
		"safe-rabbitmq-nodes": "safe-rabbitmq-0.safe-rabbitmq-nodes." + c.Namespace + ".svc.cluster.local",
		"safe-redis-tls":      "safe-redis." + c.Namespace + ".svc.cluster.local",
		"safe-summaries-tls":  "safe-summaries." + c.Namespace + ".svc.cluster.local",
		"safe-entry-tls":      "safe-entry." + c.Namespace + ".svc.cluster.local",
		"safe-exit-tls":       "safe-exit." + c.Namespace + ".svc.cluster.local",
		"safe-processor-tls":  "safe-processor." + c.Namespace + ".svc.cluster.local",
	}
	authority := &corev1.Secret{}
	c.Exists(authority, "safe-ca")
	for name, host := range hosts {
		secret := &corev1.Secret{}
		c.Exists(secret, name)
		if err := checkCertificate(secret, authority.Data["ca.crt"], host); err != nil {
			t.Errorf("Secret %s: %v", name, err)
		}
	}
	for _, name := range []string{"safe-rabbitmq", "safe-redis"} {
		binding := &corev1.Secret{}
		c.Exists(binding, name)
		if !bytes.Equal(binding.Data["ca.crt"], authority.Data["ca.crt"]) {
			t.Errorf("clients of %s trust other certificates than that of the authority", name)
		}
	}
	set := &appsv1.StatefulSet{}
	c.Exists(set, "safe-redis")
	c.Exists(&appsv1.Deployment{}, "safe-processor") // the operator creates this object last
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	if !slices.ContainsFunc(c.servers.bindings(), func(uri string) bool { return strings.HasPrefix(uri, "rediss://") }) {
		t.Errorf("the operator connects to %q, want TLS", c.servers.bindings())
	}

	processors := &appsv1.Deployment{}
	c.Exists(processors, "safe-processor")
	for name, component := range map[string]resources.Component{"safe-redis-tls": resources.ComponentRedis, "safe-processor-tls": resources.ComponentProcessor} {
		pod := c.Pod(sim, component, nil)
		var mounted string
		c.Eventually("the annotation of the pod", func() error {
			c.Exists(pod, pod.Name)
			if mounted = pod.Annotations["simulation.parking.dev/mounts-hash"]; mounted == "" {
				return errors.New("it does not exist")
			}
			return nil
		})
		c.awaitQuiet()
		first := &corev1.Secret{}
		c.Exists(first, name)
		c.Delete(first, first.Name)
		second := &corev1.Secret{}
		c.Eventually("another certificate", func() error {
			c.Exists(second, name)
			if bytes.Equal(first.Data["tls.crt"], second.Data["tls.crt"]) {
				return errors.New("it is the old one")
			}
			return checkCertificate(second, authority.Data["ca.crt"], hosts[name])
		})
		c.Eventually("the annotation of the pod to change", func() error {
			c.Exists(pod, pod.Name)
			if pod.Annotations["simulation.parking.dev/mounts-hash"] == mounted {
				return errors.New("the annotation of the pod is the same")
			}
			return nil
		})
		c.awaitQuiet()
	}
	for _, name := range []string{"safe-redis", "safe-rabbitmq", "safe-summaries"} {
		after := &appsv1.StatefulSet{}
		if c.Exists(after, name); after.Generation != 1 {
			t.Errorf("StatefulSet %s has generation %d, want 1: the renewal must restart no pod", name, after.Generation)
		}
	}
	after := &appsv1.Deployment{}
	if c.Exists(after, "safe-processor"); after.Generation != processors.Generation {
		t.Errorf("the Deployment of the processors has generation %d, want %d: the renewal must restart no pod", after.Generation, processors.Generation)
	}
}

// Pods may mount the Secret with the metrics certificate only while the certificate is valid for generators and
// processors, and its owner permits the use.
func TestReconcile_TLSSecretOfMetrics_IsUsedOnlyWhileValidAndPermitted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	authority, err := certificates.RenewAuthority(certificates.Authority{}, "mine", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issue := func(hosts ...string) map[string][]byte {
		pair, err := authority.Renew(certificates.Pair{}, hosts, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key, "ca.crt": authority.Trusted}
	}
	sim := c.Simulate("chosen", func(s *v1alpha1.ParkingSimulationSpec) { s.Monitoring.TLS = &v1alpha1.TLSSpec{SecretName: "mine"} })
	c.Expect(sim, "WorkloadsReady", metav1.ConditionFalse, "SecretNotFound")
	c.Eventually("no processor", func() error { return c.hasReplicas("chosen-processor", 0) })
	c.MakeWorkloadsReady()
	c.Expect(sim, "BrokerReady", metav1.ConditionTrue, "Ready")
	c.Expect(sim, "StoreReady", metav1.ConditionTrue, "Ready")
	c.Expect(sim, "SummaryAPIReady", metav1.ConditionTrue, "Ready")
	c.awaitQuiet()
	if c.Exists(sim, "chosen"); sim.Status.StartTime != nil {
		t.Error("the schedules have started although no pods may run")
	}

	host := func(component string) string { return "chosen-" + component + "." + c.Namespace + ".svc.cluster.local" }
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "mine"}, Data: issue(host("entry"), host("processor"))}
	c.Create(secret)
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "SecretNotAllowed")
	c.Eventually("no processor", func() error { return c.hasReplicas("chosen-processor", 0) })

	c.Edit(secret, func() { secret.Annotations = map[string]string{v1alpha1.AllowedSimulationsAnnotation: "chosen"} })
	invalid := c.Expect(sim, "WorkloadsReady", metav1.ConditionFalse, "SecretInvalid")
	if want := "must be valid for " + host("entry") + ", " + host("exit") + ", " + host("processor"); !strings.Contains(invalid.Message, want) {
		t.Errorf("the message is %q, want %q", invalid.Message, want)
	}
	c.Edit(secret, func() { secret.Data = issue(host("entry"), host("exit"), host("processor")) })
	c.Eventually("the processors to run", func() error { return c.hasReplicas("chosen-processor", *sim.Spec.Processor.Replicas) })
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")

	// While the key does not match the certificate, the operator must not make the kubelet refresh
	// the mounted files.
	pod := c.Pod(sim, resources.ComponentProcessor, nil)
	mounted := c.annotated(pod, "")
	renewed := issue(host("entry"), host("exit"), host("processor"))
	c.Edit(secret, func() { secret.Data["tls.key"] = renewed["tls.key"] })
	c.Expect(sim, "WorkloadsReady", metav1.ConditionFalse, "SecretInvalid")
	c.awaitQuiet()
	c.Exists(pod, pod.Name)
	if now := pod.Annotations["simulation.parking.dev/mounts-hash"]; now != mounted {
		t.Errorf("while the certificate is invalid, the annotation of the pod changes from %q to %q", mounted, now)
	}
	c.Edit(secret, func() { secret.Data = renewed })
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	c.annotated(pod, mounted)
}

// If a Secret with a certificate loses its owner, the operator cannot write it, and must keep the existing
// certificates and the CA certificates that clients trust.
func TestReconcile_CertificateSecretLosesItsOwner_StopsServerAndKeepsCertificates(t *testing.T) {
	t.Parallel()
	for _, taken := range []string{"ca", "redis-tls"} {
		t.Run(taken, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			sim := c.Simulate("safe", func(s *v1alpha1.ParkingSimulationSpec) {
				s.Redis.Managed = &v1alpha1.ManagedRedis{TLS: &v1alpha1.TLSSpec{}}
			})
			c.Exists(&appsv1.Deployment{}, "safe-processor") // the operator creates this object last
			c.MakeWorkloadsReady()
			c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
			c.awaitQuiet()
			before := map[string]*corev1.Secret{"safe-redis": {}, "safe-redis-tls": {}, "safe-ca": {}}
			for name, secret := range before {
				c.Exists(secret, name)
			}
			foreign := before["safe-"+taken].DeepCopy()
			c.Edit(foreign, func() { foreign.OwnerReferences, foreign.Labels = nil, nil })
			stalled := c.Expect(sim, "Stalled", metav1.ConditionTrue, "NameTaken")
			if want := "Secret " + c.Namespace + "/" + foreign.Name; !strings.Contains(stalled.Message, want) {
				t.Errorf("the message is %q, want %q", stalled.Message, want)
			}
			c.Eventually("Redis to stop", func() error {
				set := &appsv1.StatefulSet{}
				if c.Exists(set, "safe-redis"); *set.Spec.Replicas != 0 {
					return fmt.Errorf("it has %d replicas", *set.Spec.Replicas)
				}
				return nil
			})
			c.awaitQuiet()
			for name, secret := range before {
				after := &corev1.Secret{}
				if c.Exists(after, name); !maps.EqualFunc(after.Data, secret.Data, bytes.Equal) {
					t.Errorf("the data of Secret %s has changed to %q", name, after.Data)
				}
			}

			c.Delete(foreign, foreign.Name)
			c.Eventually("Redis to run with a good certificate", func() error {
				set, binding, secret := &appsv1.StatefulSet{}, &corev1.Secret{}, &corev1.Secret{}
				if c.Exists(set, "safe-redis"); *set.Spec.Replicas != 1 {
					return fmt.Errorf("it has %d replicas", *set.Spec.Replicas)
				}
				c.Exists(binding, "safe-redis")
				c.Exists(secret, "safe-redis-tls")
				return checkCertificate(secret, binding.Data["ca.crt"], "safe-redis."+c.Namespace+".svc.cluster.local")
			})
		})
	}
}

func TestReconcile_NameOfCASecretIsTaken_CreatesNoCertificate(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.Secret("late-ca", map[string]string{"tls.crt": "the CA of another program"})
	sim := c.Simulate("late", nil)
	c.Exists(&appsv1.Deployment{}, "late-processor") // the operator creates this object last
	c.Edit(sim, func() { sim.Spec.Redis.Managed = &v1alpha1.ManagedRedis{TLS: &v1alpha1.TLSSpec{}} })
	c.Expect(sim, "Stalled", metav1.ConditionTrue, "NameTaken")
	c.Eventually("Redis to stop", func() error {
		set := &appsv1.StatefulSet{}
		if c.Exists(set, "late-redis"); *set.Spec.Replicas != 0 {
			return fmt.Errorf("it has %d replicas", *set.Spec.Replicas)
		}
		return nil
	})
	c.awaitQuiet()
	if err := c.Absent(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "late-redis-tls"}}); err != nil {
		t.Errorf("the operator created a Secret although it had no certificate for it: %v", err)
	}
}

// Pods may mount a Secret with a certificate only while its owner permits this. After the Secret is deleted, clients
// still trust the same CA certificates.
func TestReconcile_TLSSecret_IsUsedOnlyWhileValidAndPermitted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	host := "chosen-redis." + c.Namespace + ".svc.cluster.local"
	authority, err := certificates.RenewAuthority(certificates.Authority{}, "mine", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issue := func(host string, at time.Time) map[string][]byte {
		pair, err := authority.Renew(certificates.Pair{}, []string{host}, at)
		if err != nil {
			t.Fatal(err)
		}
		return map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key, "ca.crt": authority.Trusted}
	}
	sim := c.Simulate("chosen", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Redis.Managed = &v1alpha1.ManagedRedis{TLS: &v1alpha1.TLSSpec{SecretName: "mine"}}
	})
	runs := func(want int32) func() error {
		return func() error {
			set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "chosen-redis"}}
			if want == 0 && c.Absent(set) == nil {
				return nil
			}
			if c.Exists(set, "chosen-redis"); *set.Spec.Replicas != want {
				return fmt.Errorf("it has %d replicas", *set.Spec.Replicas)
			}
			return nil
		}
	}
	c.Expect(sim, "StoreReady", metav1.ConditionFalse, "SecretNotFound")
	c.Eventually("no Redis", runs(0))
	c.Eventually("no processor", func() error { return c.hasReplicas("chosen-processor", 0) })

	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "mine"}, Data: issue("other.example", time.Now())}
	c.Create(secret)
	denied := c.Expect(sim, "Stalled", metav1.ConditionTrue, "SecretNotAllowed")
	if want := "kubectl annotate secret mine --namespace " + c.Namespace; !strings.Contains(denied.Message, want) {
		t.Errorf("the message is %q, want the command %q", denied.Message, want)
	}
	c.Eventually("no Redis", runs(0))

	c.Edit(secret, func() { secret.Annotations = map[string]string{v1alpha1.AllowedSimulationsAnnotation: "chosen"} })
	invalid := c.Expect(sim, "StoreReady", metav1.ConditionFalse, "SecretInvalid")
	if !strings.Contains(invalid.Message, "other.example") || !strings.Contains(invalid.Message, "must be valid for "+host) {
		t.Errorf("the message is %q, want both hosts", invalid.Message)
	}
	c.Edit(secret, func() { secret.Data = issue(host, time.Now()) })
	c.Eventually("Redis to run", runs(1))
	binding := &corev1.Secret{}
	c.Eventually("clients to trust the CA", func() error {
		if c.Exists(binding, "chosen-redis"); !bytes.Equal(binding.Data["ca.crt"], authority.Trusted) {
			return fmt.Errorf("they trust %q", binding.Data["ca.crt"])
		}
		return nil
	})
	for _, name := range []string{"chosen-ca", "chosen-redis-tls"} {
		if err := c.Absent(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: name}}); err != nil {
			t.Errorf("the operator made a certificate although it was given one: %v", err)
		}
	}
	c.Eventually("the processors to run", func() error { return c.hasReplicas("chosen-processor", 2) })
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")

	before := time.Now()
	c.Edit(secret, func() { secret.Data = issue(host, before.Add(-70*24*time.Hour)) })
	c.Eventually("a warning of the expiry", func() error {
		running := c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
		if want := "expires at " + before.Add(20*24*time.Hour).UTC().Format(time.RFC3339); !strings.Contains(running.Message, want) {
			return fmt.Errorf("the message is %q, want %q", running.Message, want)
		}
		return nil
	})

	c.Delete(secret, "mine")
	c.Expect(sim, "StoreReady", metav1.ConditionFalse, "SecretNotFound")
	c.awaitQuiet()
	if c.Exists(binding, "chosen-redis"); !bytes.Equal(binding.Data["ca.crt"], authority.Trusted) {
		t.Errorf("without the Secret, clients trust %q, want what they trusted before", binding.Data["ca.crt"])
	}
	if err := runs(1)(); err != nil {
		t.Errorf("without the Secret, Redis does not run: %v", err)
	}
	c.Create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "mine", Annotations: map[string]string{v1alpha1.AllowedSimulationsAnnotation: "*"}},
		Data:       issue(host, time.Now()),
	})
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	c.Exists(secret, "mine")
	c.Edit(secret, func() { secret.Annotations = nil })
	c.Expect(sim, "StoreReady", metav1.ConditionFalse, "SecretNotAllowed")
	c.Eventually("Redis to stop", runs(0))
}
