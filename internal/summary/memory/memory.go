// Package memory stores summaries in the memory of the process.
package memory

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/summary"
)

// Database implements summary.Database in memory, with about 150 bytes per summary. It is safe for concurrent use.
// List may read all summaries, and delays Insert meanwhile.
type Database struct {
	mu     sync.Mutex
	closed bool
	// rows contains the summaries in insertion order. The summary with the sequence number n has the index n-1.
	rows []row
	// byID maps each summary ID to the index of the summary in the field rows.
	byID map[string]int
	// byExit contains the indexes of all elements of rows. It is in the order of the exit times, except for the most
	// recent elements.
	byExit []int
	// sorted is the number of elements, from the beginning of byExit, that are sorted by exit time.
	sorted int
	totals totals
}

var _ summary.Database = (*Database)(nil)

// New returns an empty database.
func New() *Database { return &Database{byID: map[string]int{}} }

// row is a stored summary. Its times are Unix times in nanoseconds.
type row struct {
	id, plate   string
	entry, exit int64
}

func rowOf(s event.Summary) row {
	return row{id: s.ID, plate: s.Plate, entry: s.EntryAt.UnixNano(), exit: s.ExitAt.UnixNano()}
}

func (r *row) summary() event.Summary {
	return event.Summary{ID: r.id, Plate: r.plate, EntryAt: summary.Instant(r.entry), ExitAt: summary.Instant(r.exit)}
}

// totals contains the totals over all rows, in nanoseconds. The sum of the durations has 128 bits.
type totals struct {
	sumHigh, sumLow   uint64
	shortest, longest int64
	first, last       int64
}

func (t *totals) add(r *row, isFirst bool) {
	duration := r.exit - r.entry
	if isFirst {
		*t = totals{shortest: duration, longest: duration, first: r.exit, last: r.exit}
	}
	var carry uint64
	t.sumLow, carry = bits.Add64(t.sumLow, uint64(duration), 0)
	t.sumHigh += carry
	t.shortest, t.longest = min(t.shortest, duration), max(t.longest, duration)
	t.first, t.last = min(t.first, r.exit), max(t.last, r.exit)
}

// String implements summary.Database.
func (d *Database) String() string { return "in the memory of this process" }

// Insert implements summary.Database.
func (d *Database) Insert(ctx context.Context, summaries []event.Summary, outcomes []summary.Outcome) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(ctx); err != nil {
		return err
	}
	for i := range summaries {
		outcomes[i] = d.insert(rowOf(summaries[i]))
	}
	return nil
}

func (d *Database) insert(r row) summary.Outcome {
	if at, exists := d.byID[r.id]; exists {
		if d.rows[at] == r {
			return summary.Known
		}
		return summary.Conflicting
	}
	// The ID and the plate may be substrings of a whole message. Copy these strings, so that the message can be freed.
	texts := r.id + r.plate
	r.id, r.plate = texts[:len(r.id)], texts[len(r.id):]
	d.totals.add(&r, len(d.rows) == 0)
	d.byID[r.id] = len(d.rows)
	d.byExit = append(d.byExit, len(d.rows))
	d.rows = append(d.rows, r)
	return summary.Created
}

// Find implements summary.Database.
func (d *Database) Find(ctx context.Context, id string) (event.Summary, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(ctx); err != nil {
		return event.Summary{}, false, err
	}
	at, exists := d.byID[id]
	if !exists {
		return event.Summary{}, false, nil
	}
	return d.rows[at].summary(), true, nil
}

// List implements summary.Database.
func (d *Database) List(ctx context.Context, q summary.Query) (summary.Page, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(ctx); err != nil {
		return summary.Page{}, err
	}
	d.sort()
	after, last := q.Bounds()
	start, found := slices.BinarySearchFunc(d.byExit, after, func(index int, p summary.Position) int {
		return comparePositions(d.position(index), p)
	})
	if found {
		start++
	}
	var page summary.Page
	var previous int
	for _, index := range d.byExit[start:] {
		r := &d.rows[index]
		if r.exit > last {
			break
		}
		if q.Plate != "" && r.plate != q.Plate {
			continue
		}
		if len(page.Summaries) == q.Limit {
			page.Next = d.position(previous)
			break
		}
		page.Summaries = append(page.Summaries, r.summary())
		previous = index
	}
	return page, nil
}

// sort restores the order of byExit. Summaries arrive nearly in this order, so it sorts only the end.
func (d *Database) sort() {
	if d.sorted == len(d.byExit) {
		return
	}
	inOrder := func(a, b int) int { return comparePositions(d.position(a), d.position(b)) }
	earliest := slices.MinFunc(d.byExit[d.sorted:], inOrder)
	from, _ := slices.BinarySearchFunc(d.byExit[:d.sorted], earliest, inOrder)
	slices.SortFunc(d.byExit[from:], inOrder)
	d.sorted = len(d.byExit)
}

func (d *Database) position(index int) summary.Position {
	return summary.Position{ExitNanos: d.rows[index].exit, Seq: int64(index + 1)}
}

func comparePositions(a, b summary.Position) int {
	return cmp.Or(cmp.Compare(a.ExitNanos, b.ExitNanos), cmp.Compare(a.Seq, b.Seq))
}

// Stats implements summary.Database.
func (d *Database) Stats(ctx context.Context) (summary.Stats, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(ctx); err != nil || len(d.rows) == 0 {
		return summary.Stats{}, err
	}
	t := &d.totals
	// Div64 cannot panic here: there is at least one row, and the mean of 63-bit durations has at most 63 bits.
	mean, _ := bits.Div64(t.sumHigh, t.sumLow, uint64(len(d.rows)))
	return summary.Stats{
		Count: int64(len(d.rows)), Mean: time.Duration(mean),
		Shortest: time.Duration(t.shortest), Longest: time.Duration(t.longest),
		FirstExit: summary.Instant(t.first), LastExit: summary.Instant(t.last),
	}, nil
}

// Close implements summary.Database.
func (d *Database) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.rows, d.byID, d.byExit = nil, nil, nil
	return nil
}

func (d *Database) usable(ctx context.Context) error {
	if d.closed {
		return fmt.Errorf("the database in memory is %w", summary.ErrClosed)
	}
	return ctx.Err()
}
