package simulate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	memorybroker "github.com/parking-operator/parking-operator/internal/broker/memory"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/simulate/gate"
	"github.com/parking-operator/parking-operator/internal/store"
	memorystore "github.com/parking-operator/parking-operator/internal/store/memory"
)

// rehearsal returns the setup of an in-memory simulation that injects the given faults.
func rehearsal(t *testing.T, faults ...plan.Fault) *setup {
	t.Helper()
	p := testPlan()
	p.Duration = plan.Duration(30 * time.Second)
	p.Entry.Rate, p.Exit.Rate = 200, 150
	p.Faults = faults
	b, err := memorybroker.New(memorybroker.Config{Partitions: p.Partitions})
	if err != nil {
		t.Fatal(err)
	}
	s := memorystore.New(memorystore.Config{Partitions: p.Partitions, Crashable: true})
	t.Cleanup(func() {
		if err := errors.Join(b.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	api := &counter{seen: map[string]bool{}}
	rabbitmq, redis, summaries := gate.New(), gate.New(), gate.New()
	return &setup{
		Config{Plan: p, Processors: 1, DepthsHoldInFlight: true},
		Dependencies{
			Broker: gate.Broker(b, rabbitmq, memorybroker.DefaultWindow), Store: gate.Store(s, redis), Poster: gate.Poster(api, summaries), SummariesHeld: api.held,
			Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
			Targets: fault.Targets{Instances: map[plan.FaultTarget][]fault.Instance{
				plan.TargetRabbitMQ:   {gate.NewServer("rabbitmq", rabbitmq, nil)},
				plan.TargetRedis:      {gate.NewServer("redis", redis, s.Crash)},
				plan.TargetSummaryAPI: {gate.NewServer("summary-api", summaries, nil)},
			}},
		},
	}
}

func targets() []plan.FaultTarget {
	return []plan.FaultTarget{
		plan.TargetRabbitMQ, plan.TargetRabbitMQLeader, plan.TargetRedis, plan.TargetSummaryAPI,
		plan.TargetProcessor, plan.TargetEntryGenerator, plan.TargetExitGenerator,
	}
}

func actions() []plan.FaultAction {
	return []plan.FaultAction{plan.ActionKill, plan.ActionRestart, plan.ActionEvict, plan.ActionPause, plan.ActionIsolate}
}

// repeated returns a fault that is injected every five seconds.
func repeated(target plan.FaultTarget, action plan.FaultAction) plan.Fault {
	f := plan.Fault{
		Name: strings.ToLower(fmt.Sprint(target, "-", action)), Target: target, Action: action, Instances: 1,
		At: plan.Duration(3 * time.Second), Every: plan.Duration(5 * time.Second), Jitter: plan.Duration(time.Second),
	}
	if action.Lasts() {
		f.For = plan.Duration(1500 * time.Millisecond)
	}
	return f
}

func TestSimulationRun_RepeatedFault_EachEventTakesEffectOnce(t *testing.T) {
	t.Parallel()
	for _, target := range targets() {
		for _, action := range actions() {
			t.Run(fmt.Sprint(target, " ", action), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					o := rehearsal(t, repeated(target, action))
					s, err := New(o.Config, o.Dependencies)
					if err != nil {
						t.Fatal(err)
					}
					r := s.Run(t.Context())
					if r.Outcome != ledger.Pass {
						t.Errorf("verdict is %s %q", r.Outcome, r.Reasons)
					}
					if l := r.Ledger; l == nil || l.Lost != 0 || l.TakenTwice != 0 || l.UnmatchedUnexpected != 0 || l.EntriesRecorded == 0 || l.Matched == 0 {
						t.Errorf("ledger is %+v", l)
					}
					records := s.Faults()
					if len(records) < 5 {
						t.Errorf("%d faults occurred, want at least 5", len(records))
					}
					for _, f := range records {
						if f.State != fault.Healed || len(f.Hit) != 1 || f.HealedAt.Before(f.InjectedAt) {
							t.Errorf("fault is %+v", f)
						}
					}
				})
			})
		}
	}
}

func TestSimulationRun_FaultsInAllComponents_EachEventTakesEffectOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var all []plan.Fault
		for i, target := range targets() {
			all = append(all, repeated(target, actions()[i%5]), repeated(target, actions()[(i+1)%5]))
		}
		r := run(t, rehearsal(t, all...)) // ignore the verdict, which is FAIL if the generators miss their schedule
		if l := r.Ledger; l == nil || !l.AtRest || l.Lost != 0 || l.TakenTwice != 0 || l.UnmatchedUnexpected != 0 || l.Matched == 0 {
			t.Errorf("ledger is %+v, verdict %q", l, r.Reasons)
		}
	})
}

func TestNewSimulation_FaultWithoutTarget_ReturnsAnError(t *testing.T) {
	t.Parallel()
	o := rehearsal(t, repeated(plan.TargetRabbitMQLeader, plan.ActionKill))
	o.Targets.Instances = nil
	if _, err := New(o.Config, o.Dependencies); err == nil || err.Error() != `fault "rabbitmqleader-kill": the simulation has no RabbitMQLeader` {
		t.Errorf("New returns %v", err)
	}
}

func TestSimulationRun_ComponentWithoutReplicas_DoesNoWorkAndGetsNoFault(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		target   plan.FaultTarget
		remove   func(*Config)
		workDone func(*ledger.Report) int64
	}{
		"no entry generators": {
			plan.TargetEntryGenerator, func(c *Config) { c.Plan.Entry.Replicas = 0 }, func(r *ledger.Report) int64 { return r.EntriesConfirmed },
		},
		"no exit generators": {
			plan.TargetExitGenerator, func(c *Config) { c.Plan.Exit.Replicas = 0 },
			func(r *ledger.Report) int64 { return r.ExitsMatchedConfirmed + r.ExitsUnmatchedConfirmed },
		},
		"no processors": {plan.TargetProcessor, func(c *Config) { c.Processors = 0 }, func(r *ledger.Report) int64 { return r.EntriesRecorded }},
	} {
		for _, fault := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", fault ", fault), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					o := rehearsal(t)
					if fault {
						o.Plan.Faults = []plan.Fault{{Name: "crash", Target: tt.target, Action: plan.ActionKill, Instances: 1, At: plan.Duration(12 * time.Second)}}
					}
					tt.remove(&o.Config)
					r := run(t, o)
					if r.Ledger == nil || tt.workDone(r.Ledger) != 0 || r.ElapsedSeconds != o.Plan.Duration.D().Seconds() {
						t.Errorf("after %v s, the ledger is %+v", r.ElapsedSeconds, r.Ledger)
					}
					reason := fmt.Sprintf("crash/0: The fault was not injected: the simulation has no %s", tt.target)
					if reasons := strings.Join(r.Reasons, "\n"); strings.Contains(reasons, reason) != fault {
						t.Errorf("the reasons are %q", r.Reasons)
					}
				})
			})
		}
	}
}

// inert is a server that a fault cannot stop: every call of Stop fails.
type inert struct{ fault.Instance }

func (inert) Name() string { return "redis" }

func (inert) Stop(context.Context, bool, uint64) (func(context.Context) error, error) {
	return nil, errors.New("the process does not end")
}

func TestSimulationRun_InjectionOfFaultFails_VerdictIsFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := rehearsal(t, repeated(plan.TargetRedis, plan.ActionKill))
		o.Targets.Instances[plan.TargetRedis] = []fault.Instance{inert{}}
		r := run(t, o)
		if reasons := strings.Join(r.Reasons, "\n"); r.Outcome != ledger.Fail || !strings.Contains(reasons, "Kill redis: the process does not end") {
			t.Errorf("verdict is %s %q, want FAIL with the reason", r.Outcome, r.Reasons)
		}
	})
}

// hasty is a store that does not wait until effects are durable.
type hasty struct{ store.Store }

func (hasty) WaitDurable(context.Context, int, store.Mark) error { return nil }

func TestSimulationRun_AcknowledgementBeforeDurability_VerdictIsFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := rehearsal(t, repeated(plan.TargetRedis, plan.ActionKill))
		o.Store = hasty{o.Store}
		r := run(t, o)
		reasons := strings.Join(r.Reasons, "\n")
		if r.Outcome != ledger.Fail || !strings.Contains(reasons, "lost") {
			t.Errorf("verdict is %s %q, want FAIL because of lost events", r.Outcome, r.Reasons)
		}
	})
}

func TestSimulationRun_CrashErasesTheStore_VerdictIsFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := rehearsal(t, repeated(plan.TargetRedis, plan.ActionKill))
		s, g := memorystore.New(memorystore.Config{Partitions: o.Plan.Partitions, Crashable: true}), gate.New()
		o.Store = gate.Store(s, g)
		o.Targets.Instances[plan.TargetRedis] = []fault.Instance{gate.NewServer("redis", g, func(draw uint64) {
			if err := s.Purge(context.Background()); err != nil {
				t.Error(err)
			}
			s.Crash(draw)
		})}
		r := run(t, o)
		if reasons := strings.Join(r.Reasons, "\n"); r.Outcome != ledger.Fail || !strings.Contains(reasons, "the store has lost durable data") {
			t.Errorf("verdict is %s %q, want FAIL because of lost data", r.Outcome, r.Reasons)
		}
	})
}

// sluggish is a server that takes a long time to start again.
type sluggish struct {
	*gate.Gate

	down time.Duration
}

func (sluggish) Name() string { return "redis" }

func (s sluggish) Stop(ctx context.Context, _ bool, _ uint64) (started func(context.Context) error, err error) {
	start, err := s.Isolate(ctx)
	return func(ctx context.Context) error {
		select {
		case <-time.After(s.down):
			return start()
		case <-ctx.Done():
			return errors.Join(ctx.Err(), start())
		}
	}, err
}

// The broker starts again only after the schedule, or never. The generator cannot stop while the broker is down.
func TestSimulationRun_BrokerIsDownAtTheEnd_StillReadsTheLedgerInTime(t *testing.T) {
	t.Parallel()
	for down, want := range map[time.Duration]string{
		15 * time.Second: "restart/0: The fault was ended early: entry-generator-0 did not start again: the schedule ended before the instance could start",
		time.Hour:        "crash/0: The fault was ended early: ",
	} {
		synctest.Test(t, func(t *testing.T) {
			o := rehearsal(t,
				plan.Fault{Name: "crash", Target: plan.TargetRabbitMQ, Action: plan.ActionKill, Instances: 1, At: plan.Duration(20 * time.Second)},
				plan.Fault{Name: "restart", Target: plan.TargetEntryGenerator, Action: plan.ActionRestart, Instances: 1, At: plan.Duration(22 * time.Second)},
			)
			o.DrainTimeout = time.Minute
			g := gate.New()
			o.Broker = gate.Broker(o.Broker, g, memorybroker.DefaultWindow)
			o.Targets.Instances[plan.TargetRabbitMQ] = []fault.Instance{sluggish{g, down}}
			begin := time.Now()
			r := run(t, o)
			reasons := strings.Join(r.Reasons, "\n")
			if r.Outcome != ledger.Fail || r.Ledger == nil || !strings.Contains(reasons, want) {
				t.Errorf("down for %s: ledger %+v, verdict %s:\n%s", down, r.Ledger, r.Outcome, reasons)
			}
			if took, most := time.Since(begin), o.Plan.Duration.D()+overrun+o.DrainTimeout+minAudit; took > most {
				t.Errorf("down for %s: the simulation took %s, want %s at most", down, took, most)
			}
		})
	}
}

func TestSimulationRun_RecoveryExceedsTheObjective_VerdictIsFail(t *testing.T) {
	t.Parallel()
	for down, want := range map[time.Duration]string{
		500 * time.Millisecond: "",
		8 * time.Second:        "recovery exceeded the objective of 5 s: crash/0 took ",
	} {
		synctest.Test(t, func(t *testing.T) {
			o := rehearsal(t, plan.Fault{Name: "crash", Target: plan.TargetRedis, Action: plan.ActionKill, Instances: 1, At: plan.Duration(12 * time.Second)})
			s, g := memorystore.New(memorystore.Config{Partitions: o.Plan.Partitions}), gate.New()
			o.Store = gate.Store(s, g)
			o.Targets.Instances[plan.TargetRedis] = []fault.Instance{sluggish{g, down}}
			o.Plan.Objectives.MaxRecovery = plan.Duration(5 * time.Second)
			r := run(t, o)
			if reasons := strings.Join(r.Reasons, "\n"); (r.Outcome == ledger.Pass) != (want == "") || !strings.Contains(reasons, want) {
				t.Errorf("down for %s: the verdict is %s %q", down, r.Outcome, r.Reasons)
			}
		})
	}
}

// sham is a server that reports a successful pause or isolation, but continues to work.
type sham struct{ fault.Instance }

func (sham) Name() string { return "redis" }

func (sham) Pause(context.Context) (release func() error, err error) {
	return func() error { return nil }, nil
}

func (s sham) Isolate(ctx context.Context) (release func() error, err error) { return s.Pause(ctx) }

func TestSimulationRun_ReportedFaultHasNoEffect_VerdictIsFail(t *testing.T) {
	t.Parallel()
	for _, target := range []plan.FaultTarget{plan.TargetRedis, plan.TargetRabbitMQ} {
		for _, action := range []plan.FaultAction{plan.ActionPause, plan.ActionIsolate} {
			synctest.Test(t, func(t *testing.T) {
				o := rehearsal(t, plan.Fault{
					Name: "stall", Target: target, Action: action, Instances: 1, At: plan.Duration(10 * time.Second), For: plan.Duration(6 * time.Second),
				})
				o.Targets.Instances[target] = []fault.Instance{sham{}}
				r := run(t, o)
				want := fmt.Sprintf("stall/0: The fault had no effect, although it was reported as injected: %s worked in", target)
				if reasons := strings.Join(r.Reasons, "\n"); r.Outcome != ledger.Fail || !strings.Contains(reasons, want) {
					t.Errorf("%s of %s: the verdict is %s %q", action, target, r.Outcome, r.Reasons)
				}
			})
		}
	}
}

func TestSimulationRun_SuspendedSimulation_InjectsNoFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := rehearsal(t, repeated(plan.TargetRedis, plan.ActionKill))
		o.Plan.Suspended = true
		r := run(t, o)
		for _, f := range r.Faults {
			if f.Outcome != fault.OutcomeAborted || !f.InjectedAt.IsZero() || !strings.Contains(f.Message, "suspended") {
				t.Errorf("fault is %+v", f)
			}
		}
		if len(r.Faults) == 0 || r.Outcome != ledger.Fail {
			t.Errorf("%d faults, and the verdict is %s", len(r.Faults), r.Outcome)
		}
	})
}

func TestSimulationRun_ContextEnds_InjectsNoFurtherFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := rehearsal(t, plan.Fault{
			Name: "stall", Target: plan.TargetProcessor, Action: plan.ActionPause, Instances: 1,
			At: plan.Duration(3 * time.Second), Every: plan.Duration(10 * time.Second), For: plan.Duration(8 * time.Second),
		})
		s, err := New(o.Config, o.Dependencies)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
		defer stop()
		r := s.Run(ctx)
		time.Sleep(time.Minute)
		if records := s.Faults(); len(records) != 1 || records[0].State != fault.Aborted {
			t.Errorf("the records are %+v", records)
		}
		if l := r.Ledger; r.Outcome != ledger.Fail || l == nil || !l.AtRest {
			t.Errorf("verdict is %s %q, ledger %+v", r.Outcome, r.Reasons, l)
		}
	})
}

func TestSimulationRun_WithFault_ExportsResultOfFaultAsMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := rehearsal(t, plan.Fault{Name: "crash", Target: plan.TargetRedis, Action: plan.ActionKill, Instances: 1, At: plan.Duration(8 * time.Second)})
		registry := prometheus.NewRegistry()
		o.Registerer = registry
		value := func(name string) string {
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			var series []string
			for _, f := range families {
				if f.GetName() != name {
					continue
				}
				for _, m := range f.GetMetric() {
					labels := map[string]string{}
					for _, l := range m.GetLabel() {
						labels[l.GetName()] = l.GetValue()
					}
					series = append(series, fmt.Sprintf("%s %s %s=%g,%d", labels["action"], labels["target"], labels["outcome"],
						m.GetGauge().GetValue(), m.GetSummary().GetSampleCount()))
				}
			}
			return strings.Join(series, "; ")
		}
		time.AfterFunc(9*time.Second, func() {
			if got := value("parking_simulation_faults_in_progress"); got != "Kill Redis =1,0" {
				t.Errorf("after 9 s the faults in progress are %q", got)
			}
		})
		time.AfterFunc(25*time.Second, func() {
			if got := value("parking_simulation_fault_recovery_seconds"); got != "Kill Redis =0,1" {
				t.Errorf("after 25 s the recovery is %q", got)
			}
		})
		run(t, o)
		want := "Kill Redis Aborted=0,0; Kill Redis NotInjected=0,0; Kill Redis NotRecovered=0,0; Kill Redis Recovered=1,0"
		if got := value("parking_simulation_faults"); got != want {
			t.Errorf("at the end the faults are %q, want %q", got, want)
		}
	})
}
