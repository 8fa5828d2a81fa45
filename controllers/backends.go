package controllers

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/rabbitmq"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/store/redis"
)

// Queues are a simulation's on its RabbitMQ.
type Queues interface {
	// Depths counts the messages in the queues.
	Depths(ctx context.Context) (broker.Depths, error)
	// DeadLetterReasons counts the reasons in the dead-letter queue, at most limit of them.
	DeadLetterReasons(ctx context.Context, limit int) ([]broker.ReasonCount, error)
	// Delete removes exchange and queues.
	Delete(ctx context.Context) error
	io.Closer
}

// Keys are a simulation's in its Redis.
type Keys interface {
	store.Ledger
	// Purge removes all keys.
	Purge(ctx context.Context) error
	io.Closer
}

// Target is a simulation on its servers.
type Target struct {
	// Plan identifies queues and keys, and holds the objectives.
	Plan *plan.Plan
	// Broker and Store are where the servers are.
	Broker, Store binding.Binding
}

// Backends connects to what a simulation runs on.
type Backends interface {
	// OpenQueues and OpenKeys return clients of RabbitMQ and Redis; they do not connect at once.
	OpenQueues(t Target) (Queues, error)
	OpenKeys(t Target) (Keys, error)
	// Measure asks a simulation's pods what they have measured. It takes some seconds at most; what some of
	// them did not tell is an error, what the others told is there all the same.
	Measure(ctx context.Context, e Endpoints) (Measurement, error)
}

// NewBackends returns connections to RabbitMQ, Redis and pods. Their own logs go to the given logger.
func NewBackends(logger *slog.Logger) Backends { return servers{logger: logger, prober: newProber()} }

type servers struct {
	*prober

	logger *slog.Logger
}

func (s servers) OpenQueues(t Target) (Queues, error) {
	return rabbitmq.New(rabbitmq.Options{
		Address: binding.Static(t.Broker), Exchange: t.Plan.Exchange(), Partitions: t.Plan.Partitions, QueueType: t.Plan.QueueType,
		Component: "parking operator", Logger: s.logger,
	})
}

func (s servers) OpenKeys(t Target) (Keys, error) {
	return redis.New(redis.Options{
		Address: binding.Static(t.Store), Simulation: t.Plan.Simulation, Partitions: t.Plan.Partitions, Logger: s.logger,
	})
}

// connection is a target with its servers opened.
type connection struct {
	queues Queues
	keys   Keys
}

func open(b Backends, t Target) (*connection, error) {
	queues, err := b.OpenQueues(t)
	if err != nil {
		return nil, err
	}
	keys, err := b.OpenKeys(t)
	if err != nil {
		return nil, errors.Join(err, queues.Close())
	}
	return &connection{queues: queues, keys: keys}, nil
}

func (c *connection) Close() error { return errors.Join(c.queues.Close(), c.keys.Close()) }
