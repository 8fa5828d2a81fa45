package controllers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// editIgnored is the last part of a message about an edit that has no effect.
const editIgnored = "has no effect: to run again, delete the simulation and create it again"

// runSettings returns the fields of the spec that determine the run, with short values. Changes of these fields have
// no effect once the simulation is complete.
func runSettings(sim *v1alpha1.ParkingSimulation) map[string]string {
	spec := &sim.Spec
	settings := map[string]string{
		"duration":          short(spec.Duration.Value().String()),
		"drainTimeout":      short(spec.DrainTimeout.Value().String()),
		"suspend":           short(spec.Suspend),
		"exit.matchPercent": short(spec.Exit.MatchPercent),
		"exit.minStay":      short(spec.Exit.MinStay.Value().String()),
		"plates.maxStay":    short(spec.Plates.MaxStay.Value().String()),
		"faults":            short(spec.Faults),
		"objectives":        short(spec.Objectives),
	}
	for _, side := range []struct {
		name      string
		rate      *int32
		generator *v1alpha1.GeneratorSpec
	}{{"entry", spec.Entry.Rate, &spec.Entry.GeneratorSpec}, {"exit", spec.Exit.Rate, &spec.Exit.GeneratorSpec}} {
		settings[side.name+".rate"] = short(side.rate)
		settings[side.name+".arrivals"] = short(side.generator.Arrivals)
		settings[side.name+".replicas"] = short(side.generator.Replicas)
		settings[side.name+".stages"] = short(stagesText(side.generator.Stages))
	}
	return settings
}

// stagesText returns stages with durations in a canonical form, so that "90s" equals "1m30s".
func stagesText(stages []v1alpha1.Stage) []string {
	texts := make([]string, len(stages))
	for i, stage := range stages {
		texts[i] = stage.Duration.Value().String() + " " + short(stage.Rate)
	}
	return texts
}

// short returns a value as JSON, or a digest of the JSON if the JSON is long.
func short(value any) string {
	const longest = 24
	text, err := json.Marshal(value)
	if err != nil {
		text = []byte(err.Error()) // cannot happen: json.Marshal does not fail for fields of the spec
	}
	if len(text) <= longest {
		return string(text)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:longest/2])
}

// trackEdits detects edits of a running simulation: it compares the spec with the settings that the previous reconcile
// stored in the status.
func (r *Reconciler) trackEdits(_ context.Context, s *scope) error {
	status := &s.sim.Status
	if status.StartTime == nil || s.isComplete() {
		return nil
	}
	now := runSettings(s.sim)
	switch {
	case len(status.RunSettings) == 0 && s.sim.Generation > 1:
		// An earlier operator version stored no settings, so it is unknown whether the schedule changed.
		// ScheduleChangeTime says so if it equals StartTime.
		status.ScheduleChangeTime = status.StartTime.DeepCopy()
	case len(status.RunSettings) > 0 && changesSchedule(status.RunSettings, now, s.generatorsDone()):
		status.ScheduleChangeTime = wholeSeconds(s.now)
	}
	s.faultsEdited = len(status.RunSettings) > 0 && status.RunSettings["faults"] != now["faults"]
	status.RunSettings = now
	return nil
}

// changesSchedule reports whether an edit changes the schedule that the verdict checks. ended is true if the generators
// have ended.
func changesSchedule(before, now map[string]string, ended bool) bool {
	return slices.ContainsFunc(changed(before, now), func(name string) bool {
		switch name {
		case "suspend":
			return !ended
		case "duration", "entry.rate", "entry.stages", "exit.rate", "exit.stages", "exit.minStay":
			// Generators that have ended did not follow the edited schedule, so the verdict must not use it.
			return true
		case "entry.replicas", "exit.replicas":
			return before[name] == "0" || now[name] == "0"
		}
		return false
	})
}

// changed returns the names of the settings whose values differ, in alphabetical order.
func changed(before, now map[string]string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(now)), func(name string) bool { return before[name] == now[name] })
}

// ignoredEdits returns a message that names the settings that were changed, without effect, after completion. It
// returns "" if no setting was changed.
func (s *scope) ignoredEdits() string {
	if !s.isComplete() || len(s.sim.Status.RunSettings) == 0 {
		return ""
	}
	names := changed(s.sim.Status.RunSettings, runSettings(s.sim))
	if len(names) == 0 {
		return ""
	}
	return "the change of spec." + strings.Join(names, ", spec.") + " after completion " + editIgnored
}

// uncheckedSchedule returns why the verdict does not compare the published events with the schedule. It returns "" if
// the verdict makes this comparison.
func (s *scope) uncheckedSchedule() string {
	if at := s.sim.Status.ScheduleChangeTime; at != nil {
		if at.Equal(s.sim.Status.StartTime) {
			return "the schedule was not checked, because an earlier version of the operator started the simulation, and did not record whether an edit of the spec changed the schedule"
		}
		return "the schedule was not checked, because an edit of the spec changed it at " + at.UTC().Format(time.RFC3339)
	}
	return ""
}
