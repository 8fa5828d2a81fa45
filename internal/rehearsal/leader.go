package rehearsal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/parking-operator/parking-operator/internal/resources"
)

const (
	// leaderTimeout is the timeout for asking all RabbitMQ nodes which queues they lead.
	leaderTimeout = 15 * time.Second
	// leadsQueue is the beginning of a metric line. A RabbitMQ node reports one such line for each queue that it leads.
	leadsQueue = "\nrabbitmq_detailed_queue_messages{"
)

// leaderOf returns the pod of the RabbitMQ node that leads the most queues. Of several such nodes, it returns the
// first.
func (i *injector) leaderOf(ctx context.Context, pods []*corev1.Pod) (*corev1.Pod, error) {
	if len(pods) == 1 {
		return pods[0], nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	var leader *corev1.Pod
	most := 0
	var errs []error
	for _, pod := range pods {
		led, err := i.queuesLedBy(ctx, pod)
		if err != nil {
			errs = append(errs, err)
		}
		if led > most {
			leader, most = pod, led
		}
	}
	if leader == nil {
		return nil, errors.Join(append(errs, errors.New("no RabbitMQ node leads a queue"))...)
	}
	return leader, nil
}

// queuesLedBy returns how many queues the RabbitMQ node in a pod leads. A node reports metrics only for the
// queues that it leads; see https://www.rabbitmq.com/docs/prometheus#detailed-endpoint.
func (i *injector) queuesLedBy(ctx context.Context, pod *corev1.Pod) (int, error) {
	const path = "/metrics/detailed?family=queue_coarse_metrics"
	status, metrics, err := i.get(ctx, resources.ComponentRabbitMQ, pod, resources.RabbitMQMetricsPort, path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("GET %s returned %d %s", path, status, http.StatusText(status))
	}
	if err != nil {
		return 0, fmt.Errorf("ask pod %s which queues it leads: %w", pod.Name, err)
	}
	return bytes.Count(metrics, []byte(leadsQueue)), nil
}
