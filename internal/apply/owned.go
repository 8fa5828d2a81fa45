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

// ownsAll reports whether the operator still owns every desired field, so that no other client has changed one.
func ownsAll(live client.Object, desired map[string]any) (bool, error) {
	fields := ownedFields(live)
	if fields == nil {
		return false, nil
	}
	owned := map[string]any{}
	if err := json.Unmarshal(fields.GetRawBytes(), &owned); err != nil {
		return false, fmt.Errorf("decode the managed fields of %s: %w", client.ObjectKeyFromObject(live), err)
	}
	// A comparison of values would not work, because only the API server knows to which lists and maps other clients
	// may add items.
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

// ownsMetadata reports whether the operator owns the desired labels and annotations.
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

// equalJSON reports whether two JSON values are equal. Integers have the type float64 in decoded, and int64 in value.
func equalJSON(decoded, value any) bool {
	switch value := value.(type) {
	case int64:
		return decoded == float64(value)
	default:
		return reflect.DeepEqual(decoded, value)
	}
}

// Slimmer reduces metadata to what an Applier reads, so that a cache of thousands of objects needs less memory. Equal
// parts of several objects become one copy, which must not be changed. A Slimmer is safe for concurrent use.
type Slimmer struct {
	owners        sharedCopies[[]metav1.OwnerReference]
	managedFields sharedCopies[[]metav1.ManagedFieldsEntry]
}

// NewSlimmer returns an empty Slimmer.
func NewSlimmer() *Slimmer { return &Slimmer{} }

// Metadata returns the part of an object's metadata that an Applier reads.
func (s *Slimmer) Metadata(o client.Object) metav1.ObjectMeta {
	owners := o.GetOwnerReferences()
	slim := metav1.ObjectMeta{
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(),
		ResourceVersion: o.GetResourceVersion(), Generation: o.GetGeneration(),
		DeletionTimestamp: o.GetDeletionTimestamp(), OwnerReferences: s.owners.get(ownersKey(owners), owners),
	}
	if hash, ok := o.GetAnnotations()[HashAnnotation]; ok {
		slim.Annotations = map[string]string{HashAnnotation: hash}
	}
	if fields := ownedFields(o); fields != nil {
		// The UIDs of owners differ between objects that are otherwise equal, and an Applier does not read them here.
		text := fields.GetRawString()
		for _, owner := range owners {
			text = strings.ReplaceAll(text, string(owner.UID), "")
		}
		slim.ManagedFields = s.managedFields.get(text, []metav1.ManagedFieldsEntry{{
			Manager: FieldManager, Operation: metav1.ManagedFieldsOperationApply, FieldsV1: metav1.NewFieldsV1(text),
		}})
	}
	return slim
}

// ownersKey returns a text that is equal for equal owner references.
func ownersKey(owners []metav1.OwnerReference) string {
	var key strings.Builder
	for i := range owners {
		key.WriteString(owners[i].String())
	}
	return key.String()
}

// sharedCopies contains one copy of each of the latest values. The zero value is empty. It is safe for concurrent use.
type sharedCopies[T any] struct {
	mu     sync.Mutex
	copies map[string]T
}

// get returns the copy with the given key. For a new key, get stores and returns value.
func (c *sharedCopies[T]) get(key string, value T) T {
	// limit is the maximum number of copies. When it is reached, all of them are dropped.
	const limit = 4096
	c.mu.Lock()
	defer c.mu.Unlock()
	if one, ok := c.copies[key]; ok {
		return one
	}
	if c.copies == nil || len(c.copies) >= limit {
		c.copies = map[string]T{}
	}
	c.copies[key] = value
	return value
}
