package fault_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// first returns the first n occurrences of a plan, or all of them if the plan has fewer.
func first(p *plan.Plan, n int) []fault.Occurrence {
	var list []fault.Occurrence
	for o := range fault.Occurrences(p) {
		if list = append(list, o); len(list) == n {
			break
		}
	}
	return list
}

func seconds(n int) plan.Duration { return plan.Duration(time.Duration(n) * time.Second) }

func drawPlan(t *rapid.T) *plan.Plan {
	p := &plan.Plan{Seed: rapid.Uint64().Draw(t, "seed"), Duration: seconds(rapid.IntRange(0, 500).Draw(t, "duration"))}
	for i := range rapid.IntRange(0, 6).Draw(t, "faults") {
		f := plan.Fault{Name: fmt.Sprint("fault-", i), Target: plan.TargetRedis, Action: plan.ActionKill, Instances: 1}
		at := rapid.IntRange(0, 300).Draw(t, "at")
		spread := rapid.IntRange(0, min(at, 20)).Draw(t, "jitter")
		f.At, f.Jitter = seconds(at), seconds(spread)
		if rapid.Bool().Draw(t, "lasts") {
			f.Action, f.For = plan.ActionPause, seconds(rapid.IntRange(1, 20).Draw(t, "for"))
		}
		if rapid.Bool().Draw(t, "repeats") {
			f.Every = f.For + 2*f.Jitter + seconds(rapid.IntRange(1, 60).Draw(t, "every"))
		}
		p.Faults = append(p.Faults, f)
	}
	return p
}

func TestFaultOccurrences_RandomPlan_AreInOrderAndWithinJitter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlan(t)
		list := first(p, 200)
		last := map[string]fault.Occurrence{}
		for i, o := range list {
			f := p.Faults[slices.IndexFunc(p.Faults, func(f plan.Fault) bool { return f.Name == o.Fault })]
			planned := f.At.D() + time.Duration(o.Number)*f.Every.D()
			if off := (o.At - planned).Abs(); off > f.Jitter.D() {
				t.Fatalf("%s is due %s away from its planned time, more than the jitter of %s", o.ID(), off, f.Jitter)
			}
			if i > 0 && o.At < list[i-1].At {
				t.Fatalf("%s, due at %s, comes after %s, due at %s", o.ID(), o.At, list[i-1].ID(), list[i-1].At)
			}
			if end := p.Duration.D(); end > 0 && o.At+o.For >= end {
				t.Fatalf("%s ends at %s, but the plan ends at %s", o.ID(), o.At+o.For, end)
			}
			if before, ok := last[o.Fault]; ok && (o.Number != before.Number+1 || o.At <= before.At+before.For) {
				t.Fatalf("%s, due at %s, is not the next occurrence after %s, which ends at %s", o.ID(), o.At, before.ID(), before.At+before.For)
			}
			last[o.Fault] = o
		}
		if diff := cmp.Diff(list, first(p, 200)); diff != "" {
			t.Fatalf("a second call for the same plan returns other occurrences (-first +second):\n%s", diff)
		}
	})
}

func TestFaultOccurrences_FaultRemovedAndOthersReordered_OtherOccurrencesStayTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlan(t)
		if len(p.Faults) == 0 {
			t.Skip("no faults")
		}
		edited := *p
		edited.Faults = slices.Clone(p.Faults)
		slices.Reverse(edited.Faults)
		removed := edited.Faults[0].Name
		edited.Faults = edited.Faults[1:]
		until := 400 * time.Second
		want := within(p, until, removed)
		if diff := cmp.Diff(want, within(&edited, until, removed)); diff != "" {
			t.Fatalf("without %s, the occurrences of the other faults differ (-before +after):\n%s", removed, diff)
		}
	})
}

// within returns the occurrences that are due before the given time, except those of one fault.
func within(p *plan.Plan, until time.Duration, exceptFault string) []fault.Occurrence {
	var list []fault.Occurrence
	for o := range fault.Occurrences(p) {
		if o.At >= until {
			break
		}
		if o.Fault != exceptFault {
			list = append(list, o)
		}
	}
	return list
}

func TestFaultOccurrences_DifferentSeeds_Differ(t *testing.T) {
	t.Parallel()
	p := &plan.Plan{Seed: 1, Faults: []plan.Fault{{Name: "a", Target: plan.TargetRedis, Action: plan.ActionKill, At: seconds(60), Every: seconds(60), Jitter: seconds(20)}}}
	other := *p
	other.Seed = 2
	if cmp.Equal(first(p, 10), first(&other, 10)) {
		t.Error("two seeds have the same occurrences")
	}
}

// Users rely on the seed to repeat a run. So no version of this program may change the occurrences that follow from a
// seed.
func TestFaultOccurrences_FixedSeed_AreTheSameInEveryVersion(t *testing.T) {
	t.Parallel()
	p := &plan.Plan{Seed: 42, Faults: []plan.Fault{{Name: "redis-crash", Target: plan.TargetRedis, Action: plan.ActionKill, At: seconds(60), Every: seconds(60), Jitter: seconds(20), Instances: 1}}}
	var got []string
	for _, o := range first(p, 3) {
		got = append(got, fmt.Sprintf("%s %s %v", o.ID(), o.At, o.Pick(4)))
	}
	want := []string{"redis-crash/0 1m15.689395484s [3]", "redis-crash/1 2m11.984680414s [2]", "redis-crash/2 3m10.319296485s [2]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("occurrences (-want +got):\n%s", diff)
	}
}

func TestPickInstances_RandomNumberOrPercentage_ChoosesThatManyInstances(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 20).Draw(t, "instances")
		o := fault.Occurrence{Draw: rapid.Uint64().Draw(t, "draw")}
		var want int
		if rapid.Bool().Draw(t, "percentage") {
			o.Percent = rapid.IntRange(1, 100).Draw(t, "percent")
			want = (n*o.Percent + 99) / 100
		} else {
			o.Instances = rapid.IntRange(1, 25).Draw(t, "number")
			want = min(n, o.Instances)
		}
		got := o.Pick(n)
		valid := slices.IsSorted(got) && len(slices.Compact(slices.Clone(got))) == len(got)
		if len(got) != want || !valid || want > 0 && (got[0] < 0 || got[want-1] >= n) {
			t.Fatalf("picked %v of %d instances, want %d", got, n, want)
		}
	})
}

func TestPickInstances_ManyDraws_ChooseEveryInstance(t *testing.T) {
	t.Parallel()
	hit := map[int]int{}
	p := &plan.Plan{Seed: 7, Faults: []plan.Fault{{Name: "a", Instances: 1, Every: seconds(1)}}}
	for _, o := range first(p, 300) {
		for _, index := range o.Pick(3) {
			hit[index]++
		}
	}
	for index := range 3 {
		if hit[index] < 60 {
			t.Errorf("instance %d was hit %d times of 300, want about 100", index, hit[index])
		}
	}
}

func FuzzOccurrences_ArbitraryTimes_NoOccurrenceIsDueBeforeTheStart(f *testing.F) {
	f.Add(uint64(1), int64(time.Minute), int64(time.Second), int64(0), int64(0), int64(0))
	f.Add(uint64(9), int64(0), int64(1<<62), int64(1<<62), int64(1<<62), int64(1<<62))
	f.Fuzz(func(t *testing.T, seed uint64, duration, at, every, spread, length int64) {
		p := &plan.Plan{Seed: seed, Duration: plan.Duration(duration), Faults: []plan.Fault{
			{Name: "a", At: plan.Duration(at), Every: plan.Duration(every), Jitter: plan.Duration(spread), For: plan.Duration(length)},
			{Name: "b", At: plan.Duration(every), Every: plan.Duration(at)},
		}}
		for i, o := range first(p, 100) {
			if o.At < 0 {
				t.Fatalf("occurrence %d is due at %s, before the start", i, o.At)
			}
		}
	})
}
