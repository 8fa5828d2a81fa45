package simulate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/ledger"
)

const (
	// restPoll is how often the simulation is looked at on its way to rest.
	restPoll = 50 * time.Millisecond
	// restStable is for how long nothing may be under way before events that are still without effect are
	// taken for lost: a message that moves between two queues can be in neither count for a moment.
	restStable = 3 * time.Second
	// restLook bounds one look, and lastLook the one at what is left when time is up.
	restLook = 10 * time.Second
	lastLook = time.Second
)

// rest is how the way to rest ended.
type rest struct {
	reached bool
	// dataLost says that the store has lost data, so that nothing can be told of the events any more.
	dataLost bool
	// depths and inFlight are what is left.
	depths   broker.Depths
	inFlight int64
	errs     []error // why it was not reached, or could not be told
}

// comeToRest waits until the queues are empty and the processor holds nothing, for as long as ctx and the
// processor last, and the store has its data.
func (s *Simulation) comeToRest(ctx context.Context, processorStopped <-chan struct{}) rest {
	ticker := time.NewTicker(restPoll)
	defer ticker.Stop()
	auditor := ledger.NewAuditor(s.options.Store)
	var quietSince time.Time
	for {
		r, complete := s.look(ctx, auditor)
		switch {
		case ctx.Err() != nil:
			return s.unreached(ctx)
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
			return s.unreached(ctx)
		}
	}
}

// unreached is how a way to rest ends that takes too long, with what is left then.
func (s *Simulation) unreached(ctx context.Context) rest {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLook)
	defer cancel()
	r := s.count(ctx)
	r.errs = append([]error{fmt.Errorf("the simulation did not come to rest within the drain timeout of %s", s.options.DrainTimeout)}, r.errs...)
	return r
}

// look tells whether nothing is under way. If that is so, and every confirmed event has had its effect and
// every summary its place, then complete is true and nothing more can come.
func (s *Simulation) look(ctx context.Context, auditor *ledger.Auditor) (r rest, complete bool) {
	ctx, cancel := context.WithTimeout(ctx, restLook)
	defer cancel()
	r = s.count(ctx)
	if data, err := s.options.Store.Dataset(ctx); err == nil && !data.LostAt.IsZero() {
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

// count counts what is under way.
func (s *Simulation) count(ctx context.Context) rest {
	r := rest{inFlight: s.processor.InFlight()}
	var err error
	if r.depths, err = s.depths(ctx, r.inFlight); err == nil {
		return r
	}
	if ctx.Err() != nil {
		err = errors.New("the broker did not answer in time")
	}
	r.depths = broker.Depths{Ready: ledger.Unknown, Retry: ledger.Unknown, Dead: ledger.Unknown}
	r.errs = []error{fmt.Errorf("nobody knows what waits in the queues: %w", err)}
	return r
}
