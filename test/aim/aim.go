// Package aim compares the results of benchmarks with the values that the project aims at.
package aim

import (
	"fmt"
	"io"
	"strconv"

	"github.com/parking-operator/parking-operator/internal/report"
)

// Aim is a bound that a measured value should meet. The value is measured in several rounds, and the median counts.
type Aim struct {
	What     string    `json:"what"`
	Rounds   []float64 `json:"rounds"`
	Measured float64   `json:"measured"`
	// Exactly one of AtLeast and AtMost is not nil.
	AtLeast *float64 `json:"atLeast,omitempty"`
	AtMost  *float64 `json:"atMost,omitempty"`
	Met     bool     `json:"met"`
}

// AtLeast returns an aim with a lower bound. The parameter rounds contains the measured value of each round.
func AtLeast(bound float64, what string, rounds ...float64) Aim {
	a := measured(what, rounds)
	a.AtLeast, a.Met = &bound, a.Measured >= bound
	return a
}

// AtMost is like AtLeast, but returns an aim with an upper bound.
func AtMost(bound float64, what string, rounds ...float64) Aim {
	a := measured(what, rounds)
	a.AtMost, a.Met = &bound, a.Measured <= bound
	return a
}

func measured(what string, rounds []float64) Aim {
	a := Aim{What: what, Rounds: rounds}
	if len(rounds) > 0 {
		a.Measured = report.Median(rounds)
	}
	return a
}

// Taken returns the aims that were measured at least once.
func Taken(all ...Aim) []Aim {
	var taken []Aim
	for _, a := range all {
		if len(a.Rounds) > 0 {
			taken = append(taken, a)
		}
	}
	return taken
}

// Print prints a table of aims (performance targets), and an empty line. It prints nothing if there are no aims. The
// columns are separated by tabs.
func Print(w io.Writer, aims []Aim) {
	if len(aims) == 0 {
		return
	}
	fmt.Fprint(w, "what\tmeasured\taim\n")
	for _, a := range aims {
		met := "missed"
		if a.Met {
			met = "met"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", a.What, a.number(), a.bound(), met)
	}
	fmt.Fprintln(w)
}

func (a *Aim) number() string {
	decimals := 2
	if a.Measured >= 100 {
		decimals = 0
	}
	return strconv.FormatFloat(a.Measured, 'f', decimals, 64)
}

func (a *Aim) bound() string {
	if a.AtMost != nil {
		return "≤ " + strconv.FormatFloat(*a.AtMost, 'f', -1, 64)
	}
	return "≥ " + strconv.FormatFloat(*a.AtLeast, 'f', -1, 64)
}
