package postgres

import (
	"context"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/summarytest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// replaceWriter replaces the connection pool for inserts. The function change edits the configuration of the new pool.
func replaceWriter(t *testing.T, d *Database, change func(*pgxpool.Config)) {
	t.Helper()
	config := d.writer.Config()
	change(config)
	d.writer.Close()
	var err error
	d.writer, err = pgxpool.NewWithConfig(d.running, config)
	must(t, err)
}

// statementCounter counts the statements that clients send. It implements pgx.QueryTracer.
type statementCounter struct{ atomic.Int64 }

func (c *statementCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.Add(1)
	return ctx
}

func (*statementCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A batch is one statement, whatever its size. If some of its summaries were already stored, a second statement reads
// these.
func TestInsert_ManySummaries_SendsOneStatement(t *testing.T) {
	t.Parallel()
	d := open(t, servers.PostgresURI(t))
	sent := &statementCounter{}
	replaceWriter(t, d, func(c *pgxpool.Config) {
		readBinding := c.BeforeConnect
		c.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
			err := readBinding(ctx, c)
			c.Tracer = sent
			return err
		}
	})
	mustInsert(t, d, "the first insert connects and creates the tables")
	for _, tt := range []struct {
		name string
		want int64
	}{
		{"new summaries", 1},
		{"the same summaries again", 2},
	} {
		sent.Store(0)
		must(t, d.Insert(t.Context(), batchOf(1), make([]summary.Outcome, batchRows)))
		if got := sent.Load(); got != tt.want {
			t.Errorf("%d %s took %d statements, want %d", batchRows, tt.name, got, tt.want)
		}
	}
}

// The server runs with synchronous_commit=off, so it confirms commits before it writes them to the disk. The test stops
// the WAL writer and kills the server.
func TestInsert_ServerKilledBeforeWALWriterRuns_KeepsSummariesOnlyWithSynchronousCommit(t *testing.T) {
	t.Parallel()
	server := servers.NewPostgres(t, servers.PostgresOptions{Config: []string{"synchronous_commit=off"}})
	const accepted = 20
	for _, tt := range []struct {
		name   string
		change func(*pgxpool.Config)
		loses  bool
	}{
		{"with the setting", func(*pgxpool.Config) {}, false},
		{"without the setting", func(c *pgxpool.Config) { c.AfterConnect = nil }, true},
	} {
		t.Run(tt.name, func(t *testing.T) { // not in parallel, because the subtests kill the server
			d := open(t, database(t, server))
			polltest.UntilNoError(t, "create the tables", func() error { return d.Prepare(t.Context()) })
			replaceWriter(t, d, tt.change)
			stopWALWriter(t, server)
			for n := range accepted {
				mustInsert(t, d, strconv.Itoa(n))
			}
			must(t, server.Kill())
			must(t, server.Start(t.Context()))
			if stored := len(summarytest.List(t, d, summary.Query{Limit: 1000})); (stored < accepted) != tt.loses {
				t.Errorf("%d of %d accepted summaries are stored after the crash; some are lost: want %t", stored, accepted, tt.loses)
			}
		})
	}
}

// stopWALWriter suspends the WAL writer, a process of the server, until the server is killed.
func stopWALWriter(t *testing.T, server *servers.Postgres) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URI())
	must(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	var pid int
	polltest.UntilNoError(t, "the WAL writer runs", func() error {
		return conn.QueryRow(t.Context(), "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'").Scan(&pid)
	})
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
}
