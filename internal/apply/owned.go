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

// ownedFields returns the set of an object's fields whose owner is FieldManager, in the format of
// metadata.managedFields. If FieldManager owns no field, the result is nil.
func ownedFields(o client.Object) *metav1.FieldsV1 {
	for i, entry := range o.GetManagedFields() {
		if entry.Manager == FieldManager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == "" {
			return o.GetManagedFields()[i].FieldsV1
		}
	}
	return nil
}

// ownsAll reports whether the operator still owns every desired field. Each field then has the value of the last
// apply, because another client that changes a field becomes its owner.
func ownsAll(live client.Object, desired map[string]any) (bool, error) {
	fields := ownedFields(live)
	if fields == nil {
		return false, nil
	}
	owned := map[string]any{}
	if err := json.Unmarshal(fields.GetRawBytes(), &owned); err != nil {
		return false, fmt.Errorf("decode the managed fields of %s: %w", client.ObjectKeyFromObject(live), err)
	}
	// Check only who owns the fields. A comparison of values would not work, because only the API server knows to which
	// lists and maps other clients may add items.
	for name, value := range desired {
		switch name {
		case "apiVersion", "kind": // the managed fields never contain apiVersion and kind
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

// ownsMetadata reports whether the operator owns the desired labels and annotations. The function compare checks the
// owner references.
func ownsMetadata(owned map[string]any, desired any) bool {
	metadata, _ := desired.(map[string]any)
	below, _ := owned["f:metadata"].(map[string]any)
	for _, name := range []string{"labels", "annotations"} {
		if !ownsField(below, name, metadata[name]) {
			return false
		}
	}
	return true
}

func ownsField(owned map[string]any, name string, desired any) bool {
	if desired == nil {
		return true
	}
	below, ok := owned["f:"+name].(map[string]any)
	return ok && owns(below, desired)
}

// owns reports whether the operator owns every part of a desired value. The map owned lists the owned fields in the
// format of metadata.managedFields. An empty map means that the operator owns the whole value.
func owns(owned map[string]any, desired any) bool {
	if len(owned) == 0 {
		return true
	}
	switch desired := desired.(type) {
	case map[string]any:
		for name, value := range desired {
			if !ownsField(owned, name, value) {
				return false
			}
		}
	case []any:
		for _, element := range desired {
			if !ownsElement(owned, element) {
				return false
			}
		}
	}
	return true
}

// ownsElement reports whether the operator owns an element of a list. Managed fields identify an element either by
// its value or by the values of its key fields.
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

// isKeyOf reports whether a list element has the given key fields. A field that the element lacks matches any value,
// because the API server sets a default.
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

// equalJSON reports whether two JSON values are equal. The parameter decoded comes from json.Unmarshal, so integers in
// it have the type float64. Integers in the parameter value have the type int64.
func equalJSON(decoded, value any) bool {
	switch value := value.(type) {
	case int64:
		return decoded == float64(value)
	default:
		return reflect.DeepEqual(decoded, value)
	}
}

// Slimmer reduces metadata to what an Applier reads, so that a cache of thousands of objects needs less memory. It is
// safe for concurrent use.
type Slimmer struct {
	mu sync.Mutex
	// shared contains one copy of each distinct set of owned fields, which all objects with this set use. The key is
	// the JSON text of the set.
	shared map[string]*metav1.FieldsV1
}

// NewSlimmer returns an empty Slimmer.
func NewSlimmer() *Slimmer { return &Slimmer{shared: map[string]*metav1.FieldsV1{}} }

// Metadata returns the part of an object's metadata that an Applier reads.
func (s *Slimmer) Metadata(o client.Object) metav1.ObjectMeta {
	slim := metav1.ObjectMeta{
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(),
		ResourceVersion: o.GetResourceVersion(), Generation: o.GetGeneration(),
		DeletionTimestamp: o.GetDeletionTimestamp(), OwnerReferences: o.GetOwnerReferences(),
	}
	if hash, ok := o.GetAnnotations()[HashAnnotation]; ok {
		slim.Annotations = map[string]string{HashAnnotation: hash}
	}
	if fields := ownedFields(o); fields != nil {
		slim.ManagedFields = []metav1.ManagedFieldsEntry{{
			Manager: FieldManager, Operation: metav1.ManagedFieldsOperationApply, FieldsV1: s.share(o, fields),
		}}
	}
	return slim
}

// share returns one copy for all objects with equal managed fields, to save memory. It omits the UIDs of owners,
// because these differ between such objects.
func (s *Slimmer) share(o client.Object, fields *metav1.FieldsV1) *metav1.FieldsV1 {
	// limit is the maximum number of entries in the cache s.shared. A full cache is cleared.
	const limit = 4096
	text := fields.GetRawString()
	for _, owner := range o.GetOwnerReferences() {
		text = strings.ReplaceAll(text, string(owner.UID), "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if one, ok := s.shared[text]; ok {
		return one
	}
	if len(s.shared) >= limit {
		clear(s.shared)
	}
	one := metav1.NewFieldsV1(text)
	s.shared[text] = one
	return one
}
