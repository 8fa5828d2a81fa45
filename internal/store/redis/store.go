// Package redis stores the state of a simulation in Redis 7.0 or later, or Valkey. Concurrent operations share
// pipelines and executions of Lua scripts.
package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/outage"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/store"
)

// Config is the configuration of a store.
type Config struct {
	// Simulation identifies the simulation. It has the form <namespace>.<name>.
	Simulation string
	// Owner distinguishes simulations of the same name that use different brokers. The store marks its data with the
	// owner, and uses no other owner's data. If Owner is "", the store marks no data and uses any owner's data.
	Owner string
	// Partitions is the simulation's number of partitions.
	Partitions int
	// Durability says when effects count as durable.
	Durability plan.Durability
}

// Dependencies contains what a store needs from its caller. Only Binding is required.
type Dependencies struct {
	// Binding returns the current binding, whose URI may have parameters of go-redis. With the parameter master_name,
	// the endpoints are Sentinels. With cluster=true, or with several endpoints and no master_name, the binding refers
	// to a cluster. Any other binding refers to a single server.
	//
	// The endpoints after the first are in the binding's field Alternatives, or in parameters "addr" of the URI.
	Binding binding.Source
	// Logger receives messages about the server that concern administrators. Nil discards them.
	Logger *slog.Logger
	// Registerer registers the metrics. If it is nil, no metrics are registered. Only one store at a time can use a
	// Registerer.
	Registerer prometheus.Registerer
}

// Store is an implementation of store.Store on Redis. It is safe for concurrent use.
type Store struct {
	binding    binding.Source
	client     goredis.UniversalClient
	scripts    *scripts
	prefix     string
	owner      string
	partitions []*partition
	// On a single server, all partitions share one batcher and one observer. In a cluster, each partition has its
	// own.
	batchers    []*batcher
	observers   []*observer
	outages     *outage.Log
	barrier     barrier
	closed      atomic.Bool
	visitMargin time.Duration
	// ignoreReplicas makes the store report effects as durable before the replicas have received them. Only tests set it.
	ignoreReplicas bool
}

var _ store.Store = (*Store)(nil)

// New returns a store. It does not connect to the server. It returns an error if the configuration is invalid or if the
// binding cannot be read.
func New(c Config, d Dependencies) (*Store, error) {
	return newStore(c, d, timing{visitMargin: store.VisitMargin, reloadInterval: reloadInterval})
}

// timing contains the durations that only tests change.
type timing struct{ visitMargin, reloadInterval time.Duration }

func newStore(c Config, d Dependencies, t timing) (*Store, error) {
	if err := validate(c, d); err != nil {
		return nil, err
	}
	scripts, err := newScripts()
	if err != nil {
		return nil, err
	}
	metrics, err := newMetrics(d.Registerer)
	if err != nil {
		return nil, err
	}
	barrier := barrier{c.Durability}
	observers := 0
	if barrier.synced() {
		observers = c.Partitions
	}
	client, err := newClient(d.Binding, t.reloadInterval, observers)
	if err != nil {
		return nil, err
	}
	s := &Store{
		binding:     d.Binding,
		client:      client,
		scripts:     scripts,
		prefix:      keyPrefix(c.Simulation),
		owner:       c.Owner,
		barrier:     barrier,
		visitMargin: t.visitMargin,

		ignoreReplicas: ignoreReplicas,
	}
	logger := cmp.Or(d.Logger, slog.New(slog.DiscardHandler)).With("store", s.where())
	s.outages = outage.New(logger, "The store is unavailable; operations on it are retried", "The store is available again")
	for i := range c.Partitions {
		s.partitions = append(s.partitions, newPartition(c.Simulation, i, scripts))
	}
	settings := &settings{logger: logger}
	lagging := outage.New(logger, "Events are not acknowledged, because servers of the store do not confirm writes", "All servers of the store confirm writes again")
	for _, p := range s.servers() {
		s.batchers = append(s.batchers, newBatcher(client, metrics, func(part string) { s.outages.Fine(part) }))
		s.observers = append(s.observers, (&observer{
			look:    s.newLook(p),
			dataset: &dataset{join: s.joiner(p), metrics: metrics, logger: logger},
			inspect: func(ctx context.Context) { s.inspect(ctx, p, settings) },
			outages: s.outages, lagging: lagging, barrier: barrier, part: p.part(kindObservation), metrics: metrics, logger: logger,
		}).start())
	}
	return s, nil
}

func validate(c Config, d Dependencies) error {
	switch {
	case d.Binding == nil:
		return errors.New("the store has no binding: set Dependencies.Binding")
	case c.Partitions < 1:
		return fmt.Errorf("the number of partitions is %d: it must be at least 1", c.Partitions)
	default:
		return validateSimulation(c.Simulation)
	}
}

// servers returns partitions that together cover all servers. In a cluster, each partition may be on a different
// node.
func (s *Store) servers() []*partition {
	if _, cluster := s.client.(*goredis.ClusterClient); cluster {
		return s.partitions
	}
	return s.partitions[:1]
}

func (s *Store) partition(index int) (*partition, error) {
	if index < 0 || index >= len(s.partitions) {
		return nil, fmt.Errorf("partition %d does not exist: the store has %d partitions", index, len(s.partitions))
	}
	return s.partitions[index], nil
}

func (s *Store) batcher(p *partition) *batcher   { return s.batchers[p.index%len(s.batchers)] }
func (s *Store) observer(p *partition) *observer { return s.observers[p.index%len(s.observers)] }

// Ping implements store.Store. The error contains the address of the server and advice.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.client.Ping(ctx).Err(); err != nil {
		return s.failure(ctx, "ping the store", err)
	}
	return nil
}

// Close fails pending calls and closes all connections.
func (s *Store) Close() error {
	s.closed.Store(true)
	for _, b := range s.batchers {
		b.shut()
	}
	for _, o := range s.observers {
		o.shut()
	}
	// Fail the commands in flight, so that the calls of drain below do not wait for the server.
	err := s.client.Close()
	for _, b := range s.batchers {
		b.drain()
	}
	for _, o := range s.observers {
		o.drain()
	}
	if err != nil && !errors.Is(err, goredis.ErrClosed) {
		return fmt.Errorf("close the connections to the store: %w", err)
	}
	return nil
}
