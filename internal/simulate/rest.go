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
	// restLook bounds one look.
	restLook = 10 * time.Second
)

// rest is how the way to rest ended.
type rest struct {
	reached bool
	// depths and inFlight are what is left.
	depths   broker.Depths
	inFlight int64
	err      error // why it could not be told
}

// comeToRest waits until the queues are empty and the processor holds nothing, for as long as the drain
// timeout allows and the processor runs.
func (s *Simulation) comeToRest(ctx context.Context, processorStopped <-chan struct{}) rest {
	ctx, cancel := context.WithTimeout(ctx, s.options.DrainTimeout)
	defer cancel()
	ticker := time.NewTicker(restPoll)
	defer ticker.Stop()
	auditor := ledger.NewAuditor(s.options.Store)
	var quietSince time.Time
	for {
		r, complete := s.look(ctx, auditor)
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
			r.reached = false
			r.err = errors.Join(fmt.Errorf("the simulation did not come to rest within %s", s.options.DrainTimeout), r.err)
			return r
		}
	}
}

// look tells whether nothing is under way. If that is so, and every confirmed event has had its effect and
// every summary its place, then complete is true and nothing more can come.
func (s *Simulation) look(ctx context.Context, auditor *ledger.Auditor) (r rest, complete bool) {
	ctx, cancel := context.WithTimeout(ctx, restLook)
	defer cancel()
	r.inFlight = s.processor.InFlight()
	r.depths, r.err = s.options.Broker.Depths(ctx)
	if r.err != nil {
		r.err = fmt.Errorf("count the messages in the queues: %w", r.err)
		return r, false
	}
	if r.depths.Ready+r.depths.Retry+r.inFlight > 0 {
		return r, false
	}
	r.reached = true
	report, err := auditor.Audit(ctx, ledger.Options{})
	return r, err == nil && report.Outstanding == 0 && report.Outbox == 0
}
