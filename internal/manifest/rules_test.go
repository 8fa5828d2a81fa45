package manifest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// Some rules in the CRD contain copies of regular expressions, because markers cannot refer to Go constants.
// The test checks that these copies equal the constants.
func TestCRDRules_ContainTheSamePatternsAsTheGoConstants(t *testing.T) {
	t.Parallel()
	patterns := map[string]string{
		"v1alpha1.DurationPattern":      v1alpha1.DurationPattern,
		"v1alpha1.QuantityPattern":      v1alpha1.QuantityPattern,
		"v1alpha1.WholeQuantityPattern": v1alpha1.WholeQuantityPattern,
		"v1alpha1.HugePagesPattern":     v1alpha1.HugePagesPattern,
		"v1alpha1.ImagePattern":         v1alpha1.ImagePattern,
		"v1alpha1.ImageLengthPattern":   v1alpha1.ImageLengthPattern,
		"v1alpha1.ImageRefusedPattern":  v1alpha1.ImageRefusedPattern,
		"v1alpha1.FaultPodsPattern":     v1alpha1.FaultPodsPattern,
		"plan.URLPattern":               plan.URLPattern,
		"plan.URLLongHostPattern":       plan.URLLongHostPattern,
		"plan.URLNumericHostPattern":    plan.URLNumericHostPattern,
		"plan.URLIPv4Pattern":           plan.URLIPv4Pattern,
		"plan.URLCredentialsPattern":    plan.URLCredentialsPattern,
		"a simulation's name":           `^[a-z]([-a-z0-9]*[a-z0-9])?$`,
		"a duration above 0s":           `[1-9]`,
		"a size of 0":                   `^[0.]+([^0-9.]|$)`,
	}
	definition := customResourceDefinition(t)
	unused := map[string]string{}
	for name, pattern := range patterns {
		unused[pattern] = name
	}
	known := map[string]bool{}
	for _, pattern := range patterns {
		known[pattern] = true
	}
	literal := regexp.MustCompile(`matches\('([^']*)'\)`)
	for _, rule := range rulesIn(definition) {
		for _, found := range literal.FindAllStringSubmatch(rule, -1) {
			if !known[found[1]] {
				t.Errorf("a rule has the pattern %s, which differs from all constants:\n%s", found[1], rule)
			}
			delete(unused, found[1])
		}
	}
	for pattern, name := range unused {
		t.Errorf("no rule has the pattern of %s, %s", name, pattern)
	}
}

func TestCRDRules_NameOfAFault_HasTheSameMaximumLengthInSpecAndStatus(t *testing.T) {
	t.Parallel()
	versions, _, _ := unstructured.NestedSlice(customResourceDefinition(t), "spec", "versions")
	version := versions[0].(map[string]any)
	for _, fault := range [][]string{
		{"spec", "properties", "faults"}, {"status", "properties", "faults", "properties", "latest"},
	} {
		path := slices.Concat([]string{"schema", "openAPIV3Schema", "properties"}, fault, []string{"items", "properties", "name", "maxLength"})
		if bound, _, err := unstructured.NestedNumberAsFloat64(version, path...); bound != plan.MaxFaultName || err != nil {
			t.Errorf("%v is %v (%v), want %d", path, bound, err, plan.MaxFaultName)
		}
	}
}

func customResourceDefinition(t *testing.T) (definition map[string]any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "config", "crd", "bases", "simulation.parking.dev_parkingsimulations.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &definition); err != nil {
		t.Fatal(err)
	}
	return definition
}

func rulesIn(value any) (rules []string) {
	switch value := value.(type) {
	case map[string]any:
		for _, name := range []string{"rule", "messageExpression"} {
			if rule, isText := value[name].(string); isText {
				rules = append(rules, rule)
			}
		}
		for _, member := range value {
			rules = append(rules, rulesIn(member)...)
		}
	case []any:
		for _, element := range value {
			rules = append(rules, rulesIn(element)...)
		}
	}
	return rules
}
