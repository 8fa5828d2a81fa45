package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parking-operator/parking-operator/internal/backoff"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

const (
	// firstBackoff and maxBackoff are the minimum and the maximum backoff between attempts. The first retries are fast
	// because most failures occur while a connection is being replaced.
	firstBackoff = 5 * time.Millisecond
	maxBackoff   = 2 * time.Second
	// maxRetryAfter limits the retry delay that the summary API may request, because a worker processes no other
	// message during the delay.
	maxRetryAfter = 30 * time.Second
)

func newBackoff() backoff.Backoff { return backoff.Backoff{First: firstBackoff, Last: maxBackoff} }

// pipeline processes and settles the deliveries of one event type, for all partitions.
type pipeline struct {
	eventType   event.Type
	handler     Handler
	concurrency int
	deadLetters DeadLetters
	durability  Durability

	settlers []*settler // one for each partition of the store
	flight   *flight
	metrics  *metrics
	reporter *reporter
	log      *slog.Logger
}

// flight counts the deliveries that workers have received and not yet settled.
type flight struct {
	count atomic.Int64
	empty sync.WaitGroup
	// requeued is the number of deliveries that were requeued instead of being processed.
	requeued atomic.Int64
}

func (f *flight) begin() {
	f.empty.Add(1)
	f.count.Add(1)
}

func (f *flight) end(n int) {
	f.count.Add(int64(-n))
	f.empty.Add(-n)
}

// consume processes the deliveries of a channel with the configured concurrency. It returns when the channel is closed
// and empty.
func (p *pipeline) consume(ctx context.Context, deliveries <-chan broker.Delivery) {
	var workers sync.WaitGroup
	for range p.concurrency {
		workers.Go(func() {
			for d := range deliveries {
				p.flight.begin()
				p.process(ctx, &work{delivery: d})
			}
		})
	}
	workers.Wait()
}

// processAll processes deliveries again, because the store may have lost their effects. It does not wait for the end of
// the processing.
func (p *pipeline) processAll(ctx context.Context, all []work) {
	var next atomic.Int64
	for range min(p.concurrency, len(all)) {
		go func() {
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				p.process(ctx, &all[i])
			}
		}()
	}
}

// process retries until the message is processed or fails permanently, and then settles the delivery. If ctx ends
// first, process requeues the delivery.
func (p *pipeline) process(ctx context.Context, w *work) {
	d := &w.delivery
	if d.Redelivered {
		p.metrics.redeliveries.Add(1)
	}
	if acknowledgeEarly {
		_ = d.Settler.Ack() // if Ack fails, the broker delivers the message again
	}
	retry := newBackoff()
	for ctx.Err() == nil {
		done, failure := p.call(ctx, &d.Message)
		if done.Outcome.isEffect() {
			w.effectAt = time.Now()
		}
		switch decide(done.Outcome, failure) {
		case acknowledge:
			w.mark = done.Mark
			p.settlers[done.Partition].push(*w)
			return
		case retryLater:
			p.transfer(ctx, d, d.Settler.Retry)
			return
		case deadLetter:
			if p.deadLetter(ctx, d, done, failure) {
				return
			}
		case processAgain:
			_ = retry.Wait(ctx, retryAfter(failure)) // Wait fails only if ctx has ended, which also ends the loop
		}
	}
	p.requeue(ctx, d)
}

// call calls the handler once and records the result in the metrics.
func (p *pipeline) call(ctx context.Context, msg *broker.Message) (Completion, *Failure) {
	start := time.Now()
	done, err := p.invoke(ctx, msg)
	took := time.Since(start)

	failure := asFailure(err)
	if failure == nil {
		failure = p.check(&done)
	}
	if failure != nil {
		done.Outcome = OutcomeFailed
		p.fail(ctx, failure)
	}
	p.metrics.recordCall(done.Outcome, took)
	p.reportOutcome(done.Outcome)
	return done, failure
}

// invoke calls the handler. It converts a panic of the handler into a permanent failure.
func (p *pipeline) invoke(ctx context.Context, msg *broker.Message) (done Completion, err error) {
	defer func() {
		if value := recover(); value != nil {
			p.reporter.reportPanic(p.eventType, value)
			err = Permanent(StagePanic, "", fmt.Errorf("the handler panicked: %v", value))
		}
	}()
	return p.handler.ProcessMessage(ctx, *msg)
}

// check returns a failure if the handler returned an outcome that is impossible for this event type, or a partition
// that does not exist.
func (p *pipeline) check(done *Completion) *Failure {
	if !p.metrics.isPossible(done.Outcome) || done.Outcome == OutcomeFailed {
		return Transient(StageStore, "", fmt.Errorf("invalid outcome %v of an %s event", done.Outcome, p.eventType))
	}
	if done.Partition < 0 || done.Partition >= len(p.settlers) {
		return Transient(StageStore, "", fmt.Errorf("invalid partition %d", done.Partition))
	}
	return nil
}

// deadLetter counts a message durably, then moves it to the dead-letter queue. It returns false if the message must
// be processed again, or if ctx has ended.
func (p *pipeline) deadLetter(ctx context.Context, d *broker.Delivery, done Completion, f *Failure) bool {
	switch err := p.countDeadLetter(ctx, d, done, f); {
	case errors.Is(err, store.ErrRolledBack):
		p.reportRollback()
		return false
	case err != nil:
		return false
	}
	reason := broker.Reason{Stage: string(f.Stage), Detail: f.Err.Error()}
	p.transfer(ctx, d, func(ctx context.Context) error { return d.Settler.DeadLetter(ctx, reason) })
	return true
}

// countDeadLetter counts a dead letter, and waits until the count and any earlier effect are durable. It fails
// only with store.ErrRolledBack, or if ctx has ended.
func (p *pipeline) countDeadLetter(ctx context.Context, d *broker.Delivery, done Completion, f *Failure) error {
	key := deadLetterKey(f, d.Message.Body)
	return p.untilAnswered(ctx, func() (err error) {
		if done.Mark == (store.Mark{}) { // without an effect, any partition can count the dead letter
			done.Partition = d.Queue.Partition
			if done.Mark, err = p.durability.Mark(ctx, done.Partition); err != nil {
				return err
			}
		}
		if err := p.deadLetters.RecordDeadLetter(ctx, done.Partition, key); err != nil {
			return err
		}
		return p.durability.WaitDurable(ctx, done.Partition, done.Mark)
	})
}

// untilAnswered retries a call to the store until it returns nil or store.ErrRolledBack, or until ctx ends.
func (p *pipeline) untilAnswered(ctx context.Context, call func() error) error {
	retry := newBackoff()
	for {
		err := call()
		if err == nil || errors.Is(err, store.ErrRolledBack) {
			return err
		}
		p.fail(ctx, Transient(StageStore, "", err))
		if err := retry.Wait(ctx, retryAfter(err)); err != nil {
			return err
		}
	}
}

// transfer moves a message to another queue, and retries until the delivery is settled or the session ends. If ctx
// ends first, transfer requeues the delivery.
func (p *pipeline) transfer(ctx context.Context, d *broker.Delivery, move func(context.Context) error) {
	retry := newBackoff()
	for {
		err := move(ctx)
		p.recordSettled(ctx, d, err)
		if err == nil || isOver(err) {
			p.flight.end(1)
			return
		}
		if retry.Wait(ctx, retryAfter(err)) != nil {
			p.requeue(ctx, d)
			return
		}
	}
}

// requeue returns a delivery to its queue. It is used when the drain timeout has expired.
func (p *pipeline) requeue(ctx context.Context, d *broker.Delivery) {
	p.recordSettled(ctx, d, d.Settler.Requeue())
	p.flight.requeued.Add(1)
	p.flight.end(1)
}

// recordSettled counts and logs a failure to settle a delivery. A nil error is no failure.
func (p *pipeline) recordSettled(ctx context.Context, d *broker.Delivery, err error) {
	switch {
	case err == nil:
	case isOver(err): // harmless: the delivery is settled, or the broker delivers the message again
		p.metrics.recordFailure(StageSettle)
		p.log.LogAttrs(ctx, slog.LevelDebug, "Failed to settle a delivery; if the message is still unsettled, the broker delivers it again",
			slog.String("id", d.Message.ID), slog.Any("error", err))
	default:
		p.fail(ctx, Transient(StageSettle, d.Message.ID, err))
	}
}

// fail counts and logs a failure.
func (p *pipeline) fail(ctx context.Context, f *Failure) {
	p.metrics.recordFailure(f.Stage)
	if ctx.Err() != nil && errors.Is(f.Err, ctx.Err()) {
		return // the drain timeout has canceled the processing
	}
	about := problem{level: slog.LevelWarn, message: "Processing failed, retrying", eventType: p.eventType, stage: f.Stage}
	detail := broker.Reason{Detail: f.Err.Error()}.Bounded().Detail
	if f.permanent {
		about.message = "Message dead-lettered; its header " + event.HeaderReason + " contains the reason"
		if !f.Stage.quotesNoMessage() {
			detail = "" // the detail may contain a plate, which may be logged only at debug level
		}
		p.log.LogAttrs(ctx, slog.LevelDebug, "Message rejected", slog.String("stage", string(f.Stage)),
			slog.String("id", f.EventID), slog.Any("error", f.Err))
	}
	switch {
	case f.Stage == StagePanic:
		about.level = slog.LevelError
	// Outages of the store and of the summary API have their own log lines.
	case errors.Is(f.Err, store.ErrUnavailable), f.Stage == StagePost && !f.permanent:
		about.level = slog.LevelDebug
	}
	p.reporter.report(about, detail)
}

// reportOutcome logs exits that unexpectedly found no visit.
func (p *pipeline) reportOutcome(o Outcome) {
	switch o {
	case OutcomeUnmatchedUnexpected:
		p.reporter.report(problem{level: slog.LevelWarn, message: "Generated exit found no visit, although the generator had chosen a parked vehicle", eventType: p.eventType}, "")
	case OutcomeEntryNotFound:
		p.reporter.report(problem{level: slog.LevelWarn, message: "Exit of an external publisher found no visit", eventType: p.eventType}, "")
	}
}

// reportRollback logs that the store may have lost the effects of events that it had recorded.
func (p *pipeline) reportRollback() {
	p.reporter.report(problem{level: slog.LevelInfo, message: "Store restarted and may have lost the effects of some events; processing these events again", eventType: p.eventType}, "")
}
