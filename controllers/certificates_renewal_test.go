package controllers

import (
	"bytes"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/certificates"
	"github.com/parking-operator/parking-operator/internal/resources"
)

func TestEnsureCertificates_RenewalIsDue_RenewsAndSchedulesTheNextRenewal(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	start := time.Date(2026, 5, 17, 8, 0, 0, 0, time.UTC)
	c := fake.NewClientBuilder().Build()
	r := &Reconciler{client: c, direct: c}
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}
	sim.Spec.Redis.Managed = &v1alpha1.ManagedRedis{TLS: &v1alpha1.TLSSpec{}}
	stored := map[string]resources.CertificateData{}
	for _, step := range []struct {
		after   time.Duration
		renewed bool
		wake    time.Duration
	}{
		{0, true, 60 * day}, {59 * day, false, day}, {60 * day, true, 60 * day}, {61 * day, false, 59 * day},
	} {
		s := newScope(sim, start.Add(step.after))
		for name, certificate := range stored {
			s.children[childKey{"Secret", name}] = &corev1.Secret{Data: map[string][]byte{
				"tls.crt": certificate.Certificate, "tls.key": certificate.Key, "ca.crt": certificate.CA,
			}}
		}
		if err := r.ensureCertificates(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		got := s.credentials.Certificates["sim-redis-tls"]
		if renewed := !bytes.Equal(got.Certificate, stored["sim-redis-tls"].Certificate); renewed != step.renewed {
			t.Errorf("after %s the certificate was renewed: %t, want %t", step.after, renewed, step.renewed)
		}
		if s.wake != step.wake {
			t.Errorf("after %s the next reconcile is in %s, want %s", step.after, s.wake, step.wake)
		}
		if _, err := certificates.Check(got.Pair, got.CA, "sim-redis.default.svc.cluster.local", s.now); err != nil {
			t.Errorf("after %s: %v", step.after, err)
		}
		authority := s.credentials.Authority
		stored["sim-redis-tls"], stored["sim-ca"] = got, resources.CertificateData{Pair: authority.Pair, CA: authority.Trusted}
	}
}

// The expiry of a certificate changes no object, so it causes no reconcile. The operator must request a reconcile for
// that time.
func TestReadCertificate_CertificateInSecretExpires_WarnsAndSchedulesAReconcile(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	const host = "sim-redis.default.svc.cluster.local"
	start := time.Date(2026, 5, 17, 8, 0, 0, 0, time.UTC)
	authority, err := certificates.RenewAuthority(certificates.Authority{}, "mine", start)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Renew(certificates.Pair{}, []string{host}, start)
	if err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithObjects(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "mine", Annotations: map[string]string{v1alpha1.AllowedSimulationsAnnotation: "sim"}},
		Data:       map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key, "ca.crt": authority.Trusted},
	}).Build()
	r := &Reconciler{client: c, direct: c, secrets: newSecretReaders()}
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}
	sim.Spec.Redis.Managed = &v1alpha1.ManagedRedis{TLS: &v1alpha1.TLSSpec{SecretName: "mine"}}
	const warning = "a certificate of Redis in Secret default/mine (tls.crt or ca.crt) expires at 2026-08-15T08:00:00Z: renew it before then"
	for _, step := range []struct {
		after time.Duration
		wake  time.Duration
		notes []string
	}{
		{0, 60 * day, nil}, {60 * day, 30 * day, []string{warning}}, {90*day - time.Minute, time.Minute, []string{warning}}, {90*day + time.Second, 0, nil},
	} {
		s := newScope(sim, start.Add(step.after))
		redis := server{name: "Redis", managed: true}
		if err := r.readCertificate(t.Context(), s, &redis, resources.ComponentRedis); err != nil {
			t.Fatal(err)
		}
		if s.wake != step.wake || !slices.Equal(s.findings.notes, step.notes) {
			t.Errorf("after %s the next reconcile is in %s, and the notes are %q, want %s and %q", step.after, s.wake, s.findings.notes, step.wake, step.notes)
		}
		if expired := redis.finding.reason == reasonSecretInvalid; expired != (step.after > 90*day) {
			t.Errorf("after %s the finding is %q", step.after, redis.finding.message)
		}
	}
}

// Redis and the metrics servers use the same Secret. Its certificate is invalid for the metrics servers, but clients of
// Redis must still trust its CA.
func TestEnsureCertificates_SecretIsValidForRedisOnly_RedisClientsTrustItsCA(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 17, 8, 0, 0, 0, time.UTC)
	authority, err := certificates.RenewAuthority(certificates.Authority{}, "mine", now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Renew(certificates.Pair{}, []string{"sim-redis.default.svc.cluster.local"}, now)
	if err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithObjects(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "mine", Annotations: map[string]string{v1alpha1.AllowedSimulationsAnnotation: "sim"}},
		Data:       map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key, "ca.crt": authority.Trusted},
	}).Build()
	r := &Reconciler{client: c, direct: c, secrets: newSecretReaders()}
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}
	sim.Spec.Redis.Managed = &v1alpha1.ManagedRedis{TLS: &v1alpha1.TLSSpec{SecretName: "mine"}}
	sim.Spec.Monitoring.TLS = &v1alpha1.TLSSpec{SecretName: "mine"}
	s := newScope(sim, now)
	if err := r.readCertificate(t.Context(), s, &s.store, resources.ComponentRedis); err != nil {
		t.Fatal(err)
	}
	if err := r.readCertificate(t.Context(), s, &s.metrics, resources.ComponentEntry, resources.ComponentExit, resources.ComponentProcessor); err != nil {
		t.Fatal(err)
	}
	if err := r.ensureCertificates(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if s.store.finding.reason != "" || s.metrics.finding.reason != reasonSecretInvalid {
		t.Errorf("the findings are %q and %q", s.store.finding.message, s.metrics.finding.message)
	}
	if got := s.credentials.Certificates["mine"].CA; !bytes.Equal(got, authority.Trusted) {
		t.Errorf("clients of Redis trust %q, want the CA in the Secret", got)
	}
}
