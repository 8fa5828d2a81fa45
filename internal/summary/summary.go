package summary

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parking-operator/parking-operator/internal/event"
)

// Outcome is the result of storing one summary.
type Outcome uint8

// These are the outcomes of storing a summary.
const (
	// Created means that the summary was not stored before, and is stored now.
	Created Outcome = iota + 1
	// Known means that the same summary was already stored. Nothing changed.
	Known
	// Conflicting means that a different summary was already stored under the same identifier. Nothing changed.
	Conflicting
)

// All instants from the year firstYear to the year lastYear fit into a 64-bit Unix time in nanoseconds.
const (
	firstYear = 1678
	lastYear  = 2261
)

// Validate returns a *RejectedError if the summary can never be stored. The limits are the same for all databases.
func Validate(s event.Summary) error {
	switch {
	case s.ID == "" || len(s.ID) > event.MaxIDBytes:
		return invalid("id has %d bytes: it must have 1 to %d", len(s.ID), event.MaxIDBytes)
	case s.Plate == "" || len(s.Plate) > event.MaxPlateBytes:
		return invalid("vehicle_plate has %d bytes: it must have 1 to %d", len(s.Plate), event.MaxPlateBytes)
	case !isText(s.ID):
		return invalid("id must be valid UTF-8 without the character U+0000")
	case !isText(s.Plate):
		return invalid("vehicle_plate must be valid UTF-8 without the character U+0000")
	case !storable(s.EntryAt):
		return invalid("entry_date_time must be between the years %d and %d", firstYear, lastYear)
	case !storable(s.ExitAt):
		return invalid("exit_date_time must be between the years %d and %d", firstYear, lastYear)
	case s.ExitAt.Before(s.EntryAt):
		return invalid("exit_date_time is before entry_date_time")
	case s.Duration() == math.MaxInt64: // Time.Sub returns MaxInt64 if the duration does not fit into 64 bits
		return invalid("the visit is longer than %d hours", int64(time.Duration(math.MaxInt64)/time.Hour))
	}
	return nil
}

func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

func storable(t time.Time) bool {
	year := t.UTC().Year()
	return firstYear <= year && year <= lastYear
}

func invalid(format string, args ...any) *RejectedError {
	return &RejectedError{Detail: fmt.Sprintf(format, args...)}
}

// Query selects summaries. The results are ordered by exit time. Summaries with the same exit time are in insertion
// order.
type Query struct {
	// Plate selects the visits of one vehicle. An empty Plate selects all vehicles.
	Plate string
	// From and To select the visits whose exit time is in [From, To). A zero time means no bound.
	From, To time.Time
	// The field After is the position of the last summary on the previous page. For the first page it is the zero
	// position.
	After Position
	// Limit is the maximum number of summaries on the page. It must be at least 1.
	Limit int
}

// Bounds returns a position that precedes all summaries of a query, and their latest possible exit time in Unix
// nanoseconds.
func (q Query) Bounds() (after Position, last int64) {
	after, last = Position{ExitNanos: math.MinInt64}, math.MaxInt64
	if !q.From.IsZero() {
		after.ExitNanos = nanos(q.From) // the position with Seq 0 precedes all summaries with this exit time
	}
	if !q.After.IsZero() && q.After.ExitNanos >= after.ExitNanos {
		after = q.After
	}
	if !q.To.IsZero() {
		last = nanos(q.To.Add(-1))
	}
	return after, last
}

// nanos converts an instant to a Unix time in nanoseconds. If the result does not fit into 64 bits, nanos returns the
// nearest value that fits.
func nanos(t time.Time) int64 {
	switch first, last := time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64); {
	case t.Before(first):
		return math.MinInt64
	case t.After(last):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// Instant converts a Unix time in nanoseconds, as databases store it, to a time in UTC.
func Instant(nanos int64) time.Time { return time.Unix(0, nanos).UTC() }

// Position is a place in the results of a query: the exit time and the insertion number of a summary.
type Position struct {
	// ExitNanos is the Unix time of the exit in nanoseconds.
	ExitNanos int64
	// Seq is the number of the summary in insertion order, starting with 1.
	Seq int64
}

// IsZero reports whether p is the zero position, which precedes all results.
func (p Position) IsZero() bool { return p == Position{} }

// Page is one page of a query's results.
type Page struct {
	Summaries []event.Summary
	// Next is the value of Query.After for the next page, or the zero position if this is the last page.
	Next Position
}

// Stats are totals over all stored summaries. All fields are zero if no summaries are stored.
type Stats struct {
	Count int64
	// Mean, Shortest and Longest describe the durations of visits. Mean is rounded down to a nanosecond.
	Mean, Shortest, Longest time.Duration
	// FirstExit and LastExit are the times of the earliest and the latest exit.
	FirstExit, LastExit time.Time
}

// Database stores summaries for a Service. All methods except Insert are safe for concurrent use. Calls after Close
// return an error.
type Database interface {
	// String returns what the database is, where it is, and what to check if it does not respond. Messages contain
	// this text, so it must not contain credentials.
	String() string
	// Insert stores valid summaries in one durable transaction, and writes their outcomes to a slice of the same
	// length. Of several summaries with the same identifier, only the first is stored. After an error, any of the
	// summaries may be stored.
	//
	// Even without summaries, Insert writes to the database. So a readiness probe detects a read-only database.
	Insert(ctx context.Context, summaries []event.Summary, outcomes []Outcome) error
	// Find returns the summary with the given identifier, and whether it exists.
	Find(ctx context.Context, id string) (event.Summary, bool, error)
	// List returns one page of a query's results.
	List(ctx context.Context, q Query) (Page, error)
	// Stats returns totals over all stored summaries.
	Stats(ctx context.Context) (Stats, error)
	Close() error
}
