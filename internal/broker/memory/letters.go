package memory

import (
	"slices"
	"sync"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// DeadLetter is a message that could not be processed.
type DeadLetter struct {
	Message broker.Message
	Queue   broker.Queue
	Reason  broker.Reason
}

// deadLetters counts dead letters and keeps the latest ones.
type deadLetters struct {
	mu     sync.Mutex
	total  int64
	latest []DeadLetter
}

func (l *deadLetters) add(letter DeadLetter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total++
	if len(l.latest) == keptLetters {
		l.latest = slices.Delete(l.latest, 0, 1)
	}
	l.latest = append(l.latest, letter)
}

func (l *deadLetters) count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

func (l *deadLetters) all() []DeadLetter {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.latest)
}

func (l *deadLetters) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total, l.latest = 0, nil
}

// reasons iterates over the reasons of the kept dead letters.
func (l *deadLetters) reasons(yield func(broker.Reason) bool) {
	for _, letter := range l.all() {
		if !yield(letter.Reason) {
			return
		}
	}
}
