package generator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/sequence"
	"github.com/parking-operator/parking-operator/internal/store"
)

// The tests use the fake clock of synctest.Test. The clock advances to the next timer only when all goroutines are
// blocked.

// testPlan returns a plan with the given rate of entries and the same rate of exits.
func testPlan(rate int64, edits ...func(*plan.Plan)) *plan.Plan {
	schedule := plan.Schedule{Rate: rate, Arrivals: plan.ArrivalsUniform, Replicas: 1}
	p := &plan.Plan{
		Simulation: "default.test",
		Seed:       42,
		Partitions: 1,
		Entry:      plan.Entry{Schedule: schedule},
		Exit:       plan.Exit{Schedule: schedule, MatchPercent: 20, MinStay: plan.Duration(2 * time.Second)},
		MaxStay:    plan.Duration(time.Hour),
	}
	for _, edit := range edits {
		edit(p)
	}
	return p
}

func partitions(n int) func(*plan.Plan) { return func(p *plan.Plan) { p.Partitions = n } }

func matchPercent(n int) func(*plan.Plan) { return func(p *plan.Plan) { p.Exit.MatchPercent = n } }

func lasting(d time.Duration) func(*plan.Plan) {
	return func(p *plan.Plan) { p.Duration = plan.Duration(d) }
}

func suspended(p *plan.Plan) { p.Suspended = true }

func minStay(d time.Duration) func(*plan.Plan) {
	return func(p *plan.Plan) { p.Exit.MinStay = plan.Duration(d) }
}

func replicas(n int) func(*plan.Plan) {
	return func(p *plan.Plan) { p.Entry.Replicas, p.Exit.Replicas = n, n }
}

func poisson(p *plan.Plan) {
	p.Entry.Arrivals, p.Exit.Arrivals = plan.ArrivalsPoisson, plan.ArrivalsPoisson
}

type constructor func(Config, Dependencies) (*Generator, error)

// options contains the configuration and the dependencies of a generator.
type options struct {
	Plan            *plan.Plan
	Publisher       broker.Publisher
	Store           Store
	Logger          *slog.Logger
	Registerer      prometheus.Registerer
	ExitAtEnd       bool
	ShutdownTimeout time.Duration
	run             string
}

func (c constructor) with(o options) (*Generator, error) {
	return c(
		Config{Plan: o.Plan, ExitAtEnd: o.ExitAtEnd, ShutdownTimeout: o.ShutdownTimeout, run: o.run},
		Dependencies{Publisher: o.Publisher, Store: o.Store, Logger: o.Logger, Registerer: o.Registerer},
	)
}

func build(t *testing.T, construct constructor, o options) *Generator {
	t.Helper()
	g, err := construct.with(o)
	if err != nil {
		t.Fatalf("create the generator: %v", err)
	}
	return g
}

// running is a generator whose Run method has been called.
type running struct {
	*Generator
	stop context.CancelFunc
	done chan error
}

func start(t *testing.T, g *Generator) *running {
	ctx, stop := context.WithCancel(t.Context())
	r := &running{Generator: g, stop: stop, done: make(chan error, 1)}
	go func() { r.done <- g.Run(ctx) }()
	return r
}

// finish stops the generator. It fails the test if Run returns an error.
func (r *running) finish(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Errorf("Run returned %v", err)
	}
}

// pass advances the fake clock by the given time, and then waits until all goroutines are blocked.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func within(t *testing.T, what string, got, low, high int) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: %d, want %d to %d", what, got, low, high)
	}
}

func TestGeneratorRun_AchievesTheRateOfThePlan(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		rate     int64
		replicas int
		seconds  int
	}{{10, 1, 60}, {10, 3, 60}, {1000, 2, 60}, {5000, 3, 10}} {
		t.Run(fmt.Sprintf("%d per second, %d replicas, %d s", tt.rate, tt.replicas, tt.seconds), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, publisher := newFakeStore(), &fakePublisher{}
				var group []*running
				for range tt.replicas {
					o := options{Plan: testPlan(tt.rate, replicas(tt.replicas)), Publisher: publisher, Store: s}
					group = append(group, start(t, build(t, NewEntry, o)))
				}
				pass(time.Duration(tt.seconds) * time.Second)
				sent, want := publisher.sent(), tt.seconds*int(tt.rate)
				within(t, "events", len(sent), want-tt.replicas, want)
				for _, m := range sent {
					if late := m.at.Sub(m.Scheduled); late != 0 {
						t.Fatalf("event %s was %s late although the broker never blocked", m.ID, late)
					}
				}
				for _, r := range group {
					stats, want := r.Stats(), float64(tt.rate)/float64(tt.replicas)
					for name, got := range map[string]float64{"target": stats.TargetRate, "achieved": stats.AchievedRate} {
						if math.Abs(got-want) > 0.005*want {
							t.Errorf("the %s rate of a replica is %f, want %f", name, got, want)
						}
					}
					r.finish(t)
				}
			})
		})
	}
}

func TestGeneratorRun_EntriesOrExits_PublishesWellFormedEvents(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		construct constructor
		eventType event.Type
		parse     func([]byte) (id, plate string, at time.Time, err error)
	}{
		{"entries", NewEntry, event.TypeEntry, func(b []byte) (string, string, time.Time, error) {
			e, err := event.ParseEntry(b)
			return e.ID, e.Plate, e.At, err
		}},
		{"exits", NewExit, event.TypeExit, func(b []byte) (string, string, time.Time, error) {
			e, err := event.ParseExit(b)
			return e.ID, e.Plate, e.At, err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				publisher := &fakePublisher{}
				o := options{Plan: testPlan(100, partitions(3), matchPercent(0)), Publisher: publisher, Store: newFakeStore(), run: testRun}
				r := start(t, build(t, tt.construct, o))
				pass(10 * time.Second)
				r.finish(t)

				next := map[int]int64{}
				for _, m := range publisher.sent() {
					id, plate, at, err := tt.parse(m.Body)
					if err != nil {
						t.Fatalf("body %s: %v", m.Body, err)
					}
					want := event.ID{Run: testRun, Partition: event.PartitionOf(plate, 3), Seq: next[m.queue.Partition]}
					if id != want.String() || m.ID != id {
						t.Errorf("the event has the ID %s and its message has the ID %s, want %s", id, m.ID, want)
					}
					if m.queue != (broker.Queue{Type: tt.eventType, Partition: want.Partition}) {
						t.Errorf("event %s was published to %+v", id, m.queue)
					}
					if !at.Equal(m.at) || !m.Timestamp.Equal(m.at) {
						t.Errorf("event %s has the time %s and its message has the time %s, want %s", id, at, m.Timestamp, m.at)
					}
					if m.Type != tt.eventType || m.AppID != event.AppID || m.ContentType != event.ContentType {
						t.Errorf("event %s has the properties %+v", id, m.Message)
					}
					next[want.Partition]++
				}
				if len(next) != 3 {
					t.Errorf("events went to %d partitions, want 3", len(next))
				}
			})
		})
	}
}

func TestGeneratorRun_SameSeed_PublishesTheSameEvents(t *testing.T) {
	t.Parallel()
	for name, construct := range map[string]constructor{"entries": NewEntry, "exits": NewExit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plates := func(seed uint64) (plates []string) {
				synctest.Test(t, func(t *testing.T) {
					publisher := &fakePublisher{}
					p := testPlan(1000, poisson, matchPercent(0))
					p.Seed = seed
					r := start(t, build(t, construct, options{Plan: p, Publisher: publisher, Store: newFakeStore()}))
					pass(5 * time.Second)
					r.finish(t)
					for _, m := range publisher.sent() {
						plates = append(plates, m.Scheduled.Format(time.RFC3339Nano)+string(m.Body[len(`{"id":"`)+event.RunLength:]))
					}
				})
				return plates
			}
			first := plates(1)
			if diff := cmp.Diff(first, plates(1)); diff != "" {
				t.Errorf("two runs of seed 1 differ (-first +second):\n%s", diff)
			}
			if slices.Equal(first, plates(2)) {
				t.Error("runs of seed 1 and seed 2 are equal")
			}
		})
	}
}

func TestGeneratorRun_ReplicasAndRestarts_NeverRepeatAPlate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{}
		s.volatile = true
		for range 5 {
			o := options{Plan: testPlan(1000, replicas(2)), Publisher: publisher, Store: s}
			a, b := start(t, build(t, NewEntry, o)), start(t, build(t, NewEntry, o))
			pass(3 * time.Second)
			s.crash()
			pass(3 * time.Second)
			a.finish(t)
			b.finish(t)
		}
		seen := map[string]bool{}
		for _, m := range publisher.sent() {
			e, err := event.ParseEntry(m.Body)
			if err != nil {
				t.Fatal(err)
			}
			if seen[e.Plate] {
				t.Fatalf("plate %s entered twice", e.Plate)
			}
			seen[e.Plate] = true
		}
		within(t, "entries", len(seen), 29_900, 30_100)
	})
}

func TestGeneratorRun_UsesLeasedPositionsOnlyAfterTheLeaseIsDurable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{}
		s.volatile = true
		leases := 0
		s.after = func(call string) error {
			if call == "lease" {
				if leases++; leases%2 == 1 {
					s.crash() // the lease that the store has just granted is lost
				}
			}
			return nil
		}
		a := start(t, build(t, NewEntry, options{Plan: testPlan(1000), Publisher: publisher, Store: s}))
		pass(20 * time.Second)
		a.finish(t)
		seen := map[string]bool{}
		for _, p := range s.pool(0) {
			if seen[p] {
				t.Fatalf("plate %s entered twice", p)
			}
			seen[p] = true
		}
		within(t, "entries", len(seen), 19_000, 20_000)
	})
}

func TestGeneratorRun_PlateIsInThePoolOnlyAfterItsEntryIsConfirmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{hold: true}
		r := start(t, build(t, NewEntry, options{Plan: testPlan(10), Publisher: publisher, Store: s, run: testRun}))
		pass(time.Second)
		if got := s.pool(0); len(got) != 0 {
			t.Errorf("the pool contains %v before the broker has confirmed an entry", got)
		}
		within(t, "outstanding events", int(r.Stats().Outstanding), 10, 10)
		for _, confirmed := range publisher.release() {
			confirmed()
		}
		pass(commitInterval / 2) // during this time, no further event becomes due
		within(t, "plates in the pool after the confirmations", len(s.pool(0)), 10, 10)
		within(t, "outstanding events after the confirmations", int(r.Stats().Outstanding), 0, 0)
		r.finish(t)
	})
}

func TestGeneratorRun_RegistersTheRunBeforeTheFirstEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.volatile = true
		registrations := 0
		s.after = func(call string) error {
			if call == "confirm" {
				if registrations++; registrations <= 4 {
					s.crash()
				}
			}
			return nil
		}
		publisher := &fakePublisher{published: func(m sent) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if got := len(s.kept.confirmed); got != 4 {
				t.Errorf("event %s was published while the run was registered in %d partitions, want 4", m.ID, got)
			}
		}}
		r := start(t, build(t, NewEntry, options{Plan: testPlan(100, partitions(4)), Publisher: publisher, Store: s}))
		pass(2 * time.Second)
		r.finish(t)
		within(t, "events", len(publisher.sent()), 200, 200)
	})
}

// A generator that was stopped while events were overdue still reports its lag.
func TestGeneratorTotals_StoppedWhileBehind_ContainsTheLag(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		publisher := &fakePublisher{blocked: make(chan struct{})}
		r := start(t, build(t, NewEntry, options{Plan: testPlan(1000), Publisher: publisher, Store: newFakeStore()}))
		pass(5 * time.Second)
		for range 2 { // check the lag while the generator runs, and again after the generator has stopped
			if got, want := r.Totals().Entry.Lag, 5*time.Second; (got - want).Abs() > 2*time.Millisecond {
				t.Errorf("the longest lag is %s after 5 s of blocking, want about %s", got, want)
			}
			r.stop()
			synctest.Wait()
		}
		r.finish(t)
	})
}

func TestGeneratorRun_BlockedPublisher_DelaysEventsButDropsNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		publisher := &fakePublisher{}
		r := start(t, build(t, NewEntry, options{Plan: testPlan(1000), Publisher: publisher, Store: newFakeStore()}))
		pass(10 * time.Second)
		unblock := make(chan struct{})
		publisher.set(func(p *fakePublisher) { p.blocked = unblock })
		pass(5 * time.Second)
		if got, want := r.Stats().Lag, 5*time.Second; (got - want).Abs() > 2*time.Millisecond {
			t.Errorf("the lag is %s after 5 s of blocking, want about %s", got, want)
		}
		within(t, "events published after 15 s", int(r.Stats().Published), 10_000, 10_001)
		within(t, "events due after 15 s", int(r.Stats().Due), 15_000, 15_000)
		publisher.set(func(p *fakePublisher) { p.blocked = nil })
		close(unblock)
		synctest.Wait()
		if got := r.Stats().Lag; got != 0 {
			t.Errorf("the lag is %s after the backlog was published, want 0", got)
		}
		if got, want := r.Totals().Entry.Lag, 5*time.Second; (got - want).Abs() > 2*time.Millisecond {
			t.Errorf("the longest lag is %s after the backlog was published, want about %s", got, want)
		}
		pass(5 * time.Second)
		if got := r.Totals().Entry.Lag; got > 2*time.Millisecond {
			t.Errorf("the longest lag is %s, 5 s after the backlog was published, want about 0", got)
		}
		r.finish(t)
		sent := publisher.sent()
		within(t, "events", len(sent), 20_000, 20_000)
		for i, m := range sent {
			if got, want := m.Scheduled.Sub(sent[0].Scheduled), time.Duration(i)*time.Millisecond; got != want {
				t.Fatalf("event %d is scheduled %s after the first, want %s regardless of the delay", i, got, want)
			}
		}
	})
}

func TestGeneratorRun_StoreDown_StopsPublishingAtTheMaximumOfOutstandingEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{}
		var down atomic.Bool
		s.before = func(call string) error {
			if down.Load() && call != "lease" && call != "mark" && call != "wait" {
				return fmt.Errorf("%s: %w", call, store.ErrUnavailable)
			}
			return nil
		}
		r := start(t, build(t, NewEntry, options{Plan: testPlan(2000), Publisher: publisher, Store: s, run: testRun}))
		pass(time.Second)
		down.Store(true)
		pass(5 * time.Second)
		within(t, "events after 6 s", int(r.Stats().Published), 12_000, 12_000)
		pass(time.Minute)
		within(t, "outstanding events after a minute", int(r.Stats().Outstanding), maxOutstanding, maxOutstanding)
		within(t, "events in the store", len(s.events(testRun, 0)), int(2_000*(1-commitInterval.Seconds())), 2_000)
		if lag := r.Stats().Lag; lag < 30*time.Second {
			t.Errorf("the lag is %s, want at least 30s", lag)
		}
		down.Store(false)
		pass(2 * time.Second)
		if lag := r.Stats().Lag; lag != 0 {
			t.Errorf("the lag is %s after the store has recovered, want 0", lag)
		}
		r.finish(t)
		within(t, "events", len(publisher.sent()), 135_999, 136_001)
		within(t, "events in the store at the end", len(s.events(testRun, 0)), len(publisher.sent()), len(publisher.sent()))
	})
}

func TestGeneratorUpdate_NewSchedule_TakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before *plan.Plan
		after  *plan.Plan
		want   int // expected number of events in the first second after the update of the plan
	}{
		{"from a low to a high rate", testPlan(1), testPlan(5000), 5000},
		{"from a high to a low rate", testPlan(5000), testPlan(1), 1},
		{"from a rate of 0", testPlan(0), testPlan(100), 100},
		{"to a rate of 0", testPlan(100), testPlan(0), 0},
		{"to suspended", testPlan(100), testPlan(100, suspended), 0},
		{"from suspended", testPlan(100, suspended), testPlan(100), 100},
		{"to an end in the past", testPlan(100), testPlan(100, lasting(time.Second)), 0},
		{"from an end in the past", testPlan(100, lasting(time.Second)), testPlan(100), 100},
		{"to more replicas", testPlan(100), testPlan(100, replicas(4)), 25},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				publisher := &fakePublisher{}
				r := start(t, build(t, NewEntry, options{Plan: tt.before, Publisher: publisher, Store: newFakeStore()}))
				pass(10 * time.Second)
				before := len(publisher.sent())
				r.Update(tt.after)
				pass(time.Second)
				within(t, "events in the second after the update", len(publisher.sent())-before, tt.want-1, tt.want+1)
				r.finish(t)
			})
		})
	}
}

func TestGeneratorUpdate_OtherSeedAndPartitions_HaveNoEffect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		publisher := &fakePublisher{}
		r := start(t, build(t, NewEntry, options{Plan: testPlan(100), Publisher: publisher, Store: newFakeStore()}))
		pass(time.Second)
		edited := testPlan(100, partitions(5))
		edited.Seed = 1
		r.Update(edited)
		pass(time.Second)
		r.finish(t)
		for i, m := range publisher.sent() {
			e, err := event.ParseEntry(m.Body)
			if want := sequence.New(42).EntryPlate(int64(i)); err != nil || e.Plate != want || m.queue.Partition != 0 {
				t.Fatalf("event %d has plate %s in partition %d (%v), want %s in partition 0", i, e.Plate, m.queue.Partition, err, want)
			}
		}
	})
}

func TestGeneratorRun_ScheduleEnds_ReturnsOnlyIfExitAtEndIsSet(t *testing.T) {
	t.Parallel()
	t.Run("a generator without ExitAtEnd waits, and continues when the schedule is prolonged", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			publisher := &fakePublisher{}
			began := time.Now()
			p := testPlan(100, lasting(10*time.Second))
			p.StartTime = began
			var log bytes.Buffer
			o := options{Plan: p, Publisher: publisher, Store: newFakeStore(), Logger: slog.New(slog.NewTextHandler(&log, nil))}
			r := start(t, build(t, NewEntry, o))
			pass(9 * time.Second)
			if r.Stats().Done {
				t.Error("Done is true before the end of the schedule")
			}
			pass(51 * time.Second)
			stats := r.Stats()
			if !stats.Done || stats.Published != 1000 || stats.Active != 10*time.Second ||
				stats.TargetRate != 100 || stats.AchievedRate != 100 || stats.Rate != 0 {
				t.Errorf("the figures after the end are %+v", stats)
			}
			p = testPlan(100, lasting(70*time.Second))
			p.StartTime = began
			r.Update(p)
			if r.Stats().Done {
				t.Error("Done is true although the schedule was prolonged")
			}
			pass(time.Minute)
			within(t, "events", len(publisher.sent()), 2_000, 2_000)
			r.finish(t)
			within(t, "log lines about the end", strings.Count(log.String(), "The schedule has ended"), 2, 2)
		})
	})
	t.Run("Run returns after the last event if ExitAtEnd is set", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			publisher, began := &fakePublisher{}, time.Now()
			o := options{Plan: testPlan(100, lasting(10*time.Second)), Publisher: publisher, Store: newFakeStore(), ExitAtEnd: true}
			g := build(t, NewEntry, o)
			if err := g.Run(t.Context()); err != nil {
				t.Errorf("Run returned %v", err)
			}
			if took := time.Since(began); took != 10*time.Second || len(publisher.sent()) != 1000 || !g.Stats().Done {
				t.Errorf("%d events took %s, want 1000 in 10 s", len(publisher.sent()), took)
			}
		})
	})
	t.Run("late events count in the achieved rate", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			unblock := make(chan struct{})
			publisher := &fakePublisher{blocked: unblock}
			o := options{Plan: testPlan(100, lasting(9500*time.Millisecond)), Publisher: publisher, Store: newFakeStore()}
			r := start(t, build(t, NewEntry, o))
			pass(10 * time.Second)
			close(unblock)
			pass(time.Minute)
			if stats := r.Stats(); stats.Published != 950 || stats.TargetRate != 100 || stats.AchievedRate != 100 {
				t.Errorf("the figures are %+v, want all 950 events published", stats)
			}
			r.finish(t)
		})
	})
	t.Run("events that remain overdue count as missed", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			unblock := make(chan struct{})
			publisher := &fakePublisher{blocked: unblock}
			o := options{Plan: testPlan(100, lasting(10*time.Second)), Publisher: publisher, Store: newFakeStore()}
			r := start(t, build(t, NewEntry, o))
			pass(20 * time.Second)
			close(unblock)
			synctest.Wait()
			if stats := r.Stats(); stats.Published != 1 || stats.Missed != 999 || stats.Due != 1000 || !stats.Done {
				t.Errorf("the figures are %+v, want 1 published and 999 missed", stats)
			}
			r.finish(t)
		})
	})
}

func TestGeneratorRun_Stopped_WaitsForConfirms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{hold: true}
		r := start(t, build(t, NewEntry, options{Plan: testPlan(1000), Publisher: publisher, Store: s, run: testRun}))
		pass(time.Second)
		r.stop()
		pass(10 * time.Second)
		select {
		case err := <-r.done:
			t.Fatalf("Run returned before the events were confirmed: %v", err)
		default:
		}
		held := publisher.release()
		slices.Reverse(held)
		for _, confirmed := range held {
			go confirmed()
		}
		if err := <-r.done; err != nil {
			t.Errorf("Run returned %v", err)
		}
		within(t, "events in the store", len(s.events(testRun, 0)), len(publisher.sent()), len(publisher.sent()))
	})
}

func TestGeneratorRun_Stopped_FlushesThePublisher(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{hold: true, lazy: true}
		r := start(t, build(t, NewEntry, options{Plan: testPlan(1000), Publisher: publisher, Store: s, run: testRun}))
		pass(time.Second)
		r.finish(t)
		within(t, "events in the store", len(s.events(testRun, 0)), len(publisher.sent()), len(publisher.sent()))
	})
}

func TestGeneratorStats_AfterRunHasReturned_DoNotChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		unblock := make(chan struct{})
		publisher := &fakePublisher{blocked: unblock}
		r := start(t, build(t, NewEntry, options{Plan: testPlan(1000), Publisher: publisher, Store: newFakeStore()}))
		pass(time.Second)
		r.finish(t)
		at := r.Stats()
		if at.Due != 1000 || at.Active != time.Second || at.Missed != 1000 || at.Lag != 0 {
			t.Errorf("the figures at the end are %+v, want 1000 events due in 1 s, all of them missed", at)
		}
		pass(time.Minute)
		if diff := cmp.Diff(at, r.Stats()); diff != "" {
			t.Errorf("figures changed within a minute (-at the end +a minute later):\n%s", diff)
		}
	})
}

func TestGeneratorRun_PoissonArrivals_DifferBetweenReplicas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		intervals := map[time.Duration]int{}
		for range 2 {
			publisher := &fakePublisher{}
			p := testPlan(100, replicas(2), poisson)
			r := start(t, build(t, NewEntry, options{Plan: p, Publisher: publisher, Store: s}))
			began := time.Now()
			pass(10 * time.Second)
			r.finish(t)
			within(t, "events", len(publisher.sent()), 400, 600)
			for _, m := range publisher.sent() {
				intervals[m.Scheduled.Sub(began)]++
				began = m.Scheduled
			}
		}
		for interval, n := range intervals {
			if n > 1 {
				t.Errorf("%d intervals between events are %s long, want different intervals", n, interval)
			}
		}
	})
}

func TestGeneratorRun_StoppedWithoutConfirms_FailsAfterTheTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		publisher := &fakePublisher{hold: true}
		r := start(t, build(t, NewEntry, options{
			Plan: testPlan(10), Publisher: publisher, Store: newFakeStore(), run: testRun, ShutdownTimeout: 3 * time.Second,
		}))
		pass(time.Second)
		stopped := time.Now()
		r.stop()
		err := <-r.done
		if err == nil || !strings.Contains(err.Error(), "10 published events of run "+testRun) {
			t.Errorf("Run returned %v, want the number of unconfirmed events", err)
		}
		if took := time.Since(stopped); took != 3*time.Second {
			t.Errorf("stopping took %s, want 3s", took)
		}
	})
}

func TestGeneratorRun_Stopped_EndsEveryBlockedOperation(t *testing.T) {
	t.Parallel()
	down := func(call string) error { return fmt.Errorf("%s: %w", call, store.ErrUnavailable) }
	for _, tt := range []struct {
		name      string
		construct constructor
		plan      *plan.Plan
		store     func(*fakeStore)
		blocked   bool
	}{
		{"waiting until the next event is due", NewEntry, testPlan(0), func(*fakeStore) {}, false},
		{"waiting for the registration of the run", NewEntry, testPlan(100), func(s *fakeStore) { s.before = down }, false},
		{"waiting for a lease of positions", NewEntry, testPlan(100), func(s *fakeStore) {
			s.before = func(call string) error {
				if call == "lease" {
					return down(call)
				}
				return nil
			}
		}, false},
		{"waiting for the publisher", NewEntry, testPlan(100), func(*fakeStore) {}, true},
		{"waiting for a claim of plates", NewExit, testPlan(100, matchPercent(100)), func(s *fakeStore) {
			s.before = func(call string) error {
				if call == "claim" {
					return down(call)
				}
				return nil
			}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, publisher := newFakeStore(), &fakePublisher{}
				tt.store(s)
				if tt.blocked {
					publisher.blocked = make(chan struct{})
				}
				o := options{Plan: tt.plan, Publisher: publisher, Store: s, ShutdownTimeout: 2 * time.Second}
				r := start(t, build(t, tt.construct, o))
				pass(10 * time.Second)
				stopped := time.Now()
				r.finish(t)
				if took := time.Since(stopped); took > 2*time.Second {
					t.Errorf("stopping took %s", took)
				}
				within(t, "events", len(publisher.sent()), 0, 0)
			})
		})
	}
}

func TestGeneratorRun_PublisherFails_LeavesNoGapInTheSequenceNumbers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{}
		r := start(t, build(t, NewEntry, options{Plan: testPlan(100), Publisher: publisher, Store: s, run: testRun}))
		pass(time.Second)
		publisher.set(func(p *fakePublisher) { p.failure = broker.ErrClosed })
		if err := <-r.done; !errors.Is(err, broker.ErrClosed) {
			t.Errorf("Run returned %v, want %v", err, broker.ErrClosed)
		}
		within(t, "events in the store", len(s.events(testRun, 0)), 100, 100)
		within(t, "outstanding events", int(r.Stats().Outstanding), 0, 0)
	})
}

func TestGeneratorRun_StoreLostData_ReturnsAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		o := options{Plan: testPlan(100), Publisher: &fakePublisher{}, Store: s, run: testRun, ShutdownTimeout: time.Second}
		r := start(t, build(t, NewEntry, o))
		pass(time.Second)
		s.lose()
		if err := <-r.done; !errors.As(err, new(finalError)) {
			t.Errorf("Run returned %v, want a finalError", err)
		}
	})
}

func TestGeneratorMetrics_MatchTheStats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		s, publisher := newFakeStore(), &fakePublisher{}
		o := options{Plan: testPlan(100, minStay(0), matchPercent(50)), Publisher: publisher, Store: s, Registerer: registry}
		entry, exit := start(t, build(t, NewEntry, o)), start(t, build(t, NewExit, o))
		if _, err := constructor(NewEntry).with(o); err == nil {
			t.Error("a second entry generator registered the same metrics")
		}
		pass(10*time.Second + 10*time.Millisecond)
		for name, want := range map[string]float64{
			`parking_events_published_total{event_type="entry",intent="none"}`:     float64(entry.Stats().Confirmed),
			`parking_events_published_total{event_type="exit",intent="matched"}`:   float64(exit.Stats().Matched),
			`parking_events_published_total{event_type="exit",intent="unmatched"}`: float64(exit.Stats().Unmatched),
			`parking_publish_confirm_seconds{event_type="entry"}`:                  float64(entry.Stats().Confirmed),
			`parking_publish_confirm_seconds{event_type="exit"}`:                   float64(exit.Stats().Confirmed),
			`parking_generator_target_rate{event_type="entry"}`:                    100,
			`parking_generator_lag_seconds{event_type="exit"}`:                     0,
			`parking_generator_missed_total{event_type="exit"}`:                    0,
			`parking_generator_starved_total`:                                      float64(exit.Stats().Starved),
		} {
			if got, ok := gather(t, registry)[name]; !ok || got != want {
				t.Errorf("%s is %f (exists: %t), want %f", name, got, ok, want)
			}
		}
		if got := gather(t, registry)["parking_pool_plates"]; got < 100 {
			t.Errorf("parking_pool_plates is %f, want at least 100", got)
		}
		unblock := make(chan struct{})
		publisher.set(func(p *fakePublisher) { p.blocked = unblock })
		pass(3 * time.Second)
		if got := gather(t, registry)[`parking_generator_lag_seconds{event_type="entry"}`]; got < 2.9 {
			t.Errorf("the lag is %f s after 3 s of blocking", got)
		}
		close(unblock)
		entry.finish(t)
		exit.finish(t)
	})
}

// gather returns the values of all metrics by name and labels. The value of a histogram is its number of observations.
func gather(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			values[family.GetName()+labels(m)] = m.GetCounter().GetValue() + m.GetGauge().GetValue() +
				float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

func labels(m *dto.Metric) string {
	var pairs []string
	for _, l := range m.GetLabel() {
		pairs = append(pairs, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
	}
	if len(pairs) == 0 {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}
