{{- define "naught.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* 50 characters, so that "-headless" fits behind it. */ -}}
{{- define "naught.fullname" -}}
{{- $name := include "naught.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "naught.selectorLabels" -}}
app.kubernetes.io/name: {{ include "naught.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "naught.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "naught.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "naught.image" -}}
{{- if eq .Values.image.tag "latest" -}}
{{- fail "image.tag is latest: a pod that is started again must run the same image, so name a version or a digest" -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* The drain timeout in whole seconds, rounded up. */ -}}
{{- define "naught.drainSeconds" -}}
{{- divf .Values.settings.drain_timeout_ms 1000 | ceil | int64 -}}
{{- end -}}

{{- /* After the drain timeout, connections are cut, which takes up to a second. The rest is for a machine that is slow. */ -}}
{{- define "naught.graceSeconds" -}}
{{- $drain := include "naught.drainSeconds" . | int64 -}}
{{- $given := .Values.terminationGracePeriodSeconds -}}
{{- if kindIs "invalid" $given -}}
{{- add $drain 10 -}}
{{- else if lt (int64 $given) (add $drain 5) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, and settings.drain_timeout_ms needs at least %d: the drain timeout and 5 seconds" (int64 $given) (add $drain 5)) -}}
{{- else -}}
{{- int64 $given -}}
{{- end -}}
{{- end -}}

{{- /* A value in TOML. Helm reads every number as a float, and would print large ones with an exponent. */ -}}
{{- define "naught.tomlValue" -}}
{{- if kindIs "string" . -}}
{{- toJson . -}}
{{- else if kindIs "bool" . -}}
{{- . -}}
{{- else if eq (float64 .) (floor .) -}}
{{- int64 . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{- /* The folder with the Secret of users and of HTTP. */ -}}
{{- define "naught.accessFolder" -}}/etc/naught-access{{- end -}}

{{- /* Whether that Secret is used; fails where it is needed and not named. */ -}}
{{- define "naught.usesAccess" -}}
{{- if or .Values.access.users .Values.access.httpTokenKey -}}
{{- if not .Values.access.secretName -}}
{{- fail "access.secretName must name the Secret that access.users and access.httpTokenKey take their keys from" -}}
{{- end -}}
true
{{- end -}}
{{- end -}}

{{- /* An array of texts in TOML. */ -}}
{{- define "naught.tomlTexts" -}}
{{- toJson . -}}
{{- end -}}

{{- /* The server's file. */ -}}
{{- define "naught.toml" -}}
{{- $rules := trim .Values.tuner.rules -}}
{{- range $line := splitList "\n" $rules -}}
{{- if and (hasPrefix "[" $line) (not (regexMatch "^\\[rules\\." $line)) -}}
{{- fail (printf "tuner.rules has only tables [rules.NAME], and no %q" $line) -}}
{{- end -}}
{{- end -}}
{{- if and $rules (not (regexMatch "^(#.*\\n|\\s)*\\[rules\\." $rules)) -}}
{{- fail (printf "tuner.rules must begin with a table [rules.NAME], and not with %q" (splitList "\n" $rules | first)) -}}
{{- end -}}
{{- $isSafe := and .Values.access.users .Values.access.httpTokenKey -}}
{{- if $isSafe -}}
# The pod's addresses. Clients log in, and HTTP asks for its token.
{{- else if .Values.access.users -}}
# The pod's addresses. Clients log in; `insecure` is for HTTP, which has no token and shows no keys.
{{- else -}}
# What the pod's addresses are: beyond loopback, so `insecure`. The NetworkPolicy says who can connect.
{{- end }}
host = {{ include "naught.tomlValue" .Values.listenAddress }}
port = 6480
http_host = {{ include "naught.tomlValue" .Values.listenAddress }}
http_port = 6481
insecure = {{ not $isSafe }}
{{- with .Values.access.httpTokenKey }}
http_token_file = {{ include "naught.tomlValue" (printf "%s/%s" (include "naught.accessFolder" $) .) }}
{{- end }}
{{- if .Values.tls.secretName }}
tls_certificate = "/etc/naught-tls/tls.crt"
tls_key = "/etc/naught-tls/tls.key"
{{- end }}

# The server reads this file again when it changes. A fault in it changes nothing, and is in the log.
watch_config = true
tuner = {{ include "naught.tomlValue" .Values.tuner.mode }}
{{ range $name, $value := .Values.settings }}
{{ $name }} = {{ include "naught.tomlValue" $value }}
{{- end }}
{{- range $name, $policy := .Values.caches }}

[caches.{{ include "naught.tomlValue" $name }}]
{{- range $key, $value := $policy }}
{{ $key }} = {{ include "naught.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $name, $user := .Values.access.users }}

[users.{{ include "naught.tomlValue" $name }}]
role = {{ include "naught.tomlValue" $user.role }}
secret_file = {{ include "naught.tomlValue" (printf "%s/%s" (include "naught.accessFolder" $) $user.secretKey) }}
{{- range $key := list "caches" "prefixes" }}
{{- with index $user $key }}
{{ $key }} = {{ include "naught.tomlTexts" . }}
{{- end }}
{{- end }}
{{- end }}
{{- with $rules }}

{{ . }}
{{- end }}
{{- end -}}
