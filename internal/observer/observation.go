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
	// restObservations is how many equal observations in a row prove rest. When events are missing it takes
	// missingObservations: a processor may hold them while it waits for a server.
	restObservations    = 2
	missingObservations = 5
	// concludeAttempts is how often the timeline and the summary API are read until they are complete. Processors
	// store their last measurements within a second, and an API may be restarting. After that the observation
	// says what is missing.
	concludeAttempts = 5
	// giveUpObservations is the least number of observations before the observer gives up waiting for rest. A simulation
	// that has come to rest while the operator was not running is not late.
	giveUpObservations = missingObservations + concludeAttempts
)

// Observation is the state of a simulation on its servers at one instant.
type Observation struct {
	At     time.Time
	Report ledger.Report
	Depths broker.Depths
	// DeadReasons are the reasons of the dead-lettered messages.
	DeadReasons []broker.ReasonCount
	// StoreErr and BrokerErr say why a server could not be read. The fields above are then incomplete.
	StoreErr, BrokerErr error
	// Timeline holds the measurements so far. It is nil if the target does not ask for it, or if it could not be read.
	Timeline []timeline.Row
	// Rest is the final audit. It is nil until the simulation has come to rest.
	Rest *Rest
}

// Err returns the first reason why the observation is incomplete.
func (o *Observation) Err() error {
	if o.StoreErr != nil {
		return o.StoreErr
	}
	return o.BrokerErr
}

// Rest is the final audit of a simulation.
type Rest struct {
	Report ledger.Report
	// Err says why the ledger could not be read. Report is then unknown.
	Err error
	// TimedOut means that the simulation had not come to rest by the deadline.
	TimedOut  bool
	Latencies ledger.Latencies
	// Summaries is how many summaries the summary API holds. It is nil if the API is not managed.
	Summaries *ledger.SummaryCount
	// Timeline holds the measurements over time. It is empty if it could not be read.
	Timeline []timeline.Row
	// BrokerVersion and StoreVersion are the names and versions of the servers, "" if unknown.
	BrokerVersion, StoreVersion string
}

// isComplete reports whether nothing is missing.
func (r *Rest) isComplete() bool {
	return r.Latencies.Err == nil && r.Latencies.Unmeasured == 0 && (r.Summaries == nil || r.Summaries.Err == nil)
}

// simulation is a tracked simulation.
type simulation struct {
	target Target
	// draining, latest and timeline are guarded by the Observer's mutex.
	draining *Draining
	latest   *Observation
	timeline []timeline.Row

	// The fields below belong to the worker that handles the simulation's key.

	// broker and store are nil until they have been opened; auditor and reader are nil as long as store is.
	broker  broker.Broker
	store   store.Store
	auditor *ledger.Auditor
	reader  *ledger.TimelineReader
	// failures counts the consecutive observations with an error.
	failures int
	// unchanged counts the consecutive observations that found the queues empty and the same report, last.
	unchanged int
	last      ledger.Report
	// drained counts the consecutive observations of the simulation that comes to rest.
	drained int
	// attempts counts the attempts to conclude.
	attempts int
	letters  deadLetters
}

// deadLetters are the reasons found in the dead-letter queue when it was last read.
type deadLetters struct {
	at      time.Time
	count   int64
	reasons []broker.ReasonCount
}

// open opens the clients of the simulation's servers that are not open yet.
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

// observe reads the ledger and the queues, and concludes if the simulation has come to rest.
func (o *Observer) observe(ctx context.Context, s *simulation, draining *Draining) *Observation {
	now := &Observation{At: time.Now()}
	defer func() { s.countFailure(now) }()
	// Both servers are read even if one fails: each has a condition of its own.
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

// readDeadLetters returns why messages were dead-lettered. It reads the dead-letter queue only when its length
// has changed, and at most once per updateInterval. If it cannot be read, the reasons found before are returned.
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

// isEmpty reports whether no event is known to be in flight. While summaries wait for the summary API,
// processors hold their messages.
func isEmpty(o *Observation) bool {
	held := o.Report.Outbox > 0 && o.Report.Outstanding > 0
	return o.Depths.Ready+o.Depths.Retry == 0 && !held
}

// needed is how many equal observations prove rest.
func needed(r ledger.Report) int {
	if r.Outstanding > 0 {
		return missingObservations
	}
	return restObservations
}

// conclude reads the timeline and the summary API, and then the whole ledger once more: at rest, an event without
// effect is lost. While something is missing it leaves Rest unset, until concludeAttempts are used up.
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

// giveUp concludes with what is known once the deadline has passed.
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

// measure reads the timeline and the count of the summary API.
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

// describe adds the data that only the report needs. It omits data that cannot be read.
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
