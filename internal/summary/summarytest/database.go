package summarytest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// Database is an in-memory implementation of summary.Database for tests. Every query scans all summaries. A Database is
// safe for concurrent use.
type Database struct {
	mu     sync.RWMutex
	closed bool
	// The field stored contains all summaries in insertion order. The Position.Seq of a summary is its index plus 1.
	stored []event.Summary
	byID   map[string]event.Summary
}

var _ summary.Database = (*Database)(nil)

// New returns an empty database.
func New() *Database { return &Database{byID: map[string]event.Summary{}} }

// String implements summary.Database.
func (d *Database) String() string { return "in memory" }

// Insert implements summary.Database.
func (d *Database) Insert(ctx context.Context, summaries []event.Summary, outcomes []summary.Outcome) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(ctx); err != nil {
		return err
	}
	for i, s := range summaries {
		outcomes[i] = d.insert(s)
	}
	return nil
}

func (d *Database) insert(s event.Summary) summary.Outcome {
	switch stored, exists := d.byID[s.ID]; {
	case !exists:
		d.byID[s.ID] = s
		d.stored = append(d.stored, s)
		return summary.Created
	case stored == s:
		return summary.Known
	default:
		return summary.Conflicting
	}
}

// Find implements summary.Database.
func (d *Database) Find(ctx context.Context, id string) (event.Summary, bool, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.usable(ctx); err != nil {
		return event.Summary{}, false, err
	}
	s, exists := d.byID[id]
	return s, exists, nil
}

// row is a stored summary with its position in the results of List.
type row struct {
	event.Summary
	summary.Position
}

// List implements summary.Database.
func (d *Database) List(ctx context.Context, q summary.Query) (summary.Page, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.usable(ctx); err != nil {
		return summary.Page{}, err
	}
	var page summary.Page
	var last summary.Position
	for _, r := range d.selected(q) {
		if len(page.Summaries) == q.Limit {
			page.Next = last
			break
		}
		page.Summaries = append(page.Summaries, r.Summary)
		last = r.Position
	}
	return page, nil
}

// selected returns all summaries that match a query. It ignores the limit of the query.
func (d *Database) selected(q summary.Query) []row {
	var rows []row
	for i, s := range d.stored {
		at := summary.Position{ExitNanos: s.ExitAt.UnixNano(), Seq: int64(i + 1)}
		after := at.ExitNanos > q.After.ExitNanos || at.ExitNanos == q.After.ExitNanos && at.Seq > q.After.Seq
		if (q.Plate == "" || s.Plate == q.Plate) && !s.ExitAt.Before(q.From) &&
			(q.To.IsZero() || s.ExitAt.Before(q.To)) && (q.After.IsZero() || after) {
			rows = append(rows, row{s, at})
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return a.ExitAt.Compare(b.ExitAt) })
	return rows
}

// Stats implements summary.Database.
func (d *Database) Stats(ctx context.Context) (summary.Stats, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.usable(ctx); err != nil || len(d.stored) == 0 {
		return summary.Stats{}, err
	}
	first := d.stored[0]
	stats := summary.Stats{
		Shortest: first.Duration(), Longest: first.Duration(), FirstExit: first.ExitAt, LastExit: first.ExitAt,
	}
	var total time.Duration
	for _, s := range d.stored {
		stats.Count++
		total += s.Duration()
		stats.Shortest, stats.Longest = min(stats.Shortest, s.Duration()), max(stats.Longest, s.Duration())
		if s.ExitAt.Before(stats.FirstExit) {
			stats.FirstExit = s.ExitAt
		}
		if s.ExitAt.After(stats.LastExit) {
			stats.LastExit = s.ExitAt
		}
	}
	stats.Mean = total / time.Duration(stats.Count)
	return stats, nil
}

// Close implements summary.Database.
func (d *Database) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return nil
}

func (d *Database) usable(ctx context.Context) error {
	if d.closed {
		return fmt.Errorf("the in-memory database is %w", summary.ErrClosed)
	}
	return ctx.Err()
}
