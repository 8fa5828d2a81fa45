package fault

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	// MaxLate is how long after its due time an occurrence may still be injected. If the delay is longer, its
	// state is NotInjected.
	MaxLate = time.Minute
	// saveRetry is the interval between attempts to save a record.
	saveRetry = 500 * time.Millisecond
	// lastSaveTimeout bounds how long a Runner tries to save a record after the simulation has ended.
	lastSaveTimeout = 5 * time.Second
)

// ErrHandedOver is the cause with which the context of a Runner ends when another process takes over. The
// Runner then leaves the faults in effect, and their records, as they are.
var ErrHandedOver = errors.New("another process takes over")

// The reasons in the records of aborted occurrences.
var (
	errEnded     = errors.New("the simulation ended")
	errSuspended = errors.New("the simulation was suspended")
)

// Progress says which occurrences a Runner has handled, so that the next process does not inject them again.
type Progress struct {
	// Through is the end of the time in which all occurrences are handled, from the start of the schedule. No
	// occurrence that was due before it is injected any more.
	Through time.Duration `json:"through"`
	// Next holds, by the name of the fault, the number of the first occurrence that is not handled.
	Next map[string]int `json:"next,omitempty"`
}

// covers reports whether an occurrence has been handled.
func (p *Progress) covers(o *Occurrence) bool { return o.At < p.Through || o.Number < p.Next[o.Fault] }

// with returns the progress after an occurrence has been handled.
func (p *Progress) with(o *Occurrence) Progress {
	next := Progress{Through: max(p.Through, o.At), Next: maps.Clone(p.Next)}
	if next.Next == nil {
		next.Next = make(map[string]int)
	}
	next.Next[o.Fault] = o.Number + 1
	return next
}

// Journal stores the progress and the records of a Runner, so that another process can take over.
type Journal interface {
	// Save stores the progress and the record. A record replaces the earlier record of the same occurrence; a
	// nil record is not stored. Save returns nil once both are durable.
	Save(ctx context.Context, p Progress, r *Record) error
}

// Resumer is an Injector that can find the faults that an earlier process has injected.
type Resumer interface {
	// Resume returns the injection of a record whose state is Injecting or Active. It returns an error if the
	// fault was not injected.
	Resume(context.Context, Record) (Injection, error)
}

// RunnerConfig configures a Runner.
type RunnerConfig struct {
	// Plan contains the faults. Runner.Update replaces it.
	Plan  *plan.Plan
	Start time.Time
	// ExitAtEnd makes Run return after the last planned occurrence has healed. Otherwise Run waits until its context
	// ends, because an update may add faults.
	ExitAtEnd bool
	// Progress and Records are those that the previous process saved. Records need not include records in a
	// final state.
	Progress Progress
	Records  []Record
}

// RunnerDependencies holds the dependencies of a Runner. Journal and Mark may be nil.
type RunnerDependencies struct {
	Injector Injector
	Journal  Journal
	// Mark adds a mark, such as the injection of a fault, to the timeline.
	Mark   func(timeline.Mark)
	Logger *slog.Logger
}

// Runner injects the occurrences of a plan when they are due. It saves a record of each occurrence before it
// injects it. Therefore, a process that takes over from a crashed one never injects an occurrence a second
// time.
type Runner struct {
	start     time.Time
	exitAtEnd bool
	deps      RunnerDependencies
	// updated receives a value when the plan has been replaced.
	updated chan struct{}

	mu       sync.Mutex
	plan     *plan.Plan
	progress Progress
	records  []*Record
	// interrupts holds, for each fault in effect, the function that ends it.
	interrupts map[*Record]context.CancelCauseFunc

	saving sync.Mutex // so that an older record never replaces a newer one
}

// NewRunner returns a Runner. Call Run to start it.
func NewRunner(c RunnerConfig, d RunnerDependencies) *Runner {
	r := &Runner{
		start: c.Start, exitAtEnd: c.ExitAtEnd, deps: d, updated: make(chan struct{}, 1),
		plan: c.Plan, progress: c.Progress, interrupts: make(map[*Record]context.CancelCauseFunc),
	}
	for i := range c.Records {
		record := c.Records[i]
		r.records = append(r.records, &record)
	}
	return r
}

// Records returns the records so far, in the order in which the occurrences were due.
func (r *Runner) Records() []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	records := make([]Record, len(r.records))
	for i, record := range r.records {
		records[i] = *record
		records[i].Hit = slices.Clone(record.Hit)
	}
	return records
}

// Update replaces the plan. Faults in effect continue, and occurrences that were due before the update are not
// injected. If the new plan is suspended, the faults in effect end.
func (r *Runner) Update(p *plan.Plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.plan = p
	if p.Suspended {
		for _, interrupt := range r.interrupts {
			interrupt(errSuspended)
		}
	}
	async.Notify(r.updated)
}

// Run injects occurrences until ctx ends. Then it ends the faults in effect and waits until they have ended. If
// the cause of the end is ErrHandedOver, it leaves them in effect. Run must be called once.
func (r *Runner) Run(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errEnded)
	var active sync.WaitGroup
	defer active.Wait()
	for _, record := range r.unfinished() {
		active.Go(func() { r.inEffect(ctx, record, r.resume) })
	}
	for adopted := false; ctx.Err() == nil; adopted = true {
		upcoming, stop := iter.Pull(Occurrences(r.adopt(adopted)))
		if adopted {
			r.save(ctx, nil)
		}
		ended := r.runPlan(ctx, upcoming, &active)
		stop()
		if ended && r.exitAtEnd {
			return
		}
		if ended {
			r.wait(ctx, nil)
		}
	}
}

// adopt returns the current plan. If it replaces another plan, adopt records that occurrences which were due
// before now are handled.
func (r *Runner) adopt(replaces bool) *plan.Plan {
	r.mu.Lock()
	defer r.mu.Unlock()
	if replaces {
		r.progress.Through = max(r.progress.Through, time.Since(r.start))
	}
	return r.plan
}

// unfinished returns the records of the previous process whose faults may still be in effect.
func (r *Runner) unfinished() []*Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*Record
	for _, record := range r.records {
		if record.State == Injecting || record.State == Active {
			list = append(list, record)
		}
	}
	return list
}

// inEffect calls f with a context that ends when ctx ends or the simulation is suspended.
func (r *Runner) inEffect(ctx context.Context, record *Record, f func(context.Context, *Record)) {
	ctx, interrupt := context.WithCancelCause(ctx)
	defer interrupt(nil)
	r.change(func() {
		r.interrupts[record] = interrupt
		if r.plan.Suspended {
			interrupt(errSuspended)
		}
	})
	defer r.change(func() { delete(r.interrupts, record) })
	f(ctx, record)
}

// runPlan injects the occurrences of one plan. It returns true when no occurrences are left. It returns false
// when the plan was replaced or ctx has ended.
func (r *Runner) runPlan(ctx context.Context, upcoming func() (Occurrence, bool), active *sync.WaitGroup) (ended bool) {
	for {
		o, ok := upcoming()
		switch {
		case !ok:
			return true
		case r.covers(&o):
			continue
		}
		timer := time.NewTimer(time.Until(r.start.Add(o.At)))
		due := r.wait(ctx, timer.C)
		timer.Stop()
		if !due {
			return false
		}
		record := r.open(o)
		if !r.save(ctx, record) {
			return false
		}
		if record.State == Injecting {
			active.Go(func() { r.inEffect(ctx, record, r.inject) })
		}
	}
}

func (r *Runner) covers(o *Occurrence) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.progress.covers(o)
}

// wait waits for the timer. It returns false if the plan is replaced or ctx ends first.
func (r *Runner) wait(ctx context.Context, timer <-chan time.Time) bool {
	select {
	case <-timer: // an occurrence that is due takes place, even if the plan has just been replaced
		return ctx.Err() == nil
	default:
	}
	select {
	case <-timer:
		return ctx.Err() == nil
	case <-r.updated:
	case <-ctx.Done():
	}
	return false
}

// open adds the record of an occurrence that is due. The record is final if the occurrence must not be
// injected, because the simulation is suspended or the occurrence is overdue.
func (r *Runner) open(o Occurrence) *Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	record := &Record{Occurrence: o, State: Injecting}
	late := time.Since(r.start.Add(o.At))
	switch {
	case r.plan.Suspended:
		record.State, record.Reason = Aborted, errSuspended.Error()+" when the fault was due"
	case late > MaxLate:
		record.State = NotInjected
		record.Reason = fmt.Sprintf("the injector was not running when the fault was due, and started %s later", late.Round(time.Second))
	}
	r.records = append(r.records, record)
	r.progress = r.progress.with(&o)
	return record
}

// inject injects the occurrence of a record, and updates the record until the fault has ended.
func (r *Runner) inject(ctx context.Context, record *Record) {
	injection, err := r.deps.Injector.Inject(ctx, record.Occurrence)
	r.observe(ctx, record, injection, err)
}

// resume finds a fault that the previous process injected, and updates its record until it has ended.
func (r *Runner) resume(ctx context.Context, record *Record) {
	resumer, ok := r.deps.Injector.(Resumer)
	if !ok {
		r.finish(ctx, record, func() {
			record.State, record.Reason = Aborted, "the process that injected the fault ended before the fault did"
		})
		return
	}
	injection, err := resumer.Resume(ctx, *record)
	r.observe(ctx, record, injection, err)
}

// observe records that the fault is in effect, waits until it has ended, and records that. If err is set, it
// records why the fault was not injected.
func (r *Runner) observe(ctx context.Context, record *Record, injection Injection, err error) {
	id := record.ID()
	if err != nil && isHandedOver(ctx) {
		return
	}
	if err != nil {
		r.finish(ctx, record, func() {
			record.State, record.Reason = NotInjected, err.Error()
			if ctx.Err() != nil {
				record.State, record.Reason = Aborted, ended(ctx).Error()+" before the fault was injected"
			}
		})
		r.deps.Logger.Warn("Fault not injected", "fault", id, "reason", record.Reason)
		return
	}
	r.change(func() {
		record.State, record.Hit, record.Of, record.InjectedAt = Active, injection.Hit, injection.Of, injection.At
	})
	r.mark(injection.At, timeline.MarkInjected, id, fmt.Sprintf("%s of %s", record.Action, strings.Join(injection.Hit, ", ")))
	r.deps.Logger.Info("Fault injected", "fault", id, "action", record.Action, "hit", injection.Hit)
	r.save(ctx, record)
	at, err := injection.Healed(ctx)
	if err != nil && isHandedOver(ctx) {
		return
	}
	r.finish(ctx, record, func() {
		record.State, record.HealedAt = Healed, at
		switch {
		case ctx.Err() != nil:
			record.State, record.Reason = Aborted, ended(ctx).Error()+" before the fault did"
		case err != nil:
			record.State, record.Reason = Aborted, err.Error()
		}
	})
	if !at.IsZero() {
		r.mark(at, timeline.MarkHealed, id, string(record.State))
	}
	r.deps.Logger.Info("Fault ended", "fault", id, "state", record.State, "reason", record.Reason)
}

func isHandedOver(ctx context.Context) bool { return errors.Is(context.Cause(ctx), ErrHandedOver) }

// ended returns why ctx ended: the simulation was suspended, or it ended.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSuspended) {
		return cause
	}
	return errEnded
}

// finish changes a record for the last time and saves it, even if ctx has ended.
func (r *Runner) finish(ctx context.Context, record *Record, change func()) {
	r.change(change)
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), lastSaveTimeout)
		defer cancel()
	}
	r.save(ctx, record)
}

func (r *Runner) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *Runner) mark(at time.Time, kind timeline.MarkKind, subject, message string) {
	if r.deps.Mark != nil {
		r.deps.Mark(timeline.Mark{At: at, Kind: kind, Subject: subject, Message: message})
	}
}

// save saves the progress and a record. It retries until it succeeds, and returns false if ctx ends first.
func (r *Runner) save(ctx context.Context, record *Record) bool {
	if r.deps.Journal == nil {
		return ctx.Err() == nil
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	for failed := false; ; failed = true {
		progress, saved := r.snapshot(record)
		err := r.deps.Journal.Save(ctx, progress, saved)
		if err == nil {
			return true
		}
		if !failed {
			r.deps.Logger.Warn("Saving the state of the faults failed; retrying", "error", err)
		}
		select {
		case <-time.After(saveRetry):
		case <-ctx.Done():
			return false
		}
	}
}

// snapshot returns copies of the progress and of a record. The record may be nil.
func (r *Runner) snapshot(record *Record) (Progress, *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	progress := Progress{Through: r.progress.Through, Next: maps.Clone(r.progress.Next)}
	if record == nil {
		return progress, nil
	}
	saved := *record
	return progress, &saved
}
