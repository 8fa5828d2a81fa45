package timeline

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// blockRows is the maximum number of rows in a block. A block covers blockRows times the width of its rows.
const blockRows = 60

// Tier is a resolution of the timeline: the width of the rows, and the age up to which the rows keep this width.
type Tier struct {
	// Width is the length, in seconds, of the interval that a row covers.
	Width int64
	// Keep is the age at which rows are merged into the next tier. 0 means never.
	Keep time.Duration
}

// Tiers returns the tiers of every timeline, from narrow rows to wide rows.
func Tiers() []Tier {
	return []Tier{
		{Width: 1, Keep: time.Hour},
		{Width: 10, Keep: 10 * time.Hour},
		{Width: 60, Keep: 7 * 24 * time.Hour},
		{Width: 3600},
	}
}

// settleTime is how long a compaction waits for late rows after the end of a minute.
const settleTime = 2 * time.Minute

// BlockID identifies a block. Tier is an index in Tiers(), and Start a Unix time.
type BlockID struct {
	Tier  int
	Start int64
}

// blockOf returns the ID of the block that contains the given second in a tier.
func blockOf(tier int, second int64) BlockID {
	return BlockID{Tier: tier, Start: second - mod(second, span(tier))}
}

// span returns how many seconds of the timeline one block of the given tier covers.
func span(tier int) int64 { return blockRows * Tiers()[tier].Width }

// MinuteOf returns the start of the minute that contains the given Unix time.
func MinuteOf(second int64) int64 { return second - mod(second, blockRows) }

// Block is a stored sequence of rows of one tier, and therefore of the same width.
type Block struct {
	ID   BlockID
	Rows []Row
	// Version is an opaque string that changes whenever the rows change. It is empty if the store does not contain the
	// block.
	Version string
}

// Minute contains the rows of one minute of the timeline that have not been merged yet.
type Minute struct {
	// Start is the Unix time at which this minute of the timeline begins.
	Start int64
	// Rows contains the rows of each process, by the name of the process.
	Rows map[string][]Row
	// Version is an opaque string that changes whenever a row is added.
	Version string
}

// Storage stores rows. Each method is atomic.
type Storage interface {
	// Generation returns a number that increases by 1 whenever Replace changes something.
	Generation(ctx context.Context) (int64, error)
	// AppendRows stores rows of one process. A row replaces the row of the same second. Rows up to the process's
	// latest merged second are ignored as repetitions.
	AppendRows(ctx context.Context, process string, rows []Row) error
	// Minutes returns the start of each minute that has unmerged rows. The results are Unix times in any order.
	Minutes(ctx context.Context) ([]int64, error)
	// ReadMinute returns the rows of a minute.
	ReadMinute(ctx context.Context, start int64) (Minute, error)
	// ReadBlocks returns, in any order, the blocks of merged rows of a tier (see Tiers) that begin in [from, to).
	ReadBlocks(ctx context.Context, tier int, from, to int64) ([]Block, error)
	// Replace stores r.Block and deletes the rows merged into this block. It changes nothing and returns false if the
	// generation of the storage, or the version of a minute or block, differs from the value in r.
	Replace(ctx context.Context, r Replacement) (replaced bool, err error)
}

// Replacement is a step of a compaction. It merges the rows of one minute, or blocks of the previous tier, into one
// block.
type Replacement struct {
	// Generation is the result of Storage.Generation before any rows were read. It detects changes even if versions
	// recur. For example, a version that counts rows recurs when as many late rows arrive as were merged.
	Generation int64
	// Block.Rows contains the rows of the block after the replacement. Block.Version is the version of the block before
	// the replacement.
	Block Block
	// Minute is the minute whose rows are merged into Block. It is nil if Block merges other blocks.
	Minute *Minute
	// Sources are the blocks of the previous tier whose rows are merged into Block.
	Sources []Block
}

// Log appends, reads and compacts the rows in a Storage.
type Log struct{ storage Storage }

// NewLog returns a Log of the rows in the given Storage.
func NewLog(s Storage) Log { return Log{storage: s} }

// Append adds rows of one process. Adding the same rows again has no effect.
func (l Log) Append(ctx context.Context, process string, rows []Row) error {
	if len(rows) == 0 {
		return nil
	}
	return l.storage.AppendRows(ctx, process, rows)
}

// Read returns the rows that overlap [from, to), merged over all processes and in chronological order.
func (l Log) Read(ctx context.Context, from, to time.Time) ([]Row, error) {
	// Each compaction changes the generation. A compaction during the read can cause missing or repeated rows, so read
	// again.
	for range maxReads {
		before, err := l.storage.Generation(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the timeline: %w", err)
		}
		rows, err := l.read(ctx, from, to)
		if err != nil {
			return nil, fmt.Errorf("read the timeline: %w", err)
		}
		if after, err := l.storage.Generation(ctx); err != nil {
			return nil, fmt.Errorf("read the timeline: %w", err)
		} else if after == before {
			return between(mergeOverlapping(rows), from, to), nil
		}
	}
	return nil, fmt.Errorf("read the timeline: a compaction ran during each of %d attempts; try again", maxReads)
}

// maxReads is the maximum number of attempts of Read. An attempt fails if the timeline is compacted at the same time.
const maxReads = 10

// read returns the rows of all blocks and minutes that can overlap the interval.
func (l Log) read(ctx context.Context, from, to time.Time) ([]Row, error) {
	var all []Row
	for tier := range Tiers() {
		blocks, err := l.storage.ReadBlocks(ctx, tier, blockOf(tier, from.Unix()).Start, to.Unix())
		if err != nil {
			return nil, err
		}
		for _, b := range blocks {
			all = append(all, b.Rows...)
		}
	}
	minutes, err := l.storage.Minutes(ctx)
	if err != nil {
		return nil, err
	}
	for _, start := range minutes {
		if start+blockRows <= from.Unix() || start >= to.Unix() {
			continue
		}
		minute, err := l.storage.ReadMinute(ctx, start)
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

// mergeOverlapping sorts rows and merges those that overlap. A late row can overlap a wider row of merged rows.
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

// merged returns the rows of a minute, merged over all processes.
func (m *Minute) merged() []Row {
	var all []Row
	for _, rows := range m.Rows {
		all = append(all, rows...)
	}
	return Merge(1, all...)
}

// Compact merges old rows into wider rows. Several processes may call it at the same time. Each replacement is atomic.
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

func (l Log) compactMinutes(ctx context.Context, now time.Time) error {
	starts, err := l.storage.Minutes(ctx)
	if err != nil {
		return err
	}
	for _, start := range starts {
		if now.Before(time.Unix(start+blockRows, 0).Add(settleTime)) {
			continue
		}
		generation, err := l.storage.Generation(ctx)
		if err != nil {
			return err
		}
		minute, err := l.storage.ReadMinute(ctx, start)
		if err != nil {
			return err
		}
		block, err := l.block(ctx, blockOf(0, start))
		if err != nil {
			return err
		}
		block.Rows = Merge(Tiers()[0].Width, append(block.Rows, minute.merged()...)...)
		if _, err := l.storage.Replace(ctx, Replacement{Generation: generation, Block: block, Minute: &minute}); err != nil {
			return err
		}
	}
	return nil
}

// compactTier merges old blocks of a tier into blocks of the next tier, which has wider rows.
func (l Log) compactTier(ctx context.Context, tier int, now time.Time) error {
	horizon := now.Add(-Tiers()[tier].Keep).Unix()
	// Merge only rows for complete blocks of the next tier, whose rows are all older than the horizon.
	whole := blockOf(tier+1, horizon).Start
	generation, err := l.storage.Generation(ctx)
	if err != nil {
		return err
	}
	old, err := l.storage.ReadBlocks(ctx, tier, 0, whole)
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
		replaced, err := l.storage.Replace(ctx, Replacement{Generation: generation, Block: block, Sources: sources})
		if err != nil || !replaced {
			return err // nil if the timeline has changed meanwhile
		}
		generation++
	}
	return nil
}

// block reads a block. If the block does not exist yet, the result is an empty block.
func (l Log) block(ctx context.Context, id BlockID) (Block, error) {
	blocks, err := l.storage.ReadBlocks(ctx, id.Tier, id.Start, id.Start+1)
	if err != nil {
		return Block{}, err
	}
	if len(blocks) == 0 {
		return Block{ID: id}, nil
	}
	return blocks[0], nil
}

// repetitionTime is the longest outage of a process after which the storage still recognizes repeated rows.
const repetitionTime = 7 * 24 * time.Hour

// Horizon returns a Unix time. A storage may forget processes whose latest merged row is before this time (see
// repetitionTime).
func (m *Minute) Horizon() int64 { return m.Start - int64(repetitionTime/time.Second) }

// LastSeconds returns, for each process, the field Second of its latest row in the minute.
func (m *Minute) LastSeconds() map[string]int64 {
	last := make(map[string]int64, len(m.Rows))
	for process, rows := range m.Rows {
		for _, row := range rows {
			last[process] = max(last[process], row.Second)
		}
	}
	return last
}
