package observer

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	// restObservations is how many consecutive observations, after the generators have stopped, must find empty queues
	// and an unchanged ledger. The simulation then counts as at rest.
	restObservations = 2
	// missingObservations replaces restObservations while confirmed events have not taken effect. A processor may still
	// hold them.
	missingObservations = 5
	// concludeAttempts is the maximum number of attempts to read all data for the final audit. An attempt fails, for
	// example, while the summary API restarts.
	concludeAttempts = 5
	// giveUpObservations is the minimum number of observations before the final audit at the deadline. If the operator
	// was down at the deadline, the observer must first see whether events remain.
	giveUpObservations = missingObservations + concludeAttempts
)

// Observation is the state of a simulation and of its servers at one point in time.
type Observation struct {
	At     time.Time
	Report ledger.Report
	Depths broker.Depths
	// DeadReasons contains the reasons why messages were dead-lettered, with the number of messages for each reason.
	DeadReasons []broker.ReasonCount
	// StoreErr and BrokerErr are the errors of reading Redis and RabbitMQ. If either is set, the fields above are
	// incomplete.
	StoreErr, BrokerErr error
	// StoreUnusable and BrokerUnusable say why the simulation cannot write to a server. They are nil without
	// Target.ProbeStore or Target.ProbeBroker, and after the generators have stopped.
	StoreUnusable, BrokerUnusable error
	// Timeline contains the measurements so far. It is nil without Target.Timeline, or if the timeline could not be
	// read.
	Timeline []timeline.Row
	// Rest is the result of the final audit. It is nil before this audit.
	Rest *Rest
}

// Err returns the error of reading Redis or RabbitMQ. It returns nil if both could be read.
func (o *Observation) Err() error {
	if o.StoreErr != nil {
		return o.StoreErr
	}
	return o.BrokerErr
}

// Rest is the result of the final audit, which takes place when the simulation is at rest or its deadline has passed.
type Rest struct {
	Report ledger.Report
	// Err is the error of reading the ledger. If Err is set, Report is not valid.
	Err error
	// TimedOut means that the deadline passed before it was certain that all events were processed.
	TimedOut  bool
	Latencies ledger.Latencies
	// Summaries is the number of summaries in the summary API. It is nil if the operator does not run the summary
	// API.
	Summaries *ledger.SummaryCount
	// Timeline contains the measurements of the whole simulation. It is empty if the timeline could not be read.
	Timeline []timeline.Row
	// BrokerVersion and StoreVersion are the names and versions of the servers, such as "RabbitMQ 4.1.2", or "" if
	// unknown.
	BrokerVersion, StoreVersion string
}

// isComplete reports whether all data for the verdict could be read.
func (r *Rest) isComplete() bool {
	return r.Latencies.Err == nil && r.Latencies.Unmeasured == 0 && (r.Summaries == nil || r.Summaries.Err == nil)
}

// pendingMarks contains the marks that are not in the store yet. A mark notes in the timeline that a check has failed.
type pendingMarks struct {
	all []timeline.Mark
	// marker appends a mark when a check fails for the first time.
	marker *ledger.ObjectiveMarker
	// process is the name under which timeline.Record stores the marks. A retry uses the same name, so that no mark is
	// stored twice.
	process string
}

func newPendingMarks() *pendingMarks {
	p := &pendingMarks{process: newMarkProcess()}
	p.marker = ledger.NewObjectiveMarker(func(m timeline.Mark) { p.all = append(p.all, m) })
	return p
}

func newMarkProcess() string { return timeline.NewProcess("operator") }

type simulation struct {
	target Target
	// The Observer's mutex guards the fields draining, latest, timeline and marks.
	draining *Draining
	latest   *Observation
	timeline []timeline.Row
	marks    *pendingMarks

	// Only the goroutine that is handling the simulation uses the fields below.

	// Each client is nil until the method open has opened it.
	broker  broker.Broker
	store   store.Store
	auditor *ledger.Auditor
	reader  *ledger.TimelineReader
	// failures is the number of consecutive observations with an error.
	failures int
	// The field unchanged counts the consecutive observations with empty queues and the same report.
	unchanged int
	// The field last is the report of the latest observation without an error.
	last ledger.Report
	// The field drained counts the observations since the generators stopped.
	drained int
	// attempts is how many times the final audit has been attempted so far.
	attempts int
	letters  deadLetters

	brokerProbe, storeProbe probe
}

// probe is the result of the last check of whether the simulation can write to a server.
type probe struct {
	at  time.Time
	err error
	// failures is the number of failed checks since the last successful check.
	failures int
}

// interval returns the time until the next check. This time is short after the first failure, so that a recovery is
// noticed soon. It grows with further failures, because servers log each rejected request.
func (p *probe) interval() time.Duration {
	if p.failures == 0 {
		return probeInterval
	}
	return min(time.Duration(p.failures)*pollInterval, probeInterval)
}

// repeat returns the result of the latest call of check, and first calls check if a call is due. If the server could
// not be read (readErr is not nil), repeat returns nil.
func (p *probe) repeat(ctx context.Context, now time.Time, readErr error, check func(context.Context) error) error {
	switch {
	case readErr != nil:
		*p = probe{} // check again as soon as the server can be read
	case now.Sub(p.at) >= p.interval():
		_, err := within(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, check(ctx) })
		failures := 0
		if err != nil {
			failures = p.failures + 1
		}
		*p = probe{now, err, failures}
	}
	return p.err
}

func (s *simulation) probe(ctx context.Context, now *Observation) {
	if client, ok := s.broker.(interface {
		Probe(ctx context.Context) error
	}); ok && s.target.ProbeBroker {
		now.BrokerUnusable = s.brokerProbe.repeat(ctx, now.At, now.BrokerErr, client.Probe)
	}
	if client, ok := s.store.(interface {
		Check(ctx context.Context) error
	}); ok && s.target.ProbeStore {
		now.StoreUnusable = s.storeProbe.repeat(ctx, now.At, now.StoreErr, client.Check)
	}
}

// deadLetters is the result of the last read of the dead-letter queue.
type deadLetters struct {
	at      time.Time
	count   int64
	reasons []broker.ReasonCount
}

// open opens the clients of the simulation's servers if they are not open yet.
func (s *simulation) open(servers Servers) (brokerErr, storeErr error) {
	if s.broker == nil {
		opened, err := servers.OpenBroker(s.target.Plan, s.target.Broker)
		if err != nil {
			brokerErr = err
		} else {
			s.broker = opened
		}
	}
	if s.store == nil {
		opened, err := servers.OpenStore(s.target.Plan, s.target.Store)
		if err != nil {
			return brokerErr, err
		}
		s.store, s.auditor, s.reader = opened, ledger.NewAuditor(opened), ledger.NewTimelineReader(opened)
	}
	return brokerErr, nil
}

func (s *simulation) close() error {
	var errs []error
	if s.broker != nil {
		errs = append(errs, s.broker.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}

// observe reads the ledger and the queues. At rest, or after the deadline, it also makes the final audit.
func (o *Observer) observe(ctx context.Context, s *simulation, draining *Draining) *Observation {
	now := &Observation{At: time.Now()}
	defer func() { s.countFailure(now) }()
	// Read both servers even if one of them fails, because the status has a condition for each server.
	now.BrokerErr, now.StoreErr = s.open(o.servers)
	if s.store != nil {
		now.Report, now.StoreErr = within(ctx, func(ctx context.Context) (ledger.Report, error) {
			return s.auditor.Audit(ctx, ledger.Options{})
		})
	}
	if s.store != nil && now.StoreErr == nil && s.target.Timeline {
		now.Timeline, _ = within(ctx, s.reader.Read) // ignore the error: Observer.Timeline keeps the previous timeline
	}
	if s.broker != nil {
		now.Depths, now.BrokerErr = within(ctx, s.broker.Depths)
	}
	if now.StoreErr == nil {
		o.storeMarks(ctx, s)
	}
	s.drained++
	if draining == nil {
		s.drained = 0
		s.probe(ctx, now)
	}
	before := s.unchanged
	s.unchanged = 0
	if now.Err() != nil {
		o.giveUp(ctx, s, now, draining)
		return now
	}
	if draining != nil && reflect.DeepEqual(s.last, now.Report) && isEmpty(now) {
		s.unchanged = before + 1
	}
	s.last = now.Report
	if s.unchanged >= needed(now.Report) {
		o.conclude(ctx, s, now, *draining)
	} else {
		o.giveUp(ctx, s, now, draining)
	}
	now.DeadReasons = s.readDeadLetters(ctx, now)
	return now
}

// storeMarks adds the marks of failed checks to the timeline in the store. If this fails, the next observation retries
// it.
func (o *Observer) storeMarks(ctx context.Context, s *simulation) {
	o.mu.Lock()
	marks, process := slices.Clone(s.marks.all), s.marks.process
	o.mu.Unlock()
	_, err := within(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, timeline.Record(ctx, s.store, process, marks...)
	})
	if err != nil {
		return // ignore the error: the next observation reports a store that does not answer
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s.marks.all, s.marks.process = s.marks.all[len(marks):], newMarkProcess()
}

// within calls the given function with a timeout of readTimeout.
func within[T any](ctx context.Context, read func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return read(ctx)
}

// readDeadLetters returns the reasons why messages were dead-lettered, as of the last successful read.
func (s *simulation) readDeadLetters(ctx context.Context, now *Observation) []broker.ReasonCount {
	isDue := now.Rest != nil || now.At.Sub(s.letters.at) >= updateInterval
	if dead := now.Depths.Dead; dead != s.letters.count && isDue {
		reasons, err := within(ctx, func(ctx context.Context) ([]broker.ReasonCount, error) {
			return s.broker.DeadLetterReasons(ctx, ledger.MaxDeadReasons)
		})
		if err == nil {
			s.letters = deadLetters{at: now.At, count: dead, reasons: reasons}
		}
	}
	return s.letters.reasons
}

func (s *simulation) countFailure(now *Observation) {
	if now.Err() == nil {
		s.failures = 0
		return
	}
	s.failures++
}

// isEmpty reports whether all events seem to be processed. A processor may still hold messages although the queues are
// empty, for example while the summary API is down.
func isEmpty(o *Observation) bool {
	held := o.Report.Outbox > 0 && o.Report.Outstanding > 0
	return o.Depths.Ready+o.Depths.Retry == 0 && !held
}

func needed(r ledger.Report) int {
	if r.Outstanding > 0 {
		return missingObservations
	}
	return restObservations
}

// conclude makes the final audit of a simulation at rest. now.Rest stays nil if some data cannot be read.
func (o *Observer) conclude(ctx context.Context, s *simulation, now *Observation, draining Draining) {
	s.attempts++
	rest := o.measure(ctx, s, now, draining)
	// The last attempt at the final audit accepts an incomplete timeline and an unknown number of summaries.
	if !rest.isComplete() && s.attempts < concludeAttempts {
		return
	}
	report, err := ledger.Audit(ctx, s.store, ledger.Options{AtRest: true})
	if err != nil {
		now.StoreErr = fmt.Errorf("read the ledger for the verdict: %w", err)
		return
	}
	rest.Report = report
	now.Report, now.Rest = report, rest
	o.describe(ctx, s, rest)
}

// giveUp makes the final audit if Draining.Deadline has passed, even if some events are still being processed.
func (o *Observer) giveUp(ctx context.Context, s *simulation, now *Observation, draining *Draining) {
	if draining == nil || draining.Deadline.IsZero() || now.At.Before(draining.Deadline) || s.drained < giveUpObservations {
		return
	}
	now.Rest = &Rest{Err: now.StoreErr}
	if s.store != nil {
		report, err := within(ctx, func(ctx context.Context) (ledger.Report, error) {
			return ledger.Audit(ctx, s.store, ledger.Options{})
		})
		if err == nil {
			now.Report = report // measure compares the timeline with this report
		}
		now.Rest = o.measure(ctx, s, now, *draining)
		now.Rest.Report, now.Rest.Err = report, err
		o.describe(ctx, s, now.Rest)
	}
	now.Rest.TimedOut = true
}

// measure returns a Rest whose fields Report and Err are not set. Errors of reading are in Latencies.Err and
// Summaries.Err.
func (o *Observer) measure(ctx context.Context, s *simulation, now *Observation, draining Draining) *Rest {
	rest := &Rest{}
	var err error
	rest.Timeline, err = within(ctx, func(ctx context.Context) ([]timeline.Row, error) { return ledger.ReadTimeline(ctx, s.store) })
	rest.Latencies = *ledger.LatenciesOf(rest.Timeline, err, &now.Report)
	switch {
	case draining.SummariesDown:
		rest.Summaries = &ledger.SummaryCount{Err: errors.New("no pod of the summary API is running")}
	case draining.SummariesPod.IP != "":
		held, err := o.summaries.CountSummaries(ctx, draining.SummariesPod)
		rest.Summaries = &ledger.SummaryCount{Held: held, Err: err}
	}
	return rest
}

// describe stores the versions of RabbitMQ and Redis in rest. A version that cannot be read is "".
func (o *Observer) describe(ctx context.Context, s *simulation, rest *Rest) {
	if s.broker != nil {
		rest.BrokerVersion, _ = within(ctx, s.broker.Version)
	}
	rest.StoreVersion, _ = within(ctx, s.store.Version)
}

func sameCounters(a, b *Observation) bool {
	return reflect.DeepEqual(a.Report, b.Report) && a.Depths == b.Depths && reflect.DeepEqual(a.DeadReasons, b.DeadReasons)
}

func sameErrors(a, b *Observation) bool {
	return text(a.BrokerErr) == text(b.BrokerErr) && text(a.StoreErr) == text(b.StoreErr) &&
		text(a.BrokerUnusable) == text(b.BrokerUnusable) && text(a.StoreUnusable) == text(b.StoreUnusable)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
