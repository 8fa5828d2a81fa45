// Package apply applies objects by server-side apply, and sends no request for an object that would not change.
//
// A hash in an annotation of each applied object shows whether the desired object has changed. The managed fields show
// whether someone else has changed the live object. All state is in the live object, so a restart causes no requests.
package apply

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

const (
	// FieldManager is the operator's name in the managed fields of the objects that it applies.
	FieldManager = "parking-operator"
	// HashAnnotation is the annotation with the hash of the desired object at the time of the last apply.
	HashAnnotation = "simulation.parking.dev/applied-hash"
)

// Result is the effect of Apply on the live object.
type Result string

const (
	// Unchanged means that Apply has sent no patch, because the patch would not change the live object.
	Unchanged Result = "unchanged"
	// Created means that the object did not exist.
	Created Result = "created"
	// Updated means that the desired object has changed since the last apply.
	Updated Result = "updated"
	// Healed means that Apply has reverted a change that something else had made to the object.
	Healed Result = "healed"
)

// NameTakenError means that an object with the desired name exists, but has a different controller or no controller.
// Apply did not change the object.
type NameTakenError struct {
	Kind string
	Key  client.ObjectKey
}

// Error names the object and says how to resolve the conflict.
func (e *NameTakenError) Error() string {
	return fmt.Sprintf("%s %s exists and belongs to something else: delete it, or give the simulation another name", e.Kind, e.Key)
}

// Applier applies objects. It is safe for concurrent use.
type Applier struct {
	writer client.Writer
	direct client.Reader
	scheme *runtime.Scheme
}

// New returns an Applier. The reader direct must bypass the cache.
func New(writer client.Writer, direct client.Reader, scheme *runtime.Scheme) *Applier {
	return &Applier{writer: writer, direct: direct, scheme: scheme}
}

// Apply sets every field of the desired object, and takes over fields of other managers. If an object with the same
// name exists, but has another controller or none, the error is a *NameTakenError.
//
// The desired object needs a controller reference. Its type must be in the scheme, unless it is unstructured. Its
// status is ignored.
//
// The live object comes from the cache, where a Slimmer may have reduced it. It is nil if the cache lacks the object.
func (a *Applier) Apply(ctx context.Context, desired, live client.Object) (Result, error) {
	patch, err := a.patchFor(desired)
	if err != nil {
		return "", err
	}
	if live == nil {
		err := a.create(ctx, patch)
		switch {
		case err == nil:
			return Created, nil
		case !apierrors.IsConflict(err):
			return "", applyError(patch, err)
		}
		existing, readErr := a.read(ctx, desired, "")
		if existing == nil || readErr != nil {
			return "", cmp.Or(readErr, applyError(patch, err))
		}
		live = existing
	}
	result, err := compare(live, desired, patch)
	if err != nil || result == Unchanged {
		return result, err
	}
	if err = a.send(ctx, patch); apierrors.IsInvalid(err) {
		err = a.forceReplace(ctx, patch)
	}
	if err != nil {
		return "", applyError(patch, err)
	}
	return result, nil
}

func applyError(patch *unstructured.Unstructured, err error) error {
	return fmt.Errorf("apply %s %s: %w", patch.GetKind(), client.ObjectKeyFromObject(patch), err)
}

// create applies the patch only if the object does not exist; otherwise, the error is a conflict.
func (a *Applier) create(ctx context.Context, patch *unstructured.Unstructured) error {
	const ofNoObject = "1" // no object has this version: etcd counts from 1, and increments before it stores an object
	// The API server rejects a patch with this resource version if the object exists, and ignores the version
	// otherwise. A create request would record fields as updated, not as applied, so later applies could not remove
	// them.
	conditional := patch.DeepCopy()
	conditional.SetResourceVersion(ofNoObject)
	return a.send(ctx, conditional)
}

// HasChanged reports whether the desired object has changed since it was last applied to the live object.
func (a *Applier) HasChanged(desired, live client.Object) (bool, error) {
	patch, err := a.patchFor(desired)
	if err != nil {
		return false, err
	}
	return hash(live) != hash(patch), nil
}

func hash(o client.Object) string { return o.GetAnnotations()[HashAnnotation] }

// CheckName returns a *NameTakenError if an object with the name of the desired object exists, but has a different
// controller or none. It bypasses the cache.
func (a *Applier) CheckName(ctx context.Context, desired client.Object) error {
	kind, err := apiutil.GVKForObject(desired, a.scheme)
	if err != nil {
		return fmt.Errorf("find the kind of %T: %w", desired, err)
	}
	live, err := a.findUncached(ctx, desired)
	if err != nil || live == nil || sameController(live, desired) {
		return err
	}
	return &NameTakenError{Kind: kind.Kind, Key: client.ObjectKeyFromObject(desired)}
}

func (a *Applier) send(ctx context.Context, patch *unstructured.Unstructured) error {
	text, err := json.Marshal(patch.Object)
	if err != nil {
		return err
	}
	// Only the metadata is requested, because the response is not used.
	response := &metav1.PartialObjectMetadata{}
	response.SetGroupVersionKind(patch.GroupVersionKind())
	response.SetNamespace(patch.GetNamespace())
	response.SetName(patch.GetName())
	raw := client.RawPatch(types.ApplyPatchType, escapeForYAML(text))
	return a.writer.Patch(ctx, response, raw, client.FieldOwner(FieldManager), client.ForceOwnership)
}

// escapeForYAML escapes characters that are valid in JSON but not in YAML, because the API server parses an apply patch
// as YAML.
func escapeForYAML(text []byte) []byte {
	escaped := make([]byte, 0, len(text))
	for _, c := range string(text) {
		if '~' < c && c <= 0xffff && !unicode.IsPrint(c) {
			escaped = fmt.Appendf(escaped, `\u%04x`, c)
		} else {
			escaped = utf8.AppendRune(escaped, c)
		}
	}
	return escaped
}

// forceReplace removes list items of other field managers that make an apply invalid, such as a second port of the same
// name. It uses a merge patch, which replaces whole lists.
func (a *Applier) forceReplace(ctx context.Context, patch *unstructured.Unstructured) error {
	content := maps.Clone(patch.Object)
	delete(content, "metadata")
	text, err := json.Marshal(content)
	if err != nil {
		return err
	}
	replaced := patch.DeepCopy()
	if err := a.writer.Patch(ctx, replaced, client.RawPatch(types.MergePatchType, text), client.FieldOwner(FieldManager)); err != nil {
		return err
	}
	// The managed fields record the merge patch as an update. Convert the record, because a later apply removes only
	// fields that are recorded as applied.
	owners, err := csaupgrade.UpgradeManagedFieldsPatch(replaced, sets.New(FieldManager), FieldManager)
	if err != nil {
		return err
	}
	if owners != nil {
		if err := a.writer.Patch(ctx, replaced, client.RawPatch(types.JSONPatchType, owners)); err != nil {
			return err
		}
	}
	return a.send(ctx, patch)
}

// findUncached reads an object that may be missing in the cache. The result is nil if the object does not exist.
func (a *Applier) findUncached(ctx context.Context, desired client.Object) (client.Object, error) {
	// A read with the resource version 0 spares etcd a request, but may be out of date. If it finds an object, read
	// again.
	if live, err := a.read(ctx, desired, "0"); live == nil || err != nil {
		return nil, err
	}
	return a.read(ctx, desired, "")
}

// read reads the metadata of an object from the API server. It returns nil if the object does not exist.
func (a *Applier) read(ctx context.Context, desired client.Object, resourceVersion string) (client.Object, error) {
	kind, err := apiutil.GVKForObject(desired, a.scheme)
	if err != nil {
		return nil, fmt.Errorf("find the kind of %T: %w", desired, err)
	}
	key := client.ObjectKeyFromObject(desired)
	live := &metav1.PartialObjectMetadata{}
	live.SetGroupVersionKind(kind)
	err = a.direct.Get(ctx, key, live, &client.GetOptions{Raw: &metav1.GetOptions{ResourceVersion: resourceVersion}})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // absence is not an error
	case err != nil:
		return nil, fmt.Errorf("look for %s %s: %w", kind.Kind, key, err)
	}
	return live, nil
}

// compare determines what an apply of the patch to the live object would do.
func compare(live, desired client.Object, patch *unstructured.Unstructured) (Result, error) {
	if !sameController(live, desired) {
		return "", &NameTakenError{Kind: patch.GetKind(), Key: client.ObjectKeyFromObject(desired)}
	}
	if hash(live) != hash(patch) {
		return Updated, nil
	}
	owned, err := ownsAll(live, patch.Object)
	if err != nil {
		return "", err
	}
	if owned && equality.Semantic.DeepEqual(metav1.GetControllerOfNoCopy(live), metav1.GetControllerOfNoCopy(desired)) {
		return Unchanged, nil
	}
	return Healed, nil
}

func sameController(live, desired client.Object) bool {
	is, want := metav1.GetControllerOfNoCopy(live), metav1.GetControllerOfNoCopy(desired)
	return is != nil && want != nil && is.UID == want.UID
}

// patchFor returns the patch for the desired object. The patch sets HashAnnotation to a hash of its other content. It
// omits the status and the creation timestamp.
func (a *Applier) patchFor(desired client.Object) (*unstructured.Unstructured, error) {
	content, err := a.content(desired)
	if err != nil {
		return nil, err
	}
	delete(content, "status")
	patch := &unstructured.Unstructured{Object: content}
	addEmptyRules(patch)
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	text, err := json.Marshal(content) // Marshal sorts the keys of maps, so equal contents have equal hashes
	if err != nil {
		return nil, fmt.Errorf("hash %s %s: %w", patch.GetKind(), client.ObjectKeyFromObject(desired), err)
	}
	sum := sha256.Sum256(text)
	annotations := patch.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[HashAnnotation] = hex.EncodeToString(sum[:16])
	patch.SetAnnotations(annotations)
	return patch, nil
}

// addEmptyRules gives a NetworkPolicy empty lists instead of missing rules, so that an apply removes rules that
// someone else has added.
func addEmptyRules(patch *unstructured.Unstructured) {
	spec, ok := patch.Object["spec"].(map[string]any)
	if !ok || patch.GetKind() != "NetworkPolicy" {
		return
	}
	for _, rules := range []string{"ingress", "egress"} {
		if spec[rules] == nil {
			spec[rules] = []any{}
		}
	}
}

// content returns the JSON form of an object, with the API version and the kind.
func (a *Applier) content(object client.Object) (map[string]any, error) {
	kind, err := apiutil.GVKForObject(object, a.scheme)
	if err != nil {
		return nil, fmt.Errorf("find the kind of %T: %w", object, err)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("convert %s %s to its unstructured form: %w", kind.Kind, client.ObjectKeyFromObject(object), err)
	}
	if _, isShared := object.(runtime.Unstructured); isShared {
		content = runtime.DeepCopyJSON(content) // a copy, because patchFor must not change object
	}
	content["apiVersion"], content["kind"] = kind.GroupVersion().String(), kind.Kind
	return content, nil
}
