package simulate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/field"
	"github.com/parking-operator/parking-operator/internal/ledger"
)

const (
	// restPoll is the interval between two polls while the simulation comes to rest, that is, while the last events are
	// processed.
	restPoll = 50 * time.Millisecond
	// restStable is how long the queues must stay empty before missing events count as lost. A message that moves
	// from one queue to another can be missing from both queues for a moment.
	restStable = 3 * time.Second
	// pollTimeout is the timeout of each poll, except the last. lastPollTimeout is the timeout of the last poll, which
	// begins when the drain timeout has expired.
	pollTimeout     = 10 * time.Second
	lastPollTimeout = time.Second
)

// rest is the result of comeToRest. A simulation is at rest if its queues are empty and its processors hold no
// deliveries.
type rest struct {
	// reached is true if the simulation is at rest. It is false if comeToRest returned early.
	reached bool
	// dataLost is true if comeToRest returned early because the store has lost data. Events whose data is lost may
	// never take effect.
	dataLost bool
	// depths counts the messages in the queues. inFlight counts the messages that the processors hold.
	depths   broker.Depths
	inFlight int64
	errs     []error // why messages are still in queues or processors, or why that is unknown
}

// comeToRest waits until the simulation is at rest, and then at most restStable for missing events and summaries. It
// returns early if ctx ends, the processors stop, or the store has lost data.
func (s *Simulation) comeToRest(ctx context.Context, processorStopped <-chan struct{}) rest {
	ticker := time.NewTicker(restPoll)
	defer ticker.Stop()
	auditor := ledger.NewAuditor(s.deps.Store)
	var quietSince time.Time
	for {
		r, complete := s.poll(ctx, auditor)
		switch {
		case ctx.Err() != nil:
			return s.timedOut(ctx)
		case r.dataLost:
			return r
		case !r.reached:
			quietSince = time.Time{}
		case complete:
			return r
		case quietSince.IsZero():
			quietSince = time.Now()
		case time.Since(quietSince) >= restStable:
			return r
		}
		select {
		case <-ticker.C:
		case <-processorStopped:
			r.reached = false
			return r
		case <-ctx.Done():
			return s.timedOut(ctx)
		}
	}
}

// timedOut returns the state of the simulation after the drain timeout, with the timeout as the first error.
func (s *Simulation) timedOut(ctx context.Context) rest {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPollTimeout)
	defer cancel()
	r := s.count(ctx)
	timeout := fmt.Errorf("the simulation did not come to rest within the drain timeout of %s", field.Duration(s.config.DrainTimeout))
	r.errs = append([]error{timeout}, r.errs...)
	return r
}

// poll reads the current state. complete is true if every confirmed event has taken effect and the summary API has
// accepted every summary.
func (s *Simulation) poll(ctx context.Context, auditor *ledger.Auditor) (r rest, complete bool) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	r = s.count(ctx)
	if data, err := s.deps.Store.Dataset(ctx); err == nil && !data.LostAt.IsZero() {
		r.dataLost = true
		return r, false
	}
	if len(r.errs) > 0 || r.depths.Ready+r.depths.Retry+r.inFlight > 0 {
		return r, false
	}
	r.reached = true
	report, err := auditor.Audit(ctx, ledger.Options{})
	return r, err == nil && report.Outstanding == 0 && report.Outbox == 0
}

// count returns how many messages are in the queues, and how many messages the processors hold.
func (s *Simulation) count(ctx context.Context) rest {
	r := rest{inFlight: s.inFlight()}
	var err error
	if r.depths, err = s.depths(ctx, r.inFlight); err == nil {
		return r
	}
	if ctx.Err() != nil {
		err = errors.New("the broker did not respond in time")
	}
	r.depths = broker.Depths{Ready: ledger.Unknown, Retry: ledger.Unknown, Dead: ledger.Unknown}
	r.errs = []error{fmt.Errorf("it is unknown how many messages wait in the queues: %w", err)}
	return r
}
