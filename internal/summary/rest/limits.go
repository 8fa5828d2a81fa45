package rest

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/parking-operator/parking-operator/internal/event"
)

// limits bound what clients can make the server do.
type limits struct {
	// maxBytes bounds the body of a request with many summaries. That of a single one is bounded by
	// event.MaxBodyBytes, and so is each line.
	maxBytes int64
	// maxLines bounds the summaries in a request.
	maxLines int
	// maxBytesInFlight bounds the bodies of all requests that are being answered, each counted with at
	// least minWeight. Further requests wait for as long as MaxWait, and then are told to come again.
	maxBytesInFlight int64
	maxWait          time.Duration
	// maxTransfer bounds the time that a body takes to arrive, and an answer to be taken.
	maxTransfer time.Duration
	// timeout bounds the time in between.
	timeout time.Duration
}

// defaultLimits allow for 1,024 small requests or 16 of the largest at a time, in 64 MiB.
func defaultLimits() limits {
	return limits{
		maxBytes: 4 << 20, maxLines: 10_000,
		maxBytesInFlight: 64 << 20, maxWait: time.Second,
		maxTransfer: 30 * time.Second, timeout: 10 * time.Second,
	}
}

// minWeight is more than a small request and its answer take.
const minWeight = 64 << 10

// gate lets in requests as long as there is room for them.
type gate struct {
	room   *semaphore.Weighted
	limits limits
}

func newGate(l limits) *gate {
	return &gate{room: semaphore.NewWeighted(l.maxBytesInFlight), limits: l}
}

// enter waits for room for a request and returns what gives it back.
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

// weight is the room that a request takes.
func (g *gate) weight(r *http.Request) int64 {
	switch {
	case r.ContentLength < 0: // its length is not known beforehand
		return g.limits.maxBytes
	case r.Method == http.MethodGet: // whose answer has up to maxLimit summaries
		return maxLimit * event.MaxIDBytes * 2
	}
	return min(max(r.ContentLength, minWeight), g.limits.maxBytes)
}
