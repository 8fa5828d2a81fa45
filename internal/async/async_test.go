package async_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
)

func TestNotify_SeveralSignalsBeforeAReceive_CountAsOne(t *testing.T) {
	t.Parallel()
	c := make(chan struct{}, 1)
	async.Notify(c)
	async.Notify(c)
	<-c
	select {
	case <-c:
		t.Error("a second signal was received")
	default:
	}
}

func TestOutlive_ParentEnds_EndsAfterTheDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		ctx, end := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		outliving, cancel := async.Outlive(ctx, time.Minute)
		defer cancel()
		if outliving.Value(key{}) != "value" {
			t.Error("the values of the context are missing")
		}
		time.Sleep(time.Hour)
		end()
		ended := time.Now()
		<-outliving.Done()
		if took := time.Since(ended); took != time.Minute {
			t.Errorf("the context ended after %s, want 1m", took)
		}
	})
}

func TestOutlive_CancelIsCalled_ContextEndsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		outliving, cancel := async.Outlive(t.Context(), time.Minute)
		cancel()
		if outliving.Err() == nil {
			t.Error("the context has not ended")
		}
	})
}

func TestEvery_CallsAtOnceThenAtEachInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		calls := 0
		async.Every(ctx, time.Second, func() { calls++ })
		if calls != 4 {
			t.Errorf("%d calls in 3.5 s, want 4", calls)
		}
	})
}
