//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// TestTLS_CertManagerRenewsUnderLoad_LosesNothingAndRestartsNothing creates the objects of the manifest in
// docs/operations.md, and runs cert-manager. The test renews the CA and all certificates while events are published.
func TestTLS_CertManagerRenewsUnderLoad_LosesNothingAndRestartsNothing(t *testing.T) {
	t.Parallel()
	// Skip the test if it cannot run commands on the node: such a cluster may be shared with other users, and the
	// test deletes all Certificates.
	skipWithoutNode(t, "read the files in the pods")
	ns := newNamespace(t)
	ns.expected = []warning{
		// The Issuers and the simulation refer to Secrets that cert-manager creates later. Until then, these warnings
		// are expected.
		{"ErrGetKeyPair", ""}, {"ErrInitIssuer", ""}, {"SecretNotFound", "create it with the keys tls.crt"},
	}
	ns.runCertManager()
	sim := ns.createDocumented(func(sim *v1alpha1.ParkingSimulation) {
		sim.Spec.Duration = v1alpha1.NewDuration(4 * time.Minute)
		lowRates(sim)
		shareNode(sim)
	})
	ns.awaitCondition(sim, v1alpha1.ConditionReady, 2*readyTimeout)
	ns.awaitProgress(sim, len(ns.allPods()))

	certificates := []certificateFile{
		{sim.Spec.RabbitMQ.Managed.TLS.SecretName, resources.ComponentRabbitMQ, certificatePath},
		{sim.Spec.Redis.Managed.TLS.SecretName, resources.ComponentRedis, certificatePath},
		{sim.Spec.SummaryAPI.Managed.TLS.SecretName, resources.ComponentSummaries, certificatePath},
	}
	for _, c := range []resources.Component{resources.ComponentEntry, resources.ComponentExit, resources.ComponentProcessor} {
		certificates = append(certificates, certificateFile{sim.Spec.Monitoring.TLS.SecretName, c, certificatePath})
	}
	ns.renewCertificate("ca-certificate", ns.requestRenewal)
	ns.checkRenewal(sim, certificates, ns.requestRenewal)
	ns.awaitCondition(sim, v1alpha1.ConditionComplete, 10*time.Minute)
	ns.awaitPass(sim)
}

// runCertManager installs the CRDs of cert-manager. Until the test ends, it runs the controllers of cert-manager
// outside of the cluster.
func (ns *namespace) runCertManager() {
	ns.t.Helper()
	module := exec.CommandContext(ns.t.Context(), "go", "list", "-C", repository+"/hack/certmanager", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager")
	directory, err := module.Output()
	if err != nil {
		ns.t.Fatalf("find the CRDs of cert-manager: %v", err)
	}
	crds := filepath.Join(strings.TrimSpace(string(directory)), "deploy", "crds")
	if err := kubectl(ns.t.Context(), nil, "apply", "--server-side", "-f", crds); err != nil {
		ns.t.Fatal(err)
	}
	if err := kubectl(ns.t.Context(), nil, "wait", "--for", "condition=Established", "--timeout", "1m", "-f", crds); err != nil {
		ns.t.Fatal(err)
	}
	program := filepath.Join(ns.t.TempDir(), "certmanager")
	if out, err := exec.CommandContext(ns.t.Context(), "go", "build", "-C", repository+"/hack/certmanager", "-o", program, ".").CombinedOutput(); err != nil {
		ns.t.Fatalf("build cert-manager: %v: %s", err, out)
	}

	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		cancel()
		ns.t.Fatal(err)
	}
	ns.t.Cleanup(func() {
		cancel()
		if err := cmd.Wait(); ns.t.Failed() {
			ns.t.Logf("cert-manager ended with %v:\n%s", err, log.String())
		}
		if err := kubectl(context.Background(), nil, "delete", "-f", crds); err != nil {
			ns.t.Error(err)
		}
	})
}

// createDocumented creates the objects of the manifest in docs/operations.md. It returns the simulation, which the
// function edit may change before the creation.
func (ns *namespace) createDocumented(edit func(*v1alpha1.ParkingSimulation)) *v1alpha1.ParkingSimulation {
	ns.t.Helper()
	text, err := os.ReadFile(repository + "/docs/operations.md")
	if err != nil {
		ns.t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n### Certificates of cert-manager\n")
	_, section, _ = strings.Cut(section, "\n```yaml\n")
	manifest, _, found := strings.Cut(section, "\n```\n")
	if !found {
		ns.t.Fatal("docs/operations.md contains no manifest with certificates of cert-manager")
	}
	manifest = strings.ReplaceAll(manifest, ".parking.svc.", "."+ns.name+".svc.")
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifest), len(manifest))
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			ns.t.Fatal("the manifest contains no ParkingSimulation")
		}
		if err != nil {
			ns.t.Fatal(err)
		}
		object.SetNamespace(ns.name)
		if object.GetKind() != "ParkingSimulation" {
			ns.create(object)
			continue
		}
		sim := &v1alpha1.ParkingSimulation{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, sim); err != nil {
			ns.t.Fatal(err)
		}
		edit(sim)
		ns.create(sim)
		return sim
	}
}

// requestRenewal makes cert-manager renew the certificate of a Secret, as "cmctl renew" does.
func (ns *namespace) requestRenewal(name string) {
	ns.t.Helper()
	object := &unstructured.Unstructured{}
	object.SetAPIVersion("cert-manager.io/v1")
	object.SetKind("Certificate")
	ns.eventually("the request for a renewal of "+name, time.Minute, func() error {
		if err := ns.Get(ns.t.Context(), client.ObjectKey{Namespace: ns.name, Name: name}, object); err != nil {
			return err
		}
		conditions, _, err := unstructured.NestedSlice(object.Object, "status", "conditions")
		if err != nil {
			return err
		}
		conditions = append(conditions, map[string]any{
			"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "Certificate re-issuance manually triggered",
			"lastTransitionTime": time.Now().UTC().Format(time.RFC3339), "observedGeneration": object.GetGeneration(),
		})
		if err := unstructured.SetNestedSlice(object.Object, conditions, "status", "conditions"); err != nil {
			return err
		}
		return ns.Status().Update(ns.t.Context(), object)
	})
}
