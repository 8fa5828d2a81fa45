package ledger

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/store"
)

// drawModel draws a history with at most two errors, which never hide each other. It omits errors that no ledger can
// show, such as two exits that swap their intents.
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

func TestEvaluate_RandomHistory_PassesOnlyWithoutErrors(t *testing.T) {
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
		verdict := Evaluate(Evidence{Report: report})
		if passed := verdict.Outcome == Pass; passed != m.sound() {
			t.Errorf("verdict is %s %q, the history is sound: %v\n%+v", verdict.Outcome, verdict.Reasons, m.sound(), report)
		}
		if (verdict.Outcome == Pass) != (len(verdict.Reasons) == 0) {
			t.Errorf("the verdict is %s with reasons %q", verdict.Outcome, verdict.Reasons)
		}
	})
}

func TestAudit_NotAtRest_CountsMissingEventsAsOutstanding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := drawModel(t)
		report, err := Audit(t.Context(), m, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if report.Lost != 0 || report.LostEvents != nil || report.Uncounted != 0 {
			t.Errorf("a report that is not at rest has %d lost events %q and %d uncounted events, want none", report.Lost, report.LostEvents, report.Uncounted)
		}
		if report.Outstanding != int64(len(m.lost())) {
			t.Errorf("%d outstanding, want %d", report.Outstanding, len(m.lost()))
		}
		if Evaluate(Evidence{Report: report}).Outcome != Fail {
			t.Error("a simulation that is not at rest passed")
		}
	})
}

// longRun returns the history of a generator process with many exits: they fill more than three chunks of
// store.ChunkBits events. Each exit took effect once.
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

func TestAudit_LostEventInALongRun_IsNamed(t *testing.T) {
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

func TestAudit_ManyLostEvents_NumberOfNamedEventsIsLimited(t *testing.T) {
	t.Parallel()
	m := longRun()
	clear(m.runs[0].events)
	for _, tt := range []struct{ named, want int }{{0, DefaultNamed}, {3, 3}} {
		report, err := Audit(t.Context(), m, Options{AtRest: true, Named: tt.named})
		if err != nil {
			t.Fatal(err)
		}
		if len(report.LostEvents) != tt.want || report.Lost != 3*store.ChunkBits+10 {
			t.Errorf("%d named of %d lost, want %d named", len(report.LostEvents), report.Lost, tt.want)
		}
	}
}

func TestAudit_ManyEventsBeyondTheWatermark_IndeterminateEqualsMaxOutstanding(t *testing.T) {
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

func TestAuditor_RepeatedAudit_SkipsLeadingChunksInWhichEveryEventTookEffect(t *testing.T) {
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
	// Lower the watermark, as if the store had restarted and lost its latest changes.
	m.runs[0].watermark = store.ChunkBits
	audit(0, 1)
}

func TestAudit_ReadFails_ErrorNamesTheUnreadablePart(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]string{
		"Counts": "read the counters", "Outbox": "count the summaries", "Runs": "list the generator processes",
		"Chunk": "partition 1: read chunk 0 of the bitmaps", "Dataset": "whether the store has lost data",
	} {
		m := longRun()
		m.failing = method
		if _, err := Audit(t.Context(), m, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s fails with %v, want %q", method, err, want)
		}
	}
}

func TestAudit_StoreHasLostData_ReportContainsTheLoss(t *testing.T) {
	t.Parallel()
	m := longRun()
	m.lostAt = time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	m.runs = append(m.runs, modelRun{id: event.ID{Run: "0000000000001"}}) // this run has no type, because its record is missing
	report, err := Audit(t.Context(), m, Options{AtRest: true})
	if err != nil {
		t.Fatal(err)
	}
	if report.DataLostAt == nil || !report.DataLostAt.Equal(m.lostAt) || report.ForgottenRuns != 1 || report.Partitions != 4 {
		t.Errorf("data lost at %v, %d runs forgotten, %d partitions", report.DataLostAt, report.ForgottenRuns, report.Partitions)
	}
	if report.Runs != 1 || report.Indeterminate != 10 {
		t.Errorf("%d runs with %d indeterminate events, want those of the remaining run", report.Runs, report.Indeterminate)
	}
}

// latencyOf returns a histogram that contains the same duration n times.
func latencyOf(n int, d time.Duration) histogram.Snapshot {
	var h histogram.Histogram
	for range n {
		h.Observe(d)
	}
	return h.Snapshot()
}

func TestEvaluate_ViolatedConditions_AreTheReasonsToFail(t *testing.T) {
	t.Parallel()
	rest, noon := Report{AtRest: true}, time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	with := func(change func(*Report)) Report { r := rest; change(&r); return r }
	objectives := plan.Objectives{PhaseObjectives: plan.PhaseObjectives{ProcessingP99: plan.Duration(5 * time.Millisecond), EndToEndP99: plan.Duration(time.Second)}}
	tests := []struct {
		name string
		in   Evidence
		want []string // the prefix of each expected reason
	}{
		{"an empty report at rest passes", Evidence{Report: rest}, nil},
		{"a report that is not at rest fails", Evidence{Report: Report{Outstanding: 2}},
			[]string{"the simulation is not at rest: 0 messages wait in queues, 0 wait for another attempt, 0 are in processors, 2 confirmed events have not taken effect"}},
		{"a message in a queue fails", Evidence{Report: rest, Depths: broker.Depths{Ready: 1}}, []string{"the simulation is not at rest: 1 message waits in queues"}},
		{"a message in the retry queue fails", Evidence{Report: rest, Depths: broker.Depths{Retry: 1}}, []string{"the simulation is not at rest"}},
		{"a message in a processor fails", Evidence{Report: rest, InFlight: 1}, []string{"the simulation is not at rest"}},
		{"a running simulation fails, and the reason contains the known counts",
			Evidence{Report: Report{Outstanding: 2, Matched: 9, SummariesStored: 5, Outbox: 3}, Running: true, InFlight: Unknown, Depths: broker.Depths{Ready: 1}},
			[]string{"the simulation is still running, so nothing is proved yet: 1 message waits in queues, 0 wait for another attempt, 2 confirmed events have not taken effect"}},
		{"unknown counts are omitted from the reason", Evidence{Report: Report{}, InFlight: Unknown, Depths: broker.Depths{Ready: Unknown, Retry: Unknown}},
			[]string{"the simulation is not at rest: 0 confirmed events have not taken effect"}},
		{"a simulation at rest with unknown counts passes", Evidence{Report: rest, InFlight: Unknown, Depths: broker.Depths{Ready: Unknown, Retry: Unknown}}, nil},
		{"an event that took effect twice fails while running", Evidence{Report: Report{TakenTwice: 1}, Running: true},
			[]string{"the simulation is still running", "1 event took effect more than once"}},
		{"lost data is the only reason",
			Evidence{Failures: []error{errors.New("the processor stopped")}, Report: with(func(r *Report) {
				r.DataLostAt, r.TakenTwice, r.Uncounted, r.Lost, r.Matched, r.Outbox = &noon, 3, 4, 5, 6, 7
			})},
			[]string{"the store has lost data of the simulation, noticed at 2026-05-17T12:00:00Z: it is unknown which events took effect"}},
		{"a forgotten run counts as lost data", Evidence{Report: with(func(r *Report) { r.ForgottenRuns = 1 })}, []string{"the store has lost data of the simulation: it is"}},
		{"a ledger that cannot be read fails", Evidence{ReportErr: errors.New("no route\nto Redis"), Failures: []error{nil, errors.New("the processor stopped")}},
			[]string{"the ledger cannot be read, so it is unknown whether events were lost: no route; to Redis", "the processor stopped"}},
		{"a failure of a generator fails", Evidence{Report: rest, Failures: []error{errors.New("the entry generator: no route")}}, []string{"the entry generator: no route"}},
		{"lost events within the objective pass", Evidence{Report: with(func(r *Report) { r.Lost = 2; r.MissingEntries = 2 }), Objectives: plan.Objectives{MaxLost: 2}}, nil},
		{"lost events beyond the objective fail", Evidence{Report: with(func(r *Report) { r.Lost = 3; r.MissingEntries = 1; r.MissingMatched = 2 }), Objectives: plan.Objectives{MaxLost: 2}},
			[]string{"3 events were lost: confirmed by the broker, but never took effect (1 entry, 2 exits); at most 2 allowed"}},
		{"unexpected exits within the objective pass", Evidence{Report: with(func(r *Report) { r.UnmatchedUnexpected = 2 }), Objectives: plan.Objectives{MaxUnexpected: 2}}, nil},
		{"unexpected exits beyond the objective fail", Evidence{Report: with(func(r *Report) { r.UnmatchedUnexpected = 1 })}, []string{"1 exit found no visit"}},
		{"an event that took effect twice fails", Evidence{Report: with(func(r *Report) { r.TakenTwice = 1 })}, []string{"1 event took effect more than once"}},
		{"an effect that is not counted fails", Evidence{Report: with(func(r *Report) { r.Uncounted = 4 })}, []string{"4 events took effect without being counted"}},
		{"a changed intent fails", Evidence{Report: with(func(r *Report) { r.MissingMatched, r.MissingUnmatched = -1, 1 })}, []string{"1 exit was processed with an intent (matched or unmatched) other than"}},
		{"a summary in the outbox fails", Evidence{Report: with(func(r *Report) { r.Matched, r.Outbox = 1, 1 })}, []string{"1 summary waits in the outbox"}},
		{"a missing summary fails", Evidence{Report: with(func(r *Report) { r.Matched = 2; r.SummariesStored = 1 })}, []string{"2 visits ended, but 1 summary was created"}},
		{"summaries of external publishers are counted", Evidence{Report: with(func(r *Report) { r.Matched, r.ExternalMatched, r.SummariesStored = 2, 1, 3 })}, nil},
		{"a summary that the API does not hold fails", Evidence{Report: with(func(r *Report) { r.Matched, r.SummariesStored = 2, 2 }), Summaries: &SummaryCount{Held: 1}},
			[]string{"the summary API holds 1 summary of this simulation but accepted 2"}},
		{"a summary API that does not answer fails", Evidence{Report: rest, Summaries: &SummaryCount{Err: errors.New("no route")}},
			[]string{"it is unknown whether the summary API holds every summary: no route"}},
		{"a dead letter fails", Evidence{Report: with(func(r *Report) { r.DeadLettered = 1 })}, []string{"1 event was dead-lettered; the headers"}},
		{"the reasons of dead letters are named", Evidence{Report: with(func(r *Report) { r.DeadLettered = 4 }),
			DeadReasons: []broker.ReasonCount{{Reason: broker.Reason{Stage: "parse", Detail: "it is no JSON"}, Count: 2}, {Reason: broker.Reason{Stage: "post"}, Count: 1}}},
			[]string{"4 events were dead-lettered: 2 × parse: it is no JSON; 1 × post; others"}},
		{"a message that the broker itself dead-lettered fails", Evidence{Report: rest, Depths: broker.Depths{Dead: 2}}, []string{"2 events were dead-lettered"}},
		{"latencies below their objectives pass", Evidence{Report: rest, Objectives: objectives,
			Latencies: &Latencies{Processing: latencyOf(100, 4500*time.Microsecond), EndToEnd: latencyOf(100, 900*time.Millisecond)}}, nil},
		{"latencies beyond their objectives fail", Evidence{Report: rest, Objectives: objectives,
			Latencies: &Latencies{Processing: latencyOf(100, 6*time.Millisecond), EndToEnd: latencyOf(100, 1100*time.Millisecond)}},
			[]string{"processing p99 is 6.02 ms", "end-to-end p99 is 1.19 s"}},
		{"latencies without an objective pass", Evidence{Report: rest, Latencies: &Latencies{Processing: latencyOf(1, time.Hour), EndToEnd: latencyOf(1, time.Hour)}}, nil},
		{"objectives for latencies that were not measured fail", Evidence{Report: rest, Objectives: objectives, Latencies: &Latencies{}},
			[]string{
				"processing p99 is unknown, so the objective of 5 ms counts as not met: no event was measured",
				"end-to-end p99 is unknown, so the objective of 1 s counts as not met: no event was measured",
			}},
		{"an objective with too few measurements fails", Evidence{Report: rest, Objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: objectives.EndToEndP99}},
			Latencies: &Latencies{EndToEnd: latencyOf(100, time.Millisecond), Unmeasured: 5, Err: errors.New("a pod ended")}},
			[]string{"end-to-end p99 is unknown, so the objective of 1 s counts as not met: only 100 of 105 events were measured: a pod ended"}},
		{"an objective passes if the unmeasured events are too few to change the p99", Evidence{Report: rest, Objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: objectives.EndToEndP99}},
			Latencies: &Latencies{EndToEnd: latencyOf(1000, time.Millisecond), Unmeasured: 5}}, nil},
		{"objectives for latencies are ignored if the timeline was not read", Evidence{Report: rest, Objectives: objectives}, nil},
		{"a schedule without due events passes", Evidence{Report: rest, Entries: &Schedule{}, Exits: &Schedule{}}, nil},
		{"a schedule with few missed events passes", Evidence{Report: rest, Entries: &Schedule{Due: 100, Missed: 10}}, nil},
		{"a schedule that was not kept fails", Evidence{Report: rest, Entries: &Schedule{Due: 100, Missed: 100}, Exits: &Schedule{Due: 1000, Missed: 123}},
			[]string{
				"the schedule of the entries was not kept: 100 of 100 due events were missed (100 %)",
				"the schedule of the exits was not kept: 123 of 1,000 due events were missed (12.3 %)",
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := Evaluate(tt.in)
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

func TestEvaluate_LostData_NamesTheRemedyOfEachCause(t *testing.T) {
	t.Parallel()
	reasons := Messages(Evaluate(Evidence{Report: Report{ForgottenRuns: 1}}).Checks)
	for _, want := range []string{"appendonly yes", "maxmemory-policy noeviction", "failed over", "min-replicas-to-write 1"} {
		if !strings.Contains(strings.Join(reasons, "\n"), want) {
			t.Errorf("the reasons are %q, want %q", reasons, want)
		}
	}
}

func TestCertainFailures_FailedCheckCanStillPass_IsNotIncluded(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		in   Evidence
		want []string // the prefix of each expected reason
	}{
		"an objective before the end": {Evidence{Objectives: plan.Objectives{PhaseObjectives: plan.PhaseObjectives{EndToEndP99: 1}}, Report: Report{Outstanding: 3, Outbox: 1, Matched: 2}}, nil},
		"a dead letter":               {Evidence{Report: Report{DeadLettered: 1}}, []string{"1 event was dead-lettered"}},
		"lost data":                   {Evidence{Report: Report{DataLostAt: &noon, TakenTwice: 1}}, []string{"the store has lost data"}},
	} {
		got := Messages(CertainFailures(tt.in))
		if len(got) != len(tt.want) || len(got) == 1 && !strings.HasPrefix(got[0], tt.want[0]) {
			t.Errorf("%s: the reasons are %q, want %q", name, got, tt.want)
		}
	}
}
