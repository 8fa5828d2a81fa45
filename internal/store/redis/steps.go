package redis

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// RecordEntry implements store.Processors.
func (s *Store) RecordEntry(ctx context.Context, e store.EntryStep) (store.Result, error) {
	const doing = "record an entry"
	p, err := s.partition(e.Partition)
	if err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	c := p.entry.begin()
	c.origin(e.Origin)
	c.key(keyVisit, e.Plate)
	c.bit(e.Origin)
	c.instant(e.At)
	c.number(milliseconds(e.MaxStay + s.visitMargin))
	reply, err := s.batcher(p).do(ctx, c)
	if err != nil {
		return "", s.fault(ctx, p.entry.part, doing, err)
	}
	switch reply {
	case string(store.ResultRecorded):
		return store.ResultRecorded, nil
	case string(store.ResultDuplicate):
		return store.ResultDuplicate, nil
	}
	return "", unexpected(doing, reply)
}

// RecordExit implements store.Processors.
func (s *Store) RecordExit(ctx context.Context, e store.ExitStep) (store.ExitResult, error) {
	const doing = "record an exit"
	p, err := s.partition(e.Partition)
	if err != nil {
		return store.ExitResult{}, fmt.Errorf("%s: %w", doing, err)
	}
	c := p.exit.begin()
	c.origin(e.Origin)
	c.key(keyVisit, e.Plate)
	c.key(keyOutbox, "")
	c.matched(e.Origin)
	c.bit(e.Origin)
	c.string(e.Origin.ID)
	c.string(e.Plate)
	c.instant(e.At)
	c.string(intent(e))
	c.flag(e.LastAttempt)
	reply, err := s.batcher(p).do(ctx, c)
	if err != nil {
		return store.ExitResult{}, s.fault(ctx, p.exit.part, doing, err)
	}
	result, err := parseExitReply(reply, e.Origin.ID)
	if err != nil {
		return store.ExitResult{}, fmt.Errorf("%s: %w", doing, err)
	}
	return result, nil
}

// intent returns the intent of an exit for the script. It is "" for an external exit. A generated exit without an
// intent has the intent "matched".
func intent(e store.ExitStep) string {
	switch {
	case !e.Origin.Generated():
		return ""
	case e.Intent == event.IntentUnmatched:
		return string(event.IntentUnmatched)
	default:
		return string(event.IntentMatched)
	}
}

// parseExitReply parses the reply of the exit script to the exit event with the given ID.
func parseExitReply(reply, id string) (store.ExitResult, error) {
	name, row, hasRow := strings.Cut(reply, " ")
	result := store.Result(name)
	switch result {
	case store.ResultMatched, store.ResultPending:
		if !hasRow {
			return store.ExitResult{}, unexpected("read a summary", reply)
		}
		summary, err := parseRow(id, row)
		return store.ExitResult{Result: result, Summary: summary}, err
	case store.ResultUnmatchedExpected, store.ResultUnmatchedUnexpected, store.ResultEntryNotFound,
		store.ResultEarly, store.ResultPrecedesEntry, store.ResultDuplicate:
		return store.ExitResult{Result: result}, nil
	}
	return store.ExitResult{}, unexpected("read the result of an exit", reply)
}

// parseRow parses a row of the outbox, which contains the entry time, the exit time, and the plate.
func parseRow(id, row string) (event.Summary, error) {
	if len(row) < 2*instantWidth {
		return event.Summary{}, fmt.Errorf("the outbox row %q of the exit %q is too short", row, id)
	}
	entry, err := parseInstant(row[:instantWidth])
	if err != nil {
		return event.Summary{}, fmt.Errorf("parse the entry time in the outbox row of the exit %q: %w", id, err)
	}
	exit, err := parseInstant(row[instantWidth : 2*instantWidth])
	if err != nil {
		return event.Summary{}, fmt.Errorf("parse the exit time in the outbox row of the exit %q: %w", id, err)
	}
	return event.Summary{ID: id, Plate: row[2*instantWidth:], EntryAt: entry, ExitAt: exit}, nil
}

// SettleSummary implements store.Processors.
func (s *Store) SettleSummary(ctx context.Context, partition int, exitID string) (store.Result, error) {
	const doing = "settle a summary"
	p, err := s.partition(partition)
	if err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	c := p.settle.begin()
	c.key(keyOutbox, "")
	c.string(exitID)
	reply, err := s.batcher(p).do(ctx, c)
	if err != nil {
		return "", s.fault(ctx, p.settle.part, doing, err)
	}
	switch result := store.Result(reply); result {
	case store.ResultSettled, store.ResultDuplicate:
		return result, nil
	}
	return "", unexpected(doing, reply)
}

// RecordDeadLetter implements store.Processors.
func (s *Store) RecordDeadLetter(ctx context.Context, partition int, key string) error {
	const doing = "count a dead letter"
	p, err := s.partition(partition)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	c := p.deadLetter.begin()
	c.key(keyDeadLetter, key)
	reply, err := s.batcher(p).do(ctx, c)
	if err != nil {
		return s.fault(ctx, p.deadLetter.part, doing, err)
	}
	if reply != "counted" && reply != duplicate {
		return unexpected(doing, reply)
	}
	return nil
}

// duplicate is the reply of a script if the event has already taken effect.
const duplicate = string(store.ResultDuplicate)

// unexpected returns the error for a reply that the scripts of this version never return.
func unexpected(doing, reply string) error {
	return fmt.Errorf("%s: the store replied %q, which this version of the program does not expect: run the same version everywhere", doing, reply)
}

// milliseconds converts d to whole milliseconds for the expiry of a key. The result is at least 1, because Redis
// rejects 0.
func milliseconds(d time.Duration) int64 { return max(1, d.Milliseconds()) }
