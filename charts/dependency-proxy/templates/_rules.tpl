{{/* What the operator may do in each namespace that it watches. The rules are what its code calls, and no more. */}}
{{- define "dp.namespacedRules" -}}
- apiGroups: [dependencyproxy.dev]
  resources: [dependencyproxies, registryupstreams, dependencyproxygroups, virtualregistries, pullbindings]
  verbs: [list, watch]
# The finalizer that takes pull secrets back from service accounts.
- apiGroups: [dependencyproxy.dev]
  resources: [pullbindings]
  verbs: [patch]
- apiGroups: [dependencyproxy.dev]
  resources:
    - dependencyproxies/status
    - registryupstreams/status
    - dependencyproxygroups/status
    - virtualregistries/status
    - pullbindings/status
  verbs: [patch]
# Owner references that block deletion need this where OwnerReferencesPermissionEnforcement is on.
- apiGroups: [dependencyproxy.dev]
  resources: [dependencyproxies/finalizers, pullbindings/finalizers]
  verbs: [update]
# Accounts, keys, certificates and documents: they are watched, written, and taken back from whoever may pull no more.
- apiGroups: [""]
  resources: [secrets, configmaps]
  verbs: [get, list, watch, create, patch, delete]
# What is watched so that it is mended at once. It goes with its owner: nothing of it is deleted.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
# imagePullSecrets of a service account is one list of several owners: watched, read, and patched with its
# resourceVersion.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, patch]
# The annotation that makes kubelet refresh the documents at once.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, patch]
# The cleanup of a bucket or volume: what became of its runs is told in the status.
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, create, patch, delete]
# What an instance has as long as it asks for it.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: [get, list, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, create, patch, delete]
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [get, list, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors, prometheusrules]
  verbs: [get, list, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* Selectors of allowedGroups and allowedConsumers read the labels of namespaces, which lie in none. */}}
{{- define "dp.clusterRules" -}}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
{{- end }}
