package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
)

// What the ledger says of the data, beside its counters.
const (
	fieldDataset    = "dataset"    // the mark
	fieldPartitions = "partitions" // with how many the simulation was begun
	fieldLostAt     = "lost_at"    // Unix ms at which a loss of data was noticed
)

// dataset follows the simulation's data on one server. It marks them when they begin and remembers the mark
// once that is durable. From then on a server that does not have the mark has lost the data with it: what a
// crash may take is only the latest, and an append-only file brings everything back up to there.
type dataset struct {
	// join marks the data, or finds the mark that they have.
	join    func(ctx context.Context, mark string, lostAt time.Time) (stands string, err error)
	metrics *metrics
	logger  *slog.Logger

	mu      sync.Mutex
	mark    string
	durable bool
	written waiter
}

// glimpse is what an observation shows of the data.
type glimpse struct {
	// mark is "" where there are no data.
	mark string
	// effects counts the effects in one partition, which become more only.
	effects int64
}

// follow compares an observation with what is known from those before, of which the latest may be nil.
func (d *dataset) follow(ctx context.Context, before *observation, now observation) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.isLost(before, now):
		if err := d.begin(ctx, now, time.Now()); err != nil {
			return err
		}
		d.metrics.losses.Inc()
		d.logger.Error("the store has lost data of the simulation, whose verdict will be FAIL; keep them with " +
			"appendonly yes and maxmemory-policy noeviction")
	case d.mark == "" || now.data.mark != d.mark: // new here, or gone before it was durable
		return d.begin(ctx, now, time.Time{})
	case !d.durable:
		return d.await(now)
	}
	return nil
}

// isLost reports whether data are gone that were durable.
func (d *dataset) isLost(before *observation, now observation) bool {
	if !d.durable {
		return false
	}
	// A server without a log may come back with an older snapshot, the mark in it.
	older := before != nil && !before.logging && now.data.effects < before.data.effects
	return now.data.mark != d.mark || older
}

// begin adopts the mark that stands, or makes one.
func (d *dataset) begin(ctx context.Context, now observation, lostAt time.Time) error {
	mark := d.mark
	if mark == "" {
		mark = rand.Text()
	}
	stands, err := d.join(ctx, mark, lostAt)
	if err != nil {
		return err
	}
	d.mark, d.durable, d.written = stands, false, waiter{epoch: now.epoch}
	return nil
}

// await finds out whether the mark is durable.
func (d *dataset) await(now observation) error {
	written, err := d.written.consider(now)
	if errors.Is(err, store.ErrRolledBack) { // but the mark is there
		d.written = waiter{epoch: now.epoch}
		return nil
	}
	d.durable = written
	return err
}

// forget makes the next observation begin anew: whoever removes the data does not lose them.
func (d *dataset) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mark, d.durable = "", false
}

// misses reports whether the data with this mark are not those that were durable.
func (d *dataset) misses(mark string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.durable && mark != d.mark
}

// joiner returns what marks the data of a partition.
func (s *Store) joiner(p *partition) func(context.Context, string, time.Time) (string, error) {
	return func(ctx context.Context, mark string, lostAt time.Time) (string, error) {
		lost := ""
		if !lostAt.IsZero() {
			lost = strconv.FormatInt(lostAt.UnixMilli(), 10)
		}
		stands, err := s.scripts.dataset.Run(ctx, s.client, []string{p.key(keyLedger)}, mark, len(s.partitions), lost).StringSlice()
		switch {
		case err != nil:
			return "", err
		case len(stands) != 2 || stands[0] == "":
			return "", unexpected("mark the data", fmt.Sprint(stands))
		case stands[1] != strconv.Itoa(len(s.partitions)):
			return "", fmt.Errorf("%w: with %s, not %d; take %s, or give the simulation another name",
				store.ErrOtherPartitions, stands[1], len(s.partitions), stands[1])
		}
		return stands[0], nil
	}
}

// Dataset describes the simulation's data. What this process knows to be lost counts as well.
func (s *Store) Dataset(ctx context.Context) (store.Dataset, error) {
	const doing = "describe the data"
	found, err := each(ctx, s, func(pipe goredis.Pipeliner, p *partition) *goredis.SliceCmd {
		return pipe.HMGet(ctx, p.key(keyLedger), fieldDataset, fieldPartitions, fieldLostAt)
	})
	if err != nil {
		return store.Dataset{}, s.failure(ctx, doing, err)
	}
	var d store.Dataset
	for i, p := range s.servers() { // the others have no mark
		fields := found[i].Val()
		partitions, err := wholeNumber(fields[1])
		if err != nil {
			return store.Dataset{}, fmt.Errorf("%s: read the number of partitions: %w", doing, err)
		}
		lostAt, err := wholeNumber(fields[2])
		if err != nil {
			return store.Dataset{}, fmt.Errorf("%s: read when they were lost: %w", doing, err)
		}
		if lostAt == 0 && s.observer(p).dataset.misses(text(fields[0])) {
			lostAt = time.Now().UnixMilli()
		}
		d.Partitions = max(d.Partitions, int(partitions))
		if lostAt > 0 && (d.LostAt.IsZero() || lostAt < d.LostAt.UnixMilli()) {
			d.LostAt = time.UnixMilli(lostAt).UTC()
		}
	}
	return d, nil
}

// text returns a field of a hash, "" when it is missing.
func text(field any) string {
	s, _ := field.(string)
	return s
}

// wholeNumber reads a field of a hash, which is 0 when it is missing.
func wholeNumber(field any) (int64, error) {
	if field == nil {
		return 0, nil
	}
	return strconv.ParseInt(text(field), 10, 64)
}
