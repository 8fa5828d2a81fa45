package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// claimOf returns a volume claim. The claim is bound unless capacity is "".
func claimOf(requested, capacity string, conditions ...corev1.PersistentVolumeClaimConditionType) *corev1.PersistentVolumeClaim {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "data-sim-redis-0"}}
	claim.Spec.StorageClassName = new("fast")
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(requested)}
	claim.Status.Phase = corev1.ClaimPending
	if capacity != "" {
		claim.Status.Phase = corev1.ClaimBound
		claim.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(capacity)}
	}
	for _, kind := range conditions {
		claim.Status.Conditions = append(claim.Status.Conditions, corev1.PersistentVolumeClaimCondition{Type: kind, Status: corev1.ConditionTrue, Message: "no room."})
	}
	return claim
}

func infeasible(claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	claim.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{
		corev1.ResourceStorage: corev1.PersistentVolumeClaimControllerResizeInfeasible,
	}
	return claim
}

func TestExamineClaim_EachStateOfAClaim_ReturnsWhetherTheClaimMustGrow(t *testing.T) {
	t.Parallel()
	const want = "4Gi"
	for name, tt := range map[string]struct {
		claim   *corev1.PersistentVolumeClaim
		grows   bool
		finding state
		reason  string
		message string
	}{
		"as large as wanted":            {claimOf("4Gi", "4Gi"), false, unchecked, "", ""},
		"the same in other units":       {claimOf("4096Mi", "4096Mi"), false, unchecked, "", ""},
		"larger than wanted":            {claimOf("8Gi", "8Gi"), false, unchecked, "", ""},
		"more space than requested":     {claimOf("4Gi", "10Gi"), false, unchecked, "", ""},
		"new and not bound":             {claimOf("4Gi", ""), false, unchecked, "", ""},
		"growing beyond what is wanted": {claimOf("8Gi", "4Gi"), false, unchecked, "", ""},
		"too small":                     {claimOf("2Gi", "2Gi"), true, progressing, reasonVolumeResizing, "data-sim-redis-0 grows from 2Gi to 4Gi"},
		"too small on a larger volume":  {claimOf("2Gi", "5Gi"), true, progressing, reasonVolumeResizing, "to 4Gi"},
		"too small and not bound":       {claimOf("2Gi", ""), false, progressing, reasonVolumeResizing, "when it is bound"},
		"growing":                       {claimOf("4Gi", "2Gi", corev1.PersistentVolumeClaimResizing), false, progressing, reasonVolumeResizing, "from 2Gi to 4Gi"},
		"growing has not begun":         {claimOf("4Gi", "2Gi"), false, progressing, reasonVolumeResizing, "from 2Gi to 4Gi"},
		"the file system is too small":  {claimOf("4Gi", "2Gi", corev1.PersistentVolumeClaimFileSystemResizePending), false, progressing, reasonVolumeResizing, "delete the pod"},
		"the storage system fails":      {claimOf("4Gi", "2Gi", corev1.PersistentVolumeClaimControllerResizeError), false, stalled, reasonVolumeNotResized, "from 2Gi to 4Gi: no room. The server"},
		"the node fails":                {claimOf("4Gi", "2Gi", corev1.PersistentVolumeClaimNodeResizeError), false, stalled, reasonVolumeNotResized, "no room"},
		"the size is not possible":      {infeasible(claimOf("4Gi", "2Gi")), false, stalled, reasonVolumeNotResized, "cannot provide this size"},
		"a failure that is over":        {claimOf("4Gi", "4Gi", corev1.PersistentVolumeClaimControllerResizeError), false, unchecked, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			grows, f := examineClaim(tt.claim, resource.MustParse(want))
			if grows != tt.grows || f.state != tt.finding || f.reason != tt.reason || !strings.Contains(f.message, tt.message) {
				t.Errorf("the claim must grow: %t, with the finding %+v, want %t, %d, %q and a message with %q", grows, f, tt.grows, tt.finding, tt.reason, tt.message)
			}
		})
	}
}

func TestResizeFailed_ErrorsOfTheAPIServer_NameTheRemedy(t *testing.T) {
	t.Parallel()
	claims := schema.GroupResource{Resource: "persistentvolumeclaims"}
	denied := func(why string) error { return apierrors.NewForbidden(claims, "data-sim-redis-0", errors.New(why)) }
	for name, tt := range map[string]struct {
		err    error
		state  state
		reason string
		want   []string
	}{
		"a StorageClass that does not allow growth": {
			denied("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"),
			stalled, reasonVolumeNotResized, []string{"StorageClass fast", "allowVolumeExpansion", "continues to run with the current size"},
		},
		"a quota":                         {denied("exceeded quota: small, requested: requests.storage=2Gi"), progressing, reasonQuota, []string{"raise the namespace's quota", "4Gi", "or restore the previous size"}},
		"a quota that is not counted yet": {denied("status unknown for quota: small, resources: requests.storage"), progressing, reasonQuota, []string{"wait until Kubernetes has counted", "4Gi"}},
		"no quota for a scope":            {apierrors.NewInternalError(errors.New("insufficient quota to match these scopes: [{VolumeAttributesClass Exists []}]")), progressing, reasonQuota, []string{"create a ResourceQuota with these scopes"}},
		"a missing permission":            {denied(`User "operator" cannot patch resource "persistentvolumeclaims" in API group "" in the namespace "default"`), stalled, reasonForbidden, []string{"grant the operator's role"}},
		"a policy":                        {denied("volumes have at most 2Gi"), stalled, reasonVolumeNotResized, []string{"volumes have at most 2Gi", "policy"}},
		"an invalid size":                 {apierrors.NewInvalid(schema.GroupKind{Kind: claimKind}, "data-sim-redis-0", nil), stalled, reasonVolumeNotResized, []string{"rejects"}},
		"a failed webhook":                {apierrors.NewInternalError(errors.New("failed calling webhook")), stalled, reasonVolumeNotResized, []string{"failed calling webhook", "tries again every minute"}},
		"a busy server":                   {apierrors.NewTooManyRequests("later", 1), progressing, reasonVolumeResizing, []string{"later", "tries again"}},
		"an unavailable server":           {apierrors.NewServiceUnavailable("later"), progressing, reasonVolumeResizing, []string{"later", "tries again"}},
		"a timeout of a request":          {apierrors.NewTimeoutError("later", 1), progressing, reasonVolumeResizing, []string{"later", "tries again"}},
		"no connection":                   {fmt.Errorf("read the claim: %w", syscall.ECONNREFUSED), progressing, reasonVolumeResizing, []string{"connection refused", "tries again"}},
		"no read right":                   {denied(`User "operator" cannot get resource "persistentvolumeclaims" in API group "" in the namespace "default"`), stalled, reasonForbidden, []string{"grant the operator's role"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := resizeFailed(claimOf("2Gi", "2Gi"), resource.MustParse("4Gi"), tt.err)
			if f.state != tt.state || f.reason != tt.reason {
				t.Errorf("the finding is %+v, want state %d and reason %q", f, tt.state, tt.reason)
			}
			next := retryInterval(tt.err)
			if isSoon := next == resizeInterval; isSoon != (tt.reason == reasonVolumeResizing) {
				t.Errorf("the next try follows after %s", next)
			}
			for _, want := range tt.want {
				if !strings.Contains(f.message, want) {
					t.Errorf("the message is %q, want it to contain %q", f.message, want)
				}
			}
		})
	}
}

// The volume claim templates of a StatefulSet are immutable: the API server would reject a changed volume size. So the
// operator must apply the templates that already exist.
func TestToApply_StatefulSetExists_KeepsItsClaimTemplate(t *testing.T) {
	t.Parallel()
	key := childKey{"StatefulSet", "sim-rabbitmq"}
	sized := func(size string) *appsv1.StatefulSet {
		set := rabbitSet(3, 3)
		set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
		return set
	}
	for name, tt := range map[string]struct {
		live *appsv1.StatefulSet
		want string
	}{
		"the template is smaller":        {sized("1Gi"), "1Gi"},
		"the template is larger":         {sized("8Gi"), "8Gi"},
		"the StatefulSet does not exist": {nil, "4Gi"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScope(&v1alpha1.ParkingSimulation{}, time.Now())
			if tt.live != nil {
				s.children[key] = tt.live
			}
			desired := sized("4Gi")
			for _, isLimited := range []bool{false, tt.live != nil} {
				s.limited[key] = isLimited
				set, ok := s.toApply(key, desired).(*appsv1.StatefulSet)
				if !ok {
					t.Fatal("no StatefulSet is applied")
				}
				if size := volumeSize(set); size.String() != tt.want || *set.Spec.Replicas != 3 {
					t.Errorf("the template has the size %s and %d replicas are applied, want %s and 3", size.String(), *set.Spec.Replicas, tt.want)
				}
			}
			if size := volumeSize(desired); size.String() != "4Gi" {
				t.Errorf("the desired object has changed: its size is %s", size.String())
			}
		})
	}
}

// growing returns a reconciler and a scope for three RabbitMQ nodes whose claims must grow from 2Gi to 4Gi. If patch
// returns an error for a claim, the claim does not grow.
func growing(t *testing.T, patch func(claim string) error) (*Reconciler, *scope) {
	t.Helper()
	live, desired := rabbitSet(3, 3), rabbitSet(3, 3)
	live.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}
	desired.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("4Gi")}
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, options ...client.PatchOption) error {
			if err := patch(o.GetName()); err != nil {
				return err
			}
			return c.Patch(ctx, o, p, options...)
		},
	})
	for _, name := range claimNames(desired) {
		claim := claimOf("2Gi", "2Gi")
		claim.Name, claim.Labels = name, desired.Spec.VolumeClaimTemplates[0].Labels
		builder = builder.WithObjects(claim)
	}
	c := builder.Build()
	s := newScope(&v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}, time.Now())
	s.children[childKey{"StatefulSet", live.Name}], s.desired = live, []client.Object{desired}
	return &Reconciler{client: c, direct: c, childKinds: childKinds()}, s
}

// laterScope returns the scope of a reconcile that runs later by the given duration, and finds the same objects.
func laterScope(s *scope, later time.Duration) *scope {
	next := newScope(s.before, s.now.Add(later))
	next.children, next.desired = s.children, s.desired
	return next
}

func TestGrowVolumes_PatchFails_OtherClaimsGrowAndRetryIsAfterAMinute(t *testing.T) {
	t.Parallel()
	claims := schema.GroupResource{Resource: "persistentvolumeclaims"}
	for name, tt := range map[string]struct {
		err    error
		reason string
		want   []string
	}{
		"the API server fails": {
			apierrors.NewInternalError(errors.New("a webhook does not answer")), reasonVolumeNotResized,
			[]string{"data-sim-rabbitmq-1 cannot grow to 4Gi", "a webhook does not answer", "tries again every minute", "admission webhooks"},
		},
		"a policy forbids it": {
			apierrors.NewForbidden(claims, "data-sim-rabbitmq-1", errors.New("volumes have at most 2Gi")), reasonVolumeNotResized,
			[]string{"data-sim-rabbitmq-1 cannot grow to 4Gi", "volumes have at most 2Gi", "Change the admission policy"},
		},
		"the right is missing": {
			apierrors.NewForbidden(claims, "data-sim-rabbitmq-1", errors.New(`User "operator" cannot patch resource "persistentvolumeclaims" in API group "" in the namespace "default"`)), reasonForbidden,
			[]string{"grant the operator's role"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var patched []string
			failure := tt.err
			r, s := growing(t, func(claim string) error {
				patched = append(patched, claim)
				if claim == "data-sim-rabbitmq-1" {
					return failure
				}
				return nil
			})
			reconcile := func(s *scope) finding {
				t.Helper()
				if err := r.growVolumes(t.Context(), s); err != nil {
					t.Fatalf("the other phases do not run: %v", err)
				}
				return s.findings.volumes
			}
			f := reconcile(s)
			if f.state != stalled || f.reason != tt.reason {
				t.Errorf("the finding is %+v, want reason %s", f, tt.reason)
			}
			for _, want := range tt.want {
				if !strings.Contains(f.message, want) {
					t.Errorf("the message is %q, want it to contain %q", f.message, want)
				}
			}
			for _, ordinal := range []string{"0", "2"} {
				claim := &corev1.PersistentVolumeClaim{}
				if err := r.client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "data-sim-rabbitmq-" + ordinal}, claim); err != nil {
					t.Fatal(err)
				}
				if size := claim.Spec.Resources.Requests.Storage(); size.String() != "4Gi" {
					t.Errorf("claim %s requests %s, want 4Gi", claim.Name, size)
				}
			}
			tries := len(patched)
			s = laterScope(s, claimInterval-time.Second)
			if now := reconcile(s); now != f || len(patched) != tries {
				t.Errorf("within a minute, the finding is %+v, and the patches are %v", now, patched)
			}
			if s.wake == 0 || s.wake > time.Second {
				t.Errorf("the next reconcile follows after %s, want 1 s or less", s.wake)
			}
			failure = nil
			if now := reconcile(laterScope(s, time.Second)); now.reason != reasonVolumeResizing || len(patched) != tries+1 {
				t.Errorf("after a minute, the finding is %+v, and the patches are %v", now, patched)
			}
		})
	}
}

func TestGrowVolumes_SizeIsEditedAfterFailure_TakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	patches := 0
	r, s := growing(t, func(string) error {
		patches++
		return apierrors.NewForbidden(schema.GroupResource{Resource: "persistentvolumeclaims"}, "claim", errors.New("too large"))
	})
	if err := r.growVolumes(t.Context(), s); err != nil || s.findings.volumes.state != stalled || patches != 3 {
		t.Fatalf("the finding is %+v after %d patches (%v)", s.findings.volumes, patches, err)
	}
	for _, size := range []string{"2Gi", "1Gi"} {
		s = laterScope(s, time.Millisecond)
		set := rabbitSet(3, 3)
		set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}
		s.desired = []client.Object{set}
		if err := r.growVolumes(t.Context(), s); err != nil || s.findings.volumes.state != unchecked || s.wake != 0 || patches != 3 {
			t.Errorf("with %s, the finding is %+v after %d patches (%v)", size, s.findings.volumes, patches, err)
		}
	}
	s = laterScope(s, time.Millisecond)
	set := rabbitSet(3, 3)
	set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("3Gi")}
	s.desired = []client.Object{set}
	if err := r.growVolumes(t.Context(), s); err != nil || patches != 6 {
		t.Errorf("another size is not tried at once: there are %d patches (%v), want 6", patches, err)
	}
}

// A claim that was deleted and created again has the old size, because the claim template cannot change. So the
// operator must enlarge the claim again.
func TestGrowVolumes_ClaimIsCreatedAgain_ClaimGrows(t *testing.T) {
	t.Parallel()
	patches := 0
	r, s := growing(t, func(string) error { patches++; return nil })
	if err := r.growVolumes(t.Context(), s); err != nil || patches != 3 {
		t.Fatalf("there are %d patches (%v), want 3", patches, err)
	}
	claim := claimOf("2Gi", "2Gi")
	claim.Name, claim.Labels = "data-sim-rabbitmq-2", map[string]string{"simulation": "sim"}
	if err := r.client.Delete(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	s = laterScope(s, claimInterval)
	if err := r.growVolumes(t.Context(), s); err != nil || patches != 3 {
		t.Errorf("without the claim, there are %d patches (%v), want 3", patches, err)
	}
	if err := r.client.Create(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	s = laterScope(s, time.Second)
	if err := r.growVolumes(t.Context(), s); err != nil || s.wake == 0 {
		t.Errorf("no check of the new claim follows (%v)", err)
	}
	if err := r.growVolumes(t.Context(), laterScope(s, claimInterval)); err != nil || patches != 4 {
		t.Errorf("with the new claim, there are %d patches (%v), want 4", patches, err)
	}
}

// If a volume cannot grow, the condition Ready is False. But the conditions of the servers stay True, because the
// simulation can still start.
func TestConditionsOf_VolumeCannotGrow_OnlyReadyIsFalse(t *testing.T) {
	t.Parallel()
	works := found(ready, reasonReady, "works")
	f := findings{broker: works, store: works, summaryAPI: works, workloads: works, volumes: found(stalled, reasonVolumeNotResized, "no room")}
	got := map[string]string{}
	for _, c := range conditionsOf(f) {
		got[c.Type] = string(c.Status) + " " + c.Reason
	}
	for kind, want := range map[string]string{
		v1alpha1.ConditionReady: "False VolumeNotResized", v1alpha1.ConditionStalled: "True VolumeNotResized",
		v1alpha1.ConditionBrokerReady: "True Ready", v1alpha1.ConditionStoreReady: "True Ready",
	} {
		if got[kind] != want {
			t.Errorf("%s is %q, want %q", kind, got[kind], want)
		}
	}
	f.complete = true
	for _, c := range conditionsOf(f) {
		if c.Type == v1alpha1.ConditionReady && c.Status != metav1.ConditionTrue {
			t.Errorf("a complete simulation is not ready: %s", c.Message)
		}
	}
}
