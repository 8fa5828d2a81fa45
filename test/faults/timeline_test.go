package faults

import (
	"context"
	"errors"
	"testing"
	"time"
)

// measuredEvents is the number of events after which the test checks the timeline. Events in the last second of a
// killed processor are not measured. They must be less than one percent of all events.
const measuredEvents = 100_000

func TestTimeline_KilledProcesses_AlmostAllEventsAreMeasured(t *testing.T) {
	s := startSimulation(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	s.awaitEffects(ctx, t, measuredEvents/4)
	for _, kill := range []fault{
		{"a processor", func(ctx context.Context) error { return s.killOne(ctx, s.stack.Processors) }},
		{"an entry generator", func(ctx context.Context) error { return s.killOne(ctx, s.stack.Entries) }},
		{"the exit generator", func(ctx context.Context) error { return s.killOne(ctx, s.stack.Exits) }},
		{"Redis", func(ctx context.Context) error {
			return errors.Join(s.redis.Kill(), s.pause(ctx), s.redis.Start(ctx))
		}},
	} {
		if err := errors.Join(kill.inject(ctx), s.pause(ctx)); err != nil {
			t.Fatalf("kill -9 %s: %v", kill.name, err)
		}
	}
	s.awaitEffects(ctx, t, measuredEvents)

	report := s.auditAtRest(t)
	effects := report.effects()
	l := report.LatencySeconds
	t.Logf("%d of %d events were not measured", l.Unmeasured, effects)
	if l.EndToEnd == nil || l.Processing == nil || l.EndToEnd.P99 < l.EndToEnd.P50 || l.EndToEnd.P50 <= 0 || l.Processing.P50 <= 0 {
		t.Errorf("the latencies are %+v, want percentiles", l)
	}
	if l.Unmeasured > effects/100 {
		t.Errorf("%d of %d events were not measured, want at most one in a hundred", l.Unmeasured, effects)
	}
}

// awaitEffects waits until n events have taken effect.
func (s *simulation) awaitEffects(ctx context.Context, t *testing.T, n int64) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for {
		if report := s.audit(t); report.effects() >= n {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("less than %d events took effect: %v", n, ctx.Err())
		}
	}
}

// effects returns the number of generated events that have taken effect.
func (r *auditReport) effects() int64 {
	l := r.Ledger
	return l.EntriesRecorded + l.Matched + l.UnmatchedExpected + l.UnmatchedUnexpected
}
