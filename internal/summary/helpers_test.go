package summary_test

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/rest"
	"github.com/parking-operator/parking-operator/internal/summary/sqlite"
)

// visits generates the summaries of successive visits. Their plates are in random order.
type visits struct {
	run  string
	next atomic.Int64
}

func newVisits() *visits { return &visits{run: event.NewRun()} }

func (v *visits) generate() event.Summary {
	seq := v.next.Add(1) - 1
	exitAt := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC).Add(time.Duration(seq) * 40 * time.Microsecond)
	return event.Summary{
		ID:    event.ID{Run: v.run, Seq: seq}.String(),
		Plate: plate(seq), EntryAt: exitAt.Add(-2 * time.Second), ExitAt: exitAt,
	}
}

// plate returns the n-th plate. The first 26³·10⁴ plates are all different. Successive plates are not in alphabetical
// order.
func plate(n int64) string {
	const letters, digits = 26 * 26 * 26, 10_000
	n = n * 7_368_787 % (letters * digits) // the factor and the modulus are coprime, so each n has its own plate
	l, d := n/digits, n%digits
	return fmt.Sprintf("%c%c%c-%04d", 'A'+l/676, 'A'+l/26%26, 'A'+l%26, d)
}

func (v *visits) batch(n int) []event.Summary {
	summaries := make([]event.Summary, n)
	for i := range summaries {
		summaries[i] = v.generate()
	}
	return summaries
}

// newService returns a service with a new SQLite database.
func newService(tb testing.TB) *summary.Service {
	tb.Helper()
	s, _ := newServiceWithMetrics(tb)
	return s
}

func newServiceWithMetrics(tb testing.TB) (*summary.Service, *prometheus.Registry) {
	tb.Helper()
	db, err := sqlite.Open(tb.Context(), sqlite.Config{Path: filepath.Join(tb.TempDir(), "summaries.db")})
	if err != nil {
		tb.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	s, err := summary.New(db, registry, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s, registry
}

// newServer serves the API of a service on the loopback interface.
func newServer(tb testing.TB, s rest.Summaries) *httptest.Server {
	tb.Helper()
	handler, err := rest.New(rest.Dependencies{
		Summaries: s, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	server := httptest.NewServer(handler)
	tb.Cleanup(server.Close)
	return server
}
