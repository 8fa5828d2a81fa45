package kubectl

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/document"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	// recoveryInterval is the minimum time between two reads of the timeline during a recovery.
	recoveryInterval = 5 * time.Second
	// baselineTime covers the 10 minutes before a fault that package fault may use as a baseline, and a margin for wide
	// rows.
	baselineTime = 11 * time.Minute
)

// liveFaults computes how faults affect a running simulation.
type liveFaults struct {
	// read returns the records of a simulation's faults. rows returns the rows of the timeline in an interval.
	read func(context.Context, *v1alpha1.ParkingSimulation) (faultRecords, error)
	rows func(ctx context.Context, from, to time.Time) ([]timeline.Row, error)
	// onReadError is called once, with the first error of read.
	onReadError func(error)

	mu         sync.Mutex // guards the fields below
	hasFailed  bool
	readAt     time.Time // the time of the last attempt to read the records
	measuredAt time.Time // the time of the last attempt to read the timeline
	records    faultRecords
	timeline   []timeline.Row
	known      []fault.Account // the latest result of liveFaults.accounts
}

// faultRecords contains the fields that liveFaults reads from the operator's records of faults.
type faultRecords struct {
	Records []fault.Record `json:"records"`
	History fault.History  `json:"history"`
}

func (c *cluster) liveFaults(s *source, onReadError func(error)) *liveFaults {
	return &liveFaults{read: c.faultRecords, rows: s.fetch, onReadError: onReadError}
}

// reset discards the data of a deleted simulation.
func (f *liveFaults) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readAt, f.measuredAt, f.records, f.timeline, f.known = time.Time{}, time.Time{}, faultRecords{}, nil, nil
}

// faultRecords reads the records of faults, which the operator keeps in a ConfigMap.
func (c *cluster) faultRecords(ctx context.Context, sim *v1alpha1.ParkingSimulation) (content faultRecords, err error) {
	key := client.ObjectKey{Namespace: sim.Namespace, Name: resources.FaultsName(sim)}
	object := &corev1.ConfigMap{}
	if err := c.Get(ctx, key, object); err != nil {
		return content, c.explain(err, "get the faults in ConfigMap "+key.String(), onCore("configmaps", "get"))
	}
	if err := (document.Format{}).DecodeKnown([]byte(object.Data[resources.FaultsKey]), &content); err != nil {
		return faultRecords{}, inputErrorf("read key %s of ConfigMap %s: %w", resources.FaultsKey, key, err)
	}
	return content, nil
}

// accounts returns the effect of each fault so far. It caches the records and the timeline, and uses the latest
// successful read if a read fails.
func (f *liveFaults) accounts(ctx context.Context, sim *v1alpha1.ParkingSimulation) []fault.Account {
	if sim.Status.Faults == nil || sim.Status.StartTime == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readRecords(ctx, sim)
	accounts := f.account(sim)
	if from, ok := f.unmeasured(accounts); ok {
		// Request rows up to one hour in the future, because the clock of the pod may be ahead of the clock of this
		// machine.
		if rows, err := f.rows(ctx, from, time.Now().Add(time.Hour)); err == nil {
			f.timeline = rows
		}
		f.measuredAt = time.Now()
		accounts = f.account(sim)
	}
	f.known = accounts
	return accounts
}

// latest returns the latest result of liveFaults.accounts. It does not read the records or the timeline again.
func (f *liveFaults) latest() []fault.Account {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known
}

// readRecords reads the records of faults, unless the last read was less than objectInterval ago.
func (f *liveFaults) readRecords(ctx context.Context, sim *v1alpha1.ParkingSimulation) {
	if time.Since(f.readAt) < objectInterval {
		return
	}
	f.readAt = time.Now()
	records, err := f.read(ctx, sim)
	if err == nil {
		f.records = records
	} else if !f.hasFailed {
		f.hasFailed = true
		f.onReadError(err)
	}
}

// account computes the effects of all faults from the latest records and the latest timeline.
func (f *liveFaults) account(sim *v1alpha1.ParkingSimulation) []fault.Account {
	var end time.Time
	if sim.Spec.Duration != nil {
		end = sim.Status.StartTime.Add(sim.Spec.Duration.Value())
	}
	run := fault.RunSoFar(f.timeline, end)
	run.History = f.records.History
	return fault.Accounts(f.records.Records, run)
}

// unmeasured returns the time from which to read the timeline, or false if no new read is necessary.
func (f *liveFaults) unmeasured(accounts []fault.Account) (from time.Time, ok bool) {
	i := slices.IndexFunc(accounts, func(a fault.Account) bool { return a.Outcome == fault.OutcomeRecovering })
	if i < 0 {
		return time.Time{}, false
	}
	const part = 10
	wait := max(recoveryInterval, time.Since(accounts[i].HealedAt)/part)
	return accounts[0].InjectedAt.Add(-baselineTime), time.Since(f.measuredAt) >= wait
}
