package kubectl

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	// recoveryInterval is the shortest time between two readings of the timeline that find out whether the simulation
	// has recovered. It grows with the time since the fault.
	recoveryInterval = 5 * time.Second
	// baselineTime is the part of the timeline before the first fault that package fault may compare with.
	baselineTime = 11 * time.Minute
)

// liveFaults accounts for the faults of a running simulation. Processors do not know of faults: the operator keeps
// their records in a ConfigMap, which the user may read. Whether the simulation has recovered follows from the timeline.
type liveFaults struct {
	// read returns the records of a simulation, rows a part of its timeline.
	read func(context.Context, *v1alpha1.ParkingSimulation) ([]fault.Record, error)
	rows func(ctx context.Context, from, to time.Time) ([]timeline.Row, error)
	// failed is called once, with the first error of read.
	failed func(error)

	mu         sync.Mutex // guards the fields below
	hasFailed  bool
	readAt     time.Time
	measuredAt time.Time
	records    []fault.Record
	timeline   []timeline.Row // as of measuredAt
}

// liveFaults returns the accounts of the faults of simulations whose live data is in a source.
func (c *connection) liveFaults(s *source, failed func(error)) *liveFaults {
	return &liveFaults{read: c.faultRecords, rows: s.fetch, failed: failed}
}

// faultRecords reads the records that the operator has saved. There are none before the first fault.
func (c *connection) faultRecords(ctx context.Context, sim *v1alpha1.ParkingSimulation) ([]fault.Record, error) {
	key := client.ObjectKey{Namespace: sim.Namespace, Name: resources.FaultsName(sim)}
	object := &corev1.ConfigMap{}
	if err := c.Get(ctx, key, object); err != nil {
		return nil, c.explain(err, "get the faults in ConfigMap "+key.String(), onCore("configmaps", "get"))
	}
	var content struct{ Records []fault.Record }
	if err := json.Unmarshal([]byte(object.Data[resources.FaultsKey]), &content); err != nil {
		return nil, inputErrorf("ConfigMap %s: %s: %w", key, resources.FaultsKey, err)
	}
	return content.Records, nil
}

// accounts returns the accounts so far. Without new data they are those of before.
func (f *liveFaults) accounts(ctx context.Context, sim *v1alpha1.ParkingSimulation) []fault.Account {
	if sim.Status.Faults == nil || sim.Status.StartTime == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readRecords(ctx, sim)
	accounts := f.account(sim)
	if from, ok := f.unmeasured(accounts); ok {
		if rows, err := f.rows(ctx, from, time.Now().Add(time.Hour)); err == nil { // clocks of machines may differ
			f.timeline = rows
		}
		f.measuredAt = time.Now()
		accounts = f.account(sim)
	}
	return accounts
}

// readRecords reads the records unless they are recent.
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
		f.failed(err)
	}
}

// account returns the accounts of the records.
func (f *liveFaults) account(sim *v1alpha1.ParkingSimulation) []fault.Account {
	var end time.Time
	if sim.Spec.Duration != nil {
		end = sim.Status.StartTime.Add(sim.Spec.Duration.Value())
	}
	return fault.Accounts(f.records, fault.RunSoFar(f.timeline, end))
}

// unmeasured reports whether the timeline may show a recovery that is not known yet, and which part of it is needed.
func (f *liveFaults) unmeasured(accounts []fault.Account) (from time.Time, ok bool) {
	i := slices.IndexFunc(accounts, func(a fault.Account) bool { return a.Outcome == fault.OutcomeRecovering })
	if i < 0 {
		return time.Time{}, false
	}
	const part = 10
	wait := max(recoveryInterval, time.Since(accounts[i].HealedAt)/part)
	return accounts[0].InjectedAt.Add(-baselineTime), time.Since(f.measuredAt) >= wait
}
