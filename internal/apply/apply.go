// Package apply brings objects into the API server by server-side apply, and sends nothing where nothing
// would change.
//
// Each applied object carries an annotation with a hash of what was wanted. A reconcile compares that
// hash, and then whether every wanted field still belongs to the operator, as the API server keeps account
// of in the managed fields. Both together tell an edit of the wish from an edit by somebody else. They need
// nothing of an object but metadata, and no memory of their own: a restarted process sends no request for
// what is as it should be.
package apply

import (
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
	// FieldManager owns every field that the operator applies.
	FieldManager = "parking-operator"
	// HashAnnotation holds the hash of the object as it was wanted when it was last applied.
	HashAnnotation = "simulation.parking.dev/applied-hash"
)

// Result is what applying an object came to.
type Result string

// The results.
const (
	Unchanged Result = "unchanged"
	Created   Result = "created"
	Updated   Result = "updated"
	// Healed means that the wish is the old one, but somebody else had changed the object.
	Healed Result = "healed"
)

// NameTakenError says that an object could not be created because somebody else's has its name.
type NameTakenError struct {
	// Kind and Key name the object.
	Kind string
	Key  client.ObjectKey
}

// Error says what to do.
func (e *NameTakenError) Error() string {
	return fmt.Sprintf("%s %s exists and belongs to something else: delete or rename it, or give the simulation another name", e.Kind, e.Key)
}

// Applier applies objects. It is safe for concurrent use.
type Applier struct {
	writer client.Writer
	direct client.Reader
	scheme *runtime.Scheme
}

// New returns an applier. Before it creates an object, it asks direct, which must not be a cache, whether
// there is one of that name.
func New(writer client.Writer, direct client.Reader, scheme *runtime.Scheme) *Applier {
	return &Applier{writer: writer, direct: direct, scheme: scheme}
}

// Apply makes the live object have every field of desired, taking fields over from other managers if need
// be. Desired is a typed object of the applier's scheme, or unstructured, with a controller among its
// owners; its status is not looked at, and it is not changed. Live is the object as a cache holds it, with
// the metadata that a Slimmer leaves; nil when it holds none. An object that another owner controls, or
// none, is a *NameTakenError.
func (a *Applier) Apply(ctx context.Context, desired, live client.Object) (Result, error) {
	wish, err := a.wish(desired)
	if err != nil {
		return "", err
	}
	if live == nil {
		if live, err = a.find(ctx, desired); err != nil {
			return "", err
		}
	}
	result, err := compare(live, desired, wish)
	if err != nil || result == Unchanged {
		return result, err
	}
	err = a.send(ctx, wish)
	if live != nil && apierrors.IsInvalid(err) {
		err = a.replace(ctx, wish)
	}
	if err != nil {
		return "", fmt.Errorf("apply %s %s: %w", wish.GetKind(), client.ObjectKeyFromObject(desired), err)
	}
	return result, nil
}

func (a *Applier) send(ctx context.Context, wish *unstructured.Unstructured) error {
	text, err := json.Marshal(wish.Object)
	if err != nil {
		return err
	}
	patch := client.RawPatch(types.ApplyPatchType, spellOut(text))
	return a.writer.Patch(ctx, wish.DeepCopy(), patch, client.FieldOwner(FieldManager), client.ForceOwnership)
}

// spellOut escapes the characters of a JSON text that must not stand in YAML, as which the API server reads it.
func spellOut(text []byte) []byte {
	spelled := make([]byte, 0, len(text))
	for _, c := range string(text) {
		if '~' < c && c <= 0xffff && !unicode.IsPrint(c) {
			spelled = fmt.Appendf(spelled, `\u%04x`, c)
		} else {
			spelled = utf8.AppendRune(spelled, c)
		}
	}
	return spelled
}

// replace takes out of lists what others have added to them, beside which the wish is not valid: such as a second port
// of the same name. Then it applies the wish.
func (a *Applier) replace(ctx context.Context, wish *unstructured.Unstructured) error {
	content := maps.Clone(wish.Object)
	delete(content, "metadata")
	patch, err := json.Marshal(content)
	if err != nil {
		return err
	}
	// A merge patch knows no elements of lists.
	replaced := wish.DeepCopy()
	if err := a.writer.Patch(ctx, replaced, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(FieldManager)); err != nil {
		return err
	}
	// What it set counts as updated, not as applied: fields that stayed so could never be taken away again.
	owners, err := csaupgrade.UpgradeManagedFieldsPatch(replaced, sets.New(FieldManager), FieldManager)
	if err != nil {
		return err
	}
	if owners != nil {
		if err := a.writer.Patch(ctx, replaced, client.RawPatch(types.JSONPatchType, owners)); err != nil {
			return err
		}
	}
	return a.send(ctx, wish)
}

// find looks for an object that the cache does not hold: because it does not exist, because the cache is
// late, or because the object lacks the labels by which the cache is filled. It returns nil for the first.
//
// Nearly always there is none. So it asks the API server's own cache first, which spares etcd; only what is
// found there may be out of date in a way that matters.
func (a *Applier) find(ctx context.Context, desired client.Object) (client.Object, error) {
	kind, err := apiutil.GVKForObject(desired, a.scheme)
	if err != nil {
		return nil, fmt.Errorf("find the kind of %T: %w", desired, err)
	}
	key := client.ObjectKeyFromObject(desired)
	var live *metav1.PartialObjectMetadata
	for _, version := range []string{"0", ""} {
		live = &metav1.PartialObjectMetadata{}
		live.SetGroupVersionKind(kind)
		err := a.direct.Get(ctx, key, live, &client.GetOptions{Raw: &metav1.GetOptions{ResourceVersion: version}})
		switch {
		case apierrors.IsNotFound(err):
			return nil, nil //nolint:nilnil // there is no object, and that is no error
		case err != nil:
			return nil, fmt.Errorf("look for %s %s: %w", kind.Kind, key, err)
		}
	}
	return live, nil
}

// compare tells what applying the wish would come to.
func compare(live, desired client.Object, wish *unstructured.Unstructured) (Result, error) {
	if live == nil {
		return Created, nil
	}
	if !sameController(live, desired) {
		return "", &NameTakenError{Kind: wish.GetKind(), Key: client.ObjectKeyFromObject(desired)}
	}
	if live.GetAnnotations()[HashAnnotation] != wish.GetAnnotations()[HashAnnotation] {
		return Updated, nil
	}
	whole, err := isWhole(live, wish.Object)
	if err != nil {
		return "", err
	}
	if whole && equality.Semantic.DeepEqual(metav1.GetControllerOfNoCopy(live), metav1.GetControllerOfNoCopy(desired)) {
		return Unchanged, nil
	}
	return Healed, nil
}

func sameController(live, desired client.Object) bool {
	is, want := metav1.GetControllerOfNoCopy(live), metav1.GetControllerOfNoCopy(desired)
	return is != nil && want != nil && is.UID == want.UID
}

// wish is what is sent: the object without what only the server sets, with its hash.
func (a *Applier) wish(desired client.Object) (*unstructured.Unstructured, error) {
	content, err := a.content(desired)
	if err != nil {
		return nil, err
	}
	delete(content, "status")
	wish := &unstructured.Unstructured{Object: content}
	sayNone(wish)
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	text, err := json.Marshal(content) // sorts the keys of maps
	if err != nil {
		return nil, fmt.Errorf("hash %s %s: %w", wish.GetKind(), client.ObjectKeyFromObject(desired), err)
	}
	sum := sha256.Sum256(text)
	annotations := wish.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[HashAnnotation] = hex.EncodeToString(sum[:16])
	wish.SetAnnotations(annotations)
	return wish, nil
}

// sayNone makes a network policy say that it has no rules. Of a field that is left out, the server would
// keep what somebody else has put there.
func sayNone(wish *unstructured.Unstructured) {
	spec, ok := wish.Object["spec"].(map[string]any)
	if !ok || wish.GetKind() != "NetworkPolicy" {
		return
	}
	for _, rules := range []string{"ingress", "egress"} {
		if spec[rules] == nil {
			spec[rules] = []any{}
		}
	}
}

// content is the object as JSON has it, in canonical spelling because it went through its type.
func (a *Applier) content(object client.Object) (map[string]any, error) {
	kind, err := apiutil.GVKForObject(object, a.scheme)
	if err != nil {
		return nil, fmt.Errorf("find the kind of %T: %w", object, err)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("convert %s %s: %w", kind.Kind, client.ObjectKeyFromObject(object), err)
	}
	if _, shared := object.(runtime.Unstructured); shared {
		content = runtime.DeepCopyJSON(content) // it was converted to its own map
	}
	content["apiVersion"], content["kind"] = kind.GroupVersion().String(), kind.Kind
	return content, nil
}
