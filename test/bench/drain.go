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

// drainEach is the number of entries that are in the queues before the processor starts. There are as many exits, one
// for each entry. The original system was measured with the same numbers.
const drainEach = 20_000

// drainResult is the result of measureDrain.
type drainResult struct {
	EventsPerSecond       float64            `json:"eventsPerSecond"`
	Outcomes              map[string]int64   `json:"outcomes"`
	SummariesStored       int64              `json:"summariesStored"`
	ProcessorMicros       float64            `json:"processorCPUMicrosPerEvent"`
	ProcessorMicrosByType map[string]float64 `json:"processMessageMeanMicros"`
}

// measureDrain measures how fast a processor empties queues that were filled before it started. For each entry in the
// queues there is a matching exit. The events have the JSON format of the original system and no headers. Each summary
// is stored durably.
func measureDrain(ctx context.Context, env environment) (drainResult, error) {
	p, err := startPipeline(ctx, env, "drain", 0)
	if err != nil {
		return drainResult{}, err
	}
	r, err := p.drain(ctx)
	return r, errors.Join(err, p.stop(ctx))
}

func (p *pipeline) drain(ctx context.Context) (drainResult, error) {
	// Stop the processor, which was started only to declare the queues. It must not run while the queues are being
	// filled. Stop the generators too, because they are not needed.
	for _, process := range append(p.stack.Generators(), p.stack.Processors...) {
		if _, err := process.Terminate(ctx); err != nil {
			return drainResult{}, err
		}
	}
	if err := p.publishOriginals(ctx); err != nil {
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
	metrics, err := waitProcessed(ctx, processor, 2*drainEach)
	if err != nil {
		return drainResult{}, err
	}
	elapsed := time.Since(start)
	cpu, err := cpuOf(processor.Pid())
	if err != nil {
		return drainResult{}, err
	}
	summaries, err := scrape(ctx, p.stack.Summaries.URL("/metrics"))
	if err != nil {
		return drainResult{}, err
	}
	r := drainResult{
		EventsPerSecond: 2 * drainEach / elapsed.Seconds(),
		ProcessorMicros: float64(cpu.Microseconds()) / (2 * drainEach),
		Outcomes:        map[string]int64{},
		SummariesStored: int64(summaries["parking_summaries_stored_total"].GetMetric()[0].GetCounter().GetValue()),
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

// waitProcessed polls the metrics of the processor until it has processed the given number of events. It returns the
// last metrics.
func waitProcessed(ctx context.Context, processor *stack.Process, events int64) (families, error) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		metrics, err := scrape(ctx, processor.URL("/metrics"))
		if err != nil {
			return nil, err
		}
		if metrics.sum("parking_events_processed_total", "outcome", finalOutcomes...) >= events {
			return metrics, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait until the queues are drained: %w; the output of the processor is in %s", ctx.Err(), processor.Log())
		case <-ticker.C:
		}
	}
}

// publishOriginals publishes all entries, then all exits, and waits until the broker has confirmed them.
func (p *pipeline) publishOriginals(ctx context.Context) error {
	conn, channel, err := openChannel(p.env.amqpURI)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := channel.Confirm(false); err != nil {
		return fmt.Errorf("enable confirms: %w", err)
	}
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, 2*drainEach))
	entered := time.Now().Add(-time.Minute)
	for i := range 2 * drainEach {
		key, body := originalEvent(i, entered)
		msg := amqp.Publishing{ContentType: event.ContentType, DeliveryMode: amqp.Persistent, Body: body}
		if err := channel.PublishWithContext(ctx, p.plan.Exchange(), key, true, false, msg); err != nil {
			return fmt.Errorf("publish to %s: %w", key, err)
		}
	}
	for range 2 * drainEach {
		select {
		case c := <-confirms:
			if !c.Ack {
				return errors.New("the broker rejected an event")
			}
		case <-ctx.Done():
			return fmt.Errorf("wait for confirms: %w", ctx.Err())
		}
	}
	return nil
}

// originalEvent returns the event with index i. The entries come first, then the exits with the same plates.
func originalEvent(i int, entered time.Time) (routingKey string, body []byte) {
	plate := fmt.Sprintf("DRN-%05d", i%drainEach)
	if i < drainEach {
		e := event.Entry{ID: fmt.Sprintf("%d-entry-%d", os.Getpid(), i), Plate: plate, At: entered}
		return "entry.0", event.AppendEntry(nil, e)
	}
	x := event.Exit{ID: fmt.Sprintf("%d-exit-%d", os.Getpid(), i), Plate: plate, At: entered.Add(time.Duration(i) * time.Millisecond)}
	return "exit.0", event.AppendExit(nil, x)
}
