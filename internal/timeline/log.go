package timeline

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Rows are kept in blocks of blockRows rows of equal width. As they grow old they are merged into wider rows, so
// that a simulation of any length takes bounded memory.
const blockRows = 60

// Tier is a width of rows and how long they are kept at that width.
type Tier struct {
	// Width of the rows, in seconds.
	Width int64
	// Keep is the age at which rows are merged into those of the next tier; 0 means never.
	Keep time.Duration
}

// Tiers returns the tiers, from the finest to the coarsest.
func Tiers() []Tier {
	return []Tier{
		{Width: 1, Keep: time.Hour},
		{Width: 10, Keep: 10 * time.Hour},
		{Width: 60, Keep: 7 * 24 * time.Hour},
		{Width: 3600},
	}
}

// settleTime is how long after its end the rows of a minute are merged over the processes. Rows that arrive
// later are merged later.
const settleTime = 2 * time.Minute

// BlockID identifies a block: its tier, an index of Tiers, and the Unix time at which it begins.
type BlockID struct {
	Tier  int
	Start int64
}

// blockOf returns the block of a tier that holds a second.
func blockOf(tier int, second int64) BlockID {
	return BlockID{Tier: tier, Start: second - mod(second, span(tier))}
}

// span is the number of seconds in a block of a tier.
func span(tier int) int64 { return blockRows * Tiers()[tier].Width }

// MinuteOf returns the start of the minute in which a row is kept until it is merged.
func MinuteOf(second int64) int64 { return second - mod(second, blockRows) }

// Block is a block with its rows.
type Block struct {
	ID   BlockID
	Rows []Row
	// Version changes with the rows; "" means that the block does not exist. Only the backend interprets it.
	Version string
}

// Minute holds the rows of one minute that have not been merged yet.
type Minute struct {
	// Start is the Unix time at which the minute begins.
	Start int64
	// Rows are those of each process.
	Rows map[string][]Row
	// Version changes whenever a row is added. Only the backend interprets it.
	Version string
}

// Backend keeps rows. Each method is atomic.
type Backend interface {
	// Generation returns a number that each Replace that changes something increases.
	Generation(ctx context.Context) (int64, error)
	// AppendRows adds rows of one process to their minutes. A row that replaces one of the same process and
	// second changes nothing else. A row that is not later than the last merged row of its process is ignored:
	// it is a repetition.
	AppendRows(ctx context.Context, process string, rows []Row) error
	// Minutes lists the minutes that have rows, in any order.
	Minutes(ctx context.Context) ([]int64, error)
	// ReadMinute returns the rows of a minute.
	ReadMinute(ctx context.Context, start int64) (Minute, error)
	// ReadBlocks returns the blocks of a tier that begin in [from, to), in any order.
	ReadBlocks(ctx context.Context, tier int, from, to int64) ([]Block, error)
	// Replace puts one block in the place of sources, unless a version has changed since they were read: then it
	// changes nothing.
	Replace(ctx context.Context, r Replacement) error
}

// Replacement puts Block in the place of blocks and a minute. Block.Version is the version that it had before.
type Replacement struct {
	Block Block
	// Minute is the minute that Block absorbs; nil for none.
	Minute *Minute
	// Sources are the blocks of a finer tier that Block absorbs.
	Sources []Block
}

// Log reads and compacts the rows of a backend.
type Log struct{ backend Backend }

// NewLog returns the log of a backend.
func NewLog(b Backend) Log { return Log{backend: b} }

// Append adds rows of one process. It may be repeated with the same rows.
func (l Log) Append(ctx context.Context, process string, rows []Row) error {
	if len(rows) == 0 {
		return nil
	}
	return l.backend.AppendRows(ctx, process, rows)
}

// Read returns what was measured in the interval [from, to), merged over all processes, in the order of time.
// Rows that begin before from and end after it are included. Old rows are wider than 1 s.
func (l Log) Read(ctx context.Context, from, to time.Time) ([]Row, error) {
	// A compaction moves rows between two of the reads below, which would then miss them or find them twice.
	for range maxReads {
		before, err := l.backend.Generation(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the timeline: %w", err)
		}
		rows, err := l.read(ctx, from, to)
		if err != nil {
			return nil, fmt.Errorf("read the timeline: %w", err)
		}
		if after, err := l.backend.Generation(ctx); err != nil {
			return nil, fmt.Errorf("read the timeline: %w", err)
		} else if after == before {
			return between(mergeOverlapping(rows), from, to), nil
		}
	}
	return nil, fmt.Errorf("read the timeline: it was compacted during each of %d reads; try again", maxReads)
}

// maxReads bounds the attempts to read the timeline while it is being compacted.
const maxReads = 10

// read returns the rows of all tiers, and those that the processes have appended and that are not merged into a tier
// yet.
func (l Log) read(ctx context.Context, from, to time.Time) ([]Row, error) {
	var all []Row
	for tier := range Tiers() {
		blocks, err := l.backend.ReadBlocks(ctx, tier, blockOf(tier, from.Unix()).Start, to.Unix())
		if err != nil {
			return nil, err
		}
		for _, b := range blocks {
			all = append(all, b.Rows...)
		}
	}
	minutes, err := l.backend.Minutes(ctx)
	if err != nil {
		return nil, err
	}
	for _, start := range minutes {
		if start+blockRows <= from.Unix() || start >= to.Unix() {
			continue
		}
		minute, err := l.backend.ReadMinute(ctx, start)
		if err != nil {
			return nil, err
		}
		all = append(all, minute.merged()...)
	}
	return all, nil
}

// between returns the rows that overlap the interval [from, to).
func between(rows []Row, from, to time.Time) []Row {
	return slices.DeleteFunc(rows, func(r Row) bool {
		return !r.End().After(from) || !r.Start().Before(to)
	})
}

// mergeOverlapping sorts rows and merges those whose intervals overlap: a late row of a process adds to a wide
// row that already covers its second.
func mergeOverlapping(rows []Row) []Row {
	slices.SortFunc(rows, func(a, b Row) int {
		if a.Second != b.Second {
			return int(a.Second - b.Second)
		}
		return int(b.seconds() - a.seconds())
	})
	var merged []Row
	for i := range rows {
		if n := len(merged); n > 0 && rows[i].Second < merged[n-1].Second+merged[n-1].seconds() {
			merged[n-1].add(&rows[i])
			continue
		}
		merged = append(merged, rows[i])
	}
	return merged
}

// merged returns the rows of a minute, merged over the processes.
func (m *Minute) merged() []Row {
	var all []Row
	for _, rows := range m.Rows {
		all = append(all, rows...)
	}
	return Merge(1, all...)
}

// Compact merges what is old enough at the given time. Several processes may compact at the same time, and any
// of them may be killed: each step replaces blocks atomically, or not at all.
func (l Log) Compact(ctx context.Context, now time.Time) error {
	if err := l.compactMinutes(ctx, now); err != nil {
		return fmt.Errorf("compact the timeline: %w", err)
	}
	for tier := range len(Tiers()) - 1 {
		if err := l.compactTier(ctx, tier, now); err != nil {
			return fmt.Errorf("compact the timeline: %w", err)
		}
	}
	return nil
}

// compactMinutes merges the rows of the minutes that are over.
func (l Log) compactMinutes(ctx context.Context, now time.Time) error {
	starts, err := l.backend.Minutes(ctx)
	if err != nil {
		return err
	}
	for _, start := range starts {
		if now.Before(time.Unix(start+blockRows, 0).Add(settleTime)) {
			continue
		}
		minute, err := l.backend.ReadMinute(ctx, start)
		if err != nil {
			return err
		}
		block, err := l.block(ctx, blockOf(0, start))
		if err != nil {
			return err
		}
		block.Rows = Merge(Tiers()[0].Width, append(block.Rows, minute.merged()...)...)
		if err := l.backend.Replace(ctx, Replacement{Block: block, Minute: &minute}); err != nil {
			return err
		}
	}
	return nil
}

// compactTier merges the blocks of a tier that are old enough into blocks of the next one.
func (l Log) compactTier(ctx context.Context, tier int, now time.Time) error {
	horizon := now.Add(-Tiers()[tier].Keep).Unix()
	whole := blockOf(tier+1, horizon).Start // blocks of the next tier that end by the horizon begin before this
	old, err := l.backend.ReadBlocks(ctx, tier, 0, whole)
	if err != nil {
		return err
	}
	targets := map[BlockID][]Block{}
	for _, b := range old {
		id := blockOf(tier+1, b.ID.Start)
		targets[id] = append(targets[id], b)
	}
	for id, sources := range targets {
		block, err := l.block(ctx, id)
		if err != nil {
			return err
		}
		rows := block.Rows
		for _, source := range sources {
			rows = append(rows, source.Rows...)
		}
		block.Rows = Merge(Tiers()[id.Tier].Width, rows...)
		if err := l.backend.Replace(ctx, Replacement{Block: block, Sources: sources}); err != nil {
			return err
		}
	}
	return nil
}

// block reads one block, which may not exist yet.
func (l Log) block(ctx context.Context, id BlockID) (Block, error) {
	blocks, err := l.backend.ReadBlocks(ctx, id.Tier, id.Start, id.Start+1)
	if err != nil {
		return Block{}, err
	}
	if len(blocks) == 0 {
		return Block{ID: id}, nil
	}
	return blocks[0], nil
}

// LastSeconds returns the second of the latest row of each process.
func (m *Minute) LastSeconds() map[string]int64 {
	last := make(map[string]int64, len(m.Rows))
	for process, rows := range m.Rows {
		for _, row := range rows {
			last[process] = max(last[process], row.Second)
		}
	}
	return last
}
