package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/logtest"
	"github.com/parking-operator/parking-operator/internal/store"
)

const (
	plate   = "B-XY 1234"
	run     = "0123456789abc"
	maxStay = time.Hour
)

var (
	entryAt = time.Date(2026, 5, 1, 8, 0, 0, 123456789, time.UTC)
	exitAt  = entryAt.Add(90 * time.Minute)
	mark    = store.Mark{Epoch: "epoch"}
)

// stepStore is a fake store that returns a fixed result for each call and records the calls.
type stepStore struct {
	result store.Result
	err    error
	// markErr and settleErr are the errors that Mark and SettleSummary return.
	markErr, settleErr error
	// settledBefore makes SettleSummary report that the summary was already settled.
	settledBefore bool

	entries []store.EntryStep
	exits   []store.ExitStep
	settled []string
}

func (s *stepStore) Mark(context.Context, int) (store.Mark, error) { return mark, s.markErr }

func (s *stepStore) RecordEntry(_ context.Context, step store.EntryStep) (store.Result, error) {
	s.entries = append(s.entries, step)
	return s.result, s.err
}

func (s *stepStore) RecordExit(_ context.Context, step store.ExitStep) (store.ExitResult, error) {
	s.exits = append(s.exits, step)
	result := store.ExitResult{Result: s.result}
	if s.result == store.ResultMatched || s.result == store.ResultPending {
		result.Summary = event.Summary{ID: step.Origin.ID, Plate: step.Plate, EntryAt: entryAt, ExitAt: step.At}
	}
	return result, s.err
}

func (s *stepStore) SettleSummary(_ context.Context, partition int, id string) (store.Result, error) {
	s.settled = append(s.settled, fmt.Sprintf("%d/%s", partition, id))
	if s.settledBefore {
		return store.ResultDuplicate, s.settleErr
	}
	return store.ResultSettled, s.settleErr
}

// posted is a fake summary API. It records the posted summaries and returns err.
type posted struct {
	summaries []event.Summary
	err       error
}

func (p *posted) Post(_ context.Context, s event.Summary) error {
	p.summaries = append(p.summaries, s)
	return p.err
}

// verdict is an error of the summary API. If it is true, the API rejects the summary permanently.
type verdict bool

func (v verdict) Error() string   { return fmt.Sprintf("rejected, permanently: %t", bool(v)) }
func (v verdict) Permanent() bool { return bool(v) }

func entryMessage(id string) broker.Message {
	return broker.Message{ID: id, Type: event.TypeEntry, AppID: event.AppID, ContentType: event.ContentType,
		Body: event.AppendEntry(nil, event.Entry{ID: id, Plate: plate, At: entryAt})}
}

func exitMessage(id string, intent event.Intent) broker.Message {
	return broker.Message{ID: id, Type: event.TypeExit, AppID: event.AppID, ContentType: event.ContentType, Intent: intent,
		Body: event.AppendExit(nil, event.Exit{ID: id, Plate: plate, At: exitAt})}
}

// generated returns the identifier of a generated event that has the plate of these tests, in a simulation with
// four partitions.
func generated() event.ID {
	return event.ID{Run: run, Partition: event.PartitionOf(plate, 4), Seq: 42}
}

func TestEntryEventProcessor_RecordsEntries(t *testing.T) {
	t.Parallel()
	id := generated()
	tests := []struct {
		name    string
		store   stepStore
		want    Outcome
		failure string // the stage at which a failure is expected, or empty
	}{
		{name: "a new entry is recorded", store: stepStore{result: store.ResultRecorded}, want: OutcomeRecorded},
		{name: "a recorded entry is a duplicate", store: stepStore{result: store.ResultDuplicate}, want: OutcomeDuplicate},
		{name: "a store that is down is a transient failure", store: stepStore{err: store.ErrUnavailable}, failure: "store"},
		{name: "a store that returns no mark is a transient failure", store: stepStore{markErr: store.ErrUnavailable}, failure: "store"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := NewEntryEventProcessor(&tt.store, 4, maxStay, discard())
			done, err := p.ProcessMessage(t.Context(), entryMessage(id.String()))
			if tt.failure != "" {
				expectFailure(t, err, Stage(tt.failure), false, id.String())
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := (Completion{Outcome: tt.want, Partition: id.Partition, Mark: mark}); done != want {
				t.Errorf("completion %+v, want %+v", done, want)
			}
			want := []store.EntryStep{{
				Origin:    store.Origin{ID: id.String(), Run: run, Partition: id.Partition, Seq: 42},
				Partition: id.Partition, Plate: plate, At: entryAt, MaxStay: maxStay,
			}}
			if diff := cmp.Diff(want, tt.store.entries); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSetMaxStay_AppliesToLaterEntries(t *testing.T) {
	t.Parallel()
	s := &stepStore{result: store.ResultRecorded}
	p := NewEntryEventProcessor(s, 1, maxStay, discard())
	p.SetMaxStay(time.Minute)
	if _, err := p.ProcessMessage(t.Context(), entryMessage("id")); err != nil {
		t.Fatal(err)
	}
	if got := s.entries[0].MaxStay; got != time.Minute {
		t.Errorf("the visit expires after %v, want a minute", got)
	}
}

func TestExitEventProcessor_SummaryAPIIsDown_LogsOneOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, api := new(logtest.Buffer), &posted{err: verdict(false)}
		p := NewExitEventProcessor(&stepStore{result: store.ResultPending}, api, 4, log.Logger())
		process := func() { _, _ = p.ProcessMessage(t.Context(), exitMessage(generated().String(), event.IntentMatched)) }
		for range 40 {
			process()
			time.Sleep(time.Second)
		}
		api.err = nil
		process()
		time.Sleep(10 * time.Second) // package outage ends an outage only after some seconds without a failure
		var levels []string
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "summary API") {
				levels = append(levels, strings.Fields(line)[1])
			}
		}
		if want := []string{"level=WARN", "level=WARN", "level=INFO"}; !slices.Equal(levels, want) {
			t.Errorf("logged %q, want the start, one reminder and the end:\n%s", levels, log)
		}
	})
}

func TestExitEventProcessor_MatchesExitsAndPostsSummaries(t *testing.T) {
	t.Parallel()
	id := generated()
	summary := event.Summary{ID: id.String(), Plate: plate, EntryAt: entryAt, ExitAt: exitAt}
	tests := []struct {
		name        string
		store       stepStore
		postErr     error
		want        Outcome
		wantPosted  bool
		wantSettled bool
		failure     Stage // the stage of the expected failure; empty if none is expected
		permanent   bool
	}{
		{name: "an exit that ends a visit posts its summary and settles it", store: stepStore{result: store.ResultMatched}, want: OutcomeMatched, wantPosted: true, wantSettled: true},
		{name: "an exit whose summary another delivery has settled", store: stepStore{result: store.ResultMatched, settledBefore: true}, want: OutcomeDuplicate, wantPosted: true, wantSettled: true},
		{name: "a pending exit whose summary another delivery has settled", store: stepStore{result: store.ResultPending, settledBefore: true}, want: OutcomeDuplicate, wantPosted: true, wantSettled: true},
		{name: "an exit whose summary is pending posts it again", store: stepStore{result: store.ResultPending}, want: OutcomeMatched, wantPosted: true, wantSettled: true},
		{name: "an expected unmatched exit posts nothing", store: stepStore{result: store.ResultUnmatchedExpected}, want: OutcomeUnmatchedExpected},
		{name: "an unexpected unmatched exit posts nothing", store: stepStore{result: store.ResultUnmatchedUnexpected}, want: OutcomeUnmatchedUnexpected},
		{name: "an external exit without a visit posts nothing", store: stepStore{result: store.ResultEntryNotFound}, want: OutcomeEntryNotFound},
		{name: "an exit ahead of its entry posts nothing", store: stepStore{result: store.ResultEarly}, want: OutcomeEarly},
		{name: "an exit that was settled before posts nothing", store: stepStore{result: store.ResultDuplicate}, want: OutcomeDuplicate},
		{name: "an exit dated before its entry is a permanent failure", store: stepStore{result: store.ResultPrecedesEntry}, failure: StageSummarize, permanent: true},
		{name: "a store that is down is a transient failure", store: stepStore{err: store.ErrUnavailable}, failure: StageStore},
		{name: "a store that returns no mark is a transient failure", store: stepStore{markErr: store.ErrUnavailable}, failure: StageStore},
		{name: "an API that is down is a transient failure and leaves the summary in the outbox", store: stepStore{result: store.ResultMatched}, postErr: errDown, wantPosted: true, failure: StagePost},
		{name: "a permanently rejected summary is a permanent failure", store: stepStore{result: store.ResultMatched}, postErr: fmt.Errorf("post: %w", verdict(true)), wantPosted: true, failure: StagePost, permanent: true},
		{name: "a temporarily rejected summary is a transient failure", store: stepStore{result: store.ResultMatched}, postErr: verdict(false), wantPosted: true, failure: StagePost},
		{name: "a summary that cannot be settled is a transient failure of the store", store: stepStore{result: store.ResultMatched, settleErr: store.ErrUnavailable}, wantPosted: true, wantSettled: true, failure: StageStore},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			api := &posted{err: tt.postErr}
			p := NewExitEventProcessor(&tt.store, api, 4, discard())
			done, err := p.ProcessMessage(t.Context(), exitMessage(id.String(), event.IntentMatched))
			if tt.failure != "" {
				expectFailure(t, err, tt.failure, tt.permanent, id.String())
				if tt.permanent && (done.Partition != id.Partition || done.Mark != mark) {
					t.Errorf("completion %+v, want the partition and the mark for the dead letter", done)
				}
			} else if want := (Completion{Outcome: tt.want, Partition: id.Partition, Mark: mark}); err != nil || done != want {
				t.Errorf("completion %+v and error %v, want %+v", done, err, want)
			}

			var wantPosted []event.Summary
			if tt.wantPosted {
				wantPosted = []event.Summary{summary}
			}
			if diff := cmp.Diff(wantPosted, api.summaries); diff != "" {
				t.Errorf("summaries posted (-want +got):\n%s", diff)
			}
			var wantSettled []string
			if tt.wantSettled {
				wantSettled = []string{fmt.Sprintf("%d/%s", id.Partition, id)}
			}
			if diff := cmp.Diff(wantSettled, tt.store.settled); diff != "" {
				t.Errorf("summaries settled (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPipeline_UnexpectedStoreResult_IsATransientFailure(t *testing.T) {
	t.Parallel()
	for _, result := range []store.Result{"", "sold", store.ResultMatched, store.ResultPending, store.ResultPrecedesEntry} {
		p := NewEntryEventProcessor(&stepStore{result: result}, 1, maxStay, discard())
		r := newRig(t, 1, p, nil)
		msg := entryMessage("id")
		if _, failure := r.pipelines[event.TypeEntry].call(t.Context(), &msg); failure == nil || failure.permanent {
			t.Errorf("an entry with the result %q fails with %v, want a transient failure", result, failure)
		}
	}
}

func TestExitOrigin_DistinguishesGeneratedFromExternalExits(t *testing.T) {
	t.Parallel()
	own := generated()
	elsewhere := own
	elsewhere.Partition = (own.Partition + 1) % 4
	generatedOrigin := store.Origin{ID: own.String(), Run: run, Partition: own.Partition, Seq: own.Seq}
	external := func(id string) store.Origin { return store.Origin{ID: id, Partition: own.Partition} }
	edit := func(m broker.Message, f func(*broker.Message)) broker.Message { f(&m); return m }

	tests := []struct {
		name   string
		msg    broker.Message
		origin store.Origin
		intent event.Intent
		last   bool
	}{
		{name: "an exit claimed from the pool is generated", msg: exitMessage(own.String(), event.IntentMatched), origin: generatedOrigin, intent: event.IntentMatched},
		{name: "an exit of a plate that never entered is generated", msg: exitMessage(own.String(), event.IntentUnmatched), origin: generatedOrigin, intent: event.IntentUnmatched},
		{name: "an exit without a message identifier is generated", msg: edit(exitMessage(own.String(), event.IntentMatched), func(m *broker.Message) { m.ID = "" }), origin: generatedOrigin, intent: event.IntentMatched},
		{name: "an exit without an intent is external", msg: exitMessage(own.String(), event.IntentNone), origin: external(own.String())},
		{name: "an exit with an unknown intent is external", msg: exitMessage(own.String(), "malicious"), origin: external(own.String())},
		{name: "an exit of another application is external", msg: edit(exitMessage(own.String(), event.IntentMatched), func(m *broker.Message) { m.AppID = "" }), origin: external(own.String())},
		{name: "an exit whose message contradicts its body is external", msg: edit(exitMessage(own.String(), event.IntentMatched), func(m *broker.Message) { m.ID = "other" }), origin: external(own.String())},
		{name: "an exit that names another partition is external", msg: exitMessage(elsewhere.String(), event.IntentMatched), origin: external(elsewhere.String())},
		{name: "an exit with any other identifier is external, whatever its intent", msg: exitMessage("4711", event.IntentUnmatched), origin: external("4711")},
		{name: "a generated exit is retried many times", msg: edit(exitMessage(own.String(), event.IntentMatched), func(m *broker.Message) { m.Attempt = generatedAttempts - 1 }), origin: generatedOrigin, intent: event.IntentMatched},
		{name: "a generated exit has a last attempt", msg: edit(exitMessage(own.String(), event.IntentMatched), func(m *broker.Message) { m.Attempt = generatedAttempts }), origin: generatedOrigin, intent: event.IntentMatched, last: true},
		{name: "an external exit is retried a few times", msg: edit(exitMessage("4711", ""), func(m *broker.Message) { m.Attempt = externalAttempts - 1 }), origin: external("4711")},
		{name: "an external exit has a last attempt", msg: edit(exitMessage("4711", ""), func(m *broker.Message) { m.Attempt = externalAttempts }), origin: external("4711"), last: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &stepStore{result: store.ResultDuplicate}
			if _, err := NewExitEventProcessor(s, &posted{}, 4, discard()).ProcessMessage(t.Context(), tt.msg); err != nil {
				t.Fatal(err)
			}
			want := []store.ExitStep{{
				Origin: tt.origin, Partition: own.Partition, Plate: plate, At: exitAt, Intent: tt.intent, LastAttempt: tt.last,
			}}
			if diff := cmp.Diff(want, s.exits); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

func TestProcessMessage_InvalidMessage_FailsPermanentlyBeforeAnyStoreCall(t *testing.T) {
	t.Parallel()
	tenMegabytes := poison{name: "ten megabytes", msg: broker.Message{Body: []byte(`{"id":"` + strings.Repeat("a", 10<<20) + `"}`)}}
	for _, p := range append(poisons(), tenMegabytes) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := &stepStore{}
			_, err := NewEntryEventProcessor(s, 1, maxStay, discard()).ProcessMessage(t.Context(), p.msg)
			expectFailure(t, err, StageParse, true, "")
			_, err = NewExitEventProcessor(s, &posted{}, 1, discard()).ProcessMessage(t.Context(), p.msg)
			expectFailure(t, err, StageParse, true, "")
			if len(s.entries)+len(s.exits) != 0 {
				t.Error("the store was called")
			}
		})
	}
}

type poison struct {
	name string
	msg  broker.Message
}

// poisons returns messages that are not valid events and can never be processed.
func poisons() []poison {
	body := func(text string) broker.Message { return broker.Message{Body: []byte(text)} }
	good := entryMessage("id").Body
	return []poison{
		{name: "no body", msg: broker.Message{}},
		{name: "truncated JSON", msg: broker.Message{Body: good[:len(good)-5]}},
		{name: "wrong types", msg: body(`{"id":1,"vehicle_plate":true,"entry_date_time":[],"exit_date_time":{}}`)},
		{name: "an array", msg: body(`[]`)},
		{name: "missing fields", msg: body(`{"id":"a"}`)},
		{name: "no plate", msg: body(`{"id":"a","entry_date_time":"2026-05-01T08:00:00Z","exit_date_time":"2026-05-01T08:00:00Z"}`)},
		{name: "an empty plate", msg: body(`{"id":"a","vehicle_plate":"","entry_date_time":"2026-05-01T08:00:00Z","exit_date_time":"2026-05-01T08:00:00Z"}`)},
		{name: "not a date", msg: body(`{"id":"a","vehicle_plate":"b","entry_date_time":"yesterday","exit_date_time":"today"}`)},
		{name: "invalid UTF-8", msg: body("{\"id\":\"a\xff\",\"vehicle_plate\":\"b\",\"entry_date_time\":\"2026-05-01T08:00:00Z\",\"exit_date_time\":\"2026-05-01T08:00:00Z\"}")},
	}
}

func TestProcessMessage_UnusualMessageProperties_AreAccepted(t *testing.T) {
	t.Parallel()
	tests := map[string]broker.Message{
		"the original's JSON without any property":   {Body: []byte(`{"id":"7c0f","vehicle_plate":"ABC-123","entry_date_time":"2026-05-01T08:00:00+02:00"}`)},
		"a content type other than JSON":             {ContentType: "text/html", Body: entryMessage("a").Body},
		"a type property that contradicts its queue": {Type: event.TypeExit, Body: entryMessage("a").Body},
		"a date in year 0":                           {Body: []byte(`{"id":"a","vehicle_plate":"b","entry_date_time":"0000-01-01T00:00:00Z"}`)},
		"a date in year 9999":                        {Body: []byte(`{"id":"a","vehicle_plate":"b","entry_date_time":"9999-12-31T23:59:59.999999999Z"}`)},
	}
	for name, msg := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &stepStore{result: store.ResultRecorded}
			done, err := NewEntryEventProcessor(s, 1, maxStay, discard()).ProcessMessage(t.Context(), msg)
			if err != nil || done.Outcome != OutcomeRecorded {
				t.Errorf("outcome %v, error %v; want recorded", done.Outcome, err)
			}
		})
	}
}

func TestProcessMessage_LogsResultsAtDebugLevelOnly(t *testing.T) {
	t.Parallel()
	tests := []struct {
		level  slog.Level
		result store.Result
		want   string // part of the expected log line; empty if nothing is logged
	}{
		{level: slog.LevelInfo, result: store.ResultUnmatchedExpected},
		{level: slog.LevelDebug, result: store.ResultUnmatchedExpected, want: "expected=true"},
		{level: slog.LevelDebug, result: store.ResultUnmatchedUnexpected, want: "expected=false"},
		{level: slog.LevelDebug, result: store.ResultMatched, want: "result=matched"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.level, " ", tt.result), func(t *testing.T) {
			t.Parallel()
			log := new(logtest.Buffer)
			p := NewExitEventProcessor(&stepStore{result: tt.result}, &posted{}, 4,
				slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: tt.level})))
			if _, err := p.ProcessMessage(t.Context(), exitMessage("id", event.IntentUnmatched)); err != nil {
				t.Fatal(err)
			}
			if got := log.String(); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("logged %q, want %q in it", got, tt.want)
			}
		})
	}
}

func TestPipeline_RejectedMessage_IsQuotedAtDebugLevelOnly(t *testing.T) {
	t.Parallel()
	const secret = "S-ECRET 1"
	log := new(logtest.Buffer)
	r := newRig(t, 1, answer(outcomeNone, Permanent(StagePost, "id", errors.New("no such plate: "+secret))), nil)
	r.reporter.log = log.Logger()
	r.pipelines[event.TypeEntry].call(t.Context(), &broker.Message{})
	if got := log.String(); !strings.Contains(got, "dead-lettered") || strings.Contains(got, secret) {
		t.Errorf("logged %q, want the dead letter without a quotation", got)
	}
	if got := r.log.String(); !strings.Contains(got, secret) {
		t.Errorf("the debug log is %q, want the reason in it", got)
	}
}

func TestPipeline_UnparsableMessage_LogsTheReason(t *testing.T) {
	t.Parallel()
	log := new(logtest.Buffer)
	r := newRig(t, 1, answer(outcomeNone, Permanent(StageParse, "", errors.New("entry event: field id: empty"))), nil)
	r.reporter.log = log.Logger()
	r.pipelines[event.TypeEntry].call(t.Context(), &broker.Message{})
	if got := log.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "field id: empty") {
		t.Errorf("logged %q, want the reason in it", got)
	}
}

func TestPipeline_StoreUnavailable_LogsNothingAboveDebugLevel(t *testing.T) {
	t.Parallel()
	log := new(logtest.Buffer)
	r := newRig(t, 1, answer(outcomeNone, Transient(StageStore, "", store.ErrUnavailable)), nil)
	r.reporter.log = log.Logger()
	r.pipelines[event.TypeEntry].call(t.Context(), &broker.Message{})
	if got := log.String(); got != "" {
		t.Errorf("logged %q", got)
	}
}

func expectFailure(t *testing.T, err error, stage Stage, permanent bool, id string) {
	t.Helper()
	f, ok := errors.AsType[*Failure](err)
	if !ok || f.Stage != stage || f.permanent != permanent || f.EventID != id {
		t.Errorf("error %#v; want a failure of stage %s, permanent %t, of event %q", err, stage, permanent, id)
	}
}
