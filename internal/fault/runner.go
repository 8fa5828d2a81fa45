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
	// MaxLate is how late an occurrence may be injected. If it would be injected later, it gets the state
	// NotInjected instead.
	MaxLate = time.Minute
	// saveRetry is the interval between attempts to save a record.
	saveRetry = 500 * time.Millisecond
	// lastSaveTimeout is how long a Runner tries to save a record after its context has ended.
	lastSaveTimeout = 5 * time.Second
)

// ErrHandedOver is the cause of the end of a Runner's context when another process takes over. The Runner then
// leaves the faults in effect, and does not change their records.
var ErrHandedOver = errors.New("another process takes over")

// The values of Record.Reason for occurrences that were aborted.
var (
	errEnded     = errors.New("the simulation ended")
	errSuspended = errors.New("the simulation was suspended")
)

// Progress says which occurrences a Runner has handled. With it, the process that takes over does not inject
// these occurrences again.
type Progress struct {
	// Through is the time, measured from the start of the schedule, before which every occurrence counts as
	// handled. Occurrences that were due before it are no longer injected.
	Through time.Duration `json:"through"`
	// Next contains the number of the first occurrence that is not handled, for each fault. The key is the name
	// of the fault.
	Next map[string]int `json:"next,omitempty"`
}

// covers reports whether the occurrence has been handled.
func (p *Progress) covers(o *Occurrence) bool { return o.At < p.Through || o.Number < p.Next[o.Fault] }

// with returns the progress after the occurrence, too, has been handled.
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
	// Save stores the progress and the record durably. A record replaces the earlier record of the same
	// occurrence. If r is nil, Save stores only the progress. It returns nil once everything is durable.
	Save(ctx context.Context, p Progress, r *Record) error
}

// Resumer is an Injector that can find the faults that an earlier process has injected, so that this process
// can continue them.
type Resumer interface {
	// Resume returns the Injection for a record whose state is Injecting or Active. It returns an error if the
	// fault was not injected.
	Resume(context.Context, Record) (Injection, error)
}

// RunnerConfig configures a Runner.
type RunnerConfig struct {
	// Plan contains the faults to inject. Runner.Update replaces it.
	Plan  *plan.Plan
	Start time.Time
	// ExitAtEnd makes Run return when the last planned fault has ended. Otherwise, Run waits until its context
	// ends, because an update of the plan may add faults.
	ExitAtEnd bool
	// Progress and Records are what the previous process has saved. Records whose state is final may be
	// omitted.
	Progress Progress
	Records  []Record
}

// RunnerDependencies holds the dependencies of a Runner. Journal and Mark may be nil.
type RunnerDependencies struct {
	Injector Injector
	Journal  Journal
	// Mark adds an event, such as the injection of a fault, to the timeline.
	Mark   func(timeline.Mark)
	Logger *slog.Logger
}

// Runner injects each occurrence of a plan when it is due. It saves a record before it injects the fault. So a
// process that takes over from a crashed process never injects the same occurrence a second time.
type Runner struct {
	start     time.Time
	exitAtEnd bool
	deps      RunnerDependencies
	// updated receives a value when Update has replaced the plan.
	updated chan struct{}

	mu       sync.Mutex
	plan     *plan.Plan
	progress Progress
	records  []*Record
	// interrupts contains, for each fault in effect, a function that ends the fault early.
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

// Update replaces the plan. Faults that are in effect continue. Occurrences of the new plan that were due
// before the update are not injected. If the new plan is suspended, the faults in effect are ended.
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

// Run injects faults until ctx ends. Then it ends the faults that are in effect, and waits until they have
// ended. But if the cause of ctx is ErrHandedOver, it leaves them in effect. Run must be called only once.
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

// adopt returns the current plan. If that plan replaces another one, adopt records all occurrences that were
// due before now as handled.
func (r *Runner) adopt(replaces bool) *plan.Plan {
	r.mu.Lock()
	defer r.mu.Unlock()
	if replaces {
		r.progress.Through = max(r.progress.Through, time.Since(r.start))
	}
	return r.plan
}

// unfinished returns the records of faults that the previous process injected and that may still be in effect.
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

// inEffect calls f with a context that ends when ctx ends, or when the simulation is suspended.
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

// runPlan injects the occurrences of one plan. It returns true when there are no more occurrences. It returns
// false when the plan has been replaced, or when ctx has ended.
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

// wait waits until the timer fires. It returns false if the plan is replaced first, or if ctx ends.
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

// open adds a record for an occurrence that is due. If the fault must not be injected, because the simulation
// is suspended or it is too late, the state of the record is final.
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

// inject injects the fault of a record, and updates the record until the fault has ended.
func (r *Runner) inject(ctx context.Context, record *Record) {
	injection, err := r.deps.Injector.Inject(ctx, record.Occurrence)
	r.observe(ctx, record, injection, err)
}

// resume takes over a fault that the previous process injected, and updates its record until the fault has
// ended.
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

// observe records that the fault is in effect, waits until the fault has ended, and records that as well. If
// err is not nil, it only records why the fault was not injected.
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

// ended returns why ctx ended: either the simulation was suspended or it has ended.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSuspended) {
		return cause
	}
	return errEnded
}

// finish makes the last change to a record and saves the record, even if ctx has ended.
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

// save saves the progress and a record. It retries until it succeeds. It returns false if ctx ends first.
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

// snapshot returns copies of the progress and of the record, which may be nil.
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
