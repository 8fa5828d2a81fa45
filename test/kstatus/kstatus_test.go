// Package kstatus checks that kstatus, by which Flux, Argo CD and others tell how an object fares, reads the
// status of a ParkingSimulation as it is meant. It is a module of its own for the sake of what kstatus needs.
package kstatus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/internal/resources"
)

const namespace = "default"

// lot is an API server; the test plays the controllers of Deployments and StatefulSets.
type lot struct {
	t      *testing.T
	config *rest.Config
	client client.Client
}

func newLot(t *testing.T) *lot {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		const missing = "there is no API server: set KUBEBUILDER_ASSETS to what hack/envtest.sh prints"
		if os.Getenv("PARKING_TEST_REQUIRE") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	log.SetLogger(logr.Discard())
	env := &envtest.Environment{
		CRDDirectoryPaths: []string{"../../config/crd/bases"}, ErrorIfCRDPathMissing: true, ControlPlaneStartTimeout: 5 * time.Minute,
	}
	server, err := env.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	scheme, err := controllers.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(server, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return &lot{t: t, config: server, client: c}
}

// startOperator runs the operator until the returned function is called, or the test ends.
func (l *lot) startOperator() (stop func()) {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	mgr, err := controllers.NewManager(ctx, l.config, controllers.ManagerOptions{
		Options:  controllers.Options{Images: resources.Images{Parking: "parking", RabbitMQ: "rabbitmq", Redis: "redis"}, Workers: 2},
		Backends: noServers{},
		Logger:   slog.New(slog.DiscardHandler),
		Manager: manager.Options{
			Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: new(true)},
		},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			l.t.Errorf("the operator ended with %v", err)
		}
	}
	l.t.Cleanup(stop)
	return stop
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

func (l *lot) simulate(name string, spec v1alpha1.ParkingSimulationSpec) *v1alpha1.ParkingSimulation {
	l.t.Helper()
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: spec}
	if err := l.client.Create(l.t.Context(), sim); err != nil {
		l.t.Fatal(err)
	}
	return sim
}

// is what kstatus says of a simulation.
func (l *lot) is(sim *v1alpha1.ParkingSimulation) (*status.Result, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.Kind))
	if err := l.client.Get(l.t.Context(), client.ObjectKeyFromObject(sim), u); err != nil {
		return nil, err
	}
	return status.Compute(u)
}

// becomes waits until kstatus says so, and checks that it says nothing but what is expected on the way there.
func (l *lot) becomes(sim *v1alpha1.ParkingSimulation, want, before status.Status) {
	l.t.Helper()
	l.eventually(fmt.Sprintf("%s to be %s", sim.Name, want), func() error {
		got, err := l.is(sim)
		if err != nil {
			return err
		}
		if got.Status != want && got.Status != before {
			l.t.Fatalf("on its way from %s to %s, %s is %s: %s", before, want, sim.Name, got.Status, got.Message)
		}
		if got.Status != want {
			return fmt.Errorf("it is %s: %s", got.Status, got.Message)
		}
		return nil
	})
}

func (l *lot) eventually(what string, check func() error) {
	l.t.Helper()
	deadline := time.After(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			l.t.Fatalf("%s: %v", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// sees waits until the operator has seen the present spec.
func (l *lot) sees(sim *v1alpha1.ParkingSimulation) {
	l.t.Helper()
	l.eventually(sim.Name+" to be seen", func() error {
		if err := l.client.Get(l.t.Context(), client.ObjectKeyFromObject(sim), sim); err != nil {
			return err
		}
		if sim.Status.ObservedGeneration != sim.Generation {
			return fmt.Errorf("generation %d was seen", sim.Status.ObservedGeneration)
		}
		return nil
	})
}

// settle has every workload say that it has the pods it is to have.
func (l *lot) settle() {
	l.t.Helper()
	l.eventually("workloads to settle", func() error {
		deployments, sets := &appsv1.DeploymentList{}, &appsv1.StatefulSetList{}
		if err := errors.Join(l.client.List(l.t.Context(), deployments), l.client.List(l.t.Context(), sets)); err != nil {
			return err
		}
		var errs []error
		for i := range deployments.Items {
			d, n := &deployments.Items[i], *deployments.Items[i].Spec.Replicas
			d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
			errs = append(errs, l.client.Status().Update(l.t.Context(), d))
		}
		for i := range sets.Items {
			s, n := &sets.Items[i], *sets.Items[i].Spec.Replicas
			s.Status = appsv1.StatefulSetStatus{ObservedGeneration: s.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
			errs = append(errs, l.client.Status().Update(l.t.Context(), s))
		}
		return errors.Join(errs...)
	})
}

func (l *lot) edit(sim *v1alpha1.ParkingSimulation, change func(*v1alpha1.ParkingSimulationSpec)) {
	l.t.Helper()
	l.eventually("an edit", func() error {
		if err := l.client.Get(l.t.Context(), client.ObjectKeyFromObject(sim), sim); err != nil {
			return err
		}
		change(&sim.Spec)
		return l.client.Update(l.t.Context(), sim)
	})
}

func TestKstatusAgreesAtEachStage(t *testing.T) {
	l := newLot(t)
	sim := l.simulate("sim", v1alpha1.ParkingSimulationSpec{})
	// Nobody has looked at it yet: without its default, an empty status would pass for Current.
	l.becomes(sim, status.InProgressStatus, status.InProgressStatus)

	stop := l.startOperator()
	l.sees(sim)
	l.becomes(sim, status.InProgressStatus, status.InProgressStatus)
	l.eventually("its last object", func() error {
		return l.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "sim-processor"}, &appsv1.Deployment{})
	})
	l.settle()
	l.becomes(sim, status.CurrentStatus, status.InProgressStatus)

	l.edit(sim, func(s *v1alpha1.ParkingSimulationSpec) { s.Suspend = true })
	l.becomes(sim, status.CurrentStatus, status.InProgressStatus)

	stalled := l.simulate("stalled", v1alpha1.ParkingSimulationSpec{
		RabbitMQ: v1alpha1.RabbitMQSpec{SecretRef: &v1alpha1.SecretReference{Name: "missing"}},
	})
	l.becomes(stalled, status.FailedStatus, status.InProgressStatus)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "missing"},
		StringData: map[string]string{"uri": "amqp://user:password@127.0.0.1:1"},
	}
	if err := l.client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	l.becomes(stalled, status.InProgressStatus, status.FailedStatus)

	stop()
	l.edit(sim, func(s *v1alpha1.ParkingSimulationSpec) { s.Entry.Rate = new(int32(7)) })
	l.becomes(sim, status.InProgressStatus, status.InProgressStatus)
	if err := l.client.Delete(t.Context(), stalled); err != nil {
		t.Fatal(err)
	}
	l.becomes(stalled, status.TerminatingStatus, status.TerminatingStatus)
}
