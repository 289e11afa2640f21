#!/usr/bin/env bash
# Writes what the chart and kustomize have in common, so that it is written by hand once only:
#   deploy/{crds,alerts/dependency-proxy}.yaml, deploy/dashboards/ -> the chart's files/
#   the chart with its defaults -> deploy/kustomize/{rbac,operator}.yaml
# Run it after a change of any of them; a test compares. HELM names another helm.
#
#   deploy/kustomize/generate.sh [FOLDER]    FOLDER takes the results instead of the project
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-$root}
files=charts/dependency-proxy/files
mkdir -p "$out/$files" "$out/deploy/kustomize"

cp "$root/deploy/crds.yaml" "$out/$files/crds.yaml"
cp "$root/deploy/alerts/dependency-proxy.yaml" "$out/$files/alerts.yaml"
cp "$root/deploy/dashboards/dependency-proxy.json" "$out/$files/dashboard.json"

render() { # FILE TEMPLATE...
  local file=$1 template show=()
  shift
  for template in "$@"; do show+=(--show-only "templates/$template.yaml"); done
  {
    echo "# Made from the chart by deploy/kustomize/generate.sh."
    # A helm that was built from source says it is for Kubernetes 1.20.
    "${HELM:-helm}" template dependency-proxy "$root/charts/dependency-proxy" --namespace dependency-proxy \
      --kube-version 1.34.0 "${show[@]}" | grep -vE '^# Source: |helm\.sh/chart: |app\.kubernetes\.io/managed-by: '
  } >"$out/deploy/kustomize/$file"
}
render rbac.yaml serviceaccount rbac user-roles
render operator.yaml lease deployment service networkpolicy
