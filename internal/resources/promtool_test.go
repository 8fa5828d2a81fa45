package resources_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/test/servers"
)

// promtool runs a promtool command in a directory that contains the rules of a simulation (rules.yaml) and their
// unit tests (rules_test.yaml).
func promtool(t *testing.T, arguments ...string) {
	t.Helper()
	program := servers.Program(t, "promtool", "hack/apt-install.sh prometheus installs it")
	directory := t.TempDir()
	in := input(t, "sim", "objectives: {processingP99: 5ms, endToEndP99: 1s}")
	spec := find[*unstructured.Unstructured](t, build(t, in), "sim-rules").Object["spec"]
	rules, err := yaml.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("testdata/rules_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"rules.yaml": rules, "rules_test.yaml": tests} {
		if err := os.WriteFile(filepath.Join(directory, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), program, arguments...)
	cmd.Dir = directory
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", arguments, err, out)
	}
}

func TestPrometheusRules_PassThePromtoolCheck(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")
}

func TestPrometheusRules_PassTheirPromtoolUnitTests(t *testing.T) {
	t.Parallel()
	promtool(t, "test", "rules", "rules_test.yaml")
}
