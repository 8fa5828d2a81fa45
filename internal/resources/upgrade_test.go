package resources_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// Absent optional fields must not change pods. Otherwise, an operator with a new field would replace the pods of
// simulations that do not use the field.

// A field that is absent, null, empty or set to its default must always produce the same pods.
func TestBuild_FieldSetToItsDefault_DoesNotChangePods(t *testing.T) {
	t.Parallel()
	const empty = "template: {metadata: {labels: {}, annotations: {}}, spec: {}}"
	want := templates(t, build(t, input(t, "sim", "")))
	for _, spec := range []string{
		"rabbitmq: {managed: {}}, redis: {managed: {}}, summaryAPI: {managed: {}}",
		"rabbitmq: {managed: {replicas: 1}, partitions: 1, queueType: Quorum}",
		"redis: {durability: Written}",
		"rabbitmq: {managed: {tls: null}}, redis: {managed: {tls: null}}, summaryAPI: {managed: {tls: null}}, monitoring: {tls: null}",
		"rabbitmq: {managed: {template: {}}}, redis: {managed: {template: {}}}, summaryAPI: {managed: {template: {}}}",
		"rabbitmq: {managed: {" + empty + "}}, redis: {managed: {" + empty + "}}, summaryAPI: {managed: {" + empty + "}}",
		"entry: {" + empty + "}, exit: {" + empty + "}, processor: {" + empty + "}",
		"rabbitmq: {managed: {storage: {size: 2Gi}}}, redis: {managed: {storage: {size: 2Gi}}}, summaryAPI: {managed: {storage: {size: 2Gi}}}",
		"summaryAPI: {managed: {replicas: 1, database: null}}",
		"faults: [], objectives: {withoutFaults: {}, underFaults: {}, abortOnFailure: false}, monitoring: {}",
	} {
		if diff := cmp.Diff(want, templates(t, build(t, input(t, "sim", spec)))); diff != "" {
			t.Errorf("%s: the pods differ from those of an empty spec (-empty +this):\n%s", spec, diff)
		}
	}
}

func TestBuild_UnsetField_DoesNotAppearInPods(t *testing.T) {
	t.Parallel()
	unused := templates(t, build(t, input(t, "sim", "")))
	for field, tt := range map[string]struct {
		spec, trace string
		pods        []string
	}{
		"rabbitmq.managed.tls":      {"rabbitmq: {managed: {tls: {}}}", "ca.crt", []string{"rabbitmq", "entry", "exit", "processor"}},
		"redis.durability":          {"redis: {durability: Synced}", "config-hash", []string{"entry", "exit"}},
		"redis.managed.tls":         {"redis: {managed: {tls: {}}}", "ca.crt", []string{"redis", "entry", "exit", "processor"}},
		"summaryAPI.managed.tls":    {"summaryAPI: {managed: {tls: {}}}", "ca.crt", []string{"summaries", "processor"}},
		"monitoring.tls":            {"monitoring: {tls: {}}", "ca.crt", []string{"entry", "exit", "processor"}},
		"rabbitmq.managed.template": {"rabbitmq: {managed: {template: {spec: {priorityClassName: high}}}}", "priorityClassName", []string{"rabbitmq"}},
		"redis.managed.template":    {"redis: {managed: {template: {spec: {priorityClassName: high}}}}", "priorityClassName", []string{"redis"}},
		"rabbitmq.managed.replicas": {"rabbitmq: {managed: {replicas: 3}}", "postStart", []string{"rabbitmq"}},
		"summaryAPI.managed.database": {
			"summaryAPI: {managed: {database: {secretRef: {name: a}}}}", "--database-secret", []string{"summaries"},
		},
		"faults": {"faults: [{name: a, target: Redis, action: Kill, at: 1m}]", "agent", []string{"redis"}},
	} {
		used := templates(t, build(t, input(t, "sim", tt.spec)))
		for _, pod := range tt.pods {
			if text := podText(t, used["sim-"+pod]); !strings.Contains(text, tt.trace) {
				t.Errorf("with %s, the pods of %s do not contain %q:\n%s", field, pod, tt.trace, text)
			}
			if text := podText(t, unused["sim-"+pod]); strings.Contains(text, tt.trace) {
				t.Errorf("without %s, the pods of %s contain %q:\n%s", field, pod, tt.trace, text)
			}
		}
	}
}

func podText(t *testing.T, template corev1.PodTemplateSpec) string {
	t.Helper()
	text, err := yaml.Marshal(template)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
