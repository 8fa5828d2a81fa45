package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// maxConfirmed limits the events that one call of the script confirms: Lua limits the number of arguments, and a long
// call blocks the server.
const maxConfirmed = 1000

// Lease implements store.Generators. If the reply is lost, the leased positions stay unused.
func (s *Store) Lease(ctx context.Context, counter store.Counter, n int) (int64, error) {
	doing := fmt.Sprintf("lease %d positions of the counter %s", n, counter)
	if n < 1 {
		return 0, fmt.Errorf("%s: a lease must cover at least 1 position", doing)
	}
	next, err := s.client.IncrBy(ctx, s.partitions[0].key(keyCounter, string(counter)), int64(n)).Result()
	if err != nil {
		return 0, s.fault(ctx, s.partitions[0].part("lease"), doing, err)
	}
	s.outages.Fine(s.partitions[0].part("lease"))
	return next - int64(n), nil
}

// Confirm implements store.Generators. It confirms at most maxConfirmed events per execution of the script.
func (s *Store) Confirm(ctx context.Context, c store.Confirmation) (int64, error) {
	doing := fmt.Sprintf("confirm %d events of run %s in partition %d, starting at sequence number %d", len(c.Events), c.Run, c.Partition, c.From)
	p, err := s.partition(c.Partition)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", doing, err)
	}
	rest := c
	for {
		rest.Events = c.Events[rest.From-c.From:]
		rest.Events = rest.Events[:min(len(rest.Events), maxConfirmed)]
		next, err := s.confirmSome(ctx, p, rest)
		if err != nil {
			return 0, s.fault(ctx, p.part("confirm"), doing, err)
		}
		s.outages.Fine(p.part("confirm"))
		rest.From += int64(len(rest.Events))
		if next < rest.From || rest.From == c.From+int64(len(c.Events)) {
			return next, nil
		}
	}
}

func (s *Store) confirmSome(ctx context.Context, p *partition, c store.Confirmation) (int64, error) {
	args := make([]any, 0, 6+2*len(c.Events))
	args = append(args, c.Run, string(c.Type), c.From, len(c.Events), intents(c.Events), "")
	if c.Type == event.TypeEntry && len(c.Events) > 0 {
		args[len(args)-1] = c.Newest().Add(-c.MaxStay).UnixMilli()
		for _, e := range c.Events {
			args = append(args, e.At.UnixMilli(), e.Plate)
		}
	}
	keys := []string{p.key(keyConfirmed, c.Run), p.key(keyRuns), p.key(keyPool)}
	return s.scripts.confirm.Run(ctx, s.client, keys, args...).Int64()
}

// intents encodes the intents of events, one character per event.
func intents(events []store.Published) string {
	letters := make([]byte, len(events))
	for i, e := range events {
		switch e.Intent {
		case event.IntentMatched:
			letters[i] = 'm'
		case event.IntentUnmatched:
			letters[i] = 'u'
		default:
			letters[i] = '-'
		}
	}
	return string(letters)
}

// Claim implements store.Generators.
func (s *Store) Claim(ctx context.Context, c store.Claim) ([]store.Plate, error) {
	const doing = "claim plates"
	p, err := s.partition(c.Partition)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	if c.Limit < 1 {
		return nil, nil
	}
	keys := []string{p.key(keyPool), p.key(keyClaims, c.Run), p.key(keyTokens, c.Run), p.key(keyVisit)}
	plates, err := s.scripts.claim.Run(ctx, s.client, keys, c.Token, min(c.Limit, store.MaxClaim),
		c.Now.Add(-c.MaxStay).UnixMilli(), c.Now.Add(-c.MinStay).UnixMilli(),
		milliseconds(c.MaxStay+store.ClaimedStay), store.ClaimsRemembered).StringSlice()
	if err != nil {
		return nil, s.fault(ctx, p.part("claim"), doing, err)
	}
	s.outages.Fine(p.part("claim"))
	claimed, err := parsePlates(plates)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return claimed, nil
}

// parsePlates parses a list in which each plate is followed by its entry time in Unix milliseconds.
func parsePlates(reply []string) ([]store.Plate, error) {
	plates := make([]store.Plate, 0, len(reply)/2)
	for i := 0; i+1 < len(reply); i += 2 {
		at, err := strconv.ParseInt(reply[i+1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("parse the entry time of a parked vehicle: %w", err)
		}
		plates = append(plates, store.Plate{Plate: reply[i], EntryAt: time.UnixMilli(at).UTC()})
	}
	return plates, nil
}

// Release implements store.Generators.
func (s *Store) Release(ctx context.Context, c store.Claim, plates []store.Plate) error {
	const doing = "release plates"
	p, err := s.partition(c.Partition)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	args := make([]any, 0, 2+len(plates))
	args = append(args, c.Token, milliseconds(c.MaxStay+s.visitMargin))
	for _, plate := range plates {
		args = append(args, plate.Plate)
	}
	keys := []string{p.key(keyPool), p.key(keyClaims, c.Run), p.key(keyVisit)}
	if err := s.scripts.release.Run(ctx, s.client, keys, args...).Err(); err != nil {
		return s.fault(ctx, p.part("release"), doing, err)
	}
	s.outages.Fine(p.part("release"))
	return nil
}

// PoolSize implements store.Generators.
func (s *Store) PoolSize(ctx context.Context) (int64, error) {
	return s.sum(ctx, "count the available plates", func(pipe goredis.Pipeliner, p *partition) *goredis.IntCmd {
		return pipe.ZCard(ctx, p.key(keyPool))
	})
}

// CountStarved implements store.Store.
func (s *Store) CountStarved(ctx context.Context, run string, total int64) error {
	keys := []string{s.partitions[0].key(keyStarved)}
	if err := s.scripts.starved.Run(ctx, s.client, keys, run, total).Err(); err != nil {
		return s.failure(ctx, "count the exits for which no plate was available", err)
	}
	return nil
}
