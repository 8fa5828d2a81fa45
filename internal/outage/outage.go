// Package outage logs when something that this process depends on fails and when it works again. It logs one
// line at the start of an outage, one every 30 s while it lasts, and one at its end, however many goroutines
// see the outage and however often they retry.
package outage

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// reminder is the time between two lines about the same outage.
	reminder = 30 * time.Second
	// quiet is the time without a fault after which an outage is over. It is longer than the longest backoff of
	// a retry, so that an outage does not end between two attempts.
	quiet = 5 * time.Second
	// stale is the age of a fault from which on it no longer holds up the end of an outage: its caller has
	// given up.
	stale = time.Minute
)

// Log logs the outages of one dependency. It is safe for concurrent use.
type Log struct {
	logger *slog.Logger
	// isDown and isUp are the messages.
	isDown, isUp string

	// isOutage is true during an outage. Fine reads it without the lock.
	isOutage atomic.Bool

	mu sync.Mutex
	// faults holds the time of the latest fault of each part that does not work.
	faults map[string]time.Time
	// began is the start of the outage, and logged the time of the latest line about it.
	began, logged time.Time
	// recovered is the time at which every part worked again, zero while one does not.
	recovered time.Time
	// generation counts the faults. A fault keeps an earlier recovery from ending the outage.
	generation int
}

// New returns a log with two messages: isDown, logged at level warn with the attribute error, and isUp, logged at
// level info.
func New(logger *slog.Logger, isDown, isUp string) *Log {
	return &Log{logger: logger, isDown: isDown, isUp: isUp, faults: map[string]time.Time{}}
}

// Fault records that a part failed. Parts can fail independently of each other, such as one operation on one node.
// Only a success of the same part, or a minute without another fault of it, ends its failure.
func (l *Log) Fault(part string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.recovered = time.Time{}
	l.generation++
	if !l.isOutage.Swap(true) {
		l.began, l.logged = now, time.Time{}
	}
	l.faults[part] = now
	if now.Sub(l.logged) < reminder {
		return
	}
	l.logged = now
	attrs := []any{"error", err}
	if lasted := now.Sub(l.began); lasted > 0 {
		attrs = append(attrs, "for", lasted.Round(time.Millisecond).String())
	}
	l.logger.Warn(l.isDown, attrs...)
}

// Fine records that parts work. The outage is over once all parts have worked for some seconds.
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
		if now.Sub(at) > stale {
			delete(l.faults, part)
		}
	}
	if len(l.faults) > 0 || !l.recovered.IsZero() || !l.isOutage.Load() {
		return
	}
	l.recovered = now
	generation := l.generation
	time.AfterFunc(quiet, func() { l.end(generation) })
}

// end ends the outage unless there was a fault since the given generation.
func (l *Log) end(generation int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.generation != generation {
		return
	}
	l.isOutage.Store(false)
	l.logger.Info(l.isUp, "after", l.recovered.Sub(l.began).Round(time.Millisecond).String())
	l.recovered = time.Time{}
}
