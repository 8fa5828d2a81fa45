// Package storetest is the conformance suite of package store. Every implementation runs the suite:
//
//	func TestConformance(t *testing.T) { storetest.Run(t, open) }
package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// Factory opens an empty store for one test, and closes the store when the test ends. Unclaimed visits must expire
// without store.VisitMargin, because tests wait for the expiry.
type Factory func(t *testing.T, partitions int) store.Store

// Run runs the conformance suite as subtests of t.
func Run(t *testing.T, open Factory) {
	t.Helper()
	for _, group := range []struct {
		name string
		run  func(*testing.T, Factory)
	}{
		{name: "entries", run: testEntries},
		{name: "exits", run: testExits},
		{name: "outbox", run: testOutbox},
		{name: "dead letters", run: testDeadLetters},
		{name: "leases", run: testLeases},
		{name: "confirmations", run: testConfirmations},
		{name: "claims", run: testClaims},
		{name: "releases", run: testReleases},
		{name: "expiry", run: testExpiry},
		{name: "ledger", run: testLedger},
		{name: "timeline", run: testTimeline},
		{name: "durability", run: testDurability},
		{name: "misuse", run: testMisuse},
		{name: "purge", run: testPurge},
		{name: "concurrency", run: testConcurrency},
		{name: "model", run: testModel},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			group.run(t, open)
		})
	}
}

// fixture is a store under test, with helpers that end the test if a step fails or has the wrong result.
type fixture struct {
	store.Store
	t *testing.T
}

const (
	entryRun = "0000000000ent" // the generator run that most tests use for entries
	exitRun  = "0000000000exi" // the generator run that most tests use for exits
	maxStay  = time.Hour
)

// noon returns the time of most events in the tests. The time has nanoseconds, because stores must preserve them.
func noon() time.Time { return time.Date(2026, time.May, 17, 12, 0, 0, 123_456_789, time.UTC) }

func open(t *testing.T, factory Factory) fixture {
	t.Helper()
	return fixture{Store: factory(t, 1), t: t}
}

func origin(run string, seq int64) store.Origin {
	return store.Origin{ID: event.ID{Run: run, Seq: seq}.String(), Run: run, Seq: seq}
}

// external returns the origin of an event of an external publisher.
func external(id string) store.Origin { return store.Origin{ID: id} }

func entryOf(seq int64, plate string, at time.Time) store.EntryStep {
	return store.EntryStep{Origin: origin(entryRun, seq), Plate: plate, At: at, MaxStay: maxStay}
}

func exitOf(seq int64, plate string, at time.Time) store.ExitStep {
	return store.ExitStep{Origin: origin(exitRun, seq), Plate: plate, At: at, Intent: event.IntentMatched}
}

// enter records an entry and checks the result.
func (f fixture) enter(e store.EntryStep, want store.Result) {
	f.t.Helper()
	got, err := f.RecordEntry(f.t.Context(), e)
	if err != nil || got != want {
		f.t.Fatalf("RecordEntry(%s) = %q, %v; want %q", e.Origin.ID, got, err, want)
	}
}

// leave records an exit in the store, checks the result, and returns the summary of the visit.
func (f fixture) leave(e store.ExitStep, want store.Result) event.Summary {
	f.t.Helper()
	got, err := f.RecordExit(f.t.Context(), e)
	if err != nil || got.Result != want {
		f.t.Fatalf("RecordExit(%s) = %q, %v; want %q", e.Origin.ID, got.Result, err, want)
	}
	hasSummary := want == store.ResultMatched || want == store.ResultPending
	if !hasSummary && got.Summary != (event.Summary{}) {
		f.t.Fatalf("RecordExit(%s) = %q with the summary %v; want no summary", e.Origin.ID, got.Result, got.Summary)
	}
	return got.Summary
}

func (f fixture) confirm(c store.Confirmation, want int64) {
	f.t.Helper()
	got, err := f.Confirm(f.t.Context(), c)
	if err != nil || got != want {
		f.t.Fatalf("Confirm(from %d, %d events) = %d, %v; want %d", c.From, len(c.Events), got, err, want)
	}
}

// claim claims plates and checks that the store returns the wanted plates.
func (f fixture) claim(c store.Claim, want ...string) []store.Plate {
	f.t.Helper()
	plates, err := f.Claim(f.t.Context(), c)
	if err != nil {
		f.t.Fatalf("Claim(token %d): %v", c.Token, err)
	}
	got := make([]string, 0, len(plates))
	for _, p := range plates {
		got = append(got, p.Plate)
	}
	if !slices.Equal(got, want) {
		f.t.Fatalf("Claim(token %d) = %q; want %q", c.Token, got, want)
	}
	return plates
}

func (f fixture) release(c store.Claim, plates []store.Plate) {
	f.t.Helper()
	if err := f.Release(f.t.Context(), c, plates); err != nil {
		f.t.Fatalf("Release(token %d): %v", c.Token, err)
	}
}

func (f fixture) settle(exitID string) {
	f.t.Helper()
	if _, err := f.SettleSummary(f.t.Context(), 0, exitID); err != nil {
		f.t.Fatalf("SettleSummary(%s): %v", exitID, err)
	}
}

func (f fixture) wantCounts(want store.Counts) {
	f.t.Helper()
	got, err := f.Counts(f.t.Context())
	if err != nil {
		f.t.Fatalf("Counts: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		f.t.Fatalf("Counts (-want +got):\n%s", diff)
	}
}

func (f fixture) wantPool(want int64) {
	f.t.Helper()
	if got, err := f.PoolSize(f.t.Context()); err != nil || got != want {
		f.t.Fatalf("PoolSize = %d, %v; want %d", got, err, want)
	}
}

func (f fixture) wantOutbox(want int64) {
	f.t.Helper()
	if got, err := f.Outbox(f.t.Context()); err != nil || got != want {
		f.t.Fatalf("Outbox = %d, %v; want %d", got, err, want)
	}
}

func (f fixture) wantRuns(want ...store.Run) {
	f.t.Helper()
	got, err := f.Runs(f.t.Context())
	if err != nil {
		f.t.Fatalf("Runs: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		f.t.Fatalf("Runs (-want +got):\n%s", diff)
	}
}

// bits returns the sequence numbers whose bits are set in a bitmap of the chunk with the given index.
func bits(chunk []byte, index int64) []int64 {
	var seqs []int64
	for at, b := range chunk {
		for bit := range 8 {
			if b&(0x80>>bit) != 0 {
				seqs = append(seqs, index*store.ChunkBits+int64(8*at+bit))
			}
		}
	}
	return seqs
}

// wantBits checks the bitmaps Seen and Matched of one chunk of a generator run. Exactly the bits of the sequence
// numbers in seen and matched must be set.
func (f fixture) wantBits(run string, index int64, seen, matched []int64) {
	f.t.Helper()
	chunk, err := f.Chunk(f.t.Context(), store.Run{Run: run}, index)
	if err != nil {
		f.t.Fatalf("Chunk(%s, %d): %v", run, index, err)
	}
	if diff := cmp.Diff(seen, bits(chunk.Seen, index)); diff != "" {
		f.t.Fatalf("the bitmap Seen of chunk %d differs (-want +got):\n%s", index, diff)
	}
	if diff := cmp.Diff(matched, bits(chunk.Matched, index)); diff != "" {
		f.t.Fatalf("the bitmap Matched of chunk %d differs (-want +got):\n%s", index, diff)
	}
}

// published returns entries of the given plates. The first entry is at noon. Each further entry is one second later.
func published(plates ...string) []store.Published {
	events := make([]store.Published, 0, len(plates))
	for i, plate := range plates {
		events = append(events, store.Published{Plate: plate, At: noon().Add(time.Duration(i) * time.Second)})
	}
	return events
}

// entered returns a confirmation of entries of the given plates. The first entry has the sequence number from, and the
// others follow.
func entered(from int64, plates ...string) store.Confirmation {
	return store.Confirmation{
		Run: entryRun, Type: event.TypeEntry, From: from, Events: published(plates...), MaxStay: maxStay,
	}
}

// claimAt returns a claim at the time now, with a MinStay of one second.
func claimAt(token int64, now time.Time, limit int) store.Claim {
	return store.Claim{
		Run: exitRun, Token: token, Limit: limit, Now: now, MinStay: time.Second, MaxStay: maxStay,
	}
}

// plateNames returns n plates in sorted order.
func plateNames(n int) []string {
	plates := make([]string, n)
	for i := range plates {
		plates[i] = fmt.Sprintf("P%05d", i)
	}
	return plates
}
