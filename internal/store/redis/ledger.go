package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// each sends one command to each partition, all in one round trip. The function command creates the command for a
// partition.
func each[C goredis.Cmder](ctx context.Context, s *Store, command func(goredis.Pipeliner, *partition) C) ([]C, error) {
	commands := make([]C, 0, len(s.partitions))
	_, err := s.client.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
		for _, p := range s.partitions {
			commands = append(commands, command(pipe, p))
		}
		return nil
	})
	return commands, err
}

// sum sends one command per partition and returns the sum of the replies.
func (s *Store) sum(ctx context.Context, doing string, command func(goredis.Pipeliner, *partition) *goredis.IntCmd) (int64, error) {
	answers, err := each(ctx, s, command)
	if err != nil {
		return 0, s.failure(ctx, doing, err)
	}
	var total int64
	for _, a := range answers {
		total += a.Val()
	}
	return total, nil
}

// Counts implements store.Ledger.
func (s *Store) Counts(ctx context.Context) (store.Counts, error) {
	const doing = "read the ledger"
	var counts store.Counts
	ledgers, err := each(ctx, s, func(pipe goredis.Pipeliner, p *partition) *goredis.MapStringStringCmd {
		return pipe.HGetAll(ctx, p.key(keyLedger))
	})
	if err != nil {
		return counts, s.failure(ctx, doing, err)
	}
	for _, l := range ledgers {
		if err := addCounts(&counts, l.Val()); err != nil {
			return counts, fmt.Errorf("%s: %w", doing, err)
		}
	}
	starved, err := s.client.HVals(ctx, s.partitions[0].key(keyStarved)).Result()
	if err != nil {
		return counts, s.failure(ctx, doing, err)
	}
	for _, text := range starved {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return counts, fmt.Errorf("%s: read how many exits of a generator run found no available plate: %w", doing, err)
		}
		counts.Starved += n
	}
	return counts, nil
}

// addCounts adds the counters in the ledger of one partition to counts.
func addCounts(counts *store.Counts, ledger map[string]string) error {
	for name, into := range map[string]*int64{
		"entries":              &counts.EntriesRecorded,
		"matched":              &counts.Matched,
		"unmatched_expected":   &counts.UnmatchedExpected,
		"unmatched_unexpected": &counts.UnmatchedUnexpected,
		"summaries":            &counts.SummariesStored,
		"duplicates":           &counts.DuplicatesSuppressed,
		"dead_letters":         &counts.DeadLettered,
		"external_entries":     &counts.ExternalEntries,
		"external_matched":     &counts.ExternalMatched,
		"entry_not_found":      &counts.EntryNotFound,
	} {
		n, err := number(ledger, name)
		if err != nil {
			return err
		}
		*into += n
	}
	return nil
}

// number parses a whole number in a Redis hash. A missing field counts as 0.
func number(hash map[string]string, field string) (int64, error) {
	text, found := hash[field]
	if !found {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the count %s: %w", field, err)
	}
	return n, nil
}

// Runs implements store.Ledger. The runs are ordered by partition and name.
func (s *Store) Runs(ctx context.Context) ([]store.Run, error) {
	const doing = "list the generator processes"
	names, err := each(ctx, s, func(pipe goredis.Pipeliner, p *partition) *goredis.StringSliceCmd {
		return pipe.SMembers(ctx, p.key(keyRuns))
	})
	if err != nil {
		return nil, s.failure(ctx, doing, err)
	}
	var runs []store.Run
	for i, p := range s.partitions {
		found, err := s.watermarks(ctx, p, names[i].Val())
		if err != nil {
			return nil, s.failure(ctx, doing, err)
		}
		runs = append(runs, found...)
	}
	return runs, nil
}

func (s *Store) watermarks(ctx context.Context, p *partition, names []string) ([]store.Run, error) {
	hashes := make([]*goredis.MapStringStringCmd, 0, len(names))
	_, err := s.client.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
		for _, name := range names {
			hashes = append(hashes, pipe.HGetAll(ctx, p.key(keyConfirmed, name)))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	runs := make([]store.Run, 0, len(names))
	for i, name := range names {
		run, err := parseRun(name, p.index, hashes[i].Val())
		if err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}
	slices.SortFunc(runs, func(a, b store.Run) int { return cmp.Compare(a.Run, b.Run) })
	return runs, nil
}

func parseRun(name string, partition int, hash map[string]string) (store.Run, error) {
	run := store.Run{Run: name, Type: event.Type(hash["type"]), Partition: partition}
	var errs [3]error
	run.Confirmed, errs[0] = number(hash, "next")
	run.Matched, errs[1] = number(hash, "matched")
	run.Unmatched, errs[2] = number(hash, "unmatched")
	return run, errors.Join(errs[:]...)
}

// Chunk implements store.Ledger.
func (s *Store) Chunk(ctx context.Context, r store.Run, index int64) (store.Chunk, error) {
	doing := fmt.Sprintf("read chunk %d of run %s in partition %d", index, r.Run, r.Partition)
	p, err := s.partition(r.Partition)
	if err != nil {
		return store.Chunk{}, fmt.Errorf("%s: %w", doing, err)
	}
	var seen, matched *goredis.StringCmd
	_, err = s.client.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
		seen = pipe.Get(ctx, p.bitmap(keySeen, r.Run, index))
		matched = pipe.Get(ctx, p.bitmap(keyMatched, r.Run, index))
		return nil
	})
	if err != nil && !errors.Is(err, goredis.Nil) {
		return store.Chunk{}, s.failure(ctx, doing, err)
	}
	return store.Chunk{Seen: []byte(seen.Val()), Matched: []byte(matched.Val())}, nil
}

// Outbox implements store.Ledger.
func (s *Store) Outbox(ctx context.Context) (int64, error) {
	return s.sum(ctx, "count the summaries in the outbox", func(pipe goredis.Pipeliner, p *partition) *goredis.IntCmd {
		return pipe.HLen(ctx, p.key(keyOutbox))
	})
}
