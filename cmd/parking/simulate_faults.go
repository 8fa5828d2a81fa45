package main

import (
	"fmt"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/simulate"
	"github.com/parking-operator/parking-operator/internal/simulate/gate"
)

// These are the names of the servers in reports.
const (
	rabbitMQName   = "rabbitmq"
	redisName      = "redis"
	summaryAPIName = "summary-api"
)

// exposeServers makes the servers that belong to this process available as targets of faults. Servers that were
// selected by flags are not available, because other programs may use them too.
func (s *session) exposeServers(d *simulate.Dependencies) {
	t := simulate.Targets{Servers: make(map[plan.FaultTarget][]fault.Instance), Refused: make(map[plan.FaultTarget]string)}
	if s.private != nil {
		s.private.targets(t.Servers)
	} else {
		s.exposeAdapters(d, &t)
	}
	if s.plan.SummaryAPI.External {
		t.Refused[plan.TargetSummaryAPI] = refusal("--summary-url")
	} else {
		g := gate.New()
		d.Poster = gate.Poster(d.Poster, g)
		t.Servers[plan.TargetSummaryAPI] = []fault.Instance{gate.NewServer(summaryAPIName, g, nil)}
	}
	d.Targets = t
}

// exposeAdapters makes the broker and the store available as targets of faults if they run in memory.
func (s *session) exposeAdapters(d *simulate.Dependencies, t *simulate.Targets) {
	if s.adapters.broker.InMemory() {
		g := gate.New()
		d.Broker = gate.Broker(d.Broker, g)
		t.Servers[plan.TargetRabbitMQ] = []fault.Instance{gate.NewServer(rabbitMQName, g, nil)}
	} else {
		t.Refused[plan.TargetRabbitMQ] = refusal(s.adapters.brokerFlag)
	}
	if s.adapters.store.InMemory() {
		g := gate.New()
		d.Store = gate.Store(d.Store, g)
		t.Servers[plan.TargetRedis] = []fault.Instance{gate.NewServer(redisName, g, s.adapters.store.Crash)}
	} else {
		t.Refused[plan.TargetRedis] = refusal(s.adapters.storeFlag)
	}
}

// refusal returns the reason why faults cannot be injected into a server that was selected by a flag.
func refusal(flag string) string {
	return fmt.Sprintf("a fault cannot target an external server, and %s selects one: remove the fault, or run with --servers private", flag)
}
