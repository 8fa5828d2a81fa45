// Command certmanager runs the controllers of cert-manager that sign and renew certificates with a CA. It runs outside
// the cluster, which needs only cert-manager's CRDs.
//
// The package is a separate Go module to keep cert-manager out of the main module.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"

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
)

func main() {
	kubeconfig := flag.String("kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig of the cluster")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(logr.NewContext(ctx, logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, nil))), *kubeconfig)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "certmanager:", err)
		os.Exit(1)
	}
}

// run runs the controllers until ctx ends or a controller fails. The end of ctx is not an error.
func run(ctx context.Context, kubeconfig string) error {
	running, ctx := errgroup.WithContext(ctx)
	factory, err := controller.NewContextFactory(ctx, controller.ContextOptions{Kubeconfig: kubeconfig})
	if err != nil {
		return fmt.Errorf("connect to the cluster of %s: %w", kubeconfig, err)
	}
	shared, err := factory.Build()
	if err != nil {
		return fmt.Errorf("connect to the cluster of %s: %w", kubeconfig, err)
	}
	var known []controller.Interface
	for name, construct := range controller.Known() {
		c, err := construct(factory)
		if err != nil {
			return fmt.Errorf("construct the controller %s of cert-manager: %w", name, err)
		}
		known = append(known, c)
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
	for _, c := range known {
		running.Go(func() error {
			if err := c.Run(1, ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("a controller of cert-manager ended: %w", err)
			}
			return nil
		})
	}
	return running.Wait()
}
