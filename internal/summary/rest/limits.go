package rest

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/parking-operator/parking-operator/internal/event"
)

// limits contains the sizes, numbers and times that requests must not exceed.
type limits struct {
	// maxBytes is the maximum body size of a request with one summary per line. A line, or the body of a request with a
	// single summary, has at most event.MaxBodyBytes.
	maxBytes int64
	// maxLines is the maximum number of summaries per request.
	maxLines int
	// maxBytesInFlight limits the total weight, in bytes, of the requests that are handled concurrently. Further
	// requests wait up to maxWait and then get the status 503.
	maxBytesInFlight int64
	maxWait          time.Duration
	// maxTransfer is the maximum time to receive a body, and also the maximum time to send a response.
	maxTransfer time.Duration
	// timeout is the maximum time to handle a request, not counting the transfer of the body and the response.
	timeout time.Duration
}

// defaultLimits returns limits that allow 64 MiB of concurrent requests, which is 1,024 small requests or 16
// requests of the maximum size.
func defaultLimits() limits {
	return limits{
		maxBytes: 4 << 20, maxLines: 10_000,
		maxBytesInFlight: 64 << 20, maxWait: time.Second,
		maxTransfer: 30 * time.Second, timeout: 10 * time.Second,
	}
}

// minWeight is the minimum weight of a request in bytes (see gate). It exceeds the memory that a small request and its
// response need.
const minWeight = 64 << 10

// gate limits the memory of concurrent requests: the sum of their weights is at most maxBytesInFlight.
type gate struct {
	room   *semaphore.Weighted
	limits limits
}

func newGate(l limits) *gate {
	return &gate{room: semaphore.NewWeighted(l.maxBytesInFlight), limits: l}
}

// enter waits for room, but fails with status 503 after maxWait. The caller must call leave after it has handled the
// request.
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

// weight returns how many bytes of maxBytesInFlight a request takes up.
func (g *gate) weight(r *http.Request) int64 {
	switch {
	case r.ContentLength < 0: // a body of unknown length
		return g.limits.maxBytes
	case r.Method == http.MethodGet: // the response is larger than the request: it has up to maxLimit summaries
		return maxLimit * event.MaxIDBytes * 2
	}
	return min(max(r.ContentLength, minWeight), g.limits.maxBytes)
}
