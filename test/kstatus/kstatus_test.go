// Package kstatus checks that kstatus, by which Flux, Argo CD and others tell how an object fares, reads the
// status of a ParkingSimulation as it is meant. It is a module of its own for the sake of what kstatus needs.
package kstatus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/test/apiserver"
)

// lot is an API server with an operator, and what kstatus makes of the simulations there.
type lot struct{ *apiserver.Cluster }

// startOperator runs the operator until the returned function is called, or the test ends.
func (l lot) startOperator() (stop func()) {
	l.T.Helper()
	return l.Operate(l.Config, controllers.ManagerOptions{Backends: noServers{}, Logger: slog.New(slog.DiscardHandler)})
}

// noServers are servers that nobody can connect to: kstatus has nothing to do with ledgers.
type noServers struct{}

func (noServers) OpenQueues(controllers.Target) (controllers.Queues, error) {
	return nil, errors.New("there is no RabbitMQ")
}

func (noServers) OpenKeys(controllers.Target) (controllers.Keys, error) {
	return nil, errors.New("there is no Redis")
}

func (noServers) Measure(context.Context, controllers.Endpoints) (controllers.Measurement, error) {
	return controllers.Measurement{}, nil
}

// is what kstatus says of a simulation.
func (l lot) is(sim *v1alpha1.ParkingSimulation) (*status.Result, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.Kind))
	if err := l.Client.Get(l.T.Context(), client.ObjectKeyFromObject(sim), u); err != nil {
		return nil, err
	}
	return status.Compute(u)
}

// becomes waits until kstatus says so, and checks that it says nothing but what is expected on the way there.
func (l lot) becomes(sim *v1alpha1.ParkingSimulation, want, before status.Status) {
	l.T.Helper()
	l.Eventually(fmt.Sprintf("%s to be %s", sim.Name, want), func() error {
		got, err := l.is(sim)
		if err != nil {
			return err
		}
		if got.Status != want && got.Status != before {
			l.T.Fatalf("on its way from %s to %s, %s is %s: %s", before, want, sim.Name, got.Status, got.Message)
		}
		if got.Status != want {
			return fmt.Errorf("it is %s: %s", got.Status, got.Message)
		}
		return nil
	})
}

// sees waits until the operator has seen the present spec.
func (l lot) sees(sim *v1alpha1.ParkingSimulation) {
	l.T.Helper()
	l.Eventually(sim.Name+" to be seen", func() error {
		if err := l.Client.Get(l.T.Context(), client.ObjectKeyFromObject(sim), sim); err != nil {
			return err
		}
		if sim.Status.ObservedGeneration != sim.Generation {
			return fmt.Errorf("generation %d was seen", sim.Status.ObservedGeneration)
		}
		return nil
	})
}

func TestKstatusAgreesAtEachStage(t *testing.T) {
	l := lot{apiserver.Alone(t)}
	sim := l.Simulate("sim", nil)
	// Nobody has looked at it yet: without its default, an empty status would pass for Current.
	l.becomes(sim, status.InProgressStatus, status.InProgressStatus)

	stop := l.startOperator()
	l.sees(sim)
	l.becomes(sim, status.InProgressStatus, status.InProgressStatus)
	l.Exists(&appsv1.Deployment{}, "sim-processor") // the last of its workloads
	l.Settle()
	l.becomes(sim, status.CurrentStatus, status.InProgressStatus)

	l.Edit(sim, func() { sim.Spec.Suspend = true })
	l.becomes(sim, status.CurrentStatus, status.InProgressStatus)

	stalled := l.Simulate("stalled", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.SecretRef = &v1alpha1.SecretReference{Name: "missing"}
	})
	l.becomes(stalled, status.FailedStatus, status.InProgressStatus)
	l.Secret("missing", map[string]string{"uri": "amqp://user:password@127.0.0.1:1"})
	l.becomes(stalled, status.InProgressStatus, status.FailedStatus)

	stop()
	l.Edit(sim, func() { sim.Spec.Entry.Rate = new(int32(7)) })
	l.becomes(sim, status.InProgressStatus, status.InProgressStatus)
	l.Delete(stalled, stalled.Name)
	l.becomes(stalled, status.TerminatingStatus, status.TerminatingStatus)
}
