package processor

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
)

// series returns the values of a metric by label values, which are ordered by label name. The value of a histogram is
// its number of observations.
func series(t *testing.T, reg prometheus.Gatherer, name string) map[string]uint64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]uint64)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := ""
			for _, l := range m.GetLabel() {
				labels += "/" + l.GetValue()
			}
			values[labels] = valueOf(m)
		}
	}
	return values
}

func valueOf(m *dto.Metric) uint64 {
	switch {
	case m.Histogram != nil:
		return m.GetHistogram().GetSampleCount()
	case m.Gauge != nil:
		return uint64(m.GetGauge().GetValue())
	}
	return uint64(m.GetCounter().GetValue())
}

func TestNewMetrics_CreatesEverySeries(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, nil, nil)
	outcomes := map[string]uint64{
		"/entry/recorded": 0, "/entry/duplicate": 0, "/entry/failed": 0,
		"/exit/matched": 0, "/exit/unmatched_expected": 0, "/exit/unmatched_unexpected": 0, "/exit/entry_not_found": 0,
		"/exit/early": 0, "/exit/duplicate": 0, "/exit/failed": 0,
	}
	failures := make(map[string]uint64)
	for _, t := range []string{"entry", "exit"} {
		for _, stage := range []string{"parse", "store", "summarize", "post", "settle", "panic"} {
			failures["/"+t+"/"+stage] = 0
		}
	}
	for name, want := range map[string]map[string]uint64{
		"parking_events_processed_total":   outcomes,
		"parking_event_processing_seconds": outcomes,
		"parking_event_errors_total":       failures,
		"parking_event_end_to_end_seconds": {"/entry": 0, "/exit": 0},
		"parking_processor_in_flight":      {"": 0},
	} {
		if diff := cmp.Diff(want, series(t, r.registry, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestProcessorMetrics_CountEachCallOnce(t *testing.T) {
	t.Parallel()
	answers := []struct {
		outcome Outcome
		err     error
	}{
		{outcome: OutcomeMatched},
		{outcome: OutcomeUnmatchedExpected},
		{outcome: OutcomeUnmatchedUnexpected},
		{outcome: OutcomeEntryNotFound},
		{outcome: OutcomeEarly},
		{outcome: OutcomeDuplicate},
		{err: Transient(StagePost, "", errDown)},
		{err: Permanent(StageSummarize, "", errDown)},
		{err: errDown},
	}
	next := 0
	r := newRig(t, 1, nil, handlerFunc(func(context.Context, broker.Message) (Completion, error) {
		a := answers[next]
		next++
		return Completion{Outcome: a.outcome}, a.err
	}))
	exits := r.pipelines[event.TypeExit]
	for range answers {
		exits.call(t.Context(), &broker.Message{})
	}

	outcomes := map[string]uint64{
		"/entry/recorded": 0, "/entry/duplicate": 0, "/entry/failed": 0,
		"/exit/matched": 1, "/exit/unmatched_expected": 1, "/exit/unmatched_unexpected": 1, "/exit/entry_not_found": 1,
		"/exit/early": 1, "/exit/duplicate": 1, "/exit/failed": 3,
	}
	for _, name := range []string{"parking_events_processed_total", "parking_event_processing_seconds"} {
		if diff := cmp.Diff(outcomes, series(t, r.registry, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	failures := series(t, r.registry, "parking_event_errors_total")
	for stage, want := range map[string]uint64{"post": 1, "summarize": 1, "store": 1, "parse": 0} {
		if got := failures["/exit/"+stage]; got != want {
			t.Errorf("%d failures of stage %s, want %d", got, stage, want)
		}
	}

	stats := r.Stats()
	if got, want := stats.Processed(), uint64(len(answers)); got != want {
		t.Errorf("%d calls processed, want %d", got, want)
	}
	for _, o := range Outcomes(event.TypeExit) {
		if got, want := stats.Exit.Outcomes[o], outcomes["/exit/"+o.String()]; got != want {
			t.Errorf("stats count %v %d times, want %d", o, got, want)
		}
	}
}

func TestRecordEffect_DueTimeIsUnknownOrInTheFuture_LatencyIsOmittedOrZero(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, answer(OutcomeRecorded, nil), nil)
	m := r.pipelines[event.TypeEntry].metrics
	now := time.Now()
	m.recordEffect(now, time.Time{})
	m.recordEffect(now, now.Add(time.Hour)) // due in the future, because the clock was set back after the publication
	if got := r.Stats().EndToEnd().Count(); got != 0 {
		t.Errorf("%d observations of events whose latency is unknown", got)
	}
	m.recordEffect(now, now.Add(time.Millisecond)) // the clock of the generator is 1 ms ahead
	if got := r.Stats().EndToEnd(); got.Count() != 1 || got.Mean() != 0 {
		t.Errorf("%d observations of %v of an event that is due in the future, want 1 of 0", got.Count(), got.Mean())
	}
	if effects := r.Stats().Entry.Effects; effects != 3 {
		t.Errorf("%d effects, want 3", effects)
	}
}

func TestInFlight_CountsDeliveriesThatAreProcessedOrWaitForAWorker(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	r := newRig(t, 3, handlerFunc(func(context.Context, broker.Message) (Completion, error) {
		entered <- struct{}{}
		<-leave
		return Completion{Outcome: OutcomeRecorded}, nil
	}), nil)
	r.start(t)
	for i := range 5 {
		r.queues.deliver(entryQueue, fmt.Sprint(i))
	}
	for range 3 {
		<-entered
	}
	if got := series(t, r.registry, "parking_processor_in_flight")[""]; got != 5 {
		t.Errorf("%d in flight, want 3 that workers hold and 2 that wait for a worker", got)
	}
	close(leave)
	<-entered
	<-entered
	if err := r.finish(); err != nil {
		t.Fatal(err)
	}
	if got := series(t, r.registry, "parking_processor_in_flight")[""]; got != 0 {
		t.Errorf("%d in flight at the end, want 0", got)
	}
}
