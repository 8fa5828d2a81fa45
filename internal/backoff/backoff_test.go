package backoff_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parking-operator/parking-operator/internal/backoff"
)

func TestBackoffNext_DelayDoublesUpToTheMaximum(t *testing.T) {
	t.Parallel()
	b := backoff.Backoff{First: 10 * time.Millisecond, Last: 100 * time.Millisecond}
	for range 2 {
		for _, full := range []time.Duration{10, 20, 40, 80, 100, 100, 100} {
			full *= time.Millisecond
			if delay := b.Next(); delay < full/2 || delay > full {
				t.Errorf("delay is %v, want 50%% to 100%% of %v", delay, full)
			}
		}
		b.Reset()
	}
}

func TestBackoffWait_MinimumAboveTheDelay_WaitsForTheMinimum(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := backoff.Backoff{First: time.Millisecond, Last: time.Millisecond}
		start := time.Now()
		if err := b.Wait(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("waited %v; want a minute", waited)
		}
	})
}

func TestBackoffWait_ContextEnds_ReturnsTheErrorOfTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := backoff.Backoff{First: time.Hour, Last: time.Hour}
	if err := b.Wait(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %v; want the error of the context", err)
	}
}
