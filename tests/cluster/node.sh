# A node: containerd with the plain bridge plugin, kubelet; kube-proxy once it is registered.

node() { # N
  local n=$1 name=node$1 folder=$state/node$1
  mkdir -p "$folder"/{cni,certs.d,manifests,kubelet,logs}
  network "$name" "$(node_address "$n")"
  cgroup "$name"
  containerd_files "$n" "$folder"
  start "$name" "$name-containerd" containerd --config "$folder/containerd.toml"
  within "containerd of $name answers" ctr --address "$folder/containerd.sock" version
  for archive in "$state"/images/*.tar; do import "$folder/containerd.sock" "$archive"; done
  certificate "$name" "/O=system:nodes/CN=system:node:$name" "subjectAltName=IP:$(node_address "$n"),DNS:$name"
  kubeconfig "$name" "$folder/kubeconfig"
  kubelet_file "$name" "$folder"
  start "$name" "$name-kubelet" "$(tool kubelet)" --config "$folder/kubelet.yaml" --kubeconfig "$folder/kubeconfig" \
    --root-dir "$folder/kubelet" --cert-dir "$folder/kubelet/pki" --hostname-override "$name" \
    --node-ip "$(node_address "$n")"
}

# Opens Services in a network. It looks for its node once and then ever more rarely, so the node must be there before.
kube_proxy() { # NETWORK NODE
  start "$1" "$1-kube-proxy" "$(tool kube-proxy)" --kubeconfig="$kubeconfig" --cluster-cidr=10.244.0.0/16 \
    --hostname-override="$2" --proxy-mode=iptables --conntrack-max-per-core=0 \
    --conntrack-tcp-timeout-established=0s --conntrack-tcp-timeout-close-wait=0s
}

containerd_files() { # N FOLDER
  cat >"$2/cni/10-bridge.conflist" <<J
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam":
    {"type": "host-local", "dataDir": "$2/ipam", "ranges": [[{"subnet": "10.244.$1.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
J
  # Where root may not lower an OOM score (in a container), no pod starts that asks for it: nobody asks.
  cat >"$2/runc" <<'S'
#!/bin/sh
for word; do
  [ "${before:-}" != --bundle ] || sed -i 's/,"oomScoreAdj":-*[0-9]*//' "$word/config.json"
  before=$word
done
exec runc "$@"
S
  chmod +x "$2/runc"
  cat >"$2/containerd.toml" <<T
version = 2
root = "$2/containerd"
state = "$2/containerd-state"
[grpc]
  address = "$2/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$2/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$2/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "$2/runc"
T
}

kubelet_file() { # NAME FOLDER
  cat >"$2/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $state/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $state/pki/$1.crt
tlsPrivateKeyFile: $state/pki/$1.key
containerRuntimeEndpoint: unix://$2/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$prefix-$1
failCgroupV1: false
enforceNodeAllocatable: []
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: $state/resolv.conf
staticPodPath: $2/manifests
podLogsDir: $2/logs
failSwapOn: false
localStorageCapacityIsolation: false
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
Y
}

# Each kubelet has a root of its own: it deletes the cgroups of pods that it does not know.
cgroup() { # NAME
  local tree part
  for tree in $(cgroup_trees); do
    controllers "$tree"
    mkdir -p "$tree/$prefix-$1"
    # Version 1 makes a cpuset empty, and nothing runs in it.
    if [ -e "$tree/cpuset.cpus" ]; then
      for part in cpuset.cpus cpuset.mems; do cat "$tree/$part" >"$tree/$prefix-$1/$part"; done
    fi
  done
}

# Says in $state/daemons where a daemon writes its process ID. On two processors, a container that starts on one node would
# else hold up what a pod of the other one answers: who is in an idle cgroup makes room at once for who is not, and runc takes
# what it starts out of it, into the pod's. SCHED_IDLE in place of it would go over to the pods, and make them wait for each
# other. Where nobody may make such a cgroup, daemons stay where they are.
daemons() {
  local tree folder
  echo /dev/null >"$state/daemons"
  for tree in $(cgroup_trees); do
    controllers "$tree"
    folder=$tree/$prefix-daemons
    mkdir -p "$folder"
    if echo 1 2>/dev/null >"$folder/cpu.idle"; then
      echo "$folder/cgroup.procs" >"$state/daemons"
      return
    fi
    rmdir "$folder"
  done
}

# Version 2 gives controllers to those below only where somebody says so.
controllers() { # TREE
  if [ -e "$1/cgroup.subtree_control" ]; then
    sed 's/\w\+/+&/g' "$1/cgroup.controllers" >"$1/cgroup.subtree_control" 2>/dev/null || true
  fi
}

# Version 2 has one tree, version 1 one for each controller.
cgroup_trees() { awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/mounts; }

# Ends what still runs in pods, and removes their cgroups.
cgroups_end() {
  local tree folder
  for tree in $(cgroup_trees); do
    for folder in "$tree/$prefix"-*; do
      [ ! -d "$folder" ] || within "$folder is empty" cgroup_end "$folder"
    done
  done
}

cgroup_end() { # FOLDER
  local id
  # Cgroups and processes end while this looks at them.
  for id in $(find "$1" -name cgroup.procs -exec cat {} + 2>/dev/null); do kill -KILL "$id" 2>/dev/null || true; done
  find "$1" -depth -type d -exec rmdir {} + 2>/dev/null
}
