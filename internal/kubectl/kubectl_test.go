package kubectl

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

func TestExplainAPIError_SaysWhatTheUserCanDo(t *testing.T) {
	resource := schema.GroupResource{Group: v1alpha1.Group, Resource: simulationsResource}
	c := &cluster{}
	for name, test := range map[string]struct {
		err   error
		input bool
		want  string
	}{
		"missing permission": {
			apierrors.NewForbidden(resource, "rush-hour", errors.New(`User "ann" cannot get resource`)), true,
			`add this rule to one of your Roles: {apiGroups: ["simulation.parking.dev"], resources: ["parkingsimulations"], verbs: ["get"]}`,
		},
		"missing permission in all namespaces": {
			apierrors.NewForbidden(resource, "", errors.New(`User "ann" cannot list resource at the cluster scope`)), true, "add this rule to one of your ClusterRoles",
		},
		"forbidden by admission": {apierrors.NewForbidden(resource, "rush-hour", errors.New("exceeded quota")), true, "exceeded quota"},
		"rejected credentials":   {apierrors.NewUnauthorized("token expired"), true, "log in again"},
		"missing simulation":     {apierrors.NewNotFound(resource, "rush-hour"), true, "kubectl parking status -A"},
		"missing CRD":            {apierrors.NewGenericServerResponse(http.StatusNotFound, "get", resource, "rush-hour", "", 0, true), true, "install parking-operator"},
		"unreachable":            {&url.Error{Op: "Get", URL: "https://127.0.0.1:1", Err: errors.New("connection refused")}, false, "check that the cluster runs"},
		"other":                  {errors.New("out of memory"), false, "get simulation: out of memory"},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.explain(test.err, "get simulation", onSimulations("get"))
			var input *InputError
			if !strings.Contains(got.Error(), test.want) || errors.As(got, &input) != test.input {
				t.Errorf("the error is %q, of type %T", got, got)
			}
			if strings.Contains(got.Error(), "add this rule") != strings.HasPrefix(name, "missing permission") {
				t.Errorf("the error is %q", got)
			}
		})
	}
}

func TestSuspend_PatchesOnlySpecSuspend(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	var sent string
	c := &cluster{namespace: "parking", WithWatch: fake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(interceptor.Funcs{
		Patch: func(_ context.Context, _ client.WithWatch, o client.Object, p client.Patch, _ ...client.PatchOption) error {
			data, err := p.Data(o)
			sent = o.GetNamespace() + "/" + o.GetName() + " " + string(data)
			if p.Type() != types.MergePatchType {
				t.Errorf("the patch has type %s", p.Type())
			}
			return err
		},
	}).Build()}
	if _, err := c.suspend(t.Context(), "rush-hour", true); err != nil {
		t.Fatal(err)
	}
	if want := `parking/rush-hour {"spec":{"suspend":true}}`; sent != want {
		t.Errorf("sent %s, want %s", sent, want)
	}
}

func TestWriteStatus_ShowsVerdictFaultsAndPods(t *testing.T) {
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "parking", Name: "rush-hour"}}
	sim.Status.TargetRates = &v1alpha1.TargetRates{Entry: 200, Exit: 180}
	sim.Status.Verdict = v1alpha1.VerdictFail
	worst := v1alpha1.FaultStatus{Name: "node-drained", Target: "RabbitMQ", Action: "Evict", Outcome: "NotInjected"}
	sim.Status.Faults = &v1alpha1.FaultsStatus{Injected: 3, Recovered: 2, Active: "redis-outage", Worst: &worst, Latest: []v1alpha1.FaultStatus{
		{
			Name: "redis-crash", Number: 1, Target: "Redis", Action: "Kill", HitCount: 1, Hit: []string{"rush-hour-redis-0"}, Outcome: "Recovered",
			Recovery: new(v1alpha1.Duration("2.5s")), PeakLag: new(v1alpha1.Duration("0s")), PeakBacklog: new(int64(310)),
			PeakEndToEndP99: new(v1alpha1.Duration("1.9s")), Redeliveries: new(int64(12)), DuplicatesSuppressed: new(int64(7)), Lost: new(int64(0)),
		},
		{Name: "stall", Target: "Processor", Action: "Pause", HitCount: 8, Hit: []string{"a", "b", "c", "d", "e"}, Outcome: "Active"},
	}}
	sim.Status.Reasons = []string{"1 event is lost."}
	sim.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Complete", Message: "The simulation is complete."}}
	sim.Status.Ledger = &v1alpha1.LedgerStatus{EntriesConfirmed: 10, EntriesRecorded: 9, Lost: new(int64(1))}
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "rush-hour-processor-1", Labels: map[string]string{resources.ComponentLabel: "processor"}}}
	pod.Spec.Containers = make([]corev1.Container, 1)
	pod.Status.Phase = corev1.PodRunning
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Ready: true, RestartCount: 3}}

	var out strings.Builder
	if err := writeStatus(&out, sim, details{pods: []corev1.Pod{pod}}); err != nil {
		t.Fatal(err)
	}
	joined := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"LOST node-drained/0 RabbitMQ Evict – NotInjected", "redis-crash/1 Redis Kill rush-hour-redis-0 Recovered 2.5s 0s 310 1.9s 12 7 0",
		"stall/0 Processor Pause 8 pods Active –",
	} {
		if !strings.Contains(joined, want) {
			t.Errorf("the table of faults lacks %q:\n%s", want, out.String())
		}
	}
	for _, want := range []string{
		"parking/rush-hour", "200 entries/s, 180 exits/s", "FAIL", "- 1 event is lost.", "3 injected, 2 recovered", "- redis-outage is active", "The simulation is complete.",
		"rush-hour-processor-1   processor   Running   1/1     3",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the status lacks %q:\n%s", want, out.String())
		}
	}

	out.Reset()
	if err := writeStatus(&out, sim, details{podsErr: errors.New("forbidden")}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "The pods are not shown: forbidden") || !strings.Contains(out.String(), "LEDGER") {
		t.Errorf("the status without pods is:\n%s", out.String())
	}
}

func TestLeftBehind_EventsAreForbidden_ErrorNamesTheMissingRule(t *testing.T) {
	t.Parallel()
	c := &cluster{WithWatch: fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
			return apierrors.NewForbidden(corev1.Resource("events"), "", errors.New(`User "ann" cannot list resource "events"`))
		},
	}).Build()}
	_, err := c.leftBehind(t.Context(), started())
	if err == nil || !strings.Contains(err.Error(), `add this rule to one of your Roles: {apiGroups: [""], resources: ["events"], verbs: ["list"]}`) {
		t.Errorf("the error is %v", err)
	}
}

func TestAudit_ReportIsMissing_UsesTheStatus(t *testing.T) {
	t.Parallel()
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	sim, _ := completed()
	sim.Namespace, sim.Name = "parking", "rush-hour"
	sim.Status.Ledger = &v1alpha1.LedgerStatus{EntriesConfirmed: 12, EntriesRecorded: 10, Lost: new(int64(2))}
	c := &cluster{namespace: "parking", WithWatch: fake.NewClientBuilder().WithScheme(scheme).WithObjects(sim).Build()}
	a, err := c.audit(t.Context(), "rush-hour")
	if err != nil {
		t.Fatal(err)
	}
	if a.Running || a.Outcome != "FAIL" || a.Ledger.Lost != 2 || len(a.Reasons) != 1 || !strings.HasPrefix(a.Notes[0], "the report cannot be read: ") {
		t.Errorf("the audit is %+v", a)
	}
}
