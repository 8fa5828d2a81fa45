package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/test/stack"
)

type drainResult struct {
	EventsPerSecond float64          `json:"eventsPerSecond"`
	Outcomes        map[string]int64 `json:"outcomes"`
	SummariesStored int64            `json:"summariesStored"`
	// PerEvent contains, per event, the CPU time, context switches and system calls of the processor, and the number of
	// commands that Redis executes.
	PerEvent              effort             `json:"processorPerEvent"`
	ProcessorMicrosByType map[string]float64 `json:"processMessageMeanMicros"`
}

// measureDrain measures how fast the processor empties queues with the given number of entries and matching exits. The
// events have the JSON format of the system that this project replaces.
func measureDrain(ctx context.Context, env environment, entries int) (drainResult, error) {
	p, err := startPipeline(ctx, env, "drain", 0)
	if err != nil {
		return drainResult{}, err
	}
	r, err := p.drain(ctx, entries)
	return r, errors.Join(err, p.stop(ctx))
}

func (p *pipeline) drain(ctx context.Context, entries int) (_ drainResult, err error) {
	if err := p.terminateClients(ctx); err != nil {
		return drainResult{}, err
	}
	if err := p.publishOriginals(ctx, event.TypeEntry, 0, entries); err != nil {
		return drainResult{}, err
	}
	if err := p.publishOriginals(ctx, event.TypeExit, 0, entries); err != nil {
		return drainResult{}, err
	}
	before := effort{} // the processor has not started yet
	if before[commands], err = redisCommands(ctx, p.env); err != nil {
		return drainResult{}, err
	}
	processor := p.stack.Processors[0]
	start := time.Now()
	if err := processor.Start(); err != nil {
		return drainResult{}, err
	}
	if err := processor.WaitReady(ctx); err != nil {
		return drainResult{}, err
	}
	metrics, err := waitProcessed(ctx, processor, int64(2*entries))
	if err != nil {
		return drainResult{}, err
	}
	elapsed := time.Since(start)
	used, err := p.processorEffort(ctx)
	if err != nil {
		return drainResult{}, err
	}
	summaries, err := scrape(ctx, p.stack.Summaries.URL("/metrics"))
	if err != nil {
		return drainResult{}, err
	}
	r := drainResult{
		EventsPerSecond: float64(2*entries) / elapsed.Seconds(),
		PerEvent:        used.perEvent(before, float64(2*entries)),
		Outcomes:        map[string]int64{},
		SummariesStored: summaries.total("parking_summaries_stored_total"),
		ProcessorMicrosByType: map[string]float64{
			"entry": metrics.meanMicros("parking_event_processing_seconds", "event_type", "entry"),
			"exit":  metrics.meanMicros("parking_event_processing_seconds", "event_type", "exit"),
		},
	}
	for _, outcome := range append(finalOutcomes, "duplicate", "early", "failed") {
		if n := metrics.sum("parking_events_processed_total", "outcome", outcome); n > 0 {
			r.Outcomes[outcome] = n
		}
	}
	return r, nil
}

// processorEffort returns the CPU time, context switches and system calls of the processor so far, and the number of
// commands that Redis has executed so far.
func (p *pipeline) processorEffort(ctx context.Context) (effort, error) {
	used, err := effortOf(p.stack.Processors[0].Pid())
	if err != nil {
		return nil, err
	}
	used[commands], err = redisCommands(ctx, p.env)
	return used, err
}

// waitProcessed polls the metrics of the processor until it has processed the given number of events. It returns the
// last metrics.
func waitProcessed(ctx context.Context, processor *stack.Process, events int64) (metrics families, err error) {
	processed := func(ctx context.Context) (n int64, err error) {
		metrics, err = scrape(ctx, processor.URL("/metrics"))
		return metrics.sum("parking_events_processed_total", "outcome", finalOutcomes...), err
	}
	if err := await(ctx, processed, events); err != nil {
		return nil, fmt.Errorf("wait until the events are processed: %w; the output of the processor is in %s", err, processor.Log())
	}
	return metrics, nil
}

// terminateClients waits until the processor consumes the queues, and then terminates the generators and the processor.
// The queues must exist afterwards, but a ready processor may not have declared them yet.
func (p *pipeline) terminateClients(ctx context.Context) error {
	for _, t := range event.Types() {
		consumers := func(context.Context) (int64, error) {
			queue, err := p.inspect(t)
			return int64(queue.Consumers), err
		}
		if err := await(ctx, consumers, 1); err != nil {
			return fmt.Errorf("wait until the processor consumes %s: %w", queueName(&p.plan, t), err)
		}
	}
	for _, process := range append(p.stack.Generators(), p.stack.Processors...) {
		if _, err := process.Terminate(ctx); err != nil {
			return err
		}
	}
	return nil
}

// inspect counts the messages and the consumers of a queue. Both numbers are 0 if the queue does not exist.
func (p *pipeline) inspect(t event.Type) (amqp.Queue, error) {
	// Use a separate channel, because the broker closes the channel if the queue does not exist.
	conn, channel, err := openChannel(p.env.amqpURI)
	if err != nil {
		return amqp.Queue{}, err
	}
	defer func() { _ = conn.Close() }()
	queue, err := channel.QueueDeclarePassive(queueName(&p.plan, t), true, false, false, false, nil)
	if failure, ok := errors.AsType[*amqp.Error](err); ok && failure.Code == amqp.NotFound {
		return amqp.Queue{}, nil
	}
	if err != nil {
		return amqp.Queue{}, fmt.Errorf("inspect %s: %w", queueName(&p.plan, t), err)
	}
	return queue, nil
}

// publishOriginals publishes the events of one type with the indexes from begin to end-1, and waits for confirms.
func (p *pipeline) publishOriginals(ctx context.Context, t event.Type, begin, end int) error {
	conn, channel, err := openChannel(p.env.amqpURI)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := channel.Confirm(false); err != nil {
		return fmt.Errorf("enable confirms: %w", err)
	}
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, end-begin))
	returns := channel.NotifyReturn(make(chan amqp.Return, end-begin))
	key := string(t) + ".0"
	for i := begin; i < end; i++ {
		msg := amqp.Publishing{ContentType: event.ContentType, DeliveryMode: amqp.Persistent, Body: originalEvent(t, i)}
		if err := channel.PublishWithContext(ctx, p.plan.Exchange(), key, true, false, msg); err != nil {
			return fmt.Errorf("publish to %s: %w", key, err)
		}
	}
	for range end - begin {
		select {
		case c := <-confirms:
			if !c.Ack {
				return errors.New("the broker rejected an event")
			}
		case <-ctx.Done():
			return fmt.Errorf("wait for confirms: %w", ctx.Err())
		}
	}
	if n := len(returns); n > 0 {
		return fmt.Errorf("publish to %s: the broker returned %d messages, because there is no queue for them", key, n)
	}
	return nil
}

// originalPlate returns the plate that the entry and the exit with the index i have in common.
func originalPlate(i int) string { return fmt.Sprintf("DRN-%05d", i) }

// originalEvent returns the entry or the exit with the index i, in the format of the system that this project replaces.
func originalEvent(t event.Type, i int) (body []byte) {
	id, plate := fmt.Sprintf("%d-%s-%d", os.Getpid(), t, i), originalPlate(i)
	if t == event.TypeEntry {
		return event.AppendEntry(nil, event.Entry{ID: id, Plate: plate, At: time.Now().Add(-time.Minute)})
	}
	return event.AppendExit(nil, event.Exit{ID: id, Plate: plate, At: time.Now()})
}
