package postgres

import (
	"testing"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/privateserver"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/summarytest"
	"github.com/parking-operator/parking-operator/test/servers"
)

func TestMain(m *testing.M) { servers.Main(m) }

func open(tb testing.TB, uri string) *Database {
	tb.Helper()
	return openSchema(tb, uri, "")
}

func openSchema(tb testing.TB, uri, schema string) *Database {
	tb.Helper()
	d, err := New(Config{Schema: schema}, Dependencies{Binding: static(tb, uri)})
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

func static(tb testing.TB, uri string) binding.Source {
	tb.Helper()
	source, err := binding.URI(binding.PostgreSQL(), uri, "")
	if err != nil {
		tb.Fatal(err)
	}
	return source
}

func TestDatabase_PassesTheConformanceSuite(t *testing.T) {
	uri := servers.PostgresURI(t)
	unused := make(chan string, 100)
	summarytest.Run(t, func(tb testing.TB) summary.Database {
		tb.Helper()
		return openReusable(tb, uri, unused)
	})
}

// reusable is a database whose schema another test reuses after Close, because creating the tables is slow.
type reusable struct {
	*Database
	unused chan<- string
}

func openReusable(tb testing.TB, uri string, unused chan string) *reusable {
	tb.Helper()
	select {
	case schema := <-unused:
		d := openSchema(tb, uri, schema)
		for _, statement := range []string{
			"TRUNCATE summaries RESTART IDENTITY",
			"UPDATE summary_totals SET summaries = 0, nanos = 0, shortest = NULL, longest = NULL, first_exit = NULL, last_exit = NULL",
		} {
			if _, err := d.writer.Exec(tb.Context(), statement); err != nil {
				tb.Fatal(err)
			}
		}
		d.prepared.Store(true)
		return &reusable{d, unused}
	default:
		return &reusable{openSchema(tb, uri, "s"+privateserver.RandomHex(8)), unused}
	}
}

func (r *reusable) Close() error {
	select {
	case r.unused <- r.schema:
	default:
	}
	return r.Database.Close()
}
