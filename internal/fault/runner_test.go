package fault_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// target is a fake injector. It remembers the occurrences that were passed to Inject.
type target struct {
	mu       sync.Mutex
	injected []string
	active   int
	// injectErr is the error that Inject returns, or nil.
	injectErr error
	recovery  time.Duration // how long a fault without a duration, such as a kill, stays in effect
	// ended is the error that Injection.Healed returns, or nil.
	ended error
	// If sameInstance is true, all faults hit the same instance.
	sameInstance bool
	// instances maps faults to the instances that they hit. Other faults hit instances of their own.
	instances map[string]string
	// If fails[f] is true, Choose returns an error for the fault named f.
	fails map[string]bool
}

func (f *target) Choose(_ context.Context, o fault.Occurrence) (fault.Choice, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails[o.Fault] {
		return fault.Choice{}, errors.New("no pod is ready")
	}
	name := cmp.Or(f.instances[o.Fault], "redis-"+o.Fault)
	if f.sameInstance {
		name = "redis"
	}
	return fault.Choice{Instances: []fault.Chosen{{Name: name}}, Of: 1}, nil
}

func (f *target) Inject(_ context.Context, o fault.Record) (fault.Injection, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.injectErr != nil {
		return fault.Injection{}, f.injectErr
	}
	f.injected = append(f.injected, fmt.Sprint(o.ID(), " ", o.At))
	f.active++
	length := max(o.For, f.recovery)
	return fault.Injection{At: time.Now(), Healed: func(ctx context.Context) (time.Time, error) {
		select {
		case <-time.After(length):
		case <-ctx.Done():
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.active--
		return time.Now(), f.ended
	}}, nil
}

func (f *target) inEffect() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.active
}

// journal is a fault.Journal in memory. If the field err is set, Save returns this error.
type journal struct {
	mu       sync.Mutex
	err      error
	progress fault.Progress
	records  map[string]fault.Record
	saves    int
}

func (j *journal) Save(_ context.Context, p fault.Progress, r *fault.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	j.saves++
	j.progress = p
	if j.records == nil {
		j.records = map[string]fault.Record{}
	}
	if r != nil {
		j.records[r.ID()] = *r
	}
	return nil
}

func (j *journal) saved() []fault.Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []fault.Record
	for _, r := range j.records {
		list = append(list, r)
	}
	return list
}

// bench contains the dependencies of a Runner under test.
type bench struct {
	target  target
	journal journal
	mu      sync.Mutex
	marks   []string
}

func (b *bench) runner(p *plan.Plan, c fault.RunnerConfig) *fault.Runner {
	c.Plan = p
	if c.Start.IsZero() {
		c.Start = time.Now()
	}
	return fault.NewRunner(c, fault.RunnerDependencies{
		Injector: &b.target, Journal: &b.journal, Logger: slog.New(slog.DiscardHandler),
		Mark: func(m timeline.Mark) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.marks = append(b.marks, fmt.Sprint(m.Kind, " ", m.Subject, " ", m.Message))
		},
	})
}

// states returns a text for each record, with its ID, state and reason.
func states(records []fault.Record) []string {
	var list []string
	for _, r := range records {
		text := r.ID() + " " + string(r.State)
		if r.Reason != "" {
			text += ": " + r.Reason
		}
		list = append(list, text)
	}
	return list
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// inBubble runs a test with a fake clock, in a bubble of package synctest.
func inBubble(t *testing.T, test func(*testing.T, *bench)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(t, &bench{}) })
}

func pause(name string, at, length int) plan.Fault {
	return plan.Fault{Name: name, Target: plan.TargetRedis, Action: plan.ActionPause, Instances: 1, At: seconds(at), For: seconds(length)}
}

func TestFaultRunner_ExitAtEnd_InjectsAllOccurrencesAndReturns(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		start := time.Now()
		p := &plan.Plan{Duration: seconds(100), Faults: []plan.Fault{pause("b", 10, 5), pause("a", 10, 8)}}
		p.Faults[0].Every = seconds(40)
		r := b.runner(p, fault.RunnerConfig{ExitAtEnd: true})
		r.Run(t.Context())
		same(t, "injected", []string{"a/0 10s", "b/0 10s", "b/1 50s", "b/2 1m30s"}, slices.Sorted(slices.Values(b.target.injected)))
		same(t, "states", []string{"a/0 Healed", "b/0 Healed", "b/1 Healed", "b/2 Healed"}, states(r.Records()))
		same(t, "the end", 95*time.Second, time.Since(start))
		last := r.Records()[3]
		same(t, "injectedAt", start.Add(90*time.Second), last.InjectedAt)
		same(t, "healedAt", start.Add(95*time.Second), last.HealedAt)
		same(t, "hit", []string{"redis-b"}, last.Hit)
		same(t, "the last marks", []string{"injected b/2 Pause of redis-b", "healed b/2 after 5.00 s"}, b.marks[len(b.marks)-2:])
	})
}

func TestFaultRunner_RecordCannotBeSaved_InjectsOnlyAfterASave(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.journal.err = errors.New("the store is down")
		r := b.runner(&plan.Plan{Faults: []plan.Fault{pause("a", 10, 5)}}, fault.RunnerConfig{ExitAtEnd: true})
		time.AfterFunc(20*time.Second, func() {
			same(t, "injected while nothing can be saved", 0, len(b.target.injected))
			b.journal.mu.Lock()
			b.journal.err = nil
			b.journal.mu.Unlock()
		})
		r.Run(t.Context())
		same(t, "injected", []string{"a/0 10s"}, b.target.injected)
		same(t, "saved", []string{"a/0 Healed"}, states(b.journal.saved()))
	})
}

func TestFaultRunner_InjectionFails_RecordsTheReason(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.target.injectErr = errors.New("there is no pod of Redis")
		r := b.runner(&plan.Plan{Faults: []plan.Fault{pause("a", 1, 5)}}, fault.RunnerConfig{ExitAtEnd: true})
		r.Run(t.Context())
		same(t, "states", []string{"a/0 NotInjected: there is no pod of Redis"}, states(r.Records()))
	})
}

// An injector may find out only at the end of a fault that the fault had no effect. The fault then counts as not
// injected.
func TestFaultRunner_FaultHadNoEffect_CountsAsNotInjected(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.target.ended = fmt.Errorf("%w: the relays saw no connection", fault.ErrNoEffect)
		r := b.runner(&plan.Plan{Faults: []plan.Fault{pause("a", 1, 5)}}, fault.RunnerConfig{ExitAtEnd: true})
		r.Run(t.Context())
		records := r.Records()
		same(t, "states", []string{"a/0 NotInjected: the fault had no effect: the relays saw no connection"}, states(records))
		if record := records[0]; len(record.Hit) > 0 || !record.InjectedAt.IsZero() || !record.HealedAt.IsZero() {
			t.Errorf("the record is %+v", record)
		}
		account := fault.Accounts(records, fault.Run{Ended: true})[0]
		same(t, "message", "The fault had no effect: the relays saw no connection", account.Message)
		same(t, "outcome", fault.OutcomeNotInjected, account.Outcome)
		same(t, "the last mark", "healed a/0 had no effect: the relays saw no connection", b.marks[len(b.marks)-1])
	})
}

// Two faults never affect one instance at once. The second fault waits for the end of the first.
func TestFaultRunner_SecondFaultOfAnInstance_WaitsForTheFirst(t *testing.T) {
	kill := func(at int) plan.Fault {
		return plan.Fault{Name: "kill", Target: plan.TargetRedis, Action: plan.ActionKill, Instances: 1, At: seconds(at)}
	}
	t.Run("the second fault waits longer than MaxLate for the end of a pause", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bench) {
			b.target.sameInstance = true
			r := b.runner(&plan.Plan{Faults: []plan.Fault{pause("pause", 10, 180), kill(40)}}, fault.RunnerConfig{ExitAtEnd: true})
			r.Run(t.Context())
			same(t, "states", []string{"pause/0 Healed", "kill/0 Healed"}, states(r.Records()))
			same(t, "the second injection", r.Records()[0].HealedAt, r.Records()[1].InjectedAt)
		})
	})
	t.Run("the second fault waits at most MaxLate for a target that does not start again", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bench) {
			b.target.sameInstance, b.target.recovery = true, time.Hour
			r := b.runner(&plan.Plan{Faults: []plan.Fault{kill(10), pause("pause", 20, 5)}}, fault.RunnerConfig{ExitAtEnd: true})
			r.Run(t.Context())
			same(t, "states", []string{"kill/0 Healed", "pause/0 NotInjected: timeout after 1m0s, because fault kill/0 still affected the target Redis: leave more time between that fault and this fault"}, states(r.Records()))
		})
	})
	t.Run("the target starts again only after the end of the schedule", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bench) {
			b.target.sameInstance, b.target.recovery = true, 40*time.Second
			p := &plan.Plan{Duration: seconds(30), Faults: []plan.Fault{kill(10), pause("pause", 20, 5)}}
			r := b.runner(p, fault.RunnerConfig{ExitAtEnd: true})
			r.Run(t.Context())
			same(t, "states", []string{"kill/0 Healed", "pause/0 NotInjected: the fault would have outlasted the schedule, because fault kill/0 affected the target Redis: leave more time between that fault and this fault"}, states(r.Records()))
		})
	})
}

func TestFaultRunner_SimultaneousFaultsOfAnInstance_HaveTheSameOrderInEachRun(t *testing.T) {
	t.Parallel()
	p := &plan.Plan{Duration: plan.Duration(time.Minute)}
	var want []string
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		p.Faults = append(p.Faults, pause(name, 10, 2))
		want = append(want, name+"/0 10s")
	}
	// Repeat the run, because the goroutine scheduler could produce the right order by chance.
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			b := bench{target: target{sameInstance: true}}
			b.runner(p, fault.RunnerConfig{ExitAtEnd: true}).Run(t.Context())
			same(t, "order", want, b.target.injected)
		})
	}
}

func TestFaultRunner_WaitingFault_DoesNotDelayFaultsOfOtherInstances(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.target.instances = map[string]string{"first": "redis-0", "second": "redis-0", "third": "redis-1", "fourth": "redis-0"}
		p := &plan.Plan{Duration: plan.Duration(2 * time.Minute), Faults: []plan.Fault{
			pause("first", 10, 30), pause("second", 11, 1), pause("third", 12, 1), pause("fourth", 13, 1),
		}}
		b.runner(p, fault.RunnerConfig{ExitAtEnd: true}).Run(t.Context())
		same(t, "order", []string{"first/0 10s", "third/0 12s", "second/0 11s", "fourth/0 13s"}, b.target.injected)
	})
}

// The second fault finds no ready pod, so it waits for the first. The third fault hits another instance, so it does not
// wait.
func TestFaultRunner_WaitingFaultFindsNoPod_FaultOfOtherInstanceDoesNotWait(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.target.instances = map[string]string{"first": "redis-0", "third": "redis-1"}
		b.target.fails = map[string]bool{"second": true}
		p := &plan.Plan{Duration: plan.Duration(2 * time.Minute), Faults: []plan.Fault{
			pause("first", 10, 30), pause("second", 11, 1), pause("third", 12, 1),
		}}
		r := b.runner(p, fault.RunnerConfig{ExitAtEnd: true})
		r.Run(t.Context())
		same(t, "order", []string{"first/0 10s", "third/0 12s"}, b.target.injected)
		same(t, "states", []string{"first/0 Healed", "second/0 NotInjected: no pod is ready", "third/0 Healed"}, states(r.Records()))
	})
}

// The second fault waits until the first has ended. Then too little time is left in the schedule, so the second fault
// must not be injected.
func TestFaultRunner_WaitingFaultWouldOutlastTheSchedule_IsNotInjected(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.target.sameInstance = true
		p := &plan.Plan{Duration: seconds(600), Faults: []plan.Fault{pause("a", 60, 420), pause("b", 120, 300)}}
		start := time.Now()
		b.runner(p, fault.RunnerConfig{ExitAtEnd: true}).Run(t.Context())
		same(t, "states", []string{
			"a/0 Healed", "b/0 NotInjected: the fault would have outlasted the schedule, because fault a/0 affected the target Redis: leave more time between that fault and this fault",
		}, slices.Sorted(slices.Values(states(b.journal.saved()))))
		if end := time.Since(start); end > 600*time.Second {
			t.Errorf("the faults ended after %s", end)
		}
	})
}

// The second fault begins at 480 s and would last until 780 s. At 500 s, the schedule is shortened to 600 s, and the
// fault must end with it.
func TestFaultRunnerUpdate_ShorterScheduleEndsDuringAFault_FaultEndsWithTheSchedule(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.target.sameInstance = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		p := plan.Plan{Duration: seconds(1200), Faults: []plan.Fault{pause("a", 60, 420), pause("b", 120, 300)}}
		shorter := p
		shorter.Duration = seconds(600)
		start := time.Now()
		r := b.runner(&p, fault.RunnerConfig{})
		time.AfterFunc(500*time.Second, func() { r.Update(&shorter) })
		r.Run(ctx)
		same(t, "states", []string{"a/0 Healed", "b/0 Aborted: the simulation ended before the fault had ended"}, states(r.Records()))
		same(t, "healedAt", start.Add(600*time.Second), r.Records()[1].HealedAt)
	})
}

// Several kills are due during a pause of the same instance. When the pause has ended, only the latest of these kills
// takes place.
func TestFaultRunner_WaitingFaultIsDueAgain_OnlyTheLatestOccurrenceIsInjected(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.target.sameInstance = true
		kill := plan.Fault{Name: "kill", Target: plan.TargetRedis, Action: plan.ActionKill, Instances: 1, At: seconds(60), Every: seconds(60)}
		p := &plan.Plan{Duration: seconds(250), Faults: []plan.Fault{pause("pause", 30, 180), kill}}
		r := b.runner(p, fault.RunnerConfig{ExitAtEnd: true})
		r.Run(t.Context())
		const due = " NotInjected: the fault was due again before this occurrence could be injected, because fault pause/0 affected the target Redis: leave more time between that fault and this fault"
		same(t, "states", []string{"pause/0 Healed", "kill/0" + due, "kill/1" + due, "kill/2 Healed", "kill/3 Healed"}, states(r.Records()))
		same(t, "the injection of kill/2", r.Records()[0].HealedAt, r.Records()[3].InjectedAt)
	})
}

// resumer is an injector whose faults outlive the process that injects the faults.
type resumer struct{ target }

func (r *resumer) Inject(ctx context.Context, record fault.Record) (fault.Injection, error) {
	record.InjectedAt = time.Now()
	return r.Resume(ctx, record, false)
}

func (r *resumer) Resume(_ context.Context, record fault.Record, _ bool) (fault.Injection, error) {
	return fault.Injection{At: record.InjectedAt, Healed: func(ctx context.Context) (time.Time, error) {
		select {
		case <-time.After(time.Until(record.InjectedAt.Add(record.For))):
			return time.Now(), nil
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
	}}, nil
}

// The second fault waits longer than MaxLate, and two processes end during the wait. The third process must still
// inject the fault.
func TestFaultRunner_ProcessIsReplacedWhileAFaultWaits_NewProcessInjectsTheFault(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		injector := &resumer{target: target{sameInstance: true}}
		p := &plan.Plan{Duration: seconds(3600), Faults: []plan.Fault{pause("a", 10, 600), pause("b", 20, 5)}}
		start := time.Now()
		for _, end := range []int{300, 600, 1000} {
			ctx, handOver := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Until(start.Add(time.Duration(end)*time.Second)), func() { handOver(fault.ErrHandedOver) })
			fault.NewRunner(
				fault.RunnerConfig{Plan: p, Start: start, Progress: b.journal.progress, Records: b.journal.saved()},
				fault.RunnerDependencies{Injector: injector, Journal: &b.journal, Logger: slog.New(slog.DiscardHandler)},
			).Run(ctx)
		}
		same(t, "states", []string{"a/0 Healed", "b/0 Healed"}, slices.Sorted(slices.Values(states(b.journal.saved()))))
		same(t, "the second injection", start.Add(610*time.Second), b.journal.records["b/0"].InjectedAt)
	})
}

// The occurrences at seconds 230 and 360 would outlast the plan. At second 250, an edit lengthens the plan, which adds
// only the occurrence at second 360.
func TestFaultRunnerUpdate_LongerDuration_AddsOnlyFutureOccurrences(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		p := plan.Plan{Duration: seconds(300), Faults: []plan.Fault{pause("a", 100, 120)}}
		p.Faults[0].Every = seconds(130)
		longer := p
		longer.Duration = seconds(500)
		r := b.runner(&p, fault.RunnerConfig{})
		time.AfterFunc(250*time.Second, func() { r.Update(&longer) })
		r.Run(ctx)
		same(t, "injected", []string{"a/0 1m40s", "a/2 6m0s"}, b.target.injected)
	})
}

func TestFaultRunner_StartsAfterTheSchedule_InjectsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := &plan.Plan{Duration: seconds(100), Faults: []plan.Fault{pause("a", 90, 5)}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		b.runner(p, fault.RunnerConfig{}).Run(ctx) // saves an initial Progress in the journal
		cancel()
		r := b.runner(p, fault.RunnerConfig{Start: time.Now().Add(-110 * time.Second), Progress: b.journal.progress, ExitAtEnd: true})
		r.Run(t.Context())
		same(t, "states", []string{"a/0 NotInjected: the schedule ended before the fault could be injected"}, states(r.Records()))
	})
}

func TestFaultRunner_SimulationEnds_EndsActiveFaults(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		start := time.Now()
		r := b.runner(&plan.Plan{Faults: []plan.Fault{pause("a", 10, 5), pause("b", 13, 5)}}, fault.RunnerConfig{})
		r.Run(ctx)
		same(t, "states", []string{"a/0 Aborted: the simulation ended before the fault had ended"}, states(r.Records()))
		same(t, "saved", states(r.Records()), states(b.journal.saved()))
		same(t, "healedAt", start.Add(12*time.Second), r.Records()[0].HealedAt)
		same(t, "active faults", 0, b.target.inEffect())
	})
}

func TestFaultRunner_Suspended_InjectsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p := plan.Plan{Faults: []plan.Fault{pause("a", 10, 5), pause("b", 13, 5), pause("c", 30, 5)}}
		suspended := p
		suspended.Suspended = true
		r := b.runner(&p, fault.RunnerConfig{})
		time.AfterFunc(12*time.Second, func() { r.Update(&suspended) })
		time.AfterFunc(12*time.Second+time.Millisecond, func() { same(t, "active faults while suspended", 0, b.target.inEffect()) })
		time.AfterFunc(20*time.Second, func() { r.Update(&p) })
		r.Run(ctx)
		same(t, "states", []string{
			"a/0 Aborted: the simulation was suspended before the fault had ended",
			"b/0 Aborted: the simulation was suspended when the fault was due",
			"c/0 Healed",
		}, states(r.Records()))
	})
}

func TestFaultRunnerUpdate_FaultsAddedMovedAndRemoved_OnlyFutureOccurrencesChange(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		before := &plan.Plan{Faults: []plan.Fault{pause("removed", 40, 5), pause("moved", 10, 30), pause("stays", 50, 1)}}
		after := &plan.Plan{Faults: []plan.Fault{pause("moved", 60, 5), pause("past", 15, 5), pause("added", 45, 5), pause("stays", 50, 1)}}
		r := b.runner(before, fault.RunnerConfig{})
		time.AfterFunc(20*time.Second, func() { r.Update(after) })
		r.Run(ctx)
		same(t, "states", []string{"moved/0 Healed", "added/0 Healed", "stays/0 Healed", "moved/1 Healed"}, states(r.Records()))
	})
}

func TestFaultRunnerUpdate_IntervalChanged_FollowsTheNewSchedule(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
		defer cancel()
		before, after := pause("a", 120, 5), pause("a", 120, 5)
		before.Every, after.Every = seconds(60), seconds(240)
		r := b.runner(&plan.Plan{Faults: []plan.Fault{before}}, fault.RunnerConfig{})
		time.AfterFunc(450*time.Second, func() { r.Update(&plan.Plan{Faults: []plan.Fault{after}}) })
		r.Run(ctx)
		same(t, "injected", []string{
			"a/0 2m0s", "a/1 3m0s", "a/2 4m0s", "a/3 5m0s", "a/4 6m0s", "a/5 7m0s", "a/6 10m0s", "a/7 14m0s", "a/8 18m0s",
		}, b.target.injected)
	})
}

func TestFaultRunnerUpdate_RemovedFaultIsAddedAgain_OccursAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r := b.runner(&plan.Plan{Faults: []plan.Fault{pause("a", 10, 1)}}, fault.RunnerConfig{})
		time.AfterFunc(20*time.Second, func() { r.Update(&plan.Plan{}) })
		time.AfterFunc(30*time.Second, func() { r.Update(&plan.Plan{Faults: []plan.Fault{pause("a", 40, 1)}}) })
		r.Run(ctx)
		same(t, "injected", []string{"a/0 10s", "a/1 40s"}, b.target.injected)
	})
}

func TestFaultRunner_FaultsAddedDuringTheRun_OccurOnlyInTheFuture(t *testing.T) {
	added := pause("a", 300, 5)
	added.Every = seconds(240)
	for name, progress := range map[string]fault.Progress{
		"to a simulation without faults": {},
		"while no injector was running":  {Through: 100 * time.Second, Next: map[string]int{"b": 1}, Plan: "another"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				p := &plan.Plan{Duration: seconds(1000), Faults: []plan.Fault{added}}
				r := b.runner(p, fault.RunnerConfig{Start: time.Now().Add(-590 * time.Second), Progress: progress, Added: progress.Plan == "", ExitAtEnd: true})
				r.Run(t.Context())
				same(t, "states", []string{"a/2 Healed"}, states(r.Records())[:1])
				same(t, "due", 780*time.Second, r.Records()[0].At)
			})
		})
	}
}

// When a simulation is aborted, the schedule ends at once. A pause that is in effect must also end at once.
func TestFaultRunnerUpdate_NewScheduleEndsAtOnce_FaultInEffectEndsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		p := plan.Plan{Duration: seconds(3600), Faults: []plan.Fault{pause("long", 10, 1200)}}
		shorter := p
		shorter.Duration = seconds(60)
		r := b.runner(&p, fault.RunnerConfig{})
		time.AfterFunc(60*time.Second, func() { r.Update(&shorter) })
		r.Run(ctx)
		same(t, "states", []string{"long/0 Aborted: the simulation ended before the fault had ended"}, states(r.Records()))
		same(t, "healedAt", start.Add(time.Minute), r.Records()[0].HealedAt)
	})
}

// Each process ends at a random time. The next process must not inject an occurrence a second time, and every
// occurrence must have a record.
func TestFaultRunner_ProcessIsReplaced_NewProcessInjectsNoFaultTwice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlan(rt)
		ends := rapid.SliceOfN(rapid.IntRange(1, 200), 0, 4).Draw(rt, "ends")
		slices.Sort(ends)
		synctest.Test(t, func(t *testing.T) {
			b, start := &bench{}, time.Now()
			for _, end := range append(ends, 600) {
				ctx, cancel := context.WithDeadline(t.Context(), start.Add(time.Duration(end)*time.Second))
				r := b.runner(p, fault.RunnerConfig{Start: start, Progress: b.journal.progress, Records: b.journal.saved()})
				r.Run(ctx)
				cancel()
			}
			count := map[string]int{}
			for _, id := range b.target.injected {
				count[id]++
			}
			for o := range fault.Occurrences(p) {
				if o.At >= 600*time.Second {
					break
				}
				id := fmt.Sprint(o.ID(), " ", o.At)
				if count[id] > 1 {
					t.Errorf("%s was injected %d times", id, count[id])
				}
				if _, recorded := b.journal.records[o.ID()]; !recorded {
					t.Errorf("%s has no record", id)
				}
			}
			if b.target.active != 0 {
				t.Errorf("%d faults are still active", b.target.inEffect())
			}
		})
	})
}

// No progress is stored at first. A late Runner must still create records for the overdue occurrences.
func TestFaultRunner_FirstStartIsLate_RecordsOverdueOccurrences(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := &plan.Plan{Faults: []plan.Fault{pause("a", 10, 5), pause("b", 200, 5)}}
		r := b.runner(p, fault.RunnerConfig{Start: time.Now().Add(-2 * time.Minute), ExitAtEnd: true})
		r.Run(t.Context())
		same(t, "states", []string{
			"a/0 NotInjected: the process that injects faults was not running, or could not save its state, until 1m50s after the fault was due",
			"b/0 Healed",
		}, states(r.Records()))
	})
}

func TestFaultRunner_StartsLate_SkipsOverdueOccurrences(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := &plan.Plan{Faults: []plan.Fault{pause("a", 10, 5), pause("b", 100, 5)}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		b.runner(p, fault.RunnerConfig{}).Run(ctx) // stores a first Progress in the journal
		cancel()
		r := b.runner(p, fault.RunnerConfig{Start: time.Now().Add(-2 * time.Minute), Progress: b.journal.progress, ExitAtEnd: true})
		r.Run(t.Context())
		same(t, "states", []string{
			"a/0 NotInjected: the process that injects faults was not running, or could not save its state, until 1m50s after the fault was due",
			"b/0 Healed",
		}, states(r.Records()))
	})
}

func TestFaultRunner_FaultOfPreviousProcess_IsRecordedAsAborted(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		o := fault.Occurrence{Fault: "a", Action: plan.ActionKill}
		r := b.runner(&plan.Plan{}, fault.RunnerConfig{ExitAtEnd: true, Records: []fault.Record{{Occurrence: o, State: fault.Active}}})
		r.Run(t.Context())
		same(t, "states", []string{"a/0 Aborted: the process that injected the fault ended before the fault had ended"}, states(r.Records()))
	})
}

// A recovery within 2 s is visible only in rows of 1 s. The account must not change when rows are merged.
func TestFaultRunnerSettle_TimelineGetsCoarser_KeepsFinalAccounts(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		start := time.Now()
		b.target.recovery = 2 * time.Second
		kill := plan.Fault{Name: "a", Target: plan.TargetRedis, Action: plan.ActionKill, Instances: 1, At: seconds(40)}
		r := b.runner(&plan.Plan{Faults: []plan.Fault{kill}}, fault.RunnerConfig{Start: start})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		settled := make(chan []fault.Account, 1)
		time.AfterFunc(90*time.Second, func() { settled <- r.Settle(fault.RunSoFar(steady(start, 90), time.Time{})) })
		r.Run(ctx)
		before := <-settled
		if before[0].Outcome != fault.OutcomeRecovered {
			t.Fatalf("the account is %+v", before[0])
		}
		same(t, "the accounts without a timeline", before, fault.Accounts(b.journal.saved(), fault.Run{Ended: true}))
		if saved := b.journal.saved()[0]; saved.Baseline == nil {
			t.Errorf("the journal lacks the baseline: %+v", saved)
		}
	})
}

// steady returns one row of the timeline per second. In each row, 50 entries took effect.
func steady(start time.Time, seconds int) []timeline.Row {
	var rows []timeline.Row
	for n := range seconds {
		var h histogram.Histogram
		for range 50 {
			h.Observe(time.Millisecond)
		}
		rows = append(rows, timeline.Row{Second: start.Unix() + int64(n), Entry: timeline.Events{Due: 50, Published: 50, Effects: 50, EndToEnd: h.Snapshot()}})
	}
	return rows
}
