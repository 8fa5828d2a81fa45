package rehearsal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// Choose implements fault.Injector. An occurrence hits the same pods of a StatefulSet in every run.
func (i *injector) Choose(ctx context.Context, o fault.Occurrence) (choice fault.Choice, err error) {
	component := resources.ComponentOf(o.Target)
	pods, err := i.podsOf(ctx, component)
	if err != nil {
		return fault.Choice{}, err
	}
	running := slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil })
	declared := i.target().replicas(component)
	choice = fault.Choice{Of: len(running), Incomplete: len(running) < declared}
	if len(running) == 0 {
		return choice, fmt.Errorf("no pod of %s was running", o.Target)
	}
	if o.Target == plan.TargetRabbitMQLeader {
		leader, err := i.leaderOf(ctx, running)
		if err == nil {
			choice.Instances = []fault.Chosen{chosen(leader)}
		}
		return choice, err
	}
	indexed := byIndex(running, declared)
	for _, index := range o.Pick(declared) {
		if indexed[index] == nil {
			return choice, fmt.Errorf("pod %d of %s was not running (the first pod is pod 0): %d of %d pods were running", index, o.Target, len(running), declared)
		}
		choice.Instances = append(choice.Instances, chosen(indexed[index]))
	}
	return choice, nil
}

// byIndex puts each pod of a StatefulSet at its ordinal in a list of length n, and other pods at free indexes. Elements
// without a pod are nil.
func byIndex(pods []*corev1.Pod, n int) []*corev1.Pod {
	indexed := make([]*corev1.Pod, n)
	var others []*corev1.Pod
	for _, pod := range pods {
		ordinal, err := strconv.Atoi(pod.Labels[appsv1.PodIndexLabel])
		if err == nil && ordinal >= 0 && ordinal < n && indexed[ordinal] == nil {
			indexed[ordinal] = pod
			continue
		}
		others = append(others, pod)
	}
	for index := range indexed {
		if indexed[index] == nil && len(others) > 0 {
			indexed[index], others = others[0], others[1:]
		}
	}
	return indexed
}

// chosen returns a fault.Chosen that identifies a pod and its current containers.
func chosen(pod *corev1.Pod) fault.Chosen {
	return fault.Chosen{Name: pod.Name, ID: string(pod.UID), Processes: processesOf(pod)}
}

// processesOf returns a hash that changes when a container of the pod, other than the agent, restarts. It does not
// depend on start times, because the clocks of nodes differ.
func processesOf(pod *corev1.Pod) string {
	hash := fnv.New64a()
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name != resources.ContainerAgent {
			fmt.Fprintf(hash, "%s %s %d\n", s.Name, s.ContainerID, s.RestartCount) // never fails
		}
	}
	return strconv.FormatUint(hash.Sum64(), 16)
}

// podsOf returns the pods of a component in a stable order: by ordinal, or by age if a Deployment gave them random
// names.
func (i *injector) podsOf(ctx context.Context, c resources.Component) ([]*corev1.Pod, error) {
	sim := i.target().Simulation
	list := &corev1.PodList{}
	if err := i.client.List(ctx, list, client.InNamespace(sim.Namespace), client.MatchingLabels(resources.Selector(sim, c))); err != nil {
		return nil, fmt.Errorf("list the pods of %s: %w", c, err)
	}
	var pods []*corev1.Pod
	for n := range list.Items {
		if isMade(&list.Items[n], resources.Name(sim, c)) {
			pods = append(pods, &list.Items[n])
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		if metav1.GetControllerOf(a).Kind == "StatefulSet" {
			return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
		}
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return pods, nil
}

// isMade reports whether a pod was created for the workload with the given name. Labels prove nothing: anyone who can
// create pods can set them.
func isMade(pod *corev1.Pod, workload string) bool {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return false
	}
	switch owner.Kind {
	case "StatefulSet":
		return owner.Name == workload
	case "ReplicaSet":
		return owner.Name == workload+"-"+pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]
	}
	return false
}

// delete deletes a pod, which stops its processes gracefully.
func (i *injector) delete(ctx context.Context, c *fault.Chosen) (time.Time, error) {
	at, uid := time.Now(), types.UID(c.ID)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: i.target().Simulation.Namespace, Name: c.Name}}
	if err := i.client.Delete(ctx, pod, client.Preconditions{UID: &uid}); err != nil {
		return time.Time{}, fmt.Errorf("delete pod %s: %w", c.Name, err)
	}
	return at, nil
}

// evict deletes a pod through the eviction API, which fails if a disruption budget forbids the eviction.
func (i *injector) evict(ctx context.Context, c *fault.Chosen) (time.Time, error) {
	at, uid := time.Now(), types.UID(c.ID)
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Name: c.Name, Namespace: i.target().Simulation.Namespace},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}},
	}
	// By default, the REST client would retry for minutes while a disruption budget forbids the eviction.
	err := i.core.Post().MaxRetries(0).Namespace(eviction.Namespace).Resource("pods").Name(c.Name).SubResource("eviction").
		Body(eviction).Do(ctx).Error()
	switch {
	case apierrors.IsTooManyRequests(err):
		return time.Time{}, fmt.Errorf("a disruption budget forbids the eviction of pod %s: %w", c.Name, err)
	case err != nil:
		return time.Time{}, fmt.Errorf("evict pod %s: %w", c.Name, err)
	}
	return at, nil
}

// evictFurther evicts a pod. While a disruption budget forbids this, it retries for up to Timeouts.Evidence.
func (i *injector) evictFurther(ctx context.Context, c *fault.Chosen) (time.Time, error) {
	deadline := time.Now().Add(i.timeouts.Evidence)
	for {
		at, err := i.evict(ctx, c)
		if !apierrors.IsTooManyRequests(err) || time.Now().After(deadline) || wait(ctx) != nil {
			return at, err
		}
	}
}

// untilReady waits until all chosen pods have been replaced or restarted, and all pods are ready (see isHealed).
func (i *injector) untilReady(ctx context.Context, r fault.Record) (time.Time, error) {
	component := resources.ComponentOf(r.Target)
	for {
		pods, err := i.podsOf(ctx, component)
		if err == nil && i.isHealed(pods, &r, i.target().replicas(component)) {
			return time.Now(), nil
		}
		if err := wait(ctx); err != nil {
			return time.Time{}, err
		}
	}
}

// isHealed reports whether all chosen pods were replaced or restarted and enough pods are ready. A pod that another
// fault pauses or isolates counts as ready.
func (i *injector) isHealed(pods []*corev1.Pod, r *fault.Record, want int) bool {
	ready := 0
	for _, pod := range pods {
		n := slices.IndexFunc(r.Chosen, func(c fault.Chosen) bool { return c.ID == string(pod.UID) })
		switch {
		case pod.DeletionTimestamp != nil:
			continue
		case n >= 0 && r.Chosen[n].Processes == processesOf(pod):
			return false
		case resources.IsReady(pod) || i.isHeld(pod.Name, r):
			ready++
		}
	}
	return ready >= want
}

// untilKilled waits until the kubelet reports that each pod was killed or replaced. It returns an error after
// Timeouts.Evidence, and nil if ctx ends first.
func (i *injector) untilKilled(ctx context.Context, killed []fault.Chosen) error {
	deadline := time.Now().Add(i.timeouts.Evidence)
	for n := range killed {
		c := &killed[n]
		for ctx.Err() == nil {
			pod, err := i.podOf(ctx, c)
			if errors.Is(err, errReplaced) || err == nil && isKilled(pod, c) {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("pod %s: the agent answered that it killed the target, but no container of the pod has ended within %s",
					c.Name, i.timeouts.Evidence)
			}
			_ = wait(ctx) // an error means that ctx has ended, and then the loop ends
		}
	}
	return nil
}

// isKilled reports whether any container of the pod is not running, or has started again since the pod was chosen.
// The container of the agent does not count.
func isKilled(pod *corev1.Pod, c *fault.Chosen) bool {
	return processesOf(pod) != c.Processes || slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.Name != resources.ContainerAgent && s.State.Running == nil
	})
}
