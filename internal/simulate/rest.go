package simulate

import (
	"context"
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
	// restLook bounds one look.
	restLook = 10 * time.Second
)

// rest is how the way to rest ended.
type rest struct {
	reached bool
	// depths and inFlight are what is left.
	depths   broker.Depths
	inFlight int64
	errs     []error // why it was not reached, or could not be told
}

// comeToRest waits until the queues are empty and the processor holds nothing, for as long as ctx and the
// processor last.
func (s *Simulation) comeToRest(ctx context.Context, processorStopped <-chan struct{}) rest {
	ticker := time.NewTicker(restPoll)
	defer ticker.Stop()
	auditor := ledger.NewAuditor(s.options.Store)
	var quietSince time.Time
	var latest rest
	for {
		r, complete := s.look(ctx, auditor)
		if ctx.Err() != nil {
			latest.inFlight = r.inFlight
			return latest.unreached(s.options.DrainTimeout)
		}
		latest = r
		switch {
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
			return r.unreached(s.options.DrainTimeout)
		}
	}
}

// unreached is how a way to rest ends that takes too long.
func (r rest) unreached(timeout time.Duration) rest {
	r.reached = false
	r.errs = append([]error{fmt.Errorf("the simulation did not come to rest within the drain timeout of %s", timeout)}, r.errs...)
	return r
}

// look tells whether nothing is under way. If that is so, and every confirmed event has had its effect and
// every summary its place, then complete is true and nothing more can come.
func (s *Simulation) look(ctx context.Context, auditor *ledger.Auditor) (r rest, complete bool) {
	ctx, cancel := context.WithTimeout(ctx, restLook)
	defer cancel()
	r.inFlight = s.processor.InFlight()
	depths, err := s.depths(ctx, r.inFlight)
	if err != nil {
		r.errs = []error{fmt.Errorf("count the messages in the queues: %w", err)}
		return r, false
	}
	r.depths = depths
	if r.depths.Ready+r.depths.Retry+r.inFlight > 0 {
		return r, false
	}
	r.reached = true
	report, err := auditor.Audit(ctx, ledger.Options{})
	return r, err == nil && report.Outstanding == 0 && report.Outbox == 0
}
