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
	// stale is the age at which a failure no longer counts. A broken part that is in use fails more often, so the part
	// works again or is unused.
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
	// recoveredAt is the time since which no part counts as failed. It is zero while a part counts as failed, and
	// without an outage.
	recoveredAt time.Time
	// generation counts the calls of Fault. The timer that ends an outage does nothing if Fault was called after the
	// start of the timer.
	generation int
	// expiry calls the method Fine when no part has failed for the duration stale. Without this timer, an outage of an
	// unused dependency would never end.
	expiry *time.Timer
}

// New returns a Log. The Log writes isDown and the error at level warn when an outage begins, repeats them at most
// every 30 s, and writes isUp at level info at the end.
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

// Fine records that the given parts work. The outage ends when no part counts as failed, and none fails for the
// duration quiet.
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

// endUnlessFault ends the outage, unless Fault was called after Fine had started the timer: l.generation then differs
// from the given generation.
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
