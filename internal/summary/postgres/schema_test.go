package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/summarytest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// execute runs SQL statements as the owner of the database.
func execute(t *testing.T, uri string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), uri)
	must(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	for _, statement := range statements {
		_, err := conn.Exec(t.Context(), statement)
		must(t, err)
	}
}

func TestDatabasePrepare_OlderSchema_KeepsSummariesAndCountsThem(t *testing.T) {
	t.Parallel()
	uri := servers.PostgresURI(t)
	d := open(t, uri)
	config, err := d.connConfig()
	must(t, err)
	db := stdlib.OpenDB(*config)
	provider, err := d.provider(db)
	must(t, err)
	_, err = provider.UpTo(t.Context(), 1)
	must(t, err)
	must(t, db.Close())
	a, b := summarytest.Visit("a", "P", 3), summarytest.Visit("b", "P", 1)
	for _, s := range []event.Summary{a, b} {
		execute(t, uri, fmt.Sprintf("INSERT INTO summaries VALUES (nextval('summaries_seq'), '%s', '%s', %d, %d)", s.ID, s.Plate, s.EntryAt.UnixNano(), s.ExitAt.UnixNano()))
	}

	c := summarytest.Visit("c", "P", 2)
	outcomes := summarytest.Insert(t, d, a, c)
	if want := []summary.Outcome{summary.Known, summary.Created}; !slices.Equal(outcomes, want) {
		t.Errorf("the outcomes are %v, want %v", outcomes, want)
	}
	if diff := cmp.Diff([]event.Summary{b, c, a}, summarytest.List(t, d, summary.Query{Limit: 2})); diff != "" {
		t.Errorf("the stored summaries differ (-want +got):\n%s", diff)
	}
	stats, err := d.Stats(t.Context())
	want := summary.Stats{Count: 3, Mean: 2 * time.Second, Shortest: time.Second, Longest: 3 * time.Second, FirstExit: b.ExitAt, LastExit: a.ExitAt}
	if diff := cmp.Diff(want, stats); diff != "" || err != nil {
		t.Errorf("Stats returned the error %v or wrong totals (-want +got):\n%s", err, diff)
	}
}

func TestDatabasePrepare_UnusableDatabase_ReturnsAnErrorWithTheRemedy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		prepare func(t *testing.T, uri string)
		want    []string
	}{
		{"a newer schema", func(t *testing.T, uri string) {
			t.Helper()
			must(t, open(t, uri).Prepare(t.Context()))
			execute(t, uri, "INSERT INTO "+versionTable+" (version_id, is_applied) VALUES (99, true)")
		}, []string{"schema version 99", "supports versions up to 2 only", "use the version of parking that migrated the tables"}},
		{"tables of another program", func(t *testing.T, uri string) {
			t.Helper()
			execute(t, uri, "CREATE TABLE summaries (text text)")
		}, []string{"tables of another program", "use another schema or database"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			uri := servers.PostgresURI(t)
			tt.prepare(t, uri)
			err := open(t, uri).Prepare(t.Context())
			if _, ok := errors.AsType[*UnusableError](err); !ok {
				t.Errorf("error %v is not an *UnusableError", err)
			}
			for _, part := range tt.want {
				wantError(t, err, uri, part)
			}
		})
	}
}

func TestDatabasePrepare_ManyProcessesAtOnce_AllSucceed(t *testing.T) {
	t.Parallel()
	uri := servers.PostgresURI(t)
	var wg sync.WaitGroup
	for range 6 {
		d := openSchema(t, uri, "several")
		wg.Go(func() {
			err := d.Prepare(context.Background())
			// On a busy machine, waiting for the migrations of the other goroutines may exceed the deadline of Prepare.
			for errors.Is(err, context.DeadlineExceeded) {
				err = d.Prepare(context.Background())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Two processes store the same summaries in opposite orders while a third process lists the summaries. Each listing
// must contain exactly once every summary that was stored when the listing began.
func TestInsert_TwoProcesses_CreateEachSummaryOnceAndListingsAreStable(t *testing.T) {
	t.Parallel()
	uri := servers.PostgresURI(t)
	const batches = 15
	var wg sync.WaitGroup
	created := make([]map[string]int, 2)
	for i := range created {
		d := open(t, uri)
		must(t, d.Prepare(t.Context()))
		created[i] = map[string]int{}
		wg.Go(func() {
			for n := range batches {
				batch := batchOf(n)
				for j := range batch {
					// All summaries have the same exit time, so the sequence numbers determine their order.
					batch[j].ExitAt = summarytest.Morning().Add(time.Minute)
				}
				if i == 1 {
					slices.Reverse(batch)
				}
				outcomes := make([]summary.Outcome, len(batch))
				if err := d.Insert(context.Background(), batch, outcomes); err != nil {
					t.Error(err)
				}
				for j, outcome := range outcomes {
					switch outcome {
					case summary.Created:
						created[i][batch[j].ID]++
					case summary.Known:
					default:
						t.Errorf("the outcome of %s is %v", batch[j].ID, outcome)
					}
				}
			}
		})
	}
	reader := open(t, uri)
	finished := make(chan struct{})
	go func() {
		wg.Wait()
		close(finished)
	}()
	for listing := true; listing; {
		select {
		case <-finished:
			listing = false
		default:
		}
		before, err := reader.Stats(t.Context())
		must(t, err)
		ids := summarytest.IDs(summarytest.List(t, reader, summary.Query{Limit: 37}))
		slices.Sort(ids)
		if unique := len(slices.Compact(slices.Clone(ids))); unique != len(ids) || int64(unique) < before.Count {
			t.Fatalf("a listing has %d summaries, %d of them different; %d were stored before", len(ids), unique, before.Count)
		}
	}
	if n := len(created[0]) + len(created[1]); n != batches*batchRows {
		t.Errorf("%d summaries were created, want %d", n, batches*batchRows)
	}
	for id := range created[0] {
		if created[1][id] > 0 {
			t.Errorf("both processes have created %s", id)
		}
	}
}

func TestInsert_TablesDropped_CreatesThemAgain(t *testing.T) {
	t.Parallel()
	uri := servers.PostgresURI(t)
	d := openSchema(t, uri, "dropped")
	mustInsert(t, d, "a")
	execute(t, uri, "DROP SCHEMA dropped CASCADE")
	polltest.UntilNoError(t, "insert after the tables were dropped", func() error { return insertOne(d, "a") })
}

// No migration creates a dropped table again, because the version of the schema is still stored. So the error must say
// to drop the schema.
func TestInsert_OneTableDropped_ErrorSaysToDropTheSchema(t *testing.T) {
	t.Parallel()
	uri := servers.PostgresURI(t)
	d := openSchema(t, uri, "incomplete")
	mustInsert(t, d, "a")
	execute(t, uri, "DROP TABLE incomplete.summaries CASCADE")
	for range 2 {
		wantError(t, insertOne(d, "a"), uri, "drop the whole schema so that all tables are created again")
	}
	execute(t, uri, "DROP SCHEMA incomplete CASCADE")
	polltest.UntilNoError(t, "insert after the schema was dropped", func() error { return insertOne(d, "a") })
}

// The tables are intact, in the schema public. So the error must not advise the user to drop a schema.
func TestDatabasePrepare_SchemaOfSearchPathIsMissing_ErrorSaysToCreateIt(t *testing.T) {
	t.Parallel()
	uri := servers.PostgresURI(t)
	must(t, open(t, uri).Prepare(t.Context()))
	for _, parameter := range []string{"search_path=nosuch", "options=-c%20search_path%3Dnosuch"} {
		err := open(t, uri+"?"+parameter).Prepare(t.Context())
		wantError(t, err, uri, "lacks the schema in search_path, or does not let the user use it; create it")
		if strings.Contains(err.Error(), "drop") {
			t.Errorf("%s: the error says to drop something: %v", parameter, err)
		}
	}
	execute(t, uri, "CREATE SCHEMA nosuch")
	must(t, open(t, uri+"?search_path=nosuch").Prepare(t.Context()))
}

func TestInsert_SchemaOfSearchPathDropped_ErrorSaysToCreateIt(t *testing.T) {
	t.Parallel()
	uri := servers.PostgresURI(t)
	must(t, open(t, uri).Prepare(t.Context()))
	execute(t, uri, "CREATE SCHEMA dropped")
	d := open(t, uri+"?search_path=dropped")
	mustInsert(t, d, "a")
	execute(t, uri, "DROP SCHEMA dropped CASCADE")
	wantError(t, insertOne(d, "a"), uri, "lacks the schema in search_path")
	execute(t, uri, "CREATE SCHEMA dropped")
	mustInsert(t, d, "a")
}

func TestNewDatabase_InvalidConfiguration_ReturnsErrorOfTypeUnusableError(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, uri, schema, want string }{
		{"a schema name with upper-case letters", "postgres://h/d", "A", "lower-case letters"},
		{"a schema name of PostgreSQL", "postgres://h/d", "pg_x", "not begin with pg_"},
		{"an invalid parameter", "postgres://u:s3cret@h/d?sslmode=s3cret", "", "check sslmode"},
		{"no user name", "postgres://h/d", "", "has no user name: put it into the URI"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := New(Config{Schema: tt.schema}, Dependencies{Binding: static(t, tt.uri)})
			if _, ok := errors.AsType[*UnusableError](err); !ok || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
}
