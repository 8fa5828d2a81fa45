package rehearsal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// maxBytes is the maximum size of a journal, because a ConfigMap holds at most 1 MiB.
const maxBytes = 900 << 10

// fieldManager is the field manager with which the journal's ConfigMap is applied.
const fieldManager = "parking-operator-faults"

// entries is the content of a journal, which is stored as JSON.
type entries struct {
	Progress fault.Progress `json:"progress"`
	Records  []fault.Record `json:"records"`
	// History sums up the occurrences whose records were removed to limit the size of the journal.
	History fault.History `json:"history,omitzero"`
}

// journal stores the records of a simulation's faults in a ConfigMap, which the simulation owns. It implements
// fault.Journal.
type journal struct {
	client client.Client
	// direct reads from the API server, because the cache does not contain the data of ConfigMaps.
	direct client.Reader
	target func() Target
	// changed is called after each save of a record whose state has changed.
	changed func(*fault.Record)
	// failed is called with nil after each success, and with an error from the second successive failure on. A
	// concurrent write may cause a single failure.
	failed   func(error)
	failures int

	content entries
	// removed contains the IDs of the records that this journal has removed. The history already counts them.
	removed map[string]bool
	// uid is the UID of the ConfigMap. It is empty as long as the ConfigMap does not exist.
	uid types.UID
}

// load reads what the previous leader has saved: the records of faults, and which occurrences of the faults were
// already handled.
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
	if !metav1.IsControlledBy(object, sim) {
		return &apply.NameTakenError{Kind: "ConfigMap", Key: client.ObjectKeyFromObject(object)}
	}
	j.uid = object.UID
	if err := json.Unmarshal([]byte(object.Data[resources.FaultsKey]), &j.content); err != nil {
		return fmt.Errorf("read ConfigMap %s/%s: %w: delete this ConfigMap to discard the records of past faults", sim.Namespace, object.Name, err)
	}
	return nil
}

// Save implements fault.Journal.
func (j *journal) Save(ctx context.Context, p fault.Progress, r *fault.Record) error {
	if r != nil && j.removed[r.ID()] {
		r = nil
	}
	before := j.content.Records
	if err := j.save(ctx, p, r); err != nil {
		if j.failures++; j.failures > 1 && ctx.Err() == nil {
			j.failed(err)
		}
		return err
	}
	j.failures = 0
	j.failed(nil)
	if r != nil && stateOf(before, r.ID()) != r.State {
		j.changed(r)
	}
	return nil
}

// stateOf returns the state of the record with the given ID, or "" if there is no such record.
func stateOf(records []fault.Record, id string) fault.State {
	for n := range records {
		if records[n].ID() == id {
			return records[n].State
		}
	}
	return ""
}

func (j *journal) save(ctx context.Context, p fault.Progress, r *fault.Record) error {
	next := entries{Progress: p, Records: slices.Clone(j.content.Records), History: j.content.History}
	if r != nil {
		next.Records = putRecord(next.Records, *r)
	}
	text, removed, err := next.marshal()
	if err != nil {
		return err
	}
	object := resources.FaultsConfigMap(j.target().Simulation, map[string]string{resources.FaultsKey: text})
	if err := j.write(ctx, object); err != nil {
		return fmt.Errorf("write ConfigMap %s/%s: %w", object.Namespace, object.Name, err)
	}
	j.uid = object.UID
	j.content = next
	for _, id := range removed {
		if j.removed == nil {
			j.removed = map[string]bool{}
		}
		j.removed[id] = true
	}
	return nil
}

// write creates or replaces the ConfigMap. It never writes to a ConfigMap that this journal has not created or loaded.
func (j *journal) write(ctx context.Context, object *corev1.ConfigMap) error {
	if j.uid == "" {
		err := j.client.Create(ctx, object, client.FieldOwner(fieldManager))
		if apierrors.IsAlreadyExists(err) && j.load(ctx) == nil && j.uid != "" { // an earlier call has created the ConfigMap
			return errors.New("the ConfigMap already exists")
		}
		if apierrors.IsAlreadyExists(err) {
			return &apply.NameTakenError{Kind: "ConfigMap", Key: client.ObjectKeyFromObject(object)}
		}
		return err
	}
	object.UID = j.uid
	text, err := json.Marshal(object)
	if err != nil {
		return err
	}
	err = j.client.Patch(ctx, object, client.RawPatch(types.ApplyPatchType, text), client.ForceOwnership, client.FieldOwner(fieldManager))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // deleted, or created again with another UID
		j.uid = ""
	}
	return err
}

// putRecord returns the given records with r, which replaces a record of the same occurrence.
func putRecord(records []fault.Record, r fault.Record) []fault.Record {
	at := slices.IndexFunc(records, func(known fault.Record) bool { return known.ID() == r.ID() })
	if at >= 0 {
		records[at] = r
		return records
	}
	return append(records, r)
}

// marshal returns the content as JSON. If the JSON exceeds maxBytes, marshal removes instance names that are not needed
// any more, and then moves records to the history.
func (e *entries) marshal() (text string, removed []string, err error) {
	encoded, err := json.Marshal(e)
	if err != nil || len(encoded) <= maxBytes {
		return string(encoded), nil, err
	}
	const goal = maxBytes * 3 / 4 // below maxBytes, so that a reduction is rarely necessary
	excess := len(encoded) - goal
	for n := range e.Records {
		if r := &e.Records[n]; excess > 0 && r.Measured != nil && len(r.Hit) > 0 {
			excess -= size(r.Hit)
			// Copy the measurements, because the caller still uses the original.
			measured := *r.Measured
			measured.HitOmitted += len(r.Hit)
			r.Hit, r.Measured = nil, &measured
		}
	}
	var past []fault.Record
	remove := map[int]bool{}
	for _, n := range fault.Removable(e.Records) {
		if excess <= 0 {
			break
		}
		excess -= size(e.Records[n])
		remove[n] = true
		past, removed = append(past, e.Records[n]), append(removed, e.Records[n].ID())
	}
	if len(past) > 0 {
		e.History = e.History.With(past, time.Now())
	}
	kept := make([]fault.Record, 0, len(e.Records)-len(past))
	for n := range e.Records {
		if !remove[n] {
			kept = append(kept, e.Records[n])
		}
	}
	e.Records = kept
	encoded, err = json.Marshal(e)
	return string(encoded), removed, err
}

// size returns the number of bytes that a value needs in JSON.
func size(value any) int {
	text, err := json.Marshal(value)
	if err != nil {
		return 0 // the caller marshals the value, too, and gets the same error
	}
	return len(text)
}
