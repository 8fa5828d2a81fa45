// Package redis keeps the state of a simulation in Redis 7.0 or newer, or in Valkey: on one server or a cluster. Each
// step is a Lua script on keys of one hash tag. Concurrent steps share executions and pipelines.
package redis

import (
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
	"github.com/parking-operator/parking-operator/internal/store"
)

// Options configure a store.
type Options struct {
	// Address returns the binding of the server. A URI redis://… or rediss://… names one server. With the parameter
	// cluster=true, or with more nodes in parameters addr, it names a cluster. Other parameters are those of
	// go-redis, such as read_timeout and pool_size.
	Address binding.Source
	// Simulation identifies the simulation: <namespace>.<name>.
	Simulation string
	// Partitions is the simulation's number of partitions.
	Partitions int
	// Logger receives messages about the server for administrators. Nil discards them.
	Logger *slog.Logger
	// Registerer registers the metrics. Nil means no metrics. Only one store can be registered at a time.
	Registerer prometheus.Registerer
}

// Store keeps the state of a simulation in Redis. It is safe for concurrent use.
type Store struct {
	address    binding.Source
	client     goredis.UniversalClient
	scripts    *scripts
	prefix     string
	partitions []*partition
	// There is one batcher and one observer for all partitions or, in a cluster, for each partition.
	batchers  []*batcher
	observers []*observer
	outages   *outage.Log
	closed    atomic.Bool
	// visitMargin is store.VisitMargin. Tests set another one.
	visitMargin time.Duration
}

var _ store.Store = (*Store)(nil)

// New returns a store. It does not connect to the server: Ping does. It fails if the options are invalid or the
// binding cannot be read.
func New(o Options) (*Store, error) {
	return newStore(o, store.VisitMargin)
}

func newStore(o Options, visitMargin time.Duration) (*Store, error) {
	if err := validate(o); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	scripts, err := newScripts()
	if err != nil {
		return nil, err
	}
	metrics, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	client, err := newClient(o.Address)
	if err != nil {
		return nil, err
	}
	s := &Store{
		address:     o.Address,
		client:      client,
		scripts:     scripts,
		prefix:      keyPrefix(o.Simulation),
		visitMargin: visitMargin,
	}
	logger := o.Logger.With("store", s.where())
	s.outages = outage.New(logger, "the store is unavailable; every step is retried until it succeeds", "the store is available again")
	for i := range o.Partitions {
		s.partitions = append(s.partitions, newPartition(o.Simulation, i, scripts))
	}
	settings := &settings{logger: logger}
	for _, p := range s.servers() {
		s.batchers = append(s.batchers, newBatcher(client, metrics, func(part string) { s.outages.Fine(part) }))
		s.observers = append(s.observers, (&observer{
			look:    s.looker(p),
			dataset: &dataset{join: s.joiner(p), metrics: metrics, logger: logger},
			inspect: func(ctx context.Context) { s.inspect(ctx, p, settings) },
			outages: s.outages, part: p.part(kindObservation), metrics: metrics, logger: logger,
		}).start())
	}
	return s, nil
}

func validate(o Options) error {
	switch {
	case o.Address == nil:
		return errors.New("the store has no binding: set Options.Address")
	case o.Partitions < 1:
		return fmt.Errorf("the store has %d partitions: it needs at least 1", o.Partitions)
	default:
		return validateSimulation(o.Simulation)
	}
}

// servers returns one partition per server. With a single server, that is the first partition.
func (s *Store) servers() []*partition {
	if _, cluster := s.client.(*goredis.ClusterClient); cluster {
		return s.partitions
	}
	return s.partitions[:1]
}

// partition returns the keys of a partition.
func (s *Store) partition(index int) (*partition, error) {
	if index < 0 || index >= len(s.partitions) {
		return nil, fmt.Errorf("partition %d is not one of the %d of the store", index, len(s.partitions))
	}
	return s.partitions[index], nil
}

func (s *Store) batcher(p *partition) *batcher   { return s.batchers[p.index%len(s.batchers)] }
func (s *Store) observer(p *partition) *observer { return s.observers[p.index%len(s.observers)] }

// Ping reports whether the store answers. The error names the server and the remedy.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.client.Ping(ctx).Err(); err != nil {
		return s.failure(ctx, "ping the store", err)
	}
	return nil
}

// Close fails the pending calls and closes all connections.
func (s *Store) Close() error {
	s.closed.Store(true)
	for _, b := range s.batchers {
		b.shut()
	}
	for _, o := range s.observers {
		o.shut()
	}
	err := s.client.Close() // fails the commands that are on the wire
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
