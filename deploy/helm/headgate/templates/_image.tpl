{{- /* The gateway's image, which adapters run, too. */ -}}
{{- define "headgate.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
