package summary_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/summarytest"
)

// failingTarget fails when it has stored the given number of batches.
type failingTarget struct {
	summary.Database
	batches int
}

func (d *failingTarget) Insert(ctx context.Context, summaries []event.Summary, outcomes []summary.Outcome) error {
	if d.batches--; d.batches < 0 {
		return errors.New("the connection is lost")
	}
	return d.Database.Insert(ctx, summaries, outcomes)
}

func TestCopySummaries_AfterAnInterruption_ContinuesAndKeepsTheOrder(t *testing.T) {
	t.Parallel()
	from, to := summarytest.New(), summarytest.New()
	const total = 9000
	batch := newVisits().batch(total)
	for i := range batch {
		// All summaries have the same exit time, so the time does not determine the order.
		batch[i].ExitAt = batch[0].ExitAt
	}
	summarytest.Insert(t, from, batch...)
	quiet := func(summary.CopyResult) {}
	if _, err := summary.Copy(t.Context(), from, &failingTarget{to, 1}, quiet); err == nil || !strings.Contains(err.Error(), "the connection is lost") {
		t.Fatalf("error is %v, want that of the target", err)
	}
	result, err := summary.Copy(t.Context(), from, to, quiet)
	if want := (summary.CopyResult{Created: total - 4096, Known: 4096}); err != nil || result != want {
		t.Errorf("result is %+v (%v), want %+v", result, err, want)
	}
	all := summary.Query{Limit: total}
	if diff := cmp.Diff(summarytest.List(t, from, all), summarytest.List(t, to, all)); diff != "" {
		t.Errorf("the databases differ (-from +to):\n%s", diff)
	}
}

func TestCopySummaries_Conflict_ReturnsAnErrorWithTheID(t *testing.T) {
	t.Parallel()
	from, to := summarytest.New(), summarytest.New()
	summarytest.Insert(t, from, summarytest.Visit("a", "P", 1), summarytest.Visit("b", "P", 1))
	summarytest.Insert(t, to, summarytest.Visit("b", "P", 2))
	result, err := summary.Copy(t.Context(), from, to, func(summary.CopyResult) {})
	if err == nil || !strings.Contains(err.Error(), `1 of 2 summaries were not copied`) || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("error is %v, want one with the identifier", err)
	}
	if result.Created != 1 {
		t.Errorf("result is %+v, want the other summary to be created", result)
	}
}

// Earlier versions of the summary API accepted texts that PostgreSQL cannot store, so a source database may contain
// them.
func TestCopySummaries_InvalidSummaryInTheSource_ReturnsAnErrorWithTheID(t *testing.T) {
	t.Parallel()
	from, to := summarytest.New(), summarytest.New()
	summarytest.Insert(t, from, summarytest.Visit("a", "P", 1), summarytest.Visit("b", "P\x00", 1))
	_, err := summary.Copy(t.Context(), from, to, func(summary.CopyResult) {})
	if err == nil || !strings.Contains(err.Error(), `"b"`) || !strings.Contains(err.Error(), "U+0000") {
		t.Errorf("error is %v, want one with the identifier and the reason", err)
	}
}
