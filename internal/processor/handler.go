package processor

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/outage"
	"github.com/parking-operator/parking-operator/internal/store"
)

// EntryEventProcessor processes entry events: it records each entry as a parked vehicle.
type EntryEventProcessor struct {
	store      EntryStore
	partitions int
	maxStay    atomic.Int64 // a time.Duration
	log        *slog.Logger
}

// NewEntryEventProcessor returns an EntryEventProcessor for a simulation with the given number of partitions. A visit
// without an exit expires after maxStay.
func NewEntryEventProcessor(s EntryStore, partitions int, maxStay time.Duration, log *slog.Logger) *EntryEventProcessor {
	p := &EntryEventProcessor{store: s, partitions: partitions, log: log}
	p.SetMaxStay(maxStay)
	return p
}

// SetMaxStay changes the maximum stay of vehicles whose entries are processed after this call. It is safe for
// concurrent use.
func (p *EntryEventProcessor) SetMaxStay(maxStay time.Duration) { p.maxStay.Store(int64(maxStay)) }

// ProcessMessage implements Handler. It parses an entry and records the entry in the store.
func (p *EntryEventProcessor) ProcessMessage(ctx context.Context, msg broker.Message) (Completion, error) {
	entry, err := parse(&msg, event.ParseEntry)
	if err != nil {
		return Completion{}, err
	}
	partition := event.PartitionOf(entry.Plate, p.partitions)
	mark, err := p.store.Mark(ctx, partition)
	if err != nil {
		return Completion{}, Transient(StageStore, entry.ID, err)
	}
	result, err := p.store.RecordEntry(ctx, store.EntryStep{
		Origin:    entryOrigin(&msg, entry.ID, partition),
		Partition: partition,
		Plate:     entry.Plate,
		At:        entry.At,
		MaxStay:   time.Duration(p.maxStay.Load()),
	})
	if err != nil {
		return Completion{}, Transient(StageStore, entry.ID, err)
	}
	logResult(ctx, p.log, "Entry processed", result, entry.ID, entry.Plate)
	return Completion{Outcome: outcomeOf(result), Partition: partition, Mark: mark}, nil
}

// ExitEventProcessor processes exit events: it matches each exit with its entry and posts the summary of the visit.
type ExitEventProcessor struct {
	store      ExitStore
	poster     Poster
	partitions int
	log        *slog.Logger
	outages    *outage.Log // logs outages of the summary API
}

// partPost identifies the posting of summaries in the outage log.
const partPost = "post"

// NewExitEventProcessor returns an ExitEventProcessor for a simulation with the given number of partitions.
func NewExitEventProcessor(s ExitStore, poster Poster, partitions int, log *slog.Logger) *ExitEventProcessor {
	return &ExitEventProcessor{
		store: s, poster: poster, partitions: partitions, log: log,
		outages: outage.New(log, "The summary API is unavailable; every summary is posted again until it is stored", "The summary API is available again"),
	}
}

// ProcessMessage implements Handler. It matches an exit with its entry and posts the summary of the visit, even if an
// earlier attempt ended the visit.
func (p *ExitEventProcessor) ProcessMessage(ctx context.Context, msg broker.Message) (Completion, error) {
	exit, err := parse(&msg, event.ParseExit)
	if err != nil {
		return Completion{}, err
	}
	partition := event.PartitionOf(exit.Plate, p.partitions)
	mark, err := p.store.Mark(ctx, partition)
	if err != nil {
		return Completion{}, Transient(StageStore, exit.ID, err)
	}
	origin, intent := exitOrigin(&msg, exit.ID, partition)
	exited, err := p.store.RecordExit(ctx, store.ExitStep{
		Origin:      origin,
		Partition:   partition,
		Plate:       exit.Plate,
		At:          exit.At,
		Intent:      intent,
		LastAttempt: isLastAttempt(origin, msg.Attempt),
	})
	if err != nil {
		return Completion{}, Transient(StageStore, exit.ID, err)
	}
	logResult(ctx, p.log, "Exit processed", exited.Result, exit.ID, exit.Plate)

	done := Completion{Outcome: outcomeOf(exited.Result), Partition: partition, Mark: mark}
	switch exited.Result {
	case store.ResultMatched, store.ResultPending:
		done.Outcome, err = p.postSummary(ctx, partition, exited.Summary)
		return done, err
	case store.ResultPrecedesEntry:
		return done, Permanent(StageSummarize, exit.ID,
			fmt.Errorf("the exit is dated %s, which is before the entry of its visit", exit.At.Format(time.RFC3339Nano)))
	}
	return done, nil
}

// postSummary posts a summary and removes it from the outbox. It returns OutcomeDuplicate if another delivery has
// already removed the summary.
func (p *ExitEventProcessor) postSummary(ctx context.Context, partition int, s event.Summary) (Outcome, error) {
	err := p.poster.Post(ctx, s)
	switch {
	case err != nil && isRejection(err):
		p.outages.Fine(partPost)
		return OutcomeMatched, Permanent(StagePost, s.ID, err)
	case err != nil:
		if ctx.Err() == nil {
			p.outages.Fault(partPost, err)
		}
		return OutcomeMatched, Transient(StagePost, s.ID, err)
	}
	p.outages.Fine(partPost)
	result, err := p.store.SettleSummary(ctx, partition, s.ID)
	switch {
	case err != nil:
		return OutcomeMatched, Transient(StageStore, s.ID, err)
	case result == store.ResultDuplicate:
		return OutcomeDuplicate, nil
	}
	return OutcomeMatched, nil
}

// parse parses the body of a message with decode, which must reject a body longer than event.MaxBodyBytes. It ignores
// all message properties, including the content type.
func parse[E event.Entry | event.Exit](msg *broker.Message, decode func([]byte) (E, error)) (E, error) {
	var none E
	e, err := decode(msg.Body)
	if err != nil {
		return none, Permanent(StageParse, "", err) // another attempt would read the same body
	}
	return e, nil
}

// logResult logs the result of an event at debug level.
func logResult(ctx context.Context, log *slog.Logger, message string, r store.Result, id, plate string) {
	if !log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{slog.String("result", string(r)), slog.String("id", id), slog.String("plate", plate)}
	switch r {
	case store.ResultUnmatchedExpected:
		attrs = append(attrs, slog.Bool("expected", true))
	case store.ResultUnmatchedUnexpected, store.ResultEntryNotFound:
		attrs = append(attrs, slog.Bool("expected", false))
	}
	log.LogAttrs(ctx, slog.LevelDebug, message, attrs...)
}
