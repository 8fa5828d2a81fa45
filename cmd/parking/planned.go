package main

import (
	"context"
	"fmt"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

// planned is a service that does its part of a plan, on the servers that the plan names.
type planned struct {
	service

	plan    *plan.Plan
	path    string
	servers backends
}

// openPlanned reads the plan and opens its servers, without connecting. The caller closes the service.
func (c *cli) openPlanned(component string, flags serviceFlags, path string) (*planned, error) {
	if err := flags.check(); err != nil {
		return nil, err
	}
	p, err := plan.Read(path)
	if err != nil {
		return nil, badInput(err)
	}
	s := &planned{plan: p, path: path}
	s.service = service{flags: flags, log: c.logger(flags.level.Level), registry: newRegistry()}
	s.servers, err = openServers(p, wiring.Options{Component: component, Logger: s.log, Registerer: s.registry})
	if err != nil {
		return nil, s.inPlan(err)
	}
	s.ready = s.servers.ready()
	s.log.Info("starting", "version", currentBuild().version, "simulation", p.Simulation,
		"rabbitmq", s.servers.broker.Address, "redis", s.servers.store.Address)
	return s, nil
}

// inPlan names the plan file in what is wrong with what it says.
func (s *planned) inPlan(err error) error { return fmt.Errorf("plan file %s: %w", s.path, err) }

func (s *planned) close() { s.servers.close(s.log) }

// watch follows the plan file until ctx ends; the function that it returns ends it and waits for that.
func (s *planned) watch(ctx context.Context, role plan.Role, apply func(*plan.Plan)) (wait func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		plan.Watch(ctx, s.path, role, s.plan, s.log, apply)
	}()
	return func() {
		cancel()
		<-done
	}
}
