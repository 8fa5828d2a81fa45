package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	memorybroker "github.com/parking-operator/parking-operator/internal/broker/memory"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/simulate"
	"github.com/parking-operator/parking-operator/internal/simulate/gate"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// These are the names of the servers in reports.
const (
	rabbitMQName   = "rabbitmq"
	redisName      = "redis"
	summaryAPIName = "summary-api"
)

// checkTargets returns an error if a fault targets an external server. Such faults are not allowed, because other
// programs may use the server.
func (f *simulateFlags) checkTargets(p *plan.Plan) error {
	const orPrivate = ", or run with --servers private"
	external := make(map[plan.FaultTarget]string)
	if p.RabbitMQ != (plan.BindingRef{}) {
		external[plan.TargetRabbitMQ] = externalTarget(f.servers.rabbitmqSource(), orPrivate)
		external[plan.TargetRabbitMQLeader] = external[plan.TargetRabbitMQ]
	}
	if p.Redis != (plan.BindingRef{}) {
		external[plan.TargetRedis] = externalTarget(f.servers.redisSource(), orPrivate)
	}
	if p.SummaryAPI.External {
		external[plan.TargetSummaryAPI] = externalTarget("--summary-url", ", or remove --summary-url")
	}
	var errs []error
	for i := range p.Faults {
		if reason := external[p.Faults[i].Target]; reason != "" {
			errs = append(errs, fmt.Errorf("fault %q: %s", p.Faults[i].Name, reason))
		}
	}
	return errors.Join(errs...)
}

// exposeServers lets faults target the servers that this process runs, either as child processes or in memory.
func (s *session) exposeServers(d *simulate.Dependencies) {
	t := fault.Targets{Instances: make(map[plan.FaultTarget][]fault.Instance)}
	if s.private != nil {
		s.private.targets(t.Instances)
	} else {
		s.exposeAdapters(d, &t)
	}
	if !s.plan.SummaryAPI.External {
		g := gate.New()
		d.Poster = gate.Poster(d.Poster, g)
		t.Instances[plan.TargetSummaryAPI] = []fault.Instance{gate.NewServer(summaryAPIName, g, nil)}
	}
	d.Targets = t
}

// exposeAdapters makes an in-memory broker and an in-memory store available as targets of faults.
func (s *session) exposeAdapters(d *simulate.Dependencies, t *fault.Targets) {
	if s.adapters.broker.InMemory() {
		g := gate.New()
		d.Broker = gate.Broker(d.Broker, g, memorybroker.DefaultWindow)
		t.Instances[plan.TargetRabbitMQ] = []fault.Instance{gate.NewServer(rabbitMQName, g, nil)}
	}
	if s.adapters.store.InMemory() {
		g := gate.New()
		d.Store = gate.Store(d.Store, g)
		t.Instances[plan.TargetRedis] = []fault.Instance{gate.NewServer(redisName, g, s.adapters.store.Crash)}
	}
}

// externalTarget returns the reason why faults cannot be injected into a server that was selected by a flag.
func externalTarget(flag, remedy string) string {
	return fmt.Sprintf("a fault cannot target an external server, and %s selects one: remove the fault%s", flag, remedy)
}

// occurrenceInterval is the interval at which a faultLog looks for faults that have begun or ended. recoveryInterval is
// the interval at which a faultLog looks for recoveries.
const (
	occurrenceInterval = 100 * time.Millisecond
	recoveryInterval   = time.Second
)

// faultLog writes a line when a fault begins, when a fault ends, and when the outcome of a fault is known. It is safe
// for concurrent use.
type faultLog struct {
	out io.Writer

	mu      sync.Mutex
	written map[faultEvent]bool
}

// faultEvent identifies a line of a faultLog.
type faultEvent struct {
	id   string // the ID of the fault's occurrence
	kind eventKind
}

type eventKind int

const (
	faultBegins eventKind = iota
	faultEnds
	faultOutcome
)

func newFaultLog(out io.Writer) *faultLog { return &faultLog{out: out, written: map[faultEvent]bool{}} }

// watch writes lines until ctx ends. The function occurrences must return at once. The function soFar also determines
// recoveries, and may wait for a server.
func (l *faultLog) watch(ctx context.Context, occurrences func() report.Run, soFar func(context.Context) report.Run) {
	var recoveries sync.WaitGroup
	defer recoveries.Wait()
	recoveries.Go(func() { async.Every(ctx, recoveryInterval, func() { l.write(soFar(ctx)) }) })
	async.Every(ctx, occurrenceInterval, func() { l.write(occurrences()) })
}

// write writes the lines that have not been written yet: first the beginnings and ends of faults in chronological
// order, then the outcomes.
func (l *faultLog) write(r report.Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	type timed struct {
		at   time.Time
		line string
	}
	var lines []timed
	var outcomes []string
	for i := range r.Faults {
		a := &r.Faults[i]
		for kind, line := range faultEvents(r.StartTime, a) {
			event := faultEvent{a.ID(), eventKind(kind)}
			if line == "" || l.written[event] {
				continue
			}
			l.written[event] = true
			switch event.kind {
			case faultBegins:
				lines = append(lines, timed{a.InjectedAt, line})
			case faultEnds:
				lines = append(lines, timed{a.HealedAt, line})
			case faultOutcome:
				outcomes = append(outcomes, line)
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b timed) int { return a.at.Compare(b.at) })
	all := make([]string, 0, len(lines)+len(outcomes))
	for _, l := range lines {
		all = append(all, l.line)
	}
	for _, line := range append(all, outcomes...) {
		_, _ = fmt.Fprintln(l.out, terminal.Clean(line)) // a failed write does not stop the simulation
	}
}

// faultEvents returns the log lines about one occurrence, indexed by eventKind. A line is empty if its event has not
// happened.
func faultEvents(start time.Time, a *fault.Account) (lines [faultOutcome + 1]string) {
	at := func(at time.Time, what string) string {
		return fmt.Sprintf("%s fault %s %s", terminal.Clock(max(at.Sub(start), 0)), a.ID(), what)
	}
	action := fmt.Sprintf("%s %s", a.Action, a.Target)
	if !a.InjectedAt.IsZero() {
		lines[faultBegins] = at(a.InjectedAt, fmt.Sprintf("begins: %s (%s)", action, strings.Join(a.Hit, ", ")))
	}
	if !a.HealedAt.IsZero() {
		lines[faultEnds] = at(a.HealedAt, fmt.Sprintf("ends: %s lasted %s", action, terminal.Duration(a.HealedAt.Sub(a.InjectedAt))))
	}
	// The line contains no time: a recovery is detected some seconds after it has happened.
	if a.Outcome.IsFinal() {
		lines[faultOutcome] = fmt.Sprintf("fault %s (%s): %s: %s", a.ID(), action, a.Outcome, a.Message)
	}
	return lines
}
