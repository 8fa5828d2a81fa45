package apply

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ownedBy returns the fields that the field manager of this package owns of an object, as the API server
// keeps account of them; nil when there is none.
func ownedBy(o client.Object) *metav1.FieldsV1 {
	for i, entry := range o.GetManagedFields() {
		if entry.Manager == FieldManager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == "" {
			return o.GetManagedFields()[i].FieldsV1
		}
	}
	return nil
}

// isWhole reports whether an object still has every field as it was applied.
//
// The API server tells: whoever changes a field takes it over, and whoever removes it leaves nobody its
// owner. It knows which lists and maps are merged, so that others may add to them, and which are replaced as
// a whole. What was applied has its hash among the owned fields; so no value has to be compared.
func isWhole(live client.Object, wish map[string]any) (bool, error) {
	fields := ownedBy(live)
	if fields == nil {
		return false, nil
	}
	owned := map[string]any{}
	if err := json.Unmarshal(fields.GetRawBytes(), &owned); err != nil {
		return false, fmt.Errorf("read which fields of %s are the operator's: %w", client.ObjectKeyFromObject(live), err)
	}
	for name, value := range wish {
		switch name {
		case "apiVersion", "kind": // have no owner
		case "metadata":
			if !ownsMetadata(owned, value) {
				return false, nil
			}
		default:
			if !ownsField(owned, name, value) {
				return false, nil
			}
		}
	}
	return true, nil
}

// ownsMetadata looks at labels and annotations. Names have no owner; owners of the object are compared.
func ownsMetadata(owned map[string]any, wish any) bool {
	metadata, _ := wish.(map[string]any)
	below, _ := owned["f:metadata"].(map[string]any)
	for _, name := range []string{"labels", "annotations"} {
		if !ownsField(below, name, metadata[name]) {
			return false
		}
	}
	return true
}

func ownsField(owned map[string]any, name string, wish any) bool {
	if wish == nil {
		return true
	}
	below, ok := owned["f:"+name].(map[string]any)
	return ok && owns(below, wish)
}

// owns reports whether all of a value is owned. A field without any below it is owned as a whole.
func owns(owned map[string]any, wish any) bool {
	if len(owned) == 0 {
		return true
	}
	switch wish := wish.(type) {
	case map[string]any:
		for name, value := range wish {
			if !ownsField(owned, name, value) {
				return false
			}
		}
	case []any:
		for _, element := range wish {
			if !ownsElement(owned, element) {
				return false
			}
		}
	}
	return true
}

// ownsElement looks for an element of a list, which is known by some of its fields, or by its value.
func ownsElement(owned map[string]any, element any) bool {
	for name, below := range owned {
		kind, text, _ := strings.Cut(name, ":")
		var key any
		if json.Unmarshal([]byte(text), &key) != nil {
			continue
		}
		if kind == "v" && equalJSON(key, element) {
			return true
		}
		if fields, ok := below.(map[string]any); ok && kind == "k" && isKeyOf(key, element) {
			return owns(fields, element)
		}
	}
	return false
}

// isKeyOf compares the fields of a key. The server fills in those that have a default.
func isKeyOf(key, element any) bool {
	fields, _ := key.(map[string]any)
	values, _ := element.(map[string]any)
	for name, want := range fields {
		if value, ok := values[name]; ok && !equalJSON(want, value) {
			return false
		}
	}
	return len(fields) > 0
}

// equalJSON compares values of which one was read from JSON, where every number is a float64.
func equalJSON(read, value any) bool {
	switch value := value.(type) {
	case int64:
		return read == float64(value)
	default:
		return reflect.DeepEqual(read, value)
	}
}

// Slimmer takes from objects what Applier does not look at, before a cache holds thousands of them: of all
// metadata it leaves names, owners, the hash, and the fields that are owned. It is safe for concurrent use.
type Slimmer struct {
	mu sync.Mutex
	// shared has one copy of what is the same for like objects of many owners.
	shared map[string]*metav1.FieldsV1
}

// NewSlimmer returns a slimmer.
func NewSlimmer() *Slimmer { return &Slimmer{shared: map[string]*metav1.FieldsV1{}} }

// Metadata is what is left of an object's metadata.
func (s *Slimmer) Metadata(o client.Object) metav1.ObjectMeta {
	slim := metav1.ObjectMeta{
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(),
		ResourceVersion: o.GetResourceVersion(), Generation: o.GetGeneration(),
		DeletionTimestamp: o.GetDeletionTimestamp(), OwnerReferences: o.GetOwnerReferences(),
	}
	if hash, ok := o.GetAnnotations()[HashAnnotation]; ok {
		slim.Annotations = map[string]string{HashAnnotation: hash}
	}
	if fields := ownedBy(o); fields != nil {
		slim.ManagedFields = []metav1.ManagedFieldsEntry{{
			Manager: FieldManager, Operation: metav1.ManagedFieldsOperationApply, FieldsV1: s.share(o, fields),
		}}
	}
	return slim
}

// share returns the one copy of fields. The UIDs of owners, which are keys of a list, are left out.
func (s *Slimmer) share(o client.Object, fields *metav1.FieldsV1) *metav1.FieldsV1 {
	const most = 4096 // of shapes; beyond, some are held more than once
	text := fields.GetRawString()
	for _, owner := range o.GetOwnerReferences() {
		text = strings.ReplaceAll(text, string(owner.UID), "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if one, ok := s.shared[text]; ok {
		return one
	}
	if len(s.shared) >= most {
		clear(s.shared)
	}
	one := metav1.NewFieldsV1(text)
	s.shared[text] = one
	return one
}
