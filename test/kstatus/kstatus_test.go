// Package kstatus checks how kstatus, a library of Flux and Argo CD, interprets the status of a ParkingSimulation. A
// separate Go module keeps the library out of the main module.
package kstatus_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/internal/certificates"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/test/apiserver"
)

// lot is a Cluster with methods that start the operator and wait for results of kstatus.
type lot struct{ *apiserver.Cluster }

// startOperator runs the operator until the returned function is called or the test ends.
func (l lot) startOperator() (stop func()) {
	l.T.Helper()
	return l.RunOperator(l.Config, controllers.ManagerOptions{Logger: slog.New(slog.DiscardHandler)})
}

// statusOf returns the status of a simulation according to kstatus.
func (l lot) statusOf(sim *v1alpha1.ParkingSimulation) (*status.Result, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.Kind))
	if err := l.Client.Get(l.T.Context(), client.ObjectKeyFromObject(sim), u); err != nil {
		return nil, err
	}
	return status.Compute(u)
}

// awaitStatus waits until kstatus computes the wanted status for a simulation. Until then, kstatus must
// compute one of the given earlier statuses. Any other status fails the test.
func (l lot) awaitStatus(sim *v1alpha1.ParkingSimulation, want status.Status, before ...status.Status) {
	l.T.Helper()
	l.Eventually(fmt.Sprintf("%s to be %s", sim.Name, want), func() error {
		got, err := l.statusOf(sim)
		if err != nil {
			return err
		}
		if got.Status != want && !slices.Contains(before, got.Status) {
			l.T.Fatalf("on its way from %v to %s, %s is %s: %s", before, want, sim.Name, got.Status, got.Message)
		}
		if got.Status != want {
			return fmt.Errorf("it is %s: %s", got.Status, got.Message)
		}
		return nil
	})
}

// awaitObserved waits until the operator has observed the current generation of the simulation.
func (l lot) awaitObserved(sim *v1alpha1.ParkingSimulation) {
	l.T.Helper()
	l.Eventually(sim.Name+" to be observed", func() error {
		if err := l.Client.Get(l.T.Context(), client.ObjectKeyFromObject(sim), sim); err != nil {
			return err
		}
		if sim.Status.ObservedGeneration != sim.Generation {
			return fmt.Errorf("generation %d was observed", sim.Status.ObservedGeneration)
		}
		return nil
	})
}

func TestKstatus_EachStageOfASimulation_HasTheMatchingStatus(t *testing.T) {
	l := lot{apiserver.NewPrivate(t)}
	sim := l.Simulate("sim", nil)
	// The operator has not observed the simulation yet. Without the default observedGeneration -1 of the CRD, kstatus
	// would report an empty status as Current.
	l.awaitStatus(sim, status.InProgressStatus, status.InProgressStatus)

	stop := l.startOperator()
	l.awaitObserved(sim)
	l.awaitStatus(sim, status.InProgressStatus, status.InProgressStatus)
	l.Exists(&appsv1.Deployment{}, "sim-processor") // the last workload that the operator creates
	l.MakeWorkloadsReady()
	l.awaitStatus(sim, status.CurrentStatus, status.InProgressStatus)

	l.Edit(sim, func() { sim.Spec.Suspend = true })
	l.awaitStatus(sim, status.CurrentStatus, status.InProgressStatus)

	stalled := l.Simulate("stalled", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.SecretRef = &v1alpha1.SecretReference{Name: "missing"}
	})
	l.awaitStatus(stalled, status.FailedStatus, status.InProgressStatus)
	l.Secret("missing", map[string]string{"uri": "amqp://user:password@127.0.0.1:1"})
	l.awaitStatus(stalled, status.InProgressStatus, status.FailedStatus)

	stop()
	l.Edit(sim, func() { sim.Spec.Entry.Rate = new(int32(7)) })
	l.awaitStatus(sim, status.InProgressStatus, status.InProgressStatus)
	l.Delete(stalled, stalled.Name)
	l.awaitStatus(stalled, status.TerminatingStatus, status.TerminatingStatus)
}

func TestKstatus_ManagedOrExternalServers_StatusMatchesTheConditionsInEveryPhase(t *testing.T) {
	l := lot{apiserver.NewPrivate(t)}
	l.Define(apiserver.RabbitmqClusterDefinition())
	stop := l.startOperator()
	ref := func(name string) *v1alpha1.SecretReference { return &v1alpha1.SecretReference{Name: name} }
	broker := l.newSecret("broker", "uri", "amqp://user:password@broker.example")
	store := l.newSecret("store", "uri", "redis://:password@store.example:6379")
	// wire changes the spec of a simulation. provide creates the objects that the spec names.
	wirings := map[string]struct {
		wire    func(s *v1alpha1.ParkingSimulationSpec, name string)
		provide []func(name string) []client.Object
	}{
		"managed": {func(*v1alpha1.ParkingSimulationSpec, string) {}, nil},
		"external-broker": {func(s *v1alpha1.ParkingSimulationSpec, name string) {
			s.RabbitMQ.SecretRef = ref(name + "-broker")
		}, []func(string) []client.Object{broker}},
		"cluster": {func(s *v1alpha1.ParkingSimulationSpec, name string) {
			s.RabbitMQ.ClusterRef = &v1alpha1.ClusterReference{Name: name + "-rabbit"}
		}, []func(string) []client.Object{l.newRabbitmqCluster}},
		"external-store": {func(s *v1alpha1.ParkingSimulationSpec, name string) {
			s.Redis.SecretRef = ref(name + "-store")
		}, []func(string) []client.Object{store}},
		"external-api": {func(s *v1alpha1.ParkingSimulationSpec, name string) {
			s.SummaryAPI = v1alpha1.SummaryAPISpec{URL: "https://visits.example", SecretRef: ref(name + "-api")}
		}, []func(string) []client.Object{l.newSecret("api", "token", "t")}},
		"database": {func(s *v1alpha1.ParkingSimulationSpec, name string) {
			s.SummaryAPI.Managed = &v1alpha1.ManagedSummaryAPI{
				Replicas: new(int32(2)), Database: &v1alpha1.SummaryDatabase{SecretRef: *ref(name + "-database")},
			}
		}, []func(string) []client.Object{l.newSecret("database", "uri", "postgresql://user:password@summaries.example/parking")}},
		"tls": {func(s *v1alpha1.ParkingSimulationSpec, _ string) {
			s.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{TLS: &v1alpha1.TLSSpec{}}
			s.Redis.Managed = &v1alpha1.ManagedRedis{TLS: &v1alpha1.TLSSpec{}}
			s.SummaryAPI.Managed = &v1alpha1.ManagedSummaryAPI{TLS: &v1alpha1.TLSSpec{}}
			s.Monitoring.TLS = &v1alpha1.TLSSpec{}
		}, nil},
		"certificate": {func(s *v1alpha1.ParkingSimulationSpec, name string) {
			s.Redis.Managed = &v1alpha1.ManagedRedis{TLS: &v1alpha1.TLSSpec{SecretName: name + "-store-tls"}}
		}, []func(string) []client.Object{l.newCertificate}},
		"external": {func(s *v1alpha1.ParkingSimulationSpec, name string) {
			s.RabbitMQ.SecretRef, s.Redis.SecretRef = ref(name+"-broker"), ref(name+"-store")
			s.SummaryAPI = v1alpha1.SummaryAPISpec{URL: "https://visits.example"}
		}, []func(string) []client.Object{broker, store}},
		"cluster-and-external": {func(s *v1alpha1.ParkingSimulationSpec, name string) {
			s.RabbitMQ.ClusterRef = &v1alpha1.ClusterReference{Name: name + "-rabbit"}
			s.Redis.SecretRef = ref(name + "-store")
			s.SummaryAPI = v1alpha1.SummaryAPISpec{URL: "https://visits.example"}
		}, []func(string) []client.Object{l.newRabbitmqCluster, store}},
	}
	servers := map[string][]client.Object{}
	var complete []*v1alpha1.ParkingSimulation
	for name, w := range wirings {
		t.Run(name, func(t *testing.T) {
			provide := func() {
				for _, create := range w.provide {
					servers[name] = append(servers[name], create(name)...)
				}
			}
			sim := l.Simulate(name, func(s *v1alpha1.ParkingSimulationSpec) { w.wire(s, name) })
			if len(w.provide) > 0 {
				l.awaitStatus(sim, status.FailedStatus, status.InProgressStatus) // the objects to which the spec refers do not exist yet
				provide()
				l.awaitStatus(sim, status.InProgressStatus, status.FailedStatus)
			}
			l.Exists(&appsv1.Deployment{}, name+"-processor")
			l.awaitStatus(sim, status.InProgressStatus, status.InProgressStatus)
			l.MakeWorkloadsReady()
			l.awaitStatus(sim, status.CurrentStatus, status.InProgressStatus)

			l.Edit(sim, func() {
				sim.Spec.Processor.Template = onSSD()
			})
			l.Expect(sim, "WorkloadsReady", metav1.ConditionFalse, "Progressing")
			l.awaitStatus(sim, status.InProgressStatus, status.InProgressStatus) // while the new template is rolled out
			l.MakeWorkloadsReady()
			l.awaitStatus(sim, status.CurrentStatus, status.InProgressStatus)

			if len(w.provide) > 0 {
				for _, server := range servers[name] {
					l.Delete(server, server.GetName())
				}
				servers[name] = nil
				l.awaitStatus(sim, status.FailedStatus, status.CurrentStatus, status.InProgressStatus)
				provide()
				l.Eventually(name+" to run again", func() error {
					// The operator scales the workloads up again from 0.
					l.MakeWorkloadsReady()
					got, err := l.statusOf(sim)
					if err == nil && got.Status != status.CurrentStatus {
						err = fmt.Errorf("it is %s: %s", got.Status, got.Message)
					}
					return err
				})
			}

			l.Edit(sim, func() { sim.Spec.Suspend = true })
			l.Expect(sim, "Ready", metav1.ConditionTrue, "Suspended")
			l.awaitStatus(sim, status.CurrentStatus, status.InProgressStatus)

			l.Edit(sim, func() { sim.Spec.Suspend, sim.Spec.Duration = false, v1alpha1.NewDuration(time.Second) })
			l.Eventually("the simulation to complete", func() error {
				l.MakeWorkloadsReady()
				got, err := l.statusOf(sim)
				if err == nil && got.Status != status.InProgressStatus && got.Status != status.CurrentStatus {
					t.Fatalf("before the simulation is complete, kstatus reports %s: %s", got.Status, got.Message)
				}
				if err == nil && sim.Status.CompletionTime == nil {
					err = fmt.Errorf("it is %s: %s", got.Status, got.Message)
				}
				return errors.Join(err, l.Client.Get(t.Context(), client.ObjectKeyFromObject(sim), sim))
			})
			l.Expect(sim, "Ready", metav1.ConditionTrue, "Complete")
			l.awaitStatus(sim, status.CurrentStatus, status.CurrentStatus)
			complete = append(complete, sim)
		})
	}
	// A completed simulation stays ready, whatever happens to its servers and to the operator.
	for _, all := range servers {
		for _, server := range all {
			l.Delete(server, server.GetName())
		}
	}
	for range 2 {
		for _, sim := range complete {
			l.Edit(sim, func() { sim.Spec.DrainTimeout = v1alpha1.NewDuration(time.Duration(sim.Generation) * time.Minute) })
			l.awaitObserved(sim)
			l.Expect(sim, "Ready", metav1.ConditionTrue, "Complete")
			l.awaitStatus(sim, status.CurrentStatus, status.InProgressStatus)
		}
		stop()
		stop = l.startOperator()
	}
	stop()
	for _, sim := range complete {
		l.Delete(sim, sim.Name)
		l.awaitStatus(sim, status.TerminatingStatus, status.TerminatingStatus)
	}
	l.startOperator()
	for _, sim := range complete {
		l.Gone(sim)
	}
}

func TestKstatus_TemplateAndVolumesOfServersChange_StatusMatchesTheConditions(t *testing.T) {
	l := lot{apiserver.NewPrivate(t)}
	l.startOperator()
	// Volumes of the first StorageClass can grow. Volumes of the second one cannot.
	growing, fixed := l.StorageClass(true), l.StorageClass(false)
	storage := func(class, size string) v1alpha1.StorageSpec {
		return v1alpha1.StorageSpec{StorageClassName: class, Size: new(v1alpha1.Quantity(size))}
	}
	sim := l.Simulate("sim", func(s *v1alpha1.ParkingSimulationSpec) {
		s.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{Storage: storage(growing, "2Gi")}
		s.Redis.Managed = &v1alpha1.ManagedRedis{Storage: storage(fixed, "2Gi")}
	})
	l.Exists(&appsv1.Deployment{}, "sim-processor")
	grows := l.Claim(sim, resources.ComponentRabbitMQ, 0, growing, "2Gi")
	l.Claim(sim, resources.ComponentRedis, 0, fixed, "2Gi")
	l.MakeWorkloadsReady()
	l.awaitStatus(sim, status.CurrentStatus, status.InProgressStatus)

	edits := map[string]func(){
		"BrokerReady": func() { sim.Spec.RabbitMQ.Managed.Template = onSSD() },
		"StoreReady":  func() { sim.Spec.Redis.Managed.Template = onSSD() },
	}
	for condition, edit := range edits {
		l.Edit(sim, edit)
		l.Expect(sim, condition, metav1.ConditionFalse, "Progressing")
		l.awaitStatus(sim, status.InProgressStatus, status.InProgressStatus) // the operator replaces the pods of the server
		l.MakeWorkloadsReady()
		l.awaitStatus(sim, status.CurrentStatus, status.InProgressStatus)
	}

	l.Edit(sim, func() { sim.Spec.RabbitMQ.Managed.Storage = storage(growing, "4Gi") })
	l.Expect(sim, "Reconciling", metav1.ConditionTrue, "VolumeResizing")
	l.awaitStatus(sim, status.InProgressStatus, status.InProgressStatus)
	l.finishGrowth(grows, "4Gi")
	l.awaitStatus(sim, status.CurrentStatus, status.InProgressStatus)

	l.Edit(sim, func() { sim.Spec.Redis.Managed.Storage = storage(fixed, "4Gi") })
	l.Expect(sim, "Stalled", metav1.ConditionTrue, "VolumeNotResized")
	l.awaitStatus(sim, status.FailedStatus, status.FailedStatus)
	l.Edit(sim, func() { sim.Spec.Redis.Managed.Storage = storage(fixed, "2Gi") })
	l.awaitStatus(sim, status.CurrentStatus, status.InProgressStatus, status.FailedStatus)
}

// onSSD returns a template that restricts pods to nodes with an SSD. When a component gets this template, the operator
// replaces its pods.
func onSSD() *v1alpha1.PodTemplate {
	return &v1alpha1.PodTemplate{Spec: &runtime.RawExtension{Raw: []byte(`{"nodeSelector":{"disk":"ssd"}}`)}}
}

// finishGrowth waits until the operator has enlarged a volume claim. Then it sets the capacity of the claim, as the
// CSI external-resizer would.
func (l lot) finishGrowth(claim *corev1.PersistentVolumeClaim, size string) {
	l.T.Helper()
	l.Eventually("the volume to grow", func() error {
		if err := l.Client.Get(l.T.Context(), client.ObjectKeyFromObject(claim), claim); err != nil {
			return err
		}
		if got := claim.Spec.Resources.Requests.Storage().String(); got != size {
			return fmt.Errorf("claim %s requests %s, want %s", claim.Name, got, size)
		}
		claim.Status.Capacity = claim.Spec.Resources.Requests
		return l.Client.Status().Update(l.T.Context(), claim)
	})
}

// newRabbitmqCluster creates a RabbitmqCluster, and the Secret of the default user of RabbitMQ. All simulations may use
// the cluster.
func (l lot) newRabbitmqCluster(simulation string) []client.Object {
	l.T.Helper()
	name := simulation + "-rabbit"
	user, _ := l.Secret(name+"-default-user", map[string]string{"host": name + ".example", "port": "5672", "username": "u", "password": "p"})
	rabbit := &unstructured.Unstructured{}
	rabbit.SetGroupVersionKind(resources.RabbitmqClusterKind())
	rabbit.SetNamespace(l.Namespace)
	rabbit.SetName(name)
	rabbit.SetAnnotations(map[string]string{v1alpha1.AllowedSimulationsAnnotation: "*"})
	l.Create(rabbit)
	apiserver.SetRabbitmqClusterStatus(rabbit, user.Name)
	if err := l.Client.Status().Update(l.T.Context(), rabbit); err != nil {
		l.T.Fatal(err)
	}
	return []client.Object{user, rabbit}
}

// newCertificate creates a Secret with a certificate for the managed Redis of a simulation.
func (l lot) newCertificate(simulation string) []client.Object {
	authority, err := certificates.RenewAuthority(certificates.Authority{}, "test", time.Now())
	if err != nil {
		l.T.Fatal(err)
	}
	pair, err := authority.Renew(certificates.Pair{}, []string{simulation + "-redis." + l.Namespace + ".svc.cluster.local"}, time.Now())
	if err != nil {
		l.T.Fatal(err)
	}
	secret, _ := l.Secret(simulation+"-store-tls", map[string]string{
		"tls.crt": string(pair.Certificate), "tls.key": string(pair.Key), "ca.crt": string(authority.Trusted),
	})
	return []client.Object{secret}
}

// newSecret returns a function that creates the Secret of a simulation's server.
func (l lot) newSecret(server, key, value string) func(simulation string) []client.Object {
	return func(simulation string) []client.Object {
		secret, _ := l.Secret(simulation+"-"+server, map[string]string{key: value})
		return []client.Object{secret}
	}
}
