package rehearsal

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// maxRecords is the maximum number of records in a journal. It is limited because a journal must fit into a
// ConfigMap. If there are more records, the oldest are dropped.
const maxRecords = 1000

// fieldManager is the field manager with which the journal's ConfigMap is applied.
const fieldManager = "parking-operator-faults"

// entries is the content of a journal, which is stored as JSON.
type entries struct {
	Progress fault.Progress `json:"progress"`
	Records  []fault.Record `json:"records"`
}

// journal stores the records of a simulation's faults in a ConfigMap, which the simulation owns. It implements
// fault.Journal.
type journal struct {
	client client.Client
	// direct reads from the API server, because the cache does not contain the data of ConfigMaps.
	direct client.Reader
	target func() Target
	// saved is called after each save. Its argument is the record that has changed. It is nil if only the
	// progress has changed.
	saved func(*fault.Record)

	content entries
}

// load reads the progress and the records that the previous leader has saved.
func (j *journal) load(ctx context.Context) error {
	sim := j.target().Simulation
	object := &corev1.ConfigMap{}
	err := j.direct.Get(ctx, client.ObjectKey{Namespace: sim.Namespace, Name: resources.FaultsName(sim)}, object)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the faults of %s/%s: %w", sim.Namespace, sim.Name, err)
	}
	if err := json.Unmarshal([]byte(object.Data[resources.FaultsKey]), &j.content); err != nil {
		return fmt.Errorf("read ConfigMap %s/%s: %w: delete it to discard the records of past faults", sim.Namespace, object.Name, err)
	}
	return nil
}

// Save implements fault.Journal.
func (j *journal) Save(ctx context.Context, p fault.Progress, r *fault.Record) error {
	next := entries{Progress: p, Records: slices.Clone(j.content.Records)}
	if r != nil {
		next.Records = with(next.Records, *r)
	}
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	object := resources.FaultsConfigMap(j.target().Simulation, map[string]string{resources.FaultsKey: string(text)})
	applied, err := json.Marshal(object)
	if err != nil {
		return err
	}
	patch := client.RawPatch(types.ApplyPatchType, applied)
	if err := j.client.Patch(ctx, object, patch, client.ForceOwnership, client.FieldOwner(fieldManager)); err != nil {
		return fmt.Errorf("write ConfigMap %s/%s: %w", object.Namespace, object.Name, err)
	}
	j.content = next
	j.saved(r)
	return nil
}

// with returns records with r added. If there is already a record of the same occurrence, r replaces that
// record.
func with(records []fault.Record, r fault.Record) []fault.Record {
	at := slices.IndexFunc(records, func(known fault.Record) bool { return known.ID() == r.ID() })
	if at >= 0 {
		records[at] = r
		return records
	}
	records = append(records, r)
	return records[max(0, len(records)-maxRecords):]
}
