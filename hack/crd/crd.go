// Package crd tests that the generated CRD is up to date, and that it validates and defaults objects as documented.
//
// The tests run code of the API server. The operator's module need not depend on that code, because this package is in
// a separate module.
package crd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metavalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/storage"
	"sigs.k8s.io/yaml"
)

// Admission applies defaults to custom resources and validates them, as an API server does.
type Admission struct {
	structural *schema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator
}

// Load reads the manifest of a CustomResourceDefinition and validates it as an API server does. The
// CustomResourceDefinition must have exactly one version.
func Load(ctx context.Context, path string) (*Admission, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var external apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &external); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(&external)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&external.Spec)
	external.Status.StoredVersions = []string{external.Spec.Versions[0].Name}
	var definition apiextensions.CustomResourceDefinition
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&external, &definition, nil); err != nil {
		return nil, fmt.Errorf("convert %s to the internal version of the API: %w", path, err)
	}
	if errs := crdvalidation.ValidateCustomResourceDefinition(ctx, &definition); len(errs) > 0 {
		return nil, fmt.Errorf("%s is not valid: %w", path, errs.ToAggregate())
	}
	properties := definition.Spec.Validation.OpenAPIV3Schema
	structural, err := schema.NewStructural(properties)
	if err != nil {
		return nil, fmt.Errorf("the schema of %s is not structural: %w", path, err)
	}
	validator, _, err := validation.NewSchemaValidator(properties)
	if err != nil {
		return nil, fmt.Errorf("create a validator for %s: %w", path, err)
	}
	return &Admission{
		structural: structural,
		schema:     validator,
		rules:      cel.NewValidator(structural, true, math.MaxInt64),
	}, nil
}

// Create sets the defaults of an object. It returns an error if an API server would reject the creation of the
// object.
func (a *Admission) Create(ctx context.Context, object map[string]any) error {
	return a.admit(ctx, object, nil)
}

// Update sets the defaults of an object. It returns an error if an API server would reject an update that
// replaces the object in the parameter old.
func (a *Admission) Update(ctx context.Context, object, old map[string]any) error {
	return a.admit(ctx, object, old)
}

func (a *Admission) admit(ctx context.Context, object, old map[string]any) error {
	errs := admitMetadata(object)
	unknown := pruning.PruneWithOptions(object, a.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	for _, path := range unknown {
		errs = append(errs, fmt.Errorf("unknown field %q", path))
	}
	if old == nil {
		errs = append(errs, admitVersion(object)...)
		delete(object, "status") // the API server ignores the status on creation, because it is a subresource
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(object, a.structural)
	defaulting.Default(object, a.structural)
	for _, err := range listtype.ValidateListSetsAndMaps(nil, a.structural, object) {
		errs = append(errs, err)
	}
	malformed := false
	for _, err := range validation.ValidateCustomResource(nil, object, a.schema) {
		errs = append(errs, err)
		malformed = malformed || slices.Contains(malformations(), err.Type)
	}
	if malformed {
		return errors.Join(errs...)
	}
	// If there is no old object, the interface value must be nil, not an interface value that holds a nil map.
	var before any
	if old != nil {
		before = old
	}
	const limit = 10_000_000 // the API server's CEL cost limit for all validation rules of one object
	found, _ := a.rules.Validate(ctx, nil, a.structural, object, before, limit)
	for _, err := range found {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// admitMetadata sets the metadata that an API server sets on creation. Then it validates the metadata.
func admitMetadata(object map[string]any) []error {
	meta, _, unknown, err := objectmeta.GetObjectMetaWithOptions(object, objectmeta.ObjectMetaOptions{ReturnUnknownFieldPaths: true})
	if err != nil {
		return []error{err}
	}
	if meta == nil {
		meta = &metav1.ObjectMeta{}
	}
	if meta.Name == "" && meta.GenerateName != "" {
		meta.Name = meta.GenerateName + "x7k2p"
	}
	if meta.Namespace == "" {
		meta.Namespace = metav1.NamespaceDefault
	}
	var errs []error
	for _, path := range unknown {
		errs = append(errs, fmt.Errorf("unknown field %q", path))
	}
	for _, err := range metavalidation.ValidateObjectMeta(meta, true, metavalidation.NameIsDNSSubdomain, field.NewPath("metadata")) {
		errs = append(errs, err)
	}
	if err := objectmeta.SetObjectMeta(object, meta); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// admitVersion rejects a new object with a resource version. Like an API server, it ignores a version that is 0 or
// not a number.
func admitVersion(object map[string]any) []error {
	text, _, err := unstructured.NestedString(object, "metadata", "resourceVersion")
	if version, notNumber := strconv.ParseUint(text, 10, 64); err != nil || notNumber != nil || version == 0 {
		return nil
	}
	return []error{storage.ErrResourceVersionSetOnCreate}
}

// malformations returns the types of schema errors after which an API server does not evaluate the CEL rules.
func malformations() []field.ErrorType {
	return []field.ErrorType{
		field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid,
	}
}
