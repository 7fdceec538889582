{{- /* The gateway's image, which adapters run, too. */ -}}
{{- define "headgate.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The scheme of both ports. */}}
{{- define "headgate.scheme" -}}
{{- if .Values.tls.secret -}}https{{- else -}}http{{- end -}}
{{- end -}}

{{/* What a probe says besides path and port. */}}
{{- define "headgate.probe" -}}
{{- if .Values.tls.secret -}}, scheme: HTTPS{{- end -}}
{{- end -}}
