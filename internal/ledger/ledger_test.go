package ledger

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/store"
)

// drawModel draws a history in which most things go right and a few go wrong. Offsetting faults, such as
// two exits that swapped their intents, leave no trace in any ledger and are not drawn.
func drawModel(t *rapid.T) *model {
	m := &model{}
	faults := rapid.IntRange(0, 2).Draw(t, "faults")
	if faults == 0 && rapid.Bool().Draw(t, "skewed") {
		m.skewed.EntriesRecorded = rapid.Int64Range(-2, 2).Draw(t, "skewed entries")
	}
	for range rapid.IntRange(0, 4).Draw(t, "runs") {
		run := modelRun{
			id:  event.ID{Run: event.NewRun(), Partition: rapid.IntRange(0, 3).Draw(t, "partition")},
			typ: rapid.SampledFrom(event.Types()).Draw(t, "type"),
		}
		for range rapid.IntRange(0, 30).Draw(t, "events") {
			run.events = append(run.events, drawSoundEvent(t, run.typ))
		}
		run.watermark = rapid.IntRange(0, len(run.events)).Draw(t, "watermark")
		for seq := range run.events {
			e := &run.events[seq]
			if seq >= run.watermark && rapid.Bool().Draw(t, "never published") {
				e.taken, e.posted = 0, 0
			}
		}
		for ; faults > 0 && len(run.events) > 0; faults-- {
			breakEvent(t, run.typ, &run.events[rapid.IntRange(0, len(run.events)-1).Draw(t, "broken")])
		}
		m.runs = append(m.runs, run)
	}
	return m
}

func drawSoundEvent(t *rapid.T, typ event.Type) modelEvent {
	if typ == event.TypeEntry {
		return modelEvent{taken: 1}
	}
	if rapid.Bool().Draw(t, "matched") {
		return modelEvent{intent: event.IntentMatched, arrived: event.IntentMatched, taken: 1, met: true, posted: 1}
	}
	return modelEvent{intent: event.IntentUnmatched, arrived: event.IntentUnmatched, taken: 1}
}

func breakEvent(t *rapid.T, typ event.Type, e *modelEvent) {
	faults := []string{"lost", "twice", "dead letter"}
	if typ == event.TypeExit && e.arrived == event.IntentMatched {
		faults = append(faults, "unexpected", "not posted", "posted twice")
	}
	switch rapid.SampledFrom(faults).Draw(t, "fault") {
	case "lost":
		e.taken, e.posted = 0, 0
	case "twice":
		e.taken, e.posted = 2, 2*e.posted
	case "dead letter":
		e.taken, e.posted, e.deadLettered = 0, 0, true
	case "unexpected":
		e.met, e.posted = false, 0
	case "not posted":
		e.posted = 0
	case "posted twice":
		e.posted = 2 * e.taken
	}
}

func TestTheVerdictIsPassExactlyWhenEveryEventCountsOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		report, err := Audit(t.Context(), m, Options{AtRest: true})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m.lost(), report.LostEvents); diff != "" {
			t.Errorf("events named as lost (-want +got):\n%s", diff)
		}
		if report.Lost != int64(len(m.lost())) {
			t.Errorf("%d lost, want %d", report.Lost, len(m.lost()))
		}
		verdict := Judge(Input{Report: report})
		if passed := verdict.Outcome == Pass; passed != m.sound() {
			t.Errorf("verdict is %s %q of a history that is sound: %v\n%+v", verdict.Outcome, verdict.Reasons, m.sound(), report)
		}
		if (verdict.Outcome == Pass) != (len(verdict.Reasons) == 0) {
			t.Errorf("%s with reasons %q", verdict.Outcome, verdict.Reasons)
		}
	})
}

func TestARunningSimulationHasOutstandingEventsButNoLostOnes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		report, err := Audit(t.Context(), m, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if report.Lost != 0 || report.LostEvents != nil || report.Uncounted != 0 {
			t.Errorf("a report before rest says %d lost %q, %d uncounted", report.Lost, report.LostEvents, report.Uncounted)
		}
		if report.Outstanding != int64(len(m.lost())) {
			t.Errorf("%d outstanding, want %d", report.Outstanding, len(m.lost()))
		}
		if Judge(Input{Report: report}).Outcome != Fail {
			t.Error("a simulation that is not at rest passed")
		}
	})
}

// longRun is a run of sound entries over more than three chunks.
func longRun() *model {
	m := &model{runs: []modelRun{{
		id: event.ID{Run: "0000000000000", Partition: 1}, typ: event.TypeExit, watermark: 3*store.ChunkBits + 10,
	}}}
	sound := modelEvent{intent: event.IntentMatched, arrived: event.IntentMatched, taken: 1, met: true, posted: 1}
	for range 3*store.ChunkBits + 20 {
		m.runs[0].events = append(m.runs[0].events, sound)
	}
	return m
}

func TestALostEventAnywhereInALongRunIsNamed(t *testing.T) {
	t.Parallel()
	const c = store.ChunkBits
	for _, seq := range []int64{0, 7, 8, c - 1, c, 2*c + 12345, 3*c + 9} {
		m := longRun()
		m.runs[0].events[seq] = modelEvent{intent: event.IntentMatched}
		report, err := Audit(t.Context(), m, Options{AtRest: true})
		if err != nil {
			t.Fatal(err)
		}
		want := event.ID{Run: "0000000000000", Partition: 1, Seq: seq}.String()
		if diff := cmp.Diff([]string{want}, report.LostEvents); diff != "" {
			t.Errorf("lost events (-want +got):\n%s", diff)
		}
		if report.MissingMatched != 1 || report.Indeterminate != 10 {
			t.Errorf("missing %d, indeterminate %d; want 1 and 10", report.MissingMatched, report.Indeterminate)
		}
	}
}

func TestAReportNamesABoundedNumberOfLostEvents(t *testing.T) {
	t.Parallel()
	m := longRun()
	clear(m.runs[0].events)
	for _, tt := range []struct{ named, want int }{{0, DefaultNamed}, {3, 3}} {
		report, err := Audit(t.Context(), m, Options{AtRest: true, Named: tt.named})
		if err != nil {
			t.Fatal(err)
		}
		if len(report.LostEvents) != tt.want || report.Lost != 3*store.ChunkBits+10 {
			t.Errorf("%d named of %d lost, want %d of all", len(report.LostEvents), report.Lost, tt.want)
		}
	}
}

func TestBitsFarBeyondAWatermarkAreNotReadAsIndeterminate(t *testing.T) {
	t.Parallel()
	m := longRun()
	m.runs[0].watermark = 5
	report, err := Audit(t.Context(), m, Options{AtRest: true})
	if err != nil {
		t.Fatal(err)
	}
	if report.Indeterminate != store.MaxOutstanding {
		t.Errorf("%d indeterminate, want %d", report.Indeterminate, store.MaxOutstanding)
	}
}

func TestAnAuditorReadsCompleteChunksOnce(t *testing.T) {
	t.Parallel()
	m := longRun()
	m.runs[0].events[store.ChunkBits].taken = 0
	auditor := NewAuditor(m)
	audit := func(want ...int64) Report {
		t.Helper()
		m.reads = nil
		report, err := auditor.Audit(t.Context(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, m.reads); diff != "" {
			t.Errorf("chunks read (-want +got):\n%s", diff)
		}
		return report
	}
	audit(0, 1, 2, 3, 4)
	first := audit(1, 2, 3, 4)
	if first.Outstanding != 1 {
		t.Errorf("%d outstanding, want 1", first.Outstanding)
	}
	m.runs[0].events[store.ChunkBits].taken = 1
	audit(1, 2, 3, 4)
	cached := audit(3, 4)
	fresh, err := Audit(t.Context(), m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fresh, cached); diff != "" {
		t.Errorf("a cached audit differs from a fresh one (-fresh +cached):\n%s", diff)
	}
	m.runs[0].watermark = store.ChunkBits // the store came back without its latest effects
	audit(0, 1)
}

func TestAnAuditSaysWhatItCouldNotRead(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]string{
		"Counts": "read the counters", "Outbox": "count the summaries", "Runs": "list the runs", "Chunk": "partition 1: read chunk 0",
		"Dataset": "whether the store has lost data",
	} {
		m := longRun()
		m.failing = method
		if _, err := Audit(t.Context(), m, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s fails with %v, want %q", method, err, want)
		}
	}
}

func TestAnAuditSaysWhatTheStoreHasLost(t *testing.T) {
	t.Parallel()
	m := longRun()
	m.lostAt = time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	m.runs = append(m.runs, modelRun{id: event.ID{Run: "0000000000001"}}) // of no type, as it is forgotten
	report, err := Audit(t.Context(), m, Options{AtRest: true})
	if err != nil {
		t.Fatal(err)
	}
	if report.DataLostAt == nil || !report.DataLostAt.Equal(m.lostAt) || report.ForgottenRuns != 1 || report.Partitions != 4 {
		t.Errorf("lost at %v, %d runs forgotten of %d partitions", report.DataLostAt, report.ForgottenRuns, report.Partitions)
	}
	if report.Runs != 1 || report.Indeterminate != 10 {
		t.Errorf("%d runs with %d indeterminate events, want those of the run that is known", report.Runs, report.Indeterminate)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	ms := func(n int64) *time.Duration { d := time.Duration(n) * time.Millisecond; return &d }
	held := func(n int64) *int64 { return &n }
	rest, noon := Report{AtRest: true}, time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	with := func(change func(*Report)) Report { r := rest; change(&r); return r }
	tests := []struct {
		name string
		in   Input
		want []string // the beginnings of the reasons
	}{
		{"nothing at all passes", Input{Report: rest}, nil},
		{"a report that was not at rest fails", Input{Report: Report{Outstanding: 2}},
			[]string{"the simulation is not at rest: 0 messages wait in queues, 0 wait for another attempt, 0 are in processors, 2 confirmed events are without effect so far"}},
		{"a message in a queue fails", Input{Report: rest, Depths: broker.Depths{Ready: 1}}, []string{"the simulation is not at rest: 1 message waits in queues"}},
		{"a message in the retry queue fails", Input{Report: rest, Depths: broker.Depths{Retry: 1}}, []string{"the simulation is not at rest"}},
		{"a report of a running simulation says what is known of the moment",
			Input{Report: Report{Outstanding: 2, Matched: 9, SummariesStored: 5, Outbox: 3}, Running: true, InFlight: Unknown, Depths: broker.Depths{Ready: 1}},
			[]string{"the simulation is running, and nothing is proved before it is at rest; at this moment 1 message waits in queues, 0 wait for another attempt, 2 confirmed events are without effect so far"}},
		{"what nobody could tell is not said", Input{Report: Report{}, InFlight: Unknown, Depths: broker.Depths{Ready: Unknown, Retry: Unknown}},
			[]string{"the simulation is not at rest: 0 confirmed events are without effect so far"}},
		{"what nobody could tell does not disturb the rest", Input{Report: rest, InFlight: Unknown, Depths: broker.Depths{Ready: Unknown, Retry: Unknown}}, nil},
		{"an effect taken twice is a fact while it runs", Input{Report: Report{TakenTwice: 1}, Running: true},
			[]string{"the simulation is running", "1 effect was taken more than once"}},
		{"lost data are the reason, and what they leave is none",
			Input{Report: with(func(r *Report) {
				r.DataLostAt, r.TakenTwice, r.Uncounted, r.Lost, r.Matched, r.Outbox = &noon, 3, 4, 5, 6, 7
			})},
			[]string{"the store has lost data of the simulation, which was noticed at 2026-05-17T12:00:00Z: nobody can tell any more which events took effect"}},
		{"a run that is forgotten is lost data", Input{Report: with(func(r *Report) { r.ForgottenRuns = 1 })}, []string{"the store has lost data of the simulation: nobody"}},
		{"a message in a processor fails", Input{Report: rest, InFlight: 1}, []string{"the simulation is not at rest"}},
		{"lost events within the objective pass", Input{Report: with(func(r *Report) { r.Lost = 2; r.MissingEntries = 2 }), Objectives: plan.Objectives{MaxLost: 2}}, nil},
		{"lost events beyond the objective fail", Input{Report: with(func(r *Report) { r.Lost = 3; r.MissingEntries = 1; r.MissingMatched = 2 }), Objectives: plan.Objectives{MaxLost: 2}},
			[]string{"3 events were lost: confirmed by the broker, but never took effect (1 entry, 2 exits); at most 2 allowed"}},
		{"unexpected exits within the objective pass", Input{Report: with(func(r *Report) { r.UnmatchedUnexpected = 2 }), Objectives: plan.Objectives{MaxUnexpected: 2}}, nil},
		{"unexpected exits beyond the objective fail", Input{Report: with(func(r *Report) { r.UnmatchedUnexpected = 1 })}, []string{"1 exit found no visit"}},
		{"an effect taken twice fails", Input{Report: with(func(r *Report) { r.TakenTwice = 1 })}, []string{"1 effect was taken more than once"}},
		{"an effect that is not counted fails", Input{Report: with(func(r *Report) { r.Uncounted = 4 })}, []string{"4 events took effect without being counted"}},
		{"a changed intent fails", Input{Report: with(func(r *Report) { r.MissingMatched, r.MissingUnmatched = -1, 1 })}, []string{"1 exit was processed with another intent"}},
		{"a summary in the outbox fails", Input{Report: with(func(r *Report) { r.Matched, r.Outbox = 1, 1 })}, []string{"1 summary waits in the outbox"}},
		{"a summary too few fails", Input{Report: with(func(r *Report) { r.Matched = 2; r.SummariesStored = 1 })}, []string{"2 visits ended but 1 summary was made of them"}},
		{"strangers' summaries are counted", Input{Report: with(func(r *Report) { r.Matched, r.StrangerMatched, r.SummariesStored = 2, 1, 3 })}, nil},
		{"a summary that the API does not hold fails", Input{Report: with(func(r *Report) { r.Matched, r.SummariesStored = 2, 2 }), SummariesHeld: held(1)},
			[]string{"the summary API holds 1 summary of this simulation but accepted 2"}},
		{"a dead letter fails", Input{Report: with(func(r *Report) { r.DeadLettered = 1 })}, []string{"1 event was dead-lettered"}},
		{"the reasons of dead letters are named", Input{Report: with(func(r *Report) { r.DeadLettered = 3 }),
			DeadReasons: []broker.ReasonCount{{Reason: broker.Reason{Stage: "parse", Detail: "it is no JSON"}, Count: 2}, {Reason: broker.Reason{Stage: "post"}, Count: 1}}},
			[]string{"3 events were dead-lettered: 2 × parse: it is no JSON; 1 × post"}},
		{"a dead letter of the broker's own fails", Input{Report: rest, Depths: broker.Depths{Dead: 2}}, []string{"2 events were dead-lettered"}},
		{"latencies at their objectives pass", Input{Report: rest, ProcessingP99: ms(5), EndToEndP99: ms(1000),
			Objectives: plan.Objectives{ProcessingP99: plan.Duration(5 * time.Millisecond), EndToEndP99: plan.Duration(time.Second)}}, nil},
		{"latencies beyond their objectives fail", Input{Report: rest, ProcessingP99: ms(6), EndToEndP99: ms(1001),
			Objectives: plan.Objectives{ProcessingP99: plan.Duration(5 * time.Millisecond), EndToEndP99: plan.Duration(time.Second)}},
			[]string{"processing p99 is 6ms, beyond the objective of 5ms", "end-to-end p99 is 1.001s, beyond the objective of 1s"}},
		{"latencies that were not measured pass", Input{Report: rest, Objectives: plan.Objectives{ProcessingP99: 1, EndToEndP99: 1}}, nil},
		{"latencies without an objective pass", Input{Report: rest, ProcessingP99: ms(1e6), EndToEndP99: ms(1e6)}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := Judge(tt.in)
			if len(got.Reasons) != len(tt.want) || (got.Outcome == Pass) != (len(tt.want) == 0) {
				t.Fatalf("verdict is %s %q, want reasons %q", got.Outcome, got.Reasons, tt.want)
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(got.Reasons[i], want) {
					t.Errorf("reason %d is %q, want %q", i, got.Reasons[i], want)
				}
			}
		})
	}
}
