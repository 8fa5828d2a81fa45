package rehearsal

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// each calls the function hit for one pod after the other. It returns the time of the last hit.
func each(ctx context.Context, pods []*corev1.Pod, hit func(context.Context, *corev1.Pod) (time.Time, error)) (at time.Time, err error) {
	for n, pod := range pods {
		if at, err = hit(ctx, pod); err == nil {
			continue
		}
		if n > 0 {
			err = fmt.Errorf("only pods %v were hit: %w", namesOf(pods[:n]), err)
		}
		return time.Time{}, err
	}
	return at, nil
}

// pick chooses the running pods that the fault of an occurrence hits. of is the number of running pods from
// which they are chosen.
func (i *injector) pick(ctx context.Context, o fault.Occurrence) (picked []*corev1.Pod, of int, err error) {
	component := resources.ComponentOf(o.Target)
	pods, err := i.podsOf(ctx, component)
	if err != nil {
		return nil, 0, err
	}
	pods = slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil })
	if len(pods) == 0 {
		return nil, 0, fmt.Errorf("no pod of %s was running", o.Target)
	}
	if o.Target == plan.TargetRabbitMQLeader {
		leader, err := leaderOf(ctx, pods)
		return []*corev1.Pod{leader}, len(pods), err
	}
	for _, index := range o.Pick(len(pods)) {
		picked = append(picked, pods[index])
	}
	return picked, len(pods), nil
}

// podsOf returns the pods of a component in a stable order. The pods of a StatefulSet are sorted by their
// ordinal. The pods of a Deployment have random names, so they are sorted by age.
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

// isMade reports whether a pod was created for the workload with the given name. The labels of a pod do not
// prove that, because anyone who can create pods can give them the labels of a simulation.
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
func (i *injector) delete(ctx context.Context, pod *corev1.Pod) (time.Time, error) {
	uid := pod.UID
	if err := i.client.Delete(ctx, pod, client.Preconditions{UID: &uid}); err != nil {
		return time.Time{}, fmt.Errorf("delete pod %s: %w", pod.Name, err)
	}
	return time.Now(), nil
}

// evict deletes a pod through the eviction API, which fails if a disruption budget forbids the eviction.
func (i *injector) evict(ctx context.Context, pod *corev1.Pod) (time.Time, error) {
	uid := pod.UID
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}},
	}
	// By default, the client would retry for minutes if a disruption budget forbids the eviction.
	err := i.core.Post().MaxRetries(0).Namespace(pod.Namespace).Resource("pods").Name(pod.Name).SubResource("eviction").
		Body(eviction).Do(ctx).Error()
	switch {
	case apierrors.IsTooManyRequests(err):
		return time.Time{}, fmt.Errorf("a disruption budget forbids the eviction of pod %s: %w", pod.Name, err)
	case err != nil:
		return time.Time{}, fmt.Errorf("evict pod %s: %w", pod.Name, err)
	}
	return time.Now(), nil
}

func namesOf(pods []*corev1.Pod) []string {
	names := make([]string, len(pods))
	for n, pod := range pods {
		names[n] = pod.Name
	}
	return names
}

// untilReady waits until every pod that was hit has been replaced or restarted, and all pods of the component
// are ready again.
func (i *injector) untilReady(ctx context.Context, o fault.Occurrence, hit []string, at time.Time) (time.Time, error) {
	component := resources.ComponentOf(o.Target)
	for {
		pods, err := i.podsOf(ctx, component)
		if err == nil && isHealed(pods, hit, at, i.target().replicas(component)) {
			return time.Now(), nil
		}
		if err := wait(ctx); err != nil {
			return time.Time{}, err
		}
	}
}

// isHealed reports whether at least want pods are ready, and whether every pod that was hit has been replaced
// or restarted since the given time.
func isHealed(pods []*corev1.Pod, hit []string, at time.Time, want int) bool {
	at = at.Truncate(time.Second) // as the times in a status
	ready := 0
	for _, pod := range pods {
		switch {
		case pod.DeletionTimestamp != nil:
			continue
		case slices.Contains(hit, pod.Name) && !restarted(pod, at):
			return false
		case isReady(pod):
			ready++
		}
	}
	return ready >= want
}

// restarted reports whether any container of the pod has started since the given time. The container of the
// agent does not count.
func restarted(pod *corev1.Pod, since time.Time) bool {
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.Name != resources.ContainerAgent && s.State.Running != nil && !s.State.Running.StartedAt.Time.Before(since)
	})
}

// defaultEvidenceTimeout is the default of Dependencies.EvidenceTimeout. It is long enough for a busy kubelet.
const defaultEvidenceTimeout = time.Minute

// untilKilled waits until, for each of the pods, the kubelet reports that a container has ended since the agent
// killed the target. The container of the agent itself does not count. If no container ends before the timeout,
// untilKilled returns an error, because the agent has killed nothing, even if it said that it had. If ctx ends
// first, untilKilled returns nil, and the fault counts as injected without proof.
func (i *injector) untilKilled(ctx context.Context, names []string, at time.Time) error {
	deadline := time.Now().Add(i.evidenceTimeout)
	for _, name := range names {
		pod := &corev1.Pod{}
		key := client.ObjectKey{Namespace: i.target().Simulation.Namespace, Name: name}
		for {
			err := i.client.Get(ctx, key, pod)
			if apierrors.IsNotFound(err) || err == nil && isKilled(pod, at.Truncate(time.Second)) {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("pod %s: the agent answered that it killed the target, but no container of the pod has ended within %s",
					name, i.evidenceTimeout)
			}
			select {
			case <-time.After(healPoll):
			case <-ctx.Done():
				return nil
			}
		}
	}
	return nil
}

// isKilled reports whether any container of the pod is not running, or has started since the given time. The
// container of the agent does not count.
func isKilled(pod *corev1.Pod, since time.Time) bool {
	return restarted(pod, since) || slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.Name != resources.ContainerAgent && s.State.Running == nil
	})
}

func isReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
