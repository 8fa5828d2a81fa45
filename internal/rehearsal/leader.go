package rehearsal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/parking-operator/parking-operator/internal/resources"
)

const (
	// leaderTimeout is the timeout for asking all RabbitMQ nodes which queues they lead.
	leaderTimeout = 15 * time.Second
	// maxMetrics is the maximum size of a node's response, in bytes.
	maxMetrics = 10 << 20
	// leadsQueue is the prefix of certain lines in the metrics of a RabbitMQ node. The node reports one such
	// line for each queue that it leads.
	leadsQueue = "rabbitmq_detailed_queue_messages{"
)

// leaderOf returns the pod of the RabbitMQ node that is the leader of the most queues. If several nodes lead
// equally many queues, it returns the first of them.
func leaderOf(ctx context.Context, pods []*corev1.Pod) (*corev1.Pod, error) {
	if len(pods) == 1 {
		return pods[0], nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	var leader *corev1.Pod
	most := 0
	var errs []error
	for _, pod := range pods {
		led, err := queuesLedBy(ctx, pod)
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
func queuesLedBy(ctx context.Context, pod *corev1.Pod) (int, error) {
	target := url.URL{
		Scheme: "http", Host: net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(resources.RabbitMQMetricsPort)),
		Path: "/metrics/detailed", RawQuery: "family=queue_coarse_metrics",
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("ask pod %s which queues it leads: %w", pod.Name, err)
	}
	defer func() { _ = response.Body.Close() }() // it has been read
	led := 0
	lines := bufio.NewScanner(io.LimitReader(response.Body, maxMetrics))
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), leadsQueue) {
			led++
		}
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("ask pod %s which queues it leads: %w", pod.Name, err)
	}
	return led, nil
}
