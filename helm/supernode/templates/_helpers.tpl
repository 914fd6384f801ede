{{/* All names start with the release's name; one installation serves a cluster. */}}
{{- define "supernode.name" -}}
{{- if gt (len .Release.Name) 40 -}}
{{- fail "the release name must have at most 40 characters: names of children derive from it" -}}
{{- end -}}
{{- .Release.Name -}}
{{- end }}

{{/* Namespace of the node agent, apart from the release namespace because of its hostPaths. */}}
{{- define "supernode.agentNamespace" -}}
{{ include "supernode.name" . }}-agent
{{- end }}

{{/* Labels of every object. Call with (list $ "component"). */}}
{{- define "supernode.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: supernode
{{ include "supernode.selectorLabels" . }}
{{- end }}

{{/* The least that selects a component's pods; immutable in Deployment and DaemonSet. */}}
{{- define "supernode.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: supernode
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "supernode.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Container security that namespaces labelled "restricted" ask for. */}}
{{- define "supernode.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "supernode.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "supernode.logEnv" -}}
- name: LOG_LEVEL
  value: {{ .Values.logLevel | upper }}
- name: SUPERNODE_LOG_FORMAT
  value: {{ .Values.logFormat }}
{{- end }}

{{/* Standard OpenTelemetry variables; the operator hands them on to the cabinets. */}}
{{- define "supernode.otelEnv" -}}
{{- $variables := deepCopy .Values.otel.env }}
{{- with .Values.otel }}
{{- if .endpoint }}
{{- $_ := set $variables "OTEL_EXPORTER_OTLP_ENDPOINT" .endpoint }}
{{- $_ := set $variables "OTEL_EXPORTER_OTLP_PROTOCOL" .protocol }}
{{- end }}
{{- $pairs := list }}
{{- range $key, $value := .headers }}
{{- $pairs = append $pairs (printf "%s=%s" $key ($value | urlquery | replace "+" "%20")) }}
{{- end }}
{{- if $pairs }}
{{- $_ := set $variables "OTEL_EXPORTER_OTLP_HEADERS" (join "," $pairs) }}
{{- end }}
{{- end }}
{{- range $key, $value := $variables }}
- name: {{ $key }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "supernode.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}
