# The network between control plane and nodes, and what this machine's own network must let through.

bridge() {
  # A pod that reaches a pod of its own node through a Service: the answer passes the bridge alone, and must be seen.
  modprobe br_netfilter 2>/dev/null || true
  ip link add "$prefix-bridge" type bridge
  ip addr add "$gateway/24" dev "$prefix-bridge"
  ip link set "$prefix-bridge" up
  firewall -I
  echo "nameserver $gateway" >"$state/resolv.conf" # nobody listens: names outside the cluster fail at once
  if outside; then
    sysctl -qw net.ipv4.ip_forward=1
    masquerade -A
    # systemd-resolved's own address is of this machine only
    cp "$(realpath -e /run/systemd/resolve/resolv.conf 2>/dev/null || echo /etc/resolv.conf)" "$state/resolv.conf"
  fi
}

# Whether Docker Hub can be reached from here.
outside() { curl --silent --max-time 5 --output /dev/null https://registry-1.docker.io/v2/; }

# Nodes and pods (whom their node stands for) reach the outside under this machine's address.
masquerade() { # -A or -D
  iptables -w -t nat "$1" POSTROUTING -s "$gateway/24" ! -d "$gateway/24" -m comment --comment "$prefix" -j MASQUERADE
}

# Container engines let iptables see what passes a bridge, and drop it unless told otherwise.
firewall() { # -I or -D
  local direction
  for direction in -i -o; do
    iptables -w "$1" FORWARD "$direction" "$prefix-bridge" -m comment --comment "$prefix" -j ACCEPT 2>/dev/null || true
  done
}

network() { # NAME ADDRESS
  local netns=$prefix-$1 link=$prefix-${1/control-plane/cp}
  ip netns add "$netns"
  ip link add "$link" type veth peer name eth0 netns "$netns"
  ip link set "$link" master "$prefix-bridge" up
  ip -n "$netns" addr add "$2/24" dev eth0
  ip -n "$netns" link set eth0 up
  ip -n "$netns" link set lo up
  ip -n "$netns" route add default via "$gateway"
  # NodePorts answer at localhost too: kubelet's image names may say localhost:30500
  in_network "$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.route_localnet=1
  in_network "$1" sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true # without the module: no file
}

node_address() { echo "198.19.0.$((10 + $1))"; }

# Pods of node N are 10.244.N.0/24, everywhere.
routes() { # NODES
  local n other
  for n in $(seq "$1"); do
    ip -n "$prefix-control-plane" route add "10.244.$n.0/24" via "$(node_address "$n")"
    for other in $(seq "$1"); do
      [ "$n" = "$other" ] || ip -n "$prefix-node$other" route add "10.244.$n.0/24" via "$(node_address "$n")"
    done
  done
}

network_end() {
  local netns link
  for netns in $(ip netns list | awk -v p="$prefix-" 'index($1, p) == 1 {print $1}'); do ip netns del "$netns"; done
  # A deleted namespace lets go of its link a moment later; here it goes at once.
  for link in $(ip -o link show master "$prefix-bridge" 2>/dev/null | awk -F '[ @:]+' '{print $2}'); do
    ip link del "$link" 2>/dev/null || true
  done
  if ip link del "$prefix-bridge" 2>/dev/null; then
    firewall -D
    masquerade -D 2>/dev/null || true
  fi
}
