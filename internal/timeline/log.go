package timeline

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// blockRows is the maximum number of rows in a block. All rows of a block have the same width, so a block covers an
// interval of blockRows times that width. Old rows are merged into wider rows, so that the timeline of a simulation of
// any length takes a bounded amount of memory.
const blockRows = 60

// Tier is a resolution of the timeline: the width of the rows, and the age up to which the rows keep this width.
type Tier struct {
	// Width is the length, in seconds, of the interval that a row covers.
	Width int64
	// Keep is the age at which rows move to the next tier, which merges them into longer rows. 0 means that they never
	// move.
	Keep time.Duration
}

// Tiers returns all tiers. They are the same for every timeline. The rows of the first tier cover 1 s each, and the
// rows of each further tier are wider.
func Tiers() []Tier {
	return []Tier{
		{Width: 1, Keep: time.Hour},
		{Width: 10, Keep: 10 * time.Hour},
		{Width: 60, Keep: 7 * 24 * time.Hour},
		{Width: 3600},
	}
}

// settleTime is the minimum time from the end of a minute until a compaction merges the rows of that minute. In this
// time, all processes should deliver their rows. If a row arrives later, the next compaction merges the row.
const settleTime = 2 * time.Minute

// BlockID identifies a block. Tier is an index in the result of Tiers. Start is the Unix time at which the block
// begins.
type BlockID struct {
	Tier  int
	Start int64
}

// blockOf returns the ID of the block that contains the given second in a tier, which is a resolution of the timeline.
func blockOf(tier int, second int64) BlockID {
	return BlockID{Tier: tier, Start: second - mod(second, span(tier))}
}

// span returns how many seconds of the timeline one block covers. The tier determines the width of its rows.
func span(tier int) int64 { return blockRows * Tiers()[tier].Width }

// MinuteOf returns the start of the minute that contains the given Unix time. The store keeps unmerged rows by minute.
func MinuteOf(second int64) int64 { return second - mod(second, blockRows) }

// Block is a stored sequence of rows of one tier. All rows of a tier have the same width, which is the length of the
// time that a row covers.
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
	// AppendRows stores rows of one process. A new row replaces a stored row of the same process and second. AppendRows
	// ignores a row that is not later than the latest row of the process that Replace has merged. Such a row is a
	// repetition, because each process sends its rows in chronological order.
	AppendRows(ctx context.Context, process string, rows []Row) error
	// Minutes returns the start of each minute that has unmerged rows. The results are Unix times in any order.
	Minutes(ctx context.Context) ([]int64, error)
	// ReadMinute returns the rows of a minute.
	ReadMinute(ctx context.Context, start int64) (Minute, error)
	// ReadBlocks returns, in any order, the blocks of merged rows of a tier (see Tiers) that begin in [from, to).
	ReadBlocks(ctx context.Context, tier int, from, to int64) ([]Block, error)
	// Replace stores r.Block, and deletes the rows that were merged into it: the rows of r.Minute or, if r.Minute is
	// nil, the rows of r.Sources. If the storage has another generation or another version than r expects, Replace
	// changes nothing and returns false.
	Replace(ctx context.Context, r Replacement) (replaced bool, err error)
}

// Replacement is one step of a compaction. It merges either the rows of one minute, or blocks of the previous tier,
// into one block. Block.Rows are the rows after the step. Block.Version is the version of the stored block before the
// step, so that Replace can detect a concurrent change.
type Replacement struct {
	// Generation is the result of Storage.Generation before any rows were read. It detects changes by other processes
	// that the versions of a minute and of its block do not show, because these versions can recur.
	//
	// For example, let the version of a minute be the number of its rows. Process A reads 5 rows of a minute, and finds
	// no block for this minute. Process B merges the 5 rows into a new block, and then moves the rows of this block to
	// the next tier. A late process appends 5 other rows to the minute. Now the minute has 5 rows and no block again.
	// Without the field Generation, Replace in process A would store the first 5 rows twice, and delete the 5 late
	// rows.
	Generation int64
	Block      Block
	// Minute is the minute whose rows are merged into Block. It is nil if Block merges other blocks.
	Minute *Minute
	// Sources are the blocks whose rows were merged into Block. They are of the previous tier, whose rows are narrower.
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

// Read returns the measurements in the interval [from, to), merged over all processes and in chronological order. The
// first row and the last row may extend beyond the interval, because old rows are wider than 1 s.
func (l Log) Read(ctx context.Context, from, to time.Time) ([]Row, error) {
	// A compaction during the read can cause missing or repeated rows. So repeat the read if the generation, which each
	// compaction changes, is no longer the same.
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

// mergeOverlapping sorts rows and merges the rows whose intervals overlap. Intervals can overlap if a process delivers
// a row late, after the rows of other processes for that time were merged into a wider row.
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

// Compact merges old rows into wider rows. The given time determines which rows are old enough. Several processes may
// call Compact at the same time. A process may be killed during Compact, because each replacement is atomic.
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

// compactMinutes merges the rows of past minutes into blocks of the first tier.
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
	// Merge only rows for complete blocks of the next tier. The block that contains the horizon is not complete yet.
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
			return err // if err is nil, the timeline has changed, and the next compaction tries again
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

// repetitionTime is the longest outage after which the storage certainly recognizes repeated rows. After an outage, a
// process sends again all rows that the storage has not acknowledged. To recognize them, the storage keeps the latest
// second of each process whose row was merged: a row of this or an earlier second is a repetition. The method Horizon
// says when the storage may delete what it keeps.
const repetitionTime = 7 * 24 * time.Hour

// Horizon returns a Unix time. When the storage merges the minute m, it may forget all processes whose latest merged
// row is older. Otherwise, it would remember every process that ever started. See repetitionTime.
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
