package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/podhttp"
	"github.com/parking-operator/parking-operator/internal/resources"
)

const (
	databaseInterval = 10 * time.Second // the time between two requests to a summary API
	databaseTimeout  = 4 * time.Second  // the timeout of one request
	databasePoll     = time.Second      // the time between two reconciles while a request is in progress
)

// databaseFailures asks summary APIs in the background why they cannot use their databases, to which the operator does
// not connect. It is safe for concurrent use.
type databaseFailures struct {
	ask SummaryAPIs

	mu      sync.Mutex
	answers map[client.ObjectKey]*databaseAnswer
}

// databaseAnswer is the latest answer of a simulation's summary API.
type databaseAnswer struct {
	pod     podhttp.Server // the pod that was asked
	asking  bool
	askedAt time.Time
	failure string
}

func newDatabaseFailures(ask SummaryAPIs) *databaseFailures {
	return &databaseFailures{ask: ask, answers: map[client.ObjectKey]*databaseAnswer{}}
}

// latest returns why a pod cannot use its database, or "" if no failure is known. If the last answer is old or
// missing, latest asks the pod in the background. next is the time to wait before the next call.
func (d *databaseFailures) latest(ctx context.Context, sim client.ObjectKey, pod podhttp.Server) (failure string, next time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.answers[sim]
	if a == nil || a.pod != pod { // the answer of another pod may be outdated
		a = &databaseAnswer{pod: pod}
		d.answers[sim] = a
	}
	if !a.asking && time.Since(a.askedAt) >= databaseInterval {
		a.asking, a.askedAt = true, time.Now()
		go d.update(context.WithoutCancel(ctx), a)
	}
	if a.asking {
		return a.failure, databasePoll
	}
	return a.failure, databaseInterval
}

func (d *databaseFailures) update(ctx context.Context, a *databaseAnswer) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	failure := d.ask.DatabaseFailure(ctx, a.pod)
	d.mu.Lock()
	defer d.mu.Unlock()
	a.asking, a.failure = false, failure
}

func (d *databaseFailures) evict(sim client.ObjectKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.answers, sim)
}

// databaseFailure returns why a running pod of the summary API is not ready, or "" if this is unknown.
func (r *Reconciler) databaseFailure(ctx context.Context, s *scope) string {
	pods := slices.DeleteFunc(s.podsOf(resources.ComponentSummaries), func(p *corev1.Pod) bool {
		return !isRunning(p) || resources.IsReady(p) || p.Status.PodIP == ""
	})
	if len(pods) == 0 {
		return ""
	}
	pod := slices.MinFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	failure, next := r.databases.latest(ctx, s.key, s.serverIn(resources.ComponentSummaries, pod.Status.PodIP))
	s.wakeAfter(next)
	if failure == "" {
		return ""
	}
	return fmt.Sprintf("pod %s: %s", pod.Name, failure)
}
