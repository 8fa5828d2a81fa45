package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/store"
)

// scenario is the randomly drawn input of one run of the exactly-once test.
type scenario struct {
	seed        uint64
	partitions  int
	concurrency int
	// plates is the number of vehicles that enter. As many other vehicles only exit.
	plates int
	// chance is the probability, in percent, with which the fake broker, store and summary API inject faults.
	chance   int
	restarts int // the number of restarts of the processor: kills and graceful stops alternate
	crashes  int // the number of crashes of the store
}

func TestProcessorRun_RandomFailures_EveryEventTakesEffectOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		sc := scenario{
			seed:        rapid.Uint64().Draw(rt, "seed"),
			partitions:  rapid.IntRange(1, 3).Draw(rt, "partitions"),
			concurrency: rapid.IntRange(1, 8).Draw(rt, "concurrency"),
			plates:      rapid.IntRange(1, 40).Draw(rt, "plates"),
			chance:      rapid.IntRange(0, 25).Draw(rt, "chance"),
			restarts:    rapid.IntRange(0, 3).Draw(rt, "restarts"),
			crashes:     rapid.IntRange(0, 8).Draw(rt, "crashes"),
		}
		var problems []string
		synctest.Test(t, func(t *testing.T) { problems = sc.run(t.Context()) })
		if len(problems) > 0 {
			rt.Fatalf("%+v:\n%s", sc, strings.Join(problems, "\n"))
		}
	})
}

// published contains the events of a scenario and the results that the test expects.
type published struct {
	messages []delivered
	entries  [][]store.Published // the entries from generators, by partition
	exits    [][]store.Published
	// matched is the number of generated exits that have an entry.
	matched int64
	// summaries contains the summaries that the API must have at the end, by event ID.
	summaries map[string]event.Summary
	// maybe contains the summaries of external exits with an entry, by event ID. The API may lack a summary, because
	// the exit may use up its attempts before its entry is processed.
	maybe         map[string]event.Summary
	externalExits int
	deadLetters   int
}

type delivered struct {
	queue broker.Queue
	msg   broker.Message
}

const (
	entryRun = "enter00000000"
	exitRun  = "leave00000000"
	// The summary API permanently rejects the summary of rejectedPlate.
	rejectedPlate = "REJECTED"
)

func newPublished(partitions int) *published {
	return &published{
		entries:   make([][]store.Published, partitions),
		exits:     make([][]store.Published, partitions),
		summaries: make(map[string]event.Summary),
		maybe:     make(map[string]event.Summary),
	}
}

func (sc scenario) publications() *published {
	p := newPublished(sc.partitions)
	for i := range sc.plates {
		plate := fmt.Sprintf("IN-%d", i)
		p.entry(plate)
		if i%2 == 0 {
			p.exit(plate, event.IntentMatched)
		}
		p.exit(fmt.Sprintf("OUT-%d", i), event.IntentUnmatched)
	}
	p.external(sc.plates/4 + 1)
	p.poison()
	p.entry(rejectedPlate)
	p.exit(rejectedPlate, event.IntentMatched)
	p.deadLetters++
	p.exitBeforeEntry("HASTY")
	return p
}

func (p *published) entry(plate string) {
	partition := event.PartitionOf(plate, len(p.entries))
	id := event.ID{Run: entryRun, Partition: partition, Seq: int64(len(p.entries[partition]))}
	p.entries[partition] = append(p.entries[partition], store.Published{Plate: plate, At: entryAt})
	p.messages = append(p.messages, delivered{broker.Queue{Type: event.TypeEntry, Partition: partition}, broker.Message{
		ID: id.String(), AppID: event.AppID, Body: event.AppendEntry(nil, event.Entry{ID: id.String(), Plate: plate, At: entryAt}),
	}})
}

func (p *published) exit(plate string, intent event.Intent) {
	partition := event.PartitionOf(plate, len(p.exits))
	id := event.ID{Run: exitRun, Partition: partition, Seq: int64(len(p.exits[partition]))}
	p.exits[partition] = append(p.exits[partition], store.Published{Plate: plate, At: exitAt, Intent: intent})
	p.messages = append(p.messages, delivered{broker.Queue{Type: event.TypeExit, Partition: partition}, broker.Message{
		ID: id.String(), AppID: event.AppID, Intent: intent, Body: event.AppendExit(nil, event.Exit{ID: id.String(), Plate: plate, At: exitAt}),
	}})
	if intent == event.IntentMatched {
		p.matched++
	}
	if intent == event.IntentMatched && plate != rejectedPlate {
		p.summaries[id.String()] = event.Summary{ID: id.String(), Plate: plate, EntryAt: entryAt, ExitAt: exitAt}
	}
}

// exitBeforeEntry publishes an entry, and an exit that is dated before the entry. The processor must dead-letter the
// exit.
func (p *published) exitBeforeEntry(plate string) {
	p.entry(plate)
	partition := event.PartitionOf(plate, len(p.exits))
	id := event.ID{Run: exitRun, Partition: partition, Seq: int64(len(p.exits[partition]))}
	p.messages = append(p.messages, delivered{broker.Queue{Type: event.TypeExit, Partition: partition}, broker.Message{
		ID: id.String(), AppID: event.AppID, Intent: event.IntentMatched,
		Body: event.AppendExit(nil, event.Exit{ID: id.String(), Plate: plate, At: entryAt.Add(-time.Hour)}),
	}})
	p.deadLetters++
}

// external publishes external events to partition 0: n entries with exits, and n exits without entries.
func (p *published) external(n int) {
	for i := range n {
		plate, in, out := fmt.Sprintf("EXTERNAL-%d", i), fmt.Sprintf("in-%d", i), fmt.Sprintf("out-%d", i)
		p.messages = append(p.messages,
			delivered{entryQueue, broker.Message{Body: event.AppendEntry(nil, event.Entry{ID: in, Plate: plate, At: entryAt})}},
			delivered{exitQueue, broker.Message{Body: event.AppendExit(nil, event.Exit{ID: out, Plate: plate, At: exitAt})}},
			delivered{exitQueue, broker.Message{Body: event.AppendExit(nil, event.Exit{ID: "no-" + out, Plate: "NO-" + plate, At: exitAt})}},
		)
		p.maybe[out] = event.Summary{ID: out, Plate: plate, EntryAt: entryAt, ExitAt: exitAt}
		p.externalExits += 2
	}
}

// poison publishes one message of each kind that the processor can never process, such as invalid JSON.
func (p *published) poison() {
	for i, poison := range poisons() {
		queue := entryQueue
		if i%2 == 0 {
			queue = exitQueue
		}
		// Each body must be unique, because dead letters are counted by body.
		poison.msg.Body = append(slices.Clone(poison.msg.Body), fmt.Sprintf(" poison %d", i)...)
		p.messages = append(p.messages, delivered{queue, poison.msg})
		p.deadLetters++
	}
}

// run publishes all events in random order, some twice, and injects faults during processing. The result lists the
// inconsistencies at the end.
func (sc scenario) run(ctx context.Context) (problems []string) {
	c := newChaos(sc.seed, sc.chance)
	queues := newChaoticBroker(c, sc.partitions)
	state := newChaoticStore(c, sc.partitions)
	api := &chaoticAPI{chaos: c, summaries: make(map[string]event.Summary), rejects: func(plate string) bool { return plate == rejectedPlate }}

	p := sc.publications()
	messages := slices.Clone(p.messages)
	for _, m := range p.messages {
		if c.below(4) == 0 {
			messages = append(messages, m)
		}
	}
	c.rng.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
	for _, m := range messages {
		queues.publish(m.queue, m.msg)
	}

	faults, calm := context.WithCancel(ctx)
	go func() {
		for range sc.crashes {
			if wait(faults, time.Duration(c.below(1000))*time.Millisecond); faults.Err() != nil {
				return
			}
			state.crash()
			queues.loseSomeSession()
		}
	}()
	for i := range sc.restarts {
		if err := sc.process(ctx, queues, state, api, i%2 == 0, time.Duration(c.below(2000))*time.Millisecond); err != nil {
			problems = append(problems, fmt.Sprintf("processor %d: %v", i, err))
		}
	}
	go func() {
		wait(faults, 10*time.Second)
		c.calm()
	}()
	err := sc.process(ctx, queues, state, api, false, time.Hour)
	calm()
	if err != nil {
		problems = append(problems, fmt.Sprintf("the last processor: %v", err))
	}
	return append(problems, p.audit(ctx, queues, state, api)...)
}

// process runs a processor until the queues are empty, or for at most the duration d. If kill is true, the processor
// ends without settling its deliveries.
func (sc scenario) process(ctx context.Context, queues *chaoticBroker, state *chaoticStore, api *chaoticAPI, kill bool, d time.Duration) error {
	config := Config{Partitions: sc.partitions, Concurrency: sc.concurrency, DrainTimeout: time.Hour}
	if kill {
		config.DrainTimeout = time.Nanosecond
	}
	calls := new(callCounter)
	p, err := New(config, Dependencies{
		Consumer:    queues,
		Entries:     calls.of(NewEntryEventProcessor(state, sc.partitions, maxStay, discard())),
		Exits:       calls.of(NewExitEventProcessor(state, api, sc.partitions, discard())),
		DeadLetters: state, Durability: state,
		Registerer: prometheus.NewRegistry(), Logger: discard(),
	})
	if err != nil {
		return err
	}
	running, stop := context.WithTimeout(ctx, d)
	defer stop()
	go func() {
		for running.Err() == nil && queues.left() > 0 {
			wait(running, 100*time.Millisecond)
		}
		stop()
	}()
	err = p.Run(running)
	if kill {
		queues.loseEverySession()
	}
	switch {
	case err != nil && !(kill && errors.Is(err, ErrUnfinished)):
		return err
	case p.InFlight() != 0:
		return fmt.Errorf("%d deliveries are still in flight", p.InFlight())
	case p.Stats().Processed() != calls.count.Load():
		return fmt.Errorf("the processor counted %d of %d calls", p.Stats().Processed(), calls.count.Load())
	}
	return nil
}

type callCounter struct{ count atomic.Uint64 }

func (c *callCounter) of(h Handler) Handler {
	return handlerFunc(func(ctx context.Context, msg broker.Message) (Completion, error) {
		c.count.Add(1)
		return h.ProcessMessage(ctx, msg)
	})
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// audit checks the ledger, the summaries and the dead letters. It returns the inconsistencies that it finds.
func (p *published) audit(ctx context.Context, queues *chaoticBroker, state *chaoticStore, api *chaoticAPI) (problems []string) {
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if n := queues.left(); n != 0 {
		complain("%d messages are left in the queues", n)
	}
	var want ledger.Report
	for partition := range p.entries {
		p.confirm(ctx, state, event.TypeEntry, entryRun, partition, p.entries[partition])
		p.confirm(ctx, state, event.TypeExit, exitRun, partition, p.exits[partition])
		want.EntriesConfirmed += int64(len(p.entries[partition]))
		want.ExitsUnmatchedConfirmed += int64(len(p.exits[partition]))
	}
	want.ExitsMatchedConfirmed = p.matched
	want.ExitsUnmatchedConfirmed -= want.ExitsMatchedConfirmed
	want.EntriesRecorded, want.Matched, want.UnmatchedExpected = want.EntriesConfirmed, want.ExitsMatchedConfirmed, want.ExitsUnmatchedConfirmed
	want.DeadLettered = int64(p.deadLetters)
	want.ExternalEntries = int64(len(p.maybe))
	want.AtRest = true

	got, err := ledger.Audit(ctx, state.state, ledger.Options{AtRest: true})
	if err != nil {
		complain("audit: %v", err)
	}
	if sum := got.ExternalMatched + got.EntryNotFound; sum != int64(p.externalExits) {
		complain("%d of %d external exits took effect", sum, p.externalExits)
	}
	// These counts depend on the order in which events are processed, so the test cannot predict them.
	want.Runs, want.Partitions, want.DuplicatesSuppressed = got.Runs, got.Partitions, got.DuplicatesSuppressed
	want.ExternalMatched, want.EntryNotFound = got.ExternalMatched, got.EntryNotFound
	want.SummariesStored = int64(len(p.summaries)) + got.ExternalMatched
	want.Outbox = 1 // the summary that the API rejected
	if diff := cmp.Diff(want, got); diff != "" {
		complain("the ledger (-want +got):\n%s", diff)
	}

	var held int64
	for id, s := range api.summaries {
		expected, generated := p.summaries[id]
		if !generated {
			expected = p.maybe[id]
			held++
		}
		if s != expected {
			complain("summary %s is %+v, want %+v", id, s, expected)
		}
	}
	// A crash of the store can undo the effects of an entry and its exit after the summary was posted. The ledger lacks
	// the exit if its attempts run out before the entry is processed again.
	if held < got.ExternalMatched {
		complain("the API holds %d summaries of external events, want %d", held, got.ExternalMatched)
	}
	for id := range p.summaries {
		if _, stored := api.summaries[id]; !stored {
			complain("the summary of %s is not stored", id)
		}
	}
	if len(api.conflicts) > 0 {
		complain("the summaries of %q were posted with different contents", api.conflicts)
	}
	if got := len(queues.reason); got != p.deadLetters {
		complain("%d different messages are dead-lettered, want %d", got, p.deadLetters)
	}
	for body, reason := range queues.reason {
		if reason.Stage == "" || reason.Detail == "" {
			complain("%.40q is dead-lettered without a reason: %+v", body, reason)
		}
	}
	return problems
}

func (p *published) confirm(ctx context.Context, state *chaoticStore, t event.Type, run string, partition int, events []store.Published) {
	_, _ = state.state.Confirm(ctx, store.Confirmation{ // ignore the error: the audit detects missing confirmations
		Run: run, Type: t, Partition: partition, Events: events, MaxStay: maxStay,
	})
}
