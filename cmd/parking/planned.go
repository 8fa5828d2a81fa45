package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

// planned is the process of one component of a plan, such as a generator. It connects to the servers in the plan.
type planned struct {
	service

	plan     *plan.Plan                // the plan with which the process started
	current  atomic.Pointer[plan.Plan] // the latest plan read from the file
	path     string
	adapters adapters
}

// openPlanned reads the plan and opens clients of its servers, but does not connect. The caller must close the result.
func (c *cli) openPlanned(ctx context.Context, component string, flags serviceFlags, path string) (*planned, error) {
	if err := flags.check(); err != nil {
		return nil, err
	}
	p, err := interruptible(ctx, func() (*plan.Plan, error) { return plan.Read(path) })
	if err != nil {
		return nil, badInput(err)
	}
	s := &planned{plan: p, path: path}
	s.current.Store(p)
	s.service = service{flags: flags, log: c.logger(flags.level.Level), registry: newRegistry()}
	s.adapters, err = openPlanAdapters(p, wiring.Options{Component: component, Logger: s.log, Registerer: s.registry})
	if err != nil {
		return nil, s.inPlan(err)
	}
	s.ready = s.adapters.readyChecks()
	s.log.Info("Starting", "version", currentBuild().version, "simulation", p.Simulation,
		"rabbitmq", s.adapters.broker.Address, "redis", s.adapters.store.Address)
	return s, nil
}

// inPlan adds the path of the plan file to an error about the content of this file.
func (s *planned) inPlan(err error) error { return fmt.Errorf("plan file %s: %w", s.path, err) }

func (s *planned) close() { s.adapters.close(s.log) }

// A stopping process stores the last rows of its timeline for at most recordTimeout plus plan.Durability.Latency.
const recordTimeout = 2 * time.Second

// record records the timeline of a component until the returned function stop has stored the last row. The parameter
// schedules lists the types of the events that the component publishes.
func (s *planned) record(
	ctx context.Context, component string, totals timeline.Totals, schedules ...event.Type,
) (stop func()) {
	recorder := timeline.NewRecorder(component, totals, s.adapters.store, s.log)
	recorder.Mark(timeline.Mark{At: time.Now(), Kind: timeline.MarkStarted, Subject: component})
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stages, objectives := timeline.NewMarker(recorder.Mark, schedules...), ledger.NewObjectiveMarker(recorder.Mark)
	go async.Every(ctx, timeline.MarkerInterval, func() {
		row, p, now := totals(), s.current.Load(), time.Now()
		stages.Observe(p, p.StartTime, now)
		if !p.StartTime.IsZero() {
			objectives.Measured(now, &p.Objectives, &row)
		}
	})
	go timeline.WatchServer(ctx, timeline.SubjectBroker, s.adapters.broker.Ping, recorder.Mark)
	go timeline.WatchServer(ctx, timeline.SubjectStore, s.adapters.store.Ping, recorder.Mark)
	closing, closed := async.Outlive(ctx, recordTimeout+s.plan.Durability.Latency())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := recorder.Run(ctx, closing); err != nil {
			s.log.Warn("The timeline is incomplete", "error", err)
		}
	}()
	return func() {
		recorder.Mark(timeline.Mark{At: time.Now(), Kind: timeline.MarkStopped, Subject: component})
		cancel()
		<-done
		closed()
	}
}

// watch calls the function apply for each new version of the plan file until ctx ends. After stop has returned, it
// makes no more calls.
func (s *planned) watch(ctx context.Context, role plan.Role, apply func(*plan.Plan)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		plan.Watch(ctx, s.path, role, s.plan, s.log, func(next *plan.Plan) {
			s.current.Store(next)
			apply(next)
		})
	}()
	return func() {
		cancel()
		<-done
	}
}
