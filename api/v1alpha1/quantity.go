package v1alpha1

import (
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// A Quantity stores text, so that every JSON value can be decoded: one stored object with an invalid quantity must not
// prevent the operator from listing the others.

// Quantity is a number with an optional unit, such as 2, "500m" or "2Gi". It has no sign.
//
// +kubebuilder:validation:Type=""
// +kubebuilder:validation:XIntOrString
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="string(self).matches('^[0-9]{1,15}([.][0-9]{1,9})?([numkMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?$')",message="must be a quantity such as 2 or \"2Gi\""
type Quantity string

// Patterns of quantities, which the validation rules of the CRD repeat. The patterns limit exponents, because comparing
// numbers such as 1e1000000 takes seconds.
const (
	// QuantityPattern is the regular expression for a Quantity.
	QuantityPattern = `^[0-9]{1,15}([.][0-9]{1,9})?([numkMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?$`
	// WholeQuantityPattern matches an integer Quantity, such as a number of bytes. Decimals may precede a suffix: 1.5k
	// is an integer, and Kubernetes rounds up 1.333Ki bytes.
	WholeQuantityPattern = `^[0-9]{1,15}(([.][0-9]{1,3})?([kMGTPE]|[KMGTPE]i)|[eE][0-9]{1,2})?$`
	// HugePagesPattern is the regular expression for the name of a resource that consists of huge pages.
	HugePagesPattern = `^hugepages-[1-9][0-9]{0,3}[KMG]i$`
)

// maxQuantityLength is the maximum length of a Quantity in characters.
const maxQuantityLength = 32

var (
	quantitySyntax      = regexp.MustCompile(QuantityPattern)
	wholeQuantitySyntax = regexp.MustCompile(WholeQuantityPattern)
)

// UnmarshalJSON accepts any JSON value and stores its text. Parse reports invalid values.
func (q *Quantity) UnmarshalJSON(value []byte) error {
	var text string
	if json.Unmarshal(value, &text) != nil {
		text = numberText(value)
	}
	*q = Quantity(text)
	return nil
}

// numberText returns an integer without exponent and fraction, as the API server stores it: -0 becomes 0. It returns the
// text of any other value unchanged.
func numberText(value []byte) string {
	f, err := strconv.ParseFloat(string(value), 64)
	switch {
	case err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53:
		return string(value)
	case f == 0:
		return "0"
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// Parse returns the quantity as a number. The error does not quote the text, so that the caller decides whether to show
// it.
func (q Quantity) Parse() (resource.Quantity, error) {
	if len(q) > maxQuantityLength || !quantitySyntax.MatchString(string(q)) {
		return resource.Quantity{}, errors.New(`must be a quantity such as "500m" or "2Gi"`)
	}
	return resource.ParseQuantity(string(q))
}

// ParseWhole returns a quantity that must be an integer, such as a number of bytes. As with Parse, the error does not
// quote the text.
func (q Quantity) ParseWhole() (resource.Quantity, error) {
	if len(q) > maxQuantityLength || !wholeQuantitySyntax.MatchString(string(q)) {
		return resource.Quantity{}, errors.New(`must be an integer quantity such as "2Gi" or "512Mi"`)
	}
	return resource.ParseQuantity(string(q))
}

// Value returns the quantity as a number, or 0 if q is nil or invalid.
func (q *Quantity) Value() resource.Quantity {
	if q == nil {
		return resource.Quantity{}
	}
	value, err := q.Parse()
	if err != nil {
		return resource.Quantity{}
	}
	return value
}

// ResourceList maps the name of each compute resource to its amount.
// +kubebuilder:validation:MaxProperties=16
// +kubebuilder:validation:XValidation:rule="self.all(name, name in ['cpu', 'memory', 'ephemeral-storage'] || name.matches('^hugepages-[1-9][0-9]{0,3}[KMG]i$') || name.contains('kubernetes.io/') && !format.qualifiedName().validate(name).hasValue() || name.contains('/') && !name.startsWith('requests.') && !format.qualifiedName().validate('requests.' + name).hasValue())",message="must have keys such as \"cpu\", \"memory\" or \"example.com/gpu\"",messageExpression="self.filter(name, !(name in ['cpu', 'memory', 'ephemeral-storage'] || name.matches('^hugepages-[1-9][0-9]{0,3}[KMG]i$') || name.contains('kubernetes.io/') && !format.qualifiedName().validate(name).hasValue() || name.contains('/') && !name.startsWith('requests.') && !format.qualifiedName().validate('requests.' + name).hasValue()))[0] + ': must have keys such as \"cpu\", \"memory\" or \"example.com/gpu\"'"
// +kubebuilder:validation:XValidation:rule="self.all(name, name == 'cpu' || !string(self[name]).matches('^[0-9]{1,15}([.][0-9]{1,9})?([numkMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?$') || string(self[name]).matches('^[0-9]{1,15}(([.][0-9]{1,3})?([kMGTPE]|[KMGTPE]i)|[eE][0-9]{1,2})?$'))",message="must be integer quantities such as \"512Mi\", except for cpu",messageExpression="self.filter(name, !(name == 'cpu' || !string(self[name]).matches('^[0-9]{1,15}([.][0-9]{1,9})?([numkMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?$') || string(self[name]).matches('^[0-9]{1,15}(([.][0-9]{1,3})?([kMGTPE]|[KMGTPE]i)|[eE][0-9]{1,2})?$')))[0] + ': ' + string(self[self.filter(name, !(name == 'cpu' || !string(self[name]).matches('^[0-9]{1,15}([.][0-9]{1,9})?([numkMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?$') || string(self[name]).matches('^[0-9]{1,15}(([.][0-9]{1,3})?([kMGTPE]|[KMGTPE]i)|[eE][0-9]{1,2})?$')))[0]]) + ': must be an integer quantity such as \"512Mi\"'"
// +kubebuilder:validation:XValidation:rule="self.all(name, !name.matches('^hugepages-[1-9][0-9]{0,3}[KMG]i$') || !string(self[name]).matches('^[0-9]{1,15}(([.][0-9]{1,3})?([kMGTPE]|[KMGTPE]i)|[eE][0-9]{1,2})?$') || quantity(string(self[name])).isInteger() && quantity(string(self[name])).asInteger() % quantity(name.substring(10)).asInteger() == 0)",message="must be multiples of the page size, for keys such as \"hugepages-2Mi\"",messageExpression="self.filter(name, !(!name.matches('^hugepages-[1-9][0-9]{0,3}[KMG]i$') || !string(self[name]).matches('^[0-9]{1,15}(([.][0-9]{1,3})?([kMGTPE]|[KMGTPE]i)|[eE][0-9]{1,2})?$') || quantity(string(self[name])).isInteger() && quantity(string(self[name])).asInteger() % quantity(name.substring(10)).asInteger() == 0))[0] + ': ' + string(self[self.filter(name, !(!name.matches('^hugepages-[1-9][0-9]{0,3}[KMG]i$') || !string(self[name]).matches('^[0-9]{1,15}(([.][0-9]{1,3})?([kMGTPE]|[KMGTPE]i)|[eE][0-9]{1,2})?$') || quantity(string(self[name])).isInteger() && quantity(string(self[name])).asInteger() % quantity(name.substring(10)).asInteger() == 0))[0]]) + ': must be a multiple of the page size'"
type ResourceList map[string]Quantity

// ResourceRequirements are the compute resources of a container.
//
// +kubebuilder:validation:XValidation:rule="!has(self.limits) || !has(self.requests) || self.requests.all(name, !(name in self.limits) || ![self.requests[name], self.limits[name]].all(q, string(q).matches('^[0-9]{1,15}([.][0-9]{1,9})?([numkMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?$')) || quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)",message="requests must not exceed limits",messageExpression="self.requests.filter(name, !(!(name in self.limits) || ![self.requests[name], self.limits[name]].all(q, string(q).matches('^[0-9]{1,15}([.][0-9]{1,9})?([numkMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?$')) || quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0))[0] + ': ' + string(self.requests[self.requests.filter(name, !(!(name in self.limits) || ![self.requests[name], self.limits[name]].all(q, string(q).matches('^[0-9]{1,15}([.][0-9]{1,9})?([numkMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?$')) || quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0))[0]]) + ': the request must not exceed the limit'"
// +kubebuilder:validation:XValidation:rule="!has(self.requests) || self.requests.all(name, !(name.startsWith('hugepages-') || name.contains('/') && !name.contains('kubernetes.io/')) || has(self.limits) && name in self.limits && (![self.requests[name], self.limits[name]].all(q, string(q).matches('^[0-9]{1,15}([.][0-9]{1,9})?([numkMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?$')) || quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) == 0))",message="requests must equal limits for huge pages and extended resources: set only the limits"
// +kubebuilder:validation:XValidation:rule="!(has(self.limits) && self.limits.exists(name, name.startsWith('hugepages-')) || has(self.requests) && self.requests.exists(name, name.startsWith('hugepages-'))) || has(self.limits) && self.limits.exists(name, name in ['cpu', 'memory']) || has(self.requests) && self.requests.exists(name, name in ['cpu', 'memory'])",message="huge pages require cpu or memory: add a limit for memory"
type ResourceRequirements struct {
	// limits are the maximum amounts that the container may use, such as {"memory": "512Mi"}.
	// +optional
	Limits ResourceList `json:"limits,omitempty"`

	// requests are the amounts that the scheduler reserves for the container, such as {"cpu": "500m"}. If a resource
	// has only a limit, the request equals the limit.
	// +optional
	Requests ResourceList `json:"requests,omitempty"`
}

// Core converts the requirements to the type of the core API. It returns nil if r is nil, and converts invalid
// quantities to 0.
func (r *ResourceRequirements) Core() *corev1.ResourceRequirements {
	if r == nil {
		return nil
	}
	return &corev1.ResourceRequirements{Limits: r.Limits.core(), Requests: r.Requests.core()}
}

func (l ResourceList) core() corev1.ResourceList {
	if l == nil {
		return nil
	}
	list := make(corev1.ResourceList, len(l))
	for name, q := range l {
		list[corev1.ResourceName(name)] = q.Value()
	}
	return list
}
