package resources_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	psaapi "k8s.io/pod-security-admission/api"
	psapolicy "k8s.io/pod-security-admission/policy"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// escalations returns pod templates that would give their author more rights. The expected error contains path.
func escalations() map[string]struct{ template, path string } {
	container := func(fields string) string { return `spec: {containers: [{name: parking, ` + fields + `}]}` }
	sidecar := func(fields string) string {
		return `spec: {containers: [{name: side, image: "side:v1", ` + fields + `}]}`
	}
	volume := func(source string) string { return `spec: {volumes: [{name: v, ` + source + `}]}` }
	return map[string]struct{ template, path string }{
		"a privileged container":             {sidecar("securityContext: {privileged: true}"), "spec: Forbidden"},
		"privilege escalation":               {container("securityContext: {allowPrivilegeEscalation: true}"), "spec: Forbidden"},
		"an added capability":                {container("securityContext: {capabilities: {add: [NET_ADMIN]}}"), "spec: Forbidden"},
		"capabilities that are not dropped":  {sidecar("securityContext: {capabilities: {drop: [NET_RAW]}}"), "spec: Forbidden"},
		"root in a container":                {sidecar("securityContext: {runAsUser: 0}"), "spec: Forbidden"},
		"root in the pod":                    {"spec: {securityContext: {runAsUser: 0}}", "spec: Forbidden"},
		"a user that may be root":            {"spec: {securityContext: {runAsNonRoot: false}}", "spec: Forbidden"},
		"no security context":                {"spec: {securityContext: null}", "spec: Forbidden"},
		"a replaced security context":        {`spec: {securityContext: {$patch: replace}}`, "spec.securityContext.$patch: Forbidden"},
		"no seccomp profile":                 {"spec: {securityContext: {seccompProfile: {type: Unconfined}}}", "spec: Forbidden"},
		"an unsafe sysctl":                   {"spec: {securityContext: {sysctls: [{name: kernel.msgmax, value: '1'}]}}", "spec: Forbidden"},
		"an SELinux type":                    {"spec: {securityContext: {seLinuxOptions: {type: spc_t}}}", "spec: Forbidden"},
		"an init container of root":          {`spec: {initContainers: [{name: i, image: "i:v1", securityContext: {runAsUser: 0}}]}`, "spec: Forbidden"},
		"a probe of another host":            {container("livenessProbe: {httpGet: {host: 169.254.169.254}}"), "spec: Forbidden"},
		"a hook to another host":             {container("lifecycle: {postStart: {httpGet: {host: 169.254.169.254, port: 80}}}"), "spec: Forbidden"},
		"the network of the node":            {"spec: {hostNetwork: true}", "spec.hostNetwork: Forbidden"},
		"the processes of the node":          {"spec: {hostPID: true}", "spec.hostPID: Forbidden"},
		"the IPC of the node":                {"spec: {hostIPC: true}", "spec.hostIPC: Forbidden"},
		"the users of the node":              {"spec: {hostUsers: true}", "spec.hostUsers: Forbidden"},
		"a port of the node":                 {container("ports: [{containerPort: 8080, hostPort: 80}]"), "spec.containers[0].ports[0].hostPort: Forbidden"},
		"a directory of the node":            {volume("hostPath: {path: /}"), "spec.volumes[0].hostPath: Forbidden"},
		"a Secret as a volume":               {volume("secret: {secretName: other}"), "spec.volumes[0].secret: Forbidden"},
		"a Secret in a projected volume":     {volume("projected: {sources: [{secret: {name: other}}]}"), "spec.volumes[0].projected: Forbidden"},
		"a token in a projected volume":      {volume("projected: {sources: [{serviceAccountToken: {path: t}}]}"), "spec.volumes[0].projected: Forbidden"},
		"a ConfigMap as a volume":            {volume("configMap: {name: other}"), "spec.volumes[0].configMap: Forbidden"},
		"a volume claim":                     {volume("persistentVolumeClaim: {claimName: other}"), "spec.volumes[0].persistentVolumeClaim: Forbidden"},
		"an NFS volume":                      {volume("nfs: {server: nas, path: /}"), "spec.volumes[0].nfs: Forbidden"},
		"a CSI volume":                       {volume("csi: {driver: secrets-store.csi.k8s.io}"), "spec.volumes[0].csi: Forbidden"},
		"a Secret in the environment":        {container("env: [{name: A, valueFrom: {secretKeyRef: {name: other, key: k}}}]"), "spec.containers[0].env[0].valueFrom.secretKeyRef: Forbidden"},
		"a ConfigMap in the environment":     {container("env: [{name: A, valueFrom: {configMapKeyRef: {name: other, key: k}}}]"), "spec.containers[0].env[0].valueFrom.configMapKeyRef: Forbidden"},
		"all of a Secret in the environment": {container("envFrom: [{secretRef: {name: other}}]"), "spec.containers[0].envFrom: Forbidden"},
		"a Secret to pull images with":       {"spec: {imagePullSecrets: [{name: other}]}", "spec.imagePullSecrets: Forbidden"},
		"a mount that reaches the node":      {container("volumeMounts: [{name: plan, mountPath: /x, mountPropagation: Bidirectional}]"), "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden"},
		"a block device":                     {container("volumeDevices: [{name: data, devicePath: /dev/x}]"), "spec.containers[0].volumeDevices: Forbidden"},
		"another ServiceAccount":             {"spec: {serviceAccountName: admin}", "spec.serviceAccountName: Forbidden"},
		"the old field for ServiceAccounts":  {"spec: {serviceAccount: admin}", "spec.serviceAccount: Forbidden"},
		"a token":                            {"spec: {automountServiceAccountToken: true}", "spec.automountServiceAccountToken: Forbidden"},
		"a token by a null value":            {"spec: {automountServiceAccountToken: null}", "spec.automountServiceAccountToken: Forbidden"},
		"a replaced pod spec":                {`spec: {$patch: replace, containers: [{name: parking, image: "mine:v1"}]}`, "spec.$patch: Forbidden"},
		"a node":                             {"spec: {nodeName: control-plane}", "spec.nodeName: Forbidden"},
		"a scheduler":                        {"spec: {schedulerName: mine}", "spec.schedulerName: Forbidden"},
		"a runtime class":                    {"spec: {runtimeClassName: kata}", "spec.runtimeClassName: Forbidden"},
		"another operating system":           {"spec: {os: {name: windows}}", "spec.os: Forbidden"},
		"a priority":                         {"spec: {priority: 2000000000}", "spec.priority: Forbidden"},
		"the operator's priority class":      {"spec: {priorityClassName: parking-operator}", "spec.priorityClassName: Forbidden"},
		"Windows credentials":                {"spec: {securityContext: {windowsOptions: {gmsaCredentialSpecName: admin}}}", "spec.securityContext.windowsOptions: Forbidden"},
		"a process of the Windows host":      {container("securityContext: {windowsOptions: {hostProcess: true}}"), "spec.containers[0].securityContext.windowsOptions: Forbidden"},
		"an unmasked /proc":                  {container("securityContext: {procMount: Unmasked}"), "spec: Forbidden"},
		"no AppArmor profile":                {container("securityContext: {appArmorProfile: {type: Unconfined}}"), "spec: Forbidden"},
		"a device claim of a container":      {container("resources: {claims: [{name: gpu}]}"), "spec.containers[0].resources.claims: Forbidden"},
		"a priority class of Kubernetes":     {"spec: {priorityClassName: system-node-critical}", "spec.priorityClassName: Forbidden"},
		"the processes of other containers":  {"spec: {shareProcessNamespace: true}", "spec.shareProcessNamespace: Forbidden"},
		"anti-affinity to another namespace": {
			"spec: {affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/os, labelSelector: {}, namespaces: [team-b]}]}}}",
			"spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespaces: Forbidden",
		},
		"anti-affinity to selected namespaces": {
			"spec: {affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/os, namespaceSelector: {}}]}}}",
			"spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespaceSelector: Forbidden",
		},
		"a preference for other namespaces": {
			"spec: {affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: zone, namespaceSelector: {}}}]}}}",
			"spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.namespaceSelector: Forbidden",
		},
		"a directive in an affinity":         {"spec: {affinity: {$patch: replace}}", "spec.affinity.$patch: Forbidden"},
		"a grace period of years":            {"spec: {terminationGracePeriodSeconds: 999999999}", "spec.terminationGracePeriodSeconds: Forbidden"},
		"a grace period over the limit":      {"spec: {terminationGracePeriodSeconds: 601}", "spec.terminationGracePeriodSeconds: Forbidden"},
		"a long grace period of a probe":     {container("livenessProbe: {terminationGracePeriodSeconds: 1000}"), "spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Forbidden"},
		"a device claim of the pod":          {"spec: {resourceClaims: [{name: gpu}]}", "spec.resourceClaims: Forbidden"},
		"an ephemeral container":             {`spec: {ephemeralContainers: [{name: e, image: "e:v1"}]}`, "spec.ephemeralContainers: Forbidden"},
		"an instruction to a network plugin": {"metadata: {annotations: {k8s.v1.cni.cncf.io/networks: admin}}", "metadata.annotations[k8s.v1.cni.cncf.io/networks]: Forbidden"},
		"a role of a cloud provider":         {"metadata: {annotations: {iam.amazonaws.com/role: admin}}", "metadata.annotations[iam.amazonaws.com/role]: Forbidden"},
	}
}

// templated returns a format string for each spec field that contains a pod template, by the path of the field.
func templated() map[string]string {
	return map[string]string{
		"spec.entry.template":                          "entry: {template: {%s}}",
		"spec.exit.template":                           "exit: {template: {%s}}",
		"spec.processor.template":                      "processor: {template: {%s}}",
		"spec.summaryAPI.managed.template":             "summaryAPI: {managed: {template: {%s}}}",
		"spec.rabbitmq.managed.template":               "rabbitmq: {managed: {template: {%s}}}",
		"spec.redis.managed.template":                  "redis: {managed: {template: {%s}}}",
		"spec.processor.template (among other fields)": "suspend: true, processor: {replicas: 1, template: {%s}}",
	}
}

func TestBuild_TemplateThatGrantsPrivileges_IsRejected(t *testing.T) {
	t.Parallel()
	for name, tt := range escalations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := input(t, "sim", fmt.Sprintf("processor: {template: {%s}}", tt.template))
			in.OperatorPriorityClass = "parking-operator"
			objects, err := in.build()
			var notAllowed *resources.TemplateNotAllowedError
			if !errors.As(err, &notAllowed) || objects != nil {
				t.Fatalf("Build returns %d objects and error %v, want a *TemplateNotAllowedError", len(objects), err)
			}
			for _, want := range []string{"spec.processor.template." + tt.path, "--allow-privileged-templates"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %q, want it to contain %q", err, want)
				}
			}
			in.AllowPrivilegedTemplates = true
			if _, err := in.build(); errors.As(err, &notAllowed) {
				t.Errorf("with AllowPrivilegedTemplates the error is %v", err)
			}
		})
	}
}

func TestBuild_ForbiddenFieldInAnyTemplate_IsRejected(t *testing.T) {
	t.Parallel()
	for path, spec := range templated() {
		_, err := input(t, "sim", fmt.Sprintf(spec, "spec: {hostNetwork: true}")).build()
		want, _, _ := strings.Cut(path, " ")
		if err == nil || !strings.Contains(err.Error(), want+".spec.hostNetwork") {
			t.Errorf("%s: error is %v, want one that names the field", path, err)
		}
	}
}

func TestBuild_TemplateLabelCouldInstructOtherSoftware_IsRejected(t *testing.T) {
	t.Parallel()
	for path, spec := range templated() {
		for _, label := range []string{"sidecar.istio.io/inject", "azure.workload.identity/use", "example.com/team", "kubernetes.io/role"} {
			in := input(t, "sim", fmt.Sprintf(spec, `metadata: {labels: {`+label+`: "true"}}`))
			want, _, _ := strings.Cut(path, " ")
			if _, err := in.build(); err == nil || !strings.Contains(err.Error(), want+".metadata.labels["+label+"]") {
				t.Errorf("%s with label %s: error is %v, want one that names the label", path, label, err)
			}
			in.AllowPrivilegedTemplates = true
			if _, err := in.build(); err != nil {
				t.Errorf("%s with label %s and --allow-privileged-templates: error is %v", path, label, err)
			}
		}
	}
}

func TestBuild_TemplateThatGrantsNoPrivileges_IsAccepted(t *testing.T) {
	t.Parallel()
	for _, template := range []string{
		"spec: null", "spec: {}", "metadata: {labels: {team: a, app.kubernetes.io/part-of: a, simulation.parking.dev/team: a}, annotations: {note: a}}",
		"spec: {nodeSelector: {disk: ssd}, tolerations: [{operator: Exists}], affinity: {nodeAffinity: {}, podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {a: b}}}]}}, topologySpreadConstraints: []}",
		"spec: {priorityClassName: high, terminationGracePeriodSeconds: 600, dnsPolicy: Default, dnsConfig: {nameservers: [10.0.0.1]}, hostAliases: [{ip: 10.0.0.1, hostnames: [a]}]}",
		"spec: {securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, supplementalGroups: [1]}}",
		"spec: {securityContext: {runAsUser: null}}",
		"spec: {containers: [{name: parking, image: 'mine:v1', env: [{name: A, value: b}, {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}], resources: {limits: {cpu: '1'}}, readinessProbe: {timeoutSeconds: 9}}]}",
		"spec: {containers: [{name: side, image: 'side:v1', volumeMounts: [{name: scratch, mountPath: /x}]}], volumes: [{name: scratch, emptyDir: {sizeLimit: 1Gi}}]}",
		"spec: {initContainers: [{name: side, image: 'side:v1', restartPolicy: Always, securityContext: {readOnlyRootFilesystem: true}}]}",
	} {
		if _, err := input(t, "sim", fmt.Sprintf("processor: {template: {%s}}", template)).build(); err != nil {
			t.Errorf("%s: %v", template, err)
		}
	}
}

func TestBuild_ContainerAddedByTemplate_GetsRestrictedSecurityContext(t *testing.T) {
	t.Parallel()
	in := input(t, "sim", "processor: {template: {spec: {containers: [{name: side, image: 'side:v1'}], initContainers: [{name: first, image: 'first:v1'}]}}}")
	template := templates(t, build(t, in))["sim-processor"]
	for _, c := range append(template.Spec.InitContainers, template.Spec.Containers...) {
		if s := c.SecurityContext; s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || len(s.Capabilities.Drop) != 1 {
			t.Errorf("container %s has the security context %v, want one without capabilities and privilege escalation", c.Name, s)
		}
	}
}

// TestBuild_AcceptedPodTemplate_GrantsNoPrivileges uses randomly drawn templates. Build must either reject a template,
// or build pods that have the same privileges as pods without a template.
func TestBuild_AcceptedPodTemplate_GrantsNoPrivileges(t *testing.T) {
	t.Parallel()
	evaluator, err := psapolicy.NewEvaluator(psapolicy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: psaapi.LatestVersion()}
	base := input(t, "sim", "")
	own := templates(t, build(t, base))["sim-processor"]
	rapid.Check(t, func(r *rapid.T) {
		in := base
		in.Simulation = base.Simulation.DeepCopy()
		in.Simulation.Spec.Processor.Template = &v1alpha1.PodTemplate{Spec: &runtime.RawExtension{Raw: drawPatch(r)}}
		objects, err := in.build()
		if err != nil {
			return
		}
		template := templates(r, objects)["sim-processor"]
		if verdict := psapolicy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &template.ObjectMeta, &template.Spec)); !verdict.Allowed {
			r.Errorf("the pods violate the restricted Pod Security Standard: %s", verdict.ForbiddenDetail())
		}
		spec := template.Spec
		if spec.ServiceAccountName != own.Spec.ServiceAccountName || spec.DeprecatedServiceAccount != "" || spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
			r.Errorf("the pods run as ServiceAccount %q or mount a token", spec.ServiceAccountName)
		}
		if spec.NodeName != "" || spec.RuntimeClassName != nil || spec.Priority != nil || strings.HasPrefix(spec.PriorityClassName, "system-") {
			r.Errorf("the pods choose a node, a runtime or a priority: %+v", spec)
		}
		if got, want := secretsOf(&spec), secretsOf(&own.Spec); got != want {
			r.Errorf("the pods use the Secrets %s, want %s", got, want)
		}
	})
}

// secretsOf counts a pod's references to Secrets, ConfigMaps and volume claims, separately for each kind of reference.
// It returns the counts as text.
func secretsOf(spec *corev1.PodSpec) string {
	text, err := json.Marshal(spec)
	if err != nil {
		return err.Error()
	}
	counts := map[string]int{}
	for _, word := range []string{`"secret"`, `"secretName"`, `"secretRef"`, `"secretKeyRef"`, `"configMap"`, `"configMapRef"`, `"configMapKeyRef"`, `"claimName"`, `"projected"`} {
		counts[word] = strings.Count(string(text), word)
	}
	return fmt.Sprint(counts)
}

// drawPatch returns a patch of randomly drawn fields, some of which would give the author of the patch more rights.
func drawPatch(r *rapid.T) []byte {
	fragments := []string{
		`"hostNetwork":true`, `"HostNetwork":true`, `"serviceAccountName":"admin"`, `"serviceAccount":"admin"`, `"automountServiceAccountToken":true`,
		`"$patch":"replace"`, `"$retainKeys":["containers"]`, `"nodeName":"n"`, `"priorityClassName":"system-x"`, `"priorityClassName":"high"`, `"priority":9`,
		`"securityContext":null`, `"securityContext":{"runAsUser":0}`, `"securityContext":{"$patch":"replace","runAsUser":5}`, `"securityContext":{"runAsUser":5}`,
		`"volumes":[{"name":"v","hostPath":{"path":"/"}}]`, `"volumes":[{"name":"plan","$patch":"delete"}]`, `"volumes":[{"name":"v","emptyDir":{}}]`,
		`"volumes":[{"name":"rabbitmq","secret":{"secretName":"other"}}]`, `"$deleteFromPrimitiveList/x":[]`, `"$setElementOrder/containers":[{"name":"parking"}]`,
		`"containers":[{"name":"parking","securityContext":{"privileged":true}}]`, `"containers":[{"name":"parking","securityContext":null}]`,
		`"containers":[{"name":"parking","$patch":"replace","image":"x"}]`, `"containers":[{"name":"side","image":"x","securityContext":{"capabilities":{"add":["ALL"]}}}]`,
		`"containers":[{"name":"side","image":"x"}]`, `"containers":[{"name":"parking","envFrom":[{"secretRef":{"name":"s"}}]}]`,
		`"containers":[{"name":"parking","env":[{"name":"A","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]}]`,
		`"initContainers":[{"name":"i","image":"x","securityContext":{"allowPrivilegeEscalation":true}}]`, `"initContainers":[{"name":"i","image":"x"}]`,
		`"containers":[{"name":"parking","ports":[{"containerPort":8080,"protocol":"TCP","hostPort":1}]}]`,
		`"runtimeClassName":"x"`, `"os":{"name":"windows"}`, `"nodeSelector":{"a":"b"}`, `"tolerations":[{"operator":"Exists"}]`,
	}
	parts := rapid.SliceOfN(rapid.SampledFrom(fragments), 1, 3).Draw(r, "fragments")
	return []byte("{" + strings.Join(parts, ",") + "}")
}
