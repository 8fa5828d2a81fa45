// Package outage logs when a dependency fails and when it works again, with reminders at most every 30 s. More failures
// do not cause more lines.
package outage

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// reminder is the minimum time between two warnings about the same outage.
	reminder = 30 * time.Second
	// quiet is how long all parts must work before an outage ends. Otherwise, a part that alternately works and fails
	// would end the outage repeatedly.
	quiet = 5 * time.Second
	// stale is the age at which a failure no longer counts.
	stale = time.Minute
)

// Log logs the outages of one dependency. It is safe for concurrent use.
type Log struct {
	logger       *slog.Logger
	isDown, isUp string // see New

	// isOutage is true during an outage. It is atomic, because Fine reads it without locking mu.
	isOutage atomic.Bool

	mu sync.Mutex
	// faults maps each part of the dependency that counts as failed to the time of its latest failure.
	faults map[string]time.Time
	// beganAt is the time at which the outage began. loggedAt is the time of the latest warning about the outage.
	beganAt, loggedAt time.Time
	// recoveredAt is the time at which the last failed part recovered. It is zero while a part counts as failed, and
	// while there is no outage.
	recoveredAt time.Time
	// generation counts the calls of Fault, so that an old timer does not end an outage.
	generation int
	// expiry ends an outage of a dependency that is no longer used.
	expiry *time.Timer
}

// New returns a Log. When an outage begins, the Log writes the message isDown and the error at level warn. It repeats
// both at most every 30 s. When the outage ends, it writes the message isUp at level info.
func New(logger *slog.Logger, isDown, isUp string) *Log {
	return &Log{logger: logger, isDown: isDown, isUp: isUp, faults: map[string]time.Time{}}
}

// Fault records the failure of a part, such as one operation on one node. The part counts as failed until Fine is
// called for it or the failure is stale.
func (l *Log) Fault(part string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.recoveredAt = time.Time{}
	l.generation++
	if !l.isOutage.Swap(true) {
		l.beganAt, l.loggedAt = now, time.Time{}
	}
	l.faults[part] = now
	if l.expiry == nil {
		l.expiry = time.AfterFunc(stale, func() { l.Fine() })
	} else {
		l.expiry.Reset(stale)
	}
	if now.Sub(l.loggedAt) < reminder {
		return
	}
	l.loggedAt = now
	attrs := []any{"error", err}
	if lasted := now.Sub(l.beganAt); lasted > 0 {
		attrs = append(attrs, "for", lasted.Round(time.Millisecond).String())
	}
	l.logger.Warn(l.isDown, attrs...)
}

// Fine records that the given parts work. The outage ends when no part has counted as failed for 5 s.
func (l *Log) Fine(parts ...string) {
	if !l.isOutage.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, part := range parts {
		delete(l.faults, part)
	}
	for part, at := range l.faults {
		if now.Sub(at) >= stale {
			delete(l.faults, part)
		}
	}
	if len(l.faults) > 0 || !l.recoveredAt.IsZero() || !l.isOutage.Load() {
		return
	}
	l.recoveredAt = now
	generation := l.generation
	time.AfterFunc(quiet, func() { l.endUnlessFault(generation) })
}

// endUnlessFault ends the outage, unless Fault has been called since the field generation had the given value.
func (l *Log) endUnlessFault(generation int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.generation != generation {
		return
	}
	l.isOutage.Store(false)
	l.logger.Info(l.isUp, "after", l.recoveredAt.Sub(l.beganAt).Round(time.Millisecond).String())
	l.recoveredAt = time.Time{}
}
