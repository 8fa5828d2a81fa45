package rest

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/parking-operator/parking-operator/internal/event"
)

// limits limit the resources that clients can use.
type limits struct {
	// maxBytes is the maximum size of a request with many summaries. For a request with one summary, and for
	// each line, it is event.MaxBodyBytes.
	maxBytes int64
	// maxLines is the maximum number of summaries per request.
	maxLines int
	// maxBytesInFlight is the maximum total size of the requests under way. Each counts at least minWeight.
	// Further requests wait up to maxWait; then they get status 503.
	maxBytesInFlight int64
	maxWait          time.Duration
	// maxTransfer is the maximum time to receive a body, and to send an answer.
	maxTransfer time.Duration
	// timeout is the maximum time in between.
	timeout time.Duration
}

// defaultLimits allow 1,024 small requests or 16 of the largest at a time, in 64 MiB.
func defaultLimits() limits {
	return limits{
		maxBytes: 4 << 20, maxLines: 10_000,
		maxBytesInFlight: 64 << 20, maxWait: time.Second,
		maxTransfer: 30 * time.Second, timeout: 10 * time.Second,
	}
}

// minWeight is more than the memory of a small request and its answer.
const minWeight = 64 << 10

// gate admits requests while there is room for them.
type gate struct {
	room   *semaphore.Weighted
	limits limits
}

func newGate(l limits) *gate {
	return &gate{room: semaphore.NewWeighted(l.maxBytesInFlight), limits: l}
}

// enter waits for room for a request. The caller calls leave at the end of the request.
func (g *gate) enter(r *http.Request) (leave func(), err error) {
	weight := min(g.weight(r), g.limits.maxBytesInFlight)
	if !g.room.TryAcquire(weight) {
		ctx, cancel := context.WithTimeout(r.Context(), g.limits.maxWait)
		defer cancel()
		if g.room.Acquire(ctx, weight) != nil {
			p := problemf(http.StatusServiceUnavailable, "too many requests at a time")
			p.RetryAfter = time.Second
			return nil, p
		}
	}
	return func() { g.room.Release(weight) }, nil
}

// weight returns the room that a request needs.
func (g *gate) weight(r *http.Request) int64 {
	switch {
	case r.ContentLength < 0: // the length is unknown
		return g.limits.maxBytes
	case r.Method == http.MethodGet: // the answer has up to maxLimit summaries
		return maxLimit * event.MaxIDBytes * 2
	}
	return min(max(r.ContentLength, minWeight), g.limits.maxBytes)
}
