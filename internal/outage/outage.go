// Package outage logs when a dependency of this process, such as a server, fails and when it works again. It logs one
// line at the start of an outage, at most one line every 30 s while failures are reported, and one line at its end. The
// number of lines does not depend on how many goroutines notice the outage and how often they retry.
package outage

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// reminder is the time between two log lines about the same outage.
	reminder = 30 * time.Second
	// The constant quiet is the time for which all parts of a dependency, such as its connections, must have worked
	// before an outage counts as over. Otherwise, each success of a part that alternately works and fails would end the
	// outage.
	quiet = 5 * time.Second
	// The constant stale is the age from which a failure no longer counts. A dependency consists of parts, for example
	// the nodes of a cluster. A part that is in use is retried much more often than this. So a part whose latest
	// failure is that old is no longer in use.
	stale = time.Minute
)

// Log logs the outages of one dependency. It is safe for concurrent use.
type Log struct {
	logger *slog.Logger
	// isDown and isUp are the messages at the start and at the end of an outage.
	isDown, isUp string

	// isOutage is true during an outage. The method Fine reads it without the lock.
	isOutage atomic.Bool

	mu sync.Mutex
	// faults contains, for each part of the dependency that does not work, the time of its latest failure.
	faults map[string]time.Time
	// beganAt is when the outage began. loggedAt is when a line about the outage was last logged.
	beganAt, loggedAt time.Time
	// recoveredAt is when all parts of the dependency began to work again. It is zero while one of them does not work.
	recoveredAt time.Time
	// generation counts the calls of Fault. The timer that ends an outage remembers the generation at which it was
	// started, to detect a later call of Fault.
	generation int
	// expiry is a timer that calls Fine when the last failure of the dependency is a minute old. Without this timer, an
	// outage would never end if nothing uses the dependency after its last failure.
	expiry *time.Timer
}

// New returns a Log. At the start of an outage, it logs the message isDown with the error, at level warn. At
// the end, it logs the message isUp at level info.
func New(logger *slog.Logger, isDown, isUp string) *Log {
	return &Log{logger: logger, isDown: isDown, isUp: isUp, faults: map[string]time.Time{}}
}

// Fault records that a part of the dependency has failed. A part is anything that can fail independently, for example
// one operation on one node. A part counts as failed until Fine is called for it, or until a minute has passed since
// its last failure.
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

// Fine records that the given parts of the dependency work. The outage ends if no part is in a failed state any more,
// and no part fails again within a few seconds (the constant quiet). A part also leaves the failed state when its
// latest failure is too old to count (the constant stale).
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

// endUnlessFault ends the outage, unless Fault was called since l.generation had the given value.
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
