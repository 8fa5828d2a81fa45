// Package redis keeps the state of a simulation in Redis or Valkey, from version 7.0 on: one server, or a
// cluster. Lua scripts take the steps on keys of one hash tag; concurrent steps share executions and pipelines.
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

// Options say which simulation to keep, and where.
type Options struct {
	// Address of the server. A URI redis://… or rediss://… names one server; with the parameter
	// cluster=true, or with further nodes in parameters addr, a cluster. Other parameters are those of
	// go-redis, such as read_timeout and pool_size.
	Address binding.Source
	// Simulation identifies the simulation: <namespace>.<name>.
	Simulation string
	// Partitions is the simulation's number of partitions.
	Partitions int
	// Logger takes what an administrator should know of the server; nil means nobody.
	Logger *slog.Logger
	// Registerer takes the metrics; nil means nobody. One store can be registered at a time.
	Registerer prometheus.Registerer
}

// Store keeps the state of a simulation in Redis. It is safe for concurrent use.
type Store struct {
	address    binding.Source
	client     goredis.UniversalClient
	scripts    *scripts
	prefix     string
	partitions []*partition
	// batchers and observers are one for all partitions, or one for each when these may be on different
	// nodes.
	batchers  []*batcher
	observers []*observer
	outages   *outage.Log
	closed    atomic.Bool
	// visitMargin is store.VisitMargin, but in tests.
	visitMargin time.Duration
}

var _ store.Store = (*Store)(nil)

// New returns a store without connecting to its server: Ping does. It fails when the options are not
// valid or the address cannot be read.
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
		return errors.New("the store has no address: set Options.Address")
	case o.Partitions < 1:
		return fmt.Errorf("the store has %d partitions: it needs at least 1", o.Partitions)
	default:
		return validateSimulation(o.Simulation)
	}
}

// servers returns a partition for each server that may have to be told apart: the first stands for all
// when there is only one server.
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

// Ping reports whether the store answers. Its error names the address and the remedy.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.client.Ping(ctx).Err(); err != nil {
		return s.explain(s.failure(ctx, "ping the store", err))
	}
	return nil
}

// Close fails what is still under way and closes all connections.
func (s *Store) Close() error {
	s.closed.Store(true)
	for _, b := range s.batchers {
		b.shut()
	}
	for _, o := range s.observers {
		o.shut()
	}
	err := s.client.Close() // ends what is on the wire
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
