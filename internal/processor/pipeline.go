package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// pipeline processes the deliveries of one event type, of all partitions, and settles them.
type pipeline struct {
	eventType   event.Type
	handler     Handler
	concurrency int
	deadLetters DeadLetters
	durability  Durability

	settlers    []*settler // by partition of the store
	flight      *flight
	instruments *instruments
	reporter    *reporter
	log         *slog.Logger
}

// flight counts the deliveries that have been taken and not settled.
type flight struct {
	count atomic.Int64
	empty sync.WaitGroup
	// returned counts the deliveries that were given back to their queues unprocessed.
	returned atomic.Int64
}

func (f *flight) take() {
	f.empty.Add(1)
	f.count.Add(1)
}

func (f *flight) land(n int) {
	f.count.Add(int64(-n))
	f.empty.Add(-n)
}

// consume processes deliveries with as many workers as messages may be processed at a time, and returns
// when the channel is closed and empty.
func (p *pipeline) consume(ctx context.Context, deliveries <-chan broker.Delivery) {
	var workers sync.WaitGroup
	for range p.concurrency {
		workers.Go(func() {
			for d := range deliveries {
				p.flight.take()
				p.process(ctx, &d)
			}
		})
	}
	workers.Wait()
}

// processAll processes deliveries that are in flight already, beside the workers. It does not wait.
func (p *pipeline) processAll(ctx context.Context, deliveries []broker.Delivery) {
	var next atomic.Int64
	for range min(p.concurrency, len(deliveries)) {
		go func() {
			for i := next.Add(1) - 1; i < int64(len(deliveries)); i = next.Add(1) - 1 {
				p.process(ctx, &deliveries[i])
			}
		}()
	}
}

// process processes the message of a delivery until that succeeds or can never succeed, and then does
// with the delivery what the settle policy says. When ctx ends before, it gives the delivery back.
func (p *pipeline) process(ctx context.Context, d *broker.Delivery) {
	pause := newBackoff()
	for ctx.Err() == nil {
		done, failure := p.call(ctx, &d.Message)
		switch decide(done.Outcome, failure) {
		case acknowledge:
			p.settlers[done.Partition].push(finished{delivery: *d, mark: done.Mark})
			return
		case retryLater:
			p.transfer(ctx, d, d.Settler.Retry)
			return
		case deadLetter:
			if p.bury(ctx, d, done, failure) {
				return
			}
		case processAgain:
			_ = pause.Wait(ctx, retryAfter(failure)) // the loop sees for itself whether ctx has ended
		}
	}
	p.giveBack(ctx, d)
}

// call calls the handler once and counts what came of it.
func (p *pipeline) call(ctx context.Context, msg *broker.Message) (Completion, *Failure) {
	start := time.Now()
	done, err := p.invoke(ctx, msg)
	end := time.Now()

	failure := asFailure(err)
	if failure == nil {
		failure = p.check(&done)
	}
	if failure != nil {
		done.Outcome = OutcomeFailed
		p.fail(ctx, failure)
	}
	p.instruments.processed(done.Outcome, start, end, msg.Scheduled)
	p.reportOutcome(done.Outcome)
	return done, failure
}

// invoke calls the handler and turns a panic into a failure of this one message.
func (p *pipeline) invoke(ctx context.Context, msg *broker.Message) (done Completion, err error) {
	defer func() {
		if value := recover(); value != nil {
			p.reporter.reportPanic(p.eventType, value)
			err = Permanent(StagePanic, "", fmt.Errorf("the handler panicked: %v", value))
		}
	}()
	return p.handler.ProcessMessage(ctx, *msg)
}

// check refuses a completion that makes no sense for the event type.
func (p *pipeline) check(done *Completion) *Failure {
	if !p.instruments.has(done.Outcome) || done.Outcome == OutcomeFailed {
		return Transient(StageStore, "", fmt.Errorf("an %s event cannot come to %v", p.eventType, done.Outcome))
	}
	if done.Partition < 0 || done.Partition >= len(p.settlers) {
		return Transient(StageStore, "", fmt.Errorf("there is no partition %d", done.Partition))
	}
	return nil
}

// bury counts a dead letter and, when the count is durable, moves the message to the dead-letter queue. It
// reports false when the message is to be processed again, unless ctx has ended.
func (p *pipeline) bury(ctx context.Context, d *broker.Delivery, done Completion, f *Failure) bool {
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

// countDeadLetter counts a dead letter and waits until that is durable, together with an effect that the
// message had before it failed. It returns store.ErrRolledBack when either may be lost, and another error
// only when ctx ended.
func (p *pipeline) countDeadLetter(ctx context.Context, d *broker.Delivery, done Completion, f *Failure) error {
	key := deadLetterKey(f, d.Message.Body)
	return p.untilAnswered(ctx, func() (err error) {
		if done.Mark == (store.Mark{}) { // the store has not been asked, so any partition will do
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

// untilAnswered asks the store again and again until it answers, which store.ErrRolledBack is as well.
// It returns another error only when ctx ended.
func (p *pipeline) untilAnswered(ctx context.Context, ask func() error) error {
	pause := newBackoff()
	for {
		err := ask()
		if err == nil || errors.Is(err, store.ErrRolledBack) {
			return err
		}
		p.fail(ctx, Transient(StageStore, "", err))
		if err := pause.Wait(ctx, retryAfter(err)); err != nil {
			return err
		}
	}
}

// transfer settles a delivery by moving its message to another queue, and tries until that succeeds.
func (p *pipeline) transfer(ctx context.Context, d *broker.Delivery, move func(context.Context) error) {
	pause := newBackoff()
	for {
		err := move(ctx)
		p.settled(ctx, d, err)
		if err == nil || isOver(err) {
			p.flight.land(1)
			return
		}
		if pause.Wait(ctx, retryAfter(err)) != nil {
			p.giveBack(ctx, d)
			return
		}
	}
}

// giveBack returns a delivery to its queue when there is no time left to process it.
func (p *pipeline) giveBack(ctx context.Context, d *broker.Delivery) {
	p.settled(ctx, d, d.Settler.Requeue())
	p.flight.returned.Add(1)
	p.flight.land(1)
}

// settled takes note of how settling a delivery went. A lost session is in the nature of brokers, the
// message comes again: it is counted, and worth a line for debugging only.
func (p *pipeline) settled(ctx context.Context, d *broker.Delivery, err error) {
	switch {
	case err == nil:
	case isOver(err):
		p.instruments.failed(StageSettle)
		p.log.LogAttrs(ctx, slog.LevelDebug, "delivery could not be settled; the broker delivers the message again unless it is settled",
			slog.String("id", d.Message.ID), slog.Any("error", err))
	default:
		p.fail(ctx, Transient(StageSettle, d.Message.ID, err))
	}
}

// fail counts a failure and reports it, but for outages of the store, which logs them itself. What others say
// of a message may quote it, and so is for the header of the dead letter and the debug log alone.
func (p *pipeline) fail(ctx context.Context, f *Failure) {
	p.instruments.failed(f.Stage)
	if ctx.Err() != nil && errors.Is(f.Err, ctx.Err()) {
		return // not a fault: the time to drain is over
	}
	about := problem{level: slog.LevelWarn, message: "processing failed and is tried again", eventType: p.eventType, stage: f.Stage}
	detail := broker.Reason{Detail: f.Err.Error()}.Bounded().Detail
	if f.permanent {
		about.message = "message dead-lettered; its header " + event.HeaderReason + " says why"
		if !f.Stage.speaksForItself() {
			detail = ""
		}
		p.log.LogAttrs(ctx, slog.LevelDebug, "message refused", slog.String("stage", string(f.Stage)),
			slog.String("id", f.EventID), slog.Any("error", f.Err))
	}
	switch {
	case f.Stage == StagePanic:
		about.level = slog.LevelError
	case errors.Is(f.Err, store.ErrUnavailable):
		about.level = slog.LevelDebug
	}
	p.reporter.report(about, detail)
}

// reportOutcome reports those outcomes that nobody intended.
func (p *pipeline) reportOutcome(o Outcome) {
	switch o {
	case OutcomeUnmatchedUnexpected:
		p.reporter.report(problem{level: slog.LevelWarn, message: "exit found no visit although its plate had been claimed", eventType: p.eventType}, "")
	case OutcomeEntryNotFound:
		p.reporter.report(problem{level: slog.LevelWarn, message: "exit of another program found no visit", eventType: p.eventType}, "")
	}
}

// reportRollback reports that effects may be lost and are taken again.
func (p *pipeline) reportRollback() {
	p.reporter.report(problem{level: slog.LevelInfo, message: "the store restarted; events that it may have lost are processed again", eventType: p.eventType}, "")
}
