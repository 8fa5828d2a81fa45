package memory_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/memory"
	"github.com/parking-operator/parking-operator/internal/summary/summarytest"
)

func TestDatabase_PassesTheConformanceSuite(t *testing.T) {
	t.Parallel()
	summarytest.Run(t, func(testing.TB) summary.Database { return memory.New() })
}

// List sorts only the rows that were added since its previous call. So the test calls List after each batch.
func TestList_AfterEachRandomBatch_ReturnsAllSummariesInOrderOfExitTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		d, want := memory.New(), summarytest.New()
		for range rapid.IntRange(1, 5).Draw(rt, "batches") {
			summarytest.InsertRandomBatch(rt, d, want)
			summarytest.Compare(rt, d, want)
		}
	})
}

func TestStats_SumOfDurationsExceeds64Bits_MeanIsExact(t *testing.T) {
	t.Parallel()
	d := memory.New()
	const longest = math.MaxInt64 - 1
	start := summary.Instant(math.MinInt64 / 2)
	batch := make([]event.Summary, 5)
	for i := range batch {
		batch[i] = event.Summary{ID: fmt.Sprint(i), Plate: "P", EntryAt: start, ExitAt: start.Add(longest)}
	}
	summarytest.Insert(t, d, batch...)
	want := summary.Stats{
		Count: 5, Mean: longest, Shortest: longest, Longest: longest,
		FirstExit: start.Add(longest), LastExit: start.Add(longest),
	}
	got, err := d.Stats(t.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("Stats returned the error %v or wrong totals (-want +got):\n%s", err, diff)
	}
}

// BenchmarkInsert stores summaries whose exits are nearly in order, in batches of 256.
func BenchmarkInsert(b *testing.B) {
	const size = 256
	d := memory.New()
	batch, outcomes := make([]event.Summary, size), make([]summary.Outcome, size)
	start := time.Now()
	for n := 0; b.Loop(); n += size {
		for i := range batch {
			at := start.Add(time.Duration(n+i^7) * time.Microsecond)
			batch[i] = event.Summary{ID: fmt.Sprintf("0123456789abcdef-0-%d", n+i), Plate: "ABC-1234", EntryAt: start, ExitAt: at}
		}
		if err := d.Insert(b.Context(), batch, outcomes); err != nil {
			b.Fatal(err)
		}
	}
}
