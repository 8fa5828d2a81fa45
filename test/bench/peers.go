package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/privateserver"
	"github.com/parking-operator/parking-operator/test/stack"
)

// These are the processors that measureCrash compares.
const (
	// ours is the processor of this project.
	ours = "this project"
	// naive acknowledges an event after its effect, but loses summaries in a crash: it deletes the visit in Redis
	// before it posts the summary.
	naive = "naive chain"
	// original behaves like the system that this project replaces: the broker considers an event acknowledged as soon
	// as the broker has sent it to the processor.
	original = "original"
)

func processors() []string { return []string{ours, naive, original} }

// peer is a running processor with which the benchmark compares the processor of this project. kind is naive or
// original.
type peer struct {
	kind  string
	plan  *plan.Plan
	redis *redis.Client
}

// runPeer runs the processor that args[0] selects, naive or original, until ctx ends. The other arguments are flags of
// the command "parking process".
func runPeer(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	path := flags.String("plan", "", "file with the plan")
	address := flags.String("http", "", "address for /readyz")
	_ = flags.Parse(args[1:]) // after an error, Parse ends the process
	simulation, err := plan.Read(*path)
	if err != nil {
		return err
	}
	client, err := privateserver.NewRedisClient(simulation.Redis.URI)
	if err != nil {
		return err
	}
	p := &peer{kind: args[0], plan: simulation, redis: client}
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range event.Types() {
		group.Go(func() error { return p.consume(ctx, t) })
	}
	server := &http.Server{Addr: *address, ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	group.Go(func() error {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve /readyz: %w", err)
		}
		return nil
	})
	return group.Wait()
}

// consume handles the events of a queue until ctx ends. It still finishes the event that it is handling when ctx ends.
func (p *peer) consume(ctx context.Context, t event.Type) error {
	conn, channel, err := openChannel(p.plan.RabbitMQ.URI)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := channel.Qos(prefetch, 0, false); err != nil {
		return fmt.Errorf("set prefetch: %w", err)
	}
	deliveries, err := channel.Consume(queueName(p.plan, t), "", p.kind == original, false, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume %s: %w", queueName(p.plan, t), err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case d, open := <-deliveries:
			if !open {
				return errors.New("the connection to the broker is closed")
			}
			if err := p.handle(context.WithoutCancel(ctx), t, d); err != nil {
				return err
			}
		}
	}
}

func (p *peer) handle(ctx context.Context, t event.Type, d amqp.Delivery) error {
	effect := p.entry
	if t == event.TypeExit {
		effect = p.exit
	}
	if err := effect(ctx, d.Body); err != nil || p.kind == original {
		return err
	}
	if err := d.Ack(false); err != nil {
		return fmt.Errorf("acknowledge an event: %w", err)
	}
	return nil
}

// queueName returns the name of the queue for an event type in a simulation with one partition.
func queueName(p *plan.Plan, t event.Type) string { return p.Exchange() + "." + string(t) + ".0" }

// visitsKey returns the key of the Redis hash in which the simpler processors (the peers) store entry times by plate.
func visitsKey(p *plan.Plan) string { return "peer:" + p.Simulation }

func (p *peer) entry(ctx context.Context, body []byte) error {
	e, err := event.ParseEntry(body)
	if err != nil {
		return err
	}
	return p.redis.HSet(ctx, visitsKey(p.plan), e.Plate, e.At.Format(time.RFC3339Nano)).Err()
}

func (p *peer) exit(ctx context.Context, body []byte) error {
	x, err := event.ParseExit(body)
	if err != nil {
		return err
	}
	var found *redis.StringCmd
	_, err = p.redis.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		found = tx.HGet(ctx, visitsKey(p.plan), x.Plate)
		if p.kind == naive {
			tx.HDel(ctx, visitsKey(p.plan), x.Plate)
		}
		return nil
	})
	if errors.Is(err, redis.Nil) {
		return nil // no vehicle with this plate is parked
	}
	if err != nil {
		return fmt.Errorf("find the visit: %w", err)
	}
	entered, err := found.Time()
	if err != nil {
		return fmt.Errorf("find the visit: %w", err)
	}
	return p.post(ctx, event.Summary{ID: x.ID, Plate: x.Plate, EntryAt: entered, ExitAt: x.At})
}

func (p *peer) post(ctx context.Context, s event.Summary) error {
	body := bytes.NewReader(event.AppendSummary(nil, s))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.plan.SummaryAPI.URL+"/v1/summaries", body)
	if err != nil {
		return fmt.Errorf("post a summary: %w", err)
	}
	request.Header.Set("Content-Type", event.ContentType)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("post a summary: %w", err)
	}
	_, _ = io.Copy(io.Discard, response.Body) // read the whole body, so that the connection can be reused
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusCreated {
		return fmt.Errorf("post a summary: status %s", response.Status)
	}
	return nil
}

type crashResult struct {
	Processor string `json:"processor"`
	// Exits is the number of exits, which is also the number of entries.
	Exits           int     `json:"exits"`
	EventsPerSecond float64 `json:"eventsPerSecond"`
	// PerEvent contains the resource usage of the processor and the number of Redis commands, both per event.
	PerEvent effort `json:"processorPerEvent"`
	// Lost is the number of exits whose summary is missing at the end.
	Lost int64 `json:"lost"`
	// PostedAgain is the number of summaries that the summary API received although it already had them.
	PostedAgain int64 `json:"postedAgain"`
}

// measureCrash publishes n entries and n exits, and kills the processor once. It measures the throughput before the
// kill, and counts the lost summaries.
func measureCrash(ctx context.Context, env environment, processor string, n int) (crashResult, error) {
	p, err := startPipeline(ctx, env, "crash", 0)
	if err != nil {
		return crashResult{}, err
	}
	r, err := p.crash(ctx, processor, n)
	return r, errors.Join(err, p.stop(ctx))
}

// maxMarkers is the maximum number of markers that the method finish publishes.
const maxMarkers = 10

func (p *pipeline) crash(ctx context.Context, kind string, n int) (crashResult, error) {
	r := crashResult{Processor: kind, Exits: n}
	if err := p.terminateClients(ctx); err != nil {
		return r, err
	}
	client, err := privateserver.NewRedisClient(p.env.redisURI)
	if err != nil {
		return r, err
	}
	defer func() { _ = client.Close() }()
	defer client.Del(context.WithoutCancel(ctx), visitsKey(&p.plan))
	if kind != ours {
		if err := p.usePeer(kind); err != nil {
			return r, err
		}
	}
	processor := p.stack.Processors[0]
	if err := stack.Start(ctx, processor); err != nil {
		return r, err
	}
	polls := 0.0 // the number of Redis commands that the benchmark itself sends
	recorded := func(ctx context.Context) (int64, error) {
		polls++
		return client.HLen(ctx, visitsKey(&p.plan)).Result()
	}
	if kind == ours {
		recorded = func(ctx context.Context) (int64, error) {
			metrics, err := scrape(ctx, processor.URL("/metrics"))
			return metrics.sum("parking_events_processed_total", "outcome", "recorded"), err
		}
	}
	idle, err := p.processorEffort(ctx)
	if err != nil {
		return r, err
	}
	start := time.Now()
	// The method finish publishes up to maxMarkers additional exits. Each of them needs an entry.
	entries := int64(n + maxMarkers)
	publishing := async(func() error { return p.publishOriginals(ctx, event.TypeEntry, 0, n+maxMarkers) })
	if err := errors.Join(await(ctx, recorded, entries), <-publishing); err != nil {
		return r, fmt.Errorf("wait until %s has recorded all entries: %w", kind, err)
	}
	entered := time.Now()
	half := max(1, int64(n)/2)
	publishing = async(func() error { return p.publishOriginals(ctx, event.TypeExit, 0, n) })
	if err := await(ctx, p.stored, half); err != nil {
		return r, errors.Join(fmt.Errorf("wait until %s has posted half of the summaries: %w", kind, err), <-publishing)
	}
	left := time.Now()
	busy, err := p.processorEffort(ctx)
	if err := errors.Join(err, processor.Kill(), <-publishing); err != nil {
		return r, err
	}
	r.EventsPerSecond = 2 / (entered.Sub(start).Seconds()/float64(entries) + left.Sub(entered).Seconds()/float64(half))
	idle[commands] += polls
	r.PerEvent = busy.perEvent(idle, float64(entries+half))
	return r, p.finish(ctx, processor, &r)
}

func async(f func() error) <-chan error {
	result := make(chan error, 1)
	go func() { result <- f() }()
	return result
}

// await polls a counter until the counter reaches the given value.
func await(ctx context.Context, count func(context.Context) (int64, error), want int64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		n, err := count(ctx)
		if err != nil || n >= want {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the count is %d, want at least %d: %w", n, want, ctx.Err())
		case <-ticker.C:
		}
	}
}

// stored returns the number of summaries in the summary API.
func (p *pipeline) stored(ctx context.Context) (int64, error) {
	metrics, err := scrape(ctx, p.stack.Summaries.URL("/metrics"))
	return metrics.total("parking_summaries_stored_total"), err
}

// finish starts the processor and publishes an additional exit (a marker), again and again, until the queue is empty.
// Then it counts the lost summaries. The stored summary of a marker shows that all earlier exits were received.
func (p *pipeline) finish(ctx context.Context, processor *stack.Process, r *crashResult) error {
	for marker := range maxMarkers {
		if err := stack.Start(ctx, processor); err != nil {
			return err
		}
		i := r.Exits + marker
		if err := p.publishOriginals(ctx, event.TypeExit, i, i+1); err != nil {
			return err
		}
		posted := func(ctx context.Context) (int64, error) { return p.summariesOf(ctx, originalPlate(i)) }
		if err := await(ctx, posted, 1); err != nil {
			return fmt.Errorf("wait until %s has posted the last summary: %w", r.Processor, err)
		}
		if _, err := processor.Terminate(ctx); err != nil {
			return err
		}
		if left, err := p.leftInQueue(ctx); err != nil {
			return err
		} else if left > 0 {
			continue
		}
		metrics, err := scrape(ctx, p.stack.Summaries.URL("/metrics"))
		r.Lost = int64(r.Exits+marker+1) - metrics.total("parking_summaries_stored_total")
		r.PostedAgain = metrics.total("parking_summaries_duplicate_total")
		return err
	}
	return fmt.Errorf("%s did not empty its queue in %d attempts", r.Processor, maxMarkers)
}

// summariesOf returns how many visits of a plate have a summary in the summary API.
func (p *pipeline) summariesOf(ctx context.Context, plate string) (int64, error) {
	address := p.stack.Summaries.URL("/v1/summaries?plate=" + url.QueryEscape(plate))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, fmt.Errorf("read summaries: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("read summaries: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	var page struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.NewDecoder(response.Body).Decode(&page); err != nil {
		return 0, fmt.Errorf("read summaries: %w", err)
	}
	return int64(len(page.Items)), nil
}

// leftInQueue returns the number of exits in the queue. It waits until the queue has no consumers, so that the number
// includes requeued messages.
func (p *pipeline) leftInQueue(ctx context.Context) (left int64, err error) {
	unused := func(context.Context) (int64, error) {
		queue, err := p.inspect(event.TypeExit)
		left = int64(queue.Messages)
		return int64(-queue.Consumers), err
	}
	if err := await(ctx, unused, 0); err != nil {
		return 0, fmt.Errorf("wait until the broker has noticed the end of the processor: %w", err)
	}
	return left, nil
}

func (p *pipeline) usePeer(kind string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the path of the benchmark's own executable: %w", err)
	}
	process, err := stack.NewProcess(self, p.env.dir, "peer", childPeer, kind, "--plan", p.path)
	if err != nil {
		return err
	}
	p.stack.Processors[0] = process
	return nil
}
