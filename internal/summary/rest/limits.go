package rest

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/parking-operator/parking-operator/internal/event"
)

// Limits bound what clients can make the server do.
type Limits struct {
	// MaxBytes bounds the body of a request with many summaries. That of a single one is bounded by
	// event.MaxBodyBytes, and so is each line.
	MaxBytes int64
	// MaxLines bounds the summaries in a request.
	MaxLines int
	// MaxBytesInFlight bounds the bodies of all requests that are being answered, each counted with at
	// least minWeight. Further requests wait for as long as MaxWait, and then are told to come again.
	MaxBytesInFlight int64
	MaxWait          time.Duration
	// MaxTransfer bounds the time that a body takes to arrive, and an answer to be taken.
	MaxTransfer time.Duration
	// Timeout bounds the time in between.
	Timeout time.Duration
}

// DefaultLimits allow for 1,024 small requests or 16 of the largest at a time, in 64 MiB.
func DefaultLimits() Limits {
	return Limits{
		MaxBytes: 4 << 20, MaxLines: 10_000,
		MaxBytesInFlight: 64 << 20, MaxWait: time.Second,
		MaxTransfer: 30 * time.Second, Timeout: 10 * time.Second,
	}
}

// minWeight is more than a small request and its answer take.
const minWeight = 64 << 10

// gate lets in requests as long as there is room for them.
type gate struct {
	room   *semaphore.Weighted
	limits Limits
}

func newGate(l Limits) *gate {
	return &gate{room: semaphore.NewWeighted(l.MaxBytesInFlight), limits: l}
}

// enter waits for room for a request and returns what gives it back.
func (g *gate) enter(r *http.Request) (leave func(), err error) {
	weight := min(g.weight(r), g.limits.MaxBytesInFlight)
	if !g.room.TryAcquire(weight) {
		ctx, cancel := context.WithTimeout(r.Context(), g.limits.MaxWait)
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
		return g.limits.MaxBytes
	case r.Method == http.MethodGet: // whose answer has up to maxLimit summaries
		return maxLimit * event.MaxIDBytes * 2
	}
	return min(max(r.ContentLength, minWeight), g.limits.MaxBytes)
}
