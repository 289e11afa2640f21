#!/usr/bin/env bash
# The whole job on one machine, without Docker Hub: real registries, a real image for two platforms, the proxy, and
# real clients. Prints each command before it runs, and stops at the first thing that is not as it must be.
# `make demo` builds what it needs. As root it starts a Docker engine of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
built=$(realpath "${CARGO_TARGET_DIR:-target}")
version=$(awk '$1 == "registry" {print $2}' tests/tools.list)
registry=${DEPENDENCY_PROXY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/dependency-proxy-tools}/registry-$version/registry
folder=$(mktemp -d)
started=()
finish() {
  status=$?
  # The Docker engine is the last that was started; it ends its containerd before its folder goes.
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do kill "${started[i]}" 2>/dev/null || continue; wait "${started[i]}" 2>/dev/null || true; done
  [ $status = 0 ] || { echo; echo "The demo failed. The proxy's log:"; tail -n 40 "$folder/proxy.log"; }
  rm -rf "$folder"
}
trap finish EXIT

say() { printf '\n== %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
free_port() { local port=$1; while (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null; do port=$((port + 1)); done; echo "$port"; }
wait_for() { local url=$1; for _ in $(seq 600); do curl --silent --noproxy '*' --output /dev/null "$url" && return; sleep 0.1; done; fail "no answer from $url"; }

start_registry() { # NAME PORT
  cat >"$folder/$1.yml" <<Y
version: 0.1
storage: {filesystem: {rootdirectory: $folder/$1}}
http: {addr: 127.0.0.1:$2, secret: demo}
Y
  OTEL_TRACES_EXPORTER=none "$registry" serve "$folder/$1.yml" >>"$folder/$1.log" 2>&1 &
  started+=($!)
  wait_for "http://127.0.0.1:$2/v2/"
}
blob_gets() { grep -c '"GET /v2/[^ ]*/blobs/' "$folder/second.log" || true; }

[ -x "$registry" ] || fail "the registry is not built: run make tools"
command -v skopeo >/dev/null || fail "skopeo is not installed: run make tools as root"

say "Two upstream registries; only the second has images"
first=$(free_port 5050); start_registry first "$first"
second=$(free_port $((first + 1))); start_registry second "$second"; upstream=$!
run "$built/debug/push-image" "http://127.0.0.1:$second" library/alpine 3
run "$built/debug/push-image" "http://127.0.0.1:$second" tools/jq 1

port=$(free_port 5000); admin=$(free_port 9090)
host=127.0.0.1:$port
token=$(head -c 24 /dev/urandom | base64 | tr -d '+/=')
cat >"$folder/documents.yaml" <<Y
apiVersion: dependencyproxy.dev/v1alpha1
kind: DependencyProxy
metadata: {name: main, namespace: default}
spec:
  externalURL: http://$host
  storage: {ephemeral: {}}
  upstreamNetworks: {allowedCIDRs: [127.0.0.0/8]}
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: RegistryUpstream
metadata: {name: first, namespace: default}
spec: {url: "http://127.0.0.1:$first", insecure: true}
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: RegistryUpstream
metadata: {name: second, namespace: default}
spec: {url: "http://127.0.0.1:$second", insecure: true}
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: DependencyProxyGroup
metadata: {name: default, namespace: default}
spec:
  proxyRef: {name: main}
  path: default
  upstreamRef: {name: second}
  deployTokens: [{name: ci, secretRef: {name: ci}, scopes: [read_registry, write_registry]}]
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: VirtualRegistry
metadata: {name: hub, namespace: default}
spec: {groupRef: {name: default}, upstreams: [{name: first}, {name: second}]}
---
apiVersion: v1
kind: Secret
metadata: {name: ci, namespace: default}
type: kubernetes.io/basic-auth
stringData: {username: ci, password: $token}
Y

say "The proxy"
echo "\$ dependency-proxy serve -f documents.yaml --listen $host"
"$built/release/dependency-proxy" serve -f "$folder/documents.yaml" --listen "$host" \
  --admin-listen "127.0.0.1:$admin" --data-dir "$folder/data" >"$folder/proxy.log" 2>&1 &
started+=($!)
wait_for "http://$host/v2/"
head -n 1 "$folder/proxy.log"

docker=
if [ "$(id -u)" = 0 ] && PATH=$PATH:/usr/sbin command -v dockerd >/dev/null && command -v docker >/dev/null; then
  export DOCKER_CONFIG=$folder/docker DOCKER_HOST=unix://$folder/docker.sock
  cat >"$folder/daemon.json" <<J
{"hosts": ["$DOCKER_HOST"], "data-root": "$folder/engine", "exec-root": "$folder/run", "pidfile": "$folder/pid",
 "bridge": "none", "iptables": false, "storage-driver": "vfs"}
J
  PATH=$PATH:/usr/sbin dockerd --config-file "$folder/daemon.json" >"$folder/engine.log" 2>&1 &
  started+=($!)
  # Debian's own command line, where another is found first: it speaks this engine's version of the API.
  docker=$([ -x /usr/bin/docker ] && echo /usr/bin/docker || command -v docker)
  for _ in $(seq 600); do "$docker" version >/dev/null 2>&1 && break; sleep 0.1; done
elif command -v docker >/dev/null && docker version >/dev/null 2>&1; then
  export DOCKER_CONFIG=$folder/docker
  docker=docker
else
  echo "docker is left out: no engine runs here, and starting one needs root and Debian's docker.io."
fi

if [ -n "$docker" ]; then
  say "Signing in"
  echo "\$ echo \$token | docker login $host -u ci --password-stdin"
  "$docker" login "$host" -u ci --password-stdin <<<"$token" 2>"$folder/login.err" || { cat "$folder/login.err"; exit 1; }
fi

pull() { # IMAGE
  [ -z "$docker" ] || { "$docker" image rm -f "$1" >/dev/null 2>&1 || true; run "$docker" pull "$1"; }
  rm -rf "$folder/through"
  echo "\$ skopeo copy --all docker://$1 dir:through"
  skopeo copy --quiet --all --preserve-digests --src-tls-verify=false --src-creds "ci:$token" "docker://$1" "dir:$folder/through"
  run diff -r "$folder/direct" "$folder/through"
  echo "byte-identical: $(find "$folder/through" -type f | wc -l) files"
}

three_pulls() { # IMAGE UPSTREAM-NAME
  local before
  echo "\$ skopeo copy --all docker://127.0.0.1:$second/$2 dir:direct"
  rm -rf "$folder/direct"
  skopeo copy --quiet --all --preserve-digests --src-tls-verify=false "docker://127.0.0.1:$second/$2" "dir:$folder/direct"

  say "First pull of $1: from upstream"
  before=$(blob_gets); pull "$1"
  echo "upstream blob GETs: $(($(blob_gets) - before))"
  [ "$(blob_gets)" -gt "$before" ] || fail "the first pull asked upstream for nothing"

  say "Second pull: from the cache"
  before=$(blob_gets); pull "$1"
  echo "upstream blob GETs: $(($(blob_gets) - before))"
  [ "$(blob_gets)" = "$before" ] || fail "the second pull asked upstream for blobs"

  say "Third pull: the upstream registry is stopped"
  run kill "$upstream"; wait "$upstream" || true
  pull "$1"
  start_registry second "$second"; upstream=$!
}

three_pulls "$host/default/dependency_proxy/containers/library/alpine:3" library/alpine:3
say "The same through a virtual registry with two upstreams; the first has no such image"
[ -z "$docker" ] || "$docker" login "$host/virtual_registries/container/default.hub" -u ci --password-stdin <<<"$token" 2>/dev/null
three_pulls "$host/virtual_registries/container/default.hub/tools/jq:1" tools/jq:1
say "All as it must be."
