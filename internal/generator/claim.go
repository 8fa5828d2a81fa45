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
	// claimTime is how long the plates that are held should last.
	claimTime = 500 * time.Millisecond
	// maxHeld bounds the plates held of all partitions. Each partition may hold one in any case.
	maxHeld = 1024
	// emptyValid is how long a pool that was empty is taken to be empty. Without it every draw from an empty
	// pool would cost a round trip.
	emptyValid = 10 * time.Millisecond
	// drainedRetry is the delay of the next claim after a claim that emptied the pool, unless a draw waits.
	drainedRetry = 100 * time.Millisecond
)

// claims holds plates that are claimed from the pools of all partitions before they are needed. Claims are
// durable before their plates are used. At the end, plates that were not published are released.
type claims struct {
	claimers []*claimer
	// answered is signalled after a claim was answered.
	answered chan struct{}
	// turn is the partition from which the next plate is taken.
	turn int
	// latest is the claimer that returned the latest plate.
	latest *claimer
}

// claimer claims plates from the pool of one partition.
type claimer struct {
	steps     *steps
	log       *slog.Logger
	run       string
	partition int
	stay      func() (minStay, maxStay time.Duration)
	// need returns how many plates should be held.
	need     func() int
	answered chan<- struct{}
	// wake is signalled when a claim may be due.
	wake chan struct{}

	mu sync.Mutex
	// held are the claimed plates, in the order of their claims. latest was the last to be used.
	held   []claimed
	latest claimed
	// token is the token of the latest claim.
	token int64
	// low is the number of held plates at which more are claimed.
	low int
	// wanted means that a draw waits for the answer to a claim.
	wanted bool
	// drainedAt is when a claim last got fewer plates than its limit, emptyAt when it last got none.
	drainedAt, emptyAt time.Time
}

// claimed is a held plate and the token of its claim.
type claimed struct {
	store.Plate
	token int64
}

// newClaims returns the claims of a run. matched returns the current rate of matched exits per second.
func newClaims(s *steps, log *slog.Logger, run string, partitions int,
	stay func() (minStay, maxStay time.Duration), matched func() float64,
) *claims {
	c := &claims{answered: make(chan struct{}, 1)}
	need := func() int {
		rate := matched()
		if rate == 0 {
			return 0
		}
		return int(max(1, min(rate*claimTime.Seconds(), maxHeld)/float64(partitions)))
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

// next returns the next held plate and its partition. It visits the partitions in turn. When no plate is
// held it waits for the answers to claims. It reports false when every pool is empty.
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
			return store.Plate{}, 0, false, fmt.Errorf("wait for a claimed plate: %w", ctx.Err())
		}
	}
}

// restore undoes the latest call of next. The exit of its plate was not published.
func (c *claims) restore() { c.latest.restore() }

// pop removes and returns the held plate that was claimed first. It reports false when no plate is held.
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

// emptySince reports whether a claim has got no plate since then. Otherwise it requests a claim.
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

// serve claims plates until stopping is closed, and then releases those that are held. It returns when ctx
// ends at the latest.
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

// await waits until a claim is due and returns its limit. It reports false when stopping is closed.
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

// due returns the limit of the claim that is due. When none is due it returns 0 and the time after which to
// ask again, unless wake is signalled before.
func (c *claimer) due(now time.Time) (limit int, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	need := c.need()
	c.low = need / 2
	missing := need - len(c.held)
	retry := c.drainedAt.Add(drainedRetry).Sub(now)
	switch {
	case c.wanted:
		return max(1, missing), 0
	case missing <= 0 || len(c.held) > c.low || c.tooManyClaims():
		return 0, never
	case retry > 0:
		return 0, retry
	}
	return missing, 0
}

// tooManyClaims reports whether the held plates belong to so many claims that the store might soon be unable
// to release the oldest: it remembers a limited number of claims.
func (c *claimer) tooManyClaims() bool {
	return len(c.held) > 0 && c.token-c.held[0].token >= store.ClaimsRemembered/2
}

// claim claims up to limit plates, and holds them once the claim is durable. Otherwise a restart of the
// store could make a plate available again after its exit was published. A claim that is repeated because
// its answer was lost has the same token, so it claims the same plates.
func (c *claimer) claim(ctx context.Context, limit int) error {
	minStay, maxStay := c.stay()
	c.token++
	claim := store.Claim{
		Run:       c.run,
		Partition: c.partition,
		Token:     c.token,
		Limit:     limit,
		Now:       time.Now(),
		MinStay:   minStay,
		MaxStay:   maxStay,
	}
	var plates []store.Plate
	err := c.steps.run(ctx, c.partition, "claim plates", func(ctx context.Context) (err error) {
		plates, err = c.steps.store.Claim(ctx, claim)
		return err
	})
	if err == nil {
		c.hold(plates, limit, time.Now())
	}
	return err
}

// hold adds the plates of the latest claim to those that are held.
func (c *claimer) hold(plates []store.Plate, limit int, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, plate := range plates {
		c.held = append(c.held, claimed{Plate: plate, token: c.token})
	}
	if len(plates) < limit {
		c.drainedAt = now
	}
	if len(plates) == 0 {
		c.emptyAt = now
	}
	c.wanted = false
	async.Notify(c.answered)
}

// releaseHeld releases the held plates, claim by claim.
func (c *claimer) releaseHeld(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.held) > 0 {
		token := c.held[0].token
		n := 0
		var plates []store.Plate
		for n < len(c.held) && c.held[n].token == token {
			plates = append(plates, c.held[n].Plate)
			n++
		}
		if err := c.releaseClaim(ctx, token, plates); err != nil {
			c.log.Warn("Failed to release claimed plates; their visits last until they expire",
				"partition", c.partition, "plates", len(c.held), "error", err)
			return
		}
		c.held = c.held[n:]
	}
}

func (c *claimer) releaseClaim(ctx context.Context, token int64, plates []store.Plate) error {
	_, maxStay := c.stay()
	claim := store.Claim{Run: c.run, Partition: c.partition, Token: token, Now: time.Now(), MaxStay: maxStay}
	return c.steps.run(ctx, c.partition, "release claimed plates", func(ctx context.Context) error {
		return c.steps.store.Release(ctx, claim, plates)
	})
}
