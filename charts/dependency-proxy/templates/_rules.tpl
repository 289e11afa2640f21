{{/* What the operator may do in each namespace that it watches. The rules are what its code calls, and no more. */}}
{{- define "dp.namespacedRules" -}}
- apiGroups: [dependencyproxy.dev]
  resources: [dependencyproxies, registryupstreams, dependencyproxygroups, virtualregistries, pullbindings]
  verbs: [get, list, watch]
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
  resources:
    - dependencyproxies/finalizers
    - registryupstreams/finalizers
    - dependencyproxygroups/finalizers
    - virtualregistries/finalizers
    - pullbindings/finalizers
  verbs: [update]
- apiGroups: [""]
  resources: [secrets, configmaps, services, serviceaccounts, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
# imagePullSecrets is one list of several owners: read, changed, and written back with its resourceVersion.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [update]
# The annotation that makes kubelet refresh the documents at once.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors, prometheusrules]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* Selectors of allowedGroups and allowedConsumers read the labels of namespaces, which lie in none. */}}
{{- define "dp.clusterRules" -}}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get, list, watch]
{{- end }}
