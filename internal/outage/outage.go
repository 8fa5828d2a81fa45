// Package outage logs that something this process depends on is down, and that it is up again: once for each
// outage, however many goroutines meet it and however often each of them tries.
package outage

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// reminder is how often an outage that lasts is logged again, with what is wrong by then.
const reminder = 30 * time.Second

// Log logs the outages of one thing. It is safe for concurrent use.
type Log struct {
	logger *slog.Logger
	// isDown, isUp are the messages.
	isDown, isUp string

	// faulty is len(parts) > 0, for Fine to be cheap.
	faulty atomic.Bool

	mu    sync.Mutex
	parts map[string]struct{}
	// since is when the outage began, told when it was logged last.
	since, told time.Time
}

// New returns a log whose messages are isDown, at level warn with the attribute error, and isUp, at level
// info.
func New(logger *slog.Logger, isDown, isUp string) *Log {
	return &Log{logger: logger, isDown: isDown, isUp: isUp, parts: map[string]struct{}{}}
}

// Fault says that a part failed. Parts are what can work while others do not.
func (l *Log) Fault(part string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.parts) == 0 {
		l.since, l.told = now, time.Time{}
	}
	l.parts[part] = struct{}{}
	l.faulty.Store(true)
	if now.Sub(l.told) < reminder {
		return
	}
	l.told = now
	attrs := []any{"error", err}
	if lasted := now.Sub(l.since); lasted > 0 {
		attrs = append(attrs, "for", lasted.Round(time.Millisecond).String())
	}
	l.logger.Warn(l.isDown, attrs...)
}

// Fine says that these parts work.
func (l *Log) Fine(parts ...string) {
	if !l.faulty.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, part := range parts {
		delete(l.parts, part)
	}
	if len(l.parts) > 0 || !l.faulty.Load() {
		return
	}
	l.faulty.Store(false)
	l.logger.Info(l.isUp, "after", time.Since(l.since).Round(time.Millisecond).String())
}
