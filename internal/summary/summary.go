package summary

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
)

// Outcome is what storing a summary came to.
type Outcome uint8

// The outcomes.
const (
	// Created: the summary is stored, now and only now.
	Created Outcome = iota + 1
	// Known: the same summary was stored before; nothing was changed.
	Known
	// Conflicting: a different summary was stored before under the same identifier. That one stands, and
	// nothing was changed.
	Conflicting
)

// The instants that can be stored: those whose Unix time in nanoseconds is a 64-bit integer.
const (
	firstYear = 1678
	lastYear  = 2261
)

// Validate returns a *RejectedError if the summary can never be stored: an identifier or a plate that is
// empty or too long, a visit that ends before it begins, or an instant or a duration that 64 bits of
// nanoseconds cannot hold.
func Validate(s event.Summary) error {
	switch {
	case s.ID == "" || len(s.ID) > event.MaxIDBytes:
		return invalid("id has %d bytes: it must have 1 to %d", len(s.ID), event.MaxIDBytes)
	case s.Plate == "" || len(s.Plate) > event.MaxPlateBytes:
		return invalid("vehicle_plate has %d bytes: it must have 1 to %d", len(s.Plate), event.MaxPlateBytes)
	case !storable(s.EntryAt):
		return invalid("entry_date_time is outside of the years %d to %d", firstYear, lastYear)
	case !storable(s.ExitAt):
		return invalid("exit_date_time is outside of the years %d to %d", firstYear, lastYear)
	case s.ExitAt.Before(s.EntryAt):
		return invalid("exit_date_time is before entry_date_time")
	case s.Duration() == math.MaxInt64: // where package time stops counting
		return invalid("the visit is longer than %d hours", int64(time.Duration(math.MaxInt64)/time.Hour))
	}
	return nil
}

func storable(t time.Time) bool {
	year := t.UTC().Year()
	return firstYear <= year && year <= lastYear
}

func invalid(format string, args ...any) *RejectedError {
	return &RejectedError{Status: http.StatusUnprocessableEntity, Detail: fmt.Sprintf(format, args...)}
}

// Query selects summaries. Its results come in the order of their exits; those of the same instant in
// the order in which they were stored.
type Query struct {
	// Plate selects the visits of one vehicle; empty means all.
	Plate string
	// From and To select the visits with From <= exit < To. The zero time means no bound.
	From, To time.Time
	// After is the position after which the page begins; the zero position is before all.
	After Position
	// Limit bounds the page; it is at least 1.
	Limit int
}

// Position is that of a summary in the order of results.
type Position struct {
	// ExitNanos is the Unix time of the exit in nanoseconds.
	ExitNanos int64
	// Seq is the order of storing, counted from 1.
	Seq int64
}

// IsZero reports whether the position is before all.
func (p Position) IsZero() bool { return p == Position{} }

// Page is a part of a query's results.
type Page struct {
	Summaries []event.Summary
	// Next is the position of the last of them, to begin the next page after; the zero position says that
	// there were no more.
	Next Position
}

// Stats describes everything that is stored. All but Count are zero when nothing is.
type Stats struct {
	Count int64
	// Mean, Shortest and Longest are of the durations of the visits; Mean is cut to whole nanoseconds.
	Mean, Shortest, Longest time.Duration
	// FirstExit and LastExit are the earliest and the latest.
	FirstExit, LastExit time.Time
}

// Database is where a Service keeps summaries. Its methods but Insert may be called concurrently.
type Database interface {
	// Insert stores the summaries that pass Validate in one transaction, durable when it returns, and sets
	// the outcome of each. Of an identifier that comes twice the first summary counts. An error means that
	// none is known to be stored. Without any summary it still writes, so that success shows that it can.
	Insert(ctx context.Context, summaries []event.Summary, outcomes []Outcome) error
	// Find returns the summary with this identifier, and whether there is one.
	Find(ctx context.Context, id string) (event.Summary, bool, error)
	// List returns a page of the query's results.
	List(ctx context.Context, q Query) (Page, error)
	// Stats takes the same time however many summaries there are.
	Stats(ctx context.Context) (Stats, error)
	Close() error
}
