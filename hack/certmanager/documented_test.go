package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/certificates"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// These names must match the manifest in docs/operations.md.
const (
	namespace  = "parking"
	simulation = "rush-hour"
	authority  = "ca-certificate"
)

// No controller creates Pods here, so the test creates one for each component.
func TestCertManager_DocumentedManifest_RenewsCertificatesWithoutRestart(t *testing.T) {
	c := newCluster(t)
	c.createDocumented()
	sim := &v1alpha1.ParkingSimulation{}
	c.Exists(sim, simulation)
	needed := resources.Certificates(sim, "")
	needed = slices.DeleteFunc(needed, func(n resources.Certificate) bool { return !n.External })
	if want := len([]string{"rabbitmq", "redis", "summaries", "entry", "exit", "processor"}); len(needed) != want {
		t.Fatalf("the simulation needs %d certificates of cert-manager, want %d", len(needed), want)
	}
	c.awaitRunning(sim)

	ca, secrets := c.secret(authority), map[string]*corev1.Secret{}
	workloads, pods := map[resources.Component]client.Object{}, map[resources.Component]*corev1.Pod{}
	for _, n := range needed {
		secrets[n.Secret] = c.secret(n.Secret)
		if err := accepts(secrets[n.Secret], secrets[n.Secret], n.Hosts[0]); err != nil {
			t.Errorf("Secret %s: %v", n.Secret, err)
		}
		workloads[n.Component] = c.workload(n.Component)
		if !mounts(workloads[n.Component], n.Secret) {
			t.Errorf("the pods of %s do not mount the Secret %s", n.Component, n.Secret)
		}
		pods[n.Component] = c.Pod(sim, n.Component, nil)
	}
	hashes := map[resources.Component]string{}
	for component, pod := range pods {
		hashes[component] = c.awaitHash(pod, "")
	}

	c.renew(authority)
	for name := range secrets {
		c.renew(name)
	}
	renewedCA := c.secret(authority)
	if !bytes.Equal(ca.Data[corev1.TLSPrivateKeyKey], renewedCA.Data[corev1.TLSPrivateKeyKey]) {
		t.Error("the renewal has changed the key of the CA")
	}
	for _, n := range needed {
		before, after := secrets[n.Secret], c.secret(n.Secret)
		if bytes.Equal(before.Data[corev1.TLSPrivateKeyKey], after.Data[corev1.TLSPrivateKeyKey]) {
			t.Errorf("the renewed Secret %s has the same key as before", n.Secret)
		}
		if got := after.Annotations[v1alpha1.AllowedSimulationsAnnotation]; got != simulation {
			t.Errorf("the renewed Secret %s permits the simulations %q, want %q", n.Secret, got, simulation)
		}
		// Pods with the old certificate and pods with the new one must accept each other during the update.
		if err := errors.Join(accepts(before, after, n.Hosts[0]), accepts(after, before, n.Hosts[0])); err != nil {
			t.Errorf("Secret %s before and after the renewal: %v", n.Secret, err)
		}
	}
	for component, pod := range pods {
		c.awaitHash(pod, hashes[component])
	}
	c.Expect(sim, v1alpha1.ConditionReady, metav1.ConditionTrue, "Running")
	for component, before := range workloads {
		if after := c.workload(component); after.GetGeneration() != before.GetGeneration() {
			t.Errorf("the workload of %s has the generation %d, want %d: a renewal must restart no pod", component, after.GetGeneration(), before.GetGeneration())
		}
	}

	redis := sim.Spec.Redis.Managed.TLS.SecretName
	annotated := c.secret(redis)
	c.Edit(annotated, func() { delete(annotated.Annotations, v1alpha1.AllowedSimulationsAnnotation) })
	c.Eventually("cert-manager to restore the annotation", func() error {
		if got := c.secret(redis).Annotations; got[v1alpha1.AllowedSimulationsAnnotation] != simulation {
			return fmt.Errorf("the Secret has the annotations %q", got)
		}
		return nil
	})
	withdrawn := &certmanagerv1.Certificate{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: redis}}
	c.Edit(withdrawn, func() { withdrawn.Spec.SecretTemplate = nil })
	c.Expect(sim, v1alpha1.ConditionStoreReady, metav1.ConditionFalse, "SecretNotAllowed")
}

// createDocumented creates the objects of the manifest in docs/operations.md, in their namespace.
func (c cluster) createDocumented() {
	c.T.Helper()
	c.Namespace = namespace
	c.Create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		c.T.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n### Certificates of cert-manager\n")
	_, section, _ = strings.Cut(section, "\n```yaml\n")
	manifest, _, found := strings.Cut(section, "\n```\n")
	if !found {
		c.T.Fatal("docs/operations.md contains no manifest with certificates of cert-manager")
	}
	strict := client.WithFieldValidation(c.Client, metav1.FieldValidationStrict)
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifest), len(manifest))
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			err = strict.Create(c.T.Context(), object)
		}
		if err != nil {
			c.T.Fatal(err)
		}
	}
}

// awaitRunning waits until the simulation is Running. Until then, it repeatedly marks all workloads as ready.
func (c cluster) awaitRunning(sim *v1alpha1.ParkingSimulation) {
	c.T.Helper()
	c.Eventually("the simulation to run", func() error {
		c.MakeWorkloadsReady()
		c.Exists(sim, sim.Name)
		condition := meta.FindStatusCondition(sim.Status.Conditions, v1alpha1.ConditionReady)
		if condition == nil || condition.Status != metav1.ConditionTrue || condition.Reason != "Running" {
			return fmt.Errorf("the simulation has the conditions %+v", sim.Status.Conditions)
		}
		return nil
	})
}

// awaitHash waits for a new mounts-hash annotation and returns it. The operator changes the annotation to make the
// kubelet refresh the files in the pod.
func (c cluster) awaitHash(pod *corev1.Pod, former string) (hash string) {
	c.T.Helper()
	c.Eventually("the annotation of pod "+pod.Name, func() error {
		c.Exists(pod, pod.Name)
		if hash = pod.Annotations["simulation.parking.dev/mounts-hash"]; hash == former {
			return fmt.Errorf("the annotation is still %q", hash)
		}
		return nil
	})
	return hash
}

func (c cluster) workload(component resources.Component) client.Object {
	c.T.Helper()
	var workload client.Object = &appsv1.Deployment{}
	if slices.Contains(resources.Servers(), component) {
		workload = &appsv1.StatefulSet{}
	}
	c.Exists(workload, simulation+"-"+string(component))
	return workload
}

// mounts reports whether the pods of a workload mount a Secret.
func mounts(workload client.Object, secret string) bool {
	var volumes []corev1.Volume
	switch w := workload.(type) {
	case *appsv1.StatefulSet:
		volumes = w.Spec.Template.Spec.Volumes
	case *appsv1.Deployment:
		volumes = w.Spec.Template.Spec.Volumes
	}
	return slices.ContainsFunc(volumes, func(v corev1.Volume) bool { return v.Secret != nil && v.Secret.SecretName == secret })
}

// accepts returns an error if a client that trusts the CA in the Secret trusted would reject the certificate in the
// Secret server for the host.
func accepts(trusted, server *corev1.Secret, host string) error {
	_, err := certificates.Check(resources.ReadCertificate(server.Data).Pair, trusted.Data["ca.crt"], host, time.Now())
	return err
}
