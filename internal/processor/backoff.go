package processor

import (
	"time"

	"github.com/parking-operator/parking-operator/internal/backoff"
)

const (
	// firstDelay and maxDelay bound the pauses between attempts: the first retries come fast, because most
	// faults are a connection that is being replaced.
	firstDelay = 5 * time.Millisecond
	maxDelay   = 2 * time.Second
	// maxHint bounds for how long the failed party may ask to be left alone.
	maxHint = 30 * time.Second
)

func newBackoff() backoff.Backoff { return backoff.Backoff{First: firstDelay, Last: maxDelay} }
