package controllers

import (
	"context"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/podhttp"
	"github.com/parking-operator/parking-operator/internal/polltest"
)

// answers is a fake of SummaryAPIs. failures contains the database failure that each pod reports, by IP address.
type answers struct {
	observer.SummaryCounter // nil, because the test does not call its methods

	failures map[string]string
}

func (a answers) DatabaseFailure(_ context.Context, pod podhttp.Server) string {
	return a.failures[pod.IP]
}

func TestDatabaseFailures_PodReplaced_DoesNotReturnTheFailureOfTheOldPod(t *testing.T) {
	t.Parallel()
	d := newDatabaseFailures(answers{failures: map[string]string{"10.0.0.1": "the disk is full"}})
	key := client.ObjectKey{Namespace: "lot", Name: "sim"}
	polltest.Until(t, "the failure of the first pod is known", func() bool {
		failure, _ := d.latest(t.Context(), key, podhttp.Server{IP: "10.0.0.1"})
		return failure == "the disk is full"
	})
	if failure, next := d.latest(t.Context(), key, podhttp.Server{IP: "10.0.0.2"}); failure != "" || next != databasePoll {
		t.Errorf("the failure of another pod is %q, and the next call is in %s", failure, next)
	}
}
