package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// failer is what *testing.T and *rapid.T have in common.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// open opens the database at path, or a new one if path is empty, for as long as the test runs.
func open(tb testing.TB, o Options) *Database {
	tb.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(tb.TempDir(), "summaries.db")
	}
	d, err := Open(context.Background(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	return d
}

// morning is when the visits of the tests begin.
func morning() time.Time { return time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC) }

// visit is a summary of a visit that begins in the morning and takes some seconds.
func visit(id, plate string, seconds int) event.Summary {
	return event.Summary{ID: id, Plate: plate, EntryAt: morning(), ExitAt: morning().Add(time.Duration(seconds) * time.Second)}
}

// insert stores the summaries and returns their outcomes.
func insert(tb failer, d *Database, summaries ...event.Summary) []summary.Outcome {
	tb.Helper()
	outcomes := make([]summary.Outcome, len(summaries))
	if err := d.Insert(context.Background(), summaries, outcomes); err != nil {
		tb.Fatal(err)
	}
	return outcomes
}

// list returns all results of a query, page by page.
func list(tb failer, d *Database, q summary.Query) []event.Summary {
	tb.Helper()
	var all []event.Summary
	for {
		page, err := d.List(context.Background(), q)
		if err != nil {
			tb.Fatal(err)
		}
		if len(page.Summaries) > q.Limit {
			tb.Fatalf("a page has %d summaries, want at most %d", len(page.Summaries), q.Limit)
		}
		all = append(all, page.Summaries...)
		if page.Next.IsZero() {
			return all
		}
		if len(page.Summaries) != q.Limit {
			tb.Fatalf("a page with others after it has %d summaries, want %d", len(page.Summaries), q.Limit)
		}
		q.After = page.Next
	}
}

func ids(summaries []event.Summary) []string {
	names := []string{}
	for _, s := range summaries {
		names = append(names, s.ID)
	}
	return names
}

func TestInsert(t *testing.T) {
	t.Parallel()
	const (
		created     = summary.Created
		known       = summary.Known
		conflicting = summary.Conflicting
	)
	a, b := visit("a", "P-1", 10), visit("b", "P-2", 20)
	tests := []struct {
		name   string
		before []event.Summary
		insert []event.Summary
		want   []summary.Outcome
		stored []event.Summary
	}{
		{"summaries that are new are created", nil, []event.Summary{a, b}, []summary.Outcome{created, created}, []event.Summary{a, b}},
		{"a summary that comes again is known", []event.Summary{a}, []event.Summary{a, b}, []summary.Outcome{known, created}, []event.Summary{a, b}},
		{"another plate under the same id conflicts and changes nothing", []event.Summary{a}, []event.Summary{visit("a", "P-9", 10)}, []summary.Outcome{conflicting}, []event.Summary{a}},
		{"another exit under the same id conflicts and changes nothing", []event.Summary{a}, []event.Summary{visit("a", "P-1", 11)}, []summary.Outcome{conflicting}, []event.Summary{a}},
		{"another entry under the same id conflicts and changes nothing", []event.Summary{a}, []event.Summary{{ID: "a", Plate: "P-1", EntryAt: a.EntryAt.Add(1), ExitAt: a.ExitAt}}, []summary.Outcome{conflicting}, []event.Summary{a}},
		{"a summary that comes twice at once is created once", nil, []event.Summary{a, a}, []summary.Outcome{created, known}, []event.Summary{a}},
		{"of two that share an id the first wins", nil, []event.Summary{a, visit("a", "P-9", 10), b, a}, []summary.Outcome{created, conflicting, created, known}, []event.Summary{a, b}},
		{"an id differs in case from another", []event.Summary{a}, []event.Summary{visit("A", "P-1", 30)}, []summary.Outcome{created}, []event.Summary{a, visit("A", "P-1", 30)}},
		{"no summary at all is stored without fault", []event.Summary{a}, nil, []summary.Outcome{}, []event.Summary{a}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := open(t, Options{})
			insert(t, d, tt.before...)
			if diff := gocmp.Diff(tt.want, insert(t, d, tt.insert...)); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			if diff := gocmp.Diff(tt.stored, list(t, d, summary.Query{Limit: 10})); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDatabaseIsAMapWithTotals holds the database against a map, over many batches and restarts.
func TestDatabaseIsAMapWithTotals(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		path := filepath.Join(t.TempDir(), "summaries.db")
		m := &model{rt: rt, byID: map[string]event.Summary{}}
		for range rapid.IntRange(1, 2).Draw(rt, "restarts") {
			d, err := Open(context.Background(), Options{Path: path, NoSync: true})
			if err != nil {
				rt.Fatal(err)
			}
			for range rapid.IntRange(0, 3).Draw(rt, "batches") {
				m.insert(d)
			}
			m.check(d)
			if err := d.Close(); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

// model is what the database should hold.
type model struct {
	rt   *rapid.T
	byID map[string]event.Summary
	// order has the identifiers in the order of storing.
	order []string
}

// summary draws from few identifiers, plates and instants, so that they meet often.
func (m *model) summary() event.Summary {
	return visit(
		fmt.Sprintf("id-%d", rapid.IntRange(0, 200).Draw(m.rt, "id")),
		fmt.Sprintf("P-%d", rapid.IntRange(0, 3).Draw(m.rt, "plate")),
		rapid.IntRange(0, 5).Draw(m.rt, "seconds"))
}

// insert stores a batch in both.
func (m *model) insert(d *Database) {
	var batch []event.Summary
	for range rapid.IntRange(0, 90).Draw(m.rt, "size") {
		batch = append(batch, m.summary())
	}
	got := insert(m.rt, d, batch...)
	for i, s := range batch {
		if want := m.store(s); got[i] != want {
			m.rt.Fatalf("summary %d of %d has outcome %d, want %d", i, len(batch), got[i], want)
		}
	}
}

func (m *model) store(s event.Summary) summary.Outcome {
	stored, ok := m.byID[s.ID]
	switch {
	case !ok:
		m.byID[s.ID] = s
		m.order = append(m.order, s.ID)
		return summary.Created
	case stored == s:
		return summary.Known
	}
	return summary.Conflicting
}

// check compares everything that can be read.
func (m *model) check(d *Database) {
	limit := rapid.IntRange(7, 100).Draw(m.rt, "limit")
	queries := []summary.Query{
		{Limit: limit},
		{Limit: limit, Plate: "P-1"},
		{Limit: limit, From: morning().Add(time.Second), To: morning().Add(4 * time.Second)},
		{Limit: limit, From: morning().Add(2 * time.Second), Plate: "P-2"},
	}
	for _, q := range queries {
		if diff := gocmp.Diff(m.list(q), list(m.rt, d, q)); diff != "" {
			m.rt.Fatalf("query %+v (-want +got):\n%s", q, diff)
		}
	}
	stats, err := d.Stats(context.Background())
	if err != nil {
		m.rt.Fatal(err)
	}
	if diff := gocmp.Diff(m.stats(), stats); diff != "" {
		m.rt.Fatalf("stats (-want +got):\n%s", diff)
	}
	for _, id := range []string{"id-0", "id-100", "id-200"} {
		got, ok, err := d.Find(context.Background(), id)
		want, exists := m.byID[id]
		if err != nil || ok != exists || got != want {
			m.rt.Fatalf("found %s: %v %v %v, want %v %v", id, got, ok, err, want, exists)
		}
	}
}

func (m *model) list(q summary.Query) []event.Summary {
	var selected []event.Summary
	for _, id := range m.order {
		s := m.byID[id]
		if (q.Plate == "" || s.Plate == q.Plate) && !s.ExitAt.Before(q.From) && (q.To.IsZero() || s.ExitAt.Before(q.To)) {
			selected = append(selected, s)
		}
	}
	slices.SortStableFunc(selected, func(a, b event.Summary) int { return a.ExitAt.Compare(b.ExitAt) })
	return selected
}

func (m *model) stats() summary.Stats {
	all := m.list(summary.Query{})
	if len(all) == 0 {
		return summary.Stats{}
	}
	var total time.Duration
	for _, s := range all {
		total += s.Duration()
	}
	byDuration := func(a, b event.Summary) int { return cmp.Compare(a.Duration(), b.Duration()) }
	return summary.Stats{
		Count:     int64(len(all)),
		Mean:      total / time.Duration(len(all)),
		Shortest:  slices.MinFunc(all, byDuration).Duration(),
		Longest:   slices.MaxFunc(all, byDuration).Duration(),
		FirstExit: all[0].ExitAt,
		LastExit:  all[len(all)-1].ExitAt,
	}
}

func TestListBounds(t *testing.T) {
	t.Parallel()
	first, last := time.Date(1678, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2261, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
	d := open(t, Options{})
	insert(t, d,
		event.Summary{ID: "first", Plate: "P", EntryAt: first, ExitAt: first},
		visit("b", "P", 1), visit("c", "P", 2), visit("d", "P", 2), visit("e", "P", 3),
		event.Summary{ID: "last", Plate: "P", EntryAt: last, ExitAt: last})
	at := func(seconds int) time.Time { return morning().Add(time.Duration(seconds) * time.Second) }
	tests := []struct {
		name  string
		query summary.Query
		want  []string
	}{
		{"without bounds there is everything", summary.Query{}, []string{"first", "b", "c", "d", "e", "last"}},
		{"from is inclusive", summary.Query{From: at(2)}, []string{"c", "d", "e", "last"}},
		{"to is exclusive", summary.Query{To: at(2)}, []string{"first", "b"}},
		{"between equal bounds there is nothing", summary.Query{From: at(2), To: at(2)}, []string{}},
		{"between bounds in the wrong order there is nothing", summary.Query{From: at(3), To: at(1)}, []string{}},
		{"bounds beyond what can be stored are as good as none", summary.Query{From: time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, []string{"first", "b", "c", "d", "e", "last"}},
		{"before everything there is nothing", summary.Query{To: time.Date(3, 1, 1, 0, 0, 0, 0, time.UTC)}, []string{}},
		{"a position before from does not widen the query", summary.Query{From: at(3), After: summary.Position{ExitNanos: at(1).UnixNano(), Seq: 2}}, []string{"e", "last"}},
		{"a position inside equal exits continues between them", summary.Query{After: summary.Position{ExitNanos: at(2).UnixNano(), Seq: 3}}, []string{"d", "e", "last"}},
		{"a position after everything leaves nothing", summary.Query{After: summary.Position{ExitNanos: math.MaxInt64, Seq: math.MaxInt64}}, []string{}},
	}
	for _, tt := range tests {
		for _, plate := range []string{"", "P"} {
			t.Run(tt.name+" with plate "+plate, func(t *testing.T) {
				t.Parallel()
				q := tt.query
				q.Limit, q.Plate = 2, plate
				if diff := gocmp.Diff(tt.want, ids(list(t, d, q))); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestPlatesAreFoundInEverySection(t *testing.T) {
	t.Parallel()
	const rows, every = 10_000, 1_000 // more than two sections of 4096
	d := open(t, Options{NoSync: true})
	batch := make([]event.Summary, 0, rows)
	var want []string
	for i := range rows {
		plate := fmt.Sprintf("P-%d", i)
		if i%every == 0 {
			plate = "WANTED"
			want = append(want, fmt.Sprintf("id-%d", i))
		}
		batch = append(batch, visit(fmt.Sprintf("id-%d", i), plate, i))
	}
	insert(t, d, batch...)
	if diff := gocmp.Diff(want, ids(list(t, d, summary.Query{Plate: "WANTED", Limit: 3}))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestQueriesScanNothing(t *testing.T) {
	t.Parallel()
	d := open(t, Options{})
	tests := []struct {
		name, query string
		want, never []string
	}{
		{"a search for an id", findSQL, []string{"SEARCH summaries USING INDEX sqlite_autoindex_summaries_1 (id=?)"}, []string{"SCAN"}},
		{"a page of all", listAllSQL, []string{"SEARCH summaries USING INDEX summaries_by_exit"}, []string{"SCAN", "TEMP B-TREE"}},
		{"a page of a plate", listPlateSQL, []string{"SEARCH s USING INDEX summaries_by_plate (<expr>=? AND plate=?)"}, []string{"SCAN summaries"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			plan := strings.Join(queryPlan(t, d.readers.db, tt.query), "\n")
			for _, step := range tt.want {
				if !strings.Contains(plan, step) {
					t.Errorf("the plan lacks %q:\n%s", step, plan)
				}
			}
			for _, step := range tt.never {
				if strings.Contains(plan, step) {
					t.Errorf("the plan has %q:\n%s", step, plan)
				}
			}
		})
	}
}

func queryPlan(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, make([]any, strings.Count(query, "?"))...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}

func TestMeanOfMoreThan64Bits(t *testing.T) {
	t.Parallel()
	// 50 million visits of a day and a nanosecond take 4.3e21 ns.
	const visits, length = 50_000_000, 24*time.Hour + 1
	sum := totals{summaries: visits, seconds: visits * 86_400, nanos: visits}
	if got := sum.mean(); got != length {
		t.Errorf("mean is %v, want %v", got, length)
	}
}

func TestNanosOfASecondAreCarried(t *testing.T) {
	t.Parallel()
	d := open(t, Options{})
	length := time.Second - 1
	for i := range 3 {
		at := morning()
		insert(t, d, event.Summary{ID: fmt.Sprint(i), Plate: "P", EntryAt: at, ExitAt: at.Add(length)})
	}
	stats, err := d.Stats(t.Context())
	if err != nil || stats.Mean != length {
		t.Errorf("mean is %v (%v), want %v", stats.Mean, err, length)
	}
	var seconds, nanos int64
	if err := d.readers.db.QueryRow("SELECT seconds, nanos FROM totals").Scan(&seconds, &nanos); err != nil {
		t.Fatal(err)
	}
	if seconds != 2 || nanos != 1_000_000_000-3 {
		t.Errorf("totals are %d s and %d ns, want 2 s and 999999997 ns", seconds, nanos)
	}
}
