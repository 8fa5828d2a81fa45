{{/* The beginning of every object's name. */}}
{{- define "parking-operator.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the operator's pods. The first label is also how simulations know whom to let in. */}}
{{- define "parking-operator.selector" -}}
app.kubernetes.io/name: parking-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The labels of every object. */}}
{{- define "parking-operator.labels" -}}
{{ include "parking-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "parking-operator.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "parking-operator.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (printf "%s-controller-manager" (include "parking-operator.fullname" .)) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* A role out of files/role.yaml: (list $ kind name) gives its rules. */}}
{{- define "parking-operator.rules" -}}
{{- $root := index . 0 -}}
{{- $found := dict -}}
{{- range splitList "---\n" ($root.Files.Get "files/role.yaml") -}}
{{- $role := fromYaml . -}}
{{- if and (eq (get $role "kind") (index $ 1)) (eq $role.metadata.name (index $ 2)) -}}
{{- $found = $role -}}
{{- end -}}
{{- end -}}
{{- required (printf "files/role.yaml has no %s %s" (index . 1) (index . 2)) $found.rules | toYaml -}}
{{- end -}}

{{/* A binding: (dict "root" $ "role" name "kind" of the role "namespace" of the binding, if any). */}}
{{- define "parking-operator.binding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ ternary "RoleBinding" "ClusterRoleBinding" (hasKey . "namespace") }}
metadata:
  name: {{ include "parking-operator.fullname" .root }}-{{ trimSuffix "-role" .role }}-rolebinding
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "parking-operator.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ include "parking-operator.fullname" .root }}-{{ .role }}
subjects:
  - kind: ServiceAccount
    name: {{ include "parking-operator.serviceAccount" .root }}
    namespace: {{ .root.Release.Namespace }}
{{- end -}}

{{/* A role: as a binding. */}}
{{- define "parking-operator.role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ include "parking-operator.fullname" .root }}-{{ .role }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "parking-operator.labels" .root | nindent 4 }}
rules:
  {{- include "parking-operator.rules" (list .root (.generatedAs | default .kind) .role) | nindent 2 }}
{{- end -}}
