package view

import (
	"cmp"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// fake is a source with the generated data of a simulation.
type fake struct {
	mu    sync.Mutex
	state State
	rows  []timeline.Row
	err   error
	// stateErr is an error of the method State only. timelineErr is an error of the method Timeline only.
	stateErr, timelineErr error
	// calls counts the calls of State, and reads counts the calls of Timeline.
	calls, reads int
}

// newFake returns a source whose run started the given number of seconds ago, and has one row per second.
func newFake(run string, seconds int) *fake {
	now := time.Now()
	f := &fake{state: State{
		Run: run, Simulation: "default.rush-hour", Version: "v0.4.0", Phase: Running, At: now,
		StartedAt: now.Add(-time.Duration(seconds) * time.Second), DurationSeconds: 4000,
		Objectives: Objectives{EndToEndP99Seconds: 2, ProcessingP99Seconds: 0.1},
		Queues:     Queues{Ready: new(int64(182)), Retrying: new(int64(12)), DeadLetters: new(int64(0)), InFlight: new(int64(37)), Pool: new(int64(61_300))},
	}}
	start := now.Unix() - int64(seconds)
	for i := range seconds {
		f.rows = append(f.rows, fakeRow(start+int64(i), i, seconds))
	}
	f.account()
	f.state.Faults = fakeFaults(now.Add(-time.Duration(seconds)*time.Second), seconds)
	return f
}

// fakeFaults generates three faults: one that causes an outage, one that is still in effect, and one that was not
// injected.
func fakeFaults(start time.Time, length int) []fault.Account {
	at := func(share float64) time.Time {
		return start.Add(time.Duration(share * float64(length) * float64(time.Second)))
	}
	return []fault.Account{
		{
			Fault: "redis-crash", Target: plan.TargetRedis, Action: plan.ActionKill, AtSeconds: 0.5 * float64(length), Hit: []string{"redis-0"},
			InjectedAt: at(0.5), HealedAt: at(0.55), RecoveredAt: at(0.6), RecoverySeconds: new(0.05 * float64(length)),
			PeakLagSeconds: 1.2, PeakBacklog: new(int64(1240)), PeakP99Seconds: new(3.4), Redeliveries: 812, DuplicatesSuppressed: 97,
			Outcome: fault.OutcomeRecovered, Message: "Latency and backlog returned to their previous level 20s after the end of the fault",
		},
		{
			Fault: "stall", Target: plan.TargetProcessor, Action: plan.ActionPause, AtSeconds: 0.9 * float64(length),
			InjectedAt: at(0.9), Outcome: fault.OutcomeActive, Message: "The fault is in effect",
		},
		{
			Fault: "<cut>", Number: 3, Target: plan.TargetRabbitMQ, Action: plan.ActionIsolate,
			Outcome: fault.OutcomeNotInjected, Message: "The fault was not injected: no such pod",
		},
	}
}

// fakeRow generates row i of a run that has the given length in seconds. The run has an outage in the middle.
func fakeRow(second int64, i, length int) timeline.Row {
	r := rand.New(rand.NewPCG(uint64(second), 1))
	share := float64(i) / float64(max(length, 1))
	due := int64(1500 + 1500*math.Sin(share*9))
	outage := share > 0.5 && share < 0.55
	recovering := share >= 0.55 && share < 0.6
	published, slow := due-int64(r.IntN(20)), 1.0
	if outage {
		published, slow = due/10, 12
	} else if recovering {
		published, slow = due*3/2, 60
	}
	row := timeline.Row{Second: second, Entry: fakeEvents(r, due, published, slow), Exit: fakeEvents(r, 900, 880+int64(r.IntN(40)), slow)}
	row.Entry.Outcomes = map[string]int64{"recorded": published}
	row.Exit.Outcomes = map[string]int64{"matched": 450, "unmatched_expected": 430, "duplicate": int64(r.IntN(4))}
	row.Exit.Matched = 450
	row.Ready, row.Retrying, row.DeadLetters = new(int64(20*slow)+int64(r.IntN(200))), new(int64(slow)), new(int64(0))
	row.Pool = new(int64(40_000 + 20_000*math.Sin(share*3)))
	at := time.Unix(second, 0).UTC()
	switch i {
	case 1:
		row.Marks = []timeline.Mark{{At: at, Kind: timeline.MarkStarted, Subject: "processor-0"}}
	case length / 2:
		row.Entry.Errors = map[string]int64{"store": 200}
		row.Marks = []timeline.Mark{{At: at, Kind: timeline.MarkUnavailable, Subject: "redis", Message: "connection refused"}}
	case length / 5:
		row.Marks = []timeline.Mark{{At: at, Kind: timeline.MarkDown, Subject: "processor", Message: "pod rush-hour-processor-0 failed with exit code 137 (OOMKilled)"}}
	case length * 11 / 20:
		row.Marks = []timeline.Mark{{At: at, Kind: timeline.MarkAvailable, Subject: "redis"}}
	}
	return row
}

func fakeEvents(r *rand.Rand, due, published int64, slow float64) timeline.Events {
	var endToEnd, processing histogram.Histogram
	for range 200 {
		endToEnd.Observe(time.Duration(slow * math.Exp(r.NormFloat64()*0.6) * float64(12*time.Millisecond)))
		processing.Observe(time.Duration(math.Sqrt(slow) * math.Exp(r.NormFloat64()*0.5) * float64(700*time.Microsecond)))
	}
	return timeline.Events{
		Due: due, Published: published, Confirmed: published, Effects: published, Lag: time.Duration(slow * r.Float64() * float64(20*time.Millisecond)),
		EndToEnd: endToEnd.Snapshot(), Processing: processing.Snapshot(),
	}
}

// account computes the rates and the ledger of the state from the rows.
func (f *fake) account() {
	total := timeline.Sum(f.rows...)
	seconds := float64(max(len(f.rows), 1))
	generator := func(e *timeline.Events) Generator {
		return Generator{
			Rate: float64(e.Due) / seconds, TargetRate: float64(e.Due) / seconds, AchievedRate: float64(e.Published) / seconds,
			Due: e.Due, Published: e.Published, LagSeconds: 0.012,
		}
	}
	f.state.Entry, f.state.Exit = generator(&total.Entry), generator(&total.Exit)
	f.state.Ledger = &ledger.Report{
		EntriesConfirmed: total.Entry.Confirmed, EntriesRecorded: total.Entry.Confirmed - 219,
		ExitsMatchedConfirmed: total.Exit.Matched, Matched: total.Exit.Matched,
		ExitsUnmatchedConfirmed: total.Exit.Confirmed - total.Exit.Matched, UnmatchedExpected: total.Exit.Confirmed - total.Exit.Matched,
		SummariesStored: total.Exit.Matched, DuplicatesSuppressed: 5_310, Outstanding: 219, Runs: 2, Starved: 14,
	}
}

// grow adds the row of the next second to the simulation.
func (f *fake) grow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := time.Now().Unix()
	if n := len(f.rows); n > 0 {
		next = f.rows[n-1].Second + 1
	}
	f.rows = append(f.rows, fakeRow(next, len(f.rows), len(f.rows)*4))
	f.state.At = time.Unix(next, 0)
}

// change calls a function that modifies the source. Reads of the source wait until the function returns.
func (f *fake) change(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// State implements Source.
func (f *fake) State(context.Context) (State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	return f.state, cmp.Or(f.err, f.stateErr)
}

// Timeline implements Source.
func (f *fake) Timeline(_ context.Context, from, to time.Time) ([]timeline.Row, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if err := cmp.Or(f.err, f.timelineErr); err != nil {
		return nil, err
	}
	var rows []timeline.Row
	for _, row := range f.rows {
		if row.End().After(from) && row.Start().Before(to) {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

var errSecret = errors.New("dial redis://:secret@10.0.0.1: connection refused")
