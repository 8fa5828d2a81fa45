package main

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
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

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
	running.Go(func() {
		if err := run(ctx, kubeconfig); err != nil {
			c.T.Error(err)
		}
	})
	c.T.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// renew makes cert-manager renew a certificate, as "cmctl renew" does, and waits until the Secret contains the new one.
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
