package manifest_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	memorybroker "github.com/parking-operator/parking-operator/internal/broker/memory"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/simulate"
	"github.com/parking-operator/parking-operator/internal/simulate/gate"
	memorystore "github.com/parking-operator/parking-operator/internal/store/memory"
)

// Only the first 15 minutes of soak.yaml run: each of its faults occurs once by then. node-loss.yaml is missing,
// because it needs several RabbitMQ nodes.
func TestRehearsalSamples_InMemory_Pass(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"demo", "rehearsal", "soak"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, err := manifest.ReadFile(filepath.Join("..", "..", "config", "samples", name+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			p := planOf(t, sim)
			p.Duration = min(p.Duration, plan.Duration(15*time.Minute))
			if p.Duration.D() > time.Minute {
				slow(&p.Entry.Schedule)
				slow(&p.Exit.Schedule)
			}
			processors := int(*sim.Spec.Processor.Replicas)
			synctest.Test(t, func(t *testing.T) {
				r := rehearse(t, p, processors)
				if r.Outcome != ledger.Pass {
					t.Errorf("the verdict is %s: %q", r.Outcome, r.Reasons)
				}
				if len(r.Faults) != len(p.Faults) {
					t.Errorf("%d faults have an account, want %d", len(r.Faults), len(p.Faults))
				}
				for i := range r.Faults {
					if a := &r.Faults[i]; a.Outcome != fault.OutcomeRecovered {
						t.Errorf("the fault %s is %s: %s", a.ID(), a.Outcome, a.Message)
					}
				}
			})
		})
	}
}

// slow divides the rates of a schedule by 4, so that the test has fewer events and ends earlier.
func slow(s *plan.Schedule) {
	const divisor = 4
	s.Rate /= divisor
	for i := range s.Stages {
		s.Stages[i].Rate /= divisor
	}
}

// rehearse runs a simulation in memory. Faults can hit all of its components and servers.
func rehearse(t *testing.T, p *plan.Plan, processors int) report.Run {
	t.Helper()
	broker, err := memorybroker.New(memorybroker.Config{Partitions: p.Partitions})
	if err != nil {
		t.Fatal(err)
	}
	store := memorystore.New(memorystore.Config{Partitions: p.Partitions, Crashable: true})
	defer func() {
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	rabbitmq, redis, api := gate.New(), gate.New(), gate.New()
	s, err := simulate.New(simulate.Config{Plan: *p, Processors: processors, DepthsHoldInFlight: true}, simulate.Dependencies{
		Broker: gate.Broker(broker, rabbitmq, memorybroker.DefaultWindow), Store: gate.Store(store, redis), Poster: gate.Poster(&summaries{ids: map[string]bool{}}, api),
		Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		Targets: fault.Targets{Instances: map[plan.FaultTarget][]fault.Instance{
			plan.TargetRabbitMQ:   {gate.NewServer("rabbitmq", rabbitmq, nil)},
			plan.TargetRedis:      {gate.NewServer("redis", redis, store.Crash)},
			plan.TargetSummaryAPI: {gate.NewServer("summary-api", api, nil)},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.Run(t.Context())
}

// summaries is a summary API that stores the identifiers of summaries.
type summaries struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (s *summaries) Post(_ context.Context, summary event.Summary) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids[summary.ID] = true
	return nil
}
