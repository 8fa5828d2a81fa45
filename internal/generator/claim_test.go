package generator

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/sequence"
	"github.com/parking-operator/parking-operator/internal/store"
)

// exitDelay is the delay of the exit schedule if the minimum stay is 0.
var exitDelay = new(plan.Plan).ExitDelay()

// exitsOf returns the published exits that have the given intent.
func exitsOf(t *testing.T, p *fakePublisher, intent event.Intent) []event.Exit {
	t.Helper()
	var exits []event.Exit
	for _, m := range p.sent() {
		e, err := event.ParseExit(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		if m.Intent == intent {
			exits = append(exits, e)
		}
	}
	return exits
}

// platesOf returns n plates of entries. All of these plates belong to the given partition.
func platesOf(n, partition, partitions int) []string {
	var plates []string
	for position := int64(0); len(plates) < n; position++ {
		plate := sequence.New(42).EntryPlate(position)
		if event.PartitionOf(plate, partitions) == partition {
			plates = append(plates, plate)
		}
	}
	return plates
}

func TestGeneratorRun_MatchedExits_UseClaimedPlates(t *testing.T) {
	t.Parallel()
	for _, percent := range []int{0, 1, 20, 50, 100} {
		t.Run(fmt.Sprintf("%d percent", percent), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const exits = 5000
				s, publisher := newFakeStore(), &fakePublisher{}
				parked := map[string]bool{}
				for partition := range 3 {
					plates := platesOf(2*exits, partition, 3)
					s.park(partition, time.Now().Add(-time.Minute), plates...)
					for _, plate := range plates {
						parked[plate] = true
					}
				}
				p := testPlan(500, partitions(3), matchPercent(percent), minStay(0))
				r := start(t, build(t, NewExit, options{Plan: p, Publisher: publisher, Store: s}))
				pass(exitDelay + 10*time.Second)
				r.finish(t)

				want := 0
				for position := range int64(exits) {
					if sequence.New(42).Matched(position, percent) {
						want++
					}
				}
				matched, unmatched := exitsOf(t, publisher, event.IntentMatched), exitsOf(t, publisher, event.IntentUnmatched)
				within(t, "matched exits", len(matched), want, want)
				within(t, "unmatched exits", len(unmatched), exits-want, exits-want)
				for _, e := range matched {
					if !parked[e.Plate] {
						t.Fatalf("plate %s has a matched exit, but was not parked", e.Plate)
					}
					delete(parked, e.Plate)
				}
				for _, e := range unmatched {
					if parked[e.Plate] {
						t.Fatalf("plate %s has an unmatched exit, but was parked", e.Plate)
					}
				}
				left := len(s.pool(0)) + len(s.pool(1)) + len(s.pool(2))
				within(t, "plates in the pool at the end", left, len(parked), len(parked))
				if stats := r.Stats(); stats.Starved != 0 || stats.Matched != int64(want) || stats.Unmatched != int64(exits-want) {
					t.Errorf("the figures are %+v, want %d matched, %d unmatched", stats, want, exits-want)
				}
			})
		})
	}
}

func TestGeneratorRun_EmptyPool_CountsExitsWithoutPlateAndPublishesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{}
		s.park(0, time.Now().Add(-time.Minute), platesOf(25, 0, 1)...)
		p := testPlan(100, matchPercent(100), minStay(time.Second))
		r := start(t, build(t, NewExit, options{Plan: p, Publisher: publisher, Store: s, run: testRun}))
		pass(time.Second + exitDelay + 10*time.Second)
		if stats := r.Stats(); stats.Lag != 0 || stats.Published != 25 || stats.Starved != 975 || stats.Due != 1000 {
			t.Errorf("the figures are %+v, want 25 published, 975 starved", stats)
		}
		s.mu.Lock()
		within(t, "starved draws reported so far", int(s.starved[testRun]), 400, 975)
		s.mu.Unlock()
		s.park(0, time.Now().Add(-time.Minute), platesOf(100, 0, 1)[25:]...)
		pass(500 * time.Millisecond)
		within(t, "exits after more vehicles have parked", len(publisher.sent()), 25+49, 25+50)
		r.finish(t)
		within(t, "starved draws reported at the end", int(s.starved[testRun]), int(r.Stats().Starved), int(r.Stats().Starved))
		within(t, "events in the store", len(s.events(testRun, 0)), len(publisher.sent()), len(publisher.sent()))
		within(t, "claims", s.called("claim"), 1, 1200)
	})
}

func TestGeneratorRun_EmptyPool_DoesNotClaimForEachDueExit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{}
		p := testPlan(5000, matchPercent(100), minStay(0))
		r := start(t, build(t, NewExit, options{Plan: p, Publisher: publisher, Store: s}))
		pass(exitDelay + 2*time.Second)
		within(t, "starved draws", int(r.Stats().Starved), 10_000, 10_000)
		within(t, "claims", s.called("claim"), 100, 250)
		r.finish(t)
	})
}

func TestGeneratorRun_NoPlateHeld_WaitsForThePendingClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{}
		s.park(0, time.Now().Add(-time.Minute), platesOf(100, 0, 1)...)
		s.claimTime = 3 * time.Second
		r := start(t, build(t, NewExit, options{Plan: testPlan(10, matchPercent(100), minStay(0)), Publisher: publisher, Store: s}))
		pass(exitDelay + 2*time.Second)
		if stats := r.Stats(); stats.Starved != 0 || stats.Published != 0 || stats.Lag < 1900*time.Millisecond {
			t.Errorf("the figures during the claim are %+v, want lag only", stats)
		}
		pass(2 * time.Second)
		if stats := r.Stats(); stats.Starved != 0 || stats.Published == 0 {
			t.Errorf("the figures after the claim are %+v, want exits", stats)
		}
		r.finish(t)
	})
}

func TestGeneratorRun_MatchedExits_FollowTheirEntryAfterMinStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, entered, left := newFakeStore(), &fakePublisher{}, &fakePublisher{}
		p := testPlan(100, partitions(2), matchPercent(100), minStay(2*time.Second))
		entry := start(t, build(t, NewEntry, options{Plan: p, Publisher: entered, Store: s}))
		exit := start(t, build(t, NewExit, options{Plan: p, Publisher: left, Store: s}))
		pass(time.Minute)
		within(t, "exits in the first minute", len(left.sent()), 5_749, 5_750)
		within(t, "starved draws", int(exit.Stats().Starved), 0, 0)
		entry.finish(t)
		exit.finish(t)
		at := map[string]time.Time{}
		for _, m := range entered.sent() {
			e, err := event.ParseEntry(m.Body)
			if err != nil {
				t.Fatal(err)
			}
			at[e.Plate] = e.At
		}
		for _, e := range exitsOf(t, left, event.IntentMatched) {
			if stay := e.At.Sub(at[e.Plate]); stay < 2*time.Second {
				t.Fatalf("plate %s left after %s, want 2 s or more", e.Plate, stay)
			}
		}
	})
}

func TestGeneratorRun_Exit_IsLaterThanItsEntryDespiteClockSkew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{}
		entered := time.Now().Add(time.Hour)
		s.park(0, entered, platesOf(1, 0, 1)...)
		p := testPlan(10, matchPercent(100), minStay(-2*time.Hour))
		r := start(t, build(t, NewExit, options{Plan: p, Publisher: publisher, Store: s}))
		pass(time.Second)
		r.finish(t)
		exits := exitsOf(t, publisher, event.IntentMatched)
		if len(exits) != 1 || exits[0].At.Before(entered.Add(time.Millisecond)) {
			t.Errorf("the exits are %v, want one exit at least 1 ms (the precision of the store) after %s", exits, entered)
		}
	})
}

func TestGeneratorRun_Stopped_ReleasesUnusedClaims(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{}
		all := platesOf(300, 0, 1)
		s.park(0, time.Now().Add(-time.Minute), all...)
		r := start(t, build(t, NewExit, options{Plan: testPlan(100, matchPercent(100), minStay(0)), Publisher: publisher, Store: s}))
		pass(exitDelay + time.Second)
		within(t, "plates in the pool while some are claimed", len(s.pool(0)), 100, 199)
		r.finish(t)
		pool := s.pool(0)
		within(t, "plates in the pool at the end", len(pool), 300-len(publisher.sent()), 300-len(publisher.sent()))
		for _, e := range exitsOf(t, publisher, event.IntentMatched) {
			if slices.Contains(pool, e.Plate) {
				t.Errorf("plate %s was used for an exit, but is in the pool", e.Plate)
			}
		}
	})
}

func TestGeneratorRun_StoppedAndReleaseFails_ReturnsAfterTheTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{}
		s.park(0, time.Now().Add(-time.Minute), platesOf(300, 0, 1)...)
		s.before = func(call string) error {
			if call == "release" {
				return fmt.Errorf("release: %w", store.ErrUnavailable)
			}
			return nil
		}
		p := testPlan(100, matchPercent(100), minStay(0))
		r := start(t, build(t, NewExit, options{Plan: p, Publisher: publisher, Store: s, ShutdownTimeout: 3 * time.Second}))
		pass(exitDelay + time.Second)
		stopped := time.Now()
		r.finish(t)
		if took := time.Since(stopped); took != 3*time.Second {
			t.Errorf("stopping took %s, want 3s", took)
		}
	})
}

// The store loses some of its replies, and crashes before some claims of plates are durable.
func TestGeneratorRun_FaultyStore_EveryClaimedPlateExitsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{}
		s.volatile = true
		s.park(0, time.Now().Add(-time.Minute), platesOf(2000, 0, 1)...)
		claims := 0
		s.after = func(call string) error {
			if call == "claim" {
				claims++
				switch claims % 4 {
				case 1:
					return fmt.Errorf("the answer is lost: %w", store.ErrUnavailable)
				case 2:
					s.crash()
				case 3:
					s.crash()
					return fmt.Errorf("the server crashed: %w", store.ErrUnavailable)
				}
			}
			return nil
		}
		p := testPlan(200, matchPercent(100), minStay(0))
		r := start(t, build(t, NewExit, options{Plan: p, Publisher: publisher, Store: s, run: testRun}))
		pass(20 * time.Second)
		s.crash()
		pass(5 * time.Second)
		r.finish(t)
		left := map[string]bool{}
		for _, e := range exitsOf(t, publisher, event.IntentMatched) {
			if left[e.Plate] {
				t.Fatalf("plate %s left twice", e.Plate)
			}
			left[e.Plate] = true
		}
		within(t, "plates that left", len(left), 2000, 2000)
		within(t, "plates in the pool", len(s.pool(0)), 0, 0)
		within(t, "exits in the store", len(s.events(testRun, 0)), 2000, 2000)
	})
}

func TestGeneratorUpdate_MatchPercent_TakesEffectAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{}
		s.park(0, time.Now().Add(-time.Minute), platesOf(1000, 0, 1)...)
		r := start(t, build(t, NewExit, options{Plan: testPlan(100, matchPercent(0), minStay(0)), Publisher: publisher, Store: s}))
		pass(exitDelay + time.Second)
		within(t, "claims at a match percentage of 0", s.called("claim"), 0, 0)
		r.Update(testPlan(100, matchPercent(100), minStay(0)))
		pass(time.Second)
		r.Update(testPlan(100, matchPercent(0), minStay(0)))
		pass(time.Second)
		r.finish(t)
		within(t, "exits", len(publisher.sent()), 299, 300)
		within(t, "matched exits", len(exitsOf(t, publisher, event.IntentMatched)), 100, 100)
		within(t, "plates in the pool at the end", len(s.pool(0)), 900, 900)
	})
}

func TestClaims_HeldPlates_LastUntilTheNextClaimIsDurable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		latency    time.Duration
		matched    float64
		partitions int
		want       int
	}{
		{"no plate at a rate of 0", 0, 0, 1, 0},
		{"at least one plate", 0, 0.1, 1, 1},
		{"at least one plate in each partition", 0, 10, 16, 1},
		{"plates for half a second", 0, 200, 1, 100},
		{"a quarter of the plates in each of 4 partitions", 0, 200, 4, 25},
		{"at most maxHeld plates in all partitions together", 0, 1e6, 4, 256},
		{"plates for half a second and twice the latency", 4 * time.Second, 200, 1, 1700},
		{"in proportion, more than maxHeld plates", 4 * time.Second, 1e6, 1, 17 * maxHeld},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newClaims(&steps{latency: tt.latency}, nil, testRun, tt.partitions, nil, func() float64 { return tt.matched })
			if got := c.claimers[0].need(); got != tt.want {
				t.Errorf("a claimer needs %d plates, want %d", got, tt.want)
			}
		})
	}
}

// With plan.DurabilitySynced, a claim takes seconds to become durable. Exits must still be on time, even if they need
// several claims.
func TestGeneratorRun_SlowDurability_ExitsAreOnTime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		rate    int64
		durable time.Duration
	}{
		{10, 2 * time.Second},
		{10, 4 * time.Second},
		{2000, 2 * time.Second},
		{2000, 4 * time.Second},
	} {
		t.Run(fmt.Sprintf("%d exits per second, durable after up to %s", tt.rate, tt.durable), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, entered, left := newFakeStore(), &fakePublisher{}, &fakePublisher{}
				s.durableTime = tt.durable
				p := testPlan(tt.rate, partitions(2), matchPercent(100), minStay(2*time.Second))
				p.Durability = plan.DurabilitySynced
				entry := start(t, build(t, NewEntry, options{Plan: p, Publisher: entered, Store: s}))
				exit := start(t, build(t, NewExit, options{Plan: p, Publisher: left, Store: s}))
				pass(p.ExitDelay())
				for second := range 20 {
					pass(time.Second)
					if stats := exit.Stats(); stats.Lag > 100*time.Millisecond || stats.Starved > 0 {
						t.Errorf("after %d s, the exits lag by %s, and %d starved", second+1, stats.Lag, stats.Starved)
					}
					if lag := entry.Stats().Lag; lag > 100*time.Millisecond {
						t.Errorf("after %d s, the entries lag by %s", second+1, lag)
					}
				}
				within(t, "exits", len(left.sent()), int(20*tt.rate)-1, int(20*tt.rate))
				entry.finish(t)
				exit.finish(t)
			})
		})
	}
}

func TestGeneratorMatchedRate_RateChanges_IsTheHigherOfTheRatesNowAndAfterTheLatency(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		durability plan.Durability
		last, want float64
	}{
		{"a rate that rises", plan.DurabilitySynced, 1000, 1000},
		{"a rate that falls", plan.DurabilitySynced, 0, 10},
		{"a rate that rises, with fast durability", plan.DurabilityWritten, 1000, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := testPlan(10, matchPercent(100), minStay(0))
				p.Durability = tt.durability
				p.Exit.Stages = []plan.Stage{stage(time.Second, int64(tt.last))}
				g := build(t, NewExit, options{Plan: p, Publisher: &fakePublisher{}, Store: newFakeStore()})
				g.pacer.start(time.Now())
				pass(p.ExitDelay())
				if got := g.matchedRate(); got != tt.want {
					t.Errorf("the rate is %g, want %g", got, tt.want)
				}
			})
		})
	}
}

func TestClaimer_EmptyPoolAndSlowDurability_DoesNotWaitForDurability(t *testing.T) {
	t.Parallel()
	for latency, want := range map[time.Duration]int{0: 1, 4 * time.Second: 0} {
		s := newFakeStore()
		c := &claimer{
			steps: &steps{store: s, latency: latency},
			run:   testRun,
			stay:  func() (minStay, maxStay time.Duration) { return 0, time.Hour },
		}
		if err := c.claim(t.Context(), 10); err != nil {
			t.Error(err)
		}
		within(t, fmt.Sprintf("waits after an empty claim with the latency %s", latency), s.called("wait"), want, want)
		s.park(0, time.Now().Add(-time.Minute), platesOf(1, 0, 1)...)
		if err := c.claim(t.Context(), 10); err != nil {
			t.Error(err)
		}
		within(t, fmt.Sprintf("waits after another claim with the latency %s", latency), s.called("wait"), want+1, want+1)
	}
}

func TestClaimer_ReleasesSeveralClaims_WaitsForDurabilityOnce(t *testing.T) {
	t.Parallel()
	s := newFakeStore()
	c := &claimer{
		steps: &steps{store: s},
		run:   testRun,
		stay:  func() (minStay, maxStay time.Duration) { return 0, time.Hour },
	}
	for token, plate := range platesOf(3, 0, 1) {
		s.park(0, time.Now().Add(-time.Minute), plate)
		claim := store.Claim{Run: testRun, Token: int64(token), Limit: 1, Now: time.Now(), MaxStay: time.Hour}
		plates, err := s.Claim(t.Context(), claim)
		if err != nil {
			t.Fatal(err)
		}
		c.held = append(c.held, claimed{Plate: plates[0], token: claim.Token})
	}
	c.releaseHeld(t.Context())
	within(t, "plates in the pool", len(s.pool(0)), 3, 3)
	within(t, "held plates", len(c.held), 0, 0)
	within(t, "waits", s.called("wait"), 1, 1)
}

func TestClaims_ManySmallClaims_StoreRemembersAllOfThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, publisher := newFakeStore(), &fakePublisher{blocked: make(chan struct{})}
		plates := platesOf(500, 0, 1)
		p := testPlan(1000, matchPercent(100), minStay(0))
		r := start(t, build(t, NewExit, options{Plan: p, Publisher: publisher, Store: s}))
		pass(exitDelay)
		for _, plate := range plates { // park one vehicle at a time, so that each claim gets one plate
			s.park(0, time.Now(), plate)
			pass(drainedRetry)
		}
		claimed := len(plates) - len(s.pool(0))
		within(t, "claimed plates", claimed, 2, store.ClaimsRemembered)
		var released atomic.Int64
		s.before = func(call string) error {
			if call == "release" {
				released.Add(1)
			}
			return nil
		}
		r.finish(t)
		within(t, "released claims", int(released.Load()), 1, store.ClaimsRemembered)
		within(t, "plates in the pool, including that of the blocked exit", len(s.pool(0)), 500, 500)
	})
}
