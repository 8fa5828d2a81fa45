package plan

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/document"
)

// pollInterval is the time between two reads of the plan file. Polling is cheap, and works on every file system and
// with the kubelet's symbolic links.
const pollInterval = 200 * time.Millisecond

// Watch polls the plan file until ctx ends. It calls apply within a second of a change that a running process can
// apply, never concurrently. running is the plan that the process already uses. Watch logs a warning about changed
// fields that the role uses only at its start. If the file is invalid, or changes a field that must not change, Watch
// logs an error and keeps the previous plan.
func Watch(ctx context.Context, path string, role Role, running *Plan, log *slog.Logger, apply func(*Plan)) {
	w := watcher{path: path, role: role, started: running, running: running, log: log, apply: apply}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		w.poll()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

type watcher struct {
	path    string
	role    Role
	started *Plan // the plan with which the process started
	running *Plan
	log     *slog.Logger
	apply   func(*Plan)
	// text is the content of the file at the last read.
	text      []byte
	fault     string // the last logged error; "" after a valid plan
	suspicion string // the error to log if it occurs again; "" after a valid plan
}

func (w *watcher) poll() {
	text, err := document.ReadFile(w.path)
	if err != nil {
		w.report(err)
		return
	}
	if w.fault+w.suspicion == "" && bytes.Equal(text, w.text) {
		return
	}
	w.text = text
	next, err := w.running.successor(text)
	if err != nil {
		w.report(err)
		return
	}
	w.fault, w.suspicion = "", ""
	if err := w.change(next); err != nil {
		w.report(err)
	}
}

// change applies the fields that take effect at once. For the fields that take effect only when the process
// starts, it logs a warning.
func (w *watcher) change(next *Plan) error {
	changed, err := w.running.changes(next)
	if err != nil {
		return err
	}
	differs, err := w.started.changes(next)
	if err != nil {
		return err
	}
	w.running = next
	applied := slices.DeleteFunc(slices.Clone(changed), waitsForStart)
	waiting := slices.DeleteFunc(changed, func(path string) bool {
		return !waitsForStart(path) || !w.role.needsRestart(path) || !slices.Contains(differs, path)
	})
	if len(waiting) > 0 {
		w.log.Warn("Some changes of the plan take effect at the next start: restart the process to apply them",
			"plan", w.path, "fields", strings.Join(waiting, " "))
	}
	if len(applied) > 0 {
		w.log.Info("The plan changed", "plan", w.path, "fields", strings.Join(applied, " "))
		w.apply(next)
	}
	return nil
}

// report logs an error at its second consecutive occurrence, and only once. A file that is being overwritten may be
// incomplete for one read.
func (w *watcher) report(err error) {
	switch fault := err.Error(); fault {
	case w.fault:
	case w.suspicion:
		w.fault = fault
		w.log.Error("The plan file is invalid or cannot be read; the previous plan remains in use", "plan", w.path, "error", err)
	default:
		w.suspicion = fault
	}
}

// successor parses the next plan. It returns an error if the next plan changes a field that must not change.
func (p *Plan) successor(text []byte) (*Plan, error) {
	next, err := Parse(text)
	if err != nil {
		return nil, err
	}
	return next, p.canBecome(next)
}

// canBecome returns an error if a field changes that must stay the same during a simulation. After such a change,
// processes could not find the events and visits of the simulation.
func (p *Plan) canBecome(next *Plan) error {
	for _, fixed := range p.fixed(next) {
		if fixed.before != fixed.after {
			return fmt.Errorf("%s: cannot change from %v to %v while the simulation runs: set it to %v again, or start another simulation",
				fixed.field, fixed.before, fixed.after, fixed.before)
		}
	}
	return nil
}

// fixedField is a field of the plan that must not change. It contains the values from the current and from the next
// plan.
type fixedField struct {
	field         string
	before, after any
}

func (p *Plan) fixed(next *Plan) []fixedField {
	return []fixedField{
		{"simulation", p.Simulation, next.Simulation},
		{"seed", p.Seed, next.Seed},
		{"partitions", p.Partitions, next.Partitions},
		{"queueType", p.QueueType, next.QueueType},
	}
}
