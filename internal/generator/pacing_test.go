package generator

import (
	"math"
	"slices"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// origin is when the schedules in these tests begin.
var origin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// arrivals returns when events are due, up to the given time. The map edits contains the new pacing for each time at
// which the pacing changes. All times are relative to origin.
func arrivals(p *pacer, until time.Duration, edits map[time.Duration]pacing) []time.Duration {
	times := make([]time.Duration, 0, len(edits)+1)
	for at := range edits {
		times = append(times, at)
	}
	slices.Sort(times)
	var due []time.Duration
	for _, stop := range append(times, until) {
		for {
			at, wait, _ := p.next(origin.Add(min(stop, last(due))))
			if wait == never || at.IsZero() || at.After(origin.Add(stop)) {
				break
			}
			due = append(due, at.Sub(origin))
			p.advance()
		}
		if next, ok := edits[stop]; ok {
			p.update(next, origin.Add(stop))
		}
	}
	return due
}

func last(due []time.Duration) time.Duration {
	if len(due) == 0 {
		return 0
	}
	return due[len(due)-1]
}

func uniform(rate int64, stages ...plan.Stage) pacing {
	return pacing{
		schedule: plan.Schedule{Rate: rate, Arrivals: plan.ArrivalsUniform, Replicas: 1, Stages: stages},
		origin:   origin,
	}
}

func stage(d time.Duration, rate int64) plan.Stage {
	return plan.Stage{Duration: plan.Duration(d), Rate: rate}
}

func started(p pacing) *pacer {
	r := newPacer(p)
	r.start(origin)
	return r
}

func TestPacer_NumberOfDueEvents_IsTheIntegralOfTheRate(t *testing.T) {
	t.Parallel()
	lasting := func(p pacing, d time.Duration) pacing { p.duration = d; return p }
	delayed := func(p pacing, d time.Duration) pacing { p.delay = d; return p }
	beginning := func(p pacing, d time.Duration) pacing { p.origin = origin.Add(d); return p }
	for _, tt := range []struct {
		name   string
		pacing pacing
		edits  map[time.Duration]pacing
		until  time.Duration
		want   int
	}{
		{"10 per second for a minute", uniform(10), nil, time.Minute, 600},
		{"1000 per second for a minute", uniform(1000), nil, time.Minute, 60_000},
		{"5000 per second for a minute", uniform(5000), nil, time.Minute, 300_000},
		{"7 per second for a day", uniform(7), nil, 24 * time.Hour, 604_800},
		{"none at a rate of 0", uniform(0), nil, time.Hour, 0},
		{"half the final rate on a ramp from 0", uniform(0, stage(time.Minute, 100)), nil, time.Minute, 3_000},
		{"half the first rate on a ramp to 0", uniform(100, stage(time.Minute, 0)), nil, time.Hour, 3_000},
		{"the area under several stages", uniform(100, stage(10*time.Second, 200), stage(10*time.Second, 200),
			stage(10*time.Second, 0), stage(10*time.Second, 1000)), nil, 41 * time.Second,
			1_500 + 2_000 + 1_000 + 5_000 + 1_000},
		{"a stage of 0 s is a step", uniform(100, stage(0, 300)), nil, 10 * time.Second, 3_000},
		{"the rate of the last stage continues", uniform(10, stage(time.Second, 30)), nil, 11 * time.Second, 320},
		{"none after the end", lasting(uniform(10), time.Minute), nil, time.Hour, 600},
		{"none after an end within a stage", lasting(uniform(0, stage(time.Minute, 60)), 30*time.Second), nil, time.Hour, 450},
		{"none before the origin", beginning(uniform(10), 30*time.Second), nil, time.Minute, 300},
		{"none for the time before the process started", beginning(uniform(10), -30*time.Second), nil, time.Minute, 600},
		{"a stage that began before the process started continues", beginning(uniform(0, stage(time.Minute, 60)), -30*time.Second),
			nil, 30 * time.Second, 1_350},
		{"a delay shifts the stages but not the end",
			delayed(lasting(uniform(0, stage(10*time.Second, 100)), 20*time.Second), 5*time.Second), nil, time.Hour, 1_000},
		{"none if the delay exceeds the duration", delayed(lasting(uniform(10), time.Second), 2*time.Second), nil, time.Hour, 0},
		{"a new rate after an edit", uniform(10),
			map[time.Duration]pacing{30 * time.Second: uniform(1000)}, time.Minute, 300 + 30_000},
		{"no jump at edits without a change", uniform(10), map[time.Duration]pacing{
			1050 * time.Millisecond: uniform(10), 1075 * time.Millisecond: uniform(10), 1099 * time.Millisecond: uniform(10),
		}, time.Minute, 600},
		{"an edit to a rate of 0 and back", uniform(100), map[time.Duration]pacing{
			10 * time.Second: uniform(0), 20 * time.Second: uniform(100),
		}, 30 * time.Second, 2_000},
		{"a later end", lasting(uniform(10), time.Minute),
			map[time.Duration]pacing{90 * time.Second: lasting(uniform(10), 2*time.Minute)}, time.Hour, 600 + 300},
		{"an earlier end", lasting(uniform(10), time.Minute),
			map[time.Duration]pacing{20 * time.Second: lasting(uniform(10), 10*time.Second)}, time.Hour, 200},
		{"a suspension", uniform(10), map[time.Duration]pacing{
			10 * time.Second: {schedule: uniform(10).schedule, origin: origin, suspended: true},
			40 * time.Second: uniform(10),
		}, time.Minute, 300},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			due := arrivals(started(tt.pacing), tt.until, tt.edits)
			if got := len(due); got < tt.want-1 || got > tt.want+1 {
				t.Errorf("%d events are due, want %d ± 1", got, tt.want)
			}
			if !slices.IsSorted(due) {
				t.Error("the events are not in order")
			}
		})
	}
}

func TestPacer_ReplicasShareTheRate(t *testing.T) {
	t.Parallel()
	for _, rate := range []int64{1, 10, 1000, 5000} {
		for _, replicas := range []int{1, 2, 3, 7} {
			sum := 0
			for range replicas {
				p := uniform(rate)
				p.schedule.Replicas = replicas
				sum += len(arrivals(started(p), time.Minute, nil))
			}
			if want := int(60 * rate); sum < want-replicas || sum > want {
				t.Errorf("%d replicas have %d events at %d per second in a minute, want %d or at most one less per replica",
					replicas, sum, rate, want)
			}
		}
	}
}

func TestPacer_UniformArrivals_HaveEqualIntervals(t *testing.T) {
	t.Parallel()
	for i, at := range arrivals(started(uniform(3)), 24*time.Hour, nil) {
		want := time.Duration(math.Round(float64(i+1) * 1e9 / 3))
		if d := (at - want).Abs(); d > time.Microsecond {
			t.Fatalf("event %d is due %s after the origin, want %s", i, at, want)
		}
	}
}

func TestPacer_RateChangesBetweenTwoEvents_NewRateAppliesToTheRestOfTheInterval(t *testing.T) {
	t.Parallel()
	// When the rate changes from 1 to 10 events per second, 60 % of the interval remains. At the new rate, the rest
	// takes 60 ms.
	due := arrivals(started(uniform(1)), 2*time.Second, map[time.Duration]pacing{1400 * time.Millisecond: uniform(10)})
	want := []time.Duration{1000, 1460, 1560, 1660, 1760, 1860, 1960}
	for i := range want {
		want[i] *= time.Millisecond
	}
	if !slices.EqualFunc(due, want, func(a, b time.Duration) bool { return (a - b).Abs() < time.Microsecond }) {
		t.Errorf("events are due at %v, want %v", due, want)
	}
}

func TestPacer_Update_KeepsOverdueEvents(t *testing.T) {
	t.Parallel()
	p := started(uniform(1000))
	p.update(uniform(1), origin.Add(10*time.Second))
	if at, wait, _ := p.next(origin.Add(10 * time.Second)); !at.Equal(origin.Add(time.Millisecond)) || wait >= 0 {
		t.Errorf("the first event is due at %s with a wait of %s, want 1 ms after %s", at, wait, origin)
	}
	if got := len(arrivals(p, 20*time.Second, nil)); got != 10_010 {
		t.Errorf("%d events are due, want 10010", got)
	}
}

func TestPacer_PoissonArrivals_HaveRandomIntervals(t *testing.T) {
	t.Parallel()
	poisson := uniform(0, stage(100*time.Second, 2000), stage(0, 1000))
	poisson.schedule.Arrivals = plan.ArrivalsPoisson
	seeded := func(seed, stream uint64) []time.Duration {
		p := started(poisson)
		p.seed(seed, stream)
		return arrivals(p, 300*time.Second, nil)
	}

	t.Run("arrivals have the rate of the schedule", func(t *testing.T) {
		t.Parallel()
		for seed := range uint64(5) {
			got, mean := float64(len(seeded(seed, 0))), 300_000.0
			if math.Abs(got-mean) > 5*math.Sqrt(mean) {
				t.Errorf("seed %d: %.0f events, want %.0f ± %.0f", seed, got, mean, 5*math.Sqrt(mean))
			}
		}
	})
	t.Run("arrivals have exponentially distributed intervals", func(t *testing.T) {
		t.Parallel()
		due := seeded(42, 0)
		due = due[100_000+2000:] // keep only the events at the constant rate of 1000 per second
		var longer [4]int
		for i, at := range due[1:] {
			for k := range longer {
				if at-due[i] > time.Duration(k)*time.Millisecond {
					longer[k]++
				}
			}
		}
		n := float64(len(due) - 1)
		for k, got := range longer {
			if want := n * math.Exp(-float64(k)); math.Abs(float64(got)-want) > 5*math.Sqrt(n) {
				t.Errorf("%d of %.0f intervals exceed %d ms, want %.0f", got, n, k, want)
			}
		}
	})
	t.Run("arrivals are equal for equal seeds", func(t *testing.T) {
		t.Parallel()
		if !slices.Equal(seeded(1, 2), seeded(1, 2)) {
			t.Error("two runs with the same seed have different arrivals")
		}
	})
	t.Run("replicas with the same seed have different arrivals", func(t *testing.T) {
		t.Parallel()
		if slices.Equal(seeded(1, 2)[:10], seeded(1, 3)[:10]) {
			t.Error("two replicas have the same arrivals")
		}
	})
}

func TestPacer_RandomSchedulesAndEdits_NumberOfEventsIsTheIntegralOfTheRate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(0, 500)
		draw := func() pacing {
			p := uniform(rate.Draw(t, "rate"))
			p.schedule.Replicas = rapid.IntRange(1, 4).Draw(t, "replicas")
			p.origin = origin.Add(time.Duration(rapid.Int64Range(-20e9, 20e9).Draw(t, "origin")))
			p.duration = time.Duration(rapid.Int64Range(0, 40e9).Draw(t, "duration"))
			for range rapid.IntRange(0, 3).Draw(t, "stages") {
				length := time.Duration(rapid.Int64Range(0, 10e9).Draw(t, "length"))
				p.schedule.Stages = append(p.schedule.Stages, stage(length, rate.Draw(t, "to")))
			}
			return p
		}
		current := draw()
		p := started(current)
		var want float64
		count, now, previous := 0, time.Duration(0), time.Duration(-1)
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			until := now + time.Duration(rapid.Int64Range(0, 900e6).Draw(t, "step"))
			want += integral(current, now, until)
			for {
				at, wait, _ := p.next(origin.Add(until))
				if wait > 0 {
					break
				}
				if at.Sub(origin) < previous {
					t.Fatalf("event %d is due at %s, before %s", count, at, origin.Add(previous))
				}
				previous = at.Sub(origin)
				count++
				p.advance()
			}
			now = until
			if rapid.Bool().Draw(t, "edit") {
				current = draw()
				p.update(current, origin.Add(now))
			}
		}
		if missed := p.progress(origin.Add(now)).missed; math.Abs(float64(count)+float64(missed)-want) > 1.01 {
			t.Fatalf("%d events were returned and %d were missed, but the integral of the rate is %.3f", count, missed, want)
		}
	})
}

// integral computes the integral of the rate numerically, in small steps.
func integral(p pacing, from, to time.Duration) float64 {
	const steps = 20_000
	var sum float64
	dt := (to - from) / steps
	for i := range time.Duration(steps) {
		sum += rateAt(p, from+i*dt+dt/2) * dt.Seconds()
	}
	return sum
}

func rateAt(p pacing, t time.Duration) float64 {
	begin := p.origin.Sub(origin)
	if t < begin || (p.duration > 0 && t >= begin+p.duration) {
		return 0
	}
	at, rate, share := begin, float64(p.schedule.Rate), float64(p.schedule.Replicas)
	for _, s := range p.schedule.Stages {
		if t < at+s.Duration.D() {
			done := float64(t-at) / float64(s.Duration)
			return (rate + done*(float64(s.Rate)-rate)) / share
		}
		at, rate = at+s.Duration.D(), float64(s.Rate)
	}
	return rate / share
}

func TestPacer_Lag_IsTheTimeSinceTheNextEventWasDue(t *testing.T) {
	t.Parallel()
	p := started(uniform(10))
	for _, tt := range []struct{ now, want time.Duration }{
		{0, 0},
		{100 * time.Millisecond, 0},
		{101 * time.Millisecond, time.Millisecond},
		{5 * time.Second, 4900 * time.Millisecond},
	} {
		if got := p.lag(origin.Add(tt.now)); got != tt.want {
			t.Errorf("the lag is %s at %s, want %s", got, tt.now, tt.want)
		}
	}
	p.advance()
	if got, want := p.lag(origin.Add(5*time.Second)), 4800*time.Millisecond; got != want {
		t.Errorf("the lag is %s after one event, want %s", got, want)
	}
}

func TestPacer_ScheduleStops_OverdueEventsAreSkippedAfterAWhile(t *testing.T) {
	t.Parallel()
	ending := uniform(1000)
	ending.duration = 10 * time.Second
	suspended := uniform(1000)
	suspended.suspended = true
	for _, tt := range []struct {
		name   string
		pacing pacing
		edit   pacing
	}{
		{"at its end", ending, ending},
		{"when it is suspended", uniform(1000), suspended},
		{"when its rate is set to 0", uniform(1000), uniform(0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := started(tt.pacing)
			rest := origin.Add(10 * time.Second)
			p.update(tt.edit, rest)
			if _, wait, _ := p.next(rest.Add(patience)); wait > 0 {
				t.Errorf("no event is due %s after the schedule stopped, want the overdue events", patience)
			}
			p.advance()
			// A second update of the pacer with the same pacing must not extend the time in which overdue events are
			// published.
			p.update(tt.edit, rest.Add(patience))
			if at, wait, _ := p.next(rest.Add(patience + 1)); wait <= 0 {
				t.Errorf("the event that was due at %s is still not skipped more than %s after the schedule stopped", at, patience)
			}
			if got := p.progress(rest.Add(patience + 1)).missed; got != 9_999 {
				t.Errorf("%d events were missed, want 9999", got)
			}
			p.update(uniform(10), rest.Add(time.Minute))
			if got, want := len(arrivals(p, 80*time.Second, nil)), 100; got != want {
				t.Errorf("%d events are due in 10 s after the schedule was resumed, want %d", got, want)
			}
		})
	}
}

func TestPacer_Next_DistinguishesEndOfScheduleFromRateZero(t *testing.T) {
	t.Parallel()
	p := uniform(0)
	p.duration = time.Minute
	r := started(p)
	if _, wait, over := r.next(origin.Add(time.Second)); over || wait != 59*time.Second {
		t.Errorf("at a rate of 0 the wait is %s and over is %t, want 59s and false", wait, over)
	}
	if _, wait, over := r.next(origin.Add(time.Minute)); !over || wait != never {
		t.Errorf("at the end the wait is %s and over is %t, want never and true", wait, over)
	}
	p.duration = 0
	r.update(p, origin.Add(2*time.Minute))
	if _, wait, over := r.next(origin.Add(2 * time.Minute)); over || wait != never {
		t.Errorf("without a duration the wait is %s and over is %t, want never and false", wait, over)
	}
}

func TestPacer_HugeTimes_DoNotOverflow(t *testing.T) {
	t.Parallel()
	huge := plan.Duration(never)
	for name, p := range map[string]pacing{
		"stages of the longest duration":  uniform(10, plan.Stage{Duration: huge, Rate: 10}, plan.Stage{Duration: huge, Rate: 10}),
		"a delay of the longest duration": {schedule: uniform(10).schedule, origin: origin, delay: never},
		"an origin in the year 1":         {schedule: uniform(10, stage(time.Second, 10)).schedule, origin: time.Unix(-62135596799, 0)},
		"an origin in the year 9999":      {schedule: uniform(10).schedule, origin: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)},
		"the longest duration":            {schedule: uniform(10).schedule, origin: origin.Add(time.Second), duration: never},
		"one event in years":              {schedule: plan.Schedule{Rate: 1, Replicas: math.MaxInt32}, origin: origin},
		"no replicas":                     {schedule: plan.Schedule{Rate: 10}, origin: origin},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := len(arrivals(started(p), time.Minute, nil)); got != 600 && got != 590 && got != 0 {
				t.Errorf("%d events are due within a minute, want 600, 590 or 0", got)
			}
		})
	}
}

func BenchmarkPacer(b *testing.B) {
	p := started(uniform(0, stage(1000*time.Hour, math.MaxInt32)))
	b.ReportAllocs()
	for b.Loop() {
		p.next(origin)
		p.advance()
	}
}

// setClock returns t with a wall clock reading that is later by the given number of seconds. The monotonic clock
// reading does not change.
func setClock(t time.Time, seconds int64) time.Time {
	// A time.Time with a monotonic clock reading begins with 8 bytes for the wall clock: 1 flag bit, 33 bits of seconds
	// and 30 bits of nanoseconds.
	*(*uint64)(unsafe.Pointer(&t)) += uint64(seconds) << 30
	return t
}

func TestPacerNext_ClockWasSet_DueTimeFollowsTheClock(t *testing.T) {
	t.Parallel()
	for name, seconds := range map[string]int64{"forward": 600, "back": -600} {
		p, start := newPacer(pacing{schedule: uniform(1).schedule}), time.Now()
		p.start(start)
		now := setClock(start.Add(5*time.Second), seconds)
		if elapsed, set := now.Sub(start), now.Round(0).Sub(start.Round(0)); elapsed != 5*time.Second || set != elapsed+time.Duration(seconds)*time.Second {
			t.Fatalf("%s: after %s, the clock has advanced by %s", name, elapsed, set)
		}
		due, wait, _ := p.next(now)
		if due.Sub(start) != time.Second || wait != -4*time.Second {
			t.Errorf("%s: the first event is due %s after the start and in %s, want 1s and -4s", name, due.Sub(start), wait)
		}
		if late := now.Round(0).Sub(due.Round(0)); late != 4*time.Second {
			t.Errorf("%s: on the clock, the event is %s late, want 4s", name, late)
		}
	}
}
