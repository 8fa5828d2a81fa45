package fault

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/terminal"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// maxMarked is the maximum number of instances that a mark in the timeline names.
const maxMarked = 5

// Marks returns the marks for the injections and the ends of faults, in chronological order.
func Marks(accounts []Account) []timeline.Mark {
	var marks []timeline.Mark
	for _, a := range Abridge(accounts, maxMarked) {
		if a.InjectedAt.IsZero() {
			continue
		}
		hit := a.Hit
		if a.HitOmitted > 0 {
			hit = append(slices.Clone(hit), fmt.Sprintf("and %d more", a.HitOmitted))
		}
		marks = append(marks, injectedMark(a.ID(), a.InjectedAt, a.Action, hit))
		if a.HealedAt.IsZero() {
			continue
		}
		marks = append(marks, healedMark(a.ID(), a.HealedAt, endMessage(a.HealedAt.Sub(a.InjectedAt), a.Outcome == OutcomeAborted)))
	}
	slices.SortStableFunc(marks, func(a, b timeline.Mark) int { return a.At.Compare(b.At) })
	return marks
}

func injectedMark(id string, at time.Time, action plan.FaultAction, hit []string) timeline.Mark {
	return timeline.Mark{At: at, Kind: timeline.MarkInjected, Subject: id, Message: fmt.Sprintf("%s of %s", action, strings.Join(hit, ", "))}
}

// endMessage returns the message in the timeline for the end of a fault that was in effect for the given time.
func endMessage(lasted time.Duration, isAborted bool) string {
	if isAborted {
		return "ended early, after " + terminal.Duration(lasted)
	}
	return "after " + terminal.Duration(lasted)
}

func healedMark(id string, at time.Time, message string) timeline.Mark {
	return timeline.Mark{At: at, Kind: timeline.MarkHealed, Subject: id, Message: message}
}
