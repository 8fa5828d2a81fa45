package fault_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// target is an injector that lists the occurrences that were passed to Inject.
type target struct {
	mu       sync.Mutex
	injected []string
	active   int
	// err is the error that Inject returns. recovery is how long a fault without a duration, such as a kill,
	// stays in effect.
	err      error
	recovery time.Duration
}

func (f *target) Inject(_ context.Context, o fault.Occurrence) (fault.Injection, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return fault.Injection{}, f.err
	}
	f.injected = append(f.injected, fmt.Sprint(o.ID(), " ", o.At))
	f.active++
	length := max(o.For, f.recovery)
	return fault.Injection{Hit: []string{"redis"}, At: time.Now(), Healed: func(ctx context.Context) (time.Time, error) {
		select {
		case <-time.After(length):
		case <-ctx.Done():
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.active--
		return time.Now(), nil
	}}, nil
}

func (f *target) inEffect() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.active
}

// journal stores the progress and the records in memory. While its field err is set, Save fails.
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
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// inBubble runs a test with the fake clock of package synctest.
func inBubble(t *testing.T, test func(*testing.T, *bench)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(t, &bench{}) })
}

func pause(name string, at, length int) plan.Fault {
	return plan.Fault{Name: name, Target: plan.TargetRedis, Action: plan.ActionPause, Instances: 1, At: seconds(at), For: seconds(length)}
}

func TestRunner_InjectsDueOccurrences_ThenReturns(t *testing.T) {
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
		same(t, "hit", []string{"redis"}, last.Hit)
		same(t, "the last marks", []string{"injected b/2 Pause of redis", "healed b/2 Healed"}, b.marks[len(b.marks)-2:])
	})
}

func TestRunner_SavesTheRecordBeforeInjecting(t *testing.T) {
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

func TestRunner_InjectionFails_RecordsTheReason(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.target.err = errors.New("there is no pod of Redis")
		r := b.runner(&plan.Plan{Faults: []plan.Fault{pause("a", 1, 5)}}, fault.RunnerConfig{ExitAtEnd: true})
		r.Run(t.Context())
		same(t, "states", []string{"a/0 NotInjected: there is no pod of Redis"}, states(r.Records()))
	})
}

func TestRunner_SimulationEnds_EndsActiveFaults(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		start := time.Now()
		r := b.runner(&plan.Plan{Faults: []plan.Fault{pause("a", 10, 5), pause("b", 13, 5)}}, fault.RunnerConfig{})
		r.Run(ctx)
		same(t, "states", []string{"a/0 Aborted: the simulation ended before the fault did"}, states(r.Records()))
		same(t, "saved", states(r.Records()), states(b.journal.saved()))
		same(t, "healedAt", start.Add(12*time.Second), r.Records()[0].HealedAt)
		same(t, "active faults", 0, b.target.inEffect())
	})
}

func TestRunner_Suspended_InjectsNothing(t *testing.T) {
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
			"a/0 Aborted: the simulation was suspended before the fault did",
			"b/0 Aborted: the simulation was suspended when the fault was due",
			"c/0 Healed",
		}, states(r.Records()))
	})
}

func TestUpdate_AffectsOnlyFutureOccurrences(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		before := &plan.Plan{Faults: []plan.Fault{pause("removed", 40, 5), pause("kept", 10, 30), pause("stays", 50, 1)}}
		after := &plan.Plan{Faults: []plan.Fault{pause("kept", 60, 5), pause("past", 15, 5), pause("added", 45, 5), pause("stays", 50, 1)}}
		r := b.runner(before, fault.RunnerConfig{})
		time.AfterFunc(20*time.Second, func() { r.Update(after) })
		r.Run(ctx)
		same(t, "states", []string{"kept/0 Healed", "added/0 Healed", "stays/0 Healed"}, states(r.Records()))
	})
}

// The first process ends at a random time. The next process must not inject an occurrence a second time. It may
// skip only the occurrences that are late by more than MaxLate.
func TestRunner_ProcessIsReplaced_NewProcessInjectsNoFaultTwice(t *testing.T) {
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

func TestRunner_StartsLate_SkipsOverdueOccurrences(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := &plan.Plan{Faults: []plan.Fault{pause("a", 10, 5), pause("b", 100, 5)}}
		r := b.runner(p, fault.RunnerConfig{Start: time.Now().Add(-2 * time.Minute), ExitAtEnd: true})
		r.Run(t.Context())
		same(t, "states", []string{
			"a/0 NotInjected: the injector was not running when the fault was due, and started 1m50s later",
			"b/0 Healed",
		}, states(r.Records()))
	})
}

func TestRunner_FaultOfPreviousProcess_IsRecordedAsAborted(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		o := fault.Occurrence{Fault: "a", Action: plan.ActionKill}
		r := b.runner(&plan.Plan{}, fault.RunnerConfig{ExitAtEnd: true, Records: []fault.Record{{Occurrence: o, State: fault.Active}}})
		r.Run(t.Context())
		same(t, "states", []string{"a/0 Aborted: the process that injected the fault ended before the fault did"}, states(r.Records()))
	})
}
