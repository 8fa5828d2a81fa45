//go:build !noservers

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/privateserver"
	"github.com/parking-operator/parking-operator/internal/simulate/process"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// privateServers are a RabbitMQ and a Redis server that run only for this process.
type privateServers struct {
	node            *privateserver.RabbitMQ
	rabbitmq, redis *process.Server
}

// startPrivateServers starts the servers and sets their URIs in the plan. While a server starts, startPrivateServers
// prints the name of this server to the writer out.
func startPrivateServers(ctx context.Context, p *plan.Plan, out io.Writer) (*privateServers, error) {
	s := new(privateServers)
	if err := s.start(ctx, out); err != nil {
		if missing, ok := errors.AsType[*privateserver.NotInstalledError](err); ok {
			err = badInput(fmt.Errorf("--%s: %w", flagServers, missing))
		}
		return nil, errors.Join(err, s.Close())
	}
	p.RabbitMQ, p.Redis = plan.BindingRef{URI: s.rabbitmq.URI()}, plan.BindingRef{URI: s.redis.URI()}
	return s, nil
}

func (s *privateServers) start(ctx context.Context, out io.Writer) error {
	if err := s.startRedis(ctx, out); err != nil {
		return err
	}
	return s.startRabbitMQ(ctx, out)
}

func (s *privateServers) startRedis(ctx context.Context, out io.Writer) error {
	defer announce(out, "Redis")()
	redis, err := privateserver.StartRedis(ctx, "", privateserver.RedisOptions{})
	if err != nil {
		return err
	}
	if s.redis, err = process.NewServer(ctx, redisName, redis); err != nil {
		return errors.Join(err, redis.Close())
	}
	return nil
}

func (s *privateServers) startRabbitMQ(ctx context.Context, out io.Writer) error {
	defer announce(out, "RabbitMQ")()
	node, err := privateserver.StartRabbitMQ(ctx, "", privateserver.RabbitMQOptions{})
	if err != nil {
		return err
	}
	if s.rabbitmq, err = process.NewServer(ctx, rabbitMQName, node); err != nil {
		return errors.Join(err, node.Close())
	}
	s.node = node
	return nil
}

// announce writes that a server is being started. It does so at once, and then every few seconds until the caller calls
// the returned function.
func announce(out io.Writer, server string) (started func()) {
	ctx, cancel := context.WithCancel(context.Background())
	begin := time.Now()
	go async.Every(ctx, lineInterval, func() {
		// Ignore the error, because the server starts even if the line cannot be written.
		_, _ = fmt.Fprintf(out, "Starting a private %s (%s)\n", server, terminal.Clock(time.Since(begin)))
	})
	return cancel
}

// sync makes the RabbitMQ node write its queue definitions to disk. Otherwise, a killed RabbitMQ 3.10 would lose those
// of the last few seconds.
func (s *privateServers) sync() error {
	if s == nil {
		return nil
	}
	return s.node.SyncQueues()
}

// targets adds the servers to the map of servers that faults can hit.
func (s *privateServers) targets(servers map[plan.FaultTarget][]fault.Instance) {
	servers[plan.TargetRabbitMQ] = []fault.Instance{s.rabbitmq}
	servers[plan.TargetRedis] = []fault.Instance{s.redis}
}

// Close stops the servers and deletes their data.
func (s *privateServers) Close() error {
	var errs []error
	for _, server := range []*process.Server{s.rabbitmq, s.redis} {
		if server != nil {
			errs = append(errs, server.Close())
		}
	}
	return errors.Join(errs...)
}
