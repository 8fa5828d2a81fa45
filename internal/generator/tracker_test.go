package generator

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// trackerMachine compares a tracker, which drops the records of finished events, with a simple model that keeps all
// records.
type trackerMachine struct {
	tracker   *tracker
	records   []record
	confirmed map[int64]bool
	durable   int64
}

func (m *trackerMachine) ready() int64 {
	ready := m.durable
	for m.confirmed[ready] {
		ready++
	}
	return ready
}

func (m *trackerMachine) Add(t *rapid.T) {
	for range rapid.IntRange(1, 100).Draw(t, "events") {
		r := record{
			plate:  fmt.Sprintf("AAA-%04d", len(m.records)),
			at:     int64(1000 * len(m.records)),
			sent:   time.Duration(len(m.records)),
			intent: rapid.SampledFrom([]event.Intent{event.IntentMatched, event.IntentUnmatched}).Draw(t, "intent"),
		}
		if seq := m.tracker.add(r); seq != int64(len(m.records)) {
			t.Fatalf("the event has seq %d, want %d", seq, len(m.records))
		}
		m.records = append(m.records, r)
	}
}

func (m *trackerMachine) Retract(t *rapid.T) {
	seq := m.tracker.add(record{plate: "never"})
	m.tracker.retract()
	if _, ok := m.tracker.confirm(seq); ok {
		t.Fatalf("event %d was confirmed after it was retracted", seq)
	}
}

func (m *trackerMachine) Confirm(t *rapid.T) {
	for range rapid.IntRange(1, 100).Draw(t, "confirms") {
		seq := rapid.Int64Range(0, int64(len(m.records))).Draw(t, "seq")
		first := seq >= m.durable && seq < int64(len(m.records)) && !m.confirmed[seq]
		r, ok := m.tracker.confirm(seq)
		if ok != first {
			t.Fatalf("confirm of event %d returned %t, want %t", seq, ok, first)
		}
		if !ok {
			continue
		}
		m.confirmed[seq] = true
		want := m.records[seq]
		want.confirmed = true
		if r != want {
			t.Fatalf("event %d has the record %+v, want %+v", seq, r, want)
		}
	}
}

func (m *trackerMachine) AdvanceDurable(t *rapid.T) {
	m.durable = rapid.Int64Range(m.durable, m.ready()).Draw(t, "durable")
	m.tracker.advanceDurable(m.durable)
}

func (m *trackerMachine) Check(t *rapid.T) {
	durable, ready, next := m.tracker.marks()
	if durable != m.durable || ready != m.ready() || next != int64(len(m.records)) {
		t.Fatalf("the watermarks are %d, %d, %d, want %d, %d, %d",
			durable, ready, next, m.durable, m.ready(), len(m.records))
	}
	var want []store.Published
	for _, r := range m.records[durable:ready] {
		want = append(want, store.Published{Plate: r.plate, At: time.Unix(0, r.at).UTC(), Intent: r.intent})
	}
	if diff := cmp.Diff(want, m.tracker.confirmed(nil, durable, ready)); diff != "" {
		t.Fatalf("confirmed events (-want +got):\n%s", diff)
	}
}

func TestTracker_Watermark_EndsAtTheFirstUnconfirmedEvent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &trackerMachine{tracker: newTracker(), confirmed: map[int64]bool{}}
		t.Repeat(rapid.StateMachineActions(m))
	})
}

func TestTracker_MaximumOfOutstandingEvents_ReportsFull(t *testing.T) {
	t.Parallel()
	tracker := newTracker()
	for !tracker.full() {
		tracker.confirm(tracker.add(record{}))
	}
	if _, _, next := tracker.marks(); next != maxOutstanding || next >= store.MaxOutstanding {
		t.Errorf("the tracker is full after %d events, want %d", next, maxOutstanding)
	}
	tracker.advanceDurable(1)
	if tracker.full() {
		t.Error("the tracker is still full after the durable watermark has moved")
	}
}
