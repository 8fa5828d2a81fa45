package postgres

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/sqlite"
	"github.com/parking-operator/parking-operator/test/servers"
)

// BenchmarkServicePost posts single summaries from concurrent goroutines. SQLite and PostgreSQL use the same disk and
// sync each commit.
func BenchmarkServicePost(b *testing.B) {
	databases := []struct {
		name string
		open func(b *testing.B) []summary.Database
	}{
		{"sqlite", func(b *testing.B) []summary.Database {
			b.Helper()
			db, err := sqlite.Open(b.Context(), sqlite.Config{Path: filepath.Join(b.TempDir(), "summaries.db")})
			if err != nil {
				b.Fatal(err)
			}
			return []summary.Database{db}
		}},
		{"postgres", func(b *testing.B) []summary.Database {
			b.Helper()
			return []summary.Database{open(b, servers.PostgresURI(b))}
		}},
		{"postgres-3-services", func(b *testing.B) []summary.Database {
			b.Helper()
			uri := servers.PostgresURI(b)
			return []summary.Database{open(b, uri), open(b, uri), open(b, uri)}
		}},
	}
	for _, posters := range []int{1, 256} {
		for _, database := range databases {
			b.Run(fmt.Sprintf("posters=%d/%s", posters, database.name), func(b *testing.B) {
				post(b, database.open(b), posters)
			})
		}
	}
}

// post starts one service for each database, and distributes the posting goroutines over the services. Together, the
// goroutines post b.N summaries.
func post(b *testing.B, databases []summary.Database, posters int) {
	b.Helper()
	var services []*summary.Service
	for _, db := range databases {
		if err := db.Insert(b.Context(), nil, nil); err != nil { // the first Insert into a database creates the tables
			b.Fatal(err)
		}
		service, err := summary.New(db, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = service.Close() }()
		services = append(services, service)
	}
	run := event.NewRun()
	var next atomic.Int64
	var group sync.WaitGroup
	b.ResetTimer()
	for i := range posters {
		service := services[i%len(services)]
		group.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				exit := time.Unix(1_772_352_000, n*40_000)
				s := event.Summary{
					ID: event.ID{Run: run, Seq: n}.String(), Plate: fmt.Sprintf("P-%06d", n*7_368_787%1_000_000),
					EntryAt: exit.Add(-2 * time.Second).UTC(), ExitAt: exit.UTC(),
				}
				if err := service.Post(b.Context(), s); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
