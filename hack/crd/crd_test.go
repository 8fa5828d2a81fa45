package crd_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/hack/crd"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/manifest/manifesttest"
)

const (
	root = "../.."
	file = root + "/config/crd/bases/simulation.parking.dev_parkingsimulations.yaml"
)

func load(t *testing.T) *crd.Admission {
	t.Helper()
	a, err := crd.Load(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	object, err := parseManifest(text)
	if err != nil {
		t.Fatal(err)
	}
	return object
}

// parseManifest decodes a YAML manifest. It keeps the last of duplicate keys, as kubectl does, and decodes integers
// as int64, as an API server does.
func parseManifest(text string) (map[string]any, error) {
	converted, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(converted))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil, err
	}
	wholeNumbers(object)
	return object, nil
}

func wholeNumbers(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key := range v {
			v[key] = wholeNumbers(v[key])
		}
	case []any:
		for i := range v {
			v[i] = wholeNumbers(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	}
	return value
}

func TestGeneratedFiles_AreUpToDate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	generate := exec.CommandContext(t.Context(), "go", "tool", "controller-gen",
		"object", "crd", "paths="+root+"/api/...", "output:crd:dir="+dir, "output:object:dir="+dir)
	if output, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("controller-gen: %v\n%s", err, output)
	}
	for generated, committed := range map[string]string{
		filepath.Base(file):        file,
		"zz_generated.deepcopy.go": root + "/api/v1alpha1/zz_generated.deepcopy.go",
	} {
		want, err := os.ReadFile(filepath.Join(dir, generated))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(committed)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is out of date: run make generate (-generated +committed):\n%s", committed, diff)
		}
	}
}

func TestCRDCreate_OmittedFields_DefaultsEqualThoseOfTheCLI(t *testing.T) {
	t.Parallel()
	a := load(t)
	for name, spec := range map[string]string{
		"no spec":          "",
		"an empty spec":    "spec: {}",
		"managed servers":  "spec: {rabbitmq: {managed: {}}, redis: {managed: {}}, summaryAPI: {managed: {}}}",
		"external servers": "spec: {rabbitmq: {clusterRef: {name: a}}, redis: {secretRef: {name: a}}, summaryAPI: {url: 'https://a.b'}}",
		"zeros":            "spec: {seed: 0, entry: {rate: 0, replicas: 0}, exit: {rate: 0, matchPercent: 0, minStay: 0s}, processor: {replicas: 0}}",
		"nulls":            "spec: {seed: null, entry: null, exit: {rate: null}}",
		"a stage":          "spec: {entry: {stages: [{duration: 1s, rate: 0}]}}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := parse(t, manifesttest.Head+spec)
			if err := a.Create(t.Context(), object); err != nil {
				t.Fatalf("rejected: %v", err)
			}
			text, err := json.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			var atServer v1alpha1.ParkingSimulation
			if err := json.Unmarshal(text, &atServer); err != nil {
				t.Fatal(err)
			}
			before := atServer.DeepCopy()
			atServer.Default()
			if diff := cmp.Diff(before, &atServer); diff != "" {
				t.Errorf("Default adds to the defaults of the API server (-server +Default):\n%s", diff)
			}
			local, err := manifest.Read(strings.NewReader(manifesttest.Head + spec))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(atServer.Spec, local.Spec); diff != "" {
				t.Errorf("manifest.Read and the API server differ (-server +local):\n%s", diff)
			}
		})
	}
}

func TestCRDCreate_Samples_AreAccepted(t *testing.T) {
	t.Parallel()
	a := load(t)
	files, err := filepath.Glob(root + "/config/samples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("samples: %v (%v)", files, err)
	}
	for _, path := range files {
		if filepath.Base(path) == "kustomization.yaml" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Create(t.Context(), parse(t, string(text))); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestCRDCreate_InvalidSpecs_AreRejected(t *testing.T) {
	t.Parallel()
	a := load(t)
	for _, faulty := range manifesttest.FaultyManifests() {
		t.Run(faulty.Name, func(t *testing.T) {
			t.Parallel()
			err := a.Create(t.Context(), parse(t, faulty.Manifest()))
			switch {
			case faulty.Admission == "" && err != nil:
				t.Errorf("is rejected, want it accepted: %v", err)
			case faulty.Admission != "" && (err == nil || !strings.Contains(err.Error(), faulty.Admission)):
				t.Errorf("error is\n%v, want it to contain\n%s", err, faulty.Admission)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
}
