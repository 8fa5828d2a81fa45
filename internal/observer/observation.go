package observer

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	// restObservations is how many consecutive observations must be equal to show that a simulation is at rest.
	// If events are missing, missingObservations are needed, because a processor may hold them while it waits
	// for a server.
	restObservations    = 2
	missingObservations = 5
	// concludeAttempts is how often the observer tries to read a complete timeline and the summary API for the
	// final audit. Processors store their last measurements within a second, and the summary API may be
	// restarting. After the last attempt, the audit says which data are missing.
	concludeAttempts = 5
	// giveUpObservations is the minimum number of observations before the observer stops waiting for rest.
	// Without it, a simulation that came to rest while the operator was not running would count as late.
	giveUpObservations = missingObservations + concludeAttempts
)

// Observation is the state of a simulation and its servers at one instant.
type Observation struct {
	At     time.Time
	Report ledger.Report
	Depths broker.Depths
	// DeadReasons counts the reasons for which messages were dead-lettered.
	DeadReasons []broker.ReasonCount
	// StoreErr and BrokerErr are the errors of reading the servers. If one is set, the fields above are
	// incomplete.
	StoreErr, BrokerErr error
	// Timeline holds the measurements so far. It is nil if it was not requested in the target, or could not be
	// read.
	Timeline []timeline.Row
	// Rest is the result of the final audit. It is nil until the simulation is at rest.
	Rest *Rest
}

// Err returns the first error because of which the observation is incomplete, or nil.
func (o *Observation) Err() error {
	if o.StoreErr != nil {
		return o.StoreErr
	}
	return o.BrokerErr
}

// Rest is the result of the final audit of a simulation.
type Rest struct {
	Report ledger.Report
	// Err is the error of reading the ledger. If it is set, Report is unknown.
	Err error
	// TimedOut means that the simulation was not at rest by the deadline.
	TimedOut  bool
	Latencies ledger.Latencies
	// Summaries is the number of summaries in the summary API. It is nil if the operator does not run the
	// summary API.
	Summaries *ledger.SummaryCount
	// Timeline holds the measurements of the whole run. It is empty if it could not be read.
	Timeline []timeline.Row
	// BrokerVersion and StoreVersion are the names and versions of the servers, or "" if they are unknown.
	BrokerVersion, StoreVersion string
}

// isComplete reports whether all data for the verdict could be read.
func (r *Rest) isComplete() bool {
	return r.Latencies.Err == nil && r.Latencies.Unmeasured == 0 && (r.Summaries == nil || r.Summaries.Err == nil)
}

// simulation is a simulation that the Observer tracks.
type simulation struct {
	target Target
	// The Observer's mutex guards the next three fields.
	draining *Draining
	latest   *Observation
	timeline []timeline.Row

	// Only the worker that handles the simulation's key uses the fields below.

	// broker and store are nil until they have been opened. auditor and reader are nil as long as store is nil.
	broker  broker.Broker
	store   store.Store
	auditor *ledger.Auditor
	reader  *ledger.TimelineReader
	// failures counts consecutive observations with an error.
	failures int
	// unchanged counts consecutive observations with empty queues and the same report. last is that report.
	unchanged int
	last      ledger.Report
	// drained counts consecutive observations since the generators have stopped.
	drained int
	// attempts counts the attempts to make the final audit.
	attempts int
	letters  deadLetters
}

// deadLetters caches the result of the last read of the dead-letter queue.
type deadLetters struct {
	at      time.Time
	count   int64
	reasons []broker.ReasonCount
}

// open opens those clients of the simulation's servers that are not open yet.
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

// observe reads the ledger and the queues. If the simulation is at rest, it also makes the final audit.
func (o *Observer) observe(ctx context.Context, s *simulation, draining *Draining) *Observation {
	now := &Observation{At: time.Now()}
	defer func() { s.countFailure(now) }()
	// Read both servers even if one fails, because each of them has its own condition.
	now.BrokerErr, now.StoreErr = s.open(o.servers)
	if s.store != nil {
		now.Report, now.StoreErr = within(ctx, func(ctx context.Context) (ledger.Report, error) {
			return s.auditor.Audit(ctx, ledger.Options{})
		})
	}
	if s.store != nil && now.StoreErr == nil && s.target.Timeline {
		now.Timeline, _ = within(ctx, s.reader.Read) // without it, the accounts of faults stay as they were
	}
	if s.broker != nil {
		now.Depths, now.BrokerErr = within(ctx, s.broker.Depths)
	}
	s.drained++
	if draining == nil {
		s.drained = 0
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

// within calls read with a timeout.
func within[T any](ctx context.Context, read func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return read(ctx)
}

// readDeadLetters returns the reasons for which messages were dead-lettered. It reads the dead-letter queue
// only if its length has changed, and at most once per updateInterval. If it cannot read the queue, it returns
// the reasons that it read last.
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

// isEmpty reports whether no event is known to be in flight. Empty queues are not enough: processors hold
// messages whose summaries wait for the summary API.
func isEmpty(o *Observation) bool {
	held := o.Report.Outbox > 0 && o.Report.Outstanding > 0
	return o.Depths.Ready+o.Depths.Retry == 0 && !held
}

// needed returns how many consecutive observations must be equal to show that a simulation is at rest.
func needed(r ledger.Report) int {
	if r.Outstanding > 0 {
		return missingObservations
	}
	return restObservations
}

// conclude makes the final audit. It reads the timeline and the summary API, and then the whole ledger again:
// at rest, a confirmed event without an effect is lost. If data are missing, it leaves Rest unset so that the
// next observation tries again, up to concludeAttempts times.
func (o *Observer) conclude(ctx context.Context, s *simulation, now *Observation, draining Draining) {
	s.attempts++
	rest := o.measure(ctx, s, now, draining)
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

// giveUp makes the final audit without rest if the deadline has passed.
func (o *Observer) giveUp(ctx context.Context, s *simulation, now *Observation, draining *Draining) {
	if draining == nil || draining.Deadline.IsZero() || now.At.Before(draining.Deadline) || s.drained < giveUpObservations {
		return
	}
	now.Rest = &Rest{Err: now.StoreErr}
	if s.store != nil {
		now.Rest = o.measure(ctx, s, now, *draining)
		now.Rest.Report, now.Rest.Err = within(ctx, func(ctx context.Context) (ledger.Report, error) {
			return ledger.Audit(ctx, s.store, ledger.Options{})
		})
		o.describe(ctx, s, now.Rest)
	}
	now.Rest.TimedOut = true
}

// measure reads the timeline, and the number of summaries in the summary API.
func (o *Observer) measure(ctx context.Context, s *simulation, now *Observation, draining Draining) *Rest {
	rest := &Rest{}
	var err error
	rest.Timeline, err = within(ctx, func(ctx context.Context) ([]timeline.Row, error) { return ledger.ReadTimeline(ctx, s.store) })
	rest.Latencies = *ledger.LatenciesOf(rest.Timeline, err, &now.Report)
	if draining.SummariesPod != "" {
		held, err := o.summaries.CountSummaries(ctx, draining.SummariesPod)
		rest.Summaries = &ledger.SummaryCount{Held: held, Err: err}
	}
	return rest
}

// describe adds data that only the report needs. It omits data that cannot be read.
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
	return text(a.BrokerErr) == text(b.BrokerErr) && text(a.StoreErr) == text(b.StoreErr)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
