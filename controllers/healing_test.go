package controllers_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// everyKind lists the kinds of objects that a simulation owns.
func everyKind() []schema.GroupVersionKind {
	return []schema.GroupVersionKind{
		corev1.SchemeGroupVersion.WithKind("ServiceAccount"), corev1.SchemeGroupVersion.WithKind("ConfigMap"), corev1.SchemeGroupVersion.WithKind("Service"),
		networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"), policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
		appsv1.SchemeGroupVersion.WithKind("StatefulSet"), appsv1.SchemeGroupVersion.WithKind("Deployment"),
		resources.ServiceMonitorKind(), resources.PrometheusRuleKind(),
		// The test edits Secrets last, because a new password makes the operator change other objects.
		corev1.SchemeGroupVersion.WithKind("Secret"),
	}
}

// TestApply_ChangedField_IsRestored changes each field that the operator owns, in each object of a simulation, and then
// deletes the objects. The operator must restore everything.
func TestApply_ChangedField_IsRestored(t *testing.T) {
	t.Parallel()
	c := newDedicatedCluster(t)
	c.Define(definition(resources.ServiceMonitorKind()), definition(resources.PrometheusRuleKind()))
	stop := c.startOperator()
	sim := c.Simulate("sim", nil)
	c.Expect(sim, "MonitoringReady", metav1.ConditionTrue, "Created")
	c.awaitQuiet()
	stop()
	children := c.children(sim)
	for _, child := range children {
		edited := 0
		for _, l := range ownedLeaves(child.Unstructured) {
			if c.edit(child, l) {
				edited++
			}
		}
		t.Logf("%s has %d fields that can be edited", child.what, edited)
		if edited == 0 {
			t.Errorf("no field of %s can be edited", child.what)
		}
	}
	c.startOperator()
	for _, child := range children {
		c.isRestored(child)
	}

	// So far, fields were edited while the operator was stopped. Now edit fields while it runs.
	for _, child := range children {
		for _, l := range ownedLeaves(child.Unstructured) {
			if !strings.HasPrefix(l.path, "/metadata") && c.edit(child, l) {
				break
			}
		}
		c.isRestored(child)
		if child.GetKind() == "NetworkPolicy" {
			for _, rules := range []string{"/spec/ingress", "/spec/egress"} {
				if !c.edit(child, leaf{path: rules, value: []any{}}) {
					t.Errorf("%s of %s cannot be edited", rules, child.what)
				}
				c.isRestored(child)
			}
		}
		// The cache contains only objects with the label of their simulation, so an object without this label
		// disappears from the cache.
		if !c.edit(child, leaf{path: "/metadata/labels", value: map[string]any{"labels": "none"}}) {
			t.Errorf("the labels of %s cannot be edited", child.what)
		}
		c.isRestored(child)
		if err := c.Client.Delete(t.Context(), child.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		live := child.DeepCopy()
		c.Eventually(child.what+" to come back", func() error {
			err := c.Client.Get(t.Context(), client.ObjectKeyFromObject(child), live)
			if err == nil && live.GetUID() == child.GetUID() {
				err = errors.New("it has not been deleted yet")
			}
			return err
		})
	}
	c.isCalm(1)
}

type child struct {
	*unstructured.Unstructured

	what string
}

func (c *cluster) children(sim *v1alpha1.ParkingSimulation) []child {
	c.T.Helper()
	var children []child
	for _, kind := range everyKind() {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		err := c.Client.List(c.T.Context(), list, client.InNamespace(c.Namespace), client.MatchingLabels{resources.SimulationLabel: sim.Name})
		if err != nil || len(list.Items) == 0 {
			c.T.Errorf("there is no %s (%v)", kind.Kind, err)
		}
		for i := range list.Items {
			children = append(children, child{&list.Items[i], kind.Kind + " " + list.Items[i].GetName()})
		}
	}
	return children
}

// edit changes a field. It returns false if the API server rejects the change.
func (c *cluster) edit(child child, l leaf) bool {
	c.T.Helper()
	value := otherThan(l.value)
	if child.GetKind() == "Secret" && strings.HasPrefix(l.path, "/data/") {
		value = base64.StdEncoding.EncodeToString([]byte("edited"))
	}
	patch, err := json.Marshal([]any{map[string]any{"op": "replace", "path": l.path, "value": value}})
	if err != nil {
		c.T.Fatal(err)
	}
	err = c.Client.Patch(c.T.Context(), child.DeepCopy(), client.RawPatch(types.JSONPatchType, patch), client.FieldOwner("somebody"))
	if err != nil && !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
		c.T.Errorf("edit %s of %s: %v", l.path, child.what, err)
	}
	return err == nil
}

// isRestored waits until the operator has restored its own fields in the object.
func (c *cluster) isRestored(child child) {
	c.T.Helper()
	live, want := child.DeepCopy(), values(child.Unstructured)
	c.Eventually(child.what+" to be restored", func() error {
		if err := c.Client.Get(c.T.Context(), client.ObjectKeyFromObject(child), live); err != nil {
			return err
		}
		if diff := cmp.Diff(want, values(live)); diff != "" {
			return fmt.Errorf("it differs (-want +got):\n%s", diff)
		}
		return nil
	})
}

// leaf describes a field without nested fields: its name in the managed fields, its JSON Patch path, and its value.
type leaf struct {
	name, path string
	value      any
}

// ownedLeaves returns the fields that the operator owns, except those that it does not restore: owner references and
// edited passwords.
func ownedLeaves(o *unstructured.Unstructured) []leaf {
	var leaves []leaf
	for _, entry := range o.GetManagedFields() {
		fields := map[string]any{}
		if entry.Manager == apply.FieldManager && entry.Operation == metav1.ManagedFieldsOperationApply &&
			json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) == nil {
			leaves = appendLeaves(leaves, leaf{value: o.Object}, fields)
		}
	}
	slices.SortFunc(leaves, func(a, b leaf) int { return strings.Compare(a.path, b.path) })
	return slices.DeleteFunc(leaves, func(l leaf) bool {
		return strings.HasPrefix(l.path, "/metadata/ownerReferences") || strings.HasPrefix(l.path, "/data/") && o.GetKind() == "Secret" &&
			slices.Contains([]string{"password", "erlang-cookie"}, strings.TrimPrefix(l.path, "/data/"))
	})
}

func values(o *unstructured.Unstructured) map[string]any {
	values := map[string]any{}
	for _, l := range ownedLeaves(o) {
		values[l.name] = l.value
	}
	return values
}

func appendLeaves(leaves []leaf, at leaf, fields map[string]any) []leaf {
	isLeaf := true
	for name, below := range fields {
		kind, text, isField := strings.Cut(name, ":")
		if !isField {
			continue // the name "." stands for the object itself
		}
		isLeaf = false
		next := leaf{name: at.name + "/" + name}
		if kind == "f" {
			object, _ := at.value.(map[string]any)
			next.path, next.value = at.path+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(text), object[text]
		} else if i := indexOf(at.value, text); i >= 0 {
			next.path, next.value = fmt.Sprintf("%s/%d", at.path, i), at.value.([]any)[i]
		}
		inner, _ := below.(map[string]any)
		leaves = appendLeaves(leaves, next, inner)
	}
	if isLeaf {
		leaves = append(leaves, at)
	}
	return leaves
}

// indexOf returns the index of a list element. As in managed fields, the text is the element as JSON, or the key fields
// of the element as JSON.
func indexOf(list any, text string) int {
	var key any
	elements, _ := list.([]any)
	if json.Unmarshal([]byte(text), &key) != nil {
		return -1
	}
	return slices.IndexFunc(elements, func(element any) bool {
		fields, isMap := key.(map[string]any)
		object, _ := element.(map[string]any)
		for name, value := range fields {
			if fmt.Sprint(object[name]) != fmt.Sprint(value) {
				return false
			}
		}
		return isMap || fmt.Sprint(element) == text
	})
}

// otherThan returns a value of the same type that differs from the given value.
func otherThan(value any) any {
	switch v := value.(type) {
	case string:
		// A string that must contain a number, such as "5", stays valid if a digit is appended.
		return v + "0"
	case bool:
		return !v
	case int64:
		return v + 1
	case []any:
		if len(v) == 0 {
			return []any{map[string]any{}} // in a NetworkPolicy, an empty rule allows all traffic
		}
		return v[:len(v)-1]
	case map[string]any:
		for key, inner := range v {
			changed := maps.Clone(v)
			changed[key] = otherThan(inner)
			return changed
		}
	}
	return "edited"
}

func TestReconcile_EditedPassword_RotatesThePasswordOfTheServer(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	sim := c.Simulate("rotated", nil)
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	const configHash = resources.ConfigHashAnnotation
	for _, name := range []string{"rotated-rabbitmq", "rotated-redis"} {
		secret, set := &corev1.Secret{}, &appsv1.StatefulSet{}
		c.Exists(secret, name)
		c.Exists(set, name)
		for _, way := range []struct {
			name   string
			rotate func()
			// newCookie says whether the Erlang cookie changes, in addition to the password.
			newCookie bool
		}{
			{"with an empty password", func() { c.Edit(secret, func() { secret.Data["password"] = nil }) }, false},
			{"deleted", func() { c.Delete(secret, name) }, true},
		} {
			password, cookie, before := string(secret.Data["password"]), string(secret.Data["erlang-cookie"]), set.Spec.Template.Annotations[configHash]
			way.rotate()
			c.Eventually(name+", "+way.name+", to get another password, and the pod template to change", func() error {
				key := client.ObjectKey{Namespace: c.Namespace, Name: name}
				if err := errors.Join(c.Client.Get(t.Context(), key, secret), c.Client.Get(t.Context(), key, set)); err != nil {
					return err
				}
				now := string(secret.Data["password"])
				if now == "" || now == password || set.Spec.Template.Annotations[configHash] == before {
					return errors.New("the password or the pod template has not changed yet")
				}
				return nil
			})
			for key, value := range secret.Data {
				if strings.Contains(string(value), password) {
					t.Errorf("%s of Secret %s has the old password", key, name)
				}
			}
			if now := string(secret.Data["erlang-cookie"]); cookie != "" && (now != cookie) != way.newCookie {
				t.Errorf("the cookie of %s, %s, was %q and is %q", name, way.name, cookie, now)
			}
		}
	}
}

func TestSyncMounts_PlanOrSecretChanges_AnnotatesRunningPods(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	secret, _ := c.Secret("store", map[string]string{"uri": "redis://:first@redis.example:6379"})
	sim := c.Simulate("told", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Redis.SecretRef = &v1alpha1.SecretReference{Name: "store"}
	})
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	c.MakeWorkloadsReady()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	pod := c.Pod(sim, resources.ComponentEntry, nil)
	before := c.annotated(pod, "")
	deployment := &appsv1.Deployment{}
	c.Exists(deployment, "told-entry")

	c.Edit(sim, func() { sim.Spec.Entry.Rate = new(int32(77)) })
	edited := c.annotated(pod, before)
	if p := c.plan(sim); p.Entry.Rate != 77 {
		t.Errorf("the pod was annotated for a plan with rate %v, want 77", p.Entry.Rate)
	}
	c.Edit(secret, func() { secret.StringData = map[string]string{"uri": "redis://:second@redis.example:6379"} })
	c.annotated(pod, edited)

	after := &appsv1.Deployment{}
	c.Exists(after, "told-entry")
	if after.Generation != deployment.Generation {
		t.Errorf("the Deployment has generation %d, want %d: no pod may be replaced", after.Generation, deployment.Generation)
	}
}

// annotated waits until the operator has changed the annotation that contains the hash of a pod's mounted files. It
// returns the new value of the annotation.
func (c *cluster) annotated(pod *corev1.Pod, before string) string {
	c.T.Helper()
	var now string
	c.Eventually("the pod to be annotated", func() error {
		if err := c.Client.Get(c.T.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		if now = pod.Annotations["simulation.parking.dev/mounts-hash"]; now == before {
			return fmt.Errorf("its annotations are %v", pod.Annotations)
		}
		return nil
	})
	return now
}

// The operator replaces an object that it cannot apply because of somebody else's edit. After the replacement, it must
// still remove fields that are no longer desired.
func TestApply_AfterForcedReplacement_RemovesFieldsNoLongerDesired(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "owner"}}
	c.Create(owner)
	desired := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "replaced", OwnerReferences: []metav1.OwnerReference{
			*metav1.NewControllerRef(owner, corev1.SchemeGroupVersion.WithKind("ConfigMap")),
		}},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}, Selector: map[string]string{"a": "b"}},
	}
	applier := apply.New(c.Client, c.Client, c.Client.Scheme())
	applied := func() *corev1.Service {
		t.Helper()
		if _, err := applier.Apply(t.Context(), desired, nil); err != nil {
			t.Fatal(err)
		}
		live := &corev1.Service{}
		c.Exists(live, desired.Name)
		return live
	}
	live := applied()
	c.Edit(live, func() { live.Spec.Ports[0].Port = 81 })
	desired.Spec.Selector = map[string]string{"a": "b", "more": "c"}
	if live = applied(); len(live.Spec.Ports) != 1 || live.Spec.Ports[0].Port != 80 || live.Spec.Selector["more"] != "c" {
		t.Fatalf("the Service has %v, want the desired object", live.Spec)
	}
	delete(desired.Spec.Selector, "more")
	if live = applied(); live.Spec.Selector["more"] != "" {
		t.Errorf("the selector is %v, want no field that is no longer desired", live.Spec.Selector)
	}
}
