// Package summarytest is the conformance suite of summary.Database. Its in-memory Database replaces a real database in
// tests.
package summarytest

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// Factory returns a new, empty database. It must close the database when the test ends.
type Factory func(tb testing.TB) summary.Database

// Run runs the conformance suite for databases of summaries. The factory creates each database.
func Run(t *testing.T, factory Factory) {
	t.Run("Insert", func(t *testing.T) { testInsert(t, factory) })
	t.Run("List", func(t *testing.T) { testList(t, factory) })
	t.Run("Stats", func(t *testing.T) { testStats(t, factory) })
	t.Run("Find", func(t *testing.T) { testFind(t, factory) })
	t.Run("random batches", func(t *testing.T) { testRandomBatches(t, factory) })
	t.Run("queries with an ended context fail", func(t *testing.T) { testEndedContext(t, factory) })
	t.Run("use after Close fails", func(t *testing.T) { testClosed(t, factory) })
}

// failer is the interface that testing.TB and *rapid.T have in common.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// Morning returns the time at which the visits of the suite begin.
func Morning() time.Time { return time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC) }

// Visit returns the summary of a visit that begins at Morning and lasts the given number of seconds.
func Visit(id, plate string, seconds int) event.Summary {
	return event.Summary{ID: id, Plate: plate, EntryAt: Morning(), ExitAt: Morning().Add(time.Duration(seconds) * time.Second)}
}

// Insert stores the summaries in one transaction and returns their outcomes.
func Insert(tb failer, d summary.Database, summaries ...event.Summary) []summary.Outcome {
	tb.Helper()
	outcomes := make([]summary.Outcome, len(summaries))
	if err := d.Insert(context.Background(), summaries, outcomes); err != nil {
		tb.Fatalf("insert %d summaries: %v", len(summaries), err)
	}
	return outcomes
}

// List returns all results of a query. It reads them page by page.
func List(tb failer, d summary.Database, q summary.Query) []event.Summary {
	tb.Helper()
	var all []event.Summary
	for {
		page, err := d.List(context.Background(), q)
		if err != nil {
			tb.Fatalf("list %+v: %v", q, err)
		}
		if len(page.Summaries) > q.Limit {
			tb.Fatalf("a page has %d summaries, want at most %d", len(page.Summaries), q.Limit)
		}
		all = append(all, page.Summaries...)
		if page.Next.IsZero() {
			return all
		}
		if len(page.Summaries) != q.Limit {
			tb.Fatalf("a page that is not the last has %d summaries, want %d", len(page.Summaries), q.Limit)
		}
		q.After = page.Next
	}
}

// IDs returns the identifiers of the summaries, in the same order. The result is not nil, even if there are no
// summaries.
func IDs(summaries []event.Summary) []string {
	ids := []string{}
	for _, s := range summaries {
		ids = append(ids, s.ID)
	}
	return ids
}

func testInsert(t *testing.T, factory Factory) {
	const (
		created     = summary.Created
		known       = summary.Known
		conflicting = summary.Conflicting
	)
	a, b := Visit("a", "P-1", 10), Visit("b", "P-2", 20)
	tests := []struct {
		name   string
		before []event.Summary
		insert []event.Summary
		want   []summary.Outcome
		stored []event.Summary
	}{
		{"new summaries are created", nil, []event.Summary{a, b}, []summary.Outcome{created, created}, []event.Summary{a, b}},
		{"a summary that is already stored is reported as known", []event.Summary{a}, []event.Summary{a, b}, []summary.Outcome{known, created}, []event.Summary{a, b}},
		{"another plate under the same id conflicts and changes nothing", []event.Summary{a}, []event.Summary{Visit("a", "P-9", 10)}, []summary.Outcome{conflicting}, []event.Summary{a}},
		{"another exit time under the same id conflicts and changes nothing", []event.Summary{a}, []event.Summary{Visit("a", "P-1", 11)}, []summary.Outcome{conflicting}, []event.Summary{a}},
		{"another entry time under the same id conflicts and changes nothing", []event.Summary{a}, []event.Summary{{ID: "a", Plate: "P-1", EntryAt: a.EntryAt.Add(1), ExitAt: a.ExitAt}}, []summary.Outcome{conflicting}, []event.Summary{a}},
		{"a summary that occurs twice in one transaction is created once", nil, []event.Summary{a, a}, []summary.Outcome{created, known}, []event.Summary{a}},
		{"if several summaries have the same id, the first is stored", nil, []event.Summary{a, Visit("a", "P-9", 10), b, a}, []summary.Outcome{created, conflicting, created, known}, []event.Summary{a, b}},
		{"ids are case-sensitive", []event.Summary{a}, []event.Summary{Visit("A", "P-1", 30)}, []summary.Outcome{created}, []event.Summary{a, Visit("A", "P-1", 30)}},
		{"an empty transaction succeeds", []event.Summary{a}, nil, []summary.Outcome{}, []event.Summary{a}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := factory(t)
			Insert(t, d, tt.before...)
			if diff := cmp.Diff(tt.want, Insert(t, d, tt.insert...)); diff != "" {
				t.Errorf("the outcomes differ (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.stored, List(t, d, summary.Query{Limit: 10})); diff != "" {
				t.Errorf("the stored summaries differ (-want +got):\n%s", diff)
			}
		})
	}
}

func testList(t *testing.T, factory Factory) {
	first, last := time.Date(1678, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2261, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
	d := factory(t)
	Insert(t, d,
		event.Summary{ID: "first", Plate: "P", EntryAt: first, ExitAt: first},
		Visit("b", "P", 1), Visit("c", "P", 2), Visit("d", "P", 2), Visit("e", "P", 3),
		event.Summary{ID: "last", Plate: "P", EntryAt: last, ExitAt: last})
	at := func(seconds int) time.Time { return Morning().Add(time.Duration(seconds) * time.Second) }
	tests := []struct {
		name  string
		query summary.Query
		want  []string
	}{
		{"a query without bounds selects everything", summary.Query{}, []string{"first", "b", "c", "d", "e", "last"}},
		{"the lower bound is inclusive", summary.Query{From: at(2)}, []string{"c", "d", "e", "last"}},
		{"the upper bound is exclusive", summary.Query{To: at(2)}, []string{"first", "b"}},
		{"equal bounds select nothing", summary.Query{From: at(2), To: at(2)}, []string{}},
		{"bounds in the wrong order select nothing", summary.Query{From: at(3), To: at(1)}, []string{}},
		{"a query with bounds beyond the storable years selects everything", summary.Query{From: time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, []string{"first", "b", "c", "d", "e", "last"}},
		{"an upper bound before all summaries selects nothing", summary.Query{To: time.Date(3, 1, 1, 0, 0, 0, 0, time.UTC)}, []string{}},
		{"a start position before the lower bound does not widen the query", summary.Query{From: at(3), After: summary.Position{ExitNanos: at(1).UnixNano(), Seq: 2}}, []string{"e", "last"}},
		{"a start position can separate summaries with the same exit time", summary.Query{After: summary.Position{ExitNanos: at(2).UnixNano(), Seq: 3}}, []string{"d", "e", "last"}},
		{"a start position after all summaries selects nothing", summary.Query{After: summary.Position{ExitNanos: math.MaxInt64, Seq: math.MaxInt64}}, []string{}},
		{"a plate without summaries selects nothing", summary.Query{Plate: "Q"}, []string{}},
	}
	for _, tt := range tests {
		for _, plate := range []string{tt.query.Plate, "P"} {
			t.Run(fmt.Sprintf("%s, with plate %q", tt.name, plate), func(t *testing.T) {
				q := tt.query
				q.Limit = 2
				if q.Plate == "" {
					q.Plate = plate
				}
				if diff := cmp.Diff(tt.want, IDs(List(t, d, q))); diff != "" {
					t.Errorf("the listed identifiers differ (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func testStats(t *testing.T, factory Factory) {
	d := factory(t)
	if stats, err := d.Stats(t.Context()); err != nil || stats != (summary.Stats{}) {
		t.Errorf("the totals of an empty database are %+v (%v), want zeros", stats, err)
	}
	Insert(t, d, Visit("a", "P", 3), Visit("b", "P", 1), Visit("c", "P", 1))
	// This Insert does not change the totals, because the first summary is already stored, and the second conflicts.
	Insert(t, d, Visit("a", "P", 3), Visit("b", "P", 9))
	want := summary.Stats{
		Count: 3, Mean: 5 * time.Second / 3, Shortest: time.Second, Longest: 3 * time.Second,
		FirstExit: Morning().Add(time.Second), LastExit: Morning().Add(3 * time.Second),
	}
	stats, err := d.Stats(t.Context())
	if diff := cmp.Diff(want, stats); diff != "" || err != nil {
		t.Errorf("Stats returned the error %v or wrong totals (-want +got):\n%s", err, diff)
	}
}

func testFind(t *testing.T, factory Factory) {
	d := factory(t)
	a := Visit("a", "P", 1)
	Insert(t, d, a)
	if found, ok, err := d.Find(t.Context(), "a"); err != nil || !ok || found != a {
		t.Errorf("Find returned %v, %t (%v), want %v", found, ok, err, a)
	}
	if found, ok, err := d.Find(t.Context(), "b"); err != nil || ok || found != (event.Summary{}) {
		t.Errorf("Find returned %v, %t (%v) for an ID that is not stored", found, ok, err)
	}
}

// testRandomBatches compares the database with the in-memory Database of this package.
func testRandomBatches(t *testing.T, factory Factory) {
	rapid.Check(t, func(rt *rapid.T) {
		d, want := factory(t), New()
		for range rapid.IntRange(0, 5).Draw(rt, "batches") {
			InsertRandomBatch(rt, d, want)
		}
		Compare(rt, d, want)
		if err := d.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}

// InsertRandomBatch stores the same random summaries in two databases and compares the outcomes. The values come from
// small ranges, so that duplicates are frequent.
func InsertRandomBatch(rt *rapid.T, d, want summary.Database) {
	var batch []event.Summary
	for range rapid.IntRange(0, 90).Draw(rt, "size") {
		batch = append(batch, Visit(
			fmt.Sprintf("id-%d", rapid.IntRange(0, 200).Draw(rt, "id")),
			fmt.Sprintf("P-%d", rapid.IntRange(0, 3).Draw(rt, "plate")),
			rapid.IntRange(0, 5).Draw(rt, "seconds")))
	}
	if diff := cmp.Diff(Insert(rt, want, batch...), Insert(rt, d, batch...)); diff != "" {
		rt.Fatalf("the outcomes differ (-want +got):\n%s", diff)
	}
}

// Compare fails the test unless both databases return the same results for every kind of query.
func Compare(rt *rapid.T, d, want summary.Database) {
	limit := rapid.IntRange(7, 100).Draw(rt, "limit")
	for _, q := range []summary.Query{
		{Limit: limit},
		{Limit: limit, Plate: "P-1"},
		{Limit: limit, From: Morning().Add(time.Second), To: Morning().Add(4 * time.Second)},
		{Limit: limit, From: Morning().Add(2 * time.Second), Plate: "P-2"},
	} {
		if diff := cmp.Diff(List(rt, want, q), List(rt, d, q)); diff != "" {
			rt.Fatalf("the results of the query %+v differ (-want +got):\n%s", q, diff)
		}
	}
	stats, err := d.Stats(context.Background())
	wantStats, _ := want.Stats(context.Background())
	if diff := cmp.Diff(wantStats, stats); diff != "" || err != nil {
		rt.Fatalf("Stats returned the error %v or wrong totals (-want +got):\n%s", err, diff)
	}
	for _, id := range []string{"id-0", "id-100", "id-200"} {
		got, ok, err := d.Find(context.Background(), id)
		wantFound, wantOK, _ := want.Find(context.Background(), id)
		if err != nil || ok != wantOK || got != wantFound {
			rt.Fatalf("Find(%s) returned %v, %t (%v), want %v, %t", id, got, ok, err, wantFound, wantOK)
		}
	}
}

func testEndedContext(t *testing.T, factory Factory) {
	d := factory(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"Find":  func() error { _, _, err := d.Find(ctx, "a"); return err }(),
		"List":  func() error { _, err := d.List(ctx, summary.Query{Limit: 1}); return err }(),
		"Stats": func() error { _, err := d.Stats(ctx); return err }(),
	} {
		if err == nil {
			t.Errorf("%s succeeded although its context had ended", name)
		}
	}
	Insert(t, d, Visit("a", "P", 1)) // the database must still work after the failed queries
}

func testClosed(t *testing.T, factory Factory) {
	d := factory(t)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Stats(t.Context()); err == nil {
		t.Error("Stats of a closed database succeeded")
	}
}
