// Package outage logs when a dependency of this process, such as a server, fails and when it works again. It logs one
// line at the start of an outage, at most one line every 30 s while failures are reported, and one line at the end of
// the outage. Neither more goroutines that notice the outage nor more retries cause more lines.
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
	// quiet is how long all parts of a dependency must work before an outage ends. Without this delay, a part that
	// alternately works and fails would end the outage with each success.
	quiet = 5 * time.Second
	// stale is the age at which a failure no longer counts. A broken part that is in use fails many times a minute. So
	// after a minute without a failure, the part works again, or is no longer in use.
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
	// recoveredAt is the time since which no part of the dependency counts as failed. It is zero while a part counts as
	// failed, and while there is no outage.
	recoveredAt time.Time
	// generation counts the calls of Fault. The timer that ends an outage does nothing if Fault was called after the
	// start of the timer.
	generation int
	// expiry calls the method Fine when the latest failure of any part is one minute old (the constant stale). Without
	// this timer, an outage of an unused dependency would never end.
	expiry *time.Timer
}

// New returns a Log. At the start of an outage, the Log writes the message isDown and the error at level warn. It
// repeats them at most every 30 s while failures are reported. At the end of the outage, it writes the message isUp at
// level info.
func New(logger *slog.Logger, isDown, isUp string) *Log {
	return &Log{logger: logger, isDown: isDown, isUp: isUp, faults: map[string]time.Time{}}
}

// Fault records that a part of the dependency has failed. A part is anything that can fail independently, for example
// one operation on one node. A part counts as failed until the method Fine is called with this part, or until the
// latest failure of the part is one minute old (the constant stale).
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

// Fine records that the given parts of the dependency work. If no part counts as failed any more, the outage ends 5 s
// later (the constant quiet), unless a part fails within these 5 s.
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

// endUnlessFault ends the outage. The timer that Fine starts calls it. It does nothing if Fault was called in the
// meantime, because then l.generation differs from the given generation.
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
