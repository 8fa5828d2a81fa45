package memory

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/timeline"
)

// timelineBlocks implements timeline.Storage in memory. It stores rows in encoded form, like a server, so that
// callers cannot change stored rows.
type timelineBlocks struct {
	mu         sync.Mutex
	generation int64
	// minutes contains the encoded rows that Replace has not merged into a block yet. The outer key is the start of a
	// minute, in Unix seconds.
	minutes map[int64]map[rowKey][]byte
	blocks  map[timeline.BlockID][]byte
	// merged contains, for each process, the Unix time of its latest row in a block. AppendRows ignores rows up to
	// this time as repetitions.
	merged map[string]int64
}

type rowKey struct {
	process string
	second  int64
}

func newTimelineBlocks() *timelineBlocks {
	return &timelineBlocks{
		minutes: map[int64]map[rowKey][]byte{},
		blocks:  map[timeline.BlockID][]byte{},
		merged:  map[string]int64{},
	}
}

// AppendTimeline implements store.Timeline.
func (s *Store) AppendTimeline(ctx context.Context, process string, rows []timeline.Row) error {
	if err := s.ready(ctx, "record the timeline"); err != nil {
		return err
	}
	return timeline.NewLog(s.timeline).Append(ctx, process, rows)
}

// ReadTimeline implements store.Timeline.
func (s *Store) ReadTimeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	if err := s.ready(ctx, "read the timeline"); err != nil {
		return nil, err
	}
	return timeline.NewLog(s.timeline).Read(ctx, from, to)
}

// CompactTimeline implements store.Timeline.
func (s *Store) CompactTimeline(ctx context.Context, now time.Time) error {
	if err := s.ready(ctx, "compact the timeline"); err != nil {
		return err
	}
	return timeline.NewLog(s.timeline).Compact(ctx, now)
}

// Generation implements timeline.Storage.
func (b *timelineBlocks) Generation(context.Context) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.generation, nil
}

// AppendRows implements timeline.Storage.
func (b *timelineBlocks) AppendRows(_ context.Context, process string, rows []timeline.Row) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, row := range rows {
		if last, ok := b.merged[process]; ok && row.Second <= last {
			continue
		}
		text, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("encode a row of the timeline: %w", err)
		}
		minute := timeline.MinuteOf(row.Second)
		if b.minutes[minute] == nil {
			b.minutes[minute] = map[rowKey][]byte{}
		}
		b.minutes[minute][rowKey{process, row.Second}] = text
	}
	return nil
}

// Minutes implements timeline.Storage.
func (b *timelineBlocks) Minutes(context.Context) ([]int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.minutes)), nil
}

// ReadMinute implements timeline.Storage.
func (b *timelineBlocks) ReadMinute(_ context.Context, start int64) (timeline.Minute, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	minute := timeline.Minute{Start: start, Rows: map[string][]timeline.Row{}, Version: b.minuteVersion(start)}
	for key, text := range b.minutes[start] {
		var row timeline.Row
		if err := json.Unmarshal(text, &row); err != nil {
			return minute, fmt.Errorf("decode a row of the timeline: %w", err)
		}
		minute.Rows[key.process] = append(minute.Rows[key.process], row)
	}
	return minute, nil
}

// minuteVersion returns the version of a minute, which is its number of rows. This number is sufficient, because a
// stored row never changes.
func (b *timelineBlocks) minuteVersion(start int64) string {
	return strconv.Itoa(len(b.minutes[start]))
}

// ReadBlocks implements timeline.Storage.
func (b *timelineBlocks) ReadBlocks(_ context.Context, tier int, from, to int64) ([]timeline.Block, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []timeline.Block
	for id, text := range b.blocks {
		if id.Tier != tier || id.Start < from || id.Start >= to {
			continue
		}
		block := timeline.Block{ID: id, Version: string(text)}
		if err := json.Unmarshal(text, &block.Rows); err != nil {
			return nil, fmt.Errorf("decode a block of the timeline: %w", err)
		}
		found = append(found, block)
	}
	return found, nil
}

// Replace implements timeline.Storage.
func (b *timelineBlocks) Replace(_ context.Context, r timeline.Replacement) (replaced bool, err error) {
	text, err := json.Marshal(r.Block.Rows)
	if err != nil {
		return false, fmt.Errorf("encode a block of the timeline: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.generation != r.Generation || r.Minute != nil && b.minuteVersion(r.Minute.Start) != r.Minute.Version {
		return false, nil
	}
	for _, block := range append(slices.Clip(r.Sources), r.Block) {
		if string(b.blocks[block.ID]) != block.Version {
			return false, nil
		}
	}
	for _, source := range r.Sources {
		delete(b.blocks, source.ID)
	}
	if r.Minute != nil {
		delete(b.minutes, r.Minute.Start)
		for process, second := range r.Minute.LastSeconds() {
			b.merged[process] = max(b.merged[process], second)
		}
		maps.DeleteFunc(b.merged, func(_ string, second int64) bool { return second < r.Minute.Horizon() })
	}
	b.blocks[r.Block.ID] = text
	b.generation++
	return true, nil
}

// purge removes all rows of the timeline.
func (b *timelineBlocks) purge() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.minutes)
	clear(b.blocks)
	clear(b.merged)
	b.generation++
}
