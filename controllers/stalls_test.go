package controllers_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

func TestReconcile_ImagePullFailure_IsReported(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("unpullable", nil)
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	pod := c.Pod(sim, resources.ComponentProcessor, func(s *corev1.PodStatus) {
		s.Phase = corev1.PodPending
		s.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "parking", Image: "parking:test", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
				Reason: "ImagePullBackOff", Message: `Back-off pulling image "parking:test"`,
			}},
		}}
	})
	c.MakeWorkloadsReady("unpullable-processor")
	failing := c.Expect(sim, "WorkloadsReady", metav1.ConditionFalse, "PodsFailing")
	for _, want := range []string{pod.Name, `Back-off pulling image "parking:test"`, "correct the image's name"} {
		if !strings.Contains(failing.Message, want) {
			t.Errorf("the message is %q, want it to contain %q", failing.Message, want)
		}
	}
	c.Expect(sim, "Ready", metav1.ConditionFalse, "PodsFailing")
	c.isCalm(1)
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
}

func TestReconcile_QuotaExceededByDeploymentPods_IsReported(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("deployed", nil)
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	c.MakeWorkloadsReady("deployed-exit")
	d := &appsv1.Deployment{}
	c.Exists(d, "deployed-exit")
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Conditions: []appsv1.DeploymentCondition{{
		Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate",
		Message: `pods "deployed-exit-1" is forbidden: exceeded quota: small`,
	}}}
	if err := c.Client.Status().Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	over := c.Expect(sim, "WorkloadsReady", metav1.ConditionFalse, "QuotaExceeded")
	if !strings.Contains(over.Message, "exceeded quota: small") || !strings.Contains(over.Message, "raise the namespace's quota") {
		t.Errorf("the message is %q, want the quota and the remedy", over.Message)
	}
	c.isCalm(1)
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
}

func TestReconcile_QuotaExceededByStatefulSetPods_IsReported(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("stateful", nil)
	set := &appsv1.StatefulSet{}
	c.Exists(set, "stateful-redis")
	c.MakeWorkloadsReady("stateful-redis")
	c.Create(&corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, GenerateName: "quota-"},
		InvolvedObject: corev1.ObjectReference{
			Kind: "StatefulSet", APIVersion: "apps/v1", Namespace: set.Namespace, Name: set.Name, UID: set.UID,
		},
		Reason: "FailedCreate", Type: corev1.EventTypeWarning, LastTimestamp: metav1.Now(),
		Message: `create Pod stateful-redis-0 in StatefulSet stateful-redis failed error: pods "stateful-redis-0" is forbidden: exceeded quota: small`,
	})
	set.Status = appsv1.StatefulSetStatus{ObservedGeneration: set.Generation}
	if err := c.Client.Status().Update(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	over := c.Expect(sim, "StoreReady", metav1.ConditionFalse, "QuotaExceeded")
	if !strings.Contains(over.Message, "stateful-redis-0") || !strings.Contains(over.Message, "raise the namespace's quota") {
		t.Errorf("the message is %q, want the pod and the remedy", over.Message)
	}
	c.Expect(sim, "Ready", metav1.ConditionFalse, "QuotaExceeded")
	c.isCalm(3)
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	c.isCalm(1)
}

// The quota limits Services, because the operator itself creates them. A quota on pods would fail only requests of
// Kubernetes controllers.
func TestReconcile_ObjectCountQuotaExceeded_IsReportedUntilQuotaIsRaised(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	const name = "no-services"
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: name}, Spec: corev1.ResourceQuotaSpec{
		Hard: corev1.ResourceList{corev1.ResourceServices: *zero()},
	}}
	c.Create(quota)
	// In a cluster, the quota controller sets the status of a quota. This test runs no such controller.
	setStatus := func(used corev1.ResourceList) {
		quota.Status = corev1.ResourceQuotaStatus{Hard: quota.Spec.Hard, Used: used}
		if err := c.Client.Status().Update(t.Context(), quota); err != nil {
			t.Fatal(err)
		}
	}
	setStatus(nil)
	sim := c.Simulate("bounded", nil)
	expect := func(failure, remedy string) {
		c.Eventually("the message to name the quota and the remedy", func() error {
			over := c.Expect(sim, "Reconciling", metav1.ConditionTrue, "QuotaExceeded")
			if !strings.Contains(over.Message, failure+": "+name) || !strings.Contains(over.Message, remedy) {
				return fmt.Errorf("the message is %q", over.Message)
			}
			return nil
		})
	}
	expect("status unknown for quota", "wait until Kubernetes has counted")
	setStatus(corev1.ResourceList{corev1.ResourceServices: *zero()})
	expect("exceeded quota", "raise the namespace's quota")
	c.Delete(quota, name)
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
}

// The image of a managed Redis may be too old for the durability Synced, which needs the command WAITAOF. The condition
// StoreReady must report this.
func TestReconcile_ManagedRedisCannotSync_IsUnusable(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.servers.refuse(errors.New("Redis 7.0.15 lacks the command WAITAOF"))
	sim := c.Simulate("too-old", func(s *v1alpha1.ParkingSimulationSpec) { s.Redis.Durability = v1alpha1.DurabilitySynced })
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	c.MakeWorkloadsReady()
	unusable := c.Expect(sim, "StoreReady", metav1.ConditionFalse, "Unusable")
	if want := "answers, but the simulation cannot use it: Redis 7.0.15 lacks the command WAITAOF"; !strings.Contains(unusable.Message, want) {
		t.Errorf("the message is %q, want %q", unusable.Message, want)
	}
}

// If a server accepts reads but no writes, the run must not start, because no event could be processed.
func TestReconcile_ServersAcceptNoWrites_SchedulesDoNotStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.servers.refuse(errors.New("OOM: raise maxmemory"))
	sim := c.Simulate("unwritable", func(s *v1alpha1.ParkingSimulationSpec) {
		_, s.RabbitMQ.SecretRef = c.Secret("broker", map[string]string{"uri": "amqp://u:p@broker.example"})
		_, s.Redis.SecretRef = c.Secret("store", map[string]string{"uri": "redis://:p@store.example"})
	})
	for _, condition := range []string{"BrokerReady", "StoreReady"} {
		unusable := c.Expect(sim, condition, metav1.ConditionFalse, "Unusable")
		if !strings.Contains(unusable.Message, "raise maxmemory") {
			t.Errorf("the message of %s is %q, want the remedy", condition, unusable.Message)
		}
	}
	c.MakeWorkloadsReady()
	c.Expect(sim, "WorkloadsReady", metav1.ConditionTrue, "Ready")
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Unusable")
	live := &v1alpha1.ParkingSimulation{}
	c.Exists(live, sim.Name)
	if live.Status.StartTime != nil {
		t.Error("the schedules have started")
	}
	c.servers.refuse(nil)
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
}

func TestReconcile_Stalled_DoesNotRequeue(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		edit              func(*cluster, *v1alpha1.ParkingSimulationSpec)
		condition, reason string
	}{
		"a Secret that does not exist": {
			func(_ *cluster, s *v1alpha1.ParkingSimulationSpec) {
				s.Redis.SecretRef = &v1alpha1.SecretReference{Name: "nowhere"}
			}, "StoreReady", "SecretNotFound",
		},
		"a Secret without a binding": {
			func(c *cluster, s *v1alpha1.ParkingSimulationSpec) {
				_, s.RabbitMQ.SecretRef = c.Secret("odd", map[string]string{"a": "b"})
			}, "BrokerReady", "SecretInvalid",
		},
		"a RabbitMQ URI with parameters": {
			func(c *cluster, s *v1alpha1.ParkingSimulationSpec) {
				_, s.RabbitMQ.SecretRef = c.Secret("beats", map[string]string{"uri": "amqps://h/v?heartbeat=30"})
			}, "BrokerReady", "SecretInvalid",
		},
		"a Redis URI whose database is a name": {
			func(c *cluster, s *v1alpha1.ParkingSimulationSpec) {
				_, s.Redis.SecretRef = c.Secret("first", map[string]string{"uri": "redis://h/first"})
			}, "StoreReady", "SecretInvalid",
		},
		"a Redis URI with an unknown parameter": {
			func(c *cluster, s *v1alpha1.ParkingSimulationSpec) {
				_, s.Redis.SecretRef = c.Secret("certs", map[string]string{"uri": "rediss://h/0?ssl_cert_reqs=none"})
			}, "StoreReady", "SecretInvalid",
		},
		"a database of a Redis cluster": {
			func(c *cluster, s *v1alpha1.ParkingSimulationSpec) {
				_, s.Redis.SecretRef = c.Secret("third", map[string]string{"uri": "redis://h/3?cluster=true"})
			}, "StoreReady", "SecretInvalid",
		},
		"a Secret for the summary API without a known key": {
			func(c *cluster, s *v1alpha1.ParkingSimulationSpec) {
				s.SummaryAPI.URL = "https://visits.example"
				_, s.SummaryAPI.SecretRef = c.Secret("foreign", map[string]string{"access_token": "t"})
			}, "SummaryAPIReady", "SecretInvalid",
		},
		"a CA for a summary API without TLS": {
			func(c *cluster, s *v1alpha1.ParkingSimulationSpec) {
				s.SummaryAPI.URL = "http://visits.example"
				_, s.SummaryAPI.SecretRef = c.Secret("plain", map[string]string{"token": "t", "ca.crt": "no certificate"})
			}, "SummaryAPIReady", "SecretInvalid",
		},
		"a Secret for the summary API that does not exist": {
			func(_ *cluster, s *v1alpha1.ParkingSimulationSpec) {
				s.SummaryAPI = v1alpha1.SummaryAPISpec{URL: "https://visits.example", SecretRef: &v1alpha1.SecretReference{Name: "nowhere"}}
			}, "SummaryAPIReady", "SecretNotFound",
		},
		"a Secret of a database that does not exist": {
			func(_ *cluster, s *v1alpha1.ParkingSimulationSpec) {
				s.SummaryAPI.Managed = &v1alpha1.ManagedSummaryAPI{
					Database: &v1alpha1.SummaryDatabase{SecretRef: v1alpha1.SecretReference{Name: "nowhere"}},
				}
			}, "SummaryAPIReady", "SecretNotFound",
		},
		"a broker that cannot be reached": {
			func(c *cluster, s *v1alpha1.ParkingSimulationSpec) {
				c.servers.fail(errors.New("connection refused"))
				_, s.RabbitMQ.SecretRef = c.Secret("far", map[string]string{"uri": "amqp://u:p@far.example"})
			}, "BrokerReady", "Unreachable",
		},
		"a RabbitmqCluster without its CRD": {
			func(_ *cluster, s *v1alpha1.ParkingSimulationSpec) {
				s.RabbitMQ.ClusterRef = &v1alpha1.ClusterReference{Name: "rabbit"}
			}, "BrokerReady", "KindNotServed",
		},
		"a template that is not a PodSpec": {
			func(_ *cluster, s *v1alpha1.ParkingSimulationSpec) {
				s.Entry.Template = &v1alpha1.PodTemplate{Spec: rawExtension(`{"containerz":[]}`)}
			}, "Ready", "InvalidSpec",
		},
		"a template whose pods end": {
			func(_ *cluster, s *v1alpha1.ParkingSimulationSpec) {
				s.Entry.Template = &v1alpha1.PodTemplate{Spec: rawExtension(`{"restartPolicy":"Never"}`)}
			}, "Ready", "InvalidSpec",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			sim := c.Simulate("stuck", func(s *v1alpha1.ParkingSimulationSpec) { tt.edit(c, s) })
			began := time.Now()
			if tt.reason == "Unreachable" {
				c.Exists(&appsv1.StatefulSet{}, "stuck-redis")
				c.MakeWorkloadsReady()
			}
			c.Expect(sim, tt.condition, metav1.ConditionFalse, tt.reason)
			t.Logf("reported after %v", time.Since(began).Round(time.Millisecond))
			c.isCalm(1)
		})
	}
}

// isCalm checks that the operator reconciles at most the given number of times in 6 s, and has no retry pending. On a
// busy machine, it needs several attempts.
func (c *cluster) isCalm(most int64) {
	c.T.Helper()
	const window, attempts = 6 * time.Second, 10
	for range attempts {
		c.awaitQuiet()
		before := c.reconciles.calls.Load()
		select {
		case <-time.After(window):
		case <-c.T.Context().Done():
		}
		n, repeat := c.reconciles.calls.Load()-before, time.Duration(c.reconciles.repeat.Load())
		if n <= most && repeat >= window/time.Duration(most) {
			return
		}
		c.T.Logf("there were %d reconciles in %v, and the latest is repeated after %v; want at most %d reconciles", n, window, repeat, most)
	}
	c.T.Errorf("the operator was not calm in any of %d windows", attempts)
}

// settled waits until an object in the cluster passes the given check.
func settled[O client.Object](c *cluster, o O, name string, check func(O) bool) {
	c.T.Helper()
	c.Eventually(fmt.Sprintf("%T %s to settle", o, name), func() error {
		if err := c.Client.Get(c.T.Context(), client.ObjectKey{Namespace: c.Namespace, Name: name}, o); err != nil {
			return err
		}
		if !check(o) {
			return errors.New("it does not pass the check")
		}
		return nil
	})
}
