package generator

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/store"
)

const (
	// claimTime is for how long the claimed plates shall last.
	claimTime = 500 * time.Millisecond
	// claimMax bounds the claimed plates of all partitions, but for one in each.
	claimMax = 1024
	// emptyValid is for how long an empty pool is taken to be empty still, so that the draws of an
	// overdrawn pool do not cost a round trip each.
	emptyValid = 10 * time.Millisecond
	// drainedRetry is the wait before the next claim ahead of need after a claim that drained the pool.
	drainedRetry = 100 * time.Millisecond
)

// claims holds plates that are claimed ahead of need, durably, from the pools of all partitions. A plate
// that was claimed and not published is given back at the end.
type claims struct {
	claimers []*claimer
	// answered is signalled when a claim was answered.
	answered chan struct{}
	// turn is the partition whose plate is taken next.
	turn int
	// taken is the claimer of the plate that was taken last.
	taken *claimer
}

// claimer claims plates from the pool of one partition.
type claimer struct {
	steps     *steps
	log       *slog.Logger
	run       string
	partition int
	stay      func() (minStay, maxStay time.Duration)
	// need returns how many plates shall be held.
	need     func() int
	answered chan<- struct{}
	// wake is signalled when a claim may be due.
	wake chan struct{}

	mu sync.Mutex
	// held are the plates that are claimed, those of the oldest claim first; taken was the last to leave.
	held  []claimed
	taken claimed
	// token is the token of the latest claim.
	token int64
	// low is the number of held plates at which more are claimed.
	low int
	// wanted means that somebody waits for the answer to a claim.
	wanted bool
	// drainedAt is when a claim was last answered with less than its limit, emptyAt with nothing.
	drainedAt, emptyAt time.Time
}

// claimed is a held plate and the token of its claim.
type claimed struct {
	store.Plate
	token int64
}

// newClaims returns the claims of a run. matched returns the present rate of matched exits per second.
func newClaims(s *steps, log *slog.Logger, run string, partitions int,
	stay func() (minStay, maxStay time.Duration), matched func() float64,
) *claims {
	c := &claims{answered: make(chan struct{}, 1)}
	need := func() int {
		rate := matched()
		if rate == 0 {
			return 0
		}
		return int(max(1, min(rate*claimTime.Seconds(), claimMax)/float64(partitions)))
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

// take takes one plate, from the partitions in turn. When none is held it waits for claims to be
// answered. It reports false when every pool is empty.
func (c *claims) take(ctx context.Context) (store.Plate, int, bool, error) {
	since := time.Now().Add(-emptyValid)
	for {
		empty := 0
		for range c.claimers {
			claimer := c.claimers[c.turn]
			c.turn = (c.turn + 1) % len(c.claimers)
			plate, ok := claimer.take()
			if ok {
				c.taken = claimer
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

// putBack puts the plate that was taken last back: its exit was not published.
func (c *claims) putBack() { c.taken.putBack() }

// take takes the plate that was claimed first, if one is held.
func (c *claimer) take() (store.Plate, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) == 0 {
		return store.Plate{}, false
	}
	c.taken = c.held[0]
	c.held = c.held[1:]
	if len(c.held) <= c.low {
		signal(c.wake)
	}
	return c.taken.Plate, true
}

func (c *claimer) putBack() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = slices.Insert(c.held, 0, c.taken)
}

// emptySince reports whether a claim was answered with nothing since then. If not, one is wanted.
func (c *claimer) emptySince(since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.emptyAt.After(since) {
		return true
	}
	c.wanted = true
	signal(c.wake)
	return false
}

// serve claims plates until stopping is closed, then gives back those that are held. It ends with ctx at
// the latest.
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
	c.release(ctx)
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

// due returns the limit of the claim that is due, or 0 and the time until one may be due unasked.
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
	case missing <= 0 || len(c.held) > c.low || c.stale():
		return 0, never
	case retry > 0:
		return 0, retry
	}
	return missing, 0
}

// stale reports whether plates are held for so many claims that the store, which remembers a number of
// them, could soon not take the oldest back.
func (c *claimer) stale() bool {
	return len(c.held) > 0 && c.token-c.held[0].token >= store.ClaimsRemembered/2
}

// claim claims up to limit plates and holds them once that is durable: otherwise a restart of the store
// could put a plate back into the pool whose exit is published. The token makes a claim whose answer was
// lost the same claim when it is repeated.
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
	err := c.steps.take(ctx, c.partition, "claim plates", func(ctx context.Context) (err error) {
		plates, err = c.steps.store.Claim(ctx, claim)
		return err
	})
	if err == nil {
		c.hold(plates, limit, time.Now())
	}
	return err
}

// hold holds the plates that the latest claim was answered with.
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
	signal(c.answered)
}

// release gives back the held plates, claim by claim.
func (c *claimer) release(ctx context.Context) {
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
			c.log.Warn("claimed plates could not be given back: their cars stay until they expire",
				"partition", c.partition, "plates", len(c.held), "error", err)
			return
		}
		c.held = c.held[n:]
	}
}

func (c *claimer) releaseClaim(ctx context.Context, token int64, plates []store.Plate) error {
	_, maxStay := c.stay()
	claim := store.Claim{Run: c.run, Partition: c.partition, Token: token, Now: time.Now(), MaxStay: maxStay}
	return c.steps.take(ctx, c.partition, "give claimed plates back", func(ctx context.Context) error {
		return c.steps.store.Release(ctx, claim, plates)
	})
}
