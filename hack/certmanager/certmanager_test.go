// Package certmanager checks that simulations can use certificates of cert-manager. It runs the controllers of cert-manager
// and the operator against a real API server, with the manifest in docs/operations.md. The package is a separate Go module,
// so that the main module does not have the dependencies of cert-manager.
package certmanager_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cert-manager/cert-manager/pkg/api/util"
	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	certmanagermeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	// Each of these packages registers a controller or an issuer of cert-manager.
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"

	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/test/apiserver"
)

// cluster is a Cluster on which the operator and cert-manager run.
type cluster struct{ *apiserver.Cluster }

func newCluster(t *testing.T) cluster {
	t.Helper()
	c := cluster{apiserver.NewPrivate(t)}
	if err := certmanagerv1.AddToScheme(c.Client.Scheme()); err != nil {
		t.Fatal(err)
	}
	c.runCertManager()
	c.RunOperator(c.Config, controllers.ManagerOptions{Logger: slog.New(slog.DiscardHandler)})
	return c
}

// runCertManager installs the CRDs of cert-manager. It runs the controllers until the test ends.
func (c cluster) runCertManager() {
	c.T.Helper()
	module, err := exec.CommandContext(c.T.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager").Output()
	if err != nil {
		c.T.Fatal(err)
	}
	definitions := filepath.Join(strings.TrimSpace(string(module)), "deploy", "crds")
	if _, err := envtest.InstallCRDs(c.Config, envtest.CRDInstallOptions{Paths: []string{definitions}, ErrorIfPathMissing: true}); err != nil {
		c.T.Fatal(err)
	}
	kubeconfig := filepath.Join(c.T.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, c.KubeConfig, 0o600); err != nil {
		c.T.Fatal(err)
	}

	ctx, cancel := context.WithCancel(logr.NewContext(context.Background(), logr.Discard()))
	var running sync.WaitGroup
	c.T.Cleanup(func() {
		cancel()
		running.Wait()
	})
	factory, err := controller.NewContextFactory(ctx, controller.ContextOptions{Kubeconfig: kubeconfig})
	if err != nil {
		c.T.Fatal(err)
	}
	shared, err := factory.Build()
	if err != nil {
		c.T.Fatal(err)
	}
	for name, construct := range controller.Known() {
		known, err := construct(factory)
		if err != nil {
			c.T.Fatalf("construct the controller %s of cert-manager: %v", name, err)
		}
		running.Go(func() {
			if err := known.Run(1, ctx); err != nil && ctx.Err() == nil {
				c.T.Errorf("the controller %s of cert-manager ended with %v", name, err)
			}
		})
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
}

// renew makes cert-manager renew a certificate, as "cmctl renew" does. The Secret has the same name as the Certificate. renew
// returns when the Secret contains another certificate.
func (c cluster) renew(name string) {
	c.T.Helper()
	before := c.secret(name)
	object := &certmanagerv1.Certificate{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: name}}
	c.Eventually("the request for a renewal of "+name, func() error {
		if err := c.Client.Get(c.T.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		util.SetCertificateCondition(object, object.Generation, certmanagerv1.CertificateConditionIssuing, certmanagermeta.ConditionTrue,
			"ManuallyTriggered", "Certificate re-issuance manually triggered")
		return c.Client.Status().Update(c.T.Context(), object)
	})
	c.Eventually("another certificate in Secret "+name, func() error {
		if bytes.Equal(c.secret(name).Data[corev1.TLSCertKey], before.Data[corev1.TLSCertKey]) {
			return errors.New("it is the old one")
		}
		return nil
	})
}

func (c cluster) secret(name string) *corev1.Secret {
	c.T.Helper()
	secret := &corev1.Secret{}
	c.Exists(secret, name)
	return secret
}
