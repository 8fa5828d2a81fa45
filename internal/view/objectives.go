package view

import (
	"regexp"
	"slices"
	"sync"

	"github.com/parking-operator/parking-operator/internal/timeline"
)

// missedObjectives creates a mark when a state contains a reason for FAIL for the first time. The processes themselves
// mark only the objectives that they can measure, because none of them knows the whole simulation.
type missedObjectives struct {
	mu    sync.Mutex // guards the fields below
	run   string
	known map[string]bool
	marks []timeline.Mark
	// paused means that no state was observed for a while.
	paused bool
}

// maxObjectives is the maximum number of marks of missedObjectives.
const maxObjectives = 100

// numbers matches the numbers and durations in a reason. A reason stays the same reason if its numbers grow. Digits in
// names, such as those of faults, are not matched.
var numbers = regexp.MustCompile(`(^|[ (])\d[0-9.,a-zµ]*`)

// pause says that the next state may be much later than the previous one.
func (m *missedObjectives) pause() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paused = true
}

// observe creates the marks for the reasons that appear in the state for the first time. It creates none for the first
// state of a run or after a pause, because it is unknown when its reasons appeared.
func (m *missedObjectives) observe(s *State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	isFirst := m.paused
	m.paused = false
	if m.known == nil || m.run != s.Run {
		m.run, m.known, m.marks = s.Run, map[string]bool{}, nil
		isFirst = true
	}
	for _, reason := range s.Verdict.Reasons {
		key := numbers.ReplaceAllString(reason, "")
		if m.known[key] || len(m.marks) >= maxObjectives {
			continue
		}
		m.known[key] = true
		if !isFirst {
			m.marks = append(m.marks, timeline.ObjectiveMark(s.now(), reason))
		}
	}
}

// missed returns the marks in the order of time.
func (m *missedObjectives) missed() []timeline.Mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedStableFunc(slices.Values(m.marks), func(a, b timeline.Mark) int { return a.At.Compare(b.At) })
}
