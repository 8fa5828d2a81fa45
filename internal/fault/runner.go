package fault

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	// MaxLate limits how long an injection waits for the injecting process, or for a target that another fault stopped.
	// After that, the occurrence becomes NotInjected.
	MaxLate = time.Minute
	// endTolerance is how long after the end of the schedule a fault may end. It is not 0, because an injection takes
	// some time.
	endTolerance = time.Second
	// saveRetry is the interval between attempts to save a record.
	saveRetry = 500 * time.Millisecond
	// lastSaveTimeout is how long a Runner tries to save a record after the context of the Runner has ended.
	lastSaveTimeout = 5 * time.Second
)

// ErrHandedOver is the cause with which the context of Runner.Run ends if another process takes over. Run then does not
// change faults or records.
var ErrHandedOver = errors.New("another process is taking over the faults")

// These errors say why an occurrence was aborted. The field Record.Reason begins with the text of the error.
var (
	errEnded     = errors.New("the simulation ended")
	errSuspended = errors.New("the simulation was suspended")
)

// Progress says which occurrences a Runner has handled. A process that takes over does not inject these occurrences
// again.
type Progress struct {
	// Through is a time since the start of the schedule. Every occurrence that was due before this time counts as
	// handled, and is not injected any more.
	Through time.Duration `json:"through"`
	// Last maps the name of each fault to the time at which its latest handled occurrence was due.
	Last map[string]time.Duration `json:"last,omitempty"`
	// Next maps the name of each fault to the lowest number that its next occurrence may have. Numbers are not reused.
	Next map[string]int `json:"next,omitempty"`
	// Plan is a hash of the faults, the seed and the duration of the plan to which this progress belongs.
	Plan string `json:"plan,omitempty"`
}

// covers reports whether the progress includes the occurrence o.
func (p *Progress) covers(o *Occurrence) bool {
	last, known := p.Last[o.Fault]
	return o.At < p.Through || known && o.At <= last
}

// with returns a copy of the progress that counts the occurrence o as handled.
func (p *Progress) with(o *Occurrence) Progress {
	next := p.clone()
	next.Through = max(p.Through, o.At)
	next.Last[o.Fault], next.Next[o.Fault] = o.At, o.Number+1
	return next
}

func (p *Progress) clone() Progress {
	c := *p
	c.Last, c.Next = maps.Clone(p.Last), maps.Clone(p.Next)
	if c.Last == nil {
		c.Last = make(map[string]time.Duration)
	}
	if c.Next == nil {
		c.Next = make(map[string]int)
	}
	return c
}

// fingerprint identifies the occurrences of the faults in a plan.
func fingerprint(p *plan.Plan) string {
	text, err := json.Marshal(struct {
		Seed     uint64
		Duration plan.Duration
		Faults   []plan.Fault
	}{p.Seed, p.Duration, p.Faults})
	if err != nil {
		panic(err) // impossible: JSON can represent every value of a fault
	}
	hash := fnv.New64a()
	_, _ = hash.Write(text) // never fails
	return strconv.FormatUint(hash.Sum64(), 16)
}

// Journal stores what a Runner has done, so that another process can continue the injection of faults.
type Journal interface {
	// Save stores the progress and, unless r is nil, the record, which replaces an earlier record of the same
	// occurrence. It returns nil only after both are durable.
	Save(ctx context.Context, p Progress, r *Record) error
}

// RunnerConfig configures a Runner.
type RunnerConfig struct {
	// Plan contains the faults to inject. Runner.Update replaces the plan.
	Plan  *plan.Plan
	Start time.Time
	// ExitAtEnd makes Run return when the last planned fault has ended. Otherwise, Run waits until its context
	// ends, because an update of the plan may add faults.
	ExitAtEnd bool
	// Progress and Records are what the previous process saved. Records whose state is final may be omitted.
	Progress Progress
	Records  []Record
	// History describes earlier occurrences whose records were removed.
	History History
	// Added is true if an edit added the first faults to a running simulation. Run then skips occurrences that are
	// already overdue. Added has no effect if Progress.Plan is set.
	Added bool
}

// RunnerDependencies holds the dependencies of a Runner. Journal and Mark may be nil.
type RunnerDependencies struct {
	Injector Injector
	Journal  Journal
	// Mark adds an event, such as the injection of a fault, to the timeline.
	Mark   func(timeline.Mark)
	Logger *slog.Logger
}

// Runner injects the occurrences of a plan when they are due. Each record is saved before the injection, so that a
// later process never repeats the injection.
type Runner struct {
	start     time.Time
	exitAtEnd bool
	added     bool
	history   History
	deps      RunnerDependencies
	// updated is a channel that receives a value when Update has replaced the plan.
	updated chan struct{}

	mu       sync.Mutex
	plan     *plan.Plan
	progress Progress
	records  []*Record
	// interrupts contains, for each fault that is being injected or in effect, the means to end it early.
	interrupts map[*Record]*interrupt
	// wanted maps each fault that waits for another fault to its most recently chosen instances.
	wanted map[*Record][]Chosen
	// settled contains the records that Settle has changed and saveSettled has not saved yet.
	settled  []*Record
	settling chan struct{} // wakes saveSettled
	// changed is closed and replaced when waiting faults must check again whether they can be injected.
	changed chan struct{}

	saving sync.Mutex // held during a save, so that an older record never replaces a newer one
}

type interrupt struct {
	end context.CancelCauseFunc
	// timer ends a fault that would outlast the schedule. It is nil for other faults.
	timer *time.Timer
}

// NewRunner returns a Runner. Call Run to start it.
func NewRunner(c RunnerConfig, d RunnerDependencies) *Runner {
	r := &Runner{
		start: c.Start, exitAtEnd: c.ExitAtEnd, added: c.Added, history: c.History, deps: d, updated: make(chan struct{}, 1),
		plan: c.Plan, progress: c.Progress, interrupts: make(map[*Record]*interrupt), wanted: make(map[*Record][]Chosen),
		changed: make(chan struct{}), settling: make(chan struct{}, 1),
	}
	for i := range c.Records {
		record := c.Records[i]
		r.records = append(r.records, &record)
		if !r.progress.covers(&record.Occurrence) {
			r.progress = r.progress.with(&record.Occurrence)
		}
	}
	return r
}

// Records returns a copy of all records, in the order in which the occurrences were due.
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

// History returns what is known about earlier occurrences that Records does not contain.
func (r *Runner) History() History { return r.history }

// Settle returns the effect of each occurrence so far. It saves effects that can no longer change, because the timeline
// loses detail with age.
func (r *Runner) Settle(run Run) []Account {
	run.History = r.history
	accounts, baselines := measure(r.Records(), run)
	byID := make(map[string]*Account, len(accounts))
	for i := range accounts {
		byID[accounts[i].ID()] = &accounts[i]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, record := range r.records {
		a := byID[record.ID()]
		if record.Measured != nil || a == nil {
			continue
		}
		// A new baseline is saved with the next change of the record.
		record.Baseline = cmp.Or(baselines[record.ID()], record.Baseline)
		if !a.isSettled(record, run) {
			continue
		}
		measured := *a
		measured.Hit, measured.Lost = nil, nil
		record.Measured = &measured
		r.settled = append(r.settled, record)
		async.Notify(r.settling)
	}
	return accounts
}

// saveSettled saves the records that Settle has changed, until ctx ends.
func (r *Runner) saveSettled(ctx context.Context) {
	for {
		select {
		case <-r.settling:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		records := r.settled
		r.settled = nil
		r.mu.Unlock()
		for _, record := range records {
			r.save(ctx, record)
		}
	}
}

// Update replaces the plan. It skips the overdue occurrences of the new plan, and may end faults in effect.
func (r *Runner) Update(p *plan.Plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.plan = p
	for record := range r.interrupts {
		r.limit(record)
	}
	async.Notify(r.updated)
}

// Run injects faults until ctx ends. It then ends the active faults and waits for their end, unless the cause of ctx is
// ErrHandedOver. Call Run only once.
func (r *Runner) Run(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errEnded)
	var active sync.WaitGroup
	defer active.Wait()
	saving, stopSaving := context.WithCancel(ctx)
	var settling sync.WaitGroup
	settling.Go(func() { r.saveSettled(saving) })
	defer settling.Wait()
	defer stopSaving()
	for _, record := range r.unfinished() {
		active.Go(func() { r.inEffect(ctx, record, r.resume) })
	}
	for ctx.Err() == nil {
		p, changed := r.adopt()
		if changed {
			r.save(ctx, nil)
		}
		upcoming, stop := iter.Pull(Occurrences(p))
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

// adopt makes r.progress match the current plan. It returns the plan, and whether r.progress has changed.
func (r *Runner) adopt() (p *plan.Plan, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	current := fingerprint(r.plan)
	if current == r.progress.Plan {
		return r.plan, false
	}
	// Occurrences that are overdue when the faults are edited count as handled.
	if r.progress.Plan != "" || r.added {
		r.progress.Through = max(r.progress.Through, time.Since(r.start))
	}
	r.progress.Plan = current
	return r.plan, true
}

// unfinished returns the records of faults that the previous process left without a final state.
func (r *Runner) unfinished() []*Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*Record
	for _, record := range r.records {
		if !record.IsFinal() {
			list = append(list, record)
		}
	}
	return list
}

// inEffect calls f with a context that ends when ctx ends, when the simulation is suspended, or when the schedule ends.
func (r *Runner) inEffect(ctx context.Context, record *Record, f func(context.Context, *Record)) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	r.change(func() {
		r.interrupts[record] = &interrupt{end: end}
		r.limit(record)
	})
	defer r.change(func() {
		r.interrupts[record].stop()
		delete(r.interrupts, record)
		delete(r.wanted, record)
	})
	f(ctx, record)
}

func (i *interrupt) stop() {
	if i.timer != nil {
		i.timer.Stop()
		i.timer = nil
	}
}

// limit ends a fault at once if the simulation is suspended. A fault with a duration ends with the schedule at the
// latest. The caller must hold r.mu.
func (r *Runner) limit(record *Record) {
	i := r.interrupts[record]
	i.stop()
	begin := record.InjectedAt
	if begin.IsZero() {
		begin = r.start.Add(record.At)
	}
	end := endOf(r.plan, r.start)
	switch {
	case r.plan.Suspended:
		i.end(errSuspended)
	case record.Action.Lasts() && !end.IsZero() && begin.Add(record.For).After(end.Add(endTolerance)):
		i.timer = time.AfterFunc(time.Until(end), func() { i.end(errEnded) })
	}
}

// runPlan injects the occurrences of one plan. It returns true after the last occurrence, and false if the plan is
// replaced or ctx ends.
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
		record := r.begin(o)
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

// wait waits until the timer fires, and returns true. It returns false if the plan is replaced or ctx ends before the
// timer fires.
func (r *Runner) wait(ctx context.Context, timer <-chan time.Time) bool {
	select {
	case <-timer: // an expired timer takes precedence over a new plan
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

// begin adds a record for an occurrence that is due. The record is final if the occurrence cannot be injected.
func (r *Runner) begin(o Occurrence) *Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	o.Number = max(o.Number, r.progress.Next[o.Fault])
	record := &Record{Occurrence: o, State: Injecting}
	now := time.Now()
	late := cmp.Or(missed(&o, r.start, now), overdue(&o, r.plan, r.start, now))
	switch {
	case r.plan.Suspended:
		record.State, record.Reason = Aborted, errSuspended.Error()+" when the fault was due"
	case late != "":
		record.State, record.Reason = NotInjected, late
	}
	r.records = append(r.records, record)
	r.progress = r.progress.with(&o)
	r.wake()
	return record
}

// wake makes waiting faults check again whether they can be injected. The caller must hold r.mu.
func (r *Runner) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// missed returns why an occurrence can no longer be injected if it was due more than MaxLate ago. Otherwise, it returns
// "".
func missed(o *Occurrence, start, now time.Time) string {
	if late := now.Sub(start.Add(o.At)); late > MaxLate {
		return fmt.Sprintf("the process that injects faults was not running, or could not save its state, until %s after the fault was due", late.Round(time.Second))
	}
	return ""
}

// overdue returns why the schedule leaves too little time to inject an occurrence of a fault. It returns "" if there is
// enough time.
func overdue(o *Occurrence, p *plan.Plan, start, now time.Time) string {
	deadline := deadlineOf(o, p, start)
	switch {
	case deadline.IsZero() || now.Before(deadline):
		return ""
	case now.Before(endOf(p, start)):
		return "the fault would have outlasted the schedule"
	}
	return "the schedule ended before the fault could be injected"
}

// deadlineOf returns when it becomes too late for an occurrence, because the fault would outlast the schedule. It
// returns zero if the schedule does not end.
func deadlineOf(o *Occurrence, p *plan.Plan, start time.Time) time.Time {
	end := endOf(p, start)
	if end.IsZero() || o.For <= endTolerance {
		return end
	}
	return end.Add(endTolerance - o.For)
}

// endOf returns the end of the schedule of a plan, or zero if the schedule does not end. The parameter start is the
// start of the schedule.
func endOf(p *plan.Plan, start time.Time) time.Time {
	if p.Duration == 0 {
		return time.Time{}
	}
	return start.Add(p.Duration.D())
}

// inject chooses the instances that the fault of a record hits, injects the fault, and updates the record until the
// fault has ended.
func (r *Runner) inject(ctx context.Context, record *Record) {
	err := r.choose(ctx, record)
	if err == nil && !r.save(ctx, record) {
		err = ctx.Err()
	}
	var injection Injection
	if err == nil {
		injection, err = r.deps.Injector.Inject(ctx, r.copy(record))
	}
	r.observe(ctx, record, injection, err)
}

// resume takes over a fault from the previous process, and updates its record until the fault has ended.
func (r *Runner) resume(ctx context.Context, record *Record) {
	resumer, ok := r.deps.Injector.(Resumer)
	if !ok {
		r.finish(ctx, record, func() {
			record.State, record.Reason = Aborted, "the process that injected the fault ended before the fault had ended"
		})
		return
	}
	known := r.copy(record)
	// No instance was chosen yet, so nothing was injected.
	if known.State == Injecting && len(known.Chosen) == 0 {
		r.inject(ctx, record)
		return
	}
	late := time.Since(known.ChosenAt) > MaxLate
	r.change(func() { late = late || overdue(&record.Occurrence, r.plan, r.start, time.Now()) != "" })
	injection, err := resumer.Resume(ctx, known, late)
	r.observe(ctx, record, injection, err)
}

// copy returns a shallow copy of a record. The copy does not change when another goroutine changes the record.
func (r *Runner) copy(record *Record) Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *record
}

// choose selects the instances to hit, and stores them in the record. While another fault must end first, it waits and
// selects again.
func (r *Runner) choose(ctx context.Context, record *Record) error {
	waiting := time.Now()
	affected := "" // the end of an error text, which names the fault that caused the latest wait
	for {
		reason, changed := r.refusal(record)
		if reason != "" {
			return errors.New(reason + affected)
		}
		choice, err := r.deps.Injector.Choose(ctx, record.Occurrence)
		other := r.reserve(record, choice, err)
		if other == nil {
			return err
		}
		affected = fmt.Sprintf(", because fault %s affected the target %s: leave more time between that fault and this fault", other.ID(), record.Target)
		// MaxLate does not limit the wait for the end of a pause or an isolation, because such a fault always ends.
		if other.Action.Lasts() {
			waiting = time.Now()
		}
		left := MaxLate - time.Since(waiting)
		if left <= 0 {
			return fmt.Errorf("timeout after %s, because fault %s still affected the target %s: leave more time between that fault and this fault", MaxLate, other.ID(), record.Target)
		}
		if err := r.await(ctx, record, changed, left); err != nil {
			return err
		}
	}
}

// refusal returns why a fault can no longer be injected, or "". Call it again when the returned channel is closed.
func (r *Runner) refusal(record *Record) (reason string, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.records, func(o *Record) bool { return o.Fault == record.Fault && o.Number > record.Number }) {
		return "the fault was due again before this occurrence could be injected", nil
	}
	return overdue(&record.Occurrence, r.plan, r.start, time.Now()), r.changed
}

// await returns when changed is closed, or when the timeout or the deadline of the injection has passed. It returns an
// error if ctx ends first.
func (r *Runner) await(ctx context.Context, record *Record, changed <-chan struct{}, timeout time.Duration) error {
	r.change(func() {
		if deadline := deadlineOf(&record.Occurrence, r.plan, r.start); !deadline.IsZero() {
			timeout = min(timeout, time.Until(deadline))
		}
	})
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// reserve stores the chosen instances in the record, unless the fault must wait for another fault. In that case,
// reserve returns the record of the other fault.
func (r *Runner) reserve(record *Record, choice Choice, err error) (other *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if other := r.blocker(record, choice, err); other != nil {
		if wanted, known := r.wanted[record]; !known || !slices.Equal(wanted, choice.Instances) {
			r.wanted[record] = choice.Instances
			r.wake()
		}
		return other
	}
	if err == nil {
		record.Chosen, record.ChosenAt, record.Of = choice.Instances, time.Now(), choice.Of
		r.wake()
	}
	return nil
}

// blocker returns a fault that must end before the fault of the given record can begin, or nil. The caller must hold
// r.mu.
func (r *Runner) blocker(record *Record, choice Choice, err error) *Record {
	isEarlier := true
	for _, other := range r.records {
		switch wanted, known := r.wanted[other]; {
		case other == record:
			isEarlier = false
		case other.IsFinal():
		case len(other.Chosen) > 0:
			// The other fault may have stopped the missing instances of the component.
			absent := (err != nil || choice.Incomplete) && sameComponent(other.Target, record.Target)
			if absent || sharesInstance(other.Chosen, choice.Instances) {
				return other
			}
		case isEarlier && sameComponent(other.Target, record.Target):
			// Faults of the same instance are injected in the order in which they were due. Until the instances of the
			// other fault are known, they may be the same.
			if !known || sharesInstance(wanted, choice.Instances) {
				return other
			}
		}
	}
	return nil
}

// sameComponent reports whether two targets are the same component. RabbitMQLeader is not a component of its own, but a
// node of RabbitMQ.
func sameComponent(a, b plan.FaultTarget) bool {
	component := func(t plan.FaultTarget) plan.FaultTarget {
		if t == plan.TargetRabbitMQLeader {
			return plan.TargetRabbitMQ
		}
		return t
	}
	return component(a) == component(b)
}

func sharesInstance(a, b []Chosen) bool {
	return slices.ContainsFunc(a, func(x Chosen) bool {
		return slices.ContainsFunc(b, func(y Chosen) bool { return x.Name == y.Name })
	})
}

// observe records the injection, waits until the fault has ended, and records the end. If err is not nil, it records
// why the fault was not injected.
func (r *Runner) observe(ctx context.Context, record *Record, injection Injection, err error) {
	id := record.ID()
	if err != nil && IsHandedOver(ctx) {
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
		record.State, record.InjectedAt = Active, injection.At
		record.Hit = Names(record.Chosen)
		r.limit(record)
	})
	r.mark(injectedMark(id, injection.At, record.Action, record.Hit))
	r.deps.Logger.Info("Fault injected", "fault", id, "action", record.Action, "hit", record.Hit)
	r.save(ctx, record)
	at, err := injection.Healed(ctx)
	if err != nil && IsHandedOver(ctx) {
		return
	}
	if at.IsZero() {
		at = time.Now()
	}
	r.finish(ctx, record, func() {
		record.State, record.HealedAt = Healed, at
		switch {
		case ctx.Err() != nil:
			record.State, record.Reason = Aborted, ended(ctx).Error()+" before the fault had ended"
		case errors.Is(err, ErrNoEffect):
			record.State, record.Reason = NotInjected, err.Error()
			record.InjectedAt, record.HealedAt, record.Hit = time.Time{}, time.Time{}, nil
		case err != nil:
			record.State, record.Reason = Aborted, err.Error()
		}
	})
	message := endMessage(at.Sub(injection.At), record.State == Aborted)
	if record.State == NotInjected {
		message = record.Failure()
	}
	r.mark(healedMark(id, at, message))
	r.deps.Logger.Info("Fault ended", "fault", id, "state", record.State, "reason", record.Reason)
}

// IsHandedOver reports whether ctx has ended because another process continues the injection of faults.
func IsHandedOver(ctx context.Context) bool { return errors.Is(context.Cause(ctx), ErrHandedOver) }

// ended returns the reason for the end of ctx: the simulation was suspended or has ended.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSuspended) {
		return cause
	}
	return errEnded
}

// finish sets the final state of a record and saves the record, even if ctx has ended.
func (r *Runner) finish(ctx context.Context, record *Record, change func()) {
	r.change(func() {
		change()
		record.Chosen = nil
		r.wake()
	})
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

func (r *Runner) mark(m timeline.Mark) {
	if r.deps.Mark != nil {
		r.deps.Mark(m)
	}
}

// save saves the progress and a record. It retries until a save succeeds. It returns false if ctx ends before a save
// succeeds.
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
			r.deps.Logger.Warn("Failed to save the state of the faults; retrying", "error", err)
		}
		select {
		case <-time.After(saveRetry):
		case <-ctx.Done():
			return false
		}
	}
}

// snapshot returns copies of the progress and of the record. The copy of a nil record is nil.
func (r *Runner) snapshot(record *Record) (Progress, *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	progress := r.progress.clone()
	if record == nil {
		return progress, nil
	}
	saved := *record
	return progress, &saved
}
