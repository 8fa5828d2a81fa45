package faults

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/stack"
)

// measuredEvents is the number of events after which the test ends.
const measuredEvents = 15_000

func TestTimeline_KilledProcesses_AlmostAllEventsAreMeasured(t *testing.T) {
	s := startSimulation(t)
	ctx := t.Context()
	s.awaitEffects(t, measuredEvents/4)
	s.killMeasuredProcessor(t)
	for _, kill := range []struct {
		name   string
		inject func() error
	}{
		{"an entry generator", func() error { return s.killOne(ctx, s.stack.Entries) }},
		{"the exit generator", func() error { return s.killOne(ctx, s.stack.Exits) }},
		{"Redis", func() error { return errors.Join(s.redis.Kill(), s.pause(ctx), s.redis.Start(ctx)) }},
	} {
		if err := errors.Join(kill.inject(), s.pause(ctx)); err != nil {
			t.Fatalf("kill -9 %s: %v", kill.name, err)
		}
	}
	s.awaitEffects(t, measuredEvents)

	report := s.auditAtRest(t)
	// Wait until the processors have sent their latest measurements.
	polltest.UntilState(t, "at most one in a hundred events is unmeasured", func() bool {
		if report.LatencySeconds.Unmeasured <= report.effects()/100 {
			return true
		}
		report = s.audit(t)
		return false
	}, func() any { return report.text })
	l := report.LatencySeconds
	t.Logf("%d of %d events were not measured", l.Unmeasured, report.effects())
	if l.EndToEnd == nil || l.Processing == nil || l.EndToEnd.P99 < l.EndToEnd.P50 || l.EndToEnd.P50 <= 0 || l.Processing.P50 <= 0 {
		t.Errorf("the latencies are %+v, want percentiles", l)
	}
}

// killMeasuredProcessor kills a processor when few events are unmeasured, because the processor loses its measurements
// of the last second.
func (s *simulation) killMeasuredProcessor(t *testing.T) {
	t.Helper()
	victim := s.stack.Processors[0]
	polltest.UntilNoError(t, "few events are unmeasured", func() error {
		if err := s.pause(t.Context()); err != nil {
			return err
		}
		if err := signal(syscall.SIGSTOP, s.stack.Processors); err != nil {
			return err
		}
		unmeasured := s.audit(t).LatencySeconds.Unmeasured
		// At the end of the test, at most 1% of the events may be unmeasured. Permit only 0.5% here, because more kills
		// follow.
		if unmeasured > measuredEvents/200 {
			return errors.Join(fmt.Errorf("%d events are unmeasured", unmeasured), signal(syscall.SIGCONT, s.stack.Processors))
		}
		t.Logf("kill -9 a processor while %d events are unmeasured", unmeasured)
		return errors.Join(victim.Kill(), signal(syscall.SIGCONT, s.stack.Processors[1:]))
	})
	if err := errors.Join(s.pause(t.Context()), victim.Start()); err != nil {
		t.Fatal(err)
	}
}

func signal(sig syscall.Signal, to []*stack.Process) error {
	for _, p := range to {
		if err := syscall.Kill(p.Pid(), sig); err != nil {
			return fmt.Errorf("signal %s: %w", p.Name, err)
		}
	}
	return nil
}

// awaitEffects waits until n events have taken effect. It fails the test if the number of these events does not grow
// for a long time.
func (s *simulation) awaitEffects(t *testing.T, n int64) {
	t.Helper()
	most, progress := int64(0), time.Now()
	for {
		report := s.audit(t)
		switch effects := report.effects(); {
		case effects >= n:
			return
		case effects > most:
			most, progress = effects, time.Now()
		case time.Since(progress) > patience:
			t.Fatalf("no more than %d events, of %d, have taken effect for %s", most, n, patience)
		}
		time.Sleep(5 * time.Second)
	}
}

// effects returns the number of generated events that have taken effect.
func (r *auditReport) effects() int64 {
	l := r.Ledger
	return l.EntriesRecorded + l.Matched + l.UnmatchedExpected + l.UnmatchedUnexpected
}
