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

// everyKind are the kinds of a simulation's objects.
func everyKind() []schema.GroupVersionKind {
	return []schema.GroupVersionKind{
		corev1.SchemeGroupVersion.WithKind("ServiceAccount"), corev1.SchemeGroupVersion.WithKind("ConfigMap"), corev1.SchemeGroupVersion.WithKind("Service"),
		networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"), policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
		appsv1.SchemeGroupVersion.WithKind("StatefulSet"), appsv1.SchemeGroupVersion.WithKind("Deployment"),
		resources.ServiceMonitorKind(), resources.PrometheusRuleKind(),
		corev1.SchemeGroupVersion.WithKind("Secret"), // the last, as new passwords change servers
	}
}

// Whatever the operator has applied comes back, field by field, in every object.
func TestEveryFieldOfEveryChildIsHealed(t *testing.T) {
	t.Parallel()
	c := newClusterOfItsOwn(t)
	c.Define(definition(resources.ServiceMonitorKind()), definition(resources.PrometheusRuleKind()))
	stop := c.startOperator()
	sim := c.Simulate("sim", nil)
	c.Expect(sim, "MonitoringReady", metav1.ConditionTrue, "Created")
	c.quiet()
	stop()
	children := c.children(sim)
	for _, child := range children {
		edited := 0
		for _, l := range ownedLeaves(child.Unstructured) {
			if c.spoil(child, l) {
				edited++
			}
		}
		t.Logf("%s has %d fields that can be edited", child.what, edited)
		if edited == 0 {
			t.Errorf("nothing of %s can be edited", child.what)
		}
	}
	c.startOperator()
	for _, child := range children {
		c.isAgain(child)
	}

	// The operator also notices while it runs.
	for _, child := range children {
		for _, l := range ownedLeaves(child.Unstructured) {
			if !strings.HasPrefix(l.path, "/metadata") && c.spoil(child, l) {
				break
			}
		}
		c.isAgain(child)
		if child.GetKind() == "NetworkPolicy" {
			for _, rules := range []string{"/spec/ingress", "/spec/egress"} {
				if !c.spoil(child, leaf{path: rules, value: []any{}}) {
					t.Errorf("%s of %s cannot be edited", rules, child.what)
				}
				c.isAgain(child)
			}
		}
		// Without its label it is in no cache.
		if !c.spoil(child, leaf{path: "/metadata/labels", value: map[string]any{"labels": "none"}}) {
			t.Errorf("the labels of %s cannot be edited", child.what)
		}
		c.isAgain(child)
		if err := c.Client.Delete(t.Context(), child.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		live := child.DeepCopy()
		c.Eventually(child.what+" to come back", func() error {
			err := c.Client.Get(t.Context(), client.ObjectKeyFromObject(child), live)
			if err == nil && live.GetUID() == child.GetUID() {
				err = errors.New("it is the old one")
			}
			return err
		})
	}
	c.isCalm(1)
}

// child is an object of a simulation as it is to be.
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

// spoil edits a field, and reports whether the API server let it be edited.
func (c *cluster) spoil(child child, l leaf) bool {
	c.T.Helper()
	other := spoilt(l.value)
	if child.GetKind() == "Secret" && strings.HasPrefix(l.path, "/data/") {
		other = base64.StdEncoding.EncodeToString([]byte("spoilt"))
	}
	patch, err := json.Marshal([]any{map[string]any{"op": "replace", "path": l.path, "value": other}})
	if err != nil {
		c.T.Fatal(err)
	}
	err = c.Client.Patch(c.T.Context(), child.DeepCopy(), client.RawPatch(types.JSONPatchType, patch), client.FieldOwner("somebody"))
	if err != nil && !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) {
		c.T.Errorf("edit %s of %s: %v", l.path, child.what, err)
	}
	return err == nil
}

// isAgain waits until a child has every field again that the operator owned.
func (c *cluster) isAgain(child child) {
	c.T.Helper()
	live, want := child.DeepCopy(), values(child.Unstructured)
	c.Eventually(child.what+" to be healed", func() error {
		if err := c.Client.Get(c.T.Context(), client.ObjectKeyFromObject(child), live); err != nil {
			return err
		}
		if diff := cmp.Diff(want, values(live)); diff != "" {
			return fmt.Errorf("it differs (-want +got):\n%s", diff)
		}
		return nil
	})
}

// leaf is a field of an object: how the API server knows it, where it is as JSON Patch says it, and its value.
type leaf struct {
	name, path string
	value      any
}

// ownedLeaves are the fields of an object that the operator owns, as the API server keeps account of them. Not among
// them are owners, as an object that belongs to something else is not the operator's to heal, and passwords, which it
// takes over from whoever edits them.
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
			continue // the parent itself
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

// indexOf finds the element of a list that has the fields of a key, or is the key itself.
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

// spoilt is a value like the given one, but another.
func spoilt(value any) any {
	switch v := value.(type) {
	case string:
		return v + "0" // also a quantity, or a number in a text
	case bool:
		return !v
	case int64:
		return v + 1
	case []any:
		if len(v) == 0 {
			return []any{map[string]any{}} // a rule that lets everything through
		}
		return v[:len(v)-1]
	case map[string]any:
		for key, inner := range v {
			changed := maps.Clone(v)
			changed[key] = spoilt(inner)
			return changed
		}
	}
	return "spoilt"
}

func TestPasswordsOfManagedServersAreRotated(t *testing.T) {
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
			// isNew says whether the cookie that RabbitMQ's nodes share is to be another one, too.
			isNew bool
		}{
			{"with an empty password", func() { c.Edit(secret, func() { secret.Data["password"] = nil }) }, false},
			{"deleted", func() { c.Delete(secret, name) }, true},
		} {
			password, cookie, before := string(secret.Data["password"]), string(secret.Data["erlang-cookie"]), set.Spec.Template.Annotations[configHash]
			way.rotate()
			c.Eventually(name+", "+way.name+", to get another password, and the server to be rolled", func() error {
				key := client.ObjectKey{Namespace: c.Namespace, Name: name}
				if err := errors.Join(c.Client.Get(t.Context(), key, secret), c.Client.Get(t.Context(), key, set)); err != nil {
					return err
				}
				now := string(secret.Data["password"])
				if now == "" || now == password || set.Spec.Template.Annotations[configHash] == before {
					return errors.New("it is as before")
				}
				return nil
			})
			for key, value := range secret.Data {
				if strings.Contains(string(value), password) {
					t.Errorf("%s of Secret %s has the old password", key, name)
				}
			}
			if now := string(secret.Data["erlang-cookie"]); cookie != "" && (now != cookie) != way.isNew {
				t.Errorf("the cookie of %s, %s, was %q and is %q", name, way.name, cookie, now)
			}
		}
	}
}

func TestRunningPodsHearOfPlanAndPasswords(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	binding := map[string]string{"uri": "redis://:first@redis.example:6379"}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "store"}, StringData: binding}
	c.Create(secret)
	sim := c.Simulate("told", func(s *v1alpha1.ParkingSimulationSpec) {
		s.Redis.SecretRef = &v1alpha1.SecretReference{Name: "store"}
	})
	c.Expect(sim, "Ready", metav1.ConditionFalse, "Progressing")
	c.Settle()
	c.Expect(sim, "Ready", metav1.ConditionTrue, "Running")
	pod := c.Pod(sim, resources.ComponentEntry, nil)
	before := c.annotated(pod, "")
	deployment := &appsv1.Deployment{}
	c.Exists(deployment, "told-entry")

	c.Edit(sim, func() { sim.Spec.Entry.Rate = new(int32(77)) })
	edited := c.annotated(pod, before)
	if p := c.plan(sim); p.Entry.Rate != 77 {
		t.Errorf("the pod was told of a plan with rate %v, want 77", p.Entry.Rate)
	}
	c.Edit(secret, func() { secret.StringData = map[string]string{"uri": "redis://:second@redis.example:6379"} })
	c.annotated(pod, edited)

	after := &appsv1.Deployment{}
	c.Exists(after, "told-entry")
	if after.Generation != deployment.Generation {
		t.Errorf("the Deployment is of generation %d, want %d: no pod is to be replaced", after.Generation, deployment.Generation)
	}
}

// annotated waits until the hash of what a pod mounts differs from that of before.
func (c *cluster) annotated(pod *corev1.Pod, before string) string {
	c.T.Helper()
	var now string
	c.Eventually("the pod to be told", func() error {
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

// TestWhatWasReplacedCanBeTakenAway applies a wish beside an edit by hand that makes it invalid, and then one with less.
func TestWhatWasReplacedCanBeTakenAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "owner"}}
	c.Create(owner)
	wish := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: "replaced", OwnerReferences: []metav1.OwnerReference{
			*metav1.NewControllerRef(owner, corev1.SchemeGroupVersion.WithKind("ConfigMap")),
		}},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}, Selector: map[string]string{"a": "b"}},
	}
	applier := apply.New(c.Client, c.Client, c.Client.Scheme())
	applied := func() *corev1.Service {
		t.Helper()
		if _, err := applier.Apply(t.Context(), wish, nil); err != nil {
			t.Fatal(err)
		}
		live := &corev1.Service{}
		c.Exists(live, wish.Name)
		return live
	}
	live := applied()
	c.Edit(live, func() { live.Spec.Ports[0].Port = 81 })
	wish.Spec.Selector = map[string]string{"a": "b", "more": "c"}
	if live = applied(); len(live.Spec.Ports) != 1 || live.Spec.Ports[0].Port != 80 || live.Spec.Selector["more"] != "c" {
		t.Fatalf("the Service has %v, want the wish", live.Spec)
	}
	delete(wish.Spec.Selector, "more")
	if live = applied(); live.Spec.Selector["more"] != "" {
		t.Errorf("the selector is %v, want nothing that is no longer wished for", live.Spec.Selector)
	}
}
