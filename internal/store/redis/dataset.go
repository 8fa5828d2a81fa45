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

// These fields of the ledger hash describe the data of the simulation as a whole.
const (
	fieldDataset    = "dataset"    // a random text that identifies the simulation's data; see the type dataset
	fieldPartitions = "partitions" // the number of partitions with which the simulation started
	fieldLostAt     = "lost_at"    // when the first loss of data was noticed, in Unix milliseconds
)

// dataset detects lost data. It writes a random text, the mark, into the ledger: if the durable mark or durable
// effects are missing later, data is lost. (A store.Mark identifies a server process.)
type dataset struct {
	// join writes the mark into the ledger if the ledger has none. It returns the mark in the ledger. If lostAt is not
	// zero, it is recorded as the time of a loss.
	join    func(ctx context.Context, mark string, lostAt time.Time) (stands string, err error)
	metrics *metrics
	logger  *slog.Logger

	mu sync.Mutex
	// mark is the mark that this process expects in the ledger. It is "" before the first call of join and after a
	// purge.
	mark    string
	durable bool   // whether the mark is durable
	written waiter // its method consider reports whether the mark is durable
	// kept is a number of effects known to be durable. An observation with fewer effects shows a loss. After a loss,
	// kept is lowered, so that the loss is reported only once.
	kept     int64
	counted  int64  // an observed number of effects that may not be durable yet
	counting waiter // its method consider reports whether the counted effects are durable
}

// dataState is the state of a simulation's data on a server at one point in time.
type dataState struct {
	// mark is the random text that identifies the data (see the type dataset). It is "" if the ledger contains no such
	// text.
	mark string
	// effects is the number of generated events with an effect in the partition.
	effects int64
}

// compare checks whether durable data was lost between two observations. The parameter before may be nil. The parameter
// promised is the offset in before.history up to which all effects were reported as durable.
func (d *dataset) compare(ctx context.Context, before *observation, promised int64, now observation) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	switch remedy := d.lossRemedy(before, promised, now); {
	case remedy != "":
		if err = d.begin(ctx, now, time.Now()); err == nil {
			d.metrics.losses.Inc()
			d.logger.Error("The store lost data of the simulation, so the verdict will be FAIL", "remedy", remedy)
		}
	case d.mark == "" || now.data.mark != d.mark:
		// The mark is not set yet, or the server lost it before it was durable. No durable data is lost.
		err = d.begin(ctx, now, time.Time{})
	case !d.durable:
		err = d.checkDurable(now)
	}
	if err == nil {
		d.keep(now)
	}
	return err
}

// keep updates d.kept, the number of durable effects, after an observation. If effects are missing, keep lowers d.kept.
func (d *dataset) keep(now observation) {
	if d.counting.epoch != now.epoch {
		d.counted, d.counting = now.data.effects, waiter{epoch: now.epoch}
	}
	// The method consider returns no error, because d.counting has the epoch of the observation.
	if durable, _ := d.counting.consider(now); durable {
		// With an empty waiter, the next call of keep stores a new count in d.counted.
		d.kept, d.counting = d.counted, waiter{}
	}
	d.kept = min(d.kept, now.data.effects)
}

// lossRemedy returns advice that helps to prevent another loss of durable data, or "" if the server has not lost
// durable data.
func (d *dataset) lossRemedy(before *observation, promised int64, now observation) string {
	const (
		settings = "set appendonly yes and maxmemory-policy noeviction for later runs"
		older    = "the server has lost its latest writes: for later runs, set appendonly yes and, if machines may fail, appendfsync always or redis.durability: Synced; do the same on replicas"
	)
	switch {
	case !d.durable:
		return ""
	case now.data.mark != d.mark:
		return settings
	case before == nil:
		return ""
	case now.history.lacks(before.history, promised):
		return "the promoted replica had lost its connection to the primary: set min-replicas-to-write 1 for later runs"
	case now.data.effects < d.kept:
		// The mark still exists, but effects are missing: for example, the server restarted with an older snapshot.
		return older
	}
	return ""
}

// begin makes sure that the ledger contains a mark, and copies it to d.mark. A non-zero lostAt is recorded as the
// time of a loss.
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

// checkDurable sets d.durable to true if the observation shows that d.mark is durable. The mark in the observation must
// equal d.mark.
func (d *dataset) checkDurable(now observation) error {
	written, err := d.written.consider(now)
	if errors.Is(err, store.ErrRolledBack) {
		// The server process has changed but has kept the mark, so find out when the new process has made the mark
		// durable.
		d.written = waiter{epoch: now.epoch}
		return nil
	}
	d.durable = written
	return err
}

// reset forgets the mark after a purge. Otherwise, the next observation would report the purged data as lost.
func (d *dataset) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mark, d.durable = "", false
}

// misses reports whether d.mark was durable, but differs from the current mark in the ledger, which may be "".
func (d *dataset) misses(mark string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.durable && mark != d.mark
}

// joiner returns dataset.join for a partition. The function also records the owner, and rejects data with another
// owner or number of partitions.
func (s *Store) joiner(p *partition) func(context.Context, string, time.Time) (string, error) {
	return func(ctx context.Context, mark string, lostAt time.Time) (string, error) {
		lost := ""
		if !lostAt.IsZero() {
			lost = strconv.FormatInt(lostAt.UnixMilli(), 10)
		}
		keys := []string{p.key(keyLedger), p.key(keyOwner)}
		stands, err := s.scripts.dataset.Run(ctx, s.client, keys, mark, len(s.partitions), lost, s.owner).StringSlice()
		switch {
		case err != nil:
			return "", err
		case len(stands) == 0:
			return "", errOtherOwner
		case len(stands) != 2 || stands[0] == "":
			return "", unexpected("write the mark into the ledger", fmt.Sprint(stands))
		case stands[1] != strconv.Itoa(len(s.partitions)):
			return "", fmt.Errorf("%w: the existing data has %s partitions, but %d are configured; use %s partitions, or give the simulation another name",
				store.ErrOtherPartitions, stands[1], len(s.partitions), stands[1])
		}
		return stands[0], nil
	}
}

// Dataset implements store.Ledger. It also reports a loss of data that is not recorded in the ledger yet.
func (s *Store) Dataset(ctx context.Context) (store.Dataset, error) {
	const doing = "check whether the store has lost data"
	if err := s.verifyOwner(ctx); err != nil {
		return store.Dataset{}, s.failure(ctx, doing, err)
	}
	found, err := each(ctx, s, func(pipe goredis.Pipeliner, p *partition) *goredis.SliceCmd {
		return pipe.HMGet(ctx, p.key(keyLedger), fieldDataset, fieldPartitions, fieldLostAt)
	})
	if err != nil {
		return store.Dataset{}, s.failure(ctx, doing, err)
	}
	var d store.Dataset
	// A single server loses the data of all partitions together, so only partition 0 has a mark. In a cluster, every
	// partition has one.
	for i, p := range s.servers() {
		fields := found[i].Val()
		partitions, err := wholeNumber(fields[1])
		if err != nil {
			return store.Dataset{}, fmt.Errorf("%s: read the number of partitions: %w", doing, err)
		}
		lostAt, err := wholeNumber(fields[2])
		if err != nil {
			return store.Dataset{}, fmt.Errorf("%s: read the recorded time of a loss of data: %w", doing, err)
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

// text returns a field of a Redis hash, or "" if the field is missing.
func text(field any) string {
	s, _ := field.(string)
	return s
}

// wholeNumber parses a field of a Redis hash. A missing field counts as 0.
func wholeNumber(field any) (int64, error) {
	if field == nil {
		return 0, nil
	}
	return strconv.ParseInt(text(field), 10, 64)
}
