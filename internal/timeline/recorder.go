package timeline

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"
)

// Totals returns what a process has measured since it started. It sets only the counts, the histograms, the lag and the
// gauges of the Row.
type Totals func() Row

// Sink stores the rows of a process. Every store implements it.
type Sink interface {
	// AppendTimeline appends rows. It returns nil once the rows survive a crash of the store. Appending the same rows
	// again has no effect.
	AppendTimeline(ctx context.Context, process string, rows []Row) error
	// CompactTimeline merges rows that are old at the time now into rows that cover a longer time.
	CompactTimeline(ctx context.Context, now time.Time) error
}

const (
	// interval is how often the recorder measures.
	interval = time.Second
	// compaction is the mean time between two compactions, which merge old rows.
	compaction = time.Minute
	// sendTimeout is the timeout of one attempt to send rows to the sink.
	sendTimeout = 10 * time.Second
	// maxPending is the maximum number of rows that wait for the sink, enough for an hour. Surplus old rows are
	// dropped, and their events count as unmeasured.
	maxPending = 3600
	// maxAhead is how many seconds the latest row may be ahead of the clock. A larger difference means that the clock
	// was set back.
	maxAhead = 2
)

// Recorder records the measurements of one process. It sends at most one row per second to a sink.
type Recorder struct {
	component string
	totals    Totals
	sink      Sink
	log       *slog.Logger

	mu      sync.Mutex
	process string // the name under which the sink stores the rows of this process
	before  Row
	last    int64  // the Unix time of the latest row, in seconds
	gauges  Gauges // the gauges of the latest row
	pending []pendingRow
	marks   []Mark
}

// pendingRow is a row that is not stored yet, with the name of its process.
type pendingRow struct {
	process string
	Row
}

// NewRecorder returns a recorder for one process. A restarted component counts as a new process.
func NewRecorder(component string, totals Totals, sink Sink, log *slog.Logger) *Recorder {
	return &Recorder{component: component, process: NewProcess(component), totals: totals, sink: sink, log: log}
}

// NewProcess returns a unique name for a process of a component.
func NewProcess(component string) string { return component + "-" + rand.Text() }

// Mark records a notable event in the row of the current second.
func (r *Recorder) Mark(m Mark) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.marks) < maxMarks {
		r.marks = append(r.marks, m)
	}
}

// Record stores marks, which must be in chronological order, for a process that has no Recorder. The parameter process
// is a result of NewProcess. A retry with the same parameters stores no mark twice.
func Record(ctx context.Context, sink Sink, process string, marks ...Mark) error {
	if len(marks) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	rows := AddMarks(nil, marks[0].At, marks[len(marks)-1].At.Add(interval), marks...)
	return sink.AppendTimeline(ctx, process, rows)
}

// Run records rows until ctx ends. It then sends the remaining rows, with retries until closing ends. The error says
// how many rows were not sent. Call Run only once.
func (r *Recorder) Run(ctx, closing context.Context) error {
	due := make(chan struct{}, 1)
	var work sync.WaitGroup
	work.Go(func() { r.send(ctx, due) })
	work.Go(func() { r.compact(ctx) })

	// Measure at whole seconds, so that each row covers one second of the clock.
	timer := time.NewTimer(time.Until(time.Now().Truncate(interval).Add(interval)))
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case now := <-timer.C:
			timer.Reset(untilNext(time.Now()))
			r.measure(now)
			select {
			case due <- struct{}{}:
			default: // one signal is enough, because the method send sends all pending rows
			}
		}
	}
	work.Wait()
	r.measure(time.Now())
	return r.finish(closing)
}

// untilNext returns the time until one second after the nearest whole second. With the next whole second instead, a
// timer that fires early would fire again at once.
func untilNext(now time.Time) time.Duration { return now.Round(interval).Add(interval).Sub(now) }

// measure adds a pending row with the changes since the last row, unless nothing has changed.
func (r *Recorder) measure(now time.Time) {
	totals := r.totals()
	r.mu.Lock()
	defer r.mu.Unlock()
	// If the clock was set back, continue under a new process name. Under the old name, a sink may ignore the new rows
	// as repetitions.
	if now.Unix()-1 < r.last-maxAhead {
		r.process, r.last = NewProcess(r.component), 0
	}
	row := Row{
		// The timer fires at the end of the second that the row describes. Each row of a process needs a later second
		// than the row before.
		Second: max(r.last+1, now.Round(interval).Unix()-1),
		Entry:  totals.Entry.since(&r.before.Entry),
		Exit:   totals.Exit.since(&r.before.Exit),
		Gauges: totals.Gauges,
		Marks:  r.marks,
	}
	if row.Entry.IsZero() && row.Exit.IsZero() && row.Gauges.equal(r.gauges) && len(row.Marks) == 0 {
		return
	}
	r.before, r.last, r.gauges, r.marks = totals, row.Second, row.Gauges, nil
	r.pending = append(r.pending, pendingRow{r.process, row})
	r.pending = r.pending[max(0, len(r.pending)-maxPending):]
}

// send sends rows to the sink whenever they are due, until ctx ends.
func (r *Recorder) send(ctx context.Context, due <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
			if err := r.flush(ctx); err != nil && ctx.Err() == nil {
				r.log.Debug("Failed to store rows of the timeline; they are sent again with the next rows", "error", err)
			}
		}
	}
}

func (r *Recorder) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	for {
		process, rows := r.next()
		if len(rows) == 0 {
			return nil
		}
		if err := r.sink.AppendTimeline(ctx, process, rows); err != nil {
			return err
		}
		r.sent(process, rows[len(rows)-1].Second)
	}
}

// next returns the first pending rows that belong to the same process, and the name of this process.
func (r *Recorder) next() (process string, rows []Row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pending {
		if len(rows) > 0 && p.process != process {
			break
		}
		process, rows = p.process, append(rows, p.Row)
	}
	return process, rows
}

// The method sent removes the pending rows of a process up to the given second. The first pending row must belong to
// this process.
func (r *Recorder) sent(process string, last int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.pending) > 0 && r.pending[0].process == process && r.pending[0].Second <= last {
		r.pending = r.pending[1:]
	}
}

// compact compacts the timeline about once a minute. The interval varies at random, so that two processes rarely
// compact at the same time.
func (r *Recorder) compact(ctx context.Context) {
	for {
		timer := time.NewTimer(compaction/2 + mathrand.N(compaction))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case now := <-timer.C:
			if err := r.sink.CompactTimeline(ctx, now); err != nil && ctx.Err() == nil {
				r.log.Debug("Failed to compact the timeline; retrying in about a minute", "error", err)
			}
		}
	}
}

// finish sends the remaining rows. It retries until ctx ends.
func (r *Recorder) finish(ctx context.Context) error {
	for {
		err := r.flush(ctx)
		if err == nil {
			return nil
		}
		timer := time.NewTimer(interval / 4)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("store the last %d rows of the timeline: %w", len(r.pending), err)
		}
	}
}
