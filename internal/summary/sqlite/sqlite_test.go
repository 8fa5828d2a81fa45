package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/summarytest"
)

// open opens the database at c.Path, or a new database if c.Path is empty. It closes the database when the test ends.
func open(tb testing.TB, c Config) *Database {
	tb.Helper()
	if c.Path == "" {
		c.Path = filepath.Join(tb.TempDir(), "summaries.db")
	}
	d, err := Open(context.Background(), c)
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

func TestDatabase_PassesTheConformanceSuite(t *testing.T) {
	t.Parallel()
	summarytest.Run(t, func(tb testing.TB) summary.Database {
		tb.Helper()
		return open(tb, Config{NoSync: true})
	})
}

func TestDatabase_ClosedAndReopened_KeepsSummaries(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		path := filepath.Join(t.TempDir(), "summaries.db")
		want := summarytest.New()
		for range 2 {
			d, err := Open(context.Background(), Config{Path: path, NoSync: true})
			if err != nil {
				rt.Fatal(err)
			}
			for range rapid.IntRange(0, 3).Draw(rt, "batches") {
				summarytest.InsertRandomBatch(rt, d, want)
			}
			summarytest.Compare(rt, d, want)
			if err := d.Close(); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

// The index of plates has one section for every 4096 rows. A search by plate must look into all three sections of these
// rows.
func TestListSummaries_ByPlate_ManyRows_ReturnsEverySummaryOfThePlate(t *testing.T) {
	t.Parallel()
	const rows, every = 10_000, 1_000
	d := open(t, Config{NoSync: true})
	batch := make([]event.Summary, 0, rows)
	var want []string
	for i := range rows {
		plate := fmt.Sprintf("P-%d", i)
		if i%every == 0 {
			plate = "WANTED"
			want = append(want, fmt.Sprintf("id-%d", i))
		}
		batch = append(batch, summarytest.Visit(fmt.Sprintf("id-%d", i), plate, i))
	}
	summarytest.Insert(t, d, batch...)
	if diff := cmp.Diff(want, summarytest.IDs(summarytest.List(t, d, summary.Query{Plate: "WANTED", Limit: 3}))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSQLiteQueries_UseIndexes(t *testing.T) {
	t.Parallel()
	d := open(t, Config{})
	tests := []struct {
		name, query string
		want, never []string
	}{
		{"find by id", findSQL, []string{"SEARCH summaries USING INDEX sqlite_autoindex_summaries_1 (id=?)"}, []string{"SCAN"}},
		{"list all", listAllSQL, []string{"SEARCH summaries USING INDEX summaries_by_exit"}, []string{"SCAN", "TEMP B-TREE"}},
		{"list by plate", listPlateSQL, []string{"SEARCH s USING INDEX summaries_by_plate (<expr>=? AND plate=?)"}, []string{"SCAN summaries"}},
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

func TestSummaryTotals_SumExceeds64Bits_MeanIsExact(t *testing.T) {
	t.Parallel()
	// The sum of the durations of these visits, a day and a nanosecond each, exceeds 64 bits.
	const visits, length = 50_000_000, 24*time.Hour + 1
	sum := totals{summaries: visits, seconds: visits * 86_400, nanos: visits}
	if got := sum.mean(); got != length {
		t.Errorf("mean is %v, want %v", got, length)
	}
}

func TestSummaryTotals_CarryNanosecondsIntoSeconds(t *testing.T) {
	t.Parallel()
	d := open(t, Config{})
	length := time.Second - 1
	for i := range 3 {
		at := summarytest.Morning()
		summarytest.Insert(t, d, event.Summary{ID: fmt.Sprint(i), Plate: "P", EntryAt: at, ExitAt: at.Add(length)})
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

// The test copies the files of an open database. As after a crash, the latest summary is then only in the write-ahead
// log.
func TestOpenDatabase_ReadOnly_ReadsTheWriteAheadLogAndDoesNotChangeTheFile(t *testing.T) {
	t.Parallel()
	d := open(t, Config{})
	want := summarytest.Visit("a", "P", 1)
	summarytest.Insert(t, d, want)
	path := filepath.Join(t.TempDir(), "copy.db")
	read := func(name string) []byte {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, suffix := range []string{"", "-wal"} {
		if err := os.WriteFile(path+suffix, read(d.path+suffix), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := read(path)
	copied, err := Open(t.Context(), Config{Path: path, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]event.Summary{want}, summarytest.List(t, copied, summary.Query{Limit: 10})); diff != "" {
		t.Errorf("the summaries differ (-want +got):\n%s", diff)
	}
	if err := copied.Insert(t.Context(), []event.Summary{summarytest.Visit("b", "P", 1)}, make([]summary.Outcome, 1)); err == nil {
		t.Error("a summary was stored")
	}
	if err := copied.Close(); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(before, read(path)) {
		t.Error("the file was changed")
	}
}

func TestOpenDatabase_ReadOnly_UnusableFile_ReturnsAnError(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "empty.db")
	if _, err := Open(t.Context(), Config{Path: path, ReadOnly: true}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error for a missing file is %v, want an error with the path", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Path: path, ReadOnly: true}); err == nil || !strings.Contains(err.Error(), "empty.db is empty: give the path of a database that the parking command created") {
		t.Errorf("error for an empty file is %v, want an error that says that the file is empty", err)
	}
}
