// Package outage logs when a dependency of this process, such as a server, fails and when it works again. It
// logs one line at the start of an outage, one every 30 s during the outage, and one at its end, no matter how
// many goroutines notice the outage and how often they retry.
package outage

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// reminder is the time between two lines about one outage.
	reminder = 30 * time.Second
	// quiet is how long there must be no fault before an outage is over. It is longer than the longest backoff
	// between retries, so that an outage does not end between two attempts.
	quiet = 5 * time.Second
	// stale is the age at which a fault no longer prolongs the outage, because its caller has given up.
	stale = time.Minute
)

// Log logs the outages of one dependency. It is safe for concurrent use.
type Log struct {
	logger *slog.Logger
	// isDown and isUp are the messages at the start and at the end of an outage.
	isDown, isUp string

	// isOutage is true during an outage. Fine reads it without the lock.
	isOutage atomic.Bool

	mu sync.Mutex
	// faults holds the time of the latest fault of each part that has not worked since.
	faults map[string]time.Time
	// began is when the outage began. logged is when it was last logged.
	began, logged time.Time
	// recovered is when all parts worked again. It is zero while any part does not work.
	recovered time.Time
	// generation counts the faults. It tells a pending end of an outage that there was another fault.
	generation int
}

// New returns a Log. It logs the message isDown at level warn, with the error, and the message isUp at level
// info.
func New(logger *slog.Logger, isDown, isUp string) *Log {
	return &Log{logger: logger, isDown: isDown, isUp: isUp, faults: map[string]time.Time{}}
}

// Fault records that a part of the dependency failed. Parts fail independently of each other, for example one
// operation on one node. The failure of a part ends when the part succeeds, or when a minute has passed without
// another fault of it.
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

// end ends the outage unless another fault has been recorded since the given generation.
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
