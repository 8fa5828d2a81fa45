package generator

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/store"
)

const (
	// claimTime is how far in advance a generator claims plates of parked vehicles, if effects are durable at once.
	claimTime = 500 * time.Millisecond
	// maxHeld limits the plates held in advance, in all partitions together, if effects are durable at once. Each
	// partition may hold at least one. For slower stores, stockOf raises both values.
	maxHeld = 1024
	// emptyValid is how long the answer that a partition has no available plate stays valid. Without this time, every
	// attempt to get a plate would cost a round trip to the store.
	emptyValid = 10 * time.Millisecond
	// drainedRetry is the minimum delay after a claim that returned too few plates. The delay does not apply while a
	// due exit waits for a plate.
	drainedRetry = 100 * time.Millisecond
)

// claims contains the claimers of all partitions. Each claimer claims plates in advance, and releases the unused plates
// when the generator stops.
type claims struct {
	claimers []*claimer
	// claims.answered receives a value when the store has answered a claim.
	answered chan struct{}
	// turn is the index of the claimer that claims.next asks first for a plate.
	turn int
	// latest is the claimer that provided the latest plate.
	latest *claimer
}

// claimer claims plates from the pool of one partition.
type claimer struct {
	steps     *steps
	log       *slog.Logger
	run       string
	partition int
	stay      func() (minStay, maxStay time.Duration)
	// claimer.need returns how many plates the claimer should hold at the current rate of exits.
	need     func() int
	answered chan<- struct{}
	// claimer.wake receives a value when more plates may be needed.
	wake chan struct{}

	mu sync.Mutex
	// claimer.held contains the claimed but unused plates, oldest claim first. claimer.latest is the plate that
	// claimer.pop returned last.
	held   []claimed
	latest claimed
	// token identifies the latest claim.
	token int64
	// claimer.low is the number of held plates at which the claimer claims more plates.
	low int
	// wanted is true while an exit waits for the store to answer a claim.
	wanted bool
	// drainedAt is when the store last returned fewer plates than requested. emptyAt is when the store last returned no
	// plate.
	drainedAt, emptyAt time.Time
}

// claimed is a claimed plate with the token that identifies the claim.
type claimed struct {
	store.Plate
	token int64
}

// stock determines how many plates a generator process claims in advance.
type stock struct {
	ahead time.Duration // how long the claimed plates must last
	most  float64       // the maximum number of claimed plates, in all partitions together
}

// stockOf returns the stock for a store in which a change becomes durable after the given latency.
func stockOf(latency time.Duration) stock {
	// A claimer claims again when half of its plates are left. They must last until the new claim is durable.
	ahead := claimTime + 2*latency
	return stock{ahead: ahead, most: maxHeld * ahead.Seconds() / claimTime.Seconds()}
}

// newClaims returns one claimer per partition. The function exitRate returns the number of exits per second that need a
// claimed plate.
func newClaims(s *steps, log *slog.Logger, run string, partitions int,
	stay func() (minStay, maxStay time.Duration), exitRate func() float64,
) *claims {
	c := &claims{answered: make(chan struct{}, 1)}
	stock := stockOf(s.latency)
	need := func() int {
		rate := exitRate()
		if rate == 0 {
			return 0
		}
		return int(max(1, min(rate*stock.ahead.Seconds(), stock.most)/float64(partitions)))
	}
	for partition := range partitions {
		c.claimers = append(c.claimers, &claimer{
			steps:     s,
			log:       log,
			run:       run,
			partition: partition,
			stay:      stay,
			need:      need,
			answered:  c.answered,
			wake:      make(chan struct{}, 1),
		})
	}
	return c
}

// next takes a claimed plate from one of the partitions, in turn, and waits for claims if necessary. It returns false
// if no partition has an available plate.
func (c *claims) next(ctx context.Context) (store.Plate, int, bool, error) {
	since := time.Now().Add(-emptyValid)
	for {
		empty := 0
		for range c.claimers {
			claimer := c.claimers[c.turn]
			c.turn = (c.turn + 1) % len(c.claimers)
			plate, ok := claimer.pop()
			if ok {
				c.latest = claimer
				return plate, claimer.partition, true, nil
			}
			if claimer.emptySince(since) {
				empty++
			}
		}
		if empty == len(c.claimers) {
			return store.Plate{}, 0, false, nil
		}
		select {
		case <-c.answered:
		case <-ctx.Done():
			return store.Plate{}, 0, false, fmt.Errorf("wait until a plate can be claimed: %w", ctx.Err())
		}
	}
}

// restore undoes the latest call of claims.next, so that the plate can be used again. Call restore if no exit was
// published with this plate.
func (c *claims) restore() { c.latest.restore() }

func (c *claimer) pop() (store.Plate, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) == 0 {
		return store.Plate{}, false
	}
	c.latest = c.held[0]
	c.held = c.held[1:]
	if len(c.held) <= c.low {
		async.Notify(c.wake)
	}
	return c.latest.Plate, true
}

func (c *claimer) restore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = slices.Insert(c.held, 0, c.latest)
}

// emptySince reports whether a claim has returned no plate since the given time. If not, it requests a claim.
func (c *claimer) emptySince(since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.emptyAt.After(since) {
		return true
	}
	c.wanted = true
	async.Notify(c.wake)
	return false
}

// serve claims plates until stopping is closed, and then releases the unused plates. If ctx ends during a call to the
// store, serve returns at once.
func (c *claimer) serve(ctx context.Context, stopping <-chan struct{}) {
	for {
		limit, ok := c.await(stopping)
		if !ok {
			break
		}
		if err := c.claim(ctx, limit); err != nil {
			return
		}
	}
	c.releaseHeld(ctx)
}

// await waits until the claimer must claim plates, and returns how many. It returns false when the channel stopping is
// closed.
func (c *claimer) await(stopping <-chan struct{}) (int, bool) {
	retry := time.NewTimer(drainedRetry)
	defer retry.Stop()
	for {
		limit, wait := c.due(time.Now())
		select {
		case <-stopping:
			return 0, false
		default:
		}
		if limit > 0 {
			return limit, true
		}
		retry.Reset(wait)
		select {
		case <-c.wake:
		case <-retry.C:
		case <-stopping:
			return 0, false
		}
	}
}

// due returns how many plates to claim now. If limit is 0, call due again after the duration wait, or when c.wake
// receives a value.
func (c *claimer) due(now time.Time) (limit int, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	need := c.need()
	c.low = need / 2
	missing := need - len(c.held)
	retry := c.drainedAt.Add(drainedRetry).Sub(now)
	idle := never
	if c.steps.latency > 0 {
		// A claim takes long to become durable, so check early whether the claimer needs more plates.
		idle = drainedRetry
	}
	switch {
	case c.wanted:
		return max(1, missing), 0
	case missing <= 0 || len(c.held) > c.low || c.tooManyClaims():
		return 0, idle
	case retry > 0:
		return 0, retry
	}
	return missing, 0
}

// tooManyClaims reports whether the held plates come from too many claims. The store forgets old claims, and then
// cannot release their plates.
func (c *claimer) tooManyClaims() bool {
	return len(c.held) > 0 && c.token-c.held[0].token >= store.ClaimsRemembered/2
}

// claim claims at most limit plates, and holds the plates once their claims are durable. Otherwise, a crash of the
// store's server could undo the claim of a plate that an exit has already used.
func (c *claimer) claim(ctx context.Context, limit int) error {
	minStay, maxStay := c.stay()
	next := store.Claim{
		Run:       c.run,
		Partition: c.partition,
		Token:     c.token + 1,
		Limit:     limit,
		Now:       time.Now(),
		MinStay:   minStay,
		MaxStay:   maxStay,
	}
	var plates []claimed
	// A repeated claim has the same token, so the store returns the same plates even if a reply was lost.
	err := c.steps.run(ctx, c.partition, "claim plates", func(ctx context.Context) (err error) {
		plates, err = c.claimAll(ctx, next)
		if err == nil && len(plates) == 0 && c.steps.latency > 0 {
			// Nothing must become durable, so the next claim need not wait for durability.
			return errNoEffect
		}
		return err
	})
	if err == nil {
		c.hold(plates, limit, time.Now())
	}
	return err
}

// claimAll claims next.Limit plates, or fewer if fewer are available. It uses consecutive tokens.
func (c *claimer) claimAll(ctx context.Context, next store.Claim) (all []claimed, err error) {
	for missing := next.Limit; missing > 0; next.Token++ {
		next.Limit = min(missing, store.MaxClaim)
		c.token = max(c.token, next.Token)
		plates, err := c.steps.store.Claim(ctx, next)
		if err != nil {
			return nil, err
		}
		for _, plate := range plates {
			all = append(all, claimed{Plate: plate, token: next.Token})
		}
		if len(plates) < next.Limit {
			break
		}
		missing -= len(plates)
	}
	return all, nil
}

// hold adds the plates of the latest claims to the held plates. The claims requested limit plates.
func (c *claimer) hold(plates []claimed, limit int, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = append(c.held, plates...)
	if len(plates) < limit {
		c.drainedAt = now
	}
	if len(plates) == 0 {
		c.emptyAt = now
	}
	c.wanted = false
	async.Notify(c.answered)
}

// releaseHeld releases all held plates in one step, so that a stopping generator waits for durability only once.
func (c *claimer) releaseHeld(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) == 0 {
		return
	}
	if err := c.steps.run(ctx, c.partition, "release claimed plates", c.releaseAll); err != nil {
		c.log.Warn("Failed to release claimed plates; the vehicles stay parked until their visits expire",
			"partition", c.partition, "plates", len(c.held), "error", err)
		return
	}
	c.held = nil
}

// releaseAll releases all held plates, one claim at a time. The caller must hold the lock c.mu.
func (c *claimer) releaseAll(ctx context.Context) error {
	_, maxStay := c.stay()
	for rest := c.held; len(rest) > 0; {
		token := rest[0].token
		var plates []store.Plate
		for len(rest) > 0 && rest[0].token == token {
			plates = append(plates, rest[0].Plate)
			rest = rest[1:]
		}
		claim := store.Claim{Run: c.run, Partition: c.partition, Token: token, Now: time.Now(), MaxStay: maxStay}
		if err := c.steps.store.Release(ctx, claim, plates); err != nil {
			return err
		}
	}
	return nil
}
