package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/privateserver"
	"github.com/parking-operator/parking-operator/internal/simulate/process"
)

const flagServers = "servers"

// privateFlag is a flag value. It is either empty or "private".
type privateFlag string

// String implements pflag.Value.
func (p *privateFlag) String() string { return string(*p) }

// Set implements pflag.Value.
func (p *privateFlag) Set(s string) error {
	if s != "private" {
		return errors.New("must be private")
	}
	*p = privateFlag(s)
	return nil
}

// Type implements pflag.Value. It returns the placeholder for the value in help texts.
func (p *privateFlag) Type() string { return "private" }

// privateServers are a RabbitMQ and a Redis server that run only for this process.
type privateServers struct {
	node            *privateserver.RabbitMQ
	rabbitmq, redis *process.Server
}

// startPrivateServers starts the servers and sets their URIs in the plan.
func startPrivateServers(ctx context.Context, p *plan.Plan) (*privateServers, error) {
	s := new(privateServers)
	if err := s.start(ctx); err != nil {
		if missing, ok := errors.AsType[*privateserver.NotInstalledError](err); ok {
			err = badInput(fmt.Errorf("--%s: %w", flagServers, missing))
		}
		return nil, errors.Join(err, s.Close())
	}
	p.RabbitMQ, p.Redis = plan.BindingRef{URI: s.rabbitmq.URI()}, plan.BindingRef{URI: s.redis.URI()}
	return s, nil
}

func (s *privateServers) start(ctx context.Context) error {
	redis, err := privateserver.StartRedis(ctx, "", privateserver.RedisOptions{})
	if err != nil {
		return err
	}
	if s.redis, err = process.NewServer(ctx, redisName, redis); err != nil {
		return errors.Join(err, redis.Close())
	}
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

// sync makes the RabbitMQ node write its queue definitions to disk. If the node is killed, RabbitMQ 3.10 loses
// definitions that were created in the last few seconds.
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
