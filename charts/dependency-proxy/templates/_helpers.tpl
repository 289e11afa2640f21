{{/* The operator's name, and the beginning of others. Proxies are called <name>-dependency-proxy, so the two never meet. */}}
{{- define "dp.fullname" -}}
{{- default (printf "%s-operator" .Release.Name) .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{- define "dp.selector" -}}
app.kubernetes.io/name: dependency-proxy
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "dp.labels" -}}
{{ include "dp.selector" . }}
app.kubernetes.io/part-of: dependency-proxy
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "dp.serviceAccount" -}}
{{- $default := ternary (include "dp.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $default .Values.serviceAccount.name -}}
{{- end }}

{{/* repository@digest, or repository:tag: of a map with these three. */}}
{{- define "dp.reference" -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag }}{{ end -}}
{{- end }}

{{- define "dp.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- include "dp.reference" (dict "repository" .Values.image.repository "tag" $tag "digest" .Values.image.digest) -}}
{{- end }}

{{/* A repository or tag of its own means another image: then the operator's digest is not the proxies'. */}}
{{- define "dp.proxyImage" -}}
{{- $own := .Values.proxyImage -}}
{{- $repository := default .Values.image.repository $own.repository -}}
{{- $tag := $own.tag | default .Values.image.tag | default .Chart.AppVersion -}}
{{- $digest := $own.digest -}}
{{- if not (or $own.repository $own.tag $own.digest) }}{{ $digest = .Values.image.digest }}{{ end -}}
{{- include "dp.reference" (dict "repository" $repository "tag" $tag "digest" $digest) -}}
{{- end }}

{{/* What a container of the restricted Pod Security standard says, with a root file system that is read only. */}}
{{- define "dp.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "dp.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}
