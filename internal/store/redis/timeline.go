package redis

import (
	"context"
	"crypto/sha1" //nolint:gosec // the hash identifies a version; it is not used for security
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// AppendTimeline implements store.Timeline. It returns after the rows are durable.
func (s *Store) AppendTimeline(ctx context.Context, process string, rows []timeline.Row) error {
	mark, err := s.Mark(ctx, 0)
	if err != nil {
		return err
	}
	if err := timeline.NewLog(s.timeline()).Append(ctx, process, rows); err != nil {
		return s.failure(ctx, "record the timeline", err)
	}
	return s.WaitDurable(ctx, 0, mark)
}

// ReadTimeline implements store.Timeline.
func (s *Store) ReadTimeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	rows, err := timeline.NewLog(s.timeline()).Read(ctx, from, to)
	if err != nil {
		return nil, s.failure(ctx, "read the timeline", err)
	}
	return rows, nil
}

// CompactTimeline implements store.Timeline.
func (s *Store) CompactTimeline(ctx context.Context, now time.Time) error {
	if err := timeline.NewLog(s.timeline()).Compact(ctx, now); err != nil {
		return s.failure(ctx, "compact the timeline", err)
	}
	return nil
}

// timelineKeys implements timeline.Storage. It stores the timeline under keys of partition 0.
type timelineKeys struct {
	client    goredis.UniversalClient
	batcher   *batcher
	scripts   *scripts
	partition *partition
}

func (s *Store) timeline() *timelineKeys {
	p := s.partitions[0]
	return &timelineKeys{client: s.client, batcher: s.batcher(p), scripts: s.scripts, partition: p}
}

func (k *timelineKeys) minute(start int64) string {
	return k.partition.key(keyTimelineMinute, strconv.FormatInt(start, 10))
}

func (k *timelineKeys) blocks(tier int) string {
	return k.partition.key(keyTimelineBlocks, strconv.Itoa(tier))
}

// Generation implements timeline.Storage.
func (k *timelineKeys) Generation(ctx context.Context) (int64, error) {
	n, err := k.client.Get(ctx, k.partition.key(keyTimelineGeneration)).Int64()
	if errors.Is(err, goredis.Nil) {
		return 0, nil
	}
	return n, err
}

// AppendRows implements timeline.Storage. It sends the rows in the pipelines of RecordEntry and similar calls.
func (k *timelineKeys) AppendRows(ctx context.Context, process string, rows []timeline.Row) error {
	for i := range rows {
		text, err := json.Marshal(rows[i])
		if err != nil {
			return fmt.Errorf("encode a row of the timeline: %w", err)
		}
		start := timeline.MinuteOf(rows[i].Second)
		c := k.partition.timeline.begin()
		c.key(keyTimelineMerged, "")
		c.key(keyTimelineMinutes, "")
		c.key(keyTimelineMinute, strconv.FormatInt(start, 10))
		c.string(process)
		c.number(start)
		c.number(rows[i].Second)
		c.string(string(text))
		if _, err := k.batcher.do(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// Minutes implements timeline.Storage.
func (k *timelineKeys) Minutes(ctx context.Context) ([]int64, error) {
	members, err := k.client.SMembers(ctx, k.partition.key(keyTimelineMinutes)).Result()
	if err != nil {
		return nil, err
	}
	return parseNumbers(members)
}

// ReadMinute implements timeline.Storage.
func (k *timelineKeys) ReadMinute(ctx context.Context, start int64) (timeline.Minute, error) {
	minute := timeline.Minute{Start: start, Rows: map[string][]timeline.Row{}}
	fields, err := k.client.HGetAll(ctx, k.minute(start)).Result()
	if err != nil {
		return minute, err
	}
	// The number of rows suffices as the version of the minute, because a stored row never changes.
	minute.Version = strconv.Itoa(len(fields))
	for field, text := range fields {
		var row timeline.Row
		if err := json.Unmarshal([]byte(text), &row); err != nil {
			return minute, fmt.Errorf("decode row %s of the timeline: %w", field, err)
		}
		_, process, _ := strings.Cut(field, ":")
		minute.Rows[process] = append(minute.Rows[process], row)
	}
	return minute, nil
}

// ReadBlocks implements timeline.Storage.
func (k *timelineKeys) ReadBlocks(ctx context.Context, tier int, from, to int64) ([]timeline.Block, error) {
	fields, err := k.client.HKeys(ctx, k.blocks(tier)).Result()
	if err != nil {
		return nil, err
	}
	starts, err := parseNumbers(fields)
	if err != nil {
		return nil, err
	}
	starts = slices.DeleteFunc(starts, func(start int64) bool { return start < from || start >= to })
	if len(starts) == 0 {
		return nil, nil
	}
	wanted := make([]string, len(starts))
	for i, start := range starts {
		wanted[i] = strconv.FormatInt(start, 10)
	}
	values, err := k.client.HMGet(ctx, k.blocks(tier), wanted...).Result()
	if err != nil {
		return nil, err
	}
	var found []timeline.Block
	for i, value := range values {
		text, exists := value.(string)
		if !exists {
			continue // a compaction deleted the block after HKEYS had returned its start
		}
		block := timeline.Block{ID: timeline.BlockID{Tier: tier, Start: starts[i]}, Version: digest(text)}
		if err := json.Unmarshal([]byte(text), &block.Rows); err != nil {
			return nil, fmt.Errorf("decode block %s of the timeline: %w", wanted[i], err)
		}
		found = append(found, block)
	}
	return found, nil
}

// digest returns the SHA-1 hash of a block of timeline rows, which identifies the version of the block. The script
// timelinereplace.lua computes the same hash.
func digest(text string) string {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// Replace implements timeline.Storage.
func (k *timelineKeys) Replace(ctx context.Context, r timeline.Replacement) (replaced bool, err error) {
	text, err := json.Marshal(r.Block.Rows)
	if err != nil {
		return false, fmt.Errorf("encode a block of the timeline: %w", err)
	}
	keys := []string{
		k.partition.key(keyTimelineGeneration), k.blocks(r.Block.ID.Tier),
		k.partition.key(keyTimelineMerged), k.partition.key(keyTimelineMinutes),
	}
	args := []any{r.Block.ID.Start, r.Block.Version, text, r.Generation}
	switch {
	case r.Minute != nil:
		keys = append(keys, k.minute(r.Minute.Start))
		args = append(args, "minute", r.Minute.Start, r.Minute.Version, r.Minute.Horizon())
		last := r.Minute.LastSeconds()
		for _, process := range slices.Sorted(maps.Keys(last)) {
			args = append(args, process, last[process])
		}
	case len(r.Sources) > 0:
		keys = append(keys, k.blocks(r.Sources[0].ID.Tier))
		args = append(args, "blocks")
		for _, source := range r.Sources {
			args = append(args, source.ID.Start, source.Version)
		}
	}
	reply, err := k.scripts.timelineReplace.Run(ctx, k.client, keys, args...).Text()
	return reply == "replaced", err
}

func parseNumbers(texts []string) ([]int64, error) {
	numbers := make([]int64, len(texts))
	for i, text := range texts {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("parse the time %q in the timeline: %w", text, err)
		}
		numbers[i] = n
	}
	return numbers, nil
}

var _ store.Timeline = (*Store)(nil)
