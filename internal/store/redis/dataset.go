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
	fieldDataset    = "dataset"    // the random mark, whose absence shows that data is lost
	fieldPartitions = "partitions" // the number of partitions when the simulation started
	fieldLostAt     = "lost_at"    // when a loss of data was noticed, in Unix milliseconds
)

// dataset detects whether a server has lost the data of a simulation. It writes a random mark into the ledger and waits
// until the mark is durable. If the mark is missing later, the server has lost data. A crash alone does not remove the
// mark: the latest writes may be lost, but the append-only file restores everything up to the last durable write.
type dataset struct {
	// join writes the mark into the ledger unless the ledger already has one. It returns the mark that the ledger
	// then has.
	join    func(ctx context.Context, mark string, lostAt time.Time) (stands string, err error)
	metrics *metrics
	logger  *slog.Logger

	mu      sync.Mutex
	mark    string
	durable bool
	written waiter
	// The field kept is a number of effects that are known to be durable; see dataState.effects. If an observation
	// shows fewer effects, durable effects are lost or purged. Then kept is reduced to the observed number, so that the
	// same loss is not reported again.
	//
	// To raise kept, an observation sets the field counted to its number of effects. The waiter in the field counting
	// waits until these effects are durable. Then kept is set to counted, and the next observation sets counted again.
	kept, counted int64
	counting      waiter
}

// dataState is what an observation shows about the simulation's data.
type dataState struct {
	// mark is the random mark in the ledger, by which a loss of data is detected. It is empty if the server has no data
	// of the simulation.
	mark string
	// effects is the number of generated events that had taken effect in one partition before the observation began to
	// wait for replicas: recorded entries, matched exits, and exits that were unmatched as intended. It decreases only
	// if effects are lost or undone.
	effects int64
}

// compare checks whether the server has lost data between the observation "before" and the observation "now". If there
// is no earlier observation, before is nil. promised is the replication offset in the earlier observation up to which
// effects were reported as durable.
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
		// This process does not know the random mark yet, or the server lost the mark before the mark was durable. In
		// both cases, begin makes sure that the ledger has a mark.
		err = d.begin(ctx, now, time.Time{})
	case !d.durable:
		err = d.checkDurable(now)
	}
	if err == nil {
		d.keep(now)
	}
	return err
}

// keep updates d.kept, the number of effects that are known to be durable.
func (d *dataset) keep(now observation) {
	if d.counting.epoch != now.epoch {
		d.counted, d.counting = now.data.effects, waiter{epoch: now.epoch}
	}
	// There is no error: consider returns an error only if the epochs differ, but d.counting has the epoch of the
	// observation here.
	if durable, _ := d.counting.consider(now); durable {
		d.kept, d.counting = d.counted, waiter{} // the new waiter has no epoch, so the next call sets counted again
	}
	d.kept = min(d.kept, now.data.effects)
}

// lossRemedy returns advice that prevents a loss in later runs, if the observation "now" shows that durable data was
// lost. Otherwise, it returns "". The method compare explains the parameters.
func (d *dataset) lossRemedy(before *observation, promised int64, now observation) string {
	const (
		settings = "set appendonly yes and maxmemory-policy noeviction for later runs"
		older    = "the server has older data: for later runs, set appendonly yes and, if machines may fail, appendfsync always; set them on replicas, too"
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
		// The server may have restarted from an older snapshot, or without the end of its append-only file. If this
		// older data already contains the random mark, only the lower number of effects shows the loss.
		//
		// A crash or a failover may also undo effects that were not durable. These effects do not count in d.kept,
		// because their steps are repeated.
		return older
	}
	return ""
}

// begin writes a mark into the ledger, or reads the mark that is already there. It then starts to wait until that mark
// is durable.
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

// checkDurable checks whether the mark is durable according to the observation, and sets the field durable. The
// observation must contain the mark.
func (d *dataset) checkDurable(now observation) error {
	written, err := d.written.consider(now)
	if errors.Is(err, store.ErrRolledBack) { // the restart did not remove the mark: wait again until it is durable
		d.written = waiter{epoch: now.epoch}
		return nil
	}
	d.durable = written
	return err
}

// reset forgets the mark of the dataset, so that the next observation writes a new mark. Purge calls reset, because
// purged data does not count as lost.
func (d *dataset) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mark, d.durable = "", false
}

// misses reports whether the server has lost the mark d.mark after this process had found that mark to be durable. The
// parameter mark is the mark that the ledger has now, or "" if it has none.
func (d *dataset) misses(mark string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.durable && mark != d.mark
}

// joiner returns the function dataset.join for a partition. The function writes the random mark into the ledger, unless
// the ledger already has a mark. It also records the owner of this store and, if data was lost, when the loss was
// noticed. It returns store.ErrOtherOwner if another owner is recorded.
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

// Dataset implements store.Ledger. The result includes a loss that this process has detected but not yet recorded.
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
	// Only the partitions in s.servers() have a mark that detects a loss of data. For a single server, this is one
	// partition, because the server loses the data of all partitions together.
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

// text returns a field of a Redis hash, or "" if it is missing.
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
