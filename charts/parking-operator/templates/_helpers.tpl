{{/* The prefix of every object's name. */}}
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

{{/* Labels that select the operator's pods. The network policies of simulations select by the first one. */}}
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

{{/* The PriorityClass of the operator's pods; empty for none. */}}
{{- define "parking-operator.priorityClass" -}}
{{- if .Values.priorityClassName -}}
{{- .Values.priorityClassName -}}
{{- else if .Values.priorityClass.create -}}
{{- include "parking-operator.clusterName" (dict "root" . "name" "controller-manager") -}}
{{- end -}}
{{- end -}}

{{/*
The name of an object that has no namespace: (dict "root" $ "name" name). An operator for some namespaces adds its own
namespace, because a release of the same name may exist in another one.
*/}}
{{- define "parking-operator.clusterName" -}}
{{- $name := printf "%s-%s" (include "parking-operator.fullname" .root) .name -}}
{{- if .root.Values.simulations.namespaces -}}
{{- printf "%s.%s" $name .root.Release.Namespace -}}
{{- else -}}
{{- $name -}}
{{- end -}}
{{- end -}}

{{/* The name of a role or binding: (dict "root" $ "name" name "namespace" its namespace, if any). */}}
{{- define "parking-operator.roleName" -}}
{{- if hasKey . "namespace" -}}
{{- printf "%s-%s" (include "parking-operator.fullname" .root) .name -}}
{{- else -}}
{{- include "parking-operator.clusterName" . -}}
{{- end -}}
{{- end -}}

{{/* The rules of a role in files/role.yaml: (list $ kind name). */}}
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

{{/* A binding: (dict "root" $ "role" name "kind" kind of the role "namespace" its namespace, if any). */}}
{{- define "parking-operator.binding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ ternary "RoleBinding" "ClusterRoleBinding" (hasKey . "namespace") }}
metadata:
  name: {{ include "parking-operator.roleName" (set (omit . "role") "name" (printf "%s-rolebinding" (trimSuffix "-role" .role))) }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "parking-operator.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ include "parking-operator.roleName" (set (omit . "role") "name" .role) }}
subjects:
  - kind: ServiceAccount
    name: {{ include "parking-operator.serviceAccount" .root }}
    namespace: {{ .root.Release.Namespace }}
{{- end -}}

{{/* A role, with the arguments of a binding. */}}
{{- define "parking-operator.role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ include "parking-operator.roleName" (set (omit . "role") "name" .role) }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "parking-operator.labels" .root | nindent 4 }}
rules:
  {{- include "parking-operator.rules" (list .root (.generatedAs | default .kind) .role) | nindent 2 }}
{{- end -}}
