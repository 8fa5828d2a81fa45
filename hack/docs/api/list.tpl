{{- define "gvList" -}}
<!-- Generated from api/ by "make generate". -->
# API reference

`kubectl explain psim.spec` says the same in a terminal. Durations are written as Go does, such as `90s` or `1h30m`.
{{ range . }}{{ template "gvDetails" . }}{{ end }}
{{- end -}}

{{- define "gvDetails" }}
## {{ .GroupVersionString }}
{{ range .SortedKinds }}
{{- template "type" ($.TypeForKind .) }}
{{- end }}
{{- range .SortedTypes }}
{{- if not .GVK }}{{ template "type" . }}{{ end }}
{{- end }}
{{- end -}}

{{- define "type" -}}
{{- if markdownShouldRenderType . }}
### {{ .Name }}

{{ .Doc }}
{{ if .References }}
Part of {{ range $i, $r := .SortedReferences }}{{ if $i }}, {{ end }}{{ markdownRenderTypeLink $r }}{{ end }}.
{{ end -}}
{{ if .EnumValues }}
{{ range .EnumValues }}- `{{ .Name }}`{{ if .Doc }}: {{ markdownRenderFieldDoc .Doc | trimSuffix "<br />" }}{{ end }}
{{ end -}}
{{ end -}}
{{ if .Members }}
| field | meaning | default | limits |
|---|---|---|---|
{{ if .GVK -}}
| `apiVersion` | `{{ .GVK.Group }}/{{ .GVK.Version }}` | | required |
| `kind` | `{{ .GVK.Kind }}` | | required |
{{ end -}}
{{ range .Members -}}
| `{{ .Name }}` _{{ markdownRenderType .Type }}_ | {{ markdownRenderFieldDoc .Doc | replace "<br />" " " }} | {{ with markdownRenderDefault .Default }}`{{ . | replace "\\" "" | nospace }}`{{ end }} | {{ template "limits" .Validation }} |
{{ end -}}
{{ end -}}
{{- end -}}
{{- end -}}

{{- define "limits" -}}
{{- $limits := list }}
{{- range . }}
{{- if hasPrefix "Required" . }}{{ $limits = append $limits "required" }}
{{- else if not (or (hasPrefix "Optional" .) (hasPrefix "Type" .)) }}{{ $limits = append $limits (markdownRenderFieldDoc .) }}{{ end }}
{{- end }}
{{- join ", " $limits }}
{{- end -}}
